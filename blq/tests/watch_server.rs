//! `blq --watch`, the program, on the server of the plugin with a mirror (RFC 7724 section 7). Both sides are written
//! independently.

#[path = "../../tests/support/active.rs"]
mod active;
#[path = "../../tests/support/bench.rs"]
mod bench;
#[path = "../../tests/support/certificates.rs"]
mod certificates;

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use active::{INSECURE, config, serve};
use bench::{Bench, all};
use certificates::Files;
use dhcp_blq::mirror::Saved;
use dhcp_blq::mirror::event::{Event, Origin};
use dhcp_blq::mirror::history::SavedHistory;
use dhcp_blq::model::time::Time;
use dhcp_blq::server::Server;
use rustix::process::{Pid, Signal, kill_process};

/// Returns a mirror whose history began long ago.
fn bench() -> Bench {
    Bench::with_saved(Saved {
        saved_at: Some(Time(1)),
        history: Some(Box::new(SavedHistory {
            since: Time(1),
            ..SavedHistory::default()
        })),
        ..Saved::default()
    })
}

/// Leases an address of subnet 1 now.
fn lease(bench: &Bench, host: u8, client: u8) {
    // The bench's own clock stands still, but base-times do not.
    bench.commit(bench::lease([10, 0, 1, host], client, Time::now().0), &[]);
}

/// Releases an address of subnet 1.
fn release(bench: &Bench, host: u8) {
    bench.mirror.queue().push(Event::Released {
        address: Ipv4Addr::new(10, 0, 1, host),
        client: None,
        at: Time::now(),
        origin: Origin::Local,
    });
    bench.mirror.catch_up();
}

/// States by address, as the program prints them.
type Copy = BTreeMap<String, String>;

/// Returns the states of a mirror.
fn states(bench: &Bench) -> Copy {
    let bindings = bench.ask(&all());
    let state = |binding: blq::Binding| {
        let state = binding.state.expect("a state").to_string();
        (binding.address.to_string(), state)
    };
    bindings.into_iter().map(state).collect()
}

//------------ The program ---------------------------------------------------------------------

/// A running `blq --watch`, and the copy that its rows make.
struct Program {
    /// The process.
    child: Child,
    /// Standard output.
    out: BufReader<ChildStdout>,
    /// The states by address.
    copy: Copy,
}

impl Program {
    /// Watches a server.
    fn start(server: SocketAddr, arguments: &[&str]) -> Program {
        let mut child = Command::new(env!("CARGO_BIN_EXE_blq"))
            .args([
                &server.ip().to_string(),
                "--port",
                &server.port().to_string(),
            ])
            .args([
                "--watch",
                "--csv",
                "--no-header",
                "--columns",
                "address,state",
            ])
            .args(["--retry-interval", "1"])
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let copy = Copy::new();
        Program { child, out, copy }
    }

    /// Reads rows until the copy has this state of an address.
    fn read_until(&mut self, address: &str, state: &str) {
        while self.copy.get(address).is_none_or(|found| found != state) {
            let mut line = String::new();
            assert!(self.out.read_line(&mut line).unwrap() > 0, "it has ended");
            let (address, state) = line.trim_end().split_once(',').unwrap();
            self.copy.insert(address.to_owned(), state.to_owned());
        }
    }

    /// Ends the program by a signal; returns its standard error.
    fn end(mut self) -> String {
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
        let mut errors = String::new();
        let mut stderr = self.child.stderr.take().unwrap();
        stderr.read_to_string(&mut errors).unwrap();
        assert_eq!(self.child.wait().unwrap().code(), Some(0), "{errors}");
        errors
    }
}

//------------ The network ---------------------------------------------------------------------

/// Forwards connections to a server, until they are cut.
struct Network {
    /// The address to connect to.
    address: SocketAddr,
    /// The server, and the open connections.
    state: Arc<Mutex<(SocketAddr, Vec<TcpStream>)>>,
}

impl Network {
    /// Forwards connections to a server.
    fn new(server: &Server) -> Network {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let target = server.local_addresses()[0].into();
        let state = Arc::new(Mutex::new((target, Vec::new())));
        let accepting = Arc::clone(&state);
        thread::spawn(move || {
            for near in listener.incoming() {
                let near = near.unwrap();
                let mut state = accepting.lock().unwrap();
                let Ok(far) = TcpStream::connect(state.0) else {
                    continue;
                };
                for (from, to) in [(&near, &far), (&far, &near)] {
                    let ends = [from, to].map(|stream| stream.try_clone().unwrap());
                    let [mut from, mut to] = ends;
                    thread::spawn(move || {
                        let _ = io::copy(&mut from, &mut to);
                        let _ = to.shutdown(Shutdown::Write);
                    });
                }
                state.1.extend([near, far]);
            }
        });
        Network { address, state }
    }

    /// Forwards later connections to another server.
    fn forward_to(&self, server: &Server) {
        self.state.lock().unwrap().0 = server.local_addresses()[0].into();
    }

    /// Ends all connections.
    fn cut(&self) {
        for stream in self.state.lock().unwrap().1.drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

//------------ Watches -------------------------------------------------------------------------

/// RFC 7724 sections 7.3 and 7.4: changes as they happen, and after a lost connection those that nobody sent.
#[test]
fn a_watch_shows_every_change_over_lost_connections_and_restarts() {
    let bench = bench();
    let config = config(r#"["127.0.0.1"]"#, INSECURE);
    let mut server = serve(&bench.mirror, &config);
    let network = Network::new(&server);
    lease(&bench, 10, 1);
    let mut program = Program::start(network.address, &[]);
    program.read_until("10.0.1.10", "ACTIVE");
    lease(&bench, 11, 2);
    program.read_until("10.0.1.11", "ACTIVE");
    release(&bench, 10);
    program.read_until("10.0.1.10", "RELEASED");
    for round in 0..2 {
        network.cut();
        // Nobody sends these, at least until the program tries again.
        lease(&bench, 12 + round, 3);
        release(&bench, 11 + round);
        program.read_until(&format!("10.0.1.{}", 12 + round), "ACTIVE");
        program.read_until(&format!("10.0.1.{}", 11 + round), "RELEASED");
        server.stop("the configuration changes");
        lease(&bench, 14 + round, 4);
        server = serve(&bench.mirror, &config);
        network.forward_to(&server);
        program.read_until(&format!("10.0.1.{}", 14 + round), "ACTIVE");
        lease(&bench, 16, 5 + round);
        program.read_until("10.0.1.16", "ACTIVE");
        assert_eq!(program.copy, states(&bench), "{round}");
        release(&bench, 16);
        program.read_until("10.0.1.16", "RELEASED");
    }
    let errors = program.end();
    for expected in [
        "from now on each one as it happens\n",
        "active query: the server closed the connection; trying again ",
        "QueryTerminated (2): the configuration changes; trying again ",
    ] {
        assert!(errors.contains(expected), "{expected} in {errors}");
    }
}

/// RFC 7724 sections 7.2 and 8.1: an active query over TLS, with the certificate that the server demands.
#[test]
fn a_watch_over_tls_shows_every_change() {
    let files = Files::new();
    let bench = bench();
    let parameters = format!(r#"{}, "active-query-enabled": true"#, files.parameters());
    let requesters = r#"[{ "address": "127.0.0.1", "certificates": ["bng1.example.net"] }]"#;
    let server = serve(&bench.mirror, &config(requesters, &parameters));
    let identity = files.authority.issue(&["bng1.example.net"]);
    let cert = files.write("requester.pem", &identity.certificate);
    let key = files.write("requester.key", &identity.key);
    let ca = files.path("ca.pem");
    let [ca, cert, key] = [&ca, &cert, &key].map(|path| path.to_str().unwrap());
    let mut program = Program::start(
        server.local_addresses()[0].into(),
        &[
            "--tls",
            "--ca",
            ca,
            "--cert",
            cert,
            "--key",
            key,
            "--server-name",
            "dhcp.example.net",
        ],
    );
    program.read_until("10.0.1.19", "AVAILABLE");
    lease(&bench, 10, 1);
    program.read_until("10.0.1.10", "ACTIVE");
    let connections = server.monitor().connections();
    let active = connections.iter().find(|one| one.is_active).unwrap();
    let tls = active.tls.as_ref().unwrap();
    assert_eq!(tls.name.as_deref(), Some("bng1.example.net"));
    program.end();
}
