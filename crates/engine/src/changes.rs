//! What changed, told to whoever listens: one read per project with listeners, however many they are.
//!
//! Listeners are a convenience and no promise: each knows the number of the last change it was told of, and whoever was
//! too slow or away asks the store for what it missed.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use allswell_core::id::ProjectId;
use allswell_core::limits::{LISTENERS_MAX, LISTENERS_PER_PROJECT_MAX};
use allswell_core::scope::ProjectScope;
use allswell_core::time::Timestamp;
use allswell_store::feed::Change;
use allswell_store::{Result, Store};
use tokio::sync::{Notify, broadcast};

use crate::Due;
use crate::loops::Step;

/// Changes that a listener may lie behind before it is told to ask the store.
const BEHIND_MAX: usize = 256;
/// Changes read at once.
const PAGE: i64 = 500;

/// A project somebody listens to.
struct Feed {
    /// What listeners were told so far.
    seen: i64,
    sender: broadcast::Sender<Arc<Change>>,
}

/// Those who listen. Cheap to clone.
#[derive(Clone, Default)]
pub struct Listeners(Arc<Mutex<Feeds>>);

#[derive(Default)]
struct Feeds {
    by_project: HashMap<ProjectId, Feed>,
    closed: bool,
}

impl Feeds {
    /// How many listen now: in all, and to this project.
    fn count(&self, project: ProjectId) -> (usize, usize) {
        let of = |feed: &Feed| feed.sender.receiver_count();
        let own = self.by_project.get(&project).map_or(0, of);
        (self.by_project.values().map(of).sum(), own)
    }
}

impl Listeners {
    /// Listens to a project from its change number `seen` on. What lies behind an earlier listener's number may come
    /// again; the numbers tell. `None`: as many listen already as may.
    pub fn join(&self, project: ProjectId, seen: i64) -> Option<broadcast::Receiver<Arc<Change>>> {
        let mut feeds = self.feeds();
        if feeds.closed {
            // Its sender is gone, so it says that there is nothing more.
            return Some(broadcast::channel(1).1);
        }
        // Counted where the place is taken: of two who come at once for the last one, one gets it.
        let (all, own) = feeds.count(project);
        if all >= LISTENERS_MAX || own >= LISTENERS_PER_PROJECT_MAX {
            return None;
        }
        let feed = feeds.by_project.entry(project).or_insert_with(|| Feed {
            seen,
            sender: broadcast::Sender::new(BEHIND_MAX),
        });
        Some(feed.sender.subscribe())
    }

    /// Ends all listening, now and from now on: the server is about to end.
    pub fn close(&self) {
        let mut feeds = self.feeds();
        feeds.closed = true;
        feeds.by_project.clear();
    }

    fn feeds(&self) -> MutexGuard<'_, Feeds> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The projects that still have listeners, with what these were told.
    fn followed(&self) -> Vec<(ProjectId, i64)> {
        let followed = &mut self.feeds().by_project;
        followed.retain(|_, feed| feed.sender.receiver_count() > 0);
        followed
            .iter()
            .map(|(project, feed)| (*project, feed.seen))
            .collect()
    }

    fn tell(&self, project: ProjectId, changes: Vec<Change>, complete: i64) {
        if let Some(feed) = self.feeds().by_project.get_mut(&project) {
            feed.seen = feed.seen.max(complete);
            for change in changes {
                // Nobody left to hear it is no failure.
                let _ = feed.sender.send(Arc::new(change));
            }
        }
    }
}

/// Tells listeners what changed.
pub struct Changes {
    store: Store,
    listeners: Listeners,
}

impl Changes {
    /// Tells `listeners` what `store` says.
    pub const fn new(store: Store, listeners: Listeners) -> Self {
        Changes { store, listeners }
    }

    /// Nudges a loop whenever this process has committed a change. Never ends by itself.
    pub async fn nudge_after_commits(store: Store, nudge: Arc<Notify>) {
        let mut changed = store.changed();
        while changed.changed().await.is_ok() {
            nudge.notify_one();
        }
    }
}

impl Step for Changes {
    const NAME: &'static str = "changes";

    async fn step(&self, _: Timestamp) -> Result<Due> {
        let mut more = false;
        for (project, seen) in self.listeners.followed() {
            let scope = ProjectScope::granted(project);
            let read = self
                .store
                .read(async move |reader| reader.changes(scope, seen, PAGE).await)
                .await;
            let (changes, complete) = match read {
                Ok(read) => read,
                Err(error) if error.is_passing() => return Err(error),
                // One project's unreadable row is no reason to leave those of the others without word.
                Err(error) => {
                    tracing::warn!("listeners of project {project} could not be told what changed: {error}");
                    continue;
                }
            };
            more |= changes.len() as i64 >= PAGE;
            self.listeners.tell(project, changes, complete);
        }
        Ok(if more { Due::Now } else { Due::WhenNudged })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_listen_to_a_project_as_may_and_no_more() {
        let listeners = Listeners::default();
        let [one, other] = [1, 2].map(|n| ProjectId::from(uuid::Uuid::from_u128(n)));
        let mut told: Vec<_> = (0..LISTENERS_PER_PROJECT_MAX)
            .map(|_| listeners.join(one, 0).expect("a place"))
            .collect();
        assert!(listeners.join(one, 0).is_none());
        assert!(listeners.join(other, 0).is_some());
        told.pop();
        assert!(listeners.join(one, 0).is_some());
    }
}
