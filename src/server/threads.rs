//! The threads that serve connections, each with connections of its own.
//!
//! Every thread has its own event loop, and a connection stays with one thread: to look for what has
//! arrived on others then takes one system call and concerns nobody else. Threads that take over each
//! other's work wake each other up for that, too often for a connection that sends as fast as it can.

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

/// How much longer than a [`Stop`] says the server waits for its threads. They need it only if the
/// engine blocks, which it must not; then they are left alone rather than Kea kept waiting.
const JOIN_TIME: Duration = Duration::from_millis(500);

/// How much these threads give way to others when processors are short: leases come before answers about
/// them. They keep a tenth of what a thread of Kea's has.
const NICENESS: i32 = 10;

/// Descriptors that a thread's event loop takes: two of the poll (epoll) and one to wake it up (eventfd).
pub const DESCRIPTORS: u64 = 3;

/// How often a thread looks for what has arrived in a turn: once for that, once for what became of it,
/// and once more for what became of that.
const LOOKS: usize = 3;

/// Where tasks run.
#[derive(Clone, Debug)]
pub struct Threads(Vec<Thread>);

/// One thread's event loop.
#[derive(Clone, Debug)]
struct Thread {
    /// The event loop.
    event_loop: Handle,
    /// Tells its tasks to stop; each of them listens to it until it ends.
    stop: Arc<watch::Sender<Option<Stop>>>,
}

impl Thread {
    /// A thread that runs tasks in this event loop.
    fn new(event_loop: Handle) -> Thread {
        Thread {
            event_loop,
            stop: Arc::new(watch::channel(None).0),
        }
    }

    /// How many tasks it has, more or less than on another thread: each shares what tells it to stop.
    fn tasks(&self) -> usize {
        Arc::strong_count(&self.stop)
    }
}

impl Threads {
    /// Runs a task on the thread that has the fewest. It is made there, so that it may open sockets, and
    /// given what tells it to stop, which it must keep until it ends.
    ///
    /// # Errors
    /// If it could not be made.
    pub fn spawn<F, T>(&self, make: F) -> io::Result<()>
    where
        F: FnOnce(watch::Receiver<Option<Stop>>) -> io::Result<T>,
        T: Future<Output = ()> + Send + 'static,
    {
        let Some(thread) = self.0.iter().min_by_key(|thread| thread.tasks()) else {
            return Err(io::ErrorKind::NotFound.into());
        };
        let _there = thread.event_loop.enter();
        let task = make(thread.stop.subscribe())?;
        let counted = Arc::clone(&thread.stop);
        thread.event_loop.spawn(async move {
            task.await;
            drop(counted);
        });
        Ok(())
    }

    /// Lets every task that has something to do do it, on each thread.
    pub async fn turn(&self) {
        let turns = self.0.iter().map(|thread| {
            thread.event_loop.spawn(async {
                for _ in 0..LOOKS {
                    yield_now().await;
                }
            })
        });
        for turn in turns.collect::<Vec<_>>() {
            // A thread that has ended has nothing to do.
            let _ = turn.await;
        }
    }

    /// Tells all tasks to stop.
    pub fn stop(&self, stop: &Stop) {
        for thread in &self.0 {
            thread.stop.send_replace(Some(stop.clone()));
        }
    }

    /// What runs its tasks where it is called: as many threads, all of them that one.
    #[cfg(test)]
    pub fn here() -> Threads {
        Threads(vec![Thread::new(Handle::current())])
    }
}

/// Threads that run.
#[derive(Debug)]
pub struct Running {
    /// Where tasks run.
    pub threads: Threads,
    /// The threads themselves.
    handles: Vec<JoinHandle<()>>,
    /// Told by each thread when it is about to end.
    ended: Receiver<()>,
}

impl Running {
    /// Starts so many threads.
    ///
    /// # Errors
    /// If the system has no more threads, or files for their event loops.
    pub fn start(count: usize) -> io::Result<Running> {
        let (ends, ended) = channel();
        let mut running = Running {
            threads: Threads(Vec::with_capacity(count)),
            handles: Vec::with_capacity(count),
            ended,
        };
        for _ in 0..count {
            if let Err(error) = running.add(ends.clone()) {
                running.stop(&Stop::now("the server cannot start"));
                return Err(error);
            }
        }
        Ok(running)
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
            // Nobody waits for it any more if this fails.
            let _ = ends.send(());
        })?;
        self.handles.push(handle);
        self.threads.0.push(thread);
        Ok(())
    }

    /// Tells all tasks to stop, and joins the threads once they have.
    pub fn stop(self, stop: &Stop) {
        self.threads.stop(stop);
        let by = stop.by.into_std() + JOIN_TIME;
        let all_ended = self.handles.iter().all(|_| {
            let left = by.saturating_duration_since(Instant::now());
            // A thread that ended without a word has panicked, and is gone too.
            self.ended.recv_timeout(left) != Err(RecvTimeoutError::Timeout)
        });
        if all_ended {
            for handle in self.handles {
                // What a task panicked of is told already.
                let _ = handle.join();
            }
        }
    }
}

/// Runs a thread's tasks until they are told to stop, and have or are over time.
fn run(runtime: Runtime, stop: &watch::Sender<Option<Stop>>) {
    // Where Linux does not let it, it serves all the same.
    let _ = setpriority_process(Some(gettid()), NICENESS);
    runtime.block_on(async {
        let order = stopped(stop.subscribe()).await;
        // In time or not, what is left is dropped next.
        let _ = timeout_at(order.by, stop.closed()).await;
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
    fn has_other_tasks_told_of_a_turn_s_beginning_do_their_work_in_it() {
        let running = Running::start(2).unwrap();
        let (tell, told) = watch::channel(false);
        let done: [Arc<AtomicBool>; 2] = Default::default();
        for done in &done {
            let (mut told, done) = (told.clone(), Arc::clone(done));
            let task = |_stop| {
                Ok(async move {
                    let _ = told.wait_for(|told| *told).await;
                    done.store(true, Ordering::Relaxed);
                })
            };
            running.threads.spawn(task).unwrap();
        }
        let turn = running.threads.clone();
        let caller = runtime::Builder::new_current_thread().build().unwrap();
        tell.send_replace(true);
        caller.block_on(turn.turn());
        assert!(done.iter().all(|done| done.load(Ordering::Relaxed)));
        running.stop(&Stop::now("test"));
    }

    #[test]
    fn gives_each_thread_as_many_tasks_as_the_others_and_joins_them() {
        let running = Running::start(3).unwrap();
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
            running.threads.spawn(task).unwrap();
        }
        running.stop(&Stop::now("test"));
        // All are gone, so nobody else has it.
        let by_thread = Arc::into_inner(by_thread).unwrap().into_inner().unwrap();
        assert_eq!(by_thread.into_values().collect::<Vec<_>>(), [2, 2, 2]);
    }
}
