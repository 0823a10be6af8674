//! The mirror: every binding Kea has, with the facts that Kea does not keep.
//!
//! - [`event`]: the lease events that Kea reports.
//! - [`queue`], [`worker`]: events on their way from Kea's threads to the tables.
//! - `apply`: applies an event to the tables.
//! - `rules`: the pure rules by which an event makes one binding of another.
//! - `table`: bindings by address, and their `indexes`.
//! - `pages`: bindings by address: a `radix` table of `page`s, which consist of `slot`s; `bitset` tells which are used.
//! - `changes`: the log of changed addresses, which the consumers of changes read.
//! - [`dirty_set`]: the changes not on disk.
//! - [`view`], [`ranges`], `former_subnets`: the configuration as queries see it, and since when.
//! - `visible`: the parts of a binding that requesters see, and how they differ between two moments.
//! - `cursor`: bindings in the order of their addresses, a part at a time.
//! - `resync`: differences that no event reported, by a comparison with Kea's lease database.
//! - `bootstrap`: the initial load, from saved bindings or a handed-over mirror, and Kea's leases.
//! - `readiness`: whether the tables may be read yet, or still.
//! - `shared`: the mirror itself, behind its lock.

pub mod dirty_set;
pub mod event;
pub mod index;
pub mod queue;
pub mod ranges;
pub mod view;
pub mod worker;

mod apply;
mod bitset;
mod bootstrap;
mod changes;
mod cursor;
mod former_subnets;
mod indexes;
mod page;
mod pages;
mod radix;
mod readiness;
mod resync;
mod rules;
mod shared;
mod slot;
mod table;
mod visible;

pub use bootstrap::{InitialLoad, LoadWorker, Prepared, Saved};
pub use cursor::{Cursor, Entry, Part, Run};
pub use indexes::Identity;
pub use page::{Found, Kind};
pub use readiness::{Failure, Unready};
pub use shared::Mirror;
pub use table::Table;
