//! One batch of pings in one transaction: look, decide, write.
//!
//! Everything the batch needs is read in a few statements, however many pings there are; then each ping is decided in
//! its order; then checks, pings and bodies are written at once, each check only if nobody else changed it since it was
//! read. What was lost to another node is read and decided again. Checks that the last batches wrote are not read but held
//! (`held.rs`), and lost if they were changed since.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use allswell_core::admission::{Admission, Asked, admit};
use allswell_core::chance::Dice;
use allswell_core::check::{Check, Event, Plan, Settings, State, Wish, WishedChannels, decide};
use allswell_core::flip::Flip;
use allswell_core::id::{ChannelId, CheckId, ProjectId};
use allswell_core::quota::Quota;
use allswell_core::schedule::Zones;
use allswell_core::scope::{ProjectScope, SystemScope};
use allswell_core::signal::{self, Kind};
use allswell_core::time::Timestamp;
use allswell_store::batch::{Changed, Logged, Terms, Then};
use allswell_store::checks::Found;
use allswell_store::news::News;
use allswell_store::ping_keys::KeyRules;
use allswell_store::pings::{Ping, Source};
use allswell_store::{Error, Result, Tx};

use super::held::{Basis, Held, Read};
use super::rules::{self, Gate, Over};
use super::{Address, Answer, Arrival, Receipt, Told};
use crate::record;

/// Pings of a check after which its log is looked at by retention.
const LOG_PAGE: u64 = 100;
/// How often what was lost is decided again in one transaction.
const ROUNDS_MAX: u32 = 5;

/// What storing a batch came to.
#[derive(Default)]
pub(super) struct Done {
    /// Of each ping.
    pub(super) told: Vec<Told>,
    /// Deliveries that were promised.
    pub(super) promised: usize,
    /// Until when checks have used up their quota.
    pub(super) used: Vec<(CheckId, Timestamp)>,
    /// Checks as they are now, for the next batch, and what they rest on.
    pub(super) checks: Vec<Read>,
    pub(super) basis: Option<Basis>,
    /// How many were held, and how many of those had changed meanwhile.
    pub(super) guessed: usize,
    pub(super) in_vain: usize,
    /// The places of pings of which nothing was stored, since another node was faster, while the others are stored for good.
    pub(super) left: Vec<usize>,
}

/// Stores pings in their order.
pub(super) async fn store(
    tx: &mut Tx<'_>,
    arrivals: &[Arc<Arrival>],
    mut dice: Dice,
    zones: &Zones,
    gate: &Gate,
    held: &Mutex<Held>,
    now: Timestamp,
) -> Result<Done> {
    let mut done = Done {
        told: vec![Answer::NotFound.into(); arrivals.len()],
        ..Done::default()
    };
    let mut open = Vec::with_capacity(arrivals.len());
    for (index, arrival) in arrivals.iter().enumerate() {
        if let Address::Ourselves(node) = arrival.address {
            tx.watchdog_ping(SystemScope::engine(), node, arrival.at).await?;
            done.told[index] = Answer::Stored.into();
        } else {
            open.push(index);
        }
    }
    for _ in 0..ROUNDS_MAX {
        let mut found = Look::at(tx, arrivals, &open, gate, (held, now), &mut dice).await?;
        let checks = std::mem::take(&mut found.checks).into_iter();
        let mut touched: Vec<Touched<'_>> = checks.map(|check| Touched::new(check, zones)).collect();
        for touched in &mut touched {
            let held = found.held.get(&touched.check.id);
            touched.is_guess = held.is_some();
            touched.read_at = held.copied().unwrap_or(now);
        }
        if let Some((quota, used)) = gate.used(&found.ids) {
            for (touched, until) in touched.iter_mut().zip(used) {
                touched.allowance = Some(Allowance {
                    quota,
                    until,
                    over: gate.rules.over,
                });
            }
        }
        for index in &open {
            let arrival = &arrivals[*index];
            match found.of(*index, &arrival.address) {
                Ok(place) => {
                    // What was stored in an earlier round has its answer; what is decided again has it once more.
                    let answer = found.answer(place, *index);
                    done.told[*index] = match touched[place].take(arrival) {
                        Ok(receipt) => Told {
                            answer,
                            receipt: Some(receipt),
                        },
                        Err(refused) => refused.into(),
                    };
                }
                Err(answer) => done.told[*index] = answer.into(),
            }
        }
        let used = touched
            .iter()
            .filter_map(|touched| Some((touched.check.id, touched.allowance?.until)));
        let used: Vec<_> = used.collect();
        // What was read in this transaction is as good as its version.
        let key_rules = found.basis.filter(|_| !found.held.is_empty());
        let Written {
            mut lost,
            doubted,
            promised,
            ended,
            checks,
        } = write(tx, touched, key_rules.map(|basis| basis.key_rules), &mut dice).await?;
        done.guessed += found.held.len();
        done.in_vain += found.held.keys().filter(|id| lost.contains(id)).count();
        done.basis = found.basis;
        lost.extend(doubted);
        done.promised += promised;
        let by_id = |(check, _): &Read| found.addressed.binary_search(&check.id).is_ok();
        done.checks.extend(checks.into_iter().filter(by_id));
        done.used
            .extend(used.into_iter().filter(|(id, _)| !lost.contains(id)));
        if lost.is_empty() {
            return Ok(done);
        }
        open.retain(|index| {
            let place = found.of(*index, &arrivals[*index].address);
            place.is_ok_and(|place| lost.contains(&found.ids[place]))
        });
        if ended {
            done.left = open;
            return Ok(done);
        }
    }
    Err(Error::Conflict("other writers were faster each time".to_owned()))
}

/// What the addresses of a batch lead to.
#[derive(Default)]
struct Look<'a> {
    /// In the order of their ids, each once. Whoever decides takes them out; their places stay.
    checks: Vec<Check>,
    ids: Vec<CheckId>,
    /// Those that were addressed by their ids, in order.
    addressed: Vec<CheckId>,
    /// Those that were held and not read, and when they were.
    held: HashMap<CheckId, Timestamp>,
    /// What those by their ids rest on.
    basis: Option<Basis>,
    /// What each of them asks of a ping by id.
    asked: Vec<Asked>,
    /// Every ping by id needs its project's key.
    key_required: bool,
    /// The projects of the keys that came with pings by id, where they are asked for.
    keys: HashMap<&'a str, ProjectId>,
    slugs: HashMap<(&'a str, &'a str), std::result::Result<CheckId, Answer>>,
    /// Pings for which a check had to be made, and could not be understood.
    refused: HashMap<usize, Answer>,
    /// Checks that were made for a ping, with that ping's place in the batch.
    made: HashMap<CheckId, usize>,
}

impl<'a> Look<'a> {
    /// The checks with these ids: those that are held, and the others from the database.
    async fn by_id(
        &mut self,
        tx: &mut Tx<'_>,
        ids: &[CheckId],
        (held, now): (&Mutex<Held>, Timestamp),
    ) -> Result<()> {
        if ids.is_empty() {
            return Ok(());
        }
        let system = SystemScope::engine();
        let epoch = tx.epoch();
        let (held, mut key_rules) = held
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take(ids, epoch, now);
        self.held = held.iter().map(|(check, read_at)| (check.id, *read_at)).collect();
        self.checks = held.into_iter().map(|(check, _)| check).collect();
        if self.held.len() < ids.len() {
            let missing = ids.iter().filter(|id| !self.held.contains_key(*id));
            let missing: Vec<CheckId> = missing.copied().collect();
            let (read, asked) = tx.checks_under_rules(system, &missing).await?;
            let is_same = (asked.is_none() || asked == key_rules) && tx.epoch() == epoch;
            if is_same || self.held.is_empty() {
                self.checks.extend(read);
                key_rules = asked.or(key_rules);
            } else {
                // Some project changed its mind about keys, perhaps one of these, or the database is another one.
                self.held.clear();
                (self.checks, key_rules) = tx.checks_under_rules(system, ids).await?;
            }
        }
        self.basis = key_rules.map(|key_rules| Basis {
            key_rules,
            epoch: tx.epoch(),
        });
        Ok(())
    }

    async fn at(
        tx: &mut Tx<'_>,
        arrivals: &'a [Arc<Arrival>],
        open: &[usize],
        gate: &Gate,
        held: (&Mutex<Held>, Timestamp),
        dice: &mut Dice,
    ) -> Result<Self> {
        let mut look = Look {
            key_required: gate.rules.require_key,
            ..Look::default()
        };
        let mut ids = Vec::with_capacity(open.len());
        let mut by_slug: Vec<(usize, &str, &str)> = Vec::new();
        for index in open {
            match &arrivals[*index].address {
                Address::Check(id) | Address::CheckWithKey(id, _) => ids.push(*id),
                address => by_slug.extend(
                    address
                        .by_slug()
                        .map(|(key, slug)| (*index, key.reveal().as_str(), slug)),
                ),
            }
        }
        // In order, so that a batch is the same each time, and its reads go through the table in one direction.
        ids.sort_unstable();
        ids.dedup();
        look.by_id(tx, &ids, held).await?;
        look.addressed = ids;
        if !by_slug.is_empty() {
            look.find_slugs(tx, arrivals, &by_slug, dice).await?;
        }
        look.checks.sort_unstable_by_key(|check| check.id);
        look.checks.dedup_by_key(|check| check.id);
        look.ids = look.checks.iter().map(|check| check.id).collect();
        let asked = look.checks.iter().map(|check| Asked {
            project: check.project,
            needs_key: check.settings.filters.needs_key,
        });
        look.asked = asked.collect();
        look.find_keys(tx, arrivals, open).await?;
        Ok(look)
    }

    /// What the keys open that came with pings by id. Where nobody asks for them, nobody looks at them.
    async fn find_keys(
        &mut self,
        tx: &mut Tx<'_>,
        arrivals: &'a [Arc<Arrival>],
        open: &[usize],
    ) -> Result<()> {
        if !self.key_required && !self.asked.iter().any(|asked| asked.needs_key) {
            return Ok(());
        }
        let mut keys: BTreeMap<&str, Timestamp> = BTreeMap::new();
        for index in open {
            if let Address::CheckWithKey(_, key) = &arrivals[*index].address {
                keys.entry(key.reveal()).or_insert(arrivals[*index].at);
            }
        }
        if !keys.is_empty() {
            let keys: Vec<(&str, Timestamp)> = keys.into_iter().collect();
            self.keys = tx.projects_by_ping_keys(SystemScope::engine(), &keys).await?;
        }
        Ok(())
    }

    /// Whether a ping by id may come in.
    fn admit(&self, id: &CheckId, key: Option<&str>) -> std::result::Result<(), Answer> {
        let place = self.ids.binary_search(id).ok();
        let sent = rules::opened(key, |key| self.keys.get(key).copied());
        match admit(self.key_required, place.map(|place| self.asked[place]), sent) {
            Admission::Granted => Ok(()),
            Admission::NotFound => Err(Answer::NotFound),
            Admission::KeyMissing => Err(Answer::KeyMissing),
            Admission::KeyWrong => Err(Answer::KeyWrong),
        }
    }

    async fn find_slugs(
        &mut self,
        tx: &mut Tx<'_>,
        arrivals: &'a [Arc<Arrival>],
        wanted: &[(usize, &'a str, &'a str)],
        dice: &mut Dice,
    ) -> Result<()> {
        let mut keys: BTreeMap<&str, Timestamp> = BTreeMap::new();
        for (index, key, _) in wanted {
            keys.entry(key).or_insert(arrivals[*index].at);
        }
        let keys: Vec<(&str, Timestamp)> = keys.into_iter().collect();
        let projects = tx.projects_by_ping_keys(SystemScope::engine(), &keys).await?;
        let mut pairs: Vec<(ProjectId, String)> = wanted
            .iter()
            .filter_map(|(_, key, slug)| Some((*projects.get(*key)?, (*slug).to_owned())))
            .collect();
        pairs.sort();
        pairs.dedup();
        let found = tx.checks_by_slugs(SystemScope::engine(), &pairs).await?;
        for (index, key, slug) in wanted {
            let Some(project) = projects.get(*key).copied() else {
                self.slugs.insert((key, slug), Err(Answer::NotFound));
                continue;
            };
            if matches!(
                self.slugs.get(&(*key, *slug)),
                Some(Ok(_) | Err(Answer::Ambiguous))
            ) {
                continue;
            }
            let answer = match found.get(&(project, (*slug).to_owned())) {
                Some(Found::One(check)) => Ok(self.keep((**check).clone())),
                Some(Found::Ambiguous) => Err(Answer::Ambiguous),
                Some(Found::None) | None => {
                    self.make_if_asked(tx, arrivals, (*index, project, slug), dice)
                        .await?
                }
            };
            self.slugs.insert((key, slug), answer);
        }
        Ok(())
    }

    fn keep(&mut self, check: Check) -> CheckId {
        let id = check.id;
        self.checks.push(check);
        id
    }

    /// Makes a check for a ping that asked for it. Another node may be about to make the same: behind the project's
    /// lock there is a second look.
    async fn make_if_asked(
        &mut self,
        tx: &mut Tx<'_>,
        arrivals: &[Arc<Arrival>],
        (index, project, slug): (usize, ProjectId, &str),
        dice: &mut Dice,
    ) -> Result<std::result::Result<CheckId, Answer>> {
        let arrival = &arrivals[index];
        let wish = match &arrival.address {
            Address::Slug { create: true, .. } => Ok(Wish::plain(slug)),
            Address::Wished(wished) => wished.wish.clone().map_err(|fault| fault.parameter),
            _ => return Ok(Err(Answer::NotFound)),
        };
        let scope = ProjectScope::granted(project);
        tx.project_lock(scope).await?;
        match tx.check_by_slug(scope, slug).await? {
            Found::One(check) => return Ok(Ok(self.keep(*check))),
            Found::Ambiguous => return Ok(Err(Answer::Ambiguous)),
            Found::None => {}
        }
        let wish = match wish {
            Ok(wish) => match channels_of(tx, scope, &wish).await? {
                Some(channels) => Ok((wish.settings, channels)),
                None => Err("channels"),
            },
            Err(parameter) => Err(parameter),
        };
        let (settings, channels) = match wish {
            Ok(wish) => wish,
            Err(parameter) => {
                // Others may ask for the same slug in other words: only this ping is refused.
                self.refused.insert(index, Answer::BadParameter(parameter));
                return Ok(Err(Answer::NotFound));
            }
        };
        let Some(check) = provision(tx, scope, settings, &channels, arrival.at, dice).await? else {
            return Ok(Err(Answer::NotFound));
        };
        self.made.insert(check.id, index);
        Ok(Ok(self.keep(check)))
    }

    /// The place of the check that a ping at this place of the batch is for.
    fn of(&self, index: usize, address: &Address) -> std::result::Result<usize, Answer> {
        if let Some(refused) = self.refused.get(&index) {
            return Err(*refused);
        }
        let id = match address {
            Address::Check(id) => {
                self.admit(id, None)?;
                id
            }
            Address::CheckWithKey(id, key) => {
                self.admit(id, Some(key.reveal()))?;
                id
            }
            address => {
                let found = address
                    .by_slug()
                    .and_then(|(key, slug)| self.slugs.get(&(key.reveal().as_str(), slug)));
                match found {
                    Some(found) => found.as_ref().map_err(|answer| *answer)?,
                    None => return Err(Answer::NotFound),
                }
            }
        };
        // A ping that did not ask for a check comes too early for one that a later ping asked for.
        if self.made.get(id).is_some_and(|made| *made > index) {
            return Err(Answer::NotFound);
        }
        self.ids.binary_search(id).map_err(|_| Answer::NotFound)
    }

    /// What a ping at this place of the batch is told, once it is stored.
    fn answer(&self, place: usize, index: usize) -> Answer {
        if self.made.get(&self.ids[place]) == Some(&index) {
            Answer::Created
        } else {
            Answer::Stored
        }
    }
}

/// The channels that are wished for; `None` if one is not there, or several have its name.
async fn channels_of(tx: &mut Tx<'_>, scope: ProjectScope, wish: &Wish) -> Result<Option<Vec<ChannelId>>> {
    let known = tx.channels(scope).await?;
    let names = match &wish.channels {
        WishedChannels::All => return Ok(Some(known.into_iter().map(|channel| channel.id).collect())),
        WishedChannels::Named(names) => names,
    };
    let mut chosen = Vec::with_capacity(names.len());
    for name in names {
        let mut meant = known
            .iter()
            .filter(|channel| channel.name == *name || channel.id.to_string() == *name);
        match (meant.next(), meant.next()) {
            (Some(channel), None) => chosen.push(channel.id),
            _ => return Ok(None),
        }
    }
    chosen.sort_unstable();
    chosen.dedup();
    Ok(Some(chosen))
}

/// Makes a check for a ping that asked for it. `None` if the owner has twice as
/// many checks as allowed (`healthchecks.md` section 1.2).
async fn provision(
    tx: &mut Tx<'_>,
    scope: ProjectScope,
    settings: Settings,
    channels: &[ChannelId],
    now: Timestamp,
    dice: &mut Dice,
) -> Result<Option<Check>> {
    let (count, limit) = tx.check_quota(scope).await?;
    if count >= limit.saturating_mul(2) {
        return Ok(None);
    }
    let check = Check {
        id: dice.id(),
        project: scope.project(),
        badge: dice.id(),
        settings,
        state: State::new(now),
        deadline: None,
        version: 1,
        created_at: now,
    };
    tx.check_insert(scope, &check).await?;
    tx.check_set_channels(scope, check.id, channels).await?;
    Ok(Some(check))
}

/// A check that pings of this batch are for, and what they did to it.
struct Touched<'a> {
    check: Check,
    plan: Plan,
    deadline: Option<Timestamp>,
    pings: Vec<Logged<'a>>,
    flips: Vec<(Flip, Timestamp)>,
    /// Pings before this batch.
    pings_before: u64,
    /// The last sign of life before it.
    alive_before: Option<Timestamp>,
    /// What it may still have kept; `None`: everything.
    allowance: Option<Allowance>,
    /// It was held and not read: nothing may come of it but what is written.
    is_guess: bool,
    read_at: Timestamp,
    /// A ping of this batch was refused.
    has_refused: bool,
}

/// What a check may have kept of its pings.
#[derive(Copy, Clone)]
struct Allowance {
    quota: Quota,
    until: Timestamp,
    over: Over,
}

impl<'a> Touched<'a> {
    fn new(check: Check, zones: &Zones) -> Self {
        let plan = record::plan_or_postpone(&check, zones);
        Touched {
            deadline: check.state.wake_up(&plan),
            pings_before: check.state.ping_count,
            alive_before: check.state.last_alive,
            allowance: None,
            is_guess: false,
            read_at: Timestamp::default(),
            has_refused: false,
            check,
            plan,
            pings: Vec::new(),
            flips: Vec::new(),
        }
    }

    fn is_moved(&self) -> bool {
        let state = &self.check.state;
        state.ping_count > self.pings_before || state.last_alive != self.alive_before
    }

    /// It was held, and a ping came to nothing by it.
    fn is_in_doubt(&self) -> bool {
        self.is_guess && (self.has_refused || !self.is_moved())
    }

    /// A page of its log is full, counted by the pings that came: marking too often is cheap.
    fn has_full_page(&self) -> bool {
        self.check.state.ping_count / LOG_PAGE > self.pings_before / LOG_PAGE
    }

    /// Decides about a ping. The error: it is refused.
    fn take(&mut self, arrival: &'a Arrival) -> std::result::Result<Receipt, Answer> {
        let state = &self.check.state;
        let signal = signal::read(
            arrival.action,
            &arrival.method,
            &arrival.body,
            &self.check.settings.filters,
            state.status,
        );
        let kind = signal.kind;
        let event = Event::Signal {
            signal,
            rid: arrival.rid,
        };
        let decision = decide(&self.plan, state, event, arrival.at);
        let is_numbered = decision.state.ping_count > state.ping_count;
        // A sign of life that only renews leaves nothing to keep.
        let verdict = self.allowance.as_mut().filter(|_| is_numbered).map(|allowance| {
            let verdict = allowance.quota.take(&mut allowance.until, arrival.at);
            (allowance.over, verdict)
        });
        // What changes the status is taken and kept all the same: a status must not go wrong for want of room, and it is the
        // reason that people look for.
        let over = verdict.filter(|(_, verdict)| !verdict.allowed && decision.flip.is_none());
        if let Some((Over::Reject, verdict)) = over
            && kind != Kind::Alive
        {
            self.has_refused = true;
            return Err(Answer::Limited(verdict.retry));
        }
        let kept = is_numbered && over.is_none();
        self.check.state = decision.state;
        self.deadline = decision.deadline;
        self.flips.extend(decision.flip.map(|flip| (flip, arrival.at)));
        let by_id = matches!(arrival.address, Address::Check(_) | Address::CheckWithKey(..));
        let receipt = Receipt {
            check: by_id.then_some(self.check.id),
            n: self.check.state.ping_count,
            kind,
            status: self.check.state.status,
            kept,
        };
        if !kept {
            self.check.state.not_kept += u64::from(is_numbered);
            return Ok(receipt);
        }
        let ping = Ping {
            n: self.check.state.ping_count,
            at: arrival.at,
            kind,
            source: Source::Http,
            exit_status: arrival.action.exit_status(),
            rid: arrival.rid,
            scheme: &*arrival.scheme,
            method: &*arrival.method,
            remote_addr: arrival.remote_addr.as_deref(),
            user_agent: arrival.user_agent.as_str(),
            body_bytes: arrival.body.len() as u64,
        };
        self.pings.push(Logged {
            ping,
            body: &arrival.body,
        });
        Ok(receipt)
    }
}

/// What writing came to.
#[derive(Default)]
struct Written {
    /// The checks that somebody else had changed, of which nothing was written.
    lost: HashSet<CheckId>,
    /// Guesses that came to nothing, and are to be looked at.
    doubted: Vec<CheckId>,
    /// Deliveries that were promised.
    promised: usize,
    /// Nothing more is to be asked of the transaction.
    ended: bool,
    /// Checks that were written, without a flip.
    checks: Vec<Read>,
}

/// Writes what was decided.
async fn write(
    tx: &mut Tx<'_>,
    mut touched: Vec<Touched<'_>>,
    key_rules: Option<KeyRules>,
    dice: &mut Dice,
) -> Result<Written> {
    // A guess of which nothing is written is not found out if it was wrong: it is read now.
    let doubted = touched.iter().filter(|touched| touched.is_in_doubt());
    let doubted: Vec<CheckId> = doubted.map(|touched| touched.check.id).collect();
    touched.retain(|touched| touched.is_moved() && !touched.is_in_doubt());
    if touched.is_empty() {
        return Ok(Written {
            doubted,
            ..Written::default()
        });
    }
    // As nearly always: what follows from a flip is written behind the checks.
    let ends = touched.iter().all(|touched| touched.flips.is_empty());
    let mut changed: Vec<Changed<'_>> = touched
        .iter_mut()
        .map(|touched| Changed {
            deadline: touched.deadline,
            pings: std::mem::take(&mut touched.pings),
            is_page_full: touched.has_full_page(),
            check: &mut touched.check,
            exact: false,
        })
        .collect();
    let terms = Terms {
        then: if ends { Then::Nothing } else { Then::More },
        key_rules,
    };
    let saved = tx
        .batch_save(SystemScope::engine(), &mut changed, terms, dice)
        .await?;
    let mut lost: HashSet<CheckId> = HashSet::new();
    if saved.len() < changed.len() {
        let saved: HashSet<&CheckId> = saved.iter().collect();
        let ids = changed.iter().map(|changed| changed.check.id);
        lost.extend(ids.filter(|id| !saved.contains(id)));
    }
    drop(changed);
    if ends {
        let checks = touched
            .into_iter()
            .map(|touched| (touched.check, touched.read_at));
        return Ok(Written {
            checks: checks.filter(|(check, _)| !lost.contains(&check.id)).collect(),
            lost,
            doubted,
            promised: 0,
            ended: true,
        });
    }

    // Project by project, as every writer of flips does, so that two nodes wait for each other in one direction.
    let mut flipped: Vec<Touched<'_>> = touched
        .into_iter()
        .filter(|touched| !touched.flips.is_empty() && !lost.contains(&touched.check.id))
        .collect();
    flipped.sort_by_key(|touched| (touched.check.project, touched.check.id));
    let news: Vec<News<'_>> = flipped
        .iter()
        .flat_map(|Touched { check, flips, .. }| {
            flips.iter().map(move |(flip, at)| News {
                check,
                flip,
                noticed_at: *at,
            })
        })
        .collect();
    let promised = record::write_flips(tx, &news, dice).await?;
    Ok(Written {
        lost,
        doubted,
        promised,
        ended: false,
        checks: Vec::new(),
    })
}
