//! Our nouns as the native API shows them: the glossary's words, instants in RFC 3339 with microseconds.

use allswell_core::check::{Check, Settings, Status, TimingKind};
use allswell_core::flip::{Flip, Reason};
use allswell_core::id::{ChannelId, CheckId};
use allswell_core::key::KeyKind;
use allswell_core::time::{Span, Timestamp};
use allswell_engine::record::plan_to_show;
use allswell_store::feed::ToldFlip;
use allswell_store::flips::Incident;
use allswell_store::outbox::Attempt;
use allswell_store::pages::ProjectDelivery;
use allswell_store::pings::Ping;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::api::compat::unique_key;
use crate::state::App;

pub(super) fn instant(at: Timestamp) -> String {
    at.to_rfc3339_micros()
}

pub(super) fn instant_or_null(at: Option<Timestamp>) -> Value {
    at.map_or(Value::Null, |at| Value::from(instant(at)))
}

fn millis(span: Span) -> i64 {
    span.as_micros() / 1_000
}

/// How a check is named to this kind of key: a read-only key does not learn the id, which is also the ping address.
pub(super) fn check_name(id: CheckId, kind: KeyKind) -> Value {
    match kind {
        KeyKind::ReadWrite => Value::from(id.to_string()),
        KeyKind::ReadOnly | KeyKind::Ping | KeyKind::Metrics => Value::from(unique_key(id)),
    }
}

/// Whether this kind of key may know which channels there are, wherever they would be named: who is told, and by what
/// way, is for those who may change it.
fn may_see_channels(kind: KeyKind) -> bool {
    match kind {
        KeyKind::ReadWrite => true,
        KeyKind::ReadOnly | KeyKind::Ping | KeyKind::Metrics => false,
    }
}

fn settings(settings: &Settings) -> Value {
    let (timing, filters) = (&settings.timing, &settings.filters);
    json!({
        "name": settings.name,
        "slug": settings.slug,
        "tags": settings.tag_list(),
        "description": settings.description,
        "schedule": match timing.kind {
            TimingKind::Period => json!({ "every_secs": timing.period.as_secs() }),
            TimingKind::Expression => json!({ "expression": timing.expression, "time_zone": timing.zone }),
        },
        "grace_secs": settings.grace.as_secs(),
        "methods": if filters.post_only { "post" } else { "any" },
        "manual_resume": filters.manual_resume,
        "filters": {
            "http_body": filters.http_body,
            "subject": filters.subject,
            "body": filters.body,
            "default_fail": filters.default_fail,
            "start_keywords": filters.start_keywords,
            "success_keywords": filters.success_keywords,
            "failure_keywords": filters.failure_keywords,
        },
        "rules": settings.rules.shown(),
    })
}

/// The entity tag of what people edit on a check. Pings do not change it.
pub(super) fn check_tag(check: &Check, channels: &[ChannelId]) -> String {
    let mut hash = Sha256::new();
    hash.update(settings(&check.settings).to_string());
    for channel in channels {
        hash.update(channel.as_uuid_bytes());
    }
    let hash: [u8; 32] = hash.finalize().into();
    let hex: String = hash[..12].iter().map(|byte| format!("{byte:02x}")).collect();
    format!("\"{hex}\"")
}

/// A check as a key of this kind sees it.
pub(super) fn check(
    check: &Check,
    channels: &[ChannelId],
    kind: KeyKind,
    app: &App,
    now: Timestamp,
) -> Value {
    let (state, plan) = (&check.state, plan_to_show(check, app.zones()));
    let site = app.site();
    let mut shown = settings(&check.settings);
    shown["id"] = check_name(check.id, kind);
    shown["status"] = Value::from(state.shown_at(&plan, now).word());
    shown["status_since"] = Value::from(instant(state.status_since));
    shown["started"] = Value::from(state.last_start.is_some());
    shown["last_start_at"] = instant_or_null(state.last_start);
    shown["last_alive_at"] = instant_or_null(state.last_alive);
    shown["last_success_at"] = instant_or_null(state.last_success);
    shown["paused_until"] = instant_or_null(state.paused_until.filter(|_| state.status == Status::Paused));
    shown["last_ping_at"] = instant_or_null(state.last_ping);
    shown["last_duration_ms"] = state
        .last_duration
        .map_or(Value::Null, |span| Value::from(millis(span)));
    shown["expected_at"] = instant_or_null(state.next_ping_at(&plan, now));
    shown["deadline"] = instant_or_null(state.deadline(&plan));
    shown["ping_count"] = Value::from(state.ping_count);
    shown["pings_not_kept"] = Value::from(state.not_kept);
    shown["flip_count"] = Value::from(state.flip_count);
    shown["created_at"] = Value::from(instant(check.created_at));
    shown["badge_url"] = Value::from(format!("{}/b/2/{}.svg", site.url, check.badge));
    if may_see_channels(kind) {
        let names: Vec<String> = channels.iter().map(ChannelId::to_string).collect();
        shown["channels"] = Value::from(names);
    }
    if kind == KeyKind::ReadWrite {
        shown["ping_url"] = Value::from(format!("{}/{}", site.ping_base(), check.id));
    }
    shown
}

/// A check in an event, without its channels: those are asked for.
pub(super) fn check_alone(alone: &Check, kind: KeyKind, app: &App, now: Timestamp) -> Value {
    let mut shown = check(alone, &[], kind, app, now);
    if let Some(fields) = shown.as_object_mut() {
        fields.remove("channels");
    }
    shown
}

fn reason(reason: &Reason) -> Value {
    let (code, data) = reason.to_parts();
    json!({
        "code": code,
        "data": serde_json::from_str(&data).unwrap_or(Value::Null),
        "sentence": reason.sentence(),
    })
}

/// A flip of a check.
pub(super) fn flip(check: CheckId, flip: &Flip, kind: KeyKind) -> Value {
    json!({
        "check": check_name(check, kind),
        "seq": flip.seq,
        "from": flip.from.word(),
        "to": flip.to.word(),
        "at": instant(flip.at),
        "expected_at": instant_or_null(flip.expected_at),
        "reason": reason(&flip.reason),
    })
}

/// A flip in an event, with what its check is called: whoever hears it may not know the check.
pub(super) fn told_flip(told: &ToldFlip, kind: KeyKind) -> Value {
    let mut shown = flip(told.flip.check, &told.flip.flip, kind);
    shown["name"] = Value::from(told.name.as_str());
    shown["slug"] = Value::from(told.slug.as_str());
    shown
}

/// An incident of a check.
pub(super) fn incident(check: CheckId, incident: &Incident, kind: KeyKind) -> Value {
    json!({
        "check": check_name(check, kind),
        "opened_at": instant(incident.opened_at),
        "opened_by_flip": incident.opened_seq,
        "closed_at": instant_or_null(incident.closed_at),
        "closed_by_flip": incident.closed_seq,
    })
}

/// A delivery.
pub(super) fn delivery(delivery: &ProjectDelivery, kind: KeyKind) -> Value {
    let mut shown = json!({
        "id": delivery.id.to_string(),
        "check": delivery.check.map_or(Value::Null, |check| check_name(check, kind)),
        "flip": delivery.flip_seq,
        "class": delivery.class,
        "state": delivery.state,
        "attempts": delivery.attempts,
        "created_at": instant(delivery.created_at),
        "next_at": if delivery.finished_at.is_some() { Value::Null } else { Value::from(instant(delivery.next_at)) },
        "expires_at": instant(delivery.expires_at),
        "finished_at": instant_or_null(delivery.finished_at),
        "last_outcome": delivery.last_outcome,
    });
    if may_see_channels(kind) {
        shown["channel"] = Value::from(delivery.channel.to_string());
    }
    shown
}

/// An attempt of a delivery. Of its detail the warnings, which are words of ours: what the receiver wrote, and where a
/// name led, are for administrators.
pub(super) fn attempt(attempt: &Attempt) -> Value {
    let found = &attempt.found;
    let read = |text: &[u8]| serde_json::from_slice::<Value>(text).unwrap_or(Value::Null);
    let phases = found.phases.as_deref().map(str::as_bytes).map(read);
    let warnings = read(&found.detail).get("warnings").cloned();
    json!({
        "n": attempt.n,
        "started_at": instant(found.started_at),
        "duration_ms": millis(found.duration),
        "outcome": found.outcome,
        "http_status": found.http_status,
        "phases_us": phases,
        "warnings": warnings.unwrap_or_else(|| json!([])),
    })
}

/// A ping.
pub(super) fn ping(ping: &Ping) -> Value {
    json!({
        "n": ping.n,
        "at": instant(ping.at),
        "kind": ping.kind.word(),
        "source": ping.source.word(),
        "exit_status": ping.exit_status,
        "run_id": ping.rid.map(|rid| rid.to_string()),
        "scheme": ping.scheme,
        "method": ping.method,
        "remote_addr": ping.remote_addr,
        "user_agent": ping.user_agent,
        "body_bytes": ping.body_bytes,
    })
}
