//! A clock that was ahead and is set back: what it noted meanwhile lies in time to come, and is brought to now.

use allswell_core::check::Check;
use allswell_core::id::CheckId;
use allswell_core::schedule::Zones;
use allswell_core::signal::Action;
use allswell_core::time::Span;
use allswell_engine::Due;
use allswell_engine::deliver::Rules;
use allswell_engine::loops::Step;
use allswell_engine::replan::Replan;
use allswell_engine::sweep::Sweep;

use crate::kit::{House, NOW, after, settle};
use crate::script::{Script, deliver_with, quiet};

const HOUR: i64 = 3_600;
const PERIOD: i64 = HOUR;
const GRACE: i64 = 600;
/// How far the clock was ahead.
const LEAP: i64 = 2 * HOUR;
/// Checks that one transaction looks at.
const BATCH: usize = 200;

fn node(house: &mut House) -> Sweep {
    Sweep::new(
        house.store.clone(),
        house.dice.id(),
        house.dice.fork(),
        Zones::Bundled,
        allswell_engine::pending::Pending::default(),
        house.deliver.clone(),
        house.meters.clone(),
    )
}

/// What carries the work out; the zones are known already.
async fn replan(house: &mut House) -> Replan {
    let replan = Replan::new(house.store.clone(), house.dice.fork(), Zones::Bundled);
    settle(&replan, NOW).await;
    replan
}

/// A check expected each hour, with ten minutes of grace, that pinged at this second.
async fn hourly(house: &mut House, pinged: i64) -> CheckId {
    let change = |check: &mut Check| {
        check.settings.timing.period = Span::from_secs(PERIOD);
        check.settings.grace = Span::from_secs(GRACE);
    };
    let id = house.check(change).await;
    house
        .ping(id, Action::Success, after(pinged))
        .await
        .expect("a ping");
    id
}

/// The stored wake-up of a check, in seconds after `NOW`.
async fn wakes(house: &House, id: CheckId) -> Option<i64> {
    let deadline = house.read(id).await.deadline;
    deadline.map(|at| (at - NOW).as_secs())
}

/// Marks every quarter of a minute from one second to another, both included.
async fn awake(node: &Sweep, from: i64, to: i64) {
    for now in (from..=to).step_by(15) {
        settle(node, after(now)).await;
    }
}

#[tokio::test]
async fn checks_expect_their_next_ping_as_if_the_clock_had_never_been_ahead() {
    let mut house = House::in_memory().await;
    let (node, replan) = (node(&mut house), replan(&mut house).await);
    let excused = hourly(&mut house, 0).await;
    let later = hourly(&mut house, 0).await;
    let started = hourly(&mut house, 0).await;
    let mut noise = Vec::new();
    for _ in 0..2 * BATCH {
        noise.push(hourly(&mut house, 30).await);
    }
    awake(&node, 0, 60).await;
    // For a minute it is two hours later: that looks like an absence, and one check is heard of, one begins a run.
    awake(&node, LEAP + 60, LEAP + 120).await;
    assert_eq!(wakes(&house, excused).await, Some(LEAP + 60 + GRACE));
    house
        .ping(later, Action::Success, after(LEAP + 90))
        .await
        .expect("a ping");
    house
        .ping(started, Action::Start, after(LEAP + 90))
        .await
        .expect("a ping");
    let flips = house.count("flips").await;
    awake(&node, 120, 120).await;
    assert_eq!(
        settle(&replan, after(121)).await.1,
        // Three slices, one that finds no more, and a look at the zones.
        5,
    );
    assert_eq!(wakes(&house, excused).await, Some(PERIOD + GRACE));
    assert_eq!(wakes(&house, noise[7]).await, Some(30 + PERIOD + GRACE));
    assert_eq!(wakes(&house, later).await, Some(121 + PERIOD + GRACE));
    assert_eq!(wakes(&house, started).await, Some(121 + GRACE));
    let check = house.read(started).await;
    assert_eq!(
        (check.state.last_start, check.state.excused_until),
        (Some(after(121)), None)
    );
    assert_eq!(house.count("flips").await, flips, "it is no news");

    // All that stay silent go down in the order of their deadlines, and no clock of the past holds anything up.
    awake(&node, 135, PERIOD + GRACE + 150).await;
    assert_eq!(house.metric("checks_missed_total"), 3.0 + noise.len() as f64);
}

#[tokio::test]
async fn what_is_past_is_left_alone_and_all_of_it_is_done_once() {
    let mut house = House::on_disk().await;
    let (node, replan) = (node(&mut house), replan(&mut house).await);
    let id = hourly(&mut house, 0).await;
    awake(&node, 0, 60).await;
    awake(&node, LEAP, LEAP).await;
    awake(&node, 75, 75).await;
    settle(&replan, after(76)).await;
    let before = house.read(id).await;
    assert_eq!(before.deadline, Some(after(PERIOD + GRACE)));
    awake(&node, 90, 105).await;
    let raw = house.raw();
    let version = House::data_version(&raw);
    assert_eq!(settle(&replan, after(106)).await.1, 1);
    assert_eq!(House::data_version(&raw), version, "nothing is written");
    assert_eq!(house.read(id).await, before);
}

/// The process that noticed it ends after a slice; the next one goes on behind it.
#[tokio::test]
async fn the_next_process_goes_on_where_the_last_one_was() {
    let mut house = House::in_memory().await;
    let (sweep, first) = (node(&mut house), replan(&mut house).await);
    let mut ids = Vec::new();
    for _ in 0..BATCH + 50 {
        ids.push(hourly(&mut house, LEAP).await);
    }
    awake(&sweep, LEAP, LEAP).await;
    awake(&sweep, 0, 0).await;
    assert_eq!(first.step(NOW).await.expect("a step"), Due::Now);
    drop((first, sweep));
    let (sweep, second) = (node(&mut house), another_replan(&mut house));
    awake(&sweep, 15, 15).await;
    assert_eq!(settle(&second, after(20)).await.1, 3);
    let mut at = Vec::new();
    for id in &ids {
        at.push(wakes(&house, *id).await.expect("a wake-up") - PERIOD - GRACE);
    }
    at.sort_unstable();
    assert_eq!(at[..BATCH], [0; BATCH]);
    assert_eq!(at[BATCH..], [20; 50]);
}

fn another_replan(house: &mut House) -> Replan {
    Replan::new(house.store.clone(), house.dice.fork(), Zones::Bundled)
}

/// Promised by a clock that was ahead: it must not wait until that time has come.
#[tokio::test]
async fn a_promise_for_time_to_come_is_kept_now() {
    let mut house = House::in_memory().await;
    let (node, replan) = (node(&mut house), replan(&mut house).await);
    let id = hourly(&mut house, 0).await;
    let channel = house.channel("log", true, true).await;
    house.tell(id, &[&channel]).await;
    awake(&node, LEAP, LEAP).await;
    house.ping(id, Action::Fail, after(LEAP)).await.expect("a ping");
    awake(&node, 15, 15).await;
    let script = Script::default();
    let deliver = deliver_with(&mut house, &script, Rules::default());
    quiet(&deliver, &script, after(16)).await;
    assert_eq!(house.deliveries(id).await[0].state, "ready");
    settle(&replan, after(17)).await;
    quiet(&deliver, &script, after(18)).await;
    let delivery = house.deliveries(id).await.remove(0);
    assert_eq!(
        (delivery.state.as_str(), delivery.finished_at),
        ("delivered", Some(after(18)))
    );
}
