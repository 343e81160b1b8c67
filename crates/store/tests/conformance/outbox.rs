//! Deliveries: promised once, claimed by one, ended by who holds the lease.

use allswell_core::check::Check;
use allswell_core::delivery::{Class, Owed, Standing};
use allswell_core::flip::Flip;
use allswell_core::health::Trouble;
use allswell_core::id::{ChannelId, DeliveryId, NodeId};
use allswell_core::scope::SystemScope;
use allswell_core::signal::Kind;
use allswell_core::time::{Span, Timestamp};
use allswell_store::outbox::{Claimed, Delivery, End, Found, Next, Recorded, Redelivered, Told, Wanted};
use allswell_store::{Error, Store};

use crate::kit::{House, NOW, OnDisk, SYSTEM, after, on_each_database, rows, run};

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
    many_are_recorded_at_once,
    many_channels_are_claimed_from_at_once_each_within_its_limit,
    a_lane_is_told_in_order,
    what_is_sent_again_can_be_overtaken_again_and_is_told,
    what_is_sent_again_waits_for_a_newer_one_that_is_under_way,
    what_piles_up_in_a_lane_costs_two_rows_for_each_flip,
    a_crowd_is_walked_in_the_order_of_ids,
    the_health_of_a_channel_is_kept,
    what_waits_for_a_channel_ends_when_it_is_switched_off,
    how_an_alert_stands_to_what_is_now,
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

/// Claims what is due, channel by channel.
async fn claim(store: &Store, now: Timestamp, limit: u64, owner: NodeId) -> Vec<Claimed> {
    store
        .write(async move |tx| {
            let (due, _) = tx.deliveries_due(SYSTEM, now, 1_000).await?;
            let mut claimed = Vec::new();
            for ready in due {
                let wanted = Wanted {
                    class: ready.class,
                    project: ready.project,
                    channel: ready.channel,
                    limit: limit - claimed.len() as u64,
                    attempts_below: u64::MAX,
                };
                claimed.extend(tx.deliveries_claim(SYSTEM, &wanted, now, owner, LEASE).await?);
            }
            claimed.sort_by_key(|claimed| (claimed.next_at, claimed.id));
            Ok::<_, Error>(claimed)
        })
        .await
        .expect("a claim")
}

async fn release(store: &Store, now: Timestamp, limit: i64) -> u64 {
    let write = store.write(async move |tx| tx.deliveries_release(SYSTEM, now, limit).await);
    write.await.expect("a release")
}

fn recorded(delivery: &Claimed, next: Next) -> Recorded {
    Recorded {
        claimed: delivery.clone(),
        found: Some(Found {
            started_at: after(20),
            duration: Span::from_secs(1),
            outcome: "http_status".to_owned(),
            http_status: Some(503),
            phases: Some("{}".to_owned()),
            detail: b"what they said".to_vec(),
        }),
        next,
        outcome: "what came of it".to_owned(),
    }
}

/// Records these; gives which of them counted.
async fn record(store: &Store, recorded: Vec<Recorded>, owner: NodeId) -> Vec<DeliveryId> {
    let mut dice = allswell_core::chance::Dice::from_number(5);
    let write = store.write(async move |tx| {
        tx.deliveries_record(SystemScope::engine(), &recorded, owner, after(21), &mut dice)
            .await
    });
    let mut ours: Vec<_> = write.await.expect("a record").into_iter().collect();
    ours.sort_unstable();
    ours
}

async fn finish(store: &Store, delivery: &Claimed, owner: NodeId, end: End) -> bool {
    let recorded = recorded(delivery, Next::Ended(end));
    !record(store, vec![recorded], owner).await.is_empty()
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
    // The one of the second flip stands behind the first's in its lane.
    let behind = kept.pop();
    kept.sort_unstable();
    let node = house.node();
    assert_eq!(ids(&claim(store, NOW, 99, node).await), kept);
    assert!(behind.is_some_and(|id| !kept.contains(&id)));
    let rows = rows(store).await;
    assert_eq!((rows["deliveries"], rows["delivery_flips"]), (3, 3));
}

async fn deliveries_are_claimed_the_longest_due_first(store: &Store) {
    let mut house = House::build(store).await;
    let channel = house.dice.id::<ChannelId>();
    let mut made = Vec::new();
    for secs in [3, 1, 4, 2] {
        let (check, flip) = failed(&mut house).await;
        made.push(house.promise(&check, &flip, channel, after(secs)).await);
    }
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
            check: Some(check.id),
            class: Class::Alert,
            flip_seq: flip.seq,
            state: "ready".to_owned(),
            attempts: 0,
            next_at: after(10),
            expires_at: after(3_610),
            created_at: after(10),
            finished_at: None,
            last_outcome: None,
        };
        assert_eq!(read().await, std::slice::from_ref(&ready));
        let claimed = claim(store, after(20), 9, node).await.remove(0);
        assert_eq!(
            claimed,
            Claimed {
                shard: check.id.as_uuid(),
                id,
                project: check.project,
                channel,
                class: Class::Alert,
                seq: flip.seq,
                redelivery: false,
                note: None,
                attempts: 0,
                next_at: after(10),
                expires_at: after(3_610),
                created_at: after(10),
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
    let next = async |now: Timestamp| {
        let read = store.read(async move |reader| reader.deliveries_next(SYSTEM, now).await);
        read.await.expect("a read")
    };
    let node = house.node();
    assert_eq!(next(NOW).await, (None, None));
    promised(&mut house, &[5]).await;
    assert_eq!(next(NOW).await, (Some(after(5)), None));
    // What is due already is seen by looking for it.
    assert_eq!(next(after(5)).await, (None, None));
    let claimed = claim(store, after(5), 9, node).await.remove(0);
    promised(&mut house, &[70]).await;
    assert_eq!(next(after(5)).await, (Some(after(70)), Some(after(65))));
    assert!(finish(store, &claimed, node, End::Delivered).await);
    assert_eq!(next(after(5)).await, (Some(after(70)), None));
}

async fn told(store: &Store, delivery: &Claimed) -> Option<Told> {
    let delivery = delivery.clone();
    let read = store.read(async move |reader| {
        let mut told = reader.deliveries_told(SYSTEM, &[&delivery]).await?;
        told.remove(&delivery.id).transpose()
    });
    read.await.expect("what is told")
}

async fn a_message_tells_the_flip_of_its_delivery(store: &Store) {
    let mut house = House::build(store).await;
    let (mut check, flip) = failed(&mut house).await;
    let channel = house.channel(house.alice, b"its address").await;
    house.promise(&check, &flip, channel.id, NOW).await;
    // What came later is told by a delivery of its own.
    house
        .ping(&mut check, Kind::Success, b"gone", after(1))
        .await
        .expect("a flip");
    let node = house.node();
    let claimed = claim(store, NOW, 9, node).await.remove(0);
    let told = told(store, &claimed).await.expect("a message");
    assert_eq!(
        (told.check.settings.name.as_str(), told.flips.as_slice()),
        ("backup", &[flip][..])
    );
    let (project, id) = (check.project, channel.id);
    let target = store
        .read(async move |reader| reader.delivery_target(SYSTEM, project, id).await)
        .await;
    let target = target.expect("a read").expect("a target");
    assert_eq!(
        (target.kind.as_str(), target.name.as_str(), target.disabled),
        ("log", "night shift", false)
    );
    assert_eq!(target.config.reveal(), b"its address");
    let before = store
        .read(async move |reader| reader.ping_before(SYSTEM, told.check.id, NOW).await)
        .await;
    assert_eq!(before.expect("a read").map(|(n, ..)| n), Some(1));
}

async fn a_message_is_gone_with_its_check(store: &Store) {
    let mut house = House::build(store).await;
    let (check, flip) = failed(&mut house).await;
    let channel = house.channel(house.alice, b"").await;
    house.promise(&check, &flip, channel.id, NOW).await;
    let node = house.node();
    let claimed = claim(store, NOW, 9, node).await.remove(0);
    assert!(told(store, &claimed).await.is_some());
    let (scope, id) = (house.alice.scope(), check.id);
    store
        .write(async move |tx| tx.check_delete(scope, id, NOW).await)
        .await
        .expect("a delete");
    assert!(told(store, &claimed).await.is_none());
}

/// What is wanted of one channel twice, as of a target that is half open, takes of what is left.
async fn many_channels_are_claimed_from_at_once_each_within_its_limit(store: &Store) {
    let mut house = House::build(store).await;
    let channels = [house.dice.id::<ChannelId>(), house.dice.id(), house.dice.id()];
    let (mut ids, mut project) = (Vec::new(), None);
    for secs in 0..4 {
        let (check, flip) = failed(&mut house).await;
        project = Some(check.project);
        for channel in &channels[..2] {
            ids.push(house.promise(&check, &flip, *channel, after(secs)).await);
        }
    }
    let want = |channel: usize, limit: u64, attempts_below: u64| Wanted {
        class: Class::Alert,
        project: project.expect("a project"),
        channel: channels[channel],
        limit,
        attempts_below,
    };
    let wanted = [
        want(0, 2, 3),
        want(1, 9, u64::MAX),
        want(0, 1, u64::MAX),
        want(2, 5, 3),
        want(1, 1, 0),
    ];
    let node = house.node();
    let claimed = store.write(async move |tx| {
        tx.deliveries_claim_many(SYSTEM, &wanted, after(2), node, LEASE)
            .await
    });
    let claimed: Vec<Vec<DeliveryId>> = claimed
        .await
        .expect("a claim")
        .iter()
        .map(|all| self::ids(all))
        .collect();
    let own = |first: usize, seconds: &[usize]| -> Vec<DeliveryId> {
        seconds.iter().map(|second| ids[second * 2 + first]).collect()
    };
    // Those of the last second are not due yet.
    assert_eq!(
        claimed,
        [own(0, &[0, 1]), own(1, &[0, 1, 2]), own(0, &[2]), vec![], vec![]]
    );
    let open = store.read(async move |reader| reader.deliveries_open(SYSTEM).await);
    let counted = [("leased".to_owned(), 6), ("ready".to_owned(), 2)];
    assert_eq!(open.await.expect("a count"), counted);
    let given_back = store.write(async move |tx| tx.deliveries_release(SYSTEM, after(100), 4).await);
    assert_eq!(
        given_back.await.expect("a change"),
        4,
        "no more than it was told to"
    );
}

/// Several at once, as the engine records them: those that are ours change, and leave their attempt; the others nothing.
async fn many_are_recorded_at_once(store: &Store) {
    let mut house = House::build(store).await;
    promised(&mut house, &[0, 0, 0, 0]).await;
    let [one, two] = [house.node(), house.node()];
    let claimed = claim(store, NOW, 9, one).await;
    assert!(finish(store, &claimed[3], one, End::Cancelled).await);
    let rows_of = [
        recorded(&claimed[0], Next::Ended(End::Delivered)),
        recorded(&claimed[1], Next::Again(after(99))),
        Recorded {
            found: None,
            ..recorded(&claimed[2], Next::Ended(End::Expired))
        },
        recorded(&claimed[3], Next::Ended(End::Delivered)),
    ];
    assert_eq!(
        record(store, rows_of.to_vec(), two).await,
        [],
        "they are another's"
    );
    let mut ours = ids(&claimed[..3]);
    ours.sort_unstable();
    assert_eq!(record(store, rows_of.to_vec(), one).await, ours);
    assert_eq!(record(store, rows_of.to_vec(), one).await, [], "once");
    assert_eq!(open(store).await, [("ready".to_owned(), 1)]);
    let scope = house.alice.scope();
    for (delivery, state, attempts) in [
        (0, "delivered", 1),
        (1, "ready", 1),
        (2, "expired", 0),
        (3, "cancelled", 1),
    ] {
        let id = claimed[delivery].id;
        let read = store.read(async move |reader| {
            Ok::<_, Error>((
                reader.delivery(scope, id).await?,
                reader.attempts_whole(scope, id).await?,
            ))
        });
        let (row, found) = read.await.expect("a read");
        let row = row.expect("the delivery");
        assert_eq!(
            (row.state.as_str(), row.attempts, found.len()),
            (state, attempts, attempts as usize)
        );
        if state == "ready" {
            assert_eq!(row.next_at, after(99));
            assert_eq!(
                found[0].found,
                recorded(&claimed[1], Next::Again(after(99))).found.expect("one")
            );
        }
    }
}

/// A lane: a check and a channel. Its first is claimed, what stands behind it waits, or overtakes it.
async fn a_lane_is_told_in_order(store: &Store) {
    let mut house = House::build(store).await;
    let (mut check, down) = failed(&mut house).await;
    let channel = house.channel(house.alice, b"").await.id;
    let first = house.promise(&check, &down, channel, NOW).await;
    let up = house
        .ping(&mut check, Kind::Success, b"", after(1))
        .await
        .expect("a flip");
    let second = house.promise(&check, &up, channel, after(1)).await;
    let node = house.node();
    let claimed = claim(store, after(2), 9, node).await;
    assert_eq!(ids(&claimed), [first]);
    assert_eq!(
        claim(store, after(2), 9, node).await,
        [],
        "the second waits while the first is under way"
    );
    record(store, vec![recorded(&claimed[0], Next::Again(after(500)))], node).await;
    assert_eq!(
        claim(store, after(3), 9, node).await,
        [],
        "and while the first waits for its next try"
    );

    let wanted = Wanted {
        class: Class::Alert,
        project: check.project,
        channel,
        limit: 9,
        attempts_below: u64::MAX,
    };
    let overtake = async |promised_before: Timestamp, tries: u64| {
        let write = store.write(async move |tx| {
            tx.deliveries_overtake(SYSTEM, &wanted, after(4), promised_before, tries, 99)
                .await
        });
        write.await.expect("an overtaking")
    };
    assert_eq!(overtake(NOW - Span::from_secs(1), 2).await, 0, "it has its time");
    assert_eq!(overtake(NOW - Span::from_secs(1), 1).await, 1);
    let claimed = claim(store, after(4), 9, node).await;
    assert_eq!(ids(&claimed), [second]);
    let told: Vec<u64> = told(store, &claimed[0])
        .await
        .expect("it")
        .flips
        .iter()
        .map(|flip| flip.seq)
        .collect();
    assert_eq!(told, [down.seq, up.seq]);
    let scope = house.alice.scope();
    let read = store.read(async move |reader| reader.delivery(scope, first).await);
    let overtaken = read.await.expect("a read").expect("it");
    assert_eq!(
        (overtaken.state.as_str(), overtaken.finished_at),
        ("superseded", Some(after(4)))
    );
    assert_eq!(overtaken.last_outcome, Some(format!("overtaken by {second}")));
}

/// Somebody insists on an older alert while a newer one of its lane is under way.
async fn what_is_sent_again_waits_for_a_newer_one_that_is_under_way(store: &Store) {
    let mut house = House::build(store).await;
    let (mut check, down) = failed(&mut house).await;
    let (channel, node) = (house.channel(house.alice, b"").await.id, house.node());
    let first = house.promise(&check, &down, channel, NOW).await;
    let claimed = claim(store, NOW, 9, node).await.remove(0);
    assert!(finish(store, &claimed, node, End::Delivered).await);
    let up = house.ping(&mut check, Kind::Success, b"", after(1)).await;
    let second = house
        .promise(&check, &up.expect("a flip"), channel, after(1))
        .await;
    let newer = claim(store, after(1), 9, node).await.remove(0);
    assert_eq!(newer.id, second);
    let scope = house.alice.scope();
    let again = store.write(async move |tx| {
        tx.delivery_redeliver(scope, first, true, after(2), after(500))
            .await
    });
    assert_eq!(again.await.expect("an answer"), Some(Redelivered::Yes));
    assert_eq!(claim(store, after(3), 9, node).await, [], "one at a time");
    assert!(finish(store, &newer, node, End::Delivered).await);
    assert_eq!(ids(&claim(store, after(4), 9, node).await), [first]);
}

async fn of_told(store: &Store, delivery: &Claimed) -> Vec<u64> {
    let told = told(store, delivery).await.expect("it");
    told.flips.iter().map(|flip| flip.seq).collect()
}

/// A check flaps while nobody answers. Whatever its alerts are overtaken by, and however often: a flip has the row of its
/// own delivery, and one of whoever tells it now. One alert tells the newest hundred.
async fn what_piles_up_in_a_lane_costs_two_rows_for_each_flip(store: &Store) {
    let mut house = House::build(store).await;
    let (mut check, mut flip) = failed(&mut house).await;
    let down = flip.clone();
    let (channel, node) = (house.channel(house.alice, b"").await.id, house.node());
    let mut made = Vec::new();
    for secs in 1..=250 {
        made.push(house.promise(&check, &flip, channel, after(secs)).await);
        let kind = if secs % 2 == 0 { Kind::Fail } else { Kind::Success };
        let next = house.ping(&mut check, kind, b"", after(secs)).await;
        flip = next.expect("a flip");
    }
    let wanted = Wanted {
        class: Class::Alert,
        project: check.project,
        channel,
        limit: 9,
        attempts_below: u64::MAX,
    };
    let mut overtaken = Vec::new();
    for _ in 0..4 {
        let overtake = store.write(async move |tx| {
            tx.deliveries_overtake(SYSTEM, &wanted, after(400), after(1), 3, 100)
                .await
        });
        overtaken.push(overtake.await.expect("an overtaking"));
        let claimed = claim(store, after(0), 9, node).await;
        assert_eq!(claimed, [], "nothing in their midst is the first");
    }
    assert_eq!(overtaken, [100, 100, 49, 0]);
    let (scope, first) = (house.alice.scope(), made[0]);
    let shown = store.read(async move |reader| {
        let row = reader.delivery(scope, first).await?;
        Ok::<_, Error>((row, reader.delivery_flips(scope, first).await?))
    });
    let (row, flips) = shown.await.expect("a read");
    assert_eq!((row.expect("it").state.as_str(), flips), ("superseded", vec![1]));
    assert_eq!(rows(store).await["delivery_flips"], 250 + 99);
    let mut claimed = claim(store, after(400), 9, node).await;
    assert_eq!(ids(&claimed), made[249..]);
    let newest: Vec<u64> = (151..=250).collect();
    assert_eq!(of_told(store, &claimed[0]).await, newest);

    // However many flips came since, it is shown which one it told.
    let charlie = house.charlie.scope();
    let whole = store.read(async move |reader| {
        let hidden = reader.delivery_flips_whole(charlie, first).await?;
        Ok::<_, Error>((reader.delivery_flips_whole(scope, first).await?, hidden))
    });
    let (whole, hidden) = whole.await.expect("a read");
    assert_eq!((whole, hidden), (vec![down], vec![]));

    // What was claimed late is overtaken as what waits is: all of it, or it waits for the rest.
    for secs in 251..=255 {
        made.push(house.promise(&check, &flip, channel, after(secs)).await);
        let kind = if secs % 2 == 0 { Kind::Fail } else { Kind::Success };
        let next = house.ping(&mut check, kind, b"", after(secs)).await;
        flip = next.expect("a flip");
    }
    for (overtaken, next) in [(3, 249), (2, 254)] {
        let delivery = claimed.remove(0);
        let overtake =
            store.write(async move |tx| tx.delivery_overtake(SYSTEM, &delivery, node, after(400), 3).await);
        assert_eq!(overtake.await.expect("an overtaking"), overtaken);
        claimed = claim(store, after(400), 9, node).await;
        assert_eq!(ids(&claimed), made[next..=next]);
    }
    let newest: Vec<u64> = (156..=255).collect();
    assert_eq!(of_told(store, &claimed[0]).await, newest);
    assert_eq!(rows(store).await["delivery_flips"], 255 + 99);
}

/// As a version left it that had no bound: what waits tells thousands of flips.
#[test]
fn what_tells_too_much_is_cut_step_by_step() {
    run(async {
        let disk = OnDisk::new();
        let store = disk.open().await;
        let mut house = House::build(&store).await;
        let (mut check, down) = failed(&mut house).await;
        let (channel, node) = (house.channel(house.alice, b"").await.id, house.node());
        for secs in 1..=200 {
            let kind = if secs % 2 == 0 { Kind::Fail } else { Kind::Success };
            house.ping(&mut check, kind, b"", after(secs)).await;
        }
        let flips = house.read(&check).await.expect("it").state.flip_count;
        let mut last = down.clone();
        last.seq = flips;
        let waiting = house.promise(&check, &last, channel, after(1)).await;
        let before = [check.id.as_uuid(), channel.as_uuid(), waiting.as_uuid()];
        let before = before.map(|id| id.as_bytes().to_vec());
        let copies = "with recursive n (i) as (select 1 union all select i + 1 from n where i < 3000)
            insert into delivery_flips select ?1, 1 + i % 190, ?2, 1 + i, ?3 from n";
        let copied = disk.raw().execute(copies, rusqlite::params_from_iter(before));
        assert_eq!(copied.expect("rows"), 3_000);
        let claimed = claim(&store, after(1), 9, node).await;
        assert!(of_told(&store, &claimed[0]).await.len() <= 100);

        last.seq = flips + 1;
        let next = house.promise(&check, &last, channel, after(1)).await;
        let overtake =
            store.write(async move |tx| tx.delivery_overtake(SYSTEM, &claimed[0], node, after(2), 9).await);
        assert_eq!(overtake.await.expect("an overtaking"), 1);
        let of = |id: DeliveryId| -> i64 {
            let of = "select count(*) from delivery_flips where delivery_id = ?1";
            let id = id.as_uuid().as_bytes().to_vec();
            disk.raw().query_row(of, [id], |row| row.get(0)).expect("a count")
        };
        assert!(of(next) <= 101, "{}", of(next));
    });
}

/// The first of three is overtaken by the second, which is given up, and sent again: the third overtakes it once it was
/// tried, and tells it.
async fn what_is_sent_again_can_be_overtaken_again_and_is_told(store: &Store) {
    let mut house = House::build(store).await;
    let (mut check, down) = failed(&mut house).await;
    let (channel, node) = (house.channel(house.alice, b"").await.id, house.node());
    let first = house.promise(&check, &down, channel, NOW).await;
    let claimed = claim(store, NOW, 9, node).await;
    record(store, vec![recorded(&claimed[0], Next::Again(after(500)))], node).await;
    let (project, scope) = (check.project, house.alice.scope());
    let overtake = async |now: Timestamp| {
        let wanted = Wanted {
            class: Class::Alert,
            project,
            channel,
            limit: 9,
            attempts_below: u64::MAX,
        };
        let write = store.write(async move |tx| {
            tx.deliveries_overtake(SYSTEM, &wanted, now, NOW - Span::from_secs(1), 1, 99)
                .await
        });
        write.await.expect("an overtaking")
    };
    let up = house.ping(&mut check, Kind::Success, b"", after(1)).await;
    let second = up.expect("a flip");
    let second = house.promise(&check, &second, channel, after(1)).await;
    assert_eq!(overtake(after(2)).await, 1);
    let claimed = claim(store, after(2), 9, node).await;
    assert_eq!(ids(&claimed), [second]);
    assert!(finish(store, &claimed[0], node, End::Exhausted).await);

    let until = after(30) + Span::from_secs(24 * 3_600);
    let again =
        store.write(async move |tx| tx.delivery_redeliver(scope, first, false, after(30), until).await);
    assert_eq!(again.await.expect("an answer"), Some(Redelivered::Yes));
    let down_again = house.ping(&mut check, Kind::Fail, b"", after(31)).await;
    let down_again = down_again.expect("a flip");
    let third = house.promise(&check, &down_again, channel, after(31)).await;
    assert_eq!(overtake(after(32)).await, 0, "it was not tried yet");
    let claimed = claim(store, after(33), 9, node).await;
    assert_eq!(ids(&claimed), [first]);
    let mut tried = recorded(&claimed[0], Next::Again(after(500)));
    tried.found.as_mut().expect("an attempt").started_at = after(33);
    record(store, vec![tried], node).await;
    assert_eq!(overtake(after(34)).await, 1);
    let claimed = claim(store, after(34), 9, node).await;
    assert_eq!(ids(&claimed), [third]);
    let told = told(store, &claimed[0]).await.expect("it");
    let told: Vec<u64> = told.flips.iter().map(|flip| flip.seq).collect();
    assert_eq!(told, [down.seq, down_again.seq]);
}

/// A crowd is asked project by project and channel by channel, each from where the last look ended.
async fn a_crowd_is_walked_in_the_order_of_ids(store: &Store) {
    let mut house = House::build(store).await;
    let mut channels = Vec::new();
    for secs in [0, 0, 50] {
        let (check, flip) = failed(&mut house).await;
        let channel = house.dice.id::<ChannelId>();
        house.promise(&check, &flip, channel, after(secs)).await;
        channels.push((channel, secs == 0));
    }
    channels.sort_unstable();
    let project = house.alice.scope().project();
    let nil = || uuid::Uuid::nil();
    let walked = store
        .read(async move |reader| {
            let projects = reader
                .deliveries_projects(SYSTEM, Class::Alert, nil().into(), after(1), 9)
                .await?;
            let none = reader
                .deliveries_projects(SYSTEM, Class::Alert, project, after(1), 9)
                .await?;
            let others = reader
                .deliveries_projects(SYSTEM, Class::Job, nil().into(), after(1), 9)
                .await?;
            let first = reader
                .deliveries_channels(SYSTEM, Class::Alert, project, nil().into(), after(1), 2)
                .await?;
            let after_them = reader
                .deliveries_channels(SYSTEM, Class::Alert, project, first[1].0, after(1), 9)
                .await?;
            Ok::<_, Error>((projects, none, others, first, after_them))
        })
        .await
        .expect("a walk");
    assert_eq!(
        (walked.0, walked.1, walked.2),
        (vec![(project, true)], vec![], vec![])
    );
    assert_eq!(
        (walked.3.as_slice(), walked.4.as_slice()),
        (&channels[..2], &channels[2..])
    );
}

async fn the_health_of_a_channel_is_kept(store: &Store) {
    let mut house = House::build(store).await;
    let channel = house.channel(house.alice, b"").await.id;
    let other = house.channel(house.alice, b"").await.id;
    let (scope, charlie, project) = (
        house.alice.scope(),
        house.charlie.scope(),
        house.alice.scope().project(),
    );
    store
        .write(async move |tx| {
            tx.channel_fails(SYSTEM, channel, "timeout", 0, NOW).await?;
            tx.channel_fails(SYSTEM, channel, "dns", 3, after(90_000)).await?;
            let health = tx.channel_health(SYSTEM, channel).await?.expect("it");
            assert_eq!((health.failing_since, health.given_up), (Some(NOW), 3));
            assert_eq!(health.last_error.as_deref(), Some("dns"));
            let trouble =
                allswell_core::health::judge(NOW, health.given_up, health.warnings, &[], after(90_000));
            assert_eq!(trouble, Some(Trouble::Warn(1)));
            assert!(tx.channel_warned(SYSTEM, channel, 1).await?);
            assert!(!tx.channel_warned(SYSTEM, channel, 1).await?, "once");
            assert!(tx.channel_blocked_said(SYSTEM, channel, NOW).await?);
            assert!(!tx.channel_blocked_said(SYSTEM, channel, after(1)).await?, "once");
            let beside = tx.channels_working_beside(SYSTEM, project, other).await?;
            assert_eq!(beside.len(), 0, "it fails");
            let beside = tx.channels_working_beside(SYSTEM, project, channel).await?;
            assert_eq!(beside.len(), 1);
            assert!(tx.channel_disable(SYSTEM, channel, "gone", after(5)).await?);
            assert!(
                !tx.channel_disable(SYSTEM, channel, "failing", after(6)).await?,
                "once"
            );
            assert!(!tx.channel_enable(charlie, channel).await?, "not charlie's");
            assert!(tx.channel_enable(scope, channel).await?);
            let said = tx.channel_blocked_said(SYSTEM, channel, after(7)).await?;
            assert!(said, "whoever switches it on again wants to hear it");
            tx.channel_fails(SYSTEM, channel, "dns", 1, after(7)).await?;
            tx.channel_works(SYSTEM, channel).await?;
            let said = tx.channel_blocked_said(SYSTEM, channel, after(8)).await?;
            assert!(said, "something has arrived since");
            let health = tx.channel_health(SYSTEM, channel).await?.expect("it");
            assert_eq!(
                (health.failing_since, health.given_up, health.disabled),
                (None, 0, None)
            );
            Ok::<_, Error>(())
        })
        .await
        .expect("a story");
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

/// Of three alerts one is under way, and of another channel there is one; a test shows whether the channel works again.
async fn what_waits_for_a_channel_ends_when_it_is_switched_off(store: &Store) {
    let mut house = House::build(store).await;
    let channel = house.channel(house.alice, b"").await.id;
    let beside = house.channel(house.alice, b"").await.id;
    let mut made = Vec::new();
    for (channel, secs) in [(channel, 0), (channel, 50), (channel, 60), (beside, 70)] {
        let (check, flip) = failed(&mut house).await;
        made.push(house.promise(&check, &flip, channel, after(secs)).await);
    }
    let node = house.node();
    let under_way = claim(store, NOW, 9, node).await;
    assert_eq!(ids(&under_way), made[..1]);
    let (scope, test) = (house.alice.scope(), house.dice.id());
    let off = store.write(async move |tx| {
        let owed = Owed {
            channel,
            class: Class::Test,
            expires_at: after(500),
        };
        tx.delivery_insert_plain(scope, &owed, None, test, after(80))
            .await?;
        let first = tx.channel_disable(SYSTEM, channel, "gone", after(5)).await?;
        Ok::<_, Error>((
            first,
            tx.channel_disable(SYSTEM, channel, "gone", after(6)).await?,
        ))
    });
    assert_eq!(off.await.expect("a change"), (true, false));
    let read = store.read(async move |reader| reader.deliveries_of_project(scope, 9).await);
    let mut found: Vec<_> = read.await.expect("a read").into_iter().collect();
    found.sort_by_key(|row| row.created_at);
    let states: Vec<_> = found
        .iter()
        .map(|row| (row.id, row.state.as_str(), row.finished_at))
        .collect();
    let expected = [
        (made[0], "leased", None),
        (made[1], "cancelled", Some(after(5))),
        (made[2], "cancelled", Some(after(5))),
        (made[3], "ready", None),
        (test, "ready", None),
    ];
    assert_eq!(states, expected);
    assert_eq!(
        found[1].last_outcome.as_deref(),
        Some("the channel is switched off")
    );
}

async fn how_an_alert_stands_to_what_is_now(store: &Store) {
    let mut house = House::build(store).await;
    let (mut check, flip) = failed(&mut house).await;
    let channel = house.channel(house.alice, b"").await;
    house.promise(&check, &flip, channel.id, NOW).await;
    let node = house.node();
    let claimed = claim(store, NOW, 9, node).await.remove(0);
    let stands = async || {
        let claimed = claimed.clone();
        let read = store.read(async move |reader| reader.delivery_standing(SYSTEM, &claimed).await);
        read.await.expect("a read").expect("the channel")
    };
    let alone = Standing {
        assigned: false,
        tells_both: channel.tells_down && channel.tells_up,
        newer_waits: false,
    };
    assert_eq!(stands().await, alone);
    house.tell(&check, &[&channel]).await.expect("a channel");
    let assigned = Standing {
        assigned: true,
        ..alone
    };
    assert_eq!(stands().await, assigned);
    let up = house.ping(&mut check, Kind::Success, b"", after(1)).await;
    let up = house
        .promise(&check, &up.expect("a flip"), channel.id, after(1))
        .await;
    let newer = Standing {
        newer_waits: true,
        ..assigned
    };
    assert_eq!(stands().await, newer);
    assert!(finish(store, &claimed, node, End::Exhausted).await);
    let next = claim(store, after(1), 9, node).await.remove(0);
    assert_eq!(next.id, up);
    assert!(finish(store, &next, node, End::Exhausted).await);
    assert_eq!(stands().await, assigned, "it has ended");
}
