//! An alert that has ended and is sent again, because somebody asks for it. The API and the command line both come here.

use allswell_core::chance::Dice;
use allswell_core::id::DeliveryId;
use allswell_core::limits::ALERT_HOURS_MAX;
use allswell_core::time::Span;
use allswell_store::audit::Act;
use allswell_store::{Result, Tx};

use crate::channels::Errand;

pub use allswell_store::outbox::Redelivered;

/// Makes a delivery due again, with its id, for a day, and notes who asked. Unless `force`d not if its channel was told
/// of a newer flip of the same check. `None` if the project has no such delivery.
///
/// # Errors
/// The store's.
pub async fn again(
    tx: &mut Tx<'_>,
    errand: &Errand,
    delivery: DeliveryId,
    force: bool,
    dice: &mut Dice,
) -> Result<Option<Redelivered>> {
    let until = errand.now + Span::from_secs(ALERT_HOURS_MAX * 3_600);
    let asked = tx
        .delivery_redeliver(errand.scope, delivery, force, errand.now, until)
        .await?;
    if asked == Some(Redelivered::Yes) {
        let act = Act {
            at: errand.now,
            project: Some(errand.scope.project()),
            actor: errand.actor.clone(),
            action: "delivery.again",
            target: format!("delivery:{delivery}"),
            data: String::new(),
        };
        tx.audit(dice.id_at(errand.now), &act).await?;
    }
    Ok(asked)
}
