//! An engine without leases: a query has the number of its replies, and their size.
//!
//! Its messages are not DHCP, since the server does not interpret them:
//!
//! ```text
//! query    xid (4 octets), replies (4), octets of each reply (2)
//! reply    xid (4), its number from 0 (4), zeros
//! done     xid (4), DONE (4), the text of QueryTerminated or nothing
//! ```
#![allow(dead_code, reason = "not every test uses all items")]

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::watch;

use dhcp_blq::query::{Engine, Progress, Requester};

/// The reply number that ends a query.
const DONE: u32 = u32::MAX;

/// The size of replies that marks a malformed query, which has none.
const BROKEN: u16 = 3;

/// A query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Query {
    /// The transaction id.
    pub xid: u32,
    /// Number of replies, or of calls that a search takes.
    pub replies: u32,
    /// At least 8: the size of each reply, in octets. 0: a search that finds nothing. 1: no replies,
    /// and the answer waits for [`FakeEngine::resume`]. 2: the answer panics. 3: [`BROKEN`].
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

    /// Decodes a message.
    pub fn read(message: &[u8]) -> Reply {
        let (xid, rest) = message.split_first_chunk().expect("a reply has a xid");
        let (number, rest) = rest.split_first_chunk().expect("a reply has a number");
        let (xid, number) = (u32::from_be_bytes(*xid), u32::from_be_bytes(*number));
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
}

impl FakeEngine {
    /// Makes waiting answers continue.
    pub fn resume(&self) {
        self.resumed.send_replace(true);
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
    /// Whether its end was written.
    is_done: bool,
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
            next: 0,
            is_done: false,
        })
    }

    fn xid(&self, answer: &Answer) -> u32 {
        answer.query.xid
    }

    fn ends_connection(&self, answer: &Answer) -> bool {
        answer.query.size == BROKEN
    }

    fn write(&self, answer: &mut Answer, out: &mut Vec<u8>, room: usize) -> Progress {
        if answer.query.size == 0 && answer.next < answer.query.replies {
            answer.next += 1;
            return Progress::More;
        }
        assert!(answer.query.size != 2, "an answer that panics");
        if answer.query.size == 1 && !*self.resumed.borrow() {
            return Progress::Idle;
        }
        let end = out.len() + room;
        while answer.next < answer.query.replies {
            if out.len() >= end {
                return Progress::More;
            }
            let start = out.len();
            out.extend(answer.query.size.to_be_bytes());
            out.extend(answer.query.xid.to_be_bytes());
            out.extend(answer.next.to_be_bytes());
            out.resize(start + 2 + usize::from(answer.query.size), 0);
            answer.next += 1;
        }
        done(answer, "", out);
        answer.is_done = true;
        Progress::Done
    }

    fn wake_up(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut resumed = self.resumed.subscribe();
        async move {
            let _ = resumed.changed().await;
        }
    }

    fn messages(&self, answer: &Answer) -> u64 {
        let is_search = answer.query.size == 0;
        let replies = if is_search { 0 } else { answer.next };
        u64::from(replies) + u64::from(answer.is_done)
    }

    fn terminate(&self, answer: &mut Answer, reason: &str, out: &mut Vec<u8>) {
        done(answer, reason, out);
        answer.is_done = true;
    }
}

/// Writes the end of an answer.
fn done(answer: &Answer, status: &str, out: &mut Vec<u8>) {
    let mut message = answer.query.xid.to_be_bytes().to_vec();
    message.extend(DONE.to_be_bytes());
    message.extend(status.as_bytes());
    out.extend(frame(&message));
}
