//! Measures libdhcp_blq.so against its targets: in a real Kea, beside Kea's own hook and the
//! ceiling of the wire, and without Kea at more and more leases. Prints Markdown tables.
//!
//! - [`support`]: the leases, shared with the other benchmarks, and queries for them.
//! - [`lease_file`], [`churn`]: the leases in a Kea.
//! - [`client`]: a requester that is no slower than the wire; [`tls`]: over TLS.
//! - [`active`]: active requesters.
//! - [`ceiling`]: a trivial sender of messages encoded before.
//! - [`perfdhcp`]: DHCP clients.
//! - [`keas`], [`empty_hook`], [`alone`]: the servers.
//! - [`measure`]: measurements of any of them; [`rows`]: the rows of the tables.
//! - [`process`], [`figures`], [`report`], [`plot`]: figures of the system, and their presentation.

mod active;
mod alone;
mod ceiling;
mod churn;
mod client;
mod empty_hook;
mod figures;
#[cfg(test)]
mod generated;
mod keas;
mod lease_file;
mod measure;
mod perfdhcp;
mod plot;
mod process;
mod report;
mod rows;
#[path = "../../support/mod.rs"]
mod support;
mod tls;

use std::env;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::Parser;
use kea_tests::kea_version;

use client::Result;
use keas::Hooks;
use report::Report;
use rows::service::Keas;
use rows::{Extent, Row, say};
use support::leases::{LARGEST_POOL, Leases, Set};

/// Measures the hook against its targets and prints tables
#[derive(Parser)]
struct Arguments {
    /// The rows, e.g. relay-id,memory; all by default
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Row>,
    /// The sets of leases. The rows of Kea's start, memory and DHCP service, of active requesters and
    /// of TLS are of the first one
    #[arg(long, value_parser = set, value_delimiter = ',', default_value = "realistic,uniform")]
    sets: Vec<Set>,
    /// Few leases and few rounds: two minutes
    #[arg(long)]
    quick: bool,
    /// Leave out the rows that need a Kea
    #[arg(long)]
    without_kea: bool,
    /// Compare this build with an earlier build of this program, without Kea, and nothing else
    #[arg(long, value_name = "PROGRAM")]
    before: Option<PathBuf>,
    /// Leases in Kea, in thousands rounded down
    #[arg(long)]
    leases: Option<u32>,
    /// Addresses of the pools
    #[arg(long)]
    pool: Option<u32>,
    /// Measurements of each pair
    #[arg(long)]
    rounds: Option<u32>,
    /// Starts of Kea with and without the hook
    #[arg(long)]
    starts: Option<u32>,
    /// Numbers of leases without Kea
    #[arg(long, value_delimiter = ',')]
    sizes: Option<Vec<u32>>,
    /// Rounds of DHCP exchanges and service
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    service_rounds: Option<u32>,
    /// DHCP exchanges a second at a rate that Kea can serve
    #[arg(long, default_value_t = 5_000)]
    exchange_rate: u32,
    /// The commit of this build, for the report
    #[arg(long, default_value = "unknown")]
    commit: String,
}

/// The set of a name.
fn set(name: &str) -> std::result::Result<Set, String> {
    Set::from_name(name).ok_or_else(|| format!("there is no set '{name}'"))
}

impl Arguments {
    /// The extent of the measurement of one set.
    fn extent(&self, set: Set, now: u32) -> Extent {
        let quick = self.quick;
        let leases = self
            .leases
            .unwrap_or(if quick { 20_000 } else { 1_000_000 });
        let pool = self.pool.unwrap_or(LARGEST_POOL.min(16 * leases));
        Extent {
            leases: Leases::new(set, leases, pool, now),
            rounds: self.rounds.unwrap_or(if quick { 3 } else { 5 }),
            starts: self.starts.unwrap_or(2),
            queries: if quick { 500 } else { 2_000 },
            keas_queries: if quick { 5 } else { 20 },
            changes: if quick { 5_000 } else { 20_000 },
            service_seconds: if quick { 1 } else { 5 },
            service_rounds: self.service_rounds.unwrap_or(if quick { 3 } else { 9 }),
            exchange_rate: self.exchange_rate,
        }
    }

    /// Numbers of leases without Kea.
    fn sizes(&self) -> Vec<u32> {
        let usual: &[u32] = match self.quick {
            true => &[20_000, 200_000],
            false => &[10_000, 100_000, 1_000_000, 10_000_000],
        };
        self.sizes.clone().unwrap_or_else(|| usual.to_vec())
    }

    /// Whether a row is to be measured.
    fn wants(&self, row: Row) -> bool {
        self.only.is_empty() || self.only.contains(&row)
    }

    /// Whether one of the rows is to be measured.
    fn wants_any(&self, rows: &[Row]) -> bool {
        rows.iter().any(|row| self.wants(*row))
    }

    /// Whether one of the rows is to be measured and there is the Kea that they need.
    fn wants_in_kea(&self, rows: &[Row]) -> bool {
        !self.without_kea && self.wants_any(rows)
    }
}

fn main() -> ExitCode {
    let all: Vec<String> = env::args().collect();
    let done = match all.get(1).map(String::as_str) {
        Some(alone::ARGUMENT) => alone::run(&all[2..]),
        Some(plot::ARGUMENT) => plot::run(&all[2..]),
        _ => compare(&mut Arguments::parse()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Measures all wanted rows. Prints the results so far even if a measurement fails.
fn compare(arguments: &mut Arguments) -> Result<()> {
    if !arguments.without_kea && !keas::is_installed() {
        say("no Kea is installed: the rows that need one are left out");
        arguments.without_kea = true;
    }
    let since = SystemTime::now().duration_since(UNIX_EPOCH)?;
    let now = u32::try_from(since.as_secs())?;
    let extents: Vec<Extent> = arguments
        .sets
        .iter()
        .map(|set| arguments.extent(*set, now))
        .collect();
    let extent = extents.first().ok_or("no set of leases")?;
    let load = process::load();
    let mut report = Report::default();
    let done = measure(arguments, extent, &extents, &mut report);
    let kea = match arguments.without_kea {
        true => "without Kea".to_owned(),
        false => format!("Kea {}", kea_version()),
    };
    println!(
        "{}; load {load} before, {} after\n{kea}, commit {}; {} leases in {} addresses, {} rounds, \
         medians\n",
        process::machine(),
        process::load(),
        arguments.commit,
        figures::number(extent.leases.count.into()),
        figures::number(extent.leases.pool.into()),
        extent.rounds
    );
    println!("{}", report.targets());
    for growth in Set::ALL.into_iter().filter_map(|set| report.growth(set)) {
        println!("\n{growth}");
    }
    done
}

/// Measures all wanted rows: some of all sets, some of the first one.
fn measure(
    arguments: &Arguments,
    first: &Extent,
    extents: &[Extent],
    report: &mut Report,
) -> Result<()> {
    let wants = |row| arguments.wants(row);
    if let Some(before) = &arguments.before {
        return extents
            .iter()
            .try_for_each(|extent| rows::before::measure(before, extent, report));
    }
    if arguments.wants_any(&Row::ALONE) {
        for extent in extents {
            rows::alone::measure(&arguments.sizes(), extent, wants, report)?;
        }
    }
    if wants(Row::Active) {
        rows::active::measure(first, report)?;
    }
    if wants(Row::Tls) {
        rows::tls::measure(first, report)?;
    }
    let directory = tempfile::tempdir()?;
    if arguments.wants_in_kea(&Row::BOTH_HOOKS) {
        for extent in extents {
            with_both_hooks(arguments, extent, directory.path(), report)?;
        }
    }
    if arguments.wants_in_kea(&Row::WITH_AND_WITHOUT) {
        with_and_without(first, directory.path(), wants, report)?;
    }
    if arguments.wants_in_kea(&[Row::ActiveService]) {
        let file = lease_file(first, directory.path())?;
        say("Kea starts with the hook");
        let kea = keas::start(&Hooks::Ours, &first.leases, &file);
        keas::await_quiet(&kea)?;
        rows::active_service::measure(&kea, first, report)?;
    }
    if arguments.wants_in_kea(&[Row::Udp]) && keas::has_keas_hook() {
        let file = lease_file(first, directory.path())?;
        say("Kea starts with this hook, and another one with its own");
        let ours = keas::start(&Hooks::Ours, &first.leases, &file);
        keas::await_quiet(&ours)?;
        let theirs = keas::start(&Hooks::Keas, &first.leases, &file);
        keas::await_quiet(&theirs)?;
        let keas = rows::udp::Keas {
            ours: &ours,
            keas: &theirs,
        };
        rows::udp::measure(&keas, first, report)?;
    }
    Ok(())
}

/// Measures the rows that need a Kea with both hooks.
fn with_both_hooks(
    arguments: &Arguments,
    extent: &Extent,
    directory: &Path,
    report: &mut Report,
) -> Result<()> {
    let wants = |row| arguments.wants(row);
    let file = lease_file(extent, directory)?;
    say("Kea with both hooks starts");
    let kea = keas::start(&Hooks::Both, &extent.leases, &file);
    say(format!(
        "it took {}",
        figures::time(kea.start_time().as_secs_f64())
    ));
    let renewed = churn::renew_all(&kea, &extent.leases)?;
    say(format!("{renewed} leases are renewed"));
    keas::await_quiet(&kea)?;
    let ours = keas::ours(&kea, extent.leases);
    let keas = keas::keas(&kea, extent.leases);
    if keas.is_none() {
        say(format!("this Kea has no {}", keas::KEAS_HOOK));
    }
    rows::queries::measure(&ours, keas.as_ref(), extent, wants, report)?;
    if wants(Row::Stalled) {
        rows::stalled::measure(&kea, extent, report)?;
    }
    Ok(())
}

/// Measures the rows that need Keas with and without this hook.
fn with_and_without(
    extent: &Extent,
    directory: &Path,
    wants: impl Fn(Row) -> bool,
    report: &mut Report,
) -> Result<()> {
    let file = lease_file(extent, directory)?;
    say("Kea starts without the hook, and with it");
    let mut plain = keas::start(&Hooks::None, &extent.leases, &file);
    keas::await_quiet(&plain)?;
    let mut hooked = keas::start(&Hooks::Ours, &extent.leases, &file);
    if wants(Row::Memory) || wants(Row::Loading) {
        rows::startup::measure(&mut plain, &mut hooked, extent, &wants, report)?;
    }
    if !(wants(Row::Exchange) || wants(Row::Service)) {
        return Ok(());
    }
    let empty = match empty_hook::build(directory)? {
        Some(library) => {
            say("Kea starts with an empty hook");
            let kea = keas::start(&Hooks::Empty(library), &extent.leases, &file);
            keas::await_quiet(&kea)?;
            Some(kea)
        }
        None => {
            say("no headers of Kea or no C compiler: an empty hook is not measured");
            None
        }
    };
    let keas = Keas {
        plain: &plain,
        empty: empty.as_ref(),
        hooked: &hooked,
    };
    if wants(Row::Exchange) {
        rows::exchange::measure(&keas, extent, report)?;
    }
    if wants(Row::Service) {
        rows::service::measure(&keas, extent, report)?;
    }
    Ok(())
}

/// Kea's lease file of a set, written unless it exists.
fn lease_file(extent: &Extent, directory: &Path) -> Result<PathBuf> {
    let Leases { set, count, .. } = extent.leases;
    let file = directory.join(format!("{}-{count}.csv", set.name()));
    if !file.exists() {
        say(format!(
            "writing {} {} leases",
            figures::number(count.into()),
            set.name()
        ));
        lease_file::write(&extent.leases, &file)?;
    }
    Ok(file)
}
