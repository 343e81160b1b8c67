//! New zone data, or a clock that was set back (`set_back.rs`): what was worked out by what no longer holds is worked out
//! again.
//!
//! The stored wake-up of a check must never be later than its true deadline, and a change of a zone's rules may move
//! that forward. So when the edition of the zones differs from the one the database was last computed with, every check
//! with an expression is looked at once, in slices; how far the work has come is a fact in the database, and a restart
//! goes on from there.

use allswell_core::chance::Dice;
use allswell_core::check::Event;
use allswell_core::id::CheckId;
use allswell_core::schedule::Zones;
use allswell_core::scope::SystemScope;
use allswell_core::time::{Span, Timestamp};
use allswell_store::{Error, Result, Store, Tx};
use tokio::sync::Mutex;
use uuid::Uuid;

use crate::loops::{Step, Stopwatch};
use crate::{Due, record, set_back};

/// Checks that one transaction looks at.
const BATCH: i64 = 200;
/// Nothing else changes the edition while we run.
const REST: Span = Span::from_secs(3_600);
const EDITION: &str = "zones";
const REACHED: &str = "zones_reached";

/// Works deadlines out again after a change of zone data.
pub struct Replan {
    store: Store,
    dice: Mutex<Dice>,
    zones: Zones,
}

impl Replan {
    /// By the rules of `zones`.
    pub fn new(store: Store, dice: Dice, zones: Zones) -> Self {
        Replan {
            store,
            dice: Mutex::new(dice),
            zones,
        }
    }
}

impl Step for Replan {
    const NAME: &'static str = "replan";

    async fn step(&self, now: Timestamp) -> Result<Due> {
        let read = Stopwatch::start();
        let edition = self.zones.edition();
        let (known, was_set_back) = self
            .store
            .read(async |reader| {
                let known = reader.instance_get(EDITION).await?;
                Ok::<_, Error>((known, set_back::is_open(reader).await?))
            })
            .await?;
        if was_set_back {
            let (zones, dice) = (self.zones.clone(), self.dice.lock().await.fork());
            self.store
                .write(async move |tx| {
                    // Pings since `now` would look like those of a clock ahead. The first statement begins the
                    // transaction: whatever held that up is over when its answer is there.
                    set_back::is_open(tx).await?;
                    if read.is_stale() {
                        return Ok(false);
                    }
                    set_back::slice(tx, &zones, dice, now).await
                })
                .await?;
            return Ok(Due::Now);
        }
        if known.as_ref() == Some(&edition) {
            return Ok(Due::At(now + REST));
        }
        let (zones, dice) = (self.zones.clone(), self.dice.lock().await.fork());
        let named = edition.clone();
        let done = self
            .store
            .write(async move |tx| replan(tx, &edition, &zones, dice, now).await)
            .await?;
        if done {
            tracing::info!("deadlines agree with the zone data: {named}");
        }
        Ok(if done { Due::At(now + REST) } else { Due::Now })
    }
}

/// Looks at the next slice; `true` when there was none left.
async fn replan(
    tx: &mut Tx<'_>,
    edition: &str,
    zones: &Zones,
    mut dice: Dice,
    now: Timestamp,
) -> Result<bool> {
    // Work that was begun for another edition begins anew.
    let reached = tx.instance_get(REACHED).await?;
    let reached = reached
        .as_deref()
        .and_then(|text| text.strip_prefix(edition)?.strip_prefix(' '));
    let after = reached
        .and_then(|id| id.parse().ok())
        .unwrap_or(CheckId::from(Uuid::nil()));
    let checks = tx
        .checks_by_expression(SystemScope::engine(), after, BATCH)
        .await?;
    let Some(last) = checks.last().map(|check| check.id) else {
        tx.instance_set(EDITION, edition).await?;
        tx.instance_set(REACHED, "").await?;
        return Ok(true);
    };
    for mut check in checks {
        match record::apply_and_save(tx, &mut check, Event::Edit, now, &mut dice, zones).await {
            Ok(_) => {}
            // Somebody else just worked it out, by the new rules too.
            Err(Error::Conflict(_)) => {}
            Err(error) => return Err(error),
        }
    }
    tx.instance_set(REACHED, &format!("{edition} {last}")).await?;
    Ok(false)
}
