//! Decoder language models on plain buffers, with explicit forward and backward passes.
//!
//! Shapes are written `[B, T, V]`: `B` batch, `T` tokens, `E` hidden, `H` heads, `G` KV heads, `D` head dim, `V` vocabulary.

mod config;
mod parameters;

pub use config::{Architecture, ModelConfig};
pub use parameters::{LayerRanges, Layout, Model};
