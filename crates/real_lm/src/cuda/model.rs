//! A model's weights on a device, and what an optimiser keeps beside them.

use std::ops::Range;
use std::sync::Arc;

use half::bf16;
use rayon::prelude::*;

use super::device::{Buffer, Device, Slice};
use super::ops;
use super::{Error, Purpose};
use crate::adamw::Update;
use crate::config::ModelConfig;
use crate::parameters::{Layout, Model};
use crate::{AdamW, AdamWConfig};

/// The weights that products, norms and the embedding read: all parameters in bf16, in the layout of the parameters.
#[derive(Debug)]
pub(crate) struct Weights {
    pub(crate) config: ModelConfig,
    pub(crate) layout: Layout,
    rounded: Buffer<bf16>,
    training: Option<Training>,
}

/// What training needs beside: 16 bytes a parameter.
#[derive(Debug)]
struct Training {
    /// Parameters in full precision. A step of PPO moves most by less than bf16 can tell.
    masters: Buffer<f32>,
    grads: Buffer<f32>,
    first_moment: Buffer<f32>,
    second_moment: Buffer<f32>,
    square_sums: Buffer<f32>,
    steps: u32,
}

impl Weights {
    pub(crate) fn new(device: &Arc<dyn Device>, model: &Model, purpose: Purpose) -> Result<Self, Error> {
        supported(&model.config)?;
        let (config, layout, len) = (model.config.clone(), model.layout.clone(), model.params.len());
        let training = match purpose {
            Purpose::Scoring => None,
            Purpose::Training => Some(Training {
                masters: Buffer::new(device, len)?,
                grads: Buffer::zeros(device, len)?,
                first_moment: Buffer::zeros(device, len)?,
                second_moment: Buffer::zeros(device, len)?,
                square_sums: Buffer::new(device, ops::square_blocks(len))?,
                steps: 0,
            }),
        };
        let mut weights = Self { config, layout, rounded: Buffer::new(device, len)?, training };
        weights.load(&**device, &model.params)?;
        Ok(weights)
    }

    /// Replaces the parameters.
    pub(crate) fn load(&mut self, device: &dyn Device, params: &[f32]) -> Result<(), Error> {
        assert_eq!(params.len(), self.layout.len, "parameters of the same shape");
        if let Some(training) = &self.training {
            training.masters.upload(0, params)?;
            return ops::round_to_bf16(device, training.masters.first(params.len()), self.all());
        }
        let rounded: Vec<bf16> = params.par_iter().map(|&x| bf16::from_f32(x)).collect();
        self.rounded.upload(0, &rounded)
    }

    /// A copy of the parameters: those of full precision where there are any.
    pub(crate) fn to_model(&self) -> Result<Model, Error> {
        let params = match &self.training {
            Some(training) => training.masters.to_host(self.layout.len)?,
            None => self.rounded.to_host(self.layout.len)?.par_iter().map(|x| x.to_f32()).collect(),
        };
        Ok(Model { config: self.config.clone(), layout: self.layout.clone(), params })
    }

    /// One tensor.
    pub(crate) fn part(&self, range: &Range<usize>) -> Slice<bf16> {
        self.rounded.slice(range.clone())
    }

    fn all(&self) -> Slice<bf16> {
        self.rounded.first(self.layout.len)
    }

    /// The gradient of one tensor.
    ///
    /// # Panics
    /// If the weights are not for training.
    pub(crate) fn gradient(&self, range: &Range<usize>) -> Slice<f32> {
        self.for_training().grads.slice(range.clone())
    }

    /// A copy of all gradients.
    pub(crate) fn gradients(&self) -> Result<Vec<f32>, Error> {
        self.for_training().grads.to_host(self.layout.len)
    }

    fn for_training(&self) -> &Training {
        self.training.as_ref().expect("the engine was opened for training")
    }

    /// The norm of the gradients.
    pub(crate) fn grad_norm(&self, device: &dyn Device) -> Result<f32, Error> {
        let (training, blocks) = (self.for_training(), ops::square_blocks(self.layout.len));
        let sums = training.square_sums.first(blocks);
        ops::square_sums(device, training.grads.first(self.layout.len), sums)?;
        let sums = training.square_sums.to_host(blocks)?;
        Ok(sums.iter().map(|&x| f64::from(x)).sum::<f64>().sqrt() as f32)
    }

    /// Takes one step along the gradients times `factor`, and zeroes them.
    pub(crate) fn step(
        &mut self,
        device: &dyn Device,
        config: AdamWConfig,
        learning_rate: f32,
        factor: f32,
    ) -> Result<(), Error> {
        let (len, rounded) = (self.layout.len, self.all());
        let training = self.training.as_mut().expect("the engine was opened for training");
        training.steps += 1;
        let update = Update::new(config, training.steps, learning_rate);
        let state = [&training.masters, &training.grads, &training.first_moment, &training.second_moment]
            .map(|buffer| buffer.first(len));
        ops::adamw(device, state, rounded, factor, update)
    }

    pub(crate) fn zero_gradients(&self) -> Result<(), Error> {
        self.for_training().grads.zero()
    }

    /// A copy of the optimiser, for a checkpoint.
    pub(crate) fn to_optimizer(&self, config: AdamWConfig) -> Result<AdamW, Error> {
        let training = self.for_training();
        Ok(AdamW {
            config,
            step: training.steps,
            first_moment: training.first_moment.to_host(self.layout.len)?,
            second_moment: training.second_moment.to_host(self.layout.len)?,
        })
    }

    /// Goes on with an optimiser of a checkpoint.
    pub(crate) fn load_optimizer(&mut self, optimizer: &AdamW) -> Result<(), Error> {
        let training = self.training.as_mut().expect("the engine was opened for training");
        assert_eq!(optimizer.first_moment.len(), self.layout.len, "moments of the same shape");
        training.steps = optimizer.step;
        training.first_moment.upload(0, &optimizer.first_moment)?;
        training.second_moment.upload(0, &optimizer.second_moment)
    }
}

/// Whether the kernels take a model of this shape.
fn supported(config: &ModelConfig) -> Result<(), Error> {
    let no = |what: String| Err(Error::Unsupported(what));
    if ![32, 64, 128].contains(&config.head_dim) {
        return no(format!("head_dim is {}; kernels exist for 32, 64 and 128", config.head_dim));
    }
    for (name, size) in [("hidden_size", config.hidden_size), ("intermediate_size", config.intermediate_size)]
    {
        if !size.is_multiple_of(8) {
            return no(format!("{name} is {size}, not a multiple of 8"));
        }
    }
    // One block of the norm's backward pass keeps a number for every column in shared memory.
    if config.hidden_size > 16_384 {
        return no(format!("hidden_size is {}; the norms take at most 16384", config.hidden_size));
    }
    let group = config.num_attention_heads / config.num_key_value_heads;
    if group > 16 {
        return no(format!("{group} query heads share a key; decoding takes at most 16"));
    }
    Ok(())
}
