//! Deliveries: promises to send, written in the transaction of the flip that owes them.
//!
//! `claim.rs` says whose turn it is and takes leases, `telling.rs` reads what is to be told, `record.rs` writes what came
//! of it, `health.rs` keeps how channels fare. Here: promising, and reading for people.

pub(crate) mod claim;
pub(crate) mod health;
pub(crate) mod record;
pub(crate) mod set_back;
pub(crate) mod telling;

pub use claim::{Claimed, Ready, Wanted};
pub use health::{Health, SWITCHED_OFF};
pub use record::{Attempt, Found, Next, Recorded};
pub use telling::{Target, Told};

use allswell_core::delivery::{Class, Owed};
use allswell_core::id::{ChannelId, CheckId, DeliveryId};
use allswell_core::limits;
use allswell_core::scope::{ProjectScope, SystemScope};
use allswell_core::time::Timestamp;

use crate::db::{Reader, Row, Tx, in_scope, statements};
use crate::news::{News, Promise};
use crate::{Error, Result};

macro_rules! shown {
    () => {
        "select d.id as id, d.shard as shard, d.channel_id as channel_id, d.class as class, d.seq as seq,
                d.state as state, d.attempts as attempts, d.next_at as next_at, d.expires_at as expires_at,
                d.created_at as created_at, d.finished_at as finished_at, d.last_outcome as last_outcome
         from deliveries d "
    };
}

statements! {
    INSERT = "insert into deliveries (shard, id, project_id, channel_id, class, state, attempts, next_at, expires_at,
                                      created_at, seq, note)
              values ($1, $2, $3, $4, $5, 'ready', 0, $6, $7, $6, $8, $9)";
    OCCASION_INSERT = "insert into delivery_flips (check_id, flip_seq, channel_id, occasion, delivery_id)
                       values ($1, $2, $3, 0, $4)
                       on conflict (check_id, flip_seq, channel_id, occasion) do nothing";
    OF_CHECK = concat!(shown!(), "where d.shard = $1 and ", in_scope!(), " order by d.seq desc, d.id limit $3");
    OF_PROJECT = concat!(shown!(), "where d.project_id = $1 order by d.id desc limit $2");
    ONE = concat!(shown!(), "where d.project_id = $1 and d.id = $2");
    // The flips that a delivery tells: its own, and those that it overtook.
    FLIPS_OF = "select f.flip_seq as seq from delivery_flips f
                where f.check_id = $1 and f.delivery_id = $2 order by f.flip_seq desc limit $3";
    // Its own, and the last that overtook one of those that told it.
    OF_FLIP = concat!(shown!(), "where (d.shard, d.id) in
                  (select df.check_id, df.delivery_id from delivery_flips df where df.check_id = $1 and df.flip_seq = $3)
              and ", in_scope!(), " order by d.seq, d.id");
    COUNT_BY_STATE = "select state, count(*) as deliveries from deliveries
                      where state in ('ready', 'leased') group by state order by state";
    REDELIVER = "update deliveries set state = 'ready', redelivery = $5, next_at = $3, expires_at = $4,
                        finished_at = null, last_outcome = null
                 where project_id = $1 and id = $2 and finished_at is not null";
    // One that is open tells the newer flip soon; an older one that became due again would stand before it. One that arrived
    // and was sent again may have ended in another way since: what was heard stands in its attempts.
    NEWER_TELLS = "select d.id from deliveries d where d.shard = $1 and d.channel_id = $2 and d.seq > $3
                   and (d.state in ('ready', 'leased', 'delivered')
                        or (select 1 from attempts a where a.shard = d.shard and a.delivery_id = d.id
                              and a.outcome = 'ok' limit 1) is not null) limit 1";
}

/// What other nodes hear when a delivery was promised.
pub const NUDGE: &str = "deliver";

/// A delivery as people see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// The id, constant over all attempts.
    pub id: DeliveryId,
    /// The check it tells of; `None` for tests and notes.
    pub check: Option<CheckId>,
    /// The channel.
    pub channel: ChannelId,
    /// What it is for.
    pub class: Class,
    /// The number of the flip it tells of; 0 for tests and notes.
    pub flip_seq: u64,
    /// The word for its state.
    pub state: String,
    /// Attempts so far.
    pub attempts: u64,
    /// When the next attempt is due, while it is open.
    pub next_at: Timestamp,
    /// After this instant no attempt starts.
    pub expires_at: Timestamp,
    /// When it was promised.
    pub created_at: Timestamp,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
    /// How its last attempt ended.
    pub last_outcome: Option<String>,
}

/// How a delivery ended.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// The receiver has it.
    Delivered,
    /// Its time was over.
    Expired,
    /// What it would tell is gone, or the channel was switched off.
    Cancelled,
    /// A newer delivery of its lane tells its flip too.
    Superseded,
    /// No further attempt has a chance.
    Exhausted,
    /// Our own rules refuse it.
    Blocked,
}

impl End {
    /// The word stored.
    pub const fn word(self) -> &'static str {
        match self {
            End::Delivered => "delivered",
            End::Expired => "expired",
            End::Cancelled => "cancelled",
            End::Superseded => "superseded",
            End::Exhausted => "exhausted",
            End::Blocked => "blocked",
        }
    }
}

/// What came of asking to send a delivery again.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Redelivered {
    /// It is due now.
    Yes,
    /// It has not ended yet.
    StillOpen,
    /// The channel was told of a newer flip of this check, or is about to be: the old one would say what no longer holds.
    NewerDelivered,
    /// It was a test of its channel, which is one call with one try: another one is made instead.
    IsTest,
}

fn from_row(row: &Row) -> Result<Delivery> {
    let (id, shard, channel) = (row.get("id")?, row.get("shard")?, row.get("channel_id")?);
    let class: String = row.get("class")?;
    let flip_seq = row.get("seq")?;
    Ok(Delivery {
        id,
        check: (flip_seq > 0).then_some(shard),
        channel,
        class: Class::from_word(&class)
            .ok_or_else(|| Error::Corrupt(format!("delivery {id} has an unknown class")))?,
        flip_seq,
        state: row.get("state")?,
        attempts: row.get("attempts")?,
        next_at: row.get("next_at")?,
        expires_at: row.get("expires_at")?,
        created_at: row.get("created_at")?,
        finished_at: row.get("finished_at")?,
        last_outcome: row.get("last_outcome")?,
    })
}

impl Reader<'_> {
    /// The newest deliveries of a check.
    pub async fn deliveries(
        &mut self,
        scope: ProjectScope,
        check: CheckId,
        limit: i64,
    ) -> Result<Vec<Delivery>> {
        let values = [check.into(), scope.project().into(), limit.into()];
        self.all(&OF_CHECK, &values).await?.iter().map(from_row).collect()
    }

    /// The newest deliveries of a project, tests and notes among them.
    pub async fn deliveries_of_project(&mut self, scope: ProjectScope, limit: i64) -> Result<Vec<Delivery>> {
        let rows = self
            .all(&OF_PROJECT, &[scope.project().into(), limit.into()])
            .await?;
        rows.iter().map(from_row).collect()
    }

    /// The deliveries that tell a flip of a check: its own, and the last that overtook one which told it.
    pub async fn deliveries_of_flip(
        &mut self,
        scope: ProjectScope,
        check: CheckId,
        seq: u64,
    ) -> Result<Vec<Delivery>> {
        let values = [check.into(), scope.project().into(), seq.into()];
        self.all(&OF_FLIP, &values).await?.iter().map(from_row).collect()
    }

    /// One delivery of a project.
    pub async fn delivery(&mut self, scope: ProjectScope, id: DeliveryId) -> Result<Option<Delivery>> {
        let row = self.first(&ONE, &[scope.project().into(), id.into()]).await?;
        row.as_ref().map(from_row).transpose()
    }

    /// The numbers of the flips that a delivery tells, those it overtook first.
    pub async fn delivery_flips(&mut self, scope: ProjectScope, id: DeliveryId) -> Result<Vec<u64>> {
        let Some(delivery) = self.delivery(scope, id).await? else {
            return Ok(Vec::new());
        };
        let Some(check) = delivery.check else {
            return Ok(Vec::new());
        };
        let values = [check.into(), id.into(), limits::ALERT_FLIPS_MAX.into()];
        let rows = self.all(&FLIPS_OF, &values).await?;
        let mut seqs = rows
            .iter()
            .map(|row| row.get("seq"))
            .collect::<Result<Vec<u64>>>()?;
        seqs.reverse();
        seqs.dedup();
        Ok(seqs)
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
    /// Writes a delivery, unless this flip's delivery to this channel was promised before.
    pub async fn delivery_insert(&mut self, _: SystemScope, promise: &Promise<'_>) -> Result<()> {
        let Promise { news, owed, id } = promise;
        let News {
            check,
            flip,
            noticed_at,
        } = *news;
        let now = noticed_at;
        let occasion = [
            check.id.into(),
            flip.seq.into(),
            owed.channel.into(),
            (*id).into(),
        ];
        if self.run(&OCCASION_INSERT, &occasion).await? == 0 {
            return Ok(());
        }
        let values = [
            check.id.into(),
            (*id).into(),
            check.project.into(),
            owed.channel.into(),
            owed.class.word().into(),
            now.into(),
            owed.expires_at.into(),
            flip.seq.into(),
            None::<&str>.into(),
        ];
        self.nudge(NUDGE);
        self.run(&INSERT, &values).await.map(drop)
    }

    /// Writes a delivery that tells no flip: a test of a channel, or with `note` a note of our own.
    pub async fn delivery_insert_plain(
        &mut self,
        scope: ProjectScope,
        owed: &Owed,
        note: Option<&str>,
        id: DeliveryId,
        now: Timestamp,
    ) -> Result<()> {
        let values = [
            // A lane of its own.
            id.into(),
            id.into(),
            scope.project().into(),
            owed.channel.into(),
            owed.class.word().into(),
            now.into(),
            owed.expires_at.into(),
            0_u64.into(),
            note.into(),
        ];
        self.nudge(NUDGE);
        self.run(&INSERT, &values).await.map(drop)
    }

    /// Makes a delivery that has ended due again, with its id and its flip, until `expires_at`. Unless `force`d not if its
    /// channel was told of a newer flip of the same check, or is about to be. `None` if there is no such delivery.
    pub async fn delivery_redeliver(
        &mut self,
        scope: ProjectScope,
        id: DeliveryId,
        force: bool,
        now: Timestamp,
        expires_at: Timestamp,
    ) -> Result<Option<Redelivered>> {
        let Some(delivery) = self.delivery(scope, id).await? else {
            return Ok(None);
        };
        if delivery.class == Class::Test {
            return Ok(Some(Redelivered::IsTest));
        }
        if let Some(check) = delivery.check.filter(|_| !force) {
            // Whoever promises something newer changes the check first: it is seen here, or comes behind us.
            self.check_lock(scope, check).await?;
            let lane = [check.into(), delivery.channel.into(), delivery.flip_seq.into()];
            if self.first(&NEWER_TELLS, &lane).await?.is_some() {
                return Ok(Some(Redelivered::NewerDelivered));
            }
        }
        let (project, until) = (scope.project().into(), expires_at.into());
        let values = [project, id.into(), now.into(), until, true.into()];
        let ran = self.run(&REDELIVER, &values).await? > 0;
        self.nudge(NUDGE);
        Ok(Some(if ran {
            Redelivered::Yes
        } else {
            Redelivered::StillOpen
        }))
    }
}
