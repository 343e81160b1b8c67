//! How channels fare: since when everything sent to one failed, and that it was switched off.

use allswell_core::delivery::Class;
use allswell_core::id::{ChannelId, ProjectId};
use allswell_core::scope::{ProjectScope, SystemScope};
use allswell_core::time::Timestamp;

use uuid::Uuid;

use crate::Result;
use crate::db::{Reader, Row, Tx, postgres_statements, statements};

/// How that is shown which waited for a channel that was switched off.
pub const SWITCHED_OFF: &str = "the channel is switched off";

const CANCELLED_MAX: u64 = 1_000;

statements! {
    WORKS = "update channels set failing_since = null, given_up = 0, warnings = 0, last_error = null,
                    blocked_said_at = null
             where id = $1 and failing_since is not null";
    FAILS = "update channels set failing_since = coalesce(failing_since, $2), last_error = $3
             where id = $1 and (failing_since is null or last_error is distinct from $3)";
    GIVEN_UP = "update channels set given_up = given_up + $2 where id = $1";
    WARNED = "update channels set warnings = $2 where id = $1 and warnings < $2";
    BLOCKED_SAID = "update channels set blocked_said_at = $2 where id = $1 and blocked_said_at is null";
    DISABLE = "update channels set disabled_at = $2, disabled_reason = $3
               where id = $1 and disabled_at is null and deleted_at is null";
    // As many as one transaction should end: what is more ends when it is claimed.
    CANCEL = "with waiting as materialized
                  (select shard, id from deliveries where state = 'ready' and class = $1 and channel_id = $2
                     and project_id = (select c.project_id from channels c where c.id = $2)
                   order by next_at limit $5", skipping locked, then ")
              update deliveries set state = 'cancelled', finished_at = $3, last_outcome = $4
              where (shard, id) in (select shard, id from waiting)";
    ENABLE = "update channels set disabled_at = null, disabled_reason = null, failing_since = null, given_up = 0,
                     warnings = 0, blocked_said_at = null
              where id = $1 and project_id = $2 and disabled_at is not null and deleted_at is null";
    HEALTH = "select id, kind, name, failing_since, given_up, warnings, last_error, disabled_at, disabled_reason
              from channels where id = $1 and deleted_at is null";
    OF_PROJECT = "select id, kind, name, failing_since, given_up, warnings, last_error, disabled_at, disabled_reason
              from channels where project_id = $1 and deleted_at is null order by created_at, id";
}

postgres_statements! {
    FAILING_OF = "select id from channels where id = any($1) and failing_since is not null";
}

/// How a channel fares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// The channel.
    pub channel: ChannelId,
    /// The word for its kind.
    pub kind: String,
    /// What people call it.
    pub name: String,
    /// Since when everything sent to it failed; `None` if the last delivery arrived.
    pub failing_since: Option<Timestamp>,
    /// Deliveries that were given up since then.
    pub given_up: u64,
    /// How often that was said since then.
    pub warnings: u64,
    /// How the last attempt failed, in words that hold no secret.
    pub last_error: Option<String>,
    /// When and why it was switched off.
    pub disabled: Option<(Timestamp, String)>,
}

fn from_row(row: &Row) -> Result<Health> {
    let channel = row.get("id")?;
    let (kind, name) = (row.get("kind")?, row.get("name")?);
    let failing_since = row.get("failing_since")?;
    let (given_up, warnings) = (row.get("given_up")?, row.get("warnings")?);
    let last_error = row.get("last_error")?;
    let at: Option<Timestamp> = row.get("disabled_at")?;
    let reason: Option<String> = row.get("disabled_reason")?;
    Ok(Health {
        channel,
        kind,
        name,
        failing_since,
        given_up,
        warnings,
        last_error,
        disabled: at.map(|at| (at, reason.unwrap_or_default())),
    })
}

impl Reader<'_> {
    /// How the channels of a project fare, in the order of their making.
    pub async fn channels_health(&mut self, scope: ProjectScope) -> Result<Vec<Health>> {
        let rows = self.all(&OF_PROJECT, &[scope.project().into()]).await?;
        rows.iter().map(from_row).collect()
    }

    /// How a channel fares.
    pub async fn channel_health(&mut self, _: SystemScope, channel: ChannelId) -> Result<Option<Health>> {
        let row = self.first(&HEALTH, &[channel.into()]).await?;
        row.as_ref().map(from_row).transpose()
    }

    /// The channels of a project that could be told of another's trouble: those that work, but `channel`.
    pub async fn channels_working_beside(
        &mut self,
        _: SystemScope,
        project: ProjectId,
        channel: ChannelId,
    ) -> Result<Vec<Health>> {
        let all = self.channels_health(ProjectScope::granted(project)).await?;
        let works = |other: &Health| {
            other.channel != channel && other.disabled.is_none() && other.failing_since.is_none()
        };
        Ok(all.into_iter().filter(works).collect())
    }
}

impl Tx<'_> {
    /// Those of these channels for which it must be noted that they got something: mostly none failed before. On SQLite,
    /// where asking takes as long as noting, all of them.
    pub async fn channels_to_note_working(
        &mut self,
        _: SystemScope,
        channels: &[ChannelId],
    ) -> Result<Vec<ChannelId>> {
        if !self.is_postgres() || channels.len() < 2 {
            return Ok(channels.to_vec());
        }
        let ids: Vec<Option<Uuid>> = channels.iter().map(|channel| Some(channel.as_uuid())).collect();
        let rows = self.all(&FAILING_OF, &[ids.as_slice().into()]).await?;
        rows.iter().map(|row| row.get("id")).collect()
    }

    /// Notes that a channel got something.
    pub async fn channel_works(&mut self, _: SystemScope, channel: ChannelId) -> Result<()> {
        self.run(&WORKS, &[channel.into()]).await.map(drop)
    }

    /// Notes that a channel got nothing, and how many deliveries were given up with that.
    pub async fn channel_fails(
        &mut self,
        _: SystemScope,
        channel: ChannelId,
        error: &str,
        given_up: u64,
        now: Timestamp,
    ) -> Result<()> {
        self.run(&FAILS, &[channel.into(), now.into(), error.into()])
            .await?;
        if given_up > 0 {
            self.run(&GIVEN_UP, &[channel.into(), given_up.into()]).await?;
        }
        Ok(())
    }

    /// Notes that its failing was said; `false` if another node said it first.
    pub async fn channel_warned(
        &mut self,
        _: SystemScope,
        channel: ChannelId,
        warnings: u64,
    ) -> Result<bool> {
        Ok(self.run(&WARNED, &[channel.into(), warnings.into()]).await? > 0)
    }

    /// Notes that it was said that our own rules refuse its target; `false` if that was said since something arrived last.
    pub async fn channel_blocked_said(
        &mut self,
        _: SystemScope,
        channel: ChannelId,
        now: Timestamp,
    ) -> Result<bool> {
        Ok(self.run(&BLOCKED_SAID, &[channel.into(), now.into()]).await? > 0)
    }

    /// Switches a channel off, and ends what waits for it, but tests: when it is on again, that is old. `false` if it was off
    /// already.
    pub async fn channel_disable(
        &mut self,
        _: SystemScope,
        channel: ChannelId,
        reason: &str,
        now: Timestamp,
    ) -> Result<bool> {
        let values = [channel.into(), now.into(), reason.into()];
        if self.run(&DISABLE, &values).await? == 0 {
            return Ok(false);
        }
        for class in Class::ALL.into_iter().filter(|class| *class != Class::Test) {
            let values = [
                class.word().into(),
                channel.into(),
                now.into(),
                SWITCHED_OFF.into(),
                CANCELLED_MAX.into(),
            ];
            self.run(&CANCEL, &values).await?;
        }
        Ok(true)
    }

    /// Switches a channel on again; `false` if it is not off.
    pub async fn channel_enable(&mut self, scope: ProjectScope, channel: ChannelId) -> Result<bool> {
        Ok(self
            .run(&ENABLE, &[channel.into(), scope.project().into()])
            .await?
            > 0)
    }
}
