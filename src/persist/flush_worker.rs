//! The flush worker: a thread that writes the mirror's dirty set to the state file.

use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;
use std::{io, mem};

use parking_lot::{Condvar, Mutex};

use crate::mirror::Mirror;
use crate::mirror::dirty_set::{DirtyPart, DirtySet};
use crate::model::time::Time;
use crate::persist::error::StoreError;
use crate::persist::health::Health;
use crate::persist::store::{Reopened, Store};
use crate::persist::transaction::Batch;

/// Time for which changes are gathered before a flush, so that an address that changes several times
/// is written once. A change is durable within half a second.
const GATHER_TIME: Duration = Duration::from_millis(200);
/// Delays before a retry after a failed write: the first and the longest.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// Maximum number of changes in one transaction, which bounds its memory.
const MAX_CHANGES: usize = 10_000;
/// Maximum number of other bindings in one transaction: the next changes wait for it.
const MAX_REST: usize = 4_000;
/// Maximum number of addresses taken from the mirror under one lock. Changes and queries wait for the
/// lock, a fraction of a millisecond.
const ADDRESSES_PER_LOCK: usize = 256;

/// The running worker. Dropping it flushes all changes and stops it.
#[derive(Debug)]
pub struct FlushWorker {
    /// The requests to the thread.
    requests: Arc<Requests>,
    /// The thread, which returns the store; `None` once joined.
    thread: Option<JoinHandle<Store>>,
    /// The result of the last flush.
    health: Arc<Health>,
}

/// The requests to the thread, and their notification.
#[derive(Debug, Default)]
struct Requests {
    /// The requests that the thread has not taken yet.
    pending: Mutex<Pending>,
    /// Notifies the thread of a new request.
    changed: Condvar,
}

/// Pending requests.
#[derive(Debug, Default)]
struct Pending {
    /// Whether to flush.
    flush: bool,
    /// Whether to flush and stop.
    stop: bool,
}

impl Requests {
    /// Changes the pending requests and notifies the thread.
    fn set(&self, set: impl FnOnce(&mut Pending)) {
        set(&mut self.pending.lock());
        self.changed.notify_one();
    }

    /// Requests a flush. Called hundreds of times a second; a thread that already gathers changes is
    /// not notified again.
    fn request_flush(&self) {
        if !mem::replace(&mut self.pending.lock().flush, true) {
            self.changed.notify_one();
        }
    }

    /// Waits for a request, then for changes to gather. Returns whether to stop after the flush.
    fn wait(&self) -> bool {
        let mut pending = self.pending.lock();
        self.changed
            .wait_while(&mut pending, |pending| !pending.flush && !pending.stop);
        self.changed
            .wait_while_for(&mut pending, |pending| !pending.stop, GATHER_TIME);
        pending.flush = false;
        pending.stop
    }

    /// Waits for `time`, at most until the request to stop. Returns whether to stop.
    fn back_off(&self, time: Duration) -> bool {
        let mut pending = self.pending.lock();
        self.changed
            .wait_while_for(&mut pending, |pending| !pending.stop, time);
        pending.stop
    }
}

impl FlushWorker {
    /// Starts to flush the changes of `mirror` to `store`. A closed store is opened as soon as
    /// possible.
    ///
    /// # Errors
    /// If the thread could not be started.
    pub fn start(mirror: Arc<Mirror>, store: Store) -> io::Result<FlushWorker> {
        let requests = Arc::new(Requests::default());
        requests.set(|pending| pending.flush = true);
        let thread_requests = Arc::clone(&requests);
        let health = Arc::new(Health::new(store.path()));
        let thread_health = Arc::clone(&health);
        let thread = thread::Builder::new()
            .name("blq-state".into())
            .spawn(move || {
                let mut flusher = Flusher {
                    mirror: &mirror,
                    store,
                    health: thread_health,
                };
                flusher.attach_recorder();
                loop {
                    let stop = thread_requests.wait();
                    if flusher.flush_with_retries(&thread_requests, stop) {
                        break;
                    }
                }
                mirror.detach_recorder();
                flusher.store
            })?;
        Ok(FlushWorker {
            requests,
            thread: Some(thread),
            health,
        })
    }

    /// Returns the result of the last flush, for other threads.
    pub fn health(&self) -> &Arc<Health> {
        &self.health
    }

    /// Returns a function that notifies the worker of changes. It does not block.
    pub fn notifier(&self) -> impl Fn() + Send + use<> {
        let requests = Arc::clone(&self.requests);
        move || requests.request_flush()
    }

    /// Flushes all changes and stops. Returns the store, closed. Another worker with this mirror
    /// and store continues, also if some changes could not be written.
    pub fn stop(mut self) -> Option<Store> {
        self.join()
    }

    /// Stops and joins the thread, unless it was joined.
    fn join(&mut self) -> Option<Store> {
        self.requests.set(|pending| pending.stop = true);
        let mut store = self.thread.take()?.join().ok()?;
        store.close();
        Some(store)
    }
}

impl Drop for FlushWorker {
    fn drop(&mut self) {
        self.join();
    }
}

/// The state of the worker's thread.
struct Flusher<'a> {
    /// The mirror whose changes it writes.
    mirror: &'a Mirror,
    /// The state file.
    store: Store,
    /// The result of the last flush.
    health: Arc<Health>,
}

impl Flusher<'_> {
    /// Flushes all changes, with retries until that succeeds. Returns whether to stop then.
    fn flush_with_retries(&mut self, requests: &Requests, mut stop: bool) -> bool {
        // An incomplete mirror must not be saved; the apply worker notifies again once it is
        // complete.
        if !self.mirror.is_complete() {
            return stop;
        }
        let mut is_reported = self.store.is_reported;
        let mut retry = RETRY.0;
        while let Err(error) = self.open_and_flush(requests, stop) {
            self.health.failed(error.to_string());
            if !is_reported || stop {
                tracing::error!(
                    id = error.log_id("BLQ_STATE_FOREIGN", "BLQ_STATE_WRITE_FAILED"),
                    "the state file cannot be written: {error}; {}",
                    if stop {
                        "changes since the last write are not saved"
                    } else {
                        "trying again"
                    },
                );
            }
            if stop {
                return true;
            }
            is_reported = true;
            stop = requests.back_off(retry);
            retry = (retry * 2).min(RETRY.1);
        }
        self.health.flushed();
        if is_reported && self.mirror.is_complete() {
            tracing::info!(
                id = "BLQ_STATE_WRITTEN_AGAIN",
                "the state file can be written again; nothing is missing"
            );
        }
        stop
    }

    /// Opens the store if it is closed, and writes all changes; when `stopping`, also the time up to which all
    /// changes are written. Otherwise, it then runs one step of a compaction if one is due; changes gathered
    /// until then are written before the next step.
    fn open_and_flush(&mut self, requests: &Requests, stopping: bool) -> Result<(), StoreError> {
        if !self.store.is_open() {
            if self.store.reopen()? == Reopened::Replaced {
                self.mirror.change_dirty_set(DirtySet::add_all);
            }
            self.attach_recorder();
        }
        let mut is_last = false;
        while !is_last {
            is_last = self.write_transaction(stopping)?;
        }
        self.mirror.trim_record();
        if !stopping && self.store.compact()? {
            requests.request_flush();
        }
        Ok(())
    }

    /// Attaches the file of recent changes to the mirror if the file can be used.
    fn attach_recorder(&self) {
        if let Some(recent) = self.store.open_or_create_recent() {
            self.mirror.attach_recorder(recent);
        }
    }

    /// Writes at most one transaction. Returns whether the dirty set is empty.
    fn write_transaction(&mut self, stopping: bool) -> Result<bool, StoreError> {
        // Read before the changes are taken: later changes have later times.
        let at = Time::now();
        let (latest, resynced_at) = (self.mirror.latest(), self.mirror.resynced_at());
        // The view is taken before the bindings that its configuration changes, and not written
        // before them: otherwise a start would not find changes that the file lacks.
        let mut saved_view = self.mirror.take_dirty_view();
        let (bindings, is_last) = take_part(self.mirror);
        // Taken after the bindings, and written with them: a start would not find in which VPNs they were before.
        let history = self.mirror.take_dirty_history();
        // A mirror that has failed never becomes complete again: if it is complete now, the bindings
        // taken before are consistent.
        if !self.mirror.is_complete() {
            return Ok(true);
        }
        if !is_last && saved_view.take().is_some() {
            self.mirror.change_dirty_set(DirtySet::add_view);
        }
        let batch = Batch {
            bindings,
            saved_view,
            at,
            // Only the last transaction of a flush has this time: the file then has all changes up to
            // it.
            latest: latest.filter(|_| is_last),
            resynced_at: resynced_at.filter(|_| is_last),
            history,
        };
        let is_empty =
            batch.bindings.is_empty() && batch.saved_view.is_none() && batch.history.is_none();
        if is_empty && !stopping {
            return Ok(true);
        }
        if let Err(error) = self.store.write(&batch) {
            self.mirror.change_dirty_set(|dirty_set| {
                dirty_set.put_back(&batch.bindings);
                if batch.saved_view.is_some() {
                    dirty_set.add_view();
                }
                if batch.history.is_some() {
                    dirty_set.put_back_history();
                }
            });
            return Err(error);
        }
        Ok(is_last)
    }
}

/// Takes the bindings of one transaction from `mirror`. Returns them, and whether the dirty set is
/// empty.
fn take_part(mirror: &Mirror) -> (DirtyPart, bool) {
    let mut part = DirtyPart::default();
    while part.changed.len() < MAX_CHANGES && part.rest.len() < MAX_REST {
        let mut more = mirror.take_dirty(ADDRESSES_PER_LOCK);
        let is_last = more.len() < ADDRESSES_PER_LOCK;
        part.append(&mut more);
        if is_last {
            return (part, true);
        }
    }
    (part, false)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;
    use crate::kea_config::KeaConfig;
    use crate::mirror::apply_worker::ApplyWorker;
    use crate::mirror::event::{ClientInfo, Event, Lease, Origin};
    use crate::mirror::{InitialLoad, LoadWorker, Saved};
    use crate::model::state::State;
    use crate::persist::recent::RecentFile;

    /// Returns a configuration with one pool.
    fn kea_config() -> Arc<KeaConfig> {
        let config = r#"{"Dhcp4": {"subnet4": [
            {"id": 1, "subnet": "192.0.2.0/24", "pools": [{"pool": "192.0.2.1-192.0.2.9"}]}]}}"#;
        Arc::new(KeaConfig::new(config, Vec::new(), &[]).unwrap())
    }

    /// Returns a lease of an address in the pool.
    fn lease(last: u8) -> Lease {
        Lease::example(Ipv4Addr::new(192, 0, 2, last), Time(1_000))
    }

    #[test]
    fn every_change_is_in_the_file_when_it_stops() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state");
        let (store, saved) = Store::open(&path).unwrap();
        let mut initial_load = InitialLoad::begin(kea_config(), saved, Time(1_000));
        initial_load.lease(&lease(1));
        initial_load.lease(&lease(2));
        let mirror = Arc::new(initial_load.finish());
        let writer = FlushWorker::start(Arc::clone(&mirror), store).unwrap();
        let at = Time(2_000);
        let released = Ipv4Addr::new(192, 0, 2, 2);
        mirror.queue().push(Event::Released {
            address: released,
            client: None,
            at,
            origin: Origin::Local,
        });
        // The worker stops at once: it gathers no changes and is not notified.
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
        assert_eq!(saved.saved_view, mirror.saved_view());
        assert!(saved.saved_at.is_some());
    }

    #[test]
    fn a_replaced_file_is_filled_with_every_binding() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state");
        let (store, _) = Store::open(&path).unwrap();
        let mut initial_load = InitialLoad::begin(kea_config(), Saved::default(), Time(1_000));
        initial_load.lease(&lease(1));
        let mirror = Arc::new(initial_load.finish());
        let store = FlushWorker::start(Arc::clone(&mirror), store)
            .unwrap()
            .stop();
        std::fs::remove_file(&path).unwrap();

        drop(FlushWorker::start(Arc::clone(&mirror), store.unwrap()).unwrap());
        let (_store, saved) = Store::open(&path).unwrap();
        assert_eq!(saved.bindings.len(), 1);
        assert_eq!(saved.saved_view, mirror.saved_view());
    }

    /// Returns a worker on a mirror and a new file that is run step by step.
    fn flusher<'a>(mirror: &'a Mirror, path: &std::path::Path) -> Flusher<'a> {
        Flusher {
            mirror,
            store: Store::open(path).unwrap().0,
            health: Arc::new(Health::new(path)),
        }
    }

    /// Returns a mirror with leases of the addresses from 10.0.0.0 on.
    fn mirror(leases: u32) -> Mirror {
        let mut initial_load =
            InitialLoad::begin(KeaConfig::default().into(), Saved::default(), Time(1_000));
        for number in 0..leases {
            let address = Ipv4Addr::from_bits(0x0a00_0000 + number);
            initial_load.lease(&Lease {
                address,
                ..lease(1)
            });
        }
        initial_load.finish()
    }

    /// Returns an initial load of one lease.
    fn loaded() -> InitialLoad {
        let mut initial_load =
            InitialLoad::begin(KeaConfig::default().into(), Saved::default(), Time(1_000));
        initial_load.lease(&lease(1));
        initial_load
    }

    #[test]
    fn a_failed_or_loading_mirror_does_not_change_the_state_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state");
        let failed = Arc::new(loaded().finish());
        failed.panic_in_a_change();
        let load_worker =
            LoadWorker::start(KeaConfig::default().into(), Time(1_000), || Some(loaded())).unwrap();
        for mirror in [&failed, load_worker.mirror()] {
            let (store, before) = Store::open(&path).unwrap();
            drop(FlushWorker::start(Arc::clone(mirror), store).unwrap());
            let (_store, saved) = Store::open(&path).unwrap();
            assert_eq!(saved.bindings, []);
            assert_eq!(saved.saved_at, before.saved_at);
        }
    }

    #[test]
    fn the_initial_load_is_saved_without_a_change() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state");
        let (store, _) = Store::open(&path).unwrap();
        let mut load_worker =
            LoadWorker::start(KeaConfig::default().into(), Time(1_000), || Some(loaded())).unwrap();
        let mirror = Arc::clone(load_worker.mirror());
        let flush_worker = FlushWorker::start(Arc::clone(&mirror), store).unwrap();
        let is_notified = Arc::new(AtomicBool::new(false));
        let (notified, notify) = (Arc::clone(&is_notified), flush_worker.notifier());
        let changed = move || {
            notify();
            notified.store(true, Ordering::Release);
        };
        let _apply_worker = ApplyWorker::start(mirror, changed, || {}).unwrap();
        assert!(!is_notified.load(Ordering::Acquire));
        load_worker.complete(|| {});
        while !is_notified.load(Ordering::Acquire) {
            thread::yield_now();
        }
        drop(flush_worker);
        let (_store, saved) = Store::open(&path).unwrap();
        assert_eq!(saved.bindings.len(), 1);
    }

    /// A change is durable within half a second, also while a new file is filled.
    #[test]
    fn a_change_does_not_wait_for_the_first_fill() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state");
        let mirror = mirror(30_000);
        let mut flusher = flusher(&mirror, &path);
        assert!(!flusher.write_transaction(false).unwrap());
        let last = Ipv4Addr::from_bits(0x0a00_0000 + 29_999);
        mirror.queue().push(Event::Released {
            address: last,
            client: None,
            at: Time(2_000),
            origin: Origin::Local,
        });
        // Within two transactions, since one may be in progress.
        assert!(!flusher.write_transaction(false).unwrap());
        drop(flusher);
        let (_store, saved) = Store::open(&path).unwrap();
        assert!(saved.bindings.len() < 3 * MAX_REST, "not all of it");
        let found = saved.bindings.last().unwrap();
        assert_eq!((found.address, found.state), (last, State::Released));
        // After a kill at this point, the next start finds the remaining bindings.
        assert_eq!((saved.latest, saved.resynced_at), (None, None));
    }

    /// A kill before the next flush leaves the changed addresses in the file of recent changes.
    #[test]
    fn a_change_is_recorded_before_it_can_be_seen_and_until_it_is_flushed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state");
        let mirror = mirror(10);
        let mut flusher = flusher(&mirror, &path);
        flusher.attach_recorder();
        flusher.open_and_flush(&Requests::default(), false).unwrap();
        let recorded = || RecentFile::open(&path).unwrap().1.addresses;
        assert!(recorded().is_empty());
        let address = |number: u32| Ipv4Addr::from_bits(0x0a00_0000 + number);
        let released = |number| Event::Released {
            address: address(number),
            client: None,
            at: Time(2_000),
            origin: Origin::Local,
        };
        mirror.queue().push(released(3));
        mirror.queue().push(released(5));
        mirror.catch_up();
        mirror.queue().push(Event::Committed {
            lease: Lease {
                address: address(4),
                cltt: Time::now(),
                ..lease(1)
            },
            client_info: ClientInfo::default(),
        });
        mirror.catch_up();
        // The renewal is in Kea's lease database.
        assert_eq!(recorded(), [address(3), address(5)].map(Ipv4Addr::to_bits));
        flusher.write_transaction(false).unwrap();
        mirror.queue().push(released(7));
        mirror.catch_up();
        mirror.trim_record();
        assert_eq!(recorded(), [address(7).to_bits()]);
        flusher.open_and_flush(&Requests::default(), true).unwrap();
        assert!(recorded().is_empty());
        // Between two configurations the state file is closed.
        mirror.detach_recorder();
        flusher.store.close();
        flusher.attach_recorder();
        mirror.queue().push(released(8));
        mirror.catch_up();
        assert_eq!(recorded(), [address(8).to_bits()]);
        flusher.open_and_flush(&Requests::default(), true).unwrap();
        assert!(recorded().is_empty());
        mirror.detach_recorder();
        drop(flusher);
        assert_eq!(directory.path().read_dir().unwrap().count(), 1);
    }

    /// Kea's lease database has renewals.
    #[test]
    fn a_renewal_writes_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state");
        let mirror = mirror(10);
        let mut flusher = flusher(&mirror, &path);
        flusher.open_and_flush(&Requests::default(), false).unwrap();
        let before = std::fs::read(&path).unwrap();
        // A renewal learned of in its own second. A later one would be written.
        let renewed_at = Time::now();
        for number in 0..10 {
            let renewed = Lease {
                address: Ipv4Addr::from_bits(0x0a00_0000 + number),
                cltt: renewed_at,
                ..lease(1)
            };
            mirror.queue().push(Event::Committed {
                lease: renewed,
                client_info: ClientInfo::default(),
            });
        }
        flusher.open_and_flush(&Requests::default(), false).unwrap();
        let renewed = mirror.binding(Ipv4Addr::from_bits(0x0a00_0000)).unwrap();
        assert_eq!(renewed.last_transaction, Some(renewed_at));
        assert!(std::fs::read(&path).unwrap() == before);
    }

    /// A reload hands the mirror over, and another worker continues with the same file.
    #[test]
    fn a_second_worker_continues_with_the_file_of_the_first() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state");
        let mirror = Arc::new(mirror(100));
        let mut store = Some(Store::open(&path).unwrap().0);
        for number in 0..10 {
            let writer = FlushWorker::start(Arc::clone(&mirror), store.unwrap()).unwrap();
            mirror.queue().push(Event::Released {
                address: Ipv4Addr::from_bits(0x0a00_0000 + number),
                client: None,
                at: Time(2_000),
                origin: Origin::Local,
            });
            store = writer.stop();
            assert!(!store.as_ref().unwrap().is_open());
        }
        let (reopened, saved) = Store::open(&path).unwrap();
        let released = |binding: &&crate::model::binding::Binding| binding.state == State::Released;
        assert_eq!(saved.bindings.len(), 100);
        assert_eq!(saved.bindings.iter().filter(released).count(), 10);
        drop((store, reopened));
        assert_eq!(directory.path().read_dir().unwrap().count(), 1);
    }
}
