//! A requester whose host is down, in a network of its own (RFC 7724 section 8.2). Skipped for users who may not create
//! network namespaces.

#[path = "support/active.rs"]
mod active;
#[path = "support/bench.rs"]
mod bench;
#[allow(dead_code, reason = "the tests in Kea use all of it")]
#[path = "kea/src/network.rs"]
mod network;

use std::net::{Ipv4Addr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use active::loopback::PATIENCE;
use active::*;
use bench::Bench;
use dhcp_blq::config::Config;
use network::Host;

/// The address of the server.
const SERVER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

/// Waits until a condition holds.
fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "{what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// RFC 7724 section 8.2: ACTIVE_LQ_SEND_TIMEOUT. A host that is down sends no FIN, and would keep its place until TCP
/// gives up after some 15 minutes.
#[test]
fn a_requester_that_vanished_gives_up_its_place() {
    let (Some(near), Some(far)) = (Host::create(), Host::create()) else {
        return;
    };
    Host::connect([
        (&near, "near", "192.0.2.1/24"),
        (&far, "far", "192.0.2.2/24"),
    ]);
    let bench = Bench::new();
    let limits =
        r#""max-active-connections": 1, "active-idle-timeout": 1, "active-send-timeout": 1"#;
    let config = Config {
        listen_addresses: vec![SERVER],
        ..config(r#"["192.0.2.2"]"#, &format!("{INSECURE}, {limits}"))
    };
    let server = near.run(|| serve(&bench.mirror, &config));
    let stream = || {
        let address = server.local_addresses()[0];
        let stream = far.run(|| TcpStream::connect(address)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut requester = Requester(stream);
        assert!(requester.begins_stream(query(7)));
        requester
    };
    let mut vanished = stream();
    assert_eq!(vanished.message().status_code(), CONNECTION_ACTIVE);
    far.ip("address del 192.0.2.2/24 dev far");
    eventually("its end", || server.monitor().connection_count() == 0);
    far.ip("address add 192.0.2.2/24 dev far");
    stream();
}
