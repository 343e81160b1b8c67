//! Changes on their way: what deciding and recording one needs, and the POST that is carried out once however often it
//! comes (`scheduled-webhooks.md` S8).

use std::pin::Pin;

use allswell_core::chance::Dice;
use allswell_core::check::{Check, Event};
use allswell_core::limits::{ONCE_HOURS, ONCE_KEY_BYTES_MAX};
use allswell_core::schedule::Zones;
use allswell_core::scope::ProjectScope;
use allswell_core::time::{Span, Timestamp};
use allswell_engine::record;
use allswell_store::Tx;
use allswell_store::audit::Act;
use allswell_store::once::{Before, Once};
use axum::response::{IntoResponse, Response};
use http::header::CONTENT_TYPE;
use http::{HeaderName, HeaderValue, StatusCode};
use serde_json::Value;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::call::Call;
use super::problem::{Problem, kinds};
use crate::state::App;

/// A change: who wants it, when, and what deciding about it needs.
pub(super) struct Errand {
    pub(super) app: App,
    pub(super) scope: ProjectScope,
    pub(super) actor: String,
    pub(super) now: Timestamp,
    pub(super) dice: Dice,
    pub(super) zones: Zones,
}

impl Clone for Errand {
    /// For another try of the same change, whose transaction was taken back: with dice of its own.
    fn clone(&self) -> Self {
        Errand {
            app: self.app.clone(),
            scope: self.scope,
            actor: self.actor.clone(),
            now: self.now,
            dice: self.app.dice(),
            zones: self.zones.clone(),
        }
    }
}

impl Errand {
    pub(super) fn new(app: &App, call: &Call) -> Self {
        Errand {
            app: app.clone(),
            scope: call.scope,
            actor: call.actor.clone(),
            now: app.now(),
            dice: app.dice(),
            zones: app.zones().clone(),
        }
    }

    pub(super) async fn audit(
        &mut self,
        tx: &mut Tx<'_>,
        action: &'static str,
        target: String,
    ) -> Result<(), Problem> {
        let act = Act {
            at: self.now,
            project: Some(self.scope.project()),
            actor: self.actor.clone(),
            action,
            target,
            data: String::new(),
        };
        Ok(tx.audit(self.dice.id_at(self.now), &act).await?)
    }

    /// Decides about an event and saves the check.
    pub(super) async fn apply(
        &mut self,
        tx: &mut Tx<'_>,
        check: &mut Check,
        event: Event,
    ) -> Result<(), Problem> {
        record::apply_and_save(tx, check, event, self.now, &mut self.dice, &self.zones).await?;
        Ok(())
    }
}

/// What a change answers; boxed, since an async closure inside of another cannot be shown to travel between threads.
pub(super) type Work<'t> = Pin<Box<dyn Future<Output = Result<(StatusCode, Value), Problem>> + Send + 't>>;

fn key_of(call: &Call) -> Result<Option<&[u8]>, Problem> {
    let Some(value) = call.headers.get("idempotency-key") else {
        return Ok(None);
    };
    let bytes = value.as_bytes();
    let visible = bytes.iter().all(|byte| (0x21..=0x7e).contains(byte));
    if bytes.is_empty() || bytes.len() > ONCE_KEY_BYTES_MAX || !visible {
        return Err(Problem::new(
            kinds::BAD_REQUEST,
            format!("Idempotency-Key has 1 to {ONCE_KEY_BYTES_MAX} visible ASCII characters"),
        ));
    }
    Ok(Some(bytes))
}

/// Carries a POST out, once: with an `Idempotency-Key` that came before, its first answer is given again.
pub(super) async fn carry_out<F>(app: &App, call: Call, work: F) -> Result<Response, Problem>
where
    F: for<'t> FnOnce(&'t mut Tx<'_>, &'t mut Errand) -> Work<'t> + Clone + Send + 'static,
{
    let mut errand = Errand::new(app, &call);
    let once = key_of(&call)?.map(|key| {
        // The hashes only tell requests apart; what the store keeps of key and body is keyed.
        let mut hash = Sha256::new();
        let project = call.scope.project();
        for part in [
            project.as_uuid_bytes().as_slice(),
            call.method.as_str().as_bytes(),
            call.uri.path().as_bytes(),
            key,
        ] {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        let hash: [u8; 32] = hash.finalize().into();
        let mut id = [0; 16];
        id.copy_from_slice(&hash[..16]);
        Once {
            id: Uuid::from_bytes(id),
            body_hash: Sha256::digest(&call.body).into(),
            since: errand.now - Span::from_secs(ONCE_HOURS * 3_600),
        }
    });
    let (status, body, replayed) = app
        .store()
        .write_again(async move |tx| {
            let scope = errand.scope;
            if let Some(once) = &once {
                match tx.once_begin(scope, once, errand.now).await? {
                    Before::Never => {}
                    Before::Answered(status, body) => {
                        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::OK);
                        return Ok((status, body, true));
                    }
                    Before::OtherBody => {
                        return Err(Problem::field(
                            "Idempotency-Key",
                            "was used before with another body; a new request needs a new key",
                        ));
                    }
                }
            }
            let (status, value) = work(tx, &mut errand).await?;
            let body = value.to_string().into_bytes();
            if let Some(once) = &once {
                tx.once_end(scope, once, status.as_u16(), &body, &mut errand.dice)
                    .await?;
            }
            Ok::<_, Problem>((status, body, false))
        })
        .await?;
    let mut response = (status, [(CONTENT_TYPE, "application/json")], body).into_response();
    if replayed {
        response.headers_mut().insert(
            HeaderName::from_static("idempotent-replay"),
            HeaderValue::from_static("true"),
        );
    }
    Ok(response)
}
