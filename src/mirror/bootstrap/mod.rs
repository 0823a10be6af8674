//! The initial load of a mirror.

mod initial_load;
mod load_worker;

pub use initial_load::{InitialLoad, Prepared, Saved};
pub use load_worker::LoadWorker;
