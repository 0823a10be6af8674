//! The stop signal, and waiting for it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

/// Time for connections to send their output and to close when the server stops.
pub const STOP_TIME: Duration = Duration::from_secs(1);

/// The stop signal.
#[derive(Clone, Debug)]
pub struct Stop {
    /// Status message for requesters.
    pub reason: Arc<str>,
    /// Deadline at which every connection must be closed.
    pub by: Instant,
}

impl Stop {
    /// Returns a stop signal that is sent now.
    pub fn now(reason: &str) -> Stop {
        Stop {
            reason: reason.into(),
            by: Instant::now() + STOP_TIME,
        }
    }
}

/// Waits for the stop signal.
pub async fn stopped(mut stop: watch::Receiver<Option<Stop>>) -> Stop {
    let stopped = stop.wait_for(Option::is_some).await;
    match stopped.as_deref() {
        Ok(Some(stop)) => stop.clone(),
        // The server was dropped without a stop signal.
        _ => Stop::now("the server ends"),
    }
}

/// Does `work` until the stop signal.
pub async fn until_stopped(stop: watch::Receiver<Option<Stop>>, work: impl Future<Output = ()>) {
    tokio::select! {
        biased;
        _ = stopped(stop) => {}
        () = work => {}
    }
}

/// Waits for the stop signal, and then for its deadline.
pub async fn overdue(stop: watch::Receiver<Option<Stop>>) {
    let stop = stopped(stop).await;
    sleep_until(stop.by).await;
}
