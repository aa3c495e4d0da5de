//! What a run will need, before it starts.
//!
//! All large buffers follow from the shape of the model and the settings. For the shapes of Qwen2.5-0.5B (494 million parameters, 1.98 GB
//! each time they are held) the paper's SafeSQL run with a value head, 1024-token micro-batches and 32 sequences decoded at once needs
//!
//! | | GB |
//! |---|---|
//! | policy, its gradients, two moments | 7.9 |
//! | reference | 2.0 |
//! | activations of 2048 tokens, one sequence at its longest | 2.9 |
//! | logits of a chunk of rows | 0.1 |
//! | keys and values of 32 sequences of 2048 tokens | 1.6 |
//!
//! and a critic of its own another 5.9.

use std::fmt;

use crate::ppo::PpoConfig;
use crate::{Keep, Layout, ModelConfig, cuda, head};

/// The large buffers of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// They are held at the same time.
    pub parts: Vec<Part>,
}

/// One kind of buffer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// What it holds.
    pub what: &'static str,
    /// Its size.
    pub bytes: usize,
    /// What to set for less of it.
    pub remedy: &'static str,
}

/// How long sequences get, and how many are decoded at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decoding {
    /// Tokens of the longest prompt.
    pub max_prompt: usize,
    /// Tokens of the longest response.
    pub max_response: usize,
    /// Sequences decoded at once.
    pub batch: usize,
}

impl Decoding {
    /// None at all.
    pub(crate) fn none() -> Self {
        Self { max_prompt: 0, max_response: 0, batch: 0 }
    }

    /// What an engine on a GPU needs that decodes so and takes micro-batches of so many tokens, or one sequence where that is longer.
    pub fn on_gpu(self, purpose: cuda::Purpose, micro_batch_tokens: usize) -> cuda::Plan {
        let longest = self.max_prompt + self.max_response;
        cuda::Plan {
            purpose,
            micro_batch_tokens: micro_batch_tokens.max(longest),
            decode_sequences: self.batch,
            decode_tokens: longest,
        }
    }
}

/// What is trained.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tuning {
    /// Every weight.
    Full,
    /// A low-rank adaptation, whose own size is not counted.
    Lora,
}

impl Plan {
    /// What PPO needs for a model of this shape.
    pub fn ppo(model: &ModelConfig, config: &PpoConfig, tuning: Tuning, decoding: Decoding) -> Self {
        let parameters = FLOAT * Layout::new(model).len;
        let lanes = config.lanes.max(1);
        let longest = decoding.max_prompt + decoding.max_response;
        let tokens = config.micro_batch_tokens.max(longest);
        let own_critic = config.has_own_trunk();
        let needs_reference = config.kl_coef > 0.0 || tuning == Tuning::Lora;
        let keep = Keep::for_training(config.recompute);
        let remedy = if config.recompute { "ppo.micro_batch_tokens" } else { "ppo.recompute = true" };
        let part = |what, bytes, remedy| Part { what, bytes, remedy };
        let parts = [
            part("policy", parameters, "a smaller model"),
            part("moments", if tuning == Tuning::Lora { 0 } else { 2 * parameters }, "a [lora] section"),
            part(
                "gradients",
                lanes * parameters,
                if lanes > 1 { "ppo.lanes = 1" } else { "a smaller model" },
            ),
            part("reference", if needs_reference { parameters } else { 0 }, "ppo.kl_coef = 0"),
            part(
                "critic and its moments",
                if own_critic { 3 * parameters } else { 0 },
                "ppo.critic = \"head\"",
            ),
            part("activations", lanes * activations(model, tokens, keep), remedy),
            part("logits", lanes * head::chunk_bytes(model), "ppo.lanes = 1"),
            part("keys and values", cache(model, decoding.batch * longest), "rollout.concurrency"),
        ];
        Self { parts: parts.into_iter().filter(|part| part.bytes > 0).collect() }
    }

    /// Bytes of all parts.
    pub fn total(&self) -> usize {
        self.parts.iter().map(|part| part.bytes).sum()
    }

    /// The settings that save most, first the one for the largest part.
    pub fn remedies(&self) -> Vec<&'static str> {
        let mut parts: Vec<&Part> =
            self.parts.iter().filter(|part| part.remedy != "a smaller model").collect();
        parts.sort_by_key(|part| std::cmp::Reverse(part.bytes));
        let mut remedies: Vec<&str> = Vec::new();
        for part in parts {
            if !remedies.contains(&part.remedy) {
                remedies.push(part.remedy);
            }
        }
        remedies
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Part { what, bytes, .. } in &self.parts {
            writeln!(f, "{:>8.2} GB  {what}", gigabytes(*bytes))?;
        }
        write!(f, "{:>8.2} GB  together", gigabytes(self.total()))
    }
}

/// Bytes as gigabytes.
pub fn gigabytes(bytes: usize) -> f64 {
    bytes as f64 / 1e9
}

/// Bytes of a number.
const FLOAT: usize = size_of::<f32>();

/// Bytes of a workspace after a backward pass over so many tokens.
pub fn activations(model: &ModelConfig, tokens: usize, keep: Keep) -> usize {
    let (hidden, inner) = (model.hidden_size, model.intermediate_size);
    let (attention, qkv) = (model.attention_size(), model.qkv_size());
    let layer = 2 * hidden + qkv + attention + model.num_attention_heads + 2 + 2 * inner;
    let layers = match keep {
        Keep::Activations => model.num_hidden_layers * layer,
        Keep::Inputs => model.num_hidden_layers * hidden + layer,
        Keep::Nothing => layer,
    };
    let ends = 2 * hidden + 1;
    let forward = hidden + qkv + attention + inner;
    let backward = if keep == Keep::Nothing { 0 } else { 2 * inner + 2 * hidden + attention + qkv };
    FLOAT * tokens * (layers + ends + forward + backward)
}

/// Bytes of the cached keys and values of so many tokens.
fn cache(model: &ModelConfig, tokens: usize) -> usize {
    FLOAT * tokens * model.num_hidden_layers * 2 * model.num_key_value_heads * model.head_dim
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Architecture, CriticKind};

    fn qwen() -> ModelConfig {
        ModelConfig {
            architecture: Architecture::Qwen2,
            vocab_size: 151_936,
            hidden_size: 896,
            intermediate_size: 4864,
            num_hidden_layers: 24,
            num_attention_heads: 14,
            num_key_value_heads: 2,
            head_dim: 64,
            max_position_embeddings: 32_768,
            rms_norm_eps: 1e-6,
            rope_theta: 1e6,
            tie_word_embeddings: true,
        }
    }

    const DECODING: Decoding = Decoding { max_prompt: 1024, max_response: 1024, batch: 32 };

    #[test]
    fn the_example_above() {
        let config = PpoConfig { micro_batch_tokens: 1024, ..PpoConfig::default() };
        let plan = Plan::ppo(&qwen(), &config, Tuning::Full, DECODING);
        let bytes =
            |what: &str| plan.parts.iter().find(|part| part.what == what).map_or(0, |part| part.bytes);
        for (what, expected) in [
            ("policy", 1.98),
            ("moments", 3.95),
            ("gradients", 1.98),
            ("reference", 1.98),
            ("activations", 2.86),
            ("logits", 0.08),
            ("keys and values", 1.61),
        ] {
            assert!((gigabytes(bytes(what)) - expected).abs() < 0.02, "{what}: {}", gigabytes(bytes(what)));
        }
        assert_eq!(bytes("critic and its moments"), 0);
        assert_eq!(plan.remedies()[..2], ["a [lora] section", "ppo.recompute = true"]);
        assert!(plan.to_string().ends_with("together"));
    }

    #[test]
    fn each_remedy_saves_memory() {
        let costly = PpoConfig { critic: CriticKind::Model, lanes: 2, ..PpoConfig::default() };
        let total = |config: PpoConfig, decoding| Plan::ppo(&qwen(), &config, Tuning::Full, decoding).total();
        let most = total(costly.clone(), DECODING);
        for config in [
            PpoConfig { critic: CriticKind::Head, ..costly.clone() },
            PpoConfig { lanes: 1, ..costly.clone() },
            PpoConfig { recompute: true, ..costly.clone() },
            PpoConfig { kl_coef: 0.0, ..costly.clone() },
        ] {
            assert!(total(config, DECODING) < most);
        }
        assert!(total(costly.clone(), Decoding { batch: 8, ..DECODING }) < most);
        assert!(Plan::ppo(&qwen(), &costly, Tuning::Lora, DECODING).total() < most);
    }
}
