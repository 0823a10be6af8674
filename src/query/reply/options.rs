//! The options of a reply: the requested ones that the requester may receive.

use std::fmt;

use proto::option::code;

/// Sent where known without a dhcp-parameter-request-list: the options that every requester needs to
/// make use of a binding.
const DEFAULT_OPTIONS: [u8; 9] = [
    code::LEASE_TIME,
    code::RENEWAL_TIME,
    code::REBINDING_TIME,
    code::CLIENT_IDENTIFIER,
    code::RELAY_AGENT_INFORMATION,
    code::CLIENT_LAST_TRANSACTION_TIME,
    code::BASE_TIME,
    code::START_TIME_OF_STATE,
    code::DHCP_STATE,
];

/// Whether a list cannot ask for an option: the protocol decides about it, or it has no value.
fn is_decided_by_protocol(option: u8) -> bool {
    matches!(
        option,
        code::PAD
            | code::OVERLOAD
            | code::MESSAGE_TYPE
            | code::SERVER_IDENTIFIER
            | code::ASSOCIATED_IP
            | code::STATUS_CODE
            | code::QUERY_START_TIME
            | code::QUERY_END_TIME
            | code::VPN_ID
            | code::END
    )
}

/// Whether a requested option must not be withheld as sensitive.
///
/// RFC 4388 section 6.4.2: a server MUST return 51 and 82, and 58 and 59 "MUST be handled like" 51.
/// RFC 6926 section 8.3: it MUST return 91, 152, 153 and 157 (items 2, 3, 5 and 6) and SHOULD return
/// 156 (item 1), which details the message type. The other options that it SHOULD return are about
/// the client; `non-sensitive-options` decides about them.
fn is_mandatory(option: u8) -> bool {
    matches!(
        option,
        code::LEASE_TIME
            | code::RENEWAL_TIME
            | code::REBINDING_TIME
            | code::RELAY_AGENT_INFORMATION
            | code::CLIENT_LAST_TRANSACTION_TIME
            | code::BASE_TIME
            | code::START_TIME_OF_STATE
            | code::DATA_SOURCE
            | code::DHCP_STATE
    )
}

/// The options to send about each address, chosen once for a query, in the requested order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplyOptions(Vec<ReplyOption>);

/// An option of replies, by the source of its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplyOption {
    /// An option with a number of seconds: its code, and its index in [`SECONDS`].
    Seconds(u8, usize),
    /// dhcp-state.
    State,
    /// data-source.
    DataSource,
    /// An option of any other code, which the client or the server sent to the other.
    Sent(u8),
}

/// The options whose values are numbers of seconds.
pub const SECONDS: [u8; 6] = [
    code::BASE_TIME,
    code::START_TIME_OF_STATE,
    code::CLIENT_LAST_TRANSACTION_TIME,
    code::LEASE_TIME,
    code::RENEWAL_TIME,
    code::REBINDING_TIME,
];

impl ReplyOption {
    /// Returns the option of a code.
    fn new(option: u8) -> ReplyOption {
        match option {
            code::DHCP_STATE => ReplyOption::State,
            code::DATA_SOURCE => ReplyOption::DataSource,
            _ => match SECONDS.iter().position(|seconds| *seconds == option) {
                Some(index) => ReplyOption::Seconds(option, index),
                None => ReplyOption::Sent(option),
            },
        }
    }
}

impl ReplyOptions {
    /// Returns the options that a query asks for, or the default ones without a list, each once.
    ///
    /// Leaves out options that are neither `non_sensitive` (RFC 4388 section 6.4.2) nor mandatory.
    pub fn new(requested: Option<&[u8]>, non_sensitive: impl Fn(u8) -> bool) -> ReplyOptions {
        let mut options = Vec::with_capacity(DEFAULT_OPTIONS.len());
        for &option in requested.unwrap_or(&DEFAULT_OPTIONS) {
            let new = ReplyOption::new(option);
            let is_allowed = is_mandatory(option) || non_sensitive(option);
            if is_allowed && !is_decided_by_protocol(option) && !options.contains(&new) {
                options.push(new);
            }
        }
        ReplyOptions(options)
    }

    /// Returns these options with base-time.
    pub fn with_base_time(mut self) -> ReplyOptions {
        let base_time = ReplyOption::new(code::BASE_TIME);
        if !self.0.contains(&base_time) {
            self.0.push(base_time);
        }
        self
    }

    /// Iterates over the options in their order.
    pub fn iter(&self) -> impl Iterator<Item = ReplyOption> {
        self.0.iter().copied()
    }
}

/// The codes of a parameter request list, for the log.
pub struct Codes<'a>(pub &'a [u8]);

impl fmt::Display for Codes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, code) in self.0.iter().enumerate() {
            write!(f, "{}{code}", if index == 0 { "" } else { "+" })?;
        }
        Ok(())
    }
}

/// Whether the messages of an answer carry base-time: all of them, or none (RFC 6926 section 8.3 items
/// 2 and 7).
pub fn carry_base_time(requested: Option<&[u8]>) -> bool {
    requested
        .unwrap_or(&DEFAULT_OPTIONS)
        .contains(&code::BASE_TIME)
}
