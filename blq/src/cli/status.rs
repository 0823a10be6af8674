//! The arguments of `blq status`.

use std::path::PathBuf;

use clap::Args;

/// Kea's control socket in Debian's configuration.
const CONTROL_SOCKET: &str = "/run/kea/kea4-ctrl-socket";

/// Shows the state of the leasequery server of a Kea on this machine.
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// The control socket of kea-dhcp4: `socket-name` in Kea's configuration
    #[arg(long, value_name = "PATH", default_value = CONTROL_SOCKET)]
    pub socket: PathBuf,

    /// Print metrics in Prometheus's text format
    #[arg(long, conflicts_with = "json")]
    pub prometheus: bool,

    /// Print the arguments of Kea's answer to blq4-status
    #[arg(long)]
    pub json: bool,
}
