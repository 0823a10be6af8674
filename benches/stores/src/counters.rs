//! Octets that a process has written, and its waits for the disk.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use libc::{c_int, c_long, c_void, size_t};

/// Calls that wait for the disk.
static SYNCS: AtomicU64 = AtomicU64::new(0);

/// Counts a call, and makes it.
fn counted(number: c_long, arguments: [usize; 3]) -> c_int {
    SYNCS.fetch_add(1, Ordering::Relaxed);
    let [first, second, third] = arguments;
    // SAFETY: these are the arguments the C library's function of the same name was called with.
    unsafe { libc::syscall(number, first, second, third) as c_int }
}

// These stand in for the C library's functions in the whole process, for they are linked first.

/// `fsync`, counted.
#[unsafe(no_mangle)]
extern "C" fn fsync(file: c_int) -> c_int {
    counted(libc::SYS_fsync, [file as usize, 0, 0])
}

/// `fdatasync`, counted.
#[unsafe(no_mangle)]
extern "C" fn fdatasync(file: c_int) -> c_int {
    counted(libc::SYS_fdatasync, [file as usize, 0, 0])
}

/// `msync`, counted.
#[unsafe(no_mangle)]
extern "C" fn msync(address: *mut c_void, length: size_t, flags: c_int) -> c_int {
    counted(libc::SYS_msync, [address as usize, length, flags as usize])
}

/// The counters of this process at one time.
#[derive(Clone, Copy, Debug)]
pub struct Counters {
    /// Octets given to the system to write, without the system's own writes, such as those of its journal. The
    /// system's count (`write_bytes`) takes whole runs of pages for written when one is.
    pub written: u64,
    /// Calls that waited for the disk.
    pub syncs: u64,
}

impl Counters {
    /// The counters now.
    pub fn now() -> io::Result<Counters> {
        Ok(Counters {
            written: number_in("/proc/self/io", "wchar:")?,
            syncs: SYNCS.load(Ordering::Relaxed),
        })
    }
}

/// The memory this process has (`VmRSS:`), or the most it ever had (`VmHWM:`), in octets.
pub fn memory(which: &str) -> io::Result<u64> {
    // What the C library keeps in reserve is not the store's.
    // SAFETY: it may be called at any time.
    unsafe { libc::malloc_trim(0) };
    Ok(number_in("/proc/self/status", which)? * 1024)
}

/// The number after `name` in a file of the kernel's.
fn number_in(path: &str, name: &str) -> io::Result<u64> {
    let text = fs::read_to_string(path)?;
    text.lines()
        .find_map(|line| line.strip_prefix(name))
        .and_then(|rest| rest.split_whitespace().next()?.parse().ok())
        .ok_or_else(|| io::Error::other(format!("no {name} in {path}")))
}

/// The space that a file, all in a directory, or what lies beside the file takes on disk.
pub fn octets_on_disk(directory: &Path) -> io::Result<u64> {
    use std::os::unix::fs::MetadataExt;
    let mut octets = 0;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        octets += if metadata.is_dir() {
            octets_on_disk(&entry.path())?
        } else {
            metadata.blocks() * 512
        };
    }
    Ok(octets)
}
