//! `config.json` and `generation_config.json`.

use std::path::Path;

use serde_json::{Value, json};

use crate::{Architecture, Error, ModelConfig, WeightType};

/// The shape that a `config.json` describes. Fields that would change results in a way this crate does not compute are
/// refused.
pub(crate) fn parse(path: &Path, json: &Value) -> Result<ModelConfig, Error> {
    let architecture = architecture(path, json)?;
    refuse_unsupported(path, json)?;
    let size = |name: &str| json[name].as_u64().map(|size| size as usize);
    let required =
        |name: &str| size(name).ok_or_else(|| Error::malformed(path, format!("{name} is missing")));
    let (hidden_size, heads) = (required("hidden_size")?, required("num_attention_heads")?);
    let theta = json["rope_theta"].as_f64().or_else(|| json["rope_parameters"]["rope_theta"].as_f64());
    let config = ModelConfig {
        architecture,
        vocab_size: required("vocab_size")?,
        hidden_size,
        intermediate_size: required("intermediate_size")?,
        num_hidden_layers: required("num_hidden_layers")?,
        num_attention_heads: heads,
        num_key_value_heads: size("num_key_value_heads").unwrap_or(heads),
        head_dim: size("head_dim").unwrap_or(hidden_size / heads.max(1)),
        max_position_embeddings: required("max_position_embeddings")?,
        rms_norm_eps: json["rms_norm_eps"].as_f64().unwrap_or(1e-6) as f32,
        rope_theta: theta.unwrap_or(10_000.0) as f32,
        tie_word_embeddings: json["tie_word_embeddings"].as_bool().unwrap_or(false),
    };
    config.check().map_err(|what| Error::malformed(path, what))?;
    Ok(config)
}

/// A `config.json` for [`parse`] and for the `transformers` library.
pub(crate) fn to_json(config: &ModelConfig, weights: WeightType, eos_token_ids: &[u32]) -> Value {
    let (class, model_type) = match config.architecture {
        Architecture::Qwen2 => ("Qwen2ForCausalLM", "qwen2"),
        Architecture::Llama => ("LlamaForCausalLM", "llama"),
    };
    json!({
        "architectures": [class],
        "model_type": model_type,
        "hidden_act": "silu",
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "intermediate_size": config.intermediate_size,
        "num_hidden_layers": config.num_hidden_layers,
        "num_attention_heads": config.num_attention_heads,
        "num_key_value_heads": config.num_key_value_heads,
        "head_dim": config.head_dim,
        "max_position_embeddings": config.max_position_embeddings,
        "rms_norm_eps": shortest(config.rms_norm_eps),
        "rope_theta": shortest(config.rope_theta),
        "tie_word_embeddings": config.tie_word_embeddings,
        "torch_dtype": weights.torch_name(),
        "eos_token_id": eos_token_ids.first(),
    })
}

/// `eos_token_id`, a number or a list, of a `config.json` or `generation_config.json`.
pub(crate) fn eos_token_ids(json: &Value) -> Vec<u32> {
    let id = |id: &Value| id.as_u64().map(|id| id as u32);
    match &json["eos_token_id"] {
        Value::Array(ids) => ids.iter().filter_map(id).collect(),
        one => id(one).into_iter().collect(),
    }
}

fn architecture(path: &Path, json: &Value) -> Result<Architecture, Error> {
    let name = json["architectures"][0].as_str().or_else(|| json["model_type"].as_str());
    match name {
        Some("Qwen2ForCausalLM" | "qwen2") => Ok(Architecture::Qwen2),
        Some("LlamaForCausalLM" | "llama") => Ok(Architecture::Llama),
        Some(name) => {
            let what = format!("architecture {name:?}; LlamaForCausalLM and Qwen2ForCausalLM are");
            Err(Error::unsupported(path, what))
        }
        None => Err(Error::malformed(path, "architectures and model_type are missing")),
    }
}

#[expect(clippy::float_cmp, reason = "only a factor of exactly 1 has no effect")]
fn refuse_unsupported(path: &Path, json: &Value) -> Result<(), Error> {
    let is_true = |name: &str| json[name].as_bool() == Some(true);
    let scales_rope = |rope: &Value| {
        let kind = rope["rope_type"].as_str().or_else(|| rope["type"].as_str()).unwrap_or("default");
        kind != "default" && rope["factor"].as_f64() != Some(1.0)
    };
    let windowed = |layer: &Value| layer.as_str() != Some("full_attention");
    let window = json["sliding_window"].as_u64().unwrap_or(u64::MAX);
    let reasons = [
        (json["hidden_act"].as_str().is_some_and(|name| name != "silu"), "hidden_act other than silu"),
        (is_true("attention_bias"), "attention_bias"),
        (is_true("mlp_bias"), "mlp_bias"),
        (
            scales_rope(&json["rope_scaling"]) || scales_rope(&json["rope_parameters"]),
            "scaled rotary embedding",
        ),
        (json["partial_rotary_factor"].as_f64().is_some_and(|part| part != 1.0), "partial_rotary_factor"),
        (
            is_true("use_sliding_window") && window < json["max_position_embeddings"].as_u64().unwrap_or(0),
            "attention in a sliding window",
        ),
        (
            json["layer_types"].as_array().is_some_and(|layers| layers.iter().any(windowed)),
            "layer_types other than full_attention",
        ),
        (json["quantization_config"].is_object(), "quantization_config"),
    ];
    match reasons.into_iter().find(|&(applies, _)| applies) {
        Some((_, reason)) => Err(Error::unsupported(path, reason)),
        None => Ok(()),
    }
}

/// The f64 that prints as shortly as the f32: 1e-6, not 9.999999974752427e-7.
fn shortest(value: f32) -> f64 {
    value.to_string().parse().expect("a printed number parses")
}
