//! The start of Kea with and without the hook: its time, the rate of the load, and the memory.

use std::fs;

use kea_tests::Kea;

use super::alone::MEMORY_TARGET;
use super::{Extent, Row, say};
use crate::client::Result;
use crate::figures::{mebibytes, median, number, ratios, rounded, time};
use crate::keas::{await_quiet, loading_rate};
use crate::process::memory;
use crate::report::{Line, Report};
use crate::support::leases::{Leases, Set};

/// The least leases loaded a second.
const LOADING_TARGET: f64 = 400_000.0;

/// The longest start of Kea, as a multiple of the one without the hook.
const START_TARGET: f64 = 1.05;

/// The hook's state file, in Kea's home.
const STATE_FILE: &str = "data/kea-blq.state";

/// The starts of one Kea.
#[derive(Debug, Default)]
struct Starts {
    /// The times of the starts, in seconds.
    times: Vec<f64>,
    /// The memory once the files are written, in octets.
    memory: Vec<f64>,
    /// Leases loaded a second, with the hook.
    rates: Vec<f64>,
}

impl Starts {
    /// Adds a start.
    fn add(&mut self, kea: &Kea, has_hook: bool) -> Result<()> {
        self.times.push(kea.start_time().as_secs_f64());
        if has_hook {
            // Kea serves its clients during the load.
            self.rates.push(loading_rate(kea)?);
        }
        await_quiet(kea)?;
        self.memory.push(memory(kea.pid())? as f64);
        Ok(())
    }

    /// The time of the last one.
    fn last(&self) -> String {
        time(self.times.last().copied().unwrap_or(f64::NAN))
    }
}

/// The starts of all Keas.
#[derive(Debug, Default)]
struct All {
    /// Without the hook.
    without: Starts,
    /// With the hook and no state file.
    first: Starts,
    /// With the state file of the start before.
    later: Starts,
}

impl All {
    /// The starts with the hook, and their names.
    fn with(&self) -> [(&Starts, &'static str); 2] {
        [
            (&self.first, "first start"),
            (&self.later, "with a state file"),
        ]
    }

    /// The octets that the hook adds for each of `count` leases.
    fn memory_each(&self, count: u32) -> f64 {
        (median(&self.first.memory) - median(&self.without.memory)) / f64::from(count)
    }
}

/// Measures the wanted rows of two Keas that have just been started.
pub fn measure(
    plain: &mut Kea,
    hooked: &mut Kea,
    extent: &Extent,
    wanted: impl Fn(Row) -> bool,
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
        // The order changes: free memory is not all equally fast.
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
    lines(&all, extent, wanted, report);
    Ok(())
}

/// Adds the rows.
fn lines(all: &All, extent: &Extent, wanted: impl Fn(Row) -> bool, report: &mut Report) {
    let Leases { set, count, .. } = extent.leases;
    if wanted(Row::Memory) {
        let each = all.memory_each(count);
        // The target is as old as the uniform set: see the memory without Kea.
        let has_target = set == Set::Uniform;
        report.add(Line {
            what: format!(
                "memory the hook adds at {} leases, in Kea",
                number(count.into())
            ),
            set: Some(set),
            target: match has_target {
                true => format!("≤ {MEMORY_TARGET} octets a lease"),
                false => String::new(),
            },
            result: format!("{} octets a lease", number(each)),
            against: format!(
                "Kea {}, with the hook {}",
                mebibytes(median(&all.without.memory)),
                mebibytes(median(&all.first.memory))
            ),
            met: has_target.then_some(each <= MEMORY_TARGET),
            ..Line::default()
        });
    }
    if wanted(Row::Loading) {
        for (starts, when) in all.with() {
            let rate = median(&starts.rates);
            report.add(Line {
                what: format!("loading the mirror, {when}"),
                set: Some(set),
                target: format!("≥ {} leases/s", number(LOADING_TARGET)),
                result: format!("{} leases/s", rounded(rate)),
                met: Some(rate >= LOADING_TARGET),
                ..Line::default()
            });
            let ratio = median(&ratios(&starts.times, &all.without.times));
            report.add(Line {
                what: format!("start of Kea, {when}, {} leases", number(count.into())),
                set: Some(set),
                target: "at most 5 % longer".into(),
                result: time(median(&starts.times)),
                against: format!("without the hook {}", time(median(&all.without.times))),
                ratio: number(ratio),
                met: Some(ratio <= START_TARGET),
            });
        }
    }
}
