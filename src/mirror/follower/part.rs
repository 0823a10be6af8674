//! Parts: the entries that a follower returns together.

use std::borrow::Cow;
use std::net::Ipv4Addr;
use std::sync::Arc;

use crate::mirror::changes::Position;
use crate::mirror::cursor::Run;
use crate::mirror::index::time::Moment;
use crate::mirror::page::{Found, Page};
use crate::mirror::view::View;
use crate::model::time::Time;
use crate::model::vpn::{Vpn, VpnSelector};

/// An entry of a part, with its base-time. The other times in the message are projected at the base-time.
#[derive(Clone, Copy, Debug)]
pub enum Entry<'a> {
    /// An address with a binding, which is in a VPN of the query.
    Bound(Found<'a>, Time),
    /// Configured addresses without a binding. [`Entries::continue_after`] leaves the rest of them to the next part.
    ///
    /// [`Entries::continue_after`]: crate::mirror::follower::Entries::continue_after
    Free(Run<'a>, Time),
    /// An address whose binding is no longer in a VPN of the query: DHCPLEASEUNASSIGNED without a client.
    Left(Ipv4Addr, &'a Vpn, Time),
}

/// Some changes of the mirror, and the view.
#[derive(Debug)]
pub struct Part {
    /// The view.
    pub view: Arc<View>,
    /// The number of bindings and index entries visited for the part: a measure of its cost.
    pub visits: usize,
    /// The entries.
    pub(super) items: Vec<Item>,
    /// The place after the part.
    pub(super) end: Place,
}

/// A place of a follower: where one of its searches continues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In the change log.
    Live(Position),
    /// In the times of bindings; `None` at the end.
    Walk(Option<Moment>),
    /// In the configured ranges: the next address, possibly 2^32; `None` at the end.
    Ranges(Option<u64>),
}

/// An entry of a part.
#[derive(Debug)]
pub struct Item {
    /// The contents.
    content: Content,
    /// The base-time.
    base: Time,
    /// The place after the entry.
    pub place: Place,
}

/// The contents of an entry.
#[derive(Debug)]
enum Content {
    /// The binding of an address, in a snapshot of its page.
    Bound(u32, Page),
    /// Addresses without a binding, and the index of their configured range.
    Free(u32, u32, usize),
    /// An address that left a VPN.
    Left(u32, Vpn),
}

/// An entry that may be returned: a snapshot taken with the tables locked.
#[derive(Debug)]
pub struct Candidate {
    /// The address.
    pub address: u32,
    /// The page of the address, if it has bindings.
    pub page: Option<Page>,
    /// Whether the address is sent if it is in a VPN of the query.
    pub is_changed: bool,
    /// The VPN of the query that its binding left.
    pub left: Option<Vpn>,
    /// The base-time.
    pub base: Time,
    /// The place after the entry.
    pub place: Place,
}

impl Candidate {
    /// Returns the entry in the VPNs selected; `None` if there is nothing to send.
    pub fn into_item(self, view: &View, selector: &VpnSelector) -> Option<Item> {
        let Candidate {
            address,
            page,
            is_changed,
            left,
            base,
            place,
        } = self;
        let page = page.filter(|page| page.get(address).is_some());
        let (is_selected, left) = match page.as_ref().and_then(|page| page.get(address)) {
            Some(binding) => {
                let selected = |state| {
                    let vpn = view.vpn_of(&binding, state);
                    vpn.filter(|vpn| selector.selects(vpn))
                };
                let (state, _) = binding.at(base);
                let is_selected = selected(state).is_some();
                // The end of the state may have moved the binding.
                let before = || {
                    selected(binding.state)
                        .filter(|_| is_changed)
                        .map(Cow::into_owned)
                };
                let left = if is_selected {
                    None
                } else {
                    left.or_else(before)
                };
                (is_selected, left)
            }
            None => {
                let range = view.range_of(address);
                let is_selected = range.is_some_and(|range| selector.selects(&range.vpn));
                (is_selected, left)
            }
        };
        let content = match (is_selected, page) {
            (true, Some(page)) if is_changed => Content::Bound(address, page),
            (true, None) if is_changed => {
                let range = view.index_of_range(address)?;
                Content::Free(address, address, range)
            }
            (true, _) => return None,
            (false, _) => Content::Left(address, left?),
        };
        Some(Item {
            content,
            base,
            place,
        })
    }
}

impl Item {
    /// Returns an entry about a binding.
    pub fn bound(address: u32, page: Page, base: Time, place: Place) -> Item {
        Item {
            content: Content::Bound(address, page),
            base,
            place,
        }
    }

    /// Returns an entry about the addresses from `first` to `last` of the range at an index, which have no binding.
    pub fn free(first: u32, last: u32, range: usize, base: Time, place: Place) -> Item {
        Item {
            content: Content::Free(first, last, range),
            base,
            place,
        }
    }

    /// Returns the entry.
    pub fn entry<'a>(&'a self, view: &'a View) -> Option<Entry<'a>> {
        Some(match &self.content {
            Content::Bound(address, page) => Entry::Bound(page.find(*address)?, self.base),
            Content::Free(first, last, range) => {
                let run = Run {
                    first: Ipv4Addr::from_bits(*first),
                    last: Ipv4Addr::from_bits(*last),
                    range: view.ranges.get(*range)?,
                };
                Entry::Free(run, self.base)
            }
            Content::Left(address, vpn) => {
                Entry::Left(Ipv4Addr::from_bits(*address), vpn, self.base)
            }
        })
    }
}
