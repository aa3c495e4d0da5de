//! One token at a time for many sequences at once, with the keys and values of earlier tokens cached.
//!
//! A prompt goes through the forward pass of training, alone, and leaves its keys and values in a [`Cache`]; after that each
//! step takes one token of every live sequence through the model. What a sequence computes does not depend on its neighbours,
//! to the bit: see [`few_rows`](crate::ops::few_rows). With weights in blocks a prompt goes through the same steps, some tokens of it at a time.

use rayon::prelude::*;

use crate::block_model::{LayerView, Weights};
use crate::config::ModelConfig;
use crate::forward::{Keep, Workspace, forward_with};
use crate::heads::HeadShape;
use crate::ops::few_rows::product;
use crate::ops::norm::rms_norm;
use crate::ops::rope::{RopeTable, Turn};
use crate::ops::simd::{add, exp, kernel, max, sum_of};
use crate::ops::swiglu::swiglu;
use crate::packed::Packed;
use crate::parameters::Model;

/// Tokens of a prompt that go through weights in blocks at once.
const PREFILL_TOKENS: usize = 32;

/// Keys and values of the tokens of one sequence so far.
#[derive(Debug, Clone)]
pub(crate) struct Cache {
    /// Tokens.
    len: usize,
    /// For each layer and KV head: `[len, D]` keys and `[len, D]` values.
    heads: Vec<[Vec<f32>; 2]>,
}

/// The buffers of decoding.
#[derive(Debug)]
pub(crate) struct Decoder<'a> {
    weights: Weights<'a>,
    config: &'a ModelConfig,
    prefill: Workspace,
    rope: RopeTable,
    /// `[B, E]`
    residual: Vec<f32>,
    /// `[B, E]`
    normed: Vec<f32>,
    /// `[B]`
    rstd: Vec<f32>,
    /// `[B, (H + 2 G) D]`
    qkv: Vec<f32>,
    /// `[B, H D]`
    attention: Vec<f32>,
    /// `[B, E]`
    update: Vec<f32>,
    /// `[B, 2 I]`
    gate_up: Vec<f32>,
    /// `[B, I]`
    activation: Vec<f32>,
    /// `[B, V]`
    logits: Vec<f32>,
}

impl<'a> Decoder<'a> {
    /// A decoder for sequences of up to `longest` tokens.
    pub(crate) fn new(weights: Weights<'a>, longest: usize) -> Self {
        let config = weights.config();
        let mut rope = RopeTable::default();
        rope.prepare(config.head_dim, config.rope_theta, longest);
        Self {
            weights,
            config,
            prefill: Workspace::new(Keep::Nothing),
            rope,
            residual: Vec::new(),
            normed: Vec::new(),
            rstd: Vec::new(),
            qkv: Vec::new(),
            attention: Vec::new(),
            update: Vec::new(),
            gate_up: Vec::new(),
            activation: Vec::new(),
            logits: Vec::new(),
        }
    }

    /// Takes a prompt in: its cache, and the logits of its next token, `[V]`.
    pub(crate) fn prefill(&mut self, prompt: &[u32]) -> (Cache, Vec<f32>) {
        match self.weights {
            Weights::Full(model) => self.prefill_at_once(model, prompt),
            Weights::Blocks(_) => self.prefill_in_steps(prompt),
        }
    }

    fn prefill_at_once(&mut self, model: &Model, prompt: &[u32]) -> (Cache, Vec<f32>) {
        let config = self.config;
        let mut cache = Cache { len: prompt.len(), heads: Vec::new() };
        forward_with(model, &Packed::new(&[prompt]), &mut self.prefill, |_, layer| {
            let size = prompt.len() * config.head_dim;
            let heads = layer.k.chunks_exact(size).zip(layer.v.chunks_exact(size));
            cache.heads.extend(heads.map(|(k, v)| [k.to_vec(), v.to_vec()]));
        });
        let last = &self.prefill.hidden()[(prompt.len() - 1) * config.hidden_size..];
        let mut logits = vec![0.0; config.vocab_size];
        self.weights.lm_head().product(last, config.hidden_size, &mut logits);
        (cache, logits)
    }

    fn prefill_in_steps(&mut self, prompt: &[u32]) -> (Cache, Vec<f32>) {
        let heads = self.config.num_hidden_layers * self.config.num_key_value_heads;
        let mut cache = Cache { len: 0, heads: vec![[Vec::new(), Vec::new()]; heads] };
        for ids in prompt.chunks(PREFILL_TOKENS) {
            self.layers(ids, &mut [&mut cache]);
            cache.len += ids.len();
        }
        let last = self.residual.len() - self.config.hidden_size;
        let residual = self.residual[last..].to_vec();
        self.head(&residual, 1);
        (cache, self.logits.clone())
    }

    /// Takes one more token of each sequence in; the logits of their next tokens, `[B, V]`.
    pub(crate) fn step(&mut self, ids: &[u32], caches: &mut [&mut Cache]) -> &mut [f32] {
        rayon::scope(|_| {
            self.layers(ids, caches);
            for cache in caches {
                cache.len += 1;
            }
            let residual = std::mem::take(&mut self.residual);
            self.head(&residual, ids.len());
            self.residual = residual;
        });
        &mut self.logits
    }

    /// Takes tokens through all layers: one of each sequence, or several of a single one.
    fn layers(&mut self, ids: &[u32], caches: &mut [&mut Cache]) {
        self.resize(ids.len());
        self.weights.embed(ids, &mut self.residual);
        for index in 0..self.config.num_hidden_layers {
            let layer = self.weights.layer(index);
            self.attention_step(index, &layer, caches);
            self.feed_forward_step(&layer);
        }
    }

    /// The logits behind the last layer's outputs of `batch` tokens.
    fn head(&mut self, residual: &[f32], batch: usize) {
        let hidden = batch * self.config.hidden_size;
        self.logits.resize(batch * self.config.vocab_size, 0.0);
        let (normed, rstd) = (&mut self.normed[..hidden], &mut self.rstd[..batch]);
        rms_norm(residual, self.weights.norm(), self.config.rms_norm_eps, normed, rstd);
        self.weights.lm_head().product(normed, self.config.hidden_size, &mut self.logits);
    }

    fn resize(&mut self, batch: usize) {
        let config = self.config;
        self.residual.resize(batch * config.hidden_size, 0.0);
        self.normed.resize(batch * config.hidden_size, 0.0);
        self.rstd.resize(batch, 0.0);
        self.qkv.resize(batch * config.qkv_size(), 0.0);
        self.attention.resize(batch * config.attention_size(), 0.0);
        self.update.resize(batch * config.hidden_size, 0.0);
        self.gate_up.resize(batch * 2 * config.intermediate_size, 0.0);
        self.activation.resize(batch * config.intermediate_size, 0.0);
    }

    fn attention_step(&mut self, index: usize, layer: &LayerView, caches: &mut [&mut Cache]) {
        let config = self.config;
        let (shape, rope) = (HeadShape::of(config), &self.rope);
        rms_norm(
            &self.residual,
            layer.input_layernorm,
            config.rms_norm_eps,
            &mut self.normed,
            &mut self.rstd,
        );
        layer.qkv_proj.product(&self.normed, config.hidden_size, &mut self.qkv);
        let tokens = self.rstd.len() / caches.len();
        self.qkv
            .par_chunks_exact_mut(tokens * config.qkv_size())
            .zip(self.attention.par_chunks_exact_mut(tokens * config.attention_size()))
            .zip(caches.par_iter_mut())
            .for_each(|((qkv, out), cache)| {
                let first = cache.len;
                let heads = &mut cache.heads[index * shape.kv_heads..(index + 1) * shape.kv_heads];
                let rows = qkv
                    .chunks_exact_mut(config.qkv_size())
                    .zip(out.chunks_exact_mut(config.attention_size()));
                for (position, (qkv, out)) in (first..).zip(rows) {
                    if !layer.qkv_bias.is_empty() {
                        add(qkv, layer.qkv_bias);
                    }
                    attend(qkv, shape, rope, position, heads, out);
                }
            });
        layer.o_proj.product(&self.attention, config.attention_size(), &mut self.update);
        add(&mut self.residual, &self.update);
    }

    fn feed_forward_step(&mut self, layer: &LayerView) {
        let config = self.config;
        let norm = layer.post_attention_layernorm;
        rms_norm(&self.residual, norm, config.rms_norm_eps, &mut self.normed, &mut self.rstd);
        layer.gate_up_proj.product(&self.normed, config.hidden_size, &mut self.gate_up);
        swiglu(&self.gate_up, config.intermediate_size, &mut self.activation);
        layer.down_proj.product(&self.activation, config.intermediate_size, &mut self.update);
        add(&mut self.residual, &self.update);
    }
}

/// Attention of one new token in one layer: turns q and k, appends k and v to the cache, and writes `out [H D]`.
fn attend(
    qkv: &mut [f32],
    shape: HeadShape,
    rope: &RopeTable,
    position: usize,
    cache: &mut [[Vec<f32>; 2]],
    out: &mut [f32],
) {
    let (q, kv) = qkv.split_at_mut(shape.heads * shape.dim);
    let (k, v) = kv.split_at_mut(shape.kv_heads * shape.dim);
    for head in q.chunks_exact_mut(shape.dim).chain(k.chunks_exact_mut(shape.dim)) {
        rope.turn(head, position, Turn::Forward);
    }
    let mut scores = vec![0.0; shape.group() * (position + 1)];
    let group = shape.group() * shape.dim;
    let new = k.chunks_exact(shape.dim).zip(v.chunks_exact(shape.dim));
    let queries = q.chunks_exact(group).zip(out.chunks_exact_mut(group));
    for (([keys, values], (k, v)), (q, out)) in cache.iter_mut().zip(new).zip(queries) {
        keys.extend_from_slice(k);
        values.extend_from_slice(v);
        let mut rows: Vec<&mut [f32]> = scores.chunks_exact_mut(position + 1).collect();
        product(q, keys, shape.dim, &mut rows);
        for (scores, out) in rows.into_iter().zip(out.chunks_exact_mut(shape.dim)) {
            mix_values(scores, values, out);
        }
    }
}

/// Columns of values mixed at once, in registers.
const COLUMNS: usize = 32;

kernel! {
    /// `out [D] = softmax(scores / sqrt(D)) V` for the scores of n keys and `V [n, D]`.
    fn mix_values(scores: &mut [f32], values: &[f32], out: &mut [f32]) {
        let dim = out.len();
        let scale = (dim as f32).sqrt().recip();
        let top = max(scores);
        for score in scores.iter_mut() {
            *score = exp((*score - top) * scale);
        }
        let inverse = sum_of(scores, |x| x).recip();
        let (blocks, rest) = out.as_chunks_mut::<COLUMNS>();
        for (i, block) in blocks.iter_mut().enumerate() {
            let mut sums = [0.0f32; COLUMNS];
            for (&p, row) in scores.iter().zip(values.chunks_exact(dim)) {
                for (sum, &value) in sums.iter_mut().zip(&row[i * COLUMNS..(i + 1) * COLUMNS]) {
                    *sum = p.mul_add(value, *sum);
                }
            }
            *block = sums.map(|sum| sum * inverse);
        }
        let done = dim - rest.len();
        for (i, out) in rest.iter_mut().enumerate() {
            let column = values.chunks_exact(dim).map(|row| row[done + i]);
            *out = scores.iter().zip(column).map(|(p, value)| p * value).sum::<f32>() * inverse;
        }
    }
}
