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

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use crate::backend::Passes;
use crate::cuda::{Engine, Purpose};
use crate::lanes::Lanes;
use crate::learner::{Frozen, Learner, Writer, refuse_recomputing};
use crate::memory::Decoding;
use crate::ops::simd::add;
use crate::{Decay, Error, Keep, Lora, Model, ValueHead, learning_rate};

mod advantages;
mod config;
mod critic;
mod losses;
pub mod maths;
mod metrics;
mod observation;
mod rollout;
mod state;

pub use config::{Advantage, Aggregation, CriticKind, KlEstimator, KlPlace, PpoConfig};
pub use rollout::{Blame, Reward, RewardPart, Rollout};

use critic::Critic;
use losses::{Losses, Part};
use maths::MiniBatch;
use metrics::Metrics;
use rollout::{Trajectory, input_len, joined};

/// The state of a PPO run.
#[derive(Debug)]
pub struct PpoTrainer<'a> {
    /// β, where it is adapted.
    pub kl_coef: f32,
    policy: Learner<'a>,
    critic: Critic<'a>,
    reference: Option<Frozen<'a>>,
    config: PpoConfig,
    lanes: Lanes,
}

impl<'a> PpoTrainer<'a> {
    /// Starts from `policy`, on the CPU. `reference` is the model that it came from: what KL is measured against (without one it is 0),
    /// and what a low-rank adaptation is added to.
    pub fn new(policy: Model, reference: Option<&'a Model>, config: PpoConfig) -> Self {
        let adamw = config.adamw();
        let trunk = config.has_own_trunk().then(|| Learner::on_cpu(policy.clone(), adamw));
        Self {
            critic: Critic::new(policy.config.hidden_size, adamw, trunk),
            lanes: Lanes::new(config.lanes, policy.layout.len, Keep::for_training(config.recompute)),
            kl_coef: config.kl_coef,
            reference: reference.map(Frozen::Cpu),
            policy: Learner::on_cpu(policy, adamw),
            config,
        }
    }

    /// The same on the first GPU, which also decodes, as `decoding` says. What does not fit there is refused.
    pub fn on_cuda(
        policy: &Model,
        reference: Option<&Model>,
        config: PpoConfig,
        decoding: Decoding,
    ) -> Result<Self, Error> {
        let decodes = decoding.on_gpu(Purpose::Training, config.micro_batch_tokens);
        Self::on_engine(Engine::open(policy, &decodes)?, policy, reference, config)
    }

    /// With the policy on this engine, and everything else beside it.
    pub(crate) fn on_engine(
        engine: Engine,
        policy: &Model,
        reference: Option<&Model>,
        config: PpoConfig,
    ) -> Result<Self, Error> {
        refuse_recomputing(config.recompute, "ppo")?;
        let adamw = config.adamw();
        let beside = |model, purpose| {
            engine.beside(model, &Decoding::none().on_gpu(purpose, config.micro_batch_tokens))
        };
        let trunk = config.has_own_trunk().then(|| beside(policy, Purpose::Training)).transpose()?;
        let reference = reference.filter(|_| config.kl_coef > 0.0);
        let reference = reference.map(|model| beside(model, Purpose::Scoring)).transpose()?;
        let trunk = trunk.map(|engine| Learner::on_gpu(engine, adamw));
        Ok(Self {
            critic: Critic::new(policy.config.hidden_size, adamw, trunk),
            lanes: Lanes::none(),
            kl_coef: config.kl_coef,
            reference: reference.map(|engine| Frozen::Gpu(Box::new(engine))),
            policy: Learner::on_gpu(engine, adamw),
            config,
        })
    }

    /// Trains a low-rank adaptation of the reference in place of the policy's own weights.
    ///
    /// # Panics
    /// Without a reference, or on a GPU.
    #[must_use]
    pub fn with_lora(mut self, lora: Lora) -> Self {
        let Some(Frozen::Cpu(base)) = self.reference else {
            panic!("an adaptation is added to a reference, on the CPU")
        };
        self.policy = self.policy.with_lora(lora, base);
        self
    }

    /// The policy as it is now; a copy where it lies on a GPU.
    pub fn policy(&self) -> Result<Cow<'_, Model>, Error> {
        self.policy.model()
    }

    /// The linear output of the critic.
    pub fn value_head(&self) -> &ValueHead {
        &self.critic.head
    }

    /// The critic's own model, if it has one.
    pub fn critic_model(&self) -> Result<Option<Cow<'_, Model>>, Error> {
        self.critic.trunk.as_ref().map(Learner::model).transpose()
    }

    /// The adaptation that is trained in place of the policy's own weights, if there is one.
    pub fn lora(&self) -> Option<&Lora> {
        self.policy.lora()
    }

    /// The policy as a writer of responses.
    pub fn writer(&mut self) -> Writer<'_> {
        self.policy.writer()
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
    ) -> Result<BTreeMap<&'static str, f64>, Error> {
        let scored: Vec<(&Rollout, &Reward)> = rollouts
            .iter()
            .zip(rewards)
            .filter_map(|(rollout, reward)| Some((rollout, reward.as_ref()?)))
            .filter(|(rollout, _)| !rollout.response.is_empty())
            .collect();
        let mut metrics = Metrics::default();
        if scored.is_empty() {
            return Ok(metrics.finish());
        }
        let observed = self.observe(&scored, temperature)?;
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
                    self.update_critic(batch, warmth, &mut metrics)?;
                }
                if !critic_alone {
                    self.update_policy(batch, kl_coef, temperature, warmth, &mut metrics)?;
                }
            }
        }
        Ok(metrics.finish())
    }

    /// β of the next step.
    fn adapt_kl_coef(&mut self, trajectories: &[Trajectory], metrics: &mut Metrics) {
        for trajectory in trajectories {
            metrics.add("objective/score", f64::from(trajectory.reward.total));
            if self.config.kl_coef > 0.0 {
                metrics.add("objective/kl", trajectory.kl);
            }
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
    fn update_critic(
        &mut self,
        batch: &[Trajectory],
        warmth: f32,
        metrics: &mut Metrics,
    ) -> Result<(), Error> {
        let Self { policy, critic, config, lanes, .. } = self;
        let Critic { head, trunk, .. } = &mut *critic;
        let shares_trunk = trunk.is_none();
        let losses = Losses { config, critic: head, shares_trunk, kl_coef: 0.0, temperature: 1.0 };
        let pass =
            |range: Range<usize>, passes: &mut dyn Passes| losses.critic(&batch[range], size(batch), passes);
        let (lengths, tokens) = (input_lens(batch), config.micro_batch_tokens);
        let backend = match trunk {
            Some(trunk) => trunk.learning(lanes),
            None => policy.looking(lanes),
        };
        let parts = backend.each(&lengths, tokens, pass)?;
        self.step_critic(&mut gathered(parts, metrics), warmth, metrics)
    }

    /// Moves the critic along the gradients of its last pass.
    fn step_critic(
        &mut self,
        head_grads: &mut [f32],
        warmth: f32,
        metrics: &mut Metrics,
    ) -> Result<(), Error> {
        let Self { critic, config, lanes, .. } = self;
        let rate = warmth * config.value_learning_rate;
        let norm = critic.step(lanes, head_grads, config.max_grad_norm, rate)?;
        metrics.add("value/grad_norm", f64::from(norm));
        Ok(())
    }

    /// One optimiser step of the policy, and of a value head on its trunk, on one mini-batch.
    fn update_policy(
        &mut self,
        batch: &[Trajectory],
        kl_coef: f32,
        temperature: f32,
        warmth: f32,
        metrics: &mut Metrics,
    ) -> Result<(), Error> {
        let Self { policy, critic, config, lanes, .. } = self;
        let shares_trunk = critic.trunk.is_none();
        let losses = Losses { config, critic: &critic.head, shares_trunk, kl_coef, temperature };
        let pass =
            |range: Range<usize>, passes: &mut dyn Passes| losses.policy(&batch[range], size(batch), passes);
        let parts = policy.learning(lanes).each(&input_lens(batch), config.micro_batch_tokens, pass)?;
        let mut head_grads = gathered(parts, metrics);
        let rate = warmth * config.learning_rate;
        let norm = policy.clip_and_step(lanes, &mut [], config.max_grad_norm, rate)?;
        metrics.add("policy/grad_norm", f64::from(norm));
        if config.has_critic() && shares_trunk {
            self.step_critic(&mut head_grads, warmth, metrics)?;
        }
        Ok(())
    }
}

fn input_lens(batch: &[Trajectory]) -> Vec<usize> {
    batch.iter().map(|t| input_len(t.rollout)).collect()
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
