//! The cost of serving without the work of an engine:
//! `cargo bench --no-default-features --bench server`.
//!
//! The engine here copies frames encoded before. The server is compared with the ceiling: the same
//! client reads the same frames from a thread that only writes them to a socket. Both take turns, so
//! that other work on the machine disturbs both; the median of the ratios counts. All threads, those
//! of the clients and of the server, are in one process and use the loopback interface.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use dhcp_blq::config::Config;
use dhcp_blq::query::{Engine, Progress, Requester};
use dhcp_blq::server::Server;
use proto::StatusCode;
use socket2::{Domain, Socket, Type};

/// Octets of a reply with its message-size: about those of a lease with the default options.
const FRAME: usize = 304;
/// Octets of a query with its message-size.
const QUERY: usize = 290;
/// Octets that the trivial sender writes at once, about.
const LARGE_WRITE: usize = 256 * 1024;
/// The most octets that a client reads at once.
const READ: usize = 256 * 1024;
/// Replies to a query for everything.
const MANY: u32 = 1_000_000;
/// Pairs of runs.
const PAIRS: usize = 9;
/// Connections of relays that were reset, and those of readers that stop reading.
const CONNECTIONS: usize = 100;
/// Queries pipelined by each of the relays.
const PIPELINED: usize = 100;

fn main() {
    let server = start_server();
    let served = server.local_addresses()[0];
    let ceiling = start_ceiling();
    println!(
        "{:58} {:>12} {:>12} {:>7}",
        "", "server", "ceiling", "ratio"
    );
    if wanted("stalled") {
        // First, while the process has no free memory of an earlier measurement.
        stalled_readers(served);
    }
    if wanted("streams") {
        let alone = stream("frames/s, 1 connection", served, ceiling, 1);
        let together = stream("frames/s, 4 connections together", served, ceiling, 4);
        println!("{:58} {:>34.2}", "4 connections to 1", together / alone);
    }
    if wanted("latencies") {
        latencies(served, ceiling);
    }
    if wanted("storms") {
        storms(served, ceiling);
    }
}

/// Whether a measurement is to be made: without names as arguments all are.
fn wanted(measurement: &str) -> bool {
    let mut names = std::env::args()
        .skip(1)
        .filter(|name| !name.starts_with("--"))
        .peekable();
    names.peek().is_none() || names.any(|name| name == measurement)
}

/// Starts the server on a port of its own.
fn start_server() -> Server {
    let json = r#"{ "requesters": ["127.0.0.0/8"], "advanced": {
        "lease-query-ip": "127.0.0.1", "max-requester-connections": 1000 } }"#;
    let config = Config {
        port: 0,
        ..Config::parse(json).expect("good parameters")
    };
    Server::start(&config, Arc::new(Copier::new())).expect("a port is free")
}

//------------ Measurements --------------------------------------------------------------------

/// Compares the frames a second that `connections` receive. Returns the median of the server's.
fn stream(what: &str, served: SocketAddrV4, ceiling: SocketAddrV4, connections: usize) -> f64 {
    let each = MANY / connections as u32;
    let run = |address| {
        let clients: Vec<Client> = (0..connections).map(|_| Client::open(address)).collect();
        let start = Barrier::new(connections + 1);
        let began = thread::scope(|scope| {
            for mut client in clients {
                let start = &start;
                scope.spawn(move || {
                    start.wait();
                    client.ask(1, each);
                    client.skip(each as usize + 1);
                });
            }
            start.wait();
            Instant::now()
        });
        f64::from(MANY) / began.elapsed().as_secs_f64()
    };
    run(served);
    run(ceiling);
    compare(what, PAIRS, || (run(served), run(ceiling)))
}

/// Compares the times of answers to queries for one binding, alone and while other connections
/// stream.
fn latencies(served: SocketAddrV4, ceiling: SocketAddrV4) {
    let measure = |address| percentiles(&mut Client::open(address), 3_000);
    let mut pairs = Vec::new();
    for _ in 0..PAIRS {
        pairs.push((measure(served), measure(ceiling)));
    }
    let of = |pick: fn(&(f64, f64)) -> f64| {
        let mut pairs = pairs.iter();
        move || {
            let (served, ceiling) = pairs.next().expect("as many as pairs");
            (pick(served), pick(ceiling))
        }
    };
    compare("us, one binding, p50", PAIRS, of(|both| both.0));
    compare("us, one binding, p99", PAIRS, of(|both| both.1));
    for streams in [1, 4] {
        let measure = |address| {
            let streaming: Vec<_> = (0..streams)
                .map(|_| {
                    let mut client = Client::open(address);
                    client.ask(1, u32::MAX);
                    client.skip(1);
                    let socket = client.stream.try_clone().expect("a socket can be cloned");
                    // It reads until the connection is shut down.
                    (socket, thread::spawn(move || while client.read() > 0 {}))
                })
                .collect();
            let measured = percentiles(&mut Client::open(address), 500);
            for (socket, reader) in streaming {
                let _ = socket.shutdown(std::net::Shutdown::Both);
                reader.join().expect("a reader does not panic");
            }
            measured.1
        };
        let what = format!("us, one binding, p99, while {streams} others stream");
        compare(&what, 3, || (measure(served), measure(ceiling)));
    }
}

/// Compares the queries a second that are answered when relays connect after a reset and each
/// pipelines many small ones.
fn storms(served: SocketAddrV4, ceiling: SocketAddrV4) {
    /// Threads of the relays.
    const THREADS: usize = 2;
    let queries: Vec<u8> = (0..PIPELINED as u32)
        .flat_map(|xid| query(xid, 1))
        .collect();
    let storm = |address| {
        let began = Instant::now();
        thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    let mut clients: Vec<Client> = (0..CONNECTIONS / THREADS)
                        .map(|_| Client::open(address))
                        .collect();
                    for client in &mut clients {
                        client.send(&queries);
                    }
                    for client in &mut clients {
                        client.skip(2 * PIPELINED);
                    }
                });
            }
        });
        (CONNECTIONS * PIPELINED) as f64 / began.elapsed().as_secs_f64()
    };
    let what = format!("queries/s, {CONNECTIONS} connections x {PIPELINED} queries");
    compare(&what, 2 * PAIRS, || (storm(served), storm(ceiling)));
}

/// Measures readers that stop reading: their memory, and the time of the answer to a query for one
/// binding on another connection, compared with the time without them.
fn stalled_readers(served: SocketAddrV4) {
    /// Octets in a mebibyte.
    const MIB: f64 = (1 << 20) as f64;
    let memory = || (resident(), socket_memory());
    let mut client = Client::open(served);
    let rounds: Vec<_> = (0..PAIRS)
        .map(|_| {
            let alone = percentiles(&mut client, 2_000);
            let before = memory();
            let stalled: Vec<Client> = (0..CONNECTIONS)
                .map(|_| {
                    let mut client = Client::with_small_window(served);
                    client.ask(1, u32::MAX);
                    client
                })
                .collect();
            // Until the server can send no more: the memory stays the same for some readings.
            let (mut same, mut last) = (0, memory());
            while same < 10 {
                thread::sleep(Duration::from_millis(10));
                let now = memory();
                same = if now == last { same + 1 } else { 0 };
                last = now;
            }
            let meanwhile = percentiles(&mut client, 2_000);
            drop(stalled);
            let process = last.0.saturating_sub(before.0) as f64 / MIB;
            let sockets = last.1.saturating_sub(before.1) as f64 / MIB;
            (process, sockets, alone, meanwhile)
        })
        .collect();
    // Memory once used is reused in the next round: the first one shows the growth.
    let (process, sockets, ..) = rounds[0];
    let readers = format!("MiB, {CONNECTIONS} readers that stopped");
    println!("{:58} {process:>12.1}", format!("{readers}: the process"));
    println!("{:58} {sockets:>12.1}", format!("{readers}: sockets"));
    println!(
        "{:58} {:>12.1}",
        format!("{readers}: all"),
        process + sockets
    );
    let mut p50 = rounds.iter().map(|round| (round.3.0, round.2.0));
    let mut p99 = rounds.iter().map(|round| (round.3.1, round.2.1));
    let next = "as many as pairs";
    compare("us, one binding, p50, with them; without", PAIRS, || {
        p50.next().expect(next)
    });
    compare("us, one binding, p99, with them; without", PAIRS, || {
        p99.next().expect(next)
    });
}

/// The median and the 99th percentile of the microseconds until a query for one binding is
/// answered.
fn percentiles(client: &mut Client, count: u32) -> (f64, f64) {
    for xid in 0..100 {
        client.ask(xid, 1);
        client.skip(2);
    }
    let mut times: Vec<f64> = (0..count)
        .map(|xid| {
            let asked = Instant::now();
            client.ask(xid, 1);
            client.skip(2);
            asked.elapsed().as_secs_f64() * 1e6
        })
        .collect();
    times.sort_by(f64::total_cmp);
    (times[times.len() / 2], times[times.len() * 99 / 100])
}

/// Prints the medians of pairs, the server's first, and of their ratios. Returns the first one.
fn compare(what: &str, pairs: usize, mut pair: impl FnMut() -> (f64, f64)) -> f64 {
    let pairs: Vec<(f64, f64)> = (0..pairs).map(|_| pair()).collect();
    let median = |pick: fn(&(f64, f64)) -> f64| {
        let mut values: Vec<f64> = pairs.iter().map(pick).collect();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    let served = median(|pair| pair.0);
    let ceiling = median(|pair| pair.1);
    let ratio = median(|pair| pair.0 / pair.1);
    println!("{what:58} {served:>12.1} {ceiling:>12.1} {ratio:>7.2}");
    served
}

/// Resident octets of this process.
fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("Linux");
    number_after(&status, "VmRSS:") * 1024
}

/// Octets of the system's TCP sockets, those of other processes included.
fn socket_memory() -> u64 {
    let statistics = fs::read_to_string("/proc/net/sockstat").expect("Linux");
    let tcp = statistics
        .lines()
        .find(|line| line.starts_with("TCP:"))
        .expect("a line for TCP");
    number_after(tcp, "mem") * 4096
}

/// The number after `label`.
fn number_after(text: &str, label: &str) -> u64 {
    text.split_once(label)
        .and_then(|(_, rest)| rest.split_whitespace().next())
        .and_then(|number| number.parse().ok())
        .expect("a number")
}

//------------ Client --------------------------------------------------------------------------

/// A requester that does not decode its answers.
struct Client {
    /// The connection.
    stream: TcpStream,
    /// Octets read.
    buffer: Vec<u8>,
}

impl Client {
    /// Connects to `address`.
    fn open(address: SocketAddrV4) -> Client {
        Client::over(TcpStream::connect(address).expect("a server"))
    }

    /// Connects to `address` with a small receive buffer.
    fn with_small_window(address: SocketAddrV4) -> Client {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        socket.set_recv_buffer_size(4096).expect("a small buffer");
        socket.connect(&address.into()).expect("a server");
        Client::over(socket.into())
    }

    /// A client of a connection.
    fn over(stream: TcpStream) -> Client {
        stream.set_nodelay(true).expect("a TCP socket");
        Client {
            stream,
            buffer: Vec::new(),
        }
    }

    /// Sends octets.
    fn send(&mut self, octets: &[u8]) {
        self.stream.write_all(octets).expect("the server reads");
    }

    /// Sends a query.
    fn ask(&mut self, xid: u32, replies: u32) {
        self.send(&query(xid, replies));
    }

    /// Reads once. Returns the number of octets.
    fn read(&mut self) -> usize {
        self.buffer.resize(READ, 0);
        self.stream.read(&mut self.buffer).unwrap_or(0)
    }

    /// Reads frames.
    fn skip(&mut self, frames: usize) {
        let mut left = frames * FRAME;
        while left > 0 {
            let count = self.read();
            assert!(count > 0, "the server closed the connection");
            left = left.saturating_sub(count);
        }
    }
}

/// A query with its message-size: its transaction id and the number of replies.
fn query(xid: u32, replies: u32) -> Vec<u8> {
    let mut frame = (QUERY as u16 - 2).to_be_bytes().to_vec();
    frame.extend(xid.to_be_bytes());
    frame.extend(replies.to_be_bytes());
    frame.resize(QUERY, 0);
    frame
}

/// Reads a query without its message-size.
fn read_query(message: &[u8]) -> Option<(u32, u32)> {
    let (xid, rest) = message.split_first_chunk()?;
    let replies = rest.first_chunk()?;
    Some((u32::from_be_bytes(*xid), u32::from_be_bytes(*replies)))
}

//------------ The two servers -----------------------------------------------------------------

/// The frames of replies, encoded once: the octets of one large write.
fn frames() -> Vec<u8> {
    let mut frame = (FRAME as u16 - 2).to_be_bytes().to_vec();
    frame.resize(FRAME, 7);
    frame.repeat(LARGE_WRITE / FRAME)
}

/// An engine that copies frames: those that a query wants, and one for its end.
struct Copier {
    /// The frames that it copies.
    frames: Vec<u8>,
}

impl Copier {
    /// An engine.
    fn new() -> Copier {
        Copier { frames: frames() }
    }
}

/// An answer in progress.
struct Answer {
    /// The transaction id.
    xid: u32,
    /// Frames to write.
    left: u64,
}

impl Engine for Copier {
    type Answer = Answer;
    type Unanswerable = &'static str;

    // The length of a DHCP message without options but its type.
    const SHORTEST_MESSAGE: usize = 243;

    fn open(&self, message: &[u8], _: &Requester) -> Result<Answer, &'static str> {
        let (xid, replies) = read_query(message).ok_or("no query")?;
        Ok(Answer {
            xid,
            left: u64::from(replies) + 1,
        })
    }

    fn xid(&self, answer: &Answer) -> u32 {
        answer.xid
    }

    fn write(&self, answer: &mut Answer, out: &mut Vec<u8>, room: usize) -> Progress {
        let end = out.len() + room;
        for frame in self.frames.chunks_exact(FRAME).cycle() {
            if answer.left == 0 {
                return Progress::Done;
            }
            if out.len() >= end {
                break;
            }
            out.extend_from_slice(frame);
            answer.left -= 1;
        }
        Progress::More
    }

    fn messages(&self, _: &Answer) -> u64 {
        0
    }

    fn bindings(&self, _: &Answer) -> u64 {
        0
    }

    fn end(&self, _: &mut Answer, _: StatusCode, _: &str, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.frames[..FRAME]);
    }
}

/// Starts the trivial sender: a thread for each connection, which reads queries and writes frames.
fn start_ceiling() -> SocketAddrV4 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
    let port = listener.local_addr().expect("it is bound").port();
    thread::spawn(move || {
        for stream in listener.incoming() {
            // The thread ends when the client closes its connection.
            thread::spawn(|| stream.and_then(send_frames));
        }
    });
    SocketAddrV4::new(Ipv4Addr::LOCALHOST, port)
}

/// Answers the queries on a connection.
fn send_frames(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let frames = frames();
    let mut queries = vec![0; PIPELINED * QUERY];
    let mut unread = 0;
    loop {
        match stream.read(&mut queries[unread..])? {
            0 => return Ok(()),
            count => unread += count,
        }
        let whole = unread / QUERY * QUERY;
        let mut left: usize = queries[..whole]
            .chunks_exact(QUERY)
            .filter_map(|query| read_query(&query[2..]))
            .map(|(_, replies)| (replies as usize + 1) * FRAME)
            .sum();
        while left > 0 {
            let count = left.min(frames.len());
            stream.write_all(&frames[..count])?;
            left -= count;
        }
        queries.copy_within(whole..unread, 0);
        unread -= whole;
    }
}
