//! Status codes (RFC 6926 section 6.2.2).

/// The status of a query, by its value in the status-code option. Success is said by the
/// absence of the option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum StatusCode {
    /// Failure, reason unspecified.
    UnspecFail = 1,
    /// The server cannot perform the query, or ended it early.
    QueryTerminated = 2,
    /// The query was not understood.
    MalformedQuery = 3,
    /// The query was understood but is not allowed in this context.
    NotAllowed = 4,
}
