//! Projects: what people share; each owns its checks, channels and keys.

use allswell_core::chance::Dice;
use allswell_core::id::{ProjectId, UserId};
use allswell_core::scope::{ProjectScope, SystemScope};
use allswell_core::seal::DataKey;
use allswell_core::time::Timestamp;

use crate::Result;
use crate::db::{Reader, Row, Tx, statements};

statements! {
    INSERT = "insert into projects (id, owner_id, name, created_at) values ($1, $2, $3, $4)";
    // Who makes a check only where there is none must be alone in the project. One writer is anyhow.
    LOCK = "select id from projects where id = $1",
        on postgres "select id from projects where id = $1 for no key update";
    CHANGES_INSERT = "insert into project_changes (project_id, seq) values ($1, 0)";
    CHANGES_NEXT = "update project_changes set seq = seq + 1 where project_id = $1 returning seq";
    MEMBER_INSERT = "insert into members (project_id, user_id, role, created_at) values ($1, $2, $3, $4)";
    BY_ID = "select id, owner_id, name, created_at from projects where id = $1 and deleted_at is null";
    ALL = "select id, owner_id, name, created_at from projects where deleted_at is null order by created_at, id";
    CHECK_LIMIT = "select u.check_limit as check_limit from users u join projects p on p.owner_id = u.id
                   where p.id = $1";
    CHECK_COUNT = "select count(*) as checks from checks
                   where deleted_at is null and project_id in
                       (select id from projects where owner_id = (select owner_id from projects where id = $1))";
    DELETE_SOFTLY = "update projects set deleted_at = $2 where id = $1 and deleted_at is null";
    // With the same instant, by which an undo can tell them from checks that were deleted before.
    CHECKS_DELETE_SOFTLY = "update checks set deleted_at = $2, deadline = null, version = version + 1
                            where project_id = $1 and deleted_at is null";
}

/// A project.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Project {
    /// The id.
    pub id: ProjectId,
    /// The one owner.
    pub owner: UserId,
    /// What people call it.
    pub name: String,
    /// When it was made.
    pub created_at: Timestamp,
}

fn from_row(row: &Row) -> Result<Project> {
    Ok(Project {
        id: row.get("id")?,
        owner: row.get("owner_id")?,
        name: row.get("name")?,
        created_at: row.get("created_at")?,
    })
}

impl Reader<'_> {
    /// A project that was not deleted.
    pub async fn project(&mut self, _: SystemScope, id: ProjectId) -> Result<Option<Project>> {
        self.first(&BY_ID, &[id.into()])
            .await?
            .as_ref()
            .map(from_row)
            .transpose()
    }

    /// All projects, oldest first.
    pub async fn projects(&mut self, _: SystemScope) -> Result<Vec<Project>> {
        self.all(&ALL, &[]).await?.iter().map(from_row).collect()
    }

    /// How many checks the owner of this project has in all projects together, and how many are allowed.
    pub async fn check_quota(&mut self, scope: ProjectScope) -> Result<(i64, i64)> {
        let project = scope.project().into();
        let count = self
            .first(&CHECK_COUNT, &[project])
            .await?
            .map(|row| row.get("checks"))
            .transpose()?;
        let limit = self
            .first(&CHECK_LIMIT, &[project])
            .await?
            .map(|row| row.get("check_limit"))
            .transpose()?;
        Ok((count.unwrap_or(0), limit.unwrap_or(0)))
    }
}

impl Tx<'_> {
    /// Writes a new project with its owner, its change sequence and its data key.
    pub async fn project_insert(&mut self, _: SystemScope, project: &Project, dice: &mut Dice) -> Result<()> {
        let now = project.created_at;
        let (id, owner) = (project.id.into(), project.owner.into());
        self.run(&INSERT, &[id, owner, (&project.name).into(), now.into()])
            .await?;
        self.run(&CHANGES_INSERT, &[id]).await?;
        self.run(&MEMBER_INSERT, &[id, owner, "owner".into(), now.into()])
            .await?;
        let key = DataKey::generate(Some(project.id), dice);
        let ring = self.vault.ring()?;
        self.data_key_insert(&key, &ring, dice, now).await
    }

    /// Keeps others from making checks in this project until the transaction ends.
    pub async fn project_lock(&mut self, scope: ProjectScope) -> Result<()> {
        self.first(&LOCK, &[scope.project().into()]).await.map(drop)
    }

    /// The next number of the project's change sequence: what a live page has seen, and what it has not.
    pub async fn change_next(&mut self, scope: ProjectScope) -> Result<i64> {
        let row = self.first(&CHANGES_NEXT, &[scope.project().into()]).await?;
        row.map(|row| row.get("seq"))
            .transpose()
            .map(|seq| seq.unwrap_or(0))
    }

    /// Marks a project and its checks as deleted; their rows go when the days for undoing are over.
    pub async fn project_delete(&mut self, scope: ProjectScope, now: Timestamp) -> Result<bool> {
        let values = [scope.project().into(), now.into()];
        if self.run(&DELETE_SOFTLY, &values).await? == 0 {
            return Ok(false);
        }
        self.run(&CHECKS_DELETE_SOFTLY, &values).await?;
        Ok(true)
    }
}
