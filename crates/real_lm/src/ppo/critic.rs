//! The critic: a linear head on the policy's trunk, or on a trunk of its own.

use crate::lanes::Lanes;
use crate::learner::Learner;
use crate::{AdamW, AdamWConfig, Error, ValueHead, clip_grad_norm};

/// What estimates the values, with its optimiser.
#[derive(Debug)]
pub(super) struct Critic<'a> {
    /// The linear output.
    pub(super) head: ValueHead,
    /// Moments of the head.
    pub(super) optimizer: AdamW,
    /// A trunk of its own, which starts as a copy of the policy and whose output head is not used; without one the head reads the
    /// policy's hidden states.
    pub(super) trunk: Option<Learner<'a>>,
}

impl<'a> Critic<'a> {
    pub(super) fn new(hidden_size: usize, adamw: AdamWConfig, trunk: Option<Learner<'a>>) -> Self {
        let head = ValueHead::new(hidden_size);
        Self { optimizer: AdamW::new(adamw, head.params.len()), head, trunk }
    }

    /// Moves the head, and its own trunk along the gradients accumulated last. Returns the norm that the gradients had; gradients that
    /// are no finite numbers move nothing.
    pub(super) fn step(
        &mut self,
        lanes: &mut Lanes,
        head_grads: &mut [f32],
        max_grad_norm: f32,
        rate: f32,
    ) -> Result<f32, Error> {
        let norm = match &mut self.trunk {
            Some(trunk) => trunk.clip_and_step(lanes, head_grads, max_grad_norm, rate)?,
            None => clip_grad_norm(&mut [&mut *head_grads], max_grad_norm),
        };
        if norm.is_finite() {
            self.optimizer.step(&mut self.head.params, head_grads, rate);
        }
        Ok(norm)
    }
}
