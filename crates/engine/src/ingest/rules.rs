//! What a ping must meet to be taken, and to be kept: the quota of its check, and the ping key of its project.

use std::sync::{Arc, Mutex, PoisonError};

use allswell_core::admission::Sent;
use allswell_core::crowd::Crowd;
use allswell_core::id::{CheckId, ProjectId};
use allswell_core::quota::Quota;
use allswell_core::time::Timestamp;

/// What becomes of pings beyond the quota of their check.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Over {
    /// They move the check and its counter; their rows and bodies are not kept.
    Count,
    /// They are refused, but for those that change the status of the check.
    Reject,
}

/// What the operator asks of pings.
#[derive(Copy, Clone, Debug)]
pub struct PingRules {
    /// Pings of one check that are kept; `None`: all of them.
    pub per_check: Option<Quota>,
    /// What becomes of more.
    pub over: Over,
    /// A ping by id needs the ping key of its check's project.
    pub require_key: bool,
}

impl Default for PingRules {
    fn default() -> Self {
        PingRules {
            per_check: None,
            over: Over::Count,
            require_key: false,
        }
    }
}

/// The rules, and what the checks have used of their quota. Cheap to clone; clones count together, which they do for this
/// process alone.
#[derive(Clone, Default)]
pub(super) struct Gate {
    pub(super) rules: PingRules,
    used: Option<Arc<Mutex<Crowd>>>,
}

impl Gate {
    pub(super) fn new(rules: PingRules) -> Self {
        let used = rules
            .per_check
            .map(|quota| Arc::new(Mutex::new(Crowd::new(quota))));
        Gate { rules, used }
    }

    /// The quota, and until when these checks have used it up, in their order.
    pub(super) fn used(&self, checks: &[CheckId]) -> Option<(Quota, Vec<Timestamp>)> {
        let used = self.used.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner);
        let until = checks.iter().map(|check| used.used_until(check.as_uuid()));
        Some((used.quota(), until.collect()))
    }

    /// Notes what a batch has used, once it is committed: one that is decided again must not count twice.
    pub(super) fn note(&self, taken: &[(CheckId, Timestamp)]) {
        if let Some(used) = &self.used {
            let mut used = used.lock().unwrap_or_else(PoisonError::into_inner);
            for (check, until) in taken {
                used.note(check.as_uuid(), *until);
            }
        }
    }
}

/// What a key in the header of a ping opens.
pub(super) fn opened(key: Option<&str>, project: impl FnOnce(&str) -> Option<ProjectId>) -> Sent {
    match key {
        None => Sent::Nothing,
        Some(key) => project(key).map_or(Sent::Wrong, Sent::Opens),
    }
}
