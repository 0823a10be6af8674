//! The tables: every binding known, by address, and the indexes that find them.

use std::collections::HashSet;
use std::net::Ipv4Addr;
use std::ops::RangeInclusive;
use std::sync::Arc;

use crate::kea_config::{KeaConfig, Serving};
use crate::mirror::dirty_set::{DirtySet, Taken};
use crate::mirror::event::Lease;
use crate::mirror::former_subnets::FormerSubnets;
use crate::mirror::index::identity::Found;
use crate::mirror::index::time::Reached;
use crate::mirror::indexes::{Identity, Indexes};
use crate::mirror::page::Page;
use crate::mirror::pages::Pages;
use crate::mirror::ranges::{
    self, CommonDigests, ConfiguredSubnet, SavedView, SubnetView, TimedRange,
};
use crate::mirror::view::View;
use crate::mirror::visible;
use crate::model::binding::{Binding, BindingRef, SubnetId};
use crate::model::client::ClientIds;
use crate::model::state::State;
use crate::model::time::Time;

/// Among the addresses that changed: what is configured. The address is nobody's (RFC 919 section 7).
pub const CONFIGURATION: u32 = u32::MAX;

/// Every binding known, and the configured ranges.
#[derive(Debug)]
pub struct Table {
    /// What is configured.
    view: Arc<View>,
    /// The high-availability scopes this server serves, once it is known.
    serving: Option<Serving>,
    /// What the state file has of before a restart, until the configuration is complete: host
    /// reservations in databases are read later than the rest. Saved until then.
    incomplete: Option<Incomplete>,
    /// Whether the log has a lease whose subnet number contradicts its address.
    is_contradiction_logged: bool,
    /// Whether what is configured is not in the state file as it is here.
    view_is_dirty: bool,
    /// Whether it has been another one than the state file had at the start.
    is_reconfigured: bool,
    /// Bindings by address.
    bindings: Pages,
    /// What finds them otherwise; `None` while many are put at once.
    indexes: Option<Indexes>,
    /// Addresses whose state, its start, or last client is not in the state file as it is here.
    dirty: DirtySet,
    /// Those that came to be among them since last asked for: see [`Recent`](crate::persist::store::Recent). Not
    /// while tables are filled.
    recent: Vec<u32>,
    /// The latest transaction of a lease in Kea's lease database.
    latest: Option<Time>,
    /// When Kea's lease database was last compared as a whole.
    resynced_at: Option<Time>,
}

/// What was configured before a restart, as far as host reservations in databases have a part in it.
#[derive(Clone, Debug)]
struct Incomplete {
    /// Configured ranges.
    ranges: Vec<TimedRange>,
    /// The digest of all reservations, if it is known.
    hosts: Option<u64>,
}

impl Table {
    /// A table without bindings, since `now`; this was configured `before`.
    pub fn new(kea_config: Arc<KeaConfig>, before: &SavedView, now: Time) -> Table {
        let ranges = ranges::timed(&kea_config, &before.ranges, None, now);
        let known = &before.former_subnets;
        let former_subnets =
            visible::former_subnets(known, visible::subnets_before(before), &kea_config);
        Table {
            incomplete: kea_config.has_host_database().then(|| Incomplete {
                ranges: before.ranges.clone(),
                hosts: before.digests.map(|digests| digests.hosts),
            }),
            is_contradiction_logged: false,
            view: Arc::new(View {
                kea_config,
                ranges,
                former_subnets: former_subnets.into(),
            }),
            serving: None,
            view_is_dirty: true,
            is_reconfigured: false,
            bindings: Pages::default(),
            indexes: Some(Indexes::default()),
            dirty: DirtySet::default(),
            recent: Vec::new(),
            latest: None,
            resynced_at: None,
        }
    }

    /// What is configured.
    pub fn view(&self) -> &Arc<View> {
        &self.view
    }

    /// The configuration in force.
    pub fn kea_config(&self) -> &KeaConfig {
        &self.view.kea_config
    }

    /// Takes a new configuration over, in force since `at`; `is_complete` says whether it has the
    /// host reservations that are in databases. Bindings of which a requester sees anything else
    /// than before have changed then.
    pub fn configure(&mut self, kea_config: Arc<KeaConfig>, is_complete: bool, at: Time) {
        if Arc::ptr_eq(&self.view.kea_config, &kea_config) {
            return;
        }
        let before = Arc::clone(&self.view);
        let before_as_kept = self.saved_view();
        let incomplete = self.incomplete.take();
        // Reservations that are read for the first time since a restart need not be new.
        let with_hosts = match &incomplete {
            Some(incomplete) => is_complete && incomplete.hosts != Some(kea_config.hosts_digest()),
            None => true,
        };
        let ranges = match &incomplete {
            Some(incomplete) => ranges::and_former(&before.ranges, &incomplete.ranges),
            None => before.ranges.clone(),
        };
        self.incomplete = incomplete.filter(|_| !is_complete);
        self.is_contradiction_logged = false;
        let subnets = visible::subnets_of(&before.kea_config);
        let former_subnets = visible::former_subnets(&before.former_subnets, subnets, &kea_config);
        self.view = Arc::new(View {
            kea_config,
            ranges,
            former_subnets: former_subnets.into(),
        });
        self.renew_ranges(at);
        self.note_reconfigured(&before_as_kept);
        self.mark_view_dirty();
        self.notice_changed_views(&before, with_hosts, at);
    }

    /// Notes whether what is configured is something else than `before`.
    pub fn note_reconfigured(&mut self, before: &SavedView) {
        self.is_reconfigured |= *before != self.saved_view();
    }

    /// Counts the bindings as changed that requesters see otherwise than by the configuration `before`,
    /// and forgets former subnets that have no bindings any more.
    fn notice_changed_views(&mut self, before: &View, with_hosts: bool, at: Time) {
        let changed = visible::changed(&self.bindings, before, &self.view, with_hosts, at);
        for address in changed.addresses {
            self.notice(address, at);
        }
        let former = &self.view.former_subnets;
        if changed.former_subnets.len() < former.len() {
            let needed = changed.former_subnets.iter();
            let needed = needed.filter_map(|place| former.get(*place).cloned());
            let needed = FormerSubnets::from(needed.collect::<Vec<_>>());
            Arc::make_mut(&mut self.view).former_subnets = needed;
        }
    }

    /// Notes in the log, once for each configuration, that the subnet number of a lease contradicts
    /// its address.
    pub fn check_subnet(&mut self, lease: &Lease) {
        if self.is_contradiction_logged {
            return;
        }
        let (address, id) = (lease.address, lease.subnet);
        let named = self.kea_config().subnet(id);
        if named.is_some_and(|subnet| subnet.prefix.contains(&address)) {
            return;
        }
        if let Some(subnet) = self.kea_config().subnet_holding(address) {
            let what = match named {
                Some(subnet) => format!("which is {}", subnet.prefix),
                None => "which is not configured".to_owned(),
            };
            tracing::warn!(
                id = "BLQ_SUBNET_CONTRADICTED",
                "the lease of {address} has subnet id {}, {what}: subnet {} ({}) decides on it, and on \
                 others likewise",
                id.0,
                subnet.id.0,
                subnet.prefix,
            );
            self.is_contradiction_logged = true;
        }
    }

    /// Counts the bindings as changed `now` that requesters see otherwise than by what was configured
    /// `before` a restart.
    pub fn notice_views_changed_since(&mut self, before: &SavedView, now: Time) {
        for address in visible::changed_since(&self.bindings, before, &self.view, now) {
            self.notice(address, now);
        }
    }

    /// Counts a binding as changed at `at`; where there is none, an address of a configured subnet has
    /// become free then.
    pub fn notice_or_free(&mut self, address: u32, at: Time) {
        if self.bindings.get(address).is_some() {
            return self.notice(address, at);
        }
        let address = Ipv4Addr::from_bits(address);
        if let Some(subnet) = self.kea_config().subnet_holding(address) {
            let free = Binding::free(address, subnet.id, at);
            self.put(&free);
        }
    }

    /// Takes note of the latest transaction of a lease in Kea's lease database.
    pub fn set_latest(&mut self, latest: Option<Time>) {
        self.latest = latest;
    }

    /// The latest transaction of a lease in Kea's lease database, as far as it is known.
    pub fn latest(&self) -> Option<Time> {
        self.latest
    }

    /// Takes note that Kea's lease database was compared as a whole, which began then.
    pub fn set_resynced(&mut self, began: Time) {
        self.resynced_at = self.resynced_at.max(Some(began));
    }

    /// When Kea's lease database was last compared as a whole; `None` if it never was.
    pub fn resynced_at(&self) -> Option<Time> {
        self.resynced_at
    }

    /// Whoever asked before `at` was not told of a binding.
    pub fn notice(&mut self, address: u32, at: Time) {
        if let Some(mut binding) = self.bindings.get(address).map(|found| found.to_owned()) {
            binding.learned_at = Some(at);
            self.put(&binding);
        }
    }

    /// Whether an address with a binding belongs to the configured addresses.
    pub fn is_configured(&self, address: Ipv4Addr) -> bool {
        let binding = self.bindings.get(address.to_bits());
        binding.is_some_and(|binding| self.view.has(binding))
    }

    /// This server serves these high-availability scopes since `at`.
    pub fn serve(&mut self, serving: Serving, at: Time) {
        self.serving = Some(serving);
        self.renew_ranges(at);
    }

    /// Brings the configured ranges up to date.
    fn renew_ranges(&mut self, at: Time) {
        let View {
            kea_config, ranges, ..
        } = &*self.view;
        let renewed = ranges::timed(kea_config, ranges, self.serving.as_ref(), at);
        if renewed != *ranges {
            Arc::make_mut(&mut self.view).ranges = renewed;
            self.mark_view_dirty();
        }
    }

    /// Takes these ranges as the configured ones.
    #[cfg(test)]
    pub(super) fn set_ranges(&mut self, ranges: Vec<TimedRange>) {
        Arc::make_mut(&mut self.view).ranges = ranges;
    }

    /// How many bindings there are.
    pub fn count(&self) -> usize {
        self.bindings.count()
    }

    /// The binding of an address, if one is known.
    pub fn binding(&self, address: Ipv4Addr) -> Option<Binding> {
        let binding = self.binding_to_change(address)?;
        Some(binding.to_owned())
    }

    /// The same where it is kept: it is about to be changed.
    pub fn binding_to_change(&self, address: Ipv4Addr) -> Option<BindingRef<'_>> {
        self.bindings.get(address.to_bits())
    }

    /// The binding of an address, if one is known and it is `client`'s; whose it is does not matter
    /// if that is `None`.
    pub fn held_by(&self, address: Ipv4Addr, client: Option<&ClientIds>) -> Option<Binding> {
        self.binding(address).filter(|binding| {
            let both = client.zip(binding.client.as_ref());
            both.is_none_or(|(client, known)| known.view().is(client))
        })
    }

    /// The bindings of these addresses, ascending.
    pub fn bindings(&self, addresses: RangeInclusive<u32>) -> impl Iterator<Item = BindingRef<'_>> {
        self.bindings.range(addresses)
    }

    /// Addresses with a binding from one of `subnets`, ascending.
    pub fn addresses_in(&self, subnets: &HashSet<SubnetId>) -> Vec<Ipv4Addr> {
        self.bindings
            .iter()
            .filter(|binding| subnets.contains(&binding.subnet))
            .map(|binding| binding.address)
            .collect()
    }

    /// Puts a binding in place of what was known of its address.
    pub fn put(&mut self, binding: &Binding) {
        let address = binding.address.to_bits();
        let after = binding.view();
        let before = self.bindings.get(address);
        if before.is_none_or(|before| visible::must_be_saved(before, after))
            && self.dirty.add(address)
            && self.indexes.is_some()
        {
            self.recent.push(address);
        }
        if after.state == State::Active {
            self.latest = self.latest.max(Some(after.lease_start));
        }
        let Some(indexes) = &mut self.indexes else {
            self.bindings.put(after);
            return;
        };
        indexes.times.change(before, Some(after));
        // A renewal, which most changes are, is filed as before.
        let is_filed_alike = before.is_some_and(|before| {
            (before.state == State::Active) == (after.state == State::Active)
                && before.client == after.client
        });
        if is_filed_alike {
            self.bindings.put(after);
        } else {
            indexes.identities.remove(address, &self.bindings);
            self.bindings.put(after);
            indexes.identities.insert(address, &self.bindings);
        }
    }

    /// Lets bindings that are put from now on be found by their addresses only, until
    /// [`Table::build_indexes`]: all at once it takes less time.
    pub fn drop_indexes(&mut self) {
        self.indexes = None;
    }

    /// Enters all bindings into indexes, if they are in none.
    pub fn build_indexes(&mut self) {
        let bindings = &self.bindings;
        self.indexes
            .get_or_insert_with(|| Indexes::of_all(bindings));
    }

    /// Puts a binding that has changed in place of what was known of its address. If a requester
    /// sees any difference, that is learned `now`: delta queries go by it where none of the times
    /// that a reply carries is as late.
    pub fn change(&mut self, mut binding: Binding, now: Time) {
        let after = binding.view();
        binding.learned_at = match self.bindings.get(binding.address.to_bits()) {
            Some(before) if before == after => return,
            Some(before) if visible::are_alike(before, after, now) => before.learned_at,
            _ => {
                let (state, since) = self.view.state(&after, now);
                let last_transaction = after
                    .last_transaction
                    .filter(|_| visible::shows_client(state));
                Some(now).filter(|now| last_transaction.max(Some(since)) < Some(*now))
            }
        };
        self.put(&binding);
    }

    /// Takes over bindings that the state file holds just so; there are none yet, and no indexes.
    pub(super) fn set_saved(&mut self, bindings: Pages) {
        self.bindings = bindings;
    }

    /// Forgets an address.
    pub fn forget(&mut self, address: Ipv4Addr) {
        let address = address.to_bits();
        let Some(before) = self.bindings.get(address) else {
            return;
        };
        if let Some(indexes) = &mut self.indexes {
            indexes.times.change(Some(before), None);
            indexes.identities.remove(address, &self.bindings);
        }
        self.bindings.remove(address);
        self.dirty.add(address);
    }

    /// The addresses that have changed and were not to be written before, since last asked for.
    pub fn take_recent(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.recent)
    }

    /// The addresses that changed, are to be written, and would not be found at a start.
    pub fn dirty_changes(&self) -> impl Iterator<Item = u32> {
        let is_lost = self.view_is_dirty && self.is_reconfigured;
        self.dirty.lost().chain(is_lost.then_some(CONFIGURATION))
    }

    /// Has what is not saved so far wait until there are no later changes to be saved.
    /// `are_lost` says whether a start would not find it.
    pub fn defer_dirty(&mut self, are_lost: bool) {
        self.dirty.defer(are_lost);
    }

    /// What is configured, as the state file keeps it.
    pub fn saved_view(&self) -> SavedView {
        let kea_config = self.kea_config();
        let subnets = kea_config.subnets().map(|subnet| ConfiguredSubnet {
            id: subnet.id,
            first: subnet.prefix.network(),
            last: subnet.prefix.broadcast(),
            view: Some(SubnetView {
                vpn: subnet.vpn.clone(),
                digest: subnet.digest,
            }),
        });
        let ranges = &self.view.ranges;
        let mut saved_view = SavedView {
            ranges: match &self.incomplete {
                Some(incomplete) => ranges::and_former(ranges, &incomplete.ranges),
                None => ranges.clone(),
            },
            subnets: subnets.collect(),
            former_subnets: self.view.former_subnets.to_vec(),
            digests: Some(CommonDigests {
                common: kea_config.common_digest(),
                hosts: match &self.incomplete {
                    Some(incomplete) => incomplete.hosts.unwrap_or_default(),
                    None => kea_config.hosts_digest(),
                },
            }),
        };
        saved_view.subnets.sort_unstable_by_key(|subnet| subnet.id);
        saved_view
    }

    /// The same, if it must be written to the state file. It counts as written from then on.
    pub fn take_dirty_view(&mut self) -> Option<SavedView> {
        std::mem::take(&mut self.view_is_dirty).then(|| self.saved_view())
    }

    /// Some of what must be written to the state file: see [`DirtySet::take`].
    pub fn take_dirty(&mut self, limit: usize) -> Taken {
        self.dirty.take(&self.bindings, limit)
    }

    /// Has what was taken written again.
    pub fn mark_dirty(&mut self, taken: &Taken) {
        self.dirty.put_back(taken);
    }

    /// Has what is configured written again.
    pub fn mark_view_dirty(&mut self) {
        self.view_is_dirty = true;
        if self.is_reconfigured {
            self.recent.push(CONFIGURATION);
        }
    }

    /// Has everything written again.
    pub fn mark_all_dirty(&mut self) {
        self.dirty.add_all();
        self.mark_view_dirty();
    }

    /// The addresses of an identity's active bindings.
    pub fn find(&self, identity: &Identity) -> Option<Found<'_>> {
        let indexes = self.indexes.as_ref()?;
        Some(indexes.identities.find(identity, &self.bindings))
    }

    /// What something happened to in a window: see [`TimeIndex::touched`](crate::mirror::index::time::TimeIndex::touched).
    pub(super) fn touched(
        &self,
        reached: Reached,
        window: (Time, Time),
        until: Time,
    ) -> impl Iterator<Item = Reached> {
        let indexes = self.indexes.iter();
        indexes.flat_map(move |indexes| indexes.times.touched(reached, window, until))
    }

    /// A page of bindings.
    pub(super) fn page(&self, number: u32) -> Option<&Page> {
        self.bindings.page(number)
    }

    /// The pages of bindings from one on, ascending.
    pub(super) fn pages_from(&self, number: u32) -> impl Iterator<Item = (u32, &Page)> {
        self.bindings.pages_from(number)
    }
}
