//! A value head: one linear output on the hidden states, the critic of PPO on a shared trunk or on its own.

use crate::ops::simd::{axpy, dot, kernel};

/// A linear function of the hidden state. Zero-initialised, so that an untrained critic predicts 0 for everything.
#[derive(Debug, Clone, PartialEq)]
pub struct ValueHead {
    /// The weight `[E]`, and the bias behind it: one buffer, so that gradients and moments look the same.
    pub params: Vec<f32>,
}

impl ValueHead {
    /// A head that predicts 0.
    pub fn new(hidden_size: usize) -> Self {
        Self { params: vec![0.0; hidden_size + 1] }
    }

    /// The values at some rows of the hidden states `[T, E]`.
    pub fn values(&self, hidden: &[f32], rows: &[usize]) -> Vec<f32> {
        let (weight, bias) = self.params.split_at(self.params.len() - 1);
        rows.iter()
            .map(|&row| product(weight, &hidden[row * weight.len()..][..weight.len()]) + bias[0])
            .collect()
    }

    /// Adds the gradients of a loss, given its derivative by each value: to `grads` (in the layout of `params`) and, unless the
    /// trunk is to learn nothing from the values, to `d_hidden [T, E]`.
    pub fn backward(
        &self,
        hidden: &[f32],
        rows: &[usize],
        d_values: &[f32],
        d_hidden: Option<&mut [f32]>,
        grads: &mut [f32],
    ) {
        assert_eq!(rows.len(), d_values.len(), "a derivative for every row");
        let width = self.params.len() - 1;
        for (&row, &d_value) in rows.iter().zip(d_values) {
            axpy(&mut grads[..width], d_value, &hidden[row * width..][..width]);
            grads[width] += d_value;
        }
        if let Some(d_hidden) = d_hidden {
            for (&row, &d_value) in rows.iter().zip(d_values) {
                axpy(&mut d_hidden[row * width..][..width], d_value, &self.params[..width]);
            }
        }
    }
}

/// How a loss depends on the values at some rows, and where the gradients go.
#[derive(Debug)]
pub struct ValueGradient<'a> {
    /// The head that gave the values.
    pub critic: &'a ValueHead,
    /// The rows, ascending.
    pub rows: &'a [usize],
    /// The derivative of the loss by each value.
    pub d_values: &'a [f32],
    /// Whether the trunk learns from the values.
    pub into_trunk: bool,
    /// Added to: the gradient of the head's parameters.
    pub grads: &'a mut [f32],
}

impl ValueGradient<'_> {
    /// Adds the gradients: to that of the head, and where the trunk learns from the values to `d_hidden [T, E]`.
    pub(crate) fn backward(self, hidden: &[f32], d_hidden: Option<&mut [f32]>) {
        let d_hidden = d_hidden.filter(|_| self.into_trunk);
        self.critic.backward(hidden, self.rows, self.d_values, d_hidden, self.grads);
    }
}

kernel! {
    fn product(a: &[f32], b: &[f32]) -> f32 {
        dot(a, b)
    }
}
