//! The attribution of changes of leases that Kea's lease manager reports (Kea 2.4 and later).
//!
//! The lease manager reports each change under its own locks, on the thread that makes the change, before
//! any callout gives a reason. Callouts report more of the changes made by clients' messages, so those are
//! left to them. Callouts announce such a message, unless the thread alone identifies it (see
//! [`required_callouts`](crate::plugin::required_callouts)). Every other change counts as remote until a
//! command that ends on the same thread shows that an administrator made it, or `lease4_server_decline`
//! follows.

use std::cell::{Cell, RefCell};
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::mirror::event::{Event, Lease, Origin};
use crate::model::time::Time;

/// Kea's number of the state of a declined lease: a server may decline an address itself, and commits
/// nothing then.
const DECLINED: u32 = 1;

/// The most deleted addresses remembered for the command that may have deleted them; further ones count as
/// deleted by another server.
const DELETED_LIMIT: usize = 1_000_000;

thread_local! {
    /// Whether this is Kea's main thread.
    static IS_MAIN: Cell<bool> = const { Cell::new(false) };
    /// Whether a client's message is being processed on this thread, if messages are announced. Stays set
    /// on threads that process nothing else.
    static IN_PACKET: Cell<bool> = const { Cell::new(false) };
    /// An address whose change a callout has reported, and which the lease manager reports next.
    static EXPECTED: Cell<Option<Ipv4Addr>> = const { Cell::new(None) };
    /// The addresses whose leases were deleted on this thread since they were last claimed.
    static DELETED: RefCell<Vec<Ipv4Addr>> = const { RefCell::new(Vec::new()) };
}

/// The facts by which changes are attributed, besides those of each thread.
#[derive(Debug)]
pub struct Attribution {
    /// Whether Kea's main thread is known.
    is_main_known: AtomicBool,
    /// Whether clients' messages are announced. If not, every thread but the main one processes clients'
    /// messages alone.
    are_announced: AtomicBool,
}

impl Attribution {
    /// Creates an attribution that expects announcements.
    pub const fn new() -> Attribution {
        Attribution {
            is_main_known: AtomicBool::new(false),
            are_announced: AtomicBool::new(true),
        }
    }

    /// Records that this thread is Kea's main thread, unless that one is known.
    pub fn on_main_thread(&self) {
        if !self.is_main_known.swap(true, Ordering::Relaxed) {
            IS_MAIN.set(true);
        }
    }

    /// Sets whether clients' messages are announced. Must not be called while packets are processed.
    pub fn set_announced(&self, are_announced: bool) {
        self.are_announced.store(are_announced, Ordering::Relaxed);
    }

    /// Returns whether a client's message is being processed on this thread.
    fn is_in_packet(&self) -> bool {
        IN_PACKET.get() || !(self.are_announced.load(Ordering::Relaxed) || IS_MAIN.get())
    }

    /// Records that a client's message is about to change leases.
    pub fn enter_packet(&self) {
        // Kea may have deleted the lease that the client had before.
        IN_PACKET.set(true);
        // When a client takes an address whose lease is over, Kea reports that it reclaims the lease, but
        // the change that follows is the client's. A change made later is not the expected one either.
        EXPECTED.set(None);
    }

    /// Records that this thread no longer processes a client's message; returns whether it was taken to do
    /// so on the main thread until now.
    pub fn leave_packet(&self) -> bool {
        EXPECTED.set(None);
        IS_MAIN.get() && IN_PACKET.replace(false)
    }

    /// Records that a callout reports a change of `address`, which the lease manager reports next.
    pub fn expect(&self, address: Ipv4Addr) {
        self.leave_packet();
        EXPECTED.set(Some(address));
    }

    /// Returns whether the lease manager's report of an added or updated lease in a state (by Kea's number)
    /// makes an event.
    pub fn wants_change(&self, state: u32) -> bool {
        state == DECLINED || !self.is_in_packet()
    }

    /// Returns the event of a lease that was added or updated.
    pub fn changed(&self, lease: Lease) -> Event {
        Event::Updated {
            at: Time::now(),
            // Kea may reclaim a lease that a client renews just then: its new state is news, but not another
            // server's change. Neither is an address declined in the course of a client's message.
            origin: match EXPECTED.take() == Some(lease.address) || self.is_in_packet() {
                true => Origin::Local,
                false => Origin::Remote,
            },
            lease,
        }
    }

    /// Returns the event of the deletion of a lease; `None` if a callout has reported it.
    pub fn deleted(&self, address: Ipv4Addr) -> Option<Event> {
        let at = Time::now();
        if EXPECTED.take() == Some(address) {
            return None;
        }
        if self.is_in_packet() {
            return Some(Event::GivenUp {
                address,
                client: None,
                at,
            });
        }
        DELETED.with_borrow_mut(|deleted| {
            if deleted.len() < DELETED_LIMIT {
                deleted.push(address);
            }
        });
        Some(Event::Removed {
            address,
            at,
            origin: Origin::Remote,
        })
    }

    /// Takes the addresses whose leases were deleted on this thread since the last call.
    pub fn claim_deleted(&self) -> Vec<Ipv4Addr> {
        DELETED.take()
    }
}
