//! The first message of a connection: whether it starts TLS (RFC 7724 section 8.1).

use proto::message::BOOTREQUEST;
use proto::option::code;
use proto::{MessageType, StatusCode};

use crate::wire::frame::FrameWriter;
use crate::wire::message::Message;
use crate::wire::writer::{MessageWriter, ReplyHeader};

/// Whether a connection may or must be secured by TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// TLS is refused.
    Off,
    /// TLS is started if the requester asks for it.
    Allowed,
    /// No query is read without TLS.
    Required,
}

/// The consequence of the first message of a connection without TLS.
#[derive(Clone, Debug)]
pub enum Step {
    /// The message is not a DHCPTLS, and the connection continues without TLS.
    Plain,
    /// A DHCPTLS: after this reply, octets on the connection are TLS.
    Start(TlsReply),
    /// A DHCPTLS: after this reply, the connection continues without TLS.
    Refuse(TlsReply),
    /// The message is not a DHCPTLS, and TLS is required.
    NotSecured,
}

/// The reply to a DHCPTLS.
#[derive(Clone, Debug)]
pub struct TlsReply {
    /// The header.
    header: ReplyHeader,
    /// Whether TLS is refused.
    is_refused: bool,
}

impl Policy {
    /// Judges the first message of a connection.
    pub fn judge(self, message: &[u8]) -> Step {
        match (self, read(message)) {
            (Policy::Off, Some(header)) => Step::Refuse(TlsReply {
                header,
                is_refused: true,
            }),
            (_, Some(header)) => Step::Start(TlsReply {
                header,
                is_refused: false,
            }),
            (Policy::Required, None) => Step::NotSecured,
            (_, None) => Step::Plain,
        }
    }
}

/// Returns the header of the reply to a DHCPTLS; `None` if the message is another one. All other
/// options are ignored, even broken ones (RFC 7724 section 8.1).
fn read(message: &[u8]) -> Option<ReplyHeader> {
    let (message, _fault) = Message::read_until_fault(message).ok()?;
    let found = message.options.get(code::MESSAGE_TYPE)?;
    let is_tls = *found.value == [MessageType::TLS.0] && found.occurrences == 1;
    (message.op == BOOTREQUEST && is_tls)
        .then(|| ReplyHeader::new(message.xid, message.flags, message.giaddr))
}

impl TlsReply {
    /// Appends the framed DHCPTLS: without a status-code if TLS is started.
    pub fn write(&self, out: &mut Vec<u8>) {
        let frame = FrameWriter::begin(out);
        let mut message = MessageWriter::new(out, &self.header, MessageType::TLS);
        if self.is_refused {
            let text = "TLS is not configured";
            message.status(StatusCode::TLS_CONNECTION_REFUSED, text);
        }
        message.finish();
        frame.finish(out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use proto::message::{FIXED_FIELDS, MAGIC_COOKIE};

    /// Returns a message of type 18 with these further options.
    fn dhcptls(options: &[u8]) -> Vec<u8> {
        let mut octets = vec![0; FIXED_FIELDS];
        octets[0] = BOOTREQUEST;
        octets[4..8].copy_from_slice(&[1, 2, 3, 4]);
        octets.extend(MAGIC_COOKIE);
        octets.extend([code::MESSAGE_TYPE, 1, 18]);
        octets.extend(options);
        octets
    }

    /// Returns the reply as xid, message type and status-code.
    fn written(reply: &TlsReply) -> (u32, u8, Option<u8>) {
        let mut out = Vec::new();
        reply.write(&mut out);
        let size = usize::from(u16::from_be_bytes([out[0], out[1]]));
        assert_eq!(out.len(), 2 + size);
        let message = Message::read(&out[2..]).unwrap();
        let status = message.options.value(code::STATUS_CODE);
        (
            message.xid,
            message.options.value(code::MESSAGE_TYPE).unwrap()[0],
            status.map(|status| status[0]),
        )
    }

    #[test]
    fn answers_a_dhcptls_by_the_policy_and_ignores_its_options() {
        // RFC 7724 section 8.1. A parameter request list, vendor options, an option that is cut.
        for options in [&[][..], &[255], &[55, 2, 51, 151, 43, 1, 0, 255], &[61, 9]] {
            let message = dhcptls(options);
            let Step::Refuse(reply) = Policy::Off.judge(&message) else {
                panic!("{options:?}");
            };
            assert_eq!(written(&reply), (0x0102_0304, 18, Some(8)), "{options:?}");
            for policy in [Policy::Allowed, Policy::Required] {
                let Step::Start(reply) = policy.judge(&message) else {
                    panic!("{options:?}");
                };
                assert_eq!(written(&reply), (0x0102_0304, 18, None), "{options:?}");
            }
        }
    }

    #[test]
    fn other_messages_need_tls_only_if_it_is_required() {
        let mut reply = dhcptls(&[]);
        reply[0] = 2;
        let query = [&dhcptls(&[])[..FIXED_FIELDS + 4], &[53, 1, 14]].concat();
        let twice = dhcptls(&[53, 1, 18]);
        for message in [reply, query, twice, vec![0; 12]] {
            for policy in [Policy::Off, Policy::Allowed] {
                assert!(matches!(policy.judge(&message), Step::Plain));
            }
            assert!(matches!(Policy::Required.judge(&message), Step::NotSecured));
        }
    }

    proptest! {
        #[test]
        fn judging_never_panics(octets in proptest::collection::vec(any::<u8>(), 0..600)) {
            Policy::Allowed.judge(&octets);
            Policy::Allowed.judge(&dhcptls(&octets));
        }
    }
}
