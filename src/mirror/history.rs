//! The history: the times from which on all changes are known, for the catch-up of active requesters.
//!
//! The tables have the last changes of each binding, but not where it was before them. If a binding moved to another
//! VPN, a requester that sees only the VPN before would learn of it in no catch-up. So the history has, for each VPN,
//! the time at which it last lost a binding: a catch-up from before it is incomplete (RFC 7724 section 7.4.1).

use std::num::NonZero;

use serde::{Deserialize, Serialize};

use crate::model::time::Time;
use crate::model::vpn::{Vpn, VpnSelector};

/// The maximum number of VPNs whose losses are recorded one by one: relay agents may name any. For the others,
/// the latest loss of any of them counts.
const VPNS: usize = if cfg!(test) { 3 } else { 1_024 };

/// The number of a VPN in the change log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VpnNumber(NonZero<u16>);

impl VpnNumber {
    /// Stands for a VPN that has no number, because too many have lost bindings recently.
    pub const UNKNOWN: VpnNumber = VpnNumber(NonZero::<u16>::MAX);

    /// Returns the number of the VPN at an index, less than [`VPNS`].
    fn of(index: usize) -> VpnNumber {
        let number = u16::try_from(index + 1).ok().and_then(NonZero::new);
        number.map_or(VpnNumber::UNKNOWN, VpnNumber)
    }
}

/// The history.
#[derive(Clone, Debug)]
pub struct History {
    /// The second in which it began: changes are known from the next one on.
    since: Time,
    /// The VPNs that lost bindings, at most [`VPNS`]; their indexes determine their numbers.
    lost: Vec<Loss>,
    /// The latest loss of a VPN that is not among them; `None` without one.
    others_lost: Option<Time>,
    /// The time at which a binding was last lost by its VPN to none, so that no requester sees it; `None` if this never
    /// happened.
    hidden: Option<Time>,
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
            lost: Vec::new(),
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
                let loss = self.lost.iter().find(|loss| loss.vpn == *vpn);
                loss.map_or(self.others_lost, |loss| Some(loss.at))
            }
        };
        lost.is_none_or(|lost| lost < start)
    }

    /// Records that a VPN lost a binding at a time, by the change with sequence number `number`, and returns the
    /// number of the VPN. Changes before `oldest` have left the log.
    pub fn lose(&mut self, vpn: &Vpn, at: Time, number: u64, oldest: u64) -> VpnNumber {
        let known = self.lost.iter().position(|loss| loss.vpn == *vpn);
        let index = known.unwrap_or_else(|| {
            match self.lost.len() < VPNS {
                true => self.lost.len(),
                // The one whose last loss is the oldest, if no change in the log has its number.
                false => {
                    let losses = self.lost.iter().enumerate();
                    let oldest_loss = losses.min_by_key(|(_, loss)| loss.number);
                    let free = oldest_loss.filter(|(_, loss)| loss.number < oldest);
                    free.map_or(VPNS, |(index, _)| index)
                }
            }
        });
        let known_at = known.and_then(|index| self.lost.get(index));
        let loss = Loss {
            vpn: vpn.clone(),
            at: known_at.map_or(at, |known| known.at.max(at)),
            number,
        };
        match self.lost.get_mut(index) {
            Some(before) => {
                if known.is_none() {
                    self.others_lost = self.others_lost.max(Some(before.at));
                }
                *before = loss;
            }
            None if index < VPNS => self.lost.push(loss),
            None => {
                self.others_lost = self.others_lost.max(Some(at));
                return VpnNumber::UNKNOWN;
            }
        }
        VpnNumber::of(index)
    }

    /// Records that the VPN of a binding lost it to none at a time.
    pub fn hide(&mut self, at: Time) {
        self.hidden = self.hidden.max(Some(at));
    }

    /// Records that any VPN may have lost bindings at a time.
    pub fn lose_all(&mut self, at: Time) {
        for loss in &mut self.lost {
            loss.at = loss.at.max(at);
        }
        self.others_lost = self.others_lost.max(Some(at));
    }

    /// Returns the number of a VPN that lost bindings.
    pub fn number(&self, vpn: &Vpn) -> Option<VpnNumber> {
        let index = self.lost.iter().position(|loss| loss.vpn == *vpn)?;
        Some(VpnNumber::of(index))
    }

    /// Returns the VPN with a number, while a change in the log has it.
    pub fn vpn(&self, number: VpnNumber) -> Option<&Vpn> {
        let loss = self.lost.get(usize::from(number.0.get() - 1))?;
        Some(&loss.vpn)
    }

    /// Returns the history as the state file stores it.
    pub fn to_saved(&self) -> SavedHistory {
        let lost = self.lost.iter().map(|loss| (loss.vpn.clone(), loss.at));
        SavedHistory {
            since: self.since,
            lost: lost.collect(),
            others_lost: self.others_lost,
            hidden: self.hidden,
        }
    }
}

impl From<SavedHistory> for History {
    fn from(saved: SavedHistory) -> History {
        let SavedHistory {
            since,
            mut lost,
            others_lost,
            hidden,
        } = saved;
        let further = lost.split_off(lost.len().min(VPNS));
        let further_lost = further.into_iter().map(|(_, at)| at).max();
        let lost = lost
            .into_iter()
            .map(|(vpn, at)| Loss { vpn, at, number: 0 });
        History {
            since,
            lost: lost.collect(),
            others_lost: others_lost.max(further_lost),
            hidden,
        }
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
        history.lose(&vpn(1), Time(200), 7, 0);
        history.lose(&vpn(1), Time(190), 8, 0);
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
    fn numbers_in_the_log_are_not_reused_and_losses_of_others_count_together() {
        let mut history = History::new(Time(100));
        for number in 1..=3 {
            let given = history.lose(&vpn(number), Time(200), u64::from(number), 0);
            assert_eq!(history.vpn(given), Some(&vpn(number)));
            assert_eq!(history.number(&vpn(number)), Some(given));
        }
        // Every number is that of a change in the log.
        let unknown = history.lose(&vpn(4), Time(210), 4, 1);
        assert_eq!(unknown, VpnNumber::UNKNOWN);
        assert_eq!(history.vpn(unknown), None);
        assert!(!history.covers(Time(210), &one(4)));
        assert!(history.covers(Time(201), &one(1)));
        // The change of VPN 1 has left the log.
        let reused = history.lose(&vpn(5), Time(220), 5, 2);
        assert_eq!(history.vpn(reused), Some(&vpn(5)));
        assert_eq!(history.number(&vpn(1)), None);
        assert!(!history.covers(Time(210), &one(1)));
        let saved = history.to_saved();
        let again = History::from(saved.clone());
        assert_eq!(again.to_saved(), saved);
        for number in 1..=6 {
            for start in [200, 205, 210, 215, 220, 221] {
                let (start, one) = (Time(start), one(number));
                assert_eq!(again.covers(start, &one), history.covers(start, &one));
            }
        }
    }

    #[test]
    fn more_vpns_in_the_state_file_than_are_recorded_count_together() {
        let saved = SavedHistory {
            since: Time(1),
            lost: (0..5)
                .map(|number| (vpn(number), Time(10 + u32::from(number))))
                .collect(),
            others_lost: None,
            hidden: None,
        };
        let history = History::from(saved);
        assert!(history.covers(Time(11), &one(0)));
        assert!(!history.covers(Time(14), &one(3)));
        assert!(history.covers(Time(15), &one(9)));
    }
}
