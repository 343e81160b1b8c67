//! The root keys of an instance: outside of the database, and all that can open what wraps its data keys.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::chance::Dice;
use crate::secret::Secret;

/// Distinct byte values below which 32 bytes cannot be taken for random ones (chance: below 1 in 10^9).
const DISTINCT_BYTES_MIN: usize = 18;

/// The root keys of an instance. Kept outside the database, which says by name which of them is active.
#[derive(Clone, Debug)]
pub struct KeyRing(Vec<RootKey>);

/// One root key.
#[derive(Clone, Debug)]
pub struct RootKey {
    /// Its name in the ring and beside what it wrapped.
    pub name: String,
    pub(crate) key: Secret<[u8; 32]>,
}

impl RootKey {
    /// What tells this key from another of its name, in 16 hexadecimal digits. It gives nothing of the key away.
    pub fn fingerprint(&self) -> String {
        let mut out = [0; 8];
        Hkdf::<Sha256>::new(None, self.key.reveal())
            .expand(b"fingerprint", &mut out)
            .expect("HKDF gives 8 bytes");
        out.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Name and fingerprint, as nodes tell each other which keys they have.
    pub fn label(&self) -> String {
        format!("{}:{}", self.name, self.fingerprint())
    }
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

    /// Reads the text of a ring: a line `name:base64` per key; `#` begins a comment.
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

    /// This ring with one more key, behind the others.
    ///
    /// # Errors
    /// The name is taken, or is none that [`KeyRing::parse`] reads; the line is that of the new key.
    pub fn with_generated(&self, name: &str, dice: &mut Dice) -> Result<Self, RingError> {
        let new = KeyRing::generate(name, dice);
        let text = self.to_text();
        let joined = Secret::new(format!("{}{}", text.reveal(), new.to_text().reveal()));
        KeyRing::parse(joined.reveal())
    }

    /// This ring without a key; `None` if it has none of that name, or no other.
    pub fn without(&self, name: &str) -> Option<Self> {
        self.named(name)?;
        let rest: Vec<RootKey> = self.0.iter().filter(|key| key.name != name).cloned().collect();
        (!rest.is_empty()).then_some(KeyRing(rest))
    }

    /// This ring with a key put first.
    pub fn with_first(&self, name: &str) -> Self {
        let mut keys = self.0.clone();
        keys.sort_by_key(|key| key.name != name);
        KeyRing(keys)
    }

    /// The keys, the first one first.
    pub fn keys(&self) -> impl Iterator<Item = &RootKey> {
        self.0.iter()
    }

    /// The key that wraps the first data key of a new database. From then on the database says which is active.
    pub fn first(&self) -> &RootKey {
        &self.0[0]
    }

    /// The names in the ring, in its order.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ring_is_read_as_it_was_written() {
        let mut dice = Dice::from_number(5);
        let ring = KeyRing::generate("2026-11", &mut dice);
        let text = ring.to_text();
        let back = KeyRing::parse(text.reveal()).expect("parses");
        assert_eq!(back.first().key, ring.first().key);
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
    fn a_ring_grows_and_shrinks_and_keeps_its_keys() {
        let mut dice = Dice::from_number(8);
        let one = KeyRing::generate("one", &mut dice);
        let two = one.with_generated("two", &mut dice).expect("a second key");
        let names = |ring: &KeyRing| ring.names().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(names(&two), ["one", "two"]);
        assert_eq!(names(&two.with_first("two")), ["two", "one"]);
        assert_eq!(two.with_first("two").named("one").map(RootKey::label), Some(one.first().label()));
        assert_eq!(two.without("one").map(|ring| names(&ring)), Some(vec!["two".to_owned()]));
        assert!(one.without("one").is_none() && two.without("three").is_none());
        assert!(two.with_generated("two", &mut dice).is_err() && two.with_generated("a b", &mut dice).is_err());
    }

    #[test]
    fn a_fingerprint_tells_two_keys_of_one_name_apart() {
        let mut dice = Dice::from_number(9);
        let [one, other] = ["k", "k"].map(|name| KeyRing::generate(name, &mut dice));
        assert_eq!(one.first().fingerprint().len(), 16);
        assert_ne!(one.first().label(), other.first().label());
        assert_eq!(one.first().label(), one.clone().first().label());
    }

    #[test]
    fn a_random_ring_is_never_called_weak() {
        let mut dice = Dice::from_number(7);
        assert!((0..10_000).all(|_| !is_weak(&dice.bytes())));
    }
}
