//! Queries for generated leases, and the number of bindings that each returns.

// Each program uses a part.
#![allow(dead_code)]

use blq::{Primary, Query, Vss};

use super::leases::{Leases, NODE, RemoteId, VPN};

/// Bindings that queries for recent changes return, about: 1/120 of what a relay agent has of
/// 1,000,000 leases.
pub const RECENT: u32 = 834;

/// A query and the number of bindings that it returns.
#[derive(Clone, Debug)]
pub struct Expected {
    /// The query.
    pub query: Query,
    /// Bindings that it returns.
    pub bindings: u32,
}

/// A query for one lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// By MAC address.
    Mac,
    /// By client identifier.
    ClientId,
    /// By remote-id.
    RemoteId,
}

impl By {
    /// All of them.
    pub const ALL: [By; 3] = [By::Mac, By::ClientId, By::RemoteId];

    /// The name in tables.
    pub fn name(self) -> &'static str {
        match self {
            By::Mac => "MAC",
            By::ClientId => "client-id",
            By::RemoteId => "remote-id",
        }
    }
}

/// A query for the recent changes among many bindings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recent {
    /// Of a relay agent's clients, in the default VPN.
    RelayId,
    /// Of the clients with a remote-id that a fifth of them share, in the default VPN.
    RemoteId,
    /// Of a relay agent's clients in all VPNs.
    RelayIdInAllVpns,
    /// Of a relay agent's clients in the second VPN: a third of what the default VPN has.
    RelayIdInSecondVpn,
    /// Of all configured addresses in the default VPN, in all states.
    All,
    /// Of all configured addresses in the second VPN, in all states.
    AllInSecondVpn,
}

impl Recent {
    /// All of them.
    pub const ALL: [Recent; 6] = [
        Recent::RelayId,
        Recent::RemoteId,
        Recent::RelayIdInAllVpns,
        Recent::RelayIdInSecondVpn,
        Recent::All,
        Recent::AllInSecondVpn,
    ];

    /// The name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Recent::RelayId => "relay-id, query-start-time",
            Recent::RemoteId => "remote-id, query-start-time",
            Recent::RelayIdInAllVpns => "relay-id, query-start-time, VPN-ID of all VPNs",
            Recent::RelayIdInSecondVpn => "relay-id, query-start-time, VPN-ID of a VPN",
            Recent::All => "all addresses in all states, query-start-time",
            Recent::AllInSecondVpn => {
                "all addresses in all states, query-start-time, VPN-ID of a VPN"
            }
        }
    }

    /// Whether the set has bindings for it: the uniform one has neither a second VPN nor shared
    /// remote-ids.
    pub fn is_in(self, leases: &Leases) -> bool {
        leases.is_realistic() || matches!(self, Recent::RelayId | Recent::All)
    }
}

/// The relay agent that queries are for.
const RELAY: u32 = 3;

impl Leases {
    /// The index-th query for one lease, at random.
    pub fn one(&self, index: u32, by: By) -> Query {
        let number = self.scattered(index, |number| {
            self.is_in_default_vpn(number)
                && match by {
                    By::Mac => true,
                    By::ClientId => !self.client(number).client_id.is_empty(),
                    By::RemoteId => self.remote_id(number) == RemoteId::Own,
                }
        });
        let client = self.client(number);
        Query::new(match by {
            By::Mac => Primary::Mac {
                htype: 1,
                address: client.mac,
            },
            By::ClientId => Primary::ClientId(client.client_id),
            By::RemoteId => Primary::RemoteId(client.remote_id),
        })
    }

    /// A query for a relay agent's active bindings in the default VPN: about a tenth of all.
    pub fn relay_query(&self) -> Expected {
        let query = Query::new(Primary::RelayId(self.relay_id(RELAY)));
        let numbers = (0..self.count).filter(|number| self.is_returned(Recent::RelayId, *number));
        Expected {
            query,
            bindings: numbers.count() as u32,
        }
    }

    /// The bindings that a server returns to the same query which knows no VPNs.
    pub fn relay_bindings_in_all_vpns(&self) -> u32 {
        let of = |number: &u32| self.is_returned(Recent::RelayIdInAllVpns, *number);
        (0..self.count).filter(of).count() as u32
    }

    /// A query for all configured addresses of the default VPN.
    pub fn all_query(&self) -> Expected {
        Expected {
            query: Query::new(Primary::All),
            bindings: self.pool_of_default_vpn(),
        }
    }

    /// A query for the last changes, `wanted` or a few more: of as many as changed in the same
    /// second.
    pub fn recent_query(&self, recent: Recent, wanted: u32) -> Expected {
        // The realistic set's changes are in the order of time; the uniform set's must be sorted.
        let mut start = self.now;
        let mut bindings = 0;
        let mut latest: Vec<u32>;
        let mut positions = self.count;
        if self.is_realistic() {
            while positions > 0 {
                let change = self.changes(positions - 1..positions).next();
                let Some(change) = change else { break };
                if bindings >= wanted && change.at < start {
                    break;
                }
                start = change.at;
                bindings += u32::from(self.is_returned(recent, change.number));
                positions -= 1;
            }
        } else {
            let returned = self.changes(0..self.count);
            let returned = returned.filter(|change| self.is_returned(recent, change.number));
            latest = returned.map(|change| change.at).collect();
            latest.sort_unstable_by(|a, b| b.cmp(a));
            let last = latest.len().min(wanted as usize).saturating_sub(1);
            start = latest.get(last).copied().unwrap_or(start);
            bindings = latest.partition_point(|at| *at >= start) as u32;
        }
        let primary = match recent {
            Recent::RelayId | Recent::RelayIdInAllVpns | Recent::RelayIdInSecondVpn => {
                Primary::RelayId(self.relay_id(RELAY))
            }
            Recent::RemoteId => Primary::RemoteId(NODE.to_vec()),
            Recent::All | Recent::AllInSecondVpn => Primary::All,
        };
        let vpn = match recent {
            Recent::RelayId | Recent::RemoteId | Recent::All => None,
            Recent::RelayIdInAllVpns => Some(Vss::All),
            Recent::RelayIdInSecondVpn | Recent::AllInSecondVpn => Some(Vss::Name(VPN.to_owned())),
        };
        let query = Query {
            start: Some(start),
            // Changes made by the benchmark itself come later.
            end: Some(self.last_change()),
            vpn,
            ..Query::new(primary)
        };
        Expected { query, bindings }
    }

    /// Whether a binding is among those that changed by its last change and a query returns.
    pub fn is_returned(&self, recent: Recent, number: u32) -> bool {
        let is_in_vpn = match recent {
            Recent::RelayId | Recent::RemoteId | Recent::All => self.is_in_default_vpn(number),
            Recent::RelayIdInAllVpns => true,
            Recent::RelayIdInSecondVpn | Recent::AllInSecondVpn => !self.is_in_default_vpn(number),
        };
        let is_active = || self.fate(number).is_active();
        is_in_vpn
            && match recent {
                Recent::RelayId | Recent::RelayIdInAllVpns | Recent::RelayIdInSecondVpn => {
                    is_active() && self.relay(number) == RELAY
                }
                Recent::RemoteId => is_active() && self.remote_id(number) == RemoteId::Node,
                Recent::All | Recent::AllInSecondVpn => true,
            }
    }
}
