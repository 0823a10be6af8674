//! The control commands of this library: `blq4-status` and others.
//!
//! A command comes on Kea's main thread, or on a thread of a high-availability listener, at any time: while leases
//! are loaded, during a reconfiguration, at the end. It reads a few published parts of the instance, and holds no
//! lock that a thread of Kea waits for, except for a moment.
//!
//! - `answer`: arguments and answers in Kea's form.
//! - `status`: `blq4-status`.
//! - `connections`: `blq4-connections` and `blq4-disconnect`.
//! - `lease`: `blq4-lease-get`.

mod answer;
mod connections;
mod lease;
mod status;

use std::sync::Arc;

use parking_lot::RwLock;
use serde_json::{Value, json};

use crate::plugin::control::answer::{Answer, Arguments};
use crate::plugin::observed::Observed;
use crate::plugin::statistics::Totals;

/// The names of the commands.
pub const COMMANDS: [&str; 5] = [
    "blq4-status",
    "blq4-connections",
    "blq4-disconnect",
    "blq4-resync",
    "blq4-lease-get",
];

/// The state that commands read.
#[derive(Debug)]
pub struct Control {
    /// The instance that runs, or the reason why none does. Commands hold it while they read, so that an instance
    /// that ends waits for them.
    observed: RwLock<Result<Observed, String>>,
    /// The counters.
    totals: Arc<Totals>,
}

impl Control {
    /// Creates the state before any instance.
    pub fn new(totals: Arc<Totals>) -> Control {
        Control {
            observed: RwLock::new(Err("Kea has not configured the library yet".to_owned())),
            totals,
        }
    }

    /// Sets the instance that runs, or the reason why none does. Waits for the commands in progress.
    pub fn set(&self, observed: Result<Observed, String>) {
        *self.observed.write() = observed;
    }

    /// Executes a command, given as JSON text as Kea has received it. `version` is that of Kea's hooks interface;
    /// `resync` requests a resync. Returns the answer as JSON text.
    pub fn execute(&self, command: &[u8], version: u32, resync: impl FnOnce()) -> Vec<u8> {
        let command: Value = serde_json::from_slice(command).unwrap_or_default();
        let name = command["command"].as_str().unwrap_or_default();
        let arguments = &command["arguments"];
        let answer = match name {
            "blq4-status" => self.status(name, arguments, version),
            "blq4-connections" => self.connections(name, arguments),
            "blq4-disconnect" => self.disconnect(name, arguments),
            "blq4-resync" => self.resync(name, arguments, resync),
            "blq4-lease-get" => self.lease_get(name, arguments),
            _ => Err(format!("'{name}' is no command of this library")),
        };
        let answer = answer.unwrap_or_else(Answer::Error).to_json();
        answer.to_string().into_bytes()
    }

    /// Executes `blq4-status`.
    fn status(&self, name: &str, arguments: &Value, version: u32) -> Result<Answer, String> {
        Arguments::read(name, arguments, &[])?;
        let observed = self.observed.read();
        let (text, status) = status::status(observed.as_ref(), &self.totals, version);
        Ok(Answer::Success(text, status))
    }

    /// Executes `blq4-connections`.
    fn connections(&self, name: &str, arguments: &Value) -> Result<Answer, String> {
        Arguments::read(name, arguments, &[])?;
        self.with(|observed| Ok(connections::list(&observed.monitor)))
    }

    /// Executes `blq4-disconnect`.
    fn disconnect(&self, name: &str, arguments: &Value) -> Result<Answer, String> {
        let arguments = Arguments::read(name, arguments, &["address", "port"])?;
        let (address, port) = (arguments.address("address")?, arguments.port("port")?);
        self.with(|observed| Ok(connections::disconnect(&observed.monitor, address, port)))
    }

    /// Executes `blq4-resync`.
    fn resync(
        &self,
        name: &str,
        arguments: &Value,
        resync: impl FnOnce(),
    ) -> Result<Answer, String> {
        Arguments::read(name, arguments, &[])?;
        self.with(|observed| {
            resync();
            let is_running = observed.resync.lock().is_running;
            let text = match (observed.mirror.is_complete(), is_running) {
                (false, _) => "all leases are compared once they are loaded",
                (true, true) => "all leases are compared again after the comparison in progress",
                (true, false) => "the comparison of all leases begins",
            };
            Ok(Answer::Success(
                text.to_owned(),
                json!({ "in-progress": is_running }),
            ))
        })
    }

    /// Executes `blq4-lease-get`.
    fn lease_get(&self, name: &str, arguments: &Value) -> Result<Answer, String> {
        let arguments = Arguments::read(name, arguments, &["ip-address"])?;
        let address = arguments.address("ip-address")?;
        self.with(|observed| lease::lease(observed, address))
    }

    /// Calls `read` with the instance that runs.
    ///
    /// # Errors
    /// None runs.
    fn with(
        &self,
        read: impl FnOnce(&Observed) -> Result<Answer, String>,
    ) -> Result<Answer, String> {
        match &*self.observed.read() {
            Ok(observed) => read(observed),
            Err(reason) => Err(format!("Bulk Leasequery is not served: {reason}")),
        }
    }
}
