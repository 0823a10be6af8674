//! The messages of a stream: changes of a mirror, over sockets (RFC 7724 sections 6, 7.4 and 8.2).

#[path = "support/active.rs"]
mod active;
#[path = "support/bench.rs"]
mod bench;

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::Arc;

use active::*;
use bench::{Bench, CONFIGURATION, all, by_mac, lease, relay_information};
use dhcp_blq::config::Config;
use dhcp_blq::kea_config::KeaConfig;
use dhcp_blq::mirror::apply_worker::ApplyWorker;
use dhcp_blq::mirror::event::{ClientInfo, Event, Lease, LeaseState, Origin};
use dhcp_blq::mirror::history::SavedHistory;
use dhcp_blq::mirror::{InitialLoad, Saved};
use dhcp_blq::model::binding::SubnetId;
use dhcp_blq::model::time::{Lifetime, Time};
use dhcp_blq::query::active::Permission;
use dhcp_blq::query::lease_engine::LeaseEngine;
use dhcp_blq::query::{Engine, Progress};
use dhcp_blq::server::Server;

/// DataMissing.
const DATA_MISSING: u8 = 5;
/// CatchUpComplete.
const CATCH_UP_COMPLETE: u8 = 7;

/// The first address of subnet 1's pool.
const ADDRESS: [u8; 4] = [10, 0, 1, 10];

/// A mirror and a server of active queries over it.
struct Setup {
    /// The server.
    server: Server,
    /// Applies events, and the ends of leases.
    _apply_worker: ApplyWorker,
    /// The mirror.
    bench: Bench,
}

/// Returns a mirror that was loaded a while ago, and whose history began long ago.
fn bench() -> Bench {
    bench_with(CONFIGURATION)
}

/// Returns such a mirror with a configuration.
fn bench_with(configuration: &str) -> Bench {
    let saved = Saved {
        saved_at: Some(Time(1)),
        history: Some(Box::new(SavedHistory {
            since: Time(1),
            ..SavedHistory::default()
        })),
        ..Saved::default()
    };
    let kea_config = Arc::new(KeaConfig::new(configuration, Vec::new(), &[]).unwrap());
    let loaded_at = Time(Time::now().0 - 1_000);
    Bench::over(InitialLoad::begin(kea_config, saved, loaded_at).finish())
}

impl Setup {
    /// Serves the mirror of a bench with the default parameters.
    fn new(bench: Bench) -> Setup {
        Setup::with(bench, "", "")
    }

    /// Serves the mirror of a bench with these parameters at the top level, and in `advanced`.
    fn with(bench: Bench, top: &str, advanced: &str) -> Setup {
        let json = format!(
            r#"{{ "requesters": ["127.0.0.1"], {top} "advanced": {{ "lease-query-ip": "127.0.0.1",
                  "max-bulk-query-threads": 1, {advanced} {INSECURE} }} }}"#
        );
        let config = Config {
            port: 0,
            ..Config::parse(&json).unwrap()
        };
        let server = serve(&bench.mirror, &config);
        let mirror = Arc::clone(&bench.mirror);
        Setup {
            server,
            _apply_worker: ApplyWorker::start(mirror, || {}, || {}).unwrap(),
            bench,
        }
    }

    /// Returns a requester with a stream of all later changes that has begun.
    fn stream(&self, query: blq::Message) -> Requester {
        // A catch-up from the future has no changes, and shows that the stream has begun.
        let start = u32::MAX.to_be_bytes();
        let mut requester = Requester::ask(&self.server, &query.with(154, start));
        assert_eq!(requester.message().status_code(), CATCH_UP_COMPLETE);
        requester
    }

    /// Returns the first requester, with a stream of all later changes that has begun without a message.
    fn begun(&self, query: blq::Message) -> Requester {
        let requester = Requester::ask(&self.server, &query);
        let has_begun = || {
            let connections = self.server.monitor().connections();
            connections.iter().any(|connection| connection.queries == 1)
        };
        while !has_begun() {
            std::thread::yield_now();
        }
        requester
    }

    /// Leases an address that subnet 1 has.
    fn lease(&self, host: u8, client: u8) {
        self.bench.lease([10, 0, 1, host], client, 0, &[]);
    }

    /// Pushes an event and applies it.
    fn push(&self, event: Event) {
        self.bench.mirror.queue().push(event);
        self.bench.mirror.catch_up();
    }
}

/// Returns the options of a message without base-time.
fn without_base_time(options: &BTreeMap<u8, Vec<u8>>) -> BTreeMap<u8, Vec<u8>> {
    let mut options = options.clone();
    options.remove(&152);
    options
}

//------------ Messages (RFC 7724 sections 7.3, 7.4 and 8.2) -----------------------------------

/// RFC 7724 sections 5.2.2, 7.3 and 8.2: the xid of the query, the address, and the options of a bulk reply; no
/// status.
#[test]
fn a_change_is_sent_as_a_bulk_reply_is() {
    let setup = Setup::new(bench());
    let mut requester = setup.stream(query(7));
    let information = relay_information(b"remote", b"relay");
    setup.bench.lease(ADDRESS, 1, 0, &information);
    let change = requester.message();
    assert_eq!(change.message_type(), ACTIVE);
    assert_eq!((change.message.xid, change.address()), (7, ADDRESS.into()));
    let codes: Vec<u8> = change.options.keys().copied().collect();
    // No server identifier, which the first message had; no status, no associated-ip.
    assert_eq!(codes, [51, 53, 58, 59, 61, 82, 91, 152, 153, 156]);
    assert_eq!(change.options[&82], information);
    assert_eq!(change.options[&156], [2]);
    let mut bulk = Requester::ask(&setup.server, &by_mac(1).to_message().unwrap());
    let mut reply = bulk.message();
    reply.options.remove(&54);
    let seconds = |received: &Received, code| received.number(code).unwrap();
    // The bulk reply may be a second later.
    if reply.base_time() == change.base_time() {
        assert_eq!(
            without_base_time(&reply.options),
            without_base_time(&change.options)
        );
    }
    assert_eq!(
        change.base_time() + seconds(&change, 51),
        reply.base_time() + seconds(&reply, 51)
    );
}

/// RFC 7724 section 8.2, RFC 6926 section 8.3; the contract.
#[test]
fn the_first_message_alone_has_the_server_identifier() {
    let setup = Setup::new(bench());
    // No catch-up: the first message is a change.
    let mut requester = setup.begun(query(7));
    let mut other = setup.stream(query(8));
    for client in 1..=3 {
        setup.lease(9 + client, client);
    }
    for number in 0..3 {
        assert!(!other.message().options.contains_key(&54));
        let change = requester.message();
        assert_eq!(change.options.contains_key(&54), number == 0);
    }
}

#[test]
fn the_parameter_request_list_decides_but_each_message_has_a_base_time() {
    let setup = Setup::with(bench(), r#""non-sensitive-options": [12],"#, "");
    // RFC 7724 section 8.2: the vendor class, 60, is withheld though asked for.
    let mut requester = setup.stream(query(7).with(55, [51, 60]));
    setup.lease(10, 1);
    let change = requester.message();
    let codes: Vec<u8> = change.options.keys().copied().collect();
    assert_eq!(codes, [51, 53, 152]);
}

/// RFC 7724 section 8.2: leaving the leased state MUST be sent.
#[test]
fn the_end_of_a_lease_is_sent_as_unassigned() {
    let setup = Setup::new(bench());
    let now = Time::now();
    let address = Ipv4Addr::from(ADDRESS);
    let declined = Lease {
        state: LeaseState::Declined,
        ..lease(ADDRESS, 1, now.0)
    };
    let events = [
        Event::Released {
            address,
            client: None,
            at: now,
            origin: Origin::Local,
        },
        Event::Removed {
            address,
            at: now,
            origin: Origin::Local,
        },
        Event::Updated {
            lease: declined,
            at: now,
            origin: Origin::Local,
        },
    ];
    let mut requester = setup.stream(query(7));
    for event in events {
        setup.bench.lease(ADDRESS, 1, 0, &[]);
        let change = requester.message();
        assert_eq!((change.message_type(), change.address()), (ACTIVE, address));
        setup.push(event.clone());
        let change = requester.message();
        assert_eq!(
            (change.message_type(), change.address()),
            (UNASSIGNED, address),
            "{event:?}"
        );
    }
}

/// RFC 7724 section 8.2: leaving the leased state is sent.
#[test]
fn a_lease_that_expires_is_sent_as_unassigned() {
    let setup = Setup::new(bench());
    let mut requester = setup.stream(query(7));
    // It has ended when Kea reports it.
    let ended = Lease {
        valid_lifetime: Lifetime(1),
        ..lease(ADDRESS, 1, Time::now().0)
    };
    setup.push(Event::Updated {
        lease: ended,
        at: Time::now(),
        origin: Origin::Local,
    });
    assert_eq!(requester.message().message_type(), ACTIVE);
    // By itself, without a report.
    let change = requester.message();
    assert_eq!(change.message_type(), UNASSIGNED);
    assert_eq!(change.options[&156], [3], "EXPIRED");
}

/// RFC 7724 section 8.2: every change, with its data-source.
#[test]
fn changes_made_by_a_partner_are_sent_too() {
    let setup = Setup::new(bench());
    let mut requester = setup.stream(query(7).with(55, [157]));
    setup.push(Event::Updated {
        lease: lease(ADDRESS, 1, Time::now().0),
        at: Time::now(),
        origin: Origin::Remote,
    });
    assert_eq!(requester.message().options[&157], [1]);
}

/// RFC 7724 section 7.3: the VPN-ID, as for Bulk Leasequery.
#[test]
fn only_changes_in_the_vpn_of_the_query_are_sent() {
    let setup = Setup::new(bench());
    let blue = [&[0][..], b"blue"].concat();
    let mut default = setup.stream(query(7));
    let mut in_blue = setup.stream(query(8).with(221, blue.clone()));
    let mut in_all = setup.stream(query(9).with(221, [254]));
    setup.bench.lease([10, 0, 2, 1], 1, 0, &[]);
    setup.lease(10, 2);
    assert_eq!(default.message().address(), Ipv4Addr::from(ADDRESS));
    let change = in_blue.message();
    assert_eq!(change.address(), Ipv4Addr::new(10, 0, 2, 1));
    assert_eq!(change.options[&221], blue);
    for last in [1, 10] {
        assert_eq!(in_all.message().address().octets()[3], last);
    }
}

/// RFC 7724 section 8.2: a server that answers bulk queries for reservations sends them when they are made.
#[test]
fn a_reservation_that_appears_is_sent() {
    let setup = Setup::new(bench());
    let mut requester = setup.stream(query(7));
    let configuration = CONFIGURATION.replace("10.0.1.200", "10.0.1.201");
    setup.push(Event::Reconfigured {
        kea_config: Arc::new(KeaConfig::new(&configuration, Vec::new(), &[]).unwrap()),
        is_complete: true,
        at: Time::now(),
    });
    let change = requester.message();
    assert_eq!(change.message_type(), UNASSIGNED);
    assert_eq!(change.address(), Ipv4Addr::new(10, 0, 1, 201));
}

//------------ Catch-up (RFC 7724 sections 7.4.1 and 8.2) --------------------------------------

/// RFC 7724 section 8.2: CatchUpComplete follows the changes since query-start-time.
#[test]
fn a_catch_up_has_the_changes_since_and_ends_with_catch_up_complete() {
    let setup = Setup::new(bench());
    let now = setup.bench.now;
    setup.bench.lease([10, 0, 1, 10], 1, 100, &[]);
    setup.bench.lease([10, 0, 1, 11], 2, 50, &[]);
    setup.bench.lease([10, 0, 1, 12], 3, 49, &[]);
    // Inclusive: the second of query-start-time itself.
    let mut requester = Requester::ask(&setup.server, &query_from(7, now - 50));
    let mut found = Vec::new();
    loop {
        let message = requester.message();
        if message.message_type() == STATUS {
            assert_eq!(message.status_code(), CATCH_UP_COMPLETE);
            assert_eq!(message.status().unwrap().1, "");
            break;
        }
        assert!(message.base_time() >= now);
        found.push(message.address().octets()[3]);
    }
    found.retain(|host| *host <= 12);
    assert_eq!(found, [11, 12]);
    // Live changes follow, without another status.
    setup.lease(13, 4);
    assert_eq!(requester.message().message_type(), ACTIVE);
}

/// RFC 7724 section 8.2: also if there is none.
#[test]
fn a_catch_up_without_changes_is_complete_at_once() {
    let setup = Setup::new(bench());
    let start = setup.bench.now + 1_000;
    let mut requester = Requester::ask(&setup.server, &query_from(7, start));
    let first = requester.message();
    assert_eq!(first.status_code(), CATCH_UP_COMPLETE);
    assert!(first.options.contains_key(&54));
}

/// RFC 7724 section 8.2: without query-start-time there is no CatchUpComplete.
#[test]
fn a_query_without_start_has_no_catch_up() {
    let setup = Setup::new(bench());
    setup.bench.lease(ADDRESS, 1, 10, &[]);
    let mut requester = setup.begun(query(7));
    setup.lease(11, 2);
    let first = requester.message();
    assert_eq!(
        (first.message_type(), first.address().octets()[3]),
        (ACTIVE, 11)
    );
}

/// RFC 7724 sections 7.4.1 and 8.2: DataMissing with the current time ends the catch-up. How far it goes back is
/// limited and configurable.
#[test]
fn a_start_before_the_history_is_data_missing_and_later_changes_follow() {
    let history = r#""active-history": 60,"#;
    for (setup, ago) in [
        // Before the state file, and before the history that is permitted.
        (Setup::new(Bench::with_saved(Saved::default())), 10),
        (Setup::with(bench(), "", history), 61),
    ] {
        let now = setup.bench.now;
        setup.bench.lease(ADDRESS, 1, 5, &[]);
        let mut requester = Requester::ask(&setup.server, &query_from(7, now - ago));
        let status = requester.message();
        assert_eq!(status.status_code(), DATA_MISSING);
        assert!(status.base_time() >= now, "the current time");
        setup.lease(11, 2);
        let change = requester.message();
        assert_eq!(
            (change.message_type(), change.address().octets()[3]),
            (ACTIVE, 11)
        );
    }
}

/// RFC 7724 section 7.4.1.
#[test]
fn data_that_is_lost_later_is_data_missing_and_the_stream_goes_on() {
    let bench = bench();
    let engine = LeaseEngine::new(Arc::clone(&bench.mirror), None).with_active(Some(Permission {
        is_insecure: true,
        history: None,
    }));
    let mut answer = engine
        .open(&query(7).encode(), &bench.requester)
        .ok()
        .unwrap();
    let mut out = Vec::new();
    assert_eq!(engine.write(&mut answer, &mut out, 60_000), Progress::Idle);
    bench.lease(ADDRESS, 1, 0, &[]);
    // It moves to another VPN; then more changes follow than the change log holds, which alone has the old one.
    bench.lease(ADDRESS, 1, 0, &[&[151, 5, 0][..], b"blue"].concat());
    for number in 0..40_000_u32 {
        bench.lease([10, 0, 1, 11], number as u8, 0, &[]);
    }
    let mut statuses = Vec::new();
    loop {
        out.clear();
        let progress = engine.write(&mut answer, &mut out, 60_000);
        let mut rest = &out[..];
        while let Some((size, messages)) = rest.split_first_chunk() {
            let (message, messages) = messages.split_at(u16::from_be_bytes(*size).into());
            let message = blq::Message::decode(message).unwrap();
            statuses.extend(message.option(151).map(|value| value[0]));
            rest = messages;
        }
        if progress == Progress::Idle {
            break;
        }
    }
    assert_eq!(statuses, [DATA_MISSING]);
    out.clear();
    bench.lease([10, 0, 1, 12], 1, 0, &[]);
    assert_eq!(engine.write(&mut answer, &mut out, 60_000), Progress::Idle);
    assert!(!out.is_empty());
}

#[test]
fn a_start_from_before_the_clock_was_set_back_is_data_missing() {
    let setup = Setup::new(bench());
    let now = setup.bench.now;
    // The requester has the base-time of this stream, then the clock is set back by ten minutes, and forward.
    let mut requester = setup.stream(query(7));
    setup.lease(10, 1);
    let base = requester.message().base_time();
    setup.bench.lease([10, 0, 1, 11], 2, 600, &[]);
    let missed = requester.message();
    assert_eq!(
        (missed.address().octets()[3], missed.base_time()),
        (11, now - 600)
    );
    for start in [now - 600, base] {
        let mut again = Requester::ask(&setup.server, &query_from(8, start));
        assert_eq!(again.message().status_code(), DATA_MISSING);
    }
}

//------------ High availability (RFC 6926 section 6.2.7) --------------------------------------

#[test]
fn an_available_address_that_a_partner_assigns_is_sent_in_its_other_state() {
    let configuration = r#"{ "Dhcp4": {
        "hooks-libraries": [ { "library": "/usr/lib/libdhcp_ha.so", "parameters": {
            "high-availability": [ { "this-server-name": "one", "mode": "load-balancing",
                "peers": [ { "name": "one", "role": "primary" },
                           { "name": "two", "role": "secondary" } ] } ] } } ],
        "subnet4": [ { "id": 1, "subnet": "10.0.1.0/24", "pools": [
            { "pool": "10.0.1.10-10.0.1.19", "client-class": "HA_two" } ] } ] } }"#;
    let setup = Setup::new(bench_with(configuration));
    // Declined, and free again after the probation; another one was released.
    let declined = Lease {
        state: LeaseState::Declined,
        valid_lifetime: Lifetime(10),
        ..lease(ADDRESS, 1, setup.bench.now - 100)
    };
    setup.bench.commit(declined, &[]);
    setup.bench.lease([10, 0, 1, 11], 2, 100, &[]);
    setup.push(Event::Released {
        address: Ipv4Addr::new(10, 0, 1, 11),
        client: None,
        at: Time::now(),
        origin: Origin::Local,
    });
    let state = |requester: &mut Requester| {
        let message = requester.message();
        assert_eq!(message.message_type(), UNASSIGNED);
        (message.address().octets()[3], message.options[&156][0])
    };
    let mut requester = setup.stream(query(7));
    let query_all = all().to_message().unwrap();
    let bulk = |last: u8| {
        let (bindings, _) = setup.bench.answer(&query_all);
        let mut bindings = bindings.into_iter();
        let binding = bindings.find(|binding| binding.address.octets()[3] == last);
        binding.unwrap().state.unwrap().0
    };
    for (scopes, available) in [(&["one", "two"][..], 1), (&["one"], 7)] {
        setup.push(Event::Serving {
            serving: scopes.iter().map(|scope| (*scope).to_owned()).collect(),
            at: Time::now(),
        });
        assert_eq!(state(&mut requester), (10, available));
        assert_eq!((bulk(10), bulk(11)), (available, 4), "RELEASED remains");
    }
    // Nothing else is sent.
    setup.lease(12, 3);
    assert_eq!(requester.message().address().octets()[3], 12);
}

//------------ Coalescing (RFC 7724 section 6) -------------------------------------------------

/// RFC 7724 section 6: the state at the time of the message alone is owed.
#[test]
fn an_address_that_changes_many_times_unsent_is_sent_once() {
    let bench = bench();
    let engine = LeaseEngine::new(Arc::clone(&bench.mirror), None).with_active(Some(Permission {
        is_insecure: true,
        history: None,
    }));
    let message = query(7).encode();
    let mut answer = engine.open(&message, &bench.requester).ok().unwrap();
    let mut out = Vec::new();
    assert_eq!(engine.write(&mut answer, &mut out, 60_000), Progress::Idle);
    assert!(out.is_empty());
    for client in 0..1_000_u32 {
        bench.lease(ADDRESS, client as u8, 0, &[]);
        bench.lease([10, 0, 1, 11], client as u8, 0, &[]);
    }
    assert_eq!(engine.write(&mut answer, &mut out, 60_000), Progress::Idle);
    assert_eq!(engine.messages(&answer), 2);
    assert_eq!(engine.bindings(&answer), 2);
    let (size, rest) = out.split_first_chunk().unwrap();
    let first = &rest[..u16::from_be_bytes(*size).into()];
    let first = blq::Message::decode(first).unwrap();
    assert_eq!(first.chaddr[5], 999_u32 as u8, "the last state");
}

//------------ Requesters that read late -------------------------------------------------------

/// More addresses than the kernel holds messages about, and than the change log holds changes.
const MANY: u32 = 50_000;

/// Serves a mirror of a large subnet.
fn large() -> Setup {
    let config = r#"{ "Dhcp4": { "subnet4": [ { "id": 1, "subnet": "10.0.0.0/8" } ] } }"#;
    let kea_config = KeaConfig::new(config, Vec::new(), &[]).unwrap();
    let initial_load = InitialLoad::begin(Arc::new(kea_config), Saved::default(), Time::now());
    Setup::new(Bench::over(initial_load.finish()))
}

/// Returns an address of the large subnet.
fn numbered(number: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(0x0a00_0000 + number)
}

impl Setup {
    /// Reports the lease of an address of the large subnet to a client whose relay agent may name a VPN.
    fn lease_numbered(&self, number: u32, client: u8, vpn: Option<&str>) {
        let lease = Lease {
            subnet: SubnetId(1),
            ..lease(numbered(number).octets(), client, Time::now().0)
        };
        let vss = |vpn: &str| [&[151, vpn.len() as u8 + 1, 0], vpn.as_bytes()].concat();
        let client_info = ClientInfo {
            relay_agent_information: vpn.map(vss),
            ..ClientInfo::default()
        };
        let queue = self.bench.mirror.queue();
        queue.push(Event::Committed { lease, client_info });
    }

    /// Leases the first addresses of the large subnet to a client.
    fn lease_many(&self, client: u8) {
        for number in 0..MANY {
            self.lease_numbered(number, client, None);
            if number % 1_000 == 0 {
                self.bench.mirror.catch_up();
            }
        }
        self.bench.mirror.catch_up();
    }

    /// Waits until the only requester, which reads nothing, is blocked: the kernel holds no more messages.
    fn wait_until_blocked(&self) {
        let is_blocked = || {
            let connections = self.server.monitor().connections();
            let mut blocked = connections.iter().map(|connection| connection.blocked_for);
            blocked.any(|seconds| seconds.is_some_and(|seconds| seconds > 0))
        };
        while !is_blocked() {
            std::thread::yield_now();
        }
    }
}

/// RFC 7724 sections 6 and 8.2: no change waits for a requester, and no address is lost, however late it is sent.
#[test]
fn every_address_is_sent_to_a_requester_that_reads_late() {
    let setup = large();
    let mut requester = setup.stream(query(7));
    setup.lease_many(1);
    setup.lease_many(2);
    // The last message about each has its last state.
    let mut late = BTreeSet::new();
    while late.len() < MANY as usize {
        let message = requester.message();
        assert_eq!(message.message_type(), ACTIVE);
        if message.message.chaddr[5] == 2 {
            late.insert(message.address());
        }
    }
}

/// RFC 7724 section 6: the state at the time of the message alone is owed.
#[test]
fn an_address_that_changes_while_the_requester_is_blocked_is_sent_once() {
    let setup = large();
    let mut requester = setup.stream(query(7));
    setup.lease_many(1);
    setup.wait_until_blocked();
    for client in (2..=250).cycle().take(1_000).chain([251]) {
        setup.lease_numbered(MANY, client, None);
        setup.bench.mirror.catch_up();
    }
    let mut clients = Vec::new();
    while !clients.contains(&251) {
        let message = requester.message();
        if message.address() == numbered(MANY) {
            clients.push(message.message.chaddr[5]);
        }
    }
    assert_eq!(clients, [251]);
}

/// RFC 7724 section 7.4.1: a binding leaves the VPN of the query, and the change log, which alone has that, loses it.
#[test]
fn changes_that_a_blocked_requester_loses_are_data_missing_and_the_stream_goes_on() {
    let setup = large();
    setup.lease_numbered(MANY, 1, None);
    setup.bench.mirror.catch_up();
    let mut requester = setup.stream(query(7));
    setup.lease_many(1);
    setup.wait_until_blocked();
    setup.lease_numbered(MANY, 1, Some("blue"));
    setup.lease_many(2);
    let mut next = || loop {
        let message = requester.message();
        if message.message_type() == STATUS || message.address() > numbered(MANY) {
            return message;
        }
        assert_ne!(message.address(), numbered(MANY));
    };
    let status = next();
    assert_eq!(status.status_code(), DATA_MISSING);
    assert_ne!(status.base_time(), 0);
    setup.lease_numbered(MANY + 1, 1, None);
    setup.bench.mirror.catch_up();
    let later = next();
    assert_eq!(later.message_type(), ACTIVE);
    assert_eq!(later.address(), numbered(MANY + 1));
}
