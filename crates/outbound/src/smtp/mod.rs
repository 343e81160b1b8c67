//! The dialogue with a mail relay (RFC 5321, 3207, 4954), step by step, over a connection that was judged like any other.
//!
//! Whoever sends mail, or looks whether it could be sent, drives the steps; each gives the relay's reply as it was said.
//! Nothing that a relay says is believed before TLS stands: what it offered in the clear is asked for again, a byte that
//! was there before the handshake ends the dialogue, and a password is never written to a connection without TLS. Nor is
//! it told by a relay that repeats it (`hush.rs`).

mod hush;
mod reply;
mod session;

pub use reply::{Offers, Reply};
pub use session::{Mechanism, Session, SignIn, SmtpEnd};
pub(crate) use session::{Opened, Stream};
