//! The event queue, from Kea's threads to the apply worker.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::Thread;

use crossbeam_queue::ArrayQueue;

use crate::mirror::event::report::Report;

/// The capacity of the queue, in events. Kea makes some ten thousand changes a second at most, and
/// one is applied in microseconds, so the queue fills only while no events are applied.
const CAPACITY: usize = 32_768;

/// A bounded queue of events. A push takes no lock and never waits.
#[derive(Debug)]
pub struct EventQueue {
    /// Reports of events in the order of their pushes. Their contents are in memory of their own, because the queue
    /// cycles through all of its slots, so a slot is rarely in the processor's caches; a small slot costs fewer
    /// cache misses.
    queue: ArrayQueue<Report>,
    /// The number of queued events that take long to apply: see [`Report::takes_long`].
    long: AtomicUsize,
    /// Whether an event was lost since the last [`EventQueue::take_lost`].
    lost: AtomicBool,
    /// The thread that a push wakes if it is parked. Otherwise it does not park the next time.
    apply_worker: OnceLock<Thread>,
}

impl Default for EventQueue {
    fn default() -> Self {
        EventQueue {
            queue: ArrayQueue::new(CAPACITY),
            long: AtomicUsize::new(0),
            lost: AtomicBool::new(false),
            apply_worker: OnceLock::new(),
        }
    }
}

impl EventQueue {
    /// Pushes an event, or a report of one. If the queue is full, it is lost: see [`EventQueue::take_lost`].
    pub fn push(&self, report: impl Into<Report>) {
        let report = report.into();
        let takes_long = report.takes_long();
        if takes_long {
            self.long.fetch_add(1, Ordering::AcqRel);
        }
        match self.queue.push(report) {
            Ok(()) => self.wake_worker(),
            Err(_) => {
                if takes_long {
                    self.long.fetch_sub(1, Ordering::AcqRel);
                }
                self.lose();
            }
        }
    }

    /// Records that an event was lost.
    pub fn lose(&self) {
        self.lost.store(true, Ordering::Release);
        self.wake_worker();
    }

    /// Wakes the apply worker if it is parked.
    pub(super) fn wake_worker(&self) {
        if let Some(apply_worker) = self.apply_worker.get() {
            apply_worker.unpark();
        }
    }

    /// Returns the number of queued events.
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whether the queued events are few, at most `limit`, and none of them takes long to apply.
    pub(super) fn is_short(&self, limit: usize) -> bool {
        self.len() <= limit && self.long.load(Ordering::Acquire) == 0
    }

    /// Whether the queue is empty.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Whether events were lost since the last call. If so, a resync with Kea's leases is necessary.
    pub fn take_lost(&self) -> bool {
        self.lost.swap(false, Ordering::AcqRel)
    }

    /// Makes the current thread the one that a push wakes. Only the first call has an effect.
    pub fn register_apply_worker(&self) {
        let _ = self.apply_worker.set(std::thread::current());
    }

    /// Pops reports, oldest first.
    pub(super) fn drain(&self) -> impl Iterator<Item = Report> {
        std::iter::from_fn(|| self.queue.pop()).inspect(|report| {
            if report.takes_long() {
                self.long.fetch_sub(1, Ordering::AcqRel);
            }
        })
    }
}
