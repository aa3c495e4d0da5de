//! Rollouts, their rewards, and how they become batches of tokens.

use std::ops::Range;

use super::config::KlEstimator;
use super::maths;
use crate::Packed;
use crate::head::Rows;

/// A prompt and a response sampled for it.
#[derive(Debug, Clone, PartialEq)]
pub struct Rollout {
    /// Prompt tokens; at least one.
    pub prompt: Vec<u32>,
    /// Response tokens, the end-of-sequence token included when it was sampled.
    pub response: Vec<u32>,
}

/// What the judges gave a response.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Reward {
    /// The reward.
    pub total: f32,
    /// What it is made of. Only [`Advantage::Gdpo`](super::Advantage::Gdpo) looks at it.
    pub parts: Vec<RewardPart>,
    /// What particular tokens cost. It is part of the total already; the tokens only say where it belongs.
    pub blame: Vec<Blame>,
}

/// A part of a reward.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RewardPart {
    /// The part, before it is weighed.
    pub value: f32,
    /// Its weight in the total.
    pub weight: f32,
}

/// Some response tokens, and what they cost the response.
#[derive(Debug, Clone, PartialEq)]
pub struct Blame {
    /// Tokens of the response; an empty range blames nobody.
    pub tokens: Range<usize>,
    /// How much lower the total is because of them, at least 0.
    pub cost: f32,
}

impl From<f32> for Reward {
    fn from(total: f32) -> Self {
        Self { total, ..Self::default() }
    }
}

/// What the update needs to know of one rollout, per response token.
#[derive(Debug)]
pub(super) struct Trajectory<'a> {
    pub(super) rollout: &'a Rollout,
    pub(super) reward: &'a Reward,
    /// Estimate of the KL divergence from the reference: the sum of `log π_old − log π_ref`. Zero without a reference.
    pub(super) kl: f64,
    pub(super) old_logprobs: Vec<f32>,
    /// Equal to `old_logprobs` without a reference.
    pub(super) ref_logprobs: Vec<f32>,
    /// Zero without a critic.
    pub(super) old_values: Vec<f32>,
    pub(super) advantages: Vec<f32>,
    pub(super) returns: Vec<f32>,
}

impl<'a> Trajectory<'a> {
    pub(super) fn new(
        (rollout, reward): (&'a Rollout, &'a Reward),
        [old_logprobs, ref_logprobs, old_values]: [Vec<f32>; 3],
    ) -> Self {
        let kl = old_logprobs.iter().zip(&ref_logprobs).map(|(o, r)| f64::from(o - r)).sum();
        let (advantages, returns) = (vec![0.0; old_values.len()], vec![0.0; old_values.len()]);
        Self { rollout, reward, kl, old_logprobs, ref_logprobs, old_values, advantages, returns }
    }

    /// Estimates of the KL divergence from the reference, token by token.
    pub(super) fn token_kl(&self, estimator: KlEstimator) -> Vec<f32> {
        let pairs = self.old_logprobs.iter().zip(&self.ref_logprobs);
        pairs.map(|(&old, &reference)| maths::kl(estimator, old, reference).0).collect()
    }

    /// Tokens of the response.
    pub(super) fn len(&self) -> usize {
        self.rollout.response.len()
    }
}

/// The tokens of several responses behind each other.
pub(super) fn joined<'a>(parts: impl Iterator<Item = &'a Vec<f32>>) -> Vec<f32> {
    parts.flatten().copied().collect()
}

/// Tokens that are fed for a rollout: all but the last one, which is only predicted.
pub(super) fn input_len(rollout: &Rollout) -> usize {
    rollout.prompt.len() + rollout.response.len() - 1
}

/// Several rollouts behind each other, and the positions that predict their response tokens.
pub(super) struct TokenBatch {
    pub(super) packed: Packed,
    /// Positions in `packed`, one a response token.
    pub(super) rows: Vec<usize>,
    /// The token that each position predicts.
    targets: Vec<u32>,
    /// The part of `rows` that belongs to each rollout.
    spans: Vec<Range<usize>>,
}

impl TokenBatch {
    pub(super) fn new<'a>(rollouts: impl Iterator<Item = &'a Rollout>) -> Self {
        let (mut rows, mut targets, mut spans, mut sequences) = (vec![], vec![], vec![], vec![]);
        let mut start = 0;
        for rollout in rollouts {
            let length = input_len(rollout);
            let first = rows.len();
            rows.extend(start + rollout.prompt.len() - 1..start + length);
            targets.extend_from_slice(&rollout.response);
            spans.push(first..rows.len());
            sequences.push([&rollout.prompt[..], &rollout.response[..rollout.response.len() - 1]].concat());
            start += length;
        }
        Self { packed: Packed::new(&sequences), rows, targets, spans }
    }

    /// A number for each of the rows, apart for each rollout.
    pub(super) fn by_rollout(&self, numbers: &[f32]) -> impl Iterator<Item = Vec<f32>> {
        self.spans.iter().map(|span| numbers[span.clone()].to_vec())
    }

    pub(super) fn scored(&self, temperature: f32) -> Rows<'_> {
        Rows { rows: &self.rows, targets: &self.targets, temperature }
    }
}
