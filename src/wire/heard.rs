//! What a client's message tells besides what Kea puts into the lease.

use super::message::Message;
use super::options::code;
use crate::binding::RawOption;
use crate::event::Heard;

/// The options kept from a client's messages: those a client can send to describe itself, for
/// requestors that ask for them (RFC 6926 section 8.3 item 7, RFC 4388 section 6.7).
const KEPT: [u8; 13] = [
    code::HOST_NAME,
    code::VENDOR_SPECIFIC,
    code::PARAMETER_REQUEST_LIST,
    code::MAX_MESSAGE_SIZE,
    code::VENDOR_CLASS,
    code::USER_CLASS,
    code::CLIENT_FQDN,
    code::CLIENT_ARCHITECTURE,
    code::CLIENT_NDI,
    code::CLIENT_UUID,
    code::AUTO_CONFIGURE,
    code::VI_VENDOR_CLASS,
    code::VI_VENDOR_SPECIFIC,
];

/// The most octets kept of one client's options, values together: a client must not make the
/// server remember whatever it likes. Options that no longer fit are left out.
const MAX_KEPT: usize = 2_048;

/// The longest relay agent information kept: room for every sub-option in use at its longest.
/// A longer one is taken as absent.
const MAX_RELAY_AGENT_INFORMATION: usize = 4_096;

/// Reads a client's message as it came to Kea. From one that cannot be read nothing was heard.
pub fn heard(packet: &[u8], classes: Vec<String>) -> Heard {
    let Ok(message) = Message::read(packet) else {
        return Heard {
            classes,
            ..Heard::default()
        };
    };
    let mut room = MAX_KEPT;
    let options = KEPT
        .iter()
        .filter_map(|code| {
            let value = message.options.value(*code)?;
            room = room.checked_sub(value.len())?;
            Some(RawOption {
                code: *code,
                value: value.to_vec(),
            })
        })
        .collect();
    Heard {
        relay_agent_information: message
            .options
            .value(code::RELAY_AGENT_INFORMATION)
            .filter(|value| value.len() <= MAX_RELAY_AGENT_INFORMATION)
            .map(<[u8]>::to_vec),
        options,
        classes,
    }
}
