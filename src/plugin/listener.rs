//! The listener of an instance: started, or waiting to be.

use std::io;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::config::Config;
use crate::mirror::Mirror;
use crate::plugin::system::SignalsBlocked;
use crate::query::active::Permission;
use crate::query::lease_engine::LeaseEngine;
use crate::server::{Listeners, Monitor, Server, TlsContext};

/// Time from one attempt to start the listener's threads to the next.
const RETRY: Duration = Duration::from_secs(2);

/// A listener, started or waiting to be.
pub struct Listener {
    /// The library's parameters.
    config: Config,
    /// TLS, unless it is off.
    tls: Option<Arc<TlsContext>>,
    /// The server; `None` if its threads could not be started.
    server: Option<Server>,
    /// Time of the next attempt in that case.
    next: Instant,
    /// The state for other threads.
    monitor: Arc<Monitor>,
}

impl Listener {
    /// Starts to serve `listeners` from `mirror`; if that fails, [`Listener::tick`] tries again.
    pub fn start(
        config: Config,
        tls: Option<Arc<TlsContext>>,
        listeners: Listeners,
        mirror: &Arc<Mirror>,
        monitor: Arc<Monitor>,
        now: Instant,
    ) -> Listener {
        let mut listener = Listener {
            config,
            tls,
            server: None,
            next: now + RETRY,
            monitor,
        };
        if let Err(error) = listener.serve(listeners, mirror) {
            for address in listener.config.listeners() {
                let error = format!("threads cannot start: {error}");
                listener.monitor.set_listener(address, Some(error));
            }
            tracing::error!(
                id = "BLQ_SERVER_NOT_STARTED",
                "the threads that serve requesters cannot start: {error}; the hook tries again every {} s; \
                 DHCP service continues",
                RETRY.as_secs()
            );
        }
        listener
    }

    /// Starts the server.
    fn serve(&mut self, listeners: Listeners, mirror: &Arc<Mirror>) -> io::Result<()> {
        let options = self.config.non_sensitive_options.clone();
        let active = self.config.active.as_ref().map(|active| Permission {
            is_insecure: active.is_insecure,
            history: active.history.map(NonZeroU32::get),
        });
        let engine = LeaseEngine::new(Arc::clone(mirror), options).with_active(active);
        let engine = Arc::new(engine);
        let monitor = Arc::clone(&self.monitor);
        let tls = self.tls.clone();
        let server = Server::start_monitored(listeners, &self.config, tls, engine, monitor)?;
        self.server = Some(server);
        Ok(())
    }

    /// Tries again to start the server if it is time; returns the time of the next attempt, if one is
    /// needed.
    pub fn tick(&mut self, mirror: &Arc<Mirror>, now: Instant) -> Option<Instant> {
        if self.server.is_some() {
            return None;
        }
        if now >= self.next {
            self.next = now + RETRY;
            let _signals = SignalsBlocked::new();
            // The failure was logged at the start.
            let opened = Listeners::open(&self.config, &[]);
            if opened.is_ok_and(|listeners| self.serve(listeners, mirror).is_ok()) {
                return None;
            }
        }
        Some(self.next)
    }

    /// Ends queries with `reason`, and joins the threads.
    pub fn stop(self, reason: &str) {
        if let Some(server) = self.server {
            server.stop(reason);
        }
    }
}
