//! The audience of the change log: the number of active requesters, and their notification.
//!
//! Without active requesters, an update reads one number.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::watch;

/// The active requesters of a mirror.
#[derive(Clone, Debug)]
pub struct Audience(Arc<Shared>);

/// The state that all share.
#[derive(Debug)]
struct Shared {
    /// The number of active requesters.
    count: AtomicUsize,
    /// The sequence number after the latest change of which they were notified.
    notified: watch::Sender<u64>,
}

/// The place of an active requester in the audience. Dropping it leaves the audience.
#[derive(Debug)]
pub struct Seat(Audience);

impl Default for Audience {
    fn default() -> Audience {
        Audience(Arc::new(Shared {
            count: AtomicUsize::new(0),
            notified: watch::Sender::new(0),
        }))
    }
}

impl Audience {
    /// Joins the audience. Returns also whether it was empty.
    pub fn join(&self) -> (Seat, bool) {
        let before = self.0.count.fetch_add(1, Ordering::AcqRel);
        (Seat(self.clone()), before == 0)
    }

    /// Whether there are no active requesters.
    pub fn is_empty(&self) -> bool {
        self.0.count.load(Ordering::Acquire) == 0
    }

    /// Notifies the active requesters, if there are changes before the sequence number `next` of which they were not
    /// notified.
    pub fn notify(&self, next: u64) {
        self.0.notified.send_if_modified(|notified| {
            let is_new = *notified < next;
            *notified = next.max(*notified);
            is_new
        });
    }

    /// Returns a future that completes at the first notification after this call.
    pub fn next_notification(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut notified = self.0.notified.subscribe();
        async move {
            // An error means that the mirror was dropped, which ends the wait too.
            let _ = notified.changed().await;
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.0.count.fetch_sub(1, Ordering::AcqRel);
    }
}
