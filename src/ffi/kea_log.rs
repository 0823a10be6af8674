//! Kea's log as the destination of this crate's events, and of panics.

use std::panic::PanicHookInfo;
use std::sync::Once;

use parking_lot::Mutex;
use tracing::Level;

use crate::ffi::bridge::{self, KeaSeverity};
use crate::log::{catalogue, subscriber};

/// Sends this crate's events, and panics, to Kea's log. Only the first call has an effect: the library may be
/// loaded again and again.
pub fn set_up() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        for message in catalogue::MESSAGES {
            // If this fails, the log shows the message's identifier without text.
            let _ = bridge::register_message(message.id);
        }
        // No other code of this library sets one.
        let _ = tracing::subscriber::set_global_default(subscriber::to(KeaLog));
        std::panic::set_hook(Box::new(report_panic));
    });
}

/// Kea's log.
struct KeaLog;

impl subscriber::Sink for KeaLog {
    fn is_enabled(&self, level: Level) -> bool {
        bridge::log_enabled(severity(level)).unwrap_or(false)
    }

    fn write(&self, level: Level, id: &'static str, text: &str) {
        // There is no other place to report that the log fails.
        let _ = bridge::log(severity(level), id, text);
    }
}

/// Returns Kea's severity of a level.
fn severity(level: Level) -> KeaSeverity {
    match level {
        Level::ERROR => KeaSeverity::Error,
        Level::WARN => KeaSeverity::Warning,
        Level::INFO => KeaSeverity::Info,
        _ => KeaSeverity::Debug,
    }
}

/// Logs a panic, the first one at each place: one that recurs with each packet must not fill the log.
fn report_panic(panic: &PanicHookInfo<'_>) {
    /// The places reported so far.
    static REPORTED: Mutex<Vec<String>> = Mutex::new(Vec::new());
    let place = panic
        .location()
        .map(ToString::to_string)
        .unwrap_or_default();
    {
        let mut reported = REPORTED.lock();
        if reported.contains(&place) {
            return;
        }
        reported.push(place.clone());
    }
    let payload = panic.payload();
    let message = payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref().map(String::as_str))
        .unwrap_or_default();
    tracing::error!(id = "BLQ_PANIC", "{message} at {place}");
}
