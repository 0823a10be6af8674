//! A requestor that is no slower than the wire: it counts messages by their message-size, and
//! decodes the first and the last of an answer only.

use std::error::Error;
use std::io::{self, Read, Write};
use std::net::{SocketAddrV4, TcpStream};
use std::time::Duration;

use blq::wire::{Message, MessageType};
use blq::{Query, Reply};

/// What goes wrong in a measurement: it ends, and says so.
pub type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// Octets read at once, at most; more than the longest message.
const BUFFER: usize = 512 * 1024;

/// How long a server may send nothing.
const PATIENCE: Duration = Duration::from_secs(120);

/// Where `ciaddr` is, from the message-size on; it is zero in the last message only.
const CIADDR: std::ops::Range<usize> = 14..18;

/// A query as it is sent.
#[derive(Clone, Debug)]
pub struct Request {
    /// Its transaction id.
    pub xid: u32,
    /// Its octets, message-size first.
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

/// A connection to a server.
#[derive(Debug)]
pub struct Client {
    /// Its octets.
    stream: TcpStream,
    /// What was read.
    buffer: Vec<u8>,
    /// Where in the buffer it begins and ends that has not been looked at.
    unread: std::ops::Range<usize>,
}

/// An answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// Messages about single addresses.
    pub bindings: u64,
}

impl Answer {
    /// Fails unless it has as many bindings as it must have.
    pub fn expect(self, bindings: impl Into<u64>) -> Result<Answer> {
        let expected = bindings.into();
        if self.bindings == expected {
            Ok(self)
        } else {
            Err(format!("{} bindings came, not {expected}", self.bindings).into())
        }
    }
}

impl Client {
    /// Connects.
    pub fn connect(server: SocketAddrV4) -> Result<Client> {
        Client::over(TcpStream::connect(server)?)
    }

    /// Takes over a connection.
    fn over(stream: TcpStream) -> Result<Client> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Client {
            stream,
            buffer: vec![0; BUFFER],
            unread: 0..0,
        })
    }

    /// Sends octets.
    pub fn send(&mut self, octets: &[u8]) -> Result<()> {
        Ok(self.stream.write_all(octets)?)
    }

    /// Asks, and reads the whole answer.
    pub fn ask(&mut self, request: &Request) -> Result<Answer> {
        self.send(&request.octets)?;
        self.read_answer(request.xid, |_, _| {})
    }

    /// Reads the answer to a query; `take` is given its octets: whole messages about addresses,
    /// some at a time, and the message that ends it, empty until it has come.
    pub fn read_answer(&mut self, xid: u32, mut take: impl FnMut(&[u8], &[u8])) -> Result<Answer> {
        let mut answer = Answer::default();
        while !self.read_part(xid, &mut answer, &mut take)? {}
        Ok(answer)
    }

    /// Reads a part of the answer to a query, and adds it to what was read before; whether that
    /// was the last.
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

    /// Reads the answers to `queries` queries sent one after another, in whatever order their
    /// messages come. They are looked at by [`check_answers`], when there is time.
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

    /// Reads more.
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

/// Whole messages at the beginning of octets.
struct Frames {
    /// How many are about an address, up to the first that is not.
    bindings: u64,
    /// Their octets.
    length: usize,
    /// Octets of the one after them that is about none; 0 if that is not there (yet).
    last: usize,
}

/// Counts whole messages, until one is about no address.
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
        // Shorter than a message can be, it is found out to be wrong when it is decoded.
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

/// The first message with its message-size, and what comes after it; none if it is not whole.
fn split_frame(octets: &[u8]) -> Option<(&[u8], &[u8])> {
    let (size, _) = octets.split_first_chunk::<2>()?;
    octets.split_at_checked(2 + usize::from(u16::from_be_bytes(*size)))
}

/// Reads a message that has its message-size.
fn decode(frame: &[u8]) -> Result<Reply> {
    let message = Message::decode(frame.get(2..).unwrap_or_default())?;
    Ok(Reply::decode(&message)?)
}

/// Checks that the first of some messages is about an address, and answers the query.
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

/// Checks that a message ends the answer to the query, in success.
fn check_last(frame: &[u8], xid: u32) -> Result<()> {
    match decode(frame)? {
        Reply::Done(done) if done.xid == xid && done.failure().is_none() => Ok(()),
        other => Err(format!("an answer ends with {other:?}").into()),
    }
}

/// Checks that each of the queries was answered by one binding and a success.
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
        Err("queries were not answered, each by one binding".into())
    }
}
