//! The streams that carry a connection's octets.

use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// The longest time-out of a socket: the kernel refuses more milliseconds than an `int` holds.
const LONGEST_TIMEOUT: Duration = Duration::from_millis(i32::MAX as u64);

/// A stream that carries a connection's octets.
pub trait Carrier: AsyncRead + AsyncWrite + Unpin {
    /// Removes the limit of unsent octets in the kernel. Called when the server stops: octets in
    /// the kernel reach the requester even after the end of the process.
    fn write_freely(&self) {}

    /// Sets the time after which the stream fails if its peer does not acknowledge octets, because its host is down or
    /// unreachable, or has no room for them.
    fn limit_silence(&self, _time: Duration) {}

    /// Returns the number of octets that the stream took and has not sent yet.
    fn unsent(&self) -> usize {
        0
    }

    /// Returns the reason for which the stream can carry only a few more messages, if there is one.
    fn exhausted(&self) -> Option<&'static str> {
        None
    }
}

impl Carrier for TcpStream {
    fn write_freely(&self) {
        // If this fails, the requester may not receive the status of its queries.
        let _ = SockRef::from(self).set_tcp_notsent_lowat(u32::MAX);
    }

    fn limit_silence(&self, time: Duration) {
        // If this fails, the system's own limit applies, which is longer.
        let time = time.min(LONGEST_TIMEOUT);
        let _ = SockRef::from(self).set_tcp_user_timeout(Some(time));
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn limits_the_silence_of_a_tcp_peer() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let stream = TcpStream::connect(address).await.unwrap();
        let limit = || SockRef::from(&stream).tcp_user_timeout().unwrap();
        assert_eq!(limit(), None, "the system's");
        for (time, expected) in [
            (Duration::from_secs(120), Duration::from_secs(120)),
            // Any value that the configuration accepts.
            (Duration::from_secs(u32::MAX.into()), LONGEST_TIMEOUT),
        ] {
            stream.limit_silence(time);
            assert_eq!(limit(), Some(expected));
        }
    }
}
