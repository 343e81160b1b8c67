//! Chance as an argument: keys, ids, nonces and jitter come from a [`Dice`] that the caller hands in.
//!
//! In the server its seed comes from the operating system and the stream (ChaCha20) is fit for secrets; in tests and
//! the simulator the seed is a number, and the same seed gives the same world.

use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use uuid::Uuid;

use crate::time::Timestamp;

/// A source of random bytes.
pub struct Dice(ChaCha20Rng);

impl Dice {
    /// Dice that roll the stream of this seed. For secrets the seed must come from the operating system.
    pub fn from_seed(seed: [u8; 32]) -> Self {
        Dice(ChaCha20Rng::from_seed(seed))
    }

    /// Dice for a test or a simulation.
    pub fn from_number(seed: u64) -> Self {
        Dice(ChaCha20Rng::seed_from_u64(seed))
    }

    /// Independent dice for a piece of work that runs elsewhere.
    pub fn fork(&mut self) -> Dice {
        Dice::from_seed(self.bytes())
    }

    /// Random bytes.
    pub fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut out = [0; N];
        self.0.fill_bytes(&mut out);
        out
    }

    /// A number below `bound`, evenly spread. `bound` must not be zero.
    pub fn below(&mut self, bound: u32) -> u32 {
        assert!(bound > 0, "a number below zero was asked for");
        // Rejection keeps the spread even: a plain remainder would prefer small numbers.
        let zone = u32::MAX - u32::MAX % bound;
        loop {
            let roll = self.0.next_u32();
            if roll < zone {
                return roll % bound;
            }
        }
    }

    /// Text of `len` characters of `alphabet` (ASCII).
    pub fn text(&mut self, alphabet: &[u8], len: usize) -> String {
        let size = u32::try_from(alphabet.len()).expect("an alphabet is small");
        (0..len)
            .map(|_| char::from(alphabet[self.below(size) as usize]))
            .collect()
    }

    /// A new id that tells nothing (UUID version 4): for what strangers may see.
    pub fn id<T: From<Uuid>>(&mut self) -> T {
        uuid::Builder::from_random_bytes(self.bytes()).into_uuid().into()
    }

    /// A new id that sorts by time (UUID version 7): for rows that are written and read in that order.
    pub fn id_at<T: From<Uuid>>(&mut self, now: Timestamp) -> T {
        let millis = u64::try_from(now.as_micros() / 1_000).unwrap_or(0);
        uuid::Builder::from_unix_timestamp_millis(millis, &self.bytes())
            .into_uuid()
            .into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::CheckId;

    #[test]
    fn the_same_seed_rolls_the_same_dice() {
        let roll = |seed| {
            let mut dice = Dice::from_number(seed);
            (dice.bytes::<8>(), dice.below(1_000), dice.id::<CheckId>())
        };
        assert_eq!(roll(7), roll(7));
        assert_ne!(roll(7), roll(8));
    }

    #[test]
    fn text_uses_its_whole_alphabet_and_nothing_else() {
        let text = Dice::from_number(1).text(b"abc", 300);
        assert!(text.bytes().all(|b| b"abc".contains(&b)));
        assert!(b"abc".iter().all(|b| text.bytes().any(|t| t == *b)));
    }

    #[test]
    fn ids_by_time_sort_by_time() {
        let mut dice = Dice::from_number(3);
        let older: CheckId = dice.id_at(Timestamp::from_secs(1_000));
        let newer: CheckId = dice.id_at(Timestamp::from_secs(1_001));
        assert!(older < newer);
    }
}
