//! `/start/<secret>`: the commands for the first account, project, channel and check.
//!
//! The page makes nothing, so opening it does not use the link up: it opens until its time is over.

use askama::Template;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use http::header::CACHE_CONTROL;
use http::{HeaderValue, StatusCode};

use super::render;
use crate::error::Error;
use crate::state::App;

/// A command that is given no file.
const COMMAND: &str = "allswell";

#[derive(Template)]
#[template(path = "start_link.html")]
struct StartLink<'a> {
    base: &'a str,
    site: &'a str,
    command: &'a str,
    has_file: bool,
}

#[derive(Template)]
#[template(path = "start_link_lapsed.html")]
struct Lapsed<'a> {
    base: &'a str,
}

/// GET `/start/<secret>`
pub(crate) async fn page(State(app): State<App>, Path(secret): Path<String>) -> Result<Response, Error> {
    let hash = crate::start_link_hash(&secret);
    let expires_at = app
        .store()
        .read(async move |reader| reader.start_link_expires_at(&hash).await)
        .await?;
    let base = app.site().base();
    let mut response = if expires_at.is_some_and(|at| app.now() < at) {
        render(
            StatusCode::OK,
            &StartLink {
                base,
                site: &app.site().url,
                command: &app.site().command,
                has_file: app.site().command != COMMAND,
            },
        )
    } else {
        render(StatusCode::NOT_FOUND, &Lapsed { base })
    };
    response
        .headers_mut()
        .insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response.into_response())
}
