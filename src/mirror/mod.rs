//! The mirror: all bindings of Kea, with the information about them that Kea does not store.
//!
//! - [`event`]: the events that change the tables.
//! - [`queue`], [`apply_worker`]: the event queue and the apply worker, between Kea's threads and the tables.
//! - `apply`: applies an event to the tables.
//! - `rules`: pure functions that compute a binding from the previous one and an event.
//! - `table`: bindings by address, and their indexes: [`index`].
//! - `pages`: storage of bindings by address: a `radix` table of `page`s, which consist of `slot`s; a `bitset`
//!   marks the used ones.
//! - [`group`]: hashes of relay-ids and remote-ids, by which a page sorts its slots, and a search leaves out bindings.
//! - `changes`: the log of changed addresses.
//! - [`dirty_set`]: changes that are not on disk.
//! - [`view`], [`ranges`], `former_subnets`: the configuration seen by queries, with times of change; [`saved_view`]:
//!   the same in the state file.
//! - `visible`: the parts of a binding that requesters see, and their differences.
//! - `cursor`: scans over bindings, ascending by address, in parts.
//! - [`follower`]: positions of active requesters in the changes; `audience`: their number and notification.
//! - [`history`]: the times from which on all changes are known.
//! - `census`: counts of all bindings, for the administrator.
//! - `recorder`: the interface to the record of dirty changes, which survives a kill of the process.
//! - `resync`: comparison with Kea's lease database, which finds changes that no event reported.
//! - `bootstrap`: the initial load, from the state file or a hand-over, and Kea's leases.
//! - `readiness`: whether the tables may be read.
//! - `shared`: the mirror itself: tables behind a lock, the event queue, the resync state.

pub mod apply_worker;
pub mod dirty_set;
pub mod event;
pub mod follower;
pub mod group;
pub mod history;
pub mod index;
pub mod queue;
pub mod ranges;
pub mod saved_view;
pub mod view;

mod apply;
mod audience;
mod bitset;
mod bootstrap;
mod census;
mod changes;
mod cursor;
mod former_subnets;
mod page;
mod pages;
mod radix;
mod readiness;
mod recorder;
mod resync;
mod rules;
mod shared;
mod slot;
mod table;
mod visible;

pub use bootstrap::{InitialLoad, LoadWorker, Prepared, Saved};
pub use census::{Census, VpnCount, is_of_message};
pub use cursor::{Cursor, Entry, Part, Run};
pub use index::Identity;
pub use page::Found;
pub use readiness::{Failure, Unready};
pub use recorder::ChangeRecorder;
pub use shared::{Mirror, NotNow};
pub use table::Table;
