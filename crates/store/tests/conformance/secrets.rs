//! Named secrets: whose they are, and that only those who may use them see them.

use allswell_core::secret::Secret;
use allswell_store::Store;
use allswell_store::secrets::Named;

use crate::kit::{House, Person, after, on_each_database};

on_each_database!(
    a_secret_is_its_projects_alone,
    a_secret_that_is_set_again_keeps_its_birthday
);

async fn set(
    store: &Store,
    house: &mut House<'_>,
    person: Person,
    name: &'static str,
    value: &str,
    secs: i64,
) {
    let (scope, value, mut dice) = (person.scope(), Secret::new(value.to_owned()), house.dice.fork());
    store
        .write(async move |tx| tx.secret_set(scope, name, &value, &mut dice, after(secs)).await)
        .await
        .expect("a secret");
}

async fn values(store: &Store, person: Person) -> Vec<(String, String)> {
    let scope = person.scope();
    let read = store.read(async move |reader| reader.secret_values(scope).await);
    let values = read.await.expect("a read");
    values
        .into_iter()
        .map(|(name, value)| (name, value.reveal().clone()))
        .collect()
}

async fn a_secret_is_its_projects_alone(store: &Store) {
    let mut house = House::build(store).await;
    let (alice, charlie) = (house.alice, house.charlie);
    set(store, &mut house, alice, "token", "hunter2 \u{2603}\n", 1).await;
    set(store, &mut house, charlie, "token", "his", 2).await;
    let own = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(values(store, alice).await, [own("token", "hunter2 \u{2603}\n")]);
    assert_eq!(values(store, charlie).await, [own("token", "his")]);
    for found in [true, false] {
        let scope = charlie.scope();
        let delete = store.write(async move |tx| tx.secret_delete(scope, "token").await);
        assert_eq!(delete.await.expect("a write"), found);
    }
    assert_eq!(values(store, charlie).await, []);
    assert_eq!(values(store, alice).await.len(), 1);
}

async fn a_secret_that_is_set_again_keeps_its_birthday(store: &Store) {
    let mut house = House::build(store).await;
    let alice = house.alice;
    for (name, value, secs) in [("b", "1", 1), ("B", "2", 2), ("a-1", "3", 3), ("b", "4", 4)] {
        set(store, &mut house, alice, name, value, secs).await;
    }
    let scope = alice.scope();
    let names = store.read(async move |reader| reader.secret_names(scope).await);
    let named = |name: &str, created: i64, updated: i64| Named {
        name: name.to_owned(),
        created_at: after(created),
        updated_at: after(updated),
    };
    assert_eq!(
        names.await.expect("a read"),
        [named("B", 2, 2), named("a-1", 3, 3), named("b", 1, 4)]
    );
    assert_eq!(values(store, alice).await[2].1, "4");
}
