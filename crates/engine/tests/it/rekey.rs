//! A rotation of keys by its steps: to its end, around others who must know first, and on after any end.

use std::sync::{Arc, Mutex};

use allswell_core::chance::Dice;
use allswell_core::id::{CheckId, NodeId};
use allswell_core::schedule::Zones;
use allswell_core::seal::KeyRing;
use allswell_core::time::{Span, Timestamp};
use allswell_engine::Due;
use allswell_engine::ingest::{Answer, Arrival};
use allswell_engine::loops::Step;
use allswell_engine::pending::Pending;
use allswell_engine::rekey::{Home, Others, Rekey, awaited};
use allswell_engine::sweep::Sweep;
use allswell_store::Store;
use allswell_store::rotation::{Phase, Rotation};
use bytes::Bytes;

use crate::kit::{House, NOW, SYSTEM, after, ring, to};

fn grown() -> KeyRing {
    ring()
        .with_generated("second", &mut Dice::from_number(3))
        .expect("a second key")
}

/// A home whose ring can be changed.
fn home(ring: &Arc<Mutex<Option<KeyRing>>>) -> Home {
    let ring = Arc::clone(ring);
    Box::new(move || ring.lock().expect("a lock").take())
}

async fn rotation(store: &Store) -> Rotation {
    store
        .read(async |reader| reader.rotation(SYSTEM).await)
        .await
        .expect("a read")
        .expect("a rotation")
}

async fn begin(store: &Store) {
    store.ring_replace(grown()).await.expect("a ring");
    store
        .write(async |tx| tx.rotation_begin(SYSTEM, "second", NOW).await)
        .await
        .expect("a rotation");
}

/// Steps until the rotation is in this phase; time passes as the steps ask.
async fn until(rekey: &Rekey, store: &Store, phase: Phase, from: Timestamp) -> Timestamp {
    let mut now = from;
    for _ in 0..200 {
        if rotation(store).await.phase == phase {
            return now;
        }
        if let Due::At(at) = rekey.step(now).await.expect("a step") {
            now = at;
        }
    }
    panic!("still in {:?}", rotation(store).await.phase);
}

async fn ping(house: &mut House, check: CheckId) {
    let arrival = Arrival {
        body: Bytes::from_static(b"body"),
        ..to(check)
    };
    let taken = house.in_one_batch(vec![arrival]).await;
    assert_eq!(taken, [Ok(Answer::Stored)]);
}

async fn bodies(house: &House, check: CheckId) -> Vec<Option<Vec<u8>>> {
    house.log(check).await.into_iter().map(|(_, body)| body).collect()
}

async fn awake(store: &Store, node: NodeId, now: Timestamp) {
    store
        .write(async move |tx| tx.awake_mark(SYSTEM, node, now).await)
        .await
        .expect("a sign of life");
}

#[tokio::test]
async fn a_rotation_ends_rests_for_a_day_and_then_forgets_the_old_data_keys() {
    let mut house = House::on_disk().await;
    let check = house.check(|_| {}).await;
    ping(&mut house, check).await;
    begin(&house.store).await;
    let rekey = Rekey::new(
        house.store.clone(),
        None,
        Others::None,
        Box::new(|| None),
        house.dice.fork(),
    );
    let now = until(&rekey, &house.store, Phase::Resting, NOW).await;
    let resting = rotation(&house.store).await;
    assert!(resting.is_finished() && resting.pass == 2, "{resting:?}");
    let count = |sql: &str| -> i64 {
        house
            .raw()
            .query_row(sql, [], |row| row.get(0))
            .expect("a number")
    };
    assert_eq!(
        count("select count(*) from data_keys where root_key <> 'second'"),
        0
    );
    assert_eq!(
        count("select count(*) from data_keys where retired_at is not null"),
        1
    );

    assert_eq!(
        rekey.step(now).await.expect("a step"),
        Due::At(now + Span::from_secs(1))
    );
    assert_eq!(rotation(&house.store).await.phase, Phase::Resting);
    until(&rekey, &house.store, Phase::Done, now + Span::from_days(1)).await;
    assert_eq!(
        count("select count(*) from data_keys where retired_at is not null"),
        0
    );
    assert_eq!(bodies(&house, check).await, [Some(b"body".to_vec())]);
}

#[tokio::test]
async fn every_node_that_is_awake_is_asked_before_keys_are_used_and_before_values_are_gone_through() {
    let mut house = House::on_disk().await;
    let other_store = house.second_store().await;
    let (here, there): (NodeId, NodeId) = (house.dice.id(), house.dice.id());
    let gone: NodeId = house.dice.id();
    awake(&house.store, gone, after(-120)).await;
    awake(&house.store, here, NOW).await;
    awake(&house.store, there, NOW).await;
    begin(&house.store).await;
    let place = Arc::new(Mutex::new(None));
    let rekey =
        |store: &Store, node, home, dice| Rekey::new(store.clone(), Some(node), Others::Awaited, home, dice);
    let first = rekey(&house.store, here, Box::new(|| None), house.dice.fork());
    let second = rekey(&other_store, there, home(&place), house.dice.fork());
    let waits = async |now| {
        let rotation = rotation(&house.store).await;
        awaited(&house.store, &rotation, Others::Awaited, now)
            .await
            .expect("a read")
    };

    for secs in 0..3 {
        first.step(after(secs)).await.expect("a step");
        second.step(after(secs)).await.expect("a step");
    }
    assert_eq!(rotation(&house.store).await.phase, Phase::Announced);
    assert_eq!(waits(after(3)).await, [there], "it has the old ring");
    *place.lock().expect("a lock") = Some(grown());
    second.step(after(3)).await.expect("a step");
    assert_eq!(waits(after(3)).await, []);

    let now = until(&first, &house.store, Phase::Settling, after(4)).await;
    first.step(now).await.expect("a step");
    first.step(now).await.expect("a step");
    assert_eq!(rotation(&house.store).await.phase, Phase::Settling);
    assert_eq!(waits(now).await, [there], "it may still seal with old data keys");
    second.step(now).await.expect("a step");
    assert_eq!(waits(now).await, []);
    until(&first, &house.store, Phase::Resting, now).await;
}

#[tokio::test]
async fn a_node_that_ended_is_not_waited_for() {
    let mut house = House::on_disk().await;
    let gone: NodeId = house.dice.id();
    awake(&house.store, gone, NOW).await;
    begin(&house.store).await;
    let rekey = Rekey::new(
        house.store.clone(),
        None,
        Others::Awaited,
        Box::new(|| None),
        house.dice.fork(),
    );
    rekey.step(after(44)).await.expect("a step");
    assert_eq!(rotation(&house.store).await.phase, Phase::Announced);
    until(&rekey, &house.store, Phase::Resting, after(46)).await;
}

#[tokio::test]
async fn a_rotation_goes_on_after_an_end_at_any_step() {
    for steps in 0..14 {
        let mut house = House::on_disk().await;
        let check = house.check(|_| {}).await;
        for _ in 0..3 {
            ping(&mut house, check).await;
        }
        begin(&house.store).await;
        let rekey = |store: &Store, dice: Dice| {
            Rekey::new(store.clone(), None, Others::None, Box::new(|| None), dice)
        };
        let dies = rekey(&house.store, Dice::from_number(21));
        for _ in 0..steps {
            dies.step(NOW).await.expect("a step");
        }
        drop(dies);
        let store = house.second_store_with(grown()).await;
        until(
            &rekey(&store, Dice::from_number(22)),
            &store,
            Phase::Resting,
            after(1),
        )
        .await;
        assert_eq!(
            bodies(&house, check).await,
            vec![Some(b"body".to_vec()); 3],
            "{steps}"
        );
    }
}

/// Another node was awake all the time, rotated the keys, and a day later deleted the old ones.
#[tokio::test]
async fn a_node_that_slept_through_a_rotation_asks_which_keys_seal_before_it_goes_on() {
    let mut house = House::on_disk().await;
    let check = house.check(|_| {}).await;
    ping(&mut house, check).await;
    let sleeper = Sweep::new(
        house.store.clone(),
        house.dice.id(),
        house.dice.fork(),
        Zones::Bundled,
        Pending::default(),
        house.deliver.clone(),
        house.meters.clone(),
    );
    sleeper.step(NOW).await.expect("a sign of life");
    house.store.ring_replace(grown()).await.expect("a ring");

    let (other, node) = (house.second_store_with(grown()).await, house.dice.id());
    begin(&other).await;
    let rekey = Rekey::new(
        other.clone(),
        None,
        Others::None,
        Box::new(|| None),
        house.dice.fork(),
    );
    let rests = until(&rekey, &other, Phase::Resting, NOW).await;
    let done = until(&rekey, &other, Phase::Done, rests + Span::from_days(1)).await;
    awake(&other, node, done).await;

    sleeper.step(done + Span::from_secs(1)).await.expect("a sweep");
    ping(&mut house, check).await;
    let scope = house.scope();
    let read = other
        .read(async move |reader| reader.ping_body(scope, check, 2).await)
        .await;
    assert_eq!(read.expect("it opens").as_deref(), Some(&b"body"[..]));
}

/// A ring that others spoilt: the server goes on with the one it has.
#[tokio::test]
async fn a_ring_that_lacks_the_key_in_use_is_refused_and_the_work_goes_on() {
    let mut house = House::on_disk().await;
    begin(&house.store).await;
    let stranger = KeyRing::generate("stranger", &mut Dice::from_number(99));
    let place = Arc::new(Mutex::new(Some(stranger)));
    let rekey = Rekey::new(
        house.store.clone(),
        None,
        Others::None,
        home(&place),
        house.dice.fork(),
    );
    until(&rekey, &house.store, Phase::Resting, NOW).await;
    assert_eq!(house.store.root_key_labels().expect("open").len(), 2);
}
