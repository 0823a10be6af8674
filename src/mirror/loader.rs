//! The thread that puts leases into a mirror while Kea goes on.

use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, JoinHandle};

use super::ranges::Configured;
use super::{Loading, Mirror, Table, apply};
use crate::event::{Event, Lease};
use crate::network::Network;
use crate::time::Time;

/// How many batches of leases may wait to be put into the mirror: memory that is not given back.
/// Kea's leases are read no faster than they are taken over.
const BATCHES_AHEAD: usize = 4;

/// How many changes may wait until all leases are there, apart from those in the feed. A storm of
/// 10,000 changes a second may go on for half a minute, in which 10,000,000 leases are read. With what
/// clients usually tell they take some 150 MB then; those that find no room are lost, and found by a
/// comparison.
const CHANGES_MEANWHILE: usize = 262_144;

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

/// A mirror that leases are loaded into. Whoever needs its tables waits until it is complete, and
/// so do changes: the leases they are about may be read before or after.
///
/// When dropped it waits, too. A mirror that was not told to be complete by then is given up: it
/// holds what it held before Kea was reconfigured, or nothing at the start of Kea.
pub struct Loader {
    /// The mirror.
    mirror: Arc<Mirror>,
    /// The way to the thread; `None` once it has all orders.
    orders: Option<Sender<Order>>,
    /// How many batches of leases wait there.
    waiting: Arc<AtomicUsize>,
    /// The thread; `None` once joined.
    thread: Option<JoinHandle<()>>,
}

impl fmt::Debug for Loader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loader")
            .field("has_all", &self.orders.is_none())
            .finish_non_exhaustive()
    }
}

impl Loader {
    /// Starts with what `begin` gives, which is called on the thread.
    ///
    /// # Errors
    /// The thread could not be started.
    pub fn start(
        network: Arc<Network>,
        now: Time,
        begin: impl FnOnce() -> Loading + Send + 'static,
    ) -> io::Result<Loader> {
        let mirror = Arc::new(Mirror::new(Table::new(
            network,
            &Configured::default(),
            now,
        )));
        mirror.is_complete.store(false, Ordering::Release);
        let (orders, given) = mpsc::channel();
        let waiting = Arc::new(AtomicUsize::new(0));
        let (locked, is_locked) = mpsc::channel();
        let thread = Thread {
            mirror: Arc::clone(&mirror),
            orders: given,
            waiting: Arc::clone(&waiting),
        };
        let thread = thread::Builder::new()
            .name("blq-loading".into())
            .spawn(move || {
                let mut table = thread.mirror.table_mut();
                // If nobody waits for it, it does not matter.
                let _ = locked.send(());
                match catch_unwind(AssertUnwindSafe(|| thread.load(&mut table, begin))) {
                    Ok(told) => {
                        drop(table);
                        if let Some(told) = told {
                            told();
                        }
                    }
                    // It has been reported. Kea's leases are still to be had.
                    Err(_) => thread.mirror.feed.lose(),
                }
            })?;
        // Nobody may see the tables before they are locked.
        let _ = is_locked.recv();
        Ok(Loader {
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

    /// Takes leases over, as long as there is room ([`Loader::has_room`]); waits for nothing.
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

impl Drop for Loader {
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
    /// Follows orders, from what `begin` gives; `table` is the mirror's, and complete in the end.
    /// Gives what is to be done then.
    fn load(&self, table: &mut Table, begin: impl FnOnce() -> Loading) -> Option<Told> {
        let mut loading = begin();
        let mut changes = Vec::new();
        let mut end = None;
        for order in &self.orders {
            match order {
                Order::Leases(leases) => {
                    self.waiting.fetch_sub(1, Ordering::AcqRel);
                    leases.iter().for_each(|lease| loading.lease(lease));
                    self.set_aside(&mut changes);
                }
                Order::Complete(told) => end = Some((true, told)),
                Order::Incomplete(told) => end = Some((false, told)),
            }
        }
        let (loaded, told) = match end {
            Some((true, told)) => (loading.complete(), Some(told)),
            Some((false, told)) => (loading.incomplete(), Some(told)),
            None => (loading.abandoned()?, None),
        };
        *table = loaded;
        let mut reconciliation = self.mirror.reconciliation.lock();
        for event in changes {
            apply(table, &mut reconciliation, event, Time::now());
        }
        self.mirror.note_recent(table);
        self.mirror.is_complete.store(true, Ordering::Release);
        told
    }

    /// Takes changes off the feed, which has not room for all that may come, for when all leases are
    /// there: what has been read of a lease may be older than a change, and if it is newer, there is a
    /// later change that tells of it.
    fn set_aside(&self, changes: &mut Vec<Event>) {
        let room = CHANGES_MEANWHILE.saturating_sub(changes.len());
        changes.extend(self.mirror.feed.drain().take(room));
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::binding::State;
    use crate::event::{Event, Heard, Origin};
    use crate::mirror::Saved;

    /// When leases are loaded.
    const NOW: Time = Time(1_000);

    /// A network of one pool.
    fn network() -> Arc<Network> {
        let config = r#"{"Dhcp4": {"subnet4": [
            {"id": 1, "subnet": "192.0.2.0/24", "pools": [{"pool": "192.0.2.1-192.0.2.9"}]}]}}"#;
        Arc::new(Network::from_json(config, Vec::new()).unwrap())
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
    fn start() -> Loader {
        let begin = || Loading::begin(network(), Saved::default(), NOW);
        Loader::start(network(), NOW, begin).unwrap()
    }

    /// The states of addresses as somebody who asks on another thread is told of them.
    fn asked(mirror: &Arc<Mirror>) -> JoinHandle<Vec<Option<State>>> {
        let mirror = Arc::clone(mirror);
        thread::spawn(move || {
            let state = |last| Some(mirror.binding(address(last))?.state);
            [1, 2, 3].map(state).to_vec()
        })
    }

    #[test]
    fn whoever_asks_while_leases_are_loaded_is_told_of_all_of_them() {
        let mut loader = start();
        let mirror = Arc::clone(loader.mirror());
        let first = asked(&mirror);
        loader.take(vec![lease(1)]);
        let second = asked(&mirror);
        loader.take(vec![lease(2)]);
        assert!(mirror.table.try_read().is_err());
        assert!(!first.is_finished() && !second.is_finished());
        loader.complete(|| {});
        let all = [Some(State::Active), Some(State::Active), None];
        assert_eq!(first.join().unwrap(), all);
        assert_eq!(second.join().unwrap(), all);
    }

    #[test]
    fn changes_while_leases_are_loaded_come_after_them() {
        let mut loader = start();
        let mirror = Arc::clone(loader.mirror());
        mirror.feed().push(Event::Released {
            address: address(1),
            client: None,
            at: NOW,
            origin: Origin::Here,
        });
        loader.take(vec![lease(1)]);
        loader.complete(|| {});
        loader.wait();
        let state = mirror.binding(address(1)).map(|binding| binding.state);
        assert_eq!(state, Some(State::Released));
    }

    #[test]
    fn more_changes_than_the_feed_has_room_for_may_come_while_leases_are_loaded() {
        let mut loader = start();
        let mirror = Arc::clone(loader.mirror());
        let renewed = |cltt| Event::Committed {
            lease: Lease { cltt, ..lease(1) },
            heard: Heard::default(),
        };
        let last = Time(NOW.0 + 100_000);
        for cltt in NOW.0..=last.0 {
            // Whoever reads leases is told when they have been taken over, and so what is next to them.
            if cltt % 10_000 == 0 {
                loader.take(vec![lease(1)]);
                while !mirror.feed().is_empty() {
                    thread::yield_now();
                }
            }
            mirror.feed().push(renewed(Time(cltt)));
        }
        loader.complete(|| {});
        loader.wait();
        assert!(!mirror.feed().take_lost());
        let binding = mirror.binding(address(1)).unwrap();
        assert_eq!(binding.last_transaction, Some(last));
    }

    #[test]
    fn is_complete_once_it_holds_all_leases() {
        let mut loader = start();
        let mirror = Arc::clone(loader.mirror());
        assert!(!mirror.is_complete());
        loader.take(vec![lease(1)]);
        loader.complete(|| {});
        assert!(mirror.await_complete());
    }

    #[test]
    fn given_up_it_holds_what_it_held_before_and_what_was_found_new() {
        let mut loader = start();
        loader.take(vec![lease(1), lease(2)]);
        loader.complete(|| {});
        let mirror = Arc::clone(loader.mirror());
        loader.wait();
        let before = Arc::try_unwrap(mirror).unwrap();
        let resume = || Loading::resume(before, network(), NOW);
        let loader = Loader::start(network(), NOW, resume).unwrap();
        let mirror = Arc::clone(loader.mirror());
        loader.take(vec![lease(3)]);
        loader.wait();
        assert!(mirror.is_complete());
        assert_eq!(asked(&mirror).join().unwrap(), [Some(State::Active); 3]);
    }

    #[test]
    fn tells_when_the_mirror_is_complete() {
        let mut loader = start();
        let mirror = Arc::clone(loader.mirror());
        let (told, is_told) = mpsc::channel();
        loader.take(vec![lease(1)]);
        loader.complete(move || {
            let count = mirror.read(Table::count);
            told.send(count).unwrap();
        });
        assert_eq!(is_told.recv(), Ok(1));
    }

    #[test]
    fn ends_when_it_is_dropped_with_or_without_all_leases() {
        let mut loader = start();
        let mirror = Arc::clone(loader.mirror());
        loader.take(vec![lease(1)]);
        loader.complete(|| {});
        drop(loader);
        // No thread has it any more.
        let mirror = Arc::try_unwrap(mirror).unwrap();
        assert_eq!(mirror.read(Table::count), 1);

        let loader = start();
        let mirror = Arc::clone(loader.mirror());
        loader.take(vec![lease(1)]);
        drop(loader);
        let mirror = Arc::try_unwrap(mirror).unwrap();
        assert!(!mirror.is_complete());
        assert_eq!(mirror.read(Table::count), 0);
    }

    #[test]
    fn after_a_panic_the_mirror_is_to_be_compared_with_keas_leases() {
        let loader = Loader::start(network(), NOW, || panic!("as a bug would")).unwrap();
        let mirror = Arc::clone(loader.mirror());
        loader.wait();
        assert!(mirror.feed().take_lost());
    }
}
