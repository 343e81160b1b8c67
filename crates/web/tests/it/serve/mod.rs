//! The accept loop against clients that speak raw bytes.
//!
//! Tests about time run on in-memory pipes with tokio's clock paused: it jumps to the next timer whenever
//! nothing else can happen, so limits have their real values and are measured exactly. Tests about sockets and
//! numbers run on loopback TCP and wait only for bytes and for closes.

mod accept_errors;
mod bodies;
mod crowd;
mod ending;
mod heads;
mod kit;
mod panics;
mod pauses;
