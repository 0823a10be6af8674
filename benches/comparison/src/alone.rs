//! The library without Kea: a mirror, an engine and a server, in a process of its own, so that its
//! memory is theirs alone.

use std::env;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use dhcp_blq::config::Config;
use dhcp_blq::mirror::Mirror;
use dhcp_blq::model::time::Time;
use dhcp_blq::query::lease_engine::LeaseEngine;
use dhcp_blq::server::Server;
use rustix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};

use crate::client::Result;
use crate::figures::rate;
use crate::measure::{self, Latency};
use crate::process;
use crate::support::leases::{Leases, Set};
use crate::support::mirror;

/// The first argument of this program for such a process.
pub const ARGUMENT: &str = "--library-alone";

/// The pause between changes that come alone: as many a second as a storm of renewals brings.
const PAUSE: Duration = Duration::from_micros(200);

// ----- The process ----------------------------------------------------------------------------

/// Loads the leases that its arguments name, serves them, and applies changes on demand until its
/// standard input ends.
pub fn run(arguments: &[String]) -> Result<()> {
    let [set, count, pool, now] = arguments else {
        return Err("a set and three numbers are needed".into());
    };
    let leases = Leases {
        set: Set::from_name(set).ok_or("no such set")?,
        count: count.parse()?,
        pool: pool.parse()?,
        now: now.parse()?,
    };
    let own = std::process::id();
    let before = process::memory(own)?;
    let (mirror, took) = mirror::load(&leases);
    let loaded = process::memory(own)?;
    mirror::churn(&mirror, &leases);
    let churned = process::memory(own)?;
    let mirror = Arc::new(mirror);
    let parameters = json!({
        "requesters": ["127.0.0.0/8"],
        "advanced": { "lease-query-ip": "127.0.0.1", "max-requester-connections": 1_000 },
    });
    let config = Config {
        port: 0,
        ..Config::parse(&parameters.to_string())?
    };
    let engine = Arc::new(LeaseEngine::new(Arc::clone(&mirror), None));
    let server = Server::start(&config, engine)?;
    let port = server
        .local_addresses()
        .first()
        .ok_or("no listener")?
        .port();
    answer(&json!({
        "port": port,
        "memory": loaded.saturating_sub(before),
        "churned memory": churned.saturating_sub(before),
        "rate": rate(leases.count.into(), took),
    }))?;
    for line in io::stdin().lines() {
        let applied = match line?.split_once(' ') {
            Some((count, pause)) => change(&mirror, &leases, count.parse()?, pause.parse()?),
            None => return Err("a number and a truth value are needed".into()),
        };
        let both = |latency: Latency| json!({ "p50": latency.p50, "p99": latency.p99 });
        answer(&json!({
            "latency": both(applied.latency),
            "processor": both(applied.processor),
        }))?;
    }
    Ok(())
}

/// Writes an answer to the process that started this one.
fn answer(answer: &Value) -> Result<()> {
    println!("{answer}");
    Ok(io::stdout().flush()?)
}

/// The time that changes take.
#[derive(Clone, Copy, Debug)]
pub struct Applied {
    /// By the clock.
    pub latency: Latency,
    /// Of it, the processor time of the thread: without waiting for the tables or a processor.
    pub processor: Latency,
}

/// Renews leases at random, one after another or with a pause after each.
fn change(mirror: &Mirror, leases: &Leases, count: u32, pause: bool) -> Applied {
    let mut times = Vec::new();
    let mut own_times = Vec::new();
    let reading = least_reading();
    for index in 0..count {
        let number = leases.scattered(index, |_| true);
        let event = mirror::renewal(leases, number, Time::now().0);
        let own = own_time();
        let began = Instant::now();
        mirror.queue().push(event);
        mirror.catch_up();
        times.push(began.elapsed().as_secs_f64());
        own_times.push((own_time() - own - reading).max(0.0));
        if pause {
            sleep(PAUSE);
        }
    }
    Applied {
        latency: Latency::of(&times),
        processor: Latency::of(&own_times),
    }
}

/// The least time that reading the thread's clock takes.
fn least_reading() -> f64 {
    let readings = (0..1_000).map(|_| {
        let before = own_time();
        own_time() - before
    });
    readings.fold(f64::INFINITY, f64::min)
}

/// The processor time of this thread so far, in seconds.
fn own_time() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9
}

// ----- The process that started it ------------------------------------------------------------

/// A running process.
#[derive(Debug)]
pub struct Alone {
    /// The process.
    process: Child,
    /// The standard input; `None` once the process is to end.
    orders: Option<ChildStdin>,
    /// The standard output.
    answers: BufReader<ChildStdout>,
    /// The server.
    pub server: measure::Server,
    /// Octets of memory that the leases take once loaded.
    pub memory: f64,
    /// Octets of memory after the churn.
    pub churned_memory: f64,
    /// Leases loaded a second.
    pub loading_rate: f64,
}

impl Alone {
    /// Starts a process of this program with leases, and waits until they are loaded and churned.
    pub fn start(leases: Leases) -> Result<Alone> {
        Alone::start_of(&env::current_exe()?, leases)
    }

    /// Starts a process of another build of this program.
    pub fn start_of(program: &Path, leases: Leases) -> Result<Alone> {
        let numbers = [leases.count, leases.pool, leases.now];
        let mut process = Command::new(program)
            .args([ARGUMENT, leases.set.name()])
            .args(numbers.map(|number| number.to_string()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let orders = process.stdin.take();
        let mut answers = BufReader::new(process.stdout.take().ok_or("no standard output")?);
        let loaded = next_answer(&mut answers)?;
        let port = loaded["port"]
            .as_u64()
            .and_then(|port| u16::try_from(port).ok());
        let address = SocketAddrV4::new(Ipv4Addr::LOCALHOST, port.ok_or("no port")?);
        let figure = |name: &str| {
            let figure = loaded[name].as_f64();
            figure.ok_or_else(|| format!("no {name} in {loaded}"))
        };
        Ok(Alone {
            process,
            orders,
            answers,
            server: measure::Server { address, leases },
            memory: figure("memory")?,
            churned_memory: figure("churned memory")?,
            loading_rate: figure("rate")?,
        })
    }

    /// Changes leases, one after another or with a pause after each.
    pub fn change(&mut self, count: u32, pause: bool) -> Result<Applied> {
        let orders = self.orders.as_mut().ok_or("the process has ended")?;
        writeln!(orders, "{count} {pause}")?;
        orders.flush()?;
        let answer = next_answer(&mut self.answers)?;
        let both = |of: &str| -> Result<Latency> {
            Ok(Latency {
                p50: answer[of]["p50"].as_f64().ok_or("no median")?,
                p99: answer[of]["p99"].as_f64().ok_or("no percentile")?,
            })
        };
        Ok(Applied {
            latency: both("latency")?,
            processor: both("processor")?,
        })
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        self.orders = None;
        // The process ends with its standard input, unless it has ended before.
        let _ = self.process.wait();
    }
}

/// The next answer of such a process.
fn next_answer(from: &mut BufReader<ChildStdout>) -> Result<Value> {
    let mut line = String::new();
    from.read_line(&mut line)?;
    Ok(serde_json::from_str(&line)?)
}
