//! `checks/`: list, create, show, update, delete, pause, resume.

use std::collections::BTreeMap;
use std::pin::Pin;

use allswell_core::chance::Dice;
use allswell_core::check::{Check, Event, Settings, State as CheckState, Status};
use allswell_core::id::{ChannelId, CheckId};
use allswell_core::key::KeyKind;
use allswell_core::schedule::Zones;
use allswell_core::scope::{ProjectScope, SystemScope};
use allswell_core::time::Timestamp;
use allswell_engine::record;
use allswell_store::audit::Act;
use allswell_store::{Reader, Tx};
use axum::extract::State;
use axum::response::Response;
use http::{StatusCode, Uri};

use super::auth::{ReadKey, WriteForm, WriteKey};
use super::fields::{Wanted, judge};
use super::{Version, compat, json};
use crate::error::Error;
use crate::path::Segments;
use crate::query::Query;
use crate::state::App;

/// Checks that are listed on the spot; more are written elsewhere.
const LISTED_AT_ONCE_MAX: usize = 200;

/// A change on its way: who wants it, when, and what deciding about it needs.
struct Errand {
    app: App,
    scope: ProjectScope,
    version: Version,
    actor: String,
    now: Timestamp,
    dice: Dice,
    zones: Zones,
}

impl Clone for Errand {
    /// For another try of the same change, whose transaction was taken back: with dice of its own.
    fn clone(&self) -> Self {
        Errand {
            app: self.app.clone(),
            scope: self.scope,
            version: self.version,
            actor: self.actor.clone(),
            now: self.now,
            dice: self.app.dice(),
            zones: self.zones.clone(),
        }
    }
}

impl Errand {
    fn new(app: &App, key: WriteKey) -> Self {
        let WriteKey {
            scope,
            version,
            actor,
        } = key;
        Errand {
            app: app.clone(),
            scope,
            version,
            actor,
            now: app.now(),
            dice: app.dice(),
            zones: app.zones().clone(),
        }
    }

    async fn audit(&mut self, tx: &mut Tx<'_>, check: &Check, action: &'static str) -> Result<(), Error> {
        let act = Act {
            at: self.now,
            project: Some(check.project),
            actor: self.actor.clone(),
            action,
            target: format!("check:{}", check.id),
            data: String::new(),
        };
        Ok(tx.audit(self.dice.id_at(self.now), &act).await?)
    }

    /// Decides about an event and saves the check.
    async fn apply(&mut self, tx: &mut Tx<'_>, check: &mut Check, event: Event) -> Result<(), Error> {
        record::apply_and_save(tx, check, event, self.now, &mut self.dice, &self.zones).await?;
        Ok(())
    }
}

/// GET `checks/`
pub(crate) async fn list(State(app): State<App>, key: ReadKey, uri: Uri) -> Result<Response, Error> {
    let query = Query::of(&uri);
    let slug = query
        .last("slug")
        .filter(|slug| !slug.is_empty())
        .map(str::to_owned);
    let tags: Vec<String> = query.all("tag").map(str::to_owned).collect();
    // No slug and no tag holds a zero byte, and PostgreSQL takes no text that does.
    if slug.iter().chain(&tags).any(|text| text.contains('\0')) {
        return Ok(listed(&app, &key, &[], &[]));
    }
    let (scope, tag) = (key.scope, tags.first().cloned());
    let (mut checks, channels) = app
        .store()
        .read(async move |reader| {
            let checks = match (slug, tag) {
                (Some(slug), _) => reader.checks_by_slug(scope, &slug).await?,
                (None, Some(tag)) => reader.checks_by_tag(scope, &tag).await?,
                (None, None) => reader.checks(scope).await?,
            };
            Ok::<_, Error>((checks, reader.check_channels_of_project(scope).await?))
        })
        .await?;
    if !tags.is_empty() {
        checks.retain(|check| {
            let own = check.settings.tag_list();
            tags.iter().all(|tag| own.contains(&tag.as_str()))
        });
    }
    if checks.len() <= LISTED_AT_ONCE_MAX {
        return Ok(listed(&app, &key, &checks, &channels));
    }
    // Megabytes of JSON take milliseconds, in which other requests want this thread.
    let rendered = tokio::task::spawn_blocking(move || listed(&app, &key, &checks, &channels)).await;
    rendered.map_err(|_| Error::Text(StatusCode::INTERNAL_SERVER_ERROR, "internal error"))
}

fn listed(app: &App, key: &ReadKey, checks: &[Check], channels: &[(CheckId, ChannelId)]) -> Response {
    let now = app.now();
    let shown: Vec<_> = checks
        .iter()
        .map(|check| {
            let first = channels.partition_point(|(id, _)| *id < check.id);
            let own: Vec<ChannelId> = channels[first..]
                .iter()
                .take_while(|(id, _)| *id == check.id)
                .map(|(_, channel)| *channel)
                .collect();
            compat::check(check, &own, key.kind, key.version, app, now)
        })
        .collect();
    json(StatusCode::OK, &BTreeMap::from([("checks", shown)]))
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
    if compat::is_unique_key(code) {
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
    let shown = compat::check(&check, &channels, key.kind, key.version, &app, app.now());
    Ok(json(StatusCode::OK, &shown))
}

/// POST `checks/`
pub(crate) async fn create(State(app): State<App>, form: WriteForm) -> Result<Response, Error> {
    let wanted = judged(&form, &app).map_err(Error::bad_request)?;
    let mut errand = Errand::new(&app, form.key);
    let (version, now) = (errand.version, errand.now);
    let (status, check, channels) = app
        .store()
        .write_again(async move |tx| {
            let scope = errand.scope;
            // Whether there is one already, and whether one more is allowed, is asked and acted upon alone.
            tx.project_lock(scope).await?;
            if !wanted.unique.is_empty() {
                let same = tx
                    .checks(scope)
                    .await?
                    .into_iter()
                    .find(|check| wanted.means(&check.settings));
                if let Some(check) = same {
                    tx.check_lock(scope, check.id).await?;
                    let mut check = tx.check(scope, check.id).await?.ok_or(Error::NOT_FOUND)?;
                    let channels = update_check(tx, &mut check, &wanted, &mut errand).await?;
                    return Ok((StatusCode::OK, check, channels));
                }
            }
            let (count, limit) = tx.check_quota(scope).await?;
            if count >= limit {
                return Err(Error::FORBIDDEN);
            }
            let channels =
                resolve_channels(tx, scope, wanted.channels.as_deref().unwrap_or_default()).await?;
            let mut settings = Settings::default();
            wanted.apply(&mut settings, version);
            let check = Check {
                id: errand.dice.id(),
                project: scope.project(),
                badge: errand.dice.id(),
                settings,
                state: CheckState::new(now),
                deadline: None,
                version: 1,
                created_at: now,
            };
            tx.check_insert(scope, &check).await?;
            tx.check_set_channels(scope, check.id, &channels).await?;
            errand.audit(tx, &check, "check.create").await?;
            Ok::<_, Error>((StatusCode::CREATED, check, channels))
        })
        .await?;
    let shown = compat::check(&check, &channels, KeyKind::ReadWrite, version, &app, now);
    Ok(json(status, &shown))
}

/// POST `checks/<code>`
pub(crate) async fn update(
    State(app): State<App>,
    Segments(code): Segments<String>,
    form: WriteForm,
) -> Result<Response, Error> {
    // Existence and ownership are told before the fields are judged.
    let wanted = judged(&form, &app);
    change(&app, form.key, code, |tx, check, errand| {
        Box::pin(async move { update_check(tx, check, &wanted.map_err(Error::bad_request)?, errand).await })
    })
    .await
}

/// DELETE `checks/<code>`
pub(crate) async fn delete(
    State(app): State<App>,
    key: WriteKey,
    Segments(code): Segments<String>,
) -> Result<Response, Error> {
    change(&app, key, code, |tx, check, errand| {
        Box::pin(async move {
            let channels = tx.check_channels(errand.scope, check.id).await?;
            tx.check_delete(errand.scope, check.id, errand.now).await?;
            errand.audit(tx, check, "check.delete").await?;
            Ok(channels)
        })
    })
    .await
}

/// POST `checks/<code>/pause`
pub(crate) async fn pause(
    State(app): State<App>,
    Segments(code): Segments<String>,
    form: WriteForm,
) -> Result<Response, Error> {
    change(&app, form.key, code, |tx, check, errand| {
        Box::pin(async move {
            errand.apply(tx, check, Event::Pause).await?;
            errand.audit(tx, check, "check.pause").await?;
            Ok(tx.check_channels(errand.scope, check.id).await?)
        })
    })
    .await
}

/// POST `checks/<code>/resume`
pub(crate) async fn resume(
    State(app): State<App>,
    Segments(code): Segments<String>,
    form: WriteForm,
) -> Result<Response, Error> {
    change(&app, form.key, code, |tx, check, errand| {
        Box::pin(async move {
            if check.state.status != Status::Paused {
                return Err(Error::Text(StatusCode::CONFLICT, "check is not paused"));
            }
            errand.apply(tx, check, Event::Resume).await?;
            errand.audit(tx, check, "check.resume").await?;
            Ok(tx.check_channels(errand.scope, check.id).await?)
        })
    })
    .await
}

/// What changes a check; boxed, since an async closure inside of another cannot be shown to travel between threads.
type Change<'t> = Pin<Box<dyn Future<Output = Result<Vec<ChannelId>, Error>> + Send + 't>>;

/// Finds a check, changes it in one transaction, and shows it. `work` gives the channels it tells from then on.
async fn change<F>(app: &App, key: WriteKey, code: String, work: F) -> Result<Response, Error>
where
    F: for<'t> FnOnce(&'t mut Tx<'_>, &'t mut Check, &'t mut Errand) -> Change<'t> + Clone + Send + 'static,
{
    let mut errand = Errand::new(app, key);
    let (version, now) = (errand.version, errand.now);
    let (check, channels) = app
        .store()
        .write_again(async move |tx| {
            if let Ok(id) = code.parse() {
                tx.check_lock(errand.scope, id).await?;
            }
            let mut check = find_by_id(tx, errand.scope, &code).await?;
            let channels = work(tx, &mut check, &mut errand).await?;
            Ok::<_, Error>((check, channels))
        })
        .await?;
    let shown = compat::check(&check, &channels, KeyKind::ReadWrite, version, app, now);
    Ok(json(StatusCode::OK, &shown))
}

/// What is wanted, or the sentence that says why it cannot be.
fn judged(form: &WriteForm, app: &App) -> Result<Wanted, String> {
    judge(&form.fields, app.zones()).map_err(|sentence| format!("json validation error: {sentence}"))
}

/// Changes a check as wanted; gives the channels it tells from now on.
async fn update_check(
    tx: &mut Tx<'_>,
    check: &mut Check,
    wanted: &Wanted,
    errand: &mut Errand,
) -> Result<Vec<ChannelId>, Error> {
    let scope = errand.scope;
    let channels = match &wanted.channels {
        Some(list) => Some(resolve_channels(tx, scope, list).await?),
        None => None,
    };
    wanted.apply(&mut check.settings, errand.version);
    tx.check_save_settings(scope, check).await?;
    errand.apply(tx, check, Event::Edit).await?;
    if let Some(channels) = &channels {
        tx.check_set_channels(scope, check.id, channels).await?;
    }
    let seq = tx.change_next(scope).await?;
    tx.check_mark_changed(scope, check, seq).await?;
    errand.audit(tx, check, "check.update").await?;
    match channels {
        Some(channels) => Ok(channels),
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
