//! Everything that runs while a configuration is in force: mirror, state file, listener.

use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use cxx::Exception;

use crate::config::Config;
use crate::ffi::bridge;
use crate::ffi::lease_taker;
use crate::ffi::main_loop::Waker;
use crate::mirror::event::{Event, Lease, ResyncScope};
use crate::mirror::worker::ApplyWorker;
use crate::mirror::{InitialLoad, LoadWorker, Mirror, Prepared, Unready};
use crate::model::time::Time;
use crate::persist::flush_worker::FlushWorker;
use crate::persist::store::{Preload, Store};
use crate::plugin::jobs::initial_load::{LeaseReader, Part};
use crate::plugin::jobs::partner::Status;
use crate::plugin::jobs::reservations::{Reader, Reservations};
use crate::plugin::jobs::resync::{LeaseDatabase, Page, PageSize, ResyncJob};
use crate::plugin::service::Settings;
use crate::plugin::{lease_events, service};
use crate::query::plan::LeaseEngine;
use crate::server::{Listeners, Server, StartError};

/// How many leases are loaded at once from Kea's memfile, which walks over the page once more
/// for each lease of it. Half and twice as many take a twentieth longer, 100 a fifth.
const MEMFILE_PAGE: usize = 32;
/// How many leases are loaded at once from a database, where each page is a query.
const DATABASE_PAGE: usize = 1_000;

/// From one comparison of the mirror with Kea's memfile to the next, unless configured: nobody
/// else writes it, and Kea tells of nearly everything it does itself.
const MEMFILE_INTERVAL: Duration = Duration::from_secs(600);
/// The same for a database, which other servers may write too.
const DATABASE_INTERVAL: Duration = Duration::from_secs(60);

/// How long a turn is away at most.
pub const IDLE: Duration = Duration::from_secs(60);

/// Time from one attempt to start the listener's threads to the next.
const LISTENER_RETRY: Duration = Duration::from_secs(2);

/// How often a high-availability partner is looked after.
const PARTNER_INTERVAL: Duration = Duration::from_millis(500);

/// What runs. The order of the fields is that in which it ends: queries end before the mirror does.
pub struct Instance {
    /// The listener, if there is to be one.
    listener: Option<Listener>,
    /// Kea's leases, while they are read.
    reading: Option<Reading>,
    /// Loads the mirror, which queries wait for.
    load_worker: LoadWorker,
    /// Keeps the mirror up to date.
    apply_worker: ApplyWorker,
    /// Writes the state file.
    writer: FlushWorker,
    /// The mirror.
    mirror: Arc<Mirror>,
    /// Compares it with Kea's lease database.
    resync_job: ResyncJob,
    /// Reads the host reservations in databases, if there are to be any.
    reservations: Option<Reader>,
    /// Set when events were lost.
    lost: Arc<AtomicBool>,
    /// The high-availability relationship, if there is one.
    partnership: Option<Partnership>,
}

/// Listener, started or waiting to be.
struct Listener {
    /// Its parameters.
    config: Config,
    /// Server; `None` if its threads could not be started.
    server: Option<Server>,
    /// Time of the next attempt in that case.
    next: Instant,
}

/// Kea's leases being read.
struct Reading {
    /// How far that has come.
    leases: LeaseReader,
    /// When it began.
    began: Instant,
    /// What there was of before.
    base: Base,
}

/// What a mirror that is loaded began with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Base {
    /// A mirror.
    HandedOver,
    /// The state file, or nothing.
    Saved,
}

/// What is known of this server's high-availability relationship.
struct Partnership {
    /// What it was last.
    status: Status,
    /// When to look next.
    next: Instant,
}

/// What came of a turn.
pub struct Tick {
    /// In how long there is more to do.
    pub next: Duration,
    /// The host reservations in databases, when they have all been read.
    pub reservations: Option<Reservations>,
    /// Whether events were lost before.
    pub was_lost: bool,
}

/// A mirror from before a reconfiguration.
pub struct HandedOver {
    /// The mirror, which nobody else has.
    mirror: Mirror,
    /// The store that holds what is in it, closed.
    store: Store,
}

/// What there is of before.
pub enum Before {
    /// A mirror.
    HandedOver(Box<HandedOver>),
    /// The state file, which may be being read already.
    Saved(Option<Preload>),
}

/// Why nothing runs.
pub enum InstanceError {
    /// Kea's leases cannot be read now.
    NoLeases(Exception),
    /// Something else, which trying again will not mend.
    Failed(String),
}

impl Instance {
    /// Begins to read Kea's leases, which goes on in turns, and serves them as soon as all are in the
    /// mirror, by `listeners` if there are any; what there is of `before` spares some of it. Events that are
    /// lost bring a turn about by `waker`. Whether Kea's high-availability library, if it is configured, can
    /// be asked for what it does is said by `has_partner`.
    pub fn start(
        settings: &Settings,
        listeners: Option<Listeners>,
        before: Before,
        waker: Waker,
        has_partner: bool,
    ) -> Result<Instance, InstanceError> {
        // Declared before the loader, these end after it if something fails: a mirror it completes is saved.
        let (writer, apply_worker);
        let Beginning {
            store,
            load_worker,
            reading,
        } = begin(settings, before)?;
        let mirror = Arc::clone(load_worker.mirror());
        let _signals = SignalsBlocked::new();
        writer = FlushWorker::start(Arc::clone(&mirror), store).map_err(no_thread)?;
        let lost = Arc::new(AtomicBool::new(false));
        let losing = Arc::clone(&lost);
        apply_worker = ApplyWorker::start(Arc::clone(&mirror), writer.notifier(), move || {
            losing.store(true, Ordering::Release);
            waker.wake();
        })
        .map_err(no_thread)?;
        let config = &settings.config;
        let listener =
            listeners.map(|listeners| Listener::start(config.clone(), listeners, &mirror));
        let now = Instant::now();
        let mut resync_job = resync_job(config.reconciliation_interval, now);
        let reservations = settings.kea_config.has_host_database();
        let reservations = reservations.then(|| Reader::new(config.reconciliation_interval, now));
        if reading.is_none() {
            resync_job.ask(now);
        }
        let partnership = (has_partner && settings.kea_config.has_partner()).then(|| {
            // Its updates may have come while leases were loaded.
            resync_job.ask(now);
            Partnership {
                status: Status::default(),
                next: now,
            }
        });
        Ok(Instance {
            listener,
            reading,
            load_worker,
            apply_worker,
            writer,
            mirror,
            resync_job,
            reservations,
            lost,
            partnership,
        })
    }

    /// The mirror that is kept up to date.
    pub fn mirror(&self) -> Arc<Mirror> {
        Arc::clone(&self.mirror)
    }

    /// Does what is to be done on Kea's main thread now.
    pub fn tick(&mut self) -> Tick {
        let now = Instant::now();
        let mut next = now + IDLE;
        let was_lost = self.lost.swap(false, Ordering::AcqRel);
        if let Err(Unready::Failed(_)) = self.mirror.ready() {
            // Nothing can be repaired by reading.
            return Tick {
                next: IDLE,
                reservations: None,
                was_lost: false,
            };
        }
        if was_lost {
            self.resync_job.ask(now);
            if let Some(partnership) = &mut self.partnership {
                // What was told of it may be lost, too.
                partnership.status = Status::default();
            }
        }
        if let Some(partnership) = &mut self.partnership {
            if now >= partnership.next {
                partnership.next = now + PARTNER_INTERVAL;
                if partnership.look() {
                    self.resync_job.ask(now);
                }
            }
            next = partnership.next;
        }
        next = next.min(match &self.reading {
            Some(_) => self.read_leases(now),
            None => self.resync_job.tick(&KeaDatabase(&self.mirror), now),
        });
        if let Some(listener) = &mut self.listener
            && let Some(due) = listener.tick(&self.mirror, now)
        {
            next = next.min(due);
        }
        let mut reservations = None;
        if let Some(reader) = &mut self.reservations {
            reservations = reader.tick(now);
            next = next.min(reader.next());
        }
        Tick {
            next: next.saturating_duration_since(Instant::now()),
            reservations,
            was_lost,
        }
    }

    /// Reads some of Kea's leases; says when there is more to do.
    fn read_leases(&mut self, now: Instant) -> Instant {
        let Some(reading) = &mut self.reading else {
            return now;
        };
        match (
            reading.leases.go_on(&self.load_worker, now, read_page),
            reading.base,
        ) {
            (Part::More, _) => return reading.leases.next(),
            (Part::Last(count), base) => {
                let told = tell_loaded(count, reading.began, base);
                self.load_worker.complete(move || {
                    told();
                    if base == Base::Saved {
                        give_memory_back();
                    }
                });
            }
            (Part::Failed(error), Base::Saved) => {
                tell_unreadable(&error);
                return reading.leases.next();
            }
            (Part::Failed(error), Base::HandedOver) => {
                // Better than nothing; what differs is found later.
                tell_unreadable(&error);
                self.load_worker
                    .leave_incomplete(tell_loaded(0, reading.began, Base::HandedOver));
                self.resync_job.ask(now);
            }
        }
        self.reading = None;
        now
    }

    /// Host reservations in databases may have changed.
    pub fn read_reservations(&mut self) {
        if let Some(reader) = &mut self.reservations {
            reader.ask(Instant::now());
        }
    }

    /// Leases may have changed unheard.
    pub fn reconcile(&mut self) {
        self.resync_job.ask(Instant::now());
    }

    /// Whether a turn is due that was not when the last one was taken.
    pub fn is_tick_due(&self) -> bool {
        self.lost.load(Ordering::Acquire)
    }

    /// Ends queries with `reason`, saves what is not saved yet, and joins all threads. What it
    /// leaves may be gone on with.
    pub fn stop(self, reason: &str) -> Option<HandedOver> {
        let Instance {
            load_worker,
            listener,
            apply_worker,
            writer,
            mirror,
            ..
        } = self;
        // First, so that no query is answered from less than the whole mirror.
        if let Some(server) = listener.and_then(|listener| listener.server) {
            server.stop(reason);
        }
        // Leases not read yet are given up.
        load_worker.wait();
        drop(apply_worker);
        // It takes in what waits in the feed before it writes.
        let store = writer.stop()?;
        // A thread that did not end in time may have it still.
        let mirror = Arc::try_unwrap(mirror).ok()?;
        mirror.is_complete().then_some(HandedOver { mirror, store })
    }
}

impl Listener {
    /// Starts serving `listeners`; if that fails, [`Listener::tick`] tries again.
    fn start(config: Config, listeners: Listeners, mirror: &Arc<Mirror>) -> Listener {
        let mut listener = Listener {
            config,
            server: None,
            next: Instant::now() + LISTENER_RETRY,
        };
        if let Err(error) = listener.serve(listeners, mirror) {
            tracing::error!(
                id = "BLQ_LISTEN_FAILED",
                "{error}; it is tried again every {} s, and DHCP goes on",
                LISTENER_RETRY.as_secs()
            );
        }
        listener
    }

    /// Starts the server.
    fn serve(&mut self, listeners: Listeners, mirror: &Arc<Mirror>) -> Result<(), StartError> {
        let options = self.config.non_sensitive_options.clone();
        let engine = Arc::new(LeaseEngine::new(Arc::clone(mirror), options));
        self.server = Some(Server::start_with(listeners, &self.config, engine)?);
        Ok(())
    }

    /// Tries again to start the server if it is time; returns the time of the next attempt, if one is needed.
    fn tick(&mut self, mirror: &Arc<Mirror>, now: Instant) -> Option<Instant> {
        if self.server.is_some() {
            return None;
        }
        if now >= self.next {
            self.next = now + LISTENER_RETRY;
            let _signals = SignalsBlocked::new();
            // The failure was logged at the start.
            let served = Listeners::open(&self.config, &[])
                .map_err(StartError::Listen)
                .and_then(|listeners| self.serve(listeners, mirror));
            if served.is_ok() {
                return None;
            }
        }
        Some(self.next)
    }
}

/// Why nothing runs when a thread could not be started.
fn no_thread(error: io::Error) -> InstanceError {
    InstanceError::Failed(format!("a thread cannot be started: {error}"))
}

/// A mirror that is about to have Kea's leases.
struct Beginning {
    /// The store to save its states in.
    store: Store,
    /// The mirror, and who loads it.
    load_worker: LoadWorker,
    /// Kea's leases; `None` if they cannot be read, but are known as they were.
    reading: Option<Reading>,
}

/// Begins to load Kea's leases into a mirror, and finds the store to save its states in.
///
/// Their first page is read, and with it is known whether they can be.
fn begin(settings: &Settings, before: Before) -> Result<Beginning, InstanceError> {
    // Threads of ours help.
    let _signals = SignalsBlocked::new();
    let began = Instant::now();
    let kea_config = Arc::clone(&settings.kea_config);
    let now = Time::now();
    let start = |begin: Box<dyn FnOnce() -> Option<InitialLoad> + Send>| {
        LoadWorker::start(Arc::clone(&settings.kea_config), now, begin).map_err(no_thread)
    };
    let reading = begin_reading(began);
    match before {
        Before::HandedOver(kept) => {
            let HandedOver { mirror, store } = *kept;
            let is_moved = store.path() != settings.state_file;
            let mut load_worker = start(Box::new(move || {
                if is_moved {
                    mirror.mark_all_dirty();
                }
                InitialLoad::resume(mirror, kea_config, now)
            }))?;
            let store = match is_moved {
                true => Store::open_or_recover(&settings.state_file).0,
                false => store,
            };
            let base = Base::HandedOver;
            let reading = match reading {
                Ok(leases) => Some(Reading {
                    leases,
                    began,
                    base,
                }),
                Err(error) => {
                    // Better than nothing; what differs is found later.
                    tell_unreadable(&error);
                    load_worker.leave_incomplete(tell_loaded(0, began, base));
                    None
                }
            };
            Ok(Beginning {
                store,
                load_worker,
                reading,
            })
        }
        Before::Saved(preload) => {
            let leases = reading.map_err(InstanceError::NoLeases)?;
            let path = &settings.state_file;
            let read = preload.and_then(|preload| preload.take(path));
            let (store, mut saved): (Store, Prepared) = read.unwrap_or_else(|| {
                let (store, saved) = Store::open_or_recover(path);
                (store, saved.into())
            });
            if is_memfile().unwrap_or(false) {
                saved = saved.without_other_servers();
            }
            let base = Base::Saved;
            Ok(Beginning {
                store,
                load_worker: start(Box::new(move || {
                    Some(InitialLoad::begin(kea_config, saved, now))
                }))?,
                reading: Some(Reading {
                    leases,
                    began,
                    base,
                }),
            })
        }
    }
}

/// Begins to read Kea's leases, if they can be read.
fn begin_reading(now: Instant) -> Result<LeaseReader, Exception> {
    let page_size = match is_memfile()? {
        true => MEMFILE_PAGE,
        false => DATABASE_PAGE,
    };
    lease_taker::collect(|taker| bridge::lease_page(0, 1, taker))?;
    Ok(LeaseReader::new(page_size, now))
}

/// Reads a page of Kea's leases.
fn read_page(after: u32, limit: usize, leases: &mut Vec<Lease>) -> Result<(), Exception> {
    lease_taker::for_each(
        |taker| bridge::lease_page(after, limit, taker),
        |lease| leases.push(Lease::from(lease)),
    )
}

/// Tells how many leases were loaded, and in what time.
fn tell_loaded(count: usize, began: Instant, base: Base) -> impl FnOnce() + Send + 'static {
    let how = match base {
        Base::HandedOver => "compared",
        Base::Saved => "loaded",
    };
    move || {
        tracing::info!(
            id = "BLQ_LOADED",
            "{count} leases {how} in {:.3} s",
            began.elapsed().as_secs_f64()
        );
    }
}

/// Tells that Kea's leases cannot be read.
fn tell_unreadable(error: &Exception) {
    tracing::warn!(id = "BLQ_LEASES_UNREADABLE", "{error}; trying again");
}

/// Gives memory back to the system that was used only while leases were loaded. The C library
/// would keep it for the thread that freed it, which ends.
///
/// Kea's threads that want memory wait meanwhile: 2 ms with a million leases just after the start of
/// Kea, when its memory has few gaps. Not to be called later.
#[allow(unsafe_code)] // The C library.
fn give_memory_back() {
    // SAFETY: it may be called at any time, on any thread; the number is one of octets to keep.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Whether Kea keeps its leases in memory and in a file, and not in a database.
fn is_memfile() -> Result<bool, Exception> {
    Ok(bridge::lease_database_type()? == "memfile")
}

/// What compares the mirror with Kea's lease database at an interval, in seconds; 0 for never,
/// `None` for the usual one.
fn resync_job(interval: Option<u32>, now: Instant) -> ResyncJob {
    let (usual, page_size) = match is_memfile() {
        Ok(true) => (MEMFILE_INTERVAL, PageSize::MEMFILE),
        _ => (DATABASE_INTERVAL, PageSize::DATABASE),
    };
    let interval = match interval {
        None => Some(usual),
        Some(0) => None,
        Some(seconds) => Some(Duration::from_secs(seconds.into())),
    };
    ResyncJob::new(interval, page_size, now)
}

/// Kea's lease database, and the mirror it is compared with.
struct KeaDatabase<'a>(&'a Mirror);

impl LeaseDatabase for KeaDatabase<'_> {
    type Error = Exception;

    fn page(&self, after: u32, limit: usize) -> Option<Result<Page, Exception>> {
        let scope = |leases: &[Lease]| {
            let last = leases.last().filter(|_| leases.len() >= limit);
            let last = last.map_or(u32::MAX, |last| last.address.to_bits());
            ResyncScope::Range(after.saturating_add(1)..=last)
        };
        let looked = lease_events::try_look(scope, || {
            lease_taker::collect(|taker| bridge::lease_page(after, limit, taker))
        })?;
        Some(looked.map(|scope| match scope {
            ResyncScope::Range(range) if *range.end() != u32::MAX => Page::Until(*range.end()),
            _ => Page::Last,
        }))
    }

    fn missing(&self, limit: usize) -> Vec<Ipv4Addr> {
        // A second at least, and that counts as one only if it is over.
        let since = Time(Time::now().0.saturating_sub(2));
        self.0.missing(limit, since).unwrap_or_default()
    }

    fn again(&self, addresses: Vec<Ipv4Addr>) -> Option<Result<(), Exception>> {
        let asked = addresses.clone();
        let looked = lease_events::try_look(
            |_| ResyncScope::Again(addresses),
            || lease_events::leases_of(&asked),
        )?;
        Some(looked.map(drop))
    }

    fn compared(&self, took: Duration) {
        // A second more: what it began with counts only from the next second on.
        let took = u32::try_from(took.as_secs())
            .unwrap_or(u32::MAX)
            .saturating_add(2);
        service::push(Event::ResyncDone {
            began: Time(Time::now().0.saturating_sub(took)),
        });
    }

    fn backlog(&self) -> usize {
        self.0.queue().len()
    }
}

impl Partnership {
    /// Looks what this server does now, and tells the mirror; says whether leases may have been
    /// copied from a partner since it last looked.
    fn look(&mut self) -> bool {
        let status = match bridge::status_of_hooks() {
            Ok(response) => Status::read(&response),
            Err(error) => {
                tracing::debug!(id = "BLQ_PARTNER_UNKNOWN", "{error}");
                None
            }
        };
        let Some(status) = status else {
            return false;
        };
        let synchronised = status.follows_synchronisation(&self.status);
        // Told again after each of those, it changes nothing unless it is another.
        if status.is_settled() && (synchronised || status.serving != self.status.serving) {
            service::push(Event::Serving {
                serving: status.serving.clone(),
                at: Time::now(),
            });
        }
        self.status = status;
        synchronised
    }
}

/// Blocks all signals in this thread, and so in the threads it starts, until dropped: Kea's
/// handlers of signals are meant for Kea's threads.
pub struct SignalsBlocked {
    /// What was blocked before.
    before: libc::sigset_t,
}

impl SignalsBlocked {
    /// Blocks them.
    #[allow(unsafe_code)] // The C library.
    pub fn new() -> Self {
        // SAFETY: a `sigset_t` is plain bits, and each call is given pointers to whole ones.
        unsafe {
            let mut all: libc::sigset_t = std::mem::zeroed();
            let mut before = all;
            libc::sigfillset(&mut all);
            libc::pthread_sigmask(libc::SIG_BLOCK, &all, &mut before);
            SignalsBlocked { before }
        }
    }
}

impl Drop for SignalsBlocked {
    #[allow(unsafe_code)] // The C library.
    fn drop(&mut self) {
        // SAFETY: as in `new`; null stands for not wanting the set in force until now.
        unsafe {
            libc::pthread_sigmask(libc::SIG_SETMASK, &self.before, std::ptr::null_mut());
        }
    }
}
