//! The thread that puts leases into a mirror while Kea goes on.

use std::fmt;
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
use crate::mirror::event::{Event, Lease};
use crate::mirror::readiness::Failure;
use crate::mirror::resync::Resync;
use crate::mirror::shared::Mirror;
use crate::model::time::Time;

/// How many batches of leases may wait to be put into the mirror: memory that is not given back.
/// Kea's leases are read no faster than they are taken over.
const BATCHES_AHEAD: usize = 4;

/// How many changes may wait until all leases are there, apart from those in the feed. A storm of
/// 10,000 changes a second may go on for half a minute, in which 10,000,000 leases are read. With what
/// clients usually tell they take some 150 MB then; those that find no room are lost, and found by a
/// comparison.
const CHANGES_MEANWHILE: usize = 262_144;

/// How often events are taken off the queue while no leases come: their database may be down for long.
const SETTING_ASIDE: Duration = Duration::from_millis(100);

/// What is done when the mirror is complete.
type Told = Box<dyn FnOnce() + Send>;

/// What the thread is to do.
enum Order {
    /// Take these leases over.
    Leases(Vec<Lease>),
    /// These were all.
    Complete(Told),
    /// There are no more, and they were not all: what was known stays so, for now.
    Incomplete(Told),
}

/// A mirror whose leases are loaded into tables of their own, which become the mirror's once they are
/// complete. Changes wait until then: the leases they are about may be read before or after.
///
/// Dropping it joins the thread. Without an order to complete it, the mirror is given up: after a
/// reconfiguration it holds the bindings known before, at the start of Kea it has
/// [failed](crate::mirror::Failure::Stopped).
pub struct LoadWorker {
    /// The mirror.
    mirror: Arc<Mirror>,
    /// The way to the thread; `None` once it has all orders.
    orders: Option<Sender<Order>>,
    /// How many batches of leases wait there.
    waiting: Arc<AtomicUsize>,
    /// The thread; `None` once joined.
    thread: Option<JoinHandle<()>>,
}

impl fmt::Debug for LoadWorker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loader")
            .field("has_all", &self.orders.is_none())
            .finish_non_exhaustive()
    }
}

impl LoadWorker {
    /// Starts with what `begin` gives, which is called on the thread.
    ///
    /// # Errors
    /// The thread could not be started.
    pub fn start(
        kea_config: Arc<KeaConfig>,
        now: Time,
        begin: impl FnOnce() -> Option<InitialLoad> + Send + 'static,
    ) -> io::Result<LoadWorker> {
        let mirror = Arc::new(Mirror::initial_load(kea_config, now));
        let (orders, given) = mpsc::channel();
        let waiting = Arc::new(AtomicUsize::new(0));
        let thread = Thread {
            mirror: Arc::clone(&mirror),
            orders: given,
            waiting: Arc::clone(&waiting),
        };
        let thread = thread::Builder::new()
            .name("blq-loading".into())
            .spawn(move || {
                match catch_unwind(AssertUnwindSafe(|| thread.load(begin))) {
                    Ok(Some(told)) => told(),
                    Ok(None) => {}
                    // The panic itself has been reported.
                    Err(_) => {
                        thread.mirror.fail(Failure::InitialLoad);
                    }
                }
            })?;
        Ok(LoadWorker {
            mirror,
            orders: Some(orders),
            waiting,
            thread: Some(thread),
        })
    }

    /// The mirror.
    pub fn mirror(&self) -> &Arc<Mirror> {
        &self.mirror
    }

    /// Whether more leases can be taken over now.
    pub fn has_room(&self) -> bool {
        self.waiting.load(Ordering::Acquire) < BATCHES_AHEAD
    }

    /// Takes leases over, as long as there is room ([`LoadWorker::has_room`]); waits for nothing.
    pub fn take(&self, leases: Vec<Lease>) {
        self.waiting.fetch_add(1, Ordering::AcqRel);
        self.give(Order::Leases(leases));
    }

    /// Has the mirror be complete with the leases taken so far; `told` is called when it is.
    pub fn complete(&mut self, told: impl FnOnce() + Send + 'static) {
        self.give(Order::Complete(Box::new(told)));
        self.orders = None;
    }

    /// The same, but leases that were not shown are not taken for gone.
    pub fn leave_incomplete(&mut self, told: impl FnOnce() + Send + 'static) {
        self.give(Order::Incomplete(Box::new(told)));
        self.orders = None;
    }

    /// Waits until the mirror is complete or, if it was not told to be, given up.
    pub fn wait(mut self) {
        self.join();
    }

    /// Gives an order. A thread that has ended has told why.
    fn give(&self, order: Order) {
        if let Some(orders) = &self.orders {
            let _ = orders.send(order);
        }
    }

    /// Waits for the thread, which is given no more orders.
    fn join(&mut self) {
        self.orders = None;
        if let Some(thread) = self.thread.take() {
            // It panicked or it ended: over either way.
            let _ = thread.join();
        }
    }
}

impl Drop for LoadWorker {
    fn drop(&mut self) {
        self.join();
    }
}

/// What the thread works with.
struct Thread {
    /// The mirror.
    mirror: Arc<Mirror>,
    /// What it is to do.
    orders: Receiver<Order>,
    /// How many batches of leases wait.
    waiting: Arc<AtomicUsize>,
}

impl Thread {
    /// Follows orders, from the beginning that `begin` makes, until the mirror is complete or given up;
    /// returns the action for a complete one.
    fn load(&self, begin: impl FnOnce() -> Option<InitialLoad>) -> Option<Told> {
        let Some(mut initial_load) = begin() else {
            self.mirror.fail(Failure::InitialLoad);
            return None;
        };
        let mut changes = Vec::new();
        let mut end = None;
        loop {
            match self.orders.recv_timeout(SETTING_ASIDE) {
                Ok(Order::Leases(leases)) => {
                    self.waiting.fetch_sub(1, Ordering::AcqRel);
                    leases.iter().for_each(|lease| initial_load.lease(lease));
                }
                Ok(Order::Complete(told)) => end = Some((true, told)),
                Ok(Order::Incomplete(told)) => end = Some((false, told)),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            self.set_aside(&mut changes);
        }
        let (table, told) = match end {
            Some((true, told)) => (Some(initial_load.complete()), Some(told)),
            Some((false, told)) => (Some(initial_load.incomplete()), Some(told)),
            None => (initial_load.abandoned(), None),
        };
        let Some(mut table) = table else {
            self.mirror.fail(Failure::Stopped);
            return None;
        };
        // These tables have not been read, so no answer carries a later time than these changes. The events
        // still in the queue are later ones, and applied before the first read.
        let mut resync = Resync::default();
        for event in changes {
            apply(&mut table, &mut resync, event, Time::now());
        }
        *self.mirror.resync.lock() = resync;
        self.mirror.complete(table);
        told
    }

    /// Takes changes off the feed, which has not room for all that may come, for when all leases are
    /// there: what has been read of a lease may be older than a change, and if it is newer, there is a
    /// later change that tells of it.
    fn set_aside(&self, changes: &mut Vec<Event>) {
        let room = CHANGES_MEANWHILE.saturating_sub(changes.len());
        changes.extend(self.mirror.queue.drain().take(room));
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::pin::pin;
    use std::task::{Context, Waker};

    use super::*;
    use crate::mirror::event::{ClientInfo, Event, Origin};
    use crate::mirror::{Saved, Table, Unready};
    use crate::model::state::State;

    /// When leases are loaded.
    const NOW: Time = Time(1_000);

    /// A network of one pool.
    fn kea_config() -> Arc<KeaConfig> {
        let config = r#"{"Dhcp4": {"subnet4": [
            {"id": 1, "subnet": "192.0.2.0/24", "pools": [{"pool": "192.0.2.1-192.0.2.9"}]}]}}"#;
        Arc::new(KeaConfig::from_json(config, Vec::new()).unwrap())
    }

    /// An address in it.
    fn address(last: u8) -> Ipv4Addr {
        Ipv4Addr::new(192, 0, 2, last)
    }

    /// A lease of that.
    fn lease(last: u8) -> Lease {
        Lease::example(address(last), NOW)
    }

    /// Loads leases into a new mirror.
    fn start() -> LoadWorker {
        let begin = || Some(InitialLoad::begin(kea_config(), Saved::default(), NOW));
        LoadWorker::start(kea_config(), NOW, begin).unwrap()
    }

    /// Waits until the leases given so far have been taken over.
    fn await_batches(load_worker: &LoadWorker) {
        while load_worker.waiting.load(Ordering::Acquire) > 0 {
            thread::yield_now();
        }
    }

    /// The states of the first addresses, as a query finds them.
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
            // On this thread, which the load must not hold up.
            assert_eq!(states(&mirror), Err(Unready::InitialLoad));
            assert!(completed.as_mut().poll(&mut context).is_pending());
        }
        assert_eq!(mirror.kea_config().subnet_ids().count(), 1);
        load_worker.complete(|| {});
        load_worker.wait();
        assert!(completed.poll(&mut context).is_ready());
        let all = [Some(State::Active), Some(State::Active), None];
        assert_eq!(states(&mirror), Ok(all.to_vec()));
    }

    #[test]
    fn catching_up_leaves_events_to_the_loader() {
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
    fn sets_events_aside_while_no_leases_come() {
        let load_worker = start();
        let mirror = Arc::clone(load_worker.mirror());
        mirror.queue().push(Event::ResyncBegun);
        while !mirror.queue().is_empty() {
            thread::yield_now();
        }
        assert_eq!(mirror.ready(), Err(Unready::InitialLoad));
    }

    #[test]
    fn changes_while_leases_are_loaded_come_after_them() {
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

    #[test]
    fn more_changes_than_the_feed_has_room_for_may_come_while_leases_are_loaded() {
        let mut load_worker = start();
        let mirror = Arc::clone(load_worker.mirror());
        let renewed = |cltt| Event::Committed {
            lease: Lease { cltt, ..lease(1) },
            client_info: ClientInfo::default(),
        };
        let last = Time(NOW.0 + 100_000);
        for cltt in NOW.0..=last.0 {
            // Whoever reads leases is told when they have been taken over, and so what is next to them.
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
    fn given_up_it_holds_what_it_held_before_and_what_was_found_new() {
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
    fn tells_when_the_mirror_is_complete() {
        let mut load_worker = start();
        let mirror = Arc::clone(load_worker.mirror());
        let (told, is_told) = mpsc::channel();
        load_worker.take(vec![lease(1)]);
        load_worker.complete(move || {
            let count = mirror.read(Table::count);
            told.send(count).unwrap();
        });
        assert_eq!(is_told.recv(), Ok(Ok(1)));
    }

    #[test]
    fn ends_when_it_is_dropped_with_or_without_all_leases() {
        let mut load_worker = start();
        let mirror = Arc::clone(load_worker.mirror());
        load_worker.take(vec![lease(1)]);
        load_worker.complete(|| {});
        drop(load_worker);
        // No thread has it any more.
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
        // Events do not pile up, and none repairs it.
        mirror.queue().push(Event::Committed {
            lease: lease(1),
            client_info: ClientInfo::default(),
        });
        mirror.catch_up();
        assert!(mirror.queue().is_empty());
        assert_eq!(states(&mirror), failed);
    }
}
