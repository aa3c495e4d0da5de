//! Proximal policy optimisation (Schulman et al. 2017) of a language model, as the REAL paper runs it, and its relatives.
//!
//! A rollout is one response; every token of it is an action. One [`PpoTrainer::update`] takes the rollouts of a step with
//! their rewards and does, in this order:
//!
//! 1. one forward pass of the policy (log-probabilities `log π_old`), of the critic (values `V`) and of the frozen reference (`log π_ref`);
//! 2. rewards per token: `−β (log π_old − log π_ref)`, plus the score on the last token;
//! 3. advantages by GAE, returns `R = A + V`, and whitening of the advantages over all tokens of the step;
//! 4. for every epoch and mini-batch: the clipped losses of critic and policy, their gradients, one AdamW step each.
//!
//! For example a response of two tokens with score 1, `V = [0.2, 0.4]`, `β = 0` and `γ = λ = 1` has `R = [1, 1]` and
//! `A = [0.8, 0.6]`: both tokens were better than expected, the first more so.
//!
//! The mean of a loss runs over all tokens of the mini-batch, so that how a mini-batch is split into forward passes does not
//! change the gradient; [`Aggregation`] has other means. The critic is a linear head on the policy's trunk, or a model of its own
//! ([`CriticKind`]). A rollout without a reward (an outage of the grader) takes no part at all. [`Advantage`] lists the estimators
//! that do without a critic, and [`PpoConfig`] everything that can be set.

use std::collections::BTreeMap;

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use crate::lanes::Lanes;
use crate::ops::simd::add;
use crate::{AdamW, AdamWConfig, Decay, Keep, Lora, Model, clip_grad_norm, learning_rate};

mod advantages;
mod config;
mod critic;
pub mod maths;
mod metrics;
mod passes;
mod rollout;
mod state;

pub use config::{Advantage, Aggregation, CriticKind, KlEstimator, KlPlace, PpoConfig};
pub use critic::{Critic, Trunk};
pub use rollout::{Blame, Reward, RewardPart, Rollout};

use maths::MiniBatch;
use metrics::Metrics;
use passes::{Part, Passes};
use rollout::{Trajectory, input_len, joined};

/// The state of a PPO run.
#[derive(Debug)]
pub struct PpoTrainer<'a> {
    /// The policy under training.
    pub policy: Model,
    /// Moments of the policy's optimiser, or of its low-rank adaptation's.
    pub optimizer: AdamW,
    /// What is trained in place of the policy's own weights, if anything.
    pub lora: Option<Lora>,
    /// What estimates the values.
    pub critic: Critic,
    /// β, where it is adapted.
    pub kl_coef: f32,
    reference: Option<&'a Model>,
    config: PpoConfig,
    lanes: Lanes,
}

impl<'a> PpoTrainer<'a> {
    /// Starts from `policy`. `reference` is the model that it came from: what KL is measured against (without one it is 0), and
    /// what a low-rank adaptation is added to.
    pub fn new(policy: Model, reference: Option<&'a Model>, config: PpoConfig) -> Self {
        let adamw = AdamWConfig { weight_decay: config.weight_decay, ..AdamWConfig::default() };
        Self {
            optimizer: AdamW::new(adamw, policy.layout.len),
            critic: Critic::new(&policy, adamw, &config),
            lanes: Lanes::new(config.lanes, policy.layout.len, Keep::for_training(config.recompute)),
            kl_coef: config.kl_coef,
            lora: None,
            reference,
            policy,
            config,
        }
    }

    /// Trains a low-rank adaptation of the reference in place of the policy's own weights.
    #[must_use]
    pub fn with_lora(mut self, lora: Lora) -> Self {
        let reference = self.reference.expect("an adaptation is added to a reference");
        self.optimizer = AdamW::new(self.optimizer.config, lora.params.len());
        lora.merge(reference, &mut self.policy);
        self.lora = Some(lora);
        self
    }

    /// One step of PPO on these rollouts. `rewards[i]` is the reward of `rollouts[i]`, `None` where the grader failed.
    /// `temperature` is what the rollouts were sampled at, and `seed` orders the mini-batches. Returns the figures of the step
    /// under their standard names. Gradients that are no finite numbers change nothing; their norm is among the figures.
    pub fn update(
        &mut self,
        rollouts: &[Rollout],
        rewards: &[Option<Reward>],
        temperature: f32,
        step: usize,
        seed: u64,
    ) -> BTreeMap<&'static str, f64> {
        let scored: Vec<(&Rollout, &Reward)> = rollouts
            .iter()
            .zip(rewards)
            .filter_map(|(rollout, reward)| Some((rollout, reward.as_ref()?)))
            .filter(|(rollout, _)| !rollout.response.is_empty())
            .collect();
        let mut metrics = Metrics::default();
        if scored.is_empty() {
            return metrics.finish();
        }
        let observed = self.observe(&scored, temperature);
        let kl_coef = self.kl_coef;
        self.adapt_kl_coef(&observed, &mut metrics);
        let mut trajectories = advantages::estimate(observed, &self.config, kl_coef);
        self.describe(&trajectories, &mut metrics);

        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mini_batch =
            if self.config.mini_batch == 0 { trajectories.len().max(1) } else { self.config.mini_batch };
        let warmth = learning_rate(1.0, Decay::Constant, self.config.warmup_steps, step, usize::MAX);
        let critic_alone = step < self.config.value_pretraining_steps;
        for _ in 0..self.config.epochs {
            trajectories.shuffle(&mut rng);
            for batch in trajectories.chunks(mini_batch) {
                if self.critic.trunk.is_some() || critic_alone {
                    self.update_critic(batch, warmth, &mut metrics);
                }
                if !critic_alone {
                    self.update_policy(batch, kl_coef, temperature, warmth, &mut metrics);
                }
            }
        }
        metrics.finish()
    }

    /// Log-probabilities of policy and reference, and values.
    fn observe<'r>(&mut self, scored: &[(&'r Rollout, &'r Reward)], temperature: f32) -> Vec<Trajectory<'r>> {
        let Self { policy, critic, config, lanes, reference, .. } = self;
        let passes = Passes { policy, critic, config, kl_coef: 0.0, temperature };
        let reference = reference.filter(|_| config.kl_coef > 0.0);
        let lengths: Vec<usize> = scored.iter().map(|(rollout, _)| input_len(rollout)).collect();
        let parts = lanes.run(&lengths, config.micro_batch_tokens, |range, lane| {
            passes.observe(reference, &scored[range], lane)
        });
        parts.into_iter().flatten().collect()
    }

    /// β of the next step.
    fn adapt_kl_coef(&mut self, trajectories: &[Trajectory], metrics: &mut Metrics) {
        for trajectory in trajectories {
            metrics.add("objective/score", f64::from(trajectory.reward.total));
            metrics.add("objective/kl", trajectory.kl);
            metrics.add("objective/length", trajectory.len() as f64);
        }
        let PpoConfig { kl_target, kl_horizon, .. } = self.config;
        if kl_target > 0.0 {
            metrics.add("objective/kl_coef", f64::from(self.kl_coef));
            let count = trajectories.len();
            let kl = trajectories.iter().map(|t| t.kl / t.len() as f64).sum::<f64>() / count as f64;
            self.kl_coef = maths::adapted_kl_coef(self.kl_coef, kl, kl_target, kl_horizon, count);
        }
    }

    fn describe(&self, trajectories: &[Trajectory], metrics: &mut Metrics) {
        if self.config.has_critic() {
            let values = joined(trajectories.iter().map(|t| &t.old_values));
            let returns = joined(trajectories.iter().map(|t| &t.returns));
            metrics.add("value/explained_variance", maths::explained_variance(&values, &returns));
            metrics.add("value/mean", maths::mean_and_variance(&values).0);
        }
        if self.config.advantage == Advantage::Rejection {
            metrics.add("objective/accepted", trajectories.len() as f64);
        }
    }

    /// One optimiser step of the critic alone on one mini-batch.
    fn update_critic(&mut self, batch: &[Trajectory], warmth: f32, metrics: &mut Metrics) {
        let Self { policy, critic, config, lanes, .. } = self;
        let passes = Passes { policy, critic, config, kl_coef: 0.0, temperature: 1.0 };
        let lengths: Vec<usize> = batch.iter().map(|t| input_len(t.rollout)).collect();
        let (parts, grads) = lanes.accumulate(&lengths, config.micro_batch_tokens, |range, lane| {
            passes.critic(&batch[range], size(batch), lane)
        });
        let mut head_grads = gathered(parts, metrics);
        let rate = warmth * config.value_learning_rate;
        let norm = critic.step(&mut head_grads, Some(grads), config.max_grad_norm, rate);
        metrics.add("value/grad_norm", f64::from(norm));
    }

    /// One optimiser step of the policy, and of a value head on its trunk, on one mini-batch.
    fn update_policy(
        &mut self,
        batch: &[Trajectory],
        kl_coef: f32,
        temperature: f32,
        warmth: f32,
        metrics: &mut Metrics,
    ) {
        let Self { policy, critic, config, lanes, optimizer, lora, reference, .. } = self;
        let passes = Passes { policy, critic, config, kl_coef, temperature };
        let lengths: Vec<usize> = batch.iter().map(|t| input_len(t.rollout)).collect();
        let (parts, grads) = lanes.accumulate(&lengths, config.micro_batch_tokens, |range, lane| {
            passes.policy(&batch[range], size(batch), lane)
        });
        let mut head_grads = gathered(parts, metrics);
        let mut thin = lora.as_ref().map(|lora| lora.gradients(grads));
        let grads = thin.as_mut().unwrap_or(grads);
        let norm = clip_grad_norm(&mut [grads], config.max_grad_norm);
        metrics.add("policy/grad_norm", f64::from(norm));
        if norm.is_finite() {
            let params = lora.as_mut().map_or(&mut policy.params, |lora| &mut lora.params);
            optimizer.step(params, grads, warmth * config.learning_rate);
            if let (Some(lora), Some(reference)) = (lora, reference) {
                lora.merge(reference, policy);
            }
        }
        if config.has_critic() && critic.trunk.is_none() {
            let rate = warmth * config.value_learning_rate;
            let norm = critic.step(&mut head_grads, None, config.max_grad_norm, rate);
            metrics.add("value/grad_norm", f64::from(norm));
        }
    }
}

fn size(batch: &[Trajectory]) -> MiniBatch {
    MiniBatch { sequences: batch.len(), tokens: batch.iter().map(Trajectory::len).sum() }
}

/// The gradient of the value head from all micro-batches, in their order.
fn gathered(parts: Vec<Part>, metrics: &mut Metrics) -> Vec<f32> {
    let mut head_grads = vec![0.0; parts.first().map_or(0, |part| part.head_grads.len())];
    for part in parts {
        add(&mut head_grads, &part.head_grads);
        metrics.merge(part.metrics);
    }
    head_grads
}
