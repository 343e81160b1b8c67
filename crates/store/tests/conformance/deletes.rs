//! Deletes leave nothing: what came with a check, a project and a user goes with them, in every table.

use std::collections::BTreeMap;

use allswell_core::check::{Check, Event};
use allswell_core::key::KeyKind;
use allswell_core::scope::SystemScope;
use allswell_core::secret::Secret;
use allswell_core::signal::Kind;
use allswell_core::time::Timestamp;
use allswell_store::audit::Act;
use allswell_store::once::Once;
use allswell_store::people::User;
use allswell_store::signing_keys::NewSigningKey;
use allswell_store::{Error, Store, Tx};

use crate::kit::{House, NOW, Person, SYSTEM, after, claim_due, finish, on_each_database, rows};

on_each_database!(
    a_deleted_check_leaves_nothing,
    a_deleted_project_and_its_owner_leave_nothing,
    what_may_still_be_brought_back_stays_whole,
    a_purge_does_no_more_than_it_was_asked_for,
);

/// Tables that no project owns.
const OF_THE_INSTANCE: [&str; 8] = [
    "absences",
    "awake",
    "instance",
    "node_keys",
    "rotations",
    "schema_versions",
    "start_links",
    "wrong_keys",
];

/// A check with a row in every table that can hold one of it.
async fn busy_check(house: &mut House<'_>, person: Person) -> Check {
    let mut check = house
        .check(person, |check| check.settings.tags = "prod db".to_owned())
        .await;
    let channel = house.channel(person, b"https://example.org").await;
    house.tell(&check, &[&channel]).await.expect("its channel");
    house.ping(&mut check, Kind::Success, b"body", NOW).await;
    let flip = house
        .ping(&mut check, Kind::Fail, b"body", after(1))
        .await
        .expect("a flip");
    let other = house.dice.id();
    house.promise(&check, &flip, channel.id, NOW).await;
    let (id, node) = (check.id, house.node());
    house
        .store
        .write(async move |tx| {
            tx.ping_log_mark(SystemScope::engine(), id).await?;
            for delivery in claim_due(tx, NOW, 9, node).await?.unwrap_or_default() {
                finish(tx, &delivery, node, NOW).await?;
            }
            Ok::<_, Error>(())
        })
        .await
        .expect("an attempt");
    // Not due, so that no later check of the test ends it.
    house.promise(&check, &flip, other, after(1_000)).await;
    check
}

async fn dora(house: &mut House<'_>) -> Person {
    let dora = Person {
        user: house.dice.id(),
        project: house.dice.id(),
    };
    let user = User {
        id: dora.user,
        email: "dora@example.org".to_owned(),
        is_admin: false,
        check_limit: 9,
        created_at: NOW,
    };
    let write = async move |tx: &mut Tx<'_>| tx.user_insert(SYSTEM, &user, None).await;
    house.store.write(write).await.expect("a user");
    house.add_project(dora.user, dora.project, "dora").await;
    for kind in [KeyKind::ReadWrite, KeyKind::Ping] {
        house.key(dora, kind, 0).await;
    }
    let act = Act {
        at: NOW,
        project: Some(dora.project),
        actor: "operator".to_owned(),
        action: "project.create",
        target: dora.project.to_string(),
        data: String::new(),
    };
    let (id, scope, mut dice) = (house.dice.id(), dora.scope(), house.dice.fork());
    house
        .store
        .write(async move |tx| {
            tx.audit(id, &act).await?;
            let value = Secret::new("hunter2".to_owned());
            tx.secret_set(scope, "token", &value, &mut dice, NOW).await?;
            let once = Once {
                id: uuid::Uuid::from_bytes([1; 16]),
                body_hash: [2; 32],
                since: NOW,
            };
            tx.once_begin(scope, &once, NOW).await?;
            let new = NewSigningKey {
                kind: KeyKind::ReadWrite,
                name: "",
                secret: b"secret",
                expires_at: None,
            };
            let key = tx.signing_key_insert(scope, &new, &mut dice, NOW).await?;
            tx.nonce_take(SYSTEM, key, "n", NOW).await
        })
        .await
        .expect("an act and a secret");
    dora
}

async fn purge(store: &Store, before: Timestamp, limit: i64) -> u64 {
    let write = store.write(async move |tx| tx.purge_deleted(SYSTEM, before, limit).await);
    write.await.expect("a purge")
}

async fn delete(house: &House<'_>, check: &Check, now: Timestamp) {
    let (scope, id) = (
        allswell_core::scope::ProjectScope::granted(check.project),
        check.id,
    );
    let gone = house
        .store
        .write(async move |tx| tx.check_delete(scope, id, now).await)
        .await;
    assert!(gone.expect("a delete"));
}

async fn delete_project(store: &Store, person: Person, now: Timestamp) {
    let gone = store
        .write(async move |tx| tx.project_delete(person.scope(), now).await)
        .await;
    assert!(gone.expect("a delete"));
}

/// The tables that did not grow.
fn idle<'a>(before: &BTreeMap<String, i64>, after: &'a BTreeMap<String, i64>) -> Vec<&'a str> {
    let idle = after.iter().filter(|(table, count)| **count <= before[*table]);
    idle.map(|(table, _)| table.as_str()).collect()
}

async fn a_deleted_check_leaves_nothing(store: &Store) {
    let mut house = House::build(store).await;
    let alice = house.alice;
    busy_check(&mut house, alice).await;
    let before = rows(store).await;
    let check = busy_check(&mut house, alice).await;
    let most = rows(store).await;
    // Besides those of the instance: what people and projects have.
    let others = [
        "api_keys",
        "audit",
        "data_keys",
        "idempotency",
        "members",
        "nonces",
        "project_changes",
        "project_secrets",
        "projects",
        "signing_keys",
        "users",
    ];
    let mut expected: Vec<&str> = OF_THE_INSTANCE.into_iter().chain(others).collect();
    expected.sort_unstable();
    assert_eq!(
        idle(&before, &most),
        expected,
        "a table of checks is missing in this test"
    );

    delete(&house, &check, after(10)).await;
    assert_eq!(purge(store, after(11), 9).await, 1);
    let mut end = rows(store).await;
    // Its channel is the project's and stays.
    *end.get_mut("channels").expect("a table") -= 1;
    assert_eq!(end, before);
}

async fn a_deleted_project_and_its_owner_leave_nothing(store: &Store) {
    let mut house = House::build(store).await;
    let alice = house.alice;
    let mut kept = busy_check(&mut house, alice).await;
    house.happen(&mut kept, Event::Pause, after(2)).await;
    let before = rows(store).await;

    let dora = dora(&mut house).await;
    for _ in 0..2 {
        busy_check(&mut house, dora).await;
    }
    let gone_before = busy_check(&mut house, dora).await;
    delete(&house, &gone_before, after(3)).await;
    assert_eq!(
        idle(&before, &rows(store).await),
        OF_THE_INSTANCE,
        "a table is missing in this test"
    );

    delete_project(store, dora, after(10)).await;
    assert_eq!(purge(store, after(11), 9).await, 4, "three checks and a project");
    let user = dora.user;
    let removed = store
        .write(async move |tx| tx.user_delete(SYSTEM, user).await)
        .await;
    assert!(removed.expect("nothing holds her"));
    assert_eq!(rows(store).await, before);
    assert!(house.read(&kept).await.is_some());
}

async fn what_may_still_be_brought_back_stays_whole(store: &Store) {
    let mut house = House::build(store).await;
    let dora = dora(&mut house).await;
    let check = busy_check(&mut house, dora).await;
    delete(&house, &check, after(10)).await;
    delete_project(store, dora, after(20)).await;
    let before = rows(store).await;
    assert_eq!(purge(store, after(10), 9).await, 0);
    assert_eq!(rows(store).await, before);
    assert_eq!(
        purge(store, after(20), 9).await,
        1,
        "the check was deleted earlier"
    );
    assert_eq!(rows(store).await["projects"], 4);
    assert_eq!(purge(store, after(21), 9).await, 1);
    assert_eq!(rows(store).await["projects"], 3);
}

async fn a_purge_does_no_more_than_it_was_asked_for(store: &Store) {
    let mut house = House::build(store).await;
    let dora = dora(&mut house).await;
    for _ in 0..5 {
        house.check(dora, |_| {}).await;
    }
    delete_project(store, dora, after(10)).await;
    let mut left = Vec::new();
    while purge(store, after(11), 2).await > 0 {
        let rows = rows(store).await;
        left.push((rows["checks"], rows["projects"]));
    }
    // Two by their own mark and two by their project's in one slice.
    assert_eq!(left, [(1, 4), (0, 3)]);
}
