//! Queries over UDP, rule by rule, without sockets and without Kea (RFC 4388, RFC 6148, RFC 6607).

#[path = "support/bench.rs"]
mod bench;

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::Arc;

use bench::*;
use blq::wire::code;
use blq::{Message, MessageType};
use dhcp_blq::config::Config;
use dhcp_blq::kea_config::{ConfiguredOption, Scope};
use dhcp_blq::mirror::event::Event;
use dhcp_blq::mirror::event::Origin;
use dhcp_blq::mirror::{InitialLoad, Saved};
use dhcp_blq::model::time::{Lifetime, Time};
use dhcp_blq::query::udp::engine::UdpEngine;
use dhcp_blq::query::udp::request::is_lease_query;
use dhcp_blq::server::udp::{Datagram, UdpServer};
use dhcp_blq::server::{Counts, PeerLog};
use proptest::prelude::*;

/// The requester.
const GIADDR: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

/// A server of queries over UDP, and the bindings that it answers from.
struct Udp {
    bench: Bench,
    server: UdpServer,
    counts: Arc<Counts>,
}

impl Udp {
    /// Returns a server without bindings that permits the requester.
    fn new() -> Udp {
        Udp::over(
            Bench::new(),
            r#"{"requesters": ["192.0.2.1"], "advanced": {"udp-rate-limit": 0}}"#,
        )
    }

    /// Returns a server with these parameters.
    fn over(bench: Bench, parameters: &str) -> Udp {
        let config = Config::parse(parameters).unwrap();
        let counts = Arc::<Counts>::default();
        let options = config.non_sensitive_options.clone();
        let engine = UdpEngine::new(Arc::clone(&bench.mirror), options);
        let server = UdpServer::new(&config, engine, PeerLog::new(Arc::clone(&counts)));
        Udp {
            bench,
            server,
            counts,
        }
    }

    /// Returns the reply to a datagram.
    fn reply_to(&self, octets: &[u8]) -> Option<Vec<u8>> {
        assert!(is_lease_query(octets));
        let reply = RefCell::new(None);
        let datagram = Datagram {
            octets,
            source: GIADDR,
            local: LOCAL,
        };
        let own = |address| address == Ipv4Addr::new(192, 0, 2, 68);
        self.server.answer(datagram, own, |to, octets| {
            assert_eq!(
                to,
                Ipv4Addr::from(<[u8; 4]>::try_from(&octets[24..28]).unwrap())
            );
            reply.replace(Some(octets.to_vec()));
            Ok(())
        });
        reply.into_inner()
    }

    /// Returns the reply to a query.
    fn ask(&self, query: &Message) -> Option<Message> {
        let reply = self.reply_to(&query.encode())?;
        let reply = Message::decode(&reply).unwrap();
        assert_eq!((reply.xid, reply.giaddr), (query.xid, query.giaddr));
        Some(reply)
    }

    /// Returns the reply to a query that is answered, and its type.
    fn answer(&self, query: &Message) -> (MessageType, Message) {
        let reply = self.ask(query).expect("a reply");
        (reply.message_type().unwrap(), reply)
    }
}

/// Returns a query without a key.
fn query() -> Message {
    let mut query = Message::new(1, 0x0102_0304, MessageType::LEASE_QUERY);
    query.giaddr = GIADDR;
    query
}

/// Returns a query by IP address.
fn by_address(address: [u8; 4]) -> Message {
    let mut query = query();
    query.ciaddr = address.into();
    query
}

/// Returns a query by the MAC address of a client.
fn by_mac(client: u8) -> Message {
    let mut query = query();
    query.htype = 1;
    query.hlen = 6;
    query.chaddr[..6].copy_from_slice(&mac(client));
    query
}

/// Returns a query by the client identifier of a client.
fn by_client_id(client: u8) -> Message {
    query().with(code::CLIENT_IDENTIFIER, [1, client])
}

/// Returns a query by remote-id.
fn by_remote_id(id: &[u8]) -> Message {
    let information = [&[2, id.len() as u8], id].concat();
    query().with(code::RELAY_AGENT_INFORMATION, information)
}

/// Returns the codes of the options of a message but its type.
fn codes(message: &Message) -> BTreeSet<u8> {
    let codes = message.joined().into_keys();
    codes.filter(|code| *code != code::MESSAGE_TYPE).collect()
}

/// Returns the value of an option that is a number.
fn number(message: &Message, code: u8) -> Option<u32> {
    let value = message.option(code)?;
    Some(u32::from_be_bytes(value.try_into().unwrap()))
}

// RFC 4388 section 6.4: by each of the keys.
#[test]
fn an_active_lease_is_found_by_each_key() {
    let udp = Udp::new();
    let information = relay_information(b"line 7", b"relay");
    udp.bench.lease([10, 0, 1, 12], 7, 10, &information);
    for query in [
        by_address([10, 0, 1, 12]),
        by_mac(7),
        by_client_id(7),
        by_remote_id(b"line 7"),
    ] {
        let query = query.with(code::PARAMETER_REQUEST_LIST, [51, 82, 61, 91]);
        let (message_type, reply) = udp.answer(&query);
        assert_eq!(message_type, MessageType::LEASE_ACTIVE);
        assert_eq!(reply.ciaddr, Ipv4Addr::new(10, 0, 1, 12));
        assert_eq!((reply.op, reply.htype, reply.hlen), (2, 1, 6));
        assert_eq!(reply.chaddr[..6], mac(7));
        assert_eq!(codes(&reply), BTreeSet::from([51, 54, 61, 82, 91]));
        assert_eq!(reply.option(82), Some(information.clone()));
        assert_eq!(reply.option(54), Some(LOCAL.octets().to_vec()));
        // Section 6.1: relative to the time of the reply.
        assert!((10..15).contains(&number(&reply, 91).unwrap()));
        assert!((3_585..=3_590).contains(&number(&reply, 51).unwrap()));
    }
    assert_eq!(
        udp.counts
            .udp
            .active
            .load(std::sync::atomic::Ordering::Relaxed),
        4
    );
}

// RFC 4388 section 6.4: "The DHCPLEASEUNASSIGNED message is only returned for a query by IP address".
#[test]
fn managed_addresses_are_unassigned_and_others_unknown() {
    let udp = Udp::new();
    udp.bench.lease([10, 0, 1, 12], 7, 4_000, &[]);
    let list = [51, 82, 1, 3];
    for (address, message_type) in [
        ([10, 0, 1, 12], MessageType::LEASE_UNASSIGNED), // expired
        ([10, 0, 1, 13], MessageType::LEASE_UNASSIGNED), // in a pool
        ([10, 0, 1, 200], MessageType::LEASE_UNASSIGNED), // reserved outside of pools
        ([10, 0, 1, 100], MessageType::LEASE_UNKNOWN),   // in the subnet, in no pool
        ([10, 9, 9, 9], MessageType::LEASE_UNKNOWN),
        ([10, 0, 2, 1], MessageType::LEASE_UNKNOWN), // in another VPN
    ] {
        let query = by_address(address).with(code::PARAMETER_REQUEST_LIST, list);
        let (found, reply) = udp.answer(&query);
        assert_eq!(found, message_type, "{address:?}");
        assert_eq!(codes(&reply), BTreeSet::from([54]));
        assert_eq!(reply.ciaddr, Ipv4Addr::from(address));
        assert_eq!(reply.hlen, 0);
    }
    for query in [by_mac(7), by_client_id(7), query().with(61, [5])] {
        let (message_type, reply) = udp.answer(&query);
        assert_eq!(message_type, MessageType::LEASE_UNKNOWN);
        assert_eq!(codes(&reply), BTreeSet::from([54]));
        assert_eq!((reply.ciaddr, reply.hlen), (query.ciaddr, query.hlen));
    }
}

// RFC 6148 section 4.3: "the DHCP server MUST echo the option 82"; section 5: beside another key it is no query.
#[test]
fn the_reply_to_an_unknown_remote_id_returns_option_82() {
    let udp = Udp::new();
    let (message_type, reply) = udp.answer(&by_remote_id(b"nobody"));
    assert_eq!(message_type, MessageType::LEASE_UNKNOWN);
    assert_eq!(codes(&reply), BTreeSet::from([54, 82]));
    assert_eq!(reply.option(82), by_remote_id(b"nobody").option(82));
    let beside = by_mac(1).with(82, [2, 1, 9]);
    assert_eq!(codes(&udp.answer(&beside).1), BTreeSet::from([54]));
    // Only a remote-id is a query.
    assert_eq!(udp.ask(&query().with(82, [1, 1, 9])), None);
    assert_eq!(udp.ask(&query().with(82, [2, 1, 9, 1, 1, 9])), None);
    assert_eq!(udp.ask(&query().with(82, [2, 9, 9])), None);
}

// RFC 4388 section 6.4.1: "the most recent transaction", and section 6.4.2: "the list of all of the IP addresses".
#[test]
fn a_client_with_several_addresses_has_the_others_in_associated_ip() {
    let udp = Udp::new();
    for (last, ago) in [(14, 100), (11, 50), (12, 50), (13, 60)] {
        udp.bench.lease([10, 0, 1, last], 7, ago, &[]);
    }
    udp.bench.lease([10, 0, 1, 19], 7, 4_000, &[]); // expired
    for query in [by_mac(7), by_client_id(7).with(55, [51])] {
        let reply = udp.answer(&query).1;
        assert_eq!(
            reply.ciaddr,
            Ipv4Addr::new(10, 0, 1, 11),
            "of equals the lowest"
        );
        let others: Vec<u8> = [12, 13, 14]
            .into_iter()
            .flat_map(|last| [10, 0, 1, last])
            .collect();
        assert_eq!(reply.option(92), Some(others));
    }
    // The query by IP address is about this address alone.
    assert_eq!(udp.answer(&by_address([10, 0, 1, 12])).1.option(92), None);
}

// RFC 3396: an option longer than 255 octets is split; no address is.
#[test]
fn associated_ip_is_whole_or_there_is_no_reply() {
    let config = CONFIGURATION.replace("10.0.1.0/24", "10.0.0.0/16").replace(
        "\"10.0.2.0/24\", \"pools\": [ { \"pool\": \"10.0.2.1-10.0.2.2\" } ]",
        "\"10.1.2.0/24\", \"pools\": []",
    );
    let over = |count: u16| {
        let config = dhcp_blq::kea_config::KeaConfig::new(&config, Vec::new(), &[]).unwrap();
        let saved = Saved {
            saved_at: Some(Time(1)),
            ..Saved::default()
        };
        let mirror = InitialLoad::begin(Arc::new(config), saved, Time::now()).finish();
        let udp = Udp::over(
            Bench::over(mirror),
            r#"{"requesters": ["192.0.2.1"], "advanced": {"udp-rate-limit": 0}}"#,
        );
        for number in 0..count {
            let [high, low] = number.to_be_bytes();
            let mut lease = lease([10, 0, 128 + high, low], 7, udp.bench.now - 10);
            lease.subnet = dhcp_blq::model::binding::SubnetId(1);
            udp.bench
                .commit(lease, &relay_information(b"line", &[7; 200]));
        }
        udp
    };
    let udp = over(100);
    let (_, reply) = udp.answer(&by_mac(7).with(55, [82, 51]));
    assert_eq!(reply.option(92).unwrap().len(), 99 * 4);
    let instances: Vec<usize> = reply
        .options
        .iter()
        .filter(|(code, _)| *code == 92)
        .map(|(_, value)| value.len())
        .collect();
    assert_eq!(instances, [252, 144]);
    assert!(reply.option(82).is_some() && reply.option(51).is_some());
    // A less important option is left out of a shorter message. Option 82, if asked for, and the addresses are not.
    let short =
        |list: &[u8], largest: u16| by_mac(7).with(55, list).with(57, largest.to_be_bytes());
    let octets = udp.reply_to(&short(&[61, 51], 656).encode()).unwrap();
    assert_eq!(octets.len(), 656);
    let reply = Message::decode(&octets).unwrap();
    assert_eq!(reply.option(92).unwrap().len(), 99 * 4);
    assert_eq!((reply.option(61), reply.option(51).is_some()), (None, true));
    assert_eq!(udp.ask(&short(&[51, 82], 700)), None);
    let too_short = by_mac(7).with(57, 1_u16.to_be_bytes());
    assert_eq!(
        udp.ask(&too_short),
        None,
        "576 octets at least, which are not enough"
    );
    let octets = over(290).reply_to(&by_mac(7).with(57, 9_000_u16.to_be_bytes()).encode());
    assert!(octets.is_some_and(|octets| octets.len() <= 1_472));
    assert_eq!(over(400).ask(&by_mac(7)), None);
}

// RFC 6607 section 6: the VPN-ID selects the VPN, and comes back.
#[test]
fn a_vpn_id_selects_the_vpn_and_comes_back() {
    let udp = Udp::new();
    udp.bench.lease([10, 0, 2, 1], 7, 10, &[]);
    udp.bench.lease([10, 0, 1, 12], 7, 20, &[]);
    let blue = [&[0][..], b"blue"].concat();
    let address = |query: Message| udp.answer(&query).1.ciaddr;
    assert_eq!(address(by_mac(7)), Ipv4Addr::new(10, 0, 1, 12));
    assert_eq!(
        address(by_mac(7).with(221, [255])),
        Ipv4Addr::new(10, 0, 1, 12)
    );
    assert_eq!(
        address(by_mac(7).with(221, blue.clone())),
        Ipv4Addr::new(10, 0, 2, 1)
    );
    for (query, message_type) in [
        (by_address([10, 0, 2, 1]), MessageType::LEASE_ACTIVE),
        (by_address([10, 0, 2, 2]), MessageType::LEASE_UNASSIGNED),
        (by_address([10, 0, 1, 12]), MessageType::LEASE_UNKNOWN),
        (by_mac(9), MessageType::LEASE_UNKNOWN),
    ] {
        let (found, reply) = udp.answer(&query.with(221, blue.clone()));
        assert_eq!(found, message_type);
        assert_eq!(reply.option(221), Some(blue.clone()));
        assert_eq!(reply.option(92), None);
    }
    for vss in [&[254][..], &[9], &[1, 2]] {
        assert_eq!(udp.ask(&by_mac(7).with(221, vss)), None, "{vss:?}");
    }
}

// RFC 4388 sections 6.2 and 6.3.
#[test]
fn a_query_with_another_number_of_keys_than_one_is_not_answered() {
    let udp = Udp::new();
    udp.bench.lease([10, 0, 1, 12], 7, 10, &[]);
    let mut both = by_mac(7);
    both.ciaddr = Ipv4Addr::new(10, 0, 1, 12);
    let mut htype_alone = query();
    htype_alone.htype = 1;
    let mut long = by_mac(7);
    long.hlen = 17;
    let mut reply = by_mac(7);
    reply.op = 2;
    let mut nobody = by_mac(7);
    nobody.giaddr = Ipv4Addr::UNSPECIFIED;
    let mut other = by_mac(7);
    other.giaddr = Ipv4Addr::new(192, 0, 2, 2);
    for query in [
        query(),
        both,
        htype_alone,
        long,
        reply,
        nobody,
        other,
        by_mac(7).with(61, [1, 7]),
        query().with(61, []),
        by_mac(7).with(57, [1]),
        by_mac(7).with(54, [1]),
    ] {
        assert_eq!(udp.ask(&query), None, "{query:?}");
    }
    let dropped = udp.counts.udp.dropped.iter();
    let dropped = dropped.map(|count| count.load(std::sync::atomic::Ordering::Relaxed));
    assert_eq!(dropped.collect::<Vec<_>>(), [3, 7, 1, 0, 0, 0]);
    // htype and hlen beside another key, with an address of zeros, are ignored: real clients set them always.
    let mut beside = by_client_id(7);
    (beside.htype, beside.hlen) = (1, 6);
    assert_eq!(udp.answer(&beside).0, MessageType::LEASE_ACTIVE);
}

// RFC 2131 section 4.3.2: the server identifier selects a server.
#[test]
fn a_query_to_another_server_is_not_answered() {
    let udp = Udp::new();
    for (server, is_answered) in [
        (LOCAL, true),
        ([192, 0, 2, 68].into(), true),
        ([192, 0, 2, 69].into(), false),
    ] {
        let query = by_mac(7).with(54, server.octets());
        assert_eq!(udp.ask(&query).is_some(), is_answered, "{server}");
    }
}

#[test]
fn requesters_may_use_their_query_types_only() {
    let parameters = r#"{"requesters": [{"address": "192.0.2.1", "query-types": ["ip", "mac"]}]}"#;
    let udp = Udp::over(Bench::new(), parameters);
    assert!(udp.ask(&by_mac(7)).is_some());
    assert!(udp.ask(&by_address([10, 0, 1, 12])).is_some());
    assert_eq!(udp.ask(&by_client_id(7)), None);
    assert_eq!(udp.ask(&by_remote_id(b"line")), None);
}

#[test]
fn a_flood_is_answered_up_to_the_limit() {
    let parameters = r#"{"requesters": ["192.0.2.0/24"], "advanced": {"udp-rate-limit": 5}}"#;
    let udp = Udp::over(Bench::new(), parameters);
    let answered = (0..100).filter(|_| udp.ask(&by_mac(7)).is_some()).count();
    assert!((1..50).contains(&answered), "{answered}");
    let mut other = by_mac(7);
    other.giaddr = Ipv4Addr::new(192, 0, 2, 9);
    assert!(udp.ask(&other).is_some());
}

// RFC 4388 section 6.4.2: T1 and T2 are not returned once they are past; nothing that is not acceptable.
#[test]
fn options_depend_on_the_lease_and_on_the_configuration() {
    let udp = Udp::new();
    udp.bench.lease([10, 0, 1, 12], 7, 10, &[]);
    udp.bench.lease([10, 0, 1, 13], 8, 1_000, &[]);
    udp.bench.lease([10, 0, 1, 14], 9, 2_000, &[]);
    let codes_of =
        |udp: &Udp, client, list: &[u8]| codes(&udp.answer(&by_mac(client).with(55, list)).1);
    assert_eq!(
        codes_of(&udp, 7, &[51, 58, 59]),
        BTreeSet::from([51, 54, 58, 59])
    );
    assert_eq!(
        codes_of(&udp, 8, &[51, 58, 59]),
        BTreeSet::from([51, 54, 59])
    );
    assert_eq!(codes_of(&udp, 9, &[51, 58, 59]), BTreeSet::from([51, 54]));
    assert_eq!(
        codes_of(&udp, 7, &[60, 1, 92, 53, 151]),
        BTreeSet::from([1, 54, 60])
    );
    let parameters = r#"{"requesters": ["192.0.2.1"], "non-sensitive-options": [1]}"#;
    let strict = Udp::over(Bench::new(), parameters);
    strict.bench.lease([10, 0, 1, 12], 7, 10, &[2, 1, 9]);
    assert_eq!(
        codes_of(&strict, 7, &[51, 60, 1, 82, 61]),
        BTreeSet::from([1, 51, 54, 82])
    );
    // A lease without an end.
    let mut forever = lease([10, 0, 1, 15], 5, udp.bench.now - 10);
    forever.valid_lifetime = Lifetime::INFINITE;
    udp.bench.commit(forever, &[]);
    let reply = udp.answer(&by_mac(5).with(55, [51])).1;
    assert_eq!(number(&reply, 51), Some(u32::MAX));
}

// RFC 4388 section 6.2: "the same options it would return for a DHCPREQUEST message".
#[test]
fn without_a_list_the_options_of_a_dhcpack_are_sent() {
    let option = |code, value: &[u8], always_send| ConfiguredOption {
        scope: Scope::Global,
        code,
        value: value.to_vec(),
        never_send: false,
        always_send,
        client_classes: Vec::new(),
    };
    let options = vec![
        option(3, &[10, 0, 1, 1], false),
        option(42, &[10, 0, 1, 3], false),
        option(100, b"UTC", true),
    ];
    let saved = Saved {
        saved_at: Some(Time(1)),
        ..Saved::default()
    };
    let udp = Udp::over(
        Bench::with(saved, options),
        r#"{"requesters": ["192.0.2.1"]}"#,
    );
    udp.bench.lease([10, 0, 1, 12], 7, 10, &[2, 1, 9]);
    let reply = udp.answer(&by_mac(7)).1;
    let expected = BTreeSet::from([1, 3, 51, 54, 58, 59, 61, 82, 91, 100]);
    assert_eq!(codes(&reply), expected);
}

#[test]
fn a_released_lease_is_not_active() {
    let udp = Udp::new();
    udp.bench.lease([10, 0, 1, 12], 7, 10, &[]);
    udp.bench.mirror.queue().push(Event::Released {
        address: Ipv4Addr::new(10, 0, 1, 12),
        client: None,
        at: Time(udp.bench.now),
        origin: Origin::Local,
    });
    // Without a catch-up by the test: a reply includes every change before the query.
    assert_eq!(udp.answer(&by_mac(7)).0, MessageType::LEASE_UNKNOWN);
    let by_address = by_address([10, 0, 1, 12]);
    assert_eq!(udp.answer(&by_address).0, MessageType::LEASE_UNASSIGNED);
}

// A thread of Kea's does little work for a query: what takes longer is the apply worker's, and the requester asks again.
#[test]
fn a_query_behind_a_long_change_is_not_answered_before_it_is_applied() {
    let udp = Udp::new();
    udp.bench.lease([10, 0, 1, 12], 7, 10, &[]);
    let queue = udp.bench.mirror.queue();
    queue.push(Event::Reconfigured {
        kea_config: udp.bench.mirror.kea_config(),
        is_complete: true,
        at: Time(udp.bench.now),
    });
    assert_eq!(udp.ask(&by_mac(7)), None);
    assert_eq!(queue.len(), 1, "left to the worker");
    udp.bench.mirror.catch_up();
    assert_eq!(udp.answer(&by_mac(7)).0, MessageType::LEASE_ACTIVE);
    for _ in 0..1_000 {
        queue.push(Event::ResyncBegun);
    }
    assert_eq!(udp.ask(&by_mac(7)), None);
    udp.bench.mirror.catch_up();
    assert_eq!(udp.answer(&by_mac(7)).0, MessageType::LEASE_ACTIVE);
}

proptest! {
    #[test]
    fn arbitrary_octets_are_answered_only_if_they_are_a_permitted_query(
        fields in proptest::collection::vec(prop_oneof![3 => Just(0u8), 1 => any::<u8>()], 28),
        giaddr in prop_oneof![Just(GIADDR), any::<u32>().prop_map(Ipv4Addr::from_bits)],
        key in any::<u8>(),
        options in proptest::collection::vec(any::<u8>(), 0..80),
        length in 0..400usize,
    ) {
        let udp = Udp::new();
        udp.bench.lease([10, 0, 1, 12], 7, 10, &[]);
        let mut query = match key % 4 {
            0 => by_address([10, 0, 1, 12]),
            1 => by_mac(7),
            2 => by_client_id(7),
            _ => by_remote_id(b"line"),
        };
        query.giaddr = giaddr;
        let mut octets = query.encode();
        if key >= 64 {
            for (octet, field) in octets.iter_mut().zip(&fields) {
                *octet = if *field == 0 { *octet } else { *field };
            }
        }
        octets.pop();
        octets.extend(&options);
        if key < 128 {
            octets.truncate(length);
        }
        if is_lease_query(&octets) {
            if let Some(reply) = udp.reply_to(&octets) {
                prop_assert_eq!(&octets[24..28], &GIADDR.octets()[..]);
                prop_assert_eq!(octets[0], 1);
                prop_assert!(reply.len() <= 1_472);
                let reply = Message::decode(&reply).unwrap();
                prop_assert_eq!(&octets[4..8], &reply.xid.to_be_bytes()[..]);
            }
        }
        let _ = is_lease_query(&fields);
    }
}
