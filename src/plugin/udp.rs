//! DHCPLEASEQUERYs over UDP, which Kea receives and sends for this library.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::{Mutex, RwLock};

use crate::config::Config;
use crate::mirror::Mirror;
use crate::plugin::kea::{Kea, Result};
use crate::query::udp::engine::UdpEngine;
use crate::query::udp::request::is_lease_query;
use crate::server::udp::{Datagram, UdpServer};
use crate::server::{Counts, PeerLog, SUMMARY_INTERVAL};

/// The decision about a message that Kea has received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Kea processes it.
    Leave,
    /// Kea drops the message, which was a DHCPLEASEQUERY.
    Drop,
}

/// The queries over UDP of the configuration in force.
#[derive(Default)]
pub struct UdpQueries {
    /// Answers them; `None` if none are to be answered. Written while no packet is processed, so that packet threads
    /// never wait.
    server: RwLock<Option<Arc<UdpServer>>>,
    /// When omitted log messages were last summarised.
    summarised: Mutex<Option<Instant>>,
}

impl UdpQueries {
    /// Answers queries from `mirror` from now on, if `config` says so.
    pub fn start(&self, config: &Config, mirror: Arc<Mirror>, counts: &Arc<Counts>) {
        let server = config.udp_query_enabled.then(|| {
            let engine = UdpEngine::new(mirror, config.non_sensitive_options.clone());
            let log = PeerLog::new(Arc::clone(counts));
            Arc::new(UdpServer::new(config, engine, log))
        });
        *self.server.write() = server;
    }

    /// Answers no queries from now on.
    pub fn stop(&self) {
        *self.server.write() = None;
    }

    /// Handles a message that Kea has received, on any of its packet threads: `send` sends the reply to a
    /// DHCPLEASEQUERY to giaddr. Any other message is left to Kea after a look at its type.
    pub fn received(
        &self,
        kea: &impl Kea,
        datagram: Datagram<'_>,
        send: impl FnOnce(Ipv4Addr, &[u8]) -> Result<()>,
    ) -> Verdict {
        if !is_lease_query(datagram.octets) {
            return Verdict::Leave;
        }
        // Not under the lock: a query may wait for the tables.
        let Some(server) = self.server.read().clone() else {
            return Verdict::Leave;
        };
        let is_own = |address| kea.is_own_address(address).unwrap_or(false);
        server.answer(datagram, is_own, |giaddr, reply| {
            send(giaddr, reply).map_err(|error| error.to_string())
        });
        Verdict::Drop
    }

    /// Logs how many messages were omitted, about once a minute.
    pub fn tick(&self, now: Instant) {
        let server = self.server.read().clone();
        let mut summarised = self.summarised.lock();
        let last = *summarised.get_or_insert(now);
        if let Some(server) = server.filter(|_| now >= last + SUMMARY_INTERVAL) {
            *summarised = Some(now);
            server.summarise();
        }
    }
}
