//! The state file of a process that is killed or runs out of disk.
//!
//! Each test runs itself again as a child process, which reports to its standard output.

use std::io::{BufRead, BufReader};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::{env, fmt};

use dhcp_blq::binding::{Binding, Client, HardwareAddress, State, SubnetId};
use dhcp_blq::event::{Lease, LeaseState};
use dhcp_blq::mirror::Loading;
use dhcp_blq::mirror::store::{Batch, Store};
use dhcp_blq::mirror::writer::Writer;
use dhcp_blq::network::Network;
use dhcp_blq::time::{Lifetime, Time};
use tracing::field::{Field, Visit};
use tracing::{Event, Metadata, Subscriber, span};

/// Names the state file to a child process.
const STATE_FILE: &str = "KEA_BLQ_TEST_STATE_FILE";

/// The state file, in the child process alone.
fn in_child() -> Option<PathBuf> {
    env::var_os(STATE_FILE).map(PathBuf::from)
}

/// The command that runs `test` again as a child, by means of `wrapper`.
fn child(wrapper: &[&str], test: &str, path: &Path) -> Reported {
    let itself = env::current_exe().unwrap();
    let command: Vec<&str> = wrapper
        .iter()
        .copied()
        .chain([itself.to_str().unwrap(), "--exact", test, "--nocapture"])
        .collect();
    let mut process = Command::new(command[0])
        .args(&command[1..])
        .env(STATE_FILE, path)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let reports = BufReader::new(process.stdout.take().unwrap());
    Reported { process, reports }
}

/// A child process and what it reports.
struct Reported {
    /// The process.
    process: Child,
    /// Its standard output.
    reports: BufReader<ChildStdout>,
}

impl Reported {
    /// Waits for the next line that begins with `word`, and gives the rest of it; `None` if
    /// the child ends before.
    fn next(&mut self, word: &str) -> Option<String> {
        loop {
            let mut line = String::new();
            if self.reports.read_line(&mut line).unwrap() == 0 {
                return None;
            }
            if let Some(rest) = line.trim().strip_prefix(word) {
                return Some(rest.trim().to_owned());
            }
        }
    }

    /// Kills it as `kill -9` does.
    fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

impl Drop for Reported {
    fn drop(&mut self) {
        // A test that fails must not leave it running; one that is gone cannot be killed.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Binding `number` as it was at `since`.
fn binding(number: u32, since: u32) -> Binding {
    Binding {
        address: Ipv4Addr::from_bits(0x0a00_0000 + number),
        state: State::Released,
        since: Time(since),
        last_transaction: Some(Time(since)),
        lease_start: Time(since),
        lifetime: Lifetime(0),
        subnet: SubnetId(1),
        client: Some(Arc::new(Client {
            hardware: HardwareAddress {
                htype: 1,
                octets: number.to_be_bytes().to_vec(),
            },
            ..Client::default()
        })),
        learned: None,
        reserved_until: None,
    }
}

/// Contract: what was written survives kill -9, whole transactions and nothing else.
#[test]
fn a_killed_process_leaves_its_last_transaction_whole() {
    const BINDINGS: u32 = 500;
    if let Some(path) = in_child() {
        let (mut store, saved) = Store::open(&path).unwrap();
        let mut at = saved.saved_at.unwrap_or_default();
        loop {
            at = at.plus(1);
            let bindings = (0..BINDINGS).map(|number| binding(number, at.0));
            store
                .write(&Batch {
                    bindings: bindings
                        .map(|binding| (binding.address, Some(binding)))
                        .collect(),
                    ranges: None,
                    at,
                })
                .unwrap();
            println!("\nwrote {}", at.0);
        }
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state");
    for round in 0..8 {
        let test = "a_killed_process_leaves_its_last_transaction_whole";
        let mut child = child(&[], test, &path);
        let mut reported = None;
        for _ in 0..=round {
            reported = child.next("wrote");
        }
        child.kill();
        while let Some(last) = child.next("wrote") {
            reported = Some(last);
        }
        let reported: u32 = reported.unwrap().parse().unwrap();
        let (_store, saved) = Store::open(&path).unwrap();
        let at = saved.saved_at.unwrap().0;
        assert!(at == reported || at == reported + 1, "{at} {reported}");
        let expected: Vec<Binding> = (0..BINDINGS).map(|number| binding(number, at)).collect();
        assert_eq!(saved.bindings, expected);
    }
    // Nothing was set aside on the way.
    assert_eq!(directory.path().read_dir().unwrap().count(), 1);
}

/// Reports the identifiers of log messages.
struct Reporter;

impl Subscriber for Reporter {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        event.record(&mut Reporter);
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

impl Visit for Reporter {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "id" {
            println!("\nlogged {value}");
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn fmt::Debug) {}
}

/// A full disk costs nothing once there is room again, and is told once.
#[test]
fn writes_everything_once_a_full_disk_has_room_again() {
    const LEASES: u32 = 30_000;
    if let Some(path) = in_child() {
        tracing::subscriber::set_global_default(Reporter).unwrap();
        let (store, saved) = Store::open_or_recover(&path);
        let mut loading = Loading::begin(Arc::new(Network::default()), saved, Time(1_000));
        for number in 0..LEASES {
            loading.lease(&Lease {
                address: Ipv4Addr::from_bits(0x0a00_0000 + number),
                state: LeaseState::Default,
                cltt: Time(1_000),
                valid_lifetime: Lifetime(3_600),
                subnet: SubnetId(1),
                hardware: HardwareAddress {
                    htype: 1,
                    octets: number.to_be_bytes().to_vec(),
                },
                client_id: vec![0xff; 100],
                hostname: Vec::new(),
                relay_agent_information: None,
            });
        }
        let _writer = Writer::start(Arc::new(loading.finish()), store.unwrap()).unwrap();
        loop {
            std::thread::park();
        }
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state");
    // A limit on the size of files, here 2 MiB, is the disk that anybody can fill.
    let limited = r#"trap "" XFSZ; ulimit -S -f 4096; exec "$0" "$@""#;
    let test = "writes_everything_once_a_full_disk_has_room_again";
    let mut child = child(&["sh", "-c", limited], test, &path);
    assert_eq!(child.next("logged").unwrap(), "BLQ_STATE_WRITE_FAILED");
    let raised = Command::new("prlimit")
        .args(["--fsize=unlimited", "--pid"])
        .arg(child.process.id().to_string())
        .status()
        .unwrap();
    assert!(raised.success());
    assert_eq!(child.next("logged").unwrap(), "BLQ_STATE_WRITTEN_AGAIN");
    child.kill();
    let (_store, saved) = Store::open(&path).unwrap();
    assert_eq!(saved.bindings.len(), LEASES as usize);
}
