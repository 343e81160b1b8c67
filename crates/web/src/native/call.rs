//! A call: who sends it, what it may do, and its bytes. Every handler of the native API takes one and nothing else.
//!
//! A call proves itself by a key (`Authorization: Bearer` or `X-Api-Key`) or by a signature. Its body is read whole
//! before that, within bounds, since a signature covers it.

use std::sync::{Arc, OnceLock};

use allswell_core::id::KeyId;
use allswell_core::key::{self, KeyKind};
use allswell_core::quota::Verdict;
use allswell_core::scope::{ProjectScope, SystemScope};
use allswell_core::secret::Secret;
use allswell_core::signed_call::{NONCES_MAX, SignedCall};
use allswell_core::time::Timestamp;
use allswell_store::keys::Opened;
use axum::extract::{FromRequest, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Uri};
use serde_json::{Map, Value};

use super::problem::{Problem, kinds};
use crate::api::auth::opened;
use crate::client::Client;
use crate::query::Query;
use crate::quotas::retry_secs;
use crate::serve::body::{BodyError, read_whole};
use crate::state::App;

/// In one of so many signed calls it is counted how many nonces the key has taken.
const NONCES_LOOKED_AT_EACH: u32 = 100;

/// What a call proved itself by.
#[derive(Copy, Clone)]
pub(crate) enum UsedKey {
    /// A key that was sent.
    Sent(KeyId),
    /// A key that signed.
    Signing(KeyId),
}

/// Who calls, and what.
pub(crate) struct Call {
    pub(crate) scope: ProjectScope,
    pub(crate) kind: KeyKind,
    pub(crate) key: UsedKey,
    /// Who did it, for the audit log.
    pub(crate) actor: String,
    pub(crate) method: Method,
    pub(crate) uri: Uri,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// A call that may look.
pub(crate) struct ReadCall(pub(crate) Call);

/// A call that may change things.
pub(crate) struct WriteCall(pub(crate) Call);

impl Call {
    pub(crate) fn query(&self) -> Query {
        Query::of(&self.uri)
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The JSON object of the body. An empty body is an empty object.
    pub(crate) fn fields(&self) -> Result<Map<String, Value>, Problem> {
        if self.body.is_empty() {
            return Ok(Map::new());
        }
        let is_json = self.headers.get(CONTENT_TYPE).is_none_or(|value| {
            let text = value.to_str().unwrap_or_default();
            let essence = text.split(';').next().unwrap_or_default().trim();
            essence.eq_ignore_ascii_case("application/json") || essence.ends_with("+json")
        });
        if !is_json {
            return Err(Problem::new(
                kinds::MEDIA_TYPE,
                "send JSON, with Content-Type: application/json",
            ));
        }
        match serde_json::from_slice(&self.body) {
            Ok(Value::Object(fields)) => Ok(fields),
            Ok(_) => Err(Problem::new(kinds::BAD_REQUEST, "the body is not a JSON object")),
            Err(error) => Err(Problem::new(
                kinds::BAD_REQUEST,
                format!("the body is not JSON: {error}"),
            )),
        }
    }
}

async fn read(request: Request, app: &App) -> Result<(Parts, Bytes), Problem> {
    let (parts, body) = request.into_parts();
    let limits = app.limits();
    let body = read_whole(body, limits.api_body_bytes, limits.body_within).await;
    let body = body.map_err(|error| match error {
        BodyError::TooLarge { .. } => Problem::new(
            kinds::TOO_LARGE,
            format!("the body may have {} bytes", limits.api_body_bytes),
        ),
        BodyError::TimedOut => Problem::new(kinds::TOO_SLOW, "the body did not arrive in time"),
        BodyError::Broken(_) => Problem::new(kinds::BAD_REQUEST, "the body broke off"),
    })?;
    Ok((parts, body))
}

/// The key that was sent: `Authorization: Bearer`, else `X-Api-Key`.
fn sent_key(headers: &HeaderMap) -> Option<&str> {
    let bearer = headers.get(AUTHORIZATION).map(|value| {
        let text = value.to_str().unwrap_or_default();
        let (scheme, rest) = text.split_once(' ').unwrap_or((text, ""));
        if scheme.eq_ignore_ascii_case("bearer") {
            rest.trim()
        } else {
            ""
        }
    });
    bearer.or_else(|| {
        headers
            .get("x-api-key")
            .map(|value| value.to_str().unwrap_or_default())
    })
}

/// What a call proved.
struct Proof {
    scope: ProjectScope,
    kind: KeyKind,
    key: UsedKey,
    actor: String,
}

async fn by_key(app: &App, parts: &Parts) -> Result<Proof, Problem> {
    let Some(text) = sent_key(&parts.headers) else {
        return Err(Problem::new(
            kinds::NO_KEY,
            "send a key of the project: Authorization: Bearer <key>, or X-Api-Key: <key>",
        ));
    };
    let client = Client::of(parts, app);
    let address = client.0;
    let found = if text.chars().count() == key::API_KEY_CHARS {
        opened(app, client, text).await?
    } else {
        None
    };
    let opens_api = |found: &Opened| matches!(found.known.kind, KeyKind::ReadWrite | KeyKind::ReadOnly);
    let Some(found) = found.filter(opens_api) else {
        app.note_wrong_key(address)
            .await
            .map_err(|secs| Problem::too_many("too many wrong keys came from your address", secs))?;
        return Err(Problem::new(
            kinds::WRONG_KEY,
            "the key is misspelt, revoked, expired, bound to other networks, or of a kind that opens no API",
        ));
    };
    if found.signed_only {
        return Err(Problem::new(
            kinds::SIGNATURE,
            "this project takes only signed requests",
        ));
    }
    take_quota(app, parts, found.known.id)?;
    Ok(Proof {
        scope: ProjectScope::granted(found.known.project),
        kind: found.known.kind,
        key: UsedKey::Sent(found.known.id),
        actor: format!("key:{}", found.known.id),
    })
}

/// A call with `X-Allswell-Signature`.
async fn by_signature(
    app: &App,
    parts: &Parts,
    body: &[u8],
    signature: &HeaderValue,
) -> Result<Proof, Problem> {
    let refused = |detail: String| Problem::new(kinds::SIGNATURE, detail);
    let header = |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok());
    let (Some(key_id), Some(timestamp), Some(nonce)) = (
        header("x-allswell-key-id"),
        header("x-allswell-timestamp"),
        header("x-allswell-nonce"),
    ) else {
        return Err(refused(
            "a signed call has X-Allswell-Key-Id, -Timestamp, -Nonce and -Signature".to_owned(),
        ));
    };
    let host = parts
        .headers
        .get(HOST)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let call = SignedCall {
        method: parts.method.as_str(),
        host: &host.to_ascii_lowercase(),
        path: parts.uri.path(),
        timestamp,
        nonce,
        query: parts.uri.query().unwrap_or_default(),
        body,
        key_id,
    };
    let now = app.now();
    call.judge_form(now)
        .map_err(|refusal| refused(refusal.to_string()))?;
    let named = match key_id.parse::<KeyId>() {
        Err(_) => None,
        Ok(id) => {
            app.store()
                .read(async move |reader| reader.signing_key(SystemScope::engine(), id, now).await)
                .await?
        }
    };
    // A key that is not there costs the same work as one that is, and gets the same answer.
    let nobody = Secret::new(vec![0; 32]);
    let secret = named.as_ref().map_or(&nobody, |named| &named.secret);
    let judged = call.judge(secret.reveal(), signature.to_str().unwrap_or_default(), now);
    let (Some(named), Ok(())) = (named, judged) else {
        app.note_wrong_key(Client::of(parts, app).0)
            .await
            .map_err(|secs| Problem::too_many("too many wrong signatures came from your address", secs))?;
        return Err(refused(
            "the signature does not fit, or there is no such key".to_owned(),
        ));
    };
    // Before anything is written: a key that calls too often costs no transactions.
    take_quota(app, parts, named.id)?;
    if !nonce_is_fresh(app, named.id, nonce.to_owned(), now).await? {
        return Err(refused(
            "X-Allswell-Nonce was used before with this key".to_owned(),
        ));
    }
    Ok(Proof {
        scope: ProjectScope::granted(named.project),
        kind: named.kind,
        key: UsedKey::Signing(named.id),
        actor: format!("signing-key:{}", named.id),
    })
}

/// Takes one request of a key's quota, and leaves word of it for the answer.
fn take_quota(app: &App, parts: &Parts, key: KeyId) -> Result<(), Problem> {
    let taken = app.take_api(key);
    if let Some(told) = parts.extensions.get::<Told>() {
        // Set once: a request is counted once.
        let _ = told.0.set(taken.unwrap_or_else(|refused| refused));
    }
    taken
        .map(drop)
        .map_err(|refused| Problem::too_many("this key has made too many requests", retry_secs(refused)))
}

/// Takes a nonce; `false` if it was taken before. How many a key has taken is looked at in one of a hundred calls: to
/// count up to a hundred thousand rows each time would cost more than the calls themselves.
async fn nonce_is_fresh(app: &App, key: KeyId, nonce: String, now: Timestamp) -> Result<bool, Problem> {
    if app.dice().below(NONCES_LOOKED_AT_EACH) == 0 {
        let count = app
            .store()
            .read(async move |reader| reader.nonce_count(SystemScope::engine(), key, NONCES_MAX).await)
            .await?;
        if count >= NONCES_MAX {
            return Err(Problem::too_many(
                "this key has signed too many calls within ten minutes",
                60,
            ));
        }
    }
    let fresh = app
        .store()
        .write(async move |tx| tx.nonce_take(SystemScope::engine(), key, &nonce, now).await)
        .await?;
    Ok(fresh)
}

async fn call(request: Request, app: &App) -> Result<Call, Problem> {
    let (parts, body) = read(request, app).await?;
    let proof = match parts.headers.get("x-allswell-signature") {
        Some(signature) => by_signature(app, &parts, &body, signature).await?,
        None => by_key(app, &parts).await?,
    };
    Ok(Call {
        scope: proof.scope,
        kind: proof.kind,
        key: proof.key,
        actor: proof.actor,
        method: parts.method,
        uri: parts.uri,
        headers: parts.headers,
        body,
    })
}

/// Where a request's verdict is left for [`with_quota`], which writes it into the answer.
#[derive(Clone, Default)]
struct Told(Arc<OnceLock<Verdict>>);

/// Says on each answer what is left of the key's quota.
pub(crate) async fn with_quota(State(app): State<App>, mut request: Request, next: Next) -> Response {
    let told = Told::default();
    request.extensions_mut().insert(told.clone());
    let mut response = next.run(request).await;
    if let Some(verdict) = told.0.get() {
        let headers = response.headers_mut();
        let quota = app.limits().api_per_key;
        headers.insert("ratelimit-limit", HeaderValue::from(quota.burst));
        headers.insert("ratelimit-remaining", HeaderValue::from(verdict.remaining));
        headers.insert(
            "ratelimit-reset",
            HeaderValue::from((verdict.reset.as_micros() + 999_999) / 1_000_000),
        );
    }
    response
}

impl FromRequest<App> for ReadCall {
    type Rejection = Response;

    async fn from_request(request: Request, app: &App) -> Result<Self, Response> {
        call(request, app)
            .await
            .map(ReadCall)
            .map_err(IntoResponse::into_response)
    }
}

impl FromRequest<App> for WriteCall {
    type Rejection = Response;

    async fn from_request(request: Request, app: &App) -> Result<Self, Response> {
        let call = call(request, app).await.map_err(IntoResponse::into_response)?;
        if call.kind != KeyKind::ReadWrite {
            return Err(Problem::new(kinds::READ_ONLY, "use a read-write key").into_response());
        }
        Ok(WriteCall(call))
    }
}
