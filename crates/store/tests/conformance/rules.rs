//! What a check remembers for its rules: written with its state by whoever wins the row, forgotten with the rule.

use allswell_core::check::{Check, Recent, Rules, State};
use allswell_core::scope::{ProjectScope, SystemScope};
use allswell_core::time::Span;
use allswell_store::Store;
use allswell_store::batch::{Changed, Then};

use crate::kit::{House, after, on_each_database};

on_each_database!(
    what_a_check_remembers_is_written_with_its_state_by_whoever_wins,
    a_batch_writes_what_each_of_its_checks_remembers,
    rules_that_are_taken_away_leave_nothing_behind,
);

const RULES: Rules = Rules {
    failures: Some(3),
    ..Rules::OFF
};

fn recent(outcomes: &[bool]) -> Recent {
    Recent {
        outcomes: outcomes.to_vec(),
        runs: vec![Span::from_millis(1_234)],
    }
}

fn remembering(check: &Check, outcomes: &[bool]) -> Check {
    let state = State {
        recent: recent(outcomes),
        ping_count: check.state.ping_count + 1,
        ..check.state.clone()
    };
    Check {
        state,
        ..check.clone()
    }
}

async fn what_a_check_remembers_is_written_with_its_state_by_whoever_wins(store: &Store) {
    let mut house = House::build(store).await;
    let check = house
        .check(house.alice, |check| check.settings.rules = RULES)
        .await;
    let (first, second) = (remembering(&check, &[true]), remembering(&check, &[true, true]));
    for (mut new, wins) in [(first.clone(), true), (second, false)] {
        let won =
            store.write(async move |tx| tx.check_save_state(SystemScope::engine(), &mut new, None).await);
        assert_eq!(won.await.expect("a write"), wins);
        let read = house.read(&check).await.expect("it is there");
        assert_eq!(read.state, first.state);
    }
    // With a deadline, as the sweep writes it, and back to nothing.
    let mut read = house.read(&check).await.expect("it is there");
    read.state.recent = Recent::default();
    let write = store.write(async move |tx| {
        tx.check_save_state_and_deadline(SystemScope::engine(), &mut read, Some(after(5)))
            .await
    });
    assert!(write.await.expect("a write"));
    let read = house.read(&check).await.expect("it is there");
    assert_eq!(read.state.recent, Recent::default());
}

async fn a_batch_writes_what_each_of_its_checks_remembers(store: &Store) {
    let mut house = House::build(store).await;
    let mut made = Vec::new();
    for n in 0..5 {
        let rules = if n == 4 { Rules::OFF } else { RULES };
        let check = house
            .check(house.alice, |check| check.settings.rules = rules)
            .await;
        made.push(check);
    }
    let mut new: Vec<Check> = (1..)
        .zip(&made)
        .map(|(n, check)| remembering(check, &[true].repeat(n)))
        .collect();
    // One is lost to somebody else, one has nothing to remember, and one has no rules.
    new[0].version -= 1;
    new[1].state.recent = Recent::default();
    new[4].state.recent = Recent::default();
    let mut dice = house.dice.fork();
    let wanted = new.clone();
    let saved = store
        .write(async move |tx| {
            let mut changed: Vec<Changed<'_>> = new
                .iter_mut()
                .map(|check| Changed {
                    check,
                    deadline: None,
                    pings: Vec::new(),
                    exact: false,
                    is_page_full: false,
                })
                .collect();
            tx.batch_save(SystemScope::engine(), &mut changed, Then::More, &mut dice)
                .await
        })
        .await
        .expect("a batch");
    assert_eq!(saved.len(), 4);
    assert_eq!(house.read(&made[0]).await.as_ref(), Some(&made[0]));
    for check in &wanted[1..] {
        assert_eq!(house.read(check).await.expect("it is there").state, check.state);
    }
}

async fn rules_that_are_taken_away_leave_nothing_behind(store: &Store) {
    let mut house = House::build(store).await;
    let check = house
        .check(house.alice, |check| {
            check.settings.rules = RULES;
            check.state.recent = recent(&[true, false]);
        })
        .await;
    assert_eq!(house.read(&check).await.as_ref(), Some(&check));
    // An edit of something else keeps it.
    for (rules, kept) in [
        (RULES, check.state.recent.clone()),
        (
            Rules {
                min_run_secs: Some(5),
                ..Rules::OFF
            },
            Recent::default(),
        ),
        (Rules::OFF, Recent::default()),
    ] {
        let mut edited = check.clone();
        edited.settings.rules = rules;
        let write = store.write(async move |tx| {
            tx.check_save_settings(ProjectScope::granted(edited.project), &mut edited)
                .await
        });
        write.await.expect("an edit");
        let read = house.read(&check).await.expect("it is there");
        assert_eq!((read.settings.rules, read.state.recent), (rules, kept));
    }
}
