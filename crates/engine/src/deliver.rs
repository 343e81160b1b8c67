//! Deliveries that are due: claimed with a lease, carried out, recorded.
//!
//! The kinds of today stay in the process, so an attempt cannot hang. What goes over the network joins with the crate
//! `outbound`: between the claim and the record, with no database connection held.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use allswell_core::id::NodeId;
use allswell_core::scope::SystemScope;
use allswell_core::time::{Span, Timestamp};
use allswell_integrations::{Kind, log};
use allswell_store::outbox::{Claimed, End, Message};
use allswell_store::{Error, Result, Store};

use crate::Due;
use crate::loops::Step;
use crate::meters::Meters;

const BATCH: i64 = 200;
/// At least twice the longest attempt, so that two owners never overlap.
const LEASE: Span = Span::from_secs(60);

/// Keeps the promises of the outbox.
pub struct Deliver {
    store: Store,
    node: NodeId,
    log_lost: Arc<AtomicU64>,
    meters: Meters,
}

impl Deliver {
    /// `node` owns the leases; `log_lost` counts the lines that the log had to drop.
    pub const fn new(store: Store, node: NodeId, log_lost: Arc<AtomicU64>, meters: Meters) -> Self {
        Deliver {
            store,
            node,
            log_lost,
            meters,
        }
    }
}

impl Step for Deliver {
    const NAME: &'static str = "deliver";

    async fn step(&self, now: Timestamp) -> Result<Due> {
        let system = SystemScope::engine();
        let next = self
            .store
            .read(async move |reader| reader.delivery_next_at(system).await)
            .await?;
        match next {
            None => return Ok(Due::WhenNudged),
            Some(at) if at > now => return Ok(Due::At(at)),
            Some(_) => {}
        }
        let node = self.node;
        let (claimed, unread) = self
            .store
            .write(async move |tx| {
                tx.deliveries_release(system, now, BATCH).await?;
                let (mut claimed, mut unread) = (Vec::new(), Vec::new());
                for delivery in tx.deliveries_claim(system, now, BATCH, node, LEASE).await? {
                    match tx.delivery_message(system, &delivery).await {
                        Ok(message) => claimed.push((delivery, message)),
                        // Its flip may be from a later version, which another node runs already.
                        Err(Error::Corrupt(why)) => unread.push((delivery, why)),
                        Err(error) => return Err(error),
                    }
                }
                Ok((claimed, unread))
            })
            .await?;
        let full = (claimed.len() + unread.len()) as i64 == BATCH;
        let (late, unread): (Vec<_>, Vec<_>) = unread.into_iter().partition(|(d, _)| d.expires_at <= now);
        for (delivery, why) in &unread {
            // Its lease lapses, and it is tried again: it must not hold up the others.
            tracing::error!(delivery.id = %delivery.id, "delivery {} cannot be read: {why}", delivery.id);
        }
        let late = late.into_iter().map(|(delivery, _)| (delivery, None));
        let mut ended: Vec<(Claimed, End, &'static str)> = Vec::new();
        for (delivery, message) in claimed.into_iter().chain(late) {
            // One that could not be tried stays leased, and is tried again when the lease lapses.
            if let Some((end, outcome)) = self.attempt(&delivery, message.as_ref(), now) {
                self.meters.delivered(end);
                ended.push((delivery, end, outcome));
            }
        }
        self.store
            .write(async move |tx| {
                for (delivery, end, outcome) in &ended {
                    tx.delivery_finish(delivery, node, *end, outcome, now, now)
                        .await?;
                }
                Ok::<_, Error>(())
            })
            .await?;
        Ok(if full { Due::Now } else { Due::At(now) })
    }
}

impl Deliver {
    /// Tries a delivery once; gives how it ended and the word for it. `None`: the log had no room for its line.
    fn attempt(
        &self,
        delivery: &Claimed,
        message: Option<&Message>,
        now: Timestamp,
    ) -> Option<(End, &'static str)> {
        if delivery.expires_at <= now {
            return Some((End::Expired, "expired"));
        }
        let Some(message) = message else {
            return Some((End::Cancelled, "gone"));
        };
        match Kind::from_word(&message.kind) {
            Some(Kind::Log) => {
                let id = delivery.check.to_string();
                let line = log::line(&message.check_name, &id, &message.flip);
                let lost = self.log_lost.load(Ordering::Relaxed);
                tracing::warn!(check.id = id, delivery.id = %delivery.id, "{line}");
                // Another's line may have been the lost one; then this one is written twice, which is the better error.
                let written = self.log_lost.load(Ordering::Relaxed) == lost;
                written.then_some((End::Delivered, "written to the log"))
            }
            Some(Kind::Silent) => Some((End::Cancelled, "this kind sends nothing")),
            Some(Kind::Webhook) | None => Some((End::Cancelled, "a kind this version does not know")),
        }
    }
}
