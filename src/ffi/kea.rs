//! The running kea-dhcp4, through the bridge.

use std::net::Ipv4Addr;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::pin::Pin;
use std::time::{Duration, Instant};

use cxx::Exception;

use crate::ffi::bridge::{self, LibraryHandle};
use crate::ffi::conversions::configured_options;
use crate::ffi::main_loop;
use crate::mirror::event::Lease;
use crate::plugin::command_line;
use crate::plugin::kea::{
    HostPage, HostPosition, Kea, KeaError, Library, LoadedLibrary, RawConfiguration, Result,
};

/// The version of the hooks interface that this library was built against.
pub const HOOKS_VERSION: u32 = match u32::from_str_radix(env!("KEA_HOOKS_VERSION"), 10) {
    Ok(version) => version,
    Err(_) => panic!("build.rs gives a number"),
};

/// The symbol that every file with this library in it exports.
const LIBRARY_SYMBOL: &str = "KEA_BLQ_LIBRARY";

/// The environment variable that names Kea's data directory (Kea ARM, from 2.6.3 on).
const DATA_DIRECTORY: &str = "KEA_DHCP_DATA_DIR";

/// The Kea whose process this is.
#[derive(Clone, Copy, Debug)]
pub struct ThisKea;

impl From<Exception> for KeaError {
    fn from(error: Exception) -> KeaError {
        KeaError(error.to_string())
    }
}

impl Kea for ThisKea {
    #[inline]
    fn version(&self) -> u32 {
        HOOKS_VERSION
    }

    fn process_name(&self) -> Result<String> {
        Ok(bridge::process_name()?)
    }

    fn checks_only(&self) -> bool {
        let arguments = std::env::args_os().skip(1);
        command_line::checks_configuration(arguments.map(OsStringExt::into_vec))
    }

    fn libraries(&self) -> Result<Vec<LoadedLibrary>> {
        let library = |file: String| LoadedLibrary {
            is_this: bridge::library_exports(&file, LIBRARY_SYMBOL).unwrap_or(false),
            file,
        };
        Ok(bridge::libraries()?.into_iter().map(library).collect())
    }

    fn data_directory(&self) -> Result<PathBuf> {
        Ok(bridge::data_directory()?.into())
    }

    /// Kea 2.2 does not look at the environment for its data directory as later versions do; one variable
    /// for all spares operators and tests a difference.
    fn state_directory(&self) -> Result<PathBuf> {
        match std::env::var_os(DATA_DIRECTORY) {
            Some(directory) if !directory.is_empty() => Ok(directory.into()),
            _ => self.data_directory(),
        }
    }

    fn data_file(&self, name: &str) -> Result<PathBuf> {
        Ok(bridge::data_file(name)?.into())
    }

    fn staged_configuration(&self) -> Result<Vec<u8>> {
        Ok(bridge::staged_configuration()?)
    }

    fn has_configuration(&self) -> Result<bool> {
        Ok(bridge::has_configuration()?)
    }

    fn current_configuration(&self) -> Result<RawConfiguration> {
        Ok(RawConfiguration {
            text: bridge::current_configuration()?,
            options: configured_options(bridge::current_options()?),
        })
    }

    fn has_host_database(&self) -> Result<bool> {
        Ok(bridge::has_host_database()?)
    }

    fn host_reservations(&self, position: HostPosition, limit: usize) -> Result<HostPage> {
        let HostPosition { source, after } = position;
        Ok(bridge::database_reservations(source, after, limit)?.into())
    }

    fn restore_threads(&self) -> Result<()> {
        Ok(bridge::restore_threads()?)
    }

    fn enter_critical_section(&self) -> Result<()> {
        Ok(bridge::enter_critical_section()?)
    }

    fn exit_critical_section(&self) -> Result<()> {
        Ok(bridge::exit_critical_section()?)
    }

    fn now(&self) -> Instant {
        Instant::now()
    }

    fn start_ticks(&self) -> Result<()> {
        main_loop::start().map_err(KeaError)
    }

    fn stop_ticks(&self) -> Result<()> {
        main_loop::stop().map_err(KeaError)
    }

    fn schedule_tick(&self, delay: Duration) {
        main_loop::schedule(delay);
    }

    fn set_statistic(&self, name: &str, value: u64) -> Result<()> {
        let value = i64::try_from(value).unwrap_or(i64::MAX);
        Ok(bridge::set_statistic(name, value)?)
    }

    fn add_statistic(&self, name: &str, difference: u64) -> Result<()> {
        let difference = i64::try_from(difference).unwrap_or(i64::MAX);
        Ok(bridge::add_statistic(name, difference)?)
    }

    fn is_own_address(&self, address: Ipv4Addr) -> Result<bool> {
        Ok(bridge::listens_on(address.to_bits())?)
    }

    fn is_memfile(&self) -> Result<bool> {
        Ok(bridge::lease_database_type()? == "memfile")
    }

    fn lease_page(&self, after: u32, limit: usize, leases: &mut Vec<Lease>) -> Result<()> {
        Ok(bridge::for_each_lease(
            |taker| bridge::lease_page(after, limit, taker),
            |lease| leases.push(lease.into()),
        )?)
    }

    fn lease(&self, address: Ipv4Addr) -> Result<Option<Lease>> {
        let mut found = None;
        bridge::for_each_lease(
            |taker| bridge::lease_of(address.to_bits(), taker),
            |lease| found = Some(lease.into()),
        )?;
        Ok(found)
    }

    fn leased_addresses(&self, subnet: u32) -> Result<Vec<Ipv4Addr>> {
        let addresses = bridge::leased_addresses(subnet)?.into_iter();
        Ok(addresses.map(Ipv4Addr::from_bits).collect())
    }

    fn track_leases(&self) -> Result<bool> {
        Ok(bridge::track_leases()?)
    }

    fn untrack_leases(&self) -> Result<()> {
        Ok(bridge::untrack_leases()?)
    }

    fn status_of_hooks(&self) -> Result<Vec<u8>> {
        Ok(bridge::status_of_hooks()?)
    }
}

/// The plugin's own library during load.
pub struct ThisLibrary<'a>(pub Pin<&'a mut LibraryHandle>);

impl Library for ThisLibrary<'_> {
    fn parameters(&mut self) -> Result<Vec<u8>> {
        Ok(bridge::parameters(self.0.as_mut())?)
    }

    fn register_command(&mut self, name: &str) -> Result<()> {
        Ok(bridge::register_command(self.0.as_mut(), name)?)
    }

    fn forgo(&mut self, callout: &str) -> Result<()> {
        Ok(bridge::forgo(self.0.as_mut(), callout)?)
    }
}
