//! Answering queries from the mirror.

use std::collections::BTreeSet;
use std::fmt;
use std::net::Ipv4Addr;
use std::ops::ControlFlow;
use std::sync::Arc;

use proto::StatusCode;

use crate::mirror::{Cursor, Entry, Failure, Mirror, Unready};
use crate::model::time::Time;
use crate::query::filter::Filter;
use crate::query::plan::Plan;
use crate::query::reply::{self, Replies, ReplyOptions};
use crate::query::request::{self, Kind, Query, Refusal, Request, Unanswerable};
use crate::query::responder::Responder;
use crate::query::{Engine, Progress, Requester};
use crate::wire::frame::FrameWriter;
use crate::wire::message::{self, Message};
use crate::wire::writer::ReplyHeader;

/// The most bindings visited in one turn: bounds the time that other queries wait for one that returns few
/// of many bindings.
const VISITS_PER_TURN: usize = 4_096;

/// Answers queries from a mirror.
#[derive(Debug)]
pub struct LeaseEngine {
    /// The bindings.
    mirror: Arc<Mirror>,
    /// `non-sensitive-options`: the options that requesters may receive; `None` for all.
    non_sensitive: Option<BTreeSet<u8>>,
    /// The clock of replies.
    clock: fn() -> Time,
}

impl LeaseEngine {
    /// Returns an engine whose replies have no options but those in `non_sensitive` and mandatory ones.
    pub fn new(mirror: Arc<Mirror>, non_sensitive: Option<BTreeSet<u8>>) -> LeaseEngine {
        LeaseEngine {
            mirror,
            non_sensitive,
            clock: Time::now,
        }
    }

    /// Sets another clock.
    pub fn with_clock(self, clock: fn() -> Time) -> LeaseEngine {
        LeaseEngine { clock, ..self }
    }
}

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
    /// The messages written.
    messages: u64,
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

/// The codes of a parameter request list, for the log.
struct Codes<'a>(&'a [u8]);

impl fmt::Display for Codes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, code) in self.0.iter().enumerate() {
            write!(f, "{}{code}", if index == 0 { "" } else { "+" })?;
        }
        Ok(())
    }
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

impl LeaseEngine {
    /// Begins the search of a query, if the mirror is complete.
    fn search(
        &self,
        header: &ReplyHeader,
        query: &Query,
        requested: Option<&[u8]>,
    ) -> Result<Search, Unready> {
        // The search includes every change that Kea made before. A complete mirror sets no events aside, so
        // that catching up applies all of them.
        self.mirror.ready()?;
        self.mirror.catch_up();
        let now = (self.clock)();
        let plan = self.mirror.read(|table| Plan::choose(table, query, now))?;
        let is_non_sensitive = |option: u8| {
            self.non_sensitive
                .as_ref()
                .is_none_or(|options| options.contains(&option))
        };
        Ok(Search {
            cursor: plan.cursor(query, now),
            filter: Filter::new(query),
            replies: Replies::new(
                header.clone(),
                ReplyOptions::new(requested, is_non_sensitive),
            ),
        })
    }
}

impl LeaseEngine {
    /// Continues a search. Returns `Continue` if nothing is left, and `Break` once the output has `full` octets or
    /// the turn is over. The mirror is locked while a part of the bindings is taken, not while the replies are
    /// written.
    fn resume(
        &self,
        search: &mut Search,
        server_identifier: &mut Option<Ipv4Addr>,
        messages: &mut u64,
        out: &mut Vec<u8>,
        full: usize,
    ) -> Result<ControlFlow<()>, Unready> {
        let Search {
            cursor,
            filter,
            replies,
        } = search;
        let now = (self.clock)();
        let mut visits = 0;
        while let Some(part) = self.mirror.read(|table| cursor.part(table))? {
            part.fetch();
            visits += 1 + part.collected;
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
                            *messages += u64::from(further);
                            entries.continue_after(last);
                        }
                    }
                }
                *messages += u64::from(out.len() > before);
                if out.len() >= full || visits >= VISITS_PER_TURN {
                    return Ok(ControlFlow::Break(()));
                }
            }
            if visits >= VISITS_PER_TURN {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }
}

impl LeaseEngine {
    /// Appends the next messages of an answer: see [`Engine::write`].
    fn append(
        &self,
        answer: &mut Answer,
        out: &mut Vec<u8>,
        room: usize,
    ) -> Result<Progress, Unready> {
        let Answer {
            header,
            server_identifier,
            began,
            requested,
            rest,
            messages,
        } = answer;
        let status = match rest {
            Rest::Bindings(query, search) => {
                let search = match search {
                    Some(search) => search,
                    None => search.insert(Box::new(self.search(
                        header,
                        query,
                        requested.as_deref(),
                    )?)),
                };
                let full = out.len().saturating_add(room);
                if self
                    .resume(search, server_identifier, messages, out, full)?
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
        write_done(out, header, server_identifier.take(), *began, status);
        *messages += 1;
        Ok(Progress::Done)
    }
}

impl Engine for LeaseEngine {
    type Answer = Answer;
    type Unanswerable = Unanswerable;

    const SHORTEST_MESSAGE: usize = message::SHORTEST;

    fn open(&self, message: &[u8], requester: &Requester) -> Result<Answer, Unanswerable> {
        // Before the mirror is read, which may change in the same second.
        let now = (self.clock)();
        let Request {
            header,
            requested,
            kind,
        } = request::read(message, requester.allowed)?;
        let configured = self.mirror.kea_config().server_identifier();
        Ok(Answer {
            header,
            server_identifier: Some(configured.unwrap_or(requester.local)),
            began: reply::carry_base_time(requested.as_deref()).then_some(now),
            requested,
            rest: match kind {
                Kind::Query(query) => Rest::Bindings(query, None),
                Kind::Refused(refusal) => Rest::Refusal(refusal),
            },
            messages: 0,
        })
    }

    fn status(&self, answer: &Answer) -> Option<(StatusCode, String)> {
        match &answer.rest {
            Rest::Bindings(..) => None,
            Rest::Refusal(refusal) => Some((refusal.status(), refusal.to_string())),
            Rest::Failed(failure) => Some((StatusCode::QUERY_TERMINATED, failure.to_string())),
        }
    }

    fn describe(&self, answer: &Answer) -> String {
        let Rest::Bindings(query, _) = &answer.rest else {
            return String::new();
        };
        match &answer.requested {
            Some(options) => format!("{query}, options {}", Codes(options)),
            None => query.to_string(),
        }
    }

    fn message_xid(&self, message: &[u8]) -> Option<u32> {
        Message::read(message).ok().map(|message| message.xid)
    }

    fn xid(&self, answer: &Answer) -> u32 {
        answer.header.xid()
    }

    fn ends_connection(&self, answer: &Answer) -> bool {
        match &answer.rest {
            Rest::Bindings(..) | Rest::Failed(_) => false,
            Rest::Refusal(refusal) => refusal.ends_connection(),
        }
    }

    fn write(&self, answer: &mut Answer, out: &mut Vec<u8>, room: usize) -> Progress {
        match self.append(answer, out, room) {
            Ok(progress) => progress,
            Err(Unready::InitialLoad) => Progress::Idle,
            Err(Unready::Failed(failure)) => {
                let identifier = answer.server_identifier.take();
                let status = (StatusCode::QUERY_TERMINATED, &*failure.to_string());
                write_done(out, &answer.header, identifier, answer.began, Some(status));
                answer.rest = Rest::Failed(failure);
                answer.messages += 1;
                Progress::Done
            }
        }
    }

    fn wake_up(&self) -> impl Future<Output = ()> + Send + 'static {
        self.mirror.next_change_of_readiness()
    }

    fn messages(&self, answer: &Answer) -> u64 {
        answer.messages
    }

    fn terminate(&self, answer: &mut Answer, reason: &str, out: &mut Vec<u8>) {
        let refusal;
        let status = match &answer.rest {
            Rest::Bindings(..) | Rest::Failed(_) => (StatusCode::QUERY_TERMINATED, reason),
            // After QueryTerminated the requester would send the query again (RFC 6926 section 7.1).
            Rest::Refusal(why) => {
                refusal = why.to_string();
                (why.status(), &*refusal)
            }
        };
        let identifier = answer.server_identifier;
        write_done(out, &answer.header, identifier, answer.began, Some(status));
        answer.messages += 1;
    }
}

/// Appends the framed DHCPLEASEQUERYDONE that ends an answer: see [`reply::write_done`].
fn write_done(
    out: &mut Vec<u8>,
    header: &ReplyHeader,
    server_identifier: Option<Ipv4Addr>,
    base_time: Option<Time>,
    status: Option<(StatusCode, &str)>,
) {
    let frame = FrameWriter::begin(out);
    reply::write_done(out, header, server_identifier, base_time, status);
    frame.finish(out);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kea_config::KeaConfig;
    use crate::mirror::{InitialLoad, Saved};
    use crate::query::{QueryTypes, Security};
    use proto::MessageType;
    use proto::message::{BOOTREQUEST, FIXED_FIELDS, MAGIC_COOKIE};
    use proto::option::code;

    /// A query for all configured addresses.
    fn query() -> Vec<u8> {
        let mut query = vec![0; FIXED_FIELDS];
        query[0] = BOOTREQUEST;
        query.extend(MAGIC_COOKIE);
        query.extend([53, 1, MessageType::BULK_LEASE_QUERY.0]);
        assert_eq!(query.len(), LeaseEngine::SHORTEST_MESSAGE);
        query
    }

    #[test]
    fn a_change_that_panics_ends_answers_with_query_terminated() {
        let config = r#"{"Dhcp4": {"subnet4": [{"id": 1, "subnet": "10.0.0.0/8",
            "pools": [{"pool": "10.0.0.0/8"}]}]}}"#;
        let kea_config = KeaConfig::new(config, Vec::new(), &[]).unwrap();
        let initial_load = InitialLoad::begin(kea_config.into(), Saved::default(), Time::now());
        let mirror = Arc::new(initial_load.finish());
        let engine = LeaseEngine::new(Arc::clone(&mirror), None);
        let requester = Requester {
            peer: Ipv4Addr::LOCALHOST,
            local: Ipv4Addr::LOCALHOST,
            allowed: QueryTypes::ALL,
            security: Security::Plain,
        };
        let mut begun = engine.open(&query(), &requester).unwrap();
        let mut out = Vec::new();
        assert_eq!(engine.write(&mut begun, &mut out, 1), Progress::More);
        mirror.panic_in_a_change();
        let new = engine.open(&query(), &requester).unwrap();
        for mut answer in [begun, new] {
            out.clear();
            assert_eq!(engine.write(&mut answer, &mut out, 1), Progress::Done);
            let done = Message::read(&out[2..]).unwrap();
            let status = done.options.value(code::STATUS_CODE).unwrap();
            assert_eq!(status[0], StatusCode::QUERY_TERMINATED.0);
        }
    }
}
