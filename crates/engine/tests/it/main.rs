//! The engine, driven by its steps until it is quiet, on stores with nothing else in them.

mod absence;
mod deliver;
mod ingest;
mod ingest_trouble;
mod kit;
mod loops;
mod replan;
mod retain;
mod sweep;
mod watchdog;
