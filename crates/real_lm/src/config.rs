//! The shape of a model, with the field names of a checkpoint's `config.json`.

/// The two families of decoder that differ only in the bias of the attention projections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Architecture {
    /// Qwen2 and Qwen2.5: q, k and v projections have a bias.
    Qwen2,
    /// Llama and SmolLM2: no bias.
    Llama,
}

/// The shape of a model.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelConfig {
    /// Family.
    pub architecture: Architecture,
    /// V
    pub vocab_size: usize,
    /// E
    pub hidden_size: usize,
    /// Width of the feed-forward layer.
    pub intermediate_size: usize,
    /// Layers.
    pub num_hidden_layers: usize,
    /// H
    pub num_attention_heads: usize,
    /// G; divides H.
    pub num_key_value_heads: usize,
    /// D
    pub head_dim: usize,
    /// Longest sequence, tokens.
    pub max_position_embeddings: usize,
    /// Added to the mean square before the root.
    pub rms_norm_eps: f32,
    /// Base of the rotary embedding.
    pub rope_theta: f32,
    /// The output head is the embedding.
    pub tie_word_embeddings: bool,
}

impl ModelConfig {
    /// Whether q, k and v projections have a bias.
    pub fn attention_bias(&self) -> bool {
        self.architecture == Architecture::Qwen2
    }

    /// Rows of the fused q, k, v projection: `(H + 2 G) D`.
    pub fn qkv_size(&self) -> usize {
        (self.num_attention_heads + 2 * self.num_key_value_heads) * self.head_dim
    }

    /// Columns of the attention's output: `H D`.
    pub fn attention_size(&self) -> usize {
        self.num_attention_heads * self.head_dim
    }

    /// What makes the shape impossible, if anything. A checked shape has a layout whose sizes do not overflow.
    pub(crate) fn check(&self) -> Result<(), String> {
        let sizes = [
            ("vocab_size", self.vocab_size, 1 << 24),
            ("hidden_size", self.hidden_size, 1 << 20),
            ("intermediate_size", self.intermediate_size, 1 << 20),
            ("num_hidden_layers", self.num_hidden_layers, 1 << 10),
            ("num_attention_heads", self.num_attention_heads, 1 << 10),
            ("num_key_value_heads", self.num_key_value_heads, 1 << 10),
            ("head_dim", self.head_dim, 1 << 10),
            ("max_position_embeddings", self.max_position_embeddings, 1 << 32),
        ];
        if let Some((name, size, _)) = sizes.into_iter().find(|&(_, size, most)| size == 0 || size > most) {
            return Err(format!("{name} is {size}"));
        }
        let (heads, kv_heads) = (self.num_attention_heads, self.num_key_value_heads);
        if !heads.is_multiple_of(kv_heads) {
            return Err(format!("{heads} attention heads cannot share {kv_heads} key-value heads"));
        }
        if !self.head_dim.is_multiple_of(2) {
            return Err(format!("head_dim is {}; the rotary embedding needs pairs", self.head_dim));
        }
        Ok(())
    }
}
