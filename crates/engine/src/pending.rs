//! The pings that have arrived and are not yet stored: how far the sweep may judge.
//!
//! A ping counts from its arrival. While one waits for its commit, the sweep must not take its check down for a deadline
//! that the ping has met; so it judges only what was due before the oldest that waits.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use allswell_core::time::{Span, Timestamp};

/// The arrivals that wait. Cheap to clone; clones know the same.
#[derive(Clone, Default)]
pub struct Pending(Arc<Mutex<Waiting>>);

#[derive(Default)]
struct Waiting {
    arrivals: BTreeSet<(Timestamp, u64)>,
    next: u64,
}

/// A place among those that wait; given up when it is dropped. It goes with the ping and not with who waits for the answer:
/// a client that went away takes nothing back.
pub(crate) struct Place {
    pending: Pending,
    key: (Timestamp, u64),
}

impl Pending {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a place for a ping that arrived at `at`, until it is stored or refused.
    pub(crate) fn wait(&self, at: Timestamp) -> Place {
        let mut waiting = self.lock();
        let key = (at, waiting.next);
        waiting.next += 1;
        waiting.arrivals.insert(key);
        Place {
            pending: self.clone(),
            key,
        }
    }

    /// The instant up to which everything that arrived is stored: `now`, or just before the oldest that waits.
    pub fn settled_until(&self, now: Timestamp) -> Timestamp {
        let oldest = self
            .lock()
            .arrivals
            .first()
            .map(|(at, _)| *at - Span::from_micros(1));
        oldest.map_or(now, |oldest| oldest.min(now))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.pending.lock().arrivals.remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_that_waits_bounds_what_is_settled() {
        let at = Timestamp::from_secs;
        let pending = Pending::default();
        assert_eq!(pending.settled_until(at(100)), at(100));
        let later = pending.wait(at(50));
        let earlier = pending.wait(at(40));
        let twin = pending.wait(at(40));
        let before = |secs| at(secs) - Span::from_micros(1);
        assert_eq!(pending.settled_until(at(100)), before(40));
        drop(earlier);
        assert_eq!(pending.settled_until(at(100)), before(40));
        drop(twin);
        assert_eq!(pending.settled_until(at(100)), before(50));
        assert_eq!(pending.settled_until(at(30)), at(30));
        drop(later);
        assert_eq!(pending.settled_until(at(100)), at(100));
    }
}
