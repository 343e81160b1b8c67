//! What changed, told to whoever listens: one read per project with listeners, however many they are.
//!
//! Listeners are a convenience and no promise: each knows the number of the last change it was told of, and whoever was
//! too slow or away asks the store for what it missed.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use allswell_core::id::ProjectId;
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

impl Listeners {
    /// Listens to a project from its change number `seen` on. What lies behind an earlier listener's number may come
    /// again; the numbers tell.
    pub fn join(&self, project: ProjectId, seen: i64) -> broadcast::Receiver<Arc<Change>> {
        let mut feeds = self.feeds();
        if feeds.closed {
            // Its sender is gone, so it says that there is nothing more.
            return broadcast::channel(1).1;
        }
        let feed = feeds.by_project.entry(project).or_insert_with(|| Feed {
            seen,
            sender: broadcast::Sender::new(BEHIND_MAX),
        });
        feed.sender.subscribe()
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

    /// How many listen now: in all, and to this project.
    pub fn count(&self, project: ProjectId) -> (usize, usize) {
        let feeds = self.feeds();
        let of = |feed: &Feed| feed.sender.receiver_count();
        let own = feeds.by_project.get(&project).map_or(0, of);
        (feeds.by_project.values().map(of).sum(), own)
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
            let (changes, complete) = self
                .store
                .read(async move |reader| reader.changes(scope, seen, PAGE).await)
                .await?;
            more |= changes.len() as i64 >= PAGE;
            self.listeners.tell(project, changes, complete);
        }
        Ok(if more { Due::Now } else { Due::WhenNudged })
    }
}
