//! The decision: one function from state, event and instant to what must be written down.
//! (`healthchecks.md` section 2; the table there is the table of the tests here and of the oracle.)

use std::sync::Arc;

use uuid::Uuid;

use super::rules::Verdict;
use super::{Plan, Rules, State, Status};
use crate::absence::{self, Absence};
use crate::flip::{Flip, Reason};
use crate::signal::{Cause, Kind, Signal};
use crate::time::{Span, Timestamp};

/// Signs of life that come sooner after each other change nothing: each that does is a write.
const ALIVE_EVERY_MIN: Span = Span::from_millis(500);

/// What happened to a check.
#[derive(Clone, Debug)]
pub enum Event {
    /// A ping came, or a sample that counts as one.
    Signal {
        /// What it says.
        signal: Signal,
        /// Its run id.
        rid: Option<Uuid>,
    },
    /// Time passed: the sweep looked.
    Deadline {
        /// Our own absences, oldest first, that ended after the check's stored wake-up.
        absences: Arc<[Absence]>,
    },
    /// Somebody paused it.
    Pause,
    /// Somebody paused it until this instant.
    PauseUntil(Timestamp),
    /// Somebody resumed it.
    Resume,
    /// Somebody changed its settings.
    Edit,
    /// The clock was set back: what is known of the check may lie in time to come.
    SetBack,
}

/// What follows from an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The state from now on.
    pub state: State,
    /// The change of status, if there is one.
    pub flip: Option<Flip>,
    /// When the sweep must look again if nothing more happens: the check goes down then, or its pause is over.
    pub deadline: Option<Timestamp>,
}

/// Decides what follows from an event at `now`.
pub fn decide(plan: &Plan, state: &State, event: Event, now: Timestamp) -> Decision {
    let mut next = state.clone();
    let flip = match event {
        Event::Signal { signal, rid } => {
            let change = heard(&plan.rules, &mut next, signal, rid, now);
            end_excuse(plan, state, &mut next, now);
            change
        }
        Event::Deadline { absences } => missed(plan, &mut next, &absences, now),
        Event::Pause => paused(&mut next, None, now),
        Event::PauseUntil(until) => paused(&mut next, Some(until), now),
        Event::Resume if state.status == Status::Paused => {
            end_run(&mut next);
            next.last_ping = None;
            next.paused_until = None;
            Some(Change {
                to: Status::New,
                at: now,
                expected_at: None,
                reason: Reason::Resumed,
            })
        }
        Event::Resume | Event::Edit => None,
        Event::SetBack => {
            next = absence::brought_back(plan, state, now).unwrap_or(next);
            None
        }
    };
    let flip = flip
        .filter(|change| change.to != state.status)
        .map(|change| turn(&mut next, change));
    next.recent.trim(&plan.rules, next.status);
    Decision {
        deadline: next.wake_up(plan),
        state: next,
        flip,
    }
}

/// A pause by hand. One on top of another changes only how long it lasts.
fn paused(state: &mut State, until: Option<Timestamp>, now: Timestamp) -> Option<Change> {
    end_run(state);
    state.excused_until = None;
    state.paused_until = until;
    let reason = until.map_or(Reason::Paused, |until| Reason::PausedUntil {
        until: until.as_micros(),
    });
    Some(Change {
        to: Status::Paused,
        at: now,
        expected_at: None,
        reason,
    })
}

struct Change {
    to: Status,
    at: Timestamp,
    expected_at: Option<Timestamp>,
    reason: Reason,
}

/// Makes a change of status a numbered flip of the state.
fn turn(state: &mut State, change: Change) -> Flip {
    // No flip is older than the one before it: a clock may have been set back, or a run may have been overdue
    // already when the success of another run brought the check up.
    let at = change.at.max(state.status_since);
    state.flip_count += 1;
    let flip = Flip {
        seq: state.flip_count,
        from: state.status,
        to: change.to,
        at,
        expected_at: change.expected_at,
        reason: change.reason,
    };
    state.status = change.to;
    state.status_since = at;
    state.excused_until = None;
    flip
}

fn heard(
    rules: &Rules,
    state: &mut State,
    signal: Signal,
    rid: Option<Uuid>,
    now: Timestamp,
) -> Option<Change> {
    // Of signs of life only the first of a run is numbered: they come as often as their sender likes.
    let is_numbered = signal.kind != Kind::Alive || speaks(state, rid) && state.last_alive.is_none();
    state.ping_count += u64::from(is_numbered);
    let change = match signal.kind {
        Kind::Log | Kind::Ignored => return None,
        Kind::Alive => {
            alive(state, rid, now);
            return None;
        }
        Kind::Start => {
            state.last_alive = None;
            state.last_start = Some(now);
            state.last_start_rid = rid;
            return None;
        }
        Kind::Success => {
            let took = finish(state, rid, false, now);
            match rules.too_fast(took) {
                Some(cause) => failed(rules, state, cause)?,
                None => {
                    state.recent.succeeded(took);
                    state.last_success = Some(now);
                    let (ping, cause) = (state.ping_count, signal.cause);
                    (Status::Up, Reason::Success { ping, cause })
                }
            }
        }
        Kind::Fail => {
            finish(state, rid, true, now);
            failed(rules, state, signal.cause)?
        }
    };
    let (to, reason) = change;
    Some(Change {
        to,
        at: now,
        expected_at: None,
        reason,
    })
}

/// What an absence gave, it gave to what was awaited then, and not to what a signal has put in its place: the deadline of
/// that may fall into an absence of its own. Another limit of the same thing keeps it, and so does a deadline that has
/// passed already, or whoever is excused would go down by reporting in.
fn end_excuse(plan: &Plan, before: &State, next: &mut State, now: Timestamp) {
    if next.excused_until.is_none() {
        return;
    }
    let (was, is) = (before.awaited(plan), next.awaited(plan));
    let another = was.map(|was| was.expected) != is.map(|is| is.expected);
    if another && is.is_none_or(|is| is.until > now) {
        next.excused_until = None;
    }
}

/// Whether a sign of life is of the open run: it speaks for its own; without an id it speaks for whichever is open.
fn speaks(state: &State, rid: Option<Uuid>) -> bool {
    state.last_start.is_some() && (rid.is_none() || rid == state.last_start_rid)
}

fn alive(state: &mut State, rid: Option<Uuid>, now: Timestamp) {
    let is_fresh = |last| (Span::ZERO..ALIVE_EVERY_MIN).contains(&(now - last));
    if speaks(state, rid) && !state.last_alive.is_some_and(is_fresh) {
        state.last_alive = Some(now);
    }
}

/// A failure: what it changes. One that is tolerated is a sign of life, so that a check that was new or paused is expected
/// again, and its silence noticed.
fn failed(rules: &Rules, state: &mut State, cause: Cause) -> Option<(Status, Reason)> {
    if state.status == Status::Down {
        return None;
    }
    state.recent.failed();
    let ping = state.ping_count;
    Some(match rules.judge(&state.recent.outcomes) {
        Verdict::Plain => (Status::Down, Reason::Fail { ping, cause }),
        Verdict::Tolerated => (Status::Up, Reason::Tolerated { ping, cause }),
        Verdict::Row(failures) => (
            Status::Down,
            Reason::Failures {
                ping,
                cause,
                failures,
            },
        ),
        Verdict::Rate { failed, outcomes } => (
            Status::Down,
            Reason::FailureRate {
                ping,
                cause,
                failed,
                outcomes,
            },
        ),
    })
}

/// A success or failure: when it came, and whether it ends the open run. Gives how long that took, if the clock can tell.
fn finish(state: &mut State, rid: Option<Uuid>, failed: bool, now: Timestamp) -> Option<Span> {
    state.last_ping = Some(now);
    state.last_duration = None;
    state.excused_until = None;
    state.paused_until = None;
    let start = state.last_start?;
    if rid == state.last_start_rid {
        end_run(state);
        // A clock set back in mid-run gives no negative time.
        state.last_duration = Some((now - start).max(Span::ZERO));
        return state.last_duration.filter(|_| now >= start);
    }
    if failed || rid.is_none() {
        end_run(state);
    }
    None
}

fn end_run(state: &mut State) {
    state.last_start = None;
    state.last_start_rid = None;
    state.last_alive = None;
}

/// The end of a pause, if it has come. The change bears that instant, and from it the check is expected again: who paused
/// it for the night wants to hear of a silent morning. A run that started meanwhile goes on being watched.
fn pause_over(state: &mut State, now: Timestamp) -> Option<Change> {
    let until = state.paused_until.filter(|until| *until <= now)?;
    state.last_ping = None;
    Some(Change {
        to: Status::New,
        at: until,
        expected_at: None,
        reason: Reason::PauseOver {
            until: until.as_micros(),
        },
    })
}

/// The deadline, if it has passed. The change bears the deadline and not `now`: downtime must not depend on when we
/// looked. One that fell into an absence of ours moves first.
fn missed(plan: &Plan, state: &mut State, absences: &[Absence], now: Timestamp) -> Option<Change> {
    // A run that started in a pause may be overdue before the pause is over: what came first is told first.
    let ends_first = |until| state.deadline(plan).is_none_or(|deadline| until < deadline);
    if state.status == Status::Paused && state.paused_until.is_some_and(ends_first) {
        return pause_over(state, now);
    }
    let awaited = state.awaited(plan)?;
    let nominal = awaited.until;
    let known = state.deadline(plan)?;
    // Only what is in force counts: a run that started since then has a deadline, and an allowance, of its own.
    let excused = known != nominal;
    let deadline = absence::excused(plan, &awaited, known, excused, absences);
    if deadline != known {
        state.excused_until = Some(deadline);
    }
    if deadline > now {
        return None;
    }
    let moved_from = (deadline != nominal).then(|| nominal.as_micros());
    let reason = awaited.missed(state, plan, moved_from);
    state.paused_until = None;
    Some(Change {
        to: Status::Down,
        at: deadline,
        expected_at: Some(awaited.expected),
        reason,
    })
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;
