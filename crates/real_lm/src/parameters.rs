//! All parameters of a model in one flat buffer, and the map from names to ranges.
//!
//! Gradients and the moments of the optimiser have the same layout, so that an update is one loop over four slices. The q, k
//! and v projections of a layer lie behind each other and so do gate and up: each group is one matrix product. Matrices are
//! `[out, in]`, row-major, as in checkpoints.

use std::ops::Range;

use rand::Rng;

use crate::ModelConfig;

/// A model: its shape and its parameters in the order of [`Layout`].
#[derive(Debug, Clone)]
pub struct Model {
    /// The shape.
    pub config: ModelConfig,
    /// Where each tensor lies in `params`.
    pub layout: Layout,
    /// All parameters.
    pub params: Vec<f32>,
}

impl Model {
    /// A model to train from scratch: weights normal with standard deviation `initializer_range` (GPT-2 has 0.02; narrow models
    /// learn faster from larger weights, as their sums have fewer terms), those of the two projections that write to the
    /// residual stream divided by `sqrt(2 layers)` so that its variance does not grow with depth, norms 1, biases 0.
    pub fn random(config: ModelConfig, initializer_range: f32, rng: &mut impl Rng) -> Self {
        let layout = Layout::new(&config);
        let mut params = vec![0.0; layout.len];
        let into_residual = initializer_range / (2.0 * config.num_hidden_layers as f32).sqrt();
        fill_normal(&mut params[layout.embed_tokens.clone()], initializer_range, rng);
        for layer in &layout.layers {
            params[layer.input_layernorm.clone()].fill(1.0);
            fill_normal(&mut params[layer.qkv_proj.clone()], initializer_range, rng);
            fill_normal(&mut params[layer.o_proj.clone()], into_residual, rng);
            params[layer.post_attention_layernorm.clone()].fill(1.0);
            fill_normal(&mut params[layer.gate_up_proj.clone()], initializer_range, rng);
            fill_normal(&mut params[layer.down_proj.clone()], into_residual, rng);
        }
        params[layout.norm.clone()].fill(1.0);
        if !config.tie_word_embeddings {
            fill_normal(&mut params[layout.lm_head.clone()], initializer_range, rng);
        }
        Self { config, layout, params }
    }
}

/// Normal numbers by the method of Box and Muller.
pub(crate) fn fill_normal(values: &mut [f32], deviation: f32, rng: &mut impl Rng) {
    for pair in values.chunks_mut(2) {
        let radius = (-2.0 * (1.0 - rng.random::<f32>()).ln()).sqrt() * deviation;
        let (sin, cos) = (std::f32::consts::TAU * rng.random::<f32>()).sin_cos();
        for (value, part) in pair.iter_mut().zip([cos, sin]) {
            *value = radius * part;
        }
    }
}

/// Where each tensor lies in the flat buffer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// `[V, E]`
    pub embed_tokens: Range<usize>,
    /// One entry a layer.
    pub layers: Vec<LayerRanges>,
    /// `[E]`
    pub norm: Range<usize>,
    /// `[V, E]`; the same range as `embed_tokens` where they are tied.
    pub lm_head: Range<usize>,
    /// Length of the buffer.
    pub len: usize,
}

/// Where the tensors of one layer lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerRanges {
    /// `[E]`
    pub input_layernorm: Range<usize>,
    /// q, k, v: `[(H + 2 G) D, E]`
    pub qkv_proj: Range<usize>,
    /// `[(H + 2 G) D]`, empty without a bias.
    pub qkv_bias: Range<usize>,
    /// `[E, H D]`
    pub o_proj: Range<usize>,
    /// `[E]`
    pub post_attention_layernorm: Range<usize>,
    /// gate, up: `[2 I, E]`
    pub gate_up_proj: Range<usize>,
    /// `[E, I]`
    pub down_proj: Range<usize>,
}

impl Layout {
    /// The layout of a model of this shape.
    pub fn new(config: &ModelConfig) -> Self {
        let (hidden, inner) = (config.hidden_size, config.intermediate_size);
        let attention = config.num_attention_heads * config.head_dim;
        let mut len = 0;
        let mut take = |count: usize| {
            len += count;
            len - count..len
        };
        let embed_tokens = take(config.vocab_size * hidden);
        let layers = (0..config.num_hidden_layers)
            .map(|_| LayerRanges {
                input_layernorm: take(hidden),
                qkv_proj: take(config.qkv_size() * hidden),
                qkv_bias: take(if config.attention_bias() { config.qkv_size() } else { 0 }),
                o_proj: take(hidden * attention),
                post_attention_layernorm: take(hidden),
                gate_up_proj: take(2 * inner * hidden),
                down_proj: take(hidden * inner),
            })
            .collect();
        let norm = take(hidden);
        let lm_head =
            if config.tie_word_embeddings { embed_tokens.clone() } else { take(config.vocab_size * hidden) };
        Self { embed_tokens, layers, norm, lm_head, len }
    }

    /// Every tensor under its name in a Hugging Face checkpoint, with its shape, in the order of the buffer. The fused
    /// projections appear as their parts; a tied head does not appear.
    pub fn tensors(&self, config: &ModelConfig) -> Vec<(String, Vec<usize>, Range<usize>)> {
        let (hidden, inner) = (config.hidden_size, config.intermediate_size);
        let attention = config.num_attention_heads * config.head_dim;
        let kv = config.num_key_value_heads * config.head_dim;
        let mut all = vec![(
            "model.embed_tokens.weight".to_owned(),
            vec![config.vocab_size, hidden],
            self.embed_tokens.clone(),
        )];
        for (index, layer) in self.layers.iter().enumerate() {
            let mut add = |name: &str, shape: Vec<usize>, start: usize| {
                let count = shape.iter().product::<usize>();
                all.push((format!("model.layers.{index}.{name}"), shape, start..start + count));
            };
            add("input_layernorm.weight", vec![hidden], layer.input_layernorm.start);
            let (q, b) = (layer.qkv_proj.start, layer.qkv_bias.start);
            for (name, rows, before) in
                [("q_proj", attention, 0), ("k_proj", kv, attention), ("v_proj", kv, attention + kv)]
            {
                add(&format!("self_attn.{name}.weight"), vec![rows, hidden], q + before * hidden);
                if config.attention_bias() {
                    add(&format!("self_attn.{name}.bias"), vec![rows], b + before);
                }
            }
            add("self_attn.o_proj.weight", vec![hidden, attention], layer.o_proj.start);
            add("post_attention_layernorm.weight", vec![hidden], layer.post_attention_layernorm.start);
            add("mlp.gate_proj.weight", vec![inner, hidden], layer.gate_up_proj.start);
            add("mlp.up_proj.weight", vec![inner, hidden], layer.gate_up_proj.start + inner * hidden);
            add("mlp.down_proj.weight", vec![hidden, inner], layer.down_proj.start);
        }
        all.push(("model.norm.weight".to_owned(), vec![hidden], self.norm.clone()));
        if !config.tie_word_embeddings {
            all.push(("lm_head.weight".to_owned(), vec![config.vocab_size, hidden], self.lm_head.clone()));
        }
        all
    }
}
