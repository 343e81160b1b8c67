//! The pure core of Allswell: facts go in, decisions come out.
//!
//! Nothing here reads a clock, rolls dice, waits, or touches a file, a socket or a database: time and chance are
//! arguments. That is why a year of a check can be tried in a unit test, and why the simulator can replay a crash.

pub mod absence;
pub mod address;
pub mod admission;
pub mod badge;
pub mod breaker;
pub mod chance;
pub mod check;
pub mod cidr;
pub mod crowd;
pub mod delivery;
pub mod exchange;
pub mod flip;
pub mod header;
pub mod health;
pub mod id;
pub mod incident;
pub mod key;
pub mod limits;
pub mod pace;
pub mod policy;
pub mod quota;
pub mod refusal;
pub mod relay;
pub mod retry;
pub mod ring;
pub mod schedule;
pub mod scope;
pub mod seal;
pub mod secret;
pub mod signal;
pub mod signature;
pub mod signed_call;
pub mod slug;
pub mod target;
pub mod template;
pub mod time;
