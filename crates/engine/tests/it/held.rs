//! Checks that are held between their pings: what others change meanwhile counts as if they had been read.

use allswell_core::check::Status;
use allswell_core::id::CheckId;
use allswell_core::quota::Quota;
use allswell_core::signal::Action;
use allswell_core::time::Span;
use allswell_engine::ingest::{Address, Answer, Arrival, Inbox, Over, PingRules, Refusal};
use allswell_store::Tx;
use allswell_testkit::Cluster;
use tokio::task::JoinHandle;

use crate::kit::{House, NOW, Taken, after, gather, to};

/// A server that goes on, and holds what it has written.
struct Server {
    inbox: Inbox,
    running: JoinHandle<()>,
}

impl Server {
    fn start(house: &mut House, rules: PingRules) -> Self {
        let (inbox, ingest) = house.ingest(99, 99);
        let running = tokio::spawn(ingest.with_rules(rules).run(|| NOW));
        Server { inbox, running }
    }

    async fn ping(&self, id: CheckId, action: Action, secs: i64) -> Taken {
        let at = after(secs);
        self.inbox.put(Arrival { at, action, ..to(id) }).await
    }

    /// A check that is up, and held: what changes the status of a check is not.
    async fn holds(&self, house: &mut House) -> CheckId {
        let id = house.check(|_| {}).await;
        for secs in [0, 1] {
            assert_eq!(self.ping(id, Action::Success, secs).await, Ok(Answer::Stored));
        }
        id
    }

    async fn stop(self) {
        drop(self.inbox);
        self.running.await.expect("it ends");
    }
}

#[tokio::test]
async fn a_check_is_not_read_again_after_a_quiet_ping() {
    let mut house = House::on_disk().await;
    let server = Server::start(&mut house, PingRules::default());
    let [held, other] = [server.holds(&mut house).await, house.check(|_| {}).await];
    // Nobody can read them now, and their versions stay.
    house
        .raw()
        .execute("update checks set status = 9", [])
        .expect("broken rows");
    let refused = server.ping(other, Action::Success, 2).await;
    assert_eq!(refused, Err(Refusal::Failed));
    assert_eq!(server.ping(held, Action::Success, 2).await, Ok(Answer::Stored));
    assert_eq!(house.read(held).await.state.ping_count, 3);
    server.stop().await;
}

#[tokio::test]
async fn pings_by_slug_and_our_own_leave_what_is_held() {
    let mut house = House::on_disk().await;
    let server = Server::start(&mut house, PingRules::default());
    let held = server.holds(&mut house).await;
    house
        .check(|check| check.settings.slug = "other".to_owned())
        .await;
    let ours = Address::Ourselves(house.dice.id());
    for arrival in [
        house.by_slug("other", false),
        Arrival {
            address: ours,
            ..to(held)
        },
    ] {
        assert_eq!(server.inbox.put(arrival).await, Ok(Answer::Stored));
    }
    house
        .raw()
        .execute("update checks set status = 9", [])
        .expect("broken rows");
    assert_eq!(server.ping(held, Action::Success, 2).await, Ok(Answer::Stored));
    server.stop().await;
}

#[tokio::test]
async fn a_batch_that_waits_for_a_row_keeps_no_ping_of_another_check_waiting() {
    let (mut house, name) = House::on_postgres().await;
    let ids = [
        house.check(|_| {}).await,
        house.check(|_| {}).await,
        house.check(|_| {}).await,
    ];
    let (store, scope, id) = (house.store.clone(), house.scope(), ids[0]);
    let (release, released) = tokio::sync::oneshot::channel::<()>();
    let holder = tokio::spawn(async move {
        let hold = async move |tx: &mut Tx<'_>| {
            tx.check_lock(scope, id).await?;
            let _ = released.await;
            Ok::<_, allswell_store::Error>(())
        };
        store.write(hold).await
    });
    let locks = "select count(*) from pg_locks where mode = 'RowShareLock' and locktype = 'relation'
        and database = (select oid from pg_database where datname = current_database())";
    while Cluster::shared().number(&name, locks).await == 0 {}
    let (inbox, ingest) = house.ingest(9, 9);
    let stuck = gather(&inbox, vec![to(ids[0]), to(ids[1])]).await;
    let running = tokio::spawn(ingest.run(|| NOW));
    let waits = "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";
    while Cluster::shared().number(&name, waits).await == 0 {}
    assert_eq!(inbox.put(to(ids[2])).await, Ok(Answer::Stored));
    release.send(()).expect("it is held");
    holder.await.expect("a task").expect("a transaction");
    for put in stuck {
        assert_eq!(put.await.expect("an answer"), Ok(Answer::Stored));
    }
    drop(inbox);
    running.await.expect("it ends");
}

#[tokio::test]
async fn what_another_server_wrote_is_read_and_counted() {
    let mut house = House::in_memory().await;
    let server = Server::start(&mut house, PingRules::default());
    let id = server.holds(&mut house).await;
    for (other, action) in [(2, Action::Success), (4, Action::Fail), (6, Action::Start)] {
        assert_eq!(house.ping(id, action, after(other)).await, Ok(Answer::Stored));
        assert_eq!(
            server.ping(id, Action::Success, other + 1).await,
            Ok(Answer::Stored)
        );
    }
    let numbers: Vec<u64> = house.log(id).await.iter().map(|(ping, _)| ping.n).collect();
    assert_eq!(numbers, [1, 2, 3, 4, 5, 6, 7, 8]);
    let state = house.read(id).await.state;
    assert_eq!((state.status, state.ping_count), (Status::Up, 8));
    assert_eq!(
        state.last_duration,
        Some(Span::from_secs(1)),
        "of the run that began elsewhere"
    );
    // New and up, down, and up again.
    assert_eq!(house.flips(id).await.len(), 3);
    server.stop().await;
}

#[tokio::test]
async fn what_people_change_is_seen_by_the_next_ping() {
    let mut house = House::in_memory().await;
    let server = Server::start(&mut house, PingRules::default());
    let id = server.holds(&mut house).await;
    let mut check = house.read(id).await;
    check.settings.filters.post_only = true;
    let scope = house.scope();
    let edit = house
        .store
        .write(async move |tx| tx.check_save_settings(scope, &mut check).await);
    edit.await.expect("an edit");
    assert_eq!(server.ping(id, Action::Fail, 2).await, Ok(Answer::Stored));
    let check = house.read(id).await;
    assert_eq!(check.state.status, Status::Up, "it came as GET");

    let deletion = house
        .store
        .write(async move |tx| tx.check_delete(scope, id, after(3)).await);
    assert!(deletion.await.expect("a deletion"));
    assert_eq!(server.ping(id, Action::Success, 4).await, Ok(Answer::NotFound));
    server.stop().await;
}

#[tokio::test]
async fn a_key_is_asked_for_from_the_moment_that_the_project_does() {
    let mut house = House::in_memory().await;
    let server = Server::start(&mut house, PingRules::default());
    let ids = [server.holds(&mut house).await, server.holds(&mut house).await];
    let scope = house.scope();
    for (asked, answer) in [
        (true, Answer::KeyMissing),
        (false, Answer::Stored),
        (true, Answer::KeyMissing),
    ] {
        let change = house
            .store
            .write(async move |tx| tx.project_require_ping_key(scope, asked).await);
        change.await.expect("a switch");
        for secs in [2, 3] {
            for id in ids {
                assert_eq!(
                    server.ping(id, Action::Success, secs).await,
                    Ok(answer),
                    "{asked}"
                );
            }
        }
    }
    server.stop().await;
}

/// By what it holds the ping would change nothing, and could be refused.
#[tokio::test]
async fn a_ping_beyond_the_quota_is_not_refused_by_what_was_held() {
    let mut house = House::in_memory().await;
    let rules = PingRules {
        per_check: Some(Quota::new(3, Span::from_secs(3_600))),
        over: Over::Reject,
        require_key: false,
    };
    let server = Server::start(&mut house, rules);
    let id = server.holds(&mut house).await;
    assert_eq!(server.ping(id, Action::Success, 2).await, Ok(Answer::Stored));
    assert_eq!(house.ping(id, Action::Fail, after(3)).await, Ok(Answer::Stored));
    assert_eq!(server.ping(id, Action::Success, 4).await, Ok(Answer::Stored));
    assert_eq!(house.read(id).await.state.status, Status::Up);
    let refused = server.ping(id, Action::Success, 5).await;
    assert!(matches!(refused, Ok(Answer::Limited(_))), "{refused:?}");
    server.stop().await;
}
