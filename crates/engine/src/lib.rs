//! The loops that carry decisions out.
//!
//! Each is a `step(now)` without other input, so that the usual path is also the way back after a crash: look what is
//! due, act, record. Pings come in through [`ingest`], which answers them after their commit. [`record`] is the one
//! place where a decision becomes rows. `loops` alone knows the clock.

pub mod changes;
pub mod channels;
pub mod deliver;
pub mod failpoint;
pub mod ingest;
pub mod listen;
pub mod loops;
pub mod meters;
pub mod pending;
pub mod ports;
pub mod record;
pub mod redeliver;
pub mod rekey;
pub mod replan;
pub mod retain;
pub mod secrets;
mod set_back;
pub mod sweep;
pub mod tally;
pub mod watchdog;

/// When a step wants to be run again.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Due {
    /// At once: there was more than one batch of work.
    Now,
    /// At this instant, or earlier when nudged.
    At(allswell_core::time::Timestamp),
    /// When nudged, or after the loop's longest sleep.
    WhenNudged,
}
