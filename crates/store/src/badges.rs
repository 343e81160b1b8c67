//! What badges show: the checks of a project or of one of its tags, counted without reading each of them.

use allswell_core::badge::BadgeKeys;
use allswell_core::check::Check;
use allswell_core::id::ProjectId;
use allswell_core::scope::{ProjectScope, SystemScope};
use allswell_core::time::Timestamp;
use uuid::Uuid;

use crate::checks::{columns, from_row};
use crate::db::{Param, Reader, Stmt, statements};
use crate::{Result, Store};

/// A check that is not stored as down and may be late or down at `$2`. Its stored deadline is never after the true one,
/// so before that less its grace it cannot be late, unless the deadline was moved for an absence of ours, or rules give a
/// run or a start a limit of its own. The deadline may be long outdated, though, so a check with a plain period also has its last ping looked at.
macro_rules! suspect {
    () => {
        "status <> 2 and deadline is not null and (excused_until is not null or rules is not null or deadline - grace <= $2)
         and (status <> 1 or timing_kind <> 0 or last_start_at is not null or last_ping_at + period <= $2)"
    };
}

statements! {
    BY_BADGE = concat!("select ", columns!(), " from checks
        where badge_id = $1 and deleted_at is null
          and exists (select 1 from projects p where p.id = checks.project_id and p.deleted_at is null)");
    TAGS = "select distinct t.tag as tag from check_tags t join checks c on c.id = t.check_id
            where t.project_id = $1 and c.deleted_at is null order by tag";
    COUNT_OF_PROJECT = "select count(*) as total, count(*) filter (where status = 2) as down from checks
                        where project_id = $1 and deleted_at is null";
    SUSPECTS_OF_PROJECT = concat!("select ", columns!(), " from checks
        where project_id = $1 and deleted_at is null and ", suspect!());
    // PostgreSQL's planner thinks little of `in (select …)` where a tag is rare, and reads all checks. Of an array that is
    // read first it looks each up by its key.
    COUNT_OF_TAG = "select count(*) as total, count(*) filter (where status = 2) as down from checks
                    where deleted_at is null
                      and id in (select check_id from check_tags where project_id = $1 and tag = $2)",
        on postgres "select count(*) as total, count(*) filter (where status = 2) as down from checks
                    where deleted_at is null
                      and id = any(array(select check_id from check_tags where project_id = $1 and tag = $2))";
    SUSPECTS_OF_TAG = concat!("select ", columns!(), " from checks
        where deleted_at is null and id in (select check_id from check_tags where project_id = $1 and tag = $3)
          and ", suspect!()),
        on postgres concat!("select ", columns!(), " from checks
        where deleted_at is null and id = any(array(select check_id from check_tags where project_id = $1 and tag = $3))
          and ", suspect!());
}

/// Checks behind a badge.
#[derive(Clone, Debug, PartialEq)]
pub struct Counted {
    /// All of them.
    pub total: i64,
    /// Those stored as down.
    pub down: i64,
    /// Those that may be late or down although they are not stored as down: to be looked at one by one.
    pub suspects: Vec<Check>,
}

impl Store {
    /// What makes and reads the addresses of badges.
    pub fn badge_keys(&self) -> Result<&BadgeKeys> {
        self.vault.badge_keys()
    }
}

impl Reader<'_> {
    /// The check with this badge. The address is the right to see it.
    pub async fn check_by_badge(&mut self, _: SystemScope, badge: Uuid) -> Result<Option<Check>> {
        let row = self.first(&BY_BADGE, &[badge.into()]).await?;
        row.as_ref().map(from_row).transpose()
    }

    /// The tags of a project's checks, each once, sorted.
    pub async fn tags(&mut self, scope: ProjectScope) -> Result<Vec<String>> {
        let rows = self.all(&TAGS, &[scope.project().into()]).await?;
        rows.iter().map(|row| row.get("tag")).collect()
    }

    /// Counts the checks of a project.
    pub async fn checks_counted(&mut self, scope: ProjectScope, now: Timestamp) -> Result<Counted> {
        let project: ProjectId = scope.project();
        let (count, suspects) = (&COUNT_OF_PROJECT, &SUSPECTS_OF_PROJECT);
        self.counted(count, &[project.into()], suspects, &[project.into(), now.into()])
            .await
    }

    /// Counts the checks of a project that bear a tag.
    pub async fn checks_counted_by_tag(
        &mut self,
        scope: ProjectScope,
        tag: &str,
        now: Timestamp,
    ) -> Result<Counted> {
        let project: ProjectId = scope.project();
        let of_tag = [project.into(), tag.into()];
        let suspects = [project.into(), now.into(), tag.into()];
        self.counted(&COUNT_OF_TAG, &of_tag, &SUSPECTS_OF_TAG, &suspects)
            .await
    }

    async fn counted(
        &mut self,
        count: &'static Stmt,
        count_of: &[Param<'_>],
        suspects: &'static Stmt,
        suspects_of: &[Param<'_>],
    ) -> Result<Counted> {
        let (total, down) = match self.first(count, count_of).await? {
            Some(row) => (row.get("total")?, row.get("down")?),
            None => (0, 0),
        };
        let rows = self.all(suspects, suspects_of).await?;
        let suspects = rows.iter().map(from_row).collect::<Result<_>>()?;
        Ok(Counted {
            total,
            down,
            suspects,
        })
    }
}
