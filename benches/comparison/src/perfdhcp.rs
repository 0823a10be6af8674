//! DHCP clients, by Kea's own perfdhcp.

use std::process::Command;

use kea_tests::Kea;

use crate::client::Result;
use crate::process::{Reading, Usage};

/// Clients that come repeatedly.
const CLIENTS: u32 = 20_000;

/// The result of one run.
#[derive(Clone, Copy, Debug)]
pub struct Service {
    /// Four-way exchanges completed a second.
    pub rate: f64,
    /// Kea's processor time for each, in seconds.
    pub cost: Usage,
}

/// Relay agent information with a relay-id of 8 octets and a remote-id, so that all of it has
/// `length` octets.
pub fn relay_agent_information(length: usize) -> String {
    let remote_id = length - 12;
    format!(
        "0c08{:016x}02{remote_id:02x}{:0digits$x}",
        1,
        1,
        digits = 2 * remote_id
    )
}

/// Makes clients ask Kea for leases at a rate, through a relay agent.
pub fn serve(kea: &Kea, offered: f64, seconds: u32, information: &str) -> Result<Service> {
    let before = Reading::of(kea.pid())?;
    let place = kea.place();
    let output = Command::new("perfdhcp")
        .args(["-4", "-l", "127.0.0.1"])
        .args(["-L", &place.client_port().to_string()])
        .args(["-N", &place.server().port().to_string()])
        .args(["-r", &format!("{offered:.0}")])
        .args(["-p", &seconds.to_string()])
        .args(["-R", &CLIENTS.to_string()])
        .args(["-o", &format!("82,{information}")])
        .arg(place.server().ip().to_string())
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let (_, after) = text
        .split_once("Rate: ")
        .ok_or_else(|| format!("no rate in the output of perfdhcp: {text}{output:?}"))?;
    let rate: f64 = after
        .split_whitespace()
        .next()
        .unwrap_or_default()
        .parse()?;
    let used = Reading::of(kea.pid())?.since(&before);
    let exchanges = rate * f64::from(seconds);
    Ok(Service {
        rate,
        cost: Usage {
            process: used.process / exchanges,
            kea: used.kea / exchanges,
            hook: used.hook / exchanges,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn makes_relay_agent_information_of_a_length() {
        for length in [40, 50] {
            let digits = relay_agent_information(length);
            assert_eq!(digits.len(), 2 * length);
            assert!(digits.starts_with("0c080000000000000001"));
        }
    }
}
