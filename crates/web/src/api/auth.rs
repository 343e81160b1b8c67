//! Who calls: keys of the compatible API as parameters of handlers (`healthchecks.md` section 3.1).
//!
//! A handler that takes a [`ReadKey`] serves both kinds of keys, one that takes a [`WriteKey`] only read-write ones, and
//! [`WriteForm`] also carries the JSON of a POST, which is judged before the key.

use std::net::IpAddr;

use allswell_core::key::{self, KeyKind};
use allswell_core::scope::ProjectScope;
use allswell_store::keys::{Known, Opened};
use axum::extract::{FromRequest, FromRequestParts, Request};
use http::request::Parts;
use http::{HeaderMap, StatusCode};
use serde_json::{Map, Value};

use super::Version;
use crate::client::{Client, network_of};
use crate::error::Error;
use crate::quotas::retry_secs;
use crate::serve::body::{BodyError, read_whole};
use crate::state::App;

/// A key that may look.
pub(crate) struct ReadKey {
    /// What it opens.
    pub(crate) scope: ProjectScope,
    /// Read-only keys see no ids and addresses.
    pub(crate) kind: KeyKind,
    pub(crate) version: Version,
}

/// A key that may do everything in its project.
pub(crate) struct WriteKey {
    pub(crate) scope: ProjectScope,
    pub(crate) version: Version,
    /// Who did it, for the audit log.
    pub(crate) actor: String,
}

/// A POST with a read-write key: the key and the fields.
pub(crate) struct WriteForm {
    pub(crate) key: WriteKey,
    pub(crate) fields: Map<String, Value>,
}

fn missing() -> Error {
    Error::Json(StatusCode::UNAUTHORIZED, "missing api key".to_owned())
}

fn wrong() -> Error {
    Error::Json(StatusCode::UNAUTHORIZED, "wrong api key".to_owned())
}

/// The header, if there is one: it wins even if it is empty or wrong.
fn from_header(headers: &HeaderMap) -> Option<String> {
    headers
        .get("x-api-key")
        .map(|value| value.to_str().unwrap_or_default().to_owned())
}

async fn recognise(app: &App, client: Client, text: Option<String>) -> Result<Known, Error> {
    let text = text
        .filter(|text| text.chars().count() == key::API_KEY_CHARS)
        .ok_or_else(missing)?;
    let address = client.0;
    let Some(opened) = opened(app, client, &text).await? else {
        app.note_wrong_key(address).await.map_err(Error::TooMany)?;
        return Err(wrong());
    };
    if opened.signed_only {
        return Err(Error::Json(
            StatusCode::UNAUTHORIZED,
            "this project takes only signed requests".to_owned(),
        ));
    }
    app.take_api(opened.known.id)
        .map_err(|verdict| Error::TooMany(retry_secs(verdict)))?;
    Ok(opened.known)
}

/// The key with this text, if it opens anything for this client.
pub(crate) async fn known(app: &App, client: Client, text: &str) -> Result<Option<Known>, Error> {
    Ok(opened(app, client, text).await?.map(|opened| opened.known))
}

/// Like [`known`], with what else there is to know of the key.
pub(crate) async fn opened(
    app: &App,
    client: Client,
    text: &str,
) -> Result<Option<Opened>, allswell_store::Error> {
    // A typing error in one of our keys shows in its checksum: the database is not asked.
    let misspelt = key::has_our_prefix(text) && !key::is_well_formed(text);
    // Nor for what PostgreSQL does not take for text.
    if misspelt || text.contains('\0') {
        return Ok(None);
    }
    let (text, now) = (text.to_owned(), app.now());
    let opened = app
        .store()
        .read(async move |reader| reader.key_open(&text, now).await)
        .await?;
    let Some(opened) = opened.filter(|opened| may_use_it(opened, client.0)) else {
        return Ok(None);
    };
    app.note_key_use(&opened, client.0.map(network_of), now);
    Ok(Some(opened))
}

/// A key bound to networks is of no use to a client of whom we do not know where it is.
fn may_use_it(opened: &Opened, client: Option<IpAddr>) -> bool {
    let admits = |client| opened.networks.iter().any(|network| network.contains(client));
    opened.networks.is_empty() || client.is_some_and(admits)
}

fn version_of(parts: &Parts) -> Version {
    *parts
        .extensions
        .get::<Version>()
        .expect("each route of the API carries its version")
}

fn write_key(known: Known, version: Version) -> Result<WriteKey, Error> {
    match known.kind {
        KeyKind::ReadWrite => Ok(WriteKey {
            scope: ProjectScope::granted(known.project),
            version,
            actor: format!("key:{}", known.id),
        }),
        KeyKind::ReadOnly | KeyKind::Ping | KeyKind::Metrics => Err(wrong()),
    }
}

impl FromRequestParts<App> for ReadKey {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Error> {
        let known = recognise(app, Client::of(parts, app), from_header(&parts.headers)).await?;
        if matches!(known.kind, KeyKind::Ping | KeyKind::Metrics) {
            return Err(wrong());
        }
        Ok(ReadKey {
            scope: ProjectScope::granted(known.project),
            kind: known.kind,
            version: version_of(parts),
        })
    }
}

impl FromRequestParts<App> for WriteKey {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Error> {
        write_key(
            recognise(app, Client::of(parts, app), from_header(&parts.headers)).await?,
            version_of(parts),
        )
    }
}

impl FromRequest<App> for WriteForm {
    type Rejection = Error;

    async fn from_request(request: Request, app: &App) -> Result<Self, Error> {
        let (parts, body) = request.into_parts();
        let limits = app.limits();
        let body = read_whole(body, limits.api_body_bytes, limits.body_within)
            .await
            .map_err(|error| match error {
                BodyError::TooLarge { .. } => Error::bad_request("the request is too large"),
                BodyError::TimedOut => {
                    Error::Text(StatusCode::REQUEST_TIMEOUT, "the body did not arrive in time")
                }
                BodyError::Broken(_) => Error::Text(StatusCode::BAD_REQUEST, ""),
            })?;
        let fields = parse(&body)?;
        let in_body = || fields.get("api_key").and_then(Value::as_str).map(str::to_owned);
        let text = from_header(&parts.headers).or_else(in_body);
        let key = write_key(
            recognise(app, Client::of(&parts, app), text).await?,
            version_of(&parts),
        )?;
        Ok(WriteForm { key, fields })
    }
}

/// The JSON object of a POST. An empty body is an empty object.
fn parse(body: &[u8]) -> Result<Map<String, Value>, Error> {
    if body.is_empty() {
        return Ok(Map::new());
    }
    match serde_json::from_slice(body) {
        Ok(Value::Object(fields)) => Ok(fields),
        Ok(_) => Err(Error::bad_request(
            "json validation error: value is not an object",
        )),
        Err(_) => Err(Error::bad_request("could not parse request body")),
    }
}
