//! A requester that is no slower than the wire: it counts messages by their message-size, and
//! decodes the first and the last of an answer alone.

use std::error::Error;
use std::io::{self, Read, Write};
use std::net::{SocketAddrV4, TcpStream};
use std::time::Duration;

use blq::wire::{Message, MessageType, StatusCode};
use blq::{ActiveQuery, ActiveReply, Query, Reply};

use crate::tls::{Credentials, Secured};

/// A failure ends the measurement.
pub type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// The most octets read at once; more than the longest message.
const BUFFER: usize = 512 * 1024;

/// The longest time for which a server may send nothing.
const PATIENCE: Duration = Duration::from_secs(120);

/// The octets of `ciaddr`, from the message-size on. Zero in the last message of an answer alone.
const CIADDR: std::ops::Range<usize> = 14..18;

/// An encoded query.
#[derive(Clone, Debug)]
pub struct Request {
    /// The transaction id.
    pub xid: u32,
    /// The octets, message-size first.
    pub octets: Vec<u8>,
}

impl Request {
    /// Encodes a query.
    pub fn new(query: &Query) -> Result<Request> {
        Ok(Request {
            xid: query.xid,
            octets: query.to_bytes()?,
        })
    }
}

/// The octets of a connection: over TCP alone, or over TLS.
#[derive(Debug)]
enum Stream {
    /// TCP alone.
    Plain(TcpStream),
    /// TLS over TCP.
    Tls(Box<Secured>),
}

impl Read for Stream {
    fn read(&mut self, space: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Plain(socket) => socket.read(space),
            Stream::Tls(secured) => secured.read(space),
        }
    }
}

/// A connection to a server.
#[derive(Debug)]
pub struct Client {
    /// The stream.
    stream: Stream,
    /// Octets read.
    buffer: Vec<u8>,
    /// The part of the buffer that has not been processed.
    unread: std::ops::Range<usize>,
}

/// An answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// Messages about single addresses.
    pub bindings: u64,
}

impl Answer {
    /// Checks the number of bindings.
    pub fn expect(self, bindings: impl Into<u64>) -> Result<Answer> {
        let expected = bindings.into();
        if self.bindings == expected {
            Ok(self)
        } else {
            Err(format!("{} bindings came instead of {expected}", self.bindings).into())
        }
    }
}

impl Client {
    /// Connects.
    pub fn connect(server: SocketAddrV4) -> Result<Client> {
        Client::over(TcpStream::connect(server)?)
    }

    /// Connects, and secures the connection by TLS.
    pub fn connect_by_tls(server: SocketAddrV4, credentials: &Credentials) -> Result<Client> {
        let socket = prepared(TcpStream::connect(server)?)?;
        let secured = Secured::negotiate(socket, credentials)?;
        Ok(Client::of(Stream::Tls(Box::new(secured))))
    }

    /// Connects to a server of rustls alone, without DHCPTLS.
    pub fn connect_to_rustls(server: SocketAddrV4, credentials: &Credentials) -> Result<Client> {
        let socket = prepared(TcpStream::connect(server)?)?;
        let secured = Secured::handshake(socket, credentials)?;
        Ok(Client::of(Stream::Tls(Box::new(secured))))
    }

    /// Connects, secures the connection by TLS, and closes it.
    pub fn handshake(server: SocketAddrV4, credentials: &Credentials) -> Result<()> {
        let socket = prepared(TcpStream::connect(server)?)?;
        Secured::negotiate(socket, credentials)?.close()
    }

    /// Takes over a connection.
    pub fn over(socket: TcpStream) -> Result<Client> {
        Ok(Client::of(Stream::Plain(prepared(socket)?)))
    }

    /// The client of a stream.
    fn of(stream: Stream) -> Client {
        Client {
            stream,
            buffer: vec![0; BUFFER],
            unread: 0..0,
        }
    }

    /// The socket.
    pub fn socket(&self) -> &TcpStream {
        match &self.stream {
            Stream::Plain(socket) => socket,
            Stream::Tls(secured) => secured.socket(),
        }
    }

    /// Sends octets.
    pub fn send(&mut self, octets: &[u8]) -> Result<()> {
        match &mut self.stream {
            Stream::Plain(socket) => socket.write_all(octets)?,
            Stream::Tls(secured) => secured.write_all(octets)?,
        }
        Ok(())
    }

    /// Sends a query and reads its answer.
    pub fn ask(&mut self, request: &Request) -> Result<Answer> {
        self.send(&request.octets)?;
        self.read_answer(request.xid, |_, _| {})
    }

    /// Reads the answer to a query. `take` gets its octets: whole messages about addresses, some at
    /// a time, and the message that ends it, empty until it has come.
    pub fn read_answer(&mut self, xid: u32, mut take: impl FnMut(&[u8], &[u8])) -> Result<Answer> {
        let mut answer = Answer::default();
        while !self.read_part(xid, &mut answer, &mut take)? {}
        Ok(answer)
    }

    /// Reads a part of the answer to a query and adds it to `answer`. Returns whether the answer
    /// is complete.
    pub fn read_part(
        &mut self,
        xid: u32,
        answer: &mut Answer,
        take: &mut impl FnMut(&[u8], &[u8]),
    ) -> Result<bool> {
        self.fill()?;
        let octets = &self.buffer[self.unread.clone()];
        let frames = count_frames(octets);
        if answer.bindings == 0 && frames.bindings > 0 {
            check_first(octets, xid)?;
        }
        let length = frames.length + frames.last;
        let (bindings, last) = octets[..length].split_at(frames.length);
        take(bindings, last);
        let is_over = !last.is_empty();
        if is_over {
            check_last(last, xid)?;
        }
        answer.bindings += frames.bindings;
        self.unread.start += length;
        Ok(is_over)
    }

    /// Reads the answers to pipelined queries, in any order of their messages. [`check_answers`]
    /// checks them later, outside of the measured time.
    pub fn read_answers(&mut self, queries: usize) -> Result<Vec<u8>> {
        let mut answers = Vec::new();
        let mut done = 0;
        while done < queries {
            let octets = &self.buffer[self.unread.clone()];
            let frames = count_frames(octets);
            let length = frames.length + frames.last;
            answers.extend_from_slice(&octets[..length]);
            self.unread.start += length;
            if frames.last > 0 {
                done += 1;
            } else {
                self.fill()?;
            }
        }
        Ok(answers)
    }

    /// Sends an active query from a time in the future on, so that its stream begins with the end of the
    /// catch-up, and reads that.
    pub fn begin_stream(&mut self, query: &ActiveQuery) -> Result<()> {
        self.send(&query.to_bytes()?)?;
        loop {
            let octets = &self.buffer[self.unread.clone()];
            let Some((frame, _)) = split_frame(octets) else {
                self.fill()?;
                continue;
            };
            let message = Message::decode(frame.get(2..).unwrap_or_default())?;
            self.unread.start += frame.len();
            return match ActiveReply::decode(&message)? {
                ActiveReply::Status(report)
                    if report.status.code == StatusCode::CATCH_UP_COMPLETE =>
                {
                    Ok(())
                }
                other => Err(format!("a stream begins with {other:?}").into()),
            };
        }
    }

    /// Reads what has come of a stream. `take` gets the address of each message about one.
    pub fn read_stream(&mut self, mut take: impl FnMut(u32)) -> Result<()> {
        self.fill()?;
        let mut rest = &self.buffer[self.unread.clone()];
        while let Some((frame, after)) = split_frame(rest) {
            let ciaddr = frame.get(CIADDR).and_then(|octets| octets.try_into().ok());
            let address = u32::from_be_bytes(ciaddr.ok_or("a message is too short")?);
            // Others are about the connection.
            if address != 0 {
                take(address);
            }
            rest = after;
        }
        self.unread.start = self.unread.end - rest.len();
        Ok(())
    }

    /// Reads from the socket.
    fn fill(&mut self) -> Result<()> {
        self.buffer.copy_within(self.unread.clone(), 0);
        self.unread = 0..self.unread.len();
        let count = self.stream.read(&mut self.buffer[self.unread.end..])?;
        if count == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        self.unread.end += count;
        Ok(())
    }
}

/// Sets the options of a socket.
fn prepared(socket: TcpStream) -> Result<TcpStream> {
    socket.set_nodelay(true)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.set_write_timeout(Some(PATIENCE))?;
    Ok(socket)
}

/// Whole messages at the beginning of octets.
struct Frames {
    /// The number of those about an address, up to the first without one.
    bindings: u64,
    /// The octets of these.
    length: usize,
    /// Octets of the message without an address after them; 0 until it has come.
    last: usize,
}

/// Counts whole messages up to the first without an address.
fn count_frames(octets: &[u8]) -> Frames {
    let mut bindings = 0;
    let mut rest = octets;
    loop {
        let length = octets.len() - rest.len();
        let Some((frame, after)) = split_frame(rest) else {
            let last = 0;
            return Frames {
                bindings,
                length,
                last,
            };
        };
        // Decoding fails if the frame is shorter than a message.
        if frame.get(CIADDR).is_none_or(|address| address == [0; 4]) {
            let last = frame.len();
            return Frames {
                bindings,
                length,
                last,
            };
        }
        bindings += 1;
        rest = after;
    }
}

/// Splits off the first message with its message-size; `None` if it is not complete.
pub fn split_frame(octets: &[u8]) -> Option<(&[u8], &[u8])> {
    let (size, _) = octets.split_first_chunk::<2>()?;
    octets.split_at_checked(2 + usize::from(u16::from_be_bytes(*size)))
}

/// Decodes a message with its message-size.
fn decode(frame: &[u8]) -> Result<Reply> {
    let message = Message::decode(frame.get(2..).unwrap_or_default())?;
    Ok(Reply::decode(&message)?)
}

/// Checks that the first message is about an address and answers the query.
fn check_first(octets: &[u8], xid: u32) -> Result<()> {
    let (first, _) = split_frame(octets).ok_or("no message")?;
    match decode(first)? {
        Reply::Binding(binding)
            if binding.xid == xid
                && [MessageType::LEASE_ACTIVE, MessageType::LEASE_UNASSIGNED]
                    .contains(&binding.message_type) =>
        {
            Ok(())
        }
        other => Err(format!("an answer begins with {other:?}").into()),
    }
}

/// Checks that a message ends the answer to the query without an error.
fn check_last(frame: &[u8], xid: u32) -> Result<()> {
    match decode(frame)? {
        Reply::Done(done) if done.xid == xid && done.failure().is_none() => Ok(()),
        other => Err(format!("an answer ends with {other:?}").into()),
    }
}

/// Checks that the answer to each query is one binding and no error.
pub fn check_answers(mut octets: &[u8], queries: &[Query]) -> Result<()> {
    let mut bindings = Vec::new();
    let mut done = Vec::new();
    while let Some((frame, after)) = split_frame(octets) {
        match decode(frame)? {
            Reply::Binding(binding) => bindings.push(binding.xid),
            Reply::Done(end) if end.failure().is_none() => done.push(end.xid),
            Reply::Done(end) => return Err(format!("a query ends with {end:?}").into()),
        }
        octets = after;
    }
    let mut expected: Vec<u32> = queries.iter().map(|query| query.xid).collect();
    for xids in [&mut expected, &mut bindings, &mut done] {
        xids.sort_unstable();
    }
    if bindings == expected && done == expected {
        Ok(())
    } else {
        Err("not every query was answered by one binding".into())
    }
}
