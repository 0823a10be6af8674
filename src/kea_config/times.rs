//! T1 and T2 as Kea sends them with a lease.

use std::hash::{Hash, Hasher};

use crate::kea_config::layout::Inherited;
use crate::model::time::Lifetime;

/// T1's share of the lifetime if none is configured.
const T1_PERCENT: f64 = 0.5;
/// T2's share of the lifetime if none is configured.
const T2_PERCENT: f64 = 0.875;

/// The renewal (T1, option 58) and rebinding (T2, option 59) times of a lease, in seconds from its
/// start; `renewal < rebinding < lifetime` for those that are present.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TeeTimes {
    /// T1; `None` if Kea sends none.
    pub renewal: Option<u32>,
    /// T2; `None` if Kea sends none.
    pub rebinding: Option<u32>,
}

/// The parameters of a subnet's T1 and T2.
#[derive(Clone, Copy, Debug, Default)]
pub struct Timers {
    /// `renew-timer`, in seconds.
    renew: Option<u32>,
    /// `rebind-timer`, in seconds.
    rebind: Option<u32>,
    /// T1 and T2 as shares of the lifetime, if Kea calculates them.
    shares: Option<(f64, f64)>,
}

impl Timers {
    /// Reads the timers in the parameters of a subnet.
    pub fn new(parameters: &Inherited) -> Timers {
        Timers {
            renew: parameters.renew_timer,
            rebind: parameters.rebind_timer,
            shares: parameters.calculate_tee_times.unwrap_or(false).then(|| {
                (
                    parameters.t1_percent.unwrap_or(T1_PERCENT),
                    parameters.t2_percent.unwrap_or(T2_PERCENT),
                )
            }),
        }
    }

    /// Adds the parameters of the times, besides the lifetime, to a digest.
    pub fn digest(&self, digest: &mut impl Hasher) {
        let shares = self.shares.map(|(t1, t2)| (t1.to_bits(), t2.to_bits()));
        (self.renew, self.rebind, shares).hash(digest);
    }

    /// Returns the times for a lease with this lifetime. A configured time precedes a computed one.
    /// A time that is 0, or does not precede the next one, is not sent.
    pub fn tee_times(&self, lifetime: Lifetime) -> TeeTimes {
        let sane =
            |time: Option<u32>, ceiling: u32| time.filter(|time| (1..ceiling).contains(time));
        let shares = self
            .shares
            .map(|(t1, t2)| (share(t1, lifetime), share(t2, lifetime)));
        let (t1, t2) = shares.unzip();
        let rebinding = sane(self.rebind.or(t2), lifetime.0);
        TeeTimes {
            renewal: sane(self.renew.or(t1), rebinding.unwrap_or(lifetime.0)),
            rebinding,
        }
    }
}

/// Returns a share of a lifetime, to the nearest second.
fn share(share: f64, lifetime: Lifetime) -> u32 {
    // A cast from a float saturates at the limits of 32 bits.
    (share * f64::from(lifetime.0)).round() as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the times for `lifetime` with these timers.
    fn times(renew: Option<u32>, rebind: Option<u32>, lifetime: u32) -> (Option<u32>, Option<u32>) {
        let timers = Timers {
            renew,
            rebind,
            shares: None,
        };
        let times = timers.tee_times(Lifetime(lifetime));
        (times.renewal, times.rebinding)
    }

    #[test]
    fn sends_only_times_in_order() {
        assert_eq!(times(Some(900), Some(1800), 3600), (Some(900), Some(1800)));
        assert_eq!(times(Some(900), Some(3600), 3600), (Some(900), None));
        assert_eq!(times(Some(1800), Some(1800), 3600), (None, Some(1800)));
        assert_eq!(times(Some(3600), None, 3600), (None, None));
        assert_eq!(times(Some(0), Some(0), 3600), (None, None));
        assert_eq!(times(None, None, 3600), (None, None));
    }

    #[test]
    fn computes_shares_of_the_lifetime_if_configured() {
        let timers = Timers::new(&Inherited {
            calculate_tee_times: Some(true),
            ..Inherited::default()
        });
        let times = timers.tee_times(Lifetime(3601));
        assert_eq!((times.renewal, times.rebinding), (Some(1801), Some(3151)));
    }

    #[test]
    fn a_configured_time_precedes_a_computed_one() {
        let timers = Timers::new(&Inherited {
            calculate_tee_times: Some(true),
            renew_timer: Some(60),
            t2_percent: Some(0.75),
            ..Inherited::default()
        });
        let times = timers.tee_times(Lifetime(1000));
        assert_eq!((times.renewal, times.rebinding), (Some(60), Some(750)));
    }
}
