//! The shape and the weights of a model in a GGUF file.
//!
//! Two things differ from a Hugging Face checkpoint. In files of architecture `llama` the rows of the q and k projections are
//! permuted inside each head, because llama.cpp rotates neighbours (0, 1), (2, 3), … where we rotate halves (0, D/2),
//! (1, D/2 + 1), …: row `2 i + p` of a head there is row `p D/2 + i` here. And some tied models store their one matrix
//! twice, as `token_embd.weight` and `output.weight` at different precisions; they are told from untied ones by comparing rows.

use std::ops::Range;

use rayon::prelude::*;

use super::{Gguf, Tensor, dequantize};
use crate::block_model::{BlockLayer, BlockModel};
use crate::ops::blocks::BlockMatrix;
use crate::{Architecture, Error, Layout, Model, ModelConfig};

/// Rows of the two matrices that are compared to find out whether they are one.
const COMPARED_ROWS: usize = 64;

impl Gguf {
    /// The model, dequantised to f32. Besides the result nothing of its size is held.
    pub(crate) fn model(&self) -> Result<Model, Error> {
        let mut config = self.config()?;
        let head = self.output_matrix(&mut config)?;
        let layout = Layout::new(&config);
        let sources = self.sources(&config, &layout, head)?;
        let mut params = vec![0.0; layout.len];
        for source in sources {
            let out = &mut params[source.range.clone()];
            let row_len = source.tensor.shape[source.tensor.shape.len() - 1];
            out.par_chunks_mut(row_len)
                .enumerate()
                .with_min_len(8)
                .for_each(|(row, out)| self.row(source.tensor, source.rows.source(row), out));
        }
        Ok(Model { config, layout, params })
    }

    /// The model with its matrices as they are.
    pub(crate) fn block_model(&self) -> Result<BlockModel, Error> {
        let mut config = self.config()?;
        let head = self.output_matrix(&mut config)?;
        let layout = Layout::new(&config);
        // Checks every shape, and that nothing is left over.
        self.sources(&config, &layout, head)?;
        let layers = (0..config.num_hidden_layers)
            .map(|index| self.block_layer(&config, index))
            .collect::<Result<_, Error>>()?;
        // Of a tied matrix that is stored twice, the better one is the head; the embedding is only looked up.
        let output = head.map_or_else(|| self.tensor("output.weight"), Ok)?;
        Ok(BlockModel {
            embed_tokens: self.block_matrix(self.tensor("token_embd.weight")?, RowOrder::Same)?,
            layers,
            norm: self.floats("output_norm.weight")?,
            lm_head: Some(self.block_matrix(output, RowOrder::Same)?),
            config,
        })
    }

    fn block_layer(&self, config: &ModelConfig, index: usize) -> Result<BlockLayer, Error> {
        let name = |part: &str| format!("blk.{index}.{part}");
        let floats = |part: &str| self.floats(&name(part));
        let matrix = |part: &str, rows| self.block_matrix(self.tensor(&name(part))?, rows);
        let turned = match config.architecture {
            Architecture::Llama => RowOrder::NeighboursRotated { head_dim: config.head_dim },
            Architecture::Qwen2 => RowOrder::Same,
        };
        let mut qkv_bias = Vec::new();
        if config.attention_bias() {
            for part in ["attn_q.bias", "attn_k.bias", "attn_v.bias"] {
                qkv_bias.extend(floats(part)?);
            }
        }
        Ok(BlockLayer {
            input_layernorm: floats("attn_norm.weight")?,
            qkv_proj: [
                matrix("attn_q.weight", turned)?,
                matrix("attn_k.weight", turned)?,
                matrix("attn_v.weight", RowOrder::Same)?,
            ],
            qkv_bias,
            o_proj: matrix("attn_output.weight", RowOrder::Same)?,
            post_attention_layernorm: floats("ffn_norm.weight")?,
            gate_up_proj: [
                matrix("ffn_gate.weight", RowOrder::Same)?,
                matrix("ffn_up.weight", RowOrder::Same)?,
            ],
            down_proj: matrix("ffn_down.weight", RowOrder::Same)?,
        })
    }

    fn floats(&self, name: &str) -> Result<Vec<f32>, Error> {
        let tensor = self.tensor(name)?;
        let mut out = vec![0.0; tensor.shape.iter().product()];
        dequantize(tensor.kind, &self.data[tensor.bytes.clone()], &mut out);
        Ok(out)
    }

    fn block_matrix(&self, tensor: &Tensor, order: RowOrder) -> Result<BlockMatrix, Error> {
        let (rows, width) = (tensor.shape[0], tensor.shape[1]);
        if BlockMatrix::supports(tensor.kind, width) {
            let size = tensor.kind.bytes_of(width);
            let row = |row| &self.data[tensor.bytes.start + order.source(row) * size..][..size];
            return Ok(BlockMatrix::new(tensor.kind, width, (0..rows).flat_map(row).copied().collect()));
        }
        if !width.is_multiple_of(32) {
            return Err(Error::unsupported(
                &self.path,
                format!("decoding in blocks with rows of {width} weights"),
            ));
        }
        let mut floats = vec![0.0; rows * width];
        for (row, out) in floats.chunks_exact_mut(width).enumerate() {
            self.row(tensor, order.source(row), out);
        }
        Ok(BlockMatrix::rounded(&floats, width))
    }

    /// Everything but the tying of the embeddings, which only the tensors tell.
    fn config(&self) -> Result<ModelConfig, Error> {
        let name =
            self.string("general.architecture")?.ok_or_else(|| self.missing("value general.architecture"))?;
        let architecture = match name {
            "qwen2" => Architecture::Qwen2,
            "llama" => Architecture::Llama,
            _ => {
                return Err(Error::unsupported(
                    &self.path,
                    format!("architecture {name:?}; llama and qwen2 are"),
                ));
            }
        };
        let size =
            |key: &str| Ok::<_, Error>(self.unsigned(&format!("{name}.{key}"))?.map(|size| size as usize));
        let required = |key: &str| size(key)?.ok_or_else(|| self.missing(&format!("value {name}.{key}")));
        let (hidden_size, heads) = (required("embedding_length")?, required("attention.head_count")?);
        let head_dim = size("attention.key_length")?.unwrap_or(hidden_size / heads.max(1));
        self.check_rope(name, head_dim)?;
        if size("attention.value_length")?.is_some_and(|value| value != head_dim) {
            return Err(Error::unsupported(&self.path, "values of another width than keys"));
        }
        let config = ModelConfig {
            architecture,
            vocab_size: self.tensor("token_embd.weight")?.shape[0],
            hidden_size,
            intermediate_size: required("feed_forward_length")?,
            num_hidden_layers: required("block_count")?,
            num_attention_heads: heads,
            num_key_value_heads: size("attention.head_count_kv")?.unwrap_or(heads),
            head_dim,
            max_position_embeddings: required("context_length")?,
            rms_norm_eps: self
                .float(&format!("{name}.attention.layer_norm_rms_epsilon"))?
                .ok_or_else(|| self.missing("value attention.layer_norm_rms_epsilon"))?,
            rope_theta: self.float(&format!("{name}.rope.freq_base"))?.unwrap_or(10_000.0),
            tie_word_embeddings: true,
        };
        config.check().map_err(|what| Error::malformed(&self.path, what))?;
        Ok(config)
    }

    /// Refuses rotary embeddings other than the plain ones over whole heads.
    #[expect(clippy::float_cmp, reason = "only a factor of exactly 1 has no effect")]
    fn check_rope(&self, architecture: &str, head_dim: usize) -> Result<(), Error> {
        let unsupported = |what: &str| Err(Error::unsupported(&self.path, what));
        if self
            .unsigned(&format!("{architecture}.rope.dimension_count"))?
            .is_some_and(|d| d != head_dim as u64)
        {
            return unsupported("rotary embedding of a part of each head");
        }
        let scaling = self.string(&format!("{architecture}.rope.scaling.type"))?.unwrap_or("none");
        let factor = self.float(&format!("{architecture}.rope.scaling.factor"))?.unwrap_or(1.0);
        let linear = self.float(&format!("{architecture}.rope.scale_linear"))?.unwrap_or(1.0);
        if (scaling != "none" && factor != 1.0) || linear != 1.0 {
            return unsupported("scaled rotary embedding");
        }
        if let Some(factors) = self.header.tensors.get("rope_freqs.weight") {
            let mut values = vec![0.0; factors.shape.iter().product()];
            dequantize(factors.kind, &self.data[factors.bytes.clone()], &mut values);
            if values.iter().any(|&factor| factor != 1.0) {
                return unsupported("rotary embedding scaled by frequency");
            }
        }
        Ok(())
    }

    /// The tensor to use as the embedding if the model is tied, else none; sets `tie_word_embeddings`.
    fn output_matrix(&self, config: &mut ModelConfig) -> Result<Option<&Tensor>, Error> {
        let embed = self.tensor("token_embd.weight")?;
        let Some(output) = self.header.tensors.get("output.weight") else { return Ok(Some(embed)) };
        let shape = [config.vocab_size, config.hidden_size];
        if embed.shape != shape || output.shape != shape {
            let what = format!(
                "embedding {:?} and output {:?} where {shape:?} is expected",
                embed.shape, output.shape
            );
            return Err(Error::malformed(&self.path, what));
        }
        let tied = self.same_matrix(embed, output);
        config.tie_word_embeddings = tied;
        let better = if output.bytes.len() >= embed.bytes.len() { output } else { embed };
        Ok(tied.then_some(better))
    }

    /// Whether two matrices are one but for quantisation: then the squares of their differences sum to a hundredth of their
    /// own, or less, and for matrices that differ to about twice their own.
    fn same_matrix(&self, a: &Tensor, b: &Tensor) -> bool {
        let (rows, row_len) = (a.shape[0], a.shape[1]);
        let (mut row_a, mut row_b) = (vec![0.0; row_len], vec![0.0; row_len]);
        let (mut difference, mut size) = (0.0, 0.0);
        for row in (0..rows).step_by(rows.div_ceil(COMPARED_ROWS)) {
            self.row(a, row, &mut row_a);
            self.row(b, row, &mut row_b);
            difference += row_a.iter().zip(&row_b).map(|(a, b)| (a - b) * (a - b)).sum::<f32>();
            size += row_a.iter().map(|a| a * a).sum::<f32>();
        }
        difference <= 0.1 * size
    }

    /// Where each tensor of the layout comes from. Every tensor of the file must have its place.
    fn sources<'a>(
        &'a self,
        config: &ModelConfig,
        layout: &Layout,
        tied: Option<&'a Tensor>,
    ) -> Result<Vec<Source<'a>>, Error> {
        let mut used =
            vec!["rope_freqs.weight".to_owned(), "token_embd.weight".to_owned(), "output.weight".to_owned()];
        let mut sources = Vec::new();
        for (name, shape, range) in layout.tensors(config) {
            let gguf_name = gguf_name(&name);
            let tensor = match tied {
                Some(matrix) if name == "model.embed_tokens.weight" => matrix,
                _ => self.tensor(&gguf_name)?,
            };
            if tensor.shape != shape {
                let what =
                    format!("tensor {gguf_name:?} has shape {:?}, {shape:?} is expected", tensor.shape);
                return Err(Error::malformed(&self.path, what));
            }
            let permuted = config.architecture == Architecture::Llama
                && (name.ends_with("q_proj.weight") || name.ends_with("k_proj.weight"));
            let rows = if permuted {
                RowOrder::NeighboursRotated { head_dim: config.head_dim }
            } else {
                RowOrder::Same
            };
            sources.push(Source { tensor, range, rows });
            used.push(gguf_name);
        }
        match self.header.tensors.keys().find(|name| !used.contains(name)) {
            Some(name) => Err(Error::unsupported(
                &self.path,
                format!("tensor {name:?} has no place in this architecture"),
            )),
            None => Ok(sources),
        }
    }

    fn row(&self, tensor: &Tensor, row: usize, out: &mut [f32]) {
        let size = tensor.kind.bytes_of(out.len());
        dequantize(tensor.kind, &self.data[tensor.bytes.start + row * size..][..size], out);
    }

    fn tensor(&self, name: &str) -> Result<&Tensor, Error> {
        self.header.tensors.get(name).ok_or_else(|| self.missing(&format!("tensor {name:?}")))
    }
}

struct Source<'a> {
    tensor: &'a Tensor,
    range: Range<usize>,
    rows: RowOrder,
}

#[derive(Clone, Copy)]
enum RowOrder {
    Same,
    NeighboursRotated { head_dim: usize },
}

impl RowOrder {
    /// The row of the file that belongs at a row of ours.
    fn source(self, row: usize) -> usize {
        match self {
            Self::Same => row,
            Self::NeighboursRotated { head_dim } => {
                let (head, inside) = (row / head_dim, row % head_dim);
                let half = head_dim / 2;
                head * head_dim + 2 * (inside % half) + inside / half
            }
        }
    }
}

/// `model.layers.3.self_attn.q_proj.weight` is `blk.3.attn_q.weight` here.
fn gguf_name(name: &str) -> String {
    const PARTS: [(&str, &str); 13] = [
        ("model.layers.", "blk."),
        ("model.embed_tokens", "token_embd"),
        ("model.norm", "output_norm"),
        ("lm_head", "output"),
        ("input_layernorm", "attn_norm"),
        ("post_attention_layernorm", "ffn_norm"),
        ("self_attn.q_proj", "attn_q"),
        ("self_attn.k_proj", "attn_k"),
        ("self_attn.v_proj", "attn_v"),
        ("self_attn.o_proj", "attn_output"),
        ("mlp.gate_proj", "ffn_gate"),
        ("mlp.up_proj", "ffn_up"),
        ("mlp.down_proj", "ffn_down"),
    ];
    PARTS.iter().fold(name.to_owned(), |name, (ours, theirs)| name.replace(ours, theirs))
}
