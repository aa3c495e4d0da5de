//! Training tiny models: PPO, supervised fine-tuning, low-rank adaptation.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use real_lm::{Architecture, Model, ModelConfig};

mod lora;
mod ppo;

/// A random model with weights of this standard deviation.
fn random(deviation: f32) -> Model {
    let config = ModelConfig {
        architecture: Architecture::Qwen2,
        vocab_size: 13,
        hidden_size: 16,
        intermediate_size: 24,
        num_hidden_layers: 2,
        num_attention_heads: 4,
        num_key_value_heads: 2,
        head_dim: 4,
        max_position_embeddings: 64,
        rms_norm_eps: 1e-6,
        rope_theta: 10_000.0,
        tie_word_embeddings: true,
    };
    Model::random(config, deviation, &mut ChaCha8Rng::seed_from_u64(3))
}
