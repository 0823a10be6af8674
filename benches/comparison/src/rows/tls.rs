//! Queries over TLS, beside the same over plain TCP and beside rustls alone; and handshakes. Without Kea.

use std::net::SocketAddrV4;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

use crate::alone::Alone;
use crate::ceiling::{Ceiling, Recording};
use crate::client::{Client, Request, Result};
use crate::figures::{median, number, rate, ratios, rounded, time};
use crate::measure::{LONG_ENOUGH, bindings_per_second, join};
use crate::process::Reading;
use crate::report::{Line, Report};
use crate::tls::Credentials;

use super::{Extent, say};

/// Threads that perform handshakes, one after another each.
const HANDSHAKERS: usize = 4;

/// Measures a mirror of one set.
pub fn measure(extent: &Extent, report: &mut Report) -> Result<()> {
    let leases = extent.leases;
    say(format!(
        "TLS: {} {} leases without Kea",
        number(leases.count.into()),
        leases.set.name()
    ));
    let credentials = Credentials::new()?;
    let alone = Alone::start_secured(leases, &credentials)?;
    queries(&alone, &credentials, extent, report)?;
    handshakes(&alone, &credentials, extent, report)
}

/// The bindings a second of a query for a tenth of the leases.
fn queries(
    alone: &Alone,
    credentials: &Credentials,
    extent: &Extent,
    report: &mut Report,
) -> Result<()> {
    let address = alone.server.address;
    let relay = extent.leases.relay_query();
    let request = Request::new(&relay.query)?;
    let mut plain = Client::connect(address)?;
    let recording = Recording::of(&mut plain, &request)?;
    let rustls = Ceiling::start_rustls(recording, credentials.server.clone())?;
    let mut secured = Client::connect_by_tls(address, credentials)?;
    let mut alone_client = Client::connect_to_rustls(rustls.address(), credentials)?;
    let mut rates = [Vec::new(), Vec::new(), Vec::new()];
    for _ in 0..extent.rounds {
        let clients = [&mut secured, &mut plain, &mut alone_client];
        for (client, rates) in clients.into_iter().zip(&mut rates) {
            rates.push(bindings_per_second(client, &request, relay.bindings)?);
        }
    }
    let [secured, plain, alone] = rates;
    for (against, rates) in [
        ("over plain TCP", &plain),
        ("rustls alone, a message in each record", &alone),
    ] {
        report.add(Line {
            what: format!(
                "relay-id query returning {} bindings over TLS 1.3",
                number(relay.bindings.into())
            ),
            set: Some(extent.leases.set),
            result: format!("{} bindings/s", rounded(median(&secured))),
            against: format!("{against} {}", rounded(median(rates))),
            ratio: number(median(&ratios(&secured, rates))),
            ..Line::default()
        });
    }
    Ok(())
}

/// Handshakes in which both sides present certificates.
fn handshakes(
    alone: &Alone,
    credentials: &Credentials,
    extent: &Extent,
    report: &mut Report,
) -> Result<()> {
    say("TLS handshakes");
    let (mut rates, mut costs, mut of_rustls) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..extent.rounds {
        let before = Reading::of(alone.pid())?;
        let (count, rate) = handshakes_of_all(alone.server.address, credentials)?;
        let used = Reading::of(alone.pid())?.since(&before);
        rates.push(rate);
        costs.push(used.hook / count as f64);
        of_rustls.push(handshakes_of_rustls(credentials)?);
    }
    report.add(Line {
        what: format!(
            "TLS 1.3 connections with mutual handshakes, {HANDSHAKERS} requesters at once"
        ),
        set: Some(extent.leases.set),
        result: format!(
            "{}/s, {} of the server's threads for each",
            rounded(median(&rates)),
            time(median(&costs))
        ),
        against: format!(
            "rustls alone, both sides on one thread {}/s",
            rounded(median(&of_rustls))
        ),
        ratio: number(median(&ratios(&rates, &of_rustls))),
        ..Line::default()
    });
    Ok(())
}

/// Connects and handshakes repeatedly on some threads. Returns the number of connections, and how many a second.
fn handshakes_of_all(server: SocketAddrV4, credentials: &Credentials) -> Result<(u64, f64)> {
    let over = AtomicBool::new(false);
    let shake = || -> Result<u64> {
        let mut count = 0;
        while !over.load(Ordering::Acquire) {
            Client::handshake(server, credentials)?;
            count += 1;
        }
        Ok(count)
    };
    thread::scope(|scope| {
        let began = Instant::now();
        let threads: Vec<_> = (0..HANDSHAKERS).map(|_| scope.spawn(shake)).collect();
        thread::sleep(LONG_ENOUGH);
        over.store(true, Ordering::Release);
        let mut count = 0;
        for thread in threads {
            count += join(thread)?;
        }
        Ok((count, rate(count, began.elapsed())))
    })
}

/// The handshakes a second of rustls alone, both sides on this thread.
fn handshakes_of_rustls(credentials: &Credentials) -> Result<f64> {
    let began = Instant::now();
    let mut count = 0;
    while began.elapsed() < LONG_ENOUGH {
        credentials.handshake_alone()?;
        count += 1;
    }
    Ok(rate(count, began.elapsed()))
}
