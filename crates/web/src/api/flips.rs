//! `checks/<code>/flips/`: changes of status in a window of time.

use allswell_core::time::{Span, Timestamp};
use axum::extract::State;
use axum::response::Response;
use http::{StatusCode, Uri};
use serde_json::{Value, json};

use super::auth::ReadKey;
use super::checks::find;
use super::{compat, json};
use crate::error::Error;
use crate::path::Segments;
use crate::query::Query;
use crate::state::App;

/// The latest second a window may name: in the year 2286.
const SECOND_MAX: i64 = 10_000_000_000;
const YEAR_SECS: i64 = 31_536_000;

/// GET `checks/<code>/flips/`
pub(crate) async fn list(
    State(app): State<App>,
    key: ReadKey,
    Segments(code): Segments<String>,
    uri: Uri,
) -> Result<Response, Error> {
    let query = Query::of(&uri);
    let now = app.now();
    let window = window(&query, now);
    let scope = key.scope;
    let flips = app
        .store()
        .read(async move |reader| {
            let check = find(reader, scope, &code).await?;
            let (start, end) = window?;
            Ok::<_, Error>(reader.flips_between(scope, check.id, start, end).await?)
        })
        .await?;
    let shown: Vec<Value> = flips.iter().map(compat::flip).collect();
    Ok(json(StatusCode::OK, &json!({ "flips": shown })))
}

/// From `start` up to and without `end`; `seconds` counts back from now. All that are given hold together.
///
/// An instant that is given must be one, even if it is empty. No seconds, empty or 0, are no bound.
fn window(query: &Query, now: Timestamp) -> Result<(Timestamp, Timestamp), Error> {
    let bad = || Error::Text(StatusCode::BAD_REQUEST, "");
    let instant = |name| match query.last(name) {
        None => Ok(None),
        Some(text) => number(text, SECOND_MAX)
            .map(|secs| Some(Timestamp::from_secs(secs)))
            .ok_or_else(bad),
    };
    let seconds = match query.last("seconds") {
        None | Some("") => 0,
        Some(text) => number(without_zeros(text.trim()), YEAR_SECS).ok_or_else(bad)?,
    };
    let back = (seconds > 0).then(|| now - Span::from_secs(seconds));
    let (start, end) = (instant("start")?, instant("end")?);
    let earliest = Timestamp::from_micros(i64::MIN);
    let start = back.unwrap_or(earliest).max(start.unwrap_or(earliest));
    Ok((start, end.unwrap_or(Timestamp::from_micros(i64::MAX))))
}

/// A whole number from 0 to `max`.
fn number(text: &str, max: i64) -> Option<i64> {
    let number = text.trim().parse().ok();
    number.filter(|number| (0..=max).contains(number))
}

/// `60` of `60.0`: what languages without whole numbers write.
fn without_zeros(text: &str) -> &str {
    match text.split_once('.') {
        Some((whole, zeros)) if zeros.bytes().all(|byte| byte == b'0') => whole,
        _ => text,
    }
}
