//! `channels/`: what a check can tell, without secrets.

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use serde_json::{Value, json};

use super::auth::WriteKey;
use super::json;
use crate::error::Error;
use crate::state::App;

/// GET `channels/`
pub(crate) async fn list(State(app): State<App>, key: WriteKey) -> Result<Response, Error> {
    let scope = key.scope;
    let channels = app
        .store()
        .read(async move |reader| reader.channels(scope).await)
        .await?;
    let shown: Vec<Value> = channels
        .iter()
        .map(|channel| json!({ "id": channel.id.to_string(), "name": channel.name, "kind": channel.kind }))
        .collect();
    Ok(json(StatusCode::OK, &json!({ "channels": shown })))
}
