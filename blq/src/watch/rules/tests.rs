//! The rules of RFC 7724 section 7, with a clock and a server of the test.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::active;
use crate::binding::Status;
use crate::client;
use crate::wire::{BOOTREPLY, Message, MessageType, code};

/// Rules with a clock.
struct Bench {
    /// The rules.
    rules: Rules,
    /// The clock.
    now: Instant,
}

impl Bench {
    /// Returns the rules of a watch that begins at `start`, with the default settings.
    fn new(start: Option<u32>) -> Bench {
        let settings = Settings {
            start,
            ..Settings::default()
        };
        Bench {
            rules: Rules::new(&settings),
            now: Instant::now(),
        }
    }

    /// Returns the rules of a watch whose active query from 100 on has caught up at 200.
    fn caught_up() -> Bench {
        let mut bench = Bench::new(Some(100));
        assert_eq!(bench.step(), Step::Active(100));
        bench.status(7, Some(200));
        bench
    }

    /// Lets seconds pass.
    fn pass(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
    }

    /// Returns the next step.
    fn step(&mut self) -> Step {
        self.rules.step(self.now)
    }

    /// Returns the seconds to wait before the next step.
    fn wait(&mut self) -> Option<u64> {
        match self.step() {
            Step::Wait(until) => until.map(|until| (until - self.now).as_secs()),
            other => panic!("{other:?}"),
        }
    }

    /// The active query sends a binding.
    fn change(&mut self, last: u8, base_time: u32) {
        let reply = ActiveReply::Binding(binding(last, base_time));
        assert!(matches!(self.rules.active_reply(reply), Event::Binding(_)));
    }

    /// The active query sends a status after which it goes on.
    fn status(&mut self, code: u8, base_time: Option<u32>) -> Event {
        let reply = ActiveReply::Status(report(code, base_time));
        self.rules.active_reply(reply)
    }

    /// The active query ends.
    fn lose(&mut self, failure: Failure) -> Option<Event> {
        self.rules.active_ended(failure, self.now).unwrap()
    }

    /// The bulk query sends a binding. Returns those of its events.
    fn bulk(&mut self, binding: Box<Binding>) -> Vec<Binding> {
        let mut events = VecDeque::new();
        self.rules.bulk_binding(binding, &mut events);
        let bindings = events.into_iter().map(|event| match event {
            Event::Binding(binding) => *binding,
            other => panic!("{other:?}"),
        });
        bindings.collect()
    }

    /// The bulk query ends with a complete answer.
    fn answer(&mut self, next: Option<u32>) {
        let event = self.rules.bulk_ended(Ok(next), self.now).unwrap();
        assert!(matches!(event, Event::Answer { .. }));
    }

    /// The bulk query fails. Returns the seconds until the next attempt.
    fn fail_bulk(&mut self, failure: Failure) -> u64 {
        match self.rules.bulk_ended(Err(failure), self.now).unwrap() {
            Event::Unanswered { retry, .. } => retry.as_secs(),
            other => panic!("{other:?}"),
        }
    }
}

/// Returns a binding of 192.0.2.`last`.
fn binding(last: u8, base_time: u32) -> Box<Binding> {
    let message = Message {
        ciaddr: Ipv4Addr::new(192, 0, 2, last),
        ..Message::new(BOOTREPLY, 1, MessageType::LEASE_ACTIVE)
    };
    let message = message.with(code::BASE_TIME, base_time.to_be_bytes());
    match ActiveReply::decode(&message) {
        Ok(ActiveReply::Binding(binding)) => binding,
        other => panic!("{other:?}"),
    }
}

/// Returns a report with a status code.
fn report(code: u8, base_time: Option<u32>) -> Report {
    let code = StatusCode(code);
    Report {
        status: Status {
            code,
            text: String::new(),
        },
        base_time,
        server_identifier: None,
        is_last: [1, 2, 3, 4].contains(&code.0),
    }
}

/// Returns the loss of a connection.
fn lost(has_reply: bool) -> Failure {
    active::Error::Closed { has_reply }.into()
}

/// Returns the failure of a connection to be established.
fn unreachable() -> Failure {
    client::Error::Connect(std::io::ErrorKind::ConnectionRefused.into()).into()
}

/// Returns the end of a query by a status.
fn ended(code: u8, base_time: Option<u32>) -> Failure {
    Failure::Ended(Box::new(report(code, base_time)))
}

/// Returns the end of a bulk query by a status.
fn refused(code: u8) -> Failure {
    Failure::Refused(report(code, None).status)
}

/// A window of a bulk query.
fn window(start: impl Into<Option<u32>>, end: impl Into<Option<u32>>) -> Window {
    Window {
        start: start.into(),
        end: end.into(),
    }
}

#[test]
fn begins_with_all_bindings_and_goes_on_from_their_base_time() {
    let mut bench = Bench::new(None);
    assert_eq!(bench.step(), Step::Bulk(window(None, None)));
    assert_eq!(bench.wait(), None);
    assert_eq!(bench.rules.start(), None);
    assert_eq!(bench.bulk(binding(1, 500)).len(), 1);
    bench.answer(Some(499));
    assert_eq!(bench.rules.start(), Some(499));
    assert_eq!(bench.step(), Step::Active(499));
    assert_eq!(bench.wait(), None);
}

/// RFC 7724 section 7.4.1: until the catch-up is complete, the next query has the old start.
#[test]
fn reuses_the_old_start_until_the_catch_up_is_complete() {
    let mut bench = Bench::new(Some(100));
    assert_eq!(bench.step(), Step::Active(100));
    for _ in 0..3 {
        bench.change(1, 900);
        bench.status(6, Some(950));
        bench.lose(ended(2, Some(960)));
        assert_eq!(bench.rules.start(), Some(100));
        bench.pass(60);
        assert_eq!(bench.step(), Step::Active(100));
    }
    let event = bench.status(7, Some(1000));
    assert!(matches!(event, Event::CaughtUp { start: 100 }));
    bench.lose(lost(true));
    bench.pass(60);
    assert_eq!(bench.step(), Step::Active(1000));
}

/// RFC 7724 section 7.4: behind the catch-up, the base-time of the latest message of any kind counts.
#[test]
fn goes_on_from_the_base_time_of_the_latest_message() {
    let mut bench = Bench::caught_up();
    assert_eq!(bench.rules.start(), Some(200));
    bench.change(1, 210);
    assert_eq!(bench.rules.start(), Some(210));
    assert!(matches!(bench.status(6, Some(270)), Event::Alive));
    assert_eq!(bench.rules.start(), Some(270));
    // A server's clock may be set back: a later start would miss changes.
    bench.change(1, 220);
    assert_eq!(bench.rules.start(), Some(220));
    let keepalive = |base_time| ActiveReply::Keepalive { base_time };
    bench.rules.active_reply(keepalive(Some(280)));
    bench.rules.active_reply(keepalive(None));
    bench.status(99, None);
    assert_eq!(bench.rules.start(), Some(280));
    bench.lose(ended(2, Some(290)));
    bench.pass(60);
    assert_eq!(bench.step(), Step::Active(290));
}

/// RFC 7724 section 7.4.1: a bulk query from the old start to the base-time of DataMissing, while the
/// active query goes on.
#[test]
fn queries_missing_data_on_a_second_connection() {
    let mut bench = Bench::new(Some(100));
    assert_eq!(bench.step(), Step::Active(100));
    let event = bench.status(5, Some(500));
    assert!(matches!(
        event,
        Event::DataMissing {
            start: Some(100),
            end: Some(500)
        }
    ));
    assert_eq!(bench.step(), Step::Bulk(window(100, 500)));
    bench.change(1, 510);
    // A watch that ended here would have to begin at the old start.
    assert_eq!(bench.rules.start(), Some(100));
    // The next active query begins where the last one ended.
    bench.lose(lost(true));
    bench.pass(60);
    assert_eq!(bench.step(), Step::Active(510));
    bench.status(7, Some(600));
    bench.answer(Some(700));
    assert_eq!(bench.rules.start(), Some(600));
    assert_eq!(bench.wait(), None);
}

#[test]
fn queries_missing_data_until_it_is_complete() {
    let mut bench = Bench::caught_up();
    bench.pass(1000);
    // Also behind the catch-up, from the time saved then.
    bench.status(5, Some(500));
    assert_eq!(bench.step(), Step::Bulk(window(200, 500)));
    bench.pass(10);
    assert_eq!(bench.fail_bulk(unreachable()), 50);
    assert_eq!(bench.wait(), Some(50));
    // More is missing meanwhile.
    bench.change(1, 520);
    bench.status(5, Some(600));
    assert_eq!(bench.wait(), Some(50));
    bench.pass(50);
    assert_eq!(bench.step(), Step::Bulk(window(200, 600)));
    bench.status(5, Some(700));
    assert_eq!(bench.rules.start(), Some(200));
    bench.answer(None);
    assert_eq!(bench.rules.start(), Some(600));
    assert_eq!(bench.step(), Step::Bulk(window(600, 700)));
    bench.answer(None);
    assert_eq!(bench.rules.start(), Some(700));
}

/// Servers need not send base-time with a status.
#[test]
fn queries_missing_data_without_a_base_time() {
    let mut bench = Bench::caught_up();
    bench.status(5, None);
    assert_eq!(bench.step(), Step::Bulk(window(200, None)));
    bench.pass(60);
    bench.fail_bulk(refused(2));
    assert_eq!(bench.step(), Step::Bulk(window(200, None)));
    bench.answer(Some(300));
    assert_eq!(bench.wait(), None);
    let mut bench = Bench::new(Some(100));
    bench.step();
    bench.status(7, None);
    assert_eq!(bench.rules.start(), Some(100));
}

/// RFC 6926 section 7.2: query-start-time is not after query-end-time, also if the server's clock was set
/// back.
#[test]
fn queries_missing_data_of_a_clock_that_was_set_back() {
    let mut bench = Bench::caught_up();
    bench.status(5, Some(150));
    assert_eq!(bench.step(), Step::Bulk(window(150, None)));
    bench.answer(Some(160));
    assert_eq!(bench.rules.start(), Some(150));
}

/// RFC 6926 section 7.5: of two messages about an address, the later one counts; the active query sends
/// the last one anyway.
#[test]
fn drops_bindings_that_the_active_query_has_sent_since() {
    let mut bench = Bench::caught_up();
    bench.change(1, 210);
    bench.status(5, Some(500));
    assert_eq!(bench.step(), Step::Bulk(window(210, 500)));
    bench.change(2, 500);
    assert_eq!(bench.bulk(binding(1, 500)).len(), 1);
    assert_eq!(bench.bulk(binding(2, 500)), []);
    let mut same = binding(2, 500);
    same.vpn = Some(Vss::Default);
    assert_eq!(bench.bulk(same), []);
    bench.answer(None);
    bench.status(5, Some(600));
    bench.step();
    assert_eq!(bench.bulk(binding(2, 500)).len(), 1);
}

/// RFC 7724 section 8.2: an address that moves to another VPN is sent in that VPN alone to those who see both.
#[test]
fn repeats_bindings_that_have_moved_to_another_vpn() {
    let of_vpn = |vpn: Option<&str>, base_time| {
        let mut binding = binding(1, base_time);
        binding.vpn = vpn.map(|name| Vss::Name(name.into()));
        binding
    };
    let mut bench = Bench::caught_up();
    bench.status(5, Some(500));
    bench.step();
    for sent in [
        of_vpn(Some("blue"), 500),
        of_vpn(None, 501),
        of_vpn(Some("blue"), 502),
    ] {
        bench.rules.active_reply(ActiveReply::Binding(sent));
    }
    let red = of_vpn(Some("red"), 500);
    let later = [of_vpn(None, 501), of_vpn(Some("blue"), 502)];
    let expected = [&[*red.clone()][..], &later.map(|binding| *binding)].concat();
    assert_eq!(bench.bulk(red), expected);
    assert_eq!(bench.bulk(of_vpn(None, 500)), []);
}

/// RFC 7724 section 7.1: retries are not more frequent than one in ACTIVE_LQ_IDLE_TIMEOUT.
#[test]
fn retries_once_in_an_interval() {
    let mut bench = Bench::new(None);
    bench.step();
    bench.pass(3);
    assert_eq!(bench.fail_bulk(unreachable()), 57);
    assert_eq!(bench.wait(), Some(57));
    bench.pass(57);
    assert_eq!(bench.step(), Step::Bulk(window(None, None)));
    bench.answer(Some(100));
    assert_eq!(bench.step(), Step::Active(100));
    bench.pass(20);
    bench.status(7, Some(130));
    bench.pass(10);
    let event = bench.lose(lost(true));
    assert!(matches!(event, Some(Event::Lost { retry, .. }) if retry.as_secs() == 30));
    assert_eq!(bench.wait(), Some(30));
    bench.pass(30);
    assert_eq!(bench.step(), Step::Active(130));
    bench.lose(unreachable());
    assert_eq!(bench.wait(), Some(60));
    bench.pass(60);
    // After a connection of more than the interval the next one is no frequent retry.
    assert_eq!(bench.step(), Step::Active(130));
    bench.pass(3600);
    bench.lose(lost(true));
    assert_eq!(bench.step(), Step::Active(130));
}

/// RFC 7724 section 8.1.1: servers without Active Leasequery close the connection; ours says NotAllowed to
/// a requester without the query type.
#[test]
fn polls_servers_that_refuse_active_queries() {
    for failure in [lost(false), ended(4, None), ended(3, Some(5))] {
        let mut bench = Bench::new(None);
        bench.step();
        bench.answer(Some(100));
        assert_eq!(bench.step(), Step::Active(100));
        bench.pass(10);
        let event = bench.lose(failure);
        assert!(matches!(event, Some(Event::NoActive { .. })));
        // An interval after the last answer.
        assert_eq!(bench.wait(), Some(50));
        bench.pass(50);
        assert_eq!(bench.step(), Step::Bulk(window(100, None)));
        bench.answer(Some(150));
        assert_eq!(bench.wait(), Some(60));
        bench.pass(60);
        assert_eq!(bench.step(), Step::Bulk(window(150, None)));
        bench.pass(1);
        // An incomplete answer is queried again, from the same start.
        assert_eq!(bench.fail_bulk(refused(2)), 59);
        bench.pass(59);
        assert_eq!(bench.step(), Step::Bulk(window(150, None)));
        assert_eq!(bench.rules.start(), Some(150));
    }
}

#[test]
fn tries_active_queries_again_after_a_while() {
    let mut bench = Bench::new(Some(100));
    assert_eq!(bench.step(), Step::Active(100));
    bench.lose(lost(false));
    // Nothing was answered before, so the first query is due.
    assert_eq!(bench.step(), Step::Bulk(window(100, None)));
    bench.pass(900);
    // No active query begins beside a bulk query that moves its start.
    assert_eq!(bench.wait(), None);
    bench.answer(Some(1000));
    assert_eq!(bench.step(), Step::Active(1000));
    assert_eq!(bench.wait(), None);
    // Refused again, without another report.
    assert!(bench.lose(lost(false)).is_none());
    assert_eq!(bench.wait(), Some(60));
    bench.pass(900);
    assert_eq!(bench.step(), Step::Bulk(window(1000, None)));
    bench.answer(Some(1900));
    assert_eq!(bench.step(), Step::Active(1900));
    bench.status(7, Some(2000));
    bench.lose(lost(false));
    bench.pass(60);
    assert_eq!(bench.step(), Step::Active(2000));
}

/// A server that has accepted an active query and then closes a connection without a reply restarts.
#[test]
fn does_not_poll_a_server_that_supports_active_queries() {
    let mut bench = Bench::caught_up();
    bench.lose(lost(true));
    bench.pass(60);
    bench.step();
    assert!(matches!(bench.lose(lost(false)), Some(Event::Lost { .. })));
    assert_eq!(bench.wait(), Some(60));
    // Several times in a row: its configuration has changed.
    bench.pass(60);
    bench.step();
    assert!(matches!(bench.lose(lost(false)), Some(Event::Lost { .. })));
    bench.pass(60);
    bench.step();
    let event = bench.lose(lost(false));
    assert!(matches!(event, Some(Event::NoActive { .. })));
    assert_eq!(bench.step(), Step::Bulk(window(200, None)));
    // QueryTerminated as the first reply: too many active requesters.
    let mut bench = Bench::new(Some(100));
    bench.step();
    let event = bench.lose(ended(2, Some(300)));
    assert!(matches!(event, Some(Event::Lost { .. })));
    bench.pass(60);
    assert_eq!(bench.step(), Step::Active(100));
}

/// A mistake in the configuration ends the watch, unless the server has answered before.
#[test]
fn ends_by_permanent_failures_before_the_first_answer() {
    let certificate = || {
        let error = crate::tls::Error::Certificate("expired".into());
        Failure::from(client::Error::from(error))
    };
    let now = Instant::now();
    for failure in [certificate(), refused(4), refused(3)] {
        let mut bench = Bench::new(None);
        bench.step();
        assert!(bench.rules.bulk_ended(Err(failure), now).is_err());
    }
    for failure in [unreachable(), refused(2)] {
        let mut bench = Bench::new(None);
        bench.step();
        assert!(bench.rules.bulk_ended(Err(failure), now).is_ok());
    }
    let mut bench = Bench::new(Some(100));
    bench.step();
    assert!(bench.rules.active_ended(certificate(), now).is_err());
    let mut bench = Bench::caught_up();
    bench.lose(certificate());
    bench.status(5, None);
    bench.step();
    bench.fail_bulk(refused(4));
    let mut bench = Bench::new(None);
    bench.step();
    let end = bench.rules.bulk_ended(Ok(None), now);
    assert!(matches!(end, Err(Failure::NoBaseTime)));
}

// ------------ A server --------------------------------------------------------------------

/// An act of a server or of the network.
#[derive(Clone, Copy, Debug)]
enum Act {
    /// The binding of an address changes.
    Change(u8),
    /// Time passes: the second of the server's clock ends.
    Pass,
    /// The active connection delivers a message.
    Active,
    /// The bulk connection delivers a message.
    Bulk,
    /// The active connection is lost.
    LoseActive,
    /// The bulk connection is lost.
    LoseBulk,
    /// The server forgets the order of changes: catch-ups that begin before now are missing data.
    Forget,
}

/// A message on a connection.
#[derive(Clone, Copy, Debug)]
enum Sent {
    /// A binding: the address, its version, and base-time.
    Binding(u8, u32, u32),
    /// The end of the catch-up, by a status with base-time.
    Status(u8, u32),
}

/// Returns a version of a binding: its xid is the version, and each version is in another VPN than the one before.
fn version_of(last: u8, version: u32, base_time: u32) -> Box<Binding> {
    let vpn = (version % 2 == 1).then(|| Vss::Name("blue".into()));
    Box::new(Binding {
        xid: version,
        vpn,
        ..*binding(last, base_time)
    })
}

/// A server with the versions of bindings, connections with messages in flight, and a requester's copy.
struct World {
    /// The requester.
    bench: Bench,
    /// The server's clock.
    clock: u32,
    /// The number of changes.
    versions: u32,
    /// Version and time of the last change, by address.
    bindings: BTreeMap<u8, (u32, u32)>,
    /// The earliest start of a catch-up that the server can answer.
    history: u32,
    /// The messages in flight on the active connection.
    active: Option<Vec<Sent>>,
    /// The messages in flight on the bulk connection, and its next start.
    bulk: Option<(Vec<Sent>, u32)>,
    /// The versions that the requester, of all VPNs, knows, by address.
    copy: BTreeMap<u8, u32>,
}

impl World {
    /// Returns a world with some bindings.
    fn new() -> World {
        World {
            bench: Bench::new(None),
            clock: 1000,
            versions: 0,
            bindings: (0..4).map(|address| (address, (0, 990))).collect(),
            history: 0,
            active: None,
            bulk: None,
            copy: BTreeMap::new(),
        }
    }

    /// Returns the bindings that changed in a window, in the order of addresses.
    fn changed(&self, start: Option<u32>, end: Option<u32>) -> Vec<Sent> {
        let is_in = |time: u32| start.is_none_or(|s| s <= time) && end.is_none_or(|e| time <= e);
        let found = self.bindings.iter().filter(|(_, (_, time))| is_in(*time));
        found
            .map(|(address, (version, _))| Sent::Binding(*address, *version, self.clock))
            .collect()
    }

    /// Begins the queries that are due.
    fn begin(&mut self) {
        loop {
            match self.bench.step() {
                Step::Wait(_) => return,
                Step::Active(start) => {
                    let mut sent = Vec::new();
                    if start < self.history {
                        sent.push(Sent::Status(5, self.clock));
                    } else {
                        // Newest addresses first: the order of a catch-up is any.
                        sent = self.changed(Some(start), None);
                        sent.reverse();
                        sent.push(Sent::Status(7, self.clock));
                    }
                    self.active = Some(sent);
                }
                Step::Bulk(window) => {
                    let sent = self.changed(window.start, window.end);
                    self.bulk = Some((sent, self.clock));
                }
            }
        }
    }

    /// Takes a step.
    fn act(&mut self, act: Act) {
        match act {
            Act::Change(address) => {
                self.versions += 1;
                self.bindings.insert(address, (self.versions, self.clock));
                if let Some(sent) = &mut self.active {
                    sent.push(Sent::Binding(address, self.versions, self.clock));
                }
            }
            Act::Pass => {
                self.clock += 1;
                self.bench.pass(1);
            }
            Act::Active => self.deliver_active(),
            Act::Bulk => self.deliver_bulk(),
            Act::LoseActive => {
                if self.active.take().is_some() {
                    self.bench.lose(lost(true));
                }
            }
            Act::LoseBulk => {
                if self.bulk.take().is_some() {
                    self.bench.fail_bulk(unreachable());
                }
            }
            Act::Forget => self.history = self.clock,
        }
    }

    /// Delivers the next message of the active connection.
    fn deliver_active(&mut self) {
        let Some(sent) = self.active.as_mut().filter(|sent| !sent.is_empty()) else {
            return;
        };
        match sent.remove(0) {
            Sent::Binding(address, version, base_time) => {
                let binding = version_of(address, version, base_time);
                self.bench.rules.active_reply(ActiveReply::Binding(binding));
                self.copy.insert(address, version);
            }
            Sent::Status(code, base_time) => {
                self.bench.status(code, Some(base_time));
            }
        }
    }

    /// Delivers the next message of the bulk connection.
    fn deliver_bulk(&mut self) {
        let Some((sent, next)) = &mut self.bulk else {
            return;
        };
        match sent.first().copied() {
            Some(Sent::Binding(address, version, base_time)) => {
                sent.remove(0);
                for binding in self.bench.bulk(version_of(address, version, base_time)) {
                    self.copy.insert(address, binding.xid);
                }
            }
            _ => {
                let next = *next;
                self.bulk = None;
                self.bench.answer(Some(next));
            }
        }
    }
}

/// Any act.
fn any_act() -> impl Strategy<Value = Act> {
    prop_oneof![
        4 => (0..4_u8).prop_map(Act::Change),
        3 => Just(Act::Pass),
        6 => Just(Act::Active),
        6 => Just(Act::Bulk),
        1 => Just(Act::LoseActive),
        1 => Just(Act::LoseBulk),
        1 => Just(Act::Forget),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    /// The copy ends as the server's bindings, through any loss and delay of messages.
    #[test]
    fn copy_equals_the_servers_bindings(acts in prop::collection::vec(any_act(), 0..120)) {
        let mut world = World::new();
        for act in acts {
            world.begin();
            world.act(act);
        }
        // From here on nothing is lost. Retries need time.
        for _ in 0..40 {
            world.begin();
            for _ in 0..10 {
                world.act(Act::Pass);
            }
            for _ in 0..20 {
                world.act(Act::Bulk);
                world.act(Act::Active);
            }
        }
        let expected: BTreeMap<u8, u32> =
            world.bindings.iter().map(|(address, (version, _))| (*address, *version)).collect();
        prop_assert_eq!(world.copy, expected);
        prop_assert!(world.bench.rules.start() >= Some(1000));
    }
}
