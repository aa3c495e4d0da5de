//! Supervised fine-tuning: cross-entropy on the tokens of given answers.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::backend::Passes;
use crate::cuda::{Engine, Purpose};
use crate::head::{Rows, TokenGradient};
use crate::lanes::Lanes;
use crate::learner::{Learner, refuse_recomputing};
use crate::memory::Decoding;
use crate::state::{self, StateFile};
use crate::{AdamWConfig, Decay, Error, Keep, Model, Packed, learning_rate};

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

impl SftConfig {
    fn adamw(&self) -> AdamWConfig {
        AdamWConfig { beta2: self.beta2, weight_decay: self.weight_decay, ..AdamWConfig::default() }
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
    learner: Learner<'static>,
    config: SftConfig,
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
    /// A run of `total_steps` steps on the CPU.
    pub fn new(model: Model, config: SftConfig, total_steps: usize) -> Self {
        let lanes = Lanes::new(config.lanes, model.layout.len, Keep::for_training(config.recompute));
        let learner = Learner::on_cpu(model, config.adamw());
        Self { learner, config, lanes, step: 0, total_steps }
    }

    /// The same on the first GPU. `longest` is the length of the longest example.
    pub fn on_cuda(
        model: &Model,
        config: SftConfig,
        total_steps: usize,
        longest: usize,
    ) -> Result<Self, Error> {
        let tokens = config.micro_batch_tokens.max(longest);
        let engine = Engine::open(model, &Decoding::none().on_gpu(Purpose::Training, tokens))?;
        Self::on_engine(engine, config, total_steps)
    }

    pub(crate) fn on_engine(engine: Engine, config: SftConfig, total_steps: usize) -> Result<Self, Error> {
        refuse_recomputing(config.recompute, "sft")?;
        let learner = Learner::on_gpu(engine, config.adamw());
        Ok(Self { learner, config, lanes: Lanes::none(), step: 0, total_steps })
    }

    /// The model as it is now; a copy where it lies on a GPU.
    pub fn model(&self) -> Result<Cow<'_, Model>, Error> {
        self.learner.model()
    }

    /// Updates made so far.
    pub fn steps(&self) -> usize {
        self.step
    }

    /// The model, at the end.
    pub fn into_model(self) -> Result<Model, Error> {
        self.learner.into_model()
    }

    /// Writes model, optimiser and place in the run to a safetensors file.
    pub fn save_state(&self, path: &Path) -> Result<(), Error> {
        let (model, optimizer) = (self.learner.model()?, self.learner.optimizer()?);
        let buffers = vec![
            ("model", &model.params[..]),
            ("first_moment", &optimizer.first_moment),
            ("second_moment", &optimizer.second_moment),
        ];
        state::write(path, buffers, &BTreeMap::from([(STEPS, self.step.to_string())]))
    }

    /// Reads what [`Self::save_state`] wrote for a model of the same shape.
    pub fn load_state(&mut self, path: &Path) -> Result<(), Error> {
        let file = StateFile::open(path)?;
        let steps: u32 = file.number(STEPS)?;
        let (mut model, mut optimizer) = (self.learner.model()?.into_owned(), self.learner.new_optimizer());
        file.read(vec![
            ("model", &mut model.params[..]),
            ("first_moment", &mut optimizer.first_moment),
            ("second_moment", &mut optimizer.second_moment),
        ])?;
        optimizer.step = steps;
        self.learner.restore(model, optimizer)?;
        self.step = steps as usize;
        Ok(())
    }

    /// One update on these examples.
    pub fn step(&mut self, examples: &[&Example]) -> Result<SftMetrics, Error> {
        let Self { learner, config, lanes, step, total_steps } = self;
        let total: f32 =
            examples.iter().map(|example| example.weights(config.prompt_weight).sum::<f32>()).sum();
        let lengths: Vec<usize> = examples.iter().map(|e| e.ids.len() - 1).collect();
        let pass = |range: Range<usize>, passes: &mut dyn Passes| {
            micro_batch(&examples[range], config.prompt_weight, total, passes)
        };
        let losses = learner.learning(lanes).each(&lengths, config.micro_batch_tokens, pass)?;
        let rate =
            learning_rate(config.learning_rate, config.decay, config.warmup_steps, *step, *total_steps);
        let grad_norm = learner.clip_and_step(lanes, &mut [], config.max_grad_norm, rate)?;
        *step += 1;
        Ok(SftMetrics {
            loss: losses.into_iter().sum::<f64>() as f32,
            grad_norm,
            learning_rate: rate,
            tokens: lengths.iter().sum(),
        })
    }
}

impl Example {
    /// The weight of every token but the first, which nothing predicts.
    fn weights(&self, prompt_weight: f32) -> impl Iterator<Item = f32> {
        (1..self.ids.len()).map(move |i| if i < self.prompt_len { prompt_weight } else { 1.0 })
    }
}

/// The part of the loss that these examples make of a batch of weight `total`; its gradient is accumulated.
fn micro_batch(
    examples: &[&Example],
    prompt_weight: f32,
    total: f32,
    passes: &mut dyn Passes,
) -> Result<f64, Error> {
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
    passes.forward(&packed)?;
    let scored = Rows { rows: &rows, targets: &targets, temperature: 1.0 };
    let slope = |i: usize, _: f32, _: f32| TokenGradient { logprob: -weights[i], entropy: 0.0 };
    let scores = passes.accumulate(&packed, scored, &slope, None)?;
    let terms = scores.logprobs.iter().zip(&weights);
    Ok(-terms.map(|(logprob, weight)| f64::from(logprob * weight)).sum::<f64>())
}
