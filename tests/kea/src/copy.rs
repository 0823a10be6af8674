//! Requesters that keep a copy of a server's bindings by Active Leasequery (RFC 7724).

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use blq::watch::{Event, Settings, Stopper};
use blq::{Binding, Connection, MessageType, Primary, Query, State, Timeouts, Vss, Watch};
use serde_json::{Value, json};

use crate::PATIENCE;

/// The time after which a lost connection is established again.
const RETRY: Duration = Duration::from_millis(200);

/// The time between two comparisons.
const INTERVAL: Duration = Duration::from_millis(100);

/// The longest waits for the hook.
const TIMEOUTS: Timeouts = Timeouts {
    connect: Duration::from_secs(30),
    data: Duration::from_secs(30),
};

/// Returns the parameter `advanced` of a hook that serves Active Leasequery without TLS.
pub fn active_query() -> Value {
    json!({ "active-query-enabled": true, "active-query-insecure": true })
}

/// A copy of the bindings in all VPNs.
#[derive(Debug)]
pub struct Copy {
    /// The server.
    server: SocketAddrV4,
    /// The copy and its history.
    received: Arc<Mutex<Received>>,
    /// Ends the requester.
    stopper: Stopper,
    /// The requester.
    thread: Option<JoinHandle<()>>,
}

/// The bindings and events that a requester has received.
#[derive(Debug, Default)]
pub struct Received {
    /// The latest binding of each address.
    pub bindings: BTreeMap<Ipv4Addr, Binding>,
    /// All bindings of active and bulk queries, in the order of their arrival.
    pub history: Vec<(Ipv4Addr, State)>,
    /// The number of CatchUpComplete.
    pub caught_up: usize,
    /// The number of DataMissing.
    pub missing: usize,
    /// Other events, and the error that ended the requester.
    pub events: Vec<String>,
}

impl Copy {
    /// Begins to keep a copy of a server's bindings.
    pub fn begin(server: SocketAddrV4) -> Copy {
        Copy::begin_with(server, move || Connection::open(server, &TIMEOUTS))
    }

    /// Begins to keep a copy of a server's bindings by connections that `connect` opens.
    pub fn begin_with(
        server: SocketAddrV4,
        connect: impl Fn() -> Result<Connection, blq::Error> + Send + Sync + 'static,
    ) -> Copy {
        let settings = Settings {
            vpn: Some(Vss::All),
            parameter_request_list: None,
            retry_interval: RETRY,
            ..Settings::default()
        };
        let watch = Watch::new(connect, settings);
        let received = Arc::new(Mutex::new(Received::default()));
        let stopper = watch.stopper();
        let thread = thread::spawn({
            let received = Arc::clone(&received);
            move || {
                for event in watch {
                    take(&mut locked(&received), event);
                }
            }
        });
        Copy {
            server,
            received,
            stopper,
            thread: Some(thread),
        }
    }

    /// Reads the copy.
    pub fn read<T>(&self, read: impl FnOnce(&Received) -> T) -> T {
        read(&locked(&self.received))
    }

    /// Waits until a condition on the copy holds.
    #[track_caller]
    pub fn eventually(&self, what: &str, condition: impl Fn(&Received) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !self.read(&condition) {
            let events = self.read(|received| format!("{:?}", received.events));
            assert!(Instant::now() < deadline, "{what}: {events}");
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits until the copy has a state of an address.
    #[track_caller]
    pub fn await_state(&self, address: Ipv4Addr, state: State) -> Binding {
        let of = |received: &Received| {
            let binding = received.bindings.get(&address).cloned();
            binding.filter(|binding| binding.state == Some(state))
        };
        self.eventually(&format!("{address} {state}"), |received| {
            of(received).is_some()
        });
        self.read(of).expect("the state that was seen")
    }

    /// Compares the copy with the server's answers to queries for all addresses until each address has been the same in
    /// both, at the latest for `patience`.
    ///
    /// # Errors
    /// The differences.
    pub fn compare(&self, patience: Duration) -> Result<(), String> {
        let deadline = Instant::now() + patience;
        // The addresses that were the same: others may change meanwhile.
        let mut same = BTreeSet::new();
        loop {
            // Changes before the answer were sent before it.
            let answer = self.ask();
            let mut differences = Vec::new();
            if let Ok(answer) = &answer {
                self.read(|received| {
                    for address in answer.keys().chain(received.bindings.keys()) {
                        match difference(answer.get(address), received.bindings.get(address)) {
                            Some(difference) if !same.contains(address) => {
                                differences.push(format!("{address}: {difference}"));
                            }
                            Some(_) => {}
                            None => {
                                same.insert(*address);
                            }
                        }
                    }
                });
            }
            if answer.is_ok() && differences.is_empty() {
                return Ok(());
            }
            if Instant::now() > deadline {
                differences.dedup();
                differences.truncate(5);
                let events = self.read(|received| {
                    let last = received.events.len().saturating_sub(5);
                    format!("{:?}", &received.events[last..])
                });
                return Err(format!(
                    "the copy of an active requester differs: {}; its events: {events}; the query: {:?}",
                    differences.join("; "),
                    answer.err()
                ));
            }
            thread::sleep(INTERVAL);
        }
    }

    /// Queries all configured addresses in all VPNs.
    fn ask(&self) -> Result<BTreeMap<Ipv4Addr, Binding>, String> {
        let mut query = Query::new(Primary::All);
        query.vpn = Some(Vss::All);
        query.parameter_request_list = None;
        let connection = Connection::open(self.server, &TIMEOUTS);
        let mut connection = connection.map_err(|error| error.to_string())?;
        let answer = connection.query(&query);
        let done = answer.done.map_err(|error| error.to_string())?;
        if let Some(failure) = done.failure() {
            return Err(failure.to_string());
        }
        let bindings = answer.bindings.into_iter();
        Ok(bindings.map(|binding| (binding.address, binding)).collect())
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        self.stopper.stop();
        if let Some(thread) = self.thread.take() {
            // Its panic has been reported by itself.
            let _ = thread.join();
        }
    }
}

/// Locks what a requester has received. A panic while it is locked fails the test by itself.
fn locked(received: &Mutex<Received>) -> MutexGuard<'_, Received> {
    received.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes an event of the requester.
fn take(received: &mut Received, event: Result<Event, blq::watch::Failure>) {
    match event {
        Ok(Event::Binding(binding)) => {
            let state = binding.state.unwrap_or(State(0));
            received.history.push((binding.address, state));
            received.bindings.insert(binding.address, *binding);
        }
        Ok(Event::CaughtUp { .. }) => received.caught_up += 1,
        Ok(Event::DataMissing { .. }) => received.missing += 1,
        Ok(event) => received.events.push(format!("{event:?}")),
        Err(failure) => received.events.push(format!("ended by {failure}")),
    }
}

/// Returns the difference between the binding in an answer and the one in the copy, if there is one.
fn difference(answer: Option<&Binding>, copy: Option<&Binding>) -> Option<String> {
    let is_free =
        |binding: &Binding| matches!(binding.state, Some(State::AVAILABLE | State::REMOTE));
    let is_active = |binding: &Binding| binding.message_type == MessageType::LEASE_ACTIVE;
    match (answer, copy) {
        // An answer has no address that is not configured any more, and copies keep their bindings.
        (None, _) => None,
        // Addresses that merely become configured are in catch-ups alone.
        (Some(answer), None) => {
            (!is_free(answer)).then(|| format!("{} in the answer alone", shown(answer)))
        }
        (Some(answer), Some(copy)) if is_free(answer) => {
            is_active(copy).then(|| format!("{}, in the copy {}", shown(answer), shown(copy)))
        }
        (Some(answer), Some(copy)) => {
            let (answer, copy) = (shown(answer), shown(copy));
            (answer != copy).then(|| format!("{answer}, in the copy {copy}"))
        }
    }
}

/// Returns the parts of a binding that a copy must have, with absolute times.
fn shown(binding: &Binding) -> String {
    let option_82 = binding.relay_agent_information.as_ref();
    format!(
        "{:?} {:?} since {:?}, client {:02x?} {:02x?}, last {:?}, ends {:?}, VPN {:?}, 82 {:02x?}, remote {}",
        binding.message_type,
        binding.state,
        binding.state_started_at(),
        binding.chaddr,
        binding.client_id,
        binding.client_last_transaction_at(),
        binding.lease_ends_at(),
        binding.vpn,
        option_82.map(|all| &all.raw),
        binding.is_remote(),
    )
}
