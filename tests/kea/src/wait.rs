//! Waiting for conditions, never for an amount of time.

use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long a condition may take to come true, generous for busy machines.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// How often a condition is looked at.
const INTERVAL: Duration = Duration::from_millis(20);

/// Waits until `condition` holds; panics, saying `what`, when it does not in good time.
#[track_caller]
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    eventually_some(what, || condition().then_some(()));
}

/// Waits until `get` gives a value and returns it; panics, saying `what`, when it never does.
#[track_caller]
pub fn eventually_some<T>(what: &str, mut get: impl FnMut() -> Option<T>) -> T {
    match wait_for(PATIENCE, &mut get) {
        Some(value) => value,
        None => panic!("waited {} s in vain: {what}", PATIENCE.as_secs()),
    }
}

/// Waits up to `patience` until `get` gives a value.
pub(crate) fn wait_for<T>(patience: Duration, mut get: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(value) = get() {
            return Some(value);
        }
        if Instant::now() >= deadline {
            return None;
        }
        sleep(INTERVAL);
    }
}
