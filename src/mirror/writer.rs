//! Writing the state file behind the mirror's back, off Kea's threads.

use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use super::Mirror;
use super::store::{Batch, Reopened, Store, StoreError};
use crate::time::Time;

/// How long changes are gathered before they are written: an address that changes several
/// times is written once, and a change is on disk within half a second.
const GATHERING: Duration = Duration::from_millis(200);
/// How long a failed write waits before the first new try, and at most.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// The most addresses in one transaction: bounds its memory.
const BATCH: usize = 10_000;

/// A running writer; writes what is left and stops when dropped.
#[derive(Debug)]
pub struct Writer {
    /// What it is to do.
    orders: Arc<Orders>,
    /// The thread; `None` once joined.
    thread: Option<JoinHandle<()>>,
}

/// What a writer is to do.
#[derive(Debug, Default)]
struct Orders {
    /// The orders.
    state: Mutex<State>,
    /// Told when there is a new one.
    given: Condvar,
}

/// Orders to a writer.
#[derive(Debug, Default)]
struct State {
    /// There may be something to write.
    write: bool,
    /// Write what there is and stop.
    stop: bool,
}

impl Orders {
    /// Gives an order.
    fn give(&self, order: impl FnOnce(&mut State)) {
        order(&mut self.state.lock());
        self.given.notify_one();
    }

    /// Waits until there may be something to write, then gathers for a while; says whether to
    /// stop after writing.
    fn wait(&self) -> bool {
        let mut state = self.state.lock();
        self.given
            .wait_while(&mut state, |state| !state.write && !state.stop);
        self.given
            .wait_while_for(&mut state, |state| !state.stop, GATHERING);
        state.write = false;
        state.stop
    }

    /// Waits for `time`; says at once if it is to stop.
    fn back_off(&self, time: Duration) -> bool {
        let mut state = self.state.lock();
        self.given
            .wait_while_for(&mut state, |state| !state.stop, time);
        state.stop
    }
}

impl Writer {
    /// Starts to write what changes in `mirror` to `store`, beginning with its ranges.
    ///
    /// # Errors
    /// The thread could not be started.
    pub fn start(mirror: Arc<Mirror>, store: Store) -> io::Result<Writer> {
        let orders = Arc::new(Orders::default());
        orders.give(|state| state.write = true);
        let given = Arc::clone(&orders);
        let thread = thread::Builder::new()
            .name("blq-state".into())
            .spawn(move || run(&mirror, store, &given))?;
        Ok(Writer {
            orders,
            thread: Some(thread),
        })
    }

    /// A way for the mirror to tell that it may have changed; quick.
    pub fn notifier(&self) -> impl Fn() + Send + use<> {
        let orders = Arc::clone(&self.orders);
        move || orders.give(|state| state.write = true)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.orders.give(|state| state.stop = true);
        if let Some(thread) = self.thread.take() {
            // It panicked or it ended: over either way.
            let _ = thread.join();
        }
    }
}

/// Writes until told to stop.
fn run(mirror: &Mirror, mut store: Store, orders: &Orders) {
    let mut stop = false;
    while !stop {
        stop = orders.wait();
        let mut written = write_all(mirror, &mut store, stop);
        let mut retry = RETRY.0;
        let mut failed = false;
        while let Err(error) = written {
            if !failed || stop {
                tracing::error!(
                    id = "BLQ_STATE_WRITE_FAILED",
                    "the state file cannot be written: {error}; {}",
                    if stop {
                        "changes since the last write are not saved"
                    } else {
                        "trying again"
                    },
                );
            }
            if stop {
                return;
            }
            failed = true;
            stop = orders.back_off(retry);
            retry = (retry * 2).min(RETRY.1);
            written = store.reopen().and_then(|reopened| {
                if reopened == Reopened::Replaced {
                    mirror.mark_all_unsaved();
                }
                write_all(mirror, &mut store, stop)
            });
        }
        if failed {
            tracing::info!(
                id = "BLQ_STATE_WRITTEN_AGAIN",
                "the state file can be written again; nothing is missing"
            );
        }
    }
}

/// Writes all there is to write; when `stopping`, also that this was the time up to which all
/// was written.
fn write_all(mirror: &Mirror, store: &mut Store, stopping: bool) -> Result<(), StoreError> {
    loop {
        let batch = Batch {
            // Before the changes are taken: one that comes after is after this time.
            at: Time::now(),
            bindings: mirror.take_unsaved(BATCH),
            ranges: mirror.take_unsaved_ranges(),
        };
        let is_last = batch.bindings.len() < BATCH;
        if batch.bindings.is_empty() && batch.ranges.is_none() && !stopping {
            return Ok(());
        }
        if let Err(error) = store.write(&batch) {
            mirror.mark_unsaved(batch.bindings.iter().map(|(address, _)| *address));
            if batch.ranges.is_some() {
                mirror.mark_ranges_unsaved();
            }
            return Err(error);
        }
        if is_last {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::binding::{HardwareAddress, State, SubnetId};
    use crate::event::{Event, Lease, LeaseState, Origin};
    use crate::mirror::{Loading, Saved};
    use crate::network::Network;
    use crate::time::Lifetime;

    /// A network of one pool.
    fn network() -> Arc<Network> {
        let config = r#"{"Dhcp4": {"subnet4": [
            {"id": 1, "subnet": "192.0.2.0/24", "pools": [{"pool": "192.0.2.1-192.0.2.9"}]}]}}"#;
        Arc::new(Network::from_json(config, Vec::new()).unwrap())
    }

    /// A lease of an address in it.
    fn lease(last: u8) -> Lease {
        Lease {
            address: Ipv4Addr::new(192, 0, 2, last),
            state: LeaseState::Default,
            cltt: Time(1_000),
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

    #[test]
    fn all_that_changed_is_in_the_file_when_it_stops() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state");
        let (store, saved) = Store::open(&path).unwrap();
        let mut loading = Loading::begin(network(), saved, Time(1_000));
        loading.lease(&lease(1));
        loading.lease(&lease(2));
        let mirror = Arc::new(loading.finish());
        let writer = Writer::start(Arc::clone(&mirror), store).unwrap();
        let at = Time(2_000);
        let released = Ipv4Addr::new(192, 0, 2, 2);
        mirror.feed().push(Event::Released {
            address: released,
            at,
            origin: Origin::Here,
        });
        // It stops at once, without the time to gather, and with no word that there is more.
        drop(writer);
        let (_store, saved) = Store::open(&path).unwrap();
        let states: Vec<(Ipv4Addr, State, Time)> = saved
            .bindings
            .iter()
            .map(|binding| (binding.address, binding.state, binding.since))
            .collect();
        assert_eq!(
            states,
            [
                (Ipv4Addr::new(192, 0, 2, 1), State::Active, Time(1_000)),
                (released, State::Released, at),
            ]
        );
        assert_eq!(saved.ranges, mirror.ranges());
        assert!(saved.saved_at.is_some());
    }

    #[test]
    fn a_file_that_was_replaced_gets_everything() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state");
        let (mut store, _) = Store::open(&path).unwrap();
        let mut loading = Loading::begin(network(), Saved::default(), Time(1_000));
        loading.lease(&lease(1));
        let mirror = loading.finish();
        write_all(&mirror, &mut store, false).unwrap();
        drop(store);
        std::fs::remove_file(&path).unwrap();

        let (mut store, _) = Store::open(&path).unwrap();
        mirror.mark_all_unsaved();
        write_all(&mirror, &mut store, false).unwrap();
        drop(store);
        let (_store, saved) = Store::open(&path).unwrap();
        assert_eq!(saved.bindings.len(), 1);
    }
}
