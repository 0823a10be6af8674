//! Short storms: whatever happens, the hook says what Kea holds.
//!
//! The steps are the same every time, so that a run says something of the code and not of the draw.
//! `scripts/storm` lets longer ones blow, of any seed.

use std::time::Duration;

use kea_tests::storm::{Options, storm};

/// Lets a storm blow for a while; panics with what the hook said wrong.
#[track_caller]
fn survive(seed: u64, multi_threading: bool) {
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

/// Whatever happens, each lease of Kea's is told of as it is, by each query that is for it, and
/// what changed since an earlier answer is what is told of it.
#[test]
fn is_right_in_a_storm() {
    survive(20, false);
}

/// So it is with several threads.
#[test]
fn is_right_in_a_storm_of_several_threads() {
    survive(21, true);
}
