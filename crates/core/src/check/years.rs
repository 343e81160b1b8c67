//! Years of checks, folded through `decide` with nothing else around it: jobs that mostly report in, schedules of every
//! kind, zones with all their changes of the clock.
//!
//! What must come out is worked out directly from the instants of the pings: between two of them the check goes down if
//! and only if the time after the first one, and the grace, pass before the second.

use std::sync::Arc;

use super::{Event, Plan, State, Status, decide};
use crate::chance::Dice;
use crate::flip::Flip;
use crate::schedule::Schedule;
use crate::signal::{Cause, Kind, Signal};
use crate::time::{Span, Timestamp};

const ZONES: [&str; 10] = [
    "UTC",
    "Europe/Riga",
    "America/New_York",
    "Asia/Tokyo",
    "Australia/Lord_Howe",
    "Africa/Casablanca",
    "Antarctica/Troll",
    "America/Havana",
    "America/St_Johns",
    "Asia/Gaza",
];
const DAY: i64 = 86_400;
/// 2010-01-01 00:00 UTC.
const START: i64 = 1_262_304_000;

/// When a job reports in: mostly soon after its time, sometimes late, sometimes not at all, sometimes once too often.
fn pings(plan: &Plan, until: Timestamp, dice: &mut Dice) -> Vec<Timestamp> {
    let mut pings = Vec::new();
    let mut due = Timestamp::from_secs(START);
    let grace = u32::try_from(plan.grace.as_secs()).expect("a short grace");
    while let Some(next) = plan.schedule.next_after(due).filter(|next| *next < until) {
        due = next;
        // Never in the very instant of a deadline: who is first then is not the question here.
        let within = |dice: &mut Dice, secs| Span::from_micros(i64::from(dice.below(secs)) * 1_000_000 + 17);
        match dice.below(200) {
            0..3 => {}
            3..6 => pings.push(due + within(dice, grace * 4)),
            6..9 => pings.extend([due + within(dice, grace), due + within(dice, grace)]),
            _ => pings.push(due + within(dice, grace)),
        }
    }
    pings.sort();
    pings
}

/// The changes of status that pings at these instants give, until `until`.
fn expected(plan: &Plan, pings: &[Timestamp], until: Timestamp) -> Vec<(Status, Status, Timestamp)> {
    let mut flips = Vec::new();
    let mut down = false;
    for (index, ping) in pings.iter().enumerate() {
        if index == 0 {
            flips.push((Status::New, Status::Up, *ping));
        } else if down {
            flips.push((Status::Down, Status::Up, *ping));
        }
        let next = pings.get(index + 1).copied().unwrap_or(until);
        let deadline = plan.schedule.next_after(*ping).map(|at| at + plan.grace);
        down = deadline.is_some_and(|deadline| deadline < next);
        if let Some(deadline) = deadline.filter(|_| down) {
            flips.push((Status::Up, Status::Down, deadline));
        }
    }
    flips
}

/// Folds pings and sweeps; the sweep looks before each ping, sometimes more often, and always late.
fn folded(plan: &Plan, pings: &[Timestamp], until: Timestamp, dice: &mut Dice) -> Vec<Flip> {
    let mut state = State::new(Timestamp::from_secs(START));
    let mut flips = Vec::new();
    let mut step = |state: &mut State, event: Event, now: Timestamp| {
        let decision = decide(plan, state, event, now);
        *state = decision.state;
        flips.extend(decision.flip);
    };
    let swept = || Event::Deadline {
        absences: Arc::new([]),
    };
    let success = || Event::Signal {
        signal: Signal {
            kind: Kind::Success,
            cause: Cause::Address,
        },
        rid: None,
    };
    let mut before = Timestamp::from_secs(START);
    for ping in pings.iter().copied().chain([until]) {
        if dice.below(4) == 0 {
            let between = (ping - before).as_secs().clamp(1, i64::from(u32::MAX));
            let secs = i64::from(dice.below(u32::try_from(between).expect("clamped")));
            step(&mut state, swept(), before + Span::from_secs(secs));
        }
        step(&mut state, swept(), ping - Span::from_micros(1));
        if ping < until {
            step(&mut state, success(), ping);
        }
        before = ping;
    }
    flips
}

/// Compares a time of this many days; gives the number of pings and flips.
fn live(schedule: Schedule, grace: i64, days: i64, seed: u64) -> (usize, usize) {
    let plan = Plan::plain(schedule, Span::from_secs(grace));
    let mut dice = Dice::from_number(seed);
    let until = Timestamp::from_secs(START + days * DAY);
    let pings = pings(&plan, until, &mut dice);
    let flips = folded(&plan, &pings, until, &mut dice);
    let seen: Vec<_> = flips.iter().map(|flip| (flip.from, flip.to, flip.at)).collect();
    let wanted = expected(&plan, &pings, until);
    let differs = seen.iter().zip(&wanted).position(|(seen, wanted)| seen != wanted);
    assert!(
        differs.is_none() && seen.len() == wanted.len(),
        "{:?}, seed {seed}: flip {differs:?} of {}, {} were expected: {:?}, and not {:?}",
        plan.schedule,
        seen.len(),
        wanted.len(),
        differs.map(|n| seen[n]),
        differs.map(|n| wanted[n])
    );
    let numbered = flips.iter().zip(1..).all(|(flip, n)| flip.seq == n);
    assert!(numbered, "seed {seed}: flips are numbered without gaps");
    (pings.len(), flips.len())
}

#[test]
fn forty_years_of_nightly_jobs_in_ten_zones_flip_where_they_must() {
    for (index, zone) in ZONES.into_iter().enumerate() {
        for (n, expression) in ["30 2 * * *", "Sun *-*-* 03:15"].into_iter().enumerate() {
            let schedule = Schedule::parse(expression, zone).expect("valid");
            let (pings, flips) = live(schedule, 3_600, 40 * 365, (index * 10 + n) as u64);
            assert!(
                pings > 2_000 && flips > 50,
                "{expression} in {zone}: {pings} pings, {flips} flips"
            );
        }
    }
}

#[test]
fn a_year_of_hourly_jobs_in_ten_zones_flip_where_they_must() {
    for (index, zone) in ZONES.into_iter().enumerate() {
        let schedule = Schedule::parse("12 * * * *", zone).expect("valid");
        let (pings, flips) = live(schedule, 600, 365, 100 + index as u64);
        assert!(
            pings > 8_000 && flips > 250,
            "{zone}: {pings} pings, {flips} flips"
        );
    }
}

#[test]
fn a_year_of_a_five_minute_check_flips_where_it_must() {
    let schedule = Schedule::Period(Span::from_secs(300));
    let (pings, flips) = live(schedule, 90, 365, 200);
    assert!(pings > 100_000 && flips > 3_000, "{pings} pings, {flips} flips");
}
