//! Messages of DHCPv4 clients and relay agents, based on `blq`'s [`Message`].
//!
//! `blq` shares no codec with the plugin, so that both do not have the same faults.

use blq::wire::{BOOTREQUEST, CHADDR_LENGTH, hardware_type};
pub use blq::wire::{code, sub_option};
pub use blq::{Message, MessageType};

/// Returns a client's message without options but its type.
pub fn request(message_type: MessageType, xid: u32, chaddr: &[u8]) -> Message {
    Message {
        htype: hardware_type::ETHERNET,
        hlen: u8::try_from(chaddr.len()).expect("at most 16 octets"),
        chaddr: field::<CHADDR_LENGTH>(chaddr),
        ..Message::new(BOOTREQUEST, xid, message_type)
    }
}

/// Reads a message; `None` for other octets.
pub fn decode(octets: &[u8]) -> Option<Message> {
    Message::decode(octets).ok()
}

/// Returns a field of a message that begins with `octets`; zeros follow.
pub fn field<const LENGTH: usize>(octets: &[u8]) -> [u8; LENGTH] {
    let mut field = [0; LENGTH];
    let used = field.get_mut(..octets.len());
    used.expect("no more octets than the field has")
        .copy_from_slice(octets);
    field
}

/// Returns the value of an option of a message; empty if the message has none.
pub fn value(message: &Message, code: u8) -> Vec<u8> {
    message.option(code).unwrap_or_default()
}

/// Returns the value of an option made of sub-options, such as option 82; also options for the
/// [`ending`](Message::ending) of a message.
pub fn sub_options(all: &[(u8, Vec<u8>)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (code, value) in all {
        out.push(*code);
        out.push(u8::try_from(value.len()).expect("at most 255 octets"));
        out.extend(value);
    }
    out
}
