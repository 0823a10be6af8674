//! Work requested of the next tick.

use std::sync::atomic::{AtomicBool, Ordering};

/// Work requested of the next tick, by any thread.
#[derive(Debug)]
pub struct Requests {
    /// Kea's configuration may have changed while in force.
    reconfiguration: AtomicBool,
    /// Leases may have changed without an event.
    resync: AtomicBool,
}

impl Requests {
    /// Creates a set without requests.
    pub const fn new() -> Requests {
        Requests {
            reconfiguration: AtomicBool::new(false),
            resync: AtomicBool::new(false),
        }
    }

    /// Requests that Kea's configuration is read again.
    pub fn request_reconfiguration(&self) {
        self.reconfiguration.store(true, Ordering::Release);
    }

    /// Returns whether Kea's configuration is to be read again.
    pub fn is_reconfiguration_requested(&self) -> bool {
        self.reconfiguration.load(Ordering::Acquire)
    }

    /// Takes the request to read Kea's configuration again.
    pub fn take_reconfiguration(&self) -> bool {
        self.reconfiguration.swap(false, Ordering::AcqRel)
    }

    /// Requests a resync.
    pub fn request_resync(&self) {
        self.resync.store(true, Ordering::Release);
    }

    /// Returns whether a resync is requested.
    pub fn is_resync_requested(&self) -> bool {
        self.resync.load(Ordering::Acquire)
    }

    /// Takes the request for a resync.
    pub fn take_resync(&self) -> bool {
        self.resync.swap(false, Ordering::AcqRel)
    }
}
