//! New zone data moves stored wake-ups.

use allswell_core::check::{Check, Status, TimingKind};
use allswell_core::id::CheckId;
use allswell_core::schedule::Zones;
use allswell_core::time::{Span, Timestamp};
use allswell_engine::Due;
use allswell_engine::loops::Step;
use allswell_engine::replan::Replan;

use crate::kit::{House, NOW, after, settle};

/// Checks that one transaction looks at.
const BATCH: usize = 200;
const HOUR: i64 = 3_600;
/// By the old rules of the zone below, noon of the day after `NOW`, which is at noon in UTC.
const NOON_SECS: i64 = 86_400;

/// An edition in which Riga's clock is this far ahead of UTC all the year.
fn zones(hours: i32) -> Zones {
    // Version 1, no transitions, one type.
    let mut file = b"TZif\0".to_vec();
    file.extend([0; 15]);
    for count in [0u32, 0, 0, 0, 1, 4] {
        file.extend(count.to_be_bytes());
    }
    file.extend((hours * 3_600).to_be_bytes());
    file.extend([0, 0]);
    file.extend(b"EET\0");
    Zones::loaded([("Europe/Riga", file.as_slice())]).expect("zones")
}

fn replan(house: &mut House, zones: Zones) -> Replan {
    let dice = house.dice.fork();
    Replan::new(house.store.clone(), dice, zones)
}

/// A check expected at noon in Riga, without grace to speak of, that pinged a little after `NOW`; its wake-up is what a
/// clock without any offset gave.
async fn at_noon(house: &mut House) -> CheckId {
    house
        .check(|check| {
            up(check);
            check.settings.timing.kind = TimingKind::Expression;
            check.settings.timing.expression = "0 12 * * *".to_owned();
            check.settings.timing.zone = "Europe/Riga".to_owned();
            check.settings.grace = Span::from_secs(60);
            check.deadline = Some(after(NOON_SECS + 60));
        })
        .await
}

fn up(check: &mut Check) {
    check.state.status = Status::Up;
    check.state.last_ping = Some(after(1));
    check.state.ping_count = 1;
}

/// The stored wake-up at noon of a clock that is this far ahead.
fn noon(hours: i64) -> Option<Timestamp> {
    Some(after(NOON_SECS - hours * HOUR + 60))
}

/// Stored wake-ups and versions.
async fn stored(house: &House, ids: &[CheckId]) -> Vec<(Option<Timestamp>, i64)> {
    let mut stored = Vec::new();
    for id in ids {
        let check = house.read(*id).await;
        stored.push((check.deadline, check.version));
    }
    stored
}

fn rest(now: Timestamp) -> Due {
    Due::At(now + Span::from_secs(HOUR))
}

#[tokio::test]
async fn new_zone_data_moves_the_wake_ups_of_expressions_in_slices() {
    let mut house = House::in_memory().await;
    let mut ids = Vec::new();
    for _ in 0..2 * BATCH + 50 {
        ids.push(at_noon(&mut house).await);
    }
    let replan = replan(&mut house, zones(2));
    let mut moved = Vec::new();
    for due in [Due::Now, Due::Now, Due::Now, rest(after(10))] {
        assert_eq!(replan.step(after(10)).await.expect("a step"), due);
        let stored = stored(&house, &ids).await;
        moved.push(stored.iter().filter(|stored| **stored == (noon(2), 2)).count());
    }
    assert_eq!(moved, [BATCH, 2 * BATCH, 2 * BATCH + 50, 2 * BATCH + 50]);
    assert_eq!(house.count("flips").await, 0, "a new wake-up is no news");
}

#[tokio::test]
async fn what_has_no_expression_or_waits_for_nothing_keeps_its_wake_up() {
    let mut house = House::in_memory().await;
    let by_period = house
        .check(|check| {
            up(check);
            // The zone of an expression that is not in force.
            check.settings.timing.zone = "Europe/Riga".to_owned();
            // Earlier than it need be, as a stored wake-up may be.
            check.deadline = Some(after(500));
        })
        .await;
    let deleted = at_noon(&mut house).await;
    let scope = house.scope();
    let delete = house
        .store
        .write(async move |tx| tx.check_delete(scope, deleted, NOW).await);
    assert!(delete.await.expect("a delete"));
    let mut waiting_for_nothing = Vec::new();
    for status in [Status::New, Status::Down, Status::Paused] {
        let id = house
            .check(|check| {
                check.settings.timing.kind = TimingKind::Expression;
                check.settings.timing.zone = "Europe/Riga".to_owned();
                check.state.status = status;
            })
            .await;
        waiting_for_nothing.push(id);
    }
    let before = house.read(by_period).await;
    let replan = replan(&mut house, zones(2));
    assert_eq!(settle(&replan, after(10)).await.0, rest(after(10)));
    assert_eq!(house.read(by_period).await, before);
    for id in waiting_for_nothing {
        assert_eq!(house.read(id).await.deadline, None);
    }
}

#[tokio::test]
async fn with_a_known_edition_nothing_is_written() {
    let mut house = House::on_disk().await;
    let id = at_noon(&mut house).await;
    settle(&replan(&mut house, zones(2)), after(10)).await;
    assert_eq!(stored(&house, &[id]).await, [(noon(2), 2)]);
    let raw = house.raw();
    let version = House::data_version(&raw);
    // This program's next start with the same files, and an hour later.
    let replan = replan(&mut house, zones(2));
    for now in [20, 20 + HOUR] {
        assert_eq!(replan.step(after(now)).await.expect("a step"), rest(after(now)));
    }
    assert_eq!(House::data_version(&raw), version);
    assert_eq!(stored(&house, &[id]).await, [(noon(2), 2)]);
}

/// The process ends after a slice; the next one goes on behind it, and looks at no check twice.
#[tokio::test]
async fn work_that_was_stopped_in_the_middle_goes_on_where_it_was() {
    let mut house = House::in_memory().await;
    let mut ids = Vec::new();
    for _ in 0..BATCH + 50 {
        ids.push(at_noon(&mut house).await);
    }
    let first = replan(&mut house, zones(2));
    assert_eq!(first.step(after(10)).await.expect("a step"), Due::Now);
    drop(first);
    let second = replan(&mut house, zones(2));
    assert_eq!(settle(&second, after(20)).await, (rest(after(20)), 2));
    assert_eq!(stored(&house, &ids).await, vec![(noon(2), 2); BATCH + 50]);
}

/// Stopped in the middle, and the next process comes with other rules: those hold for everybody in the end.
#[tokio::test]
async fn work_for_another_edition_begins_anew() {
    let mut house = House::in_memory().await;
    let mut ids = Vec::new();
    for _ in 0..BATCH + 50 {
        ids.push(at_noon(&mut house).await);
    }
    let first = replan(&mut house, zones(2));
    assert_eq!(first.step(after(10)).await.expect("a step"), Due::Now);
    settle(&replan(&mut house, zones(3)), after(20)).await;
    let wake_ups: Vec<_> = stored(&house, &ids).await.into_iter().map(|(at, _)| at).collect();
    assert_eq!(wake_ups, vec![noon(3); BATCH + 50]);
    // And back to what it was begun for at first.
    settle(&replan(&mut house, zones(2)), after(30)).await;
    let wake_ups: Vec<_> = stored(&house, &ids).await.into_iter().map(|(at, _)| at).collect();
    assert_eq!(wake_ups, vec![noon(2); BATCH + 50]);
}

/// By the new rules it is overdue already: the sweep finds it at once. One whose zone is gone is looked at, too.
#[tokio::test]
async fn a_wake_up_may_move_into_the_past_and_a_zone_may_be_gone() {
    let mut house = House::in_memory().await;
    let riga = at_noon(&mut house).await;
    let gone = house
        .check(|check| {
            up(check);
            check.settings.timing.kind = TimingKind::Expression;
            check.settings.timing.zone = "Europe/Oslo".to_owned();
            check.deadline = Some(after(10 * 86_400));
        })
        .await;
    let now = after(NOON_SECS - HOUR);
    settle(&replan(&mut house, zones(2)), now).await;
    let check = house.read(riga).await;
    assert_eq!((check.state.status, check.deadline), (Status::Up, noon(2)));
    assert!(check.deadline < Some(now));
    let check = house.read(gone).await;
    assert_eq!(check.state.status, Status::Up);
    assert!(check.deadline <= Some(now + Span::from_secs(HOUR)), "{check:?}");
}
