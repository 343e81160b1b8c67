//! The database of a simulated world does to a transaction what the world says, and nothing else.

use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use allswell_store::simulated::{Fate, Simulated};
use allswell_store::{Error, Store};

use crate::kit::NOW;

type Work<T> = Pin<Box<dyn Future<Output = Result<T, Error>>>>;

fn poll<T>(work: &mut Work<T>) -> Option<Result<T, Error>> {
    match work.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => Some(result),
        Poll::Pending => None,
    }
}

fn world() -> (Simulated, usize, Store) {
    let mut db = Simulated::new(NOW).expect("a database");
    let (node, store) = db.store();
    (db, node, store)
}

fn set(store: &Store, name: &'static str, value: &'static str) -> Work<()> {
    let store = store.clone();
    Box::pin(async move {
        store
            .write(async move |tx| {
                tx.instance_set(name, "a first try").await?;
                tx.instance_set(name, value).await
            })
            .await
    })
}

fn get(db: &mut Simulated, name: &'static str) -> Option<String> {
    let (node, store) = db.store();
    let read = store.read(async move |reader| reader.instance_get(name).await);
    db.settle(node, read).expect("a read")
}

#[test]
fn work_waits_until_it_is_run_and_ends_as_its_fate_says() {
    for (fate, stored, told) in [
        (Fate::Kept, true, true),
        (Fate::FailsAtBegin, false, false),
        (Fate::FailsAt(1), false, false),
        (Fate::FailsAt(2), false, false),
        (Fate::FailsAt(3), true, true),
        (Fate::FailsAtCommit, false, false),
        (Fate::CommitsUnheard, true, false),
    ] {
        let (mut db, node, store) = world();
        let mut work = set(&store, "fact", "new");
        assert!(poll(&mut work).is_none(), "it waits");
        let waiting = db.waiting();
        assert!(waiting.len() == 1 && waiting[0].writes && waiting[0].node == node);
        let ended = db.run(waiting[0].id, fate, &[]);
        assert_eq!(ended.len(), 1);
        assert_eq!(ended[0].committed, stored, "{fate:?}");
        match poll(&mut work).expect("it has ended") {
            Ok(()) => assert!(told, "{fate:?}"),
            Err(error) => assert!(!told && error.is_passing(), "{fate:?}: {error}"),
        }
        let value = get(&mut db, "fact");
        assert_eq!(value.as_deref(), stored.then_some("new"), "{fate:?}");
    }
}

#[test]
fn what_a_crashed_node_had_on_its_way_arrives_or_does_not() {
    for arrives in [true, false] {
        let (mut db, node, store) = world();
        let mut work = set(&store, "fact", "new");
        assert!(poll(&mut work).is_none());
        drop((work, store));
        let left = db.crash(node);
        assert_eq!(left.len(), 1);
        if arrives {
            assert!(db.run(left[0].id, Fate::Kept, &[])[0].committed);
        } else {
            db.forget(left[0].id);
        }
        assert_eq!(db.waiting(), []);
        assert_eq!(get(&mut db, "fact").is_some(), arrives);
    }
}

#[test]
fn others_come_between_the_reads_and_the_first_change() {
    let (mut db, _, one) = world();
    let (_, other) = db.store();
    let reader = one.clone();
    let mut copies: Work<Option<String>> = Box::pin(async move {
        reader
            .write(async |tx| {
                let seen = tx.instance_get("fact").await?;
                tx.instance_set("copied", "yes").await?;
                let then = tx.instance_get("fact").await?;
                assert_eq!(
                    then.as_deref(),
                    Some("of the other"),
                    "READ COMMITTED sees it from now on"
                );
                Ok(seen)
            })
            .await
    });
    let mut between = set(&other, "fact", "of the other");
    assert!(poll(&mut copies).is_none() && poll(&mut between).is_none());
    let ids: Vec<u64> = db.waiting().iter().map(|waiting| waiting.id).collect();
    // The one in between is committed, also when the other is taken back.
    let ended = db.run(ids[0], Fate::FailsAtCommit, &ids[1..]);
    assert_eq!(
        ended
            .iter()
            .map(|end| (end.id, end.committed))
            .collect::<Vec<_>>(),
        [(ids[1], true), (ids[0], false)]
    );
    assert!(poll(&mut between).expect("it has ended").is_ok());
    assert!(poll(&mut copies).expect("it has ended").is_err());
    assert_eq!(get(&mut db, "fact").as_deref(), Some("of the other"));
    assert_eq!(get(&mut db, "copied"), None);
}
