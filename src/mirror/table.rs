//! The tables: every binding known, by address, and the indexes that find them.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::hash::Hash;
use std::net::Ipv4Addr;
use std::sync::Arc;

use hashbrown::HashMap;
use roaring::RoaringBitmap;

use super::address_set::AddressSet;
use super::ranges::{self, Configured, ConfiguredSubnet, TimedRange};
use super::unsaved::{Taken, Unsaved};
use super::walk::Entry;
use crate::binding::{Binding, ClientIds, HardwareAddress, State, SubnetId};
use crate::network::{Network, Serving};
use crate::time::Time;
use crate::vpn::Vpn;
use crate::wire::relay_agent_information::{self, sub_option};
use crate::wire::vss;

/// A binding with what Kea's configuration makes of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// The binding.
    pub binding: Binding,
    /// The VPN it belongs to: the one its relay agent named, else its subnet's.
    pub vpn: Vpn,
    /// Whether it is in a configured subnet and so among all configured addresses even outside
    /// of pools and reservations.
    pub in_subnet: bool,
}

impl Record {
    /// A binding with what `network` makes of it.
    fn new(binding: Binding, network: &Network) -> Record {
        let mut record = Record {
            vpn: Vpn::Default,
            in_subnet: false,
            binding,
        };
        record.configure(network);
        record
    }

    /// Takes a new configuration over.
    fn configure(&mut self, network: &Network) {
        let binding = &self.binding;
        let named = binding.client.as_deref().and_then(|client| {
            relay_agent_information::find(&client.relay_agent_information, sub_option::VSS)
                .and_then(vss::read_vpn)
        });
        let subnet = network.subnet(binding.subnet);
        self.in_subnet = subnet.is_some_and(|subnet| subnet.prefix.contains(&binding.address));
        self.vpn = named.unwrap_or_else(|| network.vpn(binding.subnet).clone());
    }
}

/// What finds a client's bindings: the identity in a primary query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identity {
    /// htype, hlen and chaddr.
    Mac(HardwareAddress),
    /// Client-identifier.
    ClientId(Vec<u8>),
    /// Remote ID.
    RemoteId(Vec<u8>),
    /// Relay-ID.
    RelayId(Vec<u8>),
}

/// Addresses by key.
type Index<Key> = HashMap<Key, AddressSet>;

/// Every binding known, and the configured ranges.
#[derive(Debug)]
pub struct Table {
    /// The configuration in force.
    network: Arc<Network>,
    /// The high-availability scopes this server serves, once it is known.
    serving: Option<Serving>,
    /// Configured addresses, ascending, without overlap.
    pub(super) ranges: Vec<TimedRange>,
    /// Those of before a restart, until the configuration is complete: host reservations in
    /// databases are read later than the rest. Saved until then.
    former: Vec<TimedRange>,
    /// Whether what is configured is not in the state file as it is here.
    configured_unsaved: bool,
    /// Bindings by address.
    pub(super) records: BTreeMap<u32, Record>,
    /// Active bindings by MAC address.
    by_mac: Index<HardwareAddress>,
    /// Active bindings by client identifier.
    by_client_id: Index<Vec<u8>>,
    /// Active bindings by remote-id.
    by_remote_id: Index<Vec<u8>>,
    /// Active bindings by relay-id.
    by_relay_id: Index<Vec<u8>>,
    /// Every time at which a binding changed, was last used, was noticed, or will end by
    /// itself.
    by_time: BTreeSet<(Time, u32)>,
    /// Addresses whose state, its start, or last client is not in the state file as it is here.
    unsaved: Unsaved,
}

impl Table {
    /// A table without bindings, since `now`; of the configured ranges these were `known`.
    pub fn new(network: Arc<Network>, known: Vec<TimedRange>, now: Time) -> Table {
        Table {
            ranges: ranges::timed(&network, &known, None, now),
            former: if network.has_host_database() {
                known
            } else {
                Vec::new()
            },
            network,
            serving: None,
            configured_unsaved: true,
            records: BTreeMap::new(),
            by_mac: Index::new(),
            by_client_id: Index::new(),
            by_remote_id: Index::new(),
            by_relay_id: Index::new(),
            by_time: BTreeSet::new(),
            unsaved: Unsaved::default(),
        }
    }

    /// The configuration in force.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// Takes a new configuration over, in force since `at`; `is_complete` says whether it has the
    /// host reservations that are in databases.
    pub fn configure(&mut self, network: Arc<Network>, is_complete: bool, at: Time) {
        if Arc::ptr_eq(&self.network, &network) {
            return;
        }
        let told: RoaringBitmap = self.configured_addresses().collect();
        self.network = network;
        self.configured_unsaved = true;
        if !self.former.is_empty() {
            self.ranges = ranges::and_former(&self.ranges, &self.former);
        }
        if is_complete {
            self.former.clear();
        }
        self.renew_ranges(at);
        let mut records = std::mem::take(&mut self.records);
        for record in records.values_mut() {
            record.configure(&self.network);
        }
        self.records = records;
        // Whoever asked before was not told of these bindings.
        let come_back: Vec<u32> = self
            .configured_addresses()
            .filter(|address| !told.contains(*address))
            .collect();
        for address in come_back {
            self.notice(address, at);
        }
    }

    /// Whoever asked before `at` was not told of a binding.
    pub fn notice(&mut self, address: u32, at: Time) {
        if let Some(record) = self.records.get(&address) {
            let mut binding = record.binding.clone();
            binding.noticed = Some(at);
            self.put(binding);
        }
    }

    /// The addresses with a binding that belong to the configured addresses.
    fn configured_addresses(&self) -> impl Iterator<Item = u32> {
        self.records
            .iter()
            .filter(|(_, record)| self.is_configured(record))
            .map(|(address, _)| *address)
    }

    /// This server serves these high-availability scopes since `at`.
    pub fn serve(&mut self, serving: Serving, at: Time) {
        self.serving = Some(serving);
        self.renew_ranges(at);
    }

    /// Brings the configured ranges up to date.
    fn renew_ranges(&mut self, at: Time) {
        let ranges = ranges::timed(&self.network, &self.ranges, self.serving.as_ref(), at);
        if ranges != self.ranges {
            self.ranges = ranges;
            self.configured_unsaved = true;
        }
    }

    /// The state of what a walk came by, and since when, as it is at `now`.
    ///
    /// An address that is free is so since it was given up, or since it was configured or came
    /// over from another server if that was later.
    pub fn state(&self, entry: Entry<'_>, now: Time) -> (State, Time) {
        let (range, freed) = match entry {
            Entry::Free(_, range) => (Some(range), Time::MIN),
            Entry::Bound(record) => match record.binding.at(now) {
                (State::Available, since) => {
                    (self.range_of(record.binding.address.to_bits()), since)
                }
                state => return state,
            },
        };
        match range {
            Some(range) if range.remote => (State::Remote, freed.max(range.since)),
            Some(range) => (State::Available, freed.max(range.since)),
            None => (State::Available, freed),
        }
    }

    /// Whether the address of a binding is a configured one even if it is free: in a pool, or
    /// reserved.
    pub fn is_given(&self, binding: &Binding) -> bool {
        self.range_of(binding.address.to_bits()).is_some()
    }

    /// The binding of an address, if one is known.
    pub fn binding(&self, address: Ipv4Addr) -> Option<&Binding> {
        self.records
            .get(&address.to_bits())
            .map(|record| &record.binding)
    }

    /// The binding of an address, if one is known and it is `client`'s; whose it is does not matter
    /// if that is `None`.
    pub fn held_by(&self, address: Ipv4Addr, client: Option<&ClientIds>) -> Option<&Binding> {
        self.binding(address).filter(|binding| {
            let both = client.zip(binding.client.as_deref());
            both.is_none_or(|(client, known)| known.is(client))
        })
    }

    /// Addresses with a binding from one of `subnets`, ascending.
    pub fn addresses_in(&self, subnets: &HashSet<SubnetId>) -> Vec<Ipv4Addr> {
        self.records
            .values()
            .filter(|record| subnets.contains(&record.binding.subnet))
            .map(|record| record.binding.address)
            .collect()
    }

    /// Puts a binding in place of what was known of its address.
    pub fn put(&mut self, binding: Binding) {
        let address = binding.address.to_bits();
        let record = Record::new(binding, &self.network);
        let before = self.take(address);
        if before.is_none_or(|before| must_be_saved(&before.binding, &record.binding)) {
            self.unsaved.add(address);
        }
        self.index(address, &record);
        self.records.insert(address, record);
    }

    /// Puts a binding that has changed in place of what was known of its address, at `now`.
    pub fn change(&mut self, mut binding: Binding, now: Time) {
        match self.binding(binding.address) {
            Some(before) if *before == binding => return,
            // Only time has passed, which everybody knows.
            Some(before) if is_told_alike(before, &binding, now) => {
                binding.noticed = before.noticed;
            }
            _ => {
                let told = binding.last_transaction.max(Some(binding.since));
                binding.noticed = Some(now).filter(|now| Some(*now) > told);
            }
        }
        self.put(binding);
    }

    /// Puts a binding that the state file holds just so.
    pub fn put_saved(&mut self, binding: Binding) {
        let address = binding.address.to_bits();
        self.put(binding);
        self.unsaved.remove(address);
    }

    /// Forgets an address.
    pub fn forget(&mut self, address: Ipv4Addr) {
        if self.take(address.to_bits()).is_some() {
            self.unsaved.add(address.to_bits());
        }
    }

    /// Has what is not saved so far wait until there are no later changes to be saved.
    pub fn defer_unsaved(&mut self) {
        self.unsaved.defer();
    }

    /// What is configured, as the state file keeps it.
    pub fn configured(&self) -> Configured {
        let subnets = self.network.subnets().map(|subnet| ConfiguredSubnet {
            id: subnet.id,
            first: subnet.prefix.network(),
            last: subnet.prefix.broadcast(),
        });
        let mut configured = Configured {
            ranges: ranges::and_former(&self.ranges, &self.former),
            subnets: subnets.collect(),
        };
        configured.subnets.sort_unstable_by_key(|subnet| subnet.id);
        configured
    }

    /// The same, if it must be written to the state file. It counts as written from then on.
    pub fn take_unsaved_configured(&mut self) -> Option<Configured> {
        std::mem::take(&mut self.configured_unsaved).then(|| self.configured())
    }

    /// Some of what must be written to the state file: see [`Unsaved::take`].
    pub fn take_unsaved(&mut self, limit: usize) -> Taken {
        self.unsaved.take(&self.records, limit)
    }

    /// Has what was taken written again.
    pub fn mark_unsaved(&mut self, taken: &Taken) {
        self.unsaved.put_back(taken);
    }

    /// Has what is configured written again.
    pub fn mark_configured_unsaved(&mut self) {
        self.configured_unsaved = true;
    }

    /// Has everything written again.
    pub fn mark_all_unsaved(&mut self) {
        self.unsaved.add_all();
        self.mark_configured_unsaved();
    }

    /// The addresses filed under an identity; `None` if there are none.
    pub(super) fn filed(&self, identity: &Identity) -> Option<&AddressSet> {
        match identity {
            Identity::Mac(hardware) => self.by_mac.get(hardware),
            Identity::ClientId(id) => self.by_client_id.get(id),
            Identity::RemoteId(id) => self.by_remote_id.get(id),
            Identity::RelayId(id) => self.by_relay_id.get(id),
        }
    }

    /// The addresses to which something happened from `start` to `end`, both included: no less
    /// than those whose binding changed then. `None` if they are so many that it is better to
    /// look at every one.
    pub(super) fn touched(&self, start: Time, end: Time) -> Option<RoaringBitmap> {
        if start > end {
            return Some(RoaringBitmap::new());
        }
        let many = self.records.len() / 4 + 1_000;
        let mut touched = RoaringBitmap::new();
        for (seen, (_, address)) in self.by_time.range((start, 0)..=(end, u32::MAX)).enumerate() {
            if seen > many {
                return None;
            }
            touched.insert(*address);
        }
        Some(touched)
    }

    /// Takes a record out of the table and all indexes.
    fn take(&mut self, address: u32) -> Option<Record> {
        let record = self.records.remove(&address)?;
        for time in times(&record.binding) {
            self.by_time.remove(&(time, address));
        }
        if let Some(keys) = Keys::of(&record.binding) {
            take_out(&mut self.by_mac, keys.mac, address);
            take_out(&mut self.by_client_id, keys.client_id, address);
            take_out(&mut self.by_remote_id, keys.remote_id, address);
            take_out(&mut self.by_relay_id, keys.relay_id, address);
        }
        Some(record)
    }

    /// Enters a record into all indexes.
    fn index(&mut self, address: u32, record: &Record) {
        for time in times(&record.binding) {
            self.by_time.insert((time, address));
        }
        if let Some(keys) = Keys::of(&record.binding) {
            put_in(&mut self.by_mac, keys.mac, address);
            put_in(&mut self.by_client_id, keys.client_id, address);
            put_in(&mut self.by_remote_id, keys.remote_id, address);
            put_in(&mut self.by_relay_id, keys.relay_id, address);
        }
    }
}

/// What an active binding is filed under.
struct Keys<'a> {
    /// Its MAC address.
    mac: Option<&'a HardwareAddress>,
    /// Its client identifier.
    client_id: Option<&'a [u8]>,
    /// The remote-id in its relay agent information.
    remote_id: Option<&'a [u8]>,
    /// The relay-id in its relay agent information.
    relay_id: Option<&'a [u8]>,
}

impl<'a> Keys<'a> {
    /// The keys of `binding`. One that is not active is found by its address and times alone,
    /// since queries about a client are answered with current bindings only (RFC 6926
    /// section 8.2).
    fn of(binding: &'a Binding) -> Option<Keys<'a>> {
        let client = binding.client.as_deref()?;
        if binding.state != State::Active {
            return None;
        }
        let relay = |code| relay_agent_information::find(&client.relay_agent_information, code);
        let filled = |id: &&[u8]| !id.is_empty();
        Some(Keys {
            mac: Some(&client.hardware).filter(|hardware| !hardware.octets.is_empty()),
            client_id: Some(client.client_id.as_slice()).filter(filled),
            remote_id: relay(sub_option::REMOTE_ID).filter(filled),
            relay_id: relay(sub_option::RELAY_ID).filter(filled),
        })
    }
}

/// The times under which a binding is filed.
fn times(binding: &Binding) -> impl Iterator<Item = Time> + use<> {
    [
        Some(binding.since),
        binding.last_transaction,
        binding.noticed,
        binding.reserved_until,
        binding.ends(),
    ]
    .into_iter()
    .flatten()
}

/// Whether replies at `now` say the same of both.
fn is_told_alike(before: &Binding, after: &Binding, now: Time) -> bool {
    let state = after.at(now);
    let end = |binding: &Binding| matches!(state.0, State::Active).then(|| binding.ends());
    before.at(now) == state
        && end(before) == end(after)
        && before.last_transaction == after.last_transaction
        && before.is_remote(now) == after.is_remote(now)
        && before.client == after.client
        && before.subnet == after.subnet
}

/// Whether the state file must be written for a change: not for a renewal.
fn must_be_saved(before: &Binding, after: &Binding) -> bool {
    before.state != after.state
        || before.since != after.since
        || before.client != after.client
        || before.remote != after.remote
        || before.reserved_until != after.reserved_until
        || (before.noticed != after.noticed && before.last_transaction == after.last_transaction)
        || before.subnet != after.subnet
}

/// Files an address under a key, if there is one.
fn put_in<Key, Borrowed>(index: &mut Index<Key>, key: Option<&Borrowed>, address: u32)
where
    Key: Hash + Eq + std::borrow::Borrow<Borrowed>,
    Borrowed: Hash + Eq + ToOwned<Owned = Key> + ?Sized,
{
    let Some(key) = key else { return };
    match index.get_mut(key) {
        Some(set) => set.insert(address),
        None => {
            index.insert(key.to_owned(), AddressSet::One(address));
        }
    }
}

/// Takes an address out from under a key, and the key with the last one.
fn take_out<Key, Borrowed>(index: &mut Index<Key>, key: Option<&Borrowed>, address: u32)
where
    Key: Hash + Eq + std::borrow::Borrow<Borrowed>,
    Borrowed: Hash + Eq + ?Sized,
{
    let Some(key) = key else { return };
    if index.get_mut(key).is_some_and(|set| set.remove(address)) {
        index.remove(key);
    }
}
