//! Work requested of the next tick.

use std::sync::atomic::{AtomicBool, Ordering};

/// Whether work is requested of the next tick, by any thread.
#[derive(Debug, Default)]
pub struct Request(AtomicBool);

impl Request {
    /// Requests the work.
    pub fn make(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// Returns whether the work is requested.
    pub fn is_made(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    /// Takes the request; returns whether there was one.
    pub fn take(&self) -> bool {
        self.0.swap(false, Ordering::AcqRel)
    }
}
