//! Projects and the quota of their owner.

use allswell_core::key::KeyKind;
use allswell_core::signal::Kind;
use allswell_store::projects::Project;
use allswell_store::{Error, Store};

use crate::kit::{House, NOW, Person, SYSTEM, after, on_each_database};

on_each_database!(
    projects_come_back_in_the_order_of_their_making,
    a_quota_counts_the_checks_of_all_projects_of_the_owner,
    changes_are_numbered_per_project,
    a_deleted_project_is_gone_with_its_checks_and_keys,
    a_project_needs_an_owner,
);

async fn projects_come_back_in_the_order_of_their_making(store: &Store) {
    let mut house = House::build(store).await;
    let late = Project {
        id: house.dice.id(),
        owner: house.alice.user,
        name: "поздний".to_owned(),
        created_at: after(1),
    };
    let (new, mut dice) = (late.clone(), house.dice.fork());
    let insert = store.write(async move |tx| tx.project_insert(SYSTEM, &new, &mut dice).await);
    insert.await.expect("a project");
    let (all, one, none) = store
        .read(async move |reader| {
            Ok::<_, Error>((
                reader.projects(SYSTEM).await?,
                reader.project(SYSTEM, late.id).await?,
                reader
                    .project(SYSTEM, allswell_core::chance::Dice::from_number(99).id())
                    .await?,
            ))
        })
        .await
        .expect("reads");
    assert_eq!(all.len(), 4);
    assert_eq!(all.last(), one.as_ref());
    assert_eq!(
        one.map(|project| (project.name, project.owner)),
        Some(("поздний".to_owned(), house.alice.user))
    );
    assert_eq!(none, None);
}

async fn a_quota_counts_the_checks_of_all_projects_of_the_owner(store: &Store) {
    let mut house = House::build(store).await;
    let second = Person {
        project: house.dice.id(),
        ..house.alice
    };
    house.add_project(second.user, second.project, "second").await;
    for person in [house.alice, second, second, house.bob] {
        house.check(person, |_| {}).await;
    }
    let gone = house.check(house.alice, |_| {}).await;
    let (scope, id) = (house.alice.scope(), gone.id);
    store
        .write(async move |tx| tx.check_delete(scope, id, NOW).await)
        .await
        .expect("a delete");
    for (person, count) in [(house.alice, 3), (second, 3), (house.bob, 1), (house.charlie, 0)] {
        let scope = person.scope();
        let quota = store
            .read(async move |reader| reader.check_quota(scope).await)
            .await;
        assert_eq!(quota.expect("a quota"), (count, 100));
    }
}

async fn changes_are_numbered_per_project(store: &Store) {
    let house = House::build(store).await;
    for (person, number) in [
        (house.alice, 1),
        (house.alice, 2),
        (house.bob, 1),
        (house.alice, 3),
    ] {
        let scope = person.scope();
        let next = store.write(async move |tx| tx.change_next(scope).await).await;
        assert_eq!(next.expect("a number"), number);
    }
}

async fn a_deleted_project_is_gone_with_its_checks_and_keys(store: &Store) {
    let mut house = House::build(store).await;
    let alice = house.alice;
    let mut check = house
        .check(alice, |check| check.settings.slug = "a".to_owned())
        .await;
    house.ping(&mut check, Kind::Success, b"body", NOW).await;
    house.check(house.bob, |_| {}).await;
    let (scope, mut dice) = (alice.scope(), house.dice.fork());
    let create =
        store.write(async move |tx| tx.key_create(scope, KeyKind::Ping, "ping", &mut dice, NOW).await);
    let key = create.await.expect("a key").1;

    for gone in [true, false] {
        let delete = store.write(async move |tx| tx.project_delete(scope, after(1)).await);
        assert_eq!(delete.await.expect("a delete"), gone);
    }
    let id = check.id;
    store
        .read(async move |reader| {
            assert_eq!(reader.project(SYSTEM, scope.project()).await?, None);
            assert_eq!(reader.projects(SYSTEM).await?.len(), 2);
            assert_eq!(reader.key_recognise(key.reveal(), after(1)).await?, None);
            assert_eq!(
                reader.check_any(SYSTEM, id).await?,
                None,
                "its address rings nowhere"
            );
            assert_eq!(reader.checks(scope).await?, []);
            assert_eq!(
                reader.checks_due(SYSTEM, after(999_999), 9).await?,
                [],
                "nobody is told of its silence"
            );
            assert_eq!(reader.pings(scope, id, 9).await?, []);
            assert_eq!(reader.check_count(SYSTEM).await?, 1);
            assert_eq!(reader.check_quota(scope).await?.0, 0, "the owner may make others");
            Ok::<_, Error>(())
        })
        .await
        .expect("reads");
}

async fn a_project_needs_an_owner(store: &Store) {
    let mut house = House::build(store).await;
    let orphan = Project {
        id: house.dice.id(),
        owner: house.dice.id(),
        name: "orphan".to_owned(),
        created_at: NOW,
    };
    let mut dice = house.dice.fork();
    let refused = store
        .write(async move |tx| tx.project_insert(SYSTEM, &orphan, &mut dice).await)
        .await;
    assert!(matches!(refused, Err(Error::Conflict(_))), "{refused:?}");
}
