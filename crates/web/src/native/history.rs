//! `/v1/flips`, `/v1/incidents`, `/v1/deliveries`: what happened, why, and who was told. Newest first; `?check=` for one
//! check.

use allswell_core::id::{CheckId, DeliveryId};
use allswell_core::key::KeyKind;
use allswell_core::scope::ProjectScope;
use allswell_engine::channels::Errand;
use allswell_engine::redeliver::{self, Redelivered};
use allswell_store::Reader;
use allswell_store::pages::Position;
use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use serde_json::{Value, json};
use uuid::Uuid;

use super::call::{ReadCall, WriteCall};
use super::checks::find;
use super::fields::Fields;
use super::once::carry_out;
use super::problem::{Problem, kinds};
use super::{Page, json, page, view};
use crate::path::Segments;
use crate::state::App;

/// The check that `?check=` names.
async fn named(
    reader: &mut Reader<'_>,
    scope: ProjectScope,
    kind: KeyKind,
    name: Option<&str>,
) -> Result<Option<CheckId>, Problem> {
    match name {
        None => Ok(None),
        Some(name) => match find(reader, scope, kind, name).await {
            Ok(check) => Ok(Some(check.id)),
            Err(problem) if problem.is_not_found() => {
                Err(Problem::field("check", "is no check of this project"))
            }
            Err(problem) => Err(problem),
        },
    }
}

/// GET `/v1/flips`
pub(crate) async fn flips(State(app): State<App>, ReadCall(call): ReadCall) -> Result<Response, Problem> {
    let query = call.query();
    let limit = page::limit(&query)?;
    let before = page::number(&query, i64::MAX)?;
    let name = query.last("check").map(str::to_owned);
    let of_one = name.is_some();
    let (scope, kind) = (call.scope, call.kind);
    let mut flips = app
        .store()
        .read(async move |reader| {
            let check = named(reader, scope, kind, name.as_deref()).await?;
            Ok::<_, Problem>(reader.flips_page(scope, check, before, limit + 1).await?)
        })
        .await?;
    let next = page::cut(&mut flips, limit, |flip| {
        let seq = i64::try_from(flip.flip.seq).unwrap_or(i64::MAX);
        page::base36(if of_one { seq } else { flip.change })
    });
    let items = flips
        .iter()
        .map(|flip| view::flip(flip.check, &flip.flip, kind))
        .collect();
    Ok(json(StatusCode::OK, &Page { items, next }))
}

/// GET `/v1/incidents`
pub(crate) async fn incidents(State(app): State<App>, ReadCall(call): ReadCall) -> Result<Response, Problem> {
    let query = call.query();
    let limit = page::limit(&query)?;
    let before = page::position(&query, Position::LAST)?;
    let name = query.last("check").map(str::to_owned);
    let (scope, kind) = (call.scope, call.kind);
    let mut incidents = app
        .store()
        .read(async move |reader| {
            let check = named(reader, scope, kind, name.as_deref()).await?;
            Ok::<_, Problem>(reader.incidents_page(scope, check, before, limit + 1).await?)
        })
        .await?;
    let next = page::cut(&mut incidents, limit, |(check, incident)| {
        page::cursor(Position {
            at: incident.opened_at,
            id: check.as_uuid(),
        })
    });
    let items = incidents
        .iter()
        .map(|(check, incident)| view::incident(*check, incident, kind))
        .collect();
    Ok(json(StatusCode::OK, &Page { items, next }))
}

/// GET `/v1/deliveries`
pub(crate) async fn deliveries(
    State(app): State<App>,
    ReadCall(call): ReadCall,
) -> Result<Response, Problem> {
    let query = call.query();
    let limit = page::limit(&query)?;
    let before = page::id(&query, Uuid::max())?;
    let name = query.last("check").map(str::to_owned);
    let (scope, kind) = (call.scope, call.kind);
    let mut deliveries = app
        .store()
        .read(async move |reader| {
            let check = named(reader, scope, kind, name.as_deref()).await?;
            Ok::<_, Problem>(reader.deliveries_page(scope, check, before, limit + 1).await?)
        })
        .await?;
    let next = page::cut(&mut deliveries, limit, |delivery| {
        delivery.id.as_uuid().simple().to_string()
    });
    let items = deliveries
        .iter()
        .map(|delivery| view::delivery(delivery, kind))
        .collect();
    Ok(json(StatusCode::OK, &Page { items, next }))
}

/// GET `/v1/deliveries/{delivery}`: with its attempts.
pub(crate) async fn delivery(
    State(app): State<App>,
    Segments(name): Segments<String>,
    ReadCall(call): ReadCall,
) -> Result<Response, Problem> {
    let id: DeliveryId = name.parse().map_err(|_| Problem::not_found("delivery"))?;
    let scope = call.scope;
    let found = app
        .store()
        .read(async move |reader| {
            let Some(delivery) = reader.delivery_of_project(scope, id).await? else {
                return Ok(None);
            };
            let attempts = reader.attempts_whole(scope, id).await?;
            let told = reader.delivery_flips(scope, id).await?;
            Ok::<_, allswell_store::Error>(Some((delivery, attempts, told)))
        })
        .await?;
    let (delivery, attempts, mut told) = found.ok_or_else(|| Problem::not_found("delivery"))?;
    told.sort_unstable();
    let mut shown = view::delivery(&delivery, call.kind);
    // Its own, and those that it overtook before they could be told.
    shown["flips"] = Value::from(told);
    let attempts: Vec<Value> = attempts.iter().map(view::attempt).collect();
    shown["tries"] = Value::from(attempts);
    Ok(json(StatusCode::OK, &shown))
}

/// POST `/v1/deliveries/{delivery}/again`: sends one that has ended again, with its id.
pub(crate) async fn again(
    State(app): State<App>,
    Segments(name): Segments<String>,
    WriteCall(call): WriteCall,
) -> Result<Response, Problem> {
    let id: DeliveryId = name.parse().map_err(|_| Problem::not_found("delivery"))?;
    let mut fields = Fields::new(call.fields()?);
    let force = fields.truth("force").unwrap_or(false);
    fields.finish()?;
    carry_out(&app, call, move |tx, errand| {
        Box::pin(async move {
            let by = Errand {
                scope: errand.scope,
                actor: errand.actor.clone(),
                now: errand.now,
            };
            let why = match redeliver::again(tx, &by, id, force, &mut errand.dice).await? {
                Some(Redelivered::Yes) => {
                    return Ok((StatusCode::ACCEPTED, json!({ "delivery": id.to_string() })));
                }
                Some(Redelivered::StillOpen) => "it has not ended: it is tried by itself",
                Some(Redelivered::NewerDelivered) => {
                    "the channel was told of a newer flip of this check, or is about to be; force sends it all the same"
                }
                Some(Redelivered::IsTest) => {
                    "it was a test of its channel: POST /v1/channels/{id}/test makes another one"
                }
                None => return Err(Problem::not_found("delivery")),
            };
            Err(Problem::new(kinds::CONFLICT, why))
        })
    })
    .await
}
