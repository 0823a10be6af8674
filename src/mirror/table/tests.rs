//! The consumers of the change log.

use std::collections::BTreeSet;

use super::*;
use crate::mirror::apply::apply;
use crate::mirror::changes::{Lagged, Position};
use crate::mirror::event::{ClientInfo, Event, Lease, LeaseState, Origin};
use crate::mirror::resync::Resync;
use proptest::prelude::*;

/// The addresses of the test.
const ADDRESSES: u8 = 12;

/// A step of the server or the consumer.
#[derive(Clone, Debug)]
enum Step {
    /// Kea commits a lease whose client was served so many seconds ago.
    Commit(u8, u8, u32),
    /// Another server's lease is found.
    Find(u8, u8, u32),
    /// A client releases a lease.
    Release(u8),
    /// An administrator removes a lease.
    Remove(u8),
    /// The configuration changes a binding.
    Configure(u8),
    /// The clock goes forward, or is set back.
    Clock(i32),
    /// The consumer reads so many changes.
    Read(usize),
    /// The consumer reads all changes.
    ReadAll,
}

fn step() -> impl Strategy<Value = Step> {
    let address = 0..ADDRESSES;
    prop_oneof![
        4 => (address.clone(), 0..3u8, 0..30u32).prop_map(|(a, c, ago)| Step::Commit(a, c, ago)),
        2 => (address.clone(), 0..3u8, 0..30u32).prop_map(|(a, c, ago)| Step::Find(a, c, ago)),
        2 => address.clone().prop_map(Step::Release),
        1 => address.clone().prop_map(Step::Remove),
        1 => address.prop_map(Step::Configure),
        2 => prop_oneof![4 => 1..20i32, 1 => -50..0i32].prop_map(Step::Clock),
        2 => (0..4usize).prop_map(Step::Read),
        1 => Just(Step::ReadAll),
    ]
}

/// A table, and a consumer of its changes.
struct World {
    table: Table,
    resync: Resync,
    now: u32,
    position: Position,
    /// The addresses that changed and that the consumer has not read since.
    unread: BTreeSet<u32>,
    /// How often the consumer has lagged.
    lags: usize,
}

impl World {
    fn new(capacity: usize) -> World {
        let now = 1_000;
        let mut table = Table::new(Arc::default(), &SavedView::default(), Time(now));
        table.changes = ChangeLog::with_capacity(capacity, Time(now));
        World {
            position: table.changes.end(),
            table,
            resync: Resync::default(),
            now,
            unread: BTreeSet::new(),
            lags: 0,
        }
    }

    fn take(&mut self, step: &Step) {
        let at = Time(self.now);
        let address = |address: &u8| Ipv4Addr::new(10, 0, 0, *address);
        let lease = |place: &u8, client: u8, ago: u32| {
            let mut lease = Lease::example(address(place), Time(self.now - ago));
            lease.hardware.octets = vec![2, 0, 0, 0, 0, client];
            lease
        };
        match step {
            Step::Commit(place, client, ago) => self.apply(Event::Committed {
                lease: lease(place, *client, *ago),
                client_info: ClientInfo::default(),
            }),
            Step::Find(place, client, ago) => self.apply(Event::Updated {
                lease: Lease {
                    state: if *ago % 3 == 0 {
                        LeaseState::Declined
                    } else {
                        LeaseState::Default
                    },
                    ..lease(place, *client, *ago)
                },
                at,
                origin: Origin::Remote,
            }),
            Step::Release(place) => self.apply(Event::Released {
                address: address(place),
                client: None,
                at,
                origin: Origin::Local,
            }),
            Step::Remove(place) => self.apply(Event::Removed {
                address: address(place),
                at,
                origin: Origin::Local,
            }),
            Step::Configure(place) => {
                let bits = address(place).to_bits();
                if self.table.binding(address(place)).is_some() {
                    self.table.mark_changed(bits, at, None);
                    self.unread.insert(bits);
                }
            }
            Step::Clock(seconds) => self.now = self.now.saturating_add_signed(*seconds).max(500),
            Step::Read(count) => {
                let _ = (0..*count).all(|_| self.read());
            }
            Step::ReadAll => while self.read() {},
        }
    }

    /// Applies an event, and notes the address if a requester sees a difference.
    fn apply(&mut self, event: Event) {
        let now = Time(self.now);
        let all = |table: &Table| -> Vec<Binding> {
            let bindings = table.bindings(0..=u32::MAX);
            bindings.map(|binding| binding.to_owned()).collect()
        };
        let before = all(&self.table);
        apply(&mut self.table, &mut self.resync, &event, now);
        for after in all(&self.table) {
            let before = before.iter().find(|before| before.address == after.address);
            let differs = |before: &Binding| visible::differ(before.view(), after.view(), now);
            if before.is_none_or(differs) {
                self.unread.insert(after.address.to_bits());
            }
        }
    }

    /// Reads a change, or all by the time index after a lag; returns whether there was one.
    fn read(&mut self) -> bool {
        let next = self.table.changes().after(self.position);
        match next.map(|mut changes| changes.next()) {
            Ok(Some((address, position))) => {
                self.unread.remove(&address);
                self.position = position;
                true
            }
            Ok(None) => false,
            Err(Lagged { since }) => {
                self.lags += 1;
                self.position = self.table.changes().end();
                let window = Window {
                    start: since,
                    end: Time::MAX,
                };
                let mut found = Vec::new();
                (self.table).collect_changes(
                    Reached::default(),
                    (window, None),
                    GroupFilter::ALL,
                    usize::MAX,
                    &mut found,
                );
                for address in found {
                    self.unread.remove(&address);
                }
                true
            }
        }
    }
}

proptest! {
    #[test]
    fn a_consumer_that_lags_reads_every_changed_address(
        capacity in 1..12usize,
        steps in proptest::collection::vec(step(), 0..120),
    ) {
        let mut world = World::new(capacity);
        for step in &steps {
            world.take(step);
        }
        while world.read() {}
        prop_assert!(world.unread.is_empty(), "{:?}", world.unread);
    }
}

#[test]
fn a_consumer_lags_when_the_ring_has_lost_changes_after_its_position() {
    let mut world = World::new(4);
    let start = world.position;
    for address in 0..4 {
        world.take(&Step::Commit(address, 1, 0));
    }
    assert!(!world.table.changes().has_lagged(start));
    let addresses = world.table.changes().after(start).unwrap();
    let last_octets: Vec<u32> = addresses.map(|(address, _)| address & 0xff).collect();
    assert_eq!(last_octets, [0, 1, 2, 3]);
    world.take(&Step::Clock(10));
    world.take(&Step::Commit(4, 1, 0));
    assert!(world.table.changes().has_lagged(start));
    let lagged = Lagged { since: Time(1_000) };
    assert_eq!(world.table.changes().after(start).err(), Some(lagged));
    while world.read() {}
    assert_eq!((world.lags, world.unread.len()), (1, 0));
    assert_eq!(
        world.table.changes().after(world.position).unwrap().next(),
        None
    );
}

#[test]
fn a_position_in_an_earlier_log_has_lagged() {
    let earlier = World::new(4).position;
    let log = ChangeLog::new(Time(2_000));
    let lagged = Lagged { since: Time(1_000) };
    assert_eq!(log.after(earlier).err(), Some(lagged));
}

#[test]
fn the_earliest_time_after_a_set_back_is_forgotten_when_the_clock_has_passed_and_is_set_back_again()
{
    let mut log = ChangeLog::with_capacity(4, Time(900));
    let record = |log: &mut ChangeLog, times: &[u32]| {
        for time in times {
            log.record(1, Time(*time), Kind::Seen, None, true);
        }
        log.end()
    };
    let first = log.end();
    let before = record(&mut log, &[1_000]);
    let during = record(&mut log, &[500, 600]);
    assert_eq!(log.earliest_after(before), Time(500));
    // Again, before the clock has passed the time before.
    record(&mut log, &[400, 700]);
    assert_eq!(log.earliest_after(before), Time(400));
    assert_eq!(log.earliest_after(during), Time(400));
    let passed = record(&mut log, &[1_000, 2_000]);
    assert_eq!(log.earliest_after(passed), Time(2_000));
    let second = record(&mut log, &[1_900, 1_950]);
    assert_eq!(log.earliest_after(passed), Time(1_900));
    assert_eq!(log.earliest_after(second), Time(1_950));
    for lost in [first, before, during] {
        assert_eq!(log.earliest_after(lost), Time::MIN);
    }
    assert_eq!(log.history().since(), Time(2_000));
}

#[test]
fn a_second_change_at_one_time_that_hides_a_binding_is_in_the_history() {
    let mut world = World::new(4);
    world.take(&Step::Commit(1, 1, 0));
    let (address, at) = (Ipv4Addr::new(10, 0, 0, 1), Time(world.now + 5));
    for _ in 0..2 {
        let hidden = world.table.changes().history().to_saved().hidden;
        assert_eq!(hidden, None);
        world.table.mark_changed(address.to_bits(), at, None);
    }
    // No subnet contains it.
    world
        .table
        .mark_changed(address.to_bits(), at, Some(&Vpn::Default));
    let hidden = world.table.changes().history().to_saved().hidden;
    assert_eq!(hidden, Some(at));
}
