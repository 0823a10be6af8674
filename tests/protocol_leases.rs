//! The server with the lease engine, queried by `blq` over real sockets.

use std::io::Write;
use std::net::{Ipv4Addr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use blq::wire::{BOOTREPLY, code};
use blq::{Connection, MessageType, Primary, Query, Reply, StatusCode};
use dhcp_blq::config::Config;
use dhcp_blq::kea_config::KeaConfig;
use dhcp_blq::mirror::event::{ClientInfo, Event, Lease, LeaseState};
use dhcp_blq::mirror::{InitialLoad, Mirror, Saved};
use dhcp_blq::model::address::HardwareAddress;
use dhcp_blq::model::binding::SubnetId;
use dhcp_blq::model::time::{Lifetime, Time};
use dhcp_blq::query::lease_engine::LeaseEngine;
use dhcp_blq::server::Server;

/// Many addresses, few of them bound.
const NETWORK: &str = r#"{ "Dhcp4": { "valid-lifetime": 3600, "subnet4": [
    { "id": 1, "subnet": "10.0.0.0/16", "pools": [ { "pool": "10.0.0.0-10.0.255.255" } ] }
] } }"#;
/// Number of these addresses.
const ADDRESSES: usize = 65_536;

/// Time after which a test fails; never reached by a correct server.
const PATIENCE: Duration = Duration::from_secs(60);

/// Starts a server over a mirror with one lease for each of `clients`.
fn start(requesters: &str, clients: u8) -> Server {
    let kea_config = KeaConfig::new(NETWORK, Vec::new(), &[]).unwrap();
    let saved = Saved {
        saved_at: Some(Time(1)),
        ..Saved::default()
    };
    let mirror: Mirror = InitialLoad::begin(Arc::new(kea_config), saved, Time::now()).finish();
    for client in 0..clients {
        mirror.queue().push(Event::Committed {
            lease: lease(client),
            client_info: ClientInfo {
                relay_agent_information: Some(vec![2, 2, b'l', client, 12, 1, b'r']),
                options: Vec::new(),
                classes: Arc::default(),
            },
        });
    }
    let json = format!(
        r#"{{ "requesters": {requesters}, "advanced": {{ "lease-query-ip": "127.0.0.1" }} }}"#
    );
    let config = Config {
        port: 0,
        ..Config::parse(&json).unwrap()
    };
    Server::start(&config, Arc::new(LeaseEngine::new(Arc::new(mirror), None))).unwrap()
}

/// Returns the lease of a client.
fn lease(client: u8) -> Lease {
    Lease {
        address: Ipv4Addr::new(10, 0, 1, client),
        state: LeaseState::Default,
        cltt: Time::now(),
        valid_lifetime: Lifetime(3600),
        subnet: SubnetId(1),
        hardware: HardwareAddress {
            htype: 1,
            octets: vec![2, 0, 0, 0, 0, client],
        },
        client_id: vec![1, 2, 0, 0, 0, 0, client],
        hostname: Vec::new(),
        relay_agent_information: None,
    }
}

/// Connects to the server.
fn connect(server: &Server) -> Connection {
    let stream = TcpStream::connect(server.local_addresses()[0]).unwrap();
    Connection::from_stream(stream, PATIENCE).unwrap()
}

/// Returns a query for the lease of a client by its remote-id.
fn by_remote_id(client: u8) -> Query {
    Query::new(Primary::RemoteId(vec![b'l', client]))
}

#[test]
fn answers_every_type_of_query_on_one_connection() {
    let server = start(r#"["127.0.0.1"]"#, 20);
    let mut connection = connect(&server);
    for (primary, expected) in [
        (
            Primary::Mac {
                htype: 1,
                address: vec![2, 0, 0, 0, 0, 7],
            },
            1,
        ),
        (Primary::ClientId(vec![1, 2, 0, 0, 0, 0, 7]), 1),
        (Primary::RemoteId(vec![b'l', 7]), 1),
        (Primary::RelayId(vec![b'r']), 20),
        (Primary::All, ADDRESSES),
    ] {
        let answer = connection.query(&Query::new(primary.clone()));
        assert_eq!(answer.done.unwrap().status, None, "{primary:?}");
        assert_eq!(answer.bindings.len(), expected, "{primary:?}");
        // RFC 6926 section 8.3; by default, the local address of the connection.
        let server = answer.bindings[0].server_identifier;
        assert_eq!(server, Some(Ipv4Addr::LOCALHOST));
    }
}

#[test]
fn answers_a_query_split_at_every_octet() {
    // RFC 6926 section 6.1.
    let server = start(r#"["127.0.0.1"]"#, 2);
    let mut connection = connect(&server);
    let length = by_remote_id(1).to_bytes().unwrap().len();
    for split in 1..length {
        let query = by_remote_id(1);
        let octets = query.to_bytes().unwrap();
        connection.expect(query.xid);
        connection.send_octets(&octets[..split]).unwrap();
        connection.send_octets(&octets[split..]).unwrap();
        let answer = connection.collect_answers().remove(&query.xid).unwrap();
        assert_eq!(answer.bindings.len(), 1, "split at {split}");
        answer.done.unwrap();
    }
}

#[test]
fn answers_many_small_queries_in_one_segment() {
    // RFC 6926 section 7.7: queries beyond 16 are read as others end.
    let server = start(r#"["127.0.0.1"]"#, 95);
    let mut connection = connect(&server);
    let mut segment = Vec::new();
    for client in 0..95 {
        let query = by_remote_id(client);
        connection.expect(query.xid);
        segment.extend(query.to_bytes().unwrap());
    }
    connection.send_octets(&segment).unwrap();
    let answers = connection.collect_answers();
    assert_eq!(answers.len(), 95);
    for answer in answers.values() {
        assert!(answer.done.is_ok());
        assert_eq!(answer.bindings.len(), 1);
    }
}

#[test]
fn a_small_query_sent_after_a_large_one_finishes_first() {
    // RFC 6926 section 7.7.
    let server = start(r#"["127.0.0.1"]"#, 2);
    let mut connection = connect(&server);
    let (large, small) = (Query::new(Primary::All), by_remote_id(1));
    connection.send(&large).unwrap();
    connection.send(&small).unwrap();
    let ended: Vec<u32> = connection
        .replies()
        .filter_map(|reply| match reply.unwrap() {
            Reply::Done(done) => Some(done.xid),
            Reply::Binding(_) => None,
        })
        .collect();
    assert_eq!(ended, [small.xid, large.xid]);
}

#[test]
fn refuses_the_query_types_an_entry_does_not_allow() {
    // RFC 6926 section 8.1: NotAllowed; the connection stays open.
    let server = start(
        r#"["127.0.0.0/8", { "address": "127.0.0.1", "query-types": ["mac", "all"] }]"#,
        2,
    );
    let mut connection = connect(&server);
    for (primary, allowed) in [
        (
            Primary::Mac {
                htype: 1,
                address: vec![2, 0, 0, 0, 0, 1],
            },
            true,
        ),
        (Primary::ClientId(vec![1, 2, 0, 0, 0, 0, 1]), false),
        (Primary::RemoteId(vec![b'l', 1]), false),
        (Primary::RelayId(vec![b'r']), false),
        (Primary::All, true),
    ] {
        let answer = connection.query(&Query::new(primary.clone()));
        let code = answer.done.unwrap().status.map(|status| status.code);
        let expected = (!allowed).then_some(StatusCode::NOT_ALLOWED);
        assert_eq!(code, expected, "{primary:?}");
        assert_eq!(answer.bindings.is_empty(), !allowed);
    }
}

#[test]
fn closes_the_connection_for_messages_not_supported_over_tcp() {
    // RFC 7724 section 8.1.1: here a DHCPDISCOVER, a reply, and octets that are not DHCP.
    let server = start(r#"["127.0.0.1"]"#, 2);
    let query = by_remote_id(1).to_message().unwrap();
    let mut discover = query.clone();
    discover.set(code::MESSAGE_TYPE, [MessageType::DISCOVER.0]);
    let mut reply = query;
    reply.op = BOOTREPLY;
    for message in [
        discover.to_frame().unwrap(),
        reply.to_frame().unwrap(),
        vec![0, 0],
        vec![0, 1, 1],
        vec![0, 3, 1, 1, 6],
    ] {
        let mut connection = connect(&server);
        // The earlier query is answered.
        let before = connection.query(&by_remote_id(1));
        assert_eq!(before.bindings.len(), 1);
        connection.send_octets(&message).unwrap();
        assert!(connection.next_message().unwrap().is_none());
    }
}

#[test]
fn signals_query_terminated_with_the_reason_when_it_stops() {
    // RFC 6926 section 8.5.
    let server = start(r#"["127.0.0.1"]"#, 2);
    let mut connection = connect(&server);
    let mut queries = Vec::new();
    for _ in 0..4 {
        let query = Query::new(Primary::All);
        connection.send(&query).unwrap();
        queries.push(query.xid);
    }
    // All of them are in progress.
    let mut seen = Vec::new();
    while seen.len() < queries.len() {
        match connection.next_reply().unwrap() {
            Some(Reply::Binding(binding)) if !seen.contains(&binding.xid) => {
                seen.push(binding.xid);
            }
            Some(Reply::Binding(_)) => {}
            other => panic!("{other:?}: too fast to be stopped"),
        }
    }
    let stopping = std::thread::spawn(move || server.stop("the configuration changes"));
    let answers = connection.collect_answers();
    for xid in queries {
        let done = answers[&xid].done.as_ref().unwrap();
        let status = done.status.as_ref().expect("a status-code");
        assert_eq!(status.code, StatusCode::QUERY_TERMINATED);
        assert_eq!(status.text, "the configuration changes");
    }
    // Then the server closes, between two messages.
    assert!(connection.next_message().unwrap().is_none());
    stopping.join().unwrap();
}

#[test]
fn answers_a_requester_that_closes_its_side_after_the_query() {
    let server = start(r#"["127.0.0.1"]"#, 2);
    let mut connection = connect(&server);
    let query = Query::new(Primary::All);
    connection.send(&query).unwrap();
    connection.finish_sending().unwrap();
    let answer = connection.collect_answers().remove(&query.xid).unwrap();
    assert_eq!(answer.bindings.len(), ADDRESSES);
    assert!(connection.next_message().unwrap().is_none());
}

#[test]
fn closes_for_a_xid_in_progress() {
    // RFC 6926 section 7.1: each query must have a unique xid.
    let server = start(r#"["127.0.0.1"]"#, 2);
    let connection = connect(&server);
    let query = Query::new(Primary::All).to_bytes().unwrap();
    connection
        .socket()
        .write_all(&[&query[..], &query].concat())
        .unwrap();
    let mut connection = connection;
    while let Some(message) = connection.next_message().unwrap() {
        let xid = u32::from_be_bytes(*query[6..].first_chunk().unwrap());
        assert_eq!(message.xid, xid);
        let reply = Reply::decode(&message).unwrap();
        assert!(matches!(reply, Reply::Binding(_)), "which query would end?");
    }
}

#[test]
fn answers_a_query_malformed_after_its_type_then_closes() {
    // RFC 6926 section 8.2; other answers in progress are finished.
    let server = start(r#"["127.0.0.1"]"#, 2);
    let mut connection = connect(&server);
    let whole = Query::new(Primary::All);
    let broken = by_remote_id(1);
    let late = by_remote_id(1);
    let mut message = broken.to_message().unwrap();
    message.ending = vec![61, 9, 1].into();
    let segment = [
        whole.to_bytes().unwrap(),
        message.to_frame().unwrap(),
        late.to_bytes().unwrap(),
    ];
    connection.expect(whole.xid);
    connection.expect(broken.xid);
    connection.send_octets(&segment.concat()).unwrap();
    let answers = connection.collect_answers();
    let status = answers[&broken.xid].done.as_ref().unwrap().status.as_ref();
    assert_eq!(status.unwrap().code, StatusCode::MALFORMED_QUERY);
    assert!(answers[&broken.xid].bindings.is_empty());
    assert_eq!(answers[&whole.xid].done.as_ref().unwrap().status, None);
    assert_eq!(answers[&whole.xid].bindings.len(), ADDRESSES);
    assert!(connection.next_message().unwrap().is_none());
}
