//! `/v1/channels`: where a project's alerts go. Their addresses and tokens are secrets: they go in and never come out.

use allswell_core::check::Status;
use allswell_core::id::ChannelId;
use allswell_core::limits::CHANNEL_TESTS_PER_MINUTE;
use allswell_core::secret::Secret;
use allswell_engine::channels::{self, Made, OVERLAP_HOURS_DEFAULT, OVERLAP_HOURS_MAX};
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde_json::{Value, json};

use super::call::{Call, WriteCall};
use super::once::{Errand, carry_out};
use super::problem::Problem;
use super::{Page, json};
use crate::path::Segments;
use crate::state::App;

fn id_of(name: &str) -> Result<ChannelId, Problem> {
    name.parse().map_err(|_| Problem::not_found("channel"))
}

fn for_engine(errand: &Errand) -> channels::Errand {
    channels::Errand {
        scope: errand.scope,
        actor: errand.actor.clone(),
        now: errand.now,
    }
}

/// A channel that was made or changed: with its secret, if one was made, and what its owner should know.
fn answer(made: Made) -> Value {
    let mut answer = made.document;
    if let Some(secret) = made.secret {
        answer["secret"] = Value::from(secret.reveal().as_str());
    }
    answer["warnings"] = made
        .warnings
        .iter()
        .map(|(field, warning)| {
            json!({ "field": field, "rule": warning.code(), "detail": warning.sentence() })
        })
        .collect();
    answer
}

/// GET `/v1/channels`
pub(crate) async fn list(State(app): State<App>, WriteCall(call): WriteCall) -> Result<Response, Problem> {
    let (scope, now) = (call.scope, app.now());
    let items = app
        .store()
        .read(async move |reader| channels::documents(reader, scope, now).await)
        .await?;
    Ok(json(StatusCode::OK, &Page { items, next: None }))
}

/// GET `/v1/channels/{channel}`
pub(crate) async fn show(
    State(app): State<App>,
    Segments(name): Segments<String>,
    WriteCall(call): WriteCall,
) -> Result<Response, Problem> {
    let (id, scope, now) = (id_of(&name)?, call.scope, app.now());
    let found = app
        .store()
        .read(async move |reader| channels::document_of(reader, scope, id, now).await)
        .await?;
    let document = found.ok_or_else(|| Problem::not_found("channel"))?;
    Ok(json(StatusCode::OK, &document))
}

/// POST `/v1/channels`
pub(crate) async fn create(State(app): State<App>, WriteCall(call): WriteCall) -> Result<Response, Problem> {
    let input = Value::Object(call.fields()?);
    carry_out(&app, call, move |tx, errand| {
        Box::pin(async move {
            let (by, rules) = (for_engine(errand), errand.app.channel_rules().clone());
            let made = channels::create(tx, &by, &rules, &input, &mut errand.dice).await?;
            Ok((StatusCode::CREATED, answer(made)))
        })
    })
    .await
}

/// PATCH `/v1/channels/{channel}`: a merge patch (RFC 7396).
pub(crate) async fn update(
    State(app): State<App>,
    Segments(name): Segments<String>,
    WriteCall(call): WriteCall,
) -> Result<Response, Problem> {
    let (id, input) = (id_of(&name)?, Value::Object(call.fields()?));
    let mut errand = Errand::new(&app, &call);
    let made = app
        .store()
        .write_again(async move |tx| {
            let (by, rules) = (for_engine(&errand), errand.app.channel_rules().clone());
            let made = channels::edit(tx, &by, &rules, id, &input, &mut errand.dice).await?;
            Ok::<_, Problem>(made)
        })
        .await?;
    Ok(json(StatusCode::OK, &answer(made)))
}

/// POST `/v1/channels/{channel}/rotate-secret`: a new signing secret; the old one signs on for `overlap_hours`.
pub(crate) async fn rotate_secret(
    State(app): State<App>,
    Segments(name): Segments<String>,
    WriteCall(call): WriteCall,
) -> Result<Response, Problem> {
    let id = id_of(&name)?;
    let (secret, hours) = rotation(&call)?;
    carry_out(&app, call, move |tx, errand| {
        Box::pin(async move {
            let by = for_engine(errand);
            let made = channels::rotate(tx, &by, id, secret, hours, &mut errand.dice).await?;
            Ok((StatusCode::OK, answer(made)))
        })
    })
    .await
}

fn rotation(call: &Call) -> Result<(Option<Secret<String>>, i64), Problem> {
    let mut fields = super::fields::Fields::new(call.fields()?);
    let secret = fields.text("secret", 1_000).map(Secret::new);
    let hours = fields.whole("overlap_hours", 0..=OVERLAP_HOURS_MAX);
    fields.finish()?;
    Ok((secret, hours.unwrap_or(OVERLAP_HOURS_DEFAULT)))
}

/// DELETE `/v1/channels/{channel}`: checks no longer tell it.
pub(crate) async fn delete(
    State(app): State<App>,
    Segments(name): Segments<String>,
    WriteCall(call): WriteCall,
) -> Result<Response, Problem> {
    let id = id_of(&name)?;
    let mut errand = Errand::new(&app, &call);
    app.store()
        .write_again(async move |tx| {
            channels::delete(tx, &for_engine(&errand), id, &mut errand.dice).await?;
            Ok::<_, Problem>(())
        })
        .await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// POST `/v1/channels/{channel}/test`: a delivery with one attempt. `/v1/deliveries/{delivery}` says what came of it.
pub(crate) async fn test(
    State(app): State<App>,
    Segments(name): Segments<String>,
    WriteCall(call): WriteCall,
) -> Result<Response, Problem> {
    let id = id_of(&name)?;
    let mut fields = super::fields::Fields::new(call.fields()?);
    let words = [("down", Status::Down), ("up", Status::Up)];
    let status = fields.word("status", &words).unwrap_or(Status::Down);
    fields.finish()?;
    let quota = app.clone();
    carry_out(&app, call, move |tx, errand| {
        Box::pin(async move {
            let by = for_engine(errand);
            let delivery = channels::test(tx, &by, id, status, &mut errand.dice).await?;
            // Last: neither a repeat nor what is refused for another reason costs a test. What was written is undone.
            quota.take_channel_test(errand.scope.project()).map_err(|secs| {
                let sentence =
                    format!("a project may test its channels {CHANNEL_TESTS_PER_MINUTE} times a minute");
                Problem::too_many(sentence, secs)
            })?;
            Ok((StatusCode::ACCEPTED, json!({ "delivery": delivery.to_string() })))
        })
    })
    .await
}
