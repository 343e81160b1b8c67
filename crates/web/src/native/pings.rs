//! `/v1/checks/{check}/pings`: the log, page by page, with a search in what is kept.

use allswell_core::limits::SEARCH_PINGS_MAX;
use allswell_store::pings::Ping;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};

use super::call::WriteCall;
use super::checks::find;
use super::problem::Problem;
use super::{json, page, view};
use crate::path::Segments;
use crate::state::App;

/// GET `/v1/checks/{check}/pings`
///
/// With `q`, those whose body holds that text: bodies are sealed, so each is opened and looked at, up to
/// [`SEARCH_PINGS_MAX`] of them for a page.
pub(crate) async fn list(
    State(app): State<App>,
    Segments(name): Segments<String>,
    WriteCall(call): WriteCall,
) -> Result<Response, Problem> {
    let query = call.query();
    let limit = page::limit(&query)?;
    let before = page::number(&query, i64::MAX)?;
    let wanted = query.last("q").filter(|text| !text.is_empty()).map(str::to_owned);
    let (scope, kind) = (call.scope, call.kind);
    let (pings, next, not_kept) = app
        .store()
        .read(async move |reader| {
            let check = find(reader, scope, kind, &name).await?;
            let (check, not_kept) = (check.id, check.state.not_kept);
            let Some(wanted) = wanted else {
                let mut pings = reader.pings_page(scope, check, before, limit + 1).await?;
                let next = page::cut(&mut pings, limit, cursor);
                return Ok((pings, next, not_kept));
            };
            let mut looked_at = reader
                .pings_page(scope, check, before, SEARCH_PINGS_MAX + 1)
                .await?;
            let mut next = page::cut(&mut looked_at, SEARCH_PINGS_MAX, cursor);
            let mut found = Vec::new();
            for ping in looked_at {
                if ping.body_bytes == 0 {
                    continue;
                }
                let body = reader.ping_body(scope, check, ping.n).await?.unwrap_or_default();
                if memchr::memmem::find(&body, wanted.as_bytes()).is_none() {
                    continue;
                }
                found.push(ping);
                if found.len() as i64 == limit {
                    next = found.last().map(cursor);
                    break;
                }
            }
            Ok::<_, Problem>((found, next, not_kept))
        })
        .await?;
    let items: Vec<_> = pings.iter().map(view::ping).collect();
    // The numbers of those that only counted are missing from the log: the page says how many.
    Ok(json(
        StatusCode::OK,
        &serde_json::json!({ "items": items, "next": next, "not_kept": not_kept }),
    ))
}

fn cursor(ping: &Ping) -> String {
    page::base36(i64::try_from(ping.n).unwrap_or(i64::MAX))
}

/// GET `/v1/checks/{check}/pings/{n}/body`: the bytes as they came, never as anything that a browser would run.
pub(crate) async fn body(
    State(app): State<App>,
    Segments((name, n)): Segments<(String, String)>,
    WriteCall(call): WriteCall,
) -> Result<Response, Problem> {
    let (scope, kind) = (call.scope, call.kind);
    let n: u64 = n.parse().map_err(|_| Problem::not_found("ping"))?;
    let body = app
        .store()
        .read(async move |reader| {
            let check = find(reader, scope, kind, &name).await?;
            Ok::<_, Problem>(reader.ping_body(scope, check.id, n).await?)
        })
        .await?;
    let body = body.ok_or_else(|| Problem::not_found("body; it had none, or is no longer kept"))?;
    let headers = [
        (CONTENT_TYPE, "application/octet-stream"),
        (CONTENT_DISPOSITION, "attachment"),
    ];
    Ok((headers, body).into_response())
}
