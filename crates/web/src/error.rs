//! What goes wrong for a client: a status, a public sentence, and a private cause that is logged once, here.

use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, StatusCode};

/// An answer that is not what the client hoped for.
#[derive(Debug)]
pub(crate) enum Error {
    /// The compatible API's `{"error": "..."}`.
    Json(StatusCode, String),
    /// A text, or nothing, where clients look only at the status.
    Text(StatusCode, &'static str),
    /// Too many of something; another will do after so many seconds.
    TooMany(i64),
    /// The database failed.
    Store(allswell_store::Error),
}

impl Error {
    /// 404 without a word.
    pub(crate) const NOT_FOUND: Error = Error::Text(StatusCode::NOT_FOUND, "not found");
    /// 403 without a word.
    pub(crate) const FORBIDDEN: Error = Error::Text(StatusCode::FORBIDDEN, "");

    /// 400 with a sentence as the compatible API puts it.
    pub(crate) fn bad_request(sentence: impl Into<String>) -> Self {
        Error::Json(StatusCode::BAD_REQUEST, sentence.into())
    }
}

impl From<allswell_store::Error> for Error {
    fn from(error: allswell_store::Error) -> Self {
        Error::Store(error)
    }
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        match self {
            Error::Json(status, sentence) => {
                let body = serde_json::json!({ "error": sentence }).to_string();
                (status, [(CONTENT_TYPE, "application/json")], body).into_response()
            }
            Error::Text(status, text) => (status, text).into_response(),
            Error::TooMany(secs) => {
                let body = r#"{"error": "too many requests"}"#;
                let json = [(CONTENT_TYPE, "application/json")];
                let mut response = (StatusCode::TOO_MANY_REQUESTS, json, body).into_response();
                response
                    .headers_mut()
                    .insert(RETRY_AFTER, HeaderValue::from(secs));
                response
            }
            Error::Store(error) => {
                // A lost race is as passing as an outage: the same request may succeed when it comes again.
                let passing = error.is_passing() || matches!(error, allswell_store::Error::Conflict(_));
                tracing::error!("a request failed: {error}");
                if passing {
                    try_again()
                } else {
                    (StatusCode::INTERNAL_SERVER_ERROR, "internal error").into_response()
                }
            }
        }
    }
}

/// 503: the client should come again shortly.
pub(crate) fn try_again() -> Response {
    let mut response = (StatusCode::SERVICE_UNAVAILABLE, "try again").into_response();
    response
        .headers_mut()
        .insert(RETRY_AFTER, HeaderValue::from_static("5"));
    response
}
