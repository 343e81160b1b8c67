//! Flips and incidents.

use allswell_core::check::{Check, Event, Status};
use allswell_core::flip::{Flip, Reason};
use allswell_core::scope::SystemScope;
use allswell_core::signal::{Cause, Kind};
use allswell_core::time::Timestamp;
use allswell_store::flips::Incident;
use allswell_store::{Error, Store};

use crate::kit::{House, NOW, after, on_each_database, rows};

on_each_database!(
    flips_chain_from_the_first_to_the_last,
    every_reason_comes_back_as_it_was_written,
    a_window_holds_its_start_and_not_its_end,
    an_incident_lasts_from_down_to_up_or_pause,
    a_check_has_one_open_incident_at_most,
    a_number_is_used_once_and_a_flip_changes_the_status,
    charlie_sees_no_flip_of_alice,
    each_flip_moves_the_change_sequence_of_its_project,
);

async fn flips(house: &House<'_>, check: &Check) -> Vec<Flip> {
    let (scope, id) = (house.alice.scope(), check.id);
    house
        .store
        .read(async move |reader| reader.flips(scope, id, 99).await)
        .await
        .expect("flips")
}

async fn incidents(house: &House<'_>, check: &Check) -> Vec<Incident> {
    let (scope, id) = (house.alice.scope(), check.id);
    house
        .store
        .read(async move |reader| reader.incidents(scope, id, 99).await)
        .await
        .expect("incidents")
}

/// Success, silence, success, failure, pause, resume, success, an endless run.
async fn story(house: &mut House<'_>) -> Check {
    let mut check = house.check(house.alice, |_| {}).await;
    let day = 86_400;
    house.ping(&mut check, Kind::Success, b"", after(1)).await;
    house
        .happen(
            &mut check,
            Event::Deadline { absences: [].into() },
            after(2 * day),
        )
        .await;
    house.ping(&mut check, Kind::Success, b"", after(3 * day)).await;
    house.ping(&mut check, Kind::Fail, b"", after(3 * day + 1)).await;
    house.happen(&mut check, Event::Pause, after(3 * day + 2)).await;
    house.happen(&mut check, Event::Resume, after(3 * day + 3)).await;
    house
        .ping(&mut check, Kind::Success, b"", after(3 * day + 4))
        .await;
    house.ping(&mut check, Kind::Start, b"", after(3 * day + 5)).await;
    house
        .happen(
            &mut check,
            Event::Deadline { absences: [].into() },
            after(4 * day),
        )
        .await;
    check
}

async fn flips_chain_from_the_first_to_the_last(store: &Store) {
    let mut house = House::build(store).await;
    let check = story(&mut house).await;
    let mut flips = flips(&house, &check).await;
    flips.reverse();
    assert_eq!(flips.len(), 8);
    let (mut status, mut at) = (Status::New, NOW);
    for (seq, flip) in (1..).zip(&flips) {
        assert_eq!((flip.seq, flip.from), (seq, status));
        assert!(flip.at >= at);
        (status, at) = (flip.to, flip.at);
    }
    let stored = house.read(&check).await.expect("the check").state;
    assert_eq!(
        (stored.status, stored.status_since, stored.flip_count),
        (status, at, 8)
    );
    // The flip of a missed deadline bears the deadline: a day and an hour after the ping, not two days.
    assert_eq!(flips[1].at, after(1 + 86_400 + 3_600));
    assert_eq!(flips[1].expected_at, Some(after(1 + 86_400)));
}

async fn every_reason_comes_back_as_it_was_written(store: &Store) {
    let mut house = House::build(store).await;
    let check = house.check(house.alice, |_| {}).await;
    let causes = [
        Cause::Address,
        Cause::ExitStatus(255),
        Cause::Keyword("“ошибка”\n\"'".to_owned()),
        Cause::NoKeyword,
        Cause::Method,
        Cause::ManualResume,
    ];
    let mut reasons = vec![
        Reason::Timeout {
            last_ping: i64::MIN,
            grace: 60,
            moved_from: None,
        },
        Reason::RunTimeout {
            last_alive: None,
            started: i64::MAX,
            grace: 31_536_000,
            moved_from: None,
        },
        Reason::Paused,
        Reason::Resumed,
    ];
    for (ping, cause) in (1..).zip(causes) {
        reasons.push(Reason::Success {
            ping,
            cause: cause.clone(),
        });
        reasons.push(Reason::Fail { ping, cause });
    }
    let mut written = Vec::new();
    for (seq, reason) in (1..).zip(reasons) {
        let (from, to) = if seq % 2 == 1 {
            (Status::New, Status::Up)
        } else {
            (Status::Up, Status::New)
        };
        let flip = Flip {
            seq,
            from,
            to,
            at: after(seq as i64),
            expected_at: None,
            reason,
        };
        let (check, new) = (check.clone(), flip.clone());
        store
            .write(async move |tx| tx.flip_insert(SystemScope::engine(), &check, &new, NOW).await)
            .await
            .expect("a flip");
        written.insert(0, flip);
    }
    assert_eq!(flips(&house, &check).await, written);
}

async fn a_window_holds_its_start_and_not_its_end(store: &Store) {
    let mut house = House::build(store).await;
    let mut check = house.check(house.alice, |_| {}).await;
    for (secs, kind) in [(1, Kind::Success), (2, Kind::Fail), (3, Kind::Success)] {
        house.ping(&mut check, kind, b"", after(secs)).await;
    }
    let (scope, id) = (house.alice.scope(), check.id);
    for (start, end, seqs) in [
        (1, 3, vec![2, 1]),
        (2, 4, vec![3, 2]),
        (0, 1, vec![]),
        (4, 9, vec![]),
    ] {
        let read = store
            .read(async move |reader| reader.flips_between(scope, id, after(start), after(end)).await)
            .await
            .expect("a window");
        let read: Vec<u64> = read.iter().map(|flip| flip.seq).collect();
        assert_eq!(read, seqs, "{start}..{end}");
    }
}

async fn an_incident_lasts_from_down_to_up_or_pause(store: &Store) {
    let mut house = House::build(store).await;
    let check = story(&mut house).await;
    let day = 86_400;
    let closed = |opened_seq, opened_at: Timestamp, closed_at: Timestamp| Incident {
        opened_seq,
        opened_at,
        closed_seq: Some(opened_seq + 1),
        closed_at: Some(closed_at),
    };
    let open = Incident {
        opened_seq: 8,
        opened_at: after(3 * day + 5 + 3_600),
        closed_seq: None,
        closed_at: None,
    };
    assert_eq!(
        incidents(&house, &check).await,
        [
            open,
            closed(4, after(3 * day + 1), after(3 * day + 2)),
            closed(2, after(1 + day + 3_600), after(3 * day)),
        ]
    );
}

async fn a_check_has_one_open_incident_at_most(store: &Store) {
    let mut house = House::build(store).await;
    let mut check = house.check(house.alice, |_| {}).await;
    let first = house
        .ping(&mut check, Kind::Fail, b"", NOW)
        .await
        .expect("a flip");
    let before = rows(store).await;
    let second = Flip { seq: 2, ..first };
    let id = check.clone();
    let refused = store
        .write(async move |tx| tx.flip_insert(SystemScope::engine(), &id, &second, NOW).await)
        .await;
    assert!(matches!(refused, Err(Error::Conflict(_))), "{refused:?}");
    assert_eq!(rows(store).await, before);

    // Of another check it may be open at the same time.
    let mut other = house.check(house.alice, |_| {}).await;
    house
        .ping(&mut other, Kind::Fail, b"", NOW)
        .await
        .expect("a flip");
    assert_eq!(rows(store).await["incidents"], 2);
    house
        .ping(&mut other, Kind::Success, b"", NOW)
        .await
        .expect("a flip");
    assert_eq!(incidents(&house, &check).await[0].closed_at, None);
    assert_eq!(incidents(&house, &other).await[0].closed_at, Some(NOW));
}

async fn a_number_is_used_once_and_a_flip_changes_the_status(store: &Store) {
    let mut house = House::build(store).await;
    let mut check = house.check(house.alice, |_| {}).await;
    let first = house
        .ping(&mut check, Kind::Success, b"", NOW)
        .await
        .expect("a flip");
    let again = first.clone();
    let still = Flip {
        seq: 2,
        from: Status::Up,
        to: Status::Up,
        ..first.clone()
    };
    for wrong in [again, still] {
        let check = check.clone();
        let refused = store
            .write(async move |tx| tx.flip_insert(SystemScope::engine(), &check, &wrong, NOW).await)
            .await;
        assert!(matches!(refused, Err(Error::Conflict(_))), "{refused:?}");
    }
    assert_eq!(flips(&house, &check).await, [first]);
}

async fn charlie_sees_no_flip_of_alice(store: &Store) {
    let mut house = House::build(store).await;
    let check = story(&mut house).await;
    let (scope, id) = (house.charlie.scope(), check.id);
    let seen = store
        .read(async move |reader| {
            Ok::<_, Error>((
                reader.flips(scope, id, 9).await?.len(),
                reader
                    .flips_between(scope, id, NOW, after(1_000_000))
                    .await?
                    .len(),
                reader.incidents(scope, id, 9).await?.len(),
            ))
        })
        .await;
    assert_eq!(seen.expect("reads"), (0, 0, 0));
}

async fn each_flip_moves_the_change_sequence_of_its_project(store: &Store) {
    let mut house = House::build(store).await;
    let next = async |house: &House<'_>, who: usize| {
        let scope = [house.alice, house.bob][who].scope();
        house
            .store
            .write(async move |tx| tx.change_next(scope).await)
            .await
            .expect("a number")
    };
    let (alice, bob) = (next(&house, 0).await, next(&house, 1).await);
    let mut check = house.check(house.alice, |_| {}).await;
    house
        .ping(&mut check, Kind::Success, b"", NOW)
        .await
        .expect("a flip");
    house.ping(&mut check, Kind::Success, b"", NOW).await;
    assert_eq!(
        next(&house, 0).await,
        alice + 3,
        "a new check, its flip, and this look"
    );
    assert_eq!(next(&house, 1).await, bob + 1);
}
