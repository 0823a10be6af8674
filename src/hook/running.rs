//! Everything that runs while a configuration is in force: mirror, state file, listener.

use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use cxx::Exception;

use super::bridge;
use super::main_thread::Waker;
use super::partner::Status;
use super::reconciler::{LeaseDatabase, Page, PageSize, Reconciler};
use super::reservations::{Reader, Reservations};
use super::service::Settings;
use super::{changes, lease_taker, service};
use crate::event::{Event, Extent, Lease};
use crate::mirror::applier::Applier;
use crate::mirror::store::{Ahead, Store};
use crate::mirror::writer::Writer;
use crate::mirror::{Loader, Loading, Mirror};
use crate::query::engine::LeaseEngine;
use crate::server::Server;
use crate::time::Time;

/// How many leases are loaded at once from Kea's memfile, which walks over the page once more
/// for each lease of it. Half and twice as many take a twentieth longer, 100 a fifth.
const MEMFILE_PAGE: usize = 32;
/// How many leases are loaded at once from a database, where each page is a query.
const DATABASE_PAGE: usize = 1_000;

/// How many leases that were read are handed on at once: a thread is woken for them.
const BATCH: usize = 1_024;

/// From one comparison of the mirror with Kea's memfile to the next, unless configured: nobody
/// else writes it, and Kea tells of nearly everything it does itself.
const MEMFILE_INTERVAL: Duration = Duration::from_secs(600);
/// The same for a database, which other servers may write too.
const DATABASE_INTERVAL: Duration = Duration::from_secs(60);

/// How long a turn is away at most.
pub const IDLE: Duration = Duration::from_secs(60);

/// How often a high-availability partner is looked after.
const PARTNER_INTERVAL: Duration = Duration::from_millis(500);

/// What runs. The order of the fields is that in which it ends.
pub struct Running {
    /// Loads the mirror, which everything else waits for.
    loader: Loader,
    /// The listener, if there is to be one.
    server: Option<Server>,
    /// Keeps the mirror up to date.
    applier: Applier,
    /// Writes the state file.
    writer: Writer,
    /// The mirror.
    mirror: Arc<Mirror>,
    /// Compares it with Kea's lease database.
    reconciler: Reconciler,
    /// Reads the host reservations in databases, if there are to be any.
    reservations: Option<Reader>,
    /// Set when events were lost.
    lost: Arc<AtomicBool>,
    /// The high-availability relationship, if there is one.
    partnership: Option<Partnership>,
}

/// What is known of this server's high-availability relationship.
struct Partnership {
    /// What it was last.
    status: Status,
    /// When to look next.
    next: Instant,
}

/// What came of a turn.
pub struct Turn {
    /// In how long there is more to do.
    pub next: Duration,
    /// The host reservations in databases, when they have all been read.
    pub reservations: Option<Reservations>,
    /// Whether events were lost before.
    pub was_lost: bool,
}

/// A mirror from before a reconfiguration.
pub struct Kept {
    /// The mirror, which nobody else has.
    mirror: Mirror,
    /// The store that holds what is in it, closed.
    store: Store,
}

/// What there is of before.
pub enum Before {
    /// A mirror.
    Kept(Box<Kept>),
    /// The state file, which may be being read already.
    Saved(Option<Ahead>),
}

/// Why nothing runs.
pub enum NotRunning {
    /// Kea's leases cannot be read now.
    NoLeases(Exception),
    /// Something else, which trying again will not mend.
    Failed(String),
}

impl Running {
    /// Reads Kea's leases and serves them as soon as all are in the mirror; what there is of
    /// `before` spares some of it. Events that are lost bring a turn about by `waker`. Whether
    /// Kea's high-availability library, if it is configured, can be asked for what it does is said
    /// by `has_partner`.
    pub fn start(
        settings: &Settings,
        before: Before,
        waker: Waker,
        has_partner: bool,
    ) -> Result<Running, NotRunning> {
        let Loaded {
            store,
            loader,
            is_compared,
        } = load(settings, before)?;
        let mirror = Arc::clone(loader.mirror());
        let _signals = SignalsBlocked::new();
        let writer = Writer::start(Arc::clone(&mirror), store).map_err(no_thread)?;
        let lost = Arc::new(AtomicBool::new(false));
        let losing = Arc::clone(&lost);
        let applier = Applier::start(Arc::clone(&mirror), writer.notifier(), move || {
            losing.store(true, Ordering::Release);
            waker.wake();
        })
        .map_err(no_thread)?;
        let config = &settings.config;
        let server = config
            .bulk_query_enabled
            .then(|| {
                let engine =
                    LeaseEngine::new(Arc::clone(&mirror), config.non_sensitive_options.clone());
                Server::start(config, Arc::new(engine))
            })
            .transpose()
            .map_err(|error| NotRunning::Failed(error.to_string()))?;
        let now = Instant::now();
        let mut reconciler = reconciler(config.reconciliation_interval, now);
        let reservations = settings.network.has_host_database();
        let reservations = reservations.then(|| Reader::new(config.reconciliation_interval, now));
        if !is_compared {
            reconciler.ask(now);
        }
        let partnership = (has_partner && settings.network.has_partner()).then(|| {
            // Its updates may have come while leases were loaded.
            reconciler.ask(now);
            Partnership {
                status: Status::default(),
                next: now,
            }
        });
        Ok(Running {
            loader,
            server,
            applier,
            writer,
            mirror,
            reconciler,
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
    pub fn turn(&mut self) -> Turn {
        let now = Instant::now();
        let mut next = now + IDLE;
        let was_lost = self.lost.swap(false, Ordering::AcqRel);
        if was_lost {
            self.reconciler.ask(now);
            if let Some(partnership) = &mut self.partnership {
                // What was told of it may be lost, too.
                partnership.status = Status::default();
            }
        }
        if let Some(partnership) = &mut self.partnership {
            if now >= partnership.next {
                partnership.next = now + PARTNER_INTERVAL;
                if partnership.look() {
                    self.reconciler.ask(now);
                }
            }
            next = partnership.next;
        }
        let database = KeaDatabase(&self.mirror);
        next = next.min(self.reconciler.turn(&database, now));
        let mut reservations = None;
        if let Some(reader) = &mut self.reservations {
            reservations = reader.turn(now);
            next = next.min(reader.next());
        }
        Turn {
            next: next.saturating_duration_since(Instant::now()),
            reservations,
            was_lost,
        }
    }

    /// Host reservations in databases may have changed.
    pub fn read_reservations(&mut self) {
        if let Some(reader) = &mut self.reservations {
            reader.ask(Instant::now());
        }
    }

    /// Leases may have changed unheard.
    pub fn reconcile(&mut self) {
        self.reconciler.ask(Instant::now());
    }

    /// Whether a turn is due that was not when the last one was taken.
    pub fn is_turn_due(&self) -> bool {
        self.lost.load(Ordering::Acquire)
    }

    /// Ends queries with `reason`, saves what is not saved yet, and joins all threads. What it
    /// leaves may be gone on with.
    pub fn stop(self, reason: &str) -> Option<Kept> {
        let Running {
            loader,
            server,
            applier,
            writer,
            mirror,
            ..
        } = self;
        // Threads of the listener may wait for it.
        loader.wait();
        if let Some(server) = server {
            server.stop(reason);
        }
        drop(applier);
        // It takes in what waits in the feed before it writes.
        let store = writer.stop()?;
        // A thread that did not end in time may have it still.
        let mirror = Arc::try_unwrap(mirror).ok()?;
        Some(Kept { mirror, store })
    }
}

/// Why nothing runs when a thread could not be started.
fn no_thread(error: io::Error) -> NotRunning {
    NotRunning::Failed(format!("a thread cannot be started: {error}"))
}

/// A mirror with Kea's leases, or about to have them.
struct Loaded {
    /// The store to save its states in.
    store: Store,
    /// The mirror, and who loads it.
    loader: Loader,
    /// Whether Kea's leases are in it, and not only those of before.
    is_compared: bool,
}

/// Loads Kea's leases into a mirror, and finds the store to save its states in.
///
/// The leases are read on this thread, which alone may do so, and taken over on another: at the
/// start of Kea this returns as soon as they have been read.
fn load(settings: &Settings, before: Before) -> Result<Loaded, NotRunning> {
    // Threads of ours help.
    let _signals = SignalsBlocked::new();
    let started = Instant::now();
    let network = Arc::clone(&settings.network);
    let now = Time::now();
    let start = |begin: Box<dyn FnOnce() -> Loading + Send>| {
        Loader::start(Arc::clone(&settings.network), now, begin).map_err(no_thread)
    };
    let told = |count: usize, how: &'static str| {
        move || {
            tracing::info!(
                id = "BLQ_LOADED",
                "{count} leases {how} in {:.3} s",
                started.elapsed().as_secs_f64()
            );
        }
    };
    match before {
        Before::Kept(kept) => {
            let Kept { mirror, store } = *kept;
            let mut loader = start(Box::new(move || Loading::resume(mirror, network, now)))?;
            let read = read_leases(|batch| loader.take(batch));
            let is_compared = read.is_ok();
            match read {
                Ok(count) => loader.complete(told(count, "compared")),
                Err(error) => {
                    // Better than nothing; what differs is found later.
                    tracing::warn!(id = "BLQ_LEASES_UNREADABLE", "{error}");
                    loader.leave_incomplete(told(0, "compared"));
                }
            }
            let store = if store.path() == settings.state_file {
                store
            } else {
                loader.mirror().mark_all_unsaved();
                Store::open_or_recover(&settings.state_file).0
            };
            Ok(Loaded {
                store,
                loader,
                is_compared,
            })
        }
        Before::Saved(ahead) => {
            let path = &settings.state_file;
            let read = ahead.and_then(|ahead| ahead.take(path));
            let (store, saved) = read.unwrap_or_else(|| {
                let (store, saved) = Store::open_or_recover(path);
                (store, saved.into())
            });
            let mut loader = start(Box::new(move || Loading::begin(network, saved, now)))?;
            let count = read_leases(|batch| loader.take(batch)).map_err(NotRunning::NoLeases)?;
            let told = told(count, "loaded");
            loader.complete(move || {
                told();
                give_memory_back();
            });
            Ok(Loaded {
                store,
                loader,
                is_compared: true,
            })
        }
    }
}

/// Gives memory back to the system that was used only while leases were loaded. The C library
/// would keep it for the thread that freed it, which ends.
///
/// Kea's threads that want memory wait meanwhile: 2 ms with a million leases at the start of Kea, when
/// its memory has few gaps. Not to be called later.
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
fn reconciler(interval: Option<u32>, now: Instant) -> Reconciler {
    let (usual, page_size) = match is_memfile() {
        Ok(true) => (MEMFILE_INTERVAL, PageSize::MEMFILE),
        _ => (DATABASE_INTERVAL, PageSize::DATABASE),
    };
    let interval = match interval {
        None => Some(usual),
        Some(0) => None,
        Some(seconds) => Some(Duration::from_secs(seconds.into())),
    };
    Reconciler::new(interval, page_size, now)
}

/// Reads all leases of Kea's lease database, while `take` wants them; says how many.
fn read_leases(mut take: impl FnMut(Vec<Lease>) -> bool) -> Result<usize, Exception> {
    let page_size = if is_memfile()? {
        MEMFILE_PAGE
    } else {
        DATABASE_PAGE
    };
    let mut count = 0;
    let mut after = 0;
    let mut batch = Vec::with_capacity(BATCH + page_size);
    loop {
        let waiting = batch.len();
        lease_taker::for_each(
            move |taker| bridge::lease_page(after, page_size, taker),
            |lease| {
                after = lease.address;
                batch.push(Lease::from(lease));
            },
        )?;
        count += batch.len() - waiting;
        let is_last = batch.len() == waiting;
        if is_last || batch.len() >= BATCH {
            let next = Vec::with_capacity(BATCH + page_size);
            if !take(std::mem::replace(&mut batch, next)) || is_last {
                return Ok(count);
            }
        }
    }
}

/// Kea's lease database, and the mirror it is compared with.
struct KeaDatabase<'a>(&'a Mirror);

impl LeaseDatabase for KeaDatabase<'_> {
    type Error = Exception;

    fn page(&self, after: u32, limit: usize) -> Option<Result<Page, Exception>> {
        let extent = |leases: &[Lease]| {
            let last = leases.last().filter(|_| leases.len() >= limit);
            let last = last.map_or(u32::MAX, |last| last.address.to_bits());
            Extent::Range(after.saturating_add(1)..=last)
        };
        let looked = changes::try_look(extent, || {
            lease_taker::collect(|taker| bridge::lease_page(after, limit, taker))
        })?;
        Some(looked.map(|extent| match extent {
            Extent::Range(range) if *range.end() != u32::MAX => Page::Until(*range.end()),
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
        let looked =
            changes::try_look(|_| Extent::Again(addresses), || changes::leases_of(&asked))?;
        Some(looked.map(drop))
    }

    fn backlog(&self) -> usize {
        self.0.feed().len()
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
