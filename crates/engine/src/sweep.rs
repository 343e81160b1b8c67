//! The sweep: checks whose deadline has passed go down.

use std::sync::Arc;

use allswell_core::chance::Dice;
use allswell_core::check::Event;
use allswell_core::schedule::Zones;
use allswell_core::scope::SystemScope;
use allswell_core::time::Timestamp;
use allswell_store::{Error, Result, Store, Tx};
use tokio::sync::{Mutex, Notify};

use crate::loops::Step;
use crate::meters::Meters;
use crate::{Due, record};

/// Checks that one transaction looks at: a storm of deadlines must let pings through in between.
const BATCH: i64 = 200;

/// Looks at checks whose stored wake-up has come.
pub struct Sweep {
    store: Store,
    dice: Mutex<Dice>,
    zones: Zones,
    deliver: Arc<Notify>,
    meters: Meters,
}

struct Swept {
    looked_at: usize,
    flips: usize,
    promised: usize,
    next: Option<Timestamp>,
}

impl Sweep {
    /// `deliver` is nudged when a promise was made.
    pub fn new(store: Store, dice: Dice, zones: Zones, deliver: Arc<Notify>, meters: Meters) -> Self {
        Sweep {
            store,
            dice: Mutex::new(dice),
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
        match next {
            None => return Ok(Due::WhenNudged),
            Some(at) if at > now => return Ok(Due::At(at)),
            Some(_) => {}
        }
        let dice = self.dice.lock().await.fork();
        let zones = self.zones.clone();
        let swept = self
            .store
            .write(async move |tx| sweep(tx, now, dice, &zones).await)
            .await?;
        self.meters.swept(swept.flips);
        if swept.promised > 0 {
            self.deliver.notify_one();
        }
        if swept.looked_at as i64 == BATCH {
            return Ok(Due::Now);
        }
        Ok(swept.next.map_or(Due::WhenNudged, Due::At))
    }
}

async fn sweep(tx: &mut Tx<'_>, now: Timestamp, mut dice: Dice, zones: &Zones) -> Result<Swept> {
    let due = tx.checks_due(SystemScope::engine(), now, BATCH).await?;
    let mut swept = Swept {
        looked_at: due.len(),
        flips: 0,
        promised: 0,
        next: None,
    };
    for mut check in due {
        let id = check.id;
        let deadline = match check.settings.plan(zones) {
            Ok(plan) => {
                let applied = record::apply(tx, &mut check, &plan, Event::Deadline, now, &mut dice).await?;
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
