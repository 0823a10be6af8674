//! The plan of a storm: rounds of actions, drawn from a seed alone.
//!
//! An action does not name a lease. It has a salt, which selects a lease from those that exist when
//! the action is performed. Therefore the sequence of actions depends on the seed alone, not on
//! Kea's answers and speed.

use super::random::Random;
use super::topology::{LINES, Variant};

/// An action of one client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientAction {
    /// DISCOVER and no more.
    Discover,
    /// DISCOVER and REQUEST.
    Lease,
    /// REQUEST for the present lease, through the relay.
    Renew,
    /// REQUEST for the present lease, sent to the server directly.
    RenewUnicast,
    /// REQUEST for the last address, as after a reboot (RFC 2131, section 3.2).
    Reboot,
    /// REQUEST for an address that the client does not have.
    RequestWrong(u32),
    /// DISCOVER and REQUEST with a requested address.
    Take(u32),
    /// RELEASE of the present lease.
    Release,
    /// RELEASE of the last address, whether or not the client still has it.
    ReleaseOld,
    /// RELEASE of another client's address.
    ReleaseOther(u32),
    /// DECLINE of the present lease.
    Decline,
    /// INFORM with the present address.
    Inform,
    /// Changes the client identifier, or drops it.
    NewClientId(u32),
    /// Changes the MAC address.
    NewMac,
    /// Moves to another line, and thereby possibly to another relay.
    Move(usize),
}

/// An action of an administrator, or a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServerAction {
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
    /// A changed configuration file and `config-reload`.
    Reload(Variant),
    /// `config-reload` of the unchanged file.
    ReloadSame,
    /// `config-set`; the file stays unchanged.
    ConfigSet(Variant),
    /// A changed configuration file and SIGHUP.
    HangUp(Variant),
    /// A configuration that the hook or Kea refuses.
    Refused(u32),
    /// SIGTERM, then a start.
    Restart,
    /// SIGKILL, then a start.
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
    /// Waits this number of seconds: lifetimes end.
    Wait(usize),
}

/// Concurrent actions, and subsequent actions one by one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Round {
    /// The round's number, from 1.
    pub number: u32,
    /// Actions of clients. Those of one client are performed in this order.
    pub actions: Vec<(usize, ClientAction)>,
    /// Server actions concurrent with the clients, in this order.
    pub during: Vec<ServerAction>,
    /// Server actions after the clients have finished, with an observation after each.
    pub after: Vec<ServerAction>,
}

/// Draws rounds from a seed.
#[derive(Debug)]
pub struct Plan {
    /// The random sequence.
    random: Random,
    /// Number of clients.
    clients: usize,
    /// The number of the last round.
    round: u32,
}

/// The actions of clients, with their relative frequencies.
const ACTS: [(usize, ClientAction); 15] = [
    (30, ClientAction::Lease),
    (14, ClientAction::Renew),
    (8, ClientAction::RenewUnicast),
    (4, ClientAction::Reboot),
    (8, ClientAction::Discover),
    (5, ClientAction::RequestWrong(0)),
    (6, ClientAction::Take(0)),
    (10, ClientAction::Release),
    (3, ClientAction::ReleaseOld),
    (2, ClientAction::ReleaseOther(0)),
    (2, ClientAction::Decline),
    (3, ClientAction::Inform),
    (2, ClientAction::NewClientId(0)),
    (1, ClientAction::NewMac),
    (3, ClientAction::Move(0)),
];

impl Plan {
    /// Returns the plan for a seed and a number of clients.
    pub fn new(seed: u64, clients: usize) -> Self {
        Plan {
            random: Random::new(seed),
            clients,
            round: 0,
        }
    }

    /// Draws the next round.
    pub fn round(&mut self) -> Round {
        self.round += 1;
        let actions = if self.round == 1 {
            (0..self.clients)
                .map(|client| (client, ClientAction::Lease))
                .collect()
        } else {
            let count = 10 + self.random.below(self.clients / 2 + 1);
            (0..count).map(|_| self.action()).collect()
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
            11..19 => vec![ServerAction::Wait(1 + self.random.below(6))],
            19..22 => vec![self.network_command(), self.reconfiguration()],
            22..24 => vec![ServerAction::Wait(2), self.end(), ServerAction::Wait(3)],
            _ => Vec::new(),
        };
        Round {
            number: self.round,
            actions,
            during,
            after,
        }
    }

    /// Draws a client and its action.
    fn action(&mut self) -> (usize, ClientAction) {
        let client = self.random.below(self.clients);
        let salt = self.random.salt();
        let action = match self.random.weighted(&ACTS) {
            ClientAction::RequestWrong(_) => ClientAction::RequestWrong(salt),
            ClientAction::Take(_) => ClientAction::Take(salt),
            ClientAction::ReleaseOther(_) => ClientAction::ReleaseOther(salt),
            ClientAction::NewClientId(_) => ClientAction::NewClientId(salt),
            ClientAction::Move(_) => ClientAction::Move(salt as usize % LINES),
            other => other,
        };
        (client, action)
    }

    /// Draws a lease command.
    fn lease_command(&mut self) -> ServerAction {
        let salt = self.random.salt();
        self.random.weighted(&[
            (8, ServerAction::LeaseAdd(salt)),
            (6, ServerAction::LeaseUpdate(salt)),
            (6, ServerAction::LeaseDelete(salt)),
            (3, ServerAction::LeaseDeleteByMac(salt)),
            (3, ServerAction::LeaseDeleteByClientId(salt)),
            (1, ServerAction::Wipe(salt)),
        ])
    }

    /// Draws a command that changes subnets or reservations.
    fn network_command(&mut self) -> ServerAction {
        let salt = self.random.salt();
        self.random.weighted(&[
            (2, ServerAction::SubnetDelete),
            (3, ServerAction::SubnetAdd),
            (3, ServerAction::SubnetUpdate(salt)),
            (3, ServerAction::ReservationAdd(salt)),
            (2, ServerAction::ReservationDelete(salt)),
        ])
    }

    /// Draws a reconfiguration, with another or the same configuration.
    fn reconfiguration(&mut self) -> ServerAction {
        let salt = self.random.salt();
        let variant = Variant(salt);
        self.random.weighted(&[
            (3, ServerAction::Reload(variant)),
            (3, ServerAction::ReloadSame),
            (3, ServerAction::ConfigSet(variant)),
            (3, ServerAction::HangUp(variant)),
            (2, ServerAction::Refused(salt)),
        ])
    }

    /// Draws an end of the server.
    fn end(&mut self) -> ServerAction {
        self.random
            .weighted(&[(2, ServerAction::Restart), (3, ServerAction::Kill)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A storm is repeatable: its actions depend on the seed alone.
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
