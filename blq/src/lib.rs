//! A DHCPv4 Bulk and Active Leasequery (RFC 6926, RFC 7724) requester.
//!
//! A [`Connection`] sends a [`Query`] and returns each [`Reply`] as it arrives: a [`Binding`] for
//! each address, and a [`Done`] at the end.
//!
//! - [`wire`]: messages, options and framing, written independently of any server.
//! - [`query`]: the DHCPBULKLEASEQUERY.
//! - [`binding`]: the contents of replies.
//! - [`client`]: the connection and the rules of RFC 6926 section 7.
//! - [`next_start`]: the start of a query for the changes since an answer.
//! - [`active`]: the changes of bindings as they happen, by Active Leasequery (RFC 7724).
//! - [`watch`]: a copy kept current over lost connections, by bulk and active queries.
//! - [`tls`]: TLS on connections.
//! - [`udp`]: one query and its reply over UDP (RFC 4388).
//! - [`text`]: escapes for text from servers.
//! - [`cli`]: the command line of the program `blq`.
//!
//! ```no_run
//! use blq::{Connection, Primary, Query, Timeouts};
//!
//! let mut connection = Connection::open(("192.0.2.1", 67), &Timeouts::default())?;
//! let answer = connection.query(&Query::new(Primary::RemoteId(b"line-7".to_vec())));
//! let done = answer.done?;
//! assert_eq!(done.failure(), None);
//! for binding in &answer.bindings {
//!     println!("{} {:?}", binding.address, binding.state);
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod active;
pub mod binding;
pub mod cli;
pub mod client;
pub mod next_start;
pub mod query;
pub mod status;
pub mod text;
pub mod tls;
mod transport;
pub mod udp;
pub mod watch;
pub mod wire;

pub use active::{ActiveQuery, ActiveReply, ActiveStream, Report};
pub use binding::{Binding, Done, MalformedReply, RelayAgentInformation, Reply, Status};
pub use client::{Answer, Connection, Error, Timeouts};
pub use next_start::NextStart;
pub use query::{InvalidQuery, Primary, Query};
pub use tls::{Tls, TlsFiles};
pub use watch::Watch;
pub use wire::{DecodeError, HEADER_LENGTH, Message, MessageType, State, StatusCode, TooLong, Vss};

// The example of the README is compiled with the other examples.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}
