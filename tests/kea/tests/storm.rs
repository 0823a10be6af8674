//! Short storms: under random actions, the hook's answers agree with Kea's leases.
//!
//! The seeds are fixed, so that a failure is due to a change of the code rather than to another
//! sequence of actions. `scripts/storm` runs longer storms, of any seed.

use std::time::Duration;

use kea_tests::storm::{Options, storm};

/// Runs a short storm; panics on a fault.
#[track_caller]
fn run_storm(seed: u64, multi_threading: bool) {
    println!("storm of seed {seed}, multi-threading: {multi_threading}");
    let options = Options {
        multi_threading,
        ..Options::new(seed, Duration::from_secs(12))
    };
    match storm(options, &mut |line| println!("{line}")) {
        Ok(summary) => println!("{summary}"),
        Err(failure) => panic!("seed {seed}, multi-threading: {multi_threading}: {failure}"),
    }
}

/// Each query returns the bindings it matches with the values of Kea's leases, and each delta query
/// returns the changes since an earlier answer.
#[test]
fn agrees_with_kea_in_a_storm() {
    run_storm(20, false);
}

/// A storm with several threads in Kea.
#[test]
fn agrees_with_kea_in_a_storm_with_several_threads() {
    run_storm(21, true);
}
