//! The state file of a process that is killed, denied its file, or runs out of disk.

mod child;
mod faults;
mod killed;
