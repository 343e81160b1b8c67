//! Where the key ring comes from: the settings, or a file that we make for a new database.

use std::path::Path;
use std::sync::{Mutex, PoisonError};

use allswell_core::chance::Dice;
use allswell_core::seal::{KeyRing, RingError};
use allswell_core::secret::Secret;
use allswell_engine::rekey::Home;
use anyhow::{Context, Result, anyhow, bail};

use crate::config::{Config, KeyRingSource};
use crate::system;

const RING_BYTES_MAX: u64 = 64 * 1024;

/// A key ring, and whether it was made just now.
pub struct Ring {
    pub ring: KeyRing,
    pub is_new: bool,
}

/// Reads the ring, or makes one if the database holds nothing that an older ring encrypted and nobody named a file.
pub fn load_or_make(config: &Config, database_has_keys: bool, dice: &mut Dice) -> Result<Ring> {
    match &config.keys.ring {
        KeyRingSource::Inline(text) => Ok(Ring {
            ring: parse(text.reveal(), "keys.ring", database_has_keys)?,
            is_new: false,
        }),
        KeyRingSource::File { path, .. } if is_there(path)? => Ok(Ring {
            ring: read(path, database_has_keys)?,
            is_new: false,
        }),
        KeyRingSource::File { path, .. } if database_has_keys => bail!(
            "the key ring {} is missing, and the database was encrypted with one. Put it back, or point \
             keys.ring_file (ALLSWELL_KEYS_RING_FILE) at it. A new ring could not read this database",
            path.display()
        ),
        KeyRingSource::File {
            path,
            is_default: false,
        } => Err(missing(path)),
        KeyRingSource::File {
            path,
            is_default: true,
        } => {
            let ring = KeyRing::generate("first", dice);
            system::write_secret_file(path, ring.to_text().reveal())?;
            Ok(Ring { ring, is_new: true })
        }
    }
}

/// Refuses a ring that only the server would make: a command may be in the wrong directory, and what it encrypted with a ring
/// of its own the server could not read.
pub fn must_exist(config: &Config) -> Result<()> {
    match &config.keys.ring {
        KeyRingSource::File {
            path,
            is_default: true,
        } if !is_there(path)? => {
            let path = std::path::absolute(path).unwrap_or_else(|_| path.clone());
            bail!(
                "there is no key ring at {}; `allswell serve` makes it with a new database. If one is elsewhere, give the \
                 command there, or point keys.ring_file (ALLSWELL_KEYS_RING_FILE) at it",
                path.display()
            )
        }
        _ => Ok(()),
    }
}

/// Makes the ring of a new database where nobody named one.
pub fn make_if_unnamed(config: &Config, dice: &mut Dice) -> Result<()> {
    if let KeyRingSource::File { is_default: true, .. } = &config.keys.ring {
        load_or_make(config, false, dice)?;
    }
    Ok(())
}

/// Whether the file is there. What may not be looked at is an error, and not a missing file.
fn is_there(path: &Path) -> Result<bool> {
    path.try_exists()
        .with_context(|| format!("could not look for the key ring {}", path.display()))
}

/// Whether the ring can be read, as far as can be said without the database. Makes none.
pub fn look(config: &Config) -> Result<()> {
    match &config.keys.ring {
        KeyRingSource::Inline(text) => parse(text.reveal(), "keys.ring", false).map(drop),
        KeyRingSource::File { path, .. } if is_there(path)? => read(path, false).map(drop),
        KeyRingSource::File {
            path,
            is_default: false,
        } => Err(missing(path)),
        // Made by the first start, or missed by a database that is there.
        KeyRingSource::File { .. } => Ok(()),
    }
}

fn missing(path: &Path) -> anyhow::Error {
    anyhow!(
        "the key ring {} does not exist; make one with: (umask 077; allswell keys generate > {})",
        path.display(),
        path.display()
    )
}

fn read(path: &Path, database_has_keys: bool) -> Result<KeyRing> {
    let text = Secret::new(system::read_secret_file(path, RING_BYTES_MAX)?);
    parse(text.reveal(), &path.display().to_string(), database_has_keys)
}

/// Looks at the ring's file again and again: gives the ring when it is another than the last time, and the first time. A
/// setting does not change. One that cannot be read is said once, and the ring stays what it was.
pub fn home(config: &Config) -> Home {
    let KeyRingSource::File { path, .. } = &config.keys.ring else {
        return Box::new(|| None);
    };
    let look = |path: &Path| {
        let text = system::read_secret_file(path, RING_BYTES_MAX).map_err(|error| format!("{error:#}"));
        text.map(Secret::new)
    };
    let (path, last) = (path.clone(), Mutex::new(None));
    Box::new(move || {
        let now = look(&path);
        let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.as_ref() == Some(&now) {
            return None;
        }
        let read = now.as_ref().map_err(String::clone);
        let ring = read.and_then(|text| KeyRing::parse(text.reveal()).map_err(|error| error.to_string()));
        *last = Some(now);
        ring.map_err(|error| {
            tracing::error!(
                "the key ring {} has changed and cannot be used: {error}. This server goes on with the ring it has",
                path.display()
            );
        })
        .ok()
    })
}

fn parse(text: &str, place: &str, database_has_keys: bool) -> Result<KeyRing> {
    match KeyRing::parse(text) {
        // A new key would not help.
        Err(RingError::Empty) if database_has_keys => bail!(
            "the key ring in {place} holds no key, and the database was encrypted with one. Put the ring back that it \
             had. A new one could not read this database"
        ),
        read => read.with_context(|| format!("the key ring in {place} cannot be used")),
    }
}
