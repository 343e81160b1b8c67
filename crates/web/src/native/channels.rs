//! `/v1/channels`: where a project's alerts go. Their addresses and tokens are secrets and never shown.

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use serde_json::json;

use super::call::WriteCall;
use super::problem::Problem;
use super::{Page, json, view};
use crate::state::App;

/// GET `/v1/channels`
pub(crate) async fn list(State(app): State<App>, WriteCall(call): WriteCall) -> Result<Response, Problem> {
    let scope = call.scope;
    let channels = app
        .store()
        .read(async move |reader| reader.channels(scope).await)
        .await?;
    let items = channels
        .iter()
        .map(|channel| {
            json!({
                "id": channel.id.to_string(),
                "kind": channel.kind,
                "name": channel.name,
                "tells_down": channel.tells_down,
                "tells_up": channel.tells_up,
                "created_at": view::instant(channel.created_at),
            })
        })
        .collect();
    Ok(json(StatusCode::OK, &Page { items, next: None }))
}
