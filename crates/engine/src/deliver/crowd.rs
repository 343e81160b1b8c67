//! Where something is due. With few deliveries one look tells; a crowd is asked project by project and channel by
//! channel, each step going on where the last one ended, so that nobody is looked at twice before everybody was once.

use std::collections::HashMap;

use allswell_core::delivery::Class;
use allswell_core::id::{ChannelId, ProjectId};
use allswell_core::limits;
use allswell_core::scope::SystemScope;
use allswell_core::time::{Span, Timestamp};
use allswell_store::outbox::Ready;
use allswell_store::{Error, Result};

use super::desk::Dealt;
use super::{CROWD_HELD_UP_MAX, Deliver, HELD_UP, lock};
use crate::ports::Outbound;

/// Deliveries that are looked at to see where some are due. With more it is a crowd.
const LOOKED_AT: u64 = 512;
/// Projects of a crowd that one step asks, and channels of each.
const PROJECTS_ASKED: u64 = 64;
const CHANNELS_ASKED: u64 = 64;
/// Classes of projects whose place is remembered; with more, all begin anew.
const PLACES_MAX: usize = 10_000;

/// Rounds through all projects after which each of their channels was asked.
const ROUNDS_MAX: usize = limits::CHANNELS_MAX.div_ceil(CHANNELS_ASKED as usize);

/// Where the next step of a crowd goes on.
#[derive(Default)]
pub(super) struct Cursors {
    project: HashMap<Class, ProjectId>,
    channels: HashMap<(Class, ProjectId), ChannelId>,
    round: Round,
    /// Everybody was asked in vain: nobody is asked before this instant, and for so long.
    rests: Option<(Timestamp, Span)>,
    is_awake: bool,
    /// When the first was asked of those who are being asked, and since when nobody was asked of what has become due.
    asked_from: Option<Timestamp>,
    unasked_from: Option<Timestamp>,
    /// The project that had the last turn.
    pub(super) served: Option<ProjectId>,
}

/// How much of a crowd was asked since something of it began: with nothing found in one slice the next one is asked at
/// once, and only when everybody was asked in vain there is nothing to do but wait.
#[derive(Default)]
struct Round {
    classes: HashMap<Class, Asked>,
    /// Some project has more channels than were asked in this round.
    is_partial: bool,
    /// Rounds before this one.
    before: usize,
}

/// The projects of a class that were asked in a round.
struct Asked {
    /// Those after this one came first.
    from: Option<ProjectId>,
    came_to_the_end: bool,
    all: bool,
}

impl Round {
    /// Notes a slice: the projects after `after`, up to `last`.
    fn note(&mut self, class: Class, after: Option<ProjectId>, slice: &Slice) {
        let asked = self.classes.entry(class).or_insert(Asked {
            from: after,
            came_to_the_end: false,
            all: false,
        });
        let last = slice.projects.last().map(|(project, _)| *project);
        let came_round = asked.came_to_the_end && (slice.came_to_the_end || last >= asked.from);
        let is_small = (slice.projects.len() as u64) < PROJECTS_ASKED;
        asked.came_to_the_end |= slice.came_to_the_end;
        asked.all |= is_small || came_round || (asked.came_to_the_end && asked.from.is_none());
    }

    /// Whether everybody was asked, now that this slice was.
    fn is_over(&mut self) -> bool {
        if self.classes.values().any(|asked| !asked.all) {
            return false;
        }
        let is_over = !self.is_partial || self.before + 1 >= ROUNDS_MAX;
        *self = Round {
            before: if is_over { 0 } else { self.before + 1 },
            ..Round::default()
        };
        is_over
    }
}

/// Some projects in the order of their ids, each with whether something is due.
struct Slice {
    projects: Vec<(ProjectId, bool)>,
    /// The last of all was among them, and the first follow it.
    came_to_the_end: bool,
}

/// A project whose channels are asked, and the one after which to go on.
type Asking = (Class, ProjectId, Option<ChannelId>);

/// The channels of a project that were asked, each with whether something is due.
type Walked = (Class, ProjectId, Vec<(ChannelId, bool)>);

impl Cursors {
    /// Something of a crowd began: whoever was asked before may have more.
    pub(super) fn begun(&mut self) {
        self.round = Round::default();
        (self.rests, self.asked_from) = (None, None);
    }

    /// Has everybody asked again now. The next pause is longer all the same, unless something begins.
    pub(super) fn wake(&mut self) {
        self.is_awake = true;
    }

    /// Until when nobody is asked. A pause that is longer than any was set by a clock that has been set back since.
    fn resting(&mut self, now: Timestamp) -> Option<Timestamp> {
        if std::mem::take(&mut self.is_awake) {
            self.rests = self.rests.map(|(_, span)| (now, span));
        }
        let until = self.rests.map(|(until, _)| until);
        until.filter(|until| *until > now && *until - now <= CROWD_HELD_UP_MAX)
    }

    /// What has become due in a pause was asked, and nothing more of it can begin. Each is asked until then: a claim may fail,
    /// or take only some. One that is held up waits like the others: for a place, or for the end of the pause.
    pub(super) fn asked_in_pause(&mut self, now: Timestamp) {
        self.unasked_from = self.unasked_from.map(|from| from.max(now));
    }

    /// After a round in vain: gives when the next one is.
    pub(super) fn rest(&mut self, now: Timestamp) -> Timestamp {
        if let Some((until, _)) = self.rests.filter(|(until, _)| *until > now) {
            return until;
        }
        let span = self.rests.map_or(HELD_UP, |(_, span)| {
            Span::from_micros(span.as_micros() * 2).min(CROWD_HELD_UP_MAX)
        });
        self.rests = Some((now + span, span));
        self.unasked_from = self.asked_from.take();
        now + span
    }
}

/// What is due, as far as a step looks.
pub(super) struct Found {
    pub(super) ready: Vec<Ready>,
    /// More are due than one look tells of.
    pub(super) crowded: bool,
    /// Others of a crowd are still to be asked.
    pub(super) goes_on: bool,
    /// The crowd rests, and this has become due meanwhile.
    pub(super) in_pause: bool,
    /// When the next delivery becomes due.
    pub(super) next: Option<Timestamp>,
    /// When the next lease lapses.
    pub(super) lapse: Option<Timestamp>,
}

impl<O: Outbound> Deliver<O> {
    /// Where deliveries are due. Of a crowd the projects and channels whose turn it is to be asked.
    pub(super) async fn due(&self, now: Timestamp) -> Result<Found> {
        let system = SystemScope::engine();
        let (ready, crowded, next, lapse) = self
            .store
            .read(async move |reader| {
                let (ready, crowded) = reader.deliveries_due(system, now, LOOKED_AT).await?;
                let (next, lapse) = reader.deliveries_next(system, now).await?;
                Ok::<_, Error>((ready, crowded, next, lapse))
            })
            .await?;
        let mut found = Found {
            ready,
            crowded,
            goes_on: false,
            in_pause: false,
            next,
            lapse,
        };
        if !crowded {
            lock(&self.cursors).rests = None;
            return Ok(found);
        }
        let rests = lock(&self.cursors).resting(now).is_some();
        if rests && let Some(ready) = self.since(now).await? {
            (found.ready, found.in_pause) = (ready, true);
        } else {
            found.ready = self.crowd(now).await?;
            found.goes_on = !lock(&self.cursors).round.is_over();
        }
        Ok(found)
    }

    /// What has become due while a crowd rests. The crowd waits for itself; a try whose time has come does not wait for it.
    /// `None`: that is a crowd of its own.
    async fn since(&self, now: Timestamp) -> Result<Option<Vec<Ready>>> {
        let Some(from) = lock(&self.cursors).unasked_from else {
            return Ok(Some(Vec::new()));
        };
        let system = SystemScope::engine();
        let (ready, crowded) = self
            .store
            .read(async move |reader| reader.deliveries_due_since(system, from, now, LOOKED_AT).await)
            .await?;
        if crowded {
            // The pause is over: slice by slice everybody is asked.
            lock(&self.cursors).begun();
            return Ok(None);
        }
        Ok(Some(ready))
    }

    async fn crowd(&self, now: Timestamp) -> Result<Vec<Ready>> {
        lock(&self.cursors).asked_from.get_or_insert(now);
        let asked: Vec<(Class, Option<ProjectId>)> = {
            let cursors = lock(&self.cursors);
            let classes = Class::ALL.into_iter().filter(|class| self.desk.free(*class) > 0);
            classes
                .map(|class| (class, cursors.project.get(&class).copied()))
                .collect()
        };
        let slices = self.projects(asked, now).await?;
        let asked = self.whom_to_ask(&slices);
        let channels = self.channels(asked, now).await?;
        let mut ready = Vec::new();
        let mut cursors = lock(&self.cursors);
        for (class, project, channels) in channels {
            if let Some((last, _)) = channels.last() {
                cursors.channels.insert((class, project), *last);
            }
            cursors.round.is_partial |= channels.len() as u64 >= CHANNELS_ASKED;
            let due = channels.into_iter().filter(|(_, due)| *due);
            ready.extend(due.map(|(channel, _)| Ready {
                class,
                project,
                channel,
                ready: LOOKED_AT,
            }));
        }
        if cursors.channels.len() > PLACES_MAX {
            cursors.channels.clear();
        }
        Ok(ready)
    }

    /// Notes which projects were asked; gives those of them that have something due and room for it, each with the channel
    /// after which to go on.
    fn whom_to_ask(&self, slices: &[(Class, Option<ProjectId>, Slice)]) -> Vec<Asking> {
        let mut asked = Vec::new();
        let mut cursors = lock(&self.cursors);
        for (class, after, slice) in slices {
            cursors.round.note(*class, *after, slice);
            if let Some((last, _)) = slice.projects.last() {
                cursors.project.insert(*class, *last);
            }
            let others = slice.projects.len() > 1;
            let due = slice
                .projects
                .iter()
                .filter(|(_, due)| *due)
                .map(|(project, _)| *project);
            asked.extend(
                due.filter(|project| self.desk.project_room(*project, others, &Dealt::default()) > 0)
                    .map(|project| {
                        let after = cursors.channels.get(&(*class, project)).copied();
                        (*class, project, after)
                    }),
            );
        }
        asked
    }

    /// Of each class the next projects after one, and at the end of them those from the beginning.
    async fn projects(
        &self,
        asked: Vec<(Class, Option<ProjectId>)>,
        now: Timestamp,
    ) -> Result<Vec<(Class, Option<ProjectId>, Slice)>> {
        let system = SystemScope::engine();
        self.store
            .read(async move |reader| {
                let nil = ProjectId::from(uuid::Uuid::nil());
                let mut slices = Vec::with_capacity(asked.len());
                for (class, after) in asked {
                    let from = after.unwrap_or(nil);
                    let mut projects = reader
                        .deliveries_projects(system, class, from, now, PROJECTS_ASKED)
                        .await?;
                    let came_to_the_end = (projects.len() as u64) < PROJECTS_ASKED;
                    if came_to_the_end && after.is_some() {
                        let rest = PROJECTS_ASKED - projects.len() as u64;
                        let again = reader.deliveries_projects(system, class, nil, now, rest).await?;
                        projects.extend(again.into_iter().filter(|(project, _)| *project <= from));
                    }
                    let slice = Slice {
                        projects,
                        came_to_the_end,
                    };
                    slices.push((class, after, slice));
                }
                Ok(slices)
            })
            .await
    }

    async fn channels(&self, asked: Vec<Asking>, now: Timestamp) -> Result<Vec<Walked>> {
        if asked.is_empty() {
            return Ok(Vec::new());
        }
        let system = SystemScope::engine();
        self.store
            .read(async move |reader| {
                let nil = ChannelId::from(uuid::Uuid::nil());
                let mut all = Vec::with_capacity(asked.len());
                for (class, project, after) in asked {
                    let from = after.unwrap_or(nil);
                    let mut walked = reader
                        .deliveries_channels(system, class, project, from, now, CHANNELS_ASKED)
                        .await?;
                    if (walked.len() as u64) < CHANNELS_ASKED && after.is_some() {
                        let rest = CHANNELS_ASKED - walked.len() as u64;
                        let again = reader
                            .deliveries_channels(system, class, project, nil, now, rest)
                            .await?;
                        walked.extend(again.into_iter().filter(|(channel, _)| *channel <= from));
                    }
                    all.push((class, project, walked));
                }
                Ok(all)
            })
            .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u128) -> ProjectId {
        uuid::Uuid::from_u128(n).into()
    }

    /// Slices as the store gives them, of projects 1 to `count`.
    fn slice(after: Option<u128>, count: u128) -> Slice {
        let from = after.unwrap_or(0);
        let size = u128::from(PROJECTS_ASKED);
        let mut projects: Vec<u128> = (from + 1..=count).take(PROJECTS_ASKED as usize).collect();
        let came_to_the_end = (projects.len() as u128) < size;
        if came_to_the_end {
            let rest = size - projects.len() as u128;
            projects.extend((1..=count.min(from)).take(rest as usize));
        }
        Slice {
            projects: projects.into_iter().map(|n| (id(n), true)).collect(),
            came_to_the_end,
        }
    }

    #[test]
    fn a_round_is_over_when_everybody_was_asked_wherever_it_began() {
        for count in [1, 63, 64, 65, 127, 128, 129, 300] {
            for begin in (0..=count).step_by(7) {
                let mut round = Round::default();
                let mut asked = std::collections::BTreeSet::new();
                let mut after = (begin > 0).then_some(begin);
                let mut slices = 0;
                loop {
                    let slice = slice(after, count);
                    round.note(Class::Alert, after.map(id), &slice);
                    asked.extend(slice.projects.iter().map(|(project, _)| *project));
                    after = slice
                        .projects
                        .last()
                        .map(|(project, _)| project.as_uuid().as_u128());
                    slices += 1;
                    if round.is_over() {
                        break;
                    }
                    assert!(slices < 20, "{count} from {begin} never ends");
                }
                assert_eq!(asked.len() as u128, count, "{count} from {begin}");
                assert!(slices <= count / 64 + 3, "{count} from {begin}: {slices} slices");
            }
        }
    }

    #[test]
    fn with_more_channels_than_a_slice_has_further_rounds_follow() {
        let mut round = Round::default();
        for n in 1..=ROUNDS_MAX {
            round.note(Class::Alert, None, &slice(None, 3));
            round.is_partial = true;
            assert_eq!(round.is_over(), n == ROUNDS_MAX, "{n}");
        }
    }
}
