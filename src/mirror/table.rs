//! The tables: every binding known, by address, and the indexes that find them.

use std::collections::HashSet;
use std::net::Ipv4Addr;
use std::ops::RangeInclusive;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::thread;

use roaring::RoaringBitmap;

use super::configuration::Configuration;
use super::identity_index::{Found, IdentityIndex};
use super::page::{Page, Pages};
use super::ranges::{self, Configured, ConfiguredSubnet, TimedRange};
use super::times::{Reached, Times};
use super::unsaved::{Taken, Unsaved};
use crate::binding::{Binding, BindingRef, HardwareAddress, State, SubnetId};
use crate::client::{ClientIds, ClientRef};
use crate::network::{Network, Serving};
use crate::time::Time;
use crate::wire::relay_agent_information::{self, sub_option};

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

/// Every binding known, and the configured ranges.
#[derive(Debug)]
pub struct Table {
    /// What is configured.
    configuration: Arc<Configuration>,
    /// The high-availability scopes this server serves, once it is known.
    serving: Option<Serving>,
    /// Configured ranges of before a restart, until the configuration is complete: host reservations
    /// in databases are read later than the rest. Saved until then.
    former: Vec<TimedRange>,
    /// Whether what is configured is not in the state file as it is here.
    configured_unsaved: bool,
    /// Bindings by address.
    bindings: Pages,
    /// What finds them otherwise; `None` while many are put at once.
    indexes: Option<Indexes>,
    /// Addresses whose state, its start, or last client is not in the state file as it is here.
    unsaved: Unsaved,
}

impl Table {
    /// A table without bindings, since `now`; of the configured ranges these were `known`.
    pub fn new(network: Arc<Network>, known: Vec<TimedRange>, now: Time) -> Table {
        let ranges = ranges::timed(&network, &known, None, now);
        Table {
            former: if network.has_host_database() {
                known
            } else {
                Vec::new()
            },
            configuration: Arc::new(Configuration { network, ranges }),
            serving: None,
            configured_unsaved: true,
            bindings: Pages::default(),
            indexes: Some(Indexes::default()),
            unsaved: Unsaved::default(),
        }
    }

    /// What is configured.
    pub fn configuration(&self) -> &Arc<Configuration> {
        &self.configuration
    }

    /// The configuration in force.
    pub fn network(&self) -> &Network {
        &self.configuration.network
    }

    /// Takes a new configuration over, in force since `at`; `is_complete` says whether it has the
    /// host reservations that are in databases.
    pub fn configure(&mut self, network: Arc<Network>, is_complete: bool, at: Time) {
        if Arc::ptr_eq(&self.configuration.network, &network) {
            return;
        }
        let told: RoaringBitmap = self.configured_addresses().collect();
        let mut ranges = self.configuration.ranges.clone();
        if !self.former.is_empty() {
            ranges = ranges::and_former(&ranges, &self.former);
        }
        if is_complete {
            self.former.clear();
        }
        self.configuration = Arc::new(Configuration { network, ranges });
        self.configured_unsaved = true;
        self.renew_ranges(at);
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
        if let Some(mut binding) = self.bindings.get(address).map(|found| found.to_owned()) {
            binding.noticed = Some(at);
            self.put(&binding);
        }
    }

    /// The addresses with a binding that belong to the configured addresses.
    fn configured_addresses(&self) -> impl Iterator<Item = u32> {
        self.bindings
            .iter()
            .filter(|binding| self.configuration.has(*binding))
            .map(|binding| binding.address.to_bits())
    }

    /// Whether an address with a binding belongs to the configured addresses.
    pub fn is_configured(&self, address: Ipv4Addr) -> bool {
        let binding = self.bindings.get(address.to_bits());
        binding.is_some_and(|binding| self.configuration.has(binding))
    }

    /// This server serves these high-availability scopes since `at`.
    pub fn serve(&mut self, serving: Serving, at: Time) {
        self.serving = Some(serving);
        self.renew_ranges(at);
    }

    /// Brings the configured ranges up to date.
    fn renew_ranges(&mut self, at: Time) {
        let Configuration { network, ranges } = &*self.configuration;
        let renewed = ranges::timed(network, ranges, self.serving.as_ref(), at);
        if renewed != *ranges {
            self.configuration = Arc::new(Configuration {
                network: Arc::clone(network),
                ranges: renewed,
            });
            self.configured_unsaved = true;
        }
    }

    /// Takes these ranges as the configured ones.
    #[cfg(test)]
    pub(super) fn set_ranges(&mut self, ranges: Vec<TimedRange>) {
        Arc::make_mut(&mut self.configuration).ranges = ranges;
    }

    /// How many bindings there are.
    pub fn count(&self) -> usize {
        self.bindings.count()
    }

    /// The binding of an address, if one is known.
    pub fn binding(&self, address: Ipv4Addr) -> Option<Binding> {
        let binding = self.binding_to_change(address)?;
        Some(binding.to_owned())
    }

    /// The same where it is kept: it is about to be changed.
    pub fn binding_to_change(&self, address: Ipv4Addr) -> Option<BindingRef<'_>> {
        self.bindings.get_to_change(address.to_bits())
    }

    /// The binding of an address, if one is known and it is `client`'s; whose it is does not matter
    /// if that is `None`.
    pub fn held_by(&self, address: Ipv4Addr, client: Option<&ClientIds>) -> Option<Binding> {
        self.binding(address).filter(|binding| {
            let both = client.zip(binding.client.as_ref());
            both.is_none_or(|(client, known)| known.view().is(client))
        })
    }

    /// The bindings of these addresses, ascending.
    pub fn bindings(&self, addresses: RangeInclusive<u32>) -> impl Iterator<Item = BindingRef<'_>> {
        self.bindings.range(addresses)
    }

    /// Addresses with a binding from one of `subnets`, ascending.
    pub fn addresses_in(&self, subnets: &HashSet<SubnetId>) -> Vec<Ipv4Addr> {
        self.bindings
            .iter()
            .filter(|binding| subnets.contains(&binding.subnet))
            .map(|binding| binding.address)
            .collect()
    }

    /// Puts a binding in place of what was known of its address.
    pub fn put(&mut self, binding: &Binding) {
        let address = binding.address.to_bits();
        let after = binding.view();
        let before = self.bindings.get(address);
        if before.is_none_or(|before| must_be_saved(before, after)) {
            self.unsaved.add(address);
        }
        let Some(indexes) = &mut self.indexes else {
            self.bindings.put(after);
            return;
        };
        indexes.times.change(before, Some(after));
        // A renewal, which most changes are, is filed as before.
        let is_filed_alike = before.is_some_and(|before| {
            (before.state == State::Active) == (after.state == State::Active)
                && before.client == after.client
        });
        if is_filed_alike {
            self.bindings.put(after);
        } else {
            indexes.identities.remove(address, &self.bindings);
            self.bindings.put(after);
            indexes.identities.insert(address, &self.bindings);
        }
    }

    /// Lets bindings that are put from now on be found by their addresses only, until
    /// [`Table::build_indexes`]: all at once it takes less time.
    pub fn drop_indexes(&mut self) {
        self.indexes = None;
    }

    /// Enters all bindings into indexes, if they are in none.
    pub fn build_indexes(&mut self) {
        let bindings = &self.bindings;
        self.indexes
            .get_or_insert_with(|| Indexes::of_all(bindings));
    }

    /// Puts a binding that has changed in place of what was known of its address, at `now`.
    pub fn change(&mut self, mut binding: Binding, now: Time) {
        match self.bindings.get(binding.address.to_bits()) {
            Some(before) if before == binding.view() => return,
            // Only time has passed, which everybody knows.
            Some(before) if is_told_alike(before, binding.view(), now) => {
                binding.noticed = before.noticed;
            }
            _ => {
                let told = binding.last_transaction.max(Some(binding.since));
                binding.noticed = Some(now).filter(|now| Some(*now) > told);
            }
        }
        self.put(&binding);
    }

    /// Takes over bindings that the state file holds just so; there are none yet, and no indexes.
    pub(super) fn set_saved(&mut self, bindings: Pages) {
        self.bindings = bindings;
    }

    /// Forgets an address.
    pub fn forget(&mut self, address: Ipv4Addr) {
        let address = address.to_bits();
        let Some(before) = self.bindings.get(address) else {
            return;
        };
        if let Some(indexes) = &mut self.indexes {
            indexes.times.change(Some(before), None);
            indexes.identities.remove(address, &self.bindings);
        }
        self.bindings.remove(address);
        self.unsaved.add(address);
    }

    /// Has what is not saved so far wait until there are no later changes to be saved.
    pub fn defer_unsaved(&mut self) {
        self.unsaved.defer();
    }

    /// What is configured, as the state file keeps it.
    pub fn configured(&self) -> Configured {
        let subnets = self.network().subnets().map(|subnet| ConfiguredSubnet {
            id: subnet.id,
            first: subnet.prefix.network(),
            last: subnet.prefix.broadcast(),
        });
        let mut configured = Configured {
            ranges: ranges::and_former(&self.configuration.ranges, &self.former),
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
        self.unsaved.take(&self.bindings, limit)
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

    /// The addresses of an identity's active bindings.
    pub fn find(&self, identity: &Identity) -> Option<Found<'_>> {
        let indexes = self.indexes.as_ref()?;
        Some(indexes.identities.find(identity, &self.bindings))
    }

    /// What something happened to in a window: see [`Times::touched`].
    pub(super) fn touched(
        &self,
        reached: Reached,
        window: (Time, Time),
        until: Time,
    ) -> impl Iterator<Item = Reached> {
        let indexes = self.indexes.iter();
        indexes.flat_map(move |indexes| indexes.times.touched(reached, window, until))
    }

    /// A page of bindings.
    pub(super) fn page(&self, number: u32) -> Option<&Page> {
        self.bindings.page(number)
    }

    /// The pages of bindings from one on, ascending.
    pub(super) fn pages_from(&self, number: u32) -> impl Iterator<Item = (u32, &Page)> {
        self.bindings.pages_from(number)
    }
}

/// What finds bindings other than by their addresses.
#[derive(Debug, Default)]
struct Indexes {
    /// Active bindings by client and relay.
    identities: Identities,
    /// All bindings by the times at which they changed, were last used, were noticed, or will end by
    /// themselves.
    times: Times,
}

impl Indexes {
    /// What finds all these.
    fn of_all(bindings: &Pages) -> Indexes {
        let (identities, times) = both(|| Identities::of_all(bindings), || Times::of_all(bindings));
        Indexes { identities, times }
    }
}

/// Does both at once, if there can be another thread.
fn both<A, B: Send>(here: impl FnOnce() -> A, there: impl Fn() -> B + Sync) -> (A, B) {
    thread::scope(|scope| {
        let name = "blq-loading".to_owned();
        let other = thread::Builder::new()
            .name(name)
            .spawn_scoped(scope, &there);
        let first = here();
        let second = match other {
            Ok(other) => other.join().unwrap_or_else(|panic| resume_unwind(panic)),
            Err(_) => there(),
        };
        (first, second)
    })
}

/// Addresses of active bindings by what they can be asked for.
#[derive(Debug, Default)]
struct Identities {
    /// By MAC address.
    by_mac: IdentityIndex,
    /// By client identifier.
    by_client_id: IdentityIndex,
    /// By remote-id.
    by_remote_id: IdentityIndex,
    /// By relay-id.
    by_relay_id: IdentityIndex,
}

impl Identities {
    /// All these, filed.
    fn of_all(bindings: &Pages) -> Identities {
        let index = |key: Key| {
            let key_of = |address| {
                let key = key(client_of(address, bindings)?);
                (!key.is_empty()).then_some(key)
            };
            let addresses = bindings.iter().map(|binding| binding.address.to_bits());
            IdentityIndex::of_all(addresses, key_of)
        };
        let (by_client, by_relay) = both(
            || (index(mac), index(client_id)),
            || (index(remote_id), index(relay_id)),
        );
        Identities {
            by_mac: by_client.0,
            by_client_id: by_client.1,
            by_remote_id: by_relay.0,
            by_relay_id: by_relay.1,
        }
    }

    /// Files the binding of an address.
    fn insert(&mut self, address: u32, bindings: &Pages) {
        let Some(client) = client_of(address, bindings) else {
            return;
        };
        for (index, key) in self.indexes() {
            let identity = key(client);
            if !identity.is_empty() {
                index.insert(identity, address, |other| {
                    client_of(other, bindings).map(key)
                });
            }
        }
    }

    /// Takes out the binding of an address, which is still the one that was filed.
    fn remove(&mut self, address: u32, bindings: &Pages) {
        let Some(client) = client_of(address, bindings) else {
            return;
        };
        for (index, key) in self.indexes() {
            let identity = key(client);
            if !identity.is_empty() {
                index.remove(identity, address, |other| {
                    client_of(other, bindings).map(key)
                });
            }
        }
    }

    /// The addresses filed under an identity.
    fn find<'a>(&'a self, identity: &Identity, bindings: &Pages) -> Found<'a> {
        let find = |index: &'a IdentityIndex, identity: &[u8], key: Key| {
            index.find(identity, |other| client_of(other, bindings).map(key))
        };
        match identity {
            Identity::Mac(hardware) => {
                let identity = [&[hardware.htype], &hardware.octets[..]].concat();
                find(&self.by_mac, &identity, mac)
            }
            Identity::ClientId(id) => find(&self.by_client_id, id, client_id),
            Identity::RemoteId(id) => find(&self.by_remote_id, id, remote_id),
            Identity::RelayId(id) => find(&self.by_relay_id, id, relay_id),
        }
    }

    /// Each index with what it files bindings under.
    fn indexes(&mut self) -> [(&mut IdentityIndex, Key); 4] {
        [
            (&mut self.by_mac, mac),
            (&mut self.by_client_id, client_id),
            (&mut self.by_remote_id, remote_id),
            (&mut self.by_relay_id, relay_id),
        ]
    }
}

/// What an index files a client's bindings under; nothing if it is empty.
type Key = for<'a> fn(ClientRef<'a>) -> &'a [u8];

/// A client's MAC address: htype and chaddr.
fn mac(client: ClientRef<'_>) -> &[u8] {
    client.mac()
}

/// A client's identifier.
fn client_id(client: ClientRef<'_>) -> &[u8] {
    client.client_id()
}

/// The remote-id in a client's relay agent information.
fn remote_id(client: ClientRef<'_>) -> &[u8] {
    let information = client.relay_agent_information();
    relay_agent_information::find(information, sub_option::REMOTE_ID).unwrap_or_default()
}

/// The relay-id in a client's relay agent information.
fn relay_id(client: ClientRef<'_>) -> &[u8] {
    let information = client.relay_agent_information();
    relay_agent_information::find(information, sub_option::RELAY_ID).unwrap_or_default()
}

/// The client by which the binding of an address is found. One that is not active is found by its
/// address and times alone, since queries about a client are answered with current bindings only
/// (RFC 6926 section 8.2).
fn client_of(address: u32, bindings: &Pages) -> Option<ClientRef<'_>> {
    filed(bindings.get(address)?)
}

/// The same of a binding.
fn filed(binding: BindingRef<'_>) -> Option<ClientRef<'_>> {
    binding.client.filter(|_| binding.state == State::Active)
}

/// Whether replies at `now` say the same of both.
fn is_told_alike(before: BindingRef<'_>, after: BindingRef<'_>, now: Time) -> bool {
    let state = after.at(now);
    let end = |binding: BindingRef<'_>| matches!(state.0, State::Active).then(|| binding.ends());
    before.at(now) == state
        && end(before) == end(after)
        && before.last_transaction == after.last_transaction
        && before.is_remote(now) == after.is_remote(now)
        && before.client == after.client
        && before.subnet == after.subnet
}

/// Whether the state file must be written for a change: not for a renewal.
fn must_be_saved(before: BindingRef<'_>, after: BindingRef<'_>) -> bool {
    before.state != after.state
        || before.since != after.since
        || before.client != after.client
        || before.remote != after.remote
        || before.reserved_until != after.reserved_until
        || (before.noticed != after.noticed && before.last_transaction == after.last_transaction)
        || before.subnet != after.subnet
}
