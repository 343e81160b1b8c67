//! Whose turn it is, and the leases.
//!
//! A lane is a check and a channel. What stands before a delivery in its lane is looked up when it is claimed, not kept
//! in a column: an earlier flip's delivery is committed before a later one's, so whoever sees the later one sees the
//! earlier one too, and no lock is needed. At most one of a lane is open at its head, so at most one is in flight.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use allswell_core::delivery::Class;
use allswell_core::id::{ChannelId, DeliveryId, NodeId, ProjectId};
use allswell_core::limits;
use allswell_core::scope::SystemScope;
use allswell_core::time::{Span, Timestamp};
use uuid::Uuid;

use crate::db::{FromValue, Reader, Row, Tx, postgres_statements, statements};
use crate::{Error, Result};

/// Deliveries that are due in a channel and are looked at for what stands before them in their lanes.
const LOOKED_AT_MAX: u64 = 200;
/// Flips that one transaction leaves out of an alert which has too many.
const LEFT_OUT_MAX: u64 = 1_000;

macro_rules! claimed {
    () => {
        "shard, id, project_id, channel_id, class, seq, redelivery, note, attempts, next_at, expires_at, created_at"
    };
}

// Nothing stands before it in its lane. As a value and not as `not exists`: of that PostgreSQL makes a join, and in a table
// that has grown from nothing within seconds, of which its planner knows nothing, it read the whole index of lanes for
// each row. Behind one that somebody had sent again a newer one may be under way: that one ends first.
macro_rules! at_head {
    () => {
        "(select 1 from deliveries o
                         where o.shard = d.shard and o.channel_id = d.channel_id and o.seq < d.seq
                           and o.finished_at is null limit 1) is null
                    and (not d.redelivery or (select 1 from deliveries o
                         where o.shard = d.shard and o.channel_id = d.channel_id and o.seq > d.seq
                           and o.finished_at is null and o.lease_owner is not null limit 1) is null)"
    };
}

macro_rules! waiting {
    () => {
        "select shard, channel_id, seq from deliveries
                   where state = 'ready' and class = $1 and project_id = $2 and channel_id = $3 and next_at <= $4
                   order by next_at limit $6"
    };
}

// What somebody had sent again has its day from then on (`core::delivery::asked_at`), and is tried before it is overtaken, unless
// nothing could be sent for a fast phase.
macro_rules! overtaken {
    () => {
        "h.seq > 0 and h.seq < d.seq and h.state = 'ready' and (h.attempts >= $7 or h.created_at <= $5)
                and (not h.redelivery or h.expires_at <= $5 + 86400000000
                     or (select 1 from attempts a where a.shard = h.shard and a.delivery_id = h.id
                           and a.started_at >= h.expires_at - 86400000000 limit 1) is not null)
             order by h.shard"
    };
}

// Said of a row that is found by other columns. Not as `state = 'ready'`, for which such a planner took an index of all that
// is ready, and looked through it.
macro_rules! is_ready {
    () => {
        "coalesce(state, '') = 'ready'"
    };
}

statements! {
    // Materialized: as a plain subquery PostgreSQL may run the select again for each row it looks at, and each time take
    // `limit` more that are not locked yet.
    CLAIM = concat!("with due as materialized
                 (select d.shard, d.id from deliveries d
                  where d.state = 'ready' and d.class = $1 and d.project_id = $2 and d.channel_id = $3
                    and d.next_at <= $4 and d.attempts < $7 and ", at_head!(), "
                  order by d.next_at limit $8"), skipping locked, then concat!(")
             update deliveries set state = 'leased', lease_owner = $5, lease_until = $6
             where (shard, id) in (select shard, id from due) and ", is_ready!(), "
             returning ", claimed!());
    // Of lanes in which something that is due stands behind another: that other, where it is over its fast phase and waits
    // for its next try. Found as the head of its lane, so that thousands which wait in one lane cost one look.
    OVERTAKEN = concat!("select h.shard as shard, h.id as id, h.seq as seq
             from (select shard, max(seq) as seq from (", waiting!(), ") w group by shard) d
             join deliveries h on h.shard = d.shard and h.channel_id = $3 and h.finished_at is null
                and h.seq = (select o.seq from deliveries o where o.shard = d.shard and o.channel_id = $3
                               and o.finished_at is null order by o.seq limit 1)
             where ", overtaken!()),
        on postgres concat!("select h.shard as shard, h.id as id, h.seq as seq
             from (select shard, max(seq) as seq from (", waiting!(), ") w group by shard) d
             cross join lateral
                 (select o.shard, o.id, o.seq, o.state, o.attempts, o.created_at, o.redelivery, o.expires_at
                  from deliveries o
                  where o.shard = d.shard and o.channel_id = $3 and o.finished_at is null order by o.seq limit 1) h
             where ", overtaken!());
    // Not one that is under way: its message is written, and tells nothing of what it would overtake now. Locked, so that
    // no other node ends it before it has got what the overtaken ones told.
    NEWEST = concat!("select id, seq from deliveries
             where shard = $1 and channel_id = $2 and seq > $3 and finished_at is null and ", is_ready!(), "
             order by seq desc limit 1"), skipping locked, then "";
    BETWEEN = concat!("select id from deliveries
             where shard = $1 and channel_id = $2 and seq > $3 and seq < $4 and finished_at is null and ", is_ready!(), "
             order by seq limit $5"), skipping locked, then "";
    SUPERSEDE = "update deliveries set state = 'superseded', finished_at = $3, last_outcome = $5, lease_owner = null,
                        lease_until = null
             where shard = $1 and id = $2 and finished_at is null and (lease_owner is null or lease_owner = $4)";
    // What an overtaken one tells is told by the newer one. Its own flip is noted with that as a further occasion, which
    // comes behind all that there are; what it had taken over itself only moves on. So each flip has two rows at most,
    // however often it is handed on.
    HAND_OVER = "insert into delivery_flips (check_id, flip_seq, channel_id, occasion, delivery_id)
             select f.check_id, f.flip_seq, f.channel_id,
                    (select max(o.occasion) + 1 from delivery_flips o where o.check_id = f.check_id
                       and o.flip_seq = f.flip_seq and o.channel_id = f.channel_id), $3
             from delivery_flips f
             where f.check_id = $1 and f.delivery_id = $2 and f.occasion = 0
               and (select 1 from delivery_flips t where t.check_id = f.check_id and t.delivery_id = $3
                      and t.flip_seq = f.flip_seq limit 1) is null
             on conflict (check_id, flip_seq, channel_id, occasion) do nothing";
    MOVE_ON = "update delivery_flips set delivery_id = $3
             where check_id = $1 and delivery_id = $2 and occasion > 0 and flip_seq in
                 (select f.flip_seq from delivery_flips f where f.check_id = $1 and f.delivery_id = $2
                  order by f.flip_seq desc limit $4)";
    // Of more flips than one alert tells, the oldest. Each still has the row of its own delivery.
    LEAVE_OUT = "delete from delivery_flips
             where check_id = $1 and delivery_id = $2 and occasion > 0 and flip_seq in
                 (select f.flip_seq from delivery_flips f where f.check_id = $1 and f.delivery_id = $2
                  order by f.flip_seq desc limit $4 offset $3)";
    // Materialized as in CLAIM, so that a step gives no more back than it was told to.
    RELEASE_LAPSED = "with lapsed as materialized
                          (select shard, id from deliveries where state = 'leased' and lease_until <= $1 limit $2",
                      skipping locked, then ")
                      update deliveries set state = 'ready', lease_owner = null, lease_until = null
                      where (shard, id) in (select shard, id from lapsed)";
    // Leased is what has an owner, here and below. Naming the state would lead PostgreSQL to the index of all that is leased.
    RENEW = "update deliveries set lease_until = $5
             where shard = $1 and id = $2 and lease_owner = $3 and lease_until <= $4";
    RELEASE_ALL = "update deliveries set state = 'ready', lease_owner = null, lease_until = null
                   where state = 'leased'";
    RELEASE_MINE = "update deliveries set state = 'ready', lease_owner = null, lease_until = null
                   where state = 'leased' and lease_owner = $1";
    RELEASE_ONE = "update deliveries set state = 'ready', lease_owner = null, lease_until = null, next_at = $4
                   where shard = $1 and id = $2 and lease_owner = $3";
    DUE = "select class, project_id, channel_id, count(*) as ready from
               (select class, project_id, channel_id from deliveries where state = 'ready' and next_at <= $1
                order by next_at limit $2) due
           group by class, project_id, channel_id order by class, project_id, channel_id";
    // The same of those alone that have become due since somebody looked.
    DUE_SINCE = "select class, project_id, channel_id, count(*) as ready from
               (select class, project_id, channel_id from deliveries
                where state = 'ready' and next_at > $3 and next_at <= $1 order by next_at limit $2) due
           group by class, project_id, channel_id order by class, project_id, channel_id";
    // Crowded: a walk over the index from project to project, which reads one entry of each. `next_at >= 0` says nothing of
    // the rows; it opens the index by project, which is closed to all other statements (see its migration). Not `exists`, here
    // and below: PostgreSQL may answer that for all at once, from a list of everything that is due.
    PROJECTS = "with recursive p (id, n) as (
            select (select project_id from deliveries where state = 'ready' and class = $1 and project_id > $2
                    order by project_id limit 1), 1
            union all
            select (select d.project_id from deliveries d
                    where d.state = 'ready' and d.class = $1 and d.project_id > p.id
                    order by d.project_id limit 1), p.n + 1
            from p where p.id is not null and p.n < cast($4 as bigint))
        select p.id as id, (select 1 from deliveries d where d.state = 'ready' and d.class = $1 and d.project_id = p.id
                            and d.next_at >= 0 and d.next_at <= $3 limit 1) is not null as due
        from p where p.id is not null";
    CHANNELS = "with recursive c (id, n) as (
            select (select channel_id from deliveries where state = 'ready' and class = $1 and project_id = $2
                      and channel_id > $3 order by channel_id limit 1), 1
            union all
            select (select d.channel_id from deliveries d
                    where d.state = 'ready' and d.class = $1 and d.project_id = $2 and d.channel_id > c.id
                    order by d.channel_id limit 1), c.n + 1
            from c where c.id is not null and c.n < cast($5 as bigint))
        select c.id as id, (select 1 from deliveries d where d.state = 'ready' and d.class = $1 and d.project_id = $2
                            and d.channel_id = c.id and d.next_at <= $4 limit 1) is not null as due
        from c where c.id is not null";
    NEXT_AT = "select next_at from deliveries where state = 'ready' and next_at > $1 order by next_at limit 1";
    NEXT_LAPSE = "select lease_until from deliveries where state = 'leased' order by lease_until limit 1";
}

postgres_statements! {
    // The same select as in CLAIM, for many channels at once. Locked first and leased by their keys: an update from this
    // would be planned for as many rows as the tables might give.
    LOCK_MANY = concat!("select d.* from unnest($1::text[], $2::uuid[], $3::uuid[], $4::bigint[], $5::bigint[])
                as w (class, project_id, channel_id, attempts_below, wanted)
             cross join lateral
                 (select ", claimed!(), " from deliveries d
                  where d.state = 'ready' and d.class = w.class and d.project_id = w.project_id
                    and d.channel_id = w.channel_id and d.next_at <= $6 and d.attempts < w.attempts_below
                    and ", at_head!(), "
                  order by d.next_at limit w.wanted for update skip locked) d");
    LEASE_MANY = "update deliveries set state = 'leased', lease_owner = $3, lease_until = $4
             from unnest($1::uuid[], $2::uuid[]) as v (shard, id)
             where deliveries.shard = v.shard and deliveries.id = v.id";
}

/// A delivery that this process has claimed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claimed {
    /// The check it is about, or its own id if it is about none; part of its key.
    pub shard: Uuid,
    /// Its id, constant over all attempts.
    pub id: DeliveryId,
    /// The project.
    pub project: ProjectId,
    /// The channel it goes to.
    pub channel: ChannelId,
    /// What it is for.
    pub class: Class,
    /// The number of the flip it tells of; 0 if it tells none.
    pub seq: u64,
    /// Somebody asked to send it again.
    pub redelivery: bool,
    /// Of a note of our own: its code and data, as JSON.
    pub note: Option<String>,
    /// Attempts made before this one.
    pub attempts: u64,
    /// Since when it was due.
    pub next_at: Timestamp,
    /// After this instant it is no longer sent.
    pub expires_at: Timestamp,
    /// When it was promised.
    pub created_at: Timestamp,
}

/// Where deliveries are due.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Ready {
    /// What they are for.
    pub class: Class,
    /// The project.
    pub project: ProjectId,
    /// The channel.
    pub channel: ChannelId,
    /// How many, at least: behind some may be others.
    pub ready: u64,
}

/// What is to be claimed of one channel.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// What they are for.
    pub class: Class,
    /// The project.
    pub project: ProjectId,
    /// The channel.
    pub channel: ChannelId,
    /// How many at most.
    pub limit: u64,
    /// Only those with fewer attempts: the others wait for a target that fails.
    pub attempts_below: u64,
}

impl Wanted {
    fn place(&self) -> (Class, ProjectId, ChannelId) {
        (self.class, self.project, self.channel)
    }
}

/// The first of a lane that is open.
#[derive(Copy, Clone)]
struct Head {
    shard: Uuid,
    channel: ChannelId,
    id: DeliveryId,
    seq: u64,
}

fn from_row(row: &Row) -> Result<Claimed> {
    let (shard, id) = (row.get("shard")?, row.get("id")?);
    Ok(Claimed {
        shard,
        id,
        project: row.get("project_id")?,
        channel: row.get("channel_id")?,
        class: class(row)?,
        seq: row.get("seq")?,
        redelivery: row.get("redelivery")?,
        note: row.get("note")?,
        attempts: row.get("attempts")?,
        next_at: row.get("next_at")?,
        expires_at: row.get("expires_at")?,
        created_at: row.get("created_at")?,
    })
}

fn walked<T: FromValue + Ord>(rows: &[Row]) -> Result<Vec<(T, bool)>> {
    let pair = |row: &Row| Ok((row.get("id")?, row.get("due")?));
    let mut pairs = rows.iter().map(pair).collect::<Result<Vec<_>>>()?;
    pairs.sort_unstable();
    Ok(pairs)
}

fn due_of(rows: &[Row], limit: u64) -> Result<(Vec<Ready>, bool)> {
    let mut due = Vec::with_capacity(rows.len());
    for row in rows {
        due.push(Ready {
            class: class(row)?,
            project: row.get("project_id")?,
            channel: row.get("channel_id")?,
            ready: row.get("ready")?,
        });
    }
    let seen: u64 = due.iter().map(|ready| ready.ready).sum();
    Ok((due, seen >= limit))
}

fn class(row: &Row) -> Result<Class> {
    let word: String = row.get("class")?;
    Class::from_word(&word)
        .ok_or_else(|| Error::Corrupt(format!("a delivery has the unknown class {word:?}")))
}

impl Reader<'_> {
    /// Where deliveries are due at `now`, looking at no more than `limit` of them; `true` if there are more.
    pub async fn deliveries_due(
        &mut self,
        _: SystemScope,
        now: Timestamp,
        limit: u64,
    ) -> Result<(Vec<Ready>, bool)> {
        due_of(&self.all(&DUE, &[now.into(), limit.into()]).await?, limit)
    }

    /// Where deliveries have become due after `since` and until `now`, looking at no more than `limit` of them; `true` if
    /// there are more.
    pub async fn deliveries_due_since(
        &mut self,
        _: SystemScope,
        since: Timestamp,
        now: Timestamp,
        limit: u64,
    ) -> Result<(Vec<Ready>, bool)> {
        let values = [now.into(), limit.into(), since.into()];
        due_of(&self.all(&DUE_SINCE, &values).await?, limit)
    }

    /// The next `limit` projects after `after` with open deliveries of a class, in the order of their ids, each with
    /// whether one is due at `now`.
    pub async fn deliveries_projects(
        &mut self,
        _: SystemScope,
        class: Class,
        after: ProjectId,
        now: Timestamp,
        limit: u64,
    ) -> Result<Vec<(ProjectId, bool)>> {
        let values = [class.word().into(), after.into(), now.into(), limit.into()];
        let rows = self.all(&PROJECTS, &values).await?;
        walked(&rows)
    }

    /// The next `limit` channels after `after` of a project with open deliveries of a class, in the order of their ids,
    /// each with whether one is due at `now`.
    pub async fn deliveries_channels(
        &mut self,
        _: SystemScope,
        class: Class,
        project: ProjectId,
        after: ChannelId,
        now: Timestamp,
        limit: u64,
    ) -> Result<Vec<(ChannelId, bool)>> {
        let values = [
            class.word().into(),
            project.into(),
            after.into(),
            now.into(),
            limit.into(),
        ];
        let rows = self.all(&CHANNELS, &values).await?;
        walked(&rows)
    }

    /// The next instant after `now` at which a delivery becomes due, and the next at which a lease lapses.
    pub async fn deliveries_next(
        &mut self,
        _: SystemScope,
        now: Timestamp,
    ) -> Result<(Option<Timestamp>, Option<Timestamp>)> {
        let due = self.first(&NEXT_AT, &[now.into()]).await?;
        let lapse = self.first(&NEXT_LAPSE, &[]).await?;
        Ok((
            due.map(|row| row.get("next_at")).transpose()?,
            lapse.map(|row| row.get("lease_until")).transpose()?,
        ))
    }
}

impl Tx<'_> {
    /// Claims deliveries of a channel that are due and at the head of their lane, the longest due first, for `lease`.
    pub async fn deliveries_claim(
        &mut self,
        _: SystemScope,
        wanted: &Wanted,
        now: Timestamp,
        owner: NodeId,
        lease: Span,
    ) -> Result<Vec<Claimed>> {
        let values = [
            wanted.class.word().into(),
            wanted.project.into(),
            wanted.channel.into(),
            now.into(),
            owner.into(),
            (now + lease).into(),
            wanted.attempts_below.into(),
            wanted.limit.into(),
        ];
        let rows = self.all(&CLAIM, &values).await?;
        let mut claimed = rows.iter().map(from_row).collect::<Result<Vec<_>>>()?;
        // What RETURNING gives has no order.
        claimed.sort_by_key(|claimed| (claimed.next_at, claimed.id));
        Ok(claimed)
    }

    /// Claims as [`Self::deliveries_claim`] does, for each in turn; gives what was claimed for each.
    pub async fn deliveries_claim_many(
        &mut self,
        system: SystemScope,
        wanted: &[Wanted],
        now: Timestamp,
        owner: NodeId,
        lease: Span,
    ) -> Result<Vec<Vec<Claimed>>> {
        let mut claimed = vec![Vec::new(); wanted.len()];
        let mut by_itself: Vec<usize> = (0..wanted.len()).collect();
        if self.is_postgres() && wanted.len() > 1 {
            // What is wanted of a channel a second time takes of what is left then.
            let mut first = HashMap::with_capacity(wanted.len());
            by_itself.retain(|index| match first.entry(wanted[*index].place()) {
                Entry::Occupied(_) => true,
                Entry::Vacant(free) => {
                    free.insert(*index);
                    false
                }
            });
            let mut together: Vec<usize> = first.values().copied().collect();
            together.sort_unstable();
            let asked: Vec<Wanted> = together.iter().map(|index| wanted[*index]).collect();
            for got in self.claim_together(&asked, now, owner, lease).await? {
                let index = first[&(got.class, got.project, got.channel)];
                claimed[index].push(got);
            }
        }
        for index in by_itself {
            claimed[index] = self
                .deliveries_claim(system, &wanted[index], now, owner, lease)
                .await?;
        }
        Ok(claimed)
    }

    async fn claim_together(
        &mut self,
        wanted: &[Wanted],
        now: Timestamp,
        owner: NodeId,
        lease: Span,
    ) -> Result<Vec<Claimed>> {
        let number = |value: u64| Some(i64::try_from(value).unwrap_or(i64::MAX));
        let classes: Vec<Option<&str>> = wanted.iter().map(|wanted| Some(wanted.class.word())).collect();
        let projects: Vec<Option<Uuid>> = wanted
            .iter()
            .map(|wanted| Some(wanted.project.as_uuid()))
            .collect();
        let channels: Vec<Option<Uuid>> = wanted
            .iter()
            .map(|wanted| Some(wanted.channel.as_uuid()))
            .collect();
        let below: Vec<Option<i64>> = wanted
            .iter()
            .map(|wanted| number(wanted.attempts_below))
            .collect();
        let limits: Vec<Option<i64>> = wanted.iter().map(|wanted| number(wanted.limit)).collect();
        let values = [
            classes.as_slice().into(),
            projects.as_slice().into(),
            channels.as_slice().into(),
            below.as_slice().into(),
            limits.as_slice().into(),
            now.into(),
        ];
        let rows = self.all(&LOCK_MANY, &values).await?;
        let mut claimed = rows.iter().map(from_row).collect::<Result<Vec<_>>>()?;
        claimed.sort_by_key(|claimed| (claimed.next_at, claimed.id));
        let shards: Vec<Option<Uuid>> = claimed.iter().map(|claimed| Some(claimed.shard)).collect();
        let ids: Vec<Option<Uuid>> = claimed.iter().map(|claimed| Some(claimed.id.as_uuid())).collect();
        let values = [
            shards.as_slice().into(),
            ids.as_slice().into(),
            owner.into(),
            (now + lease).into(),
        ];
        if !claimed.is_empty() {
            self.run(&LEASE_MANY, &values).await?;
        }
        Ok(claimed)
    }

    /// Lets the newest deliveries of their lanes overtake those at the head which are over their fast phase (`tries`
    /// attempts, or promised before `promised_before`) and wait for their next try, with all between them. Gives how many
    /// were overtaken, at most `limit`: what is more goes the next time.
    pub async fn deliveries_overtake(
        &mut self,
        _: SystemScope,
        wanted: &Wanted,
        now: Timestamp,
        promised_before: Timestamp,
        tries: u64,
        limit: u64,
    ) -> Result<u64> {
        let values = [
            wanted.class.word().into(),
            wanted.project.into(),
            wanted.channel.into(),
            now.into(),
            promised_before.into(),
            LOOKED_AT_MAX.into(),
            tries.into(),
        ];
        let mut overtaken = 0;
        for row in &self.all(&OVERTAKEN, &values).await? {
            let left = limit.saturating_sub(overtaken);
            if left == 0 {
                break;
            }
            let head = Head {
                shard: row.get("shard")?,
                channel: wanted.channel,
                id: row.get("id")?,
                seq: row.get("seq")?,
            };
            overtaken += self.supersede(head, None, now, left).await?.0;
        }
        Ok(overtaken)
    }

    /// Lets the newest delivery of its lane overtake a claimed one that is over its fast phase, with all between them. Gives
    /// how many were overtaken, at most `limit` and at least one: if these were not all, it is given back, and goes the next
    /// time. 0 if nothing waits behind it.
    pub async fn delivery_overtake(
        &mut self,
        system: SystemScope,
        delivery: &Claimed,
        owner: NodeId,
        now: Timestamp,
        limit: u64,
    ) -> Result<u64> {
        if delivery.seq == 0 {
            return Ok(0);
        }
        let head = Head {
            shard: delivery.shard,
            channel: delivery.channel,
            id: delivery.id,
            seq: delivery.seq,
        };
        let (overtaken, whole) = self.supersede(head, Some(owner), now, limit.max(1)).await?;
        if !whole {
            self.delivery_release(system, delivery, owner, delivery.next_at)
                .await?;
        }
        Ok(overtaken)
    }

    /// Straight to the newest: were each handed to the next, what the first one told would be written as often as there are
    /// others. The head goes last, so that nothing behind it is told meanwhile. `true` if nothing is left to do.
    async fn supersede(
        &mut self,
        head: Head,
        owner: Option<NodeId>,
        now: Timestamp,
        limit: u64,
    ) -> Result<(u64, bool)> {
        let (shard, channel, behind) = (head.shard.into(), head.channel.into(), head.seq.into());
        let Some(newest) = self.first(&NEWEST, &[shard, channel, behind]).await? else {
            return Ok((0, true));
        };
        let (to, seq): (DeliveryId, u64) = (newest.get("id")?, newest.get("seq")?);
        let values = [shard, channel, behind, seq.into(), limit.into()];
        let between = self.all(&BETWEEN, &values).await?;
        let whole = (between.len() as u64) < limit;
        let mut older = Vec::with_capacity(between.len() + 1);
        for row in &between {
            older.push((row.get::<DeliveryId>("id")?, None));
        }
        older.extend(whole.then_some((head.id, owner)));
        let outcome = format!("overtaken by {to}");
        let kept = limits::ALERT_FLIPS_MAX.into();
        let mut overtaken = 0;
        for (id, owner) in older {
            let values = [shard, id.into(), now.into(), owner.into(), (&outcome).into()];
            if self.run(&SUPERSEDE, &values).await? > 0 {
                overtaken += 1;
                self.run(&HAND_OVER, &[shard, id.into(), to.into()]).await?;
                self.run(&MOVE_ON, &[shard, id.into(), to.into(), kept]).await?;
            }
        }
        let values = [shard, to.into(), kept, LEFT_OUT_MAX.into()];
        self.run(&LEAVE_OUT, &values).await?;
        Ok((overtaken, whole))
    }

    /// Gives deliveries back whose lease has lapsed: their owner is gone.
    pub async fn deliveries_release(&mut self, _: SystemScope, now: Timestamp, limit: i64) -> Result<u64> {
        self.run(&RELEASE_LAPSED, &[now.into(), limit.into()]).await
    }

    /// Lengthens leases of ours that the clock says have lapsed, though their attempts are under way: it was stepped.
    pub async fn deliveries_renew(
        &mut self,
        _: SystemScope,
        under_way: &[(Uuid, DeliveryId)],
        owner: NodeId,
        now: Timestamp,
        lease: Span,
    ) -> Result<u64> {
        let mut renewed = 0;
        for (shard, id) in under_way {
            let values = [
                (*shard).into(),
                (*id).into(),
                owner.into(),
                now.into(),
                (now + lease).into(),
            ];
            renewed += self.run(&RENEW, &values).await?;
        }
        Ok(renewed)
    }

    /// Gives all leased deliveries back. Only for the one server of a database, at its start.
    pub async fn deliveries_release_all(&mut self, _: SystemScope) -> Result<u64> {
        self.run(&RELEASE_ALL, &[]).await
    }

    /// Gives the deliveries back that this node has claimed: at its end.
    pub async fn deliveries_release_mine(&mut self, _: SystemScope, owner: NodeId) -> Result<u64> {
        self.run(&RELEASE_MINE, &[owner.into()]).await
    }

    /// Gives one back that was claimed and not tried, to be due at `next_at`.
    pub async fn delivery_release(
        &mut self,
        _: SystemScope,
        delivery: &Claimed,
        owner: NodeId,
        next_at: Timestamp,
    ) -> Result<u64> {
        let values = [
            delivery.shard.into(),
            delivery.id.into(),
            owner.into(),
            next_at.into(),
        ];
        self.run(&RELEASE_ONE, &values).await
    }
}
