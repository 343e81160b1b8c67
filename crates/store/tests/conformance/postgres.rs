//! What only PostgreSQL can do to us: wait, hang, go away in the middle, and be somebody else.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use allswell_core::chance::Dice;
use allswell_core::check::{Check, Status};
use allswell_core::delivery::{Class, Owed};
use allswell_core::flip::{Flip, Reason};
use allswell_core::id::CheckId;
use allswell_core::scope::{ProjectScope, SystemScope};
use allswell_core::signal::Kind;
use allswell_store::batch::{Changed, Logged, Then};
use allswell_store::news::{News, Promise};
use allswell_store::outbox::Redelivered;
use allswell_store::pings::Ping;
use allswell_store::{Durability, Error, Place, Reader, Server, Store, Tx};
use allswell_testkit::Cluster;

use crate::kit::{House, NOW, SYSTEM, after, ping, rows, run, unlock};
use crate::pings::borrowed;

/// A store on a database of its own whose server is changed as the test wants it.
async fn with_store(change: impl FnOnce(&mut Server), test: impl AsyncFnOnce(&Store, &Cluster, &str)) {
    let cluster = Cluster::shared();
    let name = cluster.database().await;
    let mut server = Server::from_url(&cluster.url(&name)).expect("a URL");
    change(&mut server);
    let store = Store::open(&Place::Postgres(Box::new(server)), NOW)
        .await
        .expect("a store");
    unlock(&store).await;
    test(&store, cluster, &name).await;
    drop(store);
    cluster.remove(&name).await;
}

async fn set(store: &Store, value: &'static str) -> Result<(), Error> {
    store
        .write(async move |tx: &mut Tx<'_>| tx.instance_set("fact", value).await)
        .await
}

async fn get(store: &Store) -> Option<String> {
    let read = store.read(async |reader| reader.instance_get("fact").await);
    read.await.expect("a read")
}

#[test]
fn both_schemas_have_the_same_tables_columns_nulls_and_keys() {
    run(async {
        let sqlite = Store::open(&Place::Memory, NOW).await.expect("a store");
        let sqlite = sqlite.catalogue().await.expect("a catalogue");
        with_store(
            |_| {},
            async move |store, _, _| {
                let postgres = store.catalogue().await.expect("a catalogue");
                assert!(postgres.len() > 20);
                for (one, other) in sqlite.iter().zip(&postgres) {
                    assert_eq!(one, other);
                }
                assert_eq!(sqlite.len(), postgres.len());
            },
        )
        .await;
    });
}

/// With one connection in the pool, a poisoned one would show at once.
#[test]
fn a_task_that_stops_waiting_leaves_its_connection_clean() {
    run(async {
        with_store(
            |server| server.connections = 1,
            async |store, _, _| {
                set(store, "old").await.expect("a write");
                for _ in 0..50 {
                    let mut write = Box::pin(store.write(async |tx: &mut Tx<'_>| {
                        tx.instance_set("fact", "new").await?;
                        tx.instance_get("fact").await?;
                        std::future::pending::<()>().await;
                        Ok::<_, Error>(())
                    }));
                    let given_up = tokio::time::timeout(Duration::from_millis(5), write.as_mut()).await;
                    assert!(given_up.is_err(), "it waits for ever");
                    drop(write);
                    assert_eq!(get(store).await.as_deref(), Some("old"));
                }
                set(store, "newer").await.expect("a write");
                assert_eq!(get(store).await.as_deref(), Some("newer"));
            },
        )
        .await;
    });
}

#[test]
fn who_finds_no_free_connection_is_told_so_in_time() {
    run(async {
        with_store(
            |server| {
                server.connections = 1;
                server.acquire = Duration::from_millis(200);
            },
            async |store, _, _| {
                let inner = store.clone();
                let outer = store.read(async move |_| {
                    let refused = get_result(&inner).await;
                    assert!(matches!(refused, Err(Error::Unavailable(_))), "{refused:?}");
                    Ok::<_, Error>(())
                });
                outer.await.expect("a read");
                assert_eq!(get(store).await, None);
            },
        )
        .await;
    });
}

async fn get_result(store: &Store) -> Result<Option<String>, Error> {
    store.read(async |reader| reader.instance_get("fact").await).await
}

/// Somebody else holds the row: the wait for it ends, as an outage and not as a mistake of ours.
#[test]
fn a_statement_that_takes_too_long_is_ended() {
    run(async {
        for prepare in [true, false] {
            with_store(
                |server| {
                    server.statement = Duration::from_millis(300);
                    server.prepare = prepare;
                },
                async |store, cluster, name| {
                    set(store, "old").await.expect("a write");
                    let (locked, until_locked) = tokio::sync::oneshot::channel();
                    let (release, released) = tokio::sync::oneshot::channel::<()>();
                    let url = cluster.url(name);
                    let holder = tokio::spawn(async move {
                        let server = Server::from_url(&url).expect("a URL");
                        let other = Store::open(&Place::Postgres(Box::new(server)), NOW)
                            .await
                            .expect("a store");
                        let held = other.write(async move |tx: &mut Tx<'_>| {
                            tx.instance_set("fact", "held").await?;
                            let _ = locked.send(());
                            let _ = released.await;
                            Ok::<_, Error>(())
                        });
                        held.await
                    });
                    until_locked.await.expect("the row is held");
                    let late = set(store, "late").await;
                    assert!(matches!(late, Err(Error::Unavailable(_))), "{late:?}");
                    release.send(()).expect("the holder waits");
                    holder.await.expect("a task").expect("a write");
                    assert_eq!(get(store).await.as_deref(), Some("held"));
                    set(store, "newer").await.expect("a write");
                },
            )
            .await;
        }
    });
}

/// As a restart of the server does it: every connection of the pool is gone, and nobody was told.
#[test]
fn connections_that_broke_while_nobody_used_them_are_replaced() {
    run(async {
        with_store(
            |_| {},
            async |store, cluster, name| {
                let reads = (0..5).map(|_| {
                    tokio::spawn({
                        let store = store.clone();
                        async move { get(&store).await }
                    })
                });
                for read in reads.collect::<Vec<_>>() {
                    read.await.expect("a read");
                }
                let end = format!(
                    "select count(pg_terminate_backend(pid)) from pg_stat_activity
                     where datname = '{name}' and pid <> pg_backend_pid()"
                );
                assert!(cluster.number("postgres", &end).await > 0);
                set(store, "after").await.expect("a write");
                assert_eq!(get(store).await.as_deref(), Some("after"));
            },
        )
        .await;
    });
}

/// Without prepared statements, as behind a pooler, every value has the type we say it has.
#[test]
fn the_store_works_without_prepared_statements() {
    run(async {
        with_store(
            |server| server.prepare = false,
            async |store, _, _| {
                let mut house = House::build(store).await;
                let mut check = house.check(house.alice, |_| {}).await;
                let kind = allswell_core::signal::Kind::Fail;
                house.ping(&mut check, kind, b"body", NOW).await.expect("a flip");
                assert_eq!(house.read(&check).await.as_ref(), Some(&check));
            },
        )
        .await;
    });
}

#[test]
fn the_settings_of_the_server_are_read_back() {
    run(async {
        with_store(
            |_| {},
            async |store, _, _| {
                let read = store.durability().await.expect("settings");
                // The cluster of the tests does not flush, and says so.
                let expected = Durability::Postgres {
                    fsync: "off".to_owned(),
                    synchronous_commit: "on".to_owned(),
                    full_page_writes: "off".to_owned(),
                };
                assert_eq!(read, expected);
                assert!(!read.is_kept());
            },
        )
        .await;
    });
}

/// Text with a zero byte is found nowhere and breaks nothing.
#[test]
fn a_zero_byte_in_text_is_no_error() {
    run(async {
        with_store(
            |_| {},
            async |store, _, _| {
                let house = House::build(store).await;
                let scope = house.alice.scope();
                let found = store
                    .read(async move |reader| reader.check_by_slug(scope, "a\0b").await)
                    .await;
                assert_eq!(found.expect("a read"), allswell_store::checks::Found::None);
            },
        )
        .await;
    });
}

/// Each holds what the other wants next. The server breaks one of them off, which is done again behind the other.
#[test]
fn two_edits_that_wait_for_each_other_are_both_done() {
    run(async {
        with_store(
            |_| {},
            async |store, _, _| {
                for name in ["one", "other"] {
                    let write = async move |tx: &mut Tx<'_>| tx.instance_set(name, "0").await;
                    store.write(write).await.expect("a write");
                }
                let tries = Arc::new(AtomicU32::new(0));
                let met = Arc::new(tokio::sync::Barrier::new(2));
                let edits = [("1", ["one", "other"]), ("2", ["other", "one"])].map(|(value, names)| {
                    let (store, tries, met) = (store.clone(), Arc::clone(&tries), Arc::clone(&met));
                    tokio::spawn(async move {
                        let edit = async move |tx: &mut Tx<'_>| {
                            let is_first = tries.fetch_add(1, Ordering::SeqCst) < 2;
                            for (index, name) in names.into_iter().enumerate() {
                                if index == 1 && is_first {
                                    met.wait().await;
                                }
                                tx.instance_set(name, value).await?;
                            }
                            Ok::<_, Error>(())
                        };
                        store.write_again(edit).await
                    })
                });
                for edit in edits {
                    edit.await.expect("a task").expect("an edit");
                }
                // Begun again, one may be quicker than the other wakes up, and they wait for each other once more.
                let tries = tries.load(Ordering::SeqCst);
                assert!(
                    (3..=8).contains(&tries),
                    "they waited for each other: {tries} tries"
                );
                let read = async |reader: &mut Reader<'_>| {
                    Ok::<_, Error>((
                        reader.instance_get("one").await?,
                        reader.instance_get("other").await?,
                    ))
                };
                let (one, other) = store.read(read).await.expect("a read");
                assert!(one == other && one != Some("0".to_owned()), "{one:?} {other:?}");
            },
        )
        .await;
    });
}

/// What the closure itself found out is its answer, and is not asked twice.
#[test]
fn an_edit_that_fails_by_itself_is_tried_once() {
    run(async {
        with_store(
            |_| {},
            async |store, _, _| {
                let tries = Arc::new(AtomicU32::new(0));
                let counted = Arc::clone(&tries);
                let edit = async move |_: &mut Tx<'_>| {
                    counted.fetch_add(1, Ordering::SeqCst);
                    Err::<(), _>(Error::Conflict("a rule".to_owned()))
                };
                assert!(matches!(store.write_again(edit).await, Err(Error::Conflict(_))));
                assert_eq!(tries.load(Ordering::SeqCst), 1);
            },
        )
        .await;
    });
}

/// Each time before anybody could have noticed that the connections are gone.
#[test]
fn a_batch_of_pings_on_a_connection_that_ended_while_idle_is_stored() {
    run(async {
        for prepare in [true, false] {
            with_store(
                |server| (server.prepare, server.rest) = (prepare, Duration::ZERO),
                async |store, cluster, name| {
                    let mut house = House::build(store).await;
                    let mut check = house.check(house.alice, |_| {}).await;
                    let end = format!(
                        "select count(pg_terminate_backend(pid, 5000)) from pg_stat_activity
                         where datname = '{name}' and pid <> pg_backend_pid()"
                    );
                    for round in 0..20 {
                        // All lanes have a connection that was used.
                        let met = Arc::new(tokio::sync::Barrier::new(store.ping_lanes()));
                        let lanes = (0..store.ping_lanes()).map(|_| {
                            let (store, met) = (store.clone(), Arc::clone(&met));
                            tokio::spawn(async move {
                                let batch = async move |tx: &mut Tx<'_>| {
                                    tx.instance_get("fact").await?;
                                    met.wait().await;
                                    Ok::<_, Error>(())
                                };
                                store.write_pings(batch).await
                            })
                        });
                        for lane in lanes.collect::<Vec<_>>() {
                            lane.await.expect("a task").expect("a batch");
                        }
                        // This thread stands still meanwhile, and with it all who could notice.
                        let ended = std::thread::scope(|scope| {
                            let end = || {
                                tokio::runtime::Builder::new_current_thread()
                                    .enable_all()
                                    .build()
                                    .expect("a runtime")
                                    .block_on(cluster.number("postgres", &end))
                            };
                            scope.spawn(end).join().expect("it ends")
                        });
                        assert!(ended > 0);
                        let value = round.to_string();
                        let stored = value.clone();
                        let batch = async move |tx: &mut Tx<'_>| {
                            if round % 2 == 0 {
                                tx.instance_get("fact").await?;
                            }
                            tx.instance_set("fact", &stored).await
                        };
                        if round % 3 < 2 {
                            store.write_pings(batch).await.expect("a batch");
                            assert_eq!(get(store).await, Some(value));
                            continue;
                        }
                        // Sent as a whole, as of a check that is held.
                        let (id, n) = (check.id, round);
                        let saved = store.write_pings(async move |tx: &mut Tx<'_>| {
                            assert_eq!(save_last(tx, &mut check, n).await?, [id]);
                            Ok::<_, Error>(check)
                        });
                        check = saved.await.expect("a batch");
                    }
                },
            )
            .await;
        }
    });
}

/// What was begun is not begun again elsewhere: half of it would be missing.
#[test]
fn a_batch_whose_connection_ends_in_its_midst_fails_whole() {
    run(async {
        with_store(
            |_| {},
            async |store, cluster, name| {
                set(store, "old").await.expect("a write");
                let (begun, until_begun) = tokio::sync::oneshot::channel();
                let (ended, until_ended) = tokio::sync::oneshot::channel::<()>();
                let batch = tokio::spawn({
                    let store = store.clone();
                    async move {
                        let batch = async move |tx: &mut Tx<'_>| {
                            tx.instance_set("fact", "half").await?;
                            let _ = begun.send(());
                            let _ = until_ended.await;
                            tx.instance_set("other", "half").await
                        };
                        store.write_pings(batch).await
                    }
                });
                until_begun.await.expect("it began");
                let end = format!(
                    "select count(pg_terminate_backend(pid, 5000)) from pg_stat_activity
                     where datname = '{name}' and pid <> pg_backend_pid()"
                );
                assert!(cluster.number("postgres", &end).await > 0);
                ended.send(()).expect("it waits");
                let failed = batch.await.expect("a task");
                assert!(matches!(failed, Err(Error::Unavailable(_))), "{failed:?}");
                assert_eq!(get(store).await.as_deref(), Some("old"));
            },
        )
        .await;
    });
}

/// As a restart of the server does it under load: the connection is gone, and for a while there is no other.
#[test]
fn a_batch_of_pings_that_gets_no_other_connection_fails_as_an_outage_and_the_next_works() {
    run(async {
        for (prepare, is_swallowed) in [(true, false), (false, false), (true, true)] {
            with_store(
                |server| server.prepare = prepare,
                async |store, cluster, name| {
                    // It has its connection, and asked nothing of it yet.
                    let (lent, until_lent) = tokio::sync::oneshot::channel();
                    let (ended, until_ended) = tokio::sync::oneshot::channel::<()>();
                    let batch = tokio::spawn({
                        let store = store.clone();
                        async move {
                            let batch = async move |tx: &mut Tx<'_>| {
                                let _ = lent.send(());
                                let _ = until_ended.await;
                                let set = tx.instance_set("fact", "refused").await;
                                if is_swallowed { Ok(()) } else { set }
                            };
                            store.write_pings(batch).await
                        }
                    });
                    until_lent.await.expect("it begins");
                    let allow = |truth: bool| format!("alter database {name} allow_connections {truth}");
                    cluster.run("postgres", &allow(false)).await;
                    let end = format!(
                        "select count(pg_terminate_backend(pid, 5000)) from pg_stat_activity
                         where datname = '{name}' and pid <> pg_backend_pid()"
                    );
                    assert!(cluster.number("postgres", &end).await > 0);
                    ended.send(()).expect("it waits");
                    let refused = batch.await.expect("a task");
                    assert!(matches!(refused, Err(Error::Unavailable(_))), "{refused:?}");
                    let after = async |tx: &mut Tx<'_>| tx.instance_set("fact", "after").await;
                    let refused = store.write_pings(after).await;
                    assert!(matches!(refused, Err(Error::Unavailable(_))), "{refused:?}");
                    cluster.run("postgres", &allow(true)).await;
                    store.write_pings(after).await.expect("a batch");
                    assert_eq!(get(store).await.as_deref(), Some("after"));
                },
            )
            .await;
        }
    });
}

/// Most batches of a sweep have nothing to note of the node's own check.
#[test]
fn two_sweeps_that_have_nothing_to_note_do_not_wait_for_each_other() {
    run(async {
        with_store(
            |server| server.statement = Duration::from_secs(3),
            async |store, _, _| {
                let node = House::build(store).await.node();
                let noted = async move |tx: &mut Tx<'_>| {
                    tx.watchdog_ping(SYSTEM, node, NOW).await?;
                    tx.watchdog_sweep(SYSTEM, node).await
                };
                store.write(noted).await.expect("a round");
                let beside = store.clone();
                let both = store.write(async move |tx: &mut Tx<'_>| {
                    tx.watchdog_sweep(SYSTEM, node).await?;
                    let other = async move |tx: &mut Tx<'_>| tx.watchdog_sweep(SYSTEM, node).await;
                    beside.write(other).await
                });
                both.await.expect("two sweeps");
            },
        )
        .await;
    });
}

/// Who names a check of somebody else keeps nobody from it.
#[test]
fn a_check_is_locked_for_its_own_project_only() {
    run(async {
        with_store(
            |server| server.statement = Duration::from_secs(3),
            async |store, _, _| {
                let mut house = House::build(store).await;
                let id = house.check(house.alice, |_| {}).await.id;
                let (owner, stranger) = (house.alice.scope(), house.charlie.scope());
                let beside = store.clone();
                let both = store.write(async move |tx: &mut Tx<'_>| {
                    tx.check_lock(stranger, id).await?;
                    let own = async move |tx: &mut Tx<'_>| tx.check_lock(owner, id).await;
                    beside.write(own).await
                });
                both.await.expect("two locks");
                let beside = store.clone();
                let both = store.write(async move |tx: &mut Tx<'_>| {
                    tx.check_lock(owner, id).await?;
                    let own = async move |tx: &mut Tx<'_>| tx.check_lock(owner, id).await;
                    beside.write(own).await
                });
                assert!(
                    matches!(both.await, Err(Error::Unavailable(_))),
                    "its own is locked"
                );
            },
        )
        .await;
    });
}

/// Stores a ping with a body, alone or as a batch, after a look at its check.
async fn ping_with_body(store: &Store, check: &Check, n: u64, is_batch: bool) -> Result<(), Error> {
    let (scope, id) = (ProjectScope::granted(check.project), check.id);
    let write = async move |tx: &mut Tx<'_>| {
        let mut dice = Dice::from_number(n);
        let mut check = tx.check(scope, id).await?.expect("it is there");
        let ping = Ping {
            body_bytes: 4,
            ..ping(n, NOW)
        };
        if !is_batch {
            return tx
                .ping_insert(
                    SystemScope::engine(),
                    check.project,
                    id,
                    &ping,
                    b"body",
                    &mut dice,
                )
                .await;
        }
        let mut changed = [Changed {
            deadline: check.deadline,
            pings: vec![Logged {
                ping: borrowed(&ping),
                body: b"body",
            }],
            check: &mut check,
            exact: false,
            is_page_full: false,
        }];
        let saved = tx
            .batch_save(SystemScope::engine(), &mut changed, Then::More, &mut dice)
            .await?;
        assert_eq!(saved, [id]);
        Ok(())
    };
    store.write_pings(write).await
}

/// A check and a ping of it as the last of a transaction, with `n` as its number.
async fn save_last(tx: &mut Tx<'_>, check: &mut Check, n: u64) -> Result<Vec<CheckId>, Error> {
    let ping = ping(n, NOW);
    check.state.ping_count += 1;
    let mut changed = [Changed {
        deadline: check.deadline,
        pings: vec![Logged {
            ping: borrowed(&ping),
            body: b"",
        }],
        check,
        exact: false,
        is_page_full: true,
    }];
    let mut dice = Dice::from_number(n);
    tx.batch_save(SYSTEM, &mut changed, Then::Nothing, &mut dice)
        .await
}

/// One journey less for each batch of pings.
#[test]
fn the_commit_goes_with_the_last_of_a_batch_and_what_is_asked_afterwards_is_another_transaction() {
    for is_prepared in [true, false] {
        run(async {
            with_store(
                |server| server.prepare = is_prepared,
                async |store, _, _| {
                    let mut house = House::build(store).await;
                    let mut check = house.check(house.alice, |_| {}).await;
                    let (scope, id) = (house.alice.scope(), check.id);
                    let beside = store.clone();
                    let batch = store.write_pings(async move |tx: &mut Tx<'_>| {
                        assert_eq!(save_last(tx, &mut check, 1).await?, [id]);
                        let seen = beside
                            .read(async move |reader| reader.check(scope, id).await)
                            .await?;
                        assert_eq!(seen.expect("it is there").state.ping_count, 1, "others see it");
                        tx.instance_set("fact", "afterwards").await?;
                        Err::<(), _>(Error::Internal("it went wrong".to_owned()))
                    });
                    assert!(matches!(batch.await, Err(Error::Internal(_))));
                    assert_eq!(get(store).await, None, "that was taken back");
                    let kept = rows(store).await;
                    assert_eq!((kept["pings"], kept["prune_due"]), (1, 1));
                },
            )
            .await;
        });
    }
}

#[test]
fn a_last_batch_that_breaks_a_rule_leaves_nothing_and_its_connection_goes_on() {
    for is_prepared in [true, false] {
        run(async {
            with_store(
            |server| server.prepare = is_prepared,
            async |store, cluster, name| {
                let mut house = House::build(store).await;
                let check = house.check(house.alice, |_| {}).await;
                let (scope, id) = (house.alice.scope(), check.id);
                let save = async |n| {
                    let batch = async move |tx: &mut Tx<'_>| {
                        let mut check = tx.check(scope, id).await?.expect("it is there");
                        save_last(tx, &mut check, n).await
                    };
                    store.write_pings(batch).await
                };
                save(1).await.expect("the first");
                let pids = "select coalesce(sum(pid), 0)::bigint from pg_stat_activity where datname = current_database()
                    and application_name like '% pings'";
                let before = cluster.number(name, pids).await;
                assert!(matches!(save(1).await, Err(Error::Conflict(_))), "it has that number");
                let kept = store.read(async move |reader| reader.check(scope, id).await).await;
                assert_eq!(kept.expect("a read").expect("it is there").state.ping_count, 1);
                save(2).await.expect("the second");
                assert_eq!(cluster.number(name, pids).await, before, "on the same connection");
            },
        )
        .await;
        });
    }
}

/// What a server gave to another node that had forgotten that it gave the same to this one.
const GIVEN_TWICE: &str = "insert into ping_bodies (id, check_id, n, sealed)
    select id + k, check_id, n + 100 + k, sealed from ping_bodies, generate_series(1, 10) k";

/// A server that crashed, or a standby in its place, may not know of the numbers of bodies that were taken last.
#[test]
fn numbers_of_bodies_do_not_outlive_the_connections_of_the_server_that_gave_them() {
    run(async {
        for is_batch in [false, true] {
            with_store(
                |_| {},
                async |store, cluster, name| {
                    let mut house = House::build(store).await;
                    let check = house.check(house.alice, |_| {}).await;
                    ping_with_body(store, &check, 1, is_batch).await.expect("a ping");
                    cluster.run(name, GIVEN_TWICE).await;
                    let end = format!(
                        "select count(pg_terminate_backend(pid, 5000)) from pg_stat_activity
                         where datname = '{name}' and pid <> pg_backend_pid()"
                    );
                    assert!(cluster.number("postgres", &end).await > 0);
                    ping_with_body(store, &check, 2, is_batch).await.expect("a ping");
                },
            )
            .await;
        }
    });
}

/// One try shows that others have the numbers; the next one has new ones.
#[test]
fn numbers_of_bodies_that_somebody_else_has_are_given_up_at_once() {
    run(async {
        for is_batch in [false, true] {
            with_store(
                |_| {},
                async |store, cluster, name| {
                    let mut house = House::build(store).await;
                    let check = house.check(house.alice, |_| {}).await;
                    ping_with_body(store, &check, 1, is_batch).await.expect("a ping");
                    cluster.run(name, GIVEN_TWICE).await;
                    let refused = ping_with_body(store, &check, 2, is_batch).await;
                    assert!(matches!(refused, Err(Error::Conflict(_))), "{refused:?}");
                    ping_with_body(store, &check, 2, is_batch).await.expect("a ping");
                },
            )
            .await;
        }
    });
}

/// Whoever waits for a mark that retention holds must not keep the whole project waiting, and with it whoever holds the mark
/// that retention wants next.
#[test]
fn a_flip_takes_the_number_of_its_project_last() {
    run(async {
        with_store(
            |server| server.statement = Duration::from_secs(5),
            async |store, _, name| {
                let mut house = House::build(store).await;
                let check = house.check(house.alice, |_| {}).await;
                let scope = house.alice.scope();
                let flip = Flip {
                    seq: 1,
                    from: Status::New,
                    to: Status::Paused,
                    at: NOW,
                    expected_at: None,
                    reason: Reason::Paused,
                };
                let beside = store.clone();
                let waiting = format!(
                    "select count(*) from pg_stat_activity
                     where datname = '{name}' and wait_event_type = 'Lock'"
                );
                let marked = async move |tx: &mut Tx<'_>| {
                    tx.ping_log_mark(SYSTEM, check.id).await?;
                    let flips = tokio::spawn({
                        let store = beside.clone();
                        let write = async move |tx: &mut Tx<'_>| {
                            tx.flip_insert(SystemScope::engine(), &check, &flip, NOW).await
                        };
                        async move { store.write(write).await }
                    });
                    while Cluster::shared().number("postgres", &waiting).await == 0 {
                        assert!(!flips.is_finished(), "it waits for the mark");
                    }
                    beside
                        .write(async move |tx: &mut Tx<'_>| tx.change_next(scope).await)
                        .await?;
                    Ok::<_, Error>(flips)
                };
                let flips = store.write(marked).await.expect("nobody waits for the project");
                flips.await.expect("a task").expect("a flip");
            },
        )
        .await;
    });
}

/// What is promised by a transaction that has not ended yet is newer too.
#[test]
fn what_is_sent_again_waits_for_newer_news_that_are_on_their_way() {
    run(async {
        with_store(
            |server| server.statement = Duration::from_secs(5),
            async |store, cluster, name| {
                let mut house = House::build(store).await;
                let mut check = house.check(house.alice, |_| {}).await;
                let channel = house.channel(house.alice, b"").await.id;
                let down = house
                    .ping(&mut check, Kind::Fail, b"", NOW)
                    .await
                    .expect("a flip");
                let older = house.promise(&check, &down, channel, NOW).await;
                let ended = "update deliveries set state = 'exhausted', finished_at = created_at";
                cluster.run(name, ended).await;

                let (scope, beside, id) = (house.alice.scope(), store.clone(), house.dice.id());
                let waiting = format!(
                    "select count(*) from pg_stat_activity
                     where datname = '{name}' and wait_event_type = 'Lock'"
                );
                let newer = async move |tx: &mut Tx<'_>| {
                    // As a ping does, which changes the check before it promises.
                    tx.check_lock(scope, check.id).await?;
                    let again = tokio::spawn(async move {
                        let write = async move |tx: &mut Tx<'_>| {
                            tx.delivery_redeliver(scope, older, false, NOW, after(60)).await
                        };
                        beside.write(write).await
                    });
                    while Cluster::shared().number("postgres", &waiting).await == 0 {
                        assert!(!again.is_finished(), "it waits for the check");
                    }
                    let flip = Flip { seq: 2, ..down };
                    let news = News {
                        check: &check,
                        flip: &flip,
                        noticed_at: NOW,
                    };
                    let owed = Owed {
                        channel,
                        class: Class::Alert,
                        expires_at: after(60),
                    };
                    tx.delivery_insert(SYSTEM, &Promise { news, owed, id }).await?;
                    Ok::<_, Error>(again)
                };
                let again = store.write(newer).await.expect("a promise");
                let again = again.await.expect("a task").expect("an answer");
                assert_eq!(again, Some(Redelivered::NewerDelivered));
            },
        )
        .await;
    });
}
