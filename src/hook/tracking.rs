//! Changes of leases as the lease manager tells of them, in Kea versions where it does (2.4 and
//! later): commands, high-availability partners, and everything else.
//!
//! It tells under its own locks, on the thread that makes the change, before anyone says why.
//! So each change counts as another server's until a callout or a command that follows on the
//! same thread tells more.

use std::cell::{Cell, RefCell};
use std::net::Ipv4Addr;
use std::sync::OnceLock;
use std::thread::{self, ThreadId};

use super::service;
use crate::event::{Event, Lease, Origin};
use crate::time::Time;

/// Kea's number of the state of a declined lease, of which a callout may not tell.
const DECLINED: u32 = 1;

/// The most deleted addresses remembered for a command that is to claim them: what it does not
/// claim is told as another server's doing.
const DELETED_LIMIT: usize = 1_000_000;

thread_local! {
    /// Whether this is a thread for packets alone, of whose changes callouts tell all.
    static FOR_PACKETS: Cell<bool> = const { Cell::new(false) };
    /// The addresses whose leases were deleted on this thread since a command last claimed them.
    static DELETED: RefCell<Vec<Ipv4Addr>> = const { RefCell::new(Vec::new()) };
}

/// Kea's main thread.
static MAIN: OnceLock<ThreadId> = OnceLock::new();

/// Takes note that this thread is Kea's main one.
pub fn on_main_thread() {
    MAIN.get_or_init(|| thread::current().id());
}

/// Takes note that this thread has processed a packet. Unless it is the main one, which does
/// everything else too, that is all it does. The addresses whose leases were deleted for it.
pub fn on_packet() -> Vec<Ipv4Addr> {
    if !FOR_PACKETS.get() && MAIN.get() != Some(&thread::current().id()) {
        FOR_PACKETS.set(true);
    }
    claim_deleted()
}

/// Whether to tell of an added or updated lease in a state, by Kea's number.
pub fn wants_change(state: u32) -> bool {
    state == DECLINED || !FOR_PACKETS.get()
}

/// A lease was added or updated.
pub fn changed(lease: Lease) {
    service::push(Event::Updated {
        lease,
        at: Time::now(),
        origin: Origin::Elsewhere,
    });
}

/// The lease of `address` was deleted.
pub fn deleted(address: Ipv4Addr) {
    DELETED.with_borrow_mut(|deleted| {
        if deleted.len() < DELETED_LIMIT {
            deleted.push(address);
        }
    });
    if !FOR_PACKETS.get() {
        service::push(Event::Removed {
            address,
            at: Time::now(),
            origin: Origin::Elsewhere,
        });
    }
}

/// The addresses whose leases were deleted on this thread since last asked.
pub fn claim_deleted() -> Vec<Ipv4Addr> {
    DELETED.take()
}
