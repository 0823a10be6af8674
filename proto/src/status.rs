//! Status codes (RFC 6926 section 6.2.2, RFC 7724 section 5.2.2).

use std::fmt;

/// The number in the status-code option, any octet.
///
/// In a DHCPLEASEACTIVE, DHCPLEASEUNASSIGNED or DHCPTLS it is the status of that message; in a
/// DHCPLEASEQUERYDONE or DHCPLEASEQUERYSTATUS, of the whole query.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct StatusCode(pub u8);

impl StatusCode {
    /// Success; also signaled by the absence of the option.
    pub const SUCCESS: StatusCode = StatusCode(0);
    /// Failure, reason unspecified.
    pub const UNSPEC_FAIL: StatusCode = StatusCode(1);
    /// The server cannot perform the query, or ended it early.
    pub const QUERY_TERMINATED: StatusCode = StatusCode(2);
    /// The server did not understand the query.
    pub const MALFORMED_QUERY: StatusCode = StatusCode(3);
    /// The server understood the query but does not allow it in this context.
    pub const NOT_ALLOWED: StatusCode = StatusCode(4);
    /// Bindings of the requested time are not available (RFC 7724).
    pub const DATA_MISSING: StatusCode = StatusCode(5);
    /// The connection remains active without bindings to send (RFC 7724).
    pub const CONNECTION_ACTIVE: StatusCode = StatusCode(6);
    /// All bindings changed since query-start-time have been sent (RFC 7724).
    pub const CATCH_UP_COMPLETE: StatusCode = StatusCode(7);
    /// The server does not allow TLS on the connection (RFC 7724).
    pub const TLS_CONNECTION_REFUSED: StatusCode = StatusCode(8);

    /// Returns the registry's name of the status code, if the code is assigned.
    pub const fn name(self) -> Option<&'static str> {
        Some(match self {
            StatusCode::SUCCESS => "Success",
            StatusCode::UNSPEC_FAIL => "UnspecFail",
            StatusCode::QUERY_TERMINATED => "QueryTerminated",
            StatusCode::MALFORMED_QUERY => "MalformedQuery",
            StatusCode::NOT_ALLOWED => "NotAllowed",
            StatusCode::DATA_MISSING => "DataMissing",
            StatusCode::CONNECTION_ACTIVE => "ConnectionActive",
            StatusCode::CATCH_UP_COMPLETE => "CatchUpComplete",
            StatusCode::TLS_CONNECTION_REFUSED => "TLSConnectionRefused",
            _ => return None,
        })
    }
}

impl fmt::Display for StatusCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name().unwrap_or("unassigned"), self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 6926 section 10, RFC 7724 section 10: assigned values; new ones are shown, not refused.
    #[test]
    fn names_status_codes_as_the_registry_does() {
        let names: Vec<String> = (0..=9).map(|value| StatusCode(value).to_string()).collect();
        let registry = [
            "Success (0)",
            "UnspecFail (1)",
            "QueryTerminated (2)",
            "MalformedQuery (3)",
            "NotAllowed (4)",
            "DataMissing (5)",
            "ConnectionActive (6)",
            "CatchUpComplete (7)",
            "TLSConnectionRefused (8)",
            "unassigned (9)",
        ];
        assert_eq!(names, registry);
    }
}
