//! Encryption at rest: root keys wrap data keys, data keys seal fields (DECISIONS 10, `auth.md` "Key ring").
//!
//! XChaCha20-Poly1305 with a random 24-byte nonce. What a value belongs to (table, column, row, project) is its
//! associated data: a sealed value that was moved to another row or project does not open.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{Key, XChaCha20Poly1305, XNonce};
use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::badge::BadgeKeys;
use crate::chance::Dice;
use crate::id::{DataKeyId, ProjectId};
use crate::key::Pepper;
use crate::secret::Secret;

const FORM: u8 = 1;
const NONCE_BYTES: usize = 24;
const KEY_ID_BYTES: usize = 16;
const HEAD_BYTES: usize = 1 + KEY_ID_BYTES + NONCE_BYTES;
/// Distinct byte values below which 32 bytes cannot be taken for random ones (chance: below 1 in 10^9).
const DISTINCT_BYTES_MIN: usize = 18;

/// The root keys of an instance, the active one first. Kept outside the database.
#[derive(Clone, Debug)]
pub struct KeyRing(Vec<RootKey>);

/// One root key.
#[derive(Clone, Debug)]
pub struct RootKey {
    /// Its name in the ring and beside what it wrapped.
    pub name: String,
    key: Secret<[u8; 32]>,
}

/// Why a key ring cannot be used. None of the messages holds key material.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RingError {
    /// No key at all.
    Empty,
    /// A line is not `name:base64`.
    Line(usize),
    /// A key is not 32 bytes long.
    Length(usize),
    /// A key is not random.
    Weak(usize),
    /// Two keys have one name.
    Twice(usize),
}

impl fmt::Display for RingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RingError::Empty => {
                write!(
                    f,
                    "the key ring holds no key; make one with `allswell keys generate`"
                )
            }
            RingError::Line(n) => write!(f, "line {n} of the key ring is not NAME:BASE64"),
            RingError::Length(n) => {
                write!(f, "the key in line {n} of the key ring is not 32 bytes in base64")
            }
            RingError::Weak(n) => write!(
                f,
                "the key in line {n} of the key ring is weak: it is typed text or repeats itself; make one with \
                 `allswell keys generate`"
            ),
            RingError::Twice(n) => write!(f, "the name in line {n} of the key ring stands there twice"),
        }
    }
}

impl std::error::Error for RingError {}

impl KeyRing {
    /// A ring with one new key.
    pub fn generate(name: &str, dice: &mut Dice) -> Self {
        KeyRing(vec![RootKey {
            name: name.to_owned(),
            key: Secret::new(dice.bytes()),
        }])
    }

    /// Reads the text of a ring: a line `name:base64` per key, the active one first; `#` begins a comment.
    pub fn parse(text: &str) -> Result<Self, RingError> {
        let mut keys: Vec<RootKey> = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let (line, n) = (line.trim(), index + 1);
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (name, encoded) = line.split_once(':').ok_or(RingError::Line(n))?;
            let named = !name.is_empty()
                && name.len() <= 64
                && name
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
            if !named {
                return Err(RingError::Line(n));
            }
            let bytes = Zeroizing::new(STANDARD.decode(encoded.trim()).map_err(|_| RingError::Line(n))?);
            let key: [u8; 32] = bytes.as_slice().try_into().map_err(|_| RingError::Length(n))?;
            if is_weak(&key) {
                return Err(RingError::Weak(n));
            }
            if keys.iter().any(|other| other.name == name) {
                return Err(RingError::Twice(n));
            }
            keys.push(RootKey {
                name: name.to_owned(),
                key: Secret::new(key),
            });
        }
        if keys.is_empty() {
            Err(RingError::Empty)
        } else {
            Ok(KeyRing(keys))
        }
    }

    /// The text that [`KeyRing::parse`] reads.
    pub fn to_text(&self) -> Secret<String> {
        let mut text = String::from(
            "# The key ring of this Allswell. Whoever has it and the database reads every secret;\n\
             # without it the secrets in the database are lost. Keep a copy apart from the backups.\n",
        );
        for root in &self.0 {
            let encoded = Zeroizing::new(STANDARD.encode(root.key.reveal()));
            text.push_str(&format!("{}:{}\n", root.name, encoded.as_str()));
        }
        Secret::new(text)
    }

    /// The key that wraps new data keys.
    pub fn active(&self) -> &RootKey {
        &self.0[0]
    }

    /// The names in the ring, the active one first.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|root| root.name.as_str())
    }

    /// The key of this name.
    pub fn named(&self, name: &str) -> Option<&RootKey> {
        self.0.iter().find(|root| root.name == name)
    }
}

/// Typed text and patterns: not what a random generator gives.
fn is_weak(key: &[u8; 32]) -> bool {
    let mut seen = [false; 256];
    key.iter().for_each(|b| seen[usize::from(*b)] = true);
    let distinct = seen.iter().filter(|s| **s).count();
    let steps_alike = key
        .windows(2)
        .all(|w| w[1].wrapping_sub(w[0]) == key[1].wrapping_sub(key[0]));
    distinct < DISTINCT_BYTES_MIN || steps_alike || key.iter().all(|b| (b' '..=b'~').contains(b))
}

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
        out.extend(encrypt(
            root.key.reveal(),
            &nonce,
            &self.wrap_place().bytes(),
            self.key.reveal(),
        ));
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
        let nonce: [u8; NONCE_BYTES] = dice.bytes();
        let mut out = Vec::with_capacity(HEAD_BYTES + plain.len() + 16);
        out.push(FORM);
        out.extend_from_slice(self.id.as_uuid_bytes());
        out.extend_from_slice(&nonce);
        out.extend(encrypt(self.key.reveal(), &nonce, &place.bytes(), plain));
        out
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

fn encrypt(key: &[u8; 32], nonce: &[u8; NONCE_BYTES], place: &[u8], plain: &[u8]) -> Vec<u8> {
    XChaCha20Poly1305::new(&Key::from(*key))
        .encrypt(
            &XNonce::from(*nonce),
            Payload {
                msg: plain,
                aad: place,
            },
        )
        .expect("the cipher takes any message that fits in memory")
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
        let wrapped = key.wrap(ring.active(), &mut dice);
        let back = DataKey::unwrap(key.id, key.project, &wrapped, ring.active()).expect("unwraps");
        assert_eq!(back.derive("x"), key.derive("x"));
        assert!(DataKey::unwrap(key.id, key.project, &wrapped, stranger.active()).is_err());
        assert!(DataKey::unwrap(key.id, None, &wrapped, ring.active()).is_err());
        assert!(DataKey::unwrap(dice.id(), key.project, &wrapped, ring.active()).is_err());
        assert!(DataKey::unwrap(key.id, key.project, b"short", ring.active()).is_err());
    }

    #[test]
    fn a_ring_is_read_as_it_was_written() {
        let mut dice = Dice::from_number(5);
        let ring = KeyRing::generate("2026-11", &mut dice);
        let text = ring.to_text();
        let back = KeyRing::parse(text.reveal()).expect("parses");
        assert_eq!(back.active().key, ring.active().key);
        assert_eq!(back.names().collect::<Vec<_>>(), ["2026-11"]);
        assert!(!format!("{back:?}").contains(text.reveal().split(':').nth(1).unwrap_or("x").trim()));
    }

    #[test]
    fn a_bad_ring_is_refused_with_its_line() {
        let good = KeyRing::generate("good", &mut Dice::from_number(6))
            .to_text()
            .reveal()
            .clone();
        let twice = format!("{good}{good}");
        let encode = |bytes: &[u8]| format!("k:{}", STANDARD.encode(bytes));
        let counting: Vec<u8> = (0..32).collect();
        for (text, error) in [
            ("", RingError::Empty),
            ("# nothing\n\n", RingError::Empty),
            ("secret", RingError::Line(1)),
            ("a b:AAAA", RingError::Line(1)),
            ("k:not base64!", RingError::Line(1)),
            (encode(&[1; 16]).as_str(), RingError::Length(1)),
            (encode(&[0; 32]).as_str(), RingError::Weak(1)),
            (encode(&counting).as_str(), RingError::Weak(1)),
            (
                encode(b"correct horse battery staple 42!").as_str(),
                RingError::Weak(1),
            ),
            (twice.as_str(), RingError::Twice(6)),
        ] {
            assert_eq!(KeyRing::parse(text).err(), Some(error), "{text}");
        }
    }

    #[test]
    fn a_random_ring_is_never_called_weak() {
        let mut dice = Dice::from_number(7);
        assert!((0..10_000).all(|_| !is_weak(&dice.bytes())));
    }
}
