//! What claimed deliveries tell and where to: read for a whole batch, so that a claim costs few journeys.

use std::collections::HashMap;

use allswell_core::check::Check;
use allswell_core::delivery::Standing;
use allswell_core::flip::Flip;
use allswell_core::id::{ChannelId, CheckId, DeliveryId, ProjectId};
use allswell_core::limits;
use allswell_core::scope::{ProjectScope, SystemScope};
use allswell_core::secret::Secret;
use allswell_core::time::Timestamp;
use uuid::Uuid;

use super::Claimed;
use crate::db::{Reader, Row, postgres_statements, statements};
use crate::{Error, Result};

macro_rules! flips {
    () => {
        "select df.delivery_id as delivery_id, f.seq as seq, f.from_status as from_status, f.to_status as to_status,
                f.at as at, f.expected_at as expected_at, f.reason_code as reason_code, f.reason_data as reason_data
         from delivery_flips df join flips f on f.check_id = df.check_id and f.seq = df.flip_seq "
    };
}

macro_rules! targets {
    () => {
        "select ch.id as id, ch.project_id as project_id, ch.kind as kind, ch.name as name,
                ch.disabled_at as disabled_at, ch.sealed_config as sealed_config, p.name as project_name
         from channels ch join projects p on p.id = ch.project_id "
    };
}

macro_rules! there {
    () => {
        "ch.deleted_at is null and p.deleted_at is null"
    };
}

statements! {
    // The newest of them: a version before this one had no bound for them.
    FLIPS = concat!(flips!(), "where df.check_id = $1 and df.delivery_id = $2 order by df.flip_seq desc limit $3");
    TARGET = concat!(targets!(), "where ch.id = $1 and ch.project_id = $2 and ", there!());
    CHANNELS_OF = "select cc.channel_id as id from check_channels cc join channels ch on ch.id = cc.channel_id
                   where cc.check_id = $1 and ch.deleted_at is null order by cc.channel_id";
    STANDING = "select ch.tells_down as tells_down, ch.tells_up as tells_up,
                (select 1 from check_channels cc where cc.check_id = $1 and cc.channel_id = $2) is not null as assigned,
                (select 1 from deliveries d where d.shard = $1 and d.channel_id = $2 and d.seq > $3
                   and d.finished_at is null limit 1) is not null as newer_waits
             from channels ch where ch.id = $2";
    PING_BEFORE = "select n, exit_status from pings where check_id = $1 and at <= $2 order by n desc limit 1";
}

postgres_statements! {
    FLIPS_OF_MANY = concat!("select x.* from unnest($1::uuid[], $2::uuid[]) as w (check_id, delivery_id)
            cross join lateral
                (", flips!(), "where df.check_id = w.check_id and df.delivery_id = w.delivery_id
                 order by df.flip_seq desc limit $3) x");
    TARGETS_OF_MANY = concat!(targets!(), "join unnest($1::uuid[], $2::uuid[]) as w (id, project_id)
            on w.id = ch.id and w.project_id = ch.project_id where ", there!());
}

/// Where a delivery goes.
#[derive(Clone, Debug)]
pub struct Target {
    /// The word for the channel's kind.
    pub kind: String,
    /// What people call the channel.
    pub name: String,
    /// It was switched off.
    pub disabled: bool,
    /// What people call the project.
    pub project_name: String,
    /// The channel's configuration, as it was given.
    pub config: Secret<Vec<u8>>,
}

/// What a delivery tells.
#[derive(Clone, Debug)]
pub struct Told {
    /// The check, as it is now.
    pub check: Check,
    /// Its flip, and before it the newest of those that it overtook, in their order. Never empty.
    pub flips: Vec<Flip>,
}

/// Keeps what cannot be understood apart from what keeps everything from being read.
fn apart<T>(read: Result<T>) -> Result<Result<T>> {
    match read {
        Err(error) if !matches!(error, Error::Corrupt(_)) => Err(error),
        other => Ok(other),
    }
}

impl Reader<'_> {
    /// Where a channel's deliveries go; `None` if the channel or its project is gone.
    pub async fn delivery_target(
        &mut self,
        _: SystemScope,
        project: ProjectId,
        channel: ChannelId,
    ) -> Result<Option<Target>> {
        let row = self.first(&TARGET, &[channel.into(), project.into()]).await?;
        let Some(row) = row else { return Ok(None) };
        self.target(&row).await.map(Some)
    }

    /// Where the deliveries of these channels go. Left out are those that are gone. One that cannot be read is an error of
    /// its deliveries alone.
    pub async fn delivery_targets(
        &mut self,
        system: SystemScope,
        places: &[(ProjectId, ChannelId)],
    ) -> Result<HashMap<ChannelId, Result<Target>>> {
        let mut targets = HashMap::with_capacity(places.len());
        if self.is_postgres() && places.len() > 1 {
            let (projects, channels): (Vec<_>, Vec<_>) = places
                .iter()
                .map(|(project, channel)| (Some(project.as_uuid()), Some(channel.as_uuid())))
                .unzip();
            let values = [channels.as_slice().into(), projects.as_slice().into()];
            for row in self.all(&TARGETS_OF_MANY, &values).await? {
                targets.insert(row.get("id")?, apart(self.target(&row).await)?);
            }
            return Ok(targets);
        }
        for (project, channel) in places {
            let found = self.delivery_target(system, *project, *channel).await;
            if let Some(target) = apart(found)?.transpose() {
                targets.insert(*channel, target);
            }
        }
        Ok(targets)
    }

    async fn target(&mut self, row: &Row) -> Result<Target> {
        let (id, project, sealed): (_, _, Vec<u8>) =
            (row.get("id")?, row.get("project_id")?, row.get("sealed_config")?);
        let config = self
            .config_open(ProjectScope::granted(project), id, &sealed)
            .await?;
        Ok(Target {
            kind: row.get("kind")?,
            name: row.get("name")?,
            disabled: row.get::<Option<Timestamp>>("disabled_at")?.is_some(),
            project_name: row.get("project_name")?,
            config: Secret::new(config),
        })
    }

    /// What each of these deliveries tells. Left out are those whose check or flip is gone, and those about no flip. A
    /// check or flip that cannot be read, as when a later version wrote it, is an error of its deliveries alone.
    pub async fn deliveries_told(
        &mut self,
        system: SystemScope,
        claimed: &[&Claimed],
    ) -> Result<HashMap<DeliveryId, Result<Told>>> {
        let about: Vec<&Claimed> = claimed
            .iter()
            .filter(|claimed| claimed.seq > 0)
            .copied()
            .collect();
        let mut ids: Vec<CheckId> = about.iter().map(|claimed| claimed.shard.into()).collect();
        ids.sort_unstable();
        ids.dedup();
        let checks = self.checks_readable(system, &ids).await?;
        let mut flips = self.delivery_flip_rows(&about).await?;
        let mut told = HashMap::with_capacity(about.len());
        for claimed in about {
            let check = match checks.get(&claimed.shard.into()) {
                None => continue,
                Some(Ok(check)) => check,
                Some(Err(why)) => {
                    told.insert(claimed.id, Err(Error::Corrupt(why.clone())));
                    continue;
                }
            };
            let rows = flips.remove(&claimed.id).unwrap_or_default();
            let read = rows
                .iter()
                .map(crate::flips::from_row)
                .collect::<Result<Vec<_>>>();
            let entry = match read {
                Ok(mut flips) => {
                    flips.sort_unstable_by_key(|flip| flip.seq);
                    flips.dedup_by_key(|flip| flip.seq);
                    if flips.last().is_none_or(|flip| flip.seq != claimed.seq) {
                        continue;
                    }
                    Ok(Told {
                        check: check.clone(),
                        flips,
                    })
                }
                Err(Error::Corrupt(why)) => Err(Error::Corrupt(why)),
                Err(error) => return Err(error),
            };
            told.insert(claimed.id, entry);
        }
        Ok(told)
    }

    /// The checks there are, or why one cannot be read.
    async fn checks_readable(
        &mut self,
        system: SystemScope,
        ids: &[CheckId],
    ) -> Result<HashMap<CheckId, std::result::Result<Check, String>>> {
        match self.checks_any(system, ids).await {
            Ok(checks) => return Ok(checks.into_iter().map(|check| (check.id, Ok(check))).collect()),
            Err(Error::Corrupt(_)) => {}
            Err(error) => return Err(error),
        }
        let mut checks = HashMap::with_capacity(ids.len());
        for id in ids {
            match self.check_any(system, *id).await {
                Ok(None) => {}
                Ok(Some(check)) => drop(checks.insert(*id, Ok(check))),
                Err(Error::Corrupt(why)) => drop(checks.insert(*id, Err(why))),
                Err(error) => return Err(error),
            }
        }
        Ok(checks)
    }

    async fn delivery_flip_rows(&mut self, about: &[&Claimed]) -> Result<HashMap<DeliveryId, Vec<Row>>> {
        let mut rows: HashMap<DeliveryId, Vec<Row>> = HashMap::new();
        if self.is_postgres() {
            let shards: Vec<Option<Uuid>> = about.iter().map(|claimed| Some(claimed.shard)).collect();
            let ids: Vec<Option<Uuid>> = about.iter().map(|claimed| Some(claimed.id.as_uuid())).collect();
            let values = [
                shards.as_slice().into(),
                ids.as_slice().into(),
                limits::ALERT_FLIPS_MAX.into(),
            ];
            for row in self.all(&FLIPS_OF_MANY, &values).await? {
                rows.entry(row.get("delivery_id")?).or_default().push(row);
            }
            return Ok(rows);
        }
        for claimed in about {
            let values = [
                claimed.shard.into(),
                claimed.id.into(),
                limits::ALERT_FLIPS_MAX.into(),
            ];
            let found = self.all(&FLIPS, &values).await?;
            rows.insert(claimed.id, found);
        }
        Ok(rows)
    }

    /// The channels that a check tells.
    pub async fn check_channel_ids(&mut self, _: SystemScope, check: CheckId) -> Result<Vec<ChannelId>> {
        let rows = self.all(&CHANNELS_OF, &[check.into()]).await?;
        rows.iter().map(|row| row.get("id")).collect()
    }

    /// The flips that a delivery tells, those it overtook first; of old ones those that are still kept.
    pub async fn delivery_flips_whole(&mut self, scope: ProjectScope, id: DeliveryId) -> Result<Vec<Flip>> {
        let Some(delivery) = self.delivery(scope, id).await? else {
            return Ok(Vec::new());
        };
        let Some(check) = delivery.check else {
            return Ok(Vec::new());
        };
        let values = [check.into(), id.into(), limits::ALERT_FLIPS_MAX.into()];
        let rows = self.all(&FLIPS, &values).await?;
        let mut flips = rows
            .iter()
            .map(crate::flips::from_row)
            .collect::<Result<Vec<_>>>()?;
        flips.sort_unstable_by_key(|flip| flip.seq);
        flips.dedup_by_key(|flip| flip.seq);
        Ok(flips)
    }

    /// How a delivery stands to what is now. Asked after its check was read: whatever came to the check before that, and is
    /// promised, is seen here.
    pub async fn delivery_standing(&mut self, _: SystemScope, claimed: &Claimed) -> Result<Option<Standing>> {
        let values = [claimed.shard.into(), claimed.channel.into(), claimed.seq.into()];
        let row = self.first(&STANDING, &values).await?;
        row.map(|row| {
            Ok(Standing {
                assigned: row.get("assigned")?,
                tells_both: row.get("tells_down")? && row.get("tells_up")?,
                newer_waits: row.get("newer_waits")?,
            })
        })
        .transpose()
    }

    /// Number and exit status of the last ping of a check that arrived at `at` or before.
    pub async fn ping_before(
        &mut self,
        _: SystemScope,
        check: CheckId,
        at: Timestamp,
    ) -> Result<Option<(u64, Option<u8>)>> {
        let row = self.first(&PING_BEFORE, &[check.into(), at.into()]).await?;
        row.map(|row| Ok((row.get("n")?, row.get("exit_status")?)))
            .transpose()
    }
}
