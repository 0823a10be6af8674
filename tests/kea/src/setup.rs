//! Configurations to start Kea with.

use std::env;
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Map, Value, json};
use socket2::{Domain, Protocol, Socket, Type};

use crate::{Database, Kea, PATIENCE, Place, kea_version};

/// Where Debian's packages keep Kea's own hooks, by architecture.
const KEA_HOOKS: &str = "kea/hooks";

/// Kea's library that pings addresses, from 3.0 on.
const PING_CHECK: &str = "libdhcp_ping_check.so";

/// Kea's lease file, in its home.
const LEASE_FILE: &str = "data/leases.csv";

/// Where Kea's lease file cleanup, while it runs, has its process number, likewise.
pub const LEASE_FILE_IN_USE: &str = "data/leases.csv.pid";

/// Stands for the server's home in parameters of hooks, before there is one.
pub const HOME: &str = "{home}";

/// A configuration of kea-dhcp4 in the making; [`Setup::start`] runs it.
///
/// It begins with one subnet, the [`Place`]'s own net with a pool of 100 to 200, so that relays
/// are in the subnet by their address and clients can be reached at what they lease.
#[derive(Debug, Clone)]
pub struct Setup {
    /// What the test has to itself.
    pub place: Place,
    /// The value of `Dhcp4`.
    dhcp4: Map<String, Value>,
    /// Hooks to load: the library file, its parameters.
    hooks: Vec<(PathBuf, Value)>,
    /// Rows of the lease file that Kea finds at its first start.
    lease_file: Vec<String>,
    /// The lease file of which Kea finds a copy at its first start instead.
    leases_from: Option<PathBuf>,
    /// How long Kea may take to start, and to end.
    pub(crate) patience: Duration,
    /// How many descriptors Kea may have open, unless as many as this process.
    pub(crate) descriptors: Option<u32>,
}

/// The columns of the lease file that every version of Kea reads.
const LEASE_COLUMNS: &str = "address,hwaddr,client_id,valid_lifetime,expire,subnet_id,fqdn_fwd,\
    fqdn_rev,hostname,state,user_context";

impl Setup {
    /// Kea as it is, without the hook.
    pub fn plain() -> Self {
        Setup::plain_at(Place::take())
    }

    /// Kea with the hook, its parameters the defaults of these tests with `parameters` over them.
    ///
    /// The defaults: every loopback address may query, the listener is at the test's own place,
    /// the state file in the server's home, which [`HOME`] stands for.
    pub fn with_hook(parameters: Value) -> Self {
        Setup::with_hook_at(Place::take(), parameters)
    }

    /// Kea with the hook, at a given place.
    pub(crate) fn with_hook_at(place: Place, parameters: Value) -> Self {
        let setup = Setup::plain_at(place);
        let listener = setup.place.lease_query();
        let mut merged = json!({
            "requesters": ["127.0.0.0/8"],
            "state-file": format!("{HOME}/data/kea-blq.state"),
            "advanced": {
                "bulk-query-enabled": true,
                "lease-query-ip": listener.ip().to_string(),
                "lease-query-tcp-port": listener.port(),
            },
        });
        merge(&mut merged, parameters);
        setup.library(hook_library(), merged)
    }

    /// A complete configuration file that loads the hook, moved to this machine: its interfaces,
    /// ports and paths are the test's, which may query too; all else is the file's.
    pub fn example(configuration: &Value) -> Self {
        let mut setup = Setup::with_hook(json!({}));
        let place = setup.place;
        let Some(Value::Object(example)) = configuration.get("Dhcp4") else {
            panic!("no Dhcp4 in {configuration}")
        };
        let libraries = example.get("hooks-libraries").and_then(Value::as_array);
        let of_hook = libraries.into_iter().flatten().find(|library| {
            let file = library["library"].as_str().unwrap_or_default();
            file.ends_with("/libdhcp_blq.so")
        });
        let mut parameters = of_hook.expect("the hook")["parameters"].clone();
        let here = json!({
            "state-file": format!("{HOME}/data/kea-blq.state"),
            "advanced": {
                "lease-query-ip": place.lease_query().ip().to_string(),
                "lease-query-tcp-port": place.lease_query().port(),
            },
        });
        merge(&mut parameters, here);
        if let Some(requesters) = parameters["requesters"].as_array_mut() {
            requesters.push(json!("127.0.0.0/8"));
        }
        for (name, value) in example {
            match name.as_str() {
                "hooks-libraries" | "interfaces-config" | "loggers" | "control-socket" => {}
                "lease-database" => {
                    merge(&mut setup.dhcp4["lease-database"], value.clone());
                }
                _ => {
                    setup.dhcp4.insert(name.clone(), value.clone());
                }
            }
        }
        setup.hooks.clear();
        setup.library(hook_library(), parameters)
    }

    /// The configuration of a server beside another: in the same net with all the same, such as
    /// its subnets and its database, but with a port of its own and a hook that listens elsewhere.
    pub fn beside(other: &Kea) -> Self {
        let mut setup = other.setup().clone();
        setup.place = setup.place.of_partner();
        let listener = setup.place.lease_query().ip().to_string();
        setup.hook_parameters(json!({ "advanced": { "lease-query-ip": listener } }))
    }

    /// Kea as it is, at a given place.
    fn plain_at(place: Place) -> Self {
        let dhcp4 = json!({
            "interfaces-config": {
                "interfaces": ["lo/127.0.0.1"],
                "dhcp-socket-type": "udp",
            },
            "lease-database": { "type": "memfile", "persist": true, "lfc-interval": 0 },
            "expired-leases-processing": {
                "reclaim-timer-wait-time": 1,
                "flush-reclaimed-timer-wait-time": 3600,
                "hold-reclaimed-time": 3600,
            },
            "subnet4": [{
                "id": 1,
                "subnet": place.subnet(),
                "pools": [{ "pool": place.pool(100, 200) }],
            }],
            "loggers": [{
                "name": "kea-dhcp4",
                "severity": "INFO",
                "output_options": [{ "output": "stdout" }],
            }],
        });
        let Value::Object(dhcp4) = dhcp4 else {
            unreachable!("a map was written above")
        };
        Setup {
            place,
            dhcp4,
            hooks: Vec::new(),
            lease_file: Vec::new(),
            leases_from: None,
            patience: PATIENCE,
            descriptors: None,
        }
    }

    /// Sets a value of `Dhcp4`, e.g. `valid-lifetime`.
    pub fn set(mut self, name: &str, value: Value) -> Self {
        self.dhcp4.insert(name.to_owned(), value);
        self
    }

    /// Replaces the subnets.
    pub fn subnets(self, subnets: Value) -> Self {
        self.set("subnet4", subnets)
    }

    /// Adds a subnet outside of shared networks.
    pub fn subnet(mut self, subnet: Value) -> Self {
        let all = self.dhcp4.get_mut("subnet4").and_then(Value::as_array_mut);
        all.expect("a list of subnets").push(subnet);
        self
    }

    /// Merges values into the subnet that [`Setup`] begins with.
    pub fn in_subnet(mut self, values: Value) -> Self {
        if let Some(subnet) = self.dhcp4.get_mut("subnet4").and_then(|all| all.get_mut(0)) {
            merge(subnet, values);
        }
        self
    }

    /// Turns multi-threading on or off; Kea's own default depends on its version.
    pub fn multi_threading(self, on: bool) -> Self {
        self.set(
            "multi-threading",
            json!({ "enable-multi-threading": on, "thread-pool-size": 2 }),
        )
    }

    /// Loads a hook library.
    pub fn library(mut self, file: impl Into<PathBuf>, parameters: Value) -> Self {
        self.hooks.push((file.into(), parameters));
        self
    }

    /// Loads one of Kea's own hook libraries, e.g. `libdhcp_lease_cmds.so`.
    pub fn kea_library(self, name: &str, parameters: Value) -> Self {
        let file = kea_hooks().join(name);
        self.library(file, parameters)
    }

    /// Loads one of Kea's own hook libraries before those that are loaded already.
    pub fn kea_library_first(mut self, name: &str, parameters: Value) -> Self {
        let file = kea_hooks().join(name);
        self.hooks.insert(0, (file, parameters));
        self
    }

    /// Has Kea ping an address before it offers it: one of the loopback interface always answers.
    pub fn pinging(self) -> Self {
        let parameters = json!({ "min-ping-requests": 1, "reply-timeout": 1000 });
        self.kea_library(PING_CHECK, parameters)
    }

    /// Merges values into the parameters of the hook loaded first.
    pub fn hook_parameters(mut self, values: Value) -> Self {
        if let Some((_, parameters)) = self.hooks.first_mut() {
            merge(parameters, values);
        }
        self
    }

    /// Keeps leases in a database. When it cannot be reached Kea tries again and again, and serves
    /// on meanwhile.
    pub fn lease_database(self, database: &Database) -> Self {
        let access = persistent(database.access());
        self.database_libraries(database)
            .set("lease-database", access)
    }

    /// Looks for host reservations in a database, too.
    pub fn hosts_database(self, database: &Database) -> Self {
        let access = persistent(database.access());
        self.database_libraries(database)
            .set("hosts-database", access)
    }

    /// Takes what it finds in a database as part of the configuration, looking every second.
    pub fn config_database(self, database: &Database) -> Self {
        let access = persistent(database.access());
        self.database_libraries(database)
            .set("server-tag", json!("all"))
            .set(
                "config-control",
                json!({ "config-databases": [access], "config-fetch-wait-time": 1 }),
            )
    }

    /// Loads those of Kea's libraries that it may take to use a database, and that there are.
    fn database_libraries(mut self, database: &Database) -> Self {
        for name in database.kind().libraries() {
            let file = kea_hooks().join(name);
            if file.is_file() && !self.hooks.iter().any(|(known, _)| *known == file) {
                self = self.library(file, json!({}));
            }
        }
        self
    }

    /// Logs as Kea's developers do, for looking into a failing test.
    pub fn verbose(mut self) -> Self {
        if let Some(logger) = self.dhcp4.get_mut("loggers").and_then(|all| all.get_mut(0)) {
            merge(logger, json!({ "severity": "DEBUG", "debuglevel": 99 }));
        }
        self
    }

    /// Adds a lease of subnet 1 to the lease file that Kea finds at its first start.
    ///
    /// `expire` is in seconds since 1970; `user_context` is JSON or empty.
    pub fn stored_lease(
        mut self,
        address: Ipv4Addr,
        mac: &str,
        valid_lifetime: u32,
        expire: u64,
        user_context: &str,
    ) -> Self {
        // Kea's way to have commas in a field.
        let context = user_context.replace(',', "&#x2c");
        self.lease_file.push(format!(
            "{address},{mac},,{valid_lifetime},{expire},1,0,0,,0,{context}"
        ));
        self
    }

    /// Has Kea find a copy of this lease file at its first start.
    pub fn leases_from(mut self, file: impl Into<PathBuf>) -> Self {
        self.leases_from = Some(file.into());
        self
    }

    /// Lets Kea take longer to start and to end than it takes with the few leases of a test.
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Limits the descriptors Kea may have open (RLIMIT_NOFILE, the soft value).
    pub fn descriptors(mut self, limit: u32) -> Self {
        self.descriptors = Some(limit);
        self
    }

    /// Writes the lease file that Kea finds at its first start.
    pub(crate) fn write_lease_file(&self, home: &Path) {
        if let Some(file) = &self.leases_from {
            fs::copy(file, home.join(LEASE_FILE)).expect("copying a lease file");
        }
        if !self.lease_file.is_empty() {
            let rows = self.lease_file.join("\n");
            fs::write(home.join(LEASE_FILE), format!("{LEASE_COLUMNS}\n{rows}\n"))
                .expect("writing a lease file");
        }
    }

    /// Starts Kea; panics, showing its log, when it does not.
    #[track_caller]
    pub fn start(self) -> Kea {
        match Kea::start(self) {
            Ok(kea) => kea,
            Err(log) => panic!("kea-dhcp4 did not start:\n{log}"),
        }
    }

    /// Starts Kea, expecting that it ends of itself; returns its log.
    #[track_caller]
    pub fn fail_to_start(self) -> String {
        match Kea::start(self) {
            Ok(kea) => panic!("kea-dhcp4 started:\n{}", kea.log()),
            Err(log) => log,
        }
    }

    /// The configuration for a server whose files are in `home`, linking the hooks there.
    pub(crate) fn configuration(&self, home: &Path) -> Value {
        let mut dhcp4 = self.dhcp4.clone();
        if let Some(leases) = dhcp4.get_mut("lease-database")
            && leases["type"] == "memfile"
        {
            merge(
                leases,
                json!({ "name": home.join(LEASE_FILE).display().to_string() }),
            );
        }
        dhcp4.insert(
            "control-socket".to_owned(),
            json!({
                "socket-type": "unix",
                "socket-name": home.join("control/socket").display().to_string(),
            }),
        );
        let libraries = self.hooks.iter().map(|(file, parameters)| {
            let linked = link(file, &home.join("hooks"));
            let text = parameters.to_string();
            let text = text.replace(HOME, &home.display().to_string());
            let parameters: Value = serde_json::from_str(&text).expect("JSON, as before");
            json!({ "library": linked.display().to_string(), "parameters": parameters })
        });
        dhcp4.insert("hooks-libraries".to_owned(), libraries.collect());
        json!({ "Dhcp4": dhcp4 })
    }
}

/// Access to a database that Kea is to get back to, by itself and soon.
fn persistent(mut access: Value) -> Value {
    merge(
        &mut access,
        json!({
            "on-fail": "serve-retry-continue",
            "max-reconnect-tries": 1000,
            "reconnect-wait-time": 100,
        }),
    );
    if !kea_version().starts_with("2.2.") {
        access["retry-on-startup"] = json!(true);
    }
    access
}

/// The hook library under test: `BLQ_HOOK`, else what the last build left beside this test.
pub fn hook_library() -> PathBuf {
    let file = env::var_os("BLQ_HOOK").map_or_else(built_library, PathBuf::from);
    assert!(
        file.is_file(),
        "{} is missing: build the hook first, or name it in BLQ_HOOK",
        file.display()
    );
    file
}

/// `libdhcp_blq.so` in the profile's directory, of which a test's executable is in `deps`.
fn built_library() -> PathBuf {
    let test = env::current_exe().expect("the path of this test");
    let profile = test.parent().and_then(Path::parent).expect("a directory");
    profile.join("libdhcp_blq.so")
}

/// Whether this version of Kea has a hook library of its own by this name.
pub fn has_kea_library(name: &str) -> bool {
    kea_hooks().join(name).is_file()
}

/// Whether this Kea can ping an address before it offers it, with the rights of this user.
pub fn may_ping() -> bool {
    if !has_kea_library(PING_CHECK) {
        return false;
    }
    let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::ICMPV4));
    if let Err(error) = &socket {
        eprintln!("not tested, as Kea could not ping: {error}");
    }
    socket.is_ok()
}

/// The directory of Kea's own hook libraries: `BLQ_KEA_HOOKS`, else where packages put it.
fn kea_hooks() -> PathBuf {
    if let Some(directory) = env::var_os("BLQ_KEA_HOOKS") {
        return directory.into();
    }
    let candidates = [
        format!("/usr/lib/{}-linux-gnu/{KEA_HOOKS}", env::consts::ARCH),
        format!("/usr/lib/{KEA_HOOKS}"),
        format!("/usr/local/lib/{KEA_HOOKS}"),
    ];
    let found = candidates.iter().find(|path| Path::new(path).is_dir());
    found
        .unwrap_or_else(|| panic!("no hooks of Kea's own in any of {candidates:?}"))
        .into()
}

/// Links a library into Kea's hooks directory for the test, outside which Kea loads none.
fn link(file: &Path, hooks: &Path) -> PathBuf {
    let linked = hooks.join(file.file_name().expect("a library's file name"));
    if !linked.exists() {
        std::os::unix::fs::symlink(file, &linked)
            .or_else(|_| fs::copy(file, &linked).map(drop))
            .expect("linking a hook library");
    }
    linked
}

/// Lays the values of `over` on `base`, map by map; null removes a value.
pub(crate) fn merge(base: &mut Value, over: Value) {
    match (base, over) {
        (Value::Object(base), Value::Object(over)) => {
            for (name, value) in over {
                if value.is_null() {
                    base.remove(&name);
                } else {
                    merge(base.entry(name).or_insert(Value::Null), value);
                }
            }
        }
        (base, over) => *base = over,
    }
}
