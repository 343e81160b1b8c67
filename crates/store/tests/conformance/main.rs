//! What the store promises, tried on every database it runs on: one file per noun.
//!
//! A test is a function of a store that has no rows yet; `on_each_database!` makes one test per database of it. What a
//! second connection has to do behind the store's back (damage, other programs) is in plain tests on a file of SQLite.

mod absences;
mod audit;
mod badges;
mod channels;
mod check_pages;
mod checks;
mod deletes;
mod files;
mod flips;
mod instance;
mod keys;
mod kit;
mod native;
mod news;
mod outbox;
mod people;
mod pings;
mod postgres;
mod projects;
mod races;
mod retention;
mod rotation;
mod rules;
mod schema;
mod secrets;
mod simulated;
mod tally;
mod tls;
mod transactions;
mod vault;
mod watchdog;
