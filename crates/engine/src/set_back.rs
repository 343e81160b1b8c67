//! A clock that was set back: what it had noted while it was ahead is brought to now.
//!
//! Checks that it heard of, runs that it saw begin and time that it gave for an absence of ours lie in time to come then,
//! and so would their deadlines: silence would be found late by as much as the clock was ahead. So every check that waits
//! for something is looked at once, in slices. That the work is to be done, and how far it has come, is a fact in the
//! database; any node goes on with it, after a restart too.

use allswell_core::absence;
use allswell_core::chance::Dice;
use allswell_core::check::Event;
use allswell_core::id::CheckId;
use allswell_core::schedule::Zones;
use allswell_core::scope::SystemScope;
use allswell_core::time::Timestamp;
use allswell_store::{Error, Reader, Result, Tx};
use uuid::Uuid;

use crate::record;

/// Checks and deliveries that one transaction looks at.
const BATCH: i64 = 200;
/// The check that was looked at last; [`DONE`] when all were.
const REACHED: &str = "clock_set_back";
const DONE: &str = "done";

/// Says that the work is to be done, from the beginning.
pub(crate) async fn begin(tx: &mut Tx<'_>) -> Result<()> {
    tx.instance_set(REACHED, &Uuid::nil().to_string()).await
}

/// Whether there is work to do.
pub(crate) async fn is_open(reader: &mut Reader<'_>) -> Result<bool> {
    let reached = reader.instance_get(REACHED).await?;
    Ok(reached.is_some_and(|reached| reached != DONE))
}

/// Looks at the next slice; `true` when there was none left.
pub(crate) async fn slice(tx: &mut Tx<'_>, zones: &Zones, mut dice: Dice, now: Timestamp) -> Result<bool> {
    let system = SystemScope::engine();
    if tx.deliveries_bring_back(system, now, BATCH).await? > 0 {
        return Ok(false);
    }
    let reached = tx.instance_get(REACHED).await?;
    let after: CheckId = reached
        .and_then(|id| id.parse().ok())
        .unwrap_or(CheckId::from(Uuid::nil()));
    let checks = tx.checks_waiting(system, after, BATCH).await?;
    let Some(last) = checks.last().map(|check| check.id) else {
        tx.instance_set(REACHED, DONE).await?;
        return Ok(true);
    };
    for mut check in checks {
        let plan = record::plan_or_postpone(&check, zones);
        if absence::brought_back(&plan, &check.state, now).is_none() {
            continue;
        }
        match record::apply_and_save(tx, &mut check, Event::SetBack, now, &mut dice, zones).await {
            Ok(_) => {}
            // Somebody else was first: a ping by the clock of now, or a node that does this work too.
            Err(Error::Conflict(_)) => {}
            Err(error) => return Err(error),
        }
    }
    tx.instance_set(REACHED, &last.to_string()).await?;
    Ok(false)
}
