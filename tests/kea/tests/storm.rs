//! Short storms: whatever happens, the hook says what Kea holds.
//!
//! `scripts/storm` lets longer ones blow, and one of a seed that failed here.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
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
/// what changed since an earlier answer is what is told of it: the same steps every time.
#[test]
fn is_right_in_a_storm() {
    survive(20, false);
}

/// So it is with several threads, and with steps that nobody has tried before.
#[test]
fn is_right_in_a_storm_never_seen_before() {
    survive(RandomState::new().hash_one(0_u8) >> 32, true);
}
