//! Pings and their bodies.

use allswell_core::chance::Dice;
use allswell_core::signal::Kind;
use allswell_store::pings::Ping;
use allswell_store::{Error, Store};
use uuid::Uuid;

use crate::kit::{House, NOW, after, on_each_database, ping, rows};

on_each_database!(
    pings_come_back_newest_first_as_they_were_written,
    every_byte_survives_in_a_body,
    an_empty_body_is_no_body,
    a_page_begins_before_a_number,
    charlie_sees_no_ping_of_alice,
    a_number_is_used_once,
    a_log_is_marked_once,
);

async fn insert(house: &mut House<'_>, ping: Ping, body: &[u8]) -> Result<(), Error> {
    let project = house.alice.project;
    let id = Dice::from_number(50).id();
    let (body, mut dice) = (body.to_vec(), house.dice.fork());
    let write = async move |tx: &mut allswell_store::Tx<'_>| {
        tx.ping_insert(project, id, &ping, &body, &mut dice).await
    };
    house.store.write(write).await
}

/// A house with the one check that `insert` writes pings of.
async fn build(store: &Store) -> House<'_> {
    let mut house = House::build(store).await;
    let id = Dice::from_number(50).id();
    house.check(house.alice, |check| check.id = id).await;
    house
}

async fn pings_come_back_newest_first_as_they_were_written(store: &Store) {
    let mut house = build(store).await;
    let kinds = [Kind::Success, Kind::Start, Kind::Fail, Kind::Log, Kind::Ignored];
    let mut written = Vec::new();
    for (n, kind) in (1..).zip(kinds) {
        let new = Ping {
            kind,
            exit_status: [None, Some(0), Some(255)][n as usize % 3],
            rid: (n % 2 == 0).then(|| Uuid::from_u128(n.into())),
            remote_addr: (n % 2 == 1).then(|| "198.51.100.7".to_owned()),
            user_agent: "ü\u{0}\n".to_owned(),
            method: "PROPFIND".to_owned(),
            scheme: "http".to_owned(),
            body_bytes: n * 1_000,
            ..ping(n, after(-(n as i64)))
        };
        insert(&mut house, new.clone(), b"").await.expect("a ping");
        written.insert(0, new);
    }
    let (scope, id) = (house.alice.scope(), Dice::from_number(50).id());
    for limit in [0, 2, 5, 9] {
        let read = store
            .read(async move |reader| reader.pings(scope, id, limit).await)
            .await;
        assert_eq!(read.expect("pings"), written[..written.len().min(limit as usize)]);
    }
}

async fn every_byte_survives_in_a_body(store: &Store) {
    let mut house = build(store).await;
    let body: Vec<u8> = (0..=255).collect();
    insert(&mut house, ping(1, NOW), &body).await.expect("a ping");
    let (scope, id) = (house.alice.scope(), Dice::from_number(50).id());
    let read = store
        .read(async move |reader| reader.ping_body(scope, id, 1).await)
        .await;
    assert_eq!(read.expect("a body"), Some(body));
}

async fn an_empty_body_is_no_body(store: &Store) {
    let mut house = build(store).await;
    insert(&mut house, ping(1, NOW), b"").await.expect("a ping");
    assert_eq!(rows(store).await["ping_bodies"], 0);
    let (scope, id) = (house.alice.scope(), Dice::from_number(50).id());
    for n in [1, 2] {
        let read = store
            .read(async move |reader| reader.ping_body(scope, id, n).await)
            .await;
        assert_eq!(read.expect("a read"), None);
    }
}

async fn a_page_begins_before_a_number(store: &Store) {
    let mut house = build(store).await;
    for n in 1..=5 {
        insert(&mut house, ping(n, NOW), b"").await.expect("a ping");
    }
    let (scope, id) = (house.alice.scope(), Dice::from_number(50).id());
    for (before, limit, numbers) in [
        (9, 2, vec![5, 4]),
        (4, 2, vec![3, 2]),
        (2, 9, vec![1]),
        (1, 9, vec![]),
    ] {
        let read = store
            .read(async move |reader| reader.pings_before(scope, id, before, limit).await)
            .await;
        let read: Vec<u64> = read.expect("a page").iter().map(|ping| ping.n).collect();
        assert_eq!(read, numbers);
    }
}

async fn charlie_sees_no_ping_of_alice(store: &Store) {
    let mut house = build(store).await;
    insert(&mut house, ping(1, NOW), b"secret").await.expect("a ping");
    let id = Dice::from_number(50).id();
    for (person, sees) in [(house.alice, true), (house.charlie, false)] {
        let scope = person.scope();
        let (log, page, body) = store
            .read(async move |reader| {
                Ok::<_, Error>((
                    reader.pings(scope, id, 9).await?.len(),
                    reader.pings_before(scope, id, 9, 9).await?.len(),
                    reader.ping_body(scope, id, 1).await?,
                ))
            })
            .await
            .expect("not seen is not an error");
        assert_eq!((log, page), (usize::from(sees), usize::from(sees)));
        assert_eq!(body, sees.then(|| b"secret".to_vec()));
    }
}

async fn a_number_is_used_once(store: &Store) {
    let mut house = build(store).await;
    insert(&mut house, ping(1, NOW), b"first").await.expect("a ping");
    let refused = insert(&mut house, ping(1, after(1)), b"second").await;
    assert!(matches!(refused, Err(Error::Conflict(_))), "{refused:?}");
    let (scope, id) = (house.alice.scope(), Dice::from_number(50).id());
    let read = store
        .read(async move |reader| reader.ping_body(scope, id, 1).await)
        .await;
    assert_eq!(read.expect("a body"), Some(b"first".to_vec()));
}

async fn a_log_is_marked_once(store: &Store) {
    let id = Dice::from_number(50).id();
    for _ in 0..2 {
        store
            .write(async move |tx| tx.ping_log_mark(id).await)
            .await
            .expect("a mark");
    }
    assert_eq!(rows(store).await["prune_due"], 1);
}
