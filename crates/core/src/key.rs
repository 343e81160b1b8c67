//! API keys and ping keys: their form, and the hash by which they are recognised (`auth.md`, "API keys").
//!
//! A key is 128 random bits or more, so a fast keyed hash is enough; the pepper lives in the database only in wrapped
//! form, so that a copy of the database alone recognises nobody.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;

use crate::chance::Dice;
use crate::secret::Secret;
use crate::time::{Span, Timestamp};

/// Length in characters of an API key: Healthchecks' clients send exactly this many.
pub const API_KEY_CHARS: usize = 32;
/// Length in characters of a ping key that we make. Imported ones may differ.
pub const PING_KEY_CHARS: usize = 22;
/// Characters of a key by which its row is found; too few to be of use to a reader of the database.
pub const LOOKUP_CHARS: usize = 8;

const BASE62: &[u8] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const LOWER: &[u8] = b"0123456789abcdefghijklmnopqrstuvwxyz";
const RANDOM_CHARS: usize = 22;

/// What a key allows.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum KeyKind {
    /// Everything in the management API of its project.
    ReadWrite,
    /// Looking, without ids and addresses.
    ReadOnly,
    /// Pinging by slug.
    Ping,
    /// Reading the gauges of the checks, and nothing else: for scrapers.
    Metrics,
}

impl KeyKind {
    /// All of them.
    pub const ALL: [KeyKind; 4] = [
        KeyKind::ReadWrite,
        KeyKind::ReadOnly,
        KeyKind::Ping,
        KeyKind::Metrics,
    ];

    /// How the text of a key begins; nothing for ping keys, which have Healthchecks' form.
    const fn prefix(self) -> Option<&'static str> {
        match self {
            KeyKind::ReadWrite => Some("asw_"),
            KeyKind::ReadOnly => Some("asr_"),
            KeyKind::Metrics => Some("asm_"),
            KeyKind::Ping => None,
        }
    }

    /// The word stored and printed.
    pub const fn word(self) -> &'static str {
        match self {
            KeyKind::ReadWrite => "read-write",
            KeyKind::ReadOnly => "read-only",
            KeyKind::Ping => "ping",
            KeyKind::Metrics => "metrics",
        }
    }

    /// Reads the stored word.
    pub fn from_word(word: &str) -> Option<Self> {
        KeyKind::ALL.into_iter().find(|kind| kind.word() == word)
    }
}

/// A new key of this kind. API keys carry a prefix that secret scanners know and a checksum that catches typing
/// errors before any look-up; ping keys have Healthchecks' form.
pub fn new_key(kind: KeyKind, dice: &mut Dice) -> Secret<String> {
    let Some(prefix) = kind.prefix() else {
        return Secret::new(dice.text(LOWER, PING_KEY_CHARS));
    };
    let random = dice.text(BASE62, RANDOM_CHARS);
    let checksum = checksum(&format!("{prefix}{random}"));
    Secret::new(format!("{prefix}{random}{checksum}"))
}

/// The text behind one of our prefixes.
fn unprefixed(key: &str) -> Option<&str> {
    let mut prefixes = KeyKind::ALL.into_iter().filter_map(KeyKind::prefix);
    prefixes.find_map(|prefix| key.strip_prefix(prefix))
}

/// Whether a key begins like one of ours.
pub fn has_our_prefix(key: &str) -> bool {
    unprefixed(key).is_some()
}

/// Whether a key of ours is whole: 32 characters, a known prefix and a fitting checksum.
pub fn is_well_formed(key: &str) -> bool {
    let ours = key.len() == API_KEY_CHARS
        && unprefixed(key).is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_alphanumeric()));
    ours && checksum(&key[..4 + RANDOM_CHARS]) == key[4 + RANDOM_CHARS..]
}

/// The characters that name a key's row: the first eight random ones.
pub fn lookup(key: &str) -> String {
    let random = unprefixed(key).unwrap_or(key);
    random.chars().take(LOOKUP_CHARS).collect()
}

/// When a key and the one that takes its place are good for.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Succession {
    /// From this instant on the old key opens nothing.
    pub old_ends_at: Timestamp,
    /// When the new key expires; `None`: never.
    pub new_expires_at: Option<Timestamp>,
}

/// What becomes of a key that is regenerated: the old one lasts for `overlap` more and never longer than it would have;
/// the new one gets as much time as the old one was given.
pub fn succession(
    created_at: Timestamp,
    expires_at: Option<Timestamp>,
    overlap: Span,
    now: Timestamp,
) -> Succession {
    let end = now + overlap;
    Succession {
        old_ends_at: expires_at.map_or(end, |expires_at| expires_at.min(end)),
        new_expires_at: expires_at.map(|expires_at| now + (expires_at - created_at)),
    }
}

/// CRC-32 (ISO-HDLC) in base 62, six characters.
fn checksum(text: &str) -> String {
    let mut crc = u32::MAX;
    for byte in text.bytes() {
        crc ^= u32::from(byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 {
                crc >> 1 ^ 0xEDB8_8320
            } else {
                crc >> 1
            };
        }
    }
    let mut rest = !crc;
    let mut out = [b'0'; 6];
    for place in out.iter_mut().rev() {
        *place = BASE62[(rest % 62) as usize];
        rest /= 62;
    }
    out.iter().map(|b| char::from(*b)).collect()
}

/// The secret with which keys are hashed.
#[derive(Clone, Debug)]
pub struct Pepper(Secret<[u8; 32]>);

impl Pepper {
    /// A pepper of these bytes.
    pub const fn new(bytes: [u8; 32]) -> Self {
        Pepper(Secret::new(bytes))
    }

    /// The hash of a key: HMAC-SHA256 under the pepper.
    pub fn hash(&self, key: &str) -> [u8; 32] {
        self.mac(&[key.as_bytes()])
    }

    /// What a request's body is told by from others of the same id, from the SHA-256 of it. No key is hashed to the same:
    /// none holds a zero byte.
    pub fn mark_body(&self, id: &[u8; 16], body_hash: &[u8; 32]) -> [u8; 32] {
        self.mac(&[b"body\0", id, body_hash])
    }

    /// What a request that names an `Idempotency-Key` is known by, from the hash of the two. No key and no body is hashed to
    /// the same.
    pub fn mark_request(&self, id: &[u8; 16]) -> [u8; 32] {
        self.mac(&[b"once\0", id])
    }

    fn mac(&self, parts: &[&[u8]]) -> [u8; 32] {
        let mut mac =
            Hmac::<Sha256>::new_from_slice(self.0.reveal()).expect("HMAC takes a key of any length");
        for part in parts {
            mac.update(part);
        }
        mac.finalize().into_bytes().into()
    }

    /// Whether `stored` is the hash of `key`; takes equal time wherever they differ.
    pub fn recognises(&self, key: &str, stored: &[u8]) -> bool {
        self.hash(key).as_slice().ct_eq(stored).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn api_keys_have_32_characters_a_prefix_and_a_checksum() {
        let mut dice = Dice::from_number(1);
        for (kind, prefix) in [
            (KeyKind::ReadWrite, "asw_"),
            (KeyKind::ReadOnly, "asr_"),
            (KeyKind::Metrics, "asm_"),
        ] {
            let key = new_key(kind, &mut dice);
            let key = key.reveal();
            assert!(key.starts_with(prefix) && is_well_formed(key), "{key}");
            assert_eq!(lookup(key), key[4..12]);
            let altered = format!("{}{}", &key[..31], if key.ends_with('a') { 'b' } else { 'a' });
            assert!(!is_well_formed(&altered) && !is_well_formed(&key.to_uppercase()));
        }
        assert_ne!(
            new_key(KeyKind::ReadWrite, &mut dice),
            new_key(KeyKind::ReadWrite, &mut dice)
        );
    }

    #[test]
    fn the_checksum_is_crc_32() {
        // The check value of CRC-32/ISO-HDLC over "123456789" is 0xCBF43926.
        let value = checksum("123456789").bytes().fold(0u64, |sum, b| {
            sum * 62 + BASE62.iter().position(|c| *c == b).expect("a digit of base 62") as u64
        });
        assert_eq!(value, 0xCBF4_3926);
    }

    #[test]
    fn odd_keys_are_not_ours() {
        for key in [
            "",
            "asw_",
            "x",
            &"x".repeat(32),
            &"ä".repeat(16),
            "asw_ääääääääääääää",
        ] {
            assert!(!is_well_formed(key));
            assert!(lookup(key).chars().count() <= LOOKUP_CHARS);
        }
    }

    #[test]
    fn a_regenerated_key_never_outlives_what_it_was_given() {
        let at = Timestamp::from_secs;
        let hours = |hours: i64| Span::from_secs(hours * 3_600);
        let of = |expires_at, overlap| succession(at(0), expires_at, overlap, at(7_200));
        assert_eq!(
            of(None, hours(0)),
            Succession {
                old_ends_at: at(7_200),
                new_expires_at: None
            }
        );
        assert_eq!(of(None, hours(1)).old_ends_at, at(10_800));
        let soon = of(Some(at(9_000)), hours(24));
        assert_eq!(
            soon,
            Succession {
                old_ends_at: at(9_000),
                new_expires_at: Some(at(16_200))
            }
        );
        assert_eq!(of(Some(at(100)), hours(24)).old_ends_at, at(100));
    }

    #[test]
    fn ping_keys_look_like_those_of_healthchecks() {
        let key = new_key(KeyKind::Ping, &mut Dice::from_number(2));
        assert_eq!(key.reveal().len(), 22);
        assert!(
            key.reveal()
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
        );
    }

    #[test]
    fn a_pepper_recognises_its_keys_only() {
        let pepper = Pepper::new([7; 32]);
        let hash = pepper.hash("key");
        assert!(pepper.recognises("key", &hash));
        assert!(!pepper.recognises("kez", &hash) && !pepper.recognises("key", &hash[..31]));
        assert!(!Pepper::new([8; 32]).recognises("key", &hash));
        let mark = pepper.mark_body(&[1; 16], &[2; 32]);
        assert_ne!(mark, pepper.mark_body(&[2; 16], &[2; 32]));
        assert_ne!(mark, Pepper::new([8; 32]).mark_body(&[1; 16], &[2; 32]));
        let request = pepper.mark_request(&[1; 16]);
        assert_ne!(request, pepper.mark_request(&[2; 16]));
        assert_ne!(request, Pepper::new([8; 32]).mark_request(&[1; 16]));
    }
}
