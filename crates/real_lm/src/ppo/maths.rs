//! The formulas of PPO and its relatives as pure functions. Indices run over the tokens of one response, over all tokens of a
//! batch, or over the rollouts of one prompt, its group.

use super::config::{Aggregation, KlEstimator};
use super::rollout::Blame;

/// Added to a standard deviation before it divides.
const DEVIATION_FLOOR: f64 = 1e-6;

/// The log-probability ratio is clamped to this range before it is exponentiated.
const MAX_LOG_RATIO: f32 = 20.0;

/// The exponent of the k3 estimate is clamped here.
const MAX_KL_EXPONENT: f32 = 10.0;

/// Generalised advantage estimation over one response: `δ_t = r_t + γ V_{t+1} − V_t`, `A_t = δ_t + γ λ A_{t+1}`, with
/// `V = 0` after the last token (Schulman et al. 2015, equation 16).
pub fn gae(rewards: &[f32], values: &[f32], gamma: f32, lambda: f32) -> Vec<f32> {
    let mut advantages = vec![0.0; rewards.len()];
    let (mut next_value, mut next_advantage) = (0.0, 0.0);
    for t in (0..rewards.len()).rev() {
        let delta = rewards[t] + gamma * next_value - values[t];
        next_advantage = delta + gamma * lambda * next_advantage;
        next_value = values[t];
        advantages[t] = next_advantage;
    }
    advantages
}

/// What a return is above the mean of the others of its group; 0 where there are no others. `group` holds the return too.
pub fn leave_one_out(own: f32, group: &[f32]) -> f32 {
    if group.len() < 2 {
        return 0.0;
    }
    let others = group.iter().sum::<f32>() - own;
    own - others / (group.len() - 1) as f32
}

/// What a return is above the mean of its group, which holds it too (Dr. GRPO).
pub fn centred(own: f32, group: &[f32]) -> f32 {
    (f64::from(own) - mean_and_variance(group).0) as f32
}

/// The same in (unbiased) standard deviations of the group (GRPO); 0 where the group has no spread.
pub fn standardised(own: f32, group: &[f32]) -> f32 {
    let (mean, variance) = mean_and_variance(group);
    ((f64::from(own) - mean) / (variance.sqrt() + DEVIATION_FLOOR)) as f32
}

/// Whether a group teaches anything: rollouts of equal return have no advantage over each other.
pub fn has_spread(group: &[f32]) -> bool {
    group.windows(2).any(|pair| (pair[0] - pair[1]).abs() > 1e-6)
}

/// Shifts and scales to mean 0 and (unbiased) variance 1. Fewer than two values stay as they are.
pub fn whiten(values: &mut [f32]) {
    if values.len() < 2 {
        return;
    }
    let (mean, variance) = mean_and_variance(values);
    let scale = 1.0 / (variance + 1e-8).sqrt();
    for v in values {
        *v = ((f64::from(*v) - mean) * scale) as f32;
    }
}

/// Mean and unbiased variance.
pub fn mean_and_variance(values: &[f32]) -> (f64, f64) {
    let n = values.len() as f64;
    let mean = values.iter().map(|&v| f64::from(v)).sum::<f64>() / n.max(1.0);
    let squares = values.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>();
    (mean, squares / (n - 1.0).max(1.0))
}

/// The per-token rewards of a response: `−β kl` everywhere, plus the score on the last token. What particular tokens cost moves
/// from the last token to them, so that tokens behind them are not punished for what they did not do:
///
/// ```text
/// score 0.4, of which tokens 1 and 2 cost 0.6:   [0, −0.3, −0.3, 1.0]      returns-to-go   [0.4, 0.4, 0.7, 1.0]
/// ```
pub fn token_rewards(score: f32, blame: &[Blame], kl: &[f32], kl_coef: f32) -> Vec<f32> {
    let mut rewards: Vec<f32> = kl.iter().map(|kl| -kl_coef * kl).collect();
    let Some(last) = rewards.len().checked_sub(1) else { return rewards };
    rewards[last] += score;
    for Blame { tokens, cost } in blame.iter().filter(|blame| !blame.tokens.is_empty()) {
        rewards[last] += cost;
        for reward in &mut rewards[tokens.clone()] {
            *reward -= cost / tokens.len() as f32;
        }
    }
    rewards
}

/// What has been paid before each token of a response: by how much its return-to-go is above that of the whole response.
pub fn paid_before(blame: &[Blame], tokens: usize) -> Vec<f32> {
    let own = token_rewards(0.0, blame, &vec![0.0; tokens], 0.0);
    let paid = own.iter().scan(0.0, |paid, reward| {
        let before = *paid;
        *paid -= reward;
        Some(before)
    });
    paid.collect()
}

/// A KL estimate from one token, `d = logprob − ref_logprob`, and its derivative by `logprob`.
pub fn kl(estimator: KlEstimator, logprob: f32, ref_logprob: f32) -> (f32, f32) {
    let d = logprob - ref_logprob;
    match estimator {
        KlEstimator::K1 => (d, 1.0),
        KlEstimator::K2 => (0.5 * d * d, d),
        KlEstimator::K3 => {
            // Far from the reference the exponential would drown everything else.
            let ratio = (-d).clamp(-MAX_LOG_RATIO, MAX_KL_EXPONENT).exp();
            (ratio - 1.0 + d, 1.0 - ratio)
        }
    }
}

/// β after a step of `rollouts` with this divergence: it moves by at most a fifth of the relative error, over `horizon` rollouts.
pub fn adapted_kl_coef(kl_coef: f32, kl: f64, target: f32, horizon: f32, rollouts: usize) -> f32 {
    let error = (kl / f64::from(target) - 1.0).clamp(-0.2, 0.2);
    kl_coef * (1.0 + error * rollouts as f64 / f64::from(horizon)) as f32
}

/// What the length of a response adds to its score (DAPO, Yu et al. 2025, equation 13): nothing up to `longest − buffer` tokens, then a
/// penalty that grows evenly to `−penalty` at `longest`.
pub fn overlong_penalty(tokens: usize, longest: usize, buffer: usize, penalty: f32) -> f32 {
    let free = longest.saturating_sub(buffer);
    if buffer == 0 || tokens <= free {
        return 0.0;
    }
    -penalty * ((tokens - free) as f32 / buffer as f32).min(1.0)
}

/// The size of a mini-batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MiniBatch {
    /// Responses.
    pub sequences: usize,
    /// Tokens of all responses.
    pub tokens: usize,
}

/// The weight of the loss of one token, of a response of `length` tokens, in the loss of the mini-batch.
pub fn token_weight(
    aggregation: Aggregation,
    whole: MiniBatch,
    length: usize,
    constant_length: usize,
) -> f32 {
    match aggregation {
        Aggregation::TokenMean => 1.0 / whole.tokens as f32,
        Aggregation::SequenceMean => 1.0 / (whole.sequences * length) as f32,
        Aggregation::Constant => 1.0 / (whole.sequences * constant_length) as f32,
    }
}

/// How far the policy may move from the one that sampled.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Clip {
    /// `ε_low`: the ratio counts no lower than `1 − ε_low`.
    pub low: f32,
    /// `ε_high`: the ratio counts no higher than `1 + ε_high`.
    pub high: f32,
    /// Dual clip: for a negative advantage the loss is at most `c |A|`. Infinite for none.
    pub dual: f32,
}

/// The loss of one token and its derivative by the log-probability.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TokenLoss {
    /// Loss.
    pub loss: f32,
    /// Derivative.
    pub derivative: f32,
    /// The clip was active: the token moves nothing.
    pub clipped: bool,
}

/// The clipped objective of one token, `max(−A ρ, −A clip(ρ, 1 − ε_low, 1 + ε_high))` with `ρ = exp(logprob − old_logprob)`
/// (Schulman et al. 2017, equation 7), and no more than `c |A|` for `A < 0` (dual clip).
pub fn policy_loss(logprob: f32, old_logprob: f32, advantage: f32, clip: Clip) -> TokenLoss {
    let log_ratio = (logprob - old_logprob).clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO);
    let ratio = log_ratio.exp();
    let free = -advantage * ratio;
    let held = -advantage * ratio.clamp(1.0 - clip.low, 1.0 + clip.high);
    let ceiling = if advantage < 0.0 { -advantage * clip.dual } else { f32::INFINITY };
    if held > free || free > ceiling {
        return TokenLoss { loss: held.max(free).min(ceiling), derivative: 0.0, clipped: true };
    }
    TokenLoss { loss: free, derivative: free, clipped: false }
}

/// Cross-entropy: the loss of a token that is to become more probable.
pub fn likelihood_loss(logprob: f32) -> TokenLoss {
    TokenLoss { loss: -logprob, derivative: -1.0, clipped: false }
}

/// The clipped value loss of one token, `½ max((v − R)², (clip(v, v_old ± ε) − R)²)`, and its derivative by `v`.
pub fn value_loss(value: f32, old_value: f32, target: f32, clip: f32) -> TokenLoss {
    let near = value.clamp(old_value - clip, old_value + clip);
    let (free, held) = ((value - target).powi(2), (near - target).powi(2));
    if held > free {
        return TokenLoss { loss: 0.5 * held, derivative: 0.0, clipped: true };
    }
    TokenLoss { loss: 0.5 * free, derivative: value - target, clipped: false }
}

/// The fraction of the variance of `targets` that `predictions` explain; 1 is perfect, 0 is as good as the mean.
pub fn explained_variance(predictions: &[f32], targets: &[f32]) -> f64 {
    let residuals: Vec<f32> = predictions.iter().zip(targets).map(|(p, t)| t - p).collect();
    let (_, total) = mean_and_variance(targets);
    if total < 1e-12 { 0.0 } else { 1.0 - mean_and_variance(&residuals).1 / total }
}

#[cfg(test)]
mod tests;
