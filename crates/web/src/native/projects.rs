//! `/v1/projects`: the project that the key opens.

use allswell_core::id::ProjectId;
use allswell_core::key::KeyKind;
use allswell_core::limits;
use allswell_core::scope::SystemScope;
use allswell_store::keys::Key;
use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use serde_json::{Value, json};

use super::call::{Call, ReadCall, WriteCall};
use super::fields::Fields;
use super::once::Errand;
use super::problem::Problem;
use super::{Page, json, view};
use crate::path::Segments;
use crate::state::App;

async fn shown(app: &App, call: &Call) -> Result<Value, Problem> {
    let scope = call.scope;
    let (project, (signed_only, needs_key), (_, limit), checks) = app
        .store()
        .read(async move |reader| {
            let project = reader.project(SystemScope::engine(), scope.project()).await?;
            let signed_only = reader.requires_hmac(scope).await?;
            let needs_key = reader.requires_ping_key(scope).await?;
            let quota = reader.check_quota(scope).await?;
            let checks = reader.project_check_count(scope).await?;
            Ok::<_, Problem>((project, (signed_only, needs_key), quota, checks))
        })
        .await?;
    let project = project.ok_or_else(|| Problem::not_found("project"))?;
    Ok(json!({
        "id": project.id.to_string(),
        "name": project.name,
        "created_at": view::instant(project.created_at),
        "check_count": checks,
        "check_limit": limit,
        "require_hmac": signed_only,
        "require_ping_key": needs_key,
    }))
}

/// GET `/v1/projects`
pub(crate) async fn list(State(app): State<App>, ReadCall(call): ReadCall) -> Result<Response, Problem> {
    let items = vec![shown(&app, &call).await?];
    Ok(json(StatusCode::OK, &Page { items, next: None }))
}

fn its_own(name: &str, call: &Call) -> Result<(), Problem> {
    let own = name.parse::<ProjectId>().ok() == Some(call.scope.project());
    if own {
        Ok(())
    } else {
        Err(Problem::not_found("project"))
    }
}

/// GET `/v1/projects/{project}`
pub(crate) async fn show(
    State(app): State<App>,
    Segments(name): Segments<String>,
    ReadCall(call): ReadCall,
) -> Result<Response, Problem> {
    its_own(&name, &call)?;
    Ok(json(StatusCode::OK, &shown(&app, &call).await?))
}

/// PATCH `/v1/projects/{project}`
pub(crate) async fn update(
    State(app): State<App>,
    Segments(name): Segments<String>,
    WriteCall(call): WriteCall,
) -> Result<Response, Problem> {
    its_own(&name, &call)?;
    let mut fields = Fields::new(call.fields()?);
    let new_name = fields.text("name", limits::NAME_CHARS_MAX);
    let require_hmac = fields.truth("require_hmac");
    let require_ping_key = fields.truth("require_ping_key");
    if new_name.as_deref().is_some_and(|name| name.trim().is_empty()) {
        fields.fault("name", "may not be empty");
    }
    fields.finish()?;
    let mut errand = Errand::new(&app, &call);
    app.store()
        .write_again(async move |tx| {
            let scope = errand.scope;
            if let Some(required) = require_hmac {
                // Whoever turns this on without a key that signs changes would have locked the project.
                let keys = tx.signing_keys(scope).await?;
                if required && !keys.iter().any(|key| key.may_write(errand.now)) {
                    return Err(Problem::field(
                        "require_hmac",
                        "make a read-write signing key first (POST /v1/signing-keys): without one nobody could change \
                         anything",
                    ));
                }
                tx.project_require_hmac(scope, required).await?;
            }
            if let Some(required) = require_ping_key {
                let good = |key: &Key| key.kind == KeyKind::Ping && key.is_good(errand.now);
                if required && !tx.keys(scope).await?.iter().any(good) {
                    return Err(Problem::field(
                        "require_ping_key",
                        "make a ping key first (POST /v1/keys): without one every ping by id would be refused",
                    ));
                }
                tx.project_require_ping_key(scope, required).await?;
            }
            if let Some(name) = new_name {
                tx.project_rename(scope, &name).await?;
            }
            let target = format!("project:{}", scope.project());
            errand.audit(tx, "project.update", target).await
        })
        .await?;
    Ok(json(StatusCode::OK, &shown(&app, &call).await?))
}
