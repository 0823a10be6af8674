//! What the system says about processes and sockets.

use std::fs;
use std::net::SocketAddrV4;
use std::time::{Duration, Instant};

use rustix::param::{clock_ticks_per_second, page_size};

use crate::client::Result;

/// How long something must not change to be taken as settled.
const SETTLED: Duration = Duration::from_secs(2);

/// How often that is looked at.
const INTERVAL: Duration = Duration::from_millis(200);

/// How long it may take to settle.
const PATIENCE: Duration = Duration::from_secs(600);

/// The resident memory of a process, in octets.
pub fn memory(pid: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    Ok(1024 * number_after(&status, "VmRSS:")?)
}

/// Octets a process has given the system to write, in all.
pub fn written(pid: u32) -> Result<u64> {
    let counters = fs::read_to_string(format!("/proc/{pid}/io"))?;
    number_after(&counters, "wchar:")
}

/// The processor time of a process, in seconds.
pub fn processor_time(pid: u32) -> Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name, in parentheses, may hold anything.
    let (_, after) = stat.rsplit_once(')').ok_or("no name in stat")?;
    let times = after.split_whitespace().skip(11).take(2);
    let ticks: u64 = times.map(|ticks| ticks.parse::<u64>().unwrap_or(0)).sum();
    Ok(ticks as f64 / clock_ticks_per_second() as f64)
}

/// Memory that TCP has in use, of all sockets of the machine, in octets.
pub fn tcp_memory() -> Result<u64> {
    let counters = fs::read_to_string("/proc/net/sockstat")?;
    let tcp = counters.lines().find(|line| line.starts_with("TCP:"));
    let pages = number_after(tcp.unwrap_or_default(), " mem")?;
    Ok(pages * page_size() as u64)
}

/// Octets that are sent from a listening address and port and not acknowledged, or are not sent
/// yet: all its connections together.
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

/// Waits until a value has not changed for some time; the value.
pub fn settled<T: PartialEq>(mut read: impl FnMut() -> Result<T>) -> Result<T> {
    let deadline = Instant::now() + PATIENCE;
    let mut value = read()?;
    let mut since = Instant::now();
    while since.elapsed() < SETTLED {
        if Instant::now() > deadline {
            return Err("something goes on and on".into());
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

/// The processor, the kernel, and how busy the machine is.
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

/// How many processes ran or waited to run in the last minute, on average.
pub fn load() -> String {
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    load.split(' ').next().unwrap_or_default().to_owned()
}

/// The number that follows a word.
fn number_after(text: &str, word: &str) -> Result<u64> {
    let (_, after) = text
        .split_once(word)
        .ok_or_else(|| format!("no {word} in {text}"))?;
    let number = after.split_whitespace().next().unwrap_or_default();
    Ok(number.parse()?)
}
