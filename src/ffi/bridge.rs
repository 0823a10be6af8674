//! The bridge to Kea's C++: plain values only, and no decision on the other side.
//!
//! Every function of C++ is declared `Result`, because every one ends there with a `catch` of
//! whatever was thrown: a C++ exception that leaves a bridge function not declared so ends the
//! process, and the process is the DHCP server. So does a panic in a function of ours that C++
//! calls: each of those is a guard and a call.

#![allow(unsafe_code, missing_docs)] // `cxx` writes both sides of the boundary.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use cxx::Exception;
use once_cell::sync::OnceCell;

#[cxx::bridge(namespace = "kea_blq")]
mod ffi {
    /// A lease as Kea's database has it, lent for the time of a call.
    struct KeaLease<'a> {
        /// Its address, in host byte order.
        address: u32,
        /// Kea's number of its state.
        state: u32,
        /// Client last transaction time, seconds since 1970.
        cltt: i64,
        /// Valid lifetime, in seconds.
        valid_lifetime: u32,
        /// The number of the subnet.
        subnet: u32,
        /// The client's hardware type; 0 without a hardware address.
        hardware_type: u16,
        /// The client's hardware address; empty if none.
        hardware: &'a [u8],
        /// The client identifier; empty if none.
        client_id: &'a [u8],
        /// The host name, any octets.
        hostname: &'a [u8],
        /// The text that stands for the relay agent information in the user-context; empty if
        /// there is none, or it was not asked for.
        relay_agent_info: &'a [u8],
    }

    /// A client's message, lent for the time of a callout. But for its octets it is as Kea has read
    /// it, and as other hooks have left it.
    struct KeaMessage<'a> {
        /// Its DHCP message type.
        message_type: u8,
        /// The message as it was received.
        octets: &'a [u8],
        /// The client's hardware type.
        hardware_type: u16,
        /// The client's hardware address; empty if none.
        hardware: &'a [u8],
        /// The client identifier; empty if none.
        client_id: &'a [u8],
        /// The address of the relay agent that forwarded it (giaddr), in host byte order; 0 if none
        /// did.
        relay: u32,
        /// The value of option 82 as Kea stores it with a lease; empty if there is none.
        relay_agent_information: Vec<u8>,
        /// The classes Kea put it in, in Kea's order.
        classes: Vec<KeaName<'a>>,
    }

    /// A name, any octets.
    struct KeaName<'a> {
        /// It.
        name: &'a [u8],
    }

    /// An answer to a client.
    struct KeaAnswer {
        /// The DHCP message type; 0 if there is none, as in an answer to a BOOTP client.
        message_type: u8,
        /// The address that the client gets (yiaddr), in host byte order; 0 if none.
        address: u32,
    }

    /// A control command that has been processed, but for its name.
    struct KeaCommand {
        /// Its arguments as JSON text; empty if it had none.
        arguments: Vec<u8>,
        /// Kea's response as JSON text.
        response: Vec<u8>,
    }

    /// Where an option is configured.
    #[repr(u8)]
    enum KeaScope {
        Global,
        SharedNetwork,
        Subnet,
        Pool,
        Class,
        Reservation,
    }

    /// An option of space `dhcp4` in Kea's configuration. Which of the fields that name a place
    /// count depends on `scope`.
    struct KeaOption {
        /// Where it is configured.
        scope: KeaScope,
        /// Its code.
        code: u16,
        /// Its value on the wire.
        value: Vec<u8>,
        /// Whether it is never to be sent.
        never_send: bool,
        /// The classes it is restricted to; empty if to none.
        client_classes: Vec<String>,
        /// A shared network's or a class's name, or the type of a reservation's identifier.
        name: String,
        /// The subnet's number.
        subnet: u32,
        /// A pool's first address, or the address reserved; 0 if none.
        first: u32,
        /// A pool's last address.
        last: u32,
        /// A reservation's identifier.
        identifier: Vec<u8>,
    }

    /// A host reservation in a database.
    struct KeaReservation {
        /// The number of its subnet; 0 for a global one.
        subnet: u32,
        /// The type of its identifier, as Kea's configuration calls it.
        identifier_type: String,
        /// The identifier.
        identifier: Vec<u8>,
        /// The address reserved; 0 if none.
        address: u32,
        /// The host name reserved; empty if none.
        hostname: String,
    }

    /// A part of the host reservations in databases.
    struct KeaReservations {
        /// The database, counted from 1, to go on with.
        source: usize,
        /// The number there of the last one.
        last: u64,
        /// The reservations; none if there are no more.
        reservations: Vec<KeaReservation>,
        /// Their options.
        options: Vec<KeaOption>,
    }

    /// How serious a log message is.
    #[repr(u8)]
    enum KeaSeverity {
        Debug,
        Info,
        Warning,
        Error,
    }

    extern "Rust" {
        /// Copies octets at once. It does not panic.
        fn copied(octets: &[u8]) -> Vec<u8>;

        /// Takes the leases that are asked for.
        type LeaseTaker<'a>;
        /// Here is one. A panic goes on when C++ is done.
        fn take(self: &mut LeaseTaker, lease: &KeaLease);

        /// Whether an added or updated lease, in a state by Kea's number, is to be told of: asked
        /// before the lease is copied.
        fn wants_change(state: u32) -> bool;
        /// The lease manager has added or updated a lease.
        fn lease_changed(lease: &KeaLease);
        /// The lease manager has deleted the lease of an address.
        fn lease_deleted(address: u32);
        /// The lease manager has changed a lease that could not be copied.
        fn change_missed();

        /// It is our turn on Kea's main thread.
        fn tick();
    }

    unsafe extern "C++" {
        include!("kea-blq/include/shim.h");

        /// A callout's arguments and status: valid for the duration of the callout.
        #[namespace = "isc::hooks"]
        type CalloutHandle;
        /// The library as Kea knows it: valid during load().
        #[namespace = "isc::hooks"]
        type LibraryHandle;

        /// The name under which the daemon runs: `isc::process::Daemon::getProcName`.
        fn process_name() -> Result<String>;
        /// Makes Kea's logger know a message identifier, whose text is its argument.
        fn register_message(id: &str) -> Result<()>;
        /// Whether Kea's logger would write a message of this severity.
        fn log_enabled(severity: KeaSeverity) -> Result<bool>;
        /// Logs under a registered identifier.
        fn log(severity: KeaSeverity, id: &str, text: &str) -> Result<()>;

        /// The library's parameters as JSON text; empty if it has none.
        fn parameters(library: Pin<&mut LibraryHandle>) -> Result<Vec<u8>>;
        /// Has Kea call this library no more at a point: only during load().
        fn forgo(library: Pin<&mut LibraryHandle>, point: &str) -> Result<()>;
        /// The whole configuration that Kea is loading, as JSON text: only during load().
        fn staged_configuration() -> Result<Vec<u8>>;
        /// The directory where Kea keeps its data.
        fn data_directory() -> Result<String>;
        /// The path by which Kea would open a file of its data that is configured as `name`; an error
        /// where it would refuse to.
        fn data_file(name: &str) -> Result<String>;
        /// The files of all hook libraries that are loaded, in the order of the configuration.
        fn libraries() -> Result<Vec<String>>;
        /// Whether the loaded library of this file exports a symbol.
        fn library_exports(file: &str, symbol: &str) -> Result<bool>;

        /// The whole configuration as JSON text, from `server_config`.
        fn configuration(handle: &CalloutHandle) -> Result<Vec<u8>>;
        /// All configured options, from `server_config`.
        fn configured_options(handle: &CalloutHandle) -> Result<Vec<KeaOption>>;
        /// Whether a configuration is in force: not before Kea's first one is.
        fn has_configuration() -> Result<bool>;
        /// The whole configuration in force, as JSON text.
        fn current_configuration() -> Result<Vec<u8>>;
        /// All options of the configuration in force.
        fn current_options() -> Result<Vec<KeaOption>>;
        /// Fails the configuration with a text: argument `error` and status DROP.
        fn reject(handle: Pin<&mut CalloutHandle>, error: &str) -> Result<()>;

        /// Has Kea process packets by the number of threads that its configuration in force asks
        /// for. Not while there is none, which is at the start.
        fn restore_threads() -> Result<()>;

        /// Stops Kea's packet threads until [`exit_critical_section`], which must follow.
        fn enter_critical_section() -> Result<()>;
        /// Has Kea's packet threads go on.
        fn exit_critical_section() -> Result<()>;

        /// Has Kea's main thread call `tick` whenever a file descriptor can be read, until
        /// [`unwatch`], which must follow.
        fn watch(descriptor: i32) -> Result<()>;
        /// Takes that back.
        fn unwatch(descriptor: i32) -> Result<()>;

        /// What Kea answers to `status-get`, as JSON text, as far as hooks add to it.
        fn status_of_hooks() -> Result<Vec<u8>>;

        /// Has the lease manager tell of each change of a lease, until [`untrack_leases`], which
        /// must follow; `false` if this version of Kea cannot.
        fn track_leases() -> Result<bool>;
        /// Takes that back.
        fn untrack_leases() -> Result<()>;

        /// The client's message of leases4_committed, lease4_offer and pkt4_send, the argument
        /// `query4`.
        fn message<'a>(handle: &'a CalloutHandle) -> Result<KeaMessage<'a>>;
        /// The argument `leases4` of leases4_committed and lease4_offer: leases made or changed.
        fn leases(handle: &CalloutHandle, taker: &mut LeaseTaker) -> Result<()>;
        /// The argument `deleted_leases4` of leases4_committed: leases given up, as they were
        /// before.
        fn deleted_leases(handle: &CalloutHandle, taker: &mut LeaseTaker) -> Result<()>;
        /// The argument `response4` of pkt4_send, and from Kea 3.0 on of leases4_committed; of no
        /// type and without an address if there is no answer.
        fn answer(handle: &CalloutHandle) -> Result<KeaAnswer>;
        /// The argument `offer_lifetime` of lease4_offer: 0 if nothing was stored.
        fn offer_lifetime(handle: &CalloutHandle) -> Result<u32>;
        /// The argument `lease4` of lease4_expire, lease4_recover and lease4_server_decline.
        fn lease(handle: &CalloutHandle, taker: &mut LeaseTaker) -> Result<()>;
        /// The argument `name` of command_processed.
        fn command_name(handle: &CalloutHandle) -> Result<String>;
        /// The other arguments of command_processed.
        fn command(handle: &CalloutHandle) -> Result<KeaCommand>;

        /// Whether there are databases of host reservations.
        fn has_host_database() -> Result<bool>;
        /// Up to `limit` host reservations of the database `source`, counted from 1, after the
        /// one with the number `after`, or of those that follow.
        fn database_reservations(
            source: usize,
            after: u64,
            limit: usize,
        ) -> Result<KeaReservations>;

        /// The type of the lease database, such as `memfile`.
        fn lease_database_type() -> Result<String>;
        /// Up to `limit` leases in ascending order of address, after the address `after`.
        fn lease_page(after: u32, limit: usize, taker: &mut LeaseTaker) -> Result<()>;
        /// The lease of an address: one or none.
        fn lease_of(address: u32, taker: &mut LeaseTaker) -> Result<()>;
        /// The addresses of all leases of a subnet.
        fn leased_addresses(subnet: u32) -> Result<Vec<u32>>;
    }
}

/// Copies octets: C++ could append them to a `Vec` one by one only.
fn copied(octets: &[u8]) -> Vec<u8> {
    octets.to_vec()
}

/// The functions that C++ calls, besides [`LeaseTaker::take`].
pub struct Handlers {
    /// `wants_change`.
    pub wants_change: fn(u32) -> bool,
    /// `lease_changed`.
    pub lease_changed: fn(&KeaLease<'_>),
    /// `lease_deleted`.
    pub lease_deleted: fn(u32),
    /// `change_missed`.
    pub change_missed: fn(),
    /// `tick`.
    pub tick: fn(),
}

/// The functions registered.
static HANDLERS: OnceCell<&Handlers> = OnceCell::new();

/// Registers the functions that C++ calls. The first ones stay.
pub fn register(handlers: &'static Handlers) {
    let _ = HANDLERS.set(handlers);
}

/// Calls a registered function. The result is `failed` before there are any, and if the function panics;
/// the panic hook has reported the panic then.
fn handle<T>(failed: T, call: impl FnOnce(&Handlers) -> T) -> T {
    let Some(handlers) = HANDLERS.get() else {
        return failed;
    };
    catch_unwind(AssertUnwindSafe(|| call(handlers))).unwrap_or(failed)
}

/// Calls the registered function of this name.
fn wants_change(state: u32) -> bool {
    handle(true, |handlers| (handlers.wants_change)(state))
}

/// Calls the registered function of this name.
fn lease_changed(lease: &KeaLease<'_>) {
    handle((), |handlers| (handlers.lease_changed)(lease));
}

/// Calls the registered function of this name.
fn lease_deleted(address: u32) {
    handle((), |handlers| (handlers.lease_deleted)(address));
}

/// Calls the registered function of this name.
fn change_missed() {
    handle((), |handlers| (handlers.change_missed)());
}

/// Calls the registered function of this name.
fn tick() {
    handle((), |handlers| (handlers.tick)());
}

/// Takes leases that C++ lends one after the other, each for the time of a call.
pub struct LeaseTaker<'a> {
    /// Called with each lease.
    each: &'a mut dyn FnMut(&KeaLease<'_>),
    /// The panic of `each`, which must not unwind into C++. No more leases are taken then.
    panic: Option<Box<dyn Any + Send>>,
}

impl LeaseTaker<'_> {
    /// Takes a lease.
    fn take(&mut self, lease: &KeaLease<'_>) {
        if self.panic.is_none() {
            let each = AssertUnwindSafe(|| (self.each)(lease));
            self.panic = catch_unwind(each).err();
        }
    }
}

/// Calls `each` with every lease that C++ lends to `read`.
pub fn for_each_lease(
    read: impl FnOnce(&mut LeaseTaker<'_>) -> Result<(), Exception>,
    mut each: impl FnMut(&KeaLease<'_>),
) -> Result<(), Exception> {
    let mut taker = LeaseTaker {
        each: &mut each,
        panic: None,
    };
    let read = read(&mut taker);
    match taker.panic {
        Some(panic) => resume_unwind(panic),
        None => read,
    }
}

pub use ffi::*;
