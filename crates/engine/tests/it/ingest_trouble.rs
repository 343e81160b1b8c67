//! Pings that cannot be stored, or not at once: refused or decided again, and never answered as if they were.

use allswell_core::id::CheckId;
use allswell_core::signal::{Action, Kind};
use allswell_engine::ingest::{Answer, Arrival, Refusal};
use allswell_testkit::Cluster;
use bytes::Bytes;

use crate::kit::{House, Log, NOW, Taken, after, gather, to};

#[tokio::test]
async fn a_full_inbox_refuses_and_what_waits_is_stored_later() {
    let mut house = House::in_memory().await;
    let id = house.check(|_| {}).await;
    let (inbox, ingest) = house.ingest(5, 5);
    let waiting = gather(&inbox, vec![to(id); 5]).await;
    for _ in 0..3 {
        assert_eq!(inbox.put(to(id)).await, Err(Refusal::Full));
    }
    drop(inbox);
    ingest.run(|| NOW).await;
    for put in waiting {
        assert_eq!(put.await.expect("an answer"), Ok(Answer::Stored));
    }
    assert_eq!(house.log(id).await.len(), 5);
}

/// Another program holds the database for longer than the store waits (five seconds): the inbox fills and refuses at
/// once, the batch that waited is refused in the end, and afterwards all is as before.
#[tokio::test]
async fn a_database_that_is_away_refuses_until_it_is_back() {
    let mut house = House::on_disk().await;
    let id = house.check(|_| {}).await;
    let raw = house.raw();
    raw.execute_batch("begin immediate")
        .expect("the database is taken");
    let (inbox, ingest) = house.ingest(2, 2);
    let waiting = gather(&inbox, vec![to(id); 2]).await;
    let running = tokio::spawn(ingest.run(|| NOW));
    while inbox.depth() > 0 {
        tokio::task::yield_now().await;
    }
    let next = gather(&inbox, vec![to(id); 2]).await;
    assert_eq!(
        inbox.put(to(id)).await,
        Err(Refusal::Full),
        "at once, with a batch on its way and a batch waiting"
    );
    for put in waiting {
        assert_eq!(put.await.expect("an answer"), Err(Refusal::Busy));
    }
    raw.execute_batch("rollback").expect("the database is free");
    for put in next {
        assert_eq!(put.await.expect("an answer"), Ok(Answer::Stored));
    }
    assert_eq!(inbox.put(to(id)).await, Ok(Answer::Stored));
    assert_eq!(
        house.read(id).await.state.ping_count,
        3,
        "what was refused is not stored"
    );
    drop(inbox);
    running.await.expect("it ends");
}

#[tokio::test]
async fn a_database_without_its_table_stores_nothing_and_says_so() {
    let mut house = House::on_disk().await;
    let id = house.check(|_| {}).await;
    house
        .raw()
        .execute_batch("alter table pings rename to elsewhere")
        .expect("a change");
    let nobody = house.dice.id();
    let taken = house.in_one_batch(vec![to(id), to(nobody), to(id)]).await;
    assert_eq!(
        taken,
        [Err(Refusal::Failed), Ok(Answer::NotFound), Err(Refusal::Failed)]
    );
    house
        .raw()
        .execute_batch("alter table elsewhere rename to pings")
        .expect("a change");
    assert_eq!(house.read(id).await.state.ping_count, 0);
    assert_eq!(house.in_one_batch(vec![to(id)]).await, [Ok(Answer::Stored)]);
}

/// Rows as no program of ours leaves them: a status that nobody knows, a log that is ahead of its counter.
#[tokio::test]
async fn a_row_that_breaks_its_batch_fails_alone() {
    let damages = [
        "update checks set status = 9 where id = ?1",
        "update checks set ping_count = 0 where id = ?1",
        "update checks set flip_count = 0, status = 0 where id = ?1",
    ];
    for damage in damages {
        let mut house = House::on_disk().await;
        let [bad, one, two] = [
            house.check(|_| {}).await,
            house.check(|_| {}).await,
            house.check(|_| {}).await,
        ];
        assert_eq!(house.in_one_batch(vec![to(bad)]).await, [Ok(Answer::Stored)]);
        assert_eq!(
            house
                .raw()
                .execute(damage, [bad.as_uuid_bytes()])
                .expect("damage"),
            1
        );
        let (log, _guard) = Log::listen();
        let fail = Arrival {
            action: Action::Fail,
            ..to(two)
        };
        let arrivals = vec![
            to(one),
            to(bad),
            fail,
            house.by_slug("new", true),
            to(bad),
            to(one),
        ];
        let taken = house.in_one_batch(arrivals).await;
        let stored = Ok(Answer::Stored);
        let failed = Err(Refusal::Failed);
        assert_eq!(
            taken,
            [stored, failed, stored, Ok(Answer::Created), failed, stored],
            "{damage}"
        );
        assert_eq!(house.read(one).await.state.ping_count, 2);
        assert_eq!(house.flips(two).await.len(), 1);
        assert_eq!(house.count("pings").await, 1 + 4, "{damage}");
        assert_eq!(log.lines_with("one by one").len(), 1);
        // Once, and then no more for a while: the log may lie on a disk that is full.
        assert_eq!(
            log.lines_with("ERROR pings could not be stored (1 since").len(),
            1
        );
    }
}

#[tokio::test]
async fn an_inbox_that_nobody_empties_any_more_refuses() {
    let mut house = House::in_memory().await;
    let id = house.check(|_| {}).await;
    let (inbox, ingest) = house.ingest(2, 2);
    let waiting = gather(&inbox, vec![to(id)]).await;
    drop(ingest);
    for put in waiting {
        assert_eq!(put.await.expect("an answer"), Err(Refusal::Failed));
    }
    assert_eq!(inbox.put(to(id)).await, Err(Refusal::Busy));
}

/// Skips the first so many changes of a check, as if another node had been faster with each.
async fn let_another_be_faster(name: &str, id: CheckId, times: u32) {
    let trigger = format!(
        "create sequence faster;
         create function faster() returns trigger language plpgsql as
         $$ begin if nextval('faster') <= {times} then return null; end if; return new; end $$;
         create trigger faster before update on checks for each row when (old.id = '{id}') execute function faster()"
    );
    Cluster::shared().run(name, &trigger).await;
}

/// Two checks that are up, and pings for both of them in one batch, while another node is faster with the second.
async fn beside_a_faster_node(times: u32) -> (Vec<Taken>, [(u64, usize); 2]) {
    let (mut house, name) = House::on_postgres().await;
    let [ours, contested] = [house.check(|_| {}).await, house.check(|_| {}).await];
    let up = house.in_one_batch(vec![to(ours), to(contested)]).await;
    assert_eq!(up, [Ok(Answer::Stored); 2]);
    let_another_be_faster(&name, contested, times).await;
    let batch = [ours, contested, ours, contested].map(|id| Arrival {
        at: after(9),
        body: Bytes::from_static(b"a body"),
        ..to(id)
    });
    let taken = house.in_one_batch(batch.to_vec()).await;
    let mut kept = [(0, 0); 2];
    for (kept, id) in kept.iter_mut().zip([ours, contested]) {
        *kept = (house.read(id).await.state.ping_count, house.log(id).await.len());
    }
    (taken, kept)
}

#[tokio::test]
async fn what_another_node_was_faster_with_is_decided_again_and_what_was_stored_beside_it_is_not() {
    for times in [1, 3] {
        let (taken, kept) = beside_a_faster_node(times).await;
        assert_eq!(taken, [Ok(Answer::Stored); 4], "{times}");
        assert_eq!(kept, [(3, 3), (3, 3)], "{times}");
    }
}

#[tokio::test]
async fn who_loses_to_another_node_each_time_is_refused_alone() {
    let (taken, kept) = beside_a_faster_node(1_000).await;
    let (stored, refused) = (Ok(Answer::Stored), Err(Refusal::Busy));
    assert_eq!(taken, [stored, refused, stored, refused]);
    assert_eq!(kept, [(3, 3), (1, 1)], "each once");
}

/// As when a batch is broken by a row of another check in it.
#[tokio::test]
async fn pings_of_a_check_keep_their_order_where_each_is_tried_alone_beside_a_faster_node() {
    let (mut house, name) = House::on_postgres().await;
    let [broken, contested] = [house.check(|_| {}).await, house.check(|_| {}).await];
    let up = house.in_one_batch(vec![to(broken), to(contested)]).await;
    assert_eq!(up, [Ok(Answer::Stored); 2]);
    let_another_be_faster(&name, contested, 3).await;
    let breaks = format!(
        "create function breaks() returns trigger language plpgsql as
         $$ begin raise exception 'it breaks' using errcode = '23514'; end $$;
         create trigger breaks before update on checks for each row when (old.id = '{broken}') execute function breaks()"
    );
    Cluster::shared().run(&name, &breaks).await;
    let batch = [
        (contested, Action::Start),
        (broken, Action::Success),
        (contested, Action::Success),
    ];
    let batch = batch.map(|(id, action)| Arrival {
        action,
        at: after(9),
        ..to(id)
    });
    let taken = house.in_one_batch(batch.to_vec()).await;
    assert_eq!(
        taken,
        [Ok(Answer::Stored), Err(Refusal::Failed), Ok(Answer::Stored)]
    );
    let kinds: Vec<Kind> = house
        .log(contested)
        .await
        .iter()
        .map(|(ping, _)| ping.kind)
        .collect();
    assert_eq!(kinds, [Kind::Success, Kind::Start, Kind::Success]);
}
