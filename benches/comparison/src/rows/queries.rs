//! Queries to a Kea that has this hook and Kea's own, and to the ceiling.

use super::{Extent, Row, say};
use crate::ceiling::{Ceiling, Recording};
use crate::client::{Client, Request, Result};
use crate::figures::{median, number, ratios, rounded, time};
use crate::measure::{Latency, Server, bindings_per_second};
use crate::report::{Line, Report};
use crate::support::leases::Set;
use crate::support::queries::{By, Expected};

/// Kea's own hook in the table.
const KEAS: &str = "Kea's hook";

/// Connections at once.
const CONNECTIONS: usize = 4;

/// Queries on each of them, one after another, so that the beginning counts little.
const QUERIES_EACH: usize = 5;

/// Answers read before the measurement.
const WARM_UP: usize = 2;

/// The least shares of the ceiling, and multiples of Kea's own hook, that are to be reached.
struct Targets {
    /// The share of a relay-id query.
    relay_id: f64,
    /// The multiple of a relay-id query.
    keas: f64,
    /// The share of a query for all addresses.
    all: f64,
}

/// The targets of a set.
fn targets(set: Set) -> Targets {
    match set {
        Set::Realistic => Targets {
            relay_id: 0.6,
            keas: 60.0,
            all: 0.8,
        },
        Set::Uniform => Targets {
            relay_id: 0.7,
            keas: 50.0,
            all: 0.7,
        },
    }
}

/// Measures the wanted rows.
pub fn measure(
    ours: &Server,
    keas: Option<&Server>,
    extent: &Extent,
    wanted: impl Fn(Row) -> bool,
    report: &mut Report,
) -> Result<()> {
    if wanted(Row::RelayId) {
        relay_id(ours, keas, extent, report)?;
    }
    if wanted(Row::All) {
        all(ours, extent, report)?;
    }
    if wanted(Row::Connections) {
        connections(ours, extent, report)?;
    }
    if wanted(Row::One) {
        one(ours, keas, extent, report)?;
    }
    if wanted(Row::Storm) {
        storm(ours, extent, report)?;
    }
    Ok(())
}

/// Repeats a query until the server is warm.
fn warm(mut client: Client, request: &Request) -> Result<Client> {
    for _ in 0..WARM_UP {
        client.ask(request)?;
    }
    Ok(client)
}

/// A relay-id query returning a tenth of the leases, one connection.
fn relay_id(
    ours: &Server,
    keas: Option<&Server>,
    extent: &Extent,
    report: &mut Report,
) -> Result<()> {
    let targets = targets(extent.leases.set);
    let Expected { query, bindings } = extent.leases.relay_query();
    say(format!(
        "relay-id query returning {}",
        number(bindings.into())
    ));
    let request = Request::new(&query)?;
    let ceiling = Ceiling::start(Recording::of(&mut ours.connect()?, &request)?)?;
    let mut our_client = warm(ours.connect()?, &request)?;
    let mut ceilings_client = warm(Client::connect(ceiling.address())?, &request)?;
    let mut keas_client = keas.map(Server::connect).transpose()?;
    // Kea's own hook knows no VPNs.
    let keas_bindings = extent.leases.relay_bindings_in_all_vpns();
    let mut our_rates = Vec::new();
    let mut ceilings_rates = Vec::new();
    let mut keas_rates = Vec::new();
    for _ in 0..extent.rounds {
        our_rates.push(bindings_per_second(&mut our_client, &request, bindings)?);
        ceilings_rates.push(bindings_per_second(
            &mut ceilings_client,
            &request,
            bindings,
        )?);
        if let Some(client) = &mut keas_client {
            keas_rates.push(bindings_per_second(client, &request, keas_bindings)?);
        }
    }
    let what = format!(
        "relay-id query returning {} of {} bindings, one connection",
        number(bindings.into()),
        number(extent.leases.count.into())
    );
    let to_ceiling = median(&ratios(&our_rates, &ceilings_rates));
    report.add(Line {
        what: what.clone(),
        set: Some(extent.leases.set),
        target: format!("≥ {} × ceiling", targets.relay_id),
        result: format!("{} bindings/s", rounded(median(&our_rates))),
        against: format!("ceiling {}", rounded(median(&ceilings_rates))),
        ratio: number(to_ceiling),
        met: Some(to_ceiling >= targets.relay_id),
    });
    if keas_client.is_some() {
        let to_keas = median(&ratios(&our_rates, &keas_rates));
        report.add(Line {
            what,
            set: Some(extent.leases.set),
            target: format!("≥ {} × Kea's hook", targets.keas),
            result: format!("{} bindings/s", rounded(median(&our_rates))),
            against: format!("{KEAS} {}", rounded(median(&keas_rates))),
            ratio: number(to_keas),
            met: Some(to_keas >= targets.keas),
        });
    }
    Ok(())
}

/// All configured addresses.
fn all(ours: &Server, extent: &Extent, report: &mut Report) -> Result<()> {
    let target = targets(extent.leases.set).all;
    let Expected {
        query,
        bindings: addresses,
    } = extent.leases.all_query();
    say(format!(
        "all {} configured addresses",
        number(addresses.into())
    ));
    let request = Request::new(&query)?;
    let mut our_client = ours.connect()?;
    let ceiling = Ceiling::start(Recording::of(&mut our_client, &request)?)?;
    let mut ceilings_client = Client::connect(ceiling.address())?;
    let mut our_rates = Vec::new();
    let mut ceilings_rates = Vec::new();
    for _ in 0..extent.rounds {
        our_rates.push(bindings_per_second(&mut our_client, &request, addresses)?);
        ceilings_rates.push(bindings_per_second(
            &mut ceilings_client,
            &request,
            addresses,
        )?);
    }
    let ratio = median(&ratios(&our_rates, &ceilings_rates));
    report.add(Line {
        what: format!(
            "all configured addresses, {} leases in a {}-address pool",
            number(extent.leases.count.into()),
            number(addresses.into())
        ),
        set: Some(extent.leases.set),
        target: format!("≥ {target} × ceiling per address"),
        result: format!("{} addresses/s", rounded(median(&our_rates))),
        against: format!("ceiling {}", rounded(median(&ceilings_rates))),
        ratio: number(ratio),
        met: Some(ratio >= target),
    });
    Ok(())
}

/// Several connections at once, against one.
fn connections(ours: &Server, extent: &Extent, report: &mut Report) -> Result<()> {
    say(format!("{CONNECTIONS} connections at once"));
    let Expected { query, bindings } = extent.leases.relay_query();
    let request = Request::new(&query)?;
    warm(ours.connect()?, &request)?;
    let mut one = Vec::new();
    let mut several = Vec::new();
    for _ in 0..extent.rounds {
        // The same number of queries in all, so that both take about the same time.
        one.push(ours.at_once(1, CONNECTIONS * QUERIES_EACH, &request, bindings)?);
        several.push(ours.at_once(CONNECTIONS, QUERIES_EACH, &request, bindings)?);
    }
    let ratio = median(&ratios(&several, &one));
    report.add(Line {
        what: format!("{CONNECTIONS} connections at once"),
        set: Some(extent.leases.set),
        target: "total no lower than one connection's".into(),
        result: format!("{} bindings/s", rounded(median(&several))),
        against: format!("one connection {}", rounded(median(&one))),
        ratio: number(ratio),
        met: Some(ratio >= 1.0),
    });
    Ok(())
}

/// One-binding queries on an open connection.
fn one(ours: &Server, keas: Option<&Server>, extent: &Extent, report: &mut Report) -> Result<()> {
    for by in By::ALL {
        say(format!("one-binding queries by {}", by.name()));
        let mut our_client = ours.connect()?;
        let mut keas_client = keas.map(Server::connect).transpose()?;
        let mut our_times = Vec::new();
        let mut keas_times = Vec::new();
        for round in 0..extent.rounds {
            let first = round * extent.queries;
            our_times.extend(ours.one_by_one(&mut our_client, by, first, extent.queries)?);
            if let (Some(keas), Some(client)) = (keas, &mut keas_client) {
                let count = extent.keas_queries;
                keas_times.extend(keas.one_by_one(client, by, first, count)?);
            }
        }
        let our = Latency::of(&our_times);
        let what = format!("one-binding query by {} on an open connection", by.name());
        if keas_client.is_some() {
            let p50 = Latency::of(&keas_times).p50;
            report.add(Line {
                what: format!("{what}: p50"),
                set: Some(extent.leases.set),
                target: "≤ 1/200 of Kea's hook".into(),
                result: time(our.p50),
                against: format!("{KEAS} {}", time(p50)),
                ratio: format!("1/{}", rounded(p50 / our.p50)),
                met: Some(our.p50 * 200.0 <= p50),
            });
        }
        report.add(Line {
            what: format!("{what}: p99"),
            set: Some(extent.leases.set),
            target: "≤ 1 ms".into(),
            result: time(our.p99),
            met: Some(our.p99 <= 1e-3),
            ..Line::default()
        });
    }
    Ok(())
}

/// The storm after a reset.
fn storm(ours: &Server, extent: &Extent, report: &mut Report) -> Result<()> {
    say("reset storm");
    let mut rates = Vec::new();
    for _ in 0..extent.rounds {
        rates.push(ours.storm()?);
    }
    let rate = median(&rates);
    report.add(Line {
        what: "reset storm: 100 connections × 100 pipelined remote-id queries each".into(),
        set: Some(extent.leases.set),
        target: "all answered, ≥ 50,000 queries/s".into(),
        result: format!("all answered, {} queries/s", rounded(rate)),
        met: Some(rate >= 50_000.0),
        ..Line::default()
    });
    Ok(())
}
