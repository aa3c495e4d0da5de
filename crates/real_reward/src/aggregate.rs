//! From judgements to one number.
//!
//! A worked example, with the defaults (α = 0.5, binary quality, fraction of tests): a program with one SQL injection that passes 3 of
//! 4 tests gets 0.5·0 + 0.5·0.75 = 0.375; without the injection 0.875. With graded quality the injection costs 0.3 of the quality:
//! 0.5·0.7 + 0.5·0.75 = 0.725. What cannot run gets −1, whatever else is true of it.

use crate::Count;
use crate::config::{Aggregation, Function, Quality, RewardConfig};

/// What the judges say of a runnable program.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Judgement {
    /// Findings that count; `None` where security is no part of quality.
    pub(crate) findings: Option<usize>,
    /// Type errors; `None` where types are no part of quality.
    pub(crate) type_errors: Option<usize>,
    /// Tests under attack; `None` where they are no part of quality.
    pub(crate) attacks: Option<Count>,
    /// Functional tests that passed, of how many (at least one).
    pub(crate) passed: u32,
    pub(crate) total: u32,
}

/// A reward and its parts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Reward {
    pub(crate) total: f64,
    pub(crate) quality: f64,
    pub(crate) function: f64,
}

/// The reward of a runnable program, between 0 and 1.
pub(crate) fn aggregate(config: &RewardConfig, judgement: &Judgement) -> Reward {
    assert!(judgement.total > 0, "a task without functional tests is refused before it is judged");
    assert!(judgement.passed <= judgement.total, "more tests passed than there are");
    let quality = quality(config.quality, judgement);
    let function = match config.function {
        Function::Fraction => f64::from(judgement.passed) / f64::from(judgement.total),
        Function::AllOrNothing => f64::from(u8::from(judgement.passed == judgement.total)),
    };
    let total = config.total(quality, function);
    assert!((0.0..=1.0).contains(&total), "a runnable program's reward is between 0 and 1, not {total}");
    Reward { total, quality, function }
}

impl RewardConfig {
    /// The reward of a runnable program of this quality and function.
    pub fn total(&self, quality: f64, function: f64) -> f64 {
        let mix = |quality: f64| self.alpha * quality + (1.0 - self.alpha) * function;
        match self.aggregation {
            Aggregation::Additive => mix(quality),
            Aggregation::Gated if function >= self.gate => mix(quality),
            Aggregation::Gated => mix(0.0),
            Aggregation::Product => quality * function,
        }
    }
}

fn quality(mode: Quality, judgement: &Judgement) -> f64 {
    let part = |count: Option<usize>, cost: f64| match (count, mode) {
        (None, _) => 1.0,
        (Some(count), Quality::Binary) => f64::from(u8::from(count == 0)),
        (Some(count), Quality::Graded) => (1.0 - cost * count as f64).max(0.0),
    };
    let withstood = match (judgement.attacks, mode) {
        (None, _) => 1.0,
        (Some(count), Quality::Binary) => f64::from(u8::from(count.passed == count.total)),
        (Some(count), Quality::Graded) => f64::from(count.passed) / f64::from(count.total.max(1)),
    };
    part(judgement.findings, 0.3) * part(judgement.type_errors, 0.5) * withstood
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(config: &RewardConfig, judgement: (Option<usize>, Option<usize>, u32, u32), expected: f64) {
        let (findings, type_errors, passed, total) = judgement;
        let reward = aggregate(config, &Judgement { findings, type_errors, attacks: None, passed, total });
        assert!(
            (reward.total - expected).abs() < 1e-12,
            "{judgement:?}: {} instead of {expected}",
            reward.total
        );
    }

    #[test]
    fn every_reward_is_bounded() {
        let (qualities, functions) =
            ([Quality::Binary, Quality::Graded], [Function::Fraction, Function::AllOrNothing]);
        for aggregation in [Aggregation::Additive, Aggregation::Gated, Aggregation::Product] {
            for (quality, function, alpha) in qualities
                .iter()
                .flat_map(|q| functions.iter().flat_map(move |f| [0.0, 0.3, 1.0].map(|a| (*q, *f, a))))
            {
                let config =
                    RewardConfig { alpha, quality, function, aggregation, ..RewardConfig::default() };
                for (findings, type_errors, passed) in [(0, 0, 4), (99, 0, 4), (0, 99, 0), (usize::MAX, 1, 1)]
                {
                    let judgement = Judgement {
                        findings: Some(findings),
                        type_errors: Some(type_errors),
                        attacks: None,
                        passed,
                        total: 4,
                    };
                    let Reward { total, quality, function } = aggregate(&config, &judgement);
                    assert!(
                        [total, quality, function].iter().all(|part| (0.0..=1.0).contains(part)),
                        "{config:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn the_papers_text() {
        let config = RewardConfig::default();
        check(&config, (Some(0), None, 4, 4), 1.0);
        check(&config, (Some(1), None, 3, 4), 0.375);
        check(&config, (Some(0), None, 3, 4), 0.875);
        check(&config, (Some(0), Some(1), 4, 4), 0.5);
        check(&config, (None, None, 0, 4), 0.5);
        let sql = RewardConfig { alpha: 0.1, ..config };
        check(&sql, (Some(2), None, 4, 4), 0.9);
    }

    #[test]
    fn the_papers_code() {
        let config = RewardConfig { quality: Quality::Graded, ..RewardConfig::default() };
        check(&config, (Some(1), None, 3, 4), 0.725);
        check(&config, (Some(9), None, 4, 4), 0.5);
        check(&config, (None, Some(1), 4, 4), 0.75);
        check(&config, (Some(1), Some(1), 4, 4), 0.675);
    }

    #[test]
    fn attacks_in_place_of_the_detector() {
        let check = |quality, withstood, expected: f64| {
            let config = RewardConfig { quality, ..RewardConfig::default() };
            let attacks = Some(Count { passed: withstood, total: 4 });
            let judgement = Judgement { findings: None, type_errors: None, attacks, passed: 2, total: 2 };
            assert!((aggregate(&config, &judgement).quality - expected).abs() < 1e-12);
        };
        check(Quality::Binary, 3, 0.0);
        check(Quality::Binary, 4, 1.0);
        check(Quality::Graded, 3, 0.75);
    }

    #[test]
    fn other_ways_to_combine() {
        let gated = RewardConfig { aggregation: Aggregation::Gated, ..RewardConfig::default() };
        check(&gated, (Some(0), None, 3, 4), 0.375);
        check(&gated, (Some(0), None, 4, 4), 1.0);
        let half = RewardConfig { gate: 0.5, ..gated };
        check(&half, (Some(0), None, 3, 4), 0.875);
        let product = RewardConfig { aggregation: Aggregation::Product, ..RewardConfig::default() };
        check(&product, (Some(0), None, 3, 4), 0.75);
        check(&product, (Some(1), None, 4, 4), 0.0);
        let strict = RewardConfig { function: Function::AllOrNothing, ..RewardConfig::default() };
        check(&strict, (Some(0), None, 3, 4), 0.5);
    }
}
