//! Events of a watch, and the reasons for its failures.

use std::time::Duration;

use thiserror::Error;

use crate::active::{self, Report};
use crate::binding::{Binding, Status};
use crate::wire::StatusCode;
use crate::{client, tls};

/// An event of a [`Watch`](crate::Watch).
#[derive(Debug)]
pub enum Event {
    /// The binding of an address. It replaces all earlier ones of the same address and VPN, and those in
    /// other VPNs if the server has each address in a single VPN. The same binding may come again.
    Binding(Box<Binding>),
    /// The answer to a bulk query is complete.
    Answer {
        /// The query-start-time; `None` if the query was for all bindings.
        start: Option<u32>,
        /// The number of bindings in the answer.
        bindings: u64,
    },
    /// The server has sent all changes since the query-start-time of the active query; from now on it
    /// sends each change as it happens (CatchUpComplete).
    CaughtUp {
        /// The query-start-time.
        start: u32,
    },
    /// The server lacks the changes between two times (DataMissing). A bulk query for them follows.
    DataMissing {
        /// The start of the time that is missing.
        start: Option<u32>,
        /// The end of the time that is missing; `None` if the server did not send it.
        end: Option<u32>,
    },
    /// The connection of the active query is alive, and no binding has changed.
    Alive,
    /// The server sent a status without a meaning for the query.
    Status(Status),
    /// The connection of the active query was lost or could not be established. The next one catches up.
    Lost {
        /// The reason.
        failure: Failure,
        /// The time until the next attempt.
        retry: Duration,
    },
    /// A bulk query failed. It is sent again.
    Unanswered {
        /// The reason.
        failure: Failure,
        /// The time until the next attempt.
        retry: Duration,
    },
    /// The server does not support Active Leasequery, or not for this requester: bulk queries at an
    /// interval return the changes.
    NoActive {
        /// The reason.
        failure: Failure,
        /// The time between two queries.
        interval: Duration,
    },
}

/// The reason why a query ended.
#[derive(Debug, Error)]
pub enum Failure {
    /// The connection could not be established or failed.
    #[error(transparent)]
    Connection(#[from] client::Error),
    /// The connection of an active query ended, or failed.
    #[error(transparent)]
    Active(#[from] active::Error),
    /// The server ended the active query.
    #[error("the server ended the query: {}", .0.status)]
    Ended(Box<Report>),
    /// The server ended the bulk query with a status other than Success.
    #[error("the server ended the query: {0}")]
    Refused(Status),
    /// The server sends no base-time, so no later query can go on from its answer.
    #[error("the server sent no base-time, so its changes cannot be queried")]
    NoBaseTime,
}

impl Failure {
    /// Whether the same query fails again, unless the server or the requester is configured in another
    /// way.
    pub fn is_permanent(&self) -> bool {
        match self {
            Failure::Connection(error) => match error {
                client::Error::Tls(error) => {
                    !matches!(error, tls::Error::Closed | tls::Error::NoAnswer(_))
                }
                client::Error::Source { .. } | client::Error::Invalid(_) => true,
                _ => false,
            },
            Failure::Active(_) | Failure::Ended(_) => false,
            Failure::Refused(status) => matches!(
                status.code,
                StatusCode::NOT_ALLOWED | StatusCode::MALFORMED_QUERY
            ),
            Failure::NoBaseTime => true,
        }
    }

    /// Whether the server refuses active queries, by the query's end without a reply or by a status. A
    /// server that `is_known` to support them does so by a status alone.
    pub(super) fn is_refusal_of_active(&self, is_known: bool) -> bool {
        match self {
            Failure::Ended(report) => matches!(
                report.status.code,
                StatusCode::NOT_ALLOWED | StatusCode::MALFORMED_QUERY
            ),
            Failure::Active(error) => !is_known && !error.has_reply(),
            Failure::Connection(_) | Failure::Refused(_) | Failure::NoBaseTime => false,
        }
    }
}
