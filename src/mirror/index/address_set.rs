//! A set of addresses, small when it holds few.

use std::ops::RangeInclusive;

use roaring::RoaringBitmap;

/// Most addresses in a list. A bitmap takes up to 70 octets for each address that is far from
/// others, a list four and a little.
const FEW: usize = 64;

/// Addresses found under one key of an index: a relay-id or remote-id may have all there are.
#[derive(Clone, Debug, PartialEq)]
pub enum AddressSet {
    /// A single address.
    One(u32),
    /// Some addresses, ascending.
    Few(Vec<u32>),
    /// Any number of addresses.
    Many(Box<RoaringBitmap>),
}

impl AddressSet {
    /// How many addresses there are.
    pub fn len(&self) -> u64 {
        match self {
            AddressSet::One(_) => 1,
            AddressSet::Few(few) => few.len() as u64,
            AddressSet::Many(many) => many.len(),
        }
    }

    /// Whether an address is among these.
    pub fn contains(&self, address: u32) -> bool {
        match self {
            AddressSet::One(one) => *one == address,
            AddressSet::Few(few) => few.binary_search(&address).is_ok(),
            AddressSet::Many(many) => many.contains(address),
        }
    }

    /// Adds an address.
    pub fn insert(&mut self, address: u32) {
        match self {
            AddressSet::One(one) if *one == address => {}
            AddressSet::One(one) => {
                *self = AddressSet::Few(vec![address.min(*one), address.max(*one)]);
            }
            AddressSet::Few(few) => {
                let Err(place) = few.binary_search(&address) else {
                    return;
                };
                if few.len() < FEW {
                    if few.len() == few.capacity() {
                        few.reserve_exact(few.len() / 4 + 1);
                    }
                    few.insert(place, address);
                } else {
                    let mut many: RoaringBitmap = few.iter().copied().collect();
                    many.insert(address);
                    *self = AddressSet::Many(Box::new(many));
                }
            }
            AddressSet::Many(many) => {
                many.insert(address);
            }
        }
    }

    /// Takes an address out; says whether the set is empty then and must go.
    pub fn remove(&mut self, address: u32) -> bool {
        match self {
            AddressSet::One(one) => *one == address,
            AddressSet::Few(few) => {
                if let Ok(place) = few.binary_search(&address) {
                    few.remove(place);
                }
                if let [last] = few[..] {
                    *self = AddressSet::One(last);
                }
                false
            }
            AddressSet::Many(many) => {
                many.remove(address);
                if many.len() <= FEW as u64 / 2 {
                    *self = AddressSet::Few(many.iter().collect());
                }
                false
            }
        }
    }

    /// The addresses in a range, ascending. To go through them to the end, as `for_each` does, is much
    /// quicker than to ask for each.
    pub fn within(&self, range: RangeInclusive<u32>) -> impl Iterator<Item = u32> {
        let (few, many) = match self {
            AddressSet::One(one) => (std::slice::from_ref(one), None),
            AddressSet::Few(few) => (few.as_slice(), None),
            AddressSet::Many(many) => (&[][..], Some(many)),
        };
        let bounds = range.clone();
        let few = few.iter().copied().filter(move |few| range.contains(few));
        let many = many.into_iter();
        few.chain(many.flat_map(move |many| many.range(bounds.clone())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn holds_what_an_ordinary_set_holds(
            first in 0..200u32,
            steps in proptest::collection::vec((any::<bool>(), 0..200u32, 1..80u32), 0..20),
            (start, length) in (0..200u32, 0..200u32),
        ) {
            let mut set = AddressSet::One(first);
            let mut expected = BTreeSet::from([first]);
            for (insert, from, count) in steps {
                for address in from..from + count {
                    if insert {
                        set.insert(address);
                        expected.insert(address);
                    } else {
                        expected.remove(&address);
                        let emptied = set.remove(address);
                        prop_assert_eq!(emptied, expected.is_empty());
                        if emptied {
                            return Ok(());
                        }
                    }
                }
                prop_assert_eq!(set.len(), expected.len() as u64);
                let range = start..=start + length;
                let found: Vec<u32> = set.within(range.clone()).collect();
                let wanted: Vec<u32> = expected.range(range).copied().collect();
                prop_assert_eq!(found, wanted);
            }
        }
    }
}
