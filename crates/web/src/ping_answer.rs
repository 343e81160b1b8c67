//! How a ping is answered: in Healthchecks' words, or in JSON to who asks for that before anything else.
//!
//! Only `Accept: application/json` by name asks for it, and no text beside it that is as welcome. `*/*` is what clients
//! send that do not care, and many name JSON before it by themselves: they get what they always got.

use allswell_core::check::Fault;
use allswell_core::signal::Kind;
use allswell_engine::ingest::{Answer, Receipt, Refusal, Told};
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::header::{
    ACCEPT, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_MAX_AGE, CACHE_CONTROL, CONTENT_TYPE, HeaderName, RETRY_AFTER,
};
use http::{HeaderMap, HeaderValue, StatusCode};
use serde_json::json;

use crate::error;
use crate::headers;
use crate::native::problem::{Problem, kinds};

const PING_BODY_LIMIT: HeaderName = HeaderName::from_static("ping-body-limit");

/// In which form a client wants its answer.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Text,
    Json,
}

impl Form {
    /// What the headers of a request ask for.
    pub(crate) fn asked(headers: &HeaderMap) -> Self {
        let (mut json, mut text) = (0.0_f32, 0.0_f32);
        let values = headers.get_all(ACCEPT).iter();
        for range in values
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
        {
            let (name, quality) = name_and_quality(range);
            if matches!(&*name, "application/json" | "application/problem+json") {
                json = json.max(quality.unwrap_or(0.0));
            } else if name == "*/*" || name.starts_with("text/") {
                text = text.max(quality.unwrap_or(1.0));
            }
        }
        if json > text { Form::Json } else { Form::Text }
    }
}

/// One range of an `Accept` header in small letters, and how welcome it is, 0 to 1; `None` if that cannot be read.
fn name_and_quality(range: &str) -> (String, Option<f32>) {
    let mut parts = range.split(';').map(|part| part.trim().to_ascii_lowercase());
    let name = parts.next().unwrap_or_default();
    let quality = parts
        .find_map(|part| part.strip_prefix("q=").map(str::to_owned))
        .map_or(Some(1.0), |quality| quality.trim().parse().ok())
        .filter(|quality| (0.0..=1.0).contains(quality));
    (name, quality)
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
        let mut response = match form {
            Form::Text => self.text(),
            Form::Json => {
                let mut response = self.problem().into_response();
                response
                    .headers_mut()
                    .insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
                response
            }
        };
        // A 404 may be kept by whoever passes it on (RFC 9111 section 4.2.2): the check's pings would end there once it exists.
        let headers = response.headers_mut();
        headers.insert(CACHE_CONTROL, headers::NEVER_CACHED);
        response
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
        (Form::Json, Some(receipt)) => ("application/json", Body::from(shown(&receipt, status))),
        _ => ("text/html; charset=utf-8", Body::from(text)),
    };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content));
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    headers.insert(CACHE_CONTROL, headers::NEVER_CACHED);
    headers.insert(PING_BODY_LIMIT, HeaderValue::from(body_limit));
    Ok(response)
}

/// What a browser hears that asks whether it may send a ping key.
pub(crate) fn preflight() -> Response {
    let headers = [
        (ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
        (
            ACCESS_CONTROL_ALLOW_METHODS,
            "HEAD, GET, POST, PUT, PATCH, DELETE",
        ),
        (ACCESS_CONTROL_ALLOW_HEADERS, "X-Ping-Key, Content-Type"),
        (ACCESS_CONTROL_MAX_AGE, "600"),
    ];
    (StatusCode::NO_CONTENT, headers).into_response()
}

fn shown(receipt: &Receipt, status: StatusCode) -> String {
    let body = json!({
        "status": "ok",
        "check": receipt.check.map(|id| id.to_string()),
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
    fn only_json_by_name_and_before_all_text_asks_for_json() {
        for (accept, form) in [
            (&[][..], Form::Text),
            (&["*/*"], Form::Text),
            (&["application/*"], Form::Text),
            (&["text/html,application/xhtml+xml,*/*;q=0.8"], Form::Text),
            (&["application/json"], Form::Json),
            (&["Application/JSON; charset=utf-8"], Form::Json),
            (&["application/json;q=0.5"], Form::Json),
            (&["application/problem+json"], Form::Json),
            (&["application/json, text/plain;q=0.9, */*;q=0.8"], Form::Json),
            (&["application/json", "*/*; Q=0.1"], Form::Json),
            (&["text/plain;q=0, application/json"], Form::Json),
            // What clients for JavaScript send by themselves.
            (&["application/json, text/plain, */*"], Form::Text),
            (&["application/json, */*"], Form::Text),
            (&["text/plain, application/json;q=0.5"], Form::Text),
            (&["text/html;q=0.5, application/json;q=0.5"], Form::Text),
            (&["text/plain", "application/json"], Form::Text),
            (&["application/json;q=2"], Form::Text),
            (&["application/json;q=NaN"], Form::Text),
            (&["application/json;q=0.9, */*;q=x"], Form::Text),
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
