//! One batch of pings in one transaction: look, decide, write.
//!
//! Everything the batch needs is read in a few statements, however many pings there are; then each ping is decided in
//! its order; then checks, pings and bodies are written at once, each check only if nobody else changed it since it was
//! read. What was lost to another node is read and decided again. On a database with one writer nothing is ever lost.

use std::collections::{HashMap, HashSet};

use allswell_core::chance::Dice;
use allswell_core::check::{Check, Event, Plan, Settings, State, decide};
use allswell_core::flip::Flip;
use allswell_core::id::{CheckId, ProjectId};
use allswell_core::schedule::Zones;
use allswell_core::scope::{ProjectScope, SystemScope};
use allswell_core::signal;
use allswell_core::time::Timestamp;
use allswell_store::batch::{Changed, Logged};
use allswell_store::checks::Found;
use allswell_store::pings::{Ping, Source};
use allswell_store::{Error, Result, Tx};

use super::{Address, Answer, Arrival};
use crate::record;

/// Pings of a check after which its log is looked at by retention.
const LOG_PAGE: u64 = 100;
/// How often what was lost is decided again in one transaction.
const ROUNDS_MAX: u32 = 5;

/// Stores pings in their order; gives their answers and how many deliveries were promised.
pub(super) async fn store(
    tx: &mut Tx<'_>,
    arrivals: &[Arrival],
    mut dice: Dice,
    zones: &Zones,
) -> Result<(Vec<Answer>, usize)> {
    let mut answers = vec![Answer::NotFound; arrivals.len()];
    let mut promised = 0;
    let mut open = Vec::with_capacity(arrivals.len());
    for (index, arrival) in arrivals.iter().enumerate() {
        if let Address::Ourselves(node) = arrival.address {
            tx.watchdog_ping(SystemScope::engine(), node, arrival.at).await?;
            answers[index] = Answer::Stored;
        } else {
            open.push(index);
        }
    }
    for _ in 0..ROUNDS_MAX {
        let found = Look::at(tx, arrivals, &open, &mut dice).await?;
        let mut touched: HashMap<CheckId, Touched<'_>> = HashMap::new();
        for index in &open {
            let arrival = &arrivals[*index];
            let (id, answer) = match found.of(*index, &arrival.address) {
                Ok(id) => (id, found.answer(id, *index)),
                Err(answer) => {
                    answers[*index] = answer;
                    continue;
                }
            };
            // What was stored in an earlier round has its answer; what is decided again has it once more.
            answers[*index] = answer;
            let touched = touched
                .entry(id)
                .or_insert_with(|| Touched::new(found.checks[&id].clone(), zones));
            touched.take(arrival);
        }
        let (lost, more) = write(tx, touched, &mut dice).await?;
        promised += more;
        open.retain(|index| {
            found
                .of(*index, &arrivals[*index].address)
                .is_ok_and(|id| lost.contains(&id))
        });
        if open.is_empty() {
            return Ok((answers, promised));
        }
    }
    Err(Error::Conflict("other writers were faster each time".to_owned()))
}

/// What the addresses of a batch lead to.
#[derive(Default)]
struct Look<'a> {
    checks: HashMap<CheckId, Check>,
    slugs: HashMap<(&'a str, &'a str), std::result::Result<CheckId, Answer>>,
    /// Checks that were made for a ping, with that ping's place in the batch.
    made: HashMap<CheckId, usize>,
}

impl<'a> Look<'a> {
    async fn at(tx: &mut Tx<'_>, arrivals: &'a [Arrival], open: &[usize], dice: &mut Dice) -> Result<Self> {
        let mut look = Look::default();
        let mut ids = HashSet::new();
        let mut by_slug: Vec<(usize, &str, &str)> = Vec::new();
        for index in open {
            match &arrivals[*index].address {
                Address::Check(id) => {
                    ids.insert(*id);
                }
                Address::Slug { key, slug, .. } => by_slug.push((*index, key.reveal(), slug)),
                Address::Ourselves(_) => {}
            }
        }
        if !ids.is_empty() {
            let ids: Vec<CheckId> = ids.into_iter().collect();
            let checks = tx.checks_any(SystemScope::engine(), &ids).await?;
            look.checks
                .extend(checks.into_iter().map(|check| (check.id, check)));
        }
        if !by_slug.is_empty() {
            look.find_slugs(tx, arrivals, &by_slug, dice).await?;
        }
        Ok(look)
    }

    async fn find_slugs(
        &mut self,
        tx: &mut Tx<'_>,
        arrivals: &'a [Arrival],
        wanted: &[(usize, &'a str, &'a str)],
        dice: &mut Dice,
    ) -> Result<()> {
        let mut keys: HashMap<&str, Timestamp> = HashMap::new();
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
        self.checks.entry(id).or_insert(check);
        id
    }

    /// Makes a check for a ping that asked for it. Another node may be about to make the same: behind the project's
    /// lock there is a second look.
    async fn make_if_asked(
        &mut self,
        tx: &mut Tx<'_>,
        arrivals: &[Arrival],
        (index, project, slug): (usize, ProjectId, &str),
        dice: &mut Dice,
    ) -> Result<std::result::Result<CheckId, Answer>> {
        let arrival = &arrivals[index];
        if !matches!(arrival.address, Address::Slug { create: true, .. }) {
            return Ok(Err(Answer::NotFound));
        }
        let scope = ProjectScope::granted(project);
        tx.project_lock(scope).await?;
        match tx.check_by_slug(scope, slug).await? {
            Found::One(check) => return Ok(Ok(self.keep(*check))),
            Found::Ambiguous => return Ok(Err(Answer::Ambiguous)),
            Found::None => {}
        }
        let Some(check) = provision(tx, scope, slug, arrival.at, dice).await? else {
            return Ok(Err(Answer::NotFound));
        };
        self.made.insert(check.id, index);
        Ok(Ok(self.keep(check)))
    }

    /// Which check a ping at this place of the batch is for.
    fn of(&self, index: usize, address: &Address) -> std::result::Result<CheckId, Answer> {
        let found = self.by_address(address)?;
        // A ping that did not ask for a check comes too early for one that a later ping asked for.
        match self.made.get(&found) {
            Some(made) if *made > index => Err(Answer::NotFound),
            _ => Ok(found),
        }
    }

    fn by_address(&self, address: &Address) -> std::result::Result<CheckId, Answer> {
        match address {
            Address::Check(id) if self.checks.contains_key(id) => Ok(*id),
            Address::Check(_) | Address::Ourselves(_) => Err(Answer::NotFound),
            Address::Slug { key, slug, .. } => self
                .slugs
                .get(&(key.reveal().as_str(), slug.as_str()))
                .copied()
                .unwrap_or(Err(Answer::NotFound)),
        }
    }

    /// What a ping at this place of the batch is told, once it is stored.
    fn answer(&self, id: CheckId, index: usize) -> Answer {
        if self.made.get(&id) == Some(&index) {
            Answer::Created
        } else {
            Answer::Stored
        }
    }
}

/// Makes a check for a ping that asked for it, telling all channels of the project. `None` if the owner has twice as
/// many checks as allowed (`healthchecks.md` section 1.2).
async fn provision(
    tx: &mut Tx<'_>,
    scope: ProjectScope,
    slug: &str,
    now: Timestamp,
    dice: &mut Dice,
) -> Result<Option<Check>> {
    let (count, limit) = tx.check_quota(scope).await?;
    if count >= limit.saturating_mul(2) {
        return Ok(None);
    }
    let settings = Settings {
        name: slug.to_owned(),
        slug: slug.to_owned(),
        ..Settings::default()
    };
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
    tx.check_insert(&check).await?;
    let channels = tx.channels(scope).await?;
    let channels: Vec<_> = channels.into_iter().map(|channel| channel.id).collect();
    tx.check_set_channels(check.id, &channels).await?;
    Ok(Some(check))
}

/// A check that pings of this batch are for, and what they did to it.
struct Touched<'a> {
    check: Check,
    plan: Plan,
    deadline: Option<Timestamp>,
    pings: Vec<Logged<'a>>,
    flips: Vec<(Flip, Timestamp)>,
}

impl<'a> Touched<'a> {
    fn new(check: Check, zones: &Zones) -> Self {
        let plan = record::plan_or_postpone(&check, zones);
        Touched {
            deadline: check.state.deadline(&plan),
            check,
            plan,
            pings: Vec::new(),
            flips: Vec::new(),
        }
    }

    /// Decides about a ping.
    fn take(&mut self, arrival: &'a Arrival) {
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
        self.check.state = decision.state;
        self.deadline = decision.deadline;
        self.flips.extend(decision.flip.map(|flip| (flip, arrival.at)));
        let ping = Ping {
            n: self.check.state.ping_count,
            at: arrival.at,
            kind,
            source: Source::Http,
            exit_status: arrival.action.exit_status(),
            rid: arrival.rid,
            scheme: arrival.scheme.clone(),
            method: arrival.method.clone(),
            remote_addr: arrival.remote_addr.clone(),
            user_agent: arrival.user_agent.clone(),
            body_bytes: arrival.body.len() as u64,
        };
        self.pings.push(Logged {
            ping,
            body: &arrival.body,
        });
    }
}

/// Writes what was decided. Gives the checks that somebody else had changed, of which nothing was written, and how many
/// deliveries were promised.
async fn write(
    tx: &mut Tx<'_>,
    mut touched: HashMap<CheckId, Touched<'_>>,
    dice: &mut Dice,
) -> Result<(HashSet<CheckId>, usize)> {
    let mut changed: Vec<Changed<'_>> = touched
        .values_mut()
        .map(|touched| Changed {
            deadline: touched.deadline,
            pings: std::mem::take(&mut touched.pings),
            check: &mut touched.check,
        })
        .collect();
    let full_pages: Vec<CheckId> = changed
        .iter()
        .filter(|changed| {
            changed
                .pings
                .iter()
                .any(|logged| logged.ping.n.is_multiple_of(LOG_PAGE))
        })
        .map(|changed| changed.check.id)
        .collect();
    let saved: HashSet<CheckId> = tx.batch_save(&mut changed, dice).await?.into_iter().collect();
    drop(changed);
    let lost = touched.keys().filter(|id| !saved.contains(id)).copied().collect();

    for id in full_pages.into_iter().filter(|id| saved.contains(id)) {
        tx.ping_log_mark(id).await?;
    }
    // Project by project, as every writer of flips does, so that two nodes wait for each other in one direction.
    let mut flipped: Vec<Touched<'_>> = touched
        .into_values()
        .filter(|touched| !touched.flips.is_empty() && saved.contains(&touched.check.id))
        .collect();
    flipped.sort_by_key(|touched| (touched.check.project, touched.check.id));
    let mut promised = 0;
    for Touched { check, flips, .. } in &flipped {
        for (flip, at) in flips {
            promised += record::write_flip(tx, check, flip, *at, dice).await?;
        }
    }
    Ok((lost, promised))
}
