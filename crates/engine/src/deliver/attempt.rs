//! Attempts: tasks that run beside the steps, hold a permit and no database connection, and leave what they found in
//! memory for the next step.

use std::sync::Arc;
use std::time::Duration;

use allswell_core::exchange::{End as CallEnd, Outcome, Phase, Phases, Request};
use allswell_core::retry::FAST_TRIES;
use allswell_core::time::{Span, Timestamp};
use allswell_store::outbox::{Claimed, End, Found, Next, Recorded};

use super::desk::Inside;
use super::result::{Answered, Bearing};
use super::results::Batch;
use super::{Deliver, lock};
use crate::failpoint::failpoint;
use crate::ports::Outbound;

/// No attempt is waited for longer: its budget, and what closing takes.
const ATTEMPT_WITHIN: Duration = Duration::from_secs(33);
/// The target of lines that channels of the kind `log` tell: a log must not leave them out.
pub const TOLD: &str = module_path!();

/// A line that a channel of the kind `log` tells, and the place it takes while it is on its way.
pub(super) struct Told {
    pub(super) claimed: Claimed,
    pub(super) line: String,
    pub(super) place: Inside,
}

impl<O: Outbound> Deliver<O> {
    /// Begins one attempt; `false` if its origin has no room.
    pub(super) fn spawn(
        &self,
        claimed: &Claimed,
        request: Box<Request>,
        warnings: Vec<String>,
        now: Timestamp,
    ) -> bool {
        let origin = origin_of(request.url.reveal());
        let place = (claimed.project, claimed.channel, claimed.class);
        let Some(permit) = self
            .desk
            .begin(place, origin.into(), claimed.attempts >= FAST_TRIES, now)
        else {
            return false;
        };
        let (outbound, answered) = (Arc::clone(&self.outbound), Arc::clone(&self.answered));
        let (nudge, claimed) = (Arc::clone(&self.nudge), claimed.clone());
        let hold = self.under_way.hold(&claimed);
        lock(&self.attempts).spawn(async move {
            failpoint("before_connect");
            let outcome = within_budget(outbound.send(*request)).await;
            failpoint("after_response");
            permit.note(&outcome, now + outcome.phases.total);
            // First the answer, then the permit: whoever sees nothing in flight any more finds all answers.
            lock(&answered).push_back(Answered {
                claimed,
                started_at: now,
                outcome,
                warnings,
                hold,
            });
            drop(permit);
            nudge.notify_one();
        });
        true
    }

    /// Writes lines into the log. What is to be recorded of them is judged when the log says that all are written, however
    /// late that is `within` the lease: a slow disk must not have them told again, nor stop the others. Lines that are not
    /// known to be written stay leased, and are written again when the lease lapses: twice is the better error.
    pub(super) fn write_lines(&self, lines: Vec<Told>, within: Duration, now: Timestamp) {
        if lines.is_empty() {
            return;
        }
        let lost = self.log.lost();
        let (mut batch, mut places) = (Batch::default(), Vec::with_capacity(lines.len()));
        for Told { claimed, line, place } in lines {
            tracing::warn!(delivery.id = %claimed.id, "{line}");
            let hold = Arc::new(self.under_way.hold(&claimed));
            batch.push(told(claimed, now), Some(Bearing::Works), Some(hold));
            places.push(place);
        }
        let Some(word) = self.log.word() else {
            // Each line was written at once.
            if self.log.lost() == lost {
                lock(&self.judged).push_back(Arc::new(batch));
            }
            return;
        };
        let (log, judged, nudge) = (
            self.log.clone(),
            Arc::clone(&self.judged),
            Arc::clone(&self.nudge),
        );
        lock(&self.attempts).spawn(async move {
            let is_written = tokio::time::timeout(within, word).await;
            if matches!(is_written, Ok(Ok(()))) && log.lost() == lost {
                lock(&judged).push_back(Arc::new(batch));
            }
            // First what is to be recorded, then the places, as with attempts.
            drop(places);
            nudge.notify_one();
        });
    }

    /// Forgets tasks that have ended. One that panicked keeps its delivery until the lease lapses.
    pub(super) fn reap(&self) {
        let mut attempts = lock(&self.attempts);
        while let Some(ended) = attempts.try_join_next() {
            if let Err(error) = ended
                && error.is_panic()
            {
                tracing::error!(
                    "an attempt broke off; its delivery is tried again when the lease lapses: {error}"
                );
            }
        }
    }
}

/// What is recorded of a line that was written.
fn told(claimed: Claimed, now: Timestamp) -> Recorded {
    Recorded {
        claimed,
        found: Some(Found {
            started_at: now,
            duration: Span::ZERO,
            outcome: "ok".to_owned(),
            http_status: None,
            phases: None,
            detail: Vec::new(),
        }),
        next: Next::Ended(End::Delivered),
        outcome: "written to the log".to_owned(),
    }
}

/// The door keeps the budget; this is for one that does not, so that no attempt outlives its lease.
async fn within_budget(call: impl Future<Output = Outcome>) -> Outcome {
    let timed_out = |_| Outcome {
        end: CallEnd::TimedOut {
            phase: Phase::FirstByte,
            status: None,
        },
        phases: Phases {
            total: Span::from_secs(ATTEMPT_WITHIN.as_secs() as i64),
            ..Phases::default()
        },
        peer: None,
        detail: "the call did not end within its budget".to_owned(),
    };
    tokio::time::timeout(ATTEMPT_WITHIN, call)
        .await
        .unwrap_or_else(timed_out)
}

/// Scheme, host and port of a URL, as far as it can be told apart: the words before the path.
fn origin_of(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
    format!("{}://{}", scheme.to_ascii_lowercase(), host.to_ascii_lowercase())
}
