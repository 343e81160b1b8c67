//! Encryption at rest: root keys wrap data keys, data keys seal fields (DECISIONS 10, `auth.md` "Key ring").
//!
//! XChaCha20-Poly1305 with a random 24-byte nonce. What a value belongs to (table, column, row, project) is its
//! associated data: a sealed value that was moved to another row or project does not open.

use std::fmt;

use chacha20poly1305::aead::{Aead, AeadInOut, KeyInit, Payload};
use chacha20poly1305::{Key, XChaCha20Poly1305, XNonce};
use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::badge::BadgeKeys;
use crate::chance::Dice;
use crate::id::{DataKeyId, ProjectId};
use crate::key::Pepper;
use crate::secret::Secret;

pub use crate::ring::{KeyRing, RingError, RootKey};

const FORM: u8 = 1;
const NONCE_BYTES: usize = 24;
const KEY_ID_BYTES: usize = 16;
const HEAD_BYTES: usize = 1 + KEY_ID_BYTES + NONCE_BYTES;
const TAG_BYTES: usize = 16;

/// What a sealed value belongs to.
#[derive(Copy, Clone, Debug)]
pub struct Place<'a> {
    /// The table.
    pub table: &'static str,
    /// The column.
    pub column: &'static str,
    /// The row: its key as text or bytes.
    pub row: &'a [u8],
    /// The project, `None` for what belongs to the instance.
    pub project: Option<ProjectId>,
}

impl Place<'_> {
    /// Each part with its length in front, so that no two places share their bytes.
    fn bytes(&self) -> Vec<u8> {
        let project = self
            .project
            .map(|id| *id.as_uuid().as_bytes())
            .unwrap_or_default();
        let mut out = Vec::with_capacity(96);
        for part in [self.table.as_bytes(), self.column.as_bytes(), self.row, &project] {
            out.extend_from_slice(&(part.len() as u64).to_be_bytes());
            out.extend_from_slice(part);
        }
        out
    }
}

/// A value does not open: it was changed, moved, or sealed with another key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SealError;

impl fmt::Display for SealError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a sealed value does not open: it was changed or moved, or belongs to another key")
    }
}

impl std::error::Error for SealError {}

/// A key that seals fields. Kept in the database, wrapped by a root key.
#[derive(Clone, Debug)]
pub struct DataKey {
    /// Its row; also written into each value it sealed.
    pub id: DataKeyId,
    /// The project whose fields it seals, `None` for the instance's.
    pub project: Option<ProjectId>,
    key: Secret<[u8; 32]>,
}

impl DataKey {
    /// A new data key.
    pub fn generate(project: Option<ProjectId>, dice: &mut Dice) -> Self {
        DataKey {
            id: dice.id(),
            project,
            key: Secret::new(dice.bytes()),
        }
    }

    /// The key, wrapped for its row.
    pub fn wrap(&self, root: &RootKey, dice: &mut Dice) -> Vec<u8> {
        let nonce: [u8; NONCE_BYTES] = dice.bytes();
        let mut out = nonce.to_vec();
        let place = self.wrap_place().bytes();
        encrypt_onto(&mut out, root.key.reveal(), &nonce, &place, self.key.reveal());
        out
    }

    /// The key out of its row.
    pub fn unwrap(
        id: DataKeyId,
        project: Option<ProjectId>,
        wrapped: &[u8],
        root: &RootKey,
    ) -> Result<Self, SealError> {
        let mut data = DataKey {
            id,
            project,
            key: Secret::new([0; 32]),
        };
        let (nonce, text) = wrapped.split_at_checked(NONCE_BYTES).ok_or(SealError)?;
        let plain = decrypt(root.key.reveal(), nonce, &data.wrap_place().bytes(), text)?;
        data.key = Secret::new(plain.as_slice().try_into().map_err(|_| SealError)?);
        Ok(data)
    }

    fn wrap_place(&self) -> Place<'_> {
        Place {
            table: "data_keys",
            column: "wrapped",
            row: self.id.as_uuid_bytes(),
            project: self.project,
        }
    }

    /// Seals a value for its place.
    pub fn seal(&self, place: Place<'_>, plain: &[u8], dice: &mut Dice) -> Vec<u8> {
        let mut out = Vec::with_capacity(sealed_bytes(plain.len()));
        self.seal_onto(&mut out, place, plain, dice);
        out
    }

    /// Seals a value for its place, behind what is there already: for many values in one piece of memory.
    pub fn seal_onto(&self, out: &mut Vec<u8>, place: Place<'_>, plain: &[u8], dice: &mut Dice) {
        let nonce: [u8; NONCE_BYTES] = dice.bytes();
        out.push(FORM);
        out.extend_from_slice(self.id.as_uuid_bytes());
        out.extend_from_slice(&nonce);
        encrypt_onto(out, self.key.reveal(), &nonce, &place.bytes(), plain);
    }

    /// Opens a value at its place.
    pub fn open(&self, place: Place<'_>, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealError> {
        if sealed_with(sealed) != Some(self.id) {
            return Err(SealError);
        }
        decrypt(
            self.key.reveal(),
            &sealed[1 + KEY_ID_BYTES..HEAD_BYTES],
            &place.bytes(),
            &sealed[HEAD_BYTES..],
        )
    }

    /// The pepper for key hashes that this key stands for. It survives the rotation of root keys, so that a rotation
    /// voids no API key.
    pub fn pepper(&self) -> Pepper {
        Pepper::new(self.derive("api-pepper"))
    }

    /// What makes the addresses of badges. Like the pepper it survives the rotation of root keys: badges stand on pages
    /// elsewhere, whose authors we cannot ask to change them.
    pub fn badge_keys(&self) -> BadgeKeys {
        BadgeKeys::new(self.derive("badges"))
    }

    /// A subkey for one purpose (HKDF-SHA256, RFC 5869).
    pub fn derive(&self, label: &str) -> [u8; 32] {
        let mut out = [0; 32];
        Hkdf::<Sha256>::new(None, self.key.reveal())
            .expand(label.as_bytes(), &mut out)
            .expect("HKDF gives 32 bytes");
        out
    }
}

/// The data key that sealed this value, if it has our form.
pub fn sealed_with(sealed: &[u8]) -> Option<DataKeyId> {
    if sealed.len() < HEAD_BYTES || sealed[0] != FORM {
        return None;
    }
    let id: [u8; KEY_ID_BYTES] = sealed[1..1 + KEY_ID_BYTES].try_into().ok()?;
    Some(DataKeyId::from(uuid::Uuid::from_bytes(id)))
}

/// Bytes of a sealed value.
pub fn sealed_bytes(plain: usize) -> usize {
    HEAD_BYTES + plain + TAG_BYTES
}

/// Encrypted where it is kept, and not in memory of its own first: most of what is sealed comes with pings.
fn encrypt_onto(out: &mut Vec<u8>, key: &[u8; 32], nonce: &[u8; NONCE_BYTES], place: &[u8], plain: &[u8]) {
    let begin = out.len();
    out.extend_from_slice(plain);
    let tag = XChaCha20Poly1305::new(&Key::from(*key))
        .encrypt_inout_detached(&XNonce::from(*nonce), place, out[begin..].as_mut().into())
        .expect("the cipher takes any message that fits in memory");
    out.extend_from_slice(&tag);
}

fn decrypt(key: &[u8; 32], nonce: &[u8], place: &[u8], text: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealError> {
    let nonce: [u8; NONCE_BYTES] = nonce.try_into().map_err(|_| SealError)?;
    XChaCha20Poly1305::new(&Key::from(*key))
        .decrypt(
            &XNonce::from(nonce),
            Payload {
                msg: text,
                aad: place,
            },
        )
        .map(Zeroizing::new)
        .map_err(|_| SealError)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(row: &[u8]) -> Place<'_> {
        Place {
            table: "ping_bodies",
            column: "body",
            row,
            project: None,
        }
    }

    #[test]
    fn a_sealed_value_opens_only_at_its_place() {
        let mut dice = Dice::from_number(1);
        let key = DataKey::generate(None, &mut dice);
        let sealed = key.seal(place(b"1"), b"backup done", &mut dice);
        assert_eq!(
            key.open(place(b"1"), &sealed).expect("opens").as_slice(),
            b"backup done"
        );

        let other_project = Place {
            project: Some(dice.id()),
            ..place(b"1")
        };
        let other_column = Place {
            column: "other",
            ..place(b"1")
        };
        for wrong in [place(b"2"), other_project, other_column] {
            assert_eq!(key.open(wrong, &sealed), Err(SealError));
        }
        let other_key = DataKey::generate(None, &mut dice);
        assert_eq!(other_key.open(place(b"1"), &sealed), Err(SealError));
    }

    #[test]
    fn a_changed_bit_anywhere_is_noticed() {
        let mut dice = Dice::from_number(2);
        let key = DataKey::generate(None, &mut dice);
        let sealed = key.seal(place(b"1"), b"x", &mut dice);
        for i in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[i] ^= 1;
            assert!(key.open(place(b"1"), &changed).is_err(), "byte {i}");
        }
        for cut in 0..sealed.len() {
            assert!(key.open(place(b"1"), &sealed[..cut]).is_err());
        }
    }

    #[test]
    fn no_two_sealings_are_alike() {
        let mut dice = Dice::from_number(3);
        let key = DataKey::generate(None, &mut dice);
        assert_ne!(
            key.seal(place(b"1"), b"x", &mut dice),
            key.seal(place(b"1"), b"x", &mut dice)
        );
    }

    #[test]
    fn a_data_key_survives_wrapping_and_nothing_else_unwraps_it() {
        let mut dice = Dice::from_number(4);
        let ring = KeyRing::generate("first", &mut dice);
        let stranger = KeyRing::generate("first", &mut dice);
        let key = DataKey::generate(Some(dice.id()), &mut dice);
        let wrapped = key.wrap(ring.first(), &mut dice);
        let back = DataKey::unwrap(key.id, key.project, &wrapped, ring.first()).expect("unwraps");
        assert_eq!(back.derive("x"), key.derive("x"));
        assert!(DataKey::unwrap(key.id, key.project, &wrapped, stranger.first()).is_err());
        assert!(DataKey::unwrap(key.id, None, &wrapped, ring.first()).is_err());
        assert!(DataKey::unwrap(dice.id(), key.project, &wrapped, ring.first()).is_err());
        assert!(DataKey::unwrap(key.id, key.project, b"short", ring.first()).is_err());
    }
}
