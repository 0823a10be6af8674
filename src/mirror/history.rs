//! The history: the times from which on all changes are known, for the catch-up of active requesters.
//!
//! The tables have the last changes of each binding, but not where it was before them. If a binding moved to another
//! VPN, a requester that sees only the VPN before would learn of it in no catch-up. So the history has, for each VPN,
//! the time at which it last lost a binding: a catch-up from before it is incomplete (RFC 7724 section 7.4.1).

use std::hash::BuildHasher;
use std::num::NonZero;

use hashbrown::{DefaultHashBuilder, HashTable};
use serde::{Deserialize, Serialize};

use crate::model::time::Time;
use crate::model::vpn::{Vpn, VpnSelector};

/// The maximum number of VPNs whose losses the state file has one by one. For the others, the latest loss of any of them
/// counts.
const SAVED: usize = if cfg!(test) { 8 } else { 1_024 };

/// The number of a VPN in the change log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VpnNumber(NonZero<u16>);

impl VpnNumber {
    /// Returns the number of the VPN at an index.
    fn of(index: usize) -> VpnNumber {
        let number = u16::try_from(index + 1).ok().and_then(NonZero::new);
        VpnNumber(number.unwrap_or(NonZero::<u16>::MAX))
    }

    /// Returns the index of the VPN.
    fn index(self) -> usize {
        usize::from(self.0.get() - 1)
    }
}

/// The history.
#[derive(Clone, Debug)]
pub struct History {
    /// The second in which it began: changes are known from the next one on.
    since: Time,
    /// The VPNs that lost bindings.
    lost: Losses,
    /// The latest loss of a VPN that is not among them; `None` without one.
    others_lost: Option<Time>,
    /// The time at which a binding was last lost by its VPN to none, so that no requester sees it; `None` if this never
    /// happened.
    hidden: Option<Time>,
}

/// The last losses of VPNs.
///
/// Relay agents may name any VPNs. Those of the changes in the log are kept, at most as many as these changes, and others
/// while there is room: together at most [`most`]. With names of 254 octets that is some 15 MB.
#[derive(Clone, Debug, Default)]
struct Losses {
    /// The losses; their indexes determine the numbers of their VPNs.
    all: Vec<Option<Loss>>,
    /// The indexes, by VPN.
    by_vpn: HashTable<u16>,
    /// The free indexes.
    free: Vec<u16>,
    /// Hashes VPNs.
    hasher: DefaultHashBuilder,
}

/// The last loss of a VPN.
#[derive(Clone, Debug)]
struct Loss {
    /// The VPN.
    vpn: Vpn,
    /// The time.
    at: Time,
    /// The sequence number of the change; 0 if it is in no log.
    number: u64,
}

/// Returns the maximum number of VPNs beside a log of so many changes: more than the log can have, and enough that few
/// losses are forgotten one by one.
pub const fn most(capacity: usize) -> usize {
    capacity + capacity / 4 + 1
}

impl Losses {
    /// Returns the index of a VPN.
    fn find(&self, vpn: &Vpn) -> Option<usize> {
        let is_same = |index: &u16| self.at(*index).is_some_and(|loss| loss.vpn == *vpn);
        let found = self.by_vpn.find(self.hasher.hash_one(vpn), is_same)?;
        Some(usize::from(*found))
    }

    /// Returns the loss at an index.
    fn at(&self, index: u16) -> Option<&Loss> {
        self.all.get(usize::from(index))?.as_ref()
    }

    /// Returns the loss of a VPN.
    fn of(&self, vpn: &Vpn) -> Option<&Loss> {
        self.all.get(self.find(vpn)?)?.as_ref()
    }

    /// Iterates over the losses.
    fn iter(&self) -> impl Iterator<Item = &Loss> {
        self.all.iter().flatten()
    }

    /// Adds the loss of another VPN, and returns its index.
    fn add(&mut self, loss: Loss) -> usize {
        let index = self.free.pop().unwrap_or_else(|| {
            self.all.push(None);
            // At most `most`.
            (self.all.len() - 1) as u16
        });
        let hash = self.hasher.hash_one(&loss.vpn);
        if let Some(place) = self.all.get_mut(usize::from(index)) {
            *place = Some(loss);
        }
        let (all, hasher) = (&self.all, &self.hasher);
        let hash_of = |index: &u16| {
            let loss = all.get(usize::from(*index)).and_then(Option::as_ref);
            loss.map_or(0, |loss| hasher.hash_one(&loss.vpn))
        };
        self.by_vpn.insert_unique(hash, index, hash_of);
        usize::from(index)
    }

    /// Forgets the losses before the change with sequence number `oldest`; returns the time of the latest of them.
    fn forget_before(&mut self, oldest: u64) -> Option<Time> {
        let mut latest = None;
        for (index, place) in (0..).zip(&mut self.all) {
            let is_old = |loss: &mut Loss| loss.number < oldest;
            if let Some(loss) = place.take_if(is_old) {
                latest = latest.max(Some(loss.at));
                self.free.push(index);
                let hash = self.hasher.hash_one(&loss.vpn);
                if let Ok(found) = self.by_vpn.find_entry(hash, |other| *other == index) {
                    found.remove();
                }
            }
        }
        latest
    }
}

/// The history in the form in which the state file stores it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedHistory {
    /// The second in which it began.
    pub since: Time,
    /// The VPNs that lost bindings, each with the time of the last loss.
    pub lost: Vec<(Vpn, Time)>,
    /// The latest loss of any other VPN.
    pub others_lost: Option<Time>,
    /// The time at which a binding was last lost to no VPN.
    pub hidden: Option<Time>,
}

impl History {
    /// Returns a history that begins at `now`.
    pub fn new(now: Time) -> History {
        History {
            since: now,
            lost: Losses::default(),
            others_lost: None,
            hidden: None,
        }
    }

    /// Returns the second in which it began: changes are known from the next one on.
    pub fn since(&self) -> Time {
        self.since
    }

    /// Begins anew at a time, if that is later: changes at this time or before are unknown from now on.
    pub fn begin_anew(&mut self, at: Time) {
        self.since = self.since.max(at);
    }

    /// Whether all changes at `start` or later in the VPNs selected are known.
    pub fn covers(&self, start: Time, selector: &VpnSelector) -> bool {
        start > self.since && self.has_lost_nothing(start, selector)
    }

    /// Whether no binding left the VPNs selected at `start` or later.
    pub fn has_lost_nothing(&self, start: Time, selector: &VpnSelector) -> bool {
        let lost = match selector {
            VpnSelector::All => self.hidden,
            VpnSelector::One(vpn) => {
                let loss = self.lost.of(vpn);
                loss.map_or(self.others_lost, |loss| Some(loss.at))
            }
        };
        lost.is_none_or(|lost| lost < start)
    }

    /// Records that a VPN lost a binding at a time, by the change with sequence number `number`, and returns the
    /// number of the VPN: that of no other one while the change is among the last `capacity` ones.
    pub fn lose(&mut self, vpn: &Vpn, at: Time, number: u64, capacity: usize) -> VpnNumber {
        if let Some(index) = self.lost.find(vpn) {
            if let Some(loss) = self.lost.all.get_mut(index).and_then(Option::as_mut) {
                loss.at = loss.at.max(at);
                loss.number = number;
            }
            return VpnNumber::of(index);
        }
        if self.lost.by_vpn.len() >= most(capacity) {
            let oldest = number.saturating_sub(capacity as u64);
            let forgotten = self.lost.forget_before(oldest);
            self.others_lost = self.others_lost.max(forgotten);
        }
        let index = self.lost.add(Loss {
            vpn: vpn.clone(),
            at: self.others_lost.max(Some(at)).unwrap_or(at),
            number,
        });
        VpnNumber::of(index)
    }

    /// Records that the VPN of a binding lost it to none at a time.
    pub fn hide(&mut self, at: Time) {
        self.hidden = self.hidden.max(Some(at));
    }

    /// Records that any VPN may have lost bindings at a time.
    pub fn lose_all(&mut self, at: Time) {
        for loss in self.lost.all.iter_mut().flatten() {
            loss.at = loss.at.max(at);
        }
        self.others_lost = self.others_lost.max(Some(at));
    }

    /// Returns the number of a VPN that lost bindings.
    pub fn number(&self, vpn: &Vpn) -> Option<VpnNumber> {
        Some(VpnNumber::of(self.lost.find(vpn)?))
    }

    /// Returns the VPN with a number, while a change in the log has it.
    pub fn vpn(&self, number: VpnNumber) -> Option<&Vpn> {
        let loss = self.lost.all.get(number.index())?.as_ref()?;
        Some(&loss.vpn)
    }

    /// Returns the history as the state file stores it, with the latest losses of at most [`SAVED`] VPNs one by one.
    pub fn to_saved(&self) -> SavedHistory {
        let mut lost: Vec<&Loss> = self.lost.iter().collect();
        let mut others_lost = self.others_lost;
        if lost.len() > SAVED {
            let (_, last, others) = lost.select_nth_unstable_by(SAVED - 1, |a, b| b.at.cmp(&a.at));
            // The others are not later than it.
            let has_others = !others.is_empty();
            others_lost = others_lost.max(has_others.then_some(last.at));
            lost.truncate(SAVED);
        }
        let lost = lost.into_iter().map(|loss| (loss.vpn.clone(), loss.at));
        SavedHistory {
            since: self.since,
            lost: lost.collect(),
            others_lost,
            hidden: self.hidden,
        }
    }
}

impl From<SavedHistory> for History {
    fn from(saved: SavedHistory) -> History {
        let mut history = History {
            others_lost: saved.others_lost,
            hidden: saved.hidden,
            ..History::new(saved.since)
        };
        for (vpn, at) in saved.lost {
            if history.lost.by_vpn.len() == SAVED {
                history.others_lost = history.others_lost.max(Some(at));
            } else if history.lost.find(&vpn).is_none() {
                history.lost.add(Loss { vpn, at, number: 0 });
            }
        }
        history
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns a VPN.
    fn vpn(number: u8) -> Vpn {
        Vpn::Rfc2685([0, 0, 0, 0, 0, 0, number])
    }

    /// Returns the selection of a VPN.
    fn one(number: u8) -> VpnSelector {
        VpnSelector::One(vpn(number))
    }

    #[test]
    fn a_catch_up_from_before_a_loss_is_not_covered() {
        let mut history = History::new(Time(100));
        assert!(!history.covers(Time(100), &VpnSelector::All));
        assert!(history.covers(Time(101), &one(1)));
        history.lose(&vpn(1), Time(200), 7, 100);
        history.lose(&vpn(1), Time(190), 8, 100);
        assert!(!history.covers(Time(200), &one(1)));
        assert!(history.covers(Time(201), &one(1)));
        assert!(history.covers(Time(150), &one(2)));
        assert!(history.covers(Time(150), &VpnSelector::All));
        history.lose_all(Time(300));
        for number in [1, 2] {
            assert!(!history.covers(Time(300), &one(number)));
            assert!(history.covers(Time(301), &one(number)));
        }
        assert!(history.covers(Time(150), &VpnSelector::All));
        history.hide(Time(150));
        assert!(!history.covers(Time(150), &VpnSelector::All));
    }

    #[test]
    fn numbers_in_the_log_are_not_reused_and_forgotten_losses_count_together() {
        // A log of 4 changes, and room for 6 VPNs.
        let capacity = 4;
        let mut history = History::new(Time(100));
        for number in 1..=6 {
            let at = Time(200 + u32::from(number));
            let given = history.lose(&vpn(number), at, number.into(), capacity);
            assert_eq!(history.vpn(given), Some(&vpn(number)));
            assert_eq!(history.number(&vpn(number)), Some(given));
        }
        assert_eq!(history.others_lost, None);
        // The changes of VPNs 1 and 2 have left the log.
        history.lose(&vpn(7), Time(210), 7, capacity);
        for number in 1..=9 {
            let lost_at = match number {
                3..=6 => 200 + u32::from(number),
                7 => 210,
                _ => 202,
            };
            let is_known = (3..=7).contains(&number);
            assert_eq!(history.number(&vpn(number)).is_some(), is_known);
            assert!(!history.covers(Time(lost_at), &one(number)), "{number}");
            assert!(history.covers(Time(lost_at + 1), &one(number)), "{number}");
        }
        // A VPN whose loss was forgotten, by a clock that was set back.
        history.lose(&vpn(1), Time(150), 8, capacity);
        assert!(!history.covers(Time(202), &one(1)));
        let saved = history.to_saved();
        let again = History::from(saved.clone());
        assert_eq!(again.to_saved(), saved);
        for number in 1..=9 {
            for start in 199..=212 {
                let (start, one) = (Time(start), one(number));
                assert_eq!(again.covers(start, &one), history.covers(start, &one));
            }
        }
    }

    /// A VPN whose change is in the log has a number that no other change has, however many VPNs lose bindings.
    #[test]
    fn any_number_of_vpns_lose_bindings() {
        const LOG: usize = 64;
        let vpn = |number: u64| Vpn::Name(format!("vpn {number}"));
        let mut history = History::new(Time(1));
        let mut log: Vec<(u64, VpnNumber)> = Vec::new();
        for number in 1..2_000_u64 {
            // Mostly another one.
            let which = if number % 7 == 0 { number / 2 } else { number };
            let at = Time(number as u32);
            log.push((which, history.lose(&vpn(which), at, number, LOG)));
            for (which, given) in log.iter().rev().take(LOG) {
                assert_eq!(history.vpn(*given), Some(&vpn(*which)));
                assert_eq!(history.number(&vpn(*which)), Some(*given));
            }
            assert!(history.lost.all.len() <= most(LOG));
            assert!(!history.covers(at, &VpnSelector::One(vpn(which))));
        }
        // The state file has few of them one by one, and says no less of the others.
        let saved = history.to_saved();
        assert_eq!(saved.lost.len(), SAVED);
        let again = History::from(saved);
        for number in 1..2_000 {
            let selector = VpnSelector::One(vpn(number));
            for start in (1..2_000).step_by(13).map(Time) {
                let is_covered = again.has_lost_nothing(start, &selector);
                assert!(!is_covered || history.has_lost_nothing(start, &selector));
            }
            assert!(again.covers(Time(2_000), &selector));
        }
    }

    #[test]
    fn more_vpns_in_the_state_file_than_are_recorded_count_together() {
        let saved = SavedHistory {
            since: Time(1),
            lost: (0..10)
                .map(|number| (vpn(number), Time(10 + u32::from(number))))
                .collect(),
            others_lost: None,
            hidden: None,
        };
        let history = History::from(saved);
        assert!(history.covers(Time(11), &one(0)));
        for number in [8, 9, 10] {
            assert!(!history.covers(Time(19), &one(number)));
            assert!(history.covers(Time(20), &one(number)));
        }
    }
}
