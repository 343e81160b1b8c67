//! Pings that arrive and are stored.

use allswell_core::check::{Check, Status};
use allswell_core::flip::Reason;
use allswell_core::key::KeyKind;
use allswell_core::secret::Secret;
use allswell_core::signal::{Action, Cause, Kind};
use allswell_core::time::Span;
use allswell_engine::ingest::{Address, Answer, Arrival};
use allswell_store::pings::{Ping, Source};
use bytes::Bytes;
use uuid::Uuid;

use crate::kit::{House, NOW, SILENCE_SECS, SYSTEM, after, gather, to};

#[tokio::test]
async fn a_ping_that_was_answered_can_be_read() {
    let mut house = House::in_memory().await;
    let id = house.check(|_| {}).await;
    let arrival = Arrival {
        at: after(5),
        action: Action::Exit(3),
        rid: Some(Uuid::from_u128(9)),
        scheme: "http".into(),
        method: "POST".into(),
        remote_addr: None,
        user_agent: "ü".to_owned(),
        body: Bytes::from_static(b"disk full"),
        ..to(id)
    };
    assert_eq!(house.in_one_batch(vec![arrival]).await, [Ok(Answer::Stored)]);
    let ping = Ping {
        n: 1,
        at: after(5),
        kind: Kind::Fail,
        source: Source::Http,
        exit_status: Some(3),
        rid: Some(Uuid::from_u128(9)),
        scheme: "http".to_owned(),
        method: "POST".to_owned(),
        remote_addr: None,
        user_agent: "ü".to_owned(),
        body_bytes: 9,
    };
    assert_eq!(house.log(id).await, [(ping, Some(b"disk full".to_vec()))]);
    let check = house.read(id).await;
    assert_eq!((check.state.status, check.state.ping_count), (Status::Down, 1));
    let flips = house.flips(id).await;
    assert_eq!(flips.len(), 1);
    assert_eq!((flips[0].at, flips[0].to), (after(5), Status::Down));
    assert_eq!(
        flips[0].reason,
        Reason::Fail {
            ping: 1,
            cause: Cause::ExitStatus(3)
        }
    );
    assert_eq!(house.metric("pings_total{outcome=\"stored\"}"), 1.0);
}

/// The database is held by another program: nothing is answered until it lets go, and then all is.
#[tokio::test]
async fn no_ping_is_answered_before_its_commit() {
    let mut house = House::on_disk().await;
    let id = house.check(|_| {}).await;
    let raw = house.raw();
    raw.execute_batch("begin immediate")
        .expect("the database is taken");
    let (inbox, ingest) = house.ingest(9, 9);
    let running = tokio::spawn(ingest.run(|| NOW));
    let puts: Vec<_> = (0..3)
        .map(|_| {
            let (inbox, arrival) = (inbox.clone(), to(id));
            tokio::spawn(async move { inbox.put(arrival).await })
        })
        .collect();
    // Reads go on meanwhile; each gives the others their turn.
    for _ in 0..20 {
        assert_eq!(house.read(id).await.state.ping_count, 0);
        assert!(
            puts.iter().all(|put| !put.is_finished()),
            "a ping was answered that is not stored"
        );
    }
    raw.execute_batch("commit").expect("the database is free");
    for put in puts {
        assert_eq!(put.await.expect("an answer"), Ok(Answer::Stored));
    }
    assert_eq!(house.log(id).await.len(), 3);
    drop(inbox);
    running.await.expect("it ends when every inbox is gone");
}

#[tokio::test]
async fn pings_of_a_batch_keep_their_order() {
    let mut house = House::in_memory().await;
    let [one, two] = [house.check(|_| {}).await, house.check(|_| {}).await];
    let arrivals = (0..20).map(|i| Arrival {
        at: after(i),
        body: Bytes::from(i.to_string()),
        ..to(if i % 3 == 0 { one } else { two })
    });
    let taken = house.in_one_batch(arrivals.collect()).await;
    assert_eq!(taken, [Ok(Answer::Stored); 20]);
    for (id, is_its) in [(one, true), (two, false)] {
        let numbers = (0..20).filter(|i| (i % 3 == 0) == is_its);
        let log = house.log(id).await;
        let read: Vec<_> = log
            .iter()
            .map(|(ping, body)| (ping.n, ping.at, body.clone()))
            .collect();
        let expected: Vec<_> = (1..)
            .zip(numbers)
            .map(|(n, i)| (n, after(i), Some(i.to_string().into_bytes())))
            .collect();
        assert_eq!(read, expected);
    }
}

#[tokio::test]
async fn many_pings_of_one_check_are_one_change_of_its_row() {
    let mut house = House::in_memory().await;
    let id = house.check(|_| {}).await;
    let arrivals = (1..=50).map(|i| Arrival {
        at: after(i),
        action: if i % 2 == 0 { Action::Success } else { Action::Fail },
        ..to(id)
    });
    let taken = house.in_one_batch(arrivals.collect()).await;
    assert_eq!(taken, [Ok(Answer::Stored); 50]);
    let check = house.read(id).await;
    assert_eq!(
        (check.version, check.state.ping_count, check.state.flip_count),
        (2, 50, 50)
    );
    assert_eq!(
        (check.state.status, check.state.last_ping),
        (Status::Up, Some(after(50)))
    );
    assert_eq!(check.deadline, Some(after(50 + SILENCE_SECS)));
    assert_eq!(
        house.flips(id).await.len(),
        50,
        "each change of status is a flip of its own"
    );
    assert_eq!(
        (house.metric("batch_pings_count"), house.metric("batch_pings_sum")),
        (1.0, 50.0)
    );
}

#[tokio::test]
async fn each_ping_of_a_mixed_batch_gets_its_own_answer() {
    let mut house = House::in_memory().await;
    let slug = |slug: &'static str| move |check: &mut Check| check.settings.slug = slug.to_owned();
    let known = house.check(slug("known")).await;
    for _ in 0..2 {
        house.check(slug("twins")).await;
    }
    let gone = house.check(slug("gone")).await;
    let (scope, key) = (house.scope(), Secret::new("0123456789abcdefghijkl".to_owned()));
    let delete = house
        .store
        .write(async move |tx| tx.check_delete(scope, gone, NOW).await);
    assert!(delete.await.expect("a delete"));
    let mut dice = house.dice.fork();
    let api_key = house
        .store
        .write(async move |tx| tx.key_create(scope, KeyKind::ReadWrite, "", &mut dice, NOW).await)
        .await
        .expect("a key")
        .1;
    let with_key = |key: &Secret<String>| Arrival {
        address: Address::Slug {
            key: key.clone(),
            slug: "known".to_owned(),
            create: true,
        },
        ..to(known)
    };
    let cases = [
        ("a known id", to(known), Answer::Stored),
        ("an unknown id", to(house.dice.id()), Answer::NotFound),
        ("a deleted check", to(gone), Answer::NotFound),
        ("its slug", house.by_slug("known", false), Answer::Stored),
        (
            "an unknown slug",
            house.by_slug("unknown", false),
            Answer::NotFound,
        ),
        (
            "a deleted check's slug",
            house.by_slug("gone", false),
            Answer::NotFound,
        ),
        (
            "a slug that two share",
            house.by_slug("twins", false),
            Answer::Ambiguous,
        ),
        (
            "also with create",
            house.by_slug("twins", true),
            Answer::Ambiguous,
        ),
        ("a slug to be made", house.by_slug("made", true), Answer::Created),
        ("which is there then", house.by_slug("made", true), Answer::Stored),
        ("for everybody", house.by_slug("made", false), Answer::Stored),
        ("a key nobody has", with_key(&key), Answer::NotFound),
        ("a key for other things", with_key(&api_key), Answer::NotFound),
        ("the first again", to(known), Answer::Stored),
    ];
    let taken = house
        .in_one_batch(cases.iter().map(|case| case.1.clone()).collect())
        .await;
    for ((what, _, answer), taken) in cases.iter().zip(taken) {
        assert_eq!(taken, Ok(*answer), "{what}");
    }
    assert_eq!(house.read(known).await.state.ping_count, 3);
    assert_eq!((house.count("checks").await, house.count("pings").await), (5, 6));
    let made = house
        .store
        .read(async move |reader| reader.checks_by_slug(scope, "made").await)
        .await;
    let made = made.expect("a read").remove(0);
    assert_eq!(
        (made.settings.name.as_str(), made.state.ping_count, made.version),
        ("made", 3, 2)
    );
    assert_eq!(made.deadline, Some(after(SILENCE_SECS)));
}

#[tokio::test]
async fn a_check_made_by_a_ping_tells_all_channels_of_its_project() {
    let mut house = House::in_memory().await;
    let mut channels = [
        house.channel("log", true, true).await.id,
        house.channel("silent", false, false).await.id,
    ];
    channels.sort_unstable();
    let arrivals = vec![Arrival {
        action: Action::Fail,
        ..house.by_slug("new", true)
    }];
    assert_eq!(house.in_one_batch(arrivals).await, [Ok(Answer::Created)]);
    let scope = house.scope();
    let made = house
        .store
        .read(async move |reader| reader.checks_by_slug(scope, "new").await)
        .await;
    let id = made.expect("a read")[0].id;
    let told = house
        .store
        .read(async move |reader| reader.check_channels(scope, id).await)
        .await;
    assert_eq!(told.expect("a read"), channels);
    let deliveries = house.deliveries(id).await;
    assert_eq!(
        deliveries.len(),
        1,
        "and the one that sends is owed the bad news of its first ping"
    );
}

/// Two programs on one file, forty clients, batches of all sizes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forty_pings_that_would_make_one_check_make_one() {
    let mut house = House::on_disk().await;
    let second = house.second_store().await;
    let (here, ingest) = house.ingest(40, 7);
    tokio::spawn(ingest.run(|| NOW));
    let (there, ingest) = house.ingest_into(second, 40, 40);
    tokio::spawn(ingest.run(|| NOW));
    let mut puts = tokio::task::JoinSet::new();
    for i in 0..40 {
        let inbox = if i % 2 == 0 { here.clone() } else { there.clone() };
        let arrival = house.by_slug("nightly", true);
        puts.spawn(async move { inbox.put(arrival).await });
    }
    let taken = puts.join_all().await;
    let of = |answer| taken.iter().filter(|taken| **taken == Ok(answer)).count();
    assert_eq!((of(Answer::Created), of(Answer::Stored)), (1, 39), "{taken:?}");
    let scope = house.scope();
    let checks = house
        .store
        .read(async move |reader| reader.checks(scope).await)
        .await
        .expect("a list");
    assert_eq!((checks.len(), checks[0].state.ping_count), (1, 40));
    assert_eq!(house.count("pings").await, 40);
}

#[tokio::test]
async fn an_owner_with_twice_the_quota_gets_no_more_checks() {
    let mut house = House::on_disk().await;
    house
        .raw()
        .execute("update users set check_limit = 2", [])
        .expect("a limit");
    let arrivals = ["a", "b", "c", "d", "e"].map(|slug| house.by_slug(slug, true));
    let taken = house.in_one_batch(arrivals.to_vec()).await;
    let mut expected = [Ok(Answer::Created); 5];
    expected[4] = Ok(Answer::NotFound);
    assert_eq!(taken, expected);
    let again = house
        .in_one_batch(vec![house.by_slug("e", true), house.by_slug("d", true)])
        .await;
    assert_eq!(
        again,
        [Ok(Answer::NotFound), Ok(Answer::Stored)],
        "those that are there can be pinged"
    );
    assert_eq!(house.count("checks").await, 4);
}

#[tokio::test]
async fn the_filters_of_a_check_say_what_a_ping_says() {
    let mut house = House::in_memory().await;
    let by_keyword = |check: &mut Check| {
        let filters = &mut check.settings.filters;
        (filters.http_body, filters.post_only) = (true, true);
        filters.start_keywords = "BEGIN".to_owned();
        filters.success_keywords = "OK, fine".to_owned();
        filters.failure_keywords = "ERROR".to_owned();
    };
    let id = house.check(by_keyword).await;
    let cases: [(&str, &[u8], Kind); 7] = [
        ("POST", b"all fine", Kind::Success),
        ("POST", b"\xff\x00BEGIN\xfe", Kind::Start),
        ("POST", b"OK but ERROR", Kind::Fail),
        ("POST", b"ok", Kind::Ignored),
        ("POST", b"", Kind::Ignored),
        ("GET", b"ERROR", Kind::Ignored),
        ("post", b"ERROR", Kind::Ignored),
    ];
    let arrivals = cases.map(|(method, body, _)| Arrival {
        method: method.into(),
        body: Bytes::from_static(body),
        ..to(id)
    });
    assert_eq!(
        house.in_one_batch(arrivals.to_vec()).await,
        [Ok(Answer::Stored); 7]
    );
    for ((ping, _), (method, body, kind)) in house.log(id).await.iter().zip(cases) {
        assert_eq!(ping.kind, kind, "{method} {body:?}");
    }
    let check = house.read(id).await;
    assert_eq!(
        (check.state.status, check.state.ping_count),
        (Status::Down, 7),
        "ignored ones only count"
    );
}

#[tokio::test]
async fn a_body_may_hold_every_byte() {
    let mut house = House::in_memory().await;
    let id = house.check(|_| {}).await;
    let body: Vec<u8> = (0..=255).collect();
    let arrival = Arrival {
        body: Bytes::from(body.clone()),
        ..to(id)
    };
    house.in_one_batch(vec![arrival, to(id)]).await;
    let log = house.log(id).await;
    assert_eq!((log[0].0.body_bytes, &log[0].1), (256, &Some(body)));
    assert_eq!((log[1].0.body_bytes, &log[1].1), (0, &None));
}

#[tokio::test]
async fn a_flip_promises_deliveries_and_nudges_once_for_a_batch() {
    let mut house = House::in_memory().await;
    let id = house.check(|_| {}).await;
    let (both, down) = (
        house.channel("log", true, true).await,
        house.channel("log", true, false).await,
    );
    let none = house.channel("silent", false, false).await;
    house.tell(id, &[&both, &down, &none]).await;
    let actions = [Action::Success, Action::Fail, Action::Fail, Action::Success];
    let arrivals = actions.map(|action| Arrival { action, ..to(id) });
    house.in_one_batch(arrivals.to_vec()).await;
    let mut told: Vec<_> = house
        .deliveries(id)
        .await
        .iter()
        .map(|d| (d.flip_seq, d.channel))
        .collect();
    let mut expected = vec![(2, both.id), (2, down.id), (3, both.id)];
    told.sort_unstable();
    expected.sort_unstable();
    assert_eq!(
        told, expected,
        "down to two, up again to one, and no word of the first ping"
    );
    let nudged = || tokio::time::timeout(std::time::Duration::ZERO, house.deliver.notified());
    assert!(nudged().await.is_ok());
    assert!(nudged().await.is_err());
}

#[tokio::test]
async fn a_log_is_marked_for_pruning_with_every_hundredth_ping_and_with_each_flip() {
    let mut house = House::on_disk().await;
    let raw = house.raw();
    let marks_gone = || raw.execute("delete from prune_due", []).expect("a delete");
    let id = house.check(|_| {}).await;
    house.in_one_batch(vec![to(id)]).await;
    assert_eq!(marks_gone(), 1, "it came up");
    house.in_one_batch(vec![to(id); 98]).await;
    assert_eq!(marks_gone(), 0);
    house.in_one_batch(vec![to(id)]).await;
    assert_eq!(marks_gone(), 1, "the hundredth");
    house.in_one_batch(vec![to(id); 100]).await;
    assert_eq!(marks_gone(), 1, "the two hundredth");
    house.ping(id, Action::Fail, NOW).await.expect("a ping");
    assert_eq!(marks_gone(), 1, "it went down");
    house.ping(id, Action::Fail, NOW).await.expect("a ping");
    assert_eq!(marks_gone(), 0, "it stays down");
}

/// The stored wake-up may be early, and the index is left alone, until a ping brings it nearer.
#[tokio::test]
async fn a_ping_that_only_pushes_the_deadline_away_leaves_the_stored_one() {
    let mut house = House::in_memory().await;
    let id = house
        .check(|check| check.settings.grace = Span::from_secs(60))
        .await;
    let day = 86_400;
    for (secs, action, stored) in [
        (0, Action::Success, day + 60),
        (10, Action::Success, day + 60),
        (20, Action::Start, 80),
        (30, Action::Success, 80),
    ] {
        assert_eq!(house.ping(id, action, after(secs)).await, Ok(Answer::Stored));
        assert_eq!(house.read(id).await.deadline, Some(after(stored)), "{secs}");
    }
}

#[tokio::test]
async fn a_paused_check_comes_back_with_a_ping_unless_it_waits_for_a_hand() {
    let mut house = House::in_memory().await;
    for (manual_resume, status) in [(false, Status::Up), (true, Status::Paused)] {
        let id = house
            .check(|check| {
                check.state.status = Status::Paused;
                check.settings.filters.manual_resume = manual_resume;
            })
            .await;
        assert_eq!(
            house.ping(id, Action::Success, after(1)).await,
            Ok(Answer::Stored)
        );
        let check = house.read(id).await;
        assert_eq!((check.state.status, check.state.ping_count), (status, 1));
    }
}

/// A schedule that newer zone data does not know any more costs no ping.
#[tokio::test]
async fn a_check_whose_schedule_cannot_be_computed_keeps_its_pings() {
    let mut house = House::on_disk().await;
    let id = house.check(|_| {}).await;
    let raw = house.raw();
    raw.execute("update checks set timing_kind = 1, expression = 'nonsense'", [])
        .expect("a change");
    assert_eq!(house.ping(id, Action::Success, NOW).await, Ok(Answer::Stored));
    let check = house.read(id).await;
    assert_eq!((check.state.status, check.state.ping_count), (Status::Up, 1));
    assert!(check.deadline.is_some(), "the sweep looks at it again");
}

#[tokio::test]
async fn what_waits_is_stored_and_answered_before_the_end() {
    let mut house = House::in_memory().await;
    let id = house.check(|_| {}).await;
    let (inbox, ingest) = house.ingest(30, 7);
    let puts = gather(&inbox, vec![to(id); 30]).await;
    assert_eq!(inbox.depth(), 30);
    drop(inbox);
    ingest.run(|| NOW).await;
    for put in puts {
        assert_eq!(put.await.expect("an answer"), Ok(Answer::Stored));
    }
    assert_eq!(house.read(id).await.state.ping_count, 30);
    assert_eq!(house.metric("batch_pings_count"), 5.0);
}

/// The client is gone, its ping is not.
#[tokio::test]
async fn a_ping_whose_client_went_away_is_stored() {
    let mut house = House::in_memory().await;
    let id = house.check(|_| {}).await;
    let (inbox, ingest) = house.ingest(9, 9);
    for put in gather(&inbox, vec![to(id); 3]).await {
        put.abort();
    }
    drop(inbox);
    ingest.run(|| NOW).await;
    let read = house
        .store
        .read(async move |reader| reader.check_any(SYSTEM, id).await)
        .await;
    assert_eq!(read.expect("a read").expect("the check").state.ping_count, 3);
}
