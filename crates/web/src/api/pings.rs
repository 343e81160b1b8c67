//! `checks/<code>/pings/`: the log, and bodies.

use std::collections::HashMap;

use allswell_core::id::CheckId;
use allswell_core::limits;
use allswell_core::scope::ProjectScope;
use allswell_core::signal::Kind;
use allswell_core::time::{Span, Timestamp};
use allswell_store::Reader;
use allswell_store::pings::Ping;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::CONTENT_TYPE;
use serde_json::{Value, json};
use uuid::Uuid;

use super::auth::WriteKey;
use super::checks::find_by_id;
use super::{compat, json};
use crate::error::Error;
use crate::path::Segments;
use crate::state::App;

const RUN_MAX: Span = Span::from_secs(limits::RUN_HOURS_MAX * 3_600);

/// GET `checks/<code>/pings/`
pub(crate) async fn list(
    State(app): State<App>,
    key: WriteKey,
    Segments(code): Segments<String>,
) -> Result<Response, Error> {
    let scope = key.scope;
    let (check, pings, durations) = app
        .store()
        .read(async move |reader| {
            let check = find_by_id(reader, scope, &code).await?.id;
            let pings = reader.pings(scope, check, limits::PINGS_SHOWN_MAX).await?;
            let durations = durations(reader, scope, check, &pings).await?;
            Ok::<_, Error>((check, pings, durations))
        })
        .await?;
    let shown: Vec<Value> = pings
        .iter()
        .zip(durations)
        .map(|(ping, duration)| compat::ping(check, ping, duration, key.version, app.site()))
        .collect();
    Ok(json(StatusCode::OK, &json!({ "pings": shown })))
}

/// GET `checks/<code>/pings/<n>/body`
pub(crate) async fn body(
    State(app): State<App>,
    key: WriteKey,
    Segments((code, n)): Segments<(String, String)>,
) -> Result<Response, Error> {
    let scope = key.scope;
    // Digits and nothing else: a sign is no part of a number in an address.
    let digits = Some(&n).filter(|n| n.bytes().all(|byte| byte.is_ascii_digit()));
    let n: u64 = digits.and_then(|n| n.parse().ok()).ok_or(Error::NOT_FOUND)?;
    let body = app
        .store()
        .read(async move |reader| {
            let check = find_by_id(reader, scope, &code).await?;
            // More are kept than this API lists, and what it does not list has no body here either. Numbers do not tell
            // which those are: one that was over the quota has a number and no row.
            let listed = reader.pings(scope, check.id, limits::PINGS_SHOWN_MAX).await?;
            if !listed.iter().any(|ping| ping.n == n) {
                return Ok(None);
            }
            Ok::<_, Error>(reader.ping_body(scope, check.id, n).await?)
        })
        .await?;
    let body = body.ok_or(Error::NOT_FOUND)?;
    Ok(([(CONTENT_TYPE, "text/plain")], body).into_response())
}

/// How long the runs took that these pings (newest first) ended: from the nearest earlier start of the same run id
/// with no end in between, at most 72 hours back. If more than ten would need a look beyond the page, none is told
/// (`healthchecks.md` section 2).
async fn durations(
    reader: &mut Reader<'_>,
    scope: ProjectScope,
    check: CheckId,
    pings: &[Ping],
) -> Result<Vec<Option<Span>>, Error> {
    let mut durations = vec![None; pings.len()];
    let mut beyond = Vec::new();
    // The open start of each run id; `None` once it was ended.
    let mut open: HashMap<Option<Uuid>, Option<Timestamp>> = HashMap::new();
    for (index, ping) in pings.iter().enumerate().rev() {
        match ping.kind {
            Kind::Start => {
                open.insert(ping.rid, Some(ping.at));
            }
            Kind::Success | Kind::Fail => match open.insert(ping.rid, None) {
                Some(start) => durations[index] = start.and_then(|start| duration(start, ping.at)),
                None => beyond.push(index),
            },
            Kind::Log | Kind::Ignored | Kind::Alive => {}
        }
    }
    if beyond.len() > limits::DURATION_LOOKUPS_MAX {
        return Ok(vec![None; pings.len()]);
    }
    for index in beyond {
        let ping = &pings[index];
        let start = reader.run_start_before(scope, check, ping.n, ping.rid).await?;
        durations[index] = start.and_then(|start| duration(start, ping.at));
    }
    Ok(durations)
}

fn duration(start: Timestamp, end: Timestamp) -> Option<Span> {
    Some(end - start).filter(|span| (Span::ZERO..RUN_MAX).contains(span))
}
