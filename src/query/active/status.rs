//! DHCPLEASEQUERYSTATUS: the status of an active query (RFC 7724 sections 7.4 and 8.2).

use std::net::Ipv4Addr;

use proto::option::code;
use proto::{MessageType, StatusCode};

use crate::model::time::Time;
use crate::wire::frame::FrameWriter;
use crate::wire::writer::{MessageWriter, ReplyHeader};

/// A status of an active query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status<'a> {
    /// The code.
    pub code: StatusCode,
    /// The reason, for the requester's log; empty if the code says everything.
    pub text: &'a str,
    /// The time from which a later query must start to miss no change.
    pub base_time: Time,
}

/// Appends the framed DHCPLEASEQUERYSTATUS with a status. `server_identifier` is for the first message of an answer
/// alone (RFC 6926 section 8.3).
pub fn write(
    out: &mut Vec<u8>,
    header: &ReplyHeader,
    server_identifier: Option<Ipv4Addr>,
    status: &Status<'_>,
) {
    let frame = FrameWriter::begin(out);
    let mut writer = MessageWriter::new(out, header, MessageType::LEASE_QUERY_STATUS);
    if let Some(address) = server_identifier {
        writer.option(code::SERVER_IDENTIFIER, &address.octets());
    }
    writer.option_u32(code::BASE_TIME, status.base_time.0);
    writer.status(status.code, status.text);
    writer.finish();
    frame.finish(out);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::message::Message;

    #[test]
    fn has_its_type_the_base_time_and_the_status() {
        let header = ReplyHeader::new(7, 0x8000, Ipv4Addr::new(192, 0, 2, 1));
        let server = Ipv4Addr::new(192, 0, 2, 67);
        for (server_identifier, text) in [(Some(server), "a reason"), (None, "")] {
            let mut out = Vec::new();
            let status = Status {
                code: StatusCode::DATA_MISSING,
                text,
                base_time: Time(0x0102_0304),
            };
            write(&mut out, &header, server_identifier, &status);
            let size = u16::from_be_bytes([out[0], out[1]]);
            assert_eq!(usize::from(size), out.len() - 2);
            let message = Message::read(&out[2..]).unwrap();
            assert_eq!((message.op, message.xid, message.flags), (2, 7, 0x8000));
            assert_eq!(message.giaddr, Ipv4Addr::new(192, 0, 2, 1));
            assert!(message.ciaddr.is_unspecified());
            let value = |code| message.options.value(code);
            assert_eq!(value(53), Some(&[17][..]));
            assert_eq!(value(152), Some(&[1, 2, 3, 4][..]));
            assert_eq!(value(151), Some(&[&[5], text.as_bytes()].concat()[..]));
            assert_eq!(value(54), server_identifier.map(|_| &[192, 0, 2, 67][..]));
            assert_eq!(
                message.options.iter().count(),
                3 + usize::from(server_identifier.is_some())
            );
        }
    }
}
