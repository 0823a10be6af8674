//! The descriptors of the server's sockets, in a process with a low or a high limit.
//!
//! The server runs in a separate process, as it does in Kea: this test program, started again with
//! another limit. Commands arrive on its standard input, one per line, and answers leave on its
//! standard error.

#[path = "support/fake_engine.rs"]
mod fake_engine;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use std::{env, thread};

use dhcp_blq::config::Config;
use dhcp_blq::log::subscriber::{self, Sink};
use dhcp_blq::server::Server;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::Level;

use fake_engine::{FakeEngine, Query, Reply, frame};

/// The environment variable that makes a process the server; its value is the limit of descriptors.
const LIMIT: &str = "KEA_BLQ_TEST_LIMIT";
/// The environment variable with the server's parameters in `advanced`.
const PARAMETERS: &str = "KEA_BLQ_TEST_PARAMETERS";

/// Time after which a test fails; never reached by a correct server.
const PATIENCE: Duration = Duration::from_secs(60);

/// The lowest descriptor that `select()` cannot watch.
const FIRST_HIGH: usize = 1024;

/// Limits of descriptors, with the number of low descriptors that each reserves for Kea.
const LIMITS: [(usize, usize); 5] = [(64, 16), (256, 64), (1024, 128), (1100, 128), (4096, 128)];

//------------ The server's process ------------------------------------------------------------

/// Records log messages.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

impl Sink for Log {
    fn is_enabled(&self, level: Level) -> bool {
        level <= Level::INFO
    }

    fn write(&self, _: Level, id: &'static str, text: &str) {
        self.0.lock().unwrap().push(format!("{id} {text}"));
    }
}

/// Returns the descriptors of this process.
fn numbers() -> BTreeSet<usize> {
    let entries = fs::read_dir("/proc/self/fd").unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name());
    let mut numbers: BTreeSet<usize> = names
        .map(|name| name.to_str().unwrap().parse().unwrap())
        .collect();
    // The directory's own descriptor is closed by now.
    numbers.retain(|number| fs::read_link(format!("/proc/self/fd/{number}")).is_ok());
    numbers
}

#[test]
fn does_nothing_unless_started_as_the_server() {
    let Ok(limit) = env::var(LIMIT) else {
        return;
    };
    let limits = Rlimit {
        current: Some(limit.parse().unwrap()),
        ..getrlimit(Resource::Nofile)
    };
    setrlimit(Resource::Nofile, limits).unwrap();
    let log = Log::default();
    tracing::subscriber::set_global_default(subscriber::to(log.clone())).unwrap();
    let advanced = env::var(PARAMETERS).unwrap();
    let json = format!(
        r#"{{ "requesters": ["127.0.0.0/8"],
             "advanced": {{ "lease-query-ip": "127.0.0.1", {advanced} }} }}"#
    );
    let config = Config {
        port: 0,
        ..Config::parse(&json).unwrap()
    };
    let started = Server::start(&config, Arc::new(FakeEngine::default()));
    let server = match started {
        Ok(server) => server,
        Err(error) => {
            eprintln!("ANSWER {error}");
            return;
        }
    };
    // Other files of the process, as in Kea.
    let mut files: Vec<File> = Vec::new();
    let port = server.local_addresses()[0].port();
    eprintln!("ANSWER {port}");
    for command in io::stdin().lines() {
        let command = command.unwrap();
        let (command, number) = command.split_once(' ').unwrap_or((&command, "0"));
        let number: usize = number.parse().unwrap();
        let answer = match command {
            "numbers" => {
                let numbers: Vec<String> = numbers().iter().map(usize::to_string).collect();
                numbers.join(" ")
            }
            // Opens a number of files; answers with the highest descriptor.
            "open" => {
                files.extend((0..number).map_while(|_| File::open("/dev/null").ok()));
                let highest = files.iter().map(|file| file.as_raw_fd()).max().unwrap_or(0);
                format!("{} {highest}", files.len())
            }
            // Opens files until a descriptor reaches the number.
            "fill" => {
                while files
                    .last()
                    .is_none_or(|file| (file.as_raw_fd() as usize) < number)
                {
                    files.push(File::open("/dev/null").unwrap());
                }
                String::new()
            }
            "close" => {
                files.clear();
                String::new()
            }
            "log" => log.0.lock().unwrap().join("\t"),
            _ => panic!("command {command}"),
        };
        eprintln!("ANSWER {answer}");
    }
    server.stop("the test is over");
}

/// A server in a separate process.
struct Process {
    /// The process.
    process: Child,
    /// The pipe for commands.
    commands: ChildStdin,
    /// The pipe with answers.
    answers: BufReader<std::process::ChildStderr>,
    /// The server's address.
    address: SocketAddr,
    /// Kept open, so that writing to standard output does not fail.
    _output: ChildStdout,
}

impl Process {
    /// Starts a server with a limit of descriptors.
    fn start(limit: usize, parameters: &str) -> Process {
        match Process::try_start(limit, parameters) {
            Ok(started) => started,
            Err(error) => panic!("at {limit}: {error}"),
        }
    }

    /// Starts a server; the error is its message if it does not start.
    fn try_start(limit: usize, parameters: &str) -> Result<Process, String> {
        // The connections of a test are open in this process, too.
        let own = getrlimit(Resource::Nofile);
        let all = Rlimit {
            current: own.maximum,
            ..own
        };
        setrlimit(Resource::Nofile, all).unwrap();
        let mut process = Command::new(env::current_exe().unwrap())
            .args(["--exact", "does_nothing_unless_started_as_the_server"])
            .arg("--nocapture")
            .env(LIMIT, limit.to_string())
            .env(PARAMETERS, parameters)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut started = Process {
            commands: process.stdin.take().unwrap(),
            answers: BufReader::new(process.stderr.take().unwrap()),
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            _output: process.stdout.take().unwrap(),
            process,
        };
        let answer = started.answer();
        let port = answer.parse().map_err(|_| answer)?;
        started.address.set_port(port);
        Ok(started)
    }

    /// Reads the answer to the last command.
    fn answer(&mut self) -> String {
        let mut line = String::new();
        loop {
            line.clear();
            let length = self.answers.read_line(&mut line).unwrap();
            assert_ne!(length, 0, "the server's process has ended");
            if let Some(answer) = line.strip_prefix("ANSWER ") {
                return answer.trim_end_matches('\n').to_owned();
            }
        }
    }

    /// Sends a command and returns the answer.
    fn command(&mut self, command: &str) -> String {
        writeln!(self.commands, "{command}").unwrap();
        self.answer()
    }

    /// Returns the server's descriptors.
    fn numbers(&mut self) -> Vec<usize> {
        let numbers = self.command("numbers");
        let numbers = numbers.split_whitespace();
        numbers.map(|number| number.parse().unwrap()).collect()
    }

    /// Returns the messages logged with an identifier.
    fn logged(&mut self, id: &str) -> Vec<String> {
        let log = self.command("log");
        let lines = log.split('\t').filter(|line| line.starts_with(id));
        lines.map(str::to_owned).collect()
    }

    /// Connects to the server.
    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// Opens connections, of which the server serves as many as it can.
    fn connect_many(&self, count: usize) -> Vec<TcpStream> {
        (0..count).map(|_| self.connect()).collect()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // The process may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Whether a query on a connection is answered; otherwise the server must have closed it.
fn is_served(mut stream: &TcpStream) -> bool {
    let query = Query {
        xid: 77,
        replies: 0,
        size: 8,
    };
    let mut received = [0; 10];
    let outcome = stream
        .write_all(&query.frame())
        .and_then(|()| stream.read_exact(&mut received));
    match outcome {
        Ok(()) => Reply::read_all(&received).0 == [Reply::done(77)],
        Err(error) => {
            let closed = [
                ErrorKind::UnexpectedEof,
                ErrorKind::ConnectionReset,
                ErrorKind::BrokenPipe,
            ];
            assert!(closed.contains(&error.kind()), "{error}");
            false
        }
    }
}

/// Waits until a condition holds.
fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(
            Instant::now() < deadline,
            "not within the time limit: {what}"
        );
        thread::sleep(Duration::from_millis(5));
    }
}

//------------ Tests ---------------------------------------------------------------------------

/// Kea's next descriptors are ones that `select()` can watch, with any number of open, closing or
/// waiting connections, and at any limit of the process.
#[test]
fn leaves_low_descriptors_to_kea_at_any_limit() {
    for (limit, reserve) in LIMITS {
        let mut server = Process::start(limit, r#""max-requester-connections": 600"#);
        let held = server.connect_many(700);
        // Short-lived connections beside the permanent ones.
        let mut leaving = Vec::new();
        for _ in 0..300 {
            let mut stream = server.connect();
            // The connection may be closed already.
            let _ = stream.write_all(&frame(b"no query"));
            leaving.push(stream);
        }
        eventually("connections served", || {
            server.numbers().len() > (limit - reserve).min(600) * 3 / 4
        });
        let opened = server.command(&format!("open {reserve}"));
        let (count, highest) = opened.split_once(' ').unwrap();
        assert_eq!(count, reserve.to_string(), "at {limit}");
        let highest: usize = highest.parse().unwrap();
        assert!(highest < limit.min(FIRST_HIGH), "{highest} at {limit}");
        server.command("close");
        drop((held, leaving));
        eventually("a connection is served", || is_served(&server.connect()));
        assert_eq!(server.logged("BLQ_ACCEPT_FAILED"), [""; 0], "at {limit}");
    }
}

/// If the limit allows, almost all sockets have high descriptors, which Kea does not use.
#[test]
fn moves_sockets_to_high_descriptors_if_the_limit_allows() {
    let mut server = Process::start(4096, r#""max-requester-connections": 1200"#);
    let low = |numbers: &[usize]| numbers.iter().filter(|one| **one < FIRST_HIGH).count();
    let before = server.numbers();
    let held = server.connect_many(1_200);
    assert!(held.iter().all(is_served));
    let numbers = server.numbers();
    assert_eq!(numbers.len(), before.len() + 1_200);
    assert_eq!(low(&numbers), low(&before));
    // The listening socket is one of the high ones.
    assert!(low(&before) < before.len());
    assert_eq!(server.logged("BLQ_DESCRIPTORS_SHORT"), [""; 0]);
}

/// The default number of connections is served at a limit of 64.
#[test]
fn serves_the_default_connections_with_few_descriptors() {
    let mut server = Process::start(64, r#""max-requester-connections": 10"#);
    let held = server.connect_many(10);
    assert!(held.iter().all(is_served));
    assert_eq!(server.logged("BLQ_DESCRIPTORS_SHORT"), [""; 0]);
}

/// If the configured connections need more descriptors than available, as many connections as
/// possible are served, and the log has their number.
#[test]
fn serves_as_many_connections_as_descriptors_allow_and_logs_the_limit() {
    for (limit, _) in &LIMITS[..3] {
        let mut server = Process::start(*limit, r#""max-requester-connections": 2000"#);
        let warned = server.logged("BLQ_DESCRIPTORS_SHORT");
        let [warning] = &warned[..] else {
            panic!("{warned:?} at {limit}");
        };
        for part in [
            "'advanced.max-requester-connections' is 2000",
            &format!("may have {limit} descriptors"),
            "LimitNOFILE",
        ] {
            assert!(warning.contains(part), "'{part}' in {warning}");
        }
        let (_, cap) = warning.split_once("at most ").unwrap();
        let cap: usize = cap.split_once(' ').unwrap().0.parse().unwrap();
        assert!(cap > limit / 8, "{warning}");
        let held = server.connect_many(cap);
        assert!(held.iter().all(is_served), "{cap} at {limit}");
        assert!(!is_served(&server.connect()), "{cap} at {limit}");
    }
}

/// If Kea needs all descriptors, the server starts with an error and takes none.
#[test]
fn does_not_start_if_kea_needs_all_descriptors() {
    let refused = Process::try_start(8, r#""max-requester-connections": 10"#).err();
    let error = refused.expect("an error");
    for part in ["may have 8 descriptors", "free for Kea"] {
        assert!(error.contains(part), "'{part}' in {error}");
    }
}

/// While Kea uses the reserved descriptors, connections wait in the system's backlog, and one
/// message is logged.
#[test]
fn pauses_while_kea_uses_the_reserved_descriptors() {
    let mut server = Process::start(64, r#""max-requester-connections": 10"#);
    let first = server.connect();
    assert!(is_served(&first));
    // The first descriptor of the reserve.
    server.command("fill 48");
    assert!(is_served(&first), "open connections are still served");
    assert_eq!(
        server.logged("BLQ_ACCEPT_PAUSED"),
        [""; 0],
        "no connection waits"
    );
    let waiting = server.connect();
    eventually("a pause", || !server.logged("BLQ_ACCEPT_PAUSED").is_empty());
    assert!(is_served(&first), "open connections are still served");
    waiting.set_nonblocking(true).unwrap();
    let nothing = (&waiting).read(&mut [0; 1]).unwrap_err();
    assert_eq!(nothing.kind(), ErrorKind::WouldBlock);
    waiting.set_nonblocking(false).unwrap();
    server.command("close");
    assert!(is_served(&waiting));
    assert_eq!(server.logged("BLQ_ACCEPT_PAUSED").len(), 1);
    assert_eq!(server.logged("BLQ_ACCEPT_FAILED"), [""; 0]);
}

/// Descriptors of event loops are low ones, too: the number of threads leaves enough of them.
#[test]
fn limits_threads_to_the_available_descriptors() {
    for (limit, reserve) in LIMITS {
        let parameters = r#""max-bulk-query-threads": 600, "max-requester-connections": 600"#;
        let mut server = Process::start(limit, parameters);
        let low = server.numbers();
        let low = low.into_iter().filter(|number| *number < FIRST_HIGH);
        assert!(low.count() < limit.min(FIRST_HIGH) / 2 - reserve / 2);
        let warned = server.logged("BLQ_DESCRIPTORS_SHORT").join("\n");
        assert!(
            warned.contains("'advanced.max-bulk-query-threads' is 600"),
            "{warned}"
        );
        assert!(is_served(&server.connect()));
    }
}
