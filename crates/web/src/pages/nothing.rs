//! Every address where nothing is.

use askama::Template;
use axum::response::Response;
use http::StatusCode;

use super::render;

#[derive(Template)]
#[template(path = "nothing.html")]
struct Nothing;

pub(crate) async fn page() -> Response {
    render(StatusCode::NOT_FOUND, &Nothing)
}
