//! The leases everything is measured on: the same ones in Kea's lease file and in a mirror
//! without Kea.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::net::Ipv4Addr;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use blq::{Primary, Query};
use dhcp_blq::mirror::event::{Lease, LeaseState};
use dhcp_blq::model::address::HardwareAddress;
use dhcp_blq::model::binding::SubnetId;
use dhcp_blq::model::time::{Lifetime, Time};

/// The first address of the pool, which is all of subnet 1 that is configured.
const FIRST: u32 = u32::from_be_bytes([10, 0, 0, 0]);

/// The prefix of subnet 1.
pub const SUBNET: &str = "10.0.0.0/8";

/// Relays, each with as many leases.
pub const RELAYS: u32 = 10;

/// Leases last longer than any measurement, in seconds.
const LIFETIME: u32 = 10 * 86_400;

/// Clients that were heard of lately: what a delta query returns.
pub const CHANGED: u32 = 1_000;

/// When those were heard of: from so many seconds ago on, within [`CHANGED_WITHIN`].
const CHANGED_AGO: u32 = 5_000;

/// See [`CHANGED_AGO`]; in seconds.
const CHANGED_WITHIN: u32 = 60;

/// When all others were heard of, seconds ago: within as many seconds again.
const OTHERS_AGO: u32 = 10_000;

/// The columns of Kea's lease file.
const COLUMNS: &str = "address,hwaddr,client_id,valid_lifetime,expire,subnet_id,fqdn_fwd,\
    fqdn_rev,hostname,state,user_context,pool_id";

/// A number of leases, spread evenly over a pool.
#[derive(Clone, Copy, Debug)]
pub struct Leases {
    /// How many: a multiple of [`RELAYS`], [`CHANGED`] at least.
    pub count: u32,
    /// Addresses of the pool: `count` at least.
    pub pool: u32,
    /// When they were made, in seconds since 1970.
    pub now: u32,
}

/// Who has a lease.
struct Holder {
    /// The MAC address.
    mac: [u8; 6],
    /// The client identifier: 1, and the MAC address.
    client_id: [u8; 7],
    /// The relay-id, with nine others the same.
    relay_id: [u8; 8],
    /// The remote-id: the subscriber's line.
    remote_id: [u8; 28],
}

impl Holder {
    /// Option 82: 40 octets.
    fn relay_agent_information(&self) -> Vec<u8> {
        let mut value = vec![12, 8];
        value.extend(self.relay_id);
        value.extend([2, 28]);
        value.extend(self.remote_id);
        value
    }
}

impl Leases {
    /// Leases made now.
    pub fn new(count: u32, pool: u32) -> Leases {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        let seconds = since.map_or(0, |since| since.as_secs());
        Leases {
            count,
            pool: pool.max(count),
            now: u32::try_from(seconds).unwrap_or(u32::MAX),
        }
    }

    /// The pool as Kea is configured with it.
    pub fn pool_range(&self) -> String {
        let last = Ipv4Addr::from_bits(FIRST + self.pool - 1);
        format!("{} - {last}", Ipv4Addr::from_bits(FIRST))
    }

    /// Leases behind each relay.
    pub fn per_relay(&self) -> u32 {
        self.count / RELAYS
    }

    /// The address of lease `number`, below `count`.
    pub fn address(&self, number: u32) -> Ipv4Addr {
        let place = u64::from(number) * u64::from(self.pool) / u64::from(self.count);
        // Below `pool`, since `number` is below `count`.
        Ipv4Addr::from_bits(FIRST + place as u32)
    }

    /// Who has lease `number`.
    fn holder(&self, number: u32) -> Holder {
        let [a, b, c, d] = number.to_be_bytes();
        let mut remote_id = [b'0'; 28];
        let mut digits = number;
        for octet in remote_id.iter_mut().rev() {
            *octet = b'0' + (digits % 10) as u8;
            digits /= 10;
        }
        remote_id[..5].copy_from_slice(b"line ");
        Holder {
            mac: [2, 0, a, b, c, d],
            client_id: [1, 2, 0, a, b, c, d],
            relay_id: [0, 0, 0, 0, 0, 0, 0, (number / self.per_relay()) as u8],
            remote_id,
        }
    }

    /// When the client of lease `number` was last heard of.
    fn last_heard(&self, number: u32) -> u32 {
        let step = self.count / CHANGED;
        if number % step == 0 && number / step < CHANGED {
            self.now - CHANGED_AGO + number / step % CHANGED_WITHIN
        } else {
            self.now - OTHERS_AGO - number % OTHERS_AGO
        }
    }

    /// Lease `number` as the library is told of it.
    pub fn lease(&self, number: u32) -> Lease {
        let holder = self.holder(number);
        Lease {
            address: self.address(number),
            state: LeaseState::Default,
            cltt: Time(self.last_heard(number)),
            valid_lifetime: Lifetime(LIFETIME),
            subnet: SubnetId(1),
            hardware: HardwareAddress {
                htype: 1,
                octets: holder.mac.to_vec(),
            },
            client_id: holder.client_id.to_vec(),
            hostname: Vec::new(),
            relay_agent_information: Some(holder.relay_agent_information()),
        }
    }

    /// Writes all of them as Kea 3.0 does with `store-extended-info`.
    pub fn write(&self, file: &Path) -> io::Result<()> {
        let mut out = BufWriter::new(File::create(file)?);
        writeln!(out, "{COLUMNS}")?;
        for number in 0..self.count {
            let holder = self.holder(number);
            writeln!(
                out,
                "{},{},{},{LIFETIME},{},1,0,0,,0,{},0",
                self.address(number),
                octets(&holder.mac, ":"),
                octets(&holder.client_id, ":"),
                u64::from(self.last_heard(number)) + u64::from(LIFETIME),
                user_context(&holder),
            )?;
        }
        out.flush()
    }
}

/// Octets as hexadecimal digits.
fn octets(octets: &[u8], between: &str) -> String {
    let pairs: Vec<String> = octets.iter().map(|octet| format!("{octet:02X}")).collect();
    pairs.join(between)
}

/// What Kea stores of the relay agent information, as a field of the lease file.
fn user_context(holder: &Holder) -> String {
    let context = format!(
        r#"{{ "ISC": {{ "relay-agent-info": {{ "relay-id": "{}", "remote-id": "{}", "sub-options": "0x{}" }} }} }}"#,
        octets(&holder.relay_id, ""),
        octets(&holder.remote_id, ""),
        octets(&holder.relay_agent_information(), ""),
    );
    // Kea's way to have commas in a field.
    context.replace(',', "&#x2c")
}

// ----- Queries --------------------------------------------------------------------------------

/// How a query names one lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// By MAC address.
    Mac,
    /// By client identifier.
    ClientId,
    /// By remote-id.
    RemoteId,
}

impl By {
    /// All of them.
    pub const ALL: [By; 3] = [By::Mac, By::ClientId, By::RemoteId];

    /// What it is called.
    pub fn name(self) -> &'static str {
        match self {
            By::Mac => "MAC",
            By::ClientId => "client-id",
            By::RemoteId => "remote-id",
        }
    }
}

impl Leases {
    /// A query for one lease.
    pub fn one(&self, number: u32, by: By) -> Query {
        let holder = self.holder(number);
        Query::new(match by {
            By::Mac => Primary::Mac {
                htype: 1,
                address: holder.mac.to_vec(),
            },
            By::ClientId => Primary::ClientId(holder.client_id.to_vec()),
            By::RemoteId => Primary::RemoteId(holder.remote_id.to_vec()),
        })
    }

    /// A query for the leases behind relay `number`, below [`RELAYS`].
    pub fn relay(&self, number: u32) -> Query {
        let holder = self.holder(number * self.per_relay());
        Query::new(Primary::RelayId(holder.relay_id.to_vec()))
    }

    /// A query for all configured addresses.
    pub fn all(&self) -> Query {
        Query::new(Primary::All)
    }

    /// A query for the [`CHANGED`] leases whose clients were heard of lately.
    pub fn delta(&self) -> Query {
        Query {
            start: Some(self.now - CHANGED_AGO),
            end: Some(self.now - CHANGED_AGO + CHANGED_WITHIN),
            ..Query::new(Primary::All)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first lease, the last, and all between are in the pool, each at an address of its own.
    #[test]
    fn spreads_leases_over_the_pool() {
        for (count, pool) in [(10_000, 16_000_000), (10_000, 10_000), (30_000, 70_001)] {
            let leases = Leases::new(count, pool);
            let places: Vec<u32> = (0..count)
                .map(|number| leases.address(number).to_bits() - FIRST)
                .collect();
            assert!(places.is_sorted_by(|a, b| a < b));
            assert_eq!(places[0], 0);
            assert!(places[places.len() - 1] < pool);
        }
    }

    /// As many clients were heard of lately as a delta query is to return.
    #[test]
    fn has_as_many_changed_leases_as_it_says() {
        let leases = Leases::new(30_500, 30_500);
        let query = leases.delta();
        let window = query.start.unwrap()..=query.end.unwrap();
        let heard = (0..leases.count).filter(|n| window.contains(&leases.last_heard(*n)));
        assert_eq!(heard.count(), 1_000);
    }

    /// A row of the lease file, with the escape Kea uses in place of commas.
    #[test]
    fn writes_rows_with_as_many_fields_as_columns() {
        let file = tempfile::NamedTempFile::new().unwrap();
        Leases::new(1_000, 1_000).write(file.path()).unwrap();
        let text = std::fs::read_to_string(file.path()).unwrap();
        let fields: Vec<usize> = text.lines().map(|line| line.split(',').count()).collect();
        assert_eq!(fields, [12; 1_001]);
        assert!(text.contains(r#""sub-options": "0x0C08000000000000000"#));
    }
}
