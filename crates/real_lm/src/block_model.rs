//! A model whose matrices stay in block formats, for decoding only.
//!
//! What training and PPO call the policy is the model in f32: [`Model`] is the reference for everything. Decoding is different. One token of
//! one sequence needs every weight once, so its speed is that at which weights come out of memory, and a file of five bits a weight
//! holds six times as many of them in each byte as f32 does. A [`BlockModel`] decodes from the bytes of a GGUF file as they are, or from
//! the weights of a [`Model`] rounded to eight bits. Numbers on the way are rounded to eight bits too (see `ops/blocks.rs`), so its
//! distributions differ a little from those in f32; a trainer that samples with it takes log-probabilities in f32 all the same.

use std::path::Path;

use crate::gguf::Gguf;
use crate::ops::blocks::{self, BlockMatrix};
use crate::ops::few_rows::few_rows;
use crate::{Error, Model, ModelConfig};

/// A model to decode with.
#[derive(Debug, Clone)]
pub struct BlockModel {
    pub(crate) config: ModelConfig,
    pub(crate) embed_tokens: BlockMatrix,
    pub(crate) layers: Vec<BlockLayer>,
    pub(crate) norm: Vec<f32>,
    /// None where the head is the embedding.
    pub(crate) lm_head: Option<BlockMatrix>,
}

/// One layer. What is one matrix in [`Layout`](crate::Layout) is several here, as files have them in formats of their own.
#[derive(Debug, Clone)]
pub(crate) struct BlockLayer {
    pub(crate) input_layernorm: Vec<f32>,
    pub(crate) qkv_proj: [BlockMatrix; 3],
    pub(crate) qkv_bias: Vec<f32>,
    pub(crate) o_proj: BlockMatrix,
    pub(crate) post_attention_layernorm: Vec<f32>,
    pub(crate) gate_up_proj: [BlockMatrix; 2],
    pub(crate) down_proj: BlockMatrix,
}

impl BlockModel {
    /// The matrices of a GGUF file as they are. Those that are in no block format are rounded to eight bits.
    pub fn from_gguf(path: &Path) -> Result<Self, Error> {
        Gguf::open(path)?.block_model()
    }

    /// The weights of a model, rounded to eight bits in groups of 32. None where a width is no multiple of 32.
    pub fn rounded(model: &Model) -> Option<Self> {
        let (config, params) = (&model.config, &model.params);
        let (hidden, attention, inner) =
            (config.hidden_size, config.attention_size(), config.intermediate_size);
        if [hidden, attention, inner].iter().any(|width| !width.is_multiple_of(32)) {
            return None;
        }
        let kv = config.num_key_value_heads * config.head_dim;
        let layer = |ranges: &crate::LayerRanges| {
            let qkv = &params[ranges.qkv_proj.clone()];
            let (q, kv_rows) = qkv.split_at(attention * hidden);
            let (k, v) = kv_rows.split_at(kv * hidden);
            let (gate, up) = params[ranges.gate_up_proj.clone()].split_at(inner * hidden);
            BlockLayer {
                input_layernorm: params[ranges.input_layernorm.clone()].to_vec(),
                qkv_proj: [q, k, v].map(|part| BlockMatrix::rounded(part, hidden)),
                qkv_bias: params[ranges.qkv_bias.clone()].to_vec(),
                o_proj: BlockMatrix::rounded(&params[ranges.o_proj.clone()], attention),
                post_attention_layernorm: params[ranges.post_attention_layernorm.clone()].to_vec(),
                gate_up_proj: [gate, up].map(|part| BlockMatrix::rounded(part, hidden)),
                down_proj: BlockMatrix::rounded(&params[ranges.down_proj.clone()], inner),
            }
        };
        let untied = !config.tie_word_embeddings;
        Some(Self {
            config: config.clone(),
            embed_tokens: BlockMatrix::rounded(&params[model.layout.embed_tokens.clone()], hidden),
            layers: model.layout.layers.iter().map(layer).collect(),
            norm: params[model.layout.norm.clone()].to_vec(),
            lm_head: untied.then(|| BlockMatrix::rounded(&params[model.layout.lm_head.clone()], hidden)),
        })
    }
}

/// What decoding reads its weights from.
#[derive(Debug, Clone, Copy)]
pub enum Weights<'a> {
    /// In f32.
    Full(&'a Model),
    /// In blocks.
    Blocks(&'a BlockModel),
}

impl<'a> From<&'a Model> for Weights<'a> {
    fn from(model: &'a Model) -> Self {
        Self::Full(model)
    }
}

impl<'a> From<&'a BlockModel> for Weights<'a> {
    fn from(model: &'a BlockModel) -> Self {
        Self::Blocks(model)
    }
}

/// A matrix in either kind of weights.
#[derive(Clone, Copy)]
pub(crate) enum Matrix<'a> {
    Full(&'a [f32]),
    Blocks(&'a [BlockMatrix]),
}

/// The weights of one layer, in either kind.
pub(crate) struct LayerView<'a> {
    pub(crate) input_layernorm: &'a [f32],
    pub(crate) qkv_proj: Matrix<'a>,
    pub(crate) qkv_bias: &'a [f32],
    pub(crate) o_proj: Matrix<'a>,
    pub(crate) post_attention_layernorm: &'a [f32],
    pub(crate) gate_up_proj: Matrix<'a>,
    pub(crate) down_proj: Matrix<'a>,
}

impl Matrix<'_> {
    /// `y [B, out] = x [B, width] W'`
    pub(crate) fn product(self, x: &[f32], width: usize, y: &mut [f32]) {
        match self {
            Self::Full(weight) => few_rows(x, weight, width, y),
            Self::Blocks(matrices) => blocks::product(x, matrices, y),
        }
    }
}

impl<'a> Weights<'a> {
    /// The shape.
    pub fn config(self) -> &'a ModelConfig {
        match self {
            Self::Full(model) => &model.config,
            Self::Blocks(model) => &model.config,
        }
    }

    /// Rows of the embedding: `[B, E]`.
    pub(crate) fn embed(self, ids: &[u32], rows: &mut [f32]) {
        match self {
            Self::Full(model) => crate::forward::embed(model, ids, rows),
            Self::Blocks(model) => {
                for (row, &id) in rows.chunks_exact_mut(model.config.hidden_size).zip(ids) {
                    model.embed_tokens.row(id as usize, row);
                }
            }
        }
    }

    pub(crate) fn norm(self) -> &'a [f32] {
        match self {
            Self::Full(model) => &model.params[model.layout.norm.clone()],
            Self::Blocks(model) => &model.norm,
        }
    }

    pub(crate) fn lm_head(self) -> Matrix<'a> {
        match self {
            Self::Full(model) => Matrix::Full(&model.params[model.layout.lm_head.clone()]),
            Self::Blocks(model) => {
                Matrix::Blocks(std::slice::from_ref(model.lm_head.as_ref().unwrap_or(&model.embed_tokens)))
            }
        }
    }

    pub(crate) fn layer(self, index: usize) -> LayerView<'a> {
        match self {
            Self::Full(model) => {
                let ranges = &model.layout.layers[index];
                let [norm, qkv, bias, o, post_norm, gate_up, down] = [
                    &ranges.input_layernorm,
                    &ranges.qkv_proj,
                    &ranges.qkv_bias,
                    &ranges.o_proj,
                    &ranges.post_attention_layernorm,
                    &ranges.gate_up_proj,
                    &ranges.down_proj,
                ]
                .map(|range| &model.params[range.clone()]);
                LayerView {
                    input_layernorm: norm,
                    qkv_proj: Matrix::Full(qkv),
                    qkv_bias: bias,
                    o_proj: Matrix::Full(o),
                    post_attention_layernorm: post_norm,
                    gate_up_proj: Matrix::Full(gate_up),
                    down_proj: Matrix::Full(down),
                }
            }
            Self::Blocks(model) => {
                let layer = &model.layers[index];
                LayerView {
                    input_layernorm: &layer.input_layernorm,
                    qkv_proj: Matrix::Blocks(&layer.qkv_proj),
                    qkv_bias: &layer.qkv_bias,
                    o_proj: Matrix::Blocks(std::slice::from_ref(&layer.o_proj)),
                    post_attention_layernorm: &layer.post_attention_layernorm,
                    gate_up_proj: Matrix::Blocks(&layer.gate_up_proj),
                    down_proj: Matrix::Blocks(std::slice::from_ref(&layer.down_proj)),
                }
            }
        }
    }
}
