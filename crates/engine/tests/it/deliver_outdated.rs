//! Alerts that waited while their receiver was away, and what they tell does not hold any more when it is back.

use allswell_core::check::Event;
use allswell_core::id::{ChannelId, CheckId};
use allswell_core::signal::Action;
use allswell_engine::channels;
use allswell_engine::deliver::Deliver;
use serde_json::json;

use crate::kit::{House, NOW, after, happen};
use crate::script::{Script, deliver_with, quiet, status};

struct Waits {
    check: CheckId,
    channel: ChannelId,
    deliver: Deliver<Script>,
    script: Script,
}

/// A check that is down, whose receiver has failed three times and is back now.
async fn waits(house: &mut House) -> Waits {
    let channel = house.webhook("https://hooks.example.com/x").await;
    let check = house.check(|_| {}).await;
    house.tell(check, &[&channel]).await;
    let script = Script::default();
    script.otherwise(status(503));
    let deliver = deliver_with(house, &script, Default::default());
    house.ping(check, Action::Fail, NOW).await.expect("a ping");
    for secs in [0, 4, 20] {
        quiet(&deliver, &script, after(secs)).await;
    }
    assert_eq!(script.sent().len(), 3);
    script.otherwise(status(200));
    Waits {
        check,
        channel: channel.id,
        deliver,
        script,
    }
}

async fn ends(house: &House, check: CheckId) -> Vec<(String, Option<String>)> {
    let deliveries = house.deliveries(check).await;
    deliveries
        .into_iter()
        .map(|delivery| (delivery.state, delivery.last_outcome))
        .collect()
}

fn cancelled(why: &str) -> [(String, Option<String>); 1] {
    [("cancelled".to_owned(), Some(why.to_owned()))]
}

#[tokio::test]
async fn nobody_hears_down_of_a_check_that_is_up_and_of_which_no_up_will_come() {
    let mut house = House::in_memory().await;
    let at = waits(&mut house).await;
    happen(&house, at.check, Event::Pause, after(30)).await;
    happen(&house, at.check, Event::Resume, after(31)).await;
    let ping = house.ping(at.check, Action::Success, after(32)).await;
    ping.expect("a ping");
    quiet(&at.deliver, &at.script, after(200)).await;
    assert_eq!(at.script.sent().len(), 3, "nothing more is told");
    assert_eq!(
        ends(&house, at.check).await,
        cancelled("the check is not down any more")
    );
}

#[tokio::test]
async fn nobody_hears_of_a_check_that_was_taken_off_the_channel() {
    let mut house = House::in_memory().await;
    let at = waits(&mut house).await;
    house.tell(at.check, &[]).await;
    quiet(&at.deliver, &at.script, after(200)).await;
    assert_eq!(at.script.sent().len(), 3, "nothing more is told");
    let why = "the check does not tell this channel any more";
    assert_eq!(ends(&house, at.check).await, cancelled(why));
}

#[tokio::test]
async fn what_still_holds_is_told_however_late() {
    let mut house = House::in_memory().await;
    let at = waits(&mut house).await;
    happen(&house, at.check, Event::Pause, after(30)).await;
    let ping = house.ping(at.check, Action::Fail, after(31)).await;
    ping.expect("a ping");
    quiet(&at.deliver, &at.script, after(200)).await;
    let last = at.script.sent().pop().expect("a call");
    assert_eq!((at.script.sent().len(), last.seq()), (4, 3));
    assert_eq!(last.body["missed"][0]["seq"], 1);
}

/// The receiver of one check says that nobody is there: what waits for the same channel ends with that, and is not told
/// when somebody switches it on again.
#[tokio::test]
async fn what_waits_for_a_channel_ends_when_it_is_switched_off() {
    let mut house = House::in_memory().await;
    let at = waits(&mut house).await;
    let other = house.check(|_| {}).await;
    let (scope, channel) = (house.scope(), at.channel);
    let tell = house
        .store
        .write(async move |tx| tx.check_set_channels(scope, other, &[channel]).await);
    tell.await.expect("channels");
    at.script.then(status(410));
    house.ping(other, Action::Fail, after(30)).await.expect("a ping");
    quiet(&at.deliver, &at.script, after(30)).await;
    assert_eq!(
        ends(&house, at.check).await,
        cancelled("the channel is switched off")
    );
    let errand = channels::Errand {
        scope,
        actor: "alice".to_owned(),
        now: after(40),
    };
    let (rules, mut dice) = (channels::Rules::default(), house.dice.fork());
    let on = house.store.write(async move |tx| {
        let input = json!({ "enabled": true });
        channels::edit(tx, &errand, &rules, channel, &input, &mut dice).await
    });
    on.await.expect("an answer");
    for secs in [40, 200] {
        quiet(&at.deliver, &at.script, after(secs)).await;
    }
    let told: Vec<u64> = at.script.sent().iter().skip(4).map(|call| call.seq()).collect();
    assert_eq!(told, [0], "the test alone");
}
