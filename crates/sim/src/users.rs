//! What people and their jobs do: pings of all kinds, edits, pauses, and checks that are made by a ping.

use allswell_core::check::{
    Check, Event, FailureRate, Rules, Settings, State, Timing, TimingKind, UnusualRun,
};
use allswell_core::id::CheckId;
use allswell_core::schedule::Zones;
use allswell_core::scope::ProjectScope;
use allswell_core::signal::{Action, Kind};
use allswell_core::time::{Span, Timestamp};
use allswell_engine::ingest::{Address, Arrival, Wished};
use allswell_engine::record;
use allswell_store::Error;
use bytes::Bytes;
use uuid::Uuid;

use crate::model::{Channel, Deed, Note};
use crate::node::Done;
use crate::rules::Held;
use crate::task::Task;
use crate::world::World;

/// A ping that somebody sent.
#[derive(Clone, Debug)]
pub(crate) struct Ticket {
    /// The check in its address, if it is there by id.
    pub(crate) check: Option<CheckId>,
    /// What its address says.
    pub(crate) kind: Kind,
    pub(crate) at: Timestamp,
    /// The node it was handed to, and the happening at which.
    pub(crate) node: usize,
    pub(crate) put: u64,
    /// The last look before that.
    pub(crate) look: u64,
    pub(crate) answered: Option<u64>,
    pub(crate) errand: Errand,
}

/// What a client wants to say.
#[derive(Clone, Debug)]
pub(crate) struct Errand {
    pub(crate) to: To,
    pub(crate) action: Action,
    pub(crate) rid: Option<Uuid>,
    /// How often it tries again if it is not answered.
    pub(crate) tries: u32,
}

/// Whom a ping is addressed to.
#[derive(Clone, Debug)]
pub(crate) enum To {
    Check(CheckId),
    Slug {
        slug: String,
        create: bool,
    },
    /// A check that is to be so if it must be made.
    Wished(Box<Wished>),
}

const fn kind_of(action: Action) -> Kind {
    match action {
        Action::Success | Action::Exit(0) => Kind::Success,
        Action::Fail | Action::Exit(_) => Kind::Fail,
        Action::Start => Kind::Start,
        Action::Log => Kind::Log,
        Action::Alive => Kind::Alive,
    }
}

impl World {
    /// Hands a ping to a node, if one is up; otherwise the client tries again later.
    pub(crate) fn send(&mut self, errand: Errand) {
        let up: Vec<usize> = self.nodes_up();
        if up.is_empty() {
            return self.try_again(errand);
        }
        let place = up[self.roll(up.len() as u32) as usize];
        self.send_by(place, errand);
    }

    /// Hands a ping to this node, which is up.
    pub(crate) fn send_by(&mut self, place: usize, errand: Errand) {
        // No two pings are read from one clock in the same microsecond.
        self.now = self.now + Span::from_micros(1);
        let at = self.clock_of(place);
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        let (check, address) = match &errand.to {
            To::Check(id) => (Some(*id), Address::Check(*id)),
            To::Slug { slug, create } => {
                let key = self.ping_key.clone();
                let (slug, create) = (slug.clone(), *create);
                (None, Address::Slug { key, slug, create })
            }
            To::Wished(wished) => (None, Address::Wished(wished.clone())),
        };
        let arrival = Arrival {
            at,
            address,
            action: errand.action,
            rid: errand.rid,
            scheme: "https".into(),
            method: "GET".into(),
            remote_addr: None,
            user_agent: format!("t{ticket}"),
            body: Bytes::from_static(if ticket.is_multiple_of(7) { b"a body" } else { b"" }),
        };
        self.say(|| {
            format!(
                "ping t{ticket} {:?} {:?} {:?} at {at}",
                errand.to, errand.action, errand.rid
            )
        });
        let happening = self.happening;
        let up = self.nodes[place].up.as_mut().expect("it is up");
        up.put(ticket, arrival);
        let ticket_of = Ticket {
            check,
            kind: kind_of(errand.action),
            at,
            node: up.number,
            put: happening,
            look: self.sights.looks,
            answered: None,
            errand,
        };
        self.tickets.insert(ticket, ticket_of);
    }

    /// A client that was not answered tries again within ten seconds, some times.
    pub(crate) fn try_again(&mut self, mut errand: Errand) {
        if errand.tries == 0 {
            return;
        }
        errand.tries -= 1;
        let at = self.now + Span::from_millis(500 + i64::from(self.roll(9_500)));
        self.agenda(at, errand);
    }

    /// The job of a check runs, and reports in if it is diligent.
    pub(crate) fn job_runs(&mut self, id: CheckId) {
        let now = self.now;
        let Some(model) = self.models.get_mut(&id) else {
            return;
        };
        model.job_at = (!model.deleted).then(|| model.next_run(now));
        let diligence = model.diligence;
        if model.job_at.is_none() || self.roll(100) >= diligence {
            return;
        }
        // Mostly soon, sometimes in the last moment, or just behind it.
        let grace = self.models[&id].settings.grace.as_micros() / 1_000;
        let late = match self.roll(6) {
            0 => grace - 1_000 + i64::from(self.roll(1_500)),
            _ => i64::from(self.roll(3_000)),
        };
        let rid = (self.roll(3) == 0).then(|| self.dice.id());
        let errand = |action| Errand {
            to: To::Check(id),
            action,
            rid,
            tries: 5,
        };
        let ends = match self.roll(20) {
            0 => Action::Fail,
            1 => Action::Exit(3),
            _ => Action::Success,
        };
        let begins = self.now + Span::from_millis(late);
        if self.roll(3) == 0 {
            self.agenda(begins, errand(Action::Start));
            let lasts = Span::from_millis(100 + i64::from(self.roll(40_000)));
            if self.roll(2) == 0 {
                let part = Span::from_millis(100 + i64::from(self.roll(40_000)));
                self.agenda(begins + part, errand(Action::Alive));
            }
            self.agenda(begins + lasts, errand(ends));
        } else {
            self.agenda(begins, errand(ends));
        }
    }

    /// Somebody does something that no schedule says.
    pub(crate) fn somebody_acts(&mut self) -> Held {
        let ids: Vec<CheckId> = self
            .models
            .values()
            .filter(|m| !m.deleted && m.project == self.project)
            .map(|m| m.id)
            .collect();
        if ids.is_empty() {
            return Ok(());
        }
        let id = ids[self.roll(ids.len() as u32) as usize];
        let errand = |action, rid| Errand {
            to: To::Check(id),
            action,
            rid,
            tries: 3,
        };
        match self.roll(52) {
            48..=51 => self.two_at_once(id),
            46..=47 => self.somebody_switches_on(),
            38..=45 => {
                let deadline = self.models[&id].nominal();
                if let Some(deadline) = deadline.filter(|at| *at > self.now) {
                    let before = Span::from_millis(1 + i64::from(self.roll(900)));
                    let call = ((deadline - before).max(self.now), id);
                    if self.close_call.is_none_or(|other| call < other) {
                        self.close_call = Some(call);
                        // Its job is silent until then, or the deadline would have moved.
                        let model = self.models.get_mut(&id).expect("it is there");
                        model.job_at = model.job_at.map(|_| model.next_run(deadline));
                        self.one_stays_alone(deadline)?;
                    }
                }
            }
            30..=33 => {
                // All at once: they come into one batch, or several.
                for _ in 0..2 + self.roll(3) {
                    let actions = [
                        Action::Success,
                        Action::Fail,
                        Action::Success,
                        Action::Exit(1),
                        Action::Start,
                    ];
                    let action = actions[self.roll(actions.len() as u32) as usize];
                    self.send(errand(action, None));
                }
            }
            34 => self.send(errand(Action::Alive, None)),
            35 => self.send(errand(Action::Alive, Some(Uuid::from_u128(7)))),
            36..=37 => self.deed(id, Wanted::PauseFor),
            0..=4 => self.send(errand(Action::Success, None)),
            5..=6 => self.send(errand(Action::Fail, None)),
            7..=9 => self.send(errand(Action::Start, None)),
            10 => self.send(errand(Action::Log, None)),
            11 => self.send(errand(Action::Exit(0), Some(Uuid::from_u128(7)))),
            12..=13 => self.send(errand(Action::Start, Some(Uuid::from_u128(7)))),
            14..=16 => {
                let slug = format!("made-{}", self.roll(5));
                let create = self.roll(4) > 0;
                // To different nodes: each may be about to make it.
                let up = self.nodes_up();
                for n in 0..=1 + self.roll(2) as usize {
                    let to = if create && self.roll(2) == 0 {
                        To::Wished(Box::new(self.a_wish(&slug)))
                    } else {
                        To::Slug {
                            slug: slug.clone(),
                            create,
                        }
                    };
                    let errand = Errand {
                        to,
                        action: Action::Success,
                        rid: None,
                        tries: 3,
                    };
                    match up.len() {
                        0 => self.send(errand),
                        nodes => self.send_by(up[n % nodes], errand),
                    }
                }
            }
            17..=19 => self.deed(id, Wanted::Pause),
            20..=22 => self.deed(id, Wanted::Resume),
            23..=27 => self.deed(id, Wanted::Edit),
            28 if ids.len() > 2 => self.deed(id, Wanted::Delete),
            _ => {
                let diligence = [0, 60, 95, 100][self.roll(4) as usize];
                self.say(|| format!("the job of {id} reports in {diligence} times of 100"));
                let now = self.now;
                let model = self.models.get_mut(&id).expect("it is there");
                model.diligence = diligence;
                model.job_at = Some(model.next_run(now));
            }
        }
        Ok(())
    }

    pub(crate) fn new_settings(&mut self, name: &str) -> Settings {
        let seconds = |world: &mut World, choice: &[i64]| {
            Span::from_secs(choice[world.roll(choice.len() as u32) as usize])
        };
        let kind = if self.roll(4) == 0 {
            TimingKind::Expression
        } else {
            TimingKind::Period
        };
        let expressions = [
            ("*/5 * * * *", "UTC"),
            ("7 * * * *", "Europe/Riga"),
            ("*:0/10", "America/New_York"),
        ];
        let (expression, zone) = expressions[self.roll(3) as usize];
        let timing = Timing {
            kind,
            period: seconds(self, &[60, 120, 300, 900, 3_600]),
            expression: expression.to_owned(),
            zone: zone.to_owned(),
        };
        let mut settings = Settings {
            name: name.to_owned(),
            slug: name.to_owned(),
            timing,
            grace: seconds(self, &[60, 60, 90, 300, 1_200]),
            ..Settings::default()
        };
        settings.filters.manual_resume = self.roll(5) == 0;
        if self.roll(3) == 0 {
            settings.rules = self.new_rules();
        }
        settings
    }

    /// Some of the rules, near to what the jobs here do.
    fn new_rules(&mut self) -> Rules {
        let mut some = |choice: &[u32]| {
            let chosen = choice[self.roll(choice.len() as u32) as usize];
            (self.roll(2) == 0).then_some(chosen)
        };
        let small = |number: u32| u8::try_from(number).expect("a small one");
        let min_run_secs = some(&[1, 5, 15]);
        Rules {
            failures: some(&[2, 3, 4]).map(small),
            failure_rate: some(&[20, 50, 67, 100]).map(|percent| FailureRate {
                percent: small(percent),
                window: some(&[2, 3]).map_or(5, small),
            }),
            max_run_secs: some(&[16, 30, 70, 400, 2_000]),
            start_grace_secs: some(&[2, 10, 70, 3_000]),
            min_run_secs,
            unusual_run: some(&[11, 15, 30]).map(|tenths| UnusualRun {
                tenths: u16::try_from(tenths).expect("a small one"),
                samples: some(&[4, 5]).map_or(3, small),
            }),
        }
    }

    fn deed(&mut self, id: CheckId, wanted: Wanted) {
        let name = self.models[&id].settings.name.clone();
        let what = match wanted {
            Wanted::Pause => Deed::Pause,
            Wanted::PauseFor => Deed::PauseUntil(self.now + Span::from_secs(20 + i64::from(self.roll(900)))),
            Wanted::Resume => Deed::Resume,
            Wanted::Delete => Deed::Delete,
            Wanted::Edit => {
                let settings = self.new_settings(&name);
                let mut all = self.channels.clone();
                all.retain(|channel| !self.switches.is_deleted(channel.id));
                let chosen = all.into_iter().filter(|_| self.roll(3) > 0).collect();
                Deed::Edit(Box::new(settings), chosen)
            }
        };
        self.carry_out(id, what);
    }

    /// Hands an edit to a node, as a request that nobody repeats.
    pub(crate) fn carry_out(&mut self, id: CheckId, what: Deed) {
        let up = self.nodes_up();
        if up.is_empty() {
            return;
        }
        let place = up[self.roll(up.len() as u32) as usize];
        self.carry_out_by(place, id, what);
    }

    /// Hands an edit to this node, which is up.
    pub(crate) fn carry_out_by(&mut self, place: usize, id: CheckId, what: Deed) {
        let at = self.clock_of(place);
        let scope = ProjectScope::granted(self.project);
        self.say(|| format!("somebody does to {id} at {at}: {what:?}"));
        let (notes, dice) = (self.notes.clone(), self.dice.fork());
        let up = self.nodes[place].up.as_mut().expect("it is up");
        let (node, store) = (up.number, up.store.clone());
        let note = Note {
            node,
            check: id,
            pings: 0,
            flips: 0,
            at,
            what,
        };
        let work = async move {
            let done = store
                .write(async move |tx| act(tx, scope, note, dice, &notes).await)
                .await;
            Done::Deed(done)
        };
        up.tasks.push(Task::new(work));
    }

    /// A new check, as the API makes it.
    pub(crate) fn new_check(&mut self, name: &str) -> Check {
        let settings = self.new_settings(name);
        Check {
            id: self.dice.id(),
            project: self.project,
            badge: self.dice.id(),
            settings,
            state: State::new(self.now),
            deadline: None,
            version: 1,
            created_at: self.now,
        }
    }
}

#[derive(Copy, Clone)]
enum Wanted {
    Pause,
    PauseFor,
    Resume,
    Edit,
    Delete,
}

/// An edit in its transaction, as the API makes one; leaves word of what it did.
async fn act(
    tx: &mut allswell_store::Tx<'_>,
    scope: ProjectScope,
    mut note: Note,
    mut dice: allswell_core::chance::Dice,
    notes: &std::sync::Mutex<Vec<Note>>,
) -> Result<(), Error> {
    let (zones, at) = (Zones::Bundled, note.at);
    tx.check_lock(scope, note.check).await?;
    let Some(mut check) = tx.check(scope, note.check).await? else {
        return Ok(());
    };
    (note.pings, note.flips) = (check.state.ping_count, check.state.flip_count);
    match &note.what {
        Deed::Pause => {
            record::apply_and_save(tx, &mut check, Event::Pause, at, &mut dice, &zones).await?;
        }
        Deed::PauseUntil(until) => {
            let event = Event::PauseUntil(*until);
            record::apply_and_save(tx, &mut check, event, at, &mut dice, &zones).await?;
        }
        Deed::Resume => {
            record::apply_and_save(tx, &mut check, Event::Resume, at, &mut dice, &zones).await?;
        }
        Deed::Delete => {
            tx.check_delete(scope, check.id, at).await?;
        }
        Deed::Edit(settings, channels) => {
            check.settings = (**settings).clone();
            tx.check_save_settings(scope, &mut check).await?;
            record::apply_and_save(tx, &mut check, Event::Edit, at, &mut dice, &zones).await?;
            // Somebody may have deleted one meanwhile.
            let there = tx.channels(scope).await?;
            let mut channels: Vec<_> = channels.iter().map(|channel: &Channel| channel.id).collect();
            channels.retain(|channel| there.iter().any(|of| of.id == *channel));
            tx.check_set_channels(scope, check.id, &channels).await?;
            let seq = tx.change_next(scope).await?;
            tx.check_mark_changed(scope, &check, seq).await?;
        }
    }
    notes.lock().expect("nobody panics with it").push(note);
    Ok(())
}
