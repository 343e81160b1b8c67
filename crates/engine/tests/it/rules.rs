//! Checks with rules: what pings and sweeps make of them, through batches and rows.

use allswell_core::check::{Check, Rules, Status, UnusualRun};
use allswell_core::flip::Reason;
use allswell_core::schedule::Zones;
use allswell_core::signal::Action;
use allswell_core::time::{Span, Timestamp};
use allswell_engine::Due;
use allswell_engine::ingest::Arrival;
use allswell_engine::pending::Pending;
use allswell_engine::sweep::Sweep;

use crate::kit::{House, NOW, after, settle, to};

fn sweep(house: &mut House) -> Sweep {
    let dice = house.dice.fork();
    Sweep::new(
        house.store.clone(),
        house.dice.id(),
        dice,
        Zones::Bundled,
        Pending::default(),
        house.deliver.clone(),
        house.meters.clone(),
    )
}

fn with(rules: Rules) -> impl FnOnce(&mut Check) {
    move |check| check.settings.rules = rules
}

const DAY: i64 = 86_400;

#[tokio::test]
async fn a_late_start_and_a_long_run_are_found_at_their_instants() {
    let rules = Rules {
        start_grace_secs: Some(300),
        max_run_secs: Some(120),
        ..Rules::OFF
    };
    let mut house = House::in_memory().await;
    let (slow, absent) = (house.check(with(rules)).await, house.check(with(rules)).await);
    let sweep = sweep(&mut house);
    for id in [slow, absent] {
        house.ping(id, Action::Success, NOW).await.expect("a ping");
        assert_eq!(house.read(id).await.deadline, Some(after(DAY + 300)));
    }
    // The run is awaited before the start was: the wake-up moves to it.
    house
        .ping(slow, Action::Start, after(DAY + 100))
        .await
        .expect("a ping");
    assert_eq!(house.read(slow).await.deadline, Some(after(DAY + 220)));
    house.stay_awake(NOW, after(DAY + 219)).await;
    let (due, _) = settle(&sweep, after(DAY + 219)).await;
    assert_eq!(due, Due::At(after(DAY + 220)));
    house.stay_awake(after(DAY + 219), after(DAY + 400)).await;
    settle(&sweep, after(DAY + 400)).await;
    let told = house.flips(slow).await;
    assert_eq!((told[0].to, told[0].at), (Status::Down, after(DAY + 220)));
    let reason = Reason::MaxRun {
        started: after(DAY + 100).as_micros(),
        limit: 120,
        moved_from: None,
    };
    assert_eq!(told[0].reason, reason);
    let told = house.flips(absent).await;
    assert_eq!((told[0].to, told[0].at), (Status::Down, after(DAY + 300)));
    let reason = Reason::LateStart {
        expected: after(DAY).as_micros(),
        limit: 300,
        moved_from: None,
    };
    assert_eq!(told[0].reason, reason);
}

#[tokio::test]
async fn failures_are_counted_over_batches_and_within_one() {
    let rules = Rules {
        failures: Some(3),
        ..Rules::OFF
    };
    let mut house = House::in_memory().await;
    let (counted, plain) = (house.check(with(rules)).await, house.check(|_| {}).await);
    let arrival = |id, action, at: Timestamp| Arrival { action, at, ..to(id) };
    house
        .in_one_batch(vec![
            arrival(counted, Action::Success, after(1)),
            arrival(plain, Action::Success, after(1)),
            arrival(counted, Action::Fail, after(2)),
        ])
        .await;
    house
        .ping(counted, Action::Exit(1), after(3))
        .await
        .expect("a ping");
    assert_eq!(
        house.read(counted).await.state.recent.outcomes,
        [false, true, true]
    );
    house
        .in_one_batch(vec![
            arrival(counted, Action::Fail, after(4)),
            arrival(plain, Action::Fail, after(4)),
            arrival(counted, Action::Fail, after(5)),
        ])
        .await;
    let told = house.flips(counted).await;
    assert_eq!((told.len(), told[0].to, told[0].at), (2, Status::Down, after(4)));
    assert!(matches!(
        told[0].reason,
        Reason::Failures {
            failures: 3,
            ping: 4,
            ..
        }
    ));
    let plain = house.flips(plain).await;
    assert!(matches!(plain[0].reason, Reason::Fail { .. }));
}

#[tokio::test]
async fn what_is_usual_is_learnt_from_the_runs_before() {
    let rules = Rules {
        unusual_run: Some(UnusualRun {
            tenths: 30,
            samples: 3,
        }),
        ..Rules::OFF
    };
    let mut house = House::in_memory().await;
    let id = house.check(with(rules)).await;
    for n in 0..3 {
        house
            .ping(id, Action::Start, after(n * 1_000))
            .await
            .expect("a ping");
        house
            .ping(id, Action::Success, after(n * 1_000 + 60))
            .await
            .expect("a ping");
    }
    assert_eq!(house.read(id).await.state.recent.runs, [Span::from_secs(60); 3]);
    house.ping(id, Action::Start, after(3_000)).await.expect("a ping");
    assert_eq!(house.read(id).await.deadline, Some(after(3_180)));
    house.stay_awake(NOW, after(3_200)).await;
    let sweep = sweep(&mut house);
    settle(&sweep, after(3_200)).await;
    let told = house.flips(id).await;
    assert_eq!(told[0].at, after(3_180));
    assert!(matches!(
        told[0].reason,
        Reason::UnusualRun {
            usual_ms: 60_000,
            runs: 3,
            ..
        }
    ));
}
