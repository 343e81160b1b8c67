//! What a transaction is: whole or nothing, alone, and never waiting for anything but the database.

use allswell_core::chance::Dice;
use allswell_core::scope::ProjectScope;
use allswell_store::channels::Channel;
use allswell_store::projects::Project;
use allswell_store::{Error, Store, Tx};

use crate::kit::{House, NOW, OnDisk, SYSTEM, on_each_database, on_sqlite_alone, rows, run};

on_each_database!(
    a_transaction_that_ends_badly_leaves_nothing,
    a_transaction_that_panics_leaves_nothing_and_the_store_goes_on,
    a_transaction_sees_its_own_writes,
);

// On PostgreSQL a transaction runs where it is called: it may wait, and ends with the task that called it.
on_sqlite_alone!(
    a_transaction_that_waits_for_something_else_is_broken_off,
    what_a_client_no_longer_waits_for_is_done_all_the_same,
);

async fn set(store: &Store, value: &'static str) -> Result<(), Error> {
    store
        .write(async move |tx: &mut Tx<'_>| tx.instance_set("fact", value).await)
        .await
}

async fn get(store: &Store) -> Option<String> {
    store
        .read(async |reader| reader.instance_get("fact").await)
        .await
        .expect("a read")
}

async fn a_transaction_that_ends_badly_leaves_nothing(store: &Store) {
    set(store, "old").await.expect("a write");
    let before = rows(store).await;
    let failed = store
        .write(async |tx| {
            tx.instance_set("fact", "new").await?;
            tx.instance_set("other", "new").await?;
            Err::<(), _>(Error::Internal("a change of mind".to_owned()))
        })
        .await;
    assert!(matches!(failed, Err(Error::Internal(why)) if why == "a change of mind"));
    assert_eq!(get(store).await.as_deref(), Some("old"));
    assert_eq!(rows(store).await, before);
    set(store, "newer").await.expect("the store goes on");
}

async fn a_transaction_that_panics_leaves_nothing_and_the_store_goes_on(store: &Store) {
    set(store, "old").await.expect("a write");
    let failed = store
        .write(async |tx| -> Result<(), Error> {
            tx.instance_set("fact", "new").await?;
            panic!("a broken invariant");
        })
        .await;
    assert!(matches!(failed, Err(Error::Internal(_))), "{failed:?}");
    let failed = store
        .read(async |_| -> Result<(), Error> { panic!("while reading") })
        .await;
    assert!(matches!(failed, Err(Error::Internal(_))), "{failed:?}");
    for _ in 0..4 {
        assert_eq!(get(store).await.as_deref(), Some("old"), "by whichever reader");
    }
    set(store, "newer").await.expect("the store goes on");
    assert_eq!(get(store).await.as_deref(), Some("newer"));
}

/// The panic's message is for the log; the writer survives, and what had been written is taken back.
async fn a_transaction_that_waits_for_something_else_is_broken_off(store: &Store) {
    set(store, "old").await.expect("a write");
    let (_sender, receiver) = tokio::sync::oneshot::channel::<()>();
    let failed = store
        .write(async move |tx| {
            tx.instance_set("fact", "new").await?;
            let _ = receiver.await;
            Ok::<_, Error>(())
        })
        .await;
    assert!(matches!(failed, Err(Error::Internal(_))), "{failed:?}");
    assert_eq!(get(store).await.as_deref(), Some("old"));
    set(store, "newer").await.expect("the store goes on");
}

async fn what_a_client_no_longer_waits_for_is_done_all_the_same(store: &Store) {
    let mut write = Box::pin(set(store, "stored"));
    let first = std::future::poll_fn(|context| std::task::Poll::Ready(write.as_mut().poll(context))).await;
    drop(write);
    assert!(first.is_pending() || matches!(first, std::task::Poll::Ready(Ok(()))));
    // Another write waits behind it.
    store.write(async |_| Ok::<_, Error>(())).await.expect("a write");
    assert_eq!(get(store).await.as_deref(), Some("stored"));
}

async fn a_transaction_sees_its_own_writes(store: &Store) {
    let seen = store
        .write(async |tx| {
            tx.instance_set("fact", "mine").await?;
            tx.instance_get("fact").await
        })
        .await;
    assert_eq!(seen.expect("a write").as_deref(), Some("mine"));
}

/// A project whose making was taken back and is tried again gets another data key. What is sealed then must be sealed
/// with the key that is stored, not with the one that was lost: another program opens it.
#[test]
fn a_key_of_a_transaction_that_was_taken_back_seals_nothing() {
    run(async {
        let disk = OnDisk::new();
        let store = disk.open().await;
        let mut house = House::build(&store).await;
        let project = Project {
            id: house.dice.id(),
            owner: house.alice.user,
            name: "twice".to_owned(),
            created_at: NOW,
        };
        let scope = ProjectScope::granted(project.id);
        let id = house.dice.id();
        for (seed, ends_well) in [(11, false), (12, true)] {
            let project = project.clone();
            let channel = Channel {
                id,
                kind: "log".to_owned(),
                name: String::new(),
                tells_down: true,
                tells_up: true,
                created_at: NOW,
            };
            let done = store
                .write(async move |tx| {
                    let mut dice = Dice::from_number(seed);
                    tx.project_insert(SYSTEM, &project, &mut dice).await?;
                    tx.channel_insert(scope, &channel, b"config", &mut dice).await?;
                    if ends_well {
                        Ok(())
                    } else {
                        Err(Error::Internal("no".to_owned()))
                    }
                })
                .await;
            match done {
                Ok(()) => assert!(ends_well),
                Err(error) => assert_eq!(error.to_string(), "a statement failed: no"),
            }
        }
        let other = disk.open().await;
        let read = other
            .read(async move |reader| reader.channel_config(scope, id).await)
            .await;
        assert_eq!(read.expect("it opens").as_deref(), Some(&b"config"[..]));
    });
}
