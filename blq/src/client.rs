//! The connection to a server, and the rules for requesters on it (RFC 6926 section 7, RFC 7724 section
//! 7.2).

use std::collections::{BTreeMap, HashMap};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use thiserror::Error;

use crate::binding::{Binding, Done, MalformedReply, Reply};
use crate::query::{InvalidQuery, Query, next_xid};
use crate::tls::{self, Tls};
use crate::transport::Transport;
use crate::wire::{BOOTREPLY, BOOTREQUEST, DecodeError, MAX_MESSAGE, Message, MessageType, frame};

pub use proto::port::SERVER as SERVER_PORT;
pub use proto::timing::BULK_LQ_DATA_TIMEOUT;

/// Default timeout for the connection to be established.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Timeouts of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// For the connection to be established, for each address of the server; > 0.
    pub connect: Duration,
    /// For the connection to become readable or writable again (RFC 6926 sections 7.2 and 7.3);
    /// > 0. Values below the default are not recommended.
    pub data: Duration,
}

impl Default for Timeouts {
    fn default() -> Timeouts {
        Timeouts {
            connect: CONNECT_TIMEOUT,
            data: BULK_LQ_DATA_TIMEOUT,
        }
    }
}

/// A TCP connection to a server, with any number of queries in progress on it; with TLS after
/// [`Connection::start_tls`].
///
/// An error closes the connection, and so does dropping it. Bindings received before an error stay
/// valid (RFC 6926 section 7.8).
///
/// Sending does not read replies: a caller that sends more queries than the socket's buffers hold
/// (hundreds) must read replies in between.
#[derive(Debug)]
pub struct Connection {
    /// The socket, with a buffer for reading.
    stream: BufReader<Transport>,
    /// The timeouts set on the socket, for error messages.
    read_timeout: Duration,
    /// As `read_timeout`, for sending.
    write_timeout: Duration,
    /// Whether no message was sent or received.
    is_fresh: bool,
    /// Queries in progress by xid.
    outstanding: HashMap<u32, Outstanding>,
}

/// A query in progress.
#[derive(Debug, Default)]
struct Outstanding {
    /// The server identifier of the first reply, which later ones inherit (RFC 6926 section 7.3).
    server_identifier: Option<Ipv4Addr>,
}

/// All replies to a query.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The bindings in order of arrival, valid also if the answer is incomplete (RFC 6926 section
    /// 7.8).
    pub bindings: Vec<Binding>,
    /// The DHCPLEASEQUERYDONE, or the error that ended the answer before it.
    pub done: Result<Done, Arc<Error>>,
}

impl Connection {
    /// Connects to the first of the server's addresses that accepts a connection.
    ///
    /// # Errors
    /// No address accepts one, or the server's name is not known.
    pub fn open(server: impl ToSocketAddrs, timeouts: &Timeouts) -> Result<Connection, Error> {
        Connection::open_from(None, server, timeouts)
    }

    /// Connects as [`Connection::open`] does, from the address `source` of this machine. Servers
    /// allow requesters by address.
    ///
    /// # Errors
    /// Those of [`Connection::open`]; also, this machine has no such address.
    pub fn open_from(
        source: Option<IpAddr>,
        server: impl ToSocketAddrs,
        timeouts: &Timeouts,
    ) -> Result<Connection, Error> {
        let mut failure = io::Error::new(io::ErrorKind::NotFound, "no address");
        for address in server.to_socket_addrs().map_err(Error::Resolve)? {
            match connect(source, address, timeouts.connect)? {
                Ok(stream) => return Connection::from_stream(stream, timeouts.data),
                Err(error) => failure = error,
            }
        }
        Err(Error::Connect(failure))
    }

    /// Returns a connection over a connected socket.
    ///
    /// # Errors
    /// The socket's options cannot be set, for instance because the timeout is zero.
    pub fn from_stream(stream: TcpStream, data_timeout: Duration) -> Result<Connection, Error> {
        // A query is one small write; delaying it gathers nothing.
        stream.set_nodelay(true).map_err(Error::Connect)?;
        let mut connection = Connection {
            stream: BufReader::with_capacity(MAX_MESSAGE + 2, Transport::Plain(stream)),
            read_timeout: data_timeout,
            write_timeout: data_timeout,
            is_fresh: true,
            outstanding: HashMap::new(),
        };
        connection.set_timeouts(data_timeout, data_timeout)?;
        Ok(connection)
    }

    /// Sets the timeouts for the connection to become readable and writable again.
    ///
    /// # Errors
    /// A timeout is zero, or the socket is no longer connected.
    pub fn set_timeouts(&mut self, read: Duration, write: Duration) -> Result<(), Error> {
        let socket = self.socket();
        socket
            .set_read_timeout(Some(read))
            .and_then(|()| socket.set_write_timeout(Some(write)))
            .map_err(Error::Connect)?;
        self.read_timeout = read;
        self.write_timeout = write;
        Ok(())
    }

    /// Sets the timeout for the connection to become readable again.
    ///
    /// # Errors
    /// Those of [`Connection::set_timeouts`].
    pub(crate) fn set_read_timeout(&mut self, read: Duration) -> Result<(), Error> {
        self.set_timeouts(read, self.write_timeout)
    }

    /// Requests TLS by DHCPTLS, validates the server's certificate, and returns the connection over TLS
    /// (RFC 7724 section 7.2). `timeout` is the longest time to wait for the server, before each of its
    /// messages; > 0.
    ///
    /// # Errors
    /// The connection has carried another message, the server does not agree to TLS, or the handshake
    /// fails. The connection is then closed.
    pub fn start_tls(mut self, tls: &Tls, timeout: Duration) -> Result<Connection, Error> {
        if !self.is_fresh {
            return Err(tls::Error::NotFirst.into());
        }
        let (read, write) = (self.read_timeout, self.write_timeout);
        self.set_timeouts(timeout, timeout)?;
        let request = Message::new(BOOTREQUEST, next_xid(), MessageType::TLS);
        self.send_octets(&frame(&request.encode()).map_err(InvalidQuery::from)?)?;
        let reply = match self.next_message() {
            Ok(Some(reply)) => reply,
            Ok(None) | Err(Error::Broken { .. }) => return Err(tls::Error::Closed.into()),
            Err(Error::Blocked { seconds, .. }) => {
                return Err(tls::Error::NoAnswer(seconds).into());
            }
            Err(error) => return Err(error),
        };
        tls::check_reply(&reply)?;
        match self.stream.buffer().len() {
            0 => {}
            octets => return Err(tls::Error::PlainOctets(octets).into()),
        }
        let Transport::Plain(socket) = self.stream.into_inner() else {
            return Err(tls::Error::NotFirst.into());
        };
        let stream = tls
            .handshake(socket)
            .map_err(|error| error.after(timeout))?;
        self.stream = BufReader::with_capacity(MAX_MESSAGE + 2, Transport::Tls(Box::new(stream)));
        self.set_timeouts(read, write)?;
        Ok(self)
    }

    /// Returns the server's address.
    ///
    /// # Errors
    /// The socket is no longer connected.
    pub fn peer_address(&self) -> io::Result<SocketAddr> {
        self.socket().peer_addr()
    }

    /// Returns the socket.
    pub fn socket(&self) -> &TcpStream {
        self.stream.get_ref().socket()
    }

    /// Returns the number of queries in progress.
    pub fn outstanding(&self) -> usize {
        self.outstanding.len()
    }

    /// Sends a query. [`Connection::next_reply`] reads the replies.
    ///
    /// # Errors
    /// The `xid` is in use on this connection (RFC 6926 section 7.1), the query cannot be encoded, or
    /// the connection is broken or stays blocked for the data timeout.
    pub fn send(&mut self, query: &Query) -> Result<(), Error> {
        if self.outstanding.contains_key(&query.xid) {
            return Err(Error::XidInUse(query.xid));
        }
        self.send_octets(&query.to_bytes()?)?;
        self.expect(query.xid);
        Ok(())
    }

    /// Sends octets without any check. Replies to a query among them are accepted after
    /// [`Connection::expect`].
    ///
    /// # Errors
    /// The connection is broken or stays blocked for the data timeout.
    pub fn send_octets(&mut self, octets: &[u8]) -> Result<(), Error> {
        self.is_fresh = false;
        let transport = self.stream.get_mut();
        let sent = transport.write_all(octets).and_then(|()| transport.flush());
        sent.map_err(|error| self.fail(Operation::Write, error))
    }

    /// Adds `xid` to the queries in progress.
    pub fn expect(&mut self, xid: u32) {
        self.outstanding.insert(xid, Outstanding::default());
    }

    /// Closes the connection for sending; replies can still be read.
    ///
    /// # Errors
    /// The socket is no longer connected.
    pub fn finish_sending(&mut self) -> io::Result<()> {
        self.stream.get_mut().finish_sending();
        self.socket().shutdown(Shutdown::Write)
    }

    /// Reads the next message, of any kind; `None` if the server closed the connection between two
    /// messages.
    ///
    /// # Errors
    /// The connection is broken or stays blocked for the data timeout, or the message is not a DHCPv4
    /// message.
    pub fn next_message(&mut self) -> Result<Option<Message>, Error> {
        self.is_fresh = false;
        let at_end = self.stream.fill_buf().map(<[u8]>::is_empty);
        if at_end.map_err(|error| self.fail(Operation::Read, error))? {
            return Ok(None);
        }
        let octets = self.read_frame().map_err(|cut| self.fail_in_message(cut))?;
        Message::decode(&octets).map(Some).map_err(|error| {
            self.close();
            Error::Decode(error)
        })
    }

    /// Reads a message-size and its message.
    fn read_frame(&mut self) -> Result<Vec<u8>, CutMessage> {
        let mut size = [0; 2];
        self.read_part(&mut size, 0)?;
        let mut octets = vec![0; usize::from(u16::from_be_bytes(size))];
        // A service of another protocol may send less than its first octets announce as the size of
        // a message, and then wait.
        let first = octets.len().min(1);
        let (op, rest) = octets.split_at_mut(first);
        self.read_part(op, 2)?;
        if op
            .first()
            .is_some_and(|op| ![BOOTREQUEST, BOOTREPLY].contains(op))
        {
            let seen = self.stream.buffer();
            let seen = seen.get(..SHOWN_OCTETS).unwrap_or(seen);
            return Err(CutMessage::NotDhcp([&size, &*op, seen].concat()));
        }
        self.read_part(rest, 3)?;
        Ok(octets)
    }

    /// Reads octets of a message, `before` of which have been read.
    fn read_part(&mut self, part: &mut [u8], before: usize) -> Result<(), CutMessage> {
        let mut done = 0;
        while let Some(rest) = part.get_mut(done..).filter(|rest| !rest.is_empty()) {
            match self.stream.read(rest) {
                Ok(0) => {
                    let error = io::ErrorKind::UnexpectedEof.into();
                    return Err(CutMessage::Socket(error, before + done));
                }
                Ok(length) => done += length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(CutMessage::Socket(error, before + done)),
            }
        }
        Ok(())
    }

    /// Whether reading the next message may block: the message has not been received completely.
    pub fn may_wait(&self) -> bool {
        match self.stream.buffer() {
            [high, low, message @ ..] => {
                message.len() < usize::from(u16::from_be_bytes([*high, *low]))
            }
            _ => true,
        }
    }

    /// Reads the next reply to any query in progress; `None` if no query is in progress.
    ///
    /// # Errors
    /// The connection ends, breaks or stays blocked while a query is in progress, or the server
    /// violates the protocol. The connection is then closed, and all queries in progress have
    /// ended.
    pub fn next_reply(&mut self) -> Result<Option<Reply>, Error> {
        if self.outstanding.is_empty() {
            return Ok(None);
        }
        let Some(message) = self.next_message()? else {
            let queries = self.outstanding.len();
            self.close();
            return Err(Error::Closed(queries));
        };
        let reply = self.accept(&message);
        if reply.is_err() {
            self.close();
        }
        reply.map(Some)
    }

    /// Decodes a message as a reply to one of the queries in progress.
    fn accept(&mut self, message: &Message) -> Result<Reply, Error> {
        // RFC 6926 section 7.3: an xid that matches no query closes the connection.
        let Some(query) = self.outstanding.get_mut(&message.xid) else {
            return Err(Error::UnknownXid(message.xid));
        };
        let mut reply = Reply::decode(message)?;
        query.server_identifier = query.server_identifier.or(reply.server_identifier());
        reply.apply_server_identifier(query.server_identifier);
        if matches!(reply, Reply::Done(_)) {
            self.outstanding.remove(&message.xid);
        }
        Ok(reply)
    }

    /// Iterates over the replies to all queries in progress as they arrive; ends after the last one
    /// or the first error.
    pub fn replies(&mut self) -> impl Iterator<Item = Result<Reply, Error>> {
        let mut failed = false;
        std::iter::from_fn(move || {
            let reply = if failed {
                None
            } else {
                self.next_reply().transpose()
            };
            failed = matches!(reply, Some(Err(_)));
            reply
        })
    }

    /// Sends a query and collects its whole answer. Bindings received before an error are part of it.
    /// With other queries in progress the answer is [`Error::Busy`].
    pub fn query(&mut self, query: &Query) -> Answer {
        let failed = |error| Answer {
            bindings: Vec::new(),
            done: Err(Arc::new(error)),
        };
        if !self.outstanding.is_empty() {
            return failed(Error::Busy(self.outstanding.len()));
        }
        if let Err(error) = self.send(query) {
            return failed(error);
        }
        let answer = self.collect_answers().remove(&query.xid);
        answer.unwrap_or_else(|| failed(Error::Closed(1)))
    }

    /// Reads replies until no query is in progress, and returns the answer to each query by xid. An
    /// error is part of each answer that it left incomplete.
    pub fn collect_answers(&mut self) -> BTreeMap<u32, Answer> {
        let mut bindings: BTreeMap<u32, Vec<Binding>> = self
            .outstanding
            .keys()
            .map(|xid| (*xid, Vec::new()))
            .collect();
        let mut answers = BTreeMap::new();
        loop {
            match self.next_reply() {
                Ok(Some(Reply::Binding(binding))) => {
                    bindings.entry(binding.xid).or_default().push(*binding);
                }
                Ok(Some(Reply::Done(done))) => {
                    let bindings = bindings.remove(&done.xid).unwrap_or_default();
                    let xid = done.xid;
                    let done = Ok(done);
                    answers.insert(xid, Answer { bindings, done });
                }
                Ok(None) => return answers,
                Err(error) => {
                    let error = Arc::new(error);
                    answers.extend(bindings.into_iter().map(|(xid, bindings)| {
                        let done = Err(Arc::clone(&error));
                        (xid, Answer { bindings, done })
                    }));
                    return answers;
                }
            }
        }
    }

    /// Ends the connection and all queries on it.
    pub(crate) fn close(&mut self) {
        self.outstanding.clear();
        self.stream.get_mut().finish_sending();
        // Fails only if the connection is closed already.
        let _ = self.socket().shutdown(Shutdown::Both);
    }

    /// Closes the connection after an error of the socket, and returns its meaning.
    fn fail(&mut self, operation: Operation, error: io::Error) -> Error {
        let queries = self.outstanding.len();
        self.close();
        if let Some(error) = tls::Error::of_record(&error) {
            return error.into();
        }
        let timeout = match operation {
            Operation::Read => self.read_timeout,
            Operation::Write => self.write_timeout,
        };
        match error.kind() {
            // The kind of a timeout depends on the system.
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Error::Blocked {
                operation,
                seconds: timeout.as_secs_f64(),
            },
            // TLS reports an end without close_notify so, wherever it is.
            io::ErrorKind::UnexpectedEof => match error.get_ref() {
                Some(_) => Error::ClosedWithoutNotify(queries),
                None => Error::ClosedInMessage(queries),
            },
            _ => Error::Broken { operation, error },
        }
    }

    /// Closes the connection after a message that could not be read, and returns the reason.
    fn fail_in_message(&mut self, cut: CutMessage) -> Error {
        match cut {
            CutMessage::NotDhcp(octets) => {
                self.close();
                Error::NotDhcp(octets)
            }
            CutMessage::Socket(error, octets) => match self.fail(Operation::Read, error) {
                Error::Blocked { seconds, .. } if octets > 0 => {
                    Error::BlockedInMessage { octets, seconds }
                }
                other => other,
            },
        }
    }
}

/// The largest number of octets of a message of another protocol that an error repeats.
const SHOWN_OCTETS: usize = 40;

/// The reason why a message could not be read.
enum CutMessage {
    /// The socket failed after this many octets of the message.
    Socket(io::Error, usize),
    /// The message begins with these octets, which no DHCPv4 message does.
    NotDhcp(Vec<u8>),
}

/// Connects to an address within `timeout`; the outer error is one that no other address avoids.
fn connect(
    source: Option<IpAddr>,
    address: SocketAddr,
    timeout: Duration,
) -> Result<io::Result<TcpStream>, Error> {
    let Some(source) = source else {
        return Ok(TcpStream::connect_timeout(&address, timeout));
    };
    let open = || {
        let socket = Socket::new(
            Domain::for_address(address),
            Type::STREAM,
            Some(Protocol::TCP),
        )?;
        socket.bind(&SocketAddr::new(source, 0).into())?;
        Ok(socket)
    };
    let socket = open().map_err(|error| Error::Source {
        address: source,
        error,
    })?;
    let connected = socket.connect_timeout(&address.into(), timeout);
    Ok(connected.map(|()| socket.into()))
}

/// An operation on a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Reading replies.
    Read,
    /// Sending queries.
    Write,
}

/// The reason why a query has no answer, or an incomplete one.
#[derive(Debug, Error)]
pub enum Error {
    /// The server's name is not known. No query was sent.
    #[error("cannot find the server: {0}")]
    Resolve(#[source] io::Error),
    /// No connection could be established. No query was sent.
    #[error("cannot connect: {0}")]
    Connect(#[source] io::Error),
    /// The source address cannot be used. No query was sent.
    #[error("cannot connect from {address}: {error}")]
    Source {
        /// The source address.
        address: IpAddr,
        /// The system's error.
        error: io::Error,
    },
    /// The connection broke; the query may be sent again on a new one (RFC 6926 section 7.1).
    #[error("the connection failed {}: {error}", match operation {
        Operation::Read => "while replies were read",
        Operation::Write => "while a query was sent",
    })]
    Broken {
        /// The operation that failed.
        operation: Operation,
        /// The system's error.
        #[source]
        error: io::Error,
    },
    /// The connection stayed blocked for BULK_LQ_DATA_TIMEOUT (RFC 6926 sections 7.2, 7.3).
    #[error("the server {} for {seconds} s", match operation {
        Operation::Read => "sent nothing",
        Operation::Write => "read nothing",
    })]
    Blocked {
        /// The operation that timed out.
        operation: Operation,
        /// The timeout in seconds.
        seconds: f64,
    },
    /// The connection stayed blocked for BULK_LQ_DATA_TIMEOUT within a message.
    #[error("the server sent {octets} octets of a message, and then nothing for {seconds} s")]
    BlockedInMessage {
        /// Octets of the message that were received.
        octets: usize,
        /// The timeout in seconds.
        seconds: f64,
    },
    /// The server closed the connection with this many queries in progress.
    #[error("the server closed the connection before the end of the answer ({0} in progress)")]
    Closed(usize),
    /// The server closed the connection within a message, with this many queries in progress.
    #[error("the server closed the connection within a message ({0} queries in progress)")]
    ClosedInMessage(usize),
    /// The connection over TLS ended without close_notify, with this many queries in progress: somebody
    /// else than the server may have ended it.
    #[error("the connection ended without close_notify of TLS ({0} queries in progress)")]
    ClosedWithoutNotify(usize),
    /// TLS could not be established, or failed.
    #[error(transparent)]
    Tls(#[from] tls::Error),
    /// The server sent octets that begin as no DHCPv4 message does.
    #[error("the server does not speak DHCP: it sent `{}`", .0.escape_ascii())]
    NotDhcp(Vec<u8>),
    /// The server sent octets that are not a DHCPv4 message.
    #[error("the server sent octets that are not a DHCPv4 message: {0}")]
    Decode(#[source] DecodeError),
    /// The server sent a reply that RFC 6926 does not allow.
    #[error("the server sent a malformed reply: {0}")]
    Malformed(#[from] MalformedReply),
    /// The server sent a reply that belongs to no query in progress (RFC 6926 section 7.3).
    #[error("the server sent a reply to no query in progress, xid {0:#010x}")]
    UnknownXid(u32),
    /// The query has the xid of another one in progress (RFC 6926 section 7.1).
    #[error("xid {0:#010x} is in use on the connection")]
    XidInUse(u32),
    /// The query cannot be encoded.
    #[error(transparent)]
    Invalid(#[from] InvalidQuery),
    /// Other queries are in progress, as many as given, so that one answer cannot be collected alone.
    #[error("{0} other queries are in progress on the connection")]
    Busy(usize),
}
