//! Placement of the server's sockets among the descriptor numbers that they share with Kea.
//!
//! Kea's main loop is `select()`, which cannot watch a descriptor above 1,023: Debian's builds
//! abort, others receive nothing more. The system gives each new descriptor the lowest free number.
//! Kea's next descriptor, such as that of a control connection, therefore needs a free low number,
//! which connections of requesters must not take, at any limit of the process (RLIMIT_NOFILE, its
//! soft value).
//!
//! - Numbers from [`FIRST_HIGH`] on are of no use to Kea. Sockets are moved there if the limit
//!   allows.
//! - Otherwise, or if no high number is free, a socket takes the lowest free number, unless that is
//!   in the [reserve](Numbers::reserve) at the end of the low ones.
//!
//! The descriptors of Kea and its libraries are not counted. Numbers in the reserve may become
//! theirs, but never those of a connection, in any order of opening and closing and with any
//! distribution of free numbers. Duplicating any descriptor yields the lowest free number, at the
//! cost of two system calls. A connection holds a low number only between its acceptance and its
//! move.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};

use rustix::io::{DupFlags, dup3, fcntl_dupfd_cloexec};
use rustix::process::{Resource, getrlimit};
use socket2::{Domain, Socket, Type};

/// First number that `select()` cannot watch: FD_SETSIZE of the C library.
pub const FIRST_HIGH: RawFd = 1024;

/// Size of the reserve, if the limit is 512 or more. It suffices for all descriptors that Kea opens
/// once the server listens: control connections, connections to databases and partners, a rewritten
/// lease file, sockets of interfaces that appear later; and for the state file. Most installations
/// need some 20.
const RESERVE: u64 = 128;

/// Share of the low numbers that is reserved (a quarter), if the limit is below 512.
const RESERVED_SHARE: u64 = 4;

/// Numbers of the reserve that even the first event loop leaves to Kea. Without an event loop the
/// server cannot start, which is right only if Kea itself is about to run out of descriptors, not
/// if it has sockets for hundreds of interfaces.
const LAST_RESERVE: u64 = 16;

/// Range of descriptor numbers that the process may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Numbers {
    /// Soft limit; all numbers are below it.
    limit: u64,
}

impl Numbers {
    /// Returns the numbers of this process as of now. Its limit can change at any time, also from outside
    /// (`prlimit`). The server does not raise it, since it is Kea's.
    pub fn of_process() -> Numbers {
        Numbers {
            // `None` means unlimited.
            limit: getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX),
        }
    }

    /// Returns the count of numbers that `select()` can watch.
    fn low(self) -> u64 {
        self.limit.min(FIRST_HIGH as u64)
    }

    /// Returns the count of low numbers that are reserved for Kea.
    pub fn reserve(self) -> u64 {
        RESERVE.min(self.low() / RESERVED_SHARE)
    }

    /// Returns the count of numbers that are of no use to Kea.
    fn high(self) -> u64 {
        self.limit.saturating_sub(FIRST_HIGH as u64)
    }

    /// Returns the first number of the reserve.
    fn reserve_begin(self) -> u64 {
        self.low() - self.reserve()
    }

    /// Whether a socket may have this number.
    fn is_for_sockets(self, number: RawFd) -> bool {
        number >= FIRST_HIGH || is_below(number, self.reserve_begin())
    }

    /// Counts the free low numbers below the reserve.
    pub fn free_low(self) -> u64 {
        free_below(self.reserve_begin(), u64::MAX)
    }

    /// Whether `count` descriptors may be opened that the server needs to run; their numbers are
    /// low.
    pub fn allow_needed(self, count: u64) -> bool {
        free_below(self.low() - self.reserve().min(LAST_RESERVE), count) >= count
    }

    /// Counts the free numbers that sockets may have. All high numbers count as free, since Kea
    /// uses none.
    pub fn free(self) -> u64 {
        self.free_low().saturating_add(self.high())
    }
}

/// Whether a descriptor's number is below `end`.
fn is_below(number: RawFd, end: u64) -> bool {
    u64::try_from(number).is_ok_and(|number| number < end)
}

/// Counts the free numbers below `end`, up to `enough`.
///
/// Occupies all of them for a moment, and one more.
fn free_below(end: u64, enough: u64) -> u64 {
    let Ok(socket) = Socket::new(Domain::IPV4, Type::STREAM, None) else {
        return 0;
    };
    let mut taken: Vec<OwnedFd> = Vec::new();
    let mut next = Some(OwnedFd::from(socket));
    while let Some(descriptor) = next.take_if(|next| is_below(next.as_raw_fd(), end)) {
        next = fcntl_dupfd_cloexec(&descriptor, 0).ok();
        taken.push(descriptor);
        if taken.len() as u64 >= enough {
            break;
        }
    }
    taken.len() as u64
}

impl fmt::Display for Numbers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.limit {
            u64::MAX => f.write_str("any number of"),
            limit => limit.fmt(f),
        }
    }
}

/// Number for the next socket.
#[derive(Debug)]
pub enum Placement {
    /// High number, held by a duplicate until the socket replaces it.
    High(OwnedFd),
    /// Lowest free number, which the system gives to the socket.
    Lowest,
}

impl Placement {
    /// Finds a number for a socket that is about to be opened; `like` is any open descriptor, which
    /// is duplicated.
    ///
    /// # Errors
    /// [`NoFreeNumber`] if only numbers of the reserve are free.
    pub fn find(like: impl AsFd) -> io::Result<Placement> {
        Placement::find_among(Numbers::of_process(), like)
    }

    /// Finds a number among those that the process may use.
    fn find_among(numbers: Numbers, like: impl AsFd) -> io::Result<Placement> {
        if let Ok(high) = fcntl_dupfd_cloexec(&like, FIRST_HIGH) {
            return Ok(Placement::High(high));
        }
        match fcntl_dupfd_cloexec(&like, 0) {
            Ok(lowest) if numbers.is_for_sockets(lowest.as_raw_fd()) => Ok(Placement::Lowest),
            _ => Err(NoFreeNumber.into()),
        }
    }

    /// Moves a new socket to this number.
    ///
    /// # Errors
    /// The error of the system call; the socket is closed then.
    pub fn take<S>(self, socket: S) -> io::Result<S>
    where
        S: AsFd + From<OwnedFd>,
    {
        match self {
            Placement::High(mut high) => {
                dup3(&socket, &mut high, DupFlags::CLOEXEC)?;
                Ok(high.into())
            }
            Placement::Lowest => Ok(socket),
        }
    }
}

/// No number outside of the reserve is free for a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoFreeNumber;

impl NoFreeNumber {
    /// Whether this is the cause of an error.
    pub fn is_cause_of(error: &io::Error) -> bool {
        error
            .get_ref()
            .is_some_and(|cause| cause.is::<NoFreeNumber>())
    }
}

impl fmt::Display for NoFreeNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let numbers = Numbers::of_process();
        write!(
            f,
            "the process may have {numbers} descriptors open (RLIMIT_NOFILE), and the last {} with numbers \
             below {FIRST_HIGH} are kept free for Kea",
            numbers.reserve()
        )
    }
}

impl std::error::Error for NoFreeNumber {}

impl From<NoFreeNumber> for io::Error {
    fn from(cause: NoFreeNumber) -> io::Error {
        io::Error::other(cause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Limits under which the test runs processes.
    const LIMITS: [u64; 8] = [0, 20, 64, 256, 1024, 1100, 4096, u64::MAX];

    #[test]
    fn leaves_a_reserve_below_the_numbers_that_select_cannot_watch() {
        for (limit, reserve) in LIMITS.into_iter().zip([0, 5, 16, 64, 128, 128, 128, 128]) {
            let numbers = Numbers { limit };
            assert_eq!(numbers.reserve(), reserve, "{limit}");
            let reserved = (0..limit.min(1024) as RawFd)
                .filter(|number| !numbers.is_for_sockets(*number))
                .collect::<Vec<_>>();
            assert_eq!(reserved.len() as u64, reserve, "{limit}");
            // The reserved numbers are the last ones.
            let last = limit.min(1024) as RawFd;
            assert!(reserved.into_iter().eq(last - reserve as RawFd..last));
            assert!(numbers.is_for_sockets(FIRST_HIGH));
            assert!(!numbers.is_for_sockets(-1));
        }
    }

    #[test]
    fn counts_high_numbers_only_where_the_limit_allows_any() {
        let high = LIMITS.map(|limit| Numbers { limit }.high());
        assert_eq!(high, [0, 0, 0, 0, 0, 76, 3072, u64::MAX - 1024]);
    }
}
