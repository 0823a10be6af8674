//! Figures: statistics of measurements, and their format.

use std::time::Duration;

/// The quantile of a share of the values, 0 for the smallest; NaN without values.
pub fn quantile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len().saturating_sub(1);
    let index = (share * last as f64).ceil() as usize;
    sorted.get(index).copied().unwrap_or(f64::NAN)
}

/// The median; NaN without values.
pub fn median(values: &[f64]) -> f64 {
    let negated: Vec<f64> = values.iter().map(|value| -value).collect();
    (quantile(values, 0.5) - quantile(&negated, 0.5)) / 2.0
}

/// Ratios of values to those measured in the same turns.
pub fn ratios(values: &[f64], to: &[f64]) -> Vec<f64> {
    values.iter().zip(to).map(|(a, b)| a / b).collect()
}

/// Things a second.
pub fn rate(things: u64, time: Duration) -> f64 {
    things as f64 / time.as_secs_f64()
}

/// A number with separators of thousands, or with three digits if it is small.
pub fn number(value: f64) -> String {
    if !value.is_finite() {
        return "-".into();
    }
    if value.abs() < 100.0 {
        let decimals = if value.abs() < 1.0 {
            3
        } else if value.abs() < 10.0 {
            2
        } else {
            1
        };
        return format!("{value:.decimals$}");
    }
    let digits = format!("{:.0}", value.abs());
    let first = digits.len() % 3;
    let mut grouped = digits[..first].to_owned();
    for group in digits.as_bytes()[first..].chunks(3) {
        if !grouped.is_empty() {
            grouped.push(',');
        }
        grouped.extend(group.iter().map(|digit| char::from(*digit)));
    }
    if value < 0.0 {
        grouped.insert(0, '-');
    }
    grouped
}

/// A number rounded to three digits: more would be noise.
pub fn rounded(value: f64) -> String {
    if !value.is_finite() || value == 0.0 {
        return number(value);
    }
    let unit = 10_f64.powf(value.abs().log10().floor() - 2.0);
    number((value / unit).round() * unit)
}

/// A time in seconds, with a suitable unit.
pub fn time(seconds: f64) -> String {
    let (value, unit) = if seconds >= 1.0 {
        (seconds, "s")
    } else if seconds >= 1e-3 {
        (seconds * 1e3, "ms")
    } else {
        (seconds * 1e6, "µs")
    };
    format!("{} {unit}", rounded(value))
}

/// Octets in mebibytes.
pub fn mebibytes(octets: f64) -> String {
    format!("{} MiB", number(octets / f64::from(1 << 20)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_medians_and_quantiles() {
        let values: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        assert_eq!(quantile(&values, 0.0), 1.0);
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 3.0, 1.0, 2.0]), 2.5);
        assert_eq!(quantile(&values, 0.99), 100.0);
        assert_eq!(quantile(&values, 1.0), 100.0);
        assert!(median(&[]).is_nan());
    }

    #[test]
    fn formats_numbers_for_readers() {
        assert_eq!(number(1_234_567.0), "1,234,567");
        assert_eq!(number(123.4), "123");
        assert_eq!(number(12.34), "12.3");
        assert_eq!(number(0.1234), "0.123");
        assert_eq!(number(f64::NAN), "-");
        assert_eq!(rounded(1_234_567.0), "1,230,000");
        assert_eq!(time(0.000_012_34), "12.3 µs");
        assert_eq!(time(0.044), "44.0 ms");
    }
}
