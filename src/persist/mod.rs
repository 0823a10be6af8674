//! Persistence of the facts about bindings that Kea does not keep.
//!
//! - [`flush_worker`]: the thread that writes the dirty set.
//! - [`store`]: the state file in use: opened, written, compacted, recovered.
//! - `preload`: reads the state file in advance, while Kea starts.
//! - `journal`: the layout of the file: a header and checksummed frames, appended one by one.
//! - `transaction`: the contents of a frame.
//! - `scan`: finds the latest entry of each address.
//! - `compaction`: rewrites the file when more than half of it is obsolete entries.
//! - `recent`: the addresses that changed since the last flush, in a second file.
//! - `ownership`: distinguishes this library's files from those of other programs.
//! - [`health`]: the result of the last flush, for other threads.
//! - `file`: files by name and by identity.

mod compaction;
mod error;
mod file;
pub mod flush_worker;
pub mod health;
mod journal;
mod ownership;
mod preload;
mod recent;
mod scan;
pub mod store;
#[cfg(test)]
mod tests;
mod transaction;

pub use error::StoreError;
pub use preload::Preload;
pub use recent::RecentFile;
pub use store::Store;
pub use transaction::Batch;
