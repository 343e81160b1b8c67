//! The seam between our statements and the database that runs them.
//!
//! A [`Stmt`] is static text, so SQL never contains what came at run time; values go in as [`Param`] and come back as
//! [`Row`], by column name. [`Reader`] can look, [`Tx`] can also change; both borrow a connection for as long as their
//! transaction lasts. PostgreSQL joins here, as a second case of [`Conn`], and nowhere else.

mod migrate;
mod row;
pub(crate) mod sqlite;
mod stmt;

use std::ops::{Deref, DerefMut};
use std::sync::Arc;

pub(crate) use migrate::migrate;
pub(crate) use row::{Param, Row};
pub(crate) use stmt::{Stmt, in_scope, statements};

use allswell_core::seal::DataKey;

use crate::Result;
use crate::vault::Vault;

/// A borrowed connection.
pub(crate) enum Conn<'c> {
    Sqlite(&'c rusqlite::Connection),
}

/// A transaction that reads.
pub struct Reader<'c> {
    conn: Conn<'c>,
    pub(crate) vault: Arc<Vault>,
    /// Data keys that this transaction unwrapped. The vault gets them after the commit: a key whose row was taken back
    /// must never seal anything.
    pub(crate) learnt: Vec<Arc<DataKey>>,
}

/// A transaction that reads and writes.
pub struct Tx<'c>(Reader<'c>);

impl<'c> Reader<'c> {
    pub(crate) fn new(conn: Conn<'c>, vault: Arc<Vault>) -> Self {
        Reader {
            conn,
            vault,
            learnt: Vec::new(),
        }
    }

    /// Hands the data keys of this transaction to the vault. Only after it ended well.
    pub(crate) fn keep_keys(self) {
        self.learnt.into_iter().for_each(|key| self.vault.remember(key));
    }

    /// All rows of a statement.
    pub(crate) async fn all(&mut self, stmt: &'static Stmt, params: &[Param<'_>]) -> Result<Vec<Row>> {
        match &self.conn {
            Conn::Sqlite(conn) => sqlite::all(conn, stmt, params),
        }
    }

    /// The first row of a statement, if it has one.
    pub(crate) async fn first(&mut self, stmt: &'static Stmt, params: &[Param<'_>]) -> Result<Option<Row>> {
        Ok(self.all(stmt, params).await?.into_iter().next())
    }
}

impl<'c> Tx<'c> {
    pub(crate) fn new(conn: Conn<'c>, vault: Arc<Vault>) -> Self {
        Tx(Reader::new(conn, vault))
    }

    /// See [`Reader::keep_keys`].
    pub(crate) fn keep_keys(self) {
        self.0.keep_keys();
    }

    /// Runs a statement; gives the number of rows it changed.
    pub(crate) async fn run(&mut self, stmt: &'static Stmt, params: &[Param<'_>]) -> Result<u64> {
        match &self.0.conn {
            Conn::Sqlite(conn) => sqlite::run(conn, stmt, params),
        }
    }
}

impl<'c> Deref for Tx<'c> {
    type Target = Reader<'c>;
    fn deref(&self) -> &Reader<'c> {
        &self.0
    }
}

impl<'c> DerefMut for Tx<'c> {
    fn deref_mut(&mut self) -> &mut Reader<'c> {
        &mut self.0
    }
}
