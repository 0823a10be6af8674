//! Queries that arrive during the initial load or cannot begin yet, and the ways in which they end.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use blq::wire::code;
use blq::{Answer, Connection, Primary, Query, State, StatusCode};
use kea_tests::clock::now;
use kea_tests::{Kea, Setup, eventually};
use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};

/// Number of Kea's leases: enough that its main thread can be blocked before all are loaded.
const LEASES: u32 = 100_000;

/// Number of requesters with a query for one binding each.
const REQUESTERS: u32 = 20;

/// Returns the address of a lease.
fn address(number: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(u32::from(Ipv4Addr::new(10, 64, 0, 0)) + number)
}

/// Returns the MAC address of a lease's client.
fn mac(number: u32) -> [u8; 6] {
    let [a, b, c, d] = number.to_be_bytes();
    [2, 0, a, b, c, d]
}

/// Returns a setup with that many leases of as many clients.
fn with_leases(parameters: Value) -> Setup {
    let setup = Setup::with_hook(parameters).subnets(json!([{
        "id": 1, "subnet": "10.64.0.0/15",
        "pools": [{ "pool": "10.64.0.0 - 10.65.255.255" }],
    }]));
    let end = now() + 3_600;
    (0..LEASES).fold(setup, |setup, number| {
        let octets = mac(number).map(|octet| format!("{octet:02x}")).join(":");
        setup.stored_lease(address(number), &octets, 3_600, end, "")
    })
}

/// Returns a query for one of the leases, spread over the table.
fn by_mac(requester: u32) -> (Ipv4Addr, Query) {
    let number = requester * (LEASES / REQUESTERS);
    let query = Query::new(Primary::Mac {
        htype: 1,
        address: mac(number).to_vec(),
    });
    (address(number), query)
}

/// Whether an answer is complete, with the expected number of active bindings. Any other answer
/// must have ended with QueryTerminated and without bindings.
#[track_caller]
fn is_complete(answer: &Answer, expected: usize) -> bool {
    let done = answer.done.as_ref().expect("DHCPLEASEQUERYDONE");
    let active = answer.bindings.iter();
    let active = active.filter(|binding| binding.state == Some(State::ACTIVE));
    let active = active.count();
    match done.failure() {
        None => {
            assert_eq!(active, expected, "a complete answer lacks bindings");
            true
        }
        Some(status) => {
            assert_eq!(status.code, StatusCode::QUERY_TERMINATED);
            assert!(!status.text.is_empty());
            // No binding is sent before the initial load is complete.
            assert_eq!(answer.bindings.len(), 0, "{status:?}");
            false
        }
    }
}

/// Pending queries of several requesters, each on its own connection.
struct PendingQueries(Vec<JoinHandle<bool>>);

impl PendingQueries {
    /// Sends the queries.
    fn send(kea: &Kea) -> PendingQueries {
        let one = (0..REQUESTERS).map(|requester| {
            let (address, query) = by_mac(requester);
            let ask = PendingQueries::ask(kea.connect(), query);
            thread::spawn(move || {
                let answer = ask();
                let is_complete = is_complete(&answer, 1);
                let is_it = |binding: &blq::Binding| binding.address == address;
                assert!(answer.bindings.iter().all(is_it));
                is_complete
            })
        });
        let all = PendingQueries::ask(kea.connect(), Query::new(Primary::All));
        let all = thread::spawn(move || is_complete(&all(), LEASES as usize));
        PendingQueries(one.chain([all]).collect())
    }

    /// Sends a query and waits until the server has read it. Returns a function that awaits the
    /// answer.
    fn ask(mut connection: Connection, query: Query) -> impl FnOnce() -> Answer {
        connection.send(&query).expect("sent");
        eventually("a query that was read", || unread(connection.socket()) == 0);
        move || {
            let mut answers = connection.collect_answers();
            answers.remove(&query.xid).expect("an answer")
        }
    }

    /// Returns the number of complete answers.
    fn complete(self) -> usize {
        let answers = self.0.into_iter().map(|one| one.join());
        answers
            .filter(|is_complete| *is_complete.as_ref().expect("no false answer"))
            .count()
    }
}

/// Returns parameters that admit all those requesters.
fn parameters() -> Value {
    json!({ "advanced": { "max-requester-connections": 100 } })
}

/// A query during the initial load gets a complete answer, or ends with QueryTerminated: when Kea
/// is stopped, when it is reconfigured, and when loading continues.
#[test]
fn never_answers_from_a_part_of_the_leases() {
    let mut kea = with_leases(parameters())
        .patience(Duration::from_secs(120))
        .start();
    let blocked = kea.block_main_thread();
    let pending = PendingQueries::send(&kea);
    assert!(!kea.log().contains("BLQ_LOADED"));
    kea.begin_to_stop();
    drop(blocked);
    assert_eq!(pending.complete(), 0);
    assert!(kea.await_end().success(), "{}", kea.log());

    kea.start_again();
    let blocked = kea.block_main_thread();
    let pending = PendingQueries::send(&kea);
    assert!(!kea.log().contains("BLQ_LOADED"));
    thread::scope(|scope| {
        let reload = scope.spawn(|| kea.command_ok("config-reload", Value::Null));
        drop(blocked);
        assert_eq!(pending.complete(), 0);
        reload.join().expect("no panic");
    });
    // The main thread is not blocked during this second load.
    let pending = PendingQueries::send(&kea);
    assert_eq!(pending.complete(), REQUESTERS as usize + 1);
}

/// The contract: control commands answer during the initial load, by the control socket and on the threads
/// of a high-availability partner's listener, even while the main thread is busy.
#[test]
fn control_commands_answer_during_the_initial_load() {
    let kea = with_leases(json!({})).without_its_partner().start();
    let status = kea.command_ok("blq4-status", Value::Null);
    assert_eq!(status["state"], "loading", "{status}");
    assert_eq!(status["load"]["complete"], false);

    let blocked = kea.block_main_thread();
    assert!(!kea.log().contains("BLQ_LOADED"));
    let (_, query) = by_mac(7);
    let connection = kea.connect();
    let peer = connection.socket().local_addr().expect("an address");
    let answer = PendingQueries::ask(connection, query);
    let partner = |name, arguments| {
        let answer: Value = kea.partner_command(name, arguments);
        assert_eq!(answer["result"], 0, "{name}: {answer}");
        answer["arguments"].clone()
    };
    let status = partner("blq4-status", json!({}));
    assert_eq!(status["state"], "loading", "{status}");
    let connections = partner("blq4-connections", json!({}));
    assert_eq!(connections["connections"][0]["port"], peer.port());
    let one = json!({ "address": peer.ip().to_string(), "port": peer.port() });
    partner("blq4-disconnect", one);
    assert!(!is_complete(&answer(), 1));
    assert!(!kea.log().contains("BLQ_LOADED"), "it was not blocked");
    drop(blocked);

    kea.await_log("BLQ_LOADED");
    assert_eq!(partner("blq4-status", json!({}))["state"], "serving");
    let leased = json!({ "ip-address": address(7).to_string() });
    let lease = partner("blq4-lease-get", leased);
    assert_eq!(lease["reply"]["message-type"], "DHCPLEASEACTIVE");
    partner("blq4-resync", json!({}));
}

/// Opens a connection from an address.
fn connect_from(kea: &Kea, source: [u8; 4]) -> Connection {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    let source = SocketAddr::from((source, 0));
    socket
        .bind(&source.into())
        .expect("an address of this host");
    let server = kea.place().lease_query();
    socket.connect(&server.into()).expect("a connection");
    let patience = Duration::from_secs(30);
    Connection::from_stream(TcpStream::from(socket), patience).expect("a connection")
}

/// Returns the number of octets that the server has not read from a connection, according to the
/// system.
fn unread(stream: &TcpStream) -> usize {
    let end = |address: SocketAddr| match address {
        SocketAddr::V4(address) => {
            let octets = u32::from_ne_bytes(address.ip().octets());
            format!("{octets:08X}:{:04X}", address.port())
        }
        SocketAddr::V6(_) => unreachable!("the hook listens on IPv4"),
    };
    let ours = end(stream.local_addr().expect("an address"));
    let servers = end(stream.peer_addr().expect("an address"));
    let table = fs::read_to_string("/proc/net/tcp").expect("the system's connections");
    let rows = table.lines().map(|line| line.split_whitespace().collect());
    let mut rows = rows.filter(|row: &Vec<&str>| row.get(1..3) == Some(&[&servers, &ours]));
    let row = rows.next().expect("the server's end");
    let (_, received) = row[4].split_once(':').expect("two queues");
    usize::from_str_radix(received, 16).expect("a number")
}

/// A waiting query occupies its own connection only: with a single query thread, malformed queries
/// are refused, unknown and idle requesters are disconnected, and the query itself ends with its
/// connection's idle time.
#[test]
fn a_waiting_query_does_not_delay_others() {
    let parameters = json!({
        "requesters": ["127.0.0.1"],
        "advanced": { "max-bulk-query-threads": 1, "max-requester-idle-time": 2 },
    });
    let kea = with_leases(parameters).start();
    let blocked = kea.block_main_thread();
    let (_, query) = by_mac(7);
    let mut waiting = kea.connect();
    waiting.send(&query).expect("sent");
    let mut idle = kea.connect();

    let mut connection = kea.connect();
    let malformed = Query::new(Primary::All).to_message().expect("a message");
    let malformed = malformed.with(code::QUERY_START_TIME, [0; 3]);
    connection.expect(malformed.xid);
    connection
        .send_octets(&malformed.to_frame().expect("short"))
        .expect("sent");
    let answer = connection.collect_answers().remove(&malformed.xid);
    let done = answer.expect("an answer").done.expect("DHCPLEASEQUERYDONE");
    let failure = done.failure().expect("a status");
    assert_eq!(failure.code, StatusCode::MALFORMED_QUERY);

    let mut stranger = connect_from(&kea, [127, 0, 0, 2]);
    assert!(stranger.next_message().expect("a close").is_none());

    let answer = waiting.collect_answers().remove(&query.xid);
    assert!(!is_complete(&answer.expect("an answer"), 1));
    for connection in [&mut waiting, &mut idle, &mut connection] {
        assert!(connection.next_message().expect("a close").is_none());
    }
    assert!(!kea.log().contains("BLQ_LOADED"), "it was not blocked");
    drop(blocked);
    kea.await_log("BLQ_LOADED");
    let (address, query) = by_mac(7);
    assert_eq!(kea.bindings(&query)[0].address, address);
}

/// RFC 6926, section 8.4: a query is read only when it can begin. Each query that was read ends
/// with a DHCPLEASEQUERYDONE; no octet of another query has left the socket.
#[test]
fn reads_no_query_that_it_cannot_begin() {
    for limit in [1, 2] {
        let parameters = json!({ "advanced": { "max-concurrent-queries": limit } });
        // The pool is so large that a query for it is not complete before the server is stopped.
        let kea = Setup::with_hook(parameters)
            .subnet(json!({ "id": 2, "subnet": "10.0.0.0/9",
                "pools": [{ "pool": "10.0.0.0/9" }] }))
            .start();
        let mut connection = kea.connect();
        let queries = [(); 3].map(|()| Query::new(Primary::All));
        let frames = queries
            .each_ref()
            .map(|query| query.to_bytes().expect("short"));
        for query in &queries[..limit] {
            connection.expect(query.xid);
        }
        connection.send_octets(&frames.concat()).expect("sent");
        assert!(connection.next_reply().expect("a reply").is_some());
        let left: usize = frames[limit..].iter().map(Vec::len).sum();
        assert_eq!(unread(connection.socket()), left);
        let reader = thread::spawn(move || {
            let answers = connection.collect_answers();
            (answers, connection.next_message())
        });
        kea.command_ok("config-reload", Value::Null);
        let (answers, end) = reader.join().expect("no panic");
        assert_eq!(answers.len(), limit);
        for answer in answers.values() {
            let done = answer.done.as_ref().expect("DHCPLEASEQUERYDONE");
            let failure = done.failure().expect("a status");
            assert_eq!(failure.code, StatusCode::QUERY_TERMINATED);
        }
        assert!(end.as_ref().is_ok_and(Option::is_none), "{end:?}");
    }
}
