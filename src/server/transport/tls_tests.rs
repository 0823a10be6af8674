//! Connections that start TLS, on streams in memory, with a clock that advances only when all tasks wait.

use std::net::Ipv4Addr;
use std::sync::Arc;

use rustls::{ClientConfig, ClientConnection, RootCertStore};
use tokio::io::{DuplexStream, duplex};
use tokio::task::JoinHandle;

use super::*;
use crate::config::Config;
use crate::query::{QueryTypes, Requester, Security};
use crate::server::certificates::Files;
use crate::server::connection::Limits;
use crate::server::fake_engine::{FakeEngine, frame};
use crate::server::slots::Slots;
use crate::server::tls::context::TlsContext;
use crate::server::tls::provider::provider;

/// The deadline of handshakes.
const DEADLINE: Duration = Duration::from_secs(10);

/// The address of the requester.
const PEER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

/// Connections that may start TLS.
struct Server {
    /// TLS.
    tls: Arc<TlsContext>,
    /// The slots.
    slots: Arc<Slots>,
    /// Stops the server.
    stop: watch::Sender<Option<Stop>>,
}

impl Server {
    /// Creates a server with slots for this many connections.
    fn new(connections: u32) -> Server {
        let files = Files::new();
        let config = Config::parse(&format!(
            r#"{{ "requesters": ["{PEER}"], "advanced": {{ {} }} }}"#,
            files.parameters()
        ));
        let tls = TlsContext::load(&config.unwrap()).unwrap().unwrap();
        Server {
            tls: Arc::new(tls),
            slots: Arc::new(Slots::new(connections)),
            stop: watch::channel(None).0,
        }
    }

    /// Serves a connection whose requester has got the reply to its DHCPTLS.
    async fn connect(&self) -> (DuplexStream, JoinHandle<()>) {
        let (mut stream, server) = duplex(4_096);
        let offer = self.tls.offer(PEER.into());
        let requester = Requester {
            peer: PEER,
            local: [192, 0, 2, 254].into(),
            allowed: QueryTypes::ALL,
            security: Security::Plain,
        };
        let limits = Limits {
            queries: 16,
            idle_time: Duration::from_secs(300),
            active_idle_time: Duration::from_secs(60),
            active_send_time: Duration::from_secs(120),
        };
        let connection = Connection::new(
            Arc::new(FakeEngine::default()),
            requester,
            limits,
            Arc::default(),
            Instant::now().into_std(),
        )
        .with_tls(offer.policy());
        let slot = self.slots.take(PEER.into(), None).unwrap();
        let stop = self.stop.subscribe();
        let task = tokio::spawn(serve(server, connection, slot, stop, Some(offer)));
        let mut dhcptls = [vec![1], vec![0; 235], b"\x63\x82\x53\x63".to_vec()].concat();
        dhcptls.extend([53, 1, 18, 255]);
        stream.write_all(&frame(&dhcptls)).await.unwrap();
        let size = stream.read_u16().await.unwrap();
        let mut reply = vec![0; size.into()];
        stream.read_exact(&mut reply).await.unwrap();
        (stream, task)
    }

    /// Whether a slot is free.
    fn has_room(&self) -> bool {
        self.slots.take(PEER.into(), None).is_ok()
    }
}

/// The first octets of a handshake record of 512 octets with a ClientHello.
const HALF_A_CLIENT_HELLO: [u8; 12] = [22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3, 7];

#[tokio::test(start_paused = true)]
async fn closes_a_connection_whose_handshake_is_not_complete_at_the_deadline() {
    // RFC 7724 section 8.1: blocked while accepting.
    for octets in [&[][..], &HALF_A_CLIENT_HELLO] {
        let server = Server::new(1);
        let start = Instant::now();
        let (mut stream, task) = server.connect().await;
        stream.write_all(octets).await.unwrap();
        assert!(!server.has_room(), "the connection occupies its slot");
        let mut received = Vec::new();
        stream.read_to_end(&mut received).await.unwrap();
        assert!(received.is_empty());
        assert_eq!(start.elapsed().as_secs(), DEADLINE.as_secs());
        assert!(server.has_room());
        drop(stream);
        task.await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn octets_one_by_one_do_not_extend_the_deadline() {
    let server = Server::new(1);
    let start = Instant::now();
    let (mut stream, _) = server.connect().await;
    for octet in HALF_A_CLIENT_HELLO {
        if stream.write_all(&[octet]).await.is_err() {
            break;
        }
        tokio::time::advance(Duration::from_secs(1)).await;
    }
    let mut received = Vec::new();
    stream.read_to_end(&mut received).await.unwrap();
    assert!(start.elapsed() < DEADLINE + Duration::from_secs(3));
}

#[tokio::test(start_paused = true)]
async fn a_stop_ends_handshakes_at_once() {
    let server = Server::new(1);
    let start = Instant::now();
    let (mut stream, task) = server.connect().await;
    stream.write_all(&HALF_A_CLIENT_HELLO).await.unwrap();
    server.stop.send_replace(Some(Stop::now("reconfigured")));
    task.await.unwrap();
    assert_eq!(start.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn further_handshakes_wait_for_stalled_ones_within_their_deadline() {
    // Those that have sent nothing take no place.
    for (stalled, octets, waits) in [(63, 10, false), (64, 10, true), (64, 0, false)] {
        let server = Server::new(1_000);
        let start = Instant::now();
        let mut connections = Vec::new();
        for _ in 0..stalled {
            let (mut stream, task) = server.connect().await;
            let hello = client_hello();
            stream.write_all(&hello[..octets]).await.unwrap();
            connections.push((stream, task));
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        let (mut stream, _task) = server.connect().await;
        stream.write_all(&client_hello()).await.unwrap();
        // The ServerHello.
        assert_eq!(stream.read_u8().await.unwrap(), 22);
        let waited = start.elapsed() >= DEADLINE;
        assert_eq!(waited, waits, "{:?}", start.elapsed());
        assert!(start.elapsed() < DEADLINE + Duration::from_secs(1));
    }
}

/// Returns the octets with which a requester begins a handshake.
fn client_hello() -> Vec<u8> {
    let config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    let name = "dhcp.example.net".try_into().unwrap();
    let mut session = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut octets = Vec::new();
    session.write_tls(&mut octets).unwrap();
    octets
}
