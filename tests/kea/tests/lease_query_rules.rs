//! Replies over UDP through the lives of leases, servers and configurations.

use std::net::{Ipv4Addr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use kea_tests::clock::{later, now};
use kea_tests::packet::{Message, MessageType, code};
use kea_tests::storm::random::Random;
use kea_tests::{Client, Kea, Mode, Pair, Requester, Setup, eventually, eventually_some};
use serde_json::{Value, json};

/// Returns the type of the reply to a query.
#[track_caller]
fn reply_type(kea: &Kea, requester: &Requester, query: &Message) -> MessageType {
    let reply = requester.ask(kea, query);
    reply.message_type().expect("a message type")
}

/// Returns the value of one of Kea's statistics.
#[track_caller]
fn statistic(kea: &Kea, name: &str) -> u64 {
    let answer = kea.command_ok("statistic-get", json!({ "name": name }));
    answer[name][0][0].as_u64().unwrap_or(0)
}

/// Checks that an address is free, and that its last client has no lease.
#[track_caller]
fn check_free(kea: &Kea, requester: &Requester, (address, client): (Ipv4Addr, &Client)) {
    let query = requester.by_address(address);
    let found = reply_type(kea, requester, &query);
    assert_eq!(found, MessageType::LEASE_UNASSIGNED, "{address}");
    let found = reply_type(kea, requester, &requester.by_mac(client));
    assert_eq!(found, MessageType::LEASE_UNKNOWN, "{address}");
}

/// RFC 4388 section 6.4: a lease that was released or declined, or whose time is over, is not active.
#[test]
fn an_address_is_unassigned_after_its_lease() {
    let kea = Setup::with_hook(json!({}))
        .set("valid-lifetime", json!(3))
        // Kea itself does not reclaim expired leases.
        .set(
            "expired-leases-processing",
            json!({ "reclaim-timer-wait-time": 0 }),
        )
        .start();
    let (relay, requester) = (kea.relay(0), Requester::new(kea.place(), 1));
    let mut clients = [1, 2, 3].map(Client::new);
    let [released, declined, expired] = clients.each_mut().map(|client| {
        let address = relay.lease(client).yiaddr;
        let query = requester.by_address(address);
        let found = reply_type(&kea, &requester, &query);
        assert_eq!(found, MessageType::LEASE_ACTIVE);
        address
    });
    let [releases, declines, expires] = &mut clients;
    relay.release(releases);
    relay.decline(declines);
    // Kea answers after it has processed both: it has one thread by default, or orders messages by client.
    for (address, client) in [(released, &*releases), (declined, declines)] {
        eventually("the end of a lease", || {
            let query = requester.by_address(address);
            reply_type(&kea, &requester, &query) == MessageType::LEASE_UNASSIGNED
        });
        check_free(&kea, &requester, (address, client));
    }
    eventually("the end of a lifetime", || {
        let query = requester.by_mac(expires);
        reply_type(&kea, &requester, &query) == MessageType::LEASE_UNKNOWN
    });
    check_free(&kea, &requester, (expired, expires));
}

/// RFC 4388 section 6.4.2: the reply is about the address of the client's most recent transaction, and has its other
/// active ones.
#[test]
fn a_client_is_known_by_its_last_address() {
    let setup = Setup::with_hook(json!({}));
    let place = setup.place;
    let kea = setup
        // Kea 3.0 otherwise answers an early renewal without a change of the lease.
        .set("cache-threshold", json!(0.0001))
        .subnet(json!({
            "id": 2, "subnet": "10.2.0.0/24", "pools": [{ "pool": "10.2.0.10 - 10.2.0.20" }],
            "relay": { "ip-addresses": [place.relay(2).to_string()] },
        }))
        .start();
    let requester = Requester::new(place, 1);
    let relays = [kea.relay(0), kea.relay(2)];
    let check = |latest: Ipv4Addr, others: &[Ipv4Addr], client: &Client| {
        for query in [requester.by_mac(client), requester.by_client_id(b"\0id")] {
            let reply = requester.ask(&kea, &query);
            assert_eq!(reply.message_type(), Some(MessageType::LEASE_ACTIVE));
            let associated: Vec<u8> = others.iter().flat_map(Ipv4Addr::octets).collect();
            let found = reply.option(code::ASSOCIATED_IP).unwrap_or_default();
            assert_eq!((reply.ciaddr, found), (latest, associated));
        }
    };
    let mut clients = [1, 1].map(|n| Client::new(n).client_id(*b"\0id"));
    let [first, second] = &mut clients;
    let at_first = relays[0].lease(first).yiaddr;
    check(at_first, &[], first);
    later();
    let at_second = relays[1].lease(second).yiaddr;
    check(at_second, &[at_first], first);
    later();
    relays[0].renew(first);
    check(at_first, &[at_second], first);
    relays[0].release(first);
    eventually("a release", || {
        let reply = requester.ask(&kea, &requester.by_mac(second));
        reply.ciaddr == at_second
    });
    check(at_second, &[], second);
}

/// The contract: `non-sensitive-options` restricts the options of replies, but for those that RFC 4388 requires.
#[test]
fn requesters_receive_no_sensitive_options() {
    let kea = Setup::with_hook(json!({ "non-sensitive-options": [60] })).start();
    let (relay, requester) = (
        kea.relay(0).remote_id("line 1"),
        Requester::new(kea.place(), 1),
    );
    let mut client = Client::new(1).option(60, *b"vendor").option(12, *b"host");
    relay.lease(&mut client);
    let query = requester.by_mac(&client);
    let query = query.with(code::PARAMETER_REQUEST_LIST, [51, 12, 60, 61, 82, 1]);
    let reply = requester.ask(&kea, &query);
    let codes: Vec<u8> = reply.options.iter().map(|(code, _)| *code).collect();
    for code in [51, 60, 82] {
        assert!(codes.contains(&code), "{code} in {codes:?}");
    }
    for code in [12, 1] {
        assert!(!codes.contains(&code), "{code} in {codes:?}");
    }
}

/// A query that names a server is answered by that server alone: RFC 2131 section 4.3.2.
#[test]
fn a_query_to_another_server_is_not_answered() {
    let identifier = |data: &str| json!([{ "name": "dhcp-server-identifier", "data": data }]);
    let kea = Setup::with_hook(json!({}))
        .in_subnet(json!({ "option-data": identifier("192.0.2.68") }))
        .start();
    let requester = Requester::new(kea.place(), 1);
    let mut client = Client::new(1);
    let relay = kea.relay(0);
    let granted = relay.lease(&mut client);
    let of_subnet = [192, 0, 2, 68];
    assert_eq!(
        granted.option(code::SERVER_IDENTIFIER),
        Some(of_subnet.into())
    );
    for own in [of_subnet, [127, 0, 0, 1]] {
        let query = requester.by_mac(&client);
        let query = query.with(code::SERVER_IDENTIFIER, own);
        let found = reply_type(&kea, &requester, &query);
        assert_eq!(found, MessageType::LEASE_ACTIVE, "{own:?}");
    }
    for other in [[192, 0, 2, 69], [0; 4], [255; 4]] {
        let query = requester.by_mac(&client);
        let query = query.with(code::SERVER_IDENTIFIER, other);
        requester.send(&kea, &query);
        // Kea handles messages in turn.
        relay.renew(&client);
        assert_eq!(requester.receive(&query), None, "{other:?}");
    }
}

/// The reply goes to port 67 of giaddr: RFC 4388 section 6.4.1, RFC 2131 section 4.1.
#[test]
fn replies_go_to_port_67_wherever_the_query_comes_from() {
    let kea = Setup::with_hook(json!({})).start();
    let requester = Requester::new(kea.place(), 1);
    let mut client = Client::new(1);
    kea.relay(0).lease(&mut client);
    let sender = UdpSocket::bind((requester.address, 0)).expect("a port");
    let query = requester.by_mac(&client);
    let reply = eventually_some("a reply at port 67", || {
        let sent = sender.send_to(&query.encode(), kea.place().server());
        sent.expect("sent");
        requester.receive(&query)
    });
    assert_eq!(reply.message_type(), Some(MessageType::LEASE_ACTIVE));
    let timeout = Some(Duration::from_millis(1));
    sender.set_read_timeout(timeout).expect("a timeout");
    let found = sender.recv_from(&mut [0; 16]);
    assert!(found.is_err(), "a reply at the sender's port: {found:?}");
}

/// Both partners answer, whichever granted the lease.
#[test]
fn both_partners_answer() {
    for is_multi_threaded in [false, true] {
        let pair = Pair::start(Mode::LoadBalancing, is_multi_threaded, |setup| setup);
        let relay = pair.relay(0);
        let requester = Requester::new(pair.first.place(), 1);
        for n in [0, 1] {
            let (client, address) = pair.lease_from(n, &relay, 100 * (n as u16 + 1));
            for kea in pair.servers() {
                // The partner learns of the lease later.
                eventually("an active lease", || {
                    let query = requester.by_mac(&client);
                    reply_type(kea, &requester, &query) == MessageType::LEASE_ACTIVE
                });
                let reply = requester.ask(kea, &requester.by_address(address));
                assert_eq!(reply.message_type(), Some(MessageType::LEASE_ACTIVE));
                assert_eq!(reply.chaddr[..6], client.chaddr[..]);
            }
        }
    }
}

/// Libraries of Kea that read messages before it may come before this one or after it: each query has one reply.
#[test]
fn other_libraries_that_read_messages_may_come_before_or_after() {
    let setups = [
        Setup::with_hook(json!({})).kea_library("libdhcp_bootp.so", json!({})),
        Setup::with_hook(json!({})).without_its_partner(),
    ];
    for setup in setups {
        for is_reversed in [false, true] {
            let setup = setup.clone();
            let kea = match is_reversed {
                true => setup.reversed_libraries(),
                false => setup,
            };
            let kea = kea.start();
            kea.await_log("BLQ_LOADED");
            let requester = Requester::new(kea.place(), 1);
            // High availability disables Kea's service at first, and the change of state delays queries.
            let reply = eventually_some("a reply", || {
                let query = requester.by_mac(&Client::new(1));
                requester.send(&kea, &query);
                let reply = requester.receive(&query)?;
                assert_eq!(requester.receive(&query), None, "a second reply");
                Some(reply)
            });
            assert_eq!(reply.message_type(), Some(MessageType::LEASE_UNKNOWN));
            eventually("the statistics", || {
                let sent = statistic(&kea, "pkt4-lease-query-response-unknown-sent");
                let dropped = statistic(&kea, "blq4-udp-dropped");
                // Counted from Kea 3.2 on.
                let disabled = statistic(&kea, "pkt4-service-disabled");
                sent > 0
                    && statistic(&kea, "pkt4-lease-query-received") == sent + dropped
                    && statistic(&kea, "pkt4-sent") == sent
                    && statistic(&kea, "pkt4-receive-drop") == dropped + disabled
            });
        }
    }
}

/// Number of leases of an initial load that takes some time.
const LEASES: u32 = 60_000;

/// A query during the initial load has no reply, since it could be false, and is answered when it is sent again.
#[test]
fn a_query_during_the_initial_load_is_answered_later() {
    let end = now() + 3_600;
    let address = |number: u32| Ipv4Addr::from_bits(0x0a40_0000 + number);
    let setup = Setup::with_hook(json!({}))
        .multi_threading(true)
        .subnets(json!([{
            "id": 1, "subnet": "10.64.0.0/15", "pools": [{ "pool": "10.64.0.0 - 10.65.255.255" }],
        }]));
    let setup = (0..LEASES).fold(setup, |setup, number| {
        let [_, a, b, c] = number.to_be_bytes();
        let mac = format!("02:00:00:{a:02x}:{b:02x}:{c:02x}");
        setup.stored_lease(address(number), &mac, 3_600, end, "")
    });
    let place = setup.place;
    let requester = Requester::new(place, 1);
    let query = requester.by_address(address(LEASES - 1));
    let has_reply = AtomicBool::new(false);
    let kea = thread::scope(|scope| {
        // Also before Kea is started.
        let other = Requester::new(place, 2);
        let mut of_other = other.query();
        of_other.ciaddr = address(LEASES - 1);
        let has_reply = &has_reply;
        scope.spawn(move || {
            while !has_reply.load(Ordering::Relaxed) {
                other.send_octets(place.server(), &of_other.encode());
                thread::sleep(Duration::from_millis(1));
            }
        });
        let kea = setup.start();
        let found = reply_type(&kea, &requester, &query);
        has_reply.store(true, Ordering::Relaxed);
        assert_eq!(found, MessageType::LEASE_ACTIVE);
        kea
    });
    kea.await_log("BLQ_UDP_UNANSWERED");
}

/// Queries that arrive while Kea is reconfigured lose their replies at most.
#[test]
fn queries_during_reconfigurations_do_no_harm() {
    for is_multi_threaded in [false, true] {
        let mut kea = Setup::with_hook(json!({}))
            .multi_threading(is_multi_threaded)
            .start();
        let mut client = Client::new(1);
        kea.relay(0).lease(&mut client);
        let place = kea.place();
        let (answered, is_over) = (AtomicU32::new(0), AtomicBool::new(false));
        thread::scope(|scope| {
            for n in 1..=2 {
                let (client, answered, is_over) = (&client, &answered, &is_over);
                scope.spawn(move || {
                    let requester = Requester::new(place, n);
                    while !is_over.load(Ordering::Relaxed) {
                        // A few at a time, as far as they are answered.
                        let queries: Vec<_> = (0..16).map(|_| requester.by_mac(client)).collect();
                        for query in &queries {
                            requester.send_octets(place.server(), &query.encode());
                        }
                        for query in &queries {
                            let Some((octets, _)) = requester.receive_octets(query) else {
                                break;
                            };
                            let reply = Message::decode(&octets).expect("a message");
                            assert_eq!(reply.message_type(), Some(MessageType::LEASE_ACTIVE));
                            answered.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                });
            }
            for _ in 0..4 {
                let before = answered.load(Ordering::Relaxed);
                eventually("replies", || answered.load(Ordering::Relaxed) > before + 50);
                kea.command_ok("config-reload", Value::Null);
            }
            is_over.store(true, Ordering::Relaxed);
        });
        assert!(kea.is_running());
        let requester = Requester::new(place, 3);
        let found = reply_type(&kea, &requester, &requester.by_mac(&client));
        assert_eq!(found, MessageType::LEASE_ACTIVE);
        kea.stop();
    }
}

/// Number of hostile queries.
const HOSTILE: u64 = 4_000;

/// Returns the octets of a query with arbitrary options: of types that mean something here, repeated, of wrong
/// lengths, or cut short; also with other arbitrary octets.
fn spoilt(query: &Message, random: &mut Random) -> Vec<u8> {
    const CODES: [u8; 12] = [0, 50, 52, 53, 54, 55, 57, 61, 82, 92, 221, 255];
    let mut octets = query.encode();
    octets.pop();
    for _ in 0..random.below(6) {
        let length = random.below(9);
        octets.push(CODES[random.below(CODES.len())]);
        octets.push(length as u8);
        octets.extend((0..length).map(|_| random.below(8) as u8));
    }
    if random.chance(30) {
        octets.extend((0..random.below(400)).map(|_| random.below(256) as u8));
    }
    octets.push(code::END);
    if random.chance(20) {
        let place = random.below(octets.len());
        octets[place] = random.below(256) as u8;
    }
    if random.chance(10) {
        // A datagram without octets is no query: Kea reads it or not before it calls any library.
        octets.truncate(1 + random.below(octets.len() - 1));
    }
    octets
}

/// RFC 4388 section 7: a flood of queries that are not well-formed ends in nothing but counters.
#[test]
fn hostile_queries_do_no_harm() {
    for is_multi_threaded in [false, true] {
        let mut kea = Setup::with_hook(json!({ "advanced": { "udp-rate-limit": 0 } }))
            .multi_threading(is_multi_threaded)
            .start();
        let requester = Requester::new(kea.place(), 1);
        let mut client = Client::new(1);
        let relay = kea.relay(0);
        relay.lease(&mut client);
        let mut random = Random::new(4_388);
        for number in 0..HOSTILE {
            let query = match random.below(4) {
                0 => requester.by_mac(&client),
                1 => requester.by_address(kea.place().address(100)),
                2 => requester.by_client_id(b"\0id"),
                _ => requester.query(),
            };
            let octets = spoilt(&query, &mut random);
            requester.send_octets(kea.place().server(), &octets);
            // Not more than the socket's buffer has room for.
            if number % 100 == 0 {
                relay.renew(&client);
            }
        }
        let mut other = Client::new(2);
        relay.lease(&mut other);
        let query = requester.by_mac(&other);
        eventually("a reply", || {
            requester.send(&kea, &query);
            requester.receive(&query).is_some()
        });
        eventually("the statistics", || {
            statistic(&kea, "pkt4-lease-query-received") > HOSTILE / 2
        });
        assert!(kea.is_running());
        for name in ["pkt4-sent", "blq4-udp-dropped"] {
            let value = statistic(&kea, name);
            assert!(value > HOSTILE / 10, "{name} {value}");
        }
        let log = kea.log();
        assert!(!log.contains("BLQ_CALLOUT_FAILED"));
        let lines = log.lines().filter(|line| line.contains("BLQ_UDP"));
        assert!(lines.count() < 200, "a bounded log");
        kea.stop();
    }
}
