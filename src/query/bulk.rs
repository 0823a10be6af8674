//! The answer to a DHCPBULKLEASEQUERY (RFC 6926 sections 8.2 and 8.3).

use std::net::Ipv4Addr;
use std::ops::ControlFlow;

use proto::StatusCode;
use proto::message::HEADER_LENGTH;

use crate::mirror::{Cursor, Entry, Failure, Unready};
use crate::model::time::Time;
use crate::query::Progress;
use crate::query::filter::Filter;
use crate::query::plan::Plan;
use crate::query::reply::{self, Codes, Replies};
use crate::query::request::{Kind, Query, Refusal, Request};
use crate::query::responder::Responder;
use crate::query::source::Source;
use crate::wire::frame::FrameWriter;
use crate::wire::writer::ReplyHeader;

/// The most bindings visited in one turn: bounds the time that other queries wait for one that returns few
/// of many bindings.
const VISITS_PER_TURN: usize = 4_096;

/// The octets of a reply with no options but its type, and its message-size.
const SHORTEST_REPLY: usize = 2 + HEADER_LENGTH + 3 + 1;

/// The fewest bindings that are taken at once: each time has its cost.
const LEAST_AT_ONCE: usize = 32;

/// To pass so many addresses or entries of an index takes as long as to visit a binding.
const PASSED_PER_VISIT: usize = 8;

/// An answer in progress.
#[derive(Debug)]
pub struct Answer {
    /// The header of its messages.
    header: ReplyHeader,
    /// The server identifier, until the first message has carried it.
    server_identifier: Option<Ipv4Addr>,
    /// The time at which the query began: the base-time of its DHCPLEASEQUERYDONE, if that carries one. A
    /// later query from this time on returns the bindings that changed after the cursor passed them.
    began: Option<Time>,
    /// The codes in the query's parameter request list, if there is one.
    requested: Option<Vec<u8>>,
    /// The rest of the answer.
    rest: Rest,
    /// The messages about addresses that were written.
    bindings: u64,
    /// Whether the DHCPLEASEQUERYDONE was written.
    is_done: bool,
}

/// The messages of an answer that are not sent.
#[derive(Debug)]
enum Rest {
    /// Bindings, and a DHCPLEASEQUERYDONE. The search begins when the mirror is complete.
    Bindings(Query, Option<Box<Search>>),
    /// A DHCPLEASEQUERYDONE with a status.
    Refusal(Refusal),
    /// Nothing: the answer has ended because the mirror failed.
    Failed(Failure),
}

/// A search for the bindings that a query returns.
#[derive(Debug)]
struct Search {
    /// The position.
    cursor: Cursor,
    /// Selects the bindings.
    filter: Filter,
    /// Writes the replies.
    replies: Replies,
}

impl Search {
    /// Begins the search of a query, if the mirror is complete.
    fn begin(
        source: &Source,
        header: &ReplyHeader,
        query: &Query,
        requested: Option<&[u8]>,
    ) -> Result<Search, Unready> {
        let mirror = &source.mirror;
        // The search includes every change that Kea made before. A complete mirror sets no events aside, so
        // that catching up applies all of them.
        mirror.ready()?;
        mirror.catch_up();
        let now = source.now();
        let plan = mirror.read(|table| Plan::choose(table, query, now))?;
        Ok(Search {
            cursor: plan.cursor(query, now),
            filter: Filter::new(query),
            replies: Replies::new(header.clone(), source.reply_options(requested)),
        })
    }

    /// Continues the search. Returns `Continue` if nothing is left, and `Break` once the output has `full` octets or
    /// the turn is over. The mirror is locked while a part of the bindings is taken, not while the replies are
    /// written.
    fn resume(
        &mut self,
        source: &Source,
        server_identifier: &mut Option<Ipv4Addr>,
        bindings: &mut u64,
        out: &mut Vec<u8>,
        full: usize,
    ) -> Result<ControlFlow<()>, Unready> {
        let Search {
            cursor,
            filter,
            replies,
        } = self;
        let now = source.now();
        let mut visits = 0;
        loop {
            // The rest of a part is taken again in the next turn.
            let most = (full.saturating_sub(out.len()) / SHORTEST_REPLY).max(LEAST_AT_ONCE);
            let part = source.mirror.read(|table| cursor.part(table, most))?;
            let Some(part) = part else {
                return Ok(ControlFlow::Continue(()));
            };
            part.fetch();
            visits += 1 + part.passed / PASSED_PER_VISIT;
            let mut responder = Responder::new(&part.view, now, filter, replies, server_identifier);
            let mut entries = cursor.entries(&part);
            while let Some(entry) = entries.next() {
                visits += 1;
                let before = out.len();
                match entry {
                    Entry::Bound(found) => responder.binding(found, out),
                    Entry::Free(run) => {
                        if let Some(last) = responder.free(run, full, out) {
                            let further = last.to_bits() - run.first.to_bits();
                            visits += further as usize;
                            *bindings += u64::from(further);
                            entries.continue_after(last);
                        }
                    }
                }
                *bindings += u64::from(out.len() > before);
                if out.len() >= full || visits >= VISITS_PER_TURN {
                    return Ok(ControlFlow::Break(()));
                }
            }
            if visits >= VISITS_PER_TURN {
                return Ok(ControlFlow::Break(()));
            }
        }
    }
}

impl Answer {
    /// Begins the answer to a request that was read at `now`, by a server of this identifier.
    pub fn open(request: Request, server_identifier: Ipv4Addr, now: Time) -> Answer {
        let Request {
            header,
            requested,
            kind,
        } = request;
        Answer {
            header,
            server_identifier: Some(server_identifier),
            began: reply::carry_base_time(requested.as_deref()).then_some(now),
            requested,
            rest: match kind {
                Kind::Query(query) => Rest::Bindings(query, None),
                Kind::Refused(refusal) => Rest::Refusal(refusal),
            },
            bindings: 0,
            is_done: false,
        }
    }

    /// Returns the status of the DHCPLEASEQUERYDONE other than success, and its cause.
    pub fn status(&self) -> Option<(StatusCode, String)> {
        match &self.rest {
            Rest::Bindings(..) => None,
            Rest::Refusal(refusal) => Some((refusal.status(), refusal.to_string())),
            Rest::Failed(failure) => Some((StatusCode::QUERY_TERMINATED, failure.to_string())),
        }
    }

    /// Describes the query; empty if it was refused.
    pub fn describe(&self) -> String {
        let Rest::Bindings(query, _) = &self.rest else {
            return String::new();
        };
        match &self.requested {
            Some(options) => format!("{query}, options {}", Codes(options)),
            None => query.to_string(),
        }
    }

    /// Returns the transaction id.
    pub fn xid(&self) -> u32 {
        self.header.xid()
    }

    /// Whether the connection ends with this answer.
    pub fn ends_connection(&self) -> bool {
        match &self.rest {
            Rest::Bindings(..) | Rest::Failed(_) => false,
            Rest::Refusal(refusal) => refusal.ends_connection(),
        }
    }

    /// Returns the number of messages about addresses that were written.
    pub fn bindings(&self) -> u64 {
        self.bindings
    }

    /// Returns the number of all messages that were written.
    pub fn messages(&self) -> u64 {
        self.bindings + u64::from(self.is_done)
    }

    /// Appends the next messages: see [`Engine::write`](crate::query::Engine::write).
    ///
    /// # Errors
    /// The mirror is not complete.
    pub fn write(
        &mut self,
        source: &Source,
        out: &mut Vec<u8>,
        room: usize,
    ) -> Result<Progress, Unready> {
        let status = match &mut self.rest {
            Rest::Bindings(query, search) => {
                let requested = self.requested.as_deref();
                let search = match search {
                    Some(search) => search,
                    None => {
                        let begun = Search::begin(source, &self.header, query, requested)?;
                        search.insert(Box::new(begun))
                    }
                };
                let full = out.len().saturating_add(room);
                let identifier = &mut self.server_identifier;
                if search
                    .resume(source, identifier, &mut self.bindings, out, full)?
                    .is_break()
                {
                    return Ok(Progress::More);
                }
                None
            }
            Rest::Refusal(refusal) => Some((refusal.status(), refusal.to_string())),
            // Its DHCPLEASEQUERYDONE was written.
            Rest::Failed(_) => return Ok(Progress::Done),
        };
        let status = status.as_ref().map(|(code, text)| (*code, &**text));
        self.write_done(out, status);
        Ok(Progress::Done)
    }

    /// Ends the answer because the mirror failed.
    pub fn fail(&mut self, failure: Failure, out: &mut Vec<u8>) -> Progress {
        let text = failure.to_string();
        self.write_done(out, Some((StatusCode::QUERY_TERMINATED, &text)));
        self.rest = Rest::Failed(failure);
        Progress::Done
    }

    /// Ends the answer early: see [`Engine::end`](crate::query::Engine::end).
    pub fn end(&mut self, status: StatusCode, reason: &str, out: &mut Vec<u8>) {
        let refusal;
        let status = match &self.rest {
            Rest::Bindings(..) | Rest::Failed(_) => (status, reason),
            // After QueryTerminated the requester would send the query again (RFC 6926 section 7.1).
            Rest::Refusal(why) => {
                refusal = why.to_string();
                (why.status(), &*refusal)
            }
        };
        self.write_done(out, Some(status));
    }

    /// Appends the framed DHCPLEASEQUERYDONE: see [`reply::write_done`].
    fn write_done(&mut self, out: &mut Vec<u8>, status: Option<(StatusCode, &str)>) {
        let frame = FrameWriter::begin(out);
        let identifier = self.server_identifier.take();
        reply::write_done(out, &self.header, identifier, self.began, status);
        frame.finish(out);
        self.is_done = true;
    }
}
