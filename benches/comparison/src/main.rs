//! Measures libdhcp_blq.so against its targets: in a real Kea, beside Kea's own hook and the
//! ceiling of the wire, and without Kea at more and more leases. Prints Markdown tables.
//!
//! - [`leases`]: the leases everything is measured on, and queries for them.
//! - [`client`]: a requestor that is no slower than the wire.
//! - [`ceiling`]: a trivial sender of messages encoded before.
//! - [`keas`], [`kealess`]: what is measured.
//! - [`measure`]: what is measured of any of them; [`rows`]: the rows of the table.
//! - [`process`], [`figures`], [`report`]: what the system says, and how it is told.

mod ceiling;
mod client;
mod figures;
mod kealess;
mod keas;
mod leases;
mod measure;
mod process;
mod report;
mod rows;

use std::env;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use kea_tests::kea_version;

use client::Result;
use keas::Hooks;
use leases::Leases;
use report::Report;
use rows::{Extent, Row, say};

/// Measures the hook against its targets and prints a table
#[derive(Parser)]
struct Arguments {
    /// What to measure, e.g. relay-id,memory; everything by default
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Row>,
    /// Takes about a minute: few leases, few rounds
    #[arg(long)]
    quick: bool,
    /// Leases in Kea
    #[arg(long)]
    leases: Option<u32>,
    /// Addresses of the pool
    #[arg(long)]
    pool: Option<u32>,
    /// How often each pair is measured
    #[arg(long)]
    rounds: Option<u32>,
    /// How often Kea is started with and without the hook
    #[arg(long)]
    starts: Option<u32>,
    /// Numbers of leases without Kea
    #[arg(long, value_delimiter = ',')]
    sizes: Option<Vec<u32>>,
    /// Other numbers of leases in Kea, for the growth of its start and its memory
    #[arg(long, value_delimiter = ',')]
    kea_sizes: Option<Vec<u32>>,
    /// What is built, for the report
    #[arg(long, default_value = "unknown")]
    commit: String,
}

impl Arguments {
    /// How much is measured.
    fn extent(&self) -> Extent {
        let quick = self.quick;
        let leases = self
            .leases
            .unwrap_or(if quick { 20_000 } else { 1_000_000 });
        let pool = self.pool.unwrap_or(16_000_000.min(16 * leases));
        Extent {
            leases: Leases::new(leases, pool),
            rounds: self.rounds.unwrap_or(if quick { 3 } else { 7 }),
            starts: self.starts.unwrap_or(if quick { 2 } else { 3 }),
            queries: if quick { 500 } else { 2_000 },
            keas_queries: if quick { 5 } else { 20 },
            changes: if quick { 5_000 } else { 50_000 },
            service_seconds: if quick { 1 } else { 5 },
            service_rounds: if quick { 3 } else { 15 },
        }
    }

    /// Numbers of leases without Kea, and in Kea besides the usual one.
    fn sizes(&self) -> (Vec<u32>, Vec<u32>) {
        let (alone, in_kea): (&[u32], &[u32]) = if self.quick {
            (&[20_000, 200_000], &[])
        } else {
            (
                &[10_000, 100_000, 1_000_000, 10_000_000],
                &[10_000, 100_000],
            )
        };
        (
            self.sizes.clone().unwrap_or_else(|| alone.to_vec()),
            self.kea_sizes.clone().unwrap_or_else(|| in_kea.to_vec()),
        )
    }

    /// Whether a row is to be measured.
    fn wants(&self, row: Row) -> bool {
        self.only.is_empty() || self.only.contains(&row)
    }

    /// Whether one of the rows is.
    fn wants_any(&self, rows: &[Row]) -> bool {
        rows.iter().any(|row| self.wants(*row))
    }
}

fn main() -> ExitCode {
    let all: Vec<String> = env::args().collect();
    let done = match all.get(1).map(String::as_str) {
        Some(kealess::ARGUMENT) => kealess::run(&all[2..]),
        _ => compare(&Arguments::parse()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Measures everything that is wanted, and prints what comes of it even if not all of it can be.
fn compare(arguments: &Arguments) -> Result<()> {
    let extent = arguments.extent();
    let load = process::load();
    let mut report = Report::default();
    let done = measure(arguments, &extent, &mut report);
    println!(
        "{}; load {load} before, {} after\nKea {}, commit {}; {} leases in {} addresses, {} rounds, \
         medians\n",
        process::machine(),
        process::load(),
        kea_version(),
        arguments.commit,
        figures::number(extent.leases.count.into()),
        figures::number(extent.leases.pool.into()),
        extent.rounds
    );
    println!("{}", report.targets());
    if let Some(growth) = report.growth() {
        println!("\n{growth}");
    }
    done
}

/// Measures everything that is wanted.
fn measure(arguments: &Arguments, extent: &Extent, report: &mut Report) -> Result<()> {
    let wants = |row| arguments.wants(row);
    let (sizes, kea_sizes) = arguments.sizes();
    if arguments.wants_any(&[Row::Growth, Row::Delta, Row::Memory, Row::Changes]) {
        rows::alone::measure(&sizes, extent, wants, report)?;
    }
    let directory = tempfile::tempdir()?;
    if arguments.wants_any(&[
        Row::RelayId,
        Row::All,
        Row::Connections,
        Row::One,
        Row::Storm,
        Row::Stalled,
    ]) {
        with_both_hooks(arguments, extent, directory.path(), report)?;
    }
    if arguments.wants_any(&[Row::Memory, Row::Loading, Row::Service]) {
        with_and_without(extent, directory.path(), wants, true, report)?;
    }
    if arguments.wants(Row::Growth) {
        for count in kea_sizes {
            let extent = Extent {
                leases: Leases::new(count, extent.leases.pool),
                ..*extent
            };
            let wants = |row| matches!(row, Row::Memory | Row::Loading);
            with_and_without(&extent, directory.path(), wants, false, report)?;
        }
    }
    Ok(())
}

/// Measures what takes a Kea with both hooks.
fn with_both_hooks(
    arguments: &Arguments,
    extent: &Extent,
    directory: &Path,
    report: &mut Report,
) -> Result<()> {
    let wants = |row| arguments.wants(row);
    let file = lease_file(extent, directory)?;
    say("Kea with both hooks starts");
    let kea = keas::start(Hooks::Both, &extent.leases, &file);
    say(format!(
        "it took {}",
        figures::time(kea.start_time().as_secs_f64())
    ));
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

/// Measures what takes a Kea with our hook and one without; `is_target` if the targets are for so
/// many leases.
fn with_and_without(
    extent: &Extent,
    directory: &Path,
    wants: impl Fn(Row) -> bool,
    is_target: bool,
    report: &mut Report,
) -> Result<()> {
    let file = lease_file(extent, directory)?;
    say("Kea starts without the hook, and with it");
    let mut plain = keas::start(Hooks::None, &extent.leases, &file);
    keas::await_quiet(&plain)?;
    let mut hooked = keas::start(Hooks::Ours, &extent.leases, &file);
    if wants(Row::Memory) || wants(Row::Loading) {
        rows::startup::measure(&mut plain, &mut hooked, extent, &wants, is_target, report)?;
    }
    if wants(Row::Service) {
        rows::service::measure(&plain, &hooked, extent, report)?;
    }
    Ok(())
}

/// The file with the leases for Kea, written unless it is there.
fn lease_file(extent: &Extent, directory: &Path) -> Result<PathBuf> {
    let file = directory.join(format!("{}.csv", extent.leases.count));
    if !file.exists() {
        say(format!(
            "writing {} leases",
            figures::number(extent.leases.count.into())
        ));
        extent.leases.write(&file)?;
    }
    Ok(file)
}
