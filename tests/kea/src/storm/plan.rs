//! What a storm does: rounds of steps, drawn from a seed alone.
//!
//! A step says what is to be done, never to which lease: that is found when it is done, by a salt
//! from what there is then. So the sequence of steps is the same for the same seed, whatever Kea
//! makes of it and however fast it is.

use super::random::Random;
use super::world::{LINES, Variant};

/// What one client does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// DISCOVER and no more.
    Discover,
    /// DISCOVER and REQUEST.
    Lease,
    /// REQUEST for the lease it has, by way of its relay.
    Renew,
    /// The same, straight to the server.
    RenewUnicast,
    /// REQUEST for the address it had last, as after a reboot (RFC 2131, section 3.2).
    Reboot,
    /// REQUEST for an address that is not its own.
    RequestWrong(u32),
    /// DISCOVER and REQUEST, asking for a certain address.
    Take(u32),
    /// RELEASE of the lease it has.
    Release,
    /// RELEASE of the address it had last, its own still or not.
    ReleaseOld,
    /// RELEASE of another client's address.
    ReleaseAnothers(u32),
    /// DECLINE of the lease it has.
    Decline,
    /// INFORM with the address it has.
    Inform,
    /// Another client identifier from now on, or none.
    NewClientId(u32),
    /// Another MAC address from now on.
    NewMac,
    /// Another relay and line from now on.
    Move(usize),
}

/// What an administrator or fate does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deed {
    /// `lease4-add`.
    LeaseAdd(u32),
    /// `lease4-update`.
    LeaseUpdate(u32),
    /// `lease4-del` by address.
    LeaseDelete(u32),
    /// `lease4-del` by MAC address.
    LeaseDeleteByMac(u32),
    /// `lease4-del` by client identifier.
    LeaseDeleteByClientId(u32),
    /// `lease4-wipe`.
    Wipe(u32),
    /// A new configuration file and `config-reload`.
    Reload(Variant),
    /// `config-reload` of the file as it is.
    ReloadSame,
    /// `config-set`; the file stays as it is.
    ConfigSet(Variant),
    /// A new configuration file and SIGHUP.
    HangUp(Variant),
    /// A configuration that the hook or Kea refuses.
    Refused(u32),
    /// SIGTERM and a new start.
    Restart,
    /// SIGKILL and a new start.
    Kill,
    /// `subnet4-del` of a subnet.
    SubnetDelete,
    /// `subnet4-add` of that subnet.
    SubnetAdd,
    /// `subnet4-update` with other pools.
    SubnetUpdate(u32),
    /// `reservation-add` to the configuration in memory.
    ReservationAdd(u32),
    /// `reservation-del` from the configuration in memory.
    ReservationDelete(u32),
    /// Nothing, for so many seconds: lifetimes end.
    Wait(usize),
}

/// Steps done at the same time, and steps done one by one afterwards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Round {
    /// Its number, from 1.
    pub number: u32,
    /// Who does what; what one client does it does in this order.
    pub acts: Vec<(usize, Act)>,
    /// What is done meanwhile, in this order.
    pub during: Vec<Deed>,
    /// What is done in the quiet moment after it, with a look at everything after each.
    pub after: Vec<Deed>,
}

/// Draws rounds from a seed.
#[derive(Debug)]
pub struct Plan {
    /// The source of everything.
    random: Random,
    /// How many clients there are.
    clients: usize,
    /// The number of the last round.
    round: u32,
}

/// How often clients do what, of all they do.
const ACTS: [(usize, Act); 15] = [
    (30, Act::Lease),
    (14, Act::Renew),
    (8, Act::RenewUnicast),
    (4, Act::Reboot),
    (8, Act::Discover),
    (5, Act::RequestWrong(0)),
    (6, Act::Take(0)),
    (10, Act::Release),
    (3, Act::ReleaseOld),
    (2, Act::ReleaseAnothers(0)),
    (2, Act::Decline),
    (3, Act::Inform),
    (2, Act::NewClientId(0)),
    (1, Act::NewMac),
    (3, Act::Move(0)),
];

impl Plan {
    /// The plan for a seed and a number of clients.
    pub fn new(seed: u64, clients: usize) -> Self {
        Plan {
            random: Random::new(seed),
            clients,
            round: 0,
        }
    }

    /// The next round.
    pub fn round(&mut self) -> Round {
        self.round += 1;
        let acts = if self.round == 1 {
            (0..self.clients)
                .map(|client| (client, Act::Lease))
                .collect()
        } else {
            let count = 10 + self.random.below(self.clients / 2 + 1);
            (0..count).map(|_| self.act()).collect()
        };
        let mut during = Vec::new();
        if self.random.chance(60) {
            for _ in 0..=self.random.below(4) {
                during.push(self.lease_command());
            }
        }
        if self.random.chance(10) {
            during.push(self.network_command());
        }
        if self.random.chance(14) {
            during.push(self.reconfiguration());
        }
        if self.random.chance(5) {
            during.push(self.end());
        }
        let after = match self.random.below(100) {
            0..6 => vec![self.reconfiguration()],
            6..11 => vec![self.end()],
            11..19 => vec![Deed::Wait(1 + self.random.below(6))],
            19..22 => vec![self.network_command(), self.reconfiguration()],
            22..24 => vec![Deed::Wait(2), self.end(), Deed::Wait(3)],
            _ => Vec::new(),
        };
        Round {
            number: self.round,
            acts,
            during,
            after,
        }
    }

    /// A client and what it does.
    fn act(&mut self) -> (usize, Act) {
        let client = self.random.below(self.clients);
        let salt = self.random.salt();
        let act = match self.random.weighted(&ACTS) {
            Act::RequestWrong(_) => Act::RequestWrong(salt),
            Act::Take(_) => Act::Take(salt),
            Act::ReleaseAnothers(_) => Act::ReleaseAnothers(salt),
            Act::NewClientId(_) => Act::NewClientId(salt),
            Act::Move(_) => Act::Move(salt as usize % LINES),
            other => other,
        };
        (client, act)
    }

    /// A lease changed by command.
    fn lease_command(&mut self) -> Deed {
        let salt = self.random.salt();
        self.random.weighted(&[
            (8, Deed::LeaseAdd(salt)),
            (6, Deed::LeaseUpdate(salt)),
            (6, Deed::LeaseDelete(salt)),
            (3, Deed::LeaseDeleteByMac(salt)),
            (3, Deed::LeaseDeleteByClientId(salt)),
            (1, Deed::Wipe(salt)),
        ])
    }

    /// Subnets and reservations changed by command.
    fn network_command(&mut self) -> Deed {
        let salt = self.random.salt();
        self.random.weighted(&[
            (2, Deed::SubnetDelete),
            (3, Deed::SubnetAdd),
            (3, Deed::SubnetUpdate(salt)),
            (3, Deed::ReservationAdd(salt)),
            (2, Deed::ReservationDelete(salt)),
        ])
    }

    /// A new configuration, or the old one anew.
    fn reconfiguration(&mut self) -> Deed {
        let salt = self.random.salt();
        let variant = Variant(salt);
        self.random.weighted(&[
            (3, Deed::Reload(variant)),
            (3, Deed::ReloadSame),
            (3, Deed::ConfigSet(variant)),
            (3, Deed::HangUp(variant)),
            (2, Deed::Refused(salt)),
        ])
    }

    /// The end of the server.
    fn end(&mut self) -> Deed {
        self.random.weighted(&[(2, Deed::Restart), (3, Deed::Kill)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A storm can be had again: what is done depends on the seed and nothing else.
    #[test]
    fn draws_the_same_rounds_from_the_same_seed() {
        let rounds = |seed| {
            let mut plan = Plan::new(seed, 100);
            (0..50).map(|_| plan.round()).collect::<Vec<_>>()
        };
        assert_eq!(rounds(3), rounds(3));
        assert_ne!(rounds(3), rounds(4));
    }
}
