//! The library without Kea: a mirror, an engine and a server, in a process of its own, so that its
//! memory is theirs alone.

use std::collections::HashMap;
use std::env;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::num::NonZeroU32;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::thread::{sleep, yield_now};
use std::time::{Duration, Instant};

use dhcp_blq::config::Config;
use dhcp_blq::mirror::Mirror;
use dhcp_blq::mirror::apply_worker::ApplyWorker;
use dhcp_blq::mirror::event::Event;
use dhcp_blq::model::time::Time;
use dhcp_blq::query::active::Permission;
use dhcp_blq::query::lease_engine::LeaseEngine;
use dhcp_blq::server::Server;
use rustix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};

use crate::client::Result;
use crate::figures::rate;
use crate::measure::{self, Latency};
use crate::process::{self, monotonic};
use crate::support::leases::{Leases, Set};
use crate::support::mirror;
use crate::tls::{self, Credentials};

/// The first argument of this program for such a process.
pub const ARGUMENT: &str = "--library-alone";

/// The pause between changes that come alone: as many a second as a storm of renewals brings.
const PAUSE: Duration = Duration::from_micros(200);

/// The most events that wait for the apply worker: a part of what the queue holds.
const QUEUED: usize = 16_384;

/// Longer than a second of any clock.
const SECOND: Duration = Duration::from_millis(1_100);

// ----- The process ----------------------------------------------------------------------------

/// Loads the leases that its arguments name, serves them, and applies changes on demand until its
/// standard input ends. A fifth argument is the directory of the server's files for TLS.
pub fn run(arguments: &[String]) -> Result<()> {
    let [set, count, pool, now, files @ ..] = arguments else {
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
    let mut advanced = json!({
        "lease-query-ip": "127.0.0.1",
        "max-requester-connections": 1_000,
        "active-query-enabled": true,
        "active-query-insecure": true,
        "max-active-connections": 1_000,
        // Longer than the requesters that read nothing are measured.
        "active-send-timeout": 3_600,
    });
    for (parameter, file) in files
        .iter()
        .flat_map(|files| tls::parameters(Path::new(files)))
    {
        advanced[parameter] = file;
    }
    let parameters = json!({ "requesters": ["127.0.0.0/8"], "advanced": advanced });
    let config = Config {
        port: 0,
        ..Config::parse(&parameters.to_string())?
    };
    let permission = config.active.as_ref().map(|active| Permission {
        is_insecure: active.is_insecure,
        history: active.history.map(NonZeroU32::get),
    });
    let engine = LeaseEngine::new(Arc::clone(&mirror), None).with_active(permission);
    let server = Server::start(&config, Arc::new(engine))?;
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
    let mut pusher = Pusher {
        mirror: &mirror,
        leases,
        worker: None,
        next: 0,
    };
    for line in io::stdin().lines() {
        let line = line?;
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            [PUSH, count, rate] => answer(&pusher.push(count.parse()?, rate.parse()?)?)?,
            [count, pause] => {
                let applied = change(&mirror, &leases, count.parse()?, pause.parse()?);
                let both = |latency: Latency| json!({ "p50": latency.p50, "p99": latency.p99 });
                answer(&json!({
                    "latency": both(applied.latency),
                    "processor": both(applied.processor),
                }))?;
            }
            _ => return Err(format!("unknown order: {line}").into()),
        }
    }
    Ok(())
}

/// The first word of the order to push events: then their number, and how many a second or 0.
const PUSH: &str = "push";

/// Pushes events as Kea's threads do: the apply worker applies them.
struct Pusher<'a> {
    /// The mirror.
    mirror: &'a Arc<Mirror>,
    /// The leases.
    leases: Leases,
    /// The apply worker, once events were pushed. A mirror has only one.
    worker: Option<ApplyWorker>,
    /// The position of the next lease in the random order.
    next: u32,
}

impl Pusher<'_> {
    /// Renews `count` leases, at a rate or as fast as they are applied, and waits until all are applied.
    fn push(&mut self, count: u32, rate: u32) -> Result<Value> {
        if self.worker.is_none() {
            let lost = || eprintln!("error: events were lost");
            let worker = ApplyWorker::start(Arc::clone(self.mirror), || {}, lost)?;
            self.worker = Some(worker);
        }
        let queue = self.mirror.queue();
        let renewals = self.renewals(count);
        let mut sum = 0_u64;
        let mut pushes = Vec::new();
        let began = Instant::now();
        let first = monotonic();
        for (index, (address, event)) in (0..).zip(renewals) {
            sum += u64::from(address);
            if rate > 0 {
                let due = began + Duration::from_secs(1) * index / rate;
                sleep(due.saturating_duration_since(Instant::now()));
                pushes.push((address, monotonic()));
            } else {
                while queue.len() >= QUEUED {
                    yield_now();
                }
            }
            queue.push(event);
        }
        let last = monotonic();
        while !queue.is_empty() {
            sleep(PAUSE);
        }
        Ok(json!({ "first": first, "last": last, "sum": sum, "pushes": pushes }))
    }

    /// The next renewals in random order, each of another lease, with their addresses.
    fn renewals(&mut self, count: u32) -> Vec<(u32, Event)> {
        let leases = self.leases;
        let mut renewals = Vec::new();
        while renewals.len() < count as usize {
            if self.next == leases.count {
                self.next = 0;
                // A lease that is renewed again in the same second does not change.
                sleep(SECOND);
            }
            for change in leases.changes(self.next..self.next + 1) {
                self.next += 1;
                if leases.fate(change.number).is_active() {
                    let event = mirror::renewal(&leases, change.number, Time::now().0);
                    renewals.push((leases.address(change.number).to_bits(), event));
                }
            }
        }
        renewals
    }
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

/// Events that were pushed. Times are those of [`monotonic`].
#[derive(Clone, Debug)]
pub struct Pushed {
    /// When the first one was pushed.
    pub first: f64,
    /// When the last one was.
    pub last: f64,
    /// The sum of the addresses.
    pub sum: u64,
    /// When that of each address was pushed, if they came at a rate.
    pub pushes: HashMap<u32, f64>,
}

impl Alone {
    /// Starts a process of this program with leases, and waits until they are loaded and churned.
    pub fn start(leases: Leases) -> Result<Alone> {
        Alone::start_of(&env::current_exe()?, leases)
    }

    /// Starts a process of another build of this program.
    pub fn start_of(program: &Path, leases: Leases) -> Result<Alone> {
        Alone::start_with(program, leases, None)
    }

    /// Starts a process of this program that also serves connections secured by TLS.
    pub fn start_secured(leases: Leases, credentials: &Credentials) -> Result<Alone> {
        Alone::start_with(&env::current_exe()?, leases, Some(credentials.directory()))
    }

    /// Starts a process, with a directory of files for TLS.
    fn start_with(program: &Path, leases: Leases, files: Option<&Path>) -> Result<Alone> {
        let numbers = [leases.count, leases.pool, leases.now];
        let mut process = Command::new(program)
            .args([ARGUMENT, leases.set.name()])
            .args(numbers.map(|number| number.to_string()))
            .args(files)
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

    /// Pushes renewals of `count` leases as Kea's threads do, `rate` a second or, if it is 0, as fast as they are
    /// applied, and waits until they are applied. At the end of the random order of leases it begins again.
    pub fn push(&mut self, count: u32, rate: u32) -> Result<Pushed> {
        let orders = self.orders.as_mut().ok_or("the process has ended")?;
        writeln!(orders, "{PUSH} {count} {rate}")?;
        orders.flush()?;
        let answer = next_answer(&mut self.answers)?;
        let time = |name: &str| answer[name].as_f64().ok_or("no time of a push");
        Ok(Pushed {
            first: time("first")?,
            last: time("last")?,
            sum: answer["sum"].as_u64().ok_or("no sum of addresses")?,
            pushes: serde_json::from_value::<Vec<_>>(answer["pushes"].clone())?
                .into_iter()
                .collect(),
        })
    }

    /// The id of the process.
    pub fn pid(&self) -> u32 {
        self.process.id()
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
