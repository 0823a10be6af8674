//! Connections that start TLS, on streams in memory, with a clock that advances only when all tasks wait.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use tokio::io::{DuplexStream, duplex};
use tokio::task::JoinHandle;

use super::tests::{ACTIVE_SEND_TIME, connection};
use super::*;
use crate::config::Config;
use crate::server::certificates::Files;
use crate::server::fake_engine::{FakeEngine, Query, frame};
use crate::server::monitor::Monitor;
use crate::server::slots::Slots;
use crate::server::tls::context::TlsContext;
use crate::server::tls::provider::provider;

/// The deadline of handshakes.
const DEADLINE: Duration = Duration::from_secs(10);

/// The address of the requester.
const PEER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

/// Connections that may start TLS.
struct Server {
    /// The certificates.
    files: Files,
    /// The engine.
    engine: Arc<FakeEngine>,
    /// The open connections.
    monitor: Arc<Monitor>,
    /// TLS.
    tls: Arc<TlsContext>,
    /// The slots.
    slots: Arc<Slots>,
    /// Stops the server.
    stop: watch::Sender<Option<Stop>>,
}

impl Server {
    /// Creates a server with slots for this many connections, and one active one.
    fn new(connections: u32) -> Server {
        let files = Files::new();
        let config = Config::parse(&format!(
            r#"{{ "requesters": ["{PEER}"], "advanced": {{ {} }} }}"#,
            files.parameters()
        ));
        let tls = TlsContext::load(&config.unwrap()).unwrap().unwrap();
        Server {
            files,
            engine: Arc::default(),
            monitor: Arc::default(),
            tls: Arc::new(tls),
            slots: Arc::new(Slots::within(connections, 1, u64::MAX)),
            stop: watch::channel(None).0,
        }
    }

    /// Serves a connection whose requester has got the reply to its DHCPTLS.
    async fn connect(&self) -> (DuplexStream, JoinHandle<()>) {
        let (mut stream, server) = duplex(4_096);
        let offer = self.tls.offer(PEER.into());
        let connection = connection(&self.engine).with_tls(offer.policy());
        let slot = self.slots.take(PEER.into(), None).unwrap();
        let stop = self.stop.subscribe();
        let peer = SocketAddrV4::new(PEER, 1_024);
        let open = self.monitor.open(peer, PEER, connection.activity());
        let task = tokio::spawn(async move {
            let _open = open;
            serve(server, connection, slot, stop, Some(offer)).await;
        });
        let mut dhcptls = [vec![1], vec![0; 235], b"\x63\x82\x53\x63".to_vec()].concat();
        dhcptls.extend([53, 1, 18, 255]);
        stream.write_all(&frame(&dhcptls)).await.unwrap();
        let size = stream.read_u16().await.unwrap();
        let mut reply = vec![0; size.into()];
        stream.read_exact(&mut reply).await.unwrap();
        (stream, task)
    }

    /// Serves a connection that is secured.
    async fn secure(&self) -> (Secured, JoinHandle<()>) {
        let (stream, task) = self.connect().await;
        let mut roots = RootCertStore::empty();
        let authority = self.files.authority.certificate();
        let authority = CertificateDer::from_pem_slice(authority.as_bytes());
        roots.add(authority.unwrap()).unwrap();
        let requester = self.files.authority.issue(&["bng1.example.net"]);
        let config = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_client_auth_cert(vec![requester.certificate_der()], requester.key_der());
        let name = "dhcp.example.net".try_into().unwrap();
        let session = ClientConnection::new(Arc::new(config.unwrap()), name);
        let mut secured = Secured {
            stream,
            session: session.unwrap(),
        };
        while secured.session.is_handshaking() {
            secured.send().await;
            secured.receive().await;
        }
        secured.send().await;
        (secured, task)
    }

    /// Whether a slot is free.
    fn has_room(&self) -> bool {
        self.slots.take(PEER.into(), None).is_ok()
    }
}

/// A requester's end of a secured connection.
struct Secured {
    /// The ciphertext.
    stream: DuplexStream,
    /// The state of TLS.
    session: ClientConnection,
}

impl Secured {
    /// Sends the ciphertext that waits.
    async fn send(&mut self) {
        let mut octets = Vec::new();
        while self.session.wants_write() {
            self.session.write_tls(&mut octets).unwrap();
        }
        self.stream.write_all(&octets).await.unwrap();
    }

    /// Receives ciphertext; returns the number of octets.
    async fn receive(&mut self) -> usize {
        let mut octets = [0; 512];
        let count = self.stream.read(&mut octets).await.unwrap();
        assert!(count > 0, "the connection stays open");
        let mut rest = &octets[..count];
        while !rest.is_empty() {
            self.session.read_tls(&mut rest).unwrap();
            let state = self.session.process_new_packets().unwrap();
            let mut plaintext = vec![0; state.plaintext_bytes_to_read()];
            self.session.reader().read_exact(&mut plaintext).unwrap();
        }
        count
    }

    /// Sends plaintext.
    async fn write(&mut self, plaintext: &[u8]) {
        self.session.writer().write_all(plaintext).unwrap();
        self.send().await;
    }
}

/// The first octets of a handshake record of 512 octets with a ClientHello.
const HALF_A_CLIENT_HELLO: [u8; 12] = [22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3, 7];

/// RFC 7724 section 8.1: blocked while accepting.
#[tokio::test(start_paused = true)]
async fn closes_a_connection_whose_handshake_is_not_complete_at_the_deadline() {
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

/// RFC 7724 section 8.2. TLS takes these changes from the output at once, and the requester reads none of them.
#[tokio::test(start_paused = true)]
async fn drops_a_requester_that_reads_nothing_for_the_send_time_though_tls_holds_everything() {
    for changes in [20, 100, 1_000] {
        let server = Server::new(1);
        let (mut requester, task) = server.secure().await;
        requester.write(&Query::active(1).frame()).await;
        sleep(Duration::from_millis(10)).await;
        let is_blocked = || server.monitor.connections()[0].blocked_for.is_some();
        assert!(!is_blocked());
        let start = Instant::now();
        server.engine.change(changes);
        sleep(Duration::from_millis(10)).await;
        assert!(is_blocked(), "{changes} changes");
        // Further ones give no more time.
        sleep(ACTIVE_SEND_TIME / 2).await;
        server.engine.change(changes);
        task.await.unwrap();
        assert_eq!(start.elapsed().as_secs(), ACTIVE_SEND_TIME.as_secs());
    }
}

#[tokio::test(start_paused = true)]
async fn keeps_a_requester_that_reads_slowly_what_tls_holds() {
    let server = Server::new(1);
    let (mut requester, task) = server.secure().await;
    requester.write(&Query::active(1).frame()).await;
    sleep(Duration::from_millis(10)).await;
    server.engine.change(60);
    let mut received = 0;
    // More octets than the changes have: ConnectionActive follows.
    while received < 60 * 330 {
        sleep(ACTIVE_SEND_TIME - Duration::from_secs(1)).await;
        received += requester.receive().await;
    }
    assert!(!task.is_finished());
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
