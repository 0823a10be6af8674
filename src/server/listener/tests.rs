//! Accepting connections, with connections in memory.

use std::collections::VecDeque;
use std::future::pending;

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::*;
use crate::config::Config;
use crate::server::fake_engine::{FakeEngine, Query, Reply};
use crate::server::stop::{Stop, until_stopped};

/// A source that yields connections and errors in order, then blocks.
struct Script(VecDeque<io::Result<Accepted<DuplexStream>>>);

impl Acceptor for Script {
    type Socket = DuplexStream;
    type Stream = DuplexStream;

    async fn accept(&mut self) -> io::Result<Accepted<DuplexStream>> {
        match self.0.pop_front() {
            Some(next) => next,
            None => pending().await,
        }
    }

    fn open(socket: DuplexStream) -> io::Result<DuplexStream> {
        Ok(socket)
    }

    fn is_awaited(&self) -> bool {
        !self.0.is_empty()
    }
}

/// Returns a connection from `peer`, and the requester's end of it.
fn connection(peer: [u8; 4]) -> (DuplexStream, io::Result<Accepted<DuplexStream>>) {
    let (requester, stream) = duplex(1_000);
    let accepted = Accepted {
        socket: stream,
        peer: SocketAddrV4::new(peer.into(), 4_067),
        local: [192, 0, 2, 254].into(),
    };
    (requester, Ok(accepted))
}

/// Accepts the connections of the script, with these parameters, until the stop signal.
fn run(
    parameters: &str,
    script: impl IntoIterator<Item = io::Result<Accepted<DuplexStream>>>,
) -> (watch::Sender<Option<Stop>>, Arc<FakeEngine>, JoinHandle<()>) {
    let config = Config::parse(parameters).unwrap();
    let (stop, stop_receiver) = watch::channel(None);
    let engine: Arc<FakeEngine> = Arc::default();
    let shared = Arc::new(Shared {
        engine: Arc::clone(&engine),
        access: AccessList::new(&config.requesters),
        slots: Arc::new(Slots::new(config.max_connections)),
        limits: Limits {
            queries: 16,
            idle_time: config.idle_time,
            active_idle_time: config.idle_time,
            active_send_time: config.idle_time,
        },
        peer_log: Arc::default(),
        monitor: Arc::default(),
        threads: Threads::here(),
        tls: None,
    });
    let script = Script(script.into_iter().collect());
    let task = tokio::spawn(until_stopped(stop_receiver, accept(script, shared)));
    (stop, engine, task)
}

/// Whether a query on the connection is answered; otherwise the connection must be closed.
async fn is_served(stream: &mut DuplexStream) -> bool {
    let query = Query {
        xid: 7,
        replies: 0,
        size: 8,
    };
    // Fails if the connection is closed already.
    let _ = stream.write_all(&query.frame()).await;
    let mut received = [0; 10];
    match stream.read_exact(&mut received).await {
        Ok(_) => Reply::read_all(&received).0 == [Reply::done(7)],
        Err(error) => {
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
            false
        }
    }
}

#[tokio::test(start_paused = true)]
async fn continues_to_accept_after_every_error() {
    let (mut requester, accepted) = connection([192, 0, 2, 1]);
    let errors = [
        libc::ECONNABORTED,
        libc::EMFILE,
        libc::ENFILE,
        libc::ENOBUFS,
        libc::ENOMEM,
        libc::EPROTO,
        libc::EINTR,
    ];
    let script = errors.map(|error| Err(io::Error::from_raw_os_error(error)));
    let (_stop, ..) = run(
        r#"{ "requesters": ["192.0.2.1"] }"#,
        script.into_iter().chain([accepted]),
    );
    let start = Instant::now();
    assert!(is_served(&mut requester).await);
    // A pause follows each error except the first, which concerns one connection only.
    assert_eq!(start.elapsed().as_millis() / 100, 6);
}

#[tokio::test(start_paused = true)]
async fn closes_connections_that_are_not_permitted() {
    // RFC 6926 section 8.1.
    let (mut stranger, first) = connection([192, 0, 2, 2]);
    let (mut requester, second) = connection([192, 0, 2, 1]);
    let (_stop, engine, _) = run(r#"{ "requesters": ["192.0.2.1"] }"#, [first, second]);
    assert!(!is_served(&mut stranger).await);
    assert!(is_served(&mut requester).await);
    assert_eq!(engine.opened(), 1);
}

#[tokio::test(start_paused = true)]
async fn closes_connections_over_the_limit_and_keeps_the_others() {
    // RFC 6926 section 8.1: BULK_LQ_MAX_CONNS.
    let (mut streams, script): (Vec<_>, Vec<_>) =
        (0..3).map(|_| connection([192, 0, 2, 1])).unzip();
    let (_stop, ..) = run(
        r#"{ "requesters": ["192.0.2.1"], "advanced": { "max-requester-connections": 2 } }"#,
        script,
    );
    assert!(is_served(&mut streams[0]).await);
    assert!(is_served(&mut streams[1]).await);
    assert!(!is_served(&mut streams[2]).await);
    assert!(is_served(&mut streams[0]).await);
}

#[tokio::test(start_paused = true)]
async fn limits_connections_of_an_entry_across_its_addresses() {
    let peers = [[192, 0, 2, 1], [192, 0, 2, 2], [198, 51, 100, 1]];
    let (mut streams, script): (Vec<_>, Vec<_>) = peers.into_iter().map(connection).unzip();
    let (_stop, ..) = run(
        r#"{ "requesters": [
            { "address": "192.0.2.0/24", "max-connections": 1 },
            { "address": "198.51.100.0/24", "max-connections": 1 }
        ] }"#,
        script,
    );
    assert!(is_served(&mut streams[0]).await);
    assert!(!is_served(&mut streams[1]).await);
    assert!(is_served(&mut streams[2]).await);
}

#[tokio::test(start_paused = true)]
async fn detects_a_close_before_it_refuses_the_next_connection() {
    let (first_stream, first) = connection([192, 0, 2, 1]);
    let (mut second_stream, second) = connection([192, 0, 2, 1]);
    // Both arrive at once, and the first is closed already.
    drop(first_stream);
    let (_stop, ..) = run(
        r#"{ "requesters": [{ "address": "192.0.2.1", "max-connections": 1 }] }"#,
        [first, second],
    );
    assert!(is_served(&mut second_stream).await);
}

#[tokio::test(start_paused = true)]
async fn passes_the_requester_and_its_query_types_to_the_engine() {
    use crate::query::{QueryType, QueryTypes};

    let (mut requester, accepted) = connection([192, 0, 2, 1]);
    let (_stop, engine, _) = run(
        r#"{ "requesters": ["0.0.0.0/0", { "address": "192.0.2.1", "query-types": ["mac"] }] }"#,
        [accepted],
    );
    assert!(is_served(&mut requester).await);
    let asked = engine.requesters();
    assert_eq!(asked[0].peer, Ipv4Addr::new(192, 0, 2, 1));
    assert_eq!(asked[0].local, Ipv4Addr::new(192, 0, 2, 254));
    assert_eq!(asked[0].allowed, QueryTypes::NONE.with(QueryType::Mac));
}

#[tokio::test(start_paused = true)]
async fn stops_accepting_also_during_a_pause() {
    let error = Err(io::Error::from_raw_os_error(libc::EMFILE));
    let (stop, _, task) = run(r#"{ "requesters": ["192.0.2.1"] }"#, [error]);
    tokio::task::yield_now().await;
    let start = Instant::now();
    stop.send_replace(Some(Stop::now("unloaded")));
    task.await.unwrap();
    assert_eq!(start.elapsed(), Duration::ZERO);
}
