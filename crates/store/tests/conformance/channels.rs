//! Channels and what routing knows of them.

use allswell_core::delivery::Route;
use allswell_store::Store;
use allswell_store::channels::Channel;

use crate::kit::{House, after, on_each_database};

on_each_database!(
    channels_come_back_in_the_order_of_their_making,
    a_configuration_opens_for_its_project_only,
    routes_are_the_channels_a_check_tells,
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
        .read(async move |reader| reader.routes(id).await)
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
