//! The seam between our statements and the database that runs them.
//!
//! A [`Stmt`] is static text, so SQL never contains what came at run time; values go in as [`Param`] and come back as
//! [`Row`], by column name. [`Reader`] can look, [`Tx`] can also change; both borrow a connection for as long as their
//! transaction lasts. The two databases are the two cases of [`Conn`], and meet nowhere else.

mod migrate;
pub(crate) mod postgres;
mod row;
pub(crate) mod script;
pub(crate) mod sqlite;
mod stmt;

use std::ops::{Deref, DerefMut};
use std::sync::Arc;

pub(crate) use migrate::{on_postgres as migrate_postgres, on_sqlite as migrate_sqlite};
pub(crate) use row::{Columns, FromColumns, FromValue, Param, Row};
pub(crate) use stmt::{Stmt, in_scope, postgres_statements, statements};

use self::postgres::Asked;
use crate::Result;
use crate::vault::{Learnt, Vault};

/// A borrowed connection.
pub(crate) enum Conn<'c> {
    /// Exclusive, since only that can travel between threads with the task that holds it.
    Sqlite(&'c mut rusqlite::Connection),
    /// In a simulated world, where statements fail as its seed says.
    Scripted(&'c mut rusqlite::Connection, &'c script::Script),
    Postgres(&'c mut postgres::Session),
}

/// A transaction that reads.
pub struct Reader<'c> {
    conn: Conn<'c>,
    pub(crate) vault: Arc<Vault>,
    /// Data keys that this transaction unwrapped. The vault gets them after the commit: a key whose row was taken back
    /// must never seal anything.
    pub(crate) learnt: Vec<Learnt>,
    /// Of the vault, when this transaction began.
    generation: u64,
}

/// A transaction that reads and writes.
pub struct Tx<'c> {
    reader: Reader<'c>,
    /// It moved a project's change sequence: listeners are told after the commit.
    pub(crate) changed: bool,
}

impl<'c> Reader<'c> {
    pub(crate) fn new(conn: Conn<'c>, vault: Arc<Vault>) -> Self {
        let generation = vault.generation();
        Reader {
            conn,
            vault,
            learnt: Vec::new(),
            generation,
        }
    }

    /// The data keys that this transaction unwrapped, for the vault, and the vault's generation when it began. Only after
    /// it ended well.
    pub(crate) fn into_keys(self) -> (Vec<Learnt>, u64) {
        (self.learnt, self.generation)
    }

    pub(crate) fn is_postgres(&self) -> bool {
        matches!(self.conn, Conn::Postgres(_))
    }

    /// The numbers for bodies that this process holds; only on PostgreSQL are they taken beforehand.
    pub(crate) fn free_body_ids(&self) -> Option<Arc<postgres::Numbers>> {
        match &self.conn {
            Conn::Postgres(session) => Some(session.free_body_ids()),
            Conn::Sqlite(_) | Conn::Scripted(..) => None,
        }
    }

    /// Differs once the database may have forgotten what it had committed: a connection had to be made anew, and at its end a
    /// server may be that crashed without flushing, or another in its place. (SQLite flushes, and is the one it was.)
    pub fn epoch(&self) -> u64 {
        self.free_body_ids().map_or(0, |numbers| numbers.forgotten())
    }

    /// All rows of a statement.
    pub(crate) async fn all(&mut self, stmt: &'static Stmt, params: &[Param<'_>]) -> Result<Vec<Row>> {
        match &mut self.conn {
            Conn::Sqlite(conn) => sqlite::all(conn, stmt, params),
            Conn::Scripted(conn, script) => {
                script.before(conn, stmt)?;
                sqlite::all(conn, stmt, params)
            }
            Conn::Postgres(session) => session.all(stmt, params).await,
        }
    }

    /// What each row of a statement is, for each of several sets of values.
    pub(crate) async fn decoded<T: FromColumns, const N: usize>(
        &mut self,
        stmt: &'static Stmt,
        sets: &[[Param<'_>; N]],
    ) -> Result<Vec<T>> {
        match &mut self.conn {
            Conn::Sqlite(conn) => sqlite::decoded(conn, stmt, sets),
            Conn::Postgres(session) => {
                let mut found = Vec::new();
                for params in sets {
                    found.append(&mut session.decoded(stmt, params).await?);
                }
                Ok(found)
            }
            Conn::Scripted(..) => {
                let mut found = Vec::new();
                for params in sets {
                    for row in self.all(stmt, params).await? {
                        found.push(T::from_columns(&row)?);
                    }
                }
                Ok(found)
            }
        }
    }

    /// The first row of a statement, if it has one.
    pub(crate) async fn first(&mut self, stmt: &'static Stmt, params: &[Param<'_>]) -> Result<Option<Row>> {
        Ok(self.all(stmt, params).await?.into_iter().next())
    }
}

impl<'c> Tx<'c> {
    pub(crate) fn new(conn: Conn<'c>, vault: Arc<Vault>) -> Self {
        Tx {
            reader: Reader::new(conn, vault),
            changed: false,
        }
    }

    /// See [`Reader::into_keys`].
    pub(crate) fn into_keys(self) -> (Vec<Learnt>, u64) {
        self.reader.into_keys()
    }

    /// Wakes a loop of the other nodes when this transaction commits. On SQLite there are none.
    pub(crate) fn nudge(&mut self, word: &'static str) {
        if let Conn::Postgres(session) = &mut self.reader.conn {
            session.nudge(word);
        }
    }

    /// All rows of a statement, behind which another is run. If the transaction `ends` with them, its commit goes with them
    /// where the database is a journey away; what is asked afterwards is another transaction there.
    pub(crate) async fn all_then(
        &mut self,
        asked: Asked<'_>,
        then: Option<Asked<'_>>,
        ends: bool,
    ) -> Result<Vec<Row>> {
        match &mut self.reader.conn {
            Conn::Postgres(session) if ends => session.last(asked, then).await,
            _ => {
                let rows = self.all(asked.0, asked.1).await?;
                if let Some((stmt, params)) = then {
                    self.run(stmt, params).await?;
                }
                Ok(rows)
            }
        }
    }

    /// Runs a statement; gives the number of rows it changed.
    pub(crate) async fn run(&mut self, stmt: &'static Stmt, params: &[Param<'_>]) -> Result<u64> {
        match &mut self.reader.conn {
            Conn::Sqlite(conn) => sqlite::run(conn, stmt, params),
            Conn::Scripted(conn, script) => {
                script.before(conn, stmt)?;
                sqlite::run(conn, stmt, params)
            }
            Conn::Postgres(session) => session.run(stmt, params).await,
        }
    }
}

impl Tx<'_> {
    /// Runs a statement for each of several sets of values; gives the number of rows that each changed. On SQLite it is
    /// looked up once for all of them.
    pub(crate) async fn run_each<const N: usize>(
        &mut self,
        stmt: &'static Stmt,
        sets: &[[Param<'_>; N]],
    ) -> Result<Vec<u64>> {
        match &mut self.reader.conn {
            Conn::Sqlite(conn) => sqlite::run_each(conn, stmt, sets),
            _ => {
                let mut changed = Vec::new();
                for params in sets {
                    changed.push(self.run(stmt, params).await?);
                }
                Ok(changed)
            }
        }
    }
}

impl<'c> Deref for Tx<'c> {
    type Target = Reader<'c>;
    fn deref(&self) -> &Reader<'c> {
        &self.reader
    }
}

impl<'c> DerefMut for Tx<'c> {
    fn deref_mut(&mut self) -> &mut Reader<'c> {
        &mut self.reader
    }
}
