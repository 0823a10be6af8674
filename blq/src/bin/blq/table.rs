//! Table output: columns of a fixed width, so that each row is written at once.

use std::borrow::Cow;
use std::io::{self, Write};

use blq::Binding;
use blq::cli::Column;

use crate::cells::{Style, value};

/// The mark at the end of a value that was cut.
const CUT: char = '\u{2026}';

/// Width of the columns of identifiers and options: that of the longest usual values.
const USUAL: usize = 20;

/// Least width of these columns on a narrow terminal.
const LEAST: usize = 10;

/// Largest width of these columns on a wide terminal.
const MOST: usize = 60;

/// The columns of a table and their widths.
#[derive(Debug)]
pub struct Table {
    /// The columns with their widths. Outside of a terminal, a longer value shifts the rest of its row
    /// and is not cut.
    columns: Vec<(Column, usize)>,
    /// Whether longer values are cut.
    cut: bool,
    /// The columns that the terminal has no room for.
    pub hidden: Vec<Column>,
}

impl Table {
    /// Returns a table of any width.
    pub fn unlimited(columns: Vec<Column>) -> Table {
        Table {
            columns: columns.into_iter().map(|c| (c, usual(c))).collect(),
            cut: false,
            hidden: Vec::new(),
        }
    }

    /// Returns a table that is at most `terminal` columns wide. Columns other than the address are
    /// hidden if they do not fit, `needed` ones last.
    pub fn fitting(columns: Vec<Column>, terminal: usize, needed: &[Column]) -> Table {
        let least = |column: Column| {
            if is_flexible(column) {
                LEAST
            } else {
                usual(column)
            }
        };
        let mut columns: Vec<(Column, usize)> =
            columns.into_iter().map(|c| (c, least(c))).collect();
        let mut hidden = Vec::new();
        while total(&columns) > terminal {
            let candidates = columns.iter().enumerate();
            let Some((last, _)) = candidates
                .filter(|(_, (column, _))| *column != Column::Address)
                .max_by_key(|(at, (column, _))| {
                    (!needed.contains(column), dispensable(*column), *at)
                })
            else {
                break;
            };
            hidden.push(columns.remove(last).0);
        }
        widen(&mut columns, terminal);
        Table {
            columns,
            cut: true,
            hidden,
        }
    }

    /// Writes the row of titles.
    pub fn write_header(&self, out: &mut impl Write) -> io::Result<()> {
        self.write_row(|column| title(column).into(), out)
    }

    /// Writes the row of a binding.
    pub fn write(&self, binding: &Binding, out: &mut impl Write) -> io::Result<()> {
        self.write_row(|column| value(column, binding, Style::Table), out)
    }

    /// Writes one line.
    fn write_row(
        &self,
        cell: impl Fn(Column) -> Cow<'static, str>,
        out: &mut impl Write,
    ) -> io::Result<()> {
        let mut line = String::with_capacity(200);
        for (column, width) in &self.columns {
            let value = cell(*column);
            let length = value.chars().count();
            if self.cut && length > *width {
                line.extend(value.chars().take(width.saturating_sub(1)));
                line.push(CUT);
            } else {
                line.push_str(&value);
            }
            line.extend(std::iter::repeat_n(' ', width.saturating_sub(length) + 1));
        }
        writeln!(out, "{}", line.trim_end())
    }
}

/// Returns the title of a column.
fn title(column: Column) -> String {
    match column {
        Column::LeaseLeft => "LEASE LEFT".into(),
        Column::LastTransaction => "LAST TRANSACTION".into(),
        column => column.name().to_uppercase(),
    }
}

/// Returns the usual width of a column, at least that of its title.
fn usual(column: Column) -> usize {
    let width = match column {
        Column::Address | Column::Server => 15,
        Column::State => 13,
        Column::Mac => 17,
        Column::LeaseLeft
        | Column::Vpn
        | Column::Source
        | Column::RenewalTime
        | Column::RebindingTime => 10,
        _ => USUAL,
    };
    width.max(title(column).len())
}

/// Whether values of a column vary in length, so that a narrow terminal may cut them.
fn is_flexible(column: Column) -> bool {
    matches!(
        column,
        Column::ClientId
            | Column::RemoteId
            | Column::RelayId
            | Column::CircuitId
            | Column::Vpn
            | Column::RelayAgentInformation
            | Column::Status
            | Column::Option(_)
    )
}

/// Returns how soon a column is hidden on a narrow terminal: the highest first.
fn dispensable(column: Column) -> u8 {
    match column {
        Column::Address => 0,
        Column::State => 1,
        Column::Mac => 2,
        Column::RemoteId => 3,
        Column::CircuitId => 4,
        Column::LeaseLeft => 5,
        Column::ClientId => 6,
        Column::Since => 7,
        Column::RelayId => 8,
        Column::LastTransaction => 9,
        _ => 10,
    }
}

/// Returns the width of a row.
fn total(columns: &[(Column, usize)]) -> usize {
    let widths: usize = columns.iter().map(|(_, width)| width).sum();
    widths + columns.len().saturating_sub(1)
}

/// Gives the rest of the terminal's width to the columns whose values vary in length, evenly.
fn widen(columns: &mut [(Column, usize)], terminal: usize) {
    let mut rest = terminal.saturating_sub(total(columns));
    for most in LEAST..MOST {
        for (column, width) in columns.iter_mut() {
            if rest > 0 && *width <= most && is_flexible(*column) {
                *width += 1;
                rest -= 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Returns the names of the columns of a table, separated by commas.
    fn names(columns: impl IntoIterator<Item = Column>) -> String {
        let names: Vec<_> = columns.into_iter().map(|column| column.name()).collect();
        names.join(",")
    }

    /// Returns the names of the columns that a terminal of this width has room for.
    fn shown(columns: &[Column], terminal: usize, needed: &[Column]) -> String {
        let table = Table::fitting(columns.to_vec(), terminal, needed);
        names(table.columns.iter().map(|(column, _)| *column))
    }

    #[test]
    fn shows_all_columns_on_a_wide_terminal() {
        let table = Table::fitting(Column::DEFAULT.to_vec(), 300, &[]);
        assert_eq!(table.hidden, []);
        assert_eq!(total(&table.columns), 300);
    }

    /// A terminal of 80 columns has room for the identity of a client and of its line.
    #[test]
    fn hides_columns_on_a_narrow_terminal() {
        let columns = Column::DEFAULT;
        assert_eq!(
            shown(&columns, 80, &[]),
            "address,state,mac,lease-left,remote-id,circuit-id"
        );
        assert_eq!(
            shown(&columns, 80, &[Column::Vpn]),
            "address,state,mac,remote-id,vpn,circuit-id"
        );
        assert_eq!(shown(&columns, 30, &[]), "address,state");
        assert_eq!(shown(&columns, 1, &[]), "address");
    }

    #[test]
    fn hides_options_that_were_asked_for_last() {
        let columns = [Column::DEFAULT.as_slice(), &[Column::Option(12)]].concat();
        assert_eq!(
            shown(&columns, 80, &[Column::Option(12)]),
            "address,state,mac,remote-id,circuit-id,host-name"
        );
    }

    proptest! {
        /// No row is wider than the terminal if the address fits, and hidden columns are listed.
        #[test]
        fn writes_rows_that_fit_the_terminal(
            terminal in 15..400_usize,
            value in "[a-z]{0,80}",
            count in 1..=11_usize,
        ) {
            let columns = Column::DEFAULT[..count].to_vec();
            let table = Table::fitting(columns, terminal, &[]);
            let mut row = Vec::new();
            table.write_row(|column| match column {
                Column::Address => "255.255.255.255".into(),
                _ => value.clone().into(),
            }, &mut row).unwrap();
            table.write_header(&mut row).unwrap();
            for line in String::from_utf8(row).unwrap().lines() {
                prop_assert!(line.chars().count() <= terminal, "{line}");
            }
            prop_assert_eq!(table.columns.len() + table.hidden.len(), count);
        }
    }
}
