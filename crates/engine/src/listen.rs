//! Nudges from other nodes. They only save time: the loops look by themselves every second.

use std::sync::Arc;

use allswell_core::time::Timestamp;
use allswell_store::{Result, Store, feed, outbox};
use tokio::sync::Notify;

use crate::Due;
use crate::loops::Step;

/// Hears what the transactions of other nodes promised, and wakes the loop that keeps it. The sweep is not woken: no
/// deadline is nearer than its next look.
pub struct Listen {
    store: Store,
    deliver: Arc<Notify>,
    changes: Arc<Notify>,
}

impl Listen {
    /// `deliver` is nudged when any node has promised a delivery, `changes` when one has changed a project.
    pub const fn new(store: Store, deliver: Arc<Notify>, changes: Arc<Notify>) -> Self {
        Listen {
            store,
            deliver,
            changes,
        }
    }
}

impl Step for Listen {
    const NAME: &'static str = "listen";

    /// Ends only when the connection breaks, with that error. To be dropped at the end, since it does not look whether
    /// it is time to stop.
    async fn step(&self, _: Timestamp) -> Result<Due> {
        self.store
            .listen(|word| {
                if word == outbox::NUDGE {
                    self.deliver.notify_one();
                }
                if word == feed::NUDGE {
                    self.changes.notify_one();
                }
            })
            .await?;
        Ok(Due::WhenNudged)
    }
}
