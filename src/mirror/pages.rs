//! The storage of all bindings by address, in pages.

use std::ops::RangeInclusive;

use crate::mirror::page::{Page, Position, page_of};
use crate::mirror::radix::{Leaf, Radix};
use crate::model::binding::BindingRef;

/// All bindings by address.
#[derive(Debug, Default)]
pub struct Pages {
    /// The pages that are not empty.
    pages: Radix<Page>,
    /// The number of bindings.
    count: usize,
}

impl Pages {
    /// Returns the number of bindings.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Returns the binding of an address.
    pub fn get(&self, address: u32) -> Option<BindingRef<'_>> {
        self.page(page_of(address))?.get(address)
    }

    /// Returns a page; `None` if it is empty.
    pub fn page(&self, number: u32) -> Option<&Page> {
        self.pages.get(number)
    }

    /// Iterates over the pages that are not empty, from a number on, ascending, with their numbers.
    pub fn pages_from(&self, number: u32) -> impl Iterator<Item = (u32, &Page)> {
        self.pages.iter_from(number)
    }

    /// Looks up the page of an address once, for an update of its binding. A caller that stores no binding
    /// calls [`Pages::prune`].
    pub fn entry(&mut self, address: u32) -> Entry<'_> {
        let page = self.pages.get_or_insert(page_of(address));
        page.prefetch_counts();
        Entry {
            address,
            position: page.position(address),
            page,
            count: &mut self.count,
        }
    }

    /// Frees the page of an address if it is empty.
    pub fn prune(&mut self, address: u32) {
        self.pages.prune(page_of(address));
    }

    /// Stores a binding in place of the one of the same address.
    pub fn put(&mut self, binding: BindingRef<'_>) {
        self.entry(binding.address.to_bits()).put(binding);
    }

    /// Removes the binding of an address; returns whether there was one.
    pub fn remove(&mut self, address: u32) -> bool {
        let is_removed = self.pages.get_or_insert(page_of(address)).remove(address);
        self.prune(address);
        self.count -= usize::from(is_removed);
        is_removed
    }

    /// Iterates over the bindings in a range of addresses, ascending.
    pub fn range(&self, addresses: RangeInclusive<u32>) -> impl Iterator<Item = BindingRef<'_>> {
        let (first, last) = addresses.into_inner();
        self.pages_from(page_of(first))
            .take_while(move |(number, _)| *number <= page_of(last))
            .flat_map(move |(number, page)| page.bindings(number, *page.present(), first))
            .map(|found| found.binding())
            .take_while(move |binding| binding.address.to_bits() <= last)
    }

    /// Iterates over all bindings, ascending.
    pub fn iter(&self) -> impl Iterator<Item = BindingRef<'_>> {
        self.range(0..=u32::MAX)
    }
}

/// The binding of an address in its page, or the position at which it would be inserted.
#[derive(Debug)]
pub struct Entry<'a> {
    /// The address.
    address: u32,
    /// The position in the page.
    position: Position,
    /// The page.
    page: &'a mut Page,
    /// The number of all bindings.
    count: &'a mut usize,
}

impl Entry<'_> {
    /// Returns the binding.
    pub fn binding(&self) -> Option<BindingRef<'_>> {
        self.page.at(self.position, self.address)
    }

    /// Whether the page has no bindings.
    pub fn is_page_empty(&self) -> bool {
        self.page.is_empty()
    }

    /// Stores a binding of this address.
    pub fn put(self, binding: BindingRef<'_>) {
        *self.count += usize::from(self.binding().is_none());
        self.page.put(self.position, binding);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::net::Ipv4Addr;

    use super::*;
    use crate::model::binding::Binding;
    use crate::model::binding::SubnetId;
    use crate::model::client::{Client, ClientParts};
    use crate::model::state::State;
    use crate::model::time::{Lifetime, Time};
    use proptest::collection::vec;
    use proptest::prelude::*;

    /// Returns a binding whose fields are derived from a number.
    fn binding(address: u32, number: u32, information: Option<Vec<u8>>) -> Binding {
        let some = |bit: u32| (number & bit != 0).then_some(Time(number * bit));
        let client = |information: Vec<u8>| {
            Client::from(&ClientParts {
                relay_agent_information: &information,
                ..ClientParts::default()
            })
        };
        Binding {
            address: Ipv4Addr::from_bits(address),
            state: if number & 8 == 0 {
                State::Active
            } else {
                State::Released
            },
            since: Time(number),
            last_transaction: some(1),
            lease_start: Time(number + 1),
            lifetime: Lifetime(number + 2),
            subnet: SubnetId(number + 3),
            client: information.map(client),
            remote: number & 16 != 0,
            learned_at: some(2),
            reserved_until: some(4),
        }
    }

    /// Returns an address that ascends with the number, in neighbouring pages and groups.
    fn address(number: u32) -> u32 {
        number + number / 300 * 0xfe80
    }

    proptest! {
        #[test]
        fn agrees_with_a_map(
            steps in vec(
                (any::<bool>(), 0..600u32, 0..32u32, proptest::option::of(vec(any::<u8>(), 0..90))),
                0..200,
            ),
            range in (0..700u32, 0..700u32),
        ) {
            let mut pages = Pages::default();
            let mut expected = BTreeMap::new();
            for (is_put, address_number, number, information) in steps {
                let address = address(address_number);
                if is_put {
                    let binding = binding(address, number, information);
                    pages.put(binding.view());
                    expected.insert(address, binding);
                } else {
                    let was_there = expected.remove(&address).is_some();
                    prop_assert_eq!(pages.remove(address), was_there);
                }
                prop_assert_eq!(pages.count(), expected.len());
            }
            for address in (0..600).map(address) {
                let found = pages.get(address).map(|binding| binding.to_owned());
                prop_assert_eq!(found.as_ref(), expected.get(&address));
            }
            let all: Vec<Binding> = pages.iter().map(|binding| binding.to_owned()).collect();
            prop_assert_eq!(all, expected.values().cloned().collect::<Vec<_>>());
            let (first, last) = (address(range.0.min(range.1)), address(range.0.max(range.1)));
            let found = pages.range(first..=last).map(|binding| binding.address.to_bits());
            let wanted = expected.range(first..=last).map(|(address, _)| *address);
            prop_assert_eq!(found.collect::<Vec<_>>(), wanted.collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_clone_of_a_page_is_a_snapshot() {
        let mut pages = Pages::default();
        pages.put(binding(7, 1, None).view());
        let page = pages.page(0).unwrap().clone();
        pages.put(binding(7, 2, Some(vec![1, 2, 3])).view());
        assert_eq!(page.get(7).unwrap().since, Time(1));
        assert_eq!(pages.get(7).unwrap().since, Time(2));
    }
}
