//! The only place that speaks SQL.
//!
//! One concrete [`Store`], no trait and no mock: both databases meet in `db`, below the statements. A noun's file holds
//! its statements on top, then its rows, then its methods: reads on [`Reader`], writes on [`Tx`]. Inside
//! [`Store::write`] there is SQL and nothing else. The store never decides.

mod copying;
mod db;
mod error;
mod health;
mod inspect;
mod packed;
mod sealed;
mod store;
mod vault;

pub mod absences;
pub mod audit;
pub mod badges;
pub mod batch;
pub mod channels;
pub mod check_pages;
pub mod checks;
pub mod feed;
pub mod flips;
pub mod instance;
pub mod keys;
pub mod news;
pub mod once;
pub mod outbox;
pub mod pages;
pub mod people;
pub mod ping_keys;
pub mod pings;
pub mod projects;
mod ready;
pub mod retention;
pub mod rotation;
mod rules;
pub mod secrets;
pub mod signing_keys;
pub mod simulated;
pub mod tally;
pub mod watchdog;
pub mod wrong_keys;

pub use copying::Copied;
pub use db::postgres::{CONNECTIONS_APART, Server, Tls, TlsMode};
pub use db::{Reader, Tx};
pub use error::{Error, ErrorsSeen};
pub use health::PostgresFacts;
pub use inspect::Table;
#[doc(hidden)]
pub use sealed::sealed_columns;
pub use store::{Durability, Place, Schema, Serving, Store};

/// What the store's methods return.
pub type Result<T, E = Error> = std::result::Result<T, E>;
