//! Rate limits of log messages: one for each peer and message identifier.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Minimum time between two messages of a kind about one peer. Messages in between are counted, and
/// the next message or a [`Summary`] has their number.
pub const INTERVAL: Duration = Duration::from_secs(60);

/// Number of peers with a separate rate limit, for each kind of message; all others share one
/// limit. It bounds the memory (some 40 KiB for each kind) and the log: at most one more message
/// than this number, of each kind and in each minute, and as many summaries.
const MAX_PEERS: usize = 1024;

/// Minimum time between two searches for peers that need no limit any longer.
const SWEEP_PAUSE: Duration = Duration::from_millis(100);

/// Rate limits: one message of each identifier about each peer in an [`INTERVAL`].
#[derive(Debug, Default)]
pub struct Throttle {
    /// Limits by the identifier of the message.
    by_id: Mutex<HashMap<&'static str, Peers>>,
}

/// The number of messages that were omitted, and never mentioned by a later one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// The identifier of the messages.
    pub id: &'static str,
    /// The peer, or the peers, that they are about; `None` for messages without a peer.
    pub peer: Option<Omitted>,
    /// The number of messages, > 0.
    pub count: u64,
}

/// The peers of omitted messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Omitted {
    /// One peer.
    Peer(Ipv4Addr),
    /// The peers that share a limit.
    Others,
}

/// Rate limits of one identifier.
#[derive(Debug, Default)]
struct Peers {
    /// Limits of single peers, and of messages without a peer; len() <= MAX_PEERS
    own: HashMap<Option<Ipv4Addr>, Limit>,
    /// Limit of all others.
    shared: Limit,
    /// When the peers without a message in the last [`INTERVAL`] were last removed.
    swept: Option<Instant>,
}

impl Throttle {
    /// Returns a note about omitted messages, often empty, if message `id` about `peer` may be logged `now`.
    pub fn admit(&self, id: &'static str, peer: Option<Ipv4Addr>, now: Instant) -> Option<String> {
        let mut by_id = self.by_id.lock();
        let Peers { own, shared, swept } = by_id.entry(id).or_default();
        if own.len() >= MAX_PEERS && !own.contains_key(&peer) {
            // Not for each datagram of a flood from many addresses.
            let was_swept = |swept| now.saturating_duration_since(swept) < SWEEP_PAUSE;
            if !swept.is_some_and(was_swept) {
                *swept = Some(now);
                // Those that a summary mentions stay until then.
                own.retain(|_, limit| limit.lasts(now) || limit.omitted() > 0);
            }
            if own.len() >= MAX_PEERS {
                return shared.admit(now);
            }
        }
        own.entry(peer).or_default().admit(now)
    }

    /// Takes the numbers of messages that were omitted, where the interval has ended by `now` without another
    /// message, and forgets these peers. Called once in an [`INTERVAL`].
    pub fn summaries(&self, now: Instant) -> Vec<Summary> {
        let mut by_id = self.by_id.lock();
        let mut summaries = Vec::new();
        for (id, Peers { own, shared, .. }) in &mut *by_id {
            let mut summarise = |peer, limit: &mut Limit| {
                let count = limit.omitted();
                let has_ended = !limit.lasts(now);
                if has_ended {
                    *limit = Limit::default();
                    if count > 0 {
                        summaries.push(Summary { id, peer, count });
                    }
                }
                !has_ended
            };
            own.retain(|peer, limit| summarise(peer.map(Omitted::Peer), limit));
            summarise(Some(Omitted::Others), shared);
        }
        summaries.sort_by_key(|summary| std::cmp::Reverse(summary.count));
        summaries
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

    /// Returns the number of messages omitted since the last one.
    fn omitted(&self) -> u64 {
        self.last.map_or(0, |(_, omitted)| omitted)
    }

    /// Returns a note about omitted messages, often empty, if a message may be logged `now`.
    fn admit(&mut self, now: Instant) -> Option<String> {
        let lasts = self.lasts(now);
        if let Some((_, omitted)) = self.last.as_mut().filter(|_| lasts) {
            *omitted += 1;
            return None;
        }
        let omitted = self.omitted();
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
        let summaries = throttle.summaries(start + INTERVAL);
        assert_eq!(summaries.len(), MAX_PEERS + 1);
        assert_eq!(summaries[0].peer, Some(Omitted::Others), "the most");
        assert_eq!(
            throttle.admit("a", Some(PEER), start + INTERVAL).as_deref(),
            Some("")
        );
        assert_eq!(throttle.by_id.lock()["a"].own.len(), 1);
    }

    #[test]
    fn a_summary_has_the_messages_that_no_later_one_mentions() {
        let throttle = Throttle::default();
        let start = Instant::now();
        let quiet = Ipv4Addr::new(192, 0, 2, 2);
        for _ in 0..3 {
            throttle.admit("a", Some(PEER), start);
            throttle.admit("a", None, start);
        }
        throttle.admit("a", Some(quiet), start);
        assert_eq!(throttle.summaries(start + INTERVAL / 2), []);
        let mut summaries = throttle.summaries(start + INTERVAL);
        summaries.sort_by_key(|summary| summary.peer.is_some());
        let summary = |peer: Option<Ipv4Addr>| Summary {
            id: "a",
            peer: peer.map(Omitted::Peer),
            count: 2,
        };
        assert_eq!(summaries, [summary(None), summary(Some(PEER))]);
        assert_eq!(throttle.summaries(start + INTERVAL * 2), []);
    }
}
