//! Lanes: a check and a channel. Never an older alert after a newer one, and nothing swallowed in silence.

use allswell_core::chance::Dice;
use allswell_core::exchange::{End, Phase};
use allswell_core::id::CheckId;
use allswell_core::signal::Action;
use allswell_core::time::{Span, Timestamp};
use allswell_engine::deliver::Rules;

use crate::kit::{House, NOW, SYSTEM, after};
use crate::script::{Script, Sent, after_secs, deliver_with, ended, quiet, status};

async fn check(house: &mut House) -> CheckId {
    let id = house.check(|_| {}).await;
    let channel = house.webhook("https://hooks.example.com/x").await;
    house.tell(id, &[&channel]).await;
    id
}

async fn states(house: &House, id: CheckId) -> Vec<(u64, String)> {
    let deliveries = house.deliveries(id).await;
    let mut states: Vec<_> = deliveries
        .into_iter()
        .map(|delivery| (delivery.flip_seq, delivery.state))
        .collect();
    states.sort_unstable();
    states
}

fn seqs(sent: &[Sent]) -> Vec<u64> {
    sent.iter().map(Sent::seq).collect()
}

#[tokio::test]
async fn a_newer_alert_waits_for_the_one_under_way() {
    let mut house = House::in_memory().await;
    let id = check(&mut house).await;
    let script = Script::default();
    script.hold();
    let deliver = deliver_with(&mut house, &script, Default::default());
    house.ping(id, Action::Fail, NOW).await.expect("a ping");
    quiet(&deliver, &script, NOW).await;
    house.ping(id, Action::Success, after(1)).await.expect("a ping");
    quiet(&deliver, &script, after(1)).await;
    quiet(&deliver, &script, after(29)).await;
    assert_eq!(seqs(&script.sent()), [1]);
    script.release(status(200));
    quiet(&deliver, &script, after(29)).await;
    assert_eq!(seqs(&script.sent()), [1, 2]);
    assert!(script.sent()[1].body.get("missed").is_none());
}

#[tokio::test]
async fn it_waits_through_the_fast_phase_and_then_tells_what_was_missed() {
    let mut house = House::in_memory().await;
    let id = check(&mut house).await;
    let script = Script::default();
    script.otherwise(ended(End::NoConnection));
    let deliver = deliver_with(&mut house, &script, Default::default());
    house.ping(id, Action::Fail, NOW).await.expect("a ping");
    quiet(&deliver, &script, NOW).await;
    house.ping(id, Action::Success, after(1)).await.expect("a ping");
    quiet(&deliver, &script, after(1)).await;
    assert_eq!(seqs(&script.sent()), [1]);
    quiet(&deliver, &script, after(4)).await;
    assert_eq!(seqs(&script.sent()), [1, 1]);
    // The third try ends the fast phase: the newer one overtakes at once.
    quiet(&deliver, &script, after(20)).await;
    assert_eq!(seqs(&script.sent()), [1, 1, 1, 2]);
    assert_eq!(
        states(&house, id).await,
        [(1, "superseded".into()), (2, "ready".into())]
    );
    let missed = &script.sent()[3].body["missed"];
    assert_eq!(
        (&missed[0]["seq"], &missed[0]["status"]),
        (&1.into(), &"down".into())
    );
    assert_eq!(missed.as_array().map(Vec::len), Some(1));

    // What overtook is overtaken itself, and hands on what it had taken over.
    script.otherwise(status(200));
    house.ping(id, Action::Fail, after(21)).await.expect("a ping");
    quiet(&deliver, &script, after(200)).await;
    let last = script.sent().pop().expect("a call");
    assert_eq!(last.seq(), 3);
    let seqs: Vec<_> = last.body["missed"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|flip| flip["seq"].clone())
        .collect();
    assert_eq!(seqs, [1, 2]);
    let (scope, delivery) = (house.scope(), house.deliveries(id).await[0].id);
    let told = house
        .store
        .read(async move |reader| reader.delivery_flips(scope, delivery).await);
    assert_eq!(told.await.expect("flips"), [1, 2, 3]);
    let of_flip = house
        .store
        .read(async move |reader| reader.deliveries_of_flip(scope, id, 1).await);
    let by: Vec<_> = of_flip
        .await
        .expect("deliveries")
        .into_iter()
        .map(|d| (d.flip_seq, d.state))
        .collect();
    // Not the second: what it had taken over has gone on with its own.
    let expected = [(1, "superseded"), (3, "delivered")];
    assert_eq!(by, expected.map(|(seq, state)| (seq, state.to_owned())));
}

/// An alert that nobody could try for 95 seconds, as when the server was away: the newest is told, the others with it.
#[tokio::test]
async fn what_piled_up_is_told_as_one_with_the_final_state() {
    let mut house = House::in_memory().await;
    let id = check(&mut house).await;
    for (secs, action) in [
        (0, Action::Fail),
        (1, Action::Success),
        (2, Action::Fail),
        (3, Action::Success),
    ] {
        house.ping(id, action, after(secs)).await.expect("a ping");
    }
    let script = Script::default();
    let deliver = deliver_with(&mut house, &script, Default::default());
    quiet(&deliver, &script, after(300)).await;
    assert_eq!(seqs(&script.sent()), [4]);
    assert_eq!(script.sent()[0].body["missed"].as_array().map(Vec::len), Some(3));
    assert_eq!(script.sent()[0].body["status"], "up");
}

/// A check flaps all day and its receiver is away. Hundreds that wait are overtaken by the newest, in several steps of which
/// none tells one in the midst, and it tells the newest hundred.
#[tokio::test]
async fn hundreds_that_piled_up_are_told_as_one_that_tells_the_newest() {
    let mut house = House::in_memory().await;
    let id = check(&mut house).await;
    for nth in 0..260 {
        let action = if nth % 2 == 0 {
            Action::Fail
        } else {
            Action::Success
        };
        let at = NOW + Span::from_micros(nth * 1_000);
        house.ping(id, action, at).await.expect("a ping");
    }
    let script = Script::default();
    let deliver = deliver_with(&mut house, &script, Default::default());
    quiet(&deliver, &script, after(300)).await;
    assert_eq!(seqs(&script.sent()), [260]);
    let missed = script.sent()[0].body["missed"].clone();
    let missed: Vec<u64> = missed
        .as_array()
        .expect("a list")
        .iter()
        .map(|flip| flip["seq"].as_u64().expect("a number"))
        .collect();
    assert_eq!(missed, (161..260).collect::<Vec<u64>>());
}

#[tokio::test]
async fn without_coalescing_each_is_told_in_order() {
    let mut house = House::in_memory().await;
    let id = check(&mut house).await;
    for (secs, action) in [(0, Action::Fail), (1, Action::Success), (2, Action::Fail)] {
        house.ping(id, action, after(secs)).await.expect("a ping");
    }
    let script = Script::default();
    script
        .then(status(500))
        .then(status(500))
        .then(status(500))
        .then(status(500));
    let rules = Rules {
        coalesce: false,
        ..Rules::default()
    };
    let deliver = deliver_with(&mut house, &script, rules);
    for secs in [300, 310, 330, 410, 800] {
        quiet(&deliver, &script, after(secs)).await;
    }
    assert_eq!(seqs(&script.sent()), [1, 1, 1, 1, 1, 2, 3]);
    assert!(script.sent().iter().all(|call| call.body.get("missed").is_none()));
}

#[tokio::test]
async fn lanes_do_not_wait_for_each_other() {
    let mut house = House::in_memory().await;
    let slow = house.webhook("https://slow.example.com/").await;
    let fine = house.webhook("https://fine.example.com/").await;
    let id = house.check(|_| {}).await;
    house.tell(id, &[&slow, &fine]).await;
    let script = Script::default();
    script.hold();
    let deliver = deliver_with(&mut house, &script, Default::default());
    house.ping(id, Action::Fail, NOW).await.expect("a ping");
    quiet(&deliver, &script, NOW).await;
    script.release_to("https://fine.example.com/", &status(200));
    house.ping(id, Action::Success, after(1)).await.expect("a ping");
    quiet(&deliver, &script, after(1)).await;
    let mut held = script.held();
    held.sort_unstable();
    assert_eq!(held, ["https://fine.example.com/", "https://slow.example.com/"]);
    assert_eq!(script.sent().len(), 3);
}

/// Random stories: pings, answers of every kind, restarts in the middle. Whatever happens, a receiver never hears of an
/// older flip after a newer one, never sees two ids for one flip, and in the end knows the final state.
#[tokio::test]
async fn no_story_ends_with_an_older_alert_after_a_newer_one() {
    let mut house = House::in_memory().await;
    let mut now = NOW;
    for seed in 0..6 {
        now = story(&mut house, seed, now).await;
    }
}

/// Tells one, from `now` on; gives when it ended.
async fn story(house: &mut House, seed: u64, mut now: Timestamp) -> Timestamp {
    let mut dice = Dice::from_number(seed);
    let id = check(house).await;
    let mut script = Script::default();
    script.hold();
    let mut deliver = deliver_with(house, &script, Default::default());
    let mut sent: Vec<Sent> = Vec::new();
    for _ in 0..40 {
        match dice.below(10) {
            0..=2 => {
                let action = if dice.below(2) == 0 {
                    Action::Fail
                } else {
                    Action::Success
                };
                house.ping(id, action, now).await.expect("a ping");
            }
            3..=6 if !script.held().is_empty() => {
                let outcomes = [status(200), status(500), ended(End::NoConnection), status(503)];
                script.release(outcomes[dice.below(4) as usize].clone());
            }
            7 if dice.below(3) == 0 => {
                // A crash: what was under way may have arrived. The next one takes the leases back, as at a start.
                drop(deliver);
                let release = house
                    .store
                    .write(async |tx| tx.deliveries_release_all(SYSTEM).await);
                release.await.expect("a release");
                tokio::task::yield_now().await;
                sent.extend(script.sent());
                script = Script::default();
                script.hold();
                deliver = deliver_with(house, &script, Default::default());
            }
            _ => {
                // No attempt lasts longer than its budget.
                now = now + Span::from_secs(30);
                let phase = Phase::FirstByte;
                while !script.held().is_empty() {
                    script.release(after_secs(ended(End::TimedOut { phase, status: None }), 30));
                }
            }
        }
        quiet(&deliver, &script, now).await;
    }
    settle_all(&deliver, &script, &mut now).await;
    sent.extend(script.sent());
    let heard = seqs(&sent);
    assert!(heard.is_sorted(), "seed {seed}: {heard:?}");
    let last_told = house
        .deliveries(id)
        .await
        .into_iter()
        .map(|delivery| delivery.flip_seq)
        .max();
    assert_eq!(heard.last().copied(), last_told, "seed {seed}");
    for call in &sent {
        let same = sent.iter().filter(|other| other.seq() == call.seq());
        assert!(
            same.clone().all(|other| other.body["id"] == call.body["id"]),
            "seed {seed}"
        );
    }
    let open = house
        .deliveries(id)
        .await
        .into_iter()
        .filter(|delivery| delivery.finished_at.is_none());
    assert_eq!(open.count(), 0, "seed {seed}");
    now
}

/// From now on everything is answered.
async fn settle_all(
    deliver: &allswell_engine::deliver::Deliver<Script>,
    script: &Script,
    now: &mut Timestamp,
) {
    for _ in 0..5_000 {
        while !script.held().is_empty() {
            script.release(status(200));
        }
        match quiet(deliver, script, *now).await {
            // What a breaker holds back is looked at each second: half a minute at a time is enough for it.
            allswell_engine::Due::At(at) => *now = at.max(*now + Span::from_secs(30)),
            _ if script.held().is_empty() => return,
            _ => {}
        }
    }
    panic!("it does not come to rest");
}
