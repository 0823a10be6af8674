//! Answering queries from the mirror.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::ops::ControlFlow;
use std::sync::Arc;

use proto::StatusCode;

use crate::kea_config::TeeTimes;
use crate::mirror::view::Terms;
use crate::mirror::{Cursor, Entry, Mirror, Unready};
use crate::model::time::Time;
use crate::query::filter::Filter;
use crate::query::plan::Plan;
use crate::query::reply::{self, About, Alike, Replies, WantedOptions};
use crate::query::request::{self, Query, Refusal, Request, Unanswerable};
use crate::query::{Engine, Progress, Requester};
use crate::wire::message::{self, Message};
use crate::wire::writer::ReplyHeader;

/// How many bindings are looked at in one turn even if none of them is to be sent: bounds the
/// time others wait when a query picks few out of many.
const VISITS_PER_TURN: usize = 4_096;

/// Answers queries from a mirror.
#[derive(Debug)]
pub struct LeaseEngine {
    /// Where the bindings are.
    mirror: Arc<Mirror>,
    /// The options that may be told; `None` for all (`non-sensitive-options`).
    non_sensitive: Option<BTreeSet<u8>>,
    /// The clock by which bindings have ended.
    clock: fn() -> Time,
}

impl LeaseEngine {
    /// An engine that tells of each binding at most the options in `non_sensitive`.
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
    /// What its messages carry of the query.
    header: ReplyHeader,
    /// The server identifier, until the first message has carried it.
    server_identifier: Option<Ipv4Addr>,
    /// When the query began: the base-time of its DHCPLEASEQUERYDONE, if that carries one. A later
    /// query that starts at this time returns what has changed since the search passed it.
    began: Option<Time>,
    /// The codes in the query's parameter request list, if there is one.
    requested: Option<Vec<u8>>,
    /// What remains to be sent.
    rest: Rest,
}

/// What remains to be sent of an answer.
#[derive(Debug)]
enum Rest {
    /// Bindings, and a DHCPLEASEQUERYDONE. The search begins when the mirror is complete.
    Bindings(Query, Option<Box<Search>>),
    /// A DHCPLEASEQUERYDONE that says why there are none.
    Refusal(Refusal),
}

/// A search for the bindings a query asks for.
#[derive(Debug)]
struct Search {
    /// How far it got.
    cursor: Cursor,
    /// Which of the bindings it comes by are wanted.
    filter: Filter,
    /// The options to send of each.
    wanted: WantedOptions,
}

impl LeaseEngine {
    /// Begins to look for what a query asks for, if the mirror is complete.
    fn search(&self, query: &Query, requested: Option<&[u8]>) -> Result<Search, Unready> {
        // The search includes every change Kea made before it begins. A mirror that is complete here does
        // not set events aside any more, so that catching up applies all of them.
        self.mirror.ready()?;
        self.mirror.catch_up();
        let now = (self.clock)();
        let plan = self.mirror.read(|table| Plan::choose(table, query, now))?;
        let may_tell = |option: u8| {
            self.non_sensitive
                .as_ref()
                .is_none_or(|options| options.contains(&option))
        };
        Ok(Search {
            cursor: plan.cursor(query, now),
            filter: Filter::new(query),
            wanted: WantedOptions::new(requested, may_tell),
        })
    }
}

/// What the messages of one turn have in common.
struct Reply<'a> {
    /// What they carry of the query.
    header: &'a ReplyHeader,
    /// The server identifier, until a message has carried it.
    server_identifier: &'a mut Option<Ipv4Addr>,
    /// How long the output is when the turn is over.
    full: usize,
    /// The time of the replies.
    now: Time,
}

impl LeaseEngine {
    /// Goes on with a search until the turn is over, or there is nothing left; says which. The mirror
    /// is held while a part of the bindings is taken, not while they are written.
    fn go_on(
        &self,
        search: &mut Search,
        reply: Reply<'_>,
        out: &mut Vec<u8>,
    ) -> Result<ControlFlow<()>, Unready> {
        let Search {
            cursor,
            filter,
            wanted,
        } = search;
        let Reply {
            header,
            server_identifier,
            full,
            now,
        } = reply;
        let mut replies = Replies::new(header, wanted);
        let mut visits = 0;
        while let Some(part) = self.mirror.read(|table| cursor.part(table))? {
            part.fetch();
            let view = &*part.view;
            let mut known_terms: Option<Terms<'_>> = None;
            let mut alike: Option<Alike> = None;
            visits += 1 + part.collected;
            let mut entries = cursor.entries(&part);
            while let Some(entry) = entries.next() {
                visits += 1;
                match entry {
                    Entry::Bound(found)
                        if alike
                            .as_ref()
                            .is_some_and(|alike| replies.write_alike(out, alike, found, now)) => {}
                    Entry::Bound(found) => {
                        let binding = &found.binding();
                        let state = view.state(binding, now);
                        let terms = match known_terms {
                            Some(terms) if terms.are_those_of(binding) => terms,
                            _ => view.terms(binding),
                        };
                        known_terms = Some(terms);
                        // What is in no VPN that is known is nobody's to see.
                        let vpn = terms.vpn(binding, state.0);
                        if let Some(vpn) =
                            vpn.filter(|vpn| filter.selects(view, binding, vpn, state))
                        {
                            let about = About {
                                address: binding.address,
                                binding: Some(binding),
                                tee_times: terms.tee_times(binding),
                                vpn: &vpn,
                                state,
                                now,
                            };
                            let identifier = server_identifier.take();
                            let kea_config = &view.kea_config;
                            let is_copy = replies.write(out, identifier, &about, kea_config);
                            // Those that must have changed at some time are looked at one by one.
                            alike = Some(found)
                                .filter(|_| is_copy && filter.is_timeless())
                                .and_then(|found| Alike::of(found, binding, &terms));
                        }
                    }
                    Entry::Free(run) if filter.selects_free(run) => {
                        let about = About {
                            address: run.first,
                            binding: None,
                            tee_times: TeeTimes::default(),
                            vpn: &run.range.vpn,
                            state: run.range.free(),
                            now,
                        };
                        let identifier = server_identifier.take();
                        let kea_config = &view.kea_config;
                        let first = out.len();
                        replies.write(out, identifier, &about, kea_config);
                        let last = match identifier {
                            // The first reply to a query says more than the others.
                            Some(_) => run.first,
                            None => reply::repeat(out, first, run.first, run.last, full),
                        };
                        visits += (last.to_bits() - run.first.to_bits()) as usize;
                        entries.go_on_after(last);
                    }
                    Entry::Free(_) => {}
                }
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
        } = answer;
        let status = match rest {
            Rest::Bindings(query, search) => {
                let search = match search {
                    Some(search) => search,
                    None => search.insert(Box::new(self.search(query, requested.as_deref())?)),
                };
                let reply = Reply {
                    header,
                    server_identifier,
                    full: out.len().saturating_add(room),
                    now: (self.clock)(),
                };
                if self.go_on(search, reply, out)?.is_break() {
                    return Ok(Progress::More);
                }
                None
            }
            Rest::Refusal(refusal) => Some((refusal.status(), refusal.to_string())),
        };
        let status = status.as_ref().map(|(code, text)| (*code, &**text));
        reply::write_done(out, header, server_identifier.take(), *began, status);
        Ok(Progress::Done)
    }
}

impl Engine for LeaseEngine {
    type Answer = Answer;
    type Unanswerable = Unanswerable;

    const SHORTEST_MESSAGE: usize = message::SHORTEST;

    fn open(&self, message: &[u8], requester: &Requester) -> Result<Answer, Unanswerable> {
        // Before anything is read that may change in the same second.
        let now = (self.clock)();
        let Request {
            header,
            requested,
            query,
        } = request::read(message, requester.allowed)?;
        let saved_view = self.mirror.kea_config().server_identifier();
        Ok(Answer {
            header,
            server_identifier: Some(saved_view.unwrap_or(requester.local)),
            began: reply::carry_base_time(requested.as_deref()).then_some(now),
            requested,
            rest: match query {
                Ok(query) => Rest::Bindings(query, None),
                Err(refusal) => Rest::Refusal(refusal),
            },
        })
    }

    fn refusal(&self, answer: &Answer) -> Option<(StatusCode, String)> {
        match &answer.rest {
            Rest::Bindings(..) => None,
            Rest::Refusal(refusal) => Some((refusal.status(), refusal.to_string())),
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
            Rest::Bindings(..) => false,
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
                reply::write_done(out, &answer.header, identifier, answer.began, Some(status));
                Progress::Done
            }
        }
    }

    fn wake_up(&self) -> impl Future<Output = ()> + Send + 'static {
        self.mirror.next_change_of_readiness()
    }

    fn terminate(&self, answer: Answer, reason: &str, out: &mut Vec<u8>) {
        let refusal;
        let status = match &answer.rest {
            Rest::Bindings(..) => (StatusCode::QUERY_TERMINATED, reason),
            // By QueryTerminated the requester would try it again (RFC 6926 section 7.1).
            Rest::Refusal(why) => {
                refusal = why.to_string();
                (why.status(), &*refusal)
            }
        };
        reply::write_done(
            out,
            &answer.header,
            answer.server_identifier,
            answer.began,
            Some(status),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kea_config::KeaConfig;
    use crate::mirror::{InitialLoad, Saved};
    use crate::query::QueryTypes;
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
        let kea_config = KeaConfig::from_json(config, Vec::new()).unwrap();
        let initial_load = InitialLoad::begin(kea_config.into(), Saved::default(), Time::now());
        let mirror = Arc::new(initial_load.finish());
        let engine = LeaseEngine::new(Arc::clone(&mirror), None);
        let requester = Requester {
            peer: Ipv4Addr::LOCALHOST,
            local: Ipv4Addr::LOCALHOST,
            allowed: QueryTypes::ALL,
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
