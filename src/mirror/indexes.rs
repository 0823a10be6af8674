//! The indexes of all bindings: by identity and by time.

use std::panic::resume_unwind;
use std::thread;

use proto::sub_option;

use crate::mirror::index::identity::{Found, IdentityIndex};
use crate::mirror::index::time::TimeIndex;
use crate::mirror::pages::Pages;
use crate::model::address::HardwareAddress;
use crate::model::binding::BindingRef;
use crate::model::client::ClientRef;
use crate::model::relay_agent_information;
use crate::model::state::State;

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

/// What finds bindings other than by their addresses.
#[derive(Debug, Default)]
pub struct Indexes {
    /// Active bindings by client and relay.
    pub identities: Identities,
    /// All bindings by the times at which they changed, were last used, were noticed, or will end by
    /// themselves.
    pub times: TimeIndex,
}

impl Indexes {
    /// What finds all these.
    pub fn of_all(bindings: &Pages) -> Indexes {
        let (identities, times) = both(
            || Identities::of_all(bindings),
            || TimeIndex::of_all(bindings),
        );
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
pub struct Identities {
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
    pub fn insert(&mut self, address: u32, bindings: &Pages) {
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
    pub fn remove(&mut self, address: u32, bindings: &Pages) {
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
    pub fn find<'a>(&'a self, identity: &Identity, bindings: &Pages) -> Found<'a> {
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
