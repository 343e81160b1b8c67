//! Whether the database takes a write: one small write for all who ask, whose answer stands for a second.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use allswell_core::time::{Span, Timestamp};
use sha2::{Digest, Sha256};
use tokio::sync::watch;

use crate::store::{Database, Store};
use crate::{Result, error};

/// For so long an answer stands.
const READY_FOR: Span = Span::from_secs(1);
/// How long somebody who asks is let wait. A database that takes longer is not ready.
const READY_WITHIN: Duration = Duration::from_secs(2);
/// Bytes of a write that shows whether there is space: more than the pages that are left over have room for.
const LARGE_ON_SQLITE: usize = 256 * 1024;
/// Less, since what PostgreSQL replaces stays in its file until a vacuum.
const LARGE_ON_POSTGRES: usize = 32 * 1024;

/// What was found last, and the answer that is on its way.
#[derive(Default)]
pub(crate) struct Ready {
    last: Option<(Timestamp, bool)>,
    under_way: Option<watch::Receiver<Option<bool>>>,
}

impl Store {
    /// Whether the database takes a write and makes it last: a small one, at most once a second however many ask, and never
    /// a second one beside one that hangs. Once a disk was full it is a large one, until that succeeds: a database has some
    /// room for small ones even then. Takes two seconds at most.
    pub async fn is_ready(&self, clock: impl Fn() -> Timestamp + Send + 'static) -> bool {
        let mut answer = {
            let mut ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
            let now = clock();
            if let Some((at, was_ready)) = ready.last
                && at <= now
                && now - at < READY_FOR
            {
                return was_ready;
            }
            // One whose sender is gone broke off.
            let under_way = ready.under_way.as_ref();
            let under_way = under_way.filter(|answer| answer.has_changed().is_ok()).cloned();
            under_way.unwrap_or_else(|| {
                let (say, answer) = watch::channel(None);
                ready.under_way = Some(answer.clone());
                // A task of its own: whoever asked may stop waiting, and the write goes on all the same.
                tokio::spawn(self.clone().find_out(clock, say));
                answer
            })
        };
        let answer = tokio::time::timeout(READY_WITHIN, answer.wait_for(Option::is_some)).await;
        matches!(answer, Ok(Ok(answer)) if *answer == Some(true))
    }

    async fn find_out(self, clock: impl Fn() -> Timestamp + Send, say: watch::Sender<Option<bool>>) {
        let was_full = error::disk_was_full();
        let is_ready = self.probe(clock(), was_full).await.is_ok();
        if is_ready && was_full {
            error::disk_has_space();
        }
        let mut ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        ready.last = Some((clock(), is_ready));
        ready.under_way = None;
        drop(ready);
        say.send_replace(Some(is_ready));
    }

    async fn probe(&self, now: Timestamp, large: bool) -> Result<()> {
        let text = match (&self.database, large) {
            (_, false) => now.to_string(),
            (Database::Sqlite(_), true) => incompressible(now, LARGE_ON_SQLITE),
            (Database::Postgres(_), true) => incompressible(now, LARGE_ON_POSTGRES),
        };
        self.write(async move |tx| tx.instance_set("ready_probe", &text).await)
            .await
    }
}

/// A text of so many bytes, at least, that no database makes smaller by much.
fn incompressible(now: Timestamp, bytes: usize) -> String {
    let mut text = String::with_capacity(bytes + 64);
    let mut hash = Sha256::digest(now.as_micros().to_be_bytes());
    while text.len() < bytes {
        text.extend(hash.iter().map(|byte| format!("{byte:02x}")));
        hash = Sha256::digest(hash);
    }
    text
}

/// Where a store keeps it.
pub(crate) type Shared = Arc<Mutex<Ready>>;
