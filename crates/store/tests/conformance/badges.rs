//! Badges: the checks of a project or of a tag, counted.

use allswell_core::check::{Check, Status};
use allswell_core::id::CheckId;
use allswell_core::time::Span;
use allswell_store::Store;
use allswell_store::badges::Counted;

use crate::kit::{House, NOW, Person, SYSTEM, after, on_each_database};

on_each_database!(
    a_tag_counts_its_checks_and_names_those_that_may_be_late,
    a_tag_lists_its_checks_in_the_order_of_their_making,
    a_deleted_check_is_on_no_badge,
    a_check_with_rules_is_looked_at_however_far_its_deadline_is,
);

fn up(tags: &str, deadline_in: i64) -> impl FnOnce(&mut Check) {
    let tags = tags.to_owned();
    move |check| {
        check.settings.tags = tags;
        check.settings.timing.period = Span::from_secs(3_600);
        check.settings.grace = Span::from_secs(60);
        check.state.status = Status::Up;
        let deadline = after(deadline_in);
        check.state.last_ping = Some(deadline - Span::from_secs(3_660));
        check.deadline = Some(deadline);
    }
}

async fn counted(store: &Store, person: Person, tag: &str) -> Counted {
    let (scope, tag) = (person.scope(), tag.to_owned());
    store
        .read(async move |reader| reader.checks_counted_by_tag(scope, &tag, NOW).await)
        .await
        .expect("a count")
}

fn ids(checks: &[Check]) -> Vec<CheckId> {
    let mut ids: Vec<CheckId> = checks.iter().map(|check| check.id).collect();
    ids.sort();
    ids
}

async fn a_tag_counts_its_checks_and_names_those_that_may_be_late(store: &Store) {
    let mut house = House::build(store).await;
    let (alice, bob) = (house.alice, house.bob);
    house.check(alice, up("prod db", 3_000)).await;
    let late = house.check(alice, up("prod", 30)).await;
    let due = house.check(alice, up("db prod", -1)).await;
    let down = |check: &mut Check| {
        up("prod", -500)(check);
        check.state.status = Status::Down;
        check.deadline = None;
    };
    house.check(alice, down).await;
    // Of another tag, of another project.
    house.check(alice, up("production", -1)).await;
    house.check(bob, up("prod", -1)).await;

    let prod = counted(store, alice, "prod").await;
    assert_eq!((prod.total, prod.down), (4, 1));
    let mut suspects = vec![late.id, due.id];
    suspects.sort();
    assert_eq!(ids(&prod.suspects), suspects);

    let db = counted(store, alice, "db").await;
    assert_eq!((db.total, db.down, ids(&db.suspects)), (2, 0, vec![due.id]));
    let none = counted(store, alice, "nowhere").await;
    assert_eq!((none.total, none.down, none.suspects), (0, 0, Vec::new()));
}

/// Late within the limit of its run, which the deadline has in it.
async fn a_check_with_rules_is_looked_at_however_far_its_deadline_is(store: &Store) {
    let mut house = House::build(store).await;
    let alice = house.alice;
    let running = |check: &mut Check| {
        up("prod", 30)(check);
        check.settings.rules.max_run_secs = Some(7_200);
        check.state.last_start = Some(after(-10));
        check.deadline = Some(after(30 + 7_200));
    };
    let late = house.check(alice, running).await;
    house.check(alice, up("prod", 30 + 7_200)).await;
    let scope = alice.scope();
    let of_project = store
        .read(async move |reader| reader.checks_counted(scope, NOW).await)
        .await
        .expect("a count");
    assert_eq!(ids(&of_project.suspects), [late.id]);
    assert_eq!(ids(&counted(store, alice, "prod").await.suspects), [late.id]);
}

async fn a_tag_lists_its_checks_in_the_order_of_their_making(store: &Store) {
    let mut house = House::build(store).await;
    let (alice, bob) = (house.alice, house.bob);
    let mut made = Vec::new();
    for n in [3, 1, 2] {
        let check = house
            .check(alice, |check| {
                check.settings.tags = "night shift".to_owned();
                check.created_at = after(n);
            })
            .await;
        made.push(check);
    }
    house.check(alice, up("day", 100)).await;
    house.check(bob, up("night", 100)).await;
    made.sort_by_key(|check| check.created_at);
    let scope = alice.scope();
    let listed = store
        .read(async move |reader| reader.checks_by_tag(scope, "night").await)
        .await;
    assert_eq!(listed.expect("a list"), made);
}

async fn a_deleted_check_is_on_no_badge(store: &Store) {
    let mut house = House::build(store).await;
    let alice = house.alice;
    let check = house.check(alice, up("prod", -1)).await;
    house.check(alice, up("prod", 3_000)).await;
    let (scope, id) = (alice.scope(), check.id);
    let deleted = store
        .write(async move |tx| tx.check_delete(scope, id, NOW).await)
        .await;
    assert!(deleted.expect("a deletion"));
    let prod = counted(store, alice, "prod").await;
    assert_eq!((prod.total, prod.down, prod.suspects), (1, 0, Vec::new()));
    let badge = check.badge;
    let found = store
        .read(async move |reader| reader.check_by_badge(SYSTEM, badge).await)
        .await;
    assert_eq!(found.expect("a read"), None);
}
