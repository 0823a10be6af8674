//! An instance: the mirror, workers, jobs and listener that serve one configuration.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::mirror::apply_worker::ApplyWorker;
use crate::mirror::dirty_set::DirtySet;
use crate::mirror::{InitialLoad, LoadWorker, Mirror, Prepared, Unready};
use crate::model::time::Time;
use crate::persist::flush_worker::FlushWorker;
use crate::persist::{Preload, Store};
use crate::plugin::census_worker::CensusWorker;
use crate::plugin::hand_over::HandedOver;
use crate::plugin::jobs::kea_database::{KeaDatabase, resync_job};
use crate::plugin::jobs::lease_reader::{LeaseReader, Part};
use crate::plugin::jobs::partner::PartnerJob;
use crate::plugin::jobs::reservations::{Reader, Reservations};
use crate::plugin::jobs::resync::ResyncJob;
use crate::plugin::kea::{Kea, KeaError, Result as KeaResult};
use crate::plugin::listener::Listener;
use crate::plugin::observed::{LoadProgress, Observed, ResyncProgress};
use crate::plugin::settings::Settings;
use crate::plugin::sink::Sink;
use crate::plugin::statistics::{Present, Totals};
use crate::plugin::system::{SignalsBlocked, trim_memory};
use crate::server::{Listeners, Monitor};

/// How many leases are loaded at once from Kea's memfile, which searches the page once more for each lease
/// of it. Half and twice as many take a twentieth longer, 100 a fifth.
const MEMFILE_PAGE: usize = 32;
/// How many leases are loaded at once from a database, where each page is a query.
const DATABASE_PAGE: usize = 1_000;

/// The longest time from one tick to the next.
pub const IDLE: Duration = Duration::from_secs(60);

/// An instance. Its fields are dropped in the order that [`Instance::stop`] documents.
pub struct Instance {
    /// The listener, if there is to be one.
    listener: Option<Listener>,
    /// The reading of Kea's leases, while it lasts.
    reading: Option<Reading>,
    /// Fills the mirror, for which queries wait.
    load_worker: LoadWorker,
    /// Keeps the mirror up to date.
    apply_worker: ApplyWorker,
    /// Writes the state file.
    flush_worker: FlushWorker,
    /// The mirror.
    mirror: Arc<Mirror>,
    /// Compares the mirror with Kea's lease database.
    resync_job: ResyncJob,
    /// Reads the host reservations in databases, if there are to be any.
    reservations: Option<Reader>,
    /// Whether events were lost since the last tick.
    lost: Arc<AtomicBool>,
    /// Follows the high-availability relationships, if there are any.
    partner_job: Option<PartnerJob>,
    /// Counts the bindings for an administrator.
    census_worker: CensusWorker,
    /// Whether the first census was requested.
    is_counted: bool,
    /// The state of the listener, for other threads.
    monitor: Arc<Monitor>,
    /// The progress of the initial load, for other threads.
    load: Arc<Mutex<LoadProgress>>,
    /// The progress of the resync, for other threads.
    resync: Arc<Mutex<ResyncProgress>>,
}

/// Kea's leases being read.
struct Reading {
    /// The reader.
    leases: LeaseReader,
    /// When it began.
    began: Instant,
    /// The bindings known before.
    base: Base,
}

/// The bindings with which a mirror being loaded began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Base {
    /// A mirror that was handed over had them.
    HandedOver,
    /// The state file had them; or there are none.
    Saved,
}

/// The result of a tick.
pub struct Tick {
    /// The time until there is more to do.
    pub next: Duration,
    /// The host reservations in databases, when they have all been read.
    pub reservations: Option<Reservations>,
    /// Whether events were lost before.
    pub was_lost: bool,
}

/// The bindings known before an instance starts.
pub enum Before {
    /// A mirror that was handed over has them.
    HandedOver(Box<HandedOver>),
    /// The state file has them, and may be being read already.
    Saved(Option<Preload>),
}

/// Why an instance could not start.
#[derive(Debug)]
pub enum InstanceError {
    /// Kea's leases cannot be read now.
    NoLeases(KeaError),
    /// Another reason. The text is for the administrator.
    Failed(String),
}

impl Instance {
    /// Begins to read Kea's leases, which continues in ticks, and answers the queries that come to `listeners`
    /// once all leases are in the mirror. `before` spares some of the reading. `has_partner` says whether
    /// Kea's high-availability library, if it is configured, may be asked for its state.
    ///
    /// # Errors
    /// Kea's leases cannot be read, or a thread cannot be started.
    pub fn start(
        kea: &impl Kea,
        settings: &Settings,
        listeners: Option<Listeners>,
        before: Before,
        has_partner: bool,
        totals: &Totals,
    ) -> Result<Instance, InstanceError> {
        // Declared before the load worker, these end after it if something fails: a mirror that it completes
        // is saved.
        let (flush_worker, apply_worker);
        let now = kea.now();
        let load = Arc::new(Mutex::new(LoadProgress {
            began: Time::now(),
            is_reload: matches!(before, Before::HandedOver(_)),
            leases: 0,
            took: None,
        }));
        let (store, load_worker, reading) = begin(kea, settings, before, now, &load)?;
        let mirror = Arc::clone(load_worker.mirror());
        let _signals = SignalsBlocked::new();
        flush_worker = FlushWorker::start(Arc::clone(&mirror), store).map_err(no_thread)?;
        let lost = Arc::new(AtomicBool::new(false));
        let (losing, waking) = (Arc::clone(&lost), kea.clone());
        apply_worker =
            ApplyWorker::start(Arc::clone(&mirror), flush_worker.notifier(), move || {
                losing.store(true, Ordering::Release);
                waking.schedule_tick(Duration::ZERO);
            })
            .map_err(no_thread)?;
        let census_worker = CensusWorker::start(Arc::clone(&mirror)).map_err(no_thread)?;
        let config = &settings.config;
        let monitor = Arc::new(Monitor::new(Arc::clone(&totals.counts)));
        let listener = listeners.map(|listeners| {
            let monitor = Arc::clone(&monitor);
            let tls = settings.tls.clone();
            Listener::start(config.clone(), tls, listeners, &mirror, monitor, now)
        });
        let mut resync_job = resync_job(kea, config, now);
        let reservations = settings.kea_config.has_host_database;
        let reservations = reservations.then(|| Reader::new(config, now));
        if reading.is_none() {
            resync_job.ask(now);
        }
        let partner_job = (has_partner && settings.kea_config.high_availability.is_configured())
            .then(|| {
                // Its updates may have come during the initial load.
                resync_job.ask(now);
                PartnerJob::new(now)
            });
        let resync = Arc::new(Mutex::new(resync_job.progress()));
        Ok(Instance {
            listener,
            reading,
            census_worker,
            is_counted: false,
            monitor,
            load,
            resync,
            load_worker,
            apply_worker,
            flush_worker,
            mirror,
            resync_job,
            reservations,
            lost,
            partner_job,
        })
    }

    /// Returns the mirror.
    pub fn mirror(&self) -> Arc<Mirror> {
        Arc::clone(&self.mirror)
    }

    /// Returns the parts that control commands read. They must be given up before [`Instance::stop`].
    pub fn observed(&self, settings: &Settings) -> Observed {
        Observed {
            mirror: Arc::clone(&self.mirror),
            census: Arc::clone(self.census_worker.counter()),
            monitor: Arc::clone(&self.monitor),
            load: Arc::clone(&self.load),
            resync: Arc::clone(&self.resync),
            state_file: Arc::clone(self.flush_worker.health()),
            config: settings.config.clone(),
            tls: settings.tls.clone(),
        }
    }

    /// Returns the numbers for the statistics.
    pub fn present(&self) -> Present {
        let bindings = self.mirror.count_now();
        Present {
            connections: self.monitor.connection_count() as u64,
            active_connections: self.monitor.active_count() as u64,
            bindings: bindings.map(|bindings| bindings as u64),
        }
    }

    /// Does the work that is due.
    pub fn tick(&mut self, kea: &impl Kea, sink: &Sink) -> Tick {
        let now = kea.now();
        let mut next = now + IDLE;
        let was_lost = self.lost.swap(false, Ordering::AcqRel);
        if let Err(Unready::Failed(_)) = self.mirror.ready() {
            // No reading repairs it.
            return Tick {
                next: IDLE,
                reservations: None,
                was_lost: false,
            };
        }
        if was_lost {
            self.resync_job.ask(now);
        }
        if let Some(partner_job) = &mut self.partner_job {
            if was_lost {
                partner_job.repeat();
            }
            if partner_job.tick(kea, sink, now) {
                self.resync_job.ask(now);
            }
            next = partner_job.next();
        }
        next = next.min(match &self.reading {
            Some(_) => self.read_leases(kea),
            None => {
                let mirror = &self.mirror;
                let database = KeaDatabase { kea, sink, mirror };
                self.resync_job.tick(&database, now)
            }
        });
        *self.resync.lock() = self.resync_job.progress();
        if !self.is_counted && self.mirror.is_complete() {
            self.is_counted = true;
            self.census_worker.counter().request();
        }
        let listener = self.listener.as_mut();
        if let Some(due) = listener.and_then(|listener| listener.tick(&self.mirror, now)) {
            next = next.min(due);
        }
        let mut reservations = None;
        if let Some(reader) = &mut self.reservations {
            reservations = reader.tick(kea);
            next = next.min(reader.next());
        }
        Tick {
            next: next.saturating_duration_since(kea.now()),
            reservations,
            was_lost,
        }
    }

    /// Reads some of Kea's leases; returns the time at which there is more to do.
    fn read_leases(&mut self, kea: &impl Kea) -> Instant {
        let now = kea.now();
        let Some(reading) = &mut self.reading else {
            return now;
        };
        let read = |after, limit, leases: &mut Vec<_>| kea.lease_page(after, limit, leases);
        let part = reading.leases.resume(&self.load_worker, || kea.now(), read);
        let Reading { began, base, .. } = *reading;
        self.load.lock().leases = reading.leases.count();
        match part {
            Part::More => return reading.leases.next(),
            Part::Last(count) => {
                let log = log_loaded(count, began, base, &self.load);
                self.load_worker.complete(move || {
                    log();
                    if base == Base::Saved {
                        trim_memory();
                    }
                });
            }
            Part::Failed(error) => {
                log_unreadable(&error);
                if base == Base::Saved {
                    return reading.leases.next();
                }
                // The bindings known before are better than none; the resync finds the differences.
                self.load_worker
                    .leave_incomplete(log_loaded(0, began, base, &self.load));
                self.resync_job.ask(now);
            }
        }
        self.reading = None;
        now
    }

    /// Reads the host reservations in databases again, as they may have changed.
    pub fn read_reservations(&mut self, now: Instant) {
        if let Some(reader) = &mut self.reservations {
            reader.ask(now);
        }
    }

    /// Starts a resync, as leases may have changed without an event.
    pub fn resync(&mut self, now: Instant) {
        self.resync_job.ask(now);
    }

    /// Returns whether a tick has become due since the last one.
    pub fn is_tick_due(&self) -> bool {
        self.lost.load(Ordering::Acquire)
    }

    /// Ends queries with `reason`, saves all changes, and joins all threads: queries end before the mirror
    /// does, and the mirror is complete before it is saved for the last time. Returns the mirror for the next
    /// instance, if that can use it.
    pub fn stop(self, reason: &str) -> Option<HandedOver> {
        let Instance {
            load_worker,
            listener,
            census_worker,
            apply_worker,
            flush_worker,
            mirror,
            ..
        } = self;
        drop(census_worker);
        // First, so that no query is answered from less than the whole mirror.
        if let Some(listener) = listener {
            listener.stop(reason);
        }
        // Leases not read yet are given up.
        load_worker.wait();
        drop(apply_worker);
        // It applies the events in the queue before it writes.
        let store = flush_worker.stop()?;
        // A thread that did not end in time may still share it.
        let mirror = Arc::try_unwrap(mirror).ok()?;
        mirror.is_complete().then_some(HandedOver { mirror, store })
    }
}

/// Returns the error for a thread that could not be started.
fn no_thread(error: io::Error) -> InstanceError {
    InstanceError::Failed(format!("a thread cannot be started: {error}"))
}

/// Begins the initial load of a mirror. Returns the store for its bindings, the load worker, which has the
/// mirror, and the reading of Kea's leases; no reading if they cannot be read, but are known as they were.
///
/// Kea's first lease is read, which shows whether they can be.
fn begin(
    kea: &impl Kea,
    settings: &Settings,
    before: Before,
    began: Instant,
    load: &Arc<Mutex<LoadProgress>>,
) -> Result<(Store, LoadWorker, Option<Reading>), InstanceError> {
    // Threads are started.
    let _signals = SignalsBlocked::new();
    let kea_config = Arc::clone(&settings.kea_config);
    let now = Time::now();
    let start = |begin: Box<dyn FnOnce() -> Option<InitialLoad> + Send>| {
        LoadWorker::start(Arc::clone(&settings.kea_config), now, begin).map_err(no_thread)
    };
    let leases = begin_reading(kea, began);
    let reading = |leases, base| {
        Some(Reading {
            leases,
            began,
            base,
        })
    };
    match before {
        Before::HandedOver(kept) => {
            let HandedOver { mirror, store } = *kept;
            let is_moved = store.path() != settings.state_file;
            let mut load_worker = start(Box::new(move || {
                if is_moved {
                    mirror.change_dirty_set(DirtySet::add_all);
                }
                InitialLoad::resume(mirror, kea_config, now)
            }))?;
            let store = match is_moved {
                true => Store::open_or_recover(&settings.state_file).0,
                false => store,
            };
            let base = Base::HandedOver;
            let reading = match leases {
                Ok(leases) => reading(leases, base),
                Err(error) => {
                    // The bindings known before are better than none; the resync finds the differences.
                    log_unreadable(&error);
                    load_worker.leave_incomplete(log_loaded(0, began, base, load));
                    None
                }
            };
            Ok((store, load_worker, reading))
        }
        Before::Saved(preload) => {
            let leases = leases.map_err(InstanceError::NoLeases)?;
            let path = &settings.state_file;
            let read = preload.and_then(|preload| preload.take(path));
            let (store, mut saved): (Store, Prepared) = read.unwrap_or_else(|| {
                let (store, saved) = Store::open_or_recover(path);
                (store, saved.into())
            });
            if kea.is_memfile().unwrap_or(false) {
                saved = saved.without_other_servers();
            }
            let load_worker = start(Box::new(move || {
                Some(InitialLoad::begin(kea_config, saved, now))
            }))?;
            Ok((store, load_worker, reading(leases, Base::Saved)))
        }
    }
}

/// Begins to read Kea's leases, if they can be read.
fn begin_reading(kea: &impl Kea, now: Instant) -> KeaResult<LeaseReader> {
    let page_size = match kea.is_memfile()? {
        true => MEMFILE_PAGE,
        false => DATABASE_PAGE,
    };
    kea.lease_page(0, 1, &mut Vec::new())?;
    Ok(LeaseReader::new(page_size, now))
}

/// Returns the action that records and logs how many leases were loaded, and in what time.
fn log_loaded(
    count: usize,
    began: Instant,
    base: Base,
    load: &Arc<Mutex<LoadProgress>>,
) -> impl FnOnce() + Send + use<> {
    let how = match base {
        Base::HandedOver => "compared",
        Base::Saved => "loaded",
    };
    let load = Arc::clone(load);
    move || {
        load.lock().took = Some(began.elapsed());
        tracing::info!(
            id = "BLQ_LOADED",
            "{count} leases {how} in {:.3} s",
            began.elapsed().as_secs_f64()
        );
    }
}

/// Logs that Kea's leases cannot be read.
fn log_unreadable(error: &KeaError) {
    tracing::warn!(id = "BLQ_LEASES_UNREADABLE", "{error}; trying again");
}
