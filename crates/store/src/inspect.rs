//! Looking at a database as a whole, for the tests that hold statements, schemas and deletes to their word.

use std::collections::HashMap;

use rusqlite::Connection;

use crate::db::Stmt;
use crate::db::postgres::Mode;
use crate::store::Database;
use crate::{Error, Result, Store};

/// The noun, the name and the statement.
type Named = (&'static str, &'static str, &'static Stmt);

fn statements(for_postgres: bool) -> Vec<Named> {
    let nouns = [
        ("absences", crate::absences::STATEMENTS),
        ("audit", crate::audit::STATEMENTS),
        ("badges", crate::badges::STATEMENTS),
        ("channels", crate::channels::STATEMENTS),
        ("check_pages", crate::check_pages::STATEMENTS),
        ("checks", crate::checks::STATEMENTS),
        ("rules", crate::rules::STATEMENTS),
        ("feed", crate::feed::STATEMENTS),
        ("flips", crate::flips::STATEMENTS),
        ("instance", crate::instance::STATEMENTS),
        ("keys", crate::keys::STATEMENTS),
        ("once", crate::once::STATEMENTS),
        ("outbox", crate::outbox::STATEMENTS),
        ("outbox/claim", crate::outbox::claim::STATEMENTS),
        ("outbox/health", crate::outbox::health::STATEMENTS),
        ("outbox/record", crate::outbox::record::STATEMENTS),
        ("outbox/set_back", crate::outbox::set_back::STATEMENTS),
        ("outbox/telling", crate::outbox::telling::STATEMENTS),
        ("pages", crate::pages::STATEMENTS),
        ("people", crate::people::STATEMENTS),
        ("ping_keys", crate::ping_keys::STATEMENTS),
        ("pings", crate::pings::STATEMENTS),
        ("projects", crate::projects::STATEMENTS),
        ("retention", crate::retention::STATEMENTS),
        ("simulated", crate::simulated::STATEMENTS),
        ("rotation", crate::rotation::STATEMENTS),
        ("sealed", crate::sealed::STATEMENTS),
        ("secrets", crate::secrets::STATEMENTS),
        ("signing_keys", crate::signing_keys::STATEMENTS),
        ("tally", crate::tally::STATEMENTS),
        ("wrong_keys", crate::wrong_keys::STATEMENTS),
        ("watchdog", crate::watchdog::STATEMENTS),
    ];
    let only: &[(&str, &[(&str, &Stmt)])] = if for_postgres {
        &[
            ("batch", crate::batch::POSTGRES_STATEMENTS),
            ("rules", crate::rules::POSTGRES_STATEMENTS),
            ("news", crate::news::POSTGRES_STATEMENTS),
            ("outbox/claim", crate::outbox::claim::POSTGRES_STATEMENTS),
            ("outbox/health", crate::outbox::health::POSTGRES_STATEMENTS),
            ("outbox/record", crate::outbox::record::POSTGRES_STATEMENTS),
            ("outbox/telling", crate::outbox::telling::POSTGRES_STATEMENTS),
            ("pages", crate::pages::POSTGRES_STATEMENTS),
        ]
    } else {
        &[]
    };
    nouns
        .iter()
        .chain(only)
        .flat_map(|(noun, list)| list.iter().map(move |(name, stmt)| (*noun, *name, *stmt)))
        .collect()
}

/// A table with its columns and what must be unique, in words that are the same for both databases.
#[doc(hidden)]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// Its name.
    pub name: String,
    /// Name and whether it may be null, sorted.
    pub columns: Vec<(String, bool)>,
    /// Names of the columns of each primary key and unique index, sorted. An expression is `?`.
    pub unique: Vec<Vec<String>>,
    /// Columns of each other index, in their order, sorted.
    pub indexes: Vec<Vec<String>>,
}

static POSTGRES_TABLES: Stmt = Stmt::both(
    "select c.relname::text as name from pg_catalog.pg_class c
     where c.relkind = 'r' and c.relnamespace = current_schema()::regnamespace order by c.relname",
);
static POSTGRES_COLUMNS: Stmt = Stmt::both(
    "select a.attname::text as name, not a.attnotnull as nullable
     from pg_catalog.pg_attribute a join pg_catalog.pg_class c on c.oid = a.attrelid
     where c.relname = $1::text and c.relnamespace = current_schema()::regnamespace and a.attnum > 0 and not a.attisdropped
     order by a.attname collate \"C\"",
);
static POSTGRES_INDEXES: Stmt = Stmt::both(
    "select i.indisunique as is_unique,
            (select string_agg(coalesce(a.attname::text, '?'), ',' order by k.n)
             from unnest(i.indkey::int2[]) with ordinality as k (attnum, n)
             left join pg_catalog.pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.attnum and k.attnum > 0
            ) as columns
     from pg_catalog.pg_index i join pg_catalog.pg_class c on c.oid = i.indrelid
     where c.relname = $1::text and c.relnamespace = current_schema()::regnamespace",
);

static POSTGRES_LEADERS: Stmt = Stmt::both(
    "select c.relname::text as name, a.attname::text as leader
     from pg_catalog.pg_index i join pg_catalog.pg_class c on c.oid = i.indexrelid
     join pg_catalog.pg_attribute a on a.attrelid = i.indrelid and a.attnum = i.indkey[0]
     where c.relnamespace = current_schema()::regnamespace",
);

/// Of the lines of a plan those that read a whole table, or an index without a condition on its first column.
fn scans_of_all(plan: &[String], leaders: &HashMap<String, String>) -> Vec<String> {
    let scan = |(at, line): (usize, &String)| {
        let index = match line.split_once(" using ") {
            _ if line.contains("Seq Scan on ") => return Some(line.trim().to_owned()),
            Some((_, rest)) => rest.split(' ').next()?,
            None => line.split_once("Bitmap Index Scan on ")?.1.trim(),
        };
        let condition = plan.get(at + 1).filter(|next| next.contains("Index Cond: "));
        let led_by = |leader: &String| condition.is_some_and(|next| next.contains(&format!("({leader} ")));
        // One that is not known counts as read whole, or this would find nothing where it reads names wrongly.
        let is_led = leaders.get(index).is_some_and(led_by);
        (!is_led).then(|| line.trim().to_owned())
    };
    plan.iter().enumerate().filter_map(scan).collect()
}

impl Store {
    /// What PostgreSQL would read as a whole for statements of these nouns, as it plans them for any values while their
    /// tables are empty, and as it goes on with however they grow until it analyzes them.
    #[doc(hidden)]
    pub async fn whole_scans(&self, nouns: &[&str]) -> Result<Vec<String>> {
        let Database::Postgres(postgres) = &self.database else {
            return Ok(Vec::new());
        };
        let mut found = Vec::new();
        for (noun, name, stmt) in statements(true)
            .into_iter()
            .filter(|(noun, ..)| nouns.contains(noun))
        {
            let text = stmt.postgres();
            let values = (1..100)
                .take_while(|n| text.contains(&format!("${n}")))
                .map(|_| "null");
            let values = values.collect::<Vec<_>>().join(", ");
            let values = if values.is_empty() {
                values
            } else {
                format!("({values})")
            };
            let mut session = postgres.begin(Mode::Write).await?;
            let leaders = session.all(&POSTGRES_LEADERS, &[]).await?;
            let leaders = leaders
                .iter()
                .map(|row| Ok((row.get("name")?, row.get("leader")?)))
                .collect::<Result<HashMap<String, String>>>()?;
            let prepared =
                format!("set local plan_cache_mode = force_generic_plan; prepare looked_at as {text}");
            session.simple(&prepared).await?;
            // For tests only, so that what stays is no matter.
            let explain = format!("explain (costs off) execute looked_at {values}");
            let explain: &'static Stmt = Box::leak(Box::new(Stmt::both(Box::leak(explain.into_boxed_str()))));
            let plan = session.all(explain, &[]).await?;
            let plan = plan
                .iter()
                .map(|row| row.get("QUERY PLAN"))
                .collect::<Result<Vec<String>>>()?;
            let scans = scans_of_all(&plan, &leaders).into_iter();
            found.extend(scans.map(|scan| format!("{noun} {name}: {scan}")));
            session.simple("deallocate looked_at").await?;
            session.rollback().await?;
        }
        Ok(found)
    }

    /// Prepares every statement of every noun; gives the names of those that fail, with why.
    #[doc(hidden)]
    pub async fn prepare_everything(&self) -> Result<Vec<String>> {
        let mut broken = Vec::new();
        match &self.database {
            Database::Sqlite(sqlite) => {
                sqlite
                    .on_writer(|conn| {
                        for (noun, name, stmt) in statements(false) {
                            if let Err(error) = conn.prepare(stmt.sqlite()) {
                                broken.push(format!("{noun} {name}: {error}"));
                            }
                        }
                        broken
                    })
                    .await
            }
            Database::Postgres(postgres) => {
                for (noun, name, stmt) in statements(true) {
                    // Each in a transaction of its own: one that fails would take the next ones with it.
                    let session = postgres.begin(Mode::Read).await?;
                    if let Err(error) = session.prepare(stmt.postgres()).await {
                        broken.push(format!("{noun} {name}: {error}"));
                    }
                }
                Ok(broken)
            }
        }
    }

    /// The number of rows in each table.
    #[doc(hidden)]
    pub async fn count_rows(&self) -> Result<Vec<(String, i64)>> {
        match &self.database {
            Database::Sqlite(sqlite) => sqlite.on_writer(|conn| sqlite_rows(conn)).await?,
            Database::Postgres(postgres) => {
                let mut session = postgres.begin(Mode::Read).await?;
                let mut counted = Vec::new();
                for row in session.all(&POSTGRES_TABLES, &[]).await? {
                    let name: String = row.get("name")?;
                    let count = session.count(&name).await?;
                    counted.push((name, count));
                }
                session.commit().await?;
                Ok(counted)
            }
        }
    }

    /// The tables as the database's own catalogue has them, by name.
    #[doc(hidden)]
    pub async fn catalogue(&self) -> Result<Vec<Table>> {
        match &self.database {
            Database::Sqlite(sqlite) => sqlite.on_writer(|conn| sqlite_catalogue(conn)).await?,
            Database::Postgres(postgres) => {
                let mut session = postgres.begin(Mode::Read).await?;
                let mut tables = Vec::new();
                for row in session.all(&POSTGRES_TABLES, &[]).await? {
                    let name: String = row.get("name")?;
                    let columns = session.all(&POSTGRES_COLUMNS, &[(&name).into()]).await?;
                    let columns = columns
                        .iter()
                        .map(|row| Ok((row.get("name")?, row.get("nullable")?)))
                        .collect::<Result<_>>()?;
                    let mut indexes = Vec::new();
                    for row in session.all(&POSTGRES_INDEXES, &[(&name).into()]).await? {
                        let columns: String = row.get("columns")?;
                        let columns = columns.split(',').map(str::to_owned).collect();
                        indexes.push((row.get("is_unique")?, columns));
                    }
                    tables.push(table(name, columns, indexes));
                }
                session.commit().await?;
                Ok(tables)
            }
        }
    }
}

fn table(name: String, columns: Vec<(String, bool)>, indexes: Vec<(bool, Vec<String>)>) -> Table {
    let (mut unique, mut others) = (Vec::new(), Vec::new());
    for (is_unique, columns) in indexes {
        if is_unique {
            unique.push(columns);
        } else {
            others.push(columns);
        }
    }
    unique.sort();
    others.sort();
    Table {
        name,
        columns,
        unique,
        indexes: others,
    }
}

fn sqlite_tables(conn: &Connection) -> Result<Vec<String>> {
    let mut names = conn.prepare("select name from sqlite_schema where type = 'table' order by name")?;
    let names = names.query_map([], |row| row.get(0))?;
    Ok(names.collect::<std::result::Result<_, _>>()?)
}

fn sqlite_rows(conn: &Connection) -> Result<Vec<(String, i64)>> {
    let count = |name: String| {
        let count = conn.query_row(&format!("select count(*) from {name}"), [], |row| row.get(0))?;
        Ok((name, count))
    };
    sqlite_tables(conn)?.into_iter().map(count).collect()
}

fn sqlite_catalogue(conn: &Connection) -> Result<Vec<Table>> {
    let mut tables = Vec::new();
    for name in sqlite_tables(conn)? {
        let mut columns =
            conn.prepare("select name, \"notnull\" = 0 from pragma_table_info(?1) order by name")?;
        let columns = columns
            .query_map([&name], |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect::<std::result::Result<_, _>>()?;
        let mut indexes = conn.prepare("select name, \"unique\" from pragma_index_list(?1)")?;
        let indexes: Vec<(String, bool)> = indexes
            .query_map([&name], |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect::<std::result::Result<_, _>>()?;
        let mut found = Vec::new();
        for (index, is_unique) in indexes {
            let mut columns =
                conn.prepare("select coalesce(name, '?') from pragma_index_info(?1) order by seqno")?;
            let columns = columns
                .query_map([&index], |row| row.get(0))?
                .collect::<std::result::Result<_, _>>()?;
            found.push((is_unique, columns));
        }
        // A primary key that is the row id itself has no index in the list.
        let mut key = conn.prepare("select name from pragma_table_info(?1) where pk > 0 order by pk")?;
        let key: Vec<String> = key
            .query_map([&name], |row| row.get(0))?
            .collect::<std::result::Result<_, _>>()?;
        if !found
            .iter()
            .any(|(is_unique, columns)| *is_unique && *columns == key)
        {
            found.push((true, key));
        }
        tables.push(table(name, columns, found));
    }
    Ok(tables)
}

impl crate::db::postgres::Session {
    async fn count(&self, table: &str) -> Result<i64> {
        // The name comes from the catalogue.
        let text = format!("select count(*) from \"{}\"", table.replace('"', "\"\""));
        self.scalar(&text)
            .await?
            .ok_or_else(|| Error::Internal(format!("table {table} was not counted")))
    }
}

#[cfg(test)]
mod tests {
    use allswell_core::time::Timestamp;
    use rusqlite::{Connection, StatementStatus};

    use super::statements;
    use crate::Schema;
    use crate::db::{migrate_sqlite, sqlite};

    #[test]
    fn every_statement_is_planned_once_whatever_it_is_given() {
        let conn = Connection::open_in_memory().expect("a database");
        sqlite::configure(&conn).expect("our settings");
        migrate_sqlite(&conn, Schema::Migrate, Timestamp::from_secs(1)).expect("a schema");
        let mut planned_again = Vec::new();
        for (noun, name, stmt) in statements(false) {
            let mut statement = conn.prepare(stmt.sqlite()).expect("a statement");
            for round in 2_i64..5 {
                for place in 1..=statement.parameter_count() {
                    let value = 1_000 * round + place as i64;
                    statement.raw_bind_parameter(place, value).expect("a value");
                }
                // Whether it finds a row or breaks a rule does not matter here.
                let mut rows = statement.raw_query();
                while let Ok(Some(_)) = rows.next() {}
            }
            if statement.get_status(StatementStatus::RePrepare) > 0 {
                planned_again.push(format!("{noun} {name}"));
            }
        }
        assert_eq!(planned_again, [] as [String; 0]);
    }
}
