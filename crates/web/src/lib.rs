//! HTTP in: the ping endpoints, the compatible management API, and the pages.
//!
//! `routes` is the table of contents. A handler is a straight line: parse, authorise, read or decide, respond; what it
//! may do is a parameter. Nothing here opens a connection outward, and only here are HTTP statuses known.

mod api;
mod badge;
mod client;
mod error;
mod headers;
mod metrics;
mod native;
mod pages;
mod path;
mod ping;
mod ping_answer;
mod prometheus;
mod query;
mod quotas;
mod state;

pub mod auth;
pub mod routes;
pub mod serve;

pub use client::Network;
pub use metrics::{About, metrics_app};
pub use routes::app;
pub use state::{App, Site, WebLimits};

/// A check with its channels in the words of the compatible API, for those who tell others of it.
pub fn describe(app: &App) -> allswell_engine::ports::Describe {
    // Not the whole state: it holds the inbox, and the loop behind that ends when nobody holds it any more.
    let (site, zones) = (app.site().clone(), app.zones().clone());
    std::sync::Arc::new(move |check, channels, now| api::described(check, channels, (&site, &zones), now))
}

/// The hash under which the secret of a start link is kept.
pub fn start_link_hash(secret: &str) -> [u8; 32] {
    use sha2::{Digest, Sha256};
    Sha256::digest(secret.as_bytes()).into()
}
