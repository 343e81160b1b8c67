//! Whoever floods the outbox waits for himself.

use allswell_core::exchange::{End, Phase};
use allswell_core::id::{CheckId, ProjectId};
use allswell_core::retry::Schedule;
use allswell_core::signal::Action;
use allswell_core::time::Timestamp;
use allswell_engine::Due;
use allswell_engine::deliver::{Deliver, Permits, Rules};
use allswell_engine::loops::Step;
use allswell_store::channels::Channel;

use crate::kit::{House, NOW, after, settle};
use crate::script::{Script, after_secs, deliver_with, ended, quiet, status};

async fn failed(house: &mut House, url: &str, checks: usize) -> Vec<CheckId> {
    let channel = house.webhook(url).await;
    failed_at(house, &channel, checks, NOW).await
}

async fn failed_at(house: &mut House, channel: &Channel, checks: usize, at: Timestamp) -> Vec<CheckId> {
    let mut ids = Vec::new();
    for _ in 0..checks {
        let id = house.check(|_| {}).await;
        house.tell(id, &[channel]).await;
        house.ping(id, Action::Fail, at).await.expect("a ping");
        ids.push(id);
    }
    ids
}

fn permits(max: u32) -> Rules {
    Rules {
        permits: Permits {
            max,
            per_project: 256,
        },
        ..Rules::default()
    }
}

#[tokio::test]
async fn a_slow_project_leaves_room_for_another_at_once() {
    let mut house = House::in_memory().await;
    for n in 0..10 {
        failed(&mut house, &format!("https://slow{n}.example.com/"), 12).await;
    }
    let script = Script::default();
    script.hold();
    let deliver = deliver_with(&mut house, &script, permits(64));
    quiet(&deliver, &script, NOW).await;
    // Nobody else waits: all but the reserve.
    assert_eq!(deliver.in_flight(), 32);
    let bob = house.second_project().await;
    let alice = std::mem::replace(&mut house.project, bob);
    failed(&mut house, "https://bob.example.com/", 1).await;
    quiet(&deliver, &script, NOW).await;
    assert!(script.held().contains(&"https://bob.example.com/".to_owned()));
    house.project = alice;
    // What is answered does not go back to alice while somebody waits with less.
    assert_eq!(deliver.in_flight(), 33);
}

/// Each of them comes when nobody waits, and takes what it can get; nobody answers, so nothing is given back.
#[tokio::test]
async fn many_slow_projects_leave_room_for_another_at_once() {
    let mut house = House::in_memory().await;
    let script = Script::default();
    script.hold();
    let deliver = deliver_with(&mut house, &script, permits(128));
    for n in 0..50 {
        house.project = house.second_project().await;
        failed(&mut house, &format!("https://slow{n}.example.com/"), 12).await;
        quiet(&deliver, &script, NOW).await;
    }
    house.project = house.second_project().await;
    failed(&mut house, "https://bob.example.com/", 1).await;
    quiet(&deliver, &script, NOW).await;
    assert!(script.held().contains(&"https://bob.example.com/".to_owned()));
}

#[tokio::test]
async fn an_origin_gets_sixteen_at_a_time_and_gives_its_place_back_with_the_answer() {
    let mut house = House::in_memory().await;
    failed(&mut house, "https://one.example.com/a", 40).await;
    failed(&mut house, "https://one.example.com/b", 40).await;
    let script = Script::default();
    script.hold();
    let deliver = deliver_with(&mut house, &script, Rules::default());
    quiet(&deliver, &script, NOW).await;
    assert_eq!(deliver.in_flight(), 16);
    script.release(status(200));
    quiet(&deliver, &script, NOW).await;
    assert_eq!((deliver.in_flight(), script.sent().len()), (16, 17));
}

#[tokio::test]
async fn more_than_anybody_looks_at_is_served_all_the_same() {
    let mut house = House::in_memory().await;
    let mut ids = Vec::new();
    for n in 0..7 {
        ids.extend(failed(&mut house, &format!("https://x{n}.example.com/"), 100).await);
    }
    let script = Script::default();
    let deliver = deliver_with(&mut house, &script, Rules::default());
    quiet(&deliver, &script, NOW).await;
    assert_eq!(script.sent().len(), 700);
    let mut told: Vec<String> = script
        .sent()
        .iter()
        .map(|call| call.body["check"].to_string())
        .collect();
    told.sort_unstable();
    told.dedup();
    assert_eq!(told.len(), 700);
}

/// A crowd in which all but one wait for their own slow targets: that one is found at once, and not a slice later each time.
#[tokio::test]
async fn in_a_crowd_the_next_slice_is_asked_at_once_while_something_is_due() {
    let mut house = House::in_memory().await;
    let mut url_of = Vec::new();
    for n in 0..130 {
        let project = house.second_project().await;
        house.project = project;
        failed(&mut house, &format!("https://slow{n}.example.com/"), 20).await;
        url_of.push((project, format!("https://slow{n}.example.com/")));
    }
    let script = Script::default();
    script.hold();
    let deliver = deliver_with(&mut house, &script, permits(5_000));
    quiet(&deliver, &script, NOW).await;
    // Each origin has all it takes, and four of each project are still due.
    assert_eq!(deliver.in_flight(), 130 * 16);
    url_of.sort_unstable();
    // Whoever is last gets room: no nudge and no second passes until the walk comes to it.
    for (_, url) in [&url_of[129], &url_of[0], &url_of[64]] {
        script.release_to(url, &status(200));
        quiet(&deliver, &script, NOW).await;
        assert_eq!(
            script.held().iter().filter(|held| *held == url).count(),
            4,
            "{url}"
        );
    }
}

/// All of a crowd wait for places: everybody is asked less and less often, and at once when a place is free.
#[tokio::test]
async fn a_crowd_that_is_held_up_is_not_asked_again_and_again() {
    let mut house = House::in_memory().await;
    for n in 0..130 {
        house.project = house.second_project().await;
        failed(&mut house, &format!("https://slow{n}.example.com/"), 20).await;
    }
    let script = Script::default();
    script.hold();
    let deliver = deliver_with(&mut house, &script, permits(5_000));
    assert_eq!(quiet(&deliver, &script, NOW).await, Due::At(after(1)));
    // Each step asks some of a crowd; one asks nobody, and sees that it has to wait.
    let mut rounds = Vec::new();
    for secs in 1..=45 {
        let (due, steps) = settle(&deliver, after(secs)).await;
        if steps > 1 {
            rounds.push((secs, due));
        }
    }
    let due = |(secs, pause)| (secs, Due::At(after(secs + pause)));
    assert_eq!(
        rounds,
        [(1, 2), (3, 4), (7, 8), (15, 15), (30, 15), (45, 15)].map(due)
    );
    deliver.nudged();
    assert!(settle(&deliver, after(46)).await.1 > 1, "something was promised");
    assert_eq!(settle(&deliver, after(47)).await.1, 1);
    let url = "https://slow77.example.com/".to_owned();
    script.release_to(&url, &status(200));
    quiet(&deliver, &script, after(47)).await;
    assert_eq!(script.held().iter().filter(|held| **held == url).count(), 4);
}

/// A crowd that is held up waits for itself: what becomes due meanwhile for a target that answers is told when it is due.
#[tokio::test]
async fn a_try_whose_time_has_come_does_not_wait_for_a_crowd() {
    let mut house = House::in_memory().await;
    let bob = house.project;
    let mut healthy = Vec::new();
    for n in 0..5 {
        let url = format!("https://healthy{n}.example.com/");
        healthy.push((failed(&mut house, &url, 1).await[0], url));
    }
    for n in 0..130 {
        house.project = house.second_project().await;
        failed(&mut house, &format!("https://slow{n}.example.com/"), 20).await;
    }
    house.project = bob;
    let script = Script::default();
    script.hold();
    let rules = Rules {
        schedule: Schedule::parse("1m").expect("a schedule"),
        ..permits(5_000)
    };
    let deliver = deliver_with(&mut house, &script, rules);
    quiet(&deliver, &script, NOW).await;
    let mut due = Vec::new();
    for (check, url) in healthy {
        script.release_to(&url, &status(500));
        quiet(&deliver, &script, NOW).await;
        due.push((house.deliveries(check).await[0].next_at, url));
    }
    // The crowd itself is asked after 1, 3, 7, 15, 30, 45, 60 and 75 seconds.
    for secs in 1..=75 {
        settle(&deliver, after(secs)).await;
        for (at, url) in &due {
            let has_begun = script.held().contains(url);
            assert_eq!(has_begun, after(secs) >= *at, "{url} at {secs} s, due at {at}");
        }
    }
}

/// At 19 s a crowd rests until 29 s: one project floods its slow target, and others, who are told about again only in an
/// hour, stand between.
struct Pause {
    deliver: Deliver<Script>,
    script: Script,
    flood: (ProjectId, Channel),
    others: Vec<(ProjectId, Channel, String)>,
}

impl Pause {
    async fn of(house: &mut House, others: usize) -> Self {
        let slow = house.webhook("https://slow.example.com/").await;
        failed_at(house, &slow, 540, NOW).await;
        let flood = (house.project, slow);
        let mut all = Vec::new();
        for n in 0..others {
            house.project = house.second_project().await;
            let url = format!("https://healthy{n}.example.com/");
            let channel = house.webhook(&url).await;
            failed_at(house, &channel, 1, NOW).await;
            all.push((house.project, channel, url));
        }
        all.sort_unstable_by_key(|(project, ..)| *project);
        let script = Script::default();
        script.hold();
        let rules = Rules {
            schedule: Schedule::parse("1h").expect("a schedule"),
            ..permits(5_000)
        };
        let deliver = deliver_with(house, &script, rules);
        quiet(&deliver, &script, NOW).await;
        for (_, _, url) in &all {
            script.release_to(url, &status(500));
        }
        quiet(&deliver, &script, NOW).await;
        assert_eq!(deliver.in_flight(), 16);
        let pause = Pause {
            deliver,
            script,
            flood,
            others: all,
        };
        assert_eq!(pause.settle(1..=19).await, Due::At(after(29)));
        pause
    }

    async fn settle(&self, secs: std::ops::RangeInclusive<i64>) -> Due {
        let mut due = Due::Now;
        for secs in secs {
            due = settle(&self.deliver, after(secs)).await.0;
        }
        due
    }

    /// Something more is due for one of the others.
    async fn fails(&self, house: &mut House, n: usize, secs: i64) -> &String {
        let (project, channel, url) = &self.others[n];
        house.project = *project;
        failed_at(house, channel, 1, after(secs)).await;
        url
    }
}

/// Whoever answers does not wait for the end of a pause because a second crowd became due with him, wherever the walk over
/// the projects has come to.
#[tokio::test]
async fn when_a_second_crowd_becomes_due_in_a_pause_everybody_is_asked() {
    let mut house = House::in_memory().await;
    let pause = Pause::of(&mut house, 130).await;
    for (n, secs) in [(0, 20), (43, 40), (86, 60)] {
        house.project = pause.flood.0;
        failed_at(&mut house, &pause.flood.1, 520, after(secs)).await;
        let url = pause.fails(&mut house, n, secs).await;
        settle(&pause.deliver, after(secs)).await;
        assert!(pause.script.held().contains(url), "{url} at {secs} s");
        pause.script.release_to(url, &status(500));
        pause.settle(secs..=secs + 19).await;
    }
}

/// A claim that could not be committed is made again with the next step, and not after the pause.
#[tokio::test]
async fn what_becomes_due_in_a_pause_is_asked_again_after_a_claim_that_failed() {
    let mut house = House::on_disk().await;
    let pause = Pause::of(&mut house, 1).await;
    let url = pause.fails(&mut house, 0, 20).await;
    let raw = house.raw();
    raw.execute_batch("begin immediate")
        .expect("the database is taken");
    assert!(
        pause
            .deliver
            .step(after(20))
            .await
            .expect_err("taken")
            .is_passing()
    );
    raw.execute_batch("commit").expect("the database is free");
    settle(&pause.deliver, after(21)).await;
    assert!(pause.script.held().contains(url));
}

/// However much begins in a pause, the crowd is not asked for it: each step takes what it may, and the last finds nothing more.
#[tokio::test]
async fn what_begins_in_a_pause_has_no_crowd_asked() {
    let mut house = House::in_memory().await;
    let pause = Pause::of(&mut house, 300).await;
    pause.fails(&mut house, 0, 20).await;
    let rests = Due::At(after(29));
    assert_eq!(settle(&pause.deliver, after(20)).await, (rests, 2));
    for n in 0..300 {
        pause.fails(&mut house, n, 21).await;
    }
    // A step begins 256.
    assert_eq!(settle(&pause.deliver, after(21)).await, (rests, 3));
    assert_eq!(pause.deliver.in_flight(), 16 + 1 + 300);
    // The pauses go on growing.
    assert_eq!(settle(&pause.deliver, after(29)).await.0, Due::At(after(29 + 15)));
}

/// A target that fails is asked again by few: those in their fast phase, and then one that decides for all.
#[tokio::test]
async fn a_breaker_holds_back_what_is_beyond_its_fast_phase() {
    let mut house = House::in_memory().await;
    failed(&mut house, "https://down.example.com/", 30).await;
    let script = Script::default();
    script.otherwise(ended(End::NoConnection));
    let rules = Rules {
        // All come due together, again and again.
        schedule: Schedule::parse("1s").expect("a schedule"),
        ..Rules::default()
    };
    let deliver = deliver_with(&mut house, &script, rules);
    for secs in [0, 2, 4] {
        quiet(&deliver, &script, after(secs)).await;
    }
    assert_eq!(script.sent().len(), 90, "the breaker never stops the fast phase");
    assert_eq!(house.metric("delivery_breakers_open"), 1.0);
    // Asked while it is open: nothing.
    assert_eq!(quiet(&deliver, &script, after(20)).await, Due::At(after(21)));
    assert_eq!(script.sent().len(), 90);
    // Half open: one, which fails, so the pause doubles.
    quiet(&deliver, &script, after(35)).await;
    assert_eq!(script.sent().len(), 91);
    quiet(&deliver, &script, after(90)).await;
    assert_eq!(script.sent().len(), 91);
    // One that arrives opens the way for all.
    script.otherwise(status(200));
    quiet(&deliver, &script, after(96)).await;
    assert_eq!(script.sent().len(), 121);
    quiet(&deliver, &script, after(97)).await;
    assert_eq!(house.metric("delivery_breakers_open"), 0.0);
    assert_eq!(house.metric("deliveries_total{outcome=\"delivered\"}"), 30.0);
}

#[tokio::test]
async fn a_slow_origin_is_given_fewer_at_a_time() {
    let mut house = House::in_memory().await;
    failed(&mut house, "https://slow.example.com/", 60).await;
    let script = Script::default();
    script.hold();
    let deliver = deliver_with(&mut house, &script, Rules::default());
    quiet(&deliver, &script, NOW).await;
    let phase = Phase::FirstByte;
    let timed_out = after_secs(ended(End::TimedOut { phase, status: None }), 30);
    let mut widths = Vec::new();
    for round in 1..=4 {
        while !script.held().is_empty() {
            script.release(timed_out.clone());
        }
        quiet(&deliver, &script, after(round * 31)).await;
        widths.push(deliver.in_flight());
    }
    assert_eq!(widths, [4, 4, 2, 2]);
}
