//! The only place that speaks SQL.
//!
//! One concrete [`Store`], no trait and no mock: both databases meet in `db`, below the statements. A noun's file holds
//! its statements on top, then its rows, then its methods: reads on [`Reader`], writes on [`Tx`]. Inside
//! [`Store::write`] there is SQL and nothing else. The store never decides.

mod db;
mod error;
mod inspect;
mod store;
mod vault;

pub mod absences;
pub mod audit;
pub mod badges;
pub mod batch;
pub mod channels;
pub mod checks;
pub mod flips;
pub mod instance;
pub mod keys;
pub mod outbox;
pub mod people;
pub mod pings;
pub mod projects;
pub mod retention;
pub mod watchdog;

pub use db::postgres::{Server, Tls, TlsMode};
pub use db::{Reader, Tx};
pub use error::Error;
pub use inspect::Table;
pub use store::{Durability, Place, Schema, Serving, Store};

/// What the store's methods return.
pub type Result<T, E = Error> = std::result::Result<T, E>;
