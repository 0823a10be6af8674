//! The mirror that Kea's threads, the workers and the queries share.
//!
//! Kea's threads push events into the bounded queue, which takes no lock. The apply worker, and whoever reads the
//! tables (a query before it begins, the flush worker, Kea's thread after a command), takes the lock of the tables
//! and applies the queued events. A query therefore sees every change that Kea has made before.
//!
//! The tables can be read only while they are complete. During the initial load, and after a panic in an update,
//! a read fails at once.

use std::collections::HashSet;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{
    Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, TryLockError, TryLockResult,
};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::kea_config::KeaConfig;
use crate::mirror::apply::apply;
use crate::mirror::audience::Audience;
use crate::mirror::changes::SKEW;
use crate::mirror::dirty_set::{DirtyPart, DirtySet};
use crate::mirror::history::SavedHistory;
use crate::mirror::index::Identity;
use crate::mirror::queue::EventQueue;
use crate::mirror::readiness::Readiness;
use crate::mirror::readiness::{Failure, Unready};
use crate::mirror::recorder::ChangeRecorder;
use crate::mirror::resync::Resync;
use crate::mirror::saved_view::SavedView;
use crate::mirror::table::Table;
use crate::model::binding::{Binding, SubnetId};
use crate::model::time::Time;

/// The maximum number of events that are applied under one lock: a fraction of a millisecond's work, for which
/// readers wait.
const EVENTS_PER_LOCK: usize = 128;

/// The maximum number of events that [`Mirror::read_briefly`] applies.
const EVENTS_BRIEFLY: usize = EVENTS_PER_LOCK;

/// The maximum number of bindings of reassigned ranges that are visited under one lock, most of which change.
const REASSIGNED_PER_LOCK: usize = 256;

/// The maximum number of entries of the time index that are visited under one lock, to find the ends of states.
const ENDS_PER_LOCK: usize = 1_024;

/// The time for which [`Mirror::read_briefly`] tries to lock the tables: readers and the apply worker usually hold them
/// for less.
const BRIEFLY: Duration = Duration::from_millis(1);

/// Reasons for which the tables cannot be read briefly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotNow {
    /// The tables may not be read.
    Unready(Unready),
    /// Events are applied, or wait, that take longer.
    Busy,
}

impl From<Unready> for NotNow {
    fn from(unready: Unready) -> NotNow {
        NotNow::Unready(unready)
    }
}

/// The mirror of Kea's leases.
#[derive(Debug)]
pub struct Mirror {
    /// The tables. The lock is held for a short time: a part of a scan, or some events.
    ///
    /// The lock is that of the standard library: before it waits, that of `parking_lot` yields the processor a few
    /// times, each time to another thread for most of a millisecond. A reader that was preempted by the thread of an
    /// update, and needs a microsecond to finish, would be delayed by all of this.
    table: RwLock<Table>,
    /// Whether the tables may be read.
    pub(super) readiness: Readiness,
    /// The event queue.
    pub(super) queue: EventQueue,
    /// The comparison with Kea's lease database. Locked after `table`.
    pub(super) resync: Mutex<Resync>,
    /// Records the changes that are not on disk yet, if that is possible. Locked after `resync`.
    recorder: Mutex<Option<Arc<dyn ChangeRecorder>>>,
    /// The latest time that requesters may have received, or that a change has.
    latest_time: AtomicU32,
    /// The active requesters. Joined with the tables locked.
    pub(super) audience: Audience,
    /// Panics for tests.
    #[cfg(test)]
    faults: faults::Faults,
}

impl Mirror {
    /// Creates a mirror of tables with this readiness.
    pub(super) fn new(table: Table, ready: Result<(), Unready>) -> Mirror {
        Mirror {
            latest_time: AtomicU32::new(table.changes().end().time.0),
            table: RwLock::new(table),
            readiness: Readiness::new(ready),
            queue: EventQueue::default(),
            resync: Mutex::default(),
            recorder: Mutex::default(),
            audience: Audience::default(),
            #[cfg(test)]
            faults: faults::Faults::default(),
        }
    }

    /// Returns the tables of a mirror that has no other owner, and the latest time that requesters may have received;
    /// `None` if they are not complete.
    pub(super) fn into_table(self) -> Option<(Table, Time)> {
        self.ready().ok()?;
        let latest = Time(self.latest_time.into_inner());
        Some((self.table.into_inner().ok()?, latest))
    }

    /// Returns the time of a reply that is written at `now`, and notes it: later replies and changes do not have an earlier
    /// one, unless the clock is set back by more than [`SKEW`].
    pub fn note_time(&self, now: Time) -> Time {
        let latest = Time(self.latest_time.load(Ordering::Relaxed));
        if latest < now {
            self.latest_time.fetch_max(now.0, Ordering::Relaxed);
            return now;
        }
        match latest.seconds_since(now) {
            0..=SKEW => latest,
            _ => now,
        }
    }

    /// Returns the time of changes that are learned at `now`: see [`Table::time_of_changes`].
    pub(super) fn time_of_changes(&self, table: &mut Table, now: Time) -> Time {
        let latest = self.latest_time.load(Ordering::Relaxed);
        let time = table.time_of_changes(now, Time(latest));
        if time.0 < latest {
            // Else a thread has read the clock before it was set back, or after it, and the next call finds that.
            let _ = self.latest_time.compare_exchange(
                latest,
                time.0,
                Ordering::Relaxed,
                Ordering::Relaxed,
            );
        }
        self.note_time(time);
        time
    }

    /// Locks the tables to read them. The initial load fills other tables, and takes this lock only to replace these.
    pub(super) fn table(&self) -> Result<RwLockReadGuard<'_, Table>, Unready> {
        self.ready()?;
        self.table.read().map_err(|_| self.fail(Failure::Change))
    }

    /// Locks the tables to update them. A panic while the lock is held ends their use: an update may be incomplete,
    /// and any answer from the tables wrong.
    pub(super) fn table_mut(&self) -> Result<RwLockWriteGuard<'_, Table>, Unready> {
        self.ready()?;
        self.table.write().map_err(|_| self.fail(Failure::Change))
    }

    /// Whether the tables may be read: they hold every lease.
    ///
    /// # Errors
    /// The reason why they may not be read.
    pub fn ready(&self) -> Result<(), Unready> {
        self.readiness.get()?;
        match self.table.is_poisoned() {
            true => Err(self.fail(Failure::Change)),
            false => Ok(()),
        }
    }

    /// Whether the tables hold every lease.
    pub fn is_complete(&self) -> bool {
        self.ready().is_ok()
    }

    /// Returns a future that completes at the first change of [`Mirror::ready`] after this call.
    pub fn next_change_of_readiness(&self) -> impl Future<Output = ()> + Send + 'static {
        self.readiness.next_change()
    }

    /// Replaces the empty tables by those of the completed initial load.
    pub(super) fn complete(&self, table: Table) {
        #[cfg(test)]
        self.faults.panic_if_armed("blq-loading");
        match self.table.write() {
            Ok(mut current) => {
                self.note_time(table.changes().end().time);
                *current = table;
                // The recent changes lack those before a hand-over: all dirty ones are recorded instead.
                drop(current.dirty_set().take_recent());
                self.record_all(&current);
                self.readiness.complete();
            }
            Err(_) => {
                self.fail(Failure::Change);
            }
        }
        self.queue.wake_worker();
    }

    /// Makes the next thread of this name panic while it uses the mirror, as a bug would.
    #[cfg(test)]
    pub(crate) fn panic_on(&self, thread: &'static str) {
        self.faults.arm(thread);
    }

    /// Whether the thread named last has panicked.
    #[cfg(test)]
    pub(crate) fn has_panicked(&self) -> bool {
        self.faults.has_fired()
    }

    /// Panics in the middle of a change, as a bug would.
    #[cfg(test)]
    pub(crate) fn panic_in_a_change(&self) {
        let change = std::panic::AssertUnwindSafe(|| {
            let _table = self.table_mut();
            panic!("as a bug would");
        });
        assert!(std::panic::catch_unwind(change).is_err());
    }

    /// Ends the use of the tables.
    pub(super) fn fail(&self, failure: Failure) -> Unready {
        if self.readiness.fail(failure) && failure != Failure::Stopped {
            tracing::error!(
                id = "BLQ_MIRROR_FAILED",
                "{failure}: all queries end with QueryTerminated until the configuration is \
                 reloaded or Kea is restarted"
            );
        }
        self.queue.wake_worker();
        Unready::Failed(failure)
    }

    /// Returns the event queue.
    pub fn queue(&self) -> &EventQueue {
        &self.queue
    }

    /// Applies all events pushed so far, if the tables are complete. During the initial load its thread defers
    /// events; after a failure they are dropped.
    pub fn catch_up(&self) {
        self.catch_up_by(Time::now);
    }

    /// Applies the events pushed so far, if they are few and take little time, and reads the tables, if they can be locked
    /// soon: for a thread that may not be kept long.
    ///
    /// # Errors
    /// The tables are not complete, or not all events can be applied soon.
    pub fn read_briefly<R>(&self, read: impl FnOnce(&Table) -> R) -> Result<R, NotNow> {
        self.ready()?;
        let give_up = Instant::now() + BRIEFLY;
        if !self.queue.is_empty() {
            if !self.queue.is_short(EVENTS_BRIEFLY) {
                self.queue.wake_worker();
                return Err(NotNow::Busy);
            }
            let mut table = self.lock_until(give_up, || self.table.try_write())?;
            // Counted before they are looked at: an event that is pushed later, and may take long, is the worker's.
            let count = self.queue.len();
            if !self.queue.is_short(EVENTS_BRIEFLY) {
                return Err(NotNow::Busy);
            }
            let now = self.time_of_changes(&mut table, Time::now());
            if !self.record_some_ends(&mut table, now) {
                self.queue.wake_worker();
                return Err(NotNow::Busy);
            }
            let mut resync = self.resync.lock();
            for report in self.queue.drain().take(count) {
                report.lend(|event| apply(&mut table, &mut resync, event, now));
            }
            self.record_changes(&mut table);
            if !self.audience.is_empty() {
                // The worker notifies the active requesters.
                self.queue.wake_worker();
            }
            return Ok(read(&table));
        }
        let table = self.lock_until(give_up, || self.table.try_read())?;
        Ok(read(&table))
    }

    /// Locks the tables by `lock`, which is tried until the time `give_up`. The apply worker may hold them for long.
    fn lock_until<G>(
        &self,
        give_up: Instant,
        lock: impl Fn() -> TryLockResult<G>,
    ) -> Result<G, NotNow> {
        loop {
            match lock() {
                Ok(guard) => return Ok(guard),
                Err(TryLockError::Poisoned(_)) => return Err(self.fail(Failure::Change).into()),
                Err(TryLockError::WouldBlock) if Instant::now() < give_up => thread::yield_now(),
                Err(TryLockError::WouldBlock) => return Err(NotNow::Busy),
            }
        }
    }

    /// Applies all events pushed so far, at the times of `clock`.
    pub fn catch_up_by(&self, clock: impl Fn() -> Time) {
        while !self.queue.is_empty() {
            let mut table = match self.table_mut() {
                Ok(table) => table,
                Err(Unready::InitialLoad) => return,
                Err(Unready::Failed(_)) => return self.queue.drain().for_each(drop),
            };
            #[cfg(test)]
            self.faults.panic_if_armed("blq-mirror");
            let mut resync = self.resync.lock();
            // Counted before the clock is read: an event that is pushed later may be of the next second, and must not be
            // learned before it happened.
            let count = self.queue.len().min(EVENTS_PER_LOCK);
            // Read under the lock: no earlier reply has a later time, and every later reply sees these events.
            let now = self.time_of_changes(&mut table, clock());
            if !self.record_some_ends(&mut table, now) {
                continue;
            }
            for report in self.queue.drain().take(count) {
                report.lend(|event| apply(&mut table, &mut resync, event, now));
            }
            self.record_changes(&mut table);
            drop(resync);
            self.notify(table);
        }
        // Another thread may have popped an event that it has not applied. It holds the lock, for which the next
        // `read` of the caller waits.
    }

    /// Records, for active requesters, changes at `now` of some addresses that another server assigns, or no longer:
    /// see [`Table::mark_reassigned`]. Returns whether more are left.
    ///
    /// There may be as many as bindings, so this is left to the apply worker: no query or command waits for it.
    pub(super) fn mark_reassigned(&self, now: Time) -> bool {
        let has_reassigned = self.read(Table::has_reassigned);
        if has_reassigned != Ok(true) {
            return false;
        }
        let Ok(mut table) = self.table_mut() else {
            return false;
        };
        let now = self.time_of_changes(&mut table, now);
        if self.record_some_ends(&mut table, now) {
            table.mark_reassigned(now, REASSIGNED_PER_LOCK);
        }
        let is_left = table.has_reassigned();
        self.record_changes(&mut table);
        self.notify(table);
        is_left
    }

    /// Records some ends of states up to `now` in the change log, while there are active requesters; returns whether
    /// none are left. Updates at `now` must wait for that.
    fn record_some_ends(&self, table: &mut Table, now: Time) -> bool {
        if self.audience.is_empty() {
            table.stop_ends();
            return true;
        }
        table.record_ends(now, ENDS_PER_LOCK)
    }

    /// Records the ends of states up to `now` in the change log, while there are active requesters, and notifies these.
    ///
    /// # Errors
    /// The tables are not complete.
    pub(super) fn record_ends(&self, now: Time) -> Result<(), Unready> {
        let (has_ends, next) =
            self.read(|table| (table.has_ends(now), table.changes().end().next))?;
        if has_ends {
            self.audience.notify(next);
            return Ok(());
        }
        loop {
            let mut table = self.table_mut()?;
            let now = self.time_of_changes(&mut table, now);
            let is_over = self.record_some_ends(&mut table, now);
            self.notify(table);
            if is_over {
                return Ok(());
            }
        }
    }

    /// Unlocks the tables, and notifies the active requesters of changes.
    fn notify(&self, table: RwLockWriteGuard<'_, Table>) {
        if self.audience.is_empty() {
            return;
        }
        let next = table.changes().end().next;
        drop(table);
        self.audience.notify(next);
    }

    /// Whether there are active requesters.
    pub(super) fn is_followed(&self) -> bool {
        !self.audience.is_empty()
    }

    /// Records the addresses that have changed, before any reader sees the changes.
    fn record_changes(&self, table: &mut Table) {
        let changed = table.dirty_set().take_recent();
        if let Some(recorder) = &*self.recorder.lock() {
            recorder.record(&mut changed.into_iter(), table.latest);
        }
    }

    /// Records all dirty changes of `table`.
    fn record_all(&self, table: &Table) {
        if let Some(recorder) = &*self.recorder.lock() {
            recorder.record(&mut table.changes().dirty.dirty_changes(), table.latest);
        }
    }

    /// Records the dirty changes, and all changes from now on, with `recorder`.
    pub fn attach_recorder(&self, recorder: Arc<dyn ChangeRecorder>) {
        // Excludes updates and the end of the initial load.
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        *self.recorder.lock() = Some(recorder);
        if self.is_complete() {
            self.record_all(&table);
        }
    }

    /// Records no changes from now on.
    pub fn detach_recorder(&self) {
        *self.recorder.lock() = None;
    }

    /// Drops the record of changes that are on disk.
    pub fn trim_record(&self) {
        if let (Ok(table), Some(recorder)) = (self.table(), &*self.recorder.lock()) {
            recorder.retain(&mut table.changes().dirty.dirty_changes());
        }
    }

    /// Returns the time of the latest transaction of a lease in Kea's lease database; `None` if unknown.
    pub fn latest(&self) -> Option<Time> {
        self.read(|table| table.latest).ok()?
    }

    /// Returns the time up to which changes by other servers are in the mirror: see [`Event::ResyncDone`](crate::mirror::event::Event::ResyncDone).
    pub fn resynced_at(&self) -> Option<Time> {
        self.read(|table| table.resynced_at).ok()?
    }

    /// Reads the tables. `read` must be short, because updates wait for it.
    ///
    /// # Errors
    /// The tables are not complete.
    pub fn read<R>(&self, read: impl FnOnce(&Table) -> R) -> Result<R, Unready> {
        #[cfg(test)]
        self.faults.panic_if_armed("blq-server");
        Ok(read(&*self.table()?))
    }

    /// Returns the number of bindings, unless the tables are being updated or are not complete. Does not wait.
    pub fn count_now(&self) -> Option<usize> {
        self.ready().ok()?;
        Some(self.table.try_read().ok()?.count())
    }

    /// Takes the number of changes that the resync has found since the last call; 0 while events are being
    /// applied.
    pub fn take_resync_differences(&self) -> u64 {
        let resync = self.resync.try_lock();
        resync.map_or(0, |mut resync| std::mem::take(&mut resync.differences))
    }

    /// Returns Kea's configuration in force, also if the tables are not complete.
    pub fn kea_config(&self) -> Arc<KeaConfig> {
        // A panic cannot leave it half replaced.
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&table.view().kea_config)
    }

    /// Returns the view as the state file keeps it.
    pub fn saved_view(&self) -> SavedView {
        self.read(Table::saved_view).unwrap_or_default()
    }

    /// Takes the view if it is dirty, and marks it as written.
    pub fn take_dirty_view(&self) -> Option<SavedView> {
        self.table_mut().ok()?.take_dirty_view()
    }

    /// Takes the history if it is dirty, and marks it as written: see [`Table::take_dirty_history`].
    pub fn take_dirty_history(&self) -> Option<SavedHistory> {
        self.table_mut().ok()?.take_dirty_history()
    }

    /// Returns up to `limit` addresses to look up in Kea's lease database: doubtful ones, and those missing there
    /// since `since` or longer. `None` if events are being applied.
    pub fn missing(&self, limit: usize, since: Time) -> Option<Vec<Ipv4Addr>> {
        self.ready().ok()?;
        let table = self.table.try_read().ok()?;
        let mut resync = self.resync.try_lock()?;
        Some(resync.missing(&table, limit, since))
    }

    /// Returns the addresses with a binding from one of `subnets`, ascending.
    pub fn addresses_in(&self, subnets: &HashSet<SubnetId>) -> Vec<Ipv4Addr> {
        self.catch_up();
        self.read(|table| {
            let bindings = table.bindings(0..=u32::MAX);
            let found = bindings.filter(|binding| subnets.contains(&binding.subnet));
            found.map(|binding| binding.address).collect()
        })
        .unwrap_or_default()
    }

    /// Returns the addresses from `subnet` with an active binding to a client, ascending.
    pub fn addresses_of(&self, client: &Identity, subnet: SubnetId) -> Vec<Ipv4Addr> {
        self.catch_up();
        self.read(|table| {
            let found = table.find(client).into_iter();
            let found = found.flat_map(|found| found.all()).map(Ipv4Addr::from_bits);
            let is_of_subnet = |address: &Ipv4Addr| {
                let binding = table.binding(*address);
                binding.is_some_and(|binding| binding.subnet == subnet)
            };
            found.filter(is_of_subnet).collect()
        })
        .unwrap_or_default()
    }

    /// Returns the binding of an address.
    pub fn binding(&self, address: Ipv4Addr) -> Option<Binding> {
        self.catch_up();
        self.read(|table| table.binding(address)).ok()?
    }

    /// Takes a part of the [dirty set](crate::mirror::dirty_set::DirtySet). `limit` should be small: events
    /// and queries wait for the lock.
    pub fn take_dirty(&self, limit: usize) -> DirtyPart {
        #[cfg(test)]
        self.faults.panic_if_armed("blq-state");
        self.catch_up();
        let table = self.table_mut();
        table
            .map(|mut table| table.take_dirty(limit))
            .unwrap_or_default()
    }

    /// Changes the dirty set, if the tables are complete.
    pub fn change_dirty_set(&self, change: impl FnOnce(&mut DirtySet)) {
        if let Ok(mut table) = self.table_mut() {
            change(table.dirty_set());
        }
    }
}

/// Panics for tests.
#[cfg(test)]
mod faults {
    use std::thread;

    use parking_lot::Mutex;

    /// The name of the thread that must panic.
    #[derive(Debug, Default)]
    pub struct Faults(Mutex<Option<&'static str>>);

    impl Faults {
        /// Names the thread.
        pub fn arm(&self, thread: &'static str) {
            *self.0.lock() = Some(thread);
        }

        /// Whether that thread has panicked.
        pub fn has_fired(&self) -> bool {
            self.0.lock().is_none()
        }

        /// Panics if the named thread is `thread`, and the current one.
        pub fn panic_if_armed(&self, thread: &str) {
            let mut armed = self.0.lock();
            if *armed == Some(thread) && thread::current().name() == Some(thread) {
                *armed = None;
                drop(armed);
                panic!("as a bug would on {thread}");
            }
        }
    }
}
