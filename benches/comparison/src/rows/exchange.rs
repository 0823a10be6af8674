//! The processor time of Kea for each DHCP exchange at a rate that Kea can serve: without a hook,
//! with an empty one, and with this one.

use super::{Extent, say};
use crate::client::Result;
use crate::figures::{median, number, rounded, time};
use crate::perfdhcp::{Service, relay_agent_information, serve};
use crate::process::Usage;
use crate::report::{Line, Report};
use crate::rows::service::Keas;

/// Octets of option 82.
const INFORMATION: usize = 50;

/// The most processor time that the hook may add, in seconds.
const TARGET: f64 = 8e-6;

/// The most of it on Kea's own threads, beyond the cost of an empty callout.
const TARGET_OF_KEA: f64 = 4e-6;

/// The least share of the exchanges that is completed at a rate that Kea can serve.
const SERVED: f64 = 0.97;

/// The runs of one Kea.
#[derive(Debug, Default)]
struct Runs(Vec<Service>);

impl Runs {
    /// The times of one kind, in seconds.
    fn times(&self, of: fn(Usage) -> f64) -> Vec<f64> {
        self.0.iter().map(|service| of(service.cost)).collect()
    }

    /// The median of the times of one kind.
    fn median(&self, of: fn(Usage) -> f64) -> f64 {
        median(&self.times(of))
    }

    /// The median of the differences to the other Kea's run of the same round.
    fn more_than(&self, other: &Runs, of: fn(Usage) -> f64) -> f64 {
        let (own, other) = (self.times(of), other.times(of));
        let differences: Vec<f64> = own
            .iter()
            .zip(&other)
            .map(|(own, other)| own - other)
            .collect();
        median(&differences)
    }
}

/// Measures the processor time of all Keas in turns.
pub fn measure(keas: &Keas<'_>, extent: &Extent, report: &mut Report) -> Result<()> {
    let rate = f64::from(extent.exchange_rate);
    say(format!("{} DHCP exchanges/s", number(rate)));
    let information = relay_agent_information(INFORMATION);
    let all = [Some(keas.plain), keas.empty, Some(keas.hooked)];
    let present: Vec<_> = all.into_iter().flatten().collect();
    for kea in &present {
        // Its clients get their leases.
        serve(kea, rate, extent.service_seconds, &information)?;
    }
    let mut runs: Vec<Runs> = present.iter().map(|_| Runs::default()).collect();
    for round in 0..extent.service_rounds as usize {
        for turn in 0..present.len() {
            let index = (round + turn) % present.len();
            let service = serve(present[index], rate, extent.service_seconds, &information)?;
            runs[index].0.push(service);
        }
    }
    let hooked = runs.pop().unwrap_or_default();
    let empty = keas.empty.and_then(|_| runs.pop());
    let plain = runs.pop().unwrap_or_default();
    let completed = |runs: &Runs| -> f64 {
        let rates: Vec<f64> = runs.0.iter().map(|service| service.rate).collect();
        median(&rates)
    };
    let is_served = [Some(&plain), empty.as_ref(), Some(&hooked)]
        .into_iter()
        .flatten()
        .all(|runs| completed(runs) >= SERVED * rate);
    let set = Some(extent.leases.set);
    let what = format!(
        "processor time of Kea for each DHCP exchange, {} a second, option 82 of {INFORMATION} octets",
        rounded(rate)
    );
    let others = |of: fn(Usage) -> f64| {
        let plain_text = format!("without a hook {}", time(plain.median(of)));
        let empty = empty.iter().map(|empty| {
            let more = difference(empty.more_than(&plain, of));
            format!(", with an empty hook {} ({more})", time(empty.median(of)))
        });
        [plain_text].into_iter().chain(empty).collect::<String>()
    };
    let more = hooked.more_than(&plain, |used| used.process);
    report.add(Line {
        what: what.clone(),
        set,
        target: format!("at most {} more than without a hook", time(TARGET)),
        result: format!(
            "{} at {} exchanges/s",
            time(hooked.median(|used| used.process)),
            rounded(completed(&hooked))
        ),
        against: others(|used| used.process),
        ratio: difference(more),
        met: is_served.then_some(more <= TARGET),
    });
    let kea = |used: Usage| used.kea;
    let (target, more) = match &empty {
        Some(empty) => (
            format!(
                "at most {} more than with an empty hook",
                time(TARGET_OF_KEA)
            ),
            hooked.more_than(empty, kea),
        ),
        None => (String::new(), hooked.more_than(&plain, kea)),
    };
    report.add(Line {
        what: format!("{what}: Kea's own threads"),
        set,
        target,
        result: time(hooked.median(kea)),
        against: others(kea),
        ratio: difference(more),
        met: (is_served && empty.is_some()).then_some(more <= TARGET_OF_KEA),
    });
    report.add(Line {
        what: format!("{what}: the hook's threads"),
        set,
        result: time(hooked.median(|used| used.hook)),
        ..Line::default()
    });
    Ok(())
}

/// A difference of times with its sign.
fn difference(seconds: f64) -> String {
    let sign = if seconds < 0.0 { "-" } else { "+" };
    format!("{sign}{}", time(seconds.abs()))
}
