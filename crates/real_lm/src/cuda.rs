//! The engine on an NVIDIA GPU: the passes of [`forward()`](crate::forward()), [`backward()`](crate::backward()), [`head`](crate::head)
//! and [`generate()`](crate::generate()), and the optimiser, with everything kept on the device.
//!
//! Nothing of CUDA is needed to build, and one binary runs everywhere: the driver, cuBLAS and the compiler NVRTC are
//! loaded when an [`Engine`] is opened, and an [`Error`] says what is missing. The kernels (`cuda/kernels/`) are compiled for the device at
//! hand and kept in the user's cache folder.
//!
//! | kept in f32 | kept in bf16 |
//! |---|---|
//! | parameters, gradients, moments | a copy of the parameters, which all passes read |
//! | the residual stream and its gradient | all other activations |
//! | sums, softmax, norms, losses | factors and results of products, which sum in f32 |
//!
//! No kernel adds by atomics, so the same batch gives the same bits every time.
//!
//! ```no_run
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let (model, batch, rows, targets) = (real_lm::Checkpoint::load("model")?.model, real_lm::Packed::new(&[[1, 2, 3]]), [0, 1], [2, 3]);
//! use real_lm::cuda::{Engine, Plan, Purpose};
//! use real_lm::head::{Rows, TokenGradient};
//! use real_lm::{AdamWConfig, Keep, clip_factor};
//!
//! let plan =
//!     Plan { purpose: Purpose::Training, micro_batch_tokens: 16_384, decode_sequences: 256, decode_tokens: 1024 };
//! let mut engine = Engine::open(&model, &plan)?;
//! engine.forward(&batch, Keep::Activations)?;
//! let scored = Rows { rows: &rows, targets: &targets, temperature: 1.0 };
//! let cross_entropy = |_, _, _| TokenGradient { logprob: -0.5, entropy: 0.0 };
//! engine.accumulate(scored, cross_entropy, None)?;
//! let factor = clip_factor(engine.grad_norm()?, 1.0);
//! engine.step(AdamWConfig::default(), 1e-5, factor)?;
//! let trained = engine.to_model()?;
//! # Ok(())
//! # }
//! ```

mod backward;
mod checks;
mod decode;
mod device;
#[cfg(test)]
mod emulated;
mod error;
mod forward;
mod generate;
mod gpu;
mod head;
mod kernels;
mod libraries;
mod measure;
mod memory;
mod model;
mod nvrtc;
mod ops;
#[cfg(test)]
mod tests;
mod workspace;

use std::sync::Arc;

pub use checks::{Check, check_operations};
pub use error::Error;
pub use generate::PREFILL_TOKENS;
pub use measure::{Measurement, measure_device};
pub use memory::{Memory, Plan};

use crate::head::{Rows, TokenGradient, TokenScores};
use crate::packed::Packed;
use crate::parameters::Model;
use crate::value::{ValueGradient, ValueHead};
use crate::{AdamW, AdamWConfig, Keep};

use decode::Decoder;
use device::{Buffer, Device};
use head::Head;
use model::Weights;
use workspace::{Batch, Rope, Workspace};

/// The first GPU, by its name, if everything that an [`Engine`] needs is there.
pub fn probe() -> Result<String, Error> {
    Ok(gpu::Gpu::open(0)?.description())
}

/// What an engine is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Scoring and generating: 2 bytes a parameter.
    Scoring,
    /// Training too: 18 bytes a parameter.
    Training,
}

/// A model on a device, with all that its passes need.
#[derive(Debug)]
pub struct Engine {
    // In this order they are dropped: what lies on the device before the device.
    decoder: Option<Decoder>,
    values: Values,
    head: Head,
    workspace: Workspace,
    batch: Batch,
    rope: Rope,
    weights: Weights,
    /// Whether the last forward pass can still be taken backwards.
    can_go_back: bool,
    device: Arc<dyn Device>,
}

/// The buffers of the value head.
#[derive(Debug)]
struct Values {
    params: Buffer<f32>,
    rows: Buffer<u32>,
    /// The values of the rows, or a loss's derivatives by them.
    numbers: Buffer<f32>,
    /// `[E]`
    gradient: Buffer<f32>,
    partial: Buffer<f32>,
}

impl Engine {
    /// Puts a model on the first GPU and takes the memory that the plan needs, if there is as much.
    pub fn open(model: &Model, plan: &Plan) -> Result<Self, Error> {
        Self::planned(Arc::new(gpu::Gpu::open(0)?), model, plan)
    }

    /// Puts another model on the same device, such as the frozen reference beside the policy. Both share one stream: what is
    /// asked of one waits for what was asked of the other.
    pub fn beside(&self, model: &Model, plan: &Plan) -> Result<Self, Error> {
        Self::planned(self.device.clone(), model, plan)
    }

    fn planned(device: Arc<dyn Device>, model: &Model, plan: &Plan) -> Result<Self, Error> {
        plan.check(&model.config, device.memory()?.0)?;
        let mut engine = Self::on(device, model, plan.purpose)?;
        let keep = if plan.purpose == Purpose::Training { Keep::Activations } else { Keep::Nothing };
        engine.workspace.prepare(&model.config, plan.micro_batch_tokens, keep)?;
        if plan.decode_sequences > 0 {
            let [slots, capacity] = generate::rounded(plan.decode_sequences, plan.decode_tokens);
            engine.decoder = Some(Decoder::new(&engine.device, &engine.weights, slots, capacity)?);
        }
        Ok(engine)
    }

    fn on(device: Arc<dyn Device>, model: &Model, purpose: Purpose) -> Result<Self, Error> {
        let rows_at_once = head::rows_at_once(model.config.vocab_size);
        Ok(Self {
            decoder: None,
            values: Values {
                params: Buffer::empty(&device),
                rows: Buffer::empty(&device),
                numbers: Buffer::empty(&device),
                gradient: Buffer::empty(&device),
                partial: Buffer::empty(&device),
            },
            head: Head::empty(&device, rows_at_once),
            workspace: Workspace::empty(&device),
            batch: Batch::empty(&device),
            rope: Rope::empty(&device),
            weights: Weights::new(&device, model, purpose)?,
            can_go_back: false,
            device,
        })
    }

    /// The device, for people.
    pub fn device(&self) -> String {
        self.device.description()
    }

    /// Waits until the device has done all that it was asked for.
    pub fn synchronize(&self) -> Result<(), Error> {
        self.device.synchronize()
    }

    /// Runs the model on a batch, for [`Engine::score`], [`Engine::values`] and, if activations are kept,
    /// [`Engine::accumulate`].
    pub fn forward(&mut self, packed: &Packed, keep: Keep) -> Result<(), Error> {
        self.prepare(packed, keep)?;
        let (device, weights) = (&*self.device, &self.weights);
        forward::forward(device, weights, &self.batch, &self.rope, &self.workspace, &mut |_, _| Ok(()))?;
        self.can_go_back = keep == Keep::Activations;
        Ok(())
    }

    fn prepare(&mut self, packed: &Packed, keep: Keep) -> Result<(), Error> {
        self.can_go_back = false;
        self.batch.set(packed, keep)?;
        self.workspace.prepare(&self.weights.config, packed.tokens(), keep)?;
        if self.rope.prepare(&self.weights.config, packed.longest())?
            && let Some(decoder) = &mut self.decoder
        {
            decoder.forget_recording();
        }
        Ok(())
    }

    /// Log-probabilities and entropies of some rows of the last batch.
    pub fn score(&mut self, scored: Rows) -> Result<TokenScores, Error> {
        let hidden = self.workspace.shared(&self.weights.config).hidden;
        self.head.score(&*self.device, &self.weights, hidden, scored)
    }

    /// What a value head says of some rows of the last batch.
    pub fn values(&mut self, critic: &ValueHead, rows: &[usize]) -> Result<Vec<f32>, Error> {
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        self.upload_values(critic, rows)?;
        self.values.numbers.grow(rows.len())?;
        let hidden = self.workspace.shared(&self.weights.config).hidden;
        let Values { params, rows: chosen, numbers, .. } = &self.values;
        let (params, chosen) = (params.first(critic.params.len()), chosen.first(rows.len()));
        ops::row_values(&*self.device, hidden, chosen, params, numbers.first(rows.len()))?;
        numbers.to_host(rows.len())
    }

    fn upload_values(&mut self, critic: &ValueHead, rows: &[usize]) -> Result<(), Error> {
        assert_eq!(critic.params.len(), self.weights.config.hidden_size + 1, "a head on this model's states");
        let rows: Vec<u32> = rows.iter().map(|&row| row as u32).collect();
        self.values.params.set(&critic.params)?;
        self.values.rows.set(&rows)
    }

    /// Adds the gradients of a loss over the last batch to those of the parameters, and returns the scores it is a function of.
    ///
    /// `gradient` gets the index of a row among the scored ones, its log-probability and its entropy, and says how the loss
    /// depends on both; `values` says the same of the values, if there are any. Rows ascend.
    ///
    /// # Panics
    /// If the last forward pass kept no activations, or was taken backwards already, or rows do not ascend.
    pub fn accumulate(
        &mut self,
        scored: Rows,
        gradient: impl Fn(usize, f32, f32) -> TokenGradient,
        values: Option<ValueGradient>,
    ) -> Result<TokenScores, Error> {
        assert!(
            self.can_go_back,
            "a forward pass that keeps activations comes first, once for each pass back"
        );
        self.can_go_back = false;
        let (shared, scratch) =
            (self.workspace.shared(&self.weights.config), self.workspace.backward(&self.weights.config));
        let d_hidden = scratch.d_residual;
        self.device.zero(d_hidden.address, d_hidden.len * size_of::<f32>())?;
        let (device, weights) = (&*self.device, &self.weights);
        let scores = self.head.backward(device, weights, shared.hidden, scored, &gradient, d_hidden)?;
        if let Some(values) = values {
            self.values_backward(values)?;
        }
        backward::backward(&*self.device, &self.weights, &self.batch, &self.rope, &self.workspace)?;
        Ok(scores)
    }

    /// Adds the gradient of a loss over the last batch to that of a value head alone.
    pub fn accumulate_head(&mut self, values: ValueGradient) -> Result<(), Error> {
        self.values_backward(ValueGradient { into_trunk: false, ..values })
    }

    fn values_backward(&mut self, gradient: ValueGradient) -> Result<(), Error> {
        let ValueGradient { critic, rows, d_values, into_trunk, grads } = gradient;
        assert!(rows.is_sorted_by(|a, b| a < b), "rows of values ascend");
        assert_eq!(rows.len(), d_values.len(), "a derivative for every row");
        if rows.is_empty() {
            return Ok(());
        }
        self.upload_values(critic, rows)?;
        let (width, bias) = (self.weights.config.hidden_size, d_values.iter().sum::<f32>());
        let Values { params, rows: chosen, numbers, gradient, partial } = &mut self.values;
        numbers.set(d_values)?;
        gradient.set(&vec![0.0; width])?;
        partial.grow(ops::partial_rows(rows.len()) * width)?;
        let (device, hidden) = (&*self.device, self.workspace.shared(&self.weights.config).hidden);
        let (chosen, d_values) = (chosen.first(rows.len()), numbers.first(rows.len()));
        let pairs = Some((chosen, d_values));
        ops::weighted_sums(device, hidden, pairs, gradient.first(width), partial.first(partial.len()))?;
        if into_trunk {
            let d_hidden = self.workspace.backward(&self.weights.config).d_residual;
            ops::values_backward(device, params.first(width + 1), chosen, d_values, d_hidden)?;
        }
        for (grad, more) in grads.iter_mut().zip(gradient.to_host(width)?) {
            *grad += more;
        }
        grads[width] += bias;
        Ok(())
    }

    /// The Euclidean norm of the gradients.
    pub fn grad_norm(&self) -> Result<f32, Error> {
        self.weights.grad_norm(&*self.device)
    }

    /// Takes one AdamW step along the gradients times `factor` (see [`clip_factor`](crate::clip_factor)), and zeroes them.
    pub fn step(&mut self, config: AdamWConfig, learning_rate: f32, factor: f32) -> Result<(), Error> {
        self.weights.step(&*self.device, config, learning_rate, factor)
    }

    /// Forgets the gradients.
    pub fn zero_gradients(&mut self) -> Result<(), Error> {
        self.weights.zero_gradients()
    }

    /// Number of parameters.
    pub fn parameters(&self) -> usize {
        self.weights.layout.len
    }

    /// A copy of the gradients, in the layout of the parameters.
    pub fn gradients(&self) -> Result<Vec<f32>, Error> {
        self.weights.gradients()
    }

    /// A copy of the model.
    pub fn to_model(&self) -> Result<Model, Error> {
        self.weights.to_model()
    }

    /// Goes on with other parameters of the same shape.
    pub fn load_model(&mut self, model: &Model) -> Result<(), Error> {
        assert_eq!(model.config, self.weights.config, "a model of the same shape");
        self.weights.load(&*self.device, &model.params)
    }

    /// A copy of the optimiser, for a checkpoint.
    pub fn to_optimizer(&self, config: AdamWConfig) -> Result<AdamW, Error> {
        self.weights.to_optimizer(config)
    }

    /// Goes on with an optimiser of a checkpoint.
    pub fn load_optimizer(&mut self, optimizer: &AdamW) -> Result<(), Error> {
        self.weights.load_optimizer(optimizer)
    }
}
