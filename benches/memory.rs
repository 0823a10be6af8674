//! The memory of the mirror: `cargo bench --no-default-features --bench memory`.
//!
//! Prints the resident octets of each lease, in a process of its own for each number of leases.

use std::env;
use std::fs;
use std::process::Command;

use dhcp_blq::model::time::Time;
use support::leases::{LARGEST_POOL, Leases, Set};
use support::mirror::{churn, load, renewal};

mod support;

/// Numbers of leases.
const COUNTS: [u32; 4] = [10_000, 100_000, 1_000_000, 10_000_000];

/// Resident octets of this process.
fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("procfs");
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().nth(1));
    kilobytes
        .and_then(|text| text.parse::<u64>().ok())
        .expect("VmRSS")
        * 1024
}

/// Loads `count` leases of a set and prints their memory.
fn measure(set: Set, count: u32) {
    let leases = Leases::new(set, count, LARGEST_POOL, Time::now().0);
    let before = resident();
    let (mirror, _) = load(&leases);
    let loaded = resident();
    churn(&mirror, &leases);
    let churned = resident();
    // Each client renews once: the time of its transaction differs from that of its state.
    for number in (0..leases.count).filter(|number| leases.fate(*number).is_active()) {
        mirror.queue().push(renewal(&leases, number, Time::now().0));
        mirror.catch_up();
    }
    let renewed = resident();
    let per_lease = |now: u64| now.saturating_sub(before) as f64 / f64::from(leases.count);
    println!(
        "| {} | {} | {:.0} | {:.0} | {:.0} |",
        set.name(),
        leases.count,
        per_lease(loaded),
        per_lease(churned),
        per_lease(renewed)
    );
}

fn main() {
    if let (Ok(set), Ok(count)) = (env::var("SET"), env::var("LEASES")) {
        let set = Set::from_name(&set).expect("the name of a set");
        return measure(set, count.parse().expect("a number"));
    }
    println!(
        "| set | leases | octets each, loaded | churned | once renewed |\n|---|---|---|---|---|"
    );
    let program = env::current_exe().expect("this program");
    for set in Set::ALL {
        for count in COUNTS {
            let status = Command::new(&program)
                .env("SET", set.name())
                .env("LEASES", count.to_string())
                .status();
            assert!(status.expect("this program again").success());
        }
    }
}
