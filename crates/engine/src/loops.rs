//! The one shape of a loop: run a step, sleep until it is due again or somebody nudges, stop on shutdown.
//!
//! Here, and nowhere else in the engine, the clock is read and time is slept away. A nudge carries no data: losing one
//! costs at most the longest sleep.

use std::sync::Arc;
use std::time::Duration;

use allswell_core::time::Timestamp;
use allswell_store::Result;
use tokio::sync::{Notify, watch};

use crate::Due;
use crate::meters::Meters;

/// The longest sleep. Short, since commands of the operator and other nodes cannot nudge us, and a clock that was set
/// must be noticed.
const SLEEP_MAX: Duration = Duration::from_secs(1);
/// The wait after a failure.
const AFTER_ERROR: Duration = Duration::from_secs(1);

/// How often a loop that keeps failing says so. The log may lie on the disk that is full.
const COMPLAINT_EVERY: Duration = Duration::from_secs(60);

/// Half of what clocks may differ by ([`allswell_core::absence::CLOCKS_DIFFER`]).
const STALE: Duration = Duration::from_secs(30);

/// What a loop does, again and again.
pub trait Step {
    /// Its name in log and metrics.
    const NAME: &'static str;

    /// Looks what is due at `now`, acts, records. Takes no other input, so that it works the same after a crash.
    fn step(&self, now: Timestamp) -> impl Future<Output = Result<Due>> + Send;

    /// Hears that the loop was nudged, before the step that follows.
    fn nudged(&self) {}

    /// Finishes what runs beside the steps, after the last of them.
    fn end(&self, clock: fn() -> Timestamp) -> impl Future<Output = Result<()>> + Send {
        let _ = clock;
        std::future::ready(Ok(()))
    }
}

/// Time that passes, however the clock is set.
#[derive(Copy, Clone, Debug)]
pub struct Stopwatch(tokio::time::Instant);

impl Stopwatch {
    /// Begins now.
    #[expect(clippy::disallowed_methods, reason = "this is the clock's home")]
    pub fn start() -> Self {
        Stopwatch(tokio::time::Instant::now())
    }

    /// What has passed since.
    pub fn elapsed(self) -> Duration {
        self.0.elapsed()
    }

    /// Whether a clock that was read when it began is too old by now to be compared with what others have noted.
    pub(crate) fn is_stale(self) -> bool {
        self.elapsed() >= STALE
    }
}

/// The system's clock.
#[expect(clippy::disallowed_methods, reason = "this is the clock's home")]
pub fn now() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    // A clock before 1970 is a broken clock; zero keeps the order of what follows.
    let micros = since.map(|since| i64::try_from(since.as_micros()).unwrap_or(i64::MAX));
    Timestamp::from_micros(micros.unwrap_or(0))
}

/// The failures of a loop, said at once and then folded.
#[derive(Default)]
struct Complaints {
    said: Option<Stopwatch>,
    unsaid: u64,
}

impl Complaints {
    fn hear(&mut self, name: &str, error: &allswell_store::Error) {
        self.unsaid += 1;
        match self.said {
            None => tracing::error!("{name} failed and runs again soon: {error}"),
            Some(said) if said.elapsed() < COMPLAINT_EVERY => return,
            Some(_) => tracing::error!(
                "{name} failed and runs again soon ({} times since the last line): {error}",
                self.unsaid
            ),
        }
        *self = Complaints {
            said: Some(Stopwatch::start()),
            unsaid: 0,
        };
    }
}

/// Runs a step until `stop` says so. A step that fails is run again a little later, and logged at once, then once a minute.
pub async fn run<S: Step>(step: S, nudge: Arc<Notify>, mut stop: watch::Receiver<bool>, meters: Meters) {
    meters.step_begins(S::NAME);
    let mut complaints = Complaints::default();
    while !*stop.borrow() {
        let done = step.step(now()).await;
        if done.is_ok() {
            meters.step_done(S::NAME, now());
        }
        let sleep = match done {
            Ok(Due::Now) => {
                // Others wait for the database too.
                tokio::task::yield_now().await;
                continue;
            }
            Ok(Due::At(at)) => until(at),
            Ok(Due::WhenNudged) => SLEEP_MAX,
            Err(error) => {
                complaints.hear(S::NAME, &error);
                meters.step_failed(S::NAME);
                AFTER_ERROR
            }
        };
        tokio::select! {
            () = pause(sleep) => {}
            () = nudge.notified() => step.nudged(),
            // Nobody is left who could say stop: going on would mean a loop without any sleep.
            changed = stop.changed() => if changed.is_err() { break },
        }
    }
    if let Err(error) = step.end(now).await {
        tracing::error!(
            "{} did not end in order; the next start goes on from rows: {error}",
            S::NAME
        );
    }
}

/// Asks up to ten times, with a little time between: for what somebody else holds for a moment only.
pub async fn tried_again<T>(mut ask: impl FnMut() -> Option<T>) -> Option<T> {
    for _ in 0..9 {
        if let Some(found) = ask() {
            return Some(found);
        }
        pause(Duration::from_millis(20)).await;
    }
    ask()
}

fn until(at: Timestamp) -> Duration {
    let micros = u64::try_from((at - now()).as_micros()).unwrap_or(0);
    // Never none at all: a step that is due again at an instant already past must not spin.
    Duration::from_micros(micros).clamp(Duration::from_millis(1), SLEEP_MAX)
}

#[expect(clippy::disallowed_methods, reason = "this is where the engine sleeps")]
async fn pause(sleep: Duration) {
    tokio::time::sleep(sleep).await;
}
