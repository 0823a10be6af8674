//! Slots: the limits of open connections, in total and for each requester.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use ipnet::Ipv4Net;
use parking_lot::Mutex;

/// Share of the connections' descriptors that is reserved for closing connections (an eighth), if
/// there are too few for all configured connections.
const CLOSING_SHARE: u64 = 8;

/// Slots for connections: for all requesters together, and for each.
///
/// A connection that only waits for its requester's close occupies no slot, so that a requester
/// that received the server's close can open another connection. Neither does a connection whose
/// requester has closed its side while its queries are idle. As many connections may be in these
/// states as may be open, if there are enough descriptors.
#[derive(Debug)]
pub struct Slots {
    /// 1 <= connections open <= BULK_LQ_MAX_CONNS (RFC 6926 section 8.1).
    limit: u32,
    /// Connections waiting for the requester to close <= closing_limit <= limit.
    closing_limit: u32,
    /// Whether descriptors, rather than the configuration, determine the limit.
    is_capped: bool,
    /// Slots in use.
    taken: Mutex<Taken>,
}

/// Slots in use.
#[derive(Debug, Default)]
struct Taken {
    /// Connections open; <= limit.
    open: u32,
    /// Open connections by the requester's entry in the access list: an address, or a prefix whose
    /// addresses share the limit. Their sum is `open`, and none is 0.
    by_requester: HashMap<Ipv4Net, u32>,
    /// Connections waiting for the requester to close; <= closing_limit.
    closing: u32,
}

impl Taken {
    /// Releases the slot of an open connection.
    fn close(&mut self, requester: Ipv4Net) {
        self.open -= 1;
        if let Some(count) = self.by_requester.get_mut(&requester) {
            *count -= 1;
            if *count == 0 {
                self.by_requester.remove(&requester);
            }
        }
    }
}

/// A limit that leaves no slot for a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// The limit of all connections.
    Server(u32),
    /// The limit by descriptors, lower than the configured one.
    Descriptors(u32),
    /// The limit of one entry of `requesters`.
    Requester(u32),
}

impl fmt::Display for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Full::Server(limit) => write!(
                f,
                "{limit} connections are open, as many as \
                 'advanced.max-requester-connections' allows"
            ),
            Full::Descriptors(limit) => write!(
                f,
                "{limit} connections are open, as many as the process has descriptors for"
            ),
            Full::Requester(limit) => write!(
                f,
                "{limit} connections are open of its entry in 'requesters', as many as \
                 'max-connections' there allows"
            ),
        }
    }
}

impl Slots {
    /// Creates slots for `limit` connections.
    #[cfg(test)]
    pub fn new(limit: u32) -> Slots {
        Slots::within(limit, u64::MAX)
    }

    /// Creates slots for `limit` connections, or for fewer if open and closing connections together
    /// need more descriptors than `places`.
    pub fn within(limit: u32, places: u64) -> Slots {
        let most = places.saturating_sub(places / CLOSING_SHARE).max(1);
        let open = u32::try_from(most).map_or(limit, |most| most.min(limit));
        let rest = places.saturating_sub(open.into());
        Slots {
            limit: open,
            closing_limit: u32::try_from(rest).map_or(open, |rest| rest.min(open)),
            is_capped: open < limit,
            taken: Mutex::default(),
        }
    }

    /// Returns the limit of open connections if it is lower than the configured one.
    pub fn cap(&self) -> Option<u32> {
        self.is_capped.then_some(self.limit)
    }

    /// Takes a slot for a connection of `requester`, whose own limit is `own_limit`.
    ///
    /// # Errors
    /// The limit that is reached.
    pub fn take(
        self: &Arc<Self>,
        requester: Ipv4Net,
        own_limit: Option<u32>,
    ) -> Result<Slot, Full> {
        let mut taken = self.taken.lock();
        if taken.open >= self.limit {
            return Err(match self.cap() {
                None => Full::Server(self.limit),
                Some(cap) => Full::Descriptors(cap),
            });
        }
        let own = taken.by_requester.get(&requester).copied().unwrap_or(0);
        if let Some(limit) = own_limit.filter(|limit| own >= *limit) {
            return Err(Full::Requester(limit));
        }
        taken.by_requester.insert(requester, own + 1);
        taken.open += 1;
        Ok(Slot {
            slots: Arc::clone(self),
            requester,
            holds: Holds::Open,
        })
    }
}

/// States of a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Holds {
    /// Counts as an open connection.
    Open,
    /// Counts as a connection that waits for the requester to close.
    Closing,
    /// Occupies no slot.
    Nothing,
}

/// The slot of one connection, released on drop.
#[derive(Debug)]
pub struct Slot {
    /// The slots that this one belongs to.
    slots: Arc<Slots>,
    /// The entry of the requester.
    requester: Ipv4Net,
    /// The state of the slot.
    holds: Holds,
}

impl Slot {
    /// Releases the slot for another connection. Returns whether this connection may still wait for
    /// the requester's close.
    pub fn start_closing(&mut self) -> bool {
        let mut taken = self.slots.taken.lock();
        if self.holds == Holds::Open {
            taken.close(self.requester);
            self.holds = Holds::Nothing;
            if taken.closing < self.slots.closing_limit {
                taken.closing += 1;
                self.holds = Holds::Closing;
            }
        }
        self.holds == Holds::Closing
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut taken = self.slots.taken.lock();
        match self.holds {
            Holds::Open => taken.close(self.requester),
            Holds::Closing => taken.closing -= 1,
            Holds::Nothing => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Ipv4Net = Ipv4Net::new_assert(std::net::Ipv4Addr::new(192, 0, 2, 1), 32);
    const TWO: Ipv4Net = Ipv4Net::new_assert(std::net::Ipv4Addr::new(198, 51, 100, 0), 24);

    #[test]
    fn limits_all_requesters_together() {
        // RFC 6926 section 8.1: BULK_LQ_MAX_CONNS.
        let slots = Arc::new(Slots::new(2));
        let first = slots.take(ONE, None).unwrap();
        let _second = slots.take(TWO, None).unwrap();
        assert_eq!(slots.take(TWO, None).unwrap_err(), Full::Server(2));
        drop(first);
        let _third = slots.take(TWO, None).unwrap();
        assert_eq!(slots.take(ONE, None).unwrap_err(), Full::Server(2));
    }

    #[test]
    fn limits_each_requester() {
        let slots = Arc::new(Slots::new(10));
        let first = slots.take(ONE, Some(1)).unwrap();
        assert_eq!(slots.take(ONE, Some(1)).unwrap_err(), Full::Requester(1));
        let _other = slots.take(TWO, Some(1)).unwrap();
        drop(first);
        let _second = slots.take(ONE, Some(1)).unwrap();
        assert_eq!(slots.take(ONE, Some(1)).unwrap_err(), Full::Requester(1));
    }

    #[test]
    fn open_and_closing_connections_together_need_no_more_descriptors_than_the_process_has() {
        for (configured, places, open, closing) in [
            (10, u64::MAX, 10, 10),
            (10, 20, 10, 10),
            (10, 14, 10, 4),
            (600, 856, 600, 256),
            (600, 600, 525, 75),
            (600, 8, 7, 1),
            (600, 2, 2, 0),
            // At least one slot: accepting shows whether a descriptor is free.
            (600, 0, 1, 0),
            (u32::MAX, u64::MAX, u32::MAX, u32::MAX),
        ] {
            let slots = Slots::within(configured, places);
            assert_eq!(slots.limit, open, "{configured} {places}");
            assert_eq!(slots.closing_limit, closing, "{configured} {places}");
            assert_eq!(slots.cap(), (open < configured).then_some(open));
        }
        let slots = Arc::new(Slots::within(3, 2));
        let mut first = slots.take(ONE, None).unwrap();
        let _second = slots.take(ONE, None).unwrap();
        assert_eq!(slots.take(ONE, None).unwrap_err(), Full::Descriptors(2));
        assert!(
            !first.start_closing(),
            "there is no descriptor to wait with"
        );
    }

    #[test]
    fn a_closing_connection_leaves_its_slot_to_the_next_within_bounds() {
        let slots = Arc::new(Slots::new(1));
        let mut first = slots.take(ONE, Some(1)).unwrap();
        assert!(first.start_closing());
        let mut second = slots.take(ONE, Some(1)).unwrap();
        assert!(!second.start_closing(), "one is waiting already");
        drop(first);
        drop(second);
        let taken = slots.taken.lock();
        assert_eq!((taken.open, taken.closing), (0, 0));
        assert!(taken.by_requester.is_empty());
    }
}
