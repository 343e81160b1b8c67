//! Taking connections from the system, whatever errors that brings.
//!
//! An error of `accept` is never the end: the system is short of something, or the peer has gone already. The
//! loop must not end, and it must not spin either: with no descriptor left, `accept` fails again at once.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep};
use tracing::warn;

use super::registry::Registry;

/// How long to leave the system alone when it is short of something.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// At most one line about failing accepts in this time.
const ACCEPT_LOG_EVERY: Duration = Duration::from_secs(10);
/// ENFILE and EMFILE: the system's or the process's table of open files is full. The same numbers on every Unix.
const NO_DESCRIPTOR_LEFT: [i32; 2] = [23, 24];

/// A source of connections. TCP is one; TLS over it, or a test's pipe, are others.
pub trait Listener: Sync {
    /// A connection.
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// The next connection and the address of its other end. Must be safe to cancel.
    fn accept(&self) -> impl Future<Output = io::Result<(Self::Stream, SocketAddr)>> + Send;
}

impl Listener for TcpListener {
    type Stream = TcpStream;

    async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let (stream, peer) = TcpListener::accept(self).await?;
        // Answers are written in one piece; without this the kernel would hold the second of two back.
        // It fails only when the peer has gone, and then the first read says so.
        let _ = stream.set_nodelay(true);
        Ok((stream, peer))
    }
}

pub(super) struct Accepting<'a> {
    registry: &'a Registry,
    logged_at: Option<Instant>,
    unlogged: u64,
}

impl<'a> Accepting<'a> {
    pub(super) fn new(registry: &'a Registry) -> Self {
        Accepting {
            registry,
            logged_at: None,
            unlogged: 0,
        }
    }

    /// The next connection, however many errors come first.
    pub(super) async fn next<L: Listener>(&mut self, listener: &L) -> (L::Stream, SocketAddr) {
        loop {
            match listener.accept().await {
                Ok(accepted) => return accepted,
                Err(error) => self.recover(&error).await,
            }
        }
    }

    async fn recover(&mut self, error: &io::Error) {
        self.registry.gauges.accept_errors.fetch_add(1, Relaxed);
        self.log(error);
        if is_of_one_peer(error) {
            // Each such error used up the connection it is about, so going on at once cannot spin.
            tokio::task::yield_now().await;
            return;
        }
        if error
            .raw_os_error()
            .is_some_and(|code| NO_DESCRIPTOR_LEFT.contains(&code))
        {
            self.registry.evict();
        }
        sleep(ACCEPT_PAUSE).await;
    }

    fn log(&mut self, error: &io::Error) {
        self.unlogged += 1;
        let now = Instant::now();
        if self.logged_at.is_some_and(|at| now < at + ACCEPT_LOG_EVERY) {
            return;
        }
        warn!(%error, count = self.unlogged, "cannot accept a connection ({} since the last such line)", self.unlogged);
        self.logged_at = Some(now);
        self.unlogged = 0;
    }
}

/// True if the error is about a single connection that came and went.
fn is_of_one_peer(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted
    )
}
