//! How a ping is answered: in Healthchecks' words, or in JSON to who asks for that and nothing else.
//!
//! Only `Accept: application/json` by name asks for it. `*/*` is what clients send that do not care, and they get what
//! they always got.

use allswell_core::check::Fault;
use allswell_core::signal::Kind;
use allswell_engine::ingest::{Answer, Receipt, Refusal, Told};
use axum::response::{IntoResponse, Response};
use http::header::{ACCEPT, ACCESS_CONTROL_ALLOW_ORIGIN, CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, StatusCode};
use serde_json::json;

use crate::error;
use crate::headers;
use crate::native::problem::{Problem, kinds};

/// In which form a client wants its answer.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Text,
    Json,
}

impl Form {
    /// What the headers of a request ask for.
    pub(crate) fn asked(headers: &HeaderMap) -> Self {
        let named = |range: &str| {
            let mut parts = range.split(';').map(str::trim);
            let is_json = parts
                .next()
                .is_some_and(|name| name.eq_ignore_ascii_case("application/json"));
            let refused = parts.any(|part| {
                let quality = part.strip_prefix("q=").or_else(|| part.strip_prefix("Q="));
                quality.is_some_and(|quality| quality.trim().parse() == Ok(0.0))
            });
            is_json && !refused
        };
        let ranges = headers.get_all(ACCEPT).iter();
        let asked = ranges
            .filter_map(|value| value.to_str().ok())
            .any(|value| value.split(',').any(named));
        if asked { Form::Json } else { Form::Text }
    }
}

/// Why a request is no ping that counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    NotFound,
    BadAddress,
    BadRunId,
    Ambiguous,
    KeyMissing,
    KeyWrong,
    /// The check must be made, and a parameter cannot be understood.
    Parameter(Box<Fault>),
    /// More pings came than the check takes; seconds to wait.
    Limited(i64),
    /// The client tries too many addresses that are nobody's; seconds to wait.
    TooManyUnknown(i64),
    TooSlow,
    Broken,
    TryAgain,
    Failed,
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Full | Refusal::Busy => Refused::TryAgain,
            Refusal::Failed => Refused::Failed,
        }
    }
}

const KEY_MISSING: &str = "this ping needs the ping key of its project in the header X-Ping-Key";
const KEY_WRONG: &str = "what came in X-Ping-Key is no ping key";
/// The one fault that only the database shows.
const UNKNOWN_CHANNEL: &str = "names channels of the project, by name or id with commas between, or is *: one is not there, or several have its name";
const LIMITED: &str = "too many pings of this check";

impl Refused {
    pub(crate) fn into_response(self, form: Form) -> Response {
        match form {
            Form::Text => self.text(),
            Form::Json => {
                let mut response = self.problem().into_response();
                response
                    .headers_mut()
                    .insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
                response
            }
        }
    }

    fn text(self) -> Response {
        let (status, text) = match self {
            Refused::NotFound => (StatusCode::NOT_FOUND, "not found"),
            Refused::BadAddress => (StatusCode::BAD_REQUEST, "invalid url format"),
            Refused::BadRunId => (StatusCode::BAD_REQUEST, "invalid uuid format"),
            Refused::Ambiguous => (StatusCode::CONFLICT, "ambiguous slug"),
            Refused::KeyMissing => (StatusCode::FORBIDDEN, KEY_MISSING),
            Refused::KeyWrong => (StatusCode::FORBIDDEN, KEY_WRONG),
            Refused::Parameter(fault) => {
                let text = format!("invalid {}: it {}", fault.parameter, fault.sentence);
                return (StatusCode::BAD_REQUEST, text).into_response();
            }
            Refused::Limited(secs) => {
                let retry = [(RETRY_AFTER, HeaderValue::from(secs))];
                return (StatusCode::TOO_MANY_REQUESTS, retry, LIMITED).into_response();
            }
            Refused::TooManyUnknown(secs) => return error::Error::TooMany(secs).into_response(),
            Refused::TooSlow => (StatusCode::REQUEST_TIMEOUT, "the body did not arrive in time"),
            Refused::Broken => return StatusCode::BAD_REQUEST.into_response(),
            Refused::TryAgain => return error::try_again(),
            Refused::Failed => (StatusCode::INTERNAL_SERVER_ERROR, "the ping could not be stored"),
        };
        (status, text).into_response()
    }

    fn problem(self) -> Problem {
        match self {
            Refused::NotFound => Problem::new(kinds::NOT_FOUND, "no check has this address"),
            Refused::BadAddress => Problem::new(
                kinds::BAD_REQUEST,
                "the address is none of a ping: a slug has small letters, digits, - and _, an exit status is 0 to 255",
            ),
            Refused::BadRunId => Problem::new(kinds::BAD_REQUEST, "rid is a UUID"),
            Refused::Ambiguous => {
                Problem::new(kinds::CONFLICT, "several checks of the project have this slug")
            }
            Refused::KeyMissing => Problem::new(kinds::PING_KEY, KEY_MISSING),
            Refused::KeyWrong => Problem::new(kinds::PING_KEY, KEY_WRONG),
            Refused::Parameter(fault) => Problem::bad_parameter(fault.parameter, fault.sentence),
            Refused::Limited(secs) => Problem::too_many(LIMITED, secs),
            Refused::TooManyUnknown(secs) => {
                Problem::too_many("too many pings came from you to addresses of no check", secs)
            }
            Refused::TooSlow => Problem::new(kinds::TOO_SLOW, "the body did not arrive in time"),
            Refused::Broken => Problem::new(kinds::BAD_REQUEST, "the body broke off"),
            Refused::TryAgain => Problem::try_again("the ping is not stored; send it again"),
            Refused::Failed => Problem::new(kinds::INTERNAL, "the ping could not be stored"),
        }
    }
}

/// What is answered to a ping that was stored; the error is for one that was not.
pub(crate) fn of(told: Told, form: Form, body_limit: usize) -> Result<Response, Refused> {
    let (status, text) = match told.answer {
        Answer::Stored => (StatusCode::OK, "OK"),
        Answer::Created => (StatusCode::CREATED, "Created"),
        Answer::NotFound => return Err(Refused::NotFound),
        Answer::Ambiguous => return Err(Refused::Ambiguous),
        Answer::KeyMissing => return Err(Refused::KeyMissing),
        Answer::KeyWrong => return Err(Refused::KeyWrong),
        Answer::BadParameter(parameter) => {
            return Err(Refused::Parameter(Box::new(Fault {
                parameter,
                sentence: UNKNOWN_CHANNEL.to_owned(),
            })));
        }
        // Rounded up: who comes a moment too early would be refused once more.
        Answer::Limited(retry) => return Err(Refused::Limited((retry.as_micros() + 999_999) / 1_000_000)),
    };
    let (content, body) = match (form, told.receipt) {
        (Form::Json, Some(receipt)) => ("application/json", shown(&receipt, status)),
        _ => ("text/html; charset=utf-8", text.to_owned()),
    };
    let mut response = (status, body).into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content));
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    headers.insert(CACHE_CONTROL, headers::NEVER_CACHED);
    headers.insert("ping-body-limit", HeaderValue::from(body_limit));
    Ok(response)
}

fn shown(receipt: &Receipt, status: StatusCode) -> String {
    let body = json!({
        "status": "ok",
        "check": receipt.check.to_string(),
        "n": receipt.n,
        "kind": receipt.kind.word(),
        "ignored": receipt.kind == Kind::Ignored,
        "kept": receipt.kept,
        "check_status": receipt.status.word(),
        "created": status == StatusCode::CREATED,
    });
    body.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_json_by_name_asks_for_json() {
        for (accept, form) in [
            (&[][..], Form::Text),
            (&["*/*"], Form::Text),
            (&["application/*"], Form::Text),
            (&["text/html,application/xhtml+xml,*/*;q=0.8"], Form::Text),
            (&["application/json"], Form::Json),
            (&["Application/JSON; charset=utf-8"], Form::Json),
            (&["text/plain, application/json;q=0.5"], Form::Json),
            (&["text/plain", "application/json"], Form::Json),
            (&["application/json;q=0"], Form::Text),
            (&["application/json; q=0.000"], Form::Text),
            (&["application/jsonp"], Form::Text),
        ] {
            let mut headers = HeaderMap::new();
            for value in accept {
                headers.append(ACCEPT, HeaderValue::from_static(value));
            }
            assert_eq!(Form::asked(&headers), form, "{accept:?}");
        }
    }
}
