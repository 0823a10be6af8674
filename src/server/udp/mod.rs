//! Answering DHCPLEASEQUERYs over UDP: access and limits around the engine (RFC 4388 section 7).
//!
//! Kea receives the datagrams and sends the replies, on its threads: nothing here waits for a peer.

mod rate;

use std::net::Ipv4Addr;
use std::time::Instant;

use proto::message::GIADDR;

use crate::config::Config;
use crate::query::QueryType;
use crate::query::udp::engine::UdpEngine;
use crate::query::udp::request::{self, Request};
use crate::query::udp::{Reply, Unanswered};
use crate::server::access::AccessList;
use crate::server::peer_log::{PeerLog, UdpEnd};
use crate::server::udp::rate::RateLimit;

/// A datagram with a DHCPLEASEQUERY.
#[derive(Clone, Copy, Debug)]
pub struct Datagram<'a> {
    /// The message.
    pub octets: &'a [u8],
    /// The address from which it was sent.
    pub source: Ipv4Addr,
    /// The server's address that received it.
    pub local: Ipv4Addr,
}

/// Answers DHCPLEASEQUERYs.
#[derive(Debug)]
pub struct UdpServer {
    /// Finds the answers.
    engine: UdpEngine,
    /// The requesters.
    access: AccessList,
    /// The limit for each requester.
    rate: RateLimit,
    /// Log messages and counters.
    log: PeerLog,
}

impl UdpServer {
    /// Creates a server with the requesters and limits of `config`.
    pub fn new(config: &Config, engine: UdpEngine, log: PeerLog) -> UdpServer {
        UdpServer {
            engine,
            access: AccessList::new(&config.requesters),
            rate: RateLimit::new(config.udp_rate_limit),
            log,
        }
    }

    /// Answers a datagram for which [`is_lease_query`](request::is_lease_query) is true, if there is a reply: `send`
    /// sends it to the requester. `is_own` says whether an address other than `local` is this server's.
    pub fn answer(
        &self,
        datagram: Datagram<'_>,
        is_own: impl FnOnce(Ipv4Addr) -> bool,
        send: impl FnOnce(Ipv4Addr, &[u8]) -> Result<(), String>,
    ) {
        let began = Instant::now();
        let log = &self.log;
        log.udp_received();
        let giaddr = giaddr(datagram.octets);
        let mut request = None;
        let answered = self.try_answer(datagram, giaddr, is_own, began, &mut request);
        let answered = answered.and_then(|reply| match send(giaddr, &reply.message) {
            Ok(()) => Ok(reply),
            Err(error) => Err(Unanswered::NotSent(error)),
        });
        let end = UdpEnd {
            giaddr,
            source: datagram.source,
            request: request.as_ref(),
            took: began.elapsed(),
        };
        match answered {
            Ok(reply) => {
                if self.access.find(datagram.source).is_none() {
                    log.udp_source(datagram.source, giaddr);
                }
                log.udp_answered(&end, &reply);
            }
            Err(why) => log.udp_dropped(&end, &why),
        }
    }

    /// Answers a datagram; leaves the query in `read` if it can be read.
    fn try_answer(
        &self,
        datagram: Datagram<'_>,
        giaddr: Ipv4Addr,
        is_own: impl FnOnce(Ipv4Addr) -> bool,
        now: Instant,
        read: &mut Option<Request>,
    ) -> Result<Reply, Unanswered> {
        // First what costs least: a flood that is not permitted is not read.
        let requester = match self.access.find(giaddr) {
            Some(requester) => requester,
            None if giaddr.is_unspecified() => return Err(Unanswered::NoRequester(giaddr)),
            None => return Err(Unanswered::NotPermitted),
        };
        if !self.rate.admits(giaddr, now) {
            return Err(Unanswered::RateLimit);
        }
        let request = read.insert(request::read(datagram.octets)?);
        let query_type: QueryType = request.key.query_type();
        if !requester.query_types.contains(query_type) {
            return Err(Unanswered::QueryType(query_type));
        }
        if let Some(server) = request.server_identifier {
            let is_this = server == datagram.local
                || self.engine.is_server_identifier(server)
                || is_own(server);
            if !is_this {
                return Err(Unanswered::OtherServer(server));
            }
        }
        self.engine.answer(request, datagram.local)
    }

    /// Logs how many messages were omitted. Called about once a minute.
    pub fn summarise(&self) {
        self.log.summarise();
    }
}

/// Returns giaddr; 0.0.0.0 if the message is too short to have it.
fn giaddr(message: &[u8]) -> Ipv4Addr {
    let octets = message.get(GIADDR..).and_then(<[u8]>::first_chunk::<4>);
    octets
        .copied()
        .map_or(Ipv4Addr::UNSPECIFIED, Ipv4Addr::from)
}
