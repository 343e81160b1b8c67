//! Deliveries: promised once, claimed by one, ended by who holds the lease.

use allswell_core::check::Check;
use allswell_core::flip::Flip;
use allswell_core::id::{ChannelId, DeliveryId, NodeId};
use allswell_core::signal::Kind;
use allswell_core::time::{Span, Timestamp};
use allswell_store::outbox::{Claimed, Delivery, End, Message};
use allswell_store::{Error, Store};

use crate::kit::{House, NOW, SYSTEM, after, on_each_database, rows};

on_each_database!(
    a_delivery_is_promised_once_per_flip_and_channel,
    deliveries_are_claimed_the_longest_due_first,
    what_is_claimed_is_not_claimed_again_until_its_lease_lapses,
    all_that_is_leased_is_given_back_at_once,
    only_the_holder_of_the_lease_ends_a_delivery,
    the_ends_are_recorded_with_their_attempt,
    the_next_work_is_the_nearest_due_or_lapse,
    a_message_tells_the_flip_of_its_delivery,
    a_message_is_gone_with_its_check,
    what_a_clock_ahead_promised_or_leased_is_brought_back_in_slices,
    charlie_sees_no_delivery_of_alice,
);

const LEASE: Span = Span::from_secs(60);

/// A check that failed, and its flip.
async fn failed(house: &mut House<'_>) -> (Check, Flip) {
    let mut check = house
        .check(house.alice, |check| check.settings.name = "backup".to_owned())
        .await;
    let flip = house
        .ping(&mut check, Kind::Fail, b"", NOW)
        .await
        .expect("a flip");
    (check, flip)
}

/// Deliveries due at these seconds, each of a check of its own.
async fn promised(house: &mut House<'_>, due: &[i64]) -> Vec<DeliveryId> {
    let mut ids = Vec::new();
    for secs in due {
        let (check, flip) = failed(house).await;
        let channel = house.dice.id::<ChannelId>();
        ids.push(house.promise(&check, &flip, channel, after(*secs)).await);
    }
    ids
}

async fn claim(store: &Store, now: Timestamp, limit: i64, owner: NodeId) -> Vec<Claimed> {
    store
        .write(async move |tx| tx.deliveries_claim(SYSTEM, now, limit, owner, LEASE).await)
        .await
        .expect("a claim")
}

async fn release(store: &Store, now: Timestamp, limit: i64) -> u64 {
    let write = store.write(async move |tx| tx.deliveries_release(SYSTEM, now, limit).await);
    write.await.expect("a release")
}

async fn finish(store: &Store, delivery: &Claimed, owner: NodeId, end: End) -> bool {
    let delivery = delivery.clone();
    store
        .write(async move |tx| {
            tx.delivery_finish(&delivery, owner, end, "what came of it", after(20), after(21))
                .await
        })
        .await
        .expect("an end")
}

fn ids(claimed: &[Claimed]) -> Vec<DeliveryId> {
    claimed.iter().map(|delivery| delivery.id).collect()
}

async fn open(store: &Store) -> Vec<(String, i64)> {
    store
        .read(async |reader| reader.deliveries_open(SYSTEM).await)
        .await
        .expect("a count")
}

/// Three were promised by a clock two hours ahead, and one that is due now was claimed by it.
async fn what_a_clock_ahead_promised_or_leased_is_brought_back_in_slices(store: &Store) {
    const AHEAD: i64 = 7_200;
    let mut house = House::build(store).await;
    let [node, other] = [house.node(), house.node()];
    let leased = promised(&mut house, &[0]).await;
    assert_eq!(ids(&claim(store, after(AHEAD), 9, node).await), leased);
    let near = promised(&mut house, &[60]).await;
    let far = promised(&mut house, &[61, AHEAD, AHEAD]).await;
    let bring_back = async |limit| {
        let write = store.write(async move |tx| tx.deliveries_bring_back(SYSTEM, NOW, limit).await);
        write.await.expect("a change")
    };
    let mut slices = Vec::new();
    for _ in 0..3 {
        slices.push(bring_back(2).await);
    }
    assert_eq!(slices, [3, 1, 0], "two and one of one kind and the other");
    assert_eq!(release(store, NOW, 9).await, 1);
    let mut due = ids(&claim(store, NOW, 9, other).await);
    due.sort_unstable();
    let mut wanted = [leased, far].concat();
    wanted.sort_unstable();
    assert_eq!(due, wanted);
    assert_eq!(ids(&claim(store, after(60), 9, other).await), near);
}

async fn a_delivery_is_promised_once_per_flip_and_channel(store: &Store) {
    let mut house = House::build(store).await;
    let (mut check, flip) = failed(&mut house).await;
    let up = house
        .ping(&mut check, Kind::Success, b"", after(1))
        .await
        .expect("a flip");
    let [one, two] = [house.dice.id(), house.dice.id()];
    let mut kept = Vec::new();
    for (flip, channel, is_new) in [
        (&flip, one, true),
        (&flip, one, false),
        (&flip, two, true),
        (&up, one, true),
        (&up, one, false),
    ] {
        let id = house.promise(&check, flip, channel, NOW).await;
        if is_new {
            kept.push(id);
        }
    }
    kept.sort_unstable();
    let node = house.node();
    assert_eq!(ids(&claim(store, NOW, 99, node).await), kept);
    let rows = rows(store).await;
    assert_eq!((rows["deliveries"], rows["delivery_flips"]), (3, 3));
}

async fn deliveries_are_claimed_the_longest_due_first(store: &Store) {
    let mut house = House::build(store).await;
    let made = promised(&mut house, &[3, 1, 4, 2]).await;
    let node = house.node();
    assert_eq!(claim(store, NOW, 9, node).await, []);
    assert_eq!(ids(&claim(store, after(3), 2, node).await), [made[1], made[3]]);
    assert_eq!(ids(&claim(store, after(3), 2, node).await), [made[0]]);
    assert_eq!(
        open(store).await,
        [("leased".to_owned(), 3), ("ready".to_owned(), 1)]
    );
}

async fn what_is_claimed_is_not_claimed_again_until_its_lease_lapses(store: &Store) {
    let mut house = House::build(store).await;
    let made = promised(&mut house, &[0, 0, 0]).await;
    let [one, two] = [house.node(), house.node()];
    assert_eq!(claim(store, NOW, 9, one).await.len(), 3);
    assert_eq!(claim(store, after(59), 9, two).await, []);
    assert_eq!(release(store, after(59), 9).await, 0);
    assert_eq!(
        claim(store, after(60), 9, two).await,
        [],
        "a lapse alone gives nothing: it is released first"
    );
    assert_eq!(
        (
            release(store, after(60), 2).await,
            release(store, after(60), 2).await
        ),
        (2, 1)
    );
    let mut again = ids(&claim(store, after(60), 9, two).await);
    again.sort_unstable();
    let mut made = made;
    made.sort_unstable();
    assert_eq!(again, made);
}

/// The one server of a database after a crash: no lease can be anybody else's.
async fn all_that_is_leased_is_given_back_at_once(store: &Store) {
    let mut house = House::build(store).await;
    let made = promised(&mut house, &[0, 0, 0, 500]).await;
    let [dead, next] = [house.node(), house.node()];
    let claimed = claim(store, NOW, 9, dead).await;
    assert!(finish(store, &claimed[0], dead, End::Delivered).await);
    let release_all = async || {
        let write = store.write(async |tx| tx.deliveries_release_all(SYSTEM).await);
        write.await.expect("a release")
    };
    assert_eq!((release_all().await, release_all().await), (2, 0));
    assert_eq!(open(store).await, [("ready".to_owned(), 3)]);
    assert!(
        !finish(store, &claimed[1], dead, End::Delivered).await,
        "it is nobody's"
    );
    // What had ended stays so, and what is not due yet stays for later.
    assert_eq!(ids(&claim(store, NOW, 9, next).await), ids(&claimed[1..]));
    assert_eq!(ids(&claim(store, after(500), 9, next).await), made[3..]);
}

async fn only_the_holder_of_the_lease_ends_a_delivery(store: &Store) {
    let mut house = House::build(store).await;
    promised(&mut house, &[0]).await;
    let [one, two] = [house.node(), house.node()];
    let first = claim(store, NOW, 9, one).await.remove(0);
    assert!(!finish(store, &first, two, End::Delivered).await, "it is not his");
    release(store, after(60), 9).await;
    assert!(
        !finish(store, &first, one, End::Delivered).await,
        "it is nobody's"
    );
    let second = claim(store, after(60), 9, two).await.remove(0);
    assert!(
        !finish(store, &first, one, End::Delivered).await,
        "it is another's now"
    );
    assert_eq!(
        rows(store).await["attempts"],
        0,
        "what did not count left no attempt"
    );
    assert!(finish(store, &second, two, End::Delivered).await);
    assert!(!finish(store, &second, two, End::Delivered).await, "it has ended");
    assert_eq!(rows(store).await["attempts"], 1);
    assert_eq!(open(store).await, []);
}

async fn the_ends_are_recorded_with_their_attempt(store: &Store) {
    let mut house = House::build(store).await;
    let node = house.node();
    for (end, word) in [
        (End::Delivered, "delivered"),
        (End::Expired, "expired"),
        (End::Cancelled, "cancelled"),
    ] {
        let (check, flip) = failed(&mut house).await;
        let channel: ChannelId = house.dice.id();
        let id = house.promise(&check, &flip, channel, after(10)).await;
        let (scope, shard) = (house.alice.scope(), check.id);
        let read = async || {
            let read = store.read(async move |reader| reader.deliveries(scope, shard, 9).await);
            read.await.expect("a read")
        };
        let ready = Delivery {
            id,
            channel,
            flip_seq: flip.seq,
            state: "ready".to_owned(),
            attempts: 0,
            created_at: after(10),
            finished_at: None,
            last_outcome: None,
        };
        assert_eq!(read().await, std::slice::from_ref(&ready));
        let claimed = claim(store, after(20), 9, node).await.remove(0);
        assert_eq!(
            claimed,
            Claimed {
                check: check.id,
                id,
                project: check.project,
                channel,
                attempts: 0,
                expires_at: after(3_610)
            }
        );
        assert_eq!(read().await[0].state, "leased");
        assert!(finish(store, &claimed, node, end).await);
        let ended = Delivery {
            state: word.to_owned(),
            attempts: 1,
            finished_at: Some(after(21)),
            last_outcome: Some("what came of it".to_owned()),
            ..ready
        };
        assert_eq!(read().await, [ended]);
    }
    assert_eq!(rows(store).await["attempts"], 3);
}

async fn the_next_work_is_the_nearest_due_or_lapse(store: &Store) {
    let mut house = House::build(store).await;
    let next = async || {
        store
            .read(async |reader| reader.delivery_next_at(SYSTEM).await)
            .await
            .expect("a read")
    };
    let node = house.node();
    assert_eq!(next().await, None);
    promised(&mut house, &[5]).await;
    assert_eq!(next().await, Some(after(5)));
    let claimed = claim(store, after(5), 9, node).await.remove(0);
    assert_eq!(next().await, Some(after(65)));
    promised(&mut house, &[70]).await;
    assert_eq!(next().await, Some(after(65)));
    assert!(finish(store, &claimed, node, End::Delivered).await);
    assert_eq!(next().await, Some(after(70)));
}

async fn message(store: &Store, delivery: &Claimed) -> Option<Message> {
    let delivery = delivery.clone();
    let read = store.read(async move |reader| reader.delivery_message(SYSTEM, &delivery).await);
    read.await.expect("a message")
}

async fn a_message_tells_the_flip_of_its_delivery(store: &Store) {
    let mut house = House::build(store).await;
    let (mut check, flip) = failed(&mut house).await;
    let channel = house.channel(house.alice, b"").await;
    house.promise(&check, &flip, channel.id, NOW).await;
    // What came later is told by a delivery of its own.
    house
        .ping(&mut check, Kind::Success, b"", after(1))
        .await
        .expect("a flip");
    let node = house.node();
    let claimed = claim(store, NOW, 9, node).await.remove(0);
    assert_eq!(
        message(store, &claimed).await,
        Some(Message {
            check_name: "backup".to_owned(),
            slug: String::new(),
            channel_name: "night shift".to_owned(),
            kind: "log".to_owned(),
            flip,
        })
    );
}

async fn a_message_is_gone_with_its_check(store: &Store) {
    let mut house = House::build(store).await;
    let (check, flip) = failed(&mut house).await;
    let channel = house.channel(house.alice, b"").await;
    house.promise(&check, &flip, channel.id, NOW).await;
    let node = house.node();
    let claimed = claim(store, NOW, 9, node).await.remove(0);
    assert!(message(store, &claimed).await.is_some());
    let (scope, id) = (house.alice.scope(), check.id);
    store
        .write(async move |tx| tx.check_delete(scope, id, NOW).await)
        .await
        .expect("a delete");
    assert_eq!(message(store, &claimed).await, None);
}

async fn charlie_sees_no_delivery_of_alice(store: &Store) {
    let mut house = House::build(store).await;
    let (check, flip) = failed(&mut house).await;
    let channel = house.dice.id();
    house.promise(&check, &flip, channel, NOW).await;
    let (alice, charlie, id) = (house.alice.scope(), house.charlie.scope(), check.id);
    let seen = store
        .read(async move |reader| {
            Ok::<_, Error>((
                reader.deliveries(alice, id, 9).await?.len(),
                reader.deliveries(charlie, id, 9).await?.len(),
            ))
        })
        .await;
    assert_eq!(seen.expect("reads"), (1, 0));
}
