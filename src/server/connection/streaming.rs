//! The rules of a connection with an active query (RFC 7724 sections 7.4, 8.2, 8.3 and 8.4).
//!
//! The query is alone on its connection. Its answer, a stream, ends with the connection only.

use std::mem::take;
use std::time::Instant;

use proto::StatusCode;

use crate::query::Engine;
use crate::server::connection::{Connection, End, InProgress};
use crate::server::peer_log::QueryStatus;
use crate::server::slots::Full;
use crate::server::stream::{OUTPUT, Stream};

impl<E: Engine> Connection<E> {
    /// Whether the connection has an active query, or had one.
    pub fn is_streaming(&self) -> bool {
        self.stream.is_some()
    }

    /// Begins a stream, unless another query is in progress.
    pub(super) fn begin_stream(&mut self, query: InProgress<E::Answer>, now: Instant) {
        if !self.queries.is_empty() || !self.idle.is_empty() {
            // The others are answered. RFC 7724 section 8.3: no other request is active at that time.
            let end = End::NotAlone;
            let status = QueryStatus::Failed(StatusCode::NOT_ALLOWED, end.to_string());
            self.end_query(query, status, now);
            self.end = Some(end);
            return;
        }
        self.stream = Some(Stream {
            is_admitted: false,
            silent_since: now,
        });
        self.queries.push_back(query);
    }

    /// Ends a stream if anything was received after its query: whatever it is, it ends the connection, and need not be
    /// complete.
    pub(super) fn received_beside_stream(&mut self, now: Instant) {
        if !self.input.is_empty() {
            self.end_early(End::NotAlone, now);
        }
    }

    //--- Places

    /// Whether the stream waits for [`Connection::admit`] or [`Connection::refuse`].
    pub fn wants_place(&self) -> bool {
        self.end.is_none() && self.stream.is_some_and(|stream| !stream.is_admitted)
    }

    /// Lets the stream begin: the connection has a place among the active ones.
    pub fn admit(&mut self) {
        if let Some(stream) = &mut self.stream {
            stream.is_admitted = true;
            self.activity.set_active();
        }
    }

    /// Ends the stream, for which there is no place, with QueryTerminated (RFC 7724 section 8.1).
    pub fn refuse(&mut self, full: Full, now: Instant) {
        for query in take(&mut self.queries) {
            self.end_query(query, QueryStatus::OverLimit(full.to_string()), now);
        }
        self.end = Some(End::NoPlace(full.to_string()));
    }

    //--- Output and time

    /// Allocates the output, in place of one that is larger or smaller.
    pub(super) fn allocate_for_stream(&mut self) {
        if self.output.is_empty() && self.output.capacity() != OUTPUT {
            self.output = Vec::with_capacity(OUTPUT);
        }
    }

    /// Returns the time at which the stream has been silent or blocked for too long.
    pub(super) fn stream_deadline(&self, stream: Stream) -> Instant {
        match self.is_sending() {
            false => stream.silent_since + self.limits.active_idle_time,
            // RFC 7724 section 8.2.
            true => self.blocked_since + self.limits.active_send_time,
        }
    }

    /// Shows the requester of a silent stream that it continues (RFC 7724 section 7.4).
    pub(super) fn keep_alive(&mut self, now: Instant) {
        self.allocate_for_stream();
        for query in self.queries.iter_mut().chain(&mut self.idle) {
            let messages = self.engine.messages(&query.answer);
            self.engine.keep_alive(&mut query.answer, &mut self.output);
            self.messages += self.engine.messages(&query.answer) - messages;
            query.octets += self.output.len() as u64;
        }
        self.blocked_since = now;
        if let Some(stream) = &mut self.stream {
            stream.silent_since = now;
        }
    }
}
