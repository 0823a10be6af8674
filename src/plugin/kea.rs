//! The DHCP server as the plugin sees it. The bridge implements [`Kea`]; tests do so with a fake.

use std::fmt;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::kea_config::{ConfiguredOption, DatabaseReservation};
use crate::mirror::event::Lease;

/// Result of a call to Kea.
pub type Result<T> = std::result::Result<T, KeaError>;

/// Text of an exception that Kea threw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeaError(pub String);

impl fmt::Display for KeaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for KeaError {}

/// The DHCP server.
///
/// Every access may fail, above all an access to leases: Kea has no lease manager while it loads its
/// libraries, nor while the lease database is down, nor (before 3.0.4) after a reload that it refused.
///
/// Unless said otherwise, methods may be called on Kea's main thread only.
pub trait Kea: Clone + Send + Sync + 'static {
    /// Returns the version of the hooks interface: 30003 for Kea 3.0.3. Any thread may ask.
    fn version(&self) -> u32;

    /// Returns the name of the daemon.
    ///
    /// # Errors
    /// Kea threw an exception, as below.
    fn process_name(&self) -> Result<String>;

    /// Returns whether the process was started only to check its configuration.
    fn checks_only(&self) -> bool;

    /// Returns all hook libraries that are loaded, in the order of the configuration.
    fn libraries(&self) -> Result<Vec<LoadedLibrary>>;

    // ------------------------------------------------------------------ Files

    /// Returns the directory in which Kea keeps its files.
    fn data_directory(&self) -> Result<PathBuf>;

    /// Returns the directory for the state file: Kea's data directory, or the one that replaces it by the
    /// environment.
    fn state_directory(&self) -> Result<PathBuf>;

    /// Returns the path at which Kea would open a file of its own that is configured as `name`; an error
    /// where Kea would refuse to.
    fn data_file(&self, name: &str) -> Result<PathBuf>;

    // ---------------------------------------------------------- Configuration

    /// Returns the whole configuration being loaded, as JSON text. Valid during load only.
    fn staged_configuration(&self) -> Result<Vec<u8>>;

    /// Returns whether a configuration is in force; none is before Kea's first.
    fn has_configuration(&self) -> Result<bool>;

    /// Returns the configuration in force.
    fn current_configuration(&self) -> Result<RawConfiguration>;

    /// Returns whether Kea is connected to a database of host reservations.
    fn has_host_database(&self) -> Result<bool>;

    /// Returns up to `limit` host reservations from databases that follow `position`.
    fn host_reservations(&self, position: HostPosition, limit: usize) -> Result<HostPage>;

    /// Sets the number of packet threads to that of the configuration in force; does nothing before Kea's first
    /// configuration.
    fn restore_threads(&self) -> Result<()>;

    /// Stops the packet threads until [`Kea::exit_critical_section`]. The high-availability library's
    /// threads stop, too, and may wait for locks of the plugin: none of them may be held. Any thread may
    /// call this.
    fn enter_critical_section(&self) -> Result<()>;

    /// Lets the packet threads continue.
    fn exit_critical_section(&self) -> Result<()>;

    // -------------------------------------------------------------- Main loop

    /// Returns the time by which ticks are scheduled. Any thread may ask.
    fn now(&self) -> Instant;

    /// Starts to call [`Plugin::tick`](crate::plugin::Plugin::tick) on the main thread at the times set by
    /// [`Kea::schedule_tick`], until [`Kea::stop_ticks`].
    fn start_ticks(&self) -> Result<()>;

    /// Ends the calls.
    fn stop_ticks(&self) -> Result<()>;

    /// Sets the time of the next tick to `delay` from now, in place of the one set before. Any thread may
    /// call this. It has no effect while there are no ticks.
    fn schedule_tick(&self, delay: Duration);

    /// Sets a statistic, and creates it if there is none of this name.
    fn set_statistic(&self, name: &str, value: u64) -> Result<()>;

    /// Adds to a statistic, and creates it if there is none of this name.
    fn add_statistic(&self, name: &str, difference: u64) -> Result<()>;

    /// Returns whether Kea listens for DHCP messages on an address. Any thread may ask.
    fn is_own_address(&self, address: Ipv4Addr) -> Result<bool>;

    // ----------------------------------------------------------------- Leases

    /// Returns whether Kea keeps its leases in memory and a file rather than in a database.
    fn is_memfile(&self) -> Result<bool>;

    /// Appends up to `limit` leases of addresses greater than `after`, in ascending order.
    fn lease_page(&self, after: u32, limit: usize, leases: &mut Vec<Lease>) -> Result<()>;

    /// Returns the lease of an address. The thread that has just processed a command may ask, too.
    fn lease(&self, address: Ipv4Addr) -> Result<Option<Lease>>;

    /// Returns the addresses of all leases from a subnet. The thread that has just processed a command may
    /// ask, too.
    fn leased_addresses(&self, subnet: u32) -> Result<Vec<Ipv4Addr>>;

    /// Starts to report every change of a lease by the lease manager, until [`Kea::untrack_leases`] or the
    /// end of this lease manager. Returns `false` where this version of Kea cannot.
    fn track_leases(&self) -> Result<bool>;

    /// Ends the reports.
    fn untrack_leases(&self) -> Result<()>;

    /// Returns the part of the response to `status-get` that hooks contribute, as JSON text. Must not be
    /// called while libraries are configured.
    fn status_of_hooks(&self) -> Result<Vec<u8>>;
}

/// The plugin's own library during load.
pub trait Library {
    /// Returns the library's parameters as JSON text; empty if it has none.
    ///
    /// # Errors
    /// Kea threw an exception, as below.
    fn parameters(&mut self) -> Result<Vec<u8>>;

    /// Registers a control command, for which Kea then calls
    /// [`Plugin::control`](crate::plugin::Plugin::control).
    fn register_command(&mut self, name: &str) -> Result<()>;

    /// Deregisters the callout of this name.
    fn forgo(&mut self, callout: &str) -> Result<()>;
}

/// A hook library that is loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadedLibrary {
    /// The file.
    pub file: String,
    /// Whether the file holds this library.
    pub is_this: bool,
}

/// Kea's configuration as Kea gives it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RawConfiguration {
    /// All of it, as JSON text.
    pub text: Vec<u8>,
    /// The options in it.
    pub options: Vec<ConfiguredOption>,
}

/// A position among the host reservations in databases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostPosition {
    /// The database, counted from 1.
    pub source: usize,
    /// The number of the last reservation read there.
    pub after: u64,
}

impl HostPosition {
    /// The position before all reservations.
    pub const START: HostPosition = HostPosition {
        source: 1,
        after: 0,
    };
}

/// Some host reservations from databases.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostPage {
    /// The position of the last one; `None` if there are no more reservations.
    pub end: Option<HostPosition>,
    /// The reservations that concern DHCPv4.
    pub hosts: Vec<DatabaseReservation>,
    /// The options of the reservations.
    pub options: Vec<ConfiguredOption>,
}
