//! Dialogues with one connection, without a network or a clock.

mod active;

use crate::server::fake_engine::{FakeEngine, Query, Reply, frame};
use proptest::prelude::*;

use bytes::{Buf, BufMut};

use super::*;
use crate::query::{QueryTypes, Security};

/// BULK_LQ_DATA_TIMEOUT.
const IDLE_TIME: Duration = Duration::from_secs(300);
/// ACTIVE_LQ_IDLE_TIMEOUT.
const ACTIVE_IDLE_TIME: Duration = Duration::from_secs(60);
/// ACTIVE_LQ_SEND_TIMEOUT.
const ACTIVE_SEND_TIME: Duration = Duration::from_secs(120);
/// A short time.
const MOMENT: Duration = Duration::from_millis(1);

/// A connection and the requester at its other end.
struct Dialogue {
    /// The connection.
    connection: Connection<FakeEngine>,
    /// The time.
    now: Instant,
    /// Octets that the connection has not read yet, as in the network.
    unread: VecDeque<u8>,
    /// Octets received.
    received: Vec<u8>,
}

impl Dialogue {
    /// Returns a connection just accepted, with this limit of queries in progress.
    fn with_queries(queries: usize) -> Dialogue {
        let now = Instant::now();
        let requester = Requester {
            peer: [192, 0, 2, 1].into(),
            local: [192, 0, 2, 254].into(),
            allowed: QueryTypes::ALL,
            security: Security::Plain,
        };
        let limits = Limits {
            queries,
            idle_time: IDLE_TIME,
            active_idle_time: ACTIVE_IDLE_TIME,
            active_send_time: ACTIVE_SEND_TIME,
        };
        Dialogue {
            connection: Connection::new(Arc::default(), requester, limits, Arc::default(), now),
            now,
            unread: VecDeque::new(),
            received: Vec::new(),
        }
    }

    /// Returns a connection just accepted, with a limit of 16 queries in progress.
    fn new() -> Dialogue {
        Dialogue::with_queries(16)
    }

    /// Sends octets, of which the connection reads those that it wants.
    fn send(&mut self, octets: &[u8]) {
        self.unread.extend(octets);
        while !self.unread.is_empty() && self.connection.wants_input() {
            let mut space = self.connection.input_space();
            let count = space.remaining_mut().min(self.unread.len());
            assert!(count > 0, "a connection that wants input has room for it");
            space.put((&mut self.unread).take(count));
            self.connection.received(self.now);
        }
    }

    /// Sends a query.
    fn query(&mut self, xid: u32, replies: u32, size: u16) {
        self.send(&Query { xid, replies, size }.frame());
    }

    /// Makes the connection produce, and receives up to `count` octets. Returns their number.
    fn receive(&mut self, count: usize) -> usize {
        self.connection.produce(self.now);
        let output = self.connection.output();
        let count = output.len().min(count);
        self.received.extend(&output[..count]);
        if count > 0 {
            self.connection.sent(count, self.now);
        }
        // The connection now reads the octets that it has room for.
        self.send(&[]);
        count
    }

    /// Receives all output. Returns the replies since the start.
    fn replies(&mut self) -> Vec<Reply> {
        while self.receive(usize::MAX) > 0 {}
        let (replies, rest) = Reply::read_all(&self.received);
        assert!(rest.is_empty(), "the stream ends within a message");
        replies
    }

    /// Advances the time, with the timer's checks.
    fn wait(&mut self, time: Duration) {
        self.now += time;
        self.connection.expire(self.now);
    }
}

/// Returns the end of a query that was aborted for the reason `end`.
fn terminated(xid: u32, end: &End) -> Reply {
    Reply::Done {
        xid,
        status: end.to_string(),
    }
}

//------------ Framing (RFC 6926 section 6.1) --------------------------------------------------

#[test]
fn answers_a_query_split_at_every_octet() {
    let octets = Query {
        xid: 7,
        replies: 2,
        size: 300,
    }
    .frame();
    for split in 0..octets.len() {
        let mut dialogue = Dialogue::new();
        dialogue.send(&octets[..split]);
        assert_eq!(dialogue.replies(), []);
        dialogue.send(&octets[split..]);
        assert_eq!(
            dialogue.replies(),
            [Reply::binding(7, 0), Reply::binding(7, 1), Reply::done(7)],
            "split at {split}"
        );
    }
}

#[test]
fn answers_two_queries_in_one_segment() {
    let mut dialogue = Dialogue::new();
    let mut segment = Vec::new();
    for xid in [1, 2] {
        segment.extend(
            Query {
                xid,
                replies: 0,
                size: 8,
            }
            .frame(),
        );
    }
    dialogue.send(&segment);
    assert_eq!(dialogue.replies(), [Reply::done(1), Reply::done(2)]);
}

#[test]
fn sends_whole_messages_in_pieces_of_any_size() {
    let mut dialogue = Dialogue::new();
    dialogue.query(1, 400, 300);
    dialogue.query(2, 400, 301);
    let mut piece = 0;
    while dialogue.receive(1 + piece % 97) > 0 {
        piece += 1;
    }
    let replies = dialogue.replies();
    assert_eq!(replies.len(), 802);
    for xid in [1, 2] {
        let own: Vec<&Reply> = replies
            .iter()
            .filter(|reply| {
                matches!(reply, Reply::Binding { xid: of, .. } | Reply::Done { xid: of, .. }
                    if *of == xid)
            })
            .collect();
        let expected: Vec<Reply> = (0..400)
            .map(|number| Reply::binding(xid, number))
            .chain([Reply::done(xid)])
            .collect();
        assert!(own.into_iter().eq(&expected));
    }
}

#[test]
fn closes_after_a_message_that_cannot_be_answered() {
    // RFC 7724 section 8.1.1. An empty or too short message is one of these.
    for message in [&b""[..], b"x", b"not a query at all"] {
        let mut dialogue = Dialogue::new();
        dialogue.send(&frame(message));
        assert_eq!(dialogue.replies(), []);
        assert!(dialogue.connection.is_finished());
        assert!(matches!(
            dialogue.connection.end(),
            Some(End::Unanswerable(_))
        ));
    }
}

#[test]
fn sends_earlier_answers_before_it_closes_for_an_unanswerable_message() {
    // RFC 6926 section 8.5: an aborted query SHOULD be signalled by QueryTerminated.
    let mut dialogue = Dialogue::new();
    dialogue.query(1, 1, 300);
    dialogue.query(2, 10_000, 300);
    dialogue.receive(1);
    dialogue.send(&frame(b""));
    dialogue.query(3, 0, 8);
    assert!(!dialogue.connection.is_finished());
    let replies = dialogue.replies();
    let end = dialogue.connection.end().unwrap().clone();
    assert!(replies.contains(&Reply::done(1)));
    assert_eq!(replies.last(), Some(&terminated(2, &end)));
    assert!(
        !replies.contains(&Reply::done(3)),
        "nothing is read after it"
    );
    assert!(dialogue.connection.is_finished());
}

#[test]
fn answers_a_broken_query_and_those_in_progress_then_closes() {
    // RFC 6926 section 8.2: a DHCPLEASEQUERYDONE ends a query, after which the connection may be
    // closed.
    for is_half_closed in [false, true] {
        let mut dialogue = Dialogue::new();
        dialogue.query(1, 10_000, 300);
        let mut segment = Query::broken(2).frame();
        segment.extend(Query::search(3, 0).frame());
        dialogue.send(&segment);
        if is_half_closed {
            dialogue.connection.input_closed(dialogue.now);
        }
        dialogue.send(&Query::search(4, 0).frame());
        assert!(!dialogue.connection.wants_input());
        assert!(!dialogue.connection.is_finished());
        assert_eq!(dialogue.connection.end(), Some(&End::Refused));
        let replies = dialogue.replies();
        assert_eq!(replies.len(), 10_002);
        assert_eq!(replies.last(), Some(&Reply::done(1)));
        assert!(replies.contains(&Reply::done(2)));
        assert!(dialogue.connection.is_finished());
        assert_eq!(dialogue.connection.engine.opened(), 2);
    }
}

#[test]
fn a_broken_query_with_a_xid_in_progress_ends_both() {
    // RFC 6926 section 7.7: an answer could belong to either.
    let mut dialogue = Dialogue::new();
    dialogue.send(&Query::endless_search(1).frame());
    dialogue.send(&Query::broken(1).frame());
    assert_eq!(dialogue.replies(), []);
    assert!(dialogue.connection.is_finished());
    assert_eq!(dialogue.connection.end(), Some(&End::XidInUse(1)));
}

//------------ Several queries (RFC 6926 sections 7.7 and 8.4) ---------------------------------

#[test]
fn a_small_query_sent_after_a_large_one_finishes_first() {
    // RFC 6926 section 7.7: replies on new queries MUST NOT wait for the existing query.
    let mut dialogue = Dialogue::new();
    dialogue.query(1, 100_000, 300);
    dialogue.receive(1);
    dialogue.query(2, 3, 300);
    // Replies produced before the stop signal, and one more chunk.
    dialogue.receive(usize::MAX);
    dialogue.receive(usize::MAX);
    let (replies, _) = Reply::read_all(&dialogue.received);
    assert!(replies.contains(&Reply::done(2)));
    assert!(!replies.contains(&Reply::done(1)));
}

#[test]
fn queries_take_turns() {
    let mut dialogue = Dialogue::new();
    for xid in 1..=4 {
        dialogue.query(xid, 100_000, 300);
    }
    for _ in 0..8 {
        dialogue.receive(usize::MAX);
    }
    let (replies, _) = Reply::read_all(&dialogue.received);
    let shares: Vec<usize> = (1..=4)
        .map(|xid| {
            let of = |reply: &&Reply| matches!(reply, Reply::Binding { xid: of, .. } if *of == xid);
            replies.iter().filter(of).count()
        })
        .collect();
    let (least, most) = (shares.iter().min().unwrap(), shares.iter().max().unwrap());
    assert!(*least > 0 && most - least <= TURN / 300 + 1, "{shares:?}");
}

#[test]
fn a_search_that_finds_nothing_does_not_delay_other_queries() {
    let mut dialogue = Dialogue::new();
    dialogue.send(&Query::endless_search(1).frame());
    assert_eq!(dialogue.receive(usize::MAX), 0);
    dialogue.query(2, 1, 300);
    assert_eq!(dialogue.replies(), [Reply::binding(2, 0), Reply::done(2)]);
    assert!(dialogue.connection.is_answering());
}

#[test]
fn reads_no_octet_of_a_query_beyond_the_limit() {
    // RFC 6926 section 8.4: MUST NOT read more queries than it is prepared to process.
    for limit in [1, 2, 16] {
        let mut dialogue = Dialogue::with_queries(limit);
        let segment: Vec<u8> = (1..=limit + 2)
            .flat_map(|xid| Query::endless_search(xid as u32).frame())
            .collect();
        dialogue.send(&segment);
        assert_eq!(dialogue.connection.engine.opened(), limit);
        assert!(!dialogue.connection.wants_input());
        let left = 2 * Query::endless_search(0).frame().len();
        assert_eq!(dialogue.unread.len(), left);
        // Each query that was read ends with a DHCPLEASEQUERYDONE.
        dialogue.connection.terminate("reconfigured", dialogue.now);
        let end = End::Terminated("reconfigured".to_owned());
        let all: Vec<Reply> = (1..=limit as u32)
            .map(|xid| terminated(xid, &end))
            .collect();
        assert_eq!(dialogue.replies(), all);
        assert_eq!(dialogue.unread.len(), left);
    }
}

#[test]
fn accepts_as_many_queries_as_the_limit_allows() {
    let mut dialogue = Dialogue::with_queries(16);
    for xid in 1..=15 {
        dialogue.send(&Query::endless_search(xid).frame());
    }
    assert!(dialogue.connection.wants_input());
    dialogue.send(&Query::endless_search(16).frame());
    assert_eq!(dialogue.connection.engine.opened(), 16);
}

#[test]
fn reads_the_next_query_when_one_is_done() {
    // RFC 6926 section 7.7: subsequent queries are read as current queries are processed.
    let mut dialogue = Dialogue::with_queries(16);
    for xid in 1..=17 {
        dialogue.query(xid, 1, 300);
    }
    assert_eq!(dialogue.connection.engine.opened(), 16);
    dialogue.receive(usize::MAX);
    assert_eq!(dialogue.connection.engine.opened(), 17);
    assert!(dialogue.replies().contains(&Reply::done(17)));
}

#[test]
fn answers_queries_sent_together_one_after_the_other_if_the_limit_is_one() {
    let mut dialogue = Dialogue::with_queries(1);
    let segment: Vec<u8> = (1..=20)
        .flat_map(|xid| {
            Query {
                xid,
                replies: 1,
                size: 300,
            }
            .frame()
        })
        .collect();
    dialogue.send(&segment);
    assert_eq!(dialogue.connection.engine.opened(), 1);
    let replies = dialogue.replies();
    let expected: Vec<Reply> = (1..=20)
        .flat_map(|xid| [Reply::binding(xid, 0), Reply::done(xid)])
        .collect();
    assert_eq!(replies, expected);
}

#[test]
fn a_short_answer_is_added_to_unsent_output() {
    let mut dialogue = Dialogue::with_queries(2);
    for xid in 1..=20 {
        dialogue.query(xid, 1, 300);
        dialogue.connection.produce(dialogue.now);
    }
    dialogue.receive(usize::MAX);
    assert_eq!(Reply::read_all(&dialogue.received).0.len(), 40);
}

#[test]
fn closes_when_a_xid_in_progress_is_used_again() {
    // RFC 6926 section 7.7: each query MUST have a unique xid.
    let mut dialogue = Dialogue::new();
    dialogue.query(1, 100_000, 300);
    dialogue.query(2, 100_000, 300);
    dialogue.receive(1);
    dialogue.query(1, 0, 8);
    assert_eq!(dialogue.connection.end(), Some(&End::XidInUse(1)));
    let replies = dialogue.replies();
    assert_eq!(replies.last(), Some(&terminated(2, &End::XidInUse(1))));
    let ended = |reply: &&Reply| matches!(reply, Reply::Done { .. });
    // The requester could not assign a status to either query.
    assert_eq!(replies.iter().filter(ended).count(), 1);
    assert!(dialogue.connection.is_finished());
}

#[test]
fn accepts_a_xid_again_once_its_query_is_done() {
    let mut dialogue = Dialogue::new();
    dialogue.query(1, 0, 8);
    assert_eq!(dialogue.replies(), [Reply::done(1)]);
    dialogue.query(1, 0, 8);
    assert_eq!(dialogue.replies(), [Reply::done(1), Reply::done(1)]);
}

//------------ Bounds --------------------------------------------------------------------------

#[test]
fn a_requester_that_reads_nothing_costs_one_chunk() {
    let mut dialogue = Dialogue::new();
    for xid in 1..=16 {
        dialogue.query(xid, 1_000_000, 300);
    }
    for _ in 0..100 {
        dialogue.connection.produce(dialogue.now);
    }
    assert!(dialogue.connection.output.len() <= CHUNK + 302);
    // Nothing is added until the last octet is received.
    let all = dialogue.connection.output().len();
    dialogue.receive(all - 1);
    dialogue.connection.produce(dialogue.now);
    assert_eq!(dialogue.connection.output().len(), 1);
}

#[test]
fn output_does_not_grow_with_the_length_of_an_answer() {
    let mut dialogue = Dialogue::new();
    dialogue.query(1, 1_000, 65_535);
    while dialogue.receive(usize::MAX) > 0 {
        dialogue.received.clear();
    }
    assert!(dialogue.connection.output.capacity() <= 2 * (CHUNK + TURN + 65_537));
}

//------------ Time (RFC 6926 sections 8.1, 8.2 and 8.5) ---------------------------------------

#[test]
fn closes_a_connection_without_a_query_after_the_idle_time() {
    let mut dialogue = Dialogue::new();
    dialogue.wait(IDLE_TIME - MOMENT);
    assert_eq!(dialogue.connection.end(), None);
    dialogue.wait(MOMENT);
    assert_eq!(dialogue.connection.end(), Some(&End::Idle));
    assert!(dialogue.connection.is_finished());
}

#[test]
fn part_of_a_query_does_not_prolong_the_idle_time() {
    let mut dialogue = Dialogue::new();
    let octets = Query::endless_search(1).frame();
    for octet in &octets[..octets.len() - 1] {
        dialogue.wait(Duration::from_secs(25));
        dialogue.send(&[*octet]);
    }
    dialogue.wait(Duration::from_secs(24));
    assert_eq!(dialogue.connection.end(), None);
    dialogue.wait(Duration::from_secs(1));
    assert_eq!(dialogue.connection.end(), Some(&End::Idle));
}

#[test]
fn the_idle_time_starts_again_when_the_last_done_was_sent() {
    let mut dialogue = Dialogue::new();
    dialogue.wait(IDLE_TIME - MOMENT);
    dialogue.query(1, 0, 8);
    dialogue.wait(IDLE_TIME - MOMENT);
    assert_eq!(dialogue.replies(), [Reply::done(1)]);
    dialogue.wait(IDLE_TIME - MOMENT);
    assert_eq!(dialogue.connection.end(), None);
    dialogue.wait(MOMENT);
    assert_eq!(dialogue.connection.end(), Some(&End::Idle));
}

#[test]
fn a_query_in_progress_is_not_idle() {
    let mut dialogue = Dialogue::new();
    dialogue.send(&Query::endless_search(1).frame());
    for _ in 0..10 {
        dialogue.receive(usize::MAX);
        dialogue.wait(IDLE_TIME);
    }
    assert_eq!(dialogue.connection.end(), None);
    assert_eq!(dialogue.connection.deadline(), None);
}

#[test]
fn a_long_answer_that_is_taken_is_not_cut() {
    let mut dialogue = Dialogue::new();
    dialogue.query(1, 3_000, 300);
    for _ in 0..20 {
        dialogue.wait(IDLE_TIME - MOMENT);
        dialogue.receive(50_000);
    }
    assert_eq!(dialogue.replies().last(), Some(&Reply::done(1)));
    assert_eq!(dialogue.connection.end(), None);
}

#[test]
fn drops_a_requester_that_reads_nothing_for_the_idle_time() {
    // RFC 6926 section 8.2: blocked while sending.
    let mut dialogue = Dialogue::new();
    dialogue.query(1, 100_000, 300);
    dialogue.receive(1);
    dialogue.wait(IDLE_TIME - MOMENT);
    // Queries that it sends in that time do not count.
    dialogue.query(2, 1, 300);
    assert_eq!(dialogue.connection.end(), None);
    dialogue.wait(MOMENT);
    assert_eq!(dialogue.connection.end(), Some(&End::Blocked));
    assert!(dialogue.connection.is_finished());
}

#[test]
fn a_requester_has_time_to_read_the_end_of_a_long_search() {
    let mut dialogue = Dialogue::new();
    dialogue.send(&Query::endless_search(1).frame());
    dialogue.wait(IDLE_TIME * 10);
    dialogue.send(&frame(b""));
    dialogue.wait(IDLE_TIME - MOMENT);
    let end = dialogue.connection.end().unwrap().clone();
    assert_eq!(dialogue.replies(), [terminated(1, &end)]);
}

//------------ Queries that wait ---------------------------------------------------------------

#[test]
fn a_waiting_query_delays_no_other() {
    let mut dialogue = Dialogue::new();
    dialogue.send(&Query::waiting(1).frame());
    dialogue.query(2, 1, 300);
    assert_eq!(dialogue.replies(), [Reply::binding(2, 0), Reply::done(2)]);
    assert!(dialogue.connection.has_idle_queries());
    assert!(
        !dialogue.connection.is_answering(),
        "nothing to continue with"
    );
    dialogue.connection.wake();
    assert_eq!(dialogue.receive(usize::MAX), 0);
    assert!(dialogue.connection.has_idle_queries(), "it was too early");
    dialogue.connection.engine.resume();
    dialogue.connection.wake();
    assert_eq!(dialogue.replies().last(), Some(&Reply::done(1)));
    assert!(!dialogue.connection.has_idle_queries());
}

#[test]
fn waiting_queries_count_as_in_progress() {
    let mut dialogue = Dialogue::with_queries(2);
    let segment: Vec<u8> = (1..=3)
        .flat_map(|xid| Query::waiting(xid).frame())
        .collect();
    dialogue.send(&segment);
    dialogue.receive(usize::MAX);
    assert_eq!(dialogue.connection.engine.opened(), 2);
    assert_eq!(dialogue.unread.len(), segment.len() / 3);
    dialogue.connection.engine.resume();
    dialogue.connection.wake();
    assert_eq!(dialogue.replies(), [1, 2, 3].map(Reply::done));
}

#[test]
fn closes_when_the_xid_of_a_waiting_query_is_used_again() {
    let mut dialogue = Dialogue::new();
    for xid in [1, 2] {
        dialogue.send(&Query::waiting(xid).frame());
    }
    dialogue.receive(usize::MAX);
    dialogue.query(1, 0, 8);
    let end = End::XidInUse(1);
    assert_eq!(dialogue.replies(), [terminated(2, &end)]);
    assert!(dialogue.connection.is_finished());
}

#[test]
fn a_waiting_query_for_the_idle_time_is_aborted() {
    let mut dialogue = Dialogue::new();
    dialogue.send(&Query::waiting(1).frame());
    dialogue.receive(usize::MAX);
    // A wake-up without progress does not extend the time.
    dialogue.wait(IDLE_TIME / 2);
    dialogue.connection.wake();
    dialogue.receive(usize::MAX);
    dialogue.wait(IDLE_TIME / 2 - MOMENT);
    assert_eq!(dialogue.connection.end(), None);
    dialogue.wait(MOMENT);
    assert_eq!(dialogue.replies(), [terminated(1, &End::QueriesIdle)]);
    assert!(dialogue.connection.is_finished());
}

#[test]
fn replies_to_other_queries_extend_the_time_of_a_waiting_query() {
    let mut dialogue = Dialogue::new();
    dialogue.send(&Query::waiting(1).frame());
    dialogue.query(2, 100_000, 300);
    for _ in 0..3 {
        dialogue.receive(1_000);
        dialogue.wait(IDLE_TIME - MOMENT);
    }
    assert_eq!(dialogue.connection.end(), None);
    assert!(dialogue.replies().contains(&Reply::done(2)));
    dialogue.wait(IDLE_TIME);
    assert_eq!(dialogue.connection.end(), Some(&End::QueriesIdle));
}

#[test]
fn a_blocked_requester_is_dropped_with_its_waiting_queries() {
    let mut dialogue = Dialogue::new();
    dialogue.send(&Query::waiting(1).frame());
    dialogue.query(2, 1, 300);
    dialogue.receive(1);
    dialogue.wait(IDLE_TIME);
    assert_eq!(dialogue.connection.end(), Some(&End::Blocked));
    assert!(dialogue.connection.is_finished());
}

#[test]
fn terminates_a_waiting_query() {
    let mut dialogue = Dialogue::new();
    dialogue.send(&Query::waiting(1).frame());
    dialogue.receive(usize::MAX);
    dialogue.connection.input_closed(dialogue.now);
    assert!(!dialogue.connection.is_finished(), "it is still answered");
    dialogue.connection.terminate("unloaded", dialogue.now);
    let end = End::Terminated("unloaded".to_owned());
    assert_eq!(dialogue.replies(), [terminated(1, &end)]);
    assert!(dialogue.connection.is_finished());
}

//------------ Ends (RFC 6926 section 8.5) -----------------------------------------------------

#[test]
fn finishes_the_answers_of_a_half_closed_connection() {
    let mut dialogue = Dialogue::new();
    dialogue.query(1, 1_000, 300);
    dialogue.query(2, 0, 8);
    dialogue.connection.input_closed(dialogue.now);
    assert!(!dialogue.connection.wants_input());
    assert!(!dialogue.connection.is_finished());
    let replies = dialogue.replies();
    assert_eq!(replies.len(), 1_002);
    assert_eq!(replies.last(), Some(&Reply::done(1)));
    assert!(dialogue.connection.is_finished());
    assert_eq!(dialogue.connection.end(), Some(&End::PeerClosed));
}

#[test]
fn closes_when_the_requester_does() {
    let mut dialogue = Dialogue::new();
    dialogue.send(&[0]);
    dialogue.connection.input_closed(dialogue.now);
    assert!(dialogue.connection.is_finished());
}

#[test]
fn signals_every_aborted_query_by_query_terminated() {
    let mut dialogue = Dialogue::new();
    for xid in 1..=3 {
        dialogue.query(xid, 100_000, 300);
    }
    dialogue.receive(1_000);
    dialogue.connection.terminate("reconfigured", dialogue.now);
    assert!(!dialogue.connection.wants_input());
    let replies = dialogue.replies();
    let end = End::Terminated("reconfigured".to_owned());
    assert_eq!(end.to_string(), "reconfigured");
    for xid in 1..=3 {
        assert!(replies[replies.len() - 3..].contains(&terminated(xid, &end)));
    }
    assert!(dialogue.connection.is_finished());
}

#[test]
fn terminates_the_answers_of_a_half_closed_connection_too() {
    let mut dialogue = Dialogue::new();
    dialogue.query(1, 100_000, 300);
    dialogue.connection.input_closed(dialogue.now);
    dialogue.connection.terminate("unloaded", dialogue.now);
    let end = End::Terminated("unloaded".to_owned());
    assert_eq!(dialogue.replies(), [terminated(1, &end)]);
    assert!(dialogue.connection.is_finished());
}

//------------ Any sequence of steps ----------------------------------------------------------------

/// A step of a dialogue.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// Arrival of this many octets.
    Arrive(usize),
    /// The requester receives at most this many octets.
    Receive(usize),
    /// Idle queries become active again.
    Resume,
}

/// A query: a number of replies and their size, or an idle one.
fn any_query() -> impl Strategy<Value = (u32, u16)> {
    prop_oneof![
        3 => (0..40u32, 8..400u16),
        1 => (0..1_000u32, Just(0)),
        1 => Just((0, 1)),
    ]
}

/// Any step.
fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (1..40usize).prop_map(Step::Arrive),
        4 => prop_oneof![1..500usize, Just(usize::MAX)].prop_map(Step::Receive),
        1 => Just(Step::Resume),
    ]
}

proptest! {
    /// RFC 6926 section 8.4: no octet of a query that may not be begun is read. Each query that is
    /// read is begun, and ends with one DHCPLEASEQUERYDONE.
    #[test]
    fn reads_only_queries_it_can_begin_and_ends_each_once(
        limit in 1..5usize,
        queries in proptest::collection::vec(any_query(), 1..20),
        steps in proptest::collection::vec(any_step(), 0..80),
    ) {
        let mut dialogue = Dialogue::with_queries(limit);
        let frames: Vec<Vec<u8>> = (0..)
            .zip(&queries)
            .map(|(xid, (replies, size))| Query { xid, replies: *replies, size: *size }.frame())
            .collect();
        let length = frames.concat().len();
        let mut network: VecDeque<u8> = frames.concat().into();
        let check = |dialogue: &Dialogue, network: &VecDeque<u8>| {
            let connection = &dialogue.connection;
            let opened = connection.engine.opened();
            let in_progress = connection.queries.len() + connection.idle.len();
            assert!(in_progress <= limit);
            let read = length - network.len() - dialogue.unread.len();
            let may_be_read = frames.iter().take(opened + limit - in_progress);
            assert!(read <= may_be_read.map(Vec::len).sum());
            let begun: usize = frames[..opened].iter().map(Vec::len).sum();
            assert!(read >= begun);
            opened
        };
        for step in steps {
            match step {
                Step::Arrive(count) => {
                    let count = count.min(network.len());
                    let octets: Vec<u8> = network.drain(..count).collect();
                    dialogue.send(&octets);
                }
                Step::Receive(count) => {
                    dialogue.receive(count);
                }
                Step::Resume => {
                    dialogue.connection.engine.resume();
                    dialogue.connection.wake();
                }
            }
            check(&dialogue, &network);
        }
        dialogue.connection.terminate("reconfigured", dialogue.now);
        let ended: Vec<u32> = dialogue
            .replies()
            .iter()
            .filter_map(|reply| match reply {
                Reply::Done { xid, .. } => Some(*xid),
                Reply::Binding { .. } | Reply::Status { .. } => None,
            })
            .collect();
        let opened = check(&dialogue, &network);
        let each_once: std::collections::BTreeSet<u32> = ended.iter().copied().collect();
        prop_assert_eq!(ended.len(), opened);
        prop_assert_eq!(each_once, (0..opened as u32).collect());
    }
}
