//! What one micro-batch does: its gradients of policy and critic.

use super::config::{Advantage, KlPlace, PpoConfig};
use super::maths::{self, MiniBatch, TokenLoss};
use super::metrics::Metrics;
use super::rollout::{TokenBatch, Trajectory};
use crate::Error;
use crate::backend::Passes;
use crate::head::{Rows, TokenGradient};
use crate::value::{ValueGradient, ValueHead};

/// The losses of one update.
#[derive(Clone, Copy)]
pub(super) struct Losses<'a> {
    pub(super) config: &'a PpoConfig,
    pub(super) critic: &'a ValueHead,
    /// Whether the value head reads the states of the policy.
    pub(super) shares_trunk: bool,
    pub(super) kl_coef: f32,
    pub(super) temperature: f32,
}

/// What a micro-batch adds to a mini-batch, beside the gradient of a model.
pub(super) struct Part {
    pub(super) head_grads: Vec<f32>,
    pub(super) metrics: Metrics,
}

/// What the losses need of one response token.
struct Target {
    old_logprob: f32,
    ref_logprob: f32,
    advantage: f32,
    old_value: f32,
    value: f32,
    /// Of the token's loss in that of the mini-batch.
    weight: f32,
}

impl Losses<'_> {
    /// Adds the gradient of the policy, and that of a value head on its trunk.
    pub(super) fn policy(
        &self,
        trajectories: &[Trajectory],
        whole: MiniBatch,
        passes: &mut dyn Passes,
    ) -> Result<Part, Error> {
        let (tokens, targets) = self.forward(trajectories, whole, passes)?;
        let slope = |i: usize, logprob: f32, _: f32| TokenGradient {
            logprob: targets[i].weight * self.slope(&targets[i], logprob),
            entropy: -targets[i].weight * self.config.entropy_coef,
        };
        let mut part = self.nothing();
        let scored = tokens.scored(self.temperature);
        let scores = if self.config.has_critic() && self.shares_trunk {
            let d_values = self.value_losses(&targets, &tokens, passes, &mut part.metrics)?;
            let values = ValueGradient {
                critic: self.critic,
                rows: &tokens.rows,
                d_values: &d_values,
                into_trunk: self.config.value_coef > 0.0,
                grads: &mut part.head_grads,
            };
            passes.accumulate(&tokens.packed, scored, &slope, Some(values))?
        } else {
            passes.accumulate(&tokens.packed, scored, &slope, None)?
        };
        for ((target, &logprob), &entropy) in targets.iter().zip(&scores.logprobs).zip(&scores.entropies) {
            let loss = self.policy_loss(target, logprob);
            part.metrics.add("policy/loss", f64::from(loss.loss));
            part.metrics.add("policy/clipfrac", f64::from(u8::from(loss.clipped)));
            part.metrics.add("policy/entropy", f64::from(entropy));
            part.metrics.add("policy/approxkl", 0.5 * f64::from(logprob - target.old_logprob).powi(2));
        }
        Ok(part)
    }

    /// The critic's part alone: of its own trunk, which `passes` runs, or of the head on the states of the policy.
    pub(super) fn critic(
        &self,
        trajectories: &[Trajectory],
        whole: MiniBatch,
        passes: &mut dyn Passes,
    ) -> Result<Part, Error> {
        let (tokens, targets) = self.forward(trajectories, whole, passes)?;
        let mut part = self.nothing();
        let d_values = self.value_losses(&targets, &tokens, passes, &mut part.metrics)?;
        let values = ValueGradient {
            critic: self.critic,
            rows: &tokens.rows,
            d_values: &d_values,
            into_trunk: true,
            grads: &mut part.head_grads,
        };
        if self.shares_trunk {
            passes.accumulate_head(values)?;
        } else {
            let no_rows = Rows { rows: &[], targets: &[], temperature: 1.0 };
            passes.accumulate(&tokens.packed, no_rows, &|_, _, _| TokenGradient::default(), Some(values))?;
        }
        Ok(part)
    }

    /// Runs the model on the rollouts; their tokens, and what the losses need of each.
    fn forward(
        &self,
        trajectories: &[Trajectory],
        whole: MiniBatch,
        passes: &mut dyn Passes,
    ) -> Result<(TokenBatch, Vec<Target>), Error> {
        let tokens = TokenBatch::new(trajectories.iter().map(|t| t.rollout));
        passes.forward(&tokens.packed)?;
        Ok((tokens, self.targets(trajectories, whole)))
    }

    fn nothing(&self) -> Part {
        Part { head_grads: vec![0.0; self.critic.params.len()], metrics: Metrics::default() }
    }

    /// The derivative of the loss by each value.
    fn value_losses(
        &self,
        targets: &[Target],
        tokens: &TokenBatch,
        passes: &mut dyn Passes,
        metrics: &mut Metrics,
    ) -> Result<Vec<f32>, Error> {
        let values = passes.values(self.critic, &tokens.rows)?;
        let weight = self.config.value_weight();
        let derivative = |(value, target): (f32, &Target)| {
            let loss = maths::value_loss(value, target.old_value, target.value, self.config.clip_value);
            metrics.add("value/loss", f64::from(loss.loss));
            metrics.add("value/clipfrac", f64::from(u8::from(loss.clipped)));
            target.weight * weight * loss.derivative
        };
        Ok(values.into_iter().zip(targets).map(derivative).collect())
    }

    fn targets(&self, trajectories: &[Trajectory], whole: MiniBatch) -> Vec<Target> {
        let of = |t: &Trajectory| {
            let weight =
                maths::token_weight(self.config.aggregation, whole, t.len(), self.config.constant_length);
            let target = |i: usize| Target {
                old_logprob: t.old_logprobs[i],
                ref_logprob: t.ref_logprobs[i],
                advantage: t.advantages[i],
                old_value: t.old_values[i],
                value: t.returns[i],
                weight,
            };
            (0..t.len()).map(target).collect::<Vec<_>>()
        };
        trajectories.iter().flat_map(of).collect()
    }

    fn policy_loss(&self, target: &Target, logprob: f32) -> TokenLoss {
        match self.config.advantage {
            Advantage::Rejection => maths::likelihood_loss(logprob),
            _ => maths::policy_loss(logprob, target.old_logprob, target.advantage, self.config.clip()),
        }
    }

    /// The derivative of a token's loss by its log-probability.
    fn slope(&self, target: &Target, logprob: f32) -> f32 {
        let slope = self.policy_loss(target, logprob).derivative;
        match self.config.kl_place {
            KlPlace::Reward => slope,
            KlPlace::Loss => {
                slope + self.kl_coef * maths::kl(self.config.kl_estimator, logprob, target.ref_logprob).1
            }
        }
    }
}
