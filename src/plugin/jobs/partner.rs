//! The state of this server in its high-availability relationships, by its response to `status-get`.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::kea_config::Serving;
use crate::mirror::event::Event;
use crate::model::time::Time;
use crate::plugin::kea::Kea;
use crate::plugin::sink::Sink;

/// Time from one look at the state of the relationships to the next.
const INTERVAL: Duration = Duration::from_millis(500);

/// The states in which it is settled which server serves which clients (Kea ARM, the states of libdhcp_ha). In
/// the others, which follow each start and each reconfiguration, a server serves no client for a moment: that
/// must not count as a move of all free addresses to the partner.
const SETTLED: [&str; 8] = [
    "hot-standby",
    "load-balancing",
    "passive-backup",
    "backup",
    "communication-recovery",
    "partner-down",
    "partner-in-maintenance",
    "in-maintenance",
];

/// The state of this server in all of its relationships.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// The state in each relationship.
    states: Vec<String>,
    /// The scopes that it serves.
    pub serving: Serving,
}

impl Status {
    /// Reads the response to `status-get`; `None` if the state is missing.
    pub fn read(response: &[u8]) -> Option<Status> {
        let response: Value = serde_json::from_slice(response).ok()?;
        let mut status = Status::default();
        for relationship in response["arguments"]["high-availability"].as_array()? {
            let local = &relationship["ha-servers"]["local"];
            status.states.push(local["state"].as_str()?.to_owned());
            let scopes = local["scopes"].as_array()?.iter();
            let scopes = scopes.filter_map(Value::as_str).map(str::to_owned);
            status.serving.extend(scopes);
        }
        Some(status)
    }

    /// Returns whether it is settled in each relationship which server serves which clients.
    pub fn is_settled(&self) -> bool {
        self.states
            .iter()
            .all(|state| SETTLED.contains(&state.as_str()))
    }

    /// Returns whether leases may have been copied from a partner since `before`: a server does so on its way
    /// into a settled state.
    pub fn follows_synchronisation(&self, before: &Status) -> bool {
        self.is_settled() && self.states != before.states
    }
}

/// The job that follows the state of this server in its relationships.
#[derive(Debug)]
pub struct PartnerJob {
    /// The state when last looked at.
    status: Status,
    /// When to look next.
    next: Instant,
}

impl PartnerJob {
    /// Creates the job; it looks first at `now`.
    pub fn new(now: Instant) -> PartnerJob {
        PartnerJob {
            status: Status::default(),
            next: now,
        }
    }

    /// Returns the time of the next look.
    pub fn next(&self) -> Instant {
        self.next
    }

    /// Pushes the state again at the next look: events were lost, and it may be among them.
    pub fn repeat(&mut self) {
        self.status = Status::default();
    }

    /// Looks at the state if it is time, and pushes it if it has changed; returns whether leases may have
    /// been copied from a partner since the last look.
    pub fn tick(&mut self, kea: &impl Kea, sink: &Sink, now: Instant) -> bool {
        if now < self.next {
            return false;
        }
        self.next = now + INTERVAL;
        let status = match kea.status_of_hooks() {
            Ok(response) => Status::read(&response),
            Err(error) => {
                tracing::debug!(id = "BLQ_PARTNER_UNKNOWN", "{error}");
                None
            }
        };
        let Some(status) = status else {
            return false;
        };
        let synchronised = status.follows_synchronisation(&self.status);
        // Pushed again after each of those, it changes nothing unless it differs.
        if status.is_settled() && (synchronised || status.serving != self.status.serving) {
            sink.push(Event::Serving {
                serving: status.serving.clone(),
                at: Time::now(),
            });
        }
        self.status = status;
        synchronised
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns a status as of Kea 2.2, in a state and with scopes.
    fn status(state: &str, scopes: &[&str]) -> Status {
        let response = serde_json::json!({ "result": 0, "arguments": { "pid": 7,
            "high-availability": [{ "ha-mode": "hot-standby", "ha-servers": {
                "local": { "role": "primary", "scopes": scopes, "state": state },
                "remote": { "age": 0, "last-scopes": ["two"], "role": "standby" } } }] } });
        Status::read(response.to_string().as_bytes()).unwrap()
    }

    #[test]
    fn reads_scopes_and_whether_they_are_settled() {
        let normal = status("hot-standby", &["one"]);
        assert_eq!(normal.serving, Serving::from(["one".to_owned()]));
        assert!(normal.is_settled());
        assert!(!status("syncing", &[]).is_settled());
        assert!(!status("waiting", &[]).is_settled());
    }

    #[test]
    fn a_backup_in_passive_backup_serves_no_client() {
        let response = br#"{ "arguments": { "high-availability": [{ "ha-servers":
            { "local": { "role": "backup", "scopes": [], "state": "backup" } } }] } }"#;
        let status = Status::read(response).unwrap();
        assert!(status.is_settled());
        assert!(status.serving.is_empty());
    }

    #[test]
    fn leases_may_have_been_copied_when_a_server_settles() {
        let (ready, normal) = (status("ready", &[]), status("hot-standby", &["one"]));
        assert!(normal.follows_synchronisation(&ready));
        assert!(normal.follows_synchronisation(&Status::default()));
        assert!(!normal.follows_synchronisation(&normal));
        assert!(!ready.follows_synchronisation(&normal));
    }

    #[test]
    fn finds_no_status_in_a_response_without_high_availability() {
        for response in [
            &b""[..],
            b"{",
            br#"{ "result": 0, "arguments": {} }"#,
            br#"{ "arguments": { "high-availability": 7 } }"#,
            br#"{ "arguments": { "high-availability": [ {} ] } }"#,
        ] {
            assert_eq!(Status::read(response), None);
        }
    }
}
