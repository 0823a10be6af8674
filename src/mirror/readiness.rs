//! Whether the mirror's tables may be read, and a notification when that changes.

use std::fmt;

use tokio::sync::watch;

/// The reason why the tables cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unready {
    /// Kea's leases are still being loaded.
    InitialLoad,
    /// The tables are incomplete or inconsistent until Kea is reconfigured or restarted.
    Failed(Failure),
}

/// The reason why the tables became unusable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The server stopped during the initial load.
    Stopped,
    /// The initial load panicked.
    InitialLoad,
    /// A change of the tables panicked.
    Change,
}

/// The text for requesters.
impl fmt::Display for Unready {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unready::InitialLoad => f.write_str("leases are being loaded"),
            Unready::Failed(failure) => failure.fmt(f),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Failure::Stopped => "the server ends before its leases are loaded",
            Failure::InitialLoad => "the server could not load its leases",
            Failure::Change => "the server failed to record a change of a lease",
        })
    }
}

/// The readiness of a mirror: it changes from loading to complete, and from either to failed.
#[derive(Debug)]
pub struct Readiness(watch::Sender<Result<(), Unready>>);

impl Readiness {
    /// Creates a readiness in the state `ready`.
    pub fn new(ready: Result<(), Unready>) -> Readiness {
        Readiness(watch::Sender::new(ready))
    }

    /// Whether the tables may be read.
    ///
    /// # Errors
    /// The reason why they cannot be read.
    pub fn get(&self) -> Result<(), Unready> {
        *self.0.borrow()
    }

    /// Marks the tables as complete, unless they failed.
    pub fn complete(&self) {
        self.set(Ok(()));
    }

    /// Marks the tables as failed; returns whether this failure is the first.
    pub fn fail(&self, failure: Failure) -> bool {
        self.set(Err(Unready::Failed(failure)))
    }

    /// Changes the readiness unless it is failed; returns whether it was changed.
    fn set(&self, ready: Result<(), Unready>) -> bool {
        self.0.send_if_modified(|current| {
            let is_final = matches!(current, Err(Unready::Failed(_)));
            if !is_final {
                *current = ready;
            }
            !is_final
        })
    }

    /// Returns a future that completes at the first change after this call.
    pub fn next_change(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut readiness = self.0.subscribe();
        async move {
            // An error means that the mirror was dropped, which ends the wait too.
            let _ = readiness.changed().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::pin::pin;
    use std::sync::Arc;
    use std::task::{Context, Poll, Waker};
    use std::thread;

    use super::*;
    use crate::kea_config::KeaConfig;
    use crate::mirror::apply_worker::ApplyWorker;
    use crate::mirror::event::{Event, Lease};
    use crate::mirror::{InitialLoad, Saved, Table};
    use crate::model::time::Time;

    /// The time of the initial load.
    const NOW: Time = Time(1_000);

    /// Returns an initial load of one lease.
    fn initial_load() -> InitialLoad {
        let mut initial_load =
            InitialLoad::begin(KeaConfig::default().into(), Saved::default(), NOW);
        initial_load.lease(&Lease::example(Ipv4Addr::new(192, 0, 2, 1), NOW));
        initial_load
    }

    #[test]
    fn tables_that_may_be_half_changed_are_never_read_again() {
        let mirror = initial_load().finish();
        assert_eq!(mirror.read(Table::count), Ok(1));
        let failed = pin!(mirror.next_change_of_readiness());
        mirror.panic_in_a_change();
        let failure = Unready::Failed(Failure::Change);
        assert_eq!(mirror.read(Table::count), Err(failure));
        let mut context = Context::from_waker(Waker::noop());
        assert_eq!(failed.poll(&mut context), Poll::Ready(()));
        assert_eq!(mirror.binding(Ipv4Addr::new(192, 0, 2, 1)), None);
        mirror.queue().push(Event::ResyncBegun);
        mirror.catch_up();
        assert!(mirror.queue().is_empty(), "events are dropped");
        assert_eq!(mirror.into_table().map(|(table, _)| table.count()), None);
    }

    #[test]
    fn a_panic_while_tables_are_read_does_no_harm() {
        let mirror = initial_load().finish();
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            let _ = mirror.read(|_| panic!("as a bug would"));
        }));
        assert!(panicked.is_err());
        assert_eq!(mirror.read(Table::count), Ok(1));
    }

    #[test]
    fn the_apply_worker_detects_a_change_that_panicked_on_another_thread() {
        let mirror = Arc::new(initial_load().finish());
        let _apply_worker = ApplyWorker::start(Arc::clone(&mirror), || {}, || {}).unwrap();
        mirror.panic_in_a_change();
        mirror.queue().push(Event::ResyncBegun);
        let failure = Err(Unready::Failed(Failure::Change));
        while mirror.readiness.get() != failure {
            thread::yield_now();
        }
    }

    #[test]
    fn stays_failed() {
        let readiness = Readiness::new(Err(Unready::InitialLoad));
        assert!(readiness.fail(Failure::InitialLoad));
        readiness.complete();
        assert!(!readiness.fail(Failure::Stopped));
        assert_eq!(readiness.get(), Err(Unready::Failed(Failure::InitialLoad)));
    }

    #[test]
    fn notifies_of_a_change_after_the_call() {
        let readiness = Readiness::new(Err(Unready::InitialLoad));
        let mut context = Context::from_waker(Waker::noop());
        let mut before = pin!(readiness.next_change());
        assert_eq!(before.as_mut().poll(&mut context), Poll::Pending);
        let mut unpolled = pin!(readiness.next_change());
        readiness.complete();
        assert_eq!(before.poll(&mut context), Poll::Ready(()));
        assert_eq!(unpolled.as_mut().poll(&mut context), Poll::Ready(()));
        let mut after = pin!(readiness.next_change());
        assert_eq!(after.as_mut().poll(&mut context), Poll::Pending);
    }
}
