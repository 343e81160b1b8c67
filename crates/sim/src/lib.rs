//! A simulated world for the real engine and the real store (ARCHITECTURE.md, rings of tests).
//!
//! Everything that can come in any order comes here in the order that a seed gives: pings and edits, the steps of one to
//! three nodes, their transactions and who comes in between, commits that fail or are not heard of, crashes, restarts,
//! absences, clocks that are set, pings that come in the last moment or wish for a check, receivers of webhooks that lie,
//! hang, refuse, are gone or ask for patience, channels that are switched off and on again, deleted and tested by hand, and
//! alerts that somebody sends again. After each commit the [`rules`] are asked. The same seed tells the same story again.
//!
//! Not simulated: the SQL of PostgreSQL (the store's tests run it), TLS, HTTP and what the API makes of a request before its
//! transaction, the disk (tests/test_crash.py), the quotas of pings and of checks.

mod absent;
mod alerting;
mod answers;
mod calm;
mod close;
mod crashes;
mod follow;
mod hands;
mod house;
mod lanes;
mod look;
mod model;
mod node;
mod orders;
mod outside;
mod promises;
mod report;
mod rest;
pub mod rules;
mod runtime;
mod silence;
mod switches;
mod task;
mod temper;
mod told;
mod tries;
mod troubles;
mod users;
mod wishes;
mod world;

pub use absent::{restarting_for_a_day, two_hours_away};
pub use crashes::{Crashes, every_crash_point};
pub use lanes::{Lane, lanes_of_a_receiver_that_comes_back};
pub use report::Report;
pub use temper::Temper;
pub use world::run_with;

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::panic::{AssertUnwindSafe, catch_unwind};

use allswell_core::chance::Dice;

/// Tells the story of a seed, of this many happenings, in a world as the seed has it.
///
/// # Errors
/// The rule that was broken, with what led to it. A panic of the engine is one too.
pub fn tell(seed: u64, happenings: u64) -> Result<Report, Box<Failure>> {
    let temper = Temper::of(&mut Dice::from_number(seed), happenings);
    let story = catch_unwind(AssertUnwindSafe(|| run_with(seed, temper)));
    story.unwrap_or_else(|panic| {
        let words = panic.downcast_ref::<String>().map(String::as_str);
        let words = words.or(panic.downcast_ref::<&str>().copied());
        Err(Box::new(Failure {
            again: again(seed, happenings),
            broken: rules::Broken {
                rule: rules::PANIC,
                seen: words.unwrap_or("a panic").to_owned(),
            },
            trace: Vec::new(),
        }))
    })
}

fn again(seed: u64, happenings: u64) -> String {
    format!("make sim ARGS='--seed {seed} --happenings {happenings}'")
}

/// A seed that nobody has chosen.
pub fn fresh_seed() -> u64 {
    RandomState::new().hash_one(0) % 1_000_000_000
}

/// A story in which a rule was broken.
#[derive(Debug)]
pub struct Failure {
    /// What tells it again.
    pub again: String,
    /// The rule, and what was seen.
    pub broken: rules::Broken,
    /// The last happenings, oldest first.
    pub trace: Vec<String>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.trace {
            writeln!(f, "    {line}")?;
        }
        writeln!(f, "{}", self.broken)?;
        write!(f, "again: {}", self.again)
    }
}
