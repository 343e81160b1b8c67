//! A database in a file of SQLite: what "stored" rests on, and who may share it.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use allswell_store::{Durability, Error, Place, Store, Tx};

use crate::kit::{House, NOW, OnDisk, after, run};

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
        let wanted = Durability::Sqlite {
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

/// However many ask while the database hangs, none waits for long, and there is one write for all of them.
#[test]
fn whether_a_database_is_ready_is_found_out_by_one_write_at_a_time() {
    run(async {
        let disk = OnDisk::new();
        let store = disk.open().await;
        let raw = disk.raw();
        raw.execute_batch(
            "create table probes (at text);
             create trigger probed after insert on instance begin insert into probes values (new.value); end;
             create trigger probed_again after update on instance begin insert into probes values (new.value); end;
             begin immediate",
        )
        .expect("a transaction");
        let time = Arc::new(AtomicI64::new(0));
        // Time passes while the write hangs.
        let clock = || {
            let time = Arc::clone(&time);
            move || after(time.fetch_add(10, Ordering::Relaxed))
        };
        tokio::time::pause();
        for _ in 0..5 {
            assert!(!store.is_ready(clock()).await, "it hangs");
        }
        tokio::time::resume();
        raw.execute_batch("commit").expect("a commit");
        // It takes the answer of the write that hung.
        assert!(store.is_ready(clock()).await);
        let ended_at = after(time.load(Ordering::Relaxed) - 10);
        assert!(store.is_ready(move || ended_at).await, "that answer stands");
        let probes: i64 = raw
            .query_row("select count(*) from probes", [], |row| row.get(0))
            .expect("a count");
        assert_eq!(probes, 1);
    });
}

#[test]
fn one_server_serves_a_database() {
    run(async {
        let disk = OnDisk::new();
        let place = disk.place();
        // Before the database is there: a newer program must not change the schema under a running one.
        let lock = Store::lock_for_serving(&place)
            .expect("a lock")
            .expect("nobody else has it");
        let store = disk.open().await;
        assert!(Store::lock_for_serving(&place).expect("an answer").is_none());
        set(&store, "fact", "a command needs no lock").await;

        let Place::File(path) = &place else {
            unreachable!("it is on disk")
        };
        let link = path.with_file_name("link.db");
        std::os::unix::fs::symlink(path, &link).expect("a link");
        let by_link = Store::lock_for_serving(&Place::File(link)).expect("an answer");
        assert!(by_link.is_none(), "two links to one database are not two locks");

        drop(lock);
        assert!(Store::lock_for_serving(&place).expect("a lock").is_some());
        assert!(matches!(
            Store::lock_for_serving(&Place::Memory),
            Err(Error::Internal(_))
        ));
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

#[test]
fn what_deleting_freed_goes_back_to_the_disk() {
    run(async {
        let disk = OnDisk::new();
        let store = disk.open().await;
        let raw = disk.raw();
        let free = || -> i64 {
            raw.pragma_query_value(None, "freelist_count", |row| row.get(0))
                .expect("a count")
        };
        raw.execute_batch(
            "create table if not exists big (x blob);
             with recursive n(i) as (select 1 union all select i + 1 from n where i < 8)
             insert into big select zeroblob(1000000) from n; delete from big;",
        )
        .expect("pages");
        let before = free();
        assert!(before > 1_000, "{before}");
        store.shrink().await.expect("pages given back");
        assert_eq!(free(), before - 500);
        while free() > 1_000 {
            store.shrink().await.expect("pages given back");
        }
        let kept = free();
        store.shrink().await.expect("nothing to do");
        assert_eq!(free(), kept, "some are kept for what comes next");
    });
}

/// SQLite's own checkpoints come within a commit, before its answer; ours come behind it, and they do come.
#[test]
fn the_log_stays_short_however_much_is_written() {
    run(async {
        let disk = OnDisk::new();
        let store = disk.open().await;
        let mut longest = 0;
        for round in 0..100 {
            // Another one each time: what is there already is not written again.
            let text = format!("{round:04}").repeat(1 << 18);
            let write = store.write(async move |tx: &mut Tx<'_>| tx.instance_set("much", &text).await);
            write.await.expect("a write");
            let log = disk.path.with_extension("sqlite3-wal");
            longest = longest.max(std::fs::metadata(log).expect("a log").len());
        }
        assert!(longest > 30 << 20, "it is moved when it has grown: {longest}");
        assert!(longest < 36 << 20, "32 MB and a commit: {longest}");
    });
}

#[test]
fn a_copy_holds_what_was_stored_until_then_and_opens_by_itself() {
    run(async {
        let disk = OnDisk::new();
        let server = disk.open().await;
        set(&server, "round", "1").await;
        let folder = tempfile::tempdir().expect("a directory");
        let (file, other) = (folder.path().join("copy.db"), folder.path().join("other.db"));
        let copied = Store::copy(&disk.path, &file, || ()).expect("a copy");
        assert_eq!(copied.bytes, std::fs::metadata(&file).expect("a file").len());
        assert_eq!(
            copied.schema_version,
            server.schema_version().await.expect("a version")
        );
        set(&server, "round", "2").await;
        let copy = Store::open(&Place::File(file.clone()), NOW)
            .await
            .expect("a store");
        assert_eq!(get(&copy, "round").await.as_deref(), Some("1"));
        // Never into what is there.
        let refused = Store::copy(&disk.path, &file, || ());
        assert!(matches!(refused, Err(Error::Internal(_))), "{refused:?}");
        std::fs::write(&other, "no database").expect("a file");
        let refused = Store::copy(&other, &folder.path().join("third.db"), || ());
        assert!(matches!(refused, Err(Error::Corrupt(_))), "{refused:?}");
    });
}
