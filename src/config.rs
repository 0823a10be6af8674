//! The hook's parameters: ranges, defaults and effects.
//!
//! Kea passes the parameters as JSON; [`Config::parse`] refuses unknown names and values out of
//! range, so that a mistyped name never silently means its default. Every parameter of Kea's own
//! lease query hook is accepted with that hook's meaning. One default differs: `bulk-query-enabled`
//! is true here, and false there.
//!
//! Kea unloads and loads its hooks at each reconfiguration, even if nothing changed: all
//! connections then end with QueryTerminated (RFC 6926 section 8.5), and the new values, including
//! all limits below, apply to later connections.

mod section;

use std::collections::{BTreeSet, HashSet};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::Ipv4Net;
use proto::{port, timing};
use serde_json::{Map, Value};

pub use crate::config::section::ConfigError;
use crate::config::section::{Section, refused};
use crate::query::{QueryType, QueryTypes};

/// `lease-query-tcp-port`: the TCP port of Bulk Leasequery (RFC 6926 section 6.3); from 1 to
/// 65535.
pub const DEFAULT_PORT: u16 = port::SERVER;

/// `max-requester-connections`: open connections of all requesters together. Default:
/// BULK_LQ_MAX_CONNS (RFC 6926 section 6.3); from 1 to [`MAX_CONNECTIONS`]. A connection over the
/// limit is accepted and closed at once (section 8.1).
pub const DEFAULT_CONNECTIONS: u32 = timing::BULK_LQ_MAX_CONNS;
/// Maximum of `max-requester-connections`: more than the files that a process may have open.
const MAX_CONNECTIONS: u32 = 65_535;

/// Value of `max-concurrent-queries` if it is 0: queries in progress on one connection. Requesters
/// that recover from a restart send many small queries together. From 1 to [`MAX_QUERIES`]. Queries
/// over the limit are not read from the socket until another one ends (RFC 6926 section 8.4).
pub const DEFAULT_QUERIES: u32 = 16;
/// Maximum of `max-concurrent-queries`: each query needs memory.
const MAX_QUERIES: u32 = 1024;

/// `max-requester-idle-time`: seconds after which a connection is closed that has no query in
/// progress, or whose requester reads no data. Default: BULK_LQ_DATA_TIMEOUT (RFC 6926 section
/// 6.3); at least 1. The RFC does not recommend less than the default; a smaller value causes a
/// warning.
pub const DEFAULT_IDLE_SECONDS: u32 = timing::BULK_LQ_DATA_TIMEOUT.as_secs() as u32;

/// Maximum of `reconciliation-interval`, in seconds: a week. 0 means never; the default depends on
/// the type of Kea's lease database.
const MAX_RESYNC_INTERVAL: u32 = 7 * 24 * 3600;

/// Maximum of `max-bulk-query-threads`. 0, the default, lets the server choose.
const MAX_THREADS: u32 = 1024;

/// Parameters at the top level.
const PARAMETERS: [&str; 4] = [
    "requesters",
    "state-file",
    "non-sensitive-options",
    "advanced",
];
/// Parameters of `advanced`.
const ADVANCED: [&str; 15] = [
    "bulk-query-enabled",
    "lease-query-ip",
    "lease-query-tcp-port",
    "max-requester-connections",
    "max-concurrent-queries",
    "max-requester-idle-time",
    "max-bulk-query-threads",
    "reconciliation-interval",
    "active-query-enabled",
    "extended-info-tables-enabled",
    "max-leases-per-fetch",
    "trust-anchor",
    "cert-file",
    "key-file",
    "cert-required",
];
/// Parameters of an entry of `requesters` that is a map.
const REQUESTER: [&str; 3] = ["address", "query-types", "max-connections"];

/// The hook's parameters, checked and with defaults.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Requesters that may query; not empty, without duplicate prefixes.
    pub requesters: Vec<RequesterEntry>,
    /// Path of the state file; `None`: `kea-blq.state` in Kea's data directory. A relative path is relative to
    /// that directory.
    pub state_file: Option<PathBuf>,
    /// Codes of the options that may be returned through the parameter request list (RFC 4388
    /// section 6.4.2); `None`: all.
    ///
    /// No list withholds the options that RFC 4388 section 6.4.2 (51, 58, 59, 82) and RFC 6926
    /// section 8.3 (91, 152, 153, 156, 157) require when they are requested, nor those that the
    /// protocol adds without a request (53, 54, 151, 221).
    pub non_sensitive_options: Option<BTreeSet<u8>>,
    /// Whether to listen. The default of Kea's own hook is false.
    pub bulk_query_enabled: bool,
    /// Addresses to listen on; not empty, without duplicates; 0.0.0.0 only as the single one.
    pub listen_addresses: Vec<Ipv4Addr>,
    /// The TCP port to listen on. 0, which [`Config::parse`] refuses, lets the system choose.
    pub port: u16,
    /// Maximum of open connections of all requesters together; >= 1.
    pub max_connections: u32,
    /// Maximum of queries in progress on a connection; >= 1.
    pub max_queries: u32,
    /// Time that a connection may be idle or blocked; >= 1 s.
    pub idle_time: Duration,
    /// Number of threads that serve connections; `None` lets the server choose.
    pub threads: Option<u32>,
    /// Seconds between resyncs with Kea's lease database; 0: never; `None`: the default for the
    /// type of database.
    pub reconciliation_interval: Option<u32>,
    /// Log messages about the configuration.
    pub notices: Vec<Notice>,
}

/// An entry of `requesters`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequesterEntry {
    /// Addresses of the requesters.
    pub prefix: Ipv4Net,
    /// The permitted query types; others are answered with NotAllowed.
    pub query_types: QueryTypes,
    /// Maximum of open connections from these addresses together, >= 1; `None`: only the common
    /// limit applies. A connection over the limit is accepted and closed at once.
    pub max_connections: Option<u32>,
}

/// Severity of a notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Information.
    Info,
    /// A warning: probably not intended.
    Warning,
}

/// A log message about an accepted configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// Severity.
    pub level: Level,
    /// The identifier of the log message.
    pub id: &'static str,
    /// Text of the log message.
    pub text: String,
}

impl Config {
    /// Reads the hook's `parameters` in JSON; `null` means none.
    ///
    /// # Errors
    /// The first parameter that is unknown, missing, of the wrong type or out of range.
    pub fn parse(json: &str) -> Result<Config, ConfigError> {
        let parameters: Option<Map<String, Value>> =
            serde_json::from_str(json).map_err(|error| ConfigError::NotMap(error.to_string()))?;
        let parameters = parameters.unwrap_or_default();
        let top = Section::new("", &parameters, &PARAMETERS)?;
        let none = Map::new();
        let advanced = Section::new("advanced", top.map("advanced")?.unwrap_or(&none), &ADVANCED)?;

        let mut config = Config {
            requesters: requesters(&top)?,
            state_file: state_file(&top)?,
            non_sensitive_options: non_sensitive_options(&top)?,
            bulk_query_enabled: advanced.boolean("bulk-query-enabled")?.unwrap_or(true),
            listen_addresses: listen_addresses(&advanced)?,
            port: port(&advanced)?,
            max_connections: advanced
                .integer("max-requester-connections", 1..=MAX_CONNECTIONS)?
                .unwrap_or(DEFAULT_CONNECTIONS),
            max_queries: advanced
                .integer("max-concurrent-queries", 0..=MAX_QUERIES)?
                .filter(|queries| *queries != 0)
                .unwrap_or(DEFAULT_QUERIES),
            idle_time: Duration::from_secs(u64::from(
                advanced
                    .integer("max-requester-idle-time", 1..=u32::MAX)?
                    .unwrap_or(DEFAULT_IDLE_SECONDS),
            )),
            threads: advanced
                .integer("max-bulk-query-threads", 0..=MAX_THREADS)?
                .filter(|threads| *threads != 0),
            reconciliation_interval: advanced
                .integer("reconciliation-interval", 0..=MAX_RESYNC_INTERVAL)?,
            notices: without_effect(&advanced)?,
        };
        config.add_notices();
        Ok(config)
    }

    /// Returns the addresses and ports to listen on; none if [`bulk_query_enabled`](Config::bulk_query_enabled)
    /// is false.
    pub fn listeners(&self) -> impl Iterator<Item = SocketAddrV4> + '_ {
        let addresses = self.listen_addresses.iter();
        addresses
            .filter(|_| self.bulk_query_enabled)
            .map(|address| SocketAddrV4::new(*address, self.port))
    }

    /// Returns the [listeners](Config::listeners) that are not in `before`.
    pub fn new_listeners(&self, before: &Config) -> Vec<SocketAddrV4> {
        let known: Vec<SocketAddrV4> = before.listeners().collect();
        let listeners = self.listeners();
        listeners
            .filter(|address| !known.contains(address))
            .collect()
    }

    /// Adds notices about values that are allowed but probably not intended.
    fn add_notices(&mut self) {
        let mut notice = |level, id, text| self.notices.push(Notice { level, id, text });
        if !self.bulk_query_enabled {
            notice(
                Level::Info,
                "BLQ_NOT_LISTENING",
                "parameter 'advanced.bulk-query-enabled' is false: no connections are accepted"
                    .to_owned(),
            );
        }
        let seconds = self.idle_time.as_secs();
        if seconds < u64::from(DEFAULT_IDLE_SECONDS) {
            notice(
                Level::Warning,
                "BLQ_IDLE_TIME_SHORT",
                format!(
                    "parameter 'advanced.max-requester-idle-time' is {seconds}: less than \
                     {DEFAULT_IDLE_SECONDS} seconds is not recommended (RFC 6926 section 6.3)"
                ),
            );
        }
        for entry in &self.requesters {
            if entry.prefix.prefix_len() == 0 {
                notice(
                    Level::Warning,
                    "BLQ_REQUESTER_ANYONE",
                    "parameter 'requesters' has 0.0.0.0/0: anyone who can connect may learn \
                     every binding (RFC 6926 section 9)"
                        .to_owned(),
                );
            }
        }
    }
}

/// Allowed forms of a requester.
const ALLOWED_REQUESTER: &str = "an IPv4 address like \"192.0.2.1\", a prefix like \
    \"192.0.2.0/24\", or a map of \"address\", \"query-types\" and \"max-connections\"";

/// Reads `requesters`.
fn requesters(top: &Section) -> Result<Vec<RequesterEntry>, ConfigError> {
    let allowed = format!("a list with at least one requester, each {ALLOWED_REQUESTER}");
    let Some(list) = top.list("requesters", &allowed)? else {
        return Err(ConfigError::Missing {
            parameter: "requesters".to_owned(),
            allowed,
        });
    };
    let mut entries = Vec::with_capacity(list.len());
    let mut seen = HashSet::new();
    for (index, value) in list.iter().enumerate() {
        let path = format!("requesters[{index}]");
        let entry = requester(&path, value)?;
        if !seen.insert(entry.prefix) {
            return Err(refused(
                &path,
                value,
                format!("given once: {} is in the list already", entry.prefix),
            ));
        }
        entries.push(entry);
    }
    Ok(entries)
}

/// Reads one of `requesters`.
fn requester(path: &str, value: &Value) -> Result<RequesterEntry, ConfigError> {
    let map = match value {
        Value::String(text) => {
            return Ok(RequesterEntry {
                prefix: prefix(path, text, value, ALLOWED_REQUESTER)?,
                query_types: QueryTypes::ALL,
                max_connections: None,
            });
        }
        Value::Object(map) => map,
        _ => return Err(refused(path, value, ALLOWED_REQUESTER)),
    };
    const ALLOWED_ADDRESS: &str =
        "an IPv4 address like \"192.0.2.1\" or a prefix like \"192.0.2.0/24\"";
    let section = Section::new(path, map, &REQUESTER)?;
    let parameter = section.parameter("address");
    let Some(address) = section.value("address") else {
        return Err(ConfigError::Missing {
            parameter,
            allowed: ALLOWED_ADDRESS.to_owned(),
        });
    };
    let text = address
        .as_str()
        .ok_or_else(|| refused(&parameter, address, ALLOWED_ADDRESS))?;
    Ok(RequesterEntry {
        prefix: prefix(&parameter, text, address, ALLOWED_ADDRESS)?,
        query_types: query_types(&section)?,
        max_connections: section.integer("max-connections", 1..=MAX_CONNECTIONS)?,
    })
}

/// Reads a prefix, or an address as a prefix of length 32.
///
/// A prefix with bits set after its length is refused: "192.0.2.1/24" may mean one address or its
/// whole network, and access must not depend on a guess.
fn prefix(
    parameter: &str,
    text: &str,
    value: &Value,
    allowed: &str,
) -> Result<Ipv4Net, ConfigError> {
    if let Ok(address) = text.parse::<Ipv4Addr>() {
        return Ok(Ipv4Net::from(address));
    }
    let prefix: Ipv4Net = text
        .parse()
        .map_err(|_| refused(parameter, value, allowed))?;
    if prefix != prefix.trunc() {
        return Err(refused(
            parameter,
            value,
            format!(
                "the network {} or the address {}: bits are set after the prefix length",
                prefix.trunc(),
                prefix.addr()
            ),
        ));
    }
    Ok(prefix)
}

/// Reads `query-types` of a requester.
fn query_types(section: &Section) -> Result<QueryTypes, ConfigError> {
    let names = QueryType::ALL.map(|query_type| format!("\"{}\"", query_type.name()));
    let allowed = format!("a list with at least one of {}", names.join(", "));
    let Some(list) = section.list("query-types", &allowed)? else {
        return Ok(QueryTypes::ALL);
    };
    let mut types = QueryTypes::NONE;
    for (index, value) in list.iter().enumerate() {
        let known = QueryType::ALL
            .into_iter()
            .find(|query_type| value.as_str() == Some(query_type.name()));
        let Some(query_type) = known else {
            let parameter = format!("{}[{index}]", section.parameter("query-types"));
            return Err(refused(
                &parameter,
                value,
                format!("one of {}", names.join(", ")),
            ));
        };
        types = types.with(query_type);
    }
    Ok(types)
}

/// Reads `state-file`.
fn state_file(top: &Section) -> Result<Option<PathBuf>, ConfigError> {
    let Some(path) = top.string("state-file")? else {
        return Ok(None);
    };
    // A path whose last component is empty, `.` or `..` names a directory.
    let (_, name) = path.rsplit_once('/').unwrap_or(("", path));
    if matches!(name, "" | "." | "..") || path.contains('\0') {
        let value = Value::from(path);
        return Err(refused("state-file", &value, "the path of a file"));
    }
    Ok(Some(PathBuf::from(path)))
}

/// Reads `non-sensitive-options`. An empty list is valid: only the options that no list withholds
/// are returned then.
fn non_sensitive_options(top: &Section) -> Result<Option<BTreeSet<u8>>, ConfigError> {
    const NAME: &str = "non-sensitive-options";
    let Some(value) = top.value(NAME) else {
        return Ok(None);
    };
    let Some(list) = value.as_array() else {
        return Err(refused(
            NAME,
            value,
            "a list of option codes, each an integer from 1 to 254",
        ));
    };
    let code = |(index, value): (usize, &Value)| {
        value
            .as_u64()
            .and_then(|code| u8::try_from(code).ok())
            // Codes 0 and 255 are Pad and End (RFC 2132 section 3).
            .filter(|code| (1..=254).contains(code))
            .ok_or_else(|| {
                let parameter = format!("{NAME}[{index}]");
                refused(
                    &parameter,
                    value,
                    "an option code, an integer from 1 to 254",
                )
            })
    };
    list.iter()
        .enumerate()
        .map(code)
        .collect::<Result<_, _>>()
        .map(Some)
}

/// Reads `advanced.lease-query-ip`.
fn listen_addresses(advanced: &Section) -> Result<Vec<Ipv4Addr>, ConfigError> {
    const NAME: &str = "lease-query-ip";
    const ALLOWED: &str = "a unicast IPv4 address or 0.0.0.0";
    let parameter = advanced.parameter(NAME);
    let list = match advanced.value(NAME) {
        None => return Ok(vec![Ipv4Addr::UNSPECIFIED]),
        Some(Value::Array(list)) if !list.is_empty() => list.as_slice(),
        Some(value @ Value::String(_)) => std::slice::from_ref(value),
        Some(value) => {
            return Err(refused(
                &parameter,
                value,
                format!("{ALLOWED}, or a list with at least one"),
            ));
        }
    };
    let mut addresses = Vec::with_capacity(list.len());
    for value in list {
        let address = value
            .as_str()
            .and_then(|text| text.parse::<Ipv4Addr>().ok())
            .filter(|address| !address.is_multicast() && !address.is_broadcast())
            .ok_or_else(|| refused(&parameter, value, ALLOWED))?;
        if addresses.contains(&address) {
            return Err(refused(&parameter, value, "given once"));
        }
        addresses.push(address);
    }
    // Binding the second address would fail.
    if addresses.len() > 1 && addresses.contains(&Ipv4Addr::UNSPECIFIED) {
        let value = Value::from("0.0.0.0");
        return Err(refused(
            &parameter,
            &value,
            "alone: it includes every other address",
        ));
    }
    Ok(addresses)
}

/// Reads `advanced.lease-query-tcp-port`.
fn port(advanced: &Section) -> Result<u16, ConfigError> {
    let port = advanced.integer("lease-query-tcp-port", 1..=u32::from(u16::MAX))?;
    Ok(port
        .and_then(|port| u16::try_from(port).ok())
        .unwrap_or(DEFAULT_PORT))
}

/// Checks the types of those parameters of Kea's own hook that have no effect here, and returns
/// notices about them.
///
/// # Errors
/// A wrong type, or a value that demands a protection or service that is not implemented: operators
/// must not rely on it.
fn without_effect(advanced: &Section) -> Result<Vec<Notice>, ConfigError> {
    const ACTIVE: &str = "active-query-enabled";
    // Kea's own hook refuses this value, too.
    if advanced.boolean(ACTIVE)? == Some(true) {
        return Err(refused(
            &advanced.parameter(ACTIVE),
            &Value::Bool(true),
            "false: Active Leasequery (RFC 7724) is not served",
        ));
    }
    let mut notices = Vec::new();
    let mut notice = |parameter: &str, why: &str| {
        notices.push(Notice {
            level: Level::Info,
            id: "BLQ_PARAMETER_NO_EFFECT",
            text: format!(
                "no effect here: '{}' ({why})",
                advanced.parameter(parameter)
            ),
        });
    };
    const TABLES: &str = "extended-info-tables-enabled";
    if advanced.boolean(TABLES)?.is_some() {
        notice(
            TABLES,
            "bindings are always found by relay-id and remote-id, without Kea's tables",
        );
    }
    const FETCH: &str = "max-leases-per-fetch";
    if advanced.integer(FETCH, 0..=u32::MAX)?.is_some() {
        notice(FETCH, "queries do not fetch leases from Kea");
    }
    notices.extend(tls_without_effect(advanced)?);
    Ok(notices)
}

/// Checks the TLS parameters, which have no effect either.
fn tls_without_effect(advanced: &Section) -> Result<Option<Notice>, ConfigError> {
    const FILES: [&str; 3] = ["trust-anchor", "cert-file", "key-file"];
    const REQUIRED: &str = "cert-required";
    for name in FILES {
        advanced.string(name)?;
    }
    if advanced.boolean(REQUIRED)? == Some(true) {
        return Err(refused(
            &advanced.parameter(REQUIRED),
            &Value::Bool(true),
            "false until TLS is served: no certificate can be required of requesters",
        ));
    }
    let given: Vec<String> = FILES
        .into_iter()
        .chain([REQUIRED])
        .filter(|name| advanced.has(name))
        .map(|name| format!("'{}'", advanced.parameter(name)))
        .collect();
    Ok((!given.is_empty()).then(|| Notice {
        level: Level::Warning,
        id: "BLQ_NOT_ENCRYPTED",
        text: format!(
            "no effect here: {} (TLS is not served): connections are not encrypted, and requesters \
             are known by their addresses alone",
            given.join(", ")
        ),
    }))
}

#[cfg(test)]
mod tests;
