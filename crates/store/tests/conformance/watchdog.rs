//! The server's own check.

use allswell_core::id::NodeId;
use allswell_core::time::Timestamp;
use allswell_store::Store;
use allswell_store::watchdog::Round;

use crate::kit::{House, SYSTEM, after, on_each_database};

on_each_database!(
    a_round_is_a_ping_and_the_sweep_that_saw_it,
    each_node_makes_its_own_rounds,
    rounds_of_a_node_that_ended_are_forgotten_and_no_other_fact,
);

async fn ping(store: &Store, node: NodeId, at: Timestamp) {
    let write = store.write(async move |tx| tx.watchdog_ping(SYSTEM, node, at).await);
    write.await.expect("a ping");
}

async fn sweep(store: &Store, node: NodeId) {
    let write = store.write(async move |tx| tx.watchdog_sweep(SYSTEM, node).await);
    write.await.expect("a sweep");
}

async fn look(store: &Store, node: NodeId) -> (bool, Option<Timestamp>) {
    let read = store.read(async move |reader| {
        let due = reader.watchdog_is_due(SYSTEM, node).await?;
        Ok::<_, allswell_store::Error>((due, reader.watchdog_swept(SYSTEM, node).await?))
    });
    read.await.expect("a look")
}

async fn rounds(store: &Store) -> Vec<Round> {
    let read = store.read(async |reader| reader.watchdog_rounds(SYSTEM).await);
    let mut rounds = read.await.expect("rounds");
    rounds.sort_by_key(|round| round.pinged);
    rounds
}

async fn a_round_is_a_ping_and_the_sweep_that_saw_it(store: &Store) {
    let node = House::build(store).await.node();
    assert_eq!(look(store, node).await, (false, None));
    // A sweep without a ping sees nothing.
    sweep(store, node).await;
    assert_eq!(look(store, node).await, (false, None));
    for secs in [0, 60, 30] {
        ping(store, node, after(secs)).await;
        assert!(look(store, node).await.0);
        for _ in 0..2 {
            sweep(store, node).await;
            assert_eq!(look(store, node).await, (false, Some(after(secs))));
        }
    }
}

async fn each_node_makes_its_own_rounds(store: &Store) {
    let mut house = House::build(store).await;
    let (one, other) = (house.node(), house.node());
    ping(store, one, after(0)).await;
    ping(store, other, after(1)).await;
    sweep(store, other).await;
    assert_eq!(look(store, one).await, (true, None));
    let expected = [(one, after(0), None), (other, after(1), Some(after(1)))];
    let expected = expected.map(|(node, pinged, swept)| Round { node, pinged, swept });
    assert_eq!(rounds(store).await, expected);
}

async fn rounds_of_a_node_that_ended_are_forgotten_and_no_other_fact(store: &Store) {
    let mut house = House::build(store).await;
    let (gone, here) = (house.node(), house.node());
    let set = store.write(async |tx| tx.instance_set("fact", "no number").await);
    set.await.expect("a fact");
    ping(store, gone, after(0)).await;
    sweep(store, gone).await;
    ping(store, here, after(600)).await;
    assert_eq!(rounds(store).await.len(), 2);
    ping(store, here, after(601)).await;
    assert_eq!(rounds(store).await.len(), 1);
    assert_eq!(look(store, gone).await, (false, None));
    let fact = store.read(async |reader| reader.instance_get("fact").await);
    assert_eq!(fact.await.expect("a read").as_deref(), Some("no number"));
}
