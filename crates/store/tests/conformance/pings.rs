//! Pings and their bodies.

use allswell_core::chance::Dice;
use allswell_core::scope::SystemScope;
use allswell_core::signal::Kind;
use allswell_store::batch::{Changed, Logged, Terms, Then};
use allswell_store::pings::Ping;
use allswell_store::{Error, Store};
use uuid::Uuid;

use crate::kit::{House, NOW, after, on_each_database, ping, rows};

on_each_database!(
    pings_come_back_newest_first_as_they_were_written,
    every_byte_survives_in_a_body,
    each_ping_of_many_finds_its_own_body,
    nothing_is_written_of_a_batch_where_projects_ask_for_other_keys_by_then,
    an_empty_body_is_no_body,
    the_start_of_a_run_is_found_before_its_end,
    charlie_sees_no_ping_of_alice,
    a_number_is_used_once,
    a_log_is_marked_once,
    a_batch_marks_the_logs_that_have_grown_by_a_page,
);

async fn insert(house: &mut House<'_>, ping: Ping, body: &[u8]) -> Result<(), Error> {
    let project = house.alice.project;
    let id = Dice::from_number(50).id();
    let (body, mut dice) = (body.to_vec(), house.dice.fork());
    let write = async move |tx: &mut allswell_store::Tx<'_>| {
        tx.ping_insert(SystemScope::engine(), project, id, &ping, &body, &mut dice)
            .await
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
    let kinds = [
        Kind::Success,
        Kind::Start,
        Kind::Fail,
        Kind::Log,
        Kind::Ignored,
        Kind::Alive,
    ];
    let mut written = Vec::new();
    for (n, kind) in (1..).zip(kinds) {
        let new = Ping {
            kind,
            exit_status: [None, Some(0), Some(255)][n as usize % 3],
            rid: (n % 2 == 0).then(|| Uuid::from_u128(n.into())),
            remote_addr: (n % 2 == 1).then(|| "198.51.100.7".to_owned()),
            user_agent: "ü\u{1}\n".to_owned(),
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

async fn the_start_of_a_run_is_found_before_its_end(store: &Store) {
    let mut house = build(store).await;
    let rid = Some(Uuid::from_u128(7));
    for (n, kind, rid) in [
        (1, Kind::Start, None),
        (2, Kind::Start, rid),
        (3, Kind::Log, None),
        (4, Kind::Success, None),
        (5, Kind::Ignored, rid),
    ] {
        let ping = Ping {
            kind,
            rid,
            ..ping(n, after(n as i64))
        };
        insert(&mut house, ping, b"").await.expect("a ping");
    }
    let (scope, id) = (house.alice.scope(), Dice::from_number(50).id());
    for (before, rid, start) in [
        (4, None, Some(after(1))),
        // Ended by ping 4.
        (9, None, None),
        (9, rid, Some(after(2))),
        (2, rid, None),
        (9, Some(Uuid::from_u128(8)), None),
    ] {
        let read = store.read(async move |reader| reader.run_start_before(scope, id, before, rid).await);
        assert_eq!(read.await.expect("a read"), start, "{before} {rid:?}");
    }
}

async fn charlie_sees_no_ping_of_alice(store: &Store) {
    let mut house = build(store).await;
    let started = Ping {
        kind: Kind::Start,
        rid: None,
        ..ping(1, NOW)
    };
    insert(&mut house, started, b"secret").await.expect("a ping");
    let id = Dice::from_number(50).id();
    for (person, sees) in [(house.alice, true), (house.charlie, false)] {
        let scope = person.scope();
        let (log, run, body) = store
            .read(async move |reader| {
                Ok::<_, Error>((
                    reader.pings(scope, id, 9).await?.len(),
                    reader.run_start_before(scope, id, 9, None).await?.is_some(),
                    reader.ping_body(scope, id, 1).await?,
                ))
            })
            .await
            .expect("not seen is not an error");
        assert_eq!((log, run), (usize::from(sees), sees));
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
            .write(async move |tx| tx.ping_log_mark(SystemScope::engine(), id).await)
            .await
            .expect("a mark");
    }
    assert_eq!(rows(store).await["prune_due"], 1);
}

async fn a_batch_marks_the_logs_that_have_grown_by_a_page(store: &Store) {
    let mut house = build(store).await;
    let mut checks = Vec::new();
    for _ in 0..3 {
        checks.push(house.check(house.alice, |_| {}).await);
    }
    let cases = [
        (Then::More, [true, false, true], 2),
        (Then::Nothing, [false, true, true], 3),
    ];
    for (then, full, marked) in cases {
        let (mut checks, mut dice) = (checks.clone(), house.dice.fork());
        let write = async move |tx: &mut allswell_store::Tx<'_>| {
            let mut changed: Vec<Changed<'_>> = checks
                .iter_mut()
                .zip(full)
                .map(|(check, is_page_full)| Changed {
                    deadline: check.deadline,
                    pings: Vec::new(),
                    check,
                    exact: false,
                    is_page_full,
                })
                .collect();
            tx.batch_save(SystemScope::engine(), &mut changed, then, &mut dice)
                .await
        };
        // The second time all of them were changed since they were read: a look for nothing.
        house.store.write(write).await.expect("a batch");
        assert_eq!(rows(store).await["prune_due"], marked, "each once");
    }
}

async fn nothing_is_written_of_a_batch_where_projects_ask_for_other_keys_by_then(store: &Store) {
    let mut house = House::build(store).await;
    let id = house.check(house.alice, |_| {}).await.id;
    let look = async || {
        let read = async move |reader: &mut allswell_store::Reader<'_>| {
            reader.checks_under_rules(SystemScope::engine(), &[id]).await
        };
        let (mut checks, rules) = store.read(read).await.expect("a look");
        (checks.remove(0), rules.expect("it was there"))
    };
    for (then, project, required) in [
        (Then::Nothing, house.alice, true),
        // Whichever project it is.
        (Then::More, house.bob, true),
        (Then::Nothing, house.alice, false),
    ] {
        let (check, known) = look().await;
        let scope = project.scope();
        let switch = store.write(async move |tx| tx.project_require_ping_key(scope, required).await);
        switch.await.expect("a switch");
        let (same, now) = look().await;
        assert_eq!(same.version, check.version);
        assert_ne!(now, known);
        for (key_rules, saved) in [(Some(known), vec![]), (Some(now), vec![id]), (None, vec![id])] {
            let (mut check, mut dice) = (look().await.0, house.dice.fork());
            let write = store.write(async move |tx| {
                let mut changed = [Changed {
                    deadline: check.deadline,
                    pings: Vec::new(),
                    check: &mut check,
                    exact: false,
                    is_page_full: false,
                }];
                let terms = Terms { then, key_rules };
                tx.batch_save(SystemScope::engine(), &mut changed, terms, &mut dice)
                    .await
            });
            assert_eq!(write.await.expect("a batch"), saved, "{then:?} {key_rules:?}");
        }
    }
}

/// Enough bodies that their numbers are taken from PostgreSQL several times, in batches that end in the middle of what was
/// taken, some of them of pings without any.
async fn each_ping_of_many_finds_its_own_body(store: &Store) {
    let mut house = build(store).await;
    let (scope, id) = (house.alice.scope(), Dice::from_number(50).id());
    let (batches, size) = (5, 500);
    let body_of = |n: u64| match n % 7 {
        0 => Vec::new(),
        _ => n.to_string().repeat(3).into_bytes(),
    };
    for batch in 0..batches {
        let mut dice = house.dice.fork();
        let write = async move |tx: &mut allswell_store::Tx<'_>| {
            let mut check = tx.check(scope, id).await?.expect("it is there");
            let pings = (1..=size).map(|k| ping(batch * size + k, NOW));
            let pings: Vec<(Ping, Vec<u8>)> = pings.map(|ping| (ping.clone(), body_of(ping.n))).collect();
            let logged = pings.iter().map(|(ping, body)| Logged {
                ping: borrowed(ping),
                body,
            });
            let mut changed = [Changed {
                deadline: check.deadline,
                pings: logged.collect(),
                check: &mut check,
                exact: false,
                is_page_full: false,
            }];
            tx.batch_save(SystemScope::engine(), &mut changed, Then::More, &mut dice)
                .await
        };
        assert_eq!(house.store.write(write).await.expect("a batch"), [id]);
    }
    let read = async move |reader: &mut allswell_store::Reader<'_>| {
        for n in 1..=batches * size {
            let body = Some(body_of(n)).filter(|body| !body.is_empty());
            assert_eq!(reader.ping_body(scope, id, n).await?, body, "ping {n}");
        }
        Ok::<_, Error>(())
    };
    store.read(read).await.expect("a read");
}

pub(crate) fn borrowed(ping: &Ping) -> Ping<&str> {
    Ping {
        n: ping.n,
        at: ping.at,
        kind: ping.kind,
        source: ping.source,
        exit_status: ping.exit_status,
        rid: ping.rid,
        scheme: &ping.scheme,
        method: &ping.method,
        remote_addr: ping.remote_addr.as_deref(),
        user_agent: &ping.user_agent,
        body_bytes: ping.body_bytes,
    }
}
