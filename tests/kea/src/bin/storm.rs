//! Runs a storm: random actions on a real Kea with the hook, whose answers are compared with Kea's
//! leases. The seed is printed; the same seed repeats the actions.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use kea_tests::storm::{Options, storm};

/// Runs a storm on a Kea of its own
#[derive(Parser)]
struct Arguments {
    /// Seed of the random actions; random by default
    #[arg(long)]
    seed: Option<u64>,
    /// Duration, e.g. 60s, 30m
    #[arg(long, default_value = "60s", value_parser = duration)]
    duration: Duration,
    /// Number of clients
    #[arg(long, default_value_t = 300)]
    clients: usize,
    /// Highest number of messages in flight
    #[arg(long, default_value_t = 16)]
    width: usize,
    /// Runs Kea with several threads
    #[arg(long)]
    multi_threading: bool,
    /// Continues after faults
    #[arg(long = "continue")]
    continues: bool,
    /// Reports faults that a repeated comparison did not confirm
    #[arg(long)]
    report_late: bool,
    /// Server actions to leave out, by parts of their names, e.g. Kill,Subnet
    #[arg(long, value_delimiter = ',')]
    without: Vec<String>,
}

/// Reads a duration.
fn duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = text.split_at(text.len().saturating_sub(1));
    let number: u64 = number
        .parse()
        .map_err(|_| "a number and s, m or h".to_owned())?;
    let seconds = match unit {
        "s" => number,
        "m" => number * 60,
        "h" => number * 3600,
        _ => return Err("s, m or h after the number".to_owned()),
    };
    Ok(Duration::from_secs(seconds))
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let seed = arguments
        .seed
        .unwrap_or_else(|| RandomState::new().hash_one(0_u8) >> 32);
    let mode = if arguments.multi_threading {
        "multi"
    } else {
        "single"
    };
    let version = kea_tests::kea_version();
    println!("storm of seed {seed} on Kea {version}, {mode}-threaded");
    let options = Options {
        clients: arguments.clients,
        width: arguments.width,
        multi_threading: arguments.multi_threading,
        continues: arguments.continues,
        reports_late: arguments.report_late,
        without: arguments.without,
        ..Options::new(seed, arguments.duration)
    };
    match storm(options, &mut |line| println!("{line}")) {
        Ok(summary) => {
            println!("PASSED, seed {seed}: {summary}");
            ExitCode::SUCCESS
        }
        Err(failure) => {
            println!("{failure}\nFAILED, seed {seed}");
            ExitCode::FAILURE
        }
    }
}
