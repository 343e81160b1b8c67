//! Deliveries that are due: claimed with a lease, attempted, recorded.
//!
//! A step records what came back, looks what is due, plans who is next (`plan.rs`, within what `desk.rs` leaves), takes
//! leases, and begins the attempts, which run beside it and hold no database connection. What an attempt found waits in
//! memory for the next step, which a nudge brings about at once; so results are stored in batches without a timer. A crash
//! between answer and commit means that the receiver sees the same id again: the one case that cannot be avoided.
//!
//! A lease lasts for twice the longest attempt, and none starts when less is left than an attempt may take: so two owners
//! never overlap.

mod attempt;
mod crowd;
mod desk;
mod facts;
mod note;
mod plan;
mod result;
mod results;
mod trouble;
mod under_way;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use allswell_core::chance::Dice;
use allswell_core::delivery::asked_at;
use allswell_core::id::NodeId;
use allswell_core::retry::{FAST_PHASE, FAST_TRIES, Schedule, fast_phase_is_over};
use allswell_core::scope::SystemScope;
use allswell_core::time::{Span, Timestamp};
use allswell_integrations::webhook::Sender;
use allswell_store::outbox::{Claimed, Next, Recorded, Wanted};
use allswell_store::{Error, Result, Store, Tx};
use tokio::sync::Notify;
use tokio::task::JoinSet;

pub use attempt::TOLD;
use attempt::Told;
pub use desk::Permits;

use crate::Due;
use crate::failpoint::failpoint;
use crate::loops::{Step, Stopwatch};
use crate::meters::Meters;
use crate::ports::{Describe, Log, Outbound};
use crowd::{Cursors, Found};
use desk::Desk;
pub(crate) use facts::TEST_UP;
use facts::{Facts, Work};
use result::Answered;
use results::Batch;
use under_way::UnderWay;

/// At least twice the longest attempt, so that two owners never overlap.
const LEASE: Span = Span::from_secs(60);
/// Of the lease this must be left when an attempt starts: its budget, and five seconds for what surrounds it.
const LEASE_LEFT: Duration = Duration::from_secs(35);
/// Lapsed leases that one step gives back, and deliveries that it lets be overtaken.
const LAPSED_MAX: i64 = 200;
const OVERTAKEN_MAX: u64 = 100;
/// How long the end waits for attempts under way (`delivery.md` section 4).
const END_WITHIN: Duration = Duration::from_secs(35);
/// When to look again at what is due and could not begin. Of a crowd, with pauses that grow up to the longer one: asking
/// everybody costs much.
const HELD_UP: Span = Span::from_secs(1);
const CROWD_HELD_UP_MAX: Span = Span::from_secs(15);

/// The rules of delivering.
#[derive(Clone, Debug)]
pub struct Rules {
    /// How much may be in flight.
    pub permits: Permits,
    /// The waits between tries.
    pub schedule: Schedule,
    /// A newer alert of a lane overtakes one that is over its fast phase. `false`: each is told, in order, however late.
    pub coalesce: bool,
    /// What this instance adds to each webhook.
    pub sender: Sender,
}

impl Default for Rules {
    fn default() -> Self {
        Rules {
            permits: Permits {
                max: 1_024,
                per_project: 256,
            },
            schedule: Schedule::default(),
            coalesce: true,
            sender: Sender::default(),
        }
    }
}

/// What making a message needs beside its rows.
struct Trade {
    rules: Rules,
    describe: Describe,
    dice: Mutex<Dice>,
}

impl Trade {
    fn dice(&self) -> Dice {
        lock(&self.dice).fork()
    }
}

/// Keeps the promises of the outbox.
pub struct Deliver<O> {
    store: Store,
    node: NodeId,
    outbound: Arc<O>,
    trade: Trade,
    desk: Desk,
    cursors: Mutex<Cursors>,
    answered: Arc<Mutex<VecDeque<Answered>>>,
    /// What is judged and not yet committed, in batches of one transaction.
    judged: Arc<Mutex<VecDeque<Arc<Batch>>>>,
    under_way: UnderWay,
    attempts: Mutex<JoinSet<()>>,
    nudge: Arc<Notify>,
    log: Log,
    meters: Meters,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a [`Deliver`] is given beside the store.
pub struct Parts<O> {
    /// Who owns the leases.
    pub node: NodeId,
    /// The door outward.
    pub outbound: O,
    /// The words of the compatible API.
    pub describe: Describe,
    /// For ids, jitter and nonces.
    pub dice: Dice,
    /// Nudged when a delivery was promised; the attempts nudge it too.
    pub nudge: Arc<Notify>,
    /// The server's own log.
    pub log: Log,
    /// Where it is counted.
    pub meters: Meters,
}

impl<O: Outbound> Deliver<O> {
    /// Delivers by these rules.
    pub fn new(store: Store, rules: Rules, parts: Parts<O>) -> Self {
        Deliver {
            store,
            node: parts.node,
            outbound: Arc::new(parts.outbound),
            desk: Desk::new(rules.permits),
            trade: Trade {
                rules,
                describe: parts.describe,
                dice: Mutex::new(parts.dice),
            },
            cursors: Mutex::default(),
            answered: Arc::default(),
            judged: Arc::default(),
            under_way: UnderWay::default(),
            attempts: Mutex::default(),
            nudge: parts.nudge,
            log: parts.log,
            meters: parts.meters,
        }
    }

    /// Attempts under way.
    pub fn in_flight(&self) -> u32 {
        self.desk.in_flight()
    }

    /// Attempts that have ended and wait to be stored.
    pub fn waiting(&self) -> usize {
        let judged: usize = lock(&self.judged).iter().map(|batch| batch.len()).sum();
        lock(&self.answered).len() + judged
    }

    /// Takes leases, lets newer alerts overtake older ones, and reads what is to be told.
    async fn claim(&self, wanted: Vec<Wanted>, now: Timestamp) -> Result<(Vec<Facts>, u64)> {
        let (system, node, coalesce) = (SystemScope::engine(), self.node, self.trade.rules.coalesce);
        let (claimed, overtaken) = self
            .store
            .write(async move |tx| {
                let (mut claimed, mut overtaken) = (Vec::new(), 0);
                let all = tx
                    .deliveries_claim_many(system, &wanted, now, node, LEASE)
                    .await?;
                for (wanted, got) in wanted.into_iter().zip(all) {
                    if coalesce {
                        overtaken += settle(tx, wanted, got, (node, overtaken), now, &mut claimed).await?;
                    } else {
                        claimed.extend(got);
                    }
                }
                Ok::<_, Error>((claimed, overtaken))
            })
            .await?;
        if claimed.is_empty() {
            return Ok((Vec::new(), overtaken));
        }
        failpoint("after_claim");
        let facts = self
            .store
            .read(async move |reader| {
                let _ = system;
                facts::read(reader, claimed, now).await
            })
            .await?;
        Ok((facts, overtaken))
    }

    /// Begins the attempts of what was claimed, and stores at once what needs none.
    async fn begin(&self, facts: Vec<Facts>, claimed_for: Stopwatch, now: Timestamp) -> Result<()> {
        // The clock as it is now: a claim may have waited long for its commit, and from here on waits are counted. Less
        // than a second is no matter.
        let now = now + Span::from_secs(claimed_for.elapsed().as_secs().cast_signed());
        let mut ended = Batch::default();
        let (mut returned, mut lines) = (Vec::new(), Vec::new());
        for facts in facts {
            // Its lease was given back by a node whose clock differs, and is ours again: what its attempt finds is stored
            // by this one.
            if self.under_way.has(&facts.claimed) {
                continue;
            }
            // Of a claim that waited long for its commit, or for its facts, too little may be left: what is told then could
            // be told behind something newer. Monotonic: the clock may jump.
            let lease_left =
                Duration::from_secs(LEASE.as_secs() as u64).saturating_sub(claimed_for.elapsed());
            let may_tell = lease_left >= LEASE_LEFT;
            match facts.work(&self.trade, now) {
                Work::Send(request, warnings) => {
                    if !may_tell || !self.spawn(&facts.claimed, request, warnings, now) {
                        returned.push(facts.claimed);
                    }
                }
                Work::Line(_) if !may_tell => returned.push(facts.claimed),
                Work::Line(line) => {
                    let (project, channel) = (facts.claimed.project, facts.claimed.channel);
                    lines.push(Told {
                        claimed: facts.claimed,
                        line,
                        place: self.desk.begin_inside(project, channel),
                    });
                }
                Work::End(end, why) => {
                    let bearing = facts.bearing(end);
                    let row = Recorded {
                        claimed: facts.claimed,
                        found: None,
                        next: Next::Ended(end),
                        outcome: why,
                    };
                    ended.push(row, bearing, None);
                }
                Work::Unreadable(why) => {
                    // Its lease lapses, and it is tried again: it must not hold up the others.
                    let id = facts.claimed.id;
                    tracing::error!(delivery.id = %id, "delivery {id} cannot be read: {why}");
                }
            }
        }
        let lease_left = Duration::from_secs(LEASE.as_secs() as u64).saturating_sub(claimed_for.elapsed());
        self.write_lines(lines, lease_left, now);
        if ended.len() > 0 {
            lock(&self.judged).push_back(Arc::new(ended));
        }
        if !returned.is_empty() {
            let node = self.node;
            self.store
                .write(async move |tx| {
                    for claimed in &returned {
                        tx.delivery_release(SystemScope::engine(), claimed, node, now)
                            .await?;
                    }
                    Ok::<_, Error>(())
                })
                .await?;
        }
        self.record(now).await
    }
}

/// Whether a newer alert need not wait for this one any more. What somebody had sent again is tried before, unless nothing could
/// be sent for a fast phase.
async fn may_be_overtaken(tx: &mut Tx<'_>, delivery: &Claimed, now: Timestamp) -> Result<bool> {
    if !fast_phase_is_over(delivery.attempts, delivery.created_at, now) {
        return Ok(false);
    }
    let asked = asked_at(delivery.expires_at);
    if !delivery.redelivery || now - asked >= FAST_PHASE {
        return Ok(true);
    }
    let last = tx.last_try(SystemScope::engine(), delivery).await?;
    Ok(last.is_some_and(|at| at >= asked))
}

/// Lets newer alerts overtake those that were claimed late, and claims in the place of what went so. Gives how many were
/// overtaken, beside the `before` that this transaction has let be already.
async fn settle(
    tx: &mut Tx<'_>,
    wanted: Wanted,
    got: Vec<Claimed>,
    (node, before): (NodeId, u64),
    now: Timestamp,
    claimed: &mut Vec<Claimed>,
) -> Result<u64> {
    let system = SystemScope::engine();
    let left = |overtaken: u64| OVERTAKEN_MAX.saturating_sub(before + overtaken);
    let (mut overtaken, mut kept) = (0, 0);
    for delivery in got {
        let went = if may_be_overtaken(tx, &delivery, now).await? {
            tx.delivery_overtake(system, &delivery, node, now, left(overtaken))
                .await?
        } else {
            0
        };
        overtaken += went;
        if went == 0 {
            claimed.push(delivery);
            kept += 1;
        }
    }
    let missing = wanted.limit.saturating_sub(kept);
    if missing > 0 {
        // Something is due and stands behind another.
        let before = now - FAST_PHASE;
        overtaken += tx
            .deliveries_overtake(system, &wanted, now, before, FAST_TRIES, left(overtaken))
            .await?;
    }
    // Once this transaction is full, what is given back half done would be claimed again, and told.
    if missing > 0 && overtaken > 0 && left(overtaken) > 0 {
        let rest = Wanted {
            limit: missing,
            ..wanted
        };
        claimed.extend(tx.deliveries_claim(system, &rest, now, node, LEASE).await?);
    }
    Ok(overtaken)
}

impl<O: Outbound> Step for Deliver<O> {
    const NAME: &'static str = "deliver";

    async fn step(&self, now: Timestamp) -> Result<Due> {
        // Leases are counted from `now`, so what passes from here on is gone of them.
        let claimed_for = Stopwatch::start();
        self.reap();
        if self.waiting() > 0 {
            // Somebody gave a place back.
            lock(&self.cursors).wake();
        }
        self.record(now).await?;
        let Found {
            ready,
            crowded,
            goes_on,
            in_pause,
            next,
            lapse,
        } = self.due(now).await?;
        self.meters
            .desk(self.desk.in_flight(), self.desk.breakers_open(now));
        if lapse.is_some_and(|at| at <= now) {
            lock(&self.cursors).begun();
            let (system, node, under_way) = (SystemScope::engine(), self.node, self.under_way.all());
            self.store
                .write(async move |tx| {
                    tx.deliveries_renew(system, &under_way, node, now, LEASE).await?;
                    failpoint("during_lease_renewal");
                    tx.deliveries_release(system, now, LAPSED_MAX).await
                })
                .await?;
            return Ok(Due::Now);
        }
        let held_up = !ready.is_empty();
        if held_up {
            let served = lock(&self.cursors).served;
            let wanted = plan::plan(&ready, &self.desk, served, now);
            if let Some(last) = wanted.last() {
                lock(&self.cursors).served = Some(last.project);
                let (facts, overtaken) = self.claim(wanted, now).await?;
                if !facts.is_empty() || overtaken > 0 {
                    if !in_pause {
                        lock(&self.cursors).begun();
                    }
                    self.begin(facts, claimed_for, now).await?;
                    return Ok(Due::Now);
                }
            }
        }
        if in_pause {
            lock(&self.cursors).asked_in_pause(now);
        }
        if goes_on {
            return Ok(Due::Now);
        }
        let held_up = if crowded {
            Some(lock(&self.cursors).rest(now))
        } else {
            held_up.then(|| now + HELD_UP)
        };
        let due = [next, lapse, held_up].into_iter().flatten().min();
        Ok(due.map_or(Due::WhenNudged, Due::At))
    }

    /// Something was promised, or an attempt ended: a crowd is asked again.
    fn nudged(&self) {
        lock(&self.cursors).wake();
    }

    /// Waits for the attempts under way, stores what they found, and gives leases back.
    async fn end(&self, clock: fn() -> Timestamp) -> Result<()> {
        let waited = Stopwatch::start();
        while self.desk.in_flight() > 0 || self.desk.lines_under_way() > 0 {
            // Only the waiting is bounded: a transaction that was begun is brought to its end.
            let left = END_WITHIN.saturating_sub(waited.elapsed());
            if tokio::time::timeout(left, self.nudge.notified()).await.is_err() {
                break;
            }
            if let Err(error) = self.record(clock()).await {
                tracing::warn!("results cannot be stored and are tried once more at the end: {error}");
            }
        }
        self.record(clock()).await?;
        let node = self.node;
        self.store
            .write(async move |tx| tx.deliveries_release_mine(SystemScope::engine(), node).await)
            .await?;
        Ok(())
    }
}
