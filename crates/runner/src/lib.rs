//! `allswell run`: a job in a wrapper that nobody notices. Its streams, signals and exit status pass through as they
//! are; its start, the end of its output and its exit status go to a ping address.
//!
//! This is a client, no part of the server: it shares no runtime, no store and no door with it, so that it starts in
//! a few milliseconds and can be put before every line of a crontab. It speaks the protocol of Healthchecks and no more.
//!
//! The job comes first. Nothing that goes wrong here (a server that is away, slow or hostile, settings that cannot be
//! read, a terminal that went away) may keep it from running, hold it up, or change its exit status. What is reported is
//! sent by a thread of its own, and every wait of that thread has an end.

mod clock;
mod http;
mod job;
mod pass;
mod proxy;
mod report;
mod signals;
mod tail;
mod tls;
mod url;

pub use job::{Ended, Plan, run, run_unreported};
pub use pass::relay;
pub use proxy::Proxies;
pub use report::Report;
pub use url::Url;

/// Bytes of the end of a job's output that are kept in memory and sent, unless told otherwise.
pub const TAIL_BYTES_DEFAULT: usize = 100_000;
/// The most that may be asked for: what a server of ours takes at most.
pub const TAIL_BYTES_MAX: usize = 16 << 20;
/// What a server is taken to keep of a body when it has not said: the protocol's own bound.
const BODY_BYTES_UNTOLD: usize = 10_000;
/// Seconds between two words that the job still runs, at least and at most.
pub const ALIVE_SECS: std::ops::RangeInclusive<u64> = 1..=86_400;
/// Seconds that the end of a job waits for its report, unless told otherwise.
pub const WAIT_SECS_DEFAULT: u64 = 20;
/// The longest that it may be told to wait.
pub const WAIT_SECS_MAX: u64 = 3_600;
