//! The end of a watch from another thread.

use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::watch::worker::{Input, Kind};

/// Ends a watch from another thread, such as that of a signal.
#[derive(Clone, Debug)]
pub struct Stopper(Arc<Shared>);

/// The part of a watch that all its threads see.
#[derive(Debug)]
struct Shared {
    /// Whether the watch ends.
    is_stopped: AtomicBool,
    /// The sockets of the queries in progress, by [`Kind`].
    sockets: Mutex<[Option<TcpStream>; 2]>,
    /// Wakes the watch.
    inputs: SyncSender<Input>,
}

impl Stopper {
    /// Returns the stopper of the watch that receives `inputs`.
    pub(super) fn new(inputs: SyncSender<Input>) -> Stopper {
        Stopper(Arc::new(Shared {
            is_stopped: AtomicBool::new(false),
            sockets: Mutex::default(),
            inputs,
        }))
    }

    /// Ends the watch: its connections are closed, and [`Watch`](crate::Watch) returns no more events.
    pub fn stop(&self) {
        self.0.is_stopped.store(true, Ordering::SeqCst);
        // A blocked read ends as if the server had closed the connection; TLS can still be closed.
        for socket in self.sockets().iter().flatten() {
            // Fails only if the connection is closed already.
            let _ = socket.shutdown(Shutdown::Read);
        }
        // If the channel is full, the watch has not to be woken.
        let _ = self.0.inputs.try_send(Input::Stop);
    }

    /// Whether the watch ends.
    pub fn is_stopped(&self) -> bool {
        self.0.is_stopped.load(Ordering::SeqCst)
    }

    /// Records the socket of a query. Returns whether the query may begin.
    pub(super) fn begin(&self, kind: Kind, socket: Option<TcpStream>) -> bool {
        let mut sockets = self.sockets();
        // Under the lock, so that a stop meanwhile is seen here, or finds the socket.
        let may_begin = !self.is_stopped();
        if may_begin {
            sockets[kind as usize] = socket;
        }
        may_begin
    }

    /// Forgets the socket of a query that has ended.
    pub(super) fn end(&self, kind: Kind) {
        self.sockets()[kind as usize] = None;
    }

    /// Whether a query has a connection.
    pub(super) fn is_connected(&self, kind: Kind) -> bool {
        self.sockets()[kind as usize].is_some()
    }

    /// Locks the sockets.
    fn sockets(&self) -> MutexGuard<'_, [Option<TcpStream>; 2]> {
        self.0
            .sockets
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}
