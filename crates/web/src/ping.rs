//! The ping endpoints and nothing else: address, method, run id, exit status and body in; `OK` out, after the commit
//! (`healthchecks.md` section 1).

use std::borrow::Cow;
use std::net::IpAddr;

use allswell_core::id::{self, CheckId};
use allswell_core::limits;
use allswell_core::scope::{ProjectScope, SystemScope};
use allswell_core::secret::Secret;
use allswell_core::signal::Action;
use allswell_engine::ingest::{Address, Answer, Arrival, Refusal, cut_user_agent};
use allswell_store::checks::Found;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::header::{ACCESS_CONTROL_ALLOW_ORIGIN, CACHE_CONTROL, CONTENT_TYPE, HeaderName, USER_AGENT};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, StatusCode};
use http_body::Body as _;

use crate::client::Client;
use crate::error::{self, Error};
use crate::headers;
use crate::query::Query;
use crate::serve::Peer;
use crate::serve::body::{BodyError, read_cut};
use crate::state::App;

const NOT_FOUND: (StatusCode, &str) = (StatusCode::NOT_FOUND, "not found");
const BAD_ADDRESS: (StatusCode, &str) = (StatusCode::BAD_REQUEST, "invalid url format");
const BAD_RUN_ID: (StatusCode, &str) = (StatusCode::BAD_REQUEST, "invalid uuid format");
const AMBIGUOUS: (StatusCode, &str) = (StatusCode::CONFLICT, "ambiguous slug");

/// Any method on `/ping/...`.
///
/// Every request that waits for its commit keeps this future: what is rare lies in a box of its own, made when needed.
pub(crate) async fn ping(State(app): State<App>, request: Request) -> Response {
    let (parts, body, client) = opened(request, &app);
    let limits = app.limits();
    // Read before anything is decided: a client in the middle of sending hears no answer.
    let body = if body.is_end_stream() {
        Bytes::new()
    } else {
        let (keep, drain) = (limits.ping_body_bytes, limits.ping_drain_bytes);
        match Box::pin(read_cut(body, keep, drain, limits.body_within)).await {
            Ok(cut) => cut.bytes,
            Err(BodyError::TimedOut) => {
                return (StatusCode::REQUEST_TIMEOUT, "the body did not arrive in time").into_response();
            }
            Err(BodyError::Broken(_) | BodyError::TooLarge { .. }) => {
                return StatusCode::BAD_REQUEST.into_response();
            }
        }
    };
    let arrival = match read(&app, parts, body) {
        Ok(arrival) => arrival,
        Err(Away::With(answer)) => return answer.into_response(),
        Err(Away::Flawed(address, flaw)) => return Box::pin(flawed(&app, address, flaw, client)).await,
    };
    match app.inbox().put(arrival).await {
        Ok(Answer::Stored) => accepted(&app, StatusCode::OK, "OK"),
        Ok(Answer::Created) => accepted(&app, StatusCode::CREATED, "Created"),
        Ok(Answer::NotFound) => nobody_s(&app, client),
        Ok(Answer::Ambiguous) => AMBIGUOUS.into_response(),
        Err(Refusal::Full | Refusal::Busy) => error::try_again(),
        Err(Refusal::Failed) => {
            (StatusCode::INTERNAL_SERVER_ERROR, "the ping could not be stored").into_response()
        }
    }
}

/// A request taken apart, with who sends it. Not within the future: what is looked at there is kept there.
fn opened(request: Request, app: &App) -> (Parts, Body, Option<IpAddr>) {
    let (parts, body) = request.into_parts();
    let client = Client::of(&parts, app).0;
    (parts, body, client)
}

/// The address is nobody's. Who tries many is not told any more which of them are somebody's.
fn nobody_s(app: &App, client: Option<IpAddr>) -> Response {
    match app.take_unknown_address(client) {
        Ok(()) => NOT_FOUND.into_response(),
        Err(secs) => Error::TooMany(secs).into_response(),
    }
}

/// A request that is no ping.
enum Away {
    With((StatusCode, &'static str)),
    /// With a bad exit status or run id.
    Flawed(Address, (StatusCode, &'static str)),
}

/// What a request says.
fn read(app: &App, parts: Parts, body: Bytes) -> Result<Arrival, Away> {
    let query = Query::of(&parts.uri);
    let path = parts.uri.path().strip_prefix("/ping/").unwrap_or_default();
    let (address, action) = match parse(path, query.last("create") == Some("1")) {
        Parsed::Ping(address, action) => (address, action),
        Parsed::BadSlug => return Err(Away::With(BAD_ADDRESS)),
        Parsed::Nothing => return Err(Away::With(NOT_FOUND)),
    };
    let rid = query.last("rid").map(id::parse_run_id);
    let Some(action) = action else {
        return Err(Away::Flawed(address, BAD_ADDRESS));
    };
    if rid == Some(None) {
        return Err(Away::Flawed(address, BAD_RUN_ID));
    }
    let peer = parts.extensions.get::<Peer>().map(|peer| peer.0);
    Ok(Arrival {
        at: app.now(),
        address,
        action,
        rid: rid.flatten(),
        scheme: peer.map_or_else(
            || "http".to_owned(),
            |peer| app.network().scheme(peer, &parts.headers),
        ),
        method: parts
            .method
            .as_str()
            .chars()
            .take(limits::METHOD_BYTES_MAX)
            .collect(),
        remote_addr: peer.and_then(|peer| app.network().claimed_address(peer, &parts.headers)),
        user_agent: cut_user_agent(&text_of(&parts.headers, &USER_AGENT)),
        body,
    })
}

fn accepted(app: &App, status: StatusCode, text: &'static str) -> Response {
    let mut response = (status, text).into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    headers.insert(CACHE_CONTROL, headers::NEVER_CACHED);
    headers.insert("ping-body-limit", HeaderValue::from(app.limits().ping_body_bytes));
    response
}

/// A header as text: UTF-8, else each byte as its Latin-1 character.
fn text_of<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Cow<'h, str> {
    let bytes = headers.get(name).map(HeaderValue::as_bytes).unwrap_or_default();
    match std::str::from_utf8(bytes) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => Cow::Owned(bytes.iter().map(|b| char::from(*b)).collect()),
    }
}

/// A ping with a bad exit status or run id: what its address names decides the answer first.
async fn flawed(
    app: &App,
    address: Address,
    flaw: (StatusCode, &'static str),
    client: Option<IpAddr>,
) -> Response {
    let now = app.now();
    let answer = app.store().read(async move |reader| {
        let system = SystemScope::engine();
        let (found, create) = match address {
            Address::Ourselves(_) => (Found::None, false),
            Address::Check(id) => {
                let check = reader.check_any(system, id).await?;
                (
                    check.map_or(Found::None, |check| Found::One(Box::new(check))),
                    false,
                )
            }
            Address::Slug { key, slug, create } => {
                let project = reader.project_by_ping_key(system, key.reveal(), now).await?;
                let Some(project) = project else {
                    return Ok(NOT_FOUND);
                };
                (
                    reader
                        .check_by_slug(ProjectScope::granted(project), &slug)
                        .await?,
                    create,
                )
            }
        };
        Ok::<_, allswell_store::Error>(match found {
            Found::Ambiguous => AMBIGUOUS,
            Found::None if !create => NOT_FOUND,
            // With `create=1` the check would have been made, had the rest been right.
            Found::None | Found::One(_) => flaw,
        })
    });
    match answer.await {
        Ok((StatusCode::NOT_FOUND, _)) => nobody_s(app, client),
        Ok(answer) => answer.into_response(),
        Err(error) => Error::from(error).into_response(),
    }
}

enum Parsed {
    /// The action is `None` for an exit status above 255.
    Ping(Address, Option<Action>),
    /// Refused before anything is looked for, as Healthchecks 4 does.
    BadSlug,
    Nothing,
}

/// Reads the path behind `/ping/`.
fn parse(path: &str, create: bool) -> Parsed {
    let parts: Vec<&str> = path.splitn(4, '/').collect();
    if let Some(check) = id::parse_strict(parts[0]).map(CheckId::from) {
        let action = match parts.as_slice() {
            [_] | [_, ""] => Some(Some(Action::Success)),
            [_, suffix] => action_of(suffix),
            _ => None,
        };
        if let Some(action) = action {
            return Parsed::Ping(Address::Check(check), action);
        }
    }
    let is_word = |text: &str| {
        !text.is_empty()
            && text
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
    };
    let (key, slug, action) = match parts.as_slice() {
        [key, slug] => (*key, *slug, Some(Some(Action::Success))),
        [key, slug, suffix] => (*key, *slug, action_of(suffix)),
        _ => return Parsed::Nothing,
    };
    let Some(action) = action.filter(|_| is_word(key) && is_word(slug)) else {
        return Parsed::Nothing;
    };
    // A slug that no check can have must not become one either.
    if slug.bytes().any(|b| b.is_ascii_uppercase()) || (create && slug.len() > limits::SLUG_CHARS_MAX) {
        return Parsed::BadSlug;
    }
    let key = Secret::new(key.to_owned());
    Parsed::Ping(
        Address::Slug {
            key,
            slug: slug.to_owned(),
            create,
        },
        action,
    )
}

/// What stands behind the check in an address. The inner `None`: an exit status above 255.
fn action_of(suffix: &str) -> Option<Option<Action>> {
    match suffix {
        "start" => Some(Some(Action::Start)),
        "fail" => Some(Some(Action::Fail)),
        "log" => Some(Some(Action::Log)),
        digits if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) => {
            // Leading zeros are fine, and a number may be longer than any integer.
            let digits = digits.trim_start_matches('0');
            let status = if digits.is_empty() {
                Some(0)
            } else {
                digits.parse::<u8>().ok()
            };
            Some(status.map(Action::Exit))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "5e3f9a1c-0b7d-4c52-9d3a-6f1e2b8c4a70";

    fn say(path: &str) -> String {
        match parse(path, false) {
            Parsed::Ping(Address::Check(_), action) => format!("check {action:?}"),
            Parsed::Ping(Address::Slug { slug, .. }, action) => format!("slug {slug} {action:?}"),
            Parsed::Ping(Address::Ourselves(_), _) => "ourselves".to_owned(),
            Parsed::BadSlug => "bad slug".to_owned(),
            Parsed::Nothing => "nothing".to_owned(),
        }
    }

    /// Thousands of them wait at once, and what is larger than a kilobyte the allocator serves by its slow way.
    #[test]
    fn a_ping_that_waits_takes_little_memory() {
        fn bytes<F>(_: fn(State<App>, Request) -> F) -> usize {
            size_of::<F>()
        }
        let bytes = bytes(ping);
        assert!(bytes < 900, "{bytes}");
    }

    #[test]
    fn addresses_mean_what_healthchecks_says() {
        for (suffix, meaning) in [
            ("", "check Some(Success)"),
            ("/", "check Some(Success)"),
            ("/start", "check Some(Start)"),
            ("/fail", "check Some(Fail)"),
            ("/log", "check Some(Log)"),
            ("/0", "check Some(Exit(0))"),
            ("/007", "check Some(Exit(7))"),
            ("/255", "check Some(Exit(255))"),
            ("/256", "check None"),
            ("/99999999999999999999999999", "check None"),
            ("/000000000000000000000000000000000001", "check Some(Exit(1))"),
            // What is no action is read as ping key and slug.
            ("/success", "slug success Some(Success)"),
            ("/FAIL", "bad slug"),
            ("/-1", "slug -1 Some(Success)"),
            ("/1.5", "nothing"),
            ("/start/", "nothing"),
            ("/1/", "nothing"),
            ("/a/b/c", "nothing"),
        ] {
            assert_eq!(say(&format!("{ID}{suffix}")), meaning, "{suffix}");
        }
        let long = format!("key/{}", "a".repeat(101));
        assert!(
            matches!(parse(&long, true), Parsed::BadSlug) && matches!(parse(&long, false), Parsed::Ping(..))
        );
        for (path, meaning) in [
            ("key/backup", "slug backup Some(Success)"),
            ("key/backup/start", "slug backup Some(Start)"),
            ("key/backup/3", "slug backup Some(Exit(3))"),
            ("key/backup/300", "slug backup None"),
            ("key/backup/", "nothing"),
            ("key/Backup", "bad slug"),
            ("key/Backup/fail", "bad slug"),
            ("KEY_x-1/backup", "slug backup Some(Success)"),
            ("key/back%20up", "nothing"),
            ("key//start", "nothing"),
            ("/backup", "nothing"),
            ("key", "nothing"),
            ("", "nothing"),
            ("5E3F9A1C-0B7D-4C52-9D3A-6F1E2B8C4A70", "nothing"),
            ("5e3f9a1c0b7d4c529d3a6f1e2b8c4a70", "nothing"),
        ] {
            assert_eq!(say(path), meaning, "{path}");
        }
    }
}
