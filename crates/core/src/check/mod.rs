//! A check: an expectation that something reports in, and the one function that decides about it.
//!
//! [`decide`] takes what is known, what happened and the instant, and gives the new state, the flip if the status
//! changed, and the next deadline. It cannot fail and has no side: whoever calls it writes the promises down.

mod awaited;
mod decide;
#[cfg(test)]
mod oracle;
mod rules;
mod wish;
#[cfg(test)]
mod years;

pub use awaited::Awaited;
pub use decide::{Decision, Event, decide};
pub use rules::{FailureRate, Recent, Rules, UnusualRun};
pub use wish::{Fault, Wish, WishedChannels};

use uuid::Uuid;

use crate::id::{CheckId, ProjectId};
use crate::limits;
use crate::schedule::{Schedule, ScheduleError, Zones};
use crate::signal::Filters;
use crate::time::{Span, Timestamp};

/// The stored status of a check. *Late* is not stored: see [`Shown`].
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum Status {
    /// It has not been heard of, or was resumed and not heard of since.
    New,
    /// All's well.
    Up,
    /// It failed or fell silent.
    Down,
    /// Nobody expects anything of it.
    Paused,
}

impl Status {
    /// All of them.
    pub const ALL: [Status; 4] = [Status::New, Status::Up, Status::Down, Status::Paused];

    /// The word stored and shown.
    pub const fn word(self) -> &'static str {
        match self {
            Status::New => "new",
            Status::Up => "up",
            Status::Down => "down",
            Status::Paused => "paused",
        }
    }

    /// The number stored.
    pub const fn number(self) -> i64 {
        match self {
            Status::New => 0,
            Status::Up => 1,
            Status::Down => 2,
            Status::Paused => 3,
        }
    }

    /// The status of a stored number.
    pub fn from_number(number: i64) -> Option<Self> {
        Status::ALL.into_iter().find(|status| status.number() == number)
    }
}

/// What a reader is shown: derived from the state, the plan and the instant of looking.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Shown {
    /// Not heard of yet.
    New,
    /// All's well.
    Up,
    /// Expected, not here yet, grace not over.
    Late,
    /// Failed or silent.
    Down,
    /// Nobody expects anything.
    Paused,
}

impl Shown {
    /// The word shown. The compatible API says `grace` for late.
    pub const fn word(self) -> &'static str {
        match self {
            Shown::New => "new",
            Shown::Up => "up",
            Shown::Late => "late",
            Shown::Down => "down",
            Shown::Paused => "paused",
        }
    }
}

/// Which of its two forms a check's timing has.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum TimingKind {
    /// A fixed period.
    Period,
    /// A cron or OnCalendar expression.
    Expression,
}

/// When a check is expected. Both forms are kept, so that switching back loses nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timing {
    /// The form in force.
    pub kind: TimingKind,
    /// The period.
    pub period: Span,
    /// The cron or OnCalendar expression.
    pub expression: String,
    /// The time zone of the expression.
    pub zone: String,
}

impl Default for Timing {
    fn default() -> Self {
        Timing {
            kind: TimingKind::Period,
            period: Span::from_secs(limits::PERIOD_SECS_DEFAULT),
            expression: "* * * * *".to_owned(),
            zone: "UTC".to_owned(),
        }
    }
}

impl Timing {
    /// The schedule in force, by the rules of these zones. Stored expressions were valid when they were saved; newer
    /// zone data may not know their zone any more.
    pub fn schedule(&self, zones: &Zones) -> Result<Schedule, ScheduleError> {
        match self.kind {
            TimingKind::Period => Ok(Schedule::Period(self.period)),
            TimingKind::Expression => Schedule::parse_with(&self.expression, &self.zone, zones),
        }
    }
}

/// What people set on a check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// What people call it.
    pub name: String,
    /// The readable part of its ping address; empty for none.
    pub slug: String,
    /// Tags, separated by spaces, kept as given.
    pub tags: String,
    /// Free text.
    pub description: String,
    /// When it is expected.
    pub timing: Timing,
    /// How late is still fine.
    pub grace: Span,
    /// What counts as what.
    pub filters: Filters,
    /// When a failure is worth an alert, and how long a run may take.
    pub rules: Rules,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            name: String::new(),
            slug: String::new(),
            tags: String::new(),
            description: String::new(),
            timing: Timing::default(),
            grace: Span::from_secs(limits::GRACE_SECS_DEFAULT),
            filters: Filters::default(),
            rules: Rules::OFF,
        }
    }
}

impl Settings {
    /// The tags one by one, each once, in the order given.
    pub fn tag_list(&self) -> Vec<&str> {
        let mut tags: Vec<&str> = Vec::new();
        for tag in self.tags.split_whitespace() {
            if !tags.contains(&tag) {
                tags.push(tag);
            }
        }
        tags
    }

    /// The part of the settings that decisions need.
    pub fn plan(&self, zones: &Zones) -> Result<Plan, ScheduleError> {
        Ok(Plan {
            schedule: self.timing.schedule(zones)?,
            grace: self.grace,
            rules: self.rules,
        })
    }
}

/// What decisions need of a check's settings.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// When a ping is expected.
    pub schedule: Schedule,
    /// How late is still fine.
    pub grace: Span,
    /// The rules that people set beside these.
    pub rules: Rules,
}

impl Plan {
    /// One without rules.
    pub const fn plain(schedule: Schedule, grace: Span) -> Self {
        let rules = Rules::OFF;
        Plan {
            schedule,
            grace,
            rules,
        }
    }
}

/// What is known of a check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// The status since the last flip.
    pub status: Status,
    /// The instant of the last flip, or of the check's making.
    pub status_since: Timestamp,
    /// The last success or failure.
    pub last_ping: Option<Timestamp>,
    /// Start of the open run.
    pub last_start: Option<Timestamp>,
    /// Run id of the open run.
    pub last_start_rid: Option<Uuid>,
    /// How long the last finished run took.
    pub last_duration: Option<Span>,
    /// The deadline that it was given after an absence of ours; `None` unless the one in force is such a one.
    pub excused_until: Option<Timestamp>,
    /// Pings so far, ignored ones included, and of the signs of life of a run the first alone. The number of the last ping.
    pub ping_count: u64,
    /// Flips so far. The number of the last flip.
    pub flip_count: u64,
    /// What its rules must remember.
    pub recent: Recent,
    /// Pings of these that moved the check and are not in its log: more came than its quota keeps.
    pub not_kept: u64,
    /// The last success, whatever was paused or resumed since.
    pub last_success: Option<Timestamp>,
    /// When its pause ends by itself. Once it has, the instant from which the check is expected again, until it is heard of.
    pub paused_until: Option<Timestamp>,
    /// The last sign of life of the open run, if it gave one.
    pub last_alive: Option<Timestamp>,
}

impl State {
    /// The state of a check made at this instant.
    pub const fn new(now: Timestamp) -> Self {
        State {
            status: Status::New,
            status_since: now,
            last_ping: None,
            last_start: None,
            last_start_rid: None,
            last_duration: None,
            excused_until: None,
            ping_count: 0,
            flip_count: 0,
            recent: Recent {
                outcomes: Vec::new(),
                runs: Vec::new(),
            },
            not_kept: 0,
            last_success: None,
            paused_until: None,
            last_alive: None,
        }
    }

    /// The deadline by schedule, open run and rules alone.
    pub fn nominal_deadline(&self, plan: &Plan) -> Option<Timestamp> {
        self.awaited(plan).map(|awaited| awaited.until)
    }

    /// When the sweep must look: at the deadline, or when a pause ends by itself.
    pub fn wake_up(&self, plan: &Plan) -> Option<Timestamp> {
        let pause_ends = self.paused_until.filter(|_| self.status == Status::Paused);
        [self.deadline(plan), pause_ends].into_iter().flatten().min()
    }

    /// The instant at which the check goes down if nothing is heard. `None`: never.
    pub fn deadline(&self, plan: &Plan) -> Option<Timestamp> {
        // A later one by new settings beats what an absence gave.
        self.nominal_deadline(plan)
            .map(|nominal| self.excused_until.map_or(nominal, |until| until.max(nominal)))
    }

    /// What a reader is shown at this instant (`healthchecks.md` section 2, derived status).
    pub fn shown_at(&self, plan: &Plan, now: Timestamp) -> Shown {
        if self.status == Status::Down || self.deadline(plan).is_some_and(|deadline| deadline <= now) {
            return Shown::Down;
        }
        match self.status {
            Status::New | Status::Up if self.expected(plan).is_some_and(|expected| expected <= now) => {
                Shown::Late
            }
            Status::New => Shown::New,
            Status::Paused => Shown::Paused,
            Status::Down => Shown::Down,
            Status::Up => Shown::Up,
        }
    }

    /// Whether an open run has lasted longer than it may.
    pub fn run_is_overdue(&self, plan: &Plan, now: Timestamp) -> bool {
        self.last_start.is_some_and(|start| {
            let nominal = self.run_awaited(plan, start).until;
            now >= self.excused_until.map_or(nominal, |until| until.max(nominal))
        })
    }

    /// When the compatible API says the next ping is expected: the start of an open run counts as already expected.
    pub fn next_ping_at(&self, plan: &Plan, now: Timestamp) -> Option<Timestamp> {
        if self.shown_at(plan, now) == Shown::Down {
            return None;
        }
        [self.expected(plan), self.run_open_since()]
            .into_iter()
            .flatten()
            .min()
    }
}

/// A check as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// Its id, and its address for pings.
    pub id: CheckId,
    /// Whose it is.
    pub project: ProjectId,
    /// The id in its badge's address, which must not tell the check's own.
    pub badge: Uuid,
    /// What people set.
    pub settings: Settings,
    /// What is known.
    pub state: State,
    /// The stored wake-up of the sweep: at or before the true deadline, never after it.
    pub deadline: Option<Timestamp>,
    /// Grows with each change of the row; a write names the version it read.
    pub version: i64,
    /// When it was made.
    pub created_at: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan() -> Plan {
        Plan::plain(Schedule::Period(Span::from_secs(60)), Span::from_secs(30))
    }

    fn at(secs: i64) -> Timestamp {
        Timestamp::from_secs(secs)
    }

    #[test]
    fn an_up_check_is_late_and_then_down() {
        let state = State {
            status: Status::Up,
            last_ping: Some(at(0)),
            ..State::new(at(0))
        };
        for (secs, shown, next) in [
            (59, Shown::Up, Some(60)),
            (60, Shown::Late, Some(60)),
            (89, Shown::Late, Some(60)),
            (90, Shown::Down, None),
        ] {
            assert_eq!(state.shown_at(&plan(), at(secs)), shown, "{secs}");
            assert_eq!(state.next_ping_at(&plan(), at(secs)), next.map(at), "{secs}");
        }
        assert_eq!(state.deadline(&plan()), Some(at(90)));
    }

    #[test]
    fn an_open_run_takes_a_check_down_from_any_status() {
        for status in Status::ALL {
            let state = State {
                status,
                last_ping: Some(at(0)),
                last_start: Some(at(20)),
                ..State::new(at(0))
            };
            assert_eq!(state.shown_at(&plan(), at(50)), Shown::Down);
            let deadline = (status != Status::Down).then(|| at(50));
            assert_eq!(state.deadline(&plan()), deadline, "{status:?}");
            let next = (status != Status::Down).then(|| at(20));
            assert_eq!(state.next_ping_at(&plan(), at(49)), next, "{status:?}");
        }
    }

    #[test]
    fn a_check_that_expects_nothing_has_no_deadline() {
        for status in [Status::New, Status::Paused, Status::Down] {
            let state = State {
                status,
                last_ping: Some(at(0)),
                ..State::new(at(0))
            };
            assert_eq!(state.deadline(&plan()), None);
            assert_eq!(state.next_ping_at(&plan(), at(5)), None);
        }
    }

    #[test]
    fn tags_are_listed_once_each() {
        let settings = Settings {
            tags: "  prod db  prod ".into(),
            ..Settings::default()
        };
        assert_eq!(settings.tag_list(), ["prod", "db"]);
    }
}
