//! The octets of queries and answers, decoded by tshark and compared with the leases: every field of the header
//! and every option of every message, in order.

use std::net::Ipv4Addr;
use std::ops::RangeInclusive;

use blq::{Primary, Query, State, Vss};
use kea_tests::ask::{by_mac, received_octets};
use kea_tests::clock::{later, now};
use kea_tests::packet::{MessageType, code, sub_option, sub_options};
use kea_tests::tshark::expected::{
    Expected, address, check, colons, header, message_type, number, option, request_list, seconds,
    state, time, vpn_id, with_fields,
};
use kea_tests::tshark::{self, Decoded};
use kea_tests::{Client, Kea, Mode, Pair, Setup, eventually};
use serde_json::json;

/// T1, T2 and the lifetime of leases, in seconds.
const TIMES: [u32; 3] = [1_000, 1_700, 3_000];

/// The lifetime of a declined address, in seconds.
const PROBATION: u32 = 5_000;

/// A requested option that nothing has: it must not occur.
const UNKNOWN_OPTION: u8 = 224;

/// Sends queries and returns all replies as tshark decodes them, with the range of times in which they
/// were made. Checks the options of the queries.
#[track_caller]
fn ask(kea: &Kea, queries: &[(Query, Vec<Expected>)]) -> (Vec<Decoded>, RangeInclusive<u32>) {
    let sent = queries.iter().map(|(query, _)| query.to_message());
    let sent: Vec<Vec<u8>> = sent.map(|query| query.expect("a query").encode()).collect();
    let frames = queries.iter().map(|(query, _)| query.to_bytes());
    let frames: Vec<Vec<u8>> = frames.map(|frame| frame.expect("a query")).collect();
    let before = seconds_now();
    let received = received_octets(kea.send_octets(&frames.concat()));
    let times = before..=seconds_now();
    let mut decoded = tshark::decode(&[sent, received].concat());
    let replies = decoded.split_off(queries.len());
    for (decoded, (query, options)) in decoded.iter().zip(queries) {
        let (htype, chaddr) = match &query.primary {
            Primary::Mac { htype, address } => (*htype, &address[..]),
            _ => (0, &[][..]),
        };
        let header = header(false, query.xid, Ipv4Addr::UNSPECIFIED, (htype, chaddr));
        let of_type = [message_type(MessageType::BULK_LEASE_QUERY)];
        check(decoded, &header, &[&of_type[..], options].concat());
    }
    (replies, times)
}

/// Returns the time in seconds since 1970.
fn seconds_now() -> u32 {
    u32::try_from(now()).expect("a time before 2106")
}

/// Returns the time of a client's last transaction according to Kea's lease database.
#[track_caller]
fn last_transaction(kea: &Kea, client: &Client) -> u32 {
    let address = client.address.expect("a lease");
    let lease = kea.lease(address).expect("a lease of Kea");
    let cltt = lease["cltt"].as_u64().expect("cltt");
    u32::try_from(cltt).expect("a time before 2106")
}

/// Returns the option of the server that answers a query first.
fn server_identifier(kea: &Kea) -> Expected {
    let listener = *kea.place().lease_query().ip();
    let field = "dhcp.option.dhcp_server_id";
    address(code::SERVER_IDENTIFIER, listener, field)
}

// ----- Leases ---------------------------------------------------------------------------------

/// Returns the options that a client sends, in the order of their codes.
fn sent_options() -> Vec<Expected> {
    let id = [255, 0, 0, 0, 9, 0, 3, 0, 1, 2, 0, 0, 0, 0, 1];
    vec![
        option(12, *b"set-top-box", "dhcp.option.hostname", "set-top-box"),
        option(
            60,
            *b"vendor 1.0",
            "dhcp.option.vendor_class_id",
            "vendor 1.0",
        ),
        // RFC 4361, section 6.1: an IAID and a DUID of a link-layer address.
        with_fields(
            61,
            id,
            &[
                ("dhcp.client_id.iaid", "00000009"),
                ("dhcp.client_id.duid_type", "3"),
                ("dhcp.client_id.duid_ll_hw_type", "1"),
                ("dhcp.client_id.link_layer_address", "02:00:00:00:00:01"),
            ],
        ),
        with_fields(
            77,
            *b"\x05class\x03two",
            &[
                ("dhcp.option.user_class.data", "63:6c:61:73:73"),
                ("dhcp.option.user_class.data", "74:77:6f"),
            ],
        ),
        // RFC 4702, section 2.1: the client updates no names itself; the name in DNS's form.
        with_fields(
            81,
            *b"\x0c\0\0\x03box\x07example\0",
            &[
                ("dhcp.fqdn.n", "1"),
                ("dhcp.fqdn.e", "1"),
                ("dhcp.fqdn.s", "0"),
                ("dhcp.fqdn.name", "box.example"),
            ],
        ),
        option(93, [0, 7], "dhcp.option.client_system_architecture", "7"),
        with_fields(
            94,
            [1, 2, 1],
            &[
                ("dhcp.client_network_id_major", "2"),
                ("dhcp.client_network_id_minor", "1"),
            ],
        ),
        option(
            97,
            [&[0][..], &[0xab; 16]].concat(),
            "dhcp.client_id.uuid",
            "abababab-abab-abab-abab-abababababab",
        ),
        // RFC 3925: the enterprise 3561, and data of one item each.
        option(
            124,
            [0, 0, 0x0d, 0xe9, 3, 2, 1, 2],
            "dhcp.option.vi_class.enterprise",
            "3561",
        ),
        option(
            125,
            [0, 0, 0x0d, 0xe9, 4, 1, 2, 3, 4],
            "dhcp.option.vi.enterprise",
            "3561",
        ),
    ]
}

/// Returns the sub-options of a relay agent, and the option 82 that has them.
fn relay_agent(link: Ipv4Addr) -> (Vec<(u8, Vec<u8>)>, Expected) {
    const NAME: &str = "dhcp.option.agent_information_option";
    let sub_options_sent = vec![
        (sub_option::CIRCUIT_ID, b"port 3".to_vec()),
        (sub_option::REMOTE_ID, b"\0line".to_vec()),
        (5, link.octets().to_vec()),
        (6, b"subscriber".to_vec()),
        (sub_option::RELAY_ID, vec![2, 0, 0, 9]),
    ];
    let shown = [
        (format!("{NAME}.suboption"), "1".to_owned()),
        (format!("{NAME}.agent_circuit_id"), colons(b"port 3")),
        (format!("{NAME}.suboption"), "2".to_owned()),
        (format!("{NAME}.agent_remote_id"), colons(b"\0line")),
        (format!("{NAME}.suboption"), "5".to_owned()),
        (format!("{NAME}.link_selection"), link.to_string()),
        (format!("{NAME}.suboption"), "6".to_owned()),
        (format!("{NAME}.subscriber_id"), "subscriber".to_owned()),
        (format!("{NAME}.suboption"), "12".to_owned()),
        (format!("{NAME}.relay_agent_id"), "02:00:00:09".to_owned()),
    ];
    let shown = shown.map(|(name, shown)| (name, Some(shown)));
    let expected = Expected {
        code: code::RELAY_AGENT_INFORMATION,
        value: sub_options(&sub_options_sent),
        shown: shown.into(),
    };
    (sub_options_sent, expected)
}

/// An address, and its present lease or last client.
struct Known {
    /// The address.
    address: Ipv4Addr,
    /// The state.
    state: State,
    /// The times at which the state may have begun.
    since: RangeInclusive<u32>,
    /// The client that holds or last held the address.
    client: Option<Client>,
    /// The time of the client's last transaction about an active lease. Other states begin with the last
    /// one.
    last: Option<u32>,
    /// The options that the client and its relay agent sent.
    sent: Vec<Expected>,
}

impl Known {
    /// Returns an address that was never leased, configured at `since`.
    fn available(address: Ipv4Addr, since: RangeInclusive<u32>) -> Known {
        Known {
            address,
            state: State::AVAILABLE,
            since,
            client: None,
            last: None,
            sent: Vec::new(),
        }
    }

    /// Checks a reply about this address to the query `xid` for options with these codes. `first` and `last`
    /// are the options before and after these.
    #[track_caller]
    fn check(
        &self,
        reply: &Decoded,
        (xid, times): (u32, &RangeInclusive<u32>),
        (first, codes, last): (&[Expected], &[u8], &[Expected]),
    ) {
        let base = seconds(reply, code::BASE_TIME);
        assert!(times.contains(&base), "{base} in {times:?}");
        let since = base - seconds(reply, code::START_TIME_OF_STATE);
        assert!(self.since.contains(&since), "{since} in {:?}", self.since);
        let of_type = message_type(match self.state {
            State::ACTIVE => MessageType::LEASE_ACTIVE,
            _ => MessageType::LEASE_UNASSIGNED,
        });
        let requested = codes
            .iter()
            .filter_map(|code| self.option(*code, base, since));
        let first = [of_type].into_iter().chain(first.iter().cloned());
        let options = first.chain(requested).chain(last.iter().cloned());
        let hardware = match &self.client {
            Some(client) => (client.htype, &client.chaddr[..]),
            None => (0, &[][..]),
        };
        let header = header(true, xid, self.address, hardware);
        check(reply, &header, &options.collect::<Vec<_>>());
    }

    /// Returns a requested option of a reply made at `base`, for a state since `since`, if it has a value.
    fn option(&self, code: u8, base: u32, since: u32) -> Option<Expected> {
        let [renewal, rebinding, lifetime] = TIMES;
        let active = self.last;
        match code {
            code::RENEWAL_TIME => Some(number(code, active? + renewal - base)),
            code::REBINDING_TIME => Some(number(code, active? + rebinding - base)),
            code::LEASE_TIME if self.state == State::ABANDONED => {
                Some(number(code, since + PROBATION - base))
            }
            code::LEASE_TIME => Some(number(code, active? + lifetime - base)),
            code::CLIENT_LAST_TRANSACTION_TIME => {
                let client = self.client.as_ref();
                let last = self.last.or(client.map(|_| since));
                Some(number(code, base - last?))
            }
            code::BASE_TIME => Some(time(code, base)),
            code::START_TIME_OF_STATE => Some(number(code, base - since)),
            code::DHCP_STATE => Some(state(self.state)),
            _ => {
                let sent = self.sent.iter().find(|option| option.code == code);
                let server = server_options().into_iter();
                let mut server = server.filter(|option| option.code == code);
                sent.cloned().or_else(|| active.and_then(|_| server.next()))
            }
        }
    }
}

/// Returns the options that the server alone sends.
fn server_options() -> [Expected; 4] {
    let router = Ipv4Addr::new(192, 0, 2, 254);
    let servers = [192, 0, 2, 53, 192, 0, 2, 54];
    [
        option(
            1,
            [255, 255, 255, 0],
            "dhcp.option.subnet_mask",
            "255.255.255.0",
        ),
        address(3, router, "dhcp.option.router"),
        with_fields(
            6,
            servers,
            &[
                ("dhcp.option.domain_name_server", "192.0.2.53"),
                ("dhcp.option.domain_name_server", "192.0.2.54"),
            ],
        ),
        option(
            15,
            *b"example.org",
            "dhcp.option.domain_name",
            "example.org",
        ),
    ]
}

/// Returns a setup with these options and with [`TIMES`].
fn setup() -> Setup {
    let [renewal, rebinding, lifetime] = TIMES;
    let setup = Setup::with_hook(json!({}));
    let pool = setup.place.pool(100, 105);
    setup
        .in_subnet(json!({ "pools": [{ "pool": pool }] }))
        .set("renew-timer", json!(renewal))
        .set("rebind-timer", json!(rebinding))
        .set("valid-lifetime", json!(lifetime))
        .set("decline-probation-period", json!(PROBATION))
        // Kea 3.0 otherwise answers an early renewal without a change of the lease.
        .set("cache-threshold", json!(0.0001))
        .set(
            "option-data",
            json!([
                { "name": "routers", "data": "192.0.2.254" },
                { "name": "domain-name-servers", "data": "192.0.2.53, 192.0.2.54" },
                { "name": "domain-name", "data": "example.org" },
            ]),
        )
        .kea_library("libdhcp_lease_cmds.so", json!({}))
}

/// Checks the DHCPLEASEQUERYDONE of a successful answer with bindings.
#[track_caller]
fn check_done(reply: &Decoded, xid: u32, times: &RangeInclusive<u32>) {
    let base = seconds(reply, code::BASE_TIME);
    assert!(times.contains(&base), "{base} in {times:?}");
    let options = [
        message_type(MessageType::LEASE_QUERY_DONE),
        time(code::BASE_TIME, base),
    ];
    let header = header(true, xid, Ipv4Addr::UNSPECIFIED, (0, &[]));
    check(reply, &header, &options);
}

// ----- Claims ---------------------------------------------------------------------------------

/// RFC 6926, sections 7.2 and 8.3: a query for all configured addresses has a reply for each, in the state
/// that the clients made, with the requested options of clients, relay agents and the server in the
/// requested order.
#[test]
fn a_reply_has_the_requested_options_of_its_address() {
    let begin = seconds_now();
    let kea = setup().start();
    let started = begin..=seconds_now();
    let place = kea.place();
    let (sub_options, option_82) = relay_agent(place.relay(0));
    let mut relay = kea.relay(0);
    relay.set_sub_options(&sub_options);
    let plain_relay = kea.relay(1);

    // A client that renews its lease, with all options.
    let sent = sent_options();
    let mut rich = Client::new(1);
    for option in &sent {
        rich = rich.option(option.code, option.value.clone());
    }
    relay.lease(&mut rich);
    let leased = last_transaction(&kea, &rich);
    // A client without options, with a hardware address of another type and length.
    let mut plain = Client::new(2);
    (plain.htype, plain.chaddr) = (27, vec![2, 0, 0, 0xff, 0xfe, 0, 0, 2]);
    plain_relay.lease(&mut plain);
    let plain_leased = last_transaction(&kea, &plain);
    // Clients that release and decline their addresses.
    let [mut releases, mut declines] = [3, 4].map(Client::new);
    let [released, declined] = [&mut releases, &mut declines].map(|client| {
        plain_relay.lease(client);
        client.address.expect("a lease")
    });
    later();
    relay.renew(&rich);
    let renewed = last_transaction(&kea, &rich);
    assert!(renewed > leased);
    later();
    let before = seconds_now();
    plain_relay.release(&mut releases);
    plain_relay.decline(&mut declines);
    kea.await_state(released, State::RELEASED);
    kea.await_state(declined, State::ABANDONED);
    let ended = before..=seconds_now();
    later();

    let active = |client: &Client, since: u32, last: u32, sent: Vec<Expected>| Known {
        address: client.address.expect("a lease"),
        state: State::ACTIVE,
        since: since..=since,
        client: Some(client.clone()),
        last: Some(last),
        sent,
    };
    let free = |host| Known::available(place.address(host), started.clone());
    let known = [
        active(&rich, leased, renewed, [sent, vec![option_82]].concat()),
        active(&plain, plain_leased, plain_leased, Vec::new()),
        Known {
            address: released,
            state: State::RELEASED,
            since: ended.clone(),
            client: Some(releases),
            last: None,
            sent: Vec::new(),
        },
        Known {
            address: declined,
            state: State::ABANDONED,
            since: ended,
            client: Some(declines),
            last: None,
            sent: Vec::new(),
        },
        free(104),
        free(105),
    ];

    // The order is neither that of the codes nor that of a reply without a list.
    let requested = [
        156,
        152,
        153,
        91,
        51,
        59,
        58,
        82,
        61,
        12,
        60,
        77,
        81,
        93,
        94,
        97,
        124,
        125,
        157,
        15,
        6,
        3,
        1,
        UNKNOWN_OPTION,
    ];
    let default = [51, 58, 59, 61, 82, 91, 152, 153, 156];
    for list in [Some(&requested[..]), None] {
        let mut query = Query::new(Primary::All);
        query.parameter_request_list = list.map(<[u8]>::to_vec);
        let xid = query.xid;
        let query_options: Vec<_> = list.into_iter().map(request_list).collect();
        let (replies, times) = ask(&kea, &[(query, query_options)]);
        assert_eq!(replies.len(), known.len() + 1);
        let mut first = vec![server_identifier(&kea)];
        for (reply, known) in replies.iter().zip(&known) {
            let codes = list.unwrap_or(&default);
            known.check(reply, (xid, &times), (&first, codes, &[]));
            first.clear();
        }
        check_done(&replies[known.len()], xid, &times);
    }
}

/// RFC 6926, section 7.2: queries by each identity of a client, and the times that limit them.
#[test]
fn each_query_and_its_answer_have_the_identity() {
    let kea = setup().start();
    let (sub_options, option_82) = relay_agent(kea.place().relay(0));
    let mut relay = kea.relay(0);
    relay.set_sub_options(&sub_options);
    let sent = sent_options();
    let id = sent.iter().find(|option| option.code == 61).expect("an id");
    let mut client = Client::new(1).client_id(id.value.clone());
    relay.lease(&mut client);
    kea.await_active(&client);
    let last = last_transaction(&kea, &client);
    // Another client, which no query finds.
    kea.relay(1).lease(&mut Client::new(2));

    const LIST: [u8; 5] = [61, 82, 152, 153, 156];
    let by = |code: u8| {
        let found = sub_options.iter().find(|(found, _)| *found == code);
        found.expect("a sub-option").1.clone()
    };
    let agent = |code: u8, field: &'static str| {
        let value = by(code);
        let name = format!("dhcp.option.agent_information_option.{field}");
        Expected {
            code: code::RELAY_AGENT_INFORMATION,
            shown: vec![(name, Some(colons(&value)))],
            value: self::sub_options(&[(code, value)]),
        }
    };
    let queries = [
        (
            Primary::Mac {
                htype: client.htype,
                address: client.chaddr.clone(),
            },
            None,
        ),
        (Primary::ClientId(id.value.clone()), Some(id.clone())),
        (
            Primary::RemoteId(by(sub_option::REMOTE_ID)),
            Some(agent(sub_option::REMOTE_ID, "agent_remote_id")),
        ),
        (
            Primary::RelayId(by(sub_option::RELAY_ID)),
            Some(agent(sub_option::RELAY_ID, "relay_agent_id")),
        ),
    ];
    let (start, end) = (last, last + 1_000);
    let queries = queries.map(|(primary, identity)| {
        let mut query = Query::new(primary);
        query.parameter_request_list = Some(LIST.to_vec());
        (query.start, query.end) = (Some(start), Some(end));
        let options = [request_list(&LIST)].into_iter().chain(identity);
        let limits = [
            time(code::QUERY_START_TIME, start),
            time(code::QUERY_END_TIME, end),
        ];
        (query, options.chain(limits).collect())
    });
    let known = Known {
        address: client.address.expect("a lease"),
        state: State::ACTIVE,
        since: last..=last,
        client: Some(client),
        last: Some(last),
        sent: vec![id.clone(), option_82],
    };
    let (replies, times) = ask(&kea, &queries);
    assert_eq!(replies.len(), 2 * queries.len());
    for (query, _) in &queries {
        let xid = format!("{:#010x}", query.xid);
        let of_query = replies.iter();
        let of_query = of_query.filter(|reply| reply.header("dhcp.id") == xid);
        let [binding, done] = of_query.collect::<Vec<_>>()[..] else {
            panic!("two replies to {query:?}: {replies:#?}")
        };
        let first = [server_identifier(&kea)];
        known.check(binding, (query.xid, &times), (&first, &LIST, &[]));
        check_done(done, query.xid, &times);
    }
}

/// RFC 6926, section 6.2.9, and RFC 6607, section 3.1: the VPN-ID of a reply is that of the subnet, or of
/// the relay agent's sub-option.
#[test]
fn a_reply_has_the_vpn_of_its_address() {
    let setup = setup();
    let place = setup.place;
    let subnet = |n: u8, vpn: serde_json::Value| {
        json!({
            "id": n,
            "subnet": format!("10.{n}.0.0/24"),
            "pools": [{ "pool": format!("10.{n}.0.10 - 10.{n}.0.10") }],
            "relay": { "ip-addresses": [place.relay(n).to_string()] },
            "user-context": { "vpn": vpn },
        })
    };
    let kea = setup
        .in_subnet(json!({ "pools": [{ "pool": place.pool(100, 100) }] }))
        .subnet(subnet(2, json!({ "name": "blue" })))
        .subnet(subnet(3, json!({ "rfc2685": "00005e00000007" })))
        .start();
    let by_relay = kea.relay(1).sub_option(sub_option::VSS, *b"\0green");
    let option_82 = with_fields(
        code::RELAY_AGENT_INFORMATION,
        by_relay.option_82(),
        &[("dhcp.option.agent_information_option.suboption", "151")],
    );
    let leases = [
        (kea.relay(2), Some(&b"\0blue"[..]), None),
        (kea.relay(3), Some(b"\x01\0\0\x5e\0\0\0\x07"), None),
        (by_relay, Some(b"\0green"), Some(option_82)),
    ];
    let mut known: Vec<(Known, Option<&[u8]>)> = Vec::new();
    for (number, (relay, vpn, option_82)) in (1..).zip(leases) {
        let mut client = Client::new(number);
        relay.lease(&mut client);
        kea.await_active(&client);
        let last = last_transaction(&kea, &client);
        let one = Known {
            address: client.address.expect("a lease"),
            state: State::ACTIVE,
            since: last..=last,
            client: Some(client),
            last: Some(last),
            sent: option_82.into_iter().collect(),
        };
        known.push((one, vpn));
    }
    known.sort_by_key(|(known, _)| known.address);

    let mut query = Query::new(Primary::All);
    (query.parameter_request_list, query.vpn) = (None, Some(Vss::All));
    let xid = query.xid;
    let (mut replies, times) = ask(&kea, &[(query, vec![vpn_id([254])])]);
    assert_eq!(replies.len(), known.len() + 1);
    let mut first = vec![server_identifier(&kea)];
    for (reply, (known, vpn)) in replies.iter_mut().zip(&known) {
        // tshark takes sub-option 151 for a text of Cisco's, and complains of the octet of its type.
        let text = "dhcp.option.agent_information_option.vrf_name: ";
        reply.complaints.retain(|one| !one.starts_with(text));
        let vpn: Vec<_> = vpn.map(vpn_id).into_iter().collect();
        let codes = [51, 58, 59, 61, 82, 91, 152, 153, 156];
        known.check(reply, (xid, &times), (&first, &codes, &vpn));
        first.clear();
    }
    check_done(&replies[known.len()], xid, &times);
}

/// RFC 6926, sections 6.2.2 and 8.5: an answer that fails ends with a status code and a text.
#[test]
fn a_failed_answer_has_its_status() {
    let allowed = json!([{ "address": "127.0.0.0/8", "query-types": ["mac", "all"] }]);
    // More addresses than the system's buffers hold replies for.
    let kea = setup()
        .hook_parameters(json!({ "requesters": allowed }))
        .subnet(json!({
            "id": 2, "subnet": "10.0.0.0/8", "pools": [{ "pool": "10.0.0.0 - 10.255.255.255" }],
        }))
        .start();
    let status = |code: u8, text: &str| {
        with_fields(
            code::STATUS_CODE,
            [&[code], text.as_bytes()].concat(),
            &[
                ("dhcp.option.bulk_lease.status_code", &code.to_string()),
                ("dhcp.option.bulk_lease.status_code_message", text),
            ],
        )
    };
    let check_failure = |reply: &Decoded, xid: u32, first: Option<Expected>, status: Expected| {
        let base = seconds(reply, code::BASE_TIME);
        let options = [message_type(MessageType::LEASE_QUERY_DONE)].into_iter();
        let options = options
            .chain(first)
            .chain([time(code::BASE_TIME, base), status]);
        let header = header(true, xid, Ipv4Addr::UNSPECIFIED, (0, &[]));
        check(reply, &header, &options.collect::<Vec<_>>());
    };

    let bare = |primary| Query {
        parameter_request_list: None,
        ..Query::new(primary)
    };
    let mut malformed = bare(Primary::All);
    (malformed.start, malformed.end) = (Some(9), Some(7));
    let times = [
        time(code::QUERY_START_TIME, 9),
        time(code::QUERY_END_TIME, 7),
    ];
    let id = with_fields(
        code::CLIENT_IDENTIFIER,
        [0, b'i', b'd'],
        &[("dhcp.client_id.undef", "id")],
    );
    for (query, options, status) in [
        (
            malformed,
            times.to_vec(),
            status(3, "query-start-time 9 is later than query-end-time 7"),
        ),
        (
            bare(Primary::ClientId(id.value.clone())),
            vec![id],
            status(4, "query type client-id is not allowed to this requester"),
        ),
    ] {
        let xid = query.xid;
        let (replies, _) = ask(&kea, &[(query, options)]);
        let [done] = &replies[..] else {
            panic!("one reply: {replies:#?}")
        };
        check_failure(done, xid, Some(server_identifier(&kea)), status);
    }

    let query = bare(Primary::All);
    let stream = kea.send_octets(&query.to_bytes().expect("a query"));
    eventually("an answer", || {
        let answer = kea.command("blq4-connections", serde_json::Value::Null);
        answer["arguments"]["connections"][0]["octets-sent"].as_u64() > Some(100_000)
    });
    let local = stream.local_addr().expect("an address");
    let arguments = json!({ "address": local.ip().to_string(), "port": local.port() });
    kea.command_ok("blq4-disconnect", arguments);
    let done = received_octets(stream).pop().expect("a reply");
    let text = "the connection is ended by an administrator";
    check_failure(
        &tshark::decode(&[done])[0],
        query.xid,
        None,
        status(2, text),
    );
}

/// RFC 6926, section 6.2.8: a reply about a lease that another server granted has the data-source REMOTE.
#[test]
fn a_reply_about_a_partners_lease_is_remote() {
    let [renewal, rebinding, lifetime] = TIMES;
    let pair = Pair::start(Mode::HotStandby, true, |setup| {
        setup
            .set("renew-timer", json!(renewal))
            .set("rebind-timer", json!(rebinding))
            .set("valid-lifetime", json!(lifetime))
    });
    let relay = pair.relay(0).remote_id("line 1");
    let mut client = Client::new(1);
    relay.lease(&mut client);
    let option_82 = with_fields(
        code::RELAY_AGENT_INFORMATION,
        relay.option_82(),
        &[(
            "dhcp.option.agent_information_option.agent_remote_id",
            &colons(b"line 1"),
        )],
    );
    for (kea, remote) in [(&pair.first, false), (&pair.second, true)] {
        kea.await_active(&client);
        let last = last_transaction(kea, &client);
        let mut sent = vec![option_82.clone()];
        if remote {
            let field = "dhcp.option.bulk_lease.data_source";
            sent.push(option(code::DATA_SOURCE, [1], field, "1"));
        }
        let known = Known {
            address: client.address.expect("a lease"),
            state: State::ACTIVE,
            // The partner learns of the lease later.
            since: last..=seconds_now(),
            client: Some(client.clone()),
            last: Some(last),
            sent,
        };
        let codes = [157, 82, 51, 91, 152, 153];
        let mut query = Query::new(by_mac(&client));
        query.parameter_request_list = Some(codes.to_vec());
        let xid = query.xid;
        let (replies, times) = ask(kea, &[(query, vec![request_list(&codes)])]);
        let [binding, done] = &replies[..] else {
            panic!("two replies: {replies:#?}")
        };
        let first = [server_identifier(kea)];
        known.check(binding, (xid, &times), (&first, &codes, &[]));
        check_done(done, xid, &times);
    }
}
