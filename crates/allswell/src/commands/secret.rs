//! `allswell secret`

use std::path::Path;

use allswell_core::limits::SECRET_BYTES_MAX;
use allswell_core::secret::Secret;
use allswell_engine::secrets;
use anyhow::Result;
use serde_json::json;

use super::channel::{errand, said};
use super::{Answer, scope_of};
use crate::cli::SecretCommand;
use crate::config::Config;
use crate::{house, system};

/// `allswell secret`
pub async fn run(config: &Config, answer: Answer, command: SecretCommand) -> Result<()> {
    match command {
        SecretCommand::Set { project, name, file } => {
            set(config, answer, project, name, file.as_deref()).await
        }
        SecretCommand::List { project } => list(config, answer, project).await,
        SecretCommand::Delete { project, name } => delete(config, answer, project, name).await,
    }
}

async fn set(
    config: &Config,
    answer: Answer,
    project: allswell_core::id::ProjectId,
    name: String,
    file: Option<&Path>,
) -> Result<()> {
    let bytes_max = SECRET_BYTES_MAX as u64 + 2;
    let text = match file {
        Some(path) => system::read_secret_file(path, bytes_max)?,
        None => system::read_stdin(bytes_max)?,
    };
    // What `echo` and editors add is not part of it.
    let value = Secret::new(
        text.strip_suffix('\n')
            .unwrap_or(&text)
            .trim_end_matches('\r')
            .to_owned(),
    );
    let mut house = house::open(config).await?;
    let (now, mut dice, given) = (house.now, house.dice.fork(), name.clone());
    house
        .store
        .write(async move |tx| {
            let errand = errand(scope_of(tx, project).await?, now);
            secrets::set(tx, &errand, &given, &value, &mut dice)
                .await
                .map_err(said)
        })
        .await?;
    answer.give(
        &json!({ "name": name }),
        &format!("Webhooks can use it as ${{secret:{name}}}.\n"),
    )
}

async fn list(config: &Config, answer: Answer, project: allswell_core::id::ProjectId) -> Result<()> {
    let house = house::open(config).await?;
    let names = house
        .store
        .read(async move |reader| {
            let scope = scope_of(reader, project).await?;
            Ok::<_, anyhow::Error>(reader.secret_names(scope).await?)
        })
        .await?;
    let shown: Vec<_> = names
        .iter()
        .map(|named| {
            json!({
                "name": named.name,
                "created_at": named.created_at.to_string(),
                "updated_at": named.updated_at.to_string(),
            })
        })
        .collect();
    let lines: String = names
        .iter()
        .map(|named| format!("{:32}  set {}\n", named.name, named.updated_at.floor_secs()))
        .collect();
    let lines = if lines.is_empty() {
        "No secret yet. `allswell secret set` makes one.\n".to_owned()
    } else {
        lines
    };
    answer.give(&json!({ "secrets": shown }), &lines)
}

async fn delete(
    config: &Config,
    answer: Answer,
    project: allswell_core::id::ProjectId,
    name: String,
) -> Result<()> {
    let mut house = house::open(config).await?;
    let (now, mut dice, given) = (house.now, house.dice.fork(), name.clone());
    house
        .store
        .write(async move |tx| {
            let errand = errand(scope_of(tx, project).await?, now);
            secrets::delete(tx, &errand, &given, &mut dice)
                .await
                .map_err(said)
        })
        .await?;
    answer.give(&json!({ "name": name }), "Deleted.\n")
}
