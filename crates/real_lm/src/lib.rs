//! Decoder language models on plain buffers, with explicit forward and backward passes.
//!
//! Shapes are written `[B, T, V]`: `B` batch, `T` tokens, `E` hidden, `H` heads, `G` KV heads, `D` head dim, `V` vocabulary.

mod adamw;
mod attention;
mod backward;
mod config;
mod forward;
pub mod head;
mod heads;
mod ops;
mod packed;
mod parameters;
pub mod ppo;
mod schedule;
mod sft;
mod value;

pub use adamw::{AdamW, AdamWConfig, clip_grad_norm, grad_norm};
pub use backward::backward;
pub use config::{Architecture, ModelConfig};
pub use forward::{Keep, Workspace, forward};
pub use packed::Packed;
pub use parameters::{LayerRanges, Layout, Model};
pub use ppo::{PpoConfig, PpoTrainer, Rollout};
pub use schedule::{Decay, learning_rate};
pub use sft::{Example, SftConfig, SftMetrics, SftTrainer};
pub use value::ValueHead;
