//! What one micro-batch does: the forward passes before the update, and the gradients of policy and critic in it.

use std::ops::Range;

use super::config::{Advantage, KlPlace, PpoConfig};
use super::critic::Critic;
use super::maths::{self, MiniBatch, TokenLoss};
use super::metrics::Metrics;
use super::rollout::{Reward, Rollout, TokenBatch, Trajectory};
use crate::head::{self, TokenGradient};
use crate::lanes::Lane;
use crate::{Model, backward, forward};

/// The models and settings of the passes of one update.
#[derive(Clone, Copy)]
pub(super) struct Passes<'a> {
    pub(super) policy: &'a Model,
    pub(super) critic: &'a Critic,
    pub(super) config: &'a PpoConfig,
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

impl Passes<'_> {
    /// Log-probabilities of policy and reference, and values, of some rollouts before the update.
    pub(super) fn observe<'a>(
        &self,
        reference: Option<&Model>,
        scored: &[(&'a Rollout, &'a Reward)],
        lane: &mut Lane,
    ) -> Vec<Trajectory<'a>> {
        let batch = TokenBatch::new(scored.iter().map(|(rollout, _)| *rollout));
        let rows = batch.scored(self.temperature);
        let mut logprobs = |model| {
            forward(model, &batch.packed, &mut lane.workspace);
            head::score(model, lane.workspace.hidden(), rows).logprobs
        };
        let ref_logprobs = reference.map(&mut logprobs);
        let old_logprobs = logprobs(self.policy);
        let ref_logprobs = ref_logprobs.as_ref().unwrap_or(&old_logprobs);
        if let Some(trunk) = &self.critic.trunk {
            forward(&trunk.model, &batch.packed, &mut lane.workspace);
        }
        let values = self.critic.head.values(lane.workspace.hidden(), &batch.rows);
        let trajectory = |(scored, span): (&(&'a Rollout, &'a Reward), &Range<usize>)| {
            let parts = [&old_logprobs, ref_logprobs, &values].map(|all| all[span.clone()].to_vec());
            Trajectory::new(*scored, parts)
        };
        scored.iter().zip(&batch.spans).map(trajectory).collect()
    }

    /// Adds the policy's gradient to the lane's, and that of a value head on its trunk.
    pub(super) fn policy(&self, trajectories: &[Trajectory], whole: MiniBatch, lane: &mut Lane) -> Part {
        let tokens = TokenBatch::new(trajectories.iter().map(|t| t.rollout));
        let targets = self.targets(trajectories, whole);
        forward(self.policy, &tokens.packed, &mut lane.workspace);
        let hidden = lane.workspace.hidden();
        let mut d_hidden = vec![0.0; hidden.len()]; // [T, E]
        let scores = head::backward(
            self.policy,
            hidden,
            tokens.scored(self.temperature),
            |i, logprob, _| TokenGradient {
                logprob: targets[i].weight * self.slope(&targets[i], logprob),
                entropy: -targets[i].weight * self.config.entropy_coef,
            },
            &mut d_hidden,
            &mut lane.grads,
        );
        let shares_trunk = self.config.has_critic() && self.critic.trunk.is_none();
        let mut part = if shares_trunk {
            let d_trunk = (self.config.value_coef > 0.0).then_some(&mut d_hidden[..]);
            self.value_gradient(&targets, &tokens, hidden, d_trunk)
        } else {
            Part { head_grads: vec![0.0; self.critic.head.params.len()], metrics: Metrics::default() }
        };
        backward(self.policy, &tokens.packed, &mut lane.workspace, &d_hidden, &mut lane.grads);
        for ((target, &logprob), &entropy) in targets.iter().zip(&scores.logprobs).zip(&scores.entropies) {
            let loss = self.policy_loss(target, logprob);
            part.metrics.add("policy/loss", f64::from(loss.loss));
            part.metrics.add("policy/clipfrac", f64::from(u8::from(loss.clipped)));
            part.metrics.add("policy/entropy", f64::from(entropy));
            part.metrics.add("policy/approxkl", 0.5 * f64::from(logprob - target.old_logprob).powi(2));
        }
        part
    }

    /// The critic's part alone: on its own trunk, whose gradient is added to the lane's, or on the states of the policy.
    pub(super) fn critic(&self, trajectories: &[Trajectory], whole: MiniBatch, lane: &mut Lane) -> Part {
        let tokens = TokenBatch::new(trajectories.iter().map(|t| t.rollout));
        let targets = self.targets(trajectories, whole);
        let Some(trunk) = &self.critic.trunk else {
            forward(self.policy, &tokens.packed, &mut lane.workspace);
            return self.value_gradient(&targets, &tokens, lane.workspace.hidden(), None);
        };
        forward(&trunk.model, &tokens.packed, &mut lane.workspace);
        let hidden = lane.workspace.hidden();
        let mut d_hidden = vec![0.0; hidden.len()]; // [T, E]
        let part = self.value_gradient(&targets, &tokens, hidden, Some(&mut d_hidden));
        backward(&trunk.model, &tokens.packed, &mut lane.workspace, &d_hidden, &mut lane.grads);
        part
    }

    fn value_gradient(
        &self,
        targets: &[Target],
        tokens: &TokenBatch,
        hidden: &[f32],
        d_trunk: Option<&mut [f32]>,
    ) -> Part {
        let values = self.critic.head.values(hidden, &tokens.rows);
        let losses: Vec<TokenLoss> = values
            .iter()
            .zip(targets)
            .map(|(&value, t)| maths::value_loss(value, t.old_value, t.value, self.config.clip_value))
            .collect();
        let value_weight = self.config.value_weight();
        let d_values: Vec<f32> =
            losses.iter().zip(targets).map(|(l, t)| t.weight * value_weight * l.derivative).collect();
        let mut head_grads = vec![0.0; self.critic.head.params.len()];
        self.critic.head.backward(hidden, &tokens.rows, &d_values, d_trunk, &mut head_grads);
        let mut metrics = Metrics::default();
        for loss in &losses {
            metrics.add("value/loss", f64::from(loss.loss));
            metrics.add("value/clipfrac", f64::from(u8::from(loss.clipped)));
        }
        Part { head_grads, metrics }
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
