//! Named secrets of a project as people set and delete them. They go in and never come out.

use allswell_core::chance::Dice;
use allswell_core::limits;
use allswell_core::secret::Secret;
use allswell_core::template::{SECRET_NAME_CHARS_MAX, is_secret_name};
use allswell_integrations::Kind;
use allswell_integrations::webhook::Webhook;
use allswell_store::Tx;
use allswell_store::audit::Act;

use crate::channels::{Errand, Refused, fault};

/// Sets a secret; `true` if there was none of that name.
///
/// # Errors
/// [`Refused`]; nothing is written then.
pub async fn set(
    tx: &mut Tx<'_>,
    errand: &Errand,
    name: &str,
    value: &Secret<String>,
    dice: &mut Dice,
) -> Result<bool, Refused> {
    if !is_secret_name(name) {
        let sentence =
            format!("must be 1 to {SECRET_NAME_CHARS_MAX} letters, digits, hyphens and underscores");
        return Err(fault("name", "secret_name", sentence));
    }
    if value.reveal().is_empty() {
        return Err(fault("value", "required", "is empty"));
    }
    if value.reveal().len() > limits::SECRET_BYTES_MAX {
        let sentence = format!("is longer than {} bytes", limits::SECRET_BYTES_MAX);
        return Err(fault("value", "length", sentence));
    }
    let names = tx.secret_names(errand.scope).await?;
    let is_new = names.iter().all(|named| named.name != name);
    if is_new && names.len() >= limits::SECRETS_MAX {
        let sentence = format!(
            "the project has {} secrets, and may have no more",
            limits::SECRETS_MAX
        );
        return Err(fault("name", "limit", sentence));
    }
    tx.secret_set(errand.scope, name, value, dice, errand.now).await?;
    note(tx, errand, "secret.set", name, dice).await?;
    Ok(is_new)
}

/// Deletes a secret that no channel uses.
///
/// # Errors
/// [`Refused`]; nothing is written then.
pub async fn delete(tx: &mut Tx<'_>, errand: &Errand, name: &str, dice: &mut Dice) -> Result<(), Refused> {
    for (id, config) in tx.channel_configs(errand.scope, Kind::Webhook.word()).await? {
        let webhook = Webhook::from_bytes(config.reveal());
        if webhook.is_some_and(|webhook| webhook.secret_names().iter().any(|used| used == name)) {
            return Err(fault("name", "in_use", format!("channel {id} uses it")));
        }
    }
    if !tx.secret_delete(errand.scope, name).await? {
        return Err(Refused::NotFound);
    }
    note(tx, errand, "secret.delete", name, dice).await
}

async fn note(
    tx: &mut Tx<'_>,
    errand: &Errand,
    action: &'static str,
    name: &str,
    dice: &mut Dice,
) -> Result<(), Refused> {
    let act = Act {
        at: errand.now,
        project: Some(errand.scope.project()),
        actor: errand.actor.clone(),
        action,
        target: format!("secret:{name}"),
        data: String::new(),
    };
    Ok(tx.audit(dice.id_at(errand.now), &act).await?)
}
