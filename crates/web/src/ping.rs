//! The ping endpoints and nothing else: address, method, run id, exit status and body in; `OK` out, after the commit
//! (`healthchecks.md` section 1).

use std::borrow::Cow;
use std::net::IpAddr;

use allswell_core::admission::{Admission, Asked, Sent, admit};
use allswell_core::check::{Fault, Wish};
use allswell_core::id::{self, CheckId};
use allswell_core::limits;
use allswell_core::scope::{ProjectScope, SystemScope};
use allswell_core::secret::Secret;
use allswell_core::signal::Action;
use allswell_engine::ingest::{Address, Answer, Arrival, Refusal, Told, Wished, cut_user_agent};
use allswell_store::checks::Found;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use bytes::Bytes;
use http::header::{ACCESS_CONTROL_REQUEST_METHOD, HeaderName, USER_AGENT};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method};
use http_body::Body as _;

use crate::client::Client;
use crate::ping_answer::{self, Form, Refused};
use crate::query::Query;
use crate::serve::Peer;
use crate::serve::body::{BodyError, Cut, read_cut};
use crate::state::App;

/// Where a ping by id brings the ping key of its project, if that is asked for.
const PING_KEY: HeaderName = HeaderName::from_static("x-ping-key");
const PING_KEY_CHARS_MAX: usize = 100;

/// Any method on `/ping/...`.
///
/// Every request that waits for its commit keeps this future: what is rare lies in a box of its own, made when needed.
pub(crate) async fn ping(State(app): State<App>, request: Request) -> Response {
    let (parts, body, client) = opened(request, &app);
    let form = Form::asked(&parts.headers);
    let is_preflight = is_preflight(&parts);
    // Read before anything is decided: a client in the middle of sending hears no answer.
    let body = if body.is_end_stream() {
        Bytes::new()
    } else {
        match Box::pin(read_cut_body(body, &app)).await {
            Ok(cut) => cut.bytes,
            Err(BodyError::TimedOut) => return Refused::TooSlow.into_response(form),
            Err(BodyError::Broken(_) | BodyError::TooLarge { .. }) => {
                return Refused::Broken.into_response(form);
            }
        }
    };
    let HandedIn { waiting, fault } = match hand_in(&app, parts, body) {
        Ok(handed_in) => handed_in,
        Err(away) => return Box::pin(turned_away(&app, *away, form, client)).await,
    };
    let told = waiting.await;
    if is_preflight && matches!(&told, Ok(told) if told.answer == Answer::KeyMissing) {
        return ping_answer::preflight();
    }
    answered(&app, told, fault, form, client)
}

/// Whether a browser asks what it may send. That is a ping like any other, as Healthchecks has it, unless it was refused
/// for want of the key, which no browser sends before it has its answer.
fn is_preflight(parts: &Parts) -> bool {
    parts.method == Method::OPTIONS && parts.headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD)
}

/// A ping that is on its way.
struct HandedIn<F> {
    waiting: F,
    /// What is wrong with its wish.
    fault: Option<Box<Fault>>,
}

/// Reads a request and hands its ping in: what waits for the answer, and what is wrong with its wish, which is told only
/// where the check must be made. Not within the future that waits: it would keep room for all of this.
fn hand_in(
    app: &App,
    parts: Parts,
    body: Bytes,
) -> Result<HandedIn<impl Future<Output = Result<Told, Refusal>> + Send>, Box<Away>> {
    let arrival = read(app, parts, body)?;
    let fault = match &arrival.address {
        Address::Wished(wished) => wished.wish.as_ref().err().cloned().map(Box::new),
        _ => None,
    };
    let waiting = app.inbox().put_and_hear(arrival);
    Ok(HandedIn { waiting, fault })
}

async fn turned_away(app: &App, away: Away, form: Form, client: Option<IpAddr>) -> Response {
    match away {
        Away::With(refused) => refused.into_response(form),
        Away::Flawed(address, flaw) => {
            let refused = flawed(app, address, flaw).await;
            or_too_many(refused, app, client).into_response(form)
        }
    }
}

async fn read_cut_body(body: Body, app: &App) -> Result<Cut, BodyError> {
    let limits = app.limits();
    let (keep, drain) = (limits.ping_body_bytes, limits.ping_drain_bytes);
    read_cut(body, keep, drain, limits.body_within).await
}

/// What is answered once it is known what became of a ping.
fn answered(
    app: &App,
    told: Result<Told, Refusal>,
    fault: Option<Box<Fault>>,
    form: Form,
    client: Option<IpAddr>,
) -> Response {
    let body_limit = app.limits().ping_body_bytes;
    let answer = told.map_err(Refused::from);
    match answer.and_then(|told| ping_answer::of(told, form, body_limit)) {
        Ok(response) => response,
        Err(Refused::Parameter(found)) => Refused::Parameter(fault.unwrap_or(found)).into_response(form),
        Err(refused) => or_too_many(refused, app, client).into_response(form),
    }
}

/// A request taken apart, with who sends it. Not within the future: what is looked at there is kept there.
fn opened(request: Request, app: &App) -> (Parts, Body, Option<IpAddr>) {
    let (parts, body) = request.into_parts();
    let client = Client::of(&parts, app).0;
    (parts, body, client)
}

/// Who tries many addresses that are nobody's, or many keys, is not told any more which of them are somebody's.
fn or_too_many(refused: Refused, app: &App, client: Option<IpAddr>) -> Refused {
    match refused {
        Refused::NotFound | Refused::KeyWrong => match app.take_unknown_address(client) {
            Ok(()) => refused,
            Err(secs) => Refused::TooManyUnknown(secs),
        },
        other => other,
    }
}

/// A request that is no ping.
enum Away {
    With(Refused),
    /// With a bad exit status or run id.
    Flawed(Address, Refused),
}

/// What a request says.
fn read(app: &App, parts: Parts, body: Bytes) -> Result<Arrival, Box<Away>> {
    let query = Query::of(&parts.uri);
    let path = parts.uri.path().strip_prefix("/ping/").unwrap_or_default();
    let (address, action) = match parse(path, query.last("create") == Some("1")) {
        Parsed::Ping(address, action) => (address, action),
        Parsed::BadSlug => return Err(Away::With(Refused::BadAddress).into()),
        Parsed::Nothing => return Err(Away::With(Refused::NotFound).into()),
    };
    let address = with_wish(with_key(address, &parts.headers), &query, app);
    let rid = query.last("rid").map(id::parse_run_id);
    let Some(action) = action else {
        return Err(Away::Flawed(address, Refused::BadAddress).into());
    };
    if rid == Some(None) {
        return Err(Away::Flawed(address, Refused::BadRunId).into());
    }
    let peer = parts.extensions.get::<Peer>().map(|peer| peer.0);
    Ok(Arrival {
        at: app.now(),
        address,
        action,
        rid: rid.flatten(),
        scheme: peer.map_or_else(
            || Cow::Borrowed("http"),
            |peer| app.network().scheme(peer, &parts.headers),
        ),
        method: method_of(&parts.method),
        remote_addr: peer.and_then(|peer| app.network().claimed_address(peer, &parts.headers)),
        user_agent: cut_user_agent(&text_of(&parts.headers, &USER_AGENT)),
        body,
    })
}

/// The parameters beside `create=1`.
const WISHES: [&str; 7] = ["name", "tags", "schedule", "tz", "timeout", "grace", "channels"];

/// A slug whose check may be made, with what is wished of it.
fn with_wish(address: Address, query: &Query, app: &App) -> Address {
    match address {
        Address::Slug {
            key,
            slug,
            create: true,
        } if WISHES.iter().any(|name| query.last(name).is_some()) => {
            let wish = Wish::judge(&slug, |name| query.last(name), app.zones());
            Address::Wished(Box::new(Wished { key, slug, wish }))
        }
        address => address,
    }
}

/// An id, with the ping key that came beside it. What is longer than any key opens nothing, as any other.
fn with_key(address: Address, headers: &HeaderMap) -> Address {
    match (address, headers.get(PING_KEY)) {
        (Address::Check(id), Some(key)) => {
            let key = key.to_str().unwrap_or_default();
            Address::CheckWithKey(id, Secret::new(key.chars().take(PING_KEY_CHARS_MAX).collect()))
        }
        (address, _) => address,
    }
}

/// The method, cut to what is kept of it. Those of nearly every ping need no memory.
fn method_of(method: &Method) -> Cow<'static, str> {
    match ["GET", "POST", "HEAD", "PUT"]
        .iter()
        .find(|known| method == **known)
    {
        Some(known) => Cow::Borrowed(known),
        None => method.as_str().chars().take(limits::METHOD_BYTES_MAX).collect(),
    }
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
async fn flawed(app: &App, address: Address, flaw: Refused) -> Refused {
    let now = app.now();
    let key_required = app.limits().ping_key_required;
    let answer = app.store().read(async move |reader| {
        let system = SystemScope::engine();
        let (found, create) = match &address {
            Address::Ourselves(_) => (Found::None, false),
            Address::Check(id) | Address::CheckWithKey(id, _) => {
                let check = reader.check_any(system, *id).await?;
                let asked = check.as_ref().map(|check| Asked {
                    project: check.project,
                    needs_key: check.settings.filters.needs_key,
                });
                let sent = match &address {
                    Address::CheckWithKey(_, key) => {
                        let project = reader.project_by_ping_key(system, key.reveal(), now).await?;
                        project.map_or(Sent::Wrong, Sent::Opens)
                    }
                    _ => Sent::Nothing,
                };
                match admit(key_required, asked, sent) {
                    Admission::Granted => {}
                    Admission::NotFound => return Ok(Refused::NotFound),
                    Admission::KeyMissing => return Ok(Refused::KeyMissing),
                    Admission::KeyWrong => return Ok(Refused::KeyWrong),
                }
                (
                    check.map_or(Found::None, |check| Found::One(Box::new(check))),
                    false,
                )
            }
            Address::Slug { .. } | Address::Wished(_) => {
                let (key, slug) = address.by_slug().expect("both are of a slug");
                let create = !matches!(address, Address::Slug { create: false, .. });
                let project = reader.project_by_ping_key(system, key.reveal(), now).await?;
                let Some(project) = project else {
                    return Ok(Refused::NotFound);
                };
                (
                    reader.check_by_slug(ProjectScope::granted(project), slug).await?,
                    create,
                )
            }
        };
        Ok::<_, allswell_store::Error>(match found {
            Found::Ambiguous => Refused::Ambiguous,
            Found::None if !create => Refused::NotFound,
            // With `create=1` the check would have been made, had the rest been right.
            Found::None | Found::One(_) => flaw,
        })
    });
    answer.await.unwrap_or_else(|error: allswell_store::Error| {
        tracing::error!("a ping with a bad run id or exit status could not be judged: {error}");
        if error.is_passing() {
            Refused::TryAgain
        } else {
            Refused::Failed
        }
    })
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
        "alive" => Some(Some(Action::Alive)),
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
            Parsed::Ping(Address::Check(_) | Address::CheckWithKey(..), action) => {
                format!("check {action:?}")
            }
            Parsed::Ping(Address::Slug { slug, .. }, action) => format!("slug {slug} {action:?}"),
            Parsed::Ping(Address::Ourselves(_) | Address::Wished(_), _) => "neither".to_owned(),
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
            ("/alive", "check Some(Alive)"),
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
            ("key/backup/alive", "slug backup Some(Alive)"),
            ("key/alive", "slug alive Some(Success)"),
            ("key/alive/alive", "slug alive Some(Alive)"),
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
