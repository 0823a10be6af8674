//! Leases as C++ lends them: one after the other, each for the time of a call.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use cxx::Exception;

use crate::ffi::bridge::KeaLease;
use crate::mirror::event::Lease;

/// Takes the leases that C++ is asked for.
pub struct LeaseTaker<'a> {
    /// What is done with each.
    each: &'a mut dyn FnMut(&KeaLease<'_>),
    /// The panic of `each`, which must not get into C++. No more leases are taken then.
    panic: Option<Box<dyn Any + Send>>,
}

impl LeaseTaker<'_> {
    /// See the bridge.
    pub fn take(&mut self, lease: &KeaLease<'_>) {
        if self.panic.is_none() {
            let each = AssertUnwindSafe(|| (self.each)(lease));
            self.panic = catch_unwind(each).err();
        }
    }
}

/// Calls `each` with every lease that `read` has C++ hand over.
pub fn for_each(
    read: impl FnOnce(&mut LeaseTaker<'_>) -> Result<(), Exception>,
    mut each: impl FnMut(&KeaLease<'_>),
) -> Result<(), Exception> {
    let mut taker = LeaseTaker {
        each: &mut each,
        panic: None,
    };
    let read = read(&mut taker);
    match taker.panic {
        Some(panic) => resume_unwind(panic),
        None => read,
    }
}

/// The leases that `read` has C++ hand over.
pub fn collect(
    read: impl FnOnce(&mut LeaseTaker<'_>) -> Result<(), Exception>,
) -> Result<Vec<Lease>, Exception> {
    let mut leases = Vec::new();
    for_each(read, |lease| leases.push(lease.into()))?;
    Ok(leases)
}
