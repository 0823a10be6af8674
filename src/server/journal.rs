//! What the server says in the log, seldom enough that no peer can fill it.

use std::fmt::Display;
use std::io;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// The least time between two messages of a kind that peers can provoke. Those in between
/// are counted, and the next one tells how many there were.
const INTERVAL: Duration = Duration::from_secs(60);

/// The log messages that peers can provoke, each kind rate-limited.
#[derive(Debug, Default)]
pub struct Journal {
    /// BLQ_REQUESTER_REFUSED
    refused: Throttle,
    /// BLQ_TOO_MANY_CONNECTIONS
    full: Throttle,
    /// BLQ_ACCEPT_FAILED
    accept: Throttle,
    /// BLQ_XID_IN_USE
    xid: Throttle,
}

impl Journal {
    /// A connection came from an address that is not permitted.
    pub fn refused(&self, peer: Ipv4Addr) {
        if let Some(more) = self.refused.admit(Instant::now()) {
            tracing::warn!(
                id = "BLQ_REQUESTER_REFUSED",
                "{peer} is not in 'requesters': connection closed{more}"
            );
        }
    }

    /// There was no room for a connection.
    pub fn full(&self, peer: Ipv4Addr, why: impl Display) {
        if let Some(more) = self.full.admit(Instant::now()) {
            tracing::warn!(
                id = "BLQ_TOO_MANY_CONNECTIONS",
                "connection from {peer} closed: {why}{more}"
            );
        }
    }

    /// No connection could be accepted.
    pub fn accept_failed(&self, error: &io::Error) {
        if let Some(more) = self.accept.admit(Instant::now()) {
            tracing::warn!(
                id = "BLQ_ACCEPT_FAILED",
                "connections cannot be accepted at the moment: {error}{more}"
            );
        }
    }

    /// A requester used the xid of a query in progress again.
    pub fn xid_in_use(&self, peer: Ipv4Addr, xid: u32) {
        if let Some(more) = self.xid.admit(Instant::now()) {
            tracing::warn!(
                id = "BLQ_XID_IN_USE",
                "{peer} sent two queries with xid {xid:#010x} at once, which RFC 6926 section \
                 7.7 forbids: connection closed{more}"
            );
        }
    }
}

/// Admits one message in each [`INTERVAL`].
#[derive(Debug, Default)]
struct Throttle {
    /// When the last message was admitted, and how many were not since.
    last: Mutex<Option<(Instant, u64)>>,
}

impl Throttle {
    /// Whether a message may be logged `now`; and what it has to add about those that were
    /// not.
    fn admit(&self, now: Instant) -> Option<String> {
        let mut last = self.last.lock();
        let omitted = match &mut *last {
            Some((at, omitted)) if now.saturating_duration_since(*at) < INTERVAL => {
                *omitted += 1;
                return None;
            }
            Some((_, omitted)) => *omitted,
            None => 0,
        };
        *last = Some((now, 0));
        Some(match omitted {
            0 => String::new(),
            omitted => format!(" ({omitted} more like this since the last message)"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn admits_one_message_in_each_interval_and_counts_the_others() {
        let throttle = Throttle::default();
        let start = Instant::now();
        assert_eq!(throttle.admit(start).as_deref(), Some(""));
        assert_eq!(throttle.admit(start), None);
        assert_eq!(throttle.admit(start + INTERVAL / 2), None);
        let text = throttle.admit(start + INTERVAL).unwrap();
        assert!(text.contains("2 more"), "{text}");
        assert_eq!(throttle.admit(start + INTERVAL * 2).as_deref(), Some(""));
    }
}
