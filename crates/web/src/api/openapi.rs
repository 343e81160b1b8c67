//! `openapi.json`: the description of this API, written by hand; tests hold it to the routes and to the answers.

use axum::response::{IntoResponse, Response};
use http::header::{CACHE_CONTROL, CONTENT_TYPE};

const DOCUMENT: &str = include_str!("openapi.json");

/// GET `/api/v3/openapi.json`
pub(crate) async fn document() -> Response {
    (
        [
            (CONTENT_TYPE, "application/json"),
            (CACHE_CONTROL, "max-age=3600"),
        ],
        DOCUMENT,
    )
        .into_response()
}
