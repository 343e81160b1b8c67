//! The data keys, unwrapped: what seals and opens fields inside a transaction.
//!
//! A value names the key that sealed it, and is opened with that one. What is sealed anew takes the active key of its
//! project. Keys change while the server runs: whoever replaced some has every node forget the active ones.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use allswell_core::badge::BadgeKeys;
use allswell_core::id::{DataKeyId, ProjectId};
use allswell_core::key::Pepper;
use allswell_core::seal::{DataKey, KeyRing};

use crate::{Error, Result};

/// Data keys of each kind that are kept unwrapped; more are unwrapped again when needed.
const KEYS_CACHED_MAX: usize = 10_000;

/// Closed until [`Vault::unlock`]; then it holds the key ring and the unwrapped data keys.
#[derive(Default)]
pub(crate) struct Vault {
    identity: OnceLock<Identity>,
    ring: RwLock<Option<Arc<KeyRing>>>,
    active: RwLock<HashMap<ProjectId, Arc<DataKey>>>,
    by_id: RwLock<HashMap<DataKeyId, Arc<DataKey>>>,
    /// Counts how often the active keys were forgotten.
    generation: AtomicU64,
}

/// What comes from the instance's own data key, which is wrapped anew and never replaced: hashes of keys and addresses of
/// badges rest on it.
struct Identity {
    pepper: Pepper,
    badge_keys: BadgeKeys,
}

/// A data key that a transaction unwrapped.
#[derive(Clone)]
pub(crate) struct Learnt {
    pub(crate) key: Arc<DataKey>,
    /// It seals what is written now.
    pub(crate) is_active: bool,
}

impl Vault {
    pub(crate) fn unlock(&self, ring: KeyRing, instance: &DataKey) {
        // A second unlocking with the same database changes nothing.
        let _ = self.identity.set(Identity {
            pepper: instance.pepper(),
            badge_keys: instance.badge_keys(),
        });
        self.replace_ring(ring);
    }

    pub(crate) fn replace_ring(&self, ring: KeyRing) {
        *self.ring.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(ring));
    }

    fn identity(&self) -> Result<&Identity> {
        self.identity.get().ok_or_else(locked)
    }

    pub(crate) fn ring(&self) -> Result<Arc<KeyRing>> {
        let ring = self.ring.read().unwrap_or_else(PoisonError::into_inner);
        ring.clone().ok_or_else(locked)
    }

    pub(crate) fn pepper(&self) -> Result<&Pepper> {
        Ok(&self.identity()?.pepper)
    }

    pub(crate) fn badge_keys(&self) -> Result<&BadgeKeys> {
        Ok(&self.identity()?.badge_keys)
    }

    /// The key that seals a project's fields, if it is at hand.
    pub(crate) fn active(&self, project: ProjectId) -> Option<Arc<DataKey>> {
        let active = self.active.read().unwrap_or_else(PoisonError::into_inner);
        active.get(&project).cloned()
    }

    /// A key by the id that a value names, if it is at hand.
    pub(crate) fn by_id(&self, id: DataKeyId) -> Option<Arc<DataKey>> {
        let by_id = self.by_id.read().unwrap_or_else(PoisonError::into_inner);
        by_id.get(&id).cloned()
    }

    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Keeps keys at hand that a transaction unwrapped, once it has ended well. One that began before the active keys
    /// were forgotten may have read them before they were replaced, so that only their ids are worth keeping.
    pub(crate) fn remember_all(&self, keys: Vec<Learnt>, generation: u64) {
        if keys.is_empty() {
            return;
        }
        let mut active = self.active.write().unwrap_or_else(PoisonError::into_inner);
        let mut by_id = self.by_id.write().unwrap_or_else(PoisonError::into_inner);
        for Learnt { key, is_active } in keys {
            if let (Some(project), true) = (key.project, is_active && generation == self.generation()) {
                keep(&mut active, project, &key);
            }
            keep(&mut by_id, key.id, &key);
        }
    }

    /// Forgets which keys seal: they were replaced, and the database knows.
    pub(crate) fn forget_active(&self) {
        let mut active = self.active.write().unwrap_or_else(PoisonError::into_inner);
        self.generation.fetch_add(1, Ordering::AcqRel);
        active.clear();
    }

    pub(crate) fn forget(&self, project: ProjectId) {
        self.active
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&project);
    }
}

fn locked() -> Error {
    Error::Internal("the vault has not been unlocked".to_owned())
}

fn keep<K: Eq + Hash>(keys: &mut HashMap<K, Arc<DataKey>>, name: K, key: &Arc<DataKey>) {
    if keys.len() >= KEYS_CACHED_MAX {
        keys.clear();
    }
    keys.insert(name, Arc::clone(key));
}
