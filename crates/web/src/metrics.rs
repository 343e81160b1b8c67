//! `/metrics` for Prometheus, on a port of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use allswell_core::time::Timestamp;
use allswell_engine::ingest::Inbox;
use allswell_engine::meters::Meters;
use allswell_store::ErrorsSeen;
use axum::Router;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::StatusCode;
use http::header::CONTENT_TYPE;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use crate::serve::Gauges;

const FORMAT: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What is told besides what the engine counts.
#[derive(Clone)]
pub struct About {
    /// Of this program.
    pub version: &'static str,
    /// When this process began.
    pub started_at: Timestamp,
    /// Lines that the log had to drop.
    pub log_lost: Arc<AtomicU64>,
}

/// The application behind `metrics.listen`.
pub fn metrics_app(meters: &Meters, gauges: Arc<Gauges>, inbox: Inbox, about: About) -> Router {
    let mut registry = Registry::with_prefix("allswell");
    meters.register(&mut registry);
    registry.register(
        "build",
        "The program that answers",
        Info::new(vec![("version", about.version)]),
    );
    registry.register_collector(Box::new(Live { gauges, inbox, about }));
    let registry = Arc::new(registry);
    Router::new().route("/metrics", get(move || answer(registry.clone())))
}

async fn answer(registry: Arc<Registry>) -> Response {
    let mut text = String::new();
    match encode(&mut text, &registry) {
        Ok(()) => ([(CONTENT_TYPE, FORMAT)], text).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

/// What is read at the moment of asking.
struct Live {
    gauges: Arc<Gauges>,
    inbox: Inbox,
    about: About,
}

impl std::fmt::Debug for Live {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Live")
    }
}

impl Collector for Live {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let read = |value: &AtomicU64| value.load(Ordering::Relaxed);
        let gauges = &self.gauges;
        for (name, help, value) in [
            (
                "inbox_depth",
                "Pings that wait for their commit.",
                self.inbox.depth() as u64,
            ),
            (
                "inbox_capacity",
                "Pings that may wait for their commit.",
                self.inbox.capacity() as u64,
            ),
            (
                "connections_open",
                "Connections open now.",
                read(&gauges.connections_open),
            ),
        ] {
            let gauge = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
            gauge.encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)?;
        }
        let started = ConstGauge::new(self.about.started_at.as_micros() as f64 / 1e6);
        started.encode(encoder.encode_descriptor(
            "start_timestamp",
            "When this process began, since 1970.",
            Some(&Unit::Seconds),
            MetricType::Gauge,
        )?)?;
        for (name, help, value) in [
            (
                "connections_evicted",
                "Idle connections closed for others.",
                &gauges.connections_evicted,
            ),
            (
                "connections_refused",
                "Connections closed on arrival.",
                &gauges.connections_refused,
            ),
            (
                "connections_timed_out",
                "Connections closed for being slow.",
                &gauges.connections_timed_out,
            ),
            (
                "accept_errors",
                "Times that accept failed.",
                &gauges.accept_errors,
            ),
            ("requests", "Requests handed to a handler.", &gauges.requests),
            ("panics", "Handlers that panicked.", &gauges.panics),
            (
                "log_lines_lost",
                "Lines of the log that nobody read fast enough.",
                &self.about.log_lost,
            ),
        ] {
            let counter = ConstCounter::new(read(value));
            counter.encode(encoder.encode_descriptor(name, help, None, MetricType::Counter)?)?;
        }
        let seen = ErrorsSeen::now();
        let mut family = encoder.encode_descriptor(
            "database_errors",
            "Errors that the database gave, by what they meant.",
            None,
            MetricType::Counter,
        )?;
        for (kind, count) in [
            ("conflict", seen.conflict),
            ("unavailable", seen.unavailable),
            ("corrupt", seen.corrupt),
            ("internal", seen.internal),
        ] {
            ConstCounter::new(count).encode(family.encode_family(&[("kind", kind)])?)?;
        }
        Ok(())
    }
}
