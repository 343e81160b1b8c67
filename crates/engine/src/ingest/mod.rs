//! Pings on their way in: a bounded inbox, group commit, the answer after the commit.
//!
//! What waits goes into one transaction; nothing waits on a timer. While a commit flushes, the next batch gathers. Only `batch.rs` knows how pings become rows, so that a faster way can take its place.

mod batch;
mod held;
mod queue;
mod rules;

use std::borrow::Cow;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use allswell_core::chance::Dice;
use allswell_core::check::{Fault, Status, Wish};
use allswell_core::id::{CheckId, NodeId};
use allswell_core::limits;
use allswell_core::schedule::Zones;
use allswell_core::secret::Secret;
use allswell_core::signal::{Action, Kind};
use allswell_core::time::{Span, Timestamp};
use allswell_store::{Error, Result, Store};
use bytes::Bytes;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::failpoint::failpoint;
use crate::meters::Meters;
use crate::pending::{Pending, Place};

use held::Held;
use queue::{Lane, Queue};
use rules::Gate;
pub use rules::{Over, PingRules};

/// How often a batch is tried again that lost a row to another writer.
const TRIES_MAX: u32 = 3;
/// How long a batch that is under way keeps a smaller one waiting: one that is stuck must not keep all others.
const PATIENCE: Duration = Duration::from_millis(50);
/// Between two lines of the log about the same trouble.
const COMPLAINT_EVERY: Span = Span::from_secs(10);

/// Where a ping is addressed.
#[derive(Clone, Debug)]
pub enum Address {
    /// A check by its id.
    Check(CheckId),
    /// The same, with the ping key of its project.
    CheckWithKey(CheckId, Secret<String>),
    /// A check by its slug, which is made as wished if there is none.
    Wished(Box<Wished>),
    /// The check that a node is to itself (`watchdog.rs`). It belongs to no project and cannot be pinged from outside.
    Ourselves(NodeId),
    /// A check by its slug, in the project of the ping key.
    Slug {
        /// The ping key.
        key: Secret<String>,
        /// The slug.
        slug: String,
        /// Make the check if there is none.
        create: bool,
    },
}

/// A check by its slug, and what it is to be if it must be made.
#[derive(Clone, Debug)]
pub struct Wished {
    /// The ping key.
    pub key: Secret<String>,
    /// The slug.
    pub slug: String,
    /// What the check is to be; a fault counts only where it must be made.
    pub wish: std::result::Result<Wish, Fault>,
}

impl Address {
    /// The ping key and the slug, if it is one of a slug.
    pub fn by_slug(&self) -> Option<(&Secret<String>, &str)> {
        match self {
            Address::Slug { key, slug, .. } => Some((key, slug)),
            Address::Wished(wished) => Some((&wished.key, &wished.slug)),
            Address::Check(_) | Address::CheckWithKey(..) | Address::Ourselves(_) => None,
        }
    }

    /// The same for all that is sent to one address.
    fn key(&self) -> queue::Key {
        let mut hasher = DefaultHasher::new();
        match self {
            Address::Check(id) | Address::CheckWithKey(id, _) => id.as_uuid_bytes().hash(&mut hasher),
            Address::Slug { slug, .. } => slug.hash(&mut hasher),
            Address::Wished(wished) => wished.slug.hash(&mut hasher),
            Address::Ourselves(node) => node.as_uuid_bytes().hash(&mut hasher),
        }
        hasher.finish()
    }
}

/// A ping that arrived.
#[derive(Clone, Debug)]
pub struct Arrival {
    /// When.
    pub at: Timestamp,
    /// For which check.
    pub address: Address,
    /// What its address says.
    pub action: Action,
    /// Its run id.
    pub rid: Option<Uuid>,
    /// `http` or `https`, as the client saw it.
    pub scheme: Cow<'static, str>,
    /// The request method.
    pub method: Cow<'static, str>,
    /// Where it came from.
    pub remote_addr: Option<String>,
    /// The client's name for itself, already cut.
    pub user_agent: String,
    /// The body, already cut.
    pub body: Bytes,
}

/// What became of a ping.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It is stored.
    Stored,
    /// It is stored, and its check was made for it.
    Created,
    /// There is no such check.
    NotFound,
    /// Several checks share the slug.
    Ambiguous,
    /// More came than its check takes, and it counts for nothing; another will do after this long.
    Limited(Span),
    /// The ping key of the project is asked for, and none came.
    KeyMissing,
    /// The ping key that came opens nothing.
    KeyWrong,
    /// The check must be made, and this parameter of the ping cannot be understood.
    BadParameter(&'static str),
}

/// What is known of a ping that was stored.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// Its check, if it was named by its id. That is a password, and who came by slug may not know it.
    pub check: Option<CheckId>,
    /// Its number there.
    pub n: u64,
    /// What it said.
    pub kind: Kind,
    /// The status of the check, by it.
    pub status: Status,
    /// It is in the log. Else it only counts: more came than are kept.
    pub kept: bool,
}

/// What became of a ping, with all that can be told of it.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// In a word.
    pub answer: Answer,
    /// Of one that was stored; none of our own.
    pub receipt: Option<Receipt>,
}

impl From<Answer> for Told {
    fn from(answer: Answer) -> Self {
        Told {
            answer,
            receipt: None,
        }
    }
}

/// Why a ping could not be taken. The client should try again.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Too many pings wait already.
    Full,
    /// The database is away.
    Busy,
    /// It could not be stored; the log says why.
    Failed,
}

struct Waiting {
    /// Whoever waits for the answer holds it too and is the last to let go of it, where it was made: memory that another thread
    /// gives back is what allocators are slow at.
    arrival: Arc<Arrival>,
    asker: Asker,
}

/// Who waits for the answer, if they still do.
struct Asker {
    answer: oneshot::Sender<std::result::Result<Told, Refusal>>,
    /// Whether it counts as a ping: our own do not.
    counts: bool,
    /// Until its ping is stored or refused.
    _place: Place,
}

/// The bounds of an inbox.
#[derive(Copy, Clone, Debug)]
pub struct InboxLimits {
    /// Pings that may wait.
    pub capacity: usize,
    /// How long a ping waits for a place in a full inbox.
    pub patience: Duration,
    /// Pings in one transaction.
    pub batch_max: usize,
}

/// Where pings wait for their commit. Cheap to clone.
#[derive(Clone)]
pub struct Inbox {
    sender: mpsc::Sender<Waiting>,
    patience: Duration,
    pending: Pending,
    meters: Meters,
}

impl Inbox {
    /// Hands a ping in and waits until it is on disk.
    ///
    /// # Errors
    /// [`Refusal::Full`] if the inbox stays full for its short allowance.
    pub async fn put(&self, arrival: Arrival) -> std::result::Result<Answer, Refusal> {
        self.put_and_hear(arrival).await.map(|told| told.answer)
    }

    /// The same, and tells all that is known of it. The ping is handed in at once.
    ///
    /// # Errors
    /// As [`Inbox::put`].
    pub fn put_and_hear(
        &self,
        arrival: Arrival,
    ) -> impl Future<Output = std::result::Result<Told, Refusal>> + Send {
        let (answer, answered) = oneshot::channel();
        let arrival = Arc::new(arrival);
        let held = Arc::clone(&arrival);
        let asker = Asker {
            answer,
            counts: !matches!(arrival.address, Address::Ourselves(_)),
            _place: self.pending.wait(arrival.at),
        };
        let left_over = match self.sender.try_send(Waiting { arrival, asker }) {
            Ok(()) => Ok(None),
            // In a box: nobody needs its room while there is a place.
            Err(mpsc::error::TrySendError::Full(waiting)) => Ok(Some(Box::new(waiting))),
            Err(mpsc::error::TrySendError::Closed(_)) => Err(Refusal::Busy),
        };
        async move {
            if let Some(waiting) = left_over? {
                Box::pin(self.squeeze(waiting)).await?;
            }
            let told = answered.await.unwrap_or(Err(Refusal::Failed));
            drop(held);
            told
        }
    }

    /// Waits for a place in a full inbox.
    async fn squeeze(&self, waiting: Box<Waiting>) -> std::result::Result<(), Refusal> {
        let Ok(Ok(place)) = tokio::time::timeout(self.patience, self.sender.reserve()).await else {
            self.meters.ping(Err(Refusal::Full));
            return Err(Refusal::Full);
        };
        place.send(*waiting);
        Ok(())
    }

    /// The pings that wait, for the sweep.
    pub fn pending(&self) -> Pending {
        self.pending.clone()
    }

    /// Pings that may wait.
    pub fn capacity(&self) -> usize {
        self.sender.max_capacity()
    }

    /// Pings that wait.
    pub fn depth(&self) -> usize {
        self.sender.max_capacity() - self.sender.capacity()
    }
}

/// Takes batches out of the inbox and stores them.
pub struct Ingest {
    receiver: mpsc::Receiver<Waiting>,
    batch_max: usize,
    meters: Meters,
    hand: Hand,
}

impl Ingest {
    /// An inbox and what empties it. `deliver` is nudged when a promise was made.
    pub fn new(
        store: Store,
        limits: InboxLimits,
        dice: Dice,
        zones: Zones,
        deliver: Arc<Notify>,
        meters: Meters,
    ) -> (Inbox, Ingest) {
        let InboxLimits {
            capacity,
            patience,
            batch_max,
        } = limits;
        let (sender, receiver) = mpsc::channel(capacity);
        (
            Inbox {
                sender,
                patience,
                pending: Pending::default(),
                meters: meters.clone(),
            },
            Ingest {
                receiver,
                batch_max,
                meters: meters.clone(),
                hand: Hand {
                    store,
                    dice,
                    zones,
                    deliver,
                    meters,
                    now: Timestamp::default(),
                    unsaid: 0,
                    quiet_until: None,
                    gate: Gate::default(),
                    held: Arc::default(),
                },
            },
        )
    }

    /// The same with rules for pings.
    #[must_use]
    pub fn with_rules(mut self, rules: PingRules) -> Self {
        self.hand.gate = Gate::new(rules);
        self
    }

    /// Stores batches until every [`Inbox`] is gone and what waited is answered.
    pub async fn run(self, clock: fn() -> Timestamp) {
        match self.hand.store.ping_lanes() {
            1 => self.empty(clock).await,
            lanes => self.empty_by_several(lanes, clock).await,
        }
    }

    /// Stores batches of what comes, one after the other.
    ///
    /// The writer must not stand still while answers go out: if more waits already, the next batch is on its way before
    /// the last one is answered.
    async fn empty(mut self, clock: fn() -> Timestamp) {
        let mut waiting = Vec::with_capacity(self.batch_max);
        let mut stored = Stored::default();
        loop {
            if self.receiver.is_empty() {
                stored.answer(&self.meters);
            }
            if self.receiver.recv_many(&mut waiting, self.batch_max).await == 0 {
                return;
            }
            let (arrivals, askers) = apart(waiting.drain(..));
            let (results, ()) = tokio::join!(
                biased;
                self.hand.store(arrivals, clock),
                async { stored.answer(&self.meters) }
            );
            stored = Stored { askers, results };
        }
    }

    /// Stores batches of what comes, several at a time (`queue.rs`).
    #[expect(
        clippy::disallowed_methods,
        reason = "a loop may wait, and this one waits no longer for a batch that is stuck"
    )]
    async fn empty_by_several(mut self, lanes: usize, clock: fn() -> Timestamp) {
        let mut idle: Vec<Hand> = (1..lanes).map(|_| self.hand.second()).collect();
        idle.push(self.hand);
        let mut queue = Queue::new(lanes);
        let mut running = JoinSet::new();
        let mut incoming = Vec::with_capacity(self.batch_max);
        let mut is_open = true;
        let mut patience = pin!(tokio::time::sleep(PATIENCE));
        while is_open || queue.is_busy() {
            // What waits beyond one batch waits in the inbox, and is bounded there.
            let room = self.batch_max.saturating_sub(queue.waiting());
            let mut stored = Stored::default();
            tokio::select! {
                biased;
                Some(ended) = running.join_next() => {
                    // It ends in another manner only by breaking off, and all of ingest ends with it.
                    let (lane, hand, batch): (Lane, Hand, Stored) = ended.expect("a batch ends in order");
                    queue.end(lane);
                    idle.push(hand);
                    stored = batch;
                }
                received = self.receiver.recv_many(&mut incoming, room), if is_open && room > 0 => {
                    is_open = received > 0;
                    for one in incoming.drain(..) {
                        queue.add(one.arrival.address.key(), one);
                    }
                }
                () = &mut patience, if queue.is_held_back() => queue.lose_patience(),
            }
            while let Some((lane, batch)) = queue.begin(self.batch_max) {
                patience.set(tokio::time::sleep(PATIENCE));
                let mut hand = idle.pop().expect("as many hands as lanes");
                running.spawn(async move {
                    let (arrivals, askers) = apart(batch);
                    let results = hand.store(arrivals, clock).await;
                    (lane, hand, Stored { askers, results })
                });
            }
            if !stored.askers.is_empty() {
                // The database must not stand still while answers go out: the next batch is on its way before.
                tokio::task::yield_now().await;
                stored.answer(&self.meters);
            }
        }
    }
}

/// Pings apart from who waits for their answers.
fn apart(waiting: impl IntoIterator<Item = Waiting>) -> (Vec<Arc<Arrival>>, Vec<Asker>) {
    let waiting = waiting.into_iter();
    waiting.map(|waiting| (waiting.arrival, waiting.asker)).unzip()
}

/// What stores one batch after the other.
struct Hand {
    store: Store,
    dice: Dice,
    zones: Zones,
    deliver: Arc<Notify>,
    meters: Meters,
    now: Timestamp,
    unsaid: usize,
    quiet_until: Option<Timestamp>,
    gate: Gate,
    held: Arc<Mutex<Held>>,
}

impl Hand {
    /// Another one, which counts and holds together with this one.
    fn second(&mut self) -> Hand {
        Hand {
            store: self.store.clone(),
            dice: self.dice.fork(),
            zones: self.zones.clone(),
            deliver: Arc::clone(&self.deliver),
            meters: self.meters.clone(),
            now: self.now,
            unsaid: 0,
            quiet_until: None,
            gate: self.gate.clone(),
            held: Arc::clone(&self.held),
        }
    }

    /// Stores a batch, and measures how long that takes.
    async fn store(
        &mut self,
        arrivals: Vec<Arc<Arrival>>,
        clock: fn() -> Timestamp,
    ) -> Vec<std::result::Result<Told, Refusal>> {
        let pings = arrivals.len();
        self.now = clock();
        let results = self.take(arrivals.into()).await;
        failpoint("after_state_commit");
        self.meters.batch(pings, (clock() - self.now).max(Span::ZERO));
        results
    }

    /// Stores a batch. What another node was faster with is decided again, without what is stored already.
    async fn take(&mut self, arrivals: Arc<[Arc<Arrival>]>) -> Vec<std::result::Result<Told, Refusal>> {
        let mut results = vec![Err(Refusal::Busy); arrivals.len()];
        let mut places: Vec<usize> = (0..arrivals.len()).collect();
        let mut open = arrivals;
        for _ in 0..=TRIES_MAX {
            let (taken, left) = self.take_once(Arc::clone(&open)).await;
            for (place, result) in places.iter().zip(taken) {
                results[*place] = result;
            }
            for index in &left {
                results[places[*index]] = Err(Refusal::Busy);
            }
            if left.is_empty() {
                break;
            }
            open = left.iter().map(|index| Arc::clone(&open[*index])).collect();
            places = left.into_iter().map(|index| places[index]).collect();
        }
        results
    }

    /// Stores a batch. A row that breaks it is tried alone, and only it fails. Also gives the places of those that are to be
    /// decided again.
    async fn take_once(
        &mut self,
        arrivals: Arc<[Arc<Arrival>]>,
    ) -> (Vec<std::result::Result<Told, Refusal>>, Vec<usize>) {
        let error = match self.commit(Arc::clone(&arrivals)).await {
            Ok(done) => return (done.told.into_iter().map(Ok).collect(), done.left),
            Err(error) => error,
        };
        if error.is_passing() || arrivals.len() == 1 {
            self.complain(arrivals.len(), &error);
            let refusal = if error.is_passing() {
                Refusal::Busy
            } else {
                Refusal::Failed
            };
            return (vec![Err(refusal); arrivals.len()], Vec::new());
        }
        tracing::warn!(
            "a batch of {} pings failed and is stored one by one: {error}",
            arrivals.len()
        );
        let mut results = Vec::with_capacity(arrivals.len());
        for arrival in arrivals.iter() {
            // In a box: nobody needs its room while all goes well.
            match Box::pin(self.commit_alone(arrival)).await {
                Ok(told) => results.push(told.ok_or(Refusal::Busy)),
                Err(error) => {
                    self.complain(1, &error);
                    if error.is_passing() {
                        // The others would wait as long, one after the other.
                        results.resize(arrivals.len(), Err(Refusal::Busy));
                        break;
                    }
                    results.push(Err(Refusal::Failed));
                }
            }
        }
        (results, Vec::new())
    }

    /// Stores one ping, before the next one of its check is looked at; `None` if another node was faster each time.
    async fn commit_alone(&mut self, arrival: &Arc<Arrival>) -> Result<Option<Told>> {
        for _ in 0..=TRIES_MAX {
            let done = self.commit(Arc::new([Arc::clone(arrival)])).await?;
            if done.left.is_empty() {
                return Ok(done.told.first().copied());
            }
        }
        Ok(None)
    }

    /// Says that pings could not be stored: at once, and then no more than every ten seconds, with how many it were. The
    /// log may lie on the disk that is full.
    fn complain(&mut self, pings: usize, error: &Error) {
        self.unsaid += pings;
        // A clock that was set back must not keep us quiet for as long.
        let longest = self.now + COMPLAINT_EVERY;
        if self
            .quiet_until
            .is_none_or(|until| until <= self.now || until > longest)
        {
            tracing::error!(
                "pings could not be stored ({} since the last line): {error}",
                self.unsaid
            );
            self.unsaid = 0;
            self.quiet_until = Some(self.now + COMPLAINT_EVERY);
        }
    }

    async fn commit(&mut self, arrivals: Arc<[Arc<Arrival>]>) -> Result<batch::Done> {
        let mut tries = 0;
        loop {
            let (arrivals, dice, zones) = (Arc::clone(&arrivals), self.dice.fork(), self.zones.clone());
            let gate = self.gate.clone();
            let (held, now) = (Arc::clone(&self.held), self.now);
            let stored = self
                .store
                .write_pings(async move |tx| {
                    batch::store(tx, &arrivals, dice, &zones, &gate, &held, now).await
                })
                .await;
            match stored {
                Ok(mut done) => {
                    let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
                    held.keep(done.checks.drain(..), done.basis);
                    held.judge(done.guessed, done.in_vain);
                    drop(held);
                    self.gate.note(&done.used);
                    if done.promised > 0 {
                        self.deliver.notify_one();
                    }
                    return Ok(done);
                }
                Err(Error::Conflict(_) | Error::Collided(_)) if tries < TRIES_MAX => tries += 1,
                Err(error) => return Err(error),
            }
        }
    }
}

/// A batch that is committed, and who waits for that.
#[derive(Default)]
struct Stored {
    askers: Vec<Asker>,
    results: Vec<std::result::Result<Told, Refusal>>,
}

impl Stored {
    fn answer(&mut self, meters: &Meters) {
        for (asker, result) in self.askers.drain(..).zip(self.results.drain(..)) {
            if asker.counts {
                meters.ping(result);
            }
            // A client that went away no longer waits; its ping is stored.
            let _ = asker.answer.send(result);
        }
    }
}

/// Cuts a user agent to what is kept of it.
pub fn cut_user_agent(text: &str) -> String {
    match text.char_indices().nth(limits::USER_AGENT_CHARS_MAX) {
        Some((end, _)) => text[..end].to_owned(),
        None => text.to_owned(),
    }
}
