//! The backward pass: `crate::backward` on a device.
//!
//! The gradient of the residual stream is kept in f32, where each half layer adds to it, and rounded to bf16 as a factor of the
//! products. The gate and up projections become their own gradient in place: a batch can be taken backwards once.

use super::Error;
use super::device::Device;
use super::model::Weights;
use super::ops::{self, AttentionGradient, NormGradient};
use super::workspace::{Batch, Rope, Workspace};
use crate::heads::HeadShape;
use crate::parameters::LayerRanges;

/// Adds the gradients of all parameters, given that of the hidden states in `d_residual`.
pub(crate) fn backward(
    device: &dyn Device,
    weights: &Weights,
    batch: &Batch,
    rope: &Rope,
    workspace: &Workspace,
) -> Result<(), Error> {
    let config = &weights.config;
    let (shared, scratch) = (workspace.shared(config), workspace.backward(config));
    let norm = &weights.layout.norm;
    ops::rms_norm_backward(
        device,
        shared.final_input,
        weights.part(norm),
        shared.final_rstd,
        scratch.d_residual,
        NormGradient {
            dx: scratch.d_residual,
            dx_rounded: scratch.d_rounded,
            replace: true,
            d_weight: weights.gradient(norm),
            partial: scratch.partial,
        },
    )?;
    for (index, ranges) in weights.layout.layers.iter().enumerate().rev() {
        feed_forward_backward(device, weights, ranges, index, workspace)?;
        attention_backward(device, weights, ranges, (batch, rope), index, workspace)?;
    }
    let table = weights.gradient(&weights.layout.embed_tokens);
    ops::embedding_gradient(device, scratch.d_residual, batch.by_token(), table, config.hidden_size)
}

/// The second half of a layer: `d_residual` is the gradient of the layer's output and becomes that of its middle.
fn feed_forward_backward(
    device: &dyn Device,
    weights: &Weights,
    ranges: &LayerRanges,
    index: usize,
    workspace: &Workspace,
) -> Result<(), Error> {
    let config = &weights.config;
    let (hidden, inner) = (config.hidden_size, config.intermediate_size);
    let (layer, shared, scratch) =
        (workspace.layer(index, config), workspace.shared(config), workspace.backward(config));

    ops::swiglu(device, layer.gate_up, inner, shared.activation)?;
    let d_update = (scratch.d_rounded, hidden);
    let d_down = weights.gradient(&ranges.down_proj);
    ops::weight_gradient(device, d_update, shared.activation, hidden, d_down, 1.0)?;
    let down = weights.part(&ranges.down_proj);
    let d_activation = shared.activation;
    ops::input_gradient(device, d_update, down, hidden, d_activation, 1.0)?;
    ops::swiglu_backward(device, layer.gate_up, inner, d_activation)?;

    let norm = weights.part(&ranges.post_attention_layernorm);
    ops::renormalize(device, layer.middle, norm, layer.middle_rstd, shared.normed)?;
    let d_gate_up = (layer.gate_up, 2 * inner);
    let gradient = weights.gradient(&ranges.gate_up_proj);
    ops::weight_gradient(device, d_gate_up, shared.normed, 2 * inner, gradient, 1.0)?;
    let d_normed = shared.update;
    ops::input_gradient(device, d_gate_up, weights.part(&ranges.gate_up_proj), 2 * inner, d_normed, 1.0)?;
    let gradient = NormGradient {
        dx: scratch.d_residual,
        dx_rounded: scratch.d_rounded,
        replace: false,
        d_weight: weights.gradient(&ranges.post_attention_layernorm),
        partial: scratch.partial,
    };
    ops::rms_norm_backward(device, layer.middle, norm, layer.middle_rstd, d_normed, gradient)
}

/// The first half of a layer: `d_residual` is the gradient of its middle and becomes that of its input.
fn attention_backward(
    device: &dyn Device,
    weights: &Weights,
    ranges: &LayerRanges,
    (batch, rope): (&Batch, &Rope),
    index: usize,
    workspace: &Workspace,
) -> Result<(), Error> {
    let config = &weights.config;
    let (hidden, qkv_size, shape) = (config.hidden_size, config.qkv_size(), HeadShape::of(config));
    let (layer, shared, scratch) =
        (workspace.layer(index, config), workspace.shared(config), workspace.backward(config));

    let d_update = (scratch.d_rounded, hidden);
    ops::weight_gradient(device, d_update, layer.o, hidden, weights.gradient(&ranges.o_proj), 1.0)?;
    ops::input_gradient(device, d_update, weights.part(&ranges.o_proj), hidden, scratch.d_attention, 1.0)?;
    let gradient = AttentionGradient {
        qkv: layer.qkv,
        o: layer.o,
        lse: layer.lse,
        d_o: scratch.d_attention,
        delta: scratch.delta,
    };
    ops::attention_backward(device, gradient, batch.tiles(), shape, scratch.d_qkv)?;
    ops::rotate_back(device, scratch.d_qkv, batch.angles(rope), shape)?;
    if !ranges.qkv_bias.is_empty() {
        ops::column_sums(device, scratch.d_qkv, weights.gradient(&ranges.qkv_bias), scratch.partial)?;
    }

    let norm = weights.part(&ranges.input_layernorm);
    ops::renormalize(device, layer.input, norm, layer.input_rstd, shared.normed)?;
    let d_qkv = (scratch.d_qkv, qkv_size);
    let gradient = weights.gradient(&ranges.qkv_proj);
    ops::weight_gradient(device, d_qkv, shared.normed, qkv_size, gradient, 1.0)?;
    let d_normed = shared.update;
    ops::input_gradient(device, d_qkv, weights.part(&ranges.qkv_proj), qkv_size, d_normed, 1.0)?;
    let gradient = NormGradient {
        dx: scratch.d_residual,
        dx_rounded: scratch.d_rounded,
        replace: false,
        d_weight: weights.gradient(&ranges.input_layernorm),
        partial: scratch.partial,
    };
    ops::rms_norm_backward(device, layer.input, norm, layer.input_rstd, d_normed, gradient)
}
