//! What is kept, and for how long. Everything is deleted in slices, so that no transaction is long.

use allswell_core::id::{CheckId, ProjectId};
use allswell_core::scope::SystemScope;
use allswell_core::time::Timestamp;

use crate::Result;
use crate::db::{Tx, statements};

statements! {
    // Taking a mark is the claim: of two nodes one gets it, and what grows meanwhile is marked anew.
    // Materialized, here and below: as a plain subquery PostgreSQL may run the select again for each row it looks at, and
    // each time take `limit` more that are not locked yet.
    MARKED = "with due as materialized (select check_id from prune_due limit $1", skipping locked, then ")
        delete from prune_due where check_id in (select check_id from due) returning check_id";
    UNMARK = "delete from prune_due where check_id = $1";
    // By rows and not by numbers: of those that only counted there are none.
    BEYOND = "select n from pings where check_id = $1 order by n desc limit 1 offset $2";
    PINGS_DELETE = "delete from pings where check_id = $1 and n <= $2";
    // By the numbers that their pings hold, and before these go. A number may by now be that of another body, and an
    // array is for PostgreSQL, whose planner would look at all bodies otherwise.
    BODIES_DELETE = "delete from ping_bodies
        where id in (select body_id from pings where check_id = $1 and n <= $2) and check_id = $1 and n <= $2",
        on postgres "delete from ping_bodies
        where id = any(array(select body_id from pings where check_id = $1 and n <= $2)) and check_id = $1 and n <= $2";
    BODIES_SIZES = "select p.n as n, p.body_bytes as bytes
        from pings p join ping_bodies b on b.id = p.body_id and b.check_id = p.check_id and b.n = p.n
        where p.check_id = $1 order by p.n desc";
    // The newest flip stays however old it is: it is why the check is as it is. So do the flips at both ends of an
    // incident that is kept.
    FLIPS_OLD = "delete from flips where check_id = $1 and seq in
        (select f.seq from flips f join checks c on c.id = f.check_id
         where f.check_id = $1 and f.seq < c.flip_count and (f.noticed_at < $2 or f.seq <= c.flip_count - $3)
           and not exists (select 1 from incidents i where i.check_id = $1
                           and (i.opened_seq = f.seq or i.closed_seq = f.seq))
         order by f.seq limit $4)";
    INCIDENTS_BEYOND = "delete from incidents where check_id = $1 and closed_seq <=
        (select c.flip_count - $2 from checks c where c.id = $1)";
    OLDEST = "select n from pings where check_id = $1 order by n limit 1";
    INCIDENTS_OLD = "delete from incidents where (check_id, opened_seq) in
        (select check_id, opened_seq from incidents where closed_at < $1 limit $2)
        returning check_id";
    DELIVERIES_OLD = "with old as materialized
        (select shard, id from deliveries where finished_at < $1 order by finished_at limit $2", skipping locked, then ")
        delete from deliveries where (shard, id) in (select shard, id from old) returning shard, id";
    ATTEMPTS_OF = "delete from attempts where shard = $1 and delivery_id = $2";
    OCCASIONS_OF = "delete from delivery_flips where check_id = $1 and delivery_id = $2";
    ABSENCES_OLD = "delete from absences where to_at < $1";
    AUDIT_OLD = "with old as materialized (select id from audit where at < $1 limit $2", skipping locked, then ")
        delete from audit where id in (select id from old)";
    LINKS_OLD = "delete from start_links where expires_at < $1";
    // In the order of their index: PostgreSQL would look at all rows otherwise as long as it knows little about them.
    CHECKS_DELETED = "select id from checks where deleted_at < $1 order by deleted_at limit $2", skipping locked, then "";
    // As an array for PostgreSQL, whose planner would look at all checks otherwise.
    CHECKS_OF_DELETED_PROJECTS = "select c.id as id from checks c join projects p on p.id = c.project_id
        where p.deleted_at < $1 limit $2",
        on postgres "select id from checks
        where project_id = any(array(select id from projects where deleted_at < $1)) limit $2";
    CHECK_PINGS = "delete from pings where check_id = $1";
    CHECK_BODIES = "delete from ping_bodies
        where id in (select body_id from pings where check_id = $1) and check_id = $1",
        on postgres "delete from ping_bodies
        where id = any(array(select body_id from pings where check_id = $1)) and check_id = $1";
    CHECK_FLIPS = "delete from flips where check_id = $1";
    CHECK_INCIDENTS = "delete from incidents where check_id = $1";
    CHECK_ATTEMPTS = "delete from attempts where shard = $1";
    CHECK_OCCASIONS = "delete from delivery_flips where check_id = $1";
    CHECK_DELIVERIES = "delete from deliveries where shard = $1";
    CHECK_ROW = "delete from checks where id = $1";
    CHANNELS_DELETED = "with old as materialized
        (select id from channels where deleted_at < $1 limit $2", skipping locked, then ")
        delete from channels where id in (select id from old)";
    PROJECTS_DELETED = "select id from projects p where deleted_at < $1
        and not exists (select 1 from checks c where c.project_id = p.id) limit $2";
    // Tests and notes are of no check.
    PROJECT_ATTEMPTS = "delete from attempts where shard in (select shard from deliveries where project_id = $1)";
    PROJECT_DELIVERIES = "delete from deliveries where project_id = $1";
    PROJECT_CHANNELS = "delete from channels where project_id = $1";
    PROJECT_AUDIT = "delete from audit where project_id = $1";
    PROJECT_ROW = "delete from projects where id = $1";
}

/// Rows of one check that one transaction deletes.
const SLICE: u64 = 2_000;
/// Flips of one check that are kept, however new: whoever knows its address can make it flip all day.
const FLIPS_MAX: u64 = 10_000;

/// How much of a check's log is kept.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct LogKept {
    /// The newest pings.
    pub pings: u64,
    /// Bytes of their bodies as they came, the newest first.
    pub body_bytes: u64,
    /// Flips from before this instant go, but never the newest.
    pub flips_since: Timestamp,
}

impl Tx<'_> {
    /// Prunes the logs of up to `limit` checks that were marked; gives how many were looked at.
    pub async fn prune_logs(&mut self, system: SystemScope, kept: LogKept, limit: i64) -> Result<u64> {
        let marked = self.all(&MARKED, &[limit.into()]).await?;
        for row in &marked {
            let check: CheckId = row.get("check_id")?;
            self.prune_log(system, check, kept).await?;
        }
        Ok(marked.len() as u64)
    }

    /// Prunes one log by a slice. What is longer than that is marked anew.
    async fn prune_log(&mut self, system: SystemScope, check: CheckId, kept: LogKept) -> Result<()> {
        self.run(&INCIDENTS_BEYOND, &[check.into(), FLIPS_MAX.into()])
            .await?;
        let values = [
            check.into(),
            kept.flips_since.into(),
            FLIPS_MAX.into(),
            SLICE.into(),
        ];
        let mut more = self.run(&FLIPS_OLD, &values).await? >= SLICE;
        let oldest = self.first(&OLDEST, &[check.into()]).await?;
        let beyond = self.first(&BEYOND, &[check.into(), kept.pings.into()]).await?;
        if let Some(oldest) = oldest {
            let oldest: u64 = oldest.get("n")?;
            let beyond = beyond.map_or(Ok(0), |row| row.get("n"))?;
            let last_gone = beyond.min(oldest + SLICE);
            more |= last_gone < beyond;
            self.prune_pings(check, kept, last_gone).await?;
        }
        if more {
            self.ping_log_mark(system, check).await?;
        }
        Ok(())
    }

    async fn prune_pings(&mut self, check: CheckId, kept: LogKept, last_gone: u64) -> Result<()> {
        self.run(&BODIES_DELETE, &[check.into(), last_gone.into()])
            .await?;
        self.run(&PINGS_DELETE, &[check.into(), last_gone.into()]).await?;
        let mut sum = 0;
        for row in self.all(&BODIES_SIZES, &[check.into()]).await? {
            sum += row.get::<u64>("bytes")?;
            if sum > kept.body_bytes {
                let n: u64 = row.get("n")?;
                self.run(&BODIES_DELETE, &[check.into(), n.into()]).await?;
                break;
            }
        }
        Ok(())
    }

    /// Deletes a slice of history that ended before `before`: incidents, deliveries with their attempts. Gives how many
    /// rows went. Flips go with their check's log,
    /// which is marked when one of its incidents went.
    pub async fn prune_history(&mut self, system: SystemScope, before: Timestamp, limit: i64) -> Result<u64> {
        let (at, limit) = (before.into(), limit.into());
        self.run(&ABSENCES_OLD, &[at]).await?;
        let incidents = self.all(&INCIDENTS_OLD, &[at, limit]).await?;
        // They held on to their flips, and a quiet check would not be looked at for these any more.
        let mut checks = Vec::new();
        for row in &incidents {
            checks.push(row.get::<CheckId>("check_id")?);
        }
        checks.sort_unstable();
        checks.dedup();
        for check in checks {
            self.ping_log_mark(system, check).await?;
        }
        let deliveries = self.all(&DELIVERIES_OLD, &[at, limit]).await?;
        for row in &deliveries {
            let (shard, id): (CheckId, allswell_core::id::DeliveryId) = (row.get("shard")?, row.get("id")?);
            self.run(&ATTEMPTS_OF, &[shard.into(), id.into()]).await?;
            self.run(&OCCASIONS_OF, &[shard.into(), id.into()]).await?;
        }
        Ok((incidents.len() + deliveries.len()) as u64)
    }

    /// Deletes a slice of the audit log from before `before`, and start links that lapsed before then.
    pub async fn prune_audit(&mut self, _: SystemScope, before: Timestamp, limit: i64) -> Result<u64> {
        self.run(&LINKS_OLD, &[before.into()]).await?;
        self.run(&AUDIT_OLD, &[before.into(), limit.into()]).await
    }

    /// Deletes what was marked as deleted before `before`, with everything that belonged to it. Gives how many checks,
    /// channels and projects went.
    pub async fn purge_deleted(&mut self, _: SystemScope, before: Timestamp, limit: i64) -> Result<u64> {
        let mut gone = 0;
        for stmt in [&CHECKS_DELETED, &CHECKS_OF_DELETED_PROJECTS] {
            for row in self.all(stmt, &[before.into(), limit.into()]).await? {
                self.purge_check(row.get("id")?).await?;
                gone += 1;
            }
        }
        gone += self
            .run(&CHANNELS_DELETED, &[before.into(), limit.into()])
            .await?;
        for row in self
            .all(&PROJECTS_DELETED, &[before.into(), limit.into()])
            .await?
        {
            let project: ProjectId = row.get("id")?;
            for stmt in [
                &PROJECT_ATTEMPTS,
                &PROJECT_DELIVERIES,
                &PROJECT_CHANNELS,
                &PROJECT_AUDIT,
                &PROJECT_ROW,
            ] {
                self.run(stmt, &[project.into()]).await?;
            }
            self.vault.forget(project);
            gone += 1;
        }
        Ok(gone)
    }

    async fn purge_check(&mut self, check: CheckId) -> Result<()> {
        let all = [
            &CHECK_BODIES,
            &CHECK_PINGS,
            &CHECK_FLIPS,
            &CHECK_INCIDENTS,
            &CHECK_ATTEMPTS,
            &CHECK_OCCASIONS,
            &CHECK_DELIVERIES,
            &UNMARK,
            &CHECK_ROW,
        ];
        for stmt in all {
            self.run(stmt, &[check.into()]).await?;
        }
        Ok(())
    }
}
