//! Queries that come while Kea's leases are loaded, or that cannot be begun yet, and what may happen to them.

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

/// How many leases Kea has: so many that its main thread can be held before they are all loaded.
const LEASES: u32 = 100_000;

/// How many requesters ask for one binding each.
const REQUESTERS: u32 = 20;

/// The address of a lease.
fn address(number: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(u32::from(Ipv4Addr::new(10, 64, 0, 0)) + number)
}

/// The MAC address of its client.
fn mac(number: u32) -> [u8; 6] {
    let [a, b, c, d] = number.to_be_bytes();
    [2, 0, a, b, c, d]
}

/// A server with that many leases of as many clients.
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

/// A query for one of the leases, from all over the table.
fn by_mac(requester: u32) -> (Ipv4Addr, Query) {
    let number = requester * (LEASES / REQUESTERS);
    let query = Query::new(Primary::Mac {
        htype: 1,
        address: mac(number).to_vec(),
    });
    (address(number), query)
}

/// Whether an answer is whole, with so many active bindings; else it must have ended with QueryTerminated
/// and without any.
#[track_caller]
fn is_whole(answer: &Answer, expected: usize) -> bool {
    let done = answer.done.as_ref().expect("DHCPLEASEQUERYDONE");
    let active = answer.bindings.iter();
    let active = active.filter(|binding| binding.state == Some(State::ACTIVE));
    let active = active.count();
    match done.failure() {
        None => {
            assert_eq!(active, expected, "a whole answer lacks bindings");
            true
        }
        Some(status) => {
            assert_eq!(status.code, StatusCode::QUERY_TERMINATED);
            assert!(!status.text.is_empty());
            // No binding was sent before all could be.
            assert_eq!(answer.bindings.len(), 0, "{status:?}");
            false
        }
    }
}

/// Queries of several requesters, each on a connection of its own, being answered.
struct Asked(Vec<JoinHandle<bool>>);

impl Asked {
    /// Sends them.
    fn send(kea: &Kea) -> Asked {
        let one = (0..REQUESTERS).map(|requester| {
            let (address, query) = by_mac(requester);
            let ask = Asked::ask(kea.connect(), query);
            thread::spawn(move || {
                let answer = ask();
                let is_whole = is_whole(&answer, 1);
                let is_it = |binding: &blq::Binding| binding.address == address;
                assert!(answer.bindings.iter().all(is_it));
                is_whole
            })
        });
        let all = Asked::ask(kea.connect(), Query::new(Primary::All));
        let all = thread::spawn(move || is_whole(&all(), LEASES as usize));
        Asked(one.chain([all]).collect())
    }

    /// Sends one, and waits until the server has read it; the answer when it comes.
    fn ask(mut connection: Connection, query: Query) -> impl FnOnce() -> Answer {
        connection.send(&query).expect("sent");
        eventually("a query that was read", || unread(connection.socket()) == 0);
        move || {
            let mut answers = connection.collect_answers();
            answers.remove(&query.xid).expect("an answer")
        }
    }

    /// How many were answered, and not ended.
    fn whole(self) -> usize {
        let answers = self.0.into_iter().map(|one| one.join());
        answers
            .filter(|is_whole| *is_whole.as_ref().expect("no false answer"))
            .count()
    }
}

/// Places for all those requesters.
fn parameters() -> Value {
    json!({ "advanced": { "max-requester-connections": 100 } })
}

/// A query that comes before all leases are loaded is answered from all of them, or ends with
/// QueryTerminated: when Kea is stopped, when it is reconfigured, and when it goes on.
#[test]
fn never_answers_from_a_part_of_the_leases() {
    let mut kea = with_leases(parameters())
        .patience(Duration::from_secs(120))
        .start();
    let held = kea.hold();
    let asked = Asked::send(&kea);
    assert!(!kea.log().contains("BLQ_LOADED"));
    kea.begin_to_stop();
    drop(held);
    assert_eq!(asked.whole(), 0);
    assert!(kea.await_end().success(), "{}", kea.log());

    kea.start_again();
    let held = kea.hold();
    let asked = Asked::send(&kea);
    assert!(!kea.log().contains("BLQ_LOADED"));
    thread::scope(|scope| {
        let reload = scope.spawn(|| kea.command_ok("config-reload", Value::Null));
        drop(held);
        assert_eq!(asked.whole(), 0);
        reload.join().expect("no panic");
    });
    // Not held this time, while leases are loaded again.
    let asked = Asked::send(&kea);
    assert_eq!(asked.whole(), REQUESTERS as usize + 1);
}

/// A connection from an address.
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

/// How many octets sent on a connection the server has not read, as the system says.
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

/// A query that waits costs its own connection alone: with one thread for all, malformed queries are
/// refused, strangers and idle requesters are disconnected, and the query itself ends with its connection's
/// idle time.
#[test]
fn a_query_that_waits_holds_up_nobody() {
    let parameters = json!({
        "requesters": ["127.0.0.1"],
        "advanced": { "max-bulk-query-threads": 1, "max-requester-idle-time": 2 },
    });
    let kea = with_leases(parameters).start();
    let held = kea.hold();
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
    assert!(!is_whole(&answer.expect("an answer"), 1));
    for connection in [&mut waiting, &mut idle, &mut connection] {
        assert!(connection.next_message().expect("a close").is_none());
    }
    assert!(!kea.log().contains("BLQ_LOADED"), "it was not held");
    drop(held);
    kea.await_log("BLQ_LOADED");
    let (address, query) = by_mac(7);
    assert_eq!(kea.bindings(&query)[0].address, address);
}

/// RFC 6926 section 8.4: a query is read only when it can be begun. Each that was ends with a
/// DHCPLEASEQUERYDONE, and nothing of any other has left the socket.
#[test]
fn reads_no_query_that_it_cannot_begin() {
    for limit in [1, 2] {
        let parameters = json!({ "advanced": { "max-concurrent-queries": limit } });
        // The whole net is a pool: a query for it is not done before the server is stopped.
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
