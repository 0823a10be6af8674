//! An engine without leases: a query has the number of its replies, and their size.
//!
//! Its messages are not DHCP, since the server does not interpret them:
//!
//! ```text
//! query    xid (4 octets), replies (4), octets of each reply (2)
//! reply    xid (4), its number from 0 (4), zeros
//! done     xid (4), DONE (4), the text of its status or nothing
//! status   xid (4), STATUS (4), the status code (1), its text
//! ```
#![allow(dead_code, reason = "not every test uses all items")]

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use proto::StatusCode;
use tokio::sync::watch;

use dhcp_blq::query::{Engine, Progress, Requester};

/// The reply number that ends a query.
const DONE: u32 = u32::MAX;

/// The reply number of a status of a stream.
const STATUS: u32 = u32::MAX - 1;

/// The size of replies that marks a malformed query, which has none.
const BROKEN: u16 = 3;

/// The size of replies that marks an active query.
const ACTIVE: u16 = 4;

/// The size of replies that marks a refused active query.
const REFUSED: u16 = 5;

/// The size of the replies of a stream.
const CHANGE: u16 = 300;

/// A query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Query {
    /// The transaction id.
    pub xid: u32,
    /// Number of replies, or of calls that a search takes.
    pub replies: u32,
    /// At least 8: the size of each reply, in octets. 0: a search that finds nothing. 1: no replies,
    /// and the answer waits for [`FakeEngine::resume`]. 2: the answer panics. 3: [`BROKEN`]. 4: [`ACTIVE`], with a
    /// reply for each change. 5: [`REFUSED`].
    pub size: u16,
}

impl Query {
    /// Returns a query whose search takes a number of calls and finds nothing.
    pub fn search(xid: u32, turns: u32) -> Query {
        Query {
            xid,
            replies: turns,
            size: 0,
        }
    }

    /// Returns a query whose search outlasts any test.
    pub fn endless_search(xid: u32) -> Query {
        Query::search(xid, u32::MAX)
    }

    /// Returns a malformed query that is answered.
    pub fn broken(xid: u32) -> Query {
        Query {
            xid,
            replies: 0,
            size: BROKEN,
        }
    }

    /// Returns a query whose answer waits for [`FakeEngine::resume`], and is empty then.
    pub fn waiting(xid: u32) -> Query {
        Query {
            xid,
            replies: 0,
            size: 1,
        }
    }

    /// Returns a query whose answer panics.
    pub fn panicking(xid: u32) -> Query {
        Query {
            xid,
            replies: 0,
            size: 2,
        }
    }

    /// Returns an active query, whose answer has a reply for each [`FakeEngine::change`] after it.
    pub fn active(xid: u32) -> Query {
        Query {
            xid,
            replies: 0,
            size: ACTIVE,
        }
    }

    /// Returns an active query that is refused as malformed.
    pub fn refused(xid: u32) -> Query {
        Query {
            xid,
            replies: 0,
            size: REFUSED,
        }
    }

    /// Returns the query with its message-size.
    pub fn frame(self) -> Vec<u8> {
        let mut message = self.xid.to_be_bytes().to_vec();
        message.extend(self.replies.to_be_bytes());
        message.extend(self.size.to_be_bytes());
        frame(&message)
    }

    /// Decodes a message.
    fn read(message: &[u8]) -> Option<Query> {
        let (xid, rest) = message.split_first_chunk()?;
        let (replies, rest) = rest.split_first_chunk()?;
        Some(Query {
            xid: u32::from_be_bytes(*xid),
            replies: u32::from_be_bytes(*replies),
            size: u16::from_be_bytes(rest.try_into().ok()?),
        })
    }
}

/// Returns a message with its message-size.
pub fn frame(message: &[u8]) -> Vec<u8> {
    let mut frame = u16::try_from(message.len()).unwrap().to_be_bytes().to_vec();
    frame.extend(message);
    frame
}

/// A message of the server, as a requester decodes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Reply `number` to query `xid`.
    Binding { xid: u32, number: u32 },
    /// The end of a query, with the text of its status.
    Done { xid: u32, status: String },
    /// A status of a stream.
    Status { xid: u32, code: u8, text: String },
}

impl Reply {
    /// Returns a binding.
    pub fn binding(xid: u32, number: u32) -> Reply {
        Reply::Binding { xid, number }
    }

    /// Returns the end of a successful query.
    pub fn done(xid: u32) -> Reply {
        Reply::Done {
            xid,
            status: String::new(),
        }
    }

    /// Returns the status of a stream.
    pub fn status(xid: u32, code: StatusCode, text: &str) -> Reply {
        Reply::Status {
            xid,
            code: code.0,
            text: text.to_owned(),
        }
    }

    /// Decodes a message.
    pub fn read(message: &[u8]) -> Reply {
        let (xid, rest) = message.split_first_chunk().expect("a reply has a xid");
        let (number, rest) = rest.split_first_chunk().expect("a reply has a number");
        let (xid, number) = (u32::from_be_bytes(*xid), u32::from_be_bytes(*number));
        if number == STATUS {
            return Reply::Status {
                xid,
                code: rest[0],
                text: String::from_utf8(rest[1..].to_vec()).unwrap(),
            };
        }
        if number == DONE {
            return Reply::Done {
                xid,
                status: String::from_utf8(rest.to_vec()).unwrap(),
            };
        }
        assert!(rest.iter().all(|octet| *octet == 0), "no stream corruption");
        Reply::Binding { xid, number }
    }

    /// Decodes the replies in a stream. Returns them, and the rest of an incomplete reply.
    pub fn read_all(mut stream: &[u8]) -> (Vec<Reply>, &[u8]) {
        let mut replies = Vec::new();
        while let Some((size, rest)) = stream.split_first_chunk() {
            let Some((message, rest)) = rest.split_at_checked(u16::from_be_bytes(*size).into())
            else {
                break;
            };
            replies.push(Reply::read(message));
            stream = rest;
        }
        (replies, stream)
    }
}

/// The engine.
#[derive(Debug, Default)]
pub struct FakeEngine {
    /// Number of messages received.
    opened: AtomicUsize,
    /// The requesters of these messages.
    requesters: Mutex<Vec<Requester>>,
    /// Whether waiting answers may continue.
    resumed: watch::Sender<bool>,
    /// The number of changes, which streams have.
    changes: watch::Sender<u32>,
    /// Whether streams end because the engine failed.
    has_failed: AtomicBool,
    /// The number of calls of [`Engine::write`].
    writes: AtomicUsize,
}

impl FakeEngine {
    /// Makes waiting answers continue.
    pub fn resume(&self) {
        self.resumed.send_replace(true);
    }

    /// Adds changes, which streams have as replies.
    pub fn change(&self, count: u32) {
        self.changes.send_modify(|changes| *changes += count);
    }

    /// Ends all streams, as a failure does.
    pub fn fail(&self) {
        self.has_failed.store(true, Ordering::SeqCst);
        self.change(0);
    }

    /// Returns the number of turns of all answers.
    pub fn writes(&self) -> usize {
        self.writes.load(Ordering::SeqCst)
    }

    /// Returns the number of messages received.
    pub fn opened(&self) -> usize {
        self.opened.load(Ordering::SeqCst)
    }

    /// Returns the requesters of the messages received.
    pub fn requesters(&self) -> Vec<Requester> {
        self.requesters.lock().unwrap().clone()
    }
}

/// An answer in progress.
#[derive(Debug)]
pub struct Answer {
    /// The query.
    query: Query,
    /// The number of the next reply.
    next: u32,
    /// The number of changes when it began.
    begun_at: u32,
    /// The statuses written, with that of its end.
    statuses: u32,
}

impl Engine for FakeEngine {
    type Answer = Answer;
    type Unanswerable = &'static str;

    const SHORTEST_MESSAGE: usize = 10;

    fn open(&self, message: &[u8], requester: &Requester) -> Result<Answer, &'static str> {
        self.opened.fetch_add(1, Ordering::SeqCst);
        self.requesters.lock().unwrap().push(*requester);
        let query = Query::read(message).ok_or("this is no query")?;
        Ok(Answer {
            query,
            next: match query.size {
                ACTIVE => *self.changes.borrow(),
                _ => 0,
            },
            begun_at: *self.changes.borrow(),
            statuses: 0,
        })
    }

    fn xid(&self, answer: &Answer) -> u32 {
        answer.query.xid
    }

    fn ends_connection(&self, answer: &Answer) -> bool {
        matches!(answer.query.size, BROKEN | REFUSED)
    }

    fn is_stream(&self, answer: &Answer) -> bool {
        answer.query.size == ACTIVE
    }

    fn status(&self, answer: &Answer) -> Option<(StatusCode, String)> {
        let has_failed = self.has_failed.load(Ordering::SeqCst);
        match answer.query.size {
            REFUSED => Some((StatusCode::MALFORMED_QUERY, "malformed".to_owned())),
            ACTIVE if has_failed => Some((StatusCode::QUERY_TERMINATED, "failed".to_owned())),
            _ => None,
        }
    }

    fn write(&self, answer: &mut Answer, out: &mut Vec<u8>, room: usize) -> Progress {
        self.writes.fetch_add(1, Ordering::SeqCst);
        if answer.query.size == 0 && answer.next < answer.query.replies {
            answer.next += 1;
            return Progress::More;
        }
        assert!(answer.query.size != 2, "an answer that panics");
        if answer.query.size == 1 && !*self.resumed.borrow() {
            return Progress::Idle;
        }
        if let Some((code, text)) = self.status(answer) {
            status(answer, code, &text, out);
            return Progress::Done;
        }
        let (last, size) = match answer.query.size {
            ACTIVE => (*self.changes.borrow(), CHANGE),
            size => (answer.query.replies, size),
        };
        let end = out.len() + room;
        while answer.next < last {
            if out.len() >= end {
                return Progress::More;
            }
            let start = out.len();
            out.extend(size.to_be_bytes());
            out.extend(answer.query.xid.to_be_bytes());
            out.extend(answer.next.to_be_bytes());
            out.resize(start + 2 + usize::from(size), 0);
            answer.next += 1;
        }
        if answer.query.size == ACTIVE {
            return Progress::Idle;
        }
        done(answer, "", out);
        Progress::Done
    }

    fn keep_alive(&self, answer: &mut Answer, out: &mut Vec<u8>) {
        status(answer, StatusCode::CONNECTION_ACTIVE, "", out);
    }

    fn wake_up(&self, is_stream: bool) -> impl Future<Output = ()> + Send + 'static {
        let mut resumed = self.resumed.subscribe();
        let mut changes = self.changes.subscribe();
        async move {
            let _ = match is_stream {
                true => changes.changed().await,
                false => resumed.changed().await,
            };
        }
    }

    fn messages(&self, answer: &Answer) -> u64 {
        self.bindings(answer) + u64::from(answer.statuses)
    }

    fn bindings(&self, answer: &Answer) -> u64 {
        match answer.query.size {
            0 => 0,
            ACTIVE => u64::from(answer.next - answer.begun_at),
            _ => u64::from(answer.next),
        }
    }

    fn end(&self, answer: &mut Answer, code: StatusCode, reason: &str, out: &mut Vec<u8>) {
        match (answer.query.size, self.status(answer)) {
            (_, Some((code, text))) => status(answer, code, &text, out),
            (ACTIVE, None) => status(answer, code, reason, out),
            _ => done(answer, reason, out),
        }
    }
}

/// Writes the end of an answer.
fn done(answer: &mut Answer, status: &str, out: &mut Vec<u8>) {
    let mut message = answer.query.xid.to_be_bytes().to_vec();
    message.extend(DONE.to_be_bytes());
    message.extend(status.as_bytes());
    out.extend(frame(&message));
    answer.statuses += 1;
}

/// Writes a status of a stream.
fn status(answer: &mut Answer, code: StatusCode, text: &str, out: &mut Vec<u8>) {
    let mut message = answer.query.xid.to_be_bytes().to_vec();
    message.extend(STATUS.to_be_bytes());
    message.push(code.0);
    message.extend(text.as_bytes());
    out.extend(frame(&message));
    answer.statuses += 1;
}
