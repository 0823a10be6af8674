//! A watch of `blq` on a server with a mirror, over sockets: the copy equals the mirror's bindings through
//! changes, restarts and lost history (RFC 7724 section 7).

#[path = "support/active.rs"]
mod active;
#[path = "support/bench.rs"]
mod bench;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use active::{INSECURE, config, serve};
use bench::{Bench, all, lease, relay_information};
use blq::watch::{Event, Settings};
use blq::{Binding, Connection, MessageType, Query, State, Timeouts, Vss, Watch};
use dhcp_blq::config::Config;
use dhcp_blq::mirror::Saved;
use dhcp_blq::mirror::apply_worker::ApplyWorker;
use dhcp_blq::mirror::event::{ClientInfo, Event as LeaseEvent, Origin};
use dhcp_blq::mirror::history::SavedHistory;
use dhcp_blq::model::time::Time;
use dhcp_blq::server::Server;

/// The facts about a binding that do not depend on the time of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Facts {
    /// The type of the message.
    message_type: MessageType,
    /// The state.
    state: Option<State>,
    /// The MAC address.
    chaddr: Vec<u8>,
    /// The client identifier.
    client_id: Option<Vec<u8>>,
    /// The remote-id.
    remote_id: Option<Vec<u8>>,
    /// The end of the lease.
    ends: Option<u64>,
    /// The begin of the state, and the client's last transaction.
    times: [Option<u32>; 2],
}

/// Bindings by VPN and address.
type Copy = BTreeMap<(Option<Vec<u8>>, Ipv4Addr), Facts>;

/// Adds a binding to a copy, or replaces it.
fn insert(copy: &mut Copy, binding: &Binding) {
    let key = (binding.vpn.as_ref().map(Vss::encode), binding.address);
    let facts = Facts {
        message_type: binding.message_type,
        state: binding.state,
        chaddr: binding.chaddr.clone(),
        client_id: binding.client_id.clone(),
        remote_id: binding.remote_id().map(<[u8]>::to_vec),
        ends: binding.lease_ends_at(),
        times: [
            binding.state_started_at(),
            binding.client_last_transaction_at(),
        ],
    };
    copy.insert(key, facts);
}

/// A mirror and its server, on a port that later servers have as well.
struct Setup {
    /// The server; `None` while it is stopped.
    server: Option<Server>,
    /// The parameters.
    config: Config,
    /// Applies events, and the ends of leases.
    _apply_worker: ApplyWorker,
    /// The mirror.
    bench: Bench,
}

impl Setup {
    /// Serves a mirror whose history began at `since`.
    fn new(port: u16, since: Time) -> Setup {
        let bench = Bench::with_saved(Saved {
            saved_at: Some(Time(1)),
            history: Some(Box::new(SavedHistory {
                since,
                ..SavedHistory::default()
            })),
            ..Saved::default()
        });
        let config = Config {
            port,
            ..config(r#"["127.0.0.1"]"#, INSECURE)
        };
        let mirror = Arc::clone(&bench.mirror);
        let mut setup = Setup {
            server: None,
            config,
            _apply_worker: ApplyWorker::start(mirror, || {}, || {}).unwrap(),
            bench,
        };
        setup.start();
        setup
    }

    /// Starts the server.
    fn start(&mut self) {
        self.server = Some(serve(&self.bench.mirror, &self.config));
    }

    /// Stops the server.
    fn stop(&mut self) {
        self.server = None;
    }

    /// Leases an address: hosts below 100 are in the default VPN, others in VPN "blue".
    fn lease(&self, host: u8, client: u8) {
        let address = match host {
            0..100 => [10, 0, 1, host],
            100.. => [10, 0, 2, host - 100],
        };
        let client_info = ClientInfo {
            relay_agent_information: Some(relay_information(&[b'l', client], b"relay")),
            options: Vec::new(),
            classes: Arc::default(),
        };
        // The bench's own clock stands still, but base-times do not.
        let lease = lease(address, client, Time::now().0);
        self.bench
            .mirror
            .queue()
            .push(LeaseEvent::Committed { lease, client_info });
        self.bench.mirror.catch_up();
    }

    /// Releases an address of the default VPN.
    fn release(&self, host: u8) {
        self.bench.mirror.queue().push(LeaseEvent::Released {
            address: Ipv4Addr::new(10, 0, 1, host),
            client: None,
            at: Time::now(),
            origin: Origin::Local,
        });
        self.bench.mirror.catch_up();
    }

    /// Returns the mirror's bindings.
    fn bindings(&self) -> Copy {
        let query = Query {
            vpn: Some(Vss::All),
            ..all()
        };
        let mut bindings = Copy::new();
        for binding in self.bench.ask(&query) {
            insert(&mut bindings, &binding);
        }
        bindings
    }
}

/// A watch and its copy.
struct Watcher {
    /// The watch.
    watch: Watch,
    /// The copy.
    copy: Copy,
    /// The reason of the last loss of the active connection.
    loss: String,
}

impl Watcher {
    /// Watches the server at a port.
    fn new(port: u16, start: Option<u32>) -> Watcher {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let settings = Settings {
            start,
            vpn: Some(Vss::All),
            retry_interval: Duration::from_millis(50),
            ..Settings::default()
        };
        let connect = move || Connection::open(address, &Timeouts::default());
        Watcher {
            watch: Watch::new(connect, settings),
            copy: Copy::new(),
            loss: String::new(),
        }
    }

    /// Follows the watch up to an event.
    fn follow(&mut self, mut is_last: impl FnMut(&Event) -> bool) {
        loop {
            let event = self.watch.next().unwrap().unwrap();
            let is_found = is_last(&event);
            match event {
                Event::Binding(binding) => insert(&mut self.copy, &binding),
                Event::Lost { failure, .. } => self.loss = failure.to_string(),
                _ => {}
            }
            if is_found {
                return;
            }
        }
    }

    /// Follows the watch up to a complete catch-up.
    fn catch_up(&mut self) {
        self.follow(|event| matches!(event, Event::CaughtUp { .. }));
    }

    /// Follows the watch up to the lease of a client.
    fn follow_to(&mut self, client: u8) {
        self.follow(|event| match event {
            Event::Binding(binding) => binding.chaddr == bench::mac(client),
            _ => false,
        });
    }
}

/// Returns a port that no server has. A server listens on it again and again.
fn port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.local_addr().unwrap().port()
}

/// RFC 7724 sections 7.3, 7.4 and 8.2: no change is missed.
#[test]
fn a_copy_equals_the_mirror_through_changes_and_restarts() {
    let port = port();
    let mut setup = Setup::new(port, Time(1));
    setup.lease(10, 1);
    setup.lease(101, 2);
    let mut watcher = Watcher::new(port, None);
    watcher.catch_up();
    assert_eq!(watcher.copy, setup.bindings());

    // Live changes; the last one shows that all have arrived.
    setup.lease(11, 3);
    setup.release(10);
    setup.lease(102, 4);
    setup.lease(11, 5);
    setup.lease(19, 6);
    watcher.follow_to(6);
    assert_eq!(watcher.copy, setup.bindings());

    for round in 0..3 {
        setup.stop();
        watcher.follow(|event| matches!(event, Event::Lost { .. }));
        assert!(watcher.loss.contains("QueryTerminated"), "{}", watcher.loss);
        // Changes that nobody sends.
        setup.lease(12 + round, 10 + round);
        setup.release(11 + round);
        setup.lease(101, 20 + round);
        setup.start();
        watcher.catch_up();
        assert_eq!(watcher.copy, setup.bindings(), "{round}");
        setup.lease(18, 30 + round);
        watcher.follow_to(30 + round);
        assert_eq!(watcher.copy, setup.bindings(), "{round}");
    }
    // A later watch goes on without a gap.
    let start = watcher.watch.start();
    let copy = std::mem::take(&mut watcher.copy);
    drop(watcher);
    setup.lease(17, 40);
    let mut next = Watcher {
        copy,
        ..Watcher::new(port, start)
    };
    next.catch_up();
    assert_eq!(next.copy, setup.bindings());
}

/// RFC 7724 section 7.4.1: DataMissing, and a bulk query for the missing changes.
#[test]
fn a_copy_equals_the_mirror_after_lost_history() {
    let port = port();
    let mut setup = Setup::new(port, Time(1));
    setup.lease(10, 1);
    let mut watcher = Watcher::new(port, None);
    watcher.catch_up();
    setup.stop();
    watcher.follow(|event| matches!(event, Event::Lost { .. }));
    // Another mirror, whose history begins now; the leases are the same but one.
    drop(setup);
    let setup = Setup::new(port, Time::now());
    setup.lease(10, 1);
    setup.lease(12, 7);
    watcher.follow(|event| matches!(event, Event::DataMissing { .. }));
    watcher.follow(|event| matches!(event, Event::Answer { .. }));
    setup.lease(13, 8);
    watcher.follow_to(8);
    assert_eq!(watcher.copy, setup.bindings());
}
