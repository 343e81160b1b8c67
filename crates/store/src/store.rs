//! The store: opened once, shared by everything.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use allswell_core::time::{Span, Timestamp};

use crate::db::sqlite::{Sqlite, run_to_end};
use crate::db::{Conn, Reader, Tx, migrate};
use crate::vault::Vault;
use crate::{Error, Result};

/// Where a database is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A SQLite file.
    File(PathBuf),
    /// SQLite in memory: gone when the store is. For tests and the simulator.
    Memory,
}

/// What SQLite says of its settings that promises rest on, read back from the writing connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Durability {
    /// `wal`.
    pub journal_mode: String,
    /// 2 is FULL: each commit is on disk before it is answered.
    pub synchronous: i64,
}

/// A database with its threads and the keys to its sealed fields. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    sqlite: Sqlite,
    pub(crate) vault: Arc<Vault>,
    place: Place,
}

impl Store {
    /// Opens a database and brings its schema up to date. Several processes may have one file open: commands of the
    /// operator work beside a running server.
    pub async fn open(place: &Place, now: Timestamp) -> Result<Self> {
        let sqlite = match place {
            Place::File(path) => Sqlite::open(path)?,
            Place::Memory => Sqlite::in_memory()?,
        };
        sqlite.on_writer(move |conn| migrate(conn, now)).await??;
        Ok(Store {
            sqlite,
            vault: Arc::default(),
            place: place.clone(),
        })
    }

    /// Takes the right to be the one server on this database; `None` if another has it. Held until the file is
    /// dropped, or the process ends in whatever way.
    pub fn lock_for_serving(&self) -> Result<Option<File>> {
        let Place::File(path) = &self.place else {
            return Err(Error::Internal(
                "a database in memory has one server anyway".to_owned(),
            ));
        };
        // By its real name: two links to one database must not be two locks.
        let path = lock_path(&path.canonicalize().unwrap_or_else(|_| path.clone()));
        let unavailable = |error: std::io::Error| Error::Unavailable(format!("{}: {error}", path.display()));
        let file = File::options()
            .create(true)
            .append(true)
            .open(&path)
            .map_err(unavailable)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(unavailable(error)),
        }
    }

    /// Runs a transaction that writes. It commits if the closure ends well and is taken back otherwise. Nothing but
    /// SQL belongs inside. Not tried again here: whoever called knows what to do with a failure.
    ///
    /// # Errors
    /// What the closure gives, or the database's own.
    pub async fn write<T, E, F>(&self, work: F) -> Result<T, E>
    where
        F: for<'t, 'c> AsyncFnOnce(&'t mut Tx<'c>) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        let vault = Arc::clone(&self.vault);
        self.sqlite
            .on_writer(move |conn| {
                conn.execute_batch("begin immediate").map_err(Error::from)?;
                let mut tx = Tx::new(Conn::Sqlite(conn), vault);
                let result = run_to_end(work(&mut tx));
                let ended = match result {
                    Ok(_) => conn.execute_batch("commit"),
                    Err(_) => conn.execute_batch("rollback"),
                };
                if let Err(error) = ended {
                    // A commit that fails on a full disk leaves the transaction open.
                    let _ = conn.execute_batch("rollback");
                    return result.and(Err(Error::from(error).into()));
                }
                if result.is_ok() {
                    tx.keep_keys();
                }
                result
            })
            .await?
    }

    /// Runs a transaction that reads: everything in it sees one state of the database.
    ///
    /// # Errors
    /// What the closure gives, or the database's own.
    pub async fn read<T, E, F>(&self, work: F) -> Result<T, E>
    where
        F: for<'t, 'c> AsyncFnOnce(&'t mut Reader<'c>) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        let vault = Arc::clone(&self.vault);
        self.sqlite
            .on_reader(move |conn| {
                conn.execute_batch("begin").map_err(Error::from)?;
                let mut reader = Reader::new(Conn::Sqlite(conn), vault);
                let result = run_to_end(work(&mut reader));
                conn.execute_batch("commit").map_err(Error::from)?;
                reader.keep_keys();
                result
            })
            .await?
    }

    /// How long a small write takes from its begin to its commit, at the median of nine: mostly the time the disk
    /// takes to flush.
    pub async fn flush_time(&self, clock: impl Fn() -> Timestamp) -> Result<Span> {
        let mut spans = Vec::new();
        for round in 0..9_i64 {
            let begun = clock();
            self.write(async move |tx| tx.instance_set("flush_probe", &round.to_string()).await)
                .await?;
            spans.push(clock() - begun);
        }
        spans.sort();
        Ok(spans[spans.len() / 2])
    }

    /// Reads the settings back that durability rests on.
    pub async fn durability(&self) -> Result<Durability> {
        self.sqlite
            .on_writer(|conn| {
                Ok(Durability {
                    journal_mode: conn.pragma_query_value(None, "journal_mode", |row| row.get(0))?,
                    synchronous: conn.pragma_query_value(None, "synchronous", |row| row.get(0))?,
                })
            })
            .await?
    }

    /// Whether the database answers.
    pub async fn is_ready(&self) -> bool {
        self.read(async |reader| reader.instance_get("schema").await.map(drop))
            .await
            .is_ok()
    }

    /// Writes the write-ahead log back into the database file, so that a clean end leaves one file.
    pub async fn checkpoint(&self) -> Result<()> {
        self.sqlite
            .on_writer(|conn| {
                conn.query_row("pragma wal_checkpoint(truncate)", [], |_| Ok(()))?;
                Ok(())
            })
            .await?
    }

    /// Prepares every statement of every noun; gives the names of those that fail, with why.
    #[doc(hidden)]
    pub async fn prepare_everything(&self) -> Result<Vec<String>> {
        let nouns = [
            ("absences", crate::absences::STATEMENTS),
            ("audit", crate::audit::STATEMENTS),
            ("badges", crate::badges::STATEMENTS),
            ("channels", crate::channels::STATEMENTS),
            ("checks", crate::checks::STATEMENTS),
            ("flips", crate::flips::STATEMENTS),
            ("instance", crate::instance::STATEMENTS),
            ("keys", crate::keys::STATEMENTS),
            ("outbox", crate::outbox::STATEMENTS),
            ("people", crate::people::STATEMENTS),
            ("pings", crate::pings::STATEMENTS),
            ("projects", crate::projects::STATEMENTS),
            ("retention", crate::retention::STATEMENTS),
        ];
        self.sqlite
            .on_writer(move |conn| {
                let all = nouns
                    .iter()
                    .flat_map(|(noun, list)| list.iter().map(move |(name, stmt)| (noun, name, stmt)));
                all.filter_map(|(noun, name, stmt)| {
                    conn.prepare(stmt.sqlite())
                        .err()
                        .map(|error| format!("{noun} {name}: {error}"))
                })
                .collect()
            })
            .await
    }

    /// The number of rows in each table, for the tests that hold deletes to their word.
    #[doc(hidden)]
    pub async fn count_rows(&self) -> Result<Vec<(String, i64)>> {
        self.sqlite
            .on_writer(|conn| {
                let names: Vec<String> = conn
                    .prepare("select name from sqlite_schema where type = 'table' order by name")?
                    .query_map([], |row| row.get(0))?
                    .collect::<std::result::Result<_, _>>()?;
                names
                    .into_iter()
                    .map(|name| {
                        let count =
                            conn.query_row(&format!("select count(*) from {name}"), [], |row| row.get(0))?;
                        Ok((name, count))
                    })
                    .collect()
            })
            .await?
    }
}

fn lock_path(database: &Path) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push(".lock");
    PathBuf::from(name)
}
