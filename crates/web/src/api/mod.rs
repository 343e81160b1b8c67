//! The management API that Healthchecks' clients speak, versions 1 to 3 (`healthchecks.md` section 3).
//!
//! One file per noun; `compat` alone knows the wire's names for our words.

pub(crate) mod auth;
pub(crate) mod badges;
pub(crate) mod channels;
pub(crate) mod checks;
pub(crate) mod compat;
pub(crate) mod fields;
pub(crate) mod flips;
pub(crate) mod instance;
pub(crate) mod notifications;
pub(crate) mod openapi;
pub(crate) mod pings;
pub(crate) mod resource;
pub(crate) mod status;

use allswell_core::check::Check;
use allswell_core::id::ChannelId;
use allswell_core::key::KeyKind;
use allswell_core::schedule::Zones;
use allswell_core::time::Timestamp;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::CONTENT_TYPE;
use serde::Serialize;

use crate::state::Site;

/// Which version of the API a request speaks.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Version {
    V1 = 1,
    V2 = 2,
    V3 = 3,
}

impl Version {
    pub(crate) const ALL: [Version; 3] = [Version::V1, Version::V2, Version::V3];
}

/// An answer in JSON.
pub(crate) fn json(status: StatusCode, value: &impl Serialize) -> Response {
    // Our own types have text for names and no numbers that JSON lacks.
    let body = serde_json::to_vec(value).expect("what we answer can be written as JSON");
    (status, [(CONTENT_TYPE, "application/json")], body).into_response()
}

/// A check as version 3 shows it to a key that may write, as compact JSON: what webhooks call `$JSON`.
pub(crate) fn described(
    check: &Check,
    channels: &[ChannelId],
    site: (&Site, &Zones),
    now: Timestamp,
) -> String {
    let mut channels = channels.to_vec();
    channels.sort_unstable();
    let shown = compat::check_of_site(check, &channels, KeyKind::ReadWrite, Version::V3, site, now);
    serde_json::to_string(&shown).expect("what we show can be written as JSON")
}
