//! The state of a running server, for other threads: listening addresses, open connections, counters.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::model::time::Time;
use crate::server::peer_log::Counts;
use crate::server::tls::peer::TlsPeer;

/// The state of a server. Its locks are held for the time of a look-up, or of a copy of the open connections, of
/// which there are few.
#[derive(Debug, Default)]
pub struct Monitor {
    /// The counters.
    counts: Arc<Counts>,
    /// The addresses to listen on, each with the error if it is not listened on.
    listeners: Mutex<BTreeMap<SocketAddrV4, Option<String>>>,
    /// The open connections.
    connections: Mutex<Connections>,
}

/// Open connections, in the order of their acceptance.
#[derive(Debug, Default)]
struct Connections {
    /// The number of the next connection.
    next: u64,
    /// The connections by number.
    open: BTreeMap<u64, Open>,
}

/// An open connection.
#[derive(Clone, Debug)]
struct Open {
    /// The requester's address and port.
    peer: SocketAddrV4,
    /// The server's address.
    local: Ipv4Addr,
    /// The time of the acceptance.
    since: Time,
    /// The progress.
    activity: Arc<Activity>,
}

/// The progress of a connection, which its thread publishes.
#[derive(Debug)]
pub struct Activity {
    /// Queries in progress.
    queries: AtomicUsize,
    /// Messages handed to the network.
    messages: AtomicU64,
    /// Octets handed to the network.
    octets: AtomicU64,
    /// The start of the time in which no octet of the output was sent, if there is an output.
    blocked_since: Mutex<Option<Instant>>,
    /// Whether the connection has an active query, or had one.
    is_active: AtomicBool,
    /// Whether the connection is to be ended.
    ending: watch::Sender<bool>,
    /// The requester as TLS knows it; `None` without TLS.
    tls: Mutex<Option<TlsPeer>>,
}

impl Default for Activity {
    fn default() -> Activity {
        Activity {
            queries: AtomicUsize::default(),
            messages: AtomicU64::default(),
            octets: AtomicU64::default(),
            blocked_since: Mutex::default(),
            is_active: AtomicBool::default(),
            ending: watch::Sender::new(false),
            tls: Mutex::default(),
        }
    }
}

impl Activity {
    /// Sets the number of queries in progress, and the time since when the connection is blocked.
    pub fn set(&self, queries: usize, blocked_since: Option<Instant>) {
        self.queries.store(queries, Ordering::Relaxed);
        *self.blocked_since.lock() = blocked_since;
    }

    /// Records that the connection has an active query.
    pub fn set_active(&self) {
        self.is_active.store(true, Ordering::Relaxed);
    }

    /// Adds messages and octets that were handed to the network.
    pub fn add_sent(&self, messages: u64, octets: u64) {
        self.messages.fetch_add(messages, Ordering::Relaxed);
        self.octets.fetch_add(octets, Ordering::Relaxed);
    }

    /// Records that the connection is secured by TLS.
    pub fn set_tls(&self, peer: TlsPeer) {
        *self.tls.lock() = Some(peer);
    }

    /// Waits until the connection is to be ended: see [`Monitor::disconnect`].
    pub async fn ending(&self) {
        let mut ending = self.ending.subscribe();
        if ending.wait_for(|is_ending| *is_ending).await.is_err() {
            // Not while `self` exists.
            std::future::pending().await
        }
    }
}

/// A listening address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerState {
    /// The address and port.
    pub address: SocketAddrV4,
    /// The error, while it is not listened on.
    pub error: Option<String>,
}

/// An open connection as of a moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionState {
    /// The requester's address and port.
    pub peer: SocketAddrV4,
    /// The server's address.
    pub local: Ipv4Addr,
    /// The time of the acceptance.
    pub since: Time,
    /// Whether the connection has an active query (RFC 7724), or had one.
    pub is_active: bool,
    /// Queries in progress.
    pub queries: usize,
    /// Messages handed to the network.
    pub messages: u64,
    /// Octets handed to the network.
    pub octets: u64,
    /// Seconds since an octet of the output was sent; `None` without any output.
    pub blocked_for: Option<u64>,
    /// The requester as TLS knows it; `None` without TLS.
    pub tls: Option<TlsPeer>,
}

impl Monitor {
    /// Creates a monitor that counts in `counts`.
    pub fn new(counts: Arc<Counts>) -> Monitor {
        Monitor {
            counts,
            ..Monitor::default()
        }
    }

    /// Returns the counters.
    pub fn counts(&self) -> &Arc<Counts> {
        &self.counts
    }

    //--- Listeners

    /// Records that an address is listened on, or why not.
    pub fn set_listener(&self, address: SocketAddrV4, error: Option<String>) {
        self.listeners.lock().insert(address, error);
    }

    /// Returns the addresses to listen on, ascending.
    pub fn listeners(&self) -> Vec<ListenerState> {
        let listeners = self.listeners.lock();
        let state = |(address, error): (&SocketAddrV4, &Option<String>)| ListenerState {
            address: *address,
            error: error.clone(),
        };
        listeners.iter().map(state).collect()
    }

    //--- Connections

    /// Records a connection until the result is dropped.
    pub fn open(
        self: &Arc<Self>,
        peer: SocketAddrV4,
        local: Ipv4Addr,
        activity: &Arc<Activity>,
    ) -> OpenConnection {
        let mut connections = self.connections.lock();
        let number = connections.next;
        connections.next += 1;
        let open = Open {
            peer,
            local,
            since: Time::now(),
            activity: Arc::clone(activity),
        };
        connections.open.insert(number, open);
        OpenConnection {
            monitor: Arc::clone(self),
            number,
        }
    }

    /// Returns the number of open connections.
    pub fn connection_count(&self) -> usize {
        self.connections.lock().open.len()
    }

    /// Returns the number of open connections with an active query.
    pub fn active_count(&self) -> usize {
        let connections = self.connections.lock();
        let is_active = |open: &&Open| open.activity.is_active.load(Ordering::Relaxed);
        connections.open.values().filter(is_active).count()
    }

    /// Returns the open connections, the oldest first.
    pub fn connections(&self) -> Vec<ConnectionState> {
        let open: Vec<Open> = self.connections.lock().open.values().cloned().collect();
        let now = Instant::now();
        let state = |open: Open| {
            let Activity {
                queries,
                messages,
                octets,
                blocked_since,
                is_active,
                tls,
                ..
            } = &*open.activity;
            let blocked_for = |since| now.saturating_duration_since(since).as_secs();
            ConnectionState {
                peer: open.peer,
                local: open.local,
                since: open.since,
                is_active: is_active.load(Ordering::Relaxed),
                queries: queries.load(Ordering::Relaxed),
                messages: messages.load(Ordering::Relaxed),
                octets: octets.load(Ordering::Relaxed),
                blocked_for: (*blocked_since.lock()).map(blocked_for),
                tls: tls.lock().clone(),
            }
        };
        open.into_iter().map(state).collect()
    }

    /// Ends the connections from an address, or the one from that port: their queries end with QueryTerminated.
    /// Returns their number.
    pub fn disconnect(&self, address: Ipv4Addr, port: Option<u16>) -> usize {
        let connections = self.connections.lock();
        let is_meant = |open: &&Open| {
            *open.peer.ip() == address && port.is_none_or(|port| open.peer.port() == port)
        };
        let meant = connections.open.values().filter(is_meant);
        meant
            .map(|open| open.activity.ending.send_replace(true))
            .filter(|was_ending| !was_ending)
            .count()
    }
}

/// The record of an open connection, removed on drop.
#[derive(Debug)]
pub struct OpenConnection {
    /// The monitor.
    monitor: Arc<Monitor>,
    /// The number.
    number: u64,
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.monitor.connections.lock().open.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
    const LOCAL: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 254);

    #[test]
    fn has_open_connections_until_they_close() {
        let monitor = Arc::new(Monitor::default());
        let activity = Arc::default();
        let first = monitor.open(SocketAddrV4::new(PEER, 1), LOCAL, &activity);
        let second = monitor.open(SocketAddrV4::new(PEER, 2), LOCAL, &Arc::default());
        activity.set(3, Some(Instant::now()));
        activity.add_sent(4, 500);
        assert_eq!(monitor.active_count(), 0);
        activity.set_active();
        assert_eq!(monitor.active_count(), 1);
        let open = monitor.connections();
        assert_eq!(open.len(), 2);
        assert_eq!(open[0].peer.port(), 1);
        assert_eq!(
            (open[0].queries, open[0].messages, open[0].octets),
            (3, 4, 500)
        );
        assert_eq!((open[0].is_active, open[1].is_active), (true, false));
        assert!(open[0].blocked_for.is_some());
        assert_eq!(open[1].blocked_for, None);
        drop(first);
        assert_eq!(monitor.connections()[0].peer.port(), 2);
        drop(second);
        assert_eq!(monitor.connection_count(), 0);
    }

    #[test]
    fn ends_the_connections_of_a_peer_or_one_of_them_once() {
        let monitor = Arc::new(Monitor::default());
        let other = Ipv4Addr::new(192, 0, 2, 2);
        let peers = [(PEER, 1), (PEER, 2), (PEER, 3), (other, 1)];
        let activities: [Arc<Activity>; 4] = Default::default();
        let _open: Vec<OpenConnection> = peers
            .iter()
            .zip(&activities)
            .map(|((peer, port), activity)| {
                monitor.open(SocketAddrV4::new(*peer, *port), LOCAL, activity)
            })
            .collect();
        let ending = || {
            activities
                .each_ref()
                .map(|activity| *activity.ending.borrow())
        };
        assert_eq!(monitor.disconnect(PEER, Some(9)), 0);
        assert_eq!(monitor.disconnect(PEER, Some(2)), 1);
        assert_eq!(ending(), [false, true, false, false]);
        assert_eq!(monitor.disconnect(PEER, None), 2);
        assert_eq!(ending(), [true, true, true, false]);
        assert_eq!(monitor.disconnect(PEER, None), 0);
    }
}
