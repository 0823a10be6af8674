//! A storm: random actions of hundreds of clients, an administrator and faults on one Kea. After
//! each round the hook's answers are compared with Kea's leases, address by address, and the copies of active
//! requesters with the hook's answers.
//!
//! - [`plan`]: the actions, drawn from a seed.
//! - [`topology`]: subnets, relays and lines, and the variants of their configuration.
//! - [`traffic`], [`server_actions`]: performing the actions.
//! - [`history`]: the record of actions on each address.
//! - [`observation`]: Kea's leases and the hook's answers at one moment.
//! - [`address_check`]: the comparison of one address.
//! - [`compare`]: the comparison of all addresses and all queries.
//! - [`run`]: the sequence of rounds.

mod address_check;
mod compare;
mod history;
pub mod observation;
pub mod plan;
pub mod random;
mod run;
mod server_actions;
pub mod topology;
pub mod traffic;

use std::fmt;
use std::time::Duration;

use plan::ServerAction;

/// The parameters of a storm.
#[derive(Debug, Clone)]
pub struct Options {
    /// The seed of the random sequence.
    pub seed: u64,
    /// Minimum duration; the last round is completed.
    pub duration: Duration,
    /// Number of clients, at most 65,000.
    pub clients: usize,
    /// Whether Kea uses several threads.
    pub multi_threading: bool,
    /// The highest number of messages in flight.
    pub width: usize,
    /// Whether the storm continues after a fault.
    pub continues: bool,
    /// Whether faults that a later observation did not confirm are reported.
    pub reports_late: bool,
    /// Server actions to leave out, by parts of their names.
    pub without: Vec<String>,
}

impl Options {
    /// Returns the default parameters with a seed and a duration.
    pub fn new(seed: u64, duration: Duration) -> Self {
        Options {
            seed,
            duration,
            clients: 300,
            multi_threading: false,
            width: 16,
            continues: false,
            reports_late: false,
            without: Vec::new(),
        }
    }

    /// Whether a server action is left out.
    fn skips(&self, action: ServerAction) -> bool {
        let name = format!("{action:?}");
        self.without.iter().any(|part| name.contains(part))
    }
}

/// The figures of a storm.
#[derive(Debug, Default, Clone, Copy)]
pub struct Summary {
    /// Number of rounds.
    pub rounds: u64,
    /// Number of comparisons.
    pub observations: u64,
    /// Number of comparisons that succeeded only on repetition.
    pub late: u64,
    /// Number of queries for all addresses while clients were active.
    pub queries: u64,
    /// Number of rounds with faults.
    pub failures: u64,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Summary {
            rounds,
            observations,
            late,
            queries,
            ..
        } = self;
        write!(
            f,
            "{rounds} rounds, {observations} comparisons, {late} of them repeated, \
             {queries} queries during rounds"
        )
    }
}

/// Runs a storm. Returns its figures, or a description of the first fault; `progress` receives a
/// line of text every few seconds.
pub fn storm(options: Options, progress: &mut dyn FnMut(&str)) -> Result<Summary, String> {
    run::Storm::begin(options)?.run(progress)
}
