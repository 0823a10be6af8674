//! Clients' messages count as Kea interprets them: with any other contents, malformed in any way,
//! and with any identity that Kea uses.

use std::net::Ipv4Addr;

use blq::{Binding, Primary, Query, State, Vss};
use kea_tests::ask::{addresses, by_mac};
use kea_tests::clock::later;
use kea_tests::packet::code::{
    CLIENT_IDENTIFIER, END, HOST_NAME, OVERLOAD, RELAY_AGENT_INFORMATION, REQUESTED_ADDRESS,
    SERVER_IDENTIFIER,
};
use kea_tests::packet::sub_option::{CIRCUIT_ID, RELAY_ID, REMOTE_ID, VSS};
use kea_tests::packet::{Message, MessageType, value};
use kea_tests::{
    Client, Kea, Relay, Setup, eventually, eventually_some, has_kea_library, kea_version, packet,
};
use serde_json::json;

/// Kea's library that replaces clients' identifiers, from 3.0 on.
const FLEX_ID: &str = "libdhcp_flex_id.so";

/// The number of the client whose identifier is replaced.
const FLEXIBLE: u16 = 6;

/// Returns an option 82 that a client writes where only a relay agent may: line VICTIM, VPN blue.
fn forged() -> Vec<u8> {
    let sub_options = [
        (RELAY_ID, b"VICTIM".to_vec()),
        (REMOTE_ID, b"VICTIM".to_vec()),
        (VSS, b"\0blue".to_vec()),
    ];
    let mut octets =
        packet::sub_options(&[(RELAY_AGENT_INFORMATION, packet::sub_options(&sub_options))]);
    octets.push(END);
    octets
}

/// Returns the addresses that a query finds in a VPN.
fn found_in(kea: &Kea, vpn: Vss, primary: Primary) -> Vec<Ipv4Addr> {
    let mut query = Query::new(primary);
    query.vpn = Some(vpn);
    addresses(&kea.bindings(&query))
}

/// Returns a query by remote-id.
fn by_remote_id(line: &str) -> Primary {
    Primary::RemoteId(line.into())
}

/// Returns the option 82 of a binding.
fn option_82(binding: &Binding) -> &[u8] {
    let information = binding.relay_agent_information.as_ref();
    information.map_or(&[], |information| &information.raw)
}

/// Waits until the binding of a leased address has the option 82 that Kea's answer echoes.
#[track_caller]
fn await_option_82(kea: &Kea, answer: &Message) -> Binding {
    let echoed = value(answer, RELAY_AGENT_INFORMATION);
    let address = answer.yiaddr;
    eventually_some(&format!("{address} with option 82 {echoed:02x?}"), || {
        kea.binding(address)
            .filter(|binding| option_82(binding) == echoed)
    })
}

/// Waits until a binding has a later client transaction. Returns it.
#[track_caller]
fn await_transaction(kea: &Kea, known: &Binding) -> Binding {
    eventually_some("a later transaction", || {
        let binding = kea.binding(known.address)?;
        let [before, after] = [known, &binding].map(Binding::client_last_transaction_at);
        (after > before).then_some(binding)
    })
}

/// Waits until an address is found by another remote-id, and no longer by the former.
#[track_caller]
fn await_move(kea: &Kea, address: Ipv4Addr, from: &str, to: &str) {
    eventually(&format!("{address} on {to}"), || {
        addresses(&kea.find(by_remote_id(to))) == [address]
    });
    assert_eq!(kea.find(by_remote_id(from)), [], "{from}");
}

/// Starts Kea with two subnets. In the second it stores relay agent information with leases.
fn kea_with_two_subnets() -> Kea {
    let setup = Setup::with_hook(json!({}));
    let place = setup.place;
    let half = |first| format!("{}/25", place.address(first));
    setup
        .subnets(json!([
            { "id": 1, "subnet": half(0), "pools": [{ "pool": place.pool(30, 120) }] },
            { "id": 2, "subnet": half(128), "pools": [{ "pool": place.pool(150, 250) }] },
        ]))
        .in_subnet(json!({ "store-extended-info": false }))
        .set("store-extended-info", json!(true))
        .kea_library("libdhcp_lease_cmds.so", json!({}))
        .start()
}

/// Returns a relay agent in the second subnet.
fn storing_relay(kea: &Kea) -> Relay {
    kea.relay_at(kea.place().address(129))
}

/// Returns the option 82 that Kea stores with a lease, if any.
fn stored(kea: &Kea, address: Ipv4Addr) -> Option<Vec<u8>> {
    let lease = kea.command_ok("lease4-get", json!({ "ip-address": address.to_string() }));
    let info = &lease["user-context"]["ISC"]["relay-agent-info"];
    let text = info.as_str().or_else(|| info["sub-options"].as_str())?;
    let digits = text.strip_prefix("0x")?.as_bytes();
    let octet = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    digits.chunks(2).map(octet).collect()
}

/// RFC 3046, section 2.1: the relay agent adds option 82 to the options field. Octets that a client
/// writes into sname and file do not count, even if option 52 declares them. The option as Kea
/// parses it counts, with anything after it.
#[test]
fn takes_option_82_as_kea_does() {
    let mut kea = kea_with_two_subnets();
    forged_in_other_fields(&kea);
    malformed_tails(&kea);
    odd_option_82(&kea);
    without_a_relay_agent(&kea);
    after_kea_has_stopped_storing(&mut kea);
}

/// A client writes an option 82 into sname, into file, into both.
fn forged_in_other_fields(kea: &Kea) {
    for (n, overload, in_sname, in_file) in [
        (1, 1, false, true),
        (2, 2, true, false),
        (3, 3, true, true),
        (4, 0, true, true),
    ] {
        let line = format!("true-rid {n}");
        let relay = kea.relay(0).circuit_id("port-5").remote_id(line.as_str());
        let mut client = Client::new(n).option(OVERLOAD, [overload]);
        if in_sname {
            client.sname = forged();
        }
        if in_file {
            client.file = forged();
        }
        let ack = relay.lease(&mut client);
        let address = ack.yiaddr;
        let binding = await_option_82(kea, &ack);
        assert_eq!(option_82(&binding), relay.option_82());
        assert_eq!(binding.vpn, None, "overload {overload}");
        let found = found_in(kea, Vss::Default, by_remote_id(&line));
        assert_eq!(found, [address], "overload {overload}");
        for vpn in [Vss::Default, Vss::All, Vss::Name("blue".into())] {
            for primary in [Primary::RelayId(b"VICTIM".to_vec()), by_remote_id("VICTIM")] {
                let found = found_in(kea, vpn.clone(), primary);
                assert!(found.is_empty(), "{vpn:?}: {found:?}");
            }
        }
        let in_blue = found_in(kea, Vss::Name("blue".into()), by_mac(&client));
        assert!(in_blue.is_empty(), "overload {overload}");
    }
}

/// The options field ends within an option, or option 52 declares octets that are no options, in
/// messages of new and of moved clients. The client's options before that point are kept.
fn malformed_tails(kea: &Kea) {
    let cut = [HOST_NAME, 0x20, b'a', b'b', b'c'];
    let junk = [HOST_NAME, 0xff, 1, 2, 3, 0, 0xfe];
    for (n, ending, file) in [
        (11, &cut[..], &[][..]),
        (12, &[HOST_NAME], &[]),
        (13, &[], &[]),
        (14, &[END], &junk),
        (15, &[RELAY_AGENT_INFORMATION, 9, REMOTE_ID], &junk),
    ] {
        let lines = ["A", "B"].map(|line| format!("{line} {n}"));
        let [one, other] =
            [(0, &lines[0]), (1, &lines[1])].map(|(n, line)| kea.relay(n).remote_id(line.as_str()));
        let mut client = Client::new(n).option(60, *b"vendor").ending(ending);
        client.options.insert(OVERLOAD, vec![1]);
        client.file = file.to_vec();
        let ack = one.lease(&mut client);
        assert_eq!(value(&ack, RELAY_AGENT_INFORMATION), one.option_82());
        await_option_82(kea, &ack);
        let address = ack.yiaddr;
        assert_eq!(addresses(&kea.find(by_remote_id(&lines[0]))), [address]);
        other.renew(&client);
        await_move(kea, address, &lines[0], &lines[1]);
        let mut query = Query::new(by_mac(&client));
        query.parameter_request_list = Some(vec![HOST_NAME, 60]);
        let [binding] = &kea.bindings(&query)[..] else {
            panic!("one binding")
        };
        let vendor = binding.options.get(&60).map(Vec::as_slice);
        assert_eq!(vendor, Some(&b"vendor"[..]), "ending {ending:?}");
        assert_eq!(binding.options.get(&HOST_NAME), None, "ending {ending:?}");
    }
}

/// The sub-options of a relay agent's option 82, and the value of a second option 82; empty if
/// none.
type Odd = (&'static [(u8, &'static str)], &'static [u8]);

/// Sub-options repeated, empty and in any order, and a second option 82, which each version of Kea
/// parses differently. Option 82 is returned as Kea echoes and stores it, and the binding is found
/// by the identifiers in it.
fn odd_option_82(kea: &Kea) {
    const SECOND: [u8; 9] = [CIRCUIT_ID, 1, b'2', REMOTE_ID, 4, b' ', b'8', b'2', b'!'];
    let odd: [Odd; 5] = [
        (
            &[(REMOTE_ID, "joi"), (CIRCUIT_ID, "c"), (REMOTE_ID, "ned")],
            &[],
        ),
        (
            &[(RELAY_ID, "r"), (REMOTE_ID, "later"), (CIRCUIT_ID, "c")],
            &[],
        ),
        (&[(CIRCUIT_ID, ""), (REMOTE_ID, "after an empty one")], &[]),
        (&[(REMOTE_ID, ""), (RELAY_ID, "after an empty one")], &[]),
        (&[(REMOTE_ID, "one of"), (RELAY_ID, "two")], &SECOND),
    ];
    let mut number = 20;
    for (sub_options, second) in odd {
        for (is_stored, mut relay) in [(false, kea.relay(0)), (true, storing_relay(kea))] {
            let sub_options = sub_options.iter();
            let sub_options: Vec<_> = sub_options
                .map(|(code, value)| (*code, value.as_bytes().to_vec()))
                .collect();
            relay.set_sub_options(&sub_options);
            let mut ending = vec![END];
            if !second.is_empty() {
                let second = (RELAY_AGENT_INFORMATION, second.to_vec());
                ending.splice(..0, packet::sub_options(&[second]));
            }
            number += 1;
            let mut client = Client::new(number).ending(ending);
            let ack = relay.lease(&mut client);
            let binding = await_option_82(kea, &ack);
            if is_stored {
                let stored = stored(kea, ack.yiaddr);
                assert_eq!(stored.as_deref(), Some(option_82(&binding)));
            }
            if !second.is_empty() {
                assert_eq!(binding.circuit_id(), Some(&b"2"[..]));
            }
            for (id, primary) in [
                (binding.remote_id(), Primary::RemoteId as fn(_) -> _),
                (binding.relay_id(), Primary::RelayId),
            ] {
                if let Some(id) = id.filter(|id| !id.is_empty()) {
                    let found = addresses(&kea.find(primary(id.to_vec())));
                    assert!(found.contains(&ack.yiaddr), "{id:?} {found:?}");
                }
            }
        }
    }
    let joined = addresses(&kea.find(by_remote_id("joined")));
    assert_eq!(joined.len(), 2, "{joined:?}");
}

/// RFC 4388, section 6.4.2: an option 82 in a message without a relay agent is the client's own and
/// is ignored, unless Kea stores it with the lease.
fn without_a_relay_agent(kea: &Kea) {
    let own = packet::sub_options(&[(REMOTE_ID, b"my own".to_vec())]);
    let plain = kea.relay(0).remote_id("line of the relay agent");
    let storing = storing_relay(kea).remote_id("line that is stored");
    for (n, relay, is_stored) in [(41, plain, false), (42, storing, true)] {
        let mut client = Client::new(n);
        let ack = relay.lease(&mut client);
        let leased = await_option_82(kea, &ack);
        later();
        client.options.insert(RELAY_AGENT_INFORMATION, own.clone());
        relay.renew_unicast(&client);
        let renewed = await_transaction(kea, &leased);
        let expected = if is_stored {
            assert_eq!(stored(kea, ack.yiaddr).as_ref(), Some(&own));
            own.clone()
        } else {
            relay.option_82()
        };
        assert_eq!(option_82(&renewed), expected, "stored: {is_stored}");
    }
}

/// Kea keeps the option 82 of an earlier message with a lease when `store-extended-info` is
/// disabled.
fn after_kea_has_stopped_storing(kea: &mut Kea) {
    let old = storing_relay(kea).remote_id("where it was");
    let mut client = Client::new(51);
    let ack = old.lease(&mut client);
    let leased = await_option_82(kea, &ack);
    assert_eq!(stored(kea, ack.yiaddr), Some(old.option_82()));
    let answer = kea.reconfigure(|setup| setup.set("store-extended-info", json!(false)));
    assert_eq!(answer["result"], 0, "{answer}");
    later();
    let new = kea
        .relay_at(kea.place().address(130))
        .remote_id("where it is");
    let ack = new.renew(&client);
    let moved = await_option_82(kea, &ack);
    assert!(moved.client_last_transaction_at() > leased.client_last_transaction_at());
    later();
    new.renew_unicast(&client);
    let renewed = await_transaction(kea, &moved);
    assert_eq!(stored(kea, ack.yiaddr), Some(old.option_82()));
    assert_eq!(option_82(&renewed), new.option_82());
}

/// Returns the time of the client's last transaction in Kea's lease, in seconds since 1970.
fn held_since(kea: &Kea, address: Ipv4Addr) -> u64 {
    let lease = kea.command_ok("lease4-get", json!({ "ip-address": address.to_string() }));
    lease["cltt"].as_u64().expect("cltt")
}

/// Starts Kea with lease caching, its library for BOOTP clients and, where available, the one that
/// replaces client identifiers.
fn kea_with_lease_cache() -> Kea {
    let setup = Setup::with_hook(json!({}));
    let place = setup.place;
    let half = |first| format!("{}/25", place.address(first));
    let mut setup = setup
        .subnets(json!([
            { "id": 1, "subnet": half(0), "pools": [{ "pool": place.pool(30, 120) }] },
            { "id": 2, "subnet": half(128), "pools": [{ "pool": place.pool(150, 250) }],
              "match-client-id": false },
        ]))
        .kea_library("libdhcp_lease_cmds.so", json!({}))
        // Loaded before the hook, which then gets answers without a message type.
        .kea_library_first("libdhcp_bootp.so", json!({}));
    if has_kea_library(FLEX_ID) {
        setup = setup.kea_library(
            FLEX_ID,
            json!({ "identifier-expression": "option[60].hex", "replace-client-id": true }),
        );
    }
    if !kea_version().starts_with("3.") {
        setup = setup.set("cache-threshold", json!(0.25));
    }
    setup.start()
}

/// Fills in a client's next DHCPREQUEST.
type Change = fn(&Client, &mut Message);

/// Returns the client's leased address as the value of an option.
fn leased(client: &Client) -> Vec<u8> {
    client.address.expect("a lease").octets().to_vec()
}

/// Fills in a request for renewing or rebinding (RFC 2131, section 4.3.2).
fn renewing(client: &Client, request: &mut Message) {
    request.ciaddr = client.address.expect("a lease");
}

/// Fills in a request after a reboot.
fn rebooting(client: &Client, request: &mut Message) {
    let address = leased(client);
    request.set(REQUESTED_ADDRESS, address);
}

/// Fills in a request after an offer.
fn selecting(client: &Client, request: &mut Message) {
    rebooting(client, request);
    let server = client.server.expect("a lease").octets().to_vec();
    request.set(SERVER_IDENTIFIER, server);
}

/// Fills in a request whose ciaddr is not the client's address; Kea uses the option.
fn with_another_ciaddr(client: &Client, request: &mut Message) {
    rebooting(client, request);
    request.ciaddr = Ipv4Addr::new(192, 0, 2, 1);
}

/// Fills in a request with another client identifier, where Kea does not use it.
fn with_another_id(client: &Client, request: &mut Message) {
    renewing(client, request);
    request.set(CLIENT_IDENTIFIER, vec![0xff, 0]);
}

/// A client that returns through another line while its lease is recent.
struct Returning {
    /// The number in the names of the client's lines.
    n: u16,
    /// The former binding.
    before: Binding,
    /// The time of the last transaction in Kea's lease.
    held_since: u64,
    /// The relay agent that forwards the next message.
    by: usize,
    /// The message.
    request: Message,
}

/// Returns the former and the new line of a client.
fn lines(n: u16) -> [String; 2] {
    ["A", "B"].map(|line| format!("{line} {n}"))
}

/// Sets the line for the messages of a relay agent.
fn set_line(relay: &mut Relay, line: &str) {
    relay.set_sub_options(&[(REMOTE_ID, line.into())]);
}

/// RFC 6926, section 8.3: a transaction that Kea answers from its lease cache counts for the
/// lease's client, with any identity and address that Kea uses, and its relay agent is the client's
/// latest. An answer without an address is not a transaction of the lease.
#[test]
fn follows_clients_whose_leases_kea_caches() {
    let kea = kea_with_lease_cache();
    // Two relay agents in each subnet.
    let mut relays = [10, 11, 138, 139].map(|host| kea.relay_at(kea.place().address(host)));
    let mut returning = clients_with_leases(&kea, &mut relays);
    returning.push(bootp_client_with_lease(&kea, &mut relays[0]));
    let silent = send_other_messages(&kea, &mut relays);
    later();
    for Returning {
        n,
        before,
        held_since: held,
        by,
        request,
    } in &returning
    {
        let [from, to] = lines(*n);
        set_line(&mut relays[*by], &to);
        assert_eq!(relays[*by].exchange(request).yiaddr, before.address, "{n}");
        await_move(&kea, before.address, &from, &to);
        let binding = kea.binding(before.address).expect("a binding");
        let [earlier, latest] = [before, &binding].map(Binding::client_last_transaction_at);
        assert!(latest > earlier, "{n}: {earlier:?} {latest:?}");
        assert_eq!(binding.client_id, before.client_id, "{n}");
        assert_eq!(held_since(&kea, before.address), *held, "{n}");
    }
    for before in silent {
        let binding = kea.binding(before.address).expect("a binding");
        assert_eq!(option_82(&binding), option_82(&before));
        let [earlier, latest] = [&before, &binding].map(Binding::client_last_transaction_at);
        assert_eq!(latest, earlier);
    }
}

/// Returns clients of all kinds with leases, and the messages of their return.
fn clients_with_leases(kea: &Kea, relays: &mut [Relay; 4]) -> Vec<Returning> {
    let id = |n: u16| Client::new(n).client_id([0xff, 1, 2, n.to_be_bytes()[1]]);
    let flexible: Change = match has_kea_library(FLEX_ID) {
        true => with_another_id,
        false => renewing,
    };
    let changes: [(u16, Client, usize, Change); 7] = [
        (1, id(1), 0, renewing),
        (2, Client::new(2), 0, rebooting),
        (3, id(3), 0, selecting),
        (4, id(4), 0, with_another_ciaddr),
        (5, id(5).ending([HOST_NAME, 0x20, b'a']), 0, renewing),
        (FLEXIBLE, id(6).option(60, *b"flexible"), 0, flexible),
        (7, id(7), 2, with_another_id),
    ];
    let returning = changes.map(|(n, mut client, relay, change)| {
        set_line(&mut relays[relay], &lines(n)[0]);
        relays[relay].lease(&mut client);
        let before = kea.await_active(&client);
        if n == FLEXIBLE && has_kea_library(FLEX_ID) {
            let id = before.client_id.as_deref();
            assert_eq!(id, Some(&b"\0flexible"[..]));
        }
        let mut request = client.message(MessageType::REQUEST);
        change(&client, &mut request);
        Returning {
            n,
            held_since: held_since(kea, before.address),
            before,
            by: relay + 1,
            request,
        }
    });
    returning.into()
}

/// Returns a BOOTP client with an address, and the repetition of its message.
fn bootp_client_with_lease(kea: &Kea, relay: &mut Relay) -> Returning {
    let n = 8;
    let mut request = Client::new(n).message(MessageType::REQUEST);
    request.options.clear();
    set_line(relay, &lines(n)[0]);
    let reply = relay.exchange(&request);
    assert_eq!(reply.message_type(), None, "{reply:?}");
    Returning {
        n,
        held_since: held_since(kea, reply.yiaddr),
        before: kea.await_state(reply.yiaddr, State::ACTIVE),
        by: 1,
        request,
    }
}

/// Sends messages of clients with leases whose answers are not transactions of these leases.
/// Returns the former bindings.
fn send_other_messages(kea: &Kea, relays: &mut [Relay; 4]) -> Vec<Binding> {
    let [one, other, ..] = relays;
    set_line(one, "A");
    set_line(other, "B");
    let mut clients = [11, 12, 13, 14].map(Client::new);
    let bindings = clients.each_mut().map(|client| {
        one.lease(client);
        kea.await_active(client)
    });
    later();
    let [refused, informed, discovering, unknown] = &clients;
    let mut request = refused.message(MessageType::REQUEST);
    request.set(REQUESTED_ADDRESS, leased(informed));
    assert_eq!(
        other.exchange(&request).message_type(),
        Some(MessageType::NAK)
    );
    let mut inform = informed.message(MessageType::INFORM);
    renewing(informed, &mut inform);
    // The answer goes to the client itself.
    other.forward(&inform);
    other.discover(discovering);
    let mut request = Client::new(15).message(MessageType::REQUEST);
    selecting(unknown, &mut request);
    assert_eq!(
        other.exchange(&request).message_type(),
        Some(MessageType::NAK)
    );
    bindings.into()
}
