//! What came of an attempt, as rows: the verdict of `core::retry`, the attempt, and the sentence that is shown.

use allswell_core::chance::Dice;
use allswell_core::delivery::Class;
use allswell_core::exchange::{End as CallEnd, Outcome, Phases};
use allswell_core::retry::{Bounds, GiveUp, Schedule, Verdict, judge};
use allswell_core::time::{Span, Timestamp};
use allswell_store::outbox::{Claimed, End, Found, Next, Recorded};
use serde_json::json;

use super::under_way::Hold;

/// An attempt whose answer is there.
pub(super) struct Answered {
    pub(super) claimed: Claimed,
    pub(super) started_at: Timestamp,
    pub(super) outcome: Outcome,
    /// What its owner should know of the request that was sent.
    pub(super) warnings: Vec<String>,
    /// Kept until it is stored.
    pub(super) hold: Hold,
}

/// What a channel has to do with it.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Bearing {
    /// It got something.
    Works,
    /// It got nothing, and another try follows or not.
    Fails { given_up: bool },
    /// Its receiver is gone for good.
    Gone,
    /// Our own rules refuse it.
    Blocked,
}

impl Answered {
    /// Judges it at `now`, or at its end if that came after a step's clock was read: waits are counted from there.
    pub(super) fn judged(
        self,
        schedule: &Schedule,
        now: Timestamp,
        dice: &mut Dice,
    ) -> (Recorded, Bearing, Hold) {
        let Answered {
            claimed,
            started_at,
            outcome,
            warnings,
            hold,
        } = self;
        // Less than a second is no matter.
        let now = now.max(started_at + Span::from_secs(outcome.phases.total.as_secs()));
        let bounds = Bounds {
            schedule,
            expires_at: claimed.expires_at,
            tries_max: claimed.class.tries_max(),
        };
        let verdict = judge(&outcome, claimed.attempts + 1, now, bounds, dice);
        let (next, bearing) = match verdict {
            Verdict::Done => (Next::Ended(End::Delivered), Bearing::Works),
            Verdict::Again(at) => (Next::Again(at), Bearing::Fails { given_up: false }),
            Verdict::GiveUp(GiveUp::Blocked) => (Next::Ended(End::Blocked), Bearing::Blocked),
            Verdict::GiveUp(GiveUp::Gone) => (Next::Ended(End::Exhausted), Bearing::Gone),
            Verdict::GiveUp(GiveUp::Exhausted | GiveUp::Refused) => {
                (Next::Ended(End::Exhausted), Bearing::Fails { given_up: true })
            }
        };
        // A test is one attempt that somebody watches. It may clear a channel, but it does not bring it nearer to being
        // switched off.
        let bearing = match bearing {
            Bearing::Fails { .. } | Bearing::Gone | Bearing::Blocked if claimed.class == Class::Test => {
                Bearing::Fails { given_up: false }
            }
            other => other,
        };
        let found = Found {
            started_at,
            duration: outcome.phases.total,
            outcome: outcome
                .error_class()
                .map_or("ok", |class| class.word())
                .to_owned(),
            http_status: outcome.status(),
            phases: Some(phases(&outcome.phases)),
            detail: detail(&outcome, &warnings),
        };
        let shown = shown(&outcome);
        let recorded = Recorded {
            claimed,
            found: Some(found),
            next,
            outcome: shown,
        };
        (recorded, bearing, hold)
    }
}

/// How an attempt ended, for those who may see the channel: class and status, nothing that the receiver wrote, and not
/// which rule refused it: that would tell where inside a name leads.
pub(super) fn shown(outcome: &Outcome) -> String {
    let class = outcome.error_class().map_or("ok", |class| class.word());
    match outcome.status() {
        Some(status) => format!("{class} {status}"),
        None => class.to_owned(),
    }
}

fn phases(phases: &Phases) -> String {
    let micros = |span: Option<Span>| span.map(Span::as_micros);
    json!({
        "dns": micros(phases.dns),
        "connect": micros(phases.connect),
        "tls": micros(phases.tls),
        "first_byte": micros(phases.first_byte),
        "body": micros(phases.body),
    })
    .to_string()
}

/// What only those see who may see the channel's secrets. As JSON: `excerpt` is text, `excerpt_hex` the bytes of what is none.
fn detail(outcome: &Outcome, warnings: &[String]) -> Vec<u8> {
    let mut detail = serde_json::Map::new();
    let mut put = |name: &str, value: serde_json::Value| detail.insert(name.to_owned(), value);
    if let CallEnd::Answered(answer) = &outcome.end {
        match std::str::from_utf8(&answer.excerpt) {
            Ok("") => {}
            Ok(text) => drop(put("excerpt", json!(text))),
            Err(_) => drop(put("excerpt_hex", json!(hex(&answer.excerpt)))),
        }
        if answer.truncated {
            put("truncated", json!(true));
        }
        if let Some(location) = &answer.location {
            put("location", json!(location));
        }
    }
    if let CallEnd::Blocked(refusal) = &outcome.end {
        put("rule", json!(refusal.rule.code()));
        put("refusal", json!(refusal.for_administrators()));
    }
    if let Some(peer) = outcome.peer {
        put("peer", json!(peer.to_string()));
    }
    if !outcome.detail.is_empty() {
        put("detail", json!(outcome.detail));
    }
    if !warnings.is_empty() {
        put("warnings", json!(warnings));
    }
    if detail.is_empty() {
        return Vec::new();
    }
    serde_json::Value::Object(detail).to_string().into_bytes()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
