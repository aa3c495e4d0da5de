//! Rotary position embedding, in the rotate-half form of Hugging Face checkpoints.
//!
//! Element i of a head pairs with element i + D/2, and the pair turns by the angle `position · theta^(-2i/D)`. Turning is
//! orthogonal, so the gradient turns back by the same angle.

use super::simd::kernel;

/// Cosines and sines for positions `0..len`, each `[len, D/2]`.
#[derive(Debug, Default)]
pub(crate) struct RopeTable {
    half: usize,
    theta: f32,
    cos: Vec<f32>,
    sin: Vec<f32>,
}

/// Which way to turn.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    /// As in the forward pass.
    Forward,
    /// As for gradients.
    Back,
}

impl RopeTable {
    /// Makes sure that the table holds positions `0..len` for this shape of head.
    pub(crate) fn prepare(&mut self, head_dim: usize, theta: f32, len: usize) {
        if self.half != head_dim / 2 || self.theta.to_bits() != theta.to_bits() {
            *self = Self { half: head_dim / 2, theta, ..Self::default() };
        }
        // As PyTorch computes it, in f32: the frequency, then its product with the position.
        let known = self.cos.len() / self.half;
        for position in known..len {
            for i in 0..self.half {
                let frequency = 1.0 / theta.powf(2.0 * i as f32 / head_dim as f32);
                let angle = position as f32 * frequency;
                self.cos.push(angle.cos());
                self.sin.push(angle.sin());
            }
        }
    }

    /// All cosines and all sines so far.
    pub(crate) fn tables(&self) -> [&[f32]; 2] {
        [&self.cos, &self.sin]
    }

    /// Turns one head `x [D]` at a position.
    pub(crate) fn turn(&self, x: &mut [f32], position: usize, turn: Turn) {
        let at = position * self.half..(position + 1) * self.half;
        let sign = if turn == Turn::Forward { 1.0 } else { -1.0 };
        rotate(x, &self.cos[at.clone()], &self.sin[at], sign);
    }
}

kernel! {
    fn rotate(x: &mut [f32], cos: &[f32], sin: &[f32], sign: f32) {
        let (first, second) = x.split_at_mut(cos.len());
        for ((a, b), (&cos, &sin)) in first.iter_mut().zip(second).zip(cos.iter().zip(sin)) {
            let sin = sin * sign;
            (*a, *b) = (*a * cos - *b * sin, *b * cos + *a * sin);
        }
    }
}
