//! The listener of an instance: started, or waiting to be.

use std::net::SocketAddrV4;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::config::Config;
use crate::mirror::Mirror;
use crate::plugin::system::SignalsBlocked;
use crate::query::lease_engine::LeaseEngine;
use crate::server::{ListenError, Listeners, Server, StartError};

/// Time from one attempt to start the listener's threads to the next.
const RETRY: Duration = Duration::from_secs(2);

/// A listener, started or waiting to be.
pub struct Listener {
    /// The library's parameters.
    config: Config,
    /// The server; `None` if its threads could not be started.
    server: Option<Server>,
    /// Time of the next attempt in that case.
    next: Instant,
}

impl Listener {
    /// Opens the sockets of the configured addresses; `None` if no queries are to be answered.
    ///
    /// # Errors
    /// One of the addresses `required` cannot be listened on.
    pub fn open(
        config: &Config,
        required: &[SocketAddrV4],
    ) -> Result<Option<Listeners>, ListenError> {
        let open = || Listeners::open(config, required);
        config.bulk_query_enabled.then(open).transpose()
    }

    /// Starts to serve `listeners` from `mirror`; if that fails, [`Listener::tick`] tries again.
    pub fn start(
        config: Config,
        listeners: Listeners,
        mirror: &Arc<Mirror>,
        now: Instant,
    ) -> Listener {
        let mut listener = Listener {
            config,
            server: None,
            next: now + RETRY,
        };
        if let Err(error) = listener.serve(listeners, mirror) {
            tracing::error!(
                id = error.log_id(),
                "{error}; the hook tries again every {} s; DHCP service continues",
                RETRY.as_secs()
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
            let served = Listeners::open(&self.config, &[])
                .map_err(StartError::Listen)
                .and_then(|listeners| self.serve(listeners, mirror));
            if served.is_ok() {
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
