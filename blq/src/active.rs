//! Active Leasequery (RFC 7724): the changes of bindings, as they happen.
//!
//! An [`ActiveStream`] sends an [`ActiveQuery`] on a [`Connection`] of its own and returns each
//! [`ActiveReply`] as it arrives, until the server or the caller ends it. [`watch`](crate::watch) keeps on
//! over lost connections.

use std::net::Ipv4Addr;
use std::time::Duration;

use thiserror::Error;

use crate::binding::{Binding, Done, MalformedReply, Status, reply_type};
use crate::client::{self, Connection};
use crate::query::{DEFAULT_PARAMETERS, InvalidQuery, next_xid};
use crate::wire::{BOOTREQUEST, Message, MessageType, StatusCode, Vss, code, frame};

pub use proto::timing::{ACTIVE_LQ_IDLE_TIMEOUT, ACTIVE_LQ_RCV_TIMEOUT};

// ------------ Query -----------------------------------------------------------------------

/// A DHCPACTIVELEASEQUERY (RFC 7724 section 7.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ActiveQuery {
    /// Transaction id, unique on the connection.
    pub xid: u32,
    /// query-start-time: also requests the bindings changed at or after it, the catch-up; seconds since
    /// 1970 by the server's clock.
    pub start: Option<u32>,
    /// VPN-ID: selects bindings of a VPN, or of all; the default VPN without it.
    pub vpn: Option<Vss>,
    /// Codes of the options requested in replies; without it the server chooses.
    pub parameter_request_list: Option<Vec<u8>>,
}

impl ActiveQuery {
    /// Returns a query for the default VPN from `start` on, with a unique `xid` and the
    /// [`DEFAULT_PARAMETERS`].
    pub fn new(start: Option<u32>) -> ActiveQuery {
        ActiveQuery {
            xid: next_xid(),
            start,
            vpn: None,
            parameter_request_list: Some(DEFAULT_PARAMETERS.to_vec()),
        }
    }

    /// Returns the query as a message, without ciaddr, chaddr and client identifier (RFC 7724 section
    /// 7.3).
    pub fn to_message(&self) -> Message {
        let mut message = Message::new(BOOTREQUEST, self.xid, MessageType::ACTIVE_LEASE_QUERY);
        if let Some(codes) = &self.parameter_request_list {
            message = message.with(code::PARAMETER_REQUEST_LIST, codes.clone());
        }
        if let Some(start) = self.start {
            message = message.with(code::QUERY_START_TIME, start.to_be_bytes());
        }
        match &self.vpn {
            Some(vpn) => message.with(code::VPN_ID, vpn.encode()),
            None => message,
        }
    }

    /// Encodes the query with its message-size.
    ///
    /// # Errors
    /// The message is too long to be framed.
    pub fn to_bytes(&self) -> Result<Vec<u8>, InvalidQuery> {
        Ok(frame(&self.to_message().encode())?)
    }
}

// ------------ Replies ---------------------------------------------------------------------

/// A message of an active query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ActiveReply {
    /// DHCPLEASEACTIVE or DHCPLEASEUNASSIGNED: the binding of an address, which changed.
    Binding(Box<Binding>),
    /// DHCPLEASEQUERYSTATUS, or DHCPLEASEQUERYDONE as some servers send instead.
    Status(Report),
    /// A DHCPLEASEACTIVE without an address: some servers send it instead of ConnectionActive.
    Keepalive {
        /// base-time, in seconds since 1970 by the server's clock.
        base_time: Option<u32>,
    },
}

/// The status of an active query (RFC 7724 section 7.4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The status; Success without a text if the server sent none.
    pub status: Status,
    /// base-time: the time of the message, in seconds since 1970 by the server's clock.
    pub base_time: Option<u32>,
    /// The server identifier of this message, or of the first reply to the query.
    pub server_identifier: Option<Ipv4Addr>,
    /// Whether the query has ended with this message. The server closes the connection.
    pub is_last: bool,
}

impl ActiveReply {
    /// Decodes a message as a reply to an active query.
    ///
    /// # Errors
    /// The message has a field or option that RFC 7724 does not allow in a reply.
    pub fn decode(message: &Message) -> Result<ActiveReply, MalformedReply> {
        let message_type = reply_type(message)?;
        match message_type {
            MessageType::LEASE_ACTIVE | MessageType::LEASE_UNASSIGNED => {
                let binding = Binding::decode(message, message_type)?;
                if !binding.address.is_unspecified() {
                    return Ok(ActiveReply::Binding(Box::new(binding)));
                }
                match message_type {
                    MessageType::LEASE_ACTIVE => Ok(ActiveReply::Keepalive {
                        base_time: binding.base_time,
                    }),
                    _ => Err(MalformedReply::NoAddress),
                }
            }
            MessageType::LEASE_QUERY_STATUS | MessageType::LEASE_QUERY_DONE => {
                let is_done = message_type == MessageType::LEASE_QUERY_DONE;
                Ok(ActiveReply::Status(Report::new(
                    Done::decode(message)?,
                    is_done,
                )))
            }
            other => Err(MalformedReply::ActiveMessageType(other)),
        }
    }

    /// Returns the base-time of the message.
    pub fn base_time(&self) -> Option<u32> {
        match self {
            ActiveReply::Binding(binding) => binding.base_time,
            ActiveReply::Status(report) => report.base_time,
            ActiveReply::Keepalive { base_time } => *base_time,
        }
    }

    /// Sets the server identifier to that of the first reply if this one has none, and returns it.
    fn apply_server_identifier(&mut self, cached: Option<Ipv4Addr>) -> Option<Ipv4Addr> {
        let identifier = match self {
            ActiveReply::Binding(binding) => &mut binding.server_identifier,
            ActiveReply::Status(report) => &mut report.server_identifier,
            ActiveReply::Keepalive { .. } => return cached,
        };
        *identifier = identifier.or(cached);
        *identifier
    }
}

impl Report {
    /// Returns the report in the options of a DHCPLEASEQUERYSTATUS, or of a DHCPLEASEQUERYDONE.
    fn new(options: Done, is_done: bool) -> Report {
        let status = options.status.unwrap_or(Status {
            code: StatusCode::SUCCESS,
            text: String::new(),
        });
        let goes_on = match status.code {
            // RFC 7724 section 7.4.1: the query goes on after these.
            StatusCode::DATA_MISSING
            | StatusCode::CONNECTION_ACTIVE
            | StatusCode::CATCH_UP_COMPLETE => true,
            StatusCode::UNSPEC_FAIL
            | StatusCode::QUERY_TERMINATED
            | StatusCode::MALFORMED_QUERY
            | StatusCode::NOT_ALLOWED
            | StatusCode::TLS_CONNECTION_REFUSED => false,
            // Success, and codes that were assigned later: a server that ends the query closes the
            // connection.
            _ => !is_done,
        };
        Report {
            status,
            base_time: options.base_time,
            server_identifier: options.server_identifier,
            is_last: !goes_on,
        }
    }
}

// ------------ Connection ------------------------------------------------------------------

/// An active query in progress, alone on its connection (RFC 7724 section 8.3).
///
/// Dropping it closes the connection.
#[derive(Debug)]
pub struct ActiveStream {
    /// The connection.
    connection: Connection,
    /// The xid of the query.
    xid: u32,
    /// The server identifier of the first reply, which later ones inherit (RFC 6926 section 7.3).
    server_identifier: Option<Ipv4Addr>,
    /// Whether a reply has arrived.
    has_reply: bool,
    /// Whether the query has ended.
    has_ended: bool,
}

impl ActiveStream {
    /// Sends a query. `receive_timeout` is ACTIVE_LQ_RCV_TIMEOUT, the longest time without a message of
    /// the server; > 0. Values below [`ACTIVE_LQ_RCV_TIMEOUT`] are not recommended (RFC 7724 section
    /// 5.3). The timeout for sending stays that of the connection.
    ///
    /// # Errors
    /// Another query is in progress on the connection, the query cannot be encoded, or the connection is
    /// broken or stays blocked.
    pub fn start(
        mut connection: Connection,
        query: &ActiveQuery,
        receive_timeout: Duration,
    ) -> Result<ActiveStream, client::Error> {
        if connection.outstanding() > 0 {
            return Err(client::Error::Busy(connection.outstanding()));
        }
        let octets = query.to_bytes()?;
        connection.set_read_timeout(receive_timeout)?;
        connection.send_octets(&octets)?;
        Ok(ActiveStream {
            connection,
            xid: query.xid,
            server_identifier: None,
            has_reply: false,
            has_ended: false,
        })
    }

    /// Waits for the next message; `None` after a [`Report`] that was the last message.
    ///
    /// # Errors
    /// The connection ends, breaks or stays silent for the receive timeout, or the server violates the
    /// protocol. The connection is then closed. Bindings received before stay valid.
    pub fn next_reply(&mut self) -> Result<Option<ActiveReply>, Error> {
        if self.has_ended {
            return Ok(None);
        }
        let reply = self.read();
        match &reply {
            Ok(ActiveReply::Status(report)) if report.is_last => self.end(),
            Ok(_) => {}
            Err(_) => self.end(),
        }
        self.has_reply |= reply.is_ok();
        reply.map(Some)
    }

    /// Reads and decodes a message.
    fn read(&mut self) -> Result<ActiveReply, Error> {
        let has_reply = self.has_reply;
        let message = match self.connection.next_message() {
            Ok(Some(message)) => message,
            Ok(None) => return Err(Error::Closed { has_reply }),
            Err(error) => return Err(Error::Connection { error, has_reply }),
        };
        let failed = |error| Error::Connection { error, has_reply };
        let mut reply =
            ActiveReply::decode(&message).map_err(|error| failed(client::Error::from(error)))?;
        // A keepalive without an address says nothing that an xid could make wrong.
        let is_keepalive = matches!(reply, ActiveReply::Keepalive { .. });
        if message.xid != self.xid && !is_keepalive {
            return Err(failed(client::Error::UnknownXid(message.xid)));
        }
        self.server_identifier = reply.apply_server_identifier(self.server_identifier);
        Ok(reply)
    }

    /// Closes the connection after the end of the query.
    fn end(&mut self) {
        self.has_ended = true;
        self.connection.close();
    }

    /// Whether [`ActiveStream::next_reply`] may block: no whole message has been received.
    pub fn may_wait(&self) -> bool {
        !self.has_ended && self.connection.may_wait()
    }

    /// Returns the connection.
    pub fn connection(&self) -> &Connection {
        &self.connection
    }
}

/// Iterates over the replies; ends after the last message of the query or the first error.
impl Iterator for ActiveStream {
    type Item = Result<ActiveReply, Error>;

    fn next(&mut self) -> Option<Result<ActiveReply, Error>> {
        self.next_reply().transpose()
    }
}

/// The reason why an active query ended without a status.
#[derive(Debug, Error)]
pub enum Error {
    /// The server closed the connection. Without a reply before, it may not support Active Leasequery,
    /// or not on a connection without TLS (RFC 7724 section 8.1.1).
    #[error("the server closed the connection{}", match has_reply {
        true => "",
        false => " without a reply to DHCPACTIVELEASEQUERY",
    })]
    Closed {
        /// Whether the server had replied to the query.
        has_reply: bool,
    },
    /// The connection failed or stayed silent, or the server violated the protocol.
    #[error("{error}")]
    Connection {
        /// The failure.
        #[source]
        error: client::Error,
        /// Whether the server had replied to the query.
        has_reply: bool,
    },
}

impl Error {
    /// Whether the server had replied to the query.
    pub fn has_reply(&self) -> bool {
        match self {
            Error::Closed { has_reply } | Error::Connection { has_reply, .. } => *has_reply,
        }
    }
}

// ------------ Tests -----------------------------------------------------------------------

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::BOOTREPLY;
    use proptest::prelude::*;

    /// Returns a message with a status.
    fn status(message_type: MessageType, value: &[u8]) -> Message {
        Message::new(BOOTREPLY, 1, message_type).with(code::STATUS_CODE, value)
    }

    /// Returns the report in a message.
    fn report(message: &Message) -> Report {
        match ActiveReply::decode(message) {
            Ok(ActiveReply::Status(report)) => report,
            other => panic!("{other:?}"),
        }
    }

    /// RFC 7724 section 7.3: no ciaddr, chaddr and client identifier; the other parts as in a bulk
    /// query.
    #[test]
    fn has_no_field_that_is_not_allowed() {
        let query = ActiveQuery {
            vpn: Some(Vss::All),
            ..ActiveQuery::new(Some(0x0102_0304))
        };
        let message = query.to_message();
        assert_eq!((message.op, message.xid), (1, query.xid));
        assert_eq!((message.htype, message.hlen), (0, 0));
        assert_eq!((message.ciaddr.to_bits(), message.chaddr), (0, [0; 16]));
        let codes: Vec<u8> = message.options.iter().map(|(code, _)| *code).collect();
        assert_eq!(codes, [53, 55, 154, 221]);
        assert_eq!(message.option(53), Some(vec![16]));
        assert_eq!(message.option(154), Some(vec![1, 2, 3, 4]));
        assert_eq!(message.option(221), Some(vec![254]));
        let bare = ActiveQuery {
            parameter_request_list: None,
            ..ActiveQuery::new(None)
        };
        assert_eq!(bare.to_message().options, [(53, vec![16])]);
    }

    /// RFC 7724 sections 7.4 and 7.4.1: the codes after which the query goes on.
    #[test]
    fn distinguishes_the_end_from_other_statuses() {
        for (value, is_last) in [(0, false), (5, false), (6, false), (7, false), (99, false)]
            .into_iter()
            .chain([(1, true), (2, true), (3, true), (4, true), (8, true)])
        {
            let message = status(MessageType::LEASE_QUERY_STATUS, &[value, b'x']);
            let report = report(&message.with(152, [0, 0, 1, 0]));
            assert_eq!(report.is_last, is_last, "{value}");
            assert_eq!(report.status.code, StatusCode(value));
            assert_eq!(report.status.text, "x");
            assert_eq!(report.base_time, Some(256));
        }
    }

    /// RFC 7724 sections 7.1 and 7.4.1 call the message DHCPLEASEQUERYDONE.
    #[test]
    fn accepts_done_for_status() {
        let done = MessageType::LEASE_QUERY_DONE;
        assert!(!report(&status(done, &[7])).is_last);
        assert!(report(&status(done, &[2])).is_last);
        let bare = report(&Message::new(BOOTREPLY, 1, done));
        assert!(bare.is_last);
        assert_eq!(bare.status.code, StatusCode::SUCCESS);
    }

    /// A server without DHCPLEASEQUERYSTATUS shows by an empty DHCPLEASEACTIVE that it is there.
    #[test]
    fn accepts_an_empty_active_lease_as_keepalive() {
        let message = Message::new(BOOTREPLY, 1, MessageType::LEASE_ACTIVE);
        let keepalive = |base_time| Ok(ActiveReply::Keepalive { base_time });
        assert_eq!(ActiveReply::decode(&message), keepalive(None));
        let message = message.with(152, [0, 0, 0, 9]);
        assert_eq!(ActiveReply::decode(&message), keepalive(Some(9)));
    }

    /// RFC 7724 section 7.4: a non-zero ciaddr, and the types of a reply.
    #[test]
    fn refuses_messages_that_are_not_replies() {
        let mut request = status(MessageType::LEASE_QUERY_STATUS, &[7]);
        request.op = 1;
        for message in [
            request,
            Message::new(BOOTREPLY, 1, MessageType::LEASE_UNASSIGNED),
            Message::new(BOOTREPLY, 1, MessageType::LEASE_UNKNOWN),
            Message::new(BOOTREPLY, 1, MessageType::TLS),
            Message::default(),
            status(MessageType::LEASE_QUERY_STATUS, &[]),
            status(MessageType::LEASE_QUERY_STATUS, &[7]).with(152, [1, 2]),
        ] {
            assert!(ActiveReply::decode(&message).is_err(), "{message:?}");
        }
    }

    proptest! {
        /// A server controls every octet: no octets make the decoder panic.
        #[test]
        fn survives_any_reply(
            message_type in 10_u8..19,
            hlen in any::<u8>(),
            ciaddr in any::<u32>(),
            options in prop::collection::vec(
                (any::<u8>(), prop::collection::vec(any::<u8>(), 0..9)), 0..20),
        ) {
            let mut message = Message::new(BOOTREPLY, 1, MessageType(message_type));
            message.hlen = hlen;
            message.ciaddr = ciaddr.into();
            message.options.extend(options);
            if let Ok(reply) = ActiveReply::decode(&message) {
                reply.base_time();
            }
        }

        /// Any octets with a valid header are a reply or an error.
        #[test]
        fn survives_any_options(octets in prop::collection::vec(any::<u8>(), 0..300)) {
            let mut message = Message::new(BOOTREPLY, 1, MessageType::LEASE_QUERY_STATUS).encode();
            message.pop();
            message.extend(octets);
            if let Ok(message) = Message::decode(&message) {
                let _ = ActiveReply::decode(&message);
            }
        }
    }
}
