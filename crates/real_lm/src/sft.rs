//! Supervised fine-tuning: cross-entropy on the tokens of given answers.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::head::{self, Rows, TokenGradient};
use crate::lanes::{Lane, Lanes};
use crate::state::{self, StateFile};
use crate::{
    AdamW, AdamWConfig, Decay, Error, Keep, Model, Packed, backward, clip_grad_norm, forward, learning_rate,
};

/// The number of updates in a state file.
const STEPS: &str = "steps";

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
    /// β₂ of AdamW. Short runs from random weights want less than the usual 0.999: their first gradients are large, and an
    /// average over a thousand steps would hold every later step back.
    pub beta2: f32,
    /// Largest norm of the gradient.
    pub max_grad_norm: f32,
    /// Tokens of one forward and backward pass; longer batches are split and their gradients added.
    pub micro_batch_tokens: usize,
    /// Micro-batches that run side by side, each with activations and gradients of its own. More than one makes models of a
    /// few million parameters train faster.
    pub lanes: usize,
    /// Keep only the input of each layer and compute the rest again in the backward pass: a third more work, a fraction of the memory.
    pub recompute: bool,
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
            beta2: 0.999,
            max_grad_norm: 1.0,
            micro_batch_tokens: 2048,
            lanes: 1,
            recompute: false,
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
    lanes: Lanes,
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
        let adamw =
            AdamWConfig { beta2: config.beta2, weight_decay: config.weight_decay, ..AdamWConfig::default() };
        let optimizer = AdamW::new(adamw, model.layout.len);
        let lanes = Lanes::new(config.lanes, model.layout.len, Keep::for_training(config.recompute));
        Self { model, config, optimizer, lanes, step: 0, total_steps }
    }

    /// Updates made so far.
    pub fn steps(&self) -> usize {
        self.step
    }

    /// Writes model, optimiser and place in the run to a safetensors file.
    pub fn save_state(&self, path: &Path) -> Result<(), Error> {
        let buffers = vec![
            ("model", &self.model.params[..]),
            ("first_moment", &self.optimizer.first_moment),
            ("second_moment", &self.optimizer.second_moment),
        ];
        state::write(path, buffers, &BTreeMap::from([(STEPS, self.step.to_string())]))
    }

    /// Reads what [`Self::save_state`] wrote for a model of the same shape.
    pub fn load_state(&mut self, path: &Path) -> Result<(), Error> {
        let file = StateFile::open(path)?;
        let steps: u32 = file.number(STEPS)?;
        file.read(vec![
            ("model", &mut self.model.params[..]),
            ("first_moment", &mut self.optimizer.first_moment),
            ("second_moment", &mut self.optimizer.second_moment),
        ])?;
        self.optimizer.step = steps;
        self.step = steps as usize;
        Ok(())
    }

    /// One update on these examples.
    pub fn step(&mut self, examples: &[&Example]) -> SftMetrics {
        let config = &self.config;
        let total: f32 =
            examples.iter().map(|example| example.weights(config.prompt_weight).sum::<f32>()).sum();
        let lengths: Vec<usize> = examples.iter().map(|e| e.ids.len() - 1).collect();
        let model = &self.model;
        let (losses, grads) = self.lanes.accumulate(&lengths, config.micro_batch_tokens, |range, lane| {
            micro_batch(model, &examples[range], config.prompt_weight, total, lane)
        });
        let rate = learning_rate(
            config.learning_rate,
            config.decay,
            config.warmup_steps,
            self.step,
            self.total_steps,
        );
        let grad_norm = clip_grad_norm(&mut [grads], config.max_grad_norm);
        self.optimizer.step(&mut self.model.params, grads, rate);
        self.step += 1;
        SftMetrics {
            loss: losses.into_iter().sum::<f64>() as f32,
            grad_norm,
            learning_rate: rate,
            tokens: lengths.iter().sum(),
        }
    }
}

impl Example {
    /// The weight of every token but the first, which nothing predicts.
    fn weights(&self, prompt_weight: f32) -> impl Iterator<Item = f32> {
        (1..self.ids.len()).map(move |i| if i < self.prompt_len { prompt_weight } else { 1.0 })
    }
}

/// The part of the loss that these examples make of a batch of weight `total`; its gradient is added to the lane's.
fn micro_batch(model: &Model, examples: &[&Example], prompt_weight: f32, total: f32, lane: &mut Lane) -> f64 {
    let inputs: Vec<&[u32]> = examples.iter().map(|e| &e.ids[..e.ids.len() - 1]).collect();
    let packed = Packed::new(&inputs);
    let (mut rows, mut targets, mut weights) = (Vec::new(), Vec::new(), Vec::new());
    for (example, start) in examples.iter().zip(&packed.offsets) {
        for (position, weight) in
            example.weights(prompt_weight).enumerate().filter(|(_, weight)| *weight > 0.0)
        {
            rows.push(start + position);
            targets.push(example.ids[position + 1]);
            weights.push(weight / total);
        }
    }
    forward(model, &packed, &mut lane.workspace);
    let mut d_hidden = vec![0.0; packed.ids.len() * model.config.hidden_size];
    let scores = head::backward(
        model,
        lane.workspace.hidden(),
        Rows { rows: &rows, targets: &targets, temperature: 1.0 },
        |i, _, _| TokenGradient { logprob: -weights[i], entropy: 0.0 },
        &mut d_hidden,
        &mut lane.grads,
    );
    backward(model, &packed, &mut lane.workspace, &d_hidden, &mut lane.grads);
    -scores.logprobs.iter().zip(&weights).map(|(logprob, weight)| f64::from(logprob * weight)).sum::<f64>()
}
