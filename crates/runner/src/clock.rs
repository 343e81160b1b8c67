//! The wrapper's clock: how long it waits. No decision about a check is made by it.

use std::time::{Duration, Instant};

/// The moment.
#[expect(
    clippy::disallowed_methods,
    reason = "this is the home of the wrapper's clock: it bounds waiting and decides nothing"
)]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// The end of a wait.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Deadline(Instant);

impl Deadline {
    pub(crate) fn after(span: Duration) -> Self {
        Deadline(now() + span)
    }

    /// The earlier of two.
    pub(crate) fn or_after(self, span: Duration) -> Self {
        self.min(Self::after(span))
    }

    /// What is left of the wait; nothing when it is over.
    pub(crate) fn left(self) -> Duration {
        self.0.saturating_duration_since(now())
    }

    pub(crate) fn is_over(self) -> bool {
        self.left().is_zero()
    }
}
