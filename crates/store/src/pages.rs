//! Pages: what the native API lists, each page from where the one before it ended.
//!
//! A page begins behind a position, never at an offset: what is added or deleted meanwhile moves nothing into it or out
//! of it, and the thousandth page costs what the first does.

use allswell_core::flip::Flip;
use allswell_core::id::{ChannelId, CheckId, DeliveryId};
use allswell_core::scope::ProjectScope;
use allswell_core::time::Timestamp;
use uuid::Uuid;

use crate::Result;
use crate::db::{Reader, Row, in_scope, postgres_statements, statements};
use crate::flips::{self, Incident};
use crate::pings::{self, Ping};

macro_rules! delivery_columns {
    () => {
        "d.shard as check_id, d.id as id, d.channel_id as channel_id, d.class as class, d.state as state,
         d.attempts as attempts, d.created_at as created_at, d.next_at as next_at, d.expires_at as expires_at,
         d.finished_at as finished_at, d.last_outcome as last_outcome,
         (select max(df.flip_seq) from delivery_flips df where df.check_id = d.shard and df.delivery_id = d.id)
            as flip_seq"
    };
}

statements! {
    CHANNELS_OF = "select cc.channel_id as channel_id
        from check_channels cc join channels ch on ch.id = cc.channel_id
        where cc.check_id = $1 and ch.deleted_at is null order by cc.channel_id";
    FLIPS = "select check_id, change_seq, seq, at, from_status, to_status, expected_at, reason_code, reason_data
        from flips where project_id = $1 and change_seq < $2 order by change_seq desc limit $3";
    PINGS = concat!("select n, at, kind, source, exit_status, rid, scheme, method, remote_addr, user_agent, body_bytes
        from pings where check_id = $1 and n < $3 and ", in_scope!(), " order by n desc limit $4");
    INCIDENTS = "select check_id, opened_seq, opened_at, closed_seq, closed_at from incidents
        where project_id = $1 and (opened_at, check_id) < ($2, $3)
        order by opened_at desc, check_id desc limit $4";
    FLIPS_OF_CHECK = concat!("select check_id, change_seq, seq, at, from_status, to_status, expected_at, reason_code,
            reason_data
        from flips where check_id = $1 and seq < $3 and ", in_scope!(), " order by seq desc limit $4");
    INCIDENTS_OF_CHECK = concat!("select check_id, opened_seq, opened_at, closed_seq, closed_at from incidents
        where check_id = $1 and opened_at < $3 and ", in_scope!(), "
        order by opened_at desc limit $4");
    DELIVERIES_OF_CHECK = concat!("select ", delivery_columns!(), " from deliveries d
        where d.shard = $1 and d.id < $3 and ", in_scope!(), "
        order by d.id desc limit $4");
    DELIVERIES = concat!("select ", delivery_columns!(), " from deliveries d
        where d.project_id = $1 and d.id < $2
        order by d.id desc limit $3");
    DELIVERY = concat!("select ", delivery_columns!(), " from deliveries d where d.id = $1 and d.project_id = $2");
}

postgres_statements! {
    CHANNELS_OF_ALL = "select cc.check_id as check_id, cc.channel_id as channel_id
        from check_channels cc join channels ch on ch.id = cc.channel_id
        where cc.check_id = any($1::uuid[]) and ch.deleted_at is null order by cc.check_id, cc.channel_id";
}

/// Where a page begins: behind the row with this instant and this id.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Position {
    /// The instant by which the list is ordered.
    pub at: Timestamp,
    /// The id that orders what has the same instant.
    pub id: Uuid,
}

impl Position {
    /// Before all rows, in ascending order.
    pub const FIRST: Position = Position {
        at: Timestamp::from_micros(i64::MIN),
        id: Uuid::nil(),
    };
    /// Behind all rows, in descending order.
    pub const LAST: Position = Position {
        at: Timestamp::from_micros(i64::MAX),
        id: Uuid::max(),
    };
}

/// A flip of a project.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProjectFlip {
    /// Its place among the changes of the project.
    pub change: i64,
    /// The check that flipped.
    pub check: CheckId,
    /// The flip.
    pub flip: Flip,
}

/// A delivery of a project.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProjectDelivery {
    /// The check it is about; `None` for a test, or a note of something else.
    pub check: Option<CheckId>,
    /// Its id, constant over all attempts.
    pub id: DeliveryId,
    /// Where it goes.
    pub channel: ChannelId,
    /// The flip it tells of: the newest, if it tells of several. `None`: of no flip.
    pub flip_seq: Option<u64>,
    /// The word for its class.
    pub class: String,
    /// The word for its state.
    pub state: String,
    /// Attempts so far.
    pub attempts: u64,
    /// When it was promised.
    pub created_at: Timestamp,
    /// When it is tried next, while it is open.
    pub next_at: Timestamp,
    /// After this instant it is no longer sent.
    pub expires_at: Timestamp,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
    /// How its last attempt ended.
    pub last_outcome: Option<String>,
}

pub(crate) fn project_flip(row: &Row) -> Result<ProjectFlip> {
    Ok(ProjectFlip {
        change: row.get("change_seq")?,
        check: row.get("check_id")?,
        flip: flips::from_row(row)?,
    })
}

fn delivery(row: &Row) -> Result<ProjectDelivery> {
    let (id, shard): (DeliveryId, CheckId) = (row.get("id")?, row.get("check_id")?);
    Ok(ProjectDelivery {
        // One that is about no check lies in a shard of its own.
        check: (shard.as_uuid() != id.as_uuid()).then_some(shard),
        id,
        channel: row.get("channel_id")?,
        flip_seq: row.get("flip_seq")?,
        class: row.get("class")?,
        state: row.get("state")?,
        attempts: row.get("attempts")?,
        created_at: row.get("created_at")?,
        next_at: row.get("next_at")?,
        expires_at: row.get("expires_at")?,
        finished_at: row.get("finished_at")?,
        last_outcome: row.get("last_outcome")?,
    })
}

impl Reader<'_> {
    /// The channels of these checks of the project, sorted by check and channel.
    pub async fn channels_of_checks(
        &mut self,
        _: ProjectScope,
        checks: &[CheckId],
    ) -> Result<Vec<(CheckId, ChannelId)>> {
        if self.is_postgres() {
            let ids: Vec<Option<Uuid>> = checks.iter().map(|id| Some(id.as_uuid())).collect();
            let rows = self.all(&CHANNELS_OF_ALL, &[ids.as_slice().into()]).await?;
            return rows
                .iter()
                .map(|row| Ok((row.get("check_id")?, row.get("channel_id")?)))
                .collect();
        }
        let mut sorted = checks.to_vec();
        sorted.sort();
        let mut all = Vec::new();
        for check in sorted {
            for row in self.all(&CHANNELS_OF, &[check.into()]).await? {
                all.push((check, row.get("channel_id")?));
            }
        }
        Ok(all)
    }

    /// A page of a check's pings, newest first, from before the one numbered `before`.
    pub async fn pings_page(
        &mut self,
        scope: ProjectScope,
        check: CheckId,
        before: i64,
        limit: i64,
    ) -> Result<Vec<Ping>> {
        let values = [check.into(), scope.project().into(), before.into(), limit.into()];
        self.all(&PINGS, &values)
            .await?
            .iter()
            .map(pings::from_row)
            .collect()
    }

    /// A page of the project's flips, newest change first, from before the change `before`; or, of one check, its
    /// flips from before the one numbered `before`.
    pub async fn flips_page(
        &mut self,
        scope: ProjectScope,
        check: Option<CheckId>,
        before: i64,
        limit: i64,
    ) -> Result<Vec<ProjectFlip>> {
        let project = scope.project().into();
        let rows = match check {
            Some(check) => {
                self.all(
                    &FLIPS_OF_CHECK,
                    &[check.into(), project, before.into(), limit.into()],
                )
                .await?
            }
            None => self.all(&FLIPS, &[project, before.into(), limit.into()]).await?,
        };
        rows.iter().map(project_flip).collect()
    }

    /// A page of the incidents of the project, or of one check, the latest to open first.
    pub async fn incidents_page(
        &mut self,
        scope: ProjectScope,
        check: Option<CheckId>,
        before: Position,
        limit: i64,
    ) -> Result<Vec<(CheckId, Incident)>> {
        let (project, at) = (scope.project().into(), before.at.into());
        let rows = match check {
            Some(check) => {
                self.all(&INCIDENTS_OF_CHECK, &[check.into(), project, at, limit.into()])
                    .await?
            }
            None => {
                self.all(&INCIDENTS, &[project, at, before.id.into(), limit.into()])
                    .await?
            }
        };
        let incident = |row: &Row| {
            let incident = Incident {
                opened_seq: row.get("opened_seq")?,
                opened_at: row.get("opened_at")?,
                closed_seq: row.get("closed_seq")?,
                closed_at: row.get("closed_at")?,
            };
            Ok((row.get("check_id")?, incident))
        };
        rows.iter().map(incident).collect()
    }

    /// A page of the deliveries of the project, or of one check, the latest promise first: their ids are in the order of
    /// their making.
    pub async fn deliveries_page(
        &mut self,
        scope: ProjectScope,
        check: Option<CheckId>,
        before: Uuid,
        limit: i64,
    ) -> Result<Vec<ProjectDelivery>> {
        let project = scope.project().into();
        let rows = match check {
            Some(check) => {
                let values = [check.into(), project, before.into(), limit.into()];
                self.all(&DELIVERIES_OF_CHECK, &values).await?
            }
            None => {
                self.all(&DELIVERIES, &[project, before.into(), limit.into()])
                    .await?
            }
        };
        rows.iter().map(delivery).collect()
    }

    /// A delivery of the project.
    pub async fn delivery_of_project(
        &mut self,
        scope: ProjectScope,
        id: DeliveryId,
    ) -> Result<Option<ProjectDelivery>> {
        let row = self
            .first(&DELIVERY, &[id.into(), scope.project().into()])
            .await?;
        row.as_ref().map(delivery).transpose()
    }
}
