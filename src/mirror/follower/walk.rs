//! The walk of a catch-up: bindings in the order of the times at which they last changed.
//!
//! The walk keeps no addresses. It goes through the times of all bindings in its window, and returns a binding only at
//! the latest of them. A binding that changes meanwhile is in the change log after the position at which the walk began.

use crate::mirror::cursor::selected_page;
use crate::mirror::follower::part::{Candidate, Place};
use crate::mirror::index::time::{Happening, Moment};
use crate::mirror::page::page_of;
use crate::mirror::table::Table;
use crate::model::binding::BindingRef;
use crate::model::state::State;
use crate::model::time::Time;
use crate::model::vpn::VpnSelector;

/// The maximum number of times that are visited with the tables locked.
const VISITS: usize = 1_024;

/// A walk in progress.
#[derive(Clone, Copy, Debug)]
pub struct Walk {
    /// The place of the next time.
    pub next: Moment,
    /// The first time of the window.
    start: Time,
    /// The last time of the window: later ones are those of changes in the log.
    until: Time,
    /// The last time in the window at which states ended by themselves: later ends are in the log.
    ends_until: Time,
}

impl Walk {
    /// Begins to walk through the changes from `start` on that were made before `now`.
    pub fn begin(table: &Table, start: Time, now: Time) -> Walk {
        Walk {
            next: Moment::first_of(start),
            start,
            until: now.max(table.latest_time()),
            ends_until: now,
        }
    }

    /// Begins to walk through the changes from `start` on that the load of the tables made, and the ends of states before
    /// `now`. Other changes are in the log.
    pub fn begin_loaded(table: &Table, start: Time, now: Time) -> Walk {
        Walk {
            until: table.loaded_until(),
            ..Walk::begin(table, start, now)
        }
    }

    /// Returns the walk at another place.
    pub fn at(self, next: Moment) -> Walk {
        Walk { next, ..self }
    }

    /// Extends the window by the changes from `since` on that were made before `now`: the log has lost them.
    pub fn extend(&mut self, table: &Table, since: Time, now: Time) {
        let Walk {
            until, ends_until, ..
        } = Walk::begin(table, since, now);
        self.next = self.next.min(Moment::first_of(since));
        // Earlier if the clock was set back.
        self.start = self.start.min(since);
        self.until = self.until.max(until);
        self.ends_until = self.ends_until.max(ends_until);
    }

    /// Takes snapshots of up to `limit` bindings in the VPNs selected, with the base-time `base` or by themselves: none
    /// later than `latest`. Returns also the place after them and the cost.
    pub fn snapshot(
        &self,
        table: &Table,
        vpn: &VpnSelector,
        base: Option<Time>,
        latest: Time,
        limit: usize,
    ) -> (Vec<Candidate>, Place, usize) {
        let mut candidates = Vec::new();
        let mut visits = 0;
        let mut next = self.next;
        for happening in table.chronological(self.next, self.until, self.ends_until) {
            if visits == VISITS || candidates.len() == limit {
                return (candidates, Place::Walk(Some(next)), visits);
            }
            visits += 1;
            let Moment { time, address, .. } = happening.moment;
            next = happening.moment.next();
            let page = selected_page(table, vpn, page_of(address));
            let binding = page.and_then(|page| page.get(address));
            if binding.is_some_and(|binding| self.returns(&binding, happening)) {
                candidates.push(Candidate {
                    address,
                    page: page.cloned(),
                    is_changed: true,
                    left: None,
                    base: base.unwrap_or(time.min(latest)),
                    place: Place::Walk(Some(next)),
                });
            }
        }
        (candidates, Place::Walk(None), visits)
    }

    /// Whether a binding is returned at one of its times: the latest in the window.
    fn returns(&self, binding: &BindingRef<'_>, Happening { moment, lifetime }: Happening) -> bool {
        let is_free = binding.at(self.ends_until).0.is_free();
        let times = [
            Some(binding.since),
            binding.learned_at,
            binding.last_transaction.filter(|_| !is_free),
        ];
        let latest = times.into_iter().flatten().max();
        if latest > Some(self.until) {
            return false;
        }
        // The end of an offer during a lease is that of the state after the lease.
        let reserved_until = binding
            .reserved_until
            .filter(|until| binding.state == State::Active && *until <= self.ends_until);
        let end = binding.ends().filter(|end| *end <= self.ends_until);
        let latest = latest.max(reserved_until);
        match lifetime {
            // An end in the window is found by its lifetime alone, if that is a common one, and else here.
            None => latest.max(end) == Some(moment.time) && moment.time >= self.start,
            Some(lifetime) => {
                lifetime == binding.lifetime && end == Some(moment.time) && latest < end
            }
        }
    }
}
