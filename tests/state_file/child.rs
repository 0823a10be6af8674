//! A child process with a mirror and its state file, which a test kills, denies access to the file,
//! or leaves without disk space.
//!
//! The child is this test program, started again. It reads commands from standard input, one per
//! line, and reports progress and the identifiers of log messages on standard output.

use std::io::{BufRead, BufReader, Write};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use std::{env, fmt, fs, process, thread};

use dhcp_blq::kea_config::KeaConfig;
use dhcp_blq::mirror::InitialLoad;
use dhcp_blq::mirror::event::{Event, Lease, LeaseState, Origin};
use dhcp_blq::model::binding::SubnetId;
use dhcp_blq::model::time::{Lifetime, Time};
use dhcp_blq::persist::Store;
use dhcp_blq::persist::flush_worker::FlushWorker;
use tracing::field::{Field, Visit};
use tracing::{Metadata, Subscriber, span};

/// The environment variable with the task of a child.
const TASK: &str = "KEA_BLQ_TEST_TASK";
/// The environment variable with the path of the state file.
const STATE_FILE: &str = "KEA_BLQ_TEST_STATE_FILE";
/// The environment variable with the number of leases.
const LEASES: &str = "KEA_BLQ_TEST_LEASES";

/// The user and group of the child if this process can set them: nobody.
pub const NOBODY: u32 = 65_534;

/// Time after which a child ends, so that a test fails if an expected report is missing.
const MAX_LIFETIME: Duration = Duration::from_secs(120);

/// A child process.
pub struct ChildProcess {
    /// The process.
    process: Child,
    /// The pipe for commands.
    commands: ChildStdin,
    /// The pipe with reports.
    reports: BufReader<ChildStdout>,
}

impl ChildProcess {
    /// Starts a child that writes `leases` leases to its state file, run by the command `wrapper`
    /// if that is not empty.
    pub fn start(wrapper: &[&str], path: &Path, leases: u32) -> ChildProcess {
        ChildProcess::run("keep", wrapper, path, leases)
    }

    /// Starts a child with a task.
    pub fn run(task: &str, wrapper: &[&str], path: &Path, leases: u32) -> ChildProcess {
        let itself = env::current_exe().unwrap();
        let test = "child::does_nothing_unless_started_as_a_child";
        let command: Vec<&str> = wrapper
            .iter()
            .copied()
            .chain([itself.to_str().unwrap(), "--exact", test, "--nocapture"])
            .collect();
        let mut process = Command::new(command[0])
            .args(&command[1..])
            .env(TASK, task)
            .env(STATE_FILE, path)
            .env(LEASES, leases.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let commands = process.stdin.take().unwrap();
        let reports = BufReader::new(process.stdout.take().unwrap());
        ChildProcess {
            process,
            commands,
            reports,
        }
    }

    /// Returns the process id.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Sends a command.
    pub fn send(&mut self, command: &str) {
        writeln!(self.commands, "{command}").unwrap();
    }

    /// Waits for the next line that begins with `word`, and returns the rest of it; `None` if the
    /// child ends first, at the latest after [`MAX_LIFETIME`].
    pub fn next(&mut self, word: &str) -> Option<String> {
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

    /// Checks that these are the identifiers of the next messages, without others in between.
    pub fn expect_logged(&mut self, identifiers: &[&str]) {
        for identifier in identifiers {
            assert_eq!(self.next("logged").as_deref(), Some(*identifier));
        }
    }

    /// Stops the child.
    pub fn stop(mut self) {
        self.send("stop");
        assert_eq!(self.next("stopped").as_deref(), Some(""));
        assert!(self.process.wait().unwrap().success());
    }

    /// Kills the child by SIGKILL.
    pub fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

impl Drop for ChildProcess {
    fn drop(&mut self) {
        // A failed test must not leave the child running. Killing one that has ended fails.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The entry point of a child process. Without a task it does nothing.
#[test]
fn does_nothing_unless_started_as_a_child() {
    let Some(task) = env::var_os(TASK) else {
        return;
    };
    thread::spawn(|| {
        thread::sleep(MAX_LIFETIME);
        process::exit(1);
    });
    let path = PathBuf::from(env::var_os(STATE_FILE).unwrap());
    match task.to_str().unwrap() {
        "keep" => keep(&path),
        "keep as nobody" => {
            become_nobody();
            keep(&path);
        }
        "keep on a full disk" => {
            FAIL_WRITES.store(true, Ordering::Relaxed);
            keep(&path);
        }
        "write without end" => super::killed::write_without_end(&path),
        task => panic!("{task}"),
    }
    process::exit(0);
}

/// Reports a line. The test harness may have printed the beginning of another.
pub fn report(line: &str) {
    println!("\n{line}");
}

/// Returns lease `number`.
pub fn lease(number: u32) -> Lease {
    Lease {
        address: address(number),
        state: LeaseState::Default,
        cltt: Time(1_000),
        valid_lifetime: Lifetime::INFINITE,
        subnet: SubnetId(1),
        hardware: dhcp_blq::model::address::HardwareAddress {
            htype: 1,
            octets: number.to_be_bytes().to_vec(),
        },
        client_id: vec![0xff; 100],
        hostname: Vec::new(),
        relay_agent_information: None,
    }
}

/// Returns the address with a number.
pub fn address(number: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(0x0a00_0000 + number)
}

/// Runs a mirror with its state file, and obeys commands.
fn keep(path: &Path) {
    tracing::subscriber::set_global_default(Reporter).unwrap();
    let leases = env::var(LEASES).unwrap().parse().unwrap();
    let (store, saved) = Store::open_or_recover(path);
    let mut initial_load = InitialLoad::begin(KeaConfig::default().into(), saved, Time(1_000));
    for number in 0..leases {
        initial_load.lease(&lease(number));
    }
    let mirror = Arc::new(initial_load.finish());
    let writer = FlushWorker::start(Arc::clone(&mirror), store).unwrap();
    let changed = writer.notifier();
    report("started");
    for command in std::io::stdin().lines() {
        let command = command.unwrap();
        match command.split_once(' ').unwrap_or((&command, "")) {
            ("release", number) => {
                mirror.queue().push(Event::Released {
                    address: address(number.parse().unwrap()),
                    client: None,
                    at: Time(2_000),
                    origin: Origin::Local,
                });
                changed();
            }
            ("fail-syncs", _) => FAIL_SYNCS.store(true, Ordering::Relaxed),
            ("heal", _) => {
                FAIL_SYNCS.store(false, Ordering::Relaxed);
                FAIL_WRITES.store(false, Ordering::Relaxed);
            }
            ("stop", _) => break,
            _ => panic!("{command}"),
        }
    }
    drop(writer.stop());
    report("stopped");
}

/// Drops the privileges of root, if the process has them.
#[allow(unsafe_code)] // The C library.
fn become_nobody() {
    // SAFETY: the calls take numbers only.
    unsafe {
        if libc::geteuid() == 0 {
            assert_eq!(libc::setgroups(0, std::ptr::null()), 0);
            assert_eq!(libc::setresgid(NOBODY, NOBODY, NOBODY), 0);
            assert_eq!(libc::setresuid(NOBODY, NOBODY, NOBODY), 0);
        }
    }
}

/// Gives a file or directory to the user that the child runs as, with a mode that permits or denies
/// access.
pub fn give_to_child(path: &Path, mode: u32) {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
    if fs::metadata("/proc/self").unwrap().uid() == 0 {
        chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
    }
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// Whether `fdatasync` fails in this process, as on a broken disk.
static FAIL_SYNCS: AtomicBool = AtomicBool::new(false);
/// Whether `pwrite` fails in this process, as on a full disk.
static FAIL_WRITES: AtomicBool = AtomicBool::new(false);

/// Sets `errno` and returns the value of a failed call.
#[allow(unsafe_code)] // The C library.
fn failed(error: libc::c_int) -> isize {
    // SAFETY: the pointer is to this thread's `errno`.
    unsafe { *libc::__errno_location() = error };
    -1
}

// These replace the functions of the C library in the whole process, because they are linked first.

/// `fdatasync`, with injected failures.
#[allow(unsafe_code)] // The C library.
#[unsafe(no_mangle)]
extern "C" fn fdatasync(file: libc::c_int) -> libc::c_int {
    if FAIL_SYNCS.load(Ordering::Relaxed) {
        return failed(libc::EIO) as libc::c_int;
    }
    // SAFETY: the arguments are passed on unchanged.
    unsafe { libc::syscall(libc::SYS_fdatasync, file) as libc::c_int }
}

/// `pwrite64`, with injected failures.
#[allow(unsafe_code)] // The C library.
#[unsafe(no_mangle)]
extern "C" fn pwrite64(
    file: libc::c_int,
    octets: *const libc::c_void,
    count: usize,
    offset: i64,
) -> isize {
    if FAIL_WRITES.load(Ordering::Relaxed) {
        return failed(libc::ENOSPC);
    }
    // SAFETY: the arguments are passed on unchanged.
    unsafe { libc::syscall(libc::SYS_pwrite64, file, octets, count, offset) as isize }
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

    fn event(&self, event: &tracing::Event<'_>) {
        event.record(&mut Reporter);
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

impl Visit for Reporter {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "id" {
            report(&format!("logged {value}"));
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            eprintln!("{value:?}");
        }
    }
}
