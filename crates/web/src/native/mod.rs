//! The native API, `/v1/`: our words, one shape for errors, pages by cursor, answers that are given once.
//!
//! One file per noun. `call` says who calls, `problem` what went wrong, `page` how lists are cut, `once` how a repeated
//! POST finds its first answer. Whatever is not the caller's is not there: 404, never 403.

pub(crate) mod call;
pub(crate) mod channels;
pub(crate) mod checks;
pub(crate) mod events;
mod fields;
pub(crate) mod history;
pub(crate) mod keys;
mod once;
pub(crate) mod openapi;
mod page;
pub(crate) mod pings;
pub(crate) mod problem;
pub(crate) mod projects;
mod rules;
pub(crate) mod secrets;
mod view;

use axum::extract::Request;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::MethodRouter;
use http::header::{ALLOW, CACHE_CONTROL};
use http::{HeaderValue, StatusCode};
use serde::Serialize;

use crate::headers::NEVER_CACHED;
use crate::state::App;
use problem::{Problem, kinds};

/// A resource that answers to `methods`, as its `Allow` header lists them.
pub(crate) fn resource(methods: &'static str, router: MethodRouter<App>) -> MethodRouter<App> {
    let not_allowed = move || async move {
        let problem = Problem::new(kinds::METHOD, format!("it takes {methods}"));
        ([(ALLOW, methods)], problem).into_response()
    };
    router
        // Without this a HEAD would be answered as a GET.
        .head(not_allowed)
        .fallback(not_allowed)
        .layer(middleware::from_fn(private))
}

/// Answers belong to whoever has the key and to nobody on the way.
async fn private(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    response
        .headers_mut()
        .entry(CACHE_CONTROL)
        .or_insert(NEVER_CACHED);
    response
}

/// What is not there.
pub(crate) async fn nothing() -> Response {
    Problem::new(
        kinds::NOT_FOUND,
        "there is no such address; /v1/openapi.json lists those there are",
    )
    .into_response()
}

/// An answer in JSON.
fn json(status: StatusCode, value: &impl Serialize) -> Response {
    crate::api::json(status, value)
}

/// A page of a list.
#[derive(Serialize)]
struct Page<T> {
    items: Vec<T>,
    /// The cursor of the next page; `null` on the last one.
    next: Option<String>,
}

/// Adds an entity tag.
fn tagged(mut response: Response, tag: &str) -> Response {
    if let Ok(value) = HeaderValue::from_str(tag) {
        response.headers_mut().insert(http::header::ETAG, value);
    }
    response
}
