//! The backward pass: the forward pass of `forward.rs` read from its end to its start.
//!
//! Each step knows its own gradient in closed form (see the modules of the operations), so nothing is recorded: the
//! gradient of the residual stream is one buffer that each half layer adds to, and the gradients of the parameters are added
//! to a flat buffer in the layout of the parameters. Calling it for several batches before an update accumulates.

use crate::attention;
use crate::forward::{Keep, LayerActivations, Scratch, Workspace, layer_forward};
use crate::heads::{HeadShape, heads_to_rows, join_qkv, rows_to_heads};
use crate::ops::matmul::{Into, Matrix, Threads, matmul};
use crate::ops::norm::{renormalize, rms_norm_backward};
use crate::ops::rope::RopeTable;
use crate::ops::simd::add;
use crate::ops::swiglu::{swiglu, swiglu_backward};
use crate::packed::Packed;
use crate::parameters::{LayerRanges, Model};

/// Adds to `grads` the gradients of all parameters for the batch of the last forward pass in this workspace, given the
/// gradient of its hidden states, `d_hidden [T, E]`.
///
/// # Panics
/// If the workspace keeps no activations or its last batch was another.
pub fn backward(
    model: &Model,
    packed: &Packed,
    workspace: &mut Workspace,
    d_hidden: &[f32],
    grads: &mut [f32],
) {
    assert!(workspace.keep() != Keep::Nothing, "the backward pass needs a workspace that keeps activations");
    assert_eq!(workspace.hidden().len(), d_hidden.len(), "a gradient for every hidden state");
    assert_eq!(grads.len(), model.layout.len, "gradients have the layout of the parameters");
    workspace.scratch.prepare(model, packed);
    rayon::scope(|_| {
        let Workspace { layers, inputs, residual, final_rstd, rope, scratch, .. } = workspace;
        let norm = model.layout.norm.clone();
        scratch.d_residual.fill(0.0);
        rms_norm_backward(
            residual,
            &model.params[norm.clone()],
            final_rstd,
            d_hidden,
            &mut scratch.d_residual,
            &mut grads[norm],
        );
        for (index, ranges) in model.layout.layers.iter().enumerate().rev() {
            let kept = layers.len();
            let layer = &mut layers[index % kept];
            if let Some(input) = inputs.get(index) {
                layer.input.copy_from_slice(input);
                // The end of the residual stream has done its part and takes the output, which nobody needs.
                layer_forward(model, ranges, packed, rope, layer, scratch, residual);
            }
            feed_forward_backward(model, ranges, layer, scratch, grads);
            attention_backward(model, ranges, packed, rope, layer, scratch, grads);
        }
        let width = model.config.hidden_size;
        let table = &mut grads[model.layout.embed_tokens.clone()];
        for (row, &id) in scratch.d_residual.chunks_exact(width).zip(&packed.ids) {
            add(&mut table[id as usize * width..][..width], row);
        }
    });
}

impl Scratch {
    fn prepare(&mut self, model: &Model, packed: &Packed) {
        let (config, tokens) = (&model.config, packed.tokens());
        let kv = config.num_key_value_heads * config.head_dim;
        self.d_gate_up.resize(tokens * 2 * config.intermediate_size, 0.0);
        self.d_normed.resize(tokens * config.hidden_size, 0.0);
        self.d_residual.resize(tokens * config.hidden_size, 0.0);
        let sizes = [config.attention_size(), config.attention_size(), kv, kv];
        for (buffer, size) in self.d_heads.iter_mut().zip(sizes) {
            buffer.resize(tokens * size, 0.0);
        }
    }
}

/// The second half of a layer: `d_residual` is the gradient of the layer's output and becomes that of its middle.
fn feed_forward_backward(
    model: &Model,
    ranges: &LayerRanges,
    layer: &LayerActivations,
    scratch: &mut Scratch,
    grads: &mut [f32],
) {
    let (config, params) = (&model.config, &model.params);
    let (hidden, inner) = (config.hidden_size, config.intermediate_size);
    let norm = ranges.post_attention_layernorm.clone();
    let Scratch { normed, activation, d_gate_up, d_normed, d_residual, .. } = scratch;

    swiglu(&layer.gate_up, inner, activation);
    weight_gradient(d_residual, activation, hidden, &mut grads[ranges.down_proj.clone()]);
    let d_activation = activation;
    input_gradient(d_residual, &params[ranges.down_proj.clone()], hidden, d_activation);
    swiglu_backward(&layer.gate_up, inner, d_activation, d_gate_up);

    renormalize(&layer.middle, &params[norm.clone()], &layer.middle_rstd, normed);
    weight_gradient(d_gate_up, normed, 2 * inner, &mut grads[ranges.gate_up_proj.clone()]);
    input_gradient(d_gate_up, &params[ranges.gate_up_proj.clone()], 2 * inner, d_normed);
    let weight = &params[norm.clone()];
    rms_norm_backward(&layer.middle, weight, &layer.middle_rstd, d_normed, d_residual, &mut grads[norm]);
}

/// The first half of a layer: `d_residual` is the gradient of its middle and becomes that of its input.
fn attention_backward(
    model: &Model,
    ranges: &LayerRanges,
    packed: &Packed,
    rope: &RopeTable,
    layer: &LayerActivations,
    scratch: &mut Scratch,
    grads: &mut [f32],
) {
    let (config, params) = (&model.config, &model.params);
    let (hidden, shape) = (config.hidden_size, HeadShape::of(config));
    let norm = ranges.input_layernorm.clone();
    let Scratch { normed, qkv, attention, d_normed, d_residual, d_heads, .. } = scratch;
    let [d_o, dq, dk, dv] = d_heads;

    heads_to_rows(&layer.o, packed, shape, attention);
    weight_gradient(d_residual, attention, hidden, &mut grads[ranges.o_proj.clone()]);
    let d_attention = attention;
    input_gradient(d_residual, &params[ranges.o_proj.clone()], hidden, d_attention);
    rows_to_heads(d_attention, packed, shape, d_o);
    attention::backward(
        [&layer.q, &layer.k, &layer.v, &layer.o, &layer.lse, d_o],
        packed,
        shape,
        [&mut *dq, &mut *dk, &mut *dv],
    );
    let d_qkv = qkv;
    join_qkv([dq, dk, dv], packed, shape, rope, d_qkv);
    for row in d_qkv.chunks_exact(config.qkv_size()) {
        add(&mut grads[ranges.qkv_bias.clone()], row);
    }

    renormalize(&layer.input, &params[norm.clone()], &layer.input_rstd, normed);
    weight_gradient(d_qkv, normed, config.qkv_size(), &mut grads[ranges.qkv_proj.clone()]);
    input_gradient(d_qkv, &params[ranges.qkv_proj.clone()], config.qkv_size(), d_normed);
    let weight = &params[norm.clone()];
    rms_norm_backward(&layer.input, weight, &layer.input_rstd, d_normed, d_residual, &mut grads[norm]);
}

/// `dW [out, in] += dy' x` for `dy [T, out]` and `x [T, in]`.
fn weight_gradient(dy: &[f32], x: &[f32], out: usize, d_weight: &mut [f32]) {
    let tokens = dy.len() / out;
    let (dy, x) = (Matrix::new(dy, tokens, out), Matrix::new(x, tokens, x.len() / tokens));
    matmul(d_weight, Into::Add, 1.0, dy.t(), x, Threads::All);
}

/// `dx [T, in] = dy W` for `dy [T, out]` and the weights `W [out, in]`.
fn input_gradient(dy: &[f32], weight: &[f32], out: usize, dx: &mut [f32]) {
    let (dy, weight) = (Matrix::new(dy, dy.len() / out, out), Matrix::new(weight, out, weight.len() / out));
    matmul(dx, Into::Replace, 1.0, dy, weight, Threads::All);
}
