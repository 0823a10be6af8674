//! Changes on their way from Kea's threads to the tables.

use std::fmt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::thread::{self, Thread};

use crossbeam_queue::ArrayQueue;

use crate::mirror::event::Event;

/// How many events can wait to be applied. Kea makes some ten thousand changes a second at
/// most, and one is applied in microseconds: only a mirror that has stopped fills this.
const CAPACITY: usize = 32_768;

/// A bounded queue that any thread may push to, at once and without a lock.
pub struct EventQueue {
    /// Events in the order they were pushed. Each is in memory of its own, which its thread used for
    /// another before: the queue goes round through so much that it is never in the processor's
    /// caches, and the less of it an event takes the better.
    queue: ArrayQueue<Box<Event>>,
    /// Whether an event found no room since the flag was last taken.
    lost: AtomicBool,
    /// Who is to be woken by a push.
    apply_worker: OnceLock<Thread>,
    /// Whether it sleeps. To wake a thread takes longer than all else that Kea's threads do here.
    asleep: AtomicBool,
}

impl Default for EventQueue {
    fn default() -> Self {
        EventQueue {
            queue: ArrayQueue::new(CAPACITY),
            lost: AtomicBool::new(false),
            apply_worker: OnceLock::new(),
            asleep: AtomicBool::new(false),
        }
    }
}

impl fmt::Debug for EventQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Feed")
            .field("waiting", &self.queue.len())
            .finish_non_exhaustive()
    }
}

impl EventQueue {
    /// Pushes an event. If there is no room it is lost, and [`EventQueue::take_lost`] tells.
    pub fn push(&self, event: Event) {
        if self.queue.push(Box::new(event)).is_err() {
            self.lose();
        }
        self.wake();
    }

    /// Takes note that there was an event that could not be pushed.
    pub fn lose(&self) {
        self.lost.store(true, Ordering::Release);
        self.wake();
    }

    /// Wakes who applies events, if it sleeps.
    fn wake(&self) {
        // Either this sees that it sleeps, or `sleep` sees what there is to do.
        fence(Ordering::SeqCst);
        if self.asleep.load(Ordering::Relaxed)
            && self.asleep.swap(false, Ordering::Relaxed)
            && let Some(apply_worker) = self.apply_worker.get()
        {
            apply_worker.unpark();
        }
    }

    /// Notifies the apply worker, even if it does not wait for events.
    pub(super) fn wake_worker(&self) {
        if let Some(apply_worker) = self.apply_worker.get() {
            apply_worker.unpark();
        }
    }

    /// Has the current thread, which [`EventQueue::wake_this_thread`] was called on, sleep until something
    /// is pushed or it is woken otherwise (unparked); not at all if there is something to do.
    pub fn sleep(&self) {
        self.asleep.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        if self.is_empty() && !self.lost.load(Ordering::Relaxed) {
            thread::park();
        }
        self.asleep.store(false, Ordering::Relaxed);
    }

    /// How many events wait.
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Whether events were lost since last asked: the mirror must be compared with Kea's leases.
    pub fn take_lost(&self) -> bool {
        self.lost.swap(false, Ordering::AcqRel)
    }

    /// Has the current thread woken by a push while it sleeps. The first one stays.
    pub fn wake_this_thread(&self) {
        let _ = self.apply_worker.set(std::thread::current());
    }

    /// Takes events off the queue, oldest first.
    pub(super) fn drain(&self) -> impl Iterator<Item = Event> {
        std::iter::from_fn(|| self.queue.pop().map(|event| *event))
    }
}
