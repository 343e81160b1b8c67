//! `/v1/secrets`: named secrets for the templates of webhooks. They go in and never come out.

use allswell_core::secret::Secret;
use allswell_engine::channels::Errand as EngineErrand;
use allswell_engine::secrets;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde_json::json;

use super::call::WriteCall;
use super::once::Errand;
use super::problem::Problem;
use super::{Page, json, view};
use crate::path::Segments;
use crate::state::App;

fn for_engine(errand: &Errand) -> EngineErrand {
    EngineErrand {
        scope: errand.scope,
        actor: errand.actor.clone(),
        now: errand.now,
    }
}

/// GET `/v1/secrets`
pub(crate) async fn list(State(app): State<App>, WriteCall(call): WriteCall) -> Result<Response, Problem> {
    let scope = call.scope;
    let names = app
        .store()
        .read(async move |reader| reader.secret_names(scope).await)
        .await?;
    let items = names
        .iter()
        .map(|named| {
            json!({
                "name": named.name,
                "created_at": view::instant(named.created_at),
                "updated_at": view::instant(named.updated_at),
            })
        })
        .collect();
    Ok(json(StatusCode::OK, &Page { items, next: None }))
}

/// PUT `/v1/secrets/{name}`
pub(crate) async fn set(
    State(app): State<App>,
    Segments(name): Segments<String>,
    WriteCall(call): WriteCall,
) -> Result<Response, Problem> {
    let mut fields = super::fields::Fields::new(call.fields()?);
    let value = fields.text("value", allswell_core::limits::SECRET_BYTES_MAX);
    let value = Secret::new(value.unwrap_or_default());
    fields.finish()?;
    let mut errand = Errand::new(&app, &call);
    let is_new = app
        .store()
        .write_again(async move |tx| {
            let by = for_engine(&errand);
            let is_new = secrets::set(tx, &by, &name, &value, &mut errand.dice).await?;
            Ok::<_, Problem>(is_new)
        })
        .await?;
    Ok(if is_new {
        StatusCode::CREATED
    } else {
        StatusCode::NO_CONTENT
    }
    .into_response())
}

/// DELETE `/v1/secrets/{name}`
pub(crate) async fn delete(
    State(app): State<App>,
    Segments(name): Segments<String>,
    WriteCall(call): WriteCall,
) -> Result<Response, Problem> {
    let mut errand = Errand::new(&app, &call);
    app.store()
        .write_again(async move |tx| {
            secrets::delete(tx, &for_engine(&errand), &name, &mut errand.dice).await?;
            Ok::<_, Problem>(())
        })
        .await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}
