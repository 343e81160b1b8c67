//! What a check waits for, and until when: by its schedule, for an open run, and by its rules.

use super::{Plan, State, Status};
use crate::flip::Reason;
use crate::time::{Span, Timestamp};

/// What a check waits for first.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Awaited {
    /// When it is expected: by the schedule, and of an open run its start or its last sign of life.
    pub expected: Timestamp,
    /// How late is still fine; what an absence of ours gives is measured by it.
    pub limit: Span,
    /// The check goes down at this instant.
    pub until: Timestamp,
    what: What,
}

#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum What {
    /// A success.
    Ping,
    /// A success, of a run that started and may take so long.
    PingOfRun(Span),
    /// A start.
    Start,
    /// The end of the open run, within the grace from the last that was heard of it.
    Run,
    /// The end of the open run, within its own limit.
    MaxRun,
    /// The end of the open run, before it is unusual. So long are so many runs usually.
    UsualRun { usual: Span, runs: usize },
}

impl Awaited {
    const fn within(expected: Timestamp, limit: Span, until: Timestamp, what: What) -> Self {
        Awaited {
            expected,
            limit,
            until,
            what,
        }
    }

    /// A success by the schedule, for tests.
    #[cfg(test)]
    pub(crate) fn by_grace(plan: &Plan, deadline: Timestamp) -> Self {
        Awaited::within(deadline - plan.grace, plan.grace, deadline, What::Ping)
    }

    /// Why a check goes down that waited for this in vain.
    pub(super) fn missed(&self, state: &State, plan: &Plan, moved_from: Option<i64>) -> Reason {
        let (expected, limit) = (self.expected.as_micros(), self.limit.as_secs());
        let last_ping = state.last_ping.map_or(expected, Timestamp::as_micros);
        let (started, grace) = (expected, plan.grace.as_secs());
        match self.what {
            What::Ping => match state.paused_until {
                Some(resumed) if state.last_ping.is_none() => Reason::SilentAfterPause {
                    paused_until: resumed.as_micros(),
                    grace,
                    moved_from,
                },
                _ => Reason::Timeout {
                    last_ping,
                    grace,
                    moved_from,
                },
            },
            What::PingOfRun(max_run) => Reason::NoEnd {
                last_ping: state.last_ping.map(Timestamp::as_micros),
                grace,
                max_run: max_run.as_secs(),
                moved_from,
            },
            What::Start => Reason::LateStart {
                expected,
                limit,
                moved_from,
            },
            What::Run => Reason::RunTimeout {
                started: state.last_start.map_or(started, Timestamp::as_micros),
                last_alive: state.last_alive.map(Timestamp::as_micros),
                grace,
                moved_from,
            },
            What::MaxRun => Reason::MaxRun {
                started,
                limit,
                moved_from,
            },
            What::UsualRun { usual, runs } => Reason::UnusualRun {
                started,
                limit_ms: self.limit.as_micros() / 1_000,
                usual_ms: usual.as_micros() / 1_000,
                runs: u8::try_from(runs).unwrap_or(u8::MAX),
                moved_from,
            },
        }
    }
}

impl State {
    /// What it waits for first, our own absences aside. Of two at once the run, as its end is what the schedule wants too.
    /// A run that says that it is alive is waited for alone, also where its success is due: that is what it works on.
    pub(crate) fn awaited(&self, plan: &Plan) -> Option<Awaited> {
        let run = self.run_open_since().map(|start| self.run_awaited(plan, start));
        if run.is_some() && self.last_alive.is_some() {
            return run;
        }
        let ping = self
            .expected(plan)
            .map(|expected| self.ping_awaited(plan, expected));
        [run, ping]
            .into_iter()
            .flatten()
            .min_by_key(|awaited| awaited.until)
    }

    /// The end of a run that started then. A sign of life gives it the grace anew; its own limits count from the start.
    pub(super) fn run_awaited(&self, plan: &Plan, start: Timestamp) -> Awaited {
        let since = |from, limit, what| Awaited::within(from, limit, from + limit, what);
        let limited = match plan.rules.max_run_secs {
            Some(secs) => since(start, Span::from_secs(secs.into()), What::MaxRun),
            None => {
                let heard = self.last_alive.map_or(start, |alive| alive.max(start));
                since(heard, plan.grace, What::Run)
            }
        };
        match plan.rules.unusual_from(&self.recent) {
            Some((unusual, usual)) if start + unusual < limited.until => {
                let runs = self.recent.runs.len();
                since(start, unusual, What::UsualRun { usual, runs })
            }
            _ => limited,
        }
    }

    /// What the schedule wants at this instant.
    fn ping_awaited(&self, plan: &Plan, expected: Timestamp) -> Awaited {
        let (rules, grace) = (&plan.rules, plan.grace);
        // A run that is older than the last success or failure belongs to an earlier time of the schedule.
        let has_started = self.last_start.is_some() && self.last_start >= self.last_ping;
        if has_started {
            // The grace is for the start then, and the run has its own limit. Starting again and again does not renew this.
            if let Some(secs) = rules.max_run_secs {
                let run = Span::from_secs(secs.into());
                return Awaited::within(expected, grace, expected + grace + run, What::PingOfRun(run));
            }
        } else if let Some(secs) = rules.start_grace_secs {
            let limit = Span::from_secs(secs.into());
            if limit < grace {
                return Awaited::within(expected, limit, expected + limit, What::Start);
            }
        }
        Awaited::within(expected, grace, expected + grace, What::Ping)
    }

    /// When the next ping is expected by the schedule: for a check that is up, and for one whose pause has ended by itself.
    pub fn expected(&self, plan: &Plan) -> Option<Timestamp> {
        match (self.status, self.last_ping, self.paused_until) {
            (Status::Up, Some(last), _) => plan.schedule.next_after(last),
            (Status::New, None, Some(resumed)) => plan.schedule.next_after(resumed),
            _ => None,
        }
    }

    /// The run that must still end, for a check that is not already down.
    pub(super) fn run_open_since(&self) -> Option<Timestamp> {
        self.last_start.filter(|_| self.status != Status::Down)
    }
}
