//! One token at a time for many sequences at once, with the keys and values of earlier tokens cached.
//!
//! A prompt goes through the forward pass of training, alone, and leaves its keys and values in a [`Cache`]; after that each
//! step takes one token of every live sequence through the model. What a sequence computes does not depend on its neighbours,
//! to the bit: see [`few_rows`].

use rayon::prelude::*;

use crate::forward::{Keep, Workspace, embed, forward_with};
use crate::heads::HeadShape;
use crate::ops::few_rows::{few_rows, product};
use crate::ops::norm::rms_norm;
use crate::ops::rope::{RopeTable, Turn};
use crate::ops::simd::{add, exp, kernel, max, sum_of};
use crate::ops::swiglu::swiglu;
use crate::packed::Packed;
use crate::parameters::{LayerRanges, Model};

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
    model: &'a Model,
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
    pub(crate) fn new(model: &'a Model, longest: usize) -> Self {
        let mut rope = RopeTable::default();
        rope.prepare(model.config.head_dim, model.config.rope_theta, longest);
        Self {
            model,
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
        let config = &self.model.config;
        let mut cache = Cache { len: prompt.len(), heads: Vec::new() };
        forward_with(self.model, &Packed::new(&[prompt]), &mut self.prefill, |_, layer| {
            let size = prompt.len() * config.head_dim;
            let heads = layer.k.chunks_exact(size).zip(layer.v.chunks_exact(size));
            cache.heads.extend(heads.map(|(k, v)| [k.to_vec(), v.to_vec()]));
        });
        let last = &self.prefill.hidden()[(prompt.len() - 1) * config.hidden_size..];
        let mut logits = vec![0.0; config.vocab_size];
        few_rows(
            last,
            &self.model.params[self.model.layout.lm_head.clone()],
            config.hidden_size,
            &mut logits,
        );
        (cache, logits)
    }

    /// Takes one more token of each sequence in; the logits of their next tokens, `[B, V]`.
    pub(crate) fn step(&mut self, ids: &[u32], caches: &mut [&mut Cache]) -> &mut [f32] {
        rayon::scope(|_| {
            let (model, batch) = (self.model, ids.len());
            let (config, params) = (&model.config, &model.params);
            self.resize(batch);
            embed(model, ids, &mut self.residual);
            for (index, ranges) in model.layout.layers.iter().enumerate() {
                self.attention_step(index, ranges, caches);
                self.feed_forward_step(ranges);
            }
            for cache in caches {
                cache.len += 1;
            }
            let (norm, eps) = (&params[model.layout.norm.clone()], config.rms_norm_eps);
            rms_norm(&self.residual, norm, eps, &mut self.normed, &mut self.rstd);
            let head = &params[model.layout.lm_head.clone()];
            few_rows(&self.normed, head, config.hidden_size, &mut self.logits);
        });
        &mut self.logits
    }

    fn resize(&mut self, batch: usize) {
        let config = &self.model.config;
        self.residual.resize(batch * config.hidden_size, 0.0);
        self.normed.resize(batch * config.hidden_size, 0.0);
        self.rstd.resize(batch, 0.0);
        self.qkv.resize(batch * config.qkv_size(), 0.0);
        self.attention.resize(batch * config.attention_size(), 0.0);
        self.update.resize(batch * config.hidden_size, 0.0);
        self.gate_up.resize(batch * 2 * config.intermediate_size, 0.0);
        self.activation.resize(batch * config.intermediate_size, 0.0);
        self.logits.resize(batch * config.vocab_size, 0.0);
    }

    fn attention_step(&mut self, index: usize, ranges: &LayerRanges, caches: &mut [&mut Cache]) {
        let (config, params) = (&self.model.config, &self.model.params);
        let (shape, bias, rope) = (HeadShape::of(config), &params[ranges.qkv_bias.clone()], &self.rope);
        let norm = &params[ranges.input_layernorm.clone()];
        rms_norm(&self.residual, norm, config.rms_norm_eps, &mut self.normed, &mut self.rstd);
        few_rows(&self.normed, &params[ranges.qkv_proj.clone()], config.hidden_size, &mut self.qkv);
        self.qkv
            .par_chunks_exact_mut(config.qkv_size())
            .zip(self.attention.par_chunks_exact_mut(config.attention_size()))
            .zip(caches.par_iter_mut())
            .for_each(|((qkv, out), cache)| {
                if !bias.is_empty() {
                    add(qkv, bias);
                }
                let position = cache.len;
                let heads = &mut cache.heads[index * shape.kv_heads..(index + 1) * shape.kv_heads];
                attend(qkv, shape, rope, position, heads, out);
            });
        few_rows(&self.attention, &params[ranges.o_proj.clone()], config.attention_size(), &mut self.update);
        add(&mut self.residual, &self.update);
    }

    fn feed_forward_step(&mut self, ranges: &LayerRanges) {
        let (config, params) = (&self.model.config, &self.model.params);
        let norm = &params[ranges.post_attention_layernorm.clone()];
        rms_norm(&self.residual, norm, config.rms_norm_eps, &mut self.normed, &mut self.rstd);
        few_rows(&self.normed, &params[ranges.gate_up_proj.clone()], config.hidden_size, &mut self.gate_up);
        swiglu(&self.gate_up, config.intermediate_size, &mut self.activation);
        few_rows(
            &self.activation,
            &params[ranges.down_proj.clone()],
            config.intermediate_size,
            &mut self.update,
        );
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
