//! Counts for gauges.

use allswell_core::check::Status;
use allswell_core::delivery::Class;
use allswell_core::id::NodeId;
use allswell_core::signal::Kind;
use allswell_core::time::Span;
use allswell_store::Store;
use allswell_store::outbox::Wanted;
use allswell_store::tally::Waiting;

use crate::kit::{House, NOW, SYSTEM, after, on_each_database};

on_each_database!(
    deliveries_that_wait_are_counted_by_state,
    checks_are_counted_by_status
);

async fn deliveries_that_wait_are_counted_by_state(store: &Store) {
    let waiting = async || {
        let read = store.read(async |reader| reader.deliveries_waiting(SYSTEM).await);
        read.await.expect("a count")
    };
    assert_eq!(waiting().await, Waiting::default());
    let mut house = House::build(store).await;
    let channel = house.channel(house.alice, b"").await;
    let mut check = house.check(house.alice, |_| {}).await;
    for (secs, kind) in [(5, Kind::Success), (9, Kind::Fail)] {
        let flip = house
            .ping(&mut check, kind, b"", after(secs))
            .await
            .expect("a flip");
        house.promise(&check, &flip, channel.id, after(secs)).await;
    }
    let two = Waiting {
        ready: 2,
        leased: 0,
        next_at: Some(after(5)),
    };
    assert_eq!(waiting().await, two);
    let node: NodeId = house.node();
    let lease = Span::from_secs(60);
    let wanted = Wanted {
        class: Class::Alert,
        project: house.alice.project,
        channel: channel.id,
        limit: 1,
        attempts_below: 99,
    };
    let claim =
        store.write(async move |tx| tx.deliveries_claim(SYSTEM, &wanted, after(6), node, lease).await);
    assert_eq!(claim.await.expect("a claim").len(), 1);
    let one_each = Waiting {
        ready: 1,
        leased: 1,
        next_at: Some(after(9)),
    };
    assert_eq!(waiting().await, one_each);
}

async fn checks_are_counted_by_status(store: &Store) {
    let mut house = House::build(store).await;
    let mut up = house.check(house.alice, |_| {}).await;
    house.ping(&mut up, Kind::Success, b"", NOW).await;
    for _ in 0..2 {
        let mut down = house.check(house.bob, |_| {}).await;
        house.ping(&mut down, Kind::Fail, b"", NOW).await;
    }
    let gone = house.check(house.alice, |_| {}).await;
    let scope = house.alice.scope();
    let deleted = store.write(async move |tx| tx.check_delete(scope, gone.id, after(1)).await);
    deleted.await.expect("a delete");
    let mut counted = store
        .read(async |reader| reader.checks_by_status(SYSTEM).await)
        .await
        .expect("a count");
    counted.sort_by_key(|(status, _)| status.number());
    assert_eq!(counted, [(Status::Up, 1), (Status::Down, 2)]);
}
