//! A storm: hundreds of clients, an administrator and fate at work on one Kea, and after each
//! round a comparison of all the hook says with all Kea holds, address by address.
//!
//! - [`plan`]: what is done, drawn from a seed.
//! - [`world`]: subnets, relays and lines, and how their configuration varies.
//! - [`traffic`], [`deeds`]: doing it.
//! - [`history`]: what was done to each address.
//! - [`look`]: what Kea and the hook say.
//! - [`case`]: whether that fits, of one address.
//! - [`compare`]: whether it fits, of all addresses and all queries.
//! - [`run`]: one round after the other.

mod case;
mod compare;
mod deeds;
mod history;
pub mod look;
pub mod plan;
mod random;
mod run;
pub mod traffic;
pub mod world;

use std::fmt;
use std::time::Duration;

use plan::Deed;

/// What storm it is to be.
#[derive(Debug, Clone)]
pub struct Options {
    /// What everything is drawn from.
    pub seed: u64,
    /// How long it lasts; the last round is finished.
    pub duration: Duration,
    /// How many clients there are, at most 65,000.
    pub clients: usize,
    /// Whether Kea has several threads.
    pub multi_threading: bool,
    /// How many messages are in flight at a time.
    pub width: usize,
    /// Whether to go on after a fault.
    pub goes_on: bool,
    /// Whether to tell of faults that were gone at another look.
    pub tells_late: bool,
    /// Deeds left out, by parts of their names.
    pub without: Vec<String>,
}

impl Options {
    /// A storm of a seed, for so long.
    pub fn new(seed: u64, duration: Duration) -> Self {
        Options {
            seed,
            duration,
            clients: 300,
            multi_threading: false,
            width: 16,
            goes_on: false,
            tells_late: false,
            without: Vec::new(),
        }
    }

    /// Whether a deed is left out.
    fn skips(&self, deed: Deed) -> bool {
        let name = format!("{deed:?}");
        self.without.iter().any(|part| name.contains(part))
    }
}

/// What a storm has done.
#[derive(Debug, Default, Clone, Copy)]
pub struct Summary {
    /// Rounds.
    pub rounds: u64,
    /// Comparisons.
    pub looks: u64,
    /// How often something was right only at another look.
    pub late: u64,
    /// Queries for everything beside the clients.
    pub queries: u64,
    /// Rounds with faults.
    pub failures: u64,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Summary {
            rounds,
            looks,
            late,
            queries,
            ..
        } = self;
        write!(
            f,
            "{rounds} rounds, {looks} looks at everything, {late} of them more than once, \
             {queries} queries meanwhile"
        )
    }
}

/// Lets a storm blow; what it has done, or what was not right. `progress` is told of it.
pub fn storm(options: Options, progress: &mut dyn FnMut(&str)) -> Result<Summary, String> {
    run::Storm::begin(options)?.run(progress)
}
