//! The tables that are printed at the end.

use std::collections::BTreeMap;

/// A target and how it was met.
#[derive(Debug)]
pub struct Line {
    /// What was measured.
    pub what: String,
    /// What is to be reached.
    pub target: String,
    /// What was reached.
    pub result: String,
    /// What that is compared with.
    pub against: String,
    /// The ratio of both.
    pub ratio: String,
    /// Whether the target is met; `None` if that cannot be told, or there is none.
    pub met: Option<bool>,
}

/// All that was measured.
#[derive(Debug, Default)]
pub struct Report {
    /// Targets, in the order they were measured.
    lines: Vec<Line>,
    /// Measures by number of leases: their names, and values by number of leases.
    growth: Vec<(String, BTreeMap<u32, String>)>,
}

impl Report {
    /// Adds a target, and says how it was met.
    pub fn add(&mut self, line: Line) {
        eprintln!("    {}", row(&cells(&line)));
        self.lines.push(line);
    }

    /// Adds a measure at some number of leases.
    pub fn grow(&mut self, what: &str, leases: u32, value: String) {
        eprintln!("    {leases} leases: {what}: {value}");
        let known = self.growth.iter_mut().find(|(name, _)| name == what);
        match known {
            Some((_, values)) => {
                values.insert(leases, value);
            }
            None => self
                .growth
                .push((what.to_owned(), BTreeMap::from([(leases, value)]))),
        }
    }

    /// The targets as a Markdown table.
    pub fn targets(&self) -> String {
        let mut rows = vec![
            row(&["what", "target", "result", "against", "ratio", "met"].map(String::from)),
            "|---|---|---|---|---|---|".to_owned(),
        ];
        rows.extend(self.lines.iter().map(|line| row(&cells(line))));
        rows.join("\n")
    }

    /// The measures by number of leases as a Markdown table; `None` if there are none.
    pub fn growth(&self) -> Option<String> {
        let mut sizes: Vec<u32> = self
            .growth
            .iter()
            .flat_map(|(_, values)| values.keys().copied())
            .collect();
        sizes.sort_unstable();
        sizes.dedup();
        if sizes.is_empty() {
            return None;
        }
        let heads = sizes
            .iter()
            .map(|size| crate::figures::number(f64::from(*size)));
        let head: Vec<String> = ["leases".to_owned()].into_iter().chain(heads).collect();
        let mut rows = vec![row(&head), format!("|{}", "---|".repeat(head.len()))];
        for (what, values) in &self.growth {
            let cells = sizes
                .iter()
                .map(|size| values.get(size).cloned().unwrap_or_default());
            let cells: Vec<String> = [what.clone()].into_iter().chain(cells).collect();
            rows.push(row(&cells));
        }
        Some(rows.join("\n"))
    }
}

/// The cells of a line.
fn cells(line: &Line) -> [String; 6] {
    let met = match line.met {
        Some(true) => "yes",
        Some(false) => "**no**",
        None => "",
    };
    [
        line.what.clone(),
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
