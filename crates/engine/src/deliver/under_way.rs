//! Deliveries whose attempt is under way here, or whose answer waits to be stored. Their leases are ours whatever the
//! clock says: it may be stepped forward while a receiver takes its time.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use allswell_core::id::DeliveryId;
use allswell_store::outbox::Claimed;
use uuid::Uuid;

use super::lock;

/// Those under way. Cheap to clone; clones are the same.
#[derive(Clone, Default)]
pub(super) struct UnderWay(Arc<Mutex<BTreeMap<DeliveryId, Uuid>>>);

/// One that is under way until this is dropped.
pub(super) struct Hold {
    all: UnderWay,
    id: DeliveryId,
}

impl UnderWay {
    pub(super) fn hold(&self, claimed: &Claimed) -> Hold {
        lock(&self.0).insert(claimed.id, claimed.shard);
        Hold {
            all: self.clone(),
            id: claimed.id,
        }
    }

    /// Shard and id of each, in one order, so that no two nodes wait for each other.
    pub(super) fn all(&self) -> Vec<(Uuid, DeliveryId)> {
        lock(&self.0).iter().map(|(id, shard)| (*shard, *id)).collect()
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        lock(&self.all.0).remove(&self.id);
    }
}
