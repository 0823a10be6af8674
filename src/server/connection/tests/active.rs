//! Dialogues with an active query (RFC 7724).

use super::*;
use crate::server::slots::Full;
use crate::server::stream;

impl Dialogue {
    /// Returns a connection with an active query of xid 1 that has begun.
    fn streaming() -> Dialogue {
        let mut dialogue = Dialogue::new();
        dialogue.stream(1);
        dialogue
    }

    /// Sends an active query, for which there is a place.
    fn stream(&mut self, xid: u32) {
        self.send(&Query::active(xid).frame());
        assert!(self.connection.wants_place());
        self.connection.admit();
        assert!(!self.connection.wants_place());
    }

    /// Makes changes, and wakes the stream.
    fn change(&mut self, count: u32) {
        self.connection.engine.change(count);
        self.connection.wake();
    }

    /// Returns the last reply.
    fn last_reply(&mut self) -> Reply {
        self.replies().pop().expect("a reply")
    }
}

/// Returns the status of a stream that ended because another query came.
fn not_alone(xid: u32) -> Reply {
    Reply::status(xid, StatusCode::NOT_ALLOWED, &End::NotAlone.to_string())
}

//------------ Changes -------------------------------------------------------------------------

#[test]
fn sends_the_changes_after_the_query_as_they_come() {
    let mut dialogue = Dialogue::new();
    dialogue.connection.engine.change(2);
    dialogue.stream(7);
    assert_eq!(dialogue.replies(), []);
    let expected = [2, 3, 4].map(|number| Reply::binding(7, number));
    dialogue.change(1);
    assert_eq!(dialogue.replies(), expected[..1]);
    dialogue.change(2);
    assert_eq!(dialogue.replies(), expected);
    assert!(dialogue.connection.has_idle_queries());
}

#[test]
fn nothing_is_sent_before_there_is_a_place() {
    let mut dialogue = Dialogue::new();
    dialogue.send(&Query::active(1).frame());
    dialogue.change(3);
    assert_eq!(dialogue.replies(), []);
    dialogue.connection.admit();
    assert_eq!(dialogue.replies().len(), 3);
}

#[test]
fn a_query_without_a_place_ends_with_query_terminated_and_the_connection() {
    // RFC 7724 section 8.1: the query is rejected, never by TLSConnectionRefused.
    let mut dialogue = Dialogue::new();
    dialogue.send(&Query::active(1).frame());
    dialogue.change(3);
    let full = Full::Active(10);
    dialogue.connection.refuse(full, dialogue.now);
    let status = Reply::status(1, StatusCode::QUERY_TERMINATED, &full.to_string());
    assert!(
        full.to_string()
            .contains("'advanced.max-active-connections'")
    );
    assert_eq!(dialogue.replies(), [status]);
    assert!(dialogue.connection.is_finished());
    let counts = dialogue.connection.peer_log.counts();
    assert_eq!(
        counts
            .queries_terminated
            .load(std::sync::atomic::Ordering::Relaxed),
        1
    );
}

#[test]
fn a_slow_requester_costs_one_chunk_in_memory_of_its_size() {
    let mut dialogue = Dialogue::streaming();
    for _ in 0..100 {
        dialogue.change(1_000);
        dialogue.connection.produce(dialogue.now);
    }
    let connection = &dialogue.connection;
    assert!(connection.output.len() <= stream::OUTPUT);
    assert_eq!(connection.output.capacity(), stream::OUTPUT);
    // Nothing is added until all of it is received.
    let all = connection.output().len();
    dialogue.receive(all - 1);
    dialogue.change(1);
    dialogue.connection.produce(dialogue.now);
    assert_eq!(dialogue.connection.output().len(), 1);
    assert_eq!(dialogue.replies().len(), 100_001);
}

#[test]
fn the_larger_output_of_a_bulk_answer_is_given_back() {
    // The contract: an active query after a finished bulk answer.
    let mut dialogue = Dialogue::new();
    dialogue.query(1, 1_000, 300);
    assert_eq!(dialogue.replies().len(), 1_001);
    assert!(dialogue.connection.output.capacity() > stream::OUTPUT);
    dialogue.stream(1);
    dialogue.change(1);
    assert_eq!(dialogue.last_reply(), Reply::binding(1, 0));
    assert_eq!(dialogue.connection.output.capacity(), stream::OUTPUT);
}

//------------ Alone on its connection (RFC 7724 section 8.3) ----------------------------------

#[test]
fn another_query_ends_the_stream_with_not_allowed_as_the_last_message() {
    let others = [
        Query::search(2, 0).frame(),
        Query::active(2).frame(),
        Query::active(1).frame(),
        Query::broken(2).frame(),
        frame(b"no query"),
        // The first octet shows that there is another message.
        vec![0],
        vec![255, 255],
    ];
    // Also if no further query may be in progress.
    for limit in [1, 16] {
        for other in &others {
            let mut dialogue = Dialogue::with_queries(limit);
            dialogue.stream(1);
            dialogue.change(2);
            dialogue.receive(400);
            assert!(dialogue.connection.wants_input());
            dialogue.send(other);
            assert!(!dialogue.connection.wants_input());
            let replies = dialogue.replies();
            let changes = [0, 1].map(|number| Reply::binding(1, number));
            assert_eq!(replies, [&changes[..], &[not_alone(1)]].concat());
            assert!(dialogue.connection.is_finished());
            assert_eq!(dialogue.connection.engine.opened(), 1);
        }
    }
}

#[test]
fn another_query_in_the_same_segment_ends_the_stream_too() {
    for limit in [2, 16] {
        let mut dialogue = Dialogue::with_queries(limit);
        let segment = [Query::active(1).frame(), Query::search(2, 0).frame()];
        dialogue.send(&segment.concat());
        assert!(!dialogue.connection.wants_place());
        assert_eq!(dialogue.replies(), [not_alone(1)]);
        assert!(dialogue.connection.is_finished());
    }
}

#[test]
fn an_active_query_beside_others_is_not_allowed_and_the_others_are_answered() {
    let mut dialogue = Dialogue::new();
    dialogue.query(1, 1_000, 300);
    dialogue.send(&Query::waiting(2).frame());
    dialogue.receive(1);
    dialogue.send(&Query::active(3).frame());
    assert!(!dialogue.connection.wants_place());
    assert!(!dialogue.connection.wants_input());
    dialogue.change(1);
    dialogue.connection.engine.resume();
    dialogue.connection.wake();
    let replies = dialogue.replies();
    assert_eq!(replies.len(), 1_003);
    for reply in [not_alone(3), Reply::done(1), Reply::done(2)] {
        assert!(replies.contains(&reply), "{reply:?}");
    }
    assert!(dialogue.connection.is_finished());
}

#[test]
fn a_refused_active_query_ends_the_connection() {
    // RFC 7724 section 8.2.
    let mut dialogue = Dialogue::new();
    let segment = [Query::refused(1).frame(), Query::search(2, 0).frame()];
    dialogue.send(&segment.concat());
    assert!(!dialogue.connection.wants_place());
    let status = Reply::status(1, StatusCode::MALFORMED_QUERY, "malformed");
    assert_eq!(dialogue.replies(), [status]);
    assert!(dialogue.connection.is_finished());
    assert_eq!(dialogue.connection.end(), Some(&End::Refused));
    assert_eq!(dialogue.connection.engine.opened(), 1);
}

//------------ Time (RFC 7724 sections 7.4 and 8.2) --------------------------------------------

#[test]
fn a_silent_stream_is_shown_to_be_active_once_in_each_idle_time() {
    let mut dialogue = Dialogue::streaming();
    assert_eq!(dialogue.replies(), []);
    let active = Reply::status(1, StatusCode::CONNECTION_ACTIVE, "");
    for count in 1..=10 {
        dialogue.wait(ACTIVE_IDLE_TIME - MOMENT);
        assert_eq!(dialogue.replies().len(), count - 1);
        dialogue.wait(MOMENT);
        assert_eq!(dialogue.last_reply(), active);
        assert_eq!(dialogue.replies().len(), count);
    }
    // Longer than a connection without an active query may be idle.
    assert_eq!(dialogue.connection.end(), None);
}

#[test]
fn a_stream_with_changes_is_not_shown_to_be_active() {
    let mut dialogue = Dialogue::streaming();
    for count in 1..=10 {
        dialogue.wait(ACTIVE_IDLE_TIME - MOMENT);
        dialogue.change(1);
        let replies = dialogue.replies();
        assert_eq!(replies.len(), count);
        assert!(matches!(replies.last(), Some(Reply::Binding { .. })));
    }
    let deadline = dialogue.now + ACTIVE_IDLE_TIME;
    assert_eq!(dialogue.connection.deadline(), Some(deadline));
}

#[test]
fn a_requester_that_reads_nothing_for_the_send_time_is_dropped() {
    // RFC 7724 section 8.2.
    let mut dialogue = Dialogue::streaming();
    dialogue.change(1_000);
    dialogue.receive(1);
    dialogue.wait(ACTIVE_SEND_TIME - MOMENT);
    assert_eq!(dialogue.connection.end(), None);
    // Any octet that it reads counts.
    dialogue.receive(1);
    dialogue.wait(ACTIVE_SEND_TIME - MOMENT);
    // New changes do not.
    dialogue.change(1);
    dialogue.connection.produce(dialogue.now);
    assert_eq!(dialogue.connection.end(), None);
    dialogue.wait(MOMENT);
    assert_eq!(dialogue.connection.end(), Some(&End::StreamBlocked));
    assert!(dialogue.connection.is_finished());
    assert!(dialogue.connection.output().is_empty());
}

#[test]
fn octets_that_the_stream_holds_are_not_sent() {
    // RFC 7724 section 8.2.
    let mut dialogue = Dialogue::streaming();
    dialogue.wait(ACTIVE_IDLE_TIME - MOMENT);
    // TLS may also send what is in no message.
    assert!(!dialogue.connection.set_unsent(10, dialogue.now));
    let mut deadline = dialogue.now + ACTIVE_SEND_TIME;
    assert_eq!(dialogue.connection.deadline(), Some(deadline));
    // Neither the time nor new changes extend it, but each octet sent does.
    dialogue.wait(ACTIVE_SEND_TIME / 2);
    assert!(!dialogue.connection.set_unsent(10, dialogue.now));
    dialogue.change(1);
    dialogue.connection.produce(dialogue.now);
    assert_eq!(dialogue.connection.deadline(), Some(deadline));
    assert!(dialogue.connection.set_unsent(9, dialogue.now));
    deadline = dialogue.now + ACTIVE_SEND_TIME;
    assert_eq!(dialogue.connection.deadline(), Some(deadline));
    assert_eq!(dialogue.replies().len(), 1);
    dialogue.wait(ACTIVE_SEND_TIME);
    assert_eq!(dialogue.connection.end(), Some(&End::StreamBlocked));
    assert!(dialogue.connection.is_finished());
}

#[test]
fn a_requester_that_reads_after_a_while_receives_everything() {
    let mut dialogue = Dialogue::streaming();
    dialogue.change(1_000);
    for _ in 0..5 {
        dialogue.receive(1_000);
        dialogue.wait(ACTIVE_SEND_TIME - MOMENT);
    }
    assert_eq!(dialogue.replies().len(), 1_000);
    let deadline = dialogue.now + ACTIVE_IDLE_TIME;
    assert_eq!(dialogue.connection.deadline(), Some(deadline));
}

//------------ Ends (RFC 7724 section 8.4) -----------------------------------------------------

#[test]
fn the_requesters_close_ends_the_stream_at_once() {
    // RFC 7724 section 8.4: MUST close. RFC 6926 has it finish the answers.
    for is_blocked in [false, true] {
        let mut dialogue = Dialogue::streaming();
        if is_blocked {
            dialogue.change(1_000);
            dialogue.receive(1);
        }
        dialogue.connection.input_closed(dialogue.now);
        assert!(dialogue.connection.is_finished());
        assert!(dialogue.connection.output().is_empty());
        assert_eq!(dialogue.connection.end(), Some(&End::PeerClosed));
    }
}

#[test]
fn the_end_of_the_server_is_query_terminated_as_the_last_message() {
    for is_blocked in [false, true] {
        let mut dialogue = Dialogue::streaming();
        if is_blocked {
            dialogue.change(1_000);
            dialogue.receive(1);
        }
        dialogue.connection.terminate("reconfigured", dialogue.now);
        dialogue.change(1);
        assert!(!dialogue.connection.wants_input());
        let status = Reply::status(1, StatusCode::QUERY_TERMINATED, "reconfigured");
        assert_eq!(dialogue.last_reply(), status);
        assert!(dialogue.connection.is_finished());
    }
}

#[test]
fn a_failure_of_the_engine_ends_the_stream_and_the_connection() {
    let mut dialogue = Dialogue::streaming();
    dialogue.change(1);
    assert_eq!(dialogue.replies().len(), 1);
    dialogue.connection.engine.fail();
    dialogue.connection.wake();
    let status = Reply::status(1, StatusCode::QUERY_TERMINATED, "failed");
    assert_eq!(dialogue.last_reply(), status);
    assert!(dialogue.connection.is_finished());
    assert!(!dialogue.connection.wants_input());
    let end = End::Failed("failed".to_owned());
    assert_eq!(dialogue.connection.end(), Some(&end));
}

#[test]
fn messages_are_counted_when_all_of_them_are_sent() {
    let mut dialogue = Dialogue::streaming();
    dialogue.change(5);
    assert_eq!(dialogue.replies().len(), 5);
    dialogue.wait(ACTIVE_IDLE_TIME);
    assert_eq!(dialogue.replies().len(), 6);
    dialogue.connection.terminate("reconfigured", dialogue.now);
    assert_eq!(dialogue.replies().len(), 7);
    let sent = &dialogue.connection.peer_log.counts().messages_sent;
    assert_eq!(sent.load(std::sync::atomic::Ordering::Relaxed), 7);
}
