//! A flip: a change of status, with its instant and its reason.
//!
//! Reasons are a code and data, never prose: pages, mails and the API each say them in their own words, and a stored
//! reason stays true when a sentence is improved.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::check::Status;
use crate::signal::Cause;
use crate::time::{Span, Timestamp};

/// A change of status of one check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flip {
    /// Number within the check, from 1 without gaps.
    pub seq: u64,
    /// The status before; equals the previous flip's `to`.
    pub from: Status,
    /// The status after.
    pub to: Status,
    /// When it happened: for a missed deadline the deadline itself, not the instant somebody looked.
    pub at: Timestamp,
    /// When a signal had been expected, for a missed deadline.
    pub expected_at: Option<Timestamp>,
    /// Why.
    pub reason: Reason,
}

/// Why a check changed its status.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "code", content = "data", rename_all = "snake_case")]
pub enum Reason {
    /// A ping reported success.
    Success {
        /// Number of the ping.
        ping: u64,
        /// What made it a success.
        cause: Cause,
    },
    /// A ping reported failure.
    Fail {
        /// Number of the ping.
        ping: u64,
        /// What made it a failure.
        cause: Cause,
    },
    /// No success came by the deadline.
    Timeout {
        /// The last success or failure, in microseconds since 1970.
        last_ping: i64,
        /// The grace in seconds.
        grace: i64,
        /// The deadline before it was moved because it fell into an absence of ours, in microseconds since 1970.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        moved_from: Option<i64>,
    },
    /// A run started and did not end within the grace.
    RunTimeout {
        /// Start of the run, in microseconds since 1970.
        started: i64,
        /// When it last said that it was alive, in microseconds since 1970.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        last_alive: Option<i64>,
        /// The grace in seconds.
        grace: i64,
        /// The deadline before it was moved because it fell into an absence of ours, in microseconds since 1970.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        moved_from: Option<i64>,
    },
    /// A pause was over, the check was expected again, and no ping came.
    SilentAfterPause {
        /// When the pause was over, in microseconds since 1970.
        paused_until: i64,
        /// The grace in seconds.
        grace: i64,
        /// The deadline before it was moved because it fell into an absence of ours, in microseconds since 1970.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        moved_from: Option<i64>,
    },
    /// The last of so many failures in a row.
    Failures {
        /// Number of the ping.
        ping: u64,
        /// What made it a failure.
        cause: Cause,
        /// How many in a row.
        failures: u8,
    },
    /// A failure, and so many of the last outcomes were.
    FailureRate {
        /// Number of the ping.
        ping: u64,
        /// What made it a failure.
        cause: Cause,
        /// How many failed.
        failed: u8,
        /// Of how many.
        outcomes: u8,
    },
    /// A ping reported failure, and the rules of the check wait for more of them: a sign of life.
    Tolerated {
        /// Number of the ping.
        ping: u64,
        /// What made it a failure.
        cause: Cause,
    },
    /// A run started and did not end within the limit for runs.
    MaxRun {
        /// Start of the run, in microseconds since 1970.
        started: i64,
        /// The limit in seconds.
        limit: i64,
        /// As in `Timeout`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        moved_from: Option<i64>,
    },
    /// A run takes far longer than usual.
    UnusualRun {
        /// Start of the run, in microseconds since 1970.
        started: i64,
        /// The length from which on it is unusual, in milliseconds.
        limit_ms: i64,
        /// The median of the runs before, in milliseconds.
        usual_ms: i64,
        /// How many runs that is of.
        runs: u8,
        /// As in `Timeout`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        moved_from: Option<i64>,
    },
    /// No run started in time.
    LateStart {
        /// When it was expected, in microseconds since 1970.
        expected: i64,
        /// How late it may start, in seconds.
        limit: i64,
        /// As in `Timeout`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        moved_from: Option<i64>,
    },
    /// Runs started, and no success came while grace and limit for runs lasted.
    NoEnd {
        /// The last success or failure, in microseconds since 1970. None came since a pause was over.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        last_ping: Option<i64>,
        /// The grace in seconds.
        grace: i64,
        /// The limit for runs, in seconds.
        max_run: i64,
        /// As in `Timeout`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        moved_from: Option<i64>,
    },
    /// Somebody paused the check.
    Paused,
    /// Somebody paused the check until an instant.
    PausedUntil {
        /// That instant, in microseconds since 1970.
        until: i64,
    },
    /// The pause was over.
    PauseOver {
        /// When it was to end, in microseconds since 1970.
        until: i64,
    },
    /// Somebody resumed the check.
    Resumed,
}

impl Reason {
    /// The code and the data as they are stored.
    pub fn to_parts(&self) -> (String, String) {
        let value = serde_json::to_value(self).expect("a reason is plain data");
        let code = value["code"].as_str().unwrap_or_default().to_owned();
        let data = value.get("data").map(Value::to_string).unwrap_or_default();
        (code, data)
    }

    /// The reason of a stored code and data. `None` if a later version wrote it.
    pub fn from_parts(code: &str, data: &str) -> Option<Self> {
        let mut value = serde_json::json!({ "code": code });
        if !data.is_empty() {
            value["data"] = serde_json::from_str(data).ok()?;
        }
        serde_json::from_value(value).ok()
    }

    /// A sentence for people, in English.
    pub fn sentence(&self) -> String {
        match self {
            Reason::Success { ping, cause } => format!("ping {ping} reported success{}", because(cause)),
            Reason::Fail { ping, cause } => failure(*ping, cause),
            Reason::Failures {
                ping,
                cause,
                failures,
            } => format!(
                "{}; that makes {failures} failures in a row",
                failure(*ping, cause)
            ),
            Reason::FailureRate {
                ping,
                cause,
                failed,
                outcomes,
            } => format!(
                "{}; that makes {failed} failures of the last {outcomes} outcomes",
                failure(*ping, cause)
            ),
            Reason::Tolerated { ping, cause } => format!(
                "{}; the rules of the check wait for more failures",
                failure(*ping, cause)
            ),
            Reason::MaxRun {
                started,
                limit,
                moved_from,
            } => format!(
                "the run that started at {} did not end within its limit of {}{}",
                Timestamp::from_micros(*started).floor_secs(),
                Span::from_secs(*limit),
                excused(*moved_from)
            ),
            Reason::UnusualRun {
                started,
                limit_ms,
                usual_ms,
                runs,
                moved_from,
            } => format!(
                "the run that started at {} takes longer than {}, and {} is usual (the median of {runs} runs){}",
                Timestamp::from_micros(*started).floor_secs(),
                lasting(*limit_ms),
                lasting(*usual_ms),
                excused(*moved_from)
            ),
            Reason::LateStart {
                expected,
                limit,
                moved_from,
            } => format!(
                "no run started within {} of {}, when it was expected{}",
                Span::from_secs(*limit),
                Timestamp::from_micros(*expected).floor_secs(),
                excused(*moved_from)
            ),
            Reason::NoEnd {
                last_ping,
                grace,
                max_run,
                moved_from,
            } => format!(
                "runs started and none succeeded: {}, the grace of {} is over, and so is the limit of {} for a run{}",
                match last_ping {
                    Some(at) => format!(
                        "the last ping was at {}",
                        Timestamp::from_micros(*at).floor_secs()
                    ),
                    None => "none has ended since the check was paused".to_owned(),
                },
                Span::from_secs(*grace),
                Span::from_secs(*max_run),
                excused(*moved_from)
            ),
            Reason::Timeout {
                last_ping,
                grace,
                moved_from,
            } => format!(
                "no ping came in time: the last was at {}, and the grace of {} is over{}",
                Timestamp::from_micros(*last_ping).floor_secs(),
                Span::from_secs(*grace),
                excused(*moved_from)
            ),
            Reason::RunTimeout {
                started,
                last_alive: None,
                grace,
                moved_from,
            } => format!(
                "the run that started at {} did not end within {}{}",
                Timestamp::from_micros(*started).floor_secs(),
                Span::from_secs(*grace),
                excused(*moved_from)
            ),
            Reason::RunTimeout {
                started,
                last_alive: Some(alive),
                grace,
                moved_from,
            } => format!(
                "the run that started at {} was last heard of at {}, and the grace of {} is over{}",
                Timestamp::from_micros(*started).floor_secs(),
                Timestamp::from_micros(*alive).floor_secs(),
                Span::from_secs(*grace),
                excused(*moved_from)
            ),
            Reason::SilentAfterPause {
                paused_until,
                grace,
                moved_from,
            } => format!(
                "the pause was over at {}, no ping came in time since, and the grace of {} is over{}",
                Timestamp::from_micros(*paused_until).floor_secs(),
                Span::from_secs(*grace),
                excused(*moved_from)
            ),
            Reason::PausedUntil { until } => format!(
                "somebody paused the check until {}",
                Timestamp::from_micros(*until).floor_secs()
            ),
            Reason::PauseOver { until } => format!(
                "the pause until {} is over",
                Timestamp::from_micros(*until).floor_secs()
            ),
            Reason::Paused => "somebody paused the check".to_owned(),
            Reason::Resumed => "somebody resumed the check".to_owned(),
        }
    }
}

fn excused(moved_from: Option<i64>) -> String {
    moved_from.map_or_else(String::new, |nominal| {
        let nominal = Timestamp::from_micros(nominal).floor_secs();
        format!("; its deadline, {nominal}, fell into a time when this server was away, and was moved")
    })
}

fn failure(ping: u64, cause: &Cause) -> String {
    match cause {
        Cause::TooFast { took_ms, min_secs } => format!(
            "ping {ping} reported success after {}, and a run should take at least {}",
            lasting(*took_ms),
            Span::from_secs((*min_secs).into())
        ),
        cause => format!("ping {ping} reported failure{}", because(cause)),
    }
}

/// A length of time, of less than ten seconds with its fraction.
fn lasting(millis: i64) -> String {
    if (0..10_000).contains(&millis) {
        return format!("{}.{} s", millis / 1_000, millis % 1_000 / 100);
    }
    Span::from_millis(millis).to_string()
}

fn because(cause: &Cause) -> String {
    match cause {
        Cause::ExitStatus(status) => format!(" (exit status {status})"),
        Cause::Keyword(keyword) => format!(" (its body holds “{keyword}”)"),
        Cause::NoKeyword => " (its body holds none of the keywords)".to_owned(),
        Cause::Address | Cause::Method | Cause::ManualResume | Cause::TooFast { .. } => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_survive_storage_and_have_a_sentence() {
        let all = [
            Reason::Success {
                ping: 3,
                cause: Cause::Address,
            },
            Reason::Fail {
                ping: 4,
                cause: Cause::ExitStatus(2),
            },
            Reason::Fail {
                ping: 5,
                cause: Cause::Keyword("ERROR \" '".into()),
            },
            Reason::Fail {
                ping: 6,
                cause: Cause::NoKeyword,
            },
            Reason::Timeout {
                last_ping: 1_769_860_800_000_000,
                grace: 60,
                moved_from: None,
            },
            Reason::SilentAfterPause {
                paused_until: 1_769_860_800_000_000,
                grace: 60,
                moved_from: None,
            },
            Reason::PausedUntil {
                until: 1_769_860_800_000_000,
            },
            Reason::PauseOver {
                until: 1_769_860_800_000_000,
            },
            Reason::RunTimeout {
                started: 1_769_860_800_000_000,
                last_alive: Some(1_769_860_800_000_000),
                grace: 3_600,
                moved_from: Some(1_769_860_800_000_000),
            },
            Reason::Failures {
                ping: 9,
                cause: Cause::TooFast {
                    took_ms: 1_250,
                    min_secs: 30,
                },
                failures: 3,
            },
            Reason::FailureRate {
                ping: 9,
                cause: Cause::Address,
                failed: 5,
                outcomes: 7,
            },
            Reason::Tolerated {
                ping: 9,
                cause: Cause::ExitStatus(1),
            },
            Reason::MaxRun {
                started: 1_769_860_800_000_000,
                limit: 300,
                moved_from: None,
            },
            Reason::UnusualRun {
                started: 1_769_860_800_000_000,
                limit_ms: 90_000,
                usual_ms: 30_000,
                runs: 7,
                moved_from: Some(1_769_860_800_000_000),
            },
            Reason::LateStart {
                expected: 1_769_860_800_000_000,
                limit: 120,
                moved_from: None,
            },
            Reason::NoEnd {
                last_ping: Some(1_769_860_800_000_000),
                grace: 60,
                max_run: 600,
                moved_from: None,
            },
            Reason::Paused,
            Reason::Resumed,
        ];
        for reason in all {
            let (code, data) = reason.to_parts();
            assert!(
                !code.is_empty() && code.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'),
                "{code}"
            );
            assert_eq!(Reason::from_parts(&code, &data), Some(reason.clone()));
            assert!(!reason.sentence().is_empty());
        }
        assert_eq!(Reason::from_parts("of_the_future", ""), None);
        assert_eq!(Reason::from_parts("fail", "not json"), None);
    }

    #[test]
    fn sentences_say_what_happened() {
        let late = Reason::Timeout {
            last_ping: 1_769_860_800_500_000,
            grace: 90,
            moved_from: None,
        };
        assert_eq!(
            late.sentence(),
            "no ping came in time: the last was at 2026-01-31T12:00:00Z, and the grace of 1 min 30 s is over"
        );
        let failed = Reason::Fail {
            ping: 7,
            cause: Cause::ExitStatus(3),
        };
        assert_eq!(failed.sentence(), "ping 7 reported failure (exit status 3)");
        let row = |cause| Reason::Failures {
            ping: 7,
            cause,
            failures: 3,
        };
        assert_eq!(
            row(Cause::ExitStatus(3)).sentence(),
            "ping 7 reported failure (exit status 3); that makes 3 failures in a row"
        );
        let too_fast = Cause::TooFast {
            took_ms: 1_250,
            min_secs: 30,
        };
        assert_eq!(
            row(too_fast).sentence(),
            "ping 7 reported success after 1.2 s, and a run should take at least 30 s; that makes 3 failures in a row"
        );
        let unusual = Reason::UnusualRun {
            started: 1_769_860_800_500_000,
            limit_ms: 90_000,
            usual_ms: 9_960,
            runs: 7,
            moved_from: None,
        };
        assert_eq!(
            unusual.sentence(),
            "the run that started at 2026-01-31T12:00:00Z takes longer than 1 min 30 s, and 9.9 s is usual (the median of 7 runs)"
        );
    }
}
