//! PostgreSQL: a bounded pool, and a few connections apart for pings.
//!
//! A transaction runs where it is called, on a connection that it borrows. Every wait has an end: for a connection,
//! for a statement, for a server that has stopped answering.

mod error;
pub(crate) mod listen;
mod numbers;
mod server;
mod session;
mod tls;

use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::{
    Hook, HookError, Manager, ManagerConfig, Object, Pool, PoolError, RecyclingMethod, Runtime,
};

pub(crate) use numbers::Numbers;
pub use server::{Server, Tls, TlsMode};
pub(crate) use session::{Asked, Mode, Session};

use crate::{Error, Result};

/// Batches of pings at a time. While one waits for its flush, the other keeps the server at work; more of them make
/// smaller batches. docs/performance.md has the figures.
pub(crate) const PING_CONNECTIONS: usize = 2;
/// Connections of a server of ours beside its pool: those for pings, and the one that listens.
pub const CONNECTIONS_APART: usize = PING_CONNECTIONS + 1;

/// What stands behind the name of the application on connections apart from the pool.
const PINGS: &str = " pings";
const LISTENS: &str = " listens";

/// A PostgreSQL database. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Postgres {
    pool: Pool,
    /// The connections of this node that write pings, apart so that a crowd of readers cannot keep pings waiting.
    pings: Pool,
    server: Arc<Server>,
    tls: tls::Connector,
    /// Numbers for bodies of pings that this process holds, for all its sessions.
    free_body_ids: Arc<Numbers>,
}

impl Postgres {
    /// Reads the files of TLS. Connections are made when they are needed.
    pub(crate) fn new(server: &Server) -> Result<Self> {
        let tls = tls::connector(server)?;
        let free_body_ids = Arc::<Numbers>::default();
        let pool = |connections, what_for, rest: Option<Duration>| {
            let known = Arc::clone(&free_body_ids);
            // Where one is needed a server may have crashed, or another be in its place, and what it gave last it may have
            // forgotten: a transaction that only took numbers is not waited for until it is on disk.
            let forget = Hook::sync_fn(move |_, _| {
                known.forget();
                Ok(())
            });
            let config = ManagerConfig {
                recycling_method: RecyclingMethod::Fast,
            };
            Pool::builder(Manager::from_config(
                server.driver_config(what_for),
                tls.clone(),
                config,
            ))
            .max_size(connections)
            .post_create(forget)
            .pre_recycle(ask_after(rest))
            .runtime(Runtime::Tokio1)
            .wait_timeout(Some(server.acquire))
            .create_timeout(Some(server.acquire))
            .recycle_timeout(Some(server.acquire))
            .build()
            .map_err(|error| Error::Internal(error.to_string()))
        };
        Ok(Postgres {
            pool: pool(server.connections, "", None)?,
            pings: pool(PING_CONNECTIONS, PINGS, Some(server.rest))?,
            server: Arc::new(server.clone()),
            tls,
            free_body_ids,
        })
    }

    /// How many connections the pool may have.
    pub(crate) fn connections(&self) -> usize {
        self.server.connections
    }

    /// Whether a connection of ours is the same one at the server all the time.
    pub(crate) fn keeps_connections(&self) -> bool {
        self.server.prepare
    }

    /// Begins a transaction on a connection of the pool at once.
    pub(crate) async fn begin(&self, mode: Mode) -> Result<Session> {
        // Connections that broke while nobody used them show it when they are used: after a restart of the server that
        // may be all of the pool. Each try throws one away.
        for _ in 0..=self.server.connections {
            let conn = self.pool.get().await.map_err(no_connection)?;
            match self.session(conn, mode).begun().await {
                Err(Error::Unavailable(_)) if self.pool.status().available > 0 => {}
                other => return other,
            }
        }
        Err(Error::Unavailable("every connection is broken".to_owned()))
    }

    /// Begins a transaction that may take as long as a migration does.
    pub(crate) async fn begin_patiently(&self) -> Result<Session> {
        let mut session = self.begin(Mode::Write).await?;
        session.be_patient();
        Ok(session)
    }

    /// A transaction on a connection of the pool that begins with its first statement, in one journey.
    pub(crate) async fn begin_later(&self, mode: Mode) -> Result<Session> {
        self.begin_later_on(&self.pool, mode).await
    }

    /// The same on a connection for pings.
    pub(crate) async fn begin_pings(&self) -> Result<Session> {
        self.begin_later_on(&self.pings, Mode::Write).await
    }

    /// A connection that broke while nobody used it is mostly known by then; where it is not, the first statement shows it,
    /// and is asked on another.
    async fn begin_later_on(&self, pool: &Pool, mode: Mode) -> Result<Session> {
        let conn = pool.get().await.map_err(no_connection)?;
        Ok(self.session(conn, mode).with_spare(pool))
    }

    fn session(&self, conn: Object, mode: Mode) -> Session {
        Session::begin_later(conn, mode, &self.server, &self.free_body_ids)
    }
}

/// Asks a connection that has rested for so long whether it is still there. What is sent as a whole cannot be sent again on
/// another one: nobody would know whether it took place.
fn ask_after(rest: Option<Duration>) -> Hook {
    Hook::async_fn(move |conn, metrics| {
        let is_asked = rest.is_some_and(|rest| metrics.last_used() >= rest);
        Box::pin(async move {
            if is_asked {
                conn.batch_execute("").await.map_err(HookError::Backend)?;
            }
            Ok(())
        })
    })
}

fn no_connection(error: PoolError) -> Error {
    match error {
        PoolError::Backend(error) => match Error::from(error) {
            Error::Unavailable(why) => Error::Unavailable(format!("no connection: {why}")),
            other => other,
        },
        PoolError::Timeout(_) => Error::Unavailable("no connection became free in time".to_owned()).seen(),
        other => Error::Unavailable(other.to_string()).seen(),
    }
}
