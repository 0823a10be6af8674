//! Queries during the initial load: answered completely afterwards, or ended with QueryTerminated.

#[path = "support/active.rs"]
mod active;
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
use dhcp_blq::mirror::history::SavedHistory;
use dhcp_blq::mirror::{InitialLoad, LoadWorker, Mirror, Saved, Unready};
use dhcp_blq::model::time::Time;
use dhcp_blq::query::lease_engine::LeaseEngine;
use dhcp_blq::query::{Engine, Progress, QueryTypes, Requester, Security};
use dhcp_blq::server::Server;
use proptest::prelude::*;
use socket2::{Domain, Socket, Type};

/// Time after which a test fails; never reached by a correct server.
const PATIENCE: Duration = Duration::from_secs(60);

/// A load worker without leases that waits for a command to begin or to panic.
struct PendingLoad {
    /// Sends the command. Dropping it lets the load worker begin. It precedes the load worker,
    /// whose drop waits for that.
    begin: mpsc::Sender<Begin>,
    /// The load worker.
    load_worker: LoadWorker,
}

/// The command to a load worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Begin {
    /// Begin without leases.
    Empty,
    /// Panic, as a defect would.
    Panic,
}

impl PendingLoad {
    /// Starts a load worker that waits for the command.
    fn new() -> PendingLoad {
        let kea_config = Arc::new(KeaConfig::new(CONFIGURATION, Vec::new(), &[]).unwrap());
        let now = Time::now();
        let loaded = Arc::clone(&kea_config);
        let (begin, begins) = mpsc::channel();
        let start = move || {
            assert_ne!(begins.recv(), Ok(Begin::Panic), "a defect");
            let history = SavedHistory {
                since: Time(1),
                ..SavedHistory::default()
            };
            let saved = Saved {
                history: Some(Box::new(history)),
                ..Saved::default()
            };
            Some(InitialLoad::begin(loaded, saved, now))
        };
        PendingLoad {
            begin,
            load_worker: LoadWorker::start(kea_config, now, start).unwrap(),
        }
    }

    /// Returns the mirror.
    fn mirror(&self) -> Arc<Mirror> {
        Arc::clone(self.load_worker.mirror())
    }

    /// Loads the leases of `clients` and completes the load.
    fn complete(self, clients: u8) {
        let mut load_worker = self.load_worker;
        self.begin.send(Begin::Empty).unwrap();
        load_worker.take((0..clients).map(lease_of).collect());
        load_worker.complete(|| {});
        load_worker.wait();
    }

    /// Loads the leases of `clients` and abandons the load.
    fn abandon(self, clients: u8) {
        self.begin.send(Begin::Empty).unwrap();
        self.load_worker.take((0..clients).map(lease_of).collect());
        self.load_worker.wait();
    }

    /// Makes the load worker panic.
    fn panic(self) {
        self.begin.send(Begin::Panic).unwrap();
        self.load_worker.wait();
    }
}

/// Returns the address of a client's lease.
fn address_of(client: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 1, 10 + client)
}

/// Returns a client's lease.
fn lease_of(client: u8) -> dhcp_blq::mirror::event::Lease {
    lease(address_of(client).octets(), client, Time::now().0)
}

//------------ The engine ----------------------------------------------------------------------

/// An action during the initial load.
#[derive(Clone, Copy, Debug)]
enum Action {
    /// Kea grants a client its lease.
    Grant(u8),
    /// A client releases its lease.
    Release(u8),
    /// A query arrives: for a client's lease, or for all addresses.
    Query(Option<u8>),
    /// The queries' progress is checked.
    Check,
}

/// The end of the initial load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// All leases are loaded.
    Complete,
    /// The server stops.
    Abandon,
    /// A defect.
    Panic,
}

fn actions() -> impl Strategy<Value = Vec<Action>> {
    let action = prop_oneof![
        (0..9u8).prop_map(Action::Grant),
        (0..9u8).prop_map(Action::Release),
        proptest::option::of(0..9u8).prop_map(Action::Query),
        Just(Action::Check),
    ];
    proptest::collection::vec(action, 0..30)
}

proptest! {
    /// A query during the initial load is answered from all leases, with all changes up to the
    /// beginning of the answer, or ends with QueryTerminated, for any order of actions and any end
    /// of the load.
    #[test]
    fn answers_during_the_initial_load_are_complete_or_terminated(
        clients in 0..6u8,
        actions in actions(),
        end in prop_oneof![Just(End::Complete), Just(End::Abandon), Just(End::Panic)],
    ) {
        let load = PendingLoad::new();
        let mirror = load.mirror();
        let engine = LeaseEngine::new(Arc::clone(&mirror), None);
        let requester = Requester {
            peer: Ipv4Addr::LOCALHOST,
            local: Ipv4Addr::LOCALHOST,
            allowed: QueryTypes::ALL,
            security: Security::Plain,
        };
        let mut held: BTreeSet<u8> = (0..clients).collect();
        let mut queries = Vec::new();
        let mut out = Vec::new();
        for action in actions {
            match action {
                Action::Grant(client) => {
                    held.insert(client);
                    let (lease, client_info) = (lease_of(client), ClientInfo::default());
                    mirror.queue().push(Event::Committed { lease, client_info });
                }
                Action::Release(client) => {
                    held.remove(&client);
                    mirror.queue().push(Event::Released {
                        address: address_of(client),
                        client: None,
                        at: Time::now(),
                        origin: Origin::Local,
                    });
                }
                Action::Query(client) => {
                    let query = client.map_or_else(all, by_mac);
                    let message = query.to_message().unwrap().encode();
                    queries.push((client, engine.open(&message, &requester).unwrap()));
                }
                Action::Check => {
                    mirror.catch_up();
                    for (_, answer) in &mut queries {
                        let progress = engine.write(answer, &mut out, usize::MAX);
                        prop_assert_eq!(progress, Progress::Idle);
                    }
                    prop_assert!(out.is_empty());
                }
            }
        }
        match end {
            End::Complete => load.complete(clients),
            End::Abandon => load.abandon(clients),
            End::Panic => load.panic(),
        }
        for (client, mut answer) in queries {
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

/// Serves a mirror with one thread.
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

/// Connects from an address.
fn connect_from(server: &Server, source: [u8; 4]) -> Connection {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((source, 0)).into()).unwrap();
    socket.connect(&server.local_addresses()[0].into()).unwrap();
    Connection::from_stream(TcpStream::from(socket), PATIENCE).unwrap()
}

/// Connects from an address that may send any query.
fn connect(server: &Server) -> Connection {
    connect_from(server, [127, 0, 0, 1])
}

/// Returns a malformed query: query-start-time is too short.
fn malformed() -> Message {
    let message = all().to_message().unwrap();
    message.with(code::QUERY_START_TIME, [0; 3])
}

/// Returns the status with which a query ended.
fn status(done: &Done) -> Option<StatusCode> {
    done.status.as_ref().map(|status| status.code)
}

/// Awaits the end of the query with a transaction id, which must have no bindings.
fn done(connection: &mut Connection, xid: u32) -> Done {
    let answer = connection.collect_answers().remove(&xid).unwrap();
    assert!(answer.bindings.is_empty());
    answer.done.unwrap()
}

#[test]
fn waiting_queries_do_not_delay_others() {
    let load = PendingLoad::new();
    let server = serve(load.mirror(), 300);
    let mut waiting: Vec<(Connection, Query)> = (0..5)
        .map(|client| {
            let mut connection = connect(&server);
            let query = by_mac(client);
            connection.send(&query).unwrap();
            (connection, query)
        })
        .collect();
    // One thread serves all of them: queries that need no lease are answered at once.
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
    let mut unknown = connect_from(&server, [127, 0, 0, 3]);
    assert!(unknown.next_message().unwrap().is_none());
    load.complete(3);
    for (client, (connection, query)) in (0..).zip(&mut waiting) {
        let answer = connection.collect_answers().remove(&query.xid).unwrap();
        assert_eq!(status(&answer.done.unwrap()), None);
        let found: Vec<_> = answer.bindings.iter().map(|one| one.address).collect();
        let expected = (client < 3).then(|| address_of(client));
        assert_eq!(found, Vec::from_iter(expected));
    }
}

#[test]
fn the_idle_time_passes_during_the_initial_load() {
    let load = PendingLoad::new();
    let server = serve(load.mirror(), 1);
    let mut idle = connect(&server);
    let mut connection = connect(&server);
    let query = all();
    connection.send(&query).unwrap();
    let ended = done(&mut connection, query.xid);
    assert_eq!(status(&ended), Some(StatusCode::QUERY_TERMINATED));
    for connection in [&mut connection, &mut idle] {
        assert!(connection.next_message().unwrap().is_none());
    }
    assert_eq!(load.mirror().ready(), Err(Unready::InitialLoad));
}

#[test]
fn waiting_queries_end_with_query_terminated_if_the_load_fails() {
    let ends: [fn(PendingLoad, Server); 3] = [
        |load, server| {
            server.stop("the configuration changes");
            load.abandon(2);
        },
        // This order does not occur while the server runs.
        |load, server| {
            load.abandon(2);
            server.stop("too late");
        },
        |load, server| {
            load.panic();
            // A later query ends in the same way.
            let mut connection = connect(&server);
            let query = by_mac(0);
            connection.send(&query).unwrap();
            let ended = done(&mut connection, query.xid);
            assert_eq!(status(&ended), Some(StatusCode::QUERY_TERMINATED));
        },
    ];
    for end in ends {
        let load = PendingLoad::new();
        let server = serve(load.mirror(), 300);
        let mut connection = connect(&server);
        let queries = [by_mac(0), all()];
        for query in &queries {
            connection.send(query).unwrap();
        }
        // The queries have arrived: a later query of another connection was answered.
        let mut other = connect(&server);
        let message = malformed();
        other.expect(message.xid);
        other.send_octets(&message.to_frame().unwrap()).unwrap();
        done(&mut other, message.xid);
        let ending = std::thread::spawn(move || end(load, server));
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

//------------ Active queries ------------------------------------------------------------------

/// Serves a mirror, with active queries that are shown to continue each second.
fn serve_active(mirror: &Arc<Mirror>) -> Server {
    let advanced = format!(r#"{}, "active-idle-timeout": 1"#, active::INSECURE);
    active::serve(mirror, &active::config(r#"["127.0.0.1"]"#, &advanced))
}

#[test]
fn an_active_query_waits_for_the_initial_load_and_has_the_changes_since() {
    let load = PendingLoad::new();
    let mirror = load.mirror();
    let server = serve_active(&mirror);
    let mut requester = active::Requester::ask(&server, &active::query(7));
    // RFC 7724 section 7.4: ConnectionActive, with a time from which on nothing was missed.
    let waiting = requester.message();
    assert_eq!(waiting.status_code(), 6);
    let lease = lease(address_of(5).octets(), 5, Time::now().0);
    mirror.queue().push(Event::Committed {
        lease,
        client_info: ClientInfo::default(),
    });
    load.complete(2);
    let first = |requester: &mut active::Requester| loop {
        let message = requester.message();
        if message.message_type() != active::STATUS || message.status_code() != 6 {
            return message;
        }
    };
    let mut found = BTreeSet::new();
    // The leases that were loaded may be as late as the query.
    while !found.contains(&address_of(5)) {
        let change = first(&mut requester);
        // No CatchUpComplete: the query has no query-start-time.
        assert_eq!(change.message_type(), active::ACTIVE, "{change:?}");
        found.insert(change.address());
    }
}

#[test]
fn an_active_query_ends_with_query_terminated_if_the_load_fails() {
    let ends: [fn(PendingLoad); 2] = [|load| load.abandon(2), PendingLoad::panic];
    for end in ends {
        let load = PendingLoad::new();
        let server = serve_active(&load.mirror());
        let mut requester = active::Requester::ask(&server, &active::query_from(7, 1));
        // It waits.
        assert_eq!(requester.message().status_code(), 6);
        end(load);
        let last = requester.rest().pop().unwrap();
        assert_eq!(last.status_code(), 2);
        assert!(!last.status().unwrap().1.is_empty());
        // A later query ends in the same way.
        let mut requester = active::Requester::ask(&server, &active::query(7));
        assert_eq!(requester.message().status_code(), 2);
        assert!(requester.is_closed());
    }
}

#[test]
fn the_idle_time_does_not_end_an_active_query_that_waits() {
    let load = PendingLoad::new();
    let advanced = format!(
        r#"{}, "active-idle-timeout": 1, "max-requester-idle-time": 1"#,
        active::INSECURE
    );
    let config = active::config(r#"["127.0.0.1"]"#, &advanced);
    let server = active::serve(&load.mirror(), &config);
    let mut requester = active::Requester::ask(&server, &active::query(7));
    for _ in 0..3 {
        assert_eq!(requester.message().status_code(), 6);
    }
}
