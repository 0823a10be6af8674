//! The hand-over: a mirror passed from one configuration to the next, and freed when no next one comes.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use crate::mirror::Mirror;
use crate::persist::Store;
use crate::plugin::system::SignalsBlocked;

/// How long a mirror is kept. Kea loads its libraries again within seconds, unless the new configuration
/// lacks this one: then its memory must be freed.
const KEEPING: Duration = Duration::from_secs(60);

/// A mirror from before a reconfiguration, and the state file that goes with it.
#[derive(Debug)]
pub struct HandedOver {
    /// The mirror. No thread shares it.
    pub mirror: Mirror,
    /// The store that holds the mirror's bindings, closed.
    pub store: Store,
}

/// A mirror that is kept, shared with the thread that frees it in time.
#[derive(Debug)]
struct Shared {
    /// The mirror; `None` once it was taken or freed.
    kept: Mutex<Option<HandedOver>>,
    /// Notified when it was taken.
    taken: Condvar,
}

/// The mirror on its way from the last configuration to the next.
#[derive(Debug, Default)]
pub struct HandOver {
    /// The mirror kept last.
    last: Option<Arc<Shared>>,
}

impl HandOver {
    /// Returns whether there is no mirror.
    pub fn is_empty(&self) -> bool {
        let shared = self.last.as_ref();
        shared.is_none_or(|shared| shared.kept.lock().is_none())
    }

    /// Keeps a mirror for a while.
    pub fn keep(&mut self, kept: HandedOver) {
        let shared = Arc::new(Shared {
            kept: Mutex::new(Some(kept)),
            taken: Condvar::new(),
        });
        let freeing = Arc::clone(&shared);
        let _signals = SignalsBlocked::new();
        let started = thread::Builder::new()
            .name("blq-hand-over".into())
            .spawn(move || {
                let mut kept = freeing.kept.lock();
                freeing
                    .taken
                    .wait_while_for(&mut kept, |kept| kept.is_some(), KEEPING);
                // To free a large mirror takes a while, for which no other thread need wait.
                let old = kept.take();
                drop(kept);
                drop(old);
            });
        // Without the thread it could not be freed in time: it is now, and the state file has all of it.
        self.last = started.is_ok().then_some(shared);
    }

    /// Takes the mirror, if it is still there.
    pub fn take(&mut self) -> Option<HandedOver> {
        let shared = self.last.take()?;
        let kept = shared.kept.lock().take();
        shared.taken.notify_one();
        kept
    }
}
