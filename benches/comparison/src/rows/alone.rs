//! The library without Kea, at more and more leases: what takes Kea too long to start with.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Sender};
use std::thread;
use std::time::Instant;

use super::{Extent, Row, say};
use crate::client::{Answer, Request, Result};
use crate::figures::{median, number, rate, rounded, time};
use crate::kealess::{Alone, Applied};
use crate::leases::{By, CHANGED, Leases};
use crate::measure::{Latency, Server, ask, bindings_per_second, join};
use crate::report::{Line, Report};

/// The most octets the hook may add for a lease.
pub const MEMORY_TARGET: f64 = 200.0;

/// From this many leases on a delta query is to cost the same.
const DELTA_FROM: u32 = 100_000;

/// The target for memory holds from this many leases on.
const MEMORY_FROM: u32 = 1_000_000;

/// Delta queries in a round.
const DELTAS: u32 = 20;

/// Connections on which full-table queries stream while changes are applied.
const STREAMS: usize = 4;

/// Measures whichever of these rows are wanted, at all the numbers of leases; changes at
/// `extent`'s, too.
pub fn measure(
    sizes: &[u32],
    extent: &Extent,
    wanted: impl Fn(Row) -> bool,
    report: &mut Report,
) -> Result<()> {
    let is_growth = wanted(Row::Growth);
    let sizes: Vec<u32> = sizes
        .iter()
        .copied()
        .filter(|size| {
            is_growth
                || wanted(Row::Delta) && *size >= DELTA_FROM
                || wanted(Row::Memory) && *size > extent.leases.count
                || wanted(Row::Changes) && *size == extent.leases.count
        })
        .collect();
    let mut all = Vec::new();
    for size in sizes {
        say(format!("{} leases without Kea", number(size.into())));
        let alone = Alone::start(Leases {
            count: size,
            pool: extent.leases.pool.max(size),
            ..extent.leases
        })?;
        if is_growth {
            let rate = rounded(alone.loading_rate);
            report.grow("loading, leases/s", size, rate);
        }
        if is_growth || wanted(Row::Memory) {
            memory(&alone, report);
        }
        all.push(alone);
    }
    if wanted(Row::Delta) || is_growth {
        delta(&all, extent, wanted(Row::Delta), report)?;
    }
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

/// What a lease takes in memory.
fn memory(alone: &Alone, report: &mut Report) {
    let count = alone.server.leases.count;
    let each = alone.memory / f64::from(count);
    report.grow("memory, octets a lease", count, number(each));
    if count >= MEMORY_FROM {
        report.add(Line {
            what: format!("memory at {} leases, without Kea", number(count.into())),
            target: format!("≤ {MEMORY_TARGET} octets a lease"),
            result: format!("{} octets a lease", number(each)),
            against: String::new(),
            ratio: String::new(),
            met: Some(each <= MEMORY_TARGET),
        });
    }
}

/// A delta query returning as many bindings of however many leases.
fn delta(all: &[Alone], extent: &Extent, is_row: bool, report: &mut Report) -> Result<()> {
    say("delta queries");
    let mut clients = Vec::new();
    for alone in all {
        let server = alone.server;
        clients.push((server.leases.count, server.connect()?, Vec::new()));
    }
    let request = Request::new(&extent.leases.delta())?;
    for _ in 0..extent.rounds {
        for (_, client, times) in &mut clients {
            for _ in 0..DELTAS {
                times.push(ask(client, &request, CHANGED)?.as_secs_f64());
            }
        }
    }
    for (size, _, times) in &clients {
        let what = "delta query returning 1,000 bindings";
        report.grow(what, *size, time(median(times)));
    }
    let compared: Vec<(u32, f64)> = clients
        .iter()
        .filter(|(size, ..)| *size >= DELTA_FROM)
        .map(|(size, _, times)| (*size, median(times)))
        .collect();
    let shortest = compared
        .iter()
        .map(|(_, time)| *time)
        .fold(f64::NAN, f64::min);
    let longest = compared
        .iter()
        .map(|(_, time)| *time)
        .fold(f64::NAN, f64::max);
    if is_row && compared.len() > 1 {
        let list = |what: fn(&(u32, f64)) -> String| {
            let all: Vec<String> = compared.iter().map(what).collect();
            all.join(", ")
        };
        report.add(Line {
            what: format!(
                "delta query returning {} bindings in {} leases",
                number(CHANGED.into()),
                list(|(size, _)| number((*size).into()))
            ),
            target: "the same cost (± 2 ×)".into(),
            result: list(|(_, took)| time(*took)),
            against: "each other".into(),
            ratio: number(longest / shortest),
            met: Some(longest <= 2.0 * shortest),
        });
    }
    Ok(())
}

/// Queries, as to Kea.
fn queries(server: &Server, extent: &Extent, report: &mut Report) -> Result<()> {
    let leases = server.leases;
    let size = leases.count;
    say(format!("queries to {} leases", number(size.into())));
    let mut client = server.connect()?;
    let mut rates = |request: &Request, bindings, rounds| -> Result<f64> {
        let rates: Result<Vec<f64>> = (0..rounds)
            .map(|_| bindings_per_second(&mut client, request, bindings))
            .collect();
        Ok(median(&rates?))
    };
    let relay = Request::new(&leases.relay(3))?;
    let rate = rates(&relay, leases.per_relay(), extent.rounds)?;
    report.grow("relay-id query of a tenth, bindings/s", size, rounded(rate));
    let all = Request::new(&leases.all())?;
    let rate = rates(&all, leases.pool, extent.rounds.div_ceil(3))?;
    report.grow("all configured addresses, addresses/s", size, rounded(rate));
    for by in By::ALL {
        let mut times = Vec::new();
        for round in 0..extent.rounds {
            let first = round * extent.queries;
            times.extend(server.one_by_one(&mut server.connect()?, by, first, extent.queries)?);
        }
        let latency = Latency::of(&times);
        let what = format!("one-binding query by {}, p50 / p99", by.name());
        let value = format!("{} / {}", time(latency.p50), time(latency.p99));
        report.grow(&what, size, value);
    }
    let rates: Result<Vec<f64>> = (0..extent.rounds).map(|_| server.storm()).collect();
    report.grow("reset storm, queries/s", size, rounded(median(&rates?)));
    Ok(())
}

/// Applying changes while full-table queries stream.
fn changes(alone: &mut Alone, extent: &Extent, is_row: bool, report: &mut Report) -> Result<()> {
    let server = alone.server;
    let count = server.leases.count;
    say(format!("changes of {} leases", number(count.into())));
    // As many one after another are over before a thread has had its turn.
    let (many, few) = (20 * extent.changes, extent.changes);
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
        report.grow(&what, count, value);
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
                target: format!("≤ {target} µs"),
                result: time(busy),
                against: format!("while nothing streams {}", time(quiet)),
                ratio: String::new(),
                met: Some(busy <= target * 1e-6),
            });
        }
        let both = |latency: Latency| format!("{} / {}", time(latency.p50), time(latency.p99));
        report.add(Line {
            what: format!("the same, {how}: processor time of the thread, median / p99"),
            target: String::new(),
            result: both(own),
            against: format!("while nothing streams {}", both(quiet_own)),
            ratio: String::new(),
            met: None,
        });
    }
    Ok(())
}

/// Has leases changed while all configured addresses are read on several connections.
fn change_while_streaming(alone: &mut Alone, changes: u32, pause: bool) -> Result<Applied> {
    let server = alone.server;
    let over = AtomicBool::new(false);
    let (begun, beginnings) = mpsc::channel();
    let stream = |begun: Sender<()>| {
        stream_all(&server, &over, || {
            // Nobody listens any more only if another stream has failed.
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

/// Reads all configured addresses again and again until it is over; how many. Calls `begun` once
/// the first have come.
pub fn stream_all(server: &Server, over: &AtomicBool, begun: impl FnOnce()) -> Result<u64> {
    let request = Request::new(&server.leases.all())?;
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
