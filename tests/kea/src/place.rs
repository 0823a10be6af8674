//! Addresses and ports of one test.

use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};

/// Where relays and clients listen; their addresses tell them apart.
const CLIENT_PORT: u16 = 6768;

/// Where the hook answers; its address tells tests apart.
const LEASE_QUERY_PORT: u16 = 6767;

/// How many places one process takes before it meets the next process id's.
const PLACES_A_PROCESS: u32 = 64;

/// Places there are: 127.1.0.0/24 up to 127.254.255.0/24.
const PLACES: u32 = 254 * 256;

/// A loopback /24 and a server port that one test has to itself.
///
/// Addresses of the net: 1 is the hook's listener, 2 that of a partner's; 3 to 6 are for the
/// traffic between partners; 10 and up relays, 100 to 200 the default pool.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    /// The /24's third-highest and second-lowest octets.
    net: [u8; 2],
    /// Where kea-dhcp4 listens for DHCP messages.
    server_port: u16,
    /// The address in the net where the hook listens.
    listener: u8,
}

impl Place {
    /// Takes the next free place.
    pub fn take() -> Self {
        static TAKEN: AtomicU32 = AtomicU32::new(0);
        let first = process::id().wrapping_mul(PLACES_A_PROCESS);
        loop {
            let index = first.wrapping_add(TAKEN.fetch_add(1, Ordering::Relaxed)) % PLACES;
            let [.., high, low] = index.to_be_bytes();
            let net = [high + 1, low];
            // Below the ports the system gives to outgoing connections.
            let server_port = 10_000 + u16::try_from(index % 20_000).expect("below 20,000");
            if UdpSocket::bind((Ipv4Addr::LOCALHOST, server_port)).is_ok() {
                return Place {
                    net,
                    server_port,
                    listener: 1,
                };
            }
        }
    }

    /// The place of a second server in the same net.
    pub fn of_partner(&self) -> Self {
        Place {
            server_port: Place::take().server_port,
            listener: 2,
            ..*self
        }
    }

    /// Where kea-dhcp4 listens for DHCP messages.
    pub fn server(&self) -> SocketAddrV4 {
        SocketAddrV4::new(Ipv4Addr::LOCALHOST, self.server_port)
    }

    /// Where the hook listens for leasequeries unless the test says otherwise.
    pub fn lease_query(&self) -> SocketAddrV4 {
        SocketAddrV4::new(self.address(self.listener), LEASE_QUERY_PORT)
    }

    /// The port kea-dhcp4 sends to, where relays and clients listen.
    pub fn client_port(&self) -> u16 {
        CLIENT_PORT
    }

    /// An address in this place's net.
    pub fn address(&self, host: u8) -> Ipv4Addr {
        Ipv4Addr::new(127, self.net[0], self.net[1], host)
    }

    /// The address of the relay number `n`, from 0.
    pub fn relay(&self, n: u8) -> Ipv4Addr {
        self.address(10 + n)
    }

    /// This place's net as a subnet, e.g. `127.5.6.0/24`.
    pub fn subnet(&self) -> String {
        format!("{}/24", self.address(0))
    }

    /// Addresses of the net as a pool, e.g. `127.5.6.100 - 127.5.6.200`.
    pub fn pool(&self, first: u8, last: u8) -> String {
        format!("{} - {}", self.address(first), self.address(last))
    }
}
