//! The memory of active requesters that read nothing, measured in a process that does nothing else.

use std::fs;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::thread;

use blq::Message;
use dhcp_blq::config::Config;
use dhcp_blq::kea_config::KeaConfig;
use dhcp_blq::mirror::event::{ClientInfo, Event, Lease};
use dhcp_blq::mirror::{InitialLoad, Mirror, Saved};
use dhcp_blq::model::binding::SubnetId;
use dhcp_blq::model::option::RawOption;
use dhcp_blq::model::time::Time;
use dhcp_blq::server::Server;

use crate::active::{INSECURE, config, query, serve};
use crate::bench::{Bench, lease};

/// The most octets of an active requester: its output, the message that it sends, its position, templates of its
/// replies, its task, its state of TLS.
pub const MOST: u64 = 160 * 1024;

/// The number of requesters.
const REQUESTERS: u64 = 60;

/// The number of addresses whose leases change: with messages of several hundred octets, more than the kernel holds.
const ADDRESSES: u32 = 20_000;

/// Returns the octets of memory of this process that are in no file.
fn memory() -> u64 {
    let all = fs::read_to_string("/proc/self/smaps_rollup").unwrap();
    let line = all.lines().find(|line| line.starts_with("Anonymous:"));
    let kibibytes = line.and_then(|line| line.split_whitespace().nth(1));
    kibibytes.unwrap().parse::<u64>().unwrap() * 1024
}

/// Renews the leases of all addresses. Their relay agents name several VPNs, and clients send several options.
fn change(mirror: &Mirror, now: u32) {
    for number in 0..ADDRESSES {
        let vpn = [b'a' + (number % 20) as u8; 100];
        let relay_agent_information = [&[1, 2, 3, 4, 151, 101, 0], &vpn[..]].concat();
        let options = [12, 60, 77].map(|code| RawOption {
            code,
            value: vec![b'x'; 100 + number as usize % 50],
        });
        let address = Ipv4Addr::from_bits(0x0a00_0000 + number).octets();
        mirror.queue().push(Event::Committed {
            lease: Lease {
                subnet: SubnetId(1),
                ..lease(address, number as u8, now)
            },
            client_info: ClientInfo {
                relay_agent_information: Some(relay_agent_information),
                options: options.into(),
                classes: Arc::default(),
            },
        });
        if number % 1_000 == 0 {
            mirror.catch_up();
        }
    }
    mirror.catch_up();
}

/// Returns the parameters of a server, with these further ones.
pub fn parameters(advanced: &str) -> Config {
    let limit = REQUESTERS + 1;
    config(
        r#"["127.0.0.1"]"#,
        &format!(r#"{advanced}{INSECURE}, "max-active-connections": {limit}"#),
    )
}

/// Returns the octets of memory that each stalled requester costs a server. `begin` returns the connection of one whose
/// stream, the answer to that query, has begun.
pub fn octets_of_each<C>(config: &Config, begin: impl Fn(&Server, Message) -> C) -> u64 {
    let subnets = r#"{ "Dhcp4": { "subnet4": [ { "id": 1, "subnet": "10.0.0.0/8" } ] } }"#;
    let kea_config = KeaConfig::new(subnets, Vec::new(), &[]).unwrap();
    let initial_load = InitialLoad::begin(Arc::new(kea_config), Saved::default(), Time::now());
    let bench = Bench::over(initial_load.finish());
    let server = serve(&bench.mirror, config);
    let stream = || {
        let list = [
            51, 53, 54, 55, 58, 59, 60, 61, 77, 12, 82, 91, 153, 156, 157,
        ];
        // A message of almost the largest size.
        let query = query(7).with(221, [254]).with(55, list.repeat(4_000));
        begin(&server, query)
    };
    let blocked = || {
        let connections = server.monitor().connections();
        let blocked = connections.iter().filter(|one| one.blocked_for.is_some());
        blocked.count() as u64
    };
    // Everything else that needs memory has it before.
    change(&bench.mirror, bench.now - 2);
    let first = stream();
    change(&bench.mirror, bench.now - 1);
    while blocked() < 1 {
        thread::yield_now();
    }
    let before = memory();
    let requesters: Vec<C> = (0..REQUESTERS).map(|_| stream()).collect();
    change(&bench.mirror, bench.now);
    while blocked() < 1 + REQUESTERS {
        thread::yield_now();
    }
    let each = memory().saturating_sub(before) / REQUESTERS;
    println!("{each} octets for each requester");
    drop((first, requesters));
    each
}
