//! Jobs that run in slices on Kea's main loop.

pub mod initial_load;
pub mod partner;
pub mod resync;

#[cfg(all(feature = "hook", not(test)))]
pub(crate) mod reservations;
