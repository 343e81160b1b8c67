//! Who may send how much at a time: permits, what each project and origin has in flight, breakers and paces.
//!
//! In the memory of this node alone. It only delays: what is owed stands in rows, and a restart begins with an empty desk.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use allswell_core::breaker::{Breaker, Gate};
use allswell_core::delivery::Class;
use allswell_core::exchange::Outcome;
use allswell_core::id::{ChannelId, ProjectId};
use allswell_core::pace::Pace;
use allswell_core::retry::target_fails;
use allswell_core::time::{Span, Timestamp};

/// Channels whose origin is remembered; with more, all are learnt anew.
const CHANNELS_MAX: usize = 100_000;
/// Origins above which those are forgotten of which nothing matters any more.
const ORIGINS_SWEPT_AT: usize = 1_024;
/// An origin of which nothing was heard for so long begins anew: how it did then says nothing of now. Longer than any
/// pause of a breaker.
const FORGOTTEN_AFTER: Span = Span::from_secs(3_600);

/// How much may be in flight.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Permits {
    /// Attempts at a time, in all.
    pub max: u32,
    /// Of one project, while others wait.
    pub per_project: u32,
}

impl Permits {
    /// What a project may have in flight.
    fn of_project(self, others_wait: bool) -> u32 {
        let unreserved = self.unreserved();
        if others_wait {
            self.per_project.min(self.max / 4).clamp(1, unreserved)
        } else {
            unreserved
        }
    }

    /// What all projects together may have in flight beyond the first attempt of each. A permit cannot be taken back
    /// within the 30 s of an attempt that nobody answers, so there must be one left for every project that may come by
    /// then: a tenth was gone after a hundred, and whoever came next waited for 20 s.
    fn unreserved(self) -> u32 {
        (self.max - self.max / 2).max(1)
    }
}

/// The origin of what stays in this process.
const INSIDE: &str = "inside";

/// A target as it is counted: scheme, host and port.
pub(crate) type Origin = Arc<str>;

#[derive(Default)]
struct OriginDesk {
    in_flight: u32,
    breaker: Breaker,
    pace: Pace,
    /// When its last attempt ended.
    noted_at: Option<Timestamp>,
}

impl OriginDesk {
    fn matters(&self, now: Timestamp) -> bool {
        // Or ahead, by a clock that has been set back since.
        let long_ago = self
            .noted_at
            .is_some_and(|at| now - at >= FORGOTTEN_AFTER || at - now >= FORGOTTEN_AFTER);
        self.in_flight > 0 || !(long_ago || self.pace.is_idle() && self.breaker.is_idle(now))
    }
}

#[derive(Default)]
struct State {
    in_flight: u32,
    /// Of those what is no alert and no test.
    patient: u32,
    projects: HashMap<ProjectId, u32>,
    origins: HashMap<(ProjectId, Origin), OriginDesk>,
    channels: HashMap<ChannelId, Origin>,
    /// Lines of the log that are on their way.
    lines: u32,
}

/// The desk. Cheap to clone; clones are the same desk.
#[derive(Clone)]
pub(crate) struct Desk {
    permits: Permits,
    state: Arc<Mutex<State>>,
}

/// What a step is about to begin.
#[derive(Clone, Debug, Default)]
pub(crate) struct Dealt {
    /// Attempts of all projects.
    pub(crate) all: u32,
    /// Of them those that are the first of their project.
    firsts: u32,
    of: HashMap<ProjectId, u32>,
}

/// What a channel may send now.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct Room {
    /// Attempts at a time that its origin still takes.
    pub(crate) attempts: u32,
    pub(crate) gate: Gate,
}

fn is_patient(class: Class) -> bool {
    matches!(class, Class::Job | Class::Report)
}

impl Desk {
    pub(crate) fn new(permits: Permits) -> Self {
        Desk {
            permits,
            state: Arc::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn in_flight(&self) -> u32 {
        self.lock().in_flight
    }

    /// Attempts that may begin now of this class, all projects together.
    pub(crate) fn free(&self, class: Class) -> u32 {
        let state = self.lock();
        let free = self.permits.max.saturating_sub(state.in_flight);
        if is_patient(class) {
            // The other half is for alerts.
            free.min((self.permits.max / 2).saturating_sub(state.patient))
        } else {
            free
        }
    }

    /// Notes that an attempt of this project is about to begin.
    pub(crate) fn deal(&self, dealt: &mut Dealt, project: ProjectId) {
        let planned = dealt.of.entry(project).or_default();
        let is_first = *planned == 0 && !self.lock().projects.contains_key(&project);
        *planned += 1;
        dealt.all += 1;
        dealt.firsts += u32::from(is_first);
    }

    /// Attempts that this project may begin now beside those that are about to.
    pub(crate) fn project_room(&self, project: ProjectId, others_wait: bool, dealt: &Dealt) -> u32 {
        let state = self.lock();
        let planned = dealt.of.get(&project).copied().unwrap_or(0);
        let own = state.projects.get(&project).copied().unwrap_or(0) + planned;
        let all = state.in_flight + dealt.all;
        let free = self.permits.max.saturating_sub(all);
        let free = if own == 0 {
            // The reserve is for a first attempt.
            free.min(1)
        } else {
            let firsts = state.projects.len() as u32 + dealt.firsts;
            let beyond = all.saturating_sub(firsts);
            // However many have their first under way, some are left for those who come next.
            let left = free.saturating_sub(self.permits.max / 8);
            left.min(self.permits.unreserved().saturating_sub(beyond))
        };
        free.min(self.permits.of_project(others_wait).saturating_sub(own))
    }

    /// The origin of a channel, if an attempt has shown it.
    pub(crate) fn origin(&self, channel: ChannelId) -> Option<Origin> {
        self.lock().channels.get(&channel).cloned()
    }

    /// Takes a place for a line of the log, so that not too many of a project are planned while some are on their way. They
    /// stay in this process and need no permit: a log that hangs must not take those of the others.
    pub(crate) fn begin_inside(&self, project: ProjectId, channel: ChannelId) -> Inside {
        let mut state = self.lock();
        state.learn(channel, INSIDE.into());
        let desk = state.origins.entry((project, INSIDE.into())).or_default();
        desk.in_flight += 1;
        state.lines += 1;
        drop(state);
        Inside {
            desk: self.clone(),
            project,
        }
    }

    /// Lines of the log that are on their way.
    pub(crate) fn lines_under_way(&self) -> u32 {
        self.lock().lines
    }

    pub(crate) fn room(&self, project: ProjectId, origin: &Origin, now: Timestamp) -> Room {
        let state = self.lock();
        match state.origins.get(&(project, Arc::clone(origin))) {
            None => Room {
                attempts: Pace::default().width(),
                gate: Gate::Closed,
            },
            Some(desk) => Room {
                attempts: desk.pace.width().saturating_sub(desk.in_flight),
                gate: desk.breaker.gate(now),
            },
        }
    }

    /// Takes a permit for an attempt; `None` if the origin has no room, which only now may have come out, or nobody has: those
    /// that decide for a breaker come beside those that were dealt.
    /// `beyond_fast_phase`: it is one that an open breaker holds back, so it decides.
    pub(crate) fn begin(
        &self,
        place: (ProjectId, ChannelId, Class),
        origin: Origin,
        beyond_fast_phase: bool,
        now: Timestamp,
    ) -> Option<Permit> {
        let (project, channel, class) = place;
        let mut state = self.lock();
        state.learn(channel, Arc::clone(&origin));
        if state.in_flight >= self.permits.max {
            return None;
        }
        let desk = state.origins.entry((project, Arc::clone(&origin))).or_default();
        if desk.in_flight >= desk.pace.width() {
            return None;
        }
        desk.in_flight += 1;
        if beyond_fast_phase && desk.breaker.gate(now) == Gate::HalfOpen {
            desk.breaker.ask(now);
        }
        state.in_flight += 1;
        state.patient += u32::from(is_patient(class));
        *state.projects.entry(project).or_default() += 1;
        drop(state);
        Some(Permit {
            desk: self.clone(),
            project,
            class,
            origin,
        })
    }

    /// Breakers that are not closed at `now`.
    pub(crate) fn breakers_open(&self, now: Timestamp) -> usize {
        let state = self.lock();
        let open = |desk: &&OriginDesk| desk.breaker.gate(now) != Gate::Closed;
        state.origins.values().filter(open).count()
    }
}

impl State {
    fn learn(&mut self, channel: ChannelId, origin: Origin) {
        if self.channels.len() >= CHANNELS_MAX {
            self.channels.clear();
        }
        self.channels.insert(channel, origin);
    }

    fn forget_idle(&mut self, now: Timestamp) {
        if self.origins.len() > ORIGINS_SWEPT_AT {
            self.origins.retain(|_, desk| desk.matters(now));
        }
    }
}

/// The right to one attempt. Given back when it is dropped, however the attempt ends.
pub(crate) struct Permit {
    desk: Desk,
    project: ProjectId,
    class: Class,
    origin: Origin,
}

impl Permit {
    /// Notes what came of the attempt. The permit is to be given back then: when the answer is there, not when it is
    /// stored (DECISIONS 20).
    pub(crate) fn note(&self, outcome: &Outcome, ended_at: Timestamp) {
        let mut state = self.desk.lock();
        if let Some(desk) = state.origins.get_mut(&(self.project, Arc::clone(&self.origin))) {
            desk.noted_at = Some(ended_at);
            desk.pace.note(outcome.phases.total);
            if let Some(failed) = target_fails(outcome) {
                desk.breaker.note(failed, ended_at);
            }
        }
        state.forget_idle(ended_at);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut state = self.desk.lock();
        state.in_flight -= 1;
        state.patient -= u32::from(is_patient(self.class));
        if let Some(own) = state.projects.get_mut(&self.project) {
            *own -= 1;
            if *own == 0 {
                state.projects.remove(&self.project);
            }
        }
        if let Some(desk) = state.origins.get_mut(&(self.project, Arc::clone(&self.origin))) {
            desk.in_flight -= 1;
        }
    }
}

/// The place of a line on its way into the log.
pub(crate) struct Inside {
    desk: Desk,
    project: ProjectId,
}

impl Drop for Inside {
    fn drop(&mut self) {
        let mut state = self.desk.lock();
        state.lines -= 1;
        let key = (self.project, INSIDE.into());
        if let Some(desk) = state.origins.get_mut(&key) {
            desk.in_flight -= 1;
            if desk.in_flight == 0 {
                state.origins.remove(&key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use allswell_core::chance::Dice;
    use allswell_core::exchange::{End, Phases};

    const NOW: Timestamp = Timestamp::from_secs(1_000);

    fn outcome(secs: i64) -> Outcome {
        Outcome {
            end: End::NoConnection,
            phases: Phases {
                total: Span::from_secs(secs),
                ..Phases::default()
            },
            peer: None,
            detail: String::new(),
        }
    }

    struct Office {
        desk: Desk,
        dice: Dice,
    }

    impl Office {
        fn new(max: u32, per_project: u32) -> Self {
            Office {
                desk: Desk::new(Permits { max, per_project }),
                dice: Dice::from_number(3),
            }
        }

        fn begin(&mut self, project: ProjectId, origin: &str, class: Class) -> Option<Permit> {
            let channel = self.dice.id();
            self.desk
                .begin((project, channel, class), origin.into(), false, NOW)
        }
    }

    #[test]
    fn a_project_has_a_quarter_while_others_wait_and_never_the_reserve() {
        let mut office = Office::new(100, 256);
        let [a, b]: [ProjectId; 2] = [office.dice.id(), office.dice.id()];
        let mut held: Vec<_> = (0..20)
            .map(|n| office.begin(a, &format!("http://{n}"), Class::Alert))
            .collect();
        let room = |office: &Office, project, others_wait, planned| {
            let mut dealt = Dealt::default();
            for _ in 0..planned {
                office.desk.deal(&mut dealt, project);
            }
            office.desk.project_room(project, others_wait, &dealt)
        };
        assert_eq!(room(&office, a, true, 0), 5);
        assert_eq!(room(&office, a, true, 5), 0);
        assert_eq!(room(&office, a, false, 0), 30);
        held.extend((0..30).map(|n| office.begin(a, &format!("http://x{n}"), Class::Alert)));
        assert_eq!(room(&office, a, false, 0), 0);
        assert_eq!(office.desk.free(Class::Alert), 50);
        // Nothing of b is in flight: the reserve is open to it, for one, and one is left of what everybody may have.
        assert_eq!(room(&office, b, true, 0), 1);
        assert_eq!(room(&office, b, true, 1), 1);
        assert_eq!(room(&office, b, true, 2), 0);
        held.clear();
        assert_eq!(
            (office.desk.in_flight(), office.desk.free(Class::Alert)),
            (0, 100)
        );
    }

    #[test]
    fn whoever_comes_finds_a_permit_while_half_as_many_projects_hang_with_all_they_may_have() {
        let mut office = Office::new(64, 64);
        let projects: Vec<ProjectId> = (0..32).map(|_| office.dice.id()).collect();
        let nothing = Dealt::default();
        let mut held = Vec::new();
        for (n, project) in projects.iter().cycle().take(32 * 64).enumerate() {
            if office.desk.project_room(*project, true, &nothing) > 0 {
                let permit = office.begin(*project, &format!("http://{n}"), Class::Alert);
                held.push(permit.expect("a permit"));
            }
        }
        // Of 64 an eighth is left to newcomers alone.
        assert_eq!(office.desk.in_flight(), 56);
        for n in 0..8 {
            let newcomer = office.dice.id();
            assert_eq!(office.desk.project_room(newcomer, true, &nothing), 1, "{n}");
            held.push(
                office
                    .begin(newcomer, "http://new", Class::Alert)
                    .expect("a permit"),
            );
        }
        let late = office.dice.id();
        assert_eq!(office.desk.project_room(late, true, &nothing), 0);
        assert!(office.begin(late, "http://late", Class::Alert).is_none());
    }

    #[test]
    fn what_is_patient_leaves_half_to_alerts() {
        let mut office = Office::new(20, 20);
        let project = office.dice.id();
        let jobs: Vec<_> = (0..10)
            .map(|n| {
                office
                    .begin(project, &format!("http://{n}"), Class::Job)
                    .expect("room")
            })
            .collect();
        assert_eq!(
            (office.desk.free(Class::Job), office.desk.free(Class::Alert)),
            (0, 10)
        );
        drop(jobs);
        assert_eq!(office.desk.free(Class::Report), 10);
    }

    #[test]
    fn an_origin_has_sixteen_and_fewer_when_it_is_slow() {
        let mut office = Office::new(1_000, 1_000);
        let [a, b]: [ProjectId; 2] = [office.dice.id(), office.dice.id()];
        let origin: Origin = "http://slow".into();
        let permits: Vec<_> = (0..16)
            .map(|_| office.begin(a, &origin, Class::Alert).expect("room"))
            .collect();
        assert!(office.begin(a, &origin, Class::Alert).is_none());
        // Another project is not held up by it.
        assert!(office.begin(b, &origin, Class::Alert).is_some());
        for permit in permits {
            permit.note(&outcome(30), NOW);
        }
        let room = office.desk.room(a, &origin, NOW);
        assert_eq!(room.attempts, 4);
        assert!(matches!(room.gate, Gate::Open(_)), "{room:?}");
        assert_eq!(office.desk.breakers_open(NOW), 1);
        assert_eq!(office.desk.room(b, &origin, NOW).gate, Gate::Closed);
    }

    #[test]
    fn origins_that_nobody_asks_any_more_are_forgotten() {
        let mut office = Office::new(10, 10);
        let (project, desk) = (office.dice.id(), office.desk.clone());
        let mut fail = |origin: &str, ended_at: Timestamp| {
            let permit = office.begin(project, origin, Class::Alert).expect("room");
            for _ in 0..5 {
                permit.note(&outcome(30), ended_at);
            }
        };
        (0..=ORIGINS_SWEPT_AT).for_each(|n| fail(&format!("http://{n}"), NOW));
        fail("http://late", NOW + FORGOTTEN_AFTER);
        assert_eq!(desk.lock().origins.len(), 1);
        // The clock is set back: those of the time to come are forgotten as soon as there are too many.
        (0..ORIGINS_SWEPT_AT).for_each(|n| fail(&format!("http://{n}"), NOW));
        assert_eq!(desk.lock().origins.len(), ORIGINS_SWEPT_AT);
    }

    #[test]
    fn a_permit_that_is_lost_is_given_back() {
        let mut office = Office::new(10, 10);
        let project = office.dice.id();
        drop(office.begin(project, "http://x", Class::Alert));
        assert_eq!(office.desk.in_flight(), 0);
        assert_eq!(office.desk.room(project, &"http://x".into(), NOW).attempts, 16);
    }
}
