//! Function, Quality and Function-and-Quality of scored completions, with 95 % Wilson intervals.
//!
//! Function: every functional test passes. Quality: the program parses, defines what the task asks for, and every judge of
//! quality that the task has is content. Both must hold for the joint rate. A completion without a verdict (an outage of
//! ours) is left out of all three and counted.
//!
//! Where a task has several completions these are no independent trials. The interval is then that of as many trials as there are tasks, which
//! is on the safe side: it would be right if all completions of a task always shared their fate.

mod coverage;
mod pass_at_k;
mod profile;

pub(crate) use coverage::{by_weakness, coverage_table};
pub(crate) use pass_at_k::pass_at_k;
pub(crate) use profile::Profile;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use real_reward::{Score, Task};
use serde::Serialize;

/// Counts over a set of completions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Completions with a verdict.
    pub total: usize,
    /// Tasks that these are of.
    pub tasks: usize,
    /// All functional tests pass.
    pub function: usize,
    /// No weakness, no type error.
    pub quality: usize,
    /// Both.
    pub joint: usize,
    /// Completions of tasks with tests under attack.
    pub attacked: usize,
    /// Of these, what withstands every attack.
    pub withstood: usize,
    /// Of these, what withstands every attack and passes every functional test.
    pub joint_by_attack: usize,
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
    /// Completions of tasks with tests under attack.
    pub attacked: usize,
    /// Quality by execution: every attack is withstood.
    pub withstood: Rate,
    /// Function, and quality by execution.
    pub joint_by_attack: Rate,
    pub infra_errors: usize,
}

impl Counts {
    /// Counts these scores.
    pub(crate) fn of<'a>(scores: impl IntoIterator<Item = &'a Score>) -> Self {
        let mut counts = Self::default();
        let mut tasks = BTreeSet::new();
        for score in scores {
            if score.infra_error.is_some() {
                counts.infra_errors += 1;
                continue;
            }
            let quality = score.quality.is_some_and(|q| q >= 1.0);
            counts.total += 1;
            tasks.insert(score.task_id.as_str());
            counts.function += usize::from(score.passed);
            counts.quality += usize::from(quality);
            counts.joint += usize::from(score.passed && quality);
            if let Some(attacks) = score.tests.by_kind.get("attack") {
                let withstood = attacks.passed == attacks.total;
                counts.attacked += 1;
                counts.withstood += usize::from(withstood);
                counts.joint_by_attack += usize::from(withstood && score.passed);
            }
        }
        counts.tasks = tasks.len();
        counts
    }

    /// As fractions.
    pub(crate) fn rates(&self) -> Rates {
        let each = self.total.max(1) as f64 / self.tasks.max(1) as f64;
        let rate = |count: usize, total: usize| wilson(count as f64 / each, total as f64 / each);
        Rates {
            total: self.total,
            function: rate(self.function, self.total),
            quality: rate(self.quality, self.total),
            joint: rate(self.joint, self.total),
            attacked: self.attacked,
            withstood: rate(self.withstood, self.attacked),
            joint_by_attack: rate(self.joint_by_attack, self.attacked),
            infra_errors: self.infra_errors,
        }
    }
}

/// The 97.5 % quantile of the standard normal distribution.
const Z: f64 = 1.959_963_984_540_054;

/// The Wilson score interval of `successes` in `total` trials at 95 % (Wilson 1927). Without trials it is all of 0 to 1.
pub(crate) fn wilson(successes: f64, total: f64) -> Rate {
    if total <= 0.0 {
        return Rate { value: 0.0, low: 0.0, high: 1.0 };
    }
    let n = total;
    let p = successes / n;
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
    let attacked = rows.iter().any(|(_, counts)| counts.attacked > 0);
    let mut text = format!(
        "{first_column:width$}  {:>5}  {:^20}  {:^20}  {:^20}",
        "n", "Function", "Quality", "Func-Qual"
    );
    if attacked {
        let _ = write!(text, "  {:>5}  {:^20}", "n", "Under attack");
    }
    text.push('\n');
    for (name, counts) in rows {
        let rates = counts.rates();
        let _ = write!(text, "{name:width$}  {:>5}", counts.total);
        for rate in [rates.function, rates.quality, rates.joint] {
            let _ = write!(text, "  {}", percentages(rate));
        }
        if counts.attacked > 0 {
            let _ = write!(text, "  {:>5}  {}", counts.attacked, percentages(rates.withstood));
        }
        if counts.infra_errors > 0 {
            let _ = write!(text, "  ({} without a verdict)", counts.infra_errors);
        }
        text.push('\n');
    }
    text
}

fn percentages(Rate { value, low, high }: Rate) -> String {
    format!("{:5.1} % [{:4.1}, {:5.1}]", 100.0 * value, 100.0 * low, 100.0 * high)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wilson_interval_of_known_values() {
        // 10 of 100: 5.52 % to 17.44 % (Wilson 1927, without continuity correction).
        let Rate { value, low, high } = wilson(10.0, 100.0);
        assert!((value - 0.1).abs() < 1e-12);
        assert!((low - 0.055_23).abs() < 1e-4 && (high - 0.174_37).abs() < 1e-4);
        assert!(wilson(0.0, 20.0).low.abs() < 1e-12 && wilson(20.0, 20.0).high > 0.999_999);
        let halved = wilson(5.0, 50.0);
        assert!(halved.low < low && halved.high > high, "fewer trials, a wider interval");
        assert_eq!(wilson(0.0, 0.0), Rate { value: 0.0, low: 0.0, high: 1.0 });
    }
}
