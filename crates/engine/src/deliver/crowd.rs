//! Where something is due. With few deliveries one look tells; a crowd is asked project by project and channel by
//! channel, each step going on where the last one ended, so that nobody is looked at twice before everybody was once.

use std::collections::HashMap;

use allswell_core::delivery::Class;
use allswell_core::id::{ChannelId, ProjectId};
use allswell_core::scope::SystemScope;
use allswell_core::time::Timestamp;
use allswell_store::outbox::Ready;
use allswell_store::{Error, Result};

use super::{Deliver, lock};
use crate::ports::Outbound;

/// Deliveries that are looked at to see where some are due. With more it is a crowd.
const LOOKED_AT: u64 = 512;
/// Projects of a crowd that one step asks, and channels of each.
const PROJECTS_ASKED: u64 = 64;
const CHANNELS_ASKED: u64 = 64;
/// Classes of projects whose place is remembered; with more, all begin anew.
const PLACES_MAX: usize = 10_000;

/// Where the next step of a crowd goes on.
#[derive(Default)]
pub(super) struct Cursors {
    project: HashMap<Class, ProjectId>,
    channels: HashMap<(Class, ProjectId), ChannelId>,
    /// The project that had the last turn.
    pub(super) served: Option<ProjectId>,
}

impl<O: Outbound> Deliver<O> {
    /// Where deliveries are due. Of a crowd the projects and channels whose turn it is to be asked.
    pub(super) async fn due(
        &self,
        now: Timestamp,
    ) -> Result<(Vec<Ready>, Option<Timestamp>, Option<Timestamp>)> {
        let system = SystemScope::engine();
        let (ready, crowded, next, lapse) = self
            .store
            .read(async move |reader| {
                let (ready, crowded) = reader.deliveries_due(system, now, LOOKED_AT).await?;
                let (next, lapse) = reader.deliveries_next(system, now).await?;
                Ok::<_, Error>((ready, crowded, next, lapse))
            })
            .await?;
        if !crowded {
            return Ok((ready, next, lapse));
        }
        Ok((self.crowd(now).await?, next, lapse))
    }

    async fn crowd(&self, now: Timestamp) -> Result<Vec<Ready>> {
        let mut ready = Vec::new();
        for class in Class::ALL {
            if self.desk.free(class) == 0 {
                continue;
            }
            let after = lock(&self.cursors).project.get(&class).copied();
            let projects = self.projects(class, after, now).await?;
            let asked: Vec<(ProjectId, Option<ChannelId>)> = {
                let mut cursors = lock(&self.cursors);
                if let Some((last, _)) = projects.last() {
                    cursors.project.insert(class, *last);
                }
                let others = projects.len() > 1;
                let due = projects
                    .iter()
                    .filter(|(_, due)| *due)
                    .map(|(project, _)| *project);
                due.filter(|project| self.desk.project_room(*project, others, 0, 0) > 0)
                    .map(|project| (project, cursors.channels.get(&(class, project)).copied()))
                    .collect()
            };
            let channels = self.channels(class, asked, now).await?;
            let mut cursors = lock(&self.cursors);
            for (project, channels) in channels {
                if let Some((last, _)) = channels.last() {
                    cursors.channels.insert((class, project), *last);
                }
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
        }
        Ok(ready)
    }

    /// The next projects after `after`, and at the end of them those from the beginning.
    async fn projects(
        &self,
        class: Class,
        after: Option<ProjectId>,
        now: Timestamp,
    ) -> Result<Vec<(ProjectId, bool)>> {
        let system = SystemScope::engine();
        self.store
            .read(async move |reader| {
                let nil = ProjectId::from(uuid::Uuid::nil());
                let from = after.unwrap_or(nil);
                let mut walked = reader
                    .deliveries_projects(system, class, from, now, PROJECTS_ASKED)
                    .await?;
                if (walked.len() as u64) < PROJECTS_ASKED && after.is_some() {
                    let rest = PROJECTS_ASKED - walked.len() as u64;
                    let again = reader.deliveries_projects(system, class, nil, now, rest).await?;
                    walked.extend(again.into_iter().filter(|(project, _)| *project <= from));
                }
                Ok(walked)
            })
            .await
    }

    async fn channels(
        &self,
        class: Class,
        asked: Vec<(ProjectId, Option<ChannelId>)>,
        now: Timestamp,
    ) -> Result<Vec<(ProjectId, Vec<(ChannelId, bool)>)>> {
        let system = SystemScope::engine();
        self.store
            .read(async move |reader| {
                let nil = ChannelId::from(uuid::Uuid::nil());
                let mut all = Vec::with_capacity(asked.len());
                for (project, after) in asked {
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
                    all.push((project, walked));
                }
                Ok(all)
            })
            .await
    }
}
