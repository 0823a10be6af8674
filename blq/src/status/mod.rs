//! The status of the leasequery server of a Kea on this machine: the answer to the control command `blq4-status`, and
//! its metrics.

mod metrics;

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

/// The longest time to wait for Kea, which answers commands between DHCP messages.
const TIMEOUT: Duration = Duration::from_secs(30);

/// The most octets of an answer. A server with 65,536 VPNs sends less.
const LONGEST: u64 = 64 << 20;

/// Result of a command that Kea does not know.
const UNSUPPORTED: i64 = 2;

/// The reason why there is no status.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The socket does not exist.
    #[error(
        "no such socket; --socket takes the `socket-name` of `control-socket` in Kea's configuration"
    )]
    NoSocket,
    /// The user may not use the socket.
    #[error("{0}; run as root, or as a member of Kea's group")]
    Forbidden(io::Error),
    /// No server listens there.
    #[error("{0}; is kea-dhcp4 running?")]
    Refused(io::Error),
    /// The connection failed.
    #[error("{0}")]
    Connection(#[from] io::Error),
    /// Kea did not answer.
    #[error("no answer within {} s", TIMEOUT.as_secs())]
    Silence,
    /// Kea does not have the hook.
    #[error("kea-dhcp4 does not know blq4-status; is libdhcp_blq.so in its `hooks-libraries`?")]
    NoHook,
    /// Kea answered with an error.
    #[error("Kea: {0}")]
    Refusal(String),
    /// The answer is of another form.
    #[error("the answer is not that of blq4-status: {0}")]
    Malformed(#[from] serde_json::Error),
}

/// Sends `blq4-status` to a control socket of Kea, and returns the arguments of the answer.
///
/// # Errors
/// Kea does not answer within 30 seconds, does not have the hook, or answers with an error.
pub fn request(socket: &Path) -> Result<Value, Error> {
    let mut stream = UnixStream::connect(socket).map_err(connection_error)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    stream.write_all(json!({ "command": "blq4-status" }).to_string().as_bytes())?;
    stream.shutdown(Shutdown::Write)?;
    // Kea may leave the connection open, so the answer ends with its last brace.
    let mut answers =
        serde_json::Deserializer::from_reader(io::BufReader::new(stream.take(LONGEST)))
            .into_iter::<Value>();
    let answer = answers.next().unwrap_or_else(|| {
        let end = io::Error::from(io::ErrorKind::UnexpectedEof);
        Err(serde_json::Error::io(end))
    });
    match answer {
        Ok(answer) => arguments(answer),
        Err(error) => Err(match error.io_error_kind() {
            Some(io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => Error::Silence,
            _ => Error::Malformed(error),
        }),
    }
}

/// Returns the arguments of an answer.
fn arguments(mut answer: Value) -> Result<Value, Error> {
    match answer["result"].as_i64() {
        Some(0) => Ok(answer["arguments"].take()),
        Some(UNSUPPORTED) => Err(Error::NoHook),
        _ => {
            let text = answer["text"].as_str().unwrap_or("an answer without text");
            Err(Error::Refusal(crate::text::escape(text).to_string()))
        }
    }
}

/// Returns the error of a failed connection.
fn connection_error(error: io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::NotFound => Error::NoSocket,
        io::ErrorKind::PermissionDenied => Error::Forbidden(error),
        io::ErrorKind::ConnectionRefused => Error::Refused(error),
        _ => Error::Connection(error),
    }
}

/// The arguments of the answer: see `docs/commands/blq4-status.schema.json`. Parts that describe a running instance
/// are absent without one.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Status {
    /// `serving`, `loading`, `failed` or `stopped`.
    pub state: String,
    /// The reason of another state than `serving`.
    pub reason: Option<String>,
    /// The time of the answer, in seconds since 1970.
    pub time: u64,
    /// The versions of the hook and of Kea.
    pub versions: Versions,
    /// Counters.
    pub queries: Queries,
    /// Counters of queries over UDP; 0 from a server that answers none.
    #[serde(default)]
    pub udp_queries: UdpQueries,
    /// The listening addresses.
    pub listeners: Vec<Listener>,
    /// Connections.
    pub connections: Option<Connections>,
    /// TLS; `None` if it is off.
    pub tls: Option<Tls>,
    /// Bindings.
    pub bindings: Option<Bindings>,
    /// Option 82.
    pub coverage: Option<Coverage>,
    /// Memory.
    pub memory: Memory,
    /// The initial load.
    pub load: Option<Load>,
    /// Comparisons with Kea's lease database.
    pub resync: Option<Resync>,
    /// The state file.
    pub state_file: Option<StateFile>,
    /// The time since when changes are known, in seconds since 1970.
    pub history_since: Option<u32>,
}

impl Status {
    /// Reads the arguments of an answer.
    ///
    /// # Errors
    /// They are of another form.
    pub fn read(arguments: Value) -> Result<Status, Error> {
        Ok(serde_json::from_value(arguments)?)
    }

    /// Returns the metrics in Prometheus's text format, version 0.0.4. Parts that the status lacks have none.
    pub fn metrics(&self) -> String {
        metrics::text(self)
    }
}

/// Versions.
#[derive(Debug, Deserialize)]
pub struct Versions {
    /// The hook.
    pub hook: String,
    /// Kea.
    pub kea: String,
}

/// Counters since the start of Kea.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Queries {
    /// Queries read.
    pub received: u64,
    /// Queries answered with NotAllowed.
    pub refused: u64,
    /// Queries answered with MalformedQuery.
    pub malformed: u64,
    /// Queries answered with QueryTerminated.
    pub terminated: u64,
    /// Messages that cannot be answered.
    pub not_queries: u64,
    /// Messages sent.
    pub messages_sent: u64,
    /// Octets sent.
    pub octets_sent: u64,
    /// Connections served.
    pub connections_accepted: u64,
    /// Connections of peers that are not in `requesters`.
    pub connections_not_permitted: u64,
    /// Connections above a limit.
    pub connections_over_limit: u64,
}

/// Counters of queries over UDP since the start of Kea.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct UdpQueries {
    /// DHCPLEASEQUERYs received.
    pub received: u64,
    /// DHCPLEASEACTIVEs sent.
    pub active: u64,
    /// DHCPLEASEUNASSIGNEDs sent.
    pub unassigned: u64,
    /// DHCPLEASEUNKNOWNs sent.
    pub unknown: u64,
    /// Queries without a reply, by the reason.
    pub dropped: BTreeMap<String, u64>,
}

/// A listening address.
#[derive(Debug, Deserialize)]
pub struct Listener {
    /// The address.
    pub address: String,
    /// The port.
    pub port: u16,
    /// Whether it listens.
    pub listening: bool,
    /// The reason why not.
    pub error: Option<String>,
}

/// Connections.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Connections {
    /// The open ones, without those counted by `active`.
    pub open: u64,
    /// The most.
    pub limit: u64,
    /// Connections with an active query (RFC 7724); `None` from a server that does not count them apart.
    pub active: Option<u64>,
    /// The most of these; 0 if active queries are not enabled.
    pub active_limit: Option<u64>,
}

/// TLS, as of the files when Kea's configuration was read.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Tls {
    /// `allowed` or `required`.
    pub mode: String,
    /// The authorities of requesters' certificates.
    pub trust_anchor: TrustAnchor,
    /// The server's certificate, and those of intermediate authorities.
    pub cert_file: CertFile,
    /// The revocation lists; `None` without such a file.
    pub crl_file: Option<CrlFile>,
    /// Counters of handshakes.
    pub handshakes: Handshakes,
}

/// The certificates of authorities.
#[derive(Debug, Deserialize)]
pub struct TrustAnchor {
    /// The number of certificates.
    pub certificates: u64,
    /// The end of the one that ends first, in seconds since 1970; `None` if unknown.
    pub ends: Option<u64>,
}

/// The server's certificate, and those of intermediate authorities.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct CertFile {
    /// The number of certificates.
    pub certificates: u64,
    /// The end of the one that ends first, in seconds since 1970; `None` if unknown.
    pub ends: Option<u64>,
    /// Whether it has ended, or ends within 30 days.
    pub ends_soon: bool,
}

/// Certificate revocation lists.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct CrlFile {
    /// The number of lists.
    pub lists: u64,
    /// The first time at which a next list is to be issued, in seconds since 1970; `None` if unknown.
    pub next_update: Option<u64>,
}

/// Counters of TLS handshakes since the start of Kea.
#[derive(Debug, Deserialize)]
pub struct Handshakes {
    /// Connections secured.
    pub completed: u64,
    /// Handshakes that failed.
    pub failed: u64,
}

/// Bindings.
#[derive(Debug, Deserialize)]
pub struct Bindings {
    /// All, at present; `None` while leases are loaded, or if the number cannot be read at once.
    pub total: Option<u64>,
    /// The last census; `None` before the first.
    pub census: Option<Census>,
}

/// A census of the bindings.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Census {
    /// Seconds since it was made.
    pub age: u64,
    /// Bindings in each state.
    pub by_state: BTreeMap<String, u64>,
    /// Bindings in each VPN.
    pub by_vpn: Vec<VpnCount>,
    /// Configured addresses without a binding.
    pub free_addresses: u64,
    /// Entries of each index.
    pub indexes: BTreeMap<String, u64>,
}

/// The bindings of a VPN.
#[derive(Debug, Deserialize)]
pub struct VpnCount {
    /// `default`, `name`, `rfc2685`, `others` or `unknown`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The name.
    pub name: Option<String>,
    /// The VPN-ID in hexadecimal digits.
    pub rfc2685: Option<String>,
    /// All bindings.
    pub bindings: u64,
    /// The active ones.
    pub active: u64,
}

impl VpnCount {
    /// Returns the name of the VPN, or what stands for one.
    pub fn label(&self) -> &str {
        let name = self.name.as_deref().or(self.rfc2685.as_deref());
        name.unwrap_or(&self.kind)
    }
}

/// The active bindings that queries by remote-id and relay-id find.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Coverage {
    /// All active bindings.
    pub active: u64,
    /// Active bindings with option 82.
    pub with_relay_agent_information: u64,
    /// Active bindings with a remote-id.
    pub with_remote_id: u64,
    /// Active bindings with a relay-id.
    pub with_relay_id: u64,
    /// The others.
    pub without: Uncovered,
}

/// The active bindings without option 82.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Uncovered {
    /// The client's last message had none.
    pub message_without_option_82: u64,
    /// Kea stores none, and no message came since the load.
    pub not_stored_and_no_message_yet: u64,
}

/// Memory, in octets.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Memory {
    /// An estimate of the mirror's; `None` before the first census.
    pub estimate: Option<Estimate>,
    /// The whole process.
    pub process_resident: Option<u64>,
}

/// An estimate of the mirror's memory, in octets.
#[derive(Debug, Deserialize)]
pub struct Estimate {
    /// The bindings.
    pub bindings: u64,
    /// The indexes.
    pub indexes: u64,
}

/// The initial load.
#[derive(Debug, Deserialize)]
pub struct Load {
    /// The time at which it began, in seconds since 1970.
    pub began: u64,
    /// Leases read.
    pub leases: u64,
    /// Whether it is complete.
    pub complete: bool,
    /// The duration, in seconds.
    pub seconds: Option<f64>,
}

/// Comparisons with Kea's lease database.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Resync {
    /// Seconds from one to the next; `None` if they are made on demand only.
    pub interval: Option<u64>,
    /// Whether one runs.
    pub in_progress: bool,
    /// The end of the last one, in seconds since 1970.
    pub last_ended: Option<u32>,
    /// The duration of the last one.
    pub last_seconds: Option<f64>,
    /// Whether the last one failed.
    pub failing: bool,
    /// Differences found.
    pub differences: u64,
}

/// The state file.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct StateFile {
    /// The path.
    pub path: String,
    /// Whether it can be written.
    pub healthy: bool,
    /// The time of the last write, in seconds since 1970.
    pub last_written: Option<u32>,
    /// The size, in octets.
    pub octets: Option<u64>,
    /// The first failure since that write, in seconds since 1970.
    pub failing_since: Option<u32>,
    /// The reason why it cannot be written.
    pub error: Option<String>,
}
