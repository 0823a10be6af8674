//! Delta queries return each binding of which a requester would see a difference, and Kea's leases
//! take precedence over earlier client info and the state file. Without sockets and without Kea.

#[path = "../support/bench.rs"]
mod bench;

mod configurations;
mod deltas;
mod relay_information;

use std::net::Ipv4Addr;
use std::sync::Arc;

use bench::*;
use blq::{Binding, Primary, Query, State, Vss};
use dhcp_blq::kea_config::{ConfiguredOption, DatabaseReservation, KeaConfig, Scope};
use dhcp_blq::mirror::event::{ClientInfo, Event, Lease, LeaseState, Origin, ResyncScope};
use dhcp_blq::mirror::{InitialLoad, Saved};
use dhcp_blq::model::binding::SubnetId;
use dhcp_blq::model::client::ClientIds;
use dhcp_blq::model::time::{Lifetime, Time};

/// Returns an address of subnet 1.
fn address(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 1, last)
}

/// Returns a lease of one hour of an address of subnet 1, to the client of that number.
fn lease_of(last: u8, client: u8, cltt: u32) -> Lease {
    lease([10, 0, 1, last], client, cltt)
}

/// Returns the lease with relay agent information that Kea stores.
fn stored_with(lease: Lease, information: &[u8]) -> Lease {
    Lease {
        relay_agent_information: Some(information.to_vec()),
        ..lease
    }
}

/// Returns a query for all addresses in all VPNs that changed at `start` or later.
fn since(start: u32) -> Query {
    Query {
        start: Some(start),
        vpn: Some(Vss::All),
        ..all()
    }
}

/// Returns the last octets of the addresses of subnet 1 that changed at `start` or later.
fn delta(bench: &Bench, start: u32) -> Vec<u8> {
    let addresses = bench.addresses(&since(start));
    let octets = addresses.iter().map(Ipv4Addr::octets);
    octets
        .filter(|octets| octets[2] == 1)
        .map(|octets| octets[3])
        .collect()
}

/// Returns those of the remote-ids by which a query finds the address.
fn found_by<'a>(bench: &Bench, last: u8, remote_ids: &[&'a str]) -> Vec<&'a str> {
    let is_found = |remote_id: &&&str| {
        let query = Query::new(Primary::RemoteId(remote_id.as_bytes().to_vec()));
        bench.addresses(&query).contains(&address(last))
    };
    remote_ids.iter().filter(is_found).copied().collect()
}

/// Returns relay agent information with a remote-id.
fn information(remote_id: &str) -> Vec<u8> {
    let length = u8::try_from(remote_id.len()).unwrap();
    [&[2, length], remote_id.as_bytes()].concat()
}

/// Applies a lease event of Kea's lease manager at the bench's `now`.
fn update(bench: &Bench, lease: Lease, origin: Origin) {
    bench.mirror.queue().push(Event::Updated {
        lease,
        at: Time(bench.now),
        origin,
    });
    bench.mirror.catch_up_by(|| Time(bench.now));
}

/// Returns the contents of the state file after a complete flush at the bench's `now`.
fn saved(bench: &Bench) -> Saved {
    let bindings = bench.mirror.read(|table| {
        let bindings = table.bindings(0..=u32::MAX);
        bindings.map(|binding| binding.to_owned()).collect()
    });
    Saved {
        bindings: bindings.expect("a complete mirror"),
        saved_view: bench.mirror.saved_view(),
        saved_at: Some(Time(bench.now)),
        latest: bench.mirror.latest(),
        ..Saved::default()
    }
}

/// Restarts Kea at `now`, with these leases in its database.
fn restarted(saved: Saved, kea_config: KeaConfig, leases: &[Lease], now: u32) -> Bench {
    let mut initial_load = InitialLoad::begin(Arc::new(kea_config), saved, Time(now));
    for lease in leases {
        initial_load.lease(lease);
    }
    Bench::over(initial_load.finish())
}

/// Returns the configuration of the bench with replacements.
fn kea_config(replacements: &[(&str, &str)]) -> KeaConfig {
    let mut config = CONFIGURATION.to_owned();
    for (from, to) in replacements {
        assert!(config.contains(from), "{from}");
        config = config.replace(from, to);
    }
    KeaConfig::new(&config, Vec::new(), &[]).unwrap()
}

/// Returns a bench whose addresses were configured hours ago.
fn long_configured(kea_config: KeaConfig) -> Bench {
    let saved = Saved {
        saved_at: Some(Time(1)),
        ..Saved::default()
    };
    restarted(saved, kea_config, &[], Time::now().0 - 10_000)
}

/// Puts another configuration in force at the bench's `now`.
fn configure(bench: &Bench, kea_config: KeaConfig) {
    bench.mirror.queue().push(Event::Reconfigured {
        kea_config: Arc::new(kea_config),
        is_complete: true,
        at: Time(bench.now),
    });
    bench.mirror.catch_up_by(|| Time(bench.now));
}
