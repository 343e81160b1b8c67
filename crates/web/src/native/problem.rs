//! What goes wrong, in the one shape of the native API: `application/problem+json` (RFC 9457).

use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, StatusCode};
use serde_json::{Value, json};

/// Which kind of problem: its `type`, its status and its title.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct Kind {
    pub(crate) word: &'static str,
    pub(crate) status: StatusCode,
    pub(crate) title: &'static str,
}

const fn kind(word: &'static str, status: StatusCode, title: &'static str) -> Kind {
    Kind { word, status, title }
}

/// All kinds, so that the description of the API can list them.
pub(crate) mod kinds {
    use super::{Kind, StatusCode, kind};

    pub(crate) const BAD_REQUEST: Kind = kind(
        "bad-request",
        StatusCode::BAD_REQUEST,
        "The request cannot be read",
    );
    pub(crate) const INVALID: Kind = kind(
        "invalid",
        StatusCode::UNPROCESSABLE_ENTITY,
        "A field is not valid",
    );
    pub(crate) const NO_KEY: Kind = kind("no-key", StatusCode::UNAUTHORIZED, "No key was sent");
    pub(crate) const WRONG_KEY: Kind = kind(
        "wrong-key",
        StatusCode::UNAUTHORIZED,
        "The key opens nothing here",
    );
    pub(crate) const SIGNATURE: Kind = kind(
        "signature",
        StatusCode::UNAUTHORIZED,
        "The signature was not accepted",
    );
    pub(crate) const READ_ONLY: Kind = kind(
        "read-only",
        StatusCode::FORBIDDEN,
        "The key may look and not change anything",
    );
    pub(crate) const PING_KEY: Kind = kind(
        "ping-key",
        StatusCode::FORBIDDEN,
        "The ping key is missing or wrong",
    );
    pub(crate) const LIMIT: Kind = kind("limit", StatusCode::FORBIDDEN, "There are as many as may be");
    pub(crate) const NOT_FOUND: Kind = kind("not-found", StatusCode::NOT_FOUND, "There is no such thing");
    pub(crate) const METHOD: Kind = kind(
        "method",
        StatusCode::METHOD_NOT_ALLOWED,
        "This address takes other methods",
    );
    pub(crate) const CONFLICT: Kind = kind(
        "conflict",
        StatusCode::CONFLICT,
        "Its present state does not allow that",
    );
    pub(crate) const CHANGED: Kind = kind(
        "changed",
        StatusCode::PRECONDITION_FAILED,
        "Somebody else changed it meanwhile",
    );
    pub(crate) const TOO_LARGE: Kind = kind(
        "too-large",
        StatusCode::PAYLOAD_TOO_LARGE,
        "The request is too large",
    );
    pub(crate) const TOO_SLOW: Kind = kind(
        "too-slow",
        StatusCode::REQUEST_TIMEOUT,
        "The request did not arrive in time",
    );
    pub(crate) const MEDIA_TYPE: Kind = kind(
        "media-type",
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "The body is not JSON",
    );
    pub(crate) const TOO_MANY: Kind = kind("too-many", StatusCode::TOO_MANY_REQUESTS, "Too many requests");
    pub(crate) const TRY_AGAIN: Kind = kind(
        "try-again",
        StatusCode::SERVICE_UNAVAILABLE,
        "The server cannot answer just now",
    );
    pub(crate) const INTERNAL: Kind =
        kind("internal", StatusCode::INTERNAL_SERVER_ERROR, "The server failed");
}

/// A field and what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    /// The path to the field: `schedule.expression`.
    pub(crate) field: String,
    /// A sentence that says what would be right.
    pub(crate) detail: String,
    /// A code for the rule that is broken, where there is one.
    pub(crate) rule: Option<&'static str>,
}

/// An answer that is not what the caller hoped for.
#[derive(Debug)]
pub(crate) struct Problem {
    kind: Kind,
    detail: String,
    faults: Vec<Fault>,
    retry_secs: Option<i64>,
}

impl Problem {
    pub(crate) fn new(kind: Kind, detail: impl Into<String>) -> Self {
        Problem {
            kind,
            detail: detail.into(),
            faults: Vec::new(),
            retry_secs: None,
        }
    }

    /// Nothing of the caller's has this name.
    pub(crate) fn not_found(what: &str) -> Self {
        Problem::new(kinds::NOT_FOUND, format!("this project has no such {what}"))
    }

    pub(crate) fn is_not_found(&self) -> bool {
        self.kind == kinds::NOT_FOUND
    }

    /// One field is wrong.
    pub(crate) fn field(field: impl Into<String>, detail: impl Into<String>) -> Self {
        Problem::fields(vec![Fault {
            field: field.into(),
            detail: detail.into(),
            rule: None,
        }])
    }

    /// A parameter of an address is wrong.
    pub(crate) fn bad_parameter(parameter: &str, detail: impl Into<String>) -> Self {
        Problem {
            kind: kinds::BAD_REQUEST,
            ..Problem::field(parameter, detail)
        }
    }

    /// Fields are wrong; at least one.
    pub(crate) fn fields(faults: Vec<Fault>) -> Self {
        let detail = faults
            .iter()
            .map(|fault| format!("{}: {}", fault.field, fault.detail))
            .collect::<Vec<_>>()
            .join("; ");
        Problem {
            faults,
            ..Problem::new(kinds::INVALID, detail)
        }
    }

    /// It cannot be done just now.
    pub(crate) fn try_again(detail: impl Into<String>) -> Self {
        Problem {
            retry_secs: Some(5),
            ..Problem::new(kinds::TRY_AGAIN, detail)
        }
    }

    /// Too many; another will do after so many seconds.
    pub(crate) fn too_many(detail: impl Into<String>, retry_secs: i64) -> Self {
        Problem {
            retry_secs: Some(retry_secs.max(1)),
            ..Problem::new(kinds::TOO_MANY, detail)
        }
    }
}

impl From<allswell_engine::channels::Refused> for Problem {
    fn from(refused: allswell_engine::channels::Refused) -> Self {
        use allswell_engine::channels::Refused;
        match refused {
            Refused::Faults(faults) => Problem::fields(
                faults
                    .into_iter()
                    .map(|fault| Fault {
                        field: fault.field,
                        detail: fault.sentence,
                        rule: Some(fault.rule),
                    })
                    .collect(),
            ),
            Refused::NotFound => Problem::new(kinds::NOT_FOUND, "this project has nothing of that name"),
            Refused::Changed => Problem::new(kinds::CONFLICT, refused.to_string()),
            Refused::Store(error) => error.into(),
        }
    }
}

impl From<allswell_store::Error> for Problem {
    fn from(error: allswell_store::Error) -> Self {
        let passing = error.is_passing() || matches!(error, allswell_store::Error::Conflict(_));
        tracing::error!("a request failed: {error}");
        if passing {
            Problem::try_again("nothing was changed; send the same request again")
        } else {
            Problem::new(kinds::INTERNAL, "nothing was changed; the server's log says why")
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut body = json!({
            "type": format!("urn:allswell:problem:{}", self.kind.word),
            "title": self.kind.title,
            "status": self.kind.status.as_u16(),
            "detail": self.detail,
        });
        if let Some(first) = self.faults.first() {
            body["field"] = Value::from(first.field.as_str());
            body["errors"] = self
                .faults
                .iter()
                .map(|fault| {
                    let mut shown = json!({ "field": fault.field, "detail": fault.detail });
                    if let Some(rule) = fault.rule {
                        shown["rule"] = Value::from(rule);
                    }
                    shown
                })
                .collect();
        }
        let mut response = (
            self.kind.status,
            [(CONTENT_TYPE, "application/problem+json")],
            body.to_string(),
        )
            .into_response();
        if let Some(secs) = self.retry_secs {
            response
                .headers_mut()
                .insert(RETRY_AFTER, HeaderValue::from(secs));
        }
        if self.kind.status == StatusCode::UNAUTHORIZED {
            response
                .headers_mut()
                .insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}
