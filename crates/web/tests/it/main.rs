//! The web crate from outside: bytes in, bytes out.

#![allow(
    clippy::disallowed_methods,
    reason = "clients of a test connect to loopback and wait on tokio's paused clock"
)]

mod api;
mod native;
mod ping;
mod serve;
