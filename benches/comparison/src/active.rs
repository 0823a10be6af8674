//! Active requesters: raw readers of streams, many in each of a few threads, which look at the size and the
//! address of each message alone.

use std::collections::HashMap;
use std::net::{SocketAddr, SocketAddrV4, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use blq::{ActiveQuery, Vss};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::{Domain, Protocol, Socket, Type};

use crate::client::{Client, Result};
use crate::measure::{Latency, join};
use crate::process::monotonic;

/// Threads that read, each the same number of streams.
const THREADS: usize = 2;

/// The longest time in which no message comes before a measurement fails.
const PATIENCE: Timespec = Timespec {
    tv_sec: 60,
    tv_nsec: 0,
};

/// The longest time until a reader sees that it is to end.
const GLANCE: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 20_000_000,
};

/// The receive buffer of a requester that reads nothing, in octets: small, so that the server keeps the octets to send.
const SMALL_BUFFER: usize = 4_096;

/// The streams of some requesters.
#[derive(Debug)]
pub struct Requesters(Vec<Client>);

/// Messages about addresses that requesters received.
#[derive(Debug, Default)]
pub struct Received {
    /// When the last of them came, by [`monotonic`].
    pub last: f64,
    /// The sum of the addresses, of each requester.
    pub sums: Vec<u64>,
    /// The address of each message and its arrival, if they are wanted.
    pub arrivals: Vec<(u32, f64)>,
}

impl Received {
    /// The latency of the messages since a time for each address. Needs their arrivals.
    pub fn latency(&self, since: &HashMap<u32, f64>) -> Result<Latency> {
        let times: Option<Vec<f64>> = self
            .arrivals
            .iter()
            .map(|(address, at)| Some(at - since.get(address)?))
            .collect();
        Ok(Latency::of(
            &times.ok_or("a message is about another address")?,
        ))
    }
}

/// A query for the changes of all VPNs from now on.
fn query() -> ActiveQuery {
    ActiveQuery {
        vpn: Some(Vss::All),
        ..ActiveQuery::new(Some(u32::MAX))
    }
}

/// A requester that reads nothing once its stream has begun.
pub fn stalled(server: SocketAddrV4) -> Result<Client> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_recv_buffer_size(SMALL_BUFFER)?;
    socket.connect(&SocketAddr::V4(server).into())?;
    let mut client = Client::over(TcpStream::from(socket))?;
    client.begin_stream(&query())?;
    Ok(client)
}

impl Requesters {
    /// Connects some requesters, whose streams have begun.
    pub fn connect(server: SocketAddrV4, count: usize) -> Result<Requesters> {
        let begin = |_| -> Result<Client> {
            let mut client = Client::connect(server)?;
            client.begin_stream(&query())?;
            Ok(client)
        };
        (0..count).map(begin).collect::<Result<_>>().map(Requesters)
    }

    /// Reads until each requester has received `count` messages about addresses, while `push` makes changes. Returns
    /// what `push` does, too.
    pub fn receive<T>(
        &mut self,
        count: u64,
        keeps_arrivals: bool,
        push: impl FnOnce() -> Result<T>,
    ) -> Result<(T, Received)> {
        let share = self.0.len().div_ceil(THREADS);
        thread::scope(|scope| {
            let readers: Vec<_> = self
                .0
                .chunks_mut(share)
                .map(|clients| scope.spawn(move || receive(clients, count, keeps_arrivals)))
                .collect();
            let pushed = push();
            let mut all = Received::default();
            for reader in readers {
                let received = join(reader)?;
                all.last = all.last.max(received.last);
                all.sums.extend(received.sums);
                all.arrivals.extend(received.arrivals);
            }
            Ok((pushed?, all))
        })
    }

    /// Reads until `over` is set. Returns the number of messages about addresses.
    pub fn read_until(&mut self, over: &AtomicBool) -> Result<u64> {
        let mut messages = 0;
        while !over.load(Ordering::Acquire) {
            read_ready(&mut self.0, &GLANCE, |_, _, _| messages += 1)?;
        }
        Ok(messages)
    }
}

/// Reads the streams of one thread until each has brought `count` messages about addresses.
fn receive(clients: &mut [Client], count: u64, keeps_arrivals: bool) -> Result<Received> {
    let mut counts = vec![0; clients.len()];
    let mut received = Received {
        sums: vec![0; clients.len()],
        ..Received::default()
    };
    while counts.iter().any(|received| *received < count) {
        let ready = read_ready(clients, &PATIENCE, |index, address, at| {
            counts[index] += 1;
            received.sums[index] += u64::from(address);
            received.last = at;
            if keeps_arrivals {
                received.arrivals.push((address, at));
            }
        })?;
        if ready == 0 {
            return Err(format!("of {count} messages {counts:?} came").into());
        }
    }
    Ok(received)
}

/// Waits until one of the streams has octets, and reads those that have some. `take` gets the index of the stream, the
/// address of each message about one, and its arrival. Returns the number of streams.
fn read_ready(
    clients: &mut [Client],
    patience: &Timespec,
    mut take: impl FnMut(usize, u32, f64),
) -> Result<usize> {
    let mut polled: Vec<PollFd<'_>> = clients
        .iter()
        .map(|client| PollFd::new(client.socket(), PollFlags::IN))
        .collect();
    poll(&mut polled, Some(patience))?;
    let ready: Vec<usize> = (0..)
        .zip(&polled)
        .filter(|(_, socket)| !socket.revents().is_empty())
        .map(|(index, _)| index)
        .collect();
    drop(polled);
    for index in &ready {
        let mut at = None;
        clients[*index].read_stream(|address| {
            take(*index, address, *at.get_or_insert_with(monotonic));
        })?;
    }
    Ok(ready.len())
}
