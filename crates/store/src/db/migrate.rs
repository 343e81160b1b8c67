//! Numbered migrations, each in one transaction, with a checksum of what ran.

use allswell_core::time::Timestamp;
use sha2::{Digest, Sha256};

use crate::{Error, Result};

struct Migration {
    version: i64,
    name: &'static str,
    sqlite: &'static str,
}

const MIGRATIONS: &[Migration] = &[
    Migration {
        version: 1,
        name: "start",
        sqlite: include_str!("../migrations/sqlite/0001_start.sql"),
    },
    Migration {
        version: 2,
        name: "keys",
        sqlite: include_str!("../migrations/sqlite/0002_keys.sql"),
    },
];

const LEDGER: &str = "create table if not exists schema_versions (
    version    integer not null primary key,
    name       text    not null,
    sha256     text    not null,
    applied_at integer not null
) strict";

/// Brings the schema up to this program's version. Refuses a database that a newer program wrote, and one whose
/// migrations were not ours.
pub(crate) fn migrate(conn: &rusqlite::Connection, now: Timestamp) -> Result<()> {
    conn.execute_batch(LEDGER)?;
    let applied: Vec<(i64, String)> = conn
        .prepare("select version, sha256 from schema_versions order by version")?
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<std::result::Result<_, _>>()?;
    let newest = MIGRATIONS.last().map_or(0, |migration| migration.version);
    if let Some((version, _)) = applied.iter().find(|(version, _)| *version > newest) {
        return Err(Error::Corrupt(format!(
            "its schema has version {version}, and this program knows {newest}: a newer Allswell wrote it. Start that \
             one, or restore the backup made before the update"
        )));
    }
    for migration in MIGRATIONS {
        let sum = checksum(migration.sqlite);
        match applied.iter().find(|(version, _)| *version == migration.version) {
            Some((_, known)) if *known == sum => {}
            Some(_) => {
                return Err(Error::Corrupt(format!(
                    "migration {} ({}) was applied with another text than this program has",
                    migration.version, migration.name
                )));
            }
            None => apply(conn, migration, &sum, now)?,
        }
    }
    Ok(())
}

fn apply(conn: &rusqlite::Connection, migration: &Migration, sum: &str, now: Timestamp) -> Result<()> {
    let transaction = conn.unchecked_transaction()?;
    conn.execute_batch(migration.sqlite)?;
    conn.execute(
        "insert into schema_versions (version, name, sha256, applied_at) values (?1, ?2, ?3, ?4)",
        (migration.version, migration.name, sum, now.as_micros()),
    )?;
    transaction.commit()?;
    Ok(())
}

fn checksum(text: &str) -> String {
    Sha256::digest(text.as_bytes())
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
