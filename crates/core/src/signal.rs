//! What a ping says: from its address, its body and the check's filters to a [`Signal`]
//! (`healthchecks.md` section 1.4).

use memchr::memmem;
use serde::{Deserialize, Serialize};

use crate::check::Status;

/// What the address of a ping asks for.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// The job succeeded.
    Success,
    /// The job started.
    Start,
    /// The job failed.
    Fail,
    /// A note for the log.
    Log,
    /// The job still runs.
    Alive,
    /// The job ended with this exit status; 0 is success.
    Exit(u8),
}

impl Action {
    /// The exit status, if the address gave one.
    pub const fn exit_status(self) -> Option<u8> {
        match self {
            Action::Exit(status) => Some(status),
            _ => None,
        }
    }
}

/// What a ping turned out to say. Stored with the ping.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The job succeeded.
    Success,
    /// The job started.
    Start,
    /// The job failed.
    Fail,
    /// Only for the log.
    Log,
    /// The check's rules say to take no notice.
    Ignored,
    /// The job still runs: nothing begins or ends by it.
    Alive,
}

impl Kind {
    /// The word for it.
    pub const fn word(self) -> &'static str {
        match self {
            Kind::Success => "success",
            Kind::Start => "start",
            Kind::Fail => "fail",
            Kind::Log => "log",
            Kind::Ignored => "ignored",
            Kind::Alive => "alive",
        }
    }

    /// The number stored for this kind.
    pub const fn number(self) -> i64 {
        match self {
            Kind::Success => 0,
            Kind::Start => 1,
            Kind::Fail => 2,
            Kind::Log => 3,
            Kind::Ignored => 4,
            Kind::Alive => 5,
        }
    }

    /// The kind of a stored number.
    pub const fn from_number(number: i64) -> Option<Self> {
        Some(match number {
            0 => Kind::Success,
            1 => Kind::Start,
            2 => Kind::Fail,
            3 => Kind::Log,
            4 => Kind::Ignored,
            5 => Kind::Alive,
            _ => return None,
        })
    }
}

/// Why a ping says what it says; part of the reason of a flip.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// The address said so.
    Address,
    /// The exit status in the address.
    ExitStatus(u8),
    /// The body holds this keyword.
    Keyword(String),
    /// The body holds none of the keywords and the check counts that as a failure.
    NoKeyword,
    /// The check takes only POST.
    Method,
    /// The check is paused and stays so until somebody resumes it.
    ManualResume,
    /// A success, of a run that was shorter than its check's rules allow.
    TooFast {
        /// How long the run took, in milliseconds.
        took_ms: i64,
        /// How long it should have taken at least, in seconds.
        min_secs: u32,
    },
}

/// A ping, understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signal {
    /// What it says.
    pub kind: Kind,
    /// Why.
    pub cause: Cause,
}

/// The rules of a check that decide what a ping says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filters {
    /// Only POST requests count.
    pub post_only: bool,
    /// A paused check ignores pings until it is resumed by hand.
    pub manual_resume: bool,
    /// Look for keywords in the body of an HTTP ping.
    pub http_body: bool,
    /// Look for keywords in the subject of a mail.
    pub subject: bool,
    /// Look for keywords in the body of a mail.
    pub body: bool,
    /// No keyword found means failure, not "ignore".
    pub default_fail: bool,
    /// Keywords of a start, comma-separated.
    pub start_keywords: String,
    /// Keywords of a success, comma-separated.
    pub success_keywords: String,
    /// Keywords of a failure, comma-separated.
    pub failure_keywords: String,
    /// A ping by id counts only with the project's ping key: the project's rule, beside each check of its, so that a ping
    /// needs no second look.
    pub needs_key: bool,
}

/// What an HTTP ping says under these rules. The method is case-sensitive, as HTTP has it (RFC 9110 section 9.1).
pub fn read(action: Action, method: &str, body: &[u8], filters: &Filters, status: Status) -> Signal {
    let signal = if filters.post_only && method != "POST" {
        Signal {
            kind: Kind::Ignored,
            cause: Cause::Method,
        }
    } else if filters.http_body && action != Action::Alive {
        // What says that it only still runs begins and ends nothing, whatever its body holds.
        by_keyword(body, filters)
    } else {
        by_address(action)
    };
    if status == Status::Paused && filters.manual_resume {
        return Signal {
            kind: Kind::Ignored,
            cause: Cause::ManualResume,
        };
    }
    signal
}

fn by_address(action: Action) -> Signal {
    let (kind, cause) = match action {
        Action::Success => (Kind::Success, Cause::Address),
        Action::Start => (Kind::Start, Cause::Address),
        Action::Fail => (Kind::Fail, Cause::Address),
        Action::Log => (Kind::Log, Cause::Address),
        Action::Alive => (Kind::Alive, Cause::Address),
        Action::Exit(0) => (Kind::Success, Cause::ExitStatus(0)),
        Action::Exit(status) => (Kind::Fail, Cause::ExitStatus(status)),
    };
    Signal { kind, cause }
}

fn by_keyword(body: &[u8], filters: &Filters) -> Signal {
    let by_rank = [
        (&filters.failure_keywords, Kind::Fail),
        (&filters.success_keywords, Kind::Success),
        (&filters.start_keywords, Kind::Start),
    ];
    for (keywords, kind) in by_rank {
        if let Some(keyword) = found(body, keywords) {
            return Signal {
                kind,
                cause: Cause::Keyword(keyword.to_owned()),
            };
        }
    }
    let kind = if filters.default_fail {
        Kind::Fail
    } else {
        Kind::Ignored
    };
    Signal {
        kind,
        cause: Cause::NoKeyword,
    }
}

/// The first keyword of the comma-separated list that the body holds. The body need not be text.
fn found<'a>(body: &[u8], keywords: &'a str) -> Option<&'a str> {
    keywords
        .split(',')
        .map(str::trim)
        .filter(|keyword| !keyword.is_empty())
        .find(|keyword| memmem::find(body, keyword.as_bytes()).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(action: Action, method: &str, body: &[u8], filters: &Filters) -> Kind {
        read(action, method, body, filters, Status::Up).kind
    }

    #[test]
    fn the_address_says_what_happened() {
        for (action, expected) in [
            (Action::Success, Kind::Success),
            (Action::Start, Kind::Start),
            (Action::Fail, Kind::Fail),
            (Action::Log, Kind::Log),
            (Action::Alive, Kind::Alive),
            (Action::Exit(0), Kind::Success),
            (Action::Exit(1), Kind::Fail),
            (Action::Exit(255), Kind::Fail),
        ] {
            assert_eq!(kind(action, "GET", b"", &Filters::default()), expected);
        }
    }

    #[test]
    fn keywords_in_the_body_override_the_address() {
        let filters = Filters {
            http_body: true,
            success_keywords: "SUCCESS, done,,".into(),
            failure_keywords: "ERROR".into(),
            start_keywords: "STARTING".into(),
            ..Filters::default()
        };
        for (body, expected) in [
            (&b"all SUCCESS here"[..], Kind::Success),
            (b"we are done", Kind::Success),
            (b"an ERROR occurred", Kind::Fail),
            (b"STARTING up", Kind::Start),
            (b"ERROR and SUCCESS", Kind::Fail),
            (b"SUCCESS and STARTING", Kind::Success),
            (b"error in lower case", Kind::Ignored),
            (b"\xff\xfe ERROR \x00", Kind::Fail),
            (b"", Kind::Ignored),
        ] {
            for action in [Action::Success, Action::Fail, Action::Log, Action::Exit(3)] {
                assert_eq!(kind(action, "GET", body, &filters), expected, "{body:?}");
            }
        }
        let strict = Filters {
            default_fail: true,
            ..filters
        };
        assert_eq!(kind(Action::Success, "GET", b"nothing", &strict), Kind::Fail);
        assert_eq!(kind(Action::Success, "GET", b"done", &strict), Kind::Success);
    }

    #[test]
    fn keywords_without_their_switch_do_nothing() {
        let filters = Filters {
            failure_keywords: "ERROR".into(),
            subject: true,
            body: true,
            ..Filters::default()
        };
        assert_eq!(kind(Action::Success, "POST", b"ERROR", &filters), Kind::Success);
    }

    #[test]
    fn a_check_that_wants_post_ignores_the_rest() {
        let filters = Filters {
            post_only: true,
            ..Filters::default()
        };
        for (method, expected) in [
            ("GET", Kind::Ignored),
            ("HEAD", Kind::Ignored),
            ("post", Kind::Ignored),
            ("POST", Kind::Fail),
        ] {
            assert_eq!(kind(Action::Fail, method, b"", &filters), expected, "{method}");
        }
    }

    #[test]
    fn a_paused_check_with_manual_resume_ignores_everything() {
        let filters = Filters {
            manual_resume: true,
            ..Filters::default()
        };
        for action in [
            Action::Success,
            Action::Start,
            Action::Fail,
            Action::Log,
            Action::Exit(1),
        ] {
            assert_eq!(
                read(action, "GET", b"", &filters, Status::Paused).kind,
                Kind::Ignored
            );
            assert_ne!(
                read(action, "GET", b"", &filters, Status::Down).kind,
                Kind::Ignored
            );
        }
    }

    #[test]
    fn kinds_survive_their_number() {
        for kind in [
            Kind::Success,
            Kind::Start,
            Kind::Fail,
            Kind::Log,
            Kind::Ignored,
            Kind::Alive,
        ] {
            assert_eq!(Kind::from_number(kind.number()), Some(kind));
        }
        assert_eq!(Kind::from_number(9), None);
    }
}
