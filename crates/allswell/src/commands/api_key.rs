//! `allswell api-key`

use allswell_core::id::{KeyId, ProjectId};
use allswell_core::key::KeyKind;
use allswell_core::limits::KEY_NETWORKS_MAX;
use allswell_core::secret::Secret;
use allswell_core::time::{Span, Timestamp};
use allswell_store::keys::{Key, NewKey};
use anyhow::{Result, anyhow, bail};
use serde_json::{Value, json};

use super::{Answer, operators_act, printable, scope_of};
use crate::cli::{ApiKeyCommand, OneKey, Scope};
use crate::config::Config;
use crate::house;

/// `allswell api-key create`
pub async fn create(config: &Config, answer: Answer, command: ApiKeyCommand) -> Result<()> {
    let ApiKeyCommand::Create {
        project,
        scope,
        name,
        expires_in,
        networks,
    } = command
    else {
        unreachable!("called with this command only");
    };
    let kind = match scope {
        Scope::ReadWrite => KeyKind::ReadWrite,
        Scope::ReadOnly => KeyKind::ReadOnly,
        Scope::Ping => KeyKind::Ping,
        Scope::Metrics => KeyKind::Metrics,
    };
    let name = if name.is_empty() {
        name
    } else {
        super::name_for_people("--name", &name)?
    };
    if kind == KeyKind::Ping && !networks.is_empty() {
        bail!("--network: jobs ping from where they run; a ping key cannot be bound to networks");
    }
    if networks.len() > KEY_NETWORKS_MAX {
        bail!("--network: a key can be bound to {KEY_NETWORKS_MAX} networks at most");
    }
    let mut house = house::open(config).await?;
    let (now, mut dice) = (house.now, house.dice.fork());
    let made = house
        .store
        .write(async move |tx| {
            let scope = scope_of(tx, project).await?;
            let key = NewKey {
                kind,
                name: &name,
                expires_at: expires_in.map(|days| now + Span::from_days(days)),
                networks: &networks,
            };
            let made = tx.key_insert(scope, &key, &mut dice, now).await?;
            let act = operators_act(now, Some(project), "key.create", format!("key:{}", made.0));
            tx.audit(dice.id_at(now), &act).await?;
            Ok::<_, anyhow::Error>(made)
        })
        .await?;
    show_once(answer, &made, kind)
}

fn show_once(answer: Answer, (id, key): &(KeyId, Secret<String>), kind: KeyKind) -> Result<()> {
    answer.give(
        &json!({ "id": id.to_string(), "key": key.reveal(), "scope": kind.word() }),
        &format!("{}\nThis is the only time the key is shown.\n", key.reveal()),
    )
}

/// `allswell api-key list`
pub async fn list(config: &Config, answer: Answer, project: ProjectId) -> Result<()> {
    let house = house::open(config).await?;
    let keys = house
        .store
        .read(async move |reader| {
            let scope = scope_of(reader, project).await?;
            Ok::<_, anyhow::Error>(reader.keys(scope).await?)
        })
        .await?;
    let shown: Vec<Value> = keys.iter().map(|key| in_json(key, house.now)).collect();
    let lines: String = keys.iter().map(|key| in_a_line(key, house.now)).collect();
    answer.give(&json!({ "keys": shown }), &lines)
}

fn standing(key: &Key, now: Timestamp) -> &'static str {
    match (key.is_good(now), key.revoked_at, key.replaced_by) {
        (true, ..) => "good",
        (false, Some(_), _) => "revoked",
        (false, None, Some(_)) => "replaced",
        (false, None, None) => "expired",
    }
}

fn in_json(key: &Key, now: Timestamp) -> Value {
    let instant = |at: Option<Timestamp>| at.map(|at| at.to_string());
    let networks: Vec<String> = key.networks.iter().map(ToString::to_string).collect();
    json!({
        "id": key.id.to_string(),
        "scope": key.kind.word(),
        "name": key.name,
        "begins": key.lookup,
        "standing": standing(key, now),
        "created_at": key.created_at.to_string(),
        "expires_at": instant(key.expires_at),
        "revoked_at": instant(key.revoked_at),
        "replaced_by": key.replaced_by.map(|id| id.to_string()),
        "last_used_at": instant(key.last_used_at),
        "last_used_from": key.last_used_from,
        "networks": networks,
    })
}

fn in_a_line(key: &Key, now: Timestamp) -> String {
    let mut notes = vec![standing(key, now).to_owned()];
    if let (Some(at), true) = (key.expires_at, key.is_good(now)) {
        notes.push(format!("until {}", at.floor_secs()));
    }
    match (key.last_used_at, &key.last_used_from) {
        (Some(at), Some(from)) => notes.push(format!("used {} from {from}", at.floor_secs())),
        (Some(at), None) => notes.push(format!("used {}", at.floor_secs())),
        // The use of ping keys is not noted.
        (None, _) if key.kind != KeyKind::Ping => notes.push("never used".to_owned()),
        (None, _) => {}
    }
    for network in &key.networks {
        notes.push(format!("only from {network}"));
    }
    format!(
        "{}  {:10}  {}…  {}  {}\n",
        key.id,
        key.kind.word(),
        key.lookup,
        notes.join(", "),
        printable(&key.name)
    )
}

fn no_such_key(one: &OneKey) -> anyhow::Error {
    anyhow!(
        "the project has no key {} that is still good; `allswell api-key list --project {}` shows those there are",
        one.key,
        one.project
    )
}

/// `allswell api-key revoke`
pub async fn revoke(config: &Config, answer: Answer, one: OneKey) -> Result<()> {
    let mut house = house::open(config).await?;
    let (now, mut dice, id) = (house.now, house.dice.fork(), one.key);
    house
        .store
        .write(async move |tx| {
            let scope = scope_of(tx, one.project).await?;
            if !tx.key_revoke(scope, one.key, now).await? {
                return Err(no_such_key(&one));
            }
            let act = operators_act(now, Some(one.project), "key.revoke", format!("key:{}", one.key));
            Ok::<_, anyhow::Error>(tx.audit(dice.id_at(now), &act).await?)
        })
        .await?;
    answer.give(
        &json!({ "id": id.to_string(), "standing": "revoked" }),
        &format!("{id} opens nothing any more.\n"),
    )
}

/// `allswell api-key regenerate`
pub async fn regenerate(config: &Config, answer: Answer, one: OneKey, overlap_hours: i64) -> Result<()> {
    let mut house = house::open(config).await?;
    let (now, mut dice) = (house.now, house.dice.fork());
    let overlap = Span::from_secs(overlap_hours * 3_600);
    let (made, kind) = house
        .store
        .write(async move |tx| {
            let scope = scope_of(tx, one.project).await?;
            let made = tx
                .key_regenerate(scope, one.key, overlap, &mut dice, now)
                .await?
                .ok_or_else(|| no_such_key(&one))?;
            let mut act = operators_act(
                now,
                Some(one.project),
                "key.regenerate",
                format!("key:{}", one.key),
            );
            act.data = format!("key:{}", made.0);
            tx.audit(dice.id_at(now), &act).await?;
            let keys = tx.keys(scope).await?;
            let kind = keys.iter().find(|key| key.id == made.0).map(|key| key.kind);
            Ok::<_, anyhow::Error>((made, kind))
        })
        .await?;
    let kind = kind.ok_or_else(|| anyhow!("the key was made and is not there"))?;
    show_once(answer, &made, kind)
}
