//! Pauses that end by themselves, and runs that say that they still run.

use allswell_core::check::{Event, Status, TimingKind};
use allswell_core::flip::Reason;
use allswell_core::id::CheckId;
use allswell_core::schedule::Zones;
use allswell_core::signal::{Action, Kind};
use allswell_core::time::{Span, Timestamp};
use allswell_engine::Due;
use allswell_engine::pending::Pending;
use allswell_engine::record;
use allswell_engine::sweep::Sweep;
use allswell_store::feed::What;
use allswell_store::{Error, Tx};

use crate::kit::{House, NOW, SYSTEM, after, settle};

fn sweep(house: &mut House) -> Sweep {
    Sweep::new(
        house.store.clone(),
        house.dice.id(),
        house.dice.fork(),
        Zones::Bundled,
        Pending::default(),
        house.deliver.clone(),
        house.meters.clone(),
    )
}

async fn happen(house: &mut House, id: CheckId, event: Event, now: Timestamp) {
    let mut dice = house.dice.fork();
    house
        .store
        .write(async move |tx: &mut Tx<'_>| {
            let mut check = tx.check_any(SYSTEM, id).await?.expect("the check");
            record::apply_and_save(tx, &mut check, event, now, &mut dice, &Zones::Bundled).await?;
            Ok::<_, Error>(())
        })
        .await
        .expect("an event");
}

/// What the sweep does by this instant, awake since `from`.
async fn look(house: &mut House, sweep: &Sweep, from: i64, to: i64) -> Due {
    house.stay_awake(after(from), after(to)).await;
    settle(sweep, after(to)).await.0
}

/// The number of the project's last change of a check that no flip tells of, behind this one.
async fn edits_behind(house: &House, seen: i64) -> Vec<i64> {
    let scope = house.scope();
    let (changes, _) = house
        .store
        .read(async move |reader| reader.changes(scope, seen, 100).await)
        .await
        .expect("changes");
    let edits = changes
        .iter()
        .filter(|change| matches!(change.what, What::Check(_)));
    edits.map(|change| change.seq).collect()
}

#[tokio::test]
async fn a_pause_that_ends_at_another_time_is_told_to_those_who_listen() {
    let mut house = House::in_memory().await;
    let id = timed(&mut house).await;
    let until = |secs| Event::PauseUntil(after(secs));
    let mut seen = edits_behind(&house, 0).await.into_iter().max().unwrap_or(0);
    for (event, told, why) in [
        (until(5_000), 0, "the flip tells"),
        (until(6_000), 1, "another end"),
        (until(6_000), 0, "the same end"),
        (Event::Pause, 1, "no end"),
        (Event::Pause, 0, "as it was"),
        (Event::Resume, 0, "the flip tells"),
    ] {
        happen(&mut house, id, event, after(10)).await;
        let edits = edits_behind(&house, seen).await;
        assert_eq!(edits.len(), told, "{why}");
        seen = edits.into_iter().max().unwrap_or(seen);
    }
}

async fn timed(house: &mut House) -> CheckId {
    house
        .check(|check| {
            check.settings.timing.period = Span::from_secs(600);
            check.settings.grace = Span::from_secs(60);
        })
        .await
}

async fn path(house: &House, id: CheckId) -> Vec<(Status, Timestamp)> {
    house
        .flips(id)
        .await
        .iter()
        .map(|flip| (flip.to, flip.at))
        .collect()
}

#[tokio::test]
async fn a_pause_ends_at_its_instant_and_a_silent_morning_is_noticed() {
    let mut house = House::in_memory().await;
    let id = timed(&mut house).await;
    house.ping(id, Action::Success, after(0)).await.expect("a ping");
    happen(&mut house, id, Event::PauseUntil(after(5_000)), after(10)).await;
    let sweep = sweep(&mut house);
    let due = look(&mut house, &sweep, 0, 4_999).await;
    assert!(matches!(due, Due::At(at) if at <= after(5_000)), "{due:?}");
    assert_eq!(house.read(id).await.state.status, Status::Paused);
    look(&mut house, &sweep, 4_999, 5_000).await;
    let paused = vec![(Status::Paused, after(10)), (Status::Up, after(0))];
    let over = [vec![(Status::New, after(5_000))], paused].concat();
    assert_eq!(path(&house, id).await, over);
    look(&mut house, &sweep, 5_000, 5_659).await;
    assert_eq!(path(&house, id).await, over, "not yet");
    look(&mut house, &sweep, 5_659, 5_700).await;
    assert_eq!(
        path(&house, id).await,
        [vec![(Status::Down, after(5_660))], over].concat()
    );
    // The end of the pause is no silence.
    assert_eq!(house.metric("checks_missed_total"), 1.0);
    let reason = house.flips(id).await.remove(0).reason;
    assert!(matches!(reason, Reason::SilentAfterPause { .. }), "{reason:?}");
}

#[tokio::test]
async fn a_pause_ends_also_where_the_zone_is_not_known_any_more() {
    let mut house = House::in_memory().await;
    let id = house
        .check(|check| {
            check.settings.timing.kind = TimingKind::Expression;
            check.settings.timing.expression = "0 12 * * *".to_owned();
            check.settings.timing.zone = "Nowhere/Lost".to_owned();
        })
        .await;
    happen(&mut house, id, Event::PauseUntil(after(5_000)), after(10)).await;
    let sweep = sweep(&mut house);
    look(&mut house, &sweep, 0, 5_000).await;
    let over = vec![(Status::New, after(5_000)), (Status::Paused, after(10))];
    assert_eq!(path(&house, id).await, over);
    let check = house.read(id).await;
    assert_eq!(check.deadline, Some(after(5_000) + record::POSTPONED));
    // What it is expected by cannot be known: it is looked at again, and nothing is held against it.
    look(&mut house, &sweep, 5_000, 20_000).await;
    assert_eq!(path(&house, id).await, over);
}

#[tokio::test]
async fn a_ping_ends_a_pause_before_its_instant() {
    let mut house = House::in_memory().await;
    let id = timed(&mut house).await;
    happen(&mut house, id, Event::PauseUntil(after(5_000)), after(10)).await;
    house
        .ping(id, Action::Success, after(4_900))
        .await
        .expect("a ping");
    let sweep = sweep(&mut house);
    look(&mut house, &sweep, 0, 5_100).await;
    let check = house.read(id).await;
    assert_eq!((check.state.status, check.state.paused_until), (Status::Up, None));
    assert_eq!(
        check.deadline,
        Some(after(5_560)),
        "the sweep waits for the next ping"
    );
}

#[tokio::test]
async fn a_run_that_says_that_it_lives_stays_up_and_one_that_falls_silent_does_not() {
    let mut house = House::in_memory().await;
    let id = timed(&mut house).await;
    for (secs, action) in [(0, Action::Success), (590, Action::Start)] {
        house.ping(id, action, after(secs)).await.expect("a ping");
    }
    let sweep = sweep(&mut house);
    house.stay_awake(NOW, after(619)).await;
    for secs in (620..2_000).step_by(30) {
        house.ping(id, Action::Alive, after(secs)).await.expect("a ping");
        look(&mut house, &sweep, secs, secs + 29).await;
        assert_eq!(house.read(id).await.state.status, Status::Up, "{secs}");
    }
    let state = house.read(id).await.state;
    assert_eq!(
        (state.last_ping, state.last_success),
        (Some(after(0)), Some(after(0)))
    );
    look(&mut house, &sweep, 1_999, 3_000).await;
    let down = house.flips(id).await.remove(0);
    assert_eq!((down.to, down.at), (Status::Down, after(1_970 + 60)));
    assert!(
        matches!(
            down.reason,
            Reason::RunTimeout {
                last_alive: Some(_),
                ..
            }
        ),
        "{down:?}"
    );
    let kinds: Vec<Kind> = house.log(id).await.iter().map(|(ping, _)| ping.kind).collect();
    assert_eq!(kinds, [Kind::Success, Kind::Start, Kind::Alive]);
}
