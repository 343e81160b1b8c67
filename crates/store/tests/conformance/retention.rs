//! What is kept, and for how long.

use allswell_core::check::{Check, Event, Status};
use allswell_core::flip::{Flip, Reason};
use allswell_core::id::CheckId;
use allswell_core::scope::SystemScope;
use allswell_core::signal::Kind;
use allswell_core::time::Timestamp;
use allswell_store::audit::Act;
use allswell_store::retention::LogKept;
use allswell_store::{Error, Store};

use crate::kit::{House, NOW, SYSTEM, after, claim_due, finish, on_each_database, rows};

on_each_database!(
    a_body_outlives_an_older_one_that_had_its_number,
    a_log_keeps_its_newest_pings_and_bodies,
    a_log_with_gaps_keeps_as_many_rows,
    only_marked_logs_are_pruned_a_slice_at_a_time,
    old_history_goes_and_the_rest_stays,
    an_incident_that_is_kept_keeps_its_flips,
    history_goes_in_slices,
    an_old_delivery_goes_with_its_attempts,
    old_acts_and_lapsed_links_go,
    of_a_check_that_flips_all_day_the_newest_ten_thousand_are_kept,
    the_flips_of_one_check_go_in_slices,
    the_log_of_one_check_goes_in_slices,
);

async fn prune_logs(store: &Store, pings: u64, body_bytes: u64, limit: i64) -> u64 {
    let kept = LogKept {
        pings,
        body_bytes,
        flips_since: Timestamp::from_micros(0),
    };
    store
        .write(async move |tx| tx.prune_logs(SYSTEM, kept, limit).await)
        .await
        .expect("pruning")
}

async fn prune_history(store: &Store, before: Timestamp, limit: i64) -> u64 {
    store
        .write(async move |tx| tx.prune_history(SYSTEM, before, limit).await)
        .await
        .expect("pruning")
}

/// Prunes the history from before this instant, and the flips of these checks.
async fn prune_flips(store: &Store, checks: &[CheckId], before: Timestamp) {
    for check in checks {
        mark(store, *check).await;
    }
    let kept = LogKept {
        pings: 1_000,
        body_bytes: 1_000_000,
        flips_since: before,
    };
    prune_history(store, before, 99).await;
    store
        .write(async move |tx| tx.prune_logs(SYSTEM, kept, 99).await)
        .await
        .expect("pruning");
}

async fn mark(store: &Store, id: CheckId) {
    store
        .write(async move |tx| tx.ping_log_mark(SystemScope::engine(), id).await)
        .await
        .expect("a mark");
}

/// A check with ten pings, each with a body of 100 bytes.
async fn talkative(house: &mut House<'_>) -> Check {
    let mut check = house.check(house.alice, |_| {}).await;
    for n in 1..=10 {
        house.ping(&mut check, Kind::Log, &[b'x'; 100], after(n)).await;
    }
    check
}

/// The numbers of the pings and bodies that are there, oldest first.
async fn kept(store: &Store, house: &House<'_>, id: CheckId) -> (Vec<u64>, Vec<u64>) {
    let scope = house.alice.scope();
    store
        .read(async move |reader| {
            let mut pings: Vec<u64> = reader
                .pings(scope, id, 99)
                .await?
                .iter()
                .map(|ping| ping.n)
                .collect();
            pings.reverse();
            let mut bodies = Vec::new();
            for n in 1..=10 {
                if reader.ping_body(scope, id, n).await?.is_some() {
                    bodies.push(n);
                }
            }
            Ok::<_, Error>((pings, bodies))
        })
        .await
        .expect("a read")
}

async fn a_log_keeps_its_newest_pings_and_bodies(store: &Store) {
    let mut house = House::build(store).await;
    let one = 100;
    for (pings, bytes, pings_from, bodies_from) in [
        (99, 99 * one, 1, 1),
        (10, 10 * one, 1, 1),
        (3, 99 * one, 8, 8),
        (99, 3 * one, 1, 8),
        (99, 3 * one - 1, 1, 9),
        (5, 2 * one, 6, 9),
        (2, 5 * one, 9, 9),
        (1, 0, 10, 11),
        (0, 99 * one, 11, 11),
    ] {
        let id = talkative(&mut house).await.id;
        mark(store, id).await;
        assert_eq!(prune_logs(store, pings, bytes, 9).await, 1);
        let expected = ((pings_from..=10).collect(), (bodies_from..=10).collect());
        assert_eq!(
            kept(store, &house, id).await,
            expected,
            "{pings} pings, {bytes} bytes"
        );
    }
}

/// Where pings only counted their numbers are missing: what is kept is counted by rows.
async fn a_log_with_gaps_keeps_as_many_rows(store: &Store) {
    let mut house = House::build(store).await;
    let mut check = house.check(house.alice, |_| {}).await;
    for n in 1..=5 {
        check.state.ping_count += 100;
        house.ping(&mut check, Kind::Log, b"body", after(n)).await;
    }
    mark(store, check.id).await;
    assert_eq!(prune_logs(store, 3, 10_000, 9).await, 1);
    assert_eq!(kept(store, &house, check.id).await.0, [303, 404, 505]);
}

/// On SQLite a body may get the number of one that was deleted.
async fn a_body_outlives_an_older_one_that_had_its_number(store: &Store) {
    let mut house = House::build(store).await;
    let mut first = house.check(house.alice, |_| {}).await;
    let mut second = house.check(house.alice, |_| {}).await;
    house.ping(&mut first, Kind::Log, b"first", NOW).await;
    mark(store, first.id).await;
    assert_eq!(prune_logs(store, 9, 0, 9).await, 1);
    house.ping(&mut second, Kind::Log, b"second", NOW).await;
    house.ping(&mut first, Kind::Log, b"", NOW).await;
    assert_eq!(kept(store, &house, first.id).await, (vec![1, 2], vec![]));
    // Neither its body's end nor its own takes the other's along.
    for (pings, of_first) in [(9, vec![1, 2]), (1, vec![2])] {
        mark(store, first.id).await;
        assert_eq!(prune_logs(store, pings, 0, 9).await, 1);
        assert_eq!(kept(store, &house, first.id).await, (of_first, vec![]));
        assert_eq!(kept(store, &house, second.id).await, (vec![1], vec![1]));
    }
}

async fn only_marked_logs_are_pruned_a_slice_at_a_time(store: &Store) {
    let mut house = House::build(store).await;
    let unmarked = talkative(&mut house).await.id;
    for _ in 0..3 {
        let id = talkative(&mut house).await.id;
        mark(store, id).await;
    }
    // A mark outlives its check, or comes before any ping.
    mark(store, house.dice.id()).await;
    let mut slices = Vec::new();
    for _ in 0..3 {
        slices.push(prune_logs(store, 1, 0, 3).await);
    }
    assert_eq!(slices, [3, 1, 0]);
    let rows = rows(store).await;
    assert_eq!(
        (rows["pings"], rows["ping_bodies"], rows["prune_due"]),
        (13, 10, 0)
    );
    assert_eq!(kept(store, &house, unmarked).await.0.len(), 10);
}

async fn flip_seqs(store: &Store, house: &House<'_>, id: CheckId) -> Vec<u64> {
    let scope = house.alice.scope();
    let flips = store
        .read(async move |reader| reader.flips(scope, id, 99).await)
        .await;
    flips.expect("flips").iter().map(|flip| flip.seq).collect()
}

async fn old_history_goes_and_the_rest_stays(store: &Store) {
    let mut house = House::build(store).await;
    let mut check = house.check(house.alice, |_| {}).await;
    for (secs, kind) in [
        (1, Kind::Fail),
        (2, Kind::Success),
        (3, Kind::Fail),
        (4, Kind::Success),
    ] {
        house.ping(&mut check, kind, b"", after(secs)).await;
    }
    // From when on history is kept, the flips and the incidents that are there then.
    for (from, seqs, incidents) in [
        (1, vec![4, 3, 2, 1], 2),
        (2, vec![4, 3, 2, 1], 2),
        (3, vec![4, 3], 1),
        (4, vec![4, 3], 1),
        // The newest flip is why the check is as it is.
        (5, vec![4], 0),
    ] {
        prune_flips(store, &[check.id], after(from)).await;
        assert_eq!(flip_seqs(store, &house, check.id).await, seqs, "{from}");
        assert_eq!(rows(store).await["incidents"], incidents, "{from}");
    }
    assert_eq!(prune_history(store, after(5), 99).await, 0);
}

/// One that still lasts, and one that ended recently: both began long ago.
async fn an_incident_that_is_kept_keeps_its_flips(store: &Store) {
    let mut house = House::build(store).await;
    let mut lasts = house.check(house.alice, |_| {}).await;
    house.ping(&mut lasts, Kind::Success, b"", NOW).await;
    house.ping(&mut lasts, Kind::Fail, b"", after(1)).await;
    let mut ended = house.check(house.alice, |_| {}).await;
    house.ping(&mut ended, Kind::Success, b"", NOW).await;
    house.ping(&mut ended, Kind::Fail, b"", after(1)).await;
    house.happen(&mut ended, Event::Pause, after(1_000)).await;
    prune_flips(store, &[lasts.id, ended.id], after(1_000)).await;
    assert_eq!(flip_seqs(store, &house, lasts.id).await, [2]);
    assert_eq!(flip_seqs(store, &house, ended.id).await, [3, 2]);
    prune_flips(store, &[lasts.id, ended.id], after(1_001)).await;
    assert_eq!(flip_seqs(store, &house, lasts.id).await, [2]);
    assert_eq!(flip_seqs(store, &house, ended.id).await, [3]);
    assert_eq!(rows(store).await["incidents"], 1);
}

async fn history_goes_in_slices(store: &Store) {
    let mut house = House::build(store).await;
    for _ in 0..5 {
        let mut check = house.check(house.alice, |_| {}).await;
        house.ping(&mut check, Kind::Fail, b"", NOW).await;
        house.ping(&mut check, Kind::Success, b"", NOW).await;
    }
    let mut slices = Vec::new();
    for _ in 0..4 {
        slices.push(prune_history(store, after(1), 2).await);
    }
    assert_eq!(slices, [2, 2, 1, 0]);
}

async fn an_old_delivery_goes_with_its_attempts(store: &Store) {
    let mut house = House::build(store).await;
    let mut check = house.check(house.alice, |_| {}).await;
    let flip = house
        .ping(&mut check, Kind::Fail, b"", after(5_000))
        .await
        .expect("a flip");
    let node = house.node();
    // Two that ended, one that is leased, one that is ready, however old they are.
    for (at, ends) in [(1, Some(2)), (3, Some(4)), (5, None)] {
        let channel = house.dice.id();
        house.promise(&check, &flip, channel, after(at)).await;
        store
            .write(async move |tx| {
                for delivery in claim_due(tx, after(at), 9, node).await?.unwrap_or_default() {
                    if let Some(end) = ends.map(after) {
                        finish(tx, &delivery, node, end).await?;
                    }
                }
                Ok::<_, Error>(())
            })
            .await
            .expect("an attempt");
    }
    let channel = house.dice.id();
    house.promise(&check, &flip, channel, after(6)).await;
    for (before, gone, left) in [(2, 0, 4), (3, 1, 3), (4, 0, 3), (5_000, 1, 2)] {
        assert_eq!(prune_history(store, after(before), 99).await, gone, "{before}");
        let rows = rows(store).await;
        let counts = (rows["deliveries"], rows["delivery_flips"], rows["attempts"]);
        assert_eq!(counts, (left, left, left - 2), "{before}");
    }
}

/// Whoever knows the address of a check can make it flip all day. The numbers tell how many flips there were, so a few
/// rows stand for all of them.
async fn of_a_check_that_flips_all_day_the_newest_ten_thousand_are_kept(store: &Store) {
    let mut house = House::build(store).await;
    let mut check = house.check(house.alice, |_| {}).await;
    for (count, kind) in [
        (0, Kind::Fail),
        (1, Kind::Success),
        (2_000, Kind::Fail),
        (2_001, Kind::Success),
        (2_002, Kind::Fail),
        (2_003, Kind::Success),
        (12_000, Kind::Fail),
        (12_001, Kind::Success),
    ] {
        check.state.flip_count = count;
        house.ping(&mut check, kind, b"", NOW).await.expect("a flip");
    }
    assert_eq!(check.state.flip_count, 12_002);
    // All of it is new; the incident that ended with flip 2,004 keeps both of its flips.
    prune_flips(store, &[check.id], NOW).await;
    assert_eq!(
        flip_seqs(store, &house, check.id).await,
        [12_002, 12_001, 2_004, 2_003]
    );
    assert_eq!(rows(store).await["incidents"], 2);
}

/// More flips than one transaction deletes: what is left is marked for the next.
async fn the_flips_of_one_check_go_in_slices(store: &Store) {
    const SLICE: i64 = 2_000;
    const FLIPS: i64 = 2 * SLICE + 500;
    let mut house = House::build(store).await;
    let check = house
        .check(house.alice, |check| check.state.flip_count = FLIPS as u64)
        .await;
    let row = check.clone();
    store
        .write(async move |tx| {
            for seq in 1..=FLIPS as u64 {
                let (from, to, reason) = if seq % 2 == 0 {
                    (Status::Paused, Status::New, Reason::Resumed)
                } else {
                    (Status::New, Status::Paused, Reason::Paused)
                };
                let flip = Flip {
                    seq,
                    from,
                    to,
                    at: NOW,
                    expected_at: None,
                    reason,
                };
                tx.flip_insert(SystemScope::engine(), &row, &flip, NOW).await?;
            }
            Ok::<_, Error>(())
        })
        .await
        .expect("flips");
    let kept = LogKept {
        pings: 10,
        body_bytes: 10,
        flips_since: after(1),
    };
    let mut left = Vec::new();
    for _ in 0..4 {
        let pruned = store
            .write(async move |tx| tx.prune_logs(SYSTEM, kept, 9).await)
            .await;
        let rows = rows(store).await;
        left.push((pruned.expect("pruning"), rows["flips"], rows["prune_due"]));
    }
    assert_eq!(
        left,
        [
            (1, FLIPS - SLICE, 1),
            (1, FLIPS - 2 * SLICE, 1),
            (1, 1, 0),
            (0, 1, 0)
        ]
    );
}

/// A slice is of numbers, and so a few rows stand for many.
async fn the_log_of_one_check_goes_in_slices(store: &Store) {
    let mut house = House::build(store).await;
    let mut check = house.check(house.alice, |_| {}).await;
    for count in [0, 2_000, 2_001, 4_001, 4_002, 4_989, 4_990, 4_999] {
        check.state.ping_count = count;
        house.ping(&mut check, Kind::Log, b"body", NOW).await;
    }
    mark(store, check.id).await;
    let mut left = Vec::new();
    for _ in 0..4 {
        let looked_at = prune_logs(store, 2, 1_000_000, 9).await;
        let rows = rows(store).await;
        left.push((looked_at, rows["pings"], rows["ping_bodies"], rows["prune_due"]));
    }
    // From 1 to 2,001; from 2,002 to 4,002; to 4,990, behind which two rows are kept.
    assert_eq!(left, [(1, 6, 6, 1), (1, 4, 4, 1), (1, 2, 2, 0), (0, 2, 2, 0)]);
}

async fn old_acts_and_lapsed_links_go(store: &Store) {
    let mut house = House::build(store).await;
    let mut dice = house.dice.fork();
    store
        .write(async move |tx| {
            for secs in 1..=4 {
                let act = Act {
                    at: after(secs),
                    project: None,
                    actor: "operator".to_owned(),
                    action: "check.create",
                    target: secs.to_string(),
                    data: String::new(),
                };
                tx.audit(dice.id_at(act.at), &act).await?;
            }
            tx.start_link_insert(b"old", NOW, after(2)).await?;
            tx.start_link_insert(b"new", NOW, after(3)).await
        })
        .await
        .expect("acts and links");
    let mut gone = Vec::new();
    for _ in 0..3 {
        let pruned = store
            .write(async |tx| tx.prune_audit(SYSTEM, after(3), 1).await)
            .await;
        gone.push(pruned.expect("pruning"));
    }
    assert_eq!(gone, [1, 1, 0]);
    let rows = rows(store).await;
    assert_eq!((rows["audit"], rows["start_links"]), (2, 1));
}
