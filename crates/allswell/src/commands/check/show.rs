//! `allswell check list` and `allswell check show`: how checks fare, told to people and to scripts.

use allswell_core::check::{Check, Settings, Shown, Status, TimingKind};
use allswell_core::flip::Flip;
use allswell_core::id::{ChannelId, ProjectId};
use allswell_core::schedule::{Schedule, Zones};
use allswell_core::time::Timestamp;
use allswell_engine::record;
use anyhow::Result;
use serde_json::{Value, json};

use super::told::{self, FIRST_PING, Told};
use super::{not_here, ping, rules};
use crate::cli::OneCheck;
use crate::commands::{Answer, printable, scope_of, table};
use crate::config::Config;
use crate::house;

/// Rows of each kind of history that `check show` prints.
const HISTORY: i64 = 20;

/// When its pause ends by itself, if it does.
fn paused_until(check: &Check) -> Option<Timestamp> {
    check
        .state
        .paused_until
        .filter(|_| check.state.status == Status::Paused)
}

/// The same in words that follow a status.
pub fn until_words(check: &Check) -> String {
    paused_until(check).map_or_else(String::new, |until| format!(" until {}", until.floor_secs()))
}

/// Since when a check is what is shown of it: what time alone made of it has no flip yet.
fn shown_since(check: &Check, now: Timestamp, zones: &Zones) -> (Shown, Timestamp) {
    let (state, plan) = (&check.state, record::plan_to_show(check, zones));
    let shown = state.shown_at(&plan, now);
    let by_time = match shown {
        Shown::Late => state.expected(&plan),
        Shown::Down if state.status != Status::Down => state.deadline(&plan),
        _ => None,
    };
    (shown, by_time.unwrap_or(state.status_since))
}

/// A check in JSON, with what is set on it and whom it tells.
pub fn summary(check: &Check, told: &[Told], now: Timestamp, zones: &Zones) -> Value {
    let plan = record::plan_to_show(check, zones);
    let (state, settings) = (&check.state, &check.settings);
    let (shown, since) = shown_since(check, now, zones);
    let instant = |at: Option<Timestamp>| at.map(|at| at.to_string());
    let (timing, filters) = (&settings.timing, &settings.filters);
    json!({
        "id": check.id.to_string(),
        "name": settings.name,
        "slug": settings.slug,
        "tags": settings.tag_list(),
        "description": settings.description,
        "status": shown.word(),
        "since": since.to_string(),
        "awaits_first_ping": told::awaits_first_ping(check, zones),
        "paused_until": instant(paused_until(check)),
        "last_ping": instant(state.last_ping),
        "last_start": instant(state.last_start),
        "last_success": instant(state.last_success),
        "next_ping": instant(state.next_ping_at(&plan, now)),
        "deadline": instant(state.deadline(&plan)),
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
        "channels": told.iter().map(Told::value).collect::<Vec<_>>(),
        "pings": state.ping_count,
        "rules": settings.rules.shown(),
        "pings_not_kept": state.not_kept,
    })
}

/// `allswell check list`
pub async fn list(config: &Config, answer: Answer, project: ProjectId) -> Result<()> {
    let house = house::open(config).await?;
    let (checks, pairs, channels) = house
        .store
        .read(async move |reader| {
            let scope = scope_of(reader, project).await?;
            Ok::<_, anyhow::Error>((
                reader.checks(scope).await?,
                reader.check_channels_of_project(scope).await?,
                told::channels(reader, scope).await?,
            ))
        })
        .await?;
    let told = |check: &Check| {
        // Sorted by check.
        let begin = pairs.partition_point(|(id, _)| *id < check.id);
        let ids = pairs[begin..].iter().take_while(|(id, _)| *id == check.id);
        let channel = |id: ChannelId| channels.iter().find(|channel| channel.id == id).cloned();
        ids.filter_map(|(_, id)| channel(*id)).collect::<Vec<_>>()
    };
    let shown: Vec<Value> = checks
        .iter()
        .map(|check| summary(check, &told(check), house.now, &house.zones))
        .collect();
    let lines = if checks.is_empty() {
        "No check yet. `allswell check create` makes one.\n".to_owned()
    } else {
        table(
            ["id", "status", "last ping", "expected", "down at", "slug", "name"],
            checks.iter().map(|check| row(check, house.now, &house.zones)),
        )
    };
    answer.give(&json!({ "checks": shown }), &lines)
}

fn row(check: &Check, now: Timestamp, zones: &Zones) -> [String; 7] {
    let (state, plan) = (&check.state, record::plan_to_show(check, zones));
    let instant = |at: Option<Timestamp>| at.map_or_else(String::new, |at| at.floor_secs().to_string());
    let shown = state.shown_at(&plan, now);
    // Of one that is down already nothing is to come.
    let to_come = |at: Option<Timestamp>| instant(at.filter(|_| shown != Shown::Down));
    [
        check.id.to_string(),
        shown.word().to_owned(),
        instant(state.last_ping),
        to_come(state.expected(&plan)),
        to_come(state.deadline(&plan)),
        printable(&check.settings.slug),
        printable(&check.settings.name),
    ]
}

/// What a check is, since when and why: of one that is late or down by time alone by its times, else by its last flip.
fn standing(check: &Check, newest: Option<&Flip>, now: Timestamp, zones: &Zones) -> String {
    let (state, plan) = (&check.state, record::plan_to_show(check, zones));
    let (shown, since) = shown_since(check, now, zones);
    let (since, word) = (since.floor_secs(), shown.word());
    let deadline = state.deadline(&plan).map(Timestamp::floor_secs);
    let because = newest.map_or_else(String::new, |flip| {
        format!("because {}\n", printable(&flip.reason.sentence()))
    });
    let before = || {
        let (was, from) = (state.status.word(), state.status_since.floor_secs());
        format!("before that {was} since {from} {because}")
    };
    match (shown, deadline) {
        (Shown::Late, Some(deadline)) => {
            format!(
                "is late since {since}: expected then, goes down at {deadline}\n{}",
                before()
            )
        }
        (Shown::Down, Some(_)) if state.status != Status::Down => {
            format!("is down since {since}: nothing was heard by then\n{}", before())
        }
        (_, deadline) => {
            let mut lines = format!("is {word} since {since}{}\n{because}", until_words(check));
            if told::awaits_first_ping(check, zones) {
                lines.push_str(&format!("{FIRST_PING}\n"));
            }
            if let Some(at) = deadline {
                let expected = state
                    .expected(&plan)
                    .map_or_else(String::new, |at| format!("expected at {}; ", at.floor_secs()));
                lines.push_str(&format!("{expected}goes down if nothing is heard by {at}\n"));
            }
            lines
        }
    }
}

/// What is set on a check, a line for each.
fn settings_words(settings: &Settings, zones: &Zones) -> String {
    let (timing, grace, filters) = (&settings.timing, settings.grace, &settings.filters);
    let schedule = match timing.kind {
        TimingKind::Period => format!("a ping each {}", timing.period),
        TimingKind::Expression => {
            let parsed = Schedule::parse_with(&timing.expression, &timing.zone, zones).ok();
            let words = parsed.map_or_else(String::new, |schedule| format!(" ({})", schedule.describe()));
            let (expression, zone) = (printable(&timing.expression), printable(&timing.zone));
            format!("{expression} in {zone}{words}")
        }
    };
    let mut lines = format!("schedule: {schedule}; grace {grace}\n");
    let mut line = |name: &str, text: &str| {
        if !text.is_empty() {
            lines.push_str(&format!("{name}: {}\n", printable(text)));
        }
    };
    line("slug", &settings.slug);
    line("tags", &settings.tag_list().join(" "));
    line("description", &settings.description);
    if filters.http_body {
        line("in the body, start", &filters.start_keywords);
        line("in the body, success", &filters.success_keywords);
        line("in the body, failure", &filters.failure_keywords);
        let otherwise = if filters.default_fail {
            "failure"
        } else {
            "ignored"
        };
        line("in the body, none of these", otherwise);
    }
    if filters.post_only {
        line("counts", "POST alone");
    }
    if filters.manual_resume {
        line("once paused", "ignores pings until somebody resumes it");
    }
    for rule in rules::words(&settings.rules) {
        line("rule", &rule);
    }
    lines
}

/// `allswell check show`
pub async fn show(config: &Config, answer: Answer, one: OneCheck) -> Result<()> {
    let house = house::open(config).await?;
    let (project, id) = (one.project, one.check);
    let (check, pings, flips, incidents, deliveries, (told, channels)) = house
        .store
        .read(async move |reader| {
            let scope = scope_of(reader, project).await?;
            let check = reader
                .check(scope, id)
                .await?
                .ok_or_else(|| not_here(id, project))?;
            let pings = reader.pings(scope, id, HISTORY).await?;
            let flips = reader.flips(scope, id, HISTORY).await?;
            let incidents = reader.incidents(scope, id, HISTORY).await?;
            let deliveries = reader.deliveries(scope, id, HISTORY).await?;
            let (told, channels) = (told::by(reader, scope, id).await?, reader.channels(scope).await?);
            Ok::<_, anyhow::Error>((check, pings, flips, incidents, deliveries, (told, channels)))
        })
        .await?;
    let channel_name = |id: ChannelId| {
        let channel = channels.iter().find(|channel| channel.id == id);
        channel.map_or_else(|| id.to_string(), |channel| channel.name.clone())
    };
    let ping_url = format!("{}/ping/{id}", config.site_url.as_str());

    let mut value = summary(&check, &told, house.now, &house.zones);
    // When the sweep looks at it: at the deadline or before, since a ping that only moves it away leaves it be.
    value["wake_up"] = json!(check.deadline.map(|at| at.to_string()));
    value["ping_url"] = json!(ping_url);
    // The reason stored with the last change; a check that nobody has heard of has none.
    value["reason"] = json!(flips.first().map(|flip| flip.reason.sentence()));
    value["history"] = json!({
        "flips": flips.iter().map(|flip| json!({
            "seq": flip.seq, "at": flip.at.to_string(), "from": flip.from.word(), "to": flip.to.word(),
            "expected_at": flip.expected_at.map(|at| at.to_string()),
            "code": flip.reason.to_parts().0, "reason": flip.reason.sentence(),
        })).collect::<Vec<_>>(),
        "incidents": incidents.iter().map(|incident| json!({
            "opened_at": incident.opened_at.to_string(),
            "closed_at": incident.closed_at.map(|at| at.to_string()),
        })).collect::<Vec<_>>(),
        "pings": pings.iter().map(ping::document).collect::<Vec<_>>(),
        "deliveries": deliveries.iter().map(|delivery| json!({
            "id": delivery.id.to_string(), "channel": channel_name(delivery.channel), "flip": delivery.flip_seq,
            "state": delivery.state, "attempts": delivery.attempts, "outcome": delivery.last_outcome,
            "finished_at": delivery.finished_at.map(|at| at.to_string()),
        })).collect::<Vec<_>>(),
    });

    let state = &check.state;
    let mut lines = format!("{} ({id})\n", printable(&check.settings.name));
    lines.push_str(&standing(&check, flips.first(), house.now, &house.zones));
    if let Some(at) = state.last_start {
        lines.push_str(&format!("a run is open since {}\n", at.floor_secs()));
    }
    if let Some(at) = state.last_success {
        lines.push_str(&format!("last success at {}\n", at.floor_secs()));
    }
    lines.push_str(&settings_words(&check.settings, &house.zones));
    let names: Vec<String> = told.iter().map(Told::words).collect();
    lines.push_str(&match names.as_slice() {
        [] => format!(
            "tells nobody; this attaches a channel: allswell check update --project {project} {id} --add-channel CHANNEL\n"
        ),
        names => format!("tells: {}\n", names.join(", ")),
    });
    lines.push_str(&format!("ping it at {ping_url}\n"));
    section(
        &mut lines,
        "Flips",
        flips.iter().map(|flip| {
            let (at, sentence) = (flip.at.floor_secs(), printable(&flip.reason.sentence()));
            format!("{at}  {} → {}: {sentence}", flip.from.word(), flip.to.word())
        }),
    );
    let bodies = pings.iter().any(|ping| ping.body_bytes > 0);
    let title = if bodies {
        "Pings, newest first (`allswell check ping` shows the body of one)"
    } else {
        "Pings, newest first"
    };
    titled(&mut lines, title, pings.iter().map(ping::line));
    if state.not_kept > 0 {
        lines.push_str(&format!(
            "\n{} further pings came beyond limits.ping_per_check: they count and are not in the log\n",
            state.not_kept
        ));
    }
    section(
        &mut lines,
        "Deliveries",
        deliveries.iter().map(|delivery| {
            let outcome = delivery.last_outcome.as_deref().unwrap_or("not tried yet");
            let name = printable(&channel_name(delivery.channel));
            format!(
                "{}  to {name} for flip {}: {}, {outcome}",
                delivery.created_at.floor_secs(),
                delivery.flip_seq,
                delivery.state
            )
        }),
    );
    answer.give(&value, &lines)
}

fn section(lines: &mut String, title: &str, rows: impl Iterator<Item = String>) {
    titled(lines, &format!("{title}, newest first"), rows);
}

fn titled(lines: &mut String, title: &str, rows: impl Iterator<Item = String>) {
    let rows: Vec<String> = rows.collect();
    if !rows.is_empty() {
        lines.push_str(&format!("\n{title}\n"));
        rows.iter().for_each(|row| lines.push_str(&format!("  {row}\n")));
    }
}

#[cfg(test)]
mod tests {
    use allswell_core::chance::Dice;
    use allswell_core::check::State;
    use allswell_core::flip::Reason;
    use allswell_core::time::Span;

    use super::*;

    const MINUTE: i64 = 60;

    fn at(secs: i64) -> Timestamp {
        Timestamp::from_secs(secs)
    }

    /// Up since 6 s past midnight, with a period and a grace of a minute.
    fn check(status: Status) -> Check {
        let mut dice = Dice::from_seed([7; 32]);
        let mut settings = Settings {
            grace: Span::from_secs(MINUTE),
            ..Settings::default()
        };
        settings.timing.period = Span::from_secs(MINUTE);
        Check {
            id: dice.id(),
            project: dice.id(),
            badge: dice.id(),
            settings,
            state: State {
                status,
                last_ping: (status == Status::Up).then(|| at(6)),
                ..State::new(at(6))
            },
            deadline: None,
            version: 1,
            created_at: at(0),
        }
    }

    #[test]
    fn a_late_check_is_late_since_it_was_expected() {
        let up = Flip {
            seq: 1,
            at: at(6),
            from: Status::New,
            to: Status::Up,
            expected_at: None,
            reason: Reason::Resumed,
        };
        let why = up.reason.sentence();
        for (secs, said) in [
            (
                65,
                format!(
                    "is up since 1970-01-01T00:00:06Z\nbecause {why}\nexpected at 1970-01-01T00:01:06Z; goes down if nothing is \
                     heard by 1970-01-01T00:02:06Z\n"
                ),
            ),
            (
                116,
                format!(
                    "is late since 1970-01-01T00:01:06Z: expected then, goes down at 1970-01-01T00:02:06Z\nbefore that up since \
                     1970-01-01T00:00:06Z because {why}\n"
                ),
            ),
            (
                126,
                format!(
                    "is down since 1970-01-01T00:02:06Z: nothing was heard by then\nbefore that up since 1970-01-01T00:00:06Z \
                     because {why}\n"
                ),
            ),
        ] {
            let check = check(Status::Up);
            assert_eq!(
                standing(&check, Some(&up), at(secs), &Zones::Bundled),
                said,
                "{secs}"
            );
            let value = summary(&check, &[], at(secs), &Zones::Bundled);
            let since = format!("since {},", value["since"].as_str().expect("since"));
            let first = said.replace(['\n', ':'], ",");
            assert!(first.contains(&since.replace(':', ",")), "{since} {first}");
        }
    }

    #[test]
    fn a_check_that_was_never_heard_of_says_that_nobody_is_told() {
        for (status, waits) in [(Status::New, true), (Status::Paused, false)] {
            let check = check(status);
            let said = standing(&check, None, at(10_000), &Zones::Bundled);
            assert_eq!(said.contains(FIRST_PING), waits, "{said}");
            let value = summary(&check, &[], at(10_000), &Zones::Bundled);
            assert_eq!(value["awaits_first_ping"], waits);
        }
        // A pause that ended by itself has set its expectation, and an open run too.
        let mut resumed = check(Status::New);
        resumed.state.paused_until = Some(at(6));
        let mut started = check(Status::New);
        started.state.last_start = Some(at(6));
        for expected in [resumed, started] {
            assert!(!told::awaits_first_ping(&expected, &Zones::Bundled));
        }
    }

    #[test]
    fn what_is_set_is_said_in_lines_that_move_no_cursor() {
        let mut check = check(Status::New);
        let plain = settings_words(&check.settings, &Zones::Bundled);
        assert_eq!(plain, "schedule: a ping each 1 min; grace 1 min\n");
        let settings = &mut check.settings;
        settings.tags = "prod \u{1b}[2J prod".to_owned();
        settings.timing.kind = TimingKind::Expression;
        settings.timing.expression = "5 3 * * 1-5".to_owned();
        settings.timing.zone = "Europe/Riga".to_owned();
        settings.filters.http_body = true;
        settings.filters.success_keywords = "done".to_owned();
        let words = settings_words(settings, &Zones::Bundled);
        for line in [
            "schedule: 5 3 * * 1-5 in Europe/Riga (at 03:05 on weekdays); grace 1 min\n",
            "tags: prod \\u{1b}[2J\n",
            "in the body, success: done\n",
            "in the body, none of these: ignored\n",
        ] {
            assert!(words.contains(line), "{line}: {words}");
        }
    }
}
