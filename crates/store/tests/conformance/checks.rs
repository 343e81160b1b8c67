//! Checks: written, read, changed by compare and set, deleted.

use allswell_core::check::{
    Check, Event, FailureRate, Recent, Rules, Settings, State, Status, Timing, TimingKind, UnusualRun,
};
use allswell_core::id::CheckId;
use allswell_core::scope::{ProjectScope, SystemScope};
use allswell_core::signal::{Filters, Kind};
use allswell_core::time::{Span, Timestamp};
use allswell_store::batch::{Changed, Then};
use allswell_store::checks::Found;
use allswell_store::{Error, Store};
use uuid::Uuid;

use crate::kit::{House, NOW, Person, SYSTEM, after, on_each_database, rows};

on_each_database!(
    a_check_comes_back_as_it_was_written,
    a_batch_writes_every_part_of_each_state,
    charlie_does_not_see_the_checks_of_alice,
    a_write_that_names_an_old_version_loses,
    the_stored_wake_up_only_moves_earlier_with_a_ping,
    the_sweep_moves_the_stored_wake_up_freely,
    a_deleted_check_is_gone_from_every_read,
    only_the_owner_deletes_a_check_and_only_once,
    two_checks_with_one_slug_are_ambiguous,
    settings_and_tags_are_replaced,
    what_is_written_with_the_scope_of_another_project_changes_nothing,
    checks_without_a_channel_that_works_are_counted,
    due_checks_come_earliest_first_and_no_more_than_asked_for,
    a_check_that_waits_can_be_put_off,
    checks_with_an_expression_are_walked_by_id_in_slices,
    a_check_tells_channels_of_its_own_project_only,
    rows_that_cannot_be_are_refused,
);

/// A check of which no field has its default.
fn odd(check: &mut Check) {
    check.settings = Settings {
        name: "бэкап “prod” \u{1f4be}\n'; drop table checks; --".to_owned(),
        slug: "backup-prod_1".to_owned(),
        tags: "prod  db prod".to_owned(),
        description: "x".repeat(100_000),
        timing: Timing {
            kind: TimingKind::Expression,
            period: Span::from_micros(61_000_001),
            expression: "*/5 * * * *".to_owned(),
            zone: "America/Argentina/Buenos_Aires".to_owned(),
        },
        grace: Span::from_secs(31_536_000),
        filters: Filters {
            post_only: true,
            manual_resume: true,
            http_body: true,
            subject: true,
            body: true,
            default_fail: true,
            start_keywords: "go, начало".to_owned(),
            success_keywords: "ok".to_owned(),
            failure_keywords: "fail,%".to_owned(),
            // The project's, and not the check's to write.
            needs_key: false,
        },
        rules: Rules {
            failures: Some(3),
            failure_rate: Some(FailureRate {
                percent: 50,
                window: 10,
            }),
            max_run_secs: Some(31_536_000),
            start_grace_secs: Some(1),
            min_run_secs: Some(2),
            unusual_run: Some(UnusualRun {
                tenths: 25,
                samples: 5,
            }),
        },
    };
    check.state = State {
        excused_until: Some(after(77)),
        status: Status::Down,
        status_since: after(-1),
        last_ping: Some(after(-2)),
        last_start: Some(after(-3)),
        last_start_rid: Some(Uuid::from_u128(5)),
        last_duration: Some(Span::from_micros(1)),
        ping_count: 7,
        flip_count: 6,
        recent: Recent {
            outcomes: vec![true, false, true],
            runs: vec![Span::from_millis(1), Span::from_secs(31_536_000)],
        },
        not_kept: 5,
        last_success: Some(after(-4)),
        paused_until: Some(after(88)),
        last_alive: Some(after(-1)),
    };
    check.deadline = Some(after(9));
    check.version = 41;
    check.created_at = Timestamp::from_micros(NOW.as_micros() + 1);
}

async fn ids(store: &Store, person: Person) -> Vec<CheckId> {
    let checks = store
        .read(async move |reader| reader.checks(person.scope()).await)
        .await;
    checks.expect("a list").iter().map(|check| check.id).collect()
}

async fn by_slug(store: &Store, person: Person, slug: &'static str) -> Found {
    let found = store
        .read(async move |reader| reader.check_by_slug(person.scope(), slug).await)
        .await;
    found.expect("a look-up")
}

async fn a_check_comes_back_as_it_was_written(store: &Store) {
    let mut house = House::build(store).await;
    let plain = house.check(house.alice, |_| {}).await;
    assert_eq!(house.read(&plain).await.as_ref(), Some(&plain));

    let check = house.check(house.alice, odd).await;
    assert_eq!(house.read(&check).await.as_ref(), Some(&check));
    assert_eq!(
        by_slug(store, house.alice, "backup-prod_1").await,
        Found::One(Box::new(check.clone()))
    );
    let scope = house.alice.scope();
    let (listed, with_slug, listed_ids, due) = store
        .read(async move |reader| {
            Ok::<_, Error>((
                reader.checks(scope).await?,
                reader.checks_by_slug(scope, "backup-prod_1").await?,
                reader.check_ids(scope).await?,
                reader.checks_due(SYSTEM, after(9), 10).await?,
            ))
        })
        .await
        .expect("reads");
    assert_eq!(listed, [plain.clone(), check.clone()]);
    assert_eq!(listed_ids, [plain.id, check.id]);
    assert_eq!(with_slug, std::slice::from_ref(&check));
    assert_eq!(due, [check]);
}

/// Of one check and of several, which PostgreSQL writes from arrays; where the stored wake-up moves, and where it stays.
async fn a_batch_writes_every_part_of_each_state(store: &Store) {
    let mut house = House::build(store).await;
    for (count, exact) in [(1, false), (1, true), (4, false), (4, true)] {
        let mut wanted = Vec::new();
        for n in 0..count {
            let check = house
                .check(house.alice, |check| {
                    odd(check);
                    odd(check);
                    check.state = State::new(NOW);
                })
                .await;
            wanted.push(oddly_moved(&check, n));
        }
        let mut new = wanted.clone();
        let mut dice = house.dice.fork();
        let saved = store
            .write(async move |tx| {
                let mut changed: Vec<Changed<'_>> = new
                    .iter_mut()
                    .map(|check| Changed {
                        check,
                        deadline: Some(after(500)),
                        pings: Vec::new(),
                        exact,
                        is_page_full: false,
                    })
                    .collect();
                tx.batch_save(SystemScope::engine(), &mut changed, Then::More, &mut dice)
                    .await
            })
            .await
            .expect("a batch");
        assert_eq!(saved.len(), wanted.len());
        for check in &wanted {
            let read = house.read(check).await.expect("it is there");
            assert_eq!(read.state, check.state, "{count} {exact}");
            let deadline = if exact { Some(after(500)) } else { check.deadline };
            assert_eq!((read.deadline, read.version), (deadline, check.version + 1));
        }
    }
}

/// The odd state with each of its values another one, so that no two can be mistaken for each other.
fn oddly_moved(check: &Check, n: u64) -> Check {
    let mut odd_one = check.clone();
    odd(&mut odd_one);
    let mut state = odd_one.state;
    let by = Span::from_secs(i64::try_from(n).expect("few") * 1_000);
    state.status_since = after(-10) + by;
    for at in [
        &mut state.excused_until,
        &mut state.last_ping,
        &mut state.last_start,
        &mut state.last_success,
        &mut state.paused_until,
        &mut state.last_alive,
    ] {
        *at = at.map(|at| at + by);
    }
    state.last_start_rid = Some(Uuid::from_u128(5 + u128::from(n)));
    state.last_duration = Some(Span::from_micros(i64::try_from(n + 1).expect("few")));
    state.ping_count += n;
    state.flip_count += n * 2;
    state.not_kept += n;
    state.recent.runs.push(by);
    Check {
        state,
        ..check.clone()
    }
}

async fn charlie_does_not_see_the_checks_of_alice(store: &Store) {
    let mut house = House::build(store).await;
    let check = house
        .check(house.alice, |check| check.settings.slug = "a".to_owned())
        .await;
    let channel = house.channel(house.alice, b"").await;
    house.tell(&check, &[&channel]).await.expect("alice's own");
    for (person, sees) in [(house.alice, true), (house.bob, false), (house.charlie, false)] {
        let (scope, id) = (person.scope(), check.id);
        let (one, channels, pairs) = store
            .read(async move |reader| {
                Ok::<_, Error>((
                    reader.check(scope, id).await?,
                    reader.check_channels(scope, id).await?,
                    reader.check_channels_of_project(scope).await?,
                ))
            })
            .await
            .expect("reads");
        assert_eq!(one.is_some(), sees);
        assert_eq!(channels, if sees { vec![channel.id] } else { vec![] });
        assert_eq!(pairs, if sees { vec![(id, channel.id)] } else { vec![] });
        assert_eq!(ids(store, person).await.len(), usize::from(sees));
        assert_eq!(by_slug(store, person, "a").await != Found::None, sees);
    }
}

async fn a_write_that_names_an_old_version_loses(store: &Store) {
    let mut house = House::build(store).await;
    let check = house.check(house.alice, |_| {}).await;
    let mut first = Check {
        state: State {
            ping_count: 1,
            ..check.state.clone()
        },
        ..check.clone()
    };
    let mut second = Check {
        state: State {
            ping_count: 2,
            ..check.state.clone()
        },
        ..check.clone()
    };
    let mut third = second.clone();
    let (saved, first, lost, lost_too) = store
        .write(async move |tx| {
            Ok::<_, Error>((
                tx.check_save_state(SystemScope::engine(), &mut first, None)
                    .await?,
                first,
                tx.check_save_state(SystemScope::engine(), &mut second, None)
                    .await?,
                tx.check_save_state_and_deadline(SystemScope::engine(), &mut third, Some(NOW))
                    .await?,
            ))
        })
        .await
        .expect("three writes");
    assert_eq!((saved, lost, lost_too), (true, false, false));
    assert_eq!(first.version, check.version + 1);
    assert_eq!(house.read(&check).await, Some(first));
}

async fn the_stored_wake_up_only_moves_earlier_with_a_ping(store: &Store) {
    let mut house = House::build(store).await;
    for (stored, computed, kept) in [
        (None, None, None),
        (None, Some(5), Some(5)),
        (Some(5), None, None),
        (Some(5), Some(5), Some(5)),
        (Some(5), Some(9), Some(5)),
        (Some(5), Some(4), Some(4)),
    ] {
        let mut check = house
            .check(house.alice, |check| check.deadline = stored.map(after))
            .await;
        check.state.ping_count = 3;
        let mut new = check.clone();
        let write = store.write(async move |tx| {
            let saved = tx
                .check_save_state(SystemScope::engine(), &mut new, computed.map(after))
                .await?;
            Ok::<_, Error>((saved, new))
        });
        let (saved, new) = write.await.expect("a write");
        assert!(saved);
        let read = house.read(&check).await.expect("the check");
        assert_eq!(read.deadline, kept.map(after), "{stored:?} {computed:?}");
        assert_eq!((read.version, read.state.ping_count), (check.version + 1, 3));
        assert_eq!(read, new, "what the caller holds is what is stored");
    }
}

async fn the_sweep_moves_the_stored_wake_up_freely(store: &Store) {
    let mut house = House::build(store).await;
    for (stored, computed) in [
        (None, Some(5)),
        (Some(5), None),
        (Some(5), Some(9)),
        (Some(5), Some(4)),
    ] {
        let check = house
            .check(house.alice, |check| check.deadline = stored.map(after))
            .await;
        let mut new = check.clone();
        let write = store.write(async move |tx| {
            let saved = tx
                .check_save_state_and_deadline(SystemScope::engine(), &mut new, computed.map(after))
                .await?;
            Ok::<_, Error>((saved, new))
        });
        let (saved, new) = write.await.expect("a write");
        assert!(saved);
        assert_eq!(
            (new.deadline, new.version),
            (computed.map(after), check.version + 1)
        );
        assert_eq!(house.read(&check).await, Some(new));
    }
}

async fn a_deleted_check_is_gone_from_every_read(store: &Store) {
    let mut house = House::build(store).await;
    let alice = house.alice;
    let mut check = house
        .check(alice, |check| check.settings.slug = "a".to_owned())
        .await;
    house.ping(&mut check, Kind::Success, b"body", NOW).await;
    let flip = house
        .ping(&mut check, Kind::Fail, b"body", after(1))
        .await
        .expect("a flip");
    let channel = house.channel(alice, b"").await;
    house.tell(&check, &[&channel]).await.expect("channels");
    house.promise(&check, &flip, channel.id, after(1)).await;
    house.happen(&mut check, Event::Resume, after(2)).await;
    let kept = house.check(alice, |check| check.deadline = Some(after(50))).await;
    let mut waiting = check.clone();
    let (scope, id) = (alice.scope(), check.id);
    store
        .write(async move |tx| {
            tx.check_save_state_and_deadline(SystemScope::engine(), &mut waiting, Some(after(3)))
                .await
        })
        .await
        .expect("a wake-up");

    let deleted = store
        .write(async move |tx| tx.check_delete(scope, id, after(4)).await)
        .await;
    assert!(deleted.expect("a delete"));
    assert_eq!(house.read(&check).await, None);
    assert_eq!(ids(store, alice).await, [kept.id]);
    assert_eq!(by_slug(store, alice, "a").await, Found::None);
    store
        .read(async move |reader| {
            assert_eq!(reader.check(scope, id).await?, None);
            assert_eq!(reader.check_ids(scope).await?, [kept.id]);
            assert_eq!(reader.checks_by_slug(scope, "a").await?, []);
            assert_eq!(reader.checks_due(SYSTEM, after(49), 9).await?, []);
            assert_eq!(reader.check_ids_due(SYSTEM, after(49), 9).await?, []);
            assert_eq!(reader.check_next_deadline(SYSTEM).await?, Some(after(50)));
            assert_eq!(reader.check_count(SYSTEM).await?, 1);
            assert_eq!(reader.check_quota(scope).await?.0, 1);
            assert_eq!(reader.check_channels(scope, id).await?, []);
            assert_eq!(reader.check_channels_of_project(scope).await?, []);
            assert_eq!(reader.pings(scope, id, 9).await?, []);
            assert_eq!(reader.run_start_before(scope, id, 9, None).await?, None);
            assert_eq!(reader.ping_body(scope, id, 1).await?, None);
            assert_eq!(reader.flips(scope, id, 9).await?, []);
            assert_eq!(reader.flips_between(scope, id, NOW, after(9)).await?, []);
            assert_eq!(reader.incidents(scope, id, 9).await?, []);
            assert_eq!(reader.deliveries(scope, id, 9).await?, []);
            Ok::<_, Error>(())
        })
        .await
        .expect("reads");

    let mut gone = check;
    gone.version += 2;
    let saved = store
        .write(async move |tx| {
            tx.check_save_state(SystemScope::engine(), &mut gone, Some(after(5)))
                .await
        })
        .await;
    assert!(
        !saved.expect("a write"),
        "a ping that comes too late changes nothing"
    );
}

async fn only_the_owner_deletes_a_check_and_only_once(store: &Store) {
    let mut house = House::build(store).await;
    let check = house.check(house.alice, |_| {}).await;
    for (person, deletes) in [(house.charlie, false), (house.alice, true), (house.alice, false)] {
        let (scope, id) = (person.scope(), check.id);
        let deleted = store
            .write(async move |tx| tx.check_delete(scope, id, NOW).await)
            .await;
        assert_eq!(deleted.expect("a delete"), deletes);
    }
}

async fn two_checks_with_one_slug_are_ambiguous(store: &Store) {
    let mut house = House::build(store).await;
    let (alice, bob) = (house.alice, house.bob);
    let slug = |slug: &'static str| move |check: &mut Check| check.settings.slug = slug.to_owned();
    let one = house.check(alice, slug("a")).await;
    house.check(bob, slug("a")).await;
    for _ in 0..2 {
        house.check(alice, slug("")).await;
    }
    assert_eq!(
        by_slug(store, alice, "a").await,
        Found::One(Box::new(one.clone()))
    );
    assert_eq!(by_slug(store, alice, "").await, Found::None);
    assert_eq!(by_slug(store, alice, "A").await, Found::None);

    let two = house.check(alice, slug("a")).await;
    assert_eq!(by_slug(store, alice, "a").await, Found::Ambiguous);
    assert!(matches!(by_slug(store, bob, "a").await, Found::One(_)));
    let id = one.id;
    store
        .write(async move |tx| tx.check_delete(alice.scope(), id, NOW).await)
        .await
        .expect("a delete");
    assert_eq!(by_slug(store, alice, "a").await, Found::One(Box::new(two)));
}

async fn settings_and_tags_are_replaced(store: &Store) {
    let mut house = House::build(store).await;
    let mut check = house
        .check(house.alice, |check| check.settings.tags = "a b c".to_owned())
        .await;
    assert_eq!(rows(store).await["check_tags"], 3);
    let other = house.check(house.alice, |_| {}).await;
    let mut wanted = check.clone();
    odd(&mut wanted);
    check.settings = wanted.settings;
    // What people edit, and not what it remembers.
    assert_eq!(check.state.recent, Recent::default());
    let mut new = check.clone();
    let saved = store.write(async move |tx| {
        tx.check_save_settings(ProjectScope::granted(new.project), &mut new)
            .await?;
        Ok::<_, Error>(new)
    });
    let saved = saved.await.expect("settings");
    assert_eq!(saved.version, check.version + 1);
    assert_eq!(house.read(&check).await, Some(saved));
    assert_eq!(house.read(&other).await, Some(other));
    assert_eq!(rows(store).await["check_tags"], 2, "prod and db");
}

async fn what_is_written_with_the_scope_of_another_project_changes_nothing(store: &Store) {
    let mut house = House::build(store).await;
    let check = house
        .check(house.alice, |check| check.settings.tags = "a b".to_owned())
        .await;
    let channel = house.channel(house.alice, b"{}").await;
    house.tell(&check, &[&channel]).await.expect("a channel");
    let (alices, bobs) = (house.alice.scope(), house.bob.scope());
    let changes = async || {
        let read = store.read(async move |reader| reader.changes(alices, 0, 99).await);
        read.await.expect("changes")
    };
    let before = (rows(store).await, changes().await);

    let mut new = check.clone();
    "theirs".clone_into(&mut new.settings.name);
    new.settings.tags.clear();
    let write = store.write(async move |tx| tx.check_save_settings(bobs, &mut new).await);
    assert!(matches!(write.await, Err(Error::Conflict(_))));

    let mut new = check.clone();
    new.id = house.dice.id();
    let write = store.write(async move |tx| tx.check_insert(bobs, &new).await);
    assert!(matches!(write.await, Err(Error::Conflict(_))));

    let id = check.id;
    let write = store.write(async move |tx| tx.check_set_channels(bobs, id, &[]).await);
    write.await.expect("none of bob's to take away");
    let (id, known) = (check.id, channel.id);
    let write = store.write(async move |tx| tx.check_set_channels(bobs, id, &[known]).await);
    assert!(matches!(write.await, Err(Error::Conflict(_))));

    let new = check.clone();
    let write = store.write(async move |tx| tx.check_mark_changed(bobs, &new, 0).await);
    write.await.expect("none of bob's to mark");

    assert_eq!((rows(store).await, changes().await), before);
    assert_eq!(house.read(&check).await, Some(check));
}

async fn checks_without_a_channel_that_works_are_counted(store: &Store) {
    let mut house = House::build(store).await;
    let alice = house.alice;
    let [off, gone, works] = [
        house.channel(alice, b"").await,
        house.channel(alice, b"").await,
        house.channel(alice, b"").await,
    ];
    let count = async || {
        let read = store.read(async move |reader| reader.check_count_telling_nobody(SYSTEM).await);
        read.await.expect("a count")
    };
    for (channels, nobody) in [
        (vec![], 1),
        (vec![&off], 2),
        (vec![&gone], 3),
        (vec![&off, &works], 3),
        (vec![&works], 3),
    ] {
        let check = house.check(alice, |_| {}).await;
        house.tell(&check, &channels).await.expect("channels");
        if let [only] = channels.as_slice() {
            let (only, is_off, is_gone) = (only.id, only.id == off.id, only.id == gone.id);
            store
                .write(async move |tx| {
                    if is_off {
                        tx.channel_disable(SYSTEM, only, "gone", NOW).await?;
                    }
                    if is_gone {
                        tx.channel_delete(alice.scope(), only, NOW).await?;
                    }
                    Ok::<_, Error>(())
                })
                .await
                .expect("a change");
        }
        assert_eq!(count().await, nobody);
    }
}

async fn due_checks_come_earliest_first_and_no_more_than_asked_for(store: &Store) {
    let mut house = House::build(store).await;
    let mut made = Vec::new();
    for secs in [3, 1, 2, 4] {
        let person = if secs % 2 == 0 { house.bob } else { house.alice };
        let check = house
            .check(person, |check| check.deadline = Some(after(secs)))
            .await;
        made.push((secs, check.id));
    }
    house.check(house.alice, |_| {}).await;
    made.sort_unstable();
    let made: Vec<CheckId> = made.into_iter().map(|(_, id)| id).collect();
    for (now, limit, due) in [
        (0, 9, 0..0),
        (1, 9, 0..1),
        (3, 9, 0..3),
        (9, 2, 0..2),
        (9, 9, 0..4),
    ] {
        let (checks, ids, next) = store
            .read(async move |reader| {
                Ok::<_, Error>((
                    reader.checks_due(SYSTEM, after(now), limit).await?,
                    reader.check_ids_due(SYSTEM, after(now), limit).await?,
                    reader.check_next_deadline(SYSTEM).await?,
                ))
            })
            .await
            .expect("a read");
        let found: Vec<CheckId> = checks.iter().map(|check| check.id).collect();
        assert_eq!((&found[..], next), (&made[due], Some(after(1))), "{now} {limit}");
        assert_eq!(found, ids);
    }
}

async fn a_check_that_waits_can_be_put_off(store: &Store) {
    let mut house = House::build(store).await;
    let waits = house.check(house.alice, |check| check.deadline = Some(NOW)).await;
    let idle = house.check(house.alice, |_| {}).await;
    for (check, moved) in [(&waits, true), (&idle, false)] {
        let id = check.id;
        let done = store
            .write(async move |tx| tx.check_postpone(SYSTEM, id, after(60)).await)
            .await;
        assert_eq!(done.expect("a write"), moved);
    }
    let waiting = house.read(&waits).await.expect("the check");
    assert_eq!(
        (waiting.deadline, waiting.version),
        (Some(after(60)), waits.version + 1)
    );
    assert_eq!(house.read(&idle).await, Some(idle));
}

async fn a_check_tells_channels_of_its_own_project_only(store: &Store) {
    let mut house = House::build(store).await;
    let check = house.check(house.alice, |_| {}).await;
    let mut own = [
        house.channel(house.alice, b"").await,
        house.channel(house.alice, b"").await,
    ];
    own.sort_by_key(|channel| channel.id);
    let strange = house.channel(house.charlie, b"").await;
    house.tell(&check, &[&own[0]]).await.expect("one");
    house.tell(&check, &[&own[1], &own[0]]).await.expect("both");
    let refused = house.tell(&check, &[&own[0], &strange]).await;
    assert!(matches!(refused, Err(Error::Conflict(_))), "{refused:?}");
    let (scope, id) = (house.alice.scope(), check.id);
    let (channels, pairs) = store
        .read(async move |reader| {
            Ok::<_, Error>((
                reader.check_channels(scope, id).await?,
                reader.check_channels_of_project(scope).await?,
            ))
        })
        .await
        .expect("a read");
    assert_eq!(
        channels,
        [own[0].id, own[1].id],
        "what was refused changed nothing"
    );
    assert_eq!(pairs, [(id, own[0].id), (id, own[1].id)]);
    house.tell(&check, &[]).await.expect("none");
    let none = store
        .read(async move |reader| reader.check_channels(scope, id).await)
        .await;
    assert_eq!(none.expect("a read"), []);
}

async fn rows_that_cannot_be_are_refused(store: &Store) {
    let mut house = House::build(store).await;
    let first = house.check(house.alice, |_| {}).await;
    let nobody = Person {
        project: house.dice.id(),
        ..house.alice
    };
    let before = rows(store).await;
    type Break = fn(&mut Check, &Check);
    let broken: [(&str, Break); 6] = [
        ("an id that is taken", |check, first| check.id = first.id),
        ("a badge that is taken", |check, first| check.badge = first.badge),
        ("no grace", |check, _| check.settings.grace = Span::ZERO),
        ("no period", |check, _| check.settings.timing.period = Span::ZERO),
        ("a run id without a run", |check, _| {
            check.state.last_start_rid = Some(Uuid::from_u128(1))
        }),
        ("nothing wrong but the project", |_, _| {}),
    ];
    for (index, (what, change)) in broken.into_iter().enumerate() {
        let person = if index == 5 { nobody } else { house.alice };
        let mut check = house.draft(person);
        change(&mut check, &first);
        let refused = house.insert(&check).await;
        assert!(matches!(refused, Err(Error::Conflict(_))), "{what}: {refused:?}");
    }
    assert_eq!(rows(store).await, before);
}

async fn checks_with_an_expression_are_walked_by_id_in_slices(store: &Store) {
    let mut house = House::build(store).await;
    let (alice, bob) = (house.alice, house.bob);
    let mut expected = Vec::new();
    for n in 0..7 {
        let owner = if n % 2 == 0 { alice } else { bob };
        house.check(owner, |_| {}).await;
        let check = house
            .check(owner, |check| check.settings.timing.kind = TimingKind::Expression)
            .await;
        expected.push(check);
    }
    let deleted = expected.remove(3);
    let (scope, id) = (
        allswell_core::scope::ProjectScope::granted(deleted.project),
        deleted.id,
    );
    let delete = store.write(async move |tx| tx.check_delete(scope, id, NOW).await);
    assert!(delete.await.expect("a delete"));
    expected.sort_by_key(|check| check.id);

    let (mut walked, mut slices) = (Vec::new(), Vec::new());
    let mut behind = CheckId::from(Uuid::nil());
    loop {
        let read = store.read(async move |reader| reader.checks_by_expression(SYSTEM, behind, 4).await);
        let slice = read.await.expect("a slice");
        slices.push(slice.len());
        let Some(last) = slice.last() else { break };
        behind = last.id;
        walked.extend(slice);
    }
    assert_eq!(slices, [4, 2, 0]);
    assert_eq!(walked, expected);
}
