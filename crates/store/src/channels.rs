//! Channels: configured destinations. Their configuration is sealed as a whole: addresses and tokens are secrets.

use allswell_core::chance::Dice;
use allswell_core::delivery::Route;
use allswell_core::id::{ChannelId, CheckId, ProjectId};
use allswell_core::scope::{ProjectScope, SystemScope};
use allswell_core::seal::Place;
use allswell_core::secret::Secret;
use allswell_core::time::Timestamp;

use crate::Result;
use crate::db::{Reader, Row, Tx, statements};

statements! {
    INSERT = "insert into channels (id, project_id, kind, name, sealed_config, tells_down, tells_up, created_at)
              values ($1, $2, $3, $4, $5, $6, $7, $8)";
    OF_PROJECT = "select id, kind, name, tells_down, tells_up, created_at from channels
                  where project_id = $1 and deleted_at is null order by created_at, id";
    ONE = "select id, kind, name, tells_down, tells_up, created_at from channels
           where id = $1 and project_id = $2 and deleted_at is null";
    CONFIGS = "select id, sealed_config from channels where project_id = $1 and kind = $2 and deleted_at is null";
    // Sealing rolls a nonce, so that no two sealed texts are alike: who read this one is the only one to replace it.
    // What our own rules refuse from then on is said again.
    UPDATE = "update channels set name = $4, sealed_config = $5, tells_down = $6, tells_up = $7, blocked_said_at = null
              where id = $1 and project_id = $2 and sealed_config = $3 and deleted_at is null";
    DELETE_SOFTLY = "update channels set deleted_at = $3 where id = $1 and project_id = $2 and deleted_at is null";
    CONFIG = "select sealed_config from channels where id = $1 and project_id = $2 and deleted_at is null";
    ROUTES = "select c.id as id, c.tells_down as tells_down, c.tells_up as tells_up,
                     c.disabled_at as disabled_at
              from channels c join check_channels cc on cc.channel_id = c.id
              where cc.check_id = $1 and c.deleted_at is null order by c.id";
}

/// A channel, without its secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Channel {
    /// The id.
    pub id: ChannelId,
    /// The kind of its integration.
    pub kind: String,
    /// What people call it.
    pub name: String,
    /// It sends when a check goes down.
    pub tells_down: bool,
    /// It sends when a check comes back up.
    pub tells_up: bool,
    /// When it was made.
    pub created_at: Timestamp,
}

/// A channel with its configuration opened, and what must still be there when it is replaced.
#[derive(Debug)]
pub struct Opened {
    /// The channel.
    pub channel: Channel,
    /// Its configuration, as it was given.
    pub config: Secret<Vec<u8>>,
    sealed: Vec<u8>,
}

fn from_row(row: &Row) -> Result<Channel> {
    Ok(Channel {
        id: row.get("id")?,
        kind: row.get("kind")?,
        name: row.get("name")?,
        tells_down: row.get("tells_down")?,
        tells_up: row.get("tells_up")?,
        created_at: row.get("created_at")?,
    })
}

fn place(id: &ChannelId, project: ProjectId) -> Place<'_> {
    Place {
        table: "channels",
        column: "sealed_config",
        row: id.as_uuid_bytes(),
        project: Some(project),
    }
}

impl Reader<'_> {
    /// The channels of a project in the order of their making.
    pub async fn channels(&mut self, scope: ProjectScope) -> Result<Vec<Channel>> {
        let rows = self.all(&OF_PROJECT, &[scope.project().into()]).await?;
        rows.iter().map(from_row).collect()
    }

    /// A channel that was not deleted.
    pub async fn channel(&mut self, scope: ProjectScope, id: ChannelId) -> Result<Option<Channel>> {
        let row = self.first(&ONE, &[id.into(), scope.project().into()]).await?;
        row.as_ref().map(from_row).transpose()
    }

    /// The configuration of a channel, as it was given.
    pub async fn channel_config(&mut self, scope: ProjectScope, id: ChannelId) -> Result<Option<Vec<u8>>> {
        let row = self.first(&CONFIG, &[id.into(), scope.project().into()]).await?;
        let Some(row) = row else { return Ok(None) };
        let sealed: Vec<u8> = row.get("sealed_config")?;
        self.config_open(scope, id, &sealed).await.map(Some)
    }

    /// The configurations of all channels of a kind.
    pub async fn channel_configs(
        &mut self,
        scope: ProjectScope,
        kind: &str,
    ) -> Result<Vec<(ChannelId, Secret<Vec<u8>>)>> {
        let rows = self.all(&CONFIGS, &[scope.project().into(), kind.into()]).await?;
        let mut configs = Vec::with_capacity(rows.len());
        for row in &rows {
            let (id, sealed): (ChannelId, Vec<u8>) = (row.get("id")?, row.get("sealed_config")?);
            configs.push((id, Secret::new(self.config_open(scope, id, &sealed).await?)));
        }
        Ok(configs)
    }

    /// A channel with its configuration, to be changed.
    pub async fn channel_open(&mut self, scope: ProjectScope, id: ChannelId) -> Result<Option<Opened>> {
        let Some(channel) = self.channel(scope, id).await? else {
            return Ok(None);
        };
        let row = self.first(&CONFIG, &[id.into(), scope.project().into()]).await?;
        let Some(row) = row else { return Ok(None) };
        let sealed: Vec<u8> = row.get("sealed_config")?;
        let config = self.config_open(scope, id, &sealed).await?;
        Ok(Some(Opened {
            channel,
            config: Secret::new(config),
            sealed,
        }))
    }

    pub(crate) async fn config_open(
        &mut self,
        scope: ProjectScope,
        id: ChannelId,
        sealed: &[u8],
    ) -> Result<Vec<u8>> {
        let what = format!("configuration of channel {id}");
        let plain = self
            .open_sealed(place(&id, scope.project()), sealed, &what)
            .await?;
        Ok(plain.to_vec())
    }

    /// What routing needs to know of the channels a check tells.
    pub async fn routes(&mut self, _: SystemScope, check: CheckId) -> Result<Vec<Route>> {
        let rows = self.all(&ROUTES, &[check.into()]).await?;
        let route = |row: &Row| {
            Ok(Route {
                channel: row.get("id")?,
                tells_down: row.get("tells_down")?,
                tells_up: row.get("tells_up")?,
                disabled: row.get::<Option<Timestamp>>("disabled_at")?.is_some(),
            })
        };
        rows.iter().map(route).collect()
    }
}

impl Tx<'_> {
    /// Writes a new channel with its configuration, sealed.
    pub async fn channel_insert(
        &mut self,
        scope: ProjectScope,
        channel: &Channel,
        config: &[u8],
        dice: &mut Dice,
    ) -> Result<()> {
        let project = scope.project();
        let sealed = self.config_seal(project, channel.id, config, dice).await?;
        let values = [
            channel.id.into(),
            project.into(),
            (&channel.kind).into(),
            (&channel.name).into(),
            (&sealed).into(),
            channel.tells_down.into(),
            channel.tells_up.into(),
            channel.created_at.into(),
        ];
        self.run(&INSERT, &values).await?;
        self.change_next(scope).await.map(drop)
    }

    async fn config_seal(
        &mut self,
        project: ProjectId,
        id: ChannelId,
        config: &[u8],
        dice: &mut Dice,
    ) -> Result<Vec<u8>> {
        let key = self.data_key(project).await?;
        Ok(key.seal(place(&id, project), config, dice))
    }

    /// Puts a channel in the place of what was read. False if somebody else changed or deleted it meanwhile.
    pub async fn channel_replace(
        &mut self,
        scope: ProjectScope,
        before: &Opened,
        channel: &Channel,
        config: &[u8],
        dice: &mut Dice,
    ) -> Result<bool> {
        let project = scope.project();
        let sealed = self.config_seal(project, channel.id, config, dice).await?;
        let values = [
            channel.id.into(),
            project.into(),
            (&before.sealed).into(),
            (&channel.name).into(),
            (&sealed).into(),
            channel.tells_down.into(),
            channel.tells_up.into(),
        ];
        if self.run(&UPDATE, &values).await? == 0 {
            return Ok(false);
        }
        self.change_next(scope).await?;
        Ok(true)
    }

    /// Marks a channel as deleted: it tells nothing more, and its row goes when the days for undoing are over. False if
    /// there was none.
    pub async fn channel_delete(
        &mut self,
        scope: ProjectScope,
        id: ChannelId,
        now: Timestamp,
    ) -> Result<bool> {
        let values = [id.into(), scope.project().into(), now.into()];
        if self.run(&DELETE_SOFTLY, &values).await? == 0 {
            return Ok(false);
        }
        self.change_next(scope).await?;
        Ok(true)
    }
}
