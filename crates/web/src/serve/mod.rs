//! The accept loop: HTTP/1.1 for strangers, on hyper, with every wait bounded.
//!
//! A peer may be silent, slow, endless or plain noise; it must cost little, and it must never cost somebody
//! else an answer. So each connection has a deadline for whatever it is doing (`drive`), the number of
//! connections is capped in all and per address (`registry`), and a cap is kept by closing the connection that
//! has waited longest without a complete request, never by turning newcomers away while idle ones sit.
//! A request that has begun is never cut off by any of this; only the end of `shutdown_secs` does that.
//!
//! `axum::serve` has no deadline for a request's head, hence this loop.

#![expect(
    clippy::disallowed_methods,
    reason = "this is the edge of the network: its waits are bounded by tokio's timers, which no decision sees"
)]

mod accept;
pub mod body;
mod connection;
mod drive;
mod registry;
mod roll;
mod service;
mod watched;

use std::future::Future;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use axum::Router;

use accept::Accepting;
pub use accept::Listener;
use drive::Served;
use registry::Registry;

use crate::client::Network;

/// Where a request came from: the other end of its socket. An extension of every request.
///
/// Behind a proxy this is the proxy; who stands behind it is for the reader of `X-Forwarded-For` to judge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer(pub SocketAddr);

/// The bounds of one listener. All of them must be above zero.
#[derive(Clone, Copy, Debug)]
pub struct ServeLimits {
    /// Connections open at once.
    pub connections: u32,
    /// Connections open at once from one address (IPv6: from one /64), unless it is a trusted proxy's. As many again may wait for a seat while
    /// all of these are in the middle of a request.
    pub connections_per_address: u32,
    /// Seconds for a whole request head, from its first byte, and for the first one from the accept on.
    pub header_secs: u64,
    /// Bytes of a whole request head. The connection's buffers are of this size too, but never under 8 KiB.
    pub header_bytes: usize,
    /// Seconds that a connection may be kept alive between requests.
    pub idle_secs: u64,
    /// Seconds without a single byte either way while an answer waits to be written.
    pub write_stall_secs: u64,
    /// Seconds that requests in flight have to finish when the loop is asked to end.
    pub shutdown_secs: u64,
}

/// What the loop counts. Read them with `Ordering::Relaxed`; they are for people, not for decisions.
#[derive(Debug, Default)]
pub struct Gauges {
    /// Connections open now.
    pub connections_open: AtomicU64,
    /// Connections closed while they waited, to make room for others.
    pub connections_evicted: AtomicU64,
    /// Connections closed on arrival: their address had too many, all of them busy.
    pub connections_refused: AtomicU64,
    /// Connections closed for a head that took too long or an answer that was not read.
    pub connections_timed_out: AtomicU64,
    /// Times that `accept` failed.
    pub accept_errors: AtomicU64,
    /// Requests handed to a handler.
    pub requests: AtomicU64,
    /// Handlers that panicked.
    pub panics: AtomicU64,
}

/// Serves `app` on `listener` until `shutdown` is ready, then lets the requests in flight finish.
///
/// Returns when no connection is left. Dropping the future closes all connections at once.
pub async fn serve<L: Listener>(
    listener: L,
    app: Router,
    limits: ServeLimits,
    network: Network,
    gauges: Arc<Gauges>,
    shutdown: impl Future,
) {
    let registry = Arc::new(Registry::new(limits, network, gauges));
    let served = Arc::new(Served::new(app, registry.clone()));
    let _at_the_end = CloseAll(&registry);
    let mut accepting = Accepting::new(&registry);
    let mut shutdown = pin!(shutdown);
    loop {
        let (stream, peer) = tokio::select! {
            biased;
            _ = &mut shutdown => break,
            accepted = accepting.next(&listener) => accepted,
        };
        let admitted = tokio::select! {
            biased;
            _ = &mut shutdown => break,
            admitted = registry.admit(peer.ip()) => admitted,
        };
        let Some(ticket) = admitted else { continue };
        let id = ticket.connection().id;
        let task = tokio::spawn(drive::run(ticket, stream, Peer(peer), served.clone()));
        registry.spawned(id, task.abort_handle());
    }
    drop(listener);
    registry.finish().await;
}

/// Ends every connection when `serve` ends, however it ends.
struct CloseAll<'a>(&'a Registry);

impl Drop for CloseAll<'_> {
    fn drop(&mut self) {
        self.0.end_all();
    }
}
