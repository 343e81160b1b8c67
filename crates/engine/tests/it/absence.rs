//! Our own absence is not their silence. The time of these stories is played by steps: a node that is awake steps where
//! its sweep says that it is due, and one that is away does not.

use allswell_core::absence::Absence;
use allswell_core::check::{Check, Status};
use allswell_core::flip::{Flip, Reason};
use allswell_core::id::CheckId;
use allswell_core::schedule::Zones;
use allswell_core::signal::Action;
use allswell_core::time::Span;
use allswell_engine::Due;
use allswell_engine::loops::Step;
use allswell_engine::sweep::Sweep;
use allswell_store::Error;

use crate::kit::{House, NOW, SYSTEM, after, settle, to};

const HOUR: i64 = 3_600;
const DAY: i64 = 86_400;
const PERIOD: i64 = HOUR;
const GRACE: i64 = 600;

/// A node that has just started.
fn node(house: &mut House) -> Sweep {
    let dice = house.dice.fork();
    Sweep::new(
        house.store.clone(),
        house.dice.id(),
        dice,
        Zones::Bundled,
        allswell_engine::pending::Pending::default(),
        house.deliver.clone(),
        house.meters.clone(),
    )
}

/// Lets nodes sweep whenever they want to, from one second to another, both included.
async fn awake(nodes: &[&Sweep], from: i64, to: i64) {
    let mut now = after(from);
    while now < after(to) {
        let mut next = after(to);
        for node in nodes {
            match settle(*node, now).await.0 {
                Due::At(at) => next = next.min(at),
                due => panic!("a sweep always marks again: {due:?}"),
            }
        }
        assert!(next > now, "time stands still");
        now = next;
    }
    for node in nodes {
        settle(*node, after(to)).await;
    }
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

/// Begin and end of the absences in seconds after `NOW`, oldest first.
async fn absences(house: &House) -> Vec<(i64, i64)> {
    let read = house
        .store
        .read(async |reader| reader.absences_since(SYSTEM, NOW).await);
    let seconds = |Absence { from, to }| ((from - NOW).as_secs(), (to - NOW).as_secs());
    read.await.expect("absences").into_iter().map(seconds).collect()
}

/// The flips to down of a check.
async fn downs(house: &House, id: CheckId) -> Vec<Flip> {
    let mut flips = house.flips(id).await;
    flips.retain(|flip| flip.to == Status::Down);
    flips
}

/// The one flip to down of a check: its second, and that of the nominal deadline if it was moved.
async fn went_down(house: &House, id: CheckId) -> (i64, Option<i64>) {
    let downs = downs(house, id).await;
    assert_eq!(downs.len(), 1, "{downs:?}");
    let Reason::Timeout { moved_from, .. } = downs[0].reason else {
        panic!("it fell silent: {:?}", downs[0].reason)
    };
    let nominal = moved_from.map(|micros| (micros - NOW.as_micros()) / 1_000_000);
    ((downs[0].at - NOW).as_secs(), nominal)
}

/// A thousand checks whose deadlines all fall into our absence, and one that has really fallen silent.
#[tokio::test]
async fn a_thousand_checks_that_ping_again_after_our_return_never_go_down() {
    const CHECKS: i64 = 1_000;
    let mut house = House::in_memory().await;
    let mut ids = Vec::new();
    for n in 0..CHECKS {
        ids.push(hourly(&mut house, n % 60).await);
    }
    let silent = hourly(&mut house, 30).await;
    let before = node(&mut house);
    awake(&[&before], 0, HOUR / 2).await;

    let back = HOUR / 2 + 2 * HOUR;
    let node = node(&mut house);
    awake(&[&node], back, back + 60).await;
    assert_eq!(absences(&house).await, [(HOUR / 2, back)]);
    let arrivals = ids.iter().map(|id| {
        let mut arrival = to(*id);
        arrival.at = after(back + 60);
        arrival
    });
    for answer in house.in_one_batch(arrivals.collect()).await {
        answer.expect("a ping");
    }
    awake(&[&node], back + 60, back + HOUR).await;

    for id in ids {
        let flips = house.flips(id).await;
        assert_eq!((flips.len(), flips[0].to), (1, Status::Up));
        assert_eq!(house.read(id).await.state.excused_until, None);
    }
    assert_eq!(
        went_down(&house, silent).await,
        (back + GRACE, Some(30 + PERIOD + GRACE))
    );
    assert_eq!(absences(&house).await, [(HOUR / 2, back)], "it is one absence");
    assert_eq!(house.count("flips").await, CHECKS + 2);
    assert_eq!(house.metric("checks_missed_total"), 1.0);
}

#[tokio::test]
async fn only_what_was_due_while_we_were_away_is_given_time() {
    let mut house = House::in_memory().await;
    let deadline = PERIOD + GRACE;
    let [at_leaving, in_between, at_return, later] = [
        hourly(&mut house, 1_000 - deadline).await,
        hourly(&mut house, 1_001 - deadline).await,
        hourly(&mut house, 9_000 - deadline).await,
        hourly(&mut house, 9_001 - deadline).await,
    ];
    let first = node(&mut house);
    awake(&[&first], 0, 1_000).await;
    let second = node(&mut house);
    awake(&[&second], 9_000, 9_000 + HOUR).await;
    for (id, down) in [
        (at_leaving, (1_000, None)),
        (in_between, (9_000 + GRACE, Some(1_001))),
        (at_return, (9_000 + GRACE, Some(9_000))),
        (later, (9_001, None)),
    ] {
        assert_eq!(went_down(&house, id).await, down);
    }
}

/// A sleeping laptop: no restart, the same process steps again after hours.
#[tokio::test]
async fn a_process_that_was_asleep_was_away_too() {
    let mut house = House::in_memory().await;
    let id = hourly(&mut house, 0).await;
    let node = node(&mut house);
    awake(&[&node], 0, 60).await;
    awake(&[&node], 3 * HOUR, 4 * HOUR).await;
    assert_eq!(absences(&house).await, [(60, 3 * HOUR)]);
    assert_eq!(
        went_down(&house, id).await,
        (3 * HOUR + GRACE, Some(PERIOD + GRACE))
    );
}

/// Each node lives for an instant, and thirty seconds later there is the next.
#[tokio::test]
async fn restarts_every_half_minute_for_a_day_silence_nobody() {
    let mut house = House::in_memory().await;
    let id = hourly(&mut house, 0).await;
    for n in 0..=DAY / 30 {
        let node = node(&mut house);
        settle(&node, after(n * 30)).await;
        let is_down = house.read(id).await.state.status == Status::Down;
        assert_eq!(is_down, n * 30 >= PERIOD + GRACE, "{n}");
    }
    assert_eq!(went_down(&house, id).await, (PERIOD + GRACE, None));
    assert_eq!(absences(&house).await, []);
}

/// A crash loop: away for 90 seconds, awake for some, for a day. The check was due in the first absence and stays
/// silent; what it was given is used up by the time we are awake, however that time is cut.
#[tokio::test]
async fn a_crash_loop_silences_nobody_for_ever() {
    const AWAY: i64 = 90;
    for lives in [0, 1, 10, 15, 30, 100] {
        let mut house = House::in_memory().await;
        let id = hourly(&mut house, 10 - PERIOD - GRACE).await;
        settle(&node(&mut house), NOW).await;
        let (mut back, mut awake_secs) = (AWAY, 0);
        while back < DAY && house.read(id).await.state.status == Status::Up {
            let node = node(&mut house);
            awake(&[&node], back, back + lives).await;
            back += lives + AWAY;
            awake_secs += lives;
        }
        let (at, nominal) = went_down(&house, id).await;
        assert_eq!(nominal, Some(10));
        assert!(at < DAY, "alive for {lives} s at a time: {at}");
        assert!(at >= AWAY + GRACE, "it had less than it was given: {lives}: {at}");
        assert!(awake_secs <= GRACE + lives, "{lives}: {awake_secs}");
    }
}

#[tokio::test]
async fn while_one_of_two_nodes_is_awake_nobody_is_away() {
    let mut house = House::in_memory().await;
    let id = hourly(&mut house, 0).await;
    let (one, two) = (node(&mut house), node(&mut house));
    awake(&[&one, &two], 0, 1_000).await;
    awake(&[&two], 1_000, 2 * HOUR).await;
    assert_eq!(went_down(&house, id).await, (PERIOD + GRACE, None));
    awake(&[&one, &two], 2 * HOUR, 2 * HOUR + 300).await;
    awake(&[&one], 2 * HOUR + 300, 3 * HOUR).await;
    assert_eq!(absences(&house).await, []);
    assert_eq!(downs(&house, id).await.len(), 1);
}

#[tokio::test]
async fn a_clock_that_leaps_forward_makes_no_storm() {
    let mut house = House::in_memory().await;
    let mut ids = Vec::new();
    for n in 0..300 {
        ids.push(hourly(&mut house, n).await);
    }
    let node = node(&mut house);
    awake(&[&node], 300, 1_800).await;
    let leapt = 1_800 + 2 * HOUR;
    awake(&[&node], leapt, leapt + 60).await;
    assert_eq!(house.metric("checks_missed_total"), 0.0);
    // They never stopped pinging, each hour of the time that really passed.
    for id in &ids {
        house
            .ping(*id, Action::Success, after(leapt + 61))
            .await
            .expect("a ping");
    }
    awake(&[&node], leapt + 61, leapt + HOUR).await;
    assert_eq!(house.count("flips").await, 300, "those to up");
    assert_eq!(absences(&house).await, [(1_800, leapt)]);
}

/// It leapt forward for a while, or was wrong from the start: neither the running node nor the next one goes silent,
/// and no time to come counts as our absence.
#[tokio::test]
async fn a_clock_set_back_does_nothing_bad() {
    for restart in [false, true] {
        let mut house = House::in_memory().await;
        let mut sweep = node(&mut house);
        awake(&[&sweep], 0, 60).await;
        awake(&[&sweep], DAY, DAY + 60).await;
        assert_eq!(absences(&house).await, [(60, DAY)]);
        if restart {
            sweep = node(&mut house);
        }
        let id = hourly(&mut house, 120).await;
        awake(&[&sweep], 120, 1_020).await;
        assert_eq!(absences(&house).await, [], "time to come is no absence");

        // It marks as ever, so that a true absence is one.
        let away = hourly(&mut house, 1_020 - PERIOD).await;
        let back = 1_020 + HOUR;
        awake(&[&sweep], back, back + 3 * HOUR).await;
        assert_eq!(absences(&house).await, [(1_020, back)], "restarted: {restart}");
        assert_eq!(
            went_down(&house, away).await,
            (back + GRACE, Some(1_020 + GRACE)),
            "restarted: {restart}"
        );
        assert_eq!(
            went_down(&house, id).await,
            (back + GRACE, Some(120 + PERIOD + GRACE)),
            "restarted: {restart}"
        );
    }
}

/// What the database cannot take, nobody could report either: a database that is away is our absence.
#[tokio::test]
async fn a_database_that_was_away_is_an_absence() {
    let mut house = House::on_disk().await;
    let id = hourly(&mut house, 0).await;
    let node = node(&mut house);
    awake(&[&node], 0, 60).await;
    house
        .raw()
        .execute_batch("alter table awake rename to elsewhere")
        .expect("a change");
    for now in [75, HOUR, 2 * HOUR] {
        let failed = node.step(after(now)).await;
        assert!(matches!(failed, Err(Error::Internal(_))), "{failed:?}");
    }
    house
        .raw()
        .execute_batch("alter table elsewhere rename to awake")
        .expect("a change");
    awake(&[&node], 2 * HOUR + 1, 3 * HOUR).await;
    assert_eq!(
        went_down(&house, id).await,
        (2 * HOUR + 1 + GRACE, Some(PERIOD + GRACE))
    );
}
