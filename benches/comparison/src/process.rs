//! Figures of the system about processes and sockets.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddrV4;
use std::time::{Duration, Instant};

use rustix::param::{clock_ticks_per_second, page_size};
use rustix::time::{ClockId, clock_gettime};

use crate::client::Result;

/// A value that has not changed for this time is settled.
const SETTLED: Duration = Duration::from_secs(2);

/// The time between two readings of it.
const INTERVAL: Duration = Duration::from_millis(200);

/// The longest time until it settles.
const PATIENCE: Duration = Duration::from_secs(600);

/// The time by a clock that all processes share, in seconds.
pub fn monotonic() -> f64 {
    let time = clock_gettime(ClockId::Monotonic);
    time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9
}

/// The resident memory of a process, in octets.
pub fn memory(pid: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    Ok(1024 * number_after(&status, "VmRSS:")?)
}

/// Octets that a process has given the system to write.
pub fn written(pid: u32) -> Result<u64> {
    let counters = fs::read_to_string(format!("/proc/{pid}/io"))?;
    number_after(&counters, "wchar:")
}

/// The processor time of a process, in seconds.
pub fn processor_time(pid: u32) -> Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name, in parentheses, may contain spaces and parentheses.
    let (_, after) = stat.rsplit_once(')').ok_or("no name in stat")?;
    let times = after.split_whitespace().skip(11).take(2);
    let ticks: u64 = times.map(|ticks| ticks.parse::<u64>().unwrap_or(0)).sum();
    Ok(ticks as f64 / clock_ticks_per_second() as f64)
}

/// The beginning of the names of the hook's threads.
const HOOK_THREADS: &str = "blq-";

/// The processor time of a Kea, in seconds.
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    /// Of the process: user and system time of all threads.
    pub process: f64,
    /// Of Kea's own threads: the share of the process, by the scheduler's statistics.
    pub kea: f64,
    /// Of the hook's threads, likewise.
    pub hook: f64,
}

/// The processor time of a Kea at one moment.
#[derive(Clone, Debug)]
pub struct Reading {
    /// Of the process, in seconds.
    process: f64,
    /// Of each thread: whether it is the hook's, and its time in seconds.
    threads: BTreeMap<u32, (bool, f64)>,
}

impl Reading {
    /// Reads the processor time of a process and of its threads.
    pub fn of(pid: u32) -> Result<Reading> {
        let mut threads = BTreeMap::new();
        for entry in fs::read_dir(format!("/proc/{pid}/task"))? {
            let directory = entry?.path();
            let id = directory.file_name().and_then(|name| name.to_str());
            let id: u32 = id.unwrap_or_default().parse()?;
            // A thread may end meanwhile.
            let Ok(name) = fs::read_to_string(directory.join("comm")) else {
                continue;
            };
            let Ok(statistics) = fs::read_to_string(directory.join("schedstat")) else {
                continue;
            };
            let nanoseconds = statistics.split_whitespace().next().unwrap_or_default();
            let time = nanoseconds.parse::<u64>()? as f64 * 1e-9;
            threads.insert(id, (name.starts_with(HOOK_THREADS), time));
        }
        Ok(Reading {
            process: processor_time(pid)?,
            threads,
        })
    }

    /// The processor time since an earlier reading.
    pub fn since(&self, before: &Reading) -> Usage {
        let of = |is_hook: bool| -> f64 {
            let threads = self.threads.iter();
            let threads = threads.filter(|(_, (hook, _))| *hook == is_hook);
            let times = threads.map(|(id, (_, time))| {
                let earlier = before.threads.get(id).map_or(0.0, |(_, time)| *time);
                time - earlier
            });
            times.sum()
        };
        Usage {
            process: self.process - before.process,
            kea: of(false),
            hook: of(true),
        }
    }
}

/// Memory of the TCP sockets of the machine, in octets.
pub fn tcp_memory() -> Result<u64> {
    let counters = fs::read_to_string("/proc/net/sockstat")?;
    let tcp = counters.lines().find(|line| line.starts_with("TCP:"));
    let pages = number_after(tcp.unwrap_or_default(), " mem")?;
    Ok(pages * page_size() as u64)
}

/// Octets not sent or not acknowledged yet of all connections of a listening address and port.
pub fn unacknowledged(local: SocketAddrV4) -> Result<u64> {
    let table = fs::read_to_string("/proc/net/tcp")?;
    let address = u32::from_ne_bytes(local.ip().octets());
    let local = format!("{address:08X}:{:04X}", local.port());
    let rows = table.lines().map(|row| row.split_whitespace());
    let queues = rows.filter_map(|mut fields| {
        fields.nth(1).filter(|own| *own == local)?;
        let (unacknowledged, _) = fields.nth(2)?.split_once(':')?;
        u64::from_str_radix(unacknowledged, 16).ok()
    });
    Ok(queues.sum())
}

/// Waits until a value has settled, and returns it.
pub fn settled<T: PartialEq>(mut read: impl FnMut() -> Result<T>) -> Result<T> {
    let deadline = Instant::now() + PATIENCE;
    let mut value = read()?;
    let mut since = Instant::now();
    while since.elapsed() < SETTLED {
        if Instant::now() > deadline {
            return Err("a value does not settle".into());
        }
        std::thread::sleep(INTERVAL);
        let now = read()?;
        if now != value {
            value = now;
            since = Instant::now();
        }
    }
    Ok(value)
}

/// The processors and the kernel.
pub fn machine() -> String {
    let processors = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let models: Vec<&str> = processors
        .lines()
        .filter_map(|line| line.strip_prefix("model name"))
        .map(|rest| rest.trim_start_matches([' ', '\t', ':']))
        .collect();
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!(
        "{} × {}, Linux {}",
        models.len(),
        models.first().unwrap_or(&"unknown processor"),
        kernel.trim()
    )
}

/// The load average of the last minute.
pub fn load() -> String {
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    load.split(' ').next().unwrap_or_default().to_owned()
}

/// The number after a word.
fn number_after(text: &str, word: &str) -> Result<u64> {
    let (_, after) = text
        .split_once(word)
        .ok_or_else(|| format!("no {word} in {text}"))?;
    let number = after.split_whitespace().next().unwrap_or_default();
    Ok(number.parse()?)
}
