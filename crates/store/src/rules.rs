//! What a check remembers for its rules: a column of its row that is written apart from the others, and only where a rule
//! wants it. The statements that every ping runs are the same with and without rules.

use std::collections::HashSet;

use allswell_core::check::{Check, Recent, Rules, Settings, State};
use allswell_core::id::CheckId;
use uuid::Uuid;

use crate::batch::Changed;
use crate::db::{Columns, Param, Tx, postgres_statements, statements};
use crate::{Error, Result};

statements! {
    // The row was won just before, in this transaction: nobody else can have changed it since.
    SAVE_RECENT = "update checks set rules_state = $2 where id = $1";
}

postgres_statements! {
    SAVE_RECENTS = "update checks set rules_state = v.recent from unnest($1::uuid[], $2::text[]) as v (id, recent)
        where checks.id = v.id";
}

/// Settings and state with what the row says of rules.
pub(crate) fn with_rules(
    row: &impl Columns,
    id: CheckId,
    settings: Settings,
    state: State,
) -> Result<(Settings, State)> {
    let (rules, recent): (Option<String>, Option<String>) = (row.get("rules")?, row.get("rules_state")?);
    let Some(rules) = rules else {
        return Ok((settings, state));
    };
    let unknown = || Error::Corrupt(format!("check {id} has rules of an unknown form"));
    let rules = Rules::from_stored(&rules).ok_or_else(unknown)?;
    let recent = match recent.as_deref().map(Recent::from_stored) {
        Some(read) => read.ok_or_else(unknown)?,
        None => Recent::default(),
    };
    Ok((Settings { rules, ..settings }, State { recent, ..state }))
}

impl Tx<'_> {
    /// Writes what these checks remember for their rules, if any of those wants that. Their rows were won in this
    /// transaction.
    pub(crate) async fn check_save_recent(&mut self, checks: &[&Check]) -> Result<()> {
        let with_rules = checks.iter().filter(|check| check.settings.rules.remember());
        let recent: Vec<(CheckId, Option<String>)> = with_rules
            .map(|check| (check.id, check.state.recent.to_stored()))
            .collect();
        if recent.is_empty() {
            return Ok(());
        }
        if recent.len() > 1 && self.is_postgres() {
            let ids: Vec<Option<Uuid>> = recent.iter().map(|(id, _)| Some(id.as_uuid())).collect();
            let texts: Vec<Option<&str>> = recent.iter().map(|(_, text)| text.as_deref()).collect();
            let values = [ids.as_slice().into(), texts.as_slice().into()];
            return self.run(&SAVE_RECENTS, &values).await.map(drop);
        }
        let rows: Vec<[Param<'_>; 2]> = recent
            .iter()
            .map(|(id, text)| [(*id).into(), text.as_deref().into()])
            .collect();
        self.run_each(&SAVE_RECENT, &rows).await.map(drop)
    }

    /// The same for those of a batch that were won.
    pub(crate) async fn batch_save_recent(&mut self, changed: &[Changed<'_>], won: &[CheckId]) -> Result<()> {
        let checks = changed.iter().map(|changed| &*changed.check);
        let mut with_rules: Vec<&Check> = checks.filter(|check| check.settings.rules.remember()).collect();
        if !with_rules.is_empty() {
            let won: HashSet<&CheckId> = won.iter().collect();
            with_rules.retain(|check| won.contains(&check.id));
        }
        self.check_save_recent(&with_rules).await
    }
}
