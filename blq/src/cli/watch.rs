//! The arguments of a watch.

use std::time::Duration;

use clap::Args;

use crate::active::ACTIVE_LQ_IDLE_TIMEOUT;

/// The title of these arguments in the help.
const HEADING: &str = "Watch";

/// The arguments of a watch.
#[derive(Clone, Debug, Args)]
pub struct WatchArgs {
    /// Print all bindings, then each change as it happens, by Active Leasequery (RFC 7724)
    #[arg(long, conflicts_with = "udp", help_heading = HEADING)]
    pub watch: bool,

    /// Least time between two attempts of a query, of which less than 60 is not recommended
    #[arg(long, value_name = "SECONDS", requires = "watch", help_heading = HEADING)]
    #[arg(default_value_t = ACTIVE_LQ_IDLE_TIMEOUT.as_secs())]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=u64::from(u32::MAX)))]
    retry_interval: u64,

    /// Time between two queries for changes to a server without Active Leasequery
    #[arg(long, value_name = "SECONDS", requires = "watch", help_heading = HEADING)]
    #[arg(default_value_t = ACTIVE_LQ_IDLE_TIMEOUT.as_secs())]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=u64::from(u32::MAX)))]
    poll_interval: u64,
}

impl WatchArgs {
    /// Returns the least time between two attempts of a query.
    pub fn retry_interval(&self) -> Duration {
        Duration::from_secs(self.retry_interval)
    }

    /// Returns the time between two bulk queries for changes.
    pub fn poll_interval(&self) -> Duration {
        Duration::from_secs(self.poll_interval)
    }
}
