//! The listener: connections, limits and access (RFC 6926 sections 6.1, 7.7, 8.1, 8.4, 8.5).
//!
//! ```text
//!  listener    accepts, asks access and slots        one task per listening address
//!     │
//!  transport   moves octets, closes gracefully       one task per connection, on one
//!     │                                              thread; any stream: plain TCP today
//!  connection  frames, queries in turns, timers      no I/O, time passed in
//!     │
//!  Engine      what the queries mean                 the query module
//! ```
//!
//! - [`access`]: who may connect, and what they may ask.
//! - [`slots`]: how many connections there may be.
//! - [`connection`]: one connection without its socket.
//! - [`transport`]: a connection on a stream.
//! - [`listener`]: listening sockets.
//! - [`descriptors`]: the descriptors they may take.
//! - [`threads`]: where all this runs.
//! - [`peer_log`]: messages about peers, and counters.
//!
//! Messages are written by the engine at the end of the connection's output and sent from
//! there as they are. What one connection can cost is bounded: a query being received
//! (64 KiB), a chunk of output (127 KiB and a message), what the system holds to be sent (128 KiB),
//! and `max-concurrent-queries` answers in progress. The limits and their defaults are in [`crate::config`].

mod access;
mod connection;
mod descriptors;
mod errors;
mod listener;
mod peer_log;
mod slots;
mod stop;
mod tcp_server;
mod threads;
mod transport;

pub use descriptors::FIRST_HIGH;
pub use errors::{ListenError, StartError};
pub use peer_log::Counts;
pub use tcp_server::{Listeners, Server};

#[cfg(test)]
#[path = "../../tests/support/fake_engine.rs"]
mod fake_engine;
