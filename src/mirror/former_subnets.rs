//! Former subnets, indexed by subnet id and address.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::ops::Deref;

use hashbrown::HashMap;

use crate::mirror::saved_view::FormerSubnet;
use crate::model::binding::SubnetId;

/// Subnets that are no longer configured, the latest last.
#[derive(Clone, Debug, Default)]
pub struct FormerSubnets {
    /// All former subnets.
    all: Vec<FormerSubnet>,
    /// For each subnet id, the latest subnet that contains an address.
    by_id: HashMap<SubnetId, Latest>,
    /// The latest subnet with any id that contains an address.
    by_address: Latest,
}

impl FormerSubnets {
    /// Returns the index of the subnet of an address that was leased from the subnet `id`: the latest with
    /// that id that contains the address, else the latest with any id.
    pub fn index_of(&self, address: Ipv4Addr, id: SubnetId) -> Option<usize> {
        let named = self.by_id.get(&id).and_then(|latest| latest.at(address));
        named.or_else(|| self.by_address.at(address))
    }
}

impl From<Vec<FormerSubnet>> for FormerSubnets {
    fn from(all: Vec<FormerSubnet>) -> FormerSubnets {
        let mut indexes: HashMap<SubnetId, Vec<usize>> = HashMap::new();
        for (index, former) in all.iter().enumerate() {
            indexes.entry(former.id).or_default().push(index);
        }
        let by_id = indexes.into_iter();
        let by_id = by_id.map(|(id, indexes)| (id, Latest::new(&all, indexes)));
        FormerSubnets {
            by_id: by_id.collect(),
            by_address: Latest::new(&all, 0..all.len()),
            all,
        }
    }
}

impl Deref for FormerSubnets {
    type Target = [FormerSubnet];

    fn deref(&self) -> &[FormerSubnet] {
        &self.all
    }
}

/// A map from each address to the index of the latest subnet that contains it; subnets may overlap.
#[derive(Clone, Debug, Default)]
struct Latest {
    /// The addresses at which the index changes, ascending, each with the new index.
    steps: Vec<(u32, Option<usize>)>,
}

impl Latest {
    /// Creates the map of the subnets at these indexes of `all`.
    fn new(all: &[FormerSubnet], indexes: impl IntoIterator<Item = usize>) -> Latest {
        // The first address of each subnet, and the first address after it.
        let mut bounds = Vec::new();
        for index in indexes {
            if let Some(former) = all.get(index).filter(|former| former.first <= former.last) {
                bounds.push((former.first.to_bits(), index, true));
                let end = former.last.to_bits().checked_add(1);
                bounds.extend(end.map(|end| (end, index, false)));
            }
        }
        bounds.sort_unstable();
        let mut steps = Vec::new();
        let mut containing = BTreeSet::new();
        for at_once in bounds.chunk_by(|one, next| one.0 == next.0) {
            for (_, index, begins) in at_once {
                match begins {
                    true => containing.insert(*index),
                    false => containing.remove(index),
                };
            }
            let address = at_once.first().map(|(address, ..)| *address);
            steps.extend(address.map(|address| (address, containing.last().copied())));
        }
        Latest { steps }
    }

    /// Returns the index of the latest subnet that contains `address`.
    fn at(&self, address: Ipv4Addr) -> Option<usize> {
        let after = self
            .steps
            .partition_point(|(from, _)| *from <= address.to_bits());
        let (_, index) = self.steps.get(after.checked_sub(1)?)?;
        *index
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::vpn::Vpn;

    proptest! {
        /// The index agrees with a linear search for each address and subnet id, also at the end of the
        /// address space.
        #[test]
        fn agrees_with_a_linear_search(
            subnets in proptest::collection::vec((0_u32..4, 0_u32..40, 0_u32..20), 0..12),
            is_at_end in any::<bool>(),
        ) {
            let base = if is_at_end { u32::MAX - 49 } else { 0 };
            let address = |offset: u32| Ipv4Addr::from_bits(base.saturating_add(offset));
            let all: Vec<FormerSubnet> = subnets
                .iter()
                .map(|(id, first, length)| FormerSubnet {
                    id: SubnetId(*id),
                    first: address(*first),
                    last: address(first + length),
                    vpn: Vpn::Default,
                })
                .collect();
            let indexed = FormerSubnets::from(all.clone());
            prop_assert_eq!(&*indexed, &*all);
            for (offset, id) in (0..60).flat_map(|offset| (0..5).map(move |id| (offset, id))) {
                let (address, id) = (address(offset), SubnetId(id));
                let contains = |index: &usize| {
                    (all[*index].first..=all[*index].last).contains(&address)
                };
                let containing = || (0..all.len()).rev().filter(contains);
                let named = containing().find(|index| all[*index].id == id);
                let expected = named.or_else(|| containing().next());
                prop_assert_eq!(indexed.index_of(address, id), expected);
            }
        }
    }
}
