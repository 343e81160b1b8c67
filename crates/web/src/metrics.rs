//! `/metrics` for Prometheus, on a port of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use allswell_engine::ingest::Inbox;
use allswell_engine::meters::Meters;
use axum::Router;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::StatusCode;
use http::header::CONTENT_TYPE;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use crate::serve::Gauges;

const FORMAT: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The application behind `metrics.listen`.
pub fn metrics_app(meters: &Meters, gauges: Arc<Gauges>, inbox: Inbox) -> Router {
    let mut registry = Registry::with_prefix("allswell");
    meters.register(&mut registry);
    registry.register_collector(Box::new(Live {
        gauges,
        inbox: Arc::new(move || inbox.depth()),
    }));
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
    inbox: Arc<dyn Fn() -> usize + Send + Sync>,
}

impl std::fmt::Debug for Live {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Live")
    }
}

impl prometheus_client::collector::Collector for Live {
    fn encode(
        &self,
        mut encoder: prometheus_client::encoding::DescriptorEncoder<'_>,
    ) -> Result<(), std::fmt::Error> {
        let read = |value: &AtomicU64| value.load(Ordering::Relaxed) as i64;
        let gauges = &self.gauges;
        for (name, help, value) in [
            (
                "inbox_depth",
                "Pings that wait for their commit",
                (self.inbox)() as i64,
            ),
            (
                "connections_open",
                "Connections open now",
                read(&gauges.connections_open),
            ),
            (
                "connections_evicted",
                "Idle connections closed for others",
                read(&gauges.connections_evicted),
            ),
            (
                "connections_refused",
                "Connections closed on arrival",
                read(&gauges.connections_refused),
            ),
            (
                "connections_timed_out",
                "Connections closed for being slow",
                read(&gauges.connections_timed_out),
            ),
            (
                "accept_errors",
                "Times that accept failed",
                read(&gauges.accept_errors),
            ),
            ("requests", "Requests handed to a handler", read(&gauges.requests)),
            ("panics", "Handlers that panicked", read(&gauges.panics)),
        ] {
            let gauge = ConstGauge::new(value);
            let encoder =
                encoder.encode_descriptor(name, help, None, prometheus_client::metrics::MetricType::Gauge)?;
            prometheus_client::encoding::EncodeMetric::encode(&gauge, encoder)?;
        }
        Ok(())
    }
}
