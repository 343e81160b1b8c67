//! The data keys, unwrapped: what seals and opens fields inside a transaction.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use allswell_core::badge::BadgeKeys;
use allswell_core::id::ProjectId;
use allswell_core::key::Pepper;
use allswell_core::seal::{DataKey, KeyRing};

use crate::{Error, Result};

/// Data keys of projects that are kept unwrapped; more are unwrapped again when needed.
const KEYS_CACHED_MAX: usize = 10_000;

/// Closed until [`Vault::unlock`]; then it holds the key ring and the unwrapped data keys.
#[derive(Default)]
pub(crate) struct Vault {
    open: OnceLock<Open>,
    projects: RwLock<HashMap<ProjectId, Arc<DataKey>>>,
}

struct Open {
    ring: KeyRing,
    pepper: Pepper,
    badge_keys: BadgeKeys,
}

impl Vault {
    pub(crate) fn unlock(&self, ring: KeyRing, instance: &DataKey) {
        let open = Open {
            ring,
            pepper: instance.pepper(),
            badge_keys: instance.badge_keys(),
        };
        // A second unlocking with the same database changes nothing.
        let _ = self.open.set(open);
    }

    fn opened(&self) -> Result<&Open> {
        self.open
            .get()
            .ok_or_else(|| Error::Internal("the vault has not been unlocked".to_owned()))
    }

    pub(crate) fn ring(&self) -> Result<&KeyRing> {
        Ok(&self.opened()?.ring)
    }

    pub(crate) fn pepper(&self) -> Result<&Pepper> {
        Ok(&self.opened()?.pepper)
    }

    pub(crate) fn badge_keys(&self) -> Result<&BadgeKeys> {
        Ok(&self.opened()?.badge_keys)
    }

    pub(crate) fn cached(&self, project: ProjectId) -> Option<Arc<DataKey>> {
        self.projects
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&project)
            .cloned()
    }

    /// Keeps a project's key at hand.
    pub(crate) fn remember(&self, key: Arc<DataKey>) {
        let Some(project) = key.project else { return };
        let mut projects = self.projects.write().unwrap_or_else(PoisonError::into_inner);
        if projects.len() >= KEYS_CACHED_MAX {
            projects.clear();
        }
        projects.insert(project, key);
    }

    /// Keeps keys at hand that a transaction unwrapped, once it has ended well.
    pub(crate) fn remember_all(&self, keys: Vec<Arc<DataKey>>) {
        keys.into_iter().for_each(|key| self.remember(key));
    }

    pub(crate) fn forget(&self, project: ProjectId) {
        self.projects
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&project);
    }
}
