//! The Keas that are measured.

use std::env;
use std::net::SocketAddrV4;
use std::path::{Path, PathBuf};
use std::time::Duration;

use kea_tests::{Kea, Place, Setup, has_kea_library};
use serde_json::{Value, json};

use crate::client::Result;
use crate::measure::Server;
use crate::process::{settled, written};
use crate::rows::udp::PERMITTED;
use crate::support::leases::Leases;

/// Kea's own hook, from Kea 3.0 on.
pub const KEAS_HOOK: &str = "libdhcp_lease_query.so";

/// The longest time for a start: about a minute for a million leases.
const PATIENCE: Duration = Duration::from_secs(3_600);

/// The id of the subnet of DHCP clients: below those of generated leases, since Kea looks for a
/// client's subnet in the order of ids.
const CLIENTS_SUBNET: u32 = 1;

/// The hooks of a Kea.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hooks {
    /// None.
    None,
    /// The hook of this project.
    Ours,
    /// The hook of this project and Kea's own, on the same leases.
    Both,
    /// Kea's own.
    Keas,
    /// A library with an empty callout.
    Empty(PathBuf),
}

/// Whether there is a Kea on this machine.
pub fn is_installed() -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from))
        .any(|directory| directory.join("kea-dhcp4").is_file())
}

/// Whether this Kea has a hook of its own.
pub fn has_keas_hook() -> bool {
    has_kea_library(KEAS_HOOK)
}

/// Starts a Kea with leases from a file.
///
/// DHCP clients have a subnet of their own, whose relay agent has Kea's own address.
pub fn start(hooks: &Hooks, leases: &Leases, file: &Path) -> Kea {
    let ours = json!({ "advanced": {
        "max-requester-connections": 1_000,
        "udp-rate-limit": 0,
        "active-query-enabled": true,
        "active-query-insecure": true,
    } });
    let setup = match hooks {
        Hooks::None | Hooks::Keas => Setup::plain(),
        Hooks::Empty(library) => Setup::plain().library(library, json!({})),
        Hooks::Ours | Hooks::Both => Setup::with_hook(ours),
    };
    let mut subnets = leases.subnets();
    // The number of configured addresses is that of the pools, where it is measured.
    if *hooks != Hooks::Both {
        subnets.push(json!({
            "id": CLIENTS_SUBNET,
            "subnet": "100.64.0.0/12",
            "pools": [{ "pool": "100.64.0.1 - 100.79.255.254" }],
            "relay": { "ip-addresses": ["127.0.0.1"] },
        }));
    }
    // The log of a busy installation.
    let loggers = json!([
        logger("kea-dhcp4", "WARN"),
        logger("kea-dhcp4.dhcp4", "INFO"),
        logger("kea-dhcp4.leases", "WARN"),
        logger("kea-dhcp4.packets", "WARN"),
        logger("kea-dhcp4.blq-hooks", "INFO"),
    ]);
    // Expired leases stay as they are while they are measured.
    let expired = json!({ "flush-reclaimed-timer-wait-time": 0 });
    let mut setup = setup
        .subnets(json!(subnets))
        .set("loggers", loggers)
        .set("expired-leases-processing", expired)
        .set("valid-lifetime", json!(86_400))
        .leases_from(file)
        .patience(PATIENCE);
    // Both hooks answer one requester over UDP.
    let permitted = setup.place.relay(PERMITTED).to_string();
    match hooks {
        Hooks::Ours => {
            let requesters = json!(["127.0.0.1", setup.place.address(1).to_string(), permitted]);
            setup = setup.hook_parameters(json!({ "requesters": requesters }));
        }
        Hooks::Keas => {
            setup = setup.set("store-extended-info", json!(true));
            setup = setup.kea_library(KEAS_HOOK, json!({ "requesters": [permitted] }));
        }
        Hooks::None | Hooks::Both | Hooks::Empty(_) => {}
    }
    if *hooks == Hooks::Both && has_kea_library(KEAS_HOOK) {
        let keas = keas_listener(&setup.place);
        let parameters = json!({
            "requesters": ["127.0.0.1"],
            "advanced": {
                "bulk-query-enabled": true,
                "active-query-enabled": false,
                "extended-info-tables-enabled": true,
                "lease-query-ip": keas.ip().to_string(),
                "lease-query-tcp-port": keas.port(),
            },
        });
        setup = setup
            .set("store-extended-info", json!(true))
            .kea_library(KEAS_HOOK, parameters);
    }
    setup.start()
}

/// A logger of Kea's.
fn logger(name: &str, severity: &str) -> Value {
    json!({
        "name": name,
        "severity": severity,
        "output_options": [{ "output": "stdout" }],
    })
}

/// The server of this hook in a Kea.
pub fn ours(kea: &Kea, leases: Leases) -> Server {
    Server {
        address: kea.place().lease_query(),
        leases,
    }
}

/// The server of Kea's own hook in a Kea, if this version has one.
pub fn keas(kea: &Kea, leases: Leases) -> Option<Server> {
    has_kea_library(KEAS_HOOK).then(|| Server {
        address: keas_listener(&kea.place()),
        leases,
    })
}

/// The listener of Kea's own hook: beside this one's.
fn keas_listener(place: &Place) -> SocketAddrV4 {
    SocketAddrV4::new(place.address(2), place.lease_query().port())
}

/// Waits until a Kea has nothing more to write to its files.
pub fn await_quiet(kea: &Kea) -> Result<()> {
    settled(|| written(kea.pid())).map(drop)
}

/// Leases loaded a second at the last start, from the hook's log.
pub fn loading_rate(kea: &Kea) -> Result<f64> {
    kea.await_log("BLQ_LOADED");
    let log = kea.log();
    let line = log.lines().find(|line| line.contains("BLQ_LOADED"));
    let line = line.ok_or_else(|| format!("no BLQ_LOADED in:\n{log}"))?;
    let (_, after) = line.split_once("BLQ_LOADED").ok_or("no BLQ_LOADED")?;
    let numbers: Vec<f64> = after
        .split_whitespace()
        .filter_map(|word| word.parse().ok())
        .collect();
    match numbers[..] {
        [leases, seconds] => Ok(leases / seconds),
        _ => Err(format!("unexpected line: {line}").into()),
    }
}
