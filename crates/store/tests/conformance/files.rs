//! A database in a file of SQLite: what "stored" rests on, and who may share it.

use allswell_store::{Durability, Error, Place, Store, Tx};

use crate::kit::{House, NOW, OnDisk, run};

async fn set(store: &Store, name: &'static str, value: &'static str) {
    let write = store.write(async move |tx: &mut Tx<'_>| tx.instance_set(name, value).await);
    write.await.expect("a write");
}

async fn get(store: &Store, name: &'static str) -> Option<String> {
    store
        .read(async move |reader| reader.instance_get(name).await)
        .await
        .expect("a read")
}

/// WAL, and FULL: each commit is flushed before it is answered. Read back, not assumed, and the same when a database is
/// opened that somebody else had set otherwise.
#[test]
fn what_is_stored_is_on_the_disk() {
    run(async {
        let disk = OnDisk::new();
        let wanted = Durability {
            journal_mode: "wal".to_owned(),
            synchronous: 2,
        };
        assert_eq!(disk.open().await.durability().await.expect("pragmas"), wanted);
        // Retried by SQLite until the store's threads have closed their connections.
        disk.raw()
            .pragma_update(None, "synchronous", "off")
            .expect("a pragma");
        assert_eq!(disk.open().await.durability().await.expect("pragmas"), wanted);
    });
}

/// The operator's command beside a running server.
#[test]
fn two_programs_write_to_one_database() {
    run(async {
        let disk = OnDisk::new();
        let (server, command) = (disk.open().await, disk.open().await);
        for round in ["1", "2", "3"] {
            set(&server, "server", round).await;
            assert_eq!(get(&command, "server").await.as_deref(), Some(round));
            set(&command, "command", round).await;
            assert_eq!(get(&server, "command").await.as_deref(), Some(round));
        }
        // What one made, the other reads: also the sealed fields.
        let mut house = House::build(&server).await;
        let id = house.channel(house.alice, b"config").await.id;
        let scope = house.alice.scope();
        let read = command
            .read(async move |reader| reader.channel_config(scope, id).await)
            .await;
        assert_eq!(read.expect("a read").as_deref(), Some(&b"config"[..]));
    });
}

/// A command waits for a short while of the other's transaction, and does not fail.
#[test]
fn a_write_waits_for_the_other_program() {
    run(async {
        let disk = OnDisk::new();
        let store = disk.open().await;
        let raw = disk.raw();
        raw.execute_batch("begin immediate; insert into instance values ('theirs', 'x')")
            .expect("a transaction");
        let ours = tokio::task::LocalSet::new();
        ours.run_until(async {
            let writer = store.clone();
            let writing = tokio::task::spawn_local(async move { set(&writer, "ours", "y").await });
            tokio::task::yield_now().await;
            assert_eq!(
                get(&store, "theirs").await,
                None,
                "readers go on, and see what is committed"
            );
            raw.execute_batch("commit").expect("a commit");
            writing.await.expect("our write");
        })
        .await;
        assert_eq!(get(&store, "theirs").await.as_deref(), Some("x"));
        assert_eq!(get(&store, "ours").await.as_deref(), Some("y"));
    });
}

#[test]
fn one_server_serves_a_database() {
    run(async {
        let disk = OnDisk::new();
        let (one, two) = (disk.open().await, disk.open().await);
        let lock = one
            .lock_for_serving()
            .expect("a lock")
            .expect("nobody else has it");
        assert!(two.lock_for_serving().expect("an answer").is_none());
        assert!(one.lock_for_serving().expect("an answer").is_none());
        set(&two, "fact", "a command needs no lock").await;
        drop(lock);
        assert!(two.lock_for_serving().expect("a lock").is_some());
        let memory = Store::open(&Place::Memory, NOW).await.expect("a store");
        assert!(matches!(memory.lock_for_serving(), Err(Error::Internal(_))));
    });
}

#[test]
fn a_clean_end_leaves_everything_in_one_file() {
    run(async {
        let disk = OnDisk::new();
        let store = disk.open().await;
        set(&store, "fact", "kept").await;
        store.checkpoint().await.expect("a checkpoint");
        let log = disk.path.with_extension("sqlite3-wal");
        assert_eq!(std::fs::metadata(log).expect("the log").len(), 0);
        let copy = disk.dir.path().join("copy.sqlite3");
        std::fs::copy(&disk.path, &copy).expect("a copy");
        let copy = Store::open(&Place::File(copy), NOW)
            .await
            .expect("the copy opens");
        assert_eq!(get(&copy, "fact").await.as_deref(), Some("kept"));
    });
}
