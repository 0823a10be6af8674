//! The indexes of the table: bindings by identity and by time.

pub mod identity;
pub mod time_set;

pub(in crate::mirror) mod time;
