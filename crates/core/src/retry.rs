//! After an attempt: done, again at some instant, or given up, and why (`delivery.md` section 3).
//!
//! The first three tries come 2 s and 10 s apart, so that they are over within 105 s even if each takes its whole budget:
//! the promise of Healthchecks, kept (DECISIONS 20). What follows is for receivers that are away for longer.

use std::fmt;

use crate::chance::Dice;
use crate::exchange::{End, Outcome, RetryAfter};
use crate::time::{Span, Timestamp};

/// Tries that a receiver gets which refuses the request itself (4xx) or points elsewhere (3xx).
pub const REFUSED_TRIES_MAX: u64 = 3;
/// Tries of the fast phase, which no breaker stops and no newer message ends.
pub const FAST_TRIES: u64 = 3;
/// Length of the fast phase, for a delivery that got fewer tries in it.
pub const FAST_PHASE: Span = Span::from_secs(95);
/// The longest wait that a receiver can ask for.
pub const RETRY_AFTER_MAX: Span = Span::from_secs(3_600);
/// Waits that a schedule may list.
const WAITS_MAX: usize = 32;

/// The waits after the first, second, … failure; the last one repeats.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule(Vec<Span>);

/// A schedule that cannot be used, with a sentence for the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScheduleError(String);

impl fmt::Display for ScheduleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ScheduleError {}

impl Default for Schedule {
    fn default() -> Self {
        Schedule(
            [2, 10, 60, 300, 1_800, 7_200, 21_600]
                .map(Span::from_secs)
                .to_vec(),
        )
    }
}

impl fmt::Display for Schedule {
    /// As [`Schedule::parse`] takes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, wait) in self.0.iter().enumerate() {
            let (gap, secs) = (if index == 0 { "" } else { " " }, wait.as_secs());
            match secs {
                _ if secs % 3_600 == 0 => write!(f, "{gap}{}h", secs / 3_600)?,
                _ if secs > 60 && secs % 60 == 0 => write!(f, "{gap}{}m", secs / 60)?,
                _ => write!(f, "{gap}{secs}s")?,
            }
        }
        Ok(())
    }
}

impl Schedule {
    /// Reads waits separated by spaces, each a number with `s`, `m` or `h`: `2s 10s 1m`.
    ///
    /// # Errors
    /// For no wait or more than 32, a word that is no such number, and a wait below a second or above a day.
    pub fn parse(text: &str) -> Result<Self, ScheduleError> {
        let waits = text.split_whitespace().map(wait).collect::<Result<Vec<_>, _>>()?;
        match waits.len() {
            0 => Err(ScheduleError(
                "a schedule needs at least one wait, such as 2s".to_owned(),
            )),
            1..=WAITS_MAX => Ok(Schedule(waits)),
            more => Err(ScheduleError(format!(
                "{more} waits are more than the {WAITS_MAX} that are possible"
            ))),
        }
    }

    /// The wait after this many failures; `failures` counts from 1.
    fn after(&self, failures: u64) -> Span {
        let index = usize::try_from(failures.saturating_sub(1)).unwrap_or(usize::MAX);
        *self
            .0
            .get(index)
            .or(self.0.last())
            .unwrap_or(&Span::from_secs(60))
    }
}

fn wait(word: &str) -> Result<Span, ScheduleError> {
    let error = || {
        ScheduleError(format!(
            "{word:?} is no wait: expected 1s to 24h, such as 10s, 5m or 2h"
        ))
    };
    let unit = match word.chars().last() {
        Some('s') => 1,
        Some('m') => 60,
        Some('h') => 3_600,
        _ => return Err(error()),
    };
    let digits = &word[..word.len() - 1];
    let number: i64 = digits.parse().map_err(|_| error())?;
    let secs = number
        .checked_mul(unit)
        .filter(|secs| (1..=86_400).contains(secs));
    secs.filter(|_| digits.bytes().all(|byte| byte.is_ascii_digit()))
        .map(Span::from_secs)
        .ok_or_else(error)
}

/// Why no further try is made.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum GiveUp {
    /// The last try that the schedule allows before the end has failed.
    Exhausted,
    /// The receiver refused the request three times, which will not change by asking again.
    Refused,
    /// The receiver says that it is gone for good (410).
    Gone,
    /// Our own policy refuses the call: nothing was sent.
    Blocked,
}

impl GiveUp {
    /// The word for records.
    pub const fn word(self) -> &'static str {
        match self {
            GiveUp::Exhausted => "exhausted",
            GiveUp::Refused => "refused",
            GiveUp::Gone => "gone",
            GiveUp::Blocked => "blocked",
        }
    }
}

/// What follows from an attempt.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The receiver has it.
    Done,
    /// Try again at this instant.
    Again(Timestamp),
    /// Never again.
    GiveUp(GiveUp),
}

/// What bounds the tries of a delivery.
#[derive(Copy, Clone, Debug)]
pub struct Bounds<'s> {
    /// The waits.
    pub schedule: &'s Schedule,
    /// No try starts after this instant.
    pub expires_at: Timestamp,
    /// Tries at most, whatever the schedule says: 1 for a test, whose result somebody waits for.
    pub tries_max: u64,
}

/// What a failure means for the next try.
enum Failure {
    /// It may pass.
    Passing,
    /// The request itself is refused.
    Refusal,
    Final(GiveUp),
}

fn failure(outcome: &Outcome) -> Option<Failure> {
    outcome.error_class()?;
    Some(match &outcome.end {
        End::Answered(answer) => match answer.status {
            408 | 425 | 429 | 500..=599 => Failure::Passing,
            410 => Failure::Final(GiveUp::Gone),
            _ => Failure::Refusal,
        },
        End::Blocked(_) => Failure::Final(GiveUp::Blocked),
        End::NoAddress
        | End::NoConnection
        | End::NoTls
        | End::Broken { .. }
        | End::TimedOut { .. }
        | End::TooLarge { .. } => Failure::Passing,
    })
}

/// Judges attempt number `n` (from 1), which ended at `now`.
pub fn judge(outcome: &Outcome, n: u64, now: Timestamp, bounds: Bounds<'_>, dice: &mut Dice) -> Verdict {
    let failure = match failure(outcome) {
        None => return Verdict::Done,
        Some(Failure::Final(reason)) => return Verdict::GiveUp(reason),
        Some(failure) => failure,
    };
    if matches!(failure, Failure::Refusal) && n >= REFUSED_TRIES_MAX.min(bounds.tries_max) {
        return Verdict::GiveUp(GiveUp::Refused);
    }
    let at = now + asked(outcome, now).max(jittered(bounds.schedule.after(n), dice));
    if n >= bounds.tries_max || at >= bounds.expires_at {
        return Verdict::GiveUp(GiveUp::Exhausted);
    }
    Verdict::Again(at)
}

/// The wait that the receiver asks for, within bounds. It can only make a wait longer.
fn asked(outcome: &Outcome, now: Timestamp) -> Span {
    let End::Answered(answer) = &outcome.end else {
        return Span::ZERO;
    };
    let delay = |wish: RetryAfter| wish.delay(now).min(RETRY_AFTER_MAX);
    answer.retry_after.map_or(Span::ZERO, delay)
}

/// Between four and six fifths of a wait, so that what failed together does not come back together.
fn jittered(wait: Span, dice: &mut Dice) -> Span {
    let thousandths = 800 + i64::from(dice.below(401));
    // Divided first: the longest wait times a thousand still fits, and a microsecond is no matter.
    Span::from_micros(wait.as_micros() / 1_000 * thousandths)
}

/// Whether an attempt says that its target fails as such: what a breaker counts. An answer that refuses one request, or
/// asks for patience, comes from a target that works; a call that we refused ourselves says nothing (`None`).
pub fn target_fails(outcome: &Outcome) -> Option<bool> {
    match &outcome.end {
        End::Answered(answer) => Some(answer.status >= 500),
        End::Blocked(_) => None,
        _ => Some(true),
    }
}

/// Whether the fast phase of a delivery is over, so that a newer message of its lane may overtake it.
pub fn fast_phase_is_over(tries: u64, promised_at: Timestamp, now: Timestamp) -> bool {
    tries >= FAST_TRIES || now - promised_at >= FAST_PHASE
}

#[cfg(test)]
#[path = "retry_tests.rs"]
mod tests;
