//! The answer to a DHCPACTIVELEASEQUERY: a stream of the changes that the requester may see (RFC 7724 sections 7.4
//! and 8.2).
//!
//! The stream follows the mirror: it holds no changes, so that its memory is constant however slowly the requester
//! reads. An address that changes several times before a message about it is written is sent once, in its last
//! state (section 6).

use std::net::Ipv4Addr;

use proto::StatusCode;

use crate::mirror::follower::{Entry, Follower, Part, Step};
use crate::mirror::{Failure, Unready};
use crate::model::time::Time;
use crate::model::vpn::VpnSelector;
use crate::query::Progress;
use crate::query::active::permission::Permission;
use crate::query::active::request::Query;
use crate::query::active::status::{self, Status};
use crate::query::reply::{Codes, Projection, Projector, Replies};
use crate::query::request::Refusal;
use crate::query::responder;
use crate::query::source::Source;
use crate::wire::frame::FrameWriter;
use crate::wire::writer::ReplyHeader;

/// The most bindings and entries of indexes visited in one turn: bounds the time that other connections wait.
const VISITS_PER_TURN: usize = 4_096;

/// The longest message. With its message-size it fits one record of TLS (RFC 7724 section 5.1, RFC 8446 section 5.1).
const LONGEST_MESSAGE: usize = 16 * 1024 - 2;

/// The most templates of replies: bounds the memory of a requester.
const TEMPLATES: usize = 4;

/// The text of DataMissing.
const MISSING: &str = "changes before the base-time may be missing";

/// The beginning of an answer, by the query and the server.
#[derive(Clone, Debug)]
pub struct Opening {
    /// The header of all messages.
    pub header: ReplyHeader,
    /// The codes in the query's parameter request list, if there is one.
    pub requested: Option<Vec<u8>>,
    /// The server identifier.
    pub server_identifier: Ipv4Addr,
    /// The time at which the query was read.
    pub began: Time,
}

/// An answer in progress.
#[derive(Debug)]
pub struct Answer {
    /// The header of its messages.
    header: ReplyHeader,
    /// The codes in the query's parameter request list, if there is one, each once: a list may have as many octets as
    /// its message.
    requested: Option<Vec<u8>>,
    /// The server identifier, until the first message has carried it.
    server_identifier: Option<Ipv4Addr>,
    /// The base-time of the latest message, or the time at which the query was read: not later than any change that
    /// was not sent, except in a catch-up.
    base_time: Time,
    /// The messages that are not sent.
    rest: Rest,
    /// The messages about addresses that were written.
    bindings: u64,
    /// The statuses that were written.
    statuses: u64,
}

/// The messages of an answer that are not sent.
#[derive(Debug)]
enum Rest {
    /// Changes, once the mirror is complete; whether it was not when the query came.
    Waiting(Query, Permission, bool),
    /// Changes.
    Changes(Query, Box<Stream>),
    /// The status of a refused query.
    Refusal(Refusal),
    /// Nothing: the answer has ended because the mirror failed.
    Failed(Failure),
}

/// A stream that has begun.
#[derive(Debug)]
struct Stream {
    /// The position in the changes.
    follower: Follower,
    /// Writes the replies.
    replies: Replies,
}

impl Answer {
    /// Begins the answer to a query.
    pub fn open(query: Result<Query, Refusal>, opening: Opening, permission: Permission) -> Answer {
        Answer {
            header: opening.header,
            requested: opening.requested.as_deref().map(each_once),
            server_identifier: Some(opening.server_identifier),
            base_time: opening.began,
            rest: match query {
                Ok(query) => Rest::Waiting(query, permission, false),
                Err(refusal) => Rest::Refusal(refusal),
            },
            bindings: 0,
            statuses: 0,
        }
    }

    /// Whether the query was not refused: its answer is a stream.
    pub fn is_stream(&self) -> bool {
        !matches!(self.rest, Rest::Refusal(_))
    }

    /// Returns the status with which the answer ended or will end, and its cause; `None` for a stream.
    pub fn status(&self) -> Option<(StatusCode, String)> {
        match &self.rest {
            Rest::Waiting(..) | Rest::Changes(..) => None,
            Rest::Refusal(refusal) => Some((refusal.status(), refusal.to_string())),
            Rest::Failed(failure) => Some((StatusCode::QUERY_TERMINATED, failure.to_string())),
        }
    }

    /// Describes the query; empty if it was refused.
    pub fn describe(&self) -> String {
        let (Rest::Waiting(query, ..) | Rest::Changes(query, _)) = &self.rest else {
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

    /// Returns the number of messages about addresses that were written.
    pub fn bindings(&self) -> u64 {
        self.bindings
    }

    /// Returns the number of all messages that were written.
    pub fn messages(&self) -> u64 {
        self.bindings + self.statuses
    }

    //--- Messages

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
        let full = out.len().saturating_add(room);
        self.begin(source)?;
        match &self.rest {
            Rest::Waiting(..) | Rest::Changes(..) => {}
            Rest::Refusal(refusal) => {
                let (code, text) = (refusal.status(), refusal.to_string());
                self.write_status(code, &text, out);
                return Ok(Progress::Done);
            }
            // Its status was written.
            Rest::Failed(_) => return Ok(Progress::Done),
        }
        let mut visits = 0;
        while out.len() < full && visits < VISITS_PER_TURN {
            let Rest::Changes(query, stream) = &mut self.rest else {
                break;
            };
            match stream.follower.part(&source.mirror, source.now())? {
                Step::Changes(part) => {
                    visits += 1 + part.visits;
                    let mut writer = ChangeWriter {
                        vpn: &query.vpn,
                        replies: &mut stream.replies,
                        server_identifier: &mut self.server_identifier,
                        base_time: &mut self.base_time,
                        full,
                    };
                    let (written, seen) = writer.write(&mut stream.follower, &part, out);
                    self.bindings += written;
                    visits += seen;
                }
                Step::CatchUpComplete { base } => {
                    self.base_time = base;
                    self.write_status(StatusCode::CATCH_UP_COMPLETE, "", out);
                }
                Step::DataMissing { base } => {
                    self.base_time = base;
                    self.write_status(StatusCode::DATA_MISSING, MISSING, out);
                }
                Step::Nothing { base } => {
                    self.base_time = base;
                    return Ok(Progress::Idle);
                }
            }
        }
        Ok(Progress::More)
    }

    /// Begins the stream, if it has not begun and the mirror is complete.
    fn begin(&mut self, source: &Source) -> Result<(), Unready> {
        let Rest::Waiting(query, permission, has_waited) = &mut self.rest else {
            return Ok(());
        };
        let mirror = &source.mirror;
        let ready = mirror.ready();
        *has_waited |= ready.is_err();
        ready?;
        // The catch-up includes every change that Kea made before.
        mirror.catch_up();
        let now = source.now();
        let vpn = query.vpn.clone();
        let follower = match query.start {
            // The changes during the initial load belong to the stream, too.
            None if *has_waited => mirror.follow_since(self.base_time, vpn, now)?,
            start => mirror.follow(start, vpn, permission.earliest(now), now)?,
        };
        let options = source.reply_options(self.requested.as_deref());
        let options = options.with_base_time();
        let replies = Replies::new(self.header.clone(), options);
        let stream = Stream {
            follower,
            replies: replies.limited(TEMPLATES, LONGEST_MESSAGE),
        };
        self.rest = Rest::Changes(query.clone(), Box::new(stream));
        Ok(())
    }

    /// Appends a DHCPLEASEQUERYSTATUS with ConnectionActive.
    pub fn keep_alive(&mut self, source: &Source, out: &mut Vec<u8>) {
        self.update_base_time(source);
        self.write_status(StatusCode::CONNECTION_ACTIVE, "", out);
    }

    /// Ends the answer because the mirror failed.
    pub fn fail(&mut self, failure: Failure, out: &mut Vec<u8>) -> Progress {
        let text = failure.to_string();
        self.write_status(StatusCode::QUERY_TERMINATED, &text, out);
        self.rest = Rest::Failed(failure);
        Progress::Done
    }

    /// Ends the answer early: see [`Engine::end`](crate::query::Engine::end).
    pub fn end(&mut self, source: &Source, status: StatusCode, reason: &str, out: &mut Vec<u8>) {
        self.update_base_time(source);
        match &self.rest {
            // After QueryTerminated the requester would send the query again.
            Rest::Refusal(refusal) => {
                let (code, text) = (refusal.status(), refusal.to_string());
                self.write_status(code, &text, out);
            }
            _ => self.write_status(status, reason, out),
        }
    }

    /// Sets the base-time of the next status. It stays as it is while the mirror is not complete.
    fn update_base_time(&mut self, source: &Source) {
        if let Rest::Changes(_, stream) = &self.rest {
            let safe_time = stream.follower.safe_time(&source.mirror, source.now());
            self.base_time = safe_time.unwrap_or(self.base_time);
        }
    }

    /// Appends a DHCPLEASEQUERYSTATUS.
    fn write_status(&mut self, code: StatusCode, text: &str, out: &mut Vec<u8>) {
        let status = Status {
            code,
            text,
            base_time: self.base_time,
        };
        status::write(out, &self.header, self.server_identifier.take(), &status);
        self.statuses += 1;
    }
}

/// Returns the different octets of a list, in its order.
fn each_once(list: &[u8]) -> Vec<u8> {
    let mut once = Vec::new();
    for octet in list {
        if !once.contains(octet) {
            once.push(*octet);
        }
    }
    once
}

/// Writes messages about changes.
struct ChangeWriter<'a> {
    /// The VPNs in the query.
    vpn: &'a VpnSelector,
    /// Writes the replies.
    replies: &'a mut Replies,
    /// The server identifier, until a message has carried it.
    server_identifier: &'a mut Option<Ipv4Addr>,
    /// The base-time of the latest message.
    base_time: &'a mut Time,
    /// The number of octets from which the output is full.
    full: usize,
}

impl ChangeWriter<'_> {
    /// Appends the messages about the changes of a part, until the output is full. Returns the numbers of messages and
    /// of entries.
    fn write(&mut self, follower: &mut Follower, part: &Part, out: &mut Vec<u8>) -> (u64, usize) {
        let mut written = 0;
        let mut seen = 0;
        let mut projector = Projector::new(&part.view, *self.base_time);
        let mut entries = follower.entries(part);
        while out.len() < self.full {
            let Some(entry) = entries.next() else {
                break;
            };
            seen += 1;
            match entry {
                Entry::Bound(found, base) => {
                    projector.set_now(base);
                    let projection = projector.binding(found.binding());
                    // The follower selects by VPN. A fault there must not disclose a binding.
                    let is_selected = |of: &Projection<'_>| self.vpn.selects(of.vpn);
                    if let Some(projection) = projection.filter(is_selected) {
                        *self.base_time = base;
                        self.reply(&projection, out);
                        written += 1;
                    }
                }
                Entry::Left(address, vpn, base) => {
                    if self.vpn.selects(vpn) {
                        projector.set_now(base);
                        *self.base_time = base;
                        let projection = projector.left(address, vpn);
                        self.reply(&projection, out);
                        written += 1;
                    }
                }
                Entry::Free(run, base) => {
                    projector.set_now(base);
                    if self.vpn.selects(&run.range.vpn) {
                        *self.base_time = base;
                        let projection = projector.free(run.first, run.range);
                        let last = responder::write_free(
                            self.replies,
                            self.server_identifier,
                            (&projection, run.last),
                            self.full,
                            out,
                        );
                        let count = last.to_bits() - run.first.to_bits() + 1;
                        written += u64::from(count);
                        seen += count as usize;
                        entries.continue_after(last);
                    }
                }
            }
        }
        (written, seen)
    }

    /// Appends the message about an address.
    fn reply(&mut self, projection: &Projection<'_>, out: &mut Vec<u8>) {
        let frame = FrameWriter::begin(out);
        self.replies
            .write(out, self.server_identifier.take(), projection);
        frame.finish(out);
    }
}
