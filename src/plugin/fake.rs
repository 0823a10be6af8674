//! A Kea for tests: leases and configuration in memory, a main loop and a clock that the test drives.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::kea_config::DatabaseReservation;
use crate::mirror::Mirror;
use crate::mirror::event::Lease;
use crate::model::binding::Binding;
use crate::plugin::kea::{
    HostPage, HostPosition, Kea, KeaError, Library, LoadedLibrary, RawConfiguration, Result,
};
use crate::plugin::{Plugin, Refused};

/// Real time after which a test that waits has failed, not hung.
const WATCHDOG: Duration = Duration::from_secs(120);

/// Kea's state, for a test to change.
pub struct State {
    /// The version of the hooks interface.
    pub version: u32,
    /// The name of the daemon.
    pub process_name: &'static str,
    /// Whether the process only checks its configuration.
    pub checks_only: bool,
    /// The files of the loaded libraries, each with whether it is this one.
    pub libraries: Vec<(&'static str, bool)>,
    /// The library's parameters.
    pub parameters: Value,
    /// The value of `Dhcp4` that Kea loads.
    pub dhcp4: Value,
    /// The value of `Dhcp4` in force.
    pub in_force: Option<Value>,
    /// The leases; `None`: there is no lease manager.
    pub leases: Option<BTreeMap<Ipv4Addr, Lease>>,
    /// The host reservations in a database; `None`: Kea is not connected to it.
    pub hosts: Option<Vec<DatabaseReservation>>,
    /// The response to `status-get`.
    pub status: Value,
    /// The method whose next call panics.
    pub panics_in: Option<&'static str>,
    /// The callouts deregistered.
    pub forgone: Vec<String>,
    /// The control commands registered.
    pub commands: Vec<String>,
    /// The statistics.
    pub statistics: BTreeMap<String, u64>,
    /// How often a statistic was set.
    pub statistics_set: usize,
    /// How often packet threads were restored.
    pub restored: usize,
    /// How often the critical section was entered.
    pub paused: usize,
    /// Whether the lease manager reports changes.
    pub is_tracking: bool,
    /// How often leases were read.
    pub reads: usize,
    /// Whether Kea's main loop calls ticks.
    has_ticks: bool,
    /// When the next tick is due.
    due: Duration,
    /// The time since the start.
    now: Duration,
}

/// A Kea for tests. Clones share their state.
#[derive(Clone)]
pub struct FakeKea {
    /// The state.
    state: Arc<Mutex<State>>,
    /// The data directory.
    directory: Arc<TempDir>,
    /// The time at the start.
    start: Instant,
}

impl FakeKea {
    /// Creates a Kea 3.0 with a pool of 253 addresses and without leases.
    pub fn new() -> FakeKea {
        let state = State {
            version: 3_00_03,
            process_name: "kea-dhcp4",
            checks_only: false,
            libraries: vec![
                ("/a/libdhcp_lease_cmds.so", false),
                ("/a/libdhcp_blq.so", true),
            ],
            parameters: json!({
                "requesters": ["127.0.0.0/8"],
                "advanced": { "bulk-query-enabled": false },
            }),
            dhcp4: json!({
                "subnet4": [{
                    "id": 1, "subnet": "192.0.2.0/24",
                    "pools": [{ "pool": "192.0.2.1-192.0.2.253" }],
                }],
                "hooks-libraries": [{ "library": "/a/libdhcp_blq.so" }],
            }),
            in_force: None,
            leases: Some(BTreeMap::new()),
            hosts: None,
            status: json!({ "result": 0, "arguments": {} }),
            panics_in: None,
            forgone: Vec::new(),
            commands: Vec::new(),
            statistics: BTreeMap::new(),
            statistics_set: 0,
            restored: 0,
            paused: 0,
            is_tracking: false,
            reads: 0,
            has_ticks: false,
            due: Duration::MAX,
            now: Duration::ZERO,
        };
        FakeKea {
            state: Arc::new(Mutex::new(state)),
            directory: Arc::new(tempfile::tempdir().unwrap()),
            start: Instant::now(),
        }
    }

    /// Calls `body` with the state.
    pub fn with<R>(&self, body: impl FnOnce(&mut State) -> R) -> R {
        body(&mut self.state.lock())
    }

    /// Adds or replaces a lease, without a report.
    pub fn put(&self, lease: Lease) {
        self.with(|state| {
            let leases = state.leases.as_mut().expect("a lease manager");
            leases.insert(lease.address, lease);
        });
    }

    /// Returns the path of a file in the data directory.
    pub fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Calls `body` with the state on behalf of a method, which panics if the test wants it to.
    fn call<R>(&self, method: &str, body: impl FnOnce(&mut State) -> R) -> R {
        let mut state = self.state.lock();
        if state.panics_in == Some(method) {
            state.panics_in = None;
            drop(state);
            panic!("as a bug would in {method}");
        }
        body(&mut state)
    }

    /// Calls `body` with the leases.
    fn leases<R>(
        &self,
        method: &str,
        body: impl FnOnce(&BTreeMap<Ipv4Addr, Lease>) -> R,
    ) -> Result<R> {
        self.call(method, |state| {
            state.reads += 1;
            let leases = state.leases.as_ref();
            leases
                .map(body)
                .ok_or_else(|| KeaError("no current lease manager".to_owned()))
        })
    }
}

/// Returns a configuration as Kea gives it.
fn raw(dhcp4: &Value) -> RawConfiguration {
    RawConfiguration {
        text: json!({ "Dhcp4": dhcp4 }).to_string().into_bytes(),
        options: Vec::new(),
    }
}

impl Kea for FakeKea {
    fn version(&self) -> u32 {
        self.with(|state| state.version)
    }

    fn process_name(&self) -> Result<String> {
        Ok(self.with(|state| state.process_name.to_owned()))
    }

    fn checks_only(&self) -> bool {
        self.with(|state| state.checks_only)
    }

    fn libraries(&self) -> Result<Vec<LoadedLibrary>> {
        let library = |(file, is_this): &(&str, bool)| LoadedLibrary {
            file: (*file).to_owned(),
            is_this: *is_this,
        };
        Ok(self.with(|state| state.libraries.iter().map(library).collect()))
    }

    fn data_directory(&self) -> Result<PathBuf> {
        Ok(self.directory.path().to_owned())
    }

    fn state_directory(&self) -> Result<PathBuf> {
        self.data_directory()
    }

    fn data_file(&self, name: &str) -> Result<PathBuf> {
        Ok(self.file(name))
    }

    fn staged_configuration(&self) -> Result<Vec<u8>> {
        Ok(self.with(|state| raw(&state.dhcp4).text))
    }

    fn has_configuration(&self) -> Result<bool> {
        Ok(self.with(|state| state.in_force.is_some()))
    }

    fn current_configuration(&self) -> Result<RawConfiguration> {
        self.call("current_configuration", |state| {
            let in_force = state.in_force.as_ref();
            in_force
                .map(raw)
                .ok_or_else(|| KeaError("there is no configuration".to_owned()))
        })
    }

    fn has_host_database(&self) -> Result<bool> {
        Ok(self.with(|state| state.hosts.is_some()))
    }

    fn host_reservations(&self, position: HostPosition, limit: usize) -> Result<HostPage> {
        self.call("host_reservations", |state| {
            let hosts = state.hosts.as_ref();
            let hosts = hosts.ok_or_else(|| KeaError("not connected".to_owned()))?;
            let start = usize::try_from(position.after).unwrap();
            let page: Vec<_> = hosts.iter().skip(start).take(limit).cloned().collect();
            let after = position.after + page.len() as u64;
            Ok(HostPage {
                end: (!page.is_empty()).then_some(HostPosition { after, ..position }),
                hosts: page,
                options: Vec::new(),
            })
        })
    }

    fn restore_threads(&self) -> Result<()> {
        self.with(|state| state.restored += 1);
        Ok(())
    }

    fn enter_critical_section(&self) -> Result<()> {
        self.with(|state| state.paused += 1);
        Ok(())
    }

    fn exit_critical_section(&self) -> Result<()> {
        Ok(())
    }

    fn now(&self) -> Instant {
        self.start + self.with(|state| state.now)
    }

    fn start_ticks(&self) -> Result<()> {
        self.with(|state| state.has_ticks = true);
        Ok(())
    }

    fn stop_ticks(&self) -> Result<()> {
        self.with(|state| state.has_ticks = false);
        Ok(())
    }

    fn schedule_tick(&self, delay: Duration) {
        self.with(|state| state.due = state.now + delay);
    }

    fn set_statistic(&self, name: &str, value: u64) -> Result<()> {
        self.with(|state| {
            state.statistics_set += 1;
            state.statistics.insert(name.to_owned(), value);
        });
        Ok(())
    }

    fn add_statistic(&self, name: &str, difference: u64) -> Result<()> {
        self.with(|state| {
            *state.statistics.entry(name.to_owned()).or_default() += difference;
        });
        Ok(())
    }

    fn is_own_address(&self, _address: Ipv4Addr) -> Result<bool> {
        Ok(false)
    }

    fn is_memfile(&self) -> Result<bool> {
        self.leases("is_memfile", |_| true)
    }

    fn lease_page(&self, after: u32, limit: usize, leases: &mut Vec<Lease>) -> Result<()> {
        self.leases("lease_page", |all| {
            let first = after.checked_add(1).map(Ipv4Addr::from_bits);
            let page = first.into_iter().flat_map(|first| all.range(first..));
            leases.extend(page.take(limit).map(|(_, lease)| lease.clone()));
        })
    }

    fn lease(&self, address: Ipv4Addr) -> Result<Option<Lease>> {
        self.leases("lease", |all| all.get(&address).cloned())
    }

    fn leased_addresses(&self, subnet: u32) -> Result<Vec<Ipv4Addr>> {
        self.leases("leased_addresses", |all| {
            let leases = all.values().filter(|lease| lease.subnet.0 == subnet);
            leases.map(|lease| lease.address).collect()
        })
    }

    fn track_leases(&self) -> Result<bool> {
        let can = self.version() >= 2_04_00;
        self.leases("track_leases", |_| ())?;
        self.with(|state| state.is_tracking = can);
        Ok(can)
    }

    fn untrack_leases(&self) -> Result<()> {
        self.with(|state| state.is_tracking = false);
        Ok(())
    }

    fn status_of_hooks(&self) -> Result<Vec<u8>> {
        self.call("status_of_hooks", |state| {
            Ok(state.status.to_string().into_bytes())
        })
    }
}

impl Library for FakeKea {
    fn parameters(&mut self) -> Result<Vec<u8>> {
        Ok(self.with(|state| state.parameters.to_string().into_bytes()))
    }

    fn register_command(&mut self, name: &str) -> Result<()> {
        self.with(|state| state.commands.push(name.to_owned()));
        Ok(())
    }

    fn forgo(&mut self, callout: &str) -> Result<()> {
        self.with(|state| state.forgone.push(callout.to_owned()));
        Ok(())
    }
}

/// A Kea with the plugin. Kea's calls come on the test's thread, which is the main thread.
pub struct Server {
    /// Kea.
    pub kea: FakeKea,
    /// The plugin.
    pub plugin: Plugin<FakeKea>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.plugin.unload();
    }
}

impl Server {
    /// Creates a server that has not loaded its libraries.
    pub fn new(kea: FakeKea) -> Server {
        Server {
            plugin: Plugin::new(kea.clone()),
            kea,
        }
    }

    /// Creates a server, starts it, and waits for the end of the initial load.
    pub fn started(kea: FakeKea) -> Server {
        let server = Server::new(kea);
        assert_eq!(server.load_and_configure(), Ok(()));
        server.run_until("the mirror is complete", Server::is_complete);
        server
    }

    /// Returns Kea's time.
    pub fn now(&self) -> Instant {
        self.kea.now()
    }

    /// Loads the library.
    pub fn load(&self) -> std::result::Result<(), Refused> {
        self.plugin.load(&mut self.kea.clone())
    }

    /// Configures the library; a configuration that it does not refuse is in force then.
    pub fn configure(&self) -> std::result::Result<(), String> {
        let dhcp4 = self.kea.with(|state| state.dhcp4.clone());
        let configured = self.plugin.configured(|| Ok(raw(&dhcp4)));
        if configured.is_ok() {
            self.kea.with(|state| state.in_force = Some(dhcp4));
        }
        configured
    }

    /// Loads and configures the library, as Kea does at its start.
    pub fn load_and_configure(&self) -> std::result::Result<(), String> {
        assert_eq!(self.load(), Ok(()));
        self.configure()
    }

    /// Reloads the configuration, as Kea does by `config-reload`.
    pub fn reload(&self) -> std::result::Result<(), String> {
        self.plugin.unload();
        let configured = self.load_and_configure();
        self.processed("config-reload", &json!({}));
        configured
    }

    /// Reports a command that was processed.
    pub fn processed(&self, name: &str, arguments: &Value) {
        let response = json!({ "result": 0 }).to_string().into_bytes();
        let command = || Ok((arguments.to_string().into_bytes(), response));
        let done = self.plugin.commanded(name, command);
        assert_eq!(done, Ok(()));
    }

    /// Sends a command of this library; returns the answer.
    pub fn command(&self, name: &str, arguments: &Value) -> Value {
        let command = json!({ "command": name, "arguments": arguments });
        let answer = self.plugin.control(command.to_string().as_bytes());
        serde_json::from_slice(&answer).unwrap()
    }

    /// Returns a statistic.
    pub fn statistic(&self, name: &str) -> Option<u64> {
        self.kea.with(|state| state.statistics.get(name).copied())
    }

    /// Runs the tick that is due first, if there are ticks, at its time. A panic ends there, as it does at the
    /// C ABI.
    pub fn tick(&self) {
        let is_due = self.kea.with(|state| {
            state.now = state.now.max(if state.has_ticks {
                state.due
            } else {
                state.now
            });
            state.has_ticks
        });
        if is_due {
            let tick = || self.plugin.tick();
            let _ = catch_unwind(AssertUnwindSafe(tick));
        }
    }

    /// Runs ticks until `condition` holds, while the workers do their part in real time.
    #[track_caller]
    pub fn run_until(&self, what: &str, condition: impl Fn(&Server) -> bool) {
        let began = Instant::now();
        while !condition(self) {
            self.tick();
            thread::yield_now();
            assert!(began.elapsed() < WATCHDOG, "{what}: never");
        }
    }

    /// Runs ticks for a time.
    pub fn run_for(&self, time: Duration) {
        let end = self.now() + time;
        while self
            .kea
            .with(|state| state.has_ticks && self.kea.start + state.due < end)
        {
            self.tick();
        }
        self.kea.with(|state| state.now = end - self.kea.start);
    }

    /// Returns the mirror, if an instance runs.
    pub fn mirror(&self) -> Option<Arc<Mirror>> {
        self.plugin.events().sink.mirror()
    }

    /// Returns whether an instance runs whose mirror is complete.
    pub fn is_complete(&self) -> bool {
        self.mirror().is_some_and(|mirror| mirror.is_complete())
    }

    /// Returns the binding of an address, if one is known.
    pub fn binding(&self, address: Ipv4Addr) -> Option<Binding> {
        self.mirror()?.binding(address)
    }
}
