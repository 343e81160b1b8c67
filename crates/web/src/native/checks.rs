//! `/v1/checks`: list, create, show, change, delete, pause, resume.

use allswell_core::check::{Check, Event, Settings, State as CheckState, Status};
use allswell_core::id::{ChannelId, CheckId};
use allswell_core::key::KeyKind;
use allswell_core::limits;
use allswell_core::scope::ProjectScope;
use allswell_core::time::Span;
use allswell_store::check_pages::Matching;
use allswell_store::pages::Position;
use allswell_store::{Reader, Tx};
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde_json::Value;

use super::call::{Call, ReadCall, WriteCall};
use super::fields::{self, Fields, Wanted};
use super::once::{Errand, carry_out};
use super::problem::{Problem, kinds};
use super::{Page, json, page, rules, tagged, view};
use crate::api::compat::unique_key;
use crate::path::Segments;
use crate::query::Query;
use crate::state::App;

/// GET `/v1/checks`
pub(crate) async fn list(State(app): State<App>, ReadCall(call): ReadCall) -> Result<Response, Problem> {
    let query = call.query();
    let limit = page::limit(&query)?;
    let behind = page::position(&query, Position::FIRST)?;
    let wanted = matching(&query)?;
    let scope = call.scope;
    let (found, channels) = app
        .store()
        .read(async move |reader| {
            let found = reader.checks_page(scope, &wanted, behind, limit + 1).await?;
            let ids: Vec<CheckId> = found.checks.iter().map(|check| check.id).collect();
            let channels = reader.channels_of_checks(scope, &ids).await?;
            Ok::<_, Problem>((found, channels))
        })
        .await?;
    let mut checks = found.checks;
    let next = page::cut(&mut checks, limit, |check| {
        page::cursor(Position {
            at: check.created_at,
            id: check.id.as_uuid(),
        })
    });
    let next = next.or(found.looked_until.map(page::cursor));
    let now = app.now();
    let shown = checks.iter().map(|check| {
        let first = channels.partition_point(|(id, _)| *id < check.id);
        let own: Vec<ChannelId> = channels[first..]
            .iter()
            .take_while(|(id, _)| *id == check.id)
            .map(|(_, channel)| *channel)
            .collect();
        view::check(check, &own, call.kind, &app, now)
    });
    let items = shown.collect();
    Ok(json(StatusCode::OK, &Page { items, next }))
}

/// Which checks a caller wants to see.
fn matching(query: &Query) -> Result<Matching, Problem> {
    let text = |field: &'static str| match query.last(field) {
        Some(text) if text.contains('\0') => Err(Problem::field(field, "may not hold a zero byte")),
        text => Ok(text.map(str::to_owned)),
    };
    let status = match query.last("status") {
        None => None,
        Some(word) => {
            let known = [Status::New, Status::Up, Status::Down, Status::Paused];
            let status = known.into_iter().find(|status| status.word() == word);
            let why = "must be new, up, down or paused; a check that is late is up";
            Some(status.ok_or_else(|| Problem::field("status", why))?)
        }
    };
    Ok(Matching {
        tag: text("tag")?,
        name: text("name")?,
        status,
    })
}

/// Finds a check of the project by the name under which the caller knows it.
pub(super) async fn find(
    reader: &mut Reader<'_>,
    scope: ProjectScope,
    kind: KeyKind,
    name: &str,
) -> Result<Check, Problem> {
    if let Ok(id) = name.parse::<CheckId>() {
        let check = reader.check(scope, id).await?;
        return check.ok_or_else(|| Problem::not_found("check"));
    }
    let is_unique_key = name.len() == 40 && name.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    if kind != KeyKind::ReadWrite && is_unique_key {
        for id in reader.check_ids(scope).await? {
            if unique_key(id) == name {
                let check = reader.check(scope, id).await?;
                return check.ok_or_else(|| Problem::not_found("check"));
            }
        }
    }
    Err(Problem::not_found("check"))
}

/// GET `/v1/checks/{check}`
pub(crate) async fn show(
    State(app): State<App>,
    Segments(name): Segments<String>,
    ReadCall(call): ReadCall,
) -> Result<Response, Problem> {
    let (scope, kind) = (call.scope, call.kind);
    let (check, channels) = app
        .store()
        .read(async move |reader| {
            let check = find(reader, scope, kind, &name).await?;
            let channels = reader.check_channels(scope, check.id).await?;
            Ok::<_, Problem>((check, channels))
        })
        .await?;
    let tag = view::check_tag(&check, &channels);
    let shown = view::check(&check, &channels, kind, &app, app.now());
    Ok(tagged(json(StatusCode::OK, &shown), &tag))
}

/// POST `/v1/checks`
pub(crate) async fn create(State(app): State<App>, WriteCall(call): WriteCall) -> Result<Response, Problem> {
    let wanted = fields::check(call.fields()?, app.zones())?;
    carry_out(&app, call, |tx, errand| {
        Box::pin(async move {
            let scope = errand.scope;
            // Whether one more is allowed is asked and acted upon alone.
            tx.project_lock(scope).await?;
            let channels = known_channels(tx, scope, wanted.channels.as_deref().unwrap_or_default()).await?;
            let (count, limit) = tx.check_quota(scope).await?;
            if count >= limit {
                return Err(Problem::new(
                    kinds::LIMIT,
                    format!("the owner of this project may have {limit} checks, and has them"),
                ));
            }
            let mut settings = Settings::default();
            wanted.apply(&mut settings);
            rules::agree(&settings)?;
            let check = Check {
                id: errand.dice.id(),
                project: scope.project(),
                badge: errand.dice.id(),
                settings,
                state: CheckState::new(errand.now),
                deadline: None,
                version: 1,
                created_at: errand.now,
            };
            tx.check_insert(scope, &check).await?;
            tx.check_set_channels(scope, check.id, &channels).await?;
            errand
                .audit(tx, "check.create", format!("check:{}", check.id))
                .await?;
            let shown = view::check(&check, &channels, KeyKind::ReadWrite, &errand.app, errand.now);
            Ok((StatusCode::CREATED, shown))
        })
    })
    .await
}

/// All of these are channels of the project.
async fn known_channels(
    tx: &mut Tx<'_>,
    scope: ProjectScope,
    wanted: &[ChannelId],
) -> Result<Vec<ChannelId>, Problem> {
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let known = tx.channels(scope).await?;
    match wanted
        .iter()
        .find(|id| !known.iter().any(|channel| channel.id == **id))
    {
        None => Ok(wanted.to_vec()),
        Some(id) => Err(Problem::field(
            "channels",
            format!("{id} is no channel of this project"),
        )),
    }
}

/// PATCH `/v1/checks/{check}`
pub(crate) async fn update(
    State(app): State<App>,
    Segments(name): Segments<String>,
    WriteCall(call): WriteCall,
) -> Result<Response, Problem> {
    let wanted = fields::check(call.fields()?, app.zones())?;
    let expected = call.header("if-match").map(str::to_owned);
    let mut errand = Errand::new(&app, &call);
    let (check, channels) = app
        .store()
        .write_again(async move |tx| {
            let (mut check, before) = locked(tx, errand.scope, &name).await?;
            if let Some(expected) = expected.filter(|expected| expected != "*") {
                let now = view::check_tag(&check, &before);
                if !expected.split(',').any(|tag| tag.trim() == now) {
                    return Err(Problem::new(
                        kinds::CHANGED,
                        "the check has other settings than those you saw; read it again and decide",
                    ));
                }
            }
            let channels = change(tx, &mut check, before, &wanted, &mut errand).await?;
            Ok::<_, Problem>((check, channels))
        })
        .await?;
    Ok(shown(&app, &call, &check, &channels))
}

/// A check as the one who changed it sees it.
fn shown(app: &App, call: &Call, check: &Check, channels: &[ChannelId]) -> Response {
    let tag = view::check_tag(check, channels);
    let shown = view::check(check, channels, call.kind, app, app.now());
    tagged(json(StatusCode::OK, &shown), &tag)
}

/// A check that nobody else edits until the transaction ends, with its channels.
async fn locked(
    tx: &mut Tx<'_>,
    scope: ProjectScope,
    name: &str,
) -> Result<(Check, Vec<ChannelId>), Problem> {
    let id: CheckId = name.parse().map_err(|_| Problem::not_found("check"))?;
    tx.check_lock(scope, id).await?;
    let check = tx
        .check(scope, id)
        .await?
        .ok_or_else(|| Problem::not_found("check"))?;
    let channels = tx.check_channels(scope, id).await?;
    Ok((check, channels))
}

async fn change(
    tx: &mut Tx<'_>,
    check: &mut Check,
    before: Vec<ChannelId>,
    wanted: &Wanted,
    errand: &mut Errand,
) -> Result<Vec<ChannelId>, Problem> {
    let scope = errand.scope;
    let channels = match &wanted.channels {
        Some(list) => known_channels(tx, scope, list).await?,
        None => before,
    };
    wanted.apply(&mut check.settings);
    rules::agree(&check.settings)?;
    tx.check_save_settings(scope, check).await?;
    errand.apply(tx, check, Event::Edit).await?;
    if wanted.channels.is_some() {
        tx.check_set_channels(scope, check.id, &channels).await?;
    }
    let seq = tx.change_next(scope).await?;
    tx.check_mark_changed(scope, check, seq).await?;
    errand
        .audit(tx, "check.update", format!("check:{}", check.id))
        .await?;
    Ok(channels)
}

/// DELETE `/v1/checks/{check}`
pub(crate) async fn delete(
    State(app): State<App>,
    Segments(name): Segments<String>,
    WriteCall(call): WriteCall,
) -> Result<Response, Problem> {
    let mut errand = Errand::new(&app, &call);
    app.store()
        .write_again(async move |tx| {
            let (check, _) = locked(tx, errand.scope, &name).await?;
            tx.check_delete(errand.scope, check.id, errand.now).await?;
            errand
                .audit(tx, "check.delete", format!("check:{}", check.id))
                .await
        })
        .await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// POST `/v1/checks/{check}/pause`, with or without an end. A check that is paused stays so, as long as is said now.
pub(crate) async fn pause(
    State(app): State<App>,
    Segments(name): Segments<String>,
    WriteCall(call): WriteCall,
) -> Result<Response, Problem> {
    let mut fields = Fields::new(call.fields()?);
    let until = fields.instant("until");
    fields.finish()?;
    let event = until.map_or(Event::Pause, Event::PauseUntil);
    turn(app, name, call, event, "check.pause").await
}

/// POST `/v1/checks/{check}/resume`
pub(crate) async fn resume(
    State(app): State<App>,
    Segments(name): Segments<String>,
    WriteCall(call): WriteCall,
) -> Result<Response, Problem> {
    turn(app, name, call, Event::Resume, "check.resume").await
}

async fn turn(
    app: App,
    name: String,
    call: Call,
    event: Event,
    action: &'static str,
) -> Result<Response, Problem> {
    carry_out(&app, call, move |tx, errand| {
        Box::pin(async move {
            let (mut check, channels) = locked(tx, errand.scope, &name).await?;
            if matches!(event, Event::Resume) && check.state.status != Status::Paused {
                return Err(Problem::new(kinds::CONFLICT, "the check is not paused"));
            }
            if let Event::PauseUntil(until) = event {
                let latest = errand.now + Span::from_days(limits::PAUSE_DAYS_MAX);
                if until <= errand.now || until > latest {
                    let days = limits::PAUSE_DAYS_MAX;
                    return Err(Problem::field(
                        "until",
                        format!("must be an instant to come, at most {days} days ahead"),
                    ));
                }
            }
            errand.apply(tx, &mut check, event).await?;
            errand.audit(tx, action, format!("check:{}", check.id)).await?;
            let shown: Value = view::check(&check, &channels, KeyKind::ReadWrite, &errand.app, errand.now);
            Ok((StatusCode::OK, shown))
        })
    })
    .await
}
