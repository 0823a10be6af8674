//! Queries for recent changes: their cost is to be that of the answer, at any number of leases.

use super::{Extent, Row, say};
use crate::alone::Alone;
use crate::client::{Client, Request, Result};
use crate::figures::{median, number, time};
use crate::measure::{LONG_ENOUGH, ask};
use crate::report::{Line, Report};
use crate::support::queries::{Expected, RECENT, Recent};

/// Bindings that a delta query returns, about.
const CHANGED: u32 = 1_000;

/// From this number of leases on the cost is to be the same.
pub const FLAT_FROM: u32 = 100_000;

/// The longest time of a query for recent changes.
const TARGET: f64 = 1e-3;

/// The largest ratio of costs that are the same.
const FLAT: f64 = 2.0;

/// Queries in a round, at most.
const QUERIES: u32 = 20;

/// One query to a server.
struct Measured {
    /// Leases of the server.
    leases: u32,
    /// Bindings returned.
    bindings: u32,
    /// The median of its time, in seconds.
    time: f64,
}

/// Measures the wanted rows of all servers in turns.
pub fn measure(
    all: &[Alone],
    extent: &Extent,
    wanted: impl Fn(Row) -> bool,
    report: &mut Report,
) -> Result<()> {
    let set = extent.leases.set;
    if wanted(Row::Delta) || wanted(Row::Growth) {
        say("delta queries");
        let what = format!("delta query returning {} bindings", number(CHANGED.into()));
        let measured = in_turns(all, extent, Recent::All, CHANGED)?;
        for one in &measured {
            report.grow(set, &what, one.leases, time(one.time));
        }
        if wanted(Row::Delta) {
            flat(what, &measured, extent, report);
        }
    }
    if wanted(Row::Recent) || wanted(Row::Growth) {
        let large: Vec<&Alone> = all
            .iter()
            .filter(|alone| alone.server.leases.count >= FLAT_FROM)
            .collect();
        let of_set = |recent: &Recent| recent.is_in(&extent.leases);
        for recent in Recent::ALL.into_iter().filter(of_set) {
            say(recent.name());
            let measured = in_turns(large.iter().copied(), extent, recent, RECENT)?;
            let what = format!("{}: time of the answer", recent.name());
            for one in &measured {
                report.grow(set, &what, one.leases, time(one.time));
            }
            if wanted(Row::Recent) {
                recent_lines(recent, &measured, extent, report);
            }
        }
    }
    Ok(())
}

/// Measures a query to all servers in turns.
fn in_turns<'a>(
    all: impl IntoIterator<Item = &'a Alone>,
    extent: &Extent,
    recent: Recent,
    wanted: u32,
) -> Result<Vec<Measured>> {
    struct Asked {
        client: Client,
        leases: u32,
        bindings: u32,
        request: Request,
        times: Vec<f64>,
    }
    let mut asked = Vec::new();
    for alone in all {
        let leases = alone.server.leases;
        let Expected { query, bindings } = leases.recent_query(recent, wanted);
        asked.push(Asked {
            client: alone.server.connect()?,
            leases: leases.count,
            bindings,
            request: Request::new(&query)?,
            times: Vec::new(),
        });
    }
    for _ in 0..extent.rounds {
        for one in &mut asked {
            let mut spent = 0.0;
            for _ in 0..QUERIES {
                let took = ask(&mut one.client, &one.request, one.bindings)?.as_secs_f64();
                one.times.push(took);
                spent += took;
                if spent > LONG_ENOUGH.as_secs_f64() {
                    break;
                }
            }
        }
    }
    let measured = asked.iter().map(|one| Measured {
        leases: one.leases,
        bindings: one.bindings,
        time: median(&one.times),
    });
    Ok(measured.collect())
}

/// The rows of a query for recent changes.
fn recent_lines(recent: Recent, measured: &[Measured], extent: &Extent, report: &mut Report) {
    let usual = |one: &&Measured| one.leases == extent.leases.count;
    // With few leases in Kea, the most without it.
    if let Some(one) = measured.iter().find(usual).or(measured.last()) {
        report.add(Line {
            what: format!(
                "{}: {} of {} leases",
                recent.name(),
                number(one.bindings.into()),
                number(one.leases.into())
            ),
            set: Some(extent.leases.set),
            target: format!("≤ {}", time(TARGET)),
            result: time(one.time),
            met: Some(one.time <= TARGET),
            ..Line::default()
        });
    }
    flat(recent.name().to_owned(), measured, extent, report);
}

/// The row of costs that are to be the same at any number of leases.
fn flat(what: String, measured: &[Measured], extent: &Extent, report: &mut Report) {
    let compared: Vec<&Measured> = measured
        .iter()
        .filter(|one| one.leases >= FLAT_FROM)
        .collect();
    if compared.len() < 2 {
        return;
    }
    let times = || compared.iter().map(|one| one.time);
    let ratio = times().fold(f64::NAN, f64::max) / times().fold(f64::NAN, f64::min);
    let list = |what: fn(&Measured) -> String| {
        let all: Vec<String> = compared.iter().map(|one| what(one)).collect();
        all.join(", ")
    };
    report.add(Line {
        what: format!(
            "{what}: in {} leases",
            list(|one| number(one.leases.into()))
        ),
        set: Some(extent.leases.set),
        target: format!("the same cost (± {FLAT} ×)"),
        result: list(|one| time(one.time)),
        against: "each other".into(),
        ratio: number(ratio),
        met: Some(ratio <= FLAT),
    });
}
