//! Asking the hook: short forms for what nearly every test does.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use blq::{Answer, Binding, Connection, Done, Primary, Query, State, StatusCode, Timeouts};

use crate::{Client, Kea, eventually_some};

/// How long the hook may leave a test without an octet.
const TIMEOUTS: Timeouts = Timeouts {
    connect: Duration::from_secs(30),
    data: Duration::from_secs(30),
};

impl Kea {
    /// A connection to the hook.
    #[track_caller]
    pub fn connect(&self) -> Connection {
        match self.try_connect() {
            Ok(connection) => connection,
            Err(error) => panic!("connecting to {}: {error}", self.place().lease_query()),
        }
    }

    /// A connection to the hook, if it takes one.
    pub fn try_connect(&self) -> Result<Connection, blq::Error> {
        connect_to(self.place().lease_query())
    }

    /// The answer to a query on a connection of its own.
    #[track_caller]
    pub fn query(&self, query: &Query) -> Answer {
        self.connect().query(query)
    }

    /// The bindings of a query that must succeed.
    #[track_caller]
    pub fn bindings(&self, query: &Query) -> Vec<Binding> {
        let answer = self.query(query);
        let done = answer.done.expect("DHCPLEASEQUERYDONE");
        assert_eq!(done.failure(), None, "{query:?}");
        answer.bindings
    }

    /// The bindings a primary query without qualifiers finds.
    #[track_caller]
    pub fn find(&self, primary: Primary) -> Vec<Binding> {
        self.bindings(&Query::new(primary))
    }

    /// What all configured addresses say of one address, in whichever VPN.
    #[track_caller]
    pub fn binding(&self, address: Ipv4Addr) -> Option<Binding> {
        let mut query = Query::new(Primary::All);
        query.vpn = Some(blq::Vss::All);
        let found = self.bindings(&query);
        found.into_iter().find(|binding| binding.address == address)
    }

    /// Waits until an address is in a state; its binding then.
    #[track_caller]
    pub fn await_state(&self, address: Ipv4Addr, state: State) -> Binding {
        eventually_some(&format!("{address} {state}"), || {
            self.binding(address)
                .filter(|binding| binding.state == Some(state))
        })
    }

    /// Waits until a client's lease is known; its binding then.
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

/// A connection to a hook that listens elsewhere than by default.
pub fn connect_to(server: SocketAddrV4) -> Result<Connection, blq::Error> {
    Connection::open(server, &TIMEOUTS)
}

/// The status code and text of a query that must fail.
#[track_caller]
pub fn failure(done: &Done) -> (StatusCode, &str) {
    let status = done.failure().expect("a status other than success");
    (status.code, &status.text)
}

/// The addresses of bindings.
pub fn addresses(bindings: &[Binding]) -> Vec<Ipv4Addr> {
    bindings.iter().map(|binding| binding.address).collect()
}

/// A query by a client's MAC address.
pub fn by_mac(client: &Client) -> Primary {
    Primary::Mac {
        htype: client.htype,
        address: client.chaddr.clone(),
    }
}
