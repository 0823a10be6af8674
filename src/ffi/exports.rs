//! The functions that Kea calls: `load` and its like, and callouts by their names.
//!
//! Each is a guard and a call. Nothing may unwind into Kea: a panic is reported by the panic
//! hook and ends here. C++ exceptions end on their own side, as errors of the bridge.

#![allow(unsafe_code)] // The C ABI.

use std::ffi::c_int;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;

use crate::ffi::bridge::{CalloutHandle, LibraryHandle};
use crate::plugin::{attribution, lease_events, service};

/// The version of the hooks interface that this was built against.
pub const HOOKS_VERSION: u32 = match u32::from_str_radix(env!("KEA_HOOKS_VERSION"), 10) {
    Ok(version) => version,
    Err(_) => panic!("build.rs gives a number"),
};

/// Exported so that any build of this library is recognised, whatever its file is called.
#[unsafe(no_mangle)]
pub static KEA_BLQ_LIBRARY: u8 = 1;

/// Calls `body`; if it panics, the result is `failed`.
fn guarded(failed: c_int, body: impl FnOnce() -> c_int) -> c_int {
    // What `body` may have left half done is behind locks that do not poison, and is
    // replaced as a whole at the next reconfiguration.
    catch_unwind(AssertUnwindSafe(body)).unwrap_or(failed)
}

/// Calls a callout's `body`. Kea must go on whatever comes of it, so the result is always 0.
fn callout(name: &str, body: impl FnOnce() -> Result<(), cxx::Exception>) -> c_int {
    guarded(0, || {
        if let Err(error) = body() {
            tracing::error!(id = "BLQ_CALLOUT_FAILED", "{name}: {error}");
        }
        0
    })
}

/// Tells Kea which hooks interface this library speaks.
#[unsafe(no_mangle)]
pub extern "C" fn version() -> c_int {
    HOOKS_VERSION.cast_signed()
}

/// Tells Kea that callouts may run on several threads at once.
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
        // SAFETY: Kea passes a reference, for us alone until we return; C++ objects stay where
        // they are, and we only hand the reference back to C++.
        let library = unsafe { Pin::new_unchecked(&mut *library) };
        service::load(library).map_or(1, |()| 0)
    })
}

/// Called by Kea before it unloads the library.
#[unsafe(no_mangle)]
pub extern "C" fn unload() -> c_int {
    guarded(1, || {
        service::unload();
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
        service::configured(handle)
    })
}

/// Called by Kea when it is about to lease an address to a client, or to offer it.
#[unsafe(no_mangle)]
pub extern "C" fn lease4_select(_handle: *const CalloutHandle) -> c_int {
    entering("lease4_select")
}

/// Called by Kea when it is about to renew a lease.
#[unsafe(no_mangle)]
pub extern "C" fn lease4_renew(_handle: *const CalloutHandle) -> c_int {
    entering("lease4_renew")
}

/// Called by Kea when a client is about to give a lease back.
#[unsafe(no_mangle)]
pub extern "C" fn lease4_release(_handle: *const CalloutHandle) -> c_int {
    entering("lease4_release")
}

/// Called by Kea when a client is about to decline an address.
#[unsafe(no_mangle)]
pub extern "C" fn lease4_decline(_handle: *const CalloutHandle) -> c_int {
    entering("lease4_decline")
}

/// A client's message is about to change leases.
fn entering(name: &str) -> c_int {
    callout(name, || {
        attribution::enter_packet();
        Ok(())
    })
}

/// Called by Kea when a client's message has changed leases, or could have.
///
/// # Safety
/// `handle` must point to the callout's handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn leases4_committed(handle: *const CalloutHandle) -> c_int {
    callout("leases4_committed", || {
        // SAFETY: Kea passes a reference to a handle that only this thread uses until we return.
        lease_events::committed(unsafe { &*handle })
    })
}

/// Called by Kea when it is about to answer a client.
///
/// # Safety
/// `handle` must point to the callout's handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pkt4_send(handle: *const CalloutHandle) -> c_int {
    callout("pkt4_send", || {
        // SAFETY: as in `leases4_committed`.
        lease_events::answered(unsafe { &*handle })
    })
}

/// Called by Kea when it offers an address.
///
/// # Safety
/// `handle` must point to the callout's handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lease4_offer(handle: *const CalloutHandle) -> c_int {
    callout("lease4_offer", || {
        // SAFETY: as in `leases4_committed`.
        lease_events::offered(unsafe { &*handle })
    })
}

/// Called by Kea when it has declined an address itself, from Kea 2.5 on.
///
/// # Safety
/// `handle` must point to the callout's handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lease4_server_decline(handle: *const CalloutHandle) -> c_int {
    callout("lease4_server_decline", || {
        // SAFETY: as in `leases4_committed`.
        lease_events::server_declined(unsafe { &*handle })
    })
}

/// Called by Kea when it reclaims an expired lease.
///
/// # Safety
/// `handle` must point to the callout's handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lease4_expire(handle: *const CalloutHandle) -> c_int {
    callout("lease4_expire", || {
        // SAFETY: as in `leases4_committed`.
        lease_events::expired(unsafe { &*handle })
    })
}

/// Called by Kea when it recovers a declined address.
///
/// # Safety
/// `handle` must point to the callout's handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lease4_recover(handle: *const CalloutHandle) -> c_int {
    callout("lease4_recover", || {
        // SAFETY: as in `leases4_committed`.
        lease_events::recovered(unsafe { &*handle })
    })
}

/// Called by Kea when it has taken over changes from a configuration database.
#[unsafe(no_mangle)]
pub extern "C" fn cb4_updated(_handle: *const CalloutHandle) -> c_int {
    callout("cb4_updated", || {
        service::reconfigured();
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
        lease_events::commanded(unsafe { &*handle })
    })
}
