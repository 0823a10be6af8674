//! A connection on a stream: moves octets, watches the clock, closes gracefully.

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::watch;
use tokio::task::yield_now;
use tokio::time::{Instant, sleep_until, timeout};

use crate::query::Engine;
use crate::server::connection::{Connection, End};
use crate::server::slots::Slot;
use crate::server::stop::{Stop, overdue, stopped};

/// How long a connection the server has closed waits for the requester to close it too.
/// Octets that arrive at a socket that is gone make the system send RST, which may destroy
/// what the requester has not read yet.
const CLOSE_TIME: Duration = Duration::from_secs(1);

/// The same when the server ends, and Kea waits for that: enough to discard what has arrived.
const STOPPING_CLOSE_TIME: Duration = Duration::from_millis(100);

/// Text for requesters that closed their side while their queries wait, when too many did.
const TOO_MANY_WAIT: &str = "the server cannot answer yet, and too many connections wait";

/// What carries a connection's octets.
pub trait Carrier: AsyncRead + AsyncWrite + Unpin {
    /// Has the system hold as much as it can of what is written from now on. It is called when
    /// the server ends: what the system holds reaches the requester when it reads, even after
    /// we are gone.
    fn write_freely(&self) {}
}

/// Serves a connection on `stream` until it is over, or `stop` and its time have come.
pub async fn serve<S, E>(
    mut stream: S,
    mut connection: Connection<E>,
    mut slot: Slot,
    stop: watch::Receiver<Option<Stop>>,
) where
    S: Carrier,
    E: Engine,
{
    let peer = connection.requester().peer;
    let outcome = tokio::select! {
        outcome = converse(&mut stream, &mut connection, &mut slot, stop.clone()) => outcome,
        () = overdue(stop.clone()) => Err(io::ErrorKind::TimedOut.into()),
    };
    connection.report_rest();
    match (&outcome, connection.end()) {
        (Ok(()), Some(end)) => {
            tracing::debug!(id = "BLQ_CONNECTION_CLOSED", "connection of {peer}: {end}");
        }
        (Ok(()), None) => {}
        (Err(error), _) => {
            tracing::debug!(
                id = "BLQ_CONNECTION_FAILED",
                "connection of {peer}: {error}"
            );
        }
    }
    // After an error, or when the requester does not read, there is nothing to save.
    if outcome.is_ok() && connection.end() != Some(&End::Blocked) {
        let wait = match connection.end() {
            Some(End::Terminated(_)) => STOPPING_CLOSE_TIME,
            _ => CLOSE_TIME,
        };
        tokio::select! {
            () = close(&mut stream, &mut slot, wait) => {}
            () = overdue(stop) => {}
        }
    }
}

/// Reads queries and sends answers until the connection is finished.
async fn converse<S, E>(
    stream: &mut S,
    connection: &mut Connection<E>,
    slot: &mut Slot,
    stop: watch::Receiver<Option<Stop>>,
) -> io::Result<()>
where
    S: Carrier,
    E: Engine,
{
    let mut stopping = pin!(stopped(stop));
    let mut stop_seen = false;
    // Deadlines only ever move away: it is enough to look again when the timer fires.
    let mut timer = pin!(sleep_until(next_look(connection)));
    let mut unflushed = false;
    let engine = Arc::clone(connection.engine());
    // Before the first look at any query, so that nothing is missed.
    let mut wake_up = pin!(engine.wake_up());
    loop {
        connection.produce(Instant::now().into_std());
        if connection.is_finished() && !unflushed {
            return Ok(());
        }
        // A requester that gave up looks like one that has nothing more to ask. It must not keep itself
        // from asking again while its queries wait.
        if connection.is_waiting()
            && connection.end() == Some(&End::PeerClosed)
            && !slot.start_closing()
        {
            connection.terminate(TOO_MANY_WAIT, Instant::now().into_std());
        }
        // Answers in progress, but nothing to send: a search goes on in the next turn.
        let searching = connection.is_answering() && connection.output().is_empty();
        tokio::select! {
            biased;
            stop = &mut stopping, if !stop_seen => {
                stop_seen = true;
                connection.terminate(&stop.reason, Instant::now().into_std());
                stream.write_freely();
            }
            result = poll_fn(|context| transfer(stream, connection, &mut unflushed, context)) => {
                result?;
                // A requester that takes all at once would leave others no turn.
                if connection.is_answering() {
                    yield_now().await;
                }
            }
            () = &mut timer => {
                connection.expire(Instant::now().into_std());
                if connection.is_finished() {
                    return Ok(());
                }
                timer.as_mut().reset(next_look(connection));
            }
            () = &mut wake_up, if connection.is_waiting() => {
                wake_up.set(engine.wake_up());
                connection.wake();
            }
            () = yield_now(), if searching => {}
        }
    }
}

/// When to look at the connection's deadline again.
fn next_look<E: Engine>(connection: &Connection<E>) -> Instant {
    match connection.deadline() {
        Some(deadline) => deadline.into(),
        None => Instant::now() + connection.idle_time(),
    }
}

/// Reads and writes as much as goes without waiting; ready if that was anything.
fn transfer<S, E>(
    stream: &mut S,
    connection: &mut Connection<E>,
    unflushed: &mut bool,
    context: &mut Context<'_>,
) -> Poll<io::Result<()>>
where
    S: Carrier,
    E: Engine,
{
    let now = Instant::now().into_std();
    let mut moved = false;
    while connection.wants_input() {
        let mut space = connection.input_space();
        match pin!(stream.read_buf(&mut space)).poll(context) {
            Poll::Pending => break,
            Poll::Ready(result) => match result? {
                0 => connection.input_closed(),
                _ => {
                    connection.received(now);
                    // A short answer makes room for the next query: many are sent in one piece.
                    connection.produce(now);
                }
            },
        }
        moved = true;
    }
    while !connection.output().is_empty() {
        match Pin::new(&mut *stream).poll_write(context, connection.output()) {
            Poll::Pending => break,
            Poll::Ready(result) => match result? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                count => connection.sent(count, now),
            },
        }
        *unflushed = true;
        moved = true;
    }
    if *unflushed && connection.output().is_empty() {
        match Pin::new(&mut *stream).poll_flush(context) {
            Poll::Pending => {}
            Poll::Ready(result) => {
                result?;
                *unflushed = false;
                moved = true;
            }
        }
    }
    if moved {
        Poll::Ready(Ok(()))
    } else {
        Poll::Pending
    }
}

/// Closes a connection gracefully (RFC 6926 section 8.5): says that nothing more comes, then
/// waits a short time for the requester to have read it and to close its side.
async fn close<S>(stream: &mut S, slot: &mut Slot, wait: Duration)
where
    S: Carrier,
{
    let may_wait = slot.start_closing();
    let closing = async {
        if stream.shutdown().await.is_err() || !may_wait {
            return;
        }
        let mut discarded = [0; 2048];
        while matches!(stream.read(&mut discarded).await, Ok(count) if count > 0) {}
    };
    // Whether the requester closed its side in time makes no difference.
    let _ = timeout(wait, closing).await;
}

#[cfg(test)]
mod tests;
