//! `allswell channel`

use allswell_core::id::{ChannelId, ProjectId};
use allswell_integrations::Kind;
use allswell_store::channels::Channel;
use anyhow::{Result, anyhow, bail};
use serde_json::json;

use super::{Answer, name_for_people, operators_act, printable, scope_of};
use crate::config::Config;
use crate::house;

/// `allswell channel create`
pub async fn create(
    config: &Config,
    answer: Answer,
    project: ProjectId,
    kind: &str,
    name: String,
    fields: &[String],
) -> Result<()> {
    let known = || Kind::ALL.map(Kind::word).join(", ");
    let kind = Kind::from_word(kind).ok_or_else(|| anyhow!("--kind: {kind:?} is not one of {}", known()))?;
    if let Some(field) = fields.first() {
        let field = field.split('=').next().unwrap_or_default();
        bail!(
            "--set {field}: a channel of the kind {} has no fields",
            kind.word()
        );
    }
    let name = name_for_people("--name", &name)?;
    let mut house = house::open(config).await?;
    let (now, mut dice) = (house.now, house.dice.fork());
    let id: ChannelId = house.dice.id();
    let channel = Channel {
        id,
        kind: kind.word().to_owned(),
        name: name.clone(),
        tells_down: kind.sends(),
        tells_up: kind.sends(),
        created_at: now,
    };
    house
        .store
        .write(async move |tx| {
            let scope = scope_of(tx, project).await?;
            tx.channel_insert(scope, &channel, b"{}", &mut dice).await?;
            let act = operators_act(now, Some(project), "channel.create", format!("channel:{id}"));
            tx.audit(dice.id_at(now), &act).await?;
            Ok::<_, anyhow::Error>(())
        })
        .await?;
    answer.give(
        &json!({ "id": id.to_string(), "kind": kind.word(), "name": name }),
        &format!("Channel {id}\nChecks tell it once it is assigned: `allswell check create --channel {id}`, or the API.\n"),
    )
}

/// `allswell channel list`
pub async fn list(config: &Config, answer: Answer, project: ProjectId) -> Result<()> {
    let house = house::open(config).await?;
    let channels = house
        .store
        .read(async move |reader| {
            let scope = scope_of(reader, project).await?;
            Ok::<_, anyhow::Error>(reader.channels(scope).await?)
        })
        .await?;
    let shown: Vec<_> = channels
        .iter()
        .map(|channel| json!({ "id": channel.id.to_string(), "kind": channel.kind, "name": channel.name }))
        .collect();
    let lines: String = match channels.as_slice() {
        [] => "No channel yet. `allswell channel create` makes one.\n".to_owned(),
        some => some
            .iter()
            .map(|channel| {
                format!(
                    "{}  {:8}  {}\n",
                    channel.id,
                    channel.kind,
                    printable(&channel.name)
                )
            })
            .collect(),
    };
    answer.give(&json!({ "channels": shown }), &lines)
}
