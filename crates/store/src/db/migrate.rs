//! Numbered migrations, each in one transaction, with a checksum of what ran.
//!
//! Both databases have the same numbers and names. Who only serves may be forbidden to change the schema: then it is
//! looked at, and what is missing is a refusal that names the command.

use allswell_core::time::Timestamp;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior};
use sha2::{Digest, Sha256};

use super::Stmt;
use super::postgres::Session;
use crate::{Error, Result, Schema};

struct Migration {
    version: i64,
    name: &'static str,
    sqlite: &'static str,
    postgres: &'static str,
}

const MIGRATIONS: &[Migration] = &[
    Migration {
        version: 1,
        name: "start",
        sqlite: include_str!("../migrations/sqlite/0001_start.sql"),
        postgres: include_str!("../migrations/postgres/0001_start.sql"),
    },
    Migration {
        version: 2,
        name: "keys",
        sqlite: include_str!("../migrations/sqlite/0002_keys.sql"),
        postgres: include_str!("../migrations/postgres/0002_keys.sql"),
    },
    Migration {
        version: 3,
        name: "rotation",
        sqlite: include_str!("../migrations/sqlite/0003_rotation.sql"),
        postgres: include_str!("../migrations/postgres/0003_rotation.sql"),
    },
    Migration {
        version: 4,
        name: "delivery",
        sqlite: include_str!("../migrations/sqlite/0004_delivery.sql"),
        postgres: include_str!("../migrations/postgres/0004_delivery.sql"),
    },
    Migration {
        version: 5,
        name: "secrets",
        sqlite: include_str!("../migrations/sqlite/0005_secrets.sql"),
        postgres: include_str!("../migrations/postgres/0005_secrets.sql"),
    },
    Migration {
        version: 6,
        name: "native",
        sqlite: include_str!("../migrations/sqlite/0006_native.sql"),
        postgres: include_str!("../migrations/postgres/0006_native.sql"),
    },
    Migration {
        version: 7,
        name: "rules",
        sqlite: include_str!("../migrations/sqlite/0007_rules.sql"),
        postgres: include_str!("../migrations/postgres/0007_rules.sql"),
    },
    Migration {
        version: 8,
        name: "extras",
        sqlite: include_str!("../migrations/sqlite/0008_extras.sql"),
        postgres: include_str!("../migrations/postgres/0008_extras.sql"),
    },
    Migration {
        version: 9,
        name: "check_pages",
        sqlite: include_str!("../migrations/sqlite/0009_check_pages.sql"),
        postgres: include_str!("../migrations/postgres/0009_check_pages.sql"),
    },
];

const SQLITE_LEDGER: &str = "create table if not exists schema_versions (
    version    integer not null primary key,
    name       text    not null,
    sha256     text    not null,
    applied_at integer not null
) strict";

const POSTGRES_LEDGER: &str = "create table if not exists schema_versions (
    version    bigint not null primary key,
    name       text   not null,
    sha256     text   not null,
    applied_at bigint not null
)";

/// Two programs that migrate one database at once: the second waits for this lock and then finds the work done. The
/// number is the word \"allswell\" in bytes.
const POSTGRES_LOCK: &str =
    "set local statement_timeout = 0; set local idle_in_transaction_session_timeout = 0;
    select pg_advisory_xact_lock(7020095185025920108)";

static HAS_LEDGER: Stmt = Stmt::both(
    "select count(*) as tables from pg_catalog.pg_class where oid = pg_catalog.to_regclass('schema_versions')",
);
static APPLIED: Stmt = Stmt::both("select version, sha256 from schema_versions order by version");
static NOTE: Stmt =
    Stmt::both("insert into schema_versions (version, name, sha256, applied_at) values ($1, $2, $3, $4)");

/// Looks at what was applied: gives the migrations that are missing. Refuses a database that a newer program wrote, and
/// one whose migrations were not ours.
fn missing<'m>(
    migrations: &'m [Migration],
    applied: &[(i64, String)],
    text: fn(&Migration) -> &'static str,
) -> Result<Vec<&'m Migration>> {
    let newest = migrations.last().map_or(0, |migration| migration.version);
    if let Some((version, _)) = applied.last().filter(|(version, _)| *version > newest) {
        return Err(Error::Corrupt(format!(
            "its schema has version {version}, and this program knows {newest}: a newer Allswell wrote it. Start that \
             one, or restore the backup made before the update"
        )));
    }
    let mut missing = Vec::new();
    for migration in migrations {
        match applied.iter().find(|(version, _)| *version == migration.version) {
            None => missing.push(migration),
            Some((_, known)) if *known == checksum(text(migration)) => {}
            Some(_) => {
                return Err(Error::Corrupt(format!(
                    "migration {} ({}) was applied with another text than this program has",
                    migration.version, migration.name
                )));
            }
        }
    }
    Ok(missing)
}

fn must_migrate(missing: &[&Migration]) -> Result<()> {
    match missing.last() {
        None => Ok(()),
        Some(migration) => Err(Error::Unavailable(format!(
            "its schema is older than this program, which needs version {}, or is not there yet: `allswell migrate` brings \
             it up to date, and so does `allswell serve` unless database.migrate is off",
            migration.version
        ))),
    }
}

/// Brings the schema of a SQLite database up to this program's version, or looks whether it is.
pub(crate) fn on_sqlite(conn: &Connection, schema: Schema, now: Timestamp) -> Result<()> {
    bring_sqlite_up(conn, MIGRATIONS, schema, now)
}

fn bring_sqlite_up(
    conn: &Connection,
    migrations: &[Migration],
    schema: Schema,
    now: Timestamp,
) -> Result<()> {
    let missing = missing(migrations, &sqlite_applied(conn)?, |migration| migration.sqlite)?;
    if schema == Schema::Check {
        return must_migrate(&missing);
    }
    // A migration may change a constraint where it is written down; nobody else may.
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, false)?;
    for migration in missing {
        apply_on_sqlite(conn, migrations, migration, now)?;
    }
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    Ok(())
}

fn sqlite_applied(conn: &Connection) -> Result<Vec<(i64, String)>> {
    let ledger = "select 1 from sqlite_schema where type = 'table' and name = 'schema_versions'";
    if conn.query_row(ledger, [], |_| Ok(())).optional()?.is_none() {
        return Ok(Vec::new());
    }
    let mut applied = conn.prepare("select version, sha256 from schema_versions order by version")?;
    let rows = applied.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(rows.collect::<std::result::Result<_, _>>()?)
}

fn apply_on_sqlite(
    conn: &Connection,
    migrations: &[Migration],
    migration: &Migration,
    now: Timestamp,
) -> Result<()> {
    // Immediate, and a second look inside: of two programs that open a new database at once, one waits here and then
    // finds the work done.
    let transaction = Transaction::new_unchecked(conn, TransactionBehavior::Immediate)?;
    conn.execute_batch(SQLITE_LEDGER)?;
    let missing = missing(migrations, &sqlite_applied(conn)?, |migration| migration.sqlite)?;
    if !missing.iter().any(|other| other.version == migration.version) {
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

/// The same on PostgreSQL; `begin` opens a transaction that waits as long as a migration takes.
pub(crate) async fn on_postgres<B>(begin: impl Fn() -> B, schema: Schema, now: Timestamp) -> Result<()>
where
    B: Future<Output = Result<Session>>,
{
    bring_postgres_up(begin, MIGRATIONS, schema, now).await
}

async fn bring_postgres_up<B>(
    begin: impl Fn() -> B,
    migrations: &[Migration],
    schema: Schema,
    now: Timestamp,
) -> Result<()>
where
    B: Future<Output = Result<Session>>,
{
    let mut session = begin().await?;
    let missing_now = missing(migrations, &postgres_applied(&mut session).await?, |migration| {
        migration.postgres
    })?;
    session.rollback().await?;
    if schema == Schema::Check {
        return must_migrate(&missing_now);
    }
    for migration in missing_now {
        let mut session = begin().await?;
        session.simple(POSTGRES_LOCK).await?;
        // A second look behind the lock; without a table of its own no role needs the right to make one.
        let missing_then = missing(migrations, &postgres_applied(&mut session).await?, |migration| {
            migration.postgres
        })?;
        if missing_then
            .iter()
            .any(|other| other.version == migration.version)
        {
            apply_on_postgres(&mut session, migration, now)
                .await
                .map_err(|error| match error {
                    // A right that is missing names its object only.
                    Error::Internal(why) if why.contains("42501") => Error::Unavailable(format!(
                        "its schema is older than this program, and this role may not change it: run `allswell migrate` \
                         with a role that may ({why})"
                    )),
                    other => other,
                })?;
        }
        session.commit().await?;
    }
    Ok(())
}

async fn postgres_applied(session: &mut Session) -> Result<Vec<(i64, String)>> {
    let has_ledger = session.all(&HAS_LEDGER, &[]).await?;
    if has_ledger
        .first()
        .is_none_or(|row| row.get("tables").is_ok_and(|tables: i64| tables == 0))
    {
        return Ok(Vec::new());
    }
    let rows = session.all(&APPLIED, &[]).await?;
    rows.iter()
        .map(|row| Ok((row.get("version")?, row.get("sha256")?)))
        .collect()
}

async fn apply_on_postgres(session: &mut Session, migration: &Migration, now: Timestamp) -> Result<()> {
    session.simple(POSTGRES_LEDGER).await?;
    session.simple(migration.postgres).await?;
    let sum = checksum(migration.postgres);
    let values = [
        migration.version.into(),
        migration.name.into(),
        (&sum).into(),
        now.into(),
    ];
    session.run(&NOTE, &values).await.map(drop)
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
        postgres: "create table a (x bigint not null); insert into a values (1);",
    };
    const SECOND: Migration = Migration {
        version: 2,
        name: "second",
        sqlite: "create table b (x integer not null) strict; insert into b select x from a;",
        postgres: "create table b (x bigint not null); insert into b select x from a;",
    };
    const BROKEN: Migration = Migration {
        sqlite: "create table b (x integer not null) strict; delete from a; insert into b values (null);",
        postgres: "create table b (x bigint not null); delete from a; insert into b values (null);",
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
        bring_sqlite_up(&conn, &[FIRST], Schema::Migrate, NOW).expect("the first");
        assert_eq!(state(&conn), (2, 1, 1));
        for _ in 0..2 {
            bring_sqlite_up(&conn, &[FIRST, SECOND], Schema::Migrate, NOW).expect("the second");
            assert_eq!(state(&conn), (3, 1, 2));
        }
    }

    #[test]
    fn tags_of_before_get_the_time_of_their_check() {
        let conn = database();
        conn.execute_batch(
            "create table checks (id blob primary key, project_id blob, name text, status integer, created_at integer);
             create table check_tags (check_id blob not null references checks (id), tag text not null,
                                      project_id blob not null, primary key (check_id, tag)) strict, without rowid;
             create index check_tags_by_tag on check_tags (project_id, tag);
             insert into checks values (x'01', x'aa', '', 0, 7), (x'02', x'aa', '', 0, 8);
             insert into check_tags values (x'01', 'db', x'aa'), (x'02', 'db', x'aa'), (x'02', 'web', x'aa');",
        )
        .expect("the tables of before");
        conn.execute_batch(MIGRATIONS[8].sqlite).expect("the migration");
        let mut tags = conn
            .prepare(
                "select created_at, tag from check_tags where project_id = x'aa' order by created_at, tag",
            )
            .expect("a statement");
        let tags = tags.query_map([], |row| Ok((row.get(0)?, row.get(1)?)));
        let tags: Vec<(i64, String)> = tags
            .expect("rows")
            .collect::<std::result::Result<_, _>>()
            .expect("tags");
        assert_eq!(tags, [(7, "db".into()), (8, "db".into()), (8, "web".into())]);
    }

    #[test]
    fn a_failing_migration_leaves_the_old_state_and_can_be_mended() {
        let conn = database();
        bring_sqlite_up(&conn, &[FIRST], Schema::Migrate, NOW).expect("the first");
        let error =
            bring_sqlite_up(&conn, &[FIRST, BROKEN], Schema::Migrate, NOW).expect_err("a null in the way");
        assert!(matches!(error, Error::Conflict(_)), "{error}");
        assert_eq!(state(&conn), (2, 1, 1));
        assert!(conn.is_autocommit(), "its transaction is still open");
        bring_sqlite_up(&conn, &[FIRST, SECOND], Schema::Migrate, NOW).expect("the mended second");
        assert_eq!(state(&conn), (3, 1, 2));
    }

    #[test]
    fn a_newer_schema_and_another_text_are_refused_and_left_alone() {
        let conn = database();
        bring_sqlite_up(&conn, &[FIRST, SECOND], Schema::Migrate, NOW).expect("both");
        let newer = bring_sqlite_up(&conn, &[FIRST], Schema::Migrate, NOW)
            .expect_err("a newer schema")
            .to_string();
        assert!(
            newer.contains("version 2") && newer.contains("knows 1") && newer.contains("newer"),
            "{newer}"
        );
        let other = bring_sqlite_up(&conn, &[FIRST, BROKEN], Schema::Migrate, NOW)
            .expect_err("another text")
            .to_string();
        assert!(other.contains("migration 2 (second)"), "{other}");
        assert_eq!(state(&conn), (3, 1, 2));
    }

    /// The same on PostgreSQL: a failing migration leaves the old state and can be mended, a newer schema and another text
    /// are refused, and who only looks changes nothing.
    #[tokio::test]
    async fn on_postgres_migrations_are_whole_or_not_there() {
        use crate::Server;
        use crate::db::postgres::Postgres;

        let cluster = allswell_testkit::Cluster::shared();
        let name = cluster.database().await;
        let server = Server::from_url(&cluster.url(&name)).expect("a URL");
        let postgres = Postgres::new(&server).expect("a pool");
        let run = async |migrations: &'static [Migration], schema| {
            bring_postgres_up(|| postgres.begin_patiently(), migrations, schema, NOW).await
        };
        let state = async || {
            let tables = "select count(*) from pg_tables where schemaname = 'public'";
            (
                cluster.number(&name, tables).await,
                cluster.number(&name, "select count(*) from a").await,
                cluster
                    .number(&name, "select max(version) from schema_versions")
                    .await,
            )
        };
        let missing = run(&[FIRST], Schema::Check).await;
        assert!(matches!(&missing, Err(Error::Unavailable(why)) if why.contains("allswell migrate")));

        run(&[FIRST], Schema::Migrate).await.expect("the first");
        let error = run(&[FIRST, BROKEN], Schema::Migrate).await;
        assert!(matches!(error, Err(Error::Conflict(_))), "{error:?}");
        assert_eq!(state().await, (2, 1, 1));
        for _ in 0..2 {
            run(&[FIRST, SECOND], Schema::Migrate).await.expect("the second");
            assert_eq!(state().await, (3, 1, 2));
        }
        run(&[FIRST, SECOND], Schema::Check)
            .await
            .expect("nothing is missing");
        for (migrations, words) in [
            (&[FIRST] as &'static [Migration], "a newer Allswell wrote it"),
            (&[FIRST, BROKEN], "migration 2 (second)"),
        ] {
            let refused = run(migrations, Schema::Migrate).await;
            assert!(
                matches!(&refused, Err(Error::Corrupt(why)) if why.contains(words)),
                "{refused:?}"
            );
        }
        assert_eq!(state().await, (3, 1, 2));
        cluster.remove(&name).await;
    }
}
