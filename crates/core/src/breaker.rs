//! A breaker: whether a target that keeps failing is asked at all (`delivery.md` section 6).
//!
//! One for each project and origin, never shared between projects: else one of them could cut all others off from a
//! common target. It holds back only what is beyond its fast phase (DECISIONS 19). It lives in the memory of one node: a
//! restart forgets it, which costs a few tries.

use crate::time::{Span, Timestamp};

/// Failures in a row that open it.
const ROW: u32 = 5;
/// Seconds over which a share of failures is counted.
const WINDOW: Span = Span::from_secs(60);
/// Attempts in the window below which no share is counted.
const ATTEMPTS_MIN: u32 = 10;
/// Percent of failures among them that open it.
const PERCENT: u32 = 70;
const OPEN_MIN: Span = Span::from_secs(30);
const OPEN_MAX: Span = Span::from_secs(900);

/// What a breaker says of what is beyond its fast phase.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Gate {
    /// All may go.
    Closed,
    /// One may go: it decides.
    HalfOpen,
    /// None may go before this instant.
    Open(Timestamp),
    /// The one that decides is under way.
    Waiting,
}

/// The memory of how a target did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Breaker {
    in_row: u32,
    /// Start of the window, attempts and failures in it.
    window: Option<(Timestamp, u32, u32)>,
    open: Option<Opened>,
}

#[derive(Copy, Clone, Debug, PartialEq, Eq)]
struct Opened {
    until: Timestamp,
    span: Span,
    /// When the one was let through that decides. It counts for a limited time: its result may get lost.
    asked_at: Option<Timestamp>,
}

impl Breaker {
    /// What it says at `now`.
    pub fn gate(&self, now: Timestamp) -> Gate {
        match self.open {
            None => Gate::Closed,
            Some(open) if open.is_closed_to_all(now) => Gate::Open(open.until),
            Some(open) if open.asked_at.is_some_and(|at| is_of_late(at, now)) => Gate::Waiting,
            Some(_) => Gate::HalfOpen,
        }
    }

    /// Notes that the one which decides is let through.
    pub fn ask(&mut self, now: Timestamp) {
        if let Some(open) = &mut self.open {
            open.asked_at = Some(now);
        }
    }

    /// Notes an attempt that ended at `now`.
    pub fn note(&mut self, failed: bool, now: Timestamp) {
        if !failed {
            self.in_row = 0;
            // It answers again, so what it did before no longer counts.
            if self.open.take().is_some() {
                self.window = None;
            }
            self.count(0, now);
            return;
        }
        self.in_row = self.in_row.saturating_add(1);
        let many = self.count(1, now);
        match &mut self.open {
            // The target was asked and still fails. What had begun before it opened says nothing new.
            Some(open) if !open.is_closed_to_all(now) => open.again(now),
            Some(_) => {}
            None if many || self.in_row >= ROW => {
                self.open = Some(Opened {
                    until: now + OPEN_MIN,
                    span: OPEN_MIN,
                    asked_at: None,
                });
            }
            None => {}
        }
    }

    /// Counts an attempt in the window; `true` if too many of those in it failed.
    fn count(&mut self, failures: u32, now: Timestamp) -> bool {
        let (since, attempts, failed) = match self.window {
            Some((since, attempts, failed)) if is_of_late(since, now) => {
                (since, attempts + 1, failed + failures)
            }
            _ => (now, 1, failures),
        };
        self.window = Some((since, attempts, failed));
        attempts >= ATTEMPTS_MIN && failed * 100 >= attempts * PERCENT
    }

    /// Whether nothing that matters at `now` is remembered.
    pub fn is_idle(&self, now: Timestamp) -> bool {
        let stale = self.window.is_none_or(|(since, ..)| !is_of_late(since, now));
        self.open.is_none() && self.in_row == 0 && stale
    }
}

/// Whether this was within a window. A little ahead too: an attempt may end while a step still goes by the clock of its
/// begin. What is further ahead was noted by a clock that has been set back since, and says nothing of now.
fn is_of_late(at: Timestamp, now: Timestamp) -> bool {
    now - at < WINDOW && at - now < WINDOW
}

impl Opened {
    /// Whether its pause goes on: one that would end later than any that began now was begun by a clock that was ahead.
    fn is_closed_to_all(&self, now: Timestamp) -> bool {
        let began = self.until - self.span;
        now < self.until && began - now < WINDOW
    }

    fn again(&mut self, now: Timestamp) {
        self.span = Span::from_micros(self.span.as_micros() * 2).min(OPEN_MAX);
        self.until = now + self.span;
        self.asked_at = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(secs: i64) -> Timestamp {
        Timestamp::from_secs(1_000 + secs)
    }

    fn opened(secs: i64) -> Breaker {
        let mut breaker = Breaker::default();
        (0..5).for_each(|_| breaker.note(true, at(secs)));
        breaker
    }

    #[test]
    fn five_failures_in_a_row_open_it() {
        let mut breaker = Breaker::default();
        for secs in 0..4 {
            breaker.note(true, at(secs));
            assert_eq!(breaker.gate(at(secs)), Gate::Closed);
        }
        breaker.note(true, at(4));
        assert_eq!(breaker.gate(at(4)), Gate::Open(at(34)));
        assert_eq!(breaker.gate(at(33)), Gate::Open(at(34)));
    }

    #[test]
    fn a_success_between_them_does_not_let_a_row_grow() {
        let mut breaker = Breaker::default();
        for secs in 0..200 {
            // Four of five fail, further apart than a window counts ten.
            breaker.note(secs % 5 != 0, at(secs * 10));
            assert_eq!(breaker.gate(at(secs * 10)), Gate::Closed, "{secs}");
        }
    }

    #[test]
    fn seven_of_ten_within_a_minute_open_it() {
        let pattern = [true, true, true, false, true, true, true, false, false, true];
        let mut breaker = Breaker::default();
        for (secs, failed) in (0..).zip(pattern) {
            assert_eq!(breaker.gate(at(secs)), Gate::Closed, "{secs}");
            breaker.note(failed, at(secs));
        }
        assert!(matches!(breaker.gate(at(9)), Gate::Open(_)));
    }

    #[test]
    fn one_decides_and_the_pauses_double_up_to_a_quarter_of_an_hour() {
        let mut breaker = opened(0);
        let mut now = 0;
        for pause in [30, 60, 120, 240, 480, 900, 900] {
            assert_eq!(breaker.gate(at(now + pause - 1)), Gate::Open(at(now + pause)));
            now += pause;
            assert_eq!(breaker.gate(at(now)), Gate::HalfOpen);
            breaker.ask(at(now));
            assert_eq!(breaker.gate(at(now)), Gate::Waiting);
            breaker.note(true, at(now));
        }
        breaker.note(false, at(now));
        assert_eq!(breaker.gate(at(now)), Gate::Closed);
    }

    #[test]
    fn what_had_begun_before_does_not_lengthen_the_pause() {
        let mut breaker = opened(0);
        (1..25).for_each(|secs| breaker.note(true, at(secs)));
        assert_eq!(breaker.gate(at(29)), Gate::Open(at(30)));
    }

    #[test]
    fn an_answer_that_never_came_back_does_not_close_the_gate_for_ever() {
        let mut breaker = opened(0);
        breaker.ask(at(30));
        assert_eq!(breaker.gate(at(89)), Gate::Waiting);
        assert_eq!(breaker.gate(at(90)), Gate::HalfOpen);
    }

    #[test]
    fn after_the_clock_was_set_back_one_decides_at_once() {
        for back in [60, 3_600, 6 * 3_600, 400 * 86_400] {
            let mut breaker = opened(0);
            assert_eq!(
                breaker.gate(at(-59)),
                Gate::Open(at(30)),
                "a step goes by the clock of its begin"
            );
            assert_eq!(breaker.gate(at(-back)), Gate::HalfOpen, "{back}");
            breaker.ask(at(-back));
            assert_eq!(breaker.gate(at(-back)), Gate::Waiting);
            breaker.note(true, at(-back));
            assert_eq!(breaker.gate(at(-back)), Gate::Open(at(60 - back)), "{back}");

            let mut breaker = opened(0);
            breaker.ask(at(30));
            assert_eq!(
                breaker.gate(at(-back)),
                Gate::HalfOpen,
                "what was asked for then is lost"
            );
            breaker.note(false, at(-back));
            assert!(breaker.is_idle(at(60 - back)), "{back}");
        }
    }

    #[test]
    fn failures_by_a_clock_that_was_ahead_count_for_no_share() {
        let mut breaker = Breaker::default();
        for n in 0..9 {
            breaker.note(n % 4 != 3, at(0));
        }
        breaker.note(true, at(-3_600));
        assert_eq!(breaker.gate(at(-3_600)), Gate::Closed);
    }

    #[test]
    fn it_can_be_forgotten_when_all_is_well() {
        assert!(Breaker::default().is_idle(at(0)));
        assert!(!opened(0).is_idle(at(5_000)));
        let mut breaker = opened(0);
        breaker.note(false, at(10));
        assert!(!breaker.is_idle(at(11)));
        assert!(breaker.is_idle(at(70)));
    }
}
