//! A plot of the growth tables: an SVG file with a panel for each row, drawn from the Markdown
//! tables of a report, so that both always agree.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;

use crate::client::Result;
use crate::figures::{number, time};
use crate::report::GROWTH_HEAD;
use crate::support::leases::Set;

/// The first argument of this program for a plot: `--plot REPORT.md PLOT.svg`.
pub const ARGUMENT: &str = "--plot";

/// Panels side by side.
const COLUMNS: usize = 3;
/// The width of a panel and its margins.
const WIDTH: f64 = 300.0;
/// The height of a panel and its margins.
const HEIGHT: f64 = 200.0;
/// The space above the panels, for the legend.
const TOP: f64 = 40.0;
/// Margins of a panel's axes within it: left, right, top, bottom.
const MARGINS: [f64; 4] = [62.0, 18.0, 44.0, 26.0];
/// The longest line of a panel's title, in characters.
const TITLE: usize = 42;
/// The least ratio of the ends of a vertical axis, so that noise does not look like growth.
const LEAST_SPAN: f64 = 10.0;

/// Draws the growth tables of a report.
pub fn run(arguments: &[String]) -> Result<()> {
    let [report, plot] = arguments else {
        return Err("a report and the file of the plot are needed".into());
    };
    let panels = panels(&fs::read_to_string(report)?);
    if panels.is_empty() {
        return Err(format!("no growth table in {report}").into());
    }
    Ok(fs::write(plot, draw(&panels))?)
}

/// A row of the growth tables.
#[derive(Debug, Default, PartialEq)]
struct Panel {
    /// The measure.
    what: String,
    /// Whether its values are times.
    is_time: bool,
    /// Values by number of leases, of each set.
    values: [BTreeMap<u32, f64>; Set::ALL.len()],
}

// ----- Reading --------------------------------------------------------------------------------

/// The rows of all growth tables in a text.
fn panels(text: &str) -> Vec<Panel> {
    let mut panels: Vec<Panel> = Vec::new();
    let mut table: Option<(Set, Vec<u32>)> = None;
    for line in text.lines() {
        let Some(cells) = cells(line) else {
            table = None;
            continue;
        };
        match &table {
            None => table = head(&cells),
            Some((set, sizes)) => {
                let [what, values @ ..] = &cells[..] else {
                    continue;
                };
                let values = sizes.iter().zip(values);
                let values = values.filter_map(|(size, cell)| Some((*size, value(cell)?)));
                for (size, (value, is_time)) in values {
                    let known = panels.iter().position(|panel| panel.what == *what);
                    let index = known.unwrap_or_else(|| {
                        panels.push(Panel {
                            what: (*what).to_owned(),
                            is_time,
                            ..Panel::default()
                        });
                        panels.len() - 1
                    });
                    panels[index].values[*set as usize].insert(size, value);
                }
            }
        }
    }
    // One number of leases shows no growth.
    panels.retain(|panel| panel.values.iter().any(|values| values.len() > 1));
    panels
}

/// The cells of a row of a Markdown table.
fn cells(line: &str) -> Option<Vec<&str>> {
    let row = line.trim().strip_prefix('|')?.strip_suffix('|')?;
    Some(row.split('|').map(str::trim).collect())
}

/// The set and the numbers of leases in the head of a growth table.
fn head(cells: &[&str]) -> Option<(Set, Vec<u32>)> {
    let (first, sizes) = cells.split_first()?;
    let set = first.strip_suffix(GROWTH_HEAD)?.trim();
    let sizes = sizes.iter().map(|size| size.replace(',', "").parse().ok());
    Some((Set::from_name(set)?, sizes.collect::<Option<_>>()?))
}

/// The first value of a cell, times in seconds, and whether it is a time.
fn value(cell: &str) -> Option<(f64, bool)> {
    let mut words = cell.split_whitespace();
    let value: f64 = words.next()?.replace(',', "").parse().ok()?;
    let unit = match words.next() {
        Some("s") => 1.0,
        Some("ms") => 1e-3,
        Some("µs") => 1e-6,
        _ => return (value > 0.0).then_some((value, false)),
    };
    (value > 0.0).then_some((value * unit, true))
}

// ----- Drawing --------------------------------------------------------------------------------

/// The colour and the dashes of a set's line.
fn stroke(set: Set) -> &'static str {
    match set {
        Set::Realistic => r##"stroke="#0b62a4""##,
        Set::Uniform => r##"stroke="#999" stroke-dasharray="5 3""##,
    }
}

/// The panels as an SVG file.
fn draw(panels: &[Panel]) -> String {
    let width = WIDTH * COLUMNS as f64;
    let height = TOP + HEIGHT * panels.len().div_ceil(COLUMNS) as f64;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
         font-family=\"sans-serif\" font-size=\"11\" fill=\"#222\">\n\
         <rect width=\"{width}\" height=\"{height}\" fill=\"#fff\"/>\n"
    );
    for (index, set) in Set::ALL.into_iter().enumerate() {
        let x = 20.0 + 150.0 * index as f64;
        push(
            &mut out,
            format_args!(
                "<path d=\"M{x} 20h30\" fill=\"none\" stroke-width=\"2\" {}/>\
                 <text x=\"{}\" y=\"24\">{} leases</text>",
                stroke(set),
                x + 36.0,
                set.name()
            ),
        );
    }
    for (index, panel) in panels.iter().enumerate() {
        let x = WIDTH * (index % COLUMNS) as f64;
        let y = TOP + HEIGHT * (index / COLUMNS) as f64;
        push(
            &mut out,
            format_args!("<g transform=\"translate({x} {y})\">"),
        );
        draw_panel(panel, &mut out);
        push(&mut out, format_args!("</g>"));
    }
    out.push_str("</svg>\n");
    out
}

/// Adds a line to the file.
fn push(out: &mut String, line: std::fmt::Arguments<'_>) {
    // A string takes any text.
    let _ = writeln!(out, "{line}");
}

/// Draws one panel: both axes are logarithmic.
fn draw_panel(panel: &Panel, out: &mut String) {
    let [left, right, top, bottom] = MARGINS;
    let all = || panel.values.iter().flatten();
    let sizes = Axis::of(all().map(|(size, _)| f64::from(*size)), 1.0);
    let values = Axis::of(all().map(|(_, value)| *value), LEAST_SPAN);
    let x = |size: f64| left + sizes.place(size) * (WIDTH - left - right);
    let y = |value: f64| HEIGHT - bottom - values.place(value) * (HEIGHT - top - bottom);
    for (index, line) in title(&panel.what).iter().enumerate() {
        let y = 14.0 + 14.0 * index as f64;
        push(
            out,
            format_args!("<text x=\"8\" y=\"{y}\" font-weight=\"bold\">{line}</text>"),
        );
    }
    for tick in values.ticks() {
        let label = match panel.is_time {
            true => time(tick),
            false => short(tick),
        };
        push(
            out,
            format_args!(
                "<path d=\"M{left} {y:.1}H{}\" stroke=\"#e4e4e4\"/><text x=\"{}\" y=\"{:.1}\" \
                 text-anchor=\"end\">{label}</text>",
                WIDTH - right,
                left - 5.0,
                y(tick) + 4.0,
                y = y(tick),
            ),
        );
    }
    let mut marks: Vec<u32> = all().map(|(size, _)| *size).collect();
    marks.sort_unstable();
    marks.dedup();
    for size in marks {
        push(
            out,
            format_args!(
                "<text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
                x(size.into()),
                HEIGHT - bottom + 16.0,
                short(size.into())
            ),
        );
    }
    for set in Set::ALL {
        let points: Vec<String> = panel.values[set as usize]
            .iter()
            .map(|(size, value)| format!("{:.1},{:.1}", x(f64::from(*size)), y(*value)))
            .collect();
        if points.is_empty() {
            continue;
        }
        push(
            out,
            format_args!(
                "<polyline points=\"{}\" fill=\"none\" stroke-width=\"2\" {}/>",
                points.join(" "),
                stroke(set)
            ),
        );
    }
}

/// A logarithmic axis.
struct Axis {
    /// The least value.
    least: f64,
    /// The greatest value.
    greatest: f64,
}

impl Axis {
    /// An axis for positive values, whose ends have at least a ratio.
    fn of(values: impl Iterator<Item = f64> + Clone, span: f64) -> Axis {
        let least = values.clone().fold(f64::INFINITY, f64::min);
        let greatest = values.fold(0.0, f64::max);
        let margin =
            (span / (greatest / least)).max(1.0).sqrt() * if span > 1.0 { 1.1 } else { 1.0 };
        Axis {
            least: least / margin,
            greatest: greatest * margin,
        }
    }

    /// The place of a value: 0 at the beginning, 1 at the end.
    fn place(&self, value: f64) -> f64 {
        let length = (self.greatest / self.least).ln();
        if length > 0.0 {
            (value / self.least).ln() / length
        } else {
            0.5
        }
    }

    /// Round values on it: of each power of ten one or three.
    fn ticks(&self) -> Vec<f64> {
        let powers = self.least.log10().floor() as i32..=self.greatest.log10().ceil() as i32;
        let factors: &[f64] = if self.greatest / self.least < 200.0 {
            &[1.0, 2.0, 5.0]
        } else {
            &[1.0]
        };
        powers
            .flat_map(|power| {
                factors
                    .iter()
                    .map(move |factor| factor * 10_f64.powi(power))
            })
            .filter(|tick| (self.least..=self.greatest).contains(tick))
            .collect()
    }
}

/// A number in few characters.
fn short(value: f64) -> String {
    let scaled =
        |by: f64, unit: &str| format!("{}{unit}", number(value / by).trim_end_matches(".0"));
    if value >= 1e6 {
        scaled(1e6, "M").replace(".00M", "M")
    } else if value >= 1e3 {
        scaled(1e3, "k").replace(".00k", "k")
    } else {
        number(value)
    }
}

/// The lines of a title, as text of XML.
fn title(what: &str) -> Vec<String> {
    let escaped = |text: &str| text.replace('&', "&amp;").replace('<', "&lt;");
    let mut lines = vec![String::new()];
    for word in what.split_whitespace() {
        let last = lines.last_mut().filter(|last| {
            last.is_empty() || last.chars().count() + 1 + word.chars().count() <= TITLE
        });
        match last {
            Some(last) if last.is_empty() => last.push_str(&escaped(word)),
            Some(last) => {
                last.push(' ');
                last.push_str(&escaped(word));
            }
            None => lines.push(escaped(word)),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A report with two growth tables and another one.
    const REPORT: &str = "\
| what | leases |\n|---|---|\n| relay-id | 1,000 |\n\n\
| realistic leases | 10,000 | 100,000 |\n|---|---|---|\n\
| delta query | 265 µs | 1.5 ms |\n| memory, octets a lease | 1,285 |  |\n\n\
| uniform leases | 10,000 | 100,000 |\n|---|---|---|\n\
| delta query | 100 µs / 9 ms | - |\n| rate <s | 10 | 1,000,000 |\n";

    #[test]
    fn reads_the_growth_tables_of_a_report() {
        let panels = panels(REPORT);
        let named: Vec<&str> = panels.iter().map(|panel| &panel.what[..]).collect();
        // Rows with one value show no growth.
        assert_eq!(named, ["delta query", "rate <s"]);
        let [realistic, uniform] = &panels[0].values;
        let expected = BTreeMap::from([(10_000, 265e-6), (100_000, 1.5e-3)]);
        for (value, expected) in realistic.iter().zip(&expected) {
            assert_eq!(value.0, expected.0);
            assert!((value.1 - expected.1).abs() < 1e-9);
        }
        assert_eq!(uniform.len(), 1);
        assert!(panels[0].is_time);
        assert!(!panels[1].is_time);
    }

    #[test]
    fn draws_a_panel_for_each_row() {
        let svg = draw(&panels(REPORT));
        assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
        assert_eq!(svg.matches("<g ").count(), 2);
        assert_eq!(svg.matches("<polyline ").count(), 3);
        assert!(svg.contains("rate &lt;s"), "text is escaped");
    }

    #[test]
    fn labels_axes_with_round_values() {
        let axis = Axis {
            least: 0.8,
            greatest: 12.0,
        };
        assert_eq!(axis.ticks(), [1.0, 2.0, 5.0, 10.0]);
        assert_eq!(short(10_000.0), "10k");
        assert_eq!(short(1_000_000.0), "1M");
        assert_eq!(short(150.0), "150");
    }
}
