//! Queries that come before all leases are loaded: answered completely later, or ended by QueryTerminated.

#[path = "support/bench.rs"]
mod bench;

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use bench::{CONFIGURATION, all, by_mac, decode, lease};
use blq::wire::code;
use blq::{Connection, Done, Message, Query, StatusCode};
use dhcp_blq::config::Config;
use dhcp_blq::kea_config::KeaConfig;
use dhcp_blq::mirror::event::{ClientInfo, Event, Origin};
use dhcp_blq::mirror::{InitialLoad, LoadWorker, Mirror, Saved, Unready};
use dhcp_blq::model::time::Time;
use dhcp_blq::query::lease_engine::LeaseEngine;
use dhcp_blq::query::{Engine, Progress, QueryTypes, Requester};
use dhcp_blq::server::Server;
use proptest::prelude::*;
use socket2::{Domain, Socket, Type};

/// How long a test waits for octets before it fails; never reached when all is well.
const PATIENCE: Duration = Duration::from_secs(60);

/// A loader that has no lease yet, and may be made to panic before it takes one.
struct Start {
    /// Lets it begin, or panic. Dropping it lets it begin, too: it comes first, since dropping the loader
    /// waits for that.
    begin: mpsc::Sender<Begin>,
    /// The loader.
    load_worker: LoadWorker,
}

/// How a loader begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Begin {
    /// Without leases.
    Empty,
    /// As a bug would.
    Panic,
}

impl Start {
    /// A loader that does nothing before it is let begin.
    fn new() -> Start {
        let kea_config = Arc::new(KeaConfig::from_json(CONFIGURATION, Vec::new()).unwrap());
        let now = Time::now();
        let loaded = Arc::clone(&kea_config);
        let (begin, begins) = mpsc::channel();
        let start = move || {
            assert_ne!(begins.recv(), Ok(Begin::Panic), "as a bug would");
            Some(InitialLoad::begin(loaded, Saved::default(), now))
        };
        Start {
            begin,
            load_worker: LoadWorker::start(kea_config, now, start).unwrap(),
        }
    }

    /// The mirror.
    fn mirror(&self) -> Arc<Mirror> {
        Arc::clone(self.load_worker.mirror())
    }

    /// Loads the leases of so many clients, and no more.
    fn complete(self, clients: u8) {
        let mut load_worker = self.load_worker;
        self.begin.send(Begin::Empty).unwrap();
        load_worker.take((0..clients).map(lease_of).collect());
        load_worker.complete(|| {});
        load_worker.wait();
    }

    /// Gives up loading when the leases of so many clients are loaded.
    fn give_up(self, clients: u8) {
        self.begin.send(Begin::Empty).unwrap();
        self.load_worker.take((0..clients).map(lease_of).collect());
        self.load_worker.wait();
    }

    /// Has loading panic.
    fn panic(self) {
        self.begin.send(Begin::Panic).unwrap();
        self.load_worker.wait();
    }
}

/// The address of a client's lease.
fn address_of(client: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 1, 10 + client)
}

/// A client's lease.
fn lease_of(client: u8) -> dhcp_blq::mirror::event::Lease {
    lease(address_of(client).octets(), client, Time::now().0)
}

//------------ The engine ----------------------------------------------------------------------

/// What happens while leases are loaded.
#[derive(Clone, Copy, Debug)]
enum Deed {
    /// Kea gives a client its lease.
    Give(u8),
    /// A client releases its lease.
    Release(u8),
    /// A query comes: for a client's lease, or for everything.
    Ask(Option<u8>),
    /// The queries are looked at.
    Look,
}

/// What ends the loading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// All leases are there.
    Complete,
    /// The server stops.
    GiveUp,
    /// A bug.
    Panic,
}

fn deeds() -> impl Strategy<Value = Vec<Deed>> {
    let deed = prop_oneof![
        (0..9u8).prop_map(Deed::Give),
        (0..9u8).prop_map(Deed::Release),
        proptest::option::of(0..9u8).prop_map(Deed::Ask),
        Just(Deed::Look),
    ];
    proptest::collection::vec(deed, 0..30)
}

proptest! {
    /// A query is answered from every lease, with every change up to the answer's beginning, or ends
    /// with QueryTerminated: whatever happens while leases are loaded, and whatever ends that.
    #[test]
    fn no_answer_is_false(
        clients in 0..6u8,
        deeds in deeds(),
        end in prop_oneof![Just(End::Complete), Just(End::GiveUp), Just(End::Panic)],
    ) {
        let start = Start::new();
        let mirror = start.mirror();
        let engine = LeaseEngine::new(Arc::clone(&mirror), None);
        let requester = Requester {
            peer: Ipv4Addr::LOCALHOST,
            local: Ipv4Addr::LOCALHOST,
            allowed: QueryTypes::ALL,
        };
        let mut held: BTreeSet<u8> = (0..clients).collect();
        let mut asked = Vec::new();
        let mut out = Vec::new();
        for deed in deeds {
            match deed {
                Deed::Give(client) => {
                    held.insert(client);
                    let (lease, client_info) = (lease_of(client), ClientInfo::default());
                    mirror.queue().push(Event::Committed { lease, client_info });
                }
                Deed::Release(client) => {
                    held.remove(&client);
                    mirror.queue().push(Event::Released {
                        address: address_of(client),
                        client: None,
                        at: Time::now(),
                        origin: Origin::Local,
                    });
                }
                Deed::Ask(client) => {
                    let query = client.map_or_else(all, by_mac);
                    let message = query.to_message().unwrap().encode();
                    asked.push((client, engine.open(&message, &requester).unwrap()));
                }
                Deed::Look => {
                    mirror.catch_up();
                    for (_, answer) in &mut asked {
                        let progress = engine.write(answer, &mut out, usize::MAX);
                        prop_assert_eq!(progress, Progress::Idle);
                    }
                    prop_assert!(out.is_empty());
                }
            }
        }
        match end {
            End::Complete => start.complete(clients),
            End::GiveUp => start.give_up(clients),
            End::Panic => start.panic(),
        }
        for (client, mut answer) in asked {
            let mut out = Vec::new();
            while engine.write(&mut answer, &mut out, 1) == Progress::More {}
            let (bindings, done) = decode(&out);
            if end == End::Complete {
                let active = bindings.iter();
                let active = active.filter(|binding| binding.state == Some(blq::State::ACTIVE));
                let active: BTreeSet<_> = active.map(|binding| binding.address).collect();
                let expected = held.iter().copied().filter(|one| client.is_none_or(|it| it == *one));
                prop_assert_eq!(active, expected.map(address_of).collect());
                prop_assert_eq!(done.status, None);
            } else {
                prop_assert!(bindings.is_empty());
                prop_assert_eq!(done.status.map(|status| status.code), Some(StatusCode::QUERY_TERMINATED));
            }
        }
    }
}

//------------ The server ----------------------------------------------------------------------

/// Serves a mirror on one thread.
fn serve(mirror: Arc<Mirror>, idle_time: u32) -> Server {
    let json = format!(
        r#"{{ "requesters": ["127.0.0.1", {{ "address": "127.0.0.2", "query-types": ["mac"] }}],
              "advanced": {{ "lease-query-ip": "127.0.0.1", "max-bulk-query-threads": 1,
                             "max-requester-idle-time": {idle_time} }} }}"#
    );
    let config = Config {
        port: 0,
        ..Config::parse(&json).unwrap()
    };
    Server::start(&config, Arc::new(LeaseEngine::new(mirror, None))).unwrap()
}

/// A connection from an address.
fn connect_from(server: &Server, source: [u8; 4]) -> Connection {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((source, 0)).into()).unwrap();
    socket.connect(&server.local_addresses()[0].into()).unwrap();
    Connection::from_stream(TcpStream::from(socket), PATIENCE).unwrap()
}

/// A connection from an address that may ask everything.
fn connect(server: &Server) -> Connection {
    connect_from(server, [127, 0, 0, 1])
}

/// A query that is malformed: query-start-time is cut.
fn malformed() -> Message {
    let message = all().to_message().unwrap();
    message.with(code::QUERY_START_TIME, [0; 3])
}

/// The status a query ended with.
fn status(done: &Done) -> Option<StatusCode> {
    done.status.as_ref().map(|status| status.code)
}

/// The answer to what was sent with a transaction id.
fn done(connection: &mut Connection, xid: u32) -> Done {
    let answer = connection.collect_answers().remove(&xid).unwrap();
    assert!(answer.bindings.is_empty());
    answer.done.unwrap()
}

#[test]
fn queries_that_wait_hold_up_nobody() {
    let start = Start::new();
    let server = serve(start.mirror(), 300);
    let mut waiting: Vec<(Connection, Query)> = (0..5)
        .map(|client| {
            let mut connection = connect(&server);
            let query = by_mac(client);
            connection.send(&query).unwrap();
            (connection, query)
        })
        .collect();
    // One thread serves all of them: queries that need no lease are answered as ever.
    let mut connection = connect(&server);
    let message = malformed();
    connection.expect(message.xid);
    connection
        .send_octets(&message.to_frame().unwrap())
        .unwrap();
    let refused = done(&mut connection, message.xid);
    assert_eq!(status(&refused), Some(StatusCode::MALFORMED_QUERY));
    assert_eq!(refused.server_identifier, Some(Ipv4Addr::LOCALHOST));
    let mut connection = connect_from(&server, [127, 0, 0, 2]);
    let query = all();
    connection.send(&query).unwrap();
    let refused = done(&mut connection, query.xid);
    assert_eq!(status(&refused), Some(StatusCode::NOT_ALLOWED));
    let mut stranger = connect_from(&server, [127, 0, 0, 3]);
    assert!(stranger.next_message().unwrap().is_none());
    start.complete(3);
    for (client, (connection, query)) in (0..).zip(&mut waiting) {
        let answer = connection.collect_answers().remove(&query.xid).unwrap();
        assert_eq!(status(&answer.done.unwrap()), None);
        let found: Vec<_> = answer.bindings.iter().map(|one| one.address).collect();
        let expected = (client < 3).then(|| address_of(client));
        assert_eq!(found, Vec::from_iter(expected));
    }
}

#[test]
fn the_idle_time_goes_on_while_leases_are_loaded() {
    let start = Start::new();
    let server = serve(start.mirror(), 1);
    let mut idle = connect(&server);
    let mut connection = connect(&server);
    let query = all();
    connection.send(&query).unwrap();
    let ended = done(&mut connection, query.xid);
    assert_eq!(status(&ended), Some(StatusCode::QUERY_TERMINATED));
    for connection in [&mut connection, &mut idle] {
        assert!(connection.next_message().unwrap().is_none());
    }
    assert_eq!(start.mirror().ready(), Err(Unready::InitialLoad));
}

#[test]
fn queries_that_wait_end_with_query_terminated_whatever_ends_the_loading() {
    let ends: [fn(Start, Server); 3] = [
        |start, server| {
            server.stop("the configuration changes");
            start.give_up(2);
        },
        // Which should not happen while the server runs.
        |start, server| {
            start.give_up(2);
            server.stop("too late");
        },
        |start, server| {
            start.panic();
            // A later query ends likewise.
            let mut connection = connect(&server);
            let query = by_mac(0);
            connection.send(&query).unwrap();
            let ended = done(&mut connection, query.xid);
            assert_eq!(status(&ended), Some(StatusCode::QUERY_TERMINATED));
        },
    ];
    for end in ends {
        let start = Start::new();
        let server = serve(start.mirror(), 300);
        let mut connection = connect(&server);
        let queries = [by_mac(0), all()];
        for query in &queries {
            connection.send(query).unwrap();
        }
        // They have arrived: a query of another connection was answered after them.
        let mut other = connect(&server);
        let message = malformed();
        other.expect(message.xid);
        other.send_octets(&message.to_frame().unwrap()).unwrap();
        done(&mut other, message.xid);
        let ending = std::thread::spawn(move || end(start, server));
        let mut answers = connection.collect_answers();
        for query in &queries {
            let answer = answers.remove(&query.xid).unwrap();
            assert!(answer.bindings.is_empty());
            let done = answer.done.unwrap();
            assert_eq!(status(&done), Some(StatusCode::QUERY_TERMINATED));
            assert!(!done.status.unwrap().text.is_empty());
        }
        ending.join().unwrap();
    }
}
