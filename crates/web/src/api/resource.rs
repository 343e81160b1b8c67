//! What all resources of the compatible API do alike: CORS on every answer, 204 to a preflight, 405 to other methods,
//! and 301 to the address with its final slash, for every method.

use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, any};
use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_MAX_AGE, LOCATION,
};
use http::{HeaderValue, Method, StatusCode};

use super::compat;
use crate::state::App;

/// A resource that answers to `methods` (as the header lists them, OPTIONS included).
pub(crate) fn resource(methods: &'static str, router: MethodRouter<App>) -> MethodRouter<App> {
    let methods = HeaderValue::from_static(methods);
    router
        // Without this a HEAD would be answered as a GET.
        .head(not_allowed)
        .options(async || StatusCode::NO_CONTENT)
        .fallback(not_allowed)
        .layer(middleware::from_fn(move |request: Request, next: Next| {
            let methods = methods.clone();
            async move { with_cors(next.run(request).await, methods) }
        }))
}

/// A check. Its id names it for everything; by its unique key it is looked at and no more, and it says so.
pub(crate) fn check(router: MethodRouter<App>) -> MethodRouter<App> {
    let by_key = async |request: Request, next: Next| {
        let code = request.uri().path().rsplit('/').next().unwrap_or_default();
        if !compat::is_unique_key(code) {
            return next.run(request).await;
        }
        let response = match *request.method() {
            Method::GET | Method::OPTIONS => next.run(request).await,
            _ => StatusCode::METHOD_NOT_ALLOWED.into_response(),
        };
        with_cors(response, HeaderValue::from_static("GET, OPTIONS"))
    };
    resource("GET, POST, DELETE, OPTIONS", router).layer(middleware::from_fn(by_key))
}

async fn not_allowed() -> StatusCode {
    StatusCode::METHOD_NOT_ALLOWED
}

fn with_cors(mut response: Response, methods: HeaderValue) -> Response {
    let headers = response.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    headers.insert(
        ACCESS_CONTROL_ALLOW_HEADERS,
        HeaderValue::from_static("X-Api-Key"),
    );
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, methods);
    headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
    response
}

/// The address without its final slash: real clients rely on being sent to the one with it, even from a POST.
pub(crate) fn to_slash() -> MethodRouter<App> {
    any(async |State(app): State<App>, request: Request| {
        let uri = request.uri();
        // As others know it: a proxy may have taken a path away.
        let base = app.site().base();
        let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
        let location = HeaderValue::try_from(format!("{base}{}/{query}", uri.path()));
        let mut response = StatusCode::MOVED_PERMANENTLY.into_response();
        match location {
            Ok(location) => response.headers_mut().insert(LOCATION, location),
            Err(_) => return StatusCode::BAD_REQUEST.into_response(),
        };
        response
    })
}
