//! Checks that fall silent.

use allswell_core::check::{Check, Event, Status};
use allswell_core::flip::Reason;
use allswell_core::id::CheckId;
use allswell_core::schedule::Zones;
use allswell_core::signal::Action;
use allswell_core::time::{Span, Timestamp};
use allswell_engine::Due;
use allswell_engine::ingest::Arrival;
use allswell_engine::loops::Step;
use allswell_engine::pending::Pending;
use allswell_engine::sweep::Sweep;
use allswell_store::{Error, Tx};
use allswell_testkit::Cluster;

use crate::kit::{House, Log, NOW, SILENCE_SECS, after, gather, happen, settle, to};

/// Checks that one transaction looks at.
const BATCH: usize = 500;
/// Seconds between two marks that a node is awake.
const MARK_SECS: i64 = 15;

/// With nothing nearer to come, a sweep at this second is due again with its next mark.
fn idle(secs: i64) -> Due {
    Due::At(after(secs + MARK_SECS))
}

fn sweep(house: &mut House) -> Sweep {
    sweep_behind(house, Pending::default())
}

/// A sweep that knows of the pings that wait.
fn sweep_behind(house: &mut House, pending: Pending) -> Sweep {
    let dice = house.dice.fork();
    Sweep::new(
        house.store.clone(),
        house.dice.id(),
        dice,
        Zones::Bundled,
        pending,
        house.deliver.clone(),
        house.meters.clone(),
    )
}

/// A sweep of a node beside others, which says at this instant that it is awake.
async fn sweep_beside_others(house: &mut House, at: Timestamp) -> Sweep {
    let sweep = sweep(house).beside_others(|| at).await;
    sweep.expect("a mark")
}

/// A check that was up at `NOW` and wakes the sweep at this instant.
async fn up(house: &mut House, deadline: Timestamp) -> CheckId {
    let change = |check: &mut Check| {
        check.state.status = Status::Up;
        check.state.last_ping = Some(NOW);
        check.state.ping_count = 1;
        check.settings.timing.period = (deadline - Span::from_secs(60)) - NOW;
        check.settings.grace = Span::from_secs(60);
        check.deadline = Some(deadline);
    };
    house.check(change).await
}

/// However late the sweep looks: at the instant, an hour late, a year late.
#[tokio::test]
async fn a_flip_bears_the_deadline_and_not_the_instant_of_the_sweep() {
    for late in [0, 3_600, 31_536_000] {
        let mut house = House::in_memory().await;
        let id = house.check(|_| {}).await;
        house.ping(id, Action::Success, NOW).await.expect("a ping");
        let sweep = sweep(&mut house);
        let (due, _) = settle(&sweep, after(SILENCE_SECS + late)).await;
        assert_eq!(due, idle(SILENCE_SECS + late));
        let flips = house.flips(id).await;
        assert_eq!(flips.len(), 2);
        assert_eq!((flips[0].from, flips[0].to), (Status::Up, Status::Down));
        assert_eq!(flips[0].at, after(SILENCE_SECS), "{late} seconds late");
        assert_eq!(flips[0].expected_at, Some(after(86_400)));
        assert_eq!(
            flips[0].reason,
            Reason::Timeout {
                last_ping: NOW.as_micros(),
                grace: 3_600,
                moved_from: None
            }
        );
        let check = house.read(id).await;
        assert_eq!((check.state.status, check.deadline), (Status::Down, None));
        assert_eq!(check.state.status_since, after(SILENCE_SECS));
    }
}

#[tokio::test]
async fn a_run_without_an_end_takes_its_check_down() {
    let mut house = House::in_memory().await;
    let id = house.check(|_| {}).await;
    house.ping(id, Action::Start, NOW).await.expect("a ping");
    let sweep = sweep(&mut house);
    assert_eq!(settle(&sweep, after(3_599)).await.0, Due::At(after(3_600)));
    house.stay_awake(after(3_599), after(9_999)).await;
    assert_eq!(settle(&sweep, after(9_999)).await.0, idle(9_999));
    let flips = house.flips(id).await;
    assert_eq!((flips.len(), flips[0].at), (1, after(3_600)));
    assert_eq!(
        flips[0].reason,
        Reason::RunTimeout {
            last_alive: None,
            started: NOW.as_micros(),
            grace: 3_600,
            moved_from: None
        }
    );
}

#[tokio::test]
async fn a_silence_is_found_once() {
    let mut house = House::in_memory().await;
    let id = up(&mut house, after(100)).await;
    let (first, second) = (sweep(&mut house), sweep(&mut house));
    for now in [99, 100, 100, 101, 9_999] {
        settle(&first, after(now)).await;
        settle(&second, after(now)).await;
        assert_eq!(house.flips(id).await.len(), usize::from(now >= 100), "{now}");
    }
    assert_eq!(
        (
            house.count("incidents").await,
            house.metric("checks_missed_total")
        ),
        (1, 1.0)
    );
}

#[tokio::test]
async fn a_ping_in_between_moves_the_sweep_on_without_a_flip() {
    let mut house = House::in_memory().await;
    let id = house.check(|_| {}).await;
    house.ping(id, Action::Success, NOW).await.expect("a ping");
    house
        .ping(id, Action::Success, after(1_000))
        .await
        .expect("a ping");
    assert_eq!(
        house.read(id).await.deadline,
        Some(after(SILENCE_SECS)),
        "the index was left alone"
    );
    let sweep = sweep(&mut house);
    let due = sweep.step(after(SILENCE_SECS)).await.expect("a step");
    assert_eq!(due, idle(SILENCE_SECS));
    let check = house.read(id).await;
    assert_eq!(
        (check.state.status, check.deadline),
        (Status::Up, Some(after(SILENCE_SECS + 1_000)))
    );
    assert_eq!(house.flips(id).await.len(), 1, "the one to up");
    house
        .stay_awake(after(SILENCE_SECS), after(SILENCE_SECS + 999))
        .await;
    assert_eq!(
        settle(&sweep, after(SILENCE_SECS + 999)).await.0,
        Due::At(after(SILENCE_SECS + 1_000)),
        "the deadline comes before the next mark"
    );
    assert_eq!(house.flips(id).await.len(), 1);
    assert_eq!(
        settle(&sweep, after(SILENCE_SECS + 1_000)).await.0,
        idle(SILENCE_SECS + 1_000)
    );
    assert_eq!(house.flips(id).await.len(), 2);
}

#[tokio::test]
async fn a_storm_is_finished_in_several_steps() {
    let mut house = House::in_memory().await;
    let mut ids = Vec::new();
    for i in 0..2 * BATCH + 50 {
        ids.push(up(&mut house, after(100 + i as i64)).await);
    }
    let sweep = sweep(&mut house);
    let mut dues = Vec::new();
    for _ in 0..4 {
        dues.push(sweep.step(after(10_000)).await.expect("a step"));
    }
    assert_eq!(dues, [Due::Now, Due::Now, idle(10_000), idle(10_000)]);
    for (i, id) in (0..).zip(ids) {
        let flips = house.flips(id).await;
        assert_eq!((flips.len(), flips[0].at), (1, after(100 + i)));
    }
    assert_eq!(house.metric("checks_missed_total"), (2 * BATCH + 50) as f64);
}

#[tokio::test]
async fn paused_deleted_new_and_down_checks_stay_as_they_are() {
    let mut house = House::in_memory().await;
    let [paused, deleted, down] = [
        up(&mut house, after(100)).await,
        up(&mut house, after(100)).await,
        up(&mut house, after(100)).await,
    ];
    let new = house.check(|_| {}).await;
    happen(&house, paused, Event::Pause, after(1)).await;
    house.ping(down, Action::Fail, after(1)).await.expect("a ping");
    let scope = house.scope();
    let delete = house
        .store
        .write(async move |tx| tx.check_delete(scope, deleted, after(1)).await);
    assert!(delete.await.expect("a delete"));
    let before = (
        house.count("flips").await,
        house.read(paused).await,
        house.read(new).await,
    );
    let sweep = sweep(&mut house);
    assert_eq!(settle(&sweep, after(999_999)).await, (idle(999_999), 1));
    assert_eq!(
        (
            house.count("flips").await,
            house.read(paused).await,
            house.read(new).await
        ),
        before
    );
    assert_eq!(house.metric("checks_missed_total"), 0.0);
}

#[tokio::test]
async fn a_silence_is_told_once_to_each_channel_that_sends() {
    let mut house = House::on_disk().await;
    let id = up(&mut house, after(100)).await;
    let both = house.channel("log", true, true).await;
    let down = house.channel("log", true, false).await;
    let others = [
        house.channel("log", false, true).await,
        house.channel("silent", false, false).await,
        house.channel("log", true, true).await,
        house.channel("log", true, true).await,
    ];
    house
        .tell(
            id,
            &[&both, &down, &others[0], &others[1], &others[2], &others[3]],
        )
        .await;
    house.channel("log", true, true).await;
    for (column, channel) in [("disabled_at", &others[2]), ("deleted_at", &others[3])] {
        let sql = format!("update channels set {column} = 1 where id = ?1");
        assert_eq!(
            house
                .raw()
                .execute(&sql, [channel.id.as_uuid_bytes()])
                .expect("a change"),
            1
        );
    }
    let sweep = sweep(&mut house);
    for _ in 0..3 {
        settle(&sweep, after(200)).await;
    }
    let mut told: Vec<_> = house
        .deliveries(id)
        .await
        .iter()
        .map(|d| (d.channel, d.flip_seq))
        .collect();
    let mut expected = [(both.id, 1), (down.id, 1)];
    told.sort_unstable();
    expected.sort_unstable();
    assert_eq!(told, expected);
    let nudged = tokio::time::timeout(std::time::Duration::ZERO, house.deliver.notified());
    assert!(nudged.await.is_ok());
}

#[tokio::test]
async fn a_schedule_that_cannot_be_computed_is_put_off_and_logged() {
    let mut house = House::on_disk().await;
    let [broken, fine] = [up(&mut house, after(100)).await, up(&mut house, after(100)).await];
    let sql = "update checks set timing_kind = 1, expression = 'nonsense' where id = ?1";
    assert_eq!(
        house
            .raw()
            .execute(sql, [broken.as_uuid_bytes()])
            .expect("a change"),
        1
    );
    let (log, _guard) = Log::listen();
    let sweep = sweep(&mut house);
    let due = sweep.step(after(200)).await.expect("a step");
    assert_eq!(due, idle(200));
    assert_eq!(house.flips(broken).await, []);
    let check = house.read(broken).await;
    assert_eq!(
        (check.state.status, check.deadline),
        (Status::Up, Some(after(200 + 3_600)))
    );
    assert_eq!(house.flips(fine).await.len(), 1);
    let lines = log.lines_with("cannot be computed");
    assert_eq!(lines.len(), 1);
    assert!(
        lines[0].starts_with("ERROR") && lines[0].contains(&broken.to_string()),
        "{lines:?}"
    );
    assert_eq!(log.lines_with(&format!("INFO check {fine} went down")).len(), 1);
}

/// The wake-up of a row that cannot be read as a check.
fn stored_wake_up(house: &House, id: CheckId) -> Timestamp {
    let sql = "select deadline from checks where id = ?1";
    house
        .raw()
        .query_row(sql, [id.as_uuid_bytes()], |row| row.get(0))
        .map(Timestamp::from_micros)
        .expect("a deadline")
}

/// Rows as no program of ours leaves them. Silence of the others must be found all the same, now and later.
#[tokio::test]
async fn a_row_that_breaks_the_sweep_is_put_off_alone() {
    for damage in [
        "update checks set status = 9 where id = ?1",
        "update checks set flip_count = 0, status = 1 where id = ?1",
    ] {
        let mut house = House::on_disk().await;
        let broken = up(&mut house, after(100)).await;
        house.ping(broken, Action::Fail, NOW).await.expect("a ping");
        house.ping(broken, Action::Success, NOW).await.expect("a ping");
        let mut others = Vec::new();
        for _ in 0..5 {
            others.push(up(&mut house, after(150)).await);
        }
        assert_eq!(
            house
                .raw()
                .execute(damage, [broken.as_uuid_bytes()])
                .expect("damage"),
            1
        );
        let flips = house.count("flips").await;
        let (log, _guard) = Log::listen();
        let sweep = sweep(&mut house);
        assert_eq!(settle(&sweep, after(200)).await.0, idle(200), "{damage}");
        assert_eq!(stored_wake_up(&house, broken), after(200 + 3_600), "{damage}");
        for id in others {
            assert_eq!(house.read(id).await.state.status, Status::Down);
        }
        assert_eq!(house.count("flips").await, flips + 5);
        let lines = log.lines_with("cannot be swept");
        assert!(
            lines.len() == 1 && lines[0].contains(&broken.to_string()),
            "{lines:?}"
        );
        house.stay_awake(after(200), after(200 + 3_600)).await;
        assert_eq!(settle(&sweep, after(200 + 3_600)).await.0, idle(200 + 3_600));
        assert_eq!(stored_wake_up(&house, broken), after(200 + 7_200), "{damage}");
    }
}

#[tokio::test]
async fn a_sweep_says_when_it_is_due_and_writes_nothing_before() {
    let mut house = House::on_disk().await;
    let sweep = sweep(&mut house);
    let raw = house.raw();
    assert_eq!(sweep.step(NOW).await.expect("a step"), idle(0));
    up(&mut house, after(200)).await;
    up(&mut house, after(100)).await;
    for now in [15, 30, 45, 60, 75] {
        assert_eq!(sweep.step(after(now)).await.expect("a step"), idle(now));
    }
    assert_eq!(sweep.step(after(90)).await.expect("a step"), Due::At(after(100)));
    // Held by another program: a sweep that begins a write has to wait, and fails.
    raw.execute_batch("begin immediate")
        .expect("the database is taken");
    for now in [90, 95, 99] {
        assert_eq!(sweep.step(after(now)).await.expect("a step"), Due::At(after(100)));
    }
    raw.execute_batch("commit").expect("the database is free");
    assert_eq!(sweep.step(after(100)).await.expect("a step"), idle(100));
    house.stay_awake(after(100), after(190)).await;
    assert_eq!(sweep.step(after(190)).await.expect("a step"), Due::At(after(200)));
    assert_eq!(sweep.step(after(200)).await.expect("a step"), idle(200));
    assert_eq!(house.count("flips").await, 2);
}

/// Between two marks, an idle server writes nothing at all.
#[tokio::test]
async fn an_idle_sweep_writes_one_mark_in_fifteen_seconds() {
    let mut house = House::on_disk().await;
    let sweep = sweep(&mut house);
    let raw = house.raw();
    let (mut version, mut written) = (House::data_version(&raw), Vec::new());
    for now in 0..=45 {
        let due = sweep.step(after(now)).await.expect("a step");
        assert_eq!(due, idle(now - now % MARK_SECS), "{now}");
        let after = House::data_version(&raw);
        if after != version {
            written.push(now);
        }
        version = after;
    }
    assert_eq!(written, [0, 15, 30, 45]);
    assert_eq!(
        (house.count("awake").await, house.count("absences").await),
        (1, 0)
    );
}

#[tokio::test]
async fn a_sweep_on_a_database_that_is_away_is_an_error_and_changes_nothing() {
    let mut house = House::on_disk().await;
    let id = up(&mut house, after(100)).await;
    house
        .raw()
        .execute_batch("alter table checks rename to elsewhere")
        .expect("a change");
    let sweep = sweep(&mut house);
    let failed = sweep.step(after(200)).await;
    assert!(matches!(failed, Err(Error::Internal(_))), "{failed:?}");
    house
        .raw()
        .execute_batch("alter table elsewhere rename to checks")
        .expect("a change");
    assert_eq!(house.read(id).await.state.status, Status::Up);
    assert_eq!(settle(&sweep, after(200)).await.0, idle(200));
    assert_eq!(house.flips(id).await.len(), 1);
}

/// The commit is slow: the deadline passes while a ping that came before it waits. It was in time, and nobody is woken.
#[tokio::test]
async fn a_ping_that_came_in_time_and_still_waits_is_not_silence() {
    let mut house = House::in_memory().await;
    let id = up(&mut house, after(100)).await;
    let (inbox, ingest) = house.ingest(1, 1);
    let sweep = sweep_behind(&mut house, inbox.pending());
    let puts = gather(
        &inbox,
        vec![Arrival {
            at: after(99),
            ..to(id)
        }],
    )
    .await;
    let due = sweep.step(after(130)).await.expect("a step");
    assert!(
        matches!(due, Due::At(at) if at <= after(131)),
        "it looks again soon: {due:?}"
    );
    assert!(house.flips(id).await.is_empty());

    drop(inbox);
    ingest.run(|| NOW).await;
    for put in puts {
        put.await.expect("an answer").expect("stored");
    }
    settle(&sweep, after(131)).await;
    assert_eq!(
        (house.read(id).await.state.status, house.flips(id).await.len()),
        (Status::Up, 0)
    );
}

/// A ping that waits at another node is not known here, and is no later for it.
#[tokio::test]
async fn beside_others_a_deadline_waits_a_second_for_their_pings() {
    let mut house = House::in_memory().await;
    let (met, missed) = (up(&mut house, after(100)).await, up(&mut house, after(100)).await);
    let sweep = sweep_beside_others(&mut house, NOW).await;
    let second = Span::from_secs(1);
    house.stay_awake(NOW, after(100)).await;
    let (due, _) = settle(&sweep, after(100)).await;
    assert_eq!(due, Due::At(after(101)));
    let almost = after(101) - Span::from_micros(1);
    settle(&sweep, almost).await;
    assert!(house.flips(met).await.is_empty() && house.flips(missed).await.is_empty());

    // It came in time, and its commit comes now.
    house
        .ping(met, Action::Success, after(100) - second)
        .await
        .expect("a ping");
    settle(&sweep, after(101)).await;
    assert!(house.flips(met).await.is_empty());
    let flips = house.flips(missed).await;
    assert_eq!((flips.len(), flips[0].at), (1, after(100)));
}

/// Nobody else can have a ping that waits, so nobody waits for it: an alert is no later for what might be.
#[tokio::test]
async fn alone_on_a_database_for_several_a_deadline_waits_for_nobody() {
    const HOUR: i64 = 3_600;
    let mut house = House::in_memory().await;
    let id = up(&mut house, after(HOUR + 1)).await;
    // It hung, or was killed: nothing was heard of it for an hour.
    sweep_beside_others(&mut house, NOW).await;
    let sweep = sweep_beside_others(&mut house, NOW).await;
    for secs in (0..HOUR).step_by(50) {
        settle(&sweep, after(secs)).await;
    }
    assert_eq!(settle(&sweep, after(HOUR - 1)).await.0, Due::At(after(HOUR + 2)));
    assert_eq!(settle(&sweep, after(HOUR)).await.0, Due::At(after(HOUR + 1)));
    settle(&sweep, after(HOUR + 1)).await;
    assert_eq!(house.flips(id).await.len(), 1);
}

/// The client of a ping in time goes away before the commit. Its ping waits all the same.
#[tokio::test]
async fn a_ping_that_still_waits_is_not_silence_though_its_client_went_away() {
    let mut house = House::in_memory().await;
    let id = up(&mut house, after(100)).await;
    let (inbox, ingest) = house.ingest(1, 1);
    let sweep = sweep_behind(&mut house, inbox.pending());
    let arrival = Arrival {
        at: after(99),
        ..to(id)
    };
    for put in gather(&inbox, vec![arrival]).await {
        put.abort();
        assert!(put.await.is_err_and(|gone| gone.is_cancelled()));
    }
    sweep.step(after(130)).await.expect("a step");
    assert!(house.flips(id).await.is_empty());

    drop(inbox);
    ingest.run(|| NOW).await;
    settle(&sweep, after(131)).await;
    assert_eq!(
        (house.read(id).await.state.status, house.flips(id).await.len()),
        (Status::Up, 0)
    );
}

/// Somebody may hold it for as long as he likes.
#[tokio::test]
async fn a_check_that_is_due_and_taken_by_another_is_left_alone_for_a_moment() {
    let (mut house, _) = House::on_postgres().await;
    let id = up(&mut house, after(120)).await;
    let sweep = sweep(&mut house);
    let (taken, until_taken) = tokio::sync::oneshot::channel();
    let (release, released) = tokio::sync::oneshot::channel::<()>();
    let (store, scope) = (house.store.clone(), house.scope());
    let holder = tokio::spawn(async move {
        let hold = async move |tx: &mut Tx<'_>| {
            tx.check_lock(scope, id).await?;
            let _ = taken.send(());
            let _ = released.await;
            Ok::<_, Error>(())
        };
        store.write(hold).await
    });
    until_taken.await.expect("it is taken");
    let due = sweep.step(after(121)).await.expect("a sweep");
    assert_eq!(due, Due::At(after(121) + Span::from_millis(100)));
    release.send(()).expect("the holder waits");
    holder.await.expect("a task").expect("a hold");
    sweep.step(after(122)).await.expect("a sweep");
    assert_eq!(house.read(id).await.state.status, Status::Down);
}

/// As when the server found that the sweep and an edit waited for each other.
#[tokio::test]
async fn a_sweep_that_the_database_breaks_off_because_of_another_is_done_again_at_once() {
    let (mut house, name) = House::on_postgres().await;
    let id = up(&mut house, after(120)).await;
    let sweep = sweep(&mut house);
    let collide = "create function collide() returns trigger language plpgsql as
        $$ begin raise exception 'deadlock detected' using errcode = '40P01'; end $$;
        create trigger collide before update on checks for each row execute function collide()";
    Cluster::shared().run(&name, collide).await;
    assert_eq!(sweep.step(after(121)).await.expect("a sweep"), Due::Now);
    assert_eq!(
        house.read(id).await.deadline,
        Some(after(120)),
        "it is not put off"
    );
    Cluster::shared()
        .run(&name, "drop trigger collide on checks")
        .await;
    sweep.step(after(121)).await.expect("a sweep");
    let flips = house.flips(id).await;
    assert_eq!((flips[0].to, flips[0].at), (Status::Down, after(120)));
}
