//! Bindings that move to another VPN, and subnets that are removed, while streams are open (RFC 7724 section 8.2; the
//! contract).

#[path = "support/active.rs"]
mod active;
#[path = "support/bench.rs"]
mod bench;

use std::net::Ipv4Addr;
use std::sync::Arc;

use active::*;
use bench::{Bench, lease, relay_information};
use dhcp_blq::kea_config::KeaConfig;
use dhcp_blq::mirror::event::{Event, Origin};
use dhcp_blq::model::time::Time;
use dhcp_blq::server::Server;

/// An address of subnet 1, which is in the default VPN.
const ADDRESS: [u8; 4] = [10, 0, 1, 10];
/// An address of subnet 2, which is in the VPN "blue".
const IN_BLUE: [u8; 4] = [10, 0, 2, 1];
/// The VPN-ID of "blue".
const BLUE: &[u8] = b"\0blue";

/// The streams of three requesters.
struct Streams {
    /// The server.
    _server: Server,
    /// Of the default VPN.
    default: Requester,
    /// Of the VPN "blue".
    blue: Requester,
    /// Of all VPNs.
    all: Requester,
}

impl Streams {
    /// Begins the streams.
    fn new(bench: &Bench) -> Streams {
        let server = serve(&bench.mirror, &config(r#"["127.0.0.1"]"#, INSECURE));
        let begin = |query| {
            let mut requester = Requester::connect(&server);
            assert!(requester.begins_stream(query));
            requester
        };
        Streams {
            default: begin(query(7)),
            blue: begin(query(8).with(221, BLUE)),
            all: begin(query(9).with(221, [254])),
            _server: server,
        }
    }
}

/// Returns the type, the address and the VPN-ID of the next message.
fn next(requester: &mut Requester) -> (u8, Ipv4Addr, Option<Vec<u8>>) {
    let change = requester.message();
    let vpn = change.options.get(&221).cloned();
    (change.message_type(), change.address(), vpn)
}

/// Pushes an event and applies it.
fn push(bench: &Bench, event: Event) {
    bench.mirror.queue().push(event);
    bench.mirror.catch_up();
}

/// Puts a configuration into force.
fn configure(bench: &Bench, configuration: &str) {
    let kea_config = KeaConfig::new(configuration, Vec::new(), &[]).unwrap();
    let event = Event::Reconfigured {
        kea_config: Arc::new(kea_config),
        is_complete: true,
        at: Time::now(),
    };
    push(bench, event);
}

/// Releases a lease.
fn release(bench: &Bench, address: [u8; 4]) {
    let event = Event::Released {
        address: address.into(),
        client: None,
        at: Time::now(),
        origin: Origin::Local,
    };
    push(bench, event);
}

/// RFC 7724 section 8.2: whoever sees the VPN that a binding leaves gets a DHCPLEASEUNASSIGNED without a client, whoever
/// sees the other one the binding with its VPN-ID.
#[test]
fn a_binding_that_moves_to_another_vpn_leaves_one_stream_and_enters_the_other() {
    let bench = Bench::new();
    let mut streams = Streams::new(&bench);
    let address = Ipv4Addr::from(ADDRESS);
    let blue = Some(BLUE.to_vec());
    bench.lease(ADDRESS, 1, 0, &[]);
    for requester in [&mut streams.default, &mut streams.all] {
        assert_eq!(next(requester), (ACTIVE, address, None));
    }
    for round in 0..3 {
        // Its relay agent names another VPN: to "blue" and back.
        bench.lease(ADDRESS, 2 + round, 0, &[&[151, 5][..], BLUE].concat());
        let left = streams.default.message();
        assert_eq!((left.message_type(), left.address()), (UNASSIGNED, address));
        assert!(left.message.chaddr.iter().all(|octet| *octet == 0));
        for code in [61, 82, 221] {
            assert!(!left.options.contains_key(&code), "{code}");
        }
        for requester in [&mut streams.blue, &mut streams.all] {
            assert_eq!(next(requester), (ACTIVE, address, blue.clone()));
        }
        let without_vpn = relay_information(b"remote", b"relay");
        bench.lease(ADDRESS, 2 + round, 0, &without_vpn);
        let left = streams.blue.message();
        assert_eq!((left.message_type(), left.address()), (UNASSIGNED, address));
        assert_eq!(
            left.options.get(&221),
            blue.as_ref(),
            "the VPN that it left"
        );
        assert!(left.message.chaddr.iter().all(|octet| *octet == 0));
        for requester in [&mut streams.default, &mut streams.all] {
            assert_eq!(next(requester), (ACTIVE, address, None));
        }
    }
}

/// RFC 7724 section 8.2: a subnet that a configuration moves to another VPN takes its bindings with it.
#[test]
fn a_subnet_that_moves_to_another_vpn_takes_its_bindings_with_it() {
    let bench = Bench::new();
    let mut streams = Streams::new(&bench);
    bench.lease(IN_BLUE, 1, 0, &[]);
    let address = Ipv4Addr::from(IN_BLUE);
    for requester in [&mut streams.blue, &mut streams.all] {
        assert_eq!(next(requester), (ACTIVE, address, Some(BLUE.to_vec())));
    }
    configure(
        &bench,
        &bench::CONFIGURATION.replace(r#""vpn": { "name": "blue" }"#, ""),
    );
    assert_eq!(
        next(&mut streams.blue),
        (UNASSIGNED, address, Some(BLUE.to_vec()))
    );
    for requester in [&mut streams.default, &mut streams.all] {
        assert_eq!(next(requester), (ACTIVE, address, None));
    }
}

/// RFC 7724 section 8.2: the end of a lease is sent, also if its subnet was removed before. Its VPN stays.
#[test]
fn the_bindings_of_a_removed_subnet_are_sent_as_before() {
    let bench = Bench::new();
    let mut streams = Streams::new(&bench);
    let leases = [(ADDRESS, None), (IN_BLUE, Some(BLUE.to_vec()))];
    for (address, vpn) in &leases {
        bench.lease(*address, 1, 0, &[]);
        assert_eq!(
            next(&mut streams.all),
            (ACTIVE, (*address).into(), vpn.clone())
        );
    }
    assert_eq!(next(&mut streams.default), (ACTIVE, ADDRESS.into(), None));
    assert_eq!(
        next(&mut streams.blue),
        (ACTIVE, IN_BLUE.into(), Some(BLUE.to_vec()))
    );
    configure(&bench, r#"{ "Dhcp4": { "subnet4": [] } }"#);
    let one_vpn = [
        (&mut streams.default, ADDRESS, None),
        (&mut streams.blue, IN_BLUE, Some(BLUE.to_vec())),
    ];
    for (requester, address, vpn) in one_vpn {
        // The reply loses T1 and T2, which were the subnet's.
        assert_eq!(next(requester), (ACTIVE, address.into(), vpn.clone()));
        // A renewal that Kea accepted before, and the end.
        let event = Event::Updated {
            lease: lease(address, 2, Time::now().0),
            at: Time::now(),
            origin: Origin::Local,
        };
        push(&bench, event);
        assert_eq!(next(requester), (ACTIVE, address.into(), vpn.clone()));
        release(&bench, address);
        assert_eq!(next(requester), (UNASSIGNED, address.into(), vpn));
    }
    // Those who see all get each end once, and no other binding.
    let mut missing = leases.to_vec();
    while !missing.is_empty() {
        let (message_type, address, vpn) = next(&mut streams.all);
        let found = (address.octets(), vpn);
        assert!(missing.contains(&found), "{found:?}");
        if message_type == UNASSIGNED {
            missing.retain(|lease| *lease != found);
        }
    }
}
