//! Pages of checks: each that matches once, in the order of their making, and never more work for a page than allowed.

use allswell_core::check::{Check, Status};
use allswell_core::scope::ProjectScope;
use allswell_store::Store;
use allswell_store::check_pages::Matching;
use allswell_store::pages::Position;

use crate::kit::{House, Person, after, on_each_database};

on_each_database!(
    pages_hold_what_matches_each_once_and_in_order,
    a_page_that_would_take_too_long_says_how_far_it_came,
);

fn behind(check: &Check) -> Position {
    Position {
        at: check.created_at,
        id: check.id.as_uuid(),
    }
}

/// All that pages of `limit` hold, and how many pages it took.
async fn paged(store: &Store, person: Person, wanted: &Matching, limit: i64) -> (Vec<Check>, usize) {
    let (mut seen, mut from, mut pages) = (Vec::new(), Position::FIRST, 0);
    loop {
        let (scope, wanted) = (person.scope(), wanted.clone());
        let page = store
            .read(async move |reader| reader.checks_page(scope, &wanted, from, limit).await)
            .await
            .expect("a page");
        pages += 1;
        assert!(page.checks.len() as i64 <= limit);
        match (page.looked_until, page.checks.last()) {
            (Some(until), _) => from = until,
            (None, Some(last)) => from = behind(last),
            (None, None) => return (seen, pages),
        }
        seen.extend(page.checks);
    }
}

async fn pages_hold_what_matches_each_once_and_in_order(store: &Store) {
    let mut house = House::build(store).await;
    let (alice, bob) = (house.alice, house.bob);
    let statuses = [Status::New, Status::Up, Status::Down, Status::Paused];
    let mut made = Vec::new();
    for n in 0..24_usize {
        let change = |check: &mut Check| {
            // Four of each instant: then ids decide.
            check.created_at = after(n as i64 / 4);
            check.state.status = statuses[n % 4];
            check.settings.name = ["one", "two", "One"][n % 3].to_owned();
            check.settings.tags = ["", "db", "db web", "web"][n / 2 % 4].to_owned();
        };
        made.push(house.check(alice, change).await);
        if n % 5 == 0 {
            house.check(bob, change).await;
        }
    }
    let gone = made.remove(9);
    let scope = alice.scope();
    store
        .write(async move |tx| tx.check_delete(scope, gone.id, after(100)).await)
        .await
        .expect("a deletion");
    made.sort_by_key(|check| (check.created_at, check.id));
    let mut found = 0;
    for status in statuses.map(Some).into_iter().chain([None]) {
        for tag in [None, Some("db"), Some("web"), Some("none")] {
            for name in [None, Some("one"), Some("One"), Some("none")] {
                let wanted = Matching {
                    tag: tag.map(str::to_owned),
                    name: name.map(str::to_owned),
                    status,
                };
                let right: Vec<_> = made
                    .iter()
                    .filter(|check| {
                        status.is_none_or(|status| check.state.status == status)
                            && name.is_none_or(|name| check.settings.name == name)
                            && tag.is_none_or(|tag| check.settings.tag_list().contains(&tag))
                    })
                    .map(|check| check.id)
                    .collect();
                found += right.len();
                for limit in [1, 3, 100] {
                    let (paged, _) = paged(store, alice, &wanted, limit).await;
                    let ids: Vec<_> = paged.iter().map(|check| check.id).collect();
                    assert_eq!(ids, right, "{wanted:?} by {limit}");
                }
            }
        }
    }
    assert!(found > 100, "next to nothing was looked for: {found}");
}

/// Only the last of many is up. Before all of them stand as many that were deleted.
async fn a_page_that_would_take_too_long_says_how_far_it_came(store: &Store) {
    const MANY: i64 = 1_100;
    let mut house = House::build(store).await;
    let alice = house.alice;
    let mut deleted: Vec<Check> = (0..MANY).map(|_| house.draft(alice)).collect();
    for (n, check) in (0..).zip(&mut deleted) {
        check.created_at = after(n - MANY);
        check.state.status = Status::Down;
        check.settings.tags = "gone".to_owned();
        check.settings.name = "gone".to_owned();
    }
    let mut checks: Vec<Check> = (0..MANY).map(|_| house.draft(alice)).collect();
    for (n, check) in (0..).zip(&mut checks) {
        check.created_at = after(n);
        check.settings.tags = "all".to_owned();
    }
    let last = checks.last_mut().expect("one");
    last.state.status = Status::Up;
    last.settings.name = "the last".to_owned();
    let last = last.id;
    let scope = alice.scope();
    store
        .write(async move |tx| {
            for check in deleted.iter().chain(&checks) {
                tx.check_insert(ProjectScope::granted(check.project), check)
                    .await?;
            }
            for check in &deleted {
                tx.check_delete(scope, check.id, after(MANY)).await?;
            }
            Ok::<_, allswell_store::Error>(())
        })
        .await
        .expect("many checks");
    let of = |tag: Option<&str>, name: Option<&str>, status| Matching {
        tag: tag.map(str::to_owned),
        name: name.map(str::to_owned),
        status,
    };
    for (wanted, count, pages) in [
        (of(None, None, Some(Status::Up)), 1, 4),
        (of(Some("all"), None, Some(Status::Up)), 1, 3),
        // One that is full for each hundred, and behind them the one that is empty.
        (of(None, None, None), MANY as usize, 13),
        (of(Some("all"), None, None), MANY as usize, 12),
        // All that is met was deleted.
        (of(None, None, Some(Status::Down)), 0, 2),
        (of(Some("gone"), None, None), 0, 2),
        (of(None, Some("gone"), None), 0, 2),
        (of(Some("gone"), Some("gone"), Some(Status::Down)), 0, 2),
        // Nothing is met.
        (of(None, None, Some(Status::Paused)), 0, 1),
    ] {
        let (found, took) = paged(store, alice, &wanted, 100).await;
        assert_eq!((found.len(), took), (count, pages), "{wanted:?}");
        if count > 0 {
            assert_eq!(found.last().map(|check| check.id), Some(last), "{wanted:?}");
        }
    }
}
