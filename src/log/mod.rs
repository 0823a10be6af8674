//! The log: a subscriber that hands events to Kea's log, and the catalogue of messages.

pub mod catalogue;
pub mod subscriber;
