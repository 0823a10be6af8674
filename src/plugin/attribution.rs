//! Changes of leases as the lease manager tells of them, in Kea versions where it does (2.4 and
//! later): commands, high-availability partners, and everything else.
//!
//! It tells under its own locks, on the thread that makes the change, before anyone says why. Of
//! what clients' messages change callouts tell more, so that is left to them. Callouts announce such
//! a message, unless it is known by the thread ([`callouts`](crate::plugin::required_callouts)). Everything else counts
//! as another server's doing until a command that follows on the same thread says that it was
//! an administrator's, or `lease4_server_decline` follows.

use std::cell::{Cell, RefCell};
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::mirror::event::{Event, Lease, Origin};
use crate::model::time::Time;
use crate::plugin::service;

/// Kea's number of the state of a declined lease: a server may decline an address itself, for which
/// it commits nothing.
const DECLINED: u32 = 1;

/// The most deleted addresses remembered for a command that is to claim them: what it does not
/// claim is told as another server's doing.
const DELETED_LIMIT: usize = 1_000_000;

thread_local! {
    /// Whether this is Kea's main thread.
    static IS_MAIN: Cell<bool> = const { Cell::new(false) };
    /// Whether a client's message is being processed on this thread, if they are announced. On threads
    /// that do nothing else it stays so.
    static IN_PACKET: Cell<bool> = const { Cell::new(false) };
    /// An address that a callout has told of, and whose change follows.
    static EXPECTED: Cell<Option<Ipv4Addr>> = const { Cell::new(None) };
    /// The addresses whose leases were deleted on this thread since that was last asked.
    static DELETED: RefCell<Vec<Ipv4Addr>> = const { RefCell::new(Vec::new()) };
}

/// Whether Kea's main thread is known.
static IS_MAIN_KNOWN: AtomicBool = AtomicBool::new(false);

/// Whether clients' messages are announced. Else all threads but the main one process nothing else.
static ARE_ANNOUNCED: AtomicBool = AtomicBool::new(true);

/// Takes note that this thread is Kea's main one, unless that is known.
pub fn on_main_thread() {
    if !IS_MAIN_KNOWN.swap(true, Ordering::Relaxed) {
        IS_MAIN.set(true);
    }
}

/// From now on clients' messages are announced, or not. No packet is processed meanwhile.
pub fn set_announced(are_announced: bool) {
    ARE_ANNOUNCED.store(are_announced, Ordering::Relaxed);
}

/// Whether a client's message is being processed on this thread.
fn is_in_packet() -> bool {
    IN_PACKET.get() || !(ARE_ANNOUNCED.load(Ordering::Relaxed) || IS_MAIN.get())
}

/// A client's message is about to change leases.
pub fn enter_packet() {
    // Kea may have deleted the lease that the client had before.
    IN_PACKET.set(true);
    // Of a lease that is over and that a client takes, Kea tells that it reclaims it, but the change
    // that follows is the client's. Nothing is to be expected of what somebody does later.
    EXPECTED.set(None);
}

/// A client's message has been processed, or something else is done; says if it was not known that
/// the message had been.
pub fn leave_packet() -> bool {
    EXPECTED.set(None);
    IS_MAIN.get() && IN_PACKET.replace(false)
}

/// A callout tells of a change of this address, which follows at once.
pub fn expect(address: Ipv4Addr) {
    leave_packet();
    EXPECTED.set(Some(address));
}

/// Whether to tell of an added or updated lease in a state, by Kea's number.
pub fn wants_change(state: u32) -> bool {
    state == DECLINED || !is_in_packet()
}

/// A lease was added or updated.
pub fn changed(lease: Lease) {
    service::push(Event::Updated {
        at: Time::now(),
        // Kea may reclaim a lease that a client renews just then. What it tells of then is news, but
        // nobody else's doing. Neither is an address declined in the course of a client's message.
        origin: match EXPECTED.take() == Some(lease.address) || is_in_packet() {
            true => Origin::Local,
            false => Origin::Remote,
        },
        lease,
    });
}

/// The lease of `address` was deleted.
pub fn deleted(address: Ipv4Addr) {
    let at = Time::now();
    if EXPECTED.take() == Some(address) {
        return;
    }
    if is_in_packet() {
        service::push(Event::GivenUp {
            address,
            client: None,
            at,
        });
        return;
    }
    DELETED.with_borrow_mut(|deleted| {
        if deleted.len() < DELETED_LIMIT {
            deleted.push(address);
        }
    });
    service::push(Event::Removed {
        address,
        at,
        origin: Origin::Remote,
    });
}

/// The addresses whose leases were deleted on this thread since last asked.
pub fn claim_deleted() -> Vec<Ipv4Addr> {
    DELETED.take()
}
