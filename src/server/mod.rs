//! The listener: connections, limits and access (RFC 6926 sections 6.1, 7.7, 8.1, 8.4, 8.5).
//!
//! ```text
//!  listener    accepts; checks access and slots      one task per listening address
//!     │
//!  transport   moves octets, closes gracefully       one task per connection, on one
//!     │                                              thread; any stream: TCP, TLS
//!  connection  frames, queries in turns, timers      no I/O, time passed in
//!     │
//!  Engine      reads and answers queries             the query module
//! ```
//!
//! - [`tcp_server`]: a running server: its listening sockets and threads.
//! - [`access`]: the permitted requesters and their query types.
//! - [`slots`]: limits of open connections.
//! - [`connection`]: one connection without its socket.
//! - [`stream`]: the state of a stream, the answer to an active query, on its connection.
//! - [`transport`]: a connection on a stream.
//! - [`listener`]: listening sockets.
//! - [`descriptors`]: placement of sockets among the descriptor numbers.
//! - [`threads`]: the threads and their event loops.
//! - [`stop`]: the stop signal.
//! - [`peer_log`]: messages about peers, and counters.
//! - [`carrier`]: the streams that carry connections.
//! - [`tls`]: DHCPTLS, certificates, the stream that TLS secures.
//! - [`udp`]: queries over UDP, which need no connection.
//! - `throttle`: the rate limits of these messages.
//! - [`monitor`]: the state of a running server, for other threads.
//!
//! The engine appends messages to the output of the connection, from which they are sent without a
//! copy. The memory of one connection is bounded: a query being received (64 KiB), a chunk of
//! output (127 KiB and a message; 60 KiB and a message of a stream), the kernel's unsent octets
//! (128 KiB), and `max-concurrent-queries` answers in progress. The limits and their defaults are
//! in [`crate::config`].

pub mod udp;

mod access;
mod carrier;
mod connection;
mod descriptors;
mod errors;
mod listener;
mod monitor;
mod peer_log;
mod slots;
mod stop;
mod stream;
mod tcp_server;
mod threads;
mod throttle;
mod tls;
mod transport;

pub use descriptors::FIRST_HIGH;
pub use errors::ListenError;
pub use monitor::{ConnectionState, ListenerState, Monitor};
pub use peer_log::{Counts, PeerLog, UdpCounts};
pub use tcp_server::{Listeners, Server};
pub use throttle::INTERVAL as SUMMARY_INTERVAL;
pub use tls::context::TlsContext;
pub use tls::files::TlsFileError;
pub use tls::peer::TlsPeer;
pub use tls::report::{End as TlsEnd, FileReport, TlsReport};

#[cfg(test)]
#[path = "../../tests/support/certificates.rs"]
pub(crate) mod certificates;
#[cfg(test)]
#[path = "../../tests/support/fake_engine.rs"]
mod fake_engine;
