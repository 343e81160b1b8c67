//! Gauges that only the database knows: what waits, and what there is. Runs where somebody may ask for them.

use allswell_core::scope::SystemScope;
use allswell_core::time::{Span, Timestamp};
use allswell_store::{Error, Result, Store};
use tokio::sync::Mutex;

use crate::Due;
use crate::loops::Step;
use crate::meters::Meters;

/// About as often as a scraper asks.
const EVERY: Span = Span::from_secs(15);
/// Counting checks looks at each of them.
const CHECKS_EVERY: Span = Span::from_secs(60);

/// Looks now and then, and sets the gauges.
pub struct Tally {
    store: Store,
    meters: Meters,
    checks_at: Mutex<Timestamp>,
}

impl Tally {
    /// Into `meters`.
    pub fn new(store: Store, meters: Meters) -> Self {
        Tally {
            store,
            meters,
            checks_at: Mutex::new(Timestamp::default()),
        }
    }
}

impl Step for Tally {
    const NAME: &'static str = "tally";

    async fn step(&self, now: Timestamp) -> Result<Due> {
        let system = SystemScope::engine();
        let mut checks_at = self.checks_at.lock().await;
        let with_checks = now >= *checks_at;
        let (waiting, checks) = self
            .store
            .read(async move |reader| {
                let waiting = reader.deliveries_waiting(system).await?;
                let checks = if with_checks {
                    Some(reader.checks_by_status(system).await?)
                } else {
                    None
                };
                Ok::<_, Error>((waiting, checks))
            })
            .await?;
        self.meters.deliveries_wait(waiting, now);
        if let Some(checks) = checks {
            self.meters.checks_are(&checks);
            *checks_at = now + CHECKS_EVERY;
        }
        Ok(Due::At(now + EVERY))
    }
}
