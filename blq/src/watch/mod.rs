//! A copy of a server's bindings that is kept current, by Bulk and Active Leasequery (RFC 7724 section 7).
//!
//! A [`Watch`] iterates over [`Event`]s: first the bindings of a bulk query for all of them, then each
//! change as it happens, by an active query. Whoever keeps the last binding of each address, and of each
//! VPN if several are watched, has a copy of the server's bindings.
//!
//! - After a lost connection the next active query begins where the last one was known to be complete,
//!   so the server sends the missed changes: until the catch-up of a query is complete, that is the
//!   query-start-time of the lost one (RFC 7724 section 7.4.1).
//! - If the server lacks those changes (DataMissing), a bulk query on a second connection returns them,
//!   while the active one goes on.
//! - A server without Active Leasequery is queried for changes by bulk queries at an interval.
//! - Bindings may be repeated: the server sends them again, never too seldom.
//!
//! Layers: `rules` decides without sockets and clocks, `worker` runs a query on a connection in a thread
//! of its own, [`Watch`] has the threads and the clock.

mod event;
mod rules;
mod stop;
mod watcher;
mod worker;

pub use event::{Event, Failure};
pub use rules::Settings;
pub use stop::Stopper;
pub use watcher::{Connect, Watch};
