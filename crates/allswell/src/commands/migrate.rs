//! `allswell migrate`: the schema, brought up to date by a role that may.

use anyhow::Result;

use super::Answer;
use crate::config::Config;
use crate::house;

pub async fn run(config: &Config, answer: Answer) -> Result<()> {
    let version = house::open_and_migrate(config).await?.schema_version().await?;
    let lines = format!("the schema has version {version}, which is this program's\n");
    answer.give(&serde_json::json!({ "schema_version": version }), &lines)
}
