//! What serving costs without an engine's work: `cargo bench --no-default-features --bench server`.
//!
//! The engine here copies frames that were encoded before. What the server makes of it is
//! compared with the ceiling: the same client reading the same frames from a thread that only
//! writes them to a socket. The two take turns, so that whatever else the machine does meets
//! both; what counts is the median of the ratios. Everything is done over the loopback
//! interface, by the clients' threads and the server's in one process.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use dhcp_blq::config::Config;
use dhcp_blq::query::{Engine, Progress, Requester};
use dhcp_blq::server::Server;
use socket2::{Domain, Socket, Type};

/// Octets of a reply with its message-size: as those about a lease with usual options.
const FRAME: usize = 304;
/// Octets of a query with its message-size.
const QUERY: usize = 290;
/// Octets the trivial sender gives to the system at once, about.
const LARGE_WRITE: usize = 256 * 1024;
/// Octets a client asks for at once.
const READ: usize = 256 * 1024;
/// Replies to a query for everything.
const MANY: u32 = 1_000_000;
/// Pairs of runs that are compared.
const PAIRS: usize = 9;
/// Connections of relays that were reset, and those of readers that stop reading.
const CONNECTIONS: usize = 100;
/// Queries each of the relays sends at once.
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
        // First of all, while the process has no memory left over from what was before.
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

/// Whether a measurement is to be made: all are, or those whose names were given.
fn wanted(measurement: &str) -> bool {
    let mut names = std::env::args()
        .skip(1)
        .filter(|name| !name.starts_with("--"))
        .peekable();
    names.peek().is_none() || names.any(|name| name == measurement)
}

/// The server to measure, on a port of its own.
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

/// Compares how many frames a second `connections` receive; the server's, at the median.
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

/// Compares how long the answer to a query for one binding takes, and how long while other
/// connections are sent much.
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

/// Compares how many queries a second are answered when relays that were reset connect and
/// each send many small ones at once.
fn storms(served: SocketAddrV4, ceiling: SocketAddrV4) {
    /// Threads that play the relays.
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

/// Tells what readers cost that stop reading: how much memory, and how much longer the answer
/// to another's query for one binding takes, compared with the time without them.
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
            // Until the server can send no more: nothing changes for some looks.
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
    // Memory once used is there for the next round: the first one shows what it takes.
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

/// The median and the 99th percentile of the microseconds a query for one binding takes.
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

/// Prints the medians of so many pairs, the server's first, and of their ratios; gives the
/// first one.
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

/// Octets of this process in memory.
fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("Linux");
    number_after(&status, "VmRSS:") * 1024
}

/// Octets the system holds for TCP sockets, those of other processes included.
fn socket_memory() -> u64 {
    let statistics = fs::read_to_string("/proc/net/sockstat").expect("Linux");
    let tcp = statistics
        .lines()
        .find(|line| line.starts_with("TCP:"))
        .expect("there is TCP");
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

/// A requestor that does not look at what it reads.
struct Client {
    /// The connection.
    stream: TcpStream,
    /// Where octets are read to.
    buffer: Vec<u8>,
}

impl Client {
    /// Connects to `address`.
    fn open(address: SocketAddrV4) -> Client {
        Client::over(TcpStream::connect(address).expect("somebody listens"))
    }

    /// Connects to `address`, and lets the system take few octets that are not read.
    fn with_small_window(address: SocketAddrV4) -> Client {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        socket.set_recv_buffer_size(4096).expect("a small buffer");
        socket.connect(&address.into()).expect("somebody listens");
        Client::over(socket.into())
    }

    /// Over a connection.
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

    /// Reads what is there; how many octets.
    fn read(&mut self) -> usize {
        self.buffer.resize(READ, 0);
        self.stream.read(&mut self.buffer).unwrap_or(0)
    }

    /// Reads so many frames.
    fn skip(&mut self, frames: usize) {
        let mut left = frames * FRAME;
        while left > 0 {
            let count = self.read();
            assert!(count > 0, "the server closed the connection");
            left = left.saturating_sub(count);
        }
    }
}

/// A query: its transaction id and the number of replies it wants, with its message-size.
fn query(xid: u32, replies: u32) -> Vec<u8> {
    let mut frame = (QUERY as u16 - 2).to_be_bytes().to_vec();
    frame.extend(xid.to_be_bytes());
    frame.extend(replies.to_be_bytes());
    frame.resize(QUERY, 0);
    frame
}

/// What `query` wrote, without its message-size.
fn read_query(message: &[u8]) -> Option<(u32, u32)> {
    let (xid, rest) = message.split_first_chunk()?;
    let replies = rest.first_chunk()?;
    Some((u32::from_be_bytes(*xid), u32::from_be_bytes(*replies)))
}

//------------ The two servers -----------------------------------------------------------------

/// The frames of replies, encoded once: as many as one large write takes.
fn frames() -> Vec<u8> {
    let mut frame = (FRAME as u16 - 2).to_be_bytes().to_vec();
    frame.resize(FRAME, 7);
    frame.repeat(LARGE_WRITE / FRAME)
}

/// An engine that copies frames: as many as a query wants, and one for its end.
struct Copier {
    /// What it copies from.
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
    /// Its transaction id.
    xid: u32,
    /// Frames to write.
    left: u64,
}

impl Engine for Copier {
    type Answer = Answer;
    type Unanswerable = &'static str;

    // As DHCP messages have it.
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

    fn terminate(&self, _: Answer, _: &str, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.frames[..FRAME]);
    }
}

/// Starts what could not be simpler: a thread for each connection, which reads queries and
/// writes frames.
fn start_ceiling() -> SocketAddrV4 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
    let port = listener.local_addr().expect("it is bound").port();
    thread::spawn(move || {
        for stream in listener.incoming() {
            // It ends when the client is gone.
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
