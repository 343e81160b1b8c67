//! Channels and what routing knows of them.

use allswell_core::delivery::Route;
use allswell_core::scope::SystemScope;
use allswell_store::Store;
use allswell_store::channels::Channel;

use crate::kit::{House, NOW, SYSTEM, after, on_each_database};

on_each_database!(
    channels_come_back_in_the_order_of_their_making,
    a_configuration_opens_for_its_project_only,
    routes_are_the_channels_a_check_tells,
    of_two_who_change_a_channel_one_is_told_so,
    a_deleted_channel_is_gone_at_once_and_its_row_later,
);

async fn channels_come_back_in_the_order_of_their_making(store: &Store) {
    let mut house = House::build(store).await;
    let scope = house.alice.scope();
    let mut made = Vec::new();
    for (secs, tells_down, tells_up) in [(2, true, false), (1, false, true)] {
        let channel = Channel {
            id: house.dice.id(),
            kind: "silent".to_owned(),
            name: "Дежурный".to_owned(),
            tells_down,
            tells_up,
            created_at: after(secs),
        };
        let (new, mut dice) = (channel.clone(), house.dice.fork());
        store
            .write(async move |tx| tx.channel_insert(scope, &new, b"", &mut dice).await)
            .await
            .expect("a channel");
        made.insert(0, channel);
    }
    house.channel(house.bob, b"").await;
    let read = store.read(async move |reader| reader.channels(scope).await).await;
    assert_eq!(read.expect("a list"), made);
}

async fn a_configuration_opens_for_its_project_only(store: &Store) {
    let mut house = House::build(store).await;
    let config: Vec<u8> = (0..=255).collect();
    let id = house.channel(house.alice, &config).await.id;
    for (person, sees) in [(house.alice, true), (house.charlie, false)] {
        let scope = person.scope();
        let read = store
            .read(async move |reader| reader.channel_config(scope, id).await)
            .await;
        assert_eq!(read.expect("a read"), sees.then(|| config.clone()));
    }
}

async fn routes_are_the_channels_a_check_tells(store: &Store) {
    let mut house = House::build(store).await;
    let check = house.check(house.alice, |_| {}).await;
    let mut told = [
        house.channel(house.alice, b"").await,
        house.channel(house.alice, b"").await,
    ];
    house.channel(house.alice, b"").await;
    house.tell(&check, &[&told[0], &told[1]]).await.expect("channels");
    told.sort_by_key(|channel| channel.id);
    let id = check.id;
    let routes = store
        .read(async move |reader| reader.routes(SystemScope::engine(), id).await)
        .await
        .expect("routes");
    let route = |channel: &Channel| Route {
        channel: channel.id,
        tells_down: true,
        tells_up: true,
        disabled: false,
    };
    assert_eq!(routes, told.map(|channel| route(&channel)));
}

async fn of_two_who_change_a_channel_one_is_told_so(store: &Store) {
    let mut house = House::build(store).await;
    let scope = house.alice.scope();
    let made = house.channel(house.alice, b"one").await;
    let (id, stranger) = (made.id, house.charlie.scope());
    let open = async || {
        let read = store.read(async move |reader| reader.channel_open(scope, id).await);
        read.await.expect("a read").expect("a channel")
    };
    let (first, second) = (open().await, open().await);
    let blocked_said = async || {
        let said = store.write(async move |tx| tx.channel_blocked_said(SYSTEM, id, NOW).await);
        said.await.expect("a write")
    };
    assert!(blocked_said().await && !blocked_said().await);
    assert_eq!(
        (&first.channel, first.config.reveal().as_slice()),
        (&made, b"one".as_slice())
    );
    let changed = Channel {
        name: "other".to_owned(),
        tells_up: false,
        ..made.clone()
    };
    for (before, new) in [(first, true), (second, false)] {
        let (channel, mut dice) = (changed.clone(), house.dice.fork());
        let replaced = store
            .write(async move |tx| {
                tx.channel_replace(scope, &before, &channel, b"two", &mut dice)
                    .await
            })
            .await;
        assert_eq!(replaced.expect("a write"), new);
    }
    assert!(blocked_said().await, "of what it is now that was not said");
    let after = open().await;
    assert_eq!(
        (&after.channel, after.config.reveal().as_slice()),
        (&changed, b"two".as_slice())
    );
    let configs = store.read(async move |reader| reader.channel_configs(scope, "log").await);
    let configs = configs.await.expect("a read");
    assert_eq!(configs.len(), 1);
    assert_eq!(configs[0].1.reveal().as_slice(), b"two");
    let other = store.read(async move |reader| reader.channel_open(stranger, id).await);
    assert!(other.await.expect("a read").is_none());
}

async fn a_deleted_channel_is_gone_at_once_and_its_row_later(store: &Store) {
    let mut house = House::build(store).await;
    let (scope, stranger) = (house.alice.scope(), house.charlie.scope());
    let id = house.channel(house.alice, b"").await.id;
    let check = house.check(house.alice, |_| {}).await;
    let told = house.channel(house.alice, b"").await;
    house.tell(&check, &[&told]).await.expect("channels");
    for (scope, id, found) in [
        (stranger, id, false),
        (scope, id, true),
        (scope, id, false),
        (scope, told.id, true),
    ] {
        let delete = store.write(async move |tx| tx.channel_delete(scope, id, after(60)).await);
        assert_eq!(delete.await.expect("a write"), found);
    }
    let check = check.id;
    let seen = store
        .read(async move |reader| {
            let seen = (
                reader.channels(scope).await?,
                reader.channel(scope, id).await?,
                reader.channel_config(scope, id).await?,
                reader.routes(SystemScope::engine(), check).await?,
                reader.check_channels(scope, check).await?,
            );
            Ok::<_, allswell_store::Error>(seen)
        })
        .await;
    assert_eq!(seen.expect("a read"), (vec![], None, None, vec![], vec![]));
    for (secs, gone) in [(60, 0), (61, 2)] {
        let purge = store.write(async move |tx| {
            tx.purge_deleted(allswell_core::scope::SystemScope::engine(), after(secs), 10)
                .await
        });
        assert_eq!(purge.await.expect("a write"), gone);
    }
}
