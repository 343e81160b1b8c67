//! A server that hangs on its way to the database: by the time it gets there, what it read of the clock is long past.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use allswell_core::absence::CLOCKS_DIFFER;
use allswell_core::chance::Dice;
use allswell_core::check::{Check, Settings, State, Status};
use allswell_core::id::{CheckId, NodeId};
use allswell_core::schedule::Zones;
use allswell_core::scope::{ProjectScope, SystemScope};
use allswell_core::seal::KeyRing;
use allswell_core::time::{Span, Timestamp};
use allswell_engine::Due;
use allswell_engine::deliver::{Deliver, Parts, Rules};
use allswell_engine::loops::Step;
use allswell_engine::meters::Meters;
use allswell_engine::pending::Pending;
use allswell_engine::replan::Replan;
use allswell_engine::sweep::Sweep;
use allswell_store::Store;
use allswell_store::channels::Channel;
use allswell_store::people::User;
use allswell_store::projects::Project;
use allswell_store::simulated::{Fate, Simulated};

use crate::kit::{Log, NOW, SILENCE_SECS, SYSTEM, after};
use crate::script::Script;

/// Longer than a lease lasts, and than clocks differ.
const HANGS: Duration = Duration::from_secs(90);

/// A database that is run by hand, with a check that is up and tells a channel of the kind `log`.
struct Hand {
    db: Simulated,
    number: usize,
    store: Store,
    dice: Dice,
    check: CheckId,
}

impl Hand {
    fn new() -> Self {
        let mut dice = Dice::from_number(7);
        let mut db = Simulated::new(NOW).expect("a database");
        let (number, store) = db.store();
        let ring = KeyRing::generate("root", &mut dice);
        db.settle(number, store.unlock(ring, dice.fork(), NOW))
            .expect("a vault");
        let user = User {
            id: dice.id(),
            email: "alice@example.org".to_owned(),
            is_admin: false,
            check_limit: 10,
            created_at: NOW,
        };
        let project = Project {
            id: dice.id(),
            owner: user.id,
            name: "alice".to_owned(),
            created_at: NOW,
        };
        let channel = Channel {
            id: dice.id(),
            kind: "log".to_owned(),
            name: "log".to_owned(),
            tells_down: true,
            tells_up: true,
            created_at: NOW,
        };
        let check = Check {
            id: dice.id(),
            project: project.id,
            badge: dice.id(),
            settings: Settings::default(),
            state: State {
                status: Status::Up,
                last_ping: Some(NOW),
                ..State::new(NOW)
            },
            deadline: Some(after(SILENCE_SECS)),
            version: 1,
            created_at: NOW,
        };
        let (id, mut fork) = (check.id, dice.fork());
        let write = store.write(async move |tx| {
            tx.user_insert(SYSTEM, &user, None).await?;
            tx.project_insert(SYSTEM, &project, &mut fork).await?;
            let scope = ProjectScope::granted(project.id);
            tx.channel_insert(scope, &channel, b"", &mut fork).await?;
            tx.check_insert(ProjectScope::granted(check.project), &check)
                .await?;
            tx.check_set_channels(ProjectScope::granted(check.project), check.id, &[channel.id])
                .await
        });
        db.settle(number, write).expect("a house");
        Hand {
            db,
            number,
            store,
            dice,
            check: id,
        }
    }

    fn sweep(&mut self) -> (NodeId, Sweep) {
        let id = self.dice.id();
        let sweep = Sweep::new(
            self.store.clone(),
            id,
            self.dice.fork(),
            Zones::Bundled,
            Pending::default(),
            Default::default(),
            Meters::default(),
        );
        (id, sweep)
    }

    /// Runs a step at `now`; the piece of work of this number, counted from 0, reaches the database late.
    async fn run(&mut self, step: &impl Step, now: Timestamp, late: Option<usize>) -> Due {
        let mut step = pin!(step.step(now));
        for n in 0.. {
            let polled = poll_fn(|context| Poll::Ready(step.as_mut().poll(context))).await;
            if let Poll::Ready(due) = polled {
                return due.expect("a step");
            }
            if late == Some(n) {
                tokio::time::advance(HANGS).await;
            }
            let next = self
                .db
                .waiting()
                .first()
                .copied()
                .expect("it waits for the database");
            self.db.run(next.id, Fate::Kept, &[]);
        }
        unreachable!("a step ends")
    }

    /// Until there is nothing to do at `now`.
    async fn settle(&mut self, step: &impl Step, now: Timestamp) {
        while match self.run(step, now, None).await {
            Due::Now => true,
            Due::At(at) => at <= now,
            Due::WhenNudged => false,
        } {}
    }
}

/// What is claimed, and read too late: its lease may be somebody else's by now, and what is newer may have been told.
#[tokio::test(start_paused = true)]
async fn a_line_is_not_written_when_its_lease_may_have_lapsed() {
    let mut hand = Hand::new();
    let (node, sweep) = hand.sweep();
    let now = after(SILENCE_SECS);
    hand.settle(&sweep, now).await;
    let (log, _guard) = Log::listen();
    let parts = Parts {
        node,
        outbound: Script::default(),
        describe: std::sync::Arc::new(|_, _, _| String::new()),
        dice: hand.dice.fork(),
        nudge: Default::default(),
        log: Default::default(),
        meters: Meters::default(),
    };
    let deliver = Deliver::new(hand.store.clone(), Rules::default(), parts);
    // What is due, the claim, and then what it tells.
    hand.run(&deliver, now, Some(2)).await;
    assert_eq!(log.lines_with("is DOWN").len(), 0, "too late");
    let promise = |hand: &Hand| hand.db.promises(hand.check).expect("readable").remove(0);
    let left = promise(&hand);
    assert_eq!(
        (left.state.as_str(), left.attempts, left.lease),
        ("ready", 0, None)
    );
    // Given back by the clock as it was then.
    let now = now + Span::from_secs(HANGS.as_secs().cast_signed());
    hand.settle(&deliver, now).await;
    assert_eq!(log.lines_with("is DOWN").len(), 1);
    assert_eq!(promise(&hand).state, "delivered");
}

#[tokio::test(start_paused = true)]
async fn a_late_sign_of_life_makes_no_absence_of_the_others_signs() {
    let mut hand = Hand::new();
    let ((one, slow), (other, quick)) = (hand.sweep(), hand.sweep());
    hand.settle(&slow, NOW).await;
    hand.settle(&quick, after(90)).await;
    // Its look, and then its sign of life.
    let due = hand.run(&slow, after(20), Some(1)).await;
    assert_eq!(due, Due::Now, "by a clock that is read again");
    let mut marks = hand.db.marks(NOW).expect("readable");
    marks.sort_by_key(|(_, at)| *at);
    assert_eq!(marks, [(one, NOW), (other, after(90))]);
    hand.settle(&slow, after(110)).await;
    hand.settle(&quick, after(120)).await;
    let absences = hand.db.absences().expect("readable");
    assert_eq!(absences.len(), 1, "{absences:?}");
    assert_eq!((absences[0].from, absences[0].to), (NOW, after(90)));
}

#[tokio::test(start_paused = true)]
async fn a_late_replan_takes_no_ping_for_one_of_a_clock_ahead() {
    let mut hand = Hand::new();
    let replan = Replan::new(hand.store.clone(), hand.dice.fork(), Zones::Bundled);
    hand.settle(&replan, NOW).await;
    // Somebody's clock was set back, and the check was heard of while this server hung.
    let system = SystemScope::engine();
    let (ahead, (_, sweep)) = (hand.dice.id(), hand.sweep());
    let write = hand
        .store
        .write(async move |tx| tx.awake_mark(system, ahead, after(3_600)).await);
    hand.db.settle(hand.number, write).expect("a mark");
    hand.settle(&sweep, NOW).await;
    let early = NOW - CLOCKS_DIFFER - Span::from_secs(10);
    let due = hand.run(&replan, early, Some(1)).await;
    assert_eq!(due, Due::Now, "by a clock that is read again");
    let check = hand.db.checks().expect("readable").remove(0).check;
    assert_eq!(check.state.last_ping, Some(NOW));
    // The same without hanging: by its clock the ping lies ahead.
    hand.settle(&replan, early).await;
    let check = hand.db.checks().expect("readable").remove(0).check;
    assert_eq!(check.state.last_ping, Some(early));
}
