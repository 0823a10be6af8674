//! Queries over UDP to a Kea on Ethernet, with raw sockets and with those of the system.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::process::Command;

use kea_tests::packet::{Message, MessageType, code};
use kea_tests::{Client, Host, Kea, Relay, Requester, Setup, eventually_some};
use serde_json::{Value, json};

/// The name of an Ethernet interface.
const ETHERNET: &str = "eth0";

/// Kea's address on the Ethernet.
const SERVER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

/// Another address of Kea's host, on which it listens, too.
const SECOND: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 9);

/// A requester on the same Ethernet.
const NEAR: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);

/// A requester behind the host of the other.
const FAR: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);

/// Returns an address with the port of a server.
fn server_port(address: Ipv4Addr) -> SocketAddrV4 {
    SocketAddrV4::new(address, 67)
}

/// Returns a setup of a Kea on Ethernet, with the value of `interfaces-config`.
fn setup(interfaces: Value) -> Setup {
    let mut setup = Setup::with_hook(json!({ "requesters": [NEAR, FAR] }))
        .set("interfaces-config", interfaces)
        .subnets(json!([{
            "id": 1,
            "subnet": "192.0.2.0/24",
            "pools": [{ "pool": "192.0.2.100 - 192.0.2.110" }],
        }]));
    setup.place = setup.place.at_server_port();
    setup
}

/// A Kea on one end of a cable, and the host on the other end.
struct Network {
    /// The Kea.
    kea: Kea,
    /// The other host, with the addresses of both requesters.
    requesters: Host,
    /// Whether Kea uses raw sockets.
    is_raw: bool,
}

impl Network {
    /// Starts a Kea; `None` without the privilege to create its network.
    fn start(socket_type: &str, is_multi_threaded: bool) -> Option<Network> {
        let (server, requesters) = (Host::create()?, Host::create()?);
        Host::connect([
            (&server, ETHERNET, "192.0.2.1/24"),
            (&requesters, ETHERNET, "192.0.2.2/24"),
        ]);
        requesters.add_address(FAR);
        server.ip(&format!("address add {SECOND}/24 dev {ETHERNET}"));
        server.ip(&format!("route add {FAR}/32 via {NEAR}"));
        let interfaces = json!({ "interfaces": [ETHERNET], "dhcp-socket-type": socket_type });
        let setup = setup(interfaces).multi_threading(is_multi_threaded);
        let kea = server.run(|| setup.start());
        Some(Network {
            kea,
            requesters,
            is_raw: socket_type == "raw",
        })
    }

    /// Asks Kea at each of its addresses, as both requesters. Replies come from the address asked.
    fn ask(&self) {
        let lease = || {
            let port = self.kea.place().client_port();
            let relay = Relay::new(NEAR, port, vec![server_port(SERVER)]);
            let mut client = Client::new(1);
            relay.lease(&mut client);
            (client, relay)
        };
        let (client, relay) = self.requesters.run(lease);
        let address = client.address.expect("a lease");
        for giaddr in [NEAR, FAR] {
            let requester = self.requesters.run(|| Requester::at(giaddr));
            for server in [SERVER, SECOND].map(server_port) {
                let (octets, from) = requester.ask_at(server, &requester.by_mac(&client));
                assert_eq!(from, server, "the address asked");
                let reply = Message::decode(&octets).expect("a message");
                assert_eq!(reply.message_type(), Some(MessageType::LEASE_ACTIVE));
                assert_eq!((reply.ciaddr, reply.giaddr), (address, giaddr));
                let identifier = reply.option(code::SERVER_IDENTIFIER);
                assert_eq!(identifier, Some(server.ip().octets().to_vec()));
                // The server identifier is one of this server's addresses, or another server's.
                let query = requester.by_address(address);
                let of = |id: Ipv4Addr| query.clone().with(code::SERVER_IDENTIFIER, id.octets());
                requester.ask_at(server, &of(SECOND));
                requester.send_octets(server, &of(NEAR).encode());
                assert_eq!(requester.receive_octets(&query), None);
            }
            if giaddr == NEAR {
                self.broadcast(&requester, &client);
            }
        }
        // Kea still serves its clients.
        relay.renew(&client);
    }

    /// Broadcasts a query: a reply comes from the address of a socket, and raw sockets receive it.
    fn broadcast(&self, requester: &Requester, client: &Client) {
        let query = requester.by_mac(client);
        let destination = server_port(Ipv4Addr::BROADCAST);
        requester.send_octets(destination, &query.encode());
        let reply = requester.receive_octets(&query);
        assert_eq!(reply.is_some(), self.is_raw);
        if let Some((octets, from)) = reply {
            assert_eq!(from, server_port(SERVER));
            let reply = Message::decode(&octets).expect("a message");
            let identifier = reply.option(code::SERVER_IDENTIFIER);
            assert_eq!(identifier, Some(SERVER.octets().to_vec()));
        }
    }
}

/// RFC 4388 section 6.4.3.
#[test]
fn replies_leave_raw_sockets_from_the_address_asked() {
    if let Some(network) = Network::start("raw", false) {
        network.ask();
    }
}

/// Likewise on packet threads.
#[test]
fn replies_leave_raw_sockets_on_packet_threads() {
    if let Some(network) = Network::start("raw", true) {
        network.ask();
    }
}

/// Likewise by sockets of the system.
#[test]
fn replies_leave_udp_sockets_from_the_address_asked() {
    for is_multi_threaded in [false, true] {
        if let Some(network) = Network::start("udp", is_multi_threaded) {
            network.ask();
        }
    }
}

/// The contract: replies follow `outbound-interface`, as Kea's do.
#[test]
fn replies_follow_the_routes_if_kea_does() {
    let hosts = [Host::create(), Host::create(), Host::create()];
    let [Some(server), Some(near), Some(far)] = hosts else {
        return;
    };
    Host::connect([
        (&server, ETHERNET, "192.0.2.1/24"),
        (&near, ETHERNET, "192.0.2.2/24"),
    ]);
    Host::connect([
        (&server, "eth1", "198.51.100.1/24"),
        (&far, ETHERNET, "198.51.100.7/24"),
    ]);
    let setup = setup(json!({
        "interfaces": [ETHERNET],
        "dhcp-socket-type": "udp",
        "outbound-interface": "use-routing",
    }));
    let _kea = server.run(|| setup.start());
    // The host that asks is not the one that is to receive the reply.
    let asking = near.run(|| Requester::at(NEAR));
    let receiving = far.run(|| Requester::at(FAR));
    let query = receiving.by_mac(&Client::new(1));
    let from = eventually_some("a reply", || {
        asking.send_octets(server_port(SERVER), &query.encode());
        receiving.receive_octets(&query).map(|(_, from)| from)
    });
    assert_eq!(from, server_port(SERVER));
}

/// FreeRADIUS's dhcpclient asks by each key and understands the replies. It receives at the port after that of the
/// server in its argument, wherever it sends.
///
/// `BLQ_DHCPCLIENT=.../bin/dhcpclient scripts/test-in-kea --test lease_query_network dhcpclient -- --ignored`
#[test]
#[ignore = "no package of Debian has dhcpclient; BLQ_DHCPCLIENT is its path"]
fn dhcpclient_understands_replies() {
    let network = Network::start("udp", true).expect("the privilege to create networks");
    let port = network.kea.place().client_port();
    let mut client = Client::new(1).client_id([1, 2, 0, 0, 0, 0, 1]);
    let leased = network.requesters.run(|| {
        let relay = Relay::new(NEAR, port, vec![server_port(SERVER)]);
        relay.lease(&mut client).yiaddr
    });
    let program = std::env::var_os("BLQ_DHCPCLIENT").expect("BLQ_DHCPCLIENT");
    let active = format!(
        "Client-IP-Address = {leased}\nLease-Active\nClient-Hardware-Address = 02:00:00:00:00:01"
    );
    for (key, expected) in [
        (format!("DHCP-Client-IP-Address = {leased}"), &*active),
        (
            "DHCP-Client-Hardware-Address = 02:00:00:00:00:01".to_owned(),
            &active,
        ),
        (
            "DHCP-Client-Identifier = 0x01020000000001".to_owned(),
            &active,
        ),
        (
            "DHCP-Client-IP-Address = 192.0.2.105".to_owned(),
            "Lease-Unassigned",
        ),
        (
            "DHCP-Client-IP-Address = 198.51.100.1".to_owned(),
            "Lease-Unknown",
        ),
        (
            "DHCP-Client-Identifier = 0x0109".to_owned(),
            "Lease-Unknown",
        ),
    ] {
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        writeln!(
            file,
            "DHCP-Gateway-IP-Address = {NEAR}\nPacket-Dst-Port = 67\n{key}"
        )
        .expect("written");
        let run = || {
            let mut command = Command::new(&program);
            command.args(["-x", "-t", "10", "-f"]).arg(file.path());
            command
                .args([&format!("{SERVER}:66"), "lease_query"])
                .output()
        };
        let output = network.requesters.run(run).expect("running dhcpclient");
        let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        for part in expected.lines() {
            assert!(text.contains(part), "{key}: {part} in {text}");
        }
    }
}
