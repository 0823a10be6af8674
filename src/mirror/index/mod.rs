//! The indexes of all bindings: by identity and by time.

pub mod identity;
pub mod time_set;

pub(in crate::mirror) mod time;

use std::fmt;
use std::panic::resume_unwind;
use std::thread;

use crate::mirror::group::GroupFilter;
use crate::mirror::index::identity::{IdentityIndex, Matches};
use crate::mirror::index::time::TimeIndex;
use crate::mirror::pages::Pages;
use crate::model::address::HardwareAddress;
use crate::model::binding::BindingRef;
use crate::model::client::ClientRef;
use crate::model::hex::Hex;
use crate::model::state::State;

/// The identity in a primary query: selects the bindings of a client or a relay agent.
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

impl Identity {
    /// Returns the filter of groups that selects all bindings of the identity.
    pub fn groups(&self) -> GroupFilter {
        match self {
            Identity::RemoteId(id) => GroupFilter::remote_id(id),
            Identity::RelayId(id) => GroupFilter::relay_id(id),
            Identity::Mac(_) | Identity::ClientId(_) => GroupFilter::ALL,
        }
    }
}

/// The identity, for the log.
impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Identity::Mac(mac) => write!(f, "mac {}/{}", mac.htype, Hex(&mac.octets)),
            Identity::ClientId(id) => write!(f, "client-id {}", Hex(id)),
            Identity::RemoteId(id) => write!(f, "remote-id {}", Hex(id)),
            Identity::RelayId(id) => write!(f, "relay-id {}", Hex(id)),
        }
    }
}

/// The indexes of all bindings.
#[derive(Debug, Default)]
pub struct Indexes {
    /// Active bindings by client and relay agent.
    pub identities: Identities,
    /// All bindings by their times, past and future.
    pub times: TimeIndex,
}

impl Indexes {
    /// Builds the indexes of all `bindings`.
    pub fn of_all(bindings: &Pages) -> Indexes {
        let (identities, times) = both(
            || Identities::of_all(bindings),
            || TimeIndex::of_all(bindings),
        );
        Indexes { identities, times }
    }
}

/// Runs both closures, the second one on another thread if possible.
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

/// The addresses of active bindings by each identity.
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
    /// Builds the indexes of all `bindings`.
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

    /// Updates the indexes after the binding of an address has changed from the client `before` to `after`; `None`
    /// stands for a binding that is not indexed by client.
    pub fn update(
        &mut self,
        address: u32,
        before: Option<ClientRef<'_>>,
        after: Option<ClientRef<'_>>,
        bindings: &Pages,
    ) {
        let indexes: [(&mut IdentityIndex, Key); 4] = [
            (&mut self.by_mac, mac),
            (&mut self.by_client_id, client_id),
            (&mut self.by_remote_id, remote_id),
            (&mut self.by_relay_id, relay_id),
        ];
        for (index, key) in indexes {
            let key_of = |other| client_of(other, bindings).map(key);
            let [old, new] = [before, after].map(|client| client.map(key).unwrap_or_default());
            if old == new {
                continue;
            }
            if !old.is_empty() {
                index.remove(old, address, key_of);
            }
            if !new.is_empty() {
                index.insert(new, address, key_of);
            }
        }
    }

    /// Finds the addresses of an identity.
    pub fn find<'a>(&'a self, identity: &Identity, bindings: &Pages) -> Matches<'a> {
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
}

/// The key of an index for a client's bindings; a client with an empty key is not in the index.
type Key = for<'a> fn(ClientRef<'a>) -> &'a [u8];

/// The MAC address of a client: htype and chaddr.
fn mac(client: ClientRef<'_>) -> &[u8] {
    client.mac()
}

/// The client identifier.
fn client_id(client: ClientRef<'_>) -> &[u8] {
    client.client_id()
}

/// The remote-id in the relay agent information of a client.
fn remote_id(client: ClientRef<'_>) -> &[u8] {
    client.remote_id()
}

/// The relay-id in the relay agent information of a client.
fn relay_id(client: ClientRef<'_>) -> &[u8] {
    client.relay_id()
}

/// Returns the client by which the binding of an address is indexed.
fn client_of(address: u32, bindings: &Pages) -> Option<ClientRef<'_>> {
    indexed_client(bindings.get(address)?)
}

/// Returns the client by which a binding is indexed; `None` for a binding that is not active: queries by identity
/// return only current bindings (RFC 6926 section 8.2).
pub fn indexed_client(binding: BindingRef<'_>) -> Option<ClientRef<'_>> {
    binding.client.filter(|_| binding.state == State::Active)
}
