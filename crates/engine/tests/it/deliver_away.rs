//! While we were away nobody could be told anything: that is no time of an alert, and no failing of its channel.

use allswell_core::exchange::End;
use allswell_core::id::{ChannelId, CheckId};
use allswell_core::signal::Action;
use allswell_engine::deliver::Rules;

use crate::kit::{House, NOW, SYSTEM, after};
use crate::script::{Script, deliver_with, ended, quiet, status};

const HOUR: i64 = 3_600;
const DAY: i64 = 24 * HOUR;

/// Checks that went down at [`NOW`], each tried once in vain by a node that stayed awake for a minute.
async fn tried_once(house: &mut House, checks: usize) -> (Vec<CheckId>, ChannelId) {
    let hook = house.webhook("https://hooks.example.com/x").await;
    let script = Script::default();
    script.otherwise(ended(End::NoConnection));
    let deliver = deliver_with(house, &script, Rules::default());
    let mut ids = Vec::new();
    for _ in 0..checks {
        let id = house.check(|_| {}).await;
        house.tell(id, &[&hook]).await;
        house.ping(id, Action::Fail, NOW).await.expect("a ping");
        ids.push(id);
    }
    quiet(&deliver, &script, NOW).await;
    house.stay_awake(NOW, after(120)).await;
    assert_eq!(script.sent().len(), checks);
    (ids, hook.id)
}

async fn states(house: &House, ids: &[CheckId]) -> Vec<(String, u64)> {
    let mut states = Vec::new();
    for id in ids {
        for delivery in house.deliveries(*id).await {
            states.push((delivery.state, delivery.attempts));
        }
    }
    states.sort();
    states.dedup();
    states
}

/// Whether our return is noted before the first look at deliveries or not: a clock that leaps may be read by either first.
#[tokio::test]
async fn alerts_that_waited_while_we_were_away_for_days_are_told() {
    for noted in [true, false] {
        let mut house = House::in_memory().await;
        let (ids, _) = tried_once(&mut house, 2).await;
        let back = after(5 * DAY);
        if noted {
            house.stay_awake(back, after(5 * DAY + 1)).await;
        }
        let script = Script::default();
        let deliver = deliver_with(&mut house, &script, Rules::default());
        quiet(&deliver, &script, back).await;
        assert_eq!(script.sent().len(), 2, "noted: {noted}");
        assert_eq!(states(&house, &ids).await, [("delivered".to_owned(), 2)]);
    }
}

#[tokio::test]
async fn a_channel_that_failed_once_before_we_were_away_is_not_switched_off_at_our_return() {
    for noted in [true, false] {
        let mut house = House::in_memory().await;
        let (ids, hook) = tried_once(&mut house, 12).await;
        let back = 121 * HOUR;
        if noted {
            house.stay_awake(after(back), after(back + 1)).await;
        }
        // What fails now fails for minutes, not for days; and that nothing is tried any more is no fault of it.
        let script = Script::default();
        script.otherwise(status(404));
        let deliver = deliver_with(&mut house, &script, Rules::default());
        for secs in [0, 3, 30, 90] {
            quiet(&deliver, &script, after(back + secs)).await;
        }
        assert_eq!(states(&house, &ids).await, [("exhausted".to_owned(), 3)]);
        let read = house
            .store
            .read(async move |reader| reader.channel_health(SYSTEM, hook).await);
        let health = read.await.expect("a read").expect("the channel");
        assert_eq!(
            (health.given_up, health.warnings, health.disabled),
            (12, 0, None),
            "noted: {noted}"
        );
    }
}

/// Held up for its whole day while others were told, and then we went away: at our return it is tried, once.
#[tokio::test]
async fn an_alert_whose_time_is_over_is_tried_once_after_our_absence() {
    let mut house = House::in_memory().await;
    let (ids, _) = tried_once(&mut house, 1).await;
    house.stay_awake(after(120), after(DAY + 60)).await;
    let script = Script::default();
    script.otherwise(status(500));
    let deliver = deliver_with(&mut house, &script, Rules::default());
    quiet(&deliver, &script, after(2 * DAY)).await;
    assert_eq!(states(&house, &ids).await, [("exhausted".to_owned(), 2)]);
    assert_eq!(script.sent().len(), 1);
}

/// Of time in which we were awake nothing is given back.
#[tokio::test]
async fn a_restart_within_its_day_makes_an_alert_no_younger() {
    let mut house = House::in_memory().await;
    let (ids, _) = tried_once(&mut house, 1).await;
    house.stay_awake(after(120), after(DAY + 1)).await;
    let script = Script::default();
    let deliver = deliver_with(&mut house, &script, Rules::default());
    quiet(&deliver, &script, after(DAY + 30)).await;
    assert_eq!(states(&house, &ids).await, [("expired".to_owned(), 1)]);
}
