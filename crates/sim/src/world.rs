//! The world: a clock, dice, nodes and a database, and what happens next.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};

use allswell_core::chance::Dice;
use allswell_core::id::{CheckId, DeliveryId, NodeId, ProjectId};
use allswell_core::scope::SystemScope;
use allswell_core::seal::KeyRing;
use allswell_core::secret::Secret;
use allswell_core::signal::Kind;
use allswell_core::time::{Span, Timestamp};
use allswell_engine::Due;
use allswell_engine::ingest::Answer;
use allswell_engine::loops::Step as _;
use allswell_store::simulated::{Fate, Promise, Simulated, Waiting};
use allswell_store::{Error, Store};

use crate::Failure;
use crate::crashes::Doom;
use crate::hands::{Deed, Hands};
use crate::house::{ALICES, RECEIVERS, furnish};
use crate::look::Sights;
use crate::model::{Channel, Model, Note};
use crate::node::{Done, Loop, Node};
use crate::outside::{Mood, Outside};
use crate::report::Report;
use crate::rules::{ANSWERED, Held, MADE, STEPS, broken, holds};
use crate::runtime::Runtime;
use crate::switches::Switches;
use crate::temper::Temper;
use crate::told::Told;
use crate::tries::Tries;
use crate::users::{Errand, Ticket, To};

pub(crate) const SYSTEM: SystemScope = SystemScope::engine();
/// 2026-01-31 12:00 UTC.
pub(crate) const START: Timestamp = Timestamp::from_secs(1_769_860_800);
/// How long a loop sleeps beside others. A second in truth; longer here, so that there is more of a story.
const OTHERS_LOOKED_AFTER: Span = Span::from_secs(30);
/// How long what came in at another node may wait there for its commit, and how long ago the other has last said that it
/// is awake, at most, if it took no leave.
const OTHERS_SETTLE: Span = Span::from_secs(1);
const OTHERS_GONE: Span = Span::from_secs(3_600);
/// Happenings that are told of a story that broke a rule.
const TRACE: usize = 120;

/// What is due.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Next {
    Errand,
    Job(CheckId),
    /// Somebody reports in at the last moment.
    CloseCall(CheckId),
    Start(usize),
    Step(usize, Loop),
    /// Somebody else's work goes on, or somebody answers.
    Nothing,
}

/// A sweep when it began.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Swept {
    pub(crate) happening: u64,
    /// The latest deadline that it may judge.
    pub(crate) judges: Timestamp,
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
    /// The sweep that a process began last, by its number at the database.
    pub(crate) sweeps: BTreeMap<usize, Swept>,
    /// Names of processes, by their number at the database.
    pub(crate) names: BTreeMap<usize, NodeId>,
    pub(crate) project: ProjectId,
    pub(crate) ping_key: Secret<String>,
    pub(crate) channels: Vec<Channel>,
    /// What bob's check tells.
    pub(crate) bobs: Vec<Channel>,
    pub(crate) bobs_check: CheckId,
    pub(crate) outside: Outside,
    pub(crate) tries: Tries,
    pub(crate) switches: Switches,
    pub(crate) models: BTreeMap<CheckId, Model>,
    pub(crate) tickets: BTreeMap<u64, Ticket>,
    pub(crate) next_ticket: u64,
    pub(crate) notes: Arc<Mutex<Vec<Note>>>,
    /// What was done by hand in transactions that may not be committed.
    pub(crate) deeds: Arc<Mutex<Vec<Deed>>>,
    pub(crate) hands: Hands,
    /// The deliveries that tell no flip, and by what a change of them is noticed.
    pub(crate) alone: BTreeMap<DeliveryId, Promise>,
    pub(crate) alone_stamp: Option<[i64; 4]>,
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
    pub(crate) held: BTreeMap<u64, Timestamp>,
    /// When everybody leaves again.
    pub(crate) leaving_at: Option<Timestamp>,
    pub(crate) clocks_set: bool,
    /// Since when nothing goes wrong any more but receivers.
    pub(crate) calm_since: Option<Timestamp>,
    pub(crate) agenda: BTreeMap<(Timestamp, u64), Errand>,
    next_errand: u64,
    pub(crate) close_call: Option<(Timestamp, CheckId)>,
    pub(crate) trace: VecDeque<String>,
    pub(crate) ring: KeyRing,
    pub(crate) builder: (usize, Store),
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
        let (alice, bob) = furnish(&mut db, number, &store, &mut dice);
        let outside = Outside::new(RECEIVERS, dice.fork(), START);
        let mut world = World {
            dice,
            now: START,
            happening: 0,
            db,
            nodes: Vec::new(),
            replans: BTreeMap::new(),
            sweeps: BTreeMap::new(),
            names: BTreeMap::new(),
            project: alice.project,
            ping_key: alice.ping_key,
            channels: alice.channels,
            bobs: bob.channels,
            bobs_check: CheckId::from(uuid::Uuid::nil()),
            outside,
            tries: Tries::default(),
            switches: Switches::default(),
            models: BTreeMap::new(),
            tickets: BTreeMap::new(),
            next_ticket: 1,
            notes: Arc::default(),
            deeds: Arc::default(),
            hands: Hands::default(),
            alone: BTreeMap::new(),
            alone_stamp: None,
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
            calm_since: None,
            agenda: BTreeMap::new(),
            next_errand: 0,
            close_call: None,
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
        let mut check = world.new_check("bobs");
        check.project = bob.project;
        // It goes down by one failure, and comes up by one success.
        check.settings.filters = Default::default();
        check.settings.rules = Default::default();
        world.bobs_check = world.add_check(check, world.bobs.clone());
        for _ in 0..world.temper.nodes {
            world.nodes.push(Node {
                ahead: Span::ZERO,
                delivers_ahead: Span::ZERO,
                up: None,
                returns_at: START,
            });
        }
        world
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

    /// The latest that any node may take it for.
    pub(crate) fn clock_at_most(&self) -> Timestamp {
        let nodes = self.nodes.iter();
        let clocks = nodes.map(|node| self.now + node.ahead.max(node.delivers_ahead));
        clocks.fold(self.latest_clock, Timestamp::max)
    }

    /// Whoever counts requests does so by the clock of its process.
    fn set_counters(&mut self) {
        for node in &self.nodes {
            if let Some(up) = &node.up {
                up.counter.set_clock(self.now + node.ahead);
            }
        }
    }

    pub(crate) fn agenda(&mut self, at: Timestamp, errand: Errand) {
        self.agenda.insert((at, self.next_errand), errand);
        self.next_errand += 1;
    }

    /// The sweep that runs at a node, by its number at the database.
    pub(crate) fn sweep_began(&self, number: usize) -> Option<&Swept> {
        let up = self.nodes.iter().filter_map(|node| node.up.as_ref());
        let mut mine = up.filter(|up| up.number == number);
        mine.next()?.turns[Loop::Sweep as usize].began?;
        self.sweeps.get(&number)
    }

    /// What a sweep that begins by this clock may judge: what came in at another node may wait there for a second, as long
    /// as one is awake as far as is known. Whoever starts says so before it takes its first ping.
    fn judges(&self, place: usize, clock: Timestamp) -> Timestamp {
        let own = self.nodes[place].up.as_ref().map(|up| up.id);
        let mut marks = self.sights.marks.iter().filter(|(id, _)| Some(**id) != own);
        let others = self.nodes.iter().filter_map(|node| node.up.as_ref());
        let mut starts = others.filter(|up| Some(up.id) != own).map(|up| up.started);
        let long_ago = clock - OTHERS_GONE;
        let beside_others = marks.any(|(_, at)| *at > long_ago) || starts.any(|at| at > long_ago);
        if beside_others && self.temper.nodes > 1 {
            clock - OTHERS_SETTLE
        } else {
            clock
        }
    }

    fn story(&mut self) -> Held {
        self.outside.set_mood(RECEIVERS - 1, Mood::Healthy);
        for receiver in 0..ALICES {
            self.outside.set_mood(receiver, Mood::Healthy);
            if self.temper.moody > 0 {
                self.a_mood_changes();
            }
        }
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
            temper.moody,
            150,
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
            4 => self.somebody_acts(),
            5 => {
                self.now = self.now + Span::from_millis(i64::from(self.roll(1_500)));
                Ok(())
            }
            6 => {
                self.a_mood_changes();
                Ok(())
            }
            7 => {
                self.somebody_lends_a_hand();
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
        let handle = self.runtime.handle();
        let _inside = handle.enter();
        loop {
            self.outside.answer(self.now);
            // Attempts go on at the same instant as the steps that begin them.
            self.runtime.catch_up(self.now);
            self.heed()?;
            let mut done = Vec::new();
            let mut moved = self.hear_nudges();
            for (place, node) in self.nodes.iter_mut().enumerate() {
                let Some(up) = &mut node.up else { continue };
                self.told.listen_to(up.number);
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
            let answers = self.outside.next().is_some_and(|at| at <= self.now);
            if !moved && !answers {
                return Ok(());
            }
        }
    }

    /// Lets those deliver at once that were nudged; whether there is one.
    fn hear_nudges(&mut self) -> bool {
        let mut heard = false;
        for up in self.nodes.iter_mut().filter_map(|node| node.up.as_mut()) {
            let nudged = up.was_nudged();
            heard |= nudged;
            let turn = up.turn(Loop::Deliver);
            turn.nudged |= nudged;
            if turn.nudged && turn.began.is_none() {
                (turn.nudged, turn.due) = (false, Some(self.now));
                up.deliver.nudged();
            }
        }
        heard
    }

    fn ended(&mut self, place: usize, done: Done) -> Held {
        match done {
            Done::Ingest => broken(STEPS, "the ingest loop ended".to_owned()),
            Done::Step(which, result) => self.step_ended(place, which, result),
            Done::Ping(ticket, answer) => {
                self.say(|| format!("ping t{ticket} is answered {answer:?}"));
                self.answered(ticket, answer)
            }
            Done::Hand(answered) => {
                let (request, answer) = *answered;
                self.say(|| format!("{:?} is answered {answer:?}", request.wanted));
                self.answered_by_hand(request, answer)
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
            // What others have left behind nobody tells.
            Ok(Due::WhenNudged) if self.temper.nodes > 1 => Some(now + OTHERS_LOOKED_AFTER),
            Ok(Due::WhenNudged) => None,
            Ok(Due::At(at)) => {
                let wait = (at - clock).max(Span::from_millis(1));
                // Rarely, or a day would be all pruning; and signs of life may come a little late.
                match which {
                    Loop::Deliver if self.temper.nodes > 1 => Some(now + wait.min(OTHERS_LOOKED_AFTER)),
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
                // Of a run the first sign of life alone has a row; of the others the state tells.
                let stored =
                    self.blind || asked.kind == Kind::Alive || self.sights.stored.contains_key(&ticket);
                holds(ANSWERED, stored, || {
                    format!("t{ticket} is answered, and not stored: {asked:?}")
                })?;
                let id = self.sights.stored.get(&ticket);
                let Some(model) = id.and_then(|id| self.models.get(id)) else {
                    return Ok(());
                };
                let made = answer == Ok(Answer::Created);
                holds(MADE, made == (model.made_by == Some(ticket)), || {
                    format!(
                        "t{ticket} is answered {answer:?}, check {id:?} was made by {:?}",
                        model.made_by
                    )
                })
            }
            Ok(Answer::NotFound) => {
                let there = asked
                    .check
                    .is_some_and(|id| self.models.get(&id).is_some_and(|model| !model.deleted));
                let makes = matches!(asked.errand.to, To::Slug { create: true, .. } | To::Wished(_));
                let by_name = matches!(asked.errand.to, To::Slug { .. });
                let there = there || (by_name && !self.was_not_there(&asked));
                holds(ANSWERED, !there && !makes, || {
                    format!("t{ticket} finds nothing: {asked:?}")
                })
            }
            Ok(Answer::Ambiguous) => broken(MADE, format!("t{ticket} finds several: {asked:?}")),
            Ok(Answer::BadParameter(parameter)) => {
                let in_vain = self.wished_in_vain(&asked) == Some(parameter);
                holds(MADE, in_vain && self.was_not_there(&asked), || {
                    format!("t{ticket} is refused for its {parameter:?}: {asked:?}")
                })
            }
            Ok(Answer::Limited(_) | Answer::KeyMissing | Answer::KeyWrong) => broken(
                ANSWERED,
                format!("t{ticket} is refused where nothing is asked: {asked:?}"),
            ),
            Err(Refusal::Busy) => {
                self.try_again(asked.errand);
                Ok(())
            }
            Err(refusal) => broken(STEPS, format!("t{ticket} is refused: {refusal:?}")),
        }
    }

    /// Runs one of the pieces of work that wait, with the fate that the dice give it.
    fn run_one(&mut self, waiting: &[Waiting]) -> Held {
        // One writer takes them as they come, and readers look beside it.
        let first = waiting.iter().position(|one| one.writes);
        let may_run: Vec<usize> = (0..waiting.len())
            .filter(|n| self.temper.nodes > 1 || !waiting[*n].writes || Some(*n) == first)
            .collect();
        let one = waiting[may_run[self.roll(may_run.len() as u32) as usize]];
        if self.temper.nodes == 1 && self.roll(2_000) < self.temper.stalling {
            let secs = i64::from(20 + self.roll(50));
            self.say(|| format!("the database hangs for {secs} s"));
            self.now = self.now + Span::from_secs(secs);
            return Ok(());
        }
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
        self.set_counters();
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

    /// What is due next, and when.
    pub(crate) fn next_due(&self) -> Option<(Timestamp, Next)> {
        let errand = self
            .agenda
            .first_key_value()
            .map(|((at, _), _)| (*at, Next::Errand));
        let jobs = self.models.values().filter_map(|model| {
            let at = model.job_at?;
            Some((at, Next::Job(model.id)))
        });
        let steps = self.nodes.iter().enumerate().filter_map(|(place, node)| {
            let Some(up) = &node.up else {
                return Some((node.returns_at, Next::Start(place)));
            };
            let idle = Loop::ALL
                .into_iter()
                .filter(|which| up.turns[*which as usize].began.is_none());
            let due =
                idle.filter_map(|which| Some((up.turns[which as usize].due?, Next::Step(place, which))));
            due.min()
        });
        let held = self.held.values().min().map(|at| (*at, Next::Nothing));
        let answer = self.outside.next().map(|at| (at, Next::Nothing));
        let close = self.close_call.map(|(at, id)| (at, Next::CloseCall(id)));
        let first = [errand, jobs.min(), close, steps.min(), held, answer];
        first.into_iter().flatten().min()
    }

    /// The next thing that is due happens.
    pub(crate) fn time_passes(&mut self) -> Held {
        let Some((at, next)) = self.next_due() else {
            self.now = self.now + Span::from_secs(1);
            return Ok(());
        };
        self.now = self.now.max(at);
        match next {
            Next::Errand => {
                let (_, errand) = self.agenda.pop_first().expect("just seen");
                self.send(errand);
            }
            Next::Job(id) => self.job_runs(id),
            Next::CloseCall(id) => {
                self.close_call = None;
                return self.a_close_call(id);
            }
            Next::Start(place) => return self.starts(place),
            Next::Step(place, which) => self.begins(place, which),
            Next::Nothing => {}
        }
        Ok(())
    }

    pub(crate) fn begins(&mut self, place: usize, which: Loop) {
        if which == Loop::Replan {
            // What it sets back is known by its clock, which no ping may share.
            self.now = self.now + Span::from_micros(1);
        }
        let clock = self.clock_of(place);
        let happening = self.happening;
        let judges = self.judges(place, clock);
        let up = self.nodes[place].up.as_mut().expect("it is up");
        up.begin(which, clock, happening);
        let number = up.number;
        match which {
            Loop::Replan => {
                self.replans.insert(number, clock);
            }
            Loop::Deliver => self.nodes[place].delivers_ahead = self.nodes[place].ahead,
            Loop::Sweep => {
                self.sweeps.insert(number, Swept { happening, judges });
            }
            Loop::Retain => {}
        }
        self.say(|| format!("node {number} begins to {which:?} at {clock}"));
    }

    pub(crate) fn ticket_of(&self, user_agent: &str) -> Option<u64> {
        let ticket = user_agent.strip_prefix('t')?.parse().ok()?;
        self.tickets.contains_key(&ticket).then_some(ticket)
    }

    pub(crate) fn lasted(&self) -> Span {
        self.now - START
    }
}
