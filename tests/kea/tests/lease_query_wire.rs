//! The octets of replies over UDP, decoded by tshark: every field of the header and every option, in order.

use std::net::Ipv4Addr;

use kea_tests::clock::now;
use kea_tests::packet::{Message, MessageType, code, sub_option, sub_options};
use kea_tests::tshark::expected::{
    Expected, address, check, colons, header, message_type, number, option, seconds, vpn_id,
};
use kea_tests::tshark::{self, Decoded};
use kea_tests::{Client, Kea, Requester, Setup};
use serde_json::json;

/// T1, T2 and the lifetime of leases, in seconds.
const TIMES: [u32; 3] = [1_000, 1_700, 3_000];

/// A requested option that nothing has: it must not occur.
const UNKNOWN_OPTION: u8 = 224;

/// Returns the replies to queries as tshark decodes them.
#[track_caller]
fn ask<const N: usize>(kea: &Kea, requester: &Requester, queries: [&Message; N]) -> [Decoded; N] {
    let server = kea.place().server();
    let replies = queries.map(|query| requester.ask_at(server, query).0);
    let decoded = tshark::decode(&replies).try_into();
    decoded.expect("as many messages")
}

/// Checks the header of the reply to a query, and its options after dhcp-message-type and server-identifier.
#[track_caller]
fn check_reply(
    (query, reply): (&Message, &Decoded),
    of_type: MessageType,
    (ciaddr, hardware): (Ipv4Addr, (u8, &[u8])),
    options: &[Expected],
) {
    let mut header = header(true, query.xid, ciaddr, hardware);
    header.insert("dhcp.ip.relay", query.giaddr.to_string());
    let field = "dhcp.option.dhcp_server_id";
    let first = [
        message_type(of_type),
        address(code::SERVER_IDENTIFIER, Ipv4Addr::LOCALHOST, field),
    ];
    check(reply, &header, &[&first[..], options].concat());
}

/// Returns a relay agent's option 82 with a circuit-id and a remote-id.
fn option_82() -> Expected {
    let agent = |name: &str| format!("dhcp.option.agent_information_option.{name}");
    let value = sub_options(&[
        (sub_option::CIRCUIT_ID, b"port 3".to_vec()),
        (sub_option::REMOTE_ID, b"\0line".to_vec()),
    ]);
    Expected {
        code: code::RELAY_AGENT_INFORMATION,
        value,
        shown: vec![
            (agent("agent_circuit_id"), Some(colons(b"port 3"))),
            (agent("agent_remote_id"), Some(colons(b"\0line"))),
        ],
    }
}

/// Returns option 82 of a query by remote-id.
fn remote_id(id: &[u8]) -> Expected {
    let name = "dhcp.option.agent_information_option.agent_remote_id";
    Expected {
        code: code::RELAY_AGENT_INFORMATION,
        value: sub_options(&[(sub_option::REMOTE_ID, id.to_vec())]),
        shown: vec![(name.to_owned(), Some(colons(id)))],
    }
}

/// Returns associated-ip with these addresses, in as many instances as they take.
fn associated_ip(addresses: &[Ipv4Addr]) -> Vec<Expected> {
    let instances = addresses.chunks(63).map(|part| Expected {
        code: code::ASSOCIATED_IP,
        value: part.iter().flat_map(Ipv4Addr::octets).collect(),
        shown: Vec::new(),
    });
    instances.collect()
}

/// Returns a setup with [`TIMES`] and some options of the server.
fn setup() -> Setup {
    let [renewal, rebinding, lifetime] = TIMES;
    Setup::with_hook(json!({}))
        .set("renew-timer", json!(renewal))
        .set("rebind-timer", json!(rebinding))
        .set("valid-lifetime", json!(lifetime))
        .set(
            "option-data",
            json!([
                { "name": "routers", "data": "192.0.2.254" },
                { "name": "domain-name-servers", "data": "192.0.2.53" },
                { "name": "domain-name", "data": "example.org" },
                { "name": "ntp-servers", "data": "192.0.2.123" },
                { "name": "tcode", "data": "Europe/Prague", "always-send": true },
            ]),
        )
        .kea_library("libdhcp_lease_cmds.so", json!({}))
}

/// Returns the options about the times of a lease that is valid for as long as its reply says.
#[track_caller]
fn times(reply: &Decoded) -> [Expected; 4] {
    let ago = seconds(reply, code::CLIENT_LAST_TRANSACTION_TIME);
    let [renewal, rebinding, lifetime] = TIMES;
    [
        number(code::LEASE_TIME, lifetime - ago),
        number(code::RENEWAL_TIME, renewal - ago),
        number(code::REBINDING_TIME, rebinding - ago),
        number(code::CLIENT_LAST_TRANSACTION_TIME, ago),
    ]
}

/// RFC 4388 section 6.4.2: a DHCPLEASEACTIVE has the requested options, and without a list those of a DHCPACK.
/// Times are relative (section 6.1).
#[test]
fn an_active_reply_has_the_options_of_its_lease() {
    let kea = setup().start();
    let (relay, requester) = (kea.relay(0), Requester::new(kea.place(), 1));
    let relay = relay.circuit_id(*b"port 3").remote_id(*b"\0line");
    let id = option(61, *b"\0id", "dhcp.client_id.undef", "id");
    let vendor = option(60, *b"vendor", "dhcp.option.vendor_class_id", "vendor");
    let mut client = Client::new(1)
        .client_id(id.value.clone())
        .option(60, vendor.value.clone());
    let leased = relay.lease(&mut client).yiaddr;
    let last = kea.lease(leased).expect("a lease")["cltt"].as_u64();

    let router = address(3, Ipv4Addr::new(192, 0, 2, 254), "dhcp.option.router");
    let mask = option(
        1,
        [255, 255, 255, 0],
        "dhcp.option.subnet_mask",
        "255.255.255.0",
    );
    let field = "dhcp.option.domain_name_server";
    let name_server = address(6, Ipv4Addr::new(192, 0, 2, 53), field);
    let domain = option(
        15,
        *b"example.org",
        "dhcp.option.domain_name",
        "example.org",
    );
    let field = "dhcp.option.tz_tcode";
    let zone = option(101, *b"Europe/Prague", field, "Europe/Prague");

    // A list cannot ask for those that the protocol decides about, nor for one twice.
    let requested = [
        vendor.code,
        15,
        3,
        UNKNOWN_OPTION,
        91,
        61,
        59,
        58,
        51,
        82,
        1,
        53,
        54,
        92,
        221,
        0,
        255,
        82,
        15,
    ];
    let bare = requester.by_mac(&client);
    let listed = requester
        .by_address(leased)
        .with(code::PARAMETER_REQUEST_LIST, requested);
    let before = now();
    let replies = ask(&kea, &requester, [&listed, &bare]);
    let after = now();
    let of_list = vec![vendor, domain.clone(), router.clone(), mask.clone()];
    let of_ack = vec![mask, router, name_server, domain, zone];
    for ((query, reply), further) in [&listed, &bare]
        .into_iter()
        .zip(&replies)
        .zip([of_list, of_ack])
    {
        let [lease, renewal, rebinding, ago] = times(reply);
        let time = last.expect("cltt") + u64::from(seconds(reply, ago.code));
        assert!((before..=after).contains(&time), "{time} from {before} on");
        let first = [option_82(), lease, renewal, rebinding, id.clone(), ago];
        check_reply(
            (query, reply),
            MessageType::LEASE_ACTIVE,
            (leased, (1, &client.chaddr)),
            &[&first[..], &further].concat(),
        );
    }
}

/// RFC 4388 section 6.4.2: the other addresses of a client, RFC 3396: in two options if there are more than 63.
#[test]
fn a_client_has_its_other_addresses_in_associated_ip() {
    let mut setup = setup();
    let place = setup.place;
    let [_, _, lifetime] = TIMES;
    let expire = now() + 2_500;
    for host in 100..=190 {
        // The most recent transaction is about this address.
        let more = u64::from(host == 150) * 5;
        let address = place.address(host);
        setup = setup.stored_lease(address, "02:00:00:00:00:01", lifetime, expire + more, "");
    }
    let kea = setup.start();
    let requester = Requester::new(place, 1);
    let client = Client::new(1);
    let others = (100..=190).filter(|host| *host != 150);
    let others: Vec<Ipv4Addr> = others.map(|host| place.address(host)).collect();
    let list = [51, 91];
    let by_mac = requester.by_mac(&client);
    let by_mac = by_mac.with(code::PARAMETER_REQUEST_LIST, list);
    // A query by IP address is about no other one.
    let by_address = requester.by_address(place.address(100));
    let by_address = by_address.with(code::PARAMETER_REQUEST_LIST, list);
    let replies = ask(&kea, &requester, [&by_mac, &by_address]);
    let associated = associated_ip(&others);
    assert_eq!(associated.len(), 2);
    for (query, reply, host, first) in [
        (&by_mac, &replies[0], 150, associated),
        (&by_address, &replies[1], 100, Vec::new()),
    ] {
        let [lease, _, _, ago] = times(reply);
        check_reply(
            (query, reply),
            MessageType::LEASE_ACTIVE,
            (place.address(host), (1, &client.chaddr)),
            &[&first[..], &[lease, ago]].concat(),
        );
    }
}

/// RFC 4388 section 6.4.2: other replies have no further options, but those that return the query's: its VPN-ID
/// (RFC 6607), and option 82 of a query by remote-id (RFC 6148 section 4.3).
#[test]
fn other_replies_have_no_further_options() {
    let setup = setup();
    let place = setup.place;
    let kea = setup
        .subnet(json!({
            "id": 2, "subnet": "10.2.0.0/24", "pools": [{ "pool": "10.2.0.10 - 10.2.0.10" }],
            "relay": { "ip-addresses": [place.relay(2).to_string()] },
            "user-context": { "vpn": { "name": "blue" } },
        }))
        .start();
    let requester = Requester::new(place, 1);
    let client = Client::new(1);
    let list = [51, 82, 91, 1, 3];
    let (unassigned, unknown) = (MessageType::LEASE_UNASSIGNED, MessageType::LEASE_UNKNOWN);
    let none = (0, &[][..]);
    let (free, elsewhere) = (place.address(150), Ipv4Addr::new(198, 51, 100, 1));
    let blue = || vpn_id(*b"\0blue");
    let nobody = remote_id(b"nobody");
    let by_remote_id = requester.query().with(nobody.code, nobody.value.clone());
    let in_blue = |query: Message| query.with(code::VPN_ID, *b"\0blue");
    let of_blue = Ipv4Addr::new(10, 2, 0, 10);
    let by_client = (Ipv4Addr::UNSPECIFIED, none);
    let by_mac = (Ipv4Addr::UNSPECIFIED, (1, &client.chaddr[..]));
    let cases = [
        (requester.by_address(free), unassigned, (free, none), vec![]),
        (
            requester.by_address(elsewhere),
            unknown,
            (elsewhere, none),
            vec![],
        ),
        (requester.by_mac(&client), unknown, by_mac, vec![]),
        (
            requester.by_client_id(b"\0nobody"),
            unknown,
            by_client,
            vec![],
        ),
        (by_remote_id, unknown, by_client, vec![nobody]),
        (
            in_blue(requester.by_address(of_blue)),
            unassigned,
            (of_blue, none),
            vec![blue()],
        ),
        (
            in_blue(requester.by_address(free)),
            unknown,
            (free, none),
            vec![blue()],
        ),
    ];
    let cases = cases.map(|(query, of_type, about, options)| {
        let query = query.with(code::PARAMETER_REQUEST_LIST, list);
        (query, of_type, about, options)
    });
    let replies = ask(&kea, &requester, cases.each_ref().map(|(query, ..)| query));
    for ((query, of_type, about, options), reply) in cases.iter().zip(&replies) {
        check_reply((query, reply), *of_type, *about, options);
    }
    // An active reply with the VPN of its address.
    let mut client = Client::new(2);
    let leased = kea.relay(2).lease(&mut client).yiaddr;
    let query = in_blue(requester.by_mac(&client));
    let query = query.with(code::PARAMETER_REQUEST_LIST, [51, 91]);
    let [reply] = ask(&kea, &requester, [&query]);
    let [lease, _, _, ago] = times(&reply);
    check_reply(
        (&query, &reply),
        MessageType::LEASE_ACTIVE,
        (leased, (1, &client.chaddr)),
        &[blue(), lease, ago],
    );
}
