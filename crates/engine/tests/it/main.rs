//! The engine, driven by its steps until it is quiet, on stores with nothing else in them.

mod absence;
mod deliver;
mod deliver_away;
mod deliver_order;
mod deliver_outdated;
mod deliver_retry;
mod deliver_share;
mod deliver_trouble;
mod extras;
mod held;
mod hung;
mod ingest;
mod ingest_trouble;
mod kit;
mod loops;
mod ping_rules;
mod rekey;
mod replan;
mod retain;
mod rules;
mod script;
mod set_back;
mod sweep;
mod watchdog;
mod wishes;
