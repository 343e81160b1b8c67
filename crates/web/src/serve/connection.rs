//! What the parties know of one connection: its task, hyper's service and socket, and the registry.
//!
//! The task is the only writer, except that the registry may evict a connection that waits. Both sides go
//! through one compare-and-set on `state`, so a request that has begun is never evicted and an evicted
//! connection never begins one. Nothing here takes a lock: it is on the path of every request.

use std::sync::Arc;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64};

use tokio::sync::Semaphore;

const BUSY: u64 = u64::MAX;
const EVICTED: u64 = u64::MAX - 1;

/// What a connection is doing, as far as making room is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// No complete request since this moment: microseconds after the registry began.
    Waiting(u64),
    /// In the middle of a request.
    Busy,
    /// Told to go.
    Evicted,
}

/// What the connections of one address share.
pub(super) struct Desk {
    pub(super) seats: Semaphore,
    /// Connections that wait for a seat because all seated ones are busy, or too new to tell.
    pub(super) held: AtomicU32,
}

pub(super) struct Connection {
    pub(super) id: u64,
    pub(super) desk: Arc<Desk>,
    state: AtomicU64,
    /// A request was handed to the service and its answer's body is not yet used up.
    active: AtomicBool,
    /// The registry does not hold us in its order: we have to ask for a place when we begin to wait.
    pub(super) unplaced: AtomicBool,
    /// It has one of its address's seats.
    pub(super) seated: AtomicBool,
    /// The request's body was dropped before its end.
    unread_body: AtomicBool,
    received: AtomicU64,
    sent: AtomicU64,
    write_blocked: AtomicBool,
}

impl Connection {
    pub(super) fn new(id: u64, desk: Arc<Desk>, stamp: u64) -> Self {
        Connection {
            id,
            desk,
            state: AtomicU64::new(stamp),
            active: AtomicBool::new(false),
            unplaced: AtomicBool::new(true),
            seated: AtomicBool::new(false),
            unread_body: AtomicBool::new(false),
            received: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            write_blocked: AtomicBool::new(false),
        }
    }

    pub(super) fn standing(&self) -> Standing {
        match self.state.load(SeqCst) {
            BUSY => Standing::Busy,
            EVICTED => Standing::Evicted,
            stamp => Standing::Waiting(stamp),
        }
    }

    /// A complete request has come. False if the connection was evicted before: then it must not be handled.
    pub(super) fn begin(&self) -> bool {
        let state = self.state.load(SeqCst);
        let begun = match state {
            BUSY => true, // The next one of a pipeline.
            EVICTED => false,
            stamp => self.state.compare_exchange(stamp, BUSY, SeqCst, SeqCst).is_ok(),
        };
        self.active.store(begun, Relaxed);
        self.unread_body.store(false, Relaxed);
        begun
    }

    /// The answer's body is used up. What is left may still sit in hyper's buffer.
    pub(super) fn answered(&self) {
        self.active.store(false, Relaxed);
    }

    pub(super) fn is_unplaced(&self) -> bool {
        self.unplaced.load(SeqCst)
    }

    pub(super) fn body_is_left_unread(&self) {
        self.unread_body.store(true, Relaxed);
    }

    pub(super) fn has_unread_body(&self) -> bool {
        self.unread_body.load(Relaxed)
    }

    pub(super) fn is_active(&self) -> bool {
        self.active.load(Relaxed)
    }

    /// Called by the task once the answer is written. The registry looks at `state` after setting `unplaced`
    /// and we look at `unplaced` after setting `state`, so one of the two notices.
    /// Nobody else touches `state` while it says busy; a connection that already waits keeps its older stamp.
    pub(super) fn wait_since(&self, stamp: u64) {
        let _ = self.state.compare_exchange(BUSY, stamp, SeqCst, SeqCst);
    }

    /// Evicts the connection if it has been waiting since `stamp`, and still is.
    pub(super) fn evict(&self, stamp: u64) -> bool {
        self.state
            .compare_exchange(stamp, EVICTED, SeqCst, SeqCst)
            .is_ok()
    }

    pub(super) fn read(&self, bytes: usize) {
        self.received.store(self.received() + bytes as u64, Relaxed);
    }

    pub(super) fn wrote(&self, bytes: usize) {
        self.sent.store(self.sent.load(Relaxed) + bytes as u64, Relaxed);
        self.write_blocked.store(false, Relaxed);
    }

    pub(super) fn write_is_blocked(&self) {
        self.write_blocked.store(true, Relaxed);
    }

    pub(super) fn is_write_blocked(&self) -> bool {
        self.write_blocked.load(Relaxed)
    }

    /// Bytes that came in.
    pub(super) fn received(&self) -> u64 {
        self.received.load(Relaxed)
    }

    /// Bytes that went either way.
    pub(super) fn moved(&self) -> u64 {
        self.received() + self.sent.load(Relaxed)
    }
}
