//! The store as the server and its commands need it. Only `serve` and `migrate` make anything: a command that is given in
//! the wrong directory must say so, and not begin a second life there.

use std::time::Duration;

use allswell_core::chance::Dice;
use allswell_core::policy::Policy;
use allswell_core::schedule::Zones;
use allswell_core::time::Timestamp;
use allswell_engine::channels::Rules as ChannelRules;
use allswell_engine::loops::now;
use allswell_integrations::webhook::Sender;
use allswell_store::{Place, Schema, Server, Serving, Store};
use anyhow::{Context, Result};

use crate::config::{Config, Database, Target};
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

/// Opens the database of this configuration and its vault, for a command. Works beside a running server, also an older one:
/// nothing is made, nothing is brought up to date.
pub async fn open(config: &Config) -> Result<House> {
    let store = open_to_look(config).await?;
    if !store.has_data_keys().await? {
        keyring::must_exist(config)?;
    }
    unlock(config, store).await
}

/// Opens the database for the server, and leaves its vault closed.
pub async fn open_locked(config: &Config) -> Result<Store> {
    system::close_new_files_to_others();
    system::make_private_dir(&config.data_dir)?;
    let schema = if config.database.migrate {
        Schema::Migrate
    } else {
        Schema::Check
    };
    open_with(config, schema).await
}

/// Opens the database and changes nothing: neither its schema nor a directory.
pub async fn open_as_it_is(config: &Config) -> Result<Store> {
    system::close_new_files_to_others();
    open_with(config, Schema::Check).await
}

/// Opens the database and leaves its vault closed: nothing is made, nothing is brought up to date.
pub async fn open_to_look(config: &Config) -> Result<Store> {
    must_exist(config)?;
    open_as_it_is(config).await
}

/// Refuses a SQLite file that is not there. Its whole path tells whoever meant another directory.
pub fn must_exist(config: &Config) -> Result<()> {
    let Target::Sqlite(path) = config.database.url.target() else {
        return Ok(());
    };
    let there = path.try_exists();
    if !there.with_context(|| format!("could not look for the database {}", path.display()))? {
        let path = std::path::absolute(path).unwrap_or_else(|_| path.clone());
        anyhow::bail!(
            "there is no database yet at {}; `allswell serve` makes it. If one is elsewhere, give the command there, or name \
             its configuration with --config",
            path.display()
        );
    }
    Ok(())
}

/// Opens the database and brings its schema up to date, whatever `database.migrate` says of others. A new SQLite database gets
/// its key ring too, so that commands can follow before the first start; of PostgreSQL the servers may be elsewhere.
pub async fn open_and_migrate(config: &Config) -> Result<Store> {
    system::close_new_files_to_others();
    system::make_private_dir(&config.data_dir)?;
    let store = open_with(config, Schema::Migrate).await?;
    let is_sqlite = matches!(config.database.url.target(), Target::Sqlite(_));
    if is_sqlite && !store.has_data_keys().await? {
        keyring::make_if_unnamed(config, &mut system::dice()?)?;
    }
    Ok(store)
}

fn place_of(config: &Config) -> Place {
    match config.database.url.target() {
        Target::Sqlite(path) => Place::File(path.clone()),
        Target::Postgres(server) => Place::Postgres(Box::new(server_of(&config.database, server))),
    }
}

/// Takes the right to serve the database of this configuration; `None` if another server has it.
pub fn lock_for_serving(config: &Config) -> Result<Option<Serving>> {
    system::close_new_files_to_others();
    system::make_private_dir(&config.data_dir)?;
    Ok(Store::lock_for_serving(&place_of(config))?)
}

/// Looks whether a server is there, on a database that has one at most.
pub struct Probe(Place);

impl Probe {
    pub fn new(config: &Config) -> Self {
        Probe(place_of(config))
    }

    /// Takes the right to serve for a moment to see whether it is taken. What cannot be looked at is taken for served:
    /// a server does the work, and without one nothing is lost.
    pub fn is_served(&self) -> bool {
        !matches!(Store::lock_for_serving(&self.0), Ok(Some(_)))
    }
}

async fn open_with(config: &Config, schema: Schema) -> Result<Store> {
    Store::open_with(&place_of(config), schema, now())
        .await
        .with_context(|| format!("could not open the database {}", config.database.url.masked()))
}

/// The server of the URL with what the settings say and the URL does not.
pub fn server_of(settings: &Database, url: &Server) -> Server {
    let mut server = url.clone();
    server.connections = settings.connections;
    server.statement = Duration::from_secs(settings.statement_secs);
    server.acquire = Duration::from_secs(settings.acquire_secs);
    server.prepare = settings.prepare;
    let tls = &mut server.tls;
    tls.mode = tls.mode.or(settings.sslmode);
    for (here, setting) in [
        (&mut tls.root, &settings.sslrootcert),
        (&mut tls.cert, &settings.sslcert),
        (&mut tls.key, &settings.sslkey),
    ] {
        if here.is_none() {
            here.clone_from(setting);
        }
    }
    server
}

/// What channels are judged by: the policy for webhooks, and names that are ours.
pub fn channel_rules(config: &Config, webhooks: &Policy) -> ChannelRules {
    ChannelRules {
        webhooks: webhooks.clone(),
        signature_header: config.webhooks.signature_header.clone(),
    }
}

/// What this instance adds to each webhook.
pub fn sender(config: &Config) -> Sender {
    Sender {
        signature_header: config.webhooks.signature_header.clone(),
        signature_secret: config.webhooks.signature_secret.clone(),
    }
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
