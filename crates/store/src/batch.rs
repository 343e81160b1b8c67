//! Many rows in one statement, for the path that every ping takes.
//!
//! On PostgreSQL a batch of pings is at most one look, and one change, each a single round trip with arrays; on SQLite, where a
//! statement costs no journey, the same methods loop over prepared ones.

use std::collections::{HashMap, HashSet};

use allswell_core::chance::Dice;
use allswell_core::check::Check;
use allswell_core::id::{CheckId, ProjectId};
use allswell_core::key;
use allswell_core::scope::{ProjectScope, SystemScope};
use allswell_core::time::Timestamp;
use uuid::Uuid;

use crate::checks::{Found, columns, from_row};
use crate::db::{Columns, FromColumns, Reader, Tx, postgres_statements};
use crate::ping_keys::KeyRules;
use crate::pings::{Ping, SealedBodies};
use crate::{Error, Result};

postgres_statements! {
    CHECKS = concat!("select ", columns!(), " from checks where id = any($1) and deleted_at is null");
    // The number of the rules is looked up once, not for each row.
    CHECKS_WITH_RULES = concat!("select ", columns!(), ",
            coalesce((select cast(value as bigint) from instance where name = 'ping_key_rules'), 0) as key_rules
        from checks where id = any($1) and deleted_at is null");
    // Looked up one by one: with `in` the planner, where it has no statistics yet, read all that have a slug.
    CHECKS_BY_SLUG = concat!("select ", columns!(), " from (select distinct * from unnest($1::uuid[], $2::text[]))
            as v (in_project, with_slug)
        cross join lateral
            (select * from checks where project_id = v.in_project and slug = v.with_slug and slug <> ''
               and deleted_at is null offset 0) c
        order by created_at, id");
    PING_KEYS = "select k.lookup as lookup, k.project_id as project_id, k.hash as hash, k.expires_at as expires_at
        from api_keys k join projects p on p.id = k.project_id
        where k.lookup = any($1) and k.kind = 'ping' and k.revoked_at is null and p.deleted_at is null";
    // What it gives is the first of as many as a step of the sequence is.
    BODY_IDS = "select nextval('ping_body_ids') as first";
    // The rows of the checks are changed if nobody else was first, and pings and bodies of those checks go in with them.
    // A deadline that may stay is written as it was, which leaves its index alone. The numbers of the bodies are taken
    // beforehand: asked back from the insert and joined to the pings they were a fifth of what this statement took.
    // Arrays are taken apart beside each other, in the list of what is selected: as a table of `unnest` with many arrays
    // each of them, bodies too, is copied into a store of its own first (2 of 21 µs a ping with 1 kB).
    SAVE = "with c as (
            update checks set version = checks.version + 1, status = v.status, status_since = v.status_since,
                last_ping_at = v.last_ping_at, last_start_at = v.last_start_at, last_start_rid = v.last_start_rid,
                last_duration = v.last_duration, excused_until = v.excused_until, ping_count = v.ping_count, flip_count = v.flip_count,
                pings_not_kept = v.pings_not_kept, last_success_at = v.last_success_at, paused_until = v.paused_until,
                last_alive_at = v.last_alive_at,
                deadline = case when v.moves = 1 then v.deadline else checks.deadline end
            from (select unnest($1::uuid[]) as id, unnest($2::bigint[]) as version, unnest($3::bigint[]) as status,
                    unnest($4::bigint[]) as status_since, unnest($5::bigint[]) as last_ping_at,
                    unnest($6::bigint[]) as last_start_at, unnest($7::uuid[]) as last_start_rid,
                    unnest($8::bigint[]) as last_duration, unnest($9::bigint[]) as ping_count,
                    unnest($10::bigint[]) as flip_count, unnest($11::bigint[]) as deadline,
                    unnest($12::bigint[]) as moves, unnest($28::bigint[]) as excused_until,
                    unnest($29::bigint[]) as pings_not_kept, unnest($30::bigint[]) as last_success_at,
                    unnest($31::bigint[]) as paused_until, unnest($32::bigint[]) as last_alive_at) v
            where checks.id = v.id and checks.version = v.version and checks.deleted_at is null
                and ($35::bigint is null or $35 =
                    coalesce((select cast(value as bigint) from instance where name = 'ping_key_rules'), 0))
            returning checks.id
        ), b as (
            insert into ping_bodies (id, check_id, n, sealed)
            select v.id, v.check_id, v.n, v.sealed
            from (select unnest($33::bigint[]) as id, unnest($25::uuid[]) as check_id, unnest($26::bigint[]) as n,
                    unnest($27::bytea[]) as sealed) v
            join c on c.id = v.check_id
        ), p as (
            insert into pings (check_id, n, at, kind, source, exit_status, rid, scheme, method, remote_addr, user_agent,
                               body_bytes, body_id)
            select v.check_id, v.n, v.at, v.kind, v.source, v.exit_status, v.rid, v.scheme, v.method, v.remote_addr,
                   v.user_agent, v.body_bytes, v.body_id
            from (select unnest($13::uuid[]) as check_id, unnest($14::bigint[]) as n, unnest($15::bigint[]) as at,
                    unnest($16::bigint[]) as kind, unnest($17::bigint[]) as source,
                    unnest($18::bigint[]) as exit_status, unnest($19::uuid[]) as rid,
                    unnest($20::text[]) as scheme, unnest($21::text[]) as method,
                    unnest($22::text[]) as remote_addr, unnest($23::text[]) as user_agent,
                    unnest($24::bigint[]) as body_bytes, unnest($34::bigint[]) as body_id) v
            join c on c.id = v.check_id
        )
        select id from c";
    MARKS = "insert into prune_due (check_id) select unnest($1::uuid[]) on conflict (check_id) do nothing";
}

/// The step of the sequence of bodies' numbers on PostgreSQL.
const BODY_IDS_STEP: i64 = 1_024;

/// A ping that was decided, with its body.
pub struct Logged<'a> {
    /// Its row.
    pub ping: Ping<&'a str>,
    /// What came with it, as it came.
    pub body: &'a [u8],
}

/// A check that a batch changes, with the pings that changed it.
pub struct Changed<'a> {
    /// The new state, with the version that was read.
    pub check: &'a mut Check,
    /// When it goes down if nothing more is heard.
    pub deadline: Option<Timestamp>,
    /// In the order of their numbers.
    pub pings: Vec<Logged<'a>>,
    /// The stored wake-up becomes the true deadline also where it may stay: for the sweep, which would find the check again
    /// at once otherwise.
    pub exact: bool,
    /// Its log has grown by a page: retention is to look at it.
    pub is_page_full: bool,
}

/// What a transaction writes behind a batch.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Then {
    /// More, perhaps.
    More,
    /// Nothing: on PostgreSQL the commit goes with the batch, in one journey.
    Nothing,
}

/// Under which terms a batch is written.
#[derive(Copy, Clone, Debug)]
pub struct Terms {
    /// What comes behind it.
    pub then: Then,
    /// Nothing is written if projects ask for other keys than this by then. For checks that were read in an earlier
    /// transaction: what their projects ask for is not part of them.
    pub key_rules: Option<KeyRules>,
}

impl From<Then> for Terms {
    fn from(then: Then) -> Self {
        Terms {
            then,
            key_rules: None,
        }
    }
}

/// A check, and what projects asked of pings when it was read.
struct UnderRules {
    check: Check,
    key_rules: KeyRules,
}

impl FromColumns for UnderRules {
    fn from_columns(row: &impl Columns) -> Result<Self> {
        Ok(UnderRules {
            check: Check::from_columns(row)?,
            key_rules: KeyRules(row.get("key_rules")?),
        })
    }
}

impl Changed<'_> {
    /// Whether the stored wake-up must be written: one that is earlier than the true deadline may stay
    /// (see [`Tx::check_save_state`]).
    pub(crate) fn moves(&self) -> bool {
        match (self.check.deadline, self.deadline) {
            _ if self.exact => true,
            (Some(stored), Some(new)) => stored > new,
            (stored, new) => stored != new,
        }
    }
}

impl Reader<'_> {
    /// Checks of any project by their ids; those that are not there are left out.
    pub async fn checks_any(&mut self, system: SystemScope, ids: &[CheckId]) -> Result<Vec<Check>> {
        if self.is_postgres() {
            let ids: Vec<Option<Uuid>> = ids.iter().map(|id| Some(id.as_uuid())).collect();
            return self.decoded(&CHECKS, &[[ids.as_slice().into()]]).await;
        }
        self.checks_each(system, ids).await
    }

    /// The same, and under which rules about keys they were read; `None` where nothing was found.
    pub async fn checks_under_rules(
        &mut self,
        system: SystemScope,
        ids: &[CheckId],
    ) -> Result<(Vec<Check>, Option<KeyRules>)> {
        if self.is_postgres() {
            let ids: Vec<Option<Uuid>> = ids.iter().map(|id| Some(id.as_uuid())).collect();
            let read: Vec<UnderRules> = self
                .decoded(&CHECKS_WITH_RULES, &[[ids.as_slice().into()]])
                .await?;
            let key_rules = read.first().map(|one| one.key_rules);
            return Ok((read.into_iter().map(|one| one.check).collect(), key_rules));
        }
        let key_rules = self.key_rules().await?;
        Ok((self.checks_each(system, ids).await?, Some(key_rules)))
    }

    /// What each pair of project and slug finds.
    pub async fn checks_by_slugs(
        &mut self,
        _: SystemScope,
        wanted: &[(ProjectId, String)],
    ) -> Result<HashMap<(ProjectId, String), Found>> {
        let mut found = HashMap::new();
        if self.is_postgres() && wanted.len() > 1 {
            let projects: Vec<Option<Uuid>> = wanted.iter().map(|(id, _)| Some(id.as_uuid())).collect();
            let slugs: Vec<Option<&str>> = wanted.iter().map(|(_, slug)| Some(slug.as_str())).collect();
            let values = [projects.as_slice().into(), slugs.as_slice().into()];
            for row in self.all(&CHECKS_BY_SLUG, &values).await? {
                let check = from_row(&row)?;
                let key = (check.project, check.settings.slug.clone());
                let several = found.contains_key(&key);
                let here = if several {
                    Found::Ambiguous
                } else {
                    Found::One(Box::new(check))
                };
                found.insert(key, here);
            }
            for key in wanted {
                found.entry(key.clone()).or_insert(Found::None);
            }
            return Ok(found);
        }
        for key in wanted {
            let one = self.check_by_slug(ProjectScope::granted(key.0), &key.1).await?;
            found.insert(key.clone(), one);
        }
        Ok(found)
    }
}

impl Reader<'_> {
    /// The projects that ping keys open, each at its instant. Keys that open nothing are left out.
    pub async fn projects_by_ping_keys<'k>(
        &mut self,
        system: SystemScope,
        keys: &[(&'k str, Timestamp)],
    ) -> Result<HashMap<&'k str, ProjectId>> {
        let mut projects = HashMap::new();
        if self.is_postgres() && keys.len() > 1 {
            let lookups: Vec<String> = keys.iter().map(|(text, _)| key::lookup(text)).collect();
            let wanted: Vec<Option<&str>> = lookups.iter().map(|lookup| Some(lookup.as_str())).collect();
            let rows = self.all(&PING_KEYS, &[wanted.as_slice().into()]).await?;
            for row in &rows {
                let (lookup, project): (String, ProjectId) = (row.get("lookup")?, row.get("project_id")?);
                let hash: Vec<u8> = row.get("hash")?;
                let expires_at: Option<Timestamp> = row.get("expires_at")?;
                for ((text, now), _) in keys.iter().zip(&lookups).filter(|(_, other)| **other == lookup) {
                    if expires_at.is_none_or(|at| *now < at) && self.vault.pepper()?.recognises(text, &hash) {
                        projects.insert(*text, project);
                    }
                }
            }
            return Ok(projects);
        }
        for (text, now) in keys {
            if let Some(project) = self.project_by_ping_key(system, text, *now).await? {
                projects.insert(*text, project);
            }
        }
        Ok(projects)
    }
}

impl Tx<'_> {
    /// Writes checks and their pings, each check only if nobody changed it since it was read. Gives the ids of those
    /// that were written; of the others nothing was. Where the terms say that nothing follows, the transaction is not to be asked
    /// anything afterwards, and what it wrote may stay even if the closure it runs in fails.
    pub async fn batch_save(
        &mut self,
        system: SystemScope,
        changed: &mut [Changed<'_>],
        terms: impl Into<Terms>,
        dice: &mut Dice,
    ) -> Result<Vec<CheckId>> {
        let terms = terms.into();
        // In the order of their ids, so that two nodes wait for each other's rows in one direction.
        changed.sort_by_key(|changed| changed.check.id);
        if self.is_postgres() {
            // In a box: much is to be remembered while PostgreSQL is waited for.
            Box::pin(self.batch_save_at_once(changed, terms, dice)).await
        } else {
            if let Some(known) = terms.key_rules
                && self.key_rules().await? != known
            {
                return Ok(Vec::new());
            }
            self.batch_save_one_by_one(system, changed, dice).await
        }
    }

    async fn batch_save_one_by_one(
        &mut self,
        system: SystemScope,
        changed: &mut [Changed<'_>],
        dice: &mut Dice,
    ) -> Result<Vec<CheckId>> {
        let won = self.check_save_states(changed).await?;
        let mut saved = Vec::with_capacity(changed.len());
        let mut logged = Vec::with_capacity(changed.len());
        for (changed, _) in changed.iter().zip(won).filter(|(_, won)| *won) {
            let check = &changed.check;
            saved.push(check.id);
            logged.extend(changed.pings.iter().map(|one| (check.project, check.id, one)));
        }
        self.pings_insert(&logged, dice).await?;
        for id in full_pages(changed) {
            self.ping_log_mark(system, id).await?;
        }
        self.batch_save_recent(changed, &saved).await?;
        Ok(saved)
    }

    /// So many numbers for bodies, of those that this process has taken.
    pub(crate) async fn body_ids_taken(&mut self, wanted: usize) -> Result<Vec<i64>> {
        let mut taken = Vec::with_capacity(wanted);
        let Some(free) = self.free_body_ids() else {
            return Ok(taken);
        };
        free.take(wanted, &mut taken);
        while taken.len() < wanted {
            let row = self.first(&BODY_IDS, &[]).await?;
            let row = row.ok_or_else(|| Error::Internal("a sequence gave no number".to_owned()))?;
            let first: i64 = row.get("first")?;
            free.add(first..first + BODY_IDS_STEP);
            free.take(wanted, &mut taken);
        }
        Ok(taken)
    }

    /// What came of writing bodies with numbers that were taken beforehand. If a rule was broken, others may have the same
    /// numbers, and the next try takes new ones.
    pub(crate) fn body_ids_used<T>(&self, written: Result<T>) -> Result<T> {
        if let (Err(Error::Conflict(_)), Some(free)) = (&written, self.free_body_ids()) {
            free.forget();
        }
        written
    }

    async fn batch_save_at_once(
        &mut self,
        changed: &mut [Changed<'_>],
        terms: Terms,
        dice: &mut Dice,
    ) -> Result<Vec<CheckId>> {
        let checks = Checks::of(changed);
        let mut pings = Pings::default();
        let mut bodies = Bodies::default();
        let mut sealed = SealedBodies::with_room(changed.iter().flat_map(|changed| &changed.pings));
        let mut ids = self.body_ids(sealed.expected()).await?.into_iter();
        for Changed {
            check, pings: logged, ..
        } in changed.iter()
        {
            let id = check.id.as_uuid();
            for one in logged {
                let mut body = None;
                if !one.body.is_empty() {
                    let key = self.data_key(check.project).await?;
                    sealed.seal(&key, check.project, check.id, one, dice);
                    body = ids.next();
                    bodies.ids.push(body);
                    bodies.checks.push(Some(id));
                    bodies.numbers.push(Some(signed(one.ping.n)));
                }
                pings.add(id, &one.ping, body);
            }
        }
        let sealed: Vec<&[u8]> = sealed.iter().collect();
        let [
            status,
            since,
            last_ping,
            last_start,
            duration,
            ping_count,
            flip_count,
            deadline,
            moves,
            excused_until,
            not_kept,
            last_success,
            paused_until,
            last_alive,
        ] = &checks.numbers;
        let [n, at, kind, source, exit_status, body_bytes] = &pings.numbers;
        let values = [
            checks.ids.as_slice().into(),
            checks.versions.as_slice().into(),
            status.as_slice().into(),
            since.as_slice().into(),
            last_ping.as_slice().into(),
            last_start.as_slice().into(),
            checks.rids.as_slice().into(),
            duration.as_slice().into(),
            ping_count.as_slice().into(),
            flip_count.as_slice().into(),
            deadline.as_slice().into(),
            moves.as_slice().into(),
            pings.ids.as_slice().into(),
            n.as_slice().into(),
            at.as_slice().into(),
            kind.as_slice().into(),
            source.as_slice().into(),
            exit_status.as_slice().into(),
            pings.rids.as_slice().into(),
            pings.schemes.as_slice().into(),
            pings.methods.as_slice().into(),
            pings.remotes.as_slice().into(),
            pings.agents.as_slice().into(),
            body_bytes.as_slice().into(),
            bodies.checks.as_slice().into(),
            bodies.numbers.as_slice().into(),
            sealed.as_slice().into(),
            excused_until.as_slice().into(),
            not_kept.as_slice().into(),
            last_success.as_slice().into(),
            paused_until.as_slice().into(),
            last_alive.as_slice().into(),
            bodies.ids.as_slice().into(),
            pings.bodies.as_slice().into(),
            terms.key_rules.map(|rules| rules.0).into(),
        ];
        // Behind the checks, whose locks they wait for then and not the other way round. (Of three nodes that meet here one may
        // still be broken off by the server; it does its batch again.)
        let marks: Vec<_> = full_pages(changed).map(|id| Some(id.as_uuid())).collect();
        let mark = [marks.as_slice().into()];
        let mark = Some((&MARKS, &mark[..])).filter(|_| !marks.is_empty());
        let remembers = changed.iter().any(|one| one.check.settings.rules.remember());
        let ends = terms.then == Then::Nothing && !remembers;
        let written = self.all_then((&SAVE, &values), mark, ends).await;
        let rows = self.body_ids_used(written)?;
        let saved: Vec<CheckId> = rows.iter().map(|row| row.get("id")).collect::<Result<_>>()?;
        let won: HashSet<CheckId> = saved.iter().copied().collect();
        for changed in changed
            .iter_mut()
            .filter(|changed| won.contains(&changed.check.id))
        {
            changed.check.version += 1;
            if changed.moves() {
                changed.check.deadline = changed.deadline;
            }
        }
        self.batch_save_recent(changed, &saved).await?;
        Ok(saved)
    }
}

/// The checks whose logs retention is to look at. Where one was lost to another writer that is a look for nothing.
fn full_pages(changed: &[Changed<'_>]) -> impl Iterator<Item = CheckId> {
    let full = changed.iter().filter(|changed| changed.is_page_full);
    full.map(|changed| changed.check.id)
}

/// The columns of the checks of a batch.
#[derive(Default)]
struct Checks {
    ids: Vec<Option<Uuid>>,
    versions: Vec<Option<i64>>,
    rids: Vec<Option<Uuid>>,
    /// Status, since, last ping, last start, last duration, pings, flips, deadline, whether that moves, excuse, pings that
    /// are not kept, last success, end of the pause, last sign of life.
    numbers: [Vec<Option<i64>>; 14],
}

impl Checks {
    fn of(changed: &[Changed<'_>]) -> Self {
        let mut columns = Checks::default();
        for one in changed {
            let state = &one.check.state;
            columns.ids.push(Some(one.check.id.as_uuid()));
            columns.versions.push(Some(one.check.version));
            columns.rids.push(state.last_start_rid);
            let row = [
                Some(state.status.number()),
                Some(state.status_since.as_micros()),
                state.last_ping.map(Timestamp::as_micros),
                state.last_start.map(Timestamp::as_micros),
                state.last_duration.map(|span| span.as_micros()),
                Some(signed(state.ping_count)),
                Some(signed(state.flip_count)),
                one.deadline.map(Timestamp::as_micros),
                Some(one.moves().into()),
                state.excused_until.map(Timestamp::as_micros),
                Some(signed(state.not_kept)),
                state.last_success.map(Timestamp::as_micros),
                state.paused_until.map(Timestamp::as_micros),
                state.last_alive.map(Timestamp::as_micros),
            ];
            for (column, value) in columns.numbers.iter_mut().zip(row) {
                column.push(value);
            }
        }
        columns
    }
}

/// The columns of the pings of a batch.
#[derive(Default)]
struct Pings<'p> {
    ids: Vec<Option<Uuid>>,
    rids: Vec<Option<Uuid>>,
    /// Number, instant, kind, source, exit status, bytes of the body.
    numbers: [Vec<Option<i64>>; 6],
    schemes: Vec<Option<&'p str>>,
    methods: Vec<Option<&'p str>>,
    remotes: Vec<Option<&'p str>>,
    agents: Vec<Option<&'p str>>,
    /// The numbers of their bodies.
    bodies: Vec<Option<i64>>,
}

impl<'p> Pings<'p> {
    fn add(&mut self, check: Uuid, ping: &Ping<&'p str>, body: Option<i64>) {
        self.ids.push(Some(check));
        self.rids.push(ping.rid);
        let row = [
            Some(signed(ping.n)),
            Some(ping.at.as_micros()),
            Some(ping.kind.number()),
            Some(ping.source.number()),
            ping.exit_status.map(i64::from),
            Some(signed(ping.body_bytes)),
        ];
        for (column, value) in self.numbers.iter_mut().zip(row) {
            column.push(value);
        }
        self.schemes.push(Some(ping.scheme));
        self.methods.push(Some(ping.method));
        self.remotes.push(ping.remote_addr);
        self.agents.push(Some(ping.user_agent));
        self.bodies.push(body);
    }
}

/// The columns of the bodies of a batch.
#[derive(Default)]
struct Bodies {
    ids: Vec<Option<i64>>,
    checks: Vec<Option<Uuid>>,
    numbers: Vec<Option<i64>>,
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
