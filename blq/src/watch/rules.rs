//! The rules for requesters of RFC 7724 section 7, without sockets and clocks.

use std::cmp::Ordering;
use std::collections::{HashMap, VecDeque};
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use crate::active::{ACTIVE_LQ_IDLE_TIMEOUT, ACTIVE_LQ_RCV_TIMEOUT, ActiveReply, Report};
use crate::binding::Binding;
use crate::query::DEFAULT_PARAMETERS;
use crate::watch::{Event, Failure};
use crate::wire::{StatusCode, Vss};

/// The settings of a watch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The time from which on changes are wanted, in seconds since 1970 by the server's clock; `None`
    /// if all bindings are wanted first.
    pub start: Option<u32>,
    /// VPN-ID: selects bindings of a VPN, or of all; the default VPN without it.
    pub vpn: Option<Vss>,
    /// Codes of the options requested in replies; without it the server chooses. A list gets base-time
    /// (152), which the queries go on from.
    pub parameter_request_list: Option<Vec<u8>>,
    /// The least time between two attempts of a query; ACTIVE_LQ_IDLE_TIMEOUT and more are recommended
    /// (RFC 7724 section 7.1).
    pub retry_interval: Duration,
    /// The time between two bulk queries to a server without Active Leasequery.
    pub poll_interval: Duration,
    /// The time after which a server without Active Leasequery is asked again whether it supports it.
    pub active_interval: Duration,
    /// ACTIVE_LQ_RCV_TIMEOUT: longest time without a message on an active connection; > 0.
    pub receive_timeout: Duration,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            start: None,
            vpn: None,
            parameter_request_list: Some(DEFAULT_PARAMETERS.to_vec()),
            retry_interval: ACTIVE_LQ_IDLE_TIMEOUT,
            poll_interval: ACTIVE_LQ_IDLE_TIMEOUT,
            active_interval: Duration::from_secs(900),
            receive_timeout: ACTIVE_LQ_RCV_TIMEOUT,
        }
    }
}

/// The number of active queries in a row without a reply after which a server that has accepted one before
/// is taken as one that refuses them: its configuration has changed. One or two may be those of a restart.
const REFUSALS: u32 = 3;

/// The next step of a watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// An active query with this query-start-time begins.
    Active(u32),
    /// A bulk query for changes in this window begins.
    Bulk(Window),
    /// Nothing begins before an input, or before this time.
    Wait(Option<Instant>),
}

/// The query-start-time and query-end-time of a bulk query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Window {
    /// The start; `None` is before all others.
    pub start: Option<u32>,
    /// The end, inclusive; `None` is after all others.
    pub end: Option<u32>,
}

impl Window {
    /// Returns the smallest window with both.
    fn with(self, other: Option<Window>) -> Window {
        let Some(other) = other else {
            return self;
        };
        Window {
            start: self.start.min(other.start),
            end: self.end.zip(other.end).map(|(one, other)| one.max(other)),
        }
    }
}

/// The active query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Active {
    /// None is in progress.
    Idle,
    /// In progress.
    Running {
        /// The query-start-time.
        start: u32,
        /// Whether the catch-up is not complete.
        is_catching_up: bool,
    },
}

/// The way of learning of changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// By active queries.
    Stream,
    /// By bulk queries at an interval.
    Poll {
        /// The time of the next one.
        next: Instant,
        /// The time of the next attempt of an active query.
        active: Instant,
    },
}

/// The reason for a bulk query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    /// All bindings, or all changes since the time saved: the next query goes on from the answer.
    Changes,
    /// The changes that the server did not send by an active query, which goes on meanwhile.
    Missing,
}

/// The state of a watch.
#[derive(Debug)]
pub(super) struct Rules {
    /// As in [`Settings`].
    retry_interval: Duration,
    /// As in [`Settings`].
    poll_interval: Duration,
    /// As in [`Settings`].
    active_interval: Duration,
    /// The time from which on changes are missing if all connections end now, except for those of
    /// `missing` and of the bulk query; `None` before the first answer.
    saved: Option<u32>,
    /// The way of learning of changes.
    mode: Mode,
    /// The active query.
    active: Active,
    /// The earliest time of the next active query; `None` if any time will do.
    active_after: Option<Instant>,
    /// Whether the server has accepted an active query.
    supports_active: bool,
    /// The number of active queries, the last ones, whose connection ended without a reply.
    without_reply: u32,
    /// The bulk query in progress.
    bulk: Option<(Window, Purpose)>,
    /// The number of its bindings.
    bindings: u64,
    /// The time of the next attempt of a bulk query that failed.
    bulk_after: Option<Instant>,
    /// The changes that the server did not send, and that no bulk query has returned.
    missing: Option<Window>,
    /// The bindings that the active query has sent during the bulk query, by address: the last one in each
    /// VPN, in the order of their arrival. Those in the answer may be older. As many as change meanwhile.
    sent: HashMap<Ipv4Addr, Vec<Binding>>,
    /// Whether the server has answered any query.
    has_answer: bool,
    /// The time of the last complete answer to a bulk query.
    answered: Option<Instant>,
}

impl Rules {
    /// Returns the state before the first query.
    pub fn new(settings: &Settings) -> Rules {
        Rules {
            retry_interval: settings.retry_interval,
            poll_interval: settings.poll_interval,
            active_interval: settings.active_interval,
            saved: settings.start,
            mode: Mode::Stream,
            active: Active::Idle,
            active_after: None,
            supports_active: false,
            without_reply: 0,
            bulk: None,
            bindings: 0,
            bulk_after: None,
            missing: None,
            sent: HashMap::new(),
            has_answer: false,
            answered: None,
        }
    }

    /// Returns the time from which on a later watch has to begin to miss no change; `None` if it has to
    /// begin with all bindings.
    pub fn start(&self) -> Option<u32> {
        let bulk = self.bulk.map(|(window, _)| window);
        let windows = self.missing.into_iter().chain(bulk);
        windows.fold(self.saved, |start, window| start.min(window.start))
    }

    /// Returns the next step, which the caller takes. To be called until it is to wait.
    pub fn step(&mut self, now: Instant) -> Step {
        let bulk = self.wanted_bulk();
        if let Some((window, purpose, after)) = bulk {
            if is_due(after, now) {
                self.bulk = Some((window, purpose));
                if purpose == Purpose::Missing {
                    self.missing = None;
                }
                self.bindings = 0;
                self.sent.clear();
                self.bulk_after = Some(now + self.retry_interval);
                return Step::Bulk(window);
            }
        }
        let active = self.wanted_active();
        if let Some((start, after)) = active {
            if is_due(after, now) {
                self.active = Active::Running {
                    start,
                    is_catching_up: true,
                };
                self.active_after = Some(now + self.retry_interval);
                return Step::Active(start);
            }
        }
        let times = [
            bulk.and_then(|(_, _, after)| after),
            active.and_then(|(_, after)| after),
        ];
        Step::Wait(times.into_iter().flatten().min())
    }

    /// Returns the next bulk query, and the earliest time for it.
    fn wanted_bulk(&self) -> Option<(Window, Purpose, Option<Instant>)> {
        if self.bulk.is_some() {
            return None;
        }
        let saved = Window {
            start: self.saved,
            end: None,
        };
        match (self.missing, self.mode) {
            (Some(missing), _) => Some((missing, Purpose::Missing, self.bulk_after)),
            _ if self.saved.is_none() => Some((saved, Purpose::Changes, self.bulk_after)),
            (None, Mode::Poll { next, .. }) if self.active == Active::Idle => {
                Some((saved, Purpose::Changes, Some(next).max(self.bulk_after)))
            }
            (None, _) => None,
        }
    }

    /// Returns the query-start-time of the next active query, and the earliest time for it.
    fn wanted_active(&self) -> Option<(u32, Option<Instant>)> {
        let start = self.saved?;
        match (self.active, self.mode) {
            (Active::Running { .. }, _) => None,
            (Active::Idle, Mode::Stream) => Some((start, self.active_after)),
            // The start must not change under a bulk query.
            (Active::Idle, Mode::Poll { .. }) if self.bulk.is_some() => None,
            (Active::Idle, Mode::Poll { active, .. }) => {
                Some((start, Some(active).max(self.active_after)))
            }
        }
    }

    // ----- Active query -----

    /// Takes a reply of the active query, other than the last one, and returns its event.
    pub fn active_reply(&mut self, reply: ActiveReply) -> Event {
        self.has_answer = true;
        self.supports_active = true;
        self.without_reply = 0;
        self.mode = Mode::Stream;
        match reply {
            ActiveReply::Binding(binding) => {
                self.save(binding.base_time);
                if self.bulk.is_some() {
                    let sent = self.sent.entry(binding.address).or_default();
                    sent.retain(|other| vpn(other) != vpn(&binding));
                    sent.push(Binding::clone(&binding));
                }
                Event::Binding(binding)
            }
            ActiveReply::Keepalive { base_time } => {
                self.save(base_time);
                Event::Alive
            }
            ActiveReply::Status(report) => self.active_status(report),
        }
    }

    /// Takes a status after which the active query goes on.
    fn active_status(&mut self, report: Report) -> Event {
        let missing = self.saved;
        let is_end = [StatusCode::CATCH_UP_COMPLETE, StatusCode::DATA_MISSING];
        if let Active::Running { is_catching_up, .. } = &mut self.active {
            *is_catching_up &= !is_end.contains(&report.status.code);
        }
        self.save(report.base_time);
        match (report.status.code, self.active) {
            (StatusCode::CATCH_UP_COMPLETE, Active::Running { start, .. }) => {
                Event::CaughtUp { start }
            }
            (StatusCode::DATA_MISSING, _) => {
                // A server's clock may have been set back: no query ends before its start.
                let end = report.base_time;
                let window = Window {
                    start: end.map_or(missing, |end| missing.min(Some(end))),
                    end: end.filter(|end| Some(*end) >= missing),
                };
                self.missing = Some(window.with(self.missing));
                Event::DataMissing {
                    start: window.start,
                    end: window.end,
                }
            }
            (StatusCode::CONNECTION_ACTIVE, _) => Event::Alive,
            _ => Event::Status(report.status),
        }
    }

    /// Saves the base-time of the latest message, unless the catch-up is in progress: its messages are
    /// in no order (RFC 7724 section 7.4.1).
    fn save(&mut self, base_time: Option<u32>) {
        let is_in_order = matches!(
            self.active,
            Active::Running {
                is_catching_up: false,
                ..
            }
        );
        if is_in_order {
            self.saved = base_time.or(self.saved);
        }
    }

    /// Takes the end of the active query, and returns its event.
    ///
    /// # Errors
    /// The failure is permanent, and the server has never answered.
    pub fn active_ended(
        &mut self,
        failure: Failure,
        now: Instant,
    ) -> Result<Option<Event>, Failure> {
        if let Failure::Ended(report) = &failure {
            if report.status.code == StatusCode::QUERY_TERMINATED {
                self.supports_active = true;
                self.save(report.base_time);
            }
        }
        self.active = Active::Idle;
        if failure.is_permanent() && !self.has_answer {
            return Err(failure);
        }
        self.without_reply = match &failure {
            Failure::Active(error) if !error.has_reply() => self.without_reply + 1,
            Failure::Ended(_) => 0,
            _ => self.without_reply,
        };
        let is_known = self.supports_active && self.without_reply < REFUSALS;
        if failure.is_refusal_of_active(is_known) {
            return Ok(self.poll(failure, now));
        }
        match &mut self.mode {
            Mode::Stream => {
                let retry = self
                    .active_after
                    .unwrap_or(now)
                    .saturating_duration_since(now);
                Ok(Some(Event::Lost { failure, retry }))
            }
            // Bulk queries go on, and report failures of the connection.
            Mode::Poll { active, .. } => {
                *active = now + self.active_interval;
                Ok(None)
            }
        }
    }

    /// Goes over to bulk queries at an interval. Returns the event, once.
    fn poll(&mut self, failure: Failure, now: Instant) -> Option<Event> {
        let active = now + self.active_interval;
        match &mut self.mode {
            Mode::Poll { active: again, .. } => {
                *again = active;
                None
            }
            Mode::Stream => {
                let next = self.answered.map_or(now, |time| time + self.poll_interval);
                self.mode = Mode::Poll { next, active };
                Some(Event::NoActive {
                    failure,
                    interval: self.poll_interval,
                })
            }
        }
    }

    // ----- Bulk query -----

    /// Takes a binding of the bulk query and appends its events: none if the active query has sent a later one
    /// of the same address and VPN.
    ///
    /// If the active query has sent one of the same address in another VPN, the address may have moved to that
    /// VPN, and the binding may be older: the one of the active query is repeated after it.
    pub fn bulk_binding(&mut self, binding: Box<Binding>, events: &mut VecDeque<Event>) {
        self.bindings += 1;
        let sent = self
            .sent
            .get(&binding.address)
            .map_or(&[][..], Vec::as_slice);
        if sent.iter().any(|other| vpn(other) == vpn(&binding)) {
            return;
        }
        events.push_back(Event::Binding(binding));
        let later = sent.iter().cloned().map(Box::new);
        events.extend(later.map(Event::Binding));
    }

    /// Takes the end of the bulk query: the query-start-time of a later query for changes, or the reason
    /// why the answer is not complete. Returns the event.
    ///
    /// # Errors
    /// The failure is permanent, and the server has never answered.
    pub fn bulk_ended(
        &mut self,
        result: Result<Option<u32>, Failure>,
        now: Instant,
    ) -> Result<Event, Failure> {
        let (window, purpose) = match self.bulk.take() {
            Some((window, purpose)) => (Some(window), purpose),
            None => (None, Purpose::Changes),
        };
        self.sent = HashMap::new();
        let failure = match result {
            Ok(None) if self.saved.is_none() => return Err(Failure::NoBaseTime),
            Ok(next) => {
                self.has_answer = true;
                self.answered = Some(now);
                self.bulk_after = None;
                if let Mode::Poll { next, .. } = &mut self.mode {
                    *next = now + self.poll_interval;
                }
                if purpose == Purpose::Changes {
                    self.saved = next.or(self.saved);
                }
                return Ok(Event::Answer {
                    start: window.and_then(|window| window.start),
                    bindings: self.bindings,
                });
            }
            Err(failure) => failure,
        };
        if failure.is_permanent() && !self.has_answer {
            return Err(failure);
        }
        if let (Some(window), Purpose::Missing) = (window, purpose) {
            self.missing = Some(window.with(self.missing));
        }
        let after = self.bulk_after.unwrap_or(now);
        let retry = after.saturating_duration_since(now);
        Ok(Event::Unanswered { failure, retry })
    }
}

/// Whether a time has come.
fn is_due(time: Option<Instant>, now: Instant) -> bool {
    time.is_none_or(|time| time.cmp(&now) != Ordering::Greater)
}

/// Returns the VPN of a binding; `None` is the default one.
fn vpn(binding: &Binding) -> Option<&Vss> {
    binding.vpn.as_ref().filter(|vpn| **vpn != Vss::Default)
}

#[cfg(test)]
mod tests;
