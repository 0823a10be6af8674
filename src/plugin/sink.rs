//! The destination of lease events.

use std::sync::Arc;

use parking_lot::{Mutex, RwLock};

use crate::mirror::Mirror;
use crate::mirror::event::Event;
use crate::mirror::event::report::Report;

/// The destination of lease events: the mirror of the configuration in force. Without one, events are
/// dropped: the initial load finds their effects.
#[derive(Debug, Default)]
pub struct Sink {
    /// The mirror. Written while no packet is processed, so that packet threads never wait.
    mirror: RwLock<Option<Arc<Mirror>>>,
    /// Held while Kea's lease database is read and the leases are pushed: one reader at a time, so that
    /// none pushes leases older than those of another. Threads that have processed a command of a
    /// high-availability partner wait for each other, and for a single lease.
    pub(super) lookup: Mutex<()>,
}

impl Sink {
    /// Sets or clears the mirror.
    pub fn set(&self, mirror: Option<Arc<Mirror>>) {
        *self.mirror.write() = mirror;
    }

    /// Returns the mirror.
    pub fn mirror(&self) -> Option<Arc<Mirror>> {
        self.mirror.read().clone()
    }

    /// Pushes an event, or a report of one.
    pub fn push(&self, report: impl Into<Report>) {
        let report = report.into();
        // An event is made of a report on this thread only to be logged.
        if tracing::event_enabled!(tracing::Level::DEBUG) {
            report.lend(log);
        }
        if let Some(mirror) = &*self.mirror.read() {
            mirror.queue().push(report);
        }
    }

    /// Records that an event could not be pushed.
    pub fn lose(&self) {
        if let Some(mirror) = &*self.mirror.read() {
            mirror.queue().lose();
        }
    }
}

/// Logs an event.
fn log(event: &Event) {
    if let Some(text) = event.text() {
        tracing::debug!(id = "BLQ_LEASE_CHANGED", "{text}");
    }
}
