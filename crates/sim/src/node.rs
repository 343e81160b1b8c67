//! One node: the real inbox, ingest and steps, as tasks that the world polls.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use allswell_core::chance::Dice;
use allswell_core::id::NodeId;
use allswell_core::schedule::Zones;
use allswell_core::time::{Span, Timestamp};
use allswell_engine::Due;
use allswell_engine::deliver::{Deliver, Parts, Permits, Rules};
use allswell_engine::ingest::{Answer, Arrival, Inbox, InboxLimits, Ingest, Refusal};
use allswell_engine::loops::Step;
use allswell_engine::meters::Meters;
use allswell_engine::ports::Log;
use allswell_engine::replan::Replan;
use allswell_engine::retain::{Kept, Retain};
use allswell_engine::sweep::Sweep;
use allswell_store::{Error, Store};
use tokio::sync::Notify;

use crate::hands::{ByHand, Counter, Request};
use crate::outside::Door;
use crate::task::Task;
use crate::temper::Temper;
use crate::told::Told;

/// The loops of a node.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Loop {
    Sweep,
    Deliver,
    Retain,
    Replan,
}

impl Loop {
    pub(crate) const ALL: [Loop; 4] = [Loop::Sweep, Loop::Deliver, Loop::Retain, Loop::Replan];
}

/// What a task of a node came to.
pub(crate) enum Done {
    /// The ingest loop ended, which it never should.
    Ingest,
    Step(Loop, Result<Due, Error>),
    Ping(u64, Result<Answer, Refusal>),
    Deed(Result<(), Error>),
    Hand(Box<(Request, ByHand)>),
}

/// When a loop runs again, on the world's clock.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Turn {
    /// `None`: when nudged.
    pub(crate) due: Option<Timestamp>,
    /// The happening at which the step began that runs now.
    pub(crate) began: Option<u64>,
    /// Somebody nudged it meanwhile.
    pub(crate) nudged: bool,
}

/// A running process.
pub(crate) struct Up {
    /// Its number at the database.
    pub(crate) number: usize,
    pub(crate) id: NodeId,
    pub(crate) started: Timestamp,
    pub(crate) store: Store,
    pub(crate) inbox: Inbox,
    pub(crate) counter: Counter,
    pub(crate) tasks: Vec<Task<Done>>,
    pub(crate) turns: [Turn; 4],
    sweep: Arc<Sweep>,
    pub(crate) deliver: Arc<Deliver<Door>>,
    retain: Arc<Retain>,
    replan: Arc<Replan>,
    nudge: Arc<Notify>,
}

/// A place where a process runs, or not.
pub(crate) struct Node {
    /// Its clock, ahead of the world's.
    pub(crate) ahead: Span,
    /// The same when its step that delivers began last: that counts on from there, however the clock is set.
    pub(crate) delivers_ahead: Span,
    pub(crate) up: Option<Up>,
    /// When it starts again.
    pub(crate) returns_at: Timestamp,
}

/// Not the clock of the world: the ingest loop uses it for its own counters and complaints alone.
fn no_clock() -> Timestamp {
    Timestamp::default()
}

impl Up {
    pub(crate) fn new(
        number: usize,
        store: Store,
        dice: &mut Dice,
        told: &Told,
        door: Door,
        temper: &Temper,
        now: Timestamp,
    ) -> Self {
        let kept = Kept {
            pings: 1_000,
            body_bytes: 1 << 20,
            history: Span::from_days(90),
            audit: Span::from_days(90),
            undo: Span::from_days(7),
        };
        let (id, zones, meters) = (dice.id(), Zones::Bundled, Meters::default());
        let nudge = Arc::new(Notify::new());
        let limits = InboxLimits {
            capacity: 20_000,
            patience: Duration::ZERO,
            batch_max: temper.batch_max,
        };
        let (inbox, ingest) = Ingest::new(
            store.clone(),
            limits,
            dice.fork(),
            zones.clone(),
            Arc::clone(&nudge),
            meters.clone(),
        );
        let sweep = Sweep::new(
            store.clone(),
            id,
            dice.fork(),
            zones.clone(),
            inbox.pending(),
            Arc::clone(&nudge),
            meters.clone(),
        );
        let parts = Parts {
            node: id,
            outbound: door,
            describe: Arc::new(|_, _, _| String::new()),
            dice: dice.fork(),
            nudge: Arc::clone(&nudge),
            log: Log {
                lost: told.lost(),
                ..Log::default()
            },
            meters,
        };
        let rules = Rules {
            permits: Permits {
                max: temper.permits.0,
                per_project: temper.permits.1,
            },
            coalesce: temper.coalesce,
            ..Rules::default()
        };
        let deliver = Deliver::new(store.clone(), rules, parts);
        let run = async move {
            ingest.run(no_clock).await;
            Done::Ingest
        };
        Up {
            number,
            id,
            started: now,
            inbox,
            counter: Counter::default(),
            tasks: vec![Task::new(run)],
            turns: [Turn {
                due: Some(now),
                began: None,
                nudged: false,
            }; 4],
            sweep: Arc::new(sweep),
            deliver: Arc::new(deliver),
            retain: Arc::new(Retain::new(store.clone(), kept)),
            replan: Arc::new(Replan::new(store.clone(), dice.fork(), zones)),
            nudge,
            store,
        }
    }

    /// The same beside others, of whom `now` is this one's clock.
    pub(crate) async fn beside_others(self, now: Timestamp) -> Self {
        let sweep = Arc::into_inner(self.sweep).expect("it has not begun");
        let sweep = sweep.beside_others(|| now).await.expect("the database is there");
        Up {
            sweep: Arc::new(sweep),
            ..self
        }
    }

    /// Whether somebody nudged the deliveries since this was last asked.
    pub(crate) fn was_nudged(&self) -> bool {
        let waited = pin!(self.nudge.notified());
        let mut context = Context::from_waker(Waker::noop());
        waited.poll(&mut context).is_ready()
    }

    pub(crate) fn turn(&mut self, which: Loop) -> &mut Turn {
        &mut self.turns[which as usize]
    }

    /// Begins a step; `now` is the clock of this node.
    pub(crate) fn begin(&mut self, which: Loop, now: Timestamp, happening: u64) {
        self.turn(which).began = Some(happening);
        self.turn(which).due = None;
        let task = match which {
            Loop::Sweep => step(which, Arc::clone(&self.sweep), now),
            Loop::Deliver => step(which, Arc::clone(&self.deliver), now),
            Loop::Retain => step(which, Arc::clone(&self.retain), now),
            Loop::Replan => step(which, Arc::clone(&self.replan), now),
        };
        self.tasks.push(task);
    }

    /// Hands a ping in.
    pub(crate) fn put(&mut self, ticket: u64, arrival: Arrival) {
        let inbox = self.inbox.clone();
        let put = async move { Done::Ping(ticket, inbox.put(arrival).await) };
        self.tasks.push(Task::new(put));
    }
}

fn step<S: Step + 'static>(which: Loop, step: Arc<S>, now: Timestamp) -> Task<Done> {
    Task::new(async move { Done::Step(which, step.step(now).await) })
}
