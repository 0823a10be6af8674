//! Two servers that are each other's high-availability partners (libdhcp_ha).

use std::net::{Ipv4Addr, SocketAddrV4};

use serde_json::{Value, json};

use crate::link::End;
use crate::{
    Client, Kea, Link, Place, Relay, Setup, control, eventually, eventually_some, kea_version,
};

/// The port on which the partners connect to each other. The addresses distinguish partners and
/// links.
const PARTNER_PORT: u16 = 6769;

/// The servers' names in the high-availability configuration.
const NAMES: [&str; 2] = ["server1", "server2"];

/// The high-availability mode of a pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// The first server serves, the second stands by.
    HotStandby,
    /// Each server serves a part of the clients, from its own pool.
    LoadBalancing,
}

impl Mode {
    /// Returns the mode's name, which is also the state in which both partners work.
    pub fn name(self) -> &'static str {
        match self {
            Mode::HotStandby => "hot-standby",
            Mode::LoadBalancing => "load-balancing",
        }
    }

    /// Returns the role of the second server.
    fn second_role(self) -> &'static str {
        match self {
            Mode::HotStandby => "standby",
            Mode::LoadBalancing => "secondary",
        }
    }
}

/// Two servers with the same subnet and pools, each the other's partner.
///
/// A server notices within about a second that its partner does not answer. In load balancing the
/// pool 100 to 149 belongs to the first server, 150 to 200 to the second.
#[derive(Debug)]
pub struct Pair {
    /// The primary.
    pub first: Kea,
    /// The standby or secondary.
    pub second: Kea,
    /// The mode.
    mode: Mode,
    /// The links by which the partner reaches the first and the second server.
    links: [Link; 2],
}

// ----- Starting -------------------------------------------------------------------------------

impl Pair {
    /// Starts two servers with the hook, and waits until they work together; `change` applies to
    /// the setup of both.
    #[track_caller]
    pub fn start(mode: Mode, multi_threading: bool, change: impl Fn(Setup) -> Setup) -> Self {
        let place = Place::take();
        let links = [5, 6].map(|host| Link::at(partner_address(place, host)));
        let places = [place, place.of_partner()];
        let start = |n: usize| {
            let setup = Setup::with_hook_at(places[n], json!({}))
                .multi_threading(multi_threading)
                .set("store-extended-info", json!(true))
                .in_subnet(json!({ "pools": pools(place, mode) }));
            change(setup)
                .kea_library("libdhcp_lease_cmds.so", json!({}))
                .kea_library("libdhcp_ha.so", parameters(place, mode, n, multi_threading))
                .start()
        };
        let pair = Pair {
            first: start(0),
            second: start(1),
            mode,
            links,
        };
        for (n, (kea, link)) in pair.servers().into_iter().zip(&pair.links).enumerate() {
            link.connect_to(if multi_threading {
                End::Listener(listener(place, n))
            } else {
                End::ControlSocket(kea.control_socket())
            });
        }
        pair.await_normal();
        pair
    }
}

/// Returns an address of the net, with the port of partners.
fn partner_address(place: Place, host: u8) -> SocketAddrV4 {
    SocketAddrV4::new(place.address(host), PARTNER_PORT)
}

/// Returns the address on which server number `n`, from 0, listens for its partner.
fn listener(place: Place, n: usize) -> SocketAddrV4 {
    partner_address(place, [3, 4][n])
}

/// Returns the address to which the partner of server number `n`, from 0, connects.
fn link_address(place: Place, n: usize) -> SocketAddrV4 {
    partner_address(place, [5, 6][n])
}

/// Returns the parameters of libdhcp_ha for server number `n`, from 0.
fn parameters(place: Place, mode: Mode, n: usize, multi_threading: bool) -> Value {
    let roles = ["primary", mode.second_role()];
    let peers: Vec<Value> = (0..2)
        .map(|peer| {
            let url = if peer == n {
                listener(place, peer)
            } else {
                link_address(place, peer)
            };
            json!({ "name": NAMES[peer], "role": roles[peer], "url": format!("http://{url}/") })
        })
        .collect();
    json!({ "high-availability": [{
        "this-server-name": NAMES[n],
        "mode": mode.name(),
        "heartbeat-delay": 300,
        "max-response-delay": 1000,
        "max-ack-delay": 500,
        "max-unacked-clients": 0,
        "multi-threading": {
            "enable-multi-threading": multi_threading,
            "http-dedicated-listener": multi_threading,
        },
        "peers": peers,
    }] })
}

/// Returns the pools of both servers.
fn pools(place: Place, mode: Mode) -> Value {
    match mode {
        Mode::HotStandby => json!([{ "pool": place.pool(100, 200) }]),
        Mode::LoadBalancing => {
            let pool = |first, last, name: &str| {
                let class = format!("HA_{name}");
                if kea_version().starts_with("2.") {
                    json!({ "pool": place.pool(first, last), "client-class": class })
                } else {
                    json!({ "pool": place.pool(first, last), "client-classes": [class] })
                }
            };
            json!([pool(100, 149, NAMES[0]), pool(150, 200, NAMES[1])])
        }
    }
}

// ----- One server -----------------------------------------------------------------------------

impl Setup {
    /// Makes the server one of two partners, of which the other never answers. It accepts any command from
    /// that one, at [`Kea::partner_command`].
    pub fn without_its_partner(self) -> Self {
        let mut parameters = parameters(self.place, Mode::HotStandby, 0, true);
        if !kea_version().starts_with("2.2.") {
            parameters["high-availability"][0]["restrict-commands"] = json!(false);
        }
        self.multi_threading(true)
            .kea_library("libdhcp_lease_cmds.so", json!({}))
            .kea_library("libdhcp_ha.so", parameters)
    }
}

impl Kea {
    /// Sends a command as a partner does, to the listener for partners: another thread than the main one
    /// executes it. Returns the whole answer.
    #[track_caller]
    pub fn partner_command(&self, name: &str, arguments: Value) -> Value {
        let command = json!({ "command": name, "arguments": arguments });
        let answer = control::post(listener(self.place(), 0), &command);
        answer.unwrap_or_else(|error| panic!("command {name}: {error}"))
    }
}

// ----- Control of a pair -----------------------------------------------------------------------

impl Pair {
    /// Returns both servers, the primary first.
    pub fn servers(&self) -> [&Kea; 2] {
        [&self.first, &self.second]
    }

    /// Returns the link by which the second server reaches the first.
    pub fn link_to_first(&self) -> &Link {
        &self.links[0]
    }

    /// Returns the link by which the first server reaches the second.
    pub fn link_to_second(&self) -> &Link {
        &self.links[1]
    }

    /// Waits until both servers work together.
    #[track_caller]
    pub fn await_normal(&self) {
        for kea in self.servers() {
            kea.await_ha_state(self.mode.name());
        }
    }

    /// Cuts the links, and waits until each server works alone.
    #[track_caller]
    pub fn partition(&self) {
        for link in &self.links {
            link.cut();
        }
        for kea in self.servers() {
            kea.await_ha_state("partner-down");
        }
    }

    /// Restores the links, and waits until the servers work together.
    #[track_caller]
    pub fn restore(&self) {
        for link in &self.links {
            link.restore();
        }
        self.await_normal();
    }

    /// Returns relay number `n`, from 0, which forwards to both servers.
    pub fn relay(&self, n: u8) -> Relay {
        let place = self.first.place();
        let servers = self.servers().map(|kea| kea.place().server());
        Relay::new(place.relay(n), place.client_port(), servers.to_vec())
    }

    /// Leases an address to the first client, from number `from` on, that server number `n`, from
    /// 0, serves in load balancing.
    #[track_caller]
    pub fn lease_from(&self, n: usize, relay: &Relay, from: u16) -> (Client, Ipv4Addr) {
        let own = |address: Ipv4Addr| usize::from(address.octets()[3] >= 150) == n;
        for number in from..from + 32 {
            let mut client = Client::new(number);
            if own(relay.discover(&client).yiaddr) {
                let address = relay.lease(&mut client).yiaddr;
                return (client, address);
            }
        }
        panic!("none of 32 clients is served by {}", NAMES[n]);
    }
}

impl Kea {
    /// Returns the high-availability part of `status-get`.
    #[track_caller]
    fn ha_status(&self) -> Value {
        self.command_ok("status-get", Value::Null)["high-availability"][0]["ha-servers"].take()
    }

    /// Waits until this server is in a high-availability state.
    #[track_caller]
    pub fn await_ha_state(&self, state: &str) {
        eventually(&format!("{state} at {}", self.place().server()), || {
            self.ha_status()["local"]["state"] == state
        });
    }

    /// Returns the names of the servers whose clients this one serves.
    #[track_caller]
    pub fn ha_scopes(&self) -> Vec<String> {
        let status = self.ha_status();
        let scopes = status["local"]["scopes"].as_array();
        let names = scopes.into_iter().flatten().filter_map(Value::as_str);
        names.map(str::to_owned).collect()
    }

    /// Returns Kea's lease of an address, if its database has one.
    #[track_caller]
    pub fn lease(&self, address: Ipv4Addr) -> Option<Value> {
        let arguments = json!({ "ip-address": address.to_string() });
        let mut answer = self.command("lease4-get", arguments);
        (answer["result"] == 0).then(|| answer["arguments"].take())
    }

    /// Returns all leases in Kea's database, ordered by address.
    #[track_caller]
    pub fn leases(&self) -> Vec<Value> {
        let mut answer = self.command("lease4-get-all", Value::Null);
        assert!(answer["result"] == 0 || answer["result"] == 3, "{answer}");
        match answer["arguments"]["leases"].take() {
            Value::Array(leases) => leases,
            _ => Vec::new(),
        }
    }

    /// Waits until Kea's database has a lease of an address that satisfies `is`. Returns it.
    #[track_caller]
    pub fn await_lease(&self, address: Ipv4Addr, is: impl Fn(&Value) -> bool) -> Value {
        eventually_some(&format!("the lease of {address}"), || {
            self.lease(address).filter(|lease| is(lease))
        })
    }
}
