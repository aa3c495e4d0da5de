//! AdamW on flat buffers, and clipping by the global norm.
//!
//! With gradient g, step t and learning rate η, each parameter w has the moments
//! `m ← β₁ m + (1 - β₁) g` and `v ← β₂ v + (1 - β₂) g²`, and moves by
//!
//! ```text
//! w ← w (1 - η λ) - η (m / (1 - β₁ᵗ)) / (sqrt(v / (1 - β₂ᵗ)) + ε)
//! ```
//!
//! The decay λ applies to every parameter, norms and biases too, as PyTorch's optimiser does with all parameters in one group.

use rayon::prelude::*;

use crate::ops::simd::{kernel, sum_of};

/// Elements that one task takes.
const CHUNK: usize = 1 << 15;

/// The constants of an optimiser; the learning rate is given with each step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamWConfig {
    /// β₁
    pub beta1: f32,
    /// β₂
    pub beta2: f32,
    /// ε
    pub eps: f32,
    /// λ
    pub weight_decay: f32,
}

impl Default for AdamWConfig {
    fn default() -> Self {
        Self { beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.01 }
    }
}

/// An optimiser and its state.
#[derive(Debug, Clone, PartialEq)]
pub struct AdamW {
    /// Constants.
    pub config: AdamWConfig,
    /// Updates made, t.
    pub step: u32,
    /// m
    pub first_moment: Vec<f32>,
    /// v
    pub second_moment: Vec<f32>,
}

impl AdamW {
    /// An optimiser of this many parameters, before its first step.
    pub fn new(config: AdamWConfig, parameters: usize) -> Self {
        Self { config, step: 0, first_moment: vec![0.0; parameters], second_moment: vec![0.0; parameters] }
    }

    /// Updates the parameters.
    pub fn step(&mut self, params: &mut [f32], grads: &[f32], learning_rate: f32) {
        assert!(params.len() == grads.len() && params.len() == self.first_moment.len(), "one buffer layout");
        self.step += 1;
        let update = Update::new(self.config, self.step, learning_rate);
        params
            .par_chunks_mut(CHUNK)
            .zip(grads.par_chunks(CHUNK))
            .zip(self.first_moment.par_chunks_mut(CHUNK).zip(self.second_moment.par_chunks_mut(CHUNK)))
            .for_each(|((w, g), (m, v))| update_chunk(update, w, g, m, v));
    }
}

/// The Euclidean norm of all gradients together. Partial sums are of fixed size and added in order.
pub fn grad_norm(grads: &[&[f32]]) -> f32 {
    let square = |grads: &&[f32]| {
        let partial: Vec<f32> = grads.par_chunks(CHUNK).map(sum_of_squares).collect();
        partial.iter().map(|&x| f64::from(x)).sum::<f64>()
    };
    grads.iter().map(square).sum::<f64>().sqrt() as f32
}

/// What gradients of this norm are multiplied by so that it becomes at most `max_norm`.
pub fn clip_factor(norm: f32, max_norm: f32) -> f32 {
    (max_norm / (norm + 1e-6)).min(1.0)
}

/// Scales gradients so that their norm is at most `max_norm`, and returns the norm they had. Gradients with a norm that is no
/// finite number are left as they are: the caller decides whether to skip the step.
pub fn clip_grad_norm(grads: &mut [&mut [f32]], max_norm: f32) -> f32 {
    let norm = grad_norm(&grads.iter().map(|g| &**g).collect::<Vec<_>>());
    let factor = clip_factor(norm, max_norm);
    if factor < 1.0 {
        for grads in grads {
            grads.par_chunks_mut(CHUNK).for_each(|chunk| chunk.iter_mut().for_each(|g| *g *= factor));
        }
    }
    norm
}

/// The constants of one step, computed once.
#[derive(Clone, Copy)]
pub(crate) struct Update {
    pub(crate) beta1: f32,
    pub(crate) beta2: f32,
    pub(crate) eps: f32,
    /// 1 - η λ
    pub(crate) keep: f32,
    /// η / (1 - β₁ᵗ)
    pub(crate) rate: f32,
    /// 1 / sqrt(1 - β₂ᵗ)
    pub(crate) root: f32,
}

impl Update {
    pub(crate) fn new(config: AdamWConfig, step: u32, learning_rate: f32) -> Self {
        let bias = |beta: f32| 1.0 - f64::from(beta).powf(f64::from(step));
        Self {
            beta1: config.beta1,
            beta2: config.beta2,
            eps: config.eps,
            keep: 1.0 - learning_rate * config.weight_decay,
            rate: (f64::from(learning_rate) / bias(config.beta1)) as f32,
            root: bias(config.beta2).sqrt().recip() as f32,
        }
    }
}

kernel! {
    fn update_chunk(update: Update, w: &mut [f32], g: &[f32], m: &mut [f32], v: &mut [f32]) {
        let Update { beta1, beta2, eps, keep, rate, root } = update;
        for ((w, &g), (m, v)) in w.iter_mut().zip(g).zip(m.iter_mut().zip(v)) {
            *m = beta1 * *m + (1.0 - beta1) * g;
            *v = beta2 * *v + (1.0 - beta2) * g * g;
            *w = *w * keep - rate * *m / (v.sqrt() * root + eps);
        }
    }

    fn sum_of_squares(x: &[f32]) -> f32 {
        sum_of(x, |x| x * x)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clipping_scales_all_buffers_by_one_factor() {
        let (mut a, mut b) = (vec![3.0; 40_000], vec![4.0; 40_000]);
        let norm = clip_grad_norm(&mut [&mut a, &mut b], 10.0);
        assert!((norm - 1000.0).abs() < 1e-2, "{norm}");
        assert!((a[7] - 0.03).abs() < 1e-6 && (b[39_999] - 0.04).abs() < 1e-6);
        assert!((grad_norm(&[&a, &b]) - 10.0).abs() < 1e-4);
    }

    #[test]
    fn small_and_broken_gradients_are_left_alone() {
        let mut small = vec![0.1, 0.2];
        clip_grad_norm(&mut [&mut small], 1.0);
        assert_eq!(small, [0.1, 0.2]);
        let mut broken = vec![f32::NAN, 1.0];
        assert!(clip_grad_norm(&mut [&mut broken], 1.0).is_nan());
        assert_eq!(broken[1].to_bits(), 1.0f32.to_bits());
    }

    #[test]
    fn the_first_step_moves_each_parameter_by_the_learning_rate() {
        let mut optimiser = AdamW::new(AdamWConfig { weight_decay: 0.0, ..AdamWConfig::default() }, 2);
        let mut params = vec![1.0, -2.0];
        optimiser.step(&mut params, &[0.3, -40.0], 0.01);
        assert!((params[0] - 0.99).abs() < 1e-6 && (params[1] + 1.99).abs() < 1e-6, "{params:?}");
    }

    #[test]
    fn decay_reaches_parameters_without_gradient() {
        let mut optimiser = AdamW::new(AdamWConfig { weight_decay: 0.1, ..AdamWConfig::default() }, 1);
        let mut params = vec![1.0];
        optimiser.step(&mut params, &[0.0], 0.5);
        assert!((params[0] - 0.95).abs() < 1e-6);
    }
}
