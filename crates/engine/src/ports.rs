//! What the engine needs of the floors above and beside it: somebody who carries a call out, and somebody who knows the
//! words of the compatible API. The simulator and the tests stand in for both.

use std::sync::Arc;

use allswell_core::check::Check;
use allswell_core::exchange::{Outcome, Request};
use allswell_core::id::ChannelId;
use allswell_core::time::Timestamp;

/// The door outward.
pub trait Outbound: Send + Sync + 'static {
    /// Carries a call out, within its budget, and closes its connection before it gives the outcome.
    fn send(&self, request: Request) -> impl Future<Output = Outcome> + Send;
}

impl<O: Outbound> Outbound for Arc<O> {
    fn send(&self, request: Request) -> impl Future<Output = Outcome> + Send {
        (**self).send(request)
    }
}

/// A check with its channels as version 3 of the compatible API shows it to a key that may write, as JSON.
pub type Describe = Arc<dyn Fn(&Check, &[ChannelId], Timestamp) -> String + Send + Sync>;
