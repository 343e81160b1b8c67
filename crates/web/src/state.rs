//! What handlers share: the store, the inbox, the clock, the settings they need. Built once, by the binary.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use allswell_core::chance::Dice;
use allswell_core::id::KeyId;
use allswell_core::limits::KEY_USE_NOTED_SECS;
use allswell_core::schedule::Zones;
use allswell_core::scope::SystemScope;
use allswell_core::secret::Secret;
use allswell_core::time::{Span, Timestamp};
use allswell_engine::ingest::Inbox;
use allswell_store::Store;
use allswell_store::keys::Opened;

use crate::client::Network;

/// The bounds of what a request may send.
#[derive(Copy, Clone, Debug)]
pub struct WebLimits {
    /// Bytes of a ping's body that are kept.
    pub ping_body_bytes: usize,
    /// Bytes of a longer body that are read and thrown away, so that its sender gets an answer.
    pub ping_drain_bytes: usize,
    /// Bytes of a request to the API.
    pub api_body_bytes: usize,
    /// Time for a body to arrive.
    pub body_within: Duration,
}

/// How the instance is reached, and what it says of itself.
#[derive(Clone, Debug)]
pub struct Site {
    /// The public address without a slash at its end: `https://hc.example.org`.
    pub url: String,
    /// The label of the badge that stands for all checks of a project.
    pub badge_label: String,
    /// What `X-Metrics-Key` must say to see the instance's counts; `None`: nobody sees them.
    pub metrics_key: Option<Secret<String>>,
}

impl Site {
    /// The prefix of every ping address.
    pub fn ping_base(&self) -> String {
        format!("{}/ping", self.url)
    }
}

/// Keys whose last use is remembered here, so that it is not written down again within the minute.
const KEY_USES_MAX: usize = 10_000;

/// What handlers share. Cheap to clone.
#[derive(Clone)]
pub struct App(Arc<Inner>);

struct Inner {
    store: Store,
    inbox: Inbox,
    clock: fn() -> Timestamp,
    dice: Mutex<Dice>,
    site: Site,
    network: Network,
    limits: WebLimits,
    zones: Zones,
    key_uses: Mutex<HashMap<KeyId, Timestamp>>,
}

impl App {
    /// Everything the handlers need.
    #[expect(
        clippy::too_many_arguments,
        reason = "called once, where the program is wired"
    )]
    pub fn new(
        store: Store,
        inbox: Inbox,
        clock: fn() -> Timestamp,
        dice: Dice,
        site: Site,
        network: Network,
        limits: WebLimits,
        zones: Zones,
    ) -> Self {
        App(Arc::new(Inner {
            store,
            inbox,
            clock,
            dice: Mutex::new(dice),
            site,
            network,
            limits,
            zones,
            key_uses: Mutex::default(),
        }))
    }

    pub(crate) fn store(&self) -> &Store {
        &self.0.store
    }

    pub(crate) fn inbox(&self) -> &Inbox {
        &self.0.inbox
    }

    pub(crate) fn now(&self) -> Timestamp {
        (self.0.clock)()
    }

    /// Dice for one request.
    pub(crate) fn dice(&self) -> Dice {
        self.0.dice.lock().unwrap_or_else(PoisonError::into_inner).fork()
    }

    pub(crate) fn site(&self) -> &Site {
        &self.0.site
    }

    pub(crate) fn network(&self) -> &Network {
        &self.0.network
    }

    pub(crate) fn zones(&self) -> &Zones {
        &self.0.zones
    }

    pub(crate) fn limits(&self) -> WebLimits {
        self.0.limits
    }

    /// Has it written down that a key was used, at most once a minute. Nobody waits for that, and if it fails nobody is
    /// turned away: the next use tries again a minute later.
    pub(crate) fn note_key_use(&self, opened: &Opened, from: Option<String>, now: Timestamp) {
        let id = opened.known.id;
        // One of time to come was noted by a clock that has been set back since.
        let lately = |noted: Timestamp| noted <= now && now - noted < Span::from_secs(KEY_USE_NOTED_SECS);
        if opened.last_used_at.is_some_and(lately) {
            return;
        }
        {
            let mut uses = self.0.key_uses.lock().unwrap_or_else(PoisonError::into_inner);
            if uses.get(&id).copied().is_some_and(lately) {
                return;
            }
            // Forgetting all of it costs one more write for each key.
            if uses.len() >= KEY_USES_MAX {
                uses.clear();
            }
            uses.insert(id, now);
        }
        let store = self.store().clone();
        tokio::spawn(async move {
            let noted = store
                .write(async move |tx| {
                    tx.key_note_use(SystemScope::engine(), id, now, from.as_deref())
                        .await
                })
                .await;
            if let Err(error) = noted {
                tracing::warn!("the use of key {id} could not be noted: {error}");
            }
        });
    }
}
