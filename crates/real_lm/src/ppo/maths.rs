//! The formulas of PPO as pure functions. Indices run over the tokens of one response, or over all tokens of a batch.

/// The log-probability ratio is clamped to this range before it is exponentiated.
const MAX_LOG_RATIO: f32 = 20.0;

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

/// The per-token rewards of a response: `−β (log π_old − log π_ref)` everywhere, plus the score on the last token.
pub fn token_rewards(score: f32, old_logprobs: &[f32], ref_logprobs: &[f32], kl_coef: f32) -> Vec<f32> {
    let mut rewards: Vec<f32> =
        old_logprobs.iter().zip(ref_logprobs).map(|(old, reference)| -kl_coef * (old - reference)).collect();
    if let Some(last) = rewards.last_mut() {
        *last += score;
    }
    rewards
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
mod tests {
    use super::*;
    use proptest::prelude::*;

    const CLIP: Clip = Clip { low: 0.2, high: 0.28, dual: 3.0 };

    #[test]
    fn gae_with_lambda_1_is_return_minus_value() {
        let advantages = gae(&[0.0, 0.5, 1.0], &[0.3, 0.2, 0.1], 1.0, 1.0);
        for (got, want) in advantages.iter().zip([1.5 - 0.3, 1.5 - 0.2, 1.0 - 0.1]) {
            assert!((got - want).abs() < 1e-6);
        }
    }

    #[test]
    fn gae_with_lambda_0_is_the_temporal_difference() {
        let advantages = gae(&[0.0, 0.5, 1.0], &[0.3, 0.2, 0.1], 0.9, 0.0);
        for (got, want) in advantages.iter().zip([0.9 * 0.2 - 0.3, 0.5 + 0.9 * 0.1 - 0.2, 1.0 - 0.1]) {
            assert!((got - want).abs() < 1e-6);
        }
    }

    #[test]
    fn leave_one_out_is_the_distance_from_the_others() {
        let group = [1.0, 0.0, 0.5];
        assert!((leave_one_out(1.0, &group) - 0.75).abs() < 1e-6);
        assert!((leave_one_out(0.5, &group) - 0.0).abs() < 1e-6);
        assert!(leave_one_out(0.7, &[0.7]).abs() < 1e-6);
    }

    #[test]
    fn the_score_lands_on_the_last_token() {
        let rewards = token_rewards(1.0, &[-1.0, -2.0], &[-1.5, -2.0], 0.1);
        assert!((rewards[0] + 0.05).abs() < 1e-6 && (rewards[1] - 1.0).abs() < 1e-6);
        assert!(token_rewards(1.0, &[], &[], 0.1).is_empty());
    }

    #[test]
    fn the_clip_holds_on_the_sides_it_should() {
        // A ratio above the clip moves nothing when the advantage is positive, and everything when it is negative.
        assert!(policy_loss(0.5, 0.0, 1.0, CLIP).clipped);
        assert!(!policy_loss(0.5, 0.0, -1.0, CLIP).clipped);
        assert!(policy_loss(-0.5, 0.0, -1.0, CLIP).clipped);
        assert!(!policy_loss(-0.5, 0.0, 1.0, CLIP).clipped);
        // The dual clip: ratio e² > 3 with a negative advantage.
        let dual = policy_loss(2.0, 0.0, -1.0, CLIP);
        assert!(dual.clipped && (dual.loss - 3.0).abs() < 1e-6);
    }

    proptest! {
        #[test]
        fn policy_loss_derivative_is_the_slope(logprob in -3.0_f32..0.0, old in -3.0_f32..0.0, advantage in -2.0_f32..2.0) {
            let at = |x: f32| policy_loss(x, old, advantage, CLIP);
            let (below, here, above) = (at(logprob - 1e-3), at(logprob), at(logprob + 1e-3));
            prop_assume!(below.clipped == above.clipped);
            let slope = (above.loss - below.loss) / 2e-3;
            prop_assert!((slope - here.derivative).abs() < 2e-2 * (1.0 + here.derivative.abs()));
        }

        #[test]
        fn value_loss_derivative_is_the_slope(value in -2.0_f32..2.0, old in -2.0_f32..2.0, target in -2.0_f32..2.0) {
            let at = |x: f32| value_loss(x, old, target, 0.5);
            let (below, here, above) = (at(value - 1e-3), at(value), at(value + 1e-3));
            prop_assume!(below.clipped == above.clipped);
            let slope = (above.loss - below.loss) / 2e-3;
            prop_assert!((slope - here.derivative).abs() < 1e-2);
        }

        #[test]
        fn whitened_values_have_mean_0_and_variance_1(mut values in prop::collection::vec(-5.0_f32..5.0, 2..50)) {
            prop_assume!(mean_and_variance(&values).1 > 1e-3);
            whiten(&mut values);
            let (mean, variance) = mean_and_variance(&values);
            prop_assert!(mean.abs() < 1e-4 && (variance - 1.0).abs() < 1e-3);
        }
    }
}
