//! The tables that are printed at the end.

use std::collections::BTreeMap;

use crate::figures::number;
use crate::support::leases::Set;

/// A row of the table of targets.
#[derive(Debug, Default)]
pub struct Line {
    /// The measure.
    pub what: String,
    /// The set of leases.
    pub set: Option<Set>,
    /// The target; empty if there is none.
    pub target: String,
    /// The result.
    pub result: String,
    /// The figure that the result is compared with.
    pub against: String,
    /// The ratio of both, or their difference.
    pub ratio: String,
    /// Whether the target is met; `None` without a target, or if the measurement cannot decide.
    pub met: Option<bool>,
}

/// Values by number of leases.
type Growth = Vec<(String, BTreeMap<u32, String>)>;

/// All results.
#[derive(Debug, Default)]
pub struct Report {
    /// The rows of the table of targets, in the order of their measurement.
    lines: Vec<Line>,
    /// Measures by number of leases, of each set.
    growth: [Growth; Set::ALL.len()],
}

impl Report {
    /// Adds a row to the table of targets, and prints it.
    pub fn add(&mut self, line: Line) {
        eprintln!("    {}", row(&cells(&line)));
        self.lines.push(line);
    }

    /// Adds a measure at a number of leases, and prints it.
    pub fn grow(&mut self, set: Set, what: &str, leases: u32, value: String) {
        eprintln!("    {leases} {} leases: {what}: {value}", set.name());
        let growth = &mut self.growth[set as usize];
        match growth.iter_mut().find(|(name, _)| name == what) {
            Some((_, values)) => {
                values.insert(leases, value);
            }
            None => growth.push((what.to_owned(), BTreeMap::from([(leases, value)]))),
        }
    }

    /// The table of targets in Markdown.
    pub fn targets(&self) -> String {
        let heads = [
            "what", "leases", "target", "result", "against", "ratio", "met",
        ];
        let mut rows = vec![row(&heads.map(String::from)), rule(heads.len())];
        rows.extend(self.lines.iter().map(|line| row(&cells(line))));
        rows.join("\n")
    }

    /// The growth table of a set in Markdown; `None` without measures.
    pub fn growth(&self, set: Set) -> Option<String> {
        let growth = &self.growth[set as usize];
        let sizes = growth.iter().flat_map(|(_, values)| values.keys().copied());
        let mut sizes: Vec<u32> = sizes.collect();
        sizes.sort_unstable();
        sizes.dedup();
        if sizes.is_empty() {
            return None;
        }
        let heads = sizes.iter().map(|size| number(f64::from(*size)));
        let head = format!("{} {GROWTH_HEAD}", set.name());
        let head: Vec<String> = [head].into_iter().chain(heads).collect();
        let mut rows = vec![row(&head), rule(head.len())];
        for (what, values) in growth {
            let cells = sizes
                .iter()
                .map(|size| values.get(size).cloned().unwrap_or_default());
            let cells: Vec<String> = [what.clone()].into_iter().chain(cells).collect();
            rows.push(row(&cells));
        }
        Some(rows.join("\n"))
    }
}

/// The end of the first head of a growth table, after the name of the set.
pub const GROWTH_HEAD: &str = "leases";

/// The cells of a row of the table of targets.
fn cells(line: &Line) -> [String; 7] {
    let met = match line.met {
        Some(true) => "yes",
        Some(false) => "**no**",
        None => "",
    };
    [
        line.what.clone(),
        line.set.map_or("", Set::name).to_owned(),
        line.target.clone(),
        line.result.clone(),
        line.against.clone(),
        line.ratio.clone(),
        met.to_owned(),
    ]
}

/// A row of a Markdown table.
fn row(cells: &[String]) -> String {
    format!("| {} |", cells.join(" | "))
}

/// The line below the heads of a Markdown table.
fn rule(columns: usize) -> String {
    format!("|{}", "---|".repeat(columns))
}
