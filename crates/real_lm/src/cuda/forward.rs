//! The forward pass: `crate::forward` on a device.
//!
//! The residual stream is f32; all that enters or leaves a product is bf16. What a half layer adds to the stream is not added
//! by the product but by the norm behind it, which reads the stream anyway.

use half::bf16;

use super::Error;
use super::device::{Device, Slice};
use super::model::Weights;
use super::ops;
use super::workspace::{Batch, Rope, Workspace};
use crate::heads::HeadShape;

/// Runs the model on the batch and leaves the hidden states, and what the workspace is to keep, in the workspace. After each
/// layer's projection `after_qkv` gets the layer's number and `qkv [T, (H + 2 G) D]`, with bias and turned.
pub(crate) fn forward(
    device: &dyn Device,
    weights: &Weights,
    batch: &Batch,
    rope: &Rope,
    workspace: &Workspace,
    after_qkv: &mut dyn FnMut(usize, Slice<bf16>) -> Result<(), Error>,
) -> Result<(), Error> {
    let config = &weights.config;
    let (eps, hidden, inner) = (config.rms_norm_eps, config.hidden_size, config.intermediate_size);
    let (shape, shared) = (HeadShape::of(config), workspace.shared(config));
    let mut stream = workspace.layer(0, config).input;
    ops::embed(device, batch.ids(), weights.part(&weights.layout.embed_tokens), stream, hidden)?;
    for (index, ranges) in weights.layout.layers.iter().enumerate() {
        let layer = workspace.layer(index, config);
        let update = (index > 0).then_some((shared.update, layer.input));
        let norm = (weights.part(&ranges.input_layernorm), eps);
        ops::rms_norm(device, stream, update, norm, shared.normed, layer.input_rstd)?;
        let qkv = (layer.qkv, config.qkv_size());
        ops::linear(device, shared.normed, weights.part(&ranges.qkv_proj), hidden, qkv, 1.0)?;
        ops::rotate(device, layer.qkv, weights.part(&ranges.qkv_bias), batch.angles(rope), shape)?;
        after_qkv(index, layer.qkv)?;
        ops::attention_forward(device, layer.qkv, batch.tiles(), shape, layer.o, layer.lse)?;
        let update = (shared.update, hidden);
        ops::linear(device, layer.o, weights.part(&ranges.o_proj), config.attention_size(), update, 1.0)?;

        let norm = (weights.part(&ranges.post_attention_layernorm), eps);
        let update = Some((shared.update, layer.middle));
        ops::rms_norm(device, layer.input, update, norm, shared.normed, layer.middle_rstd)?;
        let gate_up = (layer.gate_up, 2 * inner);
        ops::linear(device, shared.normed, weights.part(&ranges.gate_up_proj), hidden, gate_up, 1.0)?;
        ops::swiglu(device, layer.gate_up, inner, shared.activation)?;
        let update = (shared.update, hidden);
        ops::linear(device, shared.activation, weights.part(&ranges.down_proj), inner, update, 1.0)?;
        stream = layer.middle;
    }
    let norm = (weights.part(&weights.layout.norm), eps);
    let update = Some((shared.update, shared.final_input));
    ops::rms_norm(device, stream, update, norm, shared.hidden, shared.final_rstd)
}
