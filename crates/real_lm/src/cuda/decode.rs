//! One token at a time for all slots at once, and the caches of their keys and values.
//!
//! A step is always the same launches on the same memory: what changes (tokens, lengths, who is finished, random streams) lies
//! on the device. So it is recorded once, and then 250 launches cost the host one. The drawn tokens stay on the device, for up
//! to [`LOOK`] steps, before the host looks.
//!
//! The last token of a prompt is not part of its prefill: it is the first input of decoding, which makes the step that
//! draws the first token one like all others.

use std::sync::Arc;

use half::bf16;

use super::Error;
use super::device::{Buffer, Device, Recording};
use super::head::stride;
use super::model::Weights;
use super::ops::{self, Draws, LayerCache, Logits, SlotState};
use super::workspace::Rope;
use crate::Sampling;
use crate::heads::HeadShape;

/// Steps that the device takes before the host looks at what was drawn.
pub(crate) const LOOK: usize = 16;

/// Stop tokens that a step looks for at most.
const STOP_TOKENS: usize = 64;

/// Caches and buffers for a number of slots.
#[derive(Debug)]
pub(crate) struct Decoder {
    device: Arc<dyn Device>,
    pub(crate) slots: usize,
    /// Tokens that each slot's cache can hold.
    pub(crate) capacity: usize,
    /// Keys and values of every layer.
    caches: Vec<[Buffer<bf16>; 2]>,
    state: State,
    buffers: Buffers,
    recording: Option<Recording>,
}

/// What the steps read and move on: see [`SlotState`] and [`Draws`].
#[derive(Debug)]
struct State {
    slots: Buffer<[u32; 4]>,
    ids: Buffer<u32>,
    lengths: Buffer<u32>,
    finished: Buffer<u32>,
    how: Buffer<u32>,
    stop_tokens: Buffer<u32>,
    drawn_ids: Buffer<u32>,
    drawn_logprobs: Buffer<f32>,
}

/// What the host knows of all slots when it looks.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen {
    /// Of each slot: number of its prompt, tokens drawn, tokens it may still draw, tokens drawn since the last look.
    pub(crate) slots: Vec<[u32; 4]>,
    /// The newest token of each slot.
    pub(crate) ids: Vec<u32>,
    /// Tokens in each cache.
    pub(crate) lengths: Vec<u32>,
    /// 1 where nothing is to be drawn.
    pub(crate) finished: Vec<u32>,
    /// `[LOOK, B]`
    pub(crate) drawn_ids: Vec<u32>,
    /// `[LOOK, B]`
    pub(crate) drawn_logprobs: Vec<f32>,
}

/// The activations of a step.
#[derive(Debug)]
struct Buffers {
    /// `[B, E]`
    residual: Buffer<f32>,
    /// `[B]`
    rstd: Buffer<f32>,
    /// `[B, E]`
    normed: Buffer<bf16>,
    /// `[B, E]`
    update: Buffer<bf16>,
    /// `[B, (H + 2 G) D]`
    qkv: Buffer<bf16>,
    /// `[B, H D]`
    attention: Buffer<bf16>,
    shares: Buffer<f32>,
    /// `[B, 2 I]`
    gate_up: Buffer<bf16>,
    /// `[B, I]`
    activation: Buffer<bf16>,
    /// `[B, stride]`
    logits: Buffer<f32>,
}

impl Decoder {
    pub(crate) fn new(
        device: &Arc<dyn Device>,
        weights: &Weights,
        slots: usize,
        capacity: usize,
    ) -> Result<Self, Error> {
        let (config, shape) = (&weights.config, HeadShape::of(&weights.config));
        let cache = || Buffer::zeros(device, slots * shape.kv_heads * capacity * shape.dim);
        let caches: Result<Vec<_>, Error> =
            (0..config.num_hidden_layers).map(|_| Ok([cache()?, cache()?])).collect();
        let buffers = Buffers {
            residual: Buffer::zeros(device, slots * config.hidden_size)?,
            rstd: Buffer::zeros(device, slots)?,
            normed: Buffer::zeros(device, slots * config.hidden_size)?,
            update: Buffer::zeros(device, slots * config.hidden_size)?,
            qkv: Buffer::zeros(device, slots * config.qkv_size())?,
            attention: Buffer::zeros(device, slots * config.attention_size())?,
            shares: Buffer::zeros(device, ops::share_elements(slots, capacity, shape))?,
            gate_up: Buffer::zeros(device, slots * 2 * config.intermediate_size)?,
            activation: Buffer::zeros(device, slots * config.intermediate_size)?,
            logits: Buffer::zeros(device, slots * stride(config.vocab_size))?,
        };
        let state = State {
            slots: Buffer::zeros(device, slots)?,
            ids: Buffer::zeros(device, slots)?,
            lengths: Buffer::zeros(device, slots)?,
            finished: Buffer::from_host(device, &vec![1; slots])?,
            how: Buffer::zeros(device, 6)?,
            stop_tokens: Buffer::zeros(device, STOP_TOKENS)?,
            drawn_ids: Buffer::zeros(device, LOOK * slots)?,
            drawn_logprobs: Buffer::zeros(device, LOOK * slots)?,
        };
        Ok(Self { device: device.clone(), slots, capacity, caches: caches?, state, buffers, recording: None })
    }

    /// Sets how tokens are drawn from now on.
    pub(crate) fn set_sampling(&mut self, sampling: &Sampling) -> Result<(), Error> {
        let stops = &sampling.stop_tokens;
        if stops.len() > STOP_TOKENS {
            return Err(Error::Unsupported(format!(
                "{} stop tokens; {STOP_TOKENS} is the most",
                stops.len()
            )));
        }
        let inverse = if sampling.temperature > 0.0 { sampling.temperature.recip() } else { 0.0 };
        let top_k = sampling.top_k.map_or(0, |k| k.clamp(1, u32::MAX as usize) as u32);
        let seed = [sampling.seed as u32, (sampling.seed >> 32) as u32];
        let how = [inverse.to_bits(), sampling.top_p.to_bits(), top_k, seed[0], seed[1], stops.len() as u32];
        self.state.how.upload(0, &how)?;
        self.state.stop_tokens.upload(0, stops)
    }

    /// Tells the device what the slots are to do.
    pub(crate) fn upload(&self, seen: &Seen) -> Result<(), Error> {
        self.state.slots.upload(0, &seen.slots)?;
        self.state.ids.upload(0, &seen.ids)?;
        self.state.lengths.upload(0, &seen.lengths)?;
        self.state.finished.upload(0, &seen.finished)
    }

    /// Waits, and reads what the slots have done.
    pub(crate) fn look(&self) -> Result<Seen, Error> {
        Ok(Seen {
            slots: self.state.slots.to_host(self.slots)?,
            ids: self.state.ids.to_host(self.slots)?,
            lengths: self.state.lengths.to_host(self.slots)?,
            finished: self.state.finished.to_host(self.slots)?,
            drawn_ids: self.state.drawn_ids.to_host(LOOK * self.slots)?,
            drawn_logprobs: self.state.drawn_logprobs.to_host(LOOK * self.slots)?,
        })
    }

    /// The cache of a layer.
    pub(crate) fn cache(&self, layer: usize) -> LayerCache {
        let [keys, values] = &self.caches[layer];
        LayerCache {
            keys: keys.first(keys.len()),
            values: values.first(values.len()),
            capacity: self.capacity,
        }
    }

    /// Starts some steps.
    pub(crate) fn steps(
        &mut self,
        device: &dyn Device,
        weights: &Weights,
        rope: &Rope,
        count: usize,
    ) -> Result<(), Error> {
        assert!(count <= LOOK, "there is room for {LOOK} draws");
        let mut left = count;
        if self.recording.is_none() && left > 0 {
            // The first step runs as it is: libraries prepare themselves then, which cannot be recorded.
            self.step(device, weights, rope)?;
            left -= 1;
            self.recording = Some(device.record(&mut || self.step(device, weights, rope))?);
        }
        if let Some(recording) = self.recording {
            for _ in 0..left {
                device.replay(recording)?;
            }
        }
        Ok(())
    }

    /// Forgets the recorded step, which reads the tables of angles where they were.
    pub(crate) fn forget_recording(&mut self) {
        if let Some(recording) = self.recording.take() {
            self.device.forget(recording);
        }
    }

    fn step(&self, device: &dyn Device, weights: &Weights, rope: &Rope) -> Result<(), Error> {
        let (config, layout, slots) = (&weights.config, &weights.layout, self.slots);
        let (hidden, inner, eps) = (config.hidden_size, config.intermediate_size, config.rms_norm_eps);
        let (residual, rstd) = (self.buffers.residual.first(slots * hidden), self.buffers.rstd.first(slots));
        let normed = self.buffers.normed.first(slots * hidden);
        let update = self.buffers.update.first(slots * hidden);
        let gate_up = self.buffers.gate_up.first(slots * 2 * inner);
        let activation = self.buffers.activation.first(slots * inner);
        let state = self.slot_state();
        ops::embed(device, state.ids, weights.part(&layout.embed_tokens), residual, hidden)?;
        for (index, ranges) in layout.layers.iter().enumerate() {
            let norm = (weights.part(&ranges.input_layernorm), eps);
            let added = (index > 0).then_some((update, residual));
            ops::rms_norm(device, residual, added, norm, normed, rstd)?;
            self.attention(device, weights, rope, index)?;
            let norm = (weights.part(&ranges.post_attention_layernorm), eps);
            ops::rms_norm(device, residual, Some((update, residual)), norm, normed, rstd)?;
            let wide = (gate_up, 2 * inner);
            ops::linear(device, normed, weights.part(&ranges.gate_up_proj), hidden, wide, 1.0)?;
            ops::swiglu(device, gate_up, inner, activation)?;
            let down = weights.part(&ranges.down_proj);
            ops::linear(device, activation, down, inner, (update, hidden), 1.0)?;
        }
        let norm = (weights.part(&layout.norm), eps);
        ops::rms_norm(device, residual, Some((update, residual)), norm, normed, rstd)?;
        let (vocabulary, stride) = (config.vocab_size, stride(config.vocab_size));
        let values = self.buffers.logits.first(slots * stride);
        ops::linear(device, normed, weights.part(&layout.lm_head), hidden, (values, stride), 1.0)?;
        let draws = Draws {
            how: self.state.how.first(6),
            stop_tokens: self.state.stop_tokens.first(STOP_TOKENS),
            ids: self.state.drawn_ids.first(LOOK * slots),
            logprobs: self.state.drawn_logprobs.first(LOOK * slots),
        };
        ops::draw(device, Logits { values, vocabulary, stride }, draws, state)
    }

    /// From `normed` to `update`.
    fn attention(
        &self,
        device: &dyn Device,
        weights: &Weights,
        rope: &Rope,
        index: usize,
    ) -> Result<(), Error> {
        let (config, ranges) = (&weights.config, &weights.layout.layers[index]);
        let (slots, shape, cache) = (self.slots, HeadShape::of(config), self.cache(index));
        let SlotState { lengths, finished, .. } = self.slot_state();
        let normed = self.buffers.normed.first(slots * config.hidden_size);
        let qkv = self.buffers.qkv.first(slots * config.qkv_size());
        let attention = self.buffers.attention.first(slots * config.attention_size());
        let update = self.buffers.update.first(slots * config.hidden_size);
        let shares = self.buffers.shares.first(self.buffers.shares.len());
        let qkv_proj = weights.part(&ranges.qkv_proj);
        ops::linear(device, normed, qkv_proj, config.hidden_size, (qkv, config.qkv_size()), 1.0)?;
        ops::rotate(device, qkv, weights.part(&ranges.qkv_bias), rope.angles(lengths), shape)?;
        ops::append_cache(device, qkv, lengths, cache, shape)?;
        ops::decode_attention(device, qkv, [lengths, finished], cache, shape, attention, shares)?;
        let o_proj = weights.part(&ranges.o_proj);
        ops::linear(device, attention, o_proj, config.attention_size(), (update, config.hidden_size), 1.0)
    }

    fn slot_state(&self) -> SlotState {
        SlotState {
            slots: self.state.slots.first(self.slots),
            ids: self.state.ids.first(self.slots),
            lengths: self.state.lengths.first(self.slots),
            finished: self.state.finished.first(self.slots),
        }
    }
}

impl Drop for Decoder {
    fn drop(&mut self) {
        self.forget_recording();
    }
}

impl Seen {
    /// Nobody in any slot.
    pub(crate) fn idle(slots: usize) -> Self {
        Self {
            slots: vec![[0; 4]; slots],
            ids: vec![0; slots],
            lengths: vec![0; slots],
            finished: vec![1; slots],
            drawn_ids: Vec::new(),
            drawn_logprobs: Vec::new(),
        }
    }
}
