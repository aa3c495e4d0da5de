//! A model that learns: its weights, its gradients and the moments of its optimiser, in this machine's memory or on a GPU.

use std::borrow::Cow;
use std::ops::ControlFlow;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::backend::Backend;
use crate::block_model::Weights;
use crate::cuda::{self, Engine};
use crate::generate::{Generated, generate};
use crate::lanes::Lanes;
use crate::{AdamW, AdamWConfig, Error, Keep, Lora, Model, Sampling, clip_factor, clip_grad_norm, grad_norm};

/// What a model is computed with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Device {
    /// This machine's processor, in f32.
    #[default]
    Cpu,
    /// The first NVIDIA GPU, in bf16 with sums and weights in f32 (see [`cuda`]).
    Cuda,
}

impl FromStr for Device {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "cpu" => Ok(Self::Cpu),
            "cuda" => Ok(Self::Cuda),
            _ => Err(format!("`{name}` is no device: there are `cpu` and `cuda`")),
        }
    }
}

/// What writes completions.
#[derive(Debug)]
pub enum Writer<'a> {
    /// Weights in this machine's memory.
    Cpu(Weights<'a>),
    /// A model on a GPU.
    Gpu(&'a mut Engine),
}

impl Writer<'_> {
    /// Completes every prompt: see [`generate()`](crate::generate()).
    pub fn generate(
        &mut self,
        prompts: &[Vec<u32>],
        sampling: &Sampling,
        on_token: impl FnMut(usize, &[u32]) -> ControlFlow<()>,
        on_finished: impl FnMut(usize, &Generated),
    ) -> Result<Vec<Generated>, Error> {
        match self {
            Self::Cpu(weights) => Ok(generate(*weights, prompts, sampling, on_token, on_finished)),
            Self::Gpu(engine) => Ok(engine.generate(prompts, sampling, on_token, on_finished)?),
        }
    }
}

impl<'a, T: Into<Weights<'a>>> From<T> for Writer<'a> {
    fn from(weights: T) -> Self {
        Self::Cpu(weights.into())
    }
}

/// A model that learns.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "a run has one or two")]
pub(crate) enum Learner<'a> {
    Cpu {
        model: Model,
        /// Of the model's parameters, or of its adaptation's.
        optimizer: AdamW,
        /// What is trained in place of the model's own weights, and what it is added to.
        lora: Option<(Lora, &'a Model)>,
    },
    Gpu {
        engine: Engine,
        adamw: AdamWConfig,
    },
}

impl<'a> Learner<'a> {
    pub(crate) fn on_cpu(model: Model, adamw: AdamWConfig) -> Self {
        Self::Cpu { optimizer: AdamW::new(adamw, model.layout.len), model, lora: None }
    }

    pub(crate) fn on_gpu(engine: Engine, adamw: AdamWConfig) -> Self {
        Self::Gpu { engine, adamw }
    }

    /// Trains a low-rank adaptation of `base`.
    ///
    /// # Panics
    /// On a GPU, which trains all weights.
    pub(crate) fn with_lora(self, lora: Lora, base: &'a Model) -> Self {
        let Self::Cpu { mut model, optimizer, .. } = self else {
            panic!("adaptations are trained on the CPU")
        };
        let optimizer = AdamW::new(optimizer.config, lora.params.len());
        lora.merge(base, &mut model);
        Self::Cpu { model, optimizer, lora: Some((lora, base)) }
    }

    /// For passes that look and change nothing.
    pub(crate) fn looking<'p>(&'p mut self, lanes: &'p mut Lanes) -> Backend<'p> {
        self.backend(lanes, Keep::Nothing)
    }

    /// For passes that add to the gradients of one step. Those of a step before are gone.
    pub(crate) fn learning<'p>(&'p mut self, lanes: &'p mut Lanes) -> Backend<'p> {
        lanes.zero_gradients();
        self.backend(lanes, Keep::Activations)
    }

    /// On the CPU, the lanes know what to keep.
    fn backend<'p>(&'p mut self, lanes: &'p mut Lanes, keep: Keep) -> Backend<'p> {
        match self {
            Self::Cpu { model, .. } => Backend::Cpu { model, lanes },
            Self::Gpu { engine, .. } => Backend::Gpu { engine, keep },
        }
    }

    /// Clips the gradients accumulated last, together with those `beside` that belong to parameters elsewhere, and takes one step with
    /// them. Returns the norm they had; where it is no finite number, nothing moves.
    pub(crate) fn clip_and_step(
        &mut self,
        lanes: &mut Lanes,
        beside: &mut [f32],
        max_norm: f32,
        rate: f32,
    ) -> Result<f32, Error> {
        match self {
            Self::Cpu { model, optimizer, lora } => {
                let grads = lanes.sum_gradients();
                let mut thin = lora.as_ref().map(|(lora, _)| lora.gradients(grads));
                let grads = thin.as_mut().unwrap_or(grads);
                let norm = clip_grad_norm(&mut [beside, grads], max_norm);
                if norm.is_finite() {
                    let params = lora.as_mut().map_or(&mut model.params, |(lora, _)| &mut lora.params);
                    optimizer.step(params, grads, rate);
                    if let Some((lora, base)) = lora {
                        lora.merge(base, model);
                    }
                }
                Ok(norm)
            }
            Self::Gpu { engine, adamw } => {
                let norm = engine.grad_norm()?.hypot(grad_norm(&[beside]));
                if norm.is_finite() {
                    let factor = clip_factor(norm, max_norm);
                    for grad in beside {
                        *grad *= factor;
                    }
                    engine.step(*adamw, rate, factor)?;
                } else {
                    engine.zero_gradients()?;
                }
                Ok(norm)
            }
        }
    }

    /// The model as it is now; a copy where it lies on a GPU.
    pub(crate) fn model(&self) -> Result<Cow<'_, Model>, Error> {
        Ok(match self {
            Self::Cpu { model, .. } => Cow::Borrowed(model),
            Self::Gpu { engine, .. } => Cow::Owned(engine.to_model()?),
        })
    }

    /// The model, which then learns no more.
    pub(crate) fn into_model(self) -> Result<Model, Error> {
        match self {
            Self::Cpu { model, .. } => Ok(model),
            Self::Gpu { engine, .. } => Ok(engine.to_model()?),
        }
    }

    /// The optimiser as it is now; a copy where it lies on a GPU.
    pub(crate) fn optimizer(&self) -> Result<Cow<'_, AdamW>, Error> {
        Ok(match self {
            Self::Cpu { optimizer, .. } => Cow::Borrowed(optimizer),
            Self::Gpu { engine, adamw } => Cow::Owned(engine.to_optimizer(*adamw)?),
        })
    }

    /// An optimiser like this one's, before its first step.
    pub(crate) fn new_optimizer(&self) -> AdamW {
        match self {
            Self::Cpu { optimizer, .. } => AdamW::new(optimizer.config, optimizer.first_moment.len()),
            Self::Gpu { engine, adamw } => AdamW::new(*adamw, engine.parameters()),
        }
    }

    /// What is trained in place of the model's own weights, if anything.
    pub(crate) fn lora(&self) -> Option<&Lora> {
        match self {
            Self::Cpu { lora, .. } => lora.as_ref().map(|(lora, _)| lora),
            Self::Gpu { .. } => None,
        }
    }

    pub(crate) fn lora_mut(&mut self) -> Option<&mut Lora> {
        match self {
            Self::Cpu { lora, .. } => lora.as_mut().map(|(lora, _)| lora),
            Self::Gpu { .. } => None,
        }
    }

    /// Goes on with other weights of the same shape, and the optimiser that belongs to them.
    pub(crate) fn restore(&mut self, weights: Model, moments: AdamW) -> Result<(), Error> {
        match self {
            Self::Cpu { model, optimizer, .. } => (*model, *optimizer) = (weights, moments),
            Self::Gpu { engine, .. } => {
                engine.load_model(&weights)?;
                engine.load_optimizer(&moments)?;
            }
        }
        Ok(())
    }

    pub(crate) fn writer(&mut self) -> Writer<'_> {
        match self {
            Self::Cpu { model, .. } => Writer::Cpu((&*model).into()),
            Self::Gpu { engine, .. } => Writer::Gpu(engine),
        }
    }
}

/// A model that stays as it is.
#[derive(Debug)]
pub(crate) enum Frozen<'a> {
    Cpu(&'a Model),
    Gpu(Box<Engine>),
}

impl Frozen<'_> {
    /// For passes that look.
    pub(crate) fn looking<'p>(&'p mut self, lanes: &'p mut Lanes) -> Backend<'p> {
        match self {
            Self::Cpu(model) => Backend::Cpu { model, lanes },
            Self::Gpu(engine) => Backend::Gpu { engine, keep: Keep::Nothing },
        }
    }
}

/// Refuses to recompute activations on a GPU, which keeps them; `section` has the settings.
pub(crate) fn refuse_recomputing(recompute: bool, section: &str) -> Result<(), Error> {
    if !recompute {
        return Ok(());
    }
    Err(Error::Gpu(cuda::Error::Unsupported(format!(
        "activations are kept there; set {section}.recompute = false, and fewer {section}.micro_batch_tokens if memory is short"
    ))))
}
