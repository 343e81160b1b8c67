//! Every sequence of events up to length six, against a slow second definition of what a check is.
//!
//! The oracle keeps no state: it answers each question by searching the whole history backwards ("the last success or
//! failure since the last resume", "a start that nothing ended"). It shares no code with `decide`.

use std::sync::Arc;

use uuid::Uuid;

use super::{Decision, Event, Plan, State, Status, decide};
use crate::incident::{self, Effect};
use crate::schedule::Schedule;
use crate::signal::{Cause, Kind, Signal};
use crate::time::{Span, Timestamp};

const PERIOD: i64 = 60;
const GRACE: i64 = 60;
/// How long a pause with an end lasts: two events on, it is over.
const PAUSE: i64 = 60;
/// Between two events: two of them outlast the grace of a run, three outlast period and grace.
const STEP: i64 = 45;

#[derive(Copy, Clone, Debug, PartialEq)]
enum What {
    Start(Option<u128>),
    Success(Option<u128>),
    Fail(Option<u128>),
    Log,
    Ignored,
    Alive(Option<u128>),
    Pause,
    PauseFor,
    Resume,
    Sweep,
}

const PROTOCOL: [What; 11] = [
    What::Start(None),
    What::Start(Some(1)),
    What::Success(None),
    What::Success(Some(1)),
    What::Fail(None),
    What::Fail(Some(2)),
    What::Log,
    What::Ignored,
    What::Pause,
    What::Resume,
    What::Sweep,
];

/// What we have beyond the protocol, and of the protocol what it touches.
const EXTRAS: [What; 11] = [
    What::Start(None),
    What::Start(Some(1)),
    What::Success(None),
    What::Success(Some(1)),
    What::Fail(None),
    What::Alive(None),
    What::Alive(Some(1)),
    What::Pause,
    What::PauseFor,
    What::Resume,
    What::Sweep,
];

fn time_of(index: usize) -> i64 {
    1_000_000 + STEP * index as i64
}

/// When the pause ends, or has ended, by itself that is the last thing that happened to the check.
fn pause_end(history: &[What]) -> Option<i64> {
    let index = (0..history.len()).rev().find(|i| {
        matches!(
            history[*i],
            What::Pause | What::PauseFor | What::Success(_) | What::Fail(_)
        ) || was_effective_resume(history, *i)
    })?;
    (history[index] == What::PauseFor).then(|| time_of(index) + PAUSE)
}

/// The same, as it is kept: whoever goes down has nothing of it left.
fn pause_end_known(history: &[What]) -> Option<i64> {
    let missed = (0..history.len()).rev().find(|i| {
        history[*i] == What::Sweep
            && status(&history[..*i]) != Status::Down
            && status(&history[..=*i]) == Status::Down
    });
    let paused = history.iter().rposition(|what| *what == What::PauseFor);
    pause_end(history).filter(|_| missed.is_none() || missed < paused)
}

/// Whether a sweep found the pause over, and nothing overdue before that.
fn was_end_of_pause(history: &[What], index: usize) -> bool {
    let before = &history[..index];
    history[index] == What::Sweep
        && status(before) == Status::Paused
        && pause_end(before).is_some_and(|end| {
            end <= time_of(index) && deadline(before).is_none_or(|deadline| end < deadline)
        })
}

fn was_effective_resume(history: &[What], index: usize) -> bool {
    history[index] == What::Resume && status(&history[..index]) == Status::Paused
}

fn status(history: &[What]) -> Status {
    let Some((last, before)) = history.split_last() else {
        return Status::New;
    };
    match last {
        What::Success(_) => Status::Up,
        What::Fail(_) => Status::Down,
        What::Pause | What::PauseFor => Status::Paused,
        What::Resume if status(before) == Status::Paused => Status::New,
        What::Sweep if was_end_of_pause(history, before.len()) => Status::New,
        What::Sweep if deadline(before).is_some_and(|at| at <= time_of(before.len())) => Status::Down,
        _ => status(before),
    }
}

fn last_ping(history: &[What]) -> Option<i64> {
    let index = (0..history.len()).rev().find(|i| {
        matches!(history[*i], What::Success(_) | What::Fail(_))
            || was_effective_resume(history, *i)
            || was_end_of_pause(history, *i)
    })?;
    (!matches!(history[index], What::Resume | What::Sweep)).then(|| time_of(index))
}

fn open_run(history: &[What]) -> Option<i64> {
    let index = (0..history.len())
        .rev()
        .find(|i| matches!(history[*i], What::Start(_)))?;
    let What::Start(rid) = history[index] else {
        unreachable!("just matched")
    };
    let ended = (index + 1..history.len()).any(|i| match history[i] {
        What::Fail(_) | What::Success(None) | What::Pause | What::PauseFor => true,
        What::Success(other) => other == rid,
        _ => was_effective_resume(history, i),
    });
    (!ended).then(|| time_of(index))
}

/// The last sign of life of the open run.
fn alive(history: &[What]) -> Option<i64> {
    let started = ((open_run(history)? - time_of(0)) / STEP) as usize;
    let What::Start(own) = history[started] else {
        unreachable!("a run begins with a start")
    };
    let index = (started + 1..history.len())
        .rev()
        .find(|i| matches!(history[*i], What::Alive(rid) if rid.is_none() || rid == own))?;
    Some(time_of(index))
}

fn duration(history: &[What]) -> Option<i64> {
    let index = (0..history.len())
        .rev()
        .find(|i| matches!(history[*i], What::Success(_) | What::Fail(_)))?;
    let (What::Success(rid) | What::Fail(rid)) = history[index] else {
        unreachable!("just matched")
    };
    let before = &history[..index];
    let start = open_run(before)?;
    let started = (start - time_of(0)) / STEP;
    (history[started as usize] == What::Start(rid)).then(|| time_of(index) - start)
}

fn deadline(history: &[What]) -> Option<i64> {
    let status = status(history);
    let resumed = pause_end(history).filter(|_| status == Status::New && last_ping(history).is_none());
    let ping = last_ping(history)
        .filter(|_| status == Status::Up)
        .or(resumed)
        .map(|at| at + PERIOD + GRACE);
    if let Some(alive) = alive(history).filter(|_| status != Status::Down) {
        return Some(alive + GRACE);
    }
    let run = open_run(history)
        .filter(|_| status != Status::Down)
        .map(|at| at + GRACE);
    match (ping, run) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

/// When the sweep must look again.
fn wake_up(history: &[What]) -> Option<i64> {
    let ends = pause_end(history).filter(|_| status(history) == Status::Paused);
    [deadline(history), ends].into_iter().flatten().min()
}

fn event(what: What, now: Timestamp) -> Event {
    let signal = |kind, rid: Option<u128>| Event::Signal {
        signal: Signal {
            kind,
            cause: Cause::Address,
        },
        rid: rid.map(Uuid::from_u128),
    };
    match what {
        What::Start(rid) => signal(Kind::Start, rid),
        What::Success(rid) => signal(Kind::Success, rid),
        What::Fail(rid) => signal(Kind::Fail, rid),
        What::Log => signal(Kind::Log, None),
        What::Ignored => signal(Kind::Ignored, None),
        What::Alive(rid) => signal(Kind::Alive, rid),
        What::Pause => Event::Pause,
        What::PauseFor => Event::PauseUntil(now + Span::from_secs(PAUSE)),
        What::Resume => Event::Resume,
        What::Sweep => Event::Deadline {
            absences: Arc::new([]),
        },
    }
}

fn agrees(history: &[What], before: &State, decision: &Decision) {
    let state = &decision.state;
    let secs = |at: Option<Timestamp>| at.map(Timestamp::as_secs);
    assert_eq!(state.status, status(history), "status of {history:?}");
    assert_eq!(
        secs(state.last_ping),
        last_ping(history),
        "last ping of {history:?}"
    );
    assert_eq!(
        secs(state.last_start),
        open_run(history),
        "open run of {history:?}"
    );
    assert_eq!(
        state.last_duration.map(Span::as_secs),
        duration(history),
        "duration of {history:?}"
    );
    assert_eq!(
        secs(decision.deadline),
        wake_up(history),
        "wake-up of {history:?}"
    );
    let pings = (0..history.len())
        .filter(|i| match history[*i] {
            What::Pause | What::PauseFor | What::Resume | What::Sweep => false,
            // Of a run the first alone.
            What::Alive(_) => alive(&history[..*i]).is_none() && alive(&history[..=*i]).is_some(),
            _ => true,
        })
        .count();
    assert_eq!(state.ping_count, pings as u64);
    assert_eq!(
        secs(state.last_alive),
        alive(history),
        "sign of life of {history:?}"
    );
    let success = (0..history.len())
        .rev()
        .find(|i| matches!(history[*i], What::Success(_)));
    assert_eq!(
        secs(state.last_success),
        success.map(time_of),
        "last success of {history:?}"
    );
    assert_eq!(
        secs(state.paused_until),
        pause_end_known(history),
        "end of the pause of {history:?}"
    );
    assert_eq!(state.not_kept, 0);

    let now = time_of(history.len() - 1);
    match &decision.flip {
        None => {
            assert_eq!(
                (state.status, state.flip_count),
                (before.status, before.flip_count),
                "{history:?}"
            )
        }
        Some(flip) => {
            assert_eq!(
                (flip.from, flip.to),
                (before.status, state.status),
                "flips chain in {history:?}"
            );
            assert_ne!(flip.from, flip.to);
            assert_eq!(
                (flip.seq, state.flip_count),
                (before.flip_count + 1, before.flip_count + 1)
            );
            let swept = history.last() == Some(&What::Sweep);
            let at = if swept {
                wake_up(&history[..history.len() - 1]).expect("it was due")
            } else {
                now
            };
            // A run that was overdue when another run's success came: down since that success, not before it.
            let at = at.max(before.status_since.as_secs());
            assert_eq!(flip.at.as_secs(), at, "instant of the flip of {history:?}");
            let effect = incident::effect(flip);
            assert_eq!(effect == Some(Effect::Opens), state.status == Status::Down);
            assert_eq!(effect == Some(Effect::Closes), before.status == Status::Down);
        }
    }
}

fn explore(
    plan: &Plan,
    (alphabet, length): (&[What], usize),
    history: &mut Vec<What>,
    state: &State,
    seen: &mut u64,
) {
    if history.len() == length {
        return;
    }
    for what in alphabet.iter().copied() {
        history.push(what);
        let now = Timestamp::from_secs(time_of(history.len() - 1));
        let decision = decide(plan, state, event(what, now), now);
        agrees(history, state, &decision);
        *seen += 1;
        explore(plan, (alphabet, length), history, &decision.state, seen);
        history.pop();
    }
}

#[test]
fn every_sequence_of_six_events_agrees_with_the_oracle() {
    explored(&PROTOCOL, 6);
}

#[test]
fn every_sequence_of_five_events_beyond_the_protocol_agrees_with_the_oracle() {
    explored(&EXTRAS, 5);
}

fn explored(alphabet: &[What], length: usize) {
    let plan = Plan::plain(Schedule::Period(Span::from_secs(PERIOD)), Span::from_secs(GRACE));
    let mut seen = 0;
    explore(
        &plan,
        (alphabet, length),
        &mut Vec::new(),
        &State::new(Timestamp::from_secs(time_of(0))),
        &mut seen,
    );
    assert_eq!(
        seen,
        (1..=length as u32)
            .map(|n| (alphabet.len() as u64).pow(n))
            .sum::<u64>()
    );
}
