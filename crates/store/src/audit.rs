//! The audit log: who did what, written in the transaction that did it.

use allswell_core::id::{AuditId, ProjectId};
use allswell_core::scope::SystemScope;
use allswell_core::time::Timestamp;

use crate::Result;
use crate::db::{Reader, Tx, statements};

statements! {
    INSERT = "insert into audit (id, at, project_id, actor, action, target, data) values ($1, $2, $3, $4, $5, $6, $7)";
    NEWEST = "select at, project_id, actor, action, target, data from audit order by at desc, id desc limit $1";
}

/// One act.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Act {
    /// When.
    pub at: Timestamp,
    /// In which project, if in one.
    pub project: Option<ProjectId>,
    /// Who: `operator`, or the key or user by id.
    pub actor: String,
    /// What, as noun and verb: `check.pause`.
    pub action: &'static str,
    /// On what, by id.
    pub target: String,
    /// What else there is to know, as JSON without secrets; empty for nothing.
    pub data: String,
}

impl Reader<'_> {
    /// The newest acts as `(at, actor, action, target)`, newest first.
    pub async fn acts(
        &mut self,
        _: SystemScope,
        limit: i64,
    ) -> Result<Vec<(Timestamp, String, String, String)>> {
        let rows = self.all(&NEWEST, &[limit.into()]).await?;
        let act = |row: &crate::db::Row| {
            Ok((
                row.get("at")?,
                row.get("actor")?,
                row.get("action")?,
                row.get("target")?,
            ))
        };
        rows.iter().map(act).collect()
    }
}

impl Tx<'_> {
    /// Writes an act into the audit log.
    pub async fn audit(&mut self, id: AuditId, act: &Act) -> Result<()> {
        let values = [
            id.into(),
            act.at.into(),
            act.project.into(),
            (&act.actor).into(),
            act.action.into(),
            (&act.target).into(),
            (&act.data).into(),
        ];
        self.run(&INSERT, &values).await.map(drop)
    }
}
