//! `allswell project`

use allswell_core::id::ProjectId;
use allswell_core::key::KeyKind;
use allswell_core::scope::{ProjectScope, SystemScope};
use allswell_store::keys::Key;
use allswell_store::projects::Project;
use anyhow::{Result, anyhow, bail};
use serde_json::json;

use super::{Answer, name_for_people, operators_act, printable, scope_of};
use crate::config::Config;
use crate::house;

/// `allswell project create`
pub async fn create(config: &Config, answer: Answer, owner: String, name: String) -> Result<()> {
    let name = name_for_people("--name", &name)?;
    let mut house = house::open(config).await?;
    let (now, mut dice) = (house.now, house.dice.fork());
    let shown = name.clone();
    let (id, ping_key) = house
        .store
        .write(async move |tx| {
            let user = tx.user_by_email(SystemScope::operator(), &owner).await?;
            let user = user.ok_or_else(|| {
                anyhow!("--owner: {owner:?} has no account; `allswell user create` makes one")
            })?;
            let id: ProjectId = dice.id();
            let project = Project {
                id,
                owner: user.id,
                name,
                created_at: now,
            };
            tx.project_insert(SystemScope::operator(), &project, &mut dice)
                .await?;
            let scope = ProjectScope::granted(id);
            let (_, ping_key) = tx.key_create(scope, KeyKind::Ping, "", &mut dice, now).await?;
            let act = operators_act(now, Some(id), "project.create", format!("project:{id}"));
            tx.audit(dice.id_at(now), &act).await?;
            Ok::<_, anyhow::Error>((id, ping_key))
        })
        .await?;
    answer.give(
        &json!({ "id": id.to_string(), "name": shown, "ping_key": ping_key.reveal() }),
        &format!(
            "Project {id}\nPing key for addresses with a slug: {}\n",
            ping_key.reveal()
        ),
    )
}

/// `allswell project list`
pub async fn list(config: &Config, answer: Answer) -> Result<()> {
    let house = house::open(config).await?;
    let projects = house
        .store
        .read(async |reader| reader.projects(SystemScope::operator()).await)
        .await?;
    let shown: Vec<_> = projects
        .iter()
        .map(|project| json!({ "id": project.id.to_string(), "name": project.name }))
        .collect();
    let lines: String = match projects.as_slice() {
        [] => "No project yet. `allswell project create` makes one.\n".to_owned(),
        some => some
            .iter()
            .map(|project| format!("{}  {}\n", project.id, printable(&project.name)))
            .collect(),
    };
    answer.give(&json!({ "projects": shown }), &lines)
}

/// `allswell project require-hmac`
pub async fn require_hmac(config: &Config, answer: Answer, project: ProjectId, required: bool) -> Result<()> {
    let mut house = house::open(config).await?;
    let (now, mut dice) = (house.now, house.dice.fork());
    house
        .store
        .write(async move |tx| {
            let scope = scope_of(tx, project).await?;
            let keys = tx.signing_keys(scope).await?;
            if required && !keys.iter().any(|key| key.may_write(now)) {
                bail!("the project has no read-write signing key: nobody could change anything");
            }
            tx.project_require_hmac(scope, required).await?;
            let act = operators_act(now, Some(project), "project.update", format!("project:{project}"));
            tx.audit(dice.id_at(now), &act).await?;
            Ok(())
        })
        .await?;
    let said = if required {
        "takes only signed requests"
    } else {
        "takes keys that are sent, and signed requests"
    };
    answer.give(
        &json!({ "id": project.to_string(), "require_hmac": required }),
        &format!("Project {project} {said}.\n"),
    )
}

/// `allswell project require-ping-key`
pub async fn require_ping_key(
    config: &Config,
    answer: Answer,
    project: ProjectId,
    required: bool,
) -> Result<()> {
    let mut house = house::open(config).await?;
    let now = house.now;
    let audit = house.dice.id_at(now);
    house
        .store
        .write_again(async move |tx| {
            let scope = scope_of(tx, project).await?;
            let good = |key: &Key| key.kind == KeyKind::Ping && key.is_good(now);
            if required && !tx.keys(scope).await?.iter().any(good) {
                bail!("the project has no ping key: every ping by id would be refused");
            }
            tx.project_require_ping_key(scope, required).await?;
            let act = operators_act(now, Some(project), "project.update", format!("project:{project}"));
            tx.audit(audit, &act).await?;
            Ok::<_, anyhow::Error>(())
        })
        .await?;
    let said = if required {
        "takes pings by id only with its ping key in X-Ping-Key"
    } else {
        "takes pings by id as they come"
    };
    answer.give(
        &json!({ "id": project.to_string(), "require_ping_key": required }),
        &format!("Project {project} {said}.\n"),
    )
}
