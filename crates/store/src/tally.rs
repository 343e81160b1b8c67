//! Counts of what waits and of what there is, for gauges. Each is one statement.

use allswell_core::check::Status;
use allswell_core::scope::SystemScope;
use allswell_core::time::Timestamp;

use crate::db::{Reader, statements};
use crate::{Error, Result};

statements! {
    // Two halves, each of which finds its partial index.
    WAITING = "select 'ready' as state, count(*) as deliveries, min(next_at) as oldest from deliveries
               where state = 'ready' and next_at >= 0
               union all
               select 'leased', count(*), min(lease_until) from deliveries where state = 'leased' and lease_until >= 0";
    CHECKS = "select status, count(*) as checks from checks where deleted_at is null group by status";
}

/// Deliveries that wait.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Waiting {
    /// Not claimed: due, or to be tried again later.
    pub ready: i64,
    /// Claimed by a node.
    pub leased: i64,
    /// When the first of the ready ones is due.
    pub next_at: Option<Timestamp>,
}

impl Reader<'_> {
    /// Counts the deliveries that wait.
    pub async fn deliveries_waiting(&mut self, _: SystemScope) -> Result<Waiting> {
        let mut waiting = Waiting::default();
        for row in self.all(&WAITING, &[]).await? {
            let state: String = row.get("state")?;
            if state == "ready" {
                waiting.ready = row.get("deliveries")?;
                waiting.next_at = row.get("oldest")?;
            } else {
                waiting.leased = row.get("deliveries")?;
            }
        }
        Ok(waiting)
    }

    /// Counts the checks by their stored status. Looks at every check: not for what is asked often.
    pub async fn checks_by_status(&mut self, _: SystemScope) -> Result<Vec<(Status, i64)>> {
        let rows = self.all(&CHECKS, &[]).await?;
        rows.iter()
            .map(|row| {
                let status = Status::from_number(row.get("status")?)
                    .ok_or_else(|| Error::Corrupt("a check has an unknown status".to_owned()))?;
                Ok((status, row.get("checks")?))
            })
            .collect()
    }
}
