//! Everything that runs while a configuration is in force: mirror, state file, listener.

use std::sync::Arc;
use std::time::Instant;

use cxx::Exception;

use super::bridge;
use super::service::Settings;
use crate::event::Lease;
use crate::mirror::applier::Applier;
use crate::mirror::store::Store;
use crate::mirror::writer::Writer;
use crate::mirror::{Loading, Mirror};
use crate::query::engine::LeaseEngine;
use crate::server::Server;
use crate::time::Time;

/// How many leases are read at once from Kea's memfile, where the cost of a page grows faster
/// than its size.
const MEMFILE_PAGE: usize = 100;
/// How many leases are read at once from a database, where each page is a query.
const DATABASE_PAGE: usize = 1_000;

/// What runs. The order of the fields is that in which it ends.
pub struct Running {
    /// The listener, if there is to be one.
    server: Option<Server>,
    /// Keeps the mirror up to date.
    applier: Applier,
    /// Writes the state file, if it can be written.
    writer: Option<Writer>,
    /// The mirror.
    mirror: Arc<Mirror>,
}

impl Running {
    /// Loads Kea's leases and serves them; says what is wrong if it cannot.
    pub fn start(settings: &Settings) -> Result<Running, String> {
        let started = Instant::now();
        let (store, saved) = Store::open_or_recover(&settings.state_file);
        let mut loading = Loading::begin(Arc::clone(&settings.network), saved, Time::now());
        let count = load_leases(&mut loading).map_err(|error| {
            format!("the leases cannot be read from Kea's lease database: {error}")
        })?;
        let mirror = Arc::new(loading.finish());
        tracing::info!(
            id = "BLQ_LOADED",
            "{count} leases loaded in {:.3} s",
            started.elapsed().as_secs_f64()
        );
        let _signals = SignalsBlocked::new();
        let threads = |error| format!("a thread cannot be started: {error}");
        let writer = store
            .map(|store| Writer::start(Arc::clone(&mirror), store).map_err(threads))
            .transpose()?;
        let changed = writer.as_ref().map(Writer::notifier);
        let applier = Applier::start(Arc::clone(&mirror), move || {
            if let Some(changed) = &changed {
                changed();
            }
        })
        .map_err(threads)?;
        let config = &settings.config;
        let server = config
            .bulk_query_enabled
            .then(|| {
                let engine =
                    LeaseEngine::new(Arc::clone(&mirror), config.non_sensitive_options.clone());
                Server::start(config, Arc::new(engine)).map_err(|error| error.to_string())
            })
            .transpose()?;
        Ok(Running {
            server,
            applier,
            writer,
            mirror,
        })
    }

    /// The mirror that is kept up to date.
    pub fn mirror(&self) -> Arc<Mirror> {
        Arc::clone(&self.mirror)
    }

    /// Ends queries with `reason`, saves what is not saved yet, and joins all threads.
    pub fn stop(self, reason: &str) {
        let Running {
            server,
            applier,
            writer,
            mirror: _,
        } = self;
        if let Some(server) = server {
            server.stop(reason);
        }
        drop(applier);
        // It takes in what waits in the feed before it writes.
        drop(writer);
    }
}

/// Reads all leases of Kea's lease database; says how many.
fn load_leases(loading: &mut Loading) -> Result<usize, Exception> {
    let page_size = match bridge::lease_database_type()?.as_str() {
        "memfile" => MEMFILE_PAGE,
        _ => DATABASE_PAGE,
    };
    let mut count = 0;
    let mut after = 0;
    loop {
        let page = bridge::lease_page(after, page_size)?;
        let Some(last) = page.last() else {
            return Ok(count);
        };
        after = last.address;
        count += page.len();
        for lease in page {
            loading.lease(&Lease::from(lease));
        }
    }
}

/// Blocks all signals in this thread, and so in the threads it starts, until dropped: Kea's
/// handlers of signals are meant for Kea's threads.
struct SignalsBlocked {
    /// What was blocked before.
    before: libc::sigset_t,
}

impl SignalsBlocked {
    /// Blocks them.
    #[allow(unsafe_code)] // The C library.
    fn new() -> Self {
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
