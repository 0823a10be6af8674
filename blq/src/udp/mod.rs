//! Leasequery over UDP (RFC 4388), also by Remote ID (RFC 6148): one query, one reply.
//!
//! A [`Requester`] sends a [`LeaseQuery`] until it has a [`Reply`]. Servers send replies to port 67 of
//! giaddr, the requester's address, so the requester needs that port.
//!
//! - [`LeaseQuery`]: the DHCPLEASEQUERY.
//! - [`Reply`]: a [`Binding`](crate::Binding), or a DHCPLEASEUNKNOWN; [`Ignored`], [`Violation`]: other
//!   datagrams.
//! - [`Retransmission`]: the delays between transmissions.
//! - [`Requester`]: the socket.
//!
//! ```no_run
//! use blq::udp::{Key, LeaseQuery, Reply, Requester, SERVER_PORT, TIMEOUT};
//!
//! let server = "192.0.2.1:67".parse()?;
//! let requester = Requester::open(server, None, SERVER_PORT)?;
//! let query = LeaseQuery::new(Key::Address("192.0.2.9".parse()?));
//! match requester.query(&query, TIMEOUT)? {
//!     Reply::Binding(binding) => println!("{:?}", binding),
//!     Reply::Unknown(_) => println!("the server does not manage the address"),
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod query;
mod reply;
mod requester;
mod retransmission;

pub use proto::port::SERVER as SERVER_PORT;
pub use query::{Key, LeaseQuery, MAX_REPLY};
pub use reply::{Ignored, Reply, Unknown, Violation};
pub use requester::{Error, Requester, Silence, TIMEOUT};
pub use retransmission::Retransmission;
