//! What a check must be, worked out slowly from everything that happened to it.
//!
//! It keeps no state but the history: each question searches it backwards, as the oracle of `core` does, and shares no
//! code with `decide`. How a schedule goes on is taken from `core`, which has its own tests for that.

use std::collections::BTreeMap;

use allswell_core::absence::{ABSENCE_MIN, Absence, CLOCKS_DIFFER};
use allswell_core::check::{Check, Rules, Settings, Status, TimingKind};
use allswell_core::flip::{Flip, Reason};
use allswell_core::id::{ChannelId, CheckId, DeliveryId, ProjectId};
use allswell_core::schedule::{Schedule, Zones};
use allswell_core::signal::Kind;
use allswell_core::time::{Span, Timestamp};
use allswell_store::simulated::{Noticed, Promise, Stored};
use uuid::Uuid;

use crate::alerting::{Outcome, Waits, nominal_of};
use crate::rules::{ABSENCE, CHAIN, EARLY, Held, ONCE, broken, holds};

/// A channel, as routing sees it.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Channel {
    pub(crate) id: ChannelId,
    /// It is promised to, and tells nobody.
    pub(crate) silent: bool,
    pub(crate) down: bool,
    pub(crate) up: bool,
    /// The receiver that it calls, if it is a webhook.
    pub(crate) hook: Option<usize>,
}

/// What somebody did to a check, with the pings and flips that it had before.
#[derive(Clone, Debug)]
pub(crate) struct Note {
    pub(crate) node: usize,
    pub(crate) check: CheckId,
    pub(crate) pings: u64,
    pub(crate) flips: u64,
    pub(crate) at: Timestamp,
    pub(crate) what: Deed,
}

/// What people do to checks.
#[derive(Clone, Debug)]
pub(crate) enum Deed {
    Pause,
    /// It ends by itself at this instant.
    PauseUntil(Timestamp),
    Resume,
    Edit(Box<Settings>, Vec<Channel>),
    Delete,
}

#[derive(Clone, Debug)]
pub(crate) enum Fact {
    Ping {
        at: Timestamp,
        kind: Kind,
        rid: Option<Uuid>,
        /// Of a success or failure.
        outcome: Option<Outcome>,
    },
    Pause,
    /// With its end.
    PauseUntil(Timestamp),
    /// The end of that, which may not be its instant any more when a clock was set back.
    PauseOver(Timestamp),
    /// From paused.
    Resume,
    Missed,
    /// From now on with these rules.
    Edit(Rules),
    /// A clock was set back to this instant: what was noted for time to come counts as noted then.
    SetBack(Timestamp),
}

/// One check and all that happened to it.
pub(crate) struct Model {
    pub(crate) id: CheckId,
    pub(crate) project: ProjectId,
    pub(crate) settings: Settings,
    schedule: Schedule,
    created_at: Timestamp,
    pub(crate) history: Vec<Fact>,
    /// Those it was made with.
    pub(crate) first_rules: Rules,
    pub(crate) flips: Vec<Flip>,
    pub(crate) pings: u64,
    pub(crate) channels: Vec<Channel>,
    pub(crate) owed: Vec<(u64, ChannelId)>,
    pub(crate) promises: BTreeMap<DeliveryId, Promise>,
    /// By which a change of them is noticed.
    pub(crate) promise_stamp: Option<[i64; 4]>,
    pub(crate) version: i64,
    pub(crate) deleted: bool,
    /// Since the last success or failure nobody edited it.
    plain: bool,
    /// When its job runs next, if it has one that still runs.
    pub(crate) job_at: Option<Timestamp>,
    /// Of a hundred runs, how many report in.
    pub(crate) diligence: u32,
}

/// What the world knows besides the check.
pub(crate) struct Around<'a> {
    /// Absences that are written down now.
    pub(crate) absences: &'a [Absence],
    /// The last sign of life of any node.
    pub(crate) last_mark: Option<Timestamp>,
    /// No clock was ever set.
    pub(crate) clocks_right: bool,
    /// The latest clock of all nodes.
    pub(crate) latest_clock: Timestamp,
}

fn schedule(settings: &Settings) -> Schedule {
    settings
        .timing
        .schedule(&Zones::Bundled)
        .expect("the world sets valid schedules")
}

impl Model {
    pub(crate) fn new(check: &Check, channels: Vec<Channel>) -> Self {
        Model {
            id: check.id,
            project: check.project,
            settings: check.settings.clone(),
            schedule: schedule(&check.settings),
            created_at: check.created_at,
            history: Vec::new(),
            first_rules: check.settings.rules,
            flips: Vec::new(),
            pings: 0,
            channels,
            owed: Vec::new(),
            promises: BTreeMap::new(),
            promise_stamp: None,
            version: 0,
            deleted: false,
            plain: true,
            job_at: None,
            diligence: 95,
        }
    }

    pub(crate) fn status(&self) -> Status {
        self.flips.last().map_or(Status::New, |flip| flip.to)
    }

    pub(crate) fn status_since(&self) -> Timestamp {
        self.flips.last().map_or(self.created_at, |flip| flip.at)
    }

    pub(crate) fn last_ping(&self) -> Option<Timestamp> {
        self.history
            .iter()
            .enumerate()
            .rev()
            .find_map(|(place, fact)| match fact {
                Fact::Ping {
                    at,
                    kind: Kind::Success | Kind::Fail,
                    ..
                } => Some(Some(self.known(place, *at))),
                Fact::Resume | Fact::PauseOver(_) => Some(None),
                _ => None,
            })?
    }

    /// The last success, whatever was paused or resumed since.
    pub(crate) fn last_success(&self) -> Option<Timestamp> {
        let facts = self.history.iter().enumerate().rev();
        let mut successes = facts.filter_map(|(place, fact)| match fact {
            Fact::Ping {
                at,
                kind: Kind::Success,
                outcome,
                ..
            } if outcome.is_some_and(|outcome| !outcome.failed) => Some(self.known(place, *at)),
            _ => None,
        });
        successes.next()
    }

    /// From when the check is expected whose pause has ended by itself.
    pub(crate) fn pause_over(&self) -> Option<Timestamp> {
        self.pause_end().filter(|_| self.status() != Status::Paused)
    }

    /// A sign of life of the open run that left no row, since it was not the first.
    pub(crate) fn heard_alive(&mut self, at: Timestamp) {
        let rid = self.open_run().and_then(|(_, rid)| rid);
        self.history.push(Fact::Ping {
            at,
            kind: Kind::Alive,
            rid,
            outcome: None,
        });
    }

    /// An instant that was noted at this place of the history, as it is known now.
    fn known(&self, place: usize, noted: Timestamp) -> Timestamp {
        self.history[place..]
            .iter()
            .fold(noted, |noted, fact| match fact {
                Fact::SetBack(back) if noted > *back + CLOCKS_DIFFER => *back,
                _ => noted,
            })
    }

    /// Whether something that counts was noted for later than clocks differ by.
    pub(crate) fn lies_ahead(&self, at: Timestamp) -> bool {
        let run = self.open_run().map(|(started, _)| started);
        let noted = [
            self.last_ping(),
            run,
            self.alive(),
            self.last_success(),
            self.pause_over(),
        ];
        noted
            .into_iter()
            .flatten()
            .any(|noted| noted > at + CLOCKS_DIFFER)
    }

    /// A clock was set back to `at`, and somebody looked at this check since.
    pub(crate) fn set_back(&mut self, at: Timestamp) {
        self.history.push(Fact::SetBack(at));
    }

    /// The start that nothing has ended.
    pub(crate) fn open_run(&self) -> Option<(Timestamp, Option<Uuid>)> {
        let start = self.history.iter().rposition(|fact| {
            matches!(
                fact,
                Fact::Ping {
                    kind: Kind::Start,
                    ..
                }
            )
        })?;
        let Fact::Ping { at, rid: started, .. } = self.history[start] else {
            return None;
        };
        let ended = self.history[start + 1..].iter().any(|fact| match fact {
            Fact::Ping {
                kind: Kind::Success,
                rid,
                ..
            } => rid.is_none() || *rid == started,
            Fact::Ping { kind: Kind::Fail, .. } | Fact::Pause | Fact::PauseUntil(_) | Fact::Resume => true,
            _ => false,
        });
        (!ended).then(|| (self.known(start, at), started))
    }

    /// The end of the pause that is the last thing that happened, or the instant from which the check is expected since.
    pub(crate) fn pause_end(&self) -> Option<Timestamp> {
        let facts = self.history.iter().enumerate().rev();
        let mut decisive = facts.filter_map(|(place, fact)| match fact {
            Fact::PauseUntil(until) => Some(Some(*until)),
            Fact::PauseOver(at) => Some(Some(self.known(place, *at))),
            Fact::Pause
            | Fact::Resume
            | Fact::Missed
            | Fact::Ping {
                kind: Kind::Success | Kind::Fail,
                ..
            } => Some(None),
            _ => None,
        });
        decisive.next().flatten()
    }

    /// The last sign of life of the open run.
    pub(crate) fn alive(&self) -> Option<Timestamp> {
        let (_, own) = self.open_run()?;
        let facts = self.history.iter().enumerate().rev();
        let of_run = facts.take_while(|(_, fact)| {
            !matches!(
                fact,
                Fact::Ping {
                    kind: Kind::Start,
                    ..
                }
            )
        });
        of_run
            .filter_map(|(place, fact)| match fact {
                Fact::Ping {
                    at,
                    kind: Kind::Alive,
                    rid,
                    ..
                } if rid.is_none() || *rid == own => Some(self.known(place, *at)),
                _ => None,
            })
            .next()
    }

    /// When the sweep must look: at the deadline, or at the end of a pause.
    pub(crate) fn wake_up(&self, excused: Option<Timestamp>) -> Option<Timestamp> {
        let deadline = self.nominal().map(|at| excused.map_or(at, |until| until.max(at)));
        let pause = self.pause_end().filter(|_| self.status() == Status::Paused);
        [deadline, pause].into_iter().flatten().min()
    }

    /// When the next signal is expected by the schedule.
    pub(crate) fn expected(&self) -> Option<Timestamp> {
        match (self.status(), self.last_ping()) {
            (Status::Up, Some(last)) => self.schedule.next_after(last),
            (Status::New, None) => self.pause_end().and_then(|at| self.schedule.next_after(at)),
            _ => None,
        }
    }

    /// The deadline that schedule, grace, rules and history give, our absences aside.
    pub(crate) fn nominal(&self) -> Option<Timestamp> {
        self.waits().map(|waits| waits.until)
    }

    /// When the job would run next, seen from `now`.
    pub(crate) fn next_run(&self, now: Timestamp) -> Timestamp {
        self.schedule.next_after(now).unwrap_or(now + Span::from_days(1))
    }

    /// The most that an absence may have given: the limit of what is awaited, or of what was while we were away, at least a
    /// minute, at most a period.
    fn allowances(&self, waits: &Waits) -> Vec<Span> {
        let Settings { grace, rules, .. } = &self.settings;
        let of_rules = [rules.max_run_secs, rules.start_grace_secs].into_iter().flatten();
        let mut limits = vec![waits.limit];
        if !rules.are_off() {
            limits.push(*grace);
            limits.extend(of_rules.map(|secs| Span::from_secs(i64::from(secs))));
        }
        if self.settings.timing.kind != TimingKind::Period {
            return Vec::new();
        }
        let period = self.settings.timing.period;
        let allowed = limits
            .into_iter()
            .map(|limit| limit.min(period).max(Span::from_secs(60)));
        allowed.collect()
    }

    /// What the address of a ping means to this check now.
    fn means(&self, kind: Kind) -> Kind {
        if self.status() == Status::Paused && self.settings.filters.manual_resume {
            Kind::Ignored
        } else {
            kind
        }
    }

    /// Takes what was committed since the last look, in its order. `asked` gives what a ping's address said.
    pub(crate) fn follow(
        &mut self,
        pings: Vec<Stored>,
        flips: Vec<Noticed>,
        notes: Vec<Note>,
        asked: impl Fn(&Stored) -> Option<Kind>,
        around: &Around<'_>,
    ) -> Held {
        let (mut pings, mut flips, mut notes) = (
            pings.into_iter().peekable(),
            flips.into_iter().peekable(),
            notes.into_iter().peekable(),
        );
        loop {
            let here = (self.pings, self.flips.len() as u64);
            if let Some(note) = notes.next_if(|note| (note.pings, note.flips) == here) {
                self.done(note, &mut flips)?;
            } else if !pings.peek().is_some_and(|ping| self.is_ignored(ping, &asked))
                && flips.peek().is_some_and(|next| self.could_be_missed(&next.flip))
            {
                self.missed(flips.next().expect("just seen"), around)?;
            } else if let Some(ping) = pings.next() {
                self.pinged(&ping, asked(&ping), &mut flips)?;
            } else {
                break;
            }
        }
        if let Some(flip) = flips.next() {
            return broken(CHAIN, format!("nothing in the history gives {flip:?}"));
        }
        match notes.next() {
            Some(note) => broken(
                CHAIN,
                format!("{note:?} was done to a check that had another history"),
            ),
            None => Ok(()),
        }
    }

    fn turn(
        &mut self,
        to: Status,
        at: Timestamp,
        fits: impl Fn(&Reason) -> bool,
        flips: &mut impl Iterator<Item = Noticed>,
    ) -> Held {
        if self.status() == to {
            return Ok(());
        }
        let at = at.max(self.status_since());
        let Some(Noticed { flip, .. }) = flips.next() else {
            let from = self.status();
            return broken(
                CHAIN,
                format!("check {} has no flip from {from:?} to {to:?} at {at}", self.id),
            );
        };
        let seq = self.flips.len() as u64 + 1;
        let truth =
            (flip.seq, flip.from, flip.to, flip.at) == (seq, self.status(), to, at) && fits(&flip.reason);
        holds(CHAIN, truth, || {
            let from = self.status();
            format!("{flip:?}, and not number {seq} from {from:?} to {to:?} at {at}")
        })?;
        self.flipped(flip);
        Ok(())
    }

    fn flipped(&mut self, flip: Flip) {
        let news = flip.to == Status::Down || (flip.from, flip.to) == (Status::Down, Status::Up);
        if news {
            let wants = |channel: &&Channel| {
                if flip.to == Status::Down {
                    channel.down
                } else {
                    channel.up
                }
            };
            let owed = self
                .channels
                .iter()
                .filter(wants)
                .map(|channel| (flip.seq, channel.id));
            self.owed.extend(owed);
        }
        self.flips.push(flip);
    }

    fn done(&mut self, note: Note, flips: &mut impl Iterator<Item = Noticed>) -> Held {
        let at = note.at;
        match note.what {
            Deed::Pause => {
                self.turn(Status::Paused, at, |reason| *reason == Reason::Paused, flips)?;
                self.history.push(Fact::Pause);
            }
            Deed::PauseUntil(until) => {
                let fits = |reason: &Reason| {
                    *reason
                        == Reason::PausedUntil {
                            until: until.as_micros(),
                        }
                };
                self.turn(Status::Paused, at, fits, flips)?;
                self.history.push(Fact::PauseUntil(until));
            }
            Deed::Resume => {
                if self.status() == Status::Paused {
                    self.turn(Status::New, at, |reason| *reason == Reason::Resumed, flips)?;
                    self.history.push(Fact::Resume);
                }
            }
            Deed::Edit(settings, channels) => {
                self.schedule = schedule(&settings);
                self.history.push(Fact::Edit(settings.rules));
                self.settings = *settings;
                self.channels = channels;
                self.plain = false;
            }
            Deed::Delete => self.deleted = true,
        }
        Ok(())
    }

    fn pinged(
        &mut self,
        ping: &Stored,
        asked: Option<Kind>,
        flips: &mut impl Iterator<Item = Noticed>,
    ) -> Held {
        let kind = asked.map(|kind| self.means(kind));
        holds(ONCE, kind == Some(ping.kind), || {
            format!("{ping:?} of check {} should have said {kind:?}", self.id)
        })?;
        let outcome = self.outcome(ping);
        self.pings += 1;
        let outcome = match outcome {
            None => None,
            Some((outcome, fits)) => {
                let to = if outcome.up { Status::Up } else { Status::Down };
                self.turn(to, ping.at, fits, flips)?;
                self.plain = true;
                Some(outcome)
            }
        };
        self.history.push(Fact::Ping {
            at: ping.at,
            kind: ping.kind,
            rid: ping.rid,
            outcome,
        });
        Ok(())
    }

    /// Whether a ping was ignored since the check is paused: then it came before the end of that pause.
    fn is_ignored(&self, ping: &Stored, asked: impl Fn(&Stored) -> Option<Kind>) -> bool {
        let kind = asked(ping).map(|kind| self.means(kind));
        (ping.kind, kind) == (Kind::Ignored, Some(Kind::Ignored))
    }

    fn could_be_missed(&self, flip: &Flip) -> bool {
        if flip.seq != self.flips.len() as u64 + 1 {
            return false;
        }
        if let Reason::PauseOver { until } = flip.reason {
            return self.status() == Status::Paused
                && self.pause_end().is_some_and(|at| at.as_micros() == until);
        }
        nominal_of(&flip.reason).is_some()
            && self.waits().is_some_and(|waits| waits.is_missed_by(&flip.reason))
    }

    fn missed(&mut self, noticed: Noticed, around: &Around<'_>) -> Held {
        let Noticed { flip, noticed_at } = noticed;
        let tell = || format!("check {}: {flip:?}, noticed at {noticed_at}", self.id);
        if let Reason::PauseOver { until } = flip.reason {
            let until = Timestamp::from_micros(until);
            let chains = (flip.from, flip.to) == (Status::Paused, Status::New)
                && flip.at == until.max(self.status_since());
            holds(CHAIN, chains, tell)?;
            holds(
                EARLY,
                noticed_at >= until && noticed_at <= around.latest_clock,
                tell,
            )?;
            self.flipped(flip);
            self.history.push(Fact::PauseOver(until));
            return Ok(());
        }
        let Some(waits) = self.waits() else {
            return broken(EARLY, format!("{}, and nothing was awaited", tell()));
        };
        let Some(moved_from) = nominal_of(&flip.reason) else {
            return broken(CHAIN, tell());
        };
        let nominal = waits.until;
        let chains = flip.from == self.status()
            && flip.to == Status::Down
            && flip.expected_at == Some(waits.expected)
            && waits.is_missed_by(&flip.reason);
        holds(CHAIN, chains, tell)?;
        holds(
            EARLY,
            noticed_at >= nominal && noticed_at <= around.latest_clock,
            || {
                format!(
                    "{}, clocks at {}, deadline {nominal}",
                    tell(),
                    around.latest_clock
                )
            },
        )?;
        match moved_from {
            None => {
                holds(EARLY, flip.at == nominal.max(self.status_since()), || {
                    format!("{}, deadline {nominal}", tell())
                })?;
                let unseen = around
                    .last_mark
                    .is_some_and(|last| last < nominal && noticed_at - last > ABSENCE_MIN);
                holds(ABSENCE, !unseen || !around.clocks_right, || {
                    format!("{}, and nobody was awake since {:?}", tell(), around.last_mark)
                })?;
                let swallowed = around
                    .absences
                    .iter()
                    .find(|a| a.from < nominal && nominal <= a.to);
                holds(ABSENCE, swallowed.is_none() || !around.clocks_right, || {
                    format!("{}, deadline {nominal} in {swallowed:?}", tell())
                })?;
            }
            Some(from) => {
                // Behind a clock that was set back, a flip is no older than the one before it.
                let passed = noticed_at >= flip.at || flip.at == self.status_since();
                let truth = from == nominal.as_micros() && flip.at > nominal && passed;
                holds(ABSENCE, truth, || format!("{}, deadline {nominal}", tell()))?;
                if self.plain && around.clocks_right {
                    self.excused_rightly(&waits, flip.at, around.absences)?;
                }
            }
        }
        self.flipped(flip);
        self.history.push(Fact::Missed);
        Ok(())
    }

    /// What our return gave is an allowance, of which only the time counts that we were awake, and the fifteen seconds
    /// after each last sign of life that we cannot know about.
    fn excused_rightly(&self, waits: &Waits, at: Timestamp, absences: &[Absence]) -> Held {
        let nominal = waits.until;
        let mut swallowing = absences
            .iter()
            .skip_while(|a| !(a.from < nominal && nominal <= a.to));
        // What was given for an earlier deadline, of the schedule or of another run, may still be in force.
        let Some(first) = swallowing.next() else {
            return Ok(());
        };
        let allowances = self.allowances(waits);
        if allowances.is_empty() {
            return Ok(());
        }
        let later: Vec<&Absence> = swallowing.collect();
        let ends: Vec<Timestamp> = allowances
            .iter()
            .map(|allowance| excused_until(*allowance, first, &later).max(self.status_since()))
            .collect();
        holds(ABSENCE, ends.contains(&at), || {
            format!(
                "check {}: deadline {nominal} moved to {at} and not to {ends:?}, allowances {allowances:?}, {absences:?}",
                self.id
            )
        })
    }
}

/// Until when an allowance lasts that the first absence gave, and of which later ones gave back the rest.
fn excused_until(allowance: Span, first: &Absence, later: &[&Absence]) -> Timestamp {
    let instant = Span::from_micros(1);
    let (mut back, mut left) = (first.to, allowance);
    for absence in later {
        let ends = back + left;
        if absence.from + instant < ends && ends <= absence.to {
            // An instant, or this absence would swallow what it has given.
            left = (ends - (absence.from + Span::from_secs(15))).max(instant);
            back = absence.to;
        }
    }
    back + left
}
