//! When a failure is worth an alert, and how long a run may take: rules that people may set on a check. Unless they do,
//! all are off, and a check behaves as Healthchecks has it.
//!
//! Failures can be counted before one takes the check down, by their number in a row or by their share of the last
//! outcomes. Runs, known by their start pings, can have a limit of their own beside the grace, a latest start, a shortest
//! time, and a longest one that is worked out from the runs before. What must be remembered for that is [`Recent`]; it is
//! bounded, and empty while no rule wants it.

use serde::{Deserialize, Serialize};

use super::Status;
use crate::limits::{RUN_SAMPLES_MAX, UNUSUAL_RUN_SECS_MIN};
use crate::signal::Cause;
use crate::time::Span;

/// The form in which rules and what they remember are stored.
const FORM: u8 = 1;

/// The rules of a check. By default there are none.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rules {
    /// Failures in a row of which the last one takes the check down, 2 to 100. `None`: the first one does, unless
    /// `failure_rate` is set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failures: Option<u8>,
    /// The share of failures that takes the check down.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure_rate: Option<FailureRate>,
    /// Seconds that a run may take from its start ping, in place of the grace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_run_secs: Option<u32>,
    /// Seconds after the expected time within which a run must start. The grace holds too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_grace_secs: Option<u32>,
    /// Seconds that a run takes at least; a success that comes sooner is a failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_run_secs: Option<u32>,
    /// How much longer than usual a run may take.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unusual_run: Option<UnusualRun>,
}

/// So many of the last outcomes are failures.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FailureRate {
    /// Failures of a hundred outcomes, 1 to 100.
    pub percent: u8,
    /// The outcomes that are looked at: so many of the last, 2 to 100.
    pub window: u8,
}

/// A run takes so many times longer than the median of the successful ones before it.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UnusualRun {
    /// Tenths of the median: 25 is two and a half times as long. 11 to 1,000.
    pub tenths: u16,
    /// Successful runs that must be known before anything is called unusual, 3 to 20.
    pub samples: u8,
}

/// What a check remembers for its rules.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recent {
    /// Outcomes since the check came up, the newest last; `true` is a failure. Empty unless it is up.
    pub outcomes: Vec<bool>,
    /// How long the last successful runs took, the newest last.
    pub runs: Vec<Span>,
}

/// What a failure means under the rules.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Any failure takes the check down.
    Plain,
    /// Not yet enough of them.
    Tolerated,
    /// So many in a row.
    Row(u8),
    /// So many of the last outcomes.
    Rate { failed: u8, outcomes: u8 },
}

/// The stored form of `T`: compact JSON with a version.
#[derive(Serialize, Deserialize)]
struct Form<T> {
    v: u8,
    #[serde(flatten)]
    of: T,
}

#[derive(Serialize, Deserialize)]
struct StoredRecent {
    /// A letter for each: `f` failed, `s` succeeded.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    outcomes: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    runs_ms: Vec<i64>,
}

fn stored(of: impl Serialize) -> String {
    serde_json::to_string(&Form { v: FORM, of }).expect("plain data")
}

fn read<T: serde::de::DeserializeOwned>(text: &str) -> Option<T> {
    // Read twice: `deny_unknown_fields` does not go with `flatten`.
    let mut map: serde_json::Map<String, serde_json::Value> = serde_json::from_str(text).ok()?;
    let form = map.remove("v")?;
    (form == FORM).then(|| serde_json::from_value(map.into()).ok())?
}

impl Rules {
    /// None at all.
    pub const OFF: Rules = Rules {
        failures: None,
        failure_rate: None,
        max_run_secs: None,
        start_grace_secs: None,
        min_run_secs: None,
        unusual_run: None,
    };

    /// Whether none is set.
    pub fn are_off(&self) -> bool {
        *self == Rules::OFF
    }

    /// Whether a check with these rules remembers anything for them.
    pub const fn remember(&self) -> bool {
        self.count_failures() || self.unusual_run.is_some()
    }

    const fn count_failures(&self) -> bool {
        self.failures.is_some() || self.failure_rate.is_some()
    }

    /// As they are stored; `None` if there are none.
    pub fn to_stored(&self) -> Option<String> {
        (!self.are_off()).then(|| stored(self))
    }

    /// The rules of a stored text. `None` if a later version wrote it.
    pub fn from_stored(text: &str) -> Option<Self> {
        read(text)
    }

    /// As people and programs are shown them, in the words of `/v1/`: `null` is off, and one failure is as many as without
    /// rules.
    pub fn shown(&self) -> serde_json::Value {
        let rate = |rate: FailureRate| serde_json::json!({ "percent": rate.percent, "window": rate.window });
        let unusual = |rule: UnusualRun| {
            let factor = f64::from(rule.tenths) / 10.0;
            serde_json::json!({ "factor": factor, "samples": rule.samples })
        };
        serde_json::json!({
            "failures": self.failures.unwrap_or(1),
            "failure_rate": self.failure_rate.map(rate),
            "max_run_secs": self.max_run_secs,
            "start_grace_secs": self.start_grace_secs,
            "min_run_secs": self.min_run_secs,
            "unusual_run": self.unusual_run.map(unusual),
        })
    }

    /// The rule that cannot be met beside the others, and why.
    pub fn contradiction(&self) -> Option<(&'static str, String)> {
        let (least, most) = (self.min_run_secs?, self.max_run_secs?);
        (least >= most).then(|| {
            let why = format!(
                "must be less than the longest run that is allowed, {most} seconds: no run could be right"
            );
            ("min_run_secs", why)
        })
    }

    /// Outcomes that must be known.
    fn outcomes_max(&self) -> usize {
        let window = self.failure_rate.map_or(0, |rate| rate.window);
        self.failures.unwrap_or(0).max(window).into()
    }

    /// What the last of these outcomes means, which is a failure.
    pub(super) fn judge(&self, outcomes: &[bool]) -> Verdict {
        if !self.count_failures() {
            return Verdict::Plain;
        }
        let row = outcomes.iter().rev().take_while(|failed| **failed).count();
        if self.failures.is_some_and(|wanted| row >= wanted.into()) {
            return Verdict::Row(small(row));
        }
        if let Some(rate) = self.failure_rate {
            let last = &outcomes[outcomes.len().saturating_sub(rate.window.into())..];
            let failed = last.iter().filter(|failed| **failed).count();
            // Of the whole window, also before it is full: whatever the rest will be, the share is reached.
            if failed * 100 >= usize::from(rate.percent) * usize::from(rate.window) {
                let (failed, outcomes) = (small(failed), small(last.len()));
                return Verdict::Rate { failed, outcomes };
            }
        }
        Verdict::Tolerated
    }

    /// Why a success is a failure, after a run of this length.
    pub(super) fn too_fast(&self, took: Option<Span>) -> Option<Cause> {
        let (least, took) = (self.min_run_secs?, took?);
        (took < Span::from_secs(least.into())).then(|| Cause::TooFast {
            took_ms: took.as_micros() / 1_000,
            min_secs: least,
        })
    }

    /// The length from which on a run is unusual, and the usual one. `None` as long as too few are known.
    ///
    /// A run is at least ten seconds longer than usual before it is unusual: of short ones the network may make any
    /// multiple.
    pub(super) fn unusual_from(&self, recent: &Recent) -> Option<(Span, Span)> {
        let rule = self.unusual_run?;
        if recent.runs.len() < rule.samples.into() {
            return None;
        }
        let usual = median(&recent.runs)?;
        let times = i128::from(usual.as_micros()) * i128::from(rule.tenths) / 10;
        let times = Span::from_micros(i64::try_from(times).unwrap_or(i64::MAX));
        let least = usual
            .as_micros()
            .saturating_add(Span::from_secs(UNUSUAL_RUN_SECS_MIN).as_micros());
        Some((times.max(Span::from_micros(least)), usual))
    }
}

fn small(count: usize) -> u8 {
    u8::try_from(count).unwrap_or(u8::MAX)
}

/// The middle one; of an even number the shorter of the two in the middle.
fn median(runs: &[Span]) -> Option<Span> {
    let mut sorted = runs.to_vec();
    sorted.sort_unstable();
    sorted.get(sorted.len().checked_sub(1)? / 2).copied()
}

impl Recent {
    /// As it is stored; `None` if there is nothing.
    pub fn to_stored(&self) -> Option<String> {
        let letter = |failed: &bool| if *failed { 'f' } else { 's' };
        (*self != Recent::default()).then(|| {
            stored(StoredRecent {
                outcomes: self.outcomes.iter().map(letter).collect(),
                runs_ms: self.runs.iter().map(|run| run.as_micros() / 1_000).collect(),
            })
        })
    }

    /// What a stored text says. `None` if a later version wrote it.
    pub fn from_stored(text: &str) -> Option<Self> {
        let StoredRecent { outcomes, runs_ms } = read(text)?;
        let letters = outcomes.bytes().map(|letter| match letter {
            b'f' => Some(true),
            b's' => Some(false),
            _ => None,
        });
        Some(Recent {
            outcomes: letters.collect::<Option<_>>()?,
            runs: runs_ms.into_iter().map(Span::from_millis).collect(),
        })
    }

    /// A success, after a run of this length if that is known.
    pub(super) fn succeeded(&mut self, took: Option<Span>) {
        self.outcomes.push(false);
        // Whole milliseconds, as they are stored: what is known must not depend on whether it was read back.
        let whole = |took: Span| Span::from_millis(took.as_micros() / 1_000);
        self.runs.extend(took.map(whole));
    }

    /// A failure.
    pub(super) fn failed(&mut self) {
        self.outcomes.push(true);
    }

    /// Forgets what these rules do not want of a check of this status.
    pub(super) fn trim(&mut self, rules: &Rules, status: Status) {
        let counted = if status == Status::Up {
            rules.outcomes_max()
        } else {
            0
        };
        keep_last(&mut self.outcomes, counted);
        let sampled = if rules.unusual_run.is_some() {
            RUN_SAMPLES_MAX
        } else {
            0
        };
        keep_last(&mut self.runs, sampled);
    }
}

fn keep_last<T>(list: &mut Vec<T>, count: usize) {
    list.drain(..list.len().saturating_sub(count));
}

#[cfg(test)]
#[path = "rules_tests.rs"]
mod tests;
