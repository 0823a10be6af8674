//! Making a mirror: the initial load.

mod initial_load;
mod load_worker;

pub use initial_load::{Loading, Prepared, Saved};
pub use load_worker::Loader;
