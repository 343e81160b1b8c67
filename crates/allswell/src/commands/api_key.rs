//! `allswell api-key`

use allswell_core::id::ProjectId;
use allswell_core::key::KeyKind;
use anyhow::Result;
use serde_json::json;

use super::{Answer, operators_act, scope_of};
use crate::cli::Scope;
use crate::config::Config;
use crate::house;

/// `allswell api-key create`
pub async fn create(
    config: &Config,
    answer: Answer,
    project: ProjectId,
    scope: Scope,
    name: String,
) -> Result<()> {
    let kind = match scope {
        Scope::ReadWrite => KeyKind::ReadWrite,
        Scope::ReadOnly => KeyKind::ReadOnly,
        Scope::Ping => KeyKind::Ping,
    };
    let name = if name.is_empty() {
        name
    } else {
        super::name_for_people("--name", &name)?
    };
    let mut house = house::open(config).await?;
    let (now, mut dice) = (house.now, house.dice.fork());
    let (id, key) = house
        .store
        .write(async move |tx| {
            let scope = scope_of(tx, project).await?;
            let made = tx.key_create(scope, kind, &name, &mut dice, now).await?;
            let act = operators_act(now, Some(project), "key.create", format!("key:{}", made.0));
            tx.audit(dice.id_at(now), &act).await?;
            Ok::<_, anyhow::Error>(made)
        })
        .await?;
    answer.give(
        &json!({ "id": id.to_string(), "key": key.reveal(), "scope": kind.word() }),
        &format!("{}\nThis is the only time the key is shown.\n", key.reveal()),
    )
}
