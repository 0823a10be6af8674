//! The load worker: the thread of the initial load, while Kea serves clients.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::kea_config::KeaConfig;
use crate::mirror::apply::apply;
use crate::mirror::bootstrap::initial_load::InitialLoad;
use crate::mirror::event::Lease;
use crate::mirror::event::report::Report;
use crate::mirror::readiness::{Failure, Unready};
use crate::mirror::resync::Resync;
use crate::mirror::saved_view::SavedView;
use crate::mirror::shared::Mirror;
use crate::mirror::table::Table;
use crate::model::time::Time;

/// The maximum number of queued batches of leases, which bounds the memory of the process: it is not
/// returned to the system. A full queue is back-pressure on the reader of Kea's leases.
const MAX_QUEUED_BATCHES: usize = 4;

/// The maximum number of deferred events, besides those in the event queue. It suffices for 10,000 changes a
/// second during the half-minute in which 10,000,000 leases are read. With usual client info, this many events
/// take some 150 MB. Further events are lost, and a resync finds their changes.
const MAX_DEFERRED: usize = 262_144;

/// The interval at which events are deferred while no leases arrive: Kea's lease database may be unavailable
/// for a long time.
const DEFER_INTERVAL: Duration = Duration::from_millis(100);

/// A callback for the completion of the mirror.
type OnComplete = Box<dyn FnOnce() + Send>;

/// A request to the thread.
enum Request {
    /// Load a batch of leases.
    Leases(Vec<Lease>),
    /// Complete the mirror: all leases have been sent.
    Complete(OnComplete),
    /// Complete the mirror without the missing leases: their previous bindings remain, until a resync.
    Incomplete(OnComplete),
}

/// A mirror in its initial load. Leases are loaded into separate tables, which become those of the mirror when
/// they are complete. Events are deferred until then, because a lease may be read before or after its change.
///
/// Dropping it joins the thread. Without a request to complete the mirror, the load is abandoned: after a
/// hand-over the mirror has the previous bindings, else it has [failed](crate::mirror::Failure::Stopped).
#[derive(Debug)]
pub struct LoadWorker {
    /// The mirror.
    mirror: Arc<Mirror>,
    /// The channel to the thread; `None` after the last request.
    requests: Option<Sender<Request>>,
    /// The number of queued batches of leases.
    waiting: Arc<AtomicUsize>,
    /// The thread; `None` once joined.
    thread: Option<JoinHandle<()>>,
}

impl LoadWorker {
    /// Starts the thread, which first calls `begin`.
    ///
    /// # Errors
    /// The thread could not be started.
    pub fn start(
        kea_config: Arc<KeaConfig>,
        now: Time,
        begin: impl FnOnce() -> Option<InitialLoad> + Send + 'static,
    ) -> io::Result<LoadWorker> {
        let table = Table::new(kea_config, &SavedView::default(), now);
        let mirror = Arc::new(Mirror::new(table, Err(Unready::InitialLoad)));
        let (requests, receiver) = mpsc::channel();
        let waiting = Arc::new(AtomicUsize::new(0));
        let (loading, queued) = (Arc::clone(&mirror), Arc::clone(&waiting));
        let thread = thread::Builder::new()
            .name("blq-loading".into())
            .spawn(move || {
                let load = || load(&loading, &receiver, &queued, begin);
                match catch_unwind(AssertUnwindSafe(load)) {
                    Ok(Some(on_complete)) => on_complete(),
                    Ok(None) => {}
                    // The panic hook has reported the panic.
                    Err(_) => {
                        loading.fail(Failure::InitialLoad);
                    }
                }
            })?;
        Ok(LoadWorker {
            mirror,
            requests: Some(requests),
            waiting,
            thread: Some(thread),
        })
    }

    /// Returns the mirror.
    pub fn mirror(&self) -> &Arc<Mirror> {
        &self.mirror
    }

    /// Whether the queue has room for another batch of leases.
    pub fn has_room(&self) -> bool {
        self.waiting.load(Ordering::Acquire) < MAX_QUEUED_BATCHES
    }

    /// Queues a batch of leases without waiting. Requires [`LoadWorker::has_room`].
    pub fn take(&self, leases: Vec<Lease>) {
        self.waiting.fetch_add(1, Ordering::AcqRel);
        self.send(Request::Leases(leases));
    }

    /// Completes the mirror with the leases queued so far; the thread then calls `on_complete`.
    pub fn complete(&mut self, on_complete: impl FnOnce() + Send + 'static) {
        self.send(Request::Complete(Box::new(on_complete)));
        self.requests = None;
    }

    /// Completes the mirror like [`LoadWorker::complete`], but leases that were not queued do not count as
    /// ended.
    pub fn leave_incomplete(&mut self, on_complete: impl FnOnce() + Send + 'static) {
        self.send(Request::Incomplete(Box::new(on_complete)));
        self.requests = None;
    }

    /// Waits until the mirror is complete or, without a request to complete it, the load is abandoned.
    pub fn wait(mut self) {
        self.join();
    }

    /// Sends a request. A thread that has ended has already failed the mirror.
    fn send(&self, request: Request) {
        if let Some(requests) = &self.requests {
            let _ = requests.send(request);
        }
    }

    /// Closes the channel and joins the thread.
    fn join(&mut self) {
        self.requests = None;
        if let Some(thread) = self.thread.take() {
            // An error means a panic, which ends the thread too.
            let _ = thread.join();
        }
    }
}

impl Drop for LoadWorker {
    fn drop(&mut self) {
        self.join();
    }
}

/// Executes requests on the load that `begin` returns, until the mirror is complete or the load abandoned.
/// Returns the callback for a complete mirror.
fn load(
    mirror: &Mirror,
    requests: &Receiver<Request>,
    waiting: &AtomicUsize,
    begin: impl FnOnce() -> Option<InitialLoad>,
) -> Option<OnComplete> {
    let Some(mut initial_load) = begin() else {
        mirror.fail(Failure::InitialLoad);
        return None;
    };
    let mut deferred: Vec<Report> = Vec::new();
    let mut end = None;
    loop {
        match requests.recv_timeout(DEFER_INTERVAL) {
            Ok(Request::Leases(leases)) => {
                waiting.fetch_sub(1, Ordering::AcqRel);
                leases.iter().for_each(|lease| initial_load.lease(lease));
            }
            Ok(Request::Complete(on_complete)) => end = Some((true, on_complete)),
            Ok(Request::Incomplete(on_complete)) => end = Some((false, on_complete)),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
        // Events are moved from the queue, whose capacity is limited, and applied after all leases. That
        // order is right: a lease that was read may be older than an event, and if it is newer, it is the
        // result of a later event.
        let room = MAX_DEFERRED.saturating_sub(deferred.len());
        deferred.extend(mirror.queue.drain().take(room));
    }
    for report in &deferred {
        report.lend(|event| initial_load.ended(event));
    }
    let (table, on_complete) = match end {
        Some((true, on_complete)) => (Some(initial_load.complete()), Some(on_complete)),
        Some((false, on_complete)) => (Some(initial_load.incomplete()), Some(on_complete)),
        None => (initial_load.abandoned(), None),
    };
    let Some(mut table) = table else {
        mirror.fail(Failure::Stopped);
        return None;
    };
    // No query has read these tables, so no reply has a later time than these changes get. The events still
    // in the queue are later and are applied before the first read.
    let mut resync = Resync::default();
    for report in deferred {
        report.lend(|event| apply(&mut table, &mut resync, event, Time::now()));
    }
    *mirror.resync.lock() = resync;
    mirror.complete(table);
    on_complete
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::pin::pin;
    use std::task::{Context, Waker};

    use super::*;
    use crate::mirror::event::{ClientInfo, Event, Origin, Reason};
    use crate::mirror::{Saved, Table, Unready};
    use crate::model::binding::Binding;
    use crate::model::state::State;
    use crate::model::time::Lifetime;

    /// The time of the load.
    const NOW: Time = Time(1_000);

    /// Returns a Kea configuration with one pool.
    fn kea_config() -> Arc<KeaConfig> {
        let config = r#"{"Dhcp4": {"subnet4": [
            {"id": 1, "subnet": "192.0.2.0/24", "pools": [{"pool": "192.0.2.1-192.0.2.9"}]}]}}"#;
        Arc::new(KeaConfig::new(config, Vec::new(), &[]).unwrap())
    }

    /// Returns an address of the pool.
    fn address(last: u8) -> Ipv4Addr {
        Ipv4Addr::new(192, 0, 2, last)
    }

    /// Returns a lease of such an address.
    fn lease(last: u8) -> Lease {
        Lease::example(address(last), NOW)
    }

    /// Starts the load of a new mirror.
    fn start() -> LoadWorker {
        let begin = || Some(InitialLoad::begin(kea_config(), Saved::default(), NOW));
        LoadWorker::start(kea_config(), NOW, begin).unwrap()
    }

    /// Waits until the leases queued so far have been loaded.
    fn await_batches(load_worker: &LoadWorker) {
        while load_worker.waiting.load(Ordering::Acquire) > 0 {
            thread::yield_now();
        }
    }

    /// Returns the states of the first three addresses, read in the manner of a query.
    fn states(mirror: &Mirror) -> Result<Vec<Option<State>>, Unready> {
        mirror.ready()?;
        mirror.catch_up();
        let state = |last| Some(mirror.binding(address(last))?.state);
        Ok([1, 2, 3].map(state).to_vec())
    }

    #[test]
    fn a_read_fails_at_once_until_all_leases_are_loaded() {
        let mut load_worker = start();
        let mirror = Arc::clone(load_worker.mirror());
        let mut completed = pin!(mirror.next_change_of_readiness());
        let mut context = Context::from_waker(Waker::noop());
        for last in [1, 2] {
            load_worker.take(vec![lease(last)]);
            await_batches(&load_worker);
            // The load must not block this thread.
            assert_eq!(states(&mirror), Err(Unready::InitialLoad));
            assert!(completed.as_mut().poll(&mut context).is_pending());
        }
        assert_eq!(mirror.kea_config().subnets.len(), 1);
        load_worker.complete(|| {});
        load_worker.wait();
        assert!(completed.poll(&mut context).is_ready());
        let all = [Some(State::Active), Some(State::Active), None];
        assert_eq!(states(&mirror), Ok(all.to_vec()));
    }

    #[test]
    fn catching_up_leaves_events_to_the_load_worker() {
        let mut load_worker = start();
        let mirror = Arc::clone(load_worker.mirror());
        load_worker.take(vec![lease(1)]);
        await_batches(&load_worker);
        mirror.queue().push(Event::Released {
            address: address(1),
            client: None,
            at: NOW,
            origin: Origin::Local,
        });
        mirror.catch_up();
        load_worker.complete(|| {});
        load_worker.wait();
        assert_eq!(states(&mirror).unwrap()[0], Some(State::Released));
    }

    #[test]
    fn defers_events_while_no_leases_arrive() {
        let load_worker = start();
        let mirror = Arc::clone(load_worker.mirror());
        mirror.queue().push(Event::ResyncBegun);
        while !mirror.queue().is_empty() {
            thread::yield_now();
        }
        assert_eq!(mirror.ready(), Err(Unready::InitialLoad));
    }

    #[test]
    fn applies_deferred_events_after_all_leases() {
        let mut load_worker = start();
        let mirror = Arc::clone(load_worker.mirror());
        mirror.queue().push(Event::Released {
            address: address(1),
            client: None,
            at: NOW,
            origin: Origin::Local,
        });
        load_worker.take(vec![lease(1)]);
        load_worker.complete(|| {});
        load_worker.wait();
        assert_eq!(states(&mirror).unwrap()[0], Some(State::Released));
    }

    /// The load finds no lease any more, but the event knows cause and time of the end.
    #[test]
    fn a_lease_that_ends_during_the_load_ends_by_its_event() {
        let at = NOW.plus(5);
        let saved = [1, 2, 3, 4, 5].map(|last| Binding {
            state: State::Active,
            lifetime: Lifetime(3_600),
            ..Binding::example(address(last), NOW)
        });
        let saved = Saved {
            bindings: saved.into(),
            saved_at: Some(NOW),
            ..Saved::default()
        };
        let begin = || Some(InitialLoad::begin(kea_config(), saved, NOW));
        let mut load_worker = LoadWorker::start(kea_config(), NOW, begin).unwrap();
        let mirror = Arc::clone(load_worker.mirror());
        mirror.queue().push(Event::Released {
            address: address(1),
            client: None,
            at,
            origin: Origin::Local,
        });
        // Kea's lease manager reports the end, and then the callout its cause.
        mirror.queue().push(Event::Removed {
            address: address(2),
            at,
            origin: Origin::Remote,
        });
        mirror.queue().push(Event::Explained {
            addresses: vec![address(2)],
            reason: Reason::GivenUp,
        });
        mirror.queue().push(Event::Removed {
            address: address(3),
            at,
            origin: Origin::Local,
        });
        mirror.queue().push(Event::Reclaimed {
            address: address(4),
            cltt: NOW,
            was_released: false,
            at,
        });
        load_worker.complete(|| {});
        load_worker.wait();
        mirror.catch_up();
        let end = |last| {
            let binding = mirror.binding(address(last)).unwrap();
            (binding.state, binding.since, binding.remote)
        };
        assert_eq!(end(1), (State::Released, at, false));
        assert_eq!(end(2), (State::Released, at, false));
        assert_eq!(end(3), (State::Reset, at, false));
        assert_eq!(end(4), (State::Expired, at, false));
        assert_eq!(end(5), (State::Reset, NOW, false));
    }

    #[test]
    fn defers_more_events_than_the_queue_has_room_for() {
        let mut load_worker = start();
        let mirror = Arc::clone(load_worker.mirror());
        let renewed = |cltt| Event::Committed {
            lease: Lease { cltt, ..lease(1) },
            client_info: ClientInfo::default(),
        };
        let last = Time(NOW.0 + 100_000);
        for cltt in NOW.0..=last.0 {
            // A batch of leases wakes the thread, which then also drains the queue.
            if cltt % 10_000 == 0 {
                load_worker.take(vec![lease(1)]);
                while !mirror.queue().is_empty() {
                    thread::yield_now();
                }
            }
            mirror.queue().push(renewed(Time(cltt)));
        }
        load_worker.complete(|| {});
        load_worker.wait();
        assert!(!mirror.queue().take_lost());
        let binding = mirror.binding(address(1)).unwrap();
        assert_eq!(binding.last_transaction, Some(last));
    }

    #[test]
    fn an_abandoned_load_keeps_handed_over_bindings_and_loaded_leases() {
        let mut load_worker = start();
        load_worker.take(vec![lease(1), lease(2)]);
        load_worker.complete(|| {});
        let mirror = Arc::clone(load_worker.mirror());
        load_worker.wait();
        let before = Arc::try_unwrap(mirror).unwrap();
        let resume = || InitialLoad::resume(before, kea_config(), NOW);
        let load_worker = LoadWorker::start(kea_config(), NOW, resume).unwrap();
        let mirror = Arc::clone(load_worker.mirror());
        load_worker.take(vec![lease(3)]);
        load_worker.wait();
        assert_eq!(states(&mirror), Ok(vec![Some(State::Active); 3]));
    }

    #[test]
    fn notifies_when_the_mirror_is_complete() {
        let mut load_worker = start();
        let mirror = Arc::clone(load_worker.mirror());
        let (sender, receiver) = mpsc::channel();
        load_worker.take(vec![lease(1)]);
        load_worker.complete(move || {
            let count = mirror.read(Table::count);
            sender.send(count).unwrap();
        });
        assert_eq!(receiver.recv(), Ok(Ok(1)));
    }

    #[test]
    fn ends_when_it_is_dropped_with_or_without_all_leases() {
        let mut load_worker = start();
        let mirror = Arc::clone(load_worker.mirror());
        load_worker.take(vec![lease(1)]);
        load_worker.complete(|| {});
        drop(load_worker);
        // The thread has dropped its reference.
        let mirror = Arc::try_unwrap(mirror).unwrap();
        assert_eq!(mirror.read(Table::count), Ok(1));

        let load_worker = start();
        let mirror = Arc::clone(load_worker.mirror());
        load_worker.take(vec![lease(1)]);
        drop(load_worker);
        let mirror = Arc::try_unwrap(mirror).unwrap();
        assert_eq!(states(&mirror), Err(Unready::Failed(Failure::Stopped)));
    }

    #[test]
    fn a_panic_fails_the_mirror() {
        let load_worker =
            LoadWorker::start(kea_config(), NOW, || panic!("as a bug would")).unwrap();
        let mirror = Arc::clone(load_worker.mirror());
        load_worker.wait();
        let failed = Err(Unready::Failed(Failure::InitialLoad));
        assert_eq!(states(&mirror), failed);
        // Events are dropped, and none repairs the mirror.
        mirror.queue().push(Event::Committed {
            lease: lease(1),
            client_info: ClientInfo::default(),
        });
        mirror.catch_up();
        assert!(mirror.queue().is_empty());
        assert_eq!(states(&mirror), failed);
    }
}
