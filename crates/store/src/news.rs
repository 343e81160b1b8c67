//! Flips of many checks at once, with the deliveries that they owe, for the moment when a crowd falls silent.
//!
//! On PostgreSQL each kind of row is one statement with arrays; on SQLite, where a statement costs no journey, the same
//! methods loop over those for one flip. A test holds that both ways leave the same rows.

use std::collections::{BTreeMap, HashMap};

use allswell_core::check::Check;
use allswell_core::delivery::{Owed, Route};
use allswell_core::flip::Flip;
use allswell_core::id::{CheckId, DeliveryId, ProjectId};
use allswell_core::incident::{self, Effect};
use allswell_core::scope::SystemScope;
use allswell_core::time::Timestamp;
use uuid::Uuid;

use crate::db::{Reader, Tx, postgres_statements};
use crate::outbox::NUDGE;
use crate::{Error, Result};

postgres_statements! {
    // From the checks to their channels, each looked up by its key: `offset 0` leaves the planner no other way. With joins it
    // went, where it has no statistics yet, from each channel of all projects through all of the checks.
    ROUTES = "select cc.check_id as check_id, c.id as id, c.tells_down as tells_down, c.tells_up as tells_up,
                     c.disabled_at as disabled_at
              from unnest($1::uuid[]) as v (check_id)
              cross join lateral
                  (select o.check_id, o.channel_id from check_channels o where o.check_id = v.check_id offset 0) cc
              cross join lateral
                  (select o.id, o.tells_down, o.tells_up, o.disabled_at from channels o
                   where o.id = cc.channel_id and o.deleted_at is null offset 0) c
              order by c.id";
    // What goes with the flips and needs no number of their projects. `effect` is 1 for a flip that opens an incident and 2
    // for one that closes it.
    BESIDE_FLIPS = "with v as (
            select unnest($1::uuid[]) as check_id, unnest($2::bigint[]) as seq,
                    unnest($3::uuid[]) as project_id, unnest($4::bigint[]) as at, unnest($5::bigint[]) as effect
        ), m as (
            insert into prune_due (check_id) select check_id from v on conflict (check_id) do nothing
        ), o as (
            insert into incidents (check_id, opened_seq, project_id, opened_at)
            select check_id, seq, project_id, at from v where effect = 1
        )
        update incidents set closed_seq = v.seq, closed_at = v.at from v
        where incidents.check_id = v.check_id and incidents.closed_seq is null and v.effect = 2";
    // Locked in the order of the projects, so that two nodes wait for each other in one direction. From here to the commit
    // nobody else writes a flip of these projects, so this is one statement, the last, and has nothing else in it. `nth`
    // counts the flips of a project.
    FLIPS = "with l as materialized (
            select project_id from project_changes where project_id = any($12::uuid[]) order by project_id
            for no key update
        ), t as (
            update project_changes set seq = project_changes.seq + w.taken
            from unnest($12::uuid[], $13::bigint[]) as w (project_id, taken) join l on l.project_id = w.project_id
            where project_changes.project_id = w.project_id
            returning project_changes.project_id as project_id, project_changes.seq - w.taken as before
        )
        insert into flips (check_id, seq, project_id, change_seq, at, noticed_at, from_status, to_status, expected_at,
                           reason_code, reason_data)
        select v.check_id, v.seq, v.project_id, t.before + v.nth, v.at, v.noticed_at, v.from_status, v.to_status,
               v.expected_at, v.reason_code, v.reason_data
        from (select unnest($1::uuid[]) as check_id, unnest($2::bigint[]) as seq,
                    unnest($3::uuid[]) as project_id, unnest($4::bigint[]) as nth, unnest($5::bigint[]) as at,
                    unnest($6::bigint[]) as noticed_at, unnest($7::bigint[]) as from_status,
                    unnest($8::bigint[]) as to_status, unnest($9::bigint[]) as expected_at,
                    unnest($10::text[]) as reason_code, unnest($11::text[]) as reason_data) v
        join t on t.project_id = v.project_id";
    DELIVERIES = "with v as (
            select unnest($1::uuid[]) as check_id, unnest($2::bigint[]) as flip_seq,
                    unnest($3::uuid[]) as project_id, unnest($4::uuid[]) as channel_id, unnest($5::uuid[]) as id,
                    unnest($6::text[]) as class, unnest($7::bigint[]) as created_at,
                    unnest($8::bigint[]) as expires_at
        ), o as (
            insert into delivery_flips (check_id, flip_seq, channel_id, occasion, delivery_id)
            select check_id, flip_seq, channel_id, 0, id from v
            on conflict (check_id, flip_seq, channel_id, occasion) do nothing
            returning delivery_id
        )
        insert into deliveries (shard, id, project_id, channel_id, class, state, attempts, next_at, expires_at,
                                created_at, seq)
        select v.check_id, v.id, v.project_id, v.channel_id, v.class, 'ready', 0, v.created_at, v.expires_at,
               v.created_at, v.flip_seq
        from v where (v.id in (select delivery_id from o)) is true";
}

/// A flip, of whom, and when it was noticed.
#[derive(Copy, Clone)]
pub struct News<'n> {
    /// The check, saved already.
    pub check: &'n Check,
    /// What happened to it.
    pub flip: &'n Flip,
    /// When.
    pub noticed_at: Timestamp,
}

/// A delivery that a flip owes.
pub struct Promise<'n> {
    /// The flip.
    pub news: News<'n>,
    /// To whom, and until when.
    pub owed: Owed,
    /// The delivery's id.
    pub id: DeliveryId,
}

fn signed(number: u64) -> Option<i64> {
    Some(i64::try_from(number).unwrap_or(i64::MAX))
}

impl Reader<'_> {
    /// [`Reader::routes`] for each of these checks; one without channels is left out.
    pub async fn routes_of(
        &mut self,
        system: SystemScope,
        checks: &[CheckId],
    ) -> Result<HashMap<CheckId, Vec<Route>>> {
        let mut routes: HashMap<CheckId, Vec<Route>> = HashMap::new();
        if !self.is_postgres() {
            for check in checks {
                routes.insert(*check, self.routes(system, *check).await?);
            }
            return Ok(routes);
        }
        let ids: Vec<Option<Uuid>> = checks.iter().map(|check| Some(check.as_uuid())).collect();
        for row in self.all(&ROUTES, &[ids.as_slice().into()]).await? {
            let check = row.get("check_id")?;
            let route = Route {
                channel: row.get("id")?,
                tells_down: row.get("tells_down")?,
                tells_up: row.get("tells_up")?,
                disabled: row.get::<Option<Timestamp>>("disabled_at")?.is_some(),
            };
            routes.entry(check).or_default().push(route);
        }
        Ok(routes)
    }
}

impl Tx<'_> {
    /// [`Tx::flip_insert`] for each. No check may be there twice. Last in its transaction where that can be: until the
    /// commit nobody else writes a flip of these projects.
    pub async fn flips_insert(&mut self, system: SystemScope, news: &[News<'_>]) -> Result<()> {
        if !self.is_postgres() {
            for one in news {
                self.flip_insert(system, one.check, one.flip, one.noticed_at)
                    .await?;
            }
            return Ok(());
        }
        if news.is_empty() {
            return Ok(());
        }
        let mut flips = Flips::default();
        let mut taken: BTreeMap<ProjectId, i64> = BTreeMap::new();
        for one in news {
            let nth = taken.entry(one.check.project).or_default();
            *nth += 1;
            flips.add(one, *nth);
        }
        let [seq, nth, at, noticed_at, from, to, expected_at, effect] = &flips.numbers;
        let values = [
            flips.checks.as_slice().into(),
            seq.as_slice().into(),
            flips.projects.as_slice().into(),
            at.as_slice().into(),
            effect.as_slice().into(),
        ];
        self.run(&BESIDE_FLIPS, &values).await?;
        let codes: Vec<Option<&str>> = flips
            .reasons
            .iter()
            .map(|(code, _)| Some(code.as_str()))
            .collect();
        let data: Vec<Option<&str>> = flips
            .reasons
            .iter()
            .map(|(_, data)| Some(data.as_str()))
            .collect();
        let projects: Vec<Option<Uuid>> = taken.keys().map(|id| Some(id.as_uuid())).collect();
        let counts: Vec<Option<i64>> = taken.values().copied().map(Some).collect();
        let values = [
            flips.checks.as_slice().into(),
            seq.as_slice().into(),
            flips.projects.as_slice().into(),
            nth.as_slice().into(),
            at.as_slice().into(),
            noticed_at.as_slice().into(),
            from.as_slice().into(),
            to.as_slice().into(),
            expected_at.as_slice().into(),
            codes.as_slice().into(),
            data.as_slice().into(),
            projects.as_slice().into(),
            counts.as_slice().into(),
        ];
        let written = self.run(&FLIPS, &values).await?;
        if written != news.len() as u64 {
            return Err(Error::Corrupt("a project counts no changes".to_owned()));
        }
        self.mark_changed();
        Ok(())
    }

    /// [`Tx::delivery_insert`] for each.
    pub async fn deliveries_insert(&mut self, system: SystemScope, promises: &[Promise<'_>]) -> Result<()> {
        if !self.is_postgres() {
            for promise in promises {
                self.delivery_insert(system, promise).await?;
            }
            return Ok(());
        }
        if promises.is_empty() {
            return Ok(());
        }
        let ids = |of: fn(&Promise<'_>) -> Uuid| promises.iter().map(|one| Some(of(one))).collect::<Vec<_>>();
        let numbers =
            |of: fn(&Promise<'_>) -> Option<i64>| promises.iter().map(of).collect::<Vec<Option<i64>>>();
        let classes: Vec<Option<&str>> = promises.iter().map(|one| Some(one.owed.class.word())).collect();
        let (checks, projects) = (
            ids(|one| one.news.check.id.as_uuid()),
            ids(|one| one.news.check.project.as_uuid()),
        );
        let (channels, own) = (ids(|one| one.owed.channel.as_uuid()), ids(|one| one.id.as_uuid()));
        let seqs = numbers(|one| signed(one.news.flip.seq));
        let created = numbers(|one| Some(one.news.noticed_at.as_micros()));
        let expires = numbers(|one| Some(one.owed.expires_at.as_micros()));
        let values = [
            checks.as_slice().into(),
            seqs.as_slice().into(),
            projects.as_slice().into(),
            channels.as_slice().into(),
            own.as_slice().into(),
            classes.as_slice().into(),
            created.as_slice().into(),
            expires.as_slice().into(),
        ];
        self.nudge(NUDGE);
        self.run(&DELIVERIES, &values).await.map(drop)
    }
}

/// The columns of the flips.
#[derive(Default)]
struct Flips {
    checks: Vec<Option<Uuid>>,
    projects: Vec<Option<Uuid>>,
    /// Number, which of its project, instant, notice, from, to, expected, effect.
    numbers: [Vec<Option<i64>>; 8],
    reasons: Vec<(String, String)>,
}

impl Flips {
    fn add(&mut self, news: &News<'_>, nth: i64) {
        let flip = news.flip;
        self.checks.push(Some(news.check.id.as_uuid()));
        self.projects.push(Some(news.check.project.as_uuid()));
        let row = [
            signed(flip.seq),
            Some(nth),
            Some(flip.at.as_micros()),
            Some(news.noticed_at.as_micros()),
            Some(flip.from.number()),
            Some(flip.to.number()),
            flip.expected_at.map(Timestamp::as_micros),
            incident::effect(flip).map(|effect| match effect {
                Effect::Opens => 1,
                Effect::Closes => 2,
            }),
        ];
        for (column, value) in self.numbers.iter_mut().zip(row) {
            column.push(value);
        }
        self.reasons.push(flip.reason.to_parts());
    }
}
