//! Reads the files that `reference/golden.py` writes.

use std::collections::HashMap;
use std::path::Path;

use real_lm::{Architecture, Layout, Model, ModelConfig, Packed};
use serde_json::Value;

pub(crate) const NAMES: [&str; 4] = ["llama", "llama_untied", "qwen2", "qwen2_tied"];

pub(crate) struct Golden {
    pub(crate) config: ModelConfig,
    bytes: Vec<u8>,
    /// Where each tensor's bytes lie.
    tensors: HashMap<String, (usize, usize)>,
}

impl Golden {
    pub(crate) fn read(name: &str) -> Self {
        let path =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(format!("{name}.safetensors"));
        let bytes = std::fs::read(&path).unwrap();
        let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        let header: HashMap<String, Value> = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
        let config = serde_json::from_str(header["__metadata__"]["config"].as_str().unwrap()).unwrap();
        let tensors = header
            .into_iter()
            .filter(|(name, _)| name != "__metadata__")
            .map(|(name, tensor)| {
                let offset = |i: usize| 8 + length + tensor["data_offsets"][i].as_u64().unwrap() as usize;
                (name, (offset(0), offset(1)))
            })
            .collect();
        Self { config: model_config(&config), bytes, tensors }
    }

    pub(crate) fn floats(&self, name: &str) -> Vec<f32> {
        self.words(name).map(f32::from_le_bytes).collect()
    }

    pub(crate) fn integers(&self, name: &str) -> Vec<u32> {
        self.words(name).map(u32::from_le_bytes).collect()
    }

    fn words(&self, name: &str) -> impl Iterator<Item = [u8; 4]> {
        let (start, end) = *self.tensors.get(name).unwrap_or_else(|| panic!("no tensor {name}"));
        self.bytes[start..end].as_chunks::<4>().0.iter().copied()
    }

    pub(crate) fn batch(&self) -> Packed {
        let offsets = self.integers("offsets").iter().map(|&offset| offset as usize).collect();
        Packed { ids: self.integers("ids"), offsets }
    }

    pub(crate) fn model(&self) -> Model {
        let layout = Layout::new(&self.config);
        let params = self.flat("param", &layout);
        Model { config: self.config.clone(), layout, params }
    }

    /// All tensors with this prefix in the layout of the parameters.
    pub(crate) fn flat(&self, prefix: &str, layout: &Layout) -> Vec<f32> {
        let mut flat = vec![f32::NAN; layout.len];
        for (name, _, range) in layout.tensors(&self.config) {
            flat[range].copy_from_slice(&self.floats(&format!("{prefix}.{name}")));
        }
        assert!(flat.iter().all(|x| x.is_finite()), "the named tensors fill the layout");
        flat
    }
}

fn model_config(config: &Value) -> ModelConfig {
    let size = |name: &str| config[name].as_u64().unwrap() as usize;
    let real = |name: &str| config[name].as_f64().unwrap() as f32;
    ModelConfig {
        architecture: match config["model_type"].as_str().unwrap() {
            "llama" => Architecture::Llama,
            "qwen2" => Architecture::Qwen2,
            other => panic!("unknown model type {other}"),
        },
        vocab_size: size("vocab_size"),
        hidden_size: size("hidden_size"),
        intermediate_size: size("intermediate_size"),
        num_hidden_layers: size("num_hidden_layers"),
        num_attention_heads: size("num_attention_heads"),
        num_key_value_heads: size("num_key_value_heads"),
        head_dim: size("head_dim"),
        max_position_embeddings: size("max_position_embeddings"),
        rms_norm_eps: real("rms_norm_eps"),
        rope_theta: real("rope_theta"),
        tie_word_embeddings: config["tie_word_embeddings"].as_bool().unwrap(),
    }
}
