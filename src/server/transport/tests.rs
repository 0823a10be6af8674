//! Connections on streams in memory, with a clock that advances only when all tasks wait.

mod active;

use std::net::Ipv4Addr;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, duplex};
use tokio::task::JoinHandle;

use super::*;
use crate::query::{QueryTypes, Requester, Security};
use crate::server::connection::Limits;
use crate::server::fake_engine::{FakeEngine, Query, Reply, frame};
use crate::server::slots::Slots;

impl Carrier for DuplexStream {}

/// BULK_LQ_DATA_TIMEOUT.
const IDLE_TIME: Duration = Duration::from_secs(300);

/// ACTIVE_LQ_IDLE_TIMEOUT.
const ACTIVE_IDLE_TIME: Duration = Duration::from_secs(60);

/// ACTIVE_LQ_SEND_TIMEOUT.
pub(super) const ACTIVE_SEND_TIME: Duration = Duration::from_secs(120);

/// Returns a connection without TLS that was just accepted from 192.0.2.1.
pub(super) fn connection(engine: &Arc<FakeEngine>) -> Connection<FakeEngine> {
    let requester = Requester {
        peer: [192, 0, 2, 1].into(),
        local: [192, 0, 2, 254].into(),
        allowed: QueryTypes::ALL,
        security: Security::Plain,
    };
    let limits = Limits {
        queries: 16,
        idle_time: IDLE_TIME,
        active_idle_time: ACTIVE_IDLE_TIME,
        active_send_time: ACTIVE_SEND_TIME,
    };
    let now = Instant::now().into_std();
    Connection::new(Arc::clone(engine), requester, limits, Arc::default(), now)
}

/// A connection served, and its requester's end.
struct Served {
    /// The requester's end.
    stream: DuplexStream,
    /// The server's end.
    task: JoinHandle<()>,
    /// Stops the server.
    stop: watch::Sender<Option<Stop>>,
    /// The engine.
    engine: Arc<FakeEngine>,
    /// The slots, one of which the connection takes.
    slots: Arc<Slots>,
    /// The start of the connection.
    start: Instant,
}

impl Served {
    /// Serves a connection on a stream with a buffer of `buffer` octets in each direction.
    fn new(buffer: usize) -> Served {
        let slots = Arc::new(Slots::new(1));
        let slot = slots.take(Ipv4Addr::new(192, 0, 2, 1).into(), None);
        Served::with(buffer, Arc::default(), slots, slot.unwrap())
    }

    /// Serves another connection with the same engine and slots.
    fn beside(&self, slot: Slot) -> Served {
        let (engine, slots) = (Arc::clone(&self.engine), Arc::clone(&self.slots));
        Served::with(1_000, engine, slots, slot)
    }

    /// Serves a connection with this engine and slot.
    fn with(buffer: usize, engine: Arc<FakeEngine>, slots: Arc<Slots>, slot: Slot) -> Served {
        let (stream, server) = duplex(buffer);
        let start = Instant::now();
        let connection = connection(&engine);
        let (stop, stop_receiver) = watch::channel(None);
        let task = tokio::spawn(serve(server, connection, slot, stop_receiver, None));
        Served {
            stream,
            task,
            stop,
            engine,
            slots,
            start,
        }
    }

    /// Sends a query.
    async fn query(&mut self, xid: u32, replies: u32, size: u16) {
        let query = Query { xid, replies, size };
        self.stream.write_all(&query.frame()).await.unwrap();
    }

    /// Returns all replies that the server sends until it closes.
    async fn replies(&mut self) -> Vec<Reply> {
        let mut received = Vec::new();
        self.stream.read_to_end(&mut received).await.unwrap();
        let (replies, rest) = Reply::read_all(&received);
        assert!(rest.is_empty(), "the stream ends within a message");
        replies
    }

    /// Whether a slot is free.
    fn has_room(&self) -> bool {
        self.slots
            .take(Ipv4Addr::new(192, 0, 2, 2).into(), None)
            .is_ok()
    }

    /// Waits until the server has closed its end. Returns the time since the start.
    async fn gone(self) -> Duration {
        self.task.await.unwrap();
        self.start.elapsed()
    }
}

#[tokio::test(start_paused = true)]
async fn sends_whole_messages_over_a_stream_that_accepts_few_octets_at_a_time() {
    for buffer in [1, 2, 7, 301, 1_000] {
        let mut served = Served::new(buffer);
        served.query(1, 500, 300).await;
        served.query(2, 3, 300).await;
        served.stream.shutdown().await.unwrap();
        let replies = served.replies().await;
        assert_eq!(replies.len(), 505);
        let of = |reply: &Reply| replies.iter().position(|received| received == reply);
        assert!(of(&Reply::done(2)) < of(&Reply::done(1)));
        assert_eq!(replies.last(), Some(&Reply::done(1)));
    }
}

#[tokio::test(start_paused = true)]
async fn continues_a_search_over_many_turns() {
    let mut served = Served::new(1_000);
    let search = Query::search(1, 1_000).frame();
    served.stream.write_all(&search).await.unwrap();
    served.query(2, 1, 300).await;
    served.stream.shutdown().await.unwrap();
    assert_eq!(
        served.replies().await,
        [Reply::binding(2, 0), Reply::done(2), Reply::done(1)]
    );
    assert_eq!(served.start.elapsed(), Duration::ZERO, "it did not wait");
}

#[tokio::test(start_paused = true)]
async fn closes_an_idle_connection_after_the_idle_time() {
    // RFC 6926 section 8.5.
    let mut served = Served::new(1_000);
    assert_eq!(served.replies().await, []);
    assert_eq!(served.start.elapsed().as_secs(), IDLE_TIME.as_secs());
    assert!(served.has_room(), "who sees the end may connect again");
    drop(served.stream);
    served.task.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn closes_a_connection_that_sends_its_query_octet_by_octet() {
    // RFC 6926 section 8.1: blocked while reading a query.
    let mut served = Served::new(1_000);
    for octet in [0, 100, 7, 7, 7] {
        served.stream.write_all(&[octet]).await.unwrap();
        tokio::time::advance(Duration::from_secs(59)).await;
    }
    assert_eq!(served.replies().await, []);
    assert_eq!(served.start.elapsed().as_secs(), IDLE_TIME.as_secs());
}

#[tokio::test(start_paused = true)]
async fn the_idle_time_starts_at_the_last_done() {
    let mut served = Served::new(1_000);
    for xid in 0..3 {
        tokio::time::sleep(Duration::from_secs(200)).await;
        served.query(xid, 0, 8).await;
    }
    assert_eq!(served.replies().await, [0, 1, 2].map(Reply::done));
    assert_eq!(served.start.elapsed().as_secs(), 900);
}

#[tokio::test(start_paused = true)]
async fn a_waiting_query_is_answered_when_the_engine_can() {
    let mut served = Served::new(1_000);
    let query = Query::waiting(1).frame();
    served.stream.write_all(&query).await.unwrap();
    tokio::time::sleep(IDLE_TIME / 2).await;
    // Another query is answered in the meantime.
    served.query(2, 0, 8).await;
    tokio::time::sleep(IDLE_TIME / 2).await;
    served.engine.resume();
    served.stream.shutdown().await.unwrap();
    assert_eq!(served.replies().await, [2, 1].map(Reply::done));
    assert_eq!(served.start.elapsed().as_secs(), IDLE_TIME.as_secs());
}

#[tokio::test(start_paused = true)]
async fn a_waiting_query_for_the_idle_time_is_aborted_and_the_connection_closed() {
    let mut served = Served::new(1_000);
    let query = Query::waiting(1).frame();
    served.stream.write_all(&query).await.unwrap();
    let ended = Reply::Done {
        xid: 1,
        status: End::QueriesIdle.to_string(),
    };
    assert_eq!(served.replies().await, [ended]);
    assert_eq!(served.start.elapsed().as_secs(), IDLE_TIME.as_secs());
    drop(served.stream);
    served.task.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_waiting_query_is_aborted_when_the_server_stops() {
    let mut served = Served::new(1_000);
    let query = Query::waiting(1).frame();
    served.stream.write_all(&query).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    served.stop.send_replace(Some(Stop::now("reconfigured")));
    let ended = Reply::Done {
        xid: 1,
        status: "reconfigured".to_owned(),
    };
    assert_eq!(served.replies().await, [ended]);
    assert_eq!(served.start.elapsed(), Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn a_requester_that_gave_up_a_waiting_query_may_connect_again() {
    let mut served = Served::new(1_000);
    let query = Query::waiting(1).frame();
    served.stream.write_all(&query).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(!served.has_room());
    served.stream.shutdown().await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(served.has_room());
    // A requester that has only finished sending queries still receives its answer.
    served.engine.resume();
    assert_eq!(served.replies().await, [Reply::done(1)]);
}

#[tokio::test(start_paused = true)]
async fn no_more_connections_wait_for_their_end_than_may_be_open() {
    let mut served = Served::new(1_000);
    let query = Query::waiting(1).frame();
    served.stream.write_all(&query).await.unwrap();
    served.stream.shutdown().await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let slot = served.slots.take(Ipv4Addr::new(192, 0, 2, 3).into(), None);
    let mut next = served.beside(slot.unwrap());
    next.stream.write_all(&query).await.unwrap();
    next.stream.shutdown().await.unwrap();
    let ended = Reply::Done {
        xid: 1,
        status: TOO_MANY_IDLE.to_owned(),
    };
    assert_eq!(next.replies().await, [ended]);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_panics_ends_its_connection_without_a_done() {
    let mut served = Served::new(100_000);
    served.query(1, 100, 300).await;
    let query = Query::panicking(2).frame();
    served.stream.write_all(&query).await.unwrap();
    let mut received = Vec::new();
    served.stream.read_to_end(&mut received).await.unwrap();
    let (replies, _) = Reply::read_all(&received);
    let is_about = |reply: &Reply| matches!(reply, Reply::Done { xid: 2, .. });
    assert!(!replies.iter().any(is_about), "{replies:?}");
    assert!(served.has_room());
    assert!(served.task.await.unwrap_err().is_panic());
}

#[tokio::test(start_paused = true)]
async fn reads_no_query_from_the_stream_that_may_not_be_begun() {
    // RFC 6926 section 8.4.
    let mut served = Served::new(1_000_000);
    let segment: Vec<u8> = (1..=20)
        .flat_map(|xid| Query::waiting(xid).frame())
        .collect();
    served.stream.write_all(&segment).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(served.engine.opened(), 16);
    served.stop.send_replace(Some(Stop::now("reconfigured")));
    let replies = served.replies().await;
    let ended: Vec<Reply> = (1..=16)
        .map(|xid| Reply::Done {
            xid,
            status: "reconfigured".to_owned(),
        })
        .collect();
    assert_eq!(replies, ended);
}

#[tokio::test(start_paused = true)]
async fn drops_a_requester_that_reads_nothing() {
    // RFC 6926 section 8.2.
    let mut served = Served::new(100);
    served.query(1, 1_000, 300).await;
    assert_eq!(served.gone().await.as_secs(), IDLE_TIME.as_secs());
}

#[tokio::test(start_paused = true)]
async fn keeps_a_requester_that_reads_slowly() {
    let mut served = Served::new(100);
    served.query(1, 10, 92).await;
    let mut received = Vec::new();
    for _ in 0..20 {
        tokio::time::sleep(Duration::from_secs(299)).await;
        let mut piece = [0; 47];
        served.stream.read_exact(&mut piece).await.unwrap();
        received.extend(piece);
    }
    assert_eq!(Reply::read_all(&received).0.len(), 10);
}

#[tokio::test(start_paused = true)]
async fn finishes_the_answers_of_a_half_closed_connection_then_closes() {
    let mut served = Served::new(1_000);
    served.query(1, 100, 300).await;
    served.stream.shutdown().await.unwrap();
    assert_eq!(served.replies().await.last(), Some(&Reply::done(1)));
    assert_eq!(served.gone().await, Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn closes_at_once_when_the_requester_is_gone() {
    // RFC 6926 section 8.5: MUST close on an error sending data.
    let mut served = Served::new(1_000);
    served.query(1, 1_000_000, 300).await;
    let mut piece = [0; 302];
    served.stream.read_exact(&mut piece).await.unwrap();
    drop(served.stream);
    served.task.await.unwrap();
    assert_eq!(served.start.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn waits_a_short_time_for_the_requester_to_close_too() {
    let mut served = Served::new(1_000);
    served.query(1, 1, 300).await;
    served.stream.write_all(&frame(b"")).await.unwrap();
    let replies = served.replies().await;
    assert_eq!(replies.len(), 1, "the one query was aborted: {replies:?}");
    // Octets that arrive after the end are discarded without an RST.
    served.stream.write_all(&[0; 5_000]).await.unwrap();
    assert!(served.has_room());
    assert_eq!(served.gone().await, CLOSE_TIME);
}

#[tokio::test(start_paused = true)]
async fn signals_aborted_queries_when_the_server_stops() {
    // RFC 6926 section 8.5: QueryTerminated, with a message.
    let mut served = Served::new(100);
    served.query(1, 1_000_000, 300).await;
    let endless = Query::endless_search(2).frame();
    served.stream.write_all(&endless).await.unwrap();
    let mut received = vec![0; 302];
    served.stream.read_exact(&mut received).await.unwrap();
    served.stop.send_replace(Some(Stop::now("reconfigured")));
    served.stream.read_to_end(&mut received).await.unwrap();
    let (replies, rest) = Reply::read_all(&received);
    assert!(rest.is_empty());
    for xid in [1, 2] {
        let done = Reply::Done {
            xid,
            status: "reconfigured".to_owned(),
        };
        assert!(replies[replies.len() - 2..].contains(&done));
    }
    drop(served.stream);
    served.task.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn stops_in_bounded_time_with_any_requester() {
    // A requester that does not read, one that does not close, and one that is closing.
    let mut blocked = Served::new(100);
    blocked.query(1, 1_000_000, 300).await;
    let silent = Served::new(100);
    let mut closing = Served::new(100);
    closing.stream.write_all(&frame(b"")).await.unwrap();
    for served in [blocked, silent, closing] {
        // The connection proceeds until it blocks.
        tokio::time::sleep(Duration::from_millis(1)).await;
        served.stop.send_replace(Some(Stop::now("unloaded")));
        let before = Instant::now();
        served.task.await.unwrap();
        assert!(before.elapsed() <= crate::server::stop::STOP_TIME);
    }
}

#[tokio::test(start_paused = true)]
async fn an_idle_requester_hardly_prolongs_the_stop() {
    // Kea, and with it DHCP service, waits for the stop.
    let served = Served::new(100);
    served.stop.send_replace(Some(Stop::now("unloaded")));
    assert_eq!(served.gone().await, STOPPING_CLOSE_TIME);
}

#[tokio::test(start_paused = true)]
async fn a_requester_that_reads_late_does_not_prolong_the_stop() {
    let mut served = Served::new(100);
    served.query(1, 1_000_000, 300).await;
    tokio::time::sleep(Duration::from_millis(1)).await;
    served.stop.send_replace(Some(Stop::now("unloaded")));
    let before = Instant::now();
    tokio::time::sleep(crate::server::stop::STOP_TIME - Duration::from_millis(100)).await;
    assert!(served.replies().await.len() > 1);
    // The requester has received everything, but does not close its side.
    served.task.await.unwrap();
    assert!(before.elapsed() <= crate::server::stop::STOP_TIME);
}

/// A stream that can carry only a few more messages.
struct Exhausted(DuplexStream);

impl Carrier for Exhausted {
    fn exhausted(&self) -> Option<&'static str> {
        Some("exhausted")
    }
}

impl AsyncRead for Exhausted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        space: &mut tokio::io::ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, space)
    }
}

impl AsyncWrite for Exhausted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        octets: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, octets)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_can_carry_few_more_messages_is_closed() {
    let slots = Slots::new(1);
    let slot = slots
        .take(Ipv4Addr::new(192, 0, 2, 1).into(), None)
        .unwrap();
    let (mut stream, server) = duplex(1_000);
    let connection = connection(&Arc::default());
    let (_stop, stop_receiver) = watch::channel(None);
    let task = tokio::spawn(serve(
        Exhausted(server),
        connection,
        slot,
        stop_receiver,
        None,
    ));
    let mut received = Vec::new();
    stream.read_to_end(&mut received).await.unwrap();
    drop(stream);
    task.await.unwrap();
    assert!(received.is_empty(), "no query was in progress");
}
