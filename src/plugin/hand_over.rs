//! A mirror kept from one configuration to the next, and let go when no next one comes.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use crate::plugin::instance::{HandedOver, SignalsBlocked};

/// How long it is kept. Kea loads its libraries again within seconds, unless the configuration has
/// this one no more: then it must not hold memory for ever.
const KEEPING: Duration = Duration::from_secs(60);

/// What is kept, shared with the thread that lets it go in time.
#[derive(Default)]
struct Shared {
    /// What is kept; `None` once it was taken or let go.
    kept: Mutex<Option<HandedOver>>,
    /// Told when it was taken.
    taken: Condvar,
}

/// Keeps what the last configuration left for the next.
#[derive(Default)]
pub struct HandOver {
    /// What is kept last.
    last: Option<Arc<Shared>>,
}

impl HandOver {
    /// Keeps nothing.
    pub const NOTHING: HandOver = HandOver { last: None };

    /// Whether nothing is kept.
    pub fn is_empty(&self) -> bool {
        let shared = self.last.as_ref();
        shared.is_none_or(|shared| shared.kept.lock().is_none())
    }

    /// Keeps `kept` for a while.
    pub fn keep(&mut self, kept: HandedOver) {
        let shared = Arc::new(Shared {
            kept: Mutex::new(Some(kept)),
            taken: Condvar::new(),
        });
        let letting_go = Arc::clone(&shared);
        let _signals = SignalsBlocked::new();
        let started = thread::Builder::new()
            .name("blq-kept".into())
            .spawn(move || {
                let mut kept = letting_go.kept.lock();
                letting_go
                    .taken
                    .wait_while_for(&mut kept, |kept| kept.is_some(), KEEPING);
                // Freeing a large mirror takes a while, for which nobody need wait.
                let old = kept.take();
                drop(kept);
                drop(old);
            });
        // Without the thread it could not be let go: the state file has all of it.
        self.last = started.is_ok().then_some(shared);
    }

    /// Takes what is kept, if it is still there.
    pub fn take(&mut self) -> Option<HandedOver> {
        let shared = self.last.take()?;
        let kept = shared.kept.lock().take();
        shared.taken.notify_one();
        kept
    }
}
