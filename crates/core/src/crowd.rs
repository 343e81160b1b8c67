//! What many have used of one quota, in a space that never grows.
//!
//! Subjects lie in sets of four by a hash of their id. Where a set is full, whoever has used least gives way: he is the
//! one who is soonest as good as unknown. So those who flood are remembered however many others there are, and to fill
//! the table takes as many subjects at once as it has places.

use uuid::Uuid;

use crate::quota::Quota;
use crate::time::Timestamp;

/// Places of a set.
const WAYS: usize = 4;
/// Sets; a power of two, so that a few bits of a hash name one. Three megabytes, of which the system gives those that are
/// used.
const SETS_BITS: u32 = 15;

#[derive(Copy, Clone, Default)]
struct Used {
    subject: (u64, u64),
    /// Microseconds since 1970; see [`Quota::take`].
    until: i64,
}

/// What many subjects have used of a quota.
pub struct Crowd {
    quota: Quota,
    sets: Vec<[Used; WAYS]>,
}

impl Crowd {
    /// Nobody has used any of it.
    pub fn new(quota: Quota) -> Self {
        Crowd {
            quota,
            sets: vec![[Used::default(); WAYS]; 1 << SETS_BITS],
        }
    }

    /// The quota of each.
    pub fn quota(&self) -> Quota {
        self.quota
    }

    /// Until when a subject has used up what it may, for [`Quota::take`].
    pub fn used_until(&self, subject: Uuid) -> Timestamp {
        let subject = subject.as_u64_pair();
        let set = &self.sets[set_of(subject)];
        let known = set.iter().find(|used| used.subject == subject);
        Timestamp::from_micros(known.map_or(0, |used| used.until))
    }

    /// Notes until when a subject has used up what it may.
    pub fn note(&mut self, subject: Uuid, until: Timestamp) {
        let subject = subject.as_u64_pair();
        let set = &mut self.sets[set_of(subject)];
        let place = match set.iter().position(|used| used.subject == subject) {
            Some(place) => place,
            None => (0..WAYS).min_by_key(|place| set[*place].until).unwrap_or(0),
        };
        set[place] = Used {
            subject,
            until: until.as_micros(),
        };
    }
}

/// Ids are random, but for a few that somebody chose: those the multiplication spreads (Knuth, volume 3, section 6.4).
fn set_of((high, low): (u64, u64)) -> usize {
    let spread = (high ^ low.rotate_left(32)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    usize::try_from(spread >> (64 - SETS_BITS)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Span;

    const NOW: Timestamp = Timestamp::from_secs(1_769_860_800);

    fn crowd() -> Crowd {
        Crowd::new(Quota::new(10, Span::from_secs(3_600)))
    }

    fn takes(crowd: &mut Crowd, subject: u128, now: Timestamp) -> bool {
        let subject = Uuid::from_u128(subject);
        let mut until = crowd.used_until(subject);
        let verdict = crowd.quota().take(&mut until, now);
        crowd.note(subject, until);
        verdict.allowed
    }

    #[test]
    fn each_subject_has_the_whole_quota() {
        let mut crowd = crowd();
        for subject in [1, 2, 1 << 64] {
            let taken = (0..20).filter(|_| takes(&mut crowd, subject, NOW)).count();
            assert_eq!(taken, 10, "{subject}");
        }
        assert!(takes(&mut crowd, 1, NOW + Span::from_secs(3_600)));
    }

    /// A million others come by; the table stays as it is and does not forget whom it is there for.
    #[test]
    fn who_floods_is_remembered_among_many() {
        let mut crowd = crowd();
        let flood: Vec<u128> = (1..=100).map(|one| one << 70).collect();
        for subject in &flood {
            while takes(&mut crowd, *subject, NOW) {}
        }
        for other in 0..1_000_000_u128 {
            takes(&mut crowd, (other << 40) | 7, NOW);
        }
        assert!(flood.iter().all(|subject| !takes(&mut crowd, *subject, NOW)));
        assert_eq!(crowd.sets.len() * WAYS * size_of::<Used>(), 3 << 20);
    }
}
