//! Who watches the watch: each minute a ping of our own goes the whole way that everybody's pings go, and only when the
//! sweep has seen it is somebody outside told that we live.
//!
//! The ping enters by the inbox, is committed with the others, and is swept in the transaction of the checks that are
//! due. So the request stays away when the inbox, the writer, the disk or the sweep hangs, and not only when the process
//! is gone. The check is two facts of the instance (`store/watchdog.rs`); no project knows it.

use std::borrow::Cow;
use std::time::Duration;

use allswell_core::exchange::{Budget, Class, Method, Outcome, Request};
use allswell_core::id::NodeId;
use allswell_core::scope::SystemScope;
use allswell_core::secret::Secret;
use allswell_core::signal::Action;
use allswell_core::time::{Span, Timestamp};
use allswell_store::{Result, Store};
use bytes::Bytes;
use tokio::sync::Mutex;

use crate::Due;
use crate::ingest::{Address, Arrival, Inbox, Refusal};
use crate::loops::Step;

/// From one round to the next.
pub const EVERY: Span = Span::from_secs(60);
/// A round that takes longer has failed.
pub const ROUND_MAX: Span = Span::from_secs(30);
/// How long our ping waits for its commit. A loop must come back.
const STORED_WITHIN: Duration = Duration::from_secs(20);
/// How often the sweep is looked after. It wakes by itself within a second.
const LOOK_EVERY: Span = Span::from_millis(200);
/// How long the one who is told may take: the next round begins a minute after this one did.
const TOLD_WITHIN: Span = Span::from_secs(20);

/// Makes the rounds of a node, and tells that they were made.
pub struct Watchdog<Call> {
    store: Store,
    node: NodeId,
    inbox: Inbox,
    url: Option<Secret<String>>,
    call: Call,
    lives: fn(),
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// When the round on its way began.
    round: Option<Timestamp>,
    /// When the next one begins.
    next: Option<Timestamp>,
    /// What went wrong the last time, so that it is said once.
    trouble: Option<String>,
}

impl<Call> Watchdog<Call> {
    /// `url` is who is told; without one rounds are made all the same, for `allswell watchdog`. `call` is the door.
    /// `lives` is run after each round but those that hang: a database that is away is no reason to start us again.
    pub fn new(
        store: Store,
        node: NodeId,
        inbox: Inbox,
        url: Option<Secret<String>>,
        call: Call,
        lives: fn(),
    ) -> Self {
        Watchdog {
            store,
            node,
            inbox,
            url,
            call,
            lives,
            state: Mutex::default(),
        }
    }

    async fn ping(&self, now: Timestamp) -> std::result::Result<(), String> {
        let arrival = Arrival {
            at: now,
            address: Address::Ourselves(self.node),
            action: Action::Success,
            rid: None,
            scheme: Cow::default(),
            method: Cow::default(),
            remote_addr: None,
            user_agent: String::new(),
            body: Bytes::new(),
        };
        match tokio::time::timeout(STORED_WITHIN, self.inbox.put(arrival)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(refusal)) => {
                (self.lives)();
                Err(format!("our own ping was not stored: {}", why(refusal)))
            }
            Err(_) => Err("our own ping waits for its commit".to_owned()),
        }
    }

    async fn is_swept(&self, round: Timestamp) -> Result<bool> {
        let node = self.node;
        let swept = self
            .store
            .read(async move |reader| reader.watchdog_swept(SystemScope::engine(), node).await)
            .await?;
        // Our own alone, also if a clock that was ahead made a later one.
        Ok(swept == Some(round))
    }

    async fn tell<F>(&self) -> Option<String>
    where
        Call: Fn(Request) -> F,
        F: Future<Output = Outcome>,
    {
        let url = self.url.as_ref()?;
        let mut request = Request::new(Class::Operator, Method::Get, url.reveal().clone());
        request.budget = Budget {
            total: TOLD_WITHIN,
            ..Budget::default()
        };
        let outcome = (self.call)(request).await;
        let class = outcome.error_class()?;
        let status = outcome
            .status()
            .map_or_else(String::new, |status| format!(" (status {status})"));
        Some(format!(
            "watchdog.url was not reached: {} {}{status}",
            class.sentence(),
            outcome.detail
        ))
    }
}

const fn why(refusal: Refusal) -> &'static str {
    match refusal {
        Refusal::Full => "too many pings wait already",
        Refusal::Busy => "the database is away",
        Refusal::Failed => "the database refused it",
    }
}

impl State {
    /// The round that began at `begun` is over.
    fn over(&mut self, begun: Timestamp, now: Timestamp, trouble: Option<String>) -> Due {
        match (&trouble, &self.trouble) {
            (Some(now), before) if before.as_ref() != Some(now) => tracing::error!("watchdog: {now}"),
            (None, Some(_)) => tracing::info!("watchdog: all is well again"),
            _ => {}
        }
        self.trouble = trouble;
        self.round = None;
        let next = (begun + EVERY).max(now);
        self.next = Some(next);
        Due::At(next)
    }
}

impl<Call, F> Step for Watchdog<Call>
where
    Call: Fn(Request) -> F + Send + Sync,
    F: Future<Output = Outcome> + Send,
{
    const NAME: &'static str = "watchdog";

    async fn step(&self, now: Timestamp) -> Result<Due> {
        let mut state = self.state.lock().await;
        // A clock that was set back must not silence us for as long.
        let rests = state.next.filter(|next| *next > now && *next <= now + EVERY);
        if let Some(begun) = state.round.filter(|begun| *begun <= now) {
            match self.is_swept(begun).await {
                Ok(true) => {
                    (self.lives)();
                    let trouble = self.tell().await;
                    return Ok(state.over(begun, now, trouble));
                }
                Ok(false) => {}
                // The database went away while our ping waited for the sweep. We came to know it, so nothing hangs.
                Err(error) => {
                    (self.lives)();
                    let trouble = format!("whether our own ping was swept cannot be read: {error}");
                    return Ok(state.over(begun, now, Some(trouble)));
                }
            }
            if now - begun > ROUND_MAX {
                let trouble = "our own ping is stored and was not swept".to_owned();
                return Ok(state.over(begun, now, Some(trouble)));
            }
            return Ok(Due::At(now + LOOK_EVERY));
        }
        if let Some(next) = rests {
            return Ok(Due::At(next));
        }
        match self.ping(now).await {
            Ok(()) => {
                state.round = Some(now);
                Ok(Due::At(now + LOOK_EVERY))
            }
            Err(trouble) => Ok(state.over(now, now, Some(trouble))),
        }
    }
}
