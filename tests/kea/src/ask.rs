//! Queries to the hook, in short forms for the tests.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddrV4, TcpStream};
use std::time::Duration;

use blq::{Answer, Binding, Connection, Done, Primary, Query, State, StatusCode, Timeouts};

use crate::{Client, Kea, eventually_some};

/// The longest waits for the hook.
const TIMEOUTS: Timeouts = Timeouts {
    connect: Duration::from_secs(30),
    data: Duration::from_secs(30),
};

impl Kea {
    /// Connects to the hook.
    #[track_caller]
    pub fn connect(&self) -> Connection {
        match self.try_connect() {
            Ok(connection) => connection,
            Err(error) => panic!("connecting to {}: {error}", self.place().lease_query()),
        }
    }

    /// Connects to the hook, if it accepts the connection.
    pub fn try_connect(&self) -> Result<Connection, blq::Error> {
        connect_to(self.place().lease_query())
    }

    /// Queries on a new connection. Returns the answer.
    #[track_caller]
    pub fn query(&self, query: &Query) -> Answer {
        self.connect().query(query)
    }

    /// Returns the bindings of a query that must succeed.
    #[track_caller]
    pub fn bindings(&self, query: &Query) -> Vec<Binding> {
        let answer = self.query(query);
        let done = answer.done.expect("DHCPLEASEQUERYDONE");
        assert_eq!(done.failure(), None, "{query:?}");
        answer.bindings
    }

    /// Returns the bindings of a query without qualifiers.
    #[track_caller]
    pub fn find(&self, primary: Primary) -> Vec<Binding> {
        self.bindings(&Query::new(primary))
    }

    /// Returns the binding of an address in any VPN, from a query for all configured addresses.
    #[track_caller]
    pub fn binding(&self, address: Ipv4Addr) -> Option<Binding> {
        let mut query = Query::new(Primary::All);
        query.vpn = Some(blq::Vss::All);
        let found = self.bindings(&query);
        found.into_iter().find(|binding| binding.address == address)
    }

    /// Waits until an address is in a state. Returns its binding.
    #[track_caller]
    pub fn await_state(&self, address: Ipv4Addr, state: State) -> Binding {
        eventually_some(&format!("{address} {state}"), || {
            self.binding(address)
                .filter(|binding| binding.state == Some(state))
        })
    }

    /// Waits until a client's lease is in the mirror. Returns its binding.
    #[track_caller]
    pub fn await_active(&self, client: &Client) -> Binding {
        let address = client.address.expect("the client has a lease");
        eventually_some(&format!("{address} leased to {:?}", client.chaddr), || {
            self.binding(address).filter(|binding| {
                binding.state == Some(State::ACTIVE) && binding.chaddr == client.chaddr
            })
        })
    }
}

impl Kea {
    /// Sends messages, each with its message-size, on a new connection without further ones (RFC 6926,
    /// section 6.1).
    #[track_caller]
    pub fn send_octets(&self, messages: &[u8]) -> TcpStream {
        let listener = self.place().lease_query();
        let mut stream = TcpStream::connect(listener).expect("connecting to the hook");
        let timeout = Some(TIMEOUTS.data);
        stream.set_read_timeout(timeout).expect("a timeout");
        stream.write_all(messages).expect("sent");
        stream.shutdown(Shutdown::Write).expect("half-closed");
        stream
    }
}

/// Returns the octets of all messages that the server sends until it closes the connection, without their
/// message-size.
#[track_caller]
pub fn received_octets(mut stream: TcpStream) -> Vec<Vec<u8>> {
    let mut octets = Vec::new();
    stream.read_to_end(&mut octets).expect("the end");
    let mut left = &octets[..];
    let mut received = Vec::new();
    while let Some((size, rest)) = left.split_first_chunk() {
        let size = usize::from(u16::from_be_bytes(*size));
        let (message, rest) = rest.split_at_checked(size).expect("a whole message");
        received.push(message.to_vec());
        left = rest;
    }
    assert!(left.is_empty(), "octets after the last message: {left:?}");
    received
}

/// Connects to a hook with a listener other than the default one.
pub fn connect_to(server: SocketAddrV4) -> Result<Connection, blq::Error> {
    Connection::open(server, &TIMEOUTS)
}

/// Returns the status code and text of a query that must fail.
#[track_caller]
pub fn failure(done: &Done) -> (StatusCode, &str) {
    let status = done.failure().expect("a status other than success");
    (status.code, &status.text)
}

/// Returns the addresses of bindings.
pub fn addresses(bindings: &[Binding]) -> Vec<Ipv4Addr> {
    bindings.iter().map(|binding| binding.address).collect()
}

/// Returns a query by a client's MAC address.
pub fn by_mac(client: &Client) -> Primary {
    Primary::Mac {
        htype: client.htype,
        address: client.chaddr.clone(),
    }
}
