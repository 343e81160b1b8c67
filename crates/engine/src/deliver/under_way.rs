//! Deliveries whose attempt is under way here, or whose answer waits to be stored. Their leases are ours whatever the
//! clock says: it may be stepped forward while a receiver takes its time.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use allswell_core::id::DeliveryId;
use allswell_store::outbox::Claimed;
use uuid::Uuid;

use super::lock;

/// Those under way, each with its shard and the attempts before this one. Cheap to clone; clones are the same.
#[derive(Clone, Default)]
pub(super) struct UnderWay(Arc<Mutex<BTreeMap<DeliveryId, (Uuid, u64)>>>);

/// One that is under way until this is dropped.
pub(super) struct Hold {
    all: UnderWay,
    id: DeliveryId,
    attempts: u64,
}

impl UnderWay {
    pub(super) fn hold(&self, claimed: &Claimed) -> Hold {
        lock(&self.0).insert(claimed.id, (claimed.shard, claimed.attempts));
        Hold {
            all: self.clone(),
            id: claimed.id,
            attempts: claimed.attempts,
        }
    }

    /// Whether the very attempt that this was claimed for is under way here.
    pub(super) fn has(&self, claimed: &Claimed) -> bool {
        let all = lock(&self.0);
        let held = all.get(&claimed.id);
        held.is_some_and(|(_, attempts)| *attempts == claimed.attempts)
    }

    /// Shard and id of each, in one order, so that no two nodes wait for each other.
    pub(super) fn all(&self) -> Vec<(Uuid, DeliveryId)> {
        lock(&self.0)
            .iter()
            .map(|(id, (shard, _))| (*shard, *id))
            .collect()
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut all = lock(&self.all.0);
        // A later attempt may be under way by now: somebody else has stored this one's number.
        if all
            .get(&self.id)
            .is_some_and(|(_, attempts)| *attempts == self.attempts)
        {
            all.remove(&self.id);
        }
    }
}
