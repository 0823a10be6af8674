//! The bridge to Kea's C++: plain values only, and no decision on the other side.
//!
//! A callout makes one call from C++ to Rust, with all its arguments lent in one struct. C++ also calls Rust for
//! changes that the lease manager reports, for ticks, and for each lease of a page. For everything else Rust calls
//! C++. Those functions are declared `Result`, as each one ends in a `catch` of all exceptions: an exception that
//! left a function not declared so would end the process, which is the DHCP server; the functions that lend are
//! `noexcept`. A panic in a function that C++ calls would end it too: each of those is a guard and a call.

#![allow(unsafe_code, missing_docs)] // `cxx` writes both sides of the boundary.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use cxx::Exception;
use once_cell::sync::OnceCell;

#[cxx::bridge(namespace = "kea_blq")]
mod ffi {
    /// A lease as Kea's database holds it, lent for the time of a call.
    struct KeaLease<'a> {
        /// The address, in host byte order.
        address: u32,
        /// Kea's number of the state.
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
        /// The text of the relay agent information in the user-context; empty if there is none, or if the
        /// function that lends the lease does not look for it.
        relay_agent_info: &'a [u8],
    }

    /// A client's message, lent for the time of a callout. All but its octets is as Kea has parsed it, and as
    /// other hooks have left it.
    struct KeaMessage<'a> {
        /// The DHCP message type; read only if leases ended, or if there are none.
        message_type: u8,
        /// The message as received.
        octets: &'a [u8],
        /// The client's hardware type.
        hardware_type: u16,
        /// The client's hardware address; empty if none.
        hardware: &'a [u8],
        /// The client identifier; empty if none.
        client_id: &'a [u8],
        /// The address of the relay agent that forwarded the message (giaddr), in host byte order; 0 if none
        /// did.
        relay: u32,
        /// The value of option 82 as Kea stores it with a lease; empty if there is none.
        relay_agent_information: &'a [u8],
        /// The client classes in Kea's order: for each the length of its name (2 octets, network byte order)
        /// and the name.
        classes: &'a [u8],
    }

    /// An answer to a client.
    struct KeaAnswer {
        /// The DHCP message type; 0 if there is none, as in an answer to a BOOTP client.
        message_type: u8,
        /// The address that the client gets (yiaddr), in host byte order; 0 if none.
        address: u32,
    }

    /// The arguments of `leases4_committed`.
    struct KeaCommitted<'a> {
        /// The client's message, `query4`.
        message: KeaMessage<'a>,
        /// The leases that it made or changed, `leases4`.
        leases: &'a [KeaLease<'a>],
        /// The leases that it ended, as they were before, `deleted_leases4`.
        deleted: &'a [KeaLease<'a>],
        /// The answer to the client, `response4`: from Kea 3.0 on, and read only if there are no leases.
        answer: KeaAnswer,
    }

    /// The arguments of `lease4_offer`.
    struct KeaOffered<'a> {
        /// The client's message, `query4`.
        message: KeaMessage<'a>,
        /// The leases offered, `leases4`.
        leases: &'a [KeaLease<'a>],
        /// The time for which their addresses are reserved in seconds, `offer_lifetime`.
        lifetime: u32,
    }

    /// The arguments of `pkt4_send`.
    struct KeaAnswered<'a> {
        /// The client's message, `query4`.
        message: KeaMessage<'a>,
        /// The answer, `response4`.
        answer: KeaAnswer,
    }

    /// A message that Kea has received, `query4` of `buffer4_receive`.
    struct KeaReceived<'a> {
        /// The octets.
        octets: &'a [u8],
        /// The address from which it was sent, in host byte order.
        source: u32,
        /// The address to which it was sent, in host byte order.
        local: u32,
    }

    /// A callout about one lease.
    #[repr(u8)]
    enum KeaLeaseCallout {
        /// `lease4_expire`.
        Expire,
        /// `lease4_recover`.
        Recover,
        /// `lease4_server_decline`.
        ServerDecline,
    }

    /// A control command that has been processed, without its name.
    struct KeaCommand {
        /// The arguments as JSON text; empty if there are none.
        arguments: Vec<u8>,
        /// Kea's response as JSON text.
        response: Vec<u8>,
    }

    /// The place of an option in Kea's configuration.
    #[repr(u8)]
    enum KeaScope {
        Global,
        SharedNetwork,
        Subnet,
        Pool,
        Class,
        Reservation,
    }

    /// An option of space `dhcp4` in Kea's configuration. `scope` decides which of the fields that name a
    /// place are set.
    struct KeaOption {
        /// The place.
        scope: KeaScope,
        /// The code.
        code: u16,
        /// The value on the wire.
        value: Vec<u8>,
        /// Whether it is never sent.
        never_send: bool,
        /// Whether it is sent to clients that do not ask for it.
        always_send: bool,
        /// The classes that it is restricted to; empty if to none.
        client_classes: Vec<String>,
        /// The name of a shared network or a class, or the type of a reservation's identifier.
        name: String,
        /// The number of the subnet.
        subnet: u32,
        /// The first address of a pool, or the address reserved; 0 if none.
        first: u32,
        /// The last address of a pool.
        last: u32,
        /// The identifier of a reservation.
        identifier: Vec<u8>,
    }

    /// A host reservation in a database.
    struct KeaReservation {
        /// The number of the subnet; 0 for a global one.
        subnet: u32,
        /// The type of the identifier, by its name in Kea's configuration.
        identifier_type: String,
        /// The identifier.
        identifier: Vec<u8>,
        /// The address reserved; 0 if none.
        address: u32,
        /// The host name reserved; empty if none.
        hostname: String,
    }

    /// Some host reservations from databases.
    struct KeaReservations {
        /// The database of the last one, counted from 1.
        source: usize,
        /// The number of the last one there.
        last: u64,
        /// The reservations; none if there are no more.
        reservations: Vec<KeaReservation>,
        /// The options of the reservations.
        options: Vec<KeaOption>,
    }

    /// The severity of a log message.
    #[repr(u8)]
    enum KeaSeverity {
        Debug,
        Info,
        Warning,
        Error,
    }

    extern "Rust" {
        /// Copies octets at once. Does not panic.
        fn copied(octets: &[u8]) -> Vec<u8>;

        /// Handles a client's message that has changed leases, or none.
        fn committed(arguments: &KeaCommitted);
        /// Handles an offer.
        fn offered(arguments: &KeaOffered);
        /// Handles an answer to a client.
        fn answered(arguments: &KeaAnswered);
        /// Handles a callout about one lease.
        fn lease_callout(callout: KeaLeaseCallout, lease: &KeaLease);
        /// Handles a message that Kea has received, and answers it through `packet`; returns whether Kea must
        /// drop it.
        fn received(message: &KeaReceived, packet: &KeaPacket) -> bool;
        /// Handles a callout whose arguments could not be read.
        fn callout_failed(callout: &str, error: String);

        /// Returns whether the lease manager's report of an added or updated lease, in a state by Kea's
        /// number, is wanted; asked before the lease is lent.
        fn wants_change(state: u32) -> bool;
        /// Handles the lease manager's report of an added or updated lease.
        fn lease_changed(lease: &KeaLease);
        /// Handles the lease manager's report of a deleted lease.
        fn lease_deleted(address: u32);
        /// Records that a report of the lease manager could not be read.
        fn change_missed();

        /// Does the work that is due on Kea's main thread.
        fn tick();

        /// Executes a control command of this library, as JSON text; returns the answer as JSON text. Empty if
        /// that failed.
        fn control(command: &[u8]) -> Vec<u8>;

        /// Takes leases one after the other.
        type LeaseTaker<'a>;
        /// Takes a lease. A panic continues when C++ has returned.
        fn take(self: &mut LeaseTaker, lease: &KeaLease);
    }

    unsafe extern "C++" {
        include!("kea-blq/include/shim.h");

        /// The arguments and the status of a callout; valid until the callout returns.
        #[namespace = "isc::hooks"]
        type CalloutHandle;
        /// A message that Kea has received; valid until the callout returns.
        type KeaPacket;
        /// The library as Kea knows it; valid during `load`.
        #[namespace = "isc::hooks"]
        type LibraryHandle;

        /// Lends the arguments of `leases4_committed` to `committed`, `with_answer` if this version of Kea gives
        /// that.
        fn lend_committed(handle: &CalloutHandle, with_answer: bool);
        /// Lends the arguments of `lease4_offer` to `offered`.
        fn lend_offered(handle: &CalloutHandle);
        /// Lends the arguments of `pkt4_send` to `answered`.
        fn lend_answered(handle: &CalloutHandle);
        /// Lends the lease of a callout about one lease, `lease4`, to `lease_callout`.
        fn lend_lease(handle: &CalloutHandle, callout: KeaLeaseCallout);
        /// Lends the message of `buffer4_receive` to `received`, and makes Kea drop it if that says so.
        fn lend_received(handle: Pin<&mut CalloutHandle>);
        /// Returns the address of the socket that received a message, in host byte order: if the message was sent to it,
        /// or else one of the interface.
        fn receiving_address(packet: &KeaPacket) -> Result<u32>;
        /// Sends a reply to a received message, from its receiving address and through its interface, to port 67 of an
        /// address in host byte order.
        fn send_reply(packet: &KeaPacket, to: u32, reply: &[u8]) -> Result<()>;
        /// Returns whether Kea has a socket with an address, in host byte order.
        fn listens_on(address: u32) -> Result<bool>;
        /// Returns the argument `name` of `command_processed`.
        fn command_name(handle: &CalloutHandle) -> Result<String>;
        /// Returns the other arguments of `command_processed`.
        fn command(handle: &CalloutHandle) -> Result<KeaCommand>;

        /// Returns the name under which the daemon runs, `isc::process::Daemon::getProcName`.
        fn process_name() -> Result<String>;
        /// Registers a message identifier, whose text is its argument, with Kea's logger.
        fn register_message(id: &str) -> Result<()>;
        /// Returns whether Kea's logger would write a message of this severity.
        fn log_enabled(severity: KeaSeverity) -> Result<bool>;
        /// Logs under a registered identifier.
        fn log(severity: KeaSeverity, id: &str, text: &str) -> Result<()>;

        /// Returns the library's parameters as JSON text; empty if it has none.
        fn parameters(library: Pin<&mut LibraryHandle>) -> Result<Vec<u8>>;
        /// Registers a control command, for which Kea calls `control` from then on; during `load` only.
        fn register_command(library: Pin<&mut LibraryHandle>, name: &str) -> Result<()>;
        /// Sets a statistic of Kea, and creates it if there is none of this name.
        fn set_statistic(name: &str, value: i64) -> Result<()>;
        /// Adds to a statistic of Kea, and creates it if there is none of this name.
        fn add_statistic(name: &str, difference: i64) -> Result<()>;
        /// Deregisters the callouts of this library at a point; during `load` only.
        fn forgo(library: Pin<&mut LibraryHandle>, point: &str) -> Result<()>;
        /// Returns the whole configuration that Kea is loading, as JSON text; during `load` only.
        fn staged_configuration() -> Result<Vec<u8>>;
        /// Returns the directory where Kea keeps its data.
        fn data_directory() -> Result<String>;
        /// Returns the path at which Kea would open a file of its data that is configured as `name`; an error
        /// where it would refuse to.
        fn data_file(name: &str) -> Result<String>;
        /// Returns the files of all hook libraries that are loaded, in the order of the configuration.
        fn libraries() -> Result<Vec<String>>;
        /// Returns whether the loaded library of this file exports a symbol.
        fn library_exports(file: &str, symbol: &str) -> Result<bool>;

        /// Returns the whole configuration as JSON text, from the argument `server_config`.
        fn configuration(handle: &CalloutHandle) -> Result<Vec<u8>>;
        /// Returns all configured options, from the argument `server_config`.
        fn configured_options(handle: &CalloutHandle) -> Result<Vec<KeaOption>>;
        /// Returns whether a configuration is in force; none is before Kea's first.
        fn has_configuration() -> Result<bool>;
        /// Returns the whole configuration in force, as JSON text.
        fn current_configuration() -> Result<Vec<u8>>;
        /// Returns all options of the configuration in force.
        fn current_options() -> Result<Vec<KeaOption>>;
        /// Refuses the configuration with a text: argument `error` and status DROP.
        fn reject(handle: Pin<&mut CalloutHandle>, error: &str) -> Result<()>;
        /// Sets the number of Kea's packet threads to that of the configuration in force; does nothing before
        /// Kea's first configuration.
        fn restore_threads() -> Result<()>;
        /// Stops Kea's packet threads until [`exit_critical_section`], which must follow.
        fn enter_critical_section() -> Result<()>;
        /// Lets Kea's packet threads continue.
        fn exit_critical_section() -> Result<()>;

        /// Makes Kea's main thread call `tick` whenever a descriptor can be read, until [`unwatch`], which
        /// must follow.
        fn watch(descriptor: i32) -> Result<()>;
        /// Ends that.
        fn unwatch(descriptor: i32) -> Result<()>;

        /// Returns the part of Kea's response to `status-get` that hooks contribute, as JSON text.
        fn status_of_hooks() -> Result<Vec<u8>>;

        /// Makes the lease manager report each change of a lease, until [`untrack_leases`], which must follow;
        /// `false` if this version of Kea cannot.
        fn track_leases() -> Result<bool>;
        /// Ends that.
        fn untrack_leases() -> Result<()>;

        /// Returns whether there are databases of host reservations.
        fn has_host_database() -> Result<bool>;
        /// Returns up to `limit` host reservations of the database `source`, counted from 1, after the one
        /// with the number `after`, or of the databases that follow.
        fn database_reservations(
            source: usize,
            after: u64,
            limit: usize,
        ) -> Result<KeaReservations>;

        /// Returns the type of the lease database, such as `memfile`.
        fn lease_database_type() -> Result<String>;
        /// Lends up to `limit` leases in ascending order of address, after the address `after`.
        fn lease_page(after: u32, limit: usize, taker: &mut LeaseTaker) -> Result<()>;
        /// Lends the lease of an address, if there is one.
        fn lease_of(address: u32, taker: &mut LeaseTaker) -> Result<()>;
        /// Returns the addresses of all leases of a subnet.
        fn leased_addresses(subnet: u32) -> Result<Vec<u32>>;
    }
}

pub use ffi::*;

/// Copies octets: C++ could append them to a `Vec` one by one only.
fn copied(octets: &[u8]) -> Vec<u8> {
    octets.to_vec()
}

// ---------------------------------------------------------------------------------- Handlers

/// Declares the table of the functions that C++ calls, and those functions. Each calls its handler. Its result is
/// the value after `or` before there are handlers, and if the handler panics, which the panic hook has reported
/// then.
macro_rules! handlers {
    ($($name:ident($($argument:ident: $type:ty),*) $(-> $result:ty, or $failed:expr)?;)*) => {
        /// The functions that C++ calls, by their names in the bridge.
        pub struct Handlers {
            $(pub $name: fn($($type),*) $(-> $result)?,)*
        }

        $(fn $name($($argument: $type),*) $(-> $result)? {
            let Some(handlers) = HANDLERS.get() else {
                return $($failed)?;
            };
            let call = AssertUnwindSafe(|| (handlers.$name)($($argument),*));
            catch_unwind(call).unwrap_or_else(|_| { $($failed)? })
        })*
    };
}

handlers! {
    committed(arguments: &KeaCommitted<'_>);
    offered(arguments: &KeaOffered<'_>);
    answered(arguments: &KeaAnswered<'_>);
    lease_callout(callout: KeaLeaseCallout, lease: &KeaLease<'_>);
    received(message: &KeaReceived<'_>, packet: &KeaPacket) -> bool, or false;
    callout_failed(callout: &str, error: String);
    wants_change(state: u32) -> bool, or true;
    lease_changed(lease: &KeaLease<'_>);
    lease_deleted(address: u32);
    change_missed();
    tick();
    control(command: &[u8]) -> Vec<u8>, or Vec::new();
}

/// The registered handlers.
static HANDLERS: OnceCell<&Handlers> = OnceCell::new();

/// Registers the handlers. The first ones stay.
pub fn register(handlers: &'static Handlers) {
    let _ = HANDLERS.set(handlers);
}

// ------------------------------------------------------------------------------------ Leases

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
///
/// # Errors
/// The exception that ended `read`.
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
