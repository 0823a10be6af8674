//! What the hook says of one address, and whether it is so.

use std::net::Ipv4Addr;

use blq::State;

use super::compare::Happened;
use super::history::{Touch, What, hex};
use super::look::{Row, SavedView, Seen};
use super::world::OFFER_LIFETIME;

/// Lifetimes here are longer, in seconds: what was leased so recently cannot have expired.
const SHORTEST_LIFETIME: f64 = 2.0;

/// One address: all there is to know of it.
pub struct Case<'a> {
    /// The address.
    pub address: Ipv4Addr,
    /// Kea's lease.
    pub row: Option<&'a Row>,
    /// Kea's lease before.
    pub row_before: Option<&'a Row>,
    /// What the hook says.
    pub seen: Option<&'a Seen>,
    /// What the hook said before.
    pub seen_before: Option<&'a Seen>,
    /// What is configured.
    pub configured: &'a SavedView,
    /// What was configured before.
    pub configured_before: &'a SavedView,
    /// When the hook was asked before.
    pub base_before: u32,
    /// What was done to the address meanwhile.
    pub touches: &'a [Touch],
    /// What happened altogether.
    pub happened: &'a Happened,
}

/// Fails with a claim unless a condition holds.
fn ensure(holds: bool, claim: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(claim()) }
}

impl Case<'_> {
    /// Checks everything.
    pub fn check(&self) -> Result<(), String> {
        self.check_presence()?;
        let Some(seen) = self.seen else {
            return Ok(());
        };
        let is_active = seen.state == State::ACTIVE;
        ensure(seen.is_active_message == is_active, || {
            "message type and state differ".into()
        })?;
        ensure(!seen.is_remote, || {
            "REMOTE, though there is no other server".into()
        })?;
        let future = |time: Option<u32>| time.is_some_and(|time| time > seen.base);
        ensure(seen.since.is_some(), || "no start-time-of-state".into())?;
        ensure(!future(seen.since) && !future(seen.last), || {
            "a time in the future".into()
        })?;
        if self.touches.is_empty() && self.was_there_before() {
            self.check_untouched(seen)?;
        }
        match self.row.filter(|row| is_held(row, seen.base)) {
            Some(row) if self.is_offer(row) => self.check_offered(row, seen),
            Some(row) => self.check_active(row, seen),
            None => self.check_ended(seen),
        }
    }

    /// The contract: the configured addresses are pools, reservations, and leased addresses in
    /// configured subnets.
    fn check_presence(&self) -> Result<(), String> {
        let is_in_range = self.configured.addresses.contains(&self.address);
        let has_lease = self.row.is_some_and(|row| {
            let may_end = u64::from(self.base_before) + 60;
            row.state < 2
                && row.valid > 0
                && row.ends().is_none_or(|ends| ends > may_end)
                && self.configured.has_lease(self.address, row.subnet)
        });
        let is_known = self.seen_before.is_some()
            || self.row.is_some()
            || self.happened.ever_touched.contains(&self.address);
        let may = is_in_range || is_known && self.configured.is_in_subnet(self.address);
        match self.seen {
            None => ensure(!is_in_range && !has_lease, || {
                "a configured address is missing".into()
            }),
            Some(seen) => {
                ensure(may, || "an address that is not configured".into())?;
                let is_leased =
                    [State::ACTIVE, State::ABANDONED, State::TRANSITIONING].contains(&seen.state);
                ensure(is_in_range || is_leased, || {
                    "not leased, in no pool and not reserved".into()
                })
            }
        }
    }

    /// Whether the address was among the configured ones before, for the reason it is now.
    fn was_there_before(&self) -> bool {
        let in_range = |configured: &SavedView| configured.addresses.contains(&self.address);
        let in_subnet = |configured: &SavedView| configured.is_in_subnet(self.address);
        // A free address of another VPN is another address.
        let may_be_new = self.happened.reconfigurations > 1
            && self.seen.is_some_and(|seen| seen.state == State::AVAILABLE);
        !may_be_new
            && self.is_told_again()
            && (in_range(self.configured) == in_range(self.configured_before))
            && (in_subnet(self.configured) == in_subnet(self.configured_before))
    }

    /// Whether the address was told of before; if it is free, in the same VPN.
    fn is_told_again(&self) -> bool {
        match (self.seen, self.seen_before) {
            (Some(seen), Some(before)) => seen.state != State::AVAILABLE || seen.vpn == before.vpn,
            _ => false,
        }
    }

    /// What nobody touched is as it was, but for the passing of time.
    fn check_untouched(&self, seen: &Seen) -> Result<(), String> {
        let Some(before) = self.seen_before else {
            return Ok(());
        };
        let is_same_row = self.row == self.row_before;
        if self.row.is_some_and(|row| is_held(row, seen.base)) && !is_same_row {
            // Kea made it hold again without a message or a command seen here.
            return Err("Kea holds another lease, though nobody touched it".into());
        }
        if let Some(offer) = self.row_before.filter(|row| self.is_offer(row))
            && matches!(before.state, State::ACTIVE | State::TRANSITIONING)
            && offer.is_over(seen.base)
        {
            // An offer that nobody took, over a lease that ended sooner or not.
            let is_free = matches!(seen.state, State::EXPIRED | State::AVAILABLE);
            return ensure(is_free && seen.since.map(u64::from) == offer.ends(), || {
                "not free since the end of the offer".into()
            });
        }
        let (state, since) = later(before, seen.base);
        if let Some(row) = self.row.filter(|row| self.is_offer(row))
            && before.state == State::ACTIVE
            && state == State::EXPIRED
            && !row.is_over(seen.base)
        {
            return self.check_offered(row, seen);
        }
        ensure((seen.state, seen.since) == (state, since), || {
            format!("nobody touched it: {state} since {since:?} was expected")
        })?;
        if state == State::AVAILABLE {
            return Ok(());
        }
        ensure(seen.identity == before.identity, || {
            "nobody touched it, but the client is another".into()
        })?;
        ensure(seen.option_82 == before.option_82, || {
            "nobody touched it, but its option 82 is another".into()
        })?;
        ensure(seen.last == before.last, || {
            "nobody touched it, but the last transaction is another".into()
        })
    }

    /// Whether a lease that is held is but an offer.
    fn is_offer(&self, row: &Row) -> bool {
        self.happened.may_offer && row.valid == OFFER_LIFETIME
    }

    /// Kea reserves the address for what it offered. A lease that ends sooner than the offer is
    /// overwritten by it in Kea's database, but it is its client's until its end.
    fn check_offered(&self, row: &Row, seen: &Seen) -> Result<(), String> {
        let was_held = self.seen_before.is_some_and(|before| {
            let ends = before.ends.is_some_and(|ends| ends > u64::from(seen.base));
            before.state == State::ACTIVE && ends && before.ends == seen.ends
        });
        let was_leased = self
            .touches
            .iter()
            .any(|touch| matches!(touch.what, What::Acknowledged(..)) && seen.ends < row.ends());
        // Its subnet was not configured at the last look: what lease the offer is over was not told.
        let is_new = self.seen_before.is_none() && seen.ends < row.ends();
        let may_be_active = self.is_shaken() || was_held || was_leased || is_new;
        let fits =
            seen.state == State::TRANSITIONING || seen.state == State::ACTIVE && may_be_active;
        ensure(fits, || {
            "an offer that Kea reserves is not TRANSITIONING".into()
        })?;
        ensure(seen.identity == row.identity, || {
            "the offer's client is another".into()
        })
    }

    /// Kea holds a lease whose time is not over.
    fn check_active(&self, row: &Row, seen: &Seen) -> Result<(), String> {
        if row.state == 1 {
            ensure(seen.state == State::ABANDONED, || {
                "declined, but not ABANDONED".into()
            })?;
            let is_told = !seen.has_lease_time || seen.ends == row.ends();
            return ensure(is_told, || "the probation ends at another time".into());
        }
        ensure(seen.state == State::ACTIVE, || {
            "Kea holds it, but it is not ACTIVE".into()
        })?;
        ensure(seen.has_lease_time && seen.ends == row.ends(), || {
            "the lease ends at another time".into()
        })?;
        ensure(seen.identity == row.identity, || {
            "the client is another".into()
        })?;
        let is_cached = self.happened.ever_cached && seen.last > Some(row.cltt);
        ensure(seen.last == Some(row.cltt) || is_cached, || {
            "the last transaction was at another time".into()
        })?;
        if let Some(relayed) = self.happened.relayed.get(&self.address) {
            ensure(seen.option_82 == *relayed, || {
                format!("option 82 is not the one relayed last, {}", hex(relayed))
            })?;
        }
        self.check_start_of_active(seen)
    }

    /// start-time-of-state of a lease: a renewal keeps it, another client begins anew.
    fn check_start_of_active(&self, seen: &Seen) -> Result<(), String> {
        let Some(before) = self.seen_before else {
            return Ok(());
        };
        let is_same =
            before.state == State::ACTIVE && before.identity.is_same_client(&seen.identity);
        let lasted = before.ends.is_none_or(|ends| ends > u64::from(seen.base));
        let only_renewed = self.touches.iter().all(|touch| match &touch.what {
            What::Acknowledged(who, _) => who.is_same_client(&seen.identity),
            What::Offered(_) => !self.happened.may_offer,
            _ => false,
        });
        if is_same && lasted && only_renewed {
            return ensure(seen.since == before.since, || {
                format!(
                    "renewed, but the state began at another time than {:?}",
                    before.since
                )
            });
        }
        let began = seen.since >= Some(self.base_before);
        // A renewal is not saved, so after a crash a lease that was over and leased anew to the same
        // client just before looks like a renewed one.
        let was_its = before.identity.is_same_client(&seen.identity);
        ensure(began || is_same || (was_its && self.is_shaken()), || {
            "leased since the last look, but began before".into()
        })
    }

    /// Kea holds no lease, or one that is over.
    fn check_ended(&self, seen: &Seen) -> Result<(), String> {
        ensure(seen.state != State::ACTIVE, || {
            "ACTIVE, but Kea does not hold it".into()
        })?;
        ensure(seen.state != State::TRANSITIONING, || {
            "TRANSITIONING, but Kea does not reserve it".into()
        })?;
        if self.is_shaken() {
            return Ok(());
        }
        let possible = self.possible_ends(seen);
        ensure(
            possible.is_empty() || possible.contains(&seen.state),
            || {
                let possible: Vec<_> = possible.iter().map(ToString::to_string).collect();
                format!("{} expected", possible.join(" or "))
            },
        )?;
        if let Some(row) = self.row
            && seen.state == State::EXPIRED
            && row.valid > 0
            && !self.is_offer(row)
        {
            ensure(seen.since.map(u64::from) == row.ends(), || {
                "EXPIRED since another time than the end of the lifetime".into()
            })?;
        }
        if self.seen_before.is_none() && !self.happened.ever_touched.contains(&self.address) {
            ensure(seen.since >= Some(self.base_before), || {
                "newly configured, but AVAILABLE since before".into()
            })?;
        }
        if seen.state == State::AVAILABLE {
            return ensure(seen.lease_time_fits(), || {
                "a lease time of a free address".into()
            });
        }
        self.check_last_client(seen)
    }

    /// The client told of an address whose lease ended: the one before, or one that had it since.
    fn check_last_client(&self, seen: &Seen) -> Result<(), String> {
        let mut clients = self.touches.iter().filter_map(|touch| match &touch.what {
            What::Acknowledged(who, _)
            | What::Requested(who, _)
            | What::Offered(who)
            | What::Put(who) => Some(who),
            _ => None,
        });
        let is_last = clients.any(|who| *who == seen.identity)
            || self
                .seen_before
                .is_none_or(|before| before.identity == seen.identity)
            || self.row.is_some_and(|row| row.identity == seen.identity);
        ensure(is_last, || {
            "the last client is none of those that had it".into()
        })
    }

    /// Whether what was done last may have been lost by a crash.
    fn is_shaken(&self) -> bool {
        self.touches.iter().any(|touch| touch.what == What::Shaken)
    }

    /// The states an address may be in whose lease is over; none if that is not certain.
    fn possible_ends(&self, seen: &Seen) -> Vec<State> {
        if let Some(row) = self.row {
            let is_offer = self.is_offer(row);
            let mut possible = match (row.state, row.valid) {
                (1, _) => vec![State::AVAILABLE],
                (3, _) | (_, 0) => vec![State::RELEASED],
                _ if is_offer => vec![State::AVAILABLE, State::EXPIRED],
                _ => vec![State::EXPIRED],
            };
            // A RELEASE of what is not held any more need change nothing, nor a request that was
            // not answered.
            let is_idle =
                |touch: &Touch| matches!(touch.what, What::Release(_) | What::Requested(..));
            if self.touches.iter().all(is_idle) {
                let before = self.seen_before.map(|before| later(before, seen.base).0);
                possible.extend(before);
            }
            return possible;
        }
        if self.seen_before.is_none() {
            // It has just been configured, or was before a subnet was taken away.
            return match self.happened.ever_touched.contains(&self.address) {
                true => Vec::new(),
                false => vec![State::AVAILABLE],
            };
        }
        let before = self.seen_before.map(|before| later(before, seen.base).0);
        // A client may decline what it has no more: then that is held from others.
        let is_leased = |touch: &Touch| {
            matches!(
                touch.what,
                What::Acknowledged(..) | What::Requested(..) | What::Put(_) | What::Decline(_)
            )
        };
        let certainly_leased = |touch: &Touch| matches!(touch.what, What::Acknowledged(..));
        let was_leased = self.touches.iter().any(is_leased);
        let was_held = was_leased
            || self.seen_before.is_some_and(|before| {
                matches!(
                    before.state,
                    State::ACTIVE | State::TRANSITIONING | State::ABANDONED
                )
            })
            || self.happened.may_offer;
        let mut possible = Vec::new();
        if self.row_before.is_some_and(|row| self.is_offer(row)) {
            // An offer that was not taken, over a lease or not.
            possible.extend([State::AVAILABLE, State::EXPIRED]);
        }
        if !self.touches.iter().any(certainly_leased) {
            possible.push(before.unwrap_or(State::AVAILABLE));
        }
        for touch in self.touches {
            let old = f64::from(seen.base) + 1.0 - touch.at > SHORTEST_LIFETIME;
            match touch.what {
                What::Acknowledged(..) | What::Requested(..) | What::Put(_) if old => {
                    possible.push(State::EXPIRED);
                }
                What::Offered(_) if self.happened.may_offer => {
                    possible.extend([State::AVAILABLE, State::RELEASED]);
                }
                What::Release(_) | What::GivenUp(_) => possible.push(State::RELEASED),
                What::Decline(_) => possible.extend([State::ABANDONED, State::AVAILABLE]),
                What::Deleted(_) if was_held => possible.push(State::RESET),
                _ => {}
            }
        }
        possible.retain(|state| *state != State::ACTIVE && *state != State::TRANSITIONING);
        possible
    }
}

impl Seen {
    /// A free address has no lease time.
    fn lease_time_fits(&self) -> bool {
        !self.has_lease_time
    }
}

/// Whether Kea's lease is held: assigned or declined, and its time not over.
pub fn is_held(row: &Row, now: u32) -> bool {
    row.state < 2 && row.valid > 0 && !row.is_over(now)
}

/// The state of a binding and its start at a later time, if nothing happens to it.
fn later(before: &Seen, now: u32) -> (State, Option<u32>) {
    let end = before.ends.and_then(|ends| u32::try_from(ends).ok());
    let over = end.filter(|end| before.has_lease_time && *end <= now);
    match (before.state, over) {
        (State::ACTIVE, Some(end)) => (State::EXPIRED, Some(end)),
        (State::ABANDONED | State::TRANSITIONING, Some(end)) => (State::AVAILABLE, Some(end)),
        _ => (before.state, before.since),
    }
}
