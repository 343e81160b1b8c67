//! `/v1/events`: what changes, as it changes, by server-sent events (HTML Living Standard, section 9.2).
//!
//! Each event bears its number in the project's change sequence as its id, so a listener that was away sends
//! `Last-Event-ID` and gets what it missed. A listener that reads too slowly is let go; it comes back with its number.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use allswell_core::key::KeyKind;
use allswell_core::scope::{ProjectScope, SystemScope};
use allswell_store::feed::{Change, What};
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http_body::Frame;
use serde_json::json;
use tokio::sync::{broadcast, mpsc};
use tokio::time::{Interval, MissedTickBehavior};

use super::call::{ReadCall, UsedKey};
use super::problem::{Problem, kinds};
use super::view;
use crate::state::App;

/// Changes read at once for a listener that was away.
const PAGE: i64 = 500;
/// Events written ahead of a listener.
const AHEAD: usize = 16;
/// A comment is sent so often, so that nobody on the way takes the line for dead; and so often it is asked whether the
/// listener's key still opens the project.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// GET `/v1/events`
pub(crate) async fn listen(State(app): State<App>, ReadCall(call): ReadCall) -> Result<Response, Problem> {
    let query = call.query();
    let from = call.header("last-event-id").or_else(|| query.last("since"));
    let from = match from {
        None => None,
        Some(text) => {
            let number = text.parse::<i64>().ok().filter(|number| *number >= 0);
            Some(number.ok_or_else(|| Problem::field("since", "must be the id of an event"))?)
        }
    };
    let project = call.scope.project();
    let scope = call.scope;
    let newest = app
        .store()
        .read(async move |reader| reader.change_newest(scope).await)
        .await?;
    let seen = from.unwrap_or(newest).min(newest);
    // Joined before what was missed is read, so that nothing falls between the two.
    let told = app
        .listeners()
        .join(project, newest)
        .ok_or_else(|| Problem::new(kinds::TRY_AGAIN, "too many are listening already"))?;
    let (sender, receiver) = mpsc::channel(AHEAD);
    let listener = Listener {
        app,
        scope: ProjectScope::granted(project),
        kind: call.kind,
        key: call.key,
        seen,
        sender,
    };
    tokio::spawn(listener.run(told));
    let headers = [(CONTENT_TYPE, "text/event-stream"), (CACHE_CONTROL, "no-store")];
    Ok((headers, Body::new(Events(receiver))).into_response())
}

/// One who listens.
struct Listener {
    app: App,
    scope: ProjectScope,
    kind: KeyKind,
    key: UsedKey,
    seen: i64,
    sender: mpsc::Sender<Bytes>,
}

impl Listener {
    /// Ends when the listener has gone, or reads too slowly.
    async fn run(mut self, mut told: broadcast::Receiver<Arc<Change>>) {
        let hello = format!(": listening\nretry: 2000\nid: {}\n\n", self.seen);
        if self.sender.send(hello.into()).await.is_err() || self.catch_up().await.is_none() {
            return;
        }
        let mut beats = beats();
        // The first one is at once.
        beats.tick().await;
        loop {
            tokio::select! {
                () = self.sender.closed() => return,
                change = told.recv() => match change {
                    Ok(change) => if self.tell(&change).await.is_none() { return },
                    // More came at once than is kept for the slow: the store has it all.
                    Err(broadcast::error::RecvError::Lagged(_)) => if self.catch_up().await.is_none() { return },
                    Err(broadcast::error::RecvError::Closed) => return,
                },
                _ = beats.tick() => {
                    let here = Bytes::from_static(b": still here\n\n");
                    if !self.may_still_listen().await || self.sender.try_send(here).is_err() {
                        return;
                    }
                }
            }
        }
    }

    /// Whether the key it came with still opens the project. Who cannot be judged now comes back with its number.
    async fn may_still_listen(&self) -> bool {
        let (key, now) = (self.key, self.app.now());
        let judged = self
            .app
            .store()
            .read(async move |reader| match key {
                UsedKey::Sent(id) => reader.key_opens(SystemScope::engine(), id, now).await,
                UsedKey::Signing(id) => {
                    let named = reader.signing_key(SystemScope::engine(), id, now).await?;
                    Ok(named.is_some())
                }
            })
            .await;
        judged.unwrap_or_else(|error| {
            tracing::warn!("a listener's key could not be judged: {error}");
            false
        })
    }

    async fn catch_up(&mut self) -> Option<()> {
        loop {
            let (scope, seen) = (self.scope, self.seen);
            let read = self
                .app
                .store()
                .read(async move |reader| reader.changes(scope, seen, PAGE).await)
                .await;
            let (changes, complete) = match read {
                Ok(read) => read,
                Err(error) => {
                    tracing::warn!("a listener could not be told what it missed: {error}");
                    // To come back mends nothing where a row cannot be read.
                    return (!error.is_passing()).then_some(());
                }
            };
            for change in &changes {
                self.tell(change).await?;
            }
            if complete <= self.seen && changes.is_empty() {
                return Some(());
            }
            self.seen = self.seen.max(complete);
        }
    }

    async fn tell(&mut self, change: &Change) -> Option<()> {
        if change.seq <= self.seen {
            return Some(());
        }
        self.seen = change.seq;
        let (event, data) = match &change.what {
            What::Flip(told) => ("flip", view::told_flip(told, self.kind)),
            What::Check(check) => (
                "check",
                view::check_alone(check, self.kind, &self.app, self.app.now()),
            ),
            What::Gone(check) => (
                "check-deleted",
                json!({ "id": view::check_name(check.id, self.kind) }),
            ),
        };
        let text = format!("id: {}\nevent: {event}\ndata: {data}\n\n", change.seq);
        self.sender.send(text.into()).await.ok()
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a line to a listener is kept alive by tokio's timer, which no decision sees"
)]
fn beats() -> Interval {
    let mut beats = tokio::time::interval(KEEP_ALIVE);
    beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    beats
}

/// The body of the answer: what is written to the listener.
struct Events(mpsc::Receiver<Bytes>);

impl http_body::Body for Events {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0
            .poll_recv(cx)
            .map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
    }
}
