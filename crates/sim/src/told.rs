//! What was told: the lines that the engine writes for channels of the kind `log`, and lines that the log loses.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use allswell_core::id::DeliveryId;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

/// Hears what is told on this thread. Clones hear the same.
#[derive(Clone, Default)]
pub(crate) struct Told(Arc<Ears>);

#[derive(Default)]
struct Ears {
    heard: Mutex<Heard>,
    lost: Arc<AtomicU64>,
}

#[derive(Default)]
struct Heard {
    /// With the process that wrote each, by its number at the database.
    lines: Vec<(DeliveryId, usize)>,
    speaks: usize,
    loses: bool,
}

impl Told {
    /// The counter of lost lines, for the engine.
    pub(crate) fn lost(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.0.lost)
    }

    /// The log has no room from now on, or has it again.
    pub(crate) fn lose_lines(&self, loses: bool) {
        self.0.heard.lock().unwrap_or_else(PoisonError::into_inner).loses = loses;
    }

    /// Who writes what comes from now on.
    pub(crate) fn listen_to(&self, node: usize) {
        self.0.heard.lock().unwrap_or_else(PoisonError::into_inner).speaks = node;
    }

    /// The deliveries that were told since the last call, in their order, and by whom.
    pub(crate) fn take(&self) -> Vec<(DeliveryId, usize)> {
        std::mem::take(&mut self.0.heard.lock().unwrap_or_else(PoisonError::into_inner).lines)
    }
}

struct DeliveryOf(Option<DeliveryId>);

impl Visit for DeliveryOf {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "delivery.id" {
            self.0 = format!("{value:?}").parse().ok();
        }
    }
}

impl Subscriber for Told {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "allswell_engine::deliver::attempt" && *metadata.level() == Level::WARN
    }
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn event(&self, event: &Event<'_>) {
        let mut delivery = DeliveryOf(None);
        event.record(&mut delivery);
        let Some(id) = delivery.0 else { return };
        let mut heard = self.0.heard.lock().unwrap_or_else(PoisonError::into_inner);
        if heard.loses {
            self.0.lost.fetch_add(1, Ordering::Relaxed);
        } else {
            let by = heard.speaks;
            heard.lines.push((id, by));
        }
    }
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}
