//! `allswell keys`

use allswell_core::seal::KeyRing;
use anyhow::{Context, Result, bail};
use serde_json::json;

use super::Answer;
use crate::config::{Config, KeyRingSource, Target};
use crate::{house, keyring, system};

/// `allswell keys generate`
pub fn generate(name: &str) -> Result<()> {
    let mut dice = system::dice()?;
    let ring = KeyRing::generate(name, &mut dice);
    // A name that the ring's reader would refuse must not be written.
    KeyRing::parse(ring.to_text().reveal())
        .context("--name: use letters, digits, hyphen, underscore and full stop")?;
    system::print(ring.to_text().reveal())
}

/// `allswell keys list`
pub async fn list(config: &Config, answer: Answer) -> Result<()> {
    // Looking must make nothing: neither a ring nor a database.
    if let Target::Sqlite(path) = config.database.url.target()
        && !path.exists()
    {
        bail!(
            "there is no database yet at {}; `allswell serve` makes it",
            config.database.url.masked()
        );
    }
    let store = house::open_locked(config).await?;
    let used = store.read(async |reader| reader.root_keys_in_use().await).await?;
    let mut dice = system::dice()?;
    let ring = keyring::load_or_make(config, true, &mut dice)?.ring;
    let wraps = |name: &str| {
        used.iter()
            .find(|(used, _)| used == name)
            .map_or(0, |(_, count)| *count)
    };
    let keys: Vec<_> = ring
        .names()
        .enumerate()
        .map(|(index, name)| json!({ "name": name, "active": index == 0, "wraps": wraps(name) }))
        .collect();
    let missing: Vec<_> = used
        .iter()
        .filter(|(name, _)| ring.named(name).is_none())
        .map(|(name, _)| name)
        .collect();
    let place = match &config.keys.ring {
        KeyRingSource::File { path, .. } => path.display().to_string(),
        KeyRingSource::Inline(_) => "the setting keys.ring".to_owned(),
    };
    let mut lines = format!("Key ring: {place}\n");
    for (index, name) in ring.names().enumerate() {
        let active = if index == 0 { "active" } else { "old" };
        lines.push_str(&format!("{name}  {active}, wraps {} data keys\n", wraps(name)));
    }
    for name in &missing {
        lines.push_str(&format!(
            "{name}  MISSING from the ring: what it wrapped cannot be read\n"
        ));
    }
    answer.give(
        &json!({ "ring": place, "keys": keys, "missing": missing }),
        &lines,
    )
}
