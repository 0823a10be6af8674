//! The free addresses of a catch-up: those of ranges that were configured in its window.

use std::net::Ipv4Addr;

use crate::mirror::follower::part::{Item, Place};
use crate::mirror::page::{Page, first_of, page_of};
use crate::mirror::ranges::TimedRange;
use crate::mirror::table::Table;
use crate::model::binding::BindingRef;
use crate::model::time::Time;
use crate::model::vpn::VpnSelector;

/// The maximum number of pages and ranges that are visited with the tables locked.
const VISITS: usize = 256;

/// Takes snapshots of up to `limit` entries about the free addresses of ranges in the VPNs selected that were
/// configured at `start` or later, from the address `next` on. Returns also the place after them and the cost.
pub fn snapshot(
    table: &Table,
    vpn: &VpnSelector,
    (start, next): (Time, u64),
    base: Time,
    limit: usize,
) -> (Vec<Item>, Place, usize) {
    let mut scan = Scan {
        table,
        start,
        base,
        next,
        items: Vec::new(),
    };
    let ranges = &table.view().ranges;
    let passed = |range: &TimedRange| u64::from(range.last.to_bits()) < next;
    let first = ranges.partition_point(passed);
    let mut visits = 0;
    for (index, range) in ranges.iter().enumerate().skip(first) {
        let last = range.last.to_bits();
        visits += 1;
        if range.since >= start && vpn.selects(&range.vpn) {
            scan.next = scan.next.max(range.first.to_bits().into());
            while scan.next <= last.into() {
                if visits >= VISITS || scan.items.len() >= limit {
                    return (scan.items, Place::Ranges(Some(scan.next)), visits);
                }
                visits += 1;
                scan.visit_page(index, last);
            }
        } else if visits >= VISITS {
            return (scan.items, Place::Ranges(Some(u64::from(last) + 1)), visits);
        }
    }
    (scan.items, Place::Ranges(None), visits)
}

/// A scan of ranges.
struct Scan<'a> {
    /// The tables.
    table: &'a Table,
    /// The first time of the window.
    start: Time,
    /// The base-time of the entries.
    base: Time,
    /// The next address; fits 32 bits within a range.
    next: u64,
    /// The entries.
    items: Vec<Item>,
}

impl Scan<'_> {
    /// Visits the addresses of a range up to the end of the next page with bindings.
    fn visit_page(&mut self, range: usize, last: u32) {
        let next = self.next as u32;
        let found = self.table.pages_from(page_of(next)).next();
        let Some((number, page)) = found.filter(|(number, _)| first_of(*number) <= last) else {
            return self.add_free(range, last.into());
        };
        if first_of(number) > next {
            self.add_free(range, u64::from(first_of(number)) - 1);
        }
        let last = last.min(first_of(number) | 0xff);
        let bindings = page.bindings(number, *page.present(), self.next as u32);
        for found in bindings.take_while(|found| found.address <= last) {
            if u64::from(found.address) > self.next {
                self.add_free(range, u64::from(found.address) - 1);
            }
            self.next = u64::from(found.address) + 1;
            if self.is_configured_since(&found.binding()) {
                self.add_bound(found.address, page);
            }
        }
        if self.next <= last.into() {
            self.add_free(range, last.into());
        }
    }

    /// Adds the addresses up to `last`, which have no binding.
    fn add_free(&mut self, range: usize, last: u64) {
        let place = Place::Ranges(Some(last + 1));
        // Both are within a range, so they fit 32 bits.
        let (first, last) = (self.next as u32, last as u32);
        self.next = u64::from(last) + 1;
        let item = Item::free(first, last, range, self.base, place);
        self.items.push(item);
    }

    /// Adds an address with a binding.
    fn add_bound(&mut self, address: u32, page: &Page) {
        let place = Place::Ranges(Some(self.next));
        let item = Item::bound(address, page.clone(), self.base, place);
        self.items.push(item);
    }

    /// Whether an address with a binding is free and became available when its range was configured: it has no
    /// time of its own in the window.
    fn is_configured_since(&self, binding: &BindingRef<'_>) -> bool {
        let (state, since) = self.table.view().state(binding, self.base);
        let (_, own) = binding.at(self.base);
        let is_learned = binding.learned_at.is_some_and(|at| at >= self.start);
        state.is_free() && since >= self.start && own < self.start && !is_learned
    }
}

/// Returns the place after `address`, the last one used of free addresses.
pub fn after(address: Ipv4Addr) -> Place {
    Place::Ranges(Some(u64::from(address.to_bits()) + 1))
}
