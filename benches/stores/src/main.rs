//! Compares embedded stores by the demands of the state file: `benches/README.md` has the results, and the
//! decisions that follow.
//!
//! `stores [--seconds N] [--directory PATH] [NAME...]` measures each candidate in processes of
//! its own: filling it with 1,000,000 bindings; changing them at random as fast as it can; then
//! 5,000 a second, each fifth of a second's in one transaction; and opening it after it was killed.

mod candidates;
mod counters;
mod damage;

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;
use std::time::{Duration, Instant};
use std::{env, fs};

use candidates::{Candidate, Kind, Result, Value};
use counters::Counters;
use dhcp_blq::model::binding::{Binding, SubnetId};
use dhcp_blq::model::address::HardwareAddress;
use dhcp_blq::model::state::State;
use dhcp_blq::model::client::{Client, ClientParts};
use dhcp_blq::mirror::event::{Lease, LeaseState};
use dhcp_blq::mirror::{InitialLoad, Saved};
use dhcp_blq::kea_config::KeaConfig;
use dhcp_blq::model::time::{Lifetime, Time};

/// Addresses stored.
const ADDRESSES: u32 = 1_000_000;
/// Addresses in one transaction of the first fill.
const FILL_BATCH: u32 = 10_000;
/// Changes in one transaction.
const BATCH: usize = 1_000;
/// From one transaction to the next.
const PERIOD: Duration = Duration::from_millis(200);
/// How long changes are made as fast as they can be.
const FLAT_OUT: Duration = Duration::from_secs(10);

/// A client's MAC address.
fn hardware(number: u32) -> HardwareAddress {
    HardwareAddress {
        htype: 1,
        octets: [&[2, 0], &number.to_be_bytes()[..]].concat(),
    }
}

/// A binding as the mirror makes it of a lease.
static USUAL: LazyLock<Binding> = LazyLock::new(|| {
    let lease = Lease {
        address: Ipv4Addr::LOCALHOST,
        state: LeaseState::Default,
        cltt: Time(1_700_000_000),
        valid_lifetime: Lifetime(86_400),
        subnet: SubnetId(1),
        hardware: hardware(0),
        client_id: Vec::new(),
        hostname: Vec::new(),
        relay_agent_information: None,
    };
    let mut initial_load = InitialLoad::begin(KeaConfig::default().into(), Saved::default(), lease.cltt);
    initial_load.lease(&lease);
    let binding = initial_load.finish().binding(lease.address);
    binding.expect("what was loaded")
});

/// A binding as the state file holds it, of one of 1,000,000 addresses behind ten relays.
fn value(number: u32, since: u32) -> Value {
    let mut information = vec![12, 8, 0, 0, 0, 0, 0, 0, 0, (number / 100_000) as u8, 2, 28];
    information.extend(format!("line {number:023}").into_bytes());
    let address = 0x0a00_0000 + number;
    let binding = Binding {
        address: Ipv4Addr::from_bits(address),
        state: if since.is_multiple_of(2) {
            State::Active
        } else {
            State::Released
        },
        since: Time(1_700_000_000 + since),
        last_transaction: Some(Time(1_700_000_000 + since)),
        client: Some(Client::from(&ClientParts {
            htype: 1,
            chaddr: &[&[2, 0], &number.to_be_bytes()[..]].concat(),
            client_id: &[&[1, 2, 0], &number.to_be_bytes()[..]].concat(),
            relay_agent_information: &information,
            hostname: format!("cpe-{number}.example.net").as_bytes(),
            ..ClientParts::default()
        })),
        ..USUAL.clone()
    };
    Value {
        address,
        encoded: postcard::to_stdvec(&binding).expect("encoding to memory"),
        binding,
    }
}

/// Numbers without a pattern that a store could use; the same in each measurement.
struct Random(u64);

impl Random {
    /// The next one, below `bound`.
    fn below(&mut self, bound: u32) -> u32 {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed >> 33) % u64::from(bound)) as u32
    }
}

/// Writes one transaction of random changes; returns how many octets of keys and values changed.
fn change(store: &mut dyn Candidate, random: &mut Random, since: u32) -> Result<u64> {
    // In the order of addresses, each once, as the writer does.
    let numbers: BTreeSet<u32> = (0..BATCH).map(|_| random.below(ADDRESSES)).collect();
    let values: Vec<Value> = numbers
        .into_iter()
        .map(|number| value(number, since))
        .collect();
    store.write(Kind::Change, &values)?;
    Ok(values
        .iter()
        .map(|value| 4 + value.encoded.len() as u64)
        .sum())
}

/// In a child process: fills a new store.
fn fill(name: &str, path: &Path) -> Result<()> {
    let mut store = candidates::open(name, path)?;
    let started = Instant::now();
    for first in (0..ADDRESSES).step_by(FILL_BATCH as usize) {
        let values: Vec<Value> = (first..first + FILL_BATCH)
            .map(|number| value(number, 0))
            .collect();
        store.write(Kind::Fill, &values)?;
    }
    report("fill s", started.elapsed().as_secs_f64());
    drop(store);
    report(
        "peak fill memory MB",
        counters::memory("VmHWM:")? as f64 / 1e6,
    );
    Ok(())
}

/// In a child process: changes the values of a store, flat out and at the given rate, until killed.
fn run(name: &str, path: &Path, time: Duration) -> Result<()> {
    let mut store = candidates::open(name, path)?;
    let mut random = Random(1);
    let mut since = 0;
    let mut octets = 0;
    let first = Counters::now()?;
    let started = Instant::now();
    while started.elapsed() < FLAT_OUT {
        since += 1;
        octets += change(&mut *store, &mut random, since)?;
    }
    let seconds = started.elapsed().as_secs_f64();
    report("most changes/s", f64::from(since) * BATCH as f64 / seconds);

    let before = Counters::now()?;
    let started = Instant::now();
    let mut transactions = 0;
    let mut slowest = Duration::ZERO;
    let mut busy = Duration::ZERO;
    while started.elapsed() < time {
        transactions += 1;
        let began = Instant::now();
        octets += change(&mut *store, &mut random, since + transactions)?;
        slowest = slowest.max(began.elapsed());
        busy += began.elapsed();
        let next = started + PERIOD * transactions;
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    let seconds = started.elapsed().as_secs_f64();
    let after = Counters::now()?;
    since += transactions;
    let written = (after.written - before.written) as f64;
    report(
        "changes/s",
        f64::from(transactions) * BATCH as f64 / seconds,
    );
    report(
        "transaction ms",
        busy.as_secs_f64() * 1e3 / f64::from(transactions),
    );
    report("slowest ms", slowest.as_secs_f64() * 1e3);
    report("written MB/s", written / seconds / 1e6);
    // Of all changes: some stores gather work and do it later, all at once.
    let written = (after.written - first.written) as f64;
    report("amplification", written / octets as f64);
    let syncs = (after.syncs - before.syncs) as f64;
    report("syncs/transaction", syncs / f64::from(transactions));
    report("memory MB", counters::memory("VmRSS:")? as f64 / 1e6);
    report("ready", 0.0);
    loop {
        since += 1;
        change(&mut *store, &mut random, since)?;
    }
}

/// In a child process: opens a store and reads all of it.
fn read(name: &str, path: &Path, what: &str) -> Result<()> {
    let started = Instant::now();
    let store = candidates::open(name, path)?;
    let opened = started.elapsed();
    let mut count = 0;
    store.read_all(&mut |binding| {
        std::hint::black_box(binding);
        count += 1;
    })?;
    if count != ADDRESSES {
        return Err(format!("{count} values are left").into());
    }
    report(&format!("open {what} s"), opened.as_secs_f64());
    report(
        &format!("open and read {what} s"),
        started.elapsed().as_secs_f64(),
    );
    drop(store);
    Ok(())
}

/// Reports a figure to the parent.
fn report(name: &str, figure: f64) {
    println!("{name}\t{figure}");
    std::io::stdout().flush().expect("standard output");
}

/// Runs a part of a measurement in a process of its own; returns its reports. A process that reports
/// that it is ready is killed then.
fn child(arguments: &[&str]) -> Result<Vec<(String, f64)>> {
    let mut process = Command::new(env::current_exe()?)
        .arg("--child")
        .args(arguments)
        .stdout(Stdio::piped())
        .spawn()?;
    let mut figures = Vec::new();
    let output = process.stdout.take().ok_or("no standard output")?;
    for line in BufReader::new(output).lines() {
        let line = line?;
        let (name, figure) = line.split_once('\t').ok_or("not a figure")?;
        if name == "ready" {
            // Somewhere in a transaction.
            std::thread::sleep(Duration::from_millis(137));
            process.kill()?;
            process.wait()?;
            return Ok(figures);
        }
        figures.push((name.to_owned(), figure.parse()?));
    }
    if !process.wait()?.success() {
        return Err(format!("{arguments:?} failed").into());
    }
    Ok(figures)
}

/// Measures one candidate.
fn measure(name: &str, directory: &Path, seconds: u64) -> Result<Vec<(String, f64)>> {
    let directory = directory.join(format!("stores-{name}"));
    let _ = fs::remove_dir_all(&directory);
    fs::create_dir_all(&directory)?;
    let path = directory.join("store");
    let path = path.to_str().ok_or("not a path in UTF-8")?;
    let seconds = seconds.to_string();
    let mut figures = child(&["fill", name, path])?;
    figures.push((
        "file MB, filled".into(),
        counters::octets_on_disk(&directory)? as f64 / 1e6,
    ));
    figures.extend(damage::measure(name, &directory)?);
    figures.extend(child(&["run", name, path, &seconds])?);
    figures.push((
        "file MB, then".into(),
        counters::octets_on_disk(&directory)? as f64 / 1e6,
    ));
    figures.extend(child(&["read", name, path, "after kill -9"])?);
    figures.extend(child(&["read", name, path, "after a close"])?);
    fs::remove_dir_all(&directory)?;
    Ok(figures)
}

fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["--child", "fill", name, path] => return fill(name, path.as_ref()),
        ["--child", "run", name, path, seconds] => {
            return run(name, path.as_ref(), Duration::from_secs(seconds.parse()?));
        }
        ["--child", "damaged", name, path] => return damage::read(name, path.as_ref()),
        ["--child", "read", name, path, what] => return read(name, path.as_ref(), what),
        _ => {}
    }
    let mut names = Vec::new();
    let mut seconds = 60;
    let mut directory = env::temp_dir();
    let mut arguments = arguments.into_iter();
    while let Some(argument) = arguments.next() {
        match argument {
            "--seconds" => seconds = arguments.next().ok_or("--seconds N")?.parse()?,
            "--directory" => directory = PathBuf::from(arguments.next().ok_or("--directory PATH")?),
            name => names.push(name),
        }
    }
    if names.is_empty() {
        names.extend(candidates::NAMES);
    }
    println!("a value: {} octets", value(123_456, 1).encoded.len());
    for name in names {
        println!("\n{name}");
        for (figure, value) in measure(name, &directory, seconds)? {
            println!("{figure:>32} {value:10.2}");
        }
    }
    Ok(())
}
