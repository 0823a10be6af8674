//! Extracts client info from a client's message.

use std::cell::RefCell;
use std::sync::Arc;

use proto::option::code;

use crate::mirror::event::ClientInfo;
use crate::model::option::RawOption;
use crate::model::relay_agent_information;
use crate::wire::Reader;
use crate::wire::options::Tlvs;

/// Whether an option of a client's message is stored: one by which a client describes itself, for requesters
/// that request it (RFC 6926 section 8.3 item 7, RFC 4388 section 6.7).
fn is_stored(code: u8) -> bool {
    matches!(
        code,
        code::HOST_NAME
            | code::VENDOR_SPECIFIC
            | code::PARAMETER_REQUEST_LIST
            | code::MAX_MESSAGE_SIZE
            | code::VENDOR_CLASS
            | code::USER_CLASS
            | code::CLIENT_FQDN
            | code::CLIENT_ARCHITECTURE
            | code::CLIENT_NDI
            | code::CLIENT_UUID
            | code::AUTO_CONFIGURE
            | code::VI_VENDOR_CLASS
            | code::VI_VENDOR_SPECIFIC
    )
}

/// The maximum total length of the stored option values of one client, in octets: it bounds the memory that
/// a client can occupy. Options that no longer fit are omitted.
pub const MAX_STORED_OCTETS: usize = 2_048;

/// A client's message as far as Kea does not put it into the lease.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClientMessage<'a> {
    /// The options field as received.
    pub options: &'a [u8],
    /// The value of option 82 as Kea took it from a message that a relay agent forwarded; empty if there is
    /// none.
    pub relay_agent_information: &'a [u8],
    /// The client classes in Kea's order: for each the length of its name (2 octets, network byte order) and
    /// the name.
    pub classes: &'a [u8],
}

impl ClientMessage<'_> {
    /// Returns the client info of the message.
    pub fn client_info(&self) -> ClientInfo {
        let information = self.relay_agent_information;
        let is_stored = (1..=relay_agent_information::MAX_LENGTH).contains(&information.len());
        ClientInfo {
            relay_agent_information: is_stored.then(|| information.to_vec()),
            options: stored_options(self.options),
            classes: classes(self.classes),
        }
    }
}

thread_local! {
    /// The classes that this thread read last: most messages are in the same.
    static CLASSES: RefCell<(Vec<u8>, Arc<[String]>)> = RefCell::default();
}

/// Returns the names of classes.
fn classes(octets: &[u8]) -> Arc<[String]> {
    CLASSES.with_borrow_mut(|(known, names)| {
        if known != octets {
            let mut reader = Reader::new(octets);
            let name = || {
                let length = reader.u16().ok()?;
                let name = reader.octets(length.into()).ok()?;
                Some(String::from_utf8_lossy(name).into_owned())
            };
            *names = std::iter::from_fn(name).collect();
            octets.clone_into(known);
        }
        Arc::clone(names)
    })
}

/// Returns the options of a client's message that are stored, ascending by code.
///
/// Kea has served the client, so the options are parsed as leniently as Kea does: the options field alone,
/// regardless of option 52 (overload), up to the first option that runs past the end.
fn stored_options(field: &[u8]) -> Vec<RawOption> {
    let mut stored: Vec<RawOption> = Vec::new();
    for (code, value) in Tlvs::options(field).map_while(Result::ok) {
        // Kea ignores an empty host name.
        if !is_stored(code) || (code == code::HOST_NAME && value.is_empty()) {
            continue;
        }
        match stored.iter_mut().find(|known| known.code == code) {
            // The pieces of a long option (RFC 3396 section 7).
            Some(known) => known.value.extend_from_slice(value),
            None => stored.push(RawOption {
                code,
                value: value.to_vec(),
            }),
        }
    }
    stored.sort_unstable_by_key(|option| option.code);
    let mut room = MAX_STORED_OCTETS;
    stored.retain(|option| {
        let left = room.checked_sub(option.value.len());
        room = left.unwrap_or(room);
        left.is_some()
    });
    stored
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::wire::message::{Message, options_field};
    use proto::message::MAGIC_COOKIE;

    /// Returns a message with these octets in the fields sname and file, and in the options field.
    fn message(sname_and_file: &[u8], options: &[u8]) -> Vec<u8> {
        let mut packet = vec![0; 44];
        packet.extend(sname_and_file);
        packet.resize(236, 0);
        packet.extend(MAGIC_COOKIE);
        packet.extend(options);
        packet
    }

    /// The options stored of a message.
    fn stored_of(packet: &[u8]) -> Vec<RawOption> {
        stored_options(options_field(packet).unwrap_or_default())
    }

    /// An options field without an end, long options in pieces.
    fn field(options: &[(u8, &[u8])]) -> Vec<u8> {
        let mut field = Vec::new();
        for (code, value) in options {
            for piece in value.chunks(255) {
                field.extend([*code, piece.len() as u8]);
                field.extend(piece);
            }
        }
        field
    }

    /// Returns the codes and lengths of stored options.
    fn lengths(stored: &[RawOption]) -> Vec<(u8, usize)> {
        let stored = stored.iter();
        stored
            .map(|option| (option.code, option.value.len()))
            .collect()
    }

    /// Returns options with these codes and values.
    fn options(expected: &[(u8, &[u8])]) -> Vec<RawOption> {
        let expected = expected.iter();
        let option = |(code, value): &(u8, &[u8])| RawOption {
            code: *code,
            value: value.to_vec(),
        };
        expected.map(option).collect()
    }

    #[test]
    fn stores_options_that_describe_the_client_ascending_by_code() {
        let field = field(&[
            (code::MESSAGE_TYPE, &[3]),
            (code::VENDOR_CLASS, b"vendor"),
            (code::RELAY_AGENT_INFORMATION, &[2, 1, 7]),
            (code::HOST_NAME, b"host"),
            (code::VENDOR_CLASS, b"more"),
        ]);
        let expected = options(&[(12, b"host"), (60, b"vendormore")]);
        assert_eq!(stored_of(&message(&[], &field)), expected);
    }

    #[test]
    fn omits_options_that_no_longer_fit() {
        let long = [7; 1_500];
        let field = field(&[
            (code::CLIENT_UUID, &[1; 500]),
            (code::USER_CLASS, &long),
            (code::VENDOR_CLASS, &long),
        ]);
        let client_info = ClientMessage {
            options: &field,
            relay_agent_information: &[0; 4_097],
            classes: &[],
        }
        .client_info();
        assert_eq!(lengths(&client_info.options), [(60, 1_500), (97, 500)]);
        assert_eq!(client_info.relay_agent_information, None);
    }

    #[test]
    fn takes_option_82_from_kea_alone() {
        let options = field(&[(code::RELAY_AGENT_INFORMATION, &[2, 1, 7])]);
        let information = |taken: &[u8]| {
            let message = ClientMessage {
                options: &options,
                relay_agent_information: taken,
                classes: &[],
            };
            message.client_info().relay_agent_information
        };
        assert_eq!(information(&[2, 1, 8]), Some(vec![2, 1, 8]));
        assert_eq!(information(&[]), None);
    }

    #[test]
    fn reads_classes_by_their_lengths() {
        let read = |octets: &[u8]| classes(octets).to_vec();
        assert_eq!(read(b"\0\x03ALL\0\0\0\x02a\xff"), ["ALL", "", "a\u{fffd}"]);
        assert_eq!(read(b"\0\x03ALL"), ["ALL"]);
        assert_eq!(read(b"\0\x03ALL\0\x04KNO"), ["ALL"]);
        assert_eq!(read(b""), [""; 0]);
    }

    #[test]
    fn reads_the_options_field_alone() {
        let overloaded = field(&[(code::OVERLOAD, &[3]), (code::VENDOR_CLASS, b"vendor")]);
        let elsewhere = field(&[(code::HOST_NAME, b"no"), (code::VENDOR_CLASS, b"no")]);
        let sname_and_file = elsewhere.repeat(19);
        let expected = options(&[(60, b"vendor")]);
        assert_eq!(stored_of(&message(&sname_and_file, &overloaded)), expected);
    }

    #[test]
    fn stores_options_before_a_malformed_tail() {
        let whole = field(&[(code::HOST_NAME, b"host"), (code::VENDOR_CLASS, b"vendor")]);
        let expected = options(&[(12, b"host"), (60, b"vendor")]);
        for tail in [
            &[][..],
            &[code::PAD],
            &[code::END, code::HOST_NAME, 1, 7],
            &[code::HOST_NAME],
            &[code::HOST_NAME, 0x20, b'a', b'b', b'c'],
            &[code::RELAY_AGENT_INFORMATION, 255, code::END],
        ] {
            let packet = message(&[], &[&whole[..], tail].concat());
            assert_eq!(stored_of(&packet), expected, "{tail:?}");
        }
    }

    #[test]
    fn ignores_an_empty_host_name_as_kea_does() {
        let empty = [code::HOST_NAME, 0, code::USER_CLASS, 0];
        assert_eq!(stored_of(&message(&[], &empty)), options(&[(77, b"")]));
    }

    #[test]
    fn stores_no_options_of_an_incomplete_message() {
        let whole = message(&[], &field(&[(code::HOST_NAME, b"host")]));
        for length in 0..=240 {
            assert_eq!(stored_of(&whole[..length]), [], "{length} octets");
        }
        assert_eq!(stored_of(&[0; 300]), []);
    }

    /// Options that are stored and others, except option overload.
    fn any_options() -> impl Strategy<Value = Vec<(u8, Vec<u8>)>> {
        let stored: Vec<u8> = (0..=u8::MAX).filter(|code| is_stored(*code)).collect();
        let stored = proptest::sample::select(stored);
        let other = (1..=254u8).prop_filter("not followed", |code| *code != code::OVERLOAD);
        vec((prop_oneof![stored, other], vec(any::<u8>(), 1..300)), 0..8)
    }

    proptest! {
        /// The strict reader is for the server's peers; well-formed options mean the same in both.
        #[test]
        fn agrees_with_the_strict_reader_on_well_formed_messages(
            sent in any_options(),
            sname_and_file in vec(any::<u8>(), 0..192),
            is_ended in any::<bool>(),
        ) {
            let sent: Vec<_> = sent.iter().map(|(code, value)| (*code, &value[..])).collect();
            let mut field = field(&sent);
            if is_ended {
                field.extend([code::END, code::HOST_NAME, 1, b'x']);
            }
            let packet = message(&sname_and_file, &field);
            let strict = Message::read(&packet).unwrap();
            let stored = stored_of(&packet);
            for option in &stored {
                prop_assert_eq!(strict.options.value(option.code), Some(&option.value[..]));
            }
            let mut codes: Vec<_> = stored.iter().map(|option| option.code).collect();
            prop_assert!(codes.is_sorted());
            codes.dedup();
            prop_assert_eq!(codes.len(), stored.len());
            let total: usize = stored.iter().map(|option| option.value.len()).sum();
            prop_assert!(total <= MAX_STORED_OCTETS);
            let left_out = strict.options.iter().filter(|option| {
                is_stored(option.code) && !codes.contains(&option.code)
            });
            for option in left_out {
                prop_assert!(total + option.value.len() > MAX_STORED_OCTETS);
            }
        }

        /// The options before a malformed tail are stored.
        #[test]
        fn a_malformed_tail_does_not_remove_options(
            sent in any_options(),
            code in 1..=254u8,
            missing in 1..=255u8,
            tail in vec(any::<u8>(), 0..255),
        ) {
            let sent: Vec<_> = sent.iter().map(|(code, value)| (*code, &value[..])).collect();
            let whole = field(&sent);
            let length = (tail.len() + usize::from(missing)).min(255) as u8;
            prop_assume!(usize::from(length) > tail.len());
            let broken = [&whole[..], &[code, length], &tail].concat();
            prop_assert_eq!(stored_of(&message(&[], &broken)), stored_of(&message(&[], &whole)));
        }

        #[test]
        fn reads_any_octets(packet in vec(any::<u8>(), 0..600), is_message in any::<bool>()) {
            let packet = if is_message { message(&[], &packet) } else { packet };
            let _ = stored_of(&packet);
        }
    }
}
