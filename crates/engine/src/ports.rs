//! What the engine needs of the floors above and beside it: somebody who carries a call out, and somebody who knows the
//! words of the compatible API. The simulator and the tests stand in for both.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use allswell_core::check::Check;
use allswell_core::exchange::{Outcome, Request};
use allswell_core::id::ChannelId;
use allswell_core::time::Timestamp;

/// The door outward.
pub trait Outbound: Send + Sync + 'static {
    /// Carries a call out, within its budget, and closes its connection before it gives the outcome.
    fn send(&self, request: Request) -> impl Future<Output = Outcome> + Send;
}

impl<O: Outbound> Outbound for Arc<O> {
    fn send(&self, request: Request) -> impl Future<Output = Outcome> + Send {
        (**self).send(request)
    }
}

/// A check with its channels as version 3 of the compatible API shows it to a key that may write, as JSON.
pub type Describe = Arc<dyn Fn(&Check, &[ChannelId], Timestamp) -> String + Send + Sync>;

/// The server's own log, for deliveries that end there. By default one that writes each line at once and loses none.
#[derive(Clone, Default)]
pub struct Log {
    /// Lines that were lost.
    pub lost: Arc<AtomicU64>,
    /// Has the log say when everything before this is written, if somebody writes it later than it was said.
    pub flush: Option<Flush>,
}

/// Asks for word that everything before this was written, or has found its end. Without an answer it was not.
pub type Flush = Arc<dyn Fn() -> tokio::sync::oneshot::Receiver<()> + Send + Sync>;

impl Log {
    pub(crate) fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// Asks for word that what was said before is written; `None` if it is already.
    pub(crate) fn word(&self) -> Option<tokio::sync::oneshot::Receiver<()>> {
        self.flush.as_ref().map(|flush| flush())
    }
}
