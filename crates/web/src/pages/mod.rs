//! Pages: a view struct and a template of that name each.

pub(crate) mod assets;
pub(crate) mod nothing;
pub(crate) mod start;
pub(crate) mod start_link;

use askama::Template;
use axum::response::{Html, IntoResponse, Response};
use http::StatusCode;

/// Renders a page. A template that fails is a mistake of ours, logged once.
fn render(status: StatusCode, page: &impl Template) -> Response {
    match page.render() {
        Ok(html) => (status, Html(html)).into_response(),
        Err(error) => {
            tracing::error!("a page could not be rendered: {error}");
            (StatusCode::INTERNAL_SERVER_ERROR, "internal error").into_response()
        }
    }
}
