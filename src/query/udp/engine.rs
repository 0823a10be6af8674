//! From a DHCPLEASEQUERY to the address that its reply is about (RFC 4388 section 6.4.1).

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::Arc;

use crate::mirror::view::View;
use crate::mirror::{Cursor, Entry, Identity, Mirror, NotNow, Table};
use crate::model::binding::Binding;
use crate::model::state::State;
use crate::model::time::Time;
use crate::model::vpn::{Vpn, VpnSelector};
use crate::query::reply::Projector;
use crate::query::udp::reply::Writer;
use crate::query::udp::request::{Key, MAX_REPLY, Request};
use crate::query::udp::{Reply, Unanswered};

/// The most bindings of a client that are visited: bounds the time that Kea's thread spends on a query.
const MOST_VISITS: u64 = 2_048;

/// More addresses than fit a message.
const MOST_ADDRESSES: usize = MAX_REPLY / 4;

/// The active bindings of a client or relay agent.
#[derive(Debug, Default)]
struct Active {
    /// The addresses, ascending.
    addresses: Vec<Ipv4Addr>,
    /// The binding of the most recent transaction, of equals that of the lowest address, and the view in which it is in
    /// the VPN of the query.
    latest: Option<(Binding, Arc<View>)>,
}

/// Answers DHCPLEASEQUERYs from a mirror, on Kea's threads: no step takes
/// longer than a part of a scan, or a millisecond of waiting for one.
#[derive(Debug)]
pub struct UdpEngine {
    /// The bindings.
    mirror: Arc<Mirror>,
    /// `non-sensitive-options`: the options that requesters may receive; `None` for all.
    non_sensitive: Option<BTreeSet<u8>>,
    /// The clock of replies.
    clock: fn() -> Time,
}

impl From<NotNow> for Unanswered {
    fn from(not_now: NotNow) -> Unanswered {
        match not_now {
            NotNow::Unready(unready) => Unanswered::Unready(unready),
            NotNow::Busy => Unanswered::Busy,
        }
    }
}

impl UdpEngine {
    /// Returns an engine whose replies have no options but those in `non_sensitive` and mandatory ones.
    pub fn new(mirror: Arc<Mirror>, non_sensitive: Option<BTreeSet<u8>>) -> UdpEngine {
        UdpEngine {
            mirror,
            non_sensitive,
            clock: Time::now,
        }
    }

    /// Sets another clock.
    pub fn with_clock(self, clock: fn() -> Time) -> UdpEngine {
        UdpEngine { clock, ..self }
    }

    /// Whether an address is configured as a server identifier.
    pub fn is_server_identifier(&self, address: Ipv4Addr) -> bool {
        let is_one = |table: &Table| table.kea_config().is_server_identifier(address);
        self.mirror.read_briefly(is_one).unwrap_or(false)
    }

    /// Answers a query that was sent to the server's address `local`.
    ///
    /// # Errors
    /// The reason for which there is no reply.
    pub fn answer(&self, request: &Request, local: Ipv4Addr) -> Result<Reply, Unanswered> {
        // The reply includes every change that Kea made before.
        let configured = |table: &Table| table.kea_config().server_identifier();
        let configured = self.mirror.read_briefly(configured)?;
        let now = (self.clock)();
        let writer = Writer {
            request,
            server_identifier: configured.unwrap_or(local),
        };
        let vpn = request.vpn.clone().unwrap_or_default();
        match &request.key {
            Key::Address(address) => self.by_address(&writer, *address, &vpn, now),
            Key::Identity(identity) => self.by_identity(&writer, identity, vpn, now),
        }
    }

    /// Answers a query by IP address.
    fn by_address(
        &self,
        writer: &Writer<'_>,
        address: Ipv4Addr,
        vpn: &Vpn,
        now: Time,
    ) -> Result<Reply, Unanswered> {
        let (view, binding) = self
            .mirror
            .read_briefly(|table| (Arc::clone(table.view()), table.binding(address)))?;
        let Some(binding) = &binding else {
            let range = view.range_of(address.to_bits());
            return match range.is_some_and(|range| range.vpn == *vpn) {
                true => writer.unassigned(address),
                false => writer.unknown(address, false),
            };
        };
        let binding = binding.view();
        let mut projector = Projector::new(&view, now);
        let projection = projector.binding(binding);
        match projection.filter(|projection| projection.vpn == vpn) {
            // Other addresses of the client belong to the reply to a query by client only.
            Some(projection) if projection.state == State::Active => {
                writer.active(&projection, &[], |option| self.is_non_sensitive(option))
            }
            Some(_) if view.lists(binding, now) => writer.unassigned(address),
            _ => writer.unknown(address, false),
        }
    }

    /// Answers a query by MAC address, client identifier or remote-id.
    fn by_identity(
        &self,
        writer: &Writer<'_>,
        identity: &Identity,
        vpn: Vpn,
        now: Time,
    ) -> Result<Reply, Unanswered> {
        let is_by_remote_id = matches!(identity, Identity::RemoteId(_));
        let found = self.active(identity, vpn, now)?;
        let Some((latest, view)) = found.latest else {
            return writer.unknown(Ipv4Addr::UNSPECIFIED, is_by_remote_id);
        };
        let mut others = found.addresses;
        others.retain(|address| *address != latest.address);
        // By a later view the binding could be in another VPN.
        let mut projector = Projector::new(&view, now);
        match projector.binding(latest.view()) {
            Some(projection) => {
                writer.active(&projection, &others, |option| self.is_non_sensitive(option))
            }
            None => writer.unknown(Ipv4Addr::UNSPECIFIED, is_by_remote_id),
        }
    }

    /// Returns the active bindings of a client or relay agent in `vpn`.
    ///
    /// # Errors
    /// There are too many of them.
    fn active(&self, identity: &Identity, vpn: Vpn, now: Time) -> Result<Active, Unanswered> {
        let vpn = VpnSelector::One(vpn);
        let count = |table: &Table| table.find(identity).map_or(0, |found| found.len());
        if self.mirror.read_briefly(count)? > MOST_VISITS {
            return Err(Unanswered::TooLong);
        }
        let mut cursor = Cursor::by_identity(identity.clone(), vpn.clone(), now);
        let mut active = Active::default();
        let mut visits = 0;
        while let Some(part) = self
            .mirror
            .read_briefly(|table| cursor.part(table, usize::MAX))?
        {
            part.fetch();
            let mut projector = Projector::new(&part.view, now);
            for entry in cursor.entries(&part) {
                let Entry::Bound(found) = entry else { continue };
                // Others may have been added since they were counted.
                visits += 1;
                if visits > MOST_VISITS || active.addresses.len() > MOST_ADDRESSES {
                    return Err(Unanswered::TooLong);
                }
                let binding = found.binding();
                let Some(projection) = projector.binding(binding) else {
                    continue;
                };
                if projection.state != State::Active || !vpn.selects(projection.vpn) {
                    continue;
                }
                active.addresses.push(binding.address);
                // Ascending: of equals, the lowest address is the first.
                let is_later =
                    |(latest, _): &(Binding, _)| binding.last_transaction > latest.last_transaction;
                if active.latest.as_ref().is_none_or(is_later) {
                    active.latest = Some((binding.to_owned(), Arc::clone(&part.view)));
                }
            }
        }
        Ok(active)
    }

    /// Whether the requester may receive an option.
    fn is_non_sensitive(&self, option: u8) -> bool {
        let options = self.non_sensitive.as_ref();
        options.is_none_or(|options| options.contains(&option))
    }
}
