//! What the engine counts, for `/metrics`.

use allswell_core::time::Span;
use allswell_store::outbox::End;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::ingest::{Answer, Refusal};

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Outcome {
    outcome: &'static str,
}

/// The engine's counters. Cheap to clone; clones count together.
#[derive(Clone)]
pub struct Meters {
    pings: Family<Outcome, Counter>,
    batch_pings: Histogram,
    commit: Histogram,
    down: Counter,
    deliveries: Family<Outcome, Counter>,
    retries: Counter,
    in_flight: Gauge,
    breakers_open: Gauge,
    errors: Family<Loop, Counter>,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Loop {
    step: &'static str,
}

impl Default for Meters {
    fn default() -> Self {
        Meters {
            pings: Family::default(),
            batch_pings: Histogram::new([1.0, 4.0, 16.0, 64.0, 256.0, 1024.0]),
            commit: Histogram::new([
                0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0,
            ]),
            down: Counter::default(),
            deliveries: Family::default(),
            retries: Counter::default(),
            in_flight: Gauge::default(),
            breakers_open: Gauge::default(),
            errors: Family::default(),
        }
    }
}

impl Meters {
    /// Puts the counters into a registry.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("pings", "Pings by what became of them", self.pings.clone());
        registry.register(
            "batch_pings",
            "Pings in one transaction",
            self.batch_pings.clone(),
        );
        registry.register_with_unit(
            "ping_commit",
            "Time from taking a batch of pings to its commit",
            Unit::Seconds,
            self.commit.clone(),
        );
        registry.register(
            "checks_missed",
            "Checks that went down by silence",
            self.down.clone(),
        );
        registry.register(
            "deliveries",
            "Deliveries by how they ended",
            self.deliveries.clone(),
        );
        registry.register(
            "delivery_retries",
            "Attempts that failed and are made again",
            self.retries.clone(),
        );
        registry.register(
            "deliveries_in_flight",
            "Attempts under way",
            self.in_flight.clone(),
        );
        registry.register(
            "delivery_breakers_open",
            "Targets that fail and are asked rarely",
            self.breakers_open.clone(),
        );
        registry.register(
            "step_errors",
            "Steps of the engine's loops that failed",
            self.errors.clone(),
        );
    }

    pub(crate) fn ping(&self, result: Result<Answer, Refusal>) {
        let outcome = match result {
            Ok(Answer::Stored) => "stored",
            Ok(Answer::Created) => "created",
            Ok(Answer::NotFound) => "not_found",
            Ok(Answer::Ambiguous) => "ambiguous",
            Err(Refusal::Full) => "inbox_full",
            Err(Refusal::Busy) => "busy",
            Err(Refusal::Failed) => "failed",
        };
        self.pings.get_or_create(&Outcome { outcome }).inc();
    }

    pub(crate) fn batch(&self, pings: usize, took: Span) {
        self.batch_pings.observe(pings as f64);
        self.commit.observe(took.as_micros() as f64 / 1e6);
    }

    pub(crate) fn swept(&self, flips: usize) {
        self.down.inc_by(flips as u64);
    }

    pub(crate) fn delivered(&self, end: End) {
        let outcome = end.word();
        self.deliveries.get_or_create(&Outcome { outcome }).inc();
    }

    pub(crate) fn retried(&self) {
        self.retries.inc();
    }

    pub(crate) fn desk(&self, in_flight: u32, breakers_open: usize) {
        self.in_flight.set(i64::from(in_flight));
        self.breakers_open
            .set(i64::try_from(breakers_open).unwrap_or(i64::MAX));
    }

    pub(crate) fn step_failed(&self, step: &'static str) {
        self.errors.get_or_create(&Loop { step }).inc();
    }
}
