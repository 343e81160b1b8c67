//! What follows from what the other side says, and that each attempt is written down.

use allswell_core::delivery::{Class, Owed};
use allswell_core::exchange::{End, Phase, RetryAfter};
use allswell_core::id::{CheckId, DeliveryId};
use allswell_core::refusal::{Refusal, Rule};
use allswell_core::signal::Action;
use allswell_core::time::{Span, Timestamp};
use allswell_engine::Due;
use allswell_engine::loops::Step;
use allswell_store::outbox::{Attempt, Redelivered};

use crate::kit::{House, NOW, SYSTEM, after};
use crate::script::{Script, after_secs, answered, deliver_with, ended, quiet, status};

/// A check that failed at `NOW` and tells a webhook.
async fn failed(house: &mut House) -> CheckId {
    let id = house
        .check(|check| check.settings.name = "backup".to_owned())
        .await;
    let channel = house.webhook("https://hooks.example.com/x").await;
    house.tell(id, &[&channel]).await;
    house.ping(id, Action::Fail, NOW).await.expect("a ping");
    id
}

/// State, attempts, what is shown of the last, and when it is due next, of the one delivery of a check.
async fn state(house: &House, id: CheckId) -> (String, u64, String, Timestamp) {
    let delivery = house.deliveries(id).await.remove(0);
    (
        delivery.state,
        delivery.attempts,
        delivery.last_outcome.unwrap_or_default(),
        delivery.next_at,
    )
}

async fn attempts(house: &House, id: DeliveryId) -> Vec<Attempt> {
    let scope = house.scope();
    let read = house
        .store
        .read(async move |reader| reader.attempts_whole(scope, id).await);
    read.await.expect("attempts")
}

/// Steps from due instant to due instant until nothing is due any more; gives the seconds of each call.
async fn run_out(house: &mut House, script: &Script) -> Vec<i64> {
    let deliver = deliver_with(house, script, Default::default());
    let (mut now, mut at) = (NOW, Vec::new());
    loop {
        let before = script.sent().len();
        let due = quiet(&deliver, script, now).await;
        at.extend(vec![(now - NOW).as_secs(); script.sent().len() - before]);
        match due {
            Due::At(next) => now = next,
            Due::WhenNudged => return at,
            Due::Now => unreachable!("it is quiet"),
        }
    }
}

#[tokio::test]
async fn it_is_tried_until_it_arrives_with_one_id() {
    let mut house = House::in_memory().await;
    let id = failed(&mut house).await;
    let script = Script::default();
    script
        .then(status(500))
        .then(ended(End::NoConnection))
        .then(status(204));
    let at = run_out(&mut house, &script).await;
    assert_eq!(at.len(), 3);
    assert!((1..=3).contains(&at[1]) && (9..=15).contains(&at[2]), "{at:?}");
    assert_eq!(state(&house, id).await.0, "delivered");
    let sent = script.sent();
    let delivery = house.deliveries(id).await[0].id;
    for (n, call) in (1..).zip(&sent) {
        assert_eq!(call.body["id"], delivery.to_string());
        assert_eq!(call.header("X-Allswell-Attempt"), n.to_string());
        assert_eq!((call.seq(), &call.body["status"]), (1, &"down".into()));
        assert!(call.body.get("missed").is_none());
    }
    let seen: Vec<_> = attempts(&house, delivery)
        .await
        .into_iter()
        .map(|attempt| (attempt.n, attempt.found.outcome, attempt.found.http_status))
        .collect();
    let expected = [
        (1, "http_status".to_owned(), Some(500)),
        (2, "connect".to_owned(), None),
        (3, "ok".to_owned(), Some(204)),
    ];
    assert_eq!(seen, expected);
}

#[tokio::test]
async fn each_ending_is_shown() {
    let table = [
        (status(404), 3, "exhausted", "http_status 404"),
        (status(302), 3, "exhausted", "http_status 302"),
        (status(410), 1, "exhausted", "http_status 410"),
        (
            ended(End::Blocked(Refusal::of(Rule::Address))),
            1,
            "blocked",
            "blocked",
        ),
        (status(200), 1, "delivered", "ok 200"),
    ];
    for (outcome, tries, ending, shown) in table {
        let mut house = House::in_memory().await;
        let id = failed(&mut house).await;
        let script = Script::default();
        script.otherwise(outcome);
        assert_eq!(run_out(&mut house, &script).await.len(), tries, "{shown}");
        let (state, attempts, outcome, _) = state(&house, id).await;
        assert_eq!(
            (state.as_str(), attempts as usize, outcome.as_str()),
            (ending, tries, shown)
        );
    }
}

#[tokio::test]
async fn a_receiver_that_never_works_is_given_up_within_the_day() {
    let mut house = House::in_memory().await;
    let id = failed(&mut house).await;
    let script = Script::default();
    let phase = Phase::FirstByte;
    script.otherwise(ended(End::TimedOut { phase, status: None }));
    let at = run_out(&mut house, &script).await;
    // 2 s, 10 s, 1 min, 5 min, 30 min, 2 h, 6 h, 6 h, 6 h: nine tries, a tenth if the jitter is kind.
    assert!((9..=11).contains(&at.len()), "{at:?}");
    assert!(*at.last().expect("tries") < 86_400);
    assert_eq!(state(&house, id).await.0, "exhausted");
}

#[tokio::test]
async fn a_receiver_can_ask_to_be_called_later() {
    let mut house = House::in_memory().await;
    let id = failed(&mut house).await;
    let script = Script::default();
    script.then(answered(503, Some(RetryAfter::Seconds(900))));
    let deliver = deliver_with(&mut house, &script, Default::default());
    assert_eq!(quiet(&deliver, &script, NOW).await, Due::At(after(900)));
    assert_eq!(
        state(&house, id).await,
        ("ready".into(), 1, "http_status 503".into(), after(900))
    );
}

/// A step may wait long for the database, and an answer come meanwhile: its own clock is of before.
#[tokio::test]
async fn a_wait_is_counted_from_the_answer_and_not_from_the_step_that_finds_it() {
    let mut house = House::in_memory().await;
    let id = failed(&mut house).await;
    let script = Script::default();
    let busy = answered(503, Some(RetryAfter::Seconds(10)));
    script.then(after_secs(busy, 25));
    let deliver = deliver_with(&mut house, &script, Default::default());
    assert_eq!(quiet(&deliver, &script, NOW).await, Due::At(after(35)));
    assert_eq!(state(&house, id).await.3, after(35));
}

#[tokio::test]
async fn what_an_answer_holds_is_kept_sealed() {
    let mut house = House::on_disk().await;
    let id = failed(&mut house).await;
    let script = Script::default();
    run_out(&mut house, &script).await;
    let delivery = house.deliveries(id).await[0].id;
    let attempt = attempts(&house, delivery).await.remove(0).found;
    let detail = String::from_utf8(attempt.detail).expect("text");
    assert!(
        detail.contains("token=hunter2") && detail.contains("192.0.2.7:443"),
        "{detail}"
    );
    let phases = attempt.phases.expect("phases");
    assert!(phases.contains("\"connect\":3000"), "{phases}");
    let stored: Vec<u8> = house
        .raw()
        .query_row("select sealed_detail from attempts", [], |row| row.get(0))
        .expect("an attempt");
    assert!(!stored.windows(7).any(|part| part == b"hunter2"));
    let scope = house.scope();
    let plain = house
        .store
        .read(async move |reader| reader.attempts(scope, delivery).await)
        .await;
    assert!(plain.expect("attempts")[0].found.detail.is_empty());
}

/// The process ends between claim and record: the same delivery, the same id, the same number of the attempt.
#[tokio::test]
async fn what_was_under_way_in_a_crash_is_tried_again_with_its_id() {
    let mut house = House::in_memory().await;
    let id = failed(&mut house).await;
    let script = Script::default();
    script.hold();
    let deliver = deliver_with(&mut house, &script, Default::default());
    quiet(&deliver, &script, NOW).await;
    assert_eq!((script.held().len(), deliver.in_flight()), (1, 1));
    drop(deliver);
    tokio::task::yield_now().await;

    let next = Script::default();
    let deliver = deliver_with(&mut house, &next, Default::default());
    assert_eq!(quiet(&deliver, &next, after(59)).await, Due::At(after(60)));
    assert!(next.sent().is_empty(), "its lease lasts");
    quiet(&deliver, &next, after(60)).await;
    let (first, second) = (&script.sent()[0], &next.sent()[0]);
    assert_eq!(first.body["id"], second.body["id"]);
    assert_eq!(second.header("X-Allswell-Attempt"), "1");
    assert_eq!(state(&house, id).await.0, "delivered");
}

#[tokio::test]
async fn a_result_that_comes_after_its_lease_changes_nothing() {
    let mut house = House::in_memory().await;
    let id = failed(&mut house).await;
    let (slow, quick) = (Script::default(), Script::default());
    slow.hold();
    let late = deliver_with(&mut house, &slow, Default::default());
    quiet(&late, &slow, NOW).await;
    let other = deliver_with(&mut house, &quick, Default::default());
    quiet(&other, &quick, after(60)).await;
    assert_eq!(state(&house, id).await.0, "delivered");
    slow.release(status(500));
    quiet(&late, &slow, after(61)).await;
    assert_eq!(state(&house, id).await.0, "delivered");
    assert_eq!(house.count("attempts").await, 1);
}

/// Its row is the other's, and so is what it says of the channel: a channel is never off without a row that says why.
#[tokio::test]
async fn a_result_that_comes_after_its_lease_says_nothing_of_its_channel() {
    let mut house = House::in_memory().await;
    let id = failed(&mut house).await;
    let channel = house.deliveries(id).await[0].channel;
    let (slow, quick) = (Script::default(), Script::default());
    slow.hold();
    let late = deliver_with(&mut house, &slow, Default::default());
    quiet(&late, &slow, NOW).await;
    let other = deliver_with(&mut house, &quick, Default::default());
    quiet(&other, &quick, after(60)).await;
    slow.release(status(410));
    quiet(&late, &slow, after(61)).await;
    let health = house
        .store
        .read(async move |reader| reader.channel_health(SYSTEM, channel).await);
    let health = health.await.expect("a read").expect("the channel");
    assert_eq!((health.disabled, health.failing_since), (None, None));
}

#[tokio::test]
async fn an_answer_that_cannot_be_stored_yet_is_stored_later_and_not_sent_again() {
    let mut house = House::on_disk().await;
    let id = failed(&mut house).await;
    let script = Script::default();
    script.hold();
    let deliver = deliver_with(&mut house, &script, Default::default());
    quiet(&deliver, &script, NOW).await;
    script.release(status(200));
    while deliver.in_flight() > 0 {
        tokio::task::yield_now().await;
    }
    let raw = house.raw();
    raw.execute_batch("begin immediate")
        .expect("the database is taken");
    assert!(deliver.step(after(1)).await.expect_err("taken").is_passing());
    raw.execute_batch("commit").expect("the database is free");
    quiet(&deliver, &script, after(200)).await;
    assert_eq!(state(&house, id).await.0, "delivered");
    assert_eq!(script.sent().len(), 1);
}

#[tokio::test]
async fn an_answer_that_can_never_be_stored_does_not_take_the_others_along() {
    let mut house = House::on_disk().await;
    let (fine, bad) = (failed(&mut house).await, failed(&mut house).await);
    let bad_id = house.deliveries(bad).await[0].id;
    house
        .raw()
        .execute_batch(&format!(
            "create trigger broken before insert on attempts when lower(hex(new.delivery_id)) = '{}' begin
             select raise(abort, 'broken'); end",
            bad_id.to_string().replace('-', "")
        ))
        .expect("a trigger");
    let script = Script::default();
    script.hold();
    let deliver = deliver_with(&mut house, &script, Default::default());
    quiet(&deliver, &script, NOW).await;
    (0..2).for_each(|_| script.release(status(200)));
    quiet(&deliver, &script, after(1)).await;
    assert_eq!(state(&house, fine).await.0, "delivered");
    assert_eq!(state(&house, bad).await.0, "leased");
    assert_eq!(deliver.waiting(), 0, "it is not tried for ever");
}

#[tokio::test]
async fn a_clock_that_jumps_ahead_does_not_send_again_what_is_under_way() {
    let mut house = House::in_memory().await;
    let id = failed(&mut house).await;
    let script = Script::default();
    script.hold();
    let deliver = deliver_with(&mut house, &script, Default::default());
    quiet(&deliver, &script, NOW).await;
    let due = quiet(&deliver, &script, after(3_600)).await;
    assert_eq!(
        due,
        Due::At(after(3_660)),
        "its lease is ours as long as it is under way"
    );
    assert_eq!((script.sent().len(), script.held().len()), (1, 1));
    script.release(status(200));
    quiet(&deliver, &script, after(3_601)).await;
    assert_eq!(
        (state(&house, id).await.0, script.sent().len()),
        ("delivered".to_owned(), 1)
    );
}

/// So a node whose clock is set back by hours gives back what others have leased.
#[tokio::test]
async fn a_lease_that_another_clock_gave_back_does_not_send_again_what_is_under_way() {
    let mut house = House::in_memory().await;
    let id = failed(&mut house).await;
    let script = Script::default();
    script.hold();
    let deliver = deliver_with(&mut house, &script, Default::default());
    quiet(&deliver, &script, NOW).await;
    let given_back = house
        .store
        .write(async |tx| tx.deliveries_release(SYSTEM, after(60), 10).await);
    assert_eq!(given_back.await.expect("a lease"), 1);
    quiet(&deliver, &script, after(1)).await;
    assert_eq!((script.sent().len(), script.held().len()), (1, 1));
    script.release(status(200));
    quiet(&deliver, &script, after(2)).await;
    let (state, attempts, ..) = state(&house, id).await;
    assert_eq!(
        (state.as_str(), attempts, script.sent().len()),
        ("delivered", 1, 1)
    );
}

#[tokio::test]
async fn the_end_waits_for_what_is_under_way_and_stores_it() {
    let mut house = House::in_memory().await;
    let id = failed(&mut house).await;
    let script = Script::default();
    script.hold();
    let deliver = deliver_with(&mut house, &script, Default::default());
    quiet(&deliver, &script, NOW).await;
    let other = script.clone();
    let releases = async move {
        tokio::task::yield_now().await;
        other.release(status(200));
    };
    let (ended, ()) = tokio::join!(deliver.end(|| NOW), releases);
    ended.expect("an end");
    assert_eq!(state(&house, id).await.0, "delivered");
}

#[tokio::test]
async fn a_test_is_one_attempt_whose_result_is_shown() {
    for (outcome, ending, shown) in [
        (status(200), "delivered", "ok 200"),
        (status(500), "exhausted", "http_status 500"),
        (status(410), "exhausted", "http_status 410"),
    ] {
        let mut house = House::in_memory().await;
        let channel = house.webhook("https://hooks.example.com/x").await;
        let (scope, id) = (house.scope(), house.dice.id_at::<DeliveryId>(NOW));
        let owed = Owed {
            channel: channel.id,
            class: Class::Test,
            expires_at: after(300),
        };
        let insert = house
            .store
            .write(async move |tx| tx.delivery_insert_plain(scope, &owed, None, id, NOW).await);
        insert.await.expect("a test");
        let script = Script::default();
        script.otherwise(outcome);
        assert_eq!(run_out(&mut house, &script).await, [0]);
        let read = house
            .store
            .read(async move |reader| reader.delivery(scope, id).await);
        let delivery = read.await.expect("a read").expect("the delivery");
        assert_eq!(
            (delivery.check, delivery.flip_seq, delivery.class),
            (None, 0, Class::Test)
        );
        assert_eq!(
            (delivery.state.as_str(), delivery.last_outcome.as_deref()),
            (ending, Some(shown))
        );
        let health = house
            .store
            .read(async move |reader| reader.channel_health(SYSTEM, channel.id).await);
        let health = health.await.expect("a read").expect("the channel");
        assert_eq!((health.disabled, health.given_up), (None, 0), "{shown}");
        let body = &script.sent()[0].body;
        assert_eq!(
            (&body["type"], &body["id"]),
            (&"test".into(), &id.to_string().into())
        );
    }
}

#[tokio::test]
async fn what_has_ended_can_be_sent_again_unless_it_is_stale() {
    let mut house = House::in_memory().await;
    let id = failed(&mut house).await;
    let script = Script::default();
    run_out(&mut house, &script).await;
    let (scope, delivery) = (house.scope(), house.deliveries(id).await[0].id);
    let again = async |house: &House, force: bool| {
        let ask = house.store.write(async move |tx| {
            tx.delivery_redeliver(scope, delivery, force, after(50), after(500))
                .await
        });
        ask.await.expect("an answer")
    };
    assert_eq!(again(&house, false).await, Some(Redelivered::Yes));
    assert_eq!(again(&house, false).await, Some(Redelivered::StillOpen));
    let deliver = deliver_with(&mut house, &script, Default::default());
    quiet(&deliver, &script, after(50)).await;
    let sent = script.sent();
    assert_eq!(sent[1].body["id"], sent[0].body["id"]);
    assert_eq!(
        (sent[0].body.get("redelivery"), &sent[1].body["redelivery"]),
        (None, &true.into())
    );
    assert_eq!((sent[1].seq(), sent[1].header("X-Allswell-Attempt")), (1, "2"));

    house.ping(id, Action::Success, after(60)).await.expect("a ping");
    assert_eq!(
        again(&house, false).await,
        Some(Redelivered::NewerDelivered),
        "the newer one must not wait behind it"
    );
    quiet(&deliver, &script, after(60)).await;
    assert_eq!(again(&house, false).await, Some(Redelivered::NewerDelivered));
    assert_eq!(again(&house, true).await, Some(Redelivered::Yes));
}

/// The newer one waits for its next try: it overtakes what somebody had sent again once that was tried, and not before.
#[tokio::test]
async fn what_is_sent_again_by_force_is_tried_though_a_newer_one_waits() {
    let mut house = House::in_memory().await;
    let channel = house.webhook("https://hooks.example.com/x").await;
    let id = house.check(|_| {}).await;
    house.tell(id, &[&channel]).await;
    let script = Script::default();
    let deliver = deliver_with(&mut house, &script, Default::default());
    house.ping(id, Action::Fail, NOW).await.expect("a ping");
    quiet(&deliver, &script, NOW).await;
    script.otherwise(status(503));
    house.ping(id, Action::Success, after(60)).await.expect("a ping");
    for secs in [60, 64, 80] {
        quiet(&deliver, &script, after(secs)).await;
    }
    let seqs = |script: &Script| script.sent().iter().map(|sent| sent.seq()).collect::<Vec<_>>();
    assert_eq!(seqs(&script), [1, 2, 2, 2]);

    let of_down = async |house: &House| {
        let mut all = house.deliveries(id).await.into_iter();
        all.find(|delivery| delivery.flip_seq == 1).expect("its delivery")
    };
    let (scope, first) = (house.scope(), of_down(&house).await.id);
    let day = Span::from_secs(24 * 3_600);
    let again = async |house: &House, at| {
        let ask = house
            .store
            .write(async move |tx| tx.delivery_redeliver(scope, first, true, at, at + day).await);
        assert_eq!(ask.await.expect("an answer"), Some(Redelivered::Yes));
        let shown = of_down(house).await;
        assert_eq!((shown.state.as_str(), shown.last_outcome), ("ready", None));
    };
    again(&house, after(400)).await;
    quiet(&deliver, &script, after(400)).await;
    assert_eq!(
        seqs(&script)[4..],
        [1, 2],
        "it is sent, and the newer one after it"
    );
    script.otherwise(status(200));
    quiet(&deliver, &script, after(8_000)).await;
    assert_eq!(seqs(&script)[6..], [2]);
    assert_eq!(of_down(&house).await.state, "superseded");
}

/// The newer one arrived, was sent again and then given up: its channel has heard it all the same.
#[tokio::test]
async fn what_was_heard_once_keeps_older_news_from_being_sent_again() {
    let mut house = House::in_memory().await;
    let id = failed(&mut house).await;
    let script = Script::default();
    run_out(&mut house, &script).await;
    let (scope, older) = (house.scope(), house.deliveries(id).await[0].id);
    house.ping(id, Action::Success, after(60)).await.expect("a ping");
    let deliver = deliver_with(&mut house, &script, Default::default());
    quiet(&deliver, &script, after(60)).await;
    let again = async |house: &House, delivery: DeliveryId, at: Timestamp| {
        let ask = house.store.write(async move |tx| {
            tx.delivery_redeliver(scope, delivery, false, at, after(500))
                .await
        });
        ask.await.expect("an answer")
    };
    let newer = house.deliveries(id).await;
    let newer = newer.iter().find(|delivery| delivery.flip_seq == 2);
    let newer = newer.expect("the newer one").id;
    assert_eq!(again(&house, newer, after(70)).await, Some(Redelivered::Yes));
    script.otherwise(status(410));
    quiet(&deliver, &script, after(70)).await;
    let states: Vec<(u64, String)> = house
        .deliveries(id)
        .await
        .into_iter()
        .map(|delivery| (delivery.flip_seq, delivery.state))
        .collect();
    assert!(states.contains(&(2, "exhausted".to_owned())), "{states:?}");
    assert_eq!(
        again(&house, older, after(80)).await,
        Some(Redelivered::NewerDelivered)
    );
}
