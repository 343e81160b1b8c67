//! Numbered migrations, each in one transaction, with a checksum of what ran.

use allswell_core::time::Timestamp;
use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior};
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
pub(crate) fn migrate(conn: &Connection, now: Timestamp) -> Result<()> {
    bring_up(conn, MIGRATIONS, now)
}

fn bring_up(conn: &Connection, migrations: &[Migration], now: Timestamp) -> Result<()> {
    conn.execute_batch(LEDGER)?;
    let version: Option<i64> =
        conn.query_row("select max(version) from schema_versions", [], |row| row.get(0))?;
    let newest = migrations.last().map_or(0, |migration| migration.version);
    if let Some(version) = version.filter(|version| *version > newest) {
        return Err(Error::Corrupt(format!(
            "its schema has version {version}, and this program knows {newest}: a newer Allswell wrote it. Start that \
             one, or restore the backup made before the update"
        )));
    }
    for migration in migrations {
        if !is_applied(conn, migration)? {
            apply(conn, migration, now)?;
        }
    }
    Ok(())
}

/// Whether the ledger has this migration. An error if it has it with another text.
fn is_applied(conn: &Connection, migration: &Migration) -> Result<bool> {
    let known: Option<String> = conn
        .query_row(
            "select sha256 from schema_versions where version = ?1",
            [migration.version],
            |row| row.get(0),
        )
        .optional()?;
    match known {
        Some(known) if known != checksum(migration.sqlite) => Err(Error::Corrupt(format!(
            "migration {} ({}) was applied with another text than this program has",
            migration.version, migration.name
        ))),
        known => Ok(known.is_some()),
    }
}

fn apply(conn: &Connection, migration: &Migration, now: Timestamp) -> Result<()> {
    // Immediate, and a second look inside: of two programs that open a new database at once, one waits here and then
    // finds the work done.
    let transaction = Transaction::new_unchecked(conn, TransactionBehavior::Immediate)?;
    if is_applied(conn, migration)? {
        return Ok(());
    }
    conn.execute_batch(migration.sqlite)?;
    conn.execute(
        "insert into schema_versions (version, name, sha256, applied_at) values (?1, ?2, ?3, ?4)",
        (
            migration.version,
            migration.name,
            checksum(migration.sqlite),
            now.as_micros(),
        ),
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

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(1_700_000_000);
    const FIRST: Migration = Migration {
        version: 1,
        name: "first",
        sqlite: "create table a (x integer not null) strict; insert into a values (1);",
    };
    const SECOND: Migration = Migration {
        version: 2,
        name: "second",
        sqlite: "create table b (x integer not null) strict; insert into b select x from a;",
    };
    const BROKEN: Migration = Migration {
        sqlite: "create table b (x integer not null) strict; delete from a; insert into b values (null);",
        ..SECOND
    };

    fn database() -> Connection {
        Connection::open_in_memory().expect("a database in memory")
    }

    /// Tables and rows of `a`, to tell one state from another.
    fn state(conn: &Connection) -> (i64, i64, i64) {
        let number = |sql: &str| conn.query_row(sql, [], |row| row.get(0)).expect("a number");
        (
            number("select count(*) from sqlite_schema where type = 'table'"),
            number("select count(*) from a"),
            number("select max(version) from schema_versions"),
        )
    }

    #[test]
    fn migrations_run_once_and_in_order() {
        let conn = database();
        bring_up(&conn, &[FIRST], NOW).expect("the first");
        assert_eq!(state(&conn), (2, 1, 1));
        for _ in 0..2 {
            bring_up(&conn, &[FIRST, SECOND], NOW).expect("the second");
            assert_eq!(state(&conn), (3, 1, 2));
        }
    }

    /// Of two programs that found it missing, the second comes to a migration that is there by now.
    #[test]
    fn a_migration_that_somebody_else_applied_meanwhile_is_no_error() {
        let conn = database();
        bring_up(&conn, &[FIRST], NOW).expect("the first");
        apply(&conn, &FIRST, NOW).expect("nothing to do");
        assert_eq!(state(&conn), (2, 1, 1));
        assert!(conn.is_autocommit(), "its transaction is still open");
    }

    #[test]
    fn a_failing_migration_leaves_the_old_state_and_can_be_mended() {
        let conn = database();
        bring_up(&conn, &[FIRST], NOW).expect("the first");
        let error = bring_up(&conn, &[FIRST, BROKEN], NOW).expect_err("a null in the way");
        assert!(matches!(error, Error::Conflict(_)), "{error}");
        assert_eq!(state(&conn), (2, 1, 1));
        assert!(conn.is_autocommit(), "its transaction is still open");
        bring_up(&conn, &[FIRST, SECOND], NOW).expect("the mended second");
        assert_eq!(state(&conn), (3, 1, 2));
    }

    #[test]
    fn a_newer_schema_and_another_text_are_refused_and_left_alone() {
        let conn = database();
        bring_up(&conn, &[FIRST, SECOND], NOW).expect("both");
        let newer = bring_up(&conn, &[FIRST], NOW)
            .expect_err("a newer schema")
            .to_string();
        assert!(
            newer.contains("version 2") && newer.contains("knows 1") && newer.contains("newer"),
            "{newer}"
        );
        let other = bring_up(&conn, &[FIRST, BROKEN], NOW)
            .expect_err("another text")
            .to_string();
        assert!(other.contains("migration 2 (second)"), "{other}");
        assert_eq!(state(&conn), (3, 1, 2));
    }
}
