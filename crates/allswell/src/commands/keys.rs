//! `allswell keys`

use allswell_core::scope::SystemScope;
use allswell_core::seal::KeyRing;
use allswell_store::Error;
use anyhow::{Result, anyhow};
use serde_json::json;

use super::{Answer, counted};
use crate::config::Config;
use crate::{house, keyring, system};

/// `allswell keys generate`
pub fn generate(name: &str) -> Result<()> {
    let mut dice = system::dice()?;
    let ring = KeyRing::generate(name, &mut dice);
    // A name that the ring's reader would refuse must not be written.
    KeyRing::parse(ring.to_text().reveal()).map_err(|_| {
        anyhow!("--name: {name:?} is no name of a key; use letters, digits, hyphen, underscore and full stop")
    })?;
    system::print(ring.to_text().reveal())
}

/// `allswell keys list`
pub async fn list(config: &Config, answer: Answer) -> Result<()> {
    let store = house::open_to_look(config).await?;
    let (used, active, rotation) = store
        .read(async |reader| {
            let used = reader.root_keys_in_use().await?;
            let active = reader.root_key_active().await?;
            let rotation = reader.rotation(SystemScope::operator()).await?;
            Ok::<_, Error>((used, active, rotation))
        })
        .await?;
    let mut dice = system::dice()?;
    let ring = keyring::load_or_make(config, true, &mut dice)?.ring;
    let active = active.unwrap_or_else(|| ring.first().name.clone());
    let of = |name: &str| used.iter().find(|used| used.name == name);
    let mut place = format!("Key ring: {}\n", config.keys.ring.place());
    let mut keys = Vec::new();
    for key in ring.keys() {
        let (wraps, retired) = of(&key.name).map_or((0, 0), |used| (used.wraps, used.retired));
        let word = match (key.name == active, wraps) {
            (true, _) => "active",
            (false, 0) => "unused",
            (false, _) => "old",
        };
        place.push_str(&format!(
            "{}  {word}, wraps {}",
            key.name,
            counted(wraps, "data key")
        ));
        if retired > 0 {
            place.push_str(&format!(" ({retired} of them only open what they once sealed)"));
        }
        place.push('\n');
        keys.push(json!({
            "name": key.name, "fingerprint": key.fingerprint(), "active": key.name == active, "wraps": wraps,
            "retired": retired,
        }));
    }
    let missing: Vec<_> = used
        .iter()
        .filter(|used| ring.named(&used.name).is_none())
        .collect();
    for used in &missing {
        place.push_str(&format!(
            "{}  MISSING from the ring: what it wrapped cannot be read\n",
            used.name
        ));
    }
    if let Some(rotation) = rotation.as_ref().filter(|rotation| !rotation.is_finished()) {
        place.push_str(&format!(
            "A rotation to “{}” is under way ({}); allswell keys rotate shows how far it is, and goes on with it\n",
            rotation.root_key,
            rotation.phase.word()
        ));
    }
    let missing: Vec<_> = missing.iter().map(|used| &used.name).collect();
    let rotation = rotation.map(|rotation| {
        json!({
            "to": rotation.root_key, "phase": rotation.phase.word(), "finished": rotation.is_finished(),
            "started_at": rotation.started_at.to_string(), "values_unreadable": rotation.values_unreadable,
        })
    });
    answer.give(
        &json!({
            "ring": config.keys.ring.place(), "keys": keys, "missing": missing, "rotation": rotation,
        }),
        &place,
    )
}
