//! The runtime in which attempts run beside the steps that began them. Its time is the world's, and stands still between.

use std::time::Duration;

use allswell_core::time::Timestamp;
use tokio::runtime::{Builder, Handle};

/// Turns that tasks get each time: more than any of them takes without waiting.
const TURNS: usize = 16;

/// One thread, its own, and a paused clock.
pub(crate) struct Runtime {
    tokio: tokio::runtime::Runtime,
    at: Timestamp,
}

impl Runtime {
    pub(crate) fn new(now: Timestamp) -> Self {
        let mut builder = Builder::new_current_thread();
        let tokio = builder.enable_time().start_paused(true).build();
        Runtime {
            tokio: tokio.expect("a runtime without threads or sockets"),
            at: now,
        }
    }

    pub(crate) fn handle(&self) -> Handle {
        self.tokio.handle().clone()
    }

    /// Lets time pass until `now`, and tasks go on until they wait.
    pub(crate) fn catch_up(&mut self, now: Timestamp) {
        let micros = u64::try_from((now - self.at).as_micros()).unwrap_or(0);
        self.at = self.at.max(now);
        self.tokio.block_on(async {
            if micros > 0 {
                tokio::time::advance(Duration::from_micros(micros)).await;
            }
            for _ in 0..TURNS {
                tokio::task::yield_now().await;
            }
        });
    }
}
