//! Slots: the limits of open connections, in total, with an active query, and for each requester.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::net::Ipv4Addr;
use std::sync::Arc;

use ipnet::Ipv4Net;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::config::RequesterEntry;

/// Share of the connections' descriptors that is reserved for closing connections (an eighth), if
/// there are too few for all configured connections.
const CLOSING_SHARE: u64 = 8;

/// Slots for connections: for all requesters together, and for each.
///
/// A connection has a slot among the open ones until its active query is accepted, and from then on one among the
/// active ones (RFC 7724 section 8.1): neither kind can exclude the other.
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
    /// The limit of active connections, in the form of the error.
    active_limit: Full,
    /// Free slots for active connections.
    active: Arc<Semaphore>,
    /// Free slots for open connections of each entry of `requesters` with a separate limit: an
    /// address, or a prefix whose addresses share the slots.
    by_requester: Mutex<HashMap<Ipv4Net, Arc<Semaphore>>>,
    /// The numbers of connections from each address whose entry limits it: > 0
    by_address: Arc<Mutex<HashMap<Ipv4Addr, u32>>>,
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
    /// The limit of each address of one entry of `requesters`.
    Address(u32),
    /// The limit of active connections.
    Active(u32),
    /// The limit of active connections by descriptors, lower than the configured one.
    ActiveDescriptors(u32),
}

impl fmt::Display for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const OPEN: &str = "connections are open";
        const ACTIVE: &str = "active queries are in progress";
        let (limit, what, cause) = match self {
            Full::Server(limit) => (
                limit,
                OPEN,
                ", as many as 'advanced.max-requester-connections' allows",
            ),
            Full::Descriptors(limit) => {
                (limit, OPEN, ", as many as the process has descriptors for")
            }
            Full::Requester(limit) => (
                limit,
                OPEN,
                " of its entry in 'requesters', as many as 'max-connections' there allows",
            ),
            Full::Address(limit) => (
                limit,
                OPEN,
                " of this address, as many as 'max-connections-per-address' of its entry in 'requesters' allows",
            ),
            Full::Active(limit) => (
                limit,
                ACTIVE,
                ", as many as 'advanced.max-active-connections' allows",
            ),
            Full::ActiveDescriptors(limit) => (
                limit,
                ACTIVE,
                ", as many as the process has descriptors for",
            ),
        };
        write!(f, "{limit} {what}{cause}")
    }
}

impl Slots {
    /// Creates slots for `limit` connections, none of them active.
    #[cfg(test)]
    pub fn new(limit: u32) -> Slots {
        Slots::within(limit, 0, u64::MAX)
    }

    /// Creates slots for `limit` connections and `active` active ones, or for fewer if open and closing connections
    /// together need more descriptors than `descriptors`.
    pub fn within(limit: u32, active: u32, descriptors: u64) -> Slots {
        let most = descriptors
            .saturating_sub(descriptors / CLOSING_SHARE)
            .max(1);
        let up_to =
            |limit: u32, most: u64| u32::try_from(most).map_or(limit, |most| most.min(limit));
        // Active ones may need up to half of the descriptors, and all that the others leave.
        let open = up_to(limit, most - u64::from(up_to(active, most / 2)));
        let served_actively = up_to(active, most - u64::from(open));
        let all = u64::from(open) + u64::from(served_actively);
        let closing = descriptors.saturating_sub(all).min(all);
        Slots {
            limit: open,
            is_capped: open < limit,
            open: semaphore(open),
            active_limit: match served_actively < active {
                true => Full::ActiveDescriptors(served_actively),
                false => Full::Active(active),
            },
            active: semaphore(served_actively),
            by_requester: Mutex::default(),
            by_address: Arc::default(),
            closing: semaphore(u32::try_from(closing).unwrap_or(u32::MAX)),
        }
    }

    /// Returns the limit of open connections if it is lower than the configured one.
    pub fn cap(&self) -> Option<u32> {
        self.is_capped.then_some(self.limit)
    }

    /// Returns the limit of active connections if it is lower than the configured one.
    pub fn active_cap(&self) -> Option<u32> {
        match self.active_limit {
            Full::ActiveDescriptors(limit) => Some(limit),
            _ => None,
        }
    }

    /// Takes a slot for a connection from `peer`, to which `entry` applies.
    ///
    /// # Errors
    /// The limit that is reached.
    pub fn take_from(&self, peer: Ipv4Addr, entry: &RequesterEntry) -> Result<Slot, Full> {
        let mut slot = self.take(entry.prefix, entry.max_connections)?;
        if let Some(limit) = entry.max_connections_per_address {
            slot.of_address = Some(self.take_of_address(peer, limit)?);
        }
        Ok(slot)
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
        let place = acquire(&self.open).ok_or(full)?;
        let own = own_limit.map(|limit| {
            let mut by_requester = self.by_requester.lock();
            let free = by_requester.entry(requester);
            acquire(free.or_insert_with(|| semaphore(limit))).ok_or(Full::Requester(limit))
        });
        Ok(Slot {
            place: Some(place),
            of_entry: own.transpose()?,
            of_address: None,
            waiting: None,
            active: Arc::clone(&self.active),
            active_limit: self.active_limit,
            closing: Arc::clone(&self.closing),
        })
    }

    /// Counts a connection from an address, unless it has `limit`.
    fn take_of_address(&self, address: Ipv4Addr, limit: u32) -> Result<OfAddress, Full> {
        let mut by_address = self.by_address.lock();
        let count = by_address.get(&address).copied().unwrap_or(0);
        if count >= limit {
            return Err(Full::Address(limit));
        }
        by_address.insert(address, count + 1);
        Ok(OfAddress {
            by_address: Arc::clone(&self.by_address),
            address,
        })
    }
}

/// A connection counted among those from its address, until it is dropped.
#[derive(Debug)]
struct OfAddress {
    /// The numbers of connections.
    by_address: Arc<Mutex<HashMap<Ipv4Addr, u32>>>,
    /// The address.
    address: Ipv4Addr,
}

impl Drop for OfAddress {
    fn drop(&mut self) {
        if let Entry::Occupied(mut count) = self.by_address.lock().entry(self.address) {
            match *count.get() {
                // An address without a connection needs no memory.
                0 | 1 => {
                    count.remove();
                }
                more => *count.get_mut() = more - 1,
            }
        }
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
    /// The permit of an open connection, or of an active one.
    place: Option<OwnedSemaphorePermit>,
    /// The permit of its entry.
    of_entry: Option<OwnedSemaphorePermit>,
    /// The connection among those from its address.
    of_address: Option<OfAddress>,
    /// The permit of a connection that waits for the requester's close.
    waiting: Option<OwnedSemaphorePermit>,
    /// Free slots for active connections.
    active: Arc<Semaphore>,
    /// The limit of active connections, in the form of the error.
    active_limit: Full,
    /// Free slots for connections in that state.
    closing: Arc<Semaphore>,
}

impl Slot {
    /// Changes the slot of an open connection to that of an active one. The limits of its entry still apply.
    ///
    /// # Errors
    /// The limit that is reached; the slot is unchanged.
    pub fn activate(&mut self) -> Result<(), Full> {
        self.place = Some(acquire(&self.active).ok_or(self.active_limit)?);
        Ok(())
    }

    /// Releases the slot for another connection. Returns whether this connection may still wait for
    /// the requester's close.
    pub fn start_closing(&mut self) -> bool {
        if self.place.take().is_some() {
            self.of_entry = None;
            self.of_address = None;
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
            let slots = Slots::within(configured, 0, descriptors);
            assert_eq!(slots.limit, open, "{configured} {descriptors}");
            let waiting = slots.closing.available_permits();
            assert_eq!(waiting, closing, "{configured} {descriptors}");
            assert_eq!(slots.cap(), (open < configured).then_some(open));
        }
        let slots = Slots::within(3, 0, 2);
        let mut first = slots.take(ONE, None).unwrap();
        let _second = slots.take(ONE, None).unwrap();
        assert_eq!(slots.take(ONE, None).unwrap_err(), Full::Descriptors(2));
        assert!(
            !first.start_closing(),
            "there is no descriptor to wait with"
        );
    }

    /// An entry of `requesters` with these separate limits.
    fn entry(prefix: Ipv4Net, own: Option<u32>, of_address: Option<u32>) -> RequesterEntry {
        let json = format!(r#"{{ "requesters": [ {{ "address": "{prefix}" }} ] }}"#);
        let config = crate::config::Config::parse(&json).unwrap();
        RequesterEntry {
            max_connections: own,
            max_connections_per_address: of_address,
            ..config.requesters[0].clone()
        }
    }

    #[test]
    fn limits_each_address_of_an_entry() {
        let slots = Slots::new(10);
        let limited = entry(TWO, Some(3), Some(1));
        let [one, other] = [1, 2].map(|host| Ipv4Addr::new(198, 51, 100, host));
        let mut first = slots.take_from(one, &limited).unwrap();
        let full = slots.take_from(one, &limited).unwrap_err();
        assert_eq!(full, Full::Address(1));
        let second = slots.take_from(other, &limited).unwrap();
        // Active connections count, closing ones do not.
        first.start_closing();
        let third = slots.take_from(one, &limited).unwrap();
        drop((second, third));
        assert!(slots.by_address.lock().is_empty());
        // A refused connection keeps nothing of its entry.
        let _one = slots.take_from(one, &limited).unwrap();
        for _ in 0..9 {
            slots.take_from(one, &limited).unwrap_err();
        }
        let _two = slots.take_from(other, &limited).unwrap();
    }

    #[test]
    fn active_connections_leave_their_slots_to_others() {
        // RFC 7724 section 8.1; the contract.
        let slots = Slots::within(1, 2, u64::MAX);
        let limited = entry(ONE, Some(3), Some(3));
        let peer = ONE.addr();
        let mut active: Vec<Slot> = Vec::new();
        for _ in 0..2 {
            let mut slot = slots.take_from(peer, &limited).unwrap();
            let full = slots.take_from(peer, &limited).unwrap_err();
            assert_eq!(full, Full::Server(1));
            slot.activate().unwrap();
            active.push(slot);
        }
        let mut third = slots.take_from(peer, &limited).unwrap();
        assert_eq!(third.activate(), Err(Full::Active(2)));
        // It is still open, and counts.
        assert_eq!(slots.take(TWO, None).unwrap_err(), Full::Server(1));
        assert!(third.start_closing());
        let fourth = slots.take_from(peer, &limited).unwrap();
        // The limits of the entry count active ones.
        drop(fourth);
        let other = entry(ONE, Some(3), Some(2));
        let full = slots.take_from(peer, &other).unwrap_err();
        assert_eq!(full, Full::Address(2));
        active[0].start_closing();
        slots.take(TWO, None).unwrap().activate().unwrap();
        drop((active, third));
        assert_eq!(slots.active.available_permits(), 2);
        assert_eq!(slots.open.available_permits(), 1);
    }

    #[test]
    fn open_and_active_connections_share_the_descriptors() {
        for (limits, descriptors, served, closing) in [
            ((10, 10), u64::MAX, (10, 10), 20),
            ((10, 10), 40, (10, 10), 20),
            ((10, 10), 24, (10, 10), 4),
            ((600, 10), 600, (515, 10), 75),
            ((10, 600), 600, (10, 515), 75),
            ((600, 600), 600, (263, 262), 75),
            ((10, 10), 2, (1, 1), 0),
            ((10, 10), 0, (1, 0), 0),
        ] {
            let slots = Slots::within(limits.0, limits.1, descriptors);
            let found = [&slots.open, &slots.active, &slots.closing];
            let found = found.map(|free| free.available_permits());
            assert_eq!(
                found,
                [served.0, served.1, closing],
                "{limits:?} {descriptors}"
            );
            let is_capped = (slots.cap().is_some(), slots.active_cap().is_some());
            let less = (served.0 < limits.0 as usize, served.1 < limits.1 as usize);
            assert_eq!(is_capped, less);
        }
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
