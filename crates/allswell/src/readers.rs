//! What the server reads at its start beside the settings: files that they name, and what they must fit together for.
//!
//! `config check` runs all of it and tells all that is wrong; `serve` ends at the first. Nothing is made, written, or
//! called.

use allswell_core::exchange::Class;
use allswell_core::target;
use allswell_outbound::Client;
use anyhow::{Result, bail};

use crate::config::{Config, Target};
use crate::{house, keyring, outward, tzdata};

/// Reads what a start would read.
///
/// # Errors
/// All that would end the start, one per line. What only the database can tell is not among it.
pub fn try_all(config: &Config) -> Result<()> {
    let outbound = outward::client(config, &outward::ports_of(config));
    let called = outbound.and_then(|client| watchdog(config, &client));
    let tried = [
        keyring::look(config),
        tzdata::zones(config).map(drop),
        called,
        database(config),
    ];
    let problems: Vec<String> = tried
        .into_iter()
        .filter_map(Result::err)
        .map(|error| format!("\n  {error:#}"))
        .collect();
    if !problems.is_empty() {
        bail!(
            "the settings are well-formed, but the server would not start with them:{}",
            problems.concat()
        );
    }
    Ok(())
}

/// Whether the watchdog's address may be called.
pub fn watchdog(config: &Config, outbound: &Client) -> Result<()> {
    if let Some(url) = &config.watchdog.url {
        target::judge(outbound.policy(Class::Operator), url.reveal()).map_err(|refusal| {
            anyhow::anyhow!("watchdog.url cannot be called: {}", refusal.for_administrators())
        })?;
    }
    Ok(())
}

/// Whether the certificates are there that the database's settings name.
fn database(config: &Config) -> Result<()> {
    if let Target::Postgres(server) = config.database.url.target() {
        house::server_of(&config.database, server).tls_files()?;
    }
    Ok(())
}
