//! The order to stop, and waiting for it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

/// How long connections have, when the server stops, to take what is sent and to close.
pub const STOP_TIME: Duration = Duration::from_secs(1);

/// The order to stop.
#[derive(Clone, Debug)]
pub struct Stop {
    /// What requesters are told.
    pub reason: Arc<str>,
    /// When connections must be gone.
    pub by: Instant,
}

impl Stop {
    /// An order to stop given now.
    pub fn now(reason: &str) -> Stop {
        Stop {
            reason: reason.into(),
            by: Instant::now() + STOP_TIME,
        }
    }
}

/// Waits until the server stops.
pub async fn stopped(mut stop: watch::Receiver<Option<Stop>>) -> Stop {
    let stopped = stop.wait_for(Option::is_some).await;
    match stopped.as_deref() {
        Ok(Some(stop)) => stop.clone(),
        // The server is gone without a word.
        _ => Stop::now("the server ends"),
    }
}

/// Waits until the server stops and the time it leaves its connections is over.
pub async fn overdue(stop: watch::Receiver<Option<Stop>>) {
    let stop = stopped(stop).await;
    sleep_until(stop.by).await;
}
