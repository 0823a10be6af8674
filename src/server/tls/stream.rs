//! A connection secured by TLS, as a stream of plaintext.

use std::io::{self, ErrorKind, Read};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustls::{ProtocolVersion, ServerConfig, ServerConnection};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::server::carrier::Carrier;
use crate::server::tls::peer::TlsPeer;
use crate::server::tls::records::{MAX_RECORD, Records};
use crate::server::tls::verifier;

/// The most octets of ciphertext that wait to be sent: two records of the greatest length. A requester that reads
/// nothing occupies them beside the output of its connection.
const MAX_SENDING: usize = 36 * 1024;

/// The number of records in TLS 1.2 from which the connection must end: with AES-GCM, keys protect 2^24 records (RFC 8446
/// section 5.5), and TLS 1.2 cannot renew them. The rest is for the messages in the connection's output, and the last ones.
const MAX_RECORDS: u64 = (1 << 24) - 8_192;

/// The most octets that a record has beside its plaintext: with AES-GCM in TLS 1.2, a header of 5, a
/// nonce of 8 and a tag of 16.
const OVERHEAD: usize = 29;

/// A stream secured by TLS.
///
/// Each written frame is a record of its own, if it is not longer than a record may be.
/// Records are encrypted into one buffer, which is sent by one system call.
#[derive(Debug)]
pub struct TlsStream<S> {
    /// The stream that carries the ciphertext.
    carrier: S,
    /// The state of TLS.
    session: ServerConnection,
    /// Finds the frames in the plaintext.
    records: Records,
    /// Ciphertext to be sent. len() <= MAX_SENDING, and some octets of alerts and key updates.
    sending: Vec<u8>,
    /// Octets of `sending` already sent: <= sending.len()
    sent: usize,
    /// The number of records written.
    written: u64,
    /// Whether the close_notify was written.
    is_closing: bool,
}

impl<S: Carrier> TlsStream<S> {
    /// Returns a stream whose handshake is about to begin.
    ///
    /// # Errors
    /// If the configuration of TLS cannot be used.
    pub fn new(carrier: S, config: Arc<ServerConfig>) -> Result<TlsStream<S>, rustls::Error> {
        let mut session = ServerConnection::new(config)?;
        // `sending`, into which all ciphertext is moved at once, bounds the plaintext taken.
        session.set_buffer_limit(None);
        Ok(TlsStream {
            carrier,
            session,
            records: Records::default(),
            sending: Vec::new(),
            sent: 0,
            written: 0,
            is_closing: false,
        })
    }

    /// Whether the handshake is not complete.
    pub fn is_handshaking(&self) -> bool {
        self.session.is_handshaking()
    }

    /// Returns the stream that carries the ciphertext.
    pub fn into_carrier(self) -> S {
        self.carrier
    }

    /// Returns the requester, once the handshake is complete and so its certificate verified.
    pub fn peer(&self) -> TlsPeer {
        let certificates = self.session.peer_certificates();
        TlsPeer {
            version: match self.session.protocol_version() {
                Some(ProtocolVersion::TLSv1_2) => "TLSv1.2",
                Some(ProtocolVersion::TLSv1_3) => "TLSv1.3",
                _ => "unknown",
            },
            name: certificates.and_then(<[_]>::first).map(verifier::name),
        }
    }

    /// Receives ciphertext, without processing it. Returns the number of octets; 0 at the end.
    pub fn poll_receive(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut source = Source {
            carrier: &mut self.carrier,
            context,
        };
        match self.session.read_tls(&mut source) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => Poll::Pending,
            read => Poll::Ready(read),
        }
    }

    /// Processes the received ciphertext. In a handshake this takes up to some milliseconds.
    ///
    /// # Errors
    /// The peer violates TLS, or its certificate is not accepted. An alert is to be
    /// [sent](TlsStream::poll_send) then.
    pub fn process(&mut self) -> Result<(), rustls::Error> {
        let processed = self.session.process_new_packets();
        self.collect();
        processed.map(drop)
    }

    /// Moves ciphertext from the session to `sending`.
    fn collect(&mut self) {
        while self.session.wants_write() {
            // Writing to memory does not fail.
            if self.session.write_tls(&mut self.sending).is_err() {
                return;
            }
        }
    }

    /// Sends all ciphertext.
    pub fn poll_send(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(rest) = self
            .sending
            .get(self.sent..)
            .filter(|rest| !rest.is_empty())
        {
            match ready!(Pin::new(&mut self.carrier).poll_write(context, rest))? {
                0 => return Poll::Ready(Err(ErrorKind::WriteZero.into())),
                count => self.sent += count,
            }
        }
        self.sending.clear();
        self.sent = 0;
        Poll::Ready(Ok(()))
    }

    /// Encrypts frames until the buffer is full. Returns the number of octets taken from `input`.
    fn encrypt(&mut self, input: &[u8]) -> io::Result<usize> {
        if self.sending.capacity() < MAX_SENDING {
            self.sending.reserve_exact(MAX_SENDING);
        }
        let mut taken = 0;
        while self.sending.len() + MAX_RECORD + OVERHEAD <= MAX_SENDING {
            let rest = input.get(taken..).unwrap_or_default();
            if rest.is_empty() {
                break;
            }
            let (count, record) = self.records.next(rest);
            taken += count;
            if let Some(record) = record {
                self.written += 1;
                // One call, one record.
                io::Write::write_all(&mut self.session.writer(), record)?;
                while self.session.wants_write() {
                    self.session.write_tls(&mut self.sending)?;
                }
            }
        }
        Ok(taken)
    }
}

/// The stream of ciphertext, read without blocking.
struct Source<'a, 'b, S> {
    /// The stream.
    carrier: &'a mut S,
    /// The task to be woken.
    context: &'a mut Context<'b>,
}

impl<S: AsyncRead + Unpin> Read for Source<'_, '_, S> {
    fn read(&mut self, space: &mut [u8]) -> io::Result<usize> {
        let mut space = ReadBuf::new(space);
        match Pin::new(&mut *self.carrier).poll_read(self.context, &mut space) {
            Poll::Ready(read) => read.map(|()| space.filled().len()),
            Poll::Pending => Err(ErrorKind::WouldBlock.into()),
        }
    }
}

impl<S: Carrier> AsyncRead for TlsStream<S> {
    /// Reads plaintext; nothing at the end, with or without a close_notify.
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        space: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // Alerts and key updates; nobody waits for them.
        if let Poll::Ready(sent) = self.poll_send(context) {
            sent?;
        }
        if space.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        loop {
            match self.session.reader().read(space.initialize_unfilled()) {
                Ok(count) => {
                    space.advance(count);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
                    return Poll::Ready(Ok(()));
                }
                Err(error) => return Poll::Ready(Err(error)),
            }
            ready!(self.poll_receive(context))?;
            let processed = self.process();
            if let (Poll::Ready(sent), Ok(())) = (self.poll_send(context), &processed) {
                sent?;
            }
            processed.map_err(|error| io::Error::new(ErrorKind::InvalidData, error))?;
        }
    }
}

impl<S: Carrier> AsyncWrite for TlsStream<S> {
    /// Takes plaintext to be encrypted, once all that was taken before is sent.
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        input: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_send(context))?;
        let taken = self.encrypt(input)?;
        if let Poll::Ready(sent) = self.poll_send(context) {
            sent?;
        }
        Poll::Ready(Ok(taken))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_send(context))?;
        Pin::new(&mut self.carrier).poll_flush(context)
    }

    /// Sends a close_notify, and shuts down the sending side.
    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.is_closing {
            self.is_closing = true;
            self.session.send_close_notify();
            self.collect();
        }
        ready!(self.poll_send(context))?;
        Pin::new(&mut self.carrier).poll_shutdown(context)
    }
}

impl<S: Carrier> Carrier for TlsStream<S> {
    fn write_freely(&self) {
        self.carrier.write_freely();
    }

    fn limit_silence(&self, time: Duration) {
        self.carrier.limit_silence(time);
    }

    /// Counts ciphertext.
    fn unsent(&self) -> usize {
        self.sending.len() - self.sent
    }

    fn exhausted(&self) -> Option<&'static str> {
        let is_limited = self.session.protocol_version() == Some(ProtocolVersion::TLSv1_2);
        let is_exhausted = is_limited && self.written >= MAX_RECORDS;
        is_exhausted.then_some(
            "the keys of TLS 1.2 must not protect more messages: connect again, or use TLS 1.3",
        )
    }
}
