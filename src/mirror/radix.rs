//! A radix table of three levels, indexed by page number.
//!
//! A mirror has some ten thousand pages, and a search among them would read memory that is rarely in the
//! processor's caches. Instead, the octets of an address are indexes: the first selects a block, the second a
//! group in that block, and the third an entry of that group.

use std::array;

/// The number of branches of each level: one for each value of an octet.
const BRANCHES: usize = 1 << 8;

/// An entry of a [`Radix`].
pub trait Leaf: Default {
    /// Whether the entry counts as absent.
    fn is_empty(&self) -> bool;
}

/// The entries of a /16 prefix, empty or not.
type Group<T> = [T; BRANCHES];

/// The groups of a /8 prefix.
type Block<T> = [Option<Box<Group<T>>>; BRANCHES];

/// Entries by page number.
#[derive(Debug)]
pub struct Radix<T> {
    /// The blocks of all addresses.
    blocks: Box<[Option<Box<Block<T>>>; BRANCHES]>,
}

impl<T> Default for Radix<T> {
    fn default() -> Radix<T> {
        Radix {
            blocks: Box::new([const { None }; BRANCHES]),
        }
    }
}

/// Splits a page number into the indexes of block, group and entry.
fn path(page: u32) -> (usize, usize, usize) {
    let [_, block, group, entry] = page.to_be_bytes().map(usize::from);
    (block, group, entry)
}

/// Iterates over the branches in use from `first` on, with their indexes.
fn used_from<T>(branches: &[Option<Box<T>>], first: usize) -> impl Iterator<Item = (usize, &T)> {
    let branches = branches.iter().enumerate().skip(first);
    branches.filter_map(|(index, branch)| Some((index, branch.as_deref()?)))
}

impl<T: Leaf> Radix<T> {
    /// Returns the entry of a page number; `None` if it is empty.
    pub fn get(&self, page: u32) -> Option<&T> {
        let (block, group, entry) = path(page);
        let entry = &self.blocks[block].as_ref()?[group].as_ref()?[entry];
        (!entry.is_empty()).then_some(entry)
    }

    /// Returns the entry of a page number, empty or not. A caller that leaves it empty calls
    /// [`Radix::prune`].
    pub fn get_or_insert(&mut self, page: u32) -> &mut T {
        let (block, group, entry) = path(page);
        let block = self.blocks[block].get_or_insert_with(|| Box::new([const { None }; BRANCHES]));
        let group = block[group].get_or_insert_with(|| Box::new(array::from_fn(|_| T::default())));
        &mut group[entry]
    }

    /// Frees the memory of an entry that is empty, and of its group and block if all of theirs are.
    pub fn prune(&mut self, page: u32) {
        let (block, group, entry) = path(page);
        let block = &mut self.blocks[block];
        let Some(groups) = block else {
            return;
        };
        let group = &mut groups[group];
        let Some(entries) = group else {
            return;
        };
        if !entries[entry].is_empty() {
            return;
        }
        entries[entry] = T::default();
        if entries.iter().all(T::is_empty) {
            *group = None;
            if groups.iter().all(Option::is_none) {
                *block = None;
            }
        }
    }

    /// Iterates over the entries that are not empty, from a page number on, ascending, with their numbers.
    pub fn iter_from(&self, page: u32) -> impl Iterator<Item = (u32, &T)> {
        let first = path(page);
        used_from(&*self.blocks, first.0).flat_map(move |(block, groups)| {
            let is_first = block == first.0;
            used_from(groups, if is_first { first.1 } else { 0 }).flat_map(
                move |(group, entries)| {
                    let is_first = is_first && group == first.1;
                    let entry = if is_first { first.2 } else { 0 };
                    let number = (block * BRANCHES + group) * BRANCHES + entry;
                    let entries = (number as u32..).zip(&entries[entry..]);
                    entries.filter(|(_, entry)| !entry.is_empty())
                },
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use proptest::prelude::*;

    impl Leaf for u8 {
        fn is_empty(&self) -> bool {
            *self == 0
        }
    }

    /// Page numbers next to each other, in neighbouring groups and blocks, and at both ends.
    fn page() -> impl Strategy<Value = u32> {
        let first = prop_oneof![Just(0), Just(1 << 8), Just(1 << 16), Just((1 << 24) - 3)];
        (first, 0..6u32).prop_map(|(first, number)| (first + number).saturating_sub(3))
    }

    proptest! {
        #[test]
        fn agrees_with_a_map(
            steps in proptest::collection::vec((page(), 0..3u8), 0..60),
            from in page(),
        ) {
            let mut radix = Radix::default();
            let mut expected = BTreeMap::new();
            for (page, value) in steps {
                *radix.get_or_insert(page) = value;
                radix.prune(page);
                match value {
                    0 => expected.remove(&page),
                    value => expected.insert(page, value),
                };
                prop_assert_eq!(radix.get(page), expected.get(&page));
            }
            let found = radix.iter_from(from);
            prop_assert!(found.eq(expected.range(from..).map(|(page, value)| (*page, value))));
            for page in expected.into_keys() {
                *radix.get_or_insert(page) = 0;
                radix.prune(page);
            }
            prop_assert!(radix.blocks.iter().all(Option::is_none));
        }
    }
}
