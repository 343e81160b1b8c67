//! Deliveries: promises to send, written in the transaction of the flip that owes them.

use allswell_core::absence::CLOCKS_DIFFER;
use allswell_core::check::Check;
use allswell_core::delivery::Owed;
use allswell_core::flip::Flip;
use allswell_core::id::{ChannelId, CheckId, DeliveryId, NodeId, ProjectId};
use allswell_core::scope::{ProjectScope, SystemScope};
use allswell_core::time::{Span, Timestamp};

use crate::Result;
use crate::db::{Reader, Row, Tx, in_scope, statements};

statements! {
    INSERT = "insert into deliveries (shard, id, project_id, channel_id, class, state, attempts, next_at, expires_at,
                                      created_at)
              values ($1, $2, $3, $4, $5, 'ready', 0, $6, $7, $6)";
    OCCASION_INSERT = "insert into delivery_flips (check_id, flip_seq, channel_id, occasion, delivery_id)
                       values ($1, $2, $3, 0, $4)
                       on conflict (check_id, flip_seq, channel_id, occasion) do nothing";
    CLAIM = "update deliveries set state = 'leased', lease_owner = $3, lease_until = $4
             where (shard, id) in
                 (select shard, id from deliveries where state = 'ready' and next_at <= $1
                  order by next_at limit $2", skipping locked, then ")
               and state = 'ready'
             returning shard, id, project_id, channel_id, attempts, next_at, expires_at, lease_until";
    RELEASE_LAPSED = "update deliveries set state = 'ready', lease_owner = null, lease_until = null
                      where (shard, id) in
                          (select shard, id from deliveries where state = 'leased' and lease_until <= $1 limit $2",
                      skipping locked, then ")";
    RELEASE_ALL = "update deliveries set state = 'ready', lease_owner = null, lease_until = null
                   where state = 'leased'";
    FINISH = "update deliveries set state = $4, attempts = attempts + 1, finished_at = $5, last_outcome = $6,
                     lease_owner = null, lease_until = null
              where shard = $1 and id = $2 and state = 'leased' and lease_owner = $3";
    ATTEMPT_INSERT = "insert into attempts (shard, delivery_id, n, started_at, duration, outcome)
                      values ($1, $2, $3, $4, $5, $6)";
    READY_AHEAD = "update deliveries set next_at = $1, created_at = $1
                   where (shard, id) in
                       (select shard, id from deliveries where state = 'ready' and next_at > $2 and created_at > $2
                        limit $3", skipping locked, then ")";
    LEASED_AHEAD = "update deliveries set lease_until = $1
                    where (shard, id) in
                        (select shard, id from deliveries where state = 'leased' and lease_until > $2 limit $3",
                    skipping locked, then ")";
    NEXT_AT = "select next_at from deliveries where state = 'ready' order by next_at limit 1";
    NEXT_LAPSE = "select lease_until from deliveries where state = 'leased' order by lease_until limit 1";
    MESSAGE = "select c.name as check_name, c.slug as slug, ch.name as channel_name, ch.kind as kind,
                      f.seq as seq, f.at as at, f.from_status as from_status, f.to_status as to_status,
                      f.expected_at as expected_at, f.reason_code as reason_code, f.reason_data as reason_data
               from delivery_flips df
               join checks c on c.id = df.check_id and c.deleted_at is null
               join channels ch on ch.id = df.channel_id and ch.deleted_at is null
               join flips f on f.check_id = df.check_id and f.seq = df.flip_seq
               where df.check_id = $1 and df.delivery_id = $2
               order by df.flip_seq desc limit 1";
    OF_CHECK = concat!("select d.id as id, d.channel_id as channel_id, d.state as state, d.attempts as attempts,
                       d.created_at as created_at, d.finished_at as finished_at, d.last_outcome as last_outcome,
                       df.flip_seq as flip_seq
                from deliveries d join delivery_flips df on df.check_id = d.shard and df.delivery_id = d.id
                where d.shard = $1 and ", in_scope!(), " order by df.flip_seq desc, d.id limit $3");
    COUNT_BY_STATE = "select state, count(*) as deliveries from deliveries
                      where state in ('ready', 'leased') group by state order by state";
}

/// Nobody leases a delivery for longer.
const LEASE_MAX: Span = Span::from_secs(3_600);

/// What other nodes hear when a delivery was promised.
pub const NUDGE: &str = "deliver";

/// A delivery that this process has claimed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claimed {
    /// The check it is about; part of its key.
    pub check: CheckId,
    /// Its id, constant over all attempts.
    pub id: DeliveryId,
    /// The project.
    pub project: ProjectId,
    /// The channel it goes to.
    pub channel: ChannelId,
    /// Attempts made before this one.
    pub attempts: u64,
    /// After this instant it is no longer sent.
    pub expires_at: Timestamp,
}

/// What a delivery tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The check's name.
    pub check_name: String,
    /// The check's slug.
    pub slug: String,
    /// The channel's name.
    pub channel_name: String,
    /// The channel's kind.
    pub kind: String,
    /// The flip it tells of.
    pub flip: Flip,
}

/// A delivery as its check's history shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// The id.
    pub id: DeliveryId,
    /// The channel.
    pub channel: ChannelId,
    /// The flip it tells of.
    pub flip_seq: u64,
    /// The word for its state.
    pub state: String,
    /// Attempts so far.
    pub attempts: u64,
    /// When it was promised.
    pub created_at: Timestamp,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
    /// How its last attempt ended.
    pub last_outcome: Option<String>,
}

/// How a claimed delivery ended.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// The receiver has it.
    Delivered,
    /// Its time was over.
    Expired,
    /// What it would tell is gone: the channel or the check was deleted.
    Cancelled,
}

impl End {
    const fn word(self) -> &'static str {
        match self {
            End::Delivered => "delivered",
            End::Expired => "expired",
            End::Cancelled => "cancelled",
        }
    }
}

impl Reader<'_> {
    /// When the next delivery is due, or the next lease lapses, if there is one.
    pub async fn delivery_next_at(&mut self, _: SystemScope) -> Result<Option<Timestamp>> {
        let due: Option<Timestamp> = self
            .first(&NEXT_AT, &[])
            .await?
            .map(|row| row.get("next_at"))
            .transpose()?;
        let lapse = self
            .first(&NEXT_LAPSE, &[])
            .await?
            .map(|row| row.get("lease_until"))
            .transpose()?;
        Ok([due, lapse].into_iter().flatten().min())
    }

    /// What a delivery tells; `None` if its check, channel or flip is gone.
    pub async fn delivery_message(&mut self, _: SystemScope, delivery: &Claimed) -> Result<Option<Message>> {
        let row = self
            .first(&MESSAGE, &[delivery.check.into(), delivery.id.into()])
            .await?;
        let message = |row: Row| {
            Ok(Message {
                flip: crate::flips::from_row(&row)?,
                check_name: row.get("check_name")?,
                slug: row.get("slug")?,
                channel_name: row.get("channel_name")?,
                kind: row.get("kind")?,
            })
        };
        row.map(message).transpose()
    }

    /// The newest deliveries of a check.
    pub async fn deliveries(
        &mut self,
        scope: ProjectScope,
        check: CheckId,
        limit: i64,
    ) -> Result<Vec<Delivery>> {
        let values = [check.into(), scope.project().into(), limit.into()];
        let rows = self.all(&OF_CHECK, &values).await?;
        let delivery = |row: &Row| {
            Ok(Delivery {
                id: row.get("id")?,
                channel: row.get("channel_id")?,
                state: row.get("state")?,
                attempts: row.get("attempts")?,
                created_at: row.get("created_at")?,
                finished_at: row.get("finished_at")?,
                last_outcome: row.get("last_outcome")?,
                flip_seq: row.get("flip_seq")?,
            })
        };
        rows.iter().map(delivery).collect()
    }

    /// How many deliveries are open, by state.
    pub async fn deliveries_open(&mut self, _: SystemScope) -> Result<Vec<(String, i64)>> {
        let rows = self.all(&COUNT_BY_STATE, &[]).await?;
        rows.iter()
            .map(|row| Ok((row.get("state")?, row.get("deliveries")?)))
            .collect()
    }
}

impl Tx<'_> {
    /// Brings up to `limit` deliveries back that a clock ahead promised or leased for time to come, now that it was set
    /// back; gives how many there were.
    pub async fn deliveries_bring_back(&mut self, _: SystemScope, now: Timestamp, limit: i64) -> Result<u64> {
        let ready = [now.into(), (now + CLOCKS_DIFFER).into(), limit.into()];
        let leased = [now.into(), (now + LEASE_MAX).into(), limit.into()];
        Ok(self.run(&READY_AHEAD, &ready).await? + self.run(&LEASED_AHEAD, &leased).await?)
    }

    /// Writes a delivery, unless this flip's delivery to this channel was promised before.
    pub async fn delivery_insert(
        &mut self,
        check: &Check,
        flip: &Flip,
        owed: &Owed,
        id: DeliveryId,
        now: Timestamp,
    ) -> Result<()> {
        let occasion = [check.id.into(), flip.seq.into(), owed.channel.into(), id.into()];
        if self.run(&OCCASION_INSERT, &occasion).await? == 0 {
            return Ok(());
        }
        let values = [
            check.id.into(),
            id.into(),
            check.project.into(),
            owed.channel.into(),
            owed.class.word().into(),
            now.into(),
            owed.expires_at.into(),
        ];
        self.nudge(NUDGE);
        self.run(&INSERT, &values).await.map(drop)
    }

    /// Claims deliveries that are due, the longest due first, for `lease`.
    pub async fn deliveries_claim(
        &mut self,
        _: SystemScope,
        now: Timestamp,
        limit: i64,
        owner: NodeId,
        lease: Span,
    ) -> Result<Vec<Claimed>> {
        let until = now + lease;
        let rows = self
            .all(&CLAIM, &[now.into(), limit.into(), owner.into(), until.into()])
            .await?;
        let mut claimed = rows
            .iter()
            .map(|row| {
                let claimed = Claimed {
                    check: row.get("shard")?,
                    id: row.get("id")?,
                    project: row.get("project_id")?,
                    channel: row.get("channel_id")?,
                    attempts: row.get("attempts")?,
                    expires_at: row.get("expires_at")?,
                };
                Ok((row.get::<Timestamp>("next_at")?, claimed))
            })
            .collect::<Result<Vec<_>>>()?;
        // What RETURNING gives has no order.
        claimed.sort_by_key(|(next_at, claimed)| (*next_at, claimed.id));
        Ok(claimed.into_iter().map(|(_, claimed)| claimed).collect())
    }

    /// Gives deliveries back whose lease has lapsed: their owner is gone.
    pub async fn deliveries_release(&mut self, _: SystemScope, now: Timestamp, limit: i64) -> Result<u64> {
        self.run(&RELEASE_LAPSED, &[now.into(), limit.into()]).await
    }

    /// Gives all leased deliveries back. Only for the one server of a database, at its start.
    pub async fn deliveries_release_all(&mut self, _: SystemScope) -> Result<u64> {
        self.run(&RELEASE_ALL, &[]).await
    }

    /// Records the attempt that ended a delivery. `false` if the lease was no longer ours: then nothing is recorded.
    pub async fn delivery_finish(
        &mut self,
        delivery: &Claimed,
        owner: NodeId,
        end: End,
        outcome: &str,
        started_at: Timestamp,
        now: Timestamp,
    ) -> Result<bool> {
        let (shard, id) = (delivery.check.into(), delivery.id.into());
        let values = [
            shard,
            id,
            owner.into(),
            end.word().into(),
            now.into(),
            outcome.into(),
        ];
        if self.run(&FINISH, &values).await? == 0 {
            return Ok(false);
        }
        let n = delivery.attempts + 1;
        let values = [
            shard,
            id,
            n.into(),
            started_at.into(),
            (now - started_at).into(),
            outcome.into(),
        ];
        self.run(&ATTEMPT_INSERT, &values).await?;
        Ok(true)
    }
}
