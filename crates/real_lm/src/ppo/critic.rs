//! The critic: a linear head on the policy's trunk, or on a trunk of its own.

use super::config::{CriticKind, PpoConfig};
use crate::{AdamW, AdamWConfig, Model, ValueHead, clip_grad_norm};

/// What estimates the values, with its optimiser.
#[derive(Debug)]
pub struct Critic {
    /// The linear output.
    pub head: ValueHead,
    /// Moments of the head.
    pub optimizer: AdamW,
    /// A trunk of its own; without one the head reads the policy's hidden states.
    pub trunk: Option<Trunk>,
}

/// The critic's own model.
#[derive(Debug)]
pub struct Trunk {
    /// Starts as a copy of the policy. Its output head is not used.
    pub model: Model,
    /// Moments of the model.
    pub optimizer: AdamW,
}

impl Critic {
    pub(super) fn new(policy: &Model, adamw: AdamWConfig, config: &PpoConfig) -> Self {
        let head = ValueHead::new(policy.config.hidden_size);
        let own_trunk = config.has_critic() && config.critic == CriticKind::Model;
        let copy = || Trunk { model: policy.clone(), optimizer: AdamW::new(adamw, policy.layout.len) };
        Self { optimizer: AdamW::new(adamw, head.params.len()), head, trunk: own_trunk.then(copy) }
    }

    /// Moves the head, and with `trunk_grads` the trunk. Returns the norm that the gradients had; gradients that are no finite
    /// numbers move nothing.
    pub(super) fn step(
        &mut self,
        head_grads: &mut [f32],
        trunk_grads: Option<&mut [f32]>,
        max_grad_norm: f32,
        rate: f32,
    ) -> f32 {
        let Some((trunk, trunk_grads)) = self.trunk.as_mut().zip(trunk_grads) else {
            let norm = clip_grad_norm(&mut [&mut *head_grads], max_grad_norm);
            if norm.is_finite() {
                self.optimizer.step(&mut self.head.params, head_grads, rate);
            }
            return norm;
        };
        let norm = clip_grad_norm(&mut [&mut *head_grads, &mut *trunk_grads], max_grad_norm);
        if norm.is_finite() {
            self.optimizer.step(&mut self.head.params, head_grads, rate);
            trunk.optimizer.step(&mut trunk.model.params, trunk_grads, rate);
        }
        norm
    }
}
