//! The library without Kea: a mirror, an engine and a server, in a process of its own whose
//! memory is theirs alone.

use std::env;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use dhcp_blq::config::Config;
use dhcp_blq::kea_config::KeaConfig;
use dhcp_blq::mirror::event::{ClientInfo, Event};
use dhcp_blq::mirror::{InitialLoad, Mirror, Saved};
use dhcp_blq::model::time::Time;
use dhcp_blq::query::lease_engine::LeaseEngine;
use dhcp_blq::server::Server;
use rustix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};

use crate::client::Result;
use crate::figures::rate;
use crate::leases::{Leases, SUBNET};
use crate::measure::{self, Latency};
use crate::process;

/// The first argument of this program when it is to be such a process.
pub const ARGUMENT: &str = "--library-alone";

/// Leases made at a time, so that making them is not counted as loading them.
const BATCH: u32 = 10_000;

/// From one change to the next when they come by themselves: as many a second as a storm of
/// renewals may bring.
const PAUSE: Duration = Duration::from_micros(200);

// ----- The process ----------------------------------------------------------------------------

/// Loads the leases its arguments tell of, serves them, and does what it is told to on standard
/// input, until that ends.
pub fn run(arguments: &[String]) -> Result<()> {
    let [count, pool, now] = arguments else {
        return Err("three numbers are needed".into());
    };
    let leases = Leases {
        count: count.parse()?,
        pool: pool.parse()?,
        now: now.parse()?,
    };
    let own = std::process::id();
    let before = process::memory(own)?;
    let (mirror, took) = load(&leases)?;
    let after = process::memory(own)?;
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
    tell(&json!({
        "port": port,
        "memory": after.saturating_sub(before),
        "rate": rate(leases.count.into(), took),
    }))?;
    for line in io::stdin().lines() {
        let applied = match line?.split_once(' ') {
            Some((count, pause)) => change(&mirror, &leases, count.parse()?, pause.parse()?),
            None => return Err("a number and a truth value are needed".into()),
        };
        let both = |latency: Latency| json!({ "p50": latency.p50, "p99": latency.p99 });
        tell(&json!({ "latency": both(applied.latency), "processor": both(applied.processor) }))?;
    }
    Ok(())
}

/// Says something to the process that started this one.
fn tell(what: &Value) -> Result<()> {
    println!("{what}");
    Ok(io::stdout().flush()?)
}

/// Loads the mirror as at start-up; how long that took.
fn load(leases: &Leases) -> Result<(Mirror, Duration)> {
    let configuration = json!({ "Dhcp4": { "subnet4": [
        { "id": 1, "subnet": SUBNET, "pools": [ { "pool": leases.pool_range() } ] },
    ] } });
    let network = KeaConfig::from_json(&configuration.to_string(), Vec::new())?;
    let mut initial_load = InitialLoad::begin(Arc::new(network), Saved::default(), Time::now());
    let mut took = Duration::ZERO;
    for first in (0..leases.count).step_by(BATCH as usize) {
        let numbers = first..leases.count.min(first + BATCH);
        let batch: Vec<_> = numbers.map(|number| leases.lease(number)).collect();
        let began = Instant::now();
        for lease in &batch {
            initial_load.lease(lease);
        }
        took += began.elapsed();
    }
    let began = Instant::now();
    let mirror = initial_load.finish();
    Ok((mirror, took + began.elapsed()))
}

/// How long it took to apply changes.
#[derive(Clone, Copy, Debug)]
pub struct Applied {
    /// By the clock.
    pub latency: Latency,
    /// Of it, what the thread itself ran: all but waiting, for the tables or for a processor.
    pub processor: Latency,
}

/// Renews leases here and there, as Kea tells of it, one after another or with a pause after each;
/// how long each took to be applied.
fn change(mirror: &Mirror, leases: &Leases, count: u32, pause: bool) -> Applied {
    let mut times = Vec::new();
    let mut own_times = Vec::new();
    let reading = least_reading();
    for index in 0..count {
        let number = u64::from(index) * 104_729 % u64::from(leases.count);
        let mut lease = leases.lease(number as u32);
        lease.cltt = Time::now();
        let client_info = ClientInfo {
            relay_agent_information: lease.relay_agent_information.clone(),
            ..ClientInfo::default()
        };
        let own = own_time();
        let began = Instant::now();
        mirror.queue().push(Event::Committed { lease, client_info });
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

/// What it takes to read that clock, at least.
fn least_reading() -> f64 {
    let readings = (0..1_000).map(|_| {
        let before = own_time();
        own_time() - before
    });
    readings.fold(f64::INFINITY, f64::min)
}

/// What this thread has run so far, in seconds.
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
    /// Where it is told what to do; `None` once it is to end.
    orders: Option<ChildStdin>,
    /// What it says.
    answers: BufReader<ChildStdout>,
    /// Its server.
    pub server: measure::Server,
    /// Octets that the leases take in memory.
    pub memory: f64,
    /// Leases loaded a second.
    pub loading_rate: f64,
}

impl Alone {
    /// Starts a process with leases, and waits until they are loaded.
    pub fn start(leases: Leases) -> Result<Alone> {
        let numbers = [leases.count, leases.pool, leases.now];
        let mut process = Command::new(env::current_exe()?)
            .arg(ARGUMENT)
            .args(numbers.map(|number| number.to_string()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let orders = process.stdin.take();
        let mut answers = BufReader::new(process.stdout.take().ok_or("no standard output")?);
        let loaded = hear(&mut answers)?;
        let port = loaded["port"]
            .as_u64()
            .and_then(|port| u16::try_from(port).ok());
        let address = SocketAddrV4::new(Ipv4Addr::LOCALHOST, port.ok_or("no port")?);
        Ok(Alone {
            process,
            orders,
            answers,
            server: measure::Server { address, leases },
            memory: loaded["memory"].as_f64().ok_or("no memory")?,
            loading_rate: loaded["rate"].as_f64().ok_or("no rate")?,
        })
    }

    /// Has leases changed, one after another or with a pause after each; how long each took to be
    /// applied.
    pub fn change(&mut self, count: u32, pause: bool) -> Result<Applied> {
        let orders = self.orders.as_mut().ok_or("it has ended")?;
        writeln!(orders, "{count} {pause}")?;
        orders.flush()?;
        let answer = hear(&mut self.answers)?;
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
        // It ends by itself, unless it has before.
        let _ = self.process.wait();
    }
}

/// The next thing such a process says.
fn hear(from: &mut BufReader<ChildStdout>) -> Result<Value> {
    let mut line = String::new();
    from.read_line(&mut line)?;
    Ok(serde_json::from_str(&line)?)
}
