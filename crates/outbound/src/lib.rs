//! The only door outward. Nothing else in Allswell opens a connection to another machine, but for the store to its
//! database; `clippy.toml` forbids it.
//!
//! [`Client::send`] takes a request and answers with an outcome, whatever happens. On the way, a name and an address in
//! a URL take the same road: parsed once, resolved by our own resolver (no hosts file, no search list, no environment),
//! *every* address judged, a connection to an address that was judged and to nothing else, its other end looked at once
//! more, TLS with the name of the URL. Connections are fresh and closed after one answer: a pool would carry one
//! project's connection into another's request and skip the judgement. Nothing is remembered: no cookies, no sessions
//! of TLS, no alternative services.
//!
//! [`Client::relay`] lends such a connection for the dialogue with a mail relay, step by step.
//!
//! It never writes to the database, and decides nothing that `core` could: rules of URLs, names and addresses are there.

mod answer;
mod client;
mod dial;
mod hop;
mod proxy;
mod resolve;
mod smtp;
mod tls;
mod watch;
mod wire;
#[cfg(debug_assertions)]
mod written;

pub use client::{Client, Looked, Settings};
pub use proxy::{Proxy, ProxyMode};
pub use smtp::{Mechanism, Offers, Reply, Session, SignIn, SmtpEnd};
pub use tls::TlsError;
pub use wire::{Found, System, Unresolved, Wire};
#[cfg(debug_assertions)]
pub use written::on_request_written;
