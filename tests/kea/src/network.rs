//! Hosts with virtual Ethernet between them, in network namespaces: Kea's raw sockets serve no loopback interface.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, AsRawFd};
use std::process::{self, Command, Stdio};
use std::thread;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::eventually;

/// A host of a network of its own, which exists as long as this value, its processes or its sockets do.
#[derive(Debug)]
pub struct Host {
    /// The network namespace.
    namespace: File,
}

impl Host {
    /// Creates a host with a loopback interface; `None` without the privilege to.
    pub fn create() -> Option<Host> {
        let mut holder = Command::new("unshare")
            .args(["--net", "sh", "-c", "echo; read -r _"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("running unshare");
        let output = holder.stdout.take().expect("its output");
        let mut line = String::new();
        BufReader::new(output)
            .read_line(&mut line)
            .expect("its output");
        let is_created = !line.is_empty();
        let namespace = is_created.then(|| {
            let file = format!("/proc/{}/ns/net", holder.id());
            File::open(file).expect("a network namespace")
        });
        drop(holder.stdin.take());
        holder.wait().expect("its end");
        let Some(namespace) = namespace else {
            eprintln!("skipped: this user may not create network namespaces");
            return None;
        };
        let host = Host { namespace };
        host.ip("link set lo up");
        Some(host)
    }

    /// Connects two hosts by a cable, each with the name of its interface, and its address with the prefix length.
    pub fn connect(ends: [(&Host, &str, &str); 2]) {
        let [(first, name, _), (second, other_name, _)] = ends;
        let namespace = second.namespace.as_raw_fd();
        let other = format!("/proc/{}/fd/{namespace}", process::id());
        first.ip(&format!(
            "link add {name} type veth peer name {other_name} netns {other}"
        ));
        for (host, interface, address) in ends {
            host.ip(&format!("address add {address} dev {interface}"));
            host.ip(&format!("link set {interface} up"));
        }
        for (host, interface, _) in ends {
            eventually("a carrier", || {
                let state = host.ip(&format!("-o link show {interface}"));
                state.contains("LOWER_UP")
            });
        }
    }

    /// Gives the host an address of its own.
    pub fn add_address(&self, address: Ipv4Addr) {
        self.ip(&format!("address add {address}/32 dev lo"));
    }

    /// Runs `action` on the host: processes and sockets that it creates are the host's.
    pub fn run<T: Send>(&self, action: impl FnOnce() -> T + Send) -> T {
        let there = || {
            let network = Some(LinkNameSpaceType::Network);
            move_into_link_name_space(self.namespace.as_fd(), network).expect("a privilege");
            action()
        };
        thread::scope(|scope| match scope.spawn(there).join() {
            Ok(value) => value,
            Err(panic) => std::panic::resume_unwind(panic),
        })
    }

    /// Runs `ip` with arguments. Returns its output.
    #[track_caller]
    pub fn ip(&self, arguments: &str) -> String {
        let output = self.run(|| Command::new("ip").args(arguments.split(' ')).output());
        let output = output.expect("running ip, which scripts/setup installs");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "ip {arguments}: {errors}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}
