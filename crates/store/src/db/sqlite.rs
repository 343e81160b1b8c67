//! SQLite: one thread that owns the only writing connection, and a few that own read-only ones.
//!
//! A transaction is a closure that travels to a thread and runs there to its end; on these threads every await is ready
//! at once, so no transaction is ever held open by a task that waits for something else. What waits for the writer is
//! first come, first served.

use std::cell::Cell;
use std::path::Path;
use std::pin::pin;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::hooks::Wal;
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::wal::CheckpointMode;
use rusqlite::{Connection, OpenFlags, ToSql};
use tokio::sync::mpsc;

use super::Conn;
use super::row::{Columns, FromColumns, FromValue, Look, Param, Row, Value, place_of};
use super::script::Script;
use super::stmt::Stmt;
use crate::{Error, Result};

/// Work for whoever owns the connection.
pub(crate) type Job = Box<dyn FnOnce(&mut Connection) + Send>;

/// Work that may wait for one thread before senders wait in turn.
pub(crate) const QUEUE_MAX: usize = 1024;
const READERS: usize = 2;
const STATEMENTS_CACHED_MAX: usize = 256;
/// How long a write waits for another process, such as a command of the operator.
pub(crate) const BUSY: Duration = Duration::from_secs(5);
/// How often a connection tries to switch a new database to write-ahead logging while others do the same.
const SWITCHES_MAX: u32 = 100;
/// Pages of write-ahead log before a checkpoint; 32 MB. The longer the log, the more changes of a page are moved into the
/// database at once, and the longer whoever writes next waits for it.
const CHECKPOINT_PAGES: i32 = 8_000;
const CACHE_KIB: i64 = 32 * 1024;
const MMAP_BYTES: i64 = 0;
/// What `pragma auto_vacuum` says for it.
const AUTO_VACUUM_INCREMENTAL: i64 = 2;

/// The threads of one SQLite database.
#[derive(Clone)]
pub(crate) struct Sqlite {
    writer: mpsc::Sender<Job>,
    readers: mpsc::Sender<Job>,
    /// Only in a simulated world: what becomes of the transactions.
    script: Option<Arc<Script>>,
}

impl Sqlite {
    /// A database whose work a simulated world runs, in its own order.
    pub(crate) fn scripted(
        writer: mpsc::Sender<Job>,
        readers: mpsc::Sender<Job>,
        script: Arc<Script>,
    ) -> Self {
        let script = Some(script);
        Sqlite {
            writer,
            readers,
            script,
        }
    }

    /// What becomes of the transactions, in a simulated world.
    pub(crate) fn script(&self) -> Option<Arc<Script>> {
        self.script.clone()
    }

    /// Opens a database file, making it if it is not there.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let mut writer = Connection::open_with_flags(
            path,
            OpenFlags::SQLITE_OPEN_READ_WRITE
                | OpenFlags::SQLITE_OPEN_CREATE
                | OpenFlags::SQLITE_OPEN_NO_MUTEX,
        )?;
        configure(&writer)?;
        let log = Log::watch(&mut writer)?;
        let readers = (0..READERS)
            .map(|_| {
                let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
                let reader = Connection::open_with_flags(path, flags)?;
                configure_any(&reader)?;
                Ok(reader)
            })
            .collect::<Result<Vec<_>>>()?;
        Ok(Sqlite {
            writer: spawn("store-writer", vec![writer], Some(log)),
            readers: spawn("store-reader", readers, None),
            script: None,
        })
    }

    /// A database in memory, for tests and the simulator: reader and writer are one connection.
    pub(crate) fn in_memory() -> Result<Self> {
        let only = Connection::open_in_memory()?;
        configure(&only)?;
        let writer = spawn("store-memory", vec![only], None);
        Ok(Sqlite {
            readers: writer.clone(),
            writer,
            script: None,
        })
    }

    /// Runs work on the writing connection. `Unavailable` if its thread has ended.
    pub(crate) async fn on_writer<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> T + Send + 'static,
    ) -> Result<T> {
        send(&self.writer, work).await
    }

    /// Runs work on a reading connection.
    pub(crate) async fn on_reader<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> T + Send + 'static,
    ) -> Result<T> {
        send(&self.readers, work).await
    }
}

async fn send<T: Send + 'static>(
    threads: &mpsc::Sender<Job>,
    work: impl FnOnce(&mut Connection) -> T + Send + 'static,
) -> Result<T> {
    let (reply, answer) = tokio::sync::oneshot::channel();
    let job: Job = Box::new(move |conn| {
        // Nobody waits any more when a client went away; the work is done all the same.
        let _ = reply.send(work(conn));
    });
    let gone = || Error::Unavailable("the database is closed".to_owned());
    threads.send(job).await.map_err(|_| gone())?;
    // The reply is dropped unsent when the work panicked.
    answer
        .await
        .map_err(|_| Error::Internal("a transaction broke off; the log says why".to_owned()))
}

/// How long the write-ahead log is.
#[derive(Clone)]
struct Log(Arc<AtomicI32>);

impl Log {
    /// Notes it with each commit, in the place of SQLite's own checkpoints: those come within the commit, before its answer.
    /// (`pragma wal_autocheckpoint` would put them back.)
    fn watch(writer: &mut Connection) -> Result<Self> {
        let pages = Arc::new(AtomicI32::new(0));
        let log = Log(Arc::clone(&pages));
        writer.wal_hook(Some(move |_: &mut Wal, so_many| {
            pages.store(so_many, Ordering::Relaxed);
            Ok(())
        }))?;
        Ok(log)
    }

    /// Moves a log that has grown long into the database. Where that fails, or a reader still needs a part of it, the next
    /// commit tries again; on a full disk whoever writes is told.
    fn shorten(&self, writer: &Connection) {
        if self.0.swap(0, Ordering::Relaxed) >= CHECKPOINT_PAGES {
            let _ = writer.wal_checkpoint_v2(rusqlite::DEFAULT_NAME, CheckpointMode::PASSIVE);
        }
    }
}

/// Threads for these connections. `log`: of the one that writes.
fn spawn(name: &str, connections: Vec<Connection>, log: Option<Log>) -> mpsc::Sender<Job> {
    let (sender, receiver) = mpsc::channel::<Job>(QUEUE_MAX);
    let receiver = Arc::new(Mutex::new(receiver));
    for (index, mut conn) in connections.into_iter().enumerate() {
        let receiver = Arc::clone(&receiver);
        let log = log.clone();
        let run = move || {
            loop {
                let job = receiver
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .blocking_recv();
                let Some(job) = job else { return };
                let work = std::panic::AssertUnwindSafe(|| job(&mut conn));
                if std::panic::catch_unwind(work).is_err() {
                    // The panic hook has written why. Whatever the work had begun is taken back.
                    let _ = conn.execute_batch("rollback");
                }
                // Whoever waited for the work has its answer already.
                if let Some(log) = &log {
                    log.shorten(&conn);
                }
            }
        };
        std::thread::Builder::new()
            .name(format!("{name}-{index}"))
            .spawn(run)
            .expect("the system gives the store its threads");
    }
    sender
}

/// A connection for a transaction.
pub(crate) fn lend<'c>(conn: &'c mut Connection, script: Option<&'c Script>) -> Conn<'c> {
    match script {
        None => Conn::Sqlite(conn),
        Some(script) => Conn::Scripted(conn, script),
    }
}

pub(crate) fn configure(conn: &Connection) -> Result<()> {
    configure_any(conn)?;
    // Incremental vacuum can only be chosen before the first table. Where it is chosen already, choosing it again would
    // be a write, and nobody could open the database to read it while its disk is full.
    let vacuum: i64 = conn.pragma_query_value(None, "auto_vacuum", |row| row.get(0))?;
    if vacuum != AUTO_VACUUM_INCREMENTAL {
        conn.pragma_update(None, "auto_vacuum", "incremental")?;
    }
    switch_to_wal(conn)?;
    // FULL and not NORMAL: an answered ping must survive a power cut.
    conn.pragma_update(None, "synchronous", "full")?;
    conn.pragma_update(None, "foreign_keys", true)?;
    conn.pragma_update(None, "journal_size_limit", 64 * 1024 * 1024)?;
    Ok(())
}

/// Of two connections that switch a new database at once SQLite tells one that it is locked, without waiting.
fn switch_to_wal(conn: &Connection) -> Result<()> {
    for _ in 0..SWITCHES_MAX {
        // In memory the answer is "memory", which is fine.
        match conn.pragma_update_and_check(None, "journal_mode", "wal", |_| Ok(())) {
            Err(error) if error.sqlite_error_code() == Some(rusqlite::ErrorCode::DatabaseBusy) => {
                // This does wait until the other is done.
                conn.execute_batch("begin immediate; rollback")?;
            }
            done => return Ok(done?),
        }
    }
    Err(Error::Unavailable("others keep it locked".to_owned()))
}

fn configure_any(conn: &Connection) -> Result<()> {
    conn.busy_timeout(BUSY)?;
    conn.set_prepared_statement_cache_capacity(STATEMENTS_CACHED_MAX);
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    // Else the planner looks at bound values, those of a `limit $n` above all, and throws a statement's plan away when they
    // change: when a crowd fell silent, much of the writer's time went into planning the same few statements again.
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    conn.pragma_update(None, "cell_size_check", true)?;
    conn.pragma_update(None, "trusted_schema", false)?;
    conn.pragma_update(None, "temp_store", "memory")?;
    conn.pragma_update(None, "cache_size", -CACHE_KIB)?;
    conn.pragma_update(None, "mmap_size", MMAP_BYTES)?;
    Ok(())
}

/// Runs a future that never waits. Waiting inside a transaction would hold the writer for everybody.
pub(crate) fn run_to_end<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("a transaction waited for something that is not the database"),
    }
}

pub(crate) fn all(conn: &Connection, stmt: &'static Stmt, params: &[Param<'_>]) -> Result<Vec<Row>> {
    let mut statement = conn.prepare_cached(stmt.sqlite())?;
    let columns = stmt.columns(|| statement.column_names().map(str::to_owned).collect());
    bind(&mut statement, params)?;
    let mut rows = statement.raw_query();
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let values = (0..columns.len())
            .map(|i| Ok(owned(row.get_ref(i)?)))
            .collect::<Result<_>>()?;
        found.push(Row::new(Arc::clone(&columns), values));
    }
    Ok(found)
}

pub(crate) fn run(conn: &Connection, stmt: &'static Stmt, params: &[Param<'_>]) -> Result<u64> {
    let mut statement = conn.prepare_cached(stmt.sqlite())?;
    bind(&mut statement, params)?;
    Ok(statement.raw_execute()? as u64)
}

/// Runs a statement for each set of values.
pub(crate) fn run_each<const N: usize>(
    conn: &Connection,
    stmt: &'static Stmt,
    sets: &[[Param<'_>; N]],
) -> Result<Vec<u64>> {
    if sets.is_empty() {
        return Ok(Vec::new());
    }
    let mut statement = conn.prepare_cached(stmt.sqlite())?;
    let changed = sets.iter().map(|params| {
        bind(&mut statement, params)?;
        Ok(statement.raw_execute()? as u64)
    });
    changed.collect()
}

/// The rows of a statement for each set of values, made into what they are while the database holds them.
pub(crate) fn decoded<T: FromColumns, const N: usize>(
    conn: &Connection,
    stmt: &'static Stmt,
    sets: &[[Param<'_>; N]],
) -> Result<Vec<T>> {
    let mut statement = conn.prepare_cached(stmt.sqlite())?;
    let columns = stmt.columns(|| statement.column_names().map(str::to_owned).collect());
    let mut found = Vec::new();
    for params in sets {
        bind(&mut statement, params)?;
        let mut rows = statement.raw_query();
        while let Some(row) = rows.next()? {
            let next = Cell::new(0);
            found.push(T::from_columns(&Held {
                row,
                columns: &columns,
                next,
            })?);
        }
    }
    Ok(found)
}

/// A row that the database holds.
struct Held<'r> {
    row: &'r rusqlite::Row<'r>,
    columns: &'r [String],
    next: Cell<usize>,
}

impl Columns for Held<'_> {
    fn get<T: FromValue>(&self, column: &str) -> Result<T> {
        let index = place_of(self.columns, column, self.next.get())?;
        self.next.set(index + 1);
        let look = match self.row.get_ref(index)? {
            ValueRef::Null | ValueRef::Real(_) => Look::Null,
            ValueRef::Integer(number) => Look::Integer(number),
            ValueRef::Text(text) => Look::Text(String::from_utf8_lossy(text)),
            ValueRef::Blob(bytes) => Look::Bytes(bytes),
        };
        look.read(column)
    }
}

fn bind(statement: &mut rusqlite::Statement<'_>, params: &[Param<'_>]) -> Result<()> {
    let wanted = statement.parameter_count();
    if wanted != params.len() {
        return Err(Error::Internal(format!(
            "a statement takes {wanted} values and got {}",
            params.len()
        )));
    }
    for (index, param) in params.iter().enumerate() {
        statement.raw_bind_parameter(index + 1, param)?;
    }
    Ok(())
}

impl ToSql for Param<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Param::Null => ValueRef::Null,
            Param::Integer(number) => ValueRef::Integer(*number),
            Param::Bool(truth) => ValueRef::Integer(i64::from(*truth)),
            Param::Text(text) => ValueRef::Text(text.as_bytes()),
            Param::Bytes(bytes) => ValueRef::Blob(bytes),
            Param::Uuid(id) => ValueRef::Blob(id.as_bytes()),
            Param::Integers(_) | Param::Texts(_) | Param::Blobs(_) | Param::Uuids(_) => {
                return Err(rusqlite::Error::ToSqlConversionFailure(
                    "SQLite has no arrays".into(),
                ));
            }
        }))
    }
}

fn owned(value: ValueRef<'_>) -> Value {
    match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(number) => Value::Integer(number),
        // No column of ours is real: the schema is strict.
        ValueRef::Real(_) => Value::Null,
        ValueRef::Text(text) => Value::Text(String::from_utf8_lossy(text).into_owned()),
        ValueRef::Blob(bytes) => Value::Bytes(bytes.to_vec()),
    }
}

#[cfg(test)]
mod tests {
    use super::{Sqlite, run_to_end};

    #[tokio::test]
    async fn no_commit_waits_for_a_checkpoint_of_sqlite_itself() {
        let dir = tempfile::tempdir().expect("a directory");
        let sqlite = Sqlite::open(&dir.path().join("db")).expect("a database");
        let pages = sqlite
            .on_writer(|conn| conn.query_row("pragma wal_autocheckpoint", [], |row| row.get::<_, i64>(0)));
        assert_eq!(pages.await.expect("a thread").expect("a pragma"), 0);
    }

    #[test]
    fn a_future_that_is_ready_runs_to_its_end() {
        assert_eq!(run_to_end(async { std::future::ready(7).await }), 7);
    }

    #[test]
    #[should_panic(expected = "a transaction waited for something that is not the database")]
    fn a_future_that_waits_is_broken_off_with_a_clear_word() {
        run_to_end(std::future::pending::<()>());
    }
}
