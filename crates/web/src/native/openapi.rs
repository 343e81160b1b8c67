//! `/v1/openapi.json`: the description of the native API (OpenAPI 3.1), written by hand; tests hold it to the routes and
//! to the answers.

use axum::extract::State;
use axum::response::Response;

use crate::api::openapi::answer;
use crate::state::App;

const DOCUMENT: &str = include_str!("openapi.json");

/// GET `/v1/openapi.json`
pub(crate) async fn document(State(app): State<App>) -> Response {
    answer(DOCUMENT, &app)
}
