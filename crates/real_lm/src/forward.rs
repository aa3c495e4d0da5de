//! The forward pass, and the buffers it leaves for the backward pass.
//!
//! A layer turns its input x into
//!
//! ```text
//! middle = x + Wo attention(split(Wqkv norm(x)))          output = middle + Wdown swiglu(Wgate_up norm(middle))
//! ```
//!
//! Kept of it are x, q, k, v, the attention's outputs and log-sum-exps, middle, and the gate and up projections; the
//! normalised inputs and the activation are cheaper to compute again than to keep. The final norm gives the hidden states,
//! which is where the model ends here: what happens to them is the business of [`head`](crate::head) and
//! [`ValueHead`](crate::ValueHead).

use rayon::prelude::*;

use crate::attention;
use crate::config::ModelConfig;
use crate::heads::{HeadShape, heads_to_rows, split_qkv};
use crate::ops::matmul::{Into, Matrix, Threads, matmul};
use crate::ops::norm::rms_norm;
use crate::ops::rope::RopeTable;
use crate::ops::swiglu::swiglu;
use crate::packed::Packed;
use crate::parameters::{LayerRanges, Model};

/// Buffers of the passes, reused from batch to batch. They grow to the largest batch seen.
#[derive(Debug)]
pub struct Workspace {
    keep: Keep,
    /// One entry a layer with [`Keep::Activations`], otherwise a single one.
    pub(crate) layers: Vec<LayerActivations>,
    /// The input of each layer with [`Keep::Inputs`]: `[T, E]`
    pub(crate) inputs: Vec<Vec<f32>>,
    /// Input of the next layer, in the end of the final norm: `[T, E]`
    pub(crate) residual: Vec<f32>,
    /// `[T]`
    pub(crate) final_rstd: Vec<f32>,
    /// `[T, E]`
    hidden: Vec<f32>,
    pub(crate) rope: RopeTable,
    pub(crate) scratch: Scratch,
}

/// What a workspace keeps of a forward pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// All that the backward pass needs.
    Activations,
    /// The input of each layer. The backward pass runs each layer forward once more, a third more work for a fraction of the memory, and
    /// gets the same bits.
    Inputs,
    /// Only the hidden states: for scoring, with the memory of one layer.
    Nothing,
}

impl Keep {
    pub(crate) fn for_training(recompute: bool) -> Self {
        if recompute { Self::Inputs } else { Self::Activations }
    }
}

/// What one layer leaves for its backward pass.
#[derive(Debug, Default)]
pub(crate) struct LayerActivations {
    /// `[T, E]`
    pub(crate) input: Vec<f32>,
    /// `[T]`
    pub(crate) input_rstd: Vec<f32>,
    /// H heads, kept by heads.
    pub(crate) q: Vec<f32>,
    /// G heads, kept by heads.
    pub(crate) k: Vec<f32>,
    /// G heads, kept by heads.
    pub(crate) v: Vec<f32>,
    /// Outputs of attention, H heads, kept by heads.
    pub(crate) o: Vec<f32>,
    /// `[H, n]` for each sequence.
    pub(crate) lse: Vec<f32>,
    /// `[T, E]`
    pub(crate) middle: Vec<f32>,
    /// `[T]`
    pub(crate) middle_rstd: Vec<f32>,
    /// `[T, 2 I]`
    pub(crate) gate_up: Vec<f32>,
}

/// Buffers whose content does not outlive a layer.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    /// `[T, E]`
    pub(crate) normed: Vec<f32>,
    /// `[T, (H + 2 G) D]`
    pub(crate) qkv: Vec<f32>,
    /// `[T, H D]`
    pub(crate) attention: Vec<f32>,
    /// `[T, I]`
    pub(crate) activation: Vec<f32>,
    /// Backward only: `[T, 2 I]`
    pub(crate) d_gate_up: Vec<f32>,
    /// Backward only: `[T, E]`
    pub(crate) d_normed: Vec<f32>,
    /// Backward only: `[T, E]`
    pub(crate) d_residual: Vec<f32>,
    /// Backward only, kept by heads: gradients of o, q, k, v.
    pub(crate) d_heads: [Vec<f32>; 4],
}

impl Workspace {
    /// An empty workspace.
    pub fn new(keep: Keep) -> Self {
        Self {
            keep,
            layers: Vec::new(),
            inputs: Vec::new(),
            residual: Vec::new(),
            final_rstd: Vec::new(),
            hidden: Vec::new(),
            rope: RopeTable::default(),
            scratch: Scratch::default(),
        }
    }

    /// Hidden states after the final norm, of the last forward pass: `[T, E]`.
    pub fn hidden(&self) -> &[f32] {
        &self.hidden
    }

    /// What it keeps.
    pub(crate) fn keep(&self) -> Keep {
        self.keep
    }

    /// Bytes of all buffers, for the largest batch so far.
    pub fn bytes(&self) -> usize {
        let scratch = &self.scratch;
        let buffers = [&self.residual, &self.final_rstd, &self.hidden]
            .into_iter()
            .chain(&self.inputs)
            .chain(self.layers.iter().flat_map(LayerActivations::buffers))
            .chain([&scratch.normed, &scratch.qkv, &scratch.attention, &scratch.activation])
            .chain([&scratch.d_gate_up, &scratch.d_normed, &scratch.d_residual])
            .chain(&scratch.d_heads);
        buffers.map(|buffer| buffer.capacity() * size_of::<f32>()).sum()
    }

    fn prepare(&mut self, config: &ModelConfig, packed: &Packed) {
        let tokens = packed.tokens();
        let hidden = tokens * config.hidden_size;
        let layers = if self.keep == Keep::Activations { config.num_hidden_layers } else { 1 };
        self.inputs
            .resize_with(if self.keep == Keep::Inputs { config.num_hidden_layers } else { 0 }, Vec::new);
        self.layers.resize_with(layers, LayerActivations::default);
        for layer in &mut self.layers {
            layer.prepare(config, tokens);
        }
        self.residual.resize(hidden, 0.0);
        self.hidden.resize(hidden, 0.0);
        self.final_rstd.resize(tokens, 0.0);
        self.scratch.normed.resize(hidden, 0.0);
        self.scratch.qkv.resize(tokens * config.qkv_size(), 0.0);
        self.scratch.attention.resize(tokens * config.attention_size(), 0.0);
        self.scratch.activation.resize(tokens * config.intermediate_size, 0.0);
        self.rope.prepare(config.head_dim, config.rope_theta, packed.longest());
    }
}

impl LayerActivations {
    fn buffers(&self) -> [&Vec<f32>; 10] {
        let Self { input, input_rstd, q, k, v, o, lse, middle, middle_rstd, gate_up } = self;
        [input, input_rstd, q, k, v, o, lse, middle, middle_rstd, gate_up]
    }

    fn prepare(&mut self, config: &ModelConfig, tokens: usize) {
        let kv = config.num_key_value_heads * config.head_dim;
        self.input.resize(tokens * config.hidden_size, 0.0);
        self.input_rstd.resize(tokens, 0.0);
        self.q.resize(tokens * config.attention_size(), 0.0);
        self.k.resize(tokens * kv, 0.0);
        self.v.resize(tokens * kv, 0.0);
        self.o.resize(tokens * config.attention_size(), 0.0);
        self.lse.resize(tokens * config.num_attention_heads, 0.0);
        self.middle.resize(tokens * config.hidden_size, 0.0);
        self.middle_rstd.resize(tokens, 0.0);
        self.gate_up.resize(tokens * 2 * config.intermediate_size, 0.0);
    }
}

/// Runs the model on a batch; [`Workspace::hidden`] then has the hidden states.
pub fn forward(model: &Model, packed: &Packed, workspace: &mut Workspace) {
    forward_with(model, packed, workspace, |_, _| ());
}

/// The forward pass, showing each layer's index and activations to `after_layer`.
pub(crate) fn forward_with(
    model: &Model,
    packed: &Packed,
    workspace: &mut Workspace,
    mut after_layer: impl FnMut(usize, &LayerActivations) + Send,
) {
    let config = &model.config;
    workspace.prepare(config, packed);
    // Entering the thread pool once is cheaper than entering it for every operation.
    rayon::scope(|_| {
        embed(model, &packed.ids, &mut workspace.residual);
        let kept = workspace.layers.len();
        for (index, ranges) in model.layout.layers.iter().enumerate() {
            let layer = &mut workspace.layers[index % kept];
            std::mem::swap(&mut layer.input, &mut workspace.residual);
            layer_forward(
                model,
                ranges,
                packed,
                &workspace.rope,
                layer,
                &mut workspace.scratch,
                &mut workspace.residual,
            );
            if let Some(input) = workspace.inputs.get_mut(index) {
                input.clone_from(&layer.input);
            }
            after_layer(index, layer);
        }
        let norm = &model.params[model.layout.norm.clone()];
        rms_norm(
            &workspace.residual,
            norm,
            config.rms_norm_eps,
            &mut workspace.hidden,
            &mut workspace.final_rstd,
        );
    });
}

/// Rows of the embedding: `[T, E]`.
pub(crate) fn embed(model: &Model, ids: &[u32], rows: &mut [f32]) {
    let width = model.config.hidden_size;
    let table = &model.params[model.layout.embed_tokens.clone()];
    rows.par_chunks_mut(width).with_min_len(64).zip(ids).for_each(|(row, &id)| {
        row.copy_from_slice(&table[id as usize * width..][..width]);
    });
}

/// From `layer.input` to `output`, leaving the activations in `layer`.
pub(crate) fn layer_forward(
    model: &Model,
    ranges: &LayerRanges,
    packed: &Packed,
    rope: &RopeTable,
    layer: &mut LayerActivations,
    scratch: &mut Scratch,
    output: &mut [f32],
) {
    let (config, params) = (&model.config, &model.params);
    let (eps, shape) = (config.rms_norm_eps, HeadShape::of(config));
    let LayerActivations { input, input_rstd, q, k, v, o, lse, middle, middle_rstd, gate_up } = layer;

    rms_norm(input, &params[ranges.input_layernorm.clone()], eps, &mut scratch.normed, input_rstd);
    linear(
        &scratch.normed,
        &params[ranges.qkv_proj.clone()],
        Into::Replace,
        config.hidden_size,
        &mut scratch.qkv,
    );
    split_qkv(&scratch.qkv, &params[ranges.qkv_bias.clone()], packed, shape, rope, [q, k, v]);
    attention::forward([q, k, v], packed, shape, o, lse);
    heads_to_rows(o, packed, shape, &mut scratch.attention);
    middle.copy_from_slice(input);
    linear(&scratch.attention, &params[ranges.o_proj.clone()], Into::Add, config.attention_size(), middle);

    rms_norm(middle, &params[ranges.post_attention_layernorm.clone()], eps, &mut scratch.normed, middle_rstd);
    linear(&scratch.normed, &params[ranges.gate_up_proj.clone()], Into::Replace, config.hidden_size, gate_up);
    swiglu(gate_up, config.intermediate_size, &mut scratch.activation);
    output.copy_from_slice(middle);
    linear(
        &scratch.activation,
        &params[ranges.down_proj.clone()],
        Into::Add,
        config.intermediate_size,
        output,
    );
}

/// `y [T, out] = x [T, width] W'`, or added to y, for the weights `W [out, width]`.
fn linear(x: &[f32], weight: &[f32], into: Into, width: usize, y: &mut [f32]) {
    let x = Matrix::new(x, x.len() / width, width);
    let weight = Matrix::new(weight, weight.len() / width, width);
    matmul(y, into, 1.0, x, weight.t(), Threads::All);
}
