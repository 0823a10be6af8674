//! The part of the tables that depends on Kea's configuration.

use std::collections::VecDeque;
use std::net::Ipv4Addr;
use std::sync::Arc;

use crate::kea_config::{KeaConfig, Serving};
use crate::mirror::changes::ChangeLog;
use crate::mirror::event::Lease;
use crate::mirror::former_subnets::FormerSubnets;
use crate::mirror::index::Indexes;
use crate::mirror::pages::Pages;
use crate::mirror::ranges;
use crate::mirror::saved_view::{CommonDigests, ConfiguredSubnet, SavedView, SubnetView};
use crate::mirror::table::{Incomplete, Table};
use crate::mirror::view::View;
use crate::mirror::visible;
use crate::model::state::State;
use crate::model::time::Time;

/// The maximum number of new reservations of which active requesters learn at once. They learn of more only in
/// a catch-up: each new reservation takes the memory of a binding.
const NEW_RESERVATIONS: usize = 10_000;

impl Table {
    /// Creates a table without bindings at `now`; `before` is the view before the restart.
    pub fn new(kea_config: Arc<KeaConfig>, before: &SavedView, now: Time) -> Table {
        let usual = kea_config.high_availability.usually_serving();
        let ranges = ranges::timed(&kea_config.ranges, &before.ranges, None, &usual, now);
        let known = &before.former_subnets;
        let former_subnets =
            visible::former_subnets(known, visible::subnets_before(before), &kea_config);
        let incomplete = kea_config.has_host_database.then(|| Incomplete {
            ranges: before.ranges.clone(),
            hosts: before.digests.map(|digests| digests.hosts),
        });
        let mut table = Table {
            view: Arc::new(View {
                kea_config,
                ranges,
                former_subnets: former_subnets.into(),
            }),
            serving: None,
            incomplete,
            is_contradiction_logged: false,
            bindings: Pages::default(),
            indexes: Some(Indexes::default()),
            changes: ChangeLog::new(now),
            loaded_until: Time::MIN,
            next_end: None,
            reassigned: VecDeque::new(),
            latest: None,
            resynced_at: None,
        };
        table.dirty_set().add_view();
        table.dirty_set().add_history();
        table
    }

    /// Sets a new configuration, in force since `at`; `is_complete` says whether it includes the host
    /// reservations in databases. Bindings change at that time if requesters see a difference.
    pub fn configure(&mut self, kea_config: Arc<KeaConfig>, is_complete: bool, at: Time) {
        if Arc::ptr_eq(&self.view.kea_config, &kea_config) {
            return;
        }
        let before = Arc::clone(&self.view);
        let saved_before = self.saved_view();
        let incomplete = self.incomplete.take();
        // Reservations that are read for the first time since a restart may be the same as before it.
        let with_hosts = match &incomplete {
            Some(incomplete) => is_complete && incomplete.hosts != Some(kea_config.hosts_digest),
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
        self.record_view_difference(&saved_before);
        self.dirty_set().add_view();
        self.record_changes_of_view(&before, with_hosts, at);
        self.record_reservations(&before, at);
    }

    /// Records reserved addresses outside of pools that were not configured in the view `before`, while there are active
    /// requesters (RFC 7724 section 8.2). Others learn of them by the times of ranges, as of pools.
    fn record_reservations(&mut self, before: &View, at: Time) {
        if self.ends_from().is_none() {
            return;
        }
        let view = &self.view;
        let ranges = view.ranges.iter().filter(|range| range.since == at);
        let ranges = ranges.map(|range| (range.first, range.last));
        let reserved = view.kea_config.outside_of_pools(ranges);
        let is_new = |address: &Ipv4Addr| {
            let address = address.to_bits();
            before.range_of(address).is_none() && self.bindings.get(address).is_none()
        };
        let new: Vec<Ipv4Addr> = reserved.filter(is_new).take(NEW_RESERVATIONS).collect();
        for address in new {
            self.mark_changed(address.to_bits(), at, None);
        }
    }

    /// Records whether the view differs from `before`.
    pub fn record_view_difference(&mut self, before: &SavedView) {
        if *before != self.saved_view() {
            self.dirty_set().set_reconfigured();
        }
    }

    /// Records the changes of bindings that requesters see differently than in the view `before`, and drops
    /// former subnets that have no bindings.
    fn record_changes_of_view(&mut self, before: &View, with_hosts: bool, at: Time) {
        let changed = visible::changed(&self.bindings, before, &self.view, with_hosts, at);
        for binding in changed.bindings {
            self.mark_changed(binding.address, at, binding.left.as_deref());
        }
        let former = &self.view.former_subnets;
        if changed.former_subnets.len() < former.len() {
            let needed = changed.former_subnets.iter();
            let needed = needed.filter_map(|index| former.get(*index).cloned());
            let needed = FormerSubnets::from(needed.collect::<Vec<_>>());
            Arc::make_mut(&mut self.view).former_subnets = needed;
        }
    }

    /// Records the changes at `now` of bindings that requesters see differently than in the view `before` a
    /// restart.
    pub fn record_changes_since(&mut self, before: &SavedView, now: Time) {
        for binding in visible::changed_since(&self.bindings, before, &self.view, now) {
            self.mark_changed(binding.address, now, binding.left.as_deref());
        }
    }

    /// Logs, once for each configuration, that the subnet id of a lease contradicts its address.
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

    /// Sets the high-availability scopes that this server serves since `at`.
    pub fn serve(&mut self, serving: Serving, at: Time) {
        self.serving = Some(serving);
        let before = Arc::clone(&self.view);
        self.renew_ranges(at);
        // A catch-up has the free addresses of these ranges by the times of the ranges.
        if self.ends_from().is_some() {
            let reassigned = ranges::reassigned(&before.ranges, &self.view.ranges);
            self.reassigned.extend(reassigned);
        }
    }

    /// Whether free addresses may be left that another server assigns, or no longer, and that active requesters see as
    /// before.
    pub(in crate::mirror) fn has_reassigned(&self) -> bool {
        !self.reassigned.is_empty()
    }

    /// Records changes at `now` of available addresses with bindings that another server assigns, or no longer: their
    /// state and its start are those of their range. Visits at most `limit` bindings; the rest is left to further calls.
    pub(in crate::mirror) fn mark_reassigned(&mut self, now: Time, limit: usize) {
        let mut visits = 0;
        while let Some((first, last)) = self.reassigned.pop_front() {
            let mut available = Vec::new();
            let mut bindings = self.bindings.range(first..=last);
            for binding in bindings.by_ref().take(limit - visits) {
                visits += 1;
                if binding.at(now).0 == State::Available {
                    available.push(binding.address.to_bits());
                }
            }
            let next = bindings.next().map(|next| next.address.to_bits());
            drop(bindings);
            self.reassigned.extend(next.map(|next| (next, last)));
            for address in available {
                self.mark_changed(address, now, None);
            }
            if visits == limit {
                return;
            }
        }
    }

    /// Updates the configured ranges.
    fn renew_ranges(&mut self, at: Time) {
        let View {
            kea_config, ranges, ..
        } = &*self.view;
        let (serving, usual) = (
            self.serving.as_ref(),
            kea_config.high_availability.usually_serving(),
        );
        let renewed = ranges::timed(&kea_config.ranges, ranges, serving, &usual, at);
        if renewed != *ranges {
            Arc::make_mut(&mut self.view).ranges = renewed;
            // The view has the start-time-of-state of free addresses, which a kill before the flush would lose.
            self.dirty_set().set_reconfigured();
            self.dirty_set().add_view();
        }
    }

    /// Returns the view as the state file stores it.
    pub fn saved_view(&self) -> SavedView {
        let kea_config = self.kea_config();
        let subnets = kea_config.subnets.iter().map(|subnet| ConfiguredSubnet {
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
                common: kea_config.common_digest,
                hosts: match &self.incomplete {
                    Some(incomplete) => incomplete.hosts.unwrap_or_default(),
                    None => kea_config.hosts_digest,
                },
            }),
        };
        saved_view.subnets.sort_unstable_by_key(|subnet| subnet.id);
        saved_view
    }
}
