//! The replacing of keys: nothing is left under the old ones, nothing is lost on the way, and no step is taken twice.

use allswell_core::chance::Dice;
use allswell_core::key::KeyKind;
use allswell_core::seal::KeyRing;
use allswell_core::signal::Kind;
use allswell_store::instance::UnlockError;
use allswell_store::rotation::{Phase, Rotation, Slice};
use allswell_store::{Error, Store, sealed_columns};
use allswell_testkit::Cluster;

use crate::kit::{
    House, NOW, OnDisk, SYSTEM, after, on_each_database, postgres_place, ring, rows, run, unlock,
};

on_each_database!(
    a_rotation_leaves_nothing_under_old_keys_and_loses_nothing,
    a_step_that_somebody_else_took_is_not_taken_again,
    a_node_is_known_by_its_newest_word,
    a_ring_that_lacks_a_key_in_use_is_not_taken,
    a_ring_with_another_key_by_the_name_is_not_taken,
);

/// The usual ring with a second key.
fn grown() -> KeyRing {
    ring()
        .with_generated("root-2", &mut Dice::from_number(3))
        .expect("a second key")
}

async fn newest(store: &Store) -> Rotation {
    store
        .read(async |reader| reader.rotation(SYSTEM).await)
        .await
        .expect("a read")
        .expect("a rotation")
}

async fn begin(store: &Store) -> Rotation {
    store.ring_replace(grown()).await.expect("a ring");
    store
        .write(async |tx| tx.rotation_begin(SYSTEM, "root-2", after(1)).await)
        .await
        .expect("a rotation");
    newest(store).await
}

async fn enter(store: &Store, phase: Phase) {
    let mut rotation = newest(store).await;
    if phase == Phase::Sealing {
        rotation = rotation.at_first();
    }
    rotation.phase = phase;
    let saved = store
        .write(async move |tx| tx.rotation_save(SYSTEM, &rotation).await)
        .await;
    assert!(saved.expect("a write"));
}

/// Wraps and makes keys, one at a time.
async fn replace_keys(store: &Store) {
    let mut dice = Dice::from_number(11);
    enter(store, Phase::Wrapping).await;
    loop {
        let (rotation, mut dice) = (newest(store).await, dice.fork());
        let slice = store.write(async move |tx| tx.rotation_wrap(SYSTEM, &rotation, 1, &mut dice).await);
        if slice.await.expect("a slice") == Slice::End {
            break;
        }
    }
    enter(store, Phase::Keying).await;
    loop {
        let (rotation, mut dice) = (newest(store).await, dice.fork());
        let slice = store.write(async move |tx| {
            tx.rotation_make_keys(SYSTEM, &rotation, 1, &mut dice, after(2))
                .await
        });
        if slice.await.expect("a slice") == Slice::End {
            break;
        }
    }
    store.data_keys_forget();
}

/// One pass over all values, two at a time; the rotation behind it.
async fn pass(store: &Store) -> Rotation {
    let mut dice = Dice::from_number(12);
    enter(store, Phase::Sealing).await;
    loop {
        let (rotation, mut dice) = (newest(store).await, dice.fork());
        let slice = store.write(async move |tx| tx.rotation_seal(SYSTEM, &rotation, 2, &mut dice).await);
        if slice.await.expect("a slice") == Some(Slice::End) {
            return newest(store).await;
        }
    }
}

async fn a_rotation_leaves_nothing_under_old_keys_and_loses_nothing(store: &Store) {
    let mut house = House::build(store).await;
    let (alice, bob) = (house.alice, house.bob);
    let mut check = house.check(alice, |_| {}).await;
    let mut other = house.check(bob, |_| {}).await;
    for body in ["one", "two", "three"] {
        house.ping(&mut check, Kind::Success, body.as_bytes(), NOW).await;
    }
    house.ping(&mut other, Kind::Success, b"bob's", NOW).await;
    let channel = house.channel(alice, b"config").await;
    let (_, ping_key) = house.key(alice, KeyKind::Ping, 0).await;
    let (api_key, text) = house.key(alice, KeyKind::ReadWrite, 0).await;
    let badge = store.badge_keys().expect("open").project_key(alice.project);
    let (scope, id) = (alice.scope(), check.id);
    let all_reads = async || {
        let channel = channel.id;
        let (bodies, config, key) = store
            .read(async move |reader| {
                let mut bodies = Vec::new();
                for n in 1..=3 {
                    bodies.extend(reader.ping_body(scope, id, n).await?);
                }
                let config = reader.channel_config(scope, channel).await?;
                Ok::<_, Error>((bodies, config, reader.ping_key(scope).await?))
            })
            .await
            .expect("everything opens");
        assert_eq!(bodies, [&b"one"[..], b"two", b"three"]);
        assert_eq!(config.as_deref(), Some(&b"config"[..]));
        assert_eq!(key.as_ref(), Some(&ping_key));
        for text in [text.reveal().clone(), ping_key.reveal().clone()] {
            let known = store
                .read(async move |reader| reader.key_recognise(&text, NOW).await)
                .await;
            assert!(known.expect("a read").is_some(), "a key opens nothing any more");
        }
        assert_eq!(
            store.badge_keys().expect("open").project_key(alice.project),
            badge
        );
    };
    begin(store).await;
    all_reads().await;
    replace_keys(store).await;
    all_reads().await;

    let rotation = newest(store).await;
    assert_eq!((rotation.keys_wrapped, rotation.keys_made), (4, 3));
    let first = pass(store).await;
    // Four bodies, a channel, a ping key.
    assert_eq!(
        (first.values_seen, first.values_sealed, first.values_unreadable),
        (6, 6, 0)
    );
    all_reads().await;
    let second = pass(store).await;
    assert_eq!((second.pass, second.values_seen, second.values_sealed), (2, 6, 0));

    let used = store
        .read(async |reader| reader.root_keys_in_use().await)
        .await
        .expect("a read");
    assert_eq!(
        used.iter()
            .map(|used| (used.name.as_str(), used.wraps, used.retired))
            .collect::<Vec<_>>(),
        [("root-2", 7, 3)]
    );
    let forgotten = store
        .write(async move |tx| {
            assert!(!tx.rotation_left_something(SYSTEM, &second).await?);
            tx.rotation_forget_keys(SYSTEM, &second).await
        })
        .await;
    assert_eq!(forgotten.expect("a write"), 3);
    assert_eq!(rows(store).await["data_keys"], 4);
    let ever = store
        .read(async |reader| reader.root_keys_ever(SYSTEM).await)
        .await;
    assert_eq!(
        ever.expect("a read"),
        ["root-1", "root-2"],
        "an old key must not be taken for a new one"
    );
    // Without the old ring and without what this process has at hand.
    let alone = grown().without("root-1").expect("the new one");
    store.ring_replace(alone).await.expect("a ring");
    all_reads().await;
    let keys = store
        .read(async move |reader| reader.keys(scope).await)
        .await
        .expect("a read");
    assert!(keys.iter().any(|key| key.id == api_key));
}

async fn a_step_that_somebody_else_took_is_not_taken_again(store: &Store) {
    let mut house = House::build(store).await;
    let mut check = house.check(house.alice, |_| {}).await;
    for body in ["one", "two", "three"] {
        house.ping(&mut check, Kind::Success, body.as_bytes(), NOW).await;
    }
    let seen = begin(store).await;
    let (of, mut dice) = (seen.clone(), Dice::from_number(1));
    let wrapped = store.write(async move |tx| tx.rotation_wrap(SYSTEM, &of, 2, &mut dice).await);
    assert_eq!(wrapped.await.expect("a slice"), Slice::More);
    for _ in 0..2 {
        let (of, mut dice) = (seen.clone(), Dice::from_number(2));
        let again = store.write(async move |tx| tx.rotation_wrap(SYSTEM, &of, 2, &mut dice).await);
        assert_eq!(again.await.expect("a slice"), Slice::End);
    }
    assert_eq!(newest(store).await.keys_wrapped, 2);
    replace_keys(store).await;

    enter(store, Phase::Sealing).await;
    let seen = newest(store).await;
    for taken in [Some(Slice::More), None, None] {
        let (of, mut dice) = (seen.clone(), Dice::from_number(4));
        let slice = store.write(async move |tx| tx.rotation_seal(SYSTEM, &of, 2, &mut dice).await);
        assert_eq!(slice.await.expect("a slice"), taken);
    }
    let now = newest(store).await;
    assert_eq!((now.values_seen, now.values_sealed), (2, 2));
    let saved = store
        .write(async move |tx| tx.rotation_save(SYSTEM, &seen).await)
        .await;
    assert!(!saved.expect("a write"), "an old state must not come back");
}

async fn a_node_is_known_by_its_newest_word(store: &Store) {
    let mut house = House::build(store).await;
    let [silent, speaks] = [house.node(), house.node()];
    let note = async |labels: &[&str], keyed_at, now| {
        let labels: Vec<String> = labels.iter().map(|&label| label.to_owned()).collect();
        let write = store.write(async move |tx| {
            tx.awake_mark(SYSTEM, speaks, now).await?;
            tx.node_keys_note(SYSTEM, speaks, &labels, keyed_at, now, NOW)
                .await
        });
        write.await.expect("a note");
    };
    store
        .write(async move |tx| tx.awake_mark(SYSTEM, silent, NOW).await)
        .await
        .expect("a sign of life");
    note(&["a:1"], None, after(5)).await;
    note(&["a:1", "b:2"], Some(after(9)), after(10)).await;
    let known = async |since| {
        let nodes = store
            .read(async move |reader| reader.nodes_keys(SYSTEM, since).await)
            .await;
        let mut nodes = nodes.expect("a read");
        nodes.sort_by_key(|node| node.node != speaks);
        nodes
    };
    let nodes = known(after(-1)).await;
    assert_eq!(nodes.len(), 2);
    assert_eq!(
        nodes[0].labels.as_deref(),
        Some(&["a:1".to_owned(), "b:2".to_owned()][..])
    );
    assert_eq!(
        (nodes[0].keyed_at, nodes[1].labels.as_ref()),
        (Some(after(9)), None)
    );
    assert_eq!(
        known(after(1)).await.len(),
        1,
        "who was not seen since is not asked"
    );
}

async fn a_ring_that_lacks_a_key_in_use_is_not_taken(store: &Store) {
    House::build(store).await;
    let other = KeyRing::generate("root-9", &mut Dice::from_number(8));
    let refused = store.ring_replace(other).await;
    assert!(matches!(refused, Err(UnlockError::Missing(name)) if name == "root-1"));
    assert_eq!(store.root_key_labels().expect("open"), [ring().first().label()]);
}

/// It bears the right names, so that nothing but a data key tells it apart. Taken, no value would open or be sealed.
async fn a_ring_with_another_key_by_the_name_is_not_taken(store: &Store) {
    let mut house = House::build(store).await;
    let other = KeyRing::generate("root-1", &mut Dice::from_number(8));
    let refused = store.ring_replace(other).await;
    assert!(matches!(refused, Err(UnlockError::Wrong(name)) if name == "root-1"));
    assert_eq!(store.root_key_labels().expect("open"), [ring().first().label()]);
    let mut check = house.check(house.alice, |_| {}).await;
    house.ping(&mut check, Kind::Success, b"sealed", NOW).await;
    // Half-way through a rotation too: of a root key that wraps but a few.
    begin(store).await;
    let (mut dice, rotation) = (Dice::from_number(11), newest(store).await);
    let wrapped = store
        .write(async move |tx| tx.rotation_wrap(SYSTEM, &rotation, 1, &mut dice).await)
        .await;
    assert_eq!(wrapped.expect("a write"), Slice::More);
    let second = ring()
        .with_generated("root-2", &mut Dice::from_number(9))
        .expect("a second key");
    let refused = store.ring_replace(second).await;
    assert!(matches!(refused, Err(UnlockError::Wrong(name)) if name == "root-2"));
}

/// It is counted and left alone; the others go on.
#[test]
fn a_value_that_does_not_open_holds_up_nothing() {
    run(async {
        let disk = OnDisk::new();
        let store = disk.open().await;
        let mut house = House::build(&store).await;
        let mut check = house.check(house.alice, |_| {}).await;
        for body in ["one", "two", "three"] {
            house.ping(&mut check, Kind::Success, body.as_bytes(), NOW).await;
        }
        let raw = disk.raw();
        let broken = raw.execute(
            "update ping_bodies set sealed = cast(substr(sealed, 1, length(sealed) - 1) || x'00' as blob) where n = 2",
            [],
        );
        assert_eq!(broken.expect("a change"), 1);
        begin(&store).await;
        replace_keys(&store).await;
        let first = pass(&store).await;
        assert_eq!(
            (first.values_seen, first.values_sealed, first.values_unreadable),
            (3, 2, 1)
        );
        let (scope, id) = (house.alice.scope(), check.id);
        for (n, reads) in [(1, true), (2, false), (3, true)] {
            let body = store.read(async move |reader| reader.ping_body(scope, id, n).await);
            assert_eq!(body.await.is_ok(), reads, "{n}");
        }
    });
}

/// A server that slept through a rotation seals with an old data key when it wakes. What it wrote can be read at once, and
/// the next pass finds it.
#[test]
fn what_a_sleeper_seals_is_read_and_found() {
    run(async {
        let disk = OnDisk::new();
        let (awake, asleep) = (disk.open().await, disk.open().await);
        let mut house = House::build(&asleep).await;
        let mut check = house.check(house.alice, |_| {}).await;
        house.ping(&mut check, Kind::Success, b"before", NOW).await;
        begin(&awake).await;
        replace_keys(&awake).await;
        assert_eq!(pass(&awake).await.values_sealed, 1);
        house.ping(&mut check, Kind::Success, b"after", after(9)).await;
        let (scope, id) = (house.alice.scope(), check.id);
        let body = async || {
            awake
                .read(async move |reader| reader.ping_body(scope, id, 2).await)
                .await
        };
        assert_eq!(body().await.expect("it opens").as_deref(), Some(&b"after"[..]));
        assert_eq!(pass(&awake).await.values_sealed, 1);
        assert_eq!(body().await.expect("it opens").as_deref(), Some(&b"after"[..]));
        assert_eq!(pass(&awake).await.values_sealed, 0);
        // Awake, it asks the database which key seals.
        asleep.ring_replace(grown()).await.expect("a ring");
        asleep.data_keys_forget();
        house.ping(&mut check, Kind::Success, b"later", after(10)).await;
        assert_eq!(pass(&awake).await.values_sealed, 0);
    });
}

/// Columns of bytes that hold something else than sealed values.
const NOT_SEALED: &[(&str, &str)] = &[
    ("api_keys", "hash"),
    ("data_keys", "wrapped"),
    ("idempotency", "body_hash"),
    ("start_links", "hash"),
];

/// A column of bytes is either in the table of sealed columns, or here with a reason: rotation must find them all.
#[test]
fn every_column_that_holds_sealed_values_is_in_the_table() {
    run(async {
        let cluster = Cluster::shared();
        let name = cluster.database().await;
        let store = Store::open(&postgres_place(cluster, &name), NOW)
            .await
            .expect("a store");
        unlock(&store).await;
        let bytes = "select count(*) from information_schema.columns where table_schema = 'public' and data_type = 'bytea'";
        let known: Vec<_> = sealed_columns()
            .into_iter()
            .chain(NOT_SEALED.iter().copied())
            .collect();
        for (table, column) in &known {
            let here = format!("{bytes} and table_name = '{table}' and column_name = '{column}'");
            assert_eq!(cluster.number(&name, &here).await, 1, "{table}.{column}");
        }
        assert_eq!(
            cluster.number(&name, bytes).await,
            known.len() as i64,
            "a column of bytes is neither in crates/store/src/sealed.rs nor named here"
        );
        drop(store);
        cluster.remove(&name).await;
    });
}
