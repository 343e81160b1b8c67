//! `allswell backup`: a copy of the database in one file, beside a running server.

use std::fs::File;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};

use allswell_core::time::Span;
use allswell_engine::loops::now;
use allswell_store::{Copied, Store};
use anyhow::{Context, Result, bail};
use serde_json::json;

use super::Answer;
use crate::config::{Config, KeyRingSource, Target};
use crate::{house, system};

/// How often a terminal is told how far it is.
const SAY_EVERY: Span = Span::from_secs(1);

pub fn run(config: &Config, answer: Answer, into: &Path) -> Result<()> {
    house::must_exist(config)?;
    let Target::Sqlite(from) = config.database.url.target() else {
        bail!("the database is PostgreSQL's: pg_dump makes its backups, see docs/backup.md");
    };
    // Also a link that leads nowhere.
    if into.symlink_metadata().is_ok() {
        bail!("{} is there already: name a new file", into.display());
    }
    system::close_new_files_to_others();
    let mut half = into.as_os_str().to_owned();
    half.push(format!(".{}.half", std::process::id()));
    let half = PathBuf::from(half);
    let made = copy(from, &half, into);
    if made.is_err() {
        let _ = std::fs::remove_file(&half);
    }
    let copied = made?;

    let ring = ring_file(config);
    let lines = format!(
        "Copied the database, {} bytes (schema {}), to {}.\n{}",
        copied.bytes,
        copied.schema_version,
        into.display(),
        match &ring {
            Some(ring) => format!(
                "Without the key ring {} it cannot be read: keep a copy of that too, in another place.\n",
                ring.display()
            ),
            None => "Without the key ring in keys.ring it cannot be read: keep a copy of that too, in another place.\n"
                .to_owned(),
        }
    );
    let value = json!({
        "file": into.to_string_lossy(),
        "bytes": copied.bytes,
        "schema_version": copied.schema_version,
        "key_ring": ring.map(|ring| ring.to_string_lossy().into_owned()),
    });
    answer.give(&value, &lines)
}

/// Makes the copy under another name first: a file of the wanted name is always whole, and on the disk.
fn copy(from: &Path, half: &Path, into: &Path) -> Result<Copied> {
    let (size, shown) = (megabytes_of(from), half.to_owned());
    let mut said = now();
    let progress = move || {
        if std::io::stderr().is_terminal() && now() - said >= SAY_EVERY {
            said = now();
            let _ = write!(std::io::stderr(), "\r{} of about {size} MB", megabytes_of(&shown));
        }
    };
    let copied = Store::copy(from, half, progress)
        .with_context(|| format!("could not copy {} to {}", from.display(), half.display()))?;
    let named = File::open(half)
        .and_then(|file| file.sync_all())
        .and_then(|()| std::fs::rename(half, into))
        .and_then(|()| {
            let dir = into.parent().filter(|dir| !dir.as_os_str().is_empty());
            File::open(dir.unwrap_or(Path::new("."))).and_then(|dir| dir.sync_all())
        });
    named.with_context(|| format!("could not make {}", into.display()))?;
    Ok(copied)
}

/// Of a database with its write-ahead log.
fn megabytes_of(database: &Path) -> u64 {
    let mut log = database.as_os_str().to_owned();
    log.push("-wal");
    let bytes = |path: &Path| std::fs::metadata(path).map_or(0, |found| found.len());
    (bytes(database) + bytes(Path::new(&log))) / 1_000_000
}

fn ring_file(config: &Config) -> Option<PathBuf> {
    match &config.keys.ring {
        KeyRingSource::File { path, .. } => Some(path.clone()),
        KeyRingSource::Inline(_) => None,
    }
}
