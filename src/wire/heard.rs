//! What a client's message tells besides what Kea puts into the lease.

use std::sync::Arc;

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

/// Whether a code is one of [`KEPT`].
const IS_KEPT: [bool; 256] = {
    let mut is_kept = [false; 256];
    let mut index = 0;
    while index < KEPT.len() {
        is_kept[KEPT[index] as usize] = true;
        index += 1;
    }
    is_kept
};

/// The most octets kept of one client's options, values together: a client must not make the
/// server remember whatever it likes. Options that no longer fit are left out.
const MAX_KEPT: usize = 2_048;

/// The longest relay agent information kept: room for every sub-option in use at its longest.
/// A longer one is taken as absent.
const MAX_RELAY_AGENT_INFORMATION: usize = 4_096;

/// Reads a client's message as it came to Kea. From one that cannot be read nothing was heard.
pub fn heard(packet: &[u8], classes: Arc<[String]>) -> Heard {
    match Message::read(packet) {
        Ok(message) => heard_of(&message, classes),
        Err(_) => Heard {
            classes,
            ..Heard::default()
        },
    }
}

/// What a client's message told that Kea put into `classes`.
pub fn heard_of(message: &Message<'_>, classes: Arc<[String]>) -> Heard {
    let kept = message.options.iter();
    let kept = kept.filter(|option| IS_KEPT[usize::from(option.code)]);
    let mut options: Vec<_> = kept
        .map(|option| RawOption {
            code: option.code,
            value: option.value.to_vec(),
        })
        .collect();
    options.sort_unstable_by_key(|option| option.code);
    let mut room = MAX_KEPT;
    options.retain(|option| {
        let left = room.checked_sub(option.value.len());
        room = left.unwrap_or(room);
        left.is_some()
    });
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::message::MAGIC_COOKIE;

    /// What a message with these options tells.
    fn heard_in(options: &[(u8, &[u8])]) -> Heard {
        let mut packet = vec![0; 236];
        packet.extend(MAGIC_COOKIE);
        for (code, value) in options {
            for part in value.chunks(255) {
                packet.extend([*code, part.len() as u8]);
                packet.extend(part);
            }
        }
        heard(&packet, Arc::default())
    }

    /// The codes and the lengths of the options kept.
    fn kept(heard: &Heard) -> Vec<(u8, usize)> {
        let options = heard.options.iter();
        options
            .map(|option| (option.code, option.value.len()))
            .collect()
    }

    #[test]
    fn keeps_what_describes_the_client_in_the_order_of_codes() {
        let heard = heard_in(&[
            (code::MESSAGE_TYPE, &[3]),
            (code::VENDOR_CLASS, b"vendor"),
            (code::RELAY_AGENT_INFORMATION, &[2, 1, 7]),
            (code::HOST_NAME, b"host"),
            (code::VENDOR_CLASS, b"more"),
        ]);
        assert_eq!(kept(&heard), [(12, 4), (60, 10)]);
        assert_eq!(heard.options[1].value, b"vendormore");
        assert_eq!(heard.relay_agent_information, Some(vec![2, 1, 7]));
    }

    #[test]
    fn leaves_out_what_no_longer_fits() {
        let long = [7; 1_500];
        let heard = heard_in(&[
            (code::CLIENT_UUID, &[1; 500]),
            (code::USER_CLASS, &long),
            (code::VENDOR_CLASS, &long),
            (code::RELAY_AGENT_INFORMATION, &[0; 4_097]),
        ]);
        assert_eq!(kept(&heard), [(60, 1_500), (97, 500)]);
        assert_eq!(heard.relay_agent_information, None);
    }
}
