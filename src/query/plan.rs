//! The plan of a query: the index that drives it.
//!
//! Each index finds all bindings that a query returns, and others, which the [filter] leaves out. The
//! plan is the one that finds the fewest.
//!
//! [filter]: crate::query::filter

use crate::mirror::ranges::TimedRange;
use crate::mirror::{Cursor, Table};
use crate::model::time::{Time, Window};
use crate::query::request::Query;

/// The most entries of the time index that are counted: the table is locked meanwhile. To visit more is
/// seldom the better plan.
const MOST_COUNTED: u64 = 1 << 20;

/// To look at so many entries of the time index costs as much as to visit one of an identity's bindings.
const ENTRIES_PER_BINDING: u64 = 2;

/// To visit one of all bindings in the order of addresses costs so much less than one here and there.
const BINDINGS_PER_ENTRY: u64 = 4;

/// Fewer changes than this are visited by the time index, however few bindings there are.
const FEW_CHANGES: u64 = 1_000;

/// The index that drives a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plan {
    /// All configured addresses, one after the other.
    Address,
    /// The addresses of the identity that is asked for.
    Identity,
    /// The bindings that changed in the window.
    Time,
}

impl Plan {
    /// Chooses the plan for a query that begins `now`.
    pub fn choose(table: &Table, query: &Query, now: Time) -> Plan {
        let window = query.window();
        let (fallback, limit) = match &query.identity {
            Some(identity) => {
                let bindings = table.find(identity).map_or(0, |found| found.len());
                (Plan::Identity, bindings * ENTRIES_PER_BINDING)
            }
            None => {
                let bindings = table.count() as u64;
                (Plan::Address, bindings / BINDINGS_PER_ENTRY + FEW_CHANGES)
            }
        };
        // Free addresses are in no index.
        let has_changed = |range: &TimedRange| window.contains(range.since);
        let are_free_wanted =
            query.identity.is_none() && table.view().ranges.iter().any(has_changed);
        if window == Window::ANY || are_free_wanted {
            return fallback;
        }
        let limit = limit.min(MOST_COUNTED) as usize;
        let identity = query.identity.as_ref();
        match Cursor::count_by_time(table, window, identity, now, limit) <= limit {
            true => Plan::Time,
            false => fallback,
        }
    }

    /// A cursor that visits all bindings that a query returns which begins `now`.
    pub fn cursor(self, query: &Query, now: Time) -> Cursor {
        let (window, vpn) = (query.window(), query.vpn.clone());
        match (self, query.identity.clone()) {
            (Plan::Time, identity) => Cursor::by_time(window, identity, vpn, now),
            (_, Some(identity)) => Cursor::by_identity(identity, vpn, now),
            (_, None) => Cursor::by_address(window, now),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::net::Ipv4Addr;
    use std::sync::Arc;

    use super::*;
    use crate::kea_config::KeaConfig;
    use crate::mirror::saved_view::SavedView;
    use crate::mirror::{Entry, Identity};
    use crate::model::address::HardwareAddress;
    use crate::model::binding::{Binding, BindingRef, SubnetId};
    use crate::model::client::{Client, ClientParts};
    use crate::model::state::State;
    use crate::model::time::Lifetime;
    use crate::model::vpn::{Vpn, VpnSelector};
    use crate::query::filter::Filter;
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proto::sub_option;

    /// Addresses in use: those of two subnets, and some of none, on three pages.
    const ADDRESSES: u32 = 3 * 256;

    /// Subnet 1 with a pool, and subnet 2 in VPN blue; the last page is in neither.
    fn kea_config() -> Arc<KeaConfig> {
        let config = r#"{ "Dhcp4": { "subnet4": [
            { "id": 1, "subnet": "0.0.0.0/24", "pools": [ { "pool": "0.0.0.250-0.0.0.255" } ] },
            { "id": 2, "subnet": "0.0.1.0/24", "pools": [ { "pool": "0.0.1.0-0.0.1.9" } ],
              "user-context": { "vpn": { "name": "blue" } } } ] } }"#;
        Arc::new(KeaConfig::new(config, Vec::new(), &[]).unwrap())
    }

    /// A client whose identifiers all depend on `number`; clients share remote-ids and relay-ids, and the relay agents
    /// of some name VPN blue.
    fn client(number: u8) -> Client {
        let ids = [2, 1, number % 8, 12, 1, number % 2];
        let vss = [&[sub_option::VSS, 5, 0][..], b"blue"].concat();
        let relay_agent_information = match number % 32 {
            0 => [&ids[..], &vss].concat(),
            _ => ids.to_vec(),
        };
        Client::from(&ClientParts {
            htype: 1,
            chaddr: &[number],
            client_id: &[0, number],
            relay_agent_information: &relay_agent_information,
            ..ClientParts::default()
        })
    }

    /// Whether a binding is one of those that an identity has.
    fn belongs_to(binding: &BindingRef<'_>, identity: &Identity) -> bool {
        let Some(client) = binding.client.filter(|_| binding.state == State::Active) else {
            return false;
        };
        let information = client.relay_agent_information();
        match identity {
            Identity::Mac(hardware) => client.chaddr() == hardware.octets,
            Identity::ClientId(id) => client.client_id() == id,
            Identity::RemoteId(id) => information[2..3] == id[..],
            Identity::RelayId(id) => information[5..6] == id[..],
        }
    }

    /// Times close to each other.
    fn time() -> impl Strategy<Value = Time> {
        (100..160u32).prop_map(Time)
    }

    prop_compose! {
        /// Any binding, mostly active.
        fn binding()(
            address in 0..ADDRESSES,
            state in prop_oneof![4 => Just(2), 1 => 1..=8u8],
            (since, lease_start) in (time(), time()),
            last_transaction in proptest::option::of(time()),
            lifetime in prop_oneof![0..80u32, Just(u32::MAX)],
            learned_at in proptest::option::of(time()),
            reserved_until in proptest::option::of(time()),
            number in any::<u8>(),
            is_of_next in proptest::bool::weighted(0.01),
        ) -> Binding {
            Binding {
                address: Ipv4Addr::from_bits(address),
                state: State::from_value(state).unwrap(),
                since,
                last_transaction,
                lease_start,
                lifetime: Lifetime(lifetime),
                subnet: SubnetId(1 + (address / 256 + u32::from(is_of_next)) % 3),
                client: Some(client(number)),
                remote: false,
                learned_at,
                reserved_until,
            }
        }
    }

    /// Any query; some for all configured addresses, some for an identity of many bindings.
    fn query() -> impl Strategy<Value = Query> {
        let identity = prop_oneof![
            Just(None),
            (0..2u8).prop_map(|id| Some(Identity::RelayId(vec![id]))),
            (0..8u8).prop_map(|id| Some(Identity::RemoteId(vec![id]))),
            any::<u8>().prop_map(|id| Some(Identity::ClientId(vec![0, id]))),
            any::<u8>().prop_map(|id| Some(Identity::Mac(HardwareAddress {
                htype: 1,
                octets: vec![id]
            }))),
        ];
        let vpn = prop_oneof![
            Just(VpnSelector::One(Vpn::Default)),
            Just(VpnSelector::One(Vpn::Name("blue".into()))),
            Just(VpnSelector::All),
        ];
        (identity, vpn, time(), time()).prop_map(|(identity, vpn, one, other)| Query {
            identity,
            start: one.min(other),
            end: one.max(other),
            vpn,
        })
    }

    /// The time at which queries begin.
    const NOW: Time = Time(130);

    /// A table with bindings, and what changes in it while a query is answered.
    #[derive(Debug)]
    struct World {
        table: Table,
        /// Bindings that are put, one after each snapshot of the cursor.
        changes: Vec<Binding>,
        /// The time of all replies.
        replied: Time,
    }

    impl World {
        fn new(bindings: &[Binding], changes: &[Binding], replied: Time) -> World {
            let mut table = Table::new(kea_config(), &SavedView::default(), Time(90));
            bindings.iter().for_each(|binding| table.put(binding));
            let changes = changes.iter().rev().map(|change| Binding {
                learned_at: Some(NOW),
                ..change.clone()
            });
            World {
                table,
                changes: changes.collect(),
                replied,
            }
        }

        /// Whether a query returns a binding by its qualifiers.
        fn is_selected(&self, filter: &Filter, binding: &BindingRef<'_>) -> bool {
            let view = self.table.view();
            let state = view.state(binding, self.replied);
            let vpn = view.vpn_of(binding, state.0);
            vpn.is_some_and(|vpn| filter.selects(view, binding, &vpn, state))
        }

        /// The addresses that a query returns, found by a look at every one.
        fn expected(&self, query: &Query) -> BTreeSet<u32> {
            let filter = Filter::new(query);
            let view = self.table.view();
            let is_returned =
                |address: &u32| match self.table.binding(Ipv4Addr::from_bits(*address)) {
                    Some(binding) => {
                        let binding = binding.view();
                        let is_asked_for = match &query.identity {
                            Some(identity) => belongs_to(&binding, identity),
                            None => view.has(binding),
                        };
                        is_asked_for && self.is_selected(&filter, &binding)
                    }
                    None => view.range_of(*address).is_some_and(|range| {
                        let address = Ipv4Addr::from_bits(*address);
                        filter.selects_free(crate::mirror::Run {
                            first: address,
                            last: address,
                            range,
                        })
                    }),
                };
            (0..ADDRESSES).filter(is_returned).collect()
        }

        /// The addresses that a query returns by a plan, `at_once` of each snapshot of about `most` bindings.
        fn found(&mut self, query: &Query, plan: Plan, at_once: usize, most: usize) -> Vec<u32> {
            let filter = Filter::new(query);
            let mut cursor = plan.cursor(query, NOW);
            let mut found = Vec::new();
            while let Some(part) = cursor.part(&self.table, most) {
                for entry in cursor.entries(&part).take(at_once) {
                    match entry {
                        Entry::Bound(bound) => {
                            let binding = bound.binding();
                            let identity = query.identity.as_ref();
                            assert!(identity.is_none_or(|of| belongs_to(&binding, of)));
                            if self.is_selected(&filter, &binding) {
                                found.push(bound.address);
                            }
                        }
                        Entry::Free(run) if filter.selects_free(run) => {
                            found.extend(run.first.to_bits()..=run.last.to_bits());
                        }
                        Entry::Free(_) => {}
                    }
                }
                if let Some(change) = self.changes.pop() {
                    self.table.put(&change);
                }
            }
            found
        }
    }

    /// The plans that can answer a query.
    fn plans(query: &Query) -> &'static [Plan] {
        match (&query.identity, query.start) {
            (Some(_), _) => &[Plan::Identity, Plan::Time],
            // Pools are configured at time 90.
            (None, _) => &[Plan::Address, Plan::Time],
        }
    }

    proptest! {
        #[test]
        fn every_plan_gives_the_same_answer(
            bindings in vec(binding(), 0..300),
            changes in vec(binding(), 0..30),
            query in query(),
            waited in 0..60u32,
            at_once in 1..40usize,
            most in 1..40usize,
        ) {
            let replied = NOW.plus(waited);
            let mut world = World::new(&bindings, &[], replied);
            let expected = world.expected(&query);
            for plan in plans(&query) {
                let found = world.found(&query, *plan, at_once, most);
                prop_assert!(found.is_sorted_by(|a, b| a < b), "{plan:?}: each once");
                prop_assert_eq!(&BTreeSet::from_iter(found), &expected, "{:?}", plan);
            }
            // Whatever changes meanwhile, the rest is returned, and nothing of other identities.
            for plan in plans(&query) {
                let mut world = World::new(&bindings, &changes, replied);
                let found = world.found(&query, *plan, at_once, most);
                prop_assert!(found.is_sorted_by(|a, b| a < b), "{plan:?}: each once");
                let is_changed = |address: &u32| {
                    changes.iter().any(|change| change.address.to_bits() == *address)
                };
                let unchanged = |addresses: &BTreeSet<u32>| -> BTreeSet<u32> {
                    addresses.iter().copied().filter(|address| !is_changed(address)).collect()
                };
                let found = BTreeSet::from_iter(found);
                prop_assert_eq!(unchanged(&found), unchanged(&expected), "{:?}", plan);
            }
        }
    }
}
