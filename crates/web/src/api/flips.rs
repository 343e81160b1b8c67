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
fn window(query: &Query, now: Timestamp) -> Result<(Timestamp, Timestamp), Error> {
    let number = |name, max| match query.last(name).filter(|text| !text.is_empty()) {
        None => Ok(None),
        Some(text) => {
            let number = text
                .parse::<i64>()
                .ok()
                .filter(|number| (0..=max).contains(number));
            number.map(Some).ok_or(Error::Text(StatusCode::BAD_REQUEST, ""))
        }
    };
    let back = number("seconds", YEAR_SECS)?.map(|secs| now - Span::from_secs(secs));
    let start = number("start", SECOND_MAX)?.map(Timestamp::from_secs);
    let end = number("end", SECOND_MAX)?.map(Timestamp::from_secs);
    let earliest = Timestamp::from_micros(i64::MIN);
    let start = back.unwrap_or(earliest).max(start.unwrap_or(earliest));
    Ok((start, end.unwrap_or(Timestamp::from_micros(i64::MAX))))
}
