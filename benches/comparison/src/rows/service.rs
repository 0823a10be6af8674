//! DHCP service at saturation, with and without the hook.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use kea_tests::Kea;
use rustix::process::setpriority_process;
use rustix::thread::gettid;

use super::alone::stream_all;
use super::{Extent, say};
use crate::client::Result;
use crate::figures::{median, number, ratios, rounded, time};
use crate::keas::ours;
use crate::measure::join;
use crate::perfdhcp::{self, Service, relay_agent_information};
use crate::report::{Line, Report};

/// The first rate of exchanges at which Kea is tried.
const FIRST_RATE: f64 = 500.0;

/// The factor to the next rate.
const STEP: f64 = 1.25;

/// Kea can serve a rate if it completes this share of the exchanges.
const SERVED: f64 = 0.97;

/// Attempts at a rate before Kea is taken to be unable to serve it: other work may disturb one.
const ATTEMPTS: usize = 3;

/// The rate asked for, as a multiple of the highest rate: Kea is busy and drops little.
const OFFERED: f64 = 1.1;

/// Kea was not busy if it completed more than this share of the exchanges; then no target is met.
const BUSY: f64 = 0.98;

/// The least share of the rate without the hook.
const TARGET: f64 = 0.92;

/// The lowest priority.
const LAST: i32 = 19;

/// Octets of option 82.
const INFORMATION: usize = 40;

/// The Keas that are compared.
#[derive(Clone, Copy, Debug)]
pub struct Keas<'a> {
    /// Without a hook.
    pub plain: &'a Kea,
    /// With a hook whose callout is empty, if it can be built.
    pub empty: Option<&'a Kea>,
    /// With this hook.
    pub hooked: &'a Kea,
}

/// Runs of the Keas, in turns.
#[derive(Debug, Default)]
struct Runs {
    /// Without a hook.
    plain: Vec<Service>,
    /// With an empty hook.
    empty: Vec<Service>,
    /// With this hook.
    hooked: Vec<Service>,
    /// With this hook while a query streams.
    streaming: Vec<Service>,
    /// Addresses a second of that query.
    streamed: Vec<f64>,
}

/// Measures the rate without a hook, with an empty one, with this one, and with this one while a
/// query streams.
pub fn measure(keas: &Keas<'_>, extent: &Extent, report: &mut Report) -> Result<()> {
    say("DHCP service");
    let Keas {
        plain,
        empty,
        hooked,
    } = *keas;
    let seconds = extent.service_seconds;
    let offered = OFFERED * highest_rate(|rate| Ok(serve(plain, rate, seconds)?.rate))?;
    say(format!("{} exchanges/s are asked for", rounded(offered)));
    // The clients of the others get their leases, as those of the first one have.
    for kea in empty.into_iter().chain([hooked]) {
        serve(kea, offered, seconds)?;
    }
    let mut runs = Runs::default();
    for round in 0..extent.service_rounds {
        // The order changes, so that the effects of each run are not always on the same other one.
        if round % 2 == 0 {
            runs.plain.push(serve(plain, offered, seconds)?);
        }
        if let Some(empty) = empty {
            runs.empty.push(serve(empty, offered, seconds)?);
        }
        runs.hooked.push(serve(hooked, offered, seconds)?);
        if round % 2 != 0 {
            runs.plain.push(serve(plain, offered, seconds)?);
        }
        let (service, rate) = serve_while_streaming(hooked, offered, extent)?;
        runs.streaming.push(service);
        runs.streamed.push(rate);
        say(format!(
            "round {}: {} without, {} with, {} while {} addresses/s stream",
            round + 1,
            rounded(runs.plain[round as usize].rate),
            rounded(runs.hooked[round as usize].rate),
            rounded(service.rate),
            rounded(rate)
        ));
    }
    lines(&runs, offered, extent, report);
    Ok(())
}

/// The rows of the table.
fn lines(runs: &Runs, offered: f64, extent: &Extent, report: &mut Report) {
    let set = Some(extent.leases.set);
    let rates = |services: &[Service]| -> Vec<f64> {
        services.iter().map(|service| service.rate).collect()
    };
    let costs = |services: &[Service]| -> Vec<f64> {
        let costs = services.iter().map(|service| service.cost.process);
        costs.collect()
    };
    let without = rates(&runs.plain);
    let is_busy = median(&without) <= BUSY * offered;
    let streamed = format!(
        "with the hook while a full-table query streams {} addresses/s",
        rounded(median(&runs.streamed))
    );
    for (services, how, has_target) in [
        (&runs.empty, "with an empty hook", false),
        (&runs.hooked, "with the hook", true),
        (&runs.streaming, &streamed[..], true),
    ] {
        if services.is_empty() {
            continue;
        }
        let ratio = median(&ratios(&rates(services), &without));
        report.add(Line {
            what: format!("DHCP service at saturation, perfdhcp 4-way exchanges, {how}"),
            set,
            target: match has_target {
                true => format!("≥ {TARGET} × the rate without it"),
                false => String::new(),
            },
            result: format!("{} exchanges/s", rounded(median(&rates(services)))),
            against: format!(
                "without {}, asked for {}",
                rounded(median(&without)),
                rounded(offered)
            ),
            ratio: number(ratio),
            met: (has_target && is_busy).then_some(ratio >= TARGET),
        });
    }
    let without = costs(&runs.plain);
    for (services, how) in [
        (&runs.empty, "with an empty hook"),
        (&runs.hooked, "with the hook"),
    ] {
        if services.is_empty() {
            continue;
        }
        report.add(Line {
            what: format!("processor time of Kea for each exchange at saturation, {how}"),
            set,
            result: time(median(&costs(services))),
            against: format!("without {}", time(median(&without))),
            ratio: number(median(&ratios(&costs(services), &without))),
            ..Line::default()
        });
    }
}

/// The highest rate of exchanges that Kea completes; `serve` asks for a rate.
pub fn highest_rate(mut serve: impl FnMut(f64) -> Result<f64>) -> Result<f64> {
    let mut offered = FIRST_RATE;
    let mut highest: f64 = 0.0;
    loop {
        let mut is_served = false;
        for _ in 0..ATTEMPTS {
            let rate = serve(offered)?;
            highest = highest.max(rate);
            is_served = rate >= SERVED * offered;
            if is_served {
                break;
            }
        }
        if !is_served {
            return Ok(highest);
        }
        offered *= STEP;
    }
}

/// Makes clients ask Kea for leases at a rate.
fn serve(kea: &Kea, offered: f64, seconds: u32) -> Result<Service> {
    perfdhcp::serve(kea, offered, seconds, &relay_agent_information(INFORMATION))
}

/// Makes clients ask Kea for leases while all configured addresses are read repeatedly. Returns
/// the addresses a second, too.
///
/// The reader, in real life on another machine, gives way to Kea and its clients.
fn serve_while_streaming(kea: &Kea, offered: f64, extent: &Extent) -> Result<(Service, f64)> {
    let server = ours(kea, extent.leases);
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let reader = scope.spawn(|| {
            setpriority_process(Some(gettid()), LAST)?;
            stream_all(&server, &over, || {})
        });
        let service = serve(kea, offered, extent.service_seconds);
        over.store(true, Ordering::Release);
        let addresses = join(reader)?;
        Ok((
            service?,
            addresses as f64 / f64::from(extent.service_seconds),
        ))
    })
}
