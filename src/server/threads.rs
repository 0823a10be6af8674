//! The threads that serve connections, each with a disjoint set of connections.
//!
//! Every thread has its own event loop, and a connection stays on one thread: polling the thread's
//! other connections takes one system call. With work stealing, threads would wake each other too
//! often for a connection that sends at full speed.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use rustix::process::setpriority_process;
use rustix::thread::gettid;
use tokio::runtime::{self, Handle, Runtime};
use tokio::sync::watch;
use tokio::task::yield_now;
use tokio::time::timeout_at;

use crate::server::stop::{Stop, stopped};

/// Time that the server waits for its threads after [`Stop::by`]. Threads exceed it only if the
/// engine blocks, which it must not do; they are then detached, so that Kea does not wait.
const JOIN_TIME: Duration = Duration::from_millis(500);

/// Nice value of these threads: granting leases has priority over queries about them. On a busy
/// processor they get a tenth of the time of one of Kea's threads.
const NICENESS: i32 = 10;

/// Descriptors of a thread's event loop: two for polling (epoll) and one for wake-ups (eventfd).
pub const DESCRIPTORS: u64 = 3;

/// Number of yields to the event loop in [`Threads::poll_all`]: the first receives octets, the
/// second runs the tasks that they wake, the third those that these tasks wake.
const POLLS: usize = 3;

/// Handles of the threads, by which tasks are spawned on them.
#[derive(Clone, Debug)]
pub struct Threads(Vec<Thread>);

/// The handle of one thread.
#[derive(Clone, Debug)]
struct Thread {
    /// The event loop.
    event_loop: Handle,
    /// The stop signal; each task keeps a receiver until it ends.
    stop: Arc<watch::Sender<Option<Stop>>>,
}

impl Thread {
    /// Returns the handle of the thread of this event loop.
    fn new(event_loop: Handle) -> Thread {
        Thread {
            event_loop,
            stop: Arc::new(watch::channel(None).0),
        }
    }

    /// Returns the number of its tasks, plus a constant: each task shares the stop signal.
    fn tasks(&self) -> usize {
        Arc::strong_count(&self.stop)
    }
}

impl Threads {
    /// Runs a task on the thread with the fewest tasks. `make` runs in the thread's event loop, so
    /// that it may register sockets. The task must keep the receiver of the stop signal until it
    /// ends.
    ///
    /// # Errors
    /// The error of `make`.
    pub fn spawn<F, T>(&self, make: F) -> io::Result<()>
    where
        F: FnOnce(watch::Receiver<Option<Stop>>) -> io::Result<T>,
        T: Future<Output = ()> + Send + 'static,
    {
        let Some(thread) = self.0.iter().min_by_key(|thread| thread.tasks()) else {
            return Err(io::ErrorKind::NotFound.into());
        };
        let _entered = thread.event_loop.enter();
        let task = make(thread.stop.subscribe())?;
        let counted = Arc::clone(&thread.stop);
        thread.event_loop.spawn(async move {
            task.await;
            drop(counted);
        });
        Ok(())
    }

    /// Waits until every thread has polled its sockets and run the tasks that this woke.
    pub async fn poll_all(&self) {
        let polls = self.0.iter().map(|thread| {
            thread.event_loop.spawn(async {
                for _ in 0..POLLS {
                    yield_now().await;
                }
            })
        });
        for poll in polls.collect::<Vec<_>>() {
            // A thread that has ended has no tasks.
            let _ = poll.await;
        }
    }

    /// Signals all tasks to stop.
    pub fn stop(&self, stop: &Stop) {
        for thread in &self.0 {
            thread.stop.send_replace(Some(stop.clone()));
        }
    }

    /// Returns the calling thread, with its event loop, as the only thread.
    #[cfg(test)]
    pub fn here() -> Threads {
        Threads(vec![Thread::new(Handle::current())])
    }
}

/// The running threads.
#[derive(Debug)]
pub struct ThreadPool {
    /// Handles of the threads, by which tasks are spawned on them.
    pub threads: Threads,
    /// The threads themselves.
    handles: Vec<JoinHandle<()>>,
    /// Receives one message from each thread that is about to end.
    ended: Receiver<()>,
}

impl ThreadPool {
    /// Starts `count` threads.
    ///
    /// # Errors
    /// If the system cannot provide threads, or descriptors for their event loops.
    pub fn start(count: usize) -> io::Result<ThreadPool> {
        let (ends, ended) = channel();
        let mut pool = ThreadPool {
            threads: Threads(Vec::with_capacity(count)),
            handles: Vec::with_capacity(count),
            ended,
        };
        for _ in 0..count {
            if let Err(error) = pool.add(ends.clone()) {
                pool.stop(&Stop::now("the server cannot start"));
                return Err(error);
            }
        }
        Ok(pool)
    }

    /// Starts one more thread.
    fn add(&mut self, ends: Sender<()>) -> io::Result<()> {
        let runtime = runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .build()?;
        let thread = Thread::new(runtime.handle().clone());
        let stop = Arc::clone(&thread.stop);
        let name = "blq-server".to_owned();
        let handle = Builder::new().name(name).spawn(move || {
            run(runtime, &stop);
            // Fails if the server has stopped waiting for this thread.
            let _ = ends.send(());
        })?;
        self.handles.push(handle);
        self.threads.0.push(thread);
        Ok(())
    }

    /// Signals all tasks to stop, and joins the threads when the tasks have ended.
    pub fn stop(self, stop: &Stop) {
        self.threads.stop(stop);
        let by = stop.by.into_std() + JOIN_TIME;
        let all_ended = self.handles.iter().all(|_| {
            let left = by.saturating_duration_since(Instant::now());
            // A thread that ended without a message has panicked.
            self.ended.recv_timeout(left) != Err(RecvTimeoutError::Timeout)
        });
        if all_ended {
            for handle in self.handles {
                // The panic of a task has been logged.
                let _ = handle.join();
            }
        }
    }
}

/// Runs a thread's tasks until the stop signal, and then until they end or the deadline passes.
fn run(runtime: Runtime, stop: &watch::Sender<Option<Stop>>) {
    // Without permission to change it, the thread keeps its priority.
    let _ = setpriority_process(Some(gettid()), NICENESS);
    runtime.block_on(async {
        let signal = stopped(stop.subscribe()).await;
        // Tasks that remain are dropped with the runtime.
        let _ = timeout_at(signal.by, stop.closed()).await;
    });
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread;

    use super::*;

    #[test]
    fn tasks_woken_before_poll_all_have_run_when_it_ends() {
        let pool = ThreadPool::start(2).unwrap();
        let (sender, receiver) = watch::channel(false);
        let done: [Arc<AtomicBool>; 2] = Default::default();
        for done in &done {
            let (mut receiver, done) = (receiver.clone(), Arc::clone(done));
            let task = |_stop| {
                Ok(async move {
                    let _ = receiver.wait_for(|sent| *sent).await;
                    done.store(true, Ordering::Relaxed);
                })
            };
            pool.threads.spawn(task).unwrap();
        }
        let threads = pool.threads.clone();
        let caller = runtime::Builder::new_current_thread().build().unwrap();
        sender.send_replace(true);
        caller.block_on(threads.poll_all());
        assert!(done.iter().all(|done| done.load(Ordering::Relaxed)));
        pool.stop(&Stop::now("test"));
    }

    #[test]
    fn distributes_tasks_evenly_and_joins_the_threads() {
        let pool = ThreadPool::start(3).unwrap();
        let by_thread: Arc<Mutex<BTreeMap<_, u32>>> = Arc::default();
        for _ in 0..6 {
            let by_thread = Arc::clone(&by_thread);
            let task = |stop| {
                Ok(async move {
                    let thread = format!("{:?}", thread::current().id());
                    *by_thread.lock().unwrap().entry(thread).or_default() += 1;
                    stopped(stop).await;
                })
            };
            pool.threads.spawn(task).unwrap();
        }
        pool.stop(&Stop::now("test"));
        // All threads have ended, so no other reference exists.
        let by_thread = Arc::into_inner(by_thread).unwrap().into_inner().unwrap();
        assert_eq!(by_thread.into_values().collect::<Vec<_>>(), [2, 2, 2]);
    }
}
