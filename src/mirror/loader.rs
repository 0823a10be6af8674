//! The thread that puts leases into a mirror while Kea goes on.

use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread::{self, JoinHandle};

use super::{Loading, Mirror, Table};
use crate::event::Lease;
use crate::network::Network;
use crate::time::Time;

/// How many batches of leases may wait to be put into the mirror: memory that is not given back.
/// Kea's leases are read no faster than they are taken over.
const BATCHES_AHEAD: usize = 4;

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
/// changes wait in its feed. When dropped it waits, too; one that was not told to be complete by then
/// stays empty.
pub struct Loader {
    /// The mirror.
    mirror: Arc<Mirror>,
    /// The way to the thread; `None` once it has all orders.
    orders: Option<SyncSender<Order>>,
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
        let mirror = Arc::new(Mirror::new(Table::new(network, Vec::new(), now)));
        let (orders, given) = mpsc::sync_channel(BATCHES_AHEAD);
        let (locked, is_locked) = mpsc::channel();
        let loaded = Arc::clone(&mirror);
        let thread = thread::Builder::new()
            .name("blq-loading".into())
            .spawn(move || {
                let mut table = loaded.table_mut();
                // If nobody waits for it, it does not matter.
                let _ = locked.send(());
                match catch_unwind(AssertUnwindSafe(|| load(begin, &given))) {
                    Ok(Some((complete, told))) => {
                        *table = complete;
                        drop(table);
                        told();
                    }
                    Ok(None) => {}
                    // It has been reported. Kea's leases are still to be had.
                    Err(_) => loaded.feed.lose(),
                }
            })?;
        // Nobody may see the tables before they are locked.
        let _ = is_locked.recv();
        Ok(Loader {
            mirror,
            orders: Some(orders),
            thread: Some(thread),
        })
    }

    /// The mirror.
    pub fn mirror(&self) -> &Arc<Mirror> {
        &self.mirror
    }

    /// Takes leases over, or waits until it can; says whether more are wanted.
    pub fn take(&self, leases: Vec<Lease>) -> bool {
        self.give(Order::Leases(leases))
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

    /// Waits until the mirror is complete.
    pub fn wait(mut self) {
        self.join();
    }

    /// Gives an order; says whether it was heard.
    fn give(&self, order: Order) -> bool {
        let orders = self.orders.as_ref();
        orders.is_some_and(|orders| orders.send(order).is_ok())
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

/// Follows orders, from what `begin` gives; gives the tables once they are complete, and what is to
/// be done then. Nothing if that is not wanted any more.
fn load(begin: impl FnOnce() -> Loading, orders: &Receiver<Order>) -> Option<(Table, Told)> {
    let mut loading = begin();
    for order in orders {
        match order {
            Order::Leases(leases) => leases.iter().for_each(|lease| loading.lease(lease)),
            Order::Complete(told) => return Some((loading.complete(), told)),
            Order::Incomplete(told) => return Some((loading.incomplete(), told)),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::binding::{HardwareAddress, State, SubnetId};
    use crate::event::{Event, LeaseState, Origin};
    use crate::mirror::Saved;
    use crate::time::Lifetime;

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
        Lease {
            address: address(last),
            state: LeaseState::Default,
            cltt: NOW,
            valid_lifetime: Lifetime::INFINITE,
            subnet: SubnetId(1),
            hardware: HardwareAddress {
                htype: 1,
                octets: vec![0, 0, 0x5e, 0, 0x53, last],
            },
            client_id: Vec::new(),
            hostname: Vec::new(),
            relay_agent_information: None,
        }
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
        assert!(loader.take(vec![lease(1)]));
        let second = asked(&mirror);
        assert!(loader.take(vec![lease(2)]));
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
