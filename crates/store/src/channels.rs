//! Channels: configured destinations. Their configuration is sealed as a whole: addresses and tokens are secrets.

use allswell_core::chance::Dice;
use allswell_core::delivery::Route;
use allswell_core::id::{ChannelId, CheckId, ProjectId};
use allswell_core::scope::ProjectScope;
use allswell_core::seal::Place;
use allswell_core::time::Timestamp;

use crate::db::{Reader, Tx, statements};
use crate::Result;

statements! {
    INSERT = "insert into channels (id, project_id, kind, name, sealed_config, tells_down, tells_up, created_at)
              values ($1, $2, $3, $4, $5, $6, $7, $8)";
    OF_PROJECT = "select id, kind, name, tells_down, tells_up, created_at from channels
                  where project_id = $1 and deleted_at is null order by created_at, id";
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
        let channel = |row: &crate::db::Row| {
            Ok(Channel {
                id: row.get("id")?,
                kind: row.get("kind")?,
                name: row.get("name")?,
                tells_down: row.get("tells_down")?,
                tells_up: row.get("tells_up")?,
                created_at: row.get("created_at")?,
            })
        };
        rows.iter().map(channel).collect()
    }

    /// The configuration of a channel, as it was given.
    pub async fn channel_config(&mut self, scope: ProjectScope, id: ChannelId) -> Result<Option<Vec<u8>>> {
        let row = self.first(&CONFIG, &[id.into(), scope.project().into()]).await?;
        let Some(row) = row else { return Ok(None) };
        let sealed: Vec<u8> = row.get("sealed_config")?;
        let what = format!("configuration of channel {id}");
        let plain = self.open_sealed(place(&id, scope.project()), &sealed, &what).await?;
        Ok(Some(plain.to_vec()))
    }

    /// What routing needs to know of the channels a check tells.
    pub async fn routes(&mut self, check: CheckId) -> Result<Vec<Route>> {
        let rows = self.all(&ROUTES, &[check.into()]).await?;
        let route = |row: &crate::db::Row| {
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
        let sealed = self
            .data_key(project)
            .await?
            .seal(place(&channel.id, project), config, dice);
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
}
