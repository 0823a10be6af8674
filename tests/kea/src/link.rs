//! The link by which one high-availability partner reaches the other: an HTTP proxy.

use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddrV4, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use serde_json::Value;

use crate::control;

/// The end of a message's head (RFC 9112, section 2.1).
const END_OF_HEAD: &[u8] = b"\r\n\r\n";

/// The longest message forwarded, in octets; all messages of the tests are shorter.
const LONGEST: u64 = 64 << 20;

/// A link to one server's control interface that can be cut and restored, and that records the
/// commands it forwards; closed on drop.
#[derive(Debug)]
pub struct Link {
    /// The address to which the partner connects.
    address: SocketAddrV4,
    /// The state shared by its threads.
    shared: Arc<Shared>,
}

/// The far end of a link.
#[derive(Debug, Clone)]
pub enum End {
    /// The HTTP listener of the server itself (libdhcp_ha, multi-threaded).
    Listener(SocketAddrV4),
    /// The server's control socket: the link acts as kea-ctrl-agent.
    ControlSocket(PathBuf),
}

/// The state shared by a link's threads.
#[derive(Debug, Default)]
struct Shared(Mutex<Inner>);

/// The state of a link.
#[derive(Debug, Default)]
struct Inner {
    /// The far end, once it is known.
    end: Option<End>,
    /// Whether the link is cut.
    cut: bool,
    /// Whether the link is being closed.
    closed: bool,
    /// Connections made since the link was last cut, both sides of each.
    connections: Vec<TcpStream>,
    /// Commands forwarded, with their arguments.
    commands: Vec<Value>,
}

impl Link {
    /// Opens a link that accepts connections at an address, and forwards them once its far end is
    /// known.
    #[track_caller]
    pub fn at(address: SocketAddrV4) -> Self {
        let listener = TcpListener::bind(address)
            .unwrap_or_else(|error| panic!("binding to {address}: {error}"));
        let shared = Arc::new(Shared::default());
        let threads = Arc::clone(&shared);
        thread::spawn(move || accept(&listener, &threads));
        Link { address, shared }
    }

    /// Sets the far end.
    pub fn connect_to(&self, end: End) {
        self.shared.lock().end = Some(end);
    }

    /// Breaks connections, and refuses further ones until the link is restored.
    pub fn cut(&self) {
        let mut inner = self.shared.lock();
        inner.cut = true;
        inner.hang_up();
    }

    /// Restores the link.
    pub fn restore(&self) {
        self.shared.lock().cut = false;
    }

    /// Returns the forwarded commands with a name, oldest first.
    pub fn commands(&self, name: &str) -> Vec<Value> {
        let inner = self.shared.lock();
        let named = |command: &&Value| command["command"] == name;
        inner.commands.iter().filter(named).cloned().collect()
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        let mut inner = self.shared.lock();
        inner.closed = true;
        inner.hang_up();
        drop(inner);
        // This connection wakes the accepting thread, which then ends.
        drop(TcpStream::connect(self.address));
    }
}

impl Shared {
    /// Locks the state, even if a thread panicked while it held the lock.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Registers a connection. Returns the far end, or `None` if there is none.
    fn register(&self, connection: &TcpStream) -> Option<End> {
        let mut inner = self.lock();
        if inner.cut {
            return None;
        }
        let end = inner.end.clone()?;
        inner.connections.push(connection.try_clone().ok()?);
        Some(end)
    }
}

impl Inner {
    /// Breaks all connections.
    fn hang_up(&mut self) {
        for connection in self.connections.drain(..) {
            hang_up(&connection);
        }
    }
}

/// Accepts connections until the link is closed.
fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for connection in listener.incoming().flatten() {
        if shared.lock().closed {
            return;
        }
        let shared = Arc::clone(shared);
        thread::spawn(move || {
            if let Some(end) = shared.register(&connection) {
                // A broken connection is an error here.
                let _ = forward(&connection, &end, &shared);
                hang_up(&connection);
            }
        });
    }
}

/// Forwards messages to the far end until either side closes.
fn forward(near: &TcpStream, end: &End, shared: &Shared) -> io::Result<()> {
    match end {
        End::Listener(address) => {
            let far = TcpStream::connect(address)?;
            far.set_nodelay(true)?;
            shared.lock().connections.push(far.try_clone()?);
            let mut responses = BufReader::new(&far);
            let result = serve_requests(near, shared, |request, _| {
                request.write(&mut &far)?;
                let response = Message::read(&mut responses)?;
                response.ok_or_else(|| ErrorKind::UnexpectedEof.into())
            });
            hang_up(&far);
            result
        }
        End::ControlSocket(path) => serve_requests(near, shared, |_, command| {
            let answer = control::send(path, command)?;
            Ok(Message::answer(&Value::Array(vec![answer])))
        }),
    }
}

/// Reads requests one at a time, and answers each with the result of `respond`.
fn serve_requests(
    near: &TcpStream,
    shared: &Shared,
    mut respond: impl FnMut(&Message, &Value) -> io::Result<Message>,
) -> io::Result<()> {
    near.set_nodelay(true)?;
    let mut requests = BufReader::new(near);
    while let Some(request) = Message::read(&mut requests)? {
        let command = serde_json::from_slice(&request.body)?;
        let response = respond(&request, &command)?;
        shared.lock().commands.push(command);
        response.write(&mut &*near)?;
    }
    Ok(())
}

/// Closes a connection of which the link holds a copy.
fn hang_up(connection: &TcpStream) {
    // The connection may have been closed already.
    let _ = connection.shutdown(Shutdown::Both);
}

/// An HTTP message (RFC 9112) whose head has the length of its body.
struct Message {
    /// Start line and fields, including the empty line after them.
    head: Vec<u8>,
    /// The body.
    body: Vec<u8>,
}

impl Message {
    /// Reads a message; `None` at the end of the stream.
    fn read(from: &mut impl BufRead) -> io::Result<Option<Self>> {
        let mut head = Vec::new();
        while !head.ends_with(END_OF_HEAD) {
            if from.by_ref().take(LONGEST).read_until(b'\n', &mut head)? == 0 {
                return Ok(None);
            }
        }
        let mut body = Vec::new();
        from.take(content_length(&head)).read_to_end(&mut body)?;
        Ok(Some(Message { head, body }))
    }

    /// Returns the response to a command.
    fn answer(answer: &Value) -> Self {
        let body = answer.to_string().into_bytes();
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        Message {
            head: head.into_bytes(),
            body,
        }
    }

    /// Writes the message in one call.
    fn write(&self, to: &mut impl Write) -> io::Result<()> {
        to.write_all(&[&self.head[..], &self.body].concat())
    }
}

/// Returns the length of the body; 0 if the head does not have it.
fn content_length(head: &[u8]) -> u64 {
    let head = String::from_utf8_lossy(head);
    let mut fields = head.lines().filter_map(|line| line.split_once(':'));
    fields
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .and_then(|(_, value)| value.trim().parse().ok())
        .unwrap_or(0)
        .min(LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 9112, section 6.3: a message ends according to its length, and the next one follows.
    #[test]
    fn reads_one_message_after_another() {
        let sent = b"POST / HTTP/1.1\r\ncontent-length: 2\r\n\r\n{}GET / HTTP/1.1\r\n\r\n";
        let mut from = BufReader::new(&sent[..]);
        let first = Message::read(&mut from).unwrap().expect("a message");
        assert_eq!(first.body, b"{}");
        let second = Message::read(&mut from).unwrap().expect("another");
        assert_eq!(second.head, b"GET / HTTP/1.1\r\n\r\n");
        assert_eq!(second.body, b"");
        assert!(Message::read(&mut from).unwrap().is_none());
    }
}
