//! Each rule as a table of stories: what a check with that rule is told, and which flips must come of it.
//!
//! The check of all stories has a period of 1,000 seconds and a grace of 300.

use std::sync::Arc;

use uuid::Uuid;

use super::*;
use crate::absence::Absence;
use crate::check::{Event, Plan, State, decide};
use crate::flip::{Flip, Reason};
use crate::schedule::Schedule;
use crate::signal::{Kind, Signal};
use crate::time::Timestamp;

const PERIOD: i64 = 1_000;
const GRACE: i64 = 300;

/// What happens, and at which second.
type Story<'a> = &'a [(i64, What)];

#[derive(Copy, Clone, Debug)]
enum What {
    Start(Option<u128>),
    Success(Option<u128>),
    Fail,
    Log,
    Ignored,
    Pause,
    Resume,
    Sweep,
    Edit(Rules),
}
use What::{Edit, Fail, Ignored, Log, Pause, Resume, Start, Success, Sweep};

fn plan(rules: Rules) -> Plan {
    let schedule = Schedule::Period(Span::from_secs(PERIOD));
    Plan {
        rules,
        ..Plan::plain(schedule, Span::from_secs(GRACE))
    }
}

fn at(secs: i64) -> Timestamp {
    Timestamp::from_secs(secs)
}

fn event(what: What, absences: &Arc<[Absence]>) -> Event {
    let signal = |kind, rid: Option<u128>| Event::Signal {
        signal: Signal {
            kind,
            cause: Cause::Address,
        },
        rid: rid.map(Uuid::from_u128),
    };
    match what {
        Start(rid) => signal(Kind::Start, rid),
        Success(rid) => signal(Kind::Success, rid),
        Fail => signal(Kind::Fail, None),
        Log => signal(Kind::Log, None),
        Ignored => signal(Kind::Ignored, None),
        Pause => Event::Pause,
        Resume => Event::Resume,
        Sweep => Event::Deadline {
            absences: Arc::clone(absences),
        },
        Edit(_) => Event::Edit,
    }
}

/// The end of a story: the state, its deadline and all flips.
struct Told {
    state: State,
    deadline: Option<i64>,
    flips: Vec<Flip>,
}

impl Told {
    /// When it went down, and by which code.
    fn downs(&self) -> Vec<(i64, String)> {
        let down = |flip: &&Flip| flip.to == Status::Down;
        let told = |flip: &Flip| (flip.at.as_secs(), flip.reason.to_parts().0);
        self.flips.iter().filter(down).map(told).collect()
    }

    fn last(&self) -> &Reason {
        &self.flips.last().expect("a flip").reason
    }
}

/// Tells a story to a new check; what it remembers is stored and read back at each turn.
fn tell_away(rules: Rules, absences: &[(i64, i64)], story: Story<'_>) -> Told {
    let absences: Arc<[Absence]> = absences
        .iter()
        .map(|(from, to)| Absence {
            from: at(*from),
            to: at(*to),
        })
        .collect();
    let mut plan = plan(rules);
    let mut told = Told {
        state: State::new(at(0)),
        deadline: None,
        flips: Vec::new(),
    };
    for (secs, what) in story {
        if let Edit(rules) = what {
            plan.rules = *rules;
        }
        let decision = decide(&plan, &told.state, event(*what, &absences), at(*secs));
        told.deadline = decision.deadline.map(Timestamp::as_secs);
        told.state = decision.state;
        let stored = told.state.recent.to_stored();
        let read = stored
            .as_deref()
            .map(|text| Recent::from_stored(text).expect("readable"));
        assert_eq!(read.unwrap_or_default(), told.state.recent, "{stored:?}");
        told.flips.extend(decision.flip);
    }
    told
}

fn tell(rules: Rules, story: Story<'_>) -> Told {
    tell_away(rules, &[], story)
}

fn outcomes(rules: Rules, letters: &str) -> Told {
    let story: Vec<(i64, What)> = letters
        .chars()
        .zip(0..)
        .map(|(letter, n)| {
            let what = match letter {
                's' => Success(None),
                'f' => Fail,
                'p' => Pause,
                'r' => Resume,
                'l' => Log,
                'i' => Ignored,
                _ => Sweep,
            };
            (10 + n, what)
        })
        .collect();
    tell(rules, &story)
}

fn row(failures: u8) -> Rules {
    Rules {
        failures: Some(failures),
        ..Rules::OFF
    }
}

fn rate(percent: u8, window: u8) -> Rules {
    Rules {
        failure_rate: Some(FailureRate { percent, window }),
        ..Rules::OFF
    }
}

#[test]
fn a_check_goes_down_with_the_failure_that_its_rules_wait_for() {
    let both = Rules {
        failures: Some(4),
        ..rate(50, 4)
    };
    // Letters: success, fail, pause, resume, log, ignored. (rules, letters, places of the flips to down)
    let cases: &[(Rules, &str, &[i64])] = &[
        (Rules::OFF, "sf", &[1]),
        (row(3), "sff", &[]),
        (row(3), "sfff", &[3]),
        (row(3), "sffffff", &[3]),
        (row(3), "sffsff", &[]),
        (row(3), "sffliif", &[6]),
        // Again from the beginning after it came up, was paused or resumed.
        (row(3), "sfffsffsfff", &[3, 10]),
        (row(3), "sffpff", &[]),
        (row(3), "sffpfff", &[6]),
        (row(3), "sffprffsfff", &[10]),
        // A new check fails as one that is up.
        (row(2), "ff", &[1]),
        (row(100), "sffffffffffffffffff", &[]),
        (rate(50, 4), "sfsf", &[3]),
        (rate(50, 4), "sff", &[2]),
        (rate(50, 4), "sfsssfsssf", &[]),
        (rate(50, 4), "sfsssfsf", &[7]),
        // Of the whole window, also before it is full; and rounded up.
        (rate(100, 2), "fsf", &[]),
        (rate(100, 2), "fsff", &[3]),
        (rate(34, 3), "fsf", &[2]),
        (rate(33, 3), "f", &[0]),
        (rate(50, 4), "sfsfsfsf", &[3, 7]),
        (both, "ff", &[1]),
        (
            Rules {
                failures: Some(2),
                ..rate(100, 10)
            },
            "sfsff",
            &[4],
        ),
    ];
    for (rules, letters, wanted) in cases {
        let told = outcomes(*rules, letters);
        let places: Vec<i64> = told.downs().iter().map(|(secs, _)| secs - 10).collect();
        assert_eq!(places, *wanted, "{letters} by {rules:?}");
    }
}

#[test]
fn the_reason_tells_how_many_failures_there_were() {
    let cause = Cause::Address;
    for (rules, letters, reason) in [
        (
            row(3),
            "sfff",
            Reason::Failures {
                ping: 4,
                cause: cause.clone(),
                failures: 3,
            },
        ),
        (
            rate(40, 10),
            "sfsfff",
            Reason::FailureRate {
                ping: 6,
                cause: cause.clone(),
                failed: 4,
                outcomes: 6,
            },
        ),
        (
            row(3),
            "f",
            Reason::Tolerated {
                ping: 1,
                cause: cause.clone(),
            },
        ),
        (Rules::OFF, "f", Reason::Fail { ping: 1, cause }),
    ] {
        assert_eq!(*outcomes(rules, letters).last(), reason, "{letters}");
    }
}

#[test]
fn a_tolerated_failure_is_a_sign_of_life_and_silence_behind_it_is_noticed() {
    for letters in ["f", "sf", "spf", "sprf", "sff"] {
        let told = outcomes(row(3), letters);
        assert_eq!(told.state.status, Status::Up, "{letters}");
        let last = 10 + letters.len() as i64 - 1;
        assert_eq!(told.deadline, Some(last + PERIOD + GRACE), "{letters}");
    }
    let silent = tell(row(3), &[(10, Fail), (5_000, Sweep)]);
    assert_eq!(silent.downs(), [(1_310, "timeout".to_owned())]);
    // Failures of a check that is down are not counted: it comes up by the next success.
    let down = outcomes(row(2), "sfffffs");
    assert_eq!(
        (down.state.status, down.state.recent.outcomes),
        (Status::Up, vec![false])
    );
}

fn max_run(secs: u32) -> Rules {
    Rules {
        max_run_secs: Some(secs),
        ..Rules::OFF
    }
}

fn start_grace(secs: u32) -> Rules {
    Rules {
        start_grace_secs: Some(secs),
        ..Rules::OFF
    }
}

#[test]
fn a_run_has_its_own_limit_beside_the_grace() {
    let up = (10, Success(None));
    // (limit, story, deadline)
    let cases: &[(u32, Story<'_>, Option<i64>)] = &[
        // Shorter than the grace, from whatever status.
        (60, &[(10, Start(None))], Some(70)),
        (60, &[up, (900, Start(None))], Some(960)),
        (60, &[up, (11, Pause), (12, Start(None))], Some(72)),
        // Without a start nothing changes.
        (60, &[up], Some(1_310)),
        (60, &[up, (900, Log), (901, Ignored)], Some(1_310)),
        // Longer than the grace: the grace is for the start, and the run has its time.
        (5_000, &[up, (1_300, Start(None))], Some(6_300)),
        (5_000, &[up, (1_009, Start(None))], Some(6_009)),
        // Starting again gives the new run its own limit, and does not renew that of the schedule.
        (
            100,
            &[up, (1_000, Start(None)), (1_090, Start(None))],
            Some(1_190),
        ),
        (
            100,
            &[up, (1_000, Start(None)), (1_390, Start(None))],
            Some(1_410),
        ),
        // Ended by its own id, by no id, and not by another's.
        (
            60,
            &[up, (900, Start(Some(1))), (910, Success(Some(1)))],
            Some(2_210),
        ),
        (
            60,
            &[up, (900, Start(Some(1))), (910, Success(None))],
            Some(2_210),
        ),
        (
            60,
            &[up, (900, Start(Some(1))), (910, Success(Some(2)))],
            Some(960),
        ),
        (60, &[up, (900, Start(None)), (910, Fail)], None),
        (60, &[up, (900, Start(None)), (910, Pause)], None),
        // A run that is older than the last success does not hold up the schedule.
        (
            5_000,
            &[up, (900, Start(Some(1))), (910, Success(Some(2)))],
            Some(2_210),
        ),
        // Changed while it runs.
        (60, &[up, (900, Start(None)), (910, Edit(max_run(30)))], Some(930)),
        (
            60,
            &[up, (900, Start(None)), (910, Edit(Rules::OFF))],
            Some(1_200),
        ),
        (
            60,
            &[up, (900, Start(None)), (910, Edit(max_run(9_999)))],
            Some(10_899),
        ),
    ];
    for (limit, story, deadline) in cases {
        assert_eq!(
            tell(max_run(*limit), story).deadline,
            *deadline,
            "{limit} {story:?}"
        );
    }
}

#[test]
fn a_run_beyond_its_limit_takes_the_check_down_and_its_success_brings_it_back() {
    let story = [
        (10, Success(None)),
        (900, Start(None)),
        (5_000, Sweep),
        (6_000, Success(None)),
    ];
    let told = tell(max_run(60), &story);
    assert_eq!(told.downs(), [(960, "max_run".to_owned())]);
    assert_eq!(told.flips[1].expected_at, Some(at(900)));
    let reason = Reason::MaxRun {
        started: at(900).as_micros(),
        limit: 60,
        moved_from: None,
    };
    assert_eq!(told.flips[1].reason, reason);
    assert_eq!(told.state.status, Status::Up);
    assert_eq!(told.state.last_duration, Some(Span::from_secs(5_100)));
    // Runs that start again and again, and none succeeds.
    let starts = (0..20).map(|n| (900 + n * 90, Start(None)));
    let mut story: Vec<(i64, What)> = [(10, Success(None))].into_iter().chain(starts).collect();
    story.push((5_000, Sweep));
    assert_eq!(tell(max_run(100), &story).downs(), [(1_410, "no_end".to_owned())]);
}

#[test]
fn a_check_whose_run_does_not_start_in_time_goes_down_before_its_grace_is_over() {
    let up = (10, Success(None));
    // (allowed, story, deadline, code)
    let cases: &[(u32, Story<'_>, Option<i64>, &str)] = &[
        (60, &[up], Some(1_070), "late_start"),
        (60, &[up, (1_069, Log)], Some(1_070), "late_start"),
        // In time, or early; then grace and schedule are as ever.
        (60, &[up, (1_050, Start(None))], Some(1_310), "timeout"),
        (60, &[up, (500, Start(None))], Some(800), "run_timeout"),
        // A success without a start is a sign of life too.
        (60, &[up, (1_050, Success(None))], Some(2_110), "late_start"),
        // A start that is older than the last success is not the one that is awaited.
        (
            60,
            &[
                up,
                (900, Start(Some(1))),
                (910, Start(Some(2))),
                (920, Success(Some(1))),
            ],
            Some(1_210),
            "run_timeout",
        ),
        // Longer than the grace: the grace holds.
        (400, &[up], Some(1_310), "timeout"),
        (60, &[up, (20, Pause)], None, ""),
        (60, &[(10, Log)], None, ""),
        (
            400,
            &[up, (1_100, Edit(start_grace(30)))],
            Some(1_040),
            "late_start",
        ),
        (60, &[up, (20, Edit(Rules::OFF))], Some(1_310), "timeout"),
    ];
    for (allowed, story, deadline, code) in cases {
        let told = tell(start_grace(*allowed), story);
        assert_eq!(told.deadline, *deadline, "{allowed} {story:?}");
        let mut later = story.to_vec();
        later.push((9_000, Sweep));
        let downs = tell(start_grace(*allowed), &later).downs();
        let wanted: Vec<(i64, String)> = deadline.map(|at| (at, (*code).to_owned())).into_iter().collect();
        assert_eq!(downs, wanted, "{allowed} {story:?}");
    }
}

#[test]
fn start_and_run_have_their_limits_together() {
    let rules = Rules {
        max_run_secs: Some(900),
        ..start_grace(60)
    };
    let up = (10, Success(None));
    assert_eq!(tell(rules, &[up]).deadline, Some(1_070));
    assert_eq!(tell(rules, &[up, (1_060, Start(None))]).deadline, Some(1_960));
}

#[test]
fn a_deadline_of_a_rule_that_fell_into_our_absence_moves_by_the_limit_of_the_rule() {
    let up = (10, Success(None));
    let run: Story<'_> = &[up, (900, Start(None)), (5_000, Sweep)];
    let start: Story<'_> = &[up, (5_000, Sweep)];
    for (rules, story, away, deadline) in [
        // At least a minute.
        (max_run(30), run, (905, 5_000), 5_060),
        (max_run(120), run, (905, 5_000), 5_120),
        // At most a period.
        (max_run(3_000), run, (905, 5_000), 6_000),
        (start_grace(120), start, (1_000, 5_000), 5_120),
        (Rules::OFF, start, (1_000, 5_000), 5_300),
    ] {
        let told = tell_away(rules, &[away], story);
        assert_eq!(
            (told.downs(), told.deadline),
            (Vec::new(), Some(deadline)),
            "{rules:?}"
        );
        let mut silent = story.to_vec();
        silent.push((9_000, Sweep));
        let told = tell_away(rules, &[away], &silent);
        assert_eq!(told.downs()[0].0, deadline, "{rules:?}");
        let data = told.last().to_parts().1;
        assert!(data.contains("moved_from"), "{data}");
    }
    // A success ends the excuse.
    let mut back = run.to_vec();
    back.push((5_050, Success(None)));
    assert_eq!(
        tell_away(max_run(120), &[(905, 5_000)], &back)
            .state
            .excused_until,
        None
    );
}

fn min_run(secs: u32) -> Rules {
    Rules {
        min_run_secs: Some(secs),
        ..Rules::OFF
    }
}

#[test]
fn a_success_that_comes_too_soon_is_a_failure() {
    let up = (10, Success(None));
    // (rules, story, status)
    let cases: &[(Rules, Story<'_>, Status)] = &[
        (
            min_run(30),
            &[up, (100, Start(None)), (129, Success(None))],
            Status::Down,
        ),
        (
            min_run(30),
            &[up, (100, Start(None)), (130, Success(None))],
            Status::Up,
        ),
        (
            min_run(30),
            &[(100, Start(None)), (101, Success(None))],
            Status::Down,
        ),
        // No start, or another run's: nothing is known of its length.
        (min_run(30), &[up, (11, Success(None))], Status::Up),
        (
            min_run(30),
            &[up, (100, Start(Some(1))), (101, Success(Some(2)))],
            Status::Up,
        ),
        (
            min_run(30),
            &[up, (100, Start(Some(1))), (101, Success(None))],
            Status::Up,
        ),
        // Of two starts in a row the second counts.
        (
            min_run(30),
            &[up, (100, Start(None)), (190, Start(None)), (200, Success(None))],
            Status::Down,
        ),
        // A clock that was set back tells nothing.
        (
            min_run(30),
            &[up, (100, Start(None)), (90, Success(None))],
            Status::Up,
        ),
        // The next good run brings it back.
        (
            min_run(30),
            &[
                up,
                (100, Start(None)),
                (101, Success(None)),
                (200, Start(None)),
                (240, Success(None)),
            ],
            Status::Up,
        ),
        // Counted as other failures are.
        (
            Rules {
                failures: Some(2),
                ..min_run(30)
            },
            &[up, (100, Start(None)), (101, Success(None))],
            Status::Up,
        ),
        (
            Rules {
                failures: Some(2),
                ..min_run(30)
            },
            &[up, (90, Fail), (100, Start(None)), (101, Success(None))],
            Status::Down,
        ),
    ];
    for (rules, story, status) in cases {
        assert_eq!(tell(*rules, story).state.status, *status, "{story:?}");
    }
    let told = tell(min_run(30), &[up, (100, Start(None)), (101, Success(None))]);
    let cause = Cause::TooFast {
        took_ms: 1_000,
        min_secs: 30,
    };
    assert_eq!(*told.last(), Reason::Fail { ping: 3, cause });
}

/// A check whose runs took so long, one behind the other; then one that starts at 50,000.
fn ran(rule: UnusualRun, runs: &[i64]) -> Told {
    let mut story = Vec::new();
    for (n, secs) in (0..).zip(runs) {
        story.extend([
            (100 + n * 1_000, Start(None)),
            (100 + n * 1_000 + secs, Success(None)),
        ]);
    }
    story.push((50_000, Start(None)));
    let rules = Rules {
        unusual_run: Some(rule),
        max_run_secs: Some(100_000),
        ..Rules::OFF
    };
    tell(rules, &story)
}

#[test]
fn a_run_that_takes_far_longer_than_the_median_of_those_before_is_unusual() {
    let rule = |tenths, samples| UnusualRun { tenths, samples };
    // (rule, lengths of the runs before, seconds until the new one is unusual)
    for (rule, runs, secs) in [
        (rule(30, 3), &[100_i64, 110, 120] as &[i64], Some(330)),
        (rule(25, 3), &[100, 110, 120], Some(275)),
        // One that is out of line changes little.
        (rule(30, 3), &[100, 100, 900], Some(300)),
        (rule(30, 4), &[100, 120, 110, 130], Some(330)),
        // Too few.
        (rule(30, 4), &[100, 110, 120], None),
        (rule(30, 3), &[], None),
        // Ten seconds longer at least.
        (rule(30, 3), &[2, 2, 2], Some(12)),
        (rule(30, 3), &[0, 0, 0], Some(10)),
    ] {
        let left = ran(rule, runs)
            .deadline
            .map(|at| at - 50_000)
            .filter(|secs| *secs < 5_000);
        let wanted = secs;
        assert_eq!(left, wanted, "{rule:?} {runs:?}");
    }
}

#[test]
fn an_unusual_run_takes_the_check_down_while_it_lasts_and_is_itself_a_sample() {
    let rules = Rules {
        unusual_run: Some(UnusualRun {
            tenths: 20,
            samples: 3,
        }),
        ..Rules::OFF
    };
    let mut story = Vec::new();
    for n in 0..3 {
        story.extend([(n * 1_000, Start(None)), (n * 1_000 + 20, Success(None))]);
    }
    story.extend([(3_000, Start(None)), (3_500, Sweep), (3_600, Success(None))]);
    let told = tell(rules, &story);
    assert_eq!(told.downs(), [(3_040, "unusual_run".to_owned())]);
    let reason = Reason::UnusualRun {
        started: at(3_000).as_micros(),
        limit_ms: 40_000,
        usual_ms: 20_000,
        runs: 3,
        moved_from: None,
    };
    assert_eq!(told.flips[told.flips.len() - 2].reason, reason);
    assert_eq!(told.state.status, Status::Up);
    assert_eq!(told.state.recent.runs.last(), Some(&Span::from_secs(600)));
    // The rule is taken away: nothing is kept for it.
    story.push((3_700, Edit(Rules::OFF)));
    assert_eq!(tell(rules, &story).state.recent, Recent::default());
}

#[test]
fn failures_and_runs_that_were_too_short_say_nothing_of_the_usual_length() {
    let rules = Rules {
        min_run_secs: Some(10),
        unusual_run: Some(UnusualRun {
            tenths: 20,
            samples: 3,
        }),
        ..Rules::OFF
    };
    let story = [
        (100, Start(None)),
        (150, Success(None)),
        (200, Start(None)),
        (201, Success(None)),
        (300, Start(None)),
        (350, Fail),
        (400, Success(None)),
    ];
    assert_eq!(tell(rules, &story).state.recent.runs, [Span::from_secs(50)]);
}

#[test]
fn what_is_remembered_is_bounded() {
    let rules = Rules {
        failures: Some(100),
        unusual_run: Some(UnusualRun {
            tenths: 30,
            samples: 20,
        }),
        ..rate(100, 50)
    };
    let mut story = Vec::new();
    for n in 0..300 {
        story.extend([(n * 100, Start(None)), (n * 100 + 5, Success(None))]);
    }
    let recent = tell(rules, &story).state.recent;
    assert_eq!((recent.outcomes.len(), recent.runs.len()), (100, RUN_SAMPLES_MAX));
    assert!(recent.to_stored().expect("something").len() < 400);
}

#[test]
fn rules_are_stored_compactly_and_none_as_nothing() {
    assert_eq!(Rules::OFF.to_stored(), None);
    let all = Rules {
        failures: Some(3),
        failure_rate: Some(FailureRate {
            percent: 50,
            window: 10,
        }),
        max_run_secs: Some(60),
        start_grace_secs: Some(61),
        min_run_secs: Some(1),
        unusual_run: Some(UnusualRun {
            tenths: 25,
            samples: 5,
        }),
    };
    let stored = all.to_stored().expect("something");
    assert_eq!(
        stored,
        r#"{"v":1,"failures":3,"failure_rate":{"percent":50,"window":10},"max_run_secs":60,"start_grace_secs":61,"min_run_secs":1,"unusual_run":{"tenths":25,"samples":5}}"#
    );
    assert_eq!(Rules::from_stored(&stored), Some(all));
    assert_eq!(
        row(3).to_stored().as_deref().and_then(Rules::from_stored),
        Some(row(3))
    );
    for foreign in ["", "{}", r#"{"v":2}"#, r#"{"v":1,"of_the_future":1}"#, "[]"] {
        assert_eq!(Rules::from_stored(foreign), None, "{foreign}");
    }
    for foreign in ["{}", r#"{"v":2}"#, r#"{"v":1,"outcomes":"x"}"#] {
        assert_eq!(Recent::from_stored(foreign), None, "{foreign}");
    }
}

#[test]
fn a_least_that_is_no_less_than_the_most_is_a_contradiction() {
    let rules = |least, most| Rules {
        max_run_secs: most,
        ..min_run(least)
    };
    assert_eq!(rules(60, None).contradiction(), None);
    assert_eq!(rules(59, Some(60)).contradiction(), None);
    assert_eq!(
        rules(60, Some(60)).contradiction().map(|(rule, _)| rule),
        Some("min_run_secs")
    );
}

/// Every story of five turns, under rules that all have something to say: what must hold whatever happened.
#[test]
fn whatever_happens_a_check_that_is_up_waits_for_something_and_a_plain_success_brings_any_check_up() {
    let rules = Rules {
        failures: Some(2),
        failure_rate: Some(FailureRate {
            percent: 60,
            window: 4,
        }),
        max_run_secs: Some(100),
        start_grace_secs: Some(50),
        min_run_secs: Some(90),
        unusual_run: Some(UnusualRun {
            tenths: 20,
            samples: 3,
        }),
    };
    let turns = [
        Start(None),
        Start(Some(1)),
        Success(None),
        Success(Some(1)),
        Fail,
        Pause,
        Resume,
        Sweep,
    ];
    for number in 0..turns.len().pow(5) {
        let story: Vec<(i64, What)> = (0_i64..5)
            .map(|n| (n * 85, turns[number / turns.len().pow(n as u32) % turns.len()]))
            .collect();
        let told = tell(rules, &story);
        let state = &told.state;
        assert!(
            state.status == Status::Up || state.recent.outcomes.is_empty(),
            "{story:?}"
        );
        assert!(state.status != Status::Up || told.deadline.is_some(), "{story:?}");
        assert!(
            state.status != Status::Down || told.deadline.is_none(),
            "{story:?}"
        );
        let mut good = story.clone();
        // An id that no start has had: nothing is known of its length.
        good.push((5 * 85, Success(Some(9))));
        assert_eq!(tell(rules, &good).state.status, Status::Up, "{story:?}");
    }
}
