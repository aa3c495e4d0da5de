//! Proximal policy optimisation (Schulman et al. 2017) of a language model, as the REAL paper runs it.
//!
//! A rollout is one response; every token of it is an action. One [`PpoTrainer::update`] takes the rollouts of a step with
//! their scores and does, in this order:
//!
//! 1. one forward pass of the policy (log-probabilities `log π_old` and values `V`) and of the frozen reference (`log π_ref`);
//! 2. rewards per token: `−β (log π_old − log π_ref)`, plus the score on the last token;
//! 3. advantages by GAE, returns `R = A + V`, and whitening of the advantages over all tokens of the step;
//! 4. for every epoch and mini-batch: the clipped losses of policy and value, their gradients, one AdamW step.
//!
//! For example a response of two tokens with score 1, `V = [0.2, 0.4]`, `β = 0` and `γ = λ = 1` has `R = [1, 1]` and
//! `A = [0.8, 0.6]`: both tokens were better than expected, the first more so.
//!
//! The mean of a loss runs over all tokens of the mini-batch, so that how a mini-batch is split into forward passes does not
//! change the gradient. The critic is a linear head on the policy's trunk. A rollout without a score (an outage of the
//! grader) takes no part at all.

use std::collections::BTreeMap;
use std::ops::Range;

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::head::{self, Rows, TokenGradient};
use crate::lanes::{Lane, Lanes};
use crate::ops::simd::add;
use crate::{AdamW, AdamWConfig, Model, Packed, ValueHead, backward, clip_grad_norm, forward, learning_rate};

pub mod maths;
mod state;

use maths::Clip;

/// Settings of PPO, with the paper's symbols.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PpoConfig {
    /// Learning rate of the policy.
    pub learning_rate: f32,
    /// Learning rate of the value head.
    pub value_learning_rate: f32,
    /// Steps of linear warm-up.
    pub warmup_steps: usize,
    /// β, weight of the KL divergence from the reference in the reward. 0 needs no reference model.
    pub kl_coef: f32,
    /// Where advantages come from.
    pub advantage: Advantage,
    /// γ, discount a token.
    pub gamma: f32,
    /// λ of generalised advantage estimation.
    pub lambda: f32,
    /// `ε_low`
    pub clip_low: f32,
    /// `ε_high`
    pub clip_high: f32,
    /// c of the dual clip; 0 for none.
    pub clip_dual: f32,
    /// How far a value may move from its old one before it stops to count.
    pub clip_value: f32,
    /// Weight of the entropy bonus.
    pub entropy_coef: f32,
    /// Weight of the value loss in the gradient of the shared trunk; 0 trains the value head on a detached trunk.
    pub value_coef: f32,
    /// Passes over the rollouts of a step.
    pub epochs: usize,
    /// Rollouts an update; all rollouts of the step when 0.
    pub mini_batch: usize,
    /// Tokens of one forward and backward pass.
    pub micro_batch_tokens: usize,
    /// Micro-batches that run side by side, each with activations and gradients of its own. More than one makes models of a
    /// few million parameters train faster.
    pub lanes: usize,
    /// Largest norm of the gradient.
    pub max_grad_norm: f32,
    /// Decoupled weight decay.
    pub weight_decay: f32,
    /// Whiten the advantages of a step.
    pub whiten: bool,
}

/// An estimator of advantages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Advantage {
    /// Generalised advantage estimation with the critic (Schulman et al. 2016).
    Gae,
    /// REINFORCE leave-one-out (Ahmadian et al. 2024): the return of a rollout less the mean return of the other rollouts of
    /// its prompt, the same for every token. There is no critic; a rollout that is alone has advantage 0.
    Rloo,
}

impl Default for PpoConfig {
    /// The values of the paper's scripts.
    fn default() -> Self {
        Self {
            learning_rate: 1e-6,
            value_learning_rate: 1e-5,
            warmup_steps: 0,
            kl_coef: 0.001,
            advantage: Advantage::Gae,
            gamma: 1.0,
            lambda: 1.0,
            clip_low: 0.2,
            clip_high: 0.2,
            clip_dual: 0.0,
            clip_value: 0.5,
            entropy_coef: 0.001,
            value_coef: 0.1,
            epochs: 1,
            mini_batch: 0,
            micro_batch_tokens: 2048,
            lanes: 1,
            max_grad_norm: 1.0,
            weight_decay: 0.01,
            whiten: true,
        }
    }
}

impl PpoConfig {
    /// Weight of the value loss in the gradient of the value head.
    fn value_weight(&self) -> f32 {
        match self.advantage {
            Advantage::Rloo => 0.0,
            // A detached head has a gradient of its own, which no weight need balance against the policy's.
            Advantage::Gae if self.value_coef == 0.0 => 1.0,
            Advantage::Gae => self.value_coef,
        }
    }

    fn clip(&self) -> Clip {
        let dual = if self.clip_dual > 0.0 { self.clip_dual } else { f32::INFINITY };
        Clip { low: self.clip_low, high: self.clip_high, dual }
    }
}

/// A prompt and a response sampled for it.
#[derive(Debug, Clone, PartialEq)]
pub struct Rollout {
    /// Prompt tokens; at least one.
    pub prompt: Vec<u32>,
    /// Response tokens, the end-of-sequence token included when it was sampled.
    pub response: Vec<u32>,
}

/// What the update needs to know of one rollout, per response token.
#[derive(Debug)]
struct Trajectory<'a> {
    rollout: &'a Rollout,
    score: f32,
    /// Estimate of the KL divergence from the reference: the sum of `log π_old − log π_ref`.
    kl: f64,
    old_logprobs: Vec<f32>,
    old_values: Vec<f32>,
    advantages: Vec<f32>,
    returns: Vec<f32>,
}

impl<'a> Trajectory<'a> {
    fn new(
        rollout: &'a Rollout,
        score: f32,
        old_logprobs: Vec<f32>,
        ref_logprobs: &[f32],
        old_values: Vec<f32>,
        config: &PpoConfig,
    ) -> Self {
        let rewards = maths::token_rewards(score, &old_logprobs, ref_logprobs, config.kl_coef);
        let advantages = maths::gae(&rewards, &old_values, config.gamma, config.lambda);
        let returns = advantages.iter().zip(&old_values).map(|(a, v)| a + v).collect();
        let kl = old_logprobs.iter().zip(ref_logprobs).map(|(o, r)| f64::from(o - r)).sum();
        Self { rollout, score, kl, old_logprobs, old_values, advantages, returns }
    }
}

/// The state of a PPO run.
#[derive(Debug)]
pub struct PpoTrainer {
    /// The policy under training.
    pub policy: Model,
    /// The critic: a linear head on the policy's trunk.
    pub value_head: ValueHead,
    /// Moments of the policy's optimiser.
    pub optimizer: AdamW,
    /// Moments of the value head's optimiser.
    pub value_optimizer: AdamW,
    reference: Option<Model>,
    config: PpoConfig,
    lanes: Lanes,
}

impl PpoTrainer {
    /// Starts from `policy`. `reference` is what KL is measured against; without one it is 0.
    pub fn new(policy: Model, reference: Option<Model>, config: PpoConfig) -> Self {
        let adamw = AdamWConfig { weight_decay: config.weight_decay, ..AdamWConfig::default() };
        let value_head = ValueHead::new(policy.config.hidden_size);
        Self {
            optimizer: AdamW::new(adamw, policy.layout.len),
            value_optimizer: AdamW::new(adamw, value_head.params.len()),
            lanes: Lanes::new(config.lanes, policy.layout.len),
            reference,
            value_head,
            policy,
            config,
        }
    }

    /// One step of PPO on these rollouts. `scores[i]` is the score of `rollouts[i]`, `None` where the grader failed.
    /// `temperature` is what the rollouts were sampled at, and `seed` orders the mini-batches. Returns the figures of the step under their standard names.
    pub fn update(
        &mut self,
        rollouts: &[Rollout],
        scores: &[Option<f32>],
        temperature: f32,
        step: usize,
        seed: u64,
    ) -> BTreeMap<&'static str, f64> {
        let scored: Vec<(&Rollout, f32)> = rollouts
            .iter()
            .zip(scores)
            .filter_map(|(rollout, score)| Some((rollout, (*score)?)))
            .filter(|(rollout, _)| !rollout.response.is_empty())
            .collect();
        let mut metrics = Metrics::default();
        let mut trajectories = self.trajectories(&scored, temperature, &mut metrics);
        if trajectories.is_empty() {
            return metrics.finish();
        }
        if self.config.advantage == Advantage::Rloo {
            leave_one_out(&mut trajectories, self.config.kl_coef);
        }
        if self.config.whiten {
            whiten_all(&mut trajectories);
        }
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mini_batch =
            if self.config.mini_batch == 0 { trajectories.len() } else { self.config.mini_batch };
        let warmth = learning_rate(1.0, crate::Decay::Constant, self.config.warmup_steps, step, usize::MAX);
        for _ in 0..self.config.epochs {
            trajectories.shuffle(&mut rng);
            for batch in trajectories.chunks(mini_batch) {
                self.update_mini_batch(batch, temperature, warmth, &mut metrics);
            }
        }
        metrics.finish()
    }

    /// Old log-probabilities and values, reference log-probabilities, rewards, advantages and returns.
    fn trajectories<'a>(
        &mut self,
        scored: &[(&'a Rollout, f32)],
        temperature: f32,
        metrics: &mut Metrics,
    ) -> Vec<Trajectory<'a>> {
        let Self { policy, value_head, reference, config, .. } = self;
        let lengths: Vec<usize> = scored.iter().map(|(rollout, _)| input_len(rollout)).collect();
        let parts = self.lanes.run(&lengths, config.micro_batch_tokens, |range, lane| {
            let group = &scored[range];
            let batch = TokenBatch::new(group.iter().map(|(rollout, _)| *rollout));
            let rows = batch.scored(temperature);
            let ref_logprobs = reference.as_ref().map(|model| {
                forward(model, &batch.packed, &mut lane.workspace);
                head::score(model, lane.workspace.hidden(), rows).logprobs
            });
            forward(policy, &batch.packed, &mut lane.workspace);
            let old_logprobs = head::score(policy, lane.workspace.hidden(), rows).logprobs;
            let ref_logprobs = ref_logprobs.as_ref().unwrap_or(&old_logprobs);
            let values = value_head.values(lane.workspace.hidden(), &batch.rows);
            let trajectory = |((rollout, score), span): (&(&'a Rollout, f32), &Range<usize>)| {
                let [old, reference, values] =
                    [&old_logprobs, ref_logprobs, &values].map(|all| all[span.clone()].to_vec());
                Trajectory::new(rollout, *score, old, &reference, values, config)
            };
            group.iter().zip(&batch.spans).map(trajectory).collect::<Vec<_>>()
        });
        let trajectories: Vec<Trajectory> = parts.into_iter().flatten().collect();
        for trajectory in &trajectories {
            metrics.add("objective/score", f64::from(trajectory.score));
            metrics.add("objective/kl", trajectory.kl);
            metrics.add("objective/length", trajectory.rollout.response.len() as f64);
        }
        let values = joined(trajectories.iter().map(|t| &t.old_values));
        let returns = joined(trajectories.iter().map(|t| &t.returns));
        metrics.add("value/explained_variance", maths::explained_variance(&values, &returns));
        metrics.add("value/mean", maths::mean_and_variance(&values).0);
        trajectories
    }

    /// One optimiser step on one mini-batch.
    fn update_mini_batch(
        &mut self,
        batch: &[Trajectory],
        temperature: f32,
        warmth: f32,
        metrics: &mut Metrics,
    ) {
        let Self { policy, value_head, config, .. } = self;
        let per_token = 1.0 / batch.iter().map(|t| t.rollout.response.len()).sum::<usize>() as f32;
        let lengths: Vec<usize> = batch.iter().map(|t| input_len(t.rollout)).collect();
        let (parts, grads) = self.lanes.accumulate(&lengths, config.micro_batch_tokens, |range, lane| {
            micro_batch(policy, value_head, config, &batch[range], temperature, per_token, lane)
        });
        let mut value_grads = vec![0.0; value_head.params.len()];
        for part in parts {
            add(&mut value_grads, &part.value_grads);
            metrics.merge(part.metrics);
        }
        metrics.add("policy/grad_norm", f64::from(clip_grad_norm(&mut [grads], config.max_grad_norm)));
        metrics
            .add("value/grad_norm", f64::from(clip_grad_norm(&mut [&mut value_grads], config.max_grad_norm)));
        self.optimizer.step(&mut policy.params, grads, warmth * config.learning_rate);
        self.value_optimizer.step(&mut value_head.params, &value_grads, warmth * config.value_learning_rate);
    }
}

/// What a micro-batch adds to a mini-batch, beside the policy's gradient.
struct Part {
    value_grads: Vec<f32>,
    metrics: Metrics,
}

/// The clipped losses of policy and value on some trajectories. `per_token` is one over the tokens of the mini-batch. The
/// policy's gradient is added to the lane's.
fn micro_batch(
    policy: &Model,
    value_head: &ValueHead,
    config: &PpoConfig,
    trajectories: &[Trajectory],
    temperature: f32,
    per_token: f32,
    lane: &mut Lane,
) -> Part {
    let clip = config.clip();
    let tokens = TokenBatch::new(trajectories.iter().map(|t| t.rollout));
    let old_logprobs = joined(trajectories.iter().map(|t| &t.old_logprobs));
    let advantages = joined(trajectories.iter().map(|t| &t.advantages));
    let old_values = joined(trajectories.iter().map(|t| &t.old_values));
    let returns = joined(trajectories.iter().map(|t| &t.returns));

    forward(policy, &tokens.packed, &mut lane.workspace);
    let hidden = lane.workspace.hidden();
    let mut d_hidden = vec![0.0; hidden.len()]; // [T, E]
    let scores = head::backward(
        policy,
        hidden,
        tokens.scored(temperature),
        |i, logprob, _| TokenGradient {
            logprob: per_token * maths::policy_loss(logprob, old_logprobs[i], advantages[i], clip).derivative,
            entropy: -per_token * config.entropy_coef,
        },
        &mut d_hidden,
        &mut lane.grads,
    );
    let values = value_head.values(hidden, &tokens.rows);
    let value_losses: Vec<_> = (0..values.len())
        .map(|i| maths::value_loss(values[i], old_values[i], returns[i], config.clip_value))
        .collect();
    let shared = config.value_coef > 0.0;
    let weight = per_token * config.value_weight();
    let d_values: Vec<f32> = value_losses.iter().map(|l| weight * l.derivative).collect();
    let d_trunk = shared.then_some(&mut d_hidden[..]);
    let mut value_grads = vec![0.0; value_head.params.len()];
    value_head.backward(hidden, &tokens.rows, &d_values, d_trunk, &mut value_grads);
    backward(policy, &tokens.packed, &mut lane.workspace, &d_hidden, &mut lane.grads);

    let mut metrics = Metrics::default();
    for i in 0..values.len() {
        let token = maths::policy_loss(scores.logprobs[i], old_logprobs[i], advantages[i], clip);
        metrics.add("policy/loss", f64::from(token.loss));
        metrics.add("policy/clipfrac", f64::from(u8::from(token.clipped)));
        metrics.add("policy/entropy", f64::from(scores.entropies[i]));
        metrics.add("policy/approxkl", 0.5 * f64::from(scores.logprobs[i] - old_logprobs[i]).powi(2));
        metrics.add("value/loss", f64::from(value_losses[i].loss));
        metrics.add("value/clipfrac", f64::from(u8::from(value_losses[i].clipped)));
    }
    Part { value_grads, metrics }
}

/// The tokens of several responses behind each other.
fn joined<'a>(parts: impl Iterator<Item = &'a Vec<f32>>) -> Vec<f32> {
    parts.flatten().copied().collect()
}

/// Gives every token its rollout's return less the mean return of the other rollouts of the same prompt.
fn leave_one_out(trajectories: &mut [Trajectory], kl_coef: f32) {
    let mut groups: BTreeMap<&[u32], Vec<f32>> = BTreeMap::new();
    let returns = |t: &Trajectory| t.score - kl_coef * t.kl as f32;
    for trajectory in trajectories.iter() {
        groups.entry(&trajectory.rollout.prompt).or_default().push(returns(trajectory));
    }
    for trajectory in trajectories {
        let advantage = maths::leave_one_out(returns(trajectory), &groups[&trajectory.rollout.prompt[..]]);
        trajectory.advantages.fill(advantage);
    }
}

/// Whitens the advantages over all tokens of the step.
fn whiten_all(trajectories: &mut [Trajectory]) {
    let mut all = joined(trajectories.iter().map(|t| &t.advantages));
    maths::whiten(&mut all);
    let mut whitened = all.into_iter();
    for trajectory in trajectories {
        for (advantage, value) in trajectory.advantages.iter_mut().zip(&mut whitened) {
            *advantage = value;
        }
    }
}

/// Tokens that are fed for a rollout: all but the last one, which is only predicted.
fn input_len(rollout: &Rollout) -> usize {
    rollout.prompt.len() + rollout.response.len() - 1
}

/// Several rollouts behind each other, and the positions that predict their response tokens.
struct TokenBatch {
    packed: Packed,
    /// Positions in `packed`, one a response token.
    rows: Vec<usize>,
    /// The token that each position predicts.
    targets: Vec<u32>,
    /// The part of `rows` that belongs to each rollout.
    spans: Vec<Range<usize>>,
}

impl TokenBatch {
    fn new<'a>(rollouts: impl Iterator<Item = &'a Rollout>) -> Self {
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

    fn scored(&self, temperature: f32) -> Rows<'_> {
        Rows { rows: &self.rows, targets: &self.targets, temperature }
    }
}

/// Means of the figures of a step.
#[derive(Debug, Default)]
struct Metrics {
    sums: BTreeMap<&'static str, (f64, usize)>,
}

impl Metrics {
    fn add(&mut self, name: &'static str, value: f64) {
        let (sum, count) = self.sums.entry(name).or_default();
        *sum += value;
        *count += 1;
    }

    fn merge(&mut self, other: Self) {
        for (name, (sum, count)) in other.sums {
            let (total, terms) = self.sums.entry(name).or_default();
            *total += sum;
            *terms += count;
        }
    }

    fn finish(self) -> BTreeMap<&'static str, f64> {
        self.sums.into_iter().map(|(name, (sum, count))| (name, sum / count as f64)).collect()
    }
}
