//! What the mirror costs in memory: `cargo bench --no-default-features --bench memory`.
//!
//! Prints resident octets a lease for some numbers of leases, each with relay information of 40
//! octets, a client identifier and a line of its own, in a process of its own.

use std::env;
use std::fs;
use std::process::Command;

use dhcp_blq::model::time::Time;

#[path = "support/leases.rs"]
mod leases;

/// How many leases.
const COUNTS: [u32; 4] = [10_000, 100_000, 1_000_000, 10_000_000];

/// Octets of this process that are in memory.
fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("procfs");
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().nth(1));
    kilobytes
        .and_then(|text| text.parse::<u64>().ok())
        .expect("VmRSS")
        * 1024
}

/// Loads `count` leases and tells what they cost.
fn measure(count: u32) {
    let before = resident();
    let mirror = leases::load(count, Time::now().0);
    let loaded = resident();
    // Each client renews once: its lease is filed under another time than its state began.
    for number in 0..count {
        mirror.queue().push(leases::renewal(number, Time::now().0));
        mirror.catch_up();
    }
    let renewed = resident();
    let per_lease = |now: u64| now.saturating_sub(before) as f64 / f64::from(count);
    println!(
        "| {count} | {:.0} | {:.0} |",
        per_lease(loaded),
        per_lease(renewed)
    );
}

fn main() {
    if let Ok(count) = env::var("LEASES") {
        return measure(count.parse().expect("a number"));
    }
    println!("| leases | octets each, loaded | once renewed |\n|---|---|---|");
    let program = env::current_exe().expect("this program");
    for count in COUNTS {
        let status = Command::new(&program)
            .env("LEASES", count.to_string())
            .status();
        assert!(status.expect("this program again").success());
    }
}
