//! Our own absence: while we were away nobody could report in, so that time is not held against anybody
//! (DECISIONS 11 is the source of the rules; ARCHITECTURE.md tells them).
//!
//! A check whose deadline fell into an absence gets a new one after our return. What it is given is counted in time that
//! we were awake, so that restarting again and again excuses nobody for ever.

use crate::check::{Awaited, Plan, State, Status};
use crate::schedule::Schedule;
use crate::time::{Span, Timestamp};

/// Shorter ones count for nothing: a restart is no absence.
pub const ABSENCE_MIN: Span = Span::from_secs(60);
/// How often a node says that it is awake; well below what counts as an absence.
pub const MARK_EVERY: Span = Span::from_secs(15);
/// How much the clocks of nodes may differ. What is noted for later than that was noted by a clock that was wrong.
pub const CLOCKS_DIFFER: Span = Span::from_secs(60);
/// The least that a check is given after our return.
const EXCUSED_MIN: Span = Span::from_secs(60);
/// The shortest time there is.
const INSTANT: Span = Span::from_micros(1);

/// A time in which nobody swept: no node of the instance was awake.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Absence {
    /// The last sign of life before it.
    pub from: Timestamp,
    /// The first one after it.
    pub to: Timestamp,
}

impl Absence {
    /// The absence between two signs of life, if it is long enough to count.
    pub fn between(last: Timestamp, now: Timestamp) -> Option<Self> {
        (now - last > ABSENCE_MIN).then_some(Absence { from: last, to: now })
    }
}

/// Each absence (oldest first) as far as no other before it covers the same time.
fn apart(absences: &[Absence]) -> impl Iterator<Item = Absence> {
    absences
        .iter()
        .scan(Timestamp::from_micros(i64::MIN), |covered, absence| {
            let from = absence.from.max(*covered);
            *covered = absence.to.max(*covered);
            Some(Absence { from, ..*absence })
        })
}

/// When time is over that began at `from` and was to end at `until`, if only that counts in which somebody of us was awake.
/// `absences` are the oldest first.
pub fn lengthened(from: Timestamp, until: Timestamp, absences: &[Absence]) -> Timestamp {
    apart(absences).fold(until, |until, absence| {
        if absence.from >= until {
            return until;
        }
        until + (absence.to - absence.from.max(from)).max(Span::ZERO)
    })
}

/// How long somebody of us was awake from `from` to `to`; `absences` are the oldest first.
pub fn awake_for(from: Timestamp, to: Timestamp, absences: &[Absence]) -> Span {
    let begin = apart(absences).fold(from, |begin, absence| {
        begin + (absence.to.min(to) - absence.from.max(from)).max(Span::ZERO)
    });
    to - begin
}

/// The deadline after these absences (oldest first): the given one, if it fell into none.
///
/// The first absence that swallows a deadline gives the check its grace anew, or the limit that a rule set in place of
/// it, at least a minute and at most a period.
/// A later one gives back only what was left of that when we went away again. The time from our last sign of life to
/// our end is not known: it counts as awake, or a server that never lives long enough for a second sign would excuse
/// everybody for ever. If nothing was left it is given an instant, so that its deadline lies behind that absence, and no
/// later look takes the absence for one that swallows it.
pub fn excused(
    plan: &Plan,
    awaited: &Awaited,
    deadline: Timestamp,
    already_excused: bool,
    absences: &[Absence],
) -> Timestamp {
    let mut excused = already_excused;
    absences.iter().fold(deadline, |deadline, absence| {
        let used_up = excused && deadline <= absence.from + INSTANT;
        if used_up || deadline <= absence.from || deadline > absence.to {
            return deadline;
        }
        let given = if excused {
            (deadline - (absence.from + MARK_EVERY)).max(INSTANT)
        } else {
            allowance(plan, awaited)
        };
        excused = true;
        absence.to + given
    })
}

fn allowance(plan: &Plan, awaited: &Awaited) -> Span {
    let period = match &plan.schedule {
        Schedule::Period(period) => *period,
        // The distance to the time after the one that was missed.
        schedule => {
            let expected = awaited.expected;
            schedule
                .next_after(expected)
                .map_or(awaited.limit, |next| next - expected)
        }
    };
    awaited.limit.min(period).max(EXCUSED_MIN)
}

/// The state as it can be known at `now`, if part of it lies in time to come: the clock was set back since. Without this
/// a check heard of by a clock that was a year ahead could be silent for a year before anybody noticed.
///
/// What was heard then is heard now. Time that was given is taken back if no absence that has ended can have given so
/// much; the deadline by schedule then counts again. `status_since` stays, since a flip bears it.
pub fn brought_back(plan: &Plan, state: &State, now: Timestamp) -> Option<State> {
    let ahead = now + CLOCKS_DIFFER;
    let known = |at: Timestamp| if at > ahead { now } else { at };
    let mut back = State {
        last_ping: state.last_ping.map(known),
        last_start: state.last_start.map(known),
        last_alive: state.last_alive.map(known),
        last_success: state.last_success.map(known),
        // Of a check that is paused it is an instant to come by somebody's will.
        paused_until: match state.status {
            Status::Paused => state.paused_until,
            _ => state.paused_until.map(known),
        },
        ..state.clone()
    };
    if let (Some(until), Some(awaited)) = (back.excused_until, back.awaited(plan))
        && until > ahead + allowance(plan, &awaited)
    {
        back.excused_until = None;
    }
    (back != *state).then_some(back)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: i64) -> Timestamp {
        Timestamp::from_secs(secs)
    }

    fn away(from: i64, to: i64) -> Absence {
        Absence {
            from: at(from),
            to: at(to),
        }
    }

    fn plan(period: i64, grace: i64) -> Plan {
        Plan::plain(Schedule::Period(Span::from_secs(period)), Span::from_secs(grace))
    }

    /// For a deadline by the schedule and the grace.
    fn excused(plan: &Plan, deadline: Timestamp, already_excused: bool, absences: &[Absence]) -> Timestamp {
        let awaited = Awaited::by_grace(plan, deadline);
        super::excused(plan, &awaited, deadline, already_excused, absences)
    }

    #[test]
    fn a_restart_is_no_absence() {
        assert_eq!(Absence::between(at(0), at(60)), None);
        assert_eq!(Absence::between(at(0), at(61)), Some(away(0, 61)));
        assert_eq!(Absence::between(at(100), at(0)), None, "a clock set back");
    }

    #[test]
    fn only_time_in_which_we_were_awake_counts() {
        let none: &[Absence] = &[];
        let table: [(&str, &[Absence], i64, i64); 9] = [
            ("never away", none, 2_000, 1_000),
            ("before it", &[away(100, 900)], 2_000, 1_000),
            ("until it began", &[away(100, 1_000)], 2_000, 1_000),
            ("when it began", &[away(500, 1_500)], 2_500, 500),
            ("within it", &[away(1_200, 1_500)], 2_300, 700),
            ("beyond its end", &[away(1_900, 9_000)], 9_100, 900),
            ("from its end on", &[away(2_000, 9_000)], 2_000, 1_000),
            (
                "in what was given",
                &[away(1_200, 1_900), away(2_500, 3_000)],
                3_200,
                300,
            ),
            (
                "twice at once",
                &[away(1_100, 1_500), away(1_200, 1_600)],
                2_500,
                500,
            ),
        ];
        for (when, absences, over, awake) in table {
            assert_eq!(lengthened(at(1_000), at(2_000), absences), at(over), "{when}");
            let awake_for = awake_for(at(1_000), at(2_000), absences);
            assert_eq!(awake_for, Span::from_secs(awake), "{when}");
        }
    }

    #[test]
    fn only_a_deadline_within_an_absence_moves() {
        let plan = plan(3_600, 600);
        for (deadline, after) in [
            (99, 99),
            (100, 100),
            (101, 10_600),
            (10_000, 10_600),
            (10_001, 10_001),
        ] {
            assert_eq!(
                excused(&plan, at(deadline), false, &[away(100, 10_000)]),
                at(after),
                "{deadline}"
            );
        }
    }

    #[test]
    fn what_is_given_is_the_grace_at_least_a_minute_and_at_most_a_period() {
        for (period, grace, given) in [(3_600, 600, 600), (300, 3_600, 300), (30, 20, 60), (60, 90, 60)] {
            let after = excused(&plan(period, grace), at(500), false, &[away(100, 1_000)]);
            assert_eq!(after, at(1_000 + given), "{period} {grace}");
        }
    }

    #[test]
    fn going_away_again_gives_back_only_what_was_left() {
        let plan = plan(3_600, 600);
        // Back at 1,000 with 600 s given, awake for 400 of them, away again.
        assert_eq!(
            excused(&plan, at(500), false, &[away(100, 1_000), away(1_400, 9_000)]),
            at(9_185)
        );
        assert_eq!(excused(&plan, at(1_600), true, &[away(1_400, 9_000)]), at(9_185));
        assert_eq!(
            excused(&plan, at(1_405), true, &[away(1_400, 9_000)]),
            at(9_000) + INSTANT
        );
        // However often: awake for 600 s in all, and the time is over.
        let often: Vec<Absence> = (0..100)
            .map(|n| away(100 + n * 1_000, 1_000 + n * 1_000))
            .collect();
        let after = excused(&plan, at(500), false, &often);
        let lives: Vec<i64> = often
            .windows(2)
            .filter(|w| w[1].from < after)
            .map(|w| (w[1].from - w[0].to).as_secs())
            .collect();
        let unknown = MARK_EVERY.as_secs() * lives.len() as i64;
        let last = often
            .iter()
            .rev()
            .find(|absence| absence.to < after)
            .expect("one");
        assert_eq!(
            lives.iter().sum::<i64>() + unknown + (after - last.to).as_secs(),
            600
        );
    }

    #[test]
    fn signs_of_life_that_are_alone_use_up_what_was_given() {
        // A life of no length between each two absences.
        let often: Vec<Absence> = (0..100).map(|n| away(100 + n * 900, 1_000 + n * 900)).collect();
        let after = excused(&plan(3_600, 600), at(500), false, &often);
        let times = 600 / MARK_EVERY.as_secs();
        assert_eq!(after, often[times as usize].to + INSTANT);
    }

    /// A check of an hour with ten minutes of grace at 10,000: when it was heard of, when its run began, until when it
    /// is excused, and what of that is left.
    #[test]
    fn what_lies_in_time_to_come_is_known_now() {
        const NOW: i64 = 10_000;
        type Known = (Option<i64>, Option<i64>, Option<i64>);
        let given = NOW + 60 + 600;
        let cases: &[(&str, Known, Option<Known>)] = &[
            ("all is past", (Some(9_000), Some(9_500), None), None),
            (
                "clocks differ a little",
                (Some(NOW + 60), Some(NOW + 60), None),
                None,
            ),
            (
                "heard of",
                (Some(NOW + 61), None, None),
                Some((Some(NOW), None, None)),
            ),
            (
                "begun",
                (Some(9_000), Some(NOW + 7_200), None),
                Some((Some(9_000), Some(NOW), None)),
            ),
            ("a true excuse", (Some(5_000), None, Some(given)), None),
            (
                "no absence gives so much",
                (Some(5_000), None, Some(given + 1)),
                Some((Some(5_000), None, None)),
            ),
            (
                "a leap of a year",
                (
                    Some(NOW + 31_000_000),
                    Some(NOW + 31_000_000),
                    Some(NOW + 31_004_200),
                ),
                Some((Some(NOW), Some(NOW), None)),
            ),
        ];
        for (what, (ping, start, until), left) in cases {
            let state = State {
                status: Status::Up,
                last_ping: ping.map(at),
                last_start: start.map(at),
                excused_until: until.map(at),
                ping_count: 7,
                ..State::new(at(0))
            };
            let back = brought_back(&plan(3_600, 600), &state, at(NOW));
            let wanted = left.map(|(ping, start, until)| State {
                last_ping: ping.map(at),
                last_start: start.map(at),
                excused_until: until.map(at),
                ..state.clone()
            });
            assert_eq!(back, wanted, "{what}");
            // Once is enough.
            if let Some(back) = back {
                assert_eq!(brought_back(&plan(3_600, 600), &back, at(NOW)), None, "{what}");
                let latest = at(NOW) + Span::from_secs(3_600 + 600);
                assert!(
                    back.deadline(&plan(3_600, 600))
                        .is_some_and(|deadline| deadline <= latest),
                    "{what}"
                );
            }
        }
    }

    /// However the clock leapt, and whatever was noted meanwhile: a deadline is never further away than it would be had
    /// the check been heard of just now.
    #[test]
    fn a_clock_set_back_leaves_no_deadline_further_than_a_period_and_its_grace() {
        for leap in [61, 3_600, 86_400, 31_000_000] {
            for noted in [0, 1, 59, 600] {
                let state = State {
                    status: Status::Up,
                    last_ping: Some(at(50_000 + leap + noted)),
                    excused_until: (noted % 2 == 0).then(|| at(50_000 + leap + noted + 660)),
                    ..State::new(at(0))
                };
                let plan = plan(3_600, 600);
                let now = at(50_000 + noted);
                let known = brought_back(&plan, &state, now).unwrap_or(state);
                let deadline = known.deadline(&plan).expect("it is up");
                assert!(
                    deadline <= now + Span::from_secs(3_600 + 600) + CLOCKS_DIFFER,
                    "{leap} {noted}"
                );
            }
        }
    }

    /// Looked at again and again, as each sweep does: what an absence gave is not given once more.
    #[test]
    fn an_absence_that_had_nothing_left_to_give_gives_nothing_later() {
        let plan = plan(3_600, 60);
        let mut absences = vec![away(90, 200), away(247, 600)];
        let until = excused(&plan, at(100), false, &absences);
        assert_eq!(
            until,
            at(600) + INSTANT,
            "two seconds short of what counts as awake"
        );
        assert_eq!(excused(&plan, until, true, &absences), until);
        absences.push(away(600, 900));
        assert_eq!(excused(&plan, until, true, &absences), until);
    }

    #[test]
    fn a_schedule_by_expression_has_its_distance_as_period() {
        let schedule = Schedule::parse("*/5 * * * *", "UTC").expect("valid");
        let plan = Plan::plain(schedule, Span::from_secs(3_600));
        // Expected at 12:00, deadline an hour later; the time after it is five minutes on.
        let deadline = at(1_769_860_800 + 3_600);
        let absence = Absence {
            from: deadline - Span::from_secs(10),
            to: deadline + Span::from_secs(7_200),
        };
        assert_eq!(
            excused(&plan, deadline, false, &[absence]),
            absence.to + Span::from_secs(300)
        );
    }
}
