//! The table of decisions, row by row.

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
fn what_was_given_to_a_run_is_not_in_force_for_what_is_awaited_after_it() {
    // Expected by 100; a run by 50, which falls into our absence and is excused until 110.
    let (first, second) = ((40, 50), (95, 900));
    let mut events = vec![
        (10, signal(Kind::Success)),
        (20, signal_of(Kind::Start, Some(1))),
        (50, swept_after(&[first])),
    ];
    assert_eq!(play(&events).deadline, Some(at(110)));
    // Another run takes its place, which must end by 115: now the schedule comes first.
    events.push((85, signal_of(Kind::Start, Some(2))));
    let next = play(&events);
    assert_eq!((next.flip, next.deadline), (None, Some(at(100))));
    // That deadline falls into an absence too, and none was given to it before.
    let back = decide(&PLAN, &next.state, swept_after(&[second]), at(900));
    assert_eq!((back.flip, back.deadline), (None, Some(at(960))));
    // One that comes when the schedule's deadline has passed takes nothing back.
    events[3] = (105, signal_of(Kind::Start, Some(2)));
    assert_eq!(play(&events).deadline, Some(at(110)));
}

#[test]
fn whoever_is_excused_gets_no_earlier_deadline_by_reporting_in() {
    let of = |grace, rules| Plan {
        schedule: Schedule::Period(Span::from_secs(3_600)),
        grace: Span::from_secs(grace),
        rules,
    };
    // Expected at 3,600. A start by 4,200, an end by 7,200.
    let start = Rules {
        start_grace_secs: Some(600),
        ..Rules::OFF
    };
    // An end by 3,900, or within 1,800 s of a start by then.
    let run = Rules {
        max_run_secs: Some(1_800),
        ..Rules::OFF
    };
    for (plan, away, excused, started) in [
        (of(3_600, start), (3_300, 6_900), 7_500, 6_960),
        (of(300, run), (3_720, 5_640), 5_940, 5_670),
    ] {
        let mut state = State::new(at(0));
        let mut deadline = None;
        for (secs, event) in [
            (0, signal(Kind::Success)),
            (away.1, swept_after(&[away])),
            (started, signal(Kind::Start)),
        ] {
            let decision = decide(&plan, &state, event, at(secs));
            (state, deadline) = (decision.state, decision.deadline);
            if secs == away.1 {
                assert_eq!(deadline, Some(at(excused)));
            }
        }
        assert!(deadline >= Some(at(excused)), "{deadline:?} for {plan:?}");
    }
}

#[test]
fn an_open_run_is_excused_too() {
    let events = [(10, signal(Kind::Start)), (500, swept_after(&[(20, 500)]))];
    let back = play(&events);
    assert_eq!((back.flip, back.deadline), (None, Some(at(560))));
    assert!(!back.state.run_is_overdue(&PLAN, at(559)) && back.state.run_is_overdue(&PLAN, at(560)));
}
