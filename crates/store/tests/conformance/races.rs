//! Many at once on one database: each row is won by one.

use std::collections::HashSet;
use std::sync::Arc;

use allswell_core::chance::Dice;
use allswell_core::check::{Check, State};
use allswell_core::scope::SystemScope;
use allswell_core::signal::Kind;
use allswell_store::news::{News, Promise};
use allswell_store::{Error, Place, Store, Tx};
use allswell_testkit::Cluster;
use tokio::task::JoinSet;

use crate::kit::{House, NOW, OnDisk, SYSTEM, claim_due, finish, postgres_place, rows, unlock};

const TASKS: u64 = 40;
const DELIVERIES: usize = 1_000;

fn run_on_threads<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(future)
}

/// Makes one test per database of each function of two stores on one database: on SQLite as a server and a command of
/// the operator have it, on PostgreSQL as two servers do.
macro_rules! on_two_stores {
    ($($name:ident),* $(,)?) => {
        mod sqlite {
            $(#[test]
            fn $name() {
                super::run_on_threads(async {
                    let disk = $crate::kit::OnDisk::new();
                    super::$name([disk.open().await, disk.open().await]).await;
                });
            })*
        }
        mod postgres {
            $(#[test]
            fn $name() {
                super::run_on_threads(async {
                    let cluster = allswell_testkit::Cluster::shared();
                    let name = cluster.database().await;
                    let place = $crate::kit::postgres_place(cluster, &name);
                    let mut stores = Vec::new();
                    for _ in 0..2 {
                        let store = allswell_store::Store::open(&place, $crate::kit::NOW).await.expect("a store");
                        $crate::kit::unlock(&store).await;
                        stores.push(store);
                    }
                    super::$name([stores[0].clone(), stores[1].clone()]).await;
                    drop(stores);
                    cluster.remove(&name).await;
                });
            })*
        }
    };
}

on_two_stores!(
    forty_tasks_claim_from_one_queue_and_each_delivery_is_won_once,
    no_update_is_lost_between_reading_and_writing,
);

async fn forty_tasks_claim_from_one_queue_and_each_delivery_is_won_once(stores: [Store; 2]) {
    {
        let mut house = House::build(&stores[0]).await;
        let mut check = house.check(house.alice, |_| {}).await;
        let flip = house
            .ping(&mut check, Kind::Fail, b"", NOW)
            .await
            .expect("a flip");
        let mut dice = house.dice.fork();
        stores[0]
            .write(async move |tx| {
                for _ in 0..DELIVERIES {
                    let owed = allswell_core::delivery::Owed {
                        channel: dice.id(),
                        class: allswell_core::delivery::Class::Alert,
                        expires_at: NOW,
                    };
                    let news = News {
                        check: &check,
                        flip: &flip,
                        noticed_at: NOW,
                    };
                    let id = dice.id();
                    tx.delivery_insert(SystemScope::engine(), &Promise { news, owed, id })
                        .await?;
                }
                Ok::<_, Error>(())
            })
            .await
            .expect("deliveries");

        let mut tasks = JoinSet::new();
        for task in 0..TASKS {
            let store = stores[(task % 2) as usize].clone();
            tasks.spawn(async move {
                let node = Dice::from_number(1_000 + task).id();
                let mut won = Vec::new();
                loop {
                    let claimed = store
                        .write(async move |tx| claim_due(tx, NOW, 7, node).await)
                        .await
                        .expect("a claim");
                    // Won nothing is no reason to stop: others may have been quicker with these.
                    let Some(claimed) = claimed else { return won };
                    for delivery in claimed {
                        won.push(delivery.id);
                        let ended = store
                            .write(async move |tx| finish(tx, &delivery, node, NOW).await)
                            .await;
                        assert!(ended.expect("an end"), "the lease is ours");
                    }
                }
            });
        }
        let won: Vec<_> = tasks.join_all().await.into_iter().flatten().collect();
        assert_eq!(won.len(), DELIVERIES);
        assert_eq!(won.into_iter().collect::<HashSet<_>>().len(), DELIVERIES);
        let rows = rows(&stores[1]).await;
        assert_eq!((rows["deliveries"], rows["attempts"]), (1_000, 1_000));
    }
}

/// Compare and set: each task adds one to a counter that it read in another transaction, and tries again when it lost.
async fn no_update_is_lost_between_reading_and_writing(stores: [Store; 2]) {
    {
        let mut house = House::build(&stores[0]).await;
        let check = house.check(house.alice, |_| {}).await;
        let lost = Arc::new(std::sync::atomic::AtomicU64::new(0));
        let mut tasks = JoinSet::new();
        for task in 0..TASKS {
            let (store, id, lost) = (stores[(task % 2) as usize].clone(), check.id, Arc::clone(&lost));
            tasks.spawn(async move {
                loop {
                    let read = store.read(async move |reader| reader.check_any(SYSTEM, id).await);
                    let read = read.await.expect("a read").expect("the check");
                    let count = read.state.ping_count + 1;
                    let mut new = Check {
                        state: State {
                            ping_count: count,
                            ..read.state.clone()
                        },
                        ..read
                    };
                    let write = store.write(async move |tx: &mut Tx<'_>| {
                        tx.check_save_state(SystemScope::engine(), &mut new, None).await
                    });
                    if write.await.expect("a write") {
                        return;
                    }
                    lost.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                }
            });
        }
        tasks.join_all().await;
        let end = house.read(&check).await.expect("the check");
        assert_eq!(
            (end.state.ping_count, end.version),
            (TASKS, check.version + TASKS as i64)
        );
        assert!(
            lost.load(std::sync::atomic::Ordering::Relaxed) > 0,
            "there was no race to speak of"
        );
    }
}

/// A server and a command that meet at a database that is not there yet.
#[test]
fn a_new_database_may_be_opened_by_many_at_once() {
    for _ in 0..10 {
        run_on_threads(async {
            let disk = OnDisk::new();
            let alone = Store::open(&Place::Memory, NOW).await.expect("a store");
            let migrations = alone.count_rows().await.expect("a count");
            let migrations = migrations
                .iter()
                .find(|(table, _)| table == "schema_versions")
                .expect("the ledger")
                .1;
            let mut tasks = JoinSet::new();
            for _ in 0..8 {
                let place = disk.place();
                tasks.spawn(async move {
                    let store = Store::open(&place, NOW).await?;
                    unlock(&store).await;
                    Ok::<_, Error>(store)
                });
            }
            for store in tasks.join_all().await {
                let store = store.expect("a store");
                let rows = rows(&store).await;
                assert_eq!((rows["schema_versions"], rows["data_keys"]), (migrations, 1));
            }
        });
    }
}

/// The same on PostgreSQL, where nothing but the database itself keeps them apart.
#[test]
fn a_new_postgres_database_may_be_opened_by_many_at_once() {
    run_on_threads(async {
        let cluster = Cluster::shared();
        let name = cluster.database().await;
        let mut tasks = JoinSet::new();
        for _ in 0..8 {
            let place = postgres_place(cluster, &name);
            tasks.spawn(async move {
                let store = Store::open(&place, NOW).await?;
                unlock(&store).await;
                Ok::<_, Error>(store)
            });
        }
        for store in tasks.join_all().await {
            let store = store.expect("a store");
            let version = store.schema_version().await.expect("a version");
            let rows = rows(&store).await;
            assert_eq!((rows["schema_versions"], rows["data_keys"]), (version, 1));
        }
        cluster.remove(&name).await;
    });
}
