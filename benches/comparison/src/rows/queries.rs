//! Queries to a Kea that has our hook and Kea's own, and to the ceiling.

use super::{Extent, Row, say};
use crate::ceiling::{Ceiling, Recording};
use crate::client::{Client, Request, Result};
use crate::figures::{median, number, ratios, rounded, time};
use crate::leases::By;
use crate::measure::{Latency, Server, bindings_per_second};
use crate::report::{Line, Report};

/// What Kea's own hook is called in the table.
const KEAS: &str = "Kea's hook";

/// Connections that are to share what one gets.
const CONNECTIONS: usize = 4;

/// Queries on each of them, one after another, to outlast their beginning.
const QUERIES_EACH: usize = 5;

/// Times an answer is read before it counts.
const WARM_UP: usize = 2;

/// Measures whichever of these rows are wanted.
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

/// A client whose server is warm.
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
    let bindings = extent.leases.per_relay();
    say(format!(
        "relay-id query returning {}",
        number(bindings.into())
    ));
    let request = Request::new(&extent.leases.relay(3))?;
    let ceiling = Ceiling::start(Recording::of(&mut ours.connect()?, &request)?)?;
    let mut our_client = warm(ours.connect()?, &request)?;
    let mut ceilings_client = warm(Client::connect(ceiling.address())?, &request)?;
    let mut keas_client = keas.map(Server::connect).transpose()?;
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
            keas_rates.push(bindings_per_second(client, &request, bindings)?);
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
        target: "≥ 0.7 × ceiling".into(),
        result: format!("{} bindings/s", rounded(median(&our_rates))),
        against: format!("ceiling {}", rounded(median(&ceilings_rates))),
        ratio: number(to_ceiling),
        met: Some(to_ceiling >= 0.7),
    });
    if keas_client.is_some() {
        let to_keas = median(&ratios(&our_rates, &keas_rates));
        report.add(Line {
            what,
            target: "≥ 50 × Kea's hook".into(),
            result: format!("{} bindings/s", rounded(median(&our_rates))),
            against: format!("{KEAS} {}", rounded(median(&keas_rates))),
            ratio: number(to_keas),
            met: Some(to_keas >= 50.0),
        });
    }
    Ok(())
}

/// All configured addresses.
fn all(ours: &Server, extent: &Extent, report: &mut Report) -> Result<()> {
    let addresses = extent.leases.pool;
    say(format!(
        "all {} configured addresses",
        number(addresses.into())
    ));
    let request = Request::new(&extent.leases.all())?;
    let mut our_client = ours.connect()?;
    let ceiling = Ceiling::start(Recording::of(&mut our_client, &request)?)?;
    let mut ceilings_client = Client::connect(ceiling.address())?;
    let mut our_rates = Vec::new();
    let mut ceilings_rates = Vec::new();
    for _ in 0..extent.rounds.div_ceil(2) {
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
        target: "≥ 0.7 × ceiling per address".into(),
        result: format!("{} addresses/s", rounded(median(&our_rates))),
        against: format!("ceiling {}", rounded(median(&ceilings_rates))),
        ratio: number(ratio),
        met: Some(ratio >= 0.7),
    });
    Ok(())
}

/// Several connections at once, against one.
fn connections(ours: &Server, extent: &Extent, report: &mut Report) -> Result<()> {
    say(format!("{CONNECTIONS} connections at once"));
    let bindings = extent.leases.per_relay();
    let request = Request::new(&extent.leases.relay(3))?;
    warm(ours.connect()?, &request)?;
    let mut one = Vec::new();
    let mut several = Vec::new();
    for _ in 0..extent.rounds {
        // As many queries in all, so that both take about as long.
        one.push(ours.at_once(1, CONNECTIONS * QUERIES_EACH, &request, bindings)?);
        several.push(ours.at_once(CONNECTIONS, QUERIES_EACH, &request, bindings)?);
    }
    let ratio = median(&ratios(&several, &one));
    report.add(Line {
        what: format!("{CONNECTIONS} connections at once"),
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
                target: "≤ 1/200 of Kea's hook".into(),
                result: time(our.p50),
                against: format!("{KEAS} {}", time(p50)),
                ratio: format!("1/{}", rounded(p50 / our.p50)),
                met: Some(our.p50 * 200.0 <= p50),
            });
        }
        report.add(Line {
            what: format!("{what}: p99"),
            target: "≤ 1 ms".into(),
            result: time(our.p99),
            against: String::new(),
            ratio: String::new(),
            met: Some(our.p99 <= 1e-3),
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
        target: "all answered, ≥ 50,000 queries/s".into(),
        result: format!("all answered, {} queries/s", rounded(rate)),
        against: String::new(),
        ratio: String::new(),
        met: Some(rate >= 50_000.0),
    });
    Ok(())
}
