//! What the rules of a check ask of it: which failures take it down, and what it waits for. Worked out from its history,
//! as the rest of [`Model`].

use allswell_core::check::{Rules, Status};
use allswell_core::flip::Reason;
use allswell_core::signal::{Cause, Kind};
use allswell_core::time::{Span, Timestamp};
use allswell_store::simulated::Stored;

use crate::model::{Fact, Model};

/// Runs of which the length is remembered.
const RUNS_MAX: usize = 20;

/// What a success or a failure says under the rules.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Outcome {
    pub(crate) failed: bool,
    /// How long its run took, if that is known.
    pub(crate) took: Option<Span>,
    /// The check is up behind it.
    pub(crate) up: bool,
}

/// What a check waits for first.
#[derive(Clone, Debug)]
pub(crate) struct Waits {
    pub(crate) expected: Timestamp,
    /// What an absence gives is measured by it.
    pub(crate) limit: Span,
    pub(crate) until: Timestamp,
    /// Why it goes down, apart from `moved_from`.
    reason: Reason,
}

/// The reason as it is when the deadline was moved from there.
fn moved(reason: &Reason, from: Option<i64>) -> Reason {
    let mut reason = reason.clone();
    if let Some(place) = moved_from(&mut reason) {
        *place = from;
    }
    reason
}

fn moved_from(reason: &mut Reason) -> Option<&mut Option<i64>> {
    match reason {
        Reason::Timeout { moved_from, .. }
        | Reason::SilentAfterPause { moved_from, .. }
        | Reason::RunTimeout { moved_from, .. }
        | Reason::MaxRun { moved_from, .. }
        | Reason::UnusualRun { moved_from, .. }
        | Reason::LateStart { moved_from, .. }
        | Reason::NoEnd { moved_from, .. } => Some(moved_from),
        _ => None,
    }
}

/// The deadline before it was moved, of a flip that bears one: `None` for other flips.
pub(crate) fn nominal_of(reason: &Reason) -> Option<Option<i64>> {
    moved_from(&mut reason.clone()).map(|from| *from)
}

impl Waits {
    /// Whether this is what a flip gives as its reason.
    pub(crate) fn is_missed_by(&self, reason: &Reason) -> bool {
        nominal_of(reason).is_some_and(|from| moved(&self.reason, from) == *reason)
    }
}

fn wanted(rules: &Rules) -> usize {
    let window = rules.failure_rate.map_or(0, |rate| usize::from(rate.window));
    window.max(rules.failures.map_or(0, usize::from))
}

fn secs(secs: u32) -> Span {
    Span::from_secs(i64::from(secs))
}

impl Model {
    /// The outcomes since the check came up, as many as each of its rules since then wanted.
    pub(crate) fn outcomes(&self) -> Vec<bool> {
        if wanted(&self.settings.rules) == 0 || self.status() != Status::Up {
            return Vec::new();
        }
        let begin = self
            .history
            .iter()
            .rposition(|fact| match fact {
                Fact::Pause | Fact::PauseUntil(_) | Fact::PauseOver(_) | Fact::Resume | Fact::Missed => true,
                Fact::Ping { outcome, .. } => outcome.is_some_and(|outcome| !outcome.up),
                _ => false,
            })
            .map_or(0, |place| place + 1);
        let mut rules = self.rules_before(begin);
        let mut outcomes = Vec::new();
        for fact in &self.history[begin..] {
            match fact {
                Fact::Edit(new) => rules = *new,
                Fact::Ping {
                    outcome: Some(outcome),
                    ..
                } => outcomes.push(outcome.failed),
                _ => {}
            }
            let spare = outcomes.len().saturating_sub(wanted(&rules));
            outcomes = outcomes.split_off(spare);
        }
        outcomes
    }

    fn rules_before(&self, place: usize) -> Rules {
        let edits = self.history[..place].iter().rev();
        let mut edits = edits.filter_map(|fact| match fact {
            Fact::Edit(rules) => Some(*rules),
            _ => None,
        });
        edits.next().unwrap_or(self.first_rules)
    }

    /// How long the last good runs took since somebody wanted to know.
    pub(crate) fn runs(&self) -> Vec<Span> {
        if self.settings.rules.unusual_run.is_none() {
            return Vec::new();
        }
        let unwanted = |fact: &Fact| matches!(fact, Fact::Edit(rules) if rules.unusual_run.is_none());
        let since = match self.history.iter().rposition(unwanted) {
            None if self.first_rules.unusual_run.is_some() => 0,
            // Not wanted until the next edit.
            last => {
                let behind = last.map_or(0, |place| place + 1);
                let mut edits =
                    (behind..self.history.len()).filter(|n| matches!(self.history[*n], Fact::Edit(_)));
                edits.next().unwrap_or(self.history.len())
            }
        };
        let mut runs: Vec<Span> = self.history[since..]
            .iter()
            .rev()
            .filter_map(|fact| match fact {
                Fact::Ping {
                    outcome:
                        Some(Outcome {
                            failed: false, took, ..
                        }),
                    ..
                } => *took,
                _ => None,
            })
            .take(RUNS_MAX)
            .collect();
        runs.reverse();
        runs
    }

    /// What a success or a failure is under the rules, and what its flip says, should there be one.
    pub(crate) fn outcome(&self, ping: &Stored) -> Option<(Outcome, impl Fn(&Reason) -> bool + use<>)> {
        let took = self
            .open_run()
            .filter(|(_, rid)| *rid == ping.rid)
            .map(|(at, _)| ping.at - at);
        let took = took.filter(|took| *took >= Span::ZERO);
        let rules = self.settings.rules;
        let too_fast = match (rules.min_run_secs, took) {
            (Some(least), Some(took)) if ping.kind == Kind::Success && took < secs(least) => {
                Some((took.as_micros() / 1_000, least))
            }
            _ => None,
        };
        let failed = match ping.kind {
            Kind::Success => too_fast.is_some(),
            Kind::Fail => true,
            _ => return None,
        };
        let mut outcomes = self.outcomes();
        outcomes.push(failed);
        let row = outcomes.iter().rev().take_while(|failed| **failed).count();
        let in_row = rules.failures.is_some_and(|wanted| row >= usize::from(wanted));
        let window: Vec<bool> = rules.failure_rate.map_or(Vec::new(), |rate| {
            outcomes
                .iter()
                .rev()
                .take(usize::from(rate.window))
                .copied()
                .collect()
        });
        let of_window = window.iter().filter(|failed| **failed).count();
        let by_rate = rules.failure_rate.is_some_and(|rate| {
            // Rounded up: a share is reached, or it is not.
            let needed = (usize::from(rate.percent) * usize::from(rate.window)).div_ceil(100);
            of_window >= needed
        });
        let counts = rules.failures.is_some() || rules.failure_rate.is_some();
        let down = failed && (!counts || in_row || by_rate || self.status() == Status::Down);
        let outcome = Outcome {
            failed,
            took: took.map(|took| Span::from_millis(took.as_micros() / 1_000)),
            up: !down,
        };
        let (n, of) = (self.pings + 1, window.len());
        let because = move |cause: &Cause| match (cause, too_fast) {
            (Cause::TooFast { took_ms, min_secs }, Some(told)) => (*took_ms, *min_secs) == told,
            (Cause::TooFast { .. }, None) | (_, Some(_)) => false,
            _ => true,
        };
        let fits = move |reason: &Reason| match reason {
            Reason::Success { ping, .. } => !failed && *ping == n,
            Reason::Fail { ping, cause } => failed && !counts && *ping == n && because(cause),
            Reason::Failures {
                ping,
                cause,
                failures,
            } => down && in_row && *ping == n && because(cause) && usize::from(*failures) == row,
            Reason::FailureRate {
                ping,
                cause,
                failed,
                outcomes,
            } => {
                let told = (usize::from(*failed), usize::from(*outcomes)) == (of_window, of);
                down && by_rate && !in_row && *ping == n && because(cause) && told
            }
            Reason::Tolerated { ping, cause } => failed && !down && *ping == n && because(cause),
            _ => false,
        };
        Some((outcome, fits))
    }

    /// What it waits for first, our absences aside.
    pub(crate) fn waits(&self) -> Option<Waits> {
        let run = self.open_run().filter(|_| self.status() != Status::Down);
        let of_run = run.map(|(start, _)| self.waits_for_end(start));
        if of_run.is_some() && self.alive().is_some() {
            return of_run;
        }
        match (of_run, self.waits_by_schedule()) {
            (Some(run), Some(ping)) if ping.until < run.until => Some(ping),
            (Some(run), _) => Some(run),
            (None, ping) => ping,
        }
    }

    fn waits_for_end(&self, start: Timestamp) -> Waits {
        let (rules, grace) = (self.settings.rules, self.settings.grace);
        let started = start.as_micros();
        let moved_from = None;
        let since = |from: Timestamp, limit: Span, reason| Waits {
            expected: from,
            limit,
            until: from + limit,
            reason,
        };
        let plain = match rules.max_run_secs {
            None => {
                let alive = self.alive();
                let reason = Reason::RunTimeout {
                    started,
                    last_alive: alive.map(Timestamp::as_micros),
                    grace: grace.as_secs(),
                    moved_from,
                };
                since(alive.map_or(start, |alive| alive.max(start)), grace, reason)
            }
            Some(limit) => {
                let reason = Reason::MaxRun {
                    started,
                    limit: i64::from(limit),
                    moved_from,
                };
                since(start, secs(limit), reason)
            }
        };
        let mut runs = self.runs();
        let Some(rule) = rules
            .unusual_run
            .filter(|rule| runs.len() >= usize::from(rule.samples))
        else {
            return plain;
        };
        let known = runs.len();
        runs.sort();
        // Half of the others are no longer than this one.
        let usual = runs[(known - 1) / 2].as_micros();
        let limit = Span::from_micros((usual * i64::from(rule.tenths) / 10).max(usual + 10_000_000));
        if start + limit >= plain.until {
            return plain;
        }
        let reason = Reason::UnusualRun {
            started,
            limit_ms: limit.as_micros() / 1_000,
            usual_ms: usual / 1_000,
            runs: u8::try_from(known).expect("bounded"),
            moved_from,
        };
        since(start, limit, reason)
    }

    fn waits_by_schedule(&self) -> Option<Waits> {
        let (rules, grace) = (self.settings.rules, self.settings.grace);
        let expected = self.expected()?;
        let last = self.last_ping();
        let started = self
            .open_run()
            .is_some_and(|(start, _)| last.is_none_or(|last| start >= last));
        let last_ping = last.unwrap_or(expected).as_micros();
        let (grace_secs, moved_from) = (grace.as_secs(), None);
        let silent = match (last, self.pause_end()) {
            (None, Some(paused_until)) => Reason::SilentAfterPause {
                paused_until: paused_until.as_micros(),
                grace: grace_secs,
                moved_from,
            },
            _ => Reason::Timeout {
                last_ping,
                grace: grace_secs,
                moved_from,
            },
        };
        let plain = Waits {
            expected,
            limit: grace,
            until: expected + grace,
            reason: silent,
        };
        Some(match (started, rules.max_run_secs, rules.start_grace_secs) {
            (true, Some(max_run), _) => Waits {
                until: plain.until + secs(max_run),
                reason: Reason::NoEnd {
                    last_ping: last.map(Timestamp::as_micros),
                    grace: grace_secs,
                    max_run: i64::from(max_run),
                    moved_from,
                },
                ..plain
            },
            (false, _, Some(limit)) if secs(limit) < grace => Waits {
                expected,
                limit: secs(limit),
                until: expected + secs(limit),
                reason: Reason::LateStart {
                    expected: expected.as_micros(),
                    limit: i64::from(limit),
                    moved_from,
                },
            },
            _ => plain,
        })
    }
}
