//! `allswell delivery`: an alert explained, from its flip to what the receiver answered.

use std::fmt::Write;

use allswell_core::exchange::escaped;
use allswell_core::id::{CheckId, DeliveryId, ProjectId};
use allswell_engine::redeliver::{self, Redelivered};
use allswell_store::outbox::{Attempt, Delivery};
use anyhow::{Result, anyhow, bail};
use serde_json::{Value, json};

use super::channel::errand;
use super::{Answer, counted, printable, scope_of};
use crate::cli::{DeliveryCommand, OneDelivery};
use crate::config::Config;
use crate::house;

/// Runs one of the commands.
pub async fn run(config: &Config, answer: Answer, command: DeliveryCommand) -> Result<()> {
    match command {
        DeliveryCommand::List {
            project,
            check,
            count,
        } => list(config, answer, project, check, count).await,
        DeliveryCommand::Show(one) => show(config, answer, one).await,
        DeliveryCommand::Again { delivery, force } => again(config, answer, delivery, force).await,
    }
}

async fn list(
    config: &Config,
    answer: Answer,
    project: ProjectId,
    check: Option<CheckId>,
    count: i64,
) -> Result<()> {
    let house = house::open(config).await?;
    let deliveries = house
        .store
        .read(async move |reader| {
            let scope = scope_of(reader, project).await?;
            let found = match check {
                Some(check) => reader.deliveries(scope, check, count).await?,
                None => reader.deliveries_of_project(scope, count).await?,
            };
            Ok::<_, anyhow::Error>(found)
        })
        .await?;
    let mut lines = String::new();
    for delivery in &deliveries {
        writeln!(lines, "{}", line(delivery))?;
    }
    answer.give(&deliveries.iter().map(document).collect::<Value>(), &lines)
}

fn line(delivery: &Delivery) -> String {
    let what = delivery.check.map_or_else(
        || delivery.class.word().to_owned(),
        |check| format!("flip {} of check {check}", delivery.flip_seq),
    );
    format!(
        "{}  {}  {:<10}  {}  {what} to channel {}  {}",
        delivery.id,
        delivery.created_at.floor_secs(),
        delivery.state,
        counted(i64::try_from(delivery.attempts).unwrap_or(i64::MAX), "attempt"),
        delivery.channel,
        printable(delivery.last_outcome.as_deref().unwrap_or_default())
    )
}

fn document(delivery: &Delivery) -> Value {
    let is_open = delivery.finished_at.is_none();
    json!({
        "id": delivery.id.to_string(),
        "check": delivery.check.map(|check| check.to_string()),
        "flip": delivery.check.map(|_| delivery.flip_seq),
        "channel": delivery.channel.to_string(),
        "class": delivery.class.word(),
        "state": delivery.state,
        "attempts": delivery.attempts,
        "created_at": delivery.created_at.to_rfc3339_micros(),
        "next_at": is_open.then(|| delivery.next_at.to_rfc3339_micros()),
        "expires_at": delivery.expires_at.to_rfc3339_micros(),
        "finished_at": delivery.finished_at.map(|at| at.to_rfc3339_micros()),
        "last_outcome": delivery.last_outcome,
    })
}

async fn show(config: &Config, answer: Answer, one: OneDelivery) -> Result<()> {
    let house = house::open(config).await?;
    let (project, id) = (one.project, one.delivery);
    let found = house
        .store
        .read(async move |reader| {
            let scope = scope_of(reader, project).await?;
            let Some(delivery) = reader.delivery(scope, id).await? else {
                return Ok(None);
            };
            let flips = reader.delivery_flips_whole(scope, id).await?;
            let attempts = reader.attempts_whole(scope, id).await?;
            Ok::<_, anyhow::Error>(Some((delivery, flips, attempts)))
        })
        .await?;
    let (delivery, flips, attempts) = found.ok_or_else(|| nothing(project, id))?;
    let mut shown = document(&delivery);
    let mut lines = line(&delivery) + "\n";
    shown["flips"] = flips
        .iter()
        .map(|flip| {
            json!({
                "seq": flip.seq,
                "from": flip.from.word(),
                "to": flip.to.word(),
                "at": flip.at.to_rfc3339_micros(),
                "reason": flip.reason.sentence(),
            })
        })
        .collect();
    for flip in &flips {
        let (at, reason) = (flip.at.to_rfc3339_secs(), printable(&flip.reason.sentence()));
        writeln!(lines, "  flip {}: {} at {at}: {reason}", flip.seq, flip.to.word())?;
    }
    shown["tries"] = attempts.iter().map(attempt).collect();
    for attempt in &attempts {
        lines.push_str(&attempt_lines(attempt));
    }
    answer.give(&shown, &lines)
}

fn detail(attempt: &Attempt) -> Value {
    serde_json::from_slice(&attempt.found.detail).unwrap_or(Value::Null)
}

pub(super) fn attempt(attempt: &Attempt) -> Value {
    let found = &attempt.found;
    let phases = found
        .phases
        .as_deref()
        .and_then(|phases| serde_json::from_str::<Value>(phases).ok());
    json!({
        "n": attempt.n,
        "started_at": found.started_at.to_rfc3339_micros(),
        "milliseconds": found.duration.as_micros() / 1_000,
        "outcome": found.outcome,
        "http_status": found.http_status,
        "phases_us": phases,
        "detail": detail(attempt),
    })
}

pub(super) fn attempt_lines(attempt: &Attempt) -> String {
    let found = &attempt.found;
    let status = found
        .http_status
        .map_or_else(String::new, |status| format!(" {status}"));
    let (at, millis) = (
        found.started_at.to_rfc3339_micros(),
        found.duration.as_micros() / 1_000,
    );
    let mut lines = format!(
        "  attempt {}: {at}, {millis} ms, {}{status}\n",
        attempt.n, found.outcome
    );
    if let Value::Object(detail) = detail(attempt) {
        for (name, value) in detail {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            lines.push_str(&format!("    {name}: {}\n", printable(&escaped(text.as_bytes()))));
        }
    }
    lines
}

async fn again(config: &Config, answer: Answer, one: OneDelivery, force: bool) -> Result<()> {
    let mut house = house::open(config).await?;
    let (project, id, now) = (one.project, one.delivery, house.now);
    let mut dice = house.dice.fork();
    let asked = house
        .store
        .write(async move |tx| {
            let errand = errand(scope_of(tx, project).await?, now);
            Ok::<_, anyhow::Error>(redeliver::again(tx, &errand, id, force, &mut dice).await?)
        })
        .await?;
    match asked {
        None => Err(nothing(project, id)),
        Some(Redelivered::StillOpen) => bail!("delivery {id} has not ended: it is tried by itself"),
        Some(Redelivered::NewerDelivered) => bail!(
            "the channel was told of a newer flip of this check, or is about to be: delivery {id} would say what no longer \
             holds (--force sends it all the same)"
        ),
        Some(Redelivered::IsTest) => {
            bail!("delivery {id} was a test of its channel: `allswell channel test` makes another one")
        }
        Some(Redelivered::Yes) => answer.give(
            &json!({ "id": id.to_string() }),
            &format!("Delivery {id} is sent again within a second, by the running server\n"),
        ),
    }
}

fn nothing(project: ProjectId, id: DeliveryId) -> anyhow::Error {
    anyhow!("there is no delivery {id} in project {project}; `allswell delivery list` shows those there are")
}
