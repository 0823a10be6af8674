//! Queries over UDP, beside Kea's own hook: each in a Kea of its own, in turns.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use blq::wire::code;
use blq::{Message, MessageType};
use kea_tests::Kea;

use super::service::highest_rate;
use super::{Extent, say};
use crate::client::Result;
use crate::figures::{median, number, quantile, ratios, rounded, time};
use crate::measure::{Latency, join};
use crate::perfdhcp::{self, relay_agent_information};
use crate::process::Reading;
use crate::report::{Line, Report};
use crate::support::leases::Leases;
use crate::support::queries::By;

/// The queries without a reply at once: RFC 4388 section 6.6 recommends at most 100 or 200.
const OUTSTANDING: u32 = 64;

/// The time after which a query counts as lost.
const LOST: Duration = Duration::from_millis(500);

/// The queries that are encoded before: others are repeated.
const QUERIES: u32 = 30_000;

/// The queries a second of a flood.
const FLOOD: u32 = 10_000;

/// The queries of a flood that are sent at once: each millisecond.
const BURST: u32 = FLOOD / 1_000;

/// The port of requesters.
const PORT: u16 = 67;

/// Octets of option 82 of DHCP clients.
const INFORMATION: usize = 40;

/// The rate of DHCP exchanges asked for during a flood, as a multiple of what Kea's own hook leaves: Kea is busy.
const OFFERED: f64 = 1.1;

/// The least multiple of the answers of Kea's own hook.
const TARGET: f64 = 1.5;

/// The least share of the DHCP exchanges that Kea's own hook leaves during a flood.
const FLOOD_TARGET: f64 = 0.97;

/// The requester that both hooks permit, by its number in the net of a Kea.
pub const PERMITTED: u8 = 1;

/// A requester that no hook permits.
pub const FORBIDDEN: u8 = 2;

/// The Keas that are compared.
#[derive(Clone, Copy, Debug)]
pub struct Keas<'a> {
    /// With this hook.
    pub ours: &'a Kea,
    /// With Kea's own.
    pub keas: &'a Kea,
}

/// A run of queries.
#[derive(Clone, Copy, Debug)]
struct Run {
    /// Replies a second.
    rate: f64,
    /// The times of the replies.
    latency: Latency,
    /// Kea's processor time for each, in seconds.
    cost: f64,
    /// Queries that were lost.
    lost: u32,
}

/// Measures replies with many queries outstanding and one at a time, and DHCP service during floods.
pub fn measure(keas: &Keas<'_>, extent: &Extent, report: &mut Report) -> Result<()> {
    for outstanding in [OUTSTANDING, 1] {
        say(format!("queries over UDP, {outstanding} outstanding"));
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for round in 0..extent.service_rounds {
            let mut both = [(keas.ours, &mut ours), (keas.keas, &mut theirs)];
            if round % 2 != 0 {
                both.reverse();
            }
            for (kea, runs) in both {
                runs.push(run(kea, extent, outstanding)?);
            }
            let last = |runs: &[Run]| runs.last().map_or(f64::NAN, |run| run.rate);
            say(format!(
                "round {}: {} with this hook, {} with Kea's",
                round + 1,
                rounded(last(&ours)),
                rounded(last(&theirs))
            ));
        }
        lines(&ours, &theirs, outstanding, extent, report);
    }
    for (n, who) in [(PERMITTED, "a permitted"), (FORBIDDEN, "a forbidden")] {
        flood(keas, extent, n, who, report)?;
    }
    Ok(())
}

/// The rows of the table.
fn lines(ours: &[Run], theirs: &[Run], outstanding: u32, extent: &Extent, report: &mut Report) {
    let set = Some(extent.leases.set);
    let values = |runs: &[Run], of: fn(&Run) -> f64| runs.iter().map(of).collect::<Vec<f64>>();
    let lost = |runs: &[Run]| runs.iter().map(|run| run.lost).sum::<u32>();
    let is_target = outstanding > 1;
    let what = format!("queries over UDP, {outstanding} outstanding");
    let mut add = |what: String,
                   of: fn(&Run) -> f64,
                   show: fn(f64) -> String,
                   target: String,
                   met: fn(f64) -> bool| {
        let (one, other) = (values(ours, of), values(theirs, of));
        let ratio = median(&ratios(&one, &other));
        report.add(Line {
            what,
            set,
            result: show(median(&one)),
            against: format!("Kea's {}", show(median(&other))),
            ratio: number(ratio),
            met: (!target.is_empty()).then(|| met(ratio)),
            target,
        });
    };
    let per_second = |value: f64| format!("{}/s", rounded(value));
    let target = |text: &str| {
        if is_target {
            text.to_owned()
        } else {
            String::new()
        }
    };
    let at_least = format!("≥ {TARGET} × Kea's hook");
    add(
        format!("{what}: replies, {} and {} lost", lost(ours), lost(theirs)),
        |run| run.rate,
        per_second,
        target(&at_least),
        |ratio| ratio >= TARGET,
    );
    add(
        format!("{what}: p50"),
        |run| run.latency.p50,
        time,
        String::new(),
        |_| true,
    );
    add(
        format!("{what}: p99"),
        |run| run.latency.p99,
        time,
        target("lower than Kea's hook"),
        |ratio| ratio < 1.0,
    );
    add(
        format!("{what}: processor time of Kea for each reply"),
        |run| run.cost,
        time,
        String::new(),
        |_| true,
    );
}

/// The queries for active leases by MAC address, client identifier and IP address, with their transaction ids.
fn queries(leases: &Leases, giaddr: Ipv4Addr) -> Result<Vec<Vec<u8>>> {
    let mut queries = Vec::new();
    for index in 0..QUERIES {
        let by = match index % 2 {
            0 => By::Mac,
            _ => By::ClientId,
        };
        let mut query = leases.one(index, by).to_message()?;
        query.set(code::MESSAGE_TYPE, [MessageType::LEASE_QUERY.0]);
        query.set(code::PARAMETER_REQUEST_LIST, [51, 58, 59, 61, 82, 91]);
        query.xid = index;
        query.giaddr = giaddr;
        queries.push(query.encode());
    }
    Ok(queries)
}

/// Sends queries for some seconds, with a number of them outstanding.
fn run(kea: &Kea, extent: &Extent, outstanding: u32) -> Result<Run> {
    let giaddr = kea.place().relay(PERMITTED);
    let queries = queries(&extent.leases, giaddr)?;
    let socket = UdpSocket::bind((giaddr, PORT))?;
    socket.set_read_timeout(Some(LOST))?;
    let server = kea.place().server();
    let before = Reading::of(kea.pid())?;
    let began = Instant::now();
    let end = began + Duration::from_secs(extent.service_seconds.into());
    let mut sent: Vec<Option<Instant>> = vec![None; queries.len()];
    let mut times = Vec::new();
    let (mut next, mut lost) = (0, 0);
    let mut send = |sent: &mut Vec<Option<Instant>>| -> Result<()> {
        let index = next % queries.len();
        next += 1;
        sent[index] = Some(Instant::now());
        socket.send_to(&queries[index], server)?;
        Ok(())
    };
    for _ in 0..outstanding {
        send(&mut sent)?;
    }
    let mut octets = [0; 2_048];
    while Instant::now() < end {
        match socket.recv(&mut octets) {
            Ok(size) => {
                let reply = octets.get(..size).unwrap_or_default();
                let xid = u32::from_be_bytes(reply[4..8].try_into()?) as usize;
                let Some(at) = sent.get_mut(xid).and_then(Option::take) else {
                    continue;
                };
                times.push(at.elapsed().as_secs_f64());
                // Checked once: the rest is the servers' speed, not the requester's.
                if times.len() == 1 {
                    check(reply)?;
                }
                send(&mut sent)?;
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                // All outstanding ones are lost.
                for at in &mut sent {
                    lost += u32::from(at.take().is_some());
                }
                for _ in 0..outstanding {
                    send(&mut sent)?;
                }
            }
            Err(error) => return Err(error.into()),
        }
    }
    let took = began.elapsed().as_secs_f64();
    let used = Reading::of(kea.pid())?.since(&before);
    Ok(Run {
        rate: times.len() as f64 / took,
        latency: Latency {
            p50: median(&times),
            p99: quantile(&times, 0.99),
        },
        cost: used.process / times.len() as f64,
        lost,
    })
}

/// Checks that a reply has a lease.
fn check(reply: &[u8]) -> Result<()> {
    let reply = Message::decode(reply)?;
    match reply.message_type() {
        Some(MessageType::LEASE_ACTIVE) => Ok(()),
        other => Err(format!("the reply is {other:?}").into()),
    }
}

/// Measures DHCP service at saturation while a requester floods Kea with queries.
fn flood(keas: &Keas<'_>, extent: &Extent, n: u8, who: &str, report: &mut Report) -> Result<()> {
    say(format!(
        "DHCP service during {FLOOD} queries/s from {who} giaddr"
    ));
    let seconds = extent.service_seconds;
    let highest = highest_rate(|rate| Ok(served(keas.keas, extent, n, rate)?.0))?;
    let offered = OFFERED * highest;
    let mut rates = [Vec::new(), Vec::new()];
    let mut sent = Vec::new();
    served(keas.ours, extent, n, offered)?;
    for round in 0..extent.service_rounds {
        let mut both = [(keas.ours, 0), (keas.keas, 1)];
        if round % 2 != 0 {
            both.reverse();
        }
        for (kea, which) in both {
            let (rate, flood) = served(kea, extent, n, offered)?;
            rates[which].push(rate);
            sent.push(flood / f64::from(seconds));
        }
    }
    let ratio = median(&ratios(&rates[0], &rates[1]));
    report.add(Line {
        what: format!(
            "DHCP service at saturation, perfdhcp 4-way exchanges, during {} queries/s over UDP from {who} giaddr",
            rounded(median(&sent))
        ),
        set: Some(extent.leases.set),
        target: format!("≥ {FLOOD_TARGET} × with Kea's hook"),
        result: format!("{} exchanges/s", rounded(median(&rates[0]))),
        against: format!(
            "Kea's {}, asked for {}",
            rounded(median(&rates[1])),
            rounded(offered)
        ),
        ratio: number(ratio),
        met: Some(ratio >= FLOOD_TARGET),
    });
    Ok(())
}

/// Makes clients ask Kea for leases at a rate during a flood of queries. Returns the exchanges a second, and the number of queries.
fn served(kea: &Kea, extent: &Extent, n: u8, offered: f64) -> Result<(f64, f64)> {
    let giaddr = kea.place().relay(n);
    let queries = queries(&extent.leases, giaddr)?;
    let socket = UdpSocket::bind((giaddr, PORT))?;
    let server = kea.place().server();
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let flood = scope.spawn(|| send_flood(&socket, &queries, server, &over));
        let service = perfdhcp::serve(
            kea,
            offered,
            extent.service_seconds,
            &relay_agent_information(INFORMATION),
        );
        over.store(true, Ordering::Release);
        let sent = join(flood)?;
        Ok((service?.rate, sent))
    })
}

/// Sends queries at the rate of a flood until it is over; returns their number. Nobody reads the replies.
fn send_flood(
    socket: &UdpSocket,
    queries: &[Vec<u8>],
    server: SocketAddrV4,
    over: &AtomicBool,
) -> Result<f64> {
    let began = Instant::now();
    let mut sent = 0_u32;
    for query in queries.iter().cycle() {
        if sent % BURST == 0 {
            if over.load(Ordering::Acquire) {
                break;
            }
            let due = began + Duration::from_secs(1) / FLOOD * sent;
            thread::sleep(due.saturating_duration_since(Instant::now()));
        }
        socket.send_to(query, server)?;
        sent += 1;
    }
    Ok(sent.into())
}
