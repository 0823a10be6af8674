//! Going through bindings in ascending order of their addresses, a part at a time.
//!
//! A walk keeps nothing but the address it has come to, so each address comes up at most once
//! whatever changes between two parts (RFC 6926 section 8.2).

use std::net::Ipv4Addr;
use std::ops::ControlFlow;

use roaring::RoaringBitmap;

use super::ranges::TimedRange;
use super::table::{Identity, Record, Table};
use crate::time::Time;
use crate::vpn::Vpn;

/// What a walk comes by.
#[derive(Clone, Copy, Debug)]
pub enum Entry<'a> {
    /// An address with a binding.
    Bound(&'a Record),
    /// A configured address that was never leased, or of which nothing is known any more.
    Free(Ipv4Addr, &'a TimedRange),
}

impl Entry<'_> {
    /// The VPN the address belongs to.
    pub fn vpn(&self) -> &Vpn {
        match self {
            Entry::Bound(record) => &record.vpn,
            Entry::Free(_, range) => &range.vpn,
        }
    }
}

/// What a walk is to find: chosen once, so that a part of it costs what it returns.
#[derive(Clone, Debug)]
enum Selection {
    /// The active bindings of one client or relay.
    Identity(Identity),
    /// All configured addresses.
    All,
    /// The bindings at these addresses, as far as they are configured: those that may have
    /// changed in the times asked for.
    Touched(RoaringBitmap),
}

/// A walk in progress.
#[derive(Clone, Debug)]
pub struct Walk {
    /// What it is to find.
    selection: Selection,
    /// First and last time asked for.
    window: (Time, Time),
    /// The address to go on from: one past the last one visited, so possibly 2^32.
    position: u64,
}

impl Walk {
    /// A walk through the active bindings of an identity.
    pub fn identity(identity: Identity) -> Walk {
        Walk {
            selection: Selection::Identity(identity),
            window: (Time::MIN, Time::MAX),
            position: 0,
        }
    }

    /// A walk through all configured addresses, of which those that did not change from `start`
    /// to `end` may be left out.
    pub fn all(table: &Table, start: Time, end: Time) -> Walk {
        let changed_then = |range: &TimedRange| (start..=end).contains(&range.since);
        let selection = if table.ranges.iter().any(changed_then) {
            Selection::All
        } else {
            table
                .touched(start, end)
                .map_or(Selection::All, Selection::Touched)
        };
        Walk {
            selection,
            window: (start, end),
            position: 0,
        }
    }

    /// Goes on, until `visit` breaks or there is nothing left; says which.
    ///
    /// What `visit` breaks at has been visited: the walk goes on after it.
    pub fn go_on(
        &mut self,
        table: &Table,
        mut visit: impl FnMut(Entry<'_>) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let Walk {
            selection,
            window,
            position,
        } = self;
        let Ok(start) = u32::try_from(*position) else {
            return ControlFlow::Continue(());
        };
        let mut visit_record = |record: &Record| {
            *position = u64::from(record.binding.address.to_bits()) + 1;
            visit(Entry::Bound(record))
        };
        match selection {
            Selection::Identity(identity) => {
                let Some(filed) = table.filed(identity) else {
                    return ControlFlow::Continue(());
                };
                filed
                    .from(start)
                    .filter_map(|address| table.records.get(&address))
                    .try_for_each(&mut visit_record)
            }
            Selection::Touched(touched) => touched
                .range(start..)
                .filter_map(|address| table.records.get(&address))
                .filter(|record| table.is_configured(record))
                .try_for_each(&mut visit_record),
            Selection::All => go_through_all(table, *window, position, visit),
        }
    }
}

impl Table {
    /// Whether an address with a binding belongs to the configured addresses.
    pub(super) fn is_configured_address(&self, address: Ipv4Addr) -> bool {
        self.records
            .get(&address.to_bits())
            .is_some_and(|record| self.is_configured(record))
    }

    /// Whether a record belongs to the configured addresses: in a configured subnet, a pool,
    /// or reserved.
    pub(super) fn is_configured(&self, record: &Record) -> bool {
        record.in_subnet || self.range_of(record.binding.address.to_bits()).is_some()
    }

    /// The configured range an address is in.
    pub(super) fn range_of(&self, address: u32) -> Option<&TimedRange> {
        let after = self
            .ranges
            .partition_point(|range| range.last.to_bits() < address);
        self.ranges
            .get(after)
            .filter(|range| range.first.to_bits() <= address)
    }
}

/// Visits bindings and free addresses of all configured addresses from `position` on.
fn go_through_all(
    table: &Table,
    (start, end): (Time, Time),
    position: &mut u64,
    mut visit: impl FnMut(Entry<'_>) -> ControlFlow<()>,
) -> ControlFlow<()> {
    let Ok(first) = u32::try_from(*position) else {
        return ControlFlow::Continue(());
    };
    let mut records = table.records.range(first..).peekable();
    let mut ranges = table.ranges[table
        .ranges
        .partition_point(|range| u64::from(range.last.to_bits()) < *position)..]
        .iter()
        .peekable();
    let wanted = |range: &TimedRange| (start..=end).contains(&range.since);
    loop {
        while ranges
            .next_if(|range| u64::from(range.last.to_bits()) < *position)
            .is_some()
        {}
        let bound = records.peek().map(|(address, _)| u64::from(**address));
        // The next configured address, as if nothing were bound.
        let free = ranges
            .peek()
            .map(|range| (u64::from(range.first.to_bits()).max(*position), *range));
        match free {
            Some((address, range)) if bound.is_none_or(|bound| address < bound) => {
                if wanted(range) {
                    *position = address + 1;
                    // Within the range, so it fits 32 bits.
                    visit(Entry::Free(Ipv4Addr::from_bits(address as u32), range))?;
                } else {
                    let next_range = u64::from(range.last.to_bits()) + 1;
                    *position = bound.map_or(next_range, |bound| bound.min(next_range));
                }
            }
            _ => {
                let Some((address, record)) = records.next() else {
                    return ControlFlow::Continue(());
                };
                let address = u64::from(*address);
                *position = address + 1;
                if record.in_subnet || free.is_some_and(|(free, _)| free == address) {
                    visit(Entry::Bound(record))?;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::binding::{Binding, State, SubnetId};
    use crate::network::Network;
    use crate::time::Lifetime;
    use proptest::prelude::*;
    use std::collections::{BTreeMap, BTreeSet};
    use std::sync::Arc;

    /// A subnet of 32 addresses, of which the table's ranges are configured; the rest is
    /// outside of any subnet.
    fn table(ranges: Vec<TimedRange>) -> Table {
        let configuration =
            r#"{ "Dhcp4": { "subnet4": [ { "id": 1, "subnet": "0.0.0.32/27" } ] } }"#;
        let network = Network::from_json(configuration, Vec::new()).unwrap();
        let mut table = Table::new(Arc::new(network), Vec::new(), Time(0));
        table.ranges = ranges;
        table
    }

    fn binding(address: u8, since: u32) -> Binding {
        Binding {
            address: Ipv4Addr::from_bits(address.into()),
            state: State::Released,
            since: Time(since),
            last_transaction: None,
            lease_start: Time(0),
            lifetime: Lifetime(0),
            subnet: SubnetId(if (32..64).contains(&address) { 1 } else { 2 }),
            client: None,
            remote: false,
            noticed: None,
            reserved_until: None,
        }
    }

    /// Ranges from a list of lengths: gap, range, gap, range ... each with a time.
    fn ranges(lengths: &[(u8, u8, u32)]) -> Vec<TimedRange> {
        let mut first = 0;
        lengths
            .iter()
            .map(|(gap, length, since)| {
                first += u32::from(*gap);
                let last = first + u32::from(*length);
                let range = TimedRange {
                    first: Ipv4Addr::from_bits(first),
                    last: Ipv4Addr::from_bits(last),
                    vpn: Vpn::Default,
                    remote: false,
                    since: Time(since.to_owned()),
                };
                first = last + 2;
                range
            })
            .collect()
    }

    proptest! {
        /// What a walk in parts finds is what a look at every address finds, each once.
        #[test]
        fn finds_every_configured_address_that_changed_once(
            lengths in proptest::collection::vec((0..9u8, 0..12u8, 0..4u32), 0..8),
            bindings in proptest::collection::btree_map(0..120u8, 0..4u32, 0..40),
            start in 0..4u32,
            length in 0..4u32,
            part in 1..5usize,
        ) {
            let ranges = ranges(&lengths);
            let mut table = table(ranges.clone());
            for (address, since) in &bindings {
                table.put(binding(*address, *since));
            }
            let window = start..=start + length;
            let mut expected = BTreeMap::new();
            for address in 0..200u8 {
                let bits = Ipv4Addr::from_bits(address.into());
                let range = ranges.iter().find(|range| (range.first..=range.last).contains(&bits));
                let since = bindings.get(&address).copied();
                let configured = range.is_some()
                    || since.is_some() && (32..64).contains(&address);
                let changed = since.or(range.map(|range| range.since.0));
                if configured && changed.is_some_and(|changed| window.contains(&changed)) {
                    expected.insert(bits, since.is_some());
                }
            }

            let mut walk = Walk::all(&table, Time(*window.start()), Time(*window.end()));
            let mut found = BTreeMap::new();
            let mut visited = BTreeSet::new();
            loop {
                let mut left = part;
                let went = walk.go_on(&table, |entry| {
                    let (address, bound, since) = match entry {
                        Entry::Bound(record) => {
                            (record.binding.address, true, record.binding.since)
                        }
                        Entry::Free(address, range) => (address, false, range.since),
                    };
                    assert!(visited.insert(address), "{address} comes once");
                    if window.contains(&since.0) {
                        found.insert(address, bound);
                    }
                    left -= 1;
                    if left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
                });
                if went.is_continue() {
                    break;
                }
            }
            prop_assert_eq!(found, expected);
        }
    }
}
