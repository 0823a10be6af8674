//! The connection to a server, and how a requestor behaves on it (RFC 6926 section 7).

use std::collections::{BTreeMap, HashMap};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;

use crate::binding::{Binding, Done, MalformedReply, Reply};
use crate::query::{InvalidQuery, Query};
use crate::wire::{DecodeError, MAX_MESSAGE, Message};

pub use proto::port::SERVER as SERVER_PORT;
pub use proto::timing::BULK_LQ_DATA_TIMEOUT;

/// How long to wait for a connection if the user does not say.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long to wait for the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// For the connection, for each address of the server; > 0.
    pub connect: Duration,
    /// For the connection to become readable or writable again (RFC 6926 sections 7.2 and
    /// 7.3); > 0. Less than the default is not recommended.
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

/// A TCP connection to a server, with any number of queries in progress on it.
///
/// Dropping it closes it. After an error it is closed, and whatever was received before
/// stays valid (RFC 6926 section 7.8).
///
/// Sending does not read replies meanwhile: a caller that sends more queries than the socket's
/// buffers hold (hundreds) has to read replies in between.
#[derive(Debug)]
pub struct Connection {
    /// The socket, read through a buffer.
    stream: BufReader<TcpStream>,
    /// The timeout set on the socket, for messages.
    data_timeout: Duration,
    /// Queries in progress by xid, each with what its first reply said.
    outstanding: HashMap<u32, Outstanding>,
}

/// A query in progress.
#[derive(Debug, Default)]
struct Outstanding {
    /// The server identifier of the first reply, for those after it (RFC 6926 section 7.3).
    server_identifier: Option<Ipv4Addr>,
}

/// All that came in answer to a query.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The bindings in the order they came; valid however the answer ended (RFC 6926
    /// section 7.8).
    pub bindings: Vec<Binding>,
    /// The DHCPLEASEQUERYDONE, or why there is none.
    pub done: Result<Done, Arc<Error>>,
}

impl Connection {
    /// Connects to the first of the server's addresses that answers.
    ///
    /// # Errors
    /// None does, or the server's name is not known.
    pub fn open(server: impl ToSocketAddrs, timeouts: &Timeouts) -> Result<Connection, Error> {
        let mut failure = io::Error::new(io::ErrorKind::NotFound, "no address");
        for address in server.to_socket_addrs().map_err(Error::Resolve)? {
            match TcpStream::connect_timeout(&address, timeouts.connect) {
                Ok(stream) => return Connection::from_stream(stream, timeouts.data),
                Err(error) => failure = error,
            }
        }
        Err(Error::Connect(failure))
    }

    /// Takes over a connected socket.
    ///
    /// # Errors
    /// The socket's options cannot be set, as with a timeout of zero.
    pub fn from_stream(stream: TcpStream, data_timeout: Duration) -> Result<Connection, Error> {
        stream
            .set_read_timeout(Some(data_timeout))
            .map_err(Error::Connect)?;
        stream
            .set_write_timeout(Some(data_timeout))
            .map_err(Error::Connect)?;
        // A query is one small write: there is nothing to gather.
        stream.set_nodelay(true).map_err(Error::Connect)?;
        Ok(Connection {
            stream: BufReader::with_capacity(MAX_MESSAGE + 2, stream),
            data_timeout,
            outstanding: HashMap::new(),
        })
    }

    /// The address of the server.
    ///
    /// # Errors
    /// The connection is gone.
    pub fn peer_address(&self) -> io::Result<SocketAddr> {
        self.stream.get_ref().peer_addr()
    }

    /// The socket, for what is not done here.
    pub fn socket(&self) -> &TcpStream {
        self.stream.get_ref()
    }

    /// How many queries are in progress.
    pub fn outstanding(&self) -> usize {
        self.outstanding.len()
    }

    /// Sends a query. Replies are read by [`Connection::next_reply`].
    ///
    /// # Errors
    /// An `xid` in use on this connection (RFC 6926 section 7.1), a query no message can hold,
    /// a connection that is broken or stays blocked for the data timeout.
    pub fn send(&mut self, query: &Query) -> Result<(), Error> {
        if self.outstanding.contains_key(&query.xid) {
            return Err(Error::XidInUse(query.xid));
        }
        self.send_octets(&query.to_bytes()?)?;
        self.expect(query.xid);
        Ok(())
    }

    /// Sends octets as they are, a query or not. [`Connection::expect`] tells whose replies to
    /// accept.
    ///
    /// # Errors
    /// The connection is broken or stays blocked for the data timeout.
    pub fn send_octets(&mut self, octets: &[u8]) -> Result<(), Error> {
        let sent = self.stream.get_mut().write_all(octets);
        sent.map_err(|error| self.fail(Doing::Writing, error))
    }

    /// Regards a query with this `xid` as in progress.
    pub fn expect(&mut self, xid: u32) {
        self.outstanding.insert(xid, Outstanding::default());
    }

    /// Tells the server that no query will follow; replies can still be read.
    ///
    /// # Errors
    /// The connection is gone.
    pub fn finish_sending(&self) -> io::Result<()> {
        self.stream.get_ref().shutdown(Shutdown::Write)
    }

    /// Reads the next message, whatever it is; `None` if the server closed the connection
    /// between two messages.
    ///
    /// # Errors
    /// The connection is broken, or delivers nothing for the data timeout, or the message
    /// cannot be read as DHCPv4.
    pub fn next_message(&mut self) -> Result<Option<Message>, Error> {
        let at_end = self.stream.fill_buf().map(<[u8]>::is_empty);
        if at_end.map_err(|error| self.fail(Doing::Reading, error))? {
            return Ok(None);
        }
        let octets = self.read_frame();
        let octets = octets.map_err(|error| self.fail(Doing::Reading, error))?;
        Message::decode(&octets).map(Some).map_err(|error| {
            self.close();
            Error::Decode(error)
        })
    }

    /// Reads one message behind its message-size.
    fn read_frame(&mut self) -> io::Result<Vec<u8>> {
        let mut size = [0; 2];
        self.stream.read_exact(&mut size)?;
        let mut octets = vec![0; usize::from(u16::from_be_bytes(size))];
        self.stream.read_exact(&mut octets)?;
        Ok(octets)
    }

    /// Whether reading the next message may have to wait for the server: it has not been
    /// received whole yet.
    pub fn may_wait(&self) -> bool {
        match self.stream.buffer() {
            [high, low, message @ ..] => {
                message.len() < usize::from(u16::from_be_bytes([*high, *low]))
            }
            _ => true,
        }
    }

    /// Reads the next reply to any of the queries in progress; `None` once none is.
    ///
    /// # Errors
    /// The connection ends, breaks or stays blocked while a query is in progress, or the
    /// server sends what it must not. The connection is closed then, and every query on it
    /// over.
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

    /// Reads a message as a reply to one of the queries in progress.
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

    /// The replies to all queries in progress, as they come; ends with the last of them or the
    /// first error.
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

    /// Sends a query and keeps its whole answer in memory. Other queries in progress are
    /// [`Error::Busy`]; bindings received before an error are kept.
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

    /// Reads replies until no query is in progress, and sorts them by xid into one answer for
    /// each query that was. An error is in the answers it cut short.
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
    fn close(&mut self) {
        self.outstanding.clear();
        // There is nothing to do about a connection that is gone already.
        let _ = self.stream.get_ref().shutdown(Shutdown::Both);
    }

    /// Closes the connection after an error of the socket, and says what it means.
    fn fail(&mut self, doing: Doing, error: io::Error) -> Error {
        let queries = self.outstanding.len();
        self.close();
        match error.kind() {
            // How a timeout shows depends on the system.
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Error::Blocked {
                doing,
                seconds: self.data_timeout.as_secs_f64(),
            },
            io::ErrorKind::UnexpectedEof => Error::ClosedInMessage(queries),
            _ => Error::Broken { doing, error },
        }
    }
}

/// What a socket was used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doing {
    /// Reading replies.
    Reading,
    /// Sending queries.
    Writing,
}

/// Why a query got no answer, or not all of it.
#[derive(Debug, Error)]
pub enum Error {
    /// The server's name is not known. Nothing was sent.
    #[error("cannot find the server: {0}")]
    Resolve(#[source] io::Error),
    /// No connection. Nothing was sent.
    #[error("cannot connect: {0}")]
    Connect(#[source] io::Error),
    /// The connection broke; a query may be tried again on a new one (RFC 6926 section 7.1).
    #[error("the connection failed {}: {error}", match doing {
        Doing::Reading => "while replies were read",
        Doing::Writing => "while a query was sent",
    })]
    Broken {
        /// What was going on.
        doing: Doing,
        /// What the system says.
        #[source]
        error: io::Error,
    },
    /// The connection stayed blocked for BULK_LQ_DATA_TIMEOUT (RFC 6926 sections 7.2, 7.3).
    #[error("the server {} for {seconds} s", match doing {
        Doing::Reading => "sent nothing",
        Doing::Writing => "read nothing",
    })]
    Blocked {
        /// What was going on.
        doing: Doing,
        /// The timeout.
        seconds: f64,
    },
    /// The server closed the connection with so many queries unanswered.
    #[error("the server closed the connection before the end of the answer ({0} in progress)")]
    Closed(usize),
    /// The server closed the connection in the middle of a message.
    #[error("the server closed the connection within a message ({0} queries in progress)")]
    ClosedInMessage(usize),
    /// A message of the server that is no DHCPv4 message.
    #[error("the server sent what is no DHCPv4 message: {0}")]
    Decode(#[source] DecodeError),
    /// A reply RFC 6926 does not allow.
    #[error("the server sent a malformed reply: {0}")]
    Malformed(#[from] MalformedReply),
    /// A reply to no query in progress (RFC 6926 section 7.3).
    #[error("the server sent a reply to no query in progress, xid {0:#010x}")]
    UnknownXid(u32),
    /// The caller gave a query the xid of one in progress (RFC 6926 section 7.1).
    #[error("xid {0:#010x} is in use on the connection")]
    XidInUse(u32),
    /// The caller's query cannot be put in a message.
    #[error(transparent)]
    Invalid(#[from] InvalidQuery),
    /// The caller wants one answer while so many queries are in progress.
    #[error("{0} other queries are in progress on the connection")]
    Busy(usize),
}
