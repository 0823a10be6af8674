//! Two high-availability partners: each server's hook agrees with its own Kea, marks the changes
//! that came from the partner, and reports the partner's free addresses as REMOTE.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::thread;

use blq::{Binding, Primary, Query, State, Vss};
use kea_tests::ask::addresses;
use kea_tests::clock;
use kea_tests::packet::MessageType;
use kea_tests::{
    Client, Kea, Mode, Pair, Setup, eventually, eventually_some, kea_version, may_ping,
};
use serde_json::{Value, json};

/// A lifetime whose end the tests await, in seconds; long enough to observe the lease before it.
const SHORT: u32 = 5;

/// Returns the time in seconds since 1970.
fn now() -> u32 {
    u32::try_from(clock::now()).expect("a clock before 2106")
}

/// Waits for the next second of the clock, so that later changes have a later time. Returns it.
fn later() -> u32 {
    u32::try_from(clock::later()).expect("a clock before 2106")
}

/// Returns the start of a binding's state, in seconds since 1970.
#[track_caller]
fn since(binding: &Binding) -> u32 {
    binding.state_started_at().expect("start-time-of-state")
}

/// Returns the bindings of all configured addresses.
fn answers(kea: &Kea) -> BTreeMap<Ipv4Addr, Binding> {
    let mut query = Query::new(Primary::All);
    query.vpn = Some(Vss::All);
    let all = kea.bindings(&query);
    all.into_iter().map(|one| (one.address, one)).collect()
}

/// Returns the address of a lease in Kea's notation.
fn address_of(lease: &Value) -> Ipv4Addr {
    let text = lease["ip-address"].as_str().expect("an address");
    text.parse().expect("an IPv4 address")
}

/// Returns the possible states of an address with this lease in Kea.
fn states(lease: &Value) -> &'static [State] {
    let number = |name: &str| lease[name].as_u64().expect("a number");
    let over = number("cltt") + number("valid-lft") <= u64::from(now());
    // Kea 2.6 keeps a released lease as one without lifetime.
    match (number("state"), number("valid-lft"), over) {
        (3, ..) | (0 | 2, 0, _) => &[State::RELEASED],
        (0, _, false) => &[State::ACTIVE],
        (0, _, true) => &[State::EXPIRED],
        (1, ..) => &[State::ABANDONED],
        _ => &[State::EXPIRED, State::RELEASED],
    }
}

/// Returns the differences between the hook's answers and Kea's leases.
fn differences(kea: &Kea) -> Vec<String> {
    let mut bindings = answers(kea);
    let mut differences = Vec::new();
    for lease in kea.leases() {
        let Some(binding) = bindings.remove(&address_of(&lease)) else {
            differences.push(format!("no binding for {lease}"));
            continue;
        };
        let chaddr: Vec<_> = binding.chaddr.iter().map(|o| format!("{o:02x}")).collect();
        let active = binding.state == Some(State::ACTIVE);
        let same_client = lease["hw-address"] == chaddr.join(":");
        let allowed = |state| states(&lease).contains(&state);
        if !binding.state.is_some_and(allowed) || active && !same_client {
            differences.push(format!("{binding:?} for {lease}"));
        }
    }
    let leased = [State::ACTIVE, State::ABANDONED, State::TRANSITIONING];
    for binding in bindings.values() {
        if binding.state.is_some_and(|state| leased.contains(&state)) {
            differences.push(format!("{binding:?} without a lease"));
        }
    }
    differences
}

/// Waits until the hook's answers agree with the leases of its own Kea.
#[track_caller]
fn await_agreement(kea: &Kea) {
    let mut last = Vec::new();
    eventually(&format!("agreement at {}", kea.place().server()), || {
        let found = differences(kea);
        if found != last {
            eprintln!("{}: {found:#?}", kea.place().server());
            last = found;
        }
        last.is_empty()
    });
}

/// Waits until both hooks agree with their own Kea.
#[track_caller]
fn await_agreement_of(pair: &Pair) {
    for kea in pair.servers() {
        await_agreement(kea);
    }
}

/// Waits until both servers' hooks have the clients' leases.
#[track_caller]
fn await_active_at_both(pair: &Pair, clients: &[Client]) {
    for kea in pair.servers() {
        for client in clients {
            kea.await_active(client);
        }
    }
}

/// Waits until each never leased address is in a state. Returns the number of these addresses, and
/// the earliest and the latest start of the state.
#[track_caller]
fn await_free(kea: &Kea, hosts: impl Fn(u8) -> bool, state: State) -> (usize, u32, u32) {
    let what = format!("free addresses {state} at {}", kea.place().server());
    let free = eventually_some(&what, || {
        let all = answers(kea).into_values();
        let of_pool = all.filter(|one| hosts(one.address.octets()[3]));
        let never_leased = [State::AVAILABLE, State::REMOTE].map(Some);
        let free: Vec<_> = of_pool
            .filter(|one| never_leased.contains(&one.state))
            .collect();
        let all = free.iter().all(|one| one.state == Some(state));
        all.then_some(free)
    });
    let starts = || free.iter().map(since);
    let some = "a free address";
    (
        free.len(),
        starts().min().expect(some),
        starts().max().expect(some),
    )
}

/// Waits until an address is in a state with the expected origin, which the hook may learn a moment
/// after the change. Returns the binding.
#[track_caller]
fn await_source(kea: &Kea, address: Ipv4Addr, state: State, remote: bool) -> Binding {
    eventually_some(&format!("{address} {state}, remote: {remote}"), || {
        let found = kea.binding(address);
        found.filter(|one| one.state == Some(state) && one.is_remote() == remote)
    })
}

/// Returns the addresses whose bindings changed at `start` or later.
fn changed_since(kea: &Kea, start: u32) -> Vec<Ipv4Addr> {
    let mut query = Query::new(Primary::All);
    query.start = Some(start);
    addresses(&kea.bindings(&query))
}

/// Returns the setup unchanged.
fn plain(setup: Setup) -> Setup {
    setup
}

/// RFC 6926, sections 6.2.8 and 8.3: both partners report the same values of a lease, with the
/// relay's option 82; the partner that did not grant it marks it REMOTE. In both modes,
/// multi-threaded (partners connect to each other directly) and single-threaded (through control
/// agents).
#[test]
fn reports_a_lease_at_both_partners() {
    for (mode, multi_threading) in [
        (Mode::HotStandby, true),
        (Mode::HotStandby, false),
        (Mode::LoadBalancing, true),
        (Mode::LoadBalancing, false),
    ] {
        let pair = Pair::start(mode, multi_threading, plain);
        let relay = pair.relay(0).remote_id("line 1").relay_id("relay 1");
        let [maker, partner] = match mode {
            Mode::HotStandby => pair.servers(),
            Mode::LoadBalancing => [&pair.second, &pair.first],
        };
        let client = match mode {
            Mode::HotStandby => {
                let mut client = Client::new(1);
                relay.lease(&mut client);
                client
            }
            Mode::LoadBalancing => pair.lease_from(1, &relay, 1).0,
        };
        let address = client.address.expect("a lease");
        let here = await_source(maker, address, State::ACTIVE, false);
        let there = await_source(partner, address, State::ACTIVE, true);
        for binding in [&here, &there] {
            assert_eq!(binding.chaddr, client.chaddr);
            assert_eq!(binding.remote_id(), Some(&b"line 1"[..]));
            assert_eq!(binding.relay_id(), Some(&b"relay 1"[..]));
            let last = binding.client_last_transaction_at();
            assert_eq!(last, here.client_last_transaction_at());
        }
        assert!(since(&there) >= since(&here));
        await_agreement_of(&pair);
    }
}

/// RFC 3046: option 82 reaches the partner only with the lease, if Kea stores it
/// (`store-extended-info`).
#[test]
fn has_no_option_82_of_a_partners_lease_unless_kea_stores_it() {
    let pair = Pair::start(Mode::HotStandby, true, |setup| {
        setup.set("store-extended-info", json!(false))
    });
    let relay = pair.relay(0).remote_id("line 1");
    let mut client = Client::new(1);
    let address = relay.lease(&mut client).yiaddr;
    let (here, there) = pair.servers().map(|kea| kea.await_active(&client)).into();
    assert_eq!(here.remote_id(), Some(&b"line 1"[..]));
    assert_eq!(there.remote_id(), None);
    let found = |kea: &Kea| addresses(&kea.find(Primary::RemoteId(b"line 1".to_vec())));
    assert_eq!(found(&pair.first), [address]);
    assert!(found(&pair.second).is_empty());
}

/// RFC 6926, section 6.2.7: leases that a client releases or declines are RELEASED and ABANDONED at
/// the partner too, never RESET, from then on, and marked REMOTE there.
#[test]
fn reports_a_release_and_a_decline_at_both_partners() {
    for multi_threading in [true, false] {
        let pair = Pair::start(Mode::HotStandby, multi_threading, plain);
        await_free(&pair.first, |_| true, State::AVAILABLE);
        await_free(&pair.second, |_| true, State::REMOTE);
        let relay = pair.relay(0);
        let (mut first, mut second) = (Client::new(1), Client::new(2));
        let released = relay.lease(&mut first).yiaddr;
        let declined = relay.lease(&mut second).yiaddr;
        pair.second.await_active(&second);
        let step = later();
        relay.release(&mut first);
        relay.decline(&mut second);
        for (kea, remote) in pair.servers().into_iter().zip([false, true]) {
            for (address, state) in [(released, State::RELEASED), (declined, State::ABANDONED)] {
                let binding = await_source(kea, address, state, remote);
                assert!(since(&binding) >= step, "{step} {binding:?}");
            }
            assert_eq!(changed_since(kea, step), [released, declined]);
        }
        await_agreement_of(&pair);
    }
}

/// The contract's states: a lease expires at both partners when its lifetime ends.
#[test]
fn reports_an_expiry_at_both_partners() {
    let pair = Pair::start(Mode::HotStandby, true, |setup| {
        setup.set("valid-lifetime", json!(SHORT))
    });
    let mut client = Client::new(1);
    let relay = pair.relay(0).remote_id("line 1");
    let address = relay.lease(&mut client).yiaddr;
    let leased = pair.first.await_active(&client);
    let end = leased.client_last_transaction_at().expect("option 91") + SHORT;
    for kea in pair.servers() {
        let expired = kea.await_state(address, State::EXPIRED);
        assert_eq!(since(&expired), end);
        assert_eq!(expired.chaddr, client.chaddr);
    }
    for kea in pair.servers() {
        kea.await_lease(address, |lease| lease["state"] == 2);
        await_agreement(kea);
        let reclaimed = kea.await_state(address, State::EXPIRED);
        assert_eq!(since(&reclaimed), end);
    }
    // Each server reclaims on its own: the first receives no update.
    await_source(&pair.first, address, State::EXPIRED, false);
}

/// RFC 6926, section 6.2.7: an address whose lease an administrator deletes at one server is RESET
/// there. Kea does not inform the partner, whose lease stays.
#[test]
fn reports_an_administrators_deletion_only_where_it_was_made() {
    for deleting in [0, 1] {
        let pair = Pair::start(Mode::HotStandby, true, plain);
        let mut client = Client::new(1);
        let address = pair.relay(0).lease(&mut client).yiaddr;
        pair.second.await_active(&client);
        let kea = pair.servers()[deleting];
        let step = later();
        kea.command_ok("lease4-del", json!({ "ip-address": address.to_string() }));
        let reset = await_source(kea, address, State::RESET, false);
        assert!(since(&reset) >= step);
        let other = pair.servers()[1 - deleting];
        other.await_active(&client);
        await_agreement_of(&pair);
        for link in [pair.link_to_first(), pair.link_to_second()] {
            assert_eq!(link.commands("lease4-del"), Vec::<Value>::new());
        }
    }
}

/// RFC 6926, section 6.2.7: in hot standby the free addresses belong to the primary: AVAILABLE
/// there, REMOTE at the standby. While the primary is down they belong to the standby.
#[test]
fn reports_the_owner_of_free_addresses_in_hot_standby() {
    let mut pair = Pair::start(Mode::HotStandby, true, plain);
    let all = |_| true;
    let (count, ..) = await_free(&pair.first, all, State::AVAILABLE);
    assert_eq!(count, 101);
    await_free(&pair.second, all, State::REMOTE);

    let step = later();
    pair.first.kill();
    pair.second.await_ha_state("partner-down");
    let (count, earliest, _) = await_free(&pair.second, all, State::AVAILABLE);
    assert_eq!(count, 101);
    assert!(earliest >= step, "{earliest} {step}");
    let mut client = Client::new(1);
    let address = pair.relay(0).lease(&mut client).yiaddr;
    await_source(&pair.second, address, State::ACTIVE, false);

    let step = later();
    pair.first.start_again();
    pair.await_normal();
    await_free(&pair.first, all, State::AVAILABLE);
    let (count, earliest, _) = await_free(&pair.second, all, State::REMOTE);
    assert_eq!(count, 100);
    assert!(earliest >= step, "{earliest} {step}");
    await_source(&pair.first, address, State::ACTIVE, true);
    await_source(&pair.second, address, State::ACTIVE, false);
    // The primary's free addresses are unchanged.
    assert_eq!(changed_since(&pair.first, step), [address]);
    await_agreement_of(&pair);
}

/// RFC 6926, section 6.2.7: in load balancing the free addresses of a server's pool are AVAILABLE
/// there, REMOTE at the other. While one server is down they all belong to the other.
#[test]
fn reports_the_owner_of_free_addresses_in_load_balancing() {
    let mut pair = Pair::start(Mode::LoadBalancing, true, plain);
    let pools: [fn(u8) -> bool; 2] = [|host| host < 150, |host| host >= 150];
    let mut before = 0;
    for (n, kea) in pair.servers().into_iter().enumerate() {
        await_free(kea, pools[1 - n], State::REMOTE);
        let (count, _, latest) = await_free(kea, pools[n], State::AVAILABLE);
        assert_eq!(count, [50, 51][n]);
        before = latest.max(before);
    }

    let step = later();
    pair.second.kill();
    pair.first.await_ha_state("partner-down");
    let (_, earliest, _) = await_free(&pair.first, pools[1], State::AVAILABLE);
    assert!(earliest >= step, "{earliest} {step}");
    // These addresses belonged to the first server all the time.
    let (_, _, latest) = await_free(&pair.first, pools[0], State::AVAILABLE);
    assert!(latest <= before, "{latest} {before}");

    let step = later();
    pair.second.start_again();
    pair.await_normal();
    let (_, earliest, _) = await_free(&pair.first, pools[1], State::REMOTE);
    assert!(earliest >= step, "{earliest} {step}");
    let (_, _, latest) = await_free(&pair.first, pools[0], State::AVAILABLE);
    assert!(latest <= before, "{latest} {before}");
    await_free(&pair.second, pools[1], State::AVAILABLE);
    await_free(&pair.second, pools[0], State::REMOTE);
    await_agreement_of(&pair);
}

/// RFC 6926, section 6.2.7: in load balancing a pool that is not reserved for one server's clients
/// is AVAILABLE at both.
#[test]
fn reports_addresses_of_a_common_pool_as_available_at_both() {
    let pair = Pair::start(Mode::LoadBalancing, true, |setup| {
        let pool = setup.place.pool(100, 200);
        setup.in_subnet(json!({ "pools": [{ "pool": pool }] }))
    });
    for kea in pair.servers() {
        let (count, ..) = await_free(kea, |_| true, State::AVAILABLE);
        assert_eq!(count, 101);
    }
    let mut clients = [1, 2, 3, 4].map(Client::new);
    for client in &mut clients {
        pair.relay(0).lease(client);
    }
    await_active_at_both(&pair, &clients);
    for kea in pair.servers() {
        let (count, ..) = await_free(kea, |_| true, State::AVAILABLE);
        assert_eq!(count, 101 - clients.len());
    }
}

/// RFC 6926, section 6.2.7: a hub with several partners owns the free addresses of a subnet if it
/// serves the scope of the relationship that the subnet belongs to (`ha-server-name`).
#[test]
fn reports_the_owner_of_free_addresses_by_relationship() {
    if kea_version().starts_with("2.") {
        // A server has at most one partner in this version.
        return;
    }
    let setup = Setup::with_hook(json!({}));
    let place = setup.place;
    let relationship = |n: u8| {
        let peer = |name: &str, role: &str, host: u8| {
            let url = format!("http://{}:6769/", place.address(host));
            json!({ "name": format!("{name}{n}"), "role": role, "url": url })
        };
        json!({
            "this-server-name": format!("hub{n}"),
            "mode": "hot-standby",
            "heartbeat-delay": 300,
            "max-response-delay": 1000,
            "max-unacked-clients": 0,
            // No server listens there.
            "peers": [peer("spoke", "primary", 4 + n), peer("hub", "standby", 2 + n)],
        })
    };
    let half = |n: u8, prefix: String, pool: String| {
        json!({ "id": n, "subnet": prefix, "pools": [{ "pool": pool }],
            "user-context": { "ha-server-name": format!("hub{n}") } })
    };
    let [low, high] = [0, 128].map(|host| format!("{}/25", place.address(host)));
    let kea = setup
        .subnets(json!([
            half(1, low, place.pool(20, 29)),
            half(2, high, place.pool(150, 159)),
        ]))
        .kea_library("libdhcp_lease_cmds.so", json!({}))
        .kea_library(
            "libdhcp_ha.so",
            json!({ "high-availability": [relationship(1), relationship(2)] }),
        )
        .start();
    kea.await_ha_state("partner-down");
    let (count, ..) = await_free(&kea, |_| true, State::AVAILABLE);
    assert_eq!(count, 20);
    for [own, other] in [[1, 2], [2, 1]] {
        let step = later();
        let scopes = |n, scopes| json!({ "server-name": format!("hub{n}"), "scopes": scopes });
        kea.command_ok("ha-scopes", scopes(own, json!([format!("spoke{own}")])));
        kea.command_ok("ha-scopes", scopes(other, json!([])));
        let low = |host: u8| host < 128;
        await_free(&kea, |host| low(host) == (own == 1), State::AVAILABLE);
        let (count, earliest, _) = await_free(&kea, |host| low(host) != (own == 1), State::REMOTE);
        assert_eq!(count, 10);
        assert!(earliest >= step, "{earliest} {step}");
    }
}

/// RFC 6926, section 8.2: a reload of the unchanged configuration changes no free address, though
/// it restarts high availability.
#[test]
fn keeps_the_owner_of_free_addresses_over_a_reload() {
    let pair = Pair::start(Mode::HotStandby, true, plain);
    let all = |_| true;
    let states = [State::AVAILABLE, State::REMOTE];
    let each = || [0, 1].map(|n| await_free(pair.servers()[n], all, states[n]));
    let before = each();
    let step = later();
    for kea in pair.servers() {
        kea.command_ok("config-reload", Value::Null);
        pair.await_normal();
        // The hook has seen by now that high availability restarted and that it works again.
        later();
        later();
    }
    assert_eq!(each(), before);
    for kea in pair.servers() {
        assert!(changed_since(kea, step).is_empty());
    }
}

/// RFC 6926, section 8.2: a restart of the standby changes no free address.
#[test]
fn keeps_the_owner_of_free_addresses_over_a_restart() {
    let mut pair = Pair::start(Mode::HotStandby, true, plain);
    let states = [State::AVAILABLE, State::REMOTE];
    let each = |pair: &Pair| {
        let servers = pair.servers();
        [0, 1].map(|n| await_free(servers[n], |_| true, states[n]))
    };
    let before = each(&pair);
    let step = later();
    for crash in [false, true] {
        if crash {
            pair.second.kill();
        } else {
            pair.second.stop();
        }
        pair.second.start_again();
        pair.await_normal();
        assert_eq!(each(&pair), before);
        for kea in pair.servers() {
            assert!(changed_since(kea, step).is_empty());
        }
    }
}

/// RFC 6926, sections 6.2.8 and 8.2: a restarted server reports the changes made by its partner
/// meanwhile as REMOTE, with the time at which it learned of them, and no others.
#[test]
fn reports_the_partners_changes_after_a_crash() {
    for mode in [Mode::HotStandby, Mode::LoadBalancing] {
        let mut pair = Pair::start(mode, true, plain);
        let relay = pair.relay(0).remote_id("line 1");
        let mut clients = [1, 2, 3, 4].map(Client::new);
        for client in &mut clients {
            relay.lease(client);
        }
        await_active_at_both(&pair, &clients);
        let [stays, released, deleted, declined] = &mut clients;
        clock::settle();
        let step = later();
        pair.first.kill();
        pair.second.await_ha_state("partner-down");
        let mut new = Client::new(5);
        relay.lease(&mut new);
        relay.release(released);
        relay.decline(declined);
        let address = deleted.address.expect("a lease").to_string();
        let deletion = json!({ "ip-address": address });
        pair.second.command_ok("lease4-del", deletion);
        pair.second.await_active(&new);
        await_agreement(&pair.second);

        pair.first.start_again();
        pair.await_normal();
        let learnt = pair.first.await_active(&new);
        assert!(learnt.is_remote(), "{learnt:?}");
        assert_eq!(learnt.remote_id(), Some(&b"line 1"[..]));
        assert!(since(&learnt) >= step);
        await_agreement_of(&pair);
        let kept = pair.first.await_active(stays);
        assert!(since(&kept) <= step, "{kept:?} {step}");
        let address = new.address.expect("a lease");
        assert!(changed_since(&pair.first, step).contains(&address));
        assert!(!changed_since(&pair.first, step).contains(&kept.address));
    }
}

/// RFC 6926, section 8.2: separated partners each report their own leases, also those that conflict
/// with the partner's, and the leases they hold once reconnected.
#[test]
fn reports_its_own_leases_during_and_after_a_partition() {
    for (mode, multi_threading) in [
        (Mode::HotStandby, true),
        (Mode::LoadBalancing, true),
        (Mode::HotStandby, false),
    ] {
        let pair = Pair::start(mode, multi_threading, plain);
        let both = pair.relay(0).remote_id("line 1");
        let mut clients = [1, 2, 3].map(Client::new);
        for client in &mut clients {
            both.lease(client);
        }
        await_active_at_both(&pair, &clients);
        let step = later();
        pair.partition();
        let [to_first, to_second] = [pair.first.relay(1), pair.second.relay(2)];
        let [released_at_first, released_at_second, declined] = &mut clients;
        to_first.release(released_at_first);
        to_second.release(released_at_second);
        to_second.decline(declined);
        let mut contested = [Client::new(4), Client::new(5)];
        to_first.lease(&mut contested[0]);
        to_second.lease(&mut contested[1]);
        let mut later_one = Client::new(6);
        to_second.lease(&mut later_one);
        pair.first.await_active(&contested[0]);
        pair.second.await_active(&later_one);
        await_agreement_of(&pair);
        for kea in pair.servers() {
            // No new lease is from the partner.
            let started = |one: &Binding| since(one) >= step && one.state == Some(State::ACTIVE);
            let all = answers(kea).into_values();
            let new: Vec<_> = all.filter(started).collect();
            assert!(!new.is_empty());
            assert!(new.iter().all(|one| !one.is_remote()), "{new:?}");
            await_free(kea, |_| true, State::AVAILABLE);
        }

        let step = later();
        pair.restore();
        await_agreement_of(&pair);
        // Kea does not always synchronise both partners.
        let address = later_one.address.expect("a lease");
        let held = pair.first.lease(address);
        if held.is_some_and(|lease| lease["hw-address"] == "02:00:00:00:00:06") {
            let learnt = pair.first.await_active(&later_one);
            assert!(learnt.is_remote(), "{learnt:?}");
            assert!(since(&learnt) >= step, "{step} {learnt:?}");
        }
        match mode {
            Mode::HotStandby => {
                await_free(&pair.first, |_| true, State::AVAILABLE);
                let (_, earliest, _) = await_free(&pair.second, |_| true, State::REMOTE);
                assert!(earliest >= step, "{earliest} {step}");
            }
            Mode::LoadBalancing => {
                await_free(&pair.first, |host| host < 150, State::AVAILABLE);
                await_free(&pair.first, |host| host >= 150, State::REMOTE);
            }
        }
        // New leases of one server are at both.
        let mut after = Client::new(7);
        both.lease(&mut after);
        for kea in pair.servers() {
            kea.await_active(&after);
        }
        await_agreement_of(&pair);
    }
}

/// RFC 6926, section 8.2: the hooks agree with their own Kea when the partner's updates arrive on
/// several threads at once, and out of order.
#[test]
fn agrees_with_kea_after_many_concurrent_updates() {
    for mode in [Mode::HotStandby, Mode::LoadBalancing] {
        let pair = Pair::start(mode, true, plain);
        let relays = [0, 1, 2, 3].map(|n| pair.relay(n).remote_id([b'0' + n]));
        thread::scope(|scope| {
            for (relay, number) in relays.iter().zip([0, 100, 200, 300]) {
                scope.spawn(move || {
                    for round in 0..4 {
                        let mut clients: Vec<_> =
                            (1..=8).map(|n| Client::new(number + n)).collect();
                        for client in &mut clients {
                            relay.lease(client);
                        }
                        // The clients that keep their leases differ each time, and some return
                        // before their release is applied.
                        for client in clients.iter_mut().skip(round) {
                            relay.release(client);
                        }
                        for client in clients.iter_mut().skip(round).step_by(2) {
                            relay.lease(client);
                        }
                    }
                });
            }
        });
        await_agreement_of(&pair);
        for kea in pair.servers() {
            assert!(!kea.leases().is_empty());
        }
    }
}

/// RFC 6926, section 8.2: leases that an administrator's synchronisation brings are reported,
/// though no update had them.
#[test]
fn reports_leases_synchronised_by_an_administrator() {
    let pair = Pair::start(Mode::HotStandby, true, plain);
    let address = pair.first.place().address(150);
    // Kea does not send leases added by command to the partner.
    pair.first.command_ok(
        "lease4-add",
        json!({ "ip-address": address.to_string(), "hw-address": "02:00:00:00:00:01" }),
    );
    pair.first.await_state(address, State::ACTIVE);
    await_agreement(&pair.second);
    let step = later();
    pair.second.command_ok(
        "ha-sync",
        json!({ "server-name": "server1", "max-period": 10 }),
    );
    let learnt = pair.second.await_state(address, State::ACTIVE);
    assert!(learnt.is_remote(), "{learnt:?}");
    assert!(since(&learnt) >= step);
    await_agreement_of(&pair);
}

/// RFC 6926, section 6.2.8: an address that one partner's Kea declines itself, since it answers a
/// ping, has the origin local at that partner, and remote at the other one.
#[test]
fn attributes_an_address_that_kea_declines_itself_to_the_partner_that_did() {
    if !may_ping() {
        return;
    }
    let pair = Pair::start(Mode::HotStandby, true, Setup::pinging);
    pair.await_normal();
    let relay = pair.relay(0);
    relay.forward(&Client::new(1).message(MessageType::DISCOVER));
    let abandoned = |kea: &Kea| {
        let mut all = answers(kea).into_values();
        all.find(|binding| binding.state == Some(State::ABANDONED))
    };
    let [first, second] = pair.servers();
    let declined = eventually_some("a declined address", || abandoned(first));
    let at_partner = eventually_some("the declined address at the partner", || abandoned(second));
    assert_eq!(at_partner.address, declined.address);
    assert!(at_partner.is_remote());
    eventually("origin local", || {
        !answers(first)[&declined.address].is_remote()
    });
    assert!(answers(second)[&declined.address].is_remote());
}
