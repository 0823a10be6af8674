//! TLS handshakes: their deadline, and how many there are at once.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::time::Duration;

use rustls::CertificateError;
use tokio::sync::Semaphore;
use tokio::task::yield_now;
use tokio::time::timeout;

use crate::server::carrier::Carrier;
use crate::server::tls::stream::TlsStream;

/// The time from the reply to a DHCPTLS until the handshake is complete. Longer than several lost
/// segments take to be sent again; a requester that takes longer is closed.
const DEADLINE: Duration = Duration::from_secs(10);

/// Handshakes at once, of all requesters together. Each needs up to some 100 KiB. Further ones wait
/// within [`DEADLINE`].
const AT_ONCE: usize = 64;

/// Limits of the handshakes of a server.
#[derive(Debug)]
pub struct HandshakeLimits {
    /// Free places for handshakes.
    places: Semaphore,
    /// One permit, for the handshake that computes. A step takes up to some milliseconds, in which
    /// its thread serves no other connection: many together would delay those.
    turn: Semaphore,
}

impl Default for HandshakeLimits {
    fn default() -> HandshakeLimits {
        HandshakeLimits {
            places: Semaphore::new(AT_ONCE),
            turn: Semaphore::new(1),
        }
    }
}

/// Reasons for which a handshake failed.
#[derive(Debug)]
pub enum HandshakeError {
    /// The requester closed the connection.
    Closed,
    /// The handshake was not complete at the deadline.
    Late,
    /// The connection failed.
    Io(io::Error),
    /// The requester violates TLS, or its certificate is not accepted.
    Tls(rustls::Error),
}

impl fmt::Display for HandshakeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use rustls::Error::{AlertReceived, InvalidCertificate, NoCertificatesPresented};
        match self {
            HandshakeError::Closed => f.write_str("the requester closed the connection"),
            HandshakeError::Late => {
                write!(f, "it was not complete within {} s", DEADLINE.as_secs())
            }
            HandshakeError::Io(error) => error.fmt(f),
            HandshakeError::Tls(InvalidCertificate(CertificateError::Other(error))) => error.fmt(f),
            HandshakeError::Tls(NoCertificatesPresented) => {
                f.write_str("the requester presented no certificate")
            }
            HandshakeError::Tls(AlertReceived(alert)) => {
                write!(f, "the requester ended it with the alert {alert:?}")
            }
            HandshakeError::Tls(error) => error.fmt(f),
        }
    }
}

impl From<io::Error> for HandshakeError {
    fn from(error: io::Error) -> HandshakeError {
        HandshakeError::Io(error)
    }
}

/// Completes the handshake of a stream within the limits.
///
/// # Errors
/// The stream is to be closed. An alert was sent if the requester can receive one.
pub async fn handshake<S: Carrier>(
    stream: &mut TlsStream<S>,
    limits: &HandshakeLimits,
) -> Result<(), HandshakeError> {
    let complete = async {
        let result = exchange(stream, limits).await;
        // The last messages of the handshake, or the alert.
        let sent = poll_fn(|context| stream.poll_send(context)).await;
        result.and_then(|()| Ok(sent?))
    };
    let complete = timeout(DEADLINE, complete).await;
    complete.unwrap_or(Err(HandshakeError::Late))
}

/// Exchanges messages until the handshake is complete.
async fn exchange<S: Carrier>(
    stream: &mut TlsStream<S>,
    limits: &HandshakeLimits,
) -> Result<(), HandshakeError> {
    let mut place = None;
    while stream.is_handshaking() {
        poll_fn(|context| stream.poll_send(context)).await?;
        if poll_fn(|context| stream.poll_receive(context)).await? == 0 {
            return Err(HandshakeError::Closed);
        }
        if place.is_none() {
            // Only now: peers that send nothing take no place of others. The semaphores are never closed.
            place = Some(limits.places.acquire().await);
        }
        let _turn = limits.turn.acquire().await;
        stream.process().map_err(HandshakeError::Tls)?;
        // The next handshake computes once the event loop has served other connections.
        yield_now().await;
    }
    Ok(())
}
