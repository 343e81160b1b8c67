//! The sweep: checks whose deadline has passed go down, unless it was we who were away.

use std::sync::Arc;

use allswell_core::absence::Absence;
use allswell_core::chance::Dice;
use allswell_core::check::Event;
use allswell_core::id::NodeId;
use allswell_core::schedule::Zones;
use allswell_core::scope::SystemScope;
use allswell_core::time::{Span, Timestamp};
use allswell_store::{Error, Result, Store, Tx};
use tokio::sync::{Mutex, Notify};

use crate::loops::Step;
use crate::meters::Meters;
use crate::{Due, record};

/// Checks that one transaction looks at: a storm of deadlines must let pings through in between.
const BATCH: i64 = 200;
/// How often a node says that it is awake; well below what counts as an absence.
const MARK_EVERY: Span = Span::from_secs(15);

/// Looks at checks whose stored wake-up has come.
pub struct Sweep {
    store: Store,
    node: NodeId,
    dice: Mutex<Dice>,
    /// When this node last said that it is awake.
    marked: Mutex<Option<Timestamp>>,
    zones: Zones,
    deliver: Arc<Notify>,
    meters: Meters,
}

struct Swept {
    absence: Option<Absence>,
    looked_at: usize,
    flips: usize,
    promised: usize,
    next: Option<Timestamp>,
}

impl Sweep {
    /// `deliver` is nudged when a promise was made.
    pub fn new(
        store: Store,
        node: NodeId,
        dice: Dice,
        zones: Zones,
        deliver: Arc<Notify>,
        meters: Meters,
    ) -> Self {
        Sweep {
            store,
            node,
            dice: Mutex::new(dice),
            marked: Mutex::new(None),
            zones,
            deliver,
            meters,
        }
    }
}

impl Step for Sweep {
    const NAME: &'static str = "sweep";

    async fn step(&self, now: Timestamp) -> Result<Due> {
        // A look first: an idle server must not begin a write every second.
        let next = self
            .store
            .read(async |reader| reader.check_next_deadline(SystemScope::engine()).await)
            .await?;
        let mut marked = self.marked.lock().await;
        let mark_at = marked.map_or(now, |at| at + MARK_EVERY);
        // A clock that was set back would leave us silent for as long.
        let mark = mark_at <= now || marked.is_some_and(|at| at > now);
        if !mark && next.is_none_or(|at| at > now) {
            return Ok(Due::At(next.map_or(mark_at, |at| at.min(mark_at))));
        }
        let dice = self.dice.lock().await.fork();
        let zones = self.zones.clone();
        let node = self.node;
        let swept = self
            .store
            .write(async move |tx| sweep(tx, node, now, dice, &zones).await)
            .await?;
        *marked = Some(now);
        if let Some(absence) = swept.absence {
            tracing::warn!(
                "away from {} to {}: what was due then is given time",
                absence.from,
                absence.to
            );
        }
        self.meters.swept(swept.flips);
        if swept.promised > 0 {
            self.deliver.notify_one();
        }
        if swept.looked_at as i64 == BATCH {
            return Ok(Due::Now);
        }
        let mark_at = now + MARK_EVERY;
        Ok(Due::At(swept.next.map_or(mark_at, |at| at.min(mark_at))))
    }
}

async fn sweep(
    tx: &mut Tx<'_>,
    node: NodeId,
    now: Timestamp,
    mut dice: Dice,
    zones: &Zones,
) -> Result<Swept> {
    // Before anything is judged late: was it we who were away?
    let absence = tx.awake_mark(SystemScope::engine(), node, now).await?;
    let due = tx.checks_due(SystemScope::engine(), now, BATCH).await?;
    let earliest = due.iter().filter_map(|check| check.deadline).min().unwrap_or(now);
    let absences: Arc<[Absence]> = tx.absences_since(SystemScope::engine(), earliest).await?.into();
    let mut swept = Swept {
        absence,
        looked_at: due.len(),
        flips: 0,
        promised: 0,
        next: None,
    };
    for mut check in due {
        let id = check.id;
        let deadline = match check.settings.plan(zones) {
            Ok(plan) => {
                let applied = record::apply(
                    tx,
                    &mut check,
                    &plan,
                    Event::Deadline {
                        absences: Arc::clone(&absences),
                    },
                    now,
                    &mut dice,
                )
                .await?;
                swept.promised += applied.promised;
                if let Some(flip) = applied.flip {
                    swept.flips += 1;
                    tracing::info!(check.id = %id, "check {id} went down, deadline {}", flip.at);
                }
                applied.deadline
            }
            Err(error) => {
                tracing::error!(check.id = %id, "the schedule of check {id} cannot be computed any more: {error}");
                Some(now + record::POSTPONED)
            }
        };
        if !tx.check_save_state_and_deadline(&mut check, deadline).await? {
            return Err(Error::Conflict(format!(
                "check {id} was changed by another writer"
            )));
        }
    }
    swept.next = tx.check_next_deadline(SystemScope::engine()).await?;
    Ok(swept)
}
