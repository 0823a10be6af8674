//! The facts of the mirror that Kea does not keep, on disk.
//!
//! - [`flush_worker`]: the thread that writes changes.
//! - [`store`]: the state file in use.
//! - `preload`: the state file read before it is needed.
//! - `journal`: its layout: a header and checked frames, appended one by one.
//! - `transaction`: the contents of a frame.
//! - `scan`: the latest entry of each address.
//! - `compaction`: the file written anew when half of it is of no use any more.
//! - `recent`: the addresses that changed since it was last written, in a file beside it.
//! - `ownership`: a file of this library's, or another program's, before it is touched.
//! - `file`: files by name and by identity.

mod compaction;
mod error;
mod file;
pub mod flush_worker;
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
pub use recent::Recent;
pub use store::Store;
pub use transaction::Batch;
