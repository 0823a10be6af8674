//! Log messages that peers can provoke, limited in rate, and counters of their causes.
//!
//! Messages about queries are logged in the span of their connection, which has the peer, and of their query, which has
//! the xid. Each peer has a rate limit of its own: a noisy peer neither fills the log nor hides the messages about others.

use std::collections::HashMap;
use std::fmt::Display;
use std::io;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use proto::StatusCode;

/// Shortest time between two messages of a kind about one peer. Messages in between are omitted and counted, and
/// the next one has their count.
const INTERVAL: Duration = Duration::from_secs(60);

/// Peers whose rate is limited apart, for each kind of message; all others share one limit. It bounds the memory
/// (some 40 KiB for each kind) and the log: at most so many messages and one more of a kind in a minute.
const MAX_PEERS: usize = 1024;

/// The log messages that peers can provoke, each kind rate-limited.
#[derive(Debug, Default)]
pub struct PeerLog {
    /// Counters of their causes.
    counts: Counts,
    /// BLQ_REQUESTER_REFUSED
    refused: Throttle,
    /// BLQ_TOO_MANY_CONNECTIONS
    full: Throttle,
    /// BLQ_XID_IN_USE
    xid: Throttle,
    /// BLQ_QUERY_NOT_ALLOWED
    not_allowed: Throttle,
    /// BLQ_QUERY_MALFORMED
    malformed: Throttle,
    /// BLQ_QUERY_UNANSWERABLE
    unanswerable: Throttle,
    /// BLQ_ACCEPT_FAILED
    accept: Mutex<Limit>,
    /// BLQ_ACCEPT_PAUSED
    pause: Mutex<Limit>,
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
    /// Messages and beginnings of messages that are no query; each ended its connection.
    pub unanswerable: AtomicU64,
    /// Queries with the xid of another one in progress; each ended its connection.
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

    /// A connection came from an address that is not permitted.
    pub fn refused(&self, peer: Ipv4Addr) {
        count(&self.counts.connections_refused);
        if let Some(more) = self.refused.admit(peer, Instant::now()) {
            tracing::warn!(
                id = "BLQ_REQUESTER_REFUSED",
                "{peer} is not in 'requesters': connection closed{more}"
            );
        }
    }

    /// There was no room for a connection.
    pub fn full(&self, peer: Ipv4Addr, why: impl Display) {
        count(&self.counts.connections_over_limit);
        if let Some(more) = self.full.admit(peer, Instant::now()) {
            tracing::warn!(
                id = "BLQ_TOO_MANY_CONNECTIONS",
                "connection from {peer} closed: {why}{more}"
            );
        }
    }

    /// No connection could be accepted.
    pub fn accept_failed(&self, error: &io::Error) {
        if let Some(more) = self.accept.lock().admit(Instant::now()) {
            tracing::warn!(
                id = "BLQ_ACCEPT_FAILED",
                "connections cannot be accepted at the moment: {error}{more}"
            );
        }
    }

    /// No connection is accepted until a descriptor is free for it.
    pub fn paused(&self, why: impl Display) {
        if let Some(more) = self.pause.lock().admit(Instant::now()) {
            tracing::warn!(
                id = "BLQ_ACCEPT_PAUSED",
                "no more connections are accepted until others are closed: {why}{more}"
            );
        }
    }

    /// A requester used the xid of a query in progress again.
    pub fn xid_in_use(&self, peer: Ipv4Addr) {
        count(&self.counts.xids_in_use);
        if let Some(more) = self.xid.admit(peer, Instant::now()) {
            tracing::warn!(
                id = "BLQ_XID_IN_USE",
                "two queries with the same xid at once, which RFC 6926 section 7.7 forbids: connection \
                 closed{more}"
            );
        }
    }

    /// A query was answered by nothing but a DHCPLEASEQUERYDONE with a status.
    pub fn query_refused(&self, peer: Ipv4Addr, status: StatusCode, why: impl Display) {
        let now = Instant::now();
        if status == StatusCode::NOT_ALLOWED {
            count(&self.counts.queries_not_allowed);
            if let Some(more) = self.not_allowed.admit(peer, now) {
                tracing::info!(
                    id = "BLQ_QUERY_NOT_ALLOWED",
                    "query answered with {status}: {why}{more}",
                );
            }
        } else {
            count(&self.counts.queries_malformed);
            if let Some(more) = self.malformed.admit(peer, now) {
                tracing::info!(
                    id = "BLQ_QUERY_MALFORMED",
                    "query answered with {status}: {why}{more}",
                );
            }
        }
    }

    /// A peer sent a message that has no answer.
    pub fn unanswerable(&self, peer: Ipv4Addr, why: impl Display) {
        count(&self.counts.unanswerable);
        if let Some(more) = self.unanswerable.admit(peer, Instant::now()) {
            tracing::info!(
                id = "BLQ_QUERY_UNANSWERABLE",
                "message cannot be answered: {why}; connection closed{more}"
            );
        }
    }
}

/// Rate limit of one kind of message: one about each peer in an [`INTERVAL`].
#[derive(Debug, Default)]
struct Throttle {
    /// State of each peer.
    peers: Mutex<Peers>,
}

/// Rate limits of peers.
#[derive(Debug, Default)]
struct Peers {
    /// Limits of single peers; len() <= MAX_PEERS
    own: HashMap<Ipv4Addr, Limit>,
    /// Limit of all others.
    shared: Limit,
}

impl Throttle {
    /// Returns a note about omitted messages, often empty, if a message about `peer` may be logged `now`.
    fn admit(&self, peer: Ipv4Addr, now: Instant) -> Option<String> {
        let mut peers = self.peers.lock();
        let Peers { own, shared } = &mut *peers;
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
    /// Time of the last message admitted, and count of those omitted since.
    last: Option<(Instant, u64)>,
}

impl Limit {
    /// Tests whether the interval after the last message is not over.
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
        let admit = |now| throttle.admit(PEER, now);
        assert_eq!(admit(start).as_deref(), Some(""));
        assert_eq!(admit(start), None);
        assert_eq!(admit(start + INTERVAL / 2), None);
        let text = admit(start + INTERVAL).unwrap();
        assert!(text.contains("2 more"), "{text}");
        assert_eq!(admit(start + INTERVAL * 2).as_deref(), Some(""));
    }

    #[test]
    fn one_peer_does_not_hide_another() {
        let throttle = Throttle::default();
        let start = Instant::now();
        let scanner = Ipv4Addr::new(198, 51, 100, 1);
        for _ in 0..1_000 {
            throttle.admit(scanner, start);
        }
        assert_eq!(throttle.admit(PEER, start).as_deref(), Some(""));
        assert_eq!(throttle.admit(PEER, start), None);
    }

    #[test]
    fn knows_a_bounded_number_of_peers_and_admits_few_messages_about_the_others() {
        let throttle = Throttle::default();
        let start = Instant::now();
        let sweep = |now| {
            let peers = (0..5_000).map(|number| Ipv4Addr::from_bits(0x0a00_0000 + number));
            peers.filter_map(|peer| throttle.admit(peer, now)).count()
        };
        assert_eq!(sweep(start), MAX_PEERS + 1);
        assert_eq!(sweep(start + INTERVAL / 2), 0);
        assert!(throttle.peers.lock().own.len() <= MAX_PEERS);
        // Those whose minute is over make room.
        assert_eq!(throttle.admit(PEER, start + INTERVAL).as_deref(), Some(""));
        assert!(throttle.peers.lock().own.len() <= MAX_PEERS);
    }
}
