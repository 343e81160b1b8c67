//! The clock of one attempt: what is left of its budget, and how long each part took.
//!
//! No decision sees these instants; what a call means is judged from the outcome and a `now` of the caller's.

use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use allswell_core::exchange::{Budget, End, Outcome, Phase, Phases};
use allswell_core::time::Span;
use tokio::time::{Instant, timeout_at};

/// One attempt under way.
pub struct Watch {
    begun: Instant,
    deadline: Instant,
    budget: Budget,
    pub phases: Phases,
    /// What was connected to.
    pub peer: Option<SocketAddr>,
    /// Told beside an answer, for administrators.
    pub note: String,
}

/// An attempt that ended without an answer.
pub struct Failure {
    pub end: End,
    /// For administrators.
    pub detail: String,
}

impl Failure {
    pub fn new(end: End, detail: impl Into<String>) -> Self {
        let detail = detail.into();
        Failure { end, detail }
    }
}

impl From<allswell_core::refusal::Refusal> for Failure {
    fn from(refusal: allswell_core::refusal::Refusal) -> Self {
        let detail = refusal.for_administrators();
        Failure::new(End::Blocked(refusal), detail)
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "this is the home of the clock of an attempt"
)]
fn now() -> Instant {
    Instant::now()
}

fn duration(span: Span) -> Duration {
    Duration::from_micros(u64::try_from(span.as_micros()).unwrap_or(0))
}

fn since(instant: Instant) -> Span {
    let micros = now().saturating_duration_since(instant).as_micros();
    Span::from_micros(i64::try_from(micros).unwrap_or(i64::MAX))
}

impl Watch {
    /// Begins now.
    pub fn start(budget: Budget) -> Self {
        let begun = now();
        Watch {
            begun,
            deadline: begun + duration(budget.total),
            budget,
            phases: Phases::default(),
            peer: None,
            note: String::new(),
        }
    }

    /// Runs a part within its own budget and that of the attempt, and notes how long it took.
    ///
    /// # Errors
    /// [`End::TimedOut`] with this phase and `status`.
    pub async fn within<T>(
        &mut self,
        phase: Phase,
        status: Option<u16>,
        work: impl Future<Output = T>,
    ) -> Result<T, Failure> {
        let begun = now();
        let done = timeout_at(self.deadline_of(phase, begun), work).await;
        let took = Some(since(begun));
        match phase {
            Phase::Dns => self.phases.dns = took,
            Phase::Connect => self.phases.connect = took,
            Phase::Tls => self.phases.tls = took,
            Phase::FirstByte => self.phases.first_byte = took,
            Phase::Body => self.phases.body = took,
        }
        done.map_err(|_| {
            let detail = format!("the time for this part ({}) ran out", phase.word());
            Failure::new(End::TimedOut { phase, status }, detail)
        })
    }

    /// Runs what has no part of its own within what is left of the attempt; `None` if that ran out.
    pub async fn left<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        timeout_at(self.deadline, work).await.ok()
    }

    fn deadline_of(&self, phase: Phase, begun: Instant) -> Instant {
        let own = match phase {
            Phase::Dns => self.budget.resolve,
            Phase::Connect => self.budget.connect,
            Phase::Tls => self.budget.tls,
            Phase::FirstByte | Phase::Body => return self.deadline,
        };
        self.deadline.min(begun + duration(own))
    }

    /// What is left for connecting, as an instant.
    pub fn connect_deadline(&self) -> Instant {
        self.deadline_of(Phase::Connect, now())
    }

    /// A fair part of the time until `deadline` for one of `left` tries.
    pub fn share(deadline: Instant, left: usize) -> Instant {
        let now = now();
        let rest = deadline.saturating_duration_since(now);
        now + rest / u32::try_from(left.max(1)).unwrap_or(u32::MAX)
    }

    /// The next hop of a redirect: the parts are measured anew, the whole goes on.
    pub fn next_hop(&mut self) {
        self.phases = Phases::default();
        self.peer = None;
    }

    /// The attempt is over.
    pub fn outcome(mut self, ended: Result<End, Failure>) -> Outcome {
        self.phases.total = since(self.begun);
        let (end, detail) = match ended {
            Ok(end) => (end, self.note),
            Err(failure) => (failure.end, failure.detail),
        };
        Outcome {
            end,
            phases: self.phases,
            peer: self.peer,
            detail,
        }
    }
}
