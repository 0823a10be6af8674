//! The functions that Kea calls: `load` and its like, and callouts by their names.
//!
//! Each is a guard and a call, or a call that cannot panic. No panic may unwind into Kea: the panic hook reports it
//! and it ends here.
//! C++ exceptions end on their own side, as errors of the bridge.

#![allow(unsafe_code)] // The C ABI.

use std::ffi::c_int;
use std::fmt::Display;
use std::net::Ipv4Addr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::LazyLock;

use crate::ffi::bridge::{self, CalloutHandle, Handlers, KeaLease, KeaLeaseCallout, LibraryHandle};
use crate::ffi::conversions::configured_options;
use crate::ffi::kea::{HOOKS_VERSION, ThisKea, ThisLibrary};
use crate::ffi::kea_log;
use crate::mirror::event::stored_lease::StoredLease;
use crate::plugin::kea::{KeaError, RawConfiguration};
use crate::plugin::lease_events::LeaseEvents;
use crate::plugin::required_callouts::tells_answers;
use crate::plugin::{Plugin, Verdict};
use crate::query::udp::request::is_lease_query;
use crate::server::udp::Datagram;

/// The plugin, of which one file of this library has one.
static PLUGIN: LazyLock<Plugin<ThisKea>> = LazyLock::new(|| Plugin::new(ThisKea));

/// The functions that C++ calls.
static HANDLERS: Handlers = Handlers {
    committed: |arguments| {
        let answer = tells_answers(HOOKS_VERSION).then(|| (&arguments.answer).into());
        let (leases, deleted) = (leases(arguments.leases), leases(arguments.deleted));
        events().committed(&(&arguments.message).into(), leases, deleted, answer);
    },
    offered: |arguments| {
        let leases = leases(arguments.leases);
        events().offered(&(&arguments.message).into(), leases, arguments.lifetime);
    },
    answered: |arguments| {
        events().answered(&(&arguments.message).into(), (&arguments.answer).into());
    },
    lease_callout: |callout, lease| match callout {
        KeaLeaseCallout::Expire => events().expired(&lease.into()),
        KeaLeaseCallout::Recover => events().recovered(&lease.into()),
        _ => events().server_declined(lease.into()),
    },
    received: |message, packet| {
        let local = Ipv4Addr::from_bits(message.local);
        // Raw sockets receive broadcasts, too.
        let local = match local.is_broadcast() && is_lease_query(message.octets) {
            true => bridge::receiving_address(packet).map_or(local, Ipv4Addr::from_bits),
            false => local,
        };
        let datagram = Datagram {
            octets: message.octets,
            source: Ipv4Addr::from_bits(message.source),
            local,
        };
        let send = |giaddr: Ipv4Addr, reply: &[u8]| {
            Ok(bridge::send_reply(packet, giaddr.to_bits(), reply)?)
        };
        PLUGIN.received(datagram, send) == Verdict::Drop
    },
    callout_failed: |callout, error| {
        events().leave_packet();
        log_failed(callout, error);
    },
    wants_change: |state| events().wants_change(state),
    lease_changed: |lease| events().lease_changed(lease.into()),
    lease_deleted: |address| events().lease_deleted(Ipv4Addr::from_bits(address)),
    change_missed: || events().change_missed(),
    tick: || PLUGIN.tick(),
    control: |command| PLUGIN.control(command),
};

/// Returns leases as Kea stores them.
fn leases<'a>(leases: &'a [KeaLease<'a>]) -> impl Iterator<Item = StoredLease<'a>> {
    leases.iter().map(StoredLease::from)
}

/// Logs that a callout failed.
fn log_failed(callout: &str, error: impl Display) {
    tracing::error!(id = "BLQ_CALLOUT_FAILED", "{callout}: {error}");
}

/// Exported so that any build of this library is recognised under any file name.
#[unsafe(no_mangle)]
pub static KEA_BLQ_LIBRARY: u8 = 1;

/// Returns the lease events.
fn events() -> &'static LeaseEvents<ThisKea> {
    PLUGIN.events()
}

/// Calls `body`; if it panics, the result is `failed`.
fn guarded(failed: c_int, body: impl FnOnce() -> c_int) -> c_int {
    // State that `body` may leave half changed is behind locks that do not poison, and replaced as a whole
    // at the next reconfiguration.
    catch_unwind(AssertUnwindSafe(body)).unwrap_or(failed)
}

/// Calls a callout's `body`. Kea must continue in any case, so the result is always 0.
fn callout(name: &str, body: impl FnOnce() -> Result<(), KeaError>) -> c_int {
    guarded(0, || {
        if let Err(error) = body() {
            log_failed(name, error);
        }
        0
    })
}

/// Returns the version of the hooks interface that this library speaks.
#[unsafe(no_mangle)]
pub extern "C" fn version() -> c_int {
    HOOKS_VERSION as c_int
}

/// Returns 1: callouts may run on several threads at once.
#[unsafe(no_mangle)]
pub extern "C" fn multi_threading_compatible() -> c_int {
    1
}

/// Called by Kea when it has loaded the library.
///
/// # Safety
/// `library` must point to Kea's handle of this library.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn load(library: *mut LibraryHandle) -> c_int {
    guarded(1, || {
        kea_log::set_up();
        bridge::register(&HANDLERS);
        // SAFETY: Kea passes a reference, for this call alone until it returns; C++ objects stay where they
        // are, and the reference is only handed back to C++.
        let library = unsafe { Pin::new_unchecked(&mut *library) };
        PLUGIN.load(&mut ThisLibrary(library)).map_or(1, |()| 0)
    })
}

/// Called by Kea before it unloads the library.
#[unsafe(no_mangle)]
pub extern "C" fn unload() -> c_int {
    guarded(1, || {
        PLUGIN.unload();
        0
    })
}

/// Called by Kea when it has taken a configuration over, or checked it.
///
/// # Safety
/// `handle` must point to the callout's handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dhcp4_srv_configured(handle: *mut CalloutHandle) -> c_int {
    callout("dhcp4_srv_configured", || {
        // SAFETY: as in `load`.
        let handle = unsafe { Pin::new_unchecked(&mut *handle) };
        let configuration = || -> Result<_, KeaError> {
            Ok(RawConfiguration {
                text: bridge::configuration(&handle)?,
                options: configured_options(bridge::configured_options(&handle)?),
            })
        };
        if let Err(error) = PLUGIN.configured(configuration) {
            bridge::reject(handle, &error)?;
        }
        Ok(())
    })
}

/// Called by Kea when it has received a message, before it reads it.
///
/// # Safety
/// `handle` must point to the callout's handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn buffer4_receive(handle: *mut CalloutHandle) -> c_int {
    // SAFETY: as in `load`.
    bridge::lend_received(unsafe { Pin::new_unchecked(&mut *handle) });
    0
}

/// Called by Kea when it is about to lease an address to a client, or to offer it.
#[unsafe(no_mangle)]
pub extern "C" fn lease4_select(_handle: *const CalloutHandle) -> c_int {
    announced("lease4_select")
}

/// Called by Kea when it is about to renew a lease.
#[unsafe(no_mangle)]
pub extern "C" fn lease4_renew(_handle: *const CalloutHandle) -> c_int {
    announced("lease4_renew")
}

/// Called by Kea when a client is about to give a lease back.
#[unsafe(no_mangle)]
pub extern "C" fn lease4_release(_handle: *const CalloutHandle) -> c_int {
    announced("lease4_release")
}

/// Called by Kea when a client is about to decline an address.
#[unsafe(no_mangle)]
pub extern "C" fn lease4_decline(_handle: *const CalloutHandle) -> c_int {
    announced("lease4_decline")
}

/// Handles a callout that announces a client's message.
fn announced(name: &str) -> c_int {
    callout(name, || {
        events().announced();
        Ok(())
    })
}

/// Called by Kea when a client's message has changed leases, or could have.
///
/// # Safety
/// `handle` must point to the callout's handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn leases4_committed(handle: *const CalloutHandle) -> c_int {
    // SAFETY: Kea passes a reference to a handle that only this thread uses until the callout returns.
    bridge::lend_committed(unsafe { &*handle }, tells_answers(HOOKS_VERSION));
    0
}

/// Called by Kea when it is about to answer a client.
///
/// # Safety
/// `handle` must point to the callout's handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pkt4_send(handle: *const CalloutHandle) -> c_int {
    callout("pkt4_send", || {
        if events().needs_answer() {
            // SAFETY: as in `leases4_committed`.
            bridge::lend_answered(unsafe { &*handle });
        }
        Ok(())
    })
}

/// Called by Kea when it offers an address.
///
/// # Safety
/// `handle` must point to the callout's handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lease4_offer(handle: *const CalloutHandle) -> c_int {
    // SAFETY: as in `leases4_committed`.
    bridge::lend_offered(unsafe { &*handle });
    0
}

/// Called by Kea when it has declined an address itself, from Kea 2.5 on.
///
/// # Safety
/// `handle` must point to the callout's handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lease4_server_decline(handle: *const CalloutHandle) -> c_int {
    // SAFETY: as in `leases4_committed`.
    bridge::lend_lease(unsafe { &*handle }, KeaLeaseCallout::ServerDecline);
    0
}

/// Called by Kea when it reclaims an expired lease.
///
/// # Safety
/// `handle` must point to the callout's handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lease4_expire(handle: *const CalloutHandle) -> c_int {
    // SAFETY: as in `leases4_committed`.
    bridge::lend_lease(unsafe { &*handle }, KeaLeaseCallout::Expire);
    0
}

/// Called by Kea when it recovers a declined address.
///
/// # Safety
/// `handle` must point to the callout's handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lease4_recover(handle: *const CalloutHandle) -> c_int {
    // SAFETY: as in `leases4_committed`.
    bridge::lend_lease(unsafe { &*handle }, KeaLeaseCallout::Recover);
    0
}

/// Called by Kea when it has taken over changes from a configuration database.
#[unsafe(no_mangle)]
pub extern "C" fn cb4_updated(_handle: *const CalloutHandle) -> c_int {
    callout("cb4_updated", || {
        events().request_reconfiguration();
        Ok(())
    })
}

/// Called by Kea when it has processed a control command.
///
/// # Safety
/// `handle` must point to the callout's handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn command_processed(handle: *const CalloutHandle) -> c_int {
    callout("command_processed", || {
        // SAFETY: as in `leases4_committed`.
        let handle = unsafe { &*handle };
        let name = bridge::command_name(handle)?;
        let command = || -> Result<_, KeaError> {
            let command = bridge::command(handle)?;
            Ok((command.arguments, command.response))
        };
        PLUGIN.commanded(&name, command)
    })
}
