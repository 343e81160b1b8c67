//! From a decision to rows: state, flip, incident, deliveries, all in the transaction of the caller.

use allswell_core::chance::Dice;
use allswell_core::check::{Check, Event, Plan, Status, decide};
use allswell_core::delivery;
use allswell_core::flip::Flip;
use allswell_core::id::CheckId;
use allswell_core::schedule::{Schedule, Zones};
use allswell_core::scope::{ProjectScope, SystemScope};
use allswell_core::time::{Span, Timestamp};
use allswell_store::news::{News, Promise};
use allswell_store::{Error, Result, Tx};

/// How long a check waits that cannot be computed, since newer zone data does not know its zone.
pub const POSTPONED: Span = Span::from_secs(3_600);

/// What an event did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// When the check goes down if nothing more is heard.
    pub deadline: Option<Timestamp>,
    /// The flip, if the status changed.
    pub flip: Option<Flip>,
    /// Deliveries that were promised.
    pub promised: usize,
}

/// Writes a flip with its incident and the deliveries it owes; gives how many were promised. The check's own row is the
/// caller's to save, and before this: whoever loses that row to another writer must not have written its flip.
pub async fn write_flip(
    tx: &mut Tx<'_>,
    check: &Check,
    flip: &Flip,
    now: Timestamp,
    dice: &mut Dice,
) -> Result<usize> {
    let system = SystemScope::engine();
    let news = News {
        check,
        flip,
        noticed_at: now,
    };
    tx.flip_insert(system, check, flip, now).await?;
    let mut promised = 0;
    if delivery::is_news(flip) {
        let routes = tx.routes(system, check.id).await?;
        for owed in delivery::owed(flip, &routes, now) {
            let id = dice.id_at(now);
            tx.delivery_insert(system, &Promise { news, owed, id }).await?;
            promised += 1;
        }
    }
    Ok(promised)
}

/// Like [`write_flip`] for each, in few statements. Sorted by project, and the flips of a check beside each other in their
/// order.
pub async fn write_flips(tx: &mut Tx<'_>, news: &[News<'_>], dice: &mut Dice) -> Result<usize> {
    let mut promised = 0;
    let mut rest = news.to_vec();
    while !rest.is_empty() {
        // Each check's next one: a flip may close the incident that the one before it has opened.
        let (mut round, mut later) = (Vec::<News<'_>>::with_capacity(rest.len()), Vec::new());
        for one in rest {
            match round.last() {
                Some(last) if last.check.id == one.check.id => later.push(one),
                _ => round.push(one),
            }
        }
        promised += write_round(tx, &round, dice).await?;
        rest = later;
    }
    Ok(promised)
}

/// Writes flips of different checks.
async fn write_round(tx: &mut Tx<'_>, news: &[News<'_>], dice: &mut Dice) -> Result<usize> {
    let told: Vec<News<'_>> = news
        .iter()
        .copied()
        .filter(|one| delivery::is_news(one.flip))
        .collect();
    let promised = write_promises(tx, &told, dice).await?;
    tx.flips_insert(SystemScope::engine(), news).await?;
    Ok(promised)
}

/// Writes the deliveries that flips owe.
async fn write_promises(tx: &mut Tx<'_>, told: &[News<'_>], dice: &mut Dice) -> Result<usize> {
    if told.is_empty() {
        return Ok(0);
    }
    let checks: Vec<CheckId> = told.iter().map(|one| one.check.id).collect();
    let routes = tx.routes_of(SystemScope::engine(), &checks).await?;
    let mut promises = Vec::new();
    for news in told {
        let routes = routes.get(&news.check.id).map(Vec::as_slice).unwrap_or_default();
        for owed in delivery::owed(news.flip, routes, news.noticed_at) {
            let id = dice.id_at(news.noticed_at);
            promises.push(Promise {
                news: *news,
                owed,
                id,
            });
        }
    }
    tx.deliveries_insert(SystemScope::engine(), &promises).await?;
    Ok(promises.len())
}

/// Decides about one event of a check and writes everything, its row included.
///
/// # Errors
/// `Conflict` if another writer changed the check since it was read.
pub async fn apply_and_save(
    tx: &mut Tx<'_>,
    check: &mut Check,
    event: Event,
    now: Timestamp,
    dice: &mut Dice,
    zones: &Zones,
) -> Result<Applied> {
    let plan = plan_or_postpone(check, zones);
    let paused_until = check.state.paused_until;
    let decision = decide(&plan, &check.state, event, now);
    check.state = decision.state;
    if !tx
        .check_save_state_and_deadline(SystemScope::engine(), check, decision.deadline)
        .await?
    {
        return Err(Error::Conflict(format!(
            "check {} was changed by another writer",
            check.id
        )));
    }
    let promised = match &decision.flip {
        Some(flip) => write_flip(tx, check, flip, now, dice).await?,
        None => {
            // No flip tells those who listen that a pause ends at another time.
            if check.state.status == Status::Paused && check.state.paused_until != paused_until {
                let scope = ProjectScope::granted(check.project);
                let seq = tx.change_next(scope).await?;
                tx.check_mark_changed(scope, check, seq).await?;
            }
            0
        }
    };
    Ok(Applied {
        deadline: decision.deadline,
        flip: decision.flip,
        promised,
    })
}

/// The plan of a check. One that cannot be computed is looked at again within the hour: its pings are kept all the
/// same, and the sweep writes into the log what is wrong.
pub fn plan_or_postpone(check: &Check, zones: &Zones) -> Plan {
    check.settings.plan(zones).unwrap_or(Plan {
        schedule: Schedule::Period(POSTPONED),
        grace: check.settings.grace,
        rules: check.settings.rules,
    })
}

/// The plan of a check for those who look at it. One that cannot be computed shows the stored status and promises
/// nothing.
pub fn plan_to_show(check: &Check, zones: &Zones) -> Plan {
    let nothing = Schedule::Period(Span::ZERO);
    check.settings.plan(zones).unwrap_or(Plan {
        schedule: nothing,
        grace: check.settings.grace,
        rules: check.settings.rules,
    })
}
