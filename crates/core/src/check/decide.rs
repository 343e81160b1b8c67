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
        Event::Signal { signal, rid } => heard(&plan.rules, &mut next, signal, rid, now),
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
mod tests {
    use super::*;
    use crate::check::Shown;
    use crate::schedule::Schedule;

    const PLAN: Plan = Plan {
        schedule: Schedule::Period(Span::from_secs(60)),
        grace: Span::from_secs(30),
        rules: Rules::OFF,
    };

    fn at(secs: i64) -> Timestamp {
        Timestamp::from_secs(secs)
    }

    fn signal(kind: Kind) -> Event {
        signal_of(kind, None)
    }

    fn signal_of(kind: Kind, rid: Option<u128>) -> Event {
        Event::Signal {
            signal: Signal {
                kind,
                cause: Cause::Address,
            },
            rid: rid.map(Uuid::from_u128),
        }
    }

    fn swept() -> Event {
        Event::Deadline {
            absences: Arc::new([]),
        }
    }

    fn swept_after(absences: &[(i64, i64)]) -> Event {
        let absences = absences
            .iter()
            .map(|(from, to)| Absence {
                from: at(*from),
                to: at(*to),
            })
            .collect();
        Event::Deadline { absences }
    }

    /// Plays events at their seconds on a new check; gives the last decision.
    fn play(events: &[(i64, Event)]) -> Decision {
        let mut state = State::new(at(0));
        let mut last = None;
        for (secs, event) in events {
            let decision = decide(&PLAN, &state, event.clone(), at(*secs));
            state = decision.state.clone();
            last = Some(decision);
        }
        last.expect("at least one event")
    }

    #[test]
    fn a_first_success_brings_a_check_up_and_sets_its_deadline() {
        let decision = play(&[(10, signal(Kind::Success))]);
        let flip = decision.flip.expect("a flip");
        assert_eq!(
            (flip.seq, flip.from, flip.to, flip.at),
            (1, Status::New, Status::Up, at(10))
        );
        assert_eq!(decision.deadline, Some(at(100)));
        assert_eq!(
            (decision.state.ping_count, decision.state.last_ping),
            (1, Some(at(10)))
        );
    }

    #[test]
    fn a_missed_deadline_flips_at_the_deadline_however_late_the_sweep() {
        for sweep in [100, 101, 5_000] {
            let decision = play(&[(10, signal(Kind::Success)), (sweep, swept())]);
            let flip = decision.flip.expect("a flip");
            assert_eq!((flip.from, flip.to, flip.at), (Status::Up, Status::Down, at(100)));
            assert_eq!(flip.expected_at, Some(at(70)));
            assert_eq!(
                flip.reason,
                Reason::Timeout {
                    last_ping: at(10).as_micros(),
                    grace: 30,
                    moved_from: None,
                }
            );
            assert_eq!(decision.deadline, None);
        }
        let early = play(&[(10, signal(Kind::Success)), (99, swept())]);
        assert_eq!((early.flip, early.deadline), (None, Some(at(100))));
    }

    #[test]
    fn a_late_ping_brings_the_check_back_up() {
        let events = [
            (10, signal(Kind::Success)),
            (200, swept()),
            (300, signal(Kind::Success)),
        ];
        let flip = play(&events).flip.expect("a flip");
        assert_eq!(
            (flip.seq, flip.from, flip.to, flip.at),
            (3, Status::Down, Status::Up, at(300))
        );
    }

    #[test]
    fn repeated_failures_make_one_flip() {
        let decision = play(&[(1, signal(Kind::Fail)), (2, signal(Kind::Fail))]);
        assert_eq!(
            (
                decision.flip,
                decision.state.flip_count,
                decision.state.ping_count
            ),
            (None, 1, 2)
        );
    }

    #[test]
    fn logs_and_ignored_pings_only_count() {
        for kind in [Kind::Log, Kind::Ignored] {
            let before = play(&[(1, signal(Kind::Start)), (2, signal(Kind::Success))]).state;
            let after = decide(&PLAN, &before, signal(kind), at(50)).state;
            assert_eq!(
                after,
                State {
                    ping_count: before.ping_count + 1,
                    ..before
                }
            );
        }
    }

    #[test]
    fn a_run_ends_as_its_ids_say() {
        use Kind::{Fail, Success};
        // (run id of the start, what ends it, its run id, is it still open, duration)
        for (start, kind, end, open, secs) in [
            (None, Success, None, false, Some(5)),
            (Some(1), Success, Some(1), false, Some(5)),
            (Some(1), Fail, Some(1), false, Some(5)),
            (Some(1), Success, Some(2), true, None),
            (None, Success, Some(2), true, None),
            (Some(1), Success, None, false, None),
            (Some(1), Fail, Some(2), false, None),
            (Some(1), Fail, None, false, None),
        ] {
            let state = play(&[(10, signal_of(Kind::Start, start)), (15, signal_of(kind, end))]).state;
            assert_eq!(state.last_start.is_some(), open, "{start:?} {kind:?} {end:?}");
            assert_eq!(
                state.last_duration,
                secs.map(Span::from_secs),
                "{start:?} {kind:?} {end:?}"
            );
        }
    }

    #[test]
    fn a_second_success_forgets_the_duration() {
        let events = [
            (1, signal(Kind::Start)),
            (3, signal(Kind::Success)),
            (4, signal(Kind::Success)),
        ];
        assert_eq!(play(&events).state.last_duration, None);
    }

    #[test]
    fn a_run_that_does_not_end_takes_a_new_check_down() {
        let decision = play(&[(10, signal(Kind::Start)), (45, swept())]);
        let flip = decision.flip.expect("a flip");
        assert_eq!((flip.from, flip.to, flip.at), (Status::New, Status::Down, at(40)));
        assert_eq!(
            flip.reason,
            Reason::RunTimeout {
                started: at(10).as_micros(),
                last_alive: None,
                grace: 30,
                moved_from: None,
            }
        );
        assert_eq!(flip.expected_at, Some(at(10)));
    }

    #[test]
    fn pausing_and_resuming_are_flips_and_clear_what_they_should() {
        let paused = play(&[
            (1, signal(Kind::Success)),
            (2, signal(Kind::Start)),
            (3, Event::Pause),
        ]);
        assert_eq!(
            paused.flip.as_ref().map(|f| (f.from, f.to)),
            Some((Status::Up, Status::Paused))
        );
        assert_eq!(
            (paused.state.last_start, paused.state.last_ping),
            (None, Some(at(1)))
        );
        assert_eq!(paused.deadline, None);
        assert_eq!(decide(&PLAN, &paused.state, Event::Pause, at(4)).flip, None);

        let resumed = decide(&PLAN, &paused.state, Event::Resume, at(5));
        assert_eq!(
            resumed.flip.as_ref().map(|f| (f.from, f.to)),
            Some((Status::Paused, Status::New))
        );
        assert_eq!((resumed.state.last_ping, resumed.state.ping_count), (None, 2));
        assert_eq!(decide(&PLAN, &resumed.state, Event::Resume, at(6)).flip, None);
    }

    #[test]
    fn an_edit_moves_the_deadline_and_leaves_the_status() {
        let state = play(&[(10, signal(Kind::Success))]).state;
        let shorter = Plan {
            grace: Span::from_secs(5),
            ..PLAN
        };
        let decision = decide(&shorter, &state, Event::Edit, at(500));
        assert_eq!((decision.flip, decision.deadline), (None, Some(at(75))));
        assert_eq!(decision.state, state);
    }

    #[test]
    fn a_pause_with_an_end_ends_at_its_instant_and_expects_the_check_again() {
        let events = [
            (10, signal(Kind::Success)),
            (20, Event::PauseUntil(at(1_000))),
            (5_000, swept()),
        ];
        let paused = play(&events[..2]);
        assert_eq!(paused.deadline, Some(at(1_000)), "the sweep looks then");
        assert_eq!(
            paused.flip.map(|flip| flip.reason),
            Some(Reason::PausedUntil {
                until: at(1_000).as_micros()
            })
        );
        assert_eq!(decide(&PLAN, &paused.state, swept(), at(999)).flip, None);
        let over = play(&events);
        let flip = over.flip.expect("a flip");
        assert_eq!(
            (flip.from, flip.to, flip.at),
            (Status::Paused, Status::New, at(1_000))
        );
        // Expected from then on, as if it had been heard of at that instant.
        assert_eq!(over.deadline, Some(at(1_090)));
        assert_eq!(over.state.shown_at(&PLAN, at(1_061)), Shown::Late);
        let down = decide(&PLAN, &over.state, swept(), at(1_090))
            .flip
            .expect("a flip");
        assert_eq!((down.to, down.at), (Status::Down, at(1_090)));
        assert_eq!(
            down.reason,
            Reason::SilentAfterPause {
                paused_until: at(1_000).as_micros(),
                grace: 30,
                moved_from: None,
            }
        );
        let up = decide(&PLAN, &over.state, signal(Kind::Success), at(1_050));
        assert_eq!((up.state.paused_until, up.deadline), (None, Some(at(1_140))));
    }

    #[test]
    fn runs_that_never_end_after_a_pause_are_told_without_a_last_ping() {
        let plan = Plan {
            rules: Rules {
                max_run_secs: Some(100),
                ..Rules::OFF
            },
            ..PLAN
        };
        let told = |first: Event| {
            let events = [
                (10, first),
                (20, Event::PauseUntil(at(1_000))),
                (1_000, swept()),
                (1_010, signal(Kind::Start)),
                (1_100, signal(Kind::Start)),
                (1_190, swept()),
            ];
            let mut state = State::new(at(0));
            let mut flip = None;
            for (secs, event) in events {
                let decision = decide(&plan, &state, event, at(secs));
                (state, flip) = (decision.state, decision.flip);
            }
            flip.expect("a flip").reason
        };
        let reason = told(signal(Kind::Success));
        let never = Reason::NoEnd {
            last_ping: None,
            grace: 30,
            max_run: 100,
            moved_from: None,
        };
        assert_eq!(reason, never);
        assert_eq!(
            reason.sentence(),
            "runs started and none succeeded: none has ended since the check was paused, the grace of 30 s is over, and so \
             is the limit of 1 min 40 s for a run"
        );
        let (code, data) = reason.to_parts();
        assert_eq!(Reason::from_parts(&code, &data), Some(never));
    }

    #[test]
    fn a_pause_by_hand_or_a_resume_takes_the_end_of_a_pause_away() {
        let until = play(&[(10, Event::PauseUntil(at(1_000)))]);
        for event in [Event::Pause, Event::Resume, signal(Kind::Success)] {
            let next = decide(&PLAN, &until.state, event.clone(), at(20));
            assert_eq!(next.state.paused_until, None, "{event:?}");
        }
        let later = decide(&PLAN, &until.state, Event::PauseUntil(at(2_000)), at(20));
        assert_eq!((later.flip, later.deadline), (None, Some(at(2_000))));
    }

    #[test]
    fn a_run_that_started_in_a_pause_is_watched_beyond_its_end() {
        let events = [
            (10, Event::PauseUntil(at(100))),
            (90, signal(Kind::Start)),
            (110, swept()),
        ];
        let over = play(&events);
        assert_eq!(over.flip.as_ref().map(|flip| flip.to), Some(Status::New));
        assert_eq!(over.deadline, Some(at(120)), "the grace of the run");
        // One that was overdue before that comes first.
        let overdue = play(&[
            (10, Event::PauseUntil(at(100))),
            (20, signal(Kind::Start)),
            (110, swept()),
        ]);
        let flip = overdue.flip.expect("a flip");
        assert_eq!((flip.to, flip.at), (Status::Down, at(50)));
    }

    #[test]
    fn a_sign_of_life_gives_the_run_its_grace_anew() {
        let started = [(10, signal(Kind::Success)), (60, signal_of(Kind::Start, Some(1)))];
        for (rid, deadline) in [(None, 110), (Some(1), 110), (Some(2), 90)] {
            let mut events = started.to_vec();
            events.push((80, signal_of(Kind::Alive, rid)));
            let alive = play(&events);
            assert_eq!(
                (alive.flip, alive.deadline),
                (None, Some(at(deadline))),
                "{rid:?}"
            );
            assert_eq!(alive.state.last_ping, Some(at(10)), "no success");
        }
        let events = [
            (10, signal(Kind::Start)),
            (30, signal(Kind::Alive)),
            (59, signal(Kind::Alive)),
            (200, swept()),
        ];
        let flip = play(&events).flip.expect("a flip");
        assert_eq!((flip.to, flip.at), (Status::Down, at(89)));
        assert_eq!(
            flip.reason,
            Reason::RunTimeout {
                started: at(10).as_micros(),
                last_alive: Some(at(59).as_micros()),
                grace: 30,
                moved_from: None,
            }
        );
        // Where nothing runs it changes nothing.
        let before = play(&[(10, signal(Kind::Success))]);
        assert_eq!(
            decide(&PLAN, &before.state, signal(Kind::Alive), at(20)).state,
            before.state
        );
    }

    #[test]
    fn of_a_run_only_its_first_sign_of_life_is_numbered() {
        let mut state = play(&[(10, signal_of(Kind::Start, Some(1)))]).state;
        for (millis, rid, numbered, heard) in [
            (20_000, Some(2), 1, None),
            (20_000, Some(1), 2, Some(20_000)),
            // Too soon to be worth a write.
            (20_499, None, 2, Some(20_000)),
            (20_500, Some(1), 2, Some(20_500)),
            // The clock was set back.
            (15_000, Some(1), 2, Some(15_000)),
        ] {
            let now = Timestamp::from_micros(millis * 1_000);
            state = decide(&PLAN, &state, signal_of(Kind::Alive, rid), now).state;
            let last = state.last_alive.map(|at| at.as_micros() / 1_000);
            assert_eq!((state.ping_count, last), (numbered, heard), "{millis}");
        }
    }

    #[test]
    fn the_last_success_is_known_whatever_came_since() {
        let events = [
            (10, signal(Kind::Success)),
            (20, signal(Kind::Fail)),
            (30, Event::Pause),
            (40, Event::Resume),
        ];
        let state = play(&events).state;
        assert_eq!((state.last_ping, state.last_success), (None, Some(at(10))));
    }

    #[test]
    fn a_clock_set_back_never_makes_a_flip_older_than_the_last() {
        let decision = play(&[
            (1_000, signal(Kind::Start)),
            (1_001, signal(Kind::Fail)),
            (500, signal(Kind::Start)),
            (400, signal(Kind::Success)),
        ]);
        let flip = decision.flip.expect("a flip");
        assert_eq!((flip.seq, flip.at), (2, at(1_001)));
        assert_eq!(decision.state.last_duration, Some(Span::ZERO));
    }

    #[test]
    fn what_a_clock_ahead_has_noted_is_known_now_and_is_no_flip() {
        let year = 31_000_000;
        let ahead = play(&[(year, signal(Kind::Success))]);
        let back = decide(&PLAN, &ahead.state, Event::SetBack, at(1_000));
        assert_eq!((back.flip, back.deadline), (None, Some(at(1_090))));
        assert_eq!(back.state.status_since, at(year), "the flip bears it");
        // Found silent then, it flips at the last flip's instant: flips are never out of order.
        let flip = decide(&PLAN, &back.state, swept(), at(1_090))
            .flip
            .expect("a flip");
        assert_eq!((flip.seq, flip.to, flip.at), (2, Status::Down, at(year)));
        let past = play(&[(10, signal(Kind::Success))]).state;
        assert_eq!(decide(&PLAN, &past, Event::SetBack, at(11)).state, past);
    }

    #[test]
    fn a_deadline_in_our_absence_is_not_held_against_the_check() {
        // Up at 10, deadline 100; we were away from 90 to 7,000.
        let back = play(&[(10, signal(Kind::Success)), (7_000, swept_after(&[(90, 7_000)]))]);
        assert_eq!((back.flip, back.deadline), (None, Some(at(7_060))));
        assert_eq!(back.state.shown_at(&PLAN, at(7_059)), Shown::Late);
        let pinged = decide(&PLAN, &back.state, signal(Kind::Success), at(7_050));
        assert_eq!((pinged.flip, pinged.deadline), (None, Some(at(7_140))));
        assert_eq!(pinged.state.excused_until, None);
    }

    #[test]
    fn a_check_that_stays_silent_after_our_return_goes_down_and_says_so() {
        let away = &[(90, 7_000)];
        let events = [
            (10, signal(Kind::Success)),
            (7_000, swept_after(away)),
            (7_060, swept_after(away)),
        ];
        let flip = play(&events).flip.expect("a flip");
        assert_eq!(
            (flip.to, flip.at, flip.expected_at),
            (Status::Down, at(7_060), Some(at(70)))
        );
        let moved_from = Some(at(100).as_micros());
        assert_eq!(
            flip.reason,
            Reason::Timeout {
                last_ping: at(10).as_micros(),
                grace: 30,
                moved_from
            }
        );
        // Somebody who looks only much later sees the same.
        let late = play(&[(10, signal(Kind::Success)), (9_000, swept_after(away))])
            .flip
            .expect("a flip");
        assert_eq!((late.at, late.reason), (flip.at, flip.reason));
    }

    #[test]
    fn an_absence_before_or_after_the_deadline_changes_nothing() {
        for away in [(20, 99), (100, 300)] {
            let flip = play(&[(10, signal(Kind::Success)), (400, swept_after(&[away]))])
                .flip
                .expect("a flip");
            assert_eq!(flip.at, at(100), "{away:?}");
        }
    }

    #[test]
    fn a_run_that_starts_after_an_excuse_has_an_allowance_of_its_own() {
        let (first, second) = ((20, 500), (530, 900));
        let events = [
            (10, signal(Kind::Start)),
            (500, swept_after(&[first])),
            // Excused until 560. Nobody hears of the end of that run; the next one must end by 595.
            (565, signal(Kind::Start)),
        ];
        let next = play(&events);
        assert_eq!(next.deadline, Some(at(595)));
        let back = decide(&PLAN, &next.state, swept_after(&[first, (570, 900)]), at(900));
        assert_eq!((back.flip, back.deadline), (None, Some(at(960))), "60 s again");
        // One that is still excused has only the rest.
        let rest = decide(
            &PLAN,
            &play(&events[..2]).state,
            swept_after(&[first, second]),
            at(900),
        );
        assert_eq!((rest.flip, rest.deadline), (None, Some(at(915))));
    }

    #[test]
    fn an_open_run_is_excused_too() {
        let events = [(10, signal(Kind::Start)), (500, swept_after(&[(20, 500)]))];
        let back = play(&events);
        assert_eq!((back.flip, back.deadline), (None, Some(at(560))));
        assert!(!back.state.run_is_overdue(&PLAN, at(559)) && back.state.run_is_overdue(&PLAN, at(560)));
    }
}
