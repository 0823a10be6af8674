//! Standard output: the bindings in the format of the command line.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, BufWriter, IsTerminal, StdoutLock, Write};
use std::os::fd::AsFd;

use blq::Binding;
use blq::cli::{Args, Column};
use terminal_size::{Width, terminal_size_of};

use crate::cells::{Style, value};
use crate::json::{self, Summary};
use crate::table::Table;

/// Octets that are collected before they are written.
const BUFFER: usize = 64 * 1024;

/// Standard output, and the number of bindings written to it.
pub struct Output {
    /// The format and its writer.
    format: Format,
    /// Whether a row of titles is still to be written before the first row.
    header: bool,
    /// Number of bindings written.
    pub bindings: u64,
}

/// The formats with their writers.
enum Format {
    /// A table.
    Table(Table, BufWriter<StdoutLock<'static>>),
    /// Comma-separated values of these columns.
    Csv(Vec<Column>, Box<csv::Writer<StdoutLock<'static>>>),
    /// JSON objects.
    Json(BufWriter<StdoutLock<'static>>),
}

impl Output {
    /// Returns the output of an answer without bindings.
    pub fn new(args: &Args) -> Output {
        let stdout = io::stdout().lock();
        let format = if args.json {
            Format::Json(BufWriter::with_capacity(BUFFER, stdout))
        } else if args.csv {
            let writer = csv::WriterBuilder::new()
                .buffer_capacity(BUFFER)
                .from_writer(stdout);
            Format::Csv(args.columns(), Box::new(writer))
        } else {
            let table = table(args, &stdout);
            Format::Table(table, BufWriter::with_capacity(BUFFER, stdout))
        };
        Output {
            format,
            header: !args.json && !args.no_header,
            bindings: 0,
        }
    }

    /// Writes a binding.
    pub fn write(&mut self, binding: &Binding) -> io::Result<()> {
        self.write_header()?;
        match &mut self.format {
            Format::Table(table, out) => table.write(binding, out)?,
            Format::Csv(columns, out) => {
                write_record(out, columns, |column| value(column, binding, Style::Csv))?;
            }
            Format::Json(out) => json::write(binding, out)?,
        }
        self.bindings += 1;
        Ok(())
    }

    /// Writes the row of titles, once.
    fn write_header(&mut self) -> io::Result<()> {
        if !std::mem::take(&mut self.header) {
            return Ok(());
        }
        match &mut self.format {
            Format::Table(table, out) => table.write_header(out),
            Format::Csv(columns, out) => write_record(out, columns, Column::name),
            Format::Json(_) => Ok(()),
        }
    }

    /// Ends a complete answer. CSV has its titles without rows too, for readers that require them.
    pub fn complete(&mut self) -> io::Result<()> {
        if matches!(self.format, Format::Csv(..)) {
            self.write_header()?;
        }
        self.flush()
    }

    /// Writes the object about the whole answer, in JSON alone.
    pub fn write_summary(&mut self, summary: &Summary) -> io::Result<()> {
        if let Format::Json(out) = &mut self.format {
            json::write_summary(summary, out)?;
        }
        self.flush()
    }

    /// Writes buffered rows to standard output.
    pub fn flush(&mut self) -> io::Result<()> {
        match &mut self.format {
            Format::Table(_, out) | Format::Json(out) => out.flush(),
            Format::Csv(_, out) => out.flush(),
        }
    }

    /// Waits until a file behind standard output is on the disk; other kinds need no wait.
    pub fn sync(&mut self) -> io::Result<()> {
        self.flush()?;
        let file = File::from(io::stdout().as_fd().try_clone_to_owned()?);
        if file.metadata()?.is_file() {
            file.sync_data()?;
        }
        Ok(())
    }

    /// Returns the columns for which the terminal has no room.
    pub fn hidden(&self) -> &[Column] {
        match &self.format {
            Format::Table(table, _) => &table.hidden,
            Format::Csv(..) | Format::Json(_) => &[],
        }
    }
}

/// Writes a line of comma-separated values.
fn write_record(
    out: &mut csv::Writer<StdoutLock<'static>>,
    columns: &[Column],
    cell: impl Fn(Column) -> Cow<'static, str>,
) -> io::Result<()> {
    for column in columns {
        out.write_field(cell(*column).as_bytes())
            .map_err(csv_error)?;
    }
    out.write_record(None::<&[u8]>).map_err(csv_error)
}

/// Returns the error of the writer below, such as that of a closed pipe.
fn csv_error(error: csv::Error) -> io::Error {
    match error.into_kind() {
        csv::ErrorKind::Io(error) => error,
        other => io::Error::other(format!("{other:?}")),
    }
}

/// Returns the table for standard output: limited to the width of a terminal.
fn table(args: &Args, stdout: &StdoutLock<'_>) -> Table {
    let columns = args.columns();
    let size = terminal_size_of(stdout).filter(|_| stdout.is_terminal());
    match size {
        Some((Width(width), _)) if width > 0 => {
            let mut needed: Vec<Column> = if args.selects_columns() {
                columns.clone()
            } else {
                let is_default = |column: &Column| Column::DEFAULT.contains(column);
                columns
                    .iter()
                    .copied()
                    .filter(|column| !is_default(column))
                    .collect()
            };
            // The same address may occur once in each VPN.
            if args.vpn().is_some() {
                needed.push(Column::Vpn);
            }
            Table::fitting(columns, width.into(), &needed)
        }
        _ => Table::unlimited(columns),
    }
}
