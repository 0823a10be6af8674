//! Readers that stop reading: their cost in memory, and their effect on other connections.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};

use kea_tests::Kea;
use socket2::{Domain, Protocol, Socket, Type};

use super::{Extent, say};
use crate::client::{Request, Result};
use crate::figures::{mebibytes, number, ratios, time};
use crate::keas::ours;
use crate::measure::{Latency, Server};
use crate::process::{memory, settled, tcp_memory, unacknowledged};
use crate::report::{Line, Report};
use crate::support::queries::By;

/// Readers that stop reading.
const READERS: usize = 100;

/// The most octets of memory for all of them.
const MEMORY_TARGET: f64 = 32.0 * 1_048_576.0;

/// The receive buffer of each, in octets: small, so that the server keeps the octets to send.
const RECEIVE_BUFFER: usize = 4_096;

/// Measures the readers.
pub fn measure(kea: &Kea, extent: &Extent, report: &mut Report) -> Result<()> {
    say(format!("{READERS} readers that stop reading"));
    let server = ours(kea, extent.leases);
    let mut client = server.connect()?;
    let mut latencies = |first| -> Result<Vec<f64>> {
        let mut tails = Vec::new();
        for round in 0..extent.rounds {
            let first = first + round * extent.queries;
            let times = server.one_by_one(&mut client, By::RemoteId, first, extent.queries)?;
            tails.push(Latency::of(&times).p99);
        }
        Ok(tails)
    };
    let before = latencies(0)?;
    let memory_before = memory(kea.pid())? as f64;
    let tcp_before = tcp_memory()? as f64;
    let request = Request::new(&extent.leases.all_query().query)?;
    let readers: Result<Vec<TcpStream>> = (0..READERS)
        .map(|_| stalled_reader(&server, &request))
        .collect();
    let readers = readers?;
    let waiting = settled(|| unacknowledged(server.address))? as f64;
    let process = memory(kea.pid())? as f64 - memory_before;
    let tcp = tcp_memory()? as f64 - tcp_before;
    let meanwhile = latencies(extent.rounds * extent.queries)?;
    drop(readers);
    // Of all sockets of the machine: those of other programs, and the readers' small buffers, too.
    let kernel = tcp.max(waiting);
    report.add(Line {
        what: format!("{READERS} readers that stop reading: memory"),
        set: Some(extent.leases.set),
        target: format!("≤ {} in all", mebibytes(MEMORY_TARGET)),
        result: mebibytes(process + kernel),
        against: format!(
            "process {}, sockets {}, of which octets to send {}",
            mebibytes(process),
            mebibytes(kernel),
            mebibytes(waiting)
        ),
        met: Some(process + kernel <= MEMORY_TARGET),
        ..Line::default()
    });
    let middle = crate::figures::median;
    let ratio = middle(&ratios(&meanwhile, &before));
    report.add(Line {
        what: format!(
            "{READERS} readers that stop reading: p99 of one-binding queries on another connection"
        ),
        set: Some(extent.leases.set),
        target: "at most doubles".into(),
        result: time(middle(&meanwhile)),
        against: format!("before {}", time(middle(&before))),
        ratio: number(ratio),
        met: Some(ratio <= 2.0),
    });
    Ok(())
}

/// A connection with a query for all configured addresses, from which nothing is read.
fn stalled_reader(server: &Server, request: &Request) -> Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
    socket.connect(&SocketAddr::V4(server.address).into())?;
    let mut stream = TcpStream::from(socket);
    stream.write_all(&request.octets)?;
    Ok(stream)
}
