//! The world: a clock, dice, nodes and a database, and what happens next.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex};

use allswell_core::chance::Dice;
use allswell_core::id::{CheckId, NodeId, ProjectId};
use allswell_core::key::KeyKind;
use allswell_core::scope::{ProjectScope, SystemScope};
use allswell_core::seal::KeyRing;
use allswell_core::secret::Secret;
use allswell_core::time::{Span, Timestamp};
use allswell_engine::Due;
use allswell_engine::ingest::Answer;
use allswell_engine::retain::Kept;
use allswell_store::channels::Channel as StoredChannel;
use allswell_store::people::User;
use allswell_store::projects::Project;
use allswell_store::simulated::{Fate, Simulated, Waiting};
use allswell_store::{Error, Store};

use crate::Failure;
use crate::crashes::Doom;
use crate::look::Sights;
use crate::model::{Channel, Model, Note};
use crate::node::{Done, Loop, Node, Up};
use crate::rules::{ANSWERED, Held, MADE, STEPS, broken, holds};
use crate::runtime::Runtime;
use crate::told::Told;
use crate::users::{Errand, Ticket, To};

const SYSTEM: SystemScope = SystemScope::engine();
/// 2026-01-31 12:00 UTC.
const START: Timestamp = Timestamp::from_secs(1_769_860_800);
/// Happenings that are told of a story that broke a rule.
const TRACE: usize = 120;

/// What kind of world it is.
#[derive(Clone, Debug)]
pub struct Temper {
    /// One has SQLite's manners (first come, first served), several have PostgreSQL's.
    pub nodes: usize,
    /// Checks at the start.
    pub checks: usize,
    /// Pings that one transaction takes.
    pub batch_max: usize,
    /// Happenings, before it is left alone.
    pub happenings: u64,
    /// Of a thousand transactions, how many fail.
    pub failing: u32,
    /// Of ten thousand happenings, how many are a crash.
    pub crashing: u32,
    /// Of ten thousand happenings, how many send everybody away for hours.
    pub leaving: u32,
    /// Of ten thousand happenings, how many set a clock.
    pub setting_clocks: u32,
    /// Of ten thousand happenings, how many let half a minute or more pass while work waits.
    pub stalling: u32,
    /// Of a hundred lines of the log, how many are lost.
    pub losing: u32,
    /// Of a hundred happenings while work waits, how many run some of it: the fewer, the more meets at the database.
    pub prompt: u32,
}

impl Temper {
    /// A world as this seed has it.
    pub fn of(dice: &mut Dice, happenings: u64) -> Self {
        let mut of = |odds: &[u32]| odds[dice.below(odds.len() as u32) as usize];
        Temper {
            nodes: of(&[1, 1, 2, 3]) as usize,
            checks: of(&[1, 2, 4, 6]) as usize,
            batch_max: of(&[1, 4, 200]) as usize,
            happenings,
            failing: of(&[0, 0, 20, 80]),
            crashing: of(&[0, 20, 60]),
            leaving: of(&[0, 0, 15]),
            setting_clocks: of(&[0, 0, 0, 30]),
            stalling: of(&[0, 20]),
            losing: of(&[0, 0, 20]),
            prompt: of(&[85, 60, 30]),
        }
    }
}

impl Temper {
    /// A world without any trouble, and without checks.
    pub(crate) const fn calm(nodes: usize) -> Self {
        Temper {
            nodes,
            checks: 0,
            batch_max: 1_000,
            happenings: 0,
            failing: 0,
            crashing: 0,
            leaving: 0,
            setting_clocks: 0,
            stalling: 0,
            losing: 0,
            prompt: 100,
        }
    }
}

/// What a story that broke no rule was made of.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Happenings.
    pub happenings: u64,
    /// Transactions that were committed.
    pub commits: u64,
    /// Pings that were sent.
    pub pings: u64,
    /// Flips.
    pub flips: u64,
    /// Deliveries promised.
    pub promises: u64,
    /// Absences written down.
    pub absences: u64,
    /// From its first happening to its last, in its own time.
    pub lasted: Span,
    /// A number that changes with anything that is stored: the same seed gives the same.
    pub digest: u64,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} happenings in {}, {} commits, {} pings, {} flips, {} deliveries, {} absences, digest {:016x}",
            self.happenings,
            self.lasted,
            self.commits,
            self.pings,
            self.flips,
            self.promises,
            self.absences,
            self.digest
        )
    }
}

/// Everything there is.
pub(crate) struct World {
    pub(crate) temper: Temper,
    pub(crate) dice: Dice,
    pub(crate) now: Timestamp,
    pub(crate) happening: u64,
    pub(crate) db: Simulated,
    pub(crate) nodes: Vec<Node>,
    /// The clock by which a process last began to replan, by its number at the database.
    pub(crate) replans: BTreeMap<usize, Timestamp>,
    /// Names of processes, by their number at the database.
    pub(crate) names: BTreeMap<usize, NodeId>,
    pub(crate) project: ProjectId,
    pub(crate) ping_key: Secret<String>,
    pub(crate) channels: Vec<Channel>,
    pub(crate) models: BTreeMap<CheckId, Model>,
    pub(crate) tickets: BTreeMap<u64, Ticket>,
    pub(crate) next_ticket: u64,
    pub(crate) notes: Arc<Mutex<Vec<Note>>>,
    pub(crate) told: Told,
    pub(crate) runtime: Runtime,
    pub(crate) sights: Sights,
    pub(crate) latest_clock: Timestamp,
    /// A node is just starting: the only one of its database takes all leases back.
    pub(crate) starting: bool,
    /// Nobody looks after each commit.
    pub(crate) blind: bool,
    pub(crate) doom: Doom,
    /// Work that hangs on its way to the database, until when.
    held: BTreeMap<u64, Timestamp>,
    /// When everybody leaves again.
    leaving_at: Option<Timestamp>,
    pub(crate) clocks_set: bool,
    agenda: BTreeMap<(Timestamp, u64), Errand>,
    next_errand: u64,
    pub(crate) trace: VecDeque<String>,
    ring: KeyRing,
    builder: (usize, Store),
    _ears: tracing::subscriber::DefaultGuard,
}

/// Tells the story of a seed in a world of this temper.
///
/// # Errors
/// The rule that was broken, with what led to it.
pub fn run_with(seed: u64, temper: Temper) -> Result<Report, Box<Failure>> {
    let mut world = World::new(seed, temper);
    match world.story() {
        Ok(()) => Ok(world.report()),
        Err(broken) => Err(Box::new(Failure {
            again: crate::again(seed, world.temper.happenings),
            broken,
            trace: world.trace.into(),
        })),
    }
}

impl World {
    pub(crate) fn new(seed: u64, temper: Temper) -> Self {
        // Not the dice that chose the temper: a story under another temper has its own.
        let mut dice = Dice::from_number(seed ^ 0x5eed);
        let told = Told::default();
        let ears = tracing::subscriber::set_default(told.clone());
        let mut db = Simulated::new(START).expect("a database");
        let ring = KeyRing::generate("root", &mut dice);
        let (number, store) = db.store();
        db.settle(number, store.unlock(ring.clone(), dice.fork(), START))
            .expect("the vault opens");
        let (project, ping_key, channels) = furnish(&mut db, number, &store, &mut dice);
        let mut world = World {
            dice,
            now: START,
            happening: 0,
            db,
            nodes: Vec::new(),
            replans: BTreeMap::new(),
            names: BTreeMap::new(),
            project,
            ping_key,
            channels,
            models: BTreeMap::new(),
            tickets: BTreeMap::new(),
            next_ticket: 1,
            notes: Arc::default(),
            told,
            runtime: Runtime::new(START),
            sights: Sights::default(),
            latest_clock: START,
            starting: false,
            blind: false,
            doom: Doom::default(),
            held: BTreeMap::new(),
            leaving_at: None,
            clocks_set: false,
            agenda: BTreeMap::new(),
            next_errand: 0,
            trace: VecDeque::new(),
            ring,
            builder: (number, store),
            temper,
            _ears: ears,
        };
        world.say(|| "the world begins".to_owned());
        for n in 0..world.temper.checks {
            let check = world.new_check(&format!("check-{n}"));
            let all = world.channels.clone();
            let channels: Vec<Channel> = all.into_iter().filter(|_| world.roll(3) > 0).collect();
            world.add_check(check, channels);
        }
        for _ in 0..world.temper.nodes {
            world.nodes.push(Node {
                ahead: Span::ZERO,
                up: None,
                returns_at: START,
            });
        }
        world
    }

    /// Writes a check with the channels that it tells.
    pub(crate) fn add_check(
        &mut self,
        check: allswell_core::check::Check,
        channels: Vec<Channel>,
    ) -> CheckId {
        let id = check.id;
        let mut model = Model::new(&check, channels.clone());
        model.version = check.version;
        model.job_at = Some(model.next_run(self.now));
        self.models.insert(id, model);
        let store = self.builder.1.clone();
        let ids: Vec<_> = channels.iter().map(|channel| channel.id).collect();
        let write = store.write(async move |tx| {
            tx.check_insert(&check).await?;
            tx.check_set_channels(check.id, &ids).await
        });
        self.db.settle(self.builder.0, write).expect("a check");
        id
    }

    pub(crate) fn roll(&mut self, below: u32) -> u32 {
        self.dice.below(below)
    }

    pub(crate) fn clocks_right(&self) -> bool {
        !self.clocks_set
    }

    /// Leaves word of what happened, for the story of a broken rule.
    pub(crate) fn say(&mut self, what: impl FnOnce() -> String) {
        if self.trace.len() == TRACE {
            self.trace.pop_front();
        }
        let line = format!("{} #{} {}", self.now, self.happening, what());
        self.trace.push_back(line);
    }

    pub(crate) fn nodes_up(&self) -> Vec<usize> {
        (0..self.nodes.len())
            .filter(|n| self.nodes[*n].up.is_some())
            .collect()
    }

    /// What the clock of a node says.
    pub(crate) fn clock_of(&mut self, place: usize) -> Timestamp {
        let clock = self.now + self.nodes[place].ahead;
        self.latest_clock = self.latest_clock.max(clock);
        clock
    }

    pub(crate) fn agenda(&mut self, at: Timestamp, errand: Errand) {
        self.agenda.insert((at, self.next_errand), errand);
        self.next_errand += 1;
    }

    /// When the sweep that runs at a node began, by its number at the database.
    pub(crate) fn sweep_began(&self, number: usize) -> Option<u64> {
        let up = self.nodes.iter().filter_map(|node| node.up.as_ref());
        let mut mine = up.filter(|up| up.number == number);
        mine.next()?.turns[Loop::Sweep as usize].began
    }

    fn story(&mut self) -> Held {
        while self.happening < self.temper.happenings {
            self.next()?;
        }
        self.left_alone()
    }

    /// One happening.
    fn next(&mut self) -> Held {
        self.happening += 1;
        self.poll()?;
        let mut waiting = self.db.waiting();
        let now = self.now;
        self.held
            .retain(|id, until| *until > now && waiting.iter().any(|one| one.id == *id));
        waiting.retain(|one| !self.held.contains_key(&one.id));
        if !waiting.is_empty() && self.roll(100) < self.temper.prompt {
            return self.run_one(&waiting);
        }
        if self.leaving_at.is_some_and(|at| at <= self.now) {
            return self.everybody_leaves();
        }
        let temper = self.temper.clone();
        let odds = [
            temper.crashing,
            temper.leaving,
            temper.setting_clocks,
            temper.stalling,
            250,
            300,
        ];
        let mut roll = self.roll(10_000);
        let mut which = odds.len();
        for (index, odd) in odds.iter().enumerate() {
            if roll < *odd {
                which = index;
                break;
            }
            roll -= odd;
        }
        match which {
            0 => self.somebody_crashes(),
            1 => self.everybody_leaves(),
            2 => self.a_clock_is_set(),
            3 => {
                let secs = i64::from(20 + self.roll(80));
                self.say(|| format!("nothing moves for {secs} s"));
                self.now = self.now + Span::from_secs(secs);
                Ok(())
            }
            4 => {
                self.somebody_acts();
                Ok(())
            }
            5 => {
                self.now = self.now + Span::from_millis(i64::from(self.roll(1_500)));
                Ok(())
            }
            _ if !waiting.is_empty() && self.roll(2) == 0 => self.run_one(&waiting),
            _ => self.time_passes(),
        }
    }

    /// Polls everything that can go on, until nothing can.
    pub(crate) fn poll(&mut self) -> Held {
        let loses = self.temper.losing > 0 && self.roll(100) < self.temper.losing;
        self.told.lose_lines(loses);
        self.runtime.catch_up(self.now);
        let handle = self.runtime.handle();
        let _inside = handle.enter();
        loop {
            let mut done = Vec::new();
            let mut moved = false;
            for (place, node) in self.nodes.iter_mut().enumerate() {
                let Some(up) = &mut node.up else { continue };
                up.tasks.retain_mut(|task| match task.poll() {
                    None => true,
                    Some(None) => {
                        moved = true;
                        true
                    }
                    Some(Some(end)) => {
                        moved = true;
                        done.push((place, end));
                        false
                    }
                });
            }
            self.hear()?;
            for (place, end) in done {
                self.ended(place, end)?;
            }
            if !moved {
                return Ok(());
            }
        }
    }

    fn ended(&mut self, place: usize, done: Done) -> Held {
        match done {
            Done::Ingest => broken(STEPS, "the ingest loop ended".to_owned()),
            Done::Step(which, result) => self.step_ended(place, which, result),
            Done::Ping(ticket, answer) => {
                self.say(|| format!("ping t{ticket} is answered {answer:?}"));
                self.answered(ticket, answer)
            }
            Done::Deed(result) => {
                self.say(|| format!("an edit ends {result:?}"));
                match result {
                    Ok(()) | Err(Error::Unavailable(_)) => Ok(()),
                    Err(error) => broken(STEPS, format!("an edit fails: {error}")),
                }
            }
        }
    }

    fn step_ended(&mut self, place: usize, which: Loop, result: Result<Due, Error>) -> Held {
        let clock = self.clock_of(place);
        let (now, soon) = (self.now, Span::from_secs(1));
        let slack = Span::from_secs(i64::from(self.roll(30)));
        let due = match result {
            Ok(Due::Now) => Some(now),
            Ok(Due::WhenNudged) => None,
            Ok(Due::At(at)) => {
                let wait = (at - clock).max(Span::from_millis(1));
                // Rarely, or a day would be all pruning; and signs of life may come a little late.
                match which {
                    Loop::Retain => Some(now + wait + Span::from_secs(1_800)),
                    Loop::Sweep if wait >= Span::from_secs(14) => Some(now + wait + slack),
                    _ => Some(now + wait),
                }
            }
            Err(Error::Unavailable(_)) => Some(now + soon),
            Err(error) => return broken(STEPS, format!("{which:?} fails: {error}")),
        };
        if let Some(up) = &mut self.nodes[place].up {
            up.turn(which).began = None;
            up.turn(which).due = due;
            if which == Loop::Replan {
                self.replans.remove(&up.number);
            }
        }
        Ok(())
    }

    fn answered(&mut self, ticket: u64, answer: Result<Answer, allswell_engine::ingest::Refusal>) -> Held {
        use allswell_engine::ingest::Refusal;
        let happening = self.happening;
        let asked = self.tickets.get_mut(&ticket).expect("it was sent");
        asked.answered = Some(happening);
        let asked = asked.clone();
        match answer {
            Ok(Answer::Stored | Answer::Created) => {
                let stored = self.blind || self.sights.stored.contains_key(&ticket);
                holds(ANSWERED, stored, || {
                    format!("t{ticket} is answered, and not stored: {asked:?}")
                })
            }
            Ok(Answer::NotFound) => {
                let there = asked
                    .check
                    .is_some_and(|id| self.models.get(&id).is_some_and(|model| !model.deleted));
                let makes = matches!(asked.errand.to, To::Slug { create: true, .. });
                holds(ANSWERED, !there && !makes, || {
                    format!("t{ticket} finds nothing: {asked:?}")
                })
            }
            Ok(Answer::Ambiguous) => broken(MADE, format!("t{ticket} finds several: {asked:?}")),
            Ok(Answer::Limited(_) | Answer::KeyMissing | Answer::KeyWrong | Answer::BadParameter(_)) => {
                broken(
                    ANSWERED,
                    format!("t{ticket} is refused where nothing is asked: {asked:?}"),
                )
            }
            Err(Refusal::Busy) => {
                self.try_again(asked.errand);
                Ok(())
            }
            Err(refusal) => broken(STEPS, format!("t{ticket} is refused: {refusal:?}")),
        }
    }

    /// Runs one of the pieces of work that wait, with the fate that the dice give it.
    fn run_one(&mut self, waiting: &[Waiting]) -> Held {
        // One writer takes them as they come.
        let index = if self.temper.nodes == 1 {
            0
        } else {
            self.roll(waiting.len() as u32) as usize
        };
        let one = waiting[index];
        if self.temper.nodes > 1 && self.roll(1_000) < self.temper.stalling {
            let secs = i64::from(1 + self.roll(150));
            self.say(|| format!("work of node {} hangs for {secs} s", one.node));
            self.held.insert(one.id, self.now + Span::from_secs(secs));
            return Ok(());
        }
        let fate = if self.roll(1_000) < self.temper.failing {
            match self.roll(if one.writes { 5 } else { 2 }) {
                0 => Fate::FailsAtBegin,
                1 => Fate::FailsAt(1 + self.roll(12)),
                2 => Fate::FailsAt(1 + self.roll(3)),
                3 => Fate::FailsAtCommit,
                _ => Fate::CommitsUnheard,
            }
        } else {
            Fate::Kept
        };
        let mut others: Vec<u64> = Vec::new();
        if one.writes && self.temper.nodes > 1 {
            let mut busy = vec![one.node];
            for other in waiting.iter().filter(|other| other.writes) {
                if !busy.contains(&other.node) && self.roll(2) == 0 {
                    busy.push(other.node);
                    others.push(other.id);
                }
            }
        }
        self.run_work(one, fate, &others)
    }

    pub(crate) fn run_work(&mut self, one: Waiting, fate: Fate, others: &[u64]) -> Held {
        self.runtime.catch_up(self.now);
        let ended = {
            let handle = self.runtime.handle();
            let _inside = handle.enter();
            self.db.run(one.id, fate, others)
        };
        if one.writes || fate != Fate::Kept {
            self.say(|| format!("work of node {}: {fate:?}, {ended:?}", one.node));
        }
        let promises = self.sights.lanes.len();
        self.look(&ended)?;
        if self.sights.lanes.len() > promises {
            // The nudge, or the look by itself within the second.
            for place in self.nodes_up() {
                let at = self.now + Span::from_millis(i64::from(self.roll(1_000)));
                let turn = self.nodes[place]
                    .up
                    .as_mut()
                    .expect("it is up")
                    .turn(Loop::Deliver);
                if turn.began.is_none() {
                    turn.due = Some(turn.due.map_or(at, |due| due.min(at)));
                }
            }
        }
        Ok(())
    }

    /// The next thing that is due happens.
    fn time_passes(&mut self) -> Held {
        let errand = self.agenda.first_key_value().map(|((at, _), _)| *at);
        let job = self
            .models
            .values()
            .filter_map(|model| Some((model.job_at?, model.id)))
            .min();
        let mut step: Option<(Timestamp, usize, Option<Loop>)> = None;
        for (place, node) in self.nodes.iter().enumerate() {
            let next = match &node.up {
                None => Some((node.returns_at, place, None)),
                Some(up) => Loop::ALL
                    .into_iter()
                    .filter(|which| up.turns[*which as usize].began.is_none())
                    .filter_map(|which| Some((up.turns[which as usize].due?, place, Some(which))))
                    .min(),
            };
            step = [step, next].into_iter().flatten().min();
        }
        let held = self.held.values().min().copied();
        let next = [errand, job.map(|(at, _)| at), step.map(|(at, ..)| at), held];
        let Some(at) = next.into_iter().flatten().min() else {
            self.now = self.now + Span::from_secs(1);
            return Ok(());
        };
        self.now = self.now.max(at);
        if errand == Some(at) {
            let (_, errand) = self.agenda.pop_first().expect("just seen");
            self.send(errand);
            return Ok(());
        }
        if let Some((_, id)) = job.filter(|(job, _)| *job == at) {
            self.job_runs(id);
            return Ok(());
        }
        match step {
            Some((_, place, None)) => self.starts(place),
            Some((_, place, Some(which))) => {
                self.begins(place, which);
                Ok(())
            }
            None => Ok(()),
        }
    }

    pub(crate) fn begins(&mut self, place: usize, which: Loop) {
        let clock = self.clock_of(place);
        let happening = self.happening;
        let up = self.nodes[place].up.as_mut().expect("it is up");
        up.begin(which, clock, happening);
        let number = up.number;
        if which == Loop::Replan {
            self.replans.insert(number, clock);
        }
        self.say(|| format!("node {number} begins to {which:?} at {clock}"));
    }

    /// A process starts.
    pub(crate) fn starts(&mut self, place: usize) -> Held {
        let clock = self.clock_of(place);
        let (number, store) = self.db.store();
        let unlock = store.unlock(self.ring.clone(), self.dice.fork(), clock);
        self.db.settle(number, unlock).expect("the vault opens");
        let kept = Kept {
            pings: 1_000,
            body_bytes: 1 << 20,
            history: Span::from_days(90),
            audit: Span::from_days(90),
            undo: Span::from_days(7),
        };
        let told = self.told.clone();
        let batch_max = self.temper.batch_max;
        let up = Up::new(number, store, &mut self.dice, &told, kept, batch_max, self.now);
        self.say(|| format!("node {number} starts at {clock}"));
        self.names.insert(number, up.id);
        if self.temper.nodes == 1 {
            let store = up.store.clone();
            let release = store.write(async |tx| tx.deliveries_release_all(SYSTEM).await);
            self.db.settle(number, release).expect("the database is there");
            self.starting = true;
            let ended = allswell_store::simulated::Ended {
                id: 0,
                node: number,
                committed: true,
            };
            self.look(&[ended])?;
            self.starting = false;
        }
        self.nodes[place].up = Some(up);
        Ok(())
    }

    /// A process ends in the middle of whatever it does. What was on its way to the database may still arrive.
    pub(crate) fn crashes(&mut self, place: usize, away: Span) -> Held {
        let Some(up) = self.nodes[place].up.take() else {
            return Ok(());
        };
        let number = up.number;
        self.say(|| format!("node {number} crashes, away for {away}"));
        self.nodes[place].returns_at = self.now + away;
        drop(up);
        for ticket in self.tickets.values_mut().filter(|ticket| ticket.node == number) {
            // Its client sees a broken connection, and nothing else.
            ticket.answered.get_or_insert(self.happening);
        }
        for left in self.db.crash(number) {
            if self.roll(2) == 0 {
                self.db.forget(left.id);
            } else {
                let fate = [Fate::Kept, Fate::FailsAtCommit][self.roll(2) as usize];
                self.run_work(left, fate, &[])?;
            }
        }
        self.replans.remove(&number);
        Ok(())
    }

    /// Like [`World::crashes`]; nothing that was on its way arrives.
    pub(crate) fn crashes_clean(&mut self, place: usize, away: Span) -> Held {
        if let Some(up) = &self.nodes[place].up {
            let number = up.number;
            // Its futures must not hear of it.
            self.nodes[place].up.as_mut().expect("just seen").tasks.clear();
            for left in self.db.crash(number) {
                self.db.forget(left.id);
            }
        }
        self.crashes(place, away)
    }

    fn somebody_crashes(&mut self) -> Held {
        let up = self.nodes_up();
        if up.is_empty() {
            return Ok(());
        }
        let place = up[self.roll(up.len() as u32) as usize];
        let away = Span::from_millis(200 + i64::from(self.roll(90_000)));
        let unanswered: Vec<Errand> = self.unanswered_at(place);
        self.crashes(place, away)?;
        for errand in unanswered {
            self.try_again(errand);
        }
        Ok(())
    }

    pub(crate) fn unanswered_at(&self, place: usize) -> Vec<Errand> {
        let number = self.nodes[place].up.as_ref().map(|up| up.number);
        let open = self.tickets.values().filter(|ticket| ticket.answered.is_none());
        open.filter(|ticket| Some(ticket.node) == number)
            .map(|ticket| ticket.errand.clone())
            .collect()
    }

    fn everybody_leaves(&mut self) -> Held {
        let secs = i64::from(61 + self.roll(20_000));
        self.say(|| format!("everybody leaves for {secs} s"));
        for place in 0..self.nodes.len() {
            let own = Span::from_secs(secs + i64::from(self.roll(50)));
            self.crashes(place, own)?;
            self.nodes[place].returns_at = self.now + own;
        }
        // Their clients give up, and run next when somebody is there again.
        self.agenda.clear();
        let back = self.now + Span::from_secs(secs);
        for model in self.models.values_mut() {
            model.job_at = model.job_at.map(|_| model.next_run(back));
        }
        // Sometimes nobody stays for long.
        let stay = i64::from(self.roll(400));
        self.leaving_at = (self.roll(2) == 0).then(|| back + Span::from_secs(stay));
        Ok(())
    }

    fn a_clock_is_set(&mut self) -> Held {
        let place = self.roll(self.nodes.len() as u32) as usize;
        let choice = [-7_000, -300, -30, -1, 0, 1, 30, 300, 7_000];
        let ahead = Span::from_secs(choice[self.roll(choice.len() as u32) as usize]);
        self.say(|| format!("the clock at {place} is set: {ahead} ahead"));
        self.set_clock(place, ahead);
        Ok(())
    }

    fn set_clock(&mut self, place: usize, ahead: Span) {
        self.clocks_set |= ahead != self.nodes[place].ahead;
        self.nodes[place].ahead = ahead;
        // Loops look at the clock every second.
        let soon = self.now + Span::from_millis(i64::from(self.roll(1_000)));
        if let Some(up) = &mut self.nodes[place].up {
            for turn in &mut up.turns {
                turn.due = turn.due.map(|due| due.min(soon));
            }
        }
    }

    /// Its clock is right, and whoever was away is back.
    pub(crate) fn heal(&mut self, place: usize) {
        if self.nodes[place].ahead != Span::ZERO {
            self.set_clock(place, Span::ZERO);
        }
        self.temper.failing = 0;
        self.agenda.clear();
    }

    pub(crate) fn ticket_of(&self, user_agent: &str) -> Option<u64> {
        let ticket = user_agent.strip_prefix('t')?.parse().ok()?;
        self.tickets.contains_key(&ticket).then_some(ticket)
    }

    pub(crate) fn lasted(&self) -> Span {
        self.now - START
    }
}

/// An owner, a project with a ping key, and channels of each kind.
fn furnish(
    db: &mut Simulated,
    number: usize,
    store: &Store,
    dice: &mut Dice,
) -> (ProjectId, Secret<String>, Vec<Channel>) {
    let user = User {
        id: dice.id(),
        email: "alice@example.org".to_owned(),
        is_admin: false,
        check_limit: 100_000,
        created_at: START,
    };
    let project = Project {
        id: dice.id(),
        owner: user.id,
        name: "alice".to_owned(),
        created_at: START,
    };
    let stored: Vec<StoredChannel> = [("log", true, true), ("log", true, false), ("silent", true, true)]
        .into_iter()
        .map(|(kind, down, up)| StoredChannel {
            id: dice.id(),
            kind: kind.to_owned(),
            name: kind.to_owned(),
            tells_down: down,
            tells_up: up,
            created_at: START,
        })
        .collect();
    let channels = stored
        .iter()
        .map(|channel| Channel {
            id: channel.id,
            silent: channel.kind == "silent",
            down: channel.tells_down,
            up: channel.tells_up,
        })
        .collect();
    let (id, mut fork) = (project.id, dice.fork());
    let write = store.write(async move |tx| {
        tx.user_insert(SYSTEM, &user, None).await?;
        tx.project_insert(SYSTEM, &project, &mut fork).await?;
        let scope = ProjectScope::granted(project.id);
        for channel in &stored {
            tx.channel_insert(scope, channel, b"", &mut fork).await?;
        }
        tx.key_create(scope, KeyKind::Ping, "ping", &mut fork, START)
            .await
    });
    let (_, key) = db.settle(number, write).expect("a house");
    (id, key, channels)
}
