//! Calls of the C library that have no safe wrapper.

#![allow(unsafe_code)] // The C library.

/// Blocks all signals in this thread, and so in the threads that it starts, until dropped: Kea's signal
/// handlers are meant for Kea's threads.
pub struct SignalsBlocked {
    /// The signal mask before.
    before: libc::sigset_t,
}

impl SignalsBlocked {
    /// Blocks all signals.
    pub fn new() -> Self {
        // SAFETY: a `sigset_t` is plain bits, and each call is given pointers to whole ones.
        unsafe {
            let mut all: libc::sigset_t = std::mem::zeroed();
            let mut before = all;
            libc::sigfillset(&mut all);
            libc::pthread_sigmask(libc::SIG_BLOCK, &all, &mut before);
            SignalsBlocked { before }
        }
    }
}

impl Drop for SignalsBlocked {
    fn drop(&mut self) {
        // SAFETY: as in `new`; null means that the mask in force is not wanted back.
        unsafe {
            libc::pthread_sigmask(libc::SIG_SETMASK, &self.before, std::ptr::null_mut());
        }
    }
}

/// Returns memory to the system that was used only during the initial load. The C library would keep it
/// for the thread that freed it, which ends.
///
/// Threads that allocate wait meanwhile: 2 ms with a million leases just after the start of Kea, when its
/// memory has few gaps; longer later, so it must not be called then.
pub fn trim_memory() {
    // SAFETY: may be called at any time on any thread; the argument is a number of octets to keep.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0);
    }
}
