//! What pings must meet: the quota of their check, and the ping key of its project.

use allswell_core::check::Status;
use allswell_core::key::KeyKind;
use allswell_core::quota::Quota;
use allswell_core::scope::ProjectScope;
use allswell_core::secret::Secret;
use allswell_core::signal::Action;
use allswell_core::time::Span;
use allswell_engine::ingest::{Address, Answer, Arrival, Inbox, Over, PingRules, Receipt};
use allswell_store::Tx;
use bytes::Bytes;

use crate::kit::{House, NOW, SYSTEM, Taken, after, gather, to};

const THREE: Quota = Quota::new(3, Span::from_secs(3_600));

fn kept_at_most(quota: Quota, over: Over) -> PingRules {
    PingRules {
        per_check: Some(quota),
        over,
        require_key: false,
    }
}

/// Batches of these pings, one after the other, by one ingest under these rules.
async fn put_all(house: &mut House, rules: PingRules, batches: Vec<Vec<Arrival>>) -> Vec<Taken> {
    let (inbox, ingest) = house.ingest(99, 99);
    let running = tokio::spawn(ingest.with_rules(rules).run(|| NOW));
    let mut taken = Vec::new();
    for batch in batches {
        for arrival in batch {
            taken.push(inbox.put(arrival).await);
        }
    }
    drop(inbox);
    running.await.expect("it ends");
    taken
}

fn saying(action: Action, secs: i64, arrival: Arrival) -> Arrival {
    Arrival {
        at: after(secs),
        action,
        body: Bytes::from_static(b"body"),
        ..arrival
    }
}

async fn numbers(house: &House, id: allswell_core::id::CheckId) -> Vec<u64> {
    house.log(id).await.iter().map(|(ping, _)| ping.n).collect()
}

#[tokio::test]
async fn beyond_the_quota_pings_move_the_check_and_are_not_kept() {
    let mut house = House::in_memory().await;
    let id = house.check(|_| {}).await;
    let pings = (0..6).map(|i| saying(Action::Success, i, to(id))).collect();
    let taken = put_all(&mut house, kept_at_most(THREE, Over::Count), vec![pings]).await;
    assert_eq!(taken, [Ok(Answer::Stored); 6]);
    assert_eq!(numbers(&house, id).await, [1, 2, 3]);
    assert_eq!(house.count("ping_bodies").await, 3);
    let state = house.read(id).await.state;
    assert_eq!(
        (state.ping_count, state.not_kept, state.last_ping),
        (6, 3, Some(after(5)))
    );
    assert_eq!(house.metric("pings_total{outcome=\"stored\"}"), 3.0);
    assert_eq!(house.metric("pings_total{outcome=\"counted\"}"), 3.0);
}

#[tokio::test]
async fn a_ping_that_changes_the_status_is_kept_however_many_came() {
    let mut house = House::in_memory().await;
    let id = house.check(|_| {}).await;
    let actions = [
        Action::Success,
        Action::Success,
        Action::Success,
        Action::Success,
        Action::Fail,
        Action::Fail,
        Action::Success,
    ];
    let pings = actions.iter().map(|action| saying(*action, 1, to(id))).collect();
    put_all(&mut house, kept_at_most(THREE, Over::Count), vec![pings]).await;
    assert_eq!(numbers(&house, id).await, [1, 2, 3, 5, 7]);
    let check = house.read(id).await;
    assert_eq!((check.state.status, check.state.not_kept), (Status::Up, 2));
    assert_eq!(house.flips(id).await.len(), 3);
}

#[tokio::test]
async fn a_check_that_was_quiet_has_its_quota_again_and_others_have_their_own() {
    let mut house = House::in_memory().await;
    let [one, other] = [house.check(|_| {}).await, house.check(|_| {}).await];
    let batches = [(one, 0), (other, 0), (one, 3_600)].map(|(id, secs)| {
        let pings = (0..5).map(|_| saying(Action::Log, secs, to(id)));
        pings.collect()
    });
    put_all(&mut house, kept_at_most(THREE, Over::Count), batches.to_vec()).await;
    assert_eq!(numbers(&house, one).await, [1, 2, 3, 6, 7, 8]);
    assert_eq!(numbers(&house, other).await, [1, 2, 3]);
}

#[tokio::test]
async fn pings_that_are_refused_count_for_nothing_and_hear_when_to_come_again() {
    let mut house = House::in_memory().await;
    let id = house.check(|_| {}).await;
    let pings = [0, 0, 0, 60, 1_200, 1_200].map(|secs| saying(Action::Success, secs, to(id)));
    let taken = put_all(
        &mut house,
        kept_at_most(THREE, Over::Reject),
        vec![pings.to_vec()],
    )
    .await;
    let wait = |secs| Ok(Answer::Limited(Span::from_secs(secs)));
    let stored = Ok(Answer::Stored);
    assert_eq!(taken, [stored, stored, stored, wait(1_140), stored, wait(1_200)]);
    let state = house.read(id).await.state;
    assert_eq!((state.ping_count, state.not_kept), (4, 0));
    assert_eq!(house.metric("pings_total{outcome=\"limited\"}"), 2.0);
}

#[tokio::test]
async fn a_ping_that_changes_the_status_is_never_refused() {
    let mut house = House::in_memory().await;
    let id = house.check(|_| {}).await;
    let actions = [
        Action::Success,
        Action::Success,
        Action::Success,
        Action::Success,
        Action::Fail,
        Action::Fail,
        Action::Success,
        Action::Start,
    ];
    let pings = actions.iter().map(|action| saying(*action, 1, to(id))).collect();
    let taken = put_all(&mut house, kept_at_most(THREE, Over::Reject), vec![pings]).await;
    let is_stored: Vec<bool> = taken.iter().map(|answer| *answer == Ok(Answer::Stored)).collect();
    assert_eq!(is_stored, [true, true, true, false, true, false, true, false]);
    assert_eq!(numbers(&house, id).await, [1, 2, 3, 4, 5]);
    let state = house.read(id).await.state;
    assert_eq!((state.status, state.not_kept), (Status::Up, 0));
    assert_eq!(state.last_start, None, "what is refused changes nothing");
    assert_eq!(house.flips(id).await.len(), 3);
}

#[tokio::test]
async fn signs_of_life_fill_neither_the_log_nor_the_quota() {
    for over in [Over::Count, Over::Reject] {
        let mut house = House::in_memory().await;
        let id = house.check(|_| {}).await;
        let mut pings = vec![vec![saying(Action::Start, 0, to(id))]];
        pings.extend((1..=50).map(|n| vec![saying(Action::Alive, n, to(id))]));
        pings.push(vec![saying(Action::Success, 51, to(id))]);
        let taken = put_all(&mut house, kept_at_most(THREE, over), pings).await;
        assert_eq!(taken, [Ok(Answer::Stored); 52], "{over:?}");
        assert_eq!(numbers(&house, id).await, [1, 2, 3]);
        let state = house.read(id).await.state;
        assert_eq!((state.ping_count, state.not_kept), (3, 0), "nothing is lost");
        assert_eq!(state.last_duration, Some(Span::from_secs(51)));
    }
}

#[tokio::test]
async fn a_sign_of_life_is_heard_however_many_pings_came() {
    for (over, counts) in [(Over::Count, (5, 2)), (Over::Reject, (4, 1))] {
        let mut house = House::in_memory().await;
        let id = house.check(|_| {}).await;
        let [log, start, alive] = [Action::Log, Action::Start, Action::Alive]
            .map(|action| move |secs| saying(action, secs, to(id)));
        let pings = vec![log(0), log(0), start(0), log(1), alive(1), alive(2)];
        put_all(&mut house, kept_at_most(THREE, over), vec![pings]).await;
        let state = house.read(id).await.state;
        assert_eq!(state.last_alive, Some(after(2)), "{over:?}");
        assert_eq!((state.ping_count, state.not_kept), counts, "{over:?}");
    }
}

/// A batch that fails and is stored ping by ping has used what its pings have, and no more.
#[tokio::test]
async fn what_is_decided_again_is_counted_once() {
    let mut house = House::on_disk().await;
    let [good, bad] = [house.check(|_| {}).await, house.check(|_| {}).await];
    house
        .raw()
        .execute(
            "update checks set status = 9 where id = ?1",
            [bad.as_uuid_bytes().as_slice()],
        )
        .expect("a broken row");
    let (inbox, ingest) = house.ingest(9, 9);
    let batch = vec![to(good), to(bad), to(good), to(good)];
    let puts = gather(&inbox, batch).await;
    let running = tokio::spawn(ingest.with_rules(kept_at_most(THREE, Over::Reject)).run(|| NOW));
    let mut taken = Vec::new();
    for put in puts {
        taken.push(put.await.expect("an answer").is_ok());
    }
    assert_eq!(taken, [true, false, true, true]);
    assert!(matches!(inbox.put(to(good)).await, Ok(Answer::Limited(_))));
    drop(inbox);
    running.await.expect("it ends");
}

fn with_key(id: allswell_core::id::CheckId, key: &str) -> Arrival {
    Arrival {
        address: Address::CheckWithKey(id, Secret::new(key.to_owned())),
        ..to(id)
    }
}

async fn of(inbox: &Inbox, arrival: Arrival) -> Answer {
    inbox.put(arrival).await.expect("an answer")
}

#[tokio::test]
async fn pings_by_id_need_the_key_where_the_project_asks_for_it() {
    let mut house = House::in_memory().await;
    let before = house
        .check(|check| check.settings.slug = "by-slug".to_owned())
        .await;
    let other = house.second_project().await;
    let foreign = house.check(|check| check.project = other).await;
    let mut dice = house.dice.fork();
    let other_key = house
        .store
        .write(async move |tx| {
            let scope = ProjectScope::granted(other);
            tx.key_create(scope, KeyKind::Ping, "ping", &mut dice, NOW).await
        })
        .await
        .expect("a key")
        .1;
    let scope = house.scope();
    let require = async |on: bool| {
        house
            .store
            .write(async move |tx: &mut Tx<'_>| tx.project_require_ping_key(scope, on).await)
            .await
            .expect("a switch");
    };
    let row = async || {
        let check = house
            .store
            .read(async move |reader| reader.check_any(SYSTEM, before).await)
            .await;
        let check = check.expect("a look").expect("the check");
        (check.version, check.settings.filters.needs_key)
    };
    let (version, asked) = row().await;
    assert!(!asked);
    require(true).await;
    // Nobody's row is written, so no ping waits for a project with very many of them.
    assert_eq!(row().await, (version, true));
    let key = house.ping_key.reveal().clone();
    let after_it = house.check(|_| {}).await;
    let (inbox, ingest) = house.ingest(9, 9);
    let running = tokio::spawn(ingest.run(|| NOW));
    for id in [before, after_it] {
        assert_eq!(of(&inbox, to(id)).await, Answer::KeyMissing);
        assert_eq!(of(&inbox, with_key(id, "nonsense")).await, Answer::KeyWrong);
        assert_eq!(
            of(&inbox, with_key(id, other_key.reveal())).await,
            Answer::NotFound
        );
        assert_eq!(of(&inbox, with_key(id, &key)).await, Answer::Stored);
    }
    assert_eq!(of(&inbox, house.by_slug("by-slug", false)).await, Answer::Stored);
    assert_eq!(of(&inbox, to(foreign)).await, Answer::Stored, "another project");
    assert_eq!(of(&inbox, with_key(foreign, "nonsense")).await, Answer::Stored);
    let stored: i64 = house.count("pings").await;
    assert_eq!(stored, 5, "what is refused leaves nothing");
    let scope = house.scope();
    house
        .store
        .write(async move |tx: &mut Tx<'_>| tx.project_require_ping_key(scope, false).await)
        .await
        .expect("a switch");
    assert_eq!(of(&inbox, to(before)).await, Answer::Stored);
    drop(inbox);
    running.await.expect("it ends");
}

#[tokio::test]
async fn where_the_instance_asks_for_the_key_no_answer_tells_whether_an_id_is_known() {
    let mut house = House::in_memory().await;
    let (known, unknown) = (house.check(|_| {}).await, house.dice.id());
    let key = house.ping_key.reveal().clone();
    let (inbox, ingest) = house.ingest(9, 9);
    let rules = PingRules {
        require_key: true,
        ..PingRules::default()
    };
    let running = tokio::spawn(ingest.with_rules(rules).run(|| NOW));
    for id in [known, unknown] {
        assert_eq!(of(&inbox, to(id)).await, Answer::KeyMissing);
        assert_eq!(of(&inbox, with_key(id, "nonsense")).await, Answer::KeyWrong);
    }
    assert_eq!(of(&inbox, with_key(known, &key)).await, Answer::Stored);
    assert_eq!(of(&inbox, with_key(unknown, &key)).await, Answer::NotFound);
    drop(inbox);
    running.await.expect("it ends");
}

#[tokio::test]
async fn a_receipt_tells_what_was_stored() {
    let mut house = House::in_memory().await;
    let id = house.check(|_| {}).await;
    let (inbox, ingest) = house.ingest(9, 9);
    let running = tokio::spawn(ingest.run(|| NOW));
    let told = inbox.put_and_hear(saying(Action::Fail, 1, to(id))).await;
    let receipt = Receipt {
        check: Some(id),
        n: 1,
        kind: allswell_core::signal::Kind::Fail,
        status: Status::Down,
        kept: true,
    };
    assert_eq!(told.map(|told| told.receipt), Ok(Some(receipt)));
    drop(inbox);
    running.await.expect("it ends");
}
