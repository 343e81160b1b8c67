//! Channels as people make and change them: an input is judged as a whole, and written with its act in one transaction or
//! not at all.
//!
//! The API and the command line both come here, so that a field is named and judged in one way. What a channel is
//! configured with goes in and never comes out: [`document`] is all that is shown.

use std::fmt;

use allswell_core::chance::Dice;
use allswell_core::check::Status;
use allswell_core::delivery::{Class, Owed};
use allswell_core::id::{ChannelId, DeliveryId};
use allswell_core::limits;
use allswell_core::policy::Policy;
use allswell_core::scope::{ProjectScope, SystemScope};
use allswell_core::secret::Secret;
use allswell_core::signature::standard::SigningSecret;
use allswell_core::target;
use allswell_core::time::{Span, Timestamp};
use allswell_integrations::Kind;
use allswell_integrations::webhook::{Court, Form, Webhook, signing_secret_fits};
use allswell_store::audit::Act;
use allswell_store::channels::{Channel, Opened};
use allswell_store::outbox::Health;
use allswell_store::{Error, Reader, Tx};
use serde_json::{Map, Value, json};

use crate::deliver::TEST_UP;

pub use allswell_integrations::webhook::{Fault, OVERLAP_HOURS_DEFAULT, OVERLAP_HOURS_MAX, Warning};

/// What a channel is judged by.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// What webhooks may call.
    pub webhooks: Policy,
    /// The name of the header that this instance adds to webhooks; users cannot set it. Empty: none.
    pub signature_header: String,
}

/// Seconds within which a test is tried; who asked for it waits no longer.
const TEST_SECS_MAX: i64 = 60;

/// On whose behalf, where and when something is changed.
#[derive(Clone, Debug)]
pub struct Errand {
    /// The project.
    pub scope: ProjectScope,
    /// Who does it, for the audit log.
    pub actor: String,
    /// The instant.
    pub now: Timestamp,
}

/// Why nothing was changed.
#[derive(Debug)]
pub enum Refused {
    /// The input; each fault names a field and a rule.
    Faults(Vec<Fault>),
    /// There is nothing of that name or id.
    NotFound,
    /// Somebody else changed it meanwhile; to be tried again.
    Changed,
    /// The store.
    Store(Error),
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Refused::Store(error)
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refused::Faults(faults) => {
                let lines: Vec<String> = faults.iter().map(Fault::to_string).collect();
                f.write_str(&lines.join("\n"))
            }
            Refused::NotFound => f.write_str("there is no such thing in this project"),
            Refused::Changed => f.write_str("somebody else changed it at the same time; try again"),
            Refused::Store(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for Refused {}

/// A fault of one field.
pub(crate) fn fault(field: &str, rule: &'static str, sentence: impl Into<String>) -> Refused {
    Refused::Faults(vec![Fault {
        field: field.to_owned(),
        rule,
        sentence: sentence.into(),
        for_administrators: None,
    }])
}

/// A channel that was made or changed.
#[derive(Debug)]
pub struct Made {
    /// The channel.
    pub channel: Channel,
    /// What is shown of it.
    pub document: Value,
    /// The secret that signs, if one was made. It is told once and never again.
    pub secret: Option<Secret<String>>,
    /// What its owner should know, by field.
    pub warnings: Vec<(&'static str, Warning)>,
}

/// Reads and judges the fields of a channel that differ by kind.
struct Judged {
    config: Vec<u8>,
    tells_down: bool,
    tells_up: bool,
    secret: Option<Secret<String>>,
    warnings: Vec<(&'static str, Warning)>,
}

/// What is shown of a channel: nothing of its configuration that could be a secret. `health` is `None` for one that was
/// made just now.
pub fn document(channel: &Channel, health: Option<&Health>, config: &[u8], now: Timestamp) -> Value {
    let off = health.and_then(|health| health.disabled.as_ref());
    let failing_since = health.and_then(|health| health.failing_since);
    // What was the last error stays in its row when the channel is switched on again; it then says nothing any more.
    let last_error = health
        .filter(|_| off.is_some() || failing_since.is_some())
        .and_then(|health| health.last_error.as_deref());
    let mut document = json!({
        "id": channel.id.to_string(),
        "kind": channel.kind,
        "name": channel.name,
        "tells_down": channel.tells_down,
        "tells_up": channel.tells_up,
        "created_at": channel.created_at.to_rfc3339_micros(),
        "enabled": off.is_none(),
        "disabled_at": off.map(|(at, _)| at.to_rfc3339_micros()),
        "disabled_reason": off.map(|(_, reason)| reason),
        "failing_since": failing_since.map(Timestamp::to_rfc3339_micros),
        "last_error": last_error,
    });
    let shown = (channel.kind == Kind::Webhook.word())
        .then(|| Webhook::from_bytes(config))
        .flatten()
        .map(|webhook| webhook.shown(now));
    if let (Some(Value::Object(shown)), Value::Object(document)) = (shown, &mut document) {
        document.extend(shown);
    }
    document
}

/// Makes a channel. `input` has `kind`, `name`, and the fields of the kind.
///
/// # Errors
/// [`Refused`]; nothing is written then.
pub async fn create(
    tx: &mut Tx<'_>,
    errand: &Errand,
    rules: &Rules,
    input: &Value,
    dice: &mut Dice,
) -> Result<Made, Refused> {
    let mut fields = fields_of(input)?;
    let word = take_text(&mut fields, "kind")?.unwrap_or_default();
    let kind = Kind::from_word(&word).ok_or_else(|| {
        let known = Kind::ALL.map(Kind::word).join(", ");
        fault("kind", "kind", format!("must be one of {known}"))
    })?;
    let name = name_of(&mut fields)?.unwrap_or_default();
    if name.is_empty() {
        return Err(fault("name", "required", "is empty"));
    }
    if tx.channels(errand.scope).await?.len() >= limits::CHANNELS_MAX {
        let sentence = format!(
            "the project has {} channels, and may have no more",
            limits::CHANNELS_MAX
        );
        return Err(fault("kind", "limit", sentence));
    }
    let judged = judge(tx, errand, rules, kind, &Value::Object(fields), None, dice).await?;
    let channel = Channel {
        id: dice.id(),
        kind: kind.word().to_owned(),
        name,
        tells_down: judged.tells_down,
        tells_up: judged.tells_up,
        created_at: errand.now,
    };
    tx.channel_insert(errand.scope, &channel, &judged.config, dice)
        .await?;
    note_act(tx, errand, "channel.create", channel.id, dice).await?;
    Ok(made(channel, None, judged, errand.now))
}

/// Every channel of a project as it is shown, in the order of their making.
///
/// # Errors
/// The store's.
pub async fn documents(
    reader: &mut Reader<'_>,
    scope: ProjectScope,
    now: Timestamp,
) -> Result<Vec<Value>, Error> {
    let healths = reader.channels_health(scope).await?;
    let mut documents = Vec::new();
    for channel in reader.channels(scope).await? {
        let config = reader.channel_config(scope, channel.id).await?;
        let health = healths.iter().find(|health| health.channel == channel.id);
        documents.push(document(&channel, health, &config.unwrap_or_default(), now));
    }
    Ok(documents)
}

/// A channel as it is shown; `None` if the project has none of that id.
///
/// # Errors
/// The store's.
pub async fn document_of(
    reader: &mut Reader<'_>,
    scope: ProjectScope,
    id: ChannelId,
    now: Timestamp,
) -> Result<Option<Value>, Error> {
    let Some(opened) = reader.channel_open(scope, id).await? else {
        return Ok(None);
    };
    let health = reader.channel_health(SystemScope::engine(), id).await?;
    let config = opened.config.reveal();
    Ok(Some(document(&opened.channel, health.as_ref(), config, now)))
}

/// Changes a channel. `enabled: true` switches on one that was switched off because it failed, and has a test sent
/// through it. Else `input` is a merge patch (RFC 7396) over `name` and the fields of its kind: what it does not name
/// stays, secrets too.
///
/// # Errors
/// [`Refused`]; nothing is written then.
pub async fn edit(
    tx: &mut Tx<'_>,
    errand: &Errand,
    rules: &Rules,
    id: ChannelId,
    input: &Value,
    dice: &mut Dice,
) -> Result<Made, Refused> {
    let opened = tx
        .channel_open(errand.scope, id)
        .await?
        .ok_or(Refused::NotFound)?;
    let mut fields = fields_of(input)?;
    if take_text(&mut fields, "kind")?.is_some_and(|kind| kind != opened.channel.kind) {
        return Err(fault("kind", "fixed", "cannot be changed; make another channel"));
    }
    let enable = match fields.remove("enabled") {
        None => false,
        Some(Value::Bool(true)) => true,
        Some(_) => {
            return Err(fault(
                "enabled",
                "type",
                "can only be set to true: delete it to stop it",
            ));
        }
    };
    let mut channel = opened.channel.clone();
    if let Some(name) = name_of(&mut fields)? {
        channel.name = name;
    }
    let kind = kind_of(&channel)?;
    let before = opened.config.reveal().as_slice();
    let judged = judge(
        tx,
        errand,
        rules,
        kind,
        &Value::Object(fields),
        Some(before),
        dice,
    )
    .await?;
    (channel.tells_down, channel.tells_up) = (judged.tells_down, judged.tells_up);
    replace(tx, errand, &opened, &channel, &judged.config, dice).await?;
    // Whether it works again is then known before the next alert, and stands with the channel.
    if enable && tx.channel_enable(errand.scope, id).await? {
        note_act(tx, errand, "channel.enable", id, dice).await?;
        if channel.tells_down || channel.tells_up {
            let status = if channel.tells_down {
                Status::Down
            } else {
                Status::Up
            };
            test(tx, errand, id, status, dice).await?;
        }
    }
    note_act(tx, errand, "channel.edit", id, dice).await?;
    let health = tx.channel_health(SystemScope::engine(), id).await?;
    Ok(made(channel, health.as_ref(), judged, errand.now))
}

/// Puts a new secret in the place of the one that signs; the old one goes on signing beside it for `overlap`, where the
/// form has room for two signatures. Without `secret` one is made. Gives the channel with it.
///
/// # Errors
/// [`Refused`]; nothing is written then.
pub async fn rotate(
    tx: &mut Tx<'_>,
    errand: &Errand,
    id: ChannelId,
    secret: Option<Secret<String>>,
    overlap_hours: i64,
    dice: &mut Dice,
) -> Result<Made, Refused> {
    let opened = tx
        .channel_open(errand.scope, id)
        .await?
        .ok_or(Refused::NotFound)?;
    if !(0..=OVERLAP_HOURS_MAX).contains(&overlap_hours) {
        let sentence = format!("must be between 0 and {OVERLAP_HOURS_MAX}");
        return Err(fault("overlap_hours", "range", sentence));
    }
    let mut webhook = webhook_of(&opened)?;
    if webhook.signing.form == Form::None {
        return Err(fault("signing.form", "form", "is none: nothing is signed"));
    }
    if let Some(secret) = &secret {
        signing_secret_fits(webhook.signing.form, secret.reveal())
            .map_err(|sentence| fault("secret", "secret", sentence))?;
    }
    let secret = secret.unwrap_or_else(|| SigningSecret::generate(dice).to_text());
    webhook
        .signing
        .rotate(&secret, errand.now, Span::from_secs(overlap_hours * 3_600));
    let warnings = webhook.try_out().map_err(Refused::Faults)?;
    let config = webhook.to_bytes();
    replace(tx, errand, &opened, &opened.channel, &config, dice).await?;
    note_act(tx, errand, "channel.rotate", id, dice).await?;
    let health = tx.channel_health(SystemScope::engine(), id).await?;
    Ok(Made {
        document: document(&opened.channel, health.as_ref(), &config, errand.now),
        channel: opened.channel,
        secret: Some(secret),
        warnings,
    })
}

/// Deletes a channel. Checks no longer tell it.
///
/// # Errors
/// [`Refused::NotFound`], or the store's.
pub async fn delete(tx: &mut Tx<'_>, errand: &Errand, id: ChannelId, dice: &mut Dice) -> Result<(), Refused> {
    if !tx.channel_delete(errand.scope, id, errand.now).await? {
        return Err(Refused::NotFound);
    }
    note_act(tx, errand, "channel.delete", id, dice).await
}

/// Has a test sent through a channel, as a delivery like any other but with one attempt. Gives its id; what came of it
/// is read with that.
///
/// # Errors
/// [`Refused`]; nothing is written then.
pub async fn test(
    tx: &mut Tx<'_>,
    errand: &Errand,
    id: ChannelId,
    status: Status,
    dice: &mut Dice,
) -> Result<DeliveryId, Refused> {
    let channel = tx.channel(errand.scope, id).await?.ok_or(Refused::NotFound)?;
    let up = status == Status::Up;
    if !(if up { channel.tells_up } else { channel.tells_down }) {
        let sentence = "the channel sends nothing for this status";
        return Err(fault("status", "status", sentence));
    }
    let delivery: DeliveryId = dice.id_at(errand.now);
    let owed = Owed {
        channel: id,
        class: Class::Test,
        expires_at: errand.now + Span::from_secs(TEST_SECS_MAX),
    };
    let note = up.then_some(TEST_UP);
    tx.delivery_insert_plain(errand.scope, &owed, note, delivery, errand.now)
        .await?;
    note_act(tx, errand, "channel.test", id, dice).await?;
    Ok(delivery)
}

async fn judge(
    tx: &mut Tx<'_>,
    errand: &Errand,
    rules: &Rules,
    kind: Kind,
    fields: &Value,
    before: Option<&[u8]>,
    dice: &mut Dice,
) -> Result<Judged, Refused> {
    if kind != Kind::Webhook {
        if let Some(name) = fields.as_object().and_then(|fields| fields.keys().next()) {
            let sentence = format!("a channel of the kind {} has no such field", kind.word());
            return Err(fault(name, "unknown", sentence));
        }
        return Ok(Judged {
            config: b"{}".to_vec(),
            tells_down: kind.sends(),
            tells_up: kind.sends(),
            secret: None,
            warnings: Vec::new(),
        });
    }
    let names = tx.secret_names(errand.scope).await?;
    let before = before
        .map(|bytes| Webhook::from_bytes(bytes).ok_or_else(later_version))
        .transpose()?;
    let court = Court {
        judge: &|url| target::judge(&rules.webhooks, url).map(|target| target.origin()),
        has_secret: &|name| names.iter().any(|named| named.name == name),
        signature_header: &rules.signature_header,
    };
    let mut webhook = Webhook::read(fields, before.as_ref(), &court).map_err(Refused::Faults)?;
    let secret = webhook.signing.complete(dice);
    Ok(Judged {
        config: webhook.to_bytes(),
        tells_down: webhook.down.is_some(),
        tells_up: webhook.up.is_some(),
        secret,
        warnings: webhook.try_out().map_err(Refused::Faults)?,
    })
}

fn made(channel: Channel, health: Option<&Health>, judged: Judged, now: Timestamp) -> Made {
    Made {
        document: document(&channel, health, &judged.config, now),
        channel,
        secret: judged.secret,
        warnings: judged.warnings,
    }
}

async fn replace(
    tx: &mut Tx<'_>,
    errand: &Errand,
    before: &Opened,
    channel: &Channel,
    config: &[u8],
    dice: &mut Dice,
) -> Result<(), Refused> {
    if tx
        .channel_replace(errand.scope, before, channel, config, dice)
        .await?
    {
        Ok(())
    } else {
        Err(Refused::Changed)
    }
}

async fn note_act(
    tx: &mut Tx<'_>,
    errand: &Errand,
    action: &'static str,
    id: ChannelId,
    dice: &mut Dice,
) -> Result<(), Refused> {
    let act = Act {
        at: errand.now,
        project: Some(errand.scope.project()),
        actor: errand.actor.clone(),
        action,
        target: format!("channel:{id}"),
        data: String::new(),
    };
    Ok(tx.audit(dice.id_at(errand.now), &act).await?)
}

fn kind_of(channel: &Channel) -> Result<Kind, Refused> {
    Kind::from_word(&channel.kind).ok_or_else(later_version)
}

fn webhook_of(opened: &Opened) -> Result<Webhook, Refused> {
    if kind_of(&opened.channel)? != Kind::Webhook {
        return Err(fault("kind", "kind", "only webhooks are signed"));
    }
    Webhook::from_bytes(opened.config.reveal()).ok_or_else(later_version)
}

fn later_version() -> Refused {
    Refused::Store(Error::Corrupt(
        "a later version of this program wrote this channel".to_owned(),
    ))
}

fn fields_of(input: &Value) -> Result<Map<String, Value>, Refused> {
    let fields = input.as_object().cloned();
    fields.ok_or_else(|| fault("", "type", "a channel must be an object"))
}

fn take_text(fields: &mut Map<String, Value>, key: &str) -> Result<Option<String>, Refused> {
    match fields.remove(key) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(fault(key, "type", "must be a string")),
    }
}

/// A name that people read: on one line, not empty, not too long.
fn name_of(fields: &mut Map<String, Value>) -> Result<Option<String>, Refused> {
    let Some(text) = take_text(fields, "name")? else {
        return Ok(None);
    };
    let name = text.trim();
    let bound = limits::NAME_CHARS_MAX;
    if name.is_empty() {
        return Err(fault("name", "required", "is empty"));
    }
    if name.chars().count() > bound {
        return Err(fault(
            "name",
            "length",
            format!("is longer than {bound} characters"),
        ));
    }
    if name.chars().any(char::is_control) {
        return Err(fault("name", "characters", "holds control characters"));
    }
    Ok(Some(name.to_owned()))
}
