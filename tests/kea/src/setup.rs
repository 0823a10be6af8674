//! Configurations to start Kea with.

use std::env;
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Map, Value, json};
use socket2::{Domain, Protocol, Socket, Type};

use crate::{Database, Kea, PATIENCE, Place, kea_version};

/// The directory of Kea's own hook libraries in Debian's packages, below a directory for each
/// architecture.
const KEA_HOOKS: &str = "kea/hooks";

/// Kea's library that pings addresses, from 3.0 on.
const PING_CHECK: &str = "libdhcp_ping_check.so";

/// The path of Kea's lease file in its home.
const LEASE_FILE: &str = "data/leases.csv";

/// The path of the file with the process id of Kea's lease file cleanup, in Kea's home.
pub const LEASE_FILE_IN_USE: &str = "data/leases.csv.pid";

/// The id of the user and group `nobody`.
const UNPRIVILEGED: u32 = 65_534;

/// A placeholder for the server's home in parameters of hooks.
pub const HOME: &str = "{home}";

/// A configuration of kea-dhcp4 under construction; [`Setup::start`] runs it.
///
/// By default it has one subnet, the net of its [`Place`], with a pool from 100 to 200: relays are
/// in the subnet by their addresses, and clients are reachable at their leased addresses.
#[derive(Debug, Clone)]
pub struct Setup {
    /// The addresses and ports of the test.
    pub place: Place,
    /// The value of `Dhcp4`.
    dhcp4: Map<String, Value>,
    /// Hooks to load: library file and parameters.
    hooks: Vec<(PathBuf, Value)>,
    /// Rows of the lease file for the first start.
    lease_file: Vec<String>,
    /// A lease file to copy for the first start instead.
    leases_from: Option<PathBuf>,
    /// The longest time Kea may take to start, and to end.
    pub(crate) patience: Duration,
    /// The limit of Kea's open descriptors; `None` for that of this process.
    pub(crate) descriptors: Option<u32>,
    /// The user and group that Kea runs as; `None` for those of this process.
    user: Option<u32>,
}

/// The columns of the lease file that every version of Kea reads.
const LEASE_COLUMNS: &str = "address,hwaddr,client_id,valid_lifetime,expire,subnet_id,fqdn_fwd,\
    fqdn_rev,hostname,state,user_context";

impl Setup {
    /// Returns a setup of Kea without the hook.
    pub fn plain() -> Self {
        Setup::plain_at(Place::take())
    }

    /// Returns a setup of Kea with the hook; `parameters` are merged into the defaults of these
    /// tests.
    ///
    /// The defaults: every loopback address may query, the listener is at the test's own place, the
    /// state file is in the server's home, represented by [`HOME`].
    pub fn with_hook(parameters: Value) -> Self {
        Setup::with_hook_at(Place::take(), parameters)
    }

    /// Returns a setup of Kea with the hook, at a given place.
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

    /// Returns a setup of a complete configuration file that loads the hook; `text` is JSON with comment
    /// lines.
    ///
    /// Interfaces, ports and paths are replaced by the test's, and the addresses of 192.0.2.0/24 by those
    /// of the test's net. The test's own addresses may query too.
    pub fn example(text: &str) -> Self {
        Setup::example_at(Place::take(), text)
    }

    /// Returns the setup of an example for a second server in the net of another.
    pub fn example_beside(other: &Kea, text: &str) -> Self {
        Setup::example_at(other.place().of_partner(), text)
    }

    /// Returns the setup of an example at a given place.
    fn example_at(place: Place, text: &str) -> Self {
        let configuration = without_comments(&in_net_of(place, text));
        let Some(Value::Object(example)) = configuration.get("Dhcp4") else {
            panic!("no Dhcp4 in {configuration}")
        };
        let mut setup = Setup::plain_at(place);
        for (name, value) in example {
            match name.as_str() {
                "hooks-libraries" | "interfaces-config" | "loggers" | "control-socket" => {}
                _ => {
                    setup.dhcp4.insert(name.clone(), value.clone());
                }
            }
        }
        let libraries = example.get("hooks-libraries").and_then(Value::as_array);
        for library in libraries.into_iter().flatten() {
            let file = Path::new(library["library"].as_str().expect("a library"));
            let parameters = library.get("parameters").cloned().unwrap_or(json!({}));
            let name = file.file_name().expect("a file name").to_string_lossy();
            setup = match &*name {
                "libdhcp_blq.so" => setup.library(hook_library(), of_test(place, parameters)),
                // A file that Kea lacks must fail to load, too.
                name => setup.kea_library(name, parameters),
            };
        }
        setup
    }

    /// Moves the lease database of an example to the address and port of a server of the test.
    pub fn at_database(mut self, database: &Database) -> Self {
        let access = database.access();
        let leases = self.dhcp4.get_mut("lease-database").expect("a database");
        assert_eq!(leases["type"], access["type"]);
        merge(
            leases,
            json!({ "host": access["host"], "port": access["port"] }),
        );
        self
    }

    /// Leaves out a hook library, which must be in the configuration.
    pub fn without_library(mut self, name: &str) -> Self {
        let before = self.hooks.len();
        self.hooks.retain(|(file, _)| !file.ends_with(name));
        assert_eq!(self.hooks.len() + 1, before, "no {name}");
        self
    }

    /// Runs Kea as another user than root; the tests must run as root.
    pub fn unprivileged(mut self) -> Self {
        self.user = Some(UNPRIVILEGED);
        self
    }

    /// Returns the user that Kea runs as; `None` for that of this process.
    pub fn user(&self) -> Option<u32> {
        self.user
    }

    /// Returns a setup of a second server in the net of another, with the same configuration, such
    /// as subnets and database, but with another port and listener.
    pub fn beside(other: &Kea) -> Self {
        let mut setup = other.setup().clone();
        setup.place = setup.place.of_partner();
        let listener = setup.place.lease_query().ip().to_string();
        setup.hook_parameters(json!({ "advanced": { "lease-query-ip": listener } }))
    }

    /// Returns a setup of Kea without the hook, at a given place.
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
            user: None,
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

    /// Merges values into the default subnet.
    pub fn in_subnet(mut self, values: Value) -> Self {
        if let Some(subnet) = self.dhcp4.get_mut("subnet4").and_then(|all| all.get_mut(0)) {
            merge(subnet, values);
        }
        self
    }

    /// Enables or disables multi-threading; Kea's default depends on its version.
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

    /// Loads one of Kea's own hook libraries before the others.
    pub fn kea_library_first(mut self, name: &str, parameters: Value) -> Self {
        let file = kea_hooks().join(name);
        self.hooks.insert(0, (file, parameters));
        self
    }

    /// Reverses the order of all hook libraries.
    pub fn reversed_libraries(mut self) -> Self {
        self.hooks.reverse();
        self
    }

    /// Makes Kea ping an address before it offers it: an address of the loopback interface always
    /// answers.
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

    /// Keeps leases in a database. While it is unreachable, Kea tries again repeatedly and
    /// continues to serve.
    pub fn lease_database(self, database: &Database) -> Self {
        let access = persistent(database.access());
        self.database_libraries(database)
            .set("lease-database", access)
    }

    /// Also looks for host reservations in a database.
    pub fn hosts_database(self, database: &Database) -> Self {
        let access = persistent(database.access());
        self.database_libraries(database)
            .set("hosts-database", access)
    }

    /// Reads a part of the configuration from a database, every second.
    pub fn config_database(self, database: &Database) -> Self {
        let access = persistent(database.access());
        self.database_libraries(database)
            .set("server-tag", json!("all"))
            .set(
                "config-control",
                json!({ "config-databases": [access], "config-fetch-wait-time": 1 }),
            )
    }

    /// Loads Kea's libraries for a database, if this version has separate ones.
    fn database_libraries(mut self, database: &Database) -> Self {
        for name in database.kind().libraries() {
            let file = kea_hooks().join(name);
            if file.is_file() && !self.hooks.iter().any(|(known, _)| *known == file) {
                self = self.library(file, json!({}));
            }
        }
        self
    }

    /// Adds a logger, as in Kea's configuration.
    pub fn logger(mut self, logger: Value) -> Self {
        let loggers = self.dhcp4.get_mut("loggers").and_then(Value::as_array_mut);
        loggers.expect("a list of loggers").push(logger);
        self
    }

    /// Sets the highest debug level, for the analysis of a failing test.
    pub fn verbose(mut self) -> Self {
        if let Some(logger) = self.dhcp4.get_mut("loggers").and_then(|all| all.get_mut(0)) {
            merge(logger, json!({ "severity": "DEBUG", "debuglevel": 99 }));
        }
        self
    }

    /// Adds a lease of subnet 1 to the lease file of the first start.
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
        // Kea's notation of commas in a field.
        let context = user_context.replace(',', "&#x2c");
        self.lease_file.push(format!(
            "{address},{mac},,{valid_lifetime},{expire},1,0,0,,0,{context}"
        ));
        self
    }

    /// Copies a lease file for the first start.
    pub fn leases_from(mut self, file: impl Into<PathBuf>) -> Self {
        self.leases_from = Some(file.into());
        self
    }

    /// Sets a longer time for start and end than a test with few leases needs.
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Limits Kea's open descriptors (RLIMIT_NOFILE, the soft value).
    pub fn descriptors(mut self, limit: u32) -> Self {
        self.descriptors = Some(limit);
        self
    }

    /// Writes the lease file of the first start.
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

    /// Starts Kea; panics with its log on failure.
    #[track_caller]
    pub fn start(self) -> Kea {
        match Kea::start(self) {
            Ok(kea) => kea,
            Err(log) => panic!("kea-dhcp4 did not start:\n{log}"),
        }
    }

    /// Starts Kea, which must end by itself. Returns its log.
    #[track_caller]
    pub fn fail_to_start(self) -> String {
        match Kea::start(self) {
            Ok(kea) => panic!("kea-dhcp4 started:\n{}", kea.log()),
            Err(log) => log,
        }
    }

    /// Returns the configuration of a server with its files in `home`, and links the hooks there.
    pub(crate) fn configuration(&self, home: &Path) -> Value {
        let mut dhcp4 = self.dhcp4.clone();
        let leases = dhcp4.get_mut("lease-database");
        if let Some(leases) = leases.filter(|leases| leases["type"] == "memfile") {
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
            let parameters: Value =
                serde_json::from_str(&text).expect("the JSON with its home replaced");
            json!({ "library": linked.display().to_string(), "parameters": parameters })
        });
        dhcp4.insert("hooks-libraries".to_owned(), libraries.collect());
        json!({ "Dhcp4": dhcp4 })
    }
}

/// Returns the text of an example with the addresses of the test's net for those of 192.0.2.0/24.
fn in_net_of(place: Place, text: &str) -> String {
    let net = place.subnet();
    let (octets, _) = net.rsplit_once('.').expect("a subnet");
    text.replace("192.0.2.", &format!("{octets}."))
}

/// Reads JSON without the comment lines that Kea allows.
fn without_comments(text: &str) -> Value {
    let lines = text.lines();
    let json: String = lines
        .filter(|line| !line.trim_start().starts_with("//"))
        .collect();
    serde_json::from_str(&json).expect("JSON apart from comments")
}

/// Returns an example's parameters of the hook with the paths, addresses and ports of the test.
fn of_test(place: Place, mut parameters: Value) -> Value {
    let here = json!({
        "state-file": format!("{HOME}/data/kea-blq.state"),
        "advanced": {
            "lease-query-ip": place.lease_query().ip().to_string(),
            "lease-query-tcp-port": place.lease_query().port(),
        },
    });
    merge(&mut parameters, here);
    if let Some(requesters) = parameters["requesters"].as_array_mut() {
        requesters.retain(|known| known != "127.0.0.1");
        requesters.push(json!("127.0.0.0/8"));
    }
    parameters
}

/// Returns access parameters for a database to which Kea reconnects by itself and soon.
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

/// Returns the hook library under test: `BLQ_HOOK`, otherwise the last build's library beside this
/// test.
pub fn hook_library() -> PathBuf {
    let file = env::var_os("BLQ_HOOK").map_or_else(built_library, PathBuf::from);
    assert!(
        file.is_file(),
        "{} is missing: build the hook first, or name it in BLQ_HOOK",
        file.display()
    );
    file
}

/// Returns `libdhcp_blq.so` in the profile's directory; a test's executable is in its directory
/// `deps`.
fn built_library() -> PathBuf {
    let test = env::current_exe().expect("the path of this test");
    let profile = test.parent().and_then(Path::parent).expect("a directory");
    profile.join("libdhcp_blq.so")
}

/// Whether this version of Kea comes with a hook library of this name.
pub fn has_kea_library(name: &str) -> bool {
    kea_hooks().join(name).is_file()
}

/// Whether this Kea can ping an address before it offers it, with the privileges of this user.
pub fn may_ping() -> bool {
    if !has_kea_library(PING_CHECK) {
        return false;
    }
    let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::ICMPV4));
    if let Err(error) = &socket {
        eprintln!("skipped, since Kea cannot ping: {error}");
    }
    socket.is_ok()
}

/// Returns the directory of Kea's own hook libraries: `BLQ_KEA_HOOKS`, otherwise that of the
/// packages.
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
        .unwrap_or_else(|| panic!("no hook libraries of Kea in any of {candidates:?}"))
        .into()
}

/// Links a library into Kea's hooks directory of the test; Kea loads no others.
fn link(file: &Path, hooks: &Path) -> PathBuf {
    let linked = hooks.join(file.file_name().expect("a library's file name"));
    if !linked.exists() {
        std::os::unix::fs::symlink(file, &linked)
            .or_else(|_| fs::copy(file, &linked).map(drop))
            .expect("linking a hook library");
    }
    linked
}

/// Merges the values of `over` into `base`, map by map; null removes a value.
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
