//! A connection on a stream: moves octets, runs the timers, closes gracefully.

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::watch;
use tokio::task::yield_now;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::query::Engine;
use crate::server::carrier::Carrier;
use crate::server::connection::{Connection, End};
use crate::server::monitor::Activity;
use crate::server::slots::Slot;
use crate::server::stop::{STOP_TIME, Stop, overdue, stopped};
use crate::server::tls::context::TlsOffer;
use crate::server::tls::handshake::handshake;
use crate::server::tls::stream::TlsStream;

/// Time that a connection closed by the server waits for the requester's close. Octets that arrive
/// at a closed socket make the kernel send RST, which may discard data that the requester has not
/// read yet.
const CLOSE_TIME: Duration = Duration::from_secs(1);

/// [`CLOSE_TIME`] when the server stops and Kea waits for it: enough to discard octets already received.
const STOPPING_CLOSE_TIME: Duration = Duration::from_millis(100);

/// The least time from one wake-up of a stream to the next: changes in between are sent together.
const WAKE_UP_PAUSE: Duration = Duration::from_millis(1);

/// Status message for a requester whose connection an administrator ends.
const DISCONNECTED: &str = "the connection is ended by an administrator";

/// Status message for a requester that closed its side while its queries are idle, if too many did.
const TOO_MANY_IDLE: &str = "the server cannot answer yet, and too many connections wait";

/// Serves a connection on `stream` until it ends, at the latest at the deadline of `stop`. If the
/// requester starts TLS, it continues as `offer` says.
pub async fn serve<S: Carrier, E: Engine>(
    mut stream: S,
    mut connection: Connection<E>,
    mut slot: Slot,
    stop: watch::Receiver<Option<Stop>>,
    offer: Option<TlsOffer>,
) {
    if !conduct(&mut stream, &mut connection, &mut slot, stop.clone()).await {
        return;
    }
    let Some(offer) = offer else {
        return;
    };
    if let Some(mut stream) = secure(stream, &mut connection, &mut slot, stop.clone(), offer).await
    {
        conduct(&mut stream, &mut connection, &mut slot, stop).await;
    }
}

/// Completes the TLS handshake after a DHCPTLS. Returns the secured stream; closes the connection if
/// that fails (RFC 7724 section 8.1).
async fn secure<S: Carrier, E: Engine>(
    stream: S,
    connection: &mut Connection<E>,
    slot: &mut Slot,
    stop: watch::Receiver<Option<Stop>>,
    offer: TlsOffer,
) -> Option<TlsStream<S>> {
    let activity = Arc::clone(connection.activity());
    let mut stream = match TlsStream::new(stream, Arc::clone(offer.config())) {
        Ok(stream) => stream,
        Err(error) => {
            connection.tls_failed(&error);
            return None;
        }
    };
    let outcome = tokio::select! {
        biased;
        // No query is in progress, whose requester would need a status.
        _ = stopped(stop.clone()) => return None,
        () = activity.ending() => return None,
        outcome = handshake(&mut stream, offer.limits()) => outcome,
    };
    if let Err(error) = outcome {
        connection.tls_failed(&error);
        let mut carrier = stream.into_carrier();
        tokio::select! {
            () = close(&mut carrier, slot, CLOSE_TIME) => {}
            () = overdue(stop) => {}
        }
        return None;
    }
    connection.secured(stream.peer(), Instant::now().into_std());
    Some(stream)
}

/// Serves a connection on `stream` until it ends; returns whether TLS is to begin instead.
async fn conduct<S: Carrier, E: Engine>(
    stream: &mut S,
    connection: &mut Connection<E>,
    slot: &mut Slot,
    stop: watch::Receiver<Option<Stop>>,
) -> bool {
    let activity = Arc::clone(connection.activity());
    let outcome = tokio::select! {
        outcome = converse(stream, connection, slot, stop.clone()) => outcome,
        () = overdue(stop.clone()) => Err(io::ErrorKind::TimedOut.into()),
        () = disconnection_overdue(&activity) => Err(io::ErrorKind::TimedOut.into()),
    };
    if outcome.is_ok() && connection.end() == Some(&End::StartTls) {
        return true;
    }
    connection.log_partial_message();
    connection.abandon(Instant::now().into_std());
    if let Err(error) = outcome {
        tracing::debug!(id = "BLQ_CONNECTION_FAILED", "connection failed: {error}");
        return false;
    }
    let end = connection.end();
    if let Some(end) = end {
        tracing::debug!(id = "BLQ_CONNECTION_CLOSED", "connection closed: {end}");
    }
    let wait = match end {
        // The requester does not read: a graceful close is impossible.
        Some(End::Blocked | End::StreamBlocked) => return false,
        Some(End::Terminated(_)) => STOPPING_CLOSE_TIME,
        _ => CLOSE_TIME,
    };
    tokio::select! {
        () = close(stream, slot, wait) => {}
        () = overdue(stop) => {}
    }
    false
}

/// Waits until an administrator ends the connection, and then for the time that it has to send its output.
async fn disconnection_overdue(activity: &Activity) {
    activity.ending().await;
    sleep(STOP_TIME).await;
}

/// Reads queries and sends answers until the connection is finished.
async fn converse<S: Carrier, E: Engine>(
    stream: &mut S,
    connection: &mut Connection<E>,
    slot: &mut Slot,
    stop: watch::Receiver<Option<Stop>>,
) -> io::Result<()> {
    let mut stopping = pin!(stopped(stop));
    let mut stop_seen = false;
    let activity = Arc::clone(connection.activity());
    let mut disconnecting = pin!(activity.ending());
    let mut disconnect_seen = false;
    let mut exhaustion_seen = false;
    // Deadlines only move later, except those of a stream, so it is sufficient to check them when the timer
    // fires.
    let mut timer = pin!(sleep_until(next_check(connection)));
    let engine = Arc::clone(connection.engine());
    // Created before any query is read, so that no wake-up is lost.
    let mut wake_up = pin!(engine.wake_up(false));
    // Whether idle queries may continue, after the pause that follows a wake-up of a stream.
    let mut is_woken = false;
    let mut pause = pin!(sleep_until(Instant::now()));
    loop {
        if connection.wants_place() {
            match slot.activate() {
                Ok(()) => {
                    connection.admit();
                    // A requester that vanished sends nothing. ConnectionActive, which it does not acknowledge, shows it.
                    stream.limit_silence(connection.active_send_time());
                }
                Err(full) => connection.refuse(full, Instant::now().into_std()),
            }
            wake_up.set(engine.wake_up(true));
        }
        if let Some(reason) = stream.exhausted().filter(|_| !exhaustion_seen) {
            exhaustion_seen = true;
            connection.terminate(reason, Instant::now().into_std());
        }
        connection.produce(Instant::now().into_std());
        connection.publish();
        if connection.is_finished() {
            return Ok(());
        }
        // A requester that gave up cannot be distinguished from one without further queries. Its
        // connection must not prevent it from connecting again while its queries are idle.
        if connection.has_idle_queries()
            && connection.end() == Some(&End::PeerClosed)
            && !slot.start_closing()
        {
            connection.terminate(TOO_MANY_IDLE, Instant::now().into_std());
        }
        if connection.is_streaming() && next_check(connection) < timer.deadline() {
            timer.as_mut().reset(next_check(connection));
        }
        // Active queries without output: the search continues after the next yield.
        let searching = connection.is_answering() && connection.output().is_empty();
        tokio::select! {
            biased;
            stop = &mut stopping, if !stop_seen => {
                stop_seen = true;
                connection.terminate(&stop.reason, Instant::now().into_std());
                stream.write_freely();
            }
            () = &mut disconnecting, if !disconnect_seen => {
                disconnect_seen = true;
                connection.terminate(DISCONNECTED, Instant::now().into_std());
            }
            result = poll_fn(|context| transfer(stream, connection, context)) => {
                result?;
                // Yields to other connections: a requester that reads everything immediately would
                // starve them.
                if connection.is_answering() {
                    yield_now().await;
                }
            }
            () = &mut timer => {
                connection.expire(Instant::now().into_std());
                if connection.is_finished() {
                    return Ok(());
                }
                timer.as_mut().reset(next_check(connection));
            }
            () = &mut wake_up, if connection.has_idle_queries() && !is_woken => is_woken = true,
            () = &mut pause, if is_woken => {
                is_woken = false;
                if connection.is_streaming() {
                    pause.as_mut().reset(Instant::now() + WAKE_UP_PAUSE);
                }
                wake_up.set(engine.wake_up(connection.is_streaming()));
                connection.wake();
            }
            () = yield_now(), if searching => {}
        }
    }
}

/// Returns the time of the next check of the connection's deadline.
fn next_check<E: Engine>(connection: &Connection<E>) -> Instant {
    match connection.deadline() {
        Some(deadline) => deadline.into(),
        None => Instant::now() + connection.idle_time(),
    }
}

/// Reads and writes as much as possible without blocking; ready if any octet moved.
fn transfer<S: Carrier, E: Engine>(
    stream: &mut S,
    connection: &mut Connection<E>,
    context: &mut Context<'_>,
) -> Poll<io::Result<()>> {
    let now = Instant::now().into_std();
    let mut moved = false;
    while connection.wants_input() {
        let mut space = connection.input_space();
        let Poll::Ready(read) = pin!(stream.read_buf(&mut space)).poll(context) else {
            break;
        };
        if read? == 0 {
            connection.input_closed(now);
        } else {
            connection.received(now);
            // After a short answer the next query may begin: one segment often contains several.
            connection.produce(now);
        }
        moved = true;
    }
    if connection.is_finished() {
        // Nobody reads what the stream has not sent.
        return Poll::Ready(Ok(()));
    }
    while !connection.output().is_empty() {
        let output = connection.output();
        let Poll::Ready(written) = Pin::new(&mut *stream).poll_write(context, output) else {
            break;
        };
        match written? {
            0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            count => connection.sent(count, now),
        }
        moved = true;
    }
    if stream.unsent() > 0 && connection.output().is_empty() {
        if let Poll::Ready(flushed) = Pin::new(&mut *stream).poll_flush(context) {
            flushed?;
        }
    }
    moved |= connection.set_unsent(stream.unsent(), now);
    if moved {
        Poll::Ready(Ok(()))
    } else {
        Poll::Pending
    }
}

/// Closes a connection gracefully (RFC 6926 section 8.5): shuts down the sending side, then waits a
/// short time for the requester to read the rest and to close its side.
async fn close<S: Carrier>(stream: &mut S, slot: &mut Slot, wait: Duration) {
    let may_wait = slot.start_closing();
    let closing = async {
        if stream.shutdown().await.is_err() || !may_wait {
            return;
        }
        let mut discarded = [0; 2048];
        while matches!(stream.read(&mut discarded).await, Ok(count) if count > 0) {}
    };
    // After the timeout the connection is closed without the requester's close.
    let _ = timeout(wait, closing).await;
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod tls_tests;
