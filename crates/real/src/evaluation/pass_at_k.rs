//! pass@k: how probable it is that one of k answers to a task is right.
//!
//! From n answers of which c are right, 1 − C(n−c, k)/C(n, k) is an unbiased estimate (Chen et al. 2021): the chance that k of the n, drawn without
//! putting back, are not all wrong. For example n = 4, c = 1, k = 2: 1 − C(3, 2)/C(4, 2) = 1 − 3/6 = 0.5.

use std::collections::BTreeMap;

use real_reward::Score;
use serde::Serialize;

/// pass@k over all tasks.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct PassAtK {
    /// Answers.
    pub k: usize,
    /// One of them passes every test.
    pub function: f64,
    /// One of them passes every test and satisfies the judges of quality.
    pub joint: f64,
}

/// pass@k for k = 1, 2, 4, … up to the fewest answers that a task has. Nothing where a task has one answer only.
pub(crate) fn pass_at_k(scores: &[Score]) -> Vec<PassAtK> {
    let mut tasks: BTreeMap<&str, [usize; 3]> = BTreeMap::new();
    for score in scores.iter().filter(|score| score.infra_error.is_none()) {
        let [n, function, joint] = tasks.entry(&score.task_id).or_default();
        *n += 1;
        *function += usize::from(score.passed);
        *joint += usize::from(score.passed && score.quality.is_some_and(|quality| quality >= 1.0));
    }
    let fewest = tasks.values().map(|[n, ..]| *n).min().unwrap_or(0);
    if fewest < 2 {
        return Vec::new();
    }
    let mean = |k: usize, of: usize| {
        tasks.values().map(|counts| estimate(counts[0], counts[of], k)).sum::<f64>() / tasks.len() as f64
    };
    std::iter::successors(Some(1), |k| Some(2 * k))
        .take_while(|k| *k <= fewest)
        .map(|k| PassAtK { k, function: mean(k, 1), joint: mean(k, 2) })
        .collect()
}

/// 1 − C(n−c, k)/C(n, k), as a product that does not overflow.
fn estimate(n: usize, right: usize, k: usize) -> f64 {
    if n - right < k {
        return 1.0;
    }
    1.0 - (n - right + 1..=n).map(|i| 1.0 - k as f64 / i as f64).product::<f64>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn estimates_of_known_values() {
        let check = |n, right, k, expected: f64| {
            assert!(
                (estimate(n, right, k) - expected).abs() < 1e-12,
                "{n} {right} {k}: {}",
                estimate(n, right, k)
            );
        };
        check(4, 1, 2, 0.5);
        check(4, 0, 2, 0.0);
        check(4, 3, 2, 1.0);
        check(10, 3, 1, 0.3);
        check(5, 2, 3, 0.9);
    }
}
