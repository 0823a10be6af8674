//! The addresses and ports of one test.

use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};

/// The port of relays and clients; their addresses distinguish them.
const CLIENT_PORT: u16 = 6768;

/// The port of the hook's listener; its address distinguishes tests.
const LEASE_QUERY_PORT: u16 = 6767;

/// Number of places of one process; more of them would be those of the next process id.
const PLACES_A_PROCESS: u32 = 64;

/// Number of places: 127.1.0.0/24 to 127.254.255.0/24.
const PLACES: u32 = 254 * 256;

/// A loopback /24 and a server port for one test.
///
/// Addresses of the net: 1 is the hook's listener, 2 that of a partner; 3 to 6 are for the traffic
/// between partners; relays begin at 10; 100 to 200 are the default pool.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    /// The second and third octets of the net.
    net: [u8; 2],
    /// The port of kea-dhcp4.
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
            // Below the ports that the system assigns to outgoing connections.
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

    /// Returns the place of a second server in the same net.
    pub fn of_partner(&self) -> Self {
        Place {
            server_port: Place::take().server_port,
            listener: 2,
            ..*self
        }
    }

    /// Returns the place for a network of its own, where kea-dhcp4 has the port of a server.
    pub fn at_server_port(&self) -> Self {
        Place {
            server_port: 67,
            ..*self
        }
    }

    /// Returns the address and port of kea-dhcp4.
    pub fn server(&self) -> SocketAddrV4 {
        SocketAddrV4::new(Ipv4Addr::LOCALHOST, self.server_port)
    }

    /// Returns the address and port of the hook's listener, unless the test configures another.
    pub fn lease_query(&self) -> SocketAddrV4 {
        SocketAddrV4::new(self.address(self.listener), LEASE_QUERY_PORT)
    }

    /// Returns the port of relays and clients.
    pub fn client_port(&self) -> u16 {
        CLIENT_PORT
    }

    /// Returns an address of the net.
    pub fn address(&self, host: u8) -> Ipv4Addr {
        Ipv4Addr::new(127, self.net[0], self.net[1], host)
    }

    /// Returns the address of relay number `n`, from 0.
    pub fn relay(&self, n: u8) -> Ipv4Addr {
        self.address(10 + n)
    }

    /// Returns the net as a subnet, e.g. `127.5.6.0/24`.
    pub fn subnet(&self) -> String {
        format!("{}/24", self.address(0))
    }

    /// Returns addresses of the net as a pool, e.g. `127.5.6.100 - 127.5.6.200`.
    pub fn pool(&self, first: u8, last: u8) -> String {
        format!("{} - {}", self.address(first), self.address(last))
    }
}
