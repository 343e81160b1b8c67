//! The store as a command needs it: opened, brought up to date, its vault unlocked.

use allswell_core::chance::Dice;
use allswell_core::schedule::Zones;
use allswell_core::time::Timestamp;
use allswell_engine::loops::now;
use allswell_store::{Place, Store};
use anyhow::{Context, Result};

use crate::config::Config;
use crate::{keyring, system, tzdata};

/// What a command works with.
pub struct House {
    pub store: Store,
    pub dice: Dice,
    pub now: Timestamp,
    pub zones: Zones,
    /// The key ring was made just now.
    pub new_ring: bool,
}

/// Opens the database of this configuration. Works beside a running server.
pub async fn open(config: &Config) -> Result<House> {
    let store = open_locked(config).await?;
    unlock(config, store).await
}

/// Opens the database and leaves its vault closed.
pub async fn open_locked(config: &Config) -> Result<Store> {
    system::close_new_files_to_others();
    system::make_private_dir(&config.data_dir)?;
    let path = config.database.url.sqlite_path().to_owned();
    let shown = path.display().to_string();
    Store::open(&Place::File(path), now())
        .await
        .with_context(|| format!("could not open the database {shown}"))
}

/// Unlocks the vault with the ring of this configuration, or with a new one for a new database.
pub async fn unlock(config: &Config, store: Store) -> Result<House> {
    let mut dice = system::dice()?;
    let (now, zones) = (now(), tzdata::zones(config)?);
    let ring = keyring::load_or_make(config, store.has_data_keys().await?, &mut dice)?;
    store.unlock(ring.ring, dice.fork(), now).await?;
    Ok(House {
        store,
        dice,
        now,
        zones,
        new_ring: ring.is_new,
    })
}
