//! A database for a simulated world: in memory, shared by the stores of several nodes, and run by hand.
//!
//! The stores are the real ones; only the threads are missing. What a node wants of the database waits here until the
//! world runs it, in the order and with the [`Fate`] that its seed gives. A node that crashes never hears the answer, and
//! what it had not begun never happens. Between the reads of a transaction and its first change others may come in, as
//! several nodes on one PostgreSQL do to each other.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use allswell_core::absence::Absence;
use allswell_core::check::Check;
use allswell_core::delivery::Class;
use allswell_core::flip::Flip;
use allswell_core::id::{ChannelId, CheckId, DeliveryId, NodeId};
use allswell_core::signal::Kind;
use allswell_core::time::Timestamp;
use rusqlite::Connection;
use tokio::sync::mpsc;
use uuid::Uuid;

use crate::db::script::Script;
use crate::db::sqlite::{Job, QUEUE_MAX, Sqlite, all, configure};
use crate::db::{Param, Row, migrate_sqlite, statements};
use crate::flips::Incident;
use crate::store::Database;
use crate::vault::Vault;
use crate::{Error, Result, Schema, Store};

macro_rules! delivery {
    () => {
        "select d.shard as shard, d.id as id, d.seq as seq, d.channel_id as channel_id, d.class as class, d.note as note,
                d.state as state, d.attempts as attempts, d.next_at as next_at, d.lease_owner as lease_owner,
                d.lease_until as lease_until, d.created_at as created_at, d.expires_at as expires_at,
                d.finished_at as finished_at,
                (select count(*) from attempts a where a.shard = d.shard and a.delivery_id = d.id) as tries
         from deliveries d "
    };
}

statements! {
    CHECKS = concat!("select ", crate::checks::columns!(), ", deleted_at from checks order by id");
    VERSIONS = "select id, version, ping_count, flip_count, deleted_at from checks order by id";
    PINGS = "select n, at, kind, rid, user_agent from pings where check_id = $1 and n > $2 order by n";
    FLIPS = "select seq, at, from_status, to_status, expected_at, reason_code, reason_data, noticed_at from flips
             where check_id = $1 and seq > $2 order by seq";
    INCIDENTS = "select opened_seq, opened_at, closed_seq, closed_at from incidents where check_id = $1
                 order by opened_seq";
    DELIVERIES = concat!(delivery!(), "where d.shard = $1 order by d.seq, d.channel_id, d.id");
    // Those in lanes of their own.
    ALONE = concat!(delivery!(), "where d.seq = 0 order by d.id");
    // Sums of remainders: what matters is that they change.
    ALONE_STAMP = "select count(*) as deliveries, count(finished_at) as finished, coalesce(sum(attempts), 0) as attempts,
                     coalesce(sum(next_at % 1000000007 + coalesce(lease_until, 7) % 998244353 * 3), 0) as instants
                  from deliveries where seq = 0";
    STAMPS = "select shard, count(*) as deliveries, count(finished_at) as finished, sum(attempts) as attempts,
                     sum(next_at % 1000000007 + coalesce(lease_until, 7) % 998244353 * 3) as instants
              from deliveries where seq > 0 group by shard";
    OCCASIONS = "select delivery_id, flip_seq, channel_id, occasion from delivery_flips where check_id = $1
                 order by flip_seq, channel_id, occasion";
    PROMISES = "select count(*) as promises from delivery_flips";
    OFF = "select id from channels where disabled_at is not null order by id";
    DELETED = "select id from channels where deleted_at is not null order by id";
    MARKS = "select node_id, seen_at from awake where seen_at >= $1 and not ended order by node_id";
    ABSENCES = "select from_at, to_at from absences order by from_at";
}

/// What becomes of a piece of work.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub enum Fate {
    /// It goes as it should.
    #[default]
    Kept,
    /// The database is away before it begins.
    FailsAtBegin,
    /// Its n-th statement fails, counted from 1: the disk is full. Beyond its last one nothing fails.
    FailsAt(u32),
    /// The commit fails and everything is taken back.
    FailsAtCommit,
    /// It is committed, and whoever waits is told that it failed: the connection broke in that moment.
    CommitsUnheard,
}

/// A piece of work that waits to be run.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// Its number, in the order in which they were found.
    pub id: u64,
    /// Whose it is.
    pub node: usize,
    /// Whether it may write.
    pub writes: bool,
}

/// What became of a piece of work.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Its number.
    pub id: u64,
    /// Whose it was.
    pub node: usize,
    /// Whether it wrote something, and that stays.
    pub committed: bool,
}

struct Node {
    writes: mpsc::Receiver<Job>,
    reads: mpsc::Receiver<Job>,
}

/// The database and what waits for it.
pub struct Simulated {
    conn: Connection,
    script: Arc<Script>,
    nodes: BTreeMap<usize, Node>,
    nodes_made: usize,
    waiting: Vec<(Waiting, Job)>,
    next: u64,
}

impl Simulated {
    /// A new database with the schema of today.
    pub fn new(now: Timestamp) -> Result<Self> {
        let conn = Connection::open_in_memory()?;
        configure(&conn)?;
        migrate_sqlite(&conn, Schema::Migrate, now)?;
        Ok(Simulated {
            conn,
            script: Arc::default(),
            nodes: BTreeMap::new(),
            nodes_made: 0,
            waiting: Vec::new(),
            next: 0,
        })
    }

    /// A store as a node has it that has just started, and the node's number here. Its vault is closed.
    pub fn store(&mut self) -> (usize, Store) {
        let (writer, writes) = mpsc::channel(QUEUE_MAX);
        let (reader, reads) = mpsc::channel(QUEUE_MAX);
        let node = self.nodes_made;
        self.nodes_made += 1;
        self.nodes.insert(node, Node { writes, reads });
        let store = Store {
            database: Database::Sqlite(Sqlite::scripted(writer, reader, Arc::clone(&self.script))),
            vault: Arc::<Vault>::default(),
            changed: tokio::sync::watch::Sender::default(),
            ready: Arc::default(),
        };
        (node, store)
    }

    /// What waits, oldest first.
    pub fn waiting(&mut self) -> Vec<Waiting> {
        for (node, queues) in &mut self.nodes {
            let node = *node;
            for (writes, queue) in [(true, &mut queues.writes), (false, &mut queues.reads)] {
                while let Ok(job) = queue.try_recv() {
                    let id = self.next;
                    self.next += 1;
                    self.waiting.push((Waiting { id, node, writes }, job));
                }
            }
        }
        self.waiting.iter().map(|(waiting, _)| *waiting).collect()
    }

    fn take(&mut self, id: u64) -> (Waiting, Job) {
        let place = self.waiting.iter().position(|(waiting, _)| waiting.id == id);
        self.waiting.remove(place.expect("it waits"))
    }

    /// Runs a piece of work that waits. What `others` name is run in between: after its reads and before it first locks
    /// or changes a row, which is before it is committed. Gives what became of each, in the order of their commits.
    pub fn run(&mut self, id: u64, fate: Fate, others: &[u64]) -> Vec<Ended> {
        let (one, job) = self.take(id);
        let mut between = Vec::new();
        let mut who = Vec::new();
        for other in others {
            let (waiting, job) = self.take(*other);
            who.push(waiting);
            between.push((waiting.id, job));
        }
        let played = self.script.play(&mut self.conn, fate, job, between);
        let node = |id| {
            who.iter()
                .find(|other| other.id == id)
                .map_or(0, |other| other.node)
        };
        let mut ended: Vec<Ended> = played
            .others
            .iter()
            .map(|(id, committed)| Ended {
                id: *id,
                node: node(*id),
                committed: *committed,
            })
            .collect();
        ended.push(Ended {
            id: one.id,
            node: one.node,
            committed: played.committed,
        });
        ended
    }

    /// A node has crashed: its futures must be gone already. Gives what it had on its way to the database, which may
    /// still be run, or forgotten.
    pub fn crash(&mut self, node: usize) -> Vec<Waiting> {
        let mut left = self.waiting();
        self.nodes.remove(&node);
        left.retain(|waiting| waiting.node == node);
        left
    }

    /// Drops a piece of work that waits: it never reached the database.
    pub fn forget(&mut self, id: u64) {
        drop(self.take(id));
    }

    /// Runs a future of a node to its end, with all work of this node and of no other.
    ///
    /// # Panics
    /// If it waits for something else.
    pub fn settle<T>(&mut self, node: usize, future: impl Future<Output = T>) -> T {
        let mut future = pin!(future);
        loop {
            if let Poll::Ready(value) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                return value;
            }
            let next = self.waiting().into_iter().find(|waiting| waiting.node == node);
            let next = next.expect("a future of this node waits for something that is not the database");
            self.run(next.id, Fate::Kept, &[]);
        }
    }
}

/// A check as it is stored, deleted ones included.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    /// The check.
    pub check: Check,
    /// When somebody deleted it.
    pub deleted_at: Option<Timestamp>,
}

/// What changes with each change of a check.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// The check.
    pub id: CheckId,
    /// Its version.
    pub version: i64,
    /// Pings so far.
    pub pings: u64,
    /// Flips so far.
    pub flips: u64,
    /// Whether it was deleted.
    pub deleted: bool,
}

/// A ping as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Its number.
    pub n: u64,
    /// When it arrived.
    pub at: Timestamp,
    /// What it said.
    pub kind: Kind,
    /// Its run id.
    pub rid: Option<Uuid>,
    /// The client's name for itself.
    pub user_agent: String,
}

/// A flip as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Noticed {
    /// The flip.
    pub flip: Flip,
    /// The clock of whoever decided it.
    pub noticed_at: Timestamp,
}

/// A delivery as it is stored, with what it tells of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Promise {
    /// The check.
    pub check: CheckId,
    /// Its id.
    pub id: DeliveryId,
    /// The number of its flip.
    pub seq: u64,
    /// Where it goes.
    pub channel: ChannelId,
    /// What it is for.
    pub class: Class,
    /// What it tells if it tells no flip.
    pub note: Option<String>,
    /// The flips it tells of, each with its occasion: its own, and those that it overtook.
    pub tells: Vec<(u64, u64)>,
    /// The word for its state.
    pub state: String,
    /// Attempts, by its row.
    pub attempts: u64,
    /// Attempts, by theirs.
    pub tries: u64,
    /// When it is due, or was.
    pub next_at: Timestamp,
    /// Who holds it, until when.
    pub lease: Option<(NodeId, Timestamp)>,
    /// When it was promised.
    pub created_at: Timestamp,
    /// After this it is no longer sent.
    pub expires_at: Timestamp,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
}

/// A delivery, but for what it tells of.
fn promise(row: &Row) -> Result<Promise> {
    let (owner, until) = (row.get("lease_owner")?, row.get("lease_until")?);
    let class: String = row.get("class")?;
    Ok(Promise {
        check: row.get("shard")?,
        id: row.get("id")?,
        seq: row.get("seq")?,
        channel: row.get("channel_id")?,
        class: Class::from_word(&class)
            .ok_or_else(|| Error::Corrupt("a delivery has an unknown class".to_owned()))?,
        note: row.get("note")?,
        tells: Vec::new(),
        state: row.get("state")?,
        attempts: row.get("attempts")?,
        tries: row.get("tries")?,
        next_at: row.get("next_at")?,
        lease: Option::zip(owner, until),
        created_at: row.get("created_at")?,
        expires_at: row.get("expires_at")?,
        finished_at: row.get("finished_at")?,
    })
}

fn stamp(row: &Row) -> Result<[i64; 4]> {
    let numbers = ["deliveries", "finished", "attempts", "instants"].map(|name| row.get(name));
    let [deliveries, finished, attempts, instants] = numbers;
    Ok([deliveries?, finished?, attempts?, instants?])
}

/// Looking at everything, past scopes and without a transaction: for what must hold after each step.
impl Simulated {
    fn rows<T>(
        &self,
        stmt: &'static crate::db::Stmt,
        params: &[Param<'_>],
        read: impl Fn(&Row) -> Result<T>,
    ) -> Result<Vec<T>> {
        all(&self.conn, stmt, params)?.iter().map(read).collect()
    }

    /// All checks.
    pub fn checks(&self) -> Result<Vec<Seen>> {
        self.rows(&CHECKS, &[], |row| {
            Ok(Seen {
                check: crate::checks::from_row(row)?,
                deleted_at: row.get("deleted_at")?,
            })
        })
    }

    /// What tells whether a check has changed.
    pub fn versions(&self) -> Result<Vec<Version>> {
        self.rows(&VERSIONS, &[], |row| {
            Ok(Version {
                id: row.get("id")?,
                version: row.get("version")?,
                pings: row.get("ping_count")?,
                flips: row.get("flip_count")?,
                deleted: row.get::<Option<Timestamp>>("deleted_at")?.is_some(),
            })
        })
    }

    /// The pings of a check behind number `after`.
    pub fn pings(&self, check: CheckId, after: u64) -> Result<Vec<Stored>> {
        self.rows(&PINGS, &[check.into(), after.into()], |row| {
            let kind = Kind::from_number(row.get("kind")?);
            Ok(Stored {
                n: row.get("n")?,
                at: row.get("at")?,
                kind: kind.ok_or_else(|| Error::Corrupt("a ping has an unknown kind".to_owned()))?,
                rid: row.get("rid")?,
                user_agent: row.get("user_agent")?,
            })
        })
    }

    /// The flips of a check behind number `after`.
    pub fn flips(&self, check: CheckId, after: u64) -> Result<Vec<Noticed>> {
        self.rows(&FLIPS, &[check.into(), after.into()], |row| {
            Ok(Noticed {
                flip: crate::flips::from_row(row)?,
                noticed_at: row.get("noticed_at")?,
            })
        })
    }

    /// The incidents of a check.
    pub fn incidents(&self, check: CheckId) -> Result<Vec<Incident>> {
        self.rows(&INCIDENTS, &[check.into()], |row| {
            Ok(Incident {
                opened_seq: row.get("opened_seq")?,
                opened_at: row.get("opened_at")?,
                closed_seq: row.get("closed_seq")?,
                closed_at: row.get("closed_at")?,
            })
        })
    }

    /// For each check with deliveries what changes with each change of one.
    pub fn promise_stamps(&self) -> Result<BTreeMap<CheckId, [i64; 4]>> {
        let stamps = self.rows(&STAMPS, &[], |row| Ok((row.get("shard")?, stamp(row)?)))?;
        Ok(stamps.into_iter().collect())
    }

    /// The deliveries of a check.
    pub fn promises(&self, check: CheckId) -> Result<Vec<Promise>> {
        let occasions = self.rows(&OCCASIONS, &[check.into()], |row| {
            let (id, channel): (DeliveryId, ChannelId) = (row.get("delivery_id")?, row.get("channel_id")?);
            let (seq, occasion): (u64, u64) = (row.get("flip_seq")?, row.get("occasion")?);
            Ok((id, channel, (seq, occasion)))
        })?;
        self.rows(&DELIVERIES, &[check.into()], |row| {
            let promise = promise(row)?;
            let of_it = occasions
                .iter()
                .filter(|(of, to, _)| (*of, *to) == (promise.id, promise.channel));
            let tells = of_it.map(|(_, _, tells)| *tells).collect();
            Ok(Promise { tells, ..promise })
        })
    }

    /// The deliveries that tell no flip: tests, and notes of our own. Each has its own id in the place of a check's.
    pub fn promises_alone(&self) -> Result<Vec<Promise>> {
        self.rows(&ALONE, &[], promise)
    }

    /// What changes with each change of one of them.
    pub fn promises_alone_stamp(&self) -> Result<Option<[i64; 4]>> {
        let stamps = self.rows(&ALONE_STAMP, &[], stamp)?;
        Ok(stamps.first().copied())
    }

    /// The channels that are switched off.
    pub fn channels_off(&self) -> Result<BTreeSet<ChannelId>> {
        let off = self.rows(&OFF, &[], |row| row.get("id"))?;
        Ok(off.into_iter().collect())
    }

    /// The channels that somebody deleted.
    pub fn channels_deleted(&self) -> Result<BTreeSet<ChannelId>> {
        let deleted = self.rows(&DELETED, &[], |row| row.get("id"))?;
        Ok(deleted.into_iter().collect())
    }

    /// How many occasions of deliveries there are.
    pub fn promise_count(&self) -> Result<u64> {
        let counted = self.rows(&PROMISES, &[], |row| row.get("promises"))?;
        Ok(counted.first().copied().unwrap_or(0))
    }

    /// The last signs of life of nodes since `since`.
    pub fn marks(&self, since: Timestamp) -> Result<Vec<(NodeId, Timestamp)>> {
        self.rows(&MARKS, &[since.into()], |row| {
            Ok((row.get("node_id")?, row.get("seen_at")?))
        })
    }

    /// The absences, oldest first.
    pub fn absences(&self) -> Result<Vec<Absence>> {
        self.rows(&ABSENCES, &[], |row| {
            Ok(Absence {
                from: row.get("from_at")?,
                to: row.get("to_at")?,
            })
        })
    }
}
