//! What a check must be, worked out slowly from everything that happened to it.
//!
//! It keeps no state but the history: each question searches it backwards, as the oracle of `core` does, and shares no
//! code with `decide`. How a schedule goes on is taken from `core`, which has its own tests for that.

use std::collections::BTreeMap;

use allswell_core::absence::{ABSENCE_MIN, Absence, CLOCKS_DIFFER};
use allswell_core::check::{Check, Settings, Status, TimingKind};
use allswell_core::flip::{Flip, Reason};
use allswell_core::id::{ChannelId, CheckId, DeliveryId, ProjectId};
use allswell_core::schedule::{Schedule, Zones};
use allswell_core::signal::Kind;
use allswell_core::time::{Span, Timestamp};
use allswell_store::simulated::{Noticed, Promise, Stored};
use uuid::Uuid;

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
    Resume,
    Edit(Box<Settings>, Vec<Channel>),
    Delete,
}

#[derive(Clone, Debug)]
enum Fact {
    Ping {
        at: Timestamp,
        kind: Kind,
        rid: Option<Uuid>,
    },
    Pause,
    /// From paused.
    Resume,
    Missed,
    Edit,
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
    history: Vec<Fact>,
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
                Fact::Resume => Some(None),
                _ => None,
            })?
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
        let noted = [self.last_ping(), run];
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
            Fact::Ping { kind: Kind::Fail, .. } | Fact::Pause | Fact::Resume => true,
            _ => false,
        });
        (!ended).then(|| (self.known(start, at), started))
    }

    /// When the next signal is expected: by the schedule, and for an open run its start.
    fn expected(&self) -> Option<Timestamp> {
        let by_schedule = match (self.status(), self.last_ping()) {
            (Status::Up, Some(last)) => self.schedule.next_after(last),
            _ => None,
        };
        let run = self.open_run().filter(|_| self.status() != Status::Down);
        match (by_schedule, run) {
            (Some(one), Some((other, _))) => Some(one.min(other)),
            (one, other) => one.or(other.map(|(at, _)| at)),
        }
    }

    /// The deadline that schedule, grace and history give, our absences aside.
    pub(crate) fn nominal(&self) -> Option<Timestamp> {
        self.expected().map(|at| at + self.settings.grace)
    }

    /// When the job would run next, seen from `now`.
    pub(crate) fn next_run(&self, now: Timestamp) -> Timestamp {
        self.schedule.next_after(now).unwrap_or(now + Span::from_days(1))
    }

    /// The most that an absence gives: grace, at least a minute, at most a period.
    fn allowance(&self) -> Option<Span> {
        (self.settings.timing.kind == TimingKind::Period).then(|| {
            let wanted = self.settings.grace.min(self.settings.timing.period);
            wanted.max(Span::from_secs(60))
        })
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
            } else if flips.peek().is_some_and(|next| self.could_be_missed(&next.flip)) {
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
            Deed::Resume => {
                if self.status() == Status::Paused {
                    self.turn(Status::New, at, |reason| *reason == Reason::Resumed, flips)?;
                    self.history.push(Fact::Resume);
                }
            }
            Deed::Edit(settings, channels) => {
                self.schedule = schedule(&settings);
                self.settings = *settings;
                self.channels = channels;
                self.history.push(Fact::Edit);
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
        self.pings += 1;
        let n = self.pings;
        let to = match ping.kind {
            Kind::Success => Some(Status::Up),
            Kind::Fail => Some(Status::Down),
            _ => None,
        };
        if let Some(to) = to {
            let fits = |reason: &Reason| {
                matches!((to, reason), (Status::Up, Reason::Success { ping, .. }) if *ping == n)
                    || matches!((to, reason), (Status::Down, Reason::Fail { ping, .. }) if *ping == n)
            };
            self.turn(to, ping.at, fits, flips)?;
            self.plain = true;
        }
        self.history.push(Fact::Ping {
            at: ping.at,
            kind: ping.kind,
            rid: ping.rid,
        });
        Ok(())
    }

    fn could_be_missed(&self, flip: &Flip) -> bool {
        if flip.seq != self.flips.len() as u64 + 1 {
            return false;
        }
        match &flip.reason {
            Reason::Timeout { last_ping, .. } => {
                self.last_ping().is_some_and(|at| at.as_micros() == *last_ping)
            }
            Reason::RunTimeout { started, .. } => {
                self.open_run().is_some_and(|(at, _)| at.as_micros() == *started)
            }
            _ => false,
        }
    }

    fn missed(&mut self, noticed: Noticed, around: &Around<'_>) -> Held {
        let Noticed { flip, noticed_at } = noticed;
        let tell = || format!("check {}: {flip:?}, noticed at {noticed_at}", self.id);
        let Some(nominal) = self.nominal() else {
            return broken(EARLY, format!("{}, and nothing was awaited", tell()));
        };
        let (Reason::Timeout {
            moved_from, grace, ..
        }
        | Reason::RunTimeout {
            moved_from, grace, ..
        }) = flip.reason
        else {
            return broken(CHAIN, tell());
        };
        let chains = flip.from == self.status()
            && flip.to == Status::Down
            && flip.expected_at == self.expected()
            && grace == self.settings.grace.as_secs();
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
                    self.excused_rightly(nominal, flip.at, around.absences)?;
                }
            }
        }
        self.flipped(flip);
        self.history.push(Fact::Missed);
        Ok(())
    }

    /// What our return gave is an allowance, of which only the time counts that we were awake, and the fifteen seconds
    /// after each last sign of life that we cannot know about.
    fn excused_rightly(&self, nominal: Timestamp, at: Timestamp, absences: &[Absence]) -> Held {
        let mut swallowing = absences
            .iter()
            .skip_while(|a| !(a.from < nominal && nominal <= a.to));
        // What was given for an earlier deadline, of the schedule or of another run, may still be in force.
        let Some(first) = swallowing.next() else {
            return Ok(());
        };
        let Some(allowance) = self.allowance() else {
            return Ok(());
        };
        let instant = Span::from_micros(1);
        let (mut back, mut left) = (first.to, allowance);
        for absence in swallowing {
            let ends = back + left;
            if absence.from + instant < ends && ends <= absence.to {
                // An instant, or this absence would swallow what it has given.
                left = (ends - (absence.from + Span::from_secs(15))).max(instant);
                back = absence.to;
            }
        }
        let ends = (back + left).max(self.status_since());
        holds(ABSENCE, at == ends, || {
            format!(
                "check {}: deadline {nominal} moved to {at} and not to {ends}, allowance {allowance}, {absences:?}",
                self.id
            )
        })
    }
}
