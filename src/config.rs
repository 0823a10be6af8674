//! The hook's parameters: ranges, defaults and effects.
//!
//! Kea passes the parameters as JSON; [`Config::parse`] refuses unknown names and values out of
//! range, so that a mistyped name never silently means its default. Every DHCPv4 parameter of Kea's own
//! lease query hook is accepted with that hook's meaning. Two defaults differ: `bulk-query-enabled`
//! is true here and false there, `lease-query-ip` 0.0.0.0 here and 127.0.0.1 there.
//!
//! Kea unloads and loads its hooks at each reconfiguration, even if nothing changed: all
//! connections then end with QueryTerminated (RFC 6926 section 8.5), and the new values, including
//! all limits below, apply to later connections.

mod active;
mod section;
mod tls;

use std::collections::{BTreeSet, HashSet};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::Ipv4Net;
use proto::{port, timing};
use serde_json::{Map, Value};
use tracing::Level;

pub use crate::config::active::{Active, DEFAULT_ACTIVE_CONNECTIONS};
pub use crate::config::section::ConfigError;
use crate::config::section::{MAX_CONNECTIONS, Section, missing, refused};
pub use crate::config::tls::{CertificateMatch, Tls};
use crate::kea_config::LeaseQueryHook;
use crate::query::{QueryType, QueryTypes};

/// `lease-query-tcp-port`: the TCP port of Bulk Leasequery (RFC 6926 section 6.3); from 1 to
/// 65535.
pub const DEFAULT_PORT: u16 = port::SERVER;

/// `max-requester-connections`: open connections of all requesters together. Default:
/// BULK_LQ_MAX_CONNS (RFC 6926 section 6.3); from 1 to [`MAX_CONNECTIONS`]. A connection over the
/// limit is accepted and closed at once (section 8.1).
pub const DEFAULT_CONNECTIONS: u32 = timing::BULK_LQ_MAX_CONNS;

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
pub const DEFAULT_IDLE_SECONDS: u64 = timing::BULK_LQ_DATA_TIMEOUT.as_secs();
/// Maximum of `max-requester-idle-time`.
const MAX_IDLE_SECONDS: u64 = u32::MAX as u64;

/// `udp-rate-limit`: queries/s over UDP that are answered to one giaddr; 0 for no limit, at most
/// [`MAX_RATE`].
pub const DEFAULT_UDP_RATE: u32 = 1_000;
/// Maximum of `udp-rate-limit`.
const MAX_RATE: u32 = 10_000_000;

/// Maximum of `reconciliation-interval`, in seconds: a week. 0 means never; the default depends on
/// the type of Kea's lease database.
const MAX_RESYNC_INTERVAL: u32 = 7 * 24 * 3600;

/// Maximum of `max-bulk-query-threads`. 0, the default, lets the server choose.
const MAX_THREADS: u32 = 1024;

/// Parameters at the top level. Kea's own hook also ignores a `comment`, here and in `advanced`.
const PARAMETERS: [&str; 6] = [
    "requesters",
    "state-file",
    "non-sensitive-options",
    "advanced",
    "prefix-lengths",
    "comment",
];
/// Parameters of `advanced`, without those of TLS and Active Leasequery.
const ADVANCED: [&str; 13] = [
    "bulk-query-enabled",
    "udp-query-enabled",
    "udp-rate-limit",
    "lease-query-ip",
    "lease-query-tcp-port",
    "max-requester-connections",
    "max-concurrent-queries",
    "max-requester-idle-time",
    "max-bulk-query-threads",
    "reconciliation-interval",
    "extended-info-tables-enabled",
    "max-leases-per-fetch",
    "comment",
];
/// `bulk-query-enabled`: whether to listen.
const BULK_ENABLED: &str = "bulk-query-enabled";
/// `udp-query-enabled`: whether to answer over UDP.
const UDP_ENABLED: &str = "udp-query-enabled";
/// The log message about an entry of `requesters` that no peer will match.
const NEVER: &str = "BLQ_REQUESTER_NEVER";
/// Parameters of an entry of `requesters` that is a map.
const REQUESTER: [&str; 5] = [
    "address",
    "query-types",
    "max-connections",
    "max-connections-per-address",
    "certificates",
];

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
    /// Whether to answer DHCPLEASEQUERYs over UDP (RFC 4388).
    pub udp_query_enabled: bool,
    /// Maximum of queries/s over UDP that are answered to one giaddr; `None`: no limit.
    pub udp_rate_limit: Option<NonZeroU32>,
    /// Active Leasequery (RFC 7724); `None`: disabled.
    pub active: Option<Active>,
    /// TLS; `None`: off.
    pub tls: Option<Tls>,
    /// Whether `bulk-query-enabled` and `udp-query-enabled` are given.
    pub given: [bool; 2],
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
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequesterEntry {
    /// Addresses of the requesters.
    pub prefix: Ipv4Net,
    /// The permitted query types; others are answered with NotAllowed, and over UDP not at all.
    pub query_types: QueryTypes,
    /// Maximum of open connections from these addresses together, >= 1; `None`: only the common
    /// limit applies. A connection over the limit is accepted and closed at once.
    pub max_connections: Option<u32>,
    /// Maximum of open connections from one of these addresses, >= 1; `None`: no limit of its own.
    pub max_connections_per_address: Option<u32>,
    /// The certificates of which a peer that uses TLS must present one; empty: any certificate of the trust anchor.
    pub certificates: Vec<CertificateMatch>,
}

/// A log message about an accepted configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// Severity: [`Level::INFO`], or [`Level::WARN`] if the value is probably not intended.
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
        let parameters: Option<Map<String, Value>> = serde_json::from_str(json)
            .map_err(|cause| ConfigError(format!("the parameters must be a JSON map: {cause}")))?;
        let parameters = parameters.unwrap_or_default();
        let top = Section::new("", &parameters, &PARAMETERS)?;
        let none = Map::new();
        let known = [&ADVANCED[..], &active::PARAMETERS, &tls::PARAMETERS].concat();
        let advanced = Section::new("advanced", top.map("advanced")?.unwrap_or(&none), &known)?;
        let bulk_query_enabled = advanced.boolean(BULK_ENABLED)?.unwrap_or(true);
        let tls = Tls::read(&advanced)?;

        let mut config = Config {
            requesters: requesters(&top)?,
            state_file: state_file(&top)?,
            non_sensitive_options: non_sensitive_options(&top)?,
            bulk_query_enabled,
            udp_query_enabled: advanced.boolean(UDP_ENABLED)?.unwrap_or(true),
            udp_rate_limit: NonZeroU32::new(
                advanced
                    .integer("udp-rate-limit", 0..=MAX_RATE)?
                    .unwrap_or(DEFAULT_UDP_RATE),
            ),
            active: Active::read(&advanced, bulk_query_enabled, tls.as_ref())?,
            tls,
            given: [BULK_ENABLED, UDP_ENABLED].map(|name| advanced.has(name)),
            listen_addresses: listen_addresses(&advanced)?,
            port: advanced
                .integer("lease-query-tcp-port", 1..=u16::MAX)?
                .unwrap_or(DEFAULT_PORT),
            max_connections: advanced
                .integer("max-requester-connections", 1..=MAX_CONNECTIONS)?
                .unwrap_or(DEFAULT_CONNECTIONS),
            max_queries: advanced
                .integer("max-concurrent-queries", 0..=MAX_QUERIES)?
                .filter(|queries| *queries != 0)
                .unwrap_or(DEFAULT_QUERIES),
            idle_time: Duration::from_secs(
                advanced
                    .integer("max-requester-idle-time", 1..=MAX_IDLE_SECONDS)?
                    .unwrap_or(DEFAULT_IDLE_SECONDS),
            ),
            threads: advanced
                .integer("max-bulk-query-threads", 0..=MAX_THREADS)?
                .filter(|threads| *threads != 0),
            reconciliation_interval: advanced
                .integer("reconciliation-interval", 0..=MAX_RESYNC_INTERVAL)?,
            notices: without_effect(&top, &advanced)?,
        };
        if config.tls.is_none() {
            config.notices.extend(tls_without_effect(&advanced));
        }
        config.add_notices();
        Ok(config)
    }

    /// Leaves the queries that Kea's own lease query hook answers to that hook, with a notice.
    ///
    /// # Errors
    /// A parameter asks to answer them.
    pub fn leave_to(&mut self, other: &LeaseQueryHook) -> Result<(), ConfigError> {
        let LeaseQueryHook { file, port, .. } = other;
        let [is_bulk_given, is_udp_given] = self.given;
        let both = |what: &str, name: &str| {
            ConfigError(format!(
                "parameter 'advanced.{name}' is true, but {file:?} {what} already: remove that library from \
                 'hooks-libraries', or set this parameter to false"
            ))
        };
        let mut left = |what: &str, name: &str, remedy: &str| {
            self.notices.push(Notice {
                level: Level::WARN,
                id: "BLQ_OTHER_HOOK",
                text: format!(
                    "{file:?} {what}, so this library does not: {remedy}; to silence this warning, set \
                     'advanced.{name}' to false"
                ),
            });
        };
        let removal = "to have it do so, remove that library from 'hooks-libraries'";
        if self.udp_query_enabled {
            const ANSWERS: &str = "answers queries over UDP";
            if is_udp_given {
                return Err(both(ANSWERS, UDP_ENABLED));
            }
            left(ANSWERS, UDP_ENABLED, removal);
            self.udp_query_enabled = false;
        }
        if self.bulk_query_enabled && other.listens_on(&self.listen_addresses, self.port) {
            let listens = format!("listens on TCP port {}", port.unwrap_or_default());
            if self.active.is_some() {
                return Err(both(&listens, "active-query-enabled"));
            }
            if is_bulk_given {
                return Err(both(&listens, BULK_ENABLED));
            }
            let remedy = format!("{removal}, or choose another 'advanced.lease-query-tcp-port'");
            left(&listens, BULK_ENABLED, &remedy);
            self.bulk_query_enabled = false;
        }
        // The requesters may be of less use.
        self.notices.retain(|notice| notice.id != NEVER);
        self.add_notices_of_requesters();
        Ok(())
    }

    /// Returns these parameters without the queries that Kea's own lease query hook answers, whatever parameters ask for.
    pub fn without_queries_of(&self, other: &LeaseQueryHook) -> Config {
        let mut config = Config {
            given: [false, false],
            active: self
                .active
                .filter(|_| !other.listens_on(&self.listen_addresses, self.port)),
            ..self.clone()
        };
        // Without parameters that ask for them, nothing is refused.
        let _ = config.leave_to(other);
        config
    }

    /// Returns the time from one resync to the next, `usual` unless it is configured; `None`: never.
    pub fn resync_interval(&self, usual: Duration) -> Option<Duration> {
        let configured = self.reconciliation_interval;
        let interval = configured.map_or(usual, |seconds| Duration::from_secs(seconds.into()));
        (!interval.is_zero()).then_some(interval)
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
        let mut notices = Vec::new();
        let mut notice = |level, id, text| notices.push(Notice { level, id, text });
        if !self.bulk_query_enabled {
            notice(
                Level::INFO,
                "BLQ_NOT_LISTENING",
                "parameter 'advanced.bulk-query-enabled' is false: no connections are accepted"
                    .to_owned(),
            );
        }
        let seconds = self.idle_time.as_secs();
        if seconds < DEFAULT_IDLE_SECONDS {
            notice(
                Level::WARN,
                "BLQ_IDLE_TIME_SHORT",
                format!(
                    "parameter 'advanced.max-requester-idle-time' is {seconds}: less than \
                     {DEFAULT_IDLE_SECONDS} seconds is not recommended (RFC 6926 section 6.3)"
                ),
            );
        }
        for warning in self.active.iter().flat_map(Active::warnings) {
            notice(Level::WARN, "BLQ_IDLE_TIME_SHORT", warning);
        }
        for entry in &self.requesters {
            if self.tls.is_none() && !entry.certificates.is_empty() {
                let shown = shown(entry.prefix);
                notice(
                    Level::WARN,
                    "BLQ_NOT_ENCRYPTED",
                    format!(
                        "parameter 'requesters' has 'certificates' for {shown}, but TLS is off: connections are not \
                         encrypted, and requesters are known by their addresses alone"
                    ),
                );
            }
            if self.needs_no_certificate(entry) {
                let shown = shown(entry.prefix);
                notice(
                    Level::WARN,
                    "BLQ_ACTIVE_INSECURE",
                    format!(
                        "parameter 'requesters' has 'certificates' for {shown}, but 'advanced.active-query-insecure' is \
                         true: without TLS it may send active queries that no certificate is requested for"
                    ),
                );
            }
            if entry.prefix.prefix_len() == 0 {
                notice(
                    Level::WARN,
                    "BLQ_REQUESTER_ANYONE",
                    "parameter 'requesters' has 0.0.0.0/0: anyone who can connect may learn \
                     every binding (RFC 6926 section 9)"
                        .to_owned(),
                );
            }
        }
        self.notices.append(&mut notices);
        self.add_notices_of_requesters();
    }

    /// Whether a requester with `certificates` may send active queries without any.
    fn needs_no_certificate(&self, entry: &RequesterEntry) -> bool {
        let is_insecure = self.active.is_some_and(|active| active.is_insecure);
        let is_active = entry.query_types.contains(QueryType::Active);
        // Without TLS, another notice says more.
        is_insecure && is_active && self.tls.is_some() && !entry.certificates.is_empty()
    }

    /// Adds notices about entries of `requesters` that no peer will match.
    fn add_notices_of_requesters(&mut self) {
        let mut prefixes: Vec<Ipv4Net> = self.requesters.iter().map(|entry| entry.prefix).collect();
        prefixes.sort_unstable();
        let notices = self.requesters.iter().filter_map(|entry| {
            let by = |how: &str, why: String| {
                let shown = shown(entry.prefix);
                format!("parameter 'requesters' has {shown}, which no peer will match{how}: {why}")
            };
            let never = self.never_matches(entry, &prefixes).map(|why| by("", why));
            let never_by_tcp = || {
                let why = self.never_connects(entry)?;
                Some(match self.udp_query_enabled {
                    true => by(" over TCP", why),
                    false => by("", why),
                })
            };
            Some(Notice {
                level: Level::WARN,
                id: NEVER,
                text: never.or_else(never_by_tcp)?,
            })
        });
        let mut notices = notices.collect();
        self.notices.append(&mut notices);
    }

    /// Returns the reason why no peer will match an entry of `requesters`, unless it binds to an unusual address; `None`
    /// if one may. `prefixes` are those of all entries, ascending.
    fn never_matches(&self, entry: &RequesterEntry, prefixes: &[Ipv4Net]) -> Option<String> {
        let (first, last) = (entry.prefix.network(), entry.prefix.broadcast());
        let is_in = |range: &str| {
            range
                .parse()
                .is_ok_and(|range: Ipv4Net| range.contains(&entry.prefix))
        };
        // RFC 1122 section 3.2.1.3, RFC 5771, RFC 1112 section 4.
        if is_in("0.0.0.0/8") || is_in("224.0.0.0/3") {
            return Some(
                "peers connect from unicast addresses, 1.0.0.0 to 223.255.255.255".to_owned(),
            );
        }
        // Each of at most 32 entries that contain one another, so that long lists take little time.
        let begin = prefixes.partition_point(|other| other.network() < first);
        let end = prefixes.partition_point(|other| other.network() <= last);
        let inner = prefixes.get(begin..end).unwrap_or_default().iter();
        let inner = inner.filter(|other| other.prefix_len() > entry.prefix.prefix_len());
        let inner = Ipv4Net::aggregate(&inner.copied().collect());
        let is_covered = inner.contains(&entry.prefix);
        is_covered.then(|| "more specific entries have all its addresses".to_owned())
    }

    /// Returns the reason why no peer will connect from the addresses of an entry of `requesters`, unless it binds to an
    /// unusual one; `None` if one may, or if there are no connections.
    fn never_connects(&self, entry: &RequesterEntry) -> Option<String> {
        let (first, last) = (entry.prefix.network(), entry.prefix.broadcast());
        let listeners = &self.listen_addresses;
        let is_loopback = |address: &Ipv4Addr| address.is_loopback();
        let has_loopback =
            is_loopback(&first) || is_loopback(&last) || entry.prefix.prefix_len() < 8;
        if !self.bulk_query_enabled {
            return None;
        }
        if !has_loopback && listeners.iter().all(is_loopback) {
            return Some(
                "'advanced.lease-query-ip' has loopback addresses alone, which only this machine reaches"
                    .to_owned(),
            );
        }
        // A connection within a machine comes from the address that it goes to.
        let reaches_loopback =
            |address: &Ipv4Addr| is_loopback(address) || address.is_unspecified();
        let is_all_loopback = is_loopback(&first) && is_loopback(&last);
        if is_all_loopback && !listeners.iter().any(reaches_loopback) {
            return Some(
                "'advanced.lease-query-ip' has no loopback address, so connections from this machine \
                 come from the address that they go to: list that address"
                    .to_owned(),
            );
        }
        None
    }
}

/// Returns the form in which a requester is configured.
fn shown(prefix: Ipv4Net) -> String {
    match prefix.prefix_len() {
        32 => prefix.addr().to_string(),
        _ => prefix.to_string(),
    }
}

/// Allowed forms of a requester.
const ALLOWED_REQUESTER: &str = "an IPv4 address like \"192.0.2.1\", a prefix like \
    \"192.0.2.0/24\", or a map of \"address\", \"query-types\", \"max-connections\", \
    \"max-connections-per-address\" and \"certificates\"";

/// Reads `requesters`.
fn requesters(top: &Section) -> Result<Vec<RequesterEntry>, ConfigError> {
    let allowed = format!("a list with at least one requester, each {ALLOWED_REQUESTER}");
    let Some(list) = top.list("requesters", &allowed)? else {
        return Err(missing("requesters", &allowed));
    };
    let mut entries = Vec::with_capacity(list.len());
    let mut seen = HashSet::new();
    for (index, value) in list.iter().enumerate() {
        let path = format!("requesters[{index}]");
        let entry = requester(&path, value)?;
        if !seen.insert(entry.prefix) {
            let allowed = format!("given once: {} is in the list already", entry.prefix);
            return Err(refused(&path, value, allowed));
        }
        entries.push(entry);
    }
    Ok(entries)
}

/// Reads one of `requesters`.
fn requester(path: &str, value: &Value) -> Result<RequesterEntry, ConfigError> {
    if let Some(text) = value.as_str() {
        return Ok(RequesterEntry {
            prefix: prefix(path, text, ALLOWED_REQUESTER)?,
            query_types: QueryTypes::ALL,
            max_connections: None,
            max_connections_per_address: None,
            certificates: Vec::new(),
        });
    }
    let Some(map) = value.as_object() else {
        return Err(refused(path, value, ALLOWED_REQUESTER));
    };
    const ALLOWED_ADDRESS: &str =
        "an IPv4 address like \"192.0.2.1\" or a prefix like \"192.0.2.0/24\"";
    let section = Section::new(path, map, &REQUESTER)?;
    let parameter = section.parameter("address");
    let Some(text) = section.typed("address", ALLOWED_ADDRESS, Value::as_str)? else {
        return Err(missing(&parameter, ALLOWED_ADDRESS));
    };
    Ok(RequesterEntry {
        prefix: prefix(&parameter, text, ALLOWED_ADDRESS)?,
        query_types: query_types(&section)?,
        max_connections: section.integer("max-connections", 1..=MAX_CONNECTIONS)?,
        max_connections_per_address: section
            .integer("max-connections-per-address", 1..=MAX_CONNECTIONS)?,
        certificates: tls::certificates(&section)?,
    })
}

/// Reads a prefix, or an address as a prefix of length 32.
///
/// A prefix with bits set after its length is refused: "192.0.2.1/24" may mean one address or its
/// whole network, and access must not depend on a guess.
fn prefix(parameter: &str, text: &str, allowed: &str) -> Result<Ipv4Net, ConfigError> {
    if let Ok(address) = text.parse::<Ipv4Addr>() {
        return Ok(Ipv4Net::from(address));
    }
    let value = Value::from(text);
    let prefix: Ipv4Net = text
        .parse()
        .map_err(|_| refused(parameter, &value, allowed))?;
    let (network, address) = (prefix.trunc(), prefix.addr());
    if prefix != network {
        let allowed = format!(
            "the network {network} or the address {address}: bits are set after the prefix length"
        );
        return Err(refused(parameter, &value, allowed));
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
            let allowed = format!("one of {}", names.join(", "));
            return Err(refused(&parameter, value, allowed));
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
    const ALLOWED: &str = "a list of option codes, each an integer from 1 to 254";
    const ALLOWED_CODE: &str = "an option code, an integer from 1 to 254";
    let Some(list) = top.typed(NAME, ALLOWED, Value::as_array)? else {
        return Ok(None);
    };
    let code = |(index, value): (usize, &Value)| {
        let code = value.as_u64().and_then(|code| u8::try_from(code).ok());
        // Codes 0 and 255 are Pad and End (RFC 2132 section 3).
        code.filter(|code| (1..=254).contains(code))
            .ok_or_else(|| refused(&format!("{NAME}[{index}]"), value, ALLOWED_CODE))
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
    let allowed = format!("{ALLOWED}, or a list with at least one");
    let list = advanced.typed(NAME, &allowed, |value| match value {
        Value::Array(list) if !list.is_empty() => Some(list.as_slice()),
        Value::String(_) => Some(std::slice::from_ref(value)),
        _ => None,
    })?;
    let Some(list) = list else {
        return Ok(vec![Ipv4Addr::UNSPECIFIED]);
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
        let allowed = "alone: it includes every other address";
        return Err(refused(&parameter, &Value::from("0.0.0.0"), allowed));
    }
    Ok(addresses)
}

/// Checks the types of those parameters of Kea's own hook that have no effect here, and returns
/// notices about them.
///
/// # Errors
/// A wrong type.
fn without_effect(top: &Section, advanced: &Section) -> Result<Vec<Notice>, ConfigError> {
    let mut notices = Vec::new();
    let mut notice = |section: &Section, parameter: &str, why: &str| {
        notices.push(Notice {
            level: Level::INFO,
            id: "BLQ_PARAMETER_NO_EFFECT",
            text: format!("no effect here: '{}' ({why})", section.parameter(parameter)),
        });
    };
    const PREFIXES: &str = "prefix-lengths";
    if top
        .list(PREFIXES, "a list of lengths of DHCPv6 prefixes")?
        .is_some()
    {
        notice(top, PREFIXES, "DHCPv4 has no prefix delegation");
    }
    const TABLES: &str = "extended-info-tables-enabled";
    if advanced.boolean(TABLES)?.is_some() {
        notice(
            advanced,
            TABLES,
            "bindings are always found by relay-id and remote-id, without Kea's tables",
        );
    }
    const FETCH: &str = "max-leases-per-fetch";
    if advanced.integer(FETCH, 0..=u32::MAX)?.is_some() {
        notice(advanced, FETCH, "queries do not fetch leases from Kea");
    }
    Ok(notices)
}

/// Returns the notice about parameters of TLS that are given while it is off.
fn tls_without_effect(advanced: &Section) -> Option<Notice> {
    let given = Tls::given(advanced);
    let is_more_than_off = given.iter().any(|name| name != "'advanced.tls'");
    is_more_than_off.then(|| Notice {
        level: Level::WARN,
        id: "BLQ_NOT_ENCRYPTED",
        text: format!(
            "no effect here: {} (TLS is off): connections are not encrypted, and requesters are known by their \
             addresses alone",
            given.join(", ")
        ),
    })
}

#[cfg(test)]
mod tests;
