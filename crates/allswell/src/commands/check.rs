//! `allswell check`

mod rules;
mod update;

pub use update::update;

use allswell_core::check::{Check, Event, Settings, State, Status, Timing, TimingKind};
use allswell_core::id::{ChannelId, CheckId, ProjectId};
use allswell_core::limits;
use allswell_core::schedule::{Schedule, Zones};
use allswell_core::slug::is_slug;
use allswell_core::time::{Span, Timestamp};
use allswell_engine::record;
use anyhow::{Result, anyhow, bail};
use serde_json::{Value, json};

use super::{Answer, name_for_people, operators_act, printable, scope_of};
use crate::cli::{CheckCommand, OneCheck};
use crate::config::Config;
use crate::{house, tzdata};

/// Rows of each kind of history that `check show` prints.
const HISTORY: i64 = 20;

/// `allswell check create`
pub async fn create(config: &Config, answer: Answer, command: CheckCommand) -> Result<()> {
    let CheckCommand::Create {
        project,
        name,
        slug,
        tags,
        description,
        period,
        schedule,
        tz,
        grace,
        channels,
        rules,
    } = command
    else {
        unreachable!("only called for it");
    };
    let mut settings = Settings {
        name: name_for_people("--name", &name)?,
        slug: checked_slug(slug)?,
        tags: bounded("--tags", tags, limits::TAGS_CHARS_MAX)?,
        description: bounded("--description", description, limits::DESCRIPTION_BYTES_MAX)?,
        timing: timing(period, schedule, &tz, &tzdata::zones(config)?)?,
        grace: Span::from_secs(grace),
        ..Settings::default()
    };
    rules.apply(&mut settings.rules);
    agreeing(&settings)?;
    let mut house = house::open(config).await?;
    let (now, mut dice) = (house.now, house.dice.fork());
    let check = Check {
        id: dice.id(),
        project,
        badge: dice.id(),
        settings,
        state: State::new(now),
        deadline: None,
        version: 1,
        created_at: now,
    };
    let id = check.id;
    let name = check.settings.name.clone();
    house
        .store
        .write(async move |tx| {
            let scope = scope_of(tx, project).await?;
            // Whether one more is allowed is asked and acted upon alone.
            tx.project_lock(scope).await?;
            let (count, limit) = tx.check_quota(scope).await?;
            if count >= limit {
                bail!("the owner of the project has {count} checks, and {limit} are allowed");
            }
            let known: Vec<ChannelId> = tx
                .channels(scope)
                .await?
                .into_iter()
                .map(|channel| channel.id)
                .collect();
            let chosen = chosen_channels(&channels, &known)?;
            tx.check_insert(scope, &check).await?;
            tx.check_set_channels(scope, id, &chosen).await?;
            let act = operators_act(now, Some(project), "check.create", format!("check:{id}"));
            tx.audit(dice.id_at(now), &act).await?;
            Ok(())
        })
        .await?;
    let ping_url = format!("{}/ping/{id}", config.site_url.as_str());
    answer.give(
        &json!({ "id": id.to_string(), "name": name, "ping_url": ping_url }),
        &format!("Check {id}\nPing it with: curl -fsS {ping_url}\n"),
    )
}

/// Refuses rules of which one makes another senseless.
fn agreeing(settings: &Settings) -> Result<()> {
    match settings.rules.contradiction() {
        None => Ok(()),
        Some((_, why)) => bail!("--min-run: {why}"),
    }
}

fn checked_slug(slug: String) -> Result<String> {
    if !is_slug(&slug) {
        bail!("--slug: use lower-case letters, digits, hyphen and underscore");
    }
    bounded("--slug", slug, limits::SLUG_CHARS_MAX)
}

fn bounded(flag: &str, text: String, chars_max: usize) -> Result<String> {
    if text.chars().count() > chars_max {
        bail!("{flag} is longer than {chars_max} characters");
    }
    Ok(text)
}

fn timing(period: i64, schedule: Option<String>, tz: &str, zones: &Zones) -> Result<Timing> {
    let period = Span::from_secs(period);
    let Some(expression) = schedule else {
        return Ok(Timing {
            period,
            ..Timing::default()
        });
    };
    let expression = bounded("--schedule", expression, limits::EXPRESSION_CHARS_MAX)?;
    let zone = zones.canonical(tz).ok_or_else(|| {
        anyhow!("--tz: {tz:?} is not a time zone; zones look like Europe/Riga, and UTC is one too")
    })?;
    Schedule::parse_with(&expression, &zone, zones).map_err(|error| anyhow!("--schedule: {error}"))?;
    Ok(Timing {
        kind: TimingKind::Expression,
        period,
        expression,
        zone: zone.to_string(),
    })
}

fn chosen_channels(wanted: &[String], known: &[ChannelId]) -> Result<Vec<ChannelId>> {
    if wanted.iter().any(|word| word == "all") {
        return Ok(known.to_vec());
    }
    let chosen = wanted.iter().map(|word| {
        let id = word.parse().ok().filter(|id| known.contains(id));
        id.ok_or_else(|| {
            anyhow!("--channel: {word:?} is no channel of this project; `allswell channel list` shows them")
        })
    });
    chosen.collect()
}

/// When its pause ends by itself, if it does.
fn paused_until(check: &Check) -> Option<Timestamp> {
    check
        .state
        .paused_until
        .filter(|_| check.state.status == Status::Paused)
}

fn until_words(check: &Check) -> String {
    paused_until(check).map_or_else(String::new, |until| format!(" until {}", until.floor_secs()))
}

fn summary(check: &Check, now: Timestamp, zones: &Zones) -> Value {
    let plan = record::plan_to_show(check, zones);
    json!({
        "id": check.id.to_string(),
        "name": check.settings.name,
        "slug": check.settings.slug,
        "status": check.state.shown_at(&plan, now).word(),
        "since": check.state.status_since.to_string(),
        "paused_until": paused_until(check).map(|at| at.to_string()),
        "last_ping": check.state.last_ping.map(|at| at.to_string()),
        "last_success": check.state.last_success.map(|at| at.to_string()),
        "next_ping": check.state.next_ping_at(&plan, now).map(|at| at.to_string()),
        "deadline": check.state.deadline(&plan).map(|at| at.to_string()),
        "pings": check.state.ping_count,
        "rules": check.settings.rules.shown(),
        "pings_not_kept": check.state.not_kept,
    })
}

/// `allswell check list`
pub async fn list(config: &Config, answer: Answer, project: ProjectId) -> Result<()> {
    let house = house::open(config).await?;
    let checks = house
        .store
        .read(async move |reader| {
            let scope = scope_of(reader, project).await?;
            Ok::<_, anyhow::Error>(reader.checks(scope).await?)
        })
        .await?;
    let shown: Vec<Value> = checks
        .iter()
        .map(|check| summary(check, house.now, &house.zones))
        .collect();
    let line = |check: &Check| {
        let status = check
            .state
            .shown_at(&record::plan_to_show(check, &house.zones), house.now);
        format!(
            "{}  {:6}  {}\n",
            check.id,
            status.word(),
            printable(&check.settings.name)
        )
    };
    let lines: String = match checks.as_slice() {
        [] => "No check yet. `allswell check create` makes one.\n".to_owned(),
        some => some.iter().map(line).collect(),
    };
    answer.give(&json!({ "checks": shown }), &lines)
}

fn not_here(check: CheckId, project: ProjectId) -> anyhow::Error {
    anyhow!("there is no check {check} in the project {project}; `allswell check list` shows those there are")
}

/// `allswell check show`
pub async fn show(config: &Config, answer: Answer, one: OneCheck) -> Result<()> {
    let house = house::open(config).await?;
    let (project, id) = (one.project, one.check);
    let (check, pings, flips, incidents, deliveries, channels) = house
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
            Ok::<_, anyhow::Error>((
                check,
                pings,
                flips,
                incidents,
                deliveries,
                reader.channels(scope).await?,
            ))
        })
        .await?;
    let channel_name = |id: ChannelId| {
        let channel = channels.iter().find(|channel| channel.id == id);
        channel.map_or_else(|| id.to_string(), |channel| channel.name.clone())
    };

    let mut value = summary(&check, house.now, &house.zones);
    // When the sweep looks at it: at the deadline or before, since a ping that only moves it away leaves it be.
    value["wake_up"] = json!(check.deadline.map(|at| at.to_string()));
    value["ping_url"] = json!(format!("{}/ping/{id}", config.site_url.as_str()));
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
        "pings": pings.iter().map(|ping| json!({
            "n": ping.n, "at": ping.at.to_string(), "kind": format!("{:?}", ping.kind).to_lowercase(),
            "method": ping.method, "from": ping.remote_addr, "user_agent": ping.user_agent,
            "exit_status": ping.exit_status, "body_bytes": ping.body_bytes,
        })).collect::<Vec<_>>(),
        "deliveries": deliveries.iter().map(|delivery| json!({
            "id": delivery.id.to_string(), "channel": channel_name(delivery.channel), "flip": delivery.flip_seq,
            "state": delivery.state, "attempts": delivery.attempts, "outcome": delivery.last_outcome,
            "finished_at": delivery.finished_at.map(|at| at.to_string()),
        })).collect::<Vec<_>>(),
    });

    let state = &check.state;
    let plan = record::plan_to_show(&check, &house.zones);
    let mut lines = format!(
        "{} ({id})\nis {} since {}{}\n",
        printable(&check.settings.name),
        state.shown_at(&plan, house.now).word(),
        state.status_since.floor_secs(),
        until_words(&check)
    );
    if let Some(at) = state.last_success {
        lines.push_str(&format!("last success at {}\n", at.floor_secs()));
    }
    if let Some(flip) = flips.first() {
        lines.push_str(&format!("because {}\n", printable(&flip.reason.sentence())));
    }
    if let Some(at) = state.deadline(&plan) {
        lines.push_str(&format!("goes down if nothing is heard by {}\n", at.floor_secs()));
    }
    for rule in rules::words(&check.settings.rules) {
        lines.push_str(&format!("rule: {rule}\n"));
    }
    lines.push_str(&format!("ping it at {}/ping/{id}\n", config.site_url.as_str()));
    section(
        &mut lines,
        "Flips",
        flips.iter().map(|flip| {
            let (at, sentence) = (flip.at.floor_secs(), printable(&flip.reason.sentence()));
            format!("{at}  {} → {}: {sentence}", flip.from.word(), flip.to.word())
        }),
    );
    section(
        &mut lines,
        "Pings",
        pings.iter().map(|ping| {
            let kind = format!("{:?}", ping.kind).to_lowercase();
            let from = ping.remote_addr.as_deref().unwrap_or("?");
            format!(
                "{}  {:4}  {kind:8} {} from {from}",
                ping.at.floor_secs(),
                ping.n,
                printable(&ping.method)
            )
        }),
    );
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
    let rows: Vec<String> = rows.collect();
    if !rows.is_empty() {
        lines.push_str(&format!("\n{title}, newest first\n"));
        rows.iter().for_each(|row| lines.push_str(&format!("  {row}\n")));
    }
}

/// `allswell check pause`
pub async fn pause(config: &Config, answer: Answer, one: OneCheck, until: Option<String>) -> Result<()> {
    let turn_to = until.map_or(Turn::Pause, Turn::PauseUntil);
    turn(config, answer, one, turn_to, "check.pause").await
}

/// `allswell check resume`
pub async fn resume(config: &Config, answer: Answer, one: OneCheck) -> Result<()> {
    turn(config, answer, one, Turn::Resume, "check.resume").await
}

/// What is to become of a check.
enum Turn {
    Pause,
    /// Until an instant as it was typed.
    PauseUntil(String),
    Resume,
}

/// When a pause ends: an instant, or the next time of that kind in the check's zone. A clock that is set forward over that
/// time goes by the rules of schedules.
fn pause_end(text: &str, zone: &str, now: Timestamp, zones: &Zones) -> Result<Timestamp> {
    let of_day = || {
        let (hours, minutes) = text.split_once(':')?;
        let number = |text: &str| text.parse::<u8>().ok().filter(|_| text.len() <= 2);
        let expression = format!("{} {} * * *", number(minutes)?, number(hours)?);
        Schedule::parse_with(&expression, zone, zones)
            .ok()?
            .next_after(now)
    };
    let until = Timestamp::parse_rfc3339(text).or_else(of_day).ok_or_else(|| {
        anyhow!("--until: {text:?} is neither an instant like 2026-12-01T08:00:00+02:00 nor a time of day like 08:00")
    })?;
    let days = limits::PAUSE_DAYS_MAX;
    if until <= now || until > now + Span::from_days(days) {
        bail!("--until: {text} is not to come, or more than {days} days ahead");
    }
    Ok(until)
}

async fn turn(
    config: &Config,
    answer: Answer,
    one: OneCheck,
    turn_to: Turn,
    action: &'static str,
) -> Result<()> {
    let mut house = house::open(config).await?;
    let (now, mut dice, zones) = (house.now, house.dice.fork(), house.zones.clone());
    let (project, id) = (one.project, one.check);
    let check = house
        .store
        .write(async move |tx| {
            let scope = scope_of(tx, project).await?;
            tx.check_lock(scope, id).await?;
            let mut check = tx.check(scope, id).await?.ok_or_else(|| not_here(id, project))?;
            let event = match turn_to {
                Turn::Pause => Event::Pause,
                Turn::PauseUntil(text) => {
                    let zone = &check.settings.timing.zone;
                    Event::PauseUntil(pause_end(&text, zone, now, &zones)?)
                }
                Turn::Resume if check.state.status != Status::Paused => bail!("check {id} is not paused"),
                Turn::Resume => Event::Resume,
            };
            record::apply_and_save(tx, &mut check, event, now, &mut dice, &zones).await?;
            let act = operators_act(now, Some(project), action, format!("check:{id}"));
            tx.audit(dice.id_at(now), &act).await?;
            Ok(check)
        })
        .await?;
    let status = check.state.status.word();
    let until = until_words(&check);
    answer.give(
        &summary(&check, now, &house.zones),
        &format!("{} is {status}{until}\n", printable(&check.settings.name)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_ends_at_an_instant_or_at_the_next_time_of_day_where_the_check_lives() {
        let instant = |text: &str| Timestamp::parse_rfc3339(text).expect("an instant");
        // Half past seven in the morning in Riga.
        let now = instant("2026-12-01T05:30:00Z");
        let end = |text: &str| pause_end(text, "Europe/Riga", now, &Zones::Bundled);
        for (text, until) in [
            ("08:00", "2026-12-01T06:00:00Z"),
            ("7:30", "2026-12-02T05:30:00Z"),
            ("2026-12-01T08:00:00+02:00", "2026-12-01T06:00:00Z"),
        ] {
            assert_eq!(end(text).expect(text), instant(until), "{text}");
        }
        for text in [
            "",
            "25:00",
            "08:60",
            "8",
            "*:0",
            "08:00:00",
            "008:00",
            "2026-12-01T05:30:00Z",
            "2028-01-01T00:00:00Z",
        ] {
            let refused = end(text).expect_err(text).to_string();
            assert!(refused.starts_with("--until: "), "{text}: {refused}");
        }
    }
}
