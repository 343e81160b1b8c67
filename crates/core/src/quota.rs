//! How often something may happen: the generic cell rate algorithm (ITU-T I.371), as one instant per subject.
//!
//! A subject's instant says until when it has used up what it may. It costs eight bytes, is decided by `now` alone, and
//! an instant in the past is as good as none: who has been quiet need not be remembered.

use crate::time::{Span, Timestamp};

/// So many in so long, and so many at once.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Quota {
    /// Allowed in `per`, in the long run.
    pub count: u32,
    /// The time in which `count` are allowed.
    pub per: Span,
    /// Allowed at once by who has been quiet.
    pub burst: u32,
}

/// What a quota says.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// It may happen.
    pub allowed: bool,
    /// How many more may happen at once.
    pub remaining: u32,
    /// When all of the burst is allowed again, from now.
    pub reset: Span,
    /// When the next may happen, from now; nothing if one may now.
    pub retry: Span,
}

impl Quota {
    /// `count` in `per`, all of them at once.
    pub const fn new(count: u32, per: Span) -> Self {
        Quota {
            count,
            per,
            burst: count,
        }
    }

    fn step(self) -> i64 {
        (self.per.as_micros() / i64::from(self.count.max(1))).max(1)
    }

    /// Takes one, if there is one to take. `used_until` is the subject's instant.
    pub fn take(self, used_until: &mut Timestamp, now: Timestamp) -> Verdict {
        // A clock that was set back must not lock anybody out for longer than a whole burst takes.
        *used_until = (*used_until).min(now + Span::from_micros(self.step() * i64::from(self.burst.max(1))));
        let verdict = self.look(*used_until, now);
        if !verdict.allowed {
            return verdict;
        }
        *used_until = (*used_until).max(now) + Span::from_micros(self.step());
        Verdict {
            allowed: true,
            retry: Span::ZERO,
            ..self.look(*used_until, now)
        }
    }

    /// What is left, and whether one more would be allowed.
    pub fn look(self, used_until: Timestamp, now: Timestamp) -> Verdict {
        let (step, burst) = (self.step(), i64::from(self.burst.max(1)));
        let used = (used_until - now).as_micros().clamp(0, step * burst);
        let room = step * burst - used;
        let remaining = room / step;
        Verdict {
            allowed: remaining > 0,
            remaining: u32::try_from(remaining).unwrap_or(u32::MAX),
            reset: Span::from_micros(used),
            retry: Span::from_micros(if remaining > 0 { 0 } else { step - room }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Quota = Quota {
        count: 60,
        per: Span::from_secs(60),
        burst: 3,
    };
    const START: Timestamp = Timestamp::from_secs(1_000_000);

    fn at(secs: i64) -> Timestamp {
        START + Span::from_secs(secs)
    }

    #[test]
    fn a_burst_is_allowed_at_once_and_then_one_each_second() {
        let mut used = Timestamp::from_micros(0);
        let mut taken = |secs| MINUTE.take(&mut used, at(secs));
        assert_eq!(
            [taken(0).remaining, taken(0).remaining, taken(0).remaining],
            [2, 1, 0]
        );
        let refused = taken(0);
        assert!(!refused.allowed);
        assert_eq!(
            (refused.retry, refused.reset),
            (Span::from_secs(1), Span::from_secs(3))
        );
        assert!(taken(1).allowed);
        assert!(!taken(1).allowed);
        // Quiet for long gives the burst back and no more.
        assert_eq!(
            [100, 100, 100, 100].map(|secs| taken(secs).allowed),
            [true, true, true, false]
        );
    }

    #[test]
    fn what_is_refused_is_not_counted() {
        let mut used = Timestamp::from_micros(0);
        for _ in 0..1_000 {
            MINUTE.take(&mut used, at(0));
        }
        assert!(MINUTE.take(&mut used, at(1)).allowed);
    }

    #[test]
    fn in_the_long_run_no_more_than_the_count_are_allowed() {
        let mut used = Timestamp::from_micros(0);
        let tries = (0..600).flat_map(|secs| [secs, secs, secs]);
        let allowed = tries
            .filter(|secs| MINUTE.take(&mut used, at(*secs)).allowed)
            .count();
        assert_eq!(allowed, 600 + 2);
    }

    #[test]
    fn a_clock_that_was_set_back_locks_nobody_out_for_long() {
        let mut used = at(1_000_000);
        assert!(!MINUTE.take(&mut used, at(0)).allowed);
        assert!(MINUTE.take(&mut used, at(1)).allowed);
    }
}
