//! A channel that fails: said, and at last switched off, never in silence.

use allswell_core::exchange::End;
use allswell_core::id::{ChannelId, CheckId};
use allswell_core::refusal::{Refusal, Rule};
use allswell_core::signal::Action;
use allswell_core::time::Timestamp;
use allswell_engine::{Due, channels};
use allswell_store::outbox::Health;
use serde_json::{Value, json};

use crate::kit::{House, Log, NOW, SYSTEM, after};
use crate::script::{Script, deliver_with, ended, quiet, status};

async fn health(house: &House, channel: ChannelId) -> Health {
    let read = house
        .store
        .read(async move |reader| reader.channel_health(SYSTEM, channel).await);
    read.await.expect("a read").expect("the channel")
}

async fn acts(house: &House) -> Vec<(String, String)> {
    let read = house.store.read(async |reader| reader.acts(SYSTEM, 99).await);
    let acts = read.await.expect("acts");
    acts.into_iter()
        .filter(|(.., action, _)| action.starts_with("channel."))
        .map(|(_, actor, action, target)| (format!("{actor} {action}"), target))
        .collect()
}

async fn shown(house: &House, channel: ChannelId) -> Value {
    let scope = house.scope();
    let read = house
        .store
        .read(async move |reader| channels::document_of(reader, scope, channel, NOW).await);
    read.await.expect("a read").expect("the channel")
}

/// Switches a channel on again, as its owner does.
async fn enable(house: &mut House, channel: ChannelId, now: Timestamp) -> Value {
    let errand = channels::Errand {
        scope: house.scope(),
        actor: "alice".to_owned(),
        now,
    };
    let mut dice = house.dice.fork();
    let write = house.store.write(async move |tx| {
        let input = json!({ "enabled": true });
        channels::edit(
            tx,
            &errand,
            &channels::Rules::default(),
            channel,
            &input,
            &mut dice,
        )
        .await
    });
    write.await.expect("an answer").document
}

/// Alice's check with a hook and, beside it, a channel that works.
async fn build() -> (House, CheckId, ChannelId) {
    let mut house = House::in_memory().await;
    let id = house.check(|_| {}).await;
    let hook = house.webhook("https://hooks.example.com/x").await;
    house.channel("silent", true, true).await;
    house.channel("log", true, true).await;
    house.tell(id, &[&hook]).await;
    (house, id, hook.id)
}

#[tokio::test]
async fn a_receiver_that_is_gone_is_switched_off_and_that_is_told() {
    let (mut house, id, hook) = build().await;
    let script = Script::default();
    script.otherwise(status(410));
    let (log, _guard) = Log::listen();
    let deliver = deliver_with(&mut house, &script, Default::default());
    house.ping(id, Action::Fail, NOW).await.expect("a ping");
    quiet(&deliver, &script, NOW).await;
    let health = health(&house, hook).await;
    assert_eq!(health.disabled, Some((NOW, "gone".to_owned())));
    assert_eq!(
        acts(&house).await,
        [("engine channel.disable".to_owned(), format!("channel:{hook}"))]
    );
    // In the log once by the engine itself, once through the channel that works.
    assert_eq!(
        log.lines_with("was switched off").len(),
        2,
        "{:?}",
        log.lines_with("")
    );

    house.ping(id, Action::Success, after(1)).await.expect("a ping");
    assert_eq!(quiet(&deliver, &script, after(1)).await, Due::WhenNudged);
    assert_eq!(script.sent().len(), 1, "nothing more is sent to it");

    let shown = shown(&house, hook).await;
    assert_eq!(
        (&shown["enabled"], &shown["disabled_reason"], &shown["last_error"]),
        (&json!(false), &json!("gone"), &json!("http_status 410"))
    );
    let enabled = enable(&mut house, hook, after(2)).await;
    assert_eq!(
        (
            &enabled["enabled"],
            &enabled["disabled_at"],
            &enabled["last_error"]
        ),
        (&json!(true), &json!(null), &json!(null))
    );
    script.otherwise(status(200));
    quiet(&deliver, &script, after(2)).await;
    assert_eq!(script.sent().len(), 2, "a test is sent as soon as it is on again");
    house.ping(id, Action::Fail, after(3)).await.expect("a ping");
    quiet(&deliver, &script, after(3)).await;
    assert_eq!(script.sent().len(), 3);
    assert_eq!(self::health(&house, hook).await.disabled, None);
}

#[tokio::test]
async fn a_target_that_our_rules_refuse_is_said_once() {
    let (mut house, id, hook) = build().await;
    let script = Script::default();
    script.otherwise(ended(End::Blocked(Refusal::of(Rule::Address))));
    let (log, _guard) = Log::listen();
    let deliver = deliver_with(&mut house, &script, Default::default());
    for (secs, action) in [(0, Action::Fail), (1, Action::Success), (2, Action::Fail)] {
        house.ping(id, action, after(secs)).await.expect("a ping");
        quiet(&deliver, &script, after(secs)).await;
    }
    assert_eq!(script.sent().len(), 3);
    assert_eq!(log.lines_with("cannot be called").len(), 2);
    let health = health(&house, hook).await;
    assert_eq!(
        (health.disabled, health.last_error.as_deref()),
        (None, Some("blocked"))
    );
}

/// What it failed by before is no reason to keep that from its owner; and when something has arrived, it is said anew.
#[tokio::test]
async fn a_target_that_our_rules_refuse_is_said_though_it_failed_before() {
    let (mut house, id, hook) = build().await;
    let script = Script::default();
    let (log, _guard) = Log::listen();
    let deliver = deliver_with(&mut house, &script, Default::default());
    let blocked = || ended(End::Blocked(Refusal::of(Rule::Address)));
    let mut said = Vec::new();
    let story = [
        status(404),
        blocked(),
        status(404),
        blocked(),
        status(200),
        blocked(),
    ];
    for (n, outcome) in (0..).zip(story) {
        let action = if n % 2 == 0 { Action::Fail } else { Action::Success };
        script.otherwise(outcome);
        house.ping(id, action, after(n * 200)).await.expect("a ping");
        for secs in [0, 4, 20] {
            quiet(&deliver, &script, after(n * 200 + secs)).await;
        }
        said.push(log.lines_with("cannot be called").len());
    }
    // In the log twice each time: by the engine, and through the channel that works.
    assert_eq!(said, [0, 2, 2, 2, 2, 4]);
    assert_eq!(health(&house, hook).await.last_error.as_deref(), Some("blocked"));
}

/// Flips twice a day for a week to a receiver that refuses: warned after one day and three, switched off after five.
#[tokio::test]
async fn a_channel_that_fails_for_five_days_is_warned_about_and_switched_off() {
    let (mut house, id, hook) = build().await;
    let script = Script::default();
    script.otherwise(status(404));
    let (log, _guard) = Log::listen();
    let deliver = deliver_with(&mut house, &script, Default::default());
    let mut told = Vec::new();
    for half_day in 0..14 {
        let at = after(half_day * 43_200);
        let action = if half_day % 2 == 0 {
            Action::Fail
        } else {
            Action::Success
        };
        house.ping(id, action, at).await.expect("a ping");
        for secs in [0, 4, 20] {
            quiet(&deliver, &script, at + allswell_core::time::Span::from_secs(secs)).await;
        }
        told.push(log.lines_with("does not get its alerts").len());
    }
    // Each is in the log twice: said by the engine, and through the channel that works.
    assert_eq!(told, [0, 0, 2, 2, 2, 2, 4, 4, 4, 4, 4, 4, 4, 4]);
    assert_eq!(log.lines_with("was switched off").len(), 2);
    let health = health(&house, hook).await;
    let (at, reason) = health.disabled.expect("switched off");
    assert_eq!(reason, "failing");
    assert!(at >= after(5 * 86_400) && at < after(5 * 86_400 + 60), "{at}");
    assert_eq!(
        script.sent().len(),
        31,
        "three tries of ten alerts, and one of the eleventh"
    );
    assert_eq!(acts(&house).await.len(), 1);
}

#[tokio::test]
async fn one_that_arrives_makes_all_well() {
    let (mut house, id, hook) = build().await;
    let script = Script::default();
    script.then(status(500));
    let deliver = deliver_with(&mut house, &script, Default::default());
    house.ping(id, Action::Fail, NOW).await.expect("a ping");
    quiet(&deliver, &script, NOW).await;
    let failing: Option<Timestamp> = health(&house, hook).await.failing_since;
    assert_eq!(failing, Some(NOW));
    quiet(&deliver, &script, after(5)).await;
    let health = health(&house, hook).await;
    assert_eq!(
        (health.failing_since, health.given_up, health.last_error),
        (None, 0, None)
    );
}

/// What was tried and not delivered within its time is a failure of its channel; what we never tried is ours.
#[tokio::test]
async fn a_delivery_that_expires_is_noted_on_its_channel_if_it_was_tried() {
    for tried in [true, false] {
        let (mut house, id, hook) = build().await;
        let script = Script::default();
        script.otherwise(status(500));
        let deliver = deliver_with(&mut house, &script, Default::default());
        house.ping(id, Action::Fail, NOW).await.expect("a ping");
        if tried {
            quiet(&deliver, &script, NOW).await;
        }
        quiet(&deliver, &script, after(86_400)).await;
        assert_eq!(script.sent().len(), usize::from(tried));
        let health = health(&house, hook).await;
        let noted = (health.given_up, health.last_error.as_deref());
        assert_eq!(noted, if tried { (1, Some("expired")) } else { (0, None) });
    }
}

/// Two nodes then wait for each other in one direction.
#[tokio::test]
async fn channels_that_work_and_those_that_fail_are_noted_in_one_order() {
    for statuses in [[200, 503], [503, 200]] {
        let mut house = House::on_disk().await;
        for _ in 0..2 {
            let id = house.check(|_| {}).await;
            let hook = house.webhook("https://hooks.example.com/x").await;
            house.tell(id, &[&hook]).await;
            house.ping(id, Action::Fail, NOW).await.expect("a ping");
        }
        let script = Script::default();
        script.otherwise(status(500));
        let deliver = deliver_with(&mut house, &script, Default::default());
        quiet(&deliver, &script, NOW).await;
        house
            .raw()
            .execute_batch(
                "create table noted (channel blob);
                 create trigger noted after update on channels begin insert into noted values (new.id); end",
            )
            .expect("a trigger");
        script.hold();
        quiet(&deliver, &script, after(3_600)).await;
        assert_eq!(script.held().len(), 2, "both are tried again");
        statuses.into_iter().for_each(|code| script.release(status(code)));
        quiet(&deliver, &script, after(3_601)).await;
        let raw = house.raw();
        let mut rows = raw
            .prepare("select channel from noted order by rowid")
            .expect("a query");
        let noted = rows.query_map([], |row| row.get::<_, Vec<u8>>(0)).expect("rows");
        let mut noted: Vec<_> = noted.collect::<Result<_, _>>().expect("ids");
        noted.dedup();
        assert_eq!(noted.len(), 2, "one works and one fails");
        assert!(noted.is_sorted(), "{statuses:?}");
    }
}
