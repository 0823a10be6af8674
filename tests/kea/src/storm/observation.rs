//! Kea's leases and the hook's answers at one moment.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{Ipv4Addr, SocketAddrV4};

use blq::{Binding, Connection, MessageType, Primary, Query, State, StatusCode, Vss};
use serde_json::Value;

use super::history::{Identity, hex};
use crate::{Kea, ask};

/// Number of queries sent before their answers are read.
const QUERIES_AT_ONCE: usize = 100;

/// A lease in Kea's database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeaLease {
    /// Kea's number of the state: 0 is assigned.
    pub state: u64,
    /// Client last transaction time, in seconds since 1970.
    pub cltt: u32,
    /// Valid lifetime from `cltt`, in seconds.
    pub valid: u32,
    /// The client.
    pub identity: Identity,
    /// The subnet's number.
    pub subnet: u32,
}

impl KeaLease {
    /// Returns the end of the lease; `None` if it does not end.
    pub fn ends(&self) -> Option<u64> {
        let ends = u64::from(self.cltt) + u64::from(self.valid);
        (self.valid != u32::MAX).then_some(ends)
    }

    /// Whether the lifetime is over.
    pub fn is_over(&self, now: u32) -> bool {
        self.ends().is_some_and(|ends| ends <= u64::from(now))
    }
}

impl fmt::Display for KeaLease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let KeaLease {
            state,
            cltt,
            valid,
            identity,
            subnet,
        } = self;
        write!(f, "state {state}, cltt {cltt}, valid-lft {valid}, ")?;
        write!(f, "ends {:?}, {identity}, subnet {subnet}", self.ends())
    }
}

/// A binding in the hook's answer, with absolute times.
#[derive(Debug, Clone)]
pub struct HookBinding {
    /// dhcp-state.
    pub state: State,
    /// start-time-of-state.
    pub since: Option<u32>,
    /// client-last-transaction-time.
    pub last: Option<u32>,
    /// The client.
    pub identity: Identity,
    /// The end of the lease time; `None` if there is no lease time, or an infinite one.
    pub ends: Option<u64>,
    /// Whether there is a lease time.
    pub has_lease_time: bool,
    /// The VPN; `None` for the default one.
    pub vpn: Option<Vss>,
    /// The value of option 82.
    pub option_82: Vec<u8>,
    /// base-time.
    pub base: u32,
    /// The REMOTE flag of data-source.
    pub is_remote: bool,
    /// Whether the message is DHCPLEASEACTIVE.
    pub is_active_message: bool,
}

impl HookBinding {
    /// Converts a binding.
    fn of(binding: &Binding) -> Self {
        let all = binding.relay_agent_information.as_ref();
        HookBinding {
            state: binding.state.unwrap_or(State(0)),
            since: binding.state_started_at(),
            last: binding.client_last_transaction_at(),
            identity: Identity {
                mac: binding.chaddr.clone(),
                client_id: binding.client_id.clone().unwrap_or_default(),
            },
            ends: binding.lease_ends_at(),
            has_lease_time: binding.lease_time.is_some(),
            vpn: binding.vpn.clone(),
            option_82: all.map(|all| all.raw.clone()).unwrap_or_default(),
            base: binding.base_time.unwrap_or(0),
            is_remote: binding.is_remote(),
            is_active_message: binding.message_type == MessageType::LEASE_ACTIVE,
        }
    }

    /// Returns the values whose difference is a change of the binding: state, its start, client,
    /// last transaction.
    pub fn change(&self) -> (u8, Option<u32>, &Identity, Option<u32>) {
        (self.state.0, self.since, &self.identity, self.last)
    }

    /// Whether the start of the state or the last transaction is in the window, both bounds
    /// included (RFC 6926, section 8.2).
    pub fn is_in(&self, start: u32, end: u32) -> bool {
        let within = |time: Option<u32>| time.is_some_and(|time| (start..=end).contains(&time));
        within(self.since) || within(self.last)
    }
}

impl fmt::Display for HookBinding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let HookBinding {
            state,
            since,
            last,
            identity,
            ends,
            base,
            ..
        } = self;
        let time = |time: &Option<u32>| time.map_or("-".to_owned(), |time| time.to_string());
        write!(
            f,
            "{state} since {}, last {}, {identity}",
            time(since),
            time(last)
        )?;
        if self.has_lease_time {
            let ends = ends.map_or("never".to_owned(), |ends| ends.to_string());
            write!(f, ", ends {ends}")?;
        }
        if let Some(vpn) = &self.vpn {
            write!(f, ", VPN {vpn:?}")?;
        }
        if self.is_remote {
            f.write_str(", REMOTE")?;
        }
        write!(f, ", 82 {}, base-time {base}", hex(&self.option_82))
    }
}

/// The answer to a query for all configured addresses.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The bindings by address.
    pub bindings: BTreeMap<Ipv4Addr, HookBinding>,
    /// The earliest base-time of the bindings, the start time of a delta query.
    pub base: u32,
    /// Addresses that occur twice, or out of order.
    pub out_of_order: Vec<Ipv4Addr>,
}

impl Answer {
    /// Queries all configured addresses that changed from `start` to `end`.
    pub fn ask(
        connection: &mut Connection,
        vpn: Option<Vss>,
        start: Option<u32>,
        end: Option<u32>,
    ) -> Result<Answer, QueryFailure> {
        let mut query = Query::new(Primary::All);
        (query.vpn, query.start, query.end) = (vpn, start, end);
        let answer = connection.query(&query);
        let done = answer
            .done
            .map_err(|error| QueryFailure::Error(error.to_string()))?;
        if let Some(failure) = done.failure() {
            return Err(match failure.code {
                StatusCode::QUERY_TERMINATED => QueryFailure::Terminated,
                _ => QueryFailure::Error(failure.to_string()),
            });
        }
        let mut out_of_order = Vec::new();
        for pair in answer.bindings.windows(2) {
            if pair[0].address >= pair[1].address {
                out_of_order.push(pair[1].address);
            }
        }
        let bindings = answer.bindings.iter();
        let bindings: BTreeMap<_, _> = bindings
            .map(|binding| (binding.address, HookBinding::of(binding)))
            .collect();
        let base = bindings.values().map(|binding| binding.base);
        let base = base.min().unwrap_or(0);
        Ok(Answer {
            bindings,
            base,
            out_of_order,
        })
    }
}

/// The reason why a query failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum QueryFailure {
    /// DONE with QueryTerminated.
    Terminated,
    /// Another error.
    Error(String),
}

/// The configured addresses, according to Kea.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConfiguredAddresses {
    /// Addresses of pools and reservations.
    pub addresses: BTreeSet<Ipv4Addr>,
    /// The first and last address of each subnet, by subnet number.
    pub subnets: BTreeMap<u32, (Ipv4Addr, Ipv4Addr)>,
    /// The user contexts of subnets, which name VPNs, by subnet number.
    pub contexts: BTreeMap<u32, String>,
}

impl ConfiguredAddresses {
    /// Reads the answer to `config-get`.
    fn read(configuration: &Value) -> Self {
        let mut configured = ConfiguredAddresses::default();
        let dhcp4 = &configuration["Dhcp4"];
        let networks = dhcp4["shared-networks"].as_array().into_iter().flatten();
        let shared = networks.flat_map(|network| network["subnet4"].as_array());
        for subnet in dhcp4["subnet4"]
            .as_array()
            .into_iter()
            .chain(shared)
            .flatten()
        {
            configured.add(subnet);
        }
        configured
    }

    /// Adds a subnet.
    fn add(&mut self, subnet: &Value) {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let prefix = text(&subnet["subnet"]);
        let (first, length) = prefix.split_once('/').expect("a prefix");
        let first: Ipv4Addr = first.parse().expect("an address");
        let length: u32 = length.parse().expect("a length");
        let last = Ipv4Addr::from_bits(first.to_bits() | (u64::from(u32::MAX) >> length) as u32);
        let id = subnet["id"].as_u64().expect("a number") as u32;
        self.subnets.insert(id, (first, last));
        self.contexts.insert(id, subnet["user-context"].to_string());
        for pool in subnet["pools"].as_array().into_iter().flatten() {
            let pool = text(&pool["pool"]);
            let (first, last) = pool.split_once('-').expect("a range");
            let [first, last] = [first, last].map(|end| {
                let end: Ipv4Addr = end.trim().parse().expect("an address");
                end.to_bits()
            });
            self.addresses
                .extend((first..=last).map(Ipv4Addr::from_bits));
        }
        for reservation in subnet["reservations"].as_array().into_iter().flatten() {
            self.addresses
                .extend(text(&reservation["ip-address"]).parse::<Ipv4Addr>().ok());
        }
    }

    /// Whether the address belongs to the subnet, so that a lease makes it a configured address.
    pub fn has_lease(&self, address: Ipv4Addr, subnet: u32) -> bool {
        let range = self.subnets.get(&subnet);
        range.is_some_and(|(first, last)| (*first..=*last).contains(&address))
    }

    /// Returns the user context of the subnet that contains an address.
    pub fn context(&self, address: Ipv4Addr) -> Option<&String> {
        let mut subnets = self.subnets.iter();
        let (id, _) = subnets.find(|(_, (first, last))| (*first..=*last).contains(&address))?;
        self.contexts.get(id)
    }

    /// Whether an address is in any configured subnet.
    pub fn is_in_subnet(&self, address: Ipv4Addr) -> bool {
        let mut ranges = self.subnets.values();
        ranges.any(|(first, last)| (*first..=*last).contains(&address))
    }
}

/// An answer to a delta query, with the earlier answer it refers to.
#[derive(Debug)]
pub struct Delta {
    /// A description of the earlier answer, for reports.
    pub label: String,
    /// The earlier answer.
    pub earlier: Answer,
    /// The changes since its base-time.
    pub answer: Answer,
}

/// The addresses found by a client's or relay agent's identity.
#[derive(Debug)]
pub struct Found {
    /// The query.
    pub primary: Primary,
    /// The addresses in the order of the answer.
    pub addresses: Vec<Ipv4Addr>,
}

/// Kea's leases and the hook's answers while no client is active.
#[derive(Debug)]
pub struct Observation {
    /// Kea's leases before and after the queries.
    pub leases: [BTreeMap<Ipv4Addr, KeaLease>; 2],
    /// All configured addresses in all VPNs, at the beginning and at the end.
    pub answers: [Answer; 2],
    /// All configured addresses of the default VPN, queried without qualifiers.
    pub unqualified: Answer,
    /// The configured addresses.
    pub configured: ConfiguredAddresses,
    /// The changes since earlier answers.
    pub deltas: Vec<Delta>,
    /// The changes in one time window: its bounds and the answer.
    pub window: (u32, u32, Answer),
    /// The results by client and relay agent.
    pub found: Vec<Found>,
}

impl Observation {
    /// Queries everything; `since` are the earlier answers for delta queries.
    pub fn take(kea: &Kea, since: Vec<(String, Answer)>) -> Result<Observation, String> {
        let mut connection = kea.try_connect().map_err(|error| error.to_string())?;
        let mut all = |vpn, start, end| {
            Answer::ask(&mut connection, vpn, start, end).map_err(|failure| {
                format!("a query while no client was active failed: {failure:?}")
            })
        };
        let every = Some(Vss::All);
        let before = kea_leases(kea);
        let configuration = kea.command_ok("config-get", Value::Null);
        let first = all(every.clone(), None, None)?;
        let mut deltas = Vec::new();
        for (label, earlier) in since {
            let answer = all(every.clone(), Some(earlier.base), None)?;
            deltas.push(Delta {
                label,
                earlier,
                answer,
            });
        }
        let (start, end) = (first.base - 9, first.base - 2);
        let window = (start, end, all(every.clone(), Some(start), Some(end))?);
        let unqualified = all(None, None, None)?;
        let found = find(&mut connection, &before, &first)?;
        let mut all = |vpn| {
            Answer::ask(&mut connection, vpn, None, None).map_err(|failure| {
                format!("a query while no client was active failed: {failure:?}")
            })
        };
        let last = all(every)?;
        Ok(Observation {
            leases: [before, kea_leases(kea)],
            answers: [first, last],
            unqualified,
            configured: ConfiguredAddresses::read(&configuration),
            deltas,
            window,
            found,
        })
    }
}

/// Returns Kea's leases.
pub fn kea_leases(kea: &Kea) -> BTreeMap<Ipv4Addr, KeaLease> {
    let answer = kea.command("lease4-get-all", Value::Null);
    let leases = answer["arguments"]["leases"].as_array();
    let leases = leases.into_iter().flatten();
    leases
        .filter_map(|lease| {
            let number = |name: &str| lease[name].as_u64().unwrap_or(0);
            let kea_lease = KeaLease {
                state: number("state"),
                cltt: number("cltt") as u32,
                valid: number("valid-lft") as u32,
                identity: Identity {
                    mac: octets(&lease["hw-address"]),
                    client_id: octets(&lease["client-id"]),
                },
                subnet: number("subnet-id") as u32,
            };
            Some((lease["ip-address"].as_str()?.parse().ok()?, kea_lease))
        })
        .collect()
}

/// Reads octets written in hexadecimal with colons.
fn octets(text: &Value) -> Vec<u8> {
    let text = text.as_str().unwrap_or_default().split(':');
    text.filter_map(|octet| u8::from_str_radix(octet, 16).ok())
        .collect()
}

/// Queries the bindings of each client and relay agent that occurs in the leases or in the answer,
/// in all VPNs.
fn find(
    connection: &mut Connection,
    leases: &BTreeMap<Ipv4Addr, KeaLease>,
    answer: &Answer,
) -> Result<Vec<Found>, String> {
    let mut macs = BTreeSet::new();
    let mut client_ids = BTreeSet::new();
    let mut remote_ids = BTreeSet::new();
    let mut relay_ids = BTreeSet::new();
    let answered = answer.bindings.values().map(|binding| &binding.identity);
    for identity in leases.values().map(|lease| &lease.identity).chain(answered) {
        macs.insert(identity.mac.clone());
        client_ids.insert(identity.client_id.clone());
    }
    for binding in answer.bindings.values() {
        let all = blq::RelayAgentInformation::decode(&binding.option_82);
        remote_ids.extend(all.remote_id().map(<[u8]>::to_vec));
        relay_ids.extend(all.relay_id().map(<[u8]>::to_vec));
    }
    let macs = macs.into_iter().filter(|mac| !mac.is_empty());
    let client_ids = client_ids.into_iter().filter(|id| !id.is_empty());
    let all: Vec<Primary> = macs
        .map(|address| Primary::Mac { htype: 1, address })
        .chain(client_ids.map(Primary::ClientId))
        .chain(remote_ids.into_iter().map(Primary::RemoteId))
        .chain(relay_ids.into_iter().map(Primary::RelayId))
        .collect();
    let mut found = Vec::new();
    for some in all.chunks(QUERIES_AT_ONCE) {
        let mut asked = Vec::new();
        for primary in some {
            let mut query = Query::new(primary.clone());
            query.vpn = Some(Vss::All);
            connection.send(&query).map_err(|error| error.to_string())?;
            asked.push((query.xid, primary));
        }
        let mut answers = connection.collect_answers();
        for (xid, primary) in asked {
            let answer = answers.remove(&xid).ok_or("no answer")?;
            let done = answer.done.map_err(|error| error.to_string())?;
            if let Some(failure) = done.failure() {
                return Err(format!("{primary:?}: {failure}"));
            }
            let addresses = ask::addresses(&answer.bindings);
            found.push(Found {
                primary: primary.clone(),
                addresses,
            });
        }
    }
    Ok(found)
}

/// Queries all configured addresses on a new connection, whether or not the server is busy.
pub fn query_all(server: SocketAddrV4) -> Result<Answer, QueryFailure> {
    let mut connection = ask::connect_to(server)
        .map_err(|error| QueryFailure::Error(format!("no connection: {error}")))?;
    Answer::ask(&mut connection, Some(Vss::All), None, None)
}
