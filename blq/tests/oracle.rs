//! The codec against `dhcproto`, an independent one: each decodes the other's messages.

use std::net::Ipv4Addr;

use blq::udp::{Key, LeaseQuery};
use blq::wire::{BOOTREPLY, BOOTREQUEST};
use blq::{Binding, Message, MessageType, Primary, Query, Reply, State, Status, StatusCode, Vss};
use dhcproto::v4::{self, DhcpOption, OptionCode, UnknownOption};
use dhcproto::{Decodable, Encodable};
use proptest::prelude::*;

/// Decodes a message by the oracle.
fn read_by_oracle(octets: &[u8]) -> v4::Message {
    v4::Message::from_bytes(octets).unwrap()
}

/// Encodes an option by the oracle and returns its value, without code and length.
fn value_by_oracle(option: &DhcpOption) -> Vec<u8> {
    let mut octets = option.to_vec().unwrap();
    octets.drain(..2);
    octets
}

/// Any query that RFC 6926 section 7.2 allows, with identifiers that need no splitting, since the
/// oracle does not join options.
fn any_query() -> impl Strategy<Value = Query> {
    let identifier = || prop::collection::vec(any::<u8>(), 1..=200);
    let primary = prop_oneof![
        (1..=255_u8, prop::collection::vec(any::<u8>(), 1..=16))
            .prop_map(|(htype, address)| Primary::Mac { htype, address }),
        identifier().prop_map(Primary::ClientId),
        identifier().prop_map(Primary::RemoteId),
        identifier().prop_map(Primary::RelayId),
        Just(Primary::All),
    ];
    let vpn = prop_oneof![
        "[ -~]{1,100}".prop_map(Vss::Name),
        any::<[u8; 7]>().prop_map(Vss::Rfc2685),
        Just(Vss::All),
        Just(Vss::Default),
    ];
    let list = prop::collection::vec(1..255_u8, 1..40);
    (
        any::<u32>(),
        primary,
        any::<Option<u32>>(),
        any::<Option<u32>>(),
        prop::option::of(vpn),
        prop::option::of(list),
    )
        .prop_map(
            |(xid, primary, start, end, vpn, parameter_request_list)| Query {
                xid,
                primary,
                start,
                end,
                vpn,
                parameter_request_list,
            },
        )
}

/// Any key of a query over UDP.
fn any_key() -> impl Strategy<Value = Key> {
    let identifier = || prop::collection::vec(any::<u8>(), 1..=200);
    prop_oneof![
        (1..=u32::MAX).prop_map(|address| Key::Address(address.into())),
        (1..=255_u8, prop::collection::vec(any::<u8>(), 1..=16))
            .prop_map(|(htype, address)| Key::Mac { htype, address }),
        identifier().prop_map(Key::ClientId),
        identifier().prop_map(Key::RemoteId),
    ]
}

proptest! {
    /// RFC 6926 section 7.2: the oracle finds every part of a query.
    #[test]
    fn the_oracle_decodes_queries(query in any_query()) {
        let frame = query.to_bytes().unwrap();
        prop_assert_eq!(usize::from(u16::from_be_bytes([frame[0], frame[1]])), frame.len() - 2);
        let message = read_by_oracle(&frame[2..]);
        prop_assert_eq!(message.opcode(), v4::Opcode::BootRequest);
        prop_assert_eq!(message.xid(), query.xid);
        for address in [message.ciaddr(), message.yiaddr(), message.siaddr(), message.giaddr()] {
            prop_assert_eq!(address, Ipv4Addr::UNSPECIFIED);
        }
        let opts = message.opts();
        prop_assert_eq!(
            opts.get(OptionCode::MessageType),
            Some(&DhcpOption::MessageType(v4::MessageType::BulkLeaseQuery))
        );
        let value = |code: u8| opts.get(OptionCode::from(code)).map(value_by_oracle);
        let relay = |code: u8, id: &[u8]| {
            let length = u8::try_from(id.len()).unwrap();
            Some([&[code, length], id].concat())
        };
        let (mut mac, mut client_id, mut relay_agent_information) = ((0, vec![]), None, None);
        match &query.primary {
            Primary::Mac { htype, address } => mac = (*htype, address.clone()),
            Primary::ClientId(id) => client_id = Some(id.clone()),
            Primary::RemoteId(id) => relay_agent_information = relay(2, id),
            Primary::RelayId(id) => relay_agent_information = relay(12, id),
            Primary::All => {}
        }
        prop_assert_eq!((u8::from(message.htype()), message.chaddr().to_vec()), mac);
        prop_assert_eq!(value(61), client_id);
        prop_assert_eq!(value(82), relay_agent_information);
        prop_assert_eq!(value(154), query.start.map(|time| time.to_be_bytes().to_vec()));
        prop_assert_eq!(value(155), query.end.map(|time| time.to_be_bytes().to_vec()));
        let vpn = query.vpn.as_ref().map(|vpn| match vpn {
            Vss::Name(name) => [&[0], name.as_bytes()].concat(),
            Vss::Rfc2685(id) => [&[1], &id[..]].concat(),
            Vss::All => vec![254],
            Vss::Default => vec![255],
        });
        prop_assert_eq!(value(221), vpn);
        prop_assert_eq!(value(55), query.parameter_request_list);
    }

    /// RFC 4388 section 6.2: the oracle finds every part of a query over UDP.
    #[test]
    fn the_oracle_decodes_queries_over_udp(
        key in any_key(),
        xid in any::<u32>(),
        giaddr in any::<u32>().prop_map(Ipv4Addr::from),
    ) {
        let query = LeaseQuery { xid, ..LeaseQuery::new(key) };
        let message = read_by_oracle(&query.to_message(giaddr).unwrap().encode());
        prop_assert_eq!(message.opcode(), v4::Opcode::BootRequest);
        prop_assert_eq!((message.xid(), message.giaddr()), (xid, giaddr));
        let opts = message.opts();
        prop_assert_eq!(
            opts.get(OptionCode::MessageType),
            Some(&DhcpOption::MessageType(v4::MessageType::LeaseQuery))
        );
        let value = |code: u8| opts.get(OptionCode::from(code)).map(value_by_oracle);
        let (mut ciaddr, mut mac) = (Ipv4Addr::UNSPECIFIED, (0, vec![]));
        let (mut client_id, mut relay_agent_information) = (None, None);
        match query.key {
            Key::Address(address) => ciaddr = address,
            Key::Mac { htype, address } => mac = (htype, address),
            Key::ClientId(id) => client_id = Some(id),
            Key::RemoteId(id) => {
                let length = u8::try_from(id.len()).unwrap();
                relay_agent_information = Some([&[2, length], &id[..]].concat());
            }
        }
        prop_assert_eq!(message.ciaddr(), ciaddr);
        prop_assert_eq!((u8::from(message.htype()), message.chaddr().to_vec()), mac);
        prop_assert_eq!(value(61), client_id);
        prop_assert_eq!(value(82), relay_agent_information);
        prop_assert_eq!(value(57), Some(vec![5, 192]));
    }

    /// RFC 6926 section 7.3: every field of the oracle's reply.
    #[test]
    fn decodes_the_oracles_replies(
        (xid, address, base) in any::<(u32, u32, u32)>(),
        chaddr in prop::collection::vec(any::<u8>(), 0..=16),
        times in any::<[u32; 5]>(),
        (state, flags) in any::<(u8, u8)>(),
        client_id in prop::collection::vec(any::<u8>(), 1..=255),
        remote_id in prop::collection::vec(any::<u8>(), 1..=200),
        name in "[a-z]{1,20}",
    ) {
        let [since, transaction, lease, renewal, rebinding] = times;
        let unspecified = Ipv4Addr::UNSPECIFIED;
        let mut message = v4::Message::new_with_id(
            xid, address.into(), unspecified, unspecified, unspecified, &chaddr);
        message.set_opcode(v4::Opcode::BootReply);
        message.set_htype(v4::HType::Eth);
        let raw = |code: u8, value: &[u8]| {
            DhcpOption::Unknown(UnknownOption::new(OptionCode::from(code), value.to_vec()))
        };
        let opts = message.opts_mut();
        opts.insert(DhcpOption::MessageType(v4::MessageType::LeaseActive));
        opts.insert(DhcpOption::ServerIdentifier(Ipv4Addr::new(192, 0, 2, 1)));
        opts.insert(DhcpOption::AddressLeaseTime(lease));
        opts.insert(DhcpOption::Renewal(renewal));
        opts.insert(DhcpOption::Rebinding(rebinding));
        opts.insert(DhcpOption::ClientIdentifier(client_id.clone()));
        opts.insert(DhcpOption::ClientLastTransactionTime(transaction));
        opts.insert(DhcpOption::Hostname("host".into()));
        opts.insert(DhcpOption::BulkLeaseQueryBaseTime(base));
        opts.insert(DhcpOption::BulkLeasQueryStartTimeOfState(since));
        opts.insert(DhcpOption::BulkLeaseQueryDhcpState(state.into()));
        opts.insert(DhcpOption::BulkLeaseQueryDataSource(flags.into()));
        opts.insert(raw(221, &[&[0], name.as_bytes()].concat()));
        let mut relay = v4::relay::RelayAgentInformation::default();
        relay.insert(v4::relay::RelayInfo::AgentRemoteId(remote_id.clone()));
        opts.insert(DhcpOption::RelayAgentInformation(relay));

        let message = Message::decode(&message.to_vec().unwrap()).unwrap();
        prop_assert_eq!(message.op, BOOTREPLY);
        let Ok(Reply::Binding(binding)) = Reply::decode(&message) else {
            panic!("{message:?}");
        };
        let relay_agent_information = binding.relay_agent_information.clone();
        prop_assert_eq!(binding.remote_id(), Some(remote_id.as_slice()));
        prop_assert_eq!(
            *binding,
            Binding {
                xid,
                message_type: MessageType::LEASE_ACTIVE,
                address: address.into(),
                htype: 1,
                chaddr,
                state: Some(State(state)),
                base_time: Some(base),
                start_time_of_state: Some(since),
                client_last_transaction_time: Some(transaction),
                lease_time: Some(lease),
                renewal_time: Some(renewal),
                rebinding_time: Some(rebinding),
                client_id: Some(client_id),
                relay_agent_information,
                vpn: Some(Vss::Name(name)),
                data_source: Some(flags),
                status: None,
                server_identifier: Some(Ipv4Addr::new(192, 0, 2, 1)),
                options: [(12, b"host".to_vec())].into(),
            }
        );
    }

    /// RFC 6926 section 6.2.2: the end of the replies and its status.
    #[test]
    fn decodes_the_oracles_status(xid in any::<u32>(), code in any::<u8>(), text in "[^\0]{0,60}") {
        let mut message = v4::Message::default();
        message.set_opcode(v4::Opcode::BootReply).set_xid(xid);
        let opts = message.opts_mut();
        opts.insert(DhcpOption::MessageType(v4::MessageType::LeaseQueryDone));
        opts.insert(DhcpOption::BulkLeaseQueryStatusCode(code.into(), text.clone()));
        let message = Message::decode(&message.to_vec().unwrap()).unwrap();
        let Ok(Reply::Done(done)) = Reply::decode(&message) else {
            panic!("{message:?}");
        };
        prop_assert_eq!(done.xid, xid);
        prop_assert_eq!(done.failure().is_some(), code != 0);
        prop_assert_eq!(done.status, Some(Status { code: StatusCode(code), text }));
    }

    /// RFC 2131 section 2: fixed fields and options of any value.
    #[test]
    fn the_oracle_decodes_fixed_fields(
        (hops, xid, secs, flags, addresses) in any::<(u8, u32, u16, u16, [u32; 4])>(),
        chaddr in any::<[u8; 16]>(),
        hlen in 0..=16_u8,
        // The oracle does not write options without a value.
        value in prop::collection::vec(any::<u8>(), 1..=255),
    ) {
        let [ciaddr, yiaddr, siaddr, giaddr] = addresses.map(Ipv4Addr::from);
        let ours = Message {
            op: BOOTREQUEST, htype: 1, hlen, hops, xid, secs, flags,
            ciaddr, yiaddr, siaddr, giaddr, chaddr,
            ..Message::default()
        }
        // An unassigned code.
        .with(224, value.clone());
        let theirs = read_by_oracle(&ours.encode());
        prop_assert_eq!(
            (theirs.hops(), theirs.xid(), theirs.secs(), u16::from(theirs.flags())),
            (hops, xid, secs, flags)
        );
        prop_assert_eq!(
            [theirs.ciaddr(), theirs.yiaddr(), theirs.siaddr(), theirs.giaddr()],
            [ciaddr, yiaddr, siaddr, giaddr]
        );
        prop_assert_eq!(theirs.chaddr(), &chaddr[..usize::from(hlen)]);
        let option = theirs.opts().get(OptionCode::from(224)).map(value_by_oracle);
        prop_assert_eq!(option, Some(value));
    }
}
