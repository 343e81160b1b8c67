//! Signs of life, and the times without any.

use allswell_core::absence::Absence;
use allswell_core::id::NodeId;
use allswell_core::time::Timestamp;
use allswell_store::Store;

use crate::kit::{House, NOW, SYSTEM, after, on_each_database, rows};

on_each_database!(
    a_first_mark_is_no_absence,
    a_gap_of_more_than_a_minute_is_written_down_once,
    an_absence_from_which_we_just_return_is_known_before_it_is_noted,
    an_absence_is_a_time_in_which_no_node_was_awake,
    absences_are_read_from_their_end_on_oldest_first,
    a_node_of_yesterday_is_forgotten,
    a_clock_set_back_is_no_absence,
    an_absence_that_a_wrong_clock_made_is_taken_back,
    a_mark_from_a_wrong_clock_hides_no_absence,
    clocks_that_differ_a_little_make_no_trouble,
    a_clock_that_was_set_back_is_noticed_once,
    old_absences_go_with_the_history,
    whether_others_are_awake_is_known_by_their_marks,
);

const HOUR: i64 = 3_600;
const DAY: i64 = 86_400;

async fn mark(store: &Store, node: NodeId, now: Timestamp) -> Option<(i64, i64)> {
    let write = store.write(async move |tx| tx.awake_mark(SYSTEM, node, now).await);
    write.await.expect("a mark").absence.map(seconds)
}

/// Marks, and gives whether something was noted for time to come.
async fn was_set_back(store: &Store, node: NodeId, now: Timestamp) -> bool {
    let write = store.write(async move |tx| tx.awake_mark(SYSTEM, node, now).await);
    write.await.expect("a mark").was_set_back
}

/// Begin and end in seconds after `NOW`.
fn seconds(absence: Absence) -> (i64, i64) {
    ((absence.from - NOW).as_secs(), (absence.to - NOW).as_secs())
}

async fn since(store: &Store, from: i64) -> Vec<(i64, i64)> {
    let read = store.read(async move |reader| reader.absences_since(SYSTEM, after(from)).await);
    read.await.expect("absences").into_iter().map(seconds).collect()
}

async fn newest(store: &Store, limit: i64) -> Vec<(i64, i64)> {
    let read = store.read(async move |reader| reader.absences(SYSTEM, limit).await);
    read.await.expect("absences").into_iter().map(seconds).collect()
}

async fn a_first_mark_is_no_absence(store: &Store) {
    let node = House::build(store).await.node();
    assert_eq!(mark(store, node, after(DAY)).await, None);
    assert_eq!(newest(store, 9).await, []);
}

async fn whether_others_are_awake_is_known_by_their_marks(store: &Store) {
    let mut house = House::build(store).await;
    let (node, other) = (house.node(), house.node());
    let others = async |since: i64| {
        let read = store.read(async move |reader| reader.others_awake(SYSTEM, node, after(since)).await);
        read.await.expect("a look")
    };
    mark(store, node, after(10)).await;
    assert!(!others(0).await);
    mark(store, other, after(20)).await;
    assert_eq!((others(19).await, others(20).await), (true, false));
    let end = async |who: NodeId| store.write(async move |tx| tx.awake_end(SYSTEM, who).await).await;
    end(other).await.expect("a farewell");
    assert!(!others(19).await);
    assert_eq!(mark(store, node, after(90)).await, Some((20, 90)));
    mark(store, other, after(91)).await;
    assert!(others(19).await);
}

async fn a_gap_of_more_than_a_minute_is_written_down_once(store: &Store) {
    let node = House::build(store).await.node();
    for (at, absence) in [
        (0, None),
        (60, None),
        (121, Some((60, 121))),
        (121, None),
        (136, None),
        (HOUR, Some((136, HOUR))),
    ] {
        assert_eq!(mark(store, node, after(at)).await, absence, "{at}");
    }
    assert_eq!(newest(store, 9).await, [(136, HOUR), (60, 121)]);
}

async fn an_absence_from_which_we_just_return_is_known_before_it_is_noted(store: &Store) {
    let node = House::build(store).await.node();
    let away = async |since: i64, now: i64| -> Vec<(i64, i64)> {
        let read = store.read(async move |reader| reader.away_since(SYSTEM, after(since), after(now)).await);
        read.await.expect("absences").into_iter().map(seconds).collect()
    };
    assert_eq!(away(0, DAY).await, [], "nobody was here before");
    mark(store, node, NOW).await;
    mark(store, node, after(100)).await;
    assert_eq!(away(0, 160).await, [(0, 100)]);
    assert_eq!(away(0, 161).await, [(0, 100), (100, 161)]);
    assert_eq!(away(101, HOUR).await, [(100, HOUR)]);
    mark(store, node, after(HOUR)).await;
    assert_eq!(away(101, HOUR).await, [(100, HOUR)], "it is noted now");
    assert_eq!(
        away(0, 0).await,
        [(0, 100), (100, HOUR)],
        "by a clock that was set back"
    );
}

async fn an_absence_is_a_time_in_which_no_node_was_awake(store: &Store) {
    let mut house = House::build(store).await;
    let [one, two, three] = [house.node(), house.node(), house.node()];
    mark(store, one, NOW).await;
    for at in [30, 90, 150, 210] {
        assert_eq!(mark(store, two, after(at)).await, None, "{at}");
    }
    assert_eq!(
        mark(store, one, after(220)).await,
        None,
        "one was away, and two was not"
    );
    assert_eq!(mark(store, three, after(300)).await, Some((220, 300)));
    assert_eq!(mark(store, two, after(301)).await, None, "three wrote it down");
    assert_eq!(newest(store, 9).await, [(220, 300)]);
}

async fn absences_are_read_from_their_end_on_oldest_first(store: &Store) {
    let node = House::build(store).await.node();
    for at in [0, 100, 150, 300, 1_000] {
        mark(store, node, after(at)).await;
    }
    let all = [(0, 100), (150, 300), (300, 1_000)];
    for (from, first) in [
        (0, 0),
        (100, 0),
        (101, 1),
        (300, 1),
        (301, 2),
        (1_000, 2),
        (1_001, 3),
    ] {
        assert_eq!(since(store, from).await, all[first..], "{from}");
    }
    assert_eq!(newest(store, 2).await, [all[2], all[1]]);
}

async fn a_node_of_yesterday_is_forgotten(store: &Store) {
    let mut house = House::build(store).await;
    for at in 0..5 {
        let node = house.node();
        mark(store, node, after(at)).await;
    }
    let node = house.node();
    assert_eq!(mark(store, node, after(DAY)).await, Some((4, DAY)));
    assert_eq!(rows(store).await["awake"], 6);
    assert_eq!(mark(store, node, after(DAY + 3)).await, None);
    assert_eq!(rows(store).await["awake"], 3, "two of a day ago and this one");
    // Nobody for a month: the last sign of life is not forgotten before it is looked at.
    assert_eq!(
        mark(store, node, after(30 * DAY)).await,
        Some((DAY + 3, 30 * DAY))
    );
    assert_eq!(rows(store).await["awake"], 1);
}

async fn a_clock_set_back_is_no_absence(store: &Store) {
    let node = House::build(store).await.node();
    for (at, absence) in [
        (HOUR, None),
        (0, None),
        (15, None),
        (100, Some((15, 100))),
        (115, None),
    ] {
        assert_eq!(mark(store, node, after(at)).await, absence, "{at}");
    }
}

/// It lies in time to come, and would excuse everybody whose deadline falls into it.
async fn an_absence_that_a_wrong_clock_made_is_taken_back(store: &Store) {
    let mut house = House::build(store).await;
    let [one, two] = [house.node(), house.node()];
    for node in [one, two] {
        mark(store, one, NOW).await;
        assert_eq!(mark(store, one, after(DAY)).await, Some((0, DAY)));
        assert_eq!(mark(store, node, after(30)).await, None);
        assert_eq!(newest(store, 9).await, []);
        // What is past stays.
        assert_eq!(mark(store, one, after(100)).await, Some((30, 100)));
        assert_eq!(mark(store, one, after(101)).await, None);
        assert_eq!(newest(store, 9).await, [(30, 100)]);
    }
}

/// The node that left it has ended, and nobody will mark in its name again.
async fn a_mark_from_a_wrong_clock_hides_no_absence(store: &Store) {
    let mut house = House::build(store).await;
    let [one, two] = [house.node(), house.node()];
    mark(store, one, after(DAY)).await;
    assert_eq!(mark(store, two, NOW).await, None);
    assert_eq!(mark(store, two, after(HOUR)).await, Some((0, HOUR)));
}

async fn clocks_that_differ_a_little_make_no_trouble(store: &Store) {
    let mut house = House::build(store).await;
    let [ahead, behind] = [house.node(), house.node()];
    mark(store, ahead, NOW).await;
    assert_eq!(mark(store, ahead, after(100)).await, Some((0, 100)));
    for at in [50, 65, 80] {
        assert_eq!(mark(store, behind, after(at)).await, None, "{at}");
        assert_eq!(mark(store, ahead, after(at + 50)).await, None, "{at}");
    }
    assert_eq!(newest(store, 9).await, [(0, 100)]);
}

async fn a_clock_that_was_set_back_is_noticed_once(store: &Store) {
    let mut house = House::build(store).await;
    let [one, two] = [house.node(), house.node()];
    for (node, at, noticed) in [
        (one, 0, false),
        // A leap forward is an absence; clocks that differ by a minute are nothing.
        (one, HOUR, false),
        (two, HOUR - 60, false),
        (two, HOUR - 61, true),
        (one, HOUR - 61, false),
        // An absence that ends ahead is a trace of it too, when the sign of life is gone.
        (one, 2 * HOUR, false),
        (one, HOUR, true),
        (two, HOUR, false),
    ] {
        assert_eq!(was_set_back(store, node, after(at)).await, noticed, "{at}");
    }
}

async fn old_absences_go_with_the_history(store: &Store) {
    let node = House::build(store).await.node();
    for at in [0, 100, 300] {
        mark(store, node, after(at)).await;
    }
    for (before, left) in [
        (100, vec![(100, 300), (0, 100)]),
        (101, vec![(100, 300)]),
        (301, vec![]),
    ] {
        let write = store.write(async move |tx| tx.prune_history(SYSTEM, after(before), 99).await);
        write.await.expect("pruning");
        assert_eq!(newest(store, 9).await, left, "{before}");
    }
}
