//! Waiting for conditions, never for a fixed time.

use std::thread::sleep;
use std::time::{Duration, Instant};

/// The longest wait for a condition, generous for busy machines.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// The interval at which a condition is checked.
const INTERVAL: Duration = Duration::from_millis(20);

/// Waits until `condition` holds; panics with `what` after [`PATIENCE`].
#[track_caller]
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    eventually_some(what, || condition().then_some(()));
}

/// Waits until `get` returns a value and returns it; panics with `what` after [`PATIENCE`].
#[track_caller]
pub fn eventually_some<T>(what: &str, mut get: impl FnMut() -> Option<T>) -> T {
    match wait_for(PATIENCE, &mut get) {
        Some(value) => value,
        None => panic!("not within {} s: {what}", PATIENCE.as_secs()),
    }
}

/// Waits up to `patience` until `get` returns a value.
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
