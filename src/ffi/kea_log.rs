//! Our end of Kea's log: what we log, and panics, go there.

use std::panic::PanicHookInfo;
use std::sync::Once;

use parking_lot::Mutex;
use tracing::Level;

use crate::ffi::bridge::{self, KeaSeverity};
use crate::log::{catalogue, subscriber};

/// Has what we log, and panics, go to Kea's log. Done once, however often the library is loaded.
pub fn set_up() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        for message in catalogue::MESSAGES {
            // Where that fails the log shows the message's identifier, and no text.
            let _ = bridge::register_message(message.id);
        }
        // Nobody else in this library sets one.
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
        // Where the log fails there is nowhere to say so.
        let _ = bridge::log(severity(level), id, text);
    }
}

/// Kea's severity of a level.
fn severity(level: Level) -> KeaSeverity {
    match level {
        Level::ERROR => KeaSeverity::Error,
        Level::WARN => KeaSeverity::Warning,
        Level::INFO => KeaSeverity::Info,
        _ => KeaSeverity::Debug,
    }
}

/// Logs a panic, the first one at each place: one that each packet meets must not fill the log.
fn report_panic(panic: &PanicHookInfo<'_>) {
    /// The places told of so far.
    static TOLD: Mutex<Vec<String>> = Mutex::new(Vec::new());
    let place = panic
        .location()
        .map(ToString::to_string)
        .unwrap_or_default();
    {
        let mut told = TOLD.lock();
        if told.contains(&place) {
            return;
        }
        told.push(place.clone());
    }
    let what = panic.payload_as_str().unwrap_or("");
    tracing::error!(id = "BLQ_PANIC", "{what} at {place}");
}
