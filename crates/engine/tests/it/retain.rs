//! What is no longer kept goes, a slice at a time.

use allswell_core::key::KeyKind;
use allswell_core::scope::SystemScope;
use allswell_core::signal::Action;
use allswell_core::time::Span;
use allswell_engine::Due;
use allswell_engine::loops::Step;
use allswell_engine::retain::{Kept, Retain};
use allswell_store::Error;
use allswell_store::audit::Act;
use allswell_store::signing_keys::NewSigningKey;

use crate::kit::{House, NOW, after, settle, to};

const DAY: i64 = 86_400;
const HOUR: i64 = 3_600;
/// Between two looks.
const PAUSE: i64 = 30;

fn retain(house: &House) -> Retain {
    let kept = Kept {
        pings: 10,
        body_bytes: 1_000,
        history: Span::from_days(30),
        audit: Span::from_days(60),
        undo: Span::from_days(7),
    };
    Retain::new(house.store.clone(), kept)
}

#[tokio::test]
async fn logs_are_pruned_in_slices_until_none_is_too_long() {
    let mut house = House::in_memory().await;
    let mut ids = Vec::new();
    for _ in 0..45 {
        let id = house.check(|_| {}).await;
        house.in_one_batch(vec![to(id); 100]).await;
        ids.push(id);
    }
    let retain = retain(&house);
    assert_eq!(
        settle(&retain, NOW).await,
        (Due::At(after(PAUSE)), 3),
        "20 logs, 20 more, and the last 5"
    );
    for id in ids {
        let log = house.log(id).await;
        assert_eq!((log.len(), log[0].0.n), (10, 91));
    }
}

#[tokio::test]
async fn history_goes_when_its_time_is_over() {
    let mut house = House::in_memory().await;
    let id = house.check(|_| {}).await;
    for i in 0..600 {
        let action = if i % 2 == 0 { Action::Fail } else { Action::Success };
        house.ping(id, action, after(i)).await.expect("a ping");
    }
    let retain = retain(&house);
    assert_eq!(
        settle(&retain, after(30 * DAY)).await,
        (Due::At(after(30 * DAY + PAUSE)), 1)
    );
    assert_eq!(
        (house.count("flips").await, house.count("incidents").await),
        (600, 300)
    );
    let late = 31 * DAY;
    assert_eq!(settle(&retain, after(late)).await.0, Due::At(after(late + PAUSE)));
    assert_eq!(house.count("incidents").await, 0);
    // An incident that goes lets its flips go: with the next look, though the check is quiet.
    settle(&retain, after(late + PAUSE)).await;
    let flips = house.flips(id).await;
    assert_eq!(
        flips.iter().map(|flip| flip.seq).collect::<Vec<_>>(),
        [600],
        "the newest is why the check is as it is"
    );
    assert_eq!(
        (house.count("flips").await, house.read(id).await.state.flip_count),
        (1, 600),
        "the check itself keeps what it knows"
    );
}

/// The clock says that a year has passed. It may be wrong, and be set right within days.
#[tokio::test]
async fn a_leap_of_time_ages_nothing_for_a_week() {
    const YEAR: i64 = 365 * DAY;
    let mut house = House::in_memory().await;
    let id = house.check(|_| {}).await;
    for (secs, action) in [(0, Action::Fail), (1, Action::Success)] {
        house.ping(id, action, after(secs)).await.expect("a ping");
    }
    house.stay_awake(NOW, after(120)).await;
    let retain = retain(&house);
    // Before the sweep has noted it, and afterwards.
    assert_eq!(
        settle(&retain, after(YEAR)).await,
        (Due::At(after(YEAR + PAUSE)), 1)
    );
    assert_eq!(house.count("incidents").await, 1);
    let week = YEAR + 7 * DAY;
    house.stay_awake(after(YEAR), after(week + 60)).await;
    settle(&retain, after(week)).await;
    assert_eq!(house.count("incidents").await, 1);
    // It was true: a year has passed.
    settle(&retain, after(week + 1)).await;
    assert_eq!(house.count("incidents").await, 0);
}

/// Nonces and wrong keys are windows of a protocol: kept longer, they would have signed calls refused.
#[tokio::test]
async fn nonces_and_wrong_keys_go_by_the_clock_also_after_a_leap() {
    const MONTH: i64 = 30 * DAY;
    let mut house = House::in_memory().await;
    house.stay_awake(NOW, after(120)).await;
    house.stay_awake(after(MONTH), after(MONTH + HOUR)).await;
    let (scope, system, mut dice) = (house.scope(), SystemScope::engine(), house.dice.fork());
    house
        .store
        .write(async move |tx| {
            let new = NewSigningKey {
                kind: KeyKind::ReadWrite,
                name: "ci",
                secret: b"secret",
                expires_at: None,
            };
            let key = tx.signing_key_insert(scope, &new, &mut dice, NOW).await?;
            for (nonce, at) in [("old", after(MONTH)), ("new", after(MONTH + HOUR))] {
                assert!(tx.nonce_take(system, key, nonce, at).await?);
                tx.wrong_key_count(system, "client", at.as_secs() / 60, 1).await?;
            }
            Ok::<_, Error>(())
        })
        .await
        .expect("nonces and wrong keys");
    settle(&retain(&house), after(MONTH + HOUR)).await;
    let left = (house.count("nonces").await, house.count("wrong_keys").await);
    assert_eq!(left, (1, 1), "those of an hour ago are gone");
}

/// Set right after days on which everything was noted a year ahead: nothing is missing.
#[tokio::test]
async fn a_clock_that_was_ahead_for_days_and_is_set_right_has_taken_nothing() {
    const YEAR: i64 = 365 * DAY;
    let mut house = House::in_memory().await;
    let id = house.check(|_| {}).await;
    for (secs, action) in [(0, Action::Fail), (1, Action::Success)] {
        house.ping(id, action, after(secs)).await.expect("a ping");
    }
    house.stay_awake(NOW, after(120)).await;
    let retain = retain(&house);
    for day in 0..3 {
        let from = YEAR + day * DAY;
        house.stay_awake(after(from), after(from + DAY)).await;
        settle(&retain, after(from + DAY)).await;
    }
    house.stay_awake(after(3 * DAY), after(3 * DAY + 120)).await;
    settle(&retain, after(3 * DAY + 120)).await;
    assert_eq!(house.count("incidents").await, 1);
    assert_eq!(house.count("flips").await, 2);
}

/// Away for eight days, and awake for one, again and again.
#[tokio::test]
async fn a_server_that_is_mostly_away_prunes_all_the_same() {
    let mut house = House::in_memory().await;
    let id = house.check(|_| {}).await;
    for (secs, action) in [(0, Action::Fail), (1, Action::Success)] {
        house.ping(id, action, after(secs)).await.expect("a ping");
    }
    for time in 0..6 {
        let from = after(time * 9 * DAY);
        house.stay_awake(from, from + Span::from_secs(HOUR)).await;
        settle(&retain(&house), from + Span::from_secs(HOUR)).await;
    }
    assert_eq!(house.count("incidents").await, 0);
}

#[tokio::test]
async fn a_server_that_is_away_each_night_prunes_all_the_same() {
    let mut house = House::in_memory().await;
    let id = house.check(|_| {}).await;
    for (secs, action) in [(0, Action::Fail), (1, Action::Success)] {
        house.ping(id, action, after(secs)).await.expect("a ping");
    }
    for night in 0..40 {
        house
            .stay_awake(after(night * DAY), after(night * DAY + HOUR))
            .await;
        settle(&retain(&house), after(night * DAY + HOUR)).await;
    }
    assert_eq!(house.count("incidents").await, 0);
}

/// More incidents than one transaction deletes.
#[tokio::test]
async fn history_goes_in_slices_until_none_is_too_old() {
    let mut house = House::in_memory().await;
    for _ in 0..3 {
        let id = house.check(|_| {}).await;
        for i in 0..400 {
            let action = if i % 2 == 0 { Action::Fail } else { Action::Success };
            house.ping(id, action, after(i)).await.expect("a ping");
        }
    }
    assert_eq!(house.count("incidents").await, 600);
    let retain = retain(&house);
    let (due, steps) = settle(&retain, after(31 * DAY)).await;
    assert_eq!(
        (due, steps),
        (Due::At(after(31 * DAY + PAUSE)), 2),
        "600 incidents by up to 500"
    );
    settle(&retain, after(31 * DAY + PAUSE)).await;
    assert_eq!(
        (house.count("flips").await, house.count("incidents").await),
        (3, 0)
    );
}

#[tokio::test]
async fn old_acts_go() {
    let mut house = House::in_memory().await;
    let mut dice = house.dice.fork();
    house
        .store
        .write(async move |tx| {
            for i in 0..1_100 {
                let act = Act {
                    at: after(i),
                    project: None,
                    actor: "operator".to_owned(),
                    action: "check.pause",
                    target: String::new(),
                    data: String::new(),
                };
                tx.audit(dice.id_at(act.at), &act).await?;
            }
            Ok::<_, Error>(())
        })
        .await
        .expect("acts");
    let retain = retain(&house);
    assert_eq!(settle(&retain, after(60 * DAY + 50)).await.1, 1);
    assert_eq!(house.count("audit").await, 1_050);
    assert_eq!(settle(&retain, after(61 * DAY)).await.1, 3);
    assert_eq!(house.count("audit").await, 0);
}

#[tokio::test]
async fn what_was_deleted_goes_when_it_can_no_longer_be_brought_back() {
    let mut house = House::in_memory().await;
    for _ in 0..50 {
        let id = house.check(|_| {}).await;
        house.ping(id, Action::Fail, NOW).await.expect("a ping");
    }
    let scope = house.scope();
    house
        .store
        .write(async move |tx| tx.project_delete(scope, NOW).await)
        .await
        .expect("a delete");
    let retain = retain(&house);
    settle(&retain, after(7 * DAY)).await;
    assert_eq!(
        (house.count("checks").await, house.count("projects").await),
        (50, 1)
    );
    assert_eq!(
        settle(&retain, after(7 * DAY + 1)).await.0,
        Due::At(after(7 * DAY + 1 + PAUSE))
    );
    for table in [
        "checks",
        "projects",
        "pings",
        "flips",
        "incidents",
        "api_keys",
        "members",
    ] {
        assert_eq!(house.count(table).await, 0, "{table}");
    }
}

#[tokio::test]
async fn with_nothing_to_do_nothing_is_written() {
    let mut house = House::on_disk().await;
    let id = house.check(|_| {}).await;
    house.ping(id, Action::Fail, NOW).await.expect("a ping");
    let (retain, raw) = (retain(&house), house.raw());
    // The flip left a mark, and that goes with the first look.
    settle(&retain, NOW).await;
    assert_eq!(house.count("prune_due").await, 0);
    let before = House::data_version(&raw);
    assert_eq!(retain.step(NOW).await.expect("a step"), Due::At(after(PAUSE)));
    assert_eq!(House::data_version(&raw), before);
}
