//! The door against a hostile world: names that change, servers that are slow, endless, lying or elsewhere.
//!
//! The world is made up (`world.rs`): it notes every address that a connection would have gone to, and time is paused,
//! so that a server that never answers costs no waiting.

mod hostile;
mod proxied;
mod relay;
mod relayed;
mod secure;
mod sign_in;
mod vectors;
mod world;
