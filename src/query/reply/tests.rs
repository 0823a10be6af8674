//! Replies made from templates against replies written in full.

use std::sync::Arc;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::kea_config::{ConfiguredOption, KeaConfig, Scope};
use crate::mirror::ranges::TimedRange;
use crate::mirror::view::View;
use crate::model::binding::{Binding, SubnetId};
use crate::model::client::{Client, ClientParts};
use crate::model::state::State;
use crate::model::time::{Lifetime, Time};
use crate::wire::message::Message;

/// The time of the replies.
const NOW: Time = Time(1_000);

/// Subnets of the default VPN, of two others, and one with other timers.
const CONFIGURATION: &str = r#"{ "Dhcp4": { "renew-timer": 50, "rebind-timer": 90, "subnet4": [
    { "id": 1, "subnet": "10.0.1.0/24" },
    { "id": 2, "subnet": "10.0.2.0/24", "user-context": { "vpn": { "name": "blue" } } },
    { "id": 3, "subnet": "10.0.3.0/24", "user-context": { "vpn": { "rfc2685": "00005e00000007" } } },
    { "id": 4, "subnet": "10.0.4.0/24", "calculate-tee-times": true, "renew-timer": null }
] } }"#;

/// The view of the subnets with these options, for all clients.
fn view(options: &[(u8, Vec<u8>)]) -> View {
    let options = options.iter().map(|(code, value)| ConfiguredOption {
        scope: Scope::Global,
        code: *code,
        value: value.clone(),
        never_send: false,
        always_send: false,
        client_classes: Vec::new(),
    });
    let kea_config = KeaConfig::new(CONFIGURATION, options.collect(), &[]);
    View {
        kea_config: Arc::new(kea_config.unwrap()),
        ranges: Vec::new(),
        former_subnets: Default::default(),
    }
}

/// Values of option 82: without and with VSS, which names a VPN, none, all, or is malformed.
fn information() -> impl Strategy<Value = Vec<u8>> {
    let vss = |value: &'static [u8]| [&[2, 1, 7, 151, value.len() as u8], value].concat();
    prop_oneof![
        8 => Just(vec![2, 3, b'a', b'b', b'c']),
        4 => vec(any::<u8>(), 0..9),
        1 => vec(any::<u8>(), 250..300),
        1 => Just(vss(b"\x00blue")),
        1 => Just(vss(b"\x00green")),
        1 => Just(vss(b"\x01\x00\x00\x5e\x00\x00\x00\x07")),
        1 => Just(vss(b"\xff")),
        1 => Just(vss(b"\xfe")),
        1 => Just(vss(b"\x00")),
        1 => Just(vss(b"\x07blue")),
        1 => Just(vec![151, 9, 0, b'b']),
    ]
}

/// Clients, of which some in a row have values of equal lengths.
fn client() -> impl Strategy<Value = Client> {
    let chaddr = prop_oneof![8 => vec(any::<u8>(), 6), 1 => vec(any::<u8>(), 0..=20)];
    let id = prop_oneof![
        6 => Just(None),
        1 => Just(Some(Vec::new())),
        2 => vec(any::<u8>(), 1..9).prop_map(Some),
        1 => vec(any::<u8>(), 250..300).prop_map(Some)
    ];
    let option = prop_oneof![4 => vec(any::<u8>(), 0..4), 1 => vec(any::<u8>(), 250..300)];
    let options = proptest::collection::btree_map(
        prop_oneof![Just(6_u8), Just(12), Just(60), Just(77)],
        option,
        0..3,
    );
    let hostname = prop_oneof![Just(Vec::new()), vec(any::<u8>(), 1..9)];
    (chaddr, id, information(), options, hostname).prop_map(
        |(chaddr, id, information, options, hostname)| {
            let id = id.unwrap_or_else(|| [&[1], &chaddr[..]].concat());
            let options = options.iter().map(|(code, value)| (*code, &value[..]));
            Client::from(&ClientParts {
                htype: 1,
                chaddr: &chaddr,
                client_id: &id,
                relay_agent_information: &information,
                options: options.collect(),
                hostname: &hostname,
                ..ClientParts::default()
            })
        },
    )
}

/// Bindings of a few subnets, one of which is not configured.
fn binding() -> impl Strategy<Value = Binding> {
    let state = prop_oneof![
        10 => Just(State::Active),
        1 => (1..=8_u8).prop_map(|state| State::from_value(state).unwrap()),
    ];
    let time = || 900..1_100_u32;
    let lifetime = prop_oneof![8 => Just(100), 1 => 0..300_u32, 1 => Just(u32::MAX)];
    let times = (
        time(),
        proptest::option::weighted(0.9, time()),
        time(),
        lifetime,
        proptest::option::weighted(0.1, time()),
        proptest::option::weighted(0.1, time()),
    );
    let subnet = prop_oneof![6 => Just(1_u8), 1 => 1..=6_u8];
    let client = proptest::option::weighted(0.9, client());
    (
        subnet,
        any::<u8>(),
        state,
        client,
        times,
        proptest::bool::weighted(0.2),
    )
        .prop_map(|(subnet, host, state, client, times, remote)| {
            let (since, last_transaction, lease_start, lifetime, reserved_until, learned_at) =
                times;
            Binding {
                address: Ipv4Addr::new(10, 0, subnet, host),
                state,
                since: Time(since),
                last_transaction: last_transaction.map(Time),
                lease_start: Time(lease_start),
                lifetime: Lifetime(lifetime),
                // 5 names a subnet that does not contain the address.
                subnet: SubnetId(if subnet == 5 { 1 } else { subnet.into() }),
                client,
                remote,
                learned_at: learned_at.map(Time),
                reserved_until: reserved_until.map(Time),
            }
        })
}

/// Parameter request lists: none, or some of the options that have a rule of their own, and others.
fn requested() -> impl Strategy<Value = Option<Vec<u8>>> {
    let code = prop_oneof![
        6 => prop_oneof![Just(12_u8), Just(60), Just(61), Just(82)],
        6 => prop_oneof![Just(51_u8), Just(58), Just(59), Just(91), 152..158_u8],
        1 => any::<u8>(),
    ];
    prop_oneof![1 => Just(None), 3 => vec(code, 0..14).prop_map(Some)]
}

/// The reply that is written the quickest way there is.
fn write(replies: &mut Replies, view: &View, binding: &Binding) -> Option<Vec<u8>> {
    let mut out = b"before".to_vec();
    let mut projector = Projector::new(view, NOW);
    // The terms that the usual way needs.
    projector.binding(binding.view())?;
    if let Some(terms) = projector.usual_terms(&binding.view()) {
        let projection = projector.usual_binding(&binding.view(), terms);
        if replies.write_from_template(&mut out, &projection) {
            return Some(out);
        }
        assert_eq!(out, b"before", "nothing is written without a template");
    }
    replies.write(&mut out, None, &projector.binding(binding.view())?);
    Some(out)
}

proptest! {
    /// A reply does not depend on those before it, whatever the bindings, the configuration, the list
    /// and `non-sensitive-options` are.
    #[test]
    fn replies_from_templates_equal_replies_in_full(
        bindings in vec((binding(), proptest::bool::weighted(0.1)), 0..30),
        requested in requested(),
        non_sensitive in proptest::option::weighted(0.3, vec(any::<u8>(), 0..200)),
        options in vec(
            (prop_oneof![Just(6_u8), Just(12), Just(61), Just(82)], vec(any::<u8>(), 0..4)),
            0..3,
        ),
    ) {
        let views = [view(&[]), view(&options)];
        let is_non_sensitive = |option: u8| {
            non_sensitive.as_ref().is_none_or(|codes| codes.contains(&option))
        };
        let header = ReplyHeader::new(7, 0, Ipv4Addr::UNSPECIFIED);
        let reply_options = ReplyOptions::new(requested.as_deref(), is_non_sensitive);
        let mut replies = Replies::new(header, reply_options);
        let mut view = 0;
        for (binding, is_reconfigured) in bindings {
            view ^= usize::from(is_reconfigured);
            let view = &views[view];
            let found = write(&mut replies, view, &binding);
            let mut expected = b"before".to_vec();
            let mut projector = Projector::new(view, NOW);
            let projection = projector.binding(binding.view());
            prop_assert_eq!(found.is_some(), projection.is_some());
            if let Some(projection) = projection {
                replies.write_in_full(&mut expected, None, &projection);
            }
            prop_assert_eq!(found.unwrap_or(b"before".to_vec()), expected);
        }
    }
}

/// The replies about a binding whose relay agent names a VPN, after one in the default VPN.
#[test]
fn a_template_never_moves_a_binding_to_another_vpn() {
    let view = view(&[]);
    let header = ReplyHeader::new(7, 0, Ipv4Addr::UNSPECIFIED);
    let mut replies = Replies::new(header, ReplyOptions::new(None, |_| true));
    let of_subnet = |subnet: u8, information: &[u8]| Binding {
        address: Ipv4Addr::new(10, 0, subnet, 1),
        state: State::Active,
        last_transaction: Some(NOW),
        lease_start: NOW,
        lifetime: Lifetime(100),
        client: Some(Client::from(&ClientParts {
            chaddr: &[2, 0, 0, 0, 0, 1],
            relay_agent_information: information,
            ..ClientParts::default()
        })),
        ..Binding::free(Ipv4Addr::UNSPECIFIED, SubnetId(subnet.into()), NOW)
    };
    let mut vpn_of = |binding: &Binding| {
        let out = write(&mut replies, &view, binding).unwrap();
        let message = Message::read(&out["before".len()..]).unwrap();
        message.options.value(code::VPN_ID).map(<[u8]>::to_vec)
    };
    let plain = [2, 5, b'l', b'i', b'n', b'e', b'1'];
    // Of the same length, so that nothing but the VPN differs.
    let green = [151, 5, 0, b'g', b'r', b'e', b'n'];
    let default = [151, 1, 255, 2, 2, b'l', b'1'];
    for _ in 0..3 {
        assert_eq!(vpn_of(&of_subnet(1, &plain)), None);
        assert_eq!(vpn_of(&of_subnet(1, &green)), Some(b"\0gren".to_vec()));
        assert_eq!(vpn_of(&of_subnet(2, &plain)), Some(b"\0blue".to_vec()));
        assert_eq!(vpn_of(&of_subnet(2, &default)), None);
        assert_eq!(vpn_of(&of_subnet(2, &green)), Some(b"\0gren".to_vec()));
    }
}

/// An option that leaves no room for the VPN-ID is left out itself.
#[test]
fn a_reply_too_long_keeps_its_vpn_id() {
    for length in 64_700..64_800 {
        let view = view(&[(43, vec![7; length])]);
        let header = ReplyHeader::new(7, 0, Ipv4Addr::UNSPECIFIED);
        let mut replies = Replies::new(header, ReplyOptions::new(Some(&[43]), |_| true));
        let binding = Binding {
            state: State::Active,
            lifetime: Lifetime(100),
            client: Some(Client::from(&ClientParts::default())),
            ..Binding::free(Ipv4Addr::new(10, 0, 2, 1), SubnetId(2), NOW)
        };
        let out = write(&mut replies, &view, &binding).unwrap();
        let message = Message::read(&out["before".len()..]).unwrap();
        assert_eq!(message.options.value(code::VPN_ID), Some(&b"\0blue"[..]));
    }
}

#[test]
fn a_free_address_has_no_client() {
    let view = view(&[]);
    let range = TimedRange {
        first: Ipv4Addr::new(10, 0, 2, 1),
        last: Ipv4Addr::new(10, 0, 2, 9),
        vpn: Vpn::Name("blue".into()),
        remote: true,
        since: Time(400),
    };
    let header = ReplyHeader::new(7, 0, Ipv4Addr::UNSPECIFIED);
    let mut replies = Replies::new(header, ReplyOptions::new(None, |_| true));
    let projector = Projector::new(&view, NOW);
    let mut out = Vec::new();
    replies.write(&mut out, None, &projector.free(range.first, &range));
    let message = Message::read(&out).unwrap();
    assert_eq!(
        (message.htype, message.hlen, message.ciaddr),
        (0, 0, range.first)
    );
    let codes: Vec<u8> = message.options.iter().map(|option| option.code).collect();
    assert_eq!(codes, [53, 152, 153, 156, 221]);
    assert_eq!(message.options.value(156), Some(&[State::Remote as u8][..]));
    assert_eq!(message.options.value(153), Some(&600_u32.to_be_bytes()[..]));
}
