//! Facts of the instance and start links.

use allswell_store::instance::RootKeyUse;
use allswell_store::{Error, Store, Tx};

use crate::kit::{House, NOW, after, on_each_database, rows};

on_each_database!(
    a_fact_is_what_was_said_last,
    a_start_link_is_known_until_it_lapses,
    root_keys_are_counted_by_what_they_wrap,
);

async fn a_fact_is_what_was_said_last(store: &Store) {
    let get = async || {
        store
            .read(async |reader| reader.instance_get("site_url").await)
            .await
            .expect("a read")
    };
    assert_eq!(get().await, None);
    for value in ["https://a.example", "", "“ü”"] {
        let set = store.write(async move |tx: &mut Tx<'_>| tx.instance_set("site_url", value).await);
        set.await.expect("a fact");
        assert_eq!(get().await.as_deref(), Some(value));
    }
}

async fn a_start_link_is_known_until_it_lapses(store: &Store) {
    let insert = async |hash: &'static [u8], made: i64, ends: i64| {
        let write = async move |tx: &mut Tx<'_>| tx.start_link_insert(hash, after(made), after(ends)).await;
        store.write(write).await
    };
    let ends = async |hash: &'static [u8]| {
        let read = store.read(async move |reader| reader.start_link_expires_at(hash).await);
        read.await.expect("a read")
    };
    insert(b"first", 0, 60).await.expect("a link");
    insert(b"second", 59, 90).await.expect("a link");
    assert_eq!(
        (ends(b"first").await, ends(b"second").await),
        (Some(after(60)), Some(after(90)))
    );
    assert_eq!(ends(b"third").await, None);
    assert!(matches!(insert(b"second", 59, 99).await, Err(Error::Conflict(_))));
    insert(b"third", 60, 99).await.expect("a link");
    assert_eq!(
        ends(b"first").await,
        None,
        "a lapsed one is forgotten when the next is made"
    );
    assert_eq!(rows(store).await["start_links"], 2);
}

async fn root_keys_are_counted_by_what_they_wrap(store: &Store) {
    House::build(store).await;
    let used = store.read(async |reader| reader.root_keys_in_use().await).await;
    assert_eq!(
        used.expect("a count"),
        [RootKeyUse {
            name: "root-1".to_owned(),
            wraps: 4,
            retired: 0
        }],
        "three projects and the instance"
    );
    assert!(store.is_ready(|| NOW).await);
    assert!(
        store.flush_time(|| NOW).await.expect("nine writes").as_micros() == 0,
        "the clock is the caller's"
    );
}
