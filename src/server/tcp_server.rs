//! A running server: its listening sockets and threads.

use std::io;
use std::net::{SocketAddr, SocketAddrV4, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use proto::timing::{ACTIVE_LQ_IDLE_TIMEOUT, ACTIVE_LQ_SEND_TIMEOUT};
use tokio::time::{Instant, sleep};

use crate::config::Config;
use crate::query::Engine;
use crate::server::access::AccessList;
use crate::server::connection::Limits;
use crate::server::descriptors::{self, NoFreeNumber, Numbers};
use crate::server::errors::ListenError;
use crate::server::listener::{self, Shared};
use crate::server::monitor::Monitor;
use crate::server::peer_log::{Counts, PeerLog};
use crate::server::slots::Slots;
use crate::server::stop::{Stop, until_stopped};
use crate::server::threads::{self, ThreadPool};
use crate::server::throttle;
use crate::server::tls::context::TlsContext;

/// Maximum number of threads if the configuration has none: a few threads serve many connections,
/// and Kea's threads need processors too.
const MAX_CHOSEN_THREADS: usize = 4;

/// Share of the free low descriptors that event loops may take (a quarter): connections need the
/// others.
const THREADS_SHARE: u64 = 4;

/// Time between warnings about the files of TLS. The first ones are logged when the configuration is loaded.
const WARNING_INTERVAL: Duration = Duration::from_secs(24 * 3600);

/// The configured addresses, each with its listening socket or the error of opening one.
#[derive(Debug)]
pub struct Listeners(Vec<(SocketAddrV4, Result<TcpListener, ListenError>)>);

impl Listeners {
    /// Opens a socket for every configured address. Connections stay in the backlog until a server is started.
    ///
    /// # Errors
    /// The error of an address in `required`. All other addresses are tried again once a server
    /// runs.
    pub fn open(config: &Config, required: &[SocketAddrV4]) -> Result<Listeners, ListenError> {
        let mut listeners = Vec::with_capacity(config.listen_addresses.len());
        for address in config.listeners() {
            match listener::bind(address) {
                Err(error) if required.contains(&address) => return Err(error),
                opened => listeners.push((address, opened)),
            }
        }
        Ok(Listeners(listeners))
    }
}

/// A running server. Dropping it stops it.
pub struct Server {
    /// The threads; `None` once stopped.
    pool: Option<ThreadPool>,
    /// Addresses with a listening socket from the start.
    addresses: Vec<SocketAddrV4>,
    /// Log messages.
    peer_log: Arc<PeerLog>,
    /// The state for other threads.
    monitor: Arc<Monitor>,
}

impl Server {
    /// Listens on every configured address, and serves connections from then on.
    ///
    /// # Errors
    /// [`ListenError`] if an address cannot be bound; a file of TLS cannot be used; or threads cannot
    /// be started. No socket listens then.
    pub fn start<E: Engine>(config: &Config, engine: Arc<E>) -> io::Result<Server> {
        let required: Vec<SocketAddrV4> = config.listeners().collect();
        let listeners = Listeners::open(config, &required)?;
        Server::start_with(listeners, config, engine)
    }

    /// Serves connections of `listeners`, and repeatedly tries to bind addresses without a socket.
    ///
    /// # Errors
    /// If a file of TLS cannot be used, or threads cannot be started. No socket listens then.
    pub fn start_with<E: Engine>(
        listeners: Listeners,
        config: &Config,
        engine: Arc<E>,
    ) -> io::Result<Server> {
        let tls = TlsContext::load(config).map_err(io::Error::other)?;
        let tls = tls.map(Arc::new);
        Server::start_monitored(listeners, config, tls, engine, Arc::default())
    }

    /// Starts as [`Server::start_with`] does, with TLS whose files were read before, and a state that
    /// other threads share.
    ///
    /// # Errors
    /// If threads cannot be started. No socket listens then.
    pub fn start_monitored<E: Engine>(
        listeners: Listeners,
        config: &Config,
        tls: Option<Arc<TlsContext>>,
        engine: Arc<E>,
        monitor: Arc<Monitor>,
    ) -> io::Result<Server> {
        let addresses =
            listeners
                .0
                .iter()
                .filter_map(|(_, opened)| match opened.as_ref().ok()?.local_addr() {
                    Ok(SocketAddr::V4(address)) => Some(address),
                    _ => None,
                });
        let addresses = addresses.collect();
        if !Numbers::of_process().allow_needed(threads::DESCRIPTORS) {
            return Err(NoFreeNumber.into());
        }
        let wanted = threads(config);
        let started = affordable(wanted);
        let pool = ThreadPool::start(started)?;
        if let Some(configured) = config.threads.filter(|_| started < wanted) {
            log_fewer_threads(configured, started);
        }
        let peer_log = Arc::new(PeerLog::new(Arc::clone(monitor.counts())));
        let active = config.active.as_ref();
        let shared = Arc::new(Shared {
            engine,
            access: AccessList::new(&config.requesters),
            slots: Arc::new(slots(config)),
            limits: Limits {
                queries: config.max_queries as usize,
                idle_time: config.idle_time,
                active_idle_time: active
                    .map_or(ACTIVE_LQ_IDLE_TIMEOUT, |active| active.idle_timeout),
                active_send_time: active
                    .map_or(ACTIVE_LQ_SEND_TIMEOUT, |active| active.send_timeout),
            },
            peer_log: Arc::clone(&peer_log),
            monitor: Arc::clone(&monitor),
            threads: pool.threads.clone(),
            tls,
        });
        let summarising = summarise(Arc::clone(&peer_log), shared.tls.clone());
        let spawned = pool
            .threads
            .spawn(|stop| Ok(until_stopped(stop, summarising)));
        if let Err(error) = spawned {
            pool.stop(&Stop::now("the server cannot start"));
            return Err(error);
        }
        for (address, opened) in listeners.0 {
            // Logged here, not on the listener's thread: Kea may lose messages of other threads
            // while it is being configured.
            match &opened {
                Ok(socket) => listener::log_listening(socket),
                Err(error) => {
                    listener::log_failure(error);
                    monitor.set_listener(address, Some(error.to_string()));
                }
            }
            let shared = Arc::clone(&shared);
            let listening = listener::listen(address, opened, shared);
            let listen = |stop| Ok(until_stopped(stop, listening));
            let spawned = pool.threads.spawn(listen);
            if let Err(error) = spawned {
                pool.stop(&Stop::now("the server cannot start"));
                return Err(error);
            }
        }
        Ok(Server {
            pool: Some(pool),
            addresses,
            peer_log,
            monitor,
        })
    }

    /// Returns the addresses with a listening socket from the start, in the order of the
    /// configuration.
    pub fn local_addresses(&self) -> &[SocketAddrV4] {
        &self.addresses
    }

    /// Returns the counters of refused connections and queries.
    pub fn counts(&self) -> &Counts {
        self.peer_log.counts()
    }

    /// Returns the state for other threads.
    pub fn monitor(&self) -> &Arc<Monitor> {
        &self.monitor
    }

    /// Ends every query in progress with QueryTerminated and `reason` (RFC 6926 section 8.5),
    /// closes all connections gracefully, and joins the threads. Takes little more than a second,
    /// even if requesters are slow.
    pub fn stop(mut self, reason: &str) {
        self.end(reason);
    }

    /// Stops the server, unless it has stopped.
    fn end(&mut self, reason: &str) {
        let Some(pool) = self.pool.take() else {
            return;
        };
        pool.stop(&Stop::now(reason));
        tracing::info!(id = "BLQ_STOPPED", "stopped listening: {reason}");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end("the server ends");
    }
}

/// Logs the numbers of omitted messages, and each day the files of TLS that will soon be useless, forever.
async fn summarise(peer_log: Arc<PeerLog>, tls: Option<Arc<TlsContext>>) {
    let mut warned = Instant::now();
    loop {
        sleep(throttle::INTERVAL).await;
        peer_log.summarise();
        if warned.elapsed() >= WARNING_INTERVAL {
            warned = Instant::now();
            if let Some(tls) = &tls {
                tls.report().log_warnings();
            }
        }
    }
}

/// Returns the number of threads: at most that of connections, since each connection is on one
/// thread.
fn threads(config: &Config) -> usize {
    let wanted = match config.threads {
        Some(threads) => threads as usize,
        None => std::thread::available_parallelism()
            .map_or(1, |processors| processors.get().min(MAX_CHOSEN_THREADS)),
    };
    let connections = config
        .max_connections
        .saturating_add(active_connections(config));
    wanted.clamp(1, connections.max(1) as usize)
}

/// Returns the limit of active connections.
fn active_connections(config: &Config) -> u32 {
    config
        .active
        .as_ref()
        .map_or(0, |active| active.max_connections)
}

/// Returns the number of threads, up to `wanted`, that leaves enough descriptors for connections.
fn affordable(wanted: usize) -> usize {
    // The descriptors of an event loop cannot be moved to high numbers.
    let most = Numbers::of_process().free_low() / THREADS_SHARE / threads::DESCRIPTORS;
    usize::try_from(most).map_or(wanted, |most| wanted.min(most.max(1)))
}

/// Logs that fewer threads than configured are started.
fn log_fewer_threads(configured: u32, started: usize) {
    tracing::warn!(
        id = "BLQ_DESCRIPTORS_SHORT",
        "parameter 'advanced.max-bulk-query-threads' is {configured}, but {started} threads are started: each \
         takes {} descriptors with numbers below {}, of which Kea and connections need some, too, and the \
         process may have {} descriptors open",
        threads::DESCRIPTORS,
        descriptors::FIRST_HIGH,
        Numbers::of_process()
    );
}

/// Returns slots for the configured connections, or for fewer if there are not enough descriptors.
fn slots(config: &Config) -> Slots {
    let numbers = Numbers::of_process();
    let configured = config.max_connections;
    // The listener needs a descriptor for each connection that it refuses.
    let free = numbers
        .free()
        .saturating_sub(config.listen_addresses.len() as u64);
    let active = active_connections(config);
    let slots = Slots::within(configured, active, free);
    let warn = |parameter: &str, configured: u32, cap: u32| {
        let reserve = numbers.reserve();
        // As many connections may be closing as may be open.
        let enough = descriptors::FIRST_HIGH as u64
            + 2 * (u64::from(config.max_connections) + u64::from(active));
        tracing::warn!(
            id = "BLQ_DESCRIPTORS_SHORT",
            "parameter '{parameter}' is {configured}, but at most {cap} are served at once: the process may \
             have {numbers} descriptors open (RLIMIT_NOFILE, LimitNOFILE in a unit of systemd), {free} of \
             them are free for connections, and {reserve} are kept free for Kea; a limit of {enough} would do"
        );
    };
    if let Some(cap) = slots.cap() {
        warn("advanced.max-requester-connections", configured, cap);
    }
    if let Some(cap) = slots.active_cap() {
        warn("advanced.max-active-connections", active, cap);
    }
    slots
}
