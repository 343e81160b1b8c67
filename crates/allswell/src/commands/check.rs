//! `allswell check`

mod ping;
mod rules;
mod show;
mod told;
mod update;

pub use ping::ping;
pub use show::{list, show};
pub use update::update;

use allswell_core::check::{Check, Event, Settings, State, Status, Timing, TimingKind};
use allswell_core::id::{ChannelId, CheckId, ProjectId};
use allswell_core::limits;
use allswell_core::schedule::{Schedule, Zones};
use allswell_core::slug::is_slug;
use allswell_core::time::{Span, Timestamp};
use allswell_engine::record;
use anyhow::{Result, anyhow, bail};
use serde_json::Value;

use self::show::{summary, until_words};
use self::told::{FIRST_PING, Note, Told};
use super::{Answer, name_for_people, operators_act, printable, scope_of};
use crate::cli::{CheckCommand, OneCheck};
use crate::config::Config;
use crate::{house, tzdata};

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
    let (check, told, notes) = house
        .store
        .write(async move |tx| {
            let scope = scope_of(tx, project).await?;
            // Whether one more is allowed is asked and acted upon alone.
            tx.project_lock(scope).await?;
            let (count, limit) = tx.check_quota(scope).await?;
            if count >= limit {
                bail!("the owner of the project has {count} checks, and {limit} are allowed");
            }
            let known = told::channels(tx, scope).await?;
            let chosen = chosen_channels(&channels, &known)?;
            tx.check_insert(scope, &check).await?;
            tx.check_set_channels(scope, id, &chosen).await?;
            let act = operators_act(now, Some(project), "check.create", format!("check:{id}"));
            tx.audit(dice.id_at(now), &act).await?;
            let slug = Note::of_slug(tx, scope, &check).await?;
            let told = told::by(tx, scope, id).await?;
            let nobody = Note::of_nobody(&check, &told, !known.is_empty());
            let notes: Vec<Note> = slug.into_iter().chain(nobody).collect();
            Ok::<_, anyhow::Error>((check, told, notes))
        })
        .await?;
    let ping_url = format!("{}/ping/{id}", config.site_url.as_str());
    let lines = format!("Check {id}\nPing it with: curl -fsS {ping_url}\nIt {FIRST_PING}.\n");
    let mut value = summary(&check, &told, now, &house.zones);
    value["ping_url"] = ping_url.into();
    give_with(answer, value, lines, &notes)
}

/// Answers with what people should know beside it.
fn give_with(answer: Answer, mut value: Value, mut lines: String, notes: &[Note]) -> Result<()> {
    value["warnings"] = notes.iter().map(Note::value).collect();
    lines.extend(notes.iter().map(Note::line));
    answer.give(&value, &lines)
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

fn chosen_channels(wanted: &[String], known: &[Told]) -> Result<Vec<ChannelId>> {
    if wanted.iter().any(|word| word == "all") {
        return Ok(known.iter().map(|channel| channel.id).collect());
    }
    let is_known = |id: &ChannelId| known.iter().any(|channel| channel.id == *id);
    let chosen = wanted.iter().map(|word| {
        let id = word.parse().ok().filter(is_known);
        id.ok_or_else(|| {
            anyhow!("--channel: {word:?} is no channel of this project; `allswell channel list` shows them")
        })
    });
    chosen.collect()
}

fn not_here(check: CheckId, project: ProjectId) -> anyhow::Error {
    anyhow!("there is no check {check} in the project {project}; `allswell check list` shows those there are")
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
    let (check, told) = house
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
            let told = told::by(tx, scope, id).await?;
            Ok::<_, anyhow::Error>((check, told))
        })
        .await?;
    let status = check.state.status.word();
    let mut until = until_words(&check);
    if told::awaits_first_ping(&check, &house.zones) {
        until = format!(" and {FIRST_PING}");
    }
    answer.give(
        &summary(&check, &told, now, &house.zones),
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
