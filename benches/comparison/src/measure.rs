//! Measurements of any server that has the leases, by one client or many.

use std::net::SocketAddrV4;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use blq::Query;

use crate::client::{Client, Request, Result, check_answers};
use crate::figures::{median, quantile, rate};
use crate::support::leases::Leases;
use crate::support::queries::By;

/// Connections of the storm after a reset.
const STORM_CONNECTIONS: u32 = 100;

/// Queries pipelined on each of them.
const STORM_QUERIES: u32 = 100;

/// Threads that open the connections, the same number each.
const STORM_THREADS: u32 = 2;

/// A measurement of this time gets a fair share of the processor.
pub const LONG_ENOUGH: Duration = Duration::from_millis(300);

/// A server with leases.
#[derive(Clone, Copy, Debug)]
pub struct Server {
    /// The address that it listens on.
    pub address: SocketAddrV4,
    /// The leases.
    pub leases: Leases,
}

/// Median and 99th percentile of times, in seconds.
#[derive(Clone, Copy, Debug)]
pub struct Latency {
    /// The median.
    pub p50: f64,
    /// The 99th percentile.
    pub p99: f64,
}

impl Latency {
    /// The quantiles of times in seconds.
    pub fn of(times: &[f64]) -> Latency {
        Latency {
            p50: median(times),
            p99: quantile(times, 0.99),
        }
    }
}

/// Sends a query that returns `bindings` on an open connection. Returns the time of the answer.
pub fn ask(client: &mut Client, request: &Request, bindings: u32) -> Result<Duration> {
    let began = Instant::now();
    let answer = client.ask(request)?;
    let took = began.elapsed();
    answer.expect(bindings)?;
    Ok(took)
}

/// Repeats a query for [`LONG_ENOUGH`]. Returns the bindings a second.
pub fn bindings_per_second(client: &mut Client, request: &Request, bindings: u32) -> Result<f64> {
    let mut all = 0;
    let mut took = Duration::ZERO;
    while took < LONG_ENOUGH {
        took += ask(client, request, bindings)?;
        all += u64::from(bindings);
    }
    Ok(rate(all, took))
}

impl Server {
    /// Connects to the server.
    pub fn connect(&self) -> Result<Client> {
        Client::connect(self.address)
    }

    /// Queries `count` leases at random, one after another on a connection, beginning with the
    /// random number `first`. Returns the seconds of each answer.
    pub fn one_by_one(
        &self,
        client: &mut Client,
        by: By,
        first: u32,
        count: u32,
    ) -> Result<Vec<f64>> {
        let mut times = Vec::new();
        for index in first..first + count {
            let request = Request::new(&self.leases.one(index, by))?;
            times.push(ask(client, &request, 1)?.as_secs_f64());
        }
        Ok(times)
    }

    /// Sends a query `times` times on each of several connections at once. Returns the bindings a
    /// second of all.
    pub fn at_once(
        &self,
        connections: usize,
        times: usize,
        request: &Request,
        bindings: u32,
    ) -> Result<f64> {
        let start = Barrier::new(connections + 1);
        let ask_times = || -> Result<()> {
            let mut client = self.connect()?;
            start.wait();
            for _ in 0..times {
                ask(&mut client, request, bindings)?;
            }
            Ok(())
        };
        thread::scope(|scope| {
            let askers: Vec<_> = (0..connections).map(|_| scope.spawn(ask_times)).collect();
            start.wait();
            let began = Instant::now();
            for asker in askers {
                join(asker)?;
            }
            let all = u64::from(bindings) * (connections * times) as u64;
            Ok(rate(all, began.elapsed()))
        })
    }

    /// The storm after a reset: many connections at once, each with many pipelined queries by
    /// remote-id. All must be answered. Returns the queries a second, from the first connection on.
    pub fn storm(&self) -> Result<f64> {
        let mut batches = Vec::new();
        for connection in 0..STORM_CONNECTIONS {
            let numbers = connection * STORM_QUERIES..(connection + 1) * STORM_QUERIES;
            let queries: Vec<Query> = numbers
                .map(|index| self.leases.one(index, By::RemoteId))
                .collect();
            let mut octets = Vec::new();
            for query in &queries {
                octets.extend(query.to_bytes()?);
            }
            batches.push((queries, octets));
        }
        let share = batches.len().div_ceil(STORM_THREADS as usize);
        let start = Barrier::new(batches.len().div_ceil(share) + 1);
        let ask_all = |batches: &[(Vec<Query>, Vec<u8>)]| -> Result<Vec<Vec<u8>>> {
            start.wait();
            let mut clients = Vec::new();
            for (_, octets) in batches {
                let mut client = self.connect()?;
                client.send(octets)?;
                clients.push(client);
            }
            let read = |(client, (queries, _)): (&mut Client, &(Vec<Query>, _))| {
                client.read_answers(queries.len())
            };
            clients.iter_mut().zip(batches).map(read).collect()
        };
        let (took, answers) = thread::scope(|scope| -> Result<_> {
            let askers: Vec<_> = batches
                .chunks(share)
                .map(|batches| scope.spawn(|| ask_all(batches)))
                .collect();
            start.wait();
            let began = Instant::now();
            let mut answers = Vec::new();
            for asker in askers {
                answers.extend(join(asker)?);
            }
            Ok((began.elapsed(), answers))
        })?;
        for ((queries, _), answer) in batches.iter().zip(&answers) {
            check_answers(answer, queries)?;
        }
        Ok(rate((STORM_CONNECTIONS * STORM_QUERIES).into(), took))
    }
}

/// Waits for a thread of the measurement.
pub fn join<T>(thread: thread::ScopedJoinHandle<'_, Result<T>>) -> Result<T> {
    thread
        .join()
        .map_err(|_| "a thread of the measurement panicked")?
}
