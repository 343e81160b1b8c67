//! What handlers share: the store, the inbox, the clock, the settings they need. Built once, by the binary.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use allswell_core::chance::Dice;
use allswell_core::id::{KeyId, ProjectId};
use allswell_core::limits::{CHANNEL_TESTS_PER_MINUTE, KEY_USE_NOTED_SECS};
use allswell_core::quota::{Quota, Verdict};
use allswell_core::schedule::Zones;
use allswell_core::scope::SystemScope;
use allswell_core::secret::Secret;
use allswell_core::time::{Span, Timestamp};
use allswell_engine::changes::Listeners;
use allswell_engine::channels::Rules as ChannelRules;
use allswell_engine::ingest::Inbox;
use allswell_store::Store;
use allswell_store::keys::Opened;

use crate::client::Network;
use crate::quotas::{Quotas, Untold, client_of, retry_secs, site_of};

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
    /// Requests to the APIs with one key.
    pub api_per_key: Quota,
    /// Wrong keys and signatures from one client; then it is told to wait.
    pub wrong_keys: Quota,
    /// Pings of one client to addresses that are nobody's; then they are refused.
    pub unknown_addresses: Quota,
    /// A ping by id needs the ping key of its project.
    pub ping_key_required: bool,
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
    /// How commands begin that find this server's settings, for a shell: `allswell`, with `--config` where it was given a
    /// file.
    pub command: String,
}

impl Site {
    /// What links on our pages begin with: the path of the public address, without a slash at its end; mostly nothing.
    pub fn base(&self) -> &str {
        let behind_scheme = self.url.find("://").map_or(0, |at| at + 3);
        self.url[behind_scheme..]
            .find('/')
            .map_or("", |at| &self.url[behind_scheme + at..])
    }

    /// The prefix of every ping address.
    pub fn ping_base(&self) -> String {
        format!("{}/ping", self.url)
    }
}

/// Keys whose last use is remembered here, so that it is not written down again within the minute.
const KEY_USES_MAX: usize = 10_000;

/// A site of IPv6 may send as many wrong keys as so many of its networks.
const NETWORKS_OF_A_SITE: u32 = 10;

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
    api: Quotas<KeyId>,
    channel_tests: Quotas<ProjectId>,
    wrong_keys: Quotas<IpAddr>,
    /// Who has many IPv6 networks may guess from all of them: a site has ten times the quota of one.
    wrong_keys_of_sites: Quotas<IpAddr>,
    wrong_keys_to_tell: Untold,
    unknown_addresses: Quotas<IpAddr>,
    listeners: Listeners,
    channel_rules: Arc<ChannelRules>,
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
        channel_rules: ChannelRules,
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
            api: Quotas::new(limits.api_per_key),
            channel_tests: Quotas::new(Quota::new(CHANNEL_TESTS_PER_MINUTE, Span::from_secs(60))),
            wrong_keys: Quotas::new(limits.wrong_keys),
            wrong_keys_of_sites: Quotas::new(Quota::new(
                limits.wrong_keys.count.saturating_mul(NETWORKS_OF_A_SITE),
                limits.wrong_keys.per,
            )),
            wrong_keys_to_tell: Untold::default(),
            unknown_addresses: Quotas::new(limits.unknown_addresses),
            listeners: Listeners::default(),
            channel_rules: Arc::new(channel_rules),
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

    /// What channels are judged by.
    pub(crate) fn channel_rules(&self) -> &Arc<ChannelRules> {
        &self.0.channel_rules
    }

    /// Those who listen to changes, for the loop that tells them.
    pub fn listeners(&self) -> &Listeners {
        &self.0.listeners
    }

    /// Takes one request of a key's quota. The error is the same verdict: it is not allowed.
    pub(crate) fn take_api(&self, key: KeyId) -> Result<Verdict, Verdict> {
        let verdict = self.0.api.take(&key, self.now());
        if verdict.allowed {
            Ok(verdict)
        } else {
            Err(verdict)
        }
    }

    /// Takes one test of a project's quota. The error: seconds to wait.
    pub(crate) fn take_channel_test(&self, project: ProjectId) -> Result<(), i64> {
        let verdict = self.0.channel_tests.take(&project, self.now());
        if verdict.allowed {
            Ok(())
        } else {
            Err(retry_secs(verdict))
        }
    }

    /// Counts a wrong key, here and for all nodes. The error: there were too many from this client or its larger
    /// network; seconds to wait. Only who holds no key is told: a right one opens however many wrong ones came.
    pub(crate) async fn note_wrong_key(&self, client: Option<IpAddr>) -> Result<(), i64> {
        let (client, now) = (client_of(client), self.now());
        let own = self.0.wrong_keys.take(&client, now);
        if !own.allowed {
            return Err(retry_secs(own));
        }
        let site = self.0.wrong_keys_of_sites.take(&site_of(client), now);
        if !site.allowed {
            return Err(retry_secs(site));
        }
        self.tell_wrong_keys(client, now).await;
        Ok(())
    }

    /// Writes down the wrong keys of a client for the other nodes, if there may be any: once a second, those of the
    /// second before together. A count that cannot be written down counts here alone.
    async fn tell_wrong_keys(&self, client: IpAddr, now: Timestamp) {
        if !self.store().may_be_shared() {
            return;
        }
        let Some(tries) = self.0.wrong_keys_to_tell.add(client, now) else {
            return;
        };
        let (name, minute) = (client.to_string(), now.as_secs() / 60);
        let counted = self
            .store()
            .write(async move |tx| {
                tx.wrong_key_count(SystemScope::engine(), &name, minute, tries)
                    .await
            })
            .await;
        match counted {
            Ok(tries) if tries >= i64::from(self.limits().wrong_keys.count) => {
                self.0.wrong_keys.exhaust(&client, now);
            }
            Ok(_) => {}
            Err(error) => tracing::warn!("wrong keys could not be counted: {error}"),
        }
    }

    /// Counts a ping to an address that is nobody's. The error: there were too many; seconds to wait.
    pub(crate) fn take_unknown_address(&self, client: Option<IpAddr>) -> Result<(), i64> {
        let verdict = self.0.unknown_addresses.take(&client_of(client), self.now());
        if verdict.allowed {
            Ok(())
        } else {
            Err(retry_secs(verdict))
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_begin_with_the_path_of_the_public_address() {
        for (url, base) in [
            ("https://hc.example.org", ""),
            ("http://127.0.0.1:8000", ""),
            ("http://[::1]:8000/a", "/a"),
            ("https://example.org/monitor", "/monitor"),
            ("https://example.org/ops/monitor", "/ops/monitor"),
        ] {
            let site = Site {
                url: url.to_owned(),
                badge_label: String::new(),
                metrics_key: None,
                command: "allswell".to_owned(),
            };
            assert_eq!(site.base(), base, "{url}");
        }
    }
}
