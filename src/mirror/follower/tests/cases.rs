//! Single cases of followers: live changes, catch-ups, the clock and the audience.

use super::*;
use crate::mirror::saved_view::SavedView;

//--- Live changes

/// A log with room for all changes.
const LARGE: usize = 32_768;

impl World {
    /// Lets time pass.
    fn wait(&mut self, seconds: u32) -> Time {
        self.now += seconds;
        Time(self.now)
    }

    /// Receives everything, and returns the last octets and base-times of the messages about addresses.
    fn received(&mut self) -> Vec<(u8, Time)> {
        self.messages.clear();
        self.receive_all();
        let messages = self.messages.iter();
        messages
            .map(|(address, base)| ((address & 0xff) as u8, *base))
            .collect()
    }

    /// Returns the next step without entries.
    fn next_step(&mut self) -> Step {
        self.follower.part(&self.mirror, Time(self.now)).unwrap()
    }

    /// Follows anew from a query-start-time.
    fn follow(&mut self, start: Time) {
        let (selector, now) = (self.selector.clone(), Time(self.now));
        self.follower = self
            .mirror
            .follow(Some(start), selector, None, now)
            .unwrap();
        self.start = Some(start);
    }
}

#[test]
fn an_address_comes_once_at_its_last_change() {
    for changes in [5, 5 * live::SHORT, live::READ_AT_ONCE] {
        let mut world = World::new(LARGE, VpnSelector::All);
        for number in 0..changes {
            world.commit(1, number as u8, 100, "");
            world.commit(2, number as u8, 100, "");
        }
        let first = Time(world.now);
        let second = world.wait(7);
        world.commit(1, 200, 100, "");
        world.commit(3, 1, 100, "");
        world.wait(3);
        assert_eq!(world.received(), [(2, first), (1, second), (3, second)]);
        world.check();
        assert_eq!(world.base, Time(world.now), "everything was sent");
        assert_eq!(world.received(), []);
    }
}

#[test]
fn an_address_that_changes_before_it_is_sent_is_sent_later() {
    let mut world = World::new(LARGE, VpnSelector::All);
    let first = Time(world.now);
    for last in 1..5 {
        world.commit(last, 1, 100, "");
    }
    world.receive(1);
    let second = world.wait(9);
    world.commit(3, 2, 100, "");
    assert_eq!(
        world.follower.safe_time(&world.mirror, second).unwrap(),
        first
    );
    assert_eq!(world.received(), [(2, first), (4, first), (3, second)]);
    assert_eq!(
        world.follower.safe_time(&world.mirror, second).unwrap(),
        second
    );
    world.check();
}

#[test]
fn changes_while_a_long_backlog_is_read_are_in_it() {
    // The binding of 1 leaves the VPN, which has no number before; the state of 3 ends.
    let mut world = World::new(LARGE, one("blue"));
    world.commit(1, 1, 1_000, "blue");
    world.commit(3, 1, 5, "blue");
    world.receive_all();
    for number in 0..=live::READ_AT_ONCE {
        world.commit(2, number as u8, 1_000, "");
    }
    let mut backlog = Backlog::begin(world.follower.position);
    let now = Time(world.now);
    let mut read = |world: &World| {
        let read = |table: &Table| world.follower.read_on(table, &mut backlog, now);
        world.mirror.read(read).unwrap()
    };
    assert!(read(&world).is_continue());
    let end = world.wait(5);
    world.commit(1, 2, 1_000, "red");
    let taken = read(&world).break_value().flatten().unwrap();
    let part = taken.into_part(&world.selector);
    let mut entries = world.follower.entries(&part);
    let Some(Entry::Bound(found, base)) = entries.next() else {
        panic!("the end of a state");
    };
    assert_eq!(
        (base, found.binding().at(base)),
        (end, (State::Expired, end))
    );
    let Some(Entry::Left(left, ..)) = entries.next() else {
        panic!("a binding that left");
    };
    assert_eq!(left, address(1));
    assert!(entries.next().is_none());
}

#[test]
fn a_change_that_requesters_do_not_see_is_not_sent() {
    let mut world = World::new(LARGE, VpnSelector::All);
    world.commit(1, 1, 10, "");
    world.received();
    let end = world.wait(10);
    world.wait(5);
    // The state ends with the lifetime, not when Kea reclaims the lease.
    assert_eq!(world.received(), [(1, end)]);
    assert_eq!(world.known[&address(1).to_bits()].state, State::Expired);
    world.wait(5);
    world.reclaim(1);
    assert_eq!(world.received(), []);
    // Nor is a renewal in the same second.
    world.commit(2, 1, 10, "");
    world.received();
    world.commit(2, 1, 10, "");
    assert_eq!(world.received(), []);
}

#[test]
fn an_end_that_kea_reclaims_at_once_is_sent() {
    let mut world = World::new(LARGE, VpnSelector::All);
    world.commit(1, 1, 10, "");
    world.received();
    let end = world.wait(10);
    world.wait(1);
    world.reclaim(1);
    assert_eq!(world.received(), [(1, end)]);
    world.check();
}

#[test]
fn the_end_of_an_uncommon_lifetime_is_sent() {
    let mut world = World::new(LARGE, VpnSelector::All);
    for last in 0..20 {
        world.commit(last, 1, 10 + u32::from(last), "");
    }
    world.received();
    let first = world.wait(10);
    let ends = (0..20).map(|last| (last, first.plus(last.into())));
    world.wait(100);
    assert_eq!(world.received(), ends.collect::<Vec<_>>());
}

#[test]
fn a_binding_that_leaves_a_vpn_is_sent_as_left_and_a_catch_up_from_before_is_missing() {
    let mut blue = World::new(LARGE, one("blue"));
    let moved = |world: &mut World| {
        world.commit(1, 1, 100, "blue");
        world.receive_all();
        world.wait(1);
        world.commit(1, 2, 100, "red");
    };
    moved(&mut blue);
    assert!(blue.known.contains_key(&address(1).to_bits()));
    blue.wait(1);
    blue.receive_all();
    assert_eq!((blue.known.len(), blue.missing), (0, 0));
    let mut red = World::new(LARGE, one("red"));
    moved(&mut red);
    red.receive_all();
    red.check();
    assert_eq!(red.known.len(), 1);
    let lost_at = BIRTH + 2;
    for (start, missing) in [(lost_at, true), (lost_at + 1, false)] {
        blue.follow(Time(start));
        assert_eq!(
            matches!(blue.next_step(), Step::DataMissing { .. }),
            missing
        );
        // The history survives a restart.
        let mut table = blue.mirror.table_mut().unwrap();
        let history = table.changes().history().to_saved();
        assert!(
            table
                .take_dirty_history()
                .is_none_or(|dirty| dirty == history)
        );
        let saved = Saved {
            history: Some(Box::new(history)),
            ..Saved::default()
        };
        drop(table);
        let kea_config = Arc::clone(&CONFIGURATIONS[0]);
        let mirror = InitialLoad::begin(kea_config, saved, Time(lost_at + 50)).finish();
        let now = Time(lost_at + 100);
        let mut follower = mirror
            .follow(Some(Time(start)), one("blue"), None, now)
            .unwrap();
        let step = follower.part(&mirror, now).unwrap();
        assert_eq!(matches!(step, Step::DataMissing { .. }), missing);
    }
}

#[test]
fn a_probation_that_ends_moves_a_binding_to_the_vpn_of_its_subnet() {
    let mut world = World::new(LARGE, one("blue"));
    let declined = |world: &World| {
        world.commit(1, 1, 100, "blue");
        let mut lease = Lease::example(address(1), Time(world.now));
        lease.hardware.octets.clear();
        lease.state = LeaseState::Declined;
        lease.valid_lifetime = Lifetime(10);
        let client_info = ClientInfo::default();
        world.apply(Event::Committed { lease, client_info });
    };
    declined(&world);
    world.receive_all();
    assert_eq!(world.known[&address(1).to_bits()].state, State::Abandoned);
    let began = Time(world.now);
    world.wait(20);
    world.receive_all();
    assert_eq!(world.known.len(), 0);
    // A catch-up finds it too.
    world.follow(began.plus(1));
    assert_eq!(world.received(), [(1, Time(world.now))]);
    assert_eq!(world.missing, 0);
}

#[test]
fn a_reservation_that_appears_is_sent_and_a_pool_is_not() {
    let mut world = World::new(LARGE, VpnSelector::All);
    let config = r#"{ "Dhcp4": { "subnet4": [ { "id": 1, "subnet": "10.0.0.0/24",
        "pools": [ { "pool": "10.0.0.0-10.0.0.3" }, { "pool": "10.0.0.100-10.0.0.199" } ],
        "reservations": [
            { "hw-address": "00:00:5e:00:53:01", "ip-address": "10.0.0.2" },
            { "hw-address": "00:00:5e:00:53:02", "ip-address": "10.0.0.99" },
            { "hw-address": "00:00:5e:00:53:03", "ip-address": "10.0.0.150" },
            { "hw-address": "00:00:5e:00:53:04", "ip-address": "10.0.0.200" } ] } ] } }"#;
    world.wait(5);
    world.apply(Event::Reconfigured {
        kea_config: Arc::new(KeaConfig::new(config, Vec::new(), &[]).unwrap()),
        is_complete: true,
        at: Time(world.now),
    });
    let now = Time(world.now);
    assert_eq!(world.received(), [(99, now), (200, now)]);
    let table = world.mirror.table().unwrap();
    let binding = table.binding(address(99)).unwrap();
    assert_eq!(
        table.view().state(&binding.view(), now),
        (State::Available, now)
    );
}

//--- Catch-ups

#[test]
fn a_catch_up_ends_with_a_status_after_the_changes_in_its_window() {
    let mut world = World::new(LARGE, VpnSelector::All);
    let times: Vec<Time> = (1..4)
        .map(|last| {
            let now = world.wait(10);
            world.commit(last, 1, 1_000, "");
            now
        })
        .collect();
    let now = world.wait(10);
    world.follow(times[1]);
    let now = now.plus(1);
    world.wait(1);
    world.commit(9, 1, 1_000, "");
    assert_eq!(world.follower.safe_time(&world.mirror, now).unwrap(), now);
    let mut received = world.received();
    // Live changes are interleaved.
    received.sort_unstable();
    assert_eq!(received, [(2, now), (3, now), (9, now)]);
    assert_eq!(world.start, None);
    // Without any, and from the future.
    for start in [now.plus(1), Time::MAX] {
        world.follow(start);
        assert!(matches!(world.next_step(), Step::CatchUpComplete { base } if base == now));
        assert!(matches!(world.next_step(), Step::Nothing { .. }));
    }
}

#[test]
fn a_catch_up_that_goes_back_too_far_is_missing() {
    let mut world = World::new(LARGE, VpnSelector::All);
    let now = world.wait(100);
    let mut step = |start, earliest| {
        let start = Some(Time(start));
        let earliest = Some(Time(earliest));
        let follower = world.mirror.follow(start, VpnSelector::All, earliest, now);
        world.follower = follower.unwrap();
        world.commit(1, 1, 1_000, "");
        let step = world.next_step();
        // It goes on with live changes after the status.
        world.receive_all();
        world.known.clear();
        world.commit(2, world.messages.len() as u8, 1_000, "");
        world.start = None;
        world.receive_all();
        assert!(world.known.contains_key(&address(2).to_bits()));
        step
    };
    assert!(matches!(step(BIRTH, 0), Step::DataMissing { base } if base == now));
    assert!(matches!(step(BIRTH + 50, BIRTH + 51), Step::DataMissing { base } if base == now));
}

#[test]
fn a_follower_that_falls_behind_continues_by_the_time_index_in_chronological_order() {
    let mut world = World::new(4, VpnSelector::All);
    world.received();
    let order = [7, 3, 9, 1, 8, 2];
    let expected = order.map(|last| {
        let now = world.wait(2);
        world.commit(last, 1, 1_000, "");
        (last, now)
    });
    world.wait(2);
    assert_eq!(world.received(), expected);
    world.check();
    // It falls behind again before it has caught up.
    world.commit(3, 2, 1_000, "");
    for last in order {
        world.wait(2);
        world.commit(last, 2, 1_000, "");
    }
    world.receive(2);
    for last in [20, 21, 22, 23, 7] {
        world.wait(2);
        world.commit(last, 2, 1_000, "");
    }
    world.receive_all();
    world.check();
    assert_eq!(world.missing, 0);
}

#[test]
fn a_catch_up_returns_the_free_addresses_of_ranges_configured_since() {
    let config = |pools: &str| {
        let config = format!(
            r#"{{ "Dhcp4": {{ "subnet4": [ {{ "id": 1, "subnet": "10.0.0.0/8",
            "pools": [ {pools} ] }} ] }} }}"#
        );
        Arc::new(KeaConfig::new(&config, Vec::new(), &[]).unwrap())
    };
    let mut world = World::new(LARGE, VpnSelector::All);
    world.wait(10);
    world.apply(Event::Reconfigured {
        kea_config: config(r#"{ "pool": "10.0.1.0-10.255.255.255" }"#),
        is_complete: true,
        at: Time(world.now),
    });
    let configured = world.wait(0);
    for last in [5, 6, 200] {
        let mut lease = Lease::example(Ipv4Addr::new(10, 7, 7, last), Time(world.now));
        lease.valid_lifetime = Lifetime(1_000);
        let client_info = ClientInfo::default();
        world.apply(Event::Committed { lease, client_info });
    }
    assert_eq!(world.received().len(), 3, "live, a pool is no change");
    world.wait(10);
    world.follow(configured);
    let mut free = Vec::new();
    let mut bound = 0;
    loop {
        let Step::Changes(part) = world.next_step() else {
            break;
        };
        let mut entries = world.follower.entries(&part);
        while let Some(entry) = entries.next() {
            match entry {
                Entry::Free(run, _) if run.first < run.last => {
                    // The output is full in the middle of the run.
                    let middle = (run.first.to_bits() + run.last.to_bits()) / 2;
                    free.push((run.first.to_bits(), middle));
                    entries.continue_after(Ipv4Addr::from_bits(middle));
                    break;
                }
                Entry::Free(run, _) => free.push((run.first.to_bits(), run.last.to_bits())),
                _ => bound += 1,
            }
        }
    }
    assert_eq!(bound, 3);
    let mut next = Ipv4Addr::new(10, 0, 1, 0).to_bits();
    for (first, last) in free {
        while [5, 6, 200]
            .map(|last| Ipv4Addr::new(10, 7, 7, last).to_bits())
            .contains(&next)
        {
            next += 1;
        }
        assert_eq!(first, next);
        next = last + 1;
    }
    assert_eq!(next, Ipv4Addr::new(11, 0, 0, 0).to_bits());
    // Nothing if they were configured before.
    world.follow(configured.plus(1));
    world.start = Some(configured);
    assert_eq!(world.received(), []);
}

#[test]
fn a_follower_takes_little_memory() {
    let world = World::new(LARGE, VpnSelector::All);
    for number in 0..LARGE {
        world.commit(number as u8, (number >> 8) as u8, 1_000, "");
    }
    let octets = world.mirror.read(|table| {
        let mut backlog = Backlog::begin(world.follower.position);
        let mut read = || world.follower.read_on(table, &mut backlog, Time(world.now));
        while read().is_continue() {}
        backlog.octets()
    });
    let octets = octets.unwrap();
    assert!(octets <= 48 * 1_024, "{octets} octets");
    assert!(size_of::<Follower>() <= 256, "{}", size_of::<Follower>());
    assert!(size_of::<Item>() <= 192, "{}", size_of::<Item>());
}

//--- The clock and the audience

#[test]
fn a_clock_that_is_set_back_loses_no_change() {
    let mut world = World::new(LARGE, VpnSelector::All);
    world.wait(1_000);
    world.commit(1, 1, 2_000, "");
    world.receive_all();
    world.commit(2, 1, 2_000, "");
    world.now -= 500;
    world.commit(3, 1, 10, "");
    let earliest = Time(world.now);
    assert!(world.follower.safe_time(&world.mirror, earliest).unwrap() <= earliest);
    world.receive(1);
    assert_eq!(world.base, earliest);
    world.reconnect();
    world.receive_all();
    world.check();
    world.wait(20);
    world.receive_all();
    world.check();
    assert_eq!(world.known[&address(3).to_bits()].state, State::Expired);
}

#[test]
fn a_catch_up_from_before_the_clock_was_set_back_is_missing() {
    // The latest time that a requester has is that of a status, or of a reply to a bulk query, when nothing changed.
    for is_status in [true, false] {
        let mut world = World::new(LARGE, VpnSelector::All);
        let changed = world.wait(1_000);
        world.commit(1, 1, 100_000, "");
        world.receive_all();
        let latest = world.wait(50);
        match is_status {
            true => world.receive_all(),
            false => assert_eq!(world.mirror.note_time(latest), latest),
        }
        assert!(!is_status || world.base == latest);
        world.now -= 500;
        let back = Time(world.now);
        world.commit(2, 2, 100_000, "");
        // While the clock has not passed the time before, and later.
        for now in [back.plus(1), latest, latest.plus(100)] {
            world.now = now.0;
            for start in [back, changed, latest] {
                world.follow(start);
                world.messages.clear();
                let step = world.next_step();
                let is_missing = matches!(step, Step::DataMissing { base } if base == now);
                assert!(is_missing, "{start} at {now}: {step:?}");
            }
            world.follow(latest.plus(1));
            assert_eq!(world.received(), []);
            assert_eq!((world.start, world.missing), (None, 0));
        }
        world.commit(3, 3, 100_000, "");
        world.wait(1);
        world.follow(latest.plus(1));
        assert_eq!(world.received(), [(3, Time(world.now))]);
        // It is in the state file.
        let mut table = world.mirror.table_mut().unwrap();
        assert_eq!(table.take_dirty_history().unwrap().since, latest);
    }
}

#[test]
fn a_clock_that_is_set_back_a_little_delays_no_change_and_no_catch_up() {
    for seconds in 1..=2 {
        let mut world = World::new(LARGE, VpnSelector::All);
        world.wait(100);
        world.commit(1, 1, 1_000, "");
        world.receive_all();
        let start = world.base;
        world.now -= seconds;
        world.commit(2, 2, 1_000, "");
        world.wait(10);
        world.follow(start);
        let now = Time(world.now);
        assert_eq!(world.received(), [(1, now), (2, now)]);
        assert_eq!((world.start, world.missing), (None, 0));
    }
}

#[test]
fn the_times_of_replies_do_not_go_back_a_little() {
    let world = World::new(LARGE, VpnSelector::All);
    let now = Time(world.now);
    for (clock, expected) in [(7, 7), (6, 7), (5, 7), (9, 9), (6, 6), (4, 4), (9, 9)] {
        let reply = world.mirror.note_time(now.plus(clock));
        assert_eq!(reply, now.plus(expected), "the clock is at {clock}");
    }
}

#[test]
fn a_catch_up_from_before_a_clock_that_was_set_back_while_kea_was_down_is_missing() {
    let saved = Saved {
        saved_at: Some(Time(BIRTH + 500)),
        history: Some(Box::default()),
        ..Saved::default()
    };
    let kea_config = Arc::clone(&CONFIGURATIONS[0]);
    let mirror = InitialLoad::begin(kea_config, saved, Time(BIRTH)).finish();
    let mut world = World::new(LARGE, VpnSelector::All);
    world.mirror = mirror;
    for (now, start, missing) in [
        (1, 400, true),
        (1, 501, false),
        (1_000, 500, true),
        (1_000, 501, false),
    ] {
        world.now = BIRTH + now;
        world.follow(Time(BIRTH + start));
        let step = world.next_step();
        assert_eq!(
            matches!(step, Step::DataMissing { .. }),
            missing,
            "{step:?}"
        );
    }
}

#[test]
fn changes_since_a_query_that_waited_come_without_an_announcement_at_their_own_times() {
    let mut world = World::new(LARGE, VpnSelector::All);
    world.commit(1, 1, 1_000, "");
    world.receive_all();
    world.wait(1);
    let start = Time(world.now);
    for last in 2..=6 {
        world.commit(last, last, 1_000, "");
        world.wait(1);
    }
    world.follower = world
        .mirror
        .follow_since(start, VpnSelector::All, Time(world.now))
        .unwrap();
    world.messages.clear();
    // The connection breaks after two messages: the base-time of the second is that of its change.
    while world.messages.is_empty() {
        assert!(world.receive(2));
    }
    let expected = [2, 3].map(|last| (address(last).to_bits(), start.plus(u32::from(last) - 2)));
    assert_eq!(world.messages, expected);
    world.reconnect();
    world.receive_all();
    world.check();
    // Even in the second in which the history began, all of these are known.
    let mut world = World::new(LARGE, VpnSelector::All);
    world.commit(1, 1, 1_000, "");
    world.follower = world
        .mirror
        .follow_since(Time(BIRTH), VpnSelector::All, Time(world.now))
        .unwrap();
    world.receive_all();
    assert_eq!(world.missing, 0);
    world.check();
}

#[test]
fn ends_are_recorded_only_while_there_are_followers() {
    let mut world = World::new(LARGE, VpnSelector::All);
    let ends_from = |world: &World| world.mirror.read(|table| table.ends_from()).unwrap();
    assert!(ends_from(&world).is_some());
    let another = world
        .mirror
        .follow(None, VpnSelector::All, None, Time(world.now))
        .unwrap();
    drop(another);
    world.commit(1, 1, 10, "");
    assert!(ends_from(&world).is_some());
    let mut table = Table::new(Arc::default(), &SavedView::default(), Time(1));
    world.follower = Follower::begin(&table, None, VpnSelector::All, None, Time(1));
    assert!(table.record_ends(Time(100), 1));
    assert!(!world.mirror.is_followed());
    world.wait(100);
    world.commit(2, 1, 10, "");
    assert_eq!(ends_from(&world), None);
}

#[test]
fn the_next_change_completes_a_future_and_the_previous_one_does_not() {
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    let world = World::new(LARGE, VpnSelector::All);
    let mut context = Context::from_waker(Waker::noop());
    world.commit(1, 1, 10, "");
    let mut next = pin!(world.mirror.next_change());
    assert_eq!(next.as_mut().poll(&mut context), Poll::Pending);
    world.commit(2, 1, 10, "");
    assert_eq!(next.as_mut().poll(&mut context), Poll::Ready(()));
}

#[test]
fn the_apply_worker_wakes_followers_when_a_state_ends() {
    let kea_config = Arc::clone(&CONFIGURATIONS[0]);
    let initial_load = InitialLoad::begin(kea_config, Saved::default(), Time::now());
    let mirror = Arc::new(initial_load.finish());
    let worker = crate::mirror::apply_worker::ApplyWorker::start;
    let _worker = worker(Arc::clone(&mirror), || {}, || {}).unwrap();
    let start = Time::now();
    let mut follower = mirror.follow(None, VpnSelector::All, None, start).unwrap();
    let mut lease = Lease::example(address(1), start);
    lease.valid_lifetime = Lifetime(1);
    let client_info = ClientInfo::default();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let mut changed = Box::pin(mirror.next_change());
    mirror.queue().push(Event::Committed { lease, client_info });
    let mut states = Vec::new();
    while states.last() != Some(&State::Expired) {
        runtime.block_on(changed);
        changed = Box::pin(mirror.next_change());
        // The time up to which the worker has recorded ends: the follower itself records none.
        let ends_from = mirror.read(|table| table.ends_from()).unwrap();
        let recorded = Time(ends_from.unwrap().0 - 1);
        if let Step::Changes(part) = follower.part(&mirror, recorded).unwrap() {
            for entry in follower.entries(&part) {
                if let Entry::Bound(found, base) = entry {
                    states.push(found.binding().at(base).0);
                }
            }
        }
    }
}
