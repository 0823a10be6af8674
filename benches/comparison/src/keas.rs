//! The Keas everything is measured in.

use std::net::SocketAddrV4;
use std::path::Path;
use std::time::Duration;

use kea_tests::{Kea, Place, Setup, has_kea_library};
use serde_json::{Value, json};

use crate::client::Result;
use crate::leases::{Leases, SUBNET};
use crate::measure::Server;
use crate::process::{settled, written};

/// Kea's own hook, from Kea 3.0 on.
pub const KEAS_HOOK: &str = "libdhcp_lease_query.so";

/// Kea needs about a minute for a million leases.
const PATIENCE: Duration = Duration::from_secs(3_600);

/// The hooks a Kea has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hooks {
    /// None.
    None,
    /// Ours.
    Ours,
    /// Ours and Kea's own, on the same leases.
    Both,
}

/// Starts a Kea with leases from a file.
///
/// DHCP clients are in a subnet of their own, whose relay has Kea's own address.
pub fn start(hooks: Hooks, leases: &Leases, file: &Path) -> Kea {
    let ours = json!({ "advanced": { "max-requester-connections": 1_000 } });
    let setup = match hooks {
        Hooks::None => Setup::plain(),
        Hooks::Ours | Hooks::Both => Setup::with_hook(ours),
    };
    let clients = json!({
        "id": 2,
        "subnet": "100.64.0.0/12",
        "pools": [{ "pool": "100.64.0.1 - 100.79.255.254" }],
        "relay": { "ip-addresses": ["127.0.0.1"] },
    });
    let leased = json!({ "id": 1, "subnet": SUBNET, "pools": [{ "pool": leases.pool_range() }] });
    let subnets = match hooks {
        // There are to be as many configured addresses as the pool has.
        Hooks::Both => json!([leased]),
        Hooks::None | Hooks::Ours => json!([leased, clients]),
    };
    // An installation that is busy says no more than this.
    let loggers = json!([
        logger("kea-dhcp4", "WARN"),
        logger("kea-dhcp4.dhcp4", "INFO"),
        logger("kea-dhcp4.leases", "WARN"),
        logger("kea-dhcp4.packets", "WARN"),
        logger("kea-dhcp4.blq-hooks", "INFO"),
    ]);
    let mut setup = setup
        .subnets(subnets)
        .set("loggers", loggers)
        .set("valid-lifetime", json!(86_400))
        .leases_from(file)
        .patience(PATIENCE);
    if hooks == Hooks::Both && has_kea_library(KEAS_HOOK) {
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

/// Our hook in a Kea.
pub fn ours(kea: &Kea, leases: Leases) -> Server {
    Server {
        address: kea.place().lease_query(),
        leases,
    }
}

/// Kea's own hook in a Kea, if this version has one.
pub fn keas(kea: &Kea, leases: Leases) -> Option<Server> {
    has_kea_library(KEAS_HOOK).then(|| Server {
        address: keas_listener(&kea.place()),
        leases,
    })
}

/// Where Kea's own hook listens: beside ours.
fn keas_listener(place: &Place) -> SocketAddrV4 {
    SocketAddrV4::new(place.address(2), place.lease_query().port())
}

/// Waits until a Kea has nothing more to write to its files.
pub fn await_quiet(kea: &Kea) -> Result<()> {
    settled(|| written(kea.pid())).map(drop)
}

/// Leases loaded a second, by what our hook said at the last start.
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
        _ => Err(format!("not understood: {line}").into()),
    }
}
