//! `checks/`: list, create, show, update, delete, pause, resume.

use allswell_core::check::{Check, Event, Settings, State as CheckState, Status};
use allswell_core::id::{ChannelId, CheckId};
use allswell_core::key::KeyKind;
use allswell_core::scope::{ProjectScope, SystemScope};
use allswell_engine::record;
use allswell_store::audit::Act;
use allswell_store::{Reader, Tx};
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{StatusCode, Uri};
use serde_json::{Value, json};

use super::auth::{ReadKey, WriteForm, WriteKey};
use super::fields::{Wanted, judge};
use super::{compat, json};
use crate::error::Error;
use crate::path::Segments;
use crate::query::Query;
use crate::state::App;

/// GET `checks/`
pub(crate) async fn list(State(app): State<App>, key: ReadKey, uri: Uri) -> Result<Response, Error> {
    let query = Query::of(&uri);
    let slug = query
        .last("slug")
        .filter(|slug| !slug.is_empty())
        .map(str::to_owned);
    let tags: Vec<String> = query.all("tag").map(str::to_owned).collect();
    let scope = key.scope;
    let (checks, channels) = app
        .store()
        .read(async move |reader| {
            let checks = match slug {
                Some(slug) => reader.checks_by_slug(scope, &slug).await?,
                None => reader.checks(scope).await?,
            };
            Ok::<_, Error>((checks, reader.check_channels_of_project(scope).await?))
        })
        .await?;
    let now = app.now();
    let shown: Vec<Value> = checks
        .iter()
        .filter(|check| {
            tags.iter()
                .all(|tag| check.settings.tag_list().contains(&tag.as_str()))
        })
        .map(|check| {
            let first = channels.partition_point(|(id, _)| *id < check.id);
            let own: Vec<ChannelId> = channels[first..]
                .iter()
                .take_while(|(id, _)| *id == check.id)
                .map(|(_, channel)| *channel)
                .collect();
            compat::check(check, &own, key.kind, key.version, app.site(), now)
        })
        .collect();
    Ok(json(StatusCode::OK, &json!({ "checks": shown })))
}

/// Finds a check by its id, or by its unique key. Another project's check is forbidden, as Healthchecks has it.
pub(crate) async fn find(reader: &mut Reader<'_>, scope: ProjectScope, code: &str) -> Result<Check, Error> {
    if let Ok(id) = code.parse::<CheckId>() {
        let check = reader
            .check_any(SystemScope::engine(), id)
            .await?
            .ok_or(Error::NOT_FOUND)?;
        return if check.project == scope.project() {
            Ok(check)
        } else {
            Err(Error::FORBIDDEN)
        };
    }
    if code.len() == 40 && code.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
        for id in reader.check_ids(scope).await? {
            if compat::unique_key(id) == code {
                return reader.check(scope, id).await?.ok_or(Error::NOT_FOUND);
            }
        }
    }
    Err(Error::NOT_FOUND)
}

/// Like [`find`], for what only the id may name.
pub(crate) async fn find_by_id(
    reader: &mut Reader<'_>,
    scope: ProjectScope,
    code: &str,
) -> Result<Check, Error> {
    let id: CheckId = code.parse().map_err(|_| Error::NOT_FOUND)?;
    find(reader, scope, &id.to_string()).await
}

/// GET `checks/<code>`
pub(crate) async fn show(
    State(app): State<App>,
    key: ReadKey,
    Segments(code): Segments<String>,
) -> Result<Response, Error> {
    let scope = key.scope;
    let (check, channels) = app
        .store()
        .read(async move |reader| {
            let check = find(reader, scope, &code).await?;
            let channels = reader.check_channels(scope, check.id).await?;
            Ok::<_, Error>((check, channels))
        })
        .await?;
    let shown = compat::check(&check, &channels, key.kind, key.version, app.site(), app.now());
    Ok(json(StatusCode::OK, &shown))
}

/// POST `checks/`
pub(crate) async fn create(State(app): State<App>, form: WriteForm) -> Result<Response, Error> {
    let wanted = judged(&form)?;
    let WriteKey {
        scope,
        version,
        actor,
    } = form.key;
    let (now, mut dice) = (app.now(), app.dice());
    let (status, check, channels) = app
        .store()
        .write(async move |tx| {
            if !wanted.unique.is_empty() {
                let same = tx
                    .checks(scope)
                    .await?
                    .into_iter()
                    .find(|check| wanted.means(&check.settings));
                if let Some(mut check) = same {
                    let channels =
                        update_check(tx, &mut check, &wanted, version, &actor, now, &mut dice).await?;
                    return Ok((StatusCode::OK, check, channels));
                }
            }
            let channels =
                resolve_channels(tx, scope, wanted.channels.as_deref().unwrap_or_default()).await?;
            let (count, limit) = tx.check_quota(scope).await?;
            if count >= limit {
                return Err(Error::FORBIDDEN);
            }
            let mut settings = Settings::default();
            wanted.apply(&mut settings, version);
            let check = Check {
                id: dice.id(),
                project: scope.project(),
                badge: dice.id(),
                settings,
                state: CheckState::new(now),
                deadline: None,
                version: 1,
                created_at: now,
            };
            tx.check_insert(&check).await?;
            tx.check_set_channels(check.id, &channels).await?;
            audit(tx, &check, &actor, "check.create", now, &mut dice).await?;
            Ok::<_, Error>((StatusCode::CREATED, check, channels))
        })
        .await?;
    let shown = compat::check(&check, &channels, KeyKind::ReadWrite, version, app.site(), now);
    Ok(json(status, &shown))
}

/// POST `checks/<code>`
pub(crate) async fn update(
    State(app): State<App>,
    Segments(code): Segments<String>,
    form: WriteForm,
) -> Result<Response, Error> {
    // Existence and ownership are told before the fields are judged.
    let wanted = judged(&form);
    let WriteKey {
        scope,
        version,
        actor,
    } = form.key;
    let (now, mut dice) = (app.now(), app.dice());
    let (check, channels) = app
        .store()
        .write(async move |tx| {
            let mut check = find_by_id(tx, scope, &code).await?;
            let channels = update_check(tx, &mut check, &wanted?, version, &actor, now, &mut dice).await?;
            Ok::<_, Error>((check, channels))
        })
        .await?;
    let shown = compat::check(&check, &channels, KeyKind::ReadWrite, version, app.site(), now);
    Ok(json(StatusCode::OK, &shown))
}

/// DELETE `checks/<code>`
pub(crate) async fn delete(
    State(app): State<App>,
    key: WriteKey,
    Segments(code): Segments<String>,
) -> Result<Response, Error> {
    let WriteKey {
        scope,
        version,
        actor,
    } = key;
    let (now, mut dice) = (app.now(), app.dice());
    let (check, channels) = app
        .store()
        .write(async move |tx| {
            let check = find_by_id(tx, scope, &code).await?;
            let channels = tx.check_channels(scope, check.id).await?;
            tx.check_delete(scope, check.id, now).await?;
            audit(tx, &check, &actor, "check.delete", now, &mut dice).await?;
            Ok::<_, Error>((check, channels))
        })
        .await?;
    let shown = compat::check(&check, &channels, KeyKind::ReadWrite, version, app.site(), now);
    Ok(json(StatusCode::OK, &shown))
}

/// POST `checks/<code>/pause`
pub(crate) async fn pause(
    State(app): State<App>,
    Segments(code): Segments<String>,
    form: WriteForm,
) -> Result<Response, Error> {
    turn(&app, code, form.key, Event::Pause, "check.pause").await
}

/// POST `checks/<code>/resume`
pub(crate) async fn resume(
    State(app): State<App>,
    Segments(code): Segments<String>,
    form: WriteForm,
) -> Result<Response, Error> {
    turn(&app, code, form.key, Event::Resume, "check.resume").await
}

async fn turn(
    app: &App,
    code: String,
    key: WriteKey,
    event: Event,
    action: &'static str,
) -> Result<Response, Error> {
    let WriteKey {
        scope,
        version,
        actor,
    } = key;
    let (now, mut dice) = (app.now(), app.dice());
    let (check, channels) = app
        .store()
        .write(async move |tx| {
            let mut check = find_by_id(tx, scope, &code).await?;
            if matches!(event, Event::Resume) && check.state.status != Status::Paused {
                return Err(Error::Text(StatusCode::CONFLICT, "check is not paused"));
            }
            record::apply_and_save(tx, &mut check, event, now, &mut dice).await?;
            audit(tx, &check, &actor, action, now, &mut dice).await?;
            Ok((tx.check_channels(scope, check.id).await?, check))
        })
        .await
        .map(|(channels, check)| (check, channels))?;
    let shown = compat::check(&check, &channels, KeyKind::ReadWrite, version, app.site(), now);
    Ok(json(StatusCode::OK, &shown).into_response())
}

fn judged(form: &WriteForm) -> Result<Wanted, Error> {
    judge(&form.fields).map_err(|sentence| Error::bad_request(format!("json validation error: {sentence}")))
}

/// Changes a check as wanted; gives the channels it tells from now on.
async fn update_check(
    tx: &mut Tx<'_>,
    check: &mut Check,
    wanted: &Wanted,
    version: super::Version,
    actor: &str,
    now: allswell_core::time::Timestamp,
    dice: &mut allswell_core::chance::Dice,
) -> Result<Vec<ChannelId>, Error> {
    let scope = ProjectScope::granted(check.project);
    let channels = match &wanted.channels {
        Some(list) => Some(resolve_channels(tx, scope, list).await?),
        None => None,
    };
    wanted.apply(&mut check.settings, version);
    tx.check_save_settings(check).await?;
    record::apply_and_save(tx, check, Event::Edit, now, dice).await?;
    if let Some(channels) = &channels {
        tx.check_set_channels(check.id, channels).await?;
    }
    let seq = tx.change_next(scope).await?;
    tx.check_mark_changed(check, seq).await?;
    audit(tx, check, actor, "check.update", now, dice).await?;
    match channels {
        Some(mut channels) => {
            channels.sort();
            Ok(channels)
        }
        None => Ok(tx.check_channels(scope, check.id).await?),
    }
}

/// The channels that a request lists: `*` for all, else ids or exact names, sorted by id.
async fn resolve_channels(tx: &mut Tx<'_>, scope: ProjectScope, list: &str) -> Result<Vec<ChannelId>, Error> {
    if list.is_empty() {
        return Ok(Vec::new());
    }
    let known = tx.channels(scope).await?;
    let mut chosen: Vec<ChannelId> = Vec::new();
    if list == "*" {
        chosen.extend(known.iter().map(|channel| channel.id));
    } else {
        for item in list.split(',') {
            if item.is_empty() {
                return Err(Error::bad_request("empty channel identifier"));
            }
            let named = |channel: &&allswell_store::channels::Channel| {
                channel.name == item || channel.id.to_string() == item
            };
            let mut matching = known.iter().filter(named);
            match (matching.next(), matching.next()) {
                (Some(channel), None) => chosen.push(channel.id),
                (None, _) => return Err(Error::bad_request(format!("invalid channel identifier: {item}"))),
                (Some(_), Some(_)) => {
                    return Err(Error::bad_request(format!(
                        "non-unique channel identifier: {item}"
                    )));
                }
            }
        }
    }
    chosen.sort();
    chosen.dedup();
    Ok(chosen)
}

async fn audit(
    tx: &mut Tx<'_>,
    check: &Check,
    actor: &str,
    action: &'static str,
    now: allswell_core::time::Timestamp,
    dice: &mut allswell_core::chance::Dice,
) -> Result<(), Error> {
    let act = Act {
        at: now,
        project: Some(check.project),
        actor: actor.to_owned(),
        action,
        target: format!("check:{}", check.id),
        data: String::new(),
    };
    Ok(tx.audit(dice.id_at(now), &act).await?)
}
