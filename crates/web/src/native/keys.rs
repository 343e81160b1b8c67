//! `/v1/keys` and `/v1/signing-keys`: made, listed, regenerated, revoked. A key's text is shown once, when it is made.

use allswell_core::cidr::Cidr;
use allswell_core::id::KeyId;
use allswell_core::key::KeyKind;
use allswell_core::limits;
use allswell_core::time::{Span, Timestamp};
use allswell_store::keys::{Key, NewKey};
use allswell_store::signing_keys::{NewSigningKey, SigningKey};
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde_json::{Value, json};

use super::call::WriteCall;
use super::fields::Fields;
use super::once::{Errand, carry_out};
use super::problem::{Problem, kinds};
use super::{Page, json, view};
use crate::path::Segments;
use crate::state::App;

const BASE62: &[u8] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// Characters of a signing key's secret: more than 256 random bits.
const SIGNING_CHARS: usize = 43;

fn shown(key: &Key, now: Timestamp) -> Value {
    json!({
        "id": key.id.to_string(),
        "kind": key.kind.word(),
        "name": key.name,
        "hint": key.lookup,
        "created_at": view::instant(key.created_at),
        "expires_at": view::instant_or_null(key.expires_at),
        "last_used_at": view::instant_or_null(key.last_used_at),
        "last_used_from": key.last_used_from,
        "revoked_at": view::instant_or_null(key.revoked_at),
        "replaced_by": key.replaced_by.map(|id| id.to_string()),
        "networks": key.networks.iter().map(Cidr::to_string).collect::<Vec<_>>(),
        "is_good": key.is_good(now),
    })
}

/// GET `/v1/keys`
pub(crate) async fn list(State(app): State<App>, WriteCall(call): WriteCall) -> Result<Response, Problem> {
    let scope = call.scope;
    let keys = app
        .store()
        .read(async move |reader| reader.keys(scope).await)
        .await?;
    let now = app.now();
    let items = keys.iter().map(|key| shown(key, now)).collect();
    Ok(json(StatusCode::OK, &Page { items, next: None }))
}

fn expiry(fields: &mut Fields, now: Timestamp) -> Option<Timestamp> {
    let days = fields.whole("expires_in_days", 1..=limits::KEY_DAYS_MAX);
    days.map(|days| now + Span::from_days(days))
}

/// POST `/v1/keys`
pub(crate) async fn create(State(app): State<App>, WriteCall(call): WriteCall) -> Result<Response, Problem> {
    let mut fields = Fields::new(call.fields()?);
    let kinds = KeyKind::ALL.map(|kind| (kind.word(), kind));
    let kind = fields.word("kind", &kinds).unwrap_or(KeyKind::ReadOnly);
    let name = fields.text("name", limits::NAME_CHARS_MAX).unwrap_or_default();
    let expires_at = expiry(&mut fields, app.now());
    let networks = networks(&mut fields);
    if kind == KeyKind::Ping && !networks.is_empty() {
        fields.fault("networks", "cannot bind a ping key: pings come from anywhere");
    }
    fields.finish()?;
    carry_out(&app, call, move |tx, errand| {
        Box::pin(async move {
            let new = NewKey {
                kind,
                name: &name,
                expires_at,
                networks: &networks,
            };
            let (id, text) = tx
                .key_insert(errand.scope, &new, &mut errand.dice, errand.now)
                .await?;
            errand.audit(tx, "key.create", format!("key:{id}")).await?;
            let keys = tx.keys(errand.scope).await?;
            let key = keys.iter().find(|key| key.id == id);
            let mut answer = key.map_or(Value::Null, |key| shown(key, errand.now));
            answer["key"] = Value::from(text.reveal().as_str());
            Ok((StatusCode::CREATED, answer))
        })
    })
    .await
}

fn networks(fields: &mut Fields) -> Vec<Cidr> {
    let texts = fields
        .texts("networks", limits::KEY_NETWORKS_MAX)
        .unwrap_or_default();
    let mut networks = Vec::with_capacity(texts.len());
    for text in &texts {
        match Cidr::parse(text) {
            Ok(network) => networks.push(network),
            Err(why) => fields.fault("networks", why.to_string()),
        }
    }
    networks
}

/// POST `/v1/keys/{key}/regenerate`: a new text; the old one stays good for `overlap_hours`.
pub(crate) async fn regenerate(
    State(app): State<App>,
    Segments(name): Segments<String>,
    WriteCall(call): WriteCall,
) -> Result<Response, Problem> {
    let mut fields = Fields::new(call.fields()?);
    let hours = fields
        .whole("overlap_hours", 0..=limits::KEY_OVERLAP_HOURS_MAX)
        .unwrap_or(0);
    fields.finish()?;
    let id: KeyId = name.parse().map_err(|_| Problem::not_found("key"))?;
    carry_out(&app, call, move |tx, errand| {
        Box::pin(async move {
            let overlap = Span::from_secs(hours * 3_600);
            let made = tx
                .key_regenerate(errand.scope, id, overlap, &mut errand.dice, errand.now)
                .await?;
            let (new, text) = made.ok_or_else(|| Problem::not_found("key that is still good"))?;
            errand.audit(tx, "key.regenerate", format!("key:{id}")).await?;
            let keys = tx.keys(errand.scope).await?;
            let key = keys.iter().find(|key| key.id == new);
            let mut answer = key.map_or(Value::Null, |key| shown(key, errand.now));
            answer["key"] = Value::from(text.reveal().as_str());
            Ok((StatusCode::CREATED, answer))
        })
    })
    .await
}

/// DELETE `/v1/keys/{key}`: it opens nothing from now on.
pub(crate) async fn revoke(
    State(app): State<App>,
    Segments(name): Segments<String>,
    WriteCall(call): WriteCall,
) -> Result<Response, Problem> {
    let id: KeyId = name.parse().map_err(|_| Problem::not_found("key"))?;
    let mut errand = Errand::new(&app, &call);
    app.store()
        .write_again(async move |tx| {
            if !tx.key_revoke(errand.scope, id, errand.now).await? {
                return Err(Problem::not_found("key that is still good"));
            }
            errand.audit(tx, "key.revoke", format!("key:{id}")).await
        })
        .await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

fn signing_shown(key: &SigningKey, now: Timestamp) -> Value {
    json!({
        "id": key.id.to_string(),
        "kind": key.kind.word(),
        "name": key.name,
        "created_at": view::instant(key.created_at),
        "expires_at": view::instant_or_null(key.expires_at),
        "last_used_at": view::instant_or_null(key.last_used_at),
        "revoked_at": view::instant_or_null(key.revoked_at),
        "is_good": key.is_good(now),
    })
}

/// GET `/v1/signing-keys`
pub(crate) async fn signing_list(
    State(app): State<App>,
    WriteCall(call): WriteCall,
) -> Result<Response, Problem> {
    let scope = call.scope;
    let keys = app
        .store()
        .read(async move |reader| reader.signing_keys(scope).await)
        .await?;
    let now = app.now();
    let items = keys.iter().map(|key| signing_shown(key, now)).collect();
    Ok(json(StatusCode::OK, &Page { items, next: None }))
}

/// POST `/v1/signing-keys`
pub(crate) async fn signing_create(
    State(app): State<App>,
    WriteCall(call): WriteCall,
) -> Result<Response, Problem> {
    let mut fields = Fields::new(call.fields()?);
    let words = [KeyKind::ReadWrite, KeyKind::ReadOnly].map(|kind| (kind.word(), kind));
    let kind = fields.word("kind", &words).unwrap_or(KeyKind::ReadOnly);
    let name = fields.text("name", limits::NAME_CHARS_MAX).unwrap_or_default();
    let expires_at = expiry(&mut fields, app.now());
    fields.finish()?;
    carry_out(&app, call, move |tx, errand| {
        Box::pin(async move {
            let secret = format!("ash_{}", errand.dice.text(BASE62, SIGNING_CHARS));
            let new = NewSigningKey {
                kind,
                name: &name,
                secret: secret.as_bytes(),
                expires_at,
            };
            let id = tx
                .signing_key_insert(errand.scope, &new, &mut errand.dice, errand.now)
                .await?;
            errand
                .audit(tx, "signing-key.create", format!("signing-key:{id}"))
                .await?;
            let keys = tx.signing_keys(errand.scope).await?;
            let key = keys.iter().find(|key| key.id == id);
            let mut answer = key.map_or(Value::Null, |key| signing_shown(key, errand.now));
            answer["secret"] = Value::from(secret);
            Ok((StatusCode::CREATED, answer))
        })
    })
    .await
}

/// DELETE `/v1/signing-keys/{key}`
pub(crate) async fn signing_revoke(
    State(app): State<App>,
    Segments(name): Segments<String>,
    WriteCall(call): WriteCall,
) -> Result<Response, Problem> {
    let id: KeyId = name.parse().map_err(|_| Problem::not_found("signing key"))?;
    let mut errand = Errand::new(&app, &call);
    app.store()
        .write_again(async move |tx| {
            let scope = errand.scope;
            let now = errand.now;
            if !tx.signing_key_revoke(scope, id, now).await? {
                return Err(Problem::not_found("signing key that is still good"));
            }
            // The last key that may write in a project that takes only signed calls would lock it.
            let left = tx.signing_keys(scope).await?;
            if tx.requires_hmac(scope).await? && !left.iter().any(|key| key.may_write(now)) {
                return Err(Problem::new(
                    kinds::CONFLICT,
                    "it is the last read-write one of a project that takes only signed requests; make another first",
                ));
            }
            errand
                .audit(tx, "signing-key.revoke", format!("signing-key:{id}"))
                .await
        })
        .await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}
