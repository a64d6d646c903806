//! Figures out of measurements: milliseconds, what of many stands for all, and their place in docs/benchmarks.md.

use anyhow::Context;
use netguard_core::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// Milliseconds from one point in time to a later one; zero when it is not later.
#[must_use]
pub fn milliseconds(from: Timestamp, to: Timestamp) -> f64 {
    round(to.since(from).as_secs_f64() * 1e3)
}

/// Milliseconds to the microsecond: more digits than the clock has say nothing.
#[must_use]
pub fn round(milliseconds: f64) -> f64 {
    (milliseconds * 1e3).round() / 1e3
}

/// Smallest, middle and largest of a handful, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Spread {
    pub min: f64,
    pub p50: f64,
    pub max: f64,
}

impl Spread {
    /// None of nothing.
    #[must_use]
    pub fn of(values: &[f64]) -> Option<Self> {
        let sorted = sorted(values);
        Some(Self { min: *sorted.first()?, p50: quantile(&sorted, 50)?, max: *sorted.last()? })
    }
}

/// Middle, 99th percentile and largest of many, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Percentiles {
    pub p50: f64,
    pub p99: f64,
    pub max: f64,
}

impl Percentiles {
    /// None of nothing.
    #[must_use]
    pub fn of(values: &[f64]) -> Option<Self> {
        let sorted = sorted(values);
        Some(Self { p50: quantile(&sorted, 50)?, p99: quantile(&sorted, 99)?, max: *sorted.last()? })
    }
}

fn sorted(values: &[f64]) -> Vec<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
}

/// The smallest value that at least `percent` of all values do not exceed (nearest rank).
fn quantile(sorted: &[f64], percent: usize) -> Option<f64> {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.saturating_sub(1)).copied()
}

/// Writes a section of docs/benchmarks.md: the command, and what it measured, between the marks with this name.
///
/// Errors: the file cannot be read or written, or has no such marks.
pub fn write_section(path: &Path, name: &str, command: &str, figures: &str) -> anyhow::Result<()> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let [begin, end] = ["begin", "end"].map(|edge| format!("<!-- netguard-lab {name}: {edge} -->"));
    let text = between_marks(&text, &begin, &end, &format!("`{command}`\n\n{figures}"))
        .with_context(|| format!("{} has no lines `{begin}` and `{end}`", path.display()))?;
    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

/// `text` with `section` in place of what stands between the two marks.
fn between_marks(text: &str, begin: &str, end: &str, section: &str) -> Option<String> {
    let (before, rest) = text.split_once(begin)?;
    let (_, after) = rest.split_once(end)?;
    Some(format!("{before}{begin}\n{section}\n{end}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_were_measured() {
        let hundred: Vec<_> = (1..=100).rev().map(f64::from).collect();
        assert_eq!(Percentiles::of(&hundred), Some(Percentiles { p50: 50.0, p99: 99.0, max: 100.0 }));
        assert_eq!(Percentiles::of(&[7.0]), Some(Percentiles { p50: 7.0, p99: 7.0, max: 7.0 }));
        assert_eq!(Percentiles::of(&[]), None);
        assert_eq!(Spread::of(&[3.0, 1.0, 2.0, 9.0]), Some(Spread { min: 1.0, p50: 2.0, max: 9.0 }));
        assert_eq!(Spread::of(&[]), None);
    }

    #[test]
    fn time_does_not_run_backwards() {
        let at = Timestamp::from_micros;
        assert_eq!(milliseconds(at(1_000), at(3_500)).to_bits(), 2.5_f64.to_bits());
        assert_eq!(milliseconds(at(3_500), at(1_000)).to_bits(), 0.0_f64.to_bits());
    }

    #[test]
    fn only_what_stands_between_the_marks_is_replaced() {
        assert_eq!(between_marks("a <b> old <e> c", "<b>", "<e>", "new").unwrap(), "a <b>\nnew\n<e> c");
        assert_eq!(between_marks("a <e> old <b> c", "<b>", "<e>", "new"), None);
    }
}
