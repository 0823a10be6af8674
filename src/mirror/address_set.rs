//! A set of addresses, small when it holds one.

use roaring::RoaringBitmap;

/// Addresses found under one key of an index. A MAC address or client identifier mostly has
/// one, a relay-id or remote-id may have all there are.
#[derive(Clone, Debug, PartialEq)]
pub enum AddressSet {
    /// A single address.
    One(u32),
    /// Any number of addresses.
    Many(Box<RoaringBitmap>),
}

impl AddressSet {
    /// Adds an address.
    pub fn insert(&mut self, address: u32) {
        match self {
            AddressSet::One(one) if *one == address => {}
            AddressSet::One(one) => {
                *self = AddressSet::Many(Box::new(RoaringBitmap::from_iter([*one, address])));
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
            AddressSet::Many(many) => {
                many.remove(address);
                match (many.len(), many.min()) {
                    (0, _) => return true,
                    (1, Some(last)) => *self = AddressSet::One(last),
                    _ => {}
                }
                false
            }
        }
    }

    /// The addresses from `start` on, ascending.
    pub fn from(&self, start: u32) -> Box<dyn Iterator<Item = u32> + '_> {
        match self {
            AddressSet::One(one) => Box::new(Some(*one).filter(|one| *one >= start).into_iter()),
            AddressSet::Many(many) => Box::new(many.range(start..)),
        }
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
            first in 0..20u32,
            steps in proptest::collection::vec((any::<bool>(), 0..20u32), 0..60),
            start in 0..20u32,
        ) {
            let mut set = AddressSet::One(first);
            let mut expected = BTreeSet::from([first]);
            for (insert, address) in steps {
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
            let found: Vec<u32> = set.from(start).collect();
            let wanted: Vec<u32> = expected.range(start..).copied().collect();
            prop_assert_eq!(found, wanted);
        }
    }
}
