//! Every address where nothing is.

use askama::Template;
use axum::extract::State;
use axum::response::Response;
use http::StatusCode;

use super::render;
use crate::state::App;

#[derive(Template)]
#[template(path = "nothing.html")]
struct Nothing<'a> {
    base: &'a str,
}

pub(crate) async fn page(State(app): State<App>) -> Response {
    let base = app.site().base();
    render(StatusCode::NOT_FOUND, &Nothing { base })
}
