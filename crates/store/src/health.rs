//! What a database says of itself, for those who look whether it can be relied on.

use allswell_core::time::{Span, Timestamp};

use crate::db::Stmt;
use crate::db::postgres::Mode;
use crate::store::Database;
use crate::{Error, Result, Store};

static FACTS: Stmt = Stmt::both(
    "select current_setting('server_version') as version,
            current_setting('synchronous_commit') as synchronous_commit,
            current_setting('fsync') as fsync,
            current_setting('full_page_writes') as full_page_writes,
            current_setting('server_encoding') as encoding,
            current_setting('max_connections')::bigint as connections_max,
            coalesce(current_setting('superuser_reserved_connections')::bigint, 0) as connections_reserved,
            (select count(*) from pg_catalog.pg_stat_activity where backend_type = 'client backend') as connections,
            coalesce((select rolsuper from pg_catalog.pg_roles where rolname = current_user), false) as is_superuser,
            coalesce((select rolcreatedb or rolcreaterole from pg_catalog.pg_roles where rolname = current_user), false)
                as makes_others,
            has_schema_privilege(current_user, current_schema(), 'create') as may_change_schema,
            pg_catalog.pg_is_in_recovery() as is_standby,
            coalesce((select ssl from pg_catalog.pg_stat_ssl where pid = pg_catalog.pg_backend_pid()), false) as tls,
            coalesce((select version from pg_catalog.pg_stat_ssl where pid = pg_catalog.pg_backend_pid()), '')
                as tls_version,
            (extract(epoch from clock_timestamp()) * 1000000)::bigint as clock",
);

/// What a PostgreSQL server says of itself and of our role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PostgresFacts {
    /// Of the server.
    pub version: String,
    /// `off`: commits may be lost.
    pub synchronous_commit: String,
    /// `off`: a crash of the machine may lose everything.
    pub fsync: String,
    /// `off`: a crash of the machine may tear pages.
    pub full_page_writes: String,
    /// Of text in the database.
    pub encoding: String,
    /// All clients together.
    pub connections_max: i64,
    /// Of those, for superusers alone.
    pub connections_reserved: i64,
    /// Of all clients, now.
    pub connections: i64,
    /// Our role may do everything on the server.
    pub is_superuser: bool,
    /// Our role may make databases or roles.
    pub makes_others: bool,
    /// Our role may make tables in our schema.
    pub may_change_schema: bool,
    /// The server takes no writes: it follows another.
    pub is_standby: bool,
    /// The version of TLS on this connection, if it has any.
    pub tls: Option<String>,
    /// The server's clock less ours, as it looked in the middle of asking.
    pub clock_ahead: Span,
    /// How long asking took: the error of `clock_ahead` is at most half of it.
    pub asking_took: Span,
}

impl Store {
    /// What the PostgreSQL server says of itself; `None` on SQLite.
    pub async fn postgres_facts(&self, clock: impl Fn() -> Timestamp) -> Result<Option<PostgresFacts>> {
        let Database::Postgres(postgres) = &self.database else {
            return Ok(None);
        };
        let mut session = postgres.begin(Mode::Read).await?;
        // Once without looking at the clock: the first preparation costs journeys.
        session.all(&FACTS, &[]).await?;
        let begun = clock();
        let rows = session.all(&FACTS, &[]).await?;
        let ended = clock();
        session.commit().await?;
        let row = rows
            .first()
            .ok_or_else(|| Error::Internal("no facts".to_owned()))?;
        let took = ended - begun;
        let middle = begun + Span::from_micros(took.as_micros() / 2);
        let theirs: Timestamp = row.get("clock")?;
        let tls: bool = row.get("tls")?;
        let tls_version: String = row.get("tls_version")?;
        Ok(Some(PostgresFacts {
            version: row.get("version")?,
            synchronous_commit: row.get("synchronous_commit")?,
            fsync: row.get("fsync")?,
            full_page_writes: row.get("full_page_writes")?,
            encoding: row.get("encoding")?,
            connections_max: row.get("connections_max")?,
            connections_reserved: row.get("connections_reserved")?,
            connections: row.get("connections")?,
            is_superuser: row.get("is_superuser")?,
            makes_others: row.get("makes_others")?,
            may_change_schema: row.get("may_change_schema")?,
            is_standby: row.get("is_standby")?,
            tls: tls.then_some(tls_version),
            clock_ahead: theirs - middle,
            asking_took: took,
        }))
    }
}
