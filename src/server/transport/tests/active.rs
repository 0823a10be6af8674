//! Active queries (RFC 7724) on streams in memory.

use proto::StatusCode;
use tokio::task::yield_now;

use super::*;
use crate::server::slots::Full;

impl Served {
    /// Serves a connection with an active query of xid 1, with one place for such connections.
    async fn active(buffer: usize) -> Served {
        let slots = Arc::new(Slots::within(1, 1, u64::MAX));
        let slot = slots.take(Ipv4Addr::new(192, 0, 2, 1).into(), None);
        let mut served = Served::with(buffer, Arc::default(), slots, slot.unwrap());
        let query = Query::active(1).frame();
        served.stream.write_all(&query).await.unwrap();
        // The query arrives.
        sleep(Duration::from_millis(1)).await;
        assert_eq!(served.engine.opened(), 1);
        served.start = Instant::now();
        served
    }

    /// Serves another connection with an active query of xid 1, in the slot that is free.
    async fn beside_active(&self) -> Served {
        let mut next = self.beside(self.free_slot());
        let query = Query::active(1).frame();
        next.stream.write_all(&query).await.unwrap();
        next
    }

    /// Takes the slot that is free.
    fn free_slot(&self) -> Slot {
        let slot = self.slots.take(Ipv4Addr::new(192, 0, 2, 2).into(), None);
        slot.unwrap()
    }

    /// Returns the next reply.
    async fn reply(&mut self) -> Reply {
        let size = self.stream.read_u16().await.unwrap();
        let mut message = vec![0; size.into()];
        self.stream.read_exact(&mut message).await.unwrap();
        Reply::read(&message)
    }

    /// Returns the seconds until the next reply, which must be ConnectionActive.
    async fn silence(&mut self) -> u64 {
        let since = Instant::now();
        let active = status(StatusCode::CONNECTION_ACTIVE, "");
        assert_eq!(self.reply().await, active);
        since.elapsed().as_secs()
    }
}

/// Returns a status of the stream.
fn status(code: StatusCode, text: &str) -> Reply {
    Reply::status(1, code, text)
}

/// RFC 7724 section 8.2: as soon as possible after the answer to the client.
#[tokio::test(start_paused = true)]
async fn sends_a_change_at_once_and_many_together() {
    let mut served = Served::active(1_000_000).await;
    served.engine.change(1);
    assert_eq!(served.reply().await, Reply::binding(1, 0));
    assert_eq!(served.start.elapsed(), Duration::ZERO, "it did not wait");
    let before = served.engine.writes();
    for _ in 0..100 {
        served.engine.change(1);
        for _ in 0..5 {
            yield_now().await;
        }
    }
    // At most one wake-up in each millisecond: no time has passed.
    assert_eq!(served.engine.writes(), before);
    for number in 1..=100 {
        assert_eq!(served.reply().await, Reply::binding(1, number));
    }
    assert!(served.engine.writes() <= before + 3);
    // About a millisecond: the timer's resolution.
    assert!(served.start.elapsed() <= Duration::from_millis(3));
}

/// RFC 7724 section 7.4. A connection without an active query may be idle for longer: its timer is set anew.
#[tokio::test(start_paused = true)]
async fn a_silent_stream_is_shown_to_be_active_after_the_idle_time() {
    let mut served = Served::active(1_000).await;
    for count in 1..=10 {
        assert_eq!(
            served.reply().await,
            status(StatusCode::CONNECTION_ACTIVE, "")
        );
        let elapsed = served.start.elapsed() + Duration::from_millis(1);
        assert_eq!(elapsed.as_secs(), count * ACTIVE_IDLE_TIME.as_secs());
    }
    sleep(ACTIVE_IDLE_TIME / 2).await;
    served.engine.change(1);
    assert_eq!(served.reply().await, Reply::binding(1, 0));
    assert_eq!(served.silence().await, ACTIVE_IDLE_TIME.as_secs());
}

#[tokio::test(start_paused = true)]
async fn the_idle_time_follows_the_send_time() {
    // The timer may be set for the end of the longer time.
    let mut served = Served::active(100).await;
    served.engine.change(1);
    sleep(ACTIVE_SEND_TIME - Duration::from_secs(1)).await;
    assert_eq!(served.reply().await, Reply::binding(1, 0));
    assert_eq!(served.silence().await, ACTIVE_IDLE_TIME.as_secs());
}

/// RFC 7724 section 8.2.
#[tokio::test(start_paused = true)]
async fn drops_a_requester_that_reads_nothing_for_the_send_time() {
    let served = Served::active(100).await;
    served.engine.change(100);
    assert_eq!(served.gone().await.as_secs(), ACTIVE_SEND_TIME.as_secs());
}

/// RFC 7724 section 8.4: a connection that the requester closed is closed, without a status.
#[tokio::test(start_paused = true)]
async fn the_requesters_close_closes_the_connection() {
    for changes in [0, 100] {
        let mut served = Served::active(100).await;
        served.engine.change(changes);
        sleep(Duration::from_millis(5)).await;
        served.stream.shutdown().await.unwrap();
        sleep(Duration::from_millis(1)).await;
        served.start = Instant::now();
        assert!(served.has_room());
        assert_eq!(served.gone().await, Duration::ZERO);
    }
}

/// RFC 7724 section 8.3.
#[tokio::test(start_paused = true)]
async fn another_query_closes_the_connection_after_not_allowed() {
    let mut served = Served::active(1_000).await;
    served.query(2, 10, 300).await;
    let last = status(StatusCode::NOT_ALLOWED, &End::NotAlone.to_string());
    assert_eq!(served.replies().await, [last]);
    served.stream.shutdown().await.unwrap();
    assert_eq!(served.gone().await, Duration::ZERO);
}

/// RFC 7724 section 8.4.
#[tokio::test(start_paused = true)]
async fn the_end_of_the_server_is_query_terminated_as_the_last_message() {
    let mut served = Served::active(1_000).await;
    served.stop.send_replace(Some(Stop::now("reconfigured")));
    let last = status(StatusCode::QUERY_TERMINATED, "reconfigured");
    assert_eq!(served.replies().await, [last]);
    assert_eq!(served.start.elapsed(), Duration::ZERO);
}

/// RFC 7724 section 8.4: connections are limited; the contract.
#[tokio::test(start_paused = true)]
async fn an_active_connection_leaves_its_slot_to_another() {
    let mut served = Served::active(1_000).await;
    let mut bulk = served.beside(served.free_slot());
    assert!(!served.has_room());
    bulk.query(1, 0, 8).await;
    bulk.stream.shutdown().await.unwrap();
    assert_eq!(bulk.replies().await, [Reply::done(1)]);
    bulk.gone().await;
    // There is no place for a second active one.
    let mut second = served.beside_active().await;
    let last = status(StatusCode::QUERY_TERMINATED, &Full::Active(1).to_string());
    assert_eq!(second.replies().await, [last]);
    drop(second.stream);
    // Until the first ends.
    served.stop.send_replace(Some(Stop::now("reconfigured")));
    served.replies().await;
    let mut third = served.beside_active().await;
    sleep(Duration::from_millis(1)).await;
    served.engine.change(1);
    assert_eq!(third.reply().await, Reply::binding(1, 0));
}

/// RFC 7724 sections 8.2 and 8.4: an error is a status, then the connection is closed.
#[tokio::test(start_paused = true)]
async fn a_failure_of_the_engine_ends_the_stream() {
    let mut served = Served::active(1_000).await;
    served.engine.fail();
    let last = status(StatusCode::QUERY_TERMINATED, "failed");
    assert_eq!(served.replies().await, [last]);
}
