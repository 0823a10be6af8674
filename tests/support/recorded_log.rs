//! The log of a test's process, of which there is one: each test uses other peer addresses.

// No test uses all items.
#![allow(dead_code)]

use std::net::Ipv4Addr;
use std::sync::{Mutex, Once};
use std::thread;
use std::time::Instant;

use dhcp_blq::log::subscriber::{self, Sink};
use tracing::Level;

use crate::loopback::PATIENCE;

/// Lines logged.
static LOG: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Records lines of a level or a more severe one.
struct Log(Level);

impl Sink for Log {
    fn is_enabled(&self, level: Level) -> bool {
        level <= self.0
    }

    fn write(&self, level: Level, id: &'static str, text: &str) {
        LOG.lock().unwrap().push(format!("{level} {id} {text}"));
    }
}

/// Records the log from now on. The first level is that of all tests of the process.
pub fn record(level: Level) {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let subscriber = subscriber::to(Log(level));
        tracing::subscriber::set_global_default(subscriber).unwrap();
    });
}

/// Waits for `count` lines about a peer with any of these identifiers, or any line about it if there are none, and
/// returns them.
pub fn lines(peer: impl Into<Ipv4Addr>, ids: &[&str], count: usize) -> Vec<String> {
    let deadline = Instant::now() + PATIENCE;
    let peer = peer.into().to_string();
    loop {
        let log = LOG.lock().unwrap().clone();
        let is_meant = |line: &String| {
            let words = line.split(|one: char| !one.is_ascii_digit() && one != '.');
            let has_id = ids.is_empty() || ids.iter().any(|id| line.contains(&format!(" {id} ")));
            has_id && words.into_iter().any(|word| word == peer)
        };
        let lines: Vec<String> = log.into_iter().filter(is_meant).collect();
        if lines.len() >= count || Instant::now() > deadline {
            return lines;
        }
        thread::yield_now();
    }
}
