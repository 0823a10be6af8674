//! Changes to active requesters, without Kea: their rate, their latency, and the memory of requesters that read nothing.

use crate::active::{Received, Requesters, stalled};
use crate::alone::{Alone, Pushed};
use crate::client::{Client, Result};
use crate::figures::{median, number, rounded, time};
use crate::measure::LONG_ENOUGH;
use crate::process::{memory, settled, unacknowledged};
use crate::report::{Line, Report};

use super::{Extent, say};

/// Numbers of active requesters among which changes are delivered.
const REQUESTERS: [usize; 3] = [1, 10, 100];

/// The active requesters for whom the latency is measured.
const FEW: usize = 10;

/// The changes a second then.
const RATE: u32 = 5_000;

/// The longest latency: the median and the 99th percentile, in seconds.
pub const LATENCY_TARGETS: [f64; 2] = [2e-3, 10e-3];

/// Active requesters that read nothing.
const STALLED: usize = 400;

/// The most octets of memory for each of them.
const MEMORY_TARGET: f64 = 160.0 * 1_024.0;

/// One in so many leases changes at once, at most: fewer than are active, so that no address comes twice.
const CHANGED: u32 = 4;

/// Measures a mirror of one set.
pub fn measure(extent: &Extent, report: &mut Report) -> Result<()> {
    let leases = extent.leases;
    say(format!(
        "active requesters of {} {} leases without Kea",
        number(leases.count.into()),
        leases.set.name()
    ));
    let mut alone = Alone::start(leases)?;
    for requesters in REQUESTERS {
        rate(&mut alone, requesters, extent, report)?;
    }
    latency(&mut alone, extent, report)?;
    stalled_memory(&mut alone, extent, report)
}

/// Changes at once: as many as the change log keeps, so that requesters get each of them from there.
fn burst(extent: &Extent) -> u32 {
    extent.changes.min(extent.leases.count / CHANGED)
}

/// Changes leases while the requesters receive the changes, and checks that each received all of them.
fn deliver(
    alone: &mut Alone,
    requesters: &mut Requesters,
    count: u32,
    rate: u32,
) -> Result<(Pushed, Received)> {
    let push = || alone.push(count, rate);
    let (pushed, received) = requesters.receive(count.into(), rate > 0, push)?;
    if received.sums.iter().all(|sum| *sum == pushed.sum) {
        Ok((pushed, received))
    } else {
        Err("a requester received other changes than were made".into())
    }
}

/// The changes that some requesters receive a second, if changes are made as fast as they are applied.
fn rate(alone: &mut Alone, count: usize, extent: &Extent, report: &mut Report) -> Result<()> {
    let mut requesters = Requesters::connect(alone.server.address, count)?;
    let changes = burst(extent);
    let mut rates = Vec::new();
    deliver(alone, &mut requesters, changes, 0)?;
    for _ in 0..extent.rounds {
        let (mut delivered, mut took) = (0, 0.0);
        while took < LONG_ENOUGH.as_secs_f64() {
            let (pushed, received) = deliver(alone, &mut requesters, changes, 0)?;
            took += received.last - pushed.first;
            delivered += changes;
        }
        rates.push(f64::from(delivered) / took);
    }
    let rate = median(&rates);
    report.add(Line {
        what: format!(
            "changes delivered to each of {count} active requesters, {} made at once",
            number(changes.into())
        ),
        set: Some(extent.leases.set),
        result: format!(
            "{} changes/s, {} messages/s",
            rounded(rate),
            rounded(rate * count as f64)
        ),
        ..Line::default()
    });
    Ok(())
}

/// The time from the push of an event until its message has reached each of a few requesters.
fn latency(alone: &mut Alone, extent: &Extent, report: &mut Report) -> Result<()> {
    let mut requesters = Requesters::connect(alone.server.address, FEW)?;
    let changes = burst(extent);
    let (mut medians, mut tails, mut rates) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..extent.rounds {
        let (pushed, received) = deliver(alone, &mut requesters, changes, RATE)?;
        let latency = received.latency(&pushed.pushes)?;
        medians.push(latency.p50);
        tails.push(latency.p99);
        rates.push(f64::from(changes) / (pushed.last - pushed.first));
    }
    for (which, times, target) in [
        ("median", &medians, LATENCY_TARGETS[0]),
        ("p99", &tails, LATENCY_TARGETS[1]),
    ] {
        let result = median(times);
        report.add(Line {
            what: format!(
                "from the push of a lease event to the octets at {FEW} active requesters, {} changes/s: {which}",
                number(RATE.into())
            ),
            set: Some(extent.leases.set),
            target: format!("≤ {}", time(target)),
            result: time(result),
            against: format!("at {} changes/s", rounded(median(&rates))),
            met: Some(result <= target),
            ..Line::default()
        });
    }
    Ok(())
}

/// The memory of requesters that read nothing while all active leases change.
fn stalled_memory(alone: &mut Alone, extent: &Extent, report: &mut Report) -> Result<()> {
    say(format!("{STALLED} active requesters that read nothing"));
    // Without requesters first: the mirror grows with the changes, too.
    change_all(alone, extent)?;
    let before = memory(alone.pid())? as f64;
    let address = alone.server.address;
    let requesters: Result<Vec<Client>> = (0..STALLED).map(|_| stalled(address)).collect();
    let requesters = requesters?;
    change_all(alone, extent)?;
    let waiting = settled(|| unacknowledged(address))? as f64;
    let each = (memory(alone.pid())? as f64 - before) / STALLED as f64;
    drop(requesters);
    let kibibytes = |octets: f64| format!("{} KiB", number(octets / 1_024.0));
    report.add(Line {
        what: format!(
            "{STALLED} active requesters that read nothing while all leases change: memory of the process for each"
        ),
        set: Some(extent.leases.set),
        target: format!("≤ {}", kibibytes(MEMORY_TARGET)),
        result: kibibytes(each),
        against: format!(
            "beside it in the socket {}",
            kibibytes(waiting / STALLED as f64)
        ),
        met: Some(each <= MEMORY_TARGET),
        ..Line::default()
    });
    Ok(())
}

/// Changes as many leases as there are, some at a time.
fn change_all(alone: &mut Alone, extent: &Extent) -> Result<()> {
    let leases = extent.leases;
    let active = (0..leases.count).filter(|number| leases.fate(*number).is_active());
    let mut left = active.count() as u32;
    while left > 0 {
        let count = left.min(burst(extent));
        alone.push(count, 0)?;
        left -= count;
    }
    Ok(())
}
