//! The store: opened once, shared by everything.

use std::fs::{File, TryLockError};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use allswell_core::time::{Span, Timestamp};

use crate::db::postgres::{Mode, PING_CONNECTIONS, Postgres, Server, Session};
use crate::db::sqlite::{Sqlite, lend, run_to_end};
use crate::db::{Conn, Reader, Stmt, Tx, migrate_postgres, migrate_sqlite};
use crate::vault::Vault;
use crate::{Error, Result};

/// Where a database is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A SQLite file.
    File(PathBuf),
    /// SQLite in memory: gone when the store is. For tests and the simulator.
    Memory,
    /// A PostgreSQL database.
    Postgres(Box<Server>),
}

/// What opening does with a schema that is older than this program.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Schema {
    /// Brings it up to date.
    Migrate,
    /// Refuses it: a command does not change it under a running server, and a role may not.
    Check,
}

/// What the database says of its settings that promises rest on, read back from the database itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Durability {
    /// Of the writing connection.
    Sqlite {
        /// `wal`.
        journal_mode: String,
        /// 2 is FULL: each commit is on disk before it is answered.
        synchronous: i64,
    },
    /// Of the server, for our role.
    Postgres {
        /// `on`, or a crash of the machine can lose everything.
        fsync: String,
        /// Anything but `off`: each commit is on disk before it is answered.
        synchronous_commit: String,
        /// `on`, or a crash of the machine can tear pages.
        full_page_writes: String,
    },
}

impl Durability {
    /// Whether each commit is on disk before it is answered, and stays readable after a crash of the machine.
    pub fn is_kept(&self) -> bool {
        match self {
            Durability::Sqlite {
                journal_mode,
                synchronous,
            } => journal_mode == "wal" && *synchronous >= 2,
            Durability::Postgres {
                fsync,
                synchronous_commit,
                full_page_writes,
            } => fsync == "on" && synchronous_commit != "off" && full_page_writes == "on",
        }
    }
}

static SCHEMA_VERSION: Stmt = Stmt::both("select version from schema_versions order by version desc limit 1");

static DURABILITY: Stmt = Stmt::both(
    "select current_setting('fsync') as fsync, current_setting('synchronous_commit') as synchronous_commit,
            current_setting('full_page_writes') as full_page_writes",
);

/// The right to be a server on this database, held until it is dropped or the process ends in whatever way.
#[derive(Debug)]
pub struct Serving {
    lock: Option<File>,
}

#[derive(Clone)]
pub(crate) enum Database {
    Sqlite(Sqlite),
    Postgres(Postgres),
}

/// How often an edit is tried whose transaction meets others that are in its way.
const COLLISIONS_MAX: u32 = 5;
/// Free pages that a database keeps for what comes next; 4 MB.
const FREE_PAGES_MIN: i64 = 1_000;
/// Pages that one call gives back; 2 MB, so that pings do not wait for long.
const SHRINK_PAGES: i64 = 500;

impl Serving {
    /// Whether nobody else can serve meanwhile.
    pub fn is_alone(&self) -> bool {
        self.lock.is_some()
    }
}

/// A database and the keys to its sealed fields. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    pub(crate) database: Database,
    pub(crate) vault: Arc<Vault>,
    /// Counts the commits of this process that moved a project's change sequence.
    pub(crate) changed: tokio::sync::watch::Sender<u64>,
    /// Whether the database takes a write, as far as is known.
    pub(crate) ready: crate::ready::Shared,
}

impl Store {
    /// Opens a database and brings its schema up to date. Several processes may have one open: commands of the operator
    /// work beside a running server.
    pub async fn open(place: &Place, now: Timestamp) -> Result<Self> {
        Self::open_with(place, Schema::Migrate, now).await
    }

    /// Opens a database, and does with its schema as told.
    ///
    /// # Errors
    /// `Corrupt` for a schema that is newer than this program or was made by another, `Unavailable` for one that is
    /// older when it is not to be changed.
    pub async fn open_with(place: &Place, schema: Schema, now: Timestamp) -> Result<Self> {
        let database = match place {
            Place::File(path) => Database::Sqlite(Sqlite::open(path)?),
            Place::Memory => Database::Sqlite(Sqlite::in_memory()?),
            Place::Postgres(server) => Database::Postgres(Postgres::new(server)?),
        };
        match &database {
            Database::Sqlite(sqlite) => {
                sqlite
                    .on_writer(move |conn| migrate_sqlite(conn, schema, now))
                    .await??
            }
            Database::Postgres(postgres) => {
                migrate_postgres(|| postgres.begin_patiently(), schema, now).await?;
            }
        }
        Ok(Store {
            database,
            vault: Arc::default(),
            changed: tokio::sync::watch::Sender::default(),
            ready: Arc::default(),
        })
    }

    /// Takes the right to serve a database; `None` if it has one server at most and another is that. PostgreSQL has any
    /// number of them. Before the database is opened: a newer program must not change the schema under a running one.
    pub fn lock_for_serving(place: &Place) -> Result<Option<Serving>> {
        let path = match place {
            Place::File(path) => path,
            Place::Postgres(_) => return Ok(Some(Serving { lock: None })),
            Place::Memory => {
                return Err(Error::Internal(
                    "a database in memory has one server anyway".to_owned(),
                ));
            }
        };
        let path = lock_path(&real_path(path));
        let unavailable = |error: std::io::Error| Error::Unavailable(format!("{}: {error}", path.display()));
        let file = File::options()
            .create(true)
            .append(true)
            .open(&path)
            .map_err(unavailable)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Serving { lock: Some(file) })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(unavailable(error)),
        }
    }

    /// Whether other servers may serve this database at the same time: PostgreSQL has any number of them.
    pub fn may_be_shared(&self) -> bool {
        matches!(self.database, Database::Postgres(_))
    }

    /// How many transactions of this process may write at the same time, those of pings aside.
    pub fn writers(&self) -> usize {
        match &self.database {
            Database::Postgres(postgres) => postgres.connections(),
            Database::Sqlite(_) => 1,
        }
    }

    /// Wakes whenever a transaction of this process moved a project's change sequence.
    pub fn changed(&self) -> tokio::sync::watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Runs a transaction that writes. It commits if the closure ends well and is taken back otherwise (but for a batch that
    /// says that nothing follows it: [`Then::Nothing`](crate::batch::Then)). Nothing but SQL belongs inside. Not tried again
    /// here: whoever called knows what to do with a failure.
    ///
    /// On SQLite the closure runs to its end on the thread of the writing connection; on PostgreSQL it runs here, and is
    /// taken back if the caller stops waiting.
    ///
    /// # Errors
    /// What the closure gives, or the database's own.
    pub async fn write<T, E, F>(&self, work: F) -> Result<T, E>
    where
        F: for<'t, 'c> AsyncFnOnce(&'t mut Tx<'c>) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        match &self.database {
            Database::Sqlite(sqlite) => self.write_on_sqlite(sqlite, work).await,
            Database::Postgres(postgres) => {
                let session = postgres.begin_later(Mode::Write).await?;
                self.write_on_postgres(session, work).await.0
            }
        }
    }

    /// Like [`Store::write`], and done again, a few times at most, where PostgreSQL broke the transaction off because it
    /// and another waited for each other, or came in each other's way: for edits, whose callers have nothing better to do
    /// with that than to send the same again. Of what was broken off nothing stays.
    ///
    /// # Errors
    /// What the closure gives, or the database's own.
    pub async fn write_again<T, E, F>(&self, work: F) -> Result<T, E>
    where
        F: for<'t, 'c> AsyncFnOnce(&'t mut Tx<'c>) -> Result<T, E> + Clone + Send + 'static,
        T: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        if let Database::Postgres(postgres) = &self.database {
            for _ in 1..COLLISIONS_MAX {
                let session = postgres.begin_later(Mode::Write).await?;
                let (result, has_collided) = self.write_on_postgres(session, work.clone()).await;
                if result.is_ok() || !has_collided {
                    return result;
                }
            }
        }
        self.write(work).await
    }

    /// How many transactions of pings the database takes at once. Two that change one check are in each other's way.
    pub fn ping_lanes(&self) -> usize {
        match &self.database {
            Database::Sqlite(_) => 1,
            Database::Postgres(_) => PING_CONNECTIONS,
        }
    }

    /// Like [`Store::write`], on a connection that is kept for pings.
    ///
    /// # Errors
    /// What the closure gives, or the database's own.
    pub async fn write_pings<T, E, F>(&self, work: F) -> Result<T, E>
    where
        F: for<'t, 'c> AsyncFnOnce(&'t mut Tx<'c>) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        match &self.database {
            Database::Sqlite(sqlite) => self.write_on_sqlite(sqlite, work).await,
            Database::Postgres(postgres) => {
                let session = postgres.begin_pings().await?;
                self.write_on_postgres(session, work).await.0
            }
        }
    }

    async fn write_on_sqlite<T, E, F>(&self, sqlite: &Sqlite, work: F) -> Result<T, E>
    where
        F: for<'t, 'c> AsyncFnOnce(&'t mut Tx<'c>) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        let (vault, script) = (Arc::clone(&self.vault), sqlite.script());
        let listeners = self.changed.clone();
        sqlite
            .on_writer(move |conn| {
                script.as_ref().map_or(Ok(()), |script| script.begin())?;
                conn.execute_batch("begin immediate").map_err(Error::from)?;
                let mut tx = Tx::new(lend(conn, script.as_deref()), Arc::clone(&vault));
                let result = run_to_end(work(&mut tx));
                let changed = tx.changed;
                let (keys, generation) = tx.into_keys();
                let ended = match (&result, &script) {
                    (Ok(_), None) => conn.execute_batch("commit").map_err(Error::from),
                    (Ok(_), Some(script)) => script.commit(conn),
                    (Err(_), _) => conn.execute_batch("rollback").map_err(Error::from),
                };
                if let Err(error) = ended {
                    // A commit that fails on a full disk leaves the transaction open.
                    let _ = conn.execute_batch("rollback");
                    return result.and(Err(error.into()));
                }
                if result.is_ok() {
                    vault.remember_all(keys, generation);
                    if changed {
                        listeners.send_modify(|commits| *commits += 1);
                    }
                }
                result
            })
            .await?
    }

    /// Also tells whether the database broke the transaction off since another was in its way.
    async fn write_on_postgres<T, E, F>(&self, mut session: Session, work: F) -> (Result<T, E>, bool)
    where
        F: for<'t, 'c> AsyncFnOnce(&'t mut Tx<'c>) -> Result<T, E> + Send + 'static,
        E: From<Error>,
    {
        let mut tx = Tx::new(Conn::Postgres(&mut session), Arc::clone(&self.vault));
        let result = caught(work(&mut tx)).await;
        let changed = tx.changed;
        let (keys, generation) = tx.into_keys();
        let has_collided = session.has_collided();
        let result = match result {
            Ok(Ok(value)) => session.commit().await.map_err(E::from).map(|()| {
                self.vault.remember_all(keys, generation);
                if changed {
                    self.changed.send_modify(|commits| *commits += 1);
                }
                value
            }),
            Ok(Err(error)) => {
                // What broke the transaction matters more than what broke its end.
                let _ = session.rollback().await;
                Err(error)
            }
            Err(broken) => Err(broken.into()),
        };
        (result, has_collided)
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
        match &self.database {
            Database::Sqlite(sqlite) => {
                let (vault, script) = (Arc::clone(&self.vault), sqlite.script());
                sqlite
                    .on_reader(move |conn| {
                        script.as_ref().map_or(Ok(()), |script| script.begin())?;
                        conn.execute_batch("begin").map_err(Error::from)?;
                        let mut reader = Reader::new(lend(conn, script.as_deref()), Arc::clone(&vault));
                        let result = run_to_end(work(&mut reader));
                        let (keys, generation) = reader.into_keys();
                        conn.execute_batch("commit").map_err(Error::from)?;
                        vault.remember_all(keys, generation);
                        result
                    })
                    .await?
            }
            Database::Postgres(postgres) => {
                let mut session = postgres.begin_later(Mode::Read).await?;
                let mut reader = Reader::new(Conn::Postgres(&mut session), Arc::clone(&self.vault));
                let result = caught(work(&mut reader)).await;
                let (keys, generation) = reader.into_keys();
                let value = match result {
                    Ok(result) => result?,
                    Err(broken) => return Err(broken.into()),
                };
                session.commit().await?;
                self.vault.remember_all(keys, generation);
                Ok(value)
            }
        }
    }

    /// Hears the words that transactions of any node said for the loops of the others. Gives back only when the
    /// connection for it breaks; never on SQLite, where there is one node, nor behind a pooler, which has no connection of
    /// ours to say anything on.
    ///
    /// # Errors
    /// The database's own.
    pub async fn listen(&self, hear: impl FnMut(&str)) -> Result<()> {
        match &self.database {
            Database::Postgres(postgres) if postgres.keeps_connections() => postgres.listen(hear).await,
            Database::Sqlite(_) | Database::Postgres(_) => std::future::pending().await,
        }
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
        match &self.database {
            Database::Sqlite(sqlite) => {
                sqlite
                    .on_writer(|conn| {
                        Ok(Durability::Sqlite {
                            journal_mode: conn.pragma_query_value(None, "journal_mode", |row| row.get(0))?,
                            synchronous: conn.pragma_query_value(None, "synchronous", |row| row.get(0))?,
                        })
                    })
                    .await?
            }
            Database::Postgres(postgres) => {
                let mut session = postgres.begin(Mode::Read).await?;
                let rows = session.all(&DURABILITY, &[]).await?;
                session.commit().await?;
                let row = rows
                    .first()
                    .ok_or_else(|| Error::Internal("no settings".to_owned()))?;
                Ok(Durability::Postgres {
                    fsync: row.get("fsync")?,
                    synchronous_commit: row.get("synchronous_commit")?,
                    full_page_writes: row.get("full_page_writes")?,
                })
            }
        }
    }

    /// The version of the schema.
    pub async fn schema_version(&self) -> Result<i64> {
        self.read(async |reader| {
            let row = reader.first(&SCHEMA_VERSION, &[]).await?;
            row.map_or(Ok(0), |row| row.get("version"))
        })
        .await
    }

    /// Gives some of the pages that deleting has freed back to the disk. PostgreSQL sees to that by itself.
    pub async fn shrink(&self) -> Result<()> {
        match &self.database {
            Database::Sqlite(sqlite) => {
                sqlite
                    .on_writer(|conn| {
                        let free: i64 = conn.pragma_query_value(None, "freelist_count", |row| row.get(0))?;
                        if free > FREE_PAGES_MIN {
                            // Each step gives back one page.
                            let mut pages =
                                conn.prepare(&format!("pragma incremental_vacuum({SHRINK_PAGES})"))?;
                            let mut steps = pages.query([])?;
                            while steps.next()?.is_some() {}
                        }
                        Ok(())
                    })
                    .await?
            }
            Database::Postgres(_) => Ok(()),
        }
    }

    /// Writes the write-ahead log of SQLite back into the database file, so that a clean end leaves one file.
    pub async fn checkpoint(&self) -> Result<()> {
        let Database::Sqlite(sqlite) = &self.database else {
            return Ok(());
        };
        sqlite
            .on_writer(|conn| {
                conn.query_row("pragma wal_checkpoint(truncate)", [], |_| Ok(()))?;
                Ok(())
            })
            .await?
    }
}

/// Runs a future and catches its panic, so that a broken invariant breaks off one transaction on either database.
async fn caught<T>(future: impl Future<Output = T>) -> Result<T> {
    let mut future = pin!(future);
    std::future::poll_fn(
        |context| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context))) {
            Ok(poll) => poll.map(Ok),
            // The panic hook has written why.
            Err(_) => Poll::Ready(Err(Error::Internal(
                "a transaction broke off; the log says why".to_owned(),
            ))),
        },
    )
    .await
}

/// The one name of a file, also if it is not there yet: two links to one database must not be two locks.
fn real_path(path: &Path) -> PathBuf {
    let by_dir = || {
        let dir = path
            .parent()
            .filter(|dir| !dir.as_os_str().is_empty())
            .unwrap_or(Path::new("."));
        Some(dir.canonicalize().ok()?.join(path.file_name()?))
    };
    path.canonicalize()
        .ok()
        .or_else(by_dir)
        .unwrap_or_else(|| path.to_owned())
}

fn lock_path(database: &Path) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push(".lock");
    PathBuf::from(name)
}
