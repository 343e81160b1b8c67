//! How often something may happen: the generic cell rate algorithm (ITU-T I.371), as one instant per subject.
//!
//! A subject's instant says until when it has used up what it may. It costs eight bytes, is decided by `now` alone, and
//! an instant in the past is as good as none: who has been quiet need not be remembered.

use std::fmt;

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

/// How much later than `now` others may have been that were looked at before: their instants are taken on arrival, and
/// some are looked at again after a failure.
const DISORDER: Span = Span::from_secs(60);

/// What a rate may be told in.
const UNITS: [(&str, i64); 4] = [("second", 1), ("minute", 60), ("hour", 3_600), ("day", 86_400)];

/// As [`Quota::parse`] reads it.
impl fmt::Display for Quota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match UNITS.iter().find(|(_, secs)| *secs == self.per.as_secs()) {
            Some((word, _)) => write!(f, "{}/{word}", self.count),
            None => write!(f, "{} in {}", self.count, self.per),
        }
    }
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

    /// Reads `1000/hour`: a number, and a second, a minute, an hour or a day. `None` if it is not written so, or none is
    /// allowed at all.
    pub fn parse(text: &str) -> Option<Self> {
        let (count, unit) = text.split_once('/')?;
        let (_, secs) = UNITS
            .iter()
            .find(|(word, _)| *word == unit || word.starts_with(unit) && unit.len() == 1)?;
        let is_number = !count.is_empty() && count.bytes().all(|byte| byte.is_ascii_digit());
        let count: u32 = count.parse().ok().filter(|count| is_number && *count > 0)?;
        Some(Quota::new(count, Span::from_secs(*secs)))
    }

    fn step(self) -> i64 {
        (self.per.as_micros() / i64::from(self.count.max(1))).max(1)
    }

    /// Takes one, if there is one to take. `used_until` is the subject's instant.
    pub fn take(self, used_until: &mut Timestamp, now: Timestamp) -> Verdict {
        // Nobody can have used more than a whole burst: what says so was noted by a clock that was set back since, and tells
        // nothing. A little more is those who come in another order than they are looked at.
        let whole = now + Span::from_micros(self.step() * i64::from(self.burst.max(1)));
        *used_until = if *used_until > whole + DISORDER {
            now
        } else {
            (*used_until).min(whole)
        };
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
    fn a_rate_is_read_as_it_is_written() {
        for (text, count, secs, written) in [
            ("1000/hour", 1_000, 3_600, "1000/hour"),
            ("5/m", 5, 60, "5/minute"),
            ("1/second", 1, 1, "1/second"),
            ("20/day", 20, 86_400, "20/day"),
        ] {
            let quota = Quota::parse(text).expect(text);
            assert_eq!(quota, Quota::new(count, Span::from_secs(secs)), "{text}");
            assert_eq!(quota.to_string(), written);
        }
        for text in [
            "",
            "5",
            "5/",
            "/hour",
            "0/hour",
            "-1/hour",
            "+5/hour",
            "5/week",
            "5/hours",
            "5 /hour",
            "5000000000/day",
        ] {
            assert_eq!(Quota::parse(text), None, "{text}");
        }
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
    fn a_clock_that_was_set_back_locks_nobody_out() {
        for ahead in [64, 3_600, 1_000_000] {
            let mut used = at(ahead);
            let taken = [0, 0, 0, 0].map(|secs| MINUTE.take(&mut used, at(secs)).allowed);
            assert_eq!(taken, [true, true, true, false], "{ahead}");
        }
        // By less than that nobody is locked out for longer than one takes.
        let mut used = at(63);
        assert!(!MINUTE.take(&mut used, at(0)).allowed);
        assert!(MINUTE.take(&mut used, at(1)).allowed);
    }

    #[test]
    fn who_comes_out_of_order_has_no_second_burst() {
        let mut used = Timestamp::from_micros(0);
        let all = [100, 100, 100, 99, 70, 41];
        assert_eq!(
            all.map(|secs| MINUTE.take(&mut used, at(secs)).allowed),
            [true, true, true, false, false, false]
        );
    }
}
