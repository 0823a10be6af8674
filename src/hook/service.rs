//! What loading, configuring and unloading do.
//!
//! Kea unloads and loads its libraries at each reconfiguration, but this one stays in memory
//! (see `build.rs`), and with it what is kept here: the previous good configuration is served
//! again when a new one is refused and Kea goes on.

use std::net::Ipv4Addr;
use std::os::unix::ffi::OsStringExt;
use std::panic::PanicHookInfo;
use std::pin::Pin;
use std::sync::Once;

use cxx::Exception;
use parking_lot::Mutex;
use tracing::Level;

use super::bridge::{self, CalloutHandle, KeaSeverity, LibraryHandle};
use super::{command_line, log, messages};
use crate::binding::SubnetId;
use crate::config::{self, Config};
use crate::event::Event;

/// The only daemon this library is for.
const DAEMON: &str = "kea-dhcp4";

/// The library must not be loaded; the log says why.
#[derive(Debug)]
pub struct Refused;

/// What lasts from one call of Kea's to the next.
struct State {
    /// The parameters of the library as last loaded, as JSON text.
    parameters: String,
}

/// Used on Kea's main thread only.
static STATE: Mutex<State> = Mutex::new(State {
    parameters: String::new(),
});

/// Takes note of the library's parameters. Whether they are good is said when the configuration
/// is complete: a library that refuses to load leaves Kea without any DHCP service.
pub fn load(library: Pin<&mut LibraryHandle>) -> Result<(), Refused> {
    set_up_log();
    let daemon = bridge::process_name().map_err(|error| {
        tracing::error!(id = "BLQ_WRONG_DAEMON", "the daemon is not known: {error}");
        Refused
    })?;
    if daemon != DAEMON {
        tracing::error!(
            id = "BLQ_WRONG_DAEMON",
            "this library serves leases of {DAEMON} and cannot be loaded by {daemon}: remove it \
             from its 'hooks-libraries'"
        );
        return Err(Refused);
    }
    STATE.lock().parameters = match bridge::parameters(library) {
        Ok(parameters) if parameters.is_empty() => "null".to_owned(),
        Ok(parameters) => String::from_utf8_lossy(&parameters).into_owned(),
        Err(error) => {
            tracing::error!(id = "BLQ_CALLOUT_FAILED", "load: {error}");
            return Err(Refused);
        }
    };
    Ok(())
}

/// Kea has taken over a configuration.
pub fn configured(handle: Pin<&mut CalloutHandle>) -> Result<(), Exception> {
    let config = match Config::parse(&STATE.lock().parameters) {
        Ok(config) => config,
        Err(error) => return reject(handle, &error.to_string()),
    };
    for notice in &config.notices {
        match notice.level {
            config::Level::Info => tracing::info!(id = notice.id, "{}", notice.text),
            config::Level::Warning => tracing::warn!(id = notice.id, "{}", notice.text),
        }
    }
    let options = bridge::configured_options(&handle)?;
    for option in options {
        tracing::debug!(id = "BLQ_LEASE_CHANGED", "{:?}", option.configured());
    }
    tracing::debug!(
        id = "BLQ_LEASE_CHANGED",
        "{} {} {}",
        String::from_utf8_lossy(&bridge::configuration(&handle)?),
        bridge::data_directory()?,
        bridge::lease_database_type()?
    );
    let mut after = 0;
    loop {
        let page = bridge::lease_page(after, 100)?;
        let Some(last) = page.last() else { break };
        after = last.address;
        for lease in page {
            tracing::debug!(
                id = "BLQ_LEASE_CHANGED",
                "{:?}",
                crate::event::Lease::from(lease)
            );
        }
    }
    if only_checks() {
        tracing::info!(id = "BLQ_CHECKED", "the configuration is good");
        return Ok(());
    }
    Ok(())
}

/// Has Kea refuse the configuration.
fn reject(handle: Pin<&mut CalloutHandle>, error: &str) -> Result<(), Exception> {
    tracing::error!(id = "BLQ_CONFIGURATION_REFUSED", "{error}");
    bridge::reject(handle, error)
}

/// Kea ends, or is about to load the library anew.
pub fn unload() {
    tracing::info!(id = "BLQ_STOPPED", "unloaded");
}

/// Takes in a change of a lease.
pub fn push(event: Event) {
    tracing::debug!(id = "BLQ_LEASE_CHANGED", "{event:?}");
}

/// The addresses with a binding from `subnet`.
pub fn addresses_in(_subnet: SubnetId) -> Vec<Ipv4Addr> {
    Vec::new()
}

/// All subnets.
pub fn subnets() -> Vec<SubnetId> {
    Vec::new()
}

/// Whether the process was started to check a configuration.
fn only_checks() -> bool {
    let arguments = std::env::args_os().skip(1);
    command_line::checks_configuration(arguments.map(OsStringExt::into_vec))
}

/// Has what we log, and panics, go to Kea's log.
fn set_up_log() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        for message in messages::MESSAGES {
            // Without it the log shows that the text is missing.
            let _ = bridge::register_message(message.id);
        }
        // Nobody else in this library sets one.
        let _ = tracing::subscriber::set_global_default(log::Forward(KeaLog));
        std::panic::set_hook(Box::new(report_panic));
    });
}

/// Kea's log.
struct KeaLog;

impl log::Sink for KeaLog {
    fn is_enabled(&self, level: Level) -> bool {
        bridge::log_enabled(severity(level)).unwrap_or(false)
    }

    fn write(&self, level: Level, id: &'static str, text: &str) {
        // Where the log fails there is nowhere to say so.
        let _ = bridge::log(severity(level), id, text);
    }
}

/// Kea's severity of a level.
fn severity(level: Level) -> KeaSeverity {
    match level {
        Level::ERROR => KeaSeverity::Error,
        Level::WARN => KeaSeverity::Warning,
        Level::INFO => KeaSeverity::Info,
        _ => KeaSeverity::Debug,
    }
}

/// Logs a panic, the first one at each place: one that each packet meets must not fill the log.
fn report_panic(panic: &PanicHookInfo<'_>) {
    /// The places told of so far.
    static TOLD: Mutex<Vec<String>> = Mutex::new(Vec::new());
    let place = panic
        .location()
        .map(ToString::to_string)
        .unwrap_or_default();
    {
        let mut told = TOLD.lock();
        if told.contains(&place) {
            return;
        }
        told.push(place.clone());
    }
    let what = panic.payload_as_str().unwrap_or("");
    tracing::error!(id = "BLQ_PANIC", "{what} at {place}");
}
