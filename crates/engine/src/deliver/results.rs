//! Storing what came of deliveries. It waits in memory until its transaction is committed: an answer that is forgotten
//! makes its receiver get the same alert again.

use std::collections::HashSet;
use std::sync::Arc;

use allswell_core::id::DeliveryId;
use allswell_core::scope::SystemScope;
use allswell_core::time::Timestamp;
use allswell_store::outbox::{Next, Recorded};
use allswell_store::{Error, Result};

use super::result::{Answered, Bearing};
use super::trouble::Seens;
use super::under_way::Hold;
use super::{Deliver, lock};
use crate::failpoint::failpoint;
use crate::ports::Outbound;

/// Results that one transaction stores.
const RESULTS_MAX: usize = 200;

/// What one transaction stores.
#[derive(Default)]
pub(super) struct Batch {
    rows: Vec<Recorded>,
    /// What each has to do with its channel, if anything.
    bearings: Vec<Option<Bearing>>,
    /// Their leases are ours until this is gone.
    holds: Vec<Option<Arc<Hold>>>,
}

impl Batch {
    pub(super) fn push(&mut self, row: Recorded, bearing: Option<Bearing>, hold: Option<Arc<Hold>>) {
        self.rows.push(row);
        self.bearings.push(bearing);
        self.holds.push(hold);
    }

    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    /// What those that are recorded say of their channels. The others have no row that could explain it, and whoever holds
    /// their leases by now tries again.
    fn seens(&self, ours: &HashSet<DeliveryId>) -> Seens {
        let mut seens = Seens::default();
        for (row, bearing) in self.rows.iter().zip(&self.bearings) {
            if let Some(bearing) = bearing
                && ours.contains(&row.claimed.id)
            {
                let place = (row.claimed.project, row.claimed.channel);
                seens.note(place, *bearing, &row.outcome);
            }
        }
        seens
    }

    /// The results one by one. Of a single one, what it cannot do without: how the delivery goes on.
    fn split(&self) -> Option<Vec<Batch>> {
        let single = |row: Recorded, bearing, hold: &Option<Arc<Hold>>| {
            let mut batch = Batch::default();
            batch.push(row, bearing, hold.clone());
            batch
        };
        if let ([row], [bearing], [hold]) = (&*self.rows, &*self.bearings, &*self.holds) {
            let mut bare = row.clone();
            if let Some(found) = &mut bare.found {
                found.detail.clear();
            }
            let is_bare = bearing.is_none() && bare == *row;
            return (!is_bare).then(|| vec![single(bare, None, hold)]);
        }
        let each = self.rows.iter().zip(&self.bearings).zip(&self.holds);
        let parts = each.map(|((row, bearing), hold)| single(row.clone(), *bearing, hold));
        Some(parts.collect())
    }
}

impl<O: Outbound> Deliver<O> {
    /// Stores what came back since the last step. What cannot be stored now is kept for the next one; what breaks its
    /// batch is tried alone, so that the others are not sent again because of it.
    pub(super) async fn record(&self, now: Timestamp) -> Result<()> {
        while let Some(batch) = self.next_batch(now) {
            match self.write_batch(&batch, now).await {
                Ok(()) => drop(lock(&self.judged).pop_front()),
                Err(error) if error.is_passing() => return Err(error),
                Err(error) => self.split_first(&batch, &error),
            }
        }
        Ok(())
    }

    /// The batch that waits longest.
    fn next_batch(&self, now: Timestamp) -> Option<Arc<Batch>> {
        let mut judged = lock(&self.judged);
        if let Some(first) = judged.front() {
            return Some(Arc::clone(first));
        }
        let answered: Vec<Answered> = {
            let mut answered = lock(&self.answered);
            let count = answered.len().min(RESULTS_MAX);
            answered.drain(..count).collect()
        };
        if answered.is_empty() {
            return None;
        }
        let mut batch = Batch::default();
        let mut dice = self.trade.dice();
        for answered in answered {
            let (row, bearing, hold) = answered.judged(&self.trade.rules.schedule, now, &mut dice);
            batch.push(row, Some(bearing), Some(Arc::new(hold)));
        }
        let batch = Arc::new(batch);
        judged.push_back(Arc::clone(&batch));
        Some(batch)
    }

    fn split_first(&self, batch: &Batch, error: &Error) {
        let mut judged = lock(&self.judged);
        judged.pop_front();
        let Some(parts) = batch.split() else {
            for id in batch.rows.iter().map(|row| row.claimed.id) {
                tracing::error!(
                    delivery.id = %id,
                    "what came of delivery {id} cannot be stored; it is tried again when its lease lapses: {error}"
                );
            }
            return;
        };
        tracing::warn!(
            "storing {} results failed; each is tried alone: {error}",
            batch.len()
        );
        for part in parts.into_iter().rev() {
            judged.push_front(Arc::new(part));
        }
    }

    async fn write_batch(&self, batch: &Arc<Batch>, now: Timestamp) -> Result<()> {
        failpoint("before_result_commit");
        let (node, mut dice) = (self.node, self.trade.dice());
        let (ours, said) = self
            .store
            .write({
                let batch = Arc::clone(batch);
                async move |tx| {
                    let ours = tx
                        .deliveries_record(SystemScope::engine(), &batch.rows, node, now, &mut dice)
                        .await?;
                    failpoint("mid_result_batch");
                    let said = batch.seens(&ours).write(tx, now, &mut dice).await?;
                    Ok::<_, Error>((ours, said))
                }
            })
            .await?;
        for Recorded { claimed, next, .. } in &batch.rows {
            if !ours.contains(&claimed.id) {
                tracing::warn!(delivery.id = %claimed.id, "the lease of delivery {} had lapsed when its attempt ended; it is tried again", claimed.id);
            } else if let Next::Ended(end) = next {
                self.meters.delivered(*end);
            } else {
                self.meters.retried();
            }
        }
        for note in said {
            tracing::warn!(channel.id = note.channel, "{}", note.sentence());
        }
        Ok(())
    }
}
