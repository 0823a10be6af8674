//! DHCP service with and without the hook, by perfdhcp.

use std::process::Command;
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
use crate::process::processor_time;
use crate::report::{Line, Report};

/// Clients that come again and again.
const CLIENTS: u32 = 20_000;

/// Exchanges a second from which on it is tried how many Kea takes, and by how much more each time.
const FIRST_RATE: f64 = 500.0;

/// See [`FIRST_RATE`].
const STEP: f64 = 1.25;

/// Kea takes a rate if it completes this share of the exchanges.
const TAKEN: f64 = 0.97;

/// How often a rate is tried before Kea does not take it: others may have been busy.
const ATTEMPTS: usize = 3;

/// What clients ask of what Kea takes: it is always busy, and drops little.
const OFFERED: f64 = 1.1;

/// If it completes more than this share of what is asked, Kea was not busy, and nothing is told.
const BUSY: f64 = 0.98;

/// The least share of the rate that the hook may leave.
const TARGET: f64 = 0.97;

/// The least of all priorities.
const LAST: i32 = 19;

/// What one run of perfdhcp saw.
#[derive(Clone, Copy, Debug)]
struct Service {
    /// Four-way exchanges completed a second.
    rate: f64,
    /// Kea's processor time for each, in seconds.
    cost: f64,
}

/// Measures the rate without the hook, with it, and with it while a query streams.
pub fn measure(plain: &Kea, hooked: &Kea, extent: &Extent, report: &mut Report) -> Result<()> {
    say("DHCP service");
    let seconds = extent.service_seconds;
    let offered = OFFERED * most(plain, seconds)?;
    say(format!("{} exchanges/s are asked for", rounded(offered)));
    // The other one's clients have their leases by now.
    serve(hooked, offered, seconds)?;
    let mut without = Vec::new();
    let mut with = Vec::new();
    let mut streaming = Vec::new();
    let mut streamed = Vec::new();
    for round in 0..extent.service_rounds {
        // Whatever the one before leaves behind, it is not always the same one's.
        if round % 2 == 0 {
            without.push(serve(plain, offered, seconds)?);
            with.push(serve(hooked, offered, seconds)?);
        } else {
            with.push(serve(hooked, offered, seconds)?);
            without.push(serve(plain, offered, seconds)?);
        }
        let (service, rate) = serve_while_streaming(hooked, offered, extent)?;
        streaming.push(service);
        streamed.push(rate);
        say(format!(
            "round {}: {} without, {} with, {} while {} addresses/s stream",
            round + 1,
            rounded(without[round as usize].rate),
            rounded(with[round as usize].rate),
            rounded(service.rate),
            rounded(rate)
        ));
    }
    let rates = |services: &[Service]| -> Vec<f64> {
        services.iter().map(|service| service.rate).collect()
    };
    let costs = |services: &[Service]| -> Vec<f64> {
        services.iter().map(|service| service.cost).collect()
    };
    let streamed = format!(
        ", while a full-table query streams {} addresses/s",
        rounded(median(&streamed))
    );
    let is_busy = median(&rates(&without)) <= BUSY * offered;
    for (services, how) in [(&with, ""), (&streaming, &streamed[..])] {
        let ratio = median(&ratios(&rates(services), &rates(&without)));
        report.add(Line {
            what: format!("DHCP service with the hook, perfdhcp 4-way exchanges{how}"),
            target: "≥ 97 % of the rate without it".into(),
            result: format!("{} exchanges/s", rounded(median(&rates(services)))),
            against: format!(
                "without {}, asked for {}",
                rounded(median(&rates(&without))),
                rounded(offered)
            ),
            ratio: number(ratio),
            met: is_busy.then_some(ratio >= TARGET),
        });
    }
    let ratio = median(&ratios(&costs(&with), &costs(&without)));
    report.add(Line {
        what: "the same, processor time of Kea for each exchange".into(),
        target: String::new(),
        result: time(median(&costs(&with))),
        against: format!("without {}", time(median(&costs(&without)))),
        ratio: number(ratio),
        met: None,
    });
    Ok(())
}

/// The most exchanges a second that Kea takes.
fn most(kea: &Kea, seconds: u32) -> Result<f64> {
    let mut offered = FIRST_RATE;
    let mut most: f64 = 0.0;
    loop {
        let mut is_taken = false;
        for _ in 0..ATTEMPTS {
            let rate = serve(kea, offered, seconds)?.rate;
            most = most.max(rate);
            is_taken = rate >= TAKEN * offered;
            if is_taken {
                break;
            }
        }
        if !is_taken {
            return Ok(most);
        }
        offered *= STEP;
    }
}

/// Has clients ask Kea for leases at a rate.
fn serve(kea: &Kea, offered: f64, seconds: u32) -> Result<Service> {
    let before = processor_time(kea.pid())?;
    let place = kea.place();
    let output = Command::new("perfdhcp")
        .args(["-4", "-l", "127.0.0.1"])
        .args(["-L", &place.client_port().to_string()])
        .args(["-N", &place.server().port().to_string()])
        .args(["-r", &format!("{offered:.0}")])
        .args(["-p", &seconds.to_string()])
        .args(["-R", &CLIENTS.to_string()])
        // Relay agent information of 40 octets.
        .args(["-o", &format!("82,0c08{:016x}021c{:056x}", 1, 1)])
        .arg(place.server().ip().to_string())
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let (_, after) = text
        .split_once("Rate: ")
        .ok_or_else(|| format!("no rate of perfdhcp: {text}{output:?}"))?;
    let rate: f64 = after
        .split_whitespace()
        .next()
        .unwrap_or_default()
        .parse()?;
    let took = processor_time(kea.pid())? - before;
    Ok(Service {
        rate,
        cost: took / (rate * f64::from(seconds)),
    })
}

/// The same while all configured addresses are read again and again; how many a second.
///
/// The reader, in life another machine, gives way to Kea and its clients.
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
