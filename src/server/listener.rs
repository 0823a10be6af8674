//! Listening sockets: accepting and admitting connections.

use std::future::poll_fn;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::{Domain, Protocol, SockRef, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep};
use tracing::Instrument;

use crate::query::{Engine, Requester, Security};
use crate::server::access::AccessList;
use crate::server::carrier::Carrier;
use crate::server::connection::{Connection, Limits};
use crate::server::descriptors::{NoFreeNumber, Placement};
use crate::server::errors::ListenError;
use crate::server::monitor::Monitor;
use crate::server::peer_log::PeerLog;
use crate::server::slots::Slots;
use crate::server::threads::Threads;
use crate::server::tls::context::{TlsContext, TlsOffer};
use crate::server::tls::negotiation::Policy;
use crate::server::transport::serve;

/// Maximum number of connections that wait to be accepted. A requester opens many at once after its
/// restart; those above the connection limit are closed only once accepted.
const BACKLOG: i32 = 1024;

/// Pause after an error of accept. The most frequent cause, a lack of descriptors, persists.
const BACK_OFF: Duration = Duration::from_millis(100);

/// Time between attempts to listen on an address: an interface that appears late, or another
/// process that is about to end, takes some seconds.
pub const RETRY: Duration = Duration::from_secs(2);

/// Limit of unsent octets in the kernel's send buffer (TCP_NOTSENT_LOWAT), which may exceed it by
/// one segment of 64 KiB. Without it, a requester that does not read would occupy several
/// megabytes, and a small answer would be delayed. With the octets in flight, 64 KiB keep the
/// connection busy.
const UNSENT: u32 = 64 * 1024;

/// Opens a listening socket on `address`.
pub fn bind(address: SocketAddrV4) -> Result<std::net::TcpListener, ListenError> {
    let open = || {
        let socket = socket2::Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
        let socket = Placement::find(&socket)?.take(socket)?;
        // Connections of a server that was just stopped may be in TIME_WAIT. Unlike SO_REUSEPORT,
        // this option still refuses a second listening socket.
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        Ok(socket.into())
    };
    open().map_err(|cause| ListenError { address, cause })
}

/// A connection just accepted.
pub struct Accepted<S> {
    /// The socket.
    pub socket: S,
    /// The requester's address and port.
    pub peer: SocketAddrV4,
    /// The local address.
    pub local: Ipv4Addr,
}

/// A source of connections.
pub trait Acceptor: Send + 'static {
    /// The socket of a connection, outside of any event loop.
    type Socket: Send + 'static;
    /// The socket in an event loop.
    type Stream: Carrier + Send + 'static;

    /// Waits for the next connection. Dropping the future loses no connection.
    fn accept(&mut self) -> impl Future<Output = io::Result<Accepted<Self::Socket>>> + Send;

    /// Registers a socket with the event loop of this thread.
    fn open(socket: Self::Socket) -> io::Result<Self::Stream>;

    /// Whether a connection is waiting to be accepted.
    fn is_awaited(&self) -> bool;
}

impl Acceptor for TcpListener {
    type Socket = std::net::TcpStream;
    type Stream = TcpStream;

    async fn accept(&mut self) -> io::Result<Accepted<std::net::TcpStream>> {
        let (socket, peer) = poll_fn(|context| accept_outside_of_reserve(self, context)).await?;
        let (SocketAddr::V4(peer), SocketAddr::V4(local)) = (peer, socket.local_addr()?) else {
            return Err(io::ErrorKind::ConnectionAborted.into());
        };
        // Both options are optimisations, and fail only if the connection is already closed, which
        // the first read detects.
        let options = SockRef::from(&socket);
        let _ = options.set_tcp_nodelay(true);
        let _ = options.set_tcp_notsent_lowat(UNSENT);
        Ok(Accepted {
            peer,
            local: *local.ip(),
            socket,
        })
    }

    fn open(socket: std::net::TcpStream) -> io::Result<TcpStream> {
        TcpStream::from_std(socket)
    }

    fn is_awaited(&self) -> bool {
        let mut listener = [PollFd::new(self, PollFlags::IN)];
        poll(&mut listener, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
    }
}

/// Accepts a connection if one is waiting and a descriptor outside of Kea's reserve is free;
/// otherwise the connection stays in the backlog. The socket is not registered with an event loop,
/// so that any thread may serve it.
fn accept_outside_of_reserve(
    listener: &TcpListener,
    context: &mut Context<'_>,
) -> Poll<io::Result<(std::net::TcpStream, SocketAddr)>> {
    let placement = Placement::find(listener)?;
    let (socket, peer) = ready!(listener.poll_accept(context))?;
    let socket = placement.take(socket.into_std()?)?;
    Poll::Ready(Ok((socket, peer)))
}

/// The state that all connections of a server share.
pub struct Shared<E: Engine> {
    /// The engine that answers the queries.
    pub engine: Arc<E>,
    /// The permitted requesters.
    pub access: AccessList,
    /// Limits of open connections.
    pub slots: Arc<Slots>,
    /// Limits of one connection.
    pub limits: Limits,
    /// The log of refused connections and queries.
    pub peer_log: Arc<PeerLog>,
    /// The state for other threads.
    pub monitor: Arc<Monitor>,
    /// The threads that serve connections.
    pub threads: Threads,
    /// TLS, unless it is off.
    pub tls: Option<Arc<TlsContext>>,
}

/// Logs the address of a listening socket.
pub fn log_listening(socket: &std::net::TcpListener) {
    // With port 0 the system chooses the port.
    if let Ok(address) = socket.local_addr() {
        tracing::info!(
            id = "BLQ_LISTENING",
            "listening on TCP {} port {}",
            address.ip(),
            address.port()
        );
    }
}

/// Logs that listening on an address failed.
pub fn log_failure(error: &ListenError) {
    tracing::error!(
        id = "BLQ_LISTEN_FAILED",
        "{error}; the hook tries again every {} s; DHCP service continues",
        RETRY.as_secs()
    );
}

/// Listens on `address`, on the socket opened for it. Without a socket, tries to open one every
/// [`RETRY`]. The caller has logged the outcome of the first attempt.
pub async fn listen<E: Engine>(
    address: SocketAddrV4,
    mut opened: Result<std::net::TcpListener, ListenError>,
    shared: Arc<Shared<E>>,
) {
    // An error is logged again only if its cause changes.
    let mut logged = opened.as_ref().err().map(ToString::to_string);
    loop {
        let entered = opened.and_then(|socket| {
            TcpListener::from_std(socket).map_err(|cause| ListenError { address, cause })
        });
        match entered {
            Ok(acceptor) => {
                // With port 0 the system chooses the port.
                let bound = match acceptor.local_addr() {
                    Ok(SocketAddr::V4(bound)) => bound,
                    _ => address,
                };
                shared.monitor.set_listener(bound, None);
                return accept(acceptor, shared).await;
            }
            Err(error) => {
                let text = Some(error.to_string());
                shared.monitor.set_listener(address, text.clone());
                if text != logged {
                    log_failure(&error);
                    logged = text;
                }
            }
        }
        sleep(RETRY).await;
        opened = bind(address).inspect(log_listening);
    }
}

/// Accepts connections.
pub async fn accept<A: Acceptor, E: Engine>(mut acceptor: A, shared: Arc<Shared<E>>) {
    loop {
        match acceptor.accept().await {
            Ok(accepted) => admit::<A, E>(accepted, &shared).await,
            // The requester closed the connection before its acceptance.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                if !NoFreeNumber::is_cause_of(&error) {
                    shared.peer_log.accept_failed(&error);
                } else if acceptor.is_awaited() {
                    shared.peer_log.paused(&error);
                }
                sleep(BACK_OFF).await;
            }
        }
    }
}

/// Serves a connection if its requester is permitted and a slot is free; otherwise closes it
/// immediately (RFC 6926 section 8.1).
async fn admit<A: Acceptor, E: Engine>(accepted: Accepted<A::Socket>, shared: &Arc<Shared<E>>) {
    let Accepted {
        socket,
        peer: from,
        local,
    } = accepted;
    let peer = *from.ip();
    let Some(entry) = shared.access.find(peer) else {
        shared.peer_log.refused(peer);
        return;
    };
    let mut slot = shared.slots.take_from(peer, entry);
    if slot.is_err() {
        // A requester may close a connection and immediately open another: other connections get
        // time to detect their close.
        shared.threads.poll_all().await;
        slot = shared.slots.take_from(peer, entry);
    }
    let slot = match slot {
        Ok(slot) => slot,
        Err(full) => {
            shared.peer_log.full(peer, full);
            return;
        }
    };
    let span = tracing::info_span!("connection", %peer);
    span.in_scope(|| tracing::debug!(id = "BLQ_CONNECTION_OPENED", "connection to {local} opened"));
    let requester = Requester {
        peer,
        local,
        allowed: entry.query_types,
        security: Security::Plain,
    };
    let connection = Connection::new(
        Arc::clone(&shared.engine),
        requester,
        shared.limits,
        Arc::clone(&shared.peer_log),
        Instant::now().into_std(),
    );
    let offer = shared.tls.as_ref().map(|tls| tls.offer(entry.prefix));
    let policy = offer.as_ref().map_or(Policy::Off, TlsOffer::policy);
    let connection = connection.with_tls(policy);
    let open = shared.monitor.open(from, local, connection.activity());
    shared.peer_log.accepted();
    let spawned = shared.threads.spawn(|stop| {
        let stream = A::open(socket)?;
        let serving = async move {
            // Dropped with the connection.
            let _open = open;
            serve(stream, connection, slot, stop, offer).await;
        };
        Ok(serving.instrument(span))
    });
    if let Err(error) = spawned {
        shared.peer_log.accept_failed(&error);
    }
}

#[cfg(test)]
mod tests;
