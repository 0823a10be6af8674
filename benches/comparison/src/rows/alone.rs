//! The library without Kea, at numbers of leases with which Kea takes too long to start.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Sender};
use std::thread;
use std::time::Instant;

use super::recent::{self, FLAT_FROM};
use super::{Extent, Row, say};
use crate::alone::{Alone, Applied};
use crate::ceiling::{Ceiling, Recording};
use crate::client::{Answer, Client, Request, Result};
use crate::figures::{median, number, rate, ratios, rounded, time};
use crate::measure::{Latency, Server, bindings_per_second, join};
use crate::report::{Line, Report};
use crate::support::leases::{Leases, Set};
use crate::support::queries::By;

/// The most octets that the hook may add for a lease of the uniform set.
pub const MEMORY_TARGET: f64 = 200.0;

/// The target for memory holds from this number of leases on.
const MEMORY_FROM: u32 = 1_000_000;

/// Connections on which full-table queries stream while changes are applied.
const STREAMS: usize = 4;

/// Measures the wanted rows of one set at all numbers of leases.
pub fn measure(
    sizes: &[u32],
    extent: &Extent,
    wanted: impl Fn(Row) -> bool,
    report: &mut Report,
) -> Result<()> {
    let is_growth = wanted(Row::Growth);
    let set = extent.leases.set;
    let sizes: Vec<u32> = sizes
        .iter()
        .copied()
        .filter(|size| {
            is_growth
                || (wanted(Row::Delta) || wanted(Row::Recent)) && *size >= FLAT_FROM
                || wanted(Row::Memory) && *size > extent.leases.count
                || (wanted(Row::Changes) || wanted(Row::Recent)) && *size == extent.leases.count
        })
        .collect();
    let mut all = Vec::new();
    for size in sizes {
        say(format!(
            "{} {} leases without Kea",
            number(size.into()),
            set.name()
        ));
        let Leases { pool, now, .. } = extent.leases;
        let alone = Alone::start(Leases::new(set, size, pool.max(size), now))?;
        if is_growth {
            let rate = rounded(alone.loading_rate);
            report.grow(set, "loading, leases/s", size, rate);
        }
        if is_growth || wanted(Row::Memory) {
            memory(&alone, report);
        }
        all.push(alone);
    }
    recent::measure(&all, extent, &wanted, report)?;
    if is_growth {
        for alone in &all {
            queries(&alone.server, extent, report)?;
        }
    }
    for alone in &mut all {
        let is_row = wanted(Row::Changes) && alone.server.leases.count == extent.leases.count;
        if is_growth || is_row {
            changes(alone, extent, is_row, report)?;
        }
    }
    Ok(())
}

/// The memory of each lease.
fn memory(alone: &Alone, report: &mut Report) {
    let Leases { set, count, .. } = alone.server.leases;
    let loaded = alone.memory / f64::from(count);
    let churned = alone.churned_memory / f64::from(count);
    report.grow(set, "memory, octets a lease", count, number(loaded));
    if set == Set::Realistic {
        let what = "memory after the churn, octets a lease";
        report.grow(set, what, count, number(churned));
    }
    if count >= MEMORY_FROM {
        // The target is as old as the uniform set, whose leases have neither host names nor options.
        let has_target = set == Set::Uniform;
        report.add(Line {
            what: format!("memory at {} leases, without Kea", number(count.into())),
            set: Some(set),
            target: match has_target {
                true => format!("≤ {MEMORY_TARGET} octets a lease"),
                false => String::new(),
            },
            result: match set {
                Set::Realistic => format!(
                    "{} octets a lease, after the churn {}",
                    number(loaded),
                    number(churned)
                ),
                Set::Uniform => format!("{} octets a lease", number(loaded)),
            },
            met: has_target.then_some(loaded <= MEMORY_TARGET),
            ..Line::default()
        });
    }
}

/// The queries that are measured in Kea, too.
fn queries(server: &Server, extent: &Extent, report: &mut Report) -> Result<()> {
    let leases = server.leases;
    let Leases { set, count, .. } = leases;
    say(format!(
        "queries to {} {} leases",
        number(count.into()),
        set.name()
    ));
    let mut client = server.connect()?;
    let relay = leases.relay_query();
    let request = Request::new(&relay.query)?;
    let ceiling = Ceiling::start(Recording::of(&mut client, &request)?)?;
    let mut ceilings_client = Client::connect(ceiling.address())?;
    let mut rates = Vec::new();
    let mut ceilings = Vec::new();
    for _ in 0..extent.rounds {
        rates.push(bindings_per_second(&mut client, &request, relay.bindings)?);
        let ceiling = bindings_per_second(&mut ceilings_client, &request, relay.bindings)?;
        ceilings.push(ceiling);
    }
    let rate = rounded(median(&rates));
    report.grow(set, "relay-id query of a tenth, bindings/s", count, rate);
    let ratio = number(median(&ratios(&rates, &ceilings)));
    report.grow(set, "relay-id query of a tenth, × ceiling", count, ratio);
    let all = leases.all_query();
    let request = Request::new(&all.query)?;
    let rates: Result<Vec<f64>> = (0..extent.rounds.div_ceil(3))
        .map(|_| bindings_per_second(&mut client, &request, all.bindings))
        .collect();
    let rate = rounded(median(&rates?));
    report.grow(set, "all configured addresses, addresses/s", count, rate);
    for by in By::ALL {
        let mut times = Vec::new();
        for round in 0..extent.rounds {
            let first = round * extent.queries;
            times.extend(server.one_by_one(&mut server.connect()?, by, first, extent.queries)?);
        }
        let latency = Latency::of(&times);
        let what = format!("one-binding query by {}, p50 / p99", by.name());
        let value = format!("{} / {}", time(latency.p50), time(latency.p99));
        report.grow(set, &what, count, value);
    }
    let rates: Result<Vec<f64>> = (0..extent.rounds).map(|_| server.storm()).collect();
    let rate = rounded(median(&rates?));
    report.grow(set, "reset storm, queries/s", count, rate);
    Ok(())
}

/// Applying changes while full-table queries stream.
fn changes(alone: &mut Alone, extent: &Extent, is_row: bool, report: &mut Report) -> Result<()> {
    let Leases { set, count, .. } = alone.server.leases;
    say(format!(
        "changes of {} {} leases",
        number(count.into()),
        set.name()
    ));
    // A few changes one after another would be over before each thread has had the processor.
    let (many, few) = (50 * extent.changes, extent.changes);
    for (pause, changes, how) in [
        (false, many, "one after another"),
        (true, few, "5,000 a second"),
    ] {
        let quiet = alone.change(changes, pause)?;
        let busy = change_while_streaming(alone, changes, pause)?;
        let (own, quiet_own) = (busy.processor, quiet.processor);
        let (busy, quiet) = (busy.latency, quiet.latency);
        let what = format!("applying a change while four queries stream, {how}, median / p99");
        let value = format!("{} / {}", time(busy.p50), time(busy.p99));
        report.grow(set, &what, count, value);
        if !is_row {
            continue;
        }
        for (which, target, busy, quiet) in [
            ("median", 2.0, busy.p50, quiet.p50),
            ("p99", 20.0, busy.p99, quiet.p99),
        ] {
            report.add(Line {
                what: format!(
                    "applying one lease change while four full-table queries stream, {how}: {which}"
                ),
                set: Some(set),
                target: format!("≤ {target} µs"),
                result: time(busy),
                against: format!("while nothing streams {}", time(quiet)),
                met: Some(busy <= target * 1e-6),
                ..Line::default()
            });
        }
        let both = |latency: Latency| format!("{} / {}", time(latency.p50), time(latency.p99));
        report.add(Line {
            what: format!(
                "applying one lease change, {how}: processor time of the thread, median / p99"
            ),
            set: Some(set),
            result: both(own),
            against: format!("while nothing streams {}", both(quiet_own)),
            ..Line::default()
        });
    }
    Ok(())
}

/// Changes leases while all configured addresses are read on several connections.
fn change_while_streaming(alone: &mut Alone, changes: u32, pause: bool) -> Result<Applied> {
    let server = alone.server;
    let over = AtomicBool::new(false);
    let (begun, beginnings) = mpsc::channel();
    let stream = |begun: Sender<()>| {
        stream_all(&server, &over, || {
            // Nothing receives any more if another stream has failed.
            let _ = begun.send(());
        })
    };
    let stream = &stream;
    thread::scope(|scope| {
        let streams: Vec<_> = (0..STREAMS)
            .map(|_| begun.clone())
            .map(|begun| scope.spawn(move || stream(begun)))
            .collect();
        drop(begun);
        let all_begun = (0..STREAMS).all(|_| beginnings.recv().is_ok());
        let began = Instant::now();
        let latency = if all_begun {
            alone.change(changes, pause)
        } else {
            Err("a query does not stream".into())
        };
        let took = began.elapsed();
        over.store(true, Ordering::Release);
        let mut bindings = 0;
        for stream in streams {
            bindings += join(stream)?;
        }
        say(format!(
            "{} addresses/s streamed for {}",
            rounded(rate(bindings, took)),
            time(took.as_secs_f64())
        ));
        latency
    })
}

/// Reads all configured addresses repeatedly until `over` is set. Returns their number. Calls
/// `begun` once the first have come.
pub fn stream_all(server: &Server, over: &AtomicBool, begun: impl FnOnce()) -> Result<u64> {
    let request = Request::new(&server.leases.all_query().query)?;
    let mut client = server.connect()?;
    let mut begun = Some(begun);
    let mut bindings = 0;
    while !over.load(Ordering::Acquire) {
        let mut answer = Answer::default();
        client.send(&request.octets)?;
        loop {
            let is_last = client.read_part(request.xid, &mut answer, &mut |_, _| {})?;
            if let Some(begun) = begun.take() {
                begun();
            }
            if is_last || over.load(Ordering::Acquire) {
                break;
            }
        }
        bindings += answer.bindings;
    }
    Ok(bindings)
}
