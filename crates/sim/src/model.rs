//! What a check must be, worked out slowly from everything that happened to it.
//!
//! It keeps no state but the history: each question searches it backwards, as the oracle of `core` does, and shares no
//! code with `decide`. How a schedule goes on is taken from `core`, which has its own tests for that.

use std::collections::{BTreeMap, BTreeSet};

use allswell_core::absence::{Absence, CLOCKS_DIFFER};
use allswell_core::check::{Check, Rules, Settings, Status};
use allswell_core::flip::Flip;
use allswell_core::id::{ChannelId, CheckId, DeliveryId, ProjectId};
use allswell_core::schedule::{Schedule, Zones};
use allswell_core::signal::Kind;
use allswell_core::time::{Span, Timestamp};
use allswell_store::simulated::Promise;
use uuid::Uuid;

use crate::alerting::Outcome;

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
#[derive(Clone)]
pub(crate) struct Model {
    pub(crate) id: CheckId,
    pub(crate) project: ProjectId,
    pub(crate) settings: Settings,
    pub(crate) schedule: Schedule,
    pub(crate) created_at: Timestamp,
    pub(crate) history: Vec<Fact>,
    /// Those it was made with.
    pub(crate) first_rules: Rules,
    pub(crate) flips: Vec<Flip>,
    pub(crate) pings: u64,
    pub(crate) channels: Vec<Channel>,
    /// The channels that it was taken off at some time.
    pub(crate) taken_off: BTreeSet<ChannelId>,
    pub(crate) owed: Vec<(u64, ChannelId)>,
    /// Channels that are switched off, and those that are being switched.
    pub(crate) off: BTreeSet<ChannelId>,
    pub(crate) switched: BTreeSet<ChannelId>,
    /// Owed if the channel was on just then.
    pub(crate) perhaps_owed: Vec<(u64, ChannelId)>,
    pub(crate) promises: BTreeMap<DeliveryId, Promise>,
    /// By which a change of them is noticed.
    pub(crate) promise_stamp: Option<[i64; 4]>,
    pub(crate) version: i64,
    pub(crate) deleted: bool,
    /// The looks that first saw it, and that first saw it deleted.
    pub(crate) made_in: u64,
    pub(crate) deleted_in: Option<u64>,
    /// The ping that made it.
    pub(crate) made_by: Option<u64>,
    /// Until when an absence of ours excuses it: the one instant that is stored, or while several commits are taken apart
    /// each that may have been stored in between.
    pub(crate) excused: BTreeSet<Option<Timestamp>>,
    /// When its job runs next, if it has one that still runs.
    pub(crate) job_at: Option<Timestamp>,
    /// Of a hundred runs, how many report in.
    pub(crate) diligence: u32,
}

/// What the world knows besides the check.
pub(crate) struct Around<'a> {
    /// Absences that are written down now.
    pub(crate) absences: &'a [Absence],
    /// Those that were before the last commits: whoever looked in between knew no others.
    pub(crate) absences_before: &'a [Absence],
    /// Several transactions were committed since the last look, so that some may have come in between others.
    pub(crate) several: bool,
    /// The last sign of life of any node.
    pub(crate) last_mark: Option<Timestamp>,
    /// No clock was ever set.
    pub(crate) clocks_right: bool,
    /// The latest clock of all nodes.
    pub(crate) latest_clock: Timestamp,
}

pub(crate) fn schedule(settings: &Settings) -> Schedule {
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
            taken_off: BTreeSet::new(),
            owed: Vec::new(),
            off: BTreeSet::new(),
            switched: BTreeSet::new(),
            perhaps_owed: Vec::new(),
            promises: BTreeMap::new(),
            promise_stamp: None,
            version: 0,
            deleted: false,
            made_in: 0,
            deleted_in: None,
            made_by: None,
            excused: BTreeSet::from([None]),
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
        self.heard(Fact::Ping {
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
}
