//! Comparison of this build with an earlier one, in turns, without Kea (`--before`).

use std::path::Path;

use super::{Extent, say};
use crate::alone::Alone;
use crate::ceiling::{Ceiling, Recording};
use crate::client::{Client, Request, Result};
use crate::figures::{median, number, ratios, rounded, time};
use crate::measure::{ask, bindings_per_second};
use crate::report::{Line, Report};
use crate::support::queries::{By, RECENT, Recent};

/// The least speed, as a share of the earlier build's.
const SPEED: f64 = 0.95;

/// The most memory, as a multiple of the earlier build's.
const MEMORY: f64 = 1.03;

/// The longest change, as a multiple of the earlier build's.
const CHANGE: f64 = 1.05;

/// Queries for recent changes in a round.
const QUERIES: u32 = 10;

/// How a figure counts.
#[derive(Clone, Copy, Debug)]
enum Kind {
    /// A rate: the higher, the better.
    Rate,
    /// A share of the ceiling, likewise.
    Share,
    /// A time in seconds: the lower, the better.
    Time,
    /// The time of a change in seconds, likewise.
    Change,
    /// Octets a lease, likewise.
    Memory,
}

impl Kind {
    /// The target, and whether a ratio of the new figure to the old one meets it.
    fn target(self, ratio: f64) -> (String, bool) {
        match self {
            Kind::Rate | Kind::Share => (format!("≥ {SPEED} × before"), ratio >= SPEED),
            Kind::Time => {
                let target = format!("≤ {} × before", number(1.0 / SPEED));
                (target, ratio <= 1.0 / SPEED)
            }
            Kind::Change => (format!("≤ {CHANGE} × before"), ratio <= CHANGE),
            Kind::Memory => (format!("≤ {MEMORY} × before"), ratio <= MEMORY),
        }
    }

    /// A figure with its unit.
    fn figure(self, value: f64) -> String {
        match self {
            Kind::Rate => format!("{}/s", rounded(value)),
            Kind::Share => number(value),
            Kind::Time | Kind::Change => time(value),
            Kind::Memory => format!("{} octets a lease", number(value)),
        }
    }
}

/// The figures of both builds: the earlier one's first.
struct Pairs {
    /// The measure.
    what: String,
    /// How it counts.
    kind: Kind,
    /// The figures of each round.
    values: [Vec<f64>; 2],
}

/// Compares this build with another one of the same program that serves the same sets.
pub fn measure(before: &Path, extent: &Extent, report: &mut Report) -> Result<()> {
    let leases = extent.leases;
    say(format!(
        "this build against {}, {} leases",
        before.display(),
        leases.set.name()
    ));
    let mut all: Vec<Pairs> = Vec::new();
    let mut add = |what: &str, kind: Kind, build: usize, value: f64| {
        let known = all.iter().position(|pairs| pairs.what == what);
        let index = known.unwrap_or_else(|| {
            all.push(Pairs {
                what: what.to_owned(),
                kind,
                values: Default::default(),
            });
            all.len() - 1
        });
        all[index].values[build].push(value);
    };
    for start in 0..extent.starts as usize {
        // Which of both is first changes, as free memory is not all equally fast.
        let mut builds: [Option<Alone>; 2] = [None, None];
        for turn in 0..2 {
            let build = (start + turn) % 2;
            let alone = match build {
                0 => Alone::start_of(before, leases)?,
                _ => Alone::start(leases)?,
            };
            let count = f64::from(leases.count);
            add("loading, leases", Kind::Rate, build, alone.loading_rate);
            let each = alone.memory / count;
            add("memory, loaded", Kind::Memory, build, each);
            if leases.is_realistic() {
                let each = alone.churned_memory / count;
                add("memory, after the churn", Kind::Memory, build, each);
            }
            builds[build] = Some(alone);
        }
        let mut servers = Vec::new();
        for (build, alone) in builds.iter_mut().enumerate() {
            if let Some(alone) = alone {
                servers.push((build, alone.server.connect()?, alone));
            }
        }
        let relay = leases.relay_query();
        let relay_request = Request::new(&relay.query)?;
        let all_addresses = leases.all_query();
        let all_request = Request::new(&all_addresses.query)?;
        let of_set = |recent: &Recent| recent.is_in(&leases);
        let mut recents = Vec::new();
        for recent in Recent::ALL.into_iter().filter(of_set) {
            let expected = leases.recent_query(recent, RECENT);
            recents.push((recent, Request::new(&expected.query)?, expected.bindings));
        }
        // The answer of both builds.
        let (_, client, _) = servers.first_mut().ok_or("no build")?;
        let sender = Ceiling::start(Recording::of(client, &relay_request)?)?;
        let mut ceiling = Client::connect(sender.address())?;
        for round in 0..extent.rounds {
            // Which of both is first changes here, too.
            servers.reverse();
            for (build, client, alone) in &mut servers {
                let build = *build;
                let highest = bindings_per_second(&mut ceiling, &relay_request, relay.bindings)?;
                let rate = bindings_per_second(client, &relay_request, relay.bindings)?;
                add(
                    "relay-id query of a tenth, share of the ceiling",
                    Kind::Share,
                    build,
                    rate / highest,
                );
                add(
                    "relay-id query of a tenth, bindings",
                    Kind::Rate,
                    build,
                    rate,
                );
                let rate = bindings_per_second(client, &all_request, all_addresses.bindings)?;
                add("all configured addresses", Kind::Rate, build, rate);
                for by in By::ALL {
                    let first = round * extent.queries;
                    let server = alone.server;
                    let times = server.one_by_one(client, by, first, extent.queries)?;
                    let what = format!("one-binding query by {}, p50", by.name());
                    add(&what, Kind::Time, build, median(&times));
                }
                for (recent, request, bindings) in &recents {
                    let took = several(client, request, *bindings)?;
                    add(recent.name(), Kind::Time, build, took);
                }
                add(
                    "reset storm, queries",
                    Kind::Rate,
                    build,
                    alone.server.storm()?,
                );
            }
        }
        // Last: changes move bindings in time.
        for _ in 0..extent.rounds {
            servers.reverse();
            for (build, _, alone) in &mut servers {
                let (many, few) = (5 * extent.changes, extent.changes / 4);
                for (pause, changes, what) in [
                    (false, many, "applying a change, one after another, p50"),
                    (true, few, "applying a change, 5,000 a second, p50"),
                ] {
                    let applied = alone.change(changes, pause)?;
                    add(what, Kind::Change, *build, applied.latency.p50);
                }
            }
        }
    }
    for Pairs { what, kind, values } in all {
        let [before, now] = &values;
        let ratio = median(&ratios(now, before));
        let (target, met) = kind.target(ratio);
        report.add(Line {
            what,
            set: Some(leases.set),
            target,
            result: kind.figure(median(now)),
            against: format!("before {}", kind.figure(median(before))),
            ratio: number(ratio),
            met: Some(met),
        });
    }
    Ok(())
}

/// The median time of some queries for recent changes.
fn several(client: &mut Client, request: &Request, bindings: u32) -> Result<f64> {
    let times: Result<Vec<f64>> = (0..QUERIES)
        .map(|_| Ok(ask(client, request, bindings)?.as_secs_f64()))
        .collect();
    Ok(median(&times?))
}
