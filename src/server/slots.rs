//! Slots: the limits of open connections, in total and for each requester.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use ipnet::Ipv4Net;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

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
    /// 1 <= limit of open connections <= BULK_LQ_MAX_CONNS (RFC 6926 section 8.1).
    limit: u32,
    /// Whether descriptors, rather than the configuration, determine the limit.
    is_capped: bool,
    /// Free slots for open connections.
    open: Arc<Semaphore>,
    /// Free slots for open connections of each entry of `requesters` with a separate limit: an
    /// address, or a prefix whose addresses share the slots.
    by_requester: Mutex<HashMap<Ipv4Net, Arc<Semaphore>>>,
    /// Free slots for connections that wait for the requester's close; initially <= limit.
    closing: Arc<Semaphore>,
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
        let (limit, cause) = match self {
            Full::Server(limit) => (
                limit,
                ", as many as 'advanced.max-requester-connections' allows",
            ),
            Full::Descriptors(limit) => (limit, ", as many as the process has descriptors for"),
            Full::Requester(limit) => (
                limit,
                " of its entry in 'requesters', as many as 'max-connections' there allows",
            ),
        };
        write!(f, "{limit} connections are open{cause}")
    }
}

impl Slots {
    /// Creates slots for `limit` connections.
    #[cfg(test)]
    pub fn new(limit: u32) -> Slots {
        Slots::within(limit, u64::MAX)
    }

    /// Creates slots for `limit` connections, or for fewer if open and closing connections together
    /// need more descriptors than `descriptors`.
    pub fn within(limit: u32, descriptors: u64) -> Slots {
        let most = descriptors
            .saturating_sub(descriptors / CLOSING_SHARE)
            .max(1);
        let open = u32::try_from(most).map_or(limit, |most| most.min(limit));
        let rest = descriptors.saturating_sub(open.into());
        Slots {
            limit: open,
            is_capped: open < limit,
            open: semaphore(open),
            by_requester: Mutex::default(),
            closing: semaphore(u32::try_from(rest).map_or(open, |rest| rest.min(open))),
        }
    }

    /// Returns the limit of open connections if it is lower than the configured one.
    pub fn cap(&self) -> Option<u32> {
        self.is_capped.then_some(self.limit)
    }

    /// Takes a slot for a connection of `requester`, whose separate limit is `own_limit`.
    ///
    /// # Errors
    /// The limit that is reached.
    pub fn take(&self, requester: Ipv4Net, own_limit: Option<u32>) -> Result<Slot, Full> {
        let full = match self.is_capped {
            false => Full::Server(self.limit),
            true => Full::Descriptors(self.limit),
        };
        let open = acquire(&self.open).ok_or(full)?;
        let own = own_limit.map(|limit| {
            let mut by_requester = self.by_requester.lock();
            let free = by_requester.entry(requester);
            acquire(free.or_insert_with(|| semaphore(limit))).ok_or(Full::Requester(limit))
        });
        Ok(Slot {
            open: Some((open, own.transpose()?)),
            waiting: None,
            closing: Arc::clone(&self.closing),
        })
    }
}

/// Creates a semaphore with this number of permits.
fn semaphore(permits: u32) -> Arc<Semaphore> {
    let permits = usize::try_from(permits).unwrap_or(usize::MAX);
    Arc::new(Semaphore::new(permits.min(Semaphore::MAX_PERMITS)))
}

/// Acquires a permit, if one is free.
fn acquire(semaphore: &Arc<Semaphore>) -> Option<OwnedSemaphorePermit> {
    Arc::clone(semaphore).try_acquire_owned().ok()
}

/// The slot of one connection, released on drop.
#[derive(Debug)]
pub struct Slot {
    /// The permits of an open connection: that of all requesters together, and that of its entry.
    open: Option<(OwnedSemaphorePermit, Option<OwnedSemaphorePermit>)>,
    /// The permit of a connection that waits for the requester's close.
    waiting: Option<OwnedSemaphorePermit>,
    /// Free slots for connections in that state.
    closing: Arc<Semaphore>,
}

impl Slot {
    /// Releases the slot for another connection. Returns whether this connection may still wait for
    /// the requester's close.
    pub fn start_closing(&mut self) -> bool {
        if self.open.take().is_some() {
            self.waiting = acquire(&self.closing);
        }
        self.waiting.is_some()
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
        let slots = Slots::new(2);
        let first = slots.take(ONE, None).unwrap();
        let _second = slots.take(TWO, None).unwrap();
        assert_eq!(slots.take(TWO, None).unwrap_err(), Full::Server(2));
        drop(first);
        let _third = slots.take(TWO, None).unwrap();
        assert_eq!(slots.take(ONE, None).unwrap_err(), Full::Server(2));
    }

    #[test]
    fn limits_each_requester() {
        let slots = Slots::new(10);
        let first = slots.take(ONE, Some(1)).unwrap();
        assert_eq!(slots.take(ONE, Some(1)).unwrap_err(), Full::Requester(1));
        let _other = slots.take(TWO, Some(1)).unwrap();
        drop(first);
        let _second = slots.take(ONE, Some(1)).unwrap();
        assert_eq!(slots.take(ONE, Some(1)).unwrap_err(), Full::Requester(1));
    }

    #[test]
    fn open_and_closing_connections_together_need_no_more_descriptors_than_the_process_has() {
        for (configured, descriptors, open, closing) in [
            (10, u64::MAX, 10, 10),
            (10, 20, 10, 10),
            (10, 14, 10, 4),
            (600, 856, 600, 256),
            (600, 600, 525, 75),
            (600, 8, 7, 1),
            (600, 2, 2, 0),
            // At least one slot: accepting shows whether a descriptor is free.
            (600, 0, 1, 0),
            (u32::MAX, u64::MAX, u32::MAX, u32::MAX as usize),
        ] {
            let slots = Slots::within(configured, descriptors);
            assert_eq!(slots.limit, open, "{configured} {descriptors}");
            let waiting = slots.closing.available_permits();
            assert_eq!(waiting, closing, "{configured} {descriptors}");
            assert_eq!(slots.cap(), (open < configured).then_some(open));
        }
        let slots = Slots::within(3, 2);
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
        let slots = Slots::new(1);
        let mut first = slots.take(ONE, Some(1)).unwrap();
        assert!(first.start_closing());
        let mut second = slots.take(ONE, Some(1)).unwrap();
        assert!(!second.start_closing(), "one is waiting already");
        drop(first);
        drop(second);
        let own = Arc::clone(&slots.by_requester.lock()[&ONE]);
        for free in [&slots.open, &slots.closing, &own] {
            assert_eq!(free.available_permits(), 1);
        }
    }
}
