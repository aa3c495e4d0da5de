//! Supervised fine-tuning: cross-entropy on the tokens of given answers.

use serde::{Deserialize, Serialize};

use crate::head::{self, Rows, TokenGradient};
use crate::{
    AdamW, AdamWConfig, Decay, Keep, Model, Packed, Workspace, backward, clip_grad_norm, forward,
    learning_rate,
};

/// Settings of supervised fine-tuning.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SftConfig {
    /// Peak learning rate.
    pub learning_rate: f32,
    /// How it decays.
    pub decay: Decay,
    /// Steps of linear warm-up.
    pub warmup_steps: usize,
    /// Examples a step.
    pub batch: usize,
    /// Passes over the examples.
    pub epochs: usize,
    /// Weight of a prompt token in the loss, an answer token having weight 1. 0 trains on answers only.
    pub prompt_weight: f32,
    /// Decoupled weight decay.
    pub weight_decay: f32,
    /// Largest norm of the gradient.
    pub max_grad_norm: f32,
    /// Tokens of one forward and backward pass; longer batches are split and their gradients added.
    pub micro_batch_tokens: usize,
}

impl Default for SftConfig {
    fn default() -> Self {
        Self {
            learning_rate: 1e-5,
            decay: Decay::Cosine,
            warmup_steps: 10,
            batch: 32,
            epochs: 3,
            prompt_weight: 0.0,
            weight_decay: 0.01,
            max_grad_norm: 1.0,
            micro_batch_tokens: 2048,
        }
    }
}

/// A prompt and its answer as one sequence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Example {
    /// Prompt and answer.
    pub ids: Vec<u32>,
    /// Tokens of the prompt.
    pub prompt_len: usize,
}

/// A run of supervised fine-tuning.
#[derive(Debug)]
pub struct SftTrainer {
    /// The model under training.
    pub model: Model,
    config: SftConfig,
    optimizer: AdamW,
    workspace: Workspace,
    grads: Vec<f32>,
    step: usize,
    total_steps: usize,
}

/// Figures of one step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SftMetrics {
    /// Weighted mean cross-entropy, nats a token.
    pub loss: f32,
    /// Norm of the gradient before clipping.
    pub grad_norm: f32,
    /// Learning rate.
    pub learning_rate: f32,
    /// Tokens that went through the model.
    pub tokens: usize,
}

impl SftTrainer {
    /// A run of `total_steps` steps.
    pub fn new(model: Model, config: SftConfig, total_steps: usize) -> Self {
        let adamw = AdamWConfig { weight_decay: config.weight_decay, ..AdamWConfig::default() };
        let optimizer = AdamW::new(adamw, model.layout.len);
        let grads = vec![0.0; model.layout.len];
        Self {
            model,
            config,
            optimizer,
            workspace: Workspace::new(Keep::Activations),
            grads,
            step: 0,
            total_steps,
        }
    }

    /// One update on these examples.
    pub fn step(&mut self, examples: &[&Example]) -> SftMetrics {
        let config = &self.config;
        let weight = |example: &Example, position: usize| {
            if position < example.prompt_len { config.prompt_weight } else { 1.0 }
        };
        let total: f32 = examples.iter().flat_map(|e| (1..e.ids.len()).map(move |i| weight(e, i))).sum();
        self.grads.fill(0.0);
        let (mut loss, mut tokens) = (0.0_f64, 0);
        let lengths: Vec<usize> = examples.iter().map(|e| e.ids.len() - 1).collect();
        for range in micro_batches(&lengths, config.micro_batch_tokens) {
            let group = &examples[range];
            let inputs: Vec<&[u32]> = group.iter().map(|e| &e.ids[..e.ids.len() - 1]).collect();
            let packed = Packed::new(&inputs);
            let (mut rows, mut targets, mut weights) = (Vec::new(), Vec::new(), Vec::new());
            for (example, start) in group.iter().zip(&packed.offsets) {
                for position in 1..example.ids.len() {
                    let w = weight(example, position);
                    if w > 0.0 {
                        rows.push(start + position - 1);
                        targets.push(example.ids[position]);
                        weights.push(w / total);
                    }
                }
            }
            forward(&self.model, &packed, &mut self.workspace);
            let mut d_hidden = vec![0.0; packed.ids.len() * self.model.config.hidden_size];
            let scores = head::backward(
                &self.model,
                self.workspace.hidden(),
                Rows { rows: &rows, targets: &targets, temperature: 1.0 },
                |i, _, _| TokenGradient { logprob: -weights[i], entropy: 0.0 },
                &mut d_hidden,
                &mut self.grads,
            );
            backward(&self.model, &packed, &mut self.workspace, &d_hidden, &mut self.grads);
            loss -= scores.logprobs.iter().zip(&weights).map(|(l, w)| f64::from(l * w)).sum::<f64>();
            tokens += packed.ids.len();
        }
        let rate = learning_rate(
            config.learning_rate,
            config.decay,
            config.warmup_steps,
            self.step,
            self.total_steps,
        );
        let grad_norm = clip_grad_norm(&mut [&mut self.grads], config.max_grad_norm);
        self.optimizer.step(&mut self.model.params, &self.grads, rate);
        self.step += 1;
        SftMetrics { loss: loss as f32, grad_norm, learning_rate: rate, tokens }
    }
}

/// Splits sequences of these lengths, in order, into runs of at most `max_tokens` tokens (a longer sequence alone).
pub(crate) fn micro_batches(lengths: &[usize], max_tokens: usize) -> Vec<std::ops::Range<usize>> {
    let mut ranges = Vec::new();
    let (mut start, mut tokens) = (0, 0);
    for (index, &length) in lengths.iter().enumerate() {
        if index > start && tokens + length > max_tokens {
            ranges.push(start..index);
            (start, tokens) = (index, 0);
        }
        tokens += length;
    }
    if start < lengths.len() {
        ranges.push(start..lengths.len());
    }
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn micro_batches_cover_everything_once() {
        assert_eq!(micro_batches(&[3, 3, 3, 9, 1, 1], 6), [0..2, 2..3, 3..4, 4..6]);
        assert!(micro_batches(&[], 6).is_empty());
        assert_eq!(micro_batches(&[10, 10], 6), [0..1, 1..2]);
    }
}
