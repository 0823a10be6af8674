//! Each query type and qualifier, on leases of a real Kea.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use blq::wire::frame;
use blq::{Binding, Primary, Query, StatusCode, Vss};
use kea_tests::ask::{addresses, by_mac, failure};
use kea_tests::packet::{code, sub_option};
use kea_tests::{Client, Kea, Setup, eventually};
use serde_json::json;

/// Returns the addresses of bindings as a set.
fn set(bindings: &[Binding]) -> BTreeSet<Ipv4Addr> {
    addresses(bindings).into_iter().collect()
}

/// Leases addresses to clients with MAC addresses ending in `from` to `from + count - 1`.
fn lease(kea: &Kea, relay: &kea_tests::Relay, from: u16, count: u16) -> BTreeSet<Ipv4Addr> {
    let leases = (from..from + count).map(|n| {
        let mut client = Client::new(n);
        relay.lease(&mut client);
        kea.await_active(&client).address
    });
    leases.collect()
}

/// RFC 6926, section 8.2: queries by remote-id and relay-id match the lease's option 82.
#[test]
fn finds_bindings_by_relay_id_and_remote_id() {
    let kea = Setup::with_hook(json!({})).start();
    let [one, two] = [(0, "line 1"), (1, "line 2")].map(|(n, line)| {
        kea.relay(n)
            .remote_id(line)
            .relay_id([b'r', n])
            .circuit_id("same")
    });
    let (behind_one, behind_two) = (lease(&kea, &one, 1, 3), lease(&kea, &two, 11, 2));
    let find = |primary| set(&kea.find(primary));
    assert_eq!(find(Primary::RemoteId(b"line 1".to_vec())), behind_one);
    assert_eq!(find(Primary::RemoteId(b"line 2".to_vec())), behind_two);
    assert_eq!(find(Primary::RelayId(vec![b'r', 0])), behind_one);
    assert_eq!(find(Primary::RelayId(vec![b'r', 1])), behind_two);
    assert_eq!(find(Primary::RemoteId(b"line".to_vec())), BTreeSet::new());
}

/// RFC 6926, section 6.2.1 and RFC 3046: identifiers of 255 octets, the longest possible
/// sub-option, are matched whole.
#[test]
fn finds_identifiers_of_255_octets() {
    let kea = Setup::with_hook(json!({})).start();
    let (long, longer) = (vec![b'x'; 255], vec![b'y'; 255]);
    let relay = kea.relay(0).remote_id(long.clone());
    let other = kea.relay(1).relay_id(longer.clone());
    let behind = lease(&kea, &relay, 1, 1);
    let behind_other = lease(&kea, &other, 2, 1);
    let found = kea.find(Primary::RemoteId(long.clone()));
    assert_eq!(set(&found), behind);
    assert_eq!(found.first().and_then(Binding::remote_id), Some(&long[..]));
    assert_eq!(set(&kea.find(Primary::RelayId(longer))), behind_other);
}

/// RFC 6926, section 8.2: a query by MAC address matches htype, hlen and chaddr together; a query
/// by client identifier matches exactly its octets.
#[test]
fn finds_clients_by_mac_address_and_client_identifier() {
    let kea = Setup::with_hook(json!({})).start();
    let relay = kea.relay(0);
    let mut ethernet = Client::new(1).client_id([0xff, 1, 2]);
    let mut other_type = Client::new(1).client_id([0xff, 1, 2, 3]);
    other_type.htype = 6;
    relay.lease(&mut ethernet);
    relay.lease(&mut other_type);
    for client in [&ethernet, &other_type] {
        kea.await_active(client);
        let address = client.address.expect("a lease");
        assert_eq!(addresses(&kea.find(by_mac(client))), [address]);
        let id = client.options[&code::CLIENT_IDENTIFIER].clone();
        assert_eq!(addresses(&kea.find(Primary::ClientId(id))), [address]);
    }
    assert_eq!(kea.find(by_mac(&Client::new(2))), []);
    assert_eq!(kea.find(Primary::ClientId(vec![0xff, 1])), []);
}

/// RFC 6926, section 7.2: a query without VPN-ID covers the default VPN, one with a VPN-ID covers
/// that VPN, with type 254 all VPNs. A reply names its VPN unless it is the default one (section
/// 6.2.9).
#[test]
fn keeps_vpns_apart() {
    let setup = Setup::with_hook(json!({}));
    let place = setup.place;
    let kea = setup
        .subnets(json!([
            {
                "id": 1,
                "subnet": place.subnet(),
                "pools": [{ "pool": place.pool(100, 109) }],
            },
            {
                "id": 2,
                "subnet": "10.2.0.0/24",
                "pools": [{ "pool": "10.2.0.10 - 10.2.0.19" }],
                "relay": { "ip-addresses": [place.relay(1).to_string()] },
                "user-context": { "vpn": { "name": "blue" } },
            },
        ]))
        .set(
            "shared-networks",
            json!([{
                "name": "customers",
                "user-context": { "vpn": { "rfc2685": "00005e00000007" } },
                "subnet4": [{
                    "id": 3,
                    "subnet": "10.3.0.0/24",
                    "pools": [{ "pool": "10.3.0.10 - 10.3.0.19" }],
                    "relay": { "ip-addresses": [place.relay(2).to_string()] },
                }],
            }]),
        )
        .start();
    // RFC 6607, section 3.1: the relay's own sub-option, here with a name.
    let by_relay = kea.relay(3).sub_option(sub_option::VSS, *b"\0green");
    let leases = [
        (None, kea.relay(0)),
        (Some(Vss::Name("blue".to_owned())), kea.relay(1)),
        (Some(Vss::Rfc2685([0, 0, 0x5e, 0, 0, 0, 7])), kea.relay(2)),
        (Some(Vss::Name("green".to_owned())), by_relay),
    ];
    let mut all = BTreeSet::new();
    for (n, (vpn, relay)) in (1..).zip(leases) {
        let mut client = Client::new(n);
        let address = relay.lease(&mut client).yiaddr;
        kea.await_active(&client);
        all.insert(address);
        let mut query = Query::new(by_mac(&client));
        query.vpn = vpn.clone();
        let found = kea.bindings(&query);
        assert_eq!(addresses(&found), [address], "{vpn:?}");
        assert_eq!(found[0].vpn, vpn);
        query.vpn = Some(if vpn.is_none() {
            Vss::Name("blue".to_owned())
        } else {
            Vss::Default
        });
        assert_eq!(kea.bindings(&query), [], "{vpn:?} in another VPN");
    }
    let mut query = Query::new(Primary::All);
    query.vpn = Some(Vss::All);
    let found = set(&kea.bindings(&query));
    assert!(found.is_superset(&all), "{all:?} in {found:?}");
}

/// RFC 6926, section 8.2: htype and hlen with a chaddr of zeros are a query by MAC address, which
/// matches a client with that address or none. Beside another identity they are ignored.
#[test]
fn finds_only_a_client_whose_mac_address_is_zeros() {
    let kea = Setup::with_hook(json!({})).start();
    let relay = kea.relay(0).remote_id("line 1");
    let mut zeros = Client::new(1).client_id([0xff, 1, 2]);
    zeros.chaddr = vec![0; 6];
    assert_eq!(kea.find(by_mac(&zeros)), []);
    let others = lease(&kea, &relay, 2, 2);
    assert_eq!(kea.find(by_mac(&zeros)), []);
    relay.lease(&mut zeros);
    let address = kea.await_active(&zeros).address;
    assert_eq!(addresses(&kea.find(by_mac(&zeros))), [address]);
    let behind = Query::new(Primary::RemoteId(b"line 1".to_vec()));
    let mut message = behind.to_message().expect("a query");
    (message.htype, message.hlen) = (1, 6);
    let mut connection = kea.connect();
    connection.expect(behind.xid);
    let octets = message.to_frame().expect("a message");
    connection.send_octets(&octets).expect("sent");
    let found = set(&connection.collect_answers()[&behind.xid].bindings);
    assert_eq!(found, &others | &[address].into());
}

/// RFC 6926, section 8.3, items 2 and 7: an empty delta has a base-time too, and the next delta
/// query from it misses no change.
#[test]
fn consecutive_deltas_start_at_the_previous_base_time() {
    let kea = Setup::with_hook(json!({})).start();
    let since = |start| {
        let mut query = Query::new(Primary::All);
        query.start = Some(start);
        let answer = kea.query(&query);
        let done = answer.done.expect("DHCPLEASEQUERYDONE");
        assert_eq!(done.failure(), None);
        (answer.bindings, done.base_time.expect("base-time"))
    };
    let (_, mut start) = since(0);
    eventually("an empty delta", || {
        let (bindings, next) = since(start);
        start = next;
        bindings.is_empty()
    });
    let relay = kea.relay(0);
    for number in 1..=20 {
        let mut client = Client::new(number);
        let address = relay.lease(&mut client).yiaddr;
        kea.await_active(&client);
        let (bindings, next) = since(start);
        assert!(addresses(&bindings).contains(&address), "from {start}");
        assert!(next >= start);
        start = next;
    }
}

/// RFC 6926, section 8.2: a query that is malformed after its type ends with a DHCPLEASEQUERYDONE;
/// then the connection is closed.
#[test]
fn answers_a_malformed_query_and_closes_the_connection() {
    let kea = Setup::with_hook(json!({})).start();
    let query = Query::new(Primary::All);
    let mut message = query.to_message().expect("a query").encode();
    message.pop();
    message.extend([61, 200, 1]);
    let mut connection = kea.connect();
    connection.expect(query.xid);
    let octets = frame(&message).expect("a message");
    connection.send_octets(&octets).expect("sent");
    let answers = connection.collect_answers();
    let done = answers[&query.xid].done.as_ref();
    let done = done.expect("DHCPLEASEQUERYDONE");
    let (status, text) = failure(done);
    assert_eq!(status, StatusCode::MALFORMED_QUERY);
    assert!(text.contains("option 61"), "{text}");
    assert!(matches!(connection.next_message(), Ok(None)));
    assert_eq!(kea.find(Primary::All).len(), 101);
}

/// RFC 6926, section 8.1: a query type that the requester may not use is NotAllowed.
#[test]
fn refuses_query_types_not_allowed_to_the_requester() {
    let only_by_mac = json!([{ "address": "127.0.0.0/8", "query-types": ["mac"] }]);
    let kea = Setup::with_hook(json!({ "requesters": only_by_mac })).start();
    let answer = kea.query(&Query::new(Primary::All));
    let done = answer.done.expect("DHCPLEASEQUERYDONE");
    assert_eq!(failure(&done).0, StatusCode::NOT_ALLOWED);
    assert_eq!(kea.find(by_mac(&Client::new(1))), []);
}

/// RFC 6926, section 8.1: the connection of an unknown requester is closed.
#[test]
fn refuses_unknown_requesters() {
    let kea = Setup::with_hook(json!({ "requesters": ["192.0.2.1"] })).start();
    let answered = kea.try_connect().is_ok_and(|mut connection| {
        let answer = connection.query(&Query::new(Primary::All));
        answer.done.is_ok_and(|done| done.failure().is_none())
    });
    assert!(!answered);
}

/// RFC 6926, section 7.1: each of several concurrent queries on a connection gets its own answer.
#[test]
fn answers_several_queries_on_a_connection() {
    let kea = Setup::with_hook(json!({})).start();
    let relay = kea.relay(0).remote_id("line 1");
    let leased = lease(&kea, &relay, 1, 2);
    let mut connection = kea.connect();
    let all = Query::new(Primary::All);
    let one = Query::new(Primary::RemoteId(b"line 1".to_vec()));
    // Both queries in one segment: the second must not be lost.
    let mut octets = all.to_bytes().expect("a query");
    octets.extend(one.to_bytes().expect("a query"));
    connection.expect(all.xid);
    connection.expect(one.xid);
    connection.send_octets(&octets).expect("sent");
    let answers = connection.collect_answers();
    assert_eq!(answers[&all.xid].bindings.len(), 101);
    assert_eq!(set(&answers[&one.xid].bindings), leased);
}
