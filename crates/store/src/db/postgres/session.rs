//! One transaction on one borrowed connection.
//!
//! Whatever happens to the task that holds it, the next borrower finds the connection clean: a transaction that was
//! not ended is taken back by a task of its own, and a connection that does not answer in time is thrown away.

use std::borrow::Cow;
use std::cell::Cell;
use std::fmt;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;

use deadpool_postgres::{Object, Pool};
use tokio_postgres::error::{Severity, SqlState};
use tokio_postgres::types::private::BytesMut;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};

use super::numbers::Numbers;
use super::server::{Server, session_settings};
use crate::db::row::{Columns, FromColumns, FromValue, Look, Param, Row, place_of};
use crate::db::stmt::Stmt;
use crate::{Error, Result};

/// A borrowed connection with an open transaction.
pub(crate) struct Session {
    /// `None` once it was given back or thrown away; nothing is begun then.
    conn: Option<Object>,
    prepare: bool,
    /// The server ends a statement earlier; this is for a server that does not answer at all.
    patience: Duration,
    /// What begins the transaction. It was not said yet while `unbegun`.
    begin: String,
    unbegun: AtomicBool,
    /// The connection ended by an error.
    lost: AtomicBool,
    /// The server broke the transaction off since another was in its way: it may succeed if it is done again.
    collided: AtomicBool,
    /// Where another connection comes from if this one turns out to be dead before anything was done on it.
    spare: Option<Pool>,
    /// Words for other nodes, said with the commit.
    nudges: Vec<&'static str>,
    free_body_ids: Arc<Numbers>,
}

/// A statement with its values.
pub(crate) type Asked<'p> = (&'static Stmt, &'p [Param<'p>]);

/// What a transaction may do.
#[derive(Copy, Clone)]
pub(crate) enum Mode {
    /// Look, at one state of the database.
    Read,
    /// Look and change; each statement sees what was committed before it.
    Write,
}

impl Session {
    /// A transaction that begins with its first statement, which goes with the begin in one journey.
    /// Numbers for bodies come out of what the whole process holds.
    pub(super) fn begin_later(
        conn: Object,
        mode: Mode,
        server: &Server,
        free_body_ids: &Arc<Numbers>,
    ) -> Self {
        let mut begin = match mode {
            Mode::Read => "begin isolation level repeatable read read only".to_owned(),
            Mode::Write => "begin isolation level read committed read write".to_owned(),
        };
        if !server.prepare {
            // Behind a pooler the connection is another one each time, so its settings come with the transaction.
            for setting in session_settings(server.statement) {
                begin.push_str("; set local ");
                begin.push_str(&setting);
            }
        }
        Session {
            conn: Some(conn),
            prepare: server.prepare,
            patience: server.statement + server.acquire,
            begin,
            unbegun: AtomicBool::new(true),
            lost: AtomicBool::new(false),
            collided: AtomicBool::new(false),
            spare: None,
            nudges: Vec::new(),
            free_body_ids: Arc::clone(free_body_ids),
        }
    }

    pub(crate) fn free_body_ids(&self) -> Arc<Numbers> {
        Arc::clone(&self.free_body_ids)
    }

    /// Takes another connection of this pool if its own turns out to be dead when the first statement is asked.
    pub(super) fn with_spare(mut self, pool: &Pool) -> Self {
        self.spare = Some(pool.clone());
        self
    }

    /// Whether the server broke the transaction off since another was in its way.
    pub(crate) fn has_collided(&self) -> bool {
        self.collided.load(Ordering::Relaxed)
    }

    /// Puts another connection in the place of one that was dead when the transaction was to begin on it. Nothing was
    /// done then, and nothing can have been committed: the first statement may be asked again. Where none is to be had, the
    /// session is left without one. (The dead one goes first: its place in the pool may be the only one.)
    async fn replace_dead(&mut self) -> Result<bool> {
        let Some(pool) = self.spare.clone().filter(|_| *self.lost.get_mut()) else {
            return Ok(false);
        };
        *self.unbegun.get_mut() = true;
        if let Some(dead) = self.conn.take() {
            drop(Object::take(dead));
        }
        self.conn = Some(pool.get().await.map_err(super::no_connection)?);
        *self.lost.get_mut() = false;
        Ok(true)
    }

    /// Begins the transaction now: whether the connection is still good shows here.
    pub(super) async fn begun(self) -> Result<Self> {
        self.bounded(async { Ok(()) }).await?;
        Ok(self)
    }

    fn conn(&self) -> Result<&Object> {
        let none = || Error::Unavailable("the connection broke, and there was no other".to_owned());
        self.conn.as_ref().ok_or_else(none)
    }

    /// A text without values; several statements may be in it.
    pub(crate) async fn simple(&self, text: &str) -> Result<()> {
        self.bounded(self.conn()?.batch_execute(text)).await
    }

    async fn bounded<T>(
        &self,
        work: impl Future<Output = std::result::Result<T, tokio_postgres::Error>>,
    ) -> Result<T> {
        self.bounded_by(self.patience, work).await
    }

    async fn bounded_by<T>(
        &self,
        patience: Duration,
        work: impl Future<Output = std::result::Result<T, tokio_postgres::Error>>,
    ) -> Result<T> {
        let conn = self.conn()?;
        let begun = async {
            if !self.unbegun.swap(false, Ordering::Relaxed) {
                return work.await;
            }
            // Both are sent before either is answered. Where the begin fails, so does the other.
            let (begun, done) = tokio::join!(biased; conn.batch_execute(&self.begin), work);
            begun?;
            done
        };
        match tokio::time::timeout(patience, begun).await {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(error)) => {
                if is_lost(&error) {
                    self.lost.store(true, Ordering::Relaxed);
                }
                if is_collision(&error) {
                    self.collided.store(true, Ordering::Relaxed);
                }
                Err(error.into())
            }
            Err(_) => Err(Error::Unavailable(
                "the database server does not answer".to_owned(),
            )),
        }
    }

    pub(crate) async fn all(&mut self, stmt: &'static Stmt, params: &[Param<'_>]) -> Result<Vec<Row>> {
        kept(stmt, &self.rows(stmt, params).await?)
    }

    /// What each row of a statement is, made of it as it came.
    pub(crate) async fn decoded<T: FromColumns>(
        &mut self,
        stmt: &'static Stmt,
        params: &[Param<'_>],
    ) -> Result<Vec<T>> {
        let rows = self.rows(stmt, params).await?;
        let columns = columns(stmt, &rows);
        let held = |row| Held {
            row,
            columns: &columns,
            next: Cell::new(0),
        };
        rows.iter().map(|row| T::from_columns(&held(row))).collect()
    }

    async fn rows(&mut self, stmt: &'static Stmt, params: &[Param<'_>]) -> Result<Vec<tokio_postgres::Row>> {
        let tries = self.tries();
        for _ in 1..tries {
            match self.ask(stmt, params).await {
                Err(_) if self.replace_dead().await? => {}
                other => return other,
            }
        }
        self.ask(stmt, params).await
    }

    pub(crate) async fn run(&mut self, stmt: &'static Stmt, params: &[Param<'_>]) -> Result<u64> {
        let tries = self.tries();
        for _ in 1..tries {
            match self.change(stmt, params).await {
                Err(_) if self.replace_dead().await? => {}
                other => return other,
            }
        }
        self.change(stmt, params).await
    }

    /// All rows of a statement behind which this transaction has nothing more to say, but for `then`: the commit goes with
    /// it, in one journey. Whatever is asked afterwards begins another transaction. If the server does not answer, nobody
    /// knows whether it took place, as with any commit.
    pub(crate) async fn last(
        &mut self,
        (stmt, params): Asked<'_>,
        then: Option<Asked<'_>>,
    ) -> Result<Vec<Row>> {
        let end = self.end();
        let conn = self.conn()?;
        // The server ends each of them in its time, before we give up and the commit takes place unheard.
        let patience = self.patience * 3;
        let rows = self
            .bounded_by(patience, async {
                // Nothing may be sent before all of it can be: the commit would overtake what waits to be prepared.
                if self.prepare {
                    conn.prepare_cached(stmt.postgres()).await?;
                    if let Some((stmt, _)) = &then {
                        conn.prepare_cached(stmt.postgres()).await?;
                    }
                }
                // Sent in this order before any is answered. Where the server refuses one, it refuses what stands behind it, and
                // the commit takes back what stood before. What cannot even be sent must not be followed by a commit.
                let mut rows = pin!(self.sent(conn, stmt, params));
                let early = sent(rows.as_mut()).await?;
                let mut change = pin!(async {
                    match &then {
                        Some((stmt, params)) => self.sent_change(conn, stmt, params).await.map(drop),
                        None => Ok(()),
                    }
                });
                let changed = sent(change.as_mut()).await?;
                let (rows, changed, ended) = tokio::join!(
                    biased;
                    or_later(early, rows),
                    or_later(changed, change),
                    conn.batch_execute(&end)
                );
                let rows = rows?;
                changed?;
                ended?;
                Ok(rows)
            })
            .await?;
        *self.unbegun.get_mut() = true;
        self.nudges.clear();
        kept(stmt, &rows)
    }

    /// How often a statement may be asked: the first one of a transaction on as many dead connections as the pool may
    /// hold, and on one more.
    fn tries(&self) -> usize {
        match &self.spare {
            Some(pool) if self.unbegun.load(Ordering::Relaxed) => pool.status().max_size + 1,
            _ => 1,
        }
    }

    async fn ask(&self, stmt: &'static Stmt, params: &[Param<'_>]) -> Result<Vec<tokio_postgres::Row>> {
        let conn = self.conn()?;
        self.bounded(self.sent(conn, stmt, params)).await
    }

    async fn sent(
        &self,
        conn: &Object,
        stmt: &'static Stmt,
        params: &[Param<'_>],
    ) -> std::result::Result<Vec<tokio_postgres::Row>, tokio_postgres::Error> {
        if self.prepare {
            let prepared = conn.prepare_cached(stmt.postgres()).await?;
            conn.query(&prepared, &values(params)).await
        } else {
            conn.query_typed(stmt.postgres(), &typed(params)).await
        }
    }

    async fn change(&self, stmt: &'static Stmt, params: &[Param<'_>]) -> Result<u64> {
        let conn = self.conn()?;
        self.bounded(self.sent_change(conn, stmt, params)).await
    }

    async fn sent_change(
        &self,
        conn: &Object,
        stmt: &'static Stmt,
        params: &[Param<'_>],
    ) -> std::result::Result<u64, tokio_postgres::Error> {
        if self.prepare {
            let prepared = conn.prepare_cached(stmt.postgres()).await?;
            conn.execute(&prepared, &values(params)).await
        } else {
            conn.execute_typed(stmt.postgres(), &typed(params)).await
        }
    }

    /// One number, of a text without values.
    pub(crate) async fn scalar(&self, text: &str) -> Result<Option<i64>> {
        let row = self.bounded(self.conn()?.query_opt(text, &[])).await?;
        row.map(|row| Ok(row.try_get(0)?)).transpose()
    }

    pub(crate) async fn prepare(&self, text: &str) -> Result<()> {
        self.bounded(self.conn()?.prepare(text)).await.map(drop)
    }

    /// Waits as long as a migration of a large database may take.
    pub(crate) fn be_patient(&mut self) {
        self.patience = Duration::from_secs(24 * 3600);
    }

    /// Wakes a loop of the other nodes when this transaction commits.
    pub(crate) fn nudge(&mut self, word: &'static str) {
        if !self.nudges.contains(&word) {
            self.nudges.push(word);
        }
    }

    /// What ends the transaction well.
    fn end(&self) -> String {
        let mut end = String::new();
        for word in &self.nudges {
            end.push_str(&format!("notify {}, '{word}'; ", super::listen::CHANNEL));
        }
        end.push_str("commit");
        end
    }

    /// Makes the transaction's changes last.
    pub(crate) async fn commit(mut self) -> Result<()> {
        self.conn()?;
        if self.unbegun.load(Ordering::Relaxed) && self.nudges.is_empty() {
            drop(self.conn.take());
            return Ok(());
        }
        self.simple(&self.end()).await?;
        // Whole and without an open transaction: the pool may have it back.
        drop(self.conn.take());
        Ok(())
    }

    /// Takes the transaction's changes back.
    pub(crate) async fn rollback(mut self) -> Result<()> {
        if self.unbegun.load(Ordering::Relaxed) {
            drop(self.conn.take());
            return Ok(());
        }
        self.simple("rollback").await?;
        drop(self.conn.take());
        Ok(())
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let Some(conn) = self.conn.take() else { return };
        let patience = self.patience;
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            drop(Object::take(conn));
            return;
        };
        if conn.is_closed() {
            return;
        }
        runtime.spawn(async move {
            // A statement that was given up may still run; this waits behind it.
            let cleaned = tokio::time::timeout(patience, conn.batch_execute("rollback")).await;
            if !matches!(cleaned, Ok(Ok(()))) {
                drop(Object::take(conn));
            }
        });
    }
}

/// Whether an error says that the connection is no more: it is closed, or the server ended it, for whatever reason.
fn is_lost(error: &tokio_postgres::Error) -> bool {
    match error.as_db_error() {
        // A pooler has codes of its own for what it ends, and may leave out how severe it is.
        Some(db) => {
            let code = db.code();
            matches!(db.parsed_severity(), Some(Severity::Fatal | Severity::Panic))
                || *code == SqlState::ADMIN_SHUTDOWN
                || *code == SqlState::CRASH_SHUTDOWN
                || code.code().starts_with("08")
        }
        None => {
            error.is_closed()
                || std::error::Error::source(error).is_some_and(|cause| cause.is::<std::io::Error>())
        }
    }
}

/// Whether the server broke the transaction off, by its rules, since another was in its way.
fn is_collision(error: &tokio_postgres::Error) -> bool {
    error.code().is_some_and(|code| {
        *code == SqlState::T_R_SERIALIZATION_FAILURE || *code == SqlState::T_R_DEADLOCK_DETECTED
    })
}

/// Asks a statement once, which sends it. Gives its answer in case it is there already; the error: it was not sent.
async fn sent<T, E>(
    mut statement: Pin<&mut impl Future<Output = std::result::Result<T, E>>>,
) -> std::result::Result<Option<T>, E> {
    match poll_fn(|cx| Poll::Ready(statement.as_mut().poll(cx))).await {
        Poll::Ready(answer) => answer.map(Some),
        Poll::Pending => Ok(None),
    }
}

async fn or_later<T, E>(
    early: Option<T>,
    later: impl Future<Output = std::result::Result<T, E>>,
) -> std::result::Result<T, E> {
    match early {
        Some(answer) => Ok(answer),
        None => later.await,
    }
}

fn values<'p>(params: &'p [Param<'_>]) -> Vec<&'p (dyn ToSql + Sync)> {
    params.iter().map(|param| param as &(dyn ToSql + Sync)).collect()
}

fn typed<'p>(params: &'p [Param<'_>]) -> Vec<(&'p (dyn ToSql + Sync), Type)> {
    params
        .iter()
        .map(|param| (param as &(dyn ToSql + Sync), type_of(param)))
        .collect()
}

fn type_of(param: &Param<'_>) -> Type {
    match param {
        // The server works it out from where it stands.
        Param::Null => Type::UNKNOWN,
        Param::Integer(_) => Type::INT8,
        Param::Bool(_) => Type::BOOL,
        Param::Text(_) => Type::TEXT,
        Param::Bytes(_) => Type::BYTEA,
        Param::Uuid(_) => Type::UUID,
        Param::Integers(_) => Type::INT8_ARRAY,
        Param::Texts(_) => Type::TEXT_ARRAY,
        Param::Blobs(_) => Type::BYTEA_ARRAY,
        Param::Uuids(_) => Type::UUID_ARRAY,
    }
}

/// A value that does not fit the place where it stands: a mistake in a statement.
#[derive(Debug)]
pub(super) struct WrongValue(String);

impl fmt::Display for WrongValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for WrongValue {}

impl fmt::Debug for Param<'_> {
    /// The kind and not the value, which may be a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(type_of(self).name())
    }
}

impl ToSql for Param<'_> {
    fn to_sql(
        &self,
        ty: &Type,
        out: &mut BytesMut,
    ) -> std::result::Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        if matches!(self, Param::Null) {
            return Ok(IsNull::Yes);
        }
        if type_of(self) != *ty {
            return Err(Box::new(WrongValue(format!(
                "a statement wants {} and got {}",
                ty.name(),
                type_of(self).name()
            ))));
        }
        match self {
            Param::Null => Ok(IsNull::Yes),
            Param::Integer(number) => number.to_sql(ty, out),
            Param::Bool(truth) => truth.to_sql(ty, out),
            Param::Text(text) => without_zero(text).to_sql(ty, out),
            Param::Bytes(bytes) => bytes.to_sql(ty, out),
            Param::Uuid(id) => id.to_sql(ty, out),
            Param::Integers(numbers) => numbers.to_sql(ty, out),
            Param::Texts(texts) => {
                let texts: Vec<_> = texts.iter().map(|text| text.map(without_zero)).collect();
                texts.to_sql(ty, out)
            }
            Param::Blobs(blobs) => blobs.to_sql(ty, out),
            Param::Uuids(ids) => ids.to_sql(ty, out),
        }
    }

    fn accepts(_: &Type) -> bool {
        // Looked at in `to_sql`, where the value is known.
        true
    }

    to_sql_checked!();
}

/// PostgreSQL's text holds no zero byte. What a stranger sends with one must not become an error of ours: it is found
/// nowhere, and where it is kept the byte is replaced.
fn without_zero(text: &str) -> Cow<'_, str> {
    if text.contains('\0') {
        text.replace('\0', "\u{fffd}").into()
    } else {
        text.into()
    }
}

/// The rows as the store keeps them.
fn kept(stmt: &'static Stmt, rows: &[tokio_postgres::Row]) -> Result<Vec<Row>> {
    let columns = columns(stmt, rows);
    rows.iter()
        .map(|row| {
            let values = (0..columns.len()).map(|index| look(row, index).map(Look::kept));
            Ok(Row::new(Arc::clone(&columns), values.collect::<Result<_>>()?))
        })
        .collect()
}

/// The names of the columns; without a row nobody asks for them.
fn columns(stmt: &'static Stmt, rows: &[tokio_postgres::Row]) -> Arc<[String]> {
    let Some(first) = rows.first() else {
        return Arc::default();
    };
    stmt.columns(|| {
        let names = first.columns().iter().map(|column| column.name().to_owned());
        names.collect()
    })
}

/// A row as it came, of which nothing was copied yet.
struct Held<'r> {
    row: &'r tokio_postgres::Row,
    columns: &'r [String],
    next: Cell<usize>,
}

impl Columns for Held<'_> {
    fn get<T: FromValue>(&self, column: &str) -> Result<T> {
        let index = place_of(self.columns, column, self.next.get())?;
        self.next.set(index + 1);
        look(self.row, index)?.read(column)
    }
}

/// The bytes of an id.
struct IdBytes<'r>(&'r [u8]);

impl<'r> FromSql<'r> for IdBytes<'r> {
    fn from_sql(
        _: &Type,
        bytes: &'r [u8],
    ) -> std::result::Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(IdBytes(bytes))
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::UUID
    }
}

fn look(row: &tokio_postgres::Row, index: usize) -> Result<Look<'_>> {
    let ty = row.columns()[index].type_();
    let look = if *ty == Type::INT8 {
        row.try_get::<_, Option<i64>>(index)?.map(Look::Integer)
    } else if *ty == Type::INT4 {
        row.try_get::<_, Option<i32>>(index)?
            .map(|number| Look::Integer(number.into()))
    } else if *ty == Type::BOOL {
        row.try_get::<_, Option<bool>>(index)?
            .map(|truth| Look::Integer(truth.into()))
    } else if *ty == Type::TEXT {
        row.try_get::<_, Option<&str>>(index)?
            .map(|text| Look::Text(text.into()))
    } else if *ty == Type::BYTEA {
        row.try_get::<_, Option<&[u8]>>(index)?.map(Look::Bytes)
    } else if *ty == Type::UUID {
        row.try_get::<_, Option<IdBytes<'_>>>(index)?
            .map(|IdBytes(bytes)| Look::Bytes(bytes))
    } else {
        return Err(Error::Internal(format!(
            "a result has the type {}, which the store does not know",
            ty.name()
        )));
    };
    Ok(look.unwrap_or(Look::Null))
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;
    use tokio_postgres::{Config, NoTls};

    use super::*;

    /// An error as a server sends it, in answer to the first that it hears.
    async fn answered(severity: &str, code: &str) -> tokio_postgres::Error {
        let text = format!("S{severity}\0V{severity}\0C{code}\0Ma reason\0\0");
        let length = u32::try_from(text.len() + 4).expect("a short text");
        let (ours, mut theirs) = tokio::io::duplex(1_024);
        theirs.write_all(b"E").await.expect("room");
        theirs.write_all(&length.to_be_bytes()).await.expect("room");
        theirs.write_all(text.as_bytes()).await.expect("room");
        let mut config = Config::new();
        config.user("u");
        match config.connect_raw(ours, NoTls).await {
            Ok(_) => panic!("it was an error"),
            Err(error) => error,
        }
    }

    #[tokio::test]
    async fn a_connection_that_the_server_ends_is_lost_whatever_the_reason() {
        for (severity, code, expected) in [
            ("FATAL", "57P01", true),
            // The server's bound on sessions that do nothing.
            ("FATAL", "57P05", true),
            ("FATAL", "25P03", true),
            ("FATAL", "XX000", true),
            ("PANIC", "XX000", true),
            ("ERROR", "08006", true),
            ("ERROR", "57014", false),
            ("ERROR", "23505", false),
            ("ERROR", "XX000", false),
        ] {
            let error = answered(severity, code).await;
            assert_eq!(is_lost(&error), expected, "{severity} {code}: {error:?}");
        }
    }
}
