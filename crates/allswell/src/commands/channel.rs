//! `allswell channel`

mod input;

use std::collections::HashSet;
use std::time::Duration;

use allswell_core::check::Status;
use allswell_core::exchange::Class;
use allswell_core::id::{ChannelId, ProjectId};
use allswell_core::scope::ProjectScope;
use allswell_core::secret::Secret;
use allswell_core::time::Timestamp;
use allswell_engine::channels::{self, Errand, Made, Refused};
use allswell_store::outbox::End;
use anyhow::{Result, anyhow, bail};
use serde_json::{Value, json};

use super::{Answer, Faulty, delivery as deliveries, printable, scope_of};
use crate::cli::{self, ChannelCommand, CreateChannel, EditChannel, OneChannel};
use crate::config::Config;
use crate::{house, outward, system};

/// How long to wait before looking again whether a test has ended, and how often to look: 40 s, longer than an attempt
/// may take.
const TEST_LOOK: Duration = Duration::from_millis(100);
const TEST_LOOKS_MAX: u32 = 400;

/// `allswell channel`
pub async fn run(config: &Config, answer: Answer, command: ChannelCommand) -> Result<()> {
    match command {
        ChannelCommand::Create(flags) => create(config, answer, *flags).await,
        ChannelCommand::List { project } => list(config, answer, project).await,
        ChannelCommand::Show(one) => show(config, answer, &one).await,
        ChannelCommand::Edit(flags) => edit(config, answer, *flags).await,
        ChannelCommand::Test { channel, status } => test(config, answer, &channel, status).await,
        ChannelCommand::RotateSecret {
            channel,
            overlap,
            secret_file,
        } => {
            let secret = secret_file.as_deref().map(input::first_line).transpose()?;
            rotate(config, answer, &channel, secret, overlap).await
        }
        ChannelCommand::Delete(one) => delete(config, answer, &one).await,
    }
}

/// An errand of whoever runs the binary.
pub(super) fn errand(scope: ProjectScope, now: Timestamp) -> Errand {
    Errand {
        scope,
        actor: "operator".to_owned(),
        now,
    }
}

/// Why nothing was changed, field by field.
pub(super) fn said(refused: Refused) -> anyhow::Error {
    let Refused::Faults(faults) = refused else {
        return anyhow!("{refused}");
    };
    Faulty(faults).into()
}

/// The rules of a server of this configuration.
fn rules(config: &Config) -> Result<channels::Rules> {
    let door = outward::client(config, &outward::ports_of(config))?;
    Ok(house::channel_rules(config, door.policy(Class::Webhook)))
}

async fn create(config: &Config, answer: Answer, flags: CreateChannel) -> Result<()> {
    let mut fields = input::fields(&flags.webhook, input::Has::default())?;
    let kind = flags.kind_word.or(flags.kind).unwrap_or_default();
    fields.insert("kind".to_owned(), kind.into());
    fields.insert("name".to_owned(), flags.name.into());
    let fields = Value::Object(fields);
    let (project, rules) = (flags.project, rules(config)?);
    let mut house = house::open(config).await?;
    let (now, mut dice) = (house.now, house.dice.fork());
    let made = house
        .store
        .write(async move |tx| {
            let errand = errand(scope_of(tx, project).await?, now);
            channels::create(tx, &errand, &rules, &fields, &mut dice)
                .await
                .map_err(said)
        })
        .await?;
    let id = made.channel.id;
    let next = format!(
        "Checks tell it once it is attached: allswell check update --project {project} CHECK --add-channel {id}\n"
    );
    give(answer, &made, &format!("Channel {id}\n"), &next)
}

async fn edit(config: &Config, answer: Answer, flags: EditChannel) -> Result<()> {
    let before = document_of(config, flags.channel.project, flags.channel.channel).await?;
    let has = input::Has {
        down: before["down"].is_object(),
        up: before["up"].is_object(),
    };
    let fields = Value::Object(input::patch(&flags, has)?);
    let (OneChannel { project, channel }, rules) = (flags.channel, rules(config)?);
    let mut house = house::open(config).await?;
    let (now, mut dice) = (house.now, house.dice.fork());
    let made = house
        .store
        .write(async move |tx| {
            let errand = errand(scope_of(tx, project).await?, now);
            channels::edit(tx, &errand, &rules, channel, &fields, &mut dice)
                .await
                .map_err(said)
        })
        .await?;
    give(answer, &made, "Changed.\n", "")
}

async fn rotate(
    config: &Config,
    answer: Answer,
    one: &OneChannel,
    secret: Option<Secret<String>>,
    overlap_hours: i64,
) -> Result<()> {
    let mut house = house::open(config).await?;
    let (now, mut dice, OneChannel { project, channel }) = (house.now, house.dice.fork(), one.clone());
    let made = house
        .store
        .write(async move |tx| {
            let errand = errand(scope_of(tx, project).await?, now);
            channels::rotate(tx, &errand, channel, secret, overlap_hours, &mut dice)
                .await
                .map_err(said)
        })
        .await?;
    let both_sign = made.document["signing"]["secrets"]
        .as_array()
        .is_some_and(|all| all.len() > 1);
    let lines = if both_sign {
        format!("The old secret signs beside the new one for {overlap_hours} h.\n")
    } else {
        "The old secret signs no more.\n".to_owned()
    };
    give(answer, &made, &lines, "")
}

/// Writes the test down, as the server's own page would, and waits for what the running server made of it.
async fn test(config: &Config, answer: Answer, one: &OneChannel, status: cli::Status) -> Result<()> {
    let mut house = house::open(config).await?;
    let (now, mut dice, OneChannel { project, channel }) = (house.now, house.dice.fork(), one.clone());
    let status = match status {
        cli::Status::Down => Status::Down,
        cli::Status::Up => Status::Up,
    };
    let (scope, id) = house
        .store
        .write(async move |tx| {
            let scope = scope_of(tx, project).await?;
            let id = channels::test(tx, &errand(scope, now), channel, status, &mut dice)
                .await
                .map_err(said)?;
            Ok::<_, anyhow::Error>((scope, id))
        })
        .await?;
    let mut ended = None;
    for _ in 0..TEST_LOOKS_MAX {
        let delivery = house
            .store
            .read(async move |reader| reader.delivery(scope, id).await)
            .await?;
        ended = delivery.filter(|delivery| delivery.finished_at.is_some());
        if ended.is_some() {
            break;
        }
        system::pause(TEST_LOOK).await;
    }
    let Some(delivery) = ended else {
        bail!(
            "no server sent the test: is `allswell serve` running? It is tried for a minute, as delivery {id}"
        );
    };
    let attempts = house
        .store
        .read(async move |reader| reader.attempts_whole(scope, id).await)
        .await?;
    let outcome = delivery.last_outcome.unwrap_or_default();
    let tries: Vec<Value> = attempts.iter().map(deliveries::attempt).collect();
    let value = json!({
        "delivery": id.to_string(), "state": delivery.state, "outcome": outcome, "attempts": delivery.attempts,
        "tries": tries,
    });
    let mut lines = if outcome == delivery.state {
        format!("{outcome}\n")
    } else {
        format!("{}: {}\n", delivery.state, printable(&outcome))
    };
    lines.extend(
        attempts
            .iter()
            .map(|attempt| said_once(&deliveries::attempt_lines(attempt))),
    );
    answer.give(&value, &lines)?;
    if delivery.state == End::Delivered.word() {
        Ok(())
    } else {
        bail!("the test was not delivered")
    }
}

/// What is said of an attempt, without what says again what stands above it: a refusal bears its sentence in two fields.
fn said_once(lines: &str) -> String {
    let mut said = HashSet::new();
    let text = |line: &str| {
        line.trim()
            .split_once(": ")
            .map_or_else(String::new, |(_, text)| text.to_owned())
    };
    let kept = lines.lines().filter(|line| said.insert(text(line)));
    kept.map(|line| format!("{line}\n")).collect()
}

async fn delete(config: &Config, answer: Answer, one: &OneChannel) -> Result<()> {
    let mut house = house::open(config).await?;
    let (now, mut dice, OneChannel { project, channel }) = (house.now, house.dice.fork(), one.clone());
    house
        .store
        .write(async move |tx| {
            let errand = errand(scope_of(tx, project).await?, now);
            channels::delete(tx, &errand, channel, &mut dice)
                .await
                .map_err(said)
        })
        .await?;
    answer.give(&json!({ "id": channel.to_string() }), "Deleted.\n")
}

/// Prints a channel that was made or changed, with its secret if there is a new one.
fn give(answer: Answer, made: &Made, before: &str, after: &str) -> Result<()> {
    let mut value = made.document.clone();
    let mut lines = before.to_owned();
    if let Some(secret) = &made.secret {
        value["secret"] = secret.reveal().as_str().into();
        lines.push_str(&format!(
            "Signing secret {}\nThis is the only time the secret is shown. docs/webhooks.md says how receivers verify.\n",
            secret.reveal()
        ));
    }
    let shown = |(field, warning): &(&'static str, channels::Warning)| json!({ "field": field, "rule": warning.code(), "detail": warning.sentence() });
    value["warnings"] = made.warnings.iter().map(shown).collect();
    for (field, warning) in &made.warnings {
        lines.push_str(&format!("Note on {field}: {}\n", warning.sentence()));
    }
    lines.push_str(after);
    answer.give(&value, &lines)
}

async fn documents(config: &Config, project: ProjectId) -> Result<Vec<Value>> {
    let house = house::open(config).await?;
    let now = house.now;
    house
        .store
        .read(async move |reader| {
            let scope = scope_of(reader, project).await?;
            Ok::<_, anyhow::Error>(channels::documents(reader, scope, now).await?)
        })
        .await
}

async fn list(config: &Config, answer: Answer, project: ProjectId) -> Result<()> {
    let documents = documents(config, project).await?;
    let text = |value: &Value| printable(value.as_str().unwrap_or_default());
    let line = |channel: &Value| {
        let urls: Vec<String> = ["down", "up"]
            .iter()
            .filter_map(|call| Some(format!("  {call} {}", text(channel.get(call)?.get("url")?))))
            .collect();
        let (id, kind, name) = (
            text(&channel["id"]),
            text(&channel["kind"]),
            text(&channel["name"]),
        );
        let since = |key: &str| Timestamp::parse_rfc3339(channel[key].as_str()?).map(Timestamp::floor_secs);
        let error = text(&channel["last_error"]);
        let trouble = match (since("disabled_at"), since("failing_since")) {
            (Some(at), _) => format!(
                "  switched off {at}: {}, {error}",
                text(&channel["disabled_reason"])
            ),
            (None, Some(at)) => format!("  failing since {at}: {error}"),
            (None, None) => String::new(),
        };
        format!("{id}  {kind:8}  {name}{}{trouble}\n", urls.concat())
    };
    let lines: String = match documents.as_slice() {
        [] => "No channel yet. `allswell channel create` makes one.\n".to_owned(),
        some => some.iter().map(line).collect(),
    };
    answer.give(&json!({ "channels": documents }), &lines)
}

async fn show(config: &Config, answer: Answer, one: &OneChannel) -> Result<()> {
    let document = document_of(config, one.project, one.channel).await?;
    let lines = serde_json::to_string_pretty(&document)?;
    answer.give(&document, &format!("{lines}\n"))
}

async fn document_of(config: &Config, project: ProjectId, channel: ChannelId) -> Result<Value> {
    let id = channel.to_string();
    let documents = documents(config, project).await?;
    let found = documents
        .into_iter()
        .find(|document| document["id"] == id.as_str());
    found
        .ok_or_else(|| anyhow!("the project has no channel {id}; `allswell channel list` shows those it has"))
}
