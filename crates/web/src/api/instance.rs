//! `metrics/`: counts of the whole instance, for whoever holds the operator's metrics key.
//!
//! Healthchecks tells its highest row numbers. We have none, so these are the nearest true counts (docs/api.md).

use axum::extract::State;
use axum::response::Response;
use http::{HeaderMap, StatusCode};
use serde_json::json;
use subtle::ConstantTimeEq;

use allswell_core::scope::SystemScope;

use super::json;
use crate::error::Error;
use crate::state::App;

/// GET `metrics/`
pub(crate) async fn metrics(State(app): State<App>, headers: HeaderMap) -> Result<Response, Error> {
    let given = headers.get("x-metrics-key").map(|value| value.as_bytes());
    let known = app.site().metrics_key.as_ref();
    let fits = match (given, known) {
        (Some(given), Some(known)) => bool::from(given.ct_eq(known.reveal().as_bytes())),
        _ => false,
    };
    if !fits {
        return Err(Error::FORBIDDEN);
    }
    let counts = app
        .store()
        .read(async |reader| reader.instance_counts(SystemScope::engine()).await)
        .await?;
    let shown = json!({
        "ts": app.now().as_micros().div_euclid(1_000_000),
        "max_ping_id": counts.pings,
        "max_notification_id": counts.deliveries,
        "num_unprocessed_flips": counts.flips_untold,
    });
    Ok(json(StatusCode::OK, &shown))
}
