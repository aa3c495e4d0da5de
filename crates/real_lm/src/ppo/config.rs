//! The settings of PPO and its relatives.

use serde::{Deserialize, Serialize};

use super::maths::Clip;
use crate::AdamWConfig;

/// Settings of PPO, with the paper's symbols. The defaults are the values of the paper's scripts, with a value head on the policy's
/// trunk in place of a second model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PpoConfig {
    /// Learning rate of the policy.
    pub learning_rate: f32,
    /// Learning rate of the critic.
    pub value_learning_rate: f32,
    /// Steps of linear warm-up.
    pub warmup_steps: usize,
    /// β, weight of the KL divergence from the reference. 0 needs no reference model.
    pub kl_coef: f32,
    /// Where the KL divergence counts.
    pub kl_place: KlPlace,
    /// How it is estimated from the two log-probabilities of a sampled token.
    pub kl_estimator: KlEstimator,
    /// The KL divergence per token, in nats, that β is adapted to hold (Ziegler et al. 2019); 0 keeps β fixed.
    pub kl_target: f32,
    /// Rollouts over which an adapted β changes by the relative error.
    pub kl_horizon: f32,
    /// Where advantages come from.
    pub advantage: Advantage,
    /// γ, discount a token.
    pub gamma: f32,
    /// λ of generalised advantage estimation.
    pub lambda: f32,
    /// Whiten the advantages of a step. GRPO as published does not; GDPO does.
    pub whiten: bool,
    /// With `advantage = "rejection"`: the least score of a response that is learned from.
    pub accept: f32,
    /// `ε_low`
    pub clip_low: f32,
    /// `ε_high`
    pub clip_high: f32,
    /// c of the dual clip, above 1; 0 for none.
    pub clip_dual: f32,
    /// How far a value may move from its old one before it stops to count.
    pub clip_value: f32,
    /// How the losses of tokens become one number.
    pub aggregation: Aggregation,
    /// With `aggregation = "constant"`: the tokens that every response counts as.
    pub constant_length: usize,
    /// Weight of the entropy bonus.
    pub entropy_coef: f32,
    /// What estimates the values. The estimators of advantages other than `gae` have no critic.
    pub critic: CriticKind,
    /// Weight of the value loss in the gradient of a shared trunk; 0 trains the value head on a detached trunk.
    pub value_coef: f32,
    /// Steps at the start that train the critic alone.
    pub value_pretraining_steps: usize,
    /// Passes over the rollouts of a step.
    pub epochs: usize,
    /// Rollouts an update; all rollouts of the step when 0.
    pub mini_batch: usize,
    /// Tokens of one forward and backward pass.
    pub micro_batch_tokens: usize,
    /// Micro-batches that run side by side, each with activations and gradients of its own. More than one makes models of a
    /// few million parameters train faster.
    pub lanes: usize,
    /// Keep only the input of each layer and compute the rest again in the backward pass: a third more work, a fraction of the memory.
    pub recompute: bool,
    /// Largest norm of the gradient.
    pub max_grad_norm: f32,
    /// Decoupled weight decay.
    pub weight_decay: f32,
}

/// An estimator of advantages. All but the first compare the rollouts of one prompt with each other; one that is alone has
/// advantage 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Advantage {
    /// Generalised advantage estimation with the critic (Schulman et al. 2016).
    Gae,
    /// REINFORCE leave-one-out (Ahmadian et al. 2024): the return less the mean return of the others.
    Rloo,
    /// Group-relative (Shao et al. 2024): the return less the mean of the group, over its standard deviation.
    Grpo,
    /// The same without the standard deviation, which would give easy and hard prompts the most weight (Liu et al. 2025). Its
    /// authors use it with `aggregation = "constant"`.
    DrGrpo,
    /// Each part of the reward is normalised by itself as in GRPO and then weighed, so that a part of small spread still counts.
    Gdpo,
    /// Rejection sampling: responses of at least `accept` are learned from by cross-entropy, the others not at all.
    Rejection,
}

/// Where the KL divergence counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KlPlace {
    /// As a cost of each token in its reward, as in the paper.
    Reward,
    /// As a term of the loss.
    Loss,
}

/// An estimate of `KL(π ‖ π_ref)` from one sampled token, with `d = log π − log π_ref` (Schulman 2020).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KlEstimator {
    /// d. As a loss its expected gradient is zero: use it in the reward.
    K1,
    /// ½ d². As a loss it has the gradient of the divergence itself.
    K2,
    /// e⁻ᵈ − 1 + d: never negative, and of low variance as a reward.
    K3,
}

/// How the losses of tokens become the loss of a mini-batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Aggregation {
    /// The mean over all tokens: long responses count more.
    TokenMean,
    /// The mean over the means of the responses: a token of a long response counts less.
    SequenceMean,
    /// The sum over `constant_length` for each response: every token counts the same in every mini-batch.
    Constant,
}

/// What estimates values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CriticKind {
    /// A linear head on the policy's trunk.
    Head,
    /// A second model that starts as a copy of the policy, with a head, as in the paper.
    Model,
}

impl Default for PpoConfig {
    fn default() -> Self {
        Self {
            learning_rate: 1e-6,
            value_learning_rate: 1e-5,
            warmup_steps: 0,
            kl_coef: 0.001,
            kl_place: KlPlace::Reward,
            kl_estimator: KlEstimator::K1,
            kl_target: 0.0,
            kl_horizon: 10_000.0,
            advantage: Advantage::Gae,
            gamma: 1.0,
            lambda: 1.0,
            whiten: true,
            accept: 1.0,
            clip_low: 0.2,
            clip_high: 0.2,
            clip_dual: 0.0,
            clip_value: 0.5,
            aggregation: Aggregation::TokenMean,
            constant_length: 1024,
            entropy_coef: 0.001,
            critic: CriticKind::Head,
            value_coef: 0.1,
            value_pretraining_steps: 0,
            epochs: 1,
            mini_batch: 0,
            micro_batch_tokens: 2048,
            lanes: 1,
            recompute: false,
            max_grad_norm: 1.0,
            weight_decay: 0.01,
        }
    }
}

impl PpoConfig {
    /// What contradicts itself, if anything.
    pub fn check(&self) -> Result<(), String> {
        let refuse = |what: &str| Err(what.to_owned());
        if self.clip_dual != 0.0 && self.clip_dual <= 1.0 {
            return refuse(
                "ppo.clip_dual must be above 1, or 0 for none: below 1 it would hold every bad token back",
            );
        }
        if self.epochs == 0 || self.constant_length == 0 {
            return refuse("ppo.epochs and ppo.constant_length must be at least 1");
        }
        if self.value_pretraining_steps > 0 && self.advantage != Advantage::Gae {
            return refuse(
                "ppo.value_pretraining_steps needs ppo.advantage = \"gae\": the others have no critic",
            );
        }
        let kl_in_reward = self.kl_coef > 0.0 && self.kl_place == KlPlace::Reward;
        if kl_in_reward && matches!(self.advantage, Advantage::Gdpo | Advantage::Rejection) {
            return refuse(
                "ppo.advantage = \"gdpo\" and \"rejection\" look at scores alone: set ppo.kl_coef = 0 or ppo.kl_place = \"loss\"",
            );
        }
        Ok(())
    }

    /// Whether values are estimated at all.
    pub(crate) fn has_critic(&self) -> bool {
        self.advantage == Advantage::Gae
    }

    /// Whether the critic is a model of its own.
    pub(crate) fn has_own_trunk(&self) -> bool {
        self.has_critic() && self.critic == CriticKind::Model
    }

    /// The constants of all optimisers.
    pub(super) fn adamw(&self) -> AdamWConfig {
        AdamWConfig { weight_decay: self.weight_decay, ..AdamWConfig::default() }
    }

    /// Weight of the value loss in the gradient of the value head.
    pub(super) fn value_weight(&self) -> f32 {
        match self.critic {
            _ if !self.has_critic() => 0.0,
            CriticKind::Model => 1.0,
            // A detached head has a gradient of its own, which no weight need balance against the policy's.
            CriticKind::Head if self.value_coef == 0.0 => 1.0,
            CriticKind::Head => self.value_coef,
        }
    }

    pub(super) fn clip(&self) -> Clip {
        let dual = if self.clip_dual > 0.0 { self.clip_dual } else { f32::INFINITY };
        Clip { low: self.clip_low, high: self.clip_high, dual }
    }
}
