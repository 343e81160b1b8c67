//! The few files that pages load.

use axum::extract::Path;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};

const STYLE: &str = include_str!("../../static/allswell.css");
const MARK: &str = include_str!("../../static/mark.svg");

fn asset(kind: &'static str, text: &'static str) -> Response {
    ([(CONTENT_TYPE, kind), (CACHE_CONTROL, "max-age=3600")], text).into_response()
}

/// GET `/static/<file>`
pub(crate) async fn file(Path(name): Path<String>) -> Response {
    match name.as_str() {
        "allswell.css" => asset("text/css; charset=utf-8", STYLE),
        "mark.svg" => asset("image/svg+xml", MARK),
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}

/// GET `/favicon.ico`
pub(crate) async fn favicon() -> Response {
    asset("image/svg+xml", MARK)
}
