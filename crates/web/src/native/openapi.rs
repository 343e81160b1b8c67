//! `/v1/openapi.json`: the description of the native API (OpenAPI 3.1), written by hand; tests hold it to the routes and
//! to the answers.

use axum::response::{IntoResponse, Response};
use http::header::{CACHE_CONTROL, CONTENT_TYPE};

const DOCUMENT: &str = include_str!("openapi.json");

/// GET `/v1/openapi.json`
pub(crate) async fn document() -> Response {
    let headers = [
        (CONTENT_TYPE, "application/json"),
        (CACHE_CONTROL, "max-age=3600"),
    ];
    (headers, DOCUMENT).into_response()
}
