//! `/`: what this is, for whoever finds the address.

use askama::Template;
use axum::extract::State;
use axum::response::Response;
use http::StatusCode;

use super::render;
use crate::state::App;

#[derive(Template)]
#[template(path = "start.html")]
struct Start<'a> {
    base: &'a str,
    version: &'a str,
    ping_base: &'a str,
}

/// GET `/`
pub(crate) async fn page(State(app): State<App>) -> Response {
    render(
        StatusCode::OK,
        &Start {
            base: app.site().base(),
            version: env!("CARGO_PKG_VERSION"),
            ping_base: &app.site().ping_base(),
        },
    )
}
