//! Log messages that peers can provoke, rate-limited, and counters of their causes.
//!
//! Messages about queries are logged in the spans of their connection, which has the peer, and of
//! their query, which has the xid. The rate is limited for each peer separately: a noisy peer
//! neither fills the log nor hides messages about others.

use std::collections::HashMap;
use std::fmt::Display;
use std::io;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use proto::StatusCode;

use crate::server::slots::Full;

/// Minimum time between two messages of a kind about one peer. Messages in between are counted, and
/// the next message has their number.
const INTERVAL: Duration = Duration::from_secs(60);

/// Number of peers with a separate rate limit, for each kind of message; all others share one
/// limit. It bounds the memory (some 40 KiB for each kind) and the log: at most one more message
/// than this number, of each kind and in each minute.
const MAX_PEERS: usize = 1024;

/// The log messages that peers can provoke, each kind rate-limited.
#[derive(Debug, Default)]
pub struct PeerLog {
    /// Counters of the causes.
    counts: Counts,
    /// Rate limits.
    throttle: Throttle,
}

/// Counters of refused connections and queries, since the server started.
#[derive(Debug, Default)]
pub struct Counts {
    /// Connections of peers that are not among the requesters.
    pub connections_refused: AtomicU64,
    /// Connections above a limit.
    pub connections_over_limit: AtomicU64,
    /// Queries answered with NotAllowed.
    pub queries_not_allowed: AtomicU64,
    /// Queries answered with MalformedQuery.
    pub queries_malformed: AtomicU64,
    /// Messages and partial messages that are not a query; each ended its connection.
    pub unanswerable: AtomicU64,
    /// Queries with the xid of a query in progress; each ended its connection.
    pub xids_in_use: AtomicU64,
}

/// Counts one more.
fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl PeerLog {
    /// Returns the counters.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Returns a note about omitted messages, often empty, if message `id` about `peer` may be logged now.
    fn admit(&self, id: &'static str, peer: impl Into<Option<Ipv4Addr>>) -> Option<String> {
        self.throttle.admit(id, peer.into(), Instant::now())
    }

    /// Logs a connection from an address that is not permitted.
    pub fn refused(&self, peer: Ipv4Addr) {
        count(&self.counts.connections_refused);
        let id = "BLQ_REQUESTER_REFUSED";
        if let Some(more) = self.admit(id, peer) {
            tracing::warn!(id, "{peer} is not in 'requesters': connection closed{more}");
        }
    }

    /// Logs a connection for which there is no slot.
    pub fn full(&self, peer: Ipv4Addr, full: Full) {
        count(&self.counts.connections_over_limit);
        let id = match full {
            Full::Server(_) => "BLQ_TOO_MANY_CONNECTIONS",
            Full::Requester(_) => "BLQ_REQUESTER_LIMIT",
            Full::Descriptors(_) => "BLQ_DESCRIPTOR_LIMIT",
        };
        if let Some(more) = self.admit(id, peer) {
            tracing::warn!(id, "connection from {peer} closed: {full}{more}");
        }
    }

    /// Logs that no connection could be accepted.
    pub fn accept_failed(&self, error: &io::Error) {
        let id = "BLQ_ACCEPT_FAILED";
        if let Some(more) = self.admit(id, None) {
            tracing::warn!(
                id,
                "connections cannot be accepted at the moment: {error}{more}"
            );
        }
    }

    /// Logs that connections are not accepted until a descriptor is free for them.
    pub fn paused(&self, why: impl Display) {
        let id = "BLQ_ACCEPT_PAUSED";
        if let Some(more) = self.admit(id, None) {
            tracing::warn!(
                id,
                "no more connections are accepted until others are closed: {why}{more}"
            );
        }
    }

    /// Logs a second query with the xid of a query in progress.
    pub fn xid_in_use(&self, peer: Ipv4Addr) {
        count(&self.counts.xids_in_use);
        let id = "BLQ_XID_IN_USE";
        if let Some(more) = self.admit(id, peer) {
            tracing::warn!(
                id,
                "two queries with the same xid at once, which RFC 6926 section 7.1 forbids: connection \
                 closed{more}"
            );
        }
    }

    /// Logs a query answered by a DHCPLEASEQUERYDONE with a status only.
    pub fn query_refused(&self, peer: Ipv4Addr, status: StatusCode, why: impl Display) {
        let (id, counter) = if status == StatusCode::NOT_ALLOWED {
            ("BLQ_QUERY_NOT_ALLOWED", &self.counts.queries_not_allowed)
        } else {
            ("BLQ_QUERY_MALFORMED", &self.counts.queries_malformed)
        };
        count(counter);
        if let Some(more) = self.admit(id, peer) {
            tracing::info!(id, "query answered with {status}: {why}{more}");
        }
    }

    /// Logs a message that cannot be answered, with an identifier of the cause.
    pub fn unanswerable(&self, peer: Ipv4Addr, id: &'static str, why: &str) {
        count(&self.counts.unanswerable);
        if let Some(more) = self.admit(id, peer) {
            tracing::info!(
                id,
                "message cannot be answered: {why}; connection closed{more}"
            );
        }
    }
}

/// Rate limits: one message of each identifier about each peer in an [`INTERVAL`].
#[derive(Debug, Default)]
struct Throttle {
    /// Limits by the identifier of the message.
    by_id: Mutex<HashMap<&'static str, Peers>>,
}

/// Rate limits of one identifier.
#[derive(Debug, Default)]
struct Peers {
    /// Limits of single peers, and of messages without a peer; len() <= MAX_PEERS
    own: HashMap<Option<Ipv4Addr>, Limit>,
    /// Limit of all others.
    shared: Limit,
}

impl Throttle {
    /// Returns a note about omitted messages, often empty, if message `id` about `peer` may be logged `now`.
    fn admit(&self, id: &'static str, peer: Option<Ipv4Addr>, now: Instant) -> Option<String> {
        let mut by_id = self.by_id.lock();
        let Peers { own, shared } = by_id.entry(id).or_default();
        if own.len() >= MAX_PEERS && !own.contains_key(&peer) {
            own.retain(|_, limit| limit.lasts(now));
            if own.len() >= MAX_PEERS {
                return shared.admit(now);
            }
        }
        own.entry(peer).or_default().admit(now)
    }
}

/// Rate limit of one message in an [`INTERVAL`].
#[derive(Debug, Default)]
struct Limit {
    /// Time of the last admitted message, and number of omitted ones since.
    last: Option<(Instant, u64)>,
}

impl Limit {
    /// Whether the interval after the last message has not ended.
    fn lasts(&self, now: Instant) -> bool {
        self.last
            .is_some_and(|(at, _)| now.saturating_duration_since(at) < INTERVAL)
    }

    /// Returns a note about omitted messages, often empty, if a message may be logged `now`.
    fn admit(&mut self, now: Instant) -> Option<String> {
        let lasts = self.lasts(now);
        let omitted = match &mut self.last {
            Some((_, omitted)) if lasts => {
                *omitted += 1;
                return None;
            }
            Some((_, omitted)) => *omitted,
            None => 0,
        };
        self.last = Some((now, 0));
        Some(match omitted {
            0 => String::new(),
            omitted => format!(" ({omitted} more like this since the last message)"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

    #[test]
    fn admits_one_message_in_each_interval_and_counts_the_others() {
        let throttle = Throttle::default();
        let start = Instant::now();
        let admit = |now| throttle.admit("a", Some(PEER), now);
        assert_eq!(admit(start).as_deref(), Some(""));
        assert_eq!(admit(start), None);
        assert_eq!(admit(start + INTERVAL / 2), None);
        let text = admit(start + INTERVAL).unwrap();
        assert!(text.contains("2 more"), "{text}");
        assert_eq!(admit(start + INTERVAL * 2).as_deref(), Some(""));
    }

    #[test]
    fn neither_a_peer_nor_a_message_hides_another() {
        let throttle = Throttle::default();
        let start = Instant::now();
        let scanner = Ipv4Addr::new(198, 51, 100, 1);
        for _ in 0..1_000 {
            throttle.admit("a", Some(scanner), start);
        }
        for id in ["a", "b"] {
            assert_eq!(throttle.admit(id, Some(PEER), start).as_deref(), Some(""));
            assert_eq!(throttle.admit(id, Some(PEER), start), None);
        }
    }

    #[test]
    fn knows_a_bounded_number_of_peers_and_admits_few_messages_about_the_others() {
        let throttle = Throttle::default();
        let start = Instant::now();
        let sweep = |now| {
            let peers = (0..5_000).map(|number| Ipv4Addr::from_bits(0x0a00_0000 + number));
            peers
                .filter_map(|peer| throttle.admit("a", Some(peer), now))
                .count()
        };
        assert_eq!(sweep(start), MAX_PEERS + 1);
        assert_eq!(sweep(start + INTERVAL / 2), 0);
        assert!(throttle.by_id.lock()["a"].own.len() <= MAX_PEERS);
        // Peers whose interval has ended are dropped.
        assert_eq!(
            throttle.admit("a", Some(PEER), start + INTERVAL).as_deref(),
            Some("")
        );
        assert!(throttle.by_id.lock()["a"].own.len() <= MAX_PEERS);
    }
}
