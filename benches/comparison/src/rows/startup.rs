//! The start of Kea with and without the hook: its time, what is loaded meanwhile, and the
//! memory it takes.

use std::fs;

use kea_tests::Kea;

use super::alone::MEMORY_TARGET;
use super::{Extent, Row, say};
use crate::client::Result;
use crate::figures::{mebibytes, median, number, ratios, rounded, time};
use crate::keas::{await_quiet, loading_rate};
use crate::process::memory;
use crate::report::{Line, Report};

/// The least leases loaded a second.
const LOADING_TARGET: f64 = 400_000.0;

/// By how much the start of Kea may take longer.
const START_TARGET: f64 = 1.05;

/// The hook's state, in Kea's home.
const STATE_FILE: &str = "data/kea-blq.state";

/// What is seen of the starts of one Kea.
#[derive(Debug, Default)]
struct Starts {
    /// How long they took, in seconds.
    times: Vec<f64>,
    /// The memory afterwards, when everything is written, in octets.
    memory: Vec<f64>,
    /// Leases loaded a second, with the hook.
    rates: Vec<f64>,
}

impl Starts {
    /// Takes note of a start.
    fn add(&mut self, kea: &Kea, has_hook: bool) -> Result<()> {
        self.times.push(kea.start_time().as_secs_f64());
        if has_hook {
            // Kea goes on meanwhile.
            self.rates.push(loading_rate(kea)?);
        }
        await_quiet(kea)?;
        self.memory.push(memory(kea.pid())? as f64);
        Ok(())
    }

    /// How long the last one took.
    fn last(&self) -> String {
        time(self.times.last().copied().unwrap_or(f64::NAN))
    }
}

/// What is seen of all of them.
#[derive(Debug, Default)]
struct All {
    /// Without the hook.
    without: Starts,
    /// With it, and no state file.
    first: Starts,
    /// With the state file of the start before.
    later: Starts,
}

/// Measures whichever of these rows are wanted; the Keas have just been started. The targets are
/// for one number of leases; at others only the growth is told.
pub fn measure(
    plain: &mut Kea,
    hooked: &mut Kea,
    extent: &Extent,
    wanted: impl Fn(Row) -> bool,
    is_target: bool,
    report: &mut Report,
) -> Result<()> {
    say("starts of Kea, without the hook, with it, with its state file");
    let mut all = All::default();
    let rounds = if wanted(Row::Loading) {
        extent.starts
    } else {
        1
    };
    for round in 0..rounds {
        if round > 0 {
            plain.stop();
            hooked.stop();
            fs::remove_file(hooked.home().join(STATE_FILE))?;
        }
        // What memory each gets depends on what is free, and not all of it need be equally quick.
        let in_turns = round % 2 == 0;
        for is_plain in [in_turns, !in_turns] {
            let (kea, starts) = match is_plain {
                true => (&mut *plain, &mut all.without),
                false => (&mut *hooked, &mut all.first),
            };
            if round > 0 {
                kea.start_again();
            }
            starts.add(kea, !is_plain)?;
        }
        if wanted(Row::Loading) {
            hooked.restart();
            all.later.add(hooked, true)?;
        }
        say(format!(
            "round {}: {} without, {} with, {} with a state file",
            round + 1,
            all.without.last(),
            all.first.last(),
            all.later.last()
        ));
    }
    let count = extent.leases.count;
    if is_target {
        targets(&all, count, &wanted, report);
    }
    growth(&all, count, wanted, report);
    Ok(())
}

/// Tells whether the targets are met.
fn targets(all: &All, count: u32, wanted: impl Fn(Row) -> bool, report: &mut Report) {
    if wanted(Row::Memory) {
        let each = memory_each(&all.first, &all.without, count);
        report.add(Line {
            what: format!(
                "memory the hook adds at {} leases, in Kea",
                number(count.into())
            ),
            target: format!("≤ {MEMORY_TARGET} octets a lease"),
            result: format!("{} octets a lease", number(each)),
            against: format!(
                "Kea {}, with the hook {}",
                mebibytes(median(&all.without.memory)),
                mebibytes(median(&all.first.memory))
            ),
            ratio: String::new(),
            met: Some(each <= MEMORY_TARGET),
        });
    }
    if wanted(Row::Loading) {
        for (starts, when) in [
            (&all.first, "first start"),
            (&all.later, "with a state file"),
        ] {
            let rate = median(&starts.rates);
            report.add(Line {
                what: format!("loading the mirror, {when}"),
                target: format!("≥ {} leases/s", number(LOADING_TARGET)),
                result: format!("{} leases/s", rounded(rate)),
                against: String::new(),
                ratio: String::new(),
                met: Some(rate >= LOADING_TARGET),
            });
            let ratio = median(&ratios(&starts.times, &all.without.times));
            report.add(Line {
                what: format!("start of Kea, {when}, {} leases", number(count.into())),
                target: "at most 5 % longer".into(),
                result: time(median(&starts.times)),
                against: format!("without the hook {}", time(median(&all.without.times))),
                ratio: number(ratio),
                met: Some(ratio <= START_TARGET),
            });
        }
    }
}

/// Tells the same by number of leases.
fn growth(all: &All, count: u32, wanted: impl Fn(Row) -> bool, report: &mut Report) {
    if wanted(Row::Memory) {
        let each = memory_each(&all.first, &all.without, count);
        report.grow("memory in Kea, octets a lease", count, number(each));
    }
    if wanted(Row::Loading) {
        for (starts, when) in [
            (&all.first, "first start"),
            (&all.later, "with a state file"),
        ] {
            let rate = rounded(median(&starts.rates));
            let what = format!("loading the mirror, {when}, in Kea, leases/s");
            report.grow(&what, count, rate);
            let ratio = number(median(&ratios(&starts.times, &all.without.times)));
            let what = format!("start of Kea, {when}, × without the hook");
            report.grow(&what, count, ratio);
        }
    }
}

/// What the hook adds for a lease.
fn memory_each(with: &Starts, without: &Starts, count: u32) -> f64 {
    (median(&with.memory) - median(&without.memory)) / f64::from(count)
}
