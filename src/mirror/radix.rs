//! Pages by their numbers.
//!
//! There are some ten thousand pages, and nothing that a search for one among these looks at is in
//! the processor's caches as a rule. So none is searched for: of an address the first octet leads to a
//! block, the second to a group in it, and the third to a page.

use std::array;

use crate::mirror::page::Page;

/// As many as an octet tells apart.
const BRANCHES: usize = 1 << 8;

/// The pages of a /16 prefix, of which some are empty.
type Group = [Page; BRANCHES];

/// The groups of a /8 prefix that are not empty.
type Block = [Option<Box<Group>>; BRANCHES];

/// The pages of all addresses.
#[derive(Debug)]
pub struct Radix {
    /// The blocks that are not empty.
    blocks: Box<[Option<Box<Block>>; BRANCHES]>,
}

impl Default for Radix {
    fn default() -> Radix {
        Radix {
            blocks: Box::new([const { None }; BRANCHES]),
        }
    }
}

/// The octets of an address that tell its page.
fn path(page: u32) -> (usize, usize, usize) {
    let [_, block, group, place] = page.to_be_bytes().map(usize::from);
    (block, group, place)
}

/// What is not empty of these, from `first` on, with its place.
fn from<T>(branches: &[Option<Box<T>>], first: usize) -> impl Iterator<Item = (usize, &T)> {
    let branches = branches.iter().enumerate().skip(first);
    branches.filter_map(|(place, branch)| Some((place, branch.as_deref()?)))
}

impl Radix {
    /// A page that is not empty.
    pub fn get(&self, page: u32) -> Option<&Page> {
        let (block, group, place) = path(page);
        let page = &self.blocks[block].as_ref()?[group].as_ref()?[place];
        (!page.is_empty()).then_some(page)
    }

    /// A page to be filled.
    pub fn get_or_insert(&mut self, page: u32) -> &mut Page {
        let (block, group, place) = path(page);
        let block = self.blocks[block].get_or_insert_with(|| Box::new([const { None }; BRANCHES]));
        let group =
            block[group].get_or_insert_with(|| Box::new(array::from_fn(|_| Page::default())));
        &mut group[place]
    }

    /// Changes a page; lets go of what is empty then.
    pub fn take_from<R>(&mut self, page: u32, take: impl FnOnce(&mut Page) -> R) -> Option<R> {
        let (block, group, place) = path(page);
        let block_of = &mut self.blocks[block];
        let group_of = &mut block_of.as_mut()?[group];
        let pages = group_of.as_mut()?;
        let page = &mut pages[place];
        let taken = take(page);
        if page.is_empty() {
            *page = Page::default();
            if pages.iter().all(Page::is_empty) {
                *group_of = None;
                if block_of.as_ref()?.iter().all(Option::is_none) {
                    *block_of = None;
                }
            }
        }
        Some(taken)
    }

    /// The pages from one on that are not empty, ascending, with their numbers.
    pub fn pages_from(&self, page: u32) -> impl Iterator<Item = (u32, &Page)> {
        let first = path(page);
        from(&*self.blocks, first.0).flat_map(move |(block, groups)| {
            let is_first = block == first.0;
            from(groups, if is_first { first.1 } else { 0 }).flat_map(move |(group, pages)| {
                let is_first = is_first && group == first.1;
                let place = if is_first { first.2 } else { 0 };
                let number = (block * BRANCHES + group) * BRANCHES + place;
                let pages = (number as u32..).zip(&pages[place..]);
                pages.filter(|(_, page)| !page.is_empty())
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::net::Ipv4Addr;

    use super::*;
    use crate::mirror::page::first_of;
    use crate::model::binding::{Binding, BindingRef};
    use crate::model::time::Time;
    use proptest::prelude::*;

    /// A binding of the first address of a page.
    fn binding(page: u32) -> BindingRef<'static> {
        Binding::example(Ipv4Addr::from_bits(first_of(page)), Time(1))
    }

    /// Pages next to each other, in neighbouring groups and blocks, and at both ends.
    fn page() -> impl Strategy<Value = u32> {
        let first = prop_oneof![Just(0), Just(1 << 8), Just(1 << 16), Just((1 << 24) - 3)];
        (first, 0..6u32).prop_map(|(first, number)| (first + number).saturating_sub(3))
    }

    proptest! {
        #[test]
        fn holds_what_an_ordinary_set_holds(
            steps in proptest::collection::vec((any::<bool>(), page()), 0..60),
            from in page(),
        ) {
            let mut groups = Radix::default();
            let mut expected = BTreeSet::new();
            for (is_put, page) in steps {
                if is_put {
                    groups.get_or_insert(page).put(binding(page));
                    expected.insert(page);
                } else {
                    let taken = groups.take_from(page, |found| found.remove(first_of(page)));
                    prop_assert_eq!(taken.unwrap_or(false), expected.remove(&page));
                }
                prop_assert_eq!(groups.get(page).is_some(), expected.contains(&page));
            }
            let found = groups.pages_from(from).map(|(page, _)| page);
            prop_assert!(found.eq(expected.range(from..).copied()));
            for page in expected {
                groups.take_from(page, |found| found.remove(first_of(page)));
            }
            prop_assert!(groups.blocks.iter().all(Option::is_none));
        }
    }
}
