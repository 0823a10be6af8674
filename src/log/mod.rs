//! The log: a subscriber that passes events to Kea's log, and the catalogue of messages.

pub mod catalogue;
pub mod subscriber;
