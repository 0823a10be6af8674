//! The qualifiers of a query: which of the visited bindings it returns.

use crate::mirror::Run;
use crate::mirror::view::View;
use crate::model::binding::BindingRef;
use crate::model::state::State;
use crate::model::time::{Time, Window};
use crate::model::vpn::{Vpn, VpnSelector};
use crate::query::request::Query;

/// The bindings that a query returns, of those that its cursor visits.
#[derive(Clone, Debug)]
pub struct Filter {
    /// The times of change that are asked for; `None` for any time.
    window: Option<Window>,
    /// The VPNs that are asked for.
    vpn: VpnSelector,
    /// Whether the query is for active bindings only: those of a client or relay agent (RFC 6926
    /// section 8.2).
    active_only: bool,
}

impl Filter {
    /// The qualifiers of `query`.
    pub fn new(query: &Query) -> Filter {
        let window = query.window();
        Filter {
            window: Some(window).filter(|window| *window != Window::ANY),
            vpn: query.vpn.clone(),
            active_only: query.identity.is_some(),
        }
    }

    /// Whether the query returns a binding in `vpn` that is in `state` since `since`.
    #[inline(always)]
    pub fn selects(
        &self,
        view: &View,
        binding: &BindingRef<'_>,
        vpn: &Vpn,
        (state, since): (State, Time),
    ) -> bool {
        if !self.vpn.selects(vpn) || (self.active_only && state != State::Active) {
            return false;
        }
        // An address outside of pools and reservations is configured while it is leased. The end of
        // that is a change, which a query for changes returns.
        let is_gone = !state.is_leased() && self.window.is_none();
        if is_gone && view.range_of(binding.address.to_bits()).is_none() {
            return false;
        }
        // By either of the times in RFC 6926 section 8.2, or by the time at which this server learned
        // of a difference. A free address has no client, and so no transaction.
        let is_inside = |time| self.is_inside(time);
        is_inside(since)
            || !state.is_free() && binding.last_transaction.is_some_and(is_inside)
            || binding.learned_at.is_some_and(is_inside)
    }

    /// Whether the query returns these free addresses.
    pub fn selects_free(&self, run: Run<'_>) -> bool {
        self.vpn.selects(&run.range.vpn) && !self.active_only && self.is_inside(run.range.since)
    }

    /// Whether a change at this time is asked for.
    #[inline(always)]
    fn is_inside(&self, time: Time) -> bool {
        self.window.is_none_or(|window| window.contains(time))
    }
}
