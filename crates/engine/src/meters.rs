//! What the engine counts, for `/metrics`.

use std::sync::atomic::AtomicU64;

use allswell_core::check::Status;
use allswell_core::time::{Span, Timestamp};
use allswell_store::outbox::End;
use allswell_store::tally::Waiting;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::ingest::{Answer, Receipt, Refusal, Told};

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
    done_at: Family<Loop, Gauge<f64, AtomicU64>>,
    sweep_lag: Gauge<f64, AtomicU64>,
    absences: Counter,
    absent: Counter<f64, AtomicU64>,
    waiting: Family<State, Gauge>,
    delivery_lag: Gauge<f64, AtomicU64>,
    checks: Family<StatusLabel, Gauge>,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct State {
    state: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct StatusLabel {
    status: &'static str,
}

/// What can become of a ping. All are told from the first scrape on, since a rise from nothing is not seen as one.
const PING_OUTCOMES: [&str; 11] = [
    "stored",
    "counted",
    "limited",
    "no_key",
    "bad_parameter",
    "created",
    "not_found",
    "ambiguous",
    "inbox_full",
    "busy",
    "failed",
];
/// How a delivery can end.
const DELIVERY_OUTCOMES: [&str; 6] = [
    "delivered",
    "superseded",
    "expired",
    "cancelled",
    "exhausted",
    "blocked",
];

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Loop {
    step: &'static str,
}

impl Default for Meters {
    fn default() -> Self {
        let meters = Meters {
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
            done_at: Family::default(),
            sweep_lag: Gauge::default(),
            absences: Counter::default(),
            absent: Counter::default(),
            waiting: Family::default(),
            delivery_lag: Gauge::default(),
            checks: Family::default(),
        };
        for outcome in PING_OUTCOMES {
            drop(meters.pings.get_or_create(&Outcome { outcome }));
        }
        for outcome in DELIVERY_OUTCOMES {
            drop(meters.deliveries.get_or_create(&Outcome { outcome }));
        }
        meters
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
        registry.register_with_unit(
            "step_done_timestamp",
            "When a loop of the engine last did its step, since 1970",
            Unit::Seconds,
            self.done_at.clone(),
        );
        registry.register_with_unit(
            "sweep_lag",
            "How long the check that waited longest had been due when the sweep last looked",
            Unit::Seconds,
            self.sweep_lag.clone(),
        );
        registry.register(
            "absences",
            "Times that no server was awake, noticed by this one",
            self.absences.clone(),
        );
        registry.register_with_unit(
            "absent",
            "Length of those times",
            Unit::Seconds,
            self.absent.clone(),
        );
        registry.register(
            "deliveries_waiting",
            "Deliveries that wait: ready, or leased by a server",
            self.waiting.clone(),
        );
        registry.register_with_unit(
            "delivery_lag",
            "How long the delivery that waited longest had been due when it was last looked",
            Unit::Seconds,
            self.delivery_lag.clone(),
        );
        registry.register("checks", "Checks by their stored status", self.checks.clone());
    }

    pub(crate) fn ping(&self, result: Result<Told, Refusal>) {
        let only_counted = matches!(
            result,
            Ok(Told {
                receipt: Some(Receipt { kept: false, .. }),
                ..
            })
        );
        let outcome = match result.map(|told| told.answer) {
            _ if only_counted => "counted",
            Ok(Answer::Stored) => "stored",
            Ok(Answer::Limited(_)) => "limited",
            Ok(Answer::BadParameter(_)) => "bad_parameter",
            Ok(Answer::KeyMissing | Answer::KeyWrong) => "no_key",
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

    /// A loop begins: its failures are told from the first scrape on.
    pub(crate) fn step_begins(&self, step: &'static str) {
        drop(self.errors.get_or_create(&Loop { step }));
    }

    pub(crate) fn step_done(&self, step: &'static str, now: Timestamp) {
        self.done_at
            .get_or_create(&Loop { step })
            .set(now.as_micros() as f64 / 1e6);
    }

    /// The sweep looked: what waited longest had been due for so long.
    pub(crate) fn sweep_looked(&self, lag: Span) {
        self.sweep_lag.set(seconds(lag));
    }

    pub(crate) fn absent(&self, length: Span) {
        self.absences.inc();
        self.absent.inc_by(seconds(length));
    }

    pub(crate) fn deliveries_wait(&self, waiting: Waiting, now: Timestamp) {
        let state = |state| self.waiting.get_or_create(&State { state });
        state("ready").set(waiting.ready);
        state("leased").set(waiting.leased);
        let lag = waiting.next_at.map_or(Span::ZERO, |at| now - at);
        self.delivery_lag.set(seconds(lag));
    }

    pub(crate) fn checks_are(&self, by_status: &[(Status, i64)]) {
        for status in [Status::New, Status::Up, Status::Down, Status::Paused] {
            let count = by_status
                .iter()
                .find(|(other, _)| *other == status)
                .map_or(0, |(_, count)| *count);
            self.checks
                .get_or_create(&StatusLabel {
                    status: status.word(),
                })
                .set(count);
        }
    }
}

/// Never less than none: what is due later does not lag.
fn seconds(span: Span) -> f64 {
    span.max(Span::ZERO).as_micros() as f64 / 1e6
}
