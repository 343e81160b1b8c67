//! Pruning: what is older or more than the operator keeps goes, in slices.

use allswell_core::limits::ONCE_HOURS;
use allswell_core::scope::SystemScope;
use allswell_core::signed_call::WINDOW;
use allswell_core::time::{Span, Timestamp};
use allswell_store::retention::LogKept;
use allswell_store::{Error, Result, Store};

use crate::Due;
use crate::loops::Step;

/// Logs that one transaction prunes.
const LOGS: i64 = 20;
/// Rows of other kinds that one transaction deletes.
const ROWS: i64 = 500;
const ONCE: Span = Span::from_secs(ONCE_HOURS * 3_600);
const PAUSE: Span = Span::from_secs(30);

/// How long things are kept.
#[derive(Copy, Clone, Debug)]
pub struct Kept {
    /// The newest pings of a check.
    pub pings: u64,
    /// Bytes of their bodies.
    pub body_bytes: u64,
    /// Flips, incidents and finished deliveries.
    pub history: Span,
    /// The audit log.
    pub audit: Span,
    /// What was deleted and may be brought back.
    pub undo: Span,
}

/// Deletes what is no longer kept.
pub struct Retain {
    store: Store,
    kept: Kept,
}

impl Retain {
    /// Keeps what `kept` says.
    pub const fn new(store: Store, kept: Kept) -> Self {
        Retain { store, kept }
    }
}

impl Step for Retain {
    const NAME: &'static str = "retain";

    async fn step(&self, now: Timestamp) -> Result<Due> {
        let (kept, system) = (self.kept, SystemScope::engine());
        let log = LogKept {
            pings: kept.pings,
            body_bytes: kept.body_bytes,
            flips_since: now - kept.history,
        };
        let logs = self
            .store
            .write(async move |tx| tx.prune_logs(system, log, LOGS).await)
            .await?;
        let others = self
            .store
            .write(async move |tx| {
                let history = tx.prune_history(system, now - kept.history, ROWS).await?;
                let audit = tx.prune_audit(system, now - kept.audit, ROWS).await?;
                let deleted = tx.purge_deleted(system, now - kept.undo, LOGS).await?;
                Ok::<_, Error>((history, audit, deleted))
            })
            .await?;
        let api = self
            .store
            .write(async move |tx| {
                let once = tx.once_prune(system, now - ONCE, ROWS).await?;
                // A nonce counts for as long as its call would be taken, by a clock that is off either way.
                let nonces = tx.nonces_prune(system, now - WINDOW - WINDOW, ROWS).await?;
                let wrong = tx.wrong_keys_prune(system, now.as_secs() / 60 - 1, ROWS).await?;
                Ok::<_, Error>(once.max(nonces).max(wrong))
            })
            .await?;
        self.store.shrink().await?;
        let more = logs >= LOGS as u64
            || others.0 >= ROWS as u64
            || others.1 >= ROWS as u64
            || others.2 >= LOGS as u64
            || api >= ROWS as u64;
        Ok(if more { Due::Now } else { Due::At(now + PAUSE) })
    }
}
