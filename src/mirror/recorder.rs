//! The record of changes that are not on disk yet.

use std::fmt;

use crate::model::time::Time;

/// A record of the addresses that changed and are still dirty.
///
/// The mirror calls the methods with the tables locked: they must be fast.
pub trait ChangeRecorder: fmt::Debug + Send + Sync {
    /// Adds addresses, before any reader sees the change, and the latest transaction of a lease in Kea's
    /// lease database.
    fn record(&self, changed: &mut dyn Iterator<Item = u32>, latest: Option<Time>);

    /// Drops all addresses but these, the ones that are still dirty.
    fn retain(&self, dirty: &mut dyn Iterator<Item = u32>);
}
