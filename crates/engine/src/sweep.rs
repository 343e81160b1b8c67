//! The sweep: checks whose deadline has passed go down, unless it was we who were away.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use allswell_core::absence::{Absence, MARK_EVERY};
use allswell_core::chance::Dice;
use allswell_core::check::{Check, Event, State, Status, decide};
use allswell_core::flip::Flip;
use allswell_core::id::{CheckId, NodeId};
use allswell_core::schedule::Zones;
use allswell_core::scope::SystemScope;
use allswell_core::time::{Span, Timestamp};
use allswell_store::batch::{Changed, Then};
use allswell_store::news::News;
use allswell_store::{Error, Result, Store, Tx};
use tokio::sync::{Mutex, Notify};

use crate::loops::{Step, Stopwatch};
use crate::meters::Meters;
use crate::pending::Pending;
use crate::{Due, record, set_back};

/// Checks that one transaction looks at: a storm of deadlines must let pings through in between. Of the time that one
/// takes much is its flush, so fewer would make the storm longer and the pings' waiting hardly shorter.
const BATCH: i64 = 500;
/// Batches of a crowd that one of the sweeps beside each other looks at in a step: few enough that the node says in between
/// that it is awake.
const LANE_BATCHES: usize = 4;
/// A lane takes no further batch after this long, for the same reason: a slow database may take seconds for each.
const LANE_TIME: Duration = Duration::from_secs(2);
/// How fresh our sign of life must be when something is judged late. Far below what counts as an absence, and in a storm
/// it saves a commit for each batch.
const FRESH: Span = Span::from_secs(1);
/// Without a sign of life for longer, this node slept: what it knows of data keys may be of another time.
const SLEPT: Span = Span::from_secs(30);
/// How long deadlines wait that pings on their way in may have met.
const PINGS_FIRST: Span = Span::from_millis(20);

/// How long to leave checks alone that are due and that somebody else has taken: he may hold them for long.
const TAKEN: Span = Span::from_millis(100);

/// How long a ping may wait for its commit at another node, where there are others: what waits there is not known here.
const OTHERS_SETTLE: Span = Span::from_secs(1);
/// A node that took no leave may still take pings for long after its last sign of life: it hung, or the database was away
/// for both. Waiting a second for nobody does little harm, so it is given an hour.
const OTHERS_GONE: Span = Span::from_secs(3_600);

/// Looks at checks whose stored wake-up has come.
pub struct Sweep {
    store: Store,
    node: NodeId,
    dice: Mutex<Dice>,
    /// When this node last said that it is awake.
    marked: Mutex<Option<Timestamp>>,
    /// The last batch was full.
    crowd: AtomicBool,
    zones: Zones,
    pending: Pending,
    /// Other nodes may serve this database too.
    beside_others: bool,
    deliver: Arc<Notify>,
    meters: Meters,
}

#[derive(Default)]
struct Swept {
    looked_at: usize,
    flips: Vec<(CheckId, Flip)>,
    /// Checks whose schedule cannot be computed, with why.
    postponed: Vec<(CheckId, String)>,
    promised: usize,
}

impl Sweep {
    /// `node` is what says that it is awake; `pending` are the pings that wait; `deliver` is nudged when a promise was
    /// made.
    pub fn new(
        store: Store,
        node: NodeId,
        dice: Dice,
        zones: Zones,
        pending: Pending,
        deliver: Arc<Notify>,
        meters: Meters,
    ) -> Self {
        Sweep {
            store,
            node,
            dice: Mutex::new(dice),
            marked: Mutex::new(None),
            crowd: AtomicBool::new(false),
            zones,
            pending,
            beside_others: false,
            deliver,
            meters,
        }
    }

    /// The same for a database that other nodes may serve too. A ping that reached one of them in time and waits for its
    /// commit there is given a second, so that nothing is judged before its deadline is that long ago, as long as another
    /// is awake. Its flip bears the deadline all the same.
    ///
    /// Says that this node is awake, which the others must hear before it takes its first ping: until then they give its
    /// pings no time.
    pub async fn beside_others(mut self, clock: impl Fn() -> Timestamp) -> Result<Self> {
        self.beside_others = true;
        while self
            .mark_awake(clock(), Stopwatch::start(), true)
            .await?
            .is_none()
        {}
        Ok(self)
    }

    /// Says that this node is awake, if it is time to. Before anything is judged late, so that an absence of ours is
    /// known when the deadlines that fell into it are looked at. Gives when it is time again; `None` if `now` is long past: to a
    /// server that hung on its way to the database the marks of the others would look like those of a clock ahead.
    async fn mark_awake(
        &self,
        now: Timestamp,
        read: Stopwatch,
        something_is_due: bool,
    ) -> Result<Option<Timestamp>> {
        let mut marked = self.marked.lock().await;
        let again = marked.map_or(now, |at| at + MARK_EVERY);
        // A clock that was set back would leave us silent for as long.
        let set_back = marked.is_some_and(|at| at > now);
        let is_fresh = marked.is_some_and(|at| now < at + FRESH);
        if again > now && !set_back && (is_fresh || !something_is_due) {
            return Ok(Some(again));
        }
        // No rotation of keys waited for this node, and a day after one the old keys are deleted. Whether others were awake
        // meanwhile is no matter.
        if marked.is_some_and(|at| now - at > SLEPT) {
            self.store.data_keys_forget();
        }
        let node = self.node;
        let found = self
            .store
            .write(async move |tx| {
                // The first statement begins the transaction: whatever held that up is over when its answer is there.
                tx.last_seen(SystemScope::engine(), now).await?;
                if read.is_stale() {
                    return Ok(None);
                }
                let found = tx.awake_mark(SystemScope::engine(), node, now).await?;
                if found.was_set_back {
                    set_back::begin(tx).await?;
                }
                Ok::<_, Error>(Some(found))
            })
            .await?;
        let Some(found) = found else { return Ok(None) };
        *marked = Some(now);
        if found.was_set_back {
            tracing::warn!(
                "the clock was set back, or that of another node is ahead: what was noted for time to come is looked at again"
            );
        }
        if let Some(Absence { from, to }) = found.absence {
            self.meters.absent(to - from);
            tracing::warn!("away from {from} to {to}: what was due then is given time");
        }
        Ok(Some(now + MARK_EVERY))
    }

    /// Looks at a batch; where a crowd fell silent and the database takes several writers, at some beside each other. While
    /// one of them decides or waits for its flush, the server works for the others.
    async fn batches(&self, now: Timestamp) -> Result<usize> {
        let writers = self.store.writers();
        let looked_at = if self.crowd.load(Ordering::Relaxed) && writers > 1 {
            let begun = Stopwatch::start();
            let third = async {
                match writers {
                    2 => Ok(0),
                    _ => self.lane(now, false, begun).await,
                }
            };
            let lanes = tokio::join!(self.lane(now, true, begun), self.lane(now, false, begun), third);
            lanes.0? + lanes.1? + lanes.2?
        } else {
            self.batch(now, true).await?
        };
        self.crowd.store(looked_at as i64 >= BATCH, Ordering::Relaxed);
        Ok(looked_at)
    }

    /// Looks at some batches one after the other, without waiting for those beside it.
    async fn lane(&self, now: Timestamp, with_ourselves: bool, begun: Stopwatch) -> Result<usize> {
        let mut looked_at = 0;
        for _ in 0..LANE_BATCHES {
            let count = self.batch(now, with_ourselves).await?;
            looked_at += count;
            if (count as i64) < BATCH || begun.elapsed() >= LANE_TIME {
                break;
            }
        }
        Ok(looked_at)
    }

    /// Looks at a batch in one transaction. One of those beside each other notes the node's own check too: the others would
    /// only wait for the row.
    async fn batch(&self, now: Timestamp, with_ourselves: bool) -> Result<usize> {
        let (node, dice, zones) = (self.node, self.dice.lock().await.fork(), self.zones.clone());
        let swept = self
            .store
            .write(async move |tx| {
                // In the transaction of the others: where they are not swept, this is not.
                if with_ourselves {
                    tx.watchdog_sweep(SystemScope::engine(), node).await?;
                }
                let due = tx.checks_due_taken(SystemScope::engine(), now, BATCH).await?;
                sweep(tx, due, now, dice, &zones).await
            })
            .await?;
        self.tell(&swept);
        Ok(swept.looked_at)
    }

    /// Looks at each check of a batch alone. One that fails is looked at again later: it must not keep the others from
    /// going down.
    async fn one_by_one(&self, now: Timestamp) -> Result<usize> {
        let system = SystemScope::engine();
        let due = self
            .store
            .read(async move |reader| reader.check_ids_due(system, now, BATCH).await)
            .await?;
        for id in &due {
            let (id, dice, zones) = (*id, self.dice.lock().await.fork(), self.zones.clone());
            let swept = self
                .store
                .write(async move |tx| {
                    let due = tx.check_any(system, id).await?;
                    sweep(tx, due.into_iter().collect(), now, dice, &zones).await
                })
                .await;
            match swept {
                Ok(swept) => self.tell(&swept),
                Err(error) if error.is_passing() => return Err(error),
                Err(error) => {
                    tracing::error!(check.id = %id, "check {id} cannot be swept and is looked at again later: {error}");
                    let until = now + record::POSTPONED;
                    self.store
                        .write(async move |tx| tx.check_postpone(system, id, until).await)
                        .await?;
                }
            }
        }
        Ok(due.len())
    }

    /// Says what a transaction did, after its commit.
    fn tell(&self, swept: &Swept) {
        let mut down = 0;
        for (id, flip) in &swept.flips {
            if flip.to == Status::Down {
                down += 1;
                tracing::info!(check.id = %id, "check {id} went down, deadline {}", flip.at);
            } else {
                tracing::info!(check.id = %id, "check {id} is expected again, its pause is over since {}", flip.at);
            }
        }
        for (id, error) in &swept.postponed {
            tracing::error!(check.id = %id, "the schedule of check {id} cannot be computed any more: {error}");
        }
        self.meters.swept(down);
        if swept.promised > 0 {
            self.deliver.notify_one();
        }
    }

    async fn next(&self) -> Result<Option<Timestamp>> {
        self.store
            .read(async |reader| reader.check_next_deadline(SystemScope::engine()).await)
            .await
    }

    async fn look(&self, now: Timestamp) -> Result<Sight> {
        let (system, node, beside_others) = (SystemScope::engine(), self.node, self.beside_others);
        self.store
            .read(async move |reader| {
                let with_others =
                    beside_others && reader.others_awake(system, node, now - OTHERS_GONE).await?;
                Ok(Sight {
                    next: reader.check_next_deadline(system).await?,
                    ourselves: reader.watchdog_is_due(system, node).await?,
                    others_settle: if with_others { OTHERS_SETTLE } else { Span::ZERO },
                })
            })
            .await
    }
}

/// What a look finds.
struct Sight {
    /// The next deadline.
    next: Option<Timestamp>,
    /// Our own check waits to be swept.
    ourselves: bool,
    /// How long deadlines wait for pings that arrived at other nodes.
    others_settle: Span,
}

impl Sight {
    /// When to look again: when the nearest deadline may be judged, or this node says that it is awake.
    fn again(&self, next: Option<Timestamp>, mark_at: Timestamp) -> Timestamp {
        next.map_or(mark_at, |at| (at + self.others_settle).min(mark_at))
    }
}

impl Step for Sweep {
    const NAME: &'static str = "sweep";

    async fn step(&self, now: Timestamp) -> Result<Due> {
        let read = Stopwatch::start();
        // A look first: an idle server must not begin a write every second.
        let sight = self.look(now).await?;
        let next = sight.next;
        // A ping that came in time and waits for its commit is not late.
        let judged = self.pending.settled_until(now).min(now - sight.others_settle);
        let is_due = sight.ourselves || next.is_some_and(|at| at <= judged);
        self.meters.sweep_looked(next.map_or(Span::ZERO, |at| now - at));
        let Some(mark_at) = self.mark_awake(now, read, is_due).await? else {
            return Ok(Due::Now);
        };
        if !is_due {
            return Ok(Due::At(sight.again(next, mark_at).max(now + PINGS_FIRST)));
        }
        let swept = match self.batches(judged).await {
            Err(error) if !error.is_passing() => {
                tracing::warn!("a sweep failed and is done check by check: {error}");
                self.one_by_one(judged).await
            }
            other => other,
        };
        let looked_at = match swept {
            // Nothing of it was done, and nothing is wrong with any check: whoever was in the way has ended by now.
            Err(Error::Collided(why)) => {
                tracing::info!("a sweep met another transaction and begins again: {why}");
                return Ok(Due::Now);
            }
            other => other?,
        };
        if looked_at as i64 >= BATCH {
            return Ok(Due::Now);
        }
        let next = self.next().await?;
        if looked_at == 0 && next.is_some_and(|at| at <= judged) {
            return Ok(Due::At(now + TAKEN));
        }
        Ok(Due::At(sight.again(next, mark_at)))
    }
}

/// Ends the pause of a check whose schedule cannot be computed, if it is over: for that no schedule is needed.
fn end_pause(check: &mut Check, absences: &Arc<[Absence]>, now: Timestamp, zones: &Zones) -> Option<Flip> {
    let State {
        status, paused_until, ..
    } = check.state;
    if status != Status::Paused || paused_until.is_none_or(|until| until > now) {
        return None;
    }
    let event = Event::Deadline {
        absences: Arc::clone(absences),
    };
    let decision = decide(&record::plan_or_postpone(check, zones), &check.state, event, now);
    check.state = decision.state;
    decision.flip
}

async fn sweep(
    tx: &mut Tx<'_>,
    mut due: Vec<Check>,
    now: Timestamp,
    mut dice: Dice,
    zones: &Zones,
) -> Result<Swept> {
    let mut swept = Swept {
        looked_at: due.len(),
        ..Swept::default()
    };
    let earliest = due.iter().filter_map(|check| check.deadline).min().unwrap_or(now);
    let absences: Arc<[Absence]> = tx.absences_since(SystemScope::engine(), earliest).await?.into();
    // In the order of their ids, and all rows before any flip: two nodes then wait for each other in one direction.
    due.sort_by_key(|check| check.id);
    let mut decided = Vec::with_capacity(due.len());
    for mut check in due {
        let (deadline, flip) = match check.settings.plan(zones) {
            Ok(plan) => {
                let event = Event::Deadline {
                    absences: Arc::clone(&absences),
                };
                let decision = decide(&plan, &check.state, event, now);
                check.state = decision.state;
                (decision.deadline, decision.flip)
            }
            Err(error) => {
                swept.postponed.push((check.id, error.to_string()));
                let flip = end_pause(&mut check, &absences, now, zones);
                let paused = check.state.status == Status::Paused;
                let pause_ends = check.state.paused_until.filter(|until| paused && *until > now);
                let later = now + record::POSTPONED;
                (Some(pause_ends.map_or(later, |until| until.min(later))), flip)
            }
        };
        decided.push((check, deadline, flip));
    }
    let mut changed: Vec<Changed<'_>> = decided
        .iter_mut()
        .map(|(check, deadline, _)| Changed {
            check,
            deadline: *deadline,
            pings: Vec::new(),
            exact: true,
            is_page_full: false,
        })
        .collect();
    // Somebody else may have pinged or swept one since it was read: then it is theirs, and looked at again if it is still
    // due.
    let saved: HashSet<CheckId> = tx
        .batch_save(SystemScope::engine(), &mut changed, Then::More, &mut dice)
        .await?
        .into_iter()
        .collect();
    let mut flipped: Vec<(&Check, &Flip)> = decided
        .iter()
        .filter(|(check, ..)| saved.contains(&check.id))
        .filter_map(|(check, _, flip)| Some((check, flip.as_ref()?)))
        .collect();
    flipped.sort_by_key(|(check, _)| (check.project, check.id));
    let news: Vec<News<'_>> = flipped
        .into_iter()
        .map(|(check, flip)| News {
            check,
            flip,
            noticed_at: now,
        })
        .collect();
    swept.promised = record::write_flips(tx, &news, &mut dice).await?;
    swept.flips = news.iter().map(|one| (one.check.id, one.flip.clone())).collect();
    Ok(swept)
}
