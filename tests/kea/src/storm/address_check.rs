//! The comparison of the hook's binding of one address with Kea's lease.

use std::net::Ipv4Addr;

use blq::State;

use super::compare::Activity;
use super::history::{Touch, TouchKind, hex};
use super::observation::{ConfiguredAddresses, HookBinding, KeaLease};
use super::topology::OFFER_LIFETIME;

/// Below all lifetimes of a storm, in seconds: a more recent lease cannot have expired.
const SHORTEST_LIFETIME: f64 = 2.0;

/// The data of one address.
pub struct AddressCheck<'a> {
    /// The address.
    pub address: Ipv4Addr,
    /// Kea's lease.
    pub lease: Option<&'a KeaLease>,
    /// Kea's lease at the previous observation.
    pub lease_before: Option<&'a KeaLease>,
    /// The hook's binding.
    pub binding: Option<&'a HookBinding>,
    /// The hook's binding at the previous observation.
    pub binding_before: Option<&'a HookBinding>,
    /// The configured addresses.
    pub configured: &'a ConfiguredAddresses,
    /// The configured addresses at the previous observation.
    pub configured_before: &'a ConfiguredAddresses,
    /// The base-time of the previous observation.
    pub base_before: u32,
    /// The actions on the address since the previous observation.
    pub touches: &'a [Touch],
    /// The activity on all addresses.
    pub activity: &'a Activity,
}

/// Returns the claim as an error unless `holds`.
fn ensure(holds: bool, claim: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(claim()) }
}

impl AddressCheck<'_> {
    /// Checks the binding.
    pub fn check(&self) -> Result<(), String> {
        self.check_presence()?;
        let Some(binding) = self.binding else {
            return Ok(());
        };
        let is_active = binding.state == State::ACTIVE;
        ensure(binding.is_active_message == is_active, || {
            "message type and state differ".into()
        })?;
        ensure(!binding.is_remote, || {
            "REMOTE, though there is no other server".into()
        })?;
        let future = |time: Option<u32>| time.is_some_and(|time| time > binding.base);
        ensure(binding.since.is_some(), || "no start-time-of-state".into())?;
        ensure(!future(binding.since) && !future(binding.last), || {
            "a time in the future".into()
        })?;
        if self.touches.is_empty() && self.was_configured_before() {
            self.check_untouched(binding)?;
        }
        match self.lease.filter(|lease| is_held(lease, binding.base)) {
            Some(lease) if self.is_offer(lease) => self.check_offered(lease, binding),
            Some(lease) => self.check_active(lease, binding),
            None => self.check_ended(binding),
        }
    }

    /// Checks the set of configured addresses: pools, reservations, and leased addresses in
    /// configured subnets.
    fn check_presence(&self) -> Result<(), String> {
        let is_in_range = self.configured.addresses.contains(&self.address);
        let has_lease = self.lease.is_some_and(|lease| {
            let may_end = u64::from(self.base_before) + 60;
            lease.state < 2
                && lease.valid > 0
                && lease.ends().is_none_or(|ends| ends > may_end)
                && self.configured.has_lease(self.address, lease.subnet)
        });
        let is_known = self.binding_before.is_some()
            || self.lease.is_some()
            || self.activity.ever_touched.contains(&self.address);
        let may = is_in_range || is_known && self.configured.is_in_subnet(self.address);
        match self.binding {
            None => ensure(!is_in_range && !has_lease, || {
                "a configured address is missing".into()
            }),
            Some(binding) => {
                ensure(may, || "an address that is not configured".into())?;
                let is_leased = [State::ACTIVE, State::ABANDONED, State::TRANSITIONING]
                    .contains(&binding.state);
                ensure(is_in_range || is_leased, || {
                    "not leased, in no pool and not reserved".into()
                })
            }
        }
    }

    /// Whether the address was a configured one at the previous observation, for the present
    /// reason.
    fn was_configured_before(&self) -> bool {
        let in_range =
            |configured: &ConfiguredAddresses| configured.addresses.contains(&self.address);
        let in_subnet = |configured: &ConfiguredAddresses| configured.is_in_subnet(self.address);
        // A free address in another VPN is a new binding.
        let may_be_new = self.activity.reconfigurations > 1
            && self
                .binding
                .is_some_and(|binding| binding.state == State::AVAILABLE);
        !may_be_new
            && self.was_reported_before()
            && (in_range(self.configured) == in_range(self.configured_before))
            && (in_subnet(self.configured) == in_subnet(self.configured_before))
    }

    /// Whether the previous answer contained the address; if the address is free, in the same VPN.
    fn was_reported_before(&self) -> bool {
        match (self.binding, self.binding_before) {
            (Some(binding), Some(before)) => {
                binding.state != State::AVAILABLE || binding.vpn == before.vpn
            }
            _ => false,
        }
    }

    /// Checks an address without actions: only the passing of time changes its binding.
    fn check_untouched(&self, binding: &HookBinding) -> Result<(), String> {
        let Some(before) = self.binding_before else {
            return Ok(());
        };
        let is_same_row = self.lease == self.lease_before;
        if self.lease.is_some_and(|lease| is_held(lease, binding.base)) && !is_same_row {
            // Kea holds another lease without a message or a command of the storm.
            return Err("Kea holds another lease without an action on it".into());
        }
        let was_held = matches!(before.state, State::ACTIVE | State::TRANSITIONING);
        let is_over = |lease: &&KeaLease| self.is_offer(lease) && lease.is_over(binding.base);
        if let Some(offer) = self.lease_before.filter(is_over).filter(|_| was_held) {
            // An offer without a request. The lease below it may have ended earlier.
            let is_free = matches!(binding.state, State::EXPIRED | State::AVAILABLE);
            return ensure(
                is_free && binding.since.map(u64::from) == offer.ends(),
                || "not free since the end of the offer".into(),
            );
        }
        let (state, since) = later(before, binding.base);
        if before.state == State::ACTIVE && state == State::EXPIRED {
            let is_open = |lease: &&KeaLease| self.is_offer(lease) && !lease.is_over(binding.base);
            if let Some(lease) = self.lease.filter(is_open) {
                return self.check_offered(lease, binding);
            }
        }
        ensure((binding.state, binding.since) == (state, since), || {
            format!("no action on it: {state} since {since:?} was expected")
        })?;
        if state == State::AVAILABLE {
            return Ok(());
        }
        ensure(binding.identity == before.identity, || {
            "no action on it, but the client is another".into()
        })?;
        ensure(binding.option_82 == before.option_82, || {
            "no action on it, but its option 82 is another".into()
        })?;
        ensure(binding.last == before.last, || {
            "no action on it, but the last transaction is another".into()
        })
    }

    /// Whether a lease is a reserved offer.
    fn is_offer(&self, lease: &KeaLease) -> bool {
        self.activity.may_offer && lease.valid == OFFER_LIFETIME
    }

    /// Checks an address that Kea reserves for its offer. In Kea's database the offer overwrites a
    /// lease that ends earlier, but that lease remains its client's until its end.
    fn check_offered(&self, lease: &KeaLease, binding: &HookBinding) -> Result<(), String> {
        let was_held = self.binding_before.is_some_and(|before| {
            let ends = before
                .ends
                .is_some_and(|ends| ends > u64::from(binding.base));
            before.state == State::ACTIVE && ends && before.ends == binding.ends
        });
        let was_leased = self.touches.iter().any(|touch| {
            matches!(touch.kind, TouchKind::Acknowledged(..)) && binding.ends < lease.ends()
        });
        // The subnet was not configured at the previous observation, so the lease below the offer
        // is unknown.
        let is_new = self.binding_before.is_none() && binding.ends < lease.ends();
        let may_be_active = self.may_be_unsaved() || was_held || was_leased || is_new;
        let fits = binding.state == State::TRANSITIONING
            || binding.state == State::ACTIVE && may_be_active;
        ensure(fits, || {
            "an offer that Kea reserves is not TRANSITIONING".into()
        })?;
        ensure(binding.identity == lease.identity, || {
            "the offer's client is another".into()
        })
    }

    /// Checks an address with a lease that has not ended.
    fn check_active(&self, lease: &KeaLease, binding: &HookBinding) -> Result<(), String> {
        if lease.state == 1 {
            ensure(binding.state == State::ABANDONED, || {
                "declined, but not ABANDONED".into()
            })?;
            let is_reported = !binding.has_lease_time || binding.ends == lease.ends();
            return ensure(is_reported, || "the probation ends at another time".into());
        }
        ensure(binding.state == State::ACTIVE, || {
            "Kea holds it, but it is not ACTIVE".into()
        })?;
        ensure(
            binding.has_lease_time && binding.ends == lease.ends(),
            || "the lease ends at another time".into(),
        )?;
        ensure(binding.identity == lease.identity, || {
            "the client is another".into()
        })?;
        let is_cached = self.activity.ever_cached && binding.last > Some(lease.cltt);
        ensure(binding.last == Some(lease.cltt) || is_cached, || {
            "the last transaction was at another time".into()
        })?;
        if let Some(relayed) = self.activity.relayed.get(&self.address) {
            ensure(binding.option_82 == *relayed, || {
                format!("option 82 is not the one relayed last, {}", hex(relayed))
            })?;
        }
        self.check_start_of_active(binding)
    }

    /// Checks start-time-of-state of a lease: a renewal keeps it, a lease to another client begins
    /// anew.
    fn check_start_of_active(&self, binding: &HookBinding) -> Result<(), String> {
        let Some(before) = self.binding_before else {
            return Ok(());
        };
        let is_same =
            before.state == State::ACTIVE && before.identity.is_same_client(&binding.identity);
        let lasted = before
            .ends
            .is_none_or(|ends| ends > u64::from(binding.base));
        let only_renewed = self.touches.iter().all(|touch| match &touch.kind {
            TouchKind::Acknowledged(who, _) => who.is_same_client(&binding.identity),
            TouchKind::Offered(_) => !self.activity.may_offer,
            _ => false,
        });
        if is_same && lasted && only_renewed {
            return ensure(binding.since == before.since, || {
                format!(
                    "renewed, but the state began at another time than {:?}",
                    before.since
                )
            });
        }
        let began = binding.since >= Some(self.base_before);
        // Renewals are not in the state file. After a crash, a lease that had ended and was leased
        // to its client again shortly before the crash looks like a renewed one.
        let was_its = before.identity.is_same_client(&binding.identity);
        ensure(
            began || is_same || (was_its && self.may_be_unsaved()),
            || "leased since the previous observation, but began before it".into(),
        )
    }

    /// Checks an address without a lease, or with one that has ended.
    fn check_ended(&self, binding: &HookBinding) -> Result<(), String> {
        ensure(binding.state != State::ACTIVE, || {
            "ACTIVE, but Kea does not hold it".into()
        })?;
        ensure(binding.state != State::TRANSITIONING, || {
            "TRANSITIONING, but Kea does not reserve it".into()
        })?;
        if self.may_be_unsaved() {
            return Ok(());
        }
        let possible = self.possible_ends(binding);
        ensure(
            possible.is_empty() || possible.contains(&binding.state),
            || {
                let possible: Vec<_> = possible.iter().map(ToString::to_string).collect();
                format!("{} expected", possible.join(" or "))
            },
        )?;
        if binding.state == State::EXPIRED {
            let is_taken = |lease: &&KeaLease| lease.valid > 0 && !self.is_offer(lease);
            if let Some(lease) = self.lease.filter(is_taken) {
                ensure(binding.since.map(u64::from) == lease.ends(), || {
                    "EXPIRED since another time than the end of the lifetime".into()
                })?;
            }
        }
        if self.binding_before.is_none() && !self.activity.ever_touched.contains(&self.address) {
            ensure(binding.since >= Some(self.base_before), || {
                "newly configured, but AVAILABLE since before".into()
            })?;
        }
        if binding.state == State::AVAILABLE {
            return ensure(binding.lease_time_fits(), || {
                "a lease time of a free address".into()
            });
        }
        self.check_last_client(binding)
    }

    /// Checks the client of an ended lease: the previous client, or a later one.
    fn check_last_client(&self, binding: &HookBinding) -> Result<(), String> {
        let mut clients = self.touches.iter().filter_map(|touch| match &touch.kind {
            TouchKind::Acknowledged(who, _)
            | TouchKind::Requested(who, _)
            | TouchKind::Offered(who)
            | TouchKind::Put(who) => Some(who),
            _ => None,
        });
        let is_last = clients.any(|who| *who == binding.identity)
            || self
                .binding_before
                .is_none_or(|before| before.identity == binding.identity)
            || self
                .lease
                .is_some_and(|lease| lease.identity == binding.identity);
        ensure(is_last, || {
            "the last client is none of those that had it".into()
        })
    }

    /// Whether a crash may have lost the latest change.
    fn may_be_unsaved(&self) -> bool {
        self.touches
            .iter()
            .any(|touch| touch.kind == TouchKind::MaybeUnsaved)
    }

    /// Returns the possible states of an address whose lease has ended; none if that is not
    /// certain.
    fn possible_ends(&self, binding: &HookBinding) -> Vec<State> {
        if let Some(lease) = self.lease {
            let is_offer = self.is_offer(lease);
            let mut possible = match (lease.state, lease.valid) {
                (1, _) => vec![State::AVAILABLE],
                (3, _) | (_, 0) => vec![State::RELEASED],
                _ if is_offer => vec![State::AVAILABLE, State::EXPIRED],
                _ => vec![State::EXPIRED],
            };
            // A RELEASE of an address that the client does not have need not change anything, nor
            // need a request without an answer.
            let is_idle = |touch: &Touch| {
                matches!(touch.kind, TouchKind::Release(_) | TouchKind::Requested(..))
            };
            if self.touches.iter().all(is_idle) {
                let before = self
                    .binding_before
                    .map(|before| later(before, binding.base).0);
                possible.extend(before);
            }
            return possible;
        }
        if self.binding_before.is_none() {
            // The address is newly configured, or was configured before its subnet was removed.
            return match self.activity.ever_touched.contains(&self.address) {
                true => Vec::new(),
                false => vec![State::AVAILABLE],
            };
        }
        let before = self
            .binding_before
            .map(|before| later(before, binding.base).0);
        // A client may decline an address that it no longer has: Kea then withholds the address
        // from others.
        let is_leased = |touch: &Touch| {
            matches!(
                touch.kind,
                TouchKind::Acknowledged(..)
                    | TouchKind::Requested(..)
                    | TouchKind::Put(_)
                    | TouchKind::Decline(_)
            )
        };
        let certainly_leased = |touch: &Touch| matches!(touch.kind, TouchKind::Acknowledged(..));
        let was_leased = self.touches.iter().any(is_leased);
        let was_held = was_leased
            || self.binding_before.is_some_and(|before| {
                matches!(
                    before.state,
                    State::ACTIVE | State::TRANSITIONING | State::ABANDONED
                )
            })
            || self.activity.may_offer;
        let mut possible = Vec::new();
        if self.lease_before.is_some_and(|lease| self.is_offer(lease)) {
            // An offer without a request, with or without a lease below it.
            possible.extend([State::AVAILABLE, State::EXPIRED]);
        }
        if !self.touches.iter().any(certainly_leased) {
            possible.push(before.unwrap_or(State::AVAILABLE));
        }
        for touch in self.touches {
            let old = f64::from(binding.base) + 1.0 - touch.at > SHORTEST_LIFETIME;
            match touch.kind {
                TouchKind::Acknowledged(..) | TouchKind::Requested(..) | TouchKind::Put(_)
                    if old =>
                {
                    possible.push(State::EXPIRED);
                }
                TouchKind::Offered(_) if self.activity.may_offer => {
                    possible.extend([State::AVAILABLE, State::RELEASED]);
                }
                TouchKind::Release(_) | TouchKind::GivenUp(_) => possible.push(State::RELEASED),
                TouchKind::Decline(_) => possible.extend([State::ABANDONED, State::AVAILABLE]),
                TouchKind::Deleted(_) if was_held => possible.push(State::RESET),
                _ => {}
            }
        }
        possible.retain(|state| *state != State::ACTIVE && *state != State::TRANSITIONING);
        possible
    }
}

impl HookBinding {
    /// Whether the binding of a free address has no lease time.
    fn lease_time_fits(&self) -> bool {
        !self.has_lease_time
    }
}

/// Whether Kea holds a lease: assigned or declined, and not ended.
pub fn is_held(lease: &KeaLease, now: u32) -> bool {
    lease.state < 2 && lease.valid > 0 && !lease.is_over(now)
}

/// Returns the state of an untouched binding and its start at a later time.
fn later(before: &HookBinding, now: u32) -> (State, Option<u32>) {
    let end = before.ends.and_then(|ends| u32::try_from(ends).ok());
    let over = end.filter(|end| before.has_lease_time && *end <= now);
    match (before.state, over) {
        (State::ACTIVE, Some(end)) => (State::EXPIRED, Some(end)),
        (State::ABANDONED | State::TRANSITIONING, Some(end)) => (State::AVAILABLE, Some(end)),
        _ => (before.state, before.since),
    }
}
