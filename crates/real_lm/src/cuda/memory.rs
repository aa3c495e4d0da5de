//! The memory of a run, before it starts: a run that will not fit should not find out after an hour.

use super::error::Error;
use super::{Purpose, head, ops};
use crate::ModelConfig;
use crate::heads::HeadShape;

/// What an engine is going to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// Training, or only scoring and generating.
    pub purpose: Purpose,
    /// Tokens of the largest batch that goes through the model at once.
    pub micro_batch_tokens: usize,
    /// Sequences decoded at once; 0 for none.
    pub decode_sequences: usize,
    /// Tokens of the longest of them, prompt and completion.
    pub decode_tokens: usize,
}

/// Bytes on the device, by what fills them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// Weights, and for training gradients and moments.
    pub parameters: usize,
    /// Activations of the largest batch, and what the backward pass needs beside.
    pub activations: usize,
    /// The logits of a chunk of the head.
    pub head: usize,
    /// Keys and values of decoding, and the activations of a step.
    pub decoding: usize,
}

/// What the driver, the kernels and cuBLAS take for themselves, about.
const LIBRARIES: usize = 600 << 20;

impl Memory {
    /// All together.
    pub fn total(&self) -> usize {
        self.parameters + self.activations + self.head + self.decoding
    }
}

impl Plan {
    /// The memory that the plan needs for a model of this shape.
    pub fn memory(&self, config: &ModelConfig) -> Memory {
        let parameters = crate::Layout::new(config).len;
        Memory {
            parameters: parameters * if self.purpose == Purpose::Training { 18 } else { 2 },
            activations: self.micro_batch_tokens * bytes_a_token(config, self.purpose)
                + rope_bytes(config, self.micro_batch_tokens.min(config.max_position_embeddings)),
            head: self.head(config),
            decoding: self.decoding(config),
        }
    }

    /// Refuses a plan that needs more than is free, saying which setting would fit.
    pub(crate) fn check(&self, config: &ModelConfig, free: usize) -> Result<(), Error> {
        let memory = self.memory(config);
        let free = free.saturating_sub(LIBRARIES);
        if memory.total() <= free {
            return Ok(());
        }
        let gigabytes = |bytes: usize| bytes as f64 / 1e9;
        let Memory { parameters, activations, head, decoding } = memory;
        let advice = self.advice(config, &memory, free);
        Err(Error::OutOfMemory(format!(
            "{:.1} GB are needed and {:.1} are free: parameters {:.1}, activations {:.1}, head {:.1}, decoding {:.1}. {advice}",
            gigabytes(memory.total()),
            gigabytes(free),
            gigabytes(parameters),
            gigabytes(activations),
            gigabytes(head),
            gigabytes(decoding)
        )))
    }

    /// The larger of the two things that a setting can make smaller, made small enough.
    fn advice(&self, config: &ModelConfig, memory: &Memory, free: usize) -> String {
        let room = |part: usize| (free + part).saturating_sub(memory.total());
        if memory.activations >= memory.decoding {
            let tokens = room(memory.activations) / bytes_a_token(config, self.purpose) / 1024 * 1024;
            if tokens > 0 {
                return format!(
                    "Lower the tokens of a micro-batch from {} to {tokens}",
                    self.micro_batch_tokens
                );
            }
        } else {
            let sequences = room(memory.decoding) / (memory.decoding / self.decode_sequences).max(1) / 8 * 8;
            if sequences > 0 {
                return format!("Decode {sequences} sequences at once in place of {}", self.decode_sequences);
            }
        }
        "A smaller model, or a GPU with more memory, is needed".to_owned()
    }

    fn head(&self, config: &ModelConfig) -> usize {
        let rows = head::rows_at_once(config.vocab_size).min(self.micro_batch_tokens);
        rows * (head::stride(config.vocab_size) * 4 + config.hidden_size * 6 + 7 * 4)
    }

    fn decoding(&self, config: &ModelConfig) -> usize {
        if self.decode_sequences == 0 {
            return 0;
        }
        let shape = HeadShape::of(config);
        let [slots, capacity] = super::generate::rounded(self.decode_sequences, self.decode_tokens);
        let cache = config.num_hidden_layers * 2 * slots * shape.kv_heads * capacity * shape.dim * 2;
        let (hidden, inner) = (config.hidden_size, config.intermediate_size);
        let step = hidden * 8
            + config.qkv_size() * 2
            + config.attention_size() * 2
            + inner * 6
            + head::stride(config.vocab_size) * 4
            + 32
            + 8 * super::decode::LOOK;
        cache + slots * step + 4 * ops::share_elements(slots, capacity, shape)
    }
}

/// Bytes that each token of a batch takes.
fn bytes_a_token(config: &ModelConfig, purpose: Purpose) -> usize {
    let (hidden, inner, heads) = (config.hidden_size, config.intermediate_size, config.num_attention_heads);
    let (qkv, attention) = (config.qkv_size(), config.attention_size());
    let layer = 8 * hidden + 2 * qkv + 2 * attention + 4 * heads + 4 * inner + 8;
    let shared = 4 * hidden + 4 + 3 * 2 * hidden + 2 * inner + 8;
    match purpose {
        Purpose::Scoring => layer + shared,
        Purpose::Training => {
            let backward = 6 * hidden + 2 * attention + 4 * heads + 2 * qkv + hidden.max(qkv) / 16 + 12;
            config.num_hidden_layers * layer + shared + backward
        }
    }
}

fn rope_bytes(config: &ModelConfig, positions: usize) -> usize {
    positions.next_multiple_of(1024) * config.head_dim * 4
}
