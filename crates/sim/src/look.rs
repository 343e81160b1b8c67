//! Looking at everything after each commit: what changed is held against the histories.

use std::collections::{BTreeMap, BTreeSet};

use allswell_core::absence::{ABSENCE_MIN, Absence};
use allswell_core::check::{Check, Status};
use allswell_core::id::{ChannelId, CheckId, DeliveryId, NodeId};
use allswell_core::signal::Kind;
use allswell_core::time::{Span, Timestamp};
use allswell_store::flips::Incident;
use allswell_store::simulated::{Ended, Promise, Seen, Stored, Version};

use crate::alerting::nominal_of;
use crate::follow::News;
use crate::model::{Around, Model, Note};
use crate::orders::Orders;
use crate::rules::{
    ABSENCE, CHAIN, COUNTED, DELETED, Held, INCIDENTS, MADE, NOTED, ONCE, REMEMBERED, STATE, WAITING,
    WAKE_UP, broken, holds,
};
use crate::users::Ticket;
use crate::world::World;

/// What was seen so far that belongs to no check.
#[derive(Default)]
pub(crate) struct Sights {
    /// Tickets of pings that are stored, with their check.
    pub(crate) stored: BTreeMap<u64, CheckId>,
    pub(crate) marks: BTreeMap<NodeId, Timestamp>,
    last_mark: Option<Timestamp>,
    pub(crate) absences: Vec<Absence>,
    /// Those before the last commits.
    absences_before: Vec<Absence>,
    /// Which check and channel a delivery is for, and the number of its flip.
    pub(crate) lanes: BTreeMap<DeliveryId, (CheckId, ChannelId, u64)>,
    pub(crate) told: BTreeSet<DeliveryId>,
    pub(crate) last_told: BTreeMap<(CheckId, ChannelId), u64>,
    pub(crate) flips: u64,
    pub(crate) commits: u64,
    /// Looks at something that was committed.
    pub(crate) looks: u64,
    /// Each lease that is held, and the look that first saw it.
    pub(crate) leases: BTreeMap<DeliveryId, ((NodeId, Timestamp), u64)>,
    /// Who holds each delivery for which attempt, however often the lease was made longer, and the look that first saw that.
    pub(crate) held: BTreeMap<DeliveryId, ((NodeId, u64), u64)>,
}

impl Sights {
    /// Takes note of the lease of a delivery. One that is made longer counts as another, which only an attempt under way gets;
    /// one that was brought back to a clock of these does not.
    pub(crate) fn leased(&mut self, promise: &Promise, set_back: &[Timestamp]) {
        let look = self.looks;
        let Some((owner, until)) = promise.lease else {
            self.held.remove(&promise.id);
            return;
        };
        let (by, before) = ((owner, promise.attempts), self.leases.get(&promise.id));
        // Given back and taken again, unseen.
        let is_anew = before.is_some_and(|((_, before), _)| until < *before) && !set_back.contains(&until);
        let holder = self.held.entry(promise.id).or_insert((by, look));
        if holder.0 != by || is_anew {
            *holder = (by, look);
        }
        if let Some(lease) = promise.lease {
            let known = self.leases.entry(promise.id).or_insert((lease, look));
            let (owner, until) = lease;
            if known.0.0 == owner && set_back.contains(&until) {
                known.0 = lease;
            } else if known.0 != lease {
                *known = (lease, look);
            }
        }
    }
}

impl World {
    /// Looks at what was committed. `ended` says by whom.
    pub(crate) fn look(&mut self, ended: &[Ended]) -> Held {
        let committed: Vec<usize> = ended.iter().filter(|e| e.committed).map(|e| e.node).collect();
        let mut notes = std::mem::take(&mut *self.notes.lock().expect("nobody panics with it"));
        notes.retain(|note| committed.contains(&note.node));
        let mut deeds = std::mem::take(&mut *self.deeds.lock().expect("nobody panics with it"));
        deeds.retain(|deed| committed.contains(&deed.request.node));
        if committed.is_empty() || self.blind {
            return Ok(());
        }
        self.sights.commits += committed.len() as u64;
        self.sights.looks += 1;
        self.look_at_absences()?;
        let switched_on = self.look_at_hands(deeds)?;
        self.look_at_switches(switched_on);
        let versions = self.db.versions().expect("the database can be read");
        let mut rows: Option<BTreeMap<CheckId, Seen>> = None;
        for version in &versions {
            let mine: Vec<Note> = notes
                .iter()
                .filter(|note| note.check == version.id)
                .cloned()
                .collect();
            if mine.is_empty() && !self.changed(version) {
                continue;
            }
            let rows = rows.get_or_insert_with(|| {
                let checks = self.db.checks().expect("the database can be read");
                checks.into_iter().map(|seen| (seen.check.id, seen)).collect()
            });
            let seen = rows[&version.id].clone();
            self.look_at_check(&seen, mine, &committed)?;
        }
        for (id, model) in &self.models {
            let gone = !versions.iter().any(|version| version.id == *id);
            holds(DELETED, !gone || model.deleted, || {
                format!("check {id} is gone and nobody deleted it")
            })?;
        }
        self.models
            .retain(|id, _| versions.iter().any(|version| version.id == *id));
        self.look_at_promises(&committed)?;
        self.look_at_those_alone(&committed)?;
        self.switched_rightly()
    }

    /// The clocks to which these may have brought back what lay ahead of them: nothing does unless a clock was set.
    pub(crate) fn set_back_to(&self, committed: &[usize]) -> Vec<Timestamp> {
        let clocks = committed.iter().filter_map(|number| self.replans.get(number));
        clocks.filter(|_| self.clocks_set).copied().collect()
    }

    fn changed(&self, version: &Version) -> bool {
        self.models.get(&version.id).is_none_or(|model| {
            (
                model.version,
                model.pings,
                model.flips.len() as u64,
                model.deleted,
            ) != (version.version, version.pings, version.flips, version.deleted)
        })
    }

    fn look_at_absences(&mut self) -> Held {
        let last = self.sights.last_mark;
        // What is older belongs to processes that have ended.
        let since = last.map_or(self.now, |last| last.min(self.now)) - Span::from_secs(600);
        let marks = self.db.marks(since).expect("readable");
        let absences = self.db.absences().expect("readable");
        let mut moved = Vec::new();
        for (node, at) in marks {
            if self.sights.marks.insert(node, at) != Some(at) {
                moved.push(at);
            }
        }
        self.sights.last_mark = moved.iter().copied().chain(last).max();
        // A node that hung for a minute with its mark on the way cannot tell what was meanwhile: marks so far ahead of its
        // own are taken for those of a wrong clock.
        let in_time = |mark: &&Timestamp| last.is_none_or(|last| **mark + ABSENCE_MIN >= last);
        let mark = moved.first().filter(|_| moved.len() == 1).filter(in_time);
        if let (true, Some(last), Some(mark)) = (self.clocks_right(), last, mark) {
            let away = (*mark - last > ABSENCE_MIN).then_some(Absence {
                from: last,
                to: *mark,
            });
            let new: Vec<&Absence> = absences
                .iter()
                .filter(|a| !self.sights.absences.contains(a))
                .collect();
            let told = match away {
                // Two who come back at once tell of the same absence.
                Some(away) => absences.iter().any(|a| a.from == away.from) && new.iter().all(|a| **a == away),
                None => new.is_empty(),
            };
            holds(NOTED, told, || {
                format!("last seen {last}, now {mark}, new absences {new:?}")
            })?;
        }
        let long = |a: &&Absence| a.to - a.from <= ABSENCE_MIN;
        if let Some(short) = absences.iter().find(long) {
            return broken(NOTED, format!("{short:?} is too short"));
        }
        self.sights.absences_before = std::mem::replace(&mut self.sights.absences, absences);
        Ok(())
    }

    fn look_at_check(&mut self, seen: &Seen, notes: Vec<Note>, committed: &[usize]) -> Held {
        let check = &seen.check;
        if !self.models.contains_key(&check.id) {
            let twin = self
                .models
                .values()
                .any(|other| !other.deleted && other.settings.slug == check.settings.slug);
            let asked = check.settings.slug.starts_with("made-") && !twin;
            holds(MADE, asked, || {
                format!("a second check is called {:?}", check.settings.slug)
            })?;
            let pings = self.db.pings(check.id, 0).expect("readable");
            let channels = self.is_as_wished(check, &pings)?;
            let mut model = Model::new(check, channels);
            model.made_in = self.sights.looks;
            model.made_by = pings.first().and_then(|ping| self.ticket_of(&ping.user_agent));
            self.models.insert(check.id, model);
        }
        let model = &self.models[&check.id];
        let (had_pings, had_flips, was_deleted) = (model.pings, model.flips.len() as u64, model.deleted);
        let pings = self.db.pings(check.id, had_pings).expect("readable");
        let flips = self.db.flips(check.id, had_flips).expect("readable");
        for (stored, n) in pings.iter().zip(had_pings + 1..) {
            holds(COUNTED, stored.n == n, || {
                format!("check {}: ping {} where {n} should be", check.id, stored.n)
            })?;
            let Some(ticket) = self.ticket_of(&stored.user_agent) else {
                return broken(ONCE, format!("nobody sent {stored:?}"));
            };
            let known = self.tickets[&ticket].check.is_none_or(|id| id == check.id);
            let again = self.sights.stored.insert(ticket, check.id);
            holds(ONCE, again.is_none() && known, || {
                format!("{stored:?} of check {} is stored for {again:?} too", check.id)
            })?;
        }
        let mut before = self.models[&check.id].status_since();
        for flip in &flips {
            // No flip is older than the one before it: where they are of one instant, the deadline lay before that, and what
            // came in between was too late.
            if flip.flip.at > before {
                self.nothing_waited(check.id, flip.flip.at, &flip.flip.reason, committed)?;
            }
            before = flip.flip.at;
        }
        self.sights.flips += flips.len() as u64;
        let around = Around {
            absences: &self.sights.absences,
            absences_before: &self.sights.absences_before,
            several: committed.len() > 1,
            last_mark: self.sights.last_mark,
            clocks_right: self.clocks_right(),
            latest_clock: self.latest_clock,
        };
        let replanned = self.set_back_to(committed);
        let tickets = &self.tickets;
        let model = self.models.get_mut(&check.id).expect("just seen");
        (model.off, model.switched) = self.switches.known();
        // Only where a clock was set does a check remember anything of time to come.
        let state = &check.state;
        let resumed = state.paused_until.filter(|_| state.status != Status::Paused);
        let noted = [
            state.last_ping,
            state.last_start,
            state.last_alive,
            state.last_success,
            resumed,
        ];
        let set_back = replanned.into_iter().filter(|at| noted.contains(&Some(*at)));
        let news = News {
            pings,
            flips,
            notes,
            set_back: set_back.collect(),
        };
        // Of a run only its first sign of life has a row: what came since is known by who sent it.
        let run = state.last_start.map(|at| (at, state.last_start_rid));
        let heard = |model: &mut Model| {
            let unknown = state.last_alive.filter(|at| model.alive() != Some(*at));
            let renewed = unknown.filter(|at| {
                let said = |ticket: &Ticket| {
                    let for_it = ticket.check.is_none_or(|id| id == check.id);
                    let of_it = ticket.errand.rid.is_none() || ticket.errand.rid == state.last_start_rid;
                    ticket.kind == Kind::Alive && ticket.at == *at && for_it && of_it
                };
                tickets.values().any(said)
            });
            if let Some(at) = renewed
                && model.open_run() == run
                && model.alive().is_some()
            {
                model.heard_alive(at);
            }
        };
        let asked = |stored: &Stored| {
            let ticket: u64 = stored.user_agent.strip_prefix('t')?.parse().ok()?;
            Some(tickets.get(&ticket)?.kind)
        };
        let bears_out = |model: &mut Model, news: News, orders: &mut Orders| {
            model.follow(news, asked, heard, &around, orders)?;
            let excused = state.excused_until;
            let given = model.excused.contains(&excused);
            holds(ABSENCE, given || !around.clocks_right, || {
                format!(
                    "check {} is excused until {excused:?}, and by its history until one of {:?}",
                    check.id, model.excused
                )
            })?;
            remembers(check, model)
        };
        let mut orders = Orders::default();
        if around.several || !news.set_back.is_empty() {
            let known = model.clone();
            let first = bears_out(model, news.clone(), &mut orders);
            let mut held = first.is_ok();
            while !held && orders.another() {
                *model = known.clone();
                held = bears_out(model, news.clone(), &mut orders).is_ok();
            }
            if !held {
                return first;
            }
        } else {
            bears_out(model, news, &mut orders)?;
        }
        let excused = state.excused_until;
        model.excused = BTreeSet::from([excused]);
        model.version = check.version;
        if model.deleted {
            model.deleted_in.get_or_insert(self.sights.looks);
        }
        let model = &self.models[&check.id];
        let now = (model.pings, model.flips.len() as u64);
        let deleted = seen.deleted_at.is_some();
        let quiet = !was_deleted || now == (had_pings, had_flips);
        holds(DELETED, deleted == model.deleted && quiet, || {
            format!("check {}: {seen:?}", check.id)
        })?;
        self.agrees(seen, model)?;
        self.incidents_agree(model)
    }

    /// No ping that arrived in time waits at the node whose sweep took its check down, and those that may wait at other
    /// nodes were given their time.
    fn nothing_waited(
        &self,
        check: CheckId,
        at: Timestamp,
        reason: &allswell_core::flip::Reason,
        committed: &[usize],
    ) -> Held {
        if nominal_of(reason).is_none() || !self.clocks_right() {
            return Ok(());
        }
        let sweeps = committed.iter().filter_map(|number| self.sweep_began(*number));
        let latest = sweeps.map(|sweep| sweep.judges).max();
        // Of several it may have been any.
        holds(WAITING, latest.is_none_or(|latest| at <= latest), || {
            format!("check {check} went down by {at}, and others had time until {latest:?}")
        })?;
        let [number] = committed else { return Ok(()) };
        let Some(sweep) = self.sweep_began(*number) else {
            return Ok(());
        };
        let waited = self.tickets.iter().find(|(_, ticket)| {
            ticket.node == *number
                && ticket.check == Some(check)
                && ticket.at <= at
                // One that comes behind the sweep is younger than all that it judges.
                && ticket.put <= sweep.happening
                && ticket.answered.is_none()
        });
        holds(WAITING, waited.is_none(), || {
            format!("check {check} went down by {at}, and {waited:?} waits")
        })
    }

    fn agrees(&self, seen: &Seen, model: &Model) -> Held {
        let (check, state) = (&seen.check, &seen.check.state);
        if model.deleted {
            return holds(DELETED, check.deadline.is_none(), || {
                format!("check {} still waits", check.id)
            });
        }
        let latest = model.wake_up(state.excused_until);
        let right = match (check.deadline, latest) {
            (None, None) => true,
            (Some(stored), Some(latest)) => stored <= latest,
            _ => false,
        };
        holds(WAKE_UP, right, || {
            format!(
                "check {}: stored {:?}, deadline {latest:?}",
                check.id, check.deadline
            )
        })?;
        let excused =
            state.excused_until.is_none() || !self.sights.absences.is_empty() || !self.clocks_right();
        holds(ABSENCE, excused, || {
            format!("check {} is excused and nobody was away", check.id)
        })
    }

    fn incidents_agree(&self, model: &Model) -> Held {
        let mut expected: Vec<Incident> = Vec::new();
        for flip in &model.flips {
            if flip.from == Status::Down {
                let open = expected.last_mut().expect("it came up, so it went down");
                (open.closed_seq, open.closed_at) = (Some(flip.seq), Some(flip.at));
            }
            if flip.to == Status::Down {
                expected.push(Incident {
                    opened_seq: flip.seq,
                    opened_at: flip.at,
                    closed_seq: None,
                    closed_at: None,
                });
            }
        }
        let stored = self.db.incidents(model.id).expect("readable");
        holds(INCIDENTS, stored == expected, || {
            format!("check {}: {stored:?}, and not {expected:?}", model.id)
        })
    }
}

/// What a check counts and remembers agrees with its history.
fn remembers(check: &Check, model: &Model) -> Held {
    let counts = (check.state.ping_count, check.state.flip_count);
    let now = (model.pings, model.flips.len() as u64);
    holds(COUNTED, counts.0 == now.0, || {
        format!("check {}: {counts:?}, not {now:?}", check.id)
    })?;
    holds(CHAIN, counts.1 == now.1, || {
        format!("check {}: {counts:?}, not {now:?}", check.id)
    })?;
    let state = &check.state;
    let stored = (
        state.status,
        state.status_since,
        state.last_ping,
        state.last_start.map(|at| (at, state.last_start_rid)),
    );
    let true_state = (
        model.status(),
        model.status_since(),
        model.last_ping(),
        model.open_run(),
    );
    holds(
        STATE,
        stored == true_state && check.settings == model.settings,
        || format!("check {}: {stored:?}, and not {true_state:?}", check.id),
    )?;
    let stored = (
        state.last_success,
        state.last_alive,
        state.paused_until,
        state.not_kept,
    );
    let true_state = (model.last_success(), model.alive(), model.pause_end(), 0);
    holds(STATE, stored == true_state, || {
        format!("check {}: {stored:?}, and not {true_state:?}", check.id)
    })?;
    let recent = (&state.recent.outcomes, &state.recent.runs);
    let remembered = (model.outcomes(), model.runs());
    holds(REMEMBERED, recent == (&remembered.0, &remembered.1), || {
        format!("check {}: {recent:?}, and not {remembered:?}", check.id)
    })
}
