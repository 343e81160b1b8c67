//! The sweep: checks whose deadline has passed go down.

use std::sync::Arc;

use allswell_core::chance::Dice;
use allswell_core::check::{Check, Event};
use allswell_core::flip::Flip;
use allswell_core::id::CheckId;
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
    deliver: Arc<Notify>,
    meters: Meters,
}

#[derive(Default)]
struct Swept {
    looked_at: usize,
    flips: Vec<(CheckId, Flip)>,
    /// Checks whose schedule cannot be computed, with why.
    postponed: Vec<(CheckId, String)>,
    promised: usize,
}

impl Sweep {
    /// `deliver` is nudged when a promise was made.
    pub fn new(store: Store, dice: Dice, deliver: Arc<Notify>, meters: Meters) -> Self {
        Sweep {
            store,
            dice: Mutex::new(dice),
            deliver,
            meters,
        }
    }

    /// Looks at a batch in one transaction.
    async fn batch(&self, now: Timestamp) -> Result<usize> {
        let dice = self.dice.lock().await.fork();
        let swept = self
            .store
            .write(async move |tx| {
                let due = tx.checks_due(SystemScope::engine(), now, BATCH).await?;
                sweep(tx, due, now, dice).await
            })
            .await?;
        self.tell(&swept);
        Ok(swept.looked_at)
    }

    /// Looks at each check of a batch alone. One that fails is looked at again later: it must not keep the others from
    /// going down.
    async fn one_by_one(&self, now: Timestamp) -> Result<usize> {
        let system = SystemScope::engine();
        let due = self
            .store
            .read(async move |reader| reader.check_ids_due(system, now, BATCH).await)
            .await?;
        for id in &due {
            let (id, dice) = (*id, self.dice.lock().await.fork());
            let swept = self
                .store
                .write(async move |tx| {
                    let due = tx.check_any(system, id).await?;
                    sweep(tx, due.into_iter().collect(), now, dice).await
                })
                .await;
            match swept {
                Ok(swept) => self.tell(&swept),
                Err(error) if error.is_passing() => return Err(error),
                Err(error) => {
                    tracing::error!(check.id = %id, "check {id} cannot be swept and is looked at again later: {error}");
                    let until = now + record::POSTPONED;
                    self.store
                        .write(async move |tx| tx.check_postpone(system, id, until).await)
                        .await?;
                }
            }
        }
        Ok(due.len())
    }

    /// Says what a transaction did, after its commit.
    fn tell(&self, swept: &Swept) {
        for (id, flip) in &swept.flips {
            tracing::info!(check.id = %id, "check {id} went down, deadline {}", flip.at);
        }
        for (id, error) in &swept.postponed {
            tracing::error!(check.id = %id, "the schedule of check {id} cannot be computed any more: {error}");
        }
        self.meters.swept(swept.flips.len());
        if swept.promised > 0 {
            self.deliver.notify_one();
        }
    }

    async fn next(&self) -> Result<Option<Timestamp>> {
        self.store
            .read(async |reader| reader.check_next_deadline(SystemScope::engine()).await)
            .await
    }
}

impl Step for Sweep {
    const NAME: &'static str = "sweep";

    async fn step(&self, now: Timestamp) -> Result<Due> {
        // A look first: an idle server must not begin a write every second.
        match self.next().await? {
            None => return Ok(Due::WhenNudged),
            Some(at) if at > now => return Ok(Due::At(at)),
            Some(_) => {}
        }
        let looked_at = match self.batch(now).await {
            Err(error) if !error.is_passing() => {
                tracing::warn!("a sweep failed and is done check by check: {error}");
                self.one_by_one(now).await?
            }
            other => other?,
        };
        if looked_at as i64 == BATCH {
            return Ok(Due::Now);
        }
        Ok(self.next().await?.map_or(Due::WhenNudged, Due::At))
    }
}

async fn sweep(tx: &mut Tx<'_>, due: Vec<Check>, now: Timestamp, mut dice: Dice) -> Result<Swept> {
    let mut swept = Swept {
        looked_at: due.len(),
        ..Swept::default()
    };
    for mut check in due {
        let id = check.id;
        let deadline = match check.settings.plan() {
            Ok(plan) => {
                let applied = record::apply(tx, &mut check, &plan, Event::Deadline, now, &mut dice).await?;
                swept.promised += applied.promised;
                swept.flips.extend(applied.flip.map(|flip| (id, flip)));
                applied.deadline
            }
            Err(error) => {
                swept.postponed.push((id, error.to_string()));
                Some(now + record::POSTPONED)
            }
        };
        if !tx.check_save_state_and_deadline(&mut check, deadline).await? {
            return Err(Error::Conflict(format!(
                "check {id} was changed by another writer"
            )));
        }
    }
    Ok(swept)
}
