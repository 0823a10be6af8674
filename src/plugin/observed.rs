//! The parts of an instance that control commands read, on any thread.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use crate::config::Config;
use crate::mirror::Mirror;
use crate::model::time::Time;
use crate::persist::health::Health;
use crate::plugin::census_worker::Counter;
use crate::server::{Monitor, TlsContext};

/// The parts of an instance that control commands read. None of them is locked for long.
#[derive(Debug)]
pub struct Observed {
    /// The mirror.
    pub mirror: Arc<Mirror>,
    /// The last census.
    pub census: Arc<Counter>,
    /// Listeners and connections.
    pub monitor: Arc<Monitor>,
    /// The initial load.
    pub load: Arc<Mutex<LoadProgress>>,
    /// The resync.
    pub resync: Arc<Mutex<ResyncProgress>>,
    /// The state file.
    pub state_file: Arc<Health>,
    /// The library's parameters.
    pub config: Config,
    /// TLS, unless it is off.
    pub tls: Option<Arc<TlsContext>>,
}

/// The progress of an initial load.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadProgress {
    /// The time at which it began.
    pub began: Time,
    /// Whether the bindings known before were handed over by the configuration before.
    pub is_reload: bool,
    /// The leases read from Kea's lease database so far.
    pub leases: usize,
    /// The duration, once the load has ended.
    pub took: Option<Duration>,
}

/// The progress of the resync.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResyncProgress {
    /// Time from one resync to the next; `None` if they are made on demand only.
    pub interval: Option<Duration>,
    /// Whether one is in progress.
    pub is_running: bool,
    /// The time at which the last one ended, and its duration.
    pub last: Option<(Time, Duration)>,
    /// Whether Kea's lease database could not be read last.
    pub has_failed: bool,
}
