//! How long one search takes: medians for expressions of every kind, and for the worst we could think of.
//!
//! `cargo run --release --example pace`

#![allow(clippy::disallowed_methods, reason = "it measures")]

use std::time::{Duration, Instant};

use allswell_core::check::{Event, Plan, State, decide};
use allswell_core::schedule::Schedule;
use allswell_core::signal::{Cause, Kind, Signal};
use allswell_core::time::{Span, Timestamp};

const SECOND: i64 = 1_000_000;

fn median(mut samples: Vec<Duration>) -> Duration {
    samples.sort();
    samples[samples.len() / 2]
}

fn main() {
    let typical = [
        ("*/5 * * * *", "UTC"),
        ("*/5 * * * *", "Europe/Riga"),
        ("* * * * *", "Australia/Lord_Howe"),
        ("30 2 * * *", "America/New_York"),
        ("0 9-17 * * MON-FRI", "Asia/Tokyo"),
        ("0 0 29 2 *", "Europe/Riga"),
        ("0 0 L * *", "Africa/Casablanca"),
        ("Mon..Fri 09:30", "Europe/Riga"),
        ("*-*-* *:0/5", "America/Havana"),
        ("*-*~1 23:59:59", "Europe/Riga"),
        ("08:00\n12:00\n20:00 America/New_York", "Europe/Riga"),
    ];
    let worst = [
        ("0 0 29 2 1", "Europe/Riga"),
        ("0 0 */15 2 5#5", "Europe/Riga"),
        ("* * 29 2 *", "Africa/Casablanca"),
        ("* * */29 2 MON", "Africa/Casablanca"),
        ("0 0 */29 2 1#1,2#2,3#3,4#4,5#5,6L,0L", "America/Santiago"),
        ("* 0 */28 2 MON", "Asia/Beirut"),
        ("Fri *-2-29", "Europe/Riga"),
        ("*-2-30", "Europe/Riga"),
        ("*-*~31", "Europe/Riga"),
        ("2199-12-31 23:59:59", "Africa/Casablanca"),
        ("Sun *-3-25..31 3:*:*", "Europe/Riga"),
        (
            "Sun *-3-25..31 3:30\nSun *-3-25..31 3:3\nSun *-3-25..31 3:4\nSun *-3-25..31 3:5\nSun *-3-25..31 3:6",
            "Europe/Riga",
        ),
        ("Sun *-9~1..7 3:*", "Pacific/Chatham"),
        (
            "2-30\n2-30\n2-30\n2-30\n2-30\n2-30\n2-30\n2-30\n2-30\n2-30\n2-30\n2-30\n2-30\n2-30\n2-30\n2-30\n99-1-1\n2199-1-1",
            "Africa/Casablanca",
        ),
        (
            "Wed 2-29\nWed 2-29\nWed 2-29\nWed 2-29\nWed 2-29\nWed 2-29\nWed 2-29\nWed 2-29\nWed 2-29\nWed 2-29\n2199-1-1",
            "Africa/Casablanca",
        ),
    ];
    let hours = 24 * 365 * 40;
    for (label, group) in [("typical", &typical[..]), ("worst", &worst[..])] {
        for (expression, zone) in group {
            let parsed = Instant::now();
            let schedule = Schedule::parse(expression, zone);
            let first_parse = parsed.elapsed();
            let parse = median(
                (0..200)
                    .map(|_| {
                        let t = Instant::now();
                        std::hint::black_box(Schedule::parse(expression, zone)).ok();
                        t.elapsed()
                    })
                    .collect(),
            );
            let Ok(schedule) = schedule else {
                println!("{label:8} {expression:30.40?} {zone:20} refused in {parse:?}");
                continue;
            };
            // Starts spread over forty years, so that changes of the clock and long waits are met.
            let samples: Vec<Duration> = (0..2000)
                .map(|n| {
                    let after =
                        Timestamp::from_micros((946_684_800 + n * hours / 2000 * 3600 + 977) * SECOND);
                    let start = Instant::now();
                    std::hint::black_box(schedule.next_after(after));
                    start.elapsed()
                })
                .collect();
            let most = samples.iter().max().copied().unwrap_or_default();
            println!(
                "{label:8} {expression:30.40?} {zone:20} next {:>10?} most {most:>10?} parse {parse:>10?} (first {first_parse:?})",
                median(samples)
            );
        }
    }

    let zones = [
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
    for expression in [
        "*/5 * * * *",
        "0,5,10,15,20,25,30,35,40,45,50,55 0-23 * * *",
        "*:0/5",
    ] {
        let start = Instant::now();
        let mut count = 0;
        for zone in zones {
            let schedule = Schedule::parse(expression, zone).expect("good");
            let mut at = Timestamp::from_micros(1_704_067_200 * SECOND);
            while at.as_micros() < 1_735_689_600 * SECOND {
                at = schedule.next_after(at).expect("without end");
                count += 1;
            }
        }
        println!(
            "a year of {expression:?} in ten zones: {count} times in {:?}",
            start.elapsed()
        );
    }

    // The same year as the core sees it: a ping on time, every time, decided.
    let start = Instant::now();
    let (mut decisions, mut flips) = (0, 0);
    for zone in zones {
        let schedule = Schedule::parse("*/5 * * * *", zone).expect("good");
        let plan = Plan::plain(schedule, Span::from_secs(60));
        let mut now = Timestamp::from_micros(1_704_067_200 * SECOND);
        let mut state = State::new(now);
        while now.as_micros() < 1_735_689_600 * SECOND {
            let signal = Signal {
                kind: Kind::Success,
                cause: Cause::Address,
            };
            let decision = decide(&plan, &state, Event::Signal { signal, rid: None }, now);
            decisions += 1;
            flips += usize::from(decision.flip.is_some());
            now = decision.deadline.expect("it is up") - plan.grace;
            state = decision.state;
        }
    }
    println!(
        "a year of a five-minute check in ten zones: {decisions} decisions in {:?}",
        start.elapsed()
    );
    assert_eq!(flips, zones.len(), "each check comes up once and stays up");
}
