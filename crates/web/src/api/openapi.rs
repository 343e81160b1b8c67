//! `openapi.json`: the description of this API, written by hand; tests hold it to the routes and to the answers.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header::{CACHE_CONTROL, CONTENT_TYPE};

use crate::state::App;

const DOCUMENT: &str = include_str!("openapi.json");
/// How the documents write where all their paths begin.
const SERVER: &str = "\"url\": \"/\"";

/// GET `/api/v3/openapi.json`
pub(crate) async fn document(State(app): State<App>) -> Response {
    answer(DOCUMENT, &app)
}

/// A description, with the path of the public address where all its paths begin.
pub(crate) fn answer(document: &'static str, app: &App) -> Response {
    let headers = [
        (CONTENT_TYPE, "application/json"),
        (CACHE_CONTROL, "max-age=3600"),
    ];
    match app.site().base() {
        "" => (headers, document).into_response(),
        base => {
            let server = format!("\"url\": {}", serde_json::Value::from(base));
            (headers, document.replacen(SERVER, &server, 1)).into_response()
        }
    }
}
