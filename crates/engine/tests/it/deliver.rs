//! Promises that are kept.

use std::sync::{Arc, Mutex};

use allswell_core::delivery::Class;
use allswell_core::id::CheckId;
use allswell_core::signal::Action;
use allswell_core::time::Span;
use allswell_engine::Due;
use allswell_engine::deliver::Deliver;
use allswell_engine::ingest::Arrival;
use allswell_engine::loops::Step;
use allswell_store::outbox::Wanted;

use crate::kit::{House, Log, NOW, SYSTEM, after, settle, to};
use crate::script::{Script, deliver_with, quiet};

const LEASE_SECS: i64 = 60;
const DAY_SECS: i64 = 86_400;

/// Delivers for a house whose channels call nobody.
fn deliver(house: &mut House) -> Deliver<Script> {
    deliver_with(house, &Script::default(), Default::default())
}

/// A check that failed at `NOW` and owes one delivery to a channel of this kind.
async fn failed(house: &mut House, kind: &str) -> CheckId {
    let id = house
        .check(|check| check.settings.name = "backup\n\u{1b}[2J".to_owned())
        .await;
    let channel = house.channel(kind, true, true).await;
    house.tell(id, &[&channel]).await;
    house.ping(id, Action::Fail, NOW).await.expect("a ping");
    id
}

/// State, attempts and outcome of the one delivery of a check.
async fn end(house: &House, id: CheckId) -> (String, u64, Option<String>) {
    let mut deliveries = house.deliveries(id).await;
    assert_eq!(deliveries.len(), 1);
    let delivery = deliveries.remove(0);
    (delivery.state, delivery.attempts, delivery.last_outcome)
}

fn ended(state: &str, outcome: &str) -> (String, u64, Option<String>) {
    (state.to_owned(), 1, Some(outcome.to_owned()))
}

/// Ended without an attempt.
fn untried(state: &str, outcome: &str) -> (String, u64, Option<String>) {
    (state.to_owned(), 0, Some(outcome.to_owned()))
}

#[tokio::test]
async fn a_log_channel_writes_a_line_and_its_delivery_ends_delivered() {
    let mut house = House::in_memory().await;
    let id = failed(&mut house, "log").await;
    let (log, _guard) = Log::listen();
    let deliver = deliver(&mut house);
    assert_eq!(settle(&deliver, after(5)).await.0, Due::WhenNudged);
    assert_eq!(end(&house, id).await, ended("delivered", "written to the log"));
    assert_eq!(house.deliveries(id).await[0].finished_at, Some(after(5)));
    let lines = log.lines_with(&id.to_string());
    assert_eq!(lines.len(), 1);
    assert!(
        lines[0].starts_with("WARN") && lines[0].contains("is DOWN"),
        "{lines:?}"
    );
    assert!(!lines[0].contains(['\n', '\u{1b}']), "{lines:?}");
    assert_eq!(house.count("attempts").await, 1);
    assert_eq!(house.metric("deliveries_total{outcome=\"delivered\"}"), 1.0);

    settle(&deliver, after(500)).await;
    assert_eq!(
        (
            house.count("attempts").await,
            log.lines_with(&id.to_string()).len()
        ),
        (1, 1),
        "once is enough"
    );
}

#[tokio::test]
async fn a_delivery_that_can_tell_nothing_ends_cancelled() {
    for (kind, outcome) in [
        ("silent", "this kind sends nothing"),
        ("pigeon", "a kind this version does not know"),
    ] {
        let mut house = House::in_memory().await;
        let id = failed(&mut house, kind).await;
        let deliver = deliver(&mut house);
        assert_eq!(settle(&deliver, NOW).await.0, Due::WhenNudged);
        assert_eq!(end(&house, id).await, untried("cancelled", outcome));
        assert_eq!(house.count("attempts").await, 0);
    }
}

/// What was deleted between the promise and its keeping: marked or gone altogether.
#[tokio::test]
async fn a_delivery_whose_check_or_channel_is_gone_ends_cancelled() {
    for (removal, why) in [
        ("update channels set deleted_at = 1", "the channel is gone"),
        ("delete from channels", "the channel is gone"),
        (
            "update checks set deleted_at = 1, deadline = null",
            "the check is gone",
        ),
        ("delete from checks", "the check is gone"),
        ("delete from flips", "the check is gone"),
    ] {
        let mut house = House::on_disk().await;
        failed(&mut house, "log").await;
        assert_eq!(house.raw().execute(removal, []).expect("a removal"), 1);
        let (log, _guard) = Log::listen();
        let deliver = deliver(&mut house);
        assert_eq!(settle(&deliver, NOW).await.0, Due::WhenNudged);
        let state: (String, String) = house
            .raw()
            .query_row("select state, last_outcome from deliveries", [], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })
            .expect("the delivery");
        assert_eq!(state, ("cancelled".to_owned(), why.to_owned()), "{removal}");
        assert_eq!(log.lines_with("is DOWN").len(), 0);
    }
}

#[tokio::test]
async fn a_delivery_expires_a_day_after_its_flip_was_noticed() {
    for (secs, end_of_it) in [
        (DAY_SECS - 1, ended("delivered", "written to the log")),
        (DAY_SECS, untried("expired", "expired")),
        (DAY_SECS * 30, untried("expired", "expired")),
    ] {
        let mut house = House::in_memory().await;
        let id = failed(&mut house, "log").await;
        let (log, _guard) = Log::listen();
        let deliver = deliver(&mut house);
        settle(&deliver, after(secs)).await;
        assert_eq!(
            log.lines_with("is DOWN").len(),
            usize::from(end_of_it.0 == "delivered")
        );
        assert_eq!(end(&house, id).await, end_of_it);
    }
}

/// A process that died after its claim: nobody touches the delivery while the lease lasts, then somebody does.
#[tokio::test]
async fn a_lapsed_lease_is_taken_up_again() {
    let mut house = House::in_memory().await;
    let id = failed(&mut house, "log").await;
    let dead = house.dice.id();
    let lease = Span::from_secs(LEASE_SECS);
    let wanted = Wanted {
        class: Class::Alert,
        project: house.project,
        channel: house.deliveries(id).await[0].channel,
        limit: 9,
        attempts_below: u64::MAX,
    };
    let claim = house
        .store
        .write(async move |tx| tx.deliveries_claim(SYSTEM, &wanted, NOW, dead, lease).await);
    assert_eq!(claim.await.expect("a claim").len(), 1);
    let deliver = deliver(&mut house);
    assert_eq!(
        settle(&deliver, after(LEASE_SECS - 1)).await,
        (Due::At(after(LEASE_SECS)), 1)
    );
    assert_eq!(end(&house, id).await, ("leased".to_owned(), 0, None));
    assert_eq!(settle(&deliver, after(LEASE_SECS)).await.0, Due::WhenNudged);
    assert_eq!(end(&house, id).await, ended("delivered", "written to the log"));
}

#[tokio::test]
async fn more_than_a_batch_is_finished_by_several_steps() {
    let mut house = House::in_memory().await;
    let id = house.check(|_| {}).await;
    let mut channels = Vec::new();
    for _ in 0..450 {
        channels.push(house.channel("log", true, true).await);
    }
    house.tell(id, &channels.iter().collect::<Vec<_>>()).await;
    house.ping(id, Action::Fail, NOW).await.expect("a ping");
    let deliver = deliver(&mut house);
    let mut dues = Vec::new();
    for _ in 0..3 {
        dues.push(deliver.step(NOW).await.expect("a step"));
    }
    assert_eq!(dues, [Due::Now, Due::Now, Due::WhenNudged]);
    assert!(
        house
            .deliveries(id)
            .await
            .iter()
            .all(|delivery| delivery.state == "delivered")
    );
    assert_eq!(house.count("attempts").await, 450);
}

/// Those who wait for word of the log.
type Askers = Arc<Mutex<Vec<tokio::sync::oneshot::Sender<()>>>>;

/// Has the log give no word until the test gives it.
fn hold_the_log(house: &mut House) -> Askers {
    let askers = Askers::default();
    let kept = Arc::clone(&askers);
    house.log.flush = Some(Arc::new(move || {
        let (done, written) = tokio::sync::oneshot::channel();
        kept.lock().expect("those that wait").push(done);
        written
    }));
    askers
}

async fn let_tasks_run() {
    for _ in 0..9 {
        tokio::task::yield_now().await;
    }
}

/// Lets so much time pass, and those see it who wait for it.
async fn pass(secs: i64) {
    tokio::time::pause();
    tokio::time::advance(std::time::Duration::from_secs(secs.unsigned_abs())).await;
    let_tasks_run().await;
    tokio::time::resume();
}

/// A terminal that was stopped, or a disk that hangs: what it was told may be lost with us.
#[tokio::test]
async fn a_line_counts_as_told_when_the_log_has_written_it() {
    let mut house = House::in_memory().await;
    let id = failed(&mut house, "log").await;
    let askers = hold_the_log(&mut house);
    let deliver = deliver(&mut house);
    assert_eq!(settle(&deliver, NOW).await.0, Due::At(after(LEASE_SECS)));
    assert_eq!(end(&house, id).await.0, "leased");
    pass(LEASE_SECS).await;
    settle(&deliver, after(LEASE_SECS)).await;
    let again = askers
        .lock()
        .expect("those that wait")
        .pop()
        .expect("asked again");
    again.send(()).expect("it is waited for");
    let_tasks_run().await;
    settle(&deliver, after(LEASE_SECS)).await;
    assert_eq!(end(&house, id).await, ended("delivered", "written to the log"));
}

/// A disk that takes seconds: the word comes late, and counts.
#[tokio::test]
async fn a_line_on_a_slow_disk_is_told_once() {
    let mut house = House::in_memory().await;
    let id = failed(&mut house, "log").await;
    let askers = hold_the_log(&mut house);
    let (log, _guard) = Log::listen();
    let deliver = deliver(&mut house);
    settle(&deliver, NOW).await;
    assert_eq!(end(&house, id).await.0, "leased");
    pass(20).await;
    let word = askers.lock().expect("those that wait").pop().expect("asked");
    word.send(()).expect("it is waited for");
    let_tasks_run().await;
    settle(&deliver, after(20)).await;
    assert_eq!(end(&house, id).await, ended("delivered", "written to the log"));
    settle(&deliver, after(LEASE_SECS)).await;
    assert_eq!(log.lines_with("is DOWN").len(), 1);
}

/// A flip that a later version wrote. The others go out; it waits for somebody who can read it, and at last expires.
#[tokio::test]
async fn a_delivery_that_cannot_be_read_holds_up_nobody() {
    let mut house = House::on_disk().await;
    let [unread, fine] = [failed(&mut house, "log").await, failed(&mut house, "log").await];
    let sql = "update flips set reason_code = 'full_moon' where check_id = ?1";
    assert_eq!(
        house
            .raw()
            .execute(sql, [unread.as_uuid_bytes()])
            .expect("a change"),
        1
    );
    let state = |house: &House| -> String {
        let sql = "select state from deliveries where shard = ?1";
        house
            .raw()
            .query_row(sql, [unread.as_uuid_bytes()], |row| row.get(0))
            .expect("the delivery")
    };
    let (log, _guard) = Log::listen();
    let deliver = deliver(&mut house);
    assert_eq!(settle(&deliver, NOW).await.0, Due::At(after(LEASE_SECS)));
    assert_eq!(
        (end(&house, fine).await.0.as_str(), state(&house).as_str()),
        ("delivered", "leased")
    );
    assert_eq!(log.lines_with("ERROR delivery").len(), 1);
    assert_eq!(
        settle(&deliver, after(LEASE_SECS)).await.0,
        Due::At(after(2 * LEASE_SECS))
    );
    assert_eq!(settle(&deliver, after(DAY_SECS)).await.0, Due::WhenNudged);
    assert_eq!(state(&house), "expired");
}

/// The body of a ping stands beside the news, and is no reason to keep the news back.
#[tokio::test]
async fn an_alert_whose_ping_body_cannot_be_read_goes_out_and_says_so() {
    let mut house = House::on_disk().await;
    let hook = house
        .webhook_with("https://hooks.example.com/x", r#"{"text":$BODY_JSON}"#)
        .await;
    let check = house.check(|_| {}).await;
    house.tell(check, &[&hook]).await;
    let arrival = Arrival {
        action: Action::Fail,
        body: bytes::Bytes::from_static(b"disk full"),
        ..to(check)
    };
    house.in_one_batch(vec![arrival]).await.remove(0).expect("a ping");
    let spoilt = house.raw().execute("update ping_bodies set sealed = x'0102'", []);
    assert_eq!(spoilt.expect("a change"), 1);
    let script = Script::default();
    let deliver = deliver_with(&mut house, &script, Default::default());
    quiet(&deliver, &script, NOW).await;
    assert_eq!(
        script.sent()[0].body["text"],
        "[the body of ping 1 cannot be read]"
    );
    let delivery = house.deliveries(check).await.remove(0);
    assert_eq!(delivery.state, "delivered");
    let (scope, id) = (house.scope(), delivery.id);
    let attempts = house
        .store
        .read(async move |reader| reader.attempts_whole(scope, id).await)
        .await;
    let detail = attempts.expect("attempts").remove(0).found.detail;
    assert!(String::from_utf8_lossy(&detail).contains("body_unreadable"));
}

/// A channel, a check and a ping that cannot be read are the trouble of their own deliveries.
#[tokio::test]
async fn a_row_that_cannot_be_read_holds_up_nobody_elses_delivery() {
    let mut house = House::on_disk().await;
    let fine = failed(&mut house, "log").await;
    let broken_check = failed(&mut house, "log").await;
    let broken_channel = house.check(|_| {}).await;
    let hook = house.webhook("https://hooks.example.com/x").await;
    house.tell(broken_channel, &[&hook]).await;
    house
        .ping(broken_channel, Action::Fail, NOW)
        .await
        .expect("a ping");
    for (sql, id) in [
        (
            "update channels set sealed_config = x'0102' where id = ?1",
            hook.id.as_uuid_bytes(),
        ),
        (
            "update checks set status = 9 where id = ?1",
            broken_check.as_uuid_bytes(),
        ),
    ] {
        let raw = house.raw();
        raw.execute_batch("pragma ignore_check_constraints = on")
            .expect("a setting");
        assert_eq!(raw.execute(sql, [id]).expect("a change"), 1, "{sql}");
    }
    let (log, _guard) = Log::listen();
    let deliver = deliver(&mut house);
    settle(&deliver, NOW).await;
    assert_eq!(end(&house, fine).await.0, "delivered");
    assert_eq!(
        log.lines_with("cannot be read").len(),
        2,
        "{:?}",
        log.lines_with("")
    );
}

#[tokio::test]
async fn an_idle_outbox_is_only_looked_at() {
    let mut house = House::on_disk().await;
    let deliver = deliver(&mut house);
    failed(&mut house, "log").await;
    house
        .raw()
        .execute("update deliveries set next_at = ?1", [after(100).as_micros()])
        .expect("a change");
    let raw = house.raw();
    // Held by another program: a step that begins a write has to wait, and fails.
    raw.execute_batch("begin immediate")
        .expect("the database is taken");
    assert_eq!(
        deliver.step(after(99)).await.expect("a step"),
        Due::At(after(100))
    );
    raw.execute_batch("commit").expect("the database is free");
    settle(&deliver, after(100)).await;
    raw.execute_batch("begin immediate")
        .expect("the database is taken");
    assert_eq!(deliver.step(after(101)).await.expect("a step"), Due::WhenNudged);
}
