//! Function, Quality and Function-and-Quality of scored completions, with 95 % Wilson intervals.
//!
//! Function: every functional test passes. Quality: the program parses, defines what the task asks for, and every judge of
//! quality that the task has is content. Both must hold for the joint rate. A completion without a verdict (an outage of
//! ours) is left out of all three and counted.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use real_reward::{Score, Task};
use serde::Serialize;

/// Counts over a set of completions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Completions with a verdict.
    pub total: usize,
    /// All functional tests pass.
    pub function: usize,
    /// No weakness, no type error.
    pub quality: usize,
    /// Both.
    pub joint: usize,
    /// Completions without a verdict.
    pub infra_errors: usize,
}

/// A rate and the interval that holds the true one with 95 % confidence.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Rate {
    /// Fraction.
    pub value: f64,
    /// Lower end of the interval.
    pub low: f64,
    /// Upper end of the interval.
    pub high: f64,
}

/// The counts as fractions, as they appear in `metrics.json`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Rates {
    pub total: usize,
    pub function: Rate,
    pub quality: Rate,
    pub joint: Rate,
    pub infra_errors: usize,
}

impl Counts {
    /// Counts these scores.
    pub(crate) fn of<'a>(scores: impl IntoIterator<Item = &'a Score>) -> Self {
        let mut counts = Self::default();
        for score in scores {
            if score.infra_error.is_some() {
                counts.infra_errors += 1;
                continue;
            }
            let quality = score.quality.is_some_and(|q| q >= 1.0);
            counts.total += 1;
            counts.function += usize::from(score.passed);
            counts.quality += usize::from(quality);
            counts.joint += usize::from(score.passed && quality);
        }
        counts
    }

    /// As fractions.
    pub(crate) fn rates(&self) -> Rates {
        Rates {
            total: self.total,
            function: wilson(self.function, self.total),
            quality: wilson(self.quality, self.total),
            joint: wilson(self.joint, self.total),
            infra_errors: self.infra_errors,
        }
    }
}

/// The 97.5 % quantile of the standard normal distribution.
const Z: f64 = 1.959_963_984_540_054;

/// The Wilson score interval of `successes` in `total` trials at 95 % (Wilson 1927). Without trials it is all of 0 to 1.
pub(crate) fn wilson(successes: usize, total: usize) -> Rate {
    if total == 0 {
        return Rate { value: 0.0, low: 0.0, high: 1.0 };
    }
    let n = total as f64;
    let p = successes as f64 / n;
    let centre = p + Z * Z / (2.0 * n);
    let spread = Z * (p * (1.0 - p) / n + Z * Z / (4.0 * n * n)).sqrt();
    let scale = 1.0 + Z * Z / n;
    Rate { value: p, low: ((centre - spread) / scale).max(0.0), high: ((centre + spread) / scale).min(1.0) }
}

/// The counts of each group of scores. `group` names the groups a task belongs to.
pub(crate) fn by_group<'a>(
    tasks: &[Task],
    scores: &'a [Score],
    group: impl Fn(&Task) -> Vec<String>,
) -> BTreeMap<String, Counts> {
    let by_id: BTreeMap<&str, &Task> = tasks.iter().map(|t| (t.id.as_str(), t)).collect();
    let mut groups: BTreeMap<String, Vec<&'a Score>> = BTreeMap::new();
    for score in scores {
        for name in by_id.get(score.task_id.as_str()).map(|task| group(task)).unwrap_or_default() {
            groups.entry(name).or_default().push(score);
        }
    }
    groups.into_iter().map(|(name, scores)| (name, Counts::of(scores))).collect()
}

/// A table with one row per named set of counts.
pub(crate) fn table<'a>(first_column: &str, rows: impl IntoIterator<Item = (&'a str, Counts)>) -> String {
    let rows: Vec<(&str, Counts)> = rows.into_iter().collect();
    let width =
        rows.iter().map(|(name, _)| name.chars().count()).chain([first_column.len()]).max().unwrap_or(0);
    let mut text = format!(
        "{first_column:width$}  {:>5}  {:^20}  {:^20}  {:^20}\n",
        "n", "Function", "Quality", "Func-Qual"
    );
    for (name, counts) in rows {
        let rates = counts.rates();
        let _ = write!(text, "{name:width$}  {:>5}", counts.total);
        for Rate { value, low, high } in [rates.function, rates.quality, rates.joint] {
            let _ = write!(text, "  {:5.1} % [{:4.1}, {:5.1}]", 100.0 * value, 100.0 * low, 100.0 * high);
        }
        if counts.infra_errors > 0 {
            let _ = write!(text, "  ({} without a verdict)", counts.infra_errors);
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wilson_interval_of_known_values() {
        // 10 of 100: 5.52 % to 17.44 % (Wilson 1927, without continuity correction).
        let Rate { value, low, high } = wilson(10, 100);
        assert!((value - 0.1).abs() < 1e-12);
        assert!((low - 0.055_23).abs() < 1e-4 && (high - 0.174_37).abs() < 1e-4);
        assert!(wilson(0, 20).low.abs() < 1e-12 && wilson(20, 20).high > 0.999_999);
        assert_eq!(wilson(0, 0), Rate { value: 0.0, low: 0.0, high: 1.0 });
    }
}
