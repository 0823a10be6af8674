//! Answering queries from the mirror.

use std::collections::BTreeSet;
use std::sync::Arc;

use proto::{MessageType, StatusCode};

use crate::mirror::{Mirror, Unready};
use crate::model::time::Time;
use crate::query::active::{self, Opening, Permission};
use crate::query::request::{self, Received, Unanswerable};
use crate::query::source::Source;
use crate::query::{Engine, Progress, Requester, bulk};
use crate::wire::message::{self, Message};

/// Answers queries from a mirror.
#[derive(Debug)]
pub struct LeaseEngine {
    /// The source of the answers.
    source: Source,
    /// Whether and how active queries are permitted; `None` if they are not enabled.
    active: Option<Permission>,
}

impl LeaseEngine {
    /// Returns an engine whose replies have no options but those in `non_sensitive` and mandatory ones. It answers no
    /// active query.
    pub fn new(mirror: Arc<Mirror>, non_sensitive: Option<BTreeSet<u8>>) -> LeaseEngine {
        LeaseEngine {
            source: Source {
                mirror,
                non_sensitive,
                clock: Time::now,
            },
            active: None,
        }
    }

    /// Sets another clock.
    pub fn with_clock(mut self, clock: fn() -> Time) -> LeaseEngine {
        self.source.clock = clock;
        self
    }

    /// Answers active queries, if they are enabled.
    pub fn with_active(self, active: Option<Permission>) -> LeaseEngine {
        LeaseEngine { active, ..self }
    }
}

/// An answer in progress.
#[derive(Debug)]
pub enum Answer {
    /// To a DHCPBULKLEASEQUERY.
    Bulk(bulk::Answer),
    /// To a DHCPACTIVELEASEQUERY.
    Active(active::Answer),
}

impl Engine for LeaseEngine {
    type Answer = Answer;
    type Unanswerable = Unanswerable;

    const SHORTEST_MESSAGE: usize = message::SHORTEST;

    fn open(&self, message: &[u8], requester: &Requester) -> Result<Answer, Unanswerable> {
        // Before the mirror is read, which may change in the same second.
        let now = self.source.now();
        let received = Received::read(message)?;
        let identifier = || {
            let configured = self.source.mirror.kea_config().server_identifier();
            configured.unwrap_or(requester.local)
        };
        match (received.message_type, self.active) {
            (MessageType::BULK_LEASE_QUERY, _) => {
                let request = request::read(&received, requester.allowed);
                Ok(Answer::Bulk(bulk::Answer::open(request, identifier(), now)))
            }
            (MessageType::ACTIVE_LEASE_QUERY, Some(permission)) => {
                permission.check(requester.security)?;
                let query = active::read(&received, requester.allowed);
                let opening = Opening {
                    header: received.header(),
                    requested: received.requested(),
                    server_identifier: identifier(),
                    began: now,
                };
                let answer = active::Answer::open(query, opening, permission);
                Ok(Answer::Active(answer))
            }
            (other, _) => Err(Unanswerable::MessageType(other)),
        }
    }

    fn status(&self, answer: &Answer) -> Option<(StatusCode, String)> {
        match answer {
            Answer::Bulk(answer) => answer.status(),
            Answer::Active(answer) => answer.status(),
        }
    }

    fn describe(&self, answer: &Answer) -> String {
        match answer {
            Answer::Bulk(answer) => answer.describe(),
            Answer::Active(answer) => answer.describe(),
        }
    }

    fn message_xid(&self, message: &[u8]) -> Option<u32> {
        Message::read(message).ok().map(|message| message.xid)
    }

    fn xid(&self, answer: &Answer) -> u32 {
        match answer {
            Answer::Bulk(answer) => answer.xid(),
            Answer::Active(answer) => answer.xid(),
        }
    }

    fn ends_connection(&self, answer: &Answer) -> bool {
        match answer {
            Answer::Bulk(answer) => answer.ends_connection(),
            Answer::Active(answer) => !answer.is_stream(),
        }
    }

    fn is_stream(&self, answer: &Answer) -> bool {
        match answer {
            Answer::Bulk(_) => false,
            Answer::Active(answer) => answer.is_stream(),
        }
    }

    fn write(&self, answer: &mut Answer, out: &mut Vec<u8>, room: usize) -> Progress {
        let written = match answer {
            Answer::Bulk(answer) => answer.write(&self.source, out, room),
            Answer::Active(answer) => answer.write(&self.source, out, room),
        };
        match (written, answer) {
            (Ok(progress), _) => progress,
            (Err(Unready::InitialLoad), _) => Progress::Idle,
            (Err(Unready::Failed(failure)), Answer::Bulk(answer)) => answer.fail(failure, out),
            (Err(Unready::Failed(failure)), Answer::Active(answer)) => answer.fail(failure, out),
        }
    }

    fn keep_alive(&self, answer: &mut Answer, out: &mut Vec<u8>) {
        if let Answer::Active(answer) = answer {
            answer.keep_alive(&self.source, out);
        }
    }

    fn wake_up(&self, is_stream: bool) -> impl Future<Output = ()> + Send + 'static {
        let mirror = &self.source.mirror;
        let readiness = mirror.next_change_of_readiness();
        let change = is_stream.then(|| mirror.next_change());
        async move {
            match change {
                Some(change) => tokio::select! {
                    () = readiness => {}
                    () = change => {}
                },
                None => readiness.await,
            }
        }
    }

    fn messages(&self, answer: &Answer) -> u64 {
        match answer {
            Answer::Bulk(answer) => answer.messages(),
            Answer::Active(answer) => answer.messages(),
        }
    }

    fn bindings(&self, answer: &Answer) -> u64 {
        match answer {
            Answer::Bulk(answer) => answer.bindings(),
            Answer::Active(answer) => answer.bindings(),
        }
    }

    fn end(&self, answer: &mut Answer, status: StatusCode, reason: &str, out: &mut Vec<u8>) {
        match answer {
            Answer::Bulk(answer) => answer.end(status, reason, out),
            Answer::Active(answer) => answer.end(&self.source, status, reason, out),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

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
