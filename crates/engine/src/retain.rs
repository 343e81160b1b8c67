//! Pruning: what is older or more than the operator keeps goes, in slices.

use allswell_core::absence::CLOCKS_DIFFER;
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
/// For so long after time has made a leap, the leap does not age what is kept: a clock that is wrong by a year would take
/// all history with it, and whoever looks after the machine has this long to set it right.
const DOUBT: Span = Span::from_days(7);
/// From how long on an absence may be such a leap. A shorter one deletes no more than a day's worth too early.
const LEAP_MIN: Span = Span::from_days(1);

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

    /// The instant by which things are old: now, less the leaps that time has made lately, those that the sweep has noted
    /// and the one that it has not: it may not have been here since. A server that is away most of the time prunes all the
    /// same, an absence later.
    async fn surely_now(&self, now: Timestamp) -> Result<Timestamp> {
        let system = SystemScope::engine();
        let (seen, lately) = self
            .store
            .read(async move |reader| {
                let seen = reader.last_seen(system, now).await?;
                Ok::<_, Error>((seen, reader.absences_since(system, now - DOUBT).await?))
            })
            .await?;
        let noted = lately.iter().map(|away| (away.from, away.to));
        let leaps = noted.chain(seen.map(|seen| (seen, now)));
        Ok(leaps
            .filter(|(from, to)| *to - *from > LEAP_MIN)
            .fold(now, |sure, (from, to)| sure - (to - from)))
    }
}

impl Step for Retain {
    const NAME: &'static str = "retain";

    async fn step(&self, now: Timestamp) -> Result<Due> {
        let (kept, system) = (self.kept, SystemScope::engine());
        let sure = self.surely_now(now).await?;
        let log = LogKept {
            pings: kept.pings,
            body_bytes: kept.body_bytes,
            flips_since: sure - kept.history,
        };
        let logs = self
            .store
            .write(async move |tx| tx.prune_logs(system, log, LOGS).await)
            .await?;
        let others = self
            .store
            .write(async move |tx| {
                let history = tx.prune_history(system, sure - kept.history, ROWS).await?;
                let audit = tx.prune_audit(system, sure - kept.audit, ROWS).await?;
                let deleted = tx.purge_deleted(system, sure - kept.undo, LOGS).await?;
                Ok::<_, Error>((history, audit, deleted))
            })
            .await?;
        let api = self
            .store
            .write(async move |tx| {
                let once = tx.once_prune(system, sure - ONCE, ROWS).await?;
                // A nonce counts for as long as its call would be taken by any server, and longer by what their clocks
                // may differ. By the clock as it is, as wrong keys too: nobody wants them back, and those that pile up
                // in doubt would have signed calls refused.
                let taken_since = now - WINDOW - WINDOW - CLOCKS_DIFFER - Span::from_secs(1);
                let nonces = tx.nonces_prune(system, taken_since, ROWS).await?;
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
