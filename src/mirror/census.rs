//! The census: counts of all bindings, by what requesters see of them.
//!
//! A census takes a snapshot of some pages under the lock of the tables, and counts their bindings without it.
//! It is therefore the state of no single moment.

use std::collections::BTreeMap;
use std::sync::Arc;

use proto::sub_option;

use crate::mirror::index::indexed_client;
use crate::mirror::page::{Page, page_of};
use crate::mirror::readiness::Unready;
use crate::mirror::shared::Mirror;
use crate::mirror::view::View;
use crate::model::binding::BindingRef;
use crate::model::client::ClientRef;
use crate::model::relay_agent_information;
use crate::model::state::State;
use crate::model::time::Time;
use crate::model::vpn::Vpn;

/// The number of pages in a snapshot: as many as in a part of a scan.
const PAGES: usize = 64;

/// The maximum number of VPNs that are counted one by one: relay agents may name any.
const MOST_VPNS: usize = 1_000;

/// The octets of a binding besides its client, in the tables. An estimate.
const BINDING: u64 = 44;

/// The octets of an entry of an index, with the free room of the index. An estimate.
const ENTRY: u64 = 8;

/// Counts of all bindings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// The time at which it began.
    pub at: Time,
    /// All bindings.
    pub bindings: u64,
    /// Bindings by state.
    states: [u64; 9],
    /// Bindings by VPN; at most [`MOST_VPNS`].
    pub vpns: BTreeMap<Vpn, VpnCount>,
    /// Bindings in further VPNs.
    pub other_vpns: VpnCount,
    /// Bindings whose VPN is unknown: no requester sees them.
    pub unknown_vpn: VpnCount,
    /// Addresses of pools and reservations without a binding.
    pub free: u64,
    /// Entries of the indexes.
    pub indexes: IndexEntries,
    /// Octets of all clients.
    client_octets: u64,
    /// The active bindings by their relay agent information.
    pub coverage: Coverage,
}

/// Bindings of a VPN.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VpnCount {
    /// All bindings.
    pub bindings: u64,
    /// Active ones.
    pub active: u64,
}

/// The numbers of entries of the indexes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IndexEntries {
    /// By MAC address.
    pub mac: u64,
    /// By client identifier.
    pub client_id: u64,
    /// By remote-id.
    pub remote_id: u64,
    /// By relay-id.
    pub relay_id: u64,
    /// By time.
    pub time: u64,
}

/// The active bindings by their relay agent information.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Coverage {
    /// All active bindings.
    pub active: u64,
    /// Bindings with relay agent information.
    pub with_information: u64,
    /// Bindings with a remote-id.
    pub with_remote_id: u64,
    /// Bindings with a relay-id.
    pub with_relay_id: u64,
    /// Bindings whose client's last message came without the option.
    pub message_without_option: u64,
    /// Bindings loaded from Kea's lease database, where none is stored with the lease, and renewed by no
    /// message since.
    pub no_message: u64,
}

impl Census {
    /// Returns the number of bindings in a state.
    pub fn in_state(&self, state: State) -> u64 {
        let count = self.states.get(usize::from(state as u8));
        count.copied().unwrap_or_default()
    }

    /// Returns an estimate of the octets of all bindings and clients.
    pub fn binding_octets(&self) -> u64 {
        self.bindings * BINDING + self.client_octets
    }

    /// Returns an estimate of the octets of all indexes.
    pub fn index_octets(&self) -> u64 {
        let IndexEntries {
            mac,
            client_id,
            remote_id,
            relay_id,
            time,
        } = self.indexes;
        (mac + client_id + remote_id + relay_id + time) * ENTRY
    }

    /// Counts a binding at `now`.
    fn add(&mut self, view: &View, binding: BindingRef<'_>, now: Time) {
        self.bindings += 1;
        let (state, _) = view.state(&binding, now);
        let is_active = state == State::Active;
        if let Some(count) = self.states.get_mut(usize::from(state as u8)) {
            *count += 1;
        }
        let vpn = view.vpn_of(&binding, state);
        let count = match vpn.as_deref() {
            None => &mut self.unknown_vpn,
            Some(vpn) if self.vpns.contains_key(vpn) || self.vpns.len() < MOST_VPNS => {
                self.vpns.entry(vpn.clone()).or_default()
            }
            Some(_) => &mut self.other_vpns,
        };
        count.bindings += 1;
        count.active += u64::from(is_active);
        let mut times = [
            Some(binding.since),
            Some(binding.lease_start),
            binding.last_transaction,
            binding.learned_at,
            binding.reserved_until,
        ];
        times.sort_unstable();
        let distinct = times.chunk_by(|one, other| one == other);
        self.indexes.time += distinct.filter(|equal| equal[0].is_some()).count() as u64;
        self.client_octets += binding
            .client
            .map_or(0, |client| client.octets().len() as u64);
        if let Some(client) = indexed_client(binding) {
            self.indexes.mac += u64::from(!client.mac().is_empty());
            self.indexes.client_id += u64::from(!client.client_id().is_empty());
            self.indexes.remote_id += u64::from(has(client, sub_option::REMOTE_ID));
            self.indexes.relay_id += u64::from(has(client, sub_option::RELAY_ID));
        }
        if is_active {
            self.coverage.add(binding.client);
        }
        if view.range_of(binding.address.to_bits()).is_some() {
            self.free = self.free.saturating_sub(1);
        }
    }
}

impl Coverage {
    /// Counts an active binding.
    fn add(&mut self, client: Option<ClientRef<'_>>) {
        self.active += 1;
        let Some(client) = client else {
            self.no_message += 1;
            return;
        };
        if !client.relay_agent_information().is_empty() {
            self.with_information += 1;
            self.with_remote_id += u64::from(has(client, sub_option::REMOTE_ID));
            self.with_relay_id += u64::from(has(client, sub_option::RELAY_ID));
        } else if is_of_message(client) {
            self.message_without_option += 1;
        } else {
            self.no_message += 1;
        }
    }
}

/// Whether the client's information comes from one of its messages: Kea puts each message in a class.
pub fn is_of_message(client: ClientRef<'_>) -> bool {
    client.classes().next().is_some() || client.options().next().is_some()
}

/// Whether the relay agent information of a client has a sub-option.
fn has(client: ClientRef<'_>, code: u8) -> bool {
    let information = client.relay_agent_information();
    relay_agent_information::find(information, code).is_some_and(|value| !value.is_empty())
}

impl Mirror {
    /// Counts all bindings, unless `is_stopped` meanwhile.
    ///
    /// # Errors
    /// The tables are not complete.
    pub fn census(
        &self,
        clock: impl Fn() -> Time,
        is_stopped: impl Fn() -> bool,
    ) -> Result<Option<Census>, Unready> {
        let mut census = Census {
            at: clock(),
            ..Census::default()
        };
        let ranges = self.read(|table| Arc::clone(table.view()))?;
        census.free = ranges.ranges.iter().fold(0, |count, range| {
            count + u64::from(range.last.to_bits() - range.first.to_bits()) + 1
        });
        let mut next = Some(0);
        while let Some(number) = next {
            if is_stopped() {
                return Ok(None);
            }
            let (view, pages) = self.read(|table| {
                let pages = table.pages_from(number).take(PAGES);
                let pages = pages.map(|(number, page)| (number, page.clone()));
                let pages: Vec<(u32, Page)> = pages.collect();
                (Arc::clone(table.view()), pages)
            })?;
            let now = clock();
            for (number, page) in &pages {
                for found in page.bindings(*number, *page.present(), 0) {
                    census.add(&view, found.binding(), now);
                }
            }
            let last = pages.last().filter(|_| pages.len() == PAGES);
            next =
                last.and_then(|(last, _)| Some(last + 1).filter(|next| *next <= page_of(u32::MAX)));
        }
        Ok(Some(census))
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::kea_config::KeaConfig;
    use crate::mirror::event::Lease;
    use crate::mirror::{InitialLoad, Saved};
    use crate::model::time::Lifetime;

    const NOW: Time = Time(10_000);

    /// Returns a mirror with a lease of each address, all of one lifetime.
    fn mirror(config: &str, addresses: impl IntoIterator<Item = Ipv4Addr>) -> Mirror {
        let kea_config = KeaConfig::new(config, Vec::new(), &[]).unwrap();
        let mut load = InitialLoad::begin(kea_config.into(), Saved::default(), NOW);
        for address in addresses {
            load.lease(&Lease {
                valid_lifetime: Lifetime(3_600),
                ..Lease::example(address, NOW)
            });
        }
        load.finish()
    }

    /// A pool in the default VPN, and one in another.
    const CONFIG: &str = r#"{ "Dhcp4": { "subnet4": [
        { "id": 1, "subnet": "10.0.0.0/8", "pools": [ { "pool": "10.0.0.0-10.1.255.255" } ] },
        { "id": 2, "subnet": "192.0.2.0/24", "pools": [ { "pool": "192.0.2.0-192.0.2.9" } ],
          "user-context": { "vpn": { "name": "blue" } } } ] } }"#;

    #[test]
    fn counts_bindings_on_any_number_of_pages_by_state_and_vpn() {
        for pages in [0, 1, 63, 64, 65, 128, 200] {
            let first = Ipv4Addr::new(10, 0, 0, 0).to_bits();
            let in_default = (0..pages).map(|page| Ipv4Addr::from_bits(first + page * 256));
            let blue = [Ipv4Addr::new(192, 0, 2, 1)];
            let mirror = mirror(CONFIG, in_default.chain(blue));
            let count = |now: Time| mirror.census(|| now, || false).unwrap().unwrap();
            let census = count(NOW);
            let pages = u64::from(pages);
            assert_eq!(census.bindings, pages + 1);
            assert_eq!(census.in_state(State::Active), pages + 1);
            assert_eq!(census.free, 0x2_0000 + 10 - pages - 1);
            let blue = &census.vpns[&Vpn::Name("blue".into())];
            assert_eq!((blue.bindings, blue.active), (1, 1));
            let default = census.vpns.get(&Vpn::Default).copied().unwrap_or_default();
            assert_eq!((default.bindings, default.active), (pages, pages));
            assert_eq!(census.coverage.active, pages + 1);
            let later = count(Time(u32::MAX - 1));
            assert_eq!(later.in_state(State::Active), 0);
            assert_eq!(later.in_state(State::Expired), pages + 1);
        }
    }

    #[test]
    fn a_binding_outside_of_all_subnets_has_no_known_vpn() {
        let mirror = mirror(CONFIG, [Ipv4Addr::new(203, 0, 113, 1)]);
        let census = mirror.census(|| NOW, || false).unwrap().unwrap();
        assert_eq!(census.unknown_vpn.bindings, 1);
        assert!(census.vpns.is_empty());
    }

    #[test]
    fn stops_and_fails_as_asked() {
        let mirror = mirror(CONFIG, []);
        assert_eq!(mirror.census(|| NOW, || true), Ok(None));
        mirror.panic_in_a_change();
        assert!(mirror.census(|| NOW, || false).is_err());
    }
}
