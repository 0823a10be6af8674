//! DHCP exchanges at a rate that Kea can serve, with and without active requesters, and the latency of their changes.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use kea_tests::Kea;
use rustix::process::setpriority_process;
use rustix::thread::gettid;

use crate::active::Requesters;
use crate::churn;
use crate::client::Result;
use crate::figures::{median, number, ratios, rounded, time};
use crate::measure::{Latency, join};
use crate::perfdhcp::{self, Service, relay_agent_information};
use crate::process::monotonic;
use crate::report::{Line, Report};

use super::active::LATENCY_TARGETS;
use super::{Extent, say};

/// Active requesters.
const REQUESTERS: usize = 10;

/// The least share of the exchanges without active requesters: 1.00, rounded.
const TARGET: f64 = 0.995;

/// Kea can serve the rate if it completes this share of the exchanges; otherwise no target is met.
const SERVED: f64 = 0.97;

/// The lowest priority.
const LAST: i32 = 19;

/// Octets of option 82.
const INFORMATION: usize = 50;

/// Leases renewed in a round, at most.
const RENEWALS: usize = 10_000;

/// Measures one Kea with and without active requesters, in turns.
pub fn measure(kea: &Kea, extent: &Extent, report: &mut Report) -> Result<()> {
    latency(kea, extent, report)?;
    service(kea, extent, report)
}

/// Measures the time from a client's DHCPREQUEST for a renewal to the octets at each active requester: longer than that
/// from Kea's commit, which comes before the DHCPACK.
fn latency(kea: &Kea, extent: &Extent, report: &mut Report) -> Result<()> {
    let leases = &extent.leases;
    if !leases.is_realistic() {
        return Ok(());
    }
    say(format!("renewals with {REQUESTERS} active requesters"));
    let mut requesters = Requesters::connect(kea.place().lease_query(), REQUESTERS)?;
    // No lease is renewed twice: fewer than half of the leases are.
    let rounds = extent.service_rounds as usize;
    let count = RENEWALS.min(leases.count as usize / 2 / rounds);
    let (mut medians, mut tails, mut rates) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..rounds {
        let begin = monotonic();
        let renew = || churn::renew(kea, leases, round * count, count, extent.exchange_rate);
        let (renewals, received) = requesters.receive(count as u64, true, renew)?;
        let octets = received.latency(&renewals.requests)?;
        let answers = Latency::of(&renewals.answers);
        medians.push([octets.p50, answers.p50]);
        tails.push([octets.p99, answers.p99]);
        rates.push(count as f64 / (renewals.last - begin));
    }
    for (which, times, target) in [
        ("median", &medians, LATENCY_TARGETS[0]),
        ("p99", &tails, LATENCY_TARGETS[1]),
    ] {
        let of = |index: usize| -> Vec<f64> { times.iter().map(|pair| pair[index]).collect() };
        let (octets, answers) = (of(0), of(1));
        report.add(Line {
            what: format!(
                "from a client's DHCPREQUEST to the octets at {REQUESTERS} active requesters, {} renewals/s asked for: {which}",
                rounded(extent.exchange_rate.into())
            ),
            set: Some(leases.set),
            target: format!("≤ {}", time(target)),
            result: time(median(&octets)),
            against: format!(
                "to the client's DHCPACK {}, at {} renewals/s",
                time(median(&answers)),
                rounded(median(&rates))
            ),
            met: Some(median(&octets) <= target),
            ..Line::default()
        });
    }
    Ok(())
}

/// Measures DHCP exchanges with and without active requesters, in turns.
fn service(kea: &Kea, extent: &Extent, report: &mut Report) -> Result<()> {
    let offered = f64::from(extent.exchange_rate);
    say(format!(
        "{} DHCP exchanges/s with {REQUESTERS} active requesters",
        number(offered)
    ));
    // The clients get their leases.
    serve(kea, extent)?;
    let (mut without, mut with, mut messages) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..extent.service_rounds {
        // The order changes, so that the effects of each run are not always on the same other one.
        let mut order = [false, true];
        if round % 2 != 0 {
            order.reverse();
        }
        for has_requesters in order {
            if has_requesters {
                let (service, received) = serve_with_requesters(kea, extent)?;
                with.push(service);
                messages.push(received);
            } else {
                without.push(serve(kea, extent)?);
            }
        }
    }
    let rates = |services: &[Service]| -> Vec<f64> {
        services.iter().map(|service| service.rate).collect()
    };
    let costs = |services: &[Service]| -> Vec<f64> {
        services.iter().map(|service| service.cost.kea).collect()
    };
    let set = Some(extent.leases.set);
    let what = format!(
        "DHCP exchanges, {} a second asked for, with {REQUESTERS} active requesters",
        rounded(offered)
    );
    let (one, other) = (rates(&with), rates(&without));
    let ratio = median(&ratios(&one, &other));
    let is_served = median(&other) >= SERVED * offered;
    report.add(Line {
        what: what.clone(),
        set,
        target: format!("{} × those without", number(1.0)),
        result: format!(
            "{} exchanges/s, {} messages/s to each requester",
            rounded(median(&one)),
            rounded(median(&messages))
        ),
        against: format!("without {}", rounded(median(&other))),
        ratio: number(ratio),
        met: is_served.then_some(ratio >= TARGET),
    });
    let (one, other) = (costs(&with), costs(&without));
    report.add(Line {
        what: format!("{what}: processor time of Kea's own threads for each"),
        set,
        result: time(median(&one)),
        against: format!("without {}", time(median(&other))),
        ratio: number(median(&ratios(&one, &other))),
        ..Line::default()
    });
    Ok(())
}

/// Makes clients ask Kea for leases.
fn serve(kea: &Kea, extent: &Extent) -> Result<Service> {
    perfdhcp::serve(
        kea,
        extent.exchange_rate.into(),
        extent.service_seconds,
        &relay_agent_information(INFORMATION),
    )
}

/// Makes clients ask Kea for leases while active requesters receive the changes. Returns the messages a second that each of
/// them received, too.
///
/// Their reader, in real life on other machines, gives way to Kea and its clients.
fn serve_with_requesters(kea: &Kea, extent: &Extent) -> Result<(Service, f64)> {
    let mut requesters = Requesters::connect(kea.place().lease_query(), REQUESTERS)?;
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let reader = scope.spawn(|| {
            setpriority_process(Some(gettid()), LAST)?;
            requesters.read_until(&over)
        });
        let service = serve(kea, extent);
        over.store(true, Ordering::Release);
        let messages = join(reader)? as f64 / REQUESTERS as f64;
        Ok((service?, messages / f64::from(extent.service_seconds)))
    })
}
