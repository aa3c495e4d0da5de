//! Decoder language models on plain buffers, with explicit forward and backward passes.
//!
//! Shapes are written `[B, T, V]`: `B` batch, `T` tokens, `E` hidden, `H` heads, `G` KV heads, `D` head dim, `V` vocabulary.

mod adamw;
mod attention;
mod backend;
mod backward;
mod block_model;
mod chat_template;
mod checkpoint;
mod config;
pub mod cuda;
mod decode;
mod error;
mod forward;
mod generate;
mod gguf;
pub mod head;
mod heads;
mod hugging_face;
mod lanes;
mod learner;
mod lora;
mod mapped_file;
pub mod memory;
mod ops;
mod packed;
mod parameters;
pub mod ppo;
mod sampling;
mod schedule;
mod sft;
mod state;
mod tokenizer;
mod value;

pub use adamw::{AdamW, AdamWConfig, clip_factor, clip_grad_norm, grad_norm};
pub use backward::backward;
pub use block_model::{BlockModel, Weights};
pub use chat_template::{ChatTemplate, EndsWith, Message};
pub use checkpoint::{Checkpoint, WeightType};
pub use config::{Architecture, ModelConfig};
pub use error::Error;
pub use forward::{Keep, Workspace, forward};
pub use generate::{Finish, Generated, generate};
pub use learner::{Device, Writer};
pub use lora::{Lora, LoraConfig};
pub use packed::Packed;
pub use parameters::{LayerRanges, Layout, Model};
pub use ppo::{
    Advantage, Aggregation, Blame, CriticKind, PpoConfig, PpoTrainer, Reward, RewardPart, Rollout,
};
pub use sampling::Sampling;
pub use schedule::{Decay, learning_rate};
pub use sft::{Example, SftConfig, SftMetrics, SftTrainer};
pub use tokenizer::{AddedTokens, DecodeStream, Special, SpecialTokens, Tokenizer};
pub use value::{ValueGradient, ValueHead};
