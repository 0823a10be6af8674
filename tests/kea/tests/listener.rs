//! The listener in Kea's process: shared descriptors, addresses that are not available yet, and
//! peers that cause much load.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use blq::{Connection, Primary, Query};
use kea_tests::ask::{addresses, by_mac, connect_to};
use kea_tests::{Client, Kea, Setup, eventually, hook_library};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};

/// The longest wait for an octet from the hook.
const PATIENCE: Duration = Duration::from_secs(60);

/// Raises this process's limit of descriptors: it holds the other ends of the connections.
fn allow_many_descriptors() {
    let own = getrlimit(Resource::Nofile);
    let all = Rlimit {
        current: own.maximum,
        ..own
    };
    setrlimit(Resource::Nofile, all).expect("raising the soft limit");
}

/// Returns a server limited to a number of descriptors and of connections.
fn limited(descriptors: u32, connections: u32) -> Setup {
    allow_many_descriptors();
    let advanced = json!({ "max-requester-connections": connections });
    Setup::with_hook(json!({ "advanced": advanced })).descriptors(descriptors)
}

/// Opens an idle connection.
fn hold(kea: &Kea) -> TcpStream {
    let stream = TcpStream::connect(kea.place().lease_query()).expect("a connection");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream
}

/// Leases an address to a client and waits until the hook has it.
fn lease(kea: &Kea, number: u16) -> Client {
    let mut client = Client::new(number);
    kea.relay(0).lease(&mut client);
    kea.await_active(&client);
    client
}

/// Returns the frame of a query with ciaddr set, which RFC 6926, section 7.2, forbids.
fn malformed() -> Vec<u8> {
    let mut octets = Query::new(Primary::All).to_bytes().expect("a query");
    // After message-size and twelve octets.
    octets[14] = 192;
    octets
}

// ----- Descriptors ----------------------------------------------------------------------------

/// Kea's main loop is `select()`, which ends the process when a descriptor above 1,023 is watched.
/// With more connections than that, Kea continues to serve clients, commands whose connections
/// outlast one pass of the loop, and reloads.
#[test]
fn more_connections_than_select_can_watch_keep_kea_running() {
    let mut kea = limited(4_096, 1_200).start();
    kea.await_log("BLQ_LISTENING");
    let held: Vec<TcpStream> = (0..1_100).map(|_| hold(&kea)).collect();
    // The last connection is served, and so are all.
    let mut last = held.last().expect("a connection");
    last.write_all(&malformed()).expect("sent");
    last.read_exact(&mut [0; 240]).expect("a reply");
    for round in 0..2 {
        let waiting = UnixStream::connect(kea.home().join("control/socket")).expect("a socket");
        kea.relay(0).lease(&mut Client::new(1 + round));
        kea.command_ok("config-get", Value::Null);
        kea.relay(0).lease(&mut Client::new(11 + round));
        drop(waiting);
        kea.command_ok("config-reload", Value::Null);
        assert!(kea.is_running());
    }
    drop(held);
    lease(&kea, 21);
    assert!(!kea.log().contains("BLQ_DESCRIPTORS_SHORT"));
    kea.stop();
}

/// A peer opens connections at the highest rate, sends malformed queries, and closes some of the
/// connections. Kea keeps the descriptors it needs, and its log stays readable.
fn serves_clients_beside_a_peer_with_many_short_connections(descriptors: u32) {
    /// The lowest number of connections opened during the test.
    const SHORT_CONNECTIONS: usize = 2_000;
    let mut kea = limited(descriptors, 600).start();
    kea.await_log("BLQ_LISTENING");
    let (server, malformed) = (kea.place().lease_query(), &malformed());
    let (ended, opened) = (&AtomicBool::new(false), &AtomicUsize::new(0));
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(move || {
                let mut left_open = Vec::new();
                while !ended.load(Ordering::Relaxed) {
                    let address = SocketAddr::from(server);
                    // Connecting fails when the system's backlog is full.
                    let timeout = Duration::from_millis(20);
                    let Ok(mut stream) = TcpStream::connect_timeout(&address, timeout) else {
                        continue;
                    };
                    let number = opened.fetch_add(1, Ordering::Relaxed);
                    // The connections may be closed already.
                    let _ = stream.write_all(malformed);
                    match number % 4 {
                        // The peer waits for the answer.
                        0 => {
                            let _ = stream.set_read_timeout(Some(timeout));
                            let _ = stream.read(&mut [0; 512]);
                        }
                        // Octets of a malformed frame: the server closes the connection, the peer
                        // keeps its end open.
                        1 => {
                            let _ = stream.write_all(&[0, 1, 0]);
                            left_open.push(stream);
                        }
                        _ => {}
                    }
                    if left_open.len() >= 300 {
                        left_open.clear();
                    }
                }
            });
        }
        let relay = kea.relay(0);
        let mut number = 0;
        while number < 40 || opened.load(Ordering::Relaxed) < SHORT_CONNECTIONS {
            number += 1;
            relay.lease(&mut Client::new(number % 50));
            let _held = UnixStream::connect(kea.home().join("control/socket")).expect("a socket");
            kea.command_ok("version-get", Value::Null);
        }
        ended.store(true, Ordering::Relaxed);
    });
    assert!(kea.is_running());
    let log = kea.log();
    for trouble in [
        "Too many open files",
        " ERROR ",
        " FATAL ",
        "BLQ_ACCEPT_FAILED",
    ] {
        assert!(!log.contains(trouble), "'{trouble}' in the log");
    }
    // All connections are from one address: there is one message of each kind per minute.
    let lines: Vec<&str> = log.lines().filter(|line| line.contains("BLQ_")).collect();
    assert!(lines.len() < 20, "{lines:#?}");
    for id in ["BLQ_QUERY_MALFORMED", "BLQ_NOT_DHCP"] {
        assert!(log.contains(id), "no {id} in {lines:#?}");
    }
    assert_eq!(
        log.contains("BLQ_DESCRIPTORS_SHORT"),
        descriptors < 1_024,
        "{lines:#?}"
    );
    // Connections left open are closed after the idle time.
    lease(&kea, 200);
    kea.stop();
}

/// RFC 6926, section 9, at the limit of most systems.
#[test]
fn serves_clients_beside_a_peer_with_many_short_connections_at_1024_descriptors() {
    serves_clients_beside_a_peer_with_many_short_connections(1_024);
}

/// RFC 6926, section 9, with fewer descriptors than configured connections.
#[test]
fn serves_clients_beside_a_peer_with_many_short_connections_at_256_descriptors() {
    serves_clients_beside_a_peer_with_many_short_connections(256);
}

/// RFC 6926, section 9, with hardly more descriptors than Kea itself needs.
#[test]
fn serves_clients_beside_a_peer_with_many_short_connections_at_64_descriptors() {
    serves_clients_beside_a_peer_with_many_short_connections(64);
}

/// The contract: `max-requester-connections` is reached if descriptors suffice. Otherwise a warning
/// names the parameter, its value and the number of connections that remain.
#[test]
fn serves_as_many_connections_as_descriptors_allow_and_logs_the_limit() {
    let kea = limited(256, 65_535).start();
    kea.await_log("BLQ_LISTENING");
    let log = kea.log();
    let warning = log
        .lines()
        .find(|line| line.contains("BLQ_DESCRIPTORS_SHORT"));
    let warning = warning.expect("a warning");
    for part in [
        "WARN",
        "'advanced.max-requester-connections' is 65535",
        "256",
    ] {
        assert!(warning.contains(part), "'{part}' in {warning}");
    }
    let (_, cap) = warning.split_once("at most ").expect("how many");
    let cap = cap.split_once(' ').and_then(|(cap, _)| cap.parse().ok());
    let held: Vec<TcpStream> = (0..cap.expect("a number")).map(|_| hold(&kea)).collect();
    assert!(held.len() > 100, "{warning}");
    for mut stream in &held {
        stream.write_all(&malformed()).expect("sent");
        stream.read_exact(&mut [0; 240]).expect("a reply");
    }
    let mut over = hold(&kea);
    let _ = over.write_all(&malformed());
    assert!(matches!(over.read(&mut [0; 1]), Ok(0) | Err(_)));
    eventually("the message", || kea.log().contains("BLQ_DESCRIPTOR_LIMIT"));
}

// ----- Addresses and ports --------------------------------------------------------------------

/// Waits for the error about a listener, which contains all that an administrator needs.
fn await_error(kea: &Kea, parts: &[&str]) {
    kea.await_log("BLQ_LISTEN_FAILED");
    let log = kea.log();
    let line = log.lines().find(|line| line.contains("BLQ_LISTEN_FAILED"));
    let line = line.expect("a line");
    let usual = ["ERROR", "'advanced.lease-query-ip'", "tries again"];
    for part in usual.iter().chain(parts) {
        assert!(line.contains(part), "'{part}' in {line}");
    }
}

/// Waits until the hook answers at an address. Returns the addresses of a client's bindings.
fn await_answer(server: SocketAddrV4, client: &Client) -> Vec<Ipv4Addr> {
    let mut found = None;
    eventually("an answer", || {
        let answer = connect_to(server).map(|mut one| one.query(&Query::new(by_mac(client))));
        found = answer.ok().filter(|answer| answer.done.is_ok());
        found.is_some()
    });
    addresses(&found.expect("an answer").bindings)
}

/// The contract: an address or port that cannot be bound does not prevent Kea's start. DHCP
/// continues, an ERROR is logged, and binding is tried again until it succeeds. A reload that keeps
/// the listener is not refused.
#[test]
fn starts_while_its_port_is_taken_and_listens_once_it_is_free() {
    let setup = Setup::with_hook(json!({}));
    let taken = TcpListener::bind(setup.place.lease_query()).expect("a port");
    let port = setup.place.lease_query().to_string();
    let mut kea = setup.start();
    await_error(&kea, &[&port, "in use"]);
    let (first, second) = (&mut Client::new(1), &mut Client::new(2));
    let relay = kea.relay(0);
    let leased = [relay.lease(first).yiaddr];
    kea.command_ok("config-reload", Value::Null);
    let answer = kea.reconfigure(|setup| setup.set("valid-lifetime", json!(1234)));
    assert_eq!(answer["result"], 0, "{answer}");
    relay.lease(second);
    assert!(!kea.log().contains("BLQ_LISTENING"));
    drop(taken);
    kea.await_log("BLQ_LISTENING listening on TCP 127.");
    // Both earlier and later leases are found.
    let server = kea.place().lease_query();
    assert_eq!(await_answer(server, first), leased);
    assert_eq!(await_answer(server, second), Vec::from_iter(second.address));
    // One error for each configuration, regardless of the number of attempts.
    let errors = kea.log().matches("BLQ_LISTEN_FAILED").count();
    assert_eq!(errors, 3);
    kea.stop();
}

/// The contract: adding the hook to a running Kea is refused while its port is taken.
#[test]
fn refuses_to_be_added_to_a_running_kea_while_its_port_is_taken() {
    let kea = Setup::plain().start();
    let server = kea.place().lease_query();
    let taken = TcpListener::bind(server).expect("a port");
    let parameters = json!({
        "requesters": ["127.0.0.0/8"],
        "advanced": {
            "lease-query-ip": server.ip().to_string(),
            "lease-query-tcp-port": server.port(),
        },
    });
    let add = || kea.config_set(|setup| setup.library(hook_library(), parameters.clone()));
    let answer = add();
    assert_eq!(answer["result"], 1, "{answer}");
    let text = answer["text"].as_str().unwrap_or_default();
    assert!(text.contains(&server.to_string()), "{text}");
    drop(taken);
    // A process that another test starts may hold a copy of the socket a little longer.
    eventually("the library, added", || add()["result"] == 0);
    let client = &lease(&kea, 1);
    assert_eq!(await_answer(server, client), Vec::from_iter(client.address));
}

/// The contract: if one of several addresses cannot be bound, the others are served.
#[test]
fn listens_at_the_other_addresses_meanwhile() {
    let setup = Setup::with_hook(json!({}));
    let port = setup.place.lease_query().port();
    let [second, third] = [2, 3].map(|host| SocketAddrV4::new(setup.place.address(host), port));
    let taken = TcpListener::bind(third).expect("a port");
    let both = [second.ip().to_string(), third.ip().to_string()];
    let parameters = json!({ "advanced": { "lease-query-ip": both } });
    let kea = setup.hook_parameters(parameters).start();
    await_error(&kea, &[&third.to_string()]);
    let client = &mut Client::new(1);
    let leased = [kea.relay(0).lease(client).yiaddr];
    kea.await_log("BLQ_LISTENING");
    assert_eq!(await_answer(second, client), leased);
    drop(taken);
    assert_eq!(await_answer(third, client), leased);
}

/// The contract: an address that is configured after Kea's start, of a late or virtual interface,
/// is served from then on.
#[test]
fn listens_at_an_address_once_it_exists() {
    /// An address for documentation (RFC 5737), which no host has.
    const ADDRESS: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 67);
    let parameters = json!({ "advanced": { "lease-query-ip": ADDRESS.to_string() } });
    let kea = Setup::with_hook(parameters).start();
    await_error(&kea, &[&ADDRESS.to_string(), "address of this host"]);
    let client = &mut Client::new(1);
    let leased = [kea.relay(0).lease(client).yiaddr];
    let change = |what: &str| {
        let arguments = ["address", what, &format!("{ADDRESS}/32"), "dev", "lo"];
        let output = Command::new("ip").args(arguments).output();
        output.is_ok_and(|output| output.status.success())
    };
    if !change("add") {
        // Adding an address requires privileges.
        return;
    }
    kea.await_log(&format!("listening on TCP {ADDRESS} port"));
    // The requester connects from its own address, not from that of the interface.
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    let own = SocketAddr::from((kea.place().address(9), 0));
    socket.bind(&own.into()).expect("an address");
    let server = SocketAddr::from((ADDRESS, kea.place().lease_query().port()));
    let connected = socket.connect(&server.into());
    let connection = Connection::from_stream(socket.into(), PATIENCE);
    let answer = connection.map(|mut one| one.query(&Query::new(by_mac(client))));
    assert!(change("del"));
    connected.expect("a connection");
    assert_eq!(addresses(&answer.expect("an answer").bindings), leased);
}

/// The contract: only an explicitly requested listener is refused. The former listener is restored
/// afterwards, and binding it is tried again until it succeeds: here another process takes the port
/// while it is free.
#[test]
fn listens_again_after_a_refused_configuration_however_late() {
    let kea = Setup::with_hook(json!({})).start();
    let client = &lease(&kea, 1);
    let elsewhere = TcpListener::bind((kea.place().address(2), 0)).expect("a port");
    let address = elsewhere.local_addr().expect("its address");
    let parameters = json!({ "advanced": {
        "lease-query-ip": address.ip().to_string(), "lease-query-tcp-port": address.port(),
    } });
    let server = kea.place().lease_query();
    let taken = loop {
        let ended = AtomicBool::new(false);
        let taken = thread::scope(|scope| {
            let taker = scope.spawn(|| {
                while !ended.load(Ordering::Relaxed) {
                    if let Ok(taken) = TcpListener::bind(server) {
                        return Some(taken);
                    }
                }
                None
            });
            let answer = kea.config_set(|setup| setup.hook_parameters(parameters.clone()));
            ended.store(true, Ordering::Relaxed);
            assert_eq!(answer["result"], 1, "{answer}");
            let text = answer["text"].as_str().unwrap_or_default();
            assert!(text.contains(&address.port().to_string()), "{text}");
            taker.join().expect("no panic")
        });
        if let Some(taken) = taken {
            break taken;
        }
    };
    kea.await_log("BLQ_PREVIOUS_CONFIGURATION");
    await_error(&kea, &[&server.to_string(), "in use"]);
    kea.relay(0).lease(&mut Client::new(2));
    // The former configuration serves, and refuses nothing.
    kea.command_ok("config-reload", Value::Null);
    drop(taken);
    assert_eq!(await_answer(server, client), Vec::from_iter(client.address));
}
