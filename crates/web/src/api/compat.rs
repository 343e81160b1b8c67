//! Our words in the compatible API's: the one place that knows both.

use allswell_core::check::{Check, Plan, Shown, TimingKind};
use allswell_core::flip::Flip;
use allswell_core::id::{ChannelId, CheckId};
use allswell_core::key::KeyKind;
use allswell_core::schedule::Zones;
use allswell_core::signal::Kind;
use allswell_core::time::{Span, Timestamp};
use allswell_engine::record::plan_to_show;
use allswell_store::pings::Ping;
use serde::Serialize;
use serde_json::{Value, json};
use sha1::{Digest, Sha1};

use super::Version;
use crate::state::{App, Site};

/// The key under which read-only keys see a check: SHA-1 of the first sixteen digits of its id.
pub(crate) fn unique_key(id: CheckId) -> String {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let digits = id.as_uuid().simple().to_string();
    let hash = Sha1::digest(&digits.as_bytes()[..16]);
    let halves = hash.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    halves.map(|half| char::from(HEX[usize::from(half)])).collect()
}

/// Whether a text has the form of a unique key.
pub(crate) fn is_unique_key(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

fn status(check: &Check, plan: &Plan, version: Version, now: Timestamp) -> &'static str {
    let started = check.state.last_start.is_some() && !check.state.run_is_overdue(plan, now);
    if version == Version::V1 && started {
        return "started";
    }
    match check.state.shown_at(plan, now) {
        Shown::Late => "grace",
        other => other.word(),
    }
}

/// A check as the API shows it. It borrows what it can: a project may show ten thousand at once.
#[derive(Serialize)]
pub(crate) struct ShownCheck<'c> {
    name: &'c str,
    slug: &'c str,
    tags: &'c str,
    desc: &'c str,
    grace: i64,
    n_pings: u64,
    status: &'static str,
    started: bool,
    last_ping: Option<String>,
    next_ping: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_duration: Option<i64>,
    manual_resume: bool,
    methods: &'static str,
    subject: &'c str,
    subject_fail: &'c str,
    start_kw: &'c str,
    success_kw: &'c str,
    failure_kw: &'c str,
    filter_subject: bool,
    filter_body: bool,
    filter_http_body: bool,
    filter_default_fail: bool,
    badge_url: String,
    #[serde(flatten)]
    seen_with: SeenWith,
    #[serde(flatten)]
    timing: ShownTiming<'c>,
}

/// What depends on the key.
#[derive(Serialize)]
#[serde(untagged)]
enum SeenWith {
    WriteKey {
        uuid: String,
        ping_url: String,
        update_url: String,
        pause_url: String,
        resume_url: String,
        channels: String,
    },
    ReadKey {
        unique_key: String,
    },
}

#[derive(Serialize)]
#[serde(untagged)]
enum ShownTiming<'c> {
    Period { timeout: i64 },
    Expression { schedule: &'c str, tz: &'c str },
}

/// A check as the API shows it to a key of this kind.
pub(crate) fn check<'c>(
    check: &'c Check,
    channels: &[ChannelId],
    kind: KeyKind,
    version: Version,
    app: &App,
    now: Timestamp,
) -> ShownCheck<'c> {
    check_of_site(check, channels, kind, version, (app.site(), app.zones()), now)
}

/// The same for those who have no handler's state at hand.
pub(crate) fn check_of_site<'c>(
    check: &'c Check,
    channels: &[ChannelId],
    kind: KeyKind,
    version: Version,
    (site, zones): (&Site, &Zones),
    now: Timestamp,
) -> ShownCheck<'c> {
    let (settings, state, plan) = (&check.settings, &check.state, plan_to_show(check, zones));
    let filters = &settings.filters;
    let by_subject = |keywords: &'c str| if filters.subject { keywords } else { "" };
    let whole_secs = |at: Option<Timestamp>| at.map(Timestamp::to_rfc3339_secs);
    ShownCheck {
        name: &settings.name,
        slug: &settings.slug,
        tags: &settings.tags,
        desc: &settings.description,
        grace: settings.grace.as_secs(),
        n_pings: state.ping_count,
        status: status(check, &plan, version, now),
        started: state.last_start.is_some(),
        last_ping: whole_secs(state.last_ping),
        next_ping: whole_secs(state.next_ping_at(&plan, now)),
        last_duration: state.last_duration.map(Span::as_secs),
        manual_resume: filters.manual_resume,
        methods: if filters.post_only { "POST" } else { "" },
        subject: by_subject(&filters.success_keywords),
        subject_fail: by_subject(&filters.failure_keywords),
        start_kw: &filters.start_keywords,
        success_kw: &filters.success_keywords,
        failure_kw: &filters.failure_keywords,
        filter_subject: filters.subject,
        filter_body: filters.body,
        filter_http_body: filters.http_body,
        filter_default_fail: filters.default_fail,
        badge_url: format!("{}/b/2/{}.svg", site.url, check.badge),
        seen_with: match kind {
            KeyKind::ReadWrite => with_addresses(check, channels, version, site),
            KeyKind::ReadOnly | KeyKind::Ping | KeyKind::Metrics => SeenWith::ReadKey {
                unique_key: unique_key(check.id),
            },
        },
        timing: match settings.timing.kind {
            TimingKind::Period => ShownTiming::Period {
                timeout: settings.timing.period.as_secs(),
            },
            TimingKind::Expression => ShownTiming::Expression {
                schedule: &settings.timing.expression,
                tz: &settings.timing.zone,
            },
        },
    }
}

fn with_addresses(check: &Check, channels: &[ChannelId], version: Version, site: &Site) -> SeenWith {
    let own = format!("{}/api/v{}/checks/{}", site.url, version as u8, check.id);
    let channels: Vec<String> = channels.iter().map(ToString::to_string).collect();
    SeenWith::WriteKey {
        uuid: check.id.to_string(),
        ping_url: format!("{}/{}", site.ping_base(), check.id),
        pause_url: format!("{own}/pause"),
        resume_url: format!("{own}/resume"),
        update_url: own,
        channels: channels.join(","),
    }
}

/// A ping as the API shows it; `duration` is that of the run it ended.
pub(crate) fn ping(
    check: CheckId,
    ping: &Ping,
    duration: Option<Span>,
    version: Version,
    site: &Site,
) -> Value {
    let kind = match ping.kind {
        Kind::Success => "success",
        Kind::Start => "start",
        Kind::Fail => "fail",
        // Clients of the protocol know no sign of life; it is a line in the log.
        Kind::Log | Kind::Alive => "log",
        Kind::Ignored => "ign",
    };
    let body_url = (ping.body_bytes > 0).then(|| {
        format!(
            "{}/api/v{}/checks/{check}/pings/{}/body",
            site.url, version as u8, ping.n
        )
    });
    let mut shown = json!({
        "type": kind,
        "date": ping.at.to_rfc3339_micros(),
        "n": ping.n,
        "scheme": ping.scheme,
        "remote_addr": ping.remote_addr,
        "method": ping.method,
        "ua": ping.user_agent,
        "rid": ping.rid.map(|rid| rid.hyphenated().to_string()),
        "body_url": body_url,
    });
    if let Some(duration) = duration {
        let hundredths = (duration.as_micros() as f64 / 10_000.0).round();
        shown["duration"] = json!(hundredths / 100.0);
    }
    shown
}

/// A flip as the API shows it: anything but up counts as not up.
pub(crate) fn flip(flip: &Flip) -> Value {
    let up = u8::from(flip.to == allswell_core::check::Status::Up);
    json!({ "timestamp": flip.at.to_rfc3339_secs(), "up": up })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unique_key_is_that_of_healthchecks() {
        // sha1("5e3f9a1c0b7d4c52"), by coreutils' sha1sum.
        let id: CheckId = "5e3f9a1c-0b7d-4c52-9d3a-6f1e2b8c4a70".parse().expect("an id");
        assert_eq!(unique_key(id), "48cd3204010fddc1c32625536e2fe3ee4da8474c");
    }
}
