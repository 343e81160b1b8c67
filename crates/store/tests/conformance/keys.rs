//! API keys and ping keys.

use allswell_core::key::KeyKind;
use allswell_store::keys::Known;
use allswell_store::{Error, Store};

use crate::kit::{House, NOW, OnDisk, Person, SYSTEM, after, on_each_database, run};

on_each_database!(
    a_key_is_recognised_with_what_it_allows,
    a_key_that_was_tampered_with_is_nobody_s,
    only_a_ping_key_opens_a_project_for_pings,
    the_newest_ping_key_can_be_shown_again,
);

async fn recognise(store: &Store, text: &str, secs: i64) -> Option<Known> {
    let text = text.to_owned();
    let read = store.read(async move |reader| reader.key_recognise(&text, after(secs)).await);
    read.await.expect("a look-up")
}

async fn a_key_is_recognised_with_what_it_allows(store: &Store) {
    let mut house = House::build(store).await;
    for person in [house.alice, house.bob] {
        for kind in [KeyKind::ReadWrite, KeyKind::ReadOnly, KeyKind::Ping] {
            let (id, text) = house.key(person, kind, 0).await;
            let known = Known {
                id,
                project: person.project,
                kind,
            };
            assert_eq!(recognise(store, text.reveal(), 0).await, Some(known));
        }
    }
}

async fn a_key_that_was_tampered_with_is_nobody_s(store: &Store) {
    let mut house = House::build(store).await;
    for kind in [KeyKind::ReadWrite, KeyKind::Ping] {
        let text = house.key(house.alice, kind, 0).await.1;
        let text = text.reveal();
        for place in 0..text.len() {
            let mut altered = text.clone().into_bytes();
            altered[place] = if altered[place] == b'7' { b'8' } else { b'7' };
            let altered = String::from_utf8(altered).expect("ASCII");
            assert_eq!(recognise(store, &altered, 0).await, None, "{altered} for {text}");
        }
        for altered in [
            &text[1..],
            &text[..text.len() - 1],
            "",
            "é",
            &format!("{text} "),
            &text.repeat(1_000),
        ] {
            assert_eq!(recognise(store, altered, 0).await, None);
        }
    }
}

async fn only_a_ping_key_opens_a_project_for_pings(store: &Store) {
    let mut house = House::build(store).await;
    for (kind, opens) in [
        (KeyKind::Ping, true),
        (KeyKind::ReadWrite, false),
        (KeyKind::ReadOnly, false),
    ] {
        let text = house.key(house.alice, kind, 0).await.1;
        let read = store
            .read(async move |reader| reader.project_by_ping_key(SYSTEM, text.reveal(), NOW).await)
            .await;
        assert_eq!(read.expect("a look-up"), opens.then_some(house.alice.project));
    }
}

async fn the_newest_ping_key_can_be_shown_again(store: &Store) {
    let mut house = House::build(store).await;
    let shown = async |person: Person| {
        let read = store.read(async move |reader| reader.ping_key(person.scope()).await);
        read.await.expect("a read")
    };
    house.key(house.alice, KeyKind::ReadWrite, 5).await;
    assert_eq!(shown(house.alice).await, None);
    let first = house.key(house.alice, KeyKind::Ping, 1).await.1;
    assert_eq!(shown(house.alice).await, Some(first));
    let second = house.key(house.alice, KeyKind::Ping, 2).await.1;
    assert_eq!(shown(house.alice).await, Some(second));
    assert_eq!(shown(house.charlie).await, None);
}

/// Nothing revokes a key or lets it expire yet, but rows that say so are obeyed.
#[test]
fn a_revoked_or_expired_key_opens_nothing() {
    run(async {
        let disk = OnDisk::new();
        let store = disk.open().await;
        let mut house = House::build(&store).await;
        let (id, text) = house.key(house.alice, KeyKind::Ping, 0).await;
        let set = |column: &str, value: Option<i64>| {
            let sql = format!("update api_keys set {column} = ?1");
            assert_eq!(disk.raw().execute(&sql, [value]).expect("a change"), 1);
        };
        let known = Some(Known {
            id,
            project: house.alice.project,
            kind: KeyKind::Ping,
        });
        set("expires_at", Some(after(60).as_micros()));
        for (secs, expected) in [(59, known), (60, None), (61, None)] {
            assert_eq!(recognise(&store, text.reveal(), secs).await, expected, "{secs}");
        }
        set("expires_at", None);
        assert_eq!(recognise(&store, text.reveal(), 61).await, known);
        set("revoked_at", Some(after(30).as_micros()));
        assert_eq!(recognise(&store, text.reveal(), 61).await, None);
        let scope = house.alice.scope();
        let shown = store.read(async move |reader| reader.ping_key(scope).await).await;
        assert_eq!(shown.expect("a read"), None);
    });
}

/// Of two keys with one look-up, the hash tells which is meant.
#[test]
fn keys_that_begin_alike_are_told_apart() {
    run(async {
        let disk = OnDisk::new();
        let store = disk.open().await;
        let mut house = House::build(&store).await;
        let (_, one) = house.key(house.alice, KeyKind::ReadWrite, 0).await;
        let (id, two) = house.key(house.bob, KeyKind::ReadOnly, 0).await;
        let lookup = allswell_core::key::lookup(two.reveal());
        disk.raw()
            .execute("update api_keys set lookup = ?1", [lookup])
            .expect("a change");
        let known = Known {
            id,
            project: house.bob.project,
            kind: KeyKind::ReadOnly,
        };
        assert_eq!(recognise(&store, two.reveal(), 0).await, Some(known));
        assert_eq!(
            recognise(&store, one.reveal(), 0).await,
            None,
            "its look-up is another's"
        );
    });
}

/// A key's kind that this program does not know is damage, not "no such key".
#[test]
fn a_key_of_an_unknown_kind_is_an_error() {
    run(async {
        let disk = OnDisk::new();
        let store = disk.open().await;
        let mut house = House::build(&store).await;
        let text = house.key(house.alice, KeyKind::ReadWrite, 0).await.1;
        let raw = disk.raw();
        raw.pragma_update(None, "ignore_check_constraints", true)
            .expect("no checks");
        raw.execute("update api_keys set kind = 'admin'", [])
            .expect("a change");
        let read = store
            .read(async move |reader| reader.key_recognise(text.reveal(), NOW).await)
            .await;
        assert!(matches!(read, Err(Error::Corrupt(_))), "{read:?}");
    });
}
