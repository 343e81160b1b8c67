//! Addresses of badges: which project and which tag one shows, in a form that only this instance can make.
//!
//! A badge is public to whoever has its address, so the address must not be guessed, and must not tell the project's id.
//! Nothing of it is stored: both parts come from a subkey of the instance's data key.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;
use uuid::Uuid;

use crate::id::ProjectId;
use crate::secret::Secret;

const ID_BYTES: usize = 16;
const SEAL_BYTES: usize = 8;
/// Bytes of a signature; in an address these are eight characters, as Healthchecks' badges have.
const SIGNATURE_BYTES: usize = 6;

/// What makes and reads the addresses of badges.
#[derive(Clone, Debug)]
pub struct BadgeKeys(Secret<[u8; 32]>);

impl BadgeKeys {
    /// From 32 secret bytes.
    pub const fn new(bytes: [u8; 32]) -> Self {
        BadgeKeys(Secret::new(bytes))
    }

    fn mac(&self, purpose: &str, parts: &[&[u8]]) -> [u8; 32] {
        let mut mac =
            Hmac::<Sha256>::new_from_slice(self.0.reveal()).expect("HMAC takes a key of any length");
        mac.update(purpose.as_bytes());
        for part in parts {
            mac.update(&[0]);
            mac.update(part);
        }
        mac.finalize().into_bytes().into()
    }

    /// The badge key of a project, 32 characters: its id, encrypted under a nonce made of the id itself, so that the
    /// same project always has the same key, and a key leads back to its project without a column.
    pub fn project_key(&self, project: ProjectId) -> String {
        let seal = self.mac("badge seal", &[project.as_uuid_bytes()]);
        let mut key = seal[..SEAL_BYTES].to_vec();
        key.extend(self.masked(&seal[..SEAL_BYTES], project.as_uuid_bytes()));
        URL_SAFE_NO_PAD.encode(key)
    }

    /// The project of a badge key, if we made it.
    pub fn project(&self, key: &str) -> Option<ProjectId> {
        let bytes = URL_SAFE_NO_PAD.decode(key).ok()?;
        let (seal, hidden) = bytes.split_at_checked(SEAL_BYTES)?;
        let id = self.masked(seal, hidden.try_into().ok()?);
        let ours: bool = self.mac("badge seal", &[&id])[..SEAL_BYTES].ct_eq(seal).into();
        ours.then(|| ProjectId::from(Uuid::from_bytes(id)))
    }

    fn masked(&self, seal: &[u8], id: &[u8; ID_BYTES]) -> [u8; ID_BYTES] {
        let mask = self.mac("badge mask", &[seal]);
        std::array::from_fn(|i| id[i] ^ mask[i])
    }

    /// The eight characters that sign a badge key and a tag.
    pub fn signature(&self, key: &str, tag: &str) -> String {
        let mac = self.mac("badge tag", &[key.as_bytes(), tag.as_bytes()]);
        URL_SAFE_NO_PAD.encode(&mac[..SIGNATURE_BYTES])
    }

    /// Whether a signature is that of the badge key and the tag; takes equal time wherever they differ.
    pub fn recognises(&self, key: &str, tag: &str, signature: &str) -> bool {
        self.signature(key, tag)
            .as_bytes()
            .ct_eq(signature.as_bytes())
            .into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chance::Dice;

    #[test]
    fn a_badge_key_leads_to_its_project_and_does_not_show_it() {
        let mut dice = Dice::from_number(1);
        let keys = BadgeKeys::new(dice.bytes());
        for _ in 0..100 {
            let project: ProjectId = dice.id();
            let key = keys.project_key(project);
            assert_eq!(key, keys.project_key(project));
            assert_eq!((key.len(), keys.project(&key)), (32, Some(project)));
            let bytes = URL_SAFE_NO_PAD.decode(&key).expect("base64");
            assert!(
                !bytes
                    .windows(4)
                    .any(|w| project.as_uuid_bytes().windows(4).any(|v| v == w))
            );
        }
    }

    #[test]
    fn a_badge_key_that_was_altered_or_made_elsewhere_opens_nothing() {
        let mut dice = Dice::from_number(2);
        let (keys, others) = (BadgeKeys::new(dice.bytes()), BadgeKeys::new(dice.bytes()));
        let key = keys.project_key(dice.id());
        assert_eq!(others.project(&key), None);
        for i in 0..key.len() {
            let mut altered = key.clone().into_bytes();
            altered[i] = if altered[i] == b'A' { b'B' } else { b'A' };
            assert_eq!(
                keys.project(std::str::from_utf8(&altered).expect("text")),
                None,
                "{i}"
            );
        }
        for odd in [
            "",
            "A",
            "ÄÄÄÄ",
            &key[..31],
            &key[1..],
            &format!("{key}AAAA"),
            &"A".repeat(32),
        ] {
            assert_eq!(keys.project(odd), None, "{odd}");
        }
    }

    #[test]
    fn a_signature_holds_for_one_key_and_one_tag() {
        let mut dice = Dice::from_number(3);
        let keys = BadgeKeys::new(dice.bytes());
        let (mine, other) = (keys.project_key(dice.id()), keys.project_key(dice.id()));
        let signature = keys.signature(&mine, "prod");
        assert_eq!(signature.len(), 8);
        assert!(keys.recognises(&mine, "prod", &signature));
        for (key, tag) in [(&mine, "prod2"), (&mine, "*"), (&other, "prod")] {
            assert!(!keys.recognises(key, tag, &signature));
        }
        assert!(!keys.recognises(&mine, "prod", "") && !keys.recognises(&mine, "prod", &signature[..7]));
    }
}
