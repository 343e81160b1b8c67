//! What came of attempts: the new state of each delivery and the row of its attempt, on the condition that the lease is
//! still ours and that no other attempt was recorded since. Many at once: on PostgreSQL one statement for all, on SQLite a loop over prepared ones.

use std::collections::HashSet;

use allswell_core::chance::Dice;
use allswell_core::id::{DeliveryId, NodeId, ProjectId};
use allswell_core::scope::{ProjectScope, SystemScope};
use allswell_core::seal::Place;
use allswell_core::time::{Span, Timestamp};
use uuid::Uuid;

use super::{Claimed, End};
use crate::Result;
use crate::db::{Reader, Tx, postgres_statements, statements};

statements! {
    // As a value, so that no index of all that is leased is taken for it.
    RECORD = "update deliveries set state = $4, attempts = $5, next_at = $6, finished_at = $7, last_outcome = $8,
                     redelivery = $9, lease_owner = null, lease_until = null
              where shard = $1 and id = $2 and coalesce(state, '') = 'leased' and lease_owner = $3 and attempts = $10";
    ATTEMPT_INSERT = "insert into attempts (shard, delivery_id, n, started_at, duration, outcome, http_status, phases,
                                            sealed_detail)
                      values ($1, $2, $3, $4, $5, $6, $7, $8, $9)";
    ATTEMPTS_OF = "select a.n as n, a.started_at as started_at, a.duration as duration, a.outcome as outcome,
                          a.http_status as http_status, a.phases as phases, a.sealed_detail as sealed_detail
                   from attempts a
                   where a.delivery_id = $2 and a.shard =
                       (select d.shard from deliveries d where d.project_id = $1 and d.id = $2)
                   order by a.n";
    LAST_TRY = "select started_at from attempts where shard = $1 and delivery_id = $2 order by n desc limit 1";
}

postgres_statements! {
    // Leased is what has an owner. With `state = 'leased'` the planner, where it has no statistics yet, took all that is leased
    // and looked for each through all that is recorded. `is true` keeps it from a join that does the like with the attempts.
    RECORD_MANY = "with d as (
            update deliveries set state = v.state, attempts = v.attempts, next_at = v.next_at,
                finished_at = v.finished_at, last_outcome = v.last_outcome, redelivery = v.redelivery = 1,
                lease_owner = null, lease_until = null
            from (select unnest($2::uuid[]) as shard, unnest($3::uuid[]) as id, unnest($4::text[]) as state,
                    unnest($5::bigint[]) as attempts, unnest($6::bigint[]) as next_at,
                    unnest($7::bigint[]) as finished_at, unnest($8::text[]) as last_outcome,
                    unnest($9::bigint[]) as redelivery, unnest($19::bigint[]) as attempts_before) v
            where deliveries.shard = v.shard and deliveries.id = v.id and deliveries.lease_owner = $1
              and deliveries.attempts = v.attempts_before
            returning deliveries.id
        ), a as (
            insert into attempts (shard, delivery_id, n, started_at, duration, outcome, http_status, phases,
                                  sealed_detail)
            select v.shard, v.delivery_id, v.n, v.started_at, v.duration, v.outcome, v.http_status, v.phases,
                   -- An array of ours holds no nulls.
                   nullif(v.sealed_detail, ''::bytea)
            from (select unnest($10::uuid[]) as shard, unnest($11::uuid[]) as delivery_id, unnest($12::bigint[]) as n,
                    unnest($13::bigint[]) as started_at, unnest($14::bigint[]) as duration,
                    unnest($15::text[]) as outcome, unnest($16::bigint[]) as http_status,
                    unnest($17::text[]) as phases, unnest($18::bytea[]) as sealed_detail) v
            where (v.delivery_id in (select id from d)) is true
        )
        select id from d";
}

/// What an attempt found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// When it began.
    pub started_at: Timestamp,
    /// How long it took.
    pub duration: Span,
    /// The word for its class: `ok`, or one of the classes of failure.
    pub outcome: String,
    /// The HTTP status, if one was read.
    pub http_status: Option<u16>,
    /// How long each part took, in microseconds, as JSON.
    pub phases: Option<String>,
    /// What only those see who may see the channel's secrets; sealed. Empty for nothing.
    pub detail: Vec<u8>,
}

/// What follows for a delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// The delivery, as it was claimed.
    pub claimed: Claimed,
    /// The attempt, if one was made.
    pub found: Option<Found>,
    /// How it ended, or when it is due again.
    pub next: Next,
    /// What is shown of it.
    pub outcome: String,
}

/// How a delivery ended, or when it is due again.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Due again at this instant.
    Again(Timestamp),
    /// Ended.
    Ended(End),
}

/// An attempt as people see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// Number within the delivery, from 1.
    pub n: u64,
    /// What it found; the detail is empty unless it was asked for.
    pub found: Found,
}

struct Values<'r> {
    state: &'static str,
    attempts: u64,
    next_at: Timestamp,
    finished_at: Option<Timestamp>,
    outcome: &'r str,
    redelivery: bool,
}

impl Recorded {
    fn values(&self, now: Timestamp) -> Values<'_> {
        let (state, next_at, finished_at) = match self.next {
            Next::Again(at) => ("ready", at, None),
            Next::Ended(end) => (end.word(), self.claimed.next_at, Some(now)),
        };
        Values {
            state,
            attempts: self.claimed.attempts + u64::from(self.found.is_some()),
            next_at,
            finished_at,
            outcome: &self.outcome,
            // Sent again is over with its end.
            redelivery: self.claimed.redelivery && finished_at.is_none(),
        }
    }
}

/// The row of an attempt, as associated data: delivery and number.
fn row(delivery: DeliveryId, n: u64) -> [u8; 24] {
    let mut row = [0; 24];
    row[..16].copy_from_slice(delivery.as_uuid_bytes());
    row[16..].copy_from_slice(&n.to_be_bytes());
    row
}

fn place(row: &[u8; 24], project: ProjectId) -> Place<'_> {
    Place {
        table: "attempts",
        column: "sealed_detail",
        row,
        project: Some(project),
    }
}

impl Reader<'_> {
    /// The attempts of a delivery, the first first, without their details.
    pub async fn attempts(&mut self, scope: ProjectScope, id: DeliveryId) -> Result<Vec<Attempt>> {
        let rows = self
            .all(&ATTEMPTS_OF, &[scope.project().into(), id.into()])
            .await?;
        let attempt = |row: &crate::db::Row| {
            Ok(Attempt {
                n: row.get("n")?,
                found: Found {
                    started_at: row.get("started_at")?,
                    duration: row.get("duration")?,
                    outcome: row.get("outcome")?,
                    http_status: row
                        .get::<Option<u64>>("http_status")?
                        .and_then(|status| u16::try_from(status).ok()),
                    phases: row.get("phases")?,
                    detail: Vec::new(),
                },
            })
        };
        rows.iter().map(attempt).collect()
    }

    /// When the last attempt of a claimed delivery began; `None` before the first.
    pub async fn last_try(&mut self, _: SystemScope, delivery: &Claimed) -> Result<Option<Timestamp>> {
        let row = self
            .first(&LAST_TRY, &[delivery.shard.into(), delivery.id.into()])
            .await?;
        row.map(|row| row.get("started_at")).transpose()
    }

    /// The attempts of a delivery with their details: for those who may see the channel's secrets, since answers often
    /// echo tokens.
    pub async fn attempts_whole(&mut self, scope: ProjectScope, id: DeliveryId) -> Result<Vec<Attempt>> {
        let mut attempts = self.attempts(scope, id).await?;
        let rows = self
            .all(&ATTEMPTS_OF, &[scope.project().into(), id.into()])
            .await?;
        for (attempt, found) in attempts.iter_mut().zip(&rows) {
            if let Some(sealed) = found.get::<Option<Vec<u8>>>("sealed_detail")? {
                let row = row(id, attempt.n);
                let what = format!("attempt {} of delivery {id}", attempt.n);
                let plain = self
                    .open_sealed(place(&row, scope.project()), &sealed, &what)
                    .await?;
                attempt.found.detail = plain.to_vec();
            }
        }
        Ok(attempts)
    }
}

impl Tx<'_> {
    /// Records what came of claimed deliveries. Gives the ids of those that were still ours; of the others nothing was
    /// written.
    pub async fn deliveries_record(
        &mut self,
        _: SystemScope,
        recorded: &[Recorded],
        owner: NodeId,
        now: Timestamp,
        dice: &mut Dice,
    ) -> Result<HashSet<DeliveryId>> {
        let mut sealed = Vec::with_capacity(recorded.len());
        for recorded in recorded {
            sealed.push(self.seal_detail(recorded, dice).await?);
        }
        if self.is_postgres() && recorded.len() > 1 {
            return self.record_many(recorded, &sealed, owner, now).await;
        }
        let mut ours = HashSet::with_capacity(recorded.len());
        for (recorded, sealed) in recorded.iter().zip(&sealed) {
            if self.record_one(recorded, sealed.as_deref(), owner, now).await? {
                ours.insert(recorded.claimed.id);
            }
        }
        Ok(ours)
    }

    async fn seal_detail(&mut self, recorded: &Recorded, dice: &mut Dice) -> Result<Option<Vec<u8>>> {
        let Some(found) = recorded.found.as_ref().filter(|found| !found.detail.is_empty()) else {
            return Ok(None);
        };
        let claimed = &recorded.claimed;
        let row = row(claimed.id, claimed.attempts + 1);
        let key = self.data_key(claimed.project).await?;
        Ok(Some(key.seal(place(&row, claimed.project), &found.detail, dice)))
    }

    async fn record_one(
        &mut self,
        recorded: &Recorded,
        sealed: Option<&[u8]>,
        owner: NodeId,
        now: Timestamp,
    ) -> Result<bool> {
        let (claimed, new) = (&recorded.claimed, recorded.values(now));
        let (shard, id) = (claimed.shard.into(), claimed.id.into());
        let values = [
            shard,
            id,
            owner.into(),
            new.state.into(),
            new.attempts.into(),
            new.next_at.into(),
            new.finished_at.into(),
            new.outcome.into(),
            new.redelivery.into(),
            claimed.attempts.into(),
        ];
        if self.run(&RECORD, &values).await? == 0 {
            return Ok(false);
        }
        if let Some(found) = &recorded.found {
            let values = [
                shard,
                id,
                new.attempts.into(),
                found.started_at.into(),
                found.duration.into(),
                (&found.outcome).into(),
                found.http_status.map(i64::from).into(),
                found.phases.as_ref().into(),
                sealed.into(),
            ];
            self.run(&ATTEMPT_INSERT, &values).await?;
        }
        Ok(true)
    }

    async fn record_many(
        &mut self,
        recorded: &[Recorded],
        sealed: &[Option<Vec<u8>>],
        owner: NodeId,
        now: Timestamp,
    ) -> Result<HashSet<DeliveryId>> {
        let new: Vec<Values<'_>> = recorded.iter().map(|recorded| recorded.values(now)).collect();
        let uuids = |of: fn(&Claimed) -> Uuid| -> Vec<Option<Uuid>> {
            recorded
                .iter()
                .map(|recorded| Some(of(&recorded.claimed)))
                .collect()
        };
        let (shards, ids) = (uuids(|c| c.shard), uuids(|c| c.id.as_uuid()));
        let numbers =
            |of: fn(&Values<'_>) -> Option<i64>| -> Vec<Option<i64>> { new.iter().map(of).collect() };
        let states: Vec<Option<&str>> = new.iter().map(|new| Some(new.state)).collect();
        let attempts = numbers(|new| i64::try_from(new.attempts).ok());
        let before: Vec<Option<i64>> = recorded
            .iter()
            .map(|recorded| i64::try_from(recorded.claimed.attempts).ok())
            .collect();
        let next = numbers(|new| Some(new.next_at.as_micros()));
        let finished = numbers(|new| new.finished_at.map(Timestamp::as_micros));
        let outcomes: Vec<Option<&str>> = new.iter().map(|new| Some(new.outcome)).collect();
        let redelivery = numbers(|new| Some(i64::from(new.redelivery)));
        let made: Vec<(usize, &Found)> = recorded
            .iter()
            .enumerate()
            .filter_map(|(i, recorded)| recorded.found.as_ref().map(|found| (i, found)))
            .collect();
        let of_made =
            |all: &[Option<Uuid>]| -> Vec<Option<Uuid>> { made.iter().map(|(i, _)| all[*i]).collect() };
        let (made_shards, made_ids) = (of_made(&shards), of_made(&ids));
        let n: Vec<Option<i64>> = made.iter().map(|(i, _)| attempts[*i]).collect();
        let of_found = |of: fn(&Found) -> Option<i64>| -> Vec<Option<i64>> {
            made.iter().map(|(_, found)| of(found)).collect()
        };
        let started = of_found(|found| Some(found.started_at.as_micros()));
        let took = of_found(|found| Some(found.duration.as_micros()));
        let status = of_found(|found| found.http_status.map(i64::from));
        let words: Vec<Option<&str>> = made
            .iter()
            .map(|(_, found)| Some(found.outcome.as_str()))
            .collect();
        let phases: Vec<Option<&str>> = made.iter().map(|(_, found)| found.phases.as_deref()).collect();
        let details: Vec<&[u8]> = made
            .iter()
            .map(|(i, _)| sealed[*i].as_deref().unwrap_or_default())
            .collect();
        let values = [
            owner.into(),
            shards.as_slice().into(),
            ids.as_slice().into(),
            states.as_slice().into(),
            attempts.as_slice().into(),
            next.as_slice().into(),
            finished.as_slice().into(),
            outcomes.as_slice().into(),
            redelivery.as_slice().into(),
            made_shards.as_slice().into(),
            made_ids.as_slice().into(),
            n.as_slice().into(),
            started.as_slice().into(),
            took.as_slice().into(),
            words.as_slice().into(),
            status.as_slice().into(),
            phases.as_slice().into(),
            details.as_slice().into(),
            before.as_slice().into(),
        ];
        let rows = self.all(&RECORD_MANY, &values).await?;
        rows.iter().map(|row| row.get("id")).collect()
    }
}
